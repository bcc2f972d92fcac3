/* SPDX-License-Identifier: MIT */
/*
 * Host machine and client machine against each other: any order of delivery, any delay, the end of
 * either at every point.  Every request is answered, and when nobody has anything to do any more the
 * two agree about every channel and every page list.
 */
#include "pair_use.h"

static const uint32_t versions[] = {
	VMBUS_PROTO_6_0, VMBUS_PROTO_5_3, VMBUS_PROTO_5_2, VMBUS_PROTO_5_1, VMBUS_PROTO_5_0,
	VMBUS_PROTO_4_1, VMBUS_PROTO_4_0, VMBUS_PROTO_3_0, VMBUS_PROTO_2_4,
};
#define VERSIONS 9
/* The versions that both have: the highest is agreed on, in the order of the client's list. */
START_TEST(pair__every_version)
{
	const uint32_t mine = versions[_i / VERSIONS], theirs = versions[_i % VERSIONS];
	enum pair_order order;

	for (order = 0; order < PAIR_ORDERS; order++) {
		struct pair *const p = new_pair(mine, theirs, 8, 1);
		const uint32_t both = mine < theirs ? mine : theirs;
		uint32_t i;

		vmbus_test_at("%x and %x", mine, theirs);
		p->contact_port = both >= VMBUS_PROTO_5_0 || order == 0;
		for (i = 1; i <= 4; i++)
			must(pair_offer(p, i, 0).gen != 0);
		pair_connect(p);
		settle(p, order);
		must_eq(vmbus_cli_version(p->c.cli), both);
		must_eq(p->offers_seen, 4);
		must_eq(p->all_offered, 1);
		pair_must_agree(p);
		must_eq(clibox_refused(&p->c), 0);
		close_all(p, order);
		must_eq(clibox_refused(&p->c), 0);
		pair_free(p);
	}
}
END_TEST

/* A whole life without a refusal on either side, in each version. */
START_TEST(pair__whole_life)
{
	enum pair_order order;

	for (order = 0; order < PAIR_ORDERS; order++) {
		struct pair *const p = new_pair(versions[_i], versions[_i], 4, 1);
		struct vmbus_srv_stats stats;
		struct vmbus_cli_ref chan;
		int life;

		(void)pair_offer(p, 1, 0);
		(void)pair_offer(p, 1, 1);
		for (life = 0; life < 3; life++) {
			pair_connect(p);
			settle(p, order);
			chan = clibox_chan(&p->c, 1);
			use_pages(p, chan, 64);
			settle(p, order);
			use_open(p, chan);
			settle(p, order);
			must_eq(clibox_state(&p->c, 1), VMBUS_CLI_OPEN);
			if (vmbus_cli_modify(p->c.cli, chan, 1) == 0)
				p->ledger.modifies++;
			settle(p, order);
			must_eq(vmbus_cli_close(p->c.cli, chan), 0);
			close_all(p, order);
			must_eq(clibox_refused(&p->c), 0);
		}
		vmbus_srv_stats(p->srv, &stats);
		must_eq(stats.malformed + stats.unknown_chan + stats.unknown_gpadl, 0);
		pair_free(p);
	}
}
END_TEST

/* Random lives with random delays; refusals by the device too. */
START_TEST(pair__random)
{
	const uint32_t rounds = vmbus_test_full() ? 40 : 3;
	const uint32_t version = versions[_i % VERSIONS];
	uint32_t round;

	for (round = 0; round < rounds; round++) {
		const uint64_t seed = (uint64_t)_i * 1000 + round;
		struct pair *const p = new_pair(version, VMBUS_PROTO_6_0, 4, seed);

		vmbus_test_at("seed %u", (unsigned int)seed);
		p->refuse = round % 2 ? 4 : 0;
		run(p, 4000);
		settle(p, (enum pair_order)(round % PAIR_ORDERS));
		vmbus_test_at("seed %u settled", (unsigned int)seed);
		pair_must_agree(p);
		must_work(p, (enum pair_order)(round % PAIR_ORDERS));
		pair_free(p);
	}
}
END_TEST

/* lessons 16, 18, 26: either side ends at every point of a life, and the survivor serves the next. */
START_TEST(lesson_16_18_26_end_at_every_point)
{
	const uint32_t how = (uint32_t)_i % 5, version = versions[_i / 5 % VERSIONS];
	const uint32_t points = vmbus_test_full() ? 700 : 150;
	uint32_t at;

	for (at = 0; at < points; at++) {
		struct pair *const p = new_pair(version, VMBUS_PROTO_6_0, 3, 7 + at % 5);
		const enum pair_order order = (enum pair_order)(at % PAIR_ORDERS);

		vmbus_test_at("end %u after %u moves", how, at);
		p->refuse = 5;
		(void)pair_offer(p, 1, 0);
		(void)pair_offer(p, 2, 0);
		pair_connect(p);
		run(p, at);
		end_somehow(p, how);
		must_work(p, order);
		pair_free(p);
	}
}
END_TEST

/* lesson 17: page lists described while the parent withdraws the channel, at every moment of it. */
START_TEST(lesson_17_gpadl_meets_revoke)
{
	uint32_t at;

	for (at = 0; at < 60; at++) {
		struct pair *const p = new_pair(VMBUS_PROTO_5_3, VMBUS_PROTO_5_3, 2, at);
		const enum pair_order order = (enum pair_order)(at % PAIR_ORDERS);
		const struct vmbus_srv_ref ref = pair_offer(p, 1, 0);
		struct vmbus_cli_ref list;
		uint32_t i;

		vmbus_test_at("withdrawn after %u moves", at);
		pair_connect(p);
		settle(p, order);
		must_eq(vmbus_cli_gpadl(p->c.cli, clibox_chan(&p->c, 1), pfns, 100, &list), 0);
		p->ledger.gpadls++;
		for (i = 0; i < at / 2; i++)
			pair_move(p);
		must_eq(_i ? vmbus_srv_reoffer(p->srv, ref) : vmbus_srv_revoke(p->srv, ref), 0);
		settle(p, order);
		pair_must_agree(p);
		close_all(p, order);
		must(p->rescinded >= 1);
		pair_free(p);
	}
}
END_TEST

/* lesson 18: offered again with the same relid, over and over, without a mix-up. */
START_TEST(lesson_18_offered_again)
{
	const enum pair_order order = (enum pair_order)_i;
	struct pair *const p = new_pair(VMBUS_PROTO_5_3, VMBUS_PROTO_5_3, 1, 3);
	const struct vmbus_srv_ref ref = pair_offer(p, 1, 0);
	struct vmbus_cli_ref chan, last = { 0, 0 };
	uint32_t i;

	pair_connect(p);
	settle(p, order);
	for (i = 0; i < 100; i++) {
		vmbus_test_at("round %u", i);
		chan = clibox_chan(&p->c, 1);
		must(!pair_ref_eq(chan, last));
		last = chan;
		use_gpadl(p, chan);
		settle(p, order);
		use_open(p, chan);
		if (i % 2)
			settle(p, order);
		must_eq(vmbus_srv_reoffer(p->srv, ref), 0);
		settle(p, order);
		(void)vmbus_cli_close(p->c.cli, chan);
		use_teardown(p, chan);
		settle(p, order);
		must_eq(vmbus_cli_release(p->c.cli, chan), 0);
		settle(p, order);
		pair_must_agree(p);
	}
	close_all(p, order);
	pair_free(p);
}
END_TEST

static void open_each(struct pair *p, enum pair_order order, uint32_t chans)
{
	struct vmbus_cli_info info;
	uint32_t slot;

	for (slot = 0; slot < chans; slot++) {
		must_eq(vmbus_cli_info(p->c.cli, slot, &info), 1);
		use_pages(p, info.chan, 4);
		if (slot % 4 == 3)
			pair_settle(p, order);
	}
	pair_settle(p, order);
	for (slot = 0; slot < chans; slot++) {
		const struct pair_list *const l = &p->lists[slot];
		const struct vmbus_cli_open open = { .list = l->list, .downstream_page = 2 };

		if (vmbus_cli_open(p->c.cli, l->chan, &open) == 0)
			p->ledger.opens++;
		if (slot % 4 == 3)
			pair_settle(p, order);
	}
	pair_settle(p, order);
}

/* All 2,047: offered, opened, agreed on, withdrawn at once. */
START_TEST(pair__2047_channels)
{
	const enum pair_order order = (enum pair_order)_i;
	struct pair *const p = new_pair(VMBUS_PROTO_5_3, VMBUS_PROTO_5_3, 2047, 9);
	struct vmbus_cli_info info;
	uint32_t i, slot;

	for (i = 1; i <= 2047; i++)
		must(pair_offer(p, i, 0).gen != 0);
	pair_connect(p);
	pair_settle(p, order);
	must_eq(p->offers_seen, 2047);
	open_each(p, order, 2047);
	must_eq(p->list_count, 2047);
	must_eq(p->ledger.opened, 2047);
	pair_must_agree(p);
	revoke_all(p);
	pair_settle(p, order);
	must_eq(p->rescinded, 2047);
	for (slot = 0; slot < 2047; slot++) {
		must_eq(vmbus_cli_info(p->c.cli, slot, &info), 1);
		(void)vmbus_cli_close(p->c.cli, info.chan);
		pair_settle(p, order);
	}
	while (p->list_count) {
		pair_teardown(p, &p->lists[0]);
		pair_settle(p, order);
	}
	for (slot = 0; slot < 2047; slot++) {
		must_eq(vmbus_cli_info(p->c.cli, slot, &info), 1);
		must_eq(vmbus_cli_release(p->c.cli, info.chan), 0);
		pair_settle(p, order);
	}
	pair_must_agree(p);
	must_eq(clibox_refused(&p->c), 0);
	pair_free(p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "pair", 20);

	tcase_add_loop_test(tc, pair__every_version, 0, VERSIONS * VERSIONS);
	tcase_add_loop_test(tc, pair__whole_life, 0, VERSIONS);
	tcase_add_loop_test(tc, pair__random, 0, 2 * VERSIONS);
	tcase_add_loop_test(tc, pair__2047_channels, 0, PAIR_ORDERS);
	tc = vmbus_test_case(suite, "lessons", 20);
	tcase_add_loop_test(tc, lesson_16_18_26_end_at_every_point, 0, 5 * VERSIONS);
	tcase_add_loop_test(tc, lesson_17_gpadl_meets_revoke, 0, 2);
	tcase_add_loop_test(tc, lesson_18_offered_again, 0, PAIR_ORDERS);
}

VMBUS_TEST_MAIN("channel.pair", tests)
