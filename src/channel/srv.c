/* SPDX-License-Identifier: MIT */
/*
 * The host machine's storage and its entrance: options, the message that comes in, the action that
 * goes out, the counters.
 *
 * Keeps: nothing of a message is used before it was decoded; a message is taken whole or not at
 * all.  Knows nothing of what messages mean.
 */
#include "channel/srv.h"

#define ALIGN 16u
#define CHANS_MAX VMBUS_RELID_MAX
#define GPADLS_MAX 8192u
#define QUEUE_MAX 4096u
#define TL_MAX 1024u
#define CTL_HEADER_BYTES 8u

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
	return value ? value : otherwise;
}

/* Fill defaults in and check limits. */
static int complete_opts(const struct vmbus_srv_opts *from, struct vmbus_srv_opts *to)
{
	uint32_t most;

	if (from->struct_bytes < sizeof(*to))
		return VMBUS_E_INVAL;
	*to = *from;
	to->chans_max = or_default(to->chans_max, CHANS_MAX);
	most = to->chans_max * 2u + 64u;
	to->gpadls_max = or_default(to->gpadls_max, most < GPADLS_MAX ? most : GPADLS_MAX);
	to->gpadls_unfinished_max = or_default(to->gpadls_unfinished_max, 16);
	if (!to->gpadl_bytes_max)
		to->gpadl_bytes_max = 1ull << 30;
	to->queue_max = or_default(to->queue_max, 64);
	to->version_max = or_default(to->version_max, VMBUS_PROTO_5_3);
	to->message_conn = or_default(to->message_conn, VMBUS_CONN_MESSAGE);
	to->tl_max = or_default(to->tl_max, 16);
	if (to->chans_max > CHANS_MAX || to->gpadls_max > GPADLS_MAX || to->queue_max > QUEUE_MAX ||
	    to->tl_max > TL_MAX)
		return VMBUS_E_RANGE;
	if (!vmbus__srv_conn_version_is_known(to->version_max) ||
	    !vmbus__srv_conn_features_are_had(to->features))
		return VMBUS_E_INVAL;
	return 0;
}

/* Where the parts lie in the storage. */
struct plan {
	size_t chans, lists, tls, entries, nodes, buckets, total;
	uint32_t bucket_count;
	uint32_t base[G_GROUPS + 1];
};

static size_t place(size_t *at, size_t bytes)
{
	const size_t here = *at;

	*at += (bytes + ALIGN - 1u) / ALIGN * ALIGN;
	return here;
}

static void make_plan(const struct vmbus_srv_opts *opts, struct plan *plan)
{
	const uint32_t nodes = vmbus__srv_nodes(opts, plan->base);
	size_t at = 0;

	plan->bucket_count = 1;
	while (plan->bucket_count < opts->gpadls_max)
		plan->bucket_count *= 2u;
	(void)place(&at, sizeof(struct vmbus_srv));
	plan->chans = place(&at, opts->chans_max * sizeof(struct srv_chan));
	plan->lists = place(&at, opts->gpadls_max * sizeof(struct srv_list));
	plan->tls = place(&at, opts->tl_max * sizeof(struct srv_tl));
	plan->entries = place(&at, opts->queue_max * sizeof(struct srv_entry));
	plan->nodes = place(&at, nodes * sizeof(struct srv_node));
	plan->buckets = place(&at, plan->bucket_count * sizeof(uint32_t));
	plan->total = at;
}

size_t vmbus_srv_bytes(const struct vmbus_srv_opts *opts)
{
	struct vmbus_srv_opts all;
	struct plan plan;

	if (complete_opts(opts, &all))
		return 0;
	make_plan(&all, &plan);
	return plan.total;
}

/* Free lists and empty output; all memory is zero. */
static void link_up(struct vmbus_srv *srv)
{
	uint32_t i;

	for (i = 0; i < srv->opts.chans_max; i++) {
		srv->chans[i].gen = 1;
		srv->chans[i].ring = NIL;
		srv->chans[i].lists = NIL;
		srv->chans[i].next = i + 1 < srv->opts.chans_max ? i + 1 : NIL;
	}
	for (i = 0; i < srv->opts.gpadls_max; i++) {
		srv->lists[i].gen = 1;
		srv->lists[i].next_in_bucket = i + 1 < srv->opts.gpadls_max ? i + 1 : NIL;
	}
	for (i = 0; i < srv->opts.queue_max; i++)
		srv->entries[i].next_free = i + 1 < srv->opts.queue_max ? i + 1 : NIL;
	for (i = 0; i < srv->base[G_GROUPS]; i++)
		srv->nodes[i].next = i;
	for (i = 0; i <= srv->bucket_mask; i++)
		srv->buckets[i] = NIL;
	for (i = 0; i < SIDES; i++) {
		srv->head[i] = NIL;
		srv->tail[i] = NIL;
	}
	srv->order = NIL;
	srv->free_chan_last = srv->opts.chans_max - 1;
}

static void set_up(struct vmbus_srv *s, const struct vmbus_srv_opts *opts, const struct plan *plan)
{
	uint8_t *const base = (uint8_t *)s;

	__builtin_memset(s, 0, plan->total);
	s->opts = *opts;
	s->chans = (struct srv_chan *)(void *)(base + plan->chans);
	s->lists = (struct srv_list *)(void *)(base + plan->lists);
	s->tls = (struct srv_tl *)(void *)(base + plan->tls);
	s->entries = (struct srv_entry *)(void *)(base + plan->entries);
	s->nodes = (struct srv_node *)(void *)(base + plan->nodes);
	s->buckets = (uint32_t *)(void *)(base + plan->buckets);
	s->bucket_mask = plan->bucket_count - 1u;
	__builtin_memcpy(s->base, plan->base, sizeof(s->base));
	s->sint = VMBUS_SINT_MESSAGE;
	s->refusal.what = "";
	link_up(s);
}

int vmbus_srv_init(void *storage, size_t bytes, const struct vmbus_srv_opts *opts,
		   struct vmbus_srv **srv)
{
	struct vmbus_srv_opts all;
	struct vmbus_srv *const s = storage;
	struct plan plan;
	const int err = complete_opts(opts, &all);

	if (err)
		return err;
	make_plan(&all, &plan);
	if (bytes < plan.total)
		return VMBUS_E_RANGE;
	if ((uintptr_t)storage % ALIGN || !all.list_get || !all.list_put)
		return VMBUS_E_INVAL;
	set_up(s, &all, &plan);
	*srv = s;
	return 0;
}

/* Back to what it was at first. */
void vmbus__srv_clear(struct vmbus_srv *srv)
{
	const struct vmbus_srv_opts opts = srv->opts;
	struct plan plan;

	vmbus__srv_lists_fini(srv);
	make_plan(&opts, &plan);
	set_up(srv, &opts, &plan);
}

void vmbus_srv_fini(struct vmbus_srv *srv)
{
	vmbus__srv_lists_fini(srv);
}

void vmbus__srv_refuse(struct vmbus_srv *srv, uint64_t *counter,
		       const struct vmbus_srv_refusal *why)
{
	const uint64_t count = srv->refusal.count + 1;

	(*counter)++;
	srv->refusal = *why;
	srv->refusal.count = count;
}

static uint32_t type_of(const void *bytes)
{
	const uint8_t *const p = bytes;

	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A message that cannot be read; some only lack a connection. */
static void refuse_bytes(struct vmbus_srv *srv, const void *bytes, size_t len, int err)
{
	struct vmbus_srv_refusal why = { .what = "message: shorter than its header",
					 .value = len,
					 .limit = CTL_HEADER_BYTES };

	if (len > VMBUS_CTL_BYTES_MAX) {
		why.what = "message: longer than a message can be";
		why.limit = VMBUS_CTL_BYTES_MAX;
	} else if (len >= CTL_HEADER_BYTES) {
		why.ctl_type = type_of(bytes);
		why.limit = 0;
		why.what = err == VMBUS_E_RANGE
				   ? "message: shorter than its type needs"
				   : "message: no such type in this version and these features";
	}
	if (err == VMBUS_E_INVAL && srv->version == 0 && why.ctl_type > 0 &&
	    why.ctl_type < VMBUS_CTL_TYPES) {
		why.what = "message: nobody is connected; contact first";
		vmbus__srv_refuse(srv, &srv->stats.out_of_order, &why);
	} else {
		vmbus__srv_refuse(srv, &srv->stats.malformed, &why);
	}
}

int vmbus_srv_message(struct vmbus_srv *srv, uint32_t conn_id, const void *bytes, size_t len)
{
	struct vmbus_ctl ctl;
	int err = VMBUS_E_RANGE;

	if (conn_id != VMBUS_CONN_MESSAGE && conn_id != VMBUS_CONN_CONTACT &&
	    conn_id != srv->opts.message_conn)
		return VMBUS_E_INVAL;
	if (len >= CTL_HEADER_BYTES && len <= VMBUS_CTL_BYTES_MAX)
		err = vmbus_ctl_decode(bytes, len, srv->version, srv->features, &ctl);
	if (!err && vmbus__srv_conn_must_wait(srv, &ctl)) {
		srv->stats.quota_queue++;
		return VMBUS_E_AGAIN;
	}
	srv->stats.messages++;
	srv->post_conn = conn_id;
	if (err)
		refuse_bytes(srv, bytes, len, err);
	else
		vmbus__srv_conn_message(srv, &ctl);
	return 0;
}

int vmbus_srv_next(struct vmbus_srv *srv, struct vmbus_srv_action *action)
{
	return vmbus__srv_take(srv, false, action);
}

int vmbus_srv_next_local(struct vmbus_srv *srv, struct vmbus_srv_action *action)
{
	return vmbus__srv_take(srv, true, action);
}

void vmbus_srv_disconnect(struct vmbus_srv *srv)
{
	vmbus__srv_conn_reset(srv);
}

void vmbus_srv_stats(const struct vmbus_srv *srv, struct vmbus_srv_stats *stats)
{
	*stats = srv->stats;
}

void vmbus_srv_last_refusal(const struct vmbus_srv *srv, struct vmbus_srv_refusal *refusal)
{
	*refusal = srv->refusal;
}

uint32_t vmbus_srv_version(const struct vmbus_srv *srv)
{
	return srv->conn >= CONN_ON && srv->conn <= CONN_READY_PAUSED ? srv->version : 0;
}
