/* SPDX-License-Identifier: MIT */
/*
 * Lives of a pair by chance: what a caller of the client and an embedder of the host may do at any
 * moment, the ends that either side can come to, and that everything works after them.
 */
#ifndef VMBUS_TESTS_CHANNEL_PAIR_USE_H
#define VMBUS_TESTS_CHANNEL_PAIR_USE_H

#include "pair.h"
#include "srv_check.h"

#define PAIR_FEATURES                                                                              \
	(VMBUS_FEATURE_PAUSE | VMBUS_FEATURE_MODIFY_CONNECTION | VMBUS_FEATURE_CLIENT_ID)

static uint64_t pfns[600];

static inline struct pair *new_pair(uint32_t cli_version, uint32_t srv_version, uint32_t chans,
				    uint64_t seed)
{
	const struct vmbus_cli_opts cli = { .version_max = cli_version,
					    .features = PAIR_FEATURES,
					    .chans_max = chans,
					    .queue_max = 8 };
	const struct vmbus_srv_opts srv = { .version_max = srv_version,
					    .features = PAIR_FEATURES,
					    .chans_max = chans };
	uint32_t i;

	for (i = 0; i < 600; i++)
		pfns[i] = 0x1000 + i;
	return pair_new(&cli, &srv, seed);
}

/* What a caller of the client may do with a channel in its state. */
static inline void use_pages(struct pair *p, struct vmbus_cli_ref chan, uint32_t count)
{
	struct vmbus_cli_ref list;

	if (vmbus_cli_gpadl(p->c.cli, chan, pfns, count, &list) == 0)
		p->ledger.gpadls++;
}

static inline void use_gpadl(struct pair *p, struct vmbus_cli_ref chan)
{
	use_pages(p, chan, 1 + pair_random(p, 599));
}

static inline struct pair_list *any_list(struct pair *p, struct vmbus_cli_ref chan)
{
	const uint32_t n = p->list_count ? pair_random(p, p->list_count) : 0;
	uint32_t i;

	for (i = 0; i < p->list_count; i++) {
		struct pair_list *const l = &p->lists[(n + i) % p->list_count];

		if (pair_ref_eq(l->chan, chan))
			return l;
	}
	return NULL;
}

static inline void use_open(struct pair *p, struct vmbus_cli_ref chan)
{
	const struct pair_list *const l = any_list(p, chan);
	struct vmbus_cli_open open = { .downstream_page = 2 };

	if (!l)
		return;
	open.list = l->list;
	if (vmbus_cli_open(p->c.cli, chan, &open) == 0)
		p->ledger.opens++;
}

static inline void use_teardown(struct pair *p, struct vmbus_cli_ref chan)
{
	struct pair_list *const l = any_list(p, chan);

	if (l)
		pair_teardown(p, l);
}

static inline void use_chan(struct pair *p)
{
	struct vmbus_cli_info info;

	if (vmbus_cli_info(p->c.cli, pair_random(p, p->c.cli->opts.chans_max), &info) != 1)
		return;
	switch (pair_random(p, 8)) {
	case 0:
		use_gpadl(p, info.chan);
		break;
	case 1:
	case 2:
		use_open(p, info.chan);
		break;
	case 3:
		use_teardown(p, info.chan);
		break;
	case 4:
		(void)vmbus_cli_close(p->c.cli, info.chan);
		break;
	case 5:
		if (vmbus_cli_modify(p->c.cli, info.chan, pair_random(p, 4)) == 0)
			p->ledger.modifies++;
		break;
	default:
		if (info.state == VMBUS_CLI_RESCINDED_OPEN)
			(void)vmbus_cli_close(p->c.cli, info.chan);
		if (info.state == VMBUS_CLI_RESCINDED_CLOSED)
			use_teardown(p, info.chan);
		(void)vmbus_cli_release(p->c.cli, info.chan);
		break;
	}
}

/* One thing that the caller of the client does. */
static inline void use(struct pair *p)
{
	struct vmbus_ctl_tl tl = { .service_id = { { 0x51 } } };
	struct vmbus_cli *const cli = p->c.cli;

	switch (pair_random(p, 40)) {
	case 0:
		if (vmbus_cli_unload(cli) == 0)
			p->ledger.unloads++;
		break;
	case 1:
		if (vmbus_cli_pause(cli) == 0)
			p->ledger.pauses++;
		break;
	case 2:
	case 3:
	case 4:
		(void)vmbus_cli_resume(cli);
		break;
	case 5:
		tl.endpoint_id.b[0] = (uint8_t)(1 + pair_random(p, 3));
		if (vmbus_cli_tl_connect(cli, &tl) == 0)
			p->ledger.tl_asked++;
		break;
	case 6:
		if (vmbus_cli_modify_connection(cli, 0x1000, 0x2000) == 0)
			p->ledger.conn_modifies++;
		break;
	case 7:
	case 8:
	case 9:
		pair_connect(p);
		break;
	default:
		use_chan(p);
		break;
	}
}

/* One thing that the parent's embedder does. */
static inline void manage(struct pair *p)
{
	struct vmbus_srv_info info;

	switch (pair_random(p, 4)) {
	case 0:
		(void)pair_offer(p, 1 + pair_random(p, 4), (uint16_t)pair_random(p, 2));
		break;
	case 1:
		if (vmbus_srv_info(p->srv, pair_random(p, p->srv_opts.chans_max), &info) == 1)
			(void)vmbus_srv_revoke(p->srv, info.chan);
		break;
	case 2:
		if (vmbus_srv_info(p->srv, pair_random(p, p->srv_opts.chans_max), &info) == 1)
			(void)vmbus_srv_reoffer(p->srv, info.chan);
		break;
	default:
		break;
	}
}

/* The invariants of both machines. */
static inline void must_hold(struct pair *p)
{
	const char *const broken = srv_check(p->srv);

	cli_check(p->c.cli);
	if (broken)
		ck_abort_msg("%s (%s)", broken, vmbus_test_where);
}

static inline void run(struct pair *p, uint32_t moves)
{
	uint32_t i;

	for (i = 0; i < moves; i++) {
		const uint32_t what = pair_random(p, 100);

		if (what < 20)
			use(p);
		else if (what < 22)
			manage(p);
		else
			pair_move(p);
		must_hold(p);
	}
}

/* A pause would leave the two different until it ends. */
static inline void settle(struct pair *p, enum pair_order order)
{
	pair_settle(p, order);
	if (vmbus_cli_resume(p->c.cli) == 0)
		pair_settle(p, order);
}

/* Close, tear down and release all, then leave. */
static inline void close_all(struct pair *p, enum pair_order order)
{
	struct vmbus_cli *const cli = p->c.cli;
	struct vmbus_cli_info info;
	uint32_t slot, round;

	for (round = 0; round < 3 * cli->opts.chans_max + 64; round++) {
		for (slot = 0; slot < cli->opts.chans_max; slot++) {
			if (vmbus_cli_info(cli, slot, &info) != 1)
				continue;
			(void)vmbus_cli_close(cli, info.chan);
			use_teardown(p, info.chan);
			(void)vmbus_cli_release(cli, info.chan);
		}
		settle(p, order);
		if (!p->list_count && vmbus_cli_unload(cli) == 0) {
			p->ledger.unloads++;
			settle(p, order);
			break;
		}
		if (cli->conn == VMBUS__CONN_IDLE)
			break;
	}
	for (slot = 0; slot < cli->opts.chans_max; slot++)
		if (vmbus_cli_info(cli, slot, &info) == 1)
			must_eq(vmbus_cli_release(cli, info.chan), 0);
	must_eq(cli->conn, VMBUS__CONN_IDLE);
	must_eq(cli->lists_used, 0);
	must_eq(vmbus_srv_version(p->srv), 0);
	must_eq(p->list_qwords, 0);
	pair_must_agree(p);
}

/* The client's process ends and another one begins; its parent notices. */
static inline void kill_child(struct pair *p)
{
	const struct vmbus_cli_opts opts = p->c.opts;

	clibox_close(&p->c);
	clibox_open(&p->c, &opts);
	p->up.count = 0;
	p->down.count = 0;
	p->list_count = 0;
	memset(&p->ledger, 0, sizeof(p->ledger));
	vmbus_srv_disconnect(p->srv);
}

static inline void kill_parent(struct pair *p)
{
	pair_host_end(p);
	vmbus_cli_disconnect(p->c.cli);
	pair_host(p);
}

/* The child forgets all and makes a new contact: nobody tells its parent but the contact. */
static inline void reset_child(struct pair *p)
{
	vmbus_cli_disconnect(p->c.cli);
}

static inline void revoke_all(struct pair *p)
{
	struct vmbus_srv_info info;
	uint32_t slot;

	for (slot = 0; slot < p->srv_opts.chans_max; slot++)
		if (vmbus_srv_info(p->srv, slot, &info) == 1)
			(void)vmbus_srv_revoke(p->srv, info.chan);
}

static inline void end_somehow(struct pair *p, uint32_t how)
{
	if (how == 0)
		kill_child(p);
	else if (how == 1)
		kill_parent(p);
	else if (how == 2)
		reset_child(p);
	else if (how == 3)
		revoke_all(p);
	else {
		/* The parent is told before what it has sent arrived. */
		vmbus_srv_disconnect(p->srv);
		vmbus_cli_disconnect(p->c.cli);
	}
}

/* After the end of anything: connect again, and everything works. */
static inline void must_work(struct pair *p, enum pair_order order)
{
	settle(p, order);
	pair_connect(p);
	settle(p, order);
	if (p->c.cli->conn == VMBUS__CONN_IDLE) {
		pair_connect(p);
		settle(p, order);
	}
	must(p->c.cli->conn == VMBUS__CONN_READY);
	pair_must_agree(p);
	close_all(p, order);
}

#endif
