/* SPDX-License-Identifier: MIT */
/*
 * For the tests of channels whose rings are served elsewhere: here by nobody.  The device plays the
 * one that hands them on, and the child's pages show that the bus has touched none of them.
 */
#ifndef FOREIGN_H
#define FOREIGN_H

#include "fake.h"

#include <sys/eventfd.h>

struct dev {
	struct vmbus_chan *chan;
	int open_err, close_err, gone_err;
	uint32_t opens, closes, packets, modified, gpadls, gone, signalled, offered, removed;
	uint32_t last_list, last_gone, done_in_gpadl, done_in_gone, done_other;
	int gpadl_err;
	const uint64_t *qwords;
	uint32_t count, ranges;
	struct vmbus_chan_rings rings; /* as they are in open() */
	struct vmbus_chan *sub;
	bool bind_in_open;
	int fd;
};

static inline int dev_open(struct vmbus_chan *chan, void *ctx)
{
	struct dev *d = ctx;

	d->opens++;
	d->chan = chan;
	must_eq(vmbus_chan_rings(chan, &d->rings), 0);
	if (d->bind_in_open)
		must_eq(vmbus_chan_bind(chan, d->fd), 0);
	return d->open_err;
}

static inline void dev_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)pkt;
	((struct dev *)vmbus_chan_ctx(chan))->packets += n;
}

static inline int dev_close(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);
	struct vmbus_chan_rings rings;

	d->closes++;
	must_eq(vmbus_chan_rings(chan, &rings), VMBUS_E_STATE);
	must_eq(vmbus_chan_bind(chan, d->fd), VMBUS_E_STATE);
	return d->close_err;
}

static inline void dev_modified(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);

	d->modified++;
	must_eq(vmbus_chan_rings(chan, &d->rings), 0);
}

static inline int dev_gpadl(struct vmbus_chan *chan, uint32_t gpadl, const uint64_t *qwords,
			    uint32_t count, uint32_t ranges)
{
	struct dev *d = vmbus_chan_ctx(chan);

	d->gpadls++;
	d->last_list = gpadl;
	d->qwords = qwords;
	d->count = count;
	d->ranges = ranges;
	if (d->done_in_gpadl)
		vmbus_chan_gpadl_done(chan, gpadl);
	return d->gpadl_err;
}

static inline int dev_gone(struct vmbus_chan *chan, uint32_t gpadl)
{
	struct dev *d = vmbus_chan_ctx(chan);

	d->gone++;
	d->last_gone = gpadl;
	if (d->done_in_gone)
		vmbus_chan_gpadl_done(chan, gpadl);
	if (d->done_other)
		vmbus_chan_gpadl_done(chan, d->done_other);
	return d->gone_err;
}

static inline void dev_signalled(struct vmbus_chan *chan)
{
	((struct dev *)vmbus_chan_ctx(chan))->signalled++;
}

static inline void dev_offered(struct vmbus_chan *sub)
{
	struct dev *d = vmbus_chan_ctx(sub);

	d->offered++;
	d->sub = sub;
}

static inline void dev_removed(struct vmbus_chan *chan)
{
	((struct dev *)vmbus_chan_ctx(chan))->removed++;
}

static const struct vmbus_vsp all_vsp = {
	.struct_bytes = sizeof(all_vsp),
	.name = "elsewhere",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 4),
	.flags = VMBUS_VSP_FOREIGN,
	.open = dev_open,
	.packets = dev_packets,
	.close = dev_close,
	.modified = dev_modified,
	.gpadl = dev_gpadl,
	.gpadl_gone = dev_gone,
	.signalled = dev_signalled,
	.offered = dev_offered,
	.removed = dev_removed,
};

/* One without any callback that it need not have. */
static const struct vmbus_vsp bare_vsp = {
	.struct_bytes = sizeof(bare_vsp),
	.name = "bare",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 5),
	.flags = VMBUS_VSP_FOREIGN,
	.open = dev_open,
};

struct box {
	struct fake f;
	struct dev d;
	struct fake_chan c;
	struct vmbus_chan *chan;
};

static int wakes_of;
static struct vmbus_wake wake_now;
static int wake_err;

static inline int tell_wake(void *ctx, uint32_t vp, uint32_t sint, struct vmbus_wake *wake)
{
	(void)ctx;
	must_eq(sint, VMBUS_SINT_MESSAGE);
	wakes_of = (int)vp;
	*wake = wake_now;
	return wake_err;
}

static inline void box_start(struct box *b, const struct vmbus_vsp *vsp)
{
	fake_create(&b->f);
	must_eq(vmbus_bus_offer(b->f.bus, vsp, &b->d, NULL, &b->chan), 0);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, &b->c, 1), 1);
}

static inline void box_prepare(struct box *b)
{
	memset(b, 0, sizeof(*b));
	b->d.fd = -1;
	fake_prepare(&b->f, 512);
	b->f.backend.bind = fake_backend_bind;
	b->f.backend.unbind = fake_backend_unbind;
}

static inline void box_init(struct box *b)
{
	box_prepare(b);
	box_start(b, &all_vsp);
}

static inline void box_fini(struct box *b)
{
	fake_chan_free(&b->c);
	fake_fini(&b->f);
}

/* The pages of the rings are whatever the child likes, and stay so. */
static inline void scribble(struct box *b, uint32_t pages)
{
	if (!b->c.first)
		b->c.first = fake_pages(&b->f, pages);
	memset(b->f.mem + b->c.first * FAKE_PAGE, 0xC3, pages * FAKE_PAGE);
}

static inline void untouched(const struct box *b, uint32_t pages)
{
	size_t i;

	for (i = 0; i < pages * FAKE_PAGE; i++)
		must(b->f.mem[b->c.first * FAKE_PAGE + i] == 0xC3);
}

static inline uint32_t open_vp(struct box *b, uint32_t up, uint32_t down, uint32_t vp)
{
	struct vmbus_ctl ctl;

	scribble(b, up + down);
	b->c.up = up;
	b->c.down = down;
	b->c.gpadl = b->f.next_gpadl++;
	must_eq(fake_share(&b->f, b->c.relid, b->c.gpadl, b->c.first, up + down), 0);
	fake_post_open(&b->f, &b->c, vp);
	if (b->d.open_err == VMBUS_E_AGAIN) {
		fake_expect_none(&b->f);
		return 0;
	}
	fake_expect(&b->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	return ctl.u.result.status;
}

static inline uint32_t box_open(struct box *b)
{
	return open_vp(b, 3, 5, 0);
}

static inline uint64_t count_of(int fd)
{
	uint64_t v = 0;

	return read(fd, &v, sizeof(v)) == sizeof(v) ? v : 0;
}

#endif
