/* SPDX-License-Identifier: MIT */
/*
 * Devices that take their time to open, and how that comes out: the answer, a refusal, a ring that
 * broke meanwhile, a child that does not wait.
 */
#include "slowbox.h"

START_TEST(chan_open_done__opens_and_sends_what_waited)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };
	struct vmbus_packet pkt[8];
	uint64_t payload = 7;
	struct box b;

	box_init(&b);
	b.d.sends = 3;
	begin(&b);
	must_eq(b.d.opens, 1);
	must_eq(fake_send(&b.c, 1, &payload, 8), 1);
	must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK);
	fake_expect_none(&b.f);
	must_eq(b.d.packets, 0);
	must_eq(vmbus_chan_send(b.chan, &msg, 1), VMBUS_E_STATE);
	must_eq(vmbus_chan_complete(b.chan, 1, NULL, 0), VMBUS_E_STATE);
	must_eq(vmbus_chan_flush(b.chan), VMBUS_E_STATE);
	must_eq(fake_receive(&b.c, pkt, 8), 0);
	say(&b.d, 0);
	must_eq(result(&b), 0);
	must_eq(b.d.packets, 1);
	must_eq(fake_receive(&b.c, pkt, 8), 4);
	must_eq(pkt[2].type, VMBUS_PKT_INBAND);
	must_eq(pkt[3].type, VMBUS_PKT_COMPLETION);
	vmbus_chan_open_done(b.chan, VMBUS_E_NOMEM); /* it is open */
	fake_expect_none(&b.f);
	fake_close(&b.f, &b.c);
	must_eq(b.d.closes, 1);
	vmbus_chan_open_done(b.chan, 0); /* it is closed */
	fake_expect_none(&b.f);
	box_fini(&b);
}
END_TEST

/* A dispatch whose budget ends among the channels that have an answer leaves the rest to the next. */
START_TEST(chan_open_done__of_more_channels_than_the_budget)
{
	static struct dev d[130];
	static struct fake_chan c[130];
	static const uint32_t which[] = { 0, 65, 129 }; /* of 64 channels one is taken each time */
	struct vmbus_ctl ctl;
	struct fake f;
	uint32_t i, n = 0;

	fake_init(&f, 512);
	for (i = 0; i < 130; i++) {
		d[i].open_err = VMBUS_E_AGAIN;
		(void)fake_offer(&f, &slow_vsp, &d[i], i);
	}
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, 130), 130);
	for (i = 0; i < 3; i++) {
		struct fake_chan *const at = &c[which[i]];

		must_eq((at->relid - 1u) / 64u, i);
		fake_rings(&f, at, 3, 3);
		at->gpadl = f.next_gpadl++;
		must_eq(fake_share(&f, at->relid, at->gpadl, at->first, 6), 0);
		fake_post_open(&f, at, 0);
		fake_expect_none(&f);
	}
	for (i = 0; i < 3; i++)
		say(&d[which[i]], 0);
	while (vmbus_bus_dispatch(f.bus, 1) > 0)
		must(++n < 1000);
	for (i = 0; i < 3; i++) {
		fake_expect(&f, VMBUS_CTL_OPEN_RESULT, &ctl);
		must_eq(ctl.u.result.relid, c[which[i]].relid);
		must_eq(ctl.u.result.status, 0);
	}
	for (i = 0; i < 3; i++)
		fake_close(&f, &c[which[i]]);
	fake_fini(&f);
}
END_TEST

START_TEST(chan_open_done__refuses)
{
	struct box b;
	int n;

	box_init(&b);
	for (n = 0; n < 3; n++) {
		b.d.subs = n == 2;
		begin(&b);
		if (n == 2)
			fake_expect(&b.f, VMBUS_CTL_OFFER, NULL);
		say(&b.d, VMBUS_E_NOMEM);
		must_eq(result(&b), VMBUS_STATUS_FAILED);
		must(fake_logged(&b.f, "open failed: NOMEM: the device refused"));
		if (n == 2)
			fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
		teardown(&b);
	}
	b.d.subs = 0;
	must_eq(b.d.closes, 0);
	begin(&b);
	say(&b.d, 0);
	must_eq(result(&b), 0);
	fake_close(&b.f, &b.c);
	must_eq(b.d.opens, 4);
	must_eq(b.d.closes, 1);
	box_fini(&b);
}
END_TEST

START_TEST(chan_open_done__within_open)
{
	static const int said[] = { 0, VMBUS_E_NOMEM, VMBUS_E_AGAIN };
	struct box b;
	size_t i;

	for (i = 0; i < 3; i++) {
		box_init(&b);
		b.d.says = true;
		b.d.said = said[i];
		begin(&b);
		must_eq(result(&b), said[i] ? VMBUS_STATUS_FAILED : 0);
		must_eq(b.d.opens, 1);
		box_fini(&b);
		must_eq(b.d.closes, said[i] == 0);
	}
}
END_TEST

/* What open() returns counts if it is not AGAIN. */
START_TEST(chan_open_done__within_an_open_that_does_not_wait)
{
	struct box b;

	box_init(&b);
	b.d.says = true;
	b.d.said = VMBUS_E_NOMEM;
	b.d.open_err = 0;
	begin(&b);
	must_eq(result(&b), 0);
	fake_close(&b.f, &b.c);
	b.d.said = 0;
	b.d.open_err = VMBUS_E_NOTSUP;
	begin(&b);
	b.d.state = SHUT;
	must_eq(result(&b), VMBUS_STATUS_FAILED);
	must_eq(b.d.closes, 1);
	box_fini(&b);
}
END_TEST

/* An open that succeeded is closed when its ring is broken by then. */
START_TEST(vsp_open__succeeded_and_the_ring_broke)
{
	struct box b;
	int later;

	for (later = 0; later < 2; later++) {
		box_init(&b);
		b.d.sends = 1;
		b.d.break_ring = true;
		b.d.open_err = later ? VMBUS_E_AGAIN : 0;
		begin(&b);
		must_eq(result(&b), VMBUS_STATUS_FAILED); /* whoever waits waits no longer */
		vmbus_chan_open_done(b.chan, 0);
		must_eq(b.d.opens, 1);
		must_eq(b.d.closes, 1);
		must(fake_logged(&b.f, "open failed: ring to the child"));
		teardown(&b);
		b.d.break_ring = false;
		b.d.open_err = 0;
		begin(&b);
		must_eq(result(&b), 0);
		fake_close(&b.f, &b.c);
		box_fini(&b);
	}
}
END_TEST

/* The same, with a device that takes its time to close: the child hears of it after that. */
START_TEST(vsp_open__broke_and_close_takes_its_time)
{
	struct box b;

	box_init(&b);
	b.d.sends = 1;
	b.d.break_ring = true;
	b.d.open_err = 0;
	b.d.close_again = true;
	begin(&b);
	must_eq(b.d.closes, 1);
	fake_expect_none(&b.f);
	say_closed(&b.d);
	must_eq(result(&b), VMBUS_STATUS_FAILED);
	box_fini(&b);
}
END_TEST

/* The machine takes neither from a child whose open was not answered. */
START_TEST(chan_open_done__after_the_child_was_impatient)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_MODIFY };
	struct box b;

	box_init(&b);
	begin(&b);
	fake_post_close(&b.f, &b.c);
	ctl.u.modify.relid = b.c.relid;
	ctl.u.modify.target_vp = 1;
	fake_post(&b.f, &ctl);
	fake_post_open(&b.f, &b.c, 0);
	fake_run(&b.f);
	must_eq(b.d.closes, 0);
	must_eq(b.d.opens, 1);
	say(&b.d, 0);
	while (fake_take(&b.f, &ctl) && ctl.type != VMBUS_CTL_OPEN_RESULT)
		;
	must_eq(ctl.type, VMBUS_CTL_OPEN_RESULT);
	must_eq(b.d.state, SERVED);
	box_fini(&b);
}
END_TEST

/* A channel with own_fd: what its thread says goes to the bus by answers. */
START_TEST(chan_open_done__of_a_channel_with_own_fd)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct box b;
	int how;

	for (how = 0; how < 3; how++) {
		memset(&b, 0, sizeof(b));
		fake_init(&b.f, 512);
		b.d.open_err = VMBUS_E_AGAIN;
		must_eq(vmbus_bus_offer(b.f.bus, &slow_vsp, &b.d, &opts, &b.chan), 0);
		b.d.chan = b.chan;
		box_contact(&b);
		begin(&b);
		must_eq(b.d.opens, 0);
		must(fake_readable(vmbus_chan_fd(b.chan)));
		must_eq(vmbus_chan_dispatch(b.chan, 16), 0);
		must_eq(b.d.opens, 1);
		fake_expect_none(&b.f);
		if (how == 0) {
			say(&b.d, 0);
			must_eq(result(&b), 0);
		} else if (how == 1) {
			vmbus_chan_fail(b.chan, "no");
			must(fake_readable(vmbus_chan_fd(b.chan)));
			must_eq(vmbus_chan_dispatch(b.chan, 16), 0);
			must_eq(result(&b), VMBUS_STATUS_FAILED);
			must_eq(b.d.closes, 1);
		} else {
			must_eq(vmbus_bus_revoke(b.chan), 0);
			fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
			must_eq(b.d.closes, 0);
			must_eq(vmbus_chan_dispatch(b.chan, 16), 0);
			must_eq(b.d.closes, 1);
			fake_expect_none(&b.f);
		}
		box_fini(&b);
		must_eq(b.d.closes, 1);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "opening", 20);

	tcase_add_test(tc, chan_open_done__opens_and_sends_what_waited);
	tcase_add_test(tc, chan_open_done__of_more_channels_than_the_budget);
	tcase_add_test(tc, chan_open_done__refuses);
	tcase_add_test(tc, chan_open_done__within_open);
	tcase_add_test(tc, chan_open_done__within_an_open_that_does_not_wait);
	tcase_add_test(tc, vsp_open__succeeded_and_the_ring_broke);
	tcase_add_test(tc, vsp_open__broke_and_close_takes_its_time);
	tcase_add_test(tc, chan_open_done__after_the_child_was_impatient);
	tcase_add_test(tc, chan_open_done__of_a_channel_with_own_fd);
}

VMBUS_TEST_MAIN("bus.opening", tests)
