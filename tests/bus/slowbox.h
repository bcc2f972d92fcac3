/* SPDX-License-Identifier: MIT */
/*
 * A device that takes its time to open: open() says AGAIN, and everything may happen before
 * vmbus_chan_open_done().  It notes what it is told and checks the order.  And a box with it, a bus
 * and a child with one channel.
 */
#ifndef VMBUS_TESTS_BUS_SLOWBOX_H
#define VMBUS_TESTS_BUS_SLOWBOX_H

#include "fake.h"

enum state {
	SHUT,
	WAITS,
	SERVED,
	CLOSING /* close() said AGAIN */
};

struct dev {
	struct vmbus_chan *chan;
	enum state state;
	int open_err;	  /* of open() */
	int said;	  /* of open_done() within it, if says */
	bool says;	  /* call it there */
	bool fail;	  /* fail the channel in open() */
	bool break_ring;  /* the child breaks the ring to it while the device opens */
	bool close_again; /* close() says AGAIN */
	uint32_t sends, subs;
	struct vmbus_ring_mem *down; /* the child's, to break */
	uint32_t opens, closes, refused, packets, modified;
};

static inline int dev_open(struct vmbus_chan *chan, void *ctx)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "early", .len = 5 };
	struct dev *d = ctx;
	uint32_t i;

	must_eq(d->state, SHUT);
	d->chan = chan;
	d->opens++;
	for (i = 0; i < d->sends; i++)
		must_eq(vmbus_chan_send(chan, &msg, 1), 1);
	if (d->subs && vmbus_chan_primary(chan) == chan)
		must_eq(vmbus_chan_offer_subchannels(chan, d->subs), 0);
	if (d->break_ring) {
		memset(d->down->ctl_p, 0xFF, 8);
		while (vmbus_chan_send(chan, &msg, 1) == 1)
			; /* until it looks at the indices */
		must_eq(vmbus_chan_send(chan, &msg, 1), VMBUS_E_FAULT);
		must_eq(vmbus_chan_flush(chan), VMBUS_E_FAULT);
	}
	if (d->fail)
		vmbus_chan_fail(chan, "it shall not be");
	if (d->says) {
		vmbus_chan_open_done(chan, d->said);
		vmbus_chan_open_done(chan, VMBUS_E_NOMEM); /* the first counts */
	}
	d->state = WAITS;
	if (d->open_err && d->open_err != VMBUS_E_AGAIN)
		d->state = SHUT;
	if (d->open_err == VMBUS_E_AGAIN && d->says && d->said)
		d->state = SHUT;
	if (!d->open_err || (d->says && !d->said))
		d->state = SERVED;
	return d->open_err;
}

static inline void dev_packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct dev *d = vmbus_chan_ctx(chan);

	must_eq(d->state, SERVED);
	d->packets++;
	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
}

static inline void dev_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, dev_packet);
}

static inline int dev_close(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);

	must(d->state == WAITS || d->state == SERVED);
	d->closes++;
	d->state = d->close_again ? CLOSING : SHUT;
	vmbus_chan_open_done(chan, 0); /* too late */
	return d->close_again ? VMBUS_E_AGAIN : 0;
}

static const struct vmbus_vsp slow_vsp = {
	.struct_bytes = sizeof(slow_vsp),
	.name = "slow",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 3),
	.open = dev_open,
	.packets = dev_packets,
	.close = dev_close,
};

/* The device is through with its open(). */
static inline void say(struct dev *d, int err)
{
	d->state = err ? SHUT : SERVED;
	vmbus_chan_open_done(d->chan, err);
}

static inline void say_closed(struct dev *d)
{
	d->state = SHUT;
	vmbus_chan_close_done(d->chan);
}

struct box {
	struct fake f;
	struct dev d;
	struct fake_chan c;
	struct vmbus_chan *chan;
};

static inline void box_contact(struct box *b)
{
	fake_chan_free(&b->c);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, &b->c, 1), 1);
}

static inline void box_init(struct box *b)
{
	memset(b, 0, sizeof(*b));
	fake_init(&b->f, 512);
	b->d.open_err = VMBUS_E_AGAIN;
	must_eq(vmbus_bus_offer(b->f.bus, &slow_vsp, &b->d, NULL, &b->chan), 0);
	b->d.chan = b->chan;
	b->d.down = &b->c.rx_mem;
	box_contact(b);
}

static inline void box_fini(struct box *b)
{
	fake_chan_free(&b->c);
	fake_fini(&b->f);
	must_eq(b->d.state, SHUT);
}

/* The child opens, and the device takes its time. */
static inline void begin(struct box *b)
{
	fake_rings(&b->f, &b->c, 3, 3);
	b->c.gpadl = b->f.next_gpadl++;
	must_eq(fake_share(&b->f, b->c.relid, b->c.gpadl, b->c.first, 6), 0);
	fake_post_open(&b->f, &b->c, 0);
	fake_run(&b->f);
}

static inline uint32_t result(struct box *b)
{
	struct vmbus_ctl ctl;

	fake_expect(&b->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.relid, b->c.relid);
	return ctl.u.result.status;
}

static inline void teardown(struct box *b)
{
	fake_post_teardown(&b->f, b->c.relid, b->c.gpadl);
	fake_expect(&b->f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
}

#endif
