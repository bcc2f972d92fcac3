/* SPDX-License-Identifier: MIT */
/*
 * The machine from its saved state, which may be anything: every number is checked against the
 * machine's own limits before it is used as a count, an index or a length, and memory for a page
 * list is asked for only when its bytes are there.  What the objects say of each other is looked at
 * when all of them are there, in srv_restore_check.c; on any error the machine is new again.
 */
#include "channel/srv_state.h"

#include <vmbus/srv_save.h>

int vmbus__srv_wrong(struct srv_restore *r, int err, const char *why)
{
	if (!r->why)
		r->why = why;
	return err;
}

static void get_tl(struct vmbus__in *in, struct vmbus_ctl_tl *tl)
{
	vmbus__in_bytes(in, &tl->endpoint_id, 16);
	vmbus__in_bytes(in, &tl->service_id, 16);
	vmbus__in_bytes(in, &tl->silo_id, 16);
	tl->has_silo = vmbus__in32(in);
	tl->status = vmbus__in32(in);
}

static void get_contact(struct vmbus__in *in, struct vmbus_ctl_contact *c)
{
	c->version = vmbus__in32(in);
	c->target_vp = vmbus__in32(in);
	c->interrupt_page = vmbus__in(in, 8);
	c->features = vmbus__in32(in);
	c->target_sint = (uint8_t)vmbus__in(in, 1);
	c->target_vtl = (uint8_t)vmbus__in(in, 1);
	c->has_client_id = (uint8_t)vmbus__in(in, 1);
	vmbus__in_zero(in, 1);
	c->monitor_p2c = vmbus__in(in, 8);
	c->monitor_c2p = vmbus__in(in, 8);
	vmbus__in_bytes(in, &c->client_id, 16);
}

static int get_conn(struct srv_restore *r, struct vmbus__in *in)
{
	struct vmbus_srv *const srv = r->srv;
	const uint32_t message_conn = vmbus__in32(in);
	uint32_t bits;

	srv->conn = vmbus__in32(in);
	srv->version = vmbus__in32(in);
	srv->wire_version = vmbus__in32(in);
	srv->features = vmbus__in32(in);
	srv->vp = vmbus__in32(in);
	srv->sint = vmbus__in32(in);
	bits = vmbus__in32(in);
	srv->supported = bits & NB_SUPPORTED;
	srv->hold = (bits & NB_HOLD) != 0;
	srv->modifying = (bits & NB_MODIFYING) != 0;
	srv->modify_state = vmbus__in32(in);
	srv->monitor_p2c = vmbus__in(in, 8);
	srv->monitor_c2p = vmbus__in(in, 8);
	srv->modify_p2c = vmbus__in(in, 8);
	srv->modify_c2p = vmbus__in(in, 8);
	srv->contact_conn = vmbus__in32(in);
	get_contact(in, &srv->contact);
	if (in->bad || in->left || bits & ~NB_ALL || srv->conn >= CONN_STATES)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "connection: no such state");
	if (message_conn != srv->opts.message_conn && srv->wire_version >= VMBUS_PROTO_5_0)
		return vmbus__srv_wrong(r, VMBUS_E_NOTSUP,
					"connection: the child was told another message_conn");
	return 0;
}

static void get_offer(struct vmbus__in *in, struct vmbus_offer *offer)
{
	vmbus__in_bytes(in, &offer->class_id, 16);
	vmbus__in_bytes(in, &offer->instance_id, 16);
	offer->flags = (uint16_t)vmbus__in(in, 2);
	offer->mmio_mb = (uint16_t)vmbus__in(in, 2);
	offer->sub_index = (uint16_t)vmbus__in(in, 2);
	vmbus__in_zero(in, 2);
	offer->monitor_id = vmbus__in32(in);
	offer->order = vmbus__in32(in);
	vmbus__in_bytes(in, offer->user, sizeof(offer->user));
}

static void get_open(struct vmbus__in *in, uint32_t slot, struct vmbus_ctl_open *open)
{
	open->relid = slot + 1;
	open->open_id = vmbus__in32(in);
	open->gpadl = vmbus__in32(in);
	open->target_vp = vmbus__in32(in);
	open->target_sint = vmbus__in32(in);
	open->downstream_page = vmbus__in32(in);
	open->conn_id = vmbus__in32(in);
	open->event_flag = (uint16_t)vmbus__in(in, 2);
	open->redirect = (uint16_t)vmbus__in(in, 2);
	vmbus__in_bytes(in, open->user, sizeof(open->user));
}

static int get_chan(struct srv_restore *r, struct vmbus__in *in, uint32_t *last)
{
	struct vmbus_srv *const srv = r->srv;
	const uint32_t slot = vmbus__in32(in);
	struct srv_chan *chan;
	uint32_t bits;

	if (in->bad || slot >= srv->opts.chans_max)
		return vmbus__srv_wrong(r, slot < VMBUS_RELID_MAX ? VMBUS_E_NOTSUP : VMBUS_E_INVAL,
					"channel: a relid past chans_max");
	chan = &srv->chans[slot];
	if (chan->state != VMBUS_SRV_FREE)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "channel: the same relid twice");
	chan->gen = vmbus__in32(in);
	chan->state = (uint8_t)vmbus__in(in, 1);
	chan->fate = (uint8_t)vmbus__in(in, 1);
	bits = (uint32_t)vmbus__in(in, 1);
	vmbus__in_zero(in, 1);
	chan->reserved = bits & CB_RESERVED;
	chan->survives = (bits & CB_SURVIVES) != 0;
	chan->modifying = (bits & CB_MODIFYING) != 0;
	chan->modify_again = (bits & CB_MODIFY_AGAIN) != 0;
	chan->reserved_reply = (bits & CB_RESERVED_REPLY) != 0;
	get_offer(in, &chan->offer);
	get_open(in, slot, &chan->open);
	chan->modify_vp = vmbus__in32(in);
	chan->modify_next = vmbus__in32(in);
	chan->modify_status = vmbus__in32(in);
	chan->target_vp = vmbus__in32(in);
	chan->open_status = vmbus__in32(in);
	chan->open_id = vmbus__in32(in);
	chan->ring = vmbus__in32(in);
	chan->reserved_vp = vmbus__in32(in);
	chan->reserved_sint = vmbus__in32(in);
	if (in->bad || bits & ~CB_ALL || chan->state == VMBUS_SRV_FREE ||
	    chan->state >= VMBUS_SRV_STATES || chan->fate > VMBUS_SRV_FORGET || !chan->gen ||
	    (chan->ring != NIL && chan->ring >= srv->opts.gpadls_max))
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "channel: no such state");
	if (!vmbus__srv_append(srv, slot, *last))
		return vmbus__srv_wrong(
			r, VMBUS_E_INVAL,
			"channel: not in the order of offers, or an instance of two");
	*last = slot;
	srv->stats.channels++;
	srv->away += vmbus__srv_is_away(chan);
	return 0;
}

/* One free slot goes behind the last one that is known. */
static void free_next(struct vmbus_srv *srv, uint32_t slot)
{
	srv->chans[slot].next = NIL;
	if (srv->free_chan == NIL)
		srv->free_chan = slot;
	else
		srv->chans[srv->free_chan_last].next = slot;
	srv->free_chan_last = slot;
}

static bool is_in_free(const struct vmbus_srv *srv, uint32_t slot)
{
	return srv->chans[slot].next != slot;
}

/* Free slots as they were to be taken; then those that the saved machine had not. */
static int get_free(struct srv_restore *r, struct vmbus__in *in)
{
	struct vmbus_srv *const srv = r->srv;
	const uint32_t count = vmbus__in32(in);
	uint32_t i;

	if (in->bad || count > VMBUS_RELID_MAX || in->left != (size_t)count * 4u)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "free relids: their number");
	srv->free_chan = NIL;
	for (i = 0; i < srv->opts.chans_max; i++)
		if (srv->chans[i].state == VMBUS_SRV_FREE)
			srv->chans[i].next = i; /* in no list yet */
	for (i = 0; i < count; i++) {
		const uint32_t slot = vmbus__in32(in);

		if (slot >= VMBUS_RELID_MAX)
			return vmbus__srv_wrong(r, VMBUS_E_INVAL, "free relids: no such relid");
		if (slot >= srv->opts.chans_max)
			continue; /* our limit is lower, and nobody has it */
		if (srv->chans[slot].state != VMBUS_SRV_FREE || is_in_free(srv, slot))
			return vmbus__srv_wrong(r, VMBUS_E_INVAL, "free relids: one is not free");
		free_next(srv, slot);
	}
	for (i = 0; i < srv->opts.chans_max; i++)
		if (srv->chans[i].state == VMBUS_SRV_FREE && !is_in_free(srv, i))
			free_next(srv, i);
	return 0;
}

static int get_chans(struct srv_restore *r, struct vmbus__in *in)
{
	const uint32_t count = vmbus__in32(in);
	uint32_t i, last = NIL;
	int err = 0;

	if (in->bad || count > in->left / CHAN_BYTES)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "channels: their number");
	if (count > r->srv->opts.chans_max)
		return vmbus__srv_wrong(r, VMBUS_E_NOTSUP, "channels: more than chans_max");
	for (i = 0; i < count && !err; i++)
		err = get_chan(r, in, &last);
	return err ? err : get_free(r, in);
}

/* The qwords of a list, of which the form was checked already or is checked now. */
static int get_qwords(struct srv_restore *r, struct vmbus__in *in, struct srv_list *list)
{
	struct vmbus_srv *const srv = r->srv;
	const bool done = list->state == L_DONE;
	uint32_t i;

	if (list->want > QWORDS_MAX || list->have > list->want || done != (list->want == 0) ||
	    list->have > in->left / 8u ||
	    (list->state == L_UNFINISHED) != (list->have < list->want))
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "page list: its length");
	if (done)
		return 0;
	if (!list->range_count || list->want / 2u < list->range_count)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "page list: number of ranges");
	list->pages = list->want - list->range_count;
	if ((uint64_t)list->pages * VMBUS_PAGE_BYTES >
	    srv->opts.gpadl_bytes_max - srv->stats.gpadl_bytes)
		return vmbus__srv_wrong(r, VMBUS_E_NOTSUP, "page lists: more than gpadl_bytes_max");
	list->room = list->want;
	list->qwords = srv->opts.list_get(srv->opts.list_ctx, list->room);
	if (!list->qwords)
		return vmbus__srv_wrong(r, VMBUS_E_NOMEM, "page list: no memory");
	srv->stats.gpadl_bytes += (uint64_t)list->pages * VMBUS_PAGE_BYTES;
	for (i = 0; i < list->have; i++)
		list->qwords[i] = vmbus__in(in, 8);
	return 0;
}

/* Complete lists passed this once, and were cut to what it found. */
static int check_ranges(struct srv_restore *r, struct srv_list *list)
{
	struct vmbus_srv_refusal why = { 0 };
	const uint32_t pages = list->pages, have = list->have;

	if (list->state == L_UNFINISHED || list->state == L_DONE)
		return 0;
	if (!vmbus__srv_ranges_can_be(list, &why) || list->have != have || list->pages != pages) {
		list->have = have;
		list->pages = pages;
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "page list: its ranges");
	}
	return 0;
}

static int get_list(struct srv_restore *r, struct vmbus__in *in)
{
	struct vmbus_srv *const srv = r->srv;
	const uint32_t at = vmbus__in32(in);
	struct srv_list *list;
	uint32_t bits;
	int err;

	if (at >= srv->opts.gpadls_max)
		return vmbus__srv_wrong(r, VMBUS_E_NOTSUP,
					"page list: its number is past gpadls_max");
	list = &srv->lists[at];
	if (list->state != L_FREE)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "page list: the same number twice");
	list->chan = vmbus__in32(in);
	list->gen = vmbus__in32(in);
	list->id = vmbus__in32(in);
	list->state = (uint8_t)vmbus__in(in, 1);
	bits = (uint32_t)vmbus__in(in, 1);
	vmbus__in_zero(in, 2);
	list->created_owed = bits & LB_CREATED_OWED;
	list->torn_owed = (bits & LB_TORN_OWED) != 0;
	list->status = vmbus__in32(in);
	list->want = vmbus__in32(in);
	list->have = vmbus__in32(in);
	list->range_count = vmbus__in32(in);
	if (in->bad || bits & ~LB_ALL || !list->gen || list->state == L_FREE ||
	    list->state >= L_STATES || list->chan >= srv->opts.chans_max ||
	    srv->chans[list->chan].state == VMBUS_SRV_FREE) {
		list->state = L_FREE;
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "page list: no such state or channel");
	}
	err = get_qwords(r, in, list);
	if (!err)
		err = check_ranges(r, list);
	if (err)
		return err;
	if ((list->state != L_DONE && vmbus__srv_list_find(srv, list->chan, list->id) != NIL) ||
	    (list->state == L_UNFINISHED && vmbus__srv_list_find_unfinished(srv, list->id) != NIL))
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "page list: the same id twice");
	vmbus__srv_list_hang_up(srv, at);
	return 0;
}

static int get_lists(struct srv_restore *r, struct vmbus__in *in)
{
	struct vmbus_srv *const srv = r->srv;
	const uint32_t count = vmbus__in32(in);
	uint32_t i;
	int err = 0;

	if (in->bad || count > in->left / LIST_BYTES)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "page lists: their number");
	if (count > srv->opts.gpadls_max)
		return vmbus__srv_wrong(r, VMBUS_E_NOTSUP, "page lists: more than gpadls_max");
	for (i = 0; i < count && !err; i++)
		err = get_list(r, in);
	if (!err && in->left)
		err = vmbus__srv_wrong(r, VMBUS_E_INVAL, "page lists: bytes behind the last");
	if (!err && srv->unfinished > srv->opts.gpadls_unfinished_max)
		err = vmbus__srv_wrong(r, VMBUS_E_NOTSUP,
				       "page lists: more unfinished than gpadls_unfinished_max");
	srv->free_list = NIL;
	for (i = srv->opts.gpadls_max; i > 0; i--)
		if (srv->lists[i - 1].state == L_FREE) {
			srv->lists[i - 1].next_in_bucket = srv->free_list;
			srv->free_list = i - 1;
		}
	return err;
}

static int get_tls(struct srv_restore *r, struct vmbus__in *in)
{
	struct vmbus_srv *const srv = r->srv;
	const uint32_t count = vmbus__in32(in);
	uint32_t i, at, next = 0;

	if (in->bad || in->left != (uint64_t)count * TL_BYTES)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "connect requests: their number");
	for (i = 0; i < count; i++) {
		at = vmbus__in32(in);
		if (at >= srv->opts.tl_max)
			return vmbus__srv_wrong(r, VMBUS_E_NOTSUP,
						"connect requests: more than tl_max");
		srv->tls[at].asked = vmbus__in_bool(in);
		vmbus__in_zero(in, 3);
		get_tl(in, &srv->tls[at].tl);
		srv->tl_count += srv->tls[at].asked;
		if (in->bad || at < next || srv->tls[at].tl.has_silo > 1)
			return vmbus__srv_wrong(r, VMBUS_E_INVAL, "connect requests: order");
		next = at + 1;
	}
	return 0;
}

static int get_entries(struct srv_restore *r, struct vmbus__in *in)
{
	struct vmbus_srv *const srv = r->srv;
	const uint32_t count = vmbus__in32(in);
	uint32_t i, at, next = 0;

	if (in->bad || in->left != (uint64_t)count * ENTRY_BYTES)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "replies: their number");
	for (i = 0; i < count; i++) {
		struct srv_entry *e;

		at = vmbus__in32(in);
		if (at >= srv->opts.queue_max)
			return vmbus__srv_wrong(r, VMBUS_E_NOTSUP, "replies: more than queue_max");
		e = &srv->entries[at];
		e->type = vmbus__in32(in);
		e->vp = vmbus__in32(in);
		e->sint = vmbus__in32(in);
		e->relid = vmbus__in32(in);
		e->id = vmbus__in32(in);
		e->status = vmbus__in32(in);
		get_tl(in, &e->tl);
		if (in->bad || at < next || !e->type)
			return vmbus__srv_wrong(r, VMBUS_E_INVAL, "replies: order");
		next = at + 1;
	}
	srv->free_entry = NIL;
	for (i = srv->opts.queue_max; i > 0; i--)
		if (!srv->entries[i - 1].type) {
			srv->entries[i - 1].next_free = srv->free_entry;
			srv->free_entry = i - 1;
		}
	return 0;
}

static int get_side(struct srv_restore *r, struct vmbus__in *in, enum srv_side side)
{
	struct vmbus_srv *const srv = r->srv;
	const uint32_t count = vmbus__in32(in);
	uint32_t i;

	if (in->bad || count > in->left / DUE_BYTES)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "what is due: its number");
	for (i = 0; i < count; i++) {
		const uint32_t kind = (uint32_t)vmbus__in(in, 1);
		const uint32_t index = vmbus__in32(in);
		uint32_t objects;

		if (kind >= K_KINDS || kind == K_RELEASED ||
		    vmbus__srv_side_of(srv, (enum srv_kind)kind, &objects) != side)
			return vmbus__srv_wrong(r, VMBUS_E_INVAL, "what is due: no such kind");
		if (index >= objects || vmbus__srv_is_due(srv, (enum srv_kind)kind, index))
			return vmbus__srv_wrong(r, VMBUS_E_INVAL, "what is due: no such object");
		vmbus__srv_due(srv, (enum srv_kind)kind, index);
	}
	return 0;
}

static int get_due(struct srv_restore *r, struct vmbus__in *in)
{
	int err = get_side(r, in, SIDE_LOCAL);

	if (!err)
		err = get_side(r, in, SIDE_CHILD);
	if (!err && in->left)
		err = vmbus__srv_wrong(r, VMBUS_E_INVAL, "what is due: bytes behind the last");
	return err;
}

static int get_counters(struct srv_restore *r, struct vmbus__in *in)
{
	struct vmbus_srv_stats *const stats = &r->srv->stats;
	uint64_t *const counters[COUNTERS] = {
		&stats->messages,     &stats->sent,
		&stats->malformed,    &stats->out_of_order,
		&stats->unknown_chan, &stats->unknown_gpadl,
		&stats->quota_gpadls, &stats->quota_unfinished,
		&stats->quota_bytes,  &stats->quota_queue,
		&stats->quota_tl,     &stats->resets,
	};
	uint32_t i;

	for (i = 0; i < COUNTERS; i++)
		*counters[i] = vmbus__in(in, 8);
	return in->bad || in->left ? vmbus__srv_wrong(r, VMBUS_E_INVAL, "counters: their number")
				   : 0;
}

static int get_section(struct srv_restore *r, struct vmbus__section *s)
{
	static int (*const get[S_SECTIONS])(struct srv_restore *, struct vmbus__in *) = {
		[S_CONN] = get_conn,	     [S_CHANS] = get_chans,	[S_LISTS] = get_lists,
		[S_TLS] = get_tls,	     [S_ENTRIES] = get_entries, [S_DUE] = get_due,
		[S_COUNTERS] = get_counters,
	};

	if (s->version != SECTION_VERSION)
		return vmbus__srv_wrong(r, VMBUS_E_NOTSUP, "a section of a later version");
	return get[s->type](r, &s->in);
}

static int get_all(struct srv_restore *r, struct vmbus__in *in)
{
	struct vmbus__section s;
	uint32_t next = S_CONN;
	int err;

	while ((err = vmbus__in_section(in, &s)) == 1) {
		if (s.type >= S_SECTIONS && (s.flags & VMBUS__SECTION_SKIP))
			continue;
		if (s.type == 0 || s.type >= S_SECTIONS)
			return vmbus__srv_wrong(r, VMBUS_E_NOTSUP, "a section of a later version");
		if (s.type != next)
			return vmbus__srv_wrong(r, VMBUS_E_INVAL, "sections out of order");
		err = get_section(r, &s);
		if (err)
			return err;
		next++;
	}
	if (err || next != S_SECTIONS)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "a section is missing or cut off");
	return vmbus__srv_restore_check(r);
}

static bool is_new(const struct vmbus_srv *srv)
{
	return srv->order == NIL && srv->conn == CONN_OFF && srv->stats.messages == 0 &&
	       srv->head[SIDE_LOCAL] == NIL && srv->head[SIDE_CHILD] == NIL;
}

int vmbus_srv_restore(struct vmbus_srv *srv, const void *buf, size_t bytes, const char **why)
{
	struct srv_restore r = { .srv = srv };
	struct vmbus__in in;
	int err;

	if (why)
		*why = "the machine was used before";
	if (!is_new(srv))
		return VMBUS_E_STATE;
	err = vmbus__in_head(&in, buf, bytes, VMBUS__STATE_MACHINE, &r.why);
	if (!err) {
		r.why = NULL;
		err = get_all(&r, &in);
		if (err)
			vmbus__srv_clear(srv);
	}
	if (why)
		*why = err ? r.why : "";
	return err;
}
