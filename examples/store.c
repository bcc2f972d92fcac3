/* SPDX-License-Identifier: MIT */
/*
 * A block store of one's own: a disk whose memory grows with what is written, in chunks, and shrinks
 * with what is discarded.  The parent offers it as a SCSI disk; the child writes, reads and discards.
 *
 * Shows: the functions of a store, how requests end, what a lock is for; a controller with one disk;
 * a client that finds the disk.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <vmbus/block.h>
#include <vmbus/storvsc.h>

#include "example.h"

#define CHUNK 65536u
#define CHUNKS 16384u /* a disk of 1 GiB */

/* ---- the store ---- */

struct growing {
	/* Channels are on threads of their own, and a chunk may go while another one reads it. */
	pthread_mutex_t lock;
	uint8_t *chunk[CHUNKS]; /* NULL: zeroes */
	unsigned int used;
};

static int growing_info(void *ctx, struct vmbus_store_info *info)
{
	(void)ctx;
	memset(info, 0, sizeof(*info));
	info->bytes = (uint64_t)CHUNK * CHUNKS;
	info->discard_bytes = CHUNK; /* less than that is zeroed, and gives nothing back */
	info->flags = VMBUS_STORE_ZEROES;
	return 0;
}

/* A chunk to write to, or NULL: there is no memory. */
static uint8_t *chunk_at(struct growing *g, uint64_t offset)
{
	uint8_t **const chunk = &g->chunk[offset / CHUNK];

	if (!*chunk) {
		*chunk = calloc(1, CHUNK);
		g->used += *chunk != NULL;
	}
	return *chunk;
}

static size_t up_to_the_border(uint64_t offset, size_t bytes)
{
	const size_t left = CHUNK - (size_t)(offset % CHUNK);

	return bytes < left ? bytes : left;
}

/* Offset and bytes were checked by the disk above: they lie within the store. */
static enum vmbus_io_end move_piece(struct growing *g, uint64_t offset, const struct iovec *iov,
				    bool write)
{
	uint8_t *memory = iov->iov_base;
	size_t left, n;

	for (left = iov->iov_len; left; left -= n, memory += n, offset += n) {
		uint8_t *chunk = write ? chunk_at(g, offset) : g->chunk[offset / CHUNK];

		n = up_to_the_border(offset, left);
		if (write && !chunk)
			return VMBUS_IO_SPACE;
		if (write)
			memcpy(chunk + offset % CHUNK, memory, n);
		else if (chunk)
			memcpy(memory, chunk + offset % CHUNK, n);
		else
			memset(memory, 0, n);
	}
	return VMBUS_IO_OK;
}

static void growing_move(struct vmbus_io *io, bool write)
{
	struct growing *const g = io->queue->ctx;
	enum vmbus_io_end end = VMBUS_IO_OK;
	uint64_t at = io->offset;
	uint32_t i;

	pthread_mutex_lock(&g->lock);
	for (i = 0; i < io->iov_count && end == VMBUS_IO_OK; at += io->iov[i++].iov_len)
		end = move_piece(g, at, &io->iov[i], write);
	pthread_mutex_unlock(&g->lock);
	vmbus_io_done(io, end); /* without the lock: the next request may come from within */
}

static void growing_read(struct vmbus_io *io)
{
	growing_move(io, false);
}

static void growing_write(struct vmbus_io *io)
{
	growing_move(io, true);
}

/* Serves as zero() too. */
static void growing_discard(struct vmbus_io *io)
{
	struct growing *const g = io->queue->ctx;
	uint64_t at = io->offset, left, n;

	pthread_mutex_lock(&g->lock);
	for (left = io->bytes; left; left -= n, at += n) {
		uint8_t **const chunk = &g->chunk[at / CHUNK];

		n = up_to_the_border(at, left);
		if (*chunk && n == CHUNK) {
			free(*chunk);
			*chunk = NULL;
			g->used--;
		} else if (*chunk) {
			memset(*chunk + at % CHUNK, 0, n);
		}
	}
	pthread_mutex_unlock(&g->lock);
	vmbus_io_done(io, VMBUS_IO_OK);
}

static const struct vmbus_store_ops growing_ops = {
	.struct_bytes = sizeof(growing_ops),
	.name = "growing",
	.info = growing_info,
	.read = growing_read,
	.write = growing_write,
	.discard = growing_discard,
	.zero = growing_discard,
};

/* ---- the client ---- */

struct client {
	struct vmbus_storvsc controller;
	struct vmbus_storvsc_disk disk;
	uint8_t *page;
	bool ended;
	int err;
};

static void ended(void *ctx, int err)
{
	struct client *const me = ctx;

	me->ended = true;
	me->err = err;
}

static void found(struct vmbus_storvsc_disk *disk, int err, void *ctx)
{
	(void)disk;
	ended(ctx, err);
}

static void done(struct vmbus_storvsc_req *req)
{
	ended(req->ctx, req->err);
}

static void wait_for(struct client *me, struct vmbus_shm_attach *attach, const char *what)
{
	while (!me->ended)
		must(vmbus_shm_attach_wait(attach, 5 * SECONDS), what);
	must(me->err, what);
	me->ended = false;
}

enum step {
	WRITE,
	READ,
	DISCARD
};

static void carry_out(struct client *me, struct vmbus_shm_attach *attach, enum step step)
{
	struct vmbus_storvsc_piece piece = { .data = me->page, .bytes = 4096 };
	struct vmbus_storvsc_req req = { .pieces = 1, .piece = &piece, .done = done, .ctx = me };

	piece.bytes = step == DISCARD ? 24 : 4096;
	if (step == WRITE)
		must(vmbus_storvsc_write(&me->disk, &req, 1000, 8, false), "write");
	else if (step == READ)
		must(vmbus_storvsc_read(&me->disk, &req, 1000, 8), "read");
	else /* all of the first 2 MiB */
		must(vmbus_storvsc_discard(&me->disk, &req, 0, 4096), "discard");
	must(vmbus_storvsc_submit(&me->controller, 0, &req), "submit");
	wait_for(me, attach, "wait for the request");
}

static int child(const char *path)
{
	static const struct vmbus_guid class_id = VMBUS_BLOCK_CLASS;
	static struct client me;
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts), .ready = ended };
	struct vmbus_shm_attach_opts at = { .struct_bytes = sizeof(at), .path = path };
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	int written, discarded;

	at.name = "store client";
	must(vmbus_shm_attach(&at, &attach), "attach");
	guest = vmbus_shm_guest(attach);
	must(vmbus_guest_connect(guest), "connect");
	must(vmbus_guest_wait(guest, VMBUS_GUEST_CONNECTED, 5 * SECONDS), "wait for offers");
	me.page = must_be(vmbus_guest_pages(guest, 1), "a page");
	opts.ctx = &me;
	must(vmbus_storvsc_start(&me.controller,
				 must_be(vmbus_vsc_find(guest, &class_id, 0), "find the device"),
				 &opts),
	     "start");
	wait_for(&me, attach, "wait for the controller");
	must(vmbus_storvsc_probe(&me.disk, &me.controller, 0, 0, me.page, found, &me), "probe");
	wait_for(&me, attach, "wait for the disk");

	memset(me.page, 0x42, 4096);
	carry_out(&me, attach, WRITE);
	memset(me.page, 0xff, 4096);
	carry_out(&me, attach, READ);
	written = me.page[4095];
	carry_out(&me, attach, DISCARD);
	memset(me.page, 0xff, 4096);
	carry_out(&me, attach, READ);
	discarded = me.page[4095];
	printf("child:  a disk of %llu MiB; read %02x after writing 42, %02x after discarding\n",
	       (unsigned long long)(me.disk.sectors * me.disk.sector >> 20), (unsigned)written,
	       (unsigned)discarded);
	vmbus_shm_detach(attach);
	return written == 0x42 && discarded == 0 ? 0 : 1;
}

int main(void)
{
	static struct growing growing = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk) };
	struct vmbus_block *block;
	int failed;

	disk.store = (struct vmbus_store){ &growing_ops, &growing };
	must(vmbus_block_create(NULL, &block), "create a controller");
	must(vmbus_block_add(block, &disk), "add a disk");
	failed = example_run_with(vmbus_block_vsp(), block, 1, child);
	vmbus_block_destroy(block);
	printf("parent: %u chunks are left\n", growing.used);
	return failed || growing.used;
}
