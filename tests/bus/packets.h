/* SPDX-License-Identifier: MIT */
/*
 * A device that counts its packets and does with each what its mode says, and a box with it, a bus
 * and a child with one channel: for the tests of packets, and of the memory that they name.
 */
#ifndef VMBUS_TESTS_BUS_PACKETS_H
#define VMBUS_TESTS_BUS_PACKETS_H

#include "fake.h"

struct dev {
	struct vmbus_chan *chan;
	uint32_t packets, calls, closes, writables, bytes, most;
	/* What packets() does. */
	int mode;
	/* What it keeps for writable(). */
	uint64_t owed[4096];
	uint32_t owed_count, owed_done, most_owed;
	struct vmbus_sgl sgl;
	struct vmbus_piece pieces[16];
	int err;
	uint32_t gpadl;
	enum vmbus_access access;
	const struct vmbus_msg *msg;
	uint32_t msgs;
	int sent;
};

enum {
	COUNT,
	ECHO_KEEP,
	SEND,
	SGL,
	GPADL,
	FAIL_SECOND,
	FLUSH,
	FAIL_FLUSH,
	HOLD
};

static inline int dev_open(struct vmbus_chan *chan, void *ctx)
{
	((struct dev *)ctx)->chan = chan;
	return 0;
}

static inline void pay(struct dev *d)
{
	while (d->owed_done != d->owed_count) {
		const int err =
			vmbus_chan_complete(d->chan, d->owed[d->owed_done % 4096], "12345678", 8);

		if (err == VMBUS_E_FULL)
			return;
		must_eq(err, 0);
		d->owed_done++;
	}
}

static inline void dev_writable(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);

	d->writables++;
	if (d->mode == ECHO_KEEP)
		pay(d);
}

static inline void one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct dev *d = vmbus_chan_ctx(chan);

	d->packets++;
	d->bytes += pkt->len;
	switch (d->mode) {
	case ECHO_KEEP:
		d->owed[d->owed_count++ % 4096] = pkt->id;
		if (d->owed_count - d->owed_done > d->most_owed)
			d->most_owed = d->owed_count - d->owed_done;
		must(d->owed_count - d->owed_done <= 4096);
		pay(d);
		break;
	case SEND:
		d->sent = vmbus_chan_send(chan, d->msg, d->msgs);
		break;
	case SGL:
		d->err = vmbus_chan_sgl(chan, pkt, d->access, &d->sgl);
		break;
	case GPADL:
		d->err = vmbus_chan_gpadl(chan, d->gpadl, d->access, &d->sgl);
		break;
	case FAIL_SECOND:
		if (d->packets == 2)
			vmbus_chan_fail(chan, "second");
		break;
	case FLUSH:
		must_eq(vmbus_chan_complete(chan, pkt->id, NULL, 0), 0);
		must_eq(vmbus_chan_flush(chan), 0);
		break;
	case FAIL_FLUSH:
		must_eq(vmbus_chan_complete(chan, pkt->id, NULL, 0), 0);
		vmbus_chan_fail(chan, "before it flushes");
		must_eq(vmbus_chan_flush(chan), VMBUS_E_STATE);
		break;
	default:
		break;
	}
}

static inline void dev_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct dev *d = vmbus_chan_ctx(chan);

	d->calls++;
	if (n > d->most)
		d->most = n;
	vmbus_chan_each(chan, pkt, n, one);
}

static inline int dev_close(struct vmbus_chan *chan)
{
	((struct dev *)vmbus_chan_ctx(chan))->closes++;
	return 0;
}

static const struct vmbus_vsp base_vsp = {
	.struct_bytes = sizeof(base_vsp),
	.name = "dev",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 3),
	.open = dev_open,
	.packets = dev_packets,
	.writable = dev_writable,
	.close = dev_close,
};

struct box {
	struct fake f;
	struct dev d;
	struct vmbus_vsp vsp;
	struct fake_chan c;
	struct vmbus_chan *chan;
};

static inline void box_open(struct box *b, uint32_t up, uint32_t down)
{
	must_eq(vmbus_bus_offer(b->f.bus, &b->vsp, &b->d, NULL, &b->chan), 0);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, &b->c, 1), 1);
	must_eq(fake_open(&b->f, &b->c, up, down), 0);
}

static inline void box_init(struct box *b)
{
	memset(b, 0, sizeof(*b));
	b->vsp = base_vsp;
	b->d.sgl.pieces = b->d.pieces;
	b->d.sgl.room = 16;
	b->d.access = VMBUS_READ_WRITE;
	fake_init(&b->f, 2048);
}

static inline void box_fini(struct box *b)
{
	vmbus_sgl_release(&b->d.sgl);
	fake_chan_free(&b->c);
	fake_fini(&b->f);
	must_eq(vmbus_region_pins(&b->f.region), 0);
}

/* Receive all that is there; returns how many, and checks that ids rise by 1 from first on. */
static inline uint32_t drain(struct box *b, uint64_t first)
{
	struct vmbus_packet pkt[64];
	uint32_t count = 0;
	int got, i;

	while ((got = fake_receive(&b->c, pkt, 64)) > 0)
		for (i = 0; i < got; i++)
			must_eq(pkt[i].id, first + count++);
	must_eq(got, 0);
	return count;
}

#endif
