/* SPDX-License-Identifier: MIT */
/*
 * What must hold in the host machine between any two calls, recounted from its objects; and a
 * shadow that keeps account of what the child asked for and what it was told.  Both return a text
 * when something is wrong, so that tests and fuzz targets can use them.
 */
#ifndef SRV_CHECK_H
#define SRV_CHECK_H

#include <stdio.h>
#include <string.h>

#include "channel/srv.h"

#define SRV_BROKEN(cond)                                                                           \
	do {                                                                                       \
		if (cond)                                                                          \
			return #cond;                                                              \
	} while (0)

static inline bool srv_due(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t index)
{
	/* Nothing is in a list: srv_check_output() sees to it that nothing hangs elsewhere. */
	if (srv->head[SIDE_LOCAL] == NIL && srv->head[SIDE_CHILD] == NIL)
		return false;
	return vmbus__srv_is_due(srv, kind, index);
}

static inline const char *srv_check_output(const struct vmbus_srv *srv)
{
	uint32_t side, i, linked = 0, hanging = 0, used = srv->opts.queue_max, due = 0;

	for (side = 0; side < SIDES; side++) {
		uint32_t prev = NIL;

		for (i = srv->head[side]; i != NIL; i = srv->nodes[i].next) {
			SRV_BROKEN(srv->nodes[i].prev != prev);
			SRV_BROKEN(++linked > srv->base[G_GROUPS]);
			prev = i;
		}
		SRV_BROKEN(srv->tail[side] != prev);
	}
	for (i = 0; i < srv->base[G_GROUPS]; i++)
		hanging += srv->nodes[i].next != i;
	SRV_BROKEN(linked != hanging);
	for (i = srv->free_entry; i != NIL; i = srv->entries[i].next_free) {
		SRV_BROKEN(srv_due(srv, K_ENTRY, i));
		SRV_BROKEN(used == 0);
		used--;
	}
	for (i = 0; i < srv->opts.queue_max; i++)
		due += srv_due(srv, K_ENTRY, i);
	SRV_BROKEN(due != used);
	return NULL;
}

/* Whether the device has the channel's rings. */
static inline bool srv_device_is_busy(uint32_t state)
{
	switch (state) {
	case VMBUS_SRV_OPENING:
	case VMBUS_SRV_OPENED:
	case VMBUS_SRV_CLOSING:
	case VMBUS_SRV_CLOSING_REOPEN:
	case VMBUS_SRV_REVOKED_OPENING:
	case VMBUS_SRV_REVOKED_CLOSING:
	case VMBUS_SRV_OPENING_RELEASE:
	case VMBUS_SRV_CLOSING_RELEASE:
		return true;
	default:
		return false;
	}
}

static inline bool srv_has_relid(uint32_t state)
{
	return state >= VMBUS_SRV_CLOSED && state <= VMBUS_SRV_REVOKED_CLOSING;
}

static inline const char *srv_check_chan(const struct vmbus_srv *srv, uint32_t slot)
{
	const struct srv_chan *chan = &srv->chans[slot];
	const uint32_t s = chan->state;
	uint32_t n = 0, at, prev = NIL;

	SRV_BROKEN(s >= VMBUS_SRV_STATES);
	if (s == VMBUS_SRV_FREE) {
		SRV_BROKEN(srv_due(srv, K_OFFER, slot) || srv_due(srv, K_RESCIND, slot));
		SRV_BROKEN(srv_due(srv, K_RESULT, slot) || srv_due(srv, K_MODIFIED, slot));
		SRV_BROKEN(srv_due(srv, K_OPEN, slot) || srv_due(srv, K_CLOSE, slot));
		SRV_BROKEN(srv_due(srv, K_MODIFY, slot) || srv_due(srv, K_RESERVED_CLOSED, slot));
		return NULL;
	}
	SRV_BROKEN(srv_due(srv, K_RELEASED, slot));
	for (at = chan->lists; at != NIL; at = srv->lists[at].next_in_chan) {
		SRV_BROKEN(srv->lists[at].chan != slot);
		SRV_BROKEN(srv->lists[at].state == L_FREE);
		SRV_BROKEN(srv->lists[at].prev_in_chan != prev);
		SRV_BROKEN(++n > srv->opts.gpadls_max);
		prev = at;
	}
	SRV_BROKEN(n != chan->list_count);
	SRV_BROKEN(srv_device_is_busy(s) != (chan->ring != NIL));
	if (chan->ring != NIL) {
		SRV_BROKEN(srv->lists[chan->ring].chan != slot);
		SRV_BROKEN(srv->lists[chan->ring].state != L_ACCEPTED &&
			   srv->lists[chan->ring].state != L_HELD);
	}
	SRV_BROKEN(srv_due(srv, K_OPEN, slot) && s != VMBUS_SRV_OPENING &&
		   s != VMBUS_SRV_REVOKED_OPENING && s != VMBUS_SRV_OPENING_RELEASE);
	SRV_BROKEN(srv_due(srv, K_CLOSE, slot) && s != VMBUS_SRV_CLOSING &&
		   s != VMBUS_SRV_CLOSING_REOPEN && s != VMBUS_SRV_REVOKED_CLOSING &&
		   s != VMBUS_SRV_CLOSING_RELEASE);
	SRV_BROKEN(srv_due(srv, K_MODIFY, slot) && !chan->modifying);
	SRV_BROKEN(srv_due(srv, K_OFFER, slot) && !srv_has_relid(s));
	SRV_BROKEN(srv_due(srv, K_RESULT, slot) && !srv_has_relid(s));
	SRV_BROKEN(srv_due(srv, K_RESCIND, slot) && !vmbus__srv_is_revoked(s));
	SRV_BROKEN(vmbus__srv_is_revoked(s) && chan->fate == VMBUS_SRV_KEEP);
	SRV_BROKEN(chan->survives && (!chan->reserved || chan->ring == NIL));
	SRV_BROKEN(chan->reserved_reply && !srv_device_is_busy(s));
	SRV_BROKEN(chan->state == VMBUS_SRV_CLIENT_RELEASED &&
		   (chan->list_count || chan->modifying));
	SRV_BROKEN(srv_has_relid(s) && !chan->survives && !vmbus__srv_conn_is_ready(srv));
	return NULL;
}

/* One instance is one device's: of one class, in one place of the order, each sub-channel once. */
static inline const char *srv_check_instances(const struct vmbus_srv *srv)
{
	uint32_t i, k;

	for (i = srv->order; i != NIL; i = srv->chans[i].next)
		for (k = srv->order; k != i; k = srv->chans[k].next) {
			const struct vmbus_offer *a = &srv->chans[i].offer,
						 *b = &srv->chans[k].offer;

			if (memcmp(&a->instance_id, &b->instance_id, sizeof(a->instance_id)) != 0)
				continue;
			SRV_BROKEN(memcmp(&a->class_id, &b->class_id, sizeof(a->class_id)) != 0);
			SRV_BROKEN(a->order != b->order);
			SRV_BROKEN(a->sub_index == b->sub_index);
		}
	return NULL;
}

static inline const char *srv_check_chans(const struct vmbus_srv *srv)
{
	uint32_t i, n = 0, away = 0, order = 0, idle = 0, pending = 0, prev = NIL;
	const char *wrong;

	for (i = 0; i < srv->opts.chans_max; i++) {
		const struct srv_chan *chan = &srv->chans[i];

		wrong = srv_check_chan(srv, i);
		if (wrong)
			return wrong;
		n += chan->state != VMBUS_SRV_FREE;
		away += !chan->survives && chan->state > VMBUS_SRV_CLIENT_RELEASED;
		pending += srv_due(srv, K_RELEASED, i);
	}
	SRV_BROKEN(n != srv->stats.channels);
	SRV_BROKEN(away != srv->away);
	for (i = srv->order; i != NIL; i = srv->chans[i].next) {
		SRV_BROKEN(srv->chans[i].state == VMBUS_SRV_FREE);
		SRV_BROKEN(srv->chans[i].prev != prev);
		SRV_BROKEN(++order > n);
		prev = i;
	}
	SRV_BROKEN(order != n);
	for (i = srv->free_chan; i != NIL; i = srv->chans[i].next) {
		SRV_BROKEN(srv->chans[i].state != VMBUS_SRV_FREE);
		SRV_BROKEN(++idle > srv->opts.chans_max);
	}
	SRV_BROKEN(n + idle + pending != srv->opts.chans_max);
	return srv_check_instances(srv);
}

static inline const char *srv_check_list(const struct vmbus_srv *srv, uint32_t at)
{
	const struct srv_list *list = &srv->lists[at];
	const uint32_t s = list->state;

	SRV_BROKEN(s >= L_STATES);
	SRV_BROKEN(srv_due(srv, K_ASK, at) && s != L_OFFERED && s != L_OFFERED_DROP);
	SRV_BROKEN(srv_due(srv, K_DOWN, at) && s != L_DOWN);
	SRV_BROKEN((s == L_FREE || s == L_DONE) != (list->qwords == NULL));
	SRV_BROKEN((s == L_UNFINISHED || s == L_OFFERED) && !list->created_owed);
	SRV_BROKEN(s == L_UNFINISHED && list->have >= list->want);
	SRV_BROKEN(s != L_UNFINISHED && s != L_FREE && s != L_DONE && list->have == 0);
	SRV_BROKEN(s == L_DONE && (list->created_owed || list->torn_owed));
	SRV_BROKEN(s == L_DONE && !srv_due(srv, K_CREATED, at) && !srv_due(srv, K_TORNDOWN, at));
	SRV_BROKEN((s == L_FREE || s == L_UNFINISHED || s == L_OFFERED) &&
		   srv_due(srv, K_CREATED, at));
	SRV_BROKEN(srv_due(srv, K_TORNDOWN, at) && s != L_DONE);
	SRV_BROKEN(s == L_HELD && srv->chans[list->chan].ring == NIL);
	return NULL;
}

static inline const char *srv_check_lists(const struct vmbus_srv *srv)
{
	uint32_t i, k, n = 0, unfinished = 0, idle = 0, hashed = 0;
	uint64_t bytes = 0;
	const char *wrong;

	for (i = 0; i < srv->opts.gpadls_max; i++) {
		const struct srv_list *list = &srv->lists[i];

		wrong = srv_check_list(srv, i);
		if (wrong)
			return wrong;
		n += list->state != L_FREE;
		bytes += list->qwords ? list->pages * 4096ull : 0;
		if (list->state != L_UNFINISHED)
			continue;
		unfinished++;
		for (k = 0; k < i; k++)
			SRV_BROKEN(srv->lists[k].state == L_UNFINISHED &&
				   srv->lists[k].id == list->id);
	}
	for (i = srv->free_list; i != NIL; i = srv->lists[i].next_in_bucket)
		SRV_BROKEN(++idle > srv->opts.gpadls_max);
	for (i = 0; i <= srv->bucket_mask; i++)
		for (k = srv->buckets[i]; k != NIL; k = srv->lists[k].next_in_bucket)
			SRV_BROKEN(++hashed > n || srv->lists[k].state == L_FREE);
	SRV_BROKEN(n != hashed);
	SRV_BROKEN(n + idle != srv->opts.gpadls_max);
	SRV_BROKEN(n != srv->stats.gpadls);
	SRV_BROKEN(unfinished != srv->unfinished);
	SRV_BROKEN(bytes != srv->stats.gpadl_bytes);
	SRV_BROKEN(bytes > srv->opts.gpadl_bytes_max);
	SRV_BROKEN(unfinished > srv->opts.gpadls_unfinished_max);
	return NULL;
}

static inline const char *srv_check_conn(const struct vmbus_srv *srv)
{
	const bool leaving = srv->conn >= CONN_UNLOADING;
	uint32_t i, n = 0;

	SRV_BROKEN(srv->conn >= CONN_STATES);
	SRV_BROKEN(srv->dropping);
	SRV_BROKEN(srv->conn == CONN_OFF && (srv->version || srv->modifying));
	SRV_BROKEN(leaving && !srv->away && !srv->modifying);
	SRV_BROKEN(srv->hold && srv->conn != CONN_ON_PAUSED && srv->conn != CONN_READY_PAUSED);
	SRV_BROKEN(leaving && (srv_due(srv, K_UNLOADED, 0) || srv_due(srv, K_VERSION, 0)));
	SRV_BROKEN(srv_due(srv, K_CONN_MODIFY, 0) && !srv->modifying);
	for (i = 0; i < srv->opts.tl_max; i++)
		n += srv->tls[i].asked;
	SRV_BROKEN(n != srv->tl_count);
	return NULL;
}

/* NULL when everything holds. */
static inline const char *srv_check(const struct vmbus_srv *srv)
{
	const char *wrong = srv_check_output(srv);

	wrong = wrong ? wrong : srv_check_chans(srv);
	wrong = wrong ? wrong : srv_check_lists(srv);
	return wrong ? wrong : srv_check_conn(srv);
}

/*
 * The shadow.  owed: the child asked and must be answered; may: it asked and then gave the channel
 * up, or it was rescinded, so an answer that was under way may still come.  Numbers past the arrays
 * share their last element.
 */
#define SHADOW_RELIDS 5u
#define SHADOW_IDS 4u

struct srv_count {
	uint8_t owed, may;
};

struct srv_shadow {
	struct srv_count open[SHADOW_RELIDS], modify[SHADOW_RELIDS], reserved[SHADOW_RELIDS];
	struct srv_count created[SHADOW_RELIDS][SHADOW_IDS], torn[SHADOW_IDS];
	struct srv_count version, unloaded, all, paused, connection, tl;
	bool first;		   /* VERSION_RESPONSE must be the next message */
	bool known[SHADOW_RELIDS]; /* the child has seen an OFFER and no RESCIND */
};

static inline uint32_t shadow_relid(uint32_t relid)
{
	return relid < SHADOW_RELIDS ? relid : SHADOW_RELIDS - 1u;
}

static inline uint32_t shadow_id(uint32_t id)
{
	return id < SHADOW_IDS ? id : SHADOW_IDS - 1u;
}

static inline void shadow_waive(struct srv_count *c)
{
	c->may = (uint8_t)(c->may + c->owed);
	c->owed = 0;
}

static inline const char *shadow_answer(struct srv_count *c, const char *what)
{
	if (c->owed)
		c->owed--;
	else if (c->may)
		c->may--;
	else
		return what;
	return NULL;
}

/* The child lets go of a relid. */
static inline void shadow_release(struct srv_shadow *s, uint32_t relid)
{
	uint32_t i;

	shadow_waive(&s->open[shadow_relid(relid)]);
	shadow_waive(&s->modify[shadow_relid(relid)]);
	for (i = 0; i < SHADOW_IDS; i++) {
		shadow_waive(&s->created[shadow_relid(relid)][i]);
		shadow_waive(&s->torn[i]);
	}
	s->known[shadow_relid(relid)] = false;
}

/* Everything that was due is dropped. */
static inline void shadow_leave(struct srv_shadow *s)
{
	struct srv_count reserved[SHADOW_RELIDS];
	uint32_t i;

	memcpy(reserved, s->reserved, sizeof(reserved));
	memset(s, 0, sizeof(*s));
	for (i = 0; i < SHADOW_RELIDS; i++) {
		shadow_waive(&reserved[i]);
		s->reserved[i].may = reserved[i].may;
	}
}

static inline void shadow_teardown(struct srv_shadow *s, const struct vmbus_srv *srv,
				   const struct vmbus_ctl *ctl)
{
	const uint32_t slot = vmbus__srv_chan_by_relid(srv, ctl->u.created.relid);
	uint32_t at, i;

	if (slot != NIL) {
		at = vmbus__srv_list_find(srv, slot, ctl->u.created.gpadl);
		if (at != NIL && srv->lists[at].torn_owed)
			return;
		if (at != NIL || vmbus__srv_is_revoked(srv->chans[slot].state)) {
			s->torn[shadow_id(ctl->u.created.gpadl)].owed++;
			return;
		}
	}
	for (i = 0; i < srv->opts.gpadls_max; i++)
		if (srv->lists[i].state != L_FREE && srv->lists[i].state != L_DONE &&
		    srv->lists[i].id == ctl->u.created.gpadl)
			return;
	s->torn[shadow_id(ctl->u.created.gpadl)].owed++;
}

static inline void shadow_channel(struct srv_shadow *s, const struct vmbus_srv *srv,
				  const struct vmbus_ctl *ctl)
{
	const uint32_t relid = ctl->u.open.relid;
	const uint32_t slot = vmbus__srv_chan_by_relid(srv, relid);
	const struct srv_chan *chan = slot == NIL ? NULL : &srv->chans[slot];

	switch (ctl->type) {
	case VMBUS_CTL_OPEN:
	case VMBUS_CTL_OPEN_RESERVED:
		if (!chan || !vmbus__srv_is_revoked(chan->state))
			s->open[shadow_relid(relid)].owed++;
		break;
	case VMBUS_CTL_GPADL_HEADER:
		s->created[shadow_relid(relid)][shadow_id(ctl->u.gpadl.gpadl)].owed++;
		break;
	case VMBUS_CTL_GPADL_TEARDOWN:
		shadow_teardown(s, srv, ctl);
		break;
	case VMBUS_CTL_MODIFY:
		if (srv->version >= VMBUS_PROTO_5_3)
			s->modify[shadow_relid(relid)].owed++;
		break;
	case VMBUS_CTL_RELID_RELEASED:
		if (chan && (chan->state == VMBUS_SRV_CLOSED || chan->state == VMBUS_SRV_CLOSING ||
			     vmbus__srv_is_revoked(chan->state)))
			shadow_release(s, relid);
		break;
	case VMBUS_CTL_MODIFY_CONNECTION:
		s->connection.owed++;
		break;
	case VMBUS_CTL_TL_CONNECT:
		s->tl.may++; /* by an offer, or by TL_RESULT */
		break;
	default:
		break;
	}
}

/* Before the machine gets a message that it will take; ctl as decoded with its version. */
static inline void shadow_message(struct srv_shadow *s, const struct vmbus_srv *srv,
				  const struct vmbus_ctl *ctl)
{
	const bool live = srv->conn == CONN_ON || srv->conn == CONN_READY;
	const bool paused = srv->conn == CONN_ON_PAUSED || srv->conn == CONN_READY_PAUSED;
	const uint32_t relid = ctl->u.chan.relid;

	if (ctl->type == VMBUS_CTL_CONTACT) {
		shadow_leave(s);
		s->version.owed = 1;
		s->first = true;
	} else if (ctl->type == VMBUS_CTL_UNLOAD) {
		if (live || paused || srv->conn == CONN_RECONNECTING) {
			shadow_leave(s);
			s->unloaded.owed = 1;
		}
	} else if (ctl->type == VMBUS_CTL_CLOSE_RESERVED) {
		if (!paused && !(relid > 0 && relid <= srv->opts.chans_max &&
				 srv->chans[relid - 1].reserved_reply))
			s->reserved[shadow_relid(relid)].owed++;
	} else if (ctl->type == VMBUS_CTL_REQUEST_OFFERS) {
		s->all.owed = (uint8_t)(s->all.owed + live);
	} else if (ctl->type == VMBUS_CTL_PAUSE) {
		s->paused.owed = (uint8_t)(s->paused.owed + live);
	} else if (live) {
		shadow_channel(s, srv, ctl);
	}
}

static inline const char *shadow_offer(struct srv_shadow *s, uint32_t relid, bool offer)
{
	const uint32_t r = shadow_relid(relid);

	if (relid < SHADOW_RELIDS - 1u && s->known[r] == offer)
		return offer ? "OFFER of a relid that the child has"
			     : "RESCIND of a relid that the child has not";
	s->known[r] = offer;
	if (!offer)
		shadow_waive(&s->open[r]);
	return NULL;
}

/* A message that the machine has handed out. */
static inline const char *shadow_sent(struct srv_shadow *s, const struct vmbus_srv *srv,
				      const struct vmbus_srv_action *a)
{
	struct vmbus_ctl ctl;
	const uint32_t version =
		a->ctl_type == VMBUS_CTL_CLOSE_RESERVED_RESPONSE ? 0 : srv->wire_version;
	uint32_t r, i;

	if (a->ctl_type == VMBUS_CTL_VERSION_RESPONSE) {
		s->first = false;
		return shadow_answer(&s->version, "VERSION_RESPONSE nobody asked for");
	}
	if (vmbus_ctl_decode(a->bytes, a->len, version, srv->features, &ctl) != 0)
		return "a message that cannot be read";
	r = shadow_relid(ctl.u.chan.relid);
	if (s->first && ctl.type != VMBUS_CTL_CLOSE_RESERVED_RESPONSE)
		return "a message before VERSION_RESPONSE";
	switch (ctl.type) {
	case VMBUS_CTL_OFFER:
		return shadow_offer(s, ctl.u.offer.relid, true);
	case VMBUS_CTL_RESCIND:
		return shadow_offer(s, ctl.u.chan.relid, false);
	case VMBUS_CTL_ALL_OFFERS:
		return shadow_answer(&s->all, "ALL_OFFERS nobody asked for");
	case VMBUS_CTL_OPEN_RESULT:
		return shadow_answer(&s->open[r], "OPEN_RESULT nobody asked for");
	case VMBUS_CTL_GPADL_CREATED:
		i = shadow_id(ctl.u.created.gpadl);
		return shadow_answer(&s->created[r][i], "GPADL_CREATED nobody asked for");
	case VMBUS_CTL_GPADL_TORNDOWN:
		i = shadow_id(ctl.u.created.gpadl);
		return shadow_answer(&s->torn[i], "GPADL_TORNDOWN nobody asked for");
	case VMBUS_CTL_MODIFY_RESPONSE:
		return shadow_answer(&s->modify[r], "MODIFY_RESPONSE nobody asked for");
	case VMBUS_CTL_UNLOAD_RESPONSE:
		return shadow_answer(&s->unloaded, "UNLOAD_RESPONSE nobody asked for");
	case VMBUS_CTL_CLOSE_RESERVED_RESPONSE:
		return shadow_answer(&s->reserved[r], "CLOSE_RESERVED_RESPONSE nobody asked for");
	case VMBUS_CTL_PAUSE_RESPONSE:
		return shadow_answer(&s->paused, "PAUSE_RESPONSE nobody asked for");
	case VMBUS_CTL_MODIFY_CONNECTION_RESPONSE:
		return shadow_answer(&s->connection, "MODIFY_CONNECTION_RESPONSE nobody asked for");
	case VMBUS_CTL_TL_RESULT:
		return shadow_answer(&s->tl, "TL_RESULT nobody asked for");
	default:
		return "a message of a type that the parent does not send";
	}
}

/* How many entries of the queue answer so. */
static inline uint32_t shadow_entries(const struct vmbus_srv *srv, uint32_t type, uint32_t relid,
				      uint32_t id)
{
	uint32_t i, n = 0;

	for (i = 0; i < srv->opts.queue_max; i++) {
		const struct srv_entry *e = &srv->entries[i];

		n += srv_due(srv, K_ENTRY, i) && e->type == type &&
		     (relid == NIL || shadow_relid(e->relid) == relid) &&
		     (id == NIL || shadow_id(e->id) == id);
	}
	return n;
}

/* What may still come is at most what is promised beyond what is owed. */
static inline const char *shadow_one(struct srv_count *c, uint32_t promised, const char *what)
{
	if (c->owed > promised || promised > (uint32_t)c->owed + c->may)
		return what;
	c->may = (uint8_t)(promised - c->owed);
	return NULL;
}

static inline const char *shadow_lists(struct srv_shadow *s, const struct vmbus_srv *srv)
{
	uint32_t created[SHADOW_RELIDS][SHADOW_IDS] = { { 0 } }, torn[SHADOW_IDS] = { 0 }, i, r;

	for (i = 0; i < srv->opts.gpadls_max; i++) {
		const struct srv_list *l = &srv->lists[i];

		r = shadow_relid(l->chan + 1);
		if (l->state == L_FREE)
			continue;
		created[r][shadow_id(l->id)] +=
			(uint32_t)l->created_owed + srv_due(srv, K_CREATED, i);
		torn[shadow_id(l->id)] += (uint32_t)l->torn_owed + srv_due(srv, K_TORNDOWN, i);
	}
	for (i = 0; i < SHADOW_IDS; i++) {
		const char *wrong;

		torn[i] += shadow_entries(srv, VMBUS_CTL_GPADL_TORNDOWN, NIL, i);
		wrong = shadow_one(&s->torn[i], torn[i], "TORNDOWN: owed is not what is promised");
		for (r = 0; r < SHADOW_RELIDS && !wrong; r++) {
			created[r][i] += shadow_entries(srv, VMBUS_CTL_GPADL_CREATED, r, i);
			wrong = shadow_one(&s->created[r][i], created[r][i],
					   "CREATED: owed is not what is promised");
		}
		if (wrong)
			return wrong;
	}
	return NULL;
}

/* That what the machine has promised, in its states and its output, is what the child may expect. */
static inline const char *shadow_check(struct srv_shadow *s, const struct vmbus_srv *srv)
{
	uint32_t open[SHADOW_RELIDS] = { 0 }, modify[SHADOW_RELIDS] = { 0 }, i;
	uint32_t reserved[SHADOW_RELIDS] = { 0 }, tl;
	const char *wrong = NULL;

	for (i = 0; i < srv->opts.chans_max; i++) {
		const struct srv_chan *c = &srv->chans[i];
		const uint32_t r = shadow_relid(i + 1);

		open[r] += srv_due(srv, K_RESULT, i);
		if (!c->survives &&
		    (c->state == VMBUS_SRV_OPENING || (c->state == VMBUS_SRV_CLOSING_REOPEN &&
						       !(c->offer.flags & VMBUS_OFFER_TLNPI))))
			open[r]++;
		modify[r] += srv_due(srv, K_MODIFIED, i);
		if (c->modifying && !c->survives && srv->version >= VMBUS_PROTO_5_3 &&
		    srv_has_relid(c->state))
			modify[r]++;
		reserved[r] += srv_due(srv, K_RESERVED_CLOSED, i) + (uint32_t)c->reserved_reply;
	}
	for (i = 0; i < SHADOW_RELIDS && !wrong; i++) {
		open[i] += shadow_entries(srv, VMBUS_CTL_OPEN_RESULT, i, NIL);
		modify[i] += shadow_entries(srv, VMBUS_CTL_MODIFY_RESPONSE, i, NIL);
		reserved[i] += shadow_entries(srv, VMBUS_CTL_CLOSE_RESERVED_RESPONSE, i, NIL);
		/* A rescinded channel answers OPEN by its RESCIND, which may not be taken yet. */
		if (s->open[i].owed > open[i] &&
		    !(i > 0 && i <= srv->opts.chans_max && srv_due(srv, K_RESCIND, i - 1)))
			return "OPEN_RESULT: owed, but not promised";
		if (open[i] > (uint32_t)s->open[i].owed + s->open[i].may)
			return "OPEN_RESULT: promised, but not owed";
		s->open[i].may =
			(uint8_t)(open[i] > s->open[i].owed ? open[i] - s->open[i].owed : 0);
		wrong = shadow_one(&s->modify[i], modify[i],
				   "MODIFY_RESPONSE: owed is not what is promised");
		if (!wrong)
			wrong = shadow_one(&s->reserved[i], reserved[i],
					   "CLOSE_RESERVED_RESPONSE: owed is not what is promised");
	}
	if (wrong)
		return wrong;
	SRV_BROKEN(s->version.owed !=
		   (srv_due(srv, K_VERSION, 0) || srv->conn == CONN_RECONNECTING));
	SRV_BROKEN(s->unloaded.owed !=
		   (srv_due(srv, K_UNLOADED, 0) || srv->conn == CONN_UNLOADING));
	SRV_BROKEN(s->all.owed != srv_due(srv, K_ALL_OFFERS, 0));
	SRV_BROKEN(s->paused.owed != srv_due(srv, K_PAUSED, 0));
	SRV_BROKEN(srv->conn < CONN_UNLOADING &&
		   s->connection.owed !=
			   srv_due(srv, K_CONN_MODIFIED, 0) + (uint32_t)srv->modifying +
				   shadow_entries(srv, VMBUS_CTL_MODIFY_CONNECTION_RESPONSE, NIL,
						  NIL));
	tl = srv->tl_count + shadow_entries(srv, VMBUS_CTL_TL_RESULT, NIL, NIL);
	for (i = 0; i < srv->opts.tl_max; i++)
		tl += srv_due(srv, K_TL_RESULT, i);
	wrong = srv->conn < CONN_UNLOADING ? shadow_one(&s->tl, tl, "TL_RESULT: promised to nobody")
					   : NULL;
	return wrong ? wrong : shadow_lists(s, srv);
}

#endif
