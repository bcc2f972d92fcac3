/* SPDX-License-Identifier: MIT */
/* Lessons from other implementations, as tests of the client machine. */
#include "clibox_liar.h"

/* lesson 4, the protocol's part: what comes before the hypercall's status is not lost. */
START_TEST(lesson_04_early_answer_counts)
{
	struct vmbus_cli_ref list;
	struct vmbus_cli_open open;
	struct clibox b;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	list = clibox_gpadl(&b, 1);
	open = clibox_rings(list);
	must_eq(vmbus_cli_open(b.cli, clibox_chan(&b, 1), &open), 0);
	clibox_take(&b, VMBUS_CLI_POST);
	must_eq(clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, clibox_posted(&b).u.open.open_id, 0), 0);
	clibox_take(&b, VMBUS_CLI_OPENED);
	must_eq(b.act.status, 0);
	must_eq(vmbus_cli_posted(b.cli, 0), 0);
	must_eq(clibox_state(&b, 1), VMBUS_CLI_OPEN);
	clibox_close(&b);
}
END_TEST

/* lesson 16: the end of the connection, or of the channel, while it opens; both are answered. */
START_TEST(lesson_16_end_while_opening)
{
	const bool posted = _i & 1, answered_late = _i & 2, rescind = _i & 4;
	struct vmbus_cli_ref chan, list;
	struct vmbus_cli_open open;
	struct clibox b;
	uint32_t open_id;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	chan = clibox_chan(&b, 1);
	list = clibox_gpadl(&b, 1);
	open = clibox_rings(list);
	must_eq(vmbus_cli_open(b.cli, chan, &open), 0);
	open_id = b.cli->chans[chan.slot].open_id;
	if (posted)
		clibox_post(&b, VMBUS_CTL_OPEN, 0);
	if (rescind)
		must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
	else
		vmbus_cli_disconnect(b.cli);
	cli_check(b.cli);
	if (!rescind)
		clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	clibox_take(&b, VMBUS_CLI_OPENED);
	must(b.act.status != 0);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	clibox_take(&b, 0); /* an open that was not posted never is */
	if (answered_late && rescind)
		must_refuse(&b, out_of_order,
			    clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, open_id, 0));
	must_eq(clibox_state(&b, 1), VMBUS_CLI_RESCINDED_CLOSED);
	if (rescind) {
		must_eq(vmbus_cli_gpadl_teardown(b.cli, list), 0);
		clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
		must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, list.gen, 0), 0);
		clibox_take(&b, VMBUS_CLI_GPADL_GONE);
	}
	must_eq(vmbus_cli_release(b.cli, chan), 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/*
 * lesson 17, our side: page lists of a channel that was withdrawn.  One being made is given up, and
 * its late answer harms nobody; one that is there can be torn down; none is begun any more.
 */
START_TEST(lesson_17_lists_of_a_rescinded_channel)
{
	static uint64_t pfns[100];
	struct vmbus_cli_ref chan, made, making, list;
	struct clibox b;
	int i;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	chan = clibox_chan(&b, 1);
	made = clibox_gpadl(&b, 1);
	must_eq(vmbus_cli_gpadl(b.cli, chan, pfns, 100, &making), 0);
	for (i = 0; i < _i; i++)
		clibox_post(&b, i ? VMBUS_CTL_GPADL_BODY : VMBUS_CTL_GPADL_HEADER, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
	clibox_take(&b, VMBUS_CLI_GPADL_READY);
	must(b.act.list.slot == making.slot && b.act.status != 0);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	clibox_take(&b, 0); /* no further body */
	must_refuse(&b, out_of_order, clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, making.gen, 0));
	must_eq(vmbus_cli_gpadl(b.cli, chan, pfns, 1, &list), VMBUS_E_STATE);
	must_eq(vmbus_cli_release(b.cli, chan), VMBUS_E_STATE);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, made), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, made.gen, 0), 0);
	clibox_take(&b, VMBUS_CLI_GPADL_GONE);
	must_eq(vmbus_cli_release(b.cli, chan), 0);
	clibox_post(&b, VMBUS_CTL_RELID_RELEASED, 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* lesson 18: a name of an old life means nothing in the next; ids come again as late as can be. */
START_TEST(lesson_18_generations)
{
	const struct vmbus_cli_opts o = { .chans_max = 1, .gpadls_max = 1 };
	struct vmbus_cli_ref chan[3], list[3];
	struct vmbus_cli_open open;
	struct clibox b;
	uint32_t i, open_id[3];

	clibox_open(&b, &o);
	for (i = 0; i < 3; i++) {
		clibox_connect(&b);
		must_eq(clibox_offer(&b, 1, 1, 0), 0);
		clibox_take(&b, VMBUS_CLI_OFFERED);
		chan[i] = b.act.chan;
		list[i] = clibox_gpadl(&b, 1);
		open = clibox_rings(list[i]);
		must_eq(vmbus_cli_open(b.cli, chan[i], &open), 0);
		clibox_post(&b, VMBUS_CTL_OPEN, 0);
		open_id[i] = clibox_posted(&b).u.open.open_id;
		if (i > 0) {
			must_refuse(&b, out_of_order,
				    clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, open_id[i - 1], 0));
			must_refuse(
				&b, out_of_order,
				clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, list[i - 1].gen, 0));
			must(chan[i].slot == chan[i - 1].slot && chan[i].gen != chan[i - 1].gen);
			must(list[i].slot == list[i - 1].slot && list[i].gen != list[i - 1].gen);
			must_eq(vmbus_cli_close(b.cli, chan[i - 1]), VMBUS_E_STATE);
			must_eq(vmbus_cli_release(b.cli, chan[i - 1]), VMBUS_E_STATE);
			must_eq(vmbus_cli_gpadl_teardown(b.cli, list[i - 1]), VMBUS_E_STATE);
			must_eq(vmbus_cli_gpadl_id(b.cli, list[i - 1]), 0);
		}
		must_eq(clibox_say3(&b, VMBUS_CTL_OPEN_RESULT, 1, open_id[i], 0), 0);
		clibox_take(&b, VMBUS_CLI_OPENED);
		vmbus_cli_disconnect(b.cli);
		clibox_take(&b, VMBUS_CLI_GPADL_LOST);
		clibox_take(&b, VMBUS_CLI_RESCINDED);
		must_eq(vmbus_cli_release(b.cli, chan[i]), 0);
	}
	clibox_close(&b);
}
END_TEST

/* The last generation of a slot is followed by the first, never by 0. */
START_TEST(lesson_18_generations_wrap)
{
	const struct vmbus_cli_opts o = { .chans_max = 1, .gpadls_max = 3 };
	struct vmbus_cli_ref list;
	struct clibox b;

	clibox_open(&b, &o);
	b.cli->chans[0].gen = UINT32_MAX;
	b.cli->lists[0].id = UINT32_MAX << b.cli->id_shift;
	b.cli->next_open_id = UINT32_MAX;
	clibox_connect_n(&b, 1);
	(void)clibox_open_chan(&b, 1);
	must_eq(b.cli->chans[0].open_id, 1);
	vmbus_cli_disconnect(b.cli);
	clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	must_eq(vmbus_cli_release(b.cli, clibox_chan(&b, 1)), 0);
	clibox_connect_n(&b, 1);
	must_eq(clibox_chan(&b, 1).gen, 1);
	(void)clibox_gpadl(&b, 1);
	(void)clibox_gpadl(&b, 1);
	list = clibox_gpadl(&b, 1);
	must_eq(list.slot, 0);
	must_eq(list.gen, 1u << b.cli->id_shift);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* A whole life in order: calls of the child's and messages of the parent's. */
enum life {
	LIFE_CONNECT,
	LIFE_VERSION,
	LIFE_OFFER,
	LIFE_ALL_OFFERS,
	LIFE_GPADL,
	LIFE_CREATED,
	LIFE_OPEN,
	LIFE_OPENED,
	LIFE_MODIFY,
	LIFE_MODIFIED,
	LIFE_CLOSE,
	LIFE_TEARDOWN,
	LIFE_TORNDOWN,
	LIFE_RESCIND,
	LIFE_RELEASE,
	LIFE_UNLOAD,
	LIFE_UNLOADED,
	LIFE_STEPS
};

struct living {
	struct clibox b;
	struct vmbus_cli_ref chan, list;
};

static void live_call(struct living *l, int step)
{
	static uint64_t pfns[60];
	const struct vmbus_cli_open open = clibox_rings(l->list);
	struct vmbus_cli *const cli = l->b.cli;

	if (step == LIFE_CONNECT)
		(void)vmbus_cli_connect(cli);
	else if (step == LIFE_GPADL)
		(void)vmbus_cli_gpadl(cli, l->chan, pfns, 60, &l->list);
	else if (step == LIFE_OPEN)
		(void)vmbus_cli_open(cli, l->chan, &open);
	else if (step == LIFE_MODIFY)
		(void)vmbus_cli_modify(cli, l->chan, 1);
	else if (step == LIFE_CLOSE)
		(void)vmbus_cli_close(cli, l->chan);
	else if (step == LIFE_TEARDOWN)
		(void)vmbus_cli_gpadl_teardown(cli, l->list);
	else if (step == LIFE_RELEASE)
		(void)vmbus_cli_release(cli, l->chan);
	else if (step == LIFE_UNLOAD)
		(void)vmbus_cli_unload(cli);
}

static void live_message(struct living *l, int step)
{
	struct clibox *const b = &l->b;
	const uint32_t id = l->list.gen, open_id = b->cli->chans[0].open_id;

	if (step == LIFE_VERSION)
		(void)clibox_say3(b, VMBUS_CTL_VERSION_RESPONSE, 1, 1, VMBUS_FEATURE_PAUSE);
	else if (step == LIFE_OFFER)
		(void)clibox_offer(b, 1, 1, 0);
	else if (step == LIFE_ALL_OFFERS)
		(void)clibox_say3(b, VMBUS_CTL_ALL_OFFERS, 0, 0, 0);
	else if (step == LIFE_CREATED)
		(void)clibox_say3(b, VMBUS_CTL_GPADL_CREATED, 1, id, 0);
	else if (step == LIFE_OPENED)
		(void)clibox_say3(b, VMBUS_CTL_OPEN_RESULT, 1, open_id, 0);
	else if (step == LIFE_MODIFIED)
		(void)clibox_say3(b, VMBUS_CTL_MODIFY_RESPONSE, 1, 0, 0);
	else if (step == LIFE_TORNDOWN)
		(void)clibox_say3(b, VMBUS_CTL_GPADL_TORNDOWN, 0, id, 0);
	else if (step == LIFE_RESCIND)
		(void)clibox_say3(b, VMBUS_CTL_RESCIND, 1, 0, 0);
	else if (step == LIFE_UNLOADED)
		(void)clibox_say3(b, VMBUS_CTL_UNLOAD_RESPONSE, 0, 0, 0);
}

/* Take all actions; messages are posted well. */
static void live_on(struct living *l)
{
	struct vmbus_cli_action act;

	while (vmbus_cli_next(l->b.cli, &act) == 1) {
		if (act.act == VMBUS_CLI_POST)
			must_eq(vmbus_cli_posted(l->b.cli, 0), 0);
		if (act.act == VMBUS_CLI_OFFERED)
			l->chan = act.chan;
		if (act.act == VMBUS_CLI_GPADL_READY && act.status == 0)
			l->list = act.list;
	}
}

/* lesson 26: each prefix of a whole life, every message of it twice, and then the end. */
START_TEST(lesson_26_prefixes_twice_then_end)
{
	const int last = _i / 2, times = 1 + _i % 2;
	struct living l = { .chan = { 0, 0 } };
	int step, n;

	clibox_open(&l.b, &small);
	for (step = 0; step < last; step++) {
		for (n = 0; n < times; n++) {
			live_call(&l, step);
			live_message(&l, step);
			cli_check(l.b.cli);
		}
		live_on(&l);
	}
	if (times == 1)
		must_eq(clibox_refused(&l.b), 0);
	if (times == 1 && last == LIFE_STEPS)
		must_eq(l.b.cli->conn, VMBUS__CONN_IDLE);
	vmbus_cli_disconnect(l.b.cli);
	cli_check(l.b.cli);
	live_on(&l);
	cli_check(l.b.cli);
	must_eq(l.b.cli->lists_used, 0);
	must_eq(l.b.cli->queue_count, 0);
	must_eq(vmbus_cli_connect(l.b.cli), 0);
	clibox_close(&l.b);
}
END_TEST

/* lesson 27: a teardown that is refused, unanswered, or of a parent that is gone: LOST, not GONE. */
START_TEST(lesson_27_failed_teardown_is_lost)
{
	struct vmbus_cli_ref list;
	struct clibox b;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	list = clibox_gpadl(&b, 1);
	must_eq(vmbus_cli_gpadl_teardown(b.cli, list), 0);
	if (_i == 0) {
		clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0x05);
	} else if (_i == 1) {
		clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
		vmbus_cli_disconnect(b.cli);
	} else if (_i == 2) {
		vmbus_cli_disconnect(b.cli);
	} else { /* rescinded, and never answered */
		clibox_post(&b, VMBUS_CTL_GPADL_TEARDOWN, 0);
		must_eq(clibox_say3(&b, VMBUS_CTL_RESCIND, 1, 0, 0), 0);
		clibox_take(&b, VMBUS_CLI_RESCINDED);
		clibox_take(&b, 0);
		must_eq(vmbus_cli_release(b.cli, clibox_chan(&b, 1)), VMBUS_E_STATE);
		vmbus_cli_disconnect(b.cli);
	}
	clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	must_eq(b.act.list.slot, list.slot);
	must_eq(b.act.list.gen, list.gen);
	must_eq(vmbus_cli_gpadl_id(b.cli, list), 0);
	/* Its id names no list of ours any more: a late answer is not taken for another's. */
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_TORNDOWN, 0, list.gen, 0), 0);
	cli_check(b.cli);
	clibox_close(&b);
}
END_TEST

/* One that is ready but was not told yet is told as ready, and then as lost. */
START_TEST(lesson_27_lost_before_ready_was_taken)
{
	struct vmbus_cli_ref list;
	struct clibox b;

	clibox_open(&b, &small);
	clibox_connect_n(&b, 1);
	must_eq(vmbus_cli_gpadl(b.cli, clibox_chan(&b, 1), clibox_pfns, 4, &list), 0);
	clibox_post(&b, VMBUS_CTL_GPADL_HEADER, 0);
	must_eq(clibox_say3(&b, VMBUS_CTL_GPADL_CREATED, 1, list.gen, 0), 0);
	vmbus_cli_disconnect(b.cli);
	clibox_take(&b, VMBUS_CLI_GPADL_READY);
	must_eq(b.act.status, 0);
	clibox_take(&b, VMBUS_CLI_GPADL_LOST);
	clibox_take(&b, VMBUS_CLI_RESCINDED);
	clibox_take(&b, 0);
	clibox_close(&b);
}
END_TEST

/* lesson 29: a parent that refuses for ever ends the search; a busy one costs one look each time. */
START_TEST(lesson_29_no_endless_retry)
{
	struct vmbus_cli_action act;
	struct clibox b;
	uint32_t i, posts = 0;

	clibox_open(&b, NULL);
	must_eq(vmbus_cli_connect(b.cli), 0);
	for (i = 0; i < 1000; i++) {
		if (vmbus_cli_next(b.cli, &act) != 1 || act.act != VMBUS_CLI_POST)
			break;
		posts++;
		must_eq(vmbus_cli_posted(b.cli, 0x12), 0);
	}
	must_eq(posts, 8); /* 5.3 to 2.4 */
	must_eq(act.act, VMBUS_CLI_REFUSED);
	must_eq(vmbus_cli_connect(b.cli), 0);
	for (i = 0; i < 1000; i++) {
		must_eq(vmbus_cli_next(b.cli, &act), 1);
		must_eq(vmbus_cli_posted(b.cli, 0x13), 0);
		must_eq(vmbus_cli_next(b.cli, &act), 0); /* here the caller sleeps */
	}
	clibox_close(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "lessons", 10);

	tcase_add_test(tc, lesson_04_early_answer_counts);
	tcase_add_loop_test(tc, lesson_16_end_while_opening, 0, 8);
	tcase_add_loop_test(tc, lesson_17_lists_of_a_rescinded_channel, 0, 5);
	tcase_add_test(tc, lesson_18_generations);
	tcase_add_test(tc, lesson_18_generations_wrap);
	tcase_add_loop_test(tc, lesson_26_prefixes_twice_then_end, 0, 2 * (LIFE_STEPS + 1));
	tcase_add_loop_test(tc, lesson_27_failed_teardown_is_lost, 0, 4);
	tcase_add_test(tc, lesson_27_lost_before_ready_was_taken);
	tcase_add_test(tc, lesson_29_no_endless_retry);
}

VMBUS_TEST_MAIN("channel.cli_lessons", tests)
