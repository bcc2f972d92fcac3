/* SPDX-License-Identifier: MIT */
/* Requests and their completions: the table, its ids, its end. */
#include "client.h"

/* ---- requests ---- */

/* [PKT-ID].  More requests than the table has entries: FULL, then writable(), and none is lost. */
START_TEST(lesson_14_a_full_table_is_back_pressure)
{
	struct pair s;
	uint64_t n = 0, round;
	int err;

	pair_init(&s);
	s.c.opts.requests_max = 7;
	client_open(&s.c);
	for (round = 1; round <= 100; round++) {
		while ((err = client_request(&s.c, &n, 8, NULL)) == 0)
			n++;
		must_eq(err, VMBUS_E_FULL);
		must_eq(n, 7 * round);
		must_eq(client_info(&s.c).requests, 7);
		parent_settle(s.p);
		must_eq(s.c.completed, n);
		must_eq(s.c.writable, round);
	}
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_request__fills_the_largest_table)
{
	struct pair s;
	uint32_t n = 0;

	pair_init(&s);
	s.c.opts.requests_max = 65535;
	s.c.opts.send_bytes = 4u << 20;
	s.c.opts.recv_bytes = 4u << 20;
	client_open(&s.c);
	while (client_request(&s.c, &n, 0, NULL) == 0)
		n++;
	must_eq(n, 65535);
	parent_settle(s.p);
	must_eq(s.c.completed, 65535);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

static uint64_t last_id;

static void keep_id(struct parent_chan *chan, const struct vmbus_packet *pkt)
{
	(void)chan;
	last_id = pkt->id;
}

static void complete_id(struct parent_chan *chan, uint64_t id)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_COMPLETION, .id = id };

	must_eq(vmbus_ring_tx_put(&chan->tx, &msg, 1), 1);
}

/* [PKT-ID]: an id is echoed once, and 0 is nobody's. */
START_TEST(lesson_12_unknown_zero_and_repeated_ids_are_counted)
{
	struct pair s;
	uint64_t first;

	pair_init(&s);
	s.chan->on_packet = keep_id;
	client_open(&s.c);
	must_eq(client_request(&s.c, "1", 1, NULL), 0);
	parent_settle(s.p);
	first = last_id;
	must(first != 0);
	complete_id(s.chan, 0);
	complete_id(s.chan, first + 1);
	complete_id(s.chan, first ^ 1ull << 40);
	complete_id(s.chan, first ^ 1ull << 16);
	complete_id(s.chan, UINT64_MAX);
	complete_id(s.chan, first & 0xFFFF);
	parent_settle(s.p);
	must_eq(s.c.completed, 0);
	must_eq(client_info(&s.c).bad_completions, 6);
	complete_id(s.chan, first);
	complete_id(s.chan, first); /* repeated */
	parent_settle(s.p);
	must_eq(s.c.completed, 1);
	must_eq(client_info(&s.c).bad_completions, 7);
	/* A late answer does not fit the next user of the entry, nor the next opening. */
	must_eq(client_request(&s.c, "2", 1, NULL), 0);
	parent_settle(s.p);
	must(last_id != first);
	complete_id(s.chan, first);
	parent_settle(s.p);
	must_eq(s.c.completed, 1);
	client_close(&s.c);
	must_eq(s.c.ended, 1);
	client_open(&s.c);
	must_eq(client_request(&s.c, "3", 1, NULL), 0);
	parent_settle(s.p);
	must(last_id != first);
	complete_id(s.chan, first);
	parent_settle(s.p);
	must_eq(s.c.completed, 1);
	must_eq(client_info(&s.c).bad_completions, 1);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

static uint64_t ids[8];

static void keep_ids(struct parent_chan *chan, const struct vmbus_packet *pkt)
{
	ids[chan - chan->parent->chans] = pkt->id;
}

static void completed_cookie(struct client *c, void *cookie, const struct vmbus_packet *pkt)
{
	must(pkt != NULL);
	must_eq((uintptr_t)cookie, (uintptr_t)c);
}

/* A parent that answers on one channel with the id of another ends nobody's request. */
START_TEST(lesson_13_ids_are_unique_over_channels)
{
	struct parent *p = parent_new(0);
	struct client c[8];
	uint32_t i, j;

	for (i = 0; i < 8; i++)
		(void)parent_offer(p, (uint8_t)i);
	parent_connect(p);
	for (i = 0; i < 8; i++) {
		p->chans[i].on_packet = keep_ids;
		client_init(&c[i], p, vmbus_vsc_find(p->guest, &parent_class, i));
		c[i].on_completed = completed_cookie;
		client_open(&c[i]);
		must_eq(client_request(&c[i], "x", 1, &c[i]), 0);
	}
	parent_settle(p);
	for (i = 0; i < 8; i++)
		for (j = 0; j < 8; j++)
			must(i == j || ids[i] != ids[j]);
	for (i = 0; i < 8; i++)
		complete_id(&p->chans[i], ids[(i + 1) % 8]);
	parent_settle(p);
	for (i = 0; i < 8; i++) {
		must_eq(c[i].completed, 0);
		must_eq(client_info(&c[i]).bad_completions, 1);
		complete_id(&p->chans[i], ids[i]);
	}
	parent_settle(p);
	for (i = 0; i < 8; i++)
		must_eq(c[i].completed, 1);
	must_eq(vmbus_guest_disconnect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), 0);
	parent_free(p, 0);
}
END_TEST

static void completed_request(struct client *c, void *cookie, const struct vmbus_packet *pkt)
{
	const uintptr_t n = (uintptr_t)cookie;

	must(pkt != NULL);
	if (n)
		must_eq(client_request(c, &n, 8, (void *)(n - 1)), 0);
}

START_TEST(vsc_request__within_completed)
{
	struct pair s;

	pair_init(&s);
	s.c.opts.requests_max = 1; /* the entry is free again when the callback comes */
	s.c.on_completed = completed_request;
	client_open(&s.c);
	must_eq(client_request(&s.c, "12345678", 8, (void *)(uintptr_t)500), 0);
	parent_settle(s.p);
	must_eq(s.c.completed, 501);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_request__without_callbacks)
{
	struct pair s;
	const struct vmbus_vsc_opts none = { .struct_bytes = sizeof(none) };
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };

	pair_init(&s);
	must_eq(vmbus_vsc_open(s.c.vsc, &none), 0);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OPEN, PARENT_SECOND), 0);
	must(vmbus_vsc_priv(s.c.vsc) == NULL);
	must_eq(vmbus_vsc_request(s.c.vsc, &msg, NULL), 0);
	must_eq(vmbus_vsc_send(s.c.vsc, &msg, 1), 1);
	parent_settle(s.p);
	must_eq(client_info(&s.c).requests, 0);
	while (vmbus_vsc_request(s.c.vsc, &msg, NULL) == 0)
		;
	must_eq(vmbus_vsc_close(s.c.vsc), 0);
	parent_settle(s.p);
	must_eq(vmbus_vsc_state(s.c.vsc), VMBUS_VSC_OFFERED);
	parent_free(s.p, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "request", 20);

	tcase_add_test(tc, lesson_14_a_full_table_is_back_pressure);
	tcase_add_test(tc, vsc_request__fills_the_largest_table);
	tcase_add_test(tc, lesson_12_unknown_zero_and_repeated_ids_are_counted);
	tcase_add_test(tc, lesson_13_ids_are_unique_over_channels);
	tcase_add_test(tc, vsc_request__within_completed);
	tcase_add_test(tc, vsc_request__without_callbacks);
}
VMBUS_TEST_MAIN("guest.request", tests)
