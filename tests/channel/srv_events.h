/* SPDX-License-Identifier: MIT */
/*
 * For the exploration of the host machine: every event there is, of the child, the host and its
 * devices.  The list is closed under renaming of channels, instances and page list ids: what can
 * happen to one can happen to the other.
 */
#ifndef SRV_EVENTS_H
#define SRV_EVENTS_H

#include "channel/srv_world.h"

/* What a run leaves out, so that the rest can be explored to its end. */
enum {
	NO_PAUSE = 1,
	NO_UNFINISHED = 2, /* page lists come in one message, and can be */
	NO_RESERVED = 4,
	NO_MODIFY = 8,
	NO_REOFFER = 16,
	NO_SUB = 32,
	NO_BAD_VERSION = 64
};

static uint32_t version_now;
static struct vmbus_ctl message;
static const char *trouble;
static char detail[512];

static void complain(const char *what, const char *where)
{
	if (what && !trouble) {
		snprintf(detail, sizeof(detail), "%s (%s)", what, where);
		trouble = detail;
	}
}

static bool take(bool local)
{
	struct vmbus_srv_action a;

	if (!(local ? vmbus_srv_next_local(machine, &a) : vmbus_srv_next(machine, &a)))
		return false;
	if (a.act == VMBUS_SRV_SEND)
		complain(shadow_sent(&world.shadow, machine, &a), "message");
	return true;
}

static void post(uint32_t conn_id)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	const struct srv_shadow before = world.shadow;
	const uint32_t version = machine->version ? machine->version : VMBUS_PROTO_6_0;
	const int len = vmbus_ctl_encode(&message, version, machine->features | SRVBOX_FEATURES,
					 bytes, sizeof(bytes));
	struct vmbus_ctl ctl;

	must(len > 0);
	if (vmbus_ctl_decode(bytes, (size_t)len, machine->version, machine->features, &ctl) == 0)
		shadow_message(&world.shadow, machine, &ctl);
	if (vmbus_srv_message(machine, conn_id, bytes, (size_t)len))
		world.shadow = before;
}

/* The child's messages, by type; relid and number are what the type makes of them. */

static void say_contact(uint32_t version, uint32_t features)
{
	memset(&message, 0, sizeof(message));
	message.type = VMBUS_CTL_CONTACT;
	message.u.contact.version = version;
	message.u.contact.features = features;
	message.u.contact.target_sint = VMBUS_SINT_MESSAGE;
	post(version >= VMBUS_PROTO_5_0 ? VMBUS_CONN_CONTACT : VMBUS_CONN_MESSAGE);
}

static void ev_contact(uint32_t relid, uint32_t number)
{
	(void)relid;
	if (number)
		say_contact(VMBUS_PROTO_2_4 - 1, 0);
	else
		say_contact(version_now, SRVBOX_FEATURES);
}

/* A message of type number that names a channel, or nothing. */
static void ev_say(uint32_t relid, uint32_t number)
{
	memset(&message, 0, sizeof(message));
	message.type = number;
	message.u.chan.relid = relid;
	message.u.chan.target_sint = 4;
	post(VMBUS_CONN_MESSAGE);
}

static void ev_plain(uint32_t relid, uint32_t number)
{
	(void)relid;
	memset(&message, 0, sizeof(message));
	message.type = number;
	post(VMBUS_CONN_MESSAGE);
}

static void ev_modify(uint32_t relid, uint32_t number)
{
	memset(&message, 0, sizeof(message));
	message.type = VMBUS_CTL_MODIFY;
	message.u.modify.relid = relid;
	message.u.modify.target_vp = number;
	post(VMBUS_CONN_MESSAGE);
}

static void say_open(uint32_t type, uint32_t relid, uint32_t id)
{
	memset(&message, 0, sizeof(message));
	message.type = type;
	message.u.open.relid = relid;
	message.u.open.gpadl = id;
	message.u.open.downstream_page = 2;
	message.u.open.conn_id = 0x2000 + relid;
	message.u.open.event_flag = (uint16_t)relid;
	message.u.open.target_sint = 5;
	post(VMBUS_CONN_MESSAGE);
}

static void ev_open(uint32_t relid, uint32_t id)
{
	say_open(VMBUS_CTL_OPEN, relid, id);
}

static void ev_open_reserved(uint32_t relid, uint32_t id)
{
	say_open(VMBUS_CTL_OPEN_RESERVED, relid, id);
}

static void ev_teardown(uint32_t relid, uint32_t id)
{
	memset(&message, 0, sizeof(message));
	message.type = VMBUS_CTL_GPADL_TEARDOWN;
	message.u.created.relid = relid;
	message.u.created.gpadl = id;
	post(VMBUS_CONN_MESSAGE);
}

static void ev_body(uint32_t relid, uint32_t id)
{
	(void)relid;
	memset(&message, 0, sizeof(message));
	message.type = VMBUS_CTL_GPADL_BODY;
	message.u.gpadl.gpadl = id;
	message.u.gpadl.count = 2;
	post(VMBUS_CONN_MESSAGE);
}

/* Pages 4, in one message, or all but two of them, or ranges that cannot be: number / 4. */
static void ev_header(uint32_t relid, uint32_t number)
{
	const uint32_t id = number % 4, form = number / 4;

	memset(&message, 0, sizeof(message));
	message.type = VMBUS_CTL_GPADL_HEADER;
	message.u.gpadl.relid = relid;
	message.u.gpadl.gpadl = id;
	message.u.gpadl.range_bytes = 40;
	message.u.gpadl.range_count = 1;
	message.u.gpadl.count = form == 1 ? 3 : 5;
	message.u.gpadl.qwords[0] = form == 2 ? 0 : 4 * 4096;
	post(VMBUS_CONN_MESSAGE);
}

/* Calls of the host. */

static struct vmbus_srv_ref chan_ref(uint32_t slot)
{
	const struct vmbus_srv_ref ref = { slot, machine->chans[slot].gen };

	return ref;
}

static struct vmbus_srv_ref list_ref(uint32_t slot)
{
	const struct vmbus_srv_ref ref = { slot, machine->lists[slot].gen };

	return ref;
}

static void ev_offer(uint32_t sub_index, uint32_t instance)
{
	struct vmbus_offer offer = srvbox_offer_of((uint8_t)instance);
	struct vmbus_srv_ref ref;

	offer.sub_index = (uint16_t)sub_index;
	(void)vmbus_srv_offer(machine, &offer, &ref);
}

static void ev_disconnect(uint32_t a, uint32_t b)
{
	uint32_t i;

	(void)a, (void)b;
	vmbus_srv_disconnect(machine);
	memset(&world.shadow, 0, sizeof(world.shadow));
	for (i = 0; i < chans; i++)
		world.shadow.reserved[i + 1].may = machine->chans[i].reserved_reply;
}

/* Stale references are refused in every state. */
static void ev_stale_chan(uint32_t slot, uint32_t b)
{
	const struct vmbus_srv_ref stale = { slot, machine->chans[slot].gen - 1 };

	(void)b;
	must_eq(vmbus_srv_opened(machine, stale, 0), VMBUS_E_STATE);
	must_eq(vmbus_srv_closed(machine, stale), VMBUS_E_STATE);
	must_eq(vmbus_srv_modified(machine, stale, 0), VMBUS_E_STATE);
	must_eq(vmbus_srv_revoke(machine, stale), VMBUS_E_STATE);
	must_eq(vmbus_srv_reoffer(machine, stale), VMBUS_E_STATE);
}

static void ev_stale_list(uint32_t slot, uint32_t b)
{
	const struct vmbus_srv_ref stale = { slot, machine->lists[slot].gen - 1 };

	(void)b;
	must_eq(vmbus_srv_gpadl_ready(machine, stale, 0), VMBUS_E_STATE);
	must_eq(vmbus_srv_gpadl_gone(machine, stale), VMBUS_E_STATE);
}

static void ev_opened(uint32_t slot, uint32_t status)
{
	(void)vmbus_srv_opened(machine, chan_ref(slot), status);
}

static void ev_closed(uint32_t slot, uint32_t b)
{
	(void)b;
	(void)vmbus_srv_closed(machine, chan_ref(slot));
}

static void ev_revoke(uint32_t slot, uint32_t b)
{
	(void)b;
	(void)vmbus_srv_revoke(machine, chan_ref(slot));
}

static void ev_reoffer(uint32_t slot, uint32_t b)
{
	(void)b;
	(void)vmbus_srv_reoffer(machine, chan_ref(slot));
}

static void ev_modified(uint32_t slot, uint32_t b)
{
	(void)b;
	(void)vmbus_srv_modified(machine, chan_ref(slot), 0);
}

static void ev_connection_modified(uint32_t a, uint32_t b)
{
	(void)a, (void)b;
	(void)vmbus_srv_connection_modified(machine, 0);
}

static void ev_ready(uint32_t slot, uint32_t status)
{
	(void)vmbus_srv_gpadl_ready(machine, list_ref(slot), status);
}

static void ev_gone(uint32_t slot, uint32_t b)
{
	(void)b;
	(void)vmbus_srv_gpadl_gone(machine, list_ref(slot));
}

static void ev_take(uint32_t local, uint32_t b)
{
	(void)b;
	(void)take(local != 0);
}

/* The list of this run. */
#define EVENTS_MAX 160u
static struct event {
	const char *name;
	void (*fn)(uint32_t a, uint32_t b);
	uint32_t a, b;
} events[EVENTS_MAX];
static uint32_t event_count;

static void add_event(const char *name, void (*fn)(uint32_t, uint32_t), uint32_t a, uint32_t b)
{
	must(event_count < EVENTS_MAX);
	events[event_count].name = name;
	events[event_count].fn = fn;
	events[event_count].a = a;
	events[event_count++].b = b;
}

static void add_connection_events(uint32_t without)
{
	uint32_t i;

	add_event("CONTACT", ev_contact, 0, 0);
	if (!(without & NO_BAD_VERSION))
		add_event("CONTACT of a bad version", ev_contact, 0, 1);
	add_event("REQUEST_OFFERS", ev_plain, 0, VMBUS_CTL_REQUEST_OFFERS);
	add_event("UNLOAD", ev_plain, 0, VMBUS_CTL_UNLOAD);
	add_event("RESCIND, which is the parent's", ev_say, 1, VMBUS_CTL_RESCIND);
	add_event("disconnect", ev_disconnect, 0, 0);
	if (!(without & NO_PAUSE)) {
		add_event("PAUSE", ev_plain, 0, VMBUS_CTL_PAUSE);
		add_event("RESUME", ev_plain, 0, VMBUS_CTL_RESUME);
	}
	if (!(without & NO_MODIFY)) {
		add_event("MODIFY_CONNECTION", ev_plain, 0, VMBUS_CTL_MODIFY_CONNECTION);
		add_event("connection modified", ev_connection_modified, 0, 0);
	}
	for (i = 1; i <= 2; i++) {
		add_event("offer", ev_offer, 0, i);
		if (!(without & NO_SUB))
			add_event("offer a sub-channel", ev_offer, 1, i);
		if (!(without & NO_UNFINISHED))
			add_event("GPADL_BODY", ev_body, 0, i);
	}
	for (i = 0; lazy && i < 2; i++)
		add_event(i ? "take, not for the child" : "take", ev_take, i, 0);
}

/* Relids 1, 2, and one that is none. */
static void add_relid_events(uint32_t without, uint32_t relid)
{
	uint32_t id, form;

	add_event("CLOSE", ev_say, relid, VMBUS_CTL_CLOSE);
	add_event("RELID_RELEASED", ev_say, relid, VMBUS_CTL_RELID_RELEASED);
	if (!(without & NO_MODIFY))
		add_event("MODIFY", ev_modify, relid, 1);
	if (!(without & NO_RESERVED))
		add_event("CLOSE_RESERVED", ev_say, relid, VMBUS_CTL_CLOSE_RESERVED);
	for (id = 1; id <= 2; id++) {
		add_event("OPEN", ev_open, relid, id);
		if (!(without & NO_RESERVED))
			add_event("OPEN_RESERVED", ev_open_reserved, relid, id);
		add_event("GPADL_TEARDOWN", ev_teardown, relid, id);
		for (form = 0; form < (without & NO_UNFINISHED ? 1u : 3u); form++)
			add_event("GPADL_HEADER", ev_header, relid, form * 4 + id);
	}
}

static void make_events(uint32_t without)
{
	uint32_t i;

	event_count = 0;
	add_connection_events(without);
	for (i = 1; i <= 3; i++)
		add_relid_events(without, i);
	for (i = 0; i < chans; i++) {
		add_event("stale channel", ev_stale_chan, i, 0);
		add_event("opened", ev_opened, i, 0);
		add_event("opening failed", ev_opened, i, VMBUS_STATUS_FAILED);
		add_event("closed", ev_closed, i, 0);
		add_event("revoke", ev_revoke, i, 0);
		if (!(without & NO_REOFFER))
			add_event("reoffer", ev_reoffer, i, 0);
		if (!(without & NO_MODIFY))
			add_event("modified", ev_modified, i, 0);
	}
	for (i = 0; i < lists; i++) {
		add_event("stale page list", ev_stale_list, i, 0);
		add_event("page list ready", ev_ready, i, 0);
		add_event("page list refused", ev_ready, i, VMBUS_STATUS_FAILED);
		add_event("page list gone", ev_gone, i, 0);
	}
}

#endif
