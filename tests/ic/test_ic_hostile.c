/* SPDX-License-Identifier: MIT */
/*
 * The parent's end of the integration components against children that break the protocol: whatever
 * they answer, their channel ends, and the others go on.
 */
#include "ic.h"

enum breach {
	SHORT,
	PIPE_TYPE,
	PIPE_LONG,
	PIPE_SHORT,
	SIZE_LONG,
	TRANSACTION,
	NO_ANSWER,
	TYPE,
	TWICE,
	NO_MESSAGE,
	TOO_LONG,
	BREACHES_ANY, /* from here on: of a negotiation */
	COUNT_F = BREACHES_ANY,
	COUNT_M,
	FRAMEWORK,
	MESSAGE,
	NO_COUNTS,
	NO_VERSIONS,
	BREACHES
};

static uint8_t breach_buf[8192];

static void commit_breach(struct loop *l, struct ic_kept *k, enum breach breach)
{
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = breach_buf, .len = k->len };
	uint8_t ext[8] = { 0 };
	uint32_t n = 1;

	ic_edit(k, 0);
	memcpy(breach_buf, k->last, k->len);
	if (breach == SHORT)
		msg.len = 24;
	else if (breach == PIPE_TYPE)
		breach_buf[0] = 2;
	else if (breach == PIPE_LONG)
		ic_put(breach_buf + 4, 4, k->len - 7);
	else if (breach == PIPE_SHORT)
		ic_put(breach_buf + 4, 4, 19);
	else if (breach == SIZE_LONG)
		ic_put(breach_buf + 18, 2, ic_get(breach_buf + 4, 4) - 19);
	else if (breach == TRANSACTION)
		breach_buf[24]++;
	else if (breach == NO_ANSWER)
		breach_buf[25] = 3;
	else if (breach == TYPE)
		breach_buf[12] = 2;
	else if (breach == TWICE)
		n = 2;
	else if (breach == TOO_LONG)
		msg.len = 4104;
	else if (breach == COUNT_F)
		breach_buf[28] = 2;
	else if (breach == COUNT_M)
		breach_buf[31] = 1;
	else if (breach == FRAMEWORK)
		breach_buf[36] = 2;
	else if (breach == MESSAGE)
		breach_buf[42] = 7;
	else if (breach == NO_COUNTS)
		ic_put(breach_buf + 18, 2, 3);
	else if (breach == NO_VERSIONS)
		ic_put(breach_buf + 18, 2, 15);
	if (breach == NO_MESSAGE) {
		msg.type = VMBUS_PKT_GPA_DIRECT;
		msg.ext = ext;
		msg.ext_len = 8;
	}
	while (n--)
		must_eq(vmbus_vsc_send(k->vsc, &msg, 1), 1);
	loop_settle(l);
}

static void others_go_on(struct loop *l, struct vmbus_ic *ic)
{
	struct ic_kept *k = ic_open(l, 0);

	ic_agree(l, k, 0x30000);
	must_eq(vmbus_ic_shutdown(ic, 0, 0, NULL), 0);
	loop_settle(l);
	ic_answer(l, k, 0);
	must_eq(ic_value(1, VMBUS_IC_ANSWERED), 0);
}

static void check_broken(struct loop *l, struct vmbus_ic *ic, struct ic_kept *k, int breach)
{
	struct vmbus_bus_stats stats;
	struct vmbus_ic_info info;

	vmbus_test_at("breach %d", breach);
	must_eq(k->closed, 1);
	vmbus_bus_stats(l->bus, &stats);
	must_eq(stats.faults, 1);
	vmbus_ic_info(ic, &info);
	must_eq(info.broken, breach == TOO_LONG ? 0 : 1);
	others_go_on(l, ic);
	k = ic_open(l, (uint32_t)(k - ic_kept)); /* it is offered anew */
	ic_agree(l, k, 0x30000);
}

START_TEST(ic_vsp__breach_in_the_negotiation)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = ic_open(l, 2);
	uint8_t *m = k->last;

	ic_put(m + 18, 2, 16); /* a good answer, but for the breach */
	ic_put(m + 28, 4, 0x10001);
	ic_put(m + 36, 4, 3);
	ic_put(m + 40, 4, 3);
	commit_breach(l, k, (enum breach)_i);
	must_eq(ic_count(4, VMBUS_IC_READY), _i == TWICE);
	check_broken(l, ic, k, _i);
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_vsp__breach_in_use)
{
	const uint32_t n = (uint32_t)_i / BREACHES_ANY, breach = (uint32_t)_i % BREACHES_ANY;
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = ic_open(l, 1 + n);

	ic_agree(l, k, 0x30000);
	must_eq(k->count, 2);
	commit_breach(l, k, (enum breach)breach);
	must_eq(ic_count(2u << n, VMBUS_IC_READY), 1);
	must_eq(ic_count(2u << n, VMBUS_IC_GONE), 1);
	check_broken(l, ic, k, (int)breach);
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_vsp__answer_without_a_request)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = ic_open(l, 0);

	ic_agree(l, k, 0x30000);
	ic_answer(l, k, 0); /* nothing was asked */
	must_eq(k->closed, 1);
	must_eq(ic_count(1, VMBUS_IC_ANSWERED), 0);
	must_eq(ic_count(1, VMBUS_IC_GONE), 1);
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_vsp__counts_completions)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = ic_open(l, 0);

	must_eq(vmbus_vsc_complete(k->vsc, 1, NULL, 0), 0);
	loop_settle(l);
	ic_agree(l, k, 0x30000);
	must_eq(ic_count(1, VMBUS_IC_READY), 1);
	ic_end(l, ic);
}
END_TEST

/* ---- any sequence of answers ---- */

static uint32_t seed;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)seed * below) >> 32);
}

static uint32_t balance[3];

static void watch(void *ctx, uint32_t component, enum vmbus_ic_event event, uint64_t value)
{
	uint32_t *const ready = &balance[component / 2];

	(void)ctx;
	(void)value;
	must(component == 1 || component == 2 || component == 4);
	if (event == VMBUS_IC_READY)
		(*ready)++;
	else if (event == VMBUS_IC_GONE)
		(*ready)--;
	must(*ready <= 1);
	must(event == VMBUS_IC_READY || event == VMBUS_IC_GONE || event == VMBUS_IC_REFUSED ||
	     *ready == 1);
	must(event != VMBUS_IC_ANSWERED || component == 1);
	must((event != VMBUS_IC_ALIVE && event != VMBUS_IC_LOST) || component == 4);
}

static void random_step(struct loop *l, struct vmbus_ic *ic)
{
	const uint32_t n = rnd(3);
	struct ic_kept *k = &ic_kept[n];

	k->vsc = vmbus_vsc_find(l->guest, &ic_class[n], 0);
	must(k->vsc != NULL);
	if (vmbus_vsc_state(k->vsc) != VMBUS_VSC_OPEN) {
		(void)ic_open(l, n);
		return;
	}
	switch (rnd(13)) {
	case 6:
		(void)vmbus_ic_sync(ic);
		break;
	case 0:
		must_eq(vmbus_vsc_close(k->vsc), 0);
		break;
	case 1:
		(void)vmbus_ic_shutdown(ic, rnd(8), 0, NULL);
		break;
	case 2:
		(void)usleep(1000);
		must(vmbus_ic_dispatch(ic) <= 2);
		break;
	case 3:
		k->last[rnd(64)] ^= (uint8_t)(1u << rnd(8));
		ic_send(l, k, k->last, k->len);
		break;
	case 4:
		commit_breach(l, k, (enum breach)rnd(BREACHES));
		break;
	case 5:
		vmbus_bus_reset(l->bus);
		loop_end_guest(l);
		memset(l->mem.used, 0, l->mem.pages);
		l->mem.shared_pages = 0;
		l->offered = l->gone = 0;
		loop_new_guest(l, NULL);
		loop_connect(l);
		break;
	default:
		if (k->count && ic_get(k->last + 12, 2) == 0)
			ic_agree(l, k, 0x30000);
		else if (k->count)
			ic_answer(l, k, rnd(2) ? 0 : VMBUS_IC_FAILED);
	}
	loop_settle(l);
}

START_TEST(ic_vsp__any_sequence_of_answers)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic_info info;
	struct vmbus_ic *ic;
	uint32_t step, i;

	seed = (uint32_t)_i * 2654435761u + 1u;
	memset(balance, 0, sizeof(balance));
	o.event = watch;
	o.heartbeat_ns = o.sample_ns = 1000000;
	ic = ic_start(l, &o);
	for (step = 0; step < 400; step++) {
		vmbus_test_at("seed %d, step %u", _i, step);
		random_step(l, ic);
		vmbus_ic_info(ic, &info);
		for (i = 0; i < 3; i++)
			must_eq(info.ready >> i & 1u, balance[i]);
		must(!info.alive || (info.ready & VMBUS_IC_HEARTBEAT));
		if (!(info.ready & (VMBUS_IC_TIMESYNC | VMBUS_IC_HEARTBEAT)))
			must_eq(vmbus_ic_dispatch(ic), 0);
	}
	ic_end(l, ic);
	for (i = 0; i < 3; i++)
		must_eq(balance[i], 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "hostile", 20);

	tcase_add_loop_test(tc, ic_vsp__breach_in_the_negotiation, 0, BREACHES);
	tcase_add_loop_test(tc, ic_vsp__breach_in_use, 0, 2 * BREACHES_ANY);
	tcase_add_test(tc, ic_vsp__answer_without_a_request);
	tcase_add_test(tc, ic_vsp__counts_completions);
	tcase_add_loop_test(tc, ic_vsp__any_sequence_of_answers, 0, 8);
}

VMBUS_TEST_MAIN("ic.ic_hostile", tests)
