/* SPDX-License-Identifier: MIT */
/*
 * What holds in a client machine between any two calls, whatever the parent said.  FAIL(text) must
 * not return; the fuzzer and the suites bring their own.
 */
#ifndef VMBUS_TESTS_CHANNEL_CLI_CHECK_H
#define VMBUS_TESTS_CHANNEL_CLI_CHECK_H

#include "channel/cli_machine.h"

#ifndef CLI_CHECK_FAIL
#define CLI_CHECK_FAIL(text) ck_abort_msg("%s (%s)", text, vmbus_test_where)
#endif
#define CLI_CHECK(cond)                                                                            \
	do {                                                                                       \
		if (!(cond))                                                                       \
			CLI_CHECK_FAIL(#cond);                                                     \
	} while (0)

static inline bool cli_check_live(const struct vmbus__cli_chan *c)
{
	return c->state == VMBUS_CLI_CLOSED || c->state == VMBUS_CLI_OPENING ||
	       c->state == VMBUS_CLI_OPEN;
}

static inline void cli_check_chan(const struct vmbus_cli *cli, uint32_t slot)
{
	const struct vmbus__cli_chan *const c = &cli->chans[slot];
	const bool talking = cli->conn >= VMBUS__CONN_OFFERS;
	uint32_t i, lists = 0;

	CLI_CHECK(c->state < VMBUS_CLI_STATES && c->gen != 0);
	if (c->state == VMBUS_CLI_FREE) {
		CLI_CHECK(!c->gpadls && !c->node.events && !c->orphan);
		return;
	}
	CLI_CHECK(c->offer.relid >= 1 && c->offer.relid <= VMBUS_RELID_MAX);
	CLI_CHECK(!c->orphan || !cli_check_live(c));
	CLI_CHECK(c->orphan || talking);
	CLI_CHECK(c->orphan || cli->relids[c->offer.relid] == slot + 1u);
	CLI_CHECK(c->modify == VMBUS__ASK_NONE || cli_check_live(c));
	for (i = 0; i < cli->opts.gpadls_max; i++)
		lists += cli->lists[i].state != VMBUS__LIST_FREE && cli->lists[i].chan == slot;
	CLI_CHECK(c->gpadls == lists);
}

static inline void cli_check_list(const struct vmbus_cli *cli, uint32_t slot)
{
	const struct vmbus__cli_list *const l = &cli->lists[slot];
	const struct vmbus__cli_chan *c;

	CLI_CHECK((l->id & ((1u << cli->id_shift) - 1u)) == slot && l->id >> cli->id_shift != 0);
	if (l->state == VMBUS__LIST_FREE) {
		CLI_CHECK(!l->node.events && !l->pfns);
		return;
	}
	c = &cli->chans[l->chan];
	CLI_CHECK(c->state != VMBUS_CLI_FREE);
	CLI_CHECK((l->state == VMBUS__LIST_CREATING) == (l->pfns != NULL));
	CLI_CHECK(l->state != VMBUS__LIST_DEAD || l->node.events); /* somebody will be told */
	CLI_CHECK(l->state == VMBUS__LIST_DEAD || !c->orphan);
	CLI_CHECK(l->state != VMBUS__LIST_CREATING || cli_check_live(c));
	CLI_CHECK(l->posted <= l->pages);
}

/* Everything that has something to tell is in the chain, once. */
static inline void cli_check_chain(struct vmbus_cli *cli)
{
	const uint32_t first_chan = VMBUS__TELL_COUNT + VMBUS__CLI_TL_MAX;
	const uint32_t nodes = first_chan + cli->opts.chans_max + cli->opts.gpadls_max;
	uint32_t i, at, chained = 0, telling = 0, last = VMBUS__CLI_NONE;

	for (i = 0; i < VMBUS__TELL_COUNT; i++)
		telling += cli->tell[i].events != 0;
	for (i = 0; i < VMBUS__CLI_TL_MAX; i++)
		telling += cli->tl[i].node.events != 0;
	for (i = 0; i < cli->opts.chans_max; i++)
		telling += cli->chans[i].node.events != 0;
	for (i = 0; i < cli->opts.gpadls_max; i++)
		telling += cli->lists[i].node.events != 0;
	for (at = cli->tell_first; at != VMBUS__CLI_NONE; chained++) {
		const struct vmbus__cli_node *n;

		CLI_CHECK(at < nodes && chained < nodes);
		if (at < VMBUS__TELL_COUNT)
			n = &cli->tell[at];
		else if (at < first_chan)
			n = &cli->tl[at - VMBUS__TELL_COUNT].node;
		else if (at < first_chan + cli->opts.chans_max)
			n = &cli->chans[at - first_chan].node;
		else
			n = &cli->lists[at - first_chan - cli->opts.chans_max].node;
		CLI_CHECK(n->events != 0);
		last = at;
		at = n->next;
	}
	CLI_CHECK(chained == telling);
	CLI_CHECK(chained == 0 || last == cli->tell_last);
}

static inline void cli_check_counts(const struct vmbus_cli *cli)
{
	uint32_t i, at, used = 0, freed = 0;

	for (i = 0; i < cli->opts.gpadls_max; i++)
		used += cli->lists[i].state != VMBUS__LIST_FREE;
	CLI_CHECK(used == cli->lists_used);
	for (at = cli->list_free; at != VMBUS__CLI_NONE; at = cli->lists[at].free_next)
		CLI_CHECK(cli->lists[at].state == VMBUS__LIST_FREE &&
			  ++freed <= cli->opts.gpadls_max);
	CLI_CHECK(used + freed == cli->opts.gpadls_max);
	for (i = 0, used = 0, freed = 0; i < cli->opts.chans_max; i++)
		used += cli->chans[i].state != VMBUS_CLI_FREE;
	for (at = cli->chan_free; at != VMBUS__CLI_NONE; at = cli->chans[at].free_next)
		CLI_CHECK(cli->chans[at].state == VMBUS_CLI_FREE && ++freed <= cli->opts.chans_max);
	CLI_CHECK(used + freed == cli->opts.chans_max);
	CLI_CHECK(cli->queue_count <= cli->opts.queue_max &&
		  cli->queue_first < cli->opts.queue_max);
	CLI_CHECK(!cli->posting || cli->posting_stale || cli->queue_count > 0);
}

/* No relid names a channel that is not there: the slow part, for the end of a test. */
static inline void cli_check_relids(const struct vmbus_cli *cli)
{
	uint32_t i, relids = 0, own = 0;

	for (i = 0; i < cli->opts.chans_max; i++)
		own += cli->chans[i].state != VMBUS_CLI_FREE && !cli->chans[i].orphan;
	for (i = 0; i <= VMBUS_RELID_MAX; i++)
		relids += cli->relids[i] != 0 && cli->relids[i] != VMBUS__CLI_RELEASING;
	CLI_CHECK(relids == own);
}

static inline void cli_check_conn(const struct vmbus_cli *cli)
{
	const bool talking = cli->conn >= VMBUS__CONN_OFFERS;

	CLI_CHECK(cli->conn < VMBUS__CONN_STATES);
	CLI_CHECK((cli->version != 0) == talking);
	CLI_CHECK(talking || cli->features == 0);
	CLI_CHECK((cli->features & ~cli->opts.features) == 0);
	CLI_CHECK(cli->conn != VMBUS__CONN_IDLE || cli->queue_count == 0);
	CLI_CHECK(cli->conn == VMBUS__CONN_IDLE || (cli->conn_id != 0 && cli->conn_id < 1u << 24));
	CLI_CHECK(talking || cli->modifying == VMBUS__ASK_NONE);
}

/* Constant for one machine; the loops over channels and lists make it slow for thousands. */
static inline void cli_check(struct vmbus_cli *cli)
{
	uint32_t i;

	cli_check_conn(cli);
	for (i = 0; i < cli->opts.chans_max; i++)
		cli_check_chan(cli, i);
	for (i = 0; i < cli->opts.gpadls_max; i++)
		cli_check_list(cli, i);
	cli_check_chain(cli);
	cli_check_counts(cli);
}

#endif
