/* SPDX-License-Identifier: MIT */
/*
 * Rules of vmbusctl doctor, each by a child made by hand that stops at one step, or a device that does:
 * what is found is that step and nothing else, and nothing when the step has come.
 */
#include "diag/added.h"

#define GRACE_NS (SECOND_NS / 4) /* more than expect_found() gives */

static struct added added;

static void wait_and_find(struct added *a, const char *code)
{
	serve_for(&a->host, GRACE_NS);
	expect_found(&a->host, code, 1);
}

START_TEST(rules__no_request)
{
	struct added *const a = &added;

	added_begin(a, &fake_echo_vsp);
	wait_and_find(a, "no-request");
	must_eq(fake_offers(&a->fake, &a->chan, 1), 1);
	must_eq(fake_open(&a->fake, &a->chan, 4, 4), 0);
	expect_found(&a->host, "", 0);
	added_close(a);
}
END_TEST

/* The second offer is made when nobody dispatches the bus any more. */
START_TEST(rules__offer_unsent)
{
	struct added *const a = &added;

	added_open(a, &fake_echo_vsp);
	must_eq(fake_open(&a->fake, &a->chan, 4, 4), 0);
	(void)fake_offer(&a->fake, &fake_echo_vsp, &a->echo, 0);
	wait_and_find(a, "offer-unsent");
	fake_expect(&a->fake, VMBUS_CTL_OFFER, NULL);
	added_close(a);
}
END_TEST

START_TEST(rules__open_missing)
{
	struct added *const a = &added;

	added_open(a, &fake_echo_vsp);
	fake_rings(&a->fake, &a->chan, 4, 4);
	a->chan.gpadl = 77;
	must_eq(fake_share(&a->fake, a->chan.relid, 77, a->chan.first, 8), 0);
	wait_and_find(a, "open-missing");
	fake_post_open(&a->fake, &a->chan, 0);
	fake_expect(&a->fake, VMBUS_CTL_OPEN_RESULT, NULL);
	expect_found(&a->host, "", 0);
	added_close(a);
}
END_TEST

static int open_late(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	(void)ctx;
	return VMBUS_E_AGAIN;
}

START_TEST(rules__open_unanswered)
{
	static struct vmbus_vsp late;
	struct added *const a = &added;

	late = fake_echo_vsp;
	late.open = open_late;
	added_open(a, &late);
	fake_rings(&a->fake, &a->chan, 4, 4);
	a->chan.gpadl = 77;
	must_eq(fake_share(&a->fake, a->chan.relid, 77, a->chan.first, 8), 0);
	fake_post_open(&a->fake, &a->chan, 0);
	fake_expect_none(&a->fake);
	wait_and_find(a, "open-unanswered");
	vmbus_chan_open_done(a->offered, 0);
	fake_expect(&a->fake, VMBUS_CTL_OPEN_RESULT, NULL);
	expect_found(&a->host, "", 0);
	added_close(a);
}
END_TEST

static int open_never(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	(void)ctx;
	return VMBUS_E_NOMEM;
}

static int open_broken(struct vmbus_chan *chan, void *ctx)
{
	(void)ctx;
	vmbus_chan_fail(chan, "it is not what it was");
	return 0;
}

/* The device says so, or breaks the channel before it is open. */
START_TEST(rules__open_failed)
{
	static struct vmbus_vsp never;
	struct added *const a = &added;

	never = fake_echo_vsp;
	never.open = _i == 0 ? open_never : open_broken;
	added_open(a, &never);
	must(fake_open(&a->fake, &a->chan, 4, 4) != 0);
	expect_found(&a->host, "open-failed", 1);
	added_close(a);
}
END_TEST

/* Of an open channel: before that it is the rings' list. */
START_TEST(rules__list_refused)
{
	struct added *const a = &added;

	added_open(a, &fake_echo_vsp);
	must_eq(fake_open(&a->fake, &a->chan, 4, 4), 0);
	must(fake_share(&a->fake, a->chan.relid, 78, a->fake.pages + 1, 2) != 0);
	expect_found(&a->host, "list-refused", 1);
	added_close(a);
}
END_TEST

START_TEST(rules__pins_held)
{
	struct vmbus_piece pieces[8];
	struct vmbus_sgl sgl = { .pieces = pieces, .room = 8 };
	struct added *const a = &added;
	uint32_t n;

	added_open(a, &fake_echo_vsp);
	must_eq(fake_open(&a->fake, &a->chan, 4, 4), 0);
	must_eq(vmbus_chan_gpadl(a->offered, a->chan.gpadl, VMBUS_READ, &sgl), 0);
	fake_post_close(&a->fake, &a->chan);
	for (n = 0; n < 100; n++)
		(void)vmbus_bus_dispatch(a->fake.bus, 64);
	wait_and_find(a, "pins-held");
	vmbus_sgl_release(&sgl);
	serve_for(&a->host, SECOND_NS / 20); /* it is looked at every 10 ms */
	fake_run(&a->fake);
	expect_found(&a->host, "", 0);
	added_close(a);
}
END_TEST

START_TEST(rules__not_released)
{
	struct added *const a = &added;

	added_open(a, &fake_echo_vsp);
	must_eq(vmbus_bus_revoke(a->offered), 0);
	fake_expect(&a->fake, VMBUS_CTL_RESCIND, NULL);
	wait_and_find(a, "not-released");
	fake_post_released(&a->fake, a->chan.relid);
	fake_run(&a->fake);
	expect_found(&a->host, "", 0);
	added_close(a);
}
END_TEST

/* The child has overwritten an index, and nobody has looked at it yet. */
START_TEST(rules__indices_impossible)
{
	struct added *const a = &added;

	added_open(a, &fake_echo_vsp);
	must_eq(fake_open(&a->fake, &a->chan, 4, 4), 0);
	*(uint32_t *)(void *)(a->fake.mem + a->chan.first * FAKE_PAGE) = 12345; /* write index */
	expect_found(&a->host, "indices-impossible", 1);
	added_close(a);
}
END_TEST

/* The longest states are told whole. */
START_TEST(rules__stat_tells_a_state_whole)
{
	const struct vmbus_ctl unload = { .type = VMBUS_CTL_UNLOAD };
	struct added *const a = &added;
	const struct out *out;

	added_open(a, &fake_echo_vsp);
	fake_post(&a->fake, &unload);
	fake_expect(&a->fake, VMBUS_CTL_UNLOAD_RESPONSE, NULL);
	out = ctl(&a->host, "stat -s %s -n 1 -i 0.05");
	must_eq(out->status, 0);
	if (!strstr(out->text, " client released "))
		ck_abort_msg("%s", out->text);
	added_close(a);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "rules", 60);

	tcase_add_test(tc, rules__no_request);
	tcase_add_test(tc, rules__offer_unsent);
	tcase_add_test(tc, rules__open_missing);
	tcase_add_test(tc, rules__open_unanswered);
	tcase_add_loop_test(tc, rules__open_failed, 0, 2);
	tcase_add_test(tc, rules__list_refused);
	tcase_add_test(tc, rules__pins_held);
	tcase_add_test(tc, rules__not_released);
	tcase_add_test(tc, rules__indices_impossible);
	tcase_add_test(tc, rules__stat_tells_a_state_whole);
}

VMBUS_TEST_MAIN("diag.rules", tests)
