/* SPDX-License-Identifier: MIT */
/*
 * Steps of channels and of the bus, as they happen: a time for the snapshots, an event for the
 * record.
 */
#include "bus/bus.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <vmbus/watch.h>

#include "base/probe.h"

#define OFFER_RELID_AT 184u /* [CTL-OFFER] */
#define OTHERS_RELID_AT 8u

static uint32_t u32_at(const uint8_t *bytes, uint32_t len, uint32_t at)
{
	uint32_t v = 0, i;

	for (i = 0; i < 4 && len >= at + 4u; i++)
		v |= (uint32_t)bytes[at + i] << (8 * i);
	return v;
}

/* The relid that a message names, of whatever it claims to be; 0: none.  Only for people. */
static uint32_t relid_in(const uint8_t *bytes, uint32_t len)
{
	switch (u32_at(bytes, len, 0)) {
	case VMBUS_CTL_OFFER:
		return u32_at(bytes, len, OFFER_RELID_AT);
	case VMBUS_CTL_RESCIND:
	case VMBUS_CTL_OPEN:
	case VMBUS_CTL_OPEN_RESULT:
	case VMBUS_CTL_CLOSE:
	case VMBUS_CTL_GPADL_HEADER:
	case VMBUS_CTL_GPADL_CREATED:
	case VMBUS_CTL_GPADL_TEARDOWN:
	case VMBUS_CTL_RELID_RELEASED:
	case VMBUS_CTL_MODIFY:
	case VMBUS_CTL_MODIFY_RESPONSE:
		return u32_at(bytes, len, OTHERS_RELID_AT);
	default:
		return 0;
	}
}

/* The channel of a relid, which is that of its slot; NULL: there is none. */
static struct vmbus_chan *chan_of_relid(struct vmbus_bus *bus, uint32_t relid)
{
	return relid ? vmbus__chan_at(bus, relid - 1u) : NULL;
}

static void stamp(struct vmbus_bus *bus, uint32_t relid, enum vmbus_step step, uint64_t now)
{
	struct vmbus_chan *const chan = chan_of_relid(bus, relid);

	if (chan)
		chan->times.steps[step] = now;
}

void vmbus__note_message(struct vmbus_bus *bus, const struct vmbus__message *message, int err)
{
	const uint64_t now = vmbus__now();
	const struct vmbus_record_note note = {
		.kind = VMBUS_RECORD_IN,
		.relid = relid_in(message->payload, message->bytes),
		.a = u32_at(message->payload, message->bytes, 0),
		.b = (uint64_t)(int64_t)err,
	};

	bus->times.message = now;
	if (note.a == VMBUS_CTL_CONTACT)
		bus->times.contact = now;
	if (note.a == VMBUS_CTL_REQUEST_OFFERS)
		bus->times.offers = now;
	stamp(bus, note.relid, VMBUS_STEP_MESSAGE, now);
	vmbus__record(bus, &note, now);
}

/* What the machine has refused since the last time. */
void vmbus__note_refusal(struct vmbus_bus *bus)
{
	struct vmbus_srv_refusal why;
	struct vmbus_record_note note;
	struct vmbus_chan *chan;

	vmbus_srv_last_refusal(bus->srv, &why);
	if (why.count == bus->times.refusals)
		return;
	bus->times.refusals = why.count;
	bus->times.refused = vmbus__now();
	note = (struct vmbus_record_note){ .kind = VMBUS_RECORD_REFUSED,
					   .relid = why.relid,
					   .a = why.ctl_type,
					   .b = why.value,
					   .text = why.what };
	vmbus__record(bus, &note, bus->times.refused);
	chan = chan_of_relid(bus, why.relid);
	if (!chan)
		return;
	(void)snprintf(chan->times.refused, sizeof(chan->times.refused),
		       "%s: %s: value %llu, limit %llu", vmbus_ctl_type_name(why.ctl_type),
		       why.what, (unsigned long long)why.value, (unsigned long long)why.limit);
	if (why.ctl_type == VMBUS_CTL_OPEN || why.ctl_type == VMBUS_CTL_GPADL_HEADER)
		chan->times.steps[VMBUS_STEP_REFUSED] = bus->times.refused;
}

/* A local action is about to be carried out. */
void vmbus__note_action(struct vmbus_bus *bus, const struct vmbus_srv_action *a)
{
	const uint64_t now = vmbus__now();
	struct vmbus_record_note note = { .relid = a->relid };

	switch (a->act) {
	case VMBUS_SRV_CONNECTED:
		note.kind = VMBUS_RECORD_CONNECTED;
		note.a = a->version;
		note.b = a->features;
		break;
	case VMBUS_SRV_DISCONNECTED:
		note.kind = VMBUS_RECORD_DISCONNECTED;
		bus->times.contact = bus->times.offers = 0;
		break;
	case VMBUS_SRV_OPEN:
		note.kind = VMBUS_RECORD_OPEN;
		note.a = a->gpadl;
		note.b = a->downstream_page;
		stamp(bus, a->relid, VMBUS_STEP_OPEN, now);
		break;
	case VMBUS_SRV_CLOSE:
		note.kind = VMBUS_RECORD_CLOSE;
		stamp(bus, a->relid, VMBUS_STEP_CLOSE, now);
		break;
	case VMBUS_SRV_GPADL_DOWN:
		note.kind = VMBUS_RECORD_GPADL_DOWN;
		note.a = a->gpadl;
		break;
	case VMBUS_SRV_MODIFY:
		note.kind = VMBUS_RECORD_MODIFY;
		note.a = a->target_vp;
		break;
	case VMBUS_SRV_RELEASED:
		note.kind = VMBUS_RECORD_RELEASED;
		break;
	default: /* a page list is told with its result */
		return;
	}
	vmbus__record(bus, &note, now);
}

/* The message that is due was posted, dropped, or found its slot taken. */
void vmbus__note_posted(struct vmbus_bus *bus, int err)
{
	const struct vmbus_srv_action *const out = &bus->out;
	const uint64_t now = vmbus__now();
	struct vmbus_record_note note = {
		.kind = VMBUS_RECORD_OUT,
		.relid = relid_in(out->bytes, out->len),
		.a = out->ctl_type,
		.b = out->target_vp,
	};

	if (err == VMBUS_E_AGAIN) {
		note.kind = VMBUS_RECORD_BLOCKED;
		if (bus->times.slot_since)
			return; /* told already */
		bus->times.slot_since = now;
	} else {
		bus->times.slot_since = 0;
	}
	if (err && err != VMBUS_E_AGAIN) {
		note.kind = VMBUS_RECORD_DROPPED;
		note.b = (uint64_t)(int64_t)err;
	}
	if (!err && note.a == VMBUS_CTL_OFFER)
		stamp(bus, note.relid, VMBUS_STEP_TOLD, now);
	if (!err && note.a == VMBUS_CTL_RESCIND)
		stamp(bus, note.relid, VMBUS_STEP_RESCINDED, now);
	vmbus__record(bus, &note, now);
}

void vmbus__note_reset(struct vmbus_bus *bus)
{
	const struct vmbus_record_note note = { .kind = VMBUS_RECORD_RESET };

	bus->times.slot_since = 0;
	vmbus__record(bus, &note, vmbus__now());
}

/* Why a page list was refused, for people. */
const char *vmbus__list_refusal(int err)
{
	return err == VMBUS_E_PEER ? "a page is no memory of the child's" : vmbus_err_name(err);
}

void vmbus__note_gpadl(struct vmbus_chan *chan, const struct vmbus_srv_action *a, int err)
{
	const uint64_t now = vmbus__now();
	const struct vmbus_record_note note = { .kind = VMBUS_RECORD_GPADL,
						.relid = a->relid,
						.a = a->gpadl,
						.b = (uint64_t)(int64_t)err };

	if (!chan)
		return;
	chan->times.steps[err ? VMBUS_STEP_REFUSED : VMBUS_STEP_GPADL] = now;
	if (err)
		(void)snprintf(chan->times.refused, sizeof(chan->times.refused), "page list %u: %s",
			       a->gpadl, vmbus__list_refusal(err));
	vmbus__record(chan->bus, &note, now);
}

void vmbus__note_not_opened(struct vmbus_chan *chan, const struct vmbus__refusal *why, int err)
{
	const uint64_t now = vmbus__now();
	const struct vmbus_record_note note = { .kind = VMBUS_RECORD_NOT_OPENED,
						.relid = chan->relid,
						.a = why->value,
						.b = why->limit,
						.text = why->step };

	chan->times.steps[VMBUS_STEP_REFUSED] = now;
	if (why->limit)
		(void)snprintf(chan->times.refused, sizeof(chan->times.refused),
			       "open: %s is %llu, limit %llu", why->step,
			       (unsigned long long)why->value, (unsigned long long)why->limit);
	else
		(void)snprintf(chan->times.refused, sizeof(chan->times.refused), "open: %s: %s",
			       why->step, vmbus_err_name(err));
	vmbus__record(chan->bus, &note, now);
}

void vmbus__note_opened(struct vmbus_chan *chan, int err)
{
	const uint64_t now = vmbus__now();
	const struct vmbus_record_note note = { .kind = VMBUS_RECORD_OPENED,
						.relid = chan->relid,
						.a = (uint64_t)(int64_t)err,
						.text = err ? chan->why : NULL };
	struct vmbus_ring_words words;

	VMBUS_PROBE3(chan_opened, chan, chan->relid, err);
	chan->times.steps[err ? VMBUS_STEP_REFUSED : VMBUS_STEP_OPENED] = now;
	chan->times.refused[0] = 0;
	if (err)
		(void)snprintf(chan->times.refused, sizeof(chan->times.refused),
			       "the device refused: %s%s%.80s", vmbus_err_name(err),
			       chan->why[0] ? ": " : "", chan->why);
	vmbus__st64_relaxed(&chan->accepted_at, 0); /* COUNT.show */
	if (!err && vmbus__diag_words(chan, 1, &words) == 0)
		chan->times.read_index = words.read_index; /* the child has not read yet */
	vmbus__record(chan->bus, &note, now);
}

void vmbus__note_fault(struct vmbus_chan *chan)
{
	const uint64_t now = vmbus__now();
	const struct vmbus_record_note note = { .kind = VMBUS_RECORD_FAULT,
						.relid = chan->relid,
						.a = chan->fault.field,
						.b = chan->fault.value,
						.text = chan->why };

	chan->times.steps[VMBUS_STEP_FAULT] = now;
	(void)snprintf(chan->times.refused, sizeof(chan->times.refused), "%.119s", chan->why);
	vmbus__record(chan->bus, &note, now);
}

/* Who serves a channel of another process, as those who know tell it by an event. */
void vmbus__note_owner(struct vmbus_bus *bus, const struct vmbus_record_note *note)
{
	struct vmbus_chan *const chan = chan_of_relid(bus, note->relid);

	if (!chan)
		return;
	if (note->kind == VMBUS_RECORD_PROVIDER || note->kind == VMBUS_RECORD_PROVIDER_AGAIN)
		chan->times.owner = (uint32_t)note->a;
	if (note->kind == VMBUS_RECORD_PROVIDER_GONE)
		chan->times.owner = 0;
}

void vmbus__note_step(struct vmbus_chan *chan, enum vmbus_step step, uint32_t kind)
{
	const uint64_t now = vmbus__now();
	const struct vmbus_record_note note = { .kind = kind,
						.relid =
							chan->relid ? chan->relid : chan->slot + 1u,
						.text = chan->vsp->name };

	chan->times.steps[step] = now;
	if (step == VMBUS_STEP_OFFERED)
		chan->times.signals_before = vmbus__ld64_relaxed(&chan->signals); /* COUNT.read */
	vmbus__record(chan->bus, &note, now);
}

/* The clock that costs next to nothing; its steps are those of the kernel's timer. */
static uint64_t coarse(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void vmbus__note_signal(struct vmbus_chan *chan)
{
	vmbus__add64_relaxed(&chan->signals, 1); /* COUNT.add */
	if (VMBUS_UNLIKELY(chan->bus->recorder.mem != NULL))
		vmbus__st64_relaxed(&chan->signal_at, coarse()); /* COUNT.show */
}

void vmbus__note_bound(struct vmbus_bus *bus, uint32_t slot)
{
	struct vmbus_chan *const chan = vmbus__chan_at(bus, slot);

	if (chan)
		vmbus__note_signal(chan);
}

void vmbus_chan_under_way(struct vmbus_chan *chan, uint32_t requests)
{
	const uint32_t before = vmbus__ld32_relaxed(&chan->under_way); /* COUNT.read */
	const uint64_t sent = chan->tx.stats_p.packets;

	if (requests == before && sent == chan->under_way_sent)
		return;
	if (!before || requests < before || sent != chan->under_way_sent)
		vmbus__st64_relaxed(&chan->under_way_at, coarse()); /* COUNT.show */
	chan->under_way_sent = sent;
	vmbus__st32_relaxed(&chan->under_way, requests); /* COUNT.show */
}

void vmbus__note_dry(struct vmbus_chan *chan)
{
	if (VMBUS_UNLIKELY(!vmbus__ld64_relaxed(&chan->accepted_at)) && /* COUNT.read */
	    chan->rx.stats_p.packets)
		vmbus__st64_relaxed(&chan->accepted_at, vmbus__now()); /* COUNT.show */
}

void vmbus__note_raised(struct vmbus_chan *chan)
{
	vmbus__add64_relaxed(&chan->raised, 1); /* COUNT.add */
	if (VMBUS_UNLIKELY(chan->bus->recorder.mem != NULL))
		vmbus__st64_relaxed(&chan->raised_at, coarse()); /* COUNT.show */
}
