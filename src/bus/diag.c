/* SPDX-License-Identifier: MIT */
/*
 * Snapshots for people: how a bus and its channels are now, since when, and who waits for whom.
 * Whatever the child wrote is loaded once; nothing is changed, locked or waited for.
 */
#include "bus/bus.h"

#include <poll.h>
#include <string.h>

static const char *const step_names[VMBUS_STEPS] = {
	[VMBUS_STEP_OFFERED] = "offered",   [VMBUS_STEP_TOLD] = "told",
	[VMBUS_STEP_GPADL] = "page list",   [VMBUS_STEP_OPEN] = "open",
	[VMBUS_STEP_OPENED] = "opened",	    [VMBUS_STEP_REFUSED] = "refused",
	[VMBUS_STEP_ACCEPTED] = "accepted", [VMBUS_STEP_CLOSE] = "close",
	[VMBUS_STEP_CLOSED] = "closed",	    [VMBUS_STEP_FAULT] = "fault",
	[VMBUS_STEP_RESCINDED] = "rescind", [VMBUS_STEP_MESSAGE] = "message",
};

const char *vmbus_step_name(uint32_t step)
{
	return step < VMBUS_STEPS ? step_names[step] : "?";
}

void vmbus_bus_diag(struct vmbus_bus *bus, struct vmbus_bus_diag *diag)
{
	const struct vmbus__bus_times *const times = &bus->times;

	*diag = (struct vmbus_bus_diag){
		.name = bus->name,
		.now = vmbus__now(),
		.created = times->created,
		.contact = times->contact,
		.offers = times->offers,
		.message = times->message,
		.refused = times->refused,
		.version = vmbus_srv_version(bus->srv),
	};
	vmbus_bus_stats(bus, &diag->stats);
	vmbus_srv_last_refusal(bus->srv, &diag->refusal);
	diag->channels = (uint32_t)diag->stats.srv.channels;
	if (bus->sending && bus->blocked) {
		diag->waits |= VMBUS_WAIT_SLOT;
		diag->slot_since = times->slot_since;
		diag->slot_message = bus->out.ctl_type;
	}
	if (!diag->version)
		diag->waits |= VMBUS_WAIT_CONTACT;
	if (bus->held)
		diag->waits |= VMBUS_WAIT_REPLIES;
	if (bus->waiting)
		diag->waits |= VMBUS_WAIT_LISTS;
}

/* Whether a thread of the embedder's was woken and has not come: nothing is taken by the look. */
static bool woken(const struct vmbus_chan *chan)
{
	struct pollfd fd = { .fd = vmbus_chan_fd(chan), .events = POLLIN };

	return chan->own_fd && poll(&fd, 1, 0) == 1 && (fd.revents & POLLIN);
}

static uint32_t waits_of(const struct vmbus_chan *chan, uint32_t state)
{
	uint32_t waits = 0;

	if (chan->local == VMBUS__OPENING)
		waits |= VMBUS_WAIT_DEVICE_OPEN;
	if (chan->local == VMBUS__CLOSING &&
	    (~chan->got & (VMBUS__ANS_CLOSED | VMBUS__ANS_DONE)) != 0)
		waits |= VMBUS_WAIT_DEVICE_CLOSE;
	if (chan->local == VMBUS__CLOSING && chan->waits)
		waits |= VMBUS_WAIT_PINS;
	if (state == VMBUS_SRV_REVOKED || state == VMBUS_SRV_REVOKED_OPENING ||
	    state == VMBUS_SRV_REVOKED_CLOSING)
		waits |= VMBUS_WAIT_RELEASE;
	return waits;
}

/* What was seen of the child on the rings; the first look that sees something is the time. */
static void accepted(struct vmbus_chan *chan, struct vmbus_chan_diag *diag)
{
	uint64_t at = vmbus__ld64_relaxed(&chan->accepted_at); /* COUNT.read */

	if (!at && chan->local == VMBUS__OPEN &&
	    (diag->info.recv.packets || diag->from_child.used ||
	     diag->to_child.read_index != chan->times.read_index)) {
		at = diag->now;
		vmbus__st64_relaxed(&chan->accepted_at, at); /* COUNT.show */
	}
	diag->steps[VMBUS_STEP_ACCEPTED] = at;
}

int vmbus__diag_words(const struct vmbus_chan *chan, uint32_t which, struct vmbus_ring_words *words)
{
	const struct vmbus__rings *const r = &chan->rings;
	const uint32_t first = which ? r->down_page : 0;
	const uint32_t end = which ? r->total : r->down_page;
	struct vmbus_ring_mem_opts opts = { .struct_bytes = sizeof(opts),
					    .window = VMBUS_RING_SCATTERED };
	struct vmbus_ring_mem mem = r->mem[which];

	memset(words, 0, sizeof(*words));
	if (!r->mapped || end < first + 2u)
		return VMBUS_E_STATE;
	if (chan->foreign) {
		opts.size = (end - first - 1u) * VMBUS_PAGE_BYTES;
		opts.ctl = r->list[first];
		opts.pages = (void *const *)&r->list[first + 1u];
		if (vmbus_ring_mem_init(&mem, &opts))
			return VMBUS_E_STATE;
	}
	return vmbus_ring_look(&mem, words);
}

static void fill_rings(struct vmbus_chan *chan, struct vmbus_chan_diag *diag)
{
	if (!chan->rings.mapped)
		return;
	diag->from_child_ok = vmbus__diag_words(chan, 0, &diag->from_child) == 0;
	diag->to_child_ok = vmbus__diag_words(chan, 1, &diag->to_child) == 0;
	if (!chan->own_fd && chan->live) { /* else they are another thread's */
		diag->armed = chan->armed;
		diag->need = chan->need;
		if (chan->paused)
			diag->waits |= VMBUS_WAIT_PAUSED;
	}
	if (diag->need)
		diag->waits |= VMBUS_WAIT_ROOM;
	if (woken(chan))
		diag->waits |= VMBUS_WAIT_THREAD;
}

static uint64_t latest(const uint64_t steps[VMBUS_STEPS])
{
	uint64_t at = 0;
	uint32_t i;

	for (i = 0; i < VMBUS_STEPS; i++)
		if (i != VMBUS_STEP_ACCEPTED && steps[i] > at)
			at = steps[i];
	return at;
}

static void fill(struct vmbus_chan *chan, const struct vmbus_srv_info *machine,
		 struct vmbus_chan_diag *diag)
{
	*diag = (struct vmbus_chan_diag){
		.now = vmbus__now(),
		.state = machine->state,
		.waits = waits_of(chan, machine->state),
		.gpadls = machine->gpadls,
		.pins = (uint32_t)vmbus_region_pins(&chan->sgls),
		.owner = chan->times.owner,
		.own_fd = chan->own_fd,
		.foreign = chan->foreign,
		.bound = chan->bound_fd >= 0,
		.signals = vmbus__ld64_relaxed(&chan->signals) - /* COUNT.read */
			   chan->times.signals_before,
		.signal_at = vmbus__ld64_relaxed(&chan->signal_at), /* COUNT.read */
		.raised = vmbus__ld64_relaxed(&chan->raised),	    /* COUNT.read */
		.raised_at = vmbus__ld64_relaxed(&chan->raised_at), /* COUNT.read */
		.refused = chan->times.refused,
		.under_way = vmbus__ld32_relaxed(&chan->under_way),	     /* COUNT.read */
		.under_way_since = vmbus__ld64_relaxed(&chan->under_way_at), /* COUNT.read */
	};
	if (!diag->under_way)
		diag->under_way_since = 0;
	vmbus_chan_info(chan, &diag->info);
	diag->info.state = vmbus_srv_state_name(machine->state);
	diag->info.relid = machine->relid ? machine->relid : chan->relid;
	memcpy(diag->steps, chan->times.steps, sizeof(diag->steps));
	diag->since = latest(diag->steps);
	fill_rings(chan, diag);
	accepted(chan, diag);
}

int vmbus_bus_diag_next(struct vmbus_bus *bus, uint32_t *at, struct vmbus_chan_diag *diag)
{
	for (; *at < bus->chans_max; ++*at) {
		struct vmbus_chan *const chan = vmbus__chan_at(bus, *at);
		struct vmbus_srv_info machine;

		if (!chan || vmbus_srv_info(bus->srv, *at, &machine) != 1)
			continue;
		fill(chan, &machine, diag);
		++*at;
		return 1;
	}
	return 0;
}
