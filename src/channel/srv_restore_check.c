/* SPDX-License-Identifier: MIT */
/*
 * What the objects of a restored machine say of each other.  Everything that the machine keeps
 * between two calls is demanded here, so that no later event finds what it could not have left
 * behind itself.
 */
#include "channel/srv_state.h"

#define SINTS 16u

struct rule {
	bool broken;
	const char *why;
};

static int judge(struct srv_restore *r, const struct rule *rules, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (rules[i].broken)
			return vmbus__srv_wrong(r, VMBUS_E_INVAL, rules[i].why);
	return 0;
}

#define JUDGE(r, rules) judge(r, rules, sizeof(rules) / sizeof((rules)[0]))

static bool due(const struct srv_restore *r, enum srv_kind kind, uint32_t index)
{
	return vmbus__srv_is_due(r->srv, kind, index);
}

static bool is_up(const struct vmbus_srv *srv)
{
	return srv->conn >= CONN_ON && srv->conn <= CONN_READY_PAUSED;
}

static bool is_paused(const struct vmbus_srv *srv)
{
	return srv->conn == CONN_ON_PAUSED || srv->conn == CONN_READY_PAUSED;
}

static int check_version(struct srv_restore *r)
{
	const struct vmbus_srv *const srv = r->srv;

	if ((srv->conn == CONN_OFF) != (srv->version == 0) ||
	    (srv->version && (srv->version != srv->wire_version ||
			      !vmbus__srv_conn_version_is_known(srv->version))))
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "connection: its version");
	if (srv->version > srv->opts.version_max)
		return vmbus__srv_wrong(r, VMBUS_E_NOTSUP,
					"connection: its version, above version_max");
	if (srv->features && (srv->version ? srv->version : srv->wire_version) < VMBUS_PROTO_6_0)
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "connection: features below 6.0");
	if (srv->features & ~srv->opts.features)
		return vmbus__srv_wrong(r, VMBUS_E_NOTSUP,
					"connection: a feature that we have not");
	return 0;
}

static int check_conn(struct srv_restore *r)
{
	const struct vmbus_srv *const srv = r->srv;
	const bool up = is_up(srv), off = srv->conn == CONN_OFF, leaving = !up && !off;
	const bool ready = vmbus__srv_conn_is_ready(srv);
	const struct rule rules[] = {
		{ srv->sint >= SINTS, "connection: no such SINT" },
		{ srv->hold && (!is_paused(srv) || due(r, K_PAUSED, 0)), "connection: pause" },
		{ srv->modifying != due(r, K_CONN_MODIFY, 0) || (srv->modifying && off) ||
			  (srv->modifying && due(r, K_CONN_MODIFIED, 0)),
		  "connection: its modification" },
		{ (srv->version != 0) != due(r, K_CONNECTED, 0), "connection: CONNECTED" },
		{ due(r, K_UNLOADED, 0) && !off, "connection: UNLOAD_RESPONSE" },
		{ due(r, K_VERSION, 0) && (leaving || (srv->supported != 0) != up),
		  "connection: VERSION_RESPONSE" },
		{ due(r, K_ALL_OFFERS, 0) && !ready, "connection: ALL_OFFERS" },
		{ due(r, K_PAUSED, 0) && !up, "connection: PAUSE_RESPONSE" },
		{ due(r, K_CONN_MODIFIED, 0) && !up, "connection: MODIFY_CONNECTION_RESPONSE" },
		{ leaving && !srv->away && !srv->modifying, "connection: nothing is waited for" },
	};
	const int err = check_version(r);

	return err ? err : JUDGE(r, rules);
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

/* The child has let go of the channel, or it was an earlier child's. */
static bool is_let_go(const struct srv_chan *chan)
{
	return chan->survives || chan->state >= VMBUS_SRV_CLOSING_RELEASE;
}

static int check_offer(struct srv_restore *r, const struct srv_chan *chan)
{
	const struct vmbus_offer *const offer = &chan->offer;
	const bool revoked = vmbus__srv_is_revoked(chan->state);
	const bool kept = chan->state <= VMBUS_SRV_CLOSING_REOPEN;
	const struct rule rules[] = {
		{ (offer->flags & 0xEu) != 0, "offer: flags" },
		{ offer->monitor_id != VMBUS_MONITOR_NONE && offer->monitor_id > 127u,
		  "offer: monitor" },
		{ revoked && chan->fate == VMBUS_SRV_KEEP, "channel: withdrawn, and kept" },
		{ kept && chan->fate != VMBUS_SRV_KEEP, "channel: offered, and not kept" },
		{ vmbus__srv_child_has(chan) && !vmbus__srv_conn_is_ready(r->srv),
		  "channel: offered to nobody" },
	};

	return JUDGE(r, rules);
}

/* The rings of an open channel, [CTL-OPEN]. */
static int check_ring(struct srv_restore *r, uint32_t slot)
{
	const struct vmbus_srv *const srv = r->srv;
	const struct srv_chan *const chan = &srv->chans[slot];
	/* Then open may be of an OPEN that was held, and names other rings than those that close. */
	const bool held = is_closing(chan->state) && chan->state != VMBUS_SRV_CLOSING;
	const bool own = (srv->features & VMBUS_FEATURE_SIGNAL_PARAMS) && !chan->reserved;
	const bool busy = is_opening(chan->state) || is_closing(chan->state) ||
			  chan->state == VMBUS_SRV_OPENED;
	const struct srv_list *list;

	if (busy != (chan->ring != NIL))
		return vmbus__srv_wrong(r, VMBUS_E_INVAL,
					"channel: open without rings, or closed with");
	if (!busy)
		return 0;
	list = &srv->lists[chan->ring];
	if ((list->state != L_ACCEPTED && list->state != L_HELD) || list->chan != slot ||
	    (!held && !vmbus__srv_ring_shape_can_be(list, chan->open.downstream_page)))
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "channel: the page list of its rings");
	if (own && (chan->open.event_flag == 0 || chan->open.event_flag > VMBUS_RELID_MAX ||
		    !vmbus__srv_conn_id_is_free(srv, slot, chan->open.conn_id)))
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "channel: its signals");
	return 0;
}

static int check_due_of_chan(struct srv_restore *r, uint32_t slot)
{
	const struct srv_chan *const chan = &r->srv->chans[slot];
	const uint32_t state = chan->state;
	const bool has = vmbus__srv_child_has(chan);
	const bool asked = state == VMBUS_SRV_OPENING || state == VMBUS_SRV_REVOKED_OPENING ||
			   state == VMBUS_SRV_CLOSING_REOPEN;
	const struct rule rules[] = {
		{ due(r, K_OFFER, slot) && !has, "channel: OFFER" },
		{ due(r, K_RESCIND, slot) && !vmbus__srv_is_revoked(state), "channel: RESCIND" },
		{ due(r, K_RESULT, slot) && (!has || asked), "channel: OPEN_RESULT" },
		{ due(r, K_MODIFIED, slot) && (!has || chan->modifying),
		  "channel: MODIFY_RESPONSE" },
		{ due(r, K_RESERVED_CLOSED, slot) && chan->reserved_reply,
		  "channel: CLOSE_RESERVED_RESPONSE" },
		{ due(r, K_OPEN, slot) != is_opening(state), "channel: OPEN" },
		{ due(r, K_CLOSE, slot) != is_closing(state), "channel: CLOSE" },
		{ due(r, K_MODIFY, slot) != chan->modifying, "channel: MODIFY" },
	};

	return JUDGE(r, rules);
}

static int check_chan(struct srv_restore *r, uint32_t slot)
{
	const struct srv_chan *const chan = &r->srv->chans[slot];
	const uint32_t state = chan->state;
	const bool closed = due(r, K_RESERVED_CLOSED, slot);
	const bool rests = !chan->list_count && !chan->modifying && !closed;
	const struct rule rules[] = {
		{ chan->survives && (!chan->reserved ||
				     (state != VMBUS_SRV_OPENING && state != VMBUS_SRV_OPENED &&
				      state != VMBUS_SRV_CLOSING)),
		  "channel: outlives its connection" },
		{ chan->reserved_reply && (!chan->reserved || chan->ring == NIL),
		  "channel: closed as reserved" },
		{ chan->modify_again && (!chan->modifying || is_let_go(chan)),
		  "channel: modified again" },
		{ state == VMBUS_SRV_RELEASING && rests, "channel: nothing is waited for" },
		{ state == VMBUS_SRV_CLIENT_RELEASED && !rests, "channel: nobody has it" },
	};
	int err = check_offer(r, chan);

	if (!err)
		err = check_ring(r, slot);
	if (!err)
		err = check_due_of_chan(r, slot);
	return err ? err : JUDGE(r, rules);
}

static int check_list(struct srv_restore *r, uint32_t at)
{
	const struct srv_list *const list = &r->srv->lists[at];
	const struct srv_chan *const chan = &r->srv->chans[list->chan];
	const uint32_t s = list->state;
	const bool created = due(r, K_CREATED, at), torn = due(r, K_TORNDOWN, at);
	const struct rule rules[] = {
		{ (s == L_UNFINISHED || s == L_OFFERED) ? !list->created_owed
							: s != L_OFFERED_DROP && list->created_owed,
		  "page list: its creation" },
		{ list->torn_owed && s != L_OFFERED_DROP && s != L_HELD && s != L_DOWN,
		  "page list: its teardown" },
		{ created && list->created_owed, "page list: GPADL_CREATED" },
		{ torn && s != L_DONE, "page list: GPADL_TORNDOWN" },
		{ s == L_DONE && !created && !torn, "page list: nothing is left of it" },
		{ due(r, K_ASK, at) != (s == L_OFFERED || s == L_OFFERED_DROP),
		  "page list: GPADL" },
		{ due(r, K_DOWN, at) != (s == L_DOWN), "page list: GPADL_DOWN" },
		{ s == L_HELD && chan->ring == NIL, "page list: held by nobody" },
		{ is_let_go(chan) && (s == L_UNFINISHED || s == L_OFFERED || s == L_ACCEPTED ||
				      list->created_owed || created),
		  "page list: its channel was let go" },
		{ vmbus__srv_is_revoked(chan->state) && s == L_OFFERED,
		  "page list: its channel is withdrawn" },
		{ chan->state == VMBUS_SRV_CLIENT_RELEASED, "page list: nobody has its channel" },
	};

	return JUDGE(r, rules);
}

static bool same(const struct vmbus_ctl_tl *a, const struct vmbus_ctl_tl *b)
{
	return vmbus_guid_equal(&a->endpoint_id, &b->endpoint_id) &&
	       vmbus_guid_equal(&a->service_id, &b->service_id);
}

static int check_tl(struct srv_restore *r, uint32_t at)
{
	const struct srv_tl *const tls = r->srv->tls;
	uint32_t i;

	if (tls[at].asked != due(r, K_TL_ASK, at) || (tls[at].asked && !is_up(r->srv)) ||
	    (tls[at].asked && due(r, K_TL_RESULT, at)))
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "connect request: what is due");
	for (i = 0; i < at && tls[at].asked; i++)
		if (tls[i].asked && same(&tls[i].tl, &tls[at].tl))
			return vmbus__srv_wrong(r, VMBUS_E_INVAL,
						"connect request: the same twice");
	return 0;
}

static bool is_reply(uint32_t type)
{
	return type == VMBUS_CTL_OPEN_RESULT || type == VMBUS_CTL_MODIFY_RESPONSE ||
	       type == VMBUS_CTL_CLOSE_RESERVED_RESPONSE ||
	       type == VMBUS_CTL_MODIFY_CONNECTION_RESPONSE || type == VMBUS_CTL_TL_RESULT ||
	       type == VMBUS_CTL_GPADL_CREATED || type == VMBUS_CTL_GPADL_TORNDOWN;
}

static int check_entry(struct srv_restore *r, uint32_t at)
{
	const uint32_t type = r->srv->entries[at].type;

	if ((type != 0) != due(r, K_ENTRY, at) || (type && !is_reply(type)))
		return vmbus__srv_wrong(r, VMBUS_E_INVAL, "reply: its type, or it is not due");
	return 0;
}

/* Nothing is due of what does not exist, and every message can be made. */
static int check_due(struct srv_restore *r)
{
	const struct vmbus_srv *const srv = r->srv;
	struct vmbus_srv_action action;
	uint32_t side, node, index;

	for (side = 0; side < SIDES; side++)
		for (node = srv->head[side]; node != NIL; node = srv->nodes[node].next) {
			const enum srv_kind kind = vmbus__srv_kind_of(srv, node, &index);

			if ((kind <= K_RELEASED && srv->chans[index].state == VMBUS_SRV_FREE) ||
			    (kind >= K_CREATED && kind <= K_DOWN &&
			     srv->lists[index].state == L_FREE))
				return vmbus__srv_wrong(r, VMBUS_E_INVAL,
							"what is due: no such object");
			if (side == SIDE_CHILD &&
			    vmbus__srv_message(srv, kind, index, &action) <= 0)
				return vmbus__srv_wrong(r, VMBUS_E_INVAL,
							"what is due: a message that cannot be");
		}
	return 0;
}

int vmbus__srv_restore_check(struct srv_restore *r)
{
	const struct vmbus_srv *const srv = r->srv;
	uint32_t i;
	int err = check_due(r);

	if (!err)
		err = check_conn(r);
	for (i = 0; i < srv->opts.chans_max && !err; i++)
		if (srv->chans[i].state != VMBUS_SRV_FREE)
			err = check_chan(r, i);
	for (i = 0; i < srv->opts.gpadls_max && !err; i++)
		if (srv->lists[i].state != L_FREE)
			err = check_list(r, i);
	for (i = 0; i < srv->opts.tl_max && !err; i++)
		err = check_tl(r, i);
	for (i = 0; i < srv->opts.queue_max && !err; i++)
		err = check_entry(r, i);
	return err;
}
