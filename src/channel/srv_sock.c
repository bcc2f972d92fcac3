/* SPDX-License-Identifier: MIT */
/*
 * Connect requests of hv_sock: which ones wait for the embedder, and their refusal.
 *
 * Keeps: at most tl_max wait; each is answered once, by an offer or, from 4.1 on, by TL_RESULT.
 * Knows nothing of sockets.
 */
#include "channel/srv.h"

static bool same(const struct vmbus_ctl_tl *a, const struct vmbus_ctl_tl *b)
{
	return vmbus_guid_equal(&a->endpoint_id, &b->endpoint_id) &&
	       vmbus_guid_equal(&a->service_id, &b->service_id);
}

static uint32_t find(const struct vmbus_srv *srv, const struct vmbus_ctl_tl *tl)
{
	uint32_t i;

	for (i = 0; i < srv->opts.tl_max; i++)
		if (srv->tls[i].asked && same(&srv->tls[i].tl, tl))
			return i;
	return NIL;
}

static uint32_t find_free(const struct vmbus_srv *srv)
{
	uint32_t i;

	for (i = 0; i < srv->opts.tl_max; i++)
		if (!srv->tls[i].asked && !vmbus__srv_is_due(srv, K_TL_RESULT, i))
			return i;
	return NIL;
}

static void answered(struct vmbus_srv *srv, uint32_t at)
{
	srv->tls[at].asked = false;
	srv->tl_count--;
	vmbus__srv_undo(srv, K_TL_ASK, at);
}

void vmbus__srv_tl_connect(struct vmbus_srv *srv, const struct vmbus_ctl *ctl)
{
	const uint32_t at = find_free(srv);
	const bool twice = find(srv, &ctl->u.tl) != NIL;
	const struct srv_entry entry = { .type = VMBUS_CTL_TL_RESULT,
					 .vp = srv->vp,
					 .sint = srv->sint,
					 .status = VMBUS_STATUS_REFUSED,
					 .tl = ctl->u.tl };
	struct vmbus_srv_refusal why = { .what = "connect: too many requests in flight (tl_max)",
					 .ctl_type = ctl->type,
					 .value = srv->tl_count,
					 .limit = srv->opts.tl_max };

	if (at != NIL && !twice) {
		srv->tls[at].tl = ctl->u.tl;
		srv->tls[at].asked = true;
		srv->tl_count++;
		vmbus__srv_due(srv, K_TL_ASK, at);
		return;
	}
	if (twice)
		why.what = "connect: the same request is in flight";
	vmbus__srv_refuse(srv, twice ? &srv->stats.out_of_order : &srv->stats.quota_tl, &why);
	if (srv->version >= VMBUS_PROTO_4_1)
		vmbus__srv_entry(srv, &entry);
}

/* The offer that answers a request has its service as class and its endpoint as instance. */
void vmbus__srv_tl_offered(struct vmbus_srv *srv, const struct vmbus_offer *offer)
{
	const struct vmbus_ctl_tl tl = { .endpoint_id = offer->instance_id,
					 .service_id = offer->class_id };
	const uint32_t at = find(srv, &tl);

	if (at != NIL)
		answered(srv, at);
}

void vmbus__srv_tl_drop_all(struct vmbus_srv *srv)
{
	uint32_t i;

	for (i = 0; i < srv->opts.tl_max; i++)
		if (srv->tls[i].asked)
			answered(srv, i);
}

int vmbus_srv_tl_refuse(struct vmbus_srv *srv, const struct vmbus_ctl_tl *tl, uint32_t status)
{
	const uint32_t at = find(srv, tl);

	if (at == NIL || vmbus__srv_is_due(srv, K_TL_ASK, at))
		return VMBUS_E_STATE;
	answered(srv, at);
	if (srv->version < VMBUS_PROTO_4_1)
		return 0;
	srv->tls[at].tl.status = status ? status : VMBUS_STATUS_REFUSED;
	vmbus__srv_due(srv, K_TL_RESULT, at);
	return 0;
}
