/* SPDX-License-Identifier: MIT */
/*
 * Integration components without the library's other end: a child that keeps each message that comes
 * as bytes and answers by hand, and the layouts of vmbus_wire(7) written down once more.
 */
#ifndef TESTS_DEVICES_IC_H
#define TESTS_DEVICES_IC_H

#include "loop.h"

#include <poll.h>

#include <vmbus/ic.h>

#define IC_SHUTDOWN_WHOLE 2088u /* [IC-SHUTDOWN]: 8 + 20 + 12 + 2048 */
#define IC_KEPT 64u

static const struct vmbus_guid ic_class[3] = { VMBUS_IC_SHUTDOWN_CLASS, VMBUS_IC_TIMESYNC_CLASS,
					       VMBUS_IC_HEARTBEAT_CLASS };

static inline uint64_t ic_get(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static inline void ic_put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		*p++ = (uint8_t)v;
}

/* ---- events of the parent's end ---- */

static struct {
	uint32_t count;
	struct {
		uint32_t component;
		enum vmbus_ic_event event;
		uint64_t value;
	} list[256];
} ic_events;

static inline void ic_event(void *ctx, uint32_t component, enum vmbus_ic_event event,
			    uint64_t value)
{
	(void)ctx;
	must(ic_events.count < 256);
	ic_events.list[ic_events.count].component = component;
	ic_events.list[ic_events.count].event = event;
	ic_events.list[ic_events.count++].value = value;
}

static inline uint32_t ic_count(uint32_t component, enum vmbus_ic_event event)
{
	uint32_t i, n = 0;

	for (i = 0; i < ic_events.count; i++)
		n += ic_events.list[i].component == component && ic_events.list[i].event == event;
	return n;
}

static inline uint64_t ic_value(uint32_t component, enum vmbus_ic_event event)
{
	uint32_t i;

	for (i = ic_events.count; i--;)
		if (ic_events.list[i].component == component && ic_events.list[i].event == event)
			return ic_events.list[i].value;
	ck_abort_msg("no event %d of component %u (%s)", event, component, vmbus_test_where);
	return 0;
}

/* ---- the parent ---- */

#define IC_WALL 133000000000000000ull

static inline uint64_t ic_wall(void *ctx)
{
	(void)ctx;
	return IC_WALL;
}

/* Periods so long that nothing is due by itself, unless a test sets others. */
static inline struct vmbus_ic_opts ic_opts(void)
{
	struct vmbus_ic_opts opts = { .struct_bytes = sizeof(opts) };

	opts.heartbeat_ns = opts.sample_ns = 1000 * LOOP_SECOND;
	opts.event = ic_event;
	opts.wall_time = ic_wall;
	return opts;
}

static inline struct vmbus_ic *ic_start(struct loop *l, const struct vmbus_ic_opts *opts)
{
	struct vmbus_ic *ic;

	memset(&ic_events, 0, sizeof(ic_events));
	must_eq(vmbus_ic_create(l->bus, opts, &ic), 0);
	loop_connect(l);
	return ic;
}

static inline void ic_end(struct loop *l, struct vmbus_ic *ic)
{
	loop_free(l);
	vmbus_ic_destroy(ic);
}

/* Wait until the descriptor is readable, and dispatch.  Returns the messages sent. */
static inline int ic_turn(struct vmbus_ic *ic)
{
	struct pollfd p = { .fd = vmbus_ic_fd(ic), .events = POLLIN };

	must_eq(poll(&p, 1, 10000), 1);
	return vmbus_ic_dispatch(ic);
}

static inline bool ic_readable(const struct vmbus_ic *ic)
{
	struct pollfd p = { .fd = vmbus_ic_fd(ic), .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* ---- a child by hand ---- */

static struct ic_kept {
	struct vmbus_vsc *vsc;
	uint32_t count;	 /* messages that came */
	uint32_t closed; /* times that the channel ended */
	uint32_t len;	 /* of the last one */
	uint8_t last[4096];
} ic_kept[3];

static inline void ic_packets(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	struct ic_kept *k = vmbus_vsc_priv(vsc);

	k->count += n;
	k->len = pkt[n - 1].len;
	must(k->len <= sizeof(k->last));
	memcpy(k->last, pkt[n - 1].payload, k->len);
	must_eq(pkt[n - 1].type, VMBUS_PKT_INBAND);
	must_eq(pkt[n - 1].flags, 0);
}

static inline void ic_closed(struct vmbus_vsc *vsc)
{
	((struct ic_kept *)vmbus_vsc_priv(vsc))->closed++;
}

/* Open component n: 0 shutdown, 1 time, 2 heartbeat. */
static inline struct ic_kept *ic_open(struct loop *l, uint32_t n)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct ic_kept *k = &ic_kept[n];

	memset(k, 0, sizeof(*k));
	opts.send_bytes = opts.recv_bytes = 12288;
	opts.packets = ic_packets;
	opts.closed = ic_closed;
	opts.priv = k;
	k->vsc = vmbus_vsc_find(l->guest, &ic_class[n], 0);
	must(k->vsc != NULL);
	must_eq(vmbus_vsc_open(k->vsc, &opts), 0);
	loop_settle(l);
	must_eq(vmbus_vsc_state(k->vsc), VMBUS_VSC_OPEN);
	return k;
}

static inline void ic_send(struct loop *l, struct ic_kept *k, const void *data, uint32_t len)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data, .len = len };

	must_eq(vmbus_vsc_send(k->vsc, &msg, 1), 1);
	loop_settle(l);
}

/* What a Linux guest does: edit what came, and send it back.  [IC-MESSAGE] */
static inline void ic_edit(struct ic_kept *k, uint32_t status)
{
	ic_put(k->last + 20, 4, status);
	k->last[25] = 5; /* transaction, response */
}

static inline void ic_agree(struct loop *l, struct ic_kept *k, uint32_t message)
{
	must_eq(ic_get(k->last + 12, 2), 0);
	ic_edit(k, 0);
	ic_put(k->last + 18, 2, 16);
	ic_put(k->last + 28, 2, 1);
	ic_put(k->last + 30, 2, 1);
	ic_put(k->last + 36, 2, 3);
	ic_put(k->last + 38, 2, 0);
	ic_put(k->last + 40, 2, message >> 16);
	ic_put(k->last + 42, 2, message & 0xFFFF);
	ic_send(l, k, k->last, k->len);
}

static inline void ic_answer(struct loop *l, struct ic_kept *k, uint32_t status)
{
	ic_edit(k, status);
	ic_send(l, k, k->last, k->len);
}

#endif
