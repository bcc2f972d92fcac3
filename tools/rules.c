/* SPDX-License-Identifier: MIT */
/*
 * The rules of vmbusctl doctor.  A step that should follow another one and has not, for longer than
 * the grace time, is a finding; so is data in a ring that nobody has moved in any of the snapshots.
 * Of a channel the first rule that holds is told: what comes later in its life follows from it.
 */
#define _GNU_SOURCE
#include "rules.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct look {
	const struct snap *snaps;
	uint32_t n;
	uint64_t grace;
	const struct snap_bus *bus; /* these two are of the newest */
	const struct snap_chan *chan;
	struct finding *out;
};

/* Whether a rule holds; it writes the finding's text, and how long it is so. */
struct rule {
	const char *code;
	bool (*holds)(const struct look *look);
	const char *advice;
};

static const struct snap *newest(const struct look *look)
{
	return &look->snaps[look->n - 1];
}

static uint64_t age(const struct look *look, uint64_t at)
{
	const uint64_t now = look->chan ? look->chan->d.now : look->bus->d.now;

	return at && now > at ? now - at : 0;
}

/* Whether a time is longer ago than may be; then it is that of the finding. */
static bool overdue(const struct look *look, uint64_t at)
{
	look->out->for_ns = age(look, at);
	return look->out->for_ns > look->grace;
}

static bool say(const struct look *look, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static bool say(const struct look *look, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(look->out->text, sizeof(look->out->text), format, args);
	va_end(args);
	return true;
}

static uint64_t step(const struct look *look, enum vmbus_step which)
{
	return look->chan->d.steps[which];
}

/* Rules of a bus. */

static bool no_contact(const struct look *look)
{
	const struct vmbus_bus_diag *const d = &look->bus->d;

	if (look->bus->ending || d->version || !overdue(look, d->created))
		return false;
	return say(look, "the child has %s",
		   d->message ? "sent messages, but agreed on no version of the protocol"
			      : "not made contact: no message of its has come");
}

static bool no_request(const struct look *look)
{
	const struct vmbus_bus_diag *const d = &look->bus->d;

	if (look->bus->ending || !d->version || d->offers || !overdue(look, d->contact))
		return false;
	return say(look, "the child made contact and has not asked for the offers");
}

static bool slot_taken(const struct look *look)
{
	const struct vmbus_bus_diag *const d = &look->bus->d;

	if (!(d->waits & VMBUS_WAIT_SLOT) || !overdue(look, d->slot_since))
		return false;
	return say(look, "message %s waits: the child has not taken the one before from its slot",
		   vmbus_ctl_type_name(d->slot_message));
}

static const struct rule bus_rules[] = {
	{ "no-contact", no_contact,
	  "of a virtual machine look whether the VMBus driver is loaded and sees the hypervisor, "
	  "its "
	  "log says why it gave up; a process has to call vmbus_guest_connect() and to dispatch: "
	  "look "
	  "at its stack" },
	{ "no-request", no_request, "the child's bus driver stopped after contact: see its log" },
	{ "slot-taken", slot_taken,
	  "the child is hung or stopped, or its interrupt of the message SINT is lost: look at "
	  "its VP, and at its process's state" },
};

/* Rules of a channel: the steps up to open. */

static bool faulted(const struct look *look)
{
	if (step(look, VMBUS_STEP_FAULT) <= step(look, VMBUS_STEP_OPENED))
		return false;
	look->out->for_ns = age(look, step(look, VMBUS_STEP_FAULT));
	return say(look, "broken by the child: %s", look->chan->refused);
}

static bool is_open(const struct look *look)
{
	return look->chan->d.from_child.size != 0;
}

static bool was_refused(const struct look *look)
{
	look->out->for_ns = age(look, step(look, VMBUS_STEP_REFUSED));
	return step(look, VMBUS_STEP_REFUSED) > step(look, VMBUS_STEP_OPENED) &&
	       step(look, VMBUS_STEP_REFUSED) > step(look, VMBUS_STEP_CLOSED) &&
	       look->chan->refused[0];
}

static bool by_device(const struct look *look)
{
	return strncmp(look->chan->refused, "the device refused", 18) == 0;
}

/* Its opening ends with its close, and the text stays until the next one; a new offer is a new life. */
static bool open_failed(const struct look *look)
{
	const uint64_t refused = step(look, VMBUS_STEP_REFUSED);

	if (is_open(look) || !by_device(look) || refused < step(look, VMBUS_STEP_OPEN) ||
	    refused < step(look, VMBUS_STEP_TOLD))
		return false;
	look->out->for_ns = age(look, refused);
	return say(look, "%s", look->chan->refused);
}

static bool ring_refused(const struct look *look)
{
	return was_refused(look) && !is_open(look) &&
	       say(look, "the rings that the child brought were refused: %s", look->chan->refused);
}

static bool list_refused(const struct look *look)
{
	return was_refused(look) && say(look, "refused: %s", look->chan->refused);
}

static bool open_unanswered(const struct look *look)
{
	return (look->chan->d.waits & VMBUS_WAIT_DEVICE_OPEN) &&
	       overdue(look, step(look, VMBUS_STEP_OPEN)) &&
	       say(look, "the child asked to open it, the device %s has not answered",
		   look->chan->vsp);
}

static bool close_unanswered(const struct look *look)
{
	const uint64_t close = step(look, VMBUS_STEP_CLOSE);
	const uint64_t fault = step(look, VMBUS_STEP_FAULT);

	return (look->chan->d.waits & VMBUS_WAIT_DEVICE_CLOSE) &&
	       overdue(look, close > fault ? close : fault) &&
	       say(look, "it is to be closed, the device %s still uses it", look->chan->vsp);
}

static bool pins_held(const struct look *look)
{
	return (look->chan->d.waits & VMBUS_WAIT_PINS) &&
	       overdue(look, step(look, VMBUS_STEP_CLOSE)) &&
	       say(look, "it is to be closed, the device %s holds %" PRIu32 " page lists of it",
		   look->chan->vsp, look->chan->d.pins);
}

static bool not_released(const struct look *look)
{
	return (look->chan->d.waits & VMBUS_WAIT_RELEASE) &&
	       overdue(look, step(look, VMBUS_STEP_RESCINDED)) &&
	       say(look, "it was withdrawn, the child has not released it");
}

/* Told to a connected child, and it has never done anything with it. */
static bool untouched(const struct look *look)
{
	const struct vmbus_chan_diag *const d = &look->chan->d;

	return !look->bus->ending && look->bus->d.version && d->state == VMBUS_SRV_CLOSED &&
	       d->info.opens == 0 && d->info.sub_index == 0 && d->waits == 0 &&
	       step(look, VMBUS_STEP_OPEN) == 0;
}

static bool open_missing(const struct look *look)
{
	return untouched(look) && look->chan->d.gpadls &&
	       overdue(look, step(look, VMBUS_STEP_GPADL)) &&
	       say(look, "the child described the rings' pages and has not asked to open it");
}

static bool offer_unsent(const struct look *look)
{
	return !look->bus->ending && look->bus->d.offers && !look->bus->d.slot_since &&
	       !step(look, VMBUS_STEP_TOLD) && step(look, VMBUS_STEP_OFFERED) &&
	       look->chan->d.state == VMBUS_SRV_CLOSED &&
	       overdue(look, step(look, VMBUS_STEP_OFFERED)) &&
	       say(look, "the offer was never posted to the child");
}

/* Whether somebody is known to have a driver of the class: the library, or another channel's child. */
static bool has_driver(const struct look *look)
{
	const struct vmbus_guid *const class_id = &look->chan->d.info.class_id;
	const struct snap *const snap = newest(look);
	uint32_t i;

	if (vmbus_class_name(class_id))
		return true;
	for (i = 0; i < snap->chans; i++)
		if (snap->chan[i].d.info.opens &&
		    vmbus_guid_equal(&snap->chan[i].d.info.class_id, class_id))
			return true;
	return false;
}

static bool offer_unclaimed(const struct look *look)
{
	char guid[37];

	if (!untouched(look) || has_driver(look) || !overdue(look, step(look, VMBUS_STEP_TOLD)))
		return false;
	vmbus_guid_format(&look->chan->d.info.class_id, guid);
	return say(look, "offered by %s with class %s, which no channel here was ever opened with",
		   look->chan->vsp, guid);
}

static bool not_opened(const struct look *look)
{
	return untouched(look) && overdue(look, step(look, VMBUS_STEP_TOLD)) &&
	       say(look, "the child has the offer of %s and opens nothing", look->chan->vsp);
}

/* Rules of an open channel: what flows. */

static bool bad_indices(const struct look *look)
{
	const struct vmbus_chan_diag *const d = &look->chan->d;

	if (!is_open(look) || (d->from_child_ok && d->to_child_ok))
		return false;
	return say(look, "an index of the ring %s the child cannot be",
		   d->from_child_ok ? "to" : "from");
}

/* Whether data lies in one ring and nobody has read any of it, in all snapshots. */
static bool stuck(const struct look *look, bool to_child)
{
	const struct vmbus_ring_words *last = NULL;
	uint32_t i;

	if (!(to_child ? &look->chan->d.to_child : &look->chan->d.from_child)->used)
		return false;
	for (i = 0; i < look->n; i++) {
		const struct snap_chan *const c =
			snap_same_chan(&look->snaps[i], look->bus, look->chan);
		const struct vmbus_ring_words *const w = !c	    ? NULL
							 : to_child ? &c->d.to_child
								    : &c->d.from_child;

		if (!w || !w->used || c->d.state != VMBUS_SRV_OPENED ||
		    (last && last->read_index != w->read_index) ||
		    c->d.info.recv.packets != look->chan->d.info.recv.packets)
			return false;
		last = w;
	}
	return true;
}

/* Whether a bit of waits is set in all snapshots. */
static bool waits_always(const struct look *look, uint32_t bit)
{
	uint32_t i;

	for (i = 0; i < look->n; i++) {
		const struct snap_chan *const c =
			snap_same_chan(&look->snaps[i], look->bus, look->chan);

		if (!c || !(c->d.waits & bit))
			return false;
	}
	return true;
}

static uint32_t room(const struct vmbus_ring_words *words)
{
	return words->size - words->used;
}

/* The device waits for room in the ring to the child, and there is none. */
static bool wants_room(const struct vmbus_chan_diag *d)
{
	return d->to_child.pending_send && d->to_child.used &&
	       room(&d->to_child) <= d->to_child.pending_send;
}

/* The child takes nothing, and the device waits for that: so it is given no packets, and none are owed. */
static bool child_full(const struct look *look)
{
	return stuck(look, true) && wants_room(&look->chan->d);
}

char rules_process_state(uint32_t pid)
{
	char path[48], line[256] = "";
	const char *at;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%" PRIu32 "/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return access("/proc/self/stat", R_OK) == 0 ? 0 : '?';
	(void)!fgets(line, sizeof(line), f);
	fclose(f);
	at = strrchr(line, ')'); /* behind the name, which may be anything */
	return at && at[1] == ' ' ? at[2] : '?';
}

/* Its process is stopped; a process number that we cannot see is 0. */
static bool child_stopped(const struct look *look)
{
	char state;

	if (look->bus->pid <= 0 || !stuck(look, true))
		return false;
	state = rules_process_state((uint32_t)look->bus->pid);
	if (state != 'T' && state != 't')
		return false;
	look->out->for_ns = age(look, look->chan->d.raised_at);
	return say(look, "%" PRIu32 " bytes wait for the child, whose process is stopped",
		   look->chan->d.to_child.used);
}

static bool child_not_reading(const struct look *look)
{
	const struct vmbus_chan_diag *const d = &look->chan->d;

	if (!stuck(look, true) || (d->to_child.mask == 0 && !wants_room(d)))
		return false;
	look->out->for_ns = age(look, d->raised_at);
	if (d->to_child.mask == 0)
		return say(look,
			   "%" PRIu32 " bytes wait for the child in its ring, it asked for a "
			   "signal, %" PRIu64 " were sent, and it reads nothing; the device waits "
			   "for room",
			   d->to_child.used, d->raised);
	return say(look,
		   "%" PRIu32 " bytes wait for the child in its ring, it wants no signals, as one "
		   "that reads does, and reads nothing%s",
		   d->to_child.used, wants_room(d) ? "; the device waits for room" : "");
}

/* Nobody serves the channel: the parent knows that, or will in a moment. */
static bool provider_gone(const struct look *look)
{
	const struct vmbus_chan_diag *const d = &look->chan->d;
	char state;

	if (!d->foreign || !is_open(look))
		return false;
	if (!d->owner && look->chan->gone_at) /* not while one takes over from another */
		return overdue(look, look->chan->gone_at) &&
		       say(look,
			   "the provider, process %" PRIu32 ", is gone, and no other has come; "
			   "%" PRIu32 " bytes of the child's wait in the ring",
			   look->chan->gone, d->from_child.used);
	if (!stuck(look, false))
		return false;
	look->out->for_ns = age(look, d->signal_at);
	if (!d->owner)
		return say(look,
			   "%" PRIu32 " bytes of the child's wait in the ring, and no process is "
			   "known to serve it",
			   d->from_child.used);
	state = rules_process_state(d->owner);
	return (!state || state == 'Z' || state == 'X') &&
	       say(look,
		   "%" PRIu32 " bytes of the child's wait in the ring for process %" PRIu32
		   " of %s, which is dead",
		   d->from_child.used, d->owner, look->chan->vsp);
}

/* Its process is stopped, by a signal or a debugger. */
static bool provider_stopped(const struct look *look)
{
	const struct vmbus_chan_diag *const d = &look->chan->d;
	char state;

	if (!d->foreign || !d->owner || !is_open(look))
		return false;
	state = rules_process_state(d->owner);
	if (state != 'T' && state != 't')
		return false;
	if (!stuck(look, false))
		return say(look, "process %" PRIu32 " of %s, which serves it, is stopped", d->owner,
			   look->chan->vsp);
	look->out->for_ns = age(look, d->signal_at);
	return say(look,
		   "%" PRIu32 " bytes of the child's wait in the ring for process %" PRIu32
		   " of %s, which is stopped",
		   d->from_child.used, d->owner, look->chan->vsp);
}

/* For how long what is under way, if anything is, has stood still: the last signal may have come before. */
static bool device_paused(const struct look *look)
{
	const struct vmbus_chan_diag *const d = &look->chan->d;
	uint64_t still;

	if (!stuck(look, false) || !waits_always(look, VMBUS_WAIT_PAUSED))
		return false;
	still = d->under_way ? age(look, d->under_way_since) : 0;
	look->out->for_ns = age(look, d->signal_at);
	if (still && (!look->out->for_ns || still < look->out->for_ns))
		look->out->for_ns = still;
	return say(look,
		   "%" PRIu32 " bytes of the child's wait in the ring, and %s takes none: what it "
		   "stands on has no room",
		   d->from_child.used, look->chan->vsp);
}

/* It has taken requests, and has answered none of any between the first snapshot and the last. */
static bool device_busy(const struct look *look)
{
	const struct vmbus_chan_diag *const d = &look->chan->d;
	uint32_t i;

	if (!is_open(look) || !d->under_way)
		return false;
	for (i = 0; i < look->n; i++) {
		const struct snap_chan *const c =
			snap_same_chan(&look->snaps[i], look->bus, look->chan);

		if (!c || !c->d.under_way || c->d.under_way_since != d->under_way_since)
			return false;
	}
	return overdue(look, d->under_way_since) &&
	       say(look, "%s has %" PRIu32 " requests of the child's under way, and answers none",
		   look->chan->vsp, d->under_way);
}

static bool provider_hung(const struct look *look)
{
	const struct vmbus_chan_diag *const d = &look->chan->d;
	const bool called = waits_always(look, VMBUS_WAIT_THREAD);

	if (!stuck(look, false) || (d->from_child.mask == 0 && !called) || child_full(look))
		return false;
	look->out->for_ns = age(look, d->signal_at);
	return say(look,
		   "%" PRIu32 " bytes of the child's wait in the ring, %s%s, and it reads none",
		   d->from_child.used,
		   called ? "the thread of "
			  : "and signals are masked, as while packets are taken by ",
		   look->chan->vsp);
}

/* Data, not masked, and nobody comes: who should have been woken was not. */
static bool wakeup_lost(const struct look *look)
{
	const struct vmbus_chan_diag *const d = &look->chan->d;

	if (stuck(look, false) && d->from_child.mask == 0 && !child_full(look)) {
		look->out->for_ns = age(look, d->signal_at);
		return say(look,
			   "from the child: %" PRIu32 " bytes wait in the ring, %s asked for a "
			   "signal, and none has come; %" PRIu64 " came before",
			   d->from_child.used, look->chan->vsp, d->signals);
	}
	if (stuck(look, true) && d->to_child.mask == 0 && !wants_room(d)) {
		look->out->for_ns = age(look, d->raised_at);
		return say(look,
			   "to the child: %" PRIu32 " bytes wait in the ring, the child asked for "
			   "a signal and has not come; %" PRIu64 " were sent",
			   d->to_child.used, d->raised);
	}
	if (waits_always(look, VMBUS_WAIT_ROOM) && d->need && room(&d->to_child) > d->need) {
		look->out->for_ns = age(look, d->signal_at);
		return say(look,
			   "from the child: %s waits for %" PRIu32 " bytes of room, %" PRIu32
			   " are free, and the child has not signalled",
			   look->chan->vsp, d->need, room(&d->to_child));
	}
	return false;
}

static const struct rule chan_rules[] = {
	{ "channel-faulted", faulted,
	  "the child's driver broke the ring or the device's protocol: see the record; the offer "
	  "comes again when the child has let go" },
	{ "open-failed", open_failed, "see the log of the device" },
	{ "ring-refused", ring_refused,
	  "have the child's driver bring whole pages: at least one of data for each ring, at most "
	  "ring_bytes_max of the device" },
	{ "list-refused", list_refused, "see the limits of page lists in vmbus_srv_init(3)" },
	{ "open-unanswered", open_unanswered,
	  "the device, or the provider's process, is hung: look at it" },
	{ "close-unanswered", close_unanswered,
	  "the device must call vmbus_chan_close_done(), or its thread must dispatch the channel" },
	{ "pins-held", pins_held, "the device must release the page lists of its requests" },
	{ "not-released", not_released, "the child's driver holds the channel: see its log" },
	{ "open-missing", open_missing, "the child's driver stopped before its open: see its log" },
	{ "offer-unsent", offer_unsent, "the bus is not dispatched, or the slot is taken" },
	{ "offer-unclaimed", offer_unclaimed,
	  "compare the class GUID with that of the child's driver, byte order of the first three "
	  "groups included; or load a driver of this class" },
	{ "not-opened", not_opened,
	  "look which driver of the child's the device is bound to, for instance by "
	  "lsvmbus -vv or vmbus-uio list; load or bind the one of its class" },
	{ "indices-impossible", bad_indices, "the child overwrote the control page of its ring" },
	{ "provider-gone", provider_gone,
	  "start the provider again: a resumable device goes on, if it comes within wait_ns of the "
	  "parent" },
	{ "provider-hung", provider_stopped,
	  "have the process go on, kill -CONT; or end it, kill -KILL, and start another" },
	{ "device-busy", device_busy,
	  "look at what is behind the device: a disk image on a file system or a server that does "
	  "not answer, for instance" },
	{ "device-paused", device_paused,
	  "look at what is behind the device: a network port, for instance, that takes no frames" },
	{ "provider-hung", provider_hung,
	  "the device is blocked in a callback, or its thread or process does not run: look at its "
	  "stack" },
	{ "child-not-reading", child_stopped, "have the process go on, kill -CONT, or end it" },
	{ "wakeup-lost", wakeup_lost,
	  "look first whether the receiver runs and dispatches, at its stack; if it sleeps, a "
	  "doorbell, interrupt or eventfd was lost between the two: look at the event flags, the "
	  "connection id and the binding of the channel" },
	{ "child-not-reading", child_not_reading,
	  "the child's driver, or its process, is hung or does not dispatch: look at its stack; if "
	  "it sleeps in its dispatch, a wake-up was lost" },
};

/* The first rule that holds, or NULL. */
static const struct rule *first(const struct look *look, const struct rule *rules, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		look->out->for_ns = 0;
		look->out->text[0] = 0;
		if (rules[i].holds(look))
			return &rules[i];
	}
	return NULL;
}

#define FIRST(look, rules) first(look, rules, sizeof(rules) / sizeof((rules)[0]))

uint32_t rules_find(const struct snap *snaps, uint32_t n, uint64_t grace_ns,
		    void (*fn)(void *ctx, const struct finding *finding), void *ctx)
{
	const struct snap *const last = &snaps[n - 1];
	struct finding out;
	struct look look = { .snaps = snaps, .n = n, .grace = grace_ns, .out = &out };
	uint32_t b, c, found = 0;

	for (b = 0; b < last->buses; b++) {
		const struct snap_bus *const bus = &last->bus[b];

		for (c = 0; c <= bus->count; c++) { /* the bus itself, then its channels */
			const struct rule *rule;

			look.bus = bus;
			look.chan = c ? &last->chan[bus->first + c - 1] : NULL;
			rule = look.chan ? FIRST(&look, chan_rules) : FIRST(&look, bus_rules);
			if (!rule)
				continue;
			out.code = rule->code;
			out.advice = rule->advice;
			out.bus = bus;
			out.chan = look.chan;
			fn(ctx, &out);
			found++;
		}
	}
	return found;
}
