/* SPDX-License-Identifier: MIT */
/*
 * Offering and withdrawing channels, and the order in which the child hears of them.
 *
 * Keeps: instances are unique; sub-channels are offered after their primary and withdrawn before
 * it.
 */
#include "channel/srv.h"

void vmbus__srv_remove_from_order(struct vmbus_srv *srv, uint32_t slot)
{
	struct srv_chan *const chan = &srv->chans[slot];

	if (chan->prev == NIL)
		srv->order = chan->next;
	else
		srv->chans[chan->prev].next = chan->next;
	if (chan->next != NIL)
		srv->chans[chan->next].prev = chan->prev;
}

/* Order of offers: class, then the caller's number, then instance, then index. */
static int compare(const struct vmbus_offer *a, const struct vmbus_offer *b)
{
	int diff = __builtin_memcmp(&a->class_id, &b->class_id, sizeof(a->class_id));

	if (!diff && a->order != b->order)
		diff = a->order < b->order ? -1 : 1;
	if (!diff)
		diff = __builtin_memcmp(&a->instance_id, &b->instance_id, sizeof(a->instance_id));
	if (!diff)
		diff = (int)a->sub_index - (int)b->sub_index;
	return diff;
}

static bool is_family(const struct vmbus_offer *a, const struct vmbus_offer *b)
{
	return vmbus_guid_equal(&a->instance_id, &b->instance_id) &&
	       vmbus_guid_equal(&a->class_id, &b->class_id);
}

/*
 * Look an offer up among those that there are.  Returns 0 and the channel that it comes after, NIL
 * for the first place; a sub-channel takes its primary's order.
 */
static int find_place(const struct vmbus_srv *srv, struct vmbus_offer *offer, uint32_t *after)
{
	bool has_primary = offer->sub_index == 0;
	uint32_t at;

	*after = NIL;
	for (at = srv->order; at != NIL; at = srv->chans[at].next) {
		const struct srv_chan *const chan = &srv->chans[at];

		if (!vmbus_guid_equal(&chan->offer.instance_id, &offer->instance_id))
			continue;
		if (offer->sub_index == 0 || !is_family(&chan->offer, offer))
			return VMBUS_E_INVAL;
		if (chan->offer.sub_index == offer->sub_index)
			return chan->fate == VMBUS_SRV_FORGET ? VMBUS_E_AGAIN : VMBUS_E_INVAL;
		if (chan->offer.sub_index)
			continue;
		if (chan->fate != VMBUS_SRV_KEEP || vmbus__srv_is_revoked(chan->state))
			return VMBUS_E_INVAL;
		has_primary = true;
		offer->order = chan->offer.order;
	}
	if (!has_primary)
		return VMBUS_E_INVAL;
	for (at = srv->order; at != NIL && compare(&srv->chans[at].offer, offer) < 0;
	     at = srv->chans[at].next)
		*after = at;
	return 0;
}

static bool primary_is_offered(const struct vmbus_srv *srv, uint32_t slot)
{
	const struct srv_chan *const chan = &srv->chans[slot];
	uint32_t at = slot;

	while (srv->chans[at].offer.sub_index && srv->chans[at].prev != NIL &&
	       is_family(&srv->chans[srv->chans[at].prev].offer, &chan->offer))
		at = srv->chans[at].prev;
	return at == slot || vmbus__srv_child_has(&srv->chans[at]);
}

/* Everything that the child does not know of, each in its place, [CTL-OFFER]. */
void vmbus__srv_offer_all(struct vmbus_srv *srv)
{
	uint32_t at;

	for (at = srv->order; at != NIL; at = srv->chans[at].next)
		if (srv->chans[at].state == VMBUS_SRV_CLIENT_RELEASED &&
		    primary_is_offered(srv, at))
			(void)vmbus__srv_fire(srv, at, EV_OFFER, NULL);
}

static void insert(struct vmbus_srv *srv, uint32_t slot, uint32_t after)
{
	struct srv_chan *const chan = &srv->chans[slot];

	chan->prev = after;
	chan->next = after == NIL ? srv->order : srv->chans[after].next;
	if (chan->next != NIL)
		srv->chans[chan->next].prev = slot;
	if (after == NIL)
		srv->order = slot;
	else
		srv->chans[after].next = slot;
}

/* Behind the last one, if that is its place and nobody else has its instance; in a restore. */
bool vmbus__srv_append(struct vmbus_srv *srv, uint32_t slot, uint32_t last)
{
	const struct vmbus_offer *const offer = &srv->chans[slot].offer;
	uint32_t at;

	if (last != NIL && compare(&srv->chans[last].offer, offer) >= 0)
		return false;
	for (at = srv->order; at != NIL; at = srv->chans[at].next) {
		const struct vmbus_offer *const other = &srv->chans[at].offer;

		if (vmbus_guid_equal(&other->instance_id, &offer->instance_id) &&
		    (!is_family(other, offer) || other->order != offer->order))
			return false;
	}
	insert(srv, slot, last);
	return true;
}

int vmbus_srv_offer(struct vmbus_srv *srv, const struct vmbus_offer *offer,
		    struct vmbus_srv_ref *ref)
{
	struct vmbus_offer copy = *offer;
	const uint32_t slot = srv->free_chan;
	struct srv_chan *chan;
	uint32_t after, gen;
	int err;

	/* Confidential and pinned memory are not had here. */
	if (offer->flags & 0xEu ||
	    (offer->monitor_id != VMBUS_MONITOR_NONE && offer->monitor_id > 127u))
		return VMBUS_E_INVAL;
	err = find_place(srv, &copy, &after);
	if (err)
		return err;
	if (slot == NIL)
		return VMBUS_E_FULL;
	chan = &srv->chans[slot];
	srv->free_chan = chan->next;
	gen = chan->gen;
	__builtin_memset(chan, 0, sizeof(*chan));
	chan->gen = gen;
	chan->offer = copy;
	chan->state = VMBUS_SRV_CLIENT_RELEASED;
	chan->ring = NIL;
	chan->lists = NIL;
	insert(srv, slot, after);
	srv->stats.channels++;
	if (offer->flags & VMBUS_OFFER_TLNPI)
		vmbus__srv_tl_offered(srv, offer);
	if (vmbus__srv_conn_is_ready(srv) && primary_is_offered(srv, slot))
		(void)vmbus__srv_fire(srv, slot, EV_OFFER, NULL);
	ref->slot = slot;
	ref->gen = gen;
	return 0;
}

/* The sub-channels of a primary stand behind it in the order of offers. */
static void revoke_family(struct vmbus_srv *srv, uint32_t slot, enum vmbus_srv_fate fate)
{
	const struct vmbus_offer *const offer = &srv->chans[slot].offer;
	uint32_t at = srv->chans[slot].next;

	while (offer->sub_index == 0 && at != NIL && is_family(&srv->chans[at].offer, offer)) {
		const uint32_t next = srv->chans[at].next;

		vmbus__srv_revoke(srv, at, VMBUS_SRV_FORGET);
		at = next;
	}
	vmbus__srv_revoke(srv, slot, fate);
}

int vmbus_srv_revoke(struct vmbus_srv *srv, struct vmbus_srv_ref chan)
{
	if (!vmbus__srv_chan_of(srv, chan))
		return VMBUS_E_STATE;
	revoke_family(srv, chan.slot, VMBUS_SRV_FORGET);
	return 0;
}

int vmbus_srv_reoffer(struct vmbus_srv *srv, struct vmbus_srv_ref chan)
{
	const struct srv_chan *const c = vmbus__srv_chan_of(srv, chan);

	if (!c || c->fate == VMBUS_SRV_FORGET)
		return VMBUS_E_STATE;
	revoke_family(srv, chan.slot, VMBUS_SRV_OFFER);
	return 0;
}

int vmbus_srv_info(const struct vmbus_srv *srv, uint32_t slot, struct vmbus_srv_info *info)
{
	const struct srv_chan *chan;

	if (slot >= srv->opts.chans_max || srv->chans[slot].state == VMBUS_SRV_FREE)
		return 0;
	chan = &srv->chans[slot];
	__builtin_memset(info, 0, sizeof(*info));
	info->chan.slot = slot;
	info->chan.gen = chan->gen;
	info->relid = slot + 1;
	info->state = chan->state;
	info->gpadls = chan->list_count;
	info->target_vp = chan->target_vp;
	info->fate = chan->fate;
	info->offer = chan->offer;
	return 1;
}
