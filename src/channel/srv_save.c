/* SPDX-License-Identifier: MIT */
/*
 * The machine's state as bytes.
 *
 * What was asked of the caller and not answered is written as due again, before all else: whoever
 * restores has not been asked yet.  So is CONNECTED.  RELEASED is not written: its channel is gone.
 */
#include "channel/srv_state.h"

#include <vmbus/srv_save.h>

struct save {
	const struct vmbus_srv *srv;
	struct vmbus__out out;
	uint32_t count; /* of DUE, on the side at hand */
};

static void put_tl(struct vmbus__out *out, const struct vmbus_ctl_tl *tl)
{
	vmbus__out_bytes(out, &tl->endpoint_id, 16);
	vmbus__out_bytes(out, &tl->service_id, 16);
	vmbus__out_bytes(out, &tl->silo_id, 16);
	vmbus__out(out, 4, tl->has_silo);
	vmbus__out(out, 4, tl->status);
}

static void put_contact(struct vmbus__out *out, const struct vmbus_ctl_contact *c)
{
	vmbus__out(out, 4, c->version);
	vmbus__out(out, 4, c->target_vp);
	vmbus__out(out, 8, c->interrupt_page);
	vmbus__out(out, 4, c->features);
	vmbus__out(out, 1, c->target_sint);
	vmbus__out(out, 1, c->target_vtl);
	vmbus__out(out, 1, c->has_client_id);
	vmbus__out(out, 1, 0);
	vmbus__out(out, 8, c->monitor_p2c);
	vmbus__out(out, 8, c->monitor_c2p);
	vmbus__out_bytes(out, &c->client_id, 16);
}

static void put_conn(struct save *s)
{
	const struct vmbus_srv *const srv = s->srv;
	struct vmbus__out *const out = &s->out;
	const size_t begun = vmbus__out_section(out, S_CONN, SECTION_VERSION, 0);

	vmbus__out(out, 4, srv->opts.message_conn);
	vmbus__out(out, 4, srv->conn);
	vmbus__out(out, 4, srv->version);
	vmbus__out(out, 4, srv->wire_version);
	vmbus__out(out, 4, srv->features);
	vmbus__out(out, 4, srv->vp);
	vmbus__out(out, 4, srv->sint);
	vmbus__out(out, 4,
		   (srv->supported ? NB_SUPPORTED : 0) | (srv->hold ? NB_HOLD : 0) |
			   (srv->modifying ? NB_MODIFYING : 0));
	vmbus__out(out, 4, srv->modify_state);
	vmbus__out(out, 8, srv->monitor_p2c);
	vmbus__out(out, 8, srv->monitor_c2p);
	vmbus__out(out, 8, srv->modify_p2c);
	vmbus__out(out, 8, srv->modify_c2p);
	vmbus__out(out, 4, srv->contact_conn);
	put_contact(out, &srv->contact);
	vmbus__out_section_end(out, begun);
}

static void put_offer(struct vmbus__out *out, const struct vmbus_offer *offer)
{
	vmbus__out_bytes(out, &offer->class_id, 16);
	vmbus__out_bytes(out, &offer->instance_id, 16);
	vmbus__out(out, 2, offer->flags);
	vmbus__out(out, 2, offer->mmio_mb);
	vmbus__out(out, 2, offer->sub_index);
	vmbus__out(out, 2, 0);
	vmbus__out(out, 4, offer->monitor_id);
	vmbus__out(out, 4, offer->order);
	vmbus__out_bytes(out, offer->user, sizeof(offer->user));
}

static void put_open(struct vmbus__out *out, const struct vmbus_ctl_open *open)
{
	vmbus__out(out, 4, open->open_id);
	vmbus__out(out, 4, open->gpadl);
	vmbus__out(out, 4, open->target_vp);
	vmbus__out(out, 4, open->target_sint);
	vmbus__out(out, 4, open->downstream_page);
	vmbus__out(out, 4, open->conn_id);
	vmbus__out(out, 2, open->event_flag);
	vmbus__out(out, 2, open->redirect);
	vmbus__out_bytes(out, open->user, sizeof(open->user));
}

static void put_chan(struct vmbus__out *out, uint32_t slot, const struct srv_chan *chan)
{
	vmbus__out(out, 4, slot);
	vmbus__out(out, 4, chan->gen);
	vmbus__out(out, 1, chan->state);
	vmbus__out(out, 1, chan->fate);
	vmbus__out(out, 1,
		   (chan->reserved ? CB_RESERVED : 0) | (chan->survives ? CB_SURVIVES : 0) |
			   (chan->modifying ? CB_MODIFYING : 0) |
			   (chan->modify_again ? CB_MODIFY_AGAIN : 0) |
			   (chan->reserved_reply ? CB_RESERVED_REPLY : 0));
	vmbus__out(out, 1, 0);
	put_offer(out, &chan->offer);
	put_open(out, &chan->open);
	vmbus__out(out, 4, chan->modify_vp);
	vmbus__out(out, 4, chan->modify_next);
	vmbus__out(out, 4, chan->modify_status);
	vmbus__out(out, 4, chan->target_vp);
	vmbus__out(out, 4, chan->open_status);
	vmbus__out(out, 4, chan->open_id);
	vmbus__out(out, 4, chan->ring);
	vmbus__out(out, 4, chan->reserved_vp);
	vmbus__out(out, 4, chan->reserved_sint);
}

/* The free slots in the order in which they will be taken; last those that RELEASED is due of. */
static void put_free(struct save *s)
{
	const struct vmbus_srv *const srv = s->srv;
	struct vmbus__out *const out = &s->out;
	const size_t at = out->at;
	uint32_t slot, node, count = 0;

	vmbus__out(out, 4, 0);
	for (slot = srv->free_chan; slot != NIL; slot = srv->chans[slot].next, count++)
		vmbus__out(out, 4, slot);
	for (node = srv->head[SIDE_LOCAL]; node != NIL; node = srv->nodes[node].next)
		if (vmbus__srv_kind_of(srv, node, &slot) == K_RELEASED) {
			vmbus__out(out, 4, slot);
			count++;
		}
	vmbus__out_again(out, at, 4, count);
}

/* In the order of offers. */
static void put_chans(struct save *s)
{
	const struct vmbus_srv *const srv = s->srv;
	const size_t begun = vmbus__out_section(&s->out, S_CHANS, SECTION_VERSION, 0);
	uint32_t slot;

	vmbus__out(&s->out, 4, (uint32_t)srv->stats.channels);
	for (slot = srv->order; slot != NIL; slot = srv->chans[slot].next)
		put_chan(&s->out, slot, &srv->chans[slot]);
	put_free(s);
	vmbus__out_section_end(&s->out, begun);
}

static void put_list(struct vmbus__out *out, uint32_t at, const struct srv_list *list)
{
	const uint32_t have = list->qwords ? list->have : 0;
	uint32_t i;

	vmbus__out(out, 4, at);
	vmbus__out(out, 4, list->chan);
	vmbus__out(out, 4, list->gen);
	vmbus__out(out, 4, list->id);
	vmbus__out(out, 1, list->state);
	vmbus__out(out, 1,
		   (list->created_owed ? LB_CREATED_OWED : 0) |
			   (list->torn_owed ? LB_TORN_OWED : 0));
	vmbus__out(out, 2, 0);
	vmbus__out(out, 4, list->status);
	vmbus__out(out, 4, list->state == L_UNFINISHED ? list->want : have);
	vmbus__out(out, 4, have);
	vmbus__out(out, 4, list->range_count);
	for (i = 0; i < have; i++)
		vmbus__out(out, 8, list->qwords[i]);
}

/* Those of a channel, the oldest first: adding them in that order makes the same chain. */
static void put_lists(struct save *s)
{
	const struct vmbus_srv *const srv = s->srv;
	const size_t begun = vmbus__out_section(&s->out, S_LISTS, SECTION_VERSION, 0);
	uint32_t slot, at;

	vmbus__out(&s->out, 4, (uint32_t)srv->stats.gpadls);
	for (slot = 0; slot < srv->opts.chans_max; slot++) {
		if (srv->chans[slot].state == VMBUS_SRV_FREE || srv->chans[slot].lists == NIL)
			continue;
		at = srv->chans[slot].lists;
		while (srv->lists[at].next_in_chan != NIL)
			at = srv->lists[at].next_in_chan;
		for (; at != NIL; at = srv->lists[at].prev_in_chan)
			put_list(&s->out, at, &srv->lists[at]);
	}
	vmbus__out_section_end(&s->out, begun);
}

static void put_tls(struct save *s)
{
	const struct vmbus_srv *const srv = s->srv;
	const size_t begun = vmbus__out_section(&s->out, S_TLS, SECTION_VERSION, 0);
	const size_t at = s->out.at;
	uint32_t i, count = 0;

	vmbus__out(&s->out, 4, 0);
	for (i = 0; i < srv->opts.tl_max; i++) {
		if (!srv->tls[i].asked && !vmbus__srv_is_due(srv, K_TL_RESULT, i))
			continue;
		count++;
		vmbus__out(&s->out, 4, i);
		vmbus__out(&s->out, 1, srv->tls[i].asked);
		vmbus__out(&s->out, 3, 0);
		put_tl(&s->out, &srv->tls[i].tl);
	}
	vmbus__out_again(&s->out, at, 4, count);
	vmbus__out_section_end(&s->out, begun);
}

static void put_entries(struct save *s)
{
	const struct vmbus_srv *const srv = s->srv;
	const size_t begun = vmbus__out_section(&s->out, S_ENTRIES, SECTION_VERSION, 0);
	const size_t at = s->out.at;
	uint32_t i, count = 0;

	vmbus__out(&s->out, 4, 0);
	for (i = 0; i < srv->opts.queue_max; i++) {
		const struct srv_entry *const e = &srv->entries[i];

		if (!vmbus__srv_is_due(srv, K_ENTRY, i))
			continue;
		count++;
		vmbus__out(&s->out, 4, i);
		vmbus__out(&s->out, 4, e->type);
		vmbus__out(&s->out, 4, e->vp);
		vmbus__out(&s->out, 4, e->sint);
		vmbus__out(&s->out, 4, e->relid);
		vmbus__out(&s->out, 4, e->id);
		vmbus__out(&s->out, 4, e->status);
		put_tl(&s->out, &e->tl);
	}
	vmbus__out_again(&s->out, at, 4, count);
	vmbus__out_section_end(&s->out, begun);
}

static void put_due(struct save *s, enum srv_kind kind, uint32_t index)
{
	vmbus__out(&s->out, 1, (uint32_t)kind);
	vmbus__out(&s->out, 4, index);
	s->count++;
}

/* What was taken, and is to be asked again. */
static void put_again(struct save *s, enum srv_kind kind, uint32_t index, bool asked)
{
	if (asked && !vmbus__srv_is_due(s->srv, kind, index))
		put_due(s, kind, index);
}

static bool is_opening(uint32_t state)
{
	return state == VMBUS_SRV_OPENING || state == VMBUS_SRV_REVOKED_OPENING ||
	       state == VMBUS_SRV_OPENING_RELEASE;
}

static bool is_closing(uint32_t state)
{
	return state == VMBUS_SRV_CLOSING || state == VMBUS_SRV_CLOSING_REOPEN ||
	       state == VMBUS_SRV_REVOKED_CLOSING || state == VMBUS_SRV_CLOSING_RELEASE;
}

static void put_unanswered(struct save *s)
{
	const struct vmbus_srv *const srv = s->srv;
	uint32_t i;

	put_again(s, K_CONNECTED, 0, srv->version != 0);
	put_again(s, K_CONN_MODIFY, 0, srv->modifying);
	for (i = 0; i < srv->opts.gpadls_max; i++) {
		const uint32_t state = srv->lists[i].state;

		put_again(s, K_ASK, i, state == L_OFFERED || state == L_OFFERED_DROP);
		put_again(s, K_DOWN, i, state == L_DOWN);
	}
	for (i = 0; i < srv->opts.chans_max; i++) {
		const struct srv_chan *const chan = &srv->chans[i];

		if (chan->state == VMBUS_SRV_FREE)
			continue;
		put_again(s, K_OPEN, i, is_opening(chan->state));
		put_again(s, K_MODIFY, i, chan->modifying);
		put_again(s, K_CLOSE, i, is_closing(chan->state));
	}
	for (i = 0; i < srv->opts.tl_max; i++)
		put_again(s, K_TL_ASK, i, srv->tls[i].asked);
}

static void put_side(struct save *s, enum srv_side side)
{
	const size_t at = s->out.at;
	uint32_t node;

	s->count = 0;
	vmbus__out(&s->out, 4, 0);
	if (side == SIDE_LOCAL)
		put_unanswered(s);
	for (node = s->srv->head[side]; node != NIL; node = s->srv->nodes[node].next) {
		uint32_t index;
		const enum srv_kind kind = vmbus__srv_kind_of(s->srv, node, &index);

		if (kind != K_RELEASED)
			put_due(s, kind, index);
	}
	vmbus__out_again(&s->out, at, 4, s->count);
}

static void put_counters(struct save *s)
{
	const struct vmbus_srv_stats *const stats = &s->srv->stats;
	const uint64_t counters[COUNTERS] = {
		stats->messages,     stats->sent,
		stats->malformed,    stats->out_of_order,
		stats->unknown_chan, stats->unknown_gpadl,
		stats->quota_gpadls, stats->quota_unfinished,
		stats->quota_bytes,  stats->quota_queue,
		stats->quota_tl,     stats->resets,
	};
	const size_t begun = vmbus__out_section(&s->out, S_COUNTERS, SECTION_VERSION, 0);
	uint32_t i;

	for (i = 0; i < COUNTERS; i++)
		vmbus__out(&s->out, 8, counters[i]);
	vmbus__out_section_end(&s->out, begun);
}

int vmbus_srv_save(const struct vmbus_srv *srv, void *buf, size_t room, size_t *need)
{
	struct save s = { .srv = srv, .out = { .buf = buf, .room = buf ? room : 0 } };
	size_t begun;

	if (!need || (!buf && room))
		return VMBUS_E_INVAL;
	vmbus__out_head(&s.out, VMBUS__STATE_MACHINE);
	put_conn(&s);
	put_chans(&s);
	put_lists(&s);
	put_tls(&s);
	put_entries(&s);
	begun = vmbus__out_section(&s.out, S_DUE, SECTION_VERSION, 0);
	put_side(&s, SIDE_LOCAL);
	put_side(&s, SIDE_CHILD);
	vmbus__out_section_end(&s.out, begun);
	put_counters(&s);
	vmbus__out_end(&s.out);
	*need = s.out.at;
	return s.out.at <= s.out.room ? 0 : VMBUS_E_RANGE;
}
