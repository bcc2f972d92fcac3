/* SPDX-License-Identifier: MIT */
/*
 * A bus and a guest in one process and one thread, over one memfd that each maps for itself: for
 * tests of either that need the real other side.  Messages pass through one slot, as through a
 * SynIC's; nothing is lost, duplicated or reordered.  What can be made to fail is the posting of
 * messages (AGAIN, or a status of the hypercall), a slot that stays busy, and allocation.
 *
 *	struct loop *l = loop_new(NULL, NULL);
 *	vmbus_bus_offer(l->bus, &vsp, NULL, NULL, &chan);
 *	loop_connect(l);
 *	... vmbus_vsc_open(vmbus_vsc_find(l->guest, ...)) ... loop_settle(l);
 *	loop_free(l);
 */
#ifndef LOOP_H
#define LOOP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <vmbus/bus.h>

#include "child.h"

#define LOOP_PAGES 16384u
#define LOOP_SECOND 1000000000ull /* of nanoseconds */
#define LOOP_STEP 1000000u	  /* ns that pass at most while both sides have nothing to do */
#define LOOP_BUDGET 256u

struct loop {
	struct child mem;
	struct vmbus_region region;
	struct vmbus_region *regions[1];
	struct vmbus_backend parent;
	struct vmbus_guest_backend backend;
	struct vmbus_bus *bus;
	struct vmbus_guest *guest;
	uint64_t now;	    /* 100 ns; passes when the guest is idle */
	uint64_t flags[32]; /* any thread */
	/* The one slot for messages to the child. */
	bool slot_full;
	uint32_t slot_type, slot_bytes;
	uint8_t slot[240];
	uint32_t slot_vp, slot_sint;
	/* Faults. */
	uint32_t slot_busy;   /* the next so many posts to the child find the slot busy */
	uint32_t post_status; /* of the next post_status_times posts of the child's */
	uint32_t post_status_times;
	uint32_t post_again; /* the next so many posts of the child's are under way for a while */
	uint32_t lost_slot_free;
	/* Counters. */
	unsigned long posts, messages, raised, signals, lines;
	char last_line[200];
	unsigned long offered, gone;
	/* What the embedder of the bus says to hv_sock requests, and how the guest's end. */
	int tl_answer;
	unsigned long tl_asked, tl_refused, paused, monitor_set;
	struct vmbus_ctl_tl tl; /* the last one, of either */
	uint32_t tl_status;
	int paused_err, monitor_err;
	void (*on_offered)(struct loop *l, struct vmbus_vsc *vsc);
	void (*on_gone)(struct loop *l, struct vmbus_vsc *vsc);
	void *priv;
};

/* ---- the bus's backend ---- */

static inline int loop_bus_post(void *ctx, uint32_t vp, uint32_t sint, uint32_t type,
				const void *payload, uint32_t bytes)
{
	struct loop *l = ctx;

	must(bytes <= sizeof(l->slot));
	if (l->slot_busy) {
		l->slot_busy--;
		l->lost_slot_free++;
		return VMBUS_E_AGAIN;
	}
	if (l->slot_full)
		return VMBUS_E_AGAIN;
	l->slot_full = true;
	l->slot_vp = vp;
	l->slot_sint = sint;
	l->slot_type = type;
	l->slot_bytes = bytes;
	memcpy(l->slot, payload, bytes);
	l->messages++;
	return 0;
}

static inline int loop_bus_raise(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag)
{
	struct loop *l = ctx;

	(void)vp;
	must_eq(sint, VMBUS_SINT_MESSAGE);
	must(flag < 2048);
	__atomic_fetch_or(&l->flags[flag / 64], 1ull << flag % 64, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&l->raised, 1, __ATOMIC_RELAXED);
	return 0;
}

static inline uint64_t loop_time(void *ctx)
{
	return ((struct loop *)ctx)->now;
}

static inline uint32_t loop_vps(void *ctx)
{
	(void)ctx;
	return 4;
}

/* ---- the guest's backend ---- */

static inline int loop_post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload,
			    uint32_t bytes)
{
	struct loop *l = ctx;

	if (l->post_again) {
		l->post_again--;
		return VMBUS_E_AGAIN;
	}
	l->posts++;
	if (l->post_status_times) {
		l->post_status_times--;
		return (int)l->post_status;
	}
	return (int)vmbus_bus_post_message(l->bus, conn_id, type, payload, bytes);
}

static inline int loop_receive(void *ctx, uint32_t *type, void *payload, uint32_t *bytes)
{
	struct loop *l = ctx;

	if (!l->slot_full)
		return 0;
	*type = l->slot_type;
	*bytes = l->slot_bytes;
	memcpy(payload, l->slot, l->slot_bytes);
	l->slot_full = false;
	vmbus_bus_slot_free(l->bus, l->slot_vp, l->slot_sint);
	return 1;
}

static inline uint64_t loop_flags(void *ctx, uint32_t word)
{
	struct loop *l = ctx;

	return __atomic_exchange_n(&l->flags[word], 0, __ATOMIC_SEQ_CST);
}

static inline int loop_signal(void *ctx, uint32_t conn_id, uint32_t flag)
{
	struct loop *l = ctx;

	__atomic_fetch_add(&l->signals, 1, __ATOMIC_RELAXED);
	return (int)vmbus_bus_signal_event(l->bus, conn_id, flag);
}

static inline void *loop_alloc(void *ctx, size_t bytes, bool shared)
{
	return child_alloc(&((struct loop *)ctx)->mem, bytes, shared);
}

static inline void loop_release(void *ctx, void *p, size_t bytes, bool shared)
{
	child_release(&((struct loop *)ctx)->mem, p, bytes, shared);
}

static inline uint64_t loop_pfn(void *ctx, const void *page)
{
	return child_pfn(&((struct loop *)ctx)->mem, page);
}

static inline void *loop_mirror(void *ctx, void *p, size_t size)
{
	return child_mirror(&((struct loop *)ctx)->mem, p, size);
}

static inline void loop_unmirror(void *ctx, void *window, size_t size)
{
	child_unmirror(&((struct loop *)ctx)->mem, window, size);
}

/* A slot that was only said to be busy is free after a while. */
static inline uint32_t loop_bus_turn(struct loop *l)
{
	uint32_t freed = 0;
	int done;

	if (l->lost_slot_free && !l->slot_full) {
		l->lost_slot_free = 0;
		freed = 1;
		vmbus_bus_slot_free(l->bus, 0, VMBUS_SINT_MESSAGE);
	}
	done = vmbus_bus_dispatch(l->bus, LOOP_BUDGET);
	must(done >= 0);
	return (uint32_t)done + freed;
}

/* Whether something has come that wakes the child. */
static inline bool loop_wakes(const struct loop *l)
{
	uint32_t i;

	for (i = 0; i < 32; i++)
		if (__atomic_load_n(&l->flags[i], __ATOMIC_SEQ_CST))
			return true;
	return l->slot_full;
}

static inline int loop_idle(void *ctx, uint64_t timeout_ns)
{
	struct loop *l = ctx;

	if (loop_bus_turn(l) || loop_wakes(l))
		l->now += 10;
	else /* the bus may have timers: time passes in small steps */
		l->now += timeout_ns < LOOP_STEP ? timeout_ns / 100u + 1 : LOOP_STEP / 100u;
	return 0;
}

/* ---- both together ---- */

static inline void loop_log(void *ctx, const char *line)
{
	struct loop *l = ctx;

	l->lines++;
	snprintf(l->last_line, sizeof(l->last_line), "%s", line);
}

static inline void loop_bus_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)level;
	loop_log(ctx, line);
}

static inline void loop_offered(void *ctx, struct vmbus_vsc *vsc)
{
	struct loop *l = ctx;

	l->offered++;
	if (l->on_offered)
		l->on_offered(l, vsc);
}

static inline void loop_gone(void *ctx, struct vmbus_vsc *vsc)
{
	struct loop *l = ctx;

	l->gone++;
	if (l->on_gone)
		l->on_gone(l, vsc);
}

static inline int loop_tl_connect(void *ctx, const struct vmbus_ctl_tl *tl)
{
	struct loop *l = ctx;

	l->tl_asked++;
	l->tl = *tl;
	return l->tl_answer;
}

static inline void loop_tl_refused(void *ctx, const struct vmbus_ctl_tl *tl, uint32_t status)
{
	struct loop *l = ctx;

	l->tl_refused++;
	l->tl = *tl;
	l->tl_status = status;
}

static inline void loop_paused(void *ctx, int err)
{
	struct loop *l = ctx;

	l->paused++;
	l->paused_err = err;
}

static inline void loop_monitor_set(void *ctx, int err)
{
	struct loop *l = ctx;

	l->monitor_set++;
	l->monitor_err = err;
}

static inline void loop_backends(struct loop *l)
{
	l->parent.struct_bytes = sizeof(l->parent);
	l->parent.post = loop_bus_post;
	l->parent.raise = loop_bus_raise;
	l->parent.time = loop_time;
	l->parent.vps = loop_vps;
	l->backend.struct_bytes = sizeof(l->backend);
	l->backend.post = loop_post;
	l->backend.receive = loop_receive;
	l->backend.flags = loop_flags;
	l->backend.signal = loop_signal;
	l->backend.alloc = loop_alloc;
	l->backend.release = loop_release;
	l->backend.pfn = loop_pfn;
	l->backend.mirror = loop_mirror;
	l->backend.unmirror = loop_unmirror;
	l->backend.idle = loop_idle;
	l->backend.time = loop_time;
}

static inline void loop_new_guest(struct loop *l, const struct vmbus_cli_opts *limits)
{
	struct vmbus_guest_opts opts = { .struct_bytes = sizeof(opts) };

	opts.backend = &l->backend;
	opts.backend_ctx = l;
	opts.offered = loop_offered;
	opts.gone = loop_gone;
	opts.tl_refused = loop_tl_refused;
	opts.paused = loop_paused;
	opts.monitor_set = loop_monitor_set;
	opts.log = loop_log;
	opts.ctx = l;
	if (limits)
		opts.limits = *limits;
	must_eq(vmbus_guest_create(&opts, &l->guest), 0);
}

/* Another bus in place of the one that there is; removed() gets the loop. */
static inline void loop_new_bus(struct loop *l, void (*removed)(void *ctx, struct vmbus_chan *chan))
{
	struct vmbus_bus_opts opts = { .struct_bytes = sizeof(opts) };

	vmbus_bus_destroy(l->bus);
	opts.backend = &l->parent;
	opts.backend_ctx = l;
	opts.name = "loop";
	opts.regions = l->regions;
	opts.region_count = 1;
	opts.log = loop_bus_log;
	opts.log_ctx = l;
	opts.removed = removed;
	opts.removed_ctx = l;
	must_eq(vmbus_bus_create(&opts, &l->bus), 0);
}

/* limits: of the two machines; NULL: defaults. */
static inline struct loop *loop_new(const struct vmbus_srv_opts *srv,
				    const struct vmbus_cli_opts *cli)
{
	struct vmbus_bus_opts opts = { .struct_bytes = sizeof(opts) };
	struct loop *l = calloc(1, sizeof(*l));

	must(l != NULL);
	child_init(&l->mem, LOOP_PAGES);
	l->now = 1000;
	l->region.bytes = LOOP_PAGES * CHILD_PAGE;
	l->region.host = l->mem.host;
	l->region.fd = l->mem.fd;
	l->region.access = VMBUS_READ_WRITE;
	l->regions[0] = &l->region;
	loop_backends(l);
	opts.backend = &l->parent;
	opts.backend_ctx = l;
	opts.name = "loop";
	opts.regions = l->regions;
	opts.region_count = 1;
	if (srv)
		opts.limits = *srv;
	opts.log = loop_bus_log;
	opts.log_ctx = l;
	opts.tl_connect = loop_tl_connect;
	opts.events_ctx = l;
	must_eq(vmbus_bus_create(&opts, &l->bus), 0);
	loop_new_guest(l, cli);
	return l;
}

/* Let both sides run until neither has anything to do. */
static inline void loop_settle(struct loop *l)
{
	uint32_t i, left;
	int done;

	for (i = 0; i < 1000000; i++) {
		done = vmbus_guest_dispatch(l->guest, LOOP_BUDGET);
		must(done >= 0);
		left = loop_bus_turn(l);
		if (vmbus_guest_timeout(l->guest) != UINT64_MAX) {
			l->now += 1000000;
			left++;
		}
		if (done == 0 && left == 0)
			return;
	}
	ck_abort_msg("neither side comes to rest");
}

static inline void loop_connect(struct loop *l)
{
	must_eq(vmbus_guest_connect(l->guest), 0);
	must_eq(vmbus_guest_wait(l->guest, VMBUS_GUEST_CONNECTED, LOOP_SECOND), 0);
}

/* The end of the guest, as when its process ends: the bus is told afterwards. */
static inline void loop_end_guest(struct loop *l)
{
	vmbus_guest_destroy(l->guest);
	l->guest = NULL;
	must_eq(l->offered, l->gone);
	must_eq(l->mem.private_pages, 0);
	must_eq(l->mem.mirrors, 0);
	vmbus_bus_reset(l->bus);
	l->slot_full = false;
	while (loop_bus_turn(l))
		;
}

static inline void loop_free(struct loop *l)
{
	if (l->guest)
		loop_end_guest(l);
	vmbus_bus_destroy(l->bus);
	must_eq(vmbus_region_pins(&l->region), 0);
	child_fini(&l->mem);
	free(l);
}

#endif
