/* SPDX-License-Identifier: MIT */
/*
 * What a provider says: each message is checked against what it was told, and moves the channel
 * that it names.  Why one that says anything else is thrown out is told by what take() returns.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "shm/provider_host.h"

#define SUBS_MAX VMBUS_RELID_MAX

static struct vmbus__pvh_seat *find_seat(const struct vmbus__pvh_session *session, uint32_t id)
{
	struct vmbus__pvh_seat *seat;

	for (seat = session->device->seats; seat; seat = seat->next)
		if (seat->id == id && seat->bus && seat->view[session->which].step)
			return seat;
	return NULL;
}

/* The channel and opening that a message names, if both are there still. */
static struct vmbus__pvh_chan *find_opening(struct vmbus__pvh_seat *seat,
					    const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvh_chan *c;

	for (c = seat->chans; c; c = c->next)
		if (c->sub == msg->sub && c->serial == msg->open && c->told_open)
			return c;
	return NULL;
}

/* Every opening that was under way when the last provider went is served again. */
static void note_pause(struct vmbus__pvh_device *device)
{
	const struct vmbus__pvh_seat *seat;
	const struct vmbus__pvh_chan *c;

	if (!device->pause_from)
		return;
	for (seat = device->seats; seat; seat = seat->next)
		for (c = seat->chans; c; c = c->next)
			if (c->was_open && !c->served)
				return;
	device->pause_ns = vmbus__shm_now_ns() - device->pause_from;
	device->pause_from = 0;
	vmbus__shm_log(&device->host->log, VMBUS_LOG_INFO, "provider %s: resumed after %llu us",
		       device->name, (unsigned long long)device->pause_ns / 1000u);
}

static void note_again(struct vmbus__pvh_chan *c)
{
	const struct vmbus__pvh_device *const device = c->seat->device;
	struct vmbus_record_note note = { .kind = VMBUS_RECORD_PROVIDER_AGAIN };

	if (!device->session)
		return;
	note.a = (uint64_t)device->session->pid;
	note.b = device->pause_from ? vmbus__shm_now_ns() - device->pause_from : 0;
	vmbus__pvh_chan_note(c, &note);
}

static const char *take_opened(struct vmbus__pvh_chan *c, const struct vmbus__pv_msg *msg)
{
	const int err = msg->err && msg->err < 100u ? -(int)msg->err : msg->err ? VMBUS_E_PEER : 0;

	if (c->served)
		return "OPENED twice";
	if (c->state == VMBUS_PVH_CLOSING) /* CLOSED follows */
		return NULL;
	vmbus__pvh_wait_end(&c->wait);
	if (c->state == VMBUS_PVH_OPENING) {
		c->served = !err;
		vmbus__pvh_chan_opened(c, err);
		if (!err && (c->tell_wake || c->tell_signal))
			vmbus__pvh_chan_due(c);
	} else if (!err) {
		c->served = true;
		note_again(c);
	} else { /* it could not go on */
		vmbus_chan_fail(c->chan, "its new provider cannot go on with it");
	}
	note_pause(c->seat->device);
	return NULL;
}

static const char *take_closed(struct vmbus__pvh_chan *c)
{
	if (c->state != VMBUS_PVH_CLOSING || !c->told_close)
		return "CLOSED that was not asked for";
	vmbus__pvh_chan_closed(c);
	return NULL;
}

static const char *take_fault(struct vmbus__pvh_chan *c, const struct vmbus__pv_msg *msg)
{
	if (c->state == VMBUS_PVH_OPENING)
		vmbus__pvh_chan_opened(c, VMBUS_E_PEER);
	else if (c->state == VMBUS_PVH_OPEN)
		vmbus_chan_fail(c->chan, msg->text);
	return NULL;
}

static const char *take_of_opening(struct vmbus__pvh_chan *c, const struct vmbus__pv_msg *msg)
{
	switch (msg->type) {
	case VMBUS_PV_OPENED:
		return take_opened(c, msg);
	case VMBUS_PV_CLOSED:
		return take_closed(c);
	case VMBUS_PV_FAULT:
		return take_fault(c, msg);
	default:
		if (c->state == VMBUS_PVH_OPENING || c->state == VMBUS_PVH_OPEN)
			vmbus_chan_signal(c->chan);
		return NULL;
	}
}

static const char *take_done(struct vmbus__pvh_seat *seat, const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvh_chan *c;
	struct vmbus__pvh_list *list;

	for (c = seat->chans; c; c = c->next)
		for (list = c->lists; list && c->sub == msg->sub; list = list->next)
			if (list->id == msg->gpadl && list->told_gone) {
				vmbus__pvh_list_free(c, list);
				vmbus_chan_gpadl_done(c->chan, msg->gpadl);
				return NULL;
			}
	return NULL; /* it went otherwise meanwhile */
}

static const char *take_known(struct vmbus__pvh_seat *seat, const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvh_chan *c;
	struct vmbus__pvh_list *list;

	for (c = seat->chans; c; c = c->next)
		for (list = c->lists; list && c->sub == msg->sub; list = list->next)
			if (list->id == msg->gpadl && list->told && list->early)
				vmbus__pvh_list_known(c, list);
	return NULL; /* nothing waited for it, or it went otherwise meanwhile */
}

static const char *take_subs(struct vmbus__pvh_seat *seat, const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvh_chan *const c = vmbus__pvh_chan_find(seat, 0);

	if (msg->count == 0 || msg->count > SUBS_MAX)
		return "sub-channels without number";
	if (!c || !c->told_open || (c->state != VMBUS_PVH_OPENING && c->state != VMBUS_PVH_OPEN))
		return NULL; /* closed meanwhile */
	/* The total: one that resumes may say again what the last one said. */
	if (msg->count > c->subs) {
		const uint32_t more = msg->count - c->subs;

		c->subs = msg->count;
		(void)vmbus_chan_offer_subchannels(c->chan, more);
	}
	return NULL;
}

static const char *take_of_bus(struct vmbus__pvh_session *session, struct vmbus__pvh_seat *seat,
			       const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvh_chan *c;

	switch (msg->type) {
	case VMBUS_PV_BUS_READY:
		if (seat->view[session->which].step <= seat->bus->region_count)
			return "BUS_READY before its memory was told";
		seat->view[session->which].ready = true;
		vmbus__pvh_handover(session->device);
		return NULL;
	case VMBUS_PV_GPADL_DONE:
		return take_done(seat, msg);
	case VMBUS_PV_GPADL_KNOWN:
		return take_known(seat, msg);
	case VMBUS_PV_SUBS:
		return take_subs(seat, msg);
	default:
		if (msg->open > session->device->host->next_serial)
			return "an opening that never was";
		c = find_opening(seat, msg);
		return c ? take_of_opening(c, msg) : NULL;
	}
}

/* Returns why it is to be thrown out, or NULL. */
static const char *take(struct vmbus__pvh_session *session, const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvh_seat *seat;

	switch (msg->type) {
	case VMBUS_PV_BUS_READY:
	case VMBUS_PV_GPADL_DONE:
	case VMBUS_PV_GPADL_KNOWN:
	case VMBUS_PV_OPENED:
	case VMBUS_PV_CLOSED:
	case VMBUS_PV_SIGNAL:
	case VMBUS_PV_SUBS:
	case VMBUS_PV_FAULT:
		if (msg->bus == 0 || msg->bus > session->device->host->next_id)
			return "a bus that never was";
		if (session->takes_over && msg->type != VMBUS_PV_BUS_READY)
			return "words about channels that are another's";
		seat = find_seat(session, msg->bus);
		return seat ? take_of_bus(session, seat, msg) : NULL;
	case VMBUS_PV_MEMORY:
		return vmbus__pvh_memory_ask(session, msg);
	case VMBUS_PV_YIELDED:
		if (!session->told_yield)
			return "YIELDED that was not asked for";
		session->dead = true;
		vmbus__pvh_session_lost(session, true, NULL);
		return NULL;
	case VMBUS_SHM_BYE:
		session->dead = true;
		vmbus__pvh_session_lost(session, !session->yielding, NULL);
		return NULL;
	default:
		return "a message that a provider does not send";
	}
}

uint32_t vmbus__pvh_session_read(struct vmbus__pvh_session *session, uint32_t budget)
{
	struct vmbus_provider_host *const host = session->device->host;
	const uint32_t slot = session->slot;
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	const char *wrong;
	uint32_t done = 0;
	int got = 1;

	while (done < budget && host->sessions[slot] == session && !session->dead) {
		got = vmbus__shm_recv(session->sock, &record);
		if (got <= 0)
			break;
		done++;
		wrong = record.cut || record.fd_count ||
					vmbus__pv_decode(record.bytes, record.len, &msg)
				? "a message that cannot be read"
				: take(session, &msg);
		if (wrong && host->sessions[slot] == session)
			vmbus__pvh_throw(session, wrong);
		vmbus__shm_record_close(&record);
	}
	if (host->sessions[slot] != session)
		return done;
	session->readable = got > 0 && done == budget;
	if (session->dead)
		return done;
	if (session->exited)
		session->last_words += done;
	if (session->exited && (got <= 0 || session->last_words >= VMBUS_PVH_LAST_WORDS))
		vmbus__pvh_throw(session, NULL);
	else if (got < 0)
		vmbus__pvh_throw(session, got == VMBUS_E_PEER && vmbus__pvh_hung_up(session)
						  ? NULL
						  : "an empty message, or none that can be taken");
	return done;
}
