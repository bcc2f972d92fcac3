/* SPDX-License-Identifier: MIT */
/*
 * Our disks: a controller in a process of its own, whose pool thread polls or sleeps, and a client
 * over shared memory; and the bare channel beside them, an echo of 64 bytes.
 */
#include "block.h"

#include "chan_pair.h"

#include <vmbus/block.h>
#include <vmbus/pool.h>
#include <vmbus/storvsc.h>
#include <vmbus/vmbus.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SPIN_NS 1000000000u /* the longest that a pool allows */
#define RING_BYTES 131072u
#define ECHO_BYTES 64u
#define BUDGET 256u
#define SLEEP_NS 100000000u

enum kind {
	MEMORY,
	SLEEP,
	NOTHING, /* the null store */
	ECHO
};

#define ECHO_CLASS                                                                                 \
	VMBUS_GUID(0xbe9c0000, 0x0003, 0x4abc, 0x8d, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab)
static const struct vmbus_guid echo_class = ECHO_CLASS;
static const struct vmbus_guid block_class = VMBUS_BLOCK_CLASS;

/* ---- the far process ---- */

struct far_side {
	struct vmbus_pool *pool;
	struct vmbus_block *block;
	bool left;
};

static void echo_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	/* The child has fewer requests under way than the ring holds. */
	(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
}

static void echo_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, echo_one);
}

static const struct vmbus_vsp echo_vsp = {
	.struct_bytes = sizeof(echo_vsp),
	.name = "bench echo",
	.class_id = ECHO_CLASS,
	.packets = echo_packets,
};

static int far_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct far_side *const far = ctx;
	struct vmbus_chan *chan;
	int err;

	(void)child;
	err = vmbus_bus_offer(bus, far->block ? vmbus_block_vsp() : &echo_vsp, far->block, &opts,
			      &chan);
	return err ? err : vmbus_pool_add(far->pool, chan);
}

static void far_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	(void)child;
	(void)why;
	((struct far_side *)ctx)->left = true;
}

static void far_removed(void *ctx, struct vmbus_chan *chan)
{
	(void)vmbus_pool_remove(((struct far_side *)ctx)->pool, chan);
}

static int far_disk(struct far_side *far, enum kind kind, uint64_t bytes)
{
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk) };
	int err;

	if (kind == ECHO)
		return 0;
	if (kind == NOTHING)
		err = vmbus_store_null(bytes, false, &disk.store);
	else
		err = vmbus_store_memory(bytes, -1, &disk.store);
	if (!err)
		err = vmbus_block_create(NULL, &far->block);
	return err ? err : vmbus_block_add(far->block, &disk);
}

static int far_main(const char *path, enum kind kind, uint64_t bytes)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts), .path = path };
	struct vmbus_pool_opts threads = { .struct_bytes = sizeof(threads), .threads = 1 };
	struct vmbus_shm_server *server;
	struct far_side far = { 0 };

	threads.spin_ns = kind == SLEEP ? 0 : SPIN_NS;
	opts.attached = far_attached;
	opts.detached = far_detached;
	opts.removed = far_removed;
	opts.ctx = &far;
	if (vmbus_pool_create(&threads, &far.pool) || far_disk(&far, kind, bytes) ||
	    vmbus_shm_listen(&opts, &server))
		return 1;
	while (!far.left)
		(void)vmbus_shm_server_run(server, SLEEP_NS);
	vmbus_shm_server_destroy(server);
	return 0;
}

/* ---- this process ---- */

struct our_slot {
	struct vmbus_storvsc_req req;
	struct vmbus_storvsc_piece piece;
	struct block_disk *disk;
	uint32_t slot;
};

struct our_disk {
	struct pair_client pc;
	bool attached;
	bool sleeps;
	bool held;
	struct vmbus_vsc *vsc;
	struct vmbus_storvsc storvsc;
	struct vmbus_storvsc_disk disk;
	uint32_t begun;
	struct vmbus_storvsc_req *req[BLOCK_DEPTH_MAX]; /* that were begun */
	struct our_slot slot[BLOCK_DEPTH_MAX];
	bool told; /* by the callback that was waited for */
	int err;
	char path[64];
};

static void our_close(struct block_disk *disk)
{
	struct our_disk *const od = disk->priv;

	if (od->attached)
		vmbus_shm_detach(od->pc.attach);
	block_reap(disk);
	(void)unlink(od->path);
	free(od);
}

static void controller_ready(void *ctx, int err)
{
	struct our_disk *const od = ctx;

	od->told = true;
	od->err = err;
}

static void disk_found(struct vmbus_storvsc_disk *disk, int err, void *ctx)
{
	(void)disk;
	controller_ready(ctx, err);
}

/* Dispatch until a callback came; its error. */
static int wait_told(struct our_disk *od)
{
	const uint64_t until = now_ns() + BLOCK_WAIT_NS;

	while (!od->told && now_ns() < until) {
		struct vmbus_vsc *const vsc = vmbus_storvsc_channel(&od->storvsc, 0);

		(void)vmbus_guest_dispatch(od->pc.guest, BUDGET);
		if (vsc)
			(void)vmbus_vsc_dispatch(vsc, BUDGET);
	}
	if (!od->told)
		return VMBUS_E_AGAIN;
	od->told = false;
	return od->err;
}

static int open_disk(struct our_disk *od)
{
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts), .ctx = od };
	struct vmbus_vsc *const vsc = vmbus_vsc_find(od->pc.guest, &block_class, 0);
	void *page = vmbus_guest_pages(od->pc.guest, 1);
	int err;

	if (!vsc || !page)
		return VMBUS_E_NOMEM;
	opts.ready = controller_ready;
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.poll = !od->sleeps;
	opts.open.send_bytes = opts.open.recv_bytes = RING_BYTES;
	err = vmbus_storvsc_start(&od->storvsc, vsc, &opts);
	if (!err)
		err = wait_told(od);
	if (!err)
		err = vmbus_storvsc_probe(&od->disk, &od->storvsc, 0, 0, page, disk_found, od);
	if (!err)
		err = wait_told(od);
	od->vsc = vmbus_storvsc_channel(&od->storvsc, 0);
	return err;
}

static void our_done(struct vmbus_storvsc_req *req)
{
	const struct our_slot *const s = req->ctx;

	block_ended(s->disk, s->slot, !req->err);
}

static void echo_done(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	const struct our_slot *const s = cookie;

	(void)vsc;
	block_ended(s->disk, s->slot, pkt && pkt->len == ECHO_BYTES);
}

static int open_echo(struct our_disk *od)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts), .completed = echo_done };

	opts.poll = true;
	opts.send_bytes = opts.recv_bytes = RING_BYTES;
	od->vsc = vmbus_vsc_find(od->pc.guest, &echo_class, 0);
	if (!od->vsc || vmbus_vsc_open(od->vsc, &opts))
		return VMBUS_E_NOMEM;
	return vmbus_vsc_wait(od->vsc, VMBUS_VSC_OPEN, PAIR_WAIT_NS);
}

static int attach(struct block_disk *disk, struct our_disk *od, enum kind kind)
{
	int err = pair_attach(&od->pc, od->path, BLOCK_BUF_BYTES + 4u * RING_BYTES);

	if (err)
		return block_fail(disk, "cannot attach: %s", vmbus_err_name(err));
	od->attached = true;
	disk->buf = vmbus_guest_pages(od->pc.guest, BLOCK_BUF_BYTES / BLOCK_BYTES);
	if (!disk->buf)
		return block_fail(disk, "no memory for buffers");
	for (uint32_t i = 0; i < BLOCK_DEPTH_MAX; i++) {
		struct our_slot *const s = &od->slot[i];

		s->disk = disk;
		s->slot = i;
		s->piece.data = block_slot(disk, i);
		s->req.piece = &s->piece;
		s->req.pieces = 1;
		s->req.done = our_done;
		s->req.ctx = s;
	}
	err = kind == ECHO ? open_echo(od) : open_disk(od);
	return err < 0 ? block_fail(disk, "cannot open: %s", vmbus_err_name(err)) : 0;
}

static int our_open(struct block_disk *disk, enum kind kind)
{
	struct our_disk *const od = must_alloc(sizeof(*od));

	memset(od, 0, sizeof(*od));
	od->sleeps = kind == SLEEP;
	pair_path(od->path, sizeof(od->path));
	disk->priv = od;
	disk->server = block_fork(disk->place);
	if (disk->server == 0)
		_exit(far_main(od->path, kind, disk->bytes));
	if (disk->server > 0 && attach(disk, od, kind) == 0)
		return 0;
	our_close(disk);
	return -1;
}

static int open_memory(struct block_disk *disk)
{
	return our_open(disk, MEMORY);
}

static int open_sleep(struct block_disk *disk)
{
	return our_open(disk, SLEEP);
}

static int open_null(struct block_disk *disk)
{
	return our_open(disk, NOTHING);
}

static int open_bare(struct block_disk *disk)
{
	return our_open(disk, ECHO);
}

static int our_submit(struct block_disk *disk, uint32_t slot, const struct block_req *req)
{
	struct our_disk *const od = disk->priv;
	struct our_slot *const s = &od->slot[slot];
	const uint64_t sector = req->offset / od->disk.sector;
	const uint32_t sectors = req->bytes / od->disk.sector;
	int err;

	s->piece.bytes = req->bytes;
	if (req->write)
		err = vmbus_storvsc_write(&od->disk, &s->req, sector, sectors, false);
	else
		err = vmbus_storvsc_read(&od->disk, &s->req, sector, sectors);
	if (err)
		return -1;
	od->req[od->begun++] = &s->req;
	return 0;
}

static int our_publish(struct our_disk *od)
{
	const uint32_t begun = od->begun;

	od->begun = 0;
	return begun && vmbus_storvsc_submit_many(&od->storvsc, 0, od->req, begun) != (int)begun;
}

static int our_turn(struct block_disk *disk)
{
	struct our_disk *const od = disk->priv;

	return our_publish(od) || vmbus_vsc_dispatch(od->vsc, BUDGET) < 0 ? -1 : 0;
}

static int our_turn_sleep(struct block_disk *disk)
{
	struct our_disk *const od = disk->priv;
	int n;

	if (our_publish(od))
		return -1;
	n = vmbus_shm_attach_wait(od->pc.attach, SLEEP_NS);
	return n < 0 && n != VMBUS_E_AGAIN ? -1 : 0;
}

static int echo_submit(struct block_disk *disk, uint32_t slot, const struct block_req *req)
{
	static const uint8_t payload[ECHO_BYTES];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
				       .data = payload,
				       .len = sizeof(payload) };
	struct our_disk *const od = disk->priv;

	(void)req;
	od->held = od->held || vmbus_vsc_hold(od->vsc) == 1;
	return vmbus_vsc_request(od->vsc, &msg, &od->slot[slot]) < 0 ? -1 : 0;
}

static int echo_turn(struct block_disk *disk)
{
	struct our_disk *const od = disk->priv;

	if (od->held && vmbus_vsc_flush(od->vsc) < 0)
		return -1;
	od->held = false;
	return vmbus_vsc_dispatch(od->vsc, BUDGET) < 0 ? -1 : 0;
}

const struct block_subject block_vmbus = {
	.name = "vmbus.block",
	.what = "a disk in memory behind a channel, both sides polling",
	.keeps = true,
	.spins = true,
	.version = vmbus_version_string,
	.open = open_memory,
	.submit = our_submit,
	.turn = our_turn,
	.close = our_close,
};

const struct block_subject block_vmbus_sleep = {
	.name = "vmbus.block-sleep",
	.what = "the same, both sides sleeping when there is nothing to do",
	.keeps = true,
	.sleeps = true,
	.version = vmbus_version_string,
	.open = open_sleep,
	.submit = our_submit,
	.turn = our_turn_sleep,
	.close = our_close,
};

const struct block_subject block_vmbus_null = {
	.name = "vmbus.block-null",
	.what = "a disk that keeps nothing behind a channel, both sides polling",
	.spins = true,
	.version = vmbus_version_string,
	.open = open_null,
	.submit = our_submit,
	.turn = our_turn,
	.close = our_close,
};

const struct block_subject block_channel = {
	.name = "vmbus.channel-echo",
	.what = "a channel alone: requests of 64 bytes and answers of 64 bytes, both sides polling",
	.spins = true,
	.version = vmbus_version_string,
	.open = open_bare,
	.submit = echo_submit,
	.turn = echo_turn,
	.close = our_close,
};
