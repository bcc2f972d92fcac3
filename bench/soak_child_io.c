/* SPDX-License-Identifier: MIT */
/*
 * Disks and NICs of a child of vmbus-bench soak: each sector is written and read back, each frame comes
 * back from another child or a mirror, and what comes is compared with what was sent.
 */
#include "soak_child.h"

#include <stdlib.h>

#define RING_BYTES 32768u
#define BUFFER_BYTES 131072u
#define SECTORS (CHILD_IO_BYTES / 512u)
#define REOPEN 300u
#define LOST_NS SOAK_SECOND

/* ---- disks ---- */

static void block_ready(void *ctx, int err)
{
	struct block_client *const b = ctx;

	if (err) {
		b->c.begun = false;
		return;
	}
	soak_count(&b->c.child->mine->opened);
	b->look = true;
	b->c.until = b->c.number + REOPEN / 2 + soak_random(&b->c.child->random) % REOPEN;
}

static void block_changed(void *ctx)
{
	((struct block_client *)ctx)->look = true;
}

static void block_closed(void *ctx)
{
	struct block_client *const b = ctx;

	soak_count(&b->c.child->mine->closed);
	b->c.begun = b->c.usable = b->c.busy = false;
	b->looking = b->has_second = b->written = b->stopping = false;
}

static void second_found(struct vmbus_storvsc_disk *disk, int err, void *ctx)
{
	struct block_client *const b = ctx;

	(void)disk;
	b->looking = false;
	if (b->has_second != (err == 0))
		soak_count(&b->c.child->mine->luns);
	b->has_second = err == 0;
}

static void first_found(struct vmbus_storvsc_disk *disk, int err, void *ctx)
{
	struct block_client *const b = ctx;

	(void)disk;
	b->looking = false;
	b->c.usable = err == 0;
	if (err && err != VMBUS_E_PEER && err != VMBUS_E_AGAIN)
		soak_count(&b->c.child->mine->failed);
	else if (err == VMBUS_E_AGAIN)
		b->look = true;
	if (!err && b->c.series == SOAK_BLOCK &&
	    vmbus_storvsc_probe(&b->second, &b->storvsc, 0, 1, b->page, second_found, b) == 0)
		b->looking = true;
}

static void fill(struct block_client *b)
{
	uint64_t *const word = (uint64_t *)(void *)b->buf;

	for (uint32_t i = 0; i < CHILD_IO_BYTES / 8; i++)
		word[i] = b->c.number * 1000003u + b->sector * 977u + i;
}

static bool same(const struct block_client *b)
{
	const uint64_t *const word = (const uint64_t *)(const void *)b->buf;

	for (uint32_t i = 0; i < CHILD_IO_BYTES / 8; i++)
		if (word[i] != b->c.number * 1000003u + b->sector * 977u + i)
			return false;
	return true;
}

static void block_done(struct vmbus_storvsc_req *req)
{
	struct block_client *const b = req->ctx;

	if (req->err == 0) {
		if (b->written && !same(b))
			soak_count(&b->c.child->mine->wrong);
		b->written = !b->written;
		b->retries = 0;
		child_done(&b->c);
		return;
	}
	b->c.busy = false;
	b->written = false;
	if (req->err == VMBUS_E_PEER)
		return; /* the end of the channel */
	if (!vmbus_storvsc_retry(req) || ++b->retries > CHILD_RETRIES)
		soak_count(&b->c.child->mine->failed);
}

static void block_io(struct block_client *b)
{
	const uint64_t share = (b->c.series == SOAK_BLOCK ? b->disk.sectors : SOAK_SHARE / 512u);
	const uint64_t first = b->c.series == SOAK_BLOCK ? 0 : share * b->c.child->seat;
	int err;

	b->req.piece = &b->piece;
	b->req.pieces = 1;
	b->req.done = block_done;
	b->req.ctx = b;
	b->piece.data = b->buf;
	b->piece.bytes = CHILD_IO_BYTES;
	if (b->written) {
		memset(b->buf, 0xa5, CHILD_IO_BYTES);
		err = vmbus_storvsc_read(&b->disk, &b->req, b->sector, SECTORS);
	} else {
		b->c.number++;
		b->sector =
			first + SECTORS * (soak_random(&b->c.child->random) % (share / SECTORS));
		fill(b);
		err = vmbus_storvsc_write(&b->disk, &b->req, b->sector, SECTORS, false);
	}
	b->c.from_ns = now_ns();
	if (err) {
		soak_count(&b->c.child->mine->failed);
		return;
	}
	b->c.busy = true;
	if (vmbus_storvsc_submit(&b->storvsc, 0, &b->req))
		b->c.busy = false;
}

static void block_begin(struct block_client *b)
{
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts), .ctx = b };

	if (!b->buf) {
		b->buf = vmbus_guest_pages(b->c.child->guest, 1);
		b->page = vmbus_guest_pages(b->c.child->guest, 1);
	}
	if (!b->buf || !b->page)
		return;
	opts.ready = block_ready;
	opts.changed = block_changed;
	opts.closed = block_closed;
	opts.depth = 16;
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = opts.open.recv_bytes = RING_BYTES;
	b->look = b->looking = b->stopping = false;
	b->c.begun = vmbus_storvsc_start(&b->storvsc, b->c.vsc, &opts) == 0;
}

void child_block_turn(struct block_client *b)
{
	if (!b->c.vsc)
		return;
	if (!b->c.begun) {
		block_begin(b);
		return;
	}
	if (b->look && !b->looking && !b->stopping) {
		b->look = false;
		b->looking = vmbus_storvsc_probe(&b->disk, &b->storvsc, 0, 0, b->page, first_found,
						 b) == 0;
		b->c.usable = false;
		return;
	}
	if (!b->c.usable || b->c.busy || b->looking || b->stopping)
		return;
	if (b->c.number >= b->c.until)
		b->stopping = vmbus_storvsc_stop(&b->storvsc) == 0;
	else
		block_io(b);
}

/* ---- NICs ---- */

static void net_ready(void *ctx, int err)
{
	struct net_client *const n = ctx;

	if (err) {
		n->c.begun = false;
		return;
	}
	soak_count(&n->c.child->mine->opened);
	n->c.usable = true;
	n->c.until = n->c.number + REOPEN / 2 + soak_random(&n->c.child->random) % REOPEN;
}

static void net_link(void *ctx, bool up)
{
	(void)up;
	soak_count(&((struct net_client *)ctx)->c.child->mine->links);
}

static void net_closed(void *ctx)
{
	struct net_client *const n = ctx;

	soak_count(&n->c.child->mine->closed);
	n->c.begun = n->c.usable = n->c.busy = n->stopping = false;
}

static int net_send(struct net_client *n, const struct soak_frame *head)
{
	uint8_t bytes[SOAK_FRAME_BYTES] = { 0 };
	const struct vmbus_iov piece = { .base = bytes, .len = head->bytes };
	const struct vmbus_frame frame = { .piece = &piece, .pieces = 1, .bytes = head->bytes };

	memcpy(bytes, head, sizeof(*head));
	return vmbus_netvsc_send(&n->nv, 0, &frame, 1);
}

static void net_got(struct net_client *n, const struct vmbus_frame *frame)
{
	struct soak_frame head;

	if (frame->pieces < 1 || frame->piece[0].len < sizeof(head))
		return;
	memcpy(&head, frame->piece[0].base, sizeof(head));
	if (head.type[0] != 0x88 || head.type[1] != 0xb5)
		return;
	if (head.bytes != frame->bytes || head.again != head.number) {
		soak_count(&n->c.child->mine->wrong);
		return;
	}
	if (!head.answer) {
		memcpy(head.to, head.from, 6);
		memcpy(head.from, n->nv.mac, 6);
		head.answer = 1;
		(void)net_send(n, &head);
	} else if (n->c.busy && head.number == n->c.number) {
		child_done(&n->c);
	}
}

static void net_readable(void *ctx, uint32_t channel)
{
	struct net_client *const n = ctx;
	int got;

	while ((got = vmbus_netvsc_receive(&n->nv, channel, &n->burst, VMBUS_NETVSC_BURST)) > 0) {
		for (uint32_t i = 0; i < n->burst.frames; i++)
			net_got(n, &n->burst.frame[i]);
		(void)vmbus_netvsc_release(&n->nv, channel, &n->burst);
	}
}

static void net_begin(struct net_client *n)
{
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts), .chan = &n->chan };

	opts.receive_bytes = opts.send_bytes = BUFFER_BYTES;
	opts.ready = net_ready;
	opts.readable = net_readable;
	opts.link = net_link;
	opts.closed = net_closed;
	opts.ctx = n;
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = opts.open.recv_bytes = RING_BYTES;
	n->c.begun = vmbus_netvsc_start(&n->nv, n->c.vsc, &opts) == 0;
}

/* To the child on the next seat, which answers; a mirror takes any address. */
static void net_ask(struct net_client *n)
{
	struct child *const child = n->c.child;
	const uint32_t other = child->seat ^ 1u;
	struct soak_frame head = { .type = { 0x88, 0xb5 } };

	soak_mac(head.to, other < child->shared->count ? other : 0);
	memcpy(head.from, n->nv.mac, 6);
	head.bytes = 64u + soak_random(&child->random) % (SOAK_FRAME_BYTES - 63u);
	head.number = head.again = ++n->c.number;
	n->c.from_ns = head.at_ns = now_ns();
	n->c.busy = net_send(n, &head) == 1;
}

void child_net_turn(struct net_client *n)
{
	if (!n->c.vsc)
		return;
	if (!n->c.begun) {
		net_begin(n);
		return;
	}
	if (!n->c.usable || n->stopping)
		return;
	if (n->c.busy && now_ns() - n->c.from_ns > LOST_NS) {
		n->c.busy = false;
		soak_count(&n->c.child->mine->lost);
	}
	if (n->c.busy)
		return;
	if (n->c.number >= n->c.until) {
		n->c.usable = false;
		n->stopping = vmbus_netvsc_stop(&n->nv) == 0;
	} else {
		net_ask(n);
	}
}
