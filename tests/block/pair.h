/* SPDX-License-Identifier: MIT */
/*
 * The block device's two ends in one thread: a controller with disks in memory behind a bus, and the
 * client over a guest.
 *
 *	struct pair p;
 *	pair_start(&p, &controller_opts);	a bus, a guest, the controller offered
 *	pair_add(&p, &disk);			ops NULL: a memory store of PAIR_BYTES
 *	pair_client(&p, subchannels);
 *	pair_free(&p);
 */
#ifndef TESTS_BLOCK_PAIR_H
#define TESTS_BLOCK_PAIR_H

#include "loop.h"

#include <vmbus/block.h>
#include <vmbus/storvsc.h>

#define PAIR_BYTES (UINT64_C(8) << 20)

static const struct vmbus_guid pair_class = VMBUS_BLOCK_CLASS;

struct pair {
	struct loop *l;
	struct vmbus_block *block;
	struct vmbus_chan *chan;
	struct vmbus_storvsc s;
	uint32_t ready, changed, closed, removed;
	int ready_err;
	/* Of the last probe or request that was waited for. */
	bool ended;
	int err;
	uint8_t *page;
};

static inline void pair_removed(void *ctx, uint8_t target, uint8_t lun,
				const struct vmbus_store *store)
{
	struct vmbus_store mine = *store;

	(void)target;
	(void)lun;
	((struct pair *)ctx)->removed++;
	vmbus_store_destroy(&mine);
}

static inline void pair_ready(void *ctx, int err)
{
	struct pair *const p = ctx;

	p->ready++;
	p->ready_err = err;
}

static inline void pair_changed(void *ctx)
{
	((struct pair *)ctx)->changed++;
}

static inline void pair_closed(void *ctx)
{
	((struct pair *)ctx)->closed++;
}

static inline void pair_start(struct pair *p, const struct vmbus_block_opts *opts)
{
	struct vmbus_block_opts ours = { .struct_bytes = sizeof(ours) };

	memset(p, 0, sizeof(*p));
	if (opts)
		ours = *opts;
	ours.removed = pair_removed;
	ours.ctx = p;
	must_eq(vmbus_block_create(&ours, &p->block), 0);
	p->l = loop_new(NULL, NULL);
	must_eq(vmbus_bus_offer(p->l->bus, vmbus_block_vsp(), p->block, NULL, &p->chan), 0);
	loop_connect(p->l);
	p->page = vmbus_guest_pages(p->l->guest, 1);
}

static inline void pair_add(struct pair *p, const struct vmbus_block_disk *disk)
{
	struct vmbus_block_disk ours = { .struct_bytes = sizeof(ours) };

	if (disk)
		ours = *disk;
	if (!ours.store.ops)
		must_eq(vmbus_store_memory(PAIR_BYTES, -1, &ours.store), 0);
	must_eq(vmbus_block_add(p->block, &ours), 0);
}

static inline struct vmbus_vsc *pair_vsc(struct pair *p)
{
	struct vmbus_vsc *const vsc = vmbus_vsc_find(p->l->guest, &pair_class, 0);

	must(vsc != NULL);
	return vsc;
}

static inline void pair_client(struct pair *p, uint32_t subchannels)
{
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts) };

	opts.subchannels = subchannels;
	opts.ready = pair_ready;
	opts.changed = pair_changed;
	opts.closed = pair_closed;
	opts.ctx = p;
	must_eq(vmbus_storvsc_start(&p->s, pair_vsc(p), &opts), 0);
	loop_settle(p->l);
	must_eq(p->ready, 1);
	must_eq(p->ready_err, 0);
}

static inline void pair_probed(struct vmbus_storvsc_disk *disk, int err, void *ctx)
{
	struct pair *const p = ctx;

	(void)disk;
	p->ended = true;
	p->err = err;
}

static inline int pair_probe(struct pair *p, struct vmbus_storvsc_disk *disk, uint8_t target,
			     uint8_t lun)
{
	p->ended = false;
	must_eq(vmbus_storvsc_probe(disk, &p->s, target, lun, p->page, pair_probed, p), 0);
	loop_settle(p->l);
	must(p->ended);
	return p->err;
}

static inline void pair_done(struct vmbus_storvsc_req *req)
{
	((struct pair *)req->ctx)->ended = true;
}

/* Submit it and wait for it; what it says. */
static inline int pair_do(struct pair *p, uint32_t channel, struct vmbus_storvsc_req *req)
{
	req->done = pair_done;
	req->ctx = p;
	p->ended = false;
	must_eq(vmbus_storvsc_submit(&p->s, channel, req), 0);
	loop_settle(p->l);
	must(p->ended);
	return req->err;
}

static inline void pair_free(struct pair *p)
{
	loop_free(p->l);
	vmbus_block_destroy(p->block);
}

#endif
