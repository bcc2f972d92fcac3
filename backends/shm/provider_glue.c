/* SPDX-License-Identifier: MIT */
/*
 * The child's part of the channel protocol, played towards our own bus: contact, offers, page lists,
 * opening, closing.  What the parent wants of a channel is in its members; each advance posts what
 * leads there, as far as the bus takes messages, and tells the parent what has been reached.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/provider_client.h"

#define VERSION VMBUS_PROTO_5_3
#define HEADER_QWORDS 26u /* of a page list in its first message */
#define BODY_QWORDS 28u

/* Whether the bus took it; it may have no room now. */
static bool post(struct vmbus__pvc_part *part, const struct vmbus_ctl *ctl)
{
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	const int len = vmbus_ctl_encode(ctl, VERSION, 0, bytes, sizeof(bytes));

	if (len < 0)
		return false;
	part->due = true;
	return vmbus_bus_post_message(
		       part->bus, ctl->type == VMBUS_CTL_CONTACT ? VMBUS_CONN_CONTACT : part->conn,
		       VMBUS_MSG_TYPE_CTL, bytes, (uint32_t)len) == VMBUS_HC_OK;
}

void vmbus__pvc_contact(struct vmbus__pvc_part *part)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };

	ctl.u.contact.version = VERSION;
	ctl.u.contact.target_sint = VMBUS_SINT_MESSAGE;
	part->state = VMBUS_PVC_CONTACTING;
	(void)post(part, &ctl);
}

/* ---- what our bus posts ---- */

static struct vmbus__pvc_chan *by_relid(struct vmbus__pvc_part *part, uint32_t relid)
{
	struct vmbus__pvc_chan *c = part->chans;

	while (c && (c->relid != relid || !relid))
		c = c->next;
	return c;
}

static void on_version(struct vmbus__pvc_part *part, const struct vmbus_ctl_version *version)
{
	const struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };

	if (!version->supported || part->state != VMBUS_PVC_CONTACTING) {
		vmbus__pvc_lose(part->provider, "our own bus does not agree with us");
		return;
	}
	part->conn = version->conn_id;
	part->state = VMBUS_PVC_ASKING;
	(void)post(part, &ctl);
}

static void on_offer(struct vmbus__pvc_part *part, const struct vmbus_ctl_offer *offer)
{
	struct vmbus__pvc_chan *const c = vmbus__pvc_chan_get(part, offer->sub_index);

	if (!c)
		return;
	c->relid = offer->relid;
	c->conn = offer->conn_id;
}

static void on_all_offers(struct vmbus__pvc_part *part)
{
	const struct vmbus__pv_msg msg = { .type = VMBUS_PV_BUS_READY, .bus = part->id };

	if (part->state != VMBUS_PVC_ASKING)
		return;
	part->state = VMBUS_PVC_SERVING;
	vmbus__pvc_send(part->provider, &msg);
}

/* The opening is over; the parent was, or is now, told. */
static void closed(struct vmbus__pvc_chan *c)
{
	c->state = VMBUS_PVC_CLOSED;
	if (c->chan && c->journal)
		(void)vmbus_chan_set_journal(c->chan, NULL, 0);
	vmbus__pvc_chan_drop(c);
}

void vmbus__pvc_tell_fault(struct vmbus__pvc_chan *c)
{
	struct vmbus__pv_msg msg = {
		.type = VMBUS_PV_FAULT, .bus = c->part->id, .sub = c->sub, .open = c->serial
	};
	struct vmbus_chan_info info;
	int n = 0;

	if (c->chan) {
		vmbus_chan_info(c->chan, &info);
		n = snprintf(msg.text, sizeof(msg.text), "its provider: ");
		if (info.faulted && info.fault.field != VMBUS_FAULT_NONE)
			(void)vmbus_fault_format(&info.fault, msg.text + n,
						 sizeof(msg.text) - (size_t)n);
		else
			(void)snprintf(msg.text + n, sizeof(msg.text) - (size_t)n,
				       "the device ended it");
	}
	vmbus__pvc_send(c->part->provider, &msg);
}

static void on_opened(struct vmbus__pvc_chan *c, uint32_t status)
{
	const bool resumed =
		(c->flags & VMBUS_PV_RESUME) != 0 || (c->chan && vmbus_chan_resumed(c->chan));

	if (c->state != VMBUS_PVC_OPENING || c->rescinded)
		return;
	c->want_open = false;
	vmbus__pvc_tell(c, VMBUS_PV_OPENED, status == VMBUS_STATUS_OK ? 0 : VMBUS_E_PEER);
	if (status == VMBUS_STATUS_OK) {
		c->state = VMBUS_PVC_OPEN;
		if (resumed) /* what the last one published, and did not signal */
			vmbus__pvc_chan_raise_anew(c);
		return;
	}
	if (c->want_close)
		vmbus__pvc_tell(c, VMBUS_PV_CLOSED, 0);
	closed(c);
}

/* Our bus tells nobody that a channel is closed; its state does. */
static bool is_closed(const struct vmbus__pvc_chan *c)
{
	struct vmbus_chan_info info;

	if (!c->chan)
		return true;
	vmbus_chan_info(c->chan, &info);
	return strcmp(info.state, vmbus_srv_state_name(VMBUS_SRV_CLOSED)) == 0;
}

static void release(struct vmbus__pvc_part *part, uint32_t relid)
{
	if (relid <= VMBUS_RELID_MAX)
		part->release[relid / 64u] |= (uint64_t)1 << relid % 64u;
}

/* It was withdrawn, and its device holds nothing of the child's any more. */
static void advance_rescind(struct vmbus__pvc_chan *c)
{
	struct vmbus__pvc_list *list;

	if (!is_closed(c))
		return;
	for (list = c->lists; list; list = list->next)
		list->state = VMBUS_PVC_DEAD;
	release(c->part, c->relid);
	c->relid = 0;
	c->rescinded = false;
	if (c->state == VMBUS_PVC_CLOSED)
		return;
	if (c->state == VMBUS_PVC_OPENING)
		vmbus__pvc_tell(c, VMBUS_PV_OPENED, VMBUS_E_PEER);
	if (c->want_close)
		vmbus__pvc_tell(c, VMBUS_PV_CLOSED, 0);
	closed(c);
}

/*
 * Our bus says so at once, and its device may use the child's pages for long after that.  Until it has
 * let go the parent hears of nothing by which the child would have them back: of a fault, but of no
 * CLOSED, of no opening that failed, and of no list that is gone.
 */
static void on_rescind(struct vmbus__pvc_part *part, uint32_t relid)
{
	struct vmbus__pvc_chan *const c = by_relid(part, relid);

	if (!c) {
		release(part, relid);
		return;
	}
	if (c->state == VMBUS_PVC_OPEN && !c->want_close)
		vmbus__pvc_tell_fault(c);
	c->rescinded = true;
	advance_rescind(c);
}

/* False: the bus has no room, go on later. */
static bool advance_releases(struct vmbus__pvc_part *part)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_RELID_RELEASED };
	uint32_t i;

	for (i = 0; i < sizeof(part->release) / sizeof(part->release[0]); i++)
		while (part->release[i]) {
			ctl.u.chan.relid = i * 64u + (uint32_t)__builtin_ctzll(part->release[i]);
			if (!post(part, &ctl))
				return false;
			part->release[i] &= part->release[i] - 1u;
		}
	return true;
}

static struct vmbus__pvc_list *list_in(struct vmbus__pvc_part *part, uint32_t relid, uint32_t id,
				       enum vmbus__pvc_list_state state)
{
	struct vmbus__pvc_chan *c;
	struct vmbus__pvc_list *list;

	for (c = part->chans; c; c = c->next)
		for (list = c->lists; list && (!relid || c->relid == relid); list = list->next)
			if (list->id == id && list->state == state)
				return list;
	return NULL;
}

/* The child may name it in packets, as soon as the parent hears of it. */
static void tell_known(struct vmbus__pvc_part *part, const struct vmbus__pvc_chan *c,
		       const struct vmbus__pvc_list *list)
{
	const struct vmbus__pv_msg msg = {
		.type = VMBUS_PV_GPADL_KNOWN, .bus = part->id, .sub = c->sub, .gpadl = list->id
	};

	vmbus__pvc_send(part->provider, &msg);
}

static void on_created(struct vmbus__pvc_part *part, const struct vmbus_ctl *ctl)
{
	struct vmbus__pvc_list *const list =
		list_in(part, ctl->u.created.relid, ctl->u.created.gpadl, VMBUS_PVC_POSTED);

	if (!list)
		return;
	list->state = ctl->u.created.status == VMBUS_STATUS_OK ? VMBUS_PVC_READY : VMBUS_PVC_DEAD;
	tell_known(part, by_relid(part, ctl->u.created.relid), list);
}

static void on_torndown(struct vmbus__pvc_part *part, uint32_t id)
{
	struct vmbus__pvc_list *const list = list_in(part, 0, id, VMBUS_PVC_TEARING);

	if (list)
		list->state = VMBUS_PVC_DEAD;
}

void vmbus__pvc_posted(struct vmbus__pvc_part *part, const void *payload, uint32_t bytes)
{
	struct vmbus__pvc_chan *c;
	struct vmbus_ctl ctl;

	part->advance = true;
	if (part->state == VMBUS_PVC_ENDING || vmbus_ctl_decode(payload, bytes, VERSION, 0, &ctl))
		return;
	switch (ctl.type) {
	case VMBUS_CTL_VERSION_RESPONSE:
		on_version(part, &ctl.u.version);
		break;
	case VMBUS_CTL_OFFER:
		on_offer(part, &ctl.u.offer);
		break;
	case VMBUS_CTL_ALL_OFFERS:
		on_all_offers(part);
		break;
	case VMBUS_CTL_OPEN_RESULT:
		c = by_relid(part, ctl.u.result.relid);
		if (c)
			on_opened(c, ctl.u.result.status);
		break;
	case VMBUS_CTL_RESCIND:
		on_rescind(part, ctl.u.chan.relid);
		break;
	case VMBUS_CTL_GPADL_CREATED:
		on_created(part, &ctl);
		break;
	case VMBUS_CTL_GPADL_TORNDOWN:
		on_torndown(part, ctl.u.created.gpadl);
		break;
	default:
		break;
	}
}

/* ---- towards what the parent wants ---- */

/* Post as much of a page list as the bus takes. */
static bool post_list(struct vmbus__pvc_chan *c, struct vmbus__pvc_list *list)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_HEADER };
	struct vmbus_ctl_gpadl *const m = &ctl.u.gpadl;

	while (list->sent < list->count) {
		const uint32_t most = list->sent ? BODY_QWORDS : HEADER_QWORDS;
		const uint32_t left = list->count - list->sent;

		ctl.type = list->sent ? VMBUS_CTL_GPADL_BODY : VMBUS_CTL_GPADL_HEADER;
		m->relid = c->relid;
		m->gpadl = list->id;
		m->range_bytes = list->count * 8u;
		m->range_count = list->ranges;
		m->count = left < most ? left : most;
		memcpy(m->qwords, list->qwords + list->sent, m->count * sizeof(m->qwords[0]));
		if (!post(c->part, &ctl))
			return false;
		list->sent += m->count;
	}
	list->state = VMBUS_PVC_POSTED;
	return true;
}

static bool tear(struct vmbus__pvc_chan *c, struct vmbus__pvc_list *list)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_TEARDOWN };

	ctl.u.created.relid = c->relid;
	ctl.u.created.gpadl = list->id;
	if (!post(c->part, &ctl))
		return false;
	list->state = VMBUS_PVC_TEARING;
	return true;
}

static void list_done(struct vmbus__pvc_chan *c, struct vmbus__pvc_list *list)
{
	const struct vmbus__pv_msg msg = {
		.type = VMBUS_PV_GPADL_DONE, .bus = c->part->id, .sub = c->sub, .gpadl = list->id
	};
	struct vmbus__pvc_list **at = &c->lists;

	while (*at != list)
		at = &(*at)->next;
	*at = list->next;
	free(list);
	vmbus__pvc_send(c->part->provider, &msg);
}

/* False: the bus has no room, go on later. */
static bool advance_lists(struct vmbus__pvc_chan *c)
{
	struct vmbus__pvc_list *list, *next;

	for (list = c->lists; list; list = next) {
		next = list->next;
		if (list->going && (list->state == VMBUS_PVC_DEAD ||
				    (list->state == VMBUS_PVC_NEW && !list->sent))) {
			list_done(c, list);
			continue;
		}
		if (c->rescinded) /* our bus hears no more of it under this number */
			continue;
		if (list->state == VMBUS_PVC_NEW && c->relid && !post_list(c, list))
			return false;
		/* The rings' list goes when they are closed, as a child would do it. */
		if (list->going && list->state == VMBUS_PVC_READY && c->state == VMBUS_PVC_CLOSED &&
		    !tear(c, list))
			return false;
		if (list->going && list->state == VMBUS_PVC_READY && list->id != c->gpadl &&
		    !tear(c, list))
			return false;
	}
	return true;
}

static void refuse_open(struct vmbus__pvc_chan *c, int err)
{
	vmbus__pvc_tell(c, VMBUS_PV_OPENED, err);
	if (c->want_close)
		vmbus__pvc_tell(c, VMBUS_PV_CLOSED, 0);
	vmbus__pvc_chan_drop(c);
}

/* A sub-channel that the parent has since the last provider: offer it here too. */
static bool offer_sub(struct vmbus__pvc_chan *c)
{
	struct vmbus__pvc_part *const part = c->part;
	struct vmbus__pvc_chan *const primary = vmbus__pvc_chan_get(part, 0);
	uint32_t i;
	int err = 0;

	if (!primary || !primary->chan || !((c->flags | primary->flags) & VMBUS_PV_RESUME) ||
	    (primary->state != VMBUS_PVC_OPEN && !primary->want_open))
		return false;
	if (primary->state != VMBUS_PVC_OPEN)
		return true; /* soon */
	part->own_offer = true;
	for (i = 0; i < c->sub && !c->chan && !err; i++)
		err = vmbus_chan_offer_subchannels(primary->chan, 1);
	part->own_offer = false;
	return c->chan != NULL;
}

static enum vmbus__pvc_list_state ring_list(const struct vmbus__pvc_chan *c)
{
	const struct vmbus__pvc_list *list;

	for (list = c->lists; list; list = list->next)
		if (list->id == c->gpadl && !list->going)
			return list->state;
	return VMBUS_PVC_DEAD;
}

static bool post_open(struct vmbus__pvc_chan *c)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_OPEN };
	struct vmbus_ctl_open *const m = &ctl.u.open;

	m->relid = c->relid;
	m->open_id = c->serial;
	m->gpadl = c->gpadl;
	m->target_vp = c->slot; /* so that the backend knows whose signal it is */
	m->downstream_page = c->down_page;
	memcpy(m->user, c->user, sizeof(m->user));
	return post(c->part, &ctl);
}

static bool advance_open(struct vmbus__pvc_chan *c)
{
	const enum vmbus__pvc_list_state rings = ring_list(c);
	int err;

	if (rings == VMBUS_PVC_DEAD || rings == VMBUS_PVC_TEARING) {
		refuse_open(c, VMBUS_E_PEER);
		return true;
	}
	if (!c->chan && (c->sub == 0 || !offer_sub(c))) {
		refuse_open(c, VMBUS_E_STATE);
		return true;
	}
	if (!c->chan || !c->relid || rings != VMBUS_PVC_READY)
		return true;
	err = c->journal ? vmbus_chan_set_journal(c->chan, c->journal, c->journal_bytes) : 0;
	if (!err && c->journal && c->flags & VMBUS_PV_RESUME)
		err = vmbus_chan_must_resume(c->chan);
	if (err) {
		refuse_open(c, err);
		return true;
	}
	if (!post_open(c))
		return false;
	if (c->sub == 0)
		c->part->subs = 0;
	c->state = VMBUS_PVC_OPENING;
	return true;
}

static bool advance_close(struct vmbus__pvc_chan *c)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CLOSE };

	switch (c->state) {
	case VMBUS_PVC_CLOSED:
		refuse_open(c, VMBUS_E_STATE);
		break;
	case VMBUS_PVC_OPEN:
		ctl.u.chan.relid = c->relid;
		if (!post(c->part, &ctl))
			return false;
		c->state = VMBUS_PVC_CLOSING;
		break;
	case VMBUS_PVC_CLOSING:
		if (!is_closed(c))
			break;
		vmbus__pvc_tell(c, VMBUS_PV_CLOSED, 0);
		closed(c);
		break;
	case VMBUS_PVC_OPENING:
	default:
		break; /* the result comes first */
	}
	return true;
}

/* No more than the socket holds: what waits for room behind other words is one signal. */
static void tell_signal(struct vmbus__pvc_chan *c)
{
	if (!c->signal_due || c->part->provider->out)
		return;
	c->signal_due = false;
	if (c->state == VMBUS_PVC_OPEN || c->state == VMBUS_PVC_OPENING)
		vmbus__pvc_tell(c, VMBUS_PV_SIGNAL, 0);
}

void vmbus__pvc_tell_signals(struct vmbus__pvc_part *part)
{
	struct vmbus__pvc_chan *c;

	for (c = part->chans; c; c = c->next)
		tell_signal(c);
}

static bool advance_chan(struct vmbus__pvc_chan *c)
{
	tell_signal(c);
	if (c->rescinded)
		advance_rescind(c);
	if (c->want_close && !c->rescinded && !advance_close(c))
		return false;
	if (!advance_lists(c))
		return false;
	if (c->want_open && !c->want_close && c->state == VMBUS_PVC_CLOSED)
		return advance_open(c);
	return true;
}

void vmbus__pvc_advance(struct vmbus__pvc_part *part)
{
	struct vmbus__pvc_chan *c;
	bool again = false;

	part->advance = false;
	if (part->state != VMBUS_PVC_SERVING)
		return;
	for (c = part->chans; c && !again; c = c->next)
		again = !advance_chan(c);
	again = again || !advance_releases(part);
	/* A device may close later than its bus has work. */
	for (c = part->chans; c && !again; c = c->next)
		again = c->state == VMBUS_PVC_CLOSING || c->rescinded;
	part->advance = again;
}
