/* SPDX-License-Identifier: MIT */
/*
 * What is due: nodes in two lists, one for the child and one for the embedder, and the making of
 * an action from the state of the object at the moment when it is taken.
 *
 * Keeps: a node is in its list at most once; the order within a list is the order in which things
 * became due.  Knows nothing of tables and events.
 */
#include "base/probe.h"
#include "channel/srv.h"

#include <vmbus/srv_save.h>

/* One row per kind, in the order of enum srv_kind. */
static const struct kind_row {
	uint8_t group;
	uint8_t side;
	uint8_t reply; /* answers the child, so it counts for the limit of the queue */
} kinds[K_KINDS] = {
	[K_OFFER] = { G_CHAN, SIDE_CHILD, 0 },
	[K_RESCIND] = { G_CHAN, SIDE_CHILD, 0 },
	[K_RESULT] = { G_CHAN, SIDE_CHILD, 1 },
	[K_MODIFIED] = { G_CHAN, SIDE_CHILD, 1 },
	[K_RESERVED_CLOSED] = { G_CHAN, SIDE_CHILD, 1 },
	[K_OPEN] = { G_CHAN, SIDE_LOCAL, 0 },
	[K_CLOSE] = { G_CHAN, SIDE_LOCAL, 0 },
	[K_MODIFY] = { G_CHAN, SIDE_LOCAL, 0 },
	[K_RELEASED] = { G_CHAN, SIDE_LOCAL, 0 },
	[K_CREATED] = { G_LIST, SIDE_CHILD, 1 },
	[K_TORNDOWN] = { G_LIST, SIDE_CHILD, 1 },
	[K_ASK] = { G_LIST, SIDE_LOCAL, 0 },
	[K_DOWN] = { G_LIST, SIDE_LOCAL, 0 },
	[K_VERSION] = { G_CONN, SIDE_CHILD, 1 },
	[K_ALL_OFFERS] = { G_CONN, SIDE_CHILD, 0 },
	[K_UNLOADED] = { G_CONN, SIDE_CHILD, 1 },
	[K_PAUSED] = { G_CONN, SIDE_CHILD, 1 },
	[K_CONN_MODIFIED] = { G_CONN, SIDE_CHILD, 1 },
	[K_CONNECTED] = { G_CONN, SIDE_LOCAL, 0 },
	[K_DISCONNECTED] = { G_CONN, SIDE_LOCAL, 0 },
	[K_CONN_MODIFY] = { G_CONN, SIDE_LOCAL, 0 },
	[K_TL_ASK] = { G_TL, SIDE_LOCAL, 0 },
	[K_TL_RESULT] = { G_TL, SIDE_CHILD, 1 },
	[K_ENTRY] = { G_ENTRY, SIDE_CHILD, 1 },
};

/* Kinds of a group follow each other. */
static const struct {
	uint8_t first;
	uint8_t count;
} groups[G_GROUPS] = {
	[G_CHAN] = { K_OFFER, K_RELEASED - K_OFFER + 1 },
	[G_LIST] = { K_CREATED, K_DOWN - K_CREATED + 1 },
	[G_CONN] = { K_VERSION, K_CONN_MODIFY - K_VERSION + 1 },
	[G_TL] = { K_TL_ASK, K_TL_RESULT - K_TL_ASK + 1 },
	[G_ENTRY] = { K_ENTRY, 1 },
};

uint32_t vmbus__srv_nodes(const struct vmbus_srv_opts *opts, uint32_t base[G_GROUPS + 1])
{
	const uint32_t objects[G_GROUPS] = {
		[G_CHAN] = opts->chans_max, [G_LIST] = opts->gpadls_max, [G_CONN] = 1,
		[G_TL] = opts->tl_max,	    [G_ENTRY] = opts->queue_max,
	};
	uint32_t g, at = 0;

	for (g = 0; g < G_GROUPS; g++) {
		base[g] = at;
		at += objects[g] * groups[g].count;
	}
	base[G_GROUPS] = at;
	return at;
}

static uint32_t node_of(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t index)
{
	const uint32_t g = kinds[kind].group;

	return srv->base[g] + index * groups[g].count + ((uint32_t)kind - groups[g].first);
}

enum srv_kind vmbus__srv_kind_of(const struct vmbus_srv *srv, uint32_t node, uint32_t *index)
{
	uint32_t g = 0;

	while (node >= srv->base[g + 1])
		g++;
	*index = (node - srv->base[g]) / groups[g].count;
	return (enum srv_kind)(groups[g].first + (node - srv->base[g]) % groups[g].count);
}

bool vmbus__srv_is_due(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t index)
{
	const uint32_t n = node_of(srv, kind, index);

	return srv->nodes[n].next != n;
}

void vmbus__srv_due(struct vmbus_srv *srv, enum srv_kind kind, uint32_t index)
{
	const uint32_t n = node_of(srv, kind, index);
	const uint32_t side = kinds[kind].side;
	const uint32_t last = srv->tail[side];

	VMBUS_REQUIRE(srv->nodes[n].next == n);
	srv->nodes[n].next = NIL;
	srv->nodes[n].prev = last;
	if (last == NIL)
		srv->head[side] = n;
	else
		srv->nodes[last].next = n;
	srv->tail[side] = n;
	srv->replies += kinds[kind].reply;
}

static void unlink_node(struct vmbus_srv *srv, enum srv_kind kind, uint32_t n)
{
	struct srv_node *const node = &srv->nodes[n];
	const uint32_t side = kinds[kind].side;

	if (node->prev == NIL)
		srv->head[side] = node->next;
	else
		srv->nodes[node->prev].next = node->next;
	if (node->next == NIL)
		srv->tail[side] = node->prev;
	else
		srv->nodes[node->next].prev = node->prev;
	node->next = n;
	srv->replies -= kinds[kind].reply;
}

/* What the taking, or the dropping, of a message means to its object. */
static void left(struct vmbus_srv *srv, enum srv_kind kind, uint32_t index)
{
	switch (kind) {
	case K_CREATED:
	case K_TORNDOWN:
		vmbus__srv_list_sent(srv, index);
		break;
	case K_ENTRY:
		srv->entries[index].next_free = srv->free_entry;
		srv->free_entry = index;
		break;
	case K_RESERVED_CLOSED:
		vmbus__srv_settle(srv, index);
		break;
	case K_RELEASED:
		vmbus__srv_chan_freed(srv, index);
		break;
	default:
		break;
	}
}

void vmbus__srv_undo(struct vmbus_srv *srv, enum srv_kind kind, uint32_t index)
{
	if (!vmbus__srv_is_due(srv, kind, index))
		return;
	unlink_node(srv, kind, node_of(srv, kind, index));
	left(srv, kind, index);
}

void vmbus__srv_drop_messages(struct vmbus_srv *srv)
{
	while (srv->head[SIDE_CHILD] != NIL) {
		uint32_t index;
		const enum srv_kind kind = vmbus__srv_kind_of(srv, srv->head[SIDE_CHILD], &index);

		vmbus__srv_undo(srv, kind, index);
	}
}

void vmbus__srv_entry(struct vmbus_srv *srv, const struct srv_entry *entry)
{
	const uint32_t at = srv->free_entry;

	/* There is one: a message that may need it was held back otherwise. */
	VMBUS_REQUIRE(at != NIL);
	if (at == NIL)
		return;
	srv->free_entry = srv->entries[at].next_free;
	srv->entries[at] = *entry;
	vmbus__srv_due(srv, K_ENTRY, at);
}

/* The offer that the child sees, [CTL-OFFER]. */
static void offer_message(const struct vmbus_srv *srv, uint32_t slot, struct vmbus_ctl *ctl)
{
	const struct vmbus_offer *const from = &srv->chans[slot].offer;
	struct vmbus_ctl_offer *const to = &ctl->u.offer;

	ctl->type = VMBUS_CTL_OFFER;
	to->class_id = from->class_id;
	to->instance_id = from->instance_id;
	to->flags = from->flags;
	to->mmio_mb = from->mmio_mb;
	to->sub_index = from->sub_index;
	to->relid = slot + 1;
	to->monitor_id = (uint8_t)from->monitor_id;
	to->monitored = from->monitor_id != VMBUS_MONITOR_NONE;
	to->dedicated = 1;
	to->conn_id = vmbus__srv_conn_id(srv, slot);
	__builtin_memcpy(to->user, from->user, sizeof(to->user));
}

static void chan_message(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t slot,
			 struct vmbus_ctl *ctl, struct vmbus_srv_action *action)
{
	const struct srv_chan *const chan = &srv->chans[slot];

	if (kind == K_OFFER) {
		offer_message(srv, slot, ctl);
	} else if (kind == K_RESULT) {
		ctl->type = VMBUS_CTL_OPEN_RESULT;
		ctl->u.result.relid = slot + 1;
		ctl->u.result.open_id = chan->open_id;
		ctl->u.result.status = chan->open_status;
	} else if (kind == K_MODIFIED) {
		ctl->type = VMBUS_CTL_MODIFY_RESPONSE;
		ctl->u.modify.relid = slot + 1;
		ctl->u.modify.status = chan->modify_status;
	} else {
		ctl->type =
			kind == K_RESCIND ? VMBUS_CTL_RESCIND : VMBUS_CTL_CLOSE_RESERVED_RESPONSE;
		ctl->u.chan.relid = slot + 1;
	}
	if (kind == K_RESERVED_CLOSED || (kind == K_RESULT && chan->reserved)) {
		action->target_vp = chan->reserved_vp;
		action->target_sint = chan->reserved_sint;
	}
}

static void conn_message(const struct vmbus_srv *srv, enum srv_kind kind, struct vmbus_ctl *ctl)
{
	struct vmbus_ctl_version *const v = &ctl->u.version;

	switch (kind) {
	case K_VERSION:
		ctl->type = VMBUS_CTL_VERSION_RESPONSE;
		v->supported = (uint8_t)srv->supported;
		if (!v->supported)
			break;
		v->features = srv->features;
		v->conn_id = srv->wire_version >= VMBUS_PROTO_5_0 ? srv->opts.message_conn
								  : srv->wire_version;
		break;
	case K_ALL_OFFERS:
		ctl->type = VMBUS_CTL_ALL_OFFERS;
		break;
	case K_UNLOADED:
		ctl->type = VMBUS_CTL_UNLOAD_RESPONSE;
		break;
	case K_PAUSED:
		ctl->type = VMBUS_CTL_PAUSE_RESPONSE;
		break;
	default:
		ctl->type = VMBUS_CTL_MODIFY_CONNECTION_RESPONSE;
		ctl->u.connection.state = srv->modify_state;
		break;
	}
}

static void entry_message(const struct srv_entry *entry, struct vmbus_ctl *ctl,
			  struct vmbus_srv_action *action)
{
	ctl->type = entry->type;
	action->target_vp = entry->vp;
	action->target_sint = entry->sint;
	switch (entry->type) {
	case VMBUS_CTL_OPEN_RESULT:
		ctl->u.result.relid = entry->relid;
		ctl->u.result.open_id = entry->id;
		ctl->u.result.status = entry->status;
		break;
	case VMBUS_CTL_MODIFY_RESPONSE:
		ctl->u.modify.relid = entry->relid;
		ctl->u.modify.status = entry->status;
		break;
	case VMBUS_CTL_CLOSE_RESERVED_RESPONSE:
		ctl->u.chan.relid = entry->relid;
		break;
	case VMBUS_CTL_MODIFY_CONNECTION_RESPONSE:
		ctl->u.connection.state = entry->status;
		break;
	case VMBUS_CTL_TL_RESULT:
		ctl->u.tl = entry->tl;
		ctl->u.tl.status = entry->status;
		break;
	default:
		ctl->u.created.relid = entry->relid;
		ctl->u.created.gpadl = entry->id;
		ctl->u.created.status = entry->status;
		break;
	}
}

/* Make the action that posts one message.  Returns its length, or an error of the encoder. */
int vmbus__srv_message(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t index,
		       struct vmbus_srv_action *action)
{
	struct vmbus_ctl ctl;
	uint32_t version;
	int len;

	__builtin_memset(&ctl, 0, sizeof(ctl));
	action->act = VMBUS_SRV_SEND;
	action->target_vp = srv->vp;
	action->target_sint = srv->sint;
	switch (kinds[kind].group) {
	case G_CHAN:
		chan_message(srv, kind, index, &ctl, action);
		break;
	case G_LIST:
		ctl.type = kind == K_CREATED ? VMBUS_CTL_GPADL_CREATED : VMBUS_CTL_GPADL_TORNDOWN;
		ctl.u.created.relid = srv->lists[index].chan + 1;
		ctl.u.created.gpadl = srv->lists[index].id;
		ctl.u.created.status = srv->lists[index].status;
		break;
	case G_TL:
		ctl.type = VMBUS_CTL_TL_RESULT;
		ctl.u.tl = srv->tls[index].tl;
		break;
	case G_ENTRY:
		entry_message(&srv->entries[index], &ctl, action);
		break;
	default:
		conn_message(srv, kind, &ctl);
		break;
	}
	/* A reserved channel is closed without a connection too, whatever the last one agreed on. */
	version = ctl.type == VMBUS_CTL_CLOSE_RESERVED_RESPONSE ? 0 : srv->wire_version;
	len = vmbus_ctl_encode(&ctl, version, srv->features, action->bytes, sizeof(action->bytes));
	action->len = len > 0 ? (uint32_t)len : 0;
	action->ctl_type = ctl.type;
	return len;
}

/* Messages that are watched for. */
static void probe_message(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t index)
{
	if (kind == K_OFFER) {
		const struct vmbus_offer *const offer = &srv->chans[index].offer;

		VMBUS_PROBE5(offer, srv, index + 1, offer->sub_index, &offer->class_id,
			     &offer->instance_id);
	} else if (kind == K_RESULT) {
		VMBUS_PROBE3(open_result, srv, index + 1, srv->chans[index].open_status);
	} else if (kind == K_ENTRY && srv->entries[index].type == VMBUS_CTL_OPEN_RESULT) {
		VMBUS_PROBE3(open_result, srv, srv->entries[index].relid,
			     srv->entries[index].status);
	}
}

static void message(struct vmbus_srv *srv, enum srv_kind kind, uint32_t index,
		    struct vmbus_srv_action *action)
{
	const int len = vmbus__srv_message(srv, kind, index, action);

	VMBUS_REQUIRE(len > 0);
	(void)len;
	srv->stats.sent++;
	probe_message(srv, kind, index);
}

/* Which side a kind is due to, and how many objects have it. */
enum srv_side vmbus__srv_side_of(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t *objects)
{
	const uint32_t g = kinds[kind].group;

	*objects = (srv->base[g + 1] - srv->base[g]) / groups[g].count;
	return (enum srv_side)kinds[kind].side;
}

/* OPEN: everything that a device needs to know. */
static void open_action(const struct vmbus_srv *srv, uint32_t slot, struct vmbus_srv_action *action)
{
	const struct srv_chan *const chan = &srv->chans[slot];
	const bool own_signals = (srv->features & VMBUS_FEATURE_SIGNAL_PARAMS) && !chan->reserved;

	action->act = VMBUS_SRV_OPEN;
	action->target_vp = chan->target_vp;
	action->target_sint = VMBUS_SINT_MESSAGE;
	action->gpadl = chan->open.gpadl;
	action->list.slot = chan->ring;
	action->list.gen = srv->lists[chan->ring].gen;
	action->downstream_page = chan->open.downstream_page;
	action->conn_id = own_signals ? chan->open.conn_id : vmbus__srv_conn_id(srv, slot);
	action->event_flag = own_signals ? chan->open.event_flag : slot + 1;
	__builtin_memcpy(action->user, chan->open.user, sizeof(action->user));
}

static void chan_action(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t slot,
			struct vmbus_srv_action *action)
{
	const struct srv_chan *const chan = &srv->chans[slot];

	action->chan.slot = slot;
	action->chan.gen = chan->gen;
	action->relid = slot + 1;
	action->target_vp = chan->target_vp;
	action->target_sint = VMBUS_SINT_MESSAGE;
	if (kind == K_OPEN) {
		open_action(srv, slot, action);
	} else if (kind == K_MODIFY) {
		action->act = VMBUS_SRV_MODIFY;
		action->target_vp = chan->modify_vp;
	} else {
		action->act = kind == K_CLOSE ? VMBUS_SRV_CLOSE : VMBUS_SRV_RELEASED;
	}
}

static void list_action(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t index,
			struct vmbus_srv_action *action)
{
	const struct srv_list *const list = &srv->lists[index];

	action->act = kind == K_ASK ? VMBUS_SRV_GPADL : VMBUS_SRV_GPADL_DOWN;
	action->chan.slot = list->chan;
	action->chan.gen = srv->chans[list->chan].gen;
	action->relid = list->chan + 1;
	action->gpadl = list->id;
	action->list.slot = index;
	action->list.gen = list->gen;
}

static void conn_action(const struct vmbus_srv *srv, enum srv_kind kind,
			struct vmbus_srv_action *action)
{
	if (kind == K_DISCONNECTED) {
		action->act = VMBUS_SRV_DISCONNECTED;
		return;
	}
	action->act = kind == K_CONNECTED ? VMBUS_SRV_CONNECTED : VMBUS_SRV_MODIFY_CONNECTION;
	action->version = srv->version;
	action->features = srv->features;
	action->target_vp = srv->vp;
	action->target_sint = srv->sint;
	action->monitor_p2c = kind == K_CONNECTED ? srv->monitor_p2c : srv->modify_p2c;
	action->monitor_c2p = kind == K_CONNECTED ? srv->monitor_c2p : srv->modify_c2p;
}

int vmbus_srv_open_info(const struct vmbus_srv *srv, struct vmbus_srv_ref ref,
			struct vmbus_srv_action *action)
{
	const struct srv_chan *const chan = vmbus__srv_chan_of(srv, ref);

	if (!chan || chan->state != VMBUS_SRV_OPENED)
		return 0;
	__builtin_memset(action, 0, sizeof(*action));
	chan_action(srv, K_OPEN, ref.slot, action);
	return 1;
}

int vmbus__srv_take(struct vmbus_srv *srv, bool local_only, struct vmbus_srv_action *action)
{
	uint32_t node = srv->head[SIDE_LOCAL], index;
	enum srv_kind kind;

	if (node == NIL && !local_only && !srv->hold)
		node = srv->head[SIDE_CHILD];
	if (node == NIL)
		return 0;
	kind = vmbus__srv_kind_of(srv, node, &index);
	__builtin_memset(action, 0, sizeof(*action));
	if (kinds[kind].side == SIDE_CHILD) {
		message(srv, kind, index, action);
	} else if (kinds[kind].group == G_CHAN) {
		chan_action(srv, kind, index, action);
	} else if (kinds[kind].group == G_LIST) {
		list_action(srv, kind, index, action);
	} else if (kind == K_TL_ASK) {
		action->act = VMBUS_SRV_TL_CONNECT;
		action->tl = srv->tls[index].tl;
	} else {
		conn_action(srv, kind, action);
	}
	unlink_node(srv, kind, node);
	left(srv, kind, index);
	/* The child hears nothing after this one until it resumes, [CTL-PAUSE]. */
	if (kind == K_PAUSED && (srv->conn == CONN_ON_PAUSED || srv->conn == CONN_READY_PAUSED))
		srv->hold = true;
	return 1;
}
