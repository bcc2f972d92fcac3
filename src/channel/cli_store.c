/* SPDX-License-Identifier: MIT */
/*
 * What the client machine keeps in the caller's storage: slots with generations, and the chain of
 * things to tell the caller.
 *
 * A slot that was given back goes to the end of the free ones, so that a number comes again as late
 * as can be.  A node is in the chain exactly while it has bits set.  Nothing here knows messages.
 */
#include "channel/cli_machine.h"

/* Numbers of nodes: the connection's, then hv_sock requests, channels, page lists. */
#define FIRST_TL ((uint32_t)VMBUS__TELL_COUNT)
#define FIRST_CHAN (FIRST_TL + VMBUS__CLI_TL_MAX)

static const uint32_t tell_acts[VMBUS__TELL_COUNT] = {
	[VMBUS__TELL_CONNECTED] = VMBUS_CLI_CONNECTED,
	[VMBUS__TELL_ALL_OFFERED] = VMBUS_CLI_ALL_OFFERED,
	[VMBUS__TELL_PAUSED] = VMBUS_CLI_PAUSED,
	[VMBUS__TELL_CONNECTION_MODIFIED] = VMBUS_CLI_CONNECTION_MODIFIED,
	[VMBUS__TELL_REFUSED] = VMBUS_CLI_REFUSED,
	[VMBUS__TELL_UNLOADED] = VMBUS_CLI_UNLOADED,
};

static uint32_t chan_slot(const struct vmbus_cli *cli, const struct vmbus__cli_chan *chan)
{
	return (uint32_t)(chan - cli->chans);
}

static uint32_t list_slot(const struct vmbus_cli *cli, const struct vmbus__cli_list *list)
{
	return (uint32_t)(list - cli->lists);
}

struct vmbus__cli_chan *vmbus__cli_chan(struct vmbus_cli *cli, struct vmbus_cli_ref ref)
{
	struct vmbus__cli_chan *chan;

	if (ref.slot >= cli->opts.chans_max)
		return NULL;
	chan = &cli->chans[ref.slot];
	return chan->state != VMBUS_CLI_FREE && chan->gen == ref.gen ? chan : NULL;
}

struct vmbus__cli_list *vmbus__cli_list(struct vmbus_cli *cli, struct vmbus_cli_ref ref)
{
	struct vmbus__cli_list *list;

	if (ref.slot >= cli->opts.gpadls_max)
		return NULL;
	list = &cli->lists[ref.slot];
	return list->state != VMBUS__LIST_FREE && list->id == ref.gen ? list : NULL;
}

struct vmbus__cli_list *vmbus__cli_list_by_id(struct vmbus_cli *cli, uint32_t id)
{
	const uint32_t slot = id & ((1u << cli->id_shift) - 1u);

	return vmbus__cli_list(cli, (struct vmbus_cli_ref){ slot, id });
}

struct vmbus_cli_ref vmbus__cli_chan_ref(const struct vmbus_cli *cli, uint32_t slot)
{
	return (struct vmbus_cli_ref){ slot, cli->chans[slot].gen };
}

struct vmbus_cli_ref vmbus__cli_list_ref(const struct vmbus_cli *cli, uint32_t slot)
{
	return (struct vmbus_cli_ref){ slot, cli->lists[slot].id };
}

struct vmbus__cli_chan *vmbus__cli_chan_take(struct vmbus_cli *cli)
{
	const uint32_t slot = cli->chan_free;
	struct vmbus__cli_chan *chan;

	if (slot == VMBUS__CLI_NONE)
		return NULL;
	chan = &cli->chans[slot];
	cli->chan_free = chan->free_next;
	return chan;
}

void vmbus__cli_chan_put(struct vmbus_cli *cli, struct vmbus__cli_chan *chan)
{
	const struct vmbus__cli_chan none = { 0 };
	const uint32_t slot = chan_slot(cli, chan), gen = vmbus__cli_next_gen(chan->gen);

	VMBUS_REQUIRE(!chan->node.events && !chan->gpadls);
	*chan = none;
	chan->gen = gen;
	chan->free_next = VMBUS__CLI_NONE;
	if (cli->chan_free == VMBUS__CLI_NONE)
		cli->chan_free = slot;
	else
		cli->chans[cli->chan_free_last].free_next = slot;
	cli->chan_free_last = slot;
}

struct vmbus__cli_list *vmbus__cli_list_take(struct vmbus_cli *cli)
{
	const uint32_t slot = cli->list_free;
	struct vmbus__cli_list *list;

	if (slot == VMBUS__CLI_NONE)
		return NULL;
	list = &cli->lists[slot];
	cli->list_free = list->free_next;
	cli->lists_used++;
	return list;
}

/* The id counts up in its upper bits; it is never 0, and its lower bits are the slot. */
static uint32_t next_id(const struct vmbus_cli *cli, uint32_t id)
{
	const uint32_t slot = id & ((1u << cli->id_shift) - 1u);
	const uint32_t count = id >> cli->id_shift;
	const uint32_t last = UINT32_MAX >> cli->id_shift;

	return (count == last ? 1u : count + 1u) << cli->id_shift | slot;
}

void vmbus__cli_list_put(struct vmbus_cli *cli, struct vmbus__cli_list *list)
{
	const struct vmbus__cli_list none = { 0 };
	const uint32_t slot = list_slot(cli, list), id = next_id(cli, list->id);

	VMBUS_REQUIRE(!list->node.events && cli->chans[list->chan].gpadls > 0);
	cli->chans[list->chan].gpadls--;
	cli->lists_used--;
	*list = none;
	list->id = id;
	list->free_next = VMBUS__CLI_NONE;
	if (cli->list_free == VMBUS__CLI_NONE)
		cli->list_free = slot;
	else
		cli->lists[cli->list_free_last].free_next = slot;
	cli->list_free_last = slot;
}

static struct vmbus__cli_node *node(struct vmbus_cli *cli, uint32_t number)
{
	const uint32_t first_list = FIRST_CHAN + cli->opts.chans_max;

	if (number < FIRST_TL)
		return &cli->tell[number];
	if (number < FIRST_CHAN)
		return &cli->tl[number - FIRST_TL].node;
	if (number < first_list)
		return &cli->chans[number - FIRST_CHAN].node;
	return &cli->lists[number - first_list].node;
}

static void tell(struct vmbus_cli *cli, uint32_t number, uint32_t bit)
{
	struct vmbus__cli_node *const n = node(cli, number);

	if (!n->events) {
		n->next = VMBUS__CLI_NONE;
		if (cli->tell_first == VMBUS__CLI_NONE)
			cli->tell_first = number;
		else
			node(cli, cli->tell_last)->next = number;
		cli->tell_last = number;
	}
	n->events |= bit;
}

void vmbus__cli_tell(struct vmbus_cli *cli, uint32_t global, uint32_t status)
{
	cli->tell_status[global] = status;
	tell(cli, global, 1);
}

void vmbus__cli_tell_chan(struct vmbus_cli *cli, struct vmbus__cli_chan *chan, uint32_t bit)
{
	tell(cli, FIRST_CHAN + chan_slot(cli, chan), bit);
}

void vmbus__cli_tell_list(struct vmbus_cli *cli, struct vmbus__cli_list *list, uint32_t bit,
			  uint32_t status)
{
	list->status = status;
	list->pfns = NULL;
	tell(cli, FIRST_CHAN + cli->opts.chans_max + list_slot(cli, list), bit);
}

void vmbus__cli_tell_tl(struct vmbus_cli *cli, struct vmbus__cli_tl *tl, uint32_t status)
{
	tl->ask = VMBUS__ASK_NONE;
	tl->tl.status = status;
	tell(cli, FIRST_TL + (uint32_t)(tl - cli->tl), 1);
}

static void told_global(struct vmbus_cli *cli, uint32_t global, struct vmbus_cli_action *action)
{
	action->act = tell_acts[global];
	action->status = cli->tell_status[global];
	if (global != VMBUS__TELL_CONNECTED)
		return;
	action->features = cli->features;
	action->monitor_p2c = cli->server_p2c;
	action->monitor_c2p = cli->server_c2p;
}

static void told_chan(struct vmbus_cli *cli, uint32_t slot, uint32_t bit,
		      struct vmbus_cli_action *action)
{
	const struct vmbus__cli_chan *const chan = &cli->chans[slot];

	action->chan = vmbus__cli_chan_ref(cli, slot);
	if (bit == VMBUS__CHAN_OFFERED) {
		action->act = VMBUS_CLI_OFFERED;
	} else if (bit == VMBUS__CHAN_OPENED) {
		action->act = VMBUS_CLI_OPENED;
		action->status = chan->open_status;
	} else if (bit == VMBUS__CHAN_MODIFIED) {
		action->act = VMBUS_CLI_MODIFIED;
		action->status = chan->modify_status;
	} else {
		action->act = VMBUS_CLI_RESCINDED;
	}
}

static void told_list(struct vmbus_cli *cli, uint32_t slot, uint32_t bit,
		      struct vmbus_cli_action *action)
{
	struct vmbus__cli_list *const list = &cli->lists[slot];

	action->list = vmbus__cli_list_ref(cli, slot);
	action->chan = vmbus__cli_chan_ref(cli, list->chan);
	action->gpadl = list->id;
	if (bit == VMBUS__LIST_TELL_READY) {
		action->act = VMBUS_CLI_GPADL_READY;
		action->status = list->status;
	} else if (bit == VMBUS__LIST_TELL_GONE) {
		action->act = VMBUS_CLI_GPADL_GONE;
	} else {
		action->act = VMBUS_CLI_GPADL_LOST;
		action->status = list->status;
	}
	if (list->state == VMBUS__LIST_DEAD && !list->node.events)
		vmbus__cli_list_put(cli, list);
}

int vmbus__cli_told(struct vmbus_cli *cli, struct vmbus_cli_action *action)
{
	const uint32_t first_list = FIRST_CHAN + cli->opts.chans_max, number = cli->tell_first;
	struct vmbus__cli_node *n;
	uint32_t bit = 1;

	if (number == VMBUS__CLI_NONE)
		return 0;
	n = node(cli, number);
	while (!(n->events & bit))
		bit <<= 1;
	n->events &= ~bit;
	if (!n->events)
		cli->tell_first = n->next;
	if (number < FIRST_TL) {
		told_global(cli, number, action);
	} else if (number < FIRST_CHAN) {
		action->act = VMBUS_CLI_TL_RESULT;
		action->tl = cli->tl[number - FIRST_TL].tl;
		action->status = action->tl.status;
	} else if (number < first_list) {
		told_chan(cli, number - FIRST_CHAN, bit, action);
	} else {
		told_list(cli, number - first_list, bit, action);
	}
	return 1;
}
