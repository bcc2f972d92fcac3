/* SPDX-License-Identifier: MIT */
/*
 * A RAM disk with a little protocol of its own.  The child shares a buffer with the parent once, as
 * a GPADL; requests then name an offset in it, and the data never passes through a ring.
 *
 * Shows: a request format, what a provider must check in it, page lists and their pins, statuses.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/shm_bus.h>

#include "example.h"

#define SECTOR 512u
#define SECTORS 2048u
#define BUFFER_PAGES 4u

#define DISK_CLASS                                                                                 \
	VMBUS_GUID(0x0d15c0de, 0x1234, 0x4abc, 0x8d, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab)
static const struct vmbus_guid disk_class = DISK_CLASS;

/* A request.  Its completion carries a 64-bit status: 0, or 1 for an error. */
struct disk_request {
	uint32_t write; /* 0: read */
	uint32_t gpadl; /* of the child's buffer */
	uint64_t sector;
	uint32_t count;	 /* of sectors */
	uint32_t offset; /* in the buffer */
};

/* ---- the provider ---- */

static uint8_t store[SECTORS * (size_t)SECTOR];

/* Everything in the request is the child's word.  Checks never add what it can choose. */
static uint64_t carry_out(struct vmbus_chan *chan, const struct disk_request *r)
{
	struct vmbus_piece pieces[BUFFER_PAGES];
	struct vmbus_sgl buffer = { .pieces = pieces, .room = BUFFER_PAGES };
	uint64_t bytes, moved;

	if (r->sector >= SECTORS || r->count > SECTORS - r->sector)
		return 1;
	bytes = (uint64_t)r->count * SECTOR;
	if (vmbus_chan_gpadl(chan, r->gpadl, r->write ? VMBUS_READ : VMBUS_WRITE, &buffer))
		return 1;
	if (r->write)
		moved = vmbus_sgl_read(&buffer, r->offset, &store[r->sector * SECTOR], bytes);
	else
		moved = vmbus_sgl_write(&buffer, r->offset, &store[r->sector * SECTOR], bytes);
	vmbus_sgl_release(&buffer);
	return moved == bytes ? 0 : 1;
}

static void disk_packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct disk_request r;
	uint64_t status;

	if (pkt->len != sizeof(r)) {
		vmbus_chan_fail(chan, "a request of another size than 24 bytes");
		return;
	}
	memcpy(&r, pkt->payload, sizeof(r));
	status = carry_out(chan, &r);
	must(vmbus_chan_complete(chan, pkt->id, &status, sizeof(status)), "complete");
}

static void disk_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, disk_packet);
}

static const struct vmbus_vsp disk_vsp = {
	.struct_bytes = sizeof(disk_vsp),
	.name = "ram disk",
	.class_id = DISK_CLASS,
	.max_payload = sizeof(struct disk_request),
	.packets = disk_packets,
};

/* ---- the client ---- */

static uint32_t buffer_id;
static uint64_t answer = UINT64_MAX;

static void shared(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	(void)vsc;
	buffer_id = err ? 0 : gpadl;
}

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	(void)vsc;
	(void)cookie;
	if (pkt && pkt->len == sizeof(answer))
		memcpy(&answer, pkt->payload, sizeof(answer));
}

static uint64_t transfer(struct example_child *me, uint32_t write, uint64_t sector, uint32_t count)
{
	struct disk_request r = { write, buffer_id, sector, count, 0 };
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = &r, .len = sizeof(r) };

	answer = UINT64_MAX;
	must(vmbus_vsc_request(me->vsc, &msg, NULL), "request");
	while (answer == UINT64_MAX)
		must(vmbus_shm_attach_wait(me->attach, 5 * SECONDS), "wait for the completion");
	return answer;
}

static int child(const char *path)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts), .completed = completed };
	struct example_child me = example_open(path, "ram disk client", &disk_class, &opts);
	const uint32_t bytes = BUFFER_PAGES * VMBUS_PAGE_BYTES;
	uint8_t *const buffer = must_be(vmbus_guest_pages(me.guest, BUFFER_PAGES), "pages");
	uint32_t i, wrong = 0;

	must(vmbus_vsc_share(me.vsc, buffer, BUFFER_PAGES, shared), "share");
	while (!buffer_id)
		must(vmbus_shm_attach_wait(me.attach, 5 * SECONDS), "wait for the page list");
	for (i = 0; i < bytes; i++)
		buffer[i] = (uint8_t)(i * 7 + i / SECTOR);
	wrong += transfer(&me, 1, 100, bytes / SECTOR) != 0;
	memset(buffer, 0, bytes);
	wrong += transfer(&me, 0, 100, bytes / SECTOR) != 0;
	for (i = 0; i < bytes; i++)
		wrong += buffer[i] != (uint8_t)(i * 7 + i / SECTOR);
	wrong += transfer(&me, 0, SECTORS - 1, 2) != 1; /* past the end: refused */
	printf("child:  %u bytes written and read back, %u wrong\n", bytes, wrong);
	example_close(&me);
	return wrong ? 1 : 0;
}

int main(void)
{
	return example_run(&disk_vsp, 1, child);
}
