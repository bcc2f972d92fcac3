/* SPDX-License-Identifier: MIT */
/*
 * A device with a primary and a sub-channel, each with a thread of its own, that is saved and goes on in
 * another bus.
 */
#ifndef VMBUS_TESTS_BUS_SUBBOX_H
#define VMBUS_TESTS_BUS_SUBBOX_H

#include "fake.h"

#include <vmbus/save.h>
#include <vmbus/watch.h>

struct dev {
	struct vmbus_chan *chan[2]; /* the primary, its sub-channel */
	int restore_err;	    /* of the primary */
	bool up;
	bool busy;  /* it cannot be saved now */
	bool quiet; /* it offers none when it is opened */
	uint32_t opens[2], restores[2], closes[2];
};

struct box {
	struct fake f;
	struct dev d;
	struct fake_chan c[2];
	uint8_t *state;
	size_t bytes;
};

static inline int dev_open(struct vmbus_chan *chan, void *ctx)
{
	struct dev *const d = ctx;
	const uint32_t k = vmbus_chan_sub_index(chan);

	d->opens[k]++;
	if (k)
		return d->up ? 0 : VMBUS_E_STATE;
	d->up = true;
	return d->quiet ? 0 : vmbus_chan_offer_subchannels(chan, 1);
}

static inline void dev_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	(void)pkt;
	(void)n;
}

static inline int dev_close(struct vmbus_chan *chan)
{
	struct dev *const d = vmbus_chan_ctx(chan);

	d->closes[vmbus_chan_sub_index(chan)]++;
	return 0;
}

static inline int dev_save(struct vmbus_chan *chan, void *buf, size_t bytes)
{
	const struct dev *const d = vmbus_chan_ctx(chan);

	(void)buf;
	(void)bytes;
	return d->busy && vmbus_chan_sub_index(chan) == 0 ? VMBUS_E_AGAIN : 0;
}

static inline int dev_restore(struct vmbus_chan *chan, const void *buf, size_t bytes)
{
	struct dev *const d = vmbus_chan_ctx(chan);
	const uint32_t k = vmbus_chan_sub_index(chan);

	(void)buf;
	(void)bytes;
	d->restores[k]++;
	if (k)
		return d->up ? 0 : VMBUS_E_STATE;
	d->up = !d->restore_err;
	return d->restore_err;
}

static const struct vmbus_vsp dev_vsp = {
	.struct_bytes = sizeof(dev_vsp),
	.name = "subs",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0003, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 1),
	.open = dev_open,
	.packets = dev_packets,
	.close = dev_close,
	.save = dev_save,
	.restore = dev_restore,
};

static inline void offered(void *ctx, struct vmbus_chan *sub)
{
	((struct box *)ctx)->d.chan[1] = sub;
}

static inline void removed(void *ctx, struct vmbus_chan *chan)
{
	struct box *const b = ctx;
	uint32_t k;

	for (k = 0; k < 2; k++)
		if (b->d.chan[k] == chan)
			b->d.chan[k] = NULL;
}

static inline void create(struct box *b, const struct vmbus_vsp *vsp)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts),
					       .own_fd = true,
					       .instance_id.b[0] = 1 };

	memset(&b->d, 0, sizeof(b->d));
	b->f.opts.offered = offered;
	b->f.opts.events_ctx = b;
	b->f.opts.removed = removed;
	b->f.opts.removed_ctx = b;
	fake_create(&b->f);
	must_eq(vmbus_bus_offer(b->f.bus, vsp, &b->d, &opts, &b->d.chan[0]), 0);
}

/* The thread of a channel comes, and then the bus's. */
static inline void come(struct box *b, uint32_t k)
{
	uint32_t n;

	for (n = 0; n < 8; n++) {
		if (b->d.chan[k])
			(void)vmbus_chan_dispatch(b->d.chan[k], 64);
		fake_run(&b->f);
	}
}

static inline void ask_open(struct box *b, uint32_t k)
{
	fake_rings(&b->f, &b->c[k], 2, 2);
	b->c[k].gpadl = 7 + k;
	must_eq(fake_share(&b->f, b->c[k].relid, 7 + k, b->c[k].first, 4), 0);
	fake_post_open(&b->f, &b->c[k], 0);
	fake_run(&b->f);
}

static inline void opened(struct box *b, uint32_t status)
{
	struct vmbus_ctl ctl;

	fake_expect(&b->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, status);
}

/* The primary open, and its sub-channel, or somebody has asked for it. */
static inline void begin(struct box *b, bool open)
{
	struct vmbus_ctl ctl;

	memset(b, 0, sizeof(*b));
	fake_prepare(&b->f, 128);
	create(b, &dev_vsp);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, b->c, 1), 1);
	ask_open(b, 0);
	come(b, 0);
	opened(b, VMBUS_STATUS_OK);
	fake_expect(&b->f, VMBUS_CTL_OFFER, &ctl);
	b->c[1] = (struct fake_chan){ .fake = &b->f,
				      .relid = ctl.u.offer.relid,
				      .conn = ctl.u.offer.conn_id };
	ask_open(b, 1);
	if (!open)
		return;
	come(b, 1);
	opened(b, VMBUS_STATUS_OK);
}

/* The device's view of a page list until it is saved, or NULL. */
static struct vmbus_sgl *sgl_of_before;

/* In another bus, in the same memory; no thread has come.  Returns what vmbus_bus_restore() does. */
static void (*forge)(uint8_t *state, size_t bytes); /* NULL, or a change of what was saved */

static inline int move_to(struct box *b, const struct vmbus_vsp *vsp, char *why, size_t why_bytes)
{
	const size_t all = b->f.pages * FAKE_PAGE;
	uint8_t *const copy = malloc(all);
	size_t again;
	int err;

	must_eq(vmbus_bus_save(b->f.bus, NULL, 0, &b->bytes), VMBUS_E_RANGE);
	b->state = malloc(b->bytes);
	must(copy && b->state);
	must_eq(vmbus_bus_save(b->f.bus, b->state, b->bytes, &again), 0);
	if (forge)
		forge(b->state, b->bytes);
	memcpy(copy, b->f.mem, all);
	if (sgl_of_before)
		vmbus_sgl_release(sgl_of_before);
	sgl_of_before = NULL;
	vmbus_bus_destroy(b->f.bus);
	memcpy(b->f.mem, copy, all);
	create(b, vsp);
	err = vmbus_bus_restore(b->f.bus, b->state, b->bytes, why, why_bytes);
	free(b->state);
	free(copy);
	if (!err)
		fake_run(&b->f);
	return err;
}

static inline void move(struct box *b)
{
	char why[160];

	must_eq(move_to(b, &dev_vsp, why, sizeof(why)), 0);
	must(b->d.chan[1] != NULL);
}

static inline void end(struct box *b)
{
	fake_chan_free(&b->c[0]);
	fake_chan_free(&b->c[1]);
	fake_fini(&b->f);
	must(b->d.closes[1] <= b->d.opens[1] + b->d.restores[1]);
}

#endif
