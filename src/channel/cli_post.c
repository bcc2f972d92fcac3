/* SPDX-License-Identifier: MIT */
/*
 * Messages to the parent: a queue of fixed size, of which the first is handed out, and stays first
 * until the caller tells what became of it.
 *
 * A message is encoded when it is asked for, but for those of a page list: they are made one by one
 * when their turn comes, from the caller's array of page numbers, and none goes between them.  A
 * message whose owner needs it no more is passed over.
 */
#include "channel/cli_machine.h"

#define HEADER_PAGES 26u /* in GPADL_HEADER behind the header of the range, [CTL-GPADL] */
#define BODY_PAGES 28u	 /* in GPADL_BODY, [CTL-GPADL] */

/* Hypercall statuses that mean "not now", [HC-STATUS]. */
#define HV_INSUFFICIENT_MEMORY 0x0Bu
#define HV_INVALID_CONNECTION 0x12u
#define HV_INSUFFICIENT_BUFFERS 0x13u

static struct vmbus__cli_entry *entry_at(struct vmbus_cli *cli, uint32_t n)
{
	const uint32_t to_end = cli->opts.queue_max - cli->queue_first;

	return &cli->queue[n < to_end ? cli->queue_first + n : n - to_end];
}

bool vmbus__cli_queue_full(const struct vmbus_cli *cli)
{
	return cli->queue_count == cli->opts.queue_max;
}

int vmbus__cli_push(struct vmbus_cli *cli, uint32_t kind, uint32_t slot, uint32_t tag,
		    const struct vmbus_ctl *ctl)
{
	struct vmbus__cli_entry *entry;
	int len = 0;

	if (vmbus__cli_queue_full(cli))
		return VMBUS_E_FULL;
	entry = entry_at(cli, cli->queue_count);
	if (ctl)
		len = vmbus_ctl_encode(ctl, cli->version, cli->features, entry->bytes,
				       sizeof(entry->bytes));
	VMBUS_REQUIRE(len >= 0);
	entry->kind = kind;
	entry->slot = slot;
	entry->tag = tag;
	entry->len = (uint32_t)len;
	cli->queue_count++;
	return 0;
}

static void pop(struct vmbus_cli *cli)
{
	cli->queue_first = cli->queue_first + 1u == cli->opts.queue_max ? 0 : cli->queue_first + 1u;
	cli->queue_count--;
}

void vmbus__cli_queue_clear(struct vmbus_cli *cli)
{
	cli->queue_first = 0;
	cli->queue_count = 0;
	cli->hold = 0;
	if (cli->posting && !cli->posting_stale)
		cli->posting_stale = VMBUS__STALE;
}

static struct vmbus__cli_chan *entry_chan(struct vmbus_cli *cli, const struct vmbus__cli_entry *e)
{
	return &cli->chans[e->slot];
}

static bool list_is(const struct vmbus__cli_list *list, const struct vmbus__cli_entry *e,
		    uint32_t state)
{
	return list->id == e->tag && list->state == state;
}

/* Whether somebody still wants this message posted, and waits for what comes of it. */
static bool wanted(struct vmbus_cli *cli, const struct vmbus__cli_entry *e)
{
	switch (e->kind) {
	case VMBUS__POST_CONTACT:
		return cli->conn == VMBUS__CONN_CONTACT && cli->version_at == e->tag;
	case VMBUS__POST_OPEN:
		return entry_chan(cli, e)->state == VMBUS_CLI_OPENING &&
		       entry_chan(cli, e)->open_id == e->tag;
	case VMBUS__POST_MODIFY:
		return entry_chan(cli, e)->gen == e->tag &&
		       entry_chan(cli, e)->modify != VMBUS__ASK_NONE;
	case VMBUS__POST_GPADL:
		return list_is(&cli->lists[e->slot], e, VMBUS__LIST_CREATING);
	case VMBUS__POST_TEARDOWN:
		return list_is(&cli->lists[e->slot], e, VMBUS__LIST_TEARING);
	case VMBUS__POST_TL:
		return cli->tl[e->slot].gen == e->tag && cli->tl[e->slot].ask != VMBUS__ASK_NONE;
	case VMBUS__POST_PAUSE:
		return cli->conn == VMBUS__CONN_PAUSING;
	case VMBUS__POST_UNLOAD:
		return cli->conn == VMBUS__CONN_LEAVING;
	case VMBUS__POST_MODIFY_CONNECTION:
		return cli->modifying != VMBUS__ASK_NONE;
	default:
		return true; /* these have no answer */
	}
}

/* The pages of the next message of a page list. */
static uint32_t pages_next(const struct vmbus__cli_list *list)
{
	const uint32_t most = list->header_posted ? BODY_PAGES : HEADER_PAGES;
	const uint32_t left = list->pages - list->posted;

	return left < most ? left : most;
}

/* [CTL-GPADL]: one range of whole pages, in one header and as many bodies as it takes. */
static uint32_t make_gpadl(const struct vmbus_cli *cli, const struct vmbus__cli_list *list,
			   uint8_t *bytes, uint32_t *type)
{
	const uint32_t pages = pages_next(list);
	struct vmbus_ctl ctl = { 0 };
	struct vmbus_ctl_gpadl *const g = &ctl.u.gpadl;
	uint32_t i;
	int len;

	g->gpadl = list->id;
	ctl.type = VMBUS_CTL_GPADL_BODY;
	if (!list->header_posted) {
		ctl.type = VMBUS_CTL_GPADL_HEADER;
		g->relid = cli->chans[list->chan].offer.relid;
		g->range_bytes = 8u * (list->pages + 1u);
		g->range_count = 1;
		g->qwords[0] = list->pages * VMBUS_PAGE_BYTES; /* and an offset of 0 above it */
		g->count = 1;
	}
	for (i = 0; i < pages; i++)
		g->qwords[g->count + i] = list->pfns[list->posted + i];
	g->count += pages;
	len = vmbus_ctl_encode(&ctl, cli->version, cli->features, bytes, VMBUS_CTL_BYTES_MAX);
	VMBUS_REQUIRE(len > 0);
	*type = ctl.type;
	return (uint32_t)len;
}

/* Note whether the parent may have seen the message, and so may answer it. */
static void mark(struct vmbus_cli *cli, const struct vmbus__cli_entry *e, bool sent)
{
	const uint8_t ask = sent ? VMBUS__ASK_SENT : VMBUS__ASK_QUEUED;

	switch (e->kind) {
	case VMBUS__POST_CONTACT:
	case VMBUS__POST_UNLOAD:
	case VMBUS__POST_PAUSE:
		cli->asked = sent;
		break;
	case VMBUS__POST_REQUEST_OFFERS:
		cli->offers_asked = sent;
		break;
	case VMBUS__POST_OPEN:
		entry_chan(cli, e)->open_sent = sent;
		break;
	case VMBUS__POST_MODIFY:
		entry_chan(cli, e)->modify = ask;
		break;
	case VMBUS__POST_GPADL:
		cli->lists[e->slot].sent = sent || cli->lists[e->slot].header_posted;
		break;
	case VMBUS__POST_TEARDOWN:
		cli->lists[e->slot].sent = sent;
		break;
	case VMBUS__POST_TL:
		cli->tl[e->slot].ask = ask;
		break;
	case VMBUS__POST_MODIFY_CONNECTION:
		cli->modifying = ask;
		break;
	case VMBUS__POST_RELEASED:
		/* From now on the parent may offer this relid again. */
		if (cli->relids[e->slot] == (sent ? VMBUS__CLI_RELEASING : 0))
			cli->relids[e->slot] = sent ? 0 : VMBUS__CLI_RELEASING;
		break;
	default:
		break;
	}
}

static int hand_out(struct vmbus_cli *cli, struct vmbus_cli_action *action)
{
	const struct vmbus__cli_entry *e;

	if (cli->posting)
		return 0;
	if (cli->hold) {
		cli->hold = 0;
		return 0;
	}
	while (cli->queue_count && !wanted(cli, entry_at(cli, 0)))
		pop(cli);
	if (!cli->queue_count)
		return 0;
	e = entry_at(cli, 0);
	action->act = VMBUS_CLI_POST;
	action->conn_id = cli->conn_id;
	if (e->kind == VMBUS__POST_GPADL) {
		action->len =
			make_gpadl(cli, &cli->lists[e->slot], action->bytes, &action->ctl_type);
	} else {
		action->len = e->len;
		action->ctl_type = e->bytes[0];
		__builtin_memcpy(action->bytes, e->bytes, e->len);
	}
	mark(cli, e, true);
	cli->posting = 1;
	return 1;
}

int vmbus_cli_next(struct vmbus_cli *cli, struct vmbus_cli_action *action)
{
	__builtin_memset(action, 0, sizeof(*action));
	if (vmbus__cli_told(cli, action))
		return 1;
	return hand_out(cli, action);
}

/* It was posted; true when it is done with, false when more messages belong to it. */
static bool posted_ok(struct vmbus_cli *cli, const struct vmbus__cli_entry *e)
{
	struct vmbus__cli_list *list;

	if (e->kind == VMBUS__POST_MODIFY && cli->version < VMBUS_PROTO_5_3) {
		(void)vmbus__cli_event(cli, entry_chan(cli, e), VMBUS__CLI_EV_MODIFIED, 0);
	} else if (e->kind == VMBUS__POST_TL && cli->version < VMBUS_PROTO_4_1) {
		cli->tl[e->slot].ask = VMBUS__ASK_NONE; /* such a parent never refuses */
	} else if (e->kind == VMBUS__POST_GPADL) {
		list = &cli->lists[e->slot];
		list->posted += pages_next(list);
		list->header_posted = 1;
		return list->posted == list->pages;
	}
	return true;
}

/*
 * The rest of a page list cannot be posted.  One that the parent knows a part of is the child's own
 * again when the parent has let go of that.
 */
static void gpadl_failed(struct vmbus_cli *cli, uint32_t slot, uint32_t status)
{
	struct vmbus__cli_list *const list = &cli->lists[slot];
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_TEARDOWN };

	if (!list->header_posted) {
		list->state = VMBUS__LIST_DEAD;
		vmbus__cli_tell_list(cli, list, VMBUS__LIST_TELL_READY, status);
		return;
	}
	list->state = VMBUS__LIST_TEARING;
	list->sent = 0;
	list->cut = 1;
	list->pfns = NULL;
	ctl.u.created.relid = cli->chans[list->chan].offer.relid;
	ctl.u.created.gpadl = list->id;
	/* There is room: the list's own place in the queue was given back. */
	(void)vmbus__cli_push(cli, VMBUS__POST_TEARDOWN, slot, list->id, &ctl);
}

/* It cannot be posted: its owner is told, or, if it has none, the connection ends. */
static void posted_failed(struct vmbus_cli *cli, const struct vmbus__cli_entry *e, uint32_t status)
{
	switch (e->kind) {
	case VMBUS__POST_CONTACT:
		vmbus__cli_next_version(cli, status);
		break;
	case VMBUS__POST_OPEN:
		(void)vmbus__cli_event(cli, entry_chan(cli, e), VMBUS__CLI_EV_OPEN_FAILED, status);
		break;
	case VMBUS__POST_MODIFY:
		(void)vmbus__cli_event(cli, entry_chan(cli, e), VMBUS__CLI_EV_MODIFIED, status);
		break;
	case VMBUS__POST_GPADL:
		gpadl_failed(cli, e->slot, status);
		break;
	case VMBUS__POST_TEARDOWN:
		cli->lists[e->slot].state = VMBUS__LIST_DEAD;
		vmbus__cli_tell_list(cli, &cli->lists[e->slot], VMBUS__LIST_TELL_LOST, status);
		break;
	case VMBUS__POST_TL:
		vmbus__cli_tell_tl(cli, &cli->tl[e->slot], status);
		break;
	case VMBUS__POST_PAUSE:
		cli->conn = VMBUS__CONN_READY;
		vmbus__cli_tell(cli, VMBUS__TELL_PAUSED, status);
		break;
	case VMBUS__POST_MODIFY_CONNECTION:
		cli->modifying = VMBUS__ASK_NONE;
		vmbus__cli_tell(cli, VMBUS__TELL_CONNECTION_MODIFIED, status);
		break;
	case VMBUS__POST_RELEASED:
		break; /* the parent keeps the relid for ever */
	default:
		vmbus__cli_end(cli);
		vmbus__cli_tell(cli, VMBUS__TELL_UNLOADED, status);
		break;
	}
}

static bool not_now(const struct vmbus__cli_entry *e, uint32_t status)
{
	return status == HV_INSUFFICIENT_BUFFERS || status == HV_INSUFFICIENT_MEMORY ||
	       (status == HV_INVALID_CONNECTION && e->kind != VMBUS__POST_CONTACT);
}

int vmbus_cli_posted(struct vmbus_cli *cli, uint32_t hv_status)
{
	struct vmbus__cli_entry e;

	if (!cli->posting)
		return VMBUS_E_STATE;
	cli->posting = 0;
	if (cli->posting_stale) {
		if (cli->posting_stale == VMBUS__STALE_CONTACT && hv_status == 0)
			vmbus__cli_unanswered(cli);
		cli->posting_stale = 0;
		return 0;
	}
	e = *entry_at(cli, 0); /* what follows may end the connection and with it the queue */
	if (hv_status == 0)
		cli->stats.posted++;
	if (!wanted(cli, &e)) { /* answered already */
		pop(cli);
	} else if (hv_status == 0) {
		if (posted_ok(cli, &e))
			pop(cli);
	} else if (not_now(&e, hv_status)) {
		mark(cli, &e, false);
		cli->hold = 1;
	} else {
		cli->stats.post_failures++;
		pop(cli);
		posted_failed(cli, &e, hv_status);
	}
	return 0;
}
