/* SPDX-License-Identifier: MIT */
/*
 * The parent's end of the integration components: offers, openings and closings, and the one timer
 * of a child's components.  What is said on the channels is in vsp_msg.c.
 *
 * Invariant: the timer is set exactly while a component has something due.
 */
#include "ic_vsp/vsp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/vsp.h>
#include <vmbus/watch.h>

#define ALL (VMBUS_IC_SHUTDOWN | VMBUS_IC_TIMESYNC | VMBUS_IC_HEARTBEAT)
#define LOST_AFTER 5u /* defaults of struct vmbus_ic_opts */
#define HEARTBEAT_NS 2000000000ull
#define SAMPLE_NS 5000000000ull
#define PERIOD_NS_MIN 1000000ull
#define PERIOD_NS_MAX (UINT64_MAX / 4u)
#define PAYLOAD_MAX 4096u /* of an answer */
#define MESSAGE_MODE 4u	  /* of the pipe, in the offer's user data, [IC-OFFER] */

uint64_t vmbus__ic_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void vmbus__ic_tell(struct vmbus__ic_part *part, enum vmbus_ic_event event, uint64_t value)
{
	const struct vmbus_ic_opts *const opts = &part->ic->opts;

	if (opts->event)
		opts->event(opts->ctx, part->component, event, value);
}

/* ---- the timer ---- */

static void set_timer(struct vmbus_ic *ic, uint64_t at)
{
	const struct itimerspec when = {
		.it_value = { .tv_sec = (time_t)(at / 1000000000u),
			      .tv_nsec = (long)(at % 1000000000u) },
	};

	ic->timer_at = at;
	(void)timerfd_settime(ic->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void vmbus__ic_want(struct vmbus_ic *ic, uint64_t at)
{
	if (at && (ic->timer_at == 0 || at < ic->timer_at))
		set_timer(ic, at);
}

/* The timer as the components have it now. */
static void retime(struct vmbus_ic *ic)
{
	uint64_t at = 0;
	uint32_t i;

	for (i = 0; i < VMBUS__IC_PARTS; i++)
		if (ic->parts[i].due && (at == 0 || ic->parts[i].due < at))
			at = ic->parts[i].due;
	if (at != ic->timer_at)
		set_timer(ic, at);
}

int vmbus_ic_fd(const struct vmbus_ic *ic)
{
	return ic->timer_fd;
}

int vmbus_ic_dispatch(struct vmbus_ic *ic)
{
	const uint64_t now = vmbus__ic_now();
	uint64_t count;
	int sent = 0;
	uint32_t i;

	if (ic->timer_at == 0 || ic->timer_at > now)
		return 0;
	(void)!read(ic->timer_fd, &count, sizeof(count));
	for (i = 0; i < VMBUS__IC_PARTS; i++)
		sent += (int)vmbus__ic_due(&ic->parts[i], now);
	retime(ic);
	return sent;
}

/* ---- the channels ---- */

static int part_open(struct vmbus_chan *chan, void *ctx)
{
	struct vmbus__ic_part *const part = ctx;
	int err;

	if (vmbus_chan_sub_index(chan)) /* never offered: a saved state named it */
		return VMBUS_E_RANGE;
	part->chan = chan;
	part->waits = false;
	part->synced = false;
	part->resync = false;
	part->missing = 0;
	part->lost = false;
	err = vmbus__ic_ask(part);
	if (!err || err == VMBUS_E_FULL) /* a child may open with a ring that has no room */
		return 0;
	part->chan = NULL;
	part->state = VMBUS__IC_CLOSED;
	return err;
}

static void part_packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	vmbus__ic_answer(vmbus_chan_ctx(chan), pkt);
}

static void part_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, part_packet);
}

static void part_writable(struct vmbus_chan *chan)
{
	struct vmbus__ic_part *const part = vmbus_chan_ctx(chan);

	if (part->state == VMBUS__IC_TO_ASK)
		(void)vmbus__ic_ask(part);
}

static int part_close(struct vmbus_chan *chan)
{
	struct vmbus__ic_part *const part = vmbus_chan_ctx(chan);
	struct vmbus_ic *const ic = part->ic;
	const bool was_ready = part->state == VMBUS__IC_IN_USE;

	part->state = VMBUS__IC_CLOSED;
	part->chan = NULL;
	part->due = 0;
	ic->info.ready &= ~part->component;
	if (part->component == VMBUS_IC_HEARTBEAT)
		ic->info.alive = false;
	retime(ic);
	if (was_ready)
		vmbus__ic_tell(part, VMBUS_IC_GONE, 0);
	return 0;
}

/* One for each component, in the order of their bits, [IC-OFFER]. */
#define PART_VSP(text, class)                                                                      \
	{                                                                                          \
		.struct_bytes = sizeof(struct vmbus_vsp), .name = (text), .class_id = class,       \
		.offer_flags = VMBUS_OFFER_ENUMERATE | VMBUS_OFFER_PIPE,                           \
		.max_payload = PAYLOAD_MAX, .flags = VMBUS_VSP_READ_WHILE_FULL, .open = part_open, \
		.packets = part_packets, .writable = part_writable, .close = part_close,           \
		.save = vmbus__ic_save, .restore = vmbus__ic_restore                               \
	}

static const struct vmbus_vsp part_vsps[VMBUS__IC_PARTS] = {
	PART_VSP("shutdown", VMBUS_IC_SHUTDOWN_CLASS),
	PART_VSP("time sync", VMBUS_IC_TIMESYNC_CLASS),
	PART_VSP("heartbeat", VMBUS_IC_HEARTBEAT_CLASS),
};

/* As Hyper-V has them. */
static const struct vmbus_guid instances[VMBUS__IC_PARTS] = {
	VMBUS_GUID(0xb6650ff7, 0x33bc, 0x4840, 0x80, 0x48, 0xe0, 0x67, 0x67, 0x86, 0xf3, 0x93),
	VMBUS_GUID(0x2dd1ce17, 0x079e, 0x403c, 0xb3, 0x52, 0xa1, 0x92, 0x1e, 0xe2, 0x07, 0xee),
	VMBUS_GUID(0xfd149e91, 0x82e0, 0x4a7d, 0xaf, 0xa6, 0x2a, 0x41, 0x66, 0xcb, 0xd7, 0xc0),
};

static int offer(struct vmbus_ic *ic, uint32_t i)
{
	struct vmbus_offer_opts opts = {
		.struct_bytes = sizeof(opts),
		.instance_id = instances[i],
		.user = { MESSAGE_MODE },
	};
	struct vmbus__ic_part *const part = &ic->parts[i];

	part->ic = ic;
	part->component = 1u << i;
	if (!(ic->opts.components & part->component))
		return 0;
	return vmbus_bus_offer(ic->bus, &part_vsps[i], part, &opts, &part->offered);
}

/* ---- life ---- */

static int take_opts(struct vmbus_ic_opts *to, const struct vmbus_ic_opts *from)
{
	*to = (struct vmbus_ic_opts){ .struct_bytes = sizeof(*to) };
	if (from && from->struct_bytes < sizeof(*from))
		return VMBUS_E_INVAL;
	if (from)
		*to = *from;
	if (!to->components)
		to->components = ALL;
	if (!to->lost_after)
		to->lost_after = LOST_AFTER;
	if (!to->heartbeat_ns)
		to->heartbeat_ns = HEARTBEAT_NS;
	if (!to->sample_ns)
		to->sample_ns = SAMPLE_NS;
	if (to->components & ~ALL || to->heartbeat_ns < PERIOD_NS_MIN ||
	    to->heartbeat_ns > PERIOD_NS_MAX || to->sample_ns < PERIOD_NS_MIN ||
	    to->sample_ns > PERIOD_NS_MAX)
		return VMBUS_E_RANGE;
	return 0;
}

int vmbus_ic_create(struct vmbus_bus *bus, const struct vmbus_ic_opts *opts, struct vmbus_ic **made)
{
	struct vmbus_ic_opts ours;
	int err = take_opts(&ours, opts);
	struct vmbus_ic *ic;
	uint32_t i;

	if (err)
		return err;
	ic = calloc(1, sizeof(*ic));
	if (!ic)
		return VMBUS_E_NOMEM;
	ic->bus = bus;
	ic->opts = ours;
	ic->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (ic->timer_fd < 0) {
		free(ic);
		return VMBUS_E_SYSTEM;
	}
	for (i = 0; i < VMBUS__IC_PARTS && !err; i++)
		err = offer(ic, i);
	if (!err) {
		*made = ic;
		return 0;
	}
	/* Withdrawn before the child can have opened them, so no callback comes with this context. */
	for (i = 0; i < VMBUS__IC_PARTS; i++)
		if (ic->parts[i].offered)
			(void)vmbus_bus_revoke(ic->parts[i].offered);
	vmbus_ic_destroy(ic);
	return err;
}

void vmbus_ic_destroy(struct vmbus_ic *ic)
{
	if (!ic)
		return;
	(void)close(ic->timer_fd);
	free(ic);
}

/* ---- calls of the embedder's ---- */

static bool is_text(const char *text)
{
	size_t i;

	for (i = 0; text[i]; i++)
		if (i == VMBUS_IC_TEXT_MAX || (uint8_t)text[i] > 0x7F)
			return false;
	return true;
}

int vmbus_ic_shutdown(struct vmbus_ic *ic, uint32_t flags, uint32_t timeout_s, const char *text)
{
	struct vmbus__ic_part *const part = &ic->parts[0];
	const uint32_t how = flags & (VMBUS_IC_RESTART | VMBUS_IC_HIBERNATE);

	if (flags & ~(VMBUS_IC_FORCE | VMBUS_IC_RESTART | VMBUS_IC_HIBERNATE) ||
	    how == (VMBUS_IC_RESTART | VMBUS_IC_HIBERNATE) || (text && !is_text(text)))
		return VMBUS_E_RANGE;
	if (part->state != VMBUS__IC_IN_USE || part->waits)
		return VMBUS_E_STATE;
	return vmbus__ic_send_shutdown(part, flags, timeout_s, text);
}

int vmbus_ic_sync(struct vmbus_ic *ic)
{
	struct vmbus__ic_part *const part = &ic->parts[1];

	if (part->state != VMBUS__IC_IN_USE)
		return VMBUS_E_STATE;
	if (part->waits) {
		part->resync = true;
		return 0;
	}
	part->synced = false;
	part->due = vmbus__ic_now();
	(void)vmbus__ic_due(part, part->due);
	vmbus__ic_want(ic, part->due);
	return 0;
}

void vmbus_ic_info(const struct vmbus_ic *ic, struct vmbus_ic_info *info)
{
	*info = ic->info;
}
