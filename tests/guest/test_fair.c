/* SPDX-License-Identifier: MIT */
/* One channel among many, budgets, polling, and a channel with a thread of its own. */
#include "client.h"

/* ---- fairness ---- */

static void flood(struct parent_chan *chan)
{
	static const uint8_t data[64];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data, .len = 64 };

	while (vmbus_ring_tx_put(&chan->tx, &msg, 1) == 1)
		;
	chan->signalled = true; /* and again, for ever */
}

/* Channel 0 is flooded without end; channel 1 and the guest's own messages get their share. */
START_TEST(lesson_15_a_flood_starves_nobody)
{
	struct parent *p = parent_new(0);
	struct client c[2];
	uint32_t i;

	(void)parent_offer(p, 0);
	(void)parent_offer(p, 1);
	parent_connect(p);
	for (i = 0; i < 2; i++)
		client_init(&c[i], p, vmbus_vsc_find(p->guest, &parent_class, i));
	p->chans[0].on_turn = flood;
	p->chans[0].on_packet = parent_ignore;
	must_eq(client_begin(&c[0]), 0);
	for (i = 0; i < 40; i++) {
		must(vmbus_guest_dispatch(p->guest, 64) >= 0);
		(void)parent_turn(p);
	}
	must(c[0].packets > 1000);
	/* A wait ends though dispatch never finds nothing to do. */
	must_eq(client_begin(&c[1]), 0);
	for (i = 0; i < 40 && !c[1].live; i++) {
		must(vmbus_guest_dispatch(p->guest, 64) >= 0);
		(void)parent_turn(p);
	}
	must(c[1].live);
	for (i = 1; i <= 100; i++) {
		must_eq(client_request(&c[1], &i, 4, NULL), 0);
		must(vmbus_guest_dispatch(p->guest, 256) >= 0);
		(void)parent_turn(p);
		must(vmbus_guest_dispatch(p->guest, 256) >= 0);
		must_eq(c[1].completed, i);
	}
	/* And the flooded one closes. */
	must_eq(vmbus_vsc_close(c[0].vsc), 0);
	parent_settle(p);
	must_eq(c[0].closed, 1);
	parent_free(p, 34);
}
END_TEST

/* One ring carries what comes in, the other waits for room: neither keeps the other waiting. */
START_TEST(lesson_15_a_flood_while_a_send_waits)
{
	uint64_t left = 20000;
	struct pair s;
	uint32_t i;

	pair_init(&s);
	s.c.opts.send_bytes = 4096;
	s.c.on_writable = client_send_left;
	s.c.priv = &left;
	s.chan->on_turn = flood;
	s.chan->on_packet = parent_ignore;
	client_open(&s.c);
	client_send_left(&s.c);
	for (i = 0; i < 5000 && left; i++) {
		must(vmbus_guest_dispatch(s.p->guest, 16) >= 0);
		(void)parent_turn(s.p);
	}
	must_eq(left, 0);
	must(s.c.packets > 1000);
	parent_free(s.p, 19);
}
END_TEST

/* Messages without end leave room for packets within one dispatch, wherever it begins. */
START_TEST(lesson_15_a_flood_of_messages)
{
	const uint8_t junk[8] = { 0xFF };
	struct pair s;
	uint32_t i;

	pair_init(&s);
	client_open(&s.c);
	for (i = 1; i <= 40; i++) {
		must_eq(client_request(&s.c, "x", 1, NULL), 0);
		(void)parent_turn(s.p);
		while (s.p->inbox_count < 500)
			parent_tell(s.p, junk, 8);
		must_eq(vmbus_guest_dispatch(s.p->guest, 100 + i % 7), 100 + i % 7);
		must_eq(s.c.completed, i);
	}
	parent_free(s.p, 34);
}
END_TEST

START_TEST(guest_dispatch__keeps_its_budget)
{
	struct pair s;
	uint32_t budget, done = 0;

	pair_init(&s);
	s.chan->on_turn = flood;
	s.chan->on_packet = parent_ignore;
	client_open(&s.c);
	for (budget = 1; budget < 400; budget++) {
		const unsigned long before = s.c.packets;
		const int n = vmbus_guest_dispatch(s.p->guest, budget);

		must(n >= 0 && (uint32_t)n <= budget + 1);
		must(s.c.packets - before <= budget);
		done += (uint32_t)n;
		(void)parent_turn(s.p);
	}
	must(done > 10000);
	must_eq(vmbus_guest_dispatch(s.p->guest, 0), 0);
	parent_free(s.p, 34);
}
END_TEST

/* ---- polling, and a thread of its own ---- */

START_TEST(vsc_dispatch__polls)
{
	uint64_t left = 2000;
	struct pair s;
	uint64_t n;

	pair_init(&s);
	s.c.opts.poll = true;
	s.c.opts.send_bytes = 4096;
	client_open(&s.c);
	must_eq(s.chan->open.target_vp, VMBUS_VP_NONE);
	for (n = 1; n <= 100; n++) {
		must_eq(client_request(&s.c, &n, 8, NULL), 0);
		parent_settle(s.p);
		must_eq(s.c.completed, n - 1); /* the guest leaves it alone */
		must_eq(vmbus_vsc_dispatch(s.c.vsc, 10), 1);
		must_eq(vmbus_vsc_dispatch(s.c.vsc, 10), 0);
		must_eq(s.c.completed, n);
	}
	must_eq(s.chan->signals_out, 0);
	s.c.on_writable = client_send_left;
	s.c.priv = &left;
	s.chan->on_packet = parent_ignore;
	client_send_left(&s.c);
	while (left) {
		parent_settle(s.p);
		must_eq(vmbus_vsc_dispatch(s.c.vsc, 10), 0);
	}
	client_close(&s.c);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 10), VMBUS_E_STATE);
	parent_free(s.p, 0);
}
END_TEST

/* A channel that the guest dispatches may be helped along; what is left is the guest's again. */
START_TEST(vsc_dispatch__of_a_channel_that_the_guest_dispatches)
{
	struct pair s;
	uint64_t n;

	pair_init(&s);
	client_open(&s.c);
	for (n = 0; n < 10; n++)
		must_eq(client_request(&s.c, &n, 8, NULL), 0);
	while (parent_turn(s.p))
		;
	memset(s.p->flags, 0, sizeof(s.p->flags)); /* no other wake-up */
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 3), 3);
	must_eq(s.c.completed, 3);
	parent_settle(s.p);
	must_eq(s.c.completed, 10);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_dispatch__of_a_thread_of_its_own)
{
	struct pair s;
	uint64_t n;

	pair_init(&s);
	s.c.opts.own_thread = true;
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 1), VMBUS_E_STATE);
	client_open(&s.c);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 1), 0);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 0), 0); /* and armed, all the same */
	s.p->signal_fails = 3;
	for (n = 1; n <= 100; n++) {
		must_eq(client_request(&s.c, &n, 8, NULL), 0);
		/* The thread gives the signal again, and does not sleep meanwhile. */
		while (s.p->signal_fails)
			must_eq(vmbus_vsc_dispatch(s.c.vsc, 10), 1);
		must_eq(vmbus_vsc_dispatch(s.c.vsc, 10), 0);
		parent_settle(s.p);
		must_eq(s.c.wakes, n);
		must_eq(s.c.completed, n - 1);
		must_eq(vmbus_vsc_dispatch(s.c.vsc, 10), 1);
		must_eq(s.c.completed, n);
	}
	s.chan->on_packet = parent_ignore;
	must_eq(client_request(&s.c, &n, 8, NULL), 0);
	must_eq(vmbus_vsc_close(s.c.vsc), 0);
	must_eq(client_send(&s.c, &n, 8), 1); /* the thread has not heard of it */
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), VMBUS_E_AGAIN);
	must_eq(s.c.wakes, 101);
	must(vmbus_guest_timeout(s.p->guest) <= 1000000);
	must_eq(s.c.ended, 0);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 10), VMBUS_E_STATE);
	must_eq(s.c.ended, 1);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 10), VMBUS_E_STATE);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), 0);
	must_eq(s.c.closed, 1);
	/* The same when the parent withdraws it. */
	client_open(&s.c);
	must_eq(vmbus_srv_revoke(s.p->srv, s.chan->ref), 0);
	while (vmbus_guest_dispatch(s.p->guest, 16) || parent_turn(s.p))
		;
	must_eq(s.c.closed, 1);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 10), VMBUS_E_STATE);
	parent_settle(s.p);
	must_eq(s.c.closed, 2);
	must_eq(s.p->gone, 1);
	parent_free(s.p, 0);
}
END_TEST

static void nested(struct client *c, void *cookie, const struct vmbus_packet *pkt)
{
	(void)cookie;
	if (pkt)
		must_eq(vmbus_vsc_dispatch(c->vsc, 1), VMBUS_E_STATE);
}

START_TEST(vsc_dispatch__not_from_a_callback)
{
	struct pair s;

	pair_init(&s);
	s.c.opts.own_thread = _i == 0;
	s.c.opts.poll = _i == 1;
	s.c.on_completed = nested;
	client_open(&s.c);
	must_eq(client_request(&s.c, "x", 1, NULL), 0);
	must_eq(client_request(&s.c, "y", 1, NULL), 0);
	parent_settle(s.p);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 8), 2);
	must_eq(s.c.completed, 2);
	parent_free(s.p, 34);
}
END_TEST

START_TEST(guest_destroy__ends_the_channel_of_a_thread)
{
	struct pair s;

	pair_init(&s);
	s.c.opts.own_thread = true;
	s.chan->on_packet = parent_ignore;
	client_open(&s.c);
	must_eq(client_request(&s.c, "x", 1, NULL), 0);
	parent_free(s.p, 34);
	must_eq(s.c.ended, 1);
	must_eq(s.c.closed, 1);
}
END_TEST

/* Destroyed at every step of an open: a thread that is told of the opening now would never come. */
START_TEST(guest_destroy__at_every_step_of_an_open_for_a_thread)
{
	struct pair s;
	int steps, i;
	bool open = false;

	for (steps = 0; !open; steps++) {
		must(steps < 200);
		pair_init(&s);
		if (_i & 1)
			s.p->backend.leave_ns = PARENT_SECOND;
		s.p->mailbox = (_i & 2) != 0;
		s.c.opts.own_thread = true;
		must_eq(client_begin(&s.c), 0);
		for (i = 0; i < steps; i++)
			if (vmbus_guest_dispatch(s.p->guest, 1) == 0)
				(void)parent_turn(s.p);
		open = s.c.opened != 0;
		parent_free(s.p, PARENT_ANY);
		must_eq(s.c.opened, open);
		must_eq(s.c.closed, s.c.opened);
		must_eq(s.c.failed, !open);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "fair", 20);

	tcase_add_test(tc, lesson_15_a_flood_starves_nobody);
	tcase_add_test(tc, lesson_15_a_flood_while_a_send_waits);
	tcase_add_test(tc, lesson_15_a_flood_of_messages);
	tcase_add_test(tc, guest_dispatch__keeps_its_budget);
	tc = vmbus_test_case(suite, "thread", 20);
	tcase_add_test(tc, vsc_dispatch__polls);
	tcase_add_test(tc, vsc_dispatch__of_a_channel_that_the_guest_dispatches);
	tcase_add_test(tc, vsc_dispatch__of_a_thread_of_its_own);
	tcase_add_loop_test(tc, vsc_dispatch__not_from_a_callback, 0, 2);
	tcase_add_test(tc, guest_destroy__ends_the_channel_of_a_thread);
	tcase_add_loop_test(tc, guest_destroy__at_every_step_of_an_open_for_a_thread, 0, 4);
}
VMBUS_TEST_MAIN("guest.fair", tests)
