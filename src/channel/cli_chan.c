/* SPDX-License-Identifier: MIT */
/*
 * What the caller may do with a channel and its page lists, and the events that end a request: each
 * goes through the table of cli_table.c first.
 *
 * A request is answered once: a new one of the same kind is refused while the answer to the last one
 * is awaited, or was not taken yet.
 */
#include "base/probe.h"
#include "channel/cli_machine.h"

#define RING_PAGES_MIN 2u /* a control page and one of data, [RING-SIZE] */
#define PAGES_MAX 8190u	  /* of one range: its length in bytes is 16 bits wide, [CTL-GPADL] */

/* Whether requests about channels may be posted now. */
static bool talking(const struct vmbus_cli *cli)
{
	return cli->conn == VMBUS__CONN_OFFERS || cli->conn == VMBUS__CONN_READY;
}

static uint32_t slot_of(const struct vmbus_cli *cli, const struct vmbus__cli_chan *chan)
{
	return (uint32_t)(chan - cli->chans);
}

static void fail_creating(struct vmbus_cli *cli, uint32_t chan)
{
	uint32_t i;

	for (i = 0; i < cli->opts.gpadls_max; i++) {
		struct vmbus__cli_list *const list = &cli->lists[i];

		if (list->state != VMBUS__LIST_CREATING || list->chan != chan)
			continue;
		list->state = VMBUS__LIST_DEAD;
		vmbus__cli_tell_list(cli, list, VMBUS__LIST_TELL_READY, VMBUS_STATUS_FAILED);
	}
}

/* The parent withdrew the channel, or is gone: nobody waits for an answer any more. */
static void withdrawn(struct vmbus_cli *cli, struct vmbus__cli_chan *chan, uint32_t from)
{
	if (from == VMBUS_CLI_OPENING) {
		chan->open_status = VMBUS_STATUS_FAILED;
		vmbus__cli_tell_chan(cli, chan, VMBUS__CHAN_OPENED);
	}
	if (chan->modify != VMBUS__ASK_NONE) {
		chan->modify = VMBUS__ASK_NONE;
		chan->modify_status = VMBUS_STATUS_FAILED;
		vmbus__cli_tell_chan(cli, chan, VMBUS__CHAN_MODIFIED);
	}
	if (chan->gpadls)
		fail_creating(cli, slot_of(cli, chan));
	if (from != VMBUS_CLI_RESCINDED_CLOSED && from != VMBUS_CLI_RESCINDED_OPEN)
		vmbus__cli_tell_chan(cli, chan, VMBUS__CHAN_RESCINDED);
}

int vmbus__cli_event(struct vmbus_cli *cli, struct vmbus__cli_chan *chan, uint32_t event,
		     uint32_t status)
{
	const uint32_t from = chan->state;
	uint32_t to;

	if (!vmbus__cli_allows(from, event, &to))
		return VMBUS_E_STATE;
	chan->state = to;
	switch (event) {
	case VMBUS__CLI_EV_OPENED:
	case VMBUS__CLI_EV_OPEN_FAILED:
		chan->open_sent = 0;
		chan->open_status = status;
		vmbus__cli_tell_chan(cli, chan, VMBUS__CHAN_OPENED);
		break;
	case VMBUS__CLI_EV_MODIFIED:
		chan->modify = VMBUS__ASK_NONE;
		chan->modify_status = status;
		vmbus__cli_tell_chan(cli, chan, VMBUS__CHAN_MODIFIED);
		break;
	case VMBUS__CLI_EV_LOST:
		chan->orphan = 1;
		withdrawn(cli, chan, from);
		break;
	case VMBUS__CLI_EV_RESCIND:
		withdrawn(cli, chan, from);
		break;
	default:
		break;
	}
	return 0;
}

int vmbus_cli_gpadl(struct vmbus_cli *cli, struct vmbus_cli_ref ref, const uint64_t *pfns,
		    uint32_t count, struct vmbus_cli_ref *list_ref)
{
	struct vmbus__cli_chan *const chan = vmbus__cli_chan(cli, ref);
	struct vmbus__cli_list *list;
	uint32_t to, slot;

	if (!pfns || !list_ref)
		return VMBUS_E_INVAL;
	if (count == 0 || count > PAGES_MAX)
		return VMBUS_E_RANGE;
	if (!chan || !talking(cli) || !vmbus__cli_allows(chan->state, VMBUS__CLI_EV_GPADL, &to))
		return VMBUS_E_STATE;
	if (vmbus__cli_queue_full(cli))
		return VMBUS_E_FULL;
	list = vmbus__cli_list_take(cli);
	if (!list)
		return VMBUS_E_FULL;
	slot = (uint32_t)(list - cli->lists);
	list->state = VMBUS__LIST_CREATING;
	list->pfns = pfns;
	list->pages = count;
	list->chan = ref.slot;
	chan->gpadls++;
	*list_ref = vmbus__cli_list_ref(cli, slot);
	return vmbus__cli_push(cli, VMBUS__POST_GPADL, slot, list->id, NULL);
}

int vmbus_cli_gpadl_teardown(struct vmbus_cli *cli, struct vmbus_cli_ref ref)
{
	struct vmbus__cli_list *const list = vmbus__cli_list(cli, ref);
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_TEARDOWN };
	struct vmbus__cli_chan *chan;
	uint32_t event, to;
	int err;

	if (!list || !talking(cli) || list->state != VMBUS__LIST_READY)
		return VMBUS_E_STATE;
	if (list->node.events)
		return VMBUS_E_AGAIN;
	chan = &cli->chans[list->chan];
	event = chan->ring_id == list->id ? VMBUS__CLI_EV_TEARDOWN_RING : VMBUS__CLI_EV_TEARDOWN;
	if (!vmbus__cli_allows(chan->state, event, &to))
		return VMBUS_E_STATE;
	ctl.u.created.relid = chan->offer.relid;
	ctl.u.created.gpadl = list->id;
	err = vmbus__cli_push(cli, VMBUS__POST_TEARDOWN, ref.slot, list->id, &ctl);
	if (err)
		return err;
	list->state = VMBUS__LIST_TEARING;
	list->sent = 0;
	return 0;
}

/* [CTL-OPEN]; where the parent may choose, the child's words are those of the offer. */
static void make_open(const struct vmbus__cli_chan *chan, const struct vmbus_cli_open *open,
		      uint32_t gpadl, struct vmbus_ctl *ctl)
{
	struct vmbus_ctl_open *const o = &ctl->u.open;

	ctl->type = VMBUS_CTL_OPEN;
	o->relid = chan->offer.relid;
	o->open_id = chan->open_id;
	o->gpadl = gpadl;
	o->target_vp = open->target_vp;
	o->downstream_page = open->downstream_page;
	o->conn_id = open->conn_id ? open->conn_id : chan->offer.conn_id;
	o->event_flag = open->event_flag ? open->event_flag : (uint16_t)chan->offer.relid;
	o->redirect = open->redirect;
	__builtin_memcpy(o->user, open->user, sizeof(o->user));
}

int vmbus_cli_open(struct vmbus_cli *cli, struct vmbus_cli_ref ref,
		   const struct vmbus_cli_open *open)
{
	struct vmbus__cli_chan *const chan = vmbus__cli_chan(cli, ref);
	struct vmbus__cli_list *list;
	struct vmbus_ctl ctl = { 0 };
	uint32_t to;

	if (!open)
		return VMBUS_E_INVAL;
	if (!chan || !talking(cli) || !vmbus__cli_allows(chan->state, VMBUS__CLI_EV_OPEN, &to))
		return VMBUS_E_STATE;
	list = vmbus__cli_list(cli, open->list);
	if (!list || list->state != VMBUS__LIST_READY || list->chan != ref.slot)
		return VMBUS_E_STATE;
	if (open->downstream_page < RING_PAGES_MIN || open->downstream_page > list->pages ||
	    list->pages - open->downstream_page < RING_PAGES_MIN)
		return VMBUS_E_RANGE;
	if (chan->node.events & VMBUS__CHAN_OPENED || list->node.events)
		return VMBUS_E_AGAIN;
	if (vmbus__cli_queue_full(cli))
		return VMBUS_E_FULL;
	cli->next_open_id = vmbus__cli_next_gen(cli->next_open_id);
	chan->open_id = cli->next_open_id;
	chan->ring_id = list->id;
	chan->state = to;
	make_open(chan, open, list->id, &ctl);
	VMBUS_PROBE3(child_open, cli, chan->offer.relid, list->id);
	return vmbus__cli_push(cli, VMBUS__POST_OPEN, ref.slot, chan->open_id, &ctl);
}

int vmbus_cli_close(struct vmbus_cli *cli, struct vmbus_cli_ref ref)
{
	struct vmbus__cli_chan *const chan = vmbus__cli_chan(cli, ref);
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CLOSE };
	uint32_t to;
	int err;

	if (!chan || !vmbus__cli_allows(chan->state, VMBUS__CLI_EV_CLOSE, &to))
		return VMBUS_E_STATE;
	if (!chan->orphan) {
		if (!talking(cli))
			return VMBUS_E_STATE;
		ctl.u.chan.relid = chan->offer.relid;
		err = vmbus__cli_push(cli, VMBUS__POST_CLOSE, ref.slot, chan->gen, &ctl);
		if (err)
			return err;
	}
	chan->state = to;
	return 0;
}

int vmbus_cli_modify(struct vmbus_cli *cli, struct vmbus_cli_ref ref, uint32_t target_vp)
{
	struct vmbus__cli_chan *const chan = vmbus__cli_chan(cli, ref);
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_MODIFY };
	uint32_t to;
	int err;

	if (!chan || !talking(cli) || !vmbus__cli_allows(chan->state, VMBUS__CLI_EV_MODIFY, &to))
		return VMBUS_E_STATE;
	if (target_vp == VMBUS_VP_NONE)
		return VMBUS_E_RANGE;
	if (cli->version < VMBUS_PROTO_4_1)
		return VMBUS_E_NOTSUP;
	if (chan->modify != VMBUS__ASK_NONE || chan->node.events & VMBUS__CHAN_MODIFIED)
		return VMBUS_E_AGAIN;
	ctl.u.modify.relid = chan->offer.relid;
	ctl.u.modify.target_vp = target_vp;
	err = vmbus__cli_push(cli, VMBUS__POST_MODIFY, ref.slot, chan->gen, &ctl);
	if (err)
		return err;
	chan->modify = VMBUS__ASK_QUEUED;
	chan->state = to;
	return 0;
}

int vmbus_cli_release(struct vmbus_cli *cli, struct vmbus_cli_ref ref)
{
	struct vmbus__cli_chan *const chan = vmbus__cli_chan(cli, ref);
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_RELID_RELEASED };
	uint32_t to;
	int err;

	if (!chan || !vmbus__cli_allows(chan->state, VMBUS__CLI_EV_RELEASE, &to))
		return VMBUS_E_STATE;
	if (chan->node.events)
		return VMBUS_E_AGAIN;
	if (chan->gpadls)
		return VMBUS_E_STATE;
	/* A parent that is gone, or that takes everything back anyway, is not told. */
	if (!chan->orphan && cli->conn != VMBUS__CONN_LEAVING) {
		if (!talking(cli))
			return VMBUS_E_STATE;
		ctl.u.chan.relid = chan->offer.relid;
		err = vmbus__cli_push(cli, VMBUS__POST_RELEASED, chan->offer.relid, 0, &ctl);
		if (err)
			return err;
	}
	if (!chan->orphan)
		cli->relids[chan->offer.relid] = VMBUS__CLI_RELEASING;
	vmbus__cli_chan_put(cli, chan);
	return 0;
}

static bool same_request(const struct vmbus_ctl_tl *a, const struct vmbus_ctl_tl *b)
{
	return vmbus_guid_equal(&a->endpoint_id, &b->endpoint_id) &&
	       vmbus_guid_equal(&a->service_id, &b->service_id);
}

int vmbus_cli_tl_connect(struct vmbus_cli *cli, const struct vmbus_ctl_tl *tl)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_TL_CONNECT };
	struct vmbus__cli_tl *slot = NULL, *t;
	uint32_t i, gen;
	int err;

	if (!tl)
		return VMBUS_E_INVAL;
	if (!talking(cli))
		return VMBUS_E_STATE;
	if (cli->version < VMBUS_PROTO_4_0 || (tl->has_silo && cli->version < VMBUS_PROTO_5_2))
		return VMBUS_E_NOTSUP;
	for (i = 0; i < VMBUS__CLI_TL_MAX; i++) {
		t = &cli->tl[i];
		if (t->ask == VMBUS__ASK_NONE && !t->node.events)
			slot = t;
		else if (same_request(&t->tl, tl))
			return VMBUS_E_AGAIN;
	}
	if (!slot)
		return VMBUS_E_FULL;
	gen = vmbus__cli_next_gen(slot->gen);
	ctl.u.tl = *tl;
	err = vmbus__cli_push(cli, VMBUS__POST_TL, (uint32_t)(slot - cli->tl), gen, &ctl);
	if (err)
		return err;
	slot->tl = *tl;
	slot->gen = gen;
	slot->ask = VMBUS__ASK_QUEUED;
	return 0;
}
