/* SPDX-License-Identifier: MIT */
/* What devices need besides packets: batches, giving a channel up, page numbers, sub-channels. */
#include "client.h"

START_TEST(vsc_hold__publishes_with_flush)
{
	struct pair s;
	unsigned long signals;
	uint32_t i;

	pair_init(&s);
	client_open(&s.c);
	parent_settle(s.p);
	must_eq(vmbus_vsc_flush(s.c.vsc), 0); /* nothing is held */
	signals = client_info(&s.c).send.signals;
	must_eq(vmbus_vsc_hold(s.c.vsc), 1);
	must_eq(vmbus_vsc_hold(s.c.vsc), 0); /* once is enough */
	for (i = 0; i < 10; i++) {
		must_eq(client_request(&s.c, &i, 4, NULL), 0);
		must_eq(client_send(&s.c, &i, 4), 1);
	}
	must_eq(client_info(&s.c).send.signals, signals);
	must_eq(client_info(&s.c).send.packets, 0);
	must_eq(vmbus_vsc_flush(s.c.vsc), 0);
	must_eq(client_info(&s.c).send.packets, 20);
	must_eq(client_info(&s.c).send.batches, 1);
	must_eq(client_info(&s.c).send.signals, signals + 1);
	/* Each call publishes again. */
	must_eq(client_request(&s.c, &i, 4, NULL), 0);
	must_eq(client_info(&s.c).send.packets, 21);
	parent_settle(s.p);
	must_eq(s.c.completed, 11);
	client_close(&s.c);
	must_eq(vmbus_vsc_hold(s.c.vsc), VMBUS_E_STATE);
	parent_free(s.p, 0);
}
END_TEST

static void hold_in_call(struct client *c, void *cookie, const struct vmbus_packet *pkt)
{
	(void)cookie;
	(void)pkt;
	must_eq(vmbus_vsc_hold(c->vsc), 0);
}

/* What is held when a callback comes goes out with it; in a callback there is nothing to hold. */
START_TEST(vsc_hold__ends_with_a_callback)
{
	struct pair s;

	pair_init(&s);
	s.c.on_completed = hold_in_call;
	client_open(&s.c);
	must_eq(client_request(&s.c, "1", 1, NULL), 0);
	must_eq(vmbus_vsc_hold(s.c.vsc), 1);
	must_eq(client_request(&s.c, "2", 1, NULL), 0);
	must_eq(client_info(&s.c).send.packets, 1);
	parent_settle(s.p);
	must_eq(s.c.completed, 2);
	must_eq(client_request(&s.c, "3", 1, NULL), 0);
	must_eq(client_info(&s.c).send.packets, 3);
	must_eq(vmbus_vsc_flush(s.c.vsc), 0);
	parent_settle(s.p);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* FULL while held: what was sent before goes out, since nothing else makes room. */
START_TEST(vsc_hold__goes_out_when_full)
{
	struct pair s;
	uint64_t n = 0;

	pair_init(&s);
	s.c.opts.send_bytes = 4096;
	s.c.opts.requests_max = 1000;
	client_open(&s.c);
	must_eq(vmbus_vsc_hold(s.c.vsc), 1);
	while (client_request(&s.c, &n, 8, NULL) == 0)
		n++;
	must(n > 10);
	must_eq(client_info(&s.c).send.packets, n);
	parent_settle(s.p);
	must_eq(s.c.completed, n);
	must_eq(s.c.writable, 1);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* What is held does not keep the dispatch from asking for the room that a send waits for. */
START_TEST(vsc_hold__room_is_told_all_the_same)
{
	static const uint8_t data[1000];
	struct pair s;

	pair_init(&s);
	s.c.opts.send_bytes = 4096;
	s.c.opts.own_thread = _i != 0;
	s.chan->on_packet = NULL; /* reads nothing yet */
	client_open(&s.c);
	must_eq(vmbus_vsc_hold(s.c.vsc), 1);
	while (client_send(&s.c, data, sizeof(data)) == 1)
		;
	must_eq(client_send(&s.c, data, 8), 1); /* it has room, and is held */
	s.chan->on_packet = parent_ignore;
	s.chan->signalled = true;
	parent_settle(s.p);
	if (_i) /* its thread was woken */
		must(vmbus_vsc_dispatch(s.c.vsc, 64) >= 0);
	must_eq(s.c.writable, 1);
	must_eq(vmbus_vsc_flush(s.c.vsc), 0);
	parent_settle(s.p);
	must_eq(s.chan->packets, 4);
	must_eq(vmbus_vsc_close(s.c.vsc), 0);
	if (_i) {
		must(vmbus_guest_dispatch(s.p->guest, 64) >= 0);
		must_eq(vmbus_vsc_dispatch(s.c.vsc, 64), VMBUS_E_STATE);
	}
	parent_settle(s.p);
	must_eq(s.c.closed, 1);
	parent_free(s.p, 0);
}
END_TEST

static void fail_it(struct client *c, const struct vmbus_packet *pkt)
{
	(void)pkt;
	must_eq(vmbus_vsc_fail(c->vsc, "the device made no sense"), 0);
	must_eq(vmbus_vsc_fail(c->vsc, "and again"), VMBUS_E_STATE);
	must_eq(client_send(c, "x", 1), VMBUS_E_FAULT);
}

static void fail_completed(struct client *c, void *cookie, const struct vmbus_packet *pkt)
{
	(void)cookie;
	if (pkt)
		fail_it(c, pkt);
}

START_TEST(vsc_fail__ends_the_channel)
{
	struct pair s;

	pair_init(&s);
	s.c.on_completed = fail_completed;
	client_open(&s.c);
	must_eq(vmbus_vsc_fail(s.c.vsc, NULL), 0); /* without words, outside of a callback */
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), 0);
	must_eq(s.c.closed, 1);
	must(strstr(s.p->last_line, "given up") != NULL);
	must_eq(vmbus_vsc_fail(s.c.vsc, "x"), VMBUS_E_STATE);
	client_open(&s.c);
	must_eq(client_request(&s.c, "1", 1, NULL), 0);
	must_eq(client_request(&s.c, "2", 1, NULL), 0);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), 0);
	must_eq(s.c.closed, 2);
	must_eq(s.c.completed, 1);
	must_eq(s.c.ended, 1);
	must(strstr(s.p->last_line, "the device made no sense") != NULL);
	/* It may be opened again. */
	s.c.on_completed = NULL;
	client_open(&s.c);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* With a thread of its own that leaves the channel. */
START_TEST(vsc_fail__ends_the_thread)
{
	struct pair s;

	pair_init(&s);
	s.c.opts.own_thread = true;
	client_open(&s.c);
	must_eq(vmbus_vsc_fail(s.c.vsc, "the device made no sense"), 0);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 1), VMBUS_E_PEER);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 1), VMBUS_E_STATE);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), 0);
	must_eq(s.c.closed, 1);
	must(strstr(s.p->last_line, "the device made no sense") != NULL);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_pfn__is_the_page)
{
	struct pair s;
	uint8_t *pages;
	uint32_t i;

	pair_init(&s);
	pages = vmbus_guest_pages(s.p->guest, 3);
	for (i = 0; i < 3 * 4096; i += 511)
		must_eq(vmbus_vsc_pfn(s.c.vsc, pages + i),
			child_pfn(&s.p->mem, pages + i / 4096 * 4096));
	vmbus_guest_pages_free(s.p->guest, pages, 3);
	parent_free(s.p, 0);
}
END_TEST

static unsigned long subs;
static struct vmbus_vsc *last_sub;

static void told(struct vmbus_vsc *vsc, struct vmbus_vsc *sub)
{
	must(vmbus_vsc_priv(vsc) != NULL);
	must(vmbus_vsc_subchannel(vsc, (uint32_t)subs + 1) == sub);
	subs++;
	last_sub = sub;
}

/* Sub-channels of its own device, while it is open or opening. */
START_TEST(vsc_open__tells_of_subchannels)
{
	struct pair s;

	subs = 0;
	pair_init(&s);
	s.c.opts.subchannel = told;
	(void)parent_offer(s.p, 2);
	(void)parent_offer_sub(s.p, 2, 1); /* another device's */
	parent_settle(s.p);
	must_eq(subs, 0);
	must_eq(client_begin(&s.c), 0);
	(void)parent_offer_sub(s.p, 1, 1);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OPEN, PARENT_SECOND), 0);
	parent_settle(s.p);
	must_eq(subs, 1);
	(void)parent_offer_sub(s.p, 1, 2);
	parent_settle(s.p);
	must_eq(subs, 2);
	must_eq(vmbus_vsc_state(last_sub), VMBUS_VSC_OFFERED);
	client_close(&s.c);
	(void)parent_offer_sub(s.p, 1, 3);
	parent_settle(s.p);
	must_eq(subs, 2);
	parent_free(s.p, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "hold", 30);

	tcase_add_test(tc, vsc_hold__publishes_with_flush);
	tcase_add_test(tc, vsc_hold__ends_with_a_callback);
	tcase_add_test(tc, vsc_hold__goes_out_when_full);
	tcase_add_loop_test(tc, vsc_hold__room_is_told_all_the_same, 0, 2);
	tc = vmbus_test_case(suite, "fail", 30);
	tcase_add_test(tc, vsc_fail__ends_the_channel);
	tcase_add_test(tc, vsc_fail__ends_the_thread);
	tc = vmbus_test_case(suite, "pages", 30);
	tcase_add_test(tc, vsc_pfn__is_the_page);
	tc = vmbus_test_case(suite, "subchannels", 30);
	tcase_add_test(tc, vsc_open__tells_of_subchannels);
}

VMBUS_TEST_MAIN("guest.hold", tests)
