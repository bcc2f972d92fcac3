/* SPDX-License-Identifier: MIT */
/*
 * A bus from its saved state, which may be anything.  The machine checks its own part; here the
 * embedder's offers are matched with the machine's channels, what the machine accepted is looked
 * up in the memory that there is, and rings are mapped again.  Devices hear of it in the next
 * dispatch, when the embedder has restored the rest.
 */
#include "bus/save.h"

#include <vmbus/srv_save.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct restoring {
	struct vmbus_bus *bus;
	struct vmbus__section part[VMBUS__SAVE_CHAN]; /* by type, those that come once */
	struct vmbus__in chans;			      /* from the first channel's section on */
	struct vmbus_chan **offered; /* by the embedder, NULL when they have a place */
	uint32_t count;
	uint32_t subs; /* that have a place */
	const char *why;
	uint32_t relid; /* that why is about, or 0 */
};

/* One channel's section. */
struct record {
	struct vmbus_srv_ref ref;
	uint64_t opens;
	uint64_t bad_completions;
	uint32_t bits;
	uint32_t need;
	uint32_t tx_index;
	uint32_t rx_index;
	uint32_t rx_next;
	uint32_t subs_late;
	struct vmbus__in why;
	struct vmbus__in data;
};

static int wrong(struct restoring *r, int err, const char *why)
{
	if (!r->why)
		r->why = why;
	return err;
}

/* The sections that come once, and where the channels' begin. */
static int find_parts(struct restoring *r, struct vmbus__in *in)
{
	uint32_t next = VMBUS__SAVE_BUS;
	struct vmbus__section s;
	int err;

	r->chans = *in;
	while ((err = vmbus__in_section(in, &s)) == 1) {
		if (s.type > VMBUS__SAVE_CHAN && (s.flags & VMBUS__SECTION_SKIP))
			continue;
		if (s.type == 0 || s.type > VMBUS__SAVE_CHAN || s.version != VMBUS__SAVE_VERSION)
			return wrong(r, VMBUS_E_NOTSUP, "a section of a later version");
		if (s.type != next && (s.type != VMBUS__SAVE_CHAN || next <= VMBUS__SAVE_INBOX))
			return wrong(r, VMBUS_E_INVAL, "sections out of order");
		if (s.type == VMBUS__SAVE_CHAN)
			continue;
		r->part[s.type] = s;
		next++;
	}
	if (err || next <= VMBUS__SAVE_INBOX)
		return wrong(r, VMBUS_E_INVAL, "a section is missing or cut off");
	return 0;
}

/* Bytes with their number before them. */
static struct vmbus__in get_counted(struct vmbus__in *in, uint32_t most)
{
	const uint32_t bytes = vmbus__in32(in);
	struct vmbus__in part = { in->at, 0, false };

	if (bytes > most)
		in->bad = true;
	else if (vmbus__in_part(in, bytes))
		part.left = bytes;
	return part;
}

static bool get_record(struct vmbus__in in, struct record *record)
{
	*record = (struct record){ 0 };
	record->ref.slot = vmbus__in32(&in);
	record->ref.gen = vmbus__in32(&in);
	record->opens = vmbus__in(&in, 8);
	record->bad_completions = vmbus__in(&in, 8);
	record->bits = vmbus__in32(&in);
	if (record->bits & VMBUS__SAVE_OPEN) {
		record->need = vmbus__in32(&in);
		record->tx_index = vmbus__in32(&in);
		record->rx_index = vmbus__in32(&in);
		record->rx_next = vmbus__in32(&in);
		record->why = get_counted(&in, VMBUS__WHY_BYTES - 1u);
		record->data = get_counted(&in, VMBUS__SAVE_DEVICE_BYTES_MAX);
	}
	if (record->bits & VMBUS__SAVE_SUBS)
		record->subs_late = vmbus__in32(&in);
	if (record->subs_late > VMBUS__RELIDS)
		return false;
	return !in.bad && !in.left && !(record->bits & ~VMBUS__SAVE_CHAN_BITS) &&
	       (record->bits & VMBUS__SAVE_OPEN || !record->bits);
}

/* The machine anew; the embedder's offers are no longer in it. */
static int restore_machine(struct restoring *r)
{
	struct vmbus_bus *bus = r->bus;
	const struct vmbus__in *in = &r->part[VMBUS__SAVE_MACHINE].in;
	int err;

	vmbus_srv_fini(bus->srv);
	err = vmbus_srv_init(bus->srv_storage, vmbus_srv_bytes(&bus->opts.limits),
			     &bus->opts.limits, &bus->srv);
	if (!err)
		err = vmbus_srv_restore(bus->srv, in->at, in->left, &r->why);
	if (!err)
		r->why = NULL;
	return err;
}

/* Take every channel out of its slot. */
static int take_offers(struct restoring *r)
{
	struct vmbus_bus *bus = r->bus;
	uint32_t slot;

	r->offered = calloc(VMBUS__RELIDS, sizeof(struct vmbus_chan *));
	if (!r->offered)
		return wrong(r, VMBUS_E_NOMEM, "out of memory");
	for (slot = 0; slot < VMBUS__RELIDS; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (!chan)
			continue;
		vmbus__chan_displace(chan);
		r->offered[r->count++] = chan;
	}
	memset(bus->monitored, 0, sizeof(bus->monitored));
	return 0;
}

static bool same_device(const struct vmbus_offer *a, const struct vmbus_offer *b)
{
	return vmbus_guid_equal(&a->class_id, &b->class_id) &&
	       vmbus_guid_equal(&a->instance_id, &b->instance_id);
}

/* The monitor id is the one that the child was told, which is nobody else's. */
static int take_monitor(struct restoring *r, struct vmbus_chan *chan)
{
	struct vmbus_bus *bus = r->bus;
	const uint32_t id = chan->offer.monitor_id;

	chan->monitor = VMBUS_MONITOR_NONE;
	if (id == VMBUS_MONITOR_NONE)
		return 0;
	if (id >= VMBUS__MONITORS || bus->monitored[id] || !chan->monitor_us)
		return wrong(r, VMBUS_E_INVAL,
			     "the child was told of a monitor, and it is offered "
			     "without");
	chan->monitor = id;
	bus->monitored[id] = chan;
	return 0;
}

/* A channel takes the place that the machine has for it. */
static int take_place(struct restoring *r, struct vmbus_chan *chan,
		      const struct vmbus_srv_info *info)
{
	r->relid = info->relid;
	chan->offer = info->offer;
	chan->tlnpi = (info->offer.flags & VMBUS_OFFER_TLNPI) != 0;
	chan->sub_index = info->offer.sub_index;
	chan->revoked = info->fate == VMBUS_SRV_FORGET;
	vmbus__chan_place(chan, info->chan);
	return take_monitor(r, chan);
}

/* The device that is offered takes this place, if there is one that has none yet. */
static int place(struct restoring *r, const struct vmbus_srv_info *info)
{
	uint32_t i;

	for (i = 0; i < r->count; i++) {
		struct vmbus_chan *chan = r->offered[i];

		if (!chan || !same_device(&chan->offer, &info->offer))
			continue;
		r->offered[i] = NULL;
		return take_place(r, chan, info);
	}
	return 0;
}

/*
 * A device whose primary is released, and of which the child still has sub-channels that were
 * withdrawn, cannot be offered beside them: it is one of them, and goes with it.
 */
static int place_primaries(struct restoring *r)
{
	struct vmbus_srv_info info;
	uint32_t slot, pass;
	int err = 0;

	for (pass = 0; pass < 2; pass++)
		for (slot = 0; slot < r->bus->chans_max && !err; slot++) {
			if (vmbus_srv_info(r->bus->srv, slot, &info) != 1)
				continue;
			if (pass == 0 ? info.offer.sub_index == 0
				      : info.fate == VMBUS_SRV_FORGET && info.offer.sub_index)
				err = place(r, &info);
		}
	return err;
}

static struct vmbus_chan *find_primary(struct vmbus_bus *bus, const struct vmbus_offer *offer)
{
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && !chan->sub_index && same_device(&chan->offer, offer))
			return chan;
	}
	return NULL;
}

/* Sub-channels are offered by their devices, which do not know of them yet. */
static int place_subs(struct restoring *r)
{
	struct vmbus_srv_info info;
	uint32_t slot;
	int err = 0;

	for (slot = 0; slot < r->bus->chans_max && !err; slot++) {
		struct vmbus_chan *primary, *chan;

		if (vmbus_srv_info(r->bus->srv, slot, &info) != 1 || !info.offer.sub_index ||
		    info.fate == VMBUS_SRV_FORGET)
			continue;
		primary = find_primary(r->bus, &info.offer);
		if (!primary || primary->revoked)
			continue;
		if (r->count + ++r->subs > VMBUS__RELIDS) /* give_up() finds room for all */
			return wrong(r, VMBUS_E_NOTSUP, "no room for what is offered besides");
		chan = vmbus__sub_again(primary);
		if (!chan)
			return wrong(r, VMBUS_E_NOMEM, "out of memory");
		primary->subs++;
		if (primary->next_sub < info.offer.sub_index)
			primary->next_sub = info.offer.sub_index;
		err = take_place(r, chan, &info);
		vmbus__sub_offered(chan);
	}
	r->relid = 0;
	return err;
}

/* Devices that the saved bus had not, and channels whose device is missing. */
static int settle_offers(struct restoring *r)
{
	struct vmbus_bus *bus = r->bus;
	struct vmbus_srv_info info;
	uint32_t slot, i;
	int err;

	for (slot = 0; slot < bus->chans_max; slot++)
		if (vmbus_srv_info(bus->srv, slot, &info) == 1 && !vmbus__chan_at(bus, slot))
			(void)vmbus_srv_revoke(bus->srv, info.chan);
	for (i = 0; i < r->count; i++) {
		struct vmbus_chan *chan = r->offered[i];

		if (!chan)
			continue;
		err = vmbus__offer_again(chan);
		if (err == VMBUS_E_INVAL)
			return wrong(r, err,
				     "a device that it does not tell of has the instance id of "
				     "another that the child has not released");
		if (err)
			return wrong(r, VMBUS_E_NOTSUP,
				     "no room for a device that it does not tell of");
		r->offered[i] = NULL;
	}
	return 0;
}

/* Page lists that the machine has accepted; their pages must be memory still. */
static int restore_lists(struct restoring *r)
{
	struct vmbus_bus *bus = r->bus;
	struct vmbus_srv_list_info info;
	uint32_t at;
	int got;

	for (at = 0; (got = vmbus_srv_list_info(bus->srv, at, &info)) >= 0; at++) {
		struct vmbus_srv_action action = { .list = info.list, .gpadl = info.gpadl };
		struct vmbus_chan *chan;
		int err;

		chan = got == 1 && info.had ? vmbus__chan_at(bus, info.chan.slot) : NULL;
		if (!chan)
			continue;
		err = vmbus__list_ready(bus, chan, &action);
		if (!err || err == VMBUS_E_AGAIN) /* the child has its answer */
			continue;
		r->relid = chan->relid;
		return wrong(r, err == VMBUS_E_NOMEM ? err : VMBUS_E_INVAL,
			     "a page list names what is no memory");
	}
	return 0;
}

static int copy_record(struct vmbus_chan *chan, const struct record *record)
{
	struct vmbus__restore *from = malloc(sizeof(*from) + record->data.left);
	size_t i;

	if (!from)
		return VMBUS_E_NOMEM;
	*from = (struct vmbus__restore){ .tx_index = record->tx_index,
					 .rx_index = record->rx_index,
					 .rx_next = record->rx_next,
					 .need = record->need,
					 .failed = (record->bits & VMBUS__SAVE_FAILED) != 0,
					 .bytes = record->data.left };
	for (i = 0; i < record->why.left; i++) { /* it goes to logs */
		const uint8_t byte = record->why.at[i];

		from->why[i] = byte >= 0x20 && byte < 0x7f ? (char)byte : '?';
	}
	if (record->data.left)
		memcpy(from->data, record->data.at, record->data.left);
	chan->from = from;
	return 0;
}

/*
 * A child may choose the connection id that an offer has by itself (6.0).  It had it where it was open before
 * that offer, which did without.
 */
static void yield_conn(struct vmbus_bus *bus, const struct vmbus_chan *chan, uint32_t conn_id)
{
	const int slot = vmbus__conn_find(bus, conn_id);
	struct vmbus_chan *other = slot < 0 ? NULL : vmbus__chan_at(bus, (uint32_t)slot);

	if (!other || other == chan || other->offer_conn != conn_id ||
	    (other->local != VMBUS__CLOSED && other->conn_id == conn_id))
		return;
	vmbus__conn_remove(bus, conn_id, other->slot);
	other->offer_conn = 0;
}

static int restore_chan(struct restoring *r, const struct record *record)
{
	struct vmbus_bus *bus = r->bus;
	struct vmbus_chan *chan = vmbus__chan_at(bus, record->ref.slot);
	struct vmbus_srv_action action;
	struct vmbus__refusal why = { "", 0, 0 };
	int err;

	if (!chan || chan->ref.gen != record->ref.gen)
		return 0; /* its device is missing */
	r->relid = chan->relid;
	chan->opens = record->opens;
	vmbus__st64_relaxed(&chan->bad_completions, record->bad_completions); /* COUNT.add */
	if (vmbus_srv_open_info(bus->srv, chan->ref, &action) != 1)
		return record->bits ? wrong(r, VMBUS_E_INVAL, "its device is open, and it is not")
				    : 0;
	if (!(record->bits & VMBUS__SAVE_OPEN) || chan->from)
		return wrong(r, VMBUS_E_INVAL, "it is open, and nothing tells of its rings");
	if (record->subs_late && chan->sub_index)
		return wrong(r, VMBUS_E_INVAL, "a sub-channel with sub-channels");
	chan->subs_late = record->subs_late;
	if (chan->foreign || chan->journal)
		return wrong(r, VMBUS_E_NOTSUP, "it is FOREIGN now, or has a journal");
	err = copy_record(chan, record);
	if (err)
		return wrong(r, err, "out of memory");
	yield_conn(bus, chan, action.conn_id);
	err = vmbus__restore_rings(chan, &action, &why);
	if (!err)
		return 0;
	return wrong(r, err == VMBUS_E_NOMEM ? err : VMBUS_E_INVAL,
		     why.step[0] ? why.step : "its rings");
}

static int restore_chans(struct restoring *r)
{
	struct vmbus_bus *bus = r->bus;
	struct vmbus__section s;
	struct vmbus_srv_action action;
	uint32_t slot;
	int err = 0;

	while (!err && vmbus__in_section(&r->chans, &s) == 1) {
		struct record record;

		if (s.type != VMBUS__SAVE_CHAN)
			continue;
		if (!get_record(s.in, &record))
			return wrong(r, VMBUS_E_INVAL, "a channel's section");
		err = restore_chan(r, &record);
	}
	if (!err)
		r->relid = 0;
	for (slot = 0; slot < bus->chans_max && !err; slot++) {
		const struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (!chan || chan->from || vmbus_srv_open_info(bus->srv, chan->ref, &action) != 1)
			continue;
		r->relid = chan->relid;
		err = wrong(r, VMBUS_E_INVAL, "it is open, and nothing tells of its rings");
	}
	return err;
}

static int restore_bus(struct restoring *r)
{
	struct vmbus_bus *bus = r->bus;
	struct vmbus__in in = r->part[VMBUS__SAVE_BUS].in;
	const uint32_t bits = vmbus__in32(&in);
	uint64_t counters[VMBUS__SAVE_BUS_COUNTERS];
	struct vmbus_srv_action out = { .act = VMBUS_SRV_SEND };
	uint32_t i;

	for (i = 0; i < VMBUS__SAVE_BUS_COUNTERS; i++)
		counters[i] = vmbus__in(&in, 8);
	out.target_vp = vmbus__in32(&in);
	out.target_sint = vmbus__in32(&in);
	out.ctl_type = vmbus__in32(&in);
	out.len = vmbus__in32(&in);
	if (out.len > sizeof(out.bytes) || (out.len < 8) != !(bits & VMBUS__SAVE_SENDING))
		return wrong(r, VMBUS_E_INVAL, "the message that waits");
	vmbus__in_bytes(&in, out.bytes, out.len);
	if (in.bad || in.left || bits & ~VMBUS__SAVE_BUS_BITS)
		return wrong(r, VMBUS_E_INVAL, "the bus's own section");
	vmbus__st64_relaxed(&bus->signals, counters[0]);	 /* COUNT.add */
	vmbus__st64_relaxed(&bus->signals_unknown, counters[1]); /* COUNT.add */
	vmbus__st64_relaxed(&bus->posts, counters[2]);		 /* COUNT.add */
	vmbus__st64_relaxed(&bus->posts_refused, counters[3]);	 /* COUNT.add */
	vmbus__st64_relaxed(&bus->raised, counters[4]);		 /* COUNT.add */
	bus->faults = counters[5];
	bus->out = out;
	bus->sending = (bits & VMBUS__SAVE_SENDING) != 0;
	if (bits & VMBUS__SAVE_RESET)
		vmbus__or64_release(&bus->events, VMBUS__EV_RESET); /* BITS.add */
	return 0;
}

static int restore_inbox(struct restoring *r)
{
	struct vmbus_bus *bus = r->bus;
	struct vmbus__in in = r->part[VMBUS__SAVE_INBOX].in;
	const uint32_t count = vmbus__in32(&in);
	uint32_t i;

	if (in.bad || count > VMBUS__INBOX)
		return wrong(r, VMBUS_E_INVAL, "messages that wait: their number");
	for (i = 0; i < count; i++) {
		const uint32_t conn_id = vmbus__in32(&in);
		const struct vmbus__in message = get_counted(&in, VMBUS_HC_MESSAGE_MAX);
		uint32_t status = VMBUS_HC_PARAMETER;

		if (!in.bad)
			status = vmbus_bus_post_message(bus, conn_id, VMBUS_MSG_TYPE_CTL,
							message.at, (uint32_t)message.left);
		if (status == VMBUS_HC_NO_BUFFERS)
			return wrong(r, VMBUS_E_NOTSUP, "messages that wait: more than posts_max");
		if (status != VMBUS_HC_OK)
			return wrong(r, VMBUS_E_INVAL, "messages that wait: one that cannot be");
	}
	return in.left ? wrong(r, VMBUS_E_INVAL, "messages that wait: bytes behind the last") : 0;
}

static int restore(struct restoring *r, const void *buf, size_t bytes)
{
	struct vmbus__in in;
	int err = vmbus__in_head(&in, buf, bytes, VMBUS__STATE_BUS, &r->why);

	if (err)
		return err;
	r->why = NULL;
	err = find_parts(r, &in);
	if (!err)
		err = restore_machine(r);
	if (!err)
		err = take_offers(r);
	if (!err)
		err = place_primaries(r);
	if (!err)
		err = place_subs(r);
	if (!err)
		err = settle_offers(r);
	if (!err)
		err = restore_lists(r);
	if (!err)
		err = restore_chans(r);
	if (!err)
		err = restore_inbox(r);
	return err ? err : restore_bus(r);
}

/* After an error: what was mapped goes, and who has no place yet is where it is found. */
static void give_up(struct restoring *r)
{
	struct vmbus_bus *bus = r->bus;
	uint32_t slot, i;

	for (slot = 0; slot < VMBUS__RELIDS; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && chan->from)
			vmbus__restore_cancel(chan);
	}
	for (i = 0, slot = 0; i < r->count && r->offered; i++) {
		if (!r->offered[i])
			continue;
		while (vmbus__chan_at(bus, slot))
			slot++; /* there are never more than slots: place_subs() */
		vmbus__chan_bury_at(r->offered[i], slot);
	}
}

static bool is_new(struct vmbus_bus *bus)
{
	return bus->dispatches == 0 && !bus->restored && !bus->ending && !vmbus__inbox_any(bus);
}

static void explain(const struct restoring *r, char *why, size_t bytes)
{
	if (!why || !bytes)
		return;
	if (r->why && r->relid)
		(void)snprintf(why, bytes, "channel %u: %s", r->relid, r->why);
	else
		(void)snprintf(why, bytes, "%s", r->why ? r->why : "");
}

int vmbus_bus_restore(struct vmbus_bus *bus, const void *buf, size_t bytes, char *why,
		      size_t why_bytes)
{
	struct restoring r = { .bus = bus };
	int err;

	r.why = "the bus was dispatched or restored before";
	if (vmbus_bus_in_callback(bus) || !is_new(bus)) {
		explain(&r, why, why_bytes);
		return VMBUS_E_STATE;
	}
	bus->restored = true;
	vmbus__st64_relaxed(&bus->holder, vmbus__self()); /* HOLD.enter */
	err = restore(&r, buf, bytes);
	if (err) {
		give_up(&r);
		bus->ending = true; /* every device is closed, and nothing is to be dispatched */
	}
	vmbus__st64_relaxed(&bus->holder, 0); /* HOLD.enter */
	free(r.offered);
	explain(&r, why, why_bytes);
	if (err)
		return err;
	vmbus__or64_release(&bus->events, VMBUS__EV_RESTORE); /* BITS.add */
	vmbus__kick(&bus->kick);
	return 0;
}

/* In the next dispatch: devices go on, sub-channels when their primaries have. */
void vmbus__restore_run(struct vmbus_bus *bus)
{
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && chan->from && chan->local == VMBUS__OPENING &&
		    !vmbus__primary_resumes(chan))
			vmbus__chan_command(chan, VMBUS__CMD_RESTORE);
	}
}
