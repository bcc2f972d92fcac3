/* SPDX-License-Identifier: MIT */
/* The life of a channel: open, close, again; refusals; lack of memory; another VP. */
#include "client.h"

/* [CTL-OPEN], [CTL-CLOSE] */
START_TEST(vsc_open__opens_and_closes)
{
	struct pair s;
	struct vmbus_vsc_info info;
	const uint64_t text = 0x1122334455667788;

	pair_init(&s);
	s.c.opts.user[0] = 42;
	s.c.opts.user[119] = 43;
	s.c.opts.target_vp = 3;
	must_eq(vmbus_vsc_state(s.c.vsc), VMBUS_VSC_OFFERED);
	must_eq(client_begin(&s.c), 0);
	must_eq(vmbus_vsc_state(s.c.vsc), VMBUS_VSC_OPENING);
	must_eq(client_send(&s.c, &text, 8), VMBUS_E_STATE);
	must_eq(vmbus_vsc_open(s.c.vsc, &s.c.opts), VMBUS_E_STATE);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OPEN, PARENT_SECOND), 0);
	must_eq(s.c.opened, 1);
	must(s.chan->is_open);
	must_eq(s.chan->open.user[0], 42);
	must_eq(s.chan->open.user[119], 43);
	must_eq(s.chan->open.target_vp, 3);
	must_eq(s.chan->recv_bytes, 65536);
	must_eq(s.chan->send_bytes, 65536);
	must_eq(s.p->mem.mirrors, 2);
	must_eq(s.p->mem.shared_pages, 34);
	must(vmbus_vsc_guest(s.c.vsc) == s.p->guest);
	vmbus_vsc_info(s.c.vsc, &info);
	must_eq(info.state, VMBUS_VSC_OPEN);
	must_eq(info.offer.relid, s.chan->relid);
	must_eq(client_request(&s.c, &text, 8, NULL), 0);
	vmbus_vsc_info(s.c.vsc, &info);
	must_eq(info.requests, 1);
	parent_settle(s.p);
	must_eq(s.c.completed, 1);
	client_close(&s.c);
	must(!s.chan->is_open);
	must_eq(s.c.closed, 1);
	must_eq(s.p->mem.shared_pages, 0);
	must_eq(s.p->mem.mirrors, 0);
	must_eq(vmbus_vsc_close(s.c.vsc), VMBUS_E_STATE);
	must_eq(client_send(&s.c, &text, 8), VMBUS_E_STATE);
	must_eq(vmbus_vsc_flush(s.c.vsc), VMBUS_E_STATE);
	must_eq(vmbus_vsc_complete(s.c.vsc, 1, NULL, 0), VMBUS_E_STATE);
	must_eq(client_request(&s.c, &text, 8, NULL), VMBUS_E_STATE);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 1), VMBUS_E_STATE);
	must_eq(vmbus_vsc_set_vp(s.c.vsc, 1), VMBUS_E_STATE);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_open__refuses_what_cannot_be)
{
	static const uint32_t sizes[] = { 1, 4095, 4097, 8190 * 4096u, 0xFFFFF000u };
	struct pair s;
	struct vmbus_vsc_opts good;
	uint32_t i;

	pair_init(&s);
	good = s.c.opts;
	s.c.opts.struct_bytes--;
	must_eq(client_begin(&s.c), VMBUS_E_INVAL);
	for (i = 0; i < 5; i++) {
		s.c.opts = good;
		s.c.opts.send_bytes = sizes[i];
		must_eq(client_begin(&s.c), VMBUS_E_RANGE);
		s.c.opts = good;
		s.c.opts.recv_bytes = sizes[i];
		must_eq(client_begin(&s.c), VMBUS_E_RANGE);
	}
	s.c.opts = good;
	s.c.opts.send_bytes = 8184 * 4096u;
	s.c.opts.recv_bytes = 5 * 4096u;
	must_eq(client_begin(&s.c), VMBUS_E_RANGE);
	s.c.opts = good;
	s.c.opts.requests_max = 65536;
	must_eq(client_begin(&s.c), VMBUS_E_RANGE);
	must_eq(s.p->mem.shared_pages, 0);
	s.c.opts = good;
	client_open(&s.c);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* Every ring size that differs in the number of messages that describe it, and the largest. */
START_TEST(vsc_open__takes_every_size)
{
	static const uint32_t pages[] = { 1, 2, 11, 12, 13, 25, 26, 27, 40, 512, 2048 };
	struct pair s;
	uint32_t i;

	pair_init(&s);
	for (i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		s.c.opts.send_bytes = pages[i] * 4096u;
		s.c.opts.recv_bytes = pages[sizeof(pages) / sizeof(pages[0]) - 1 - i] * 4096u;
		client_open(&s.c);
		must_eq(s.chan->recv_bytes, s.c.opts.send_bytes);
		must_eq(s.chan->send_bytes, s.c.opts.recv_bytes);
		client_close(&s.c);
	}
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_open__a_thousand_times_without_growth)
{
	struct pair s;
	size_t private_pages;
	unsigned long posts = 0;
	int i;

	pair_init(&s);
	private_pages = s.p->mem.private_pages;
	for (i = 0; i < 1000; i++) {
		const uint64_t n = (uint64_t)i;

		client_open(&s.c);
		must_eq(client_request(&s.c, &n, 8, NULL), 0);
		parent_settle(s.p);
		must_eq(s.c.completed, (unsigned long)i + 1);
		client_close(&s.c);
		must_eq(s.p->mem.shared_pages, 0);
		must_eq(s.p->mem.private_pages, private_pages);
		if (i == 0)
			posts = s.p->posts;
	}
	must_eq(s.p->posts - posts, 999 * (posts - 2));
	parent_free(s.p, 0);
}
END_TEST

/* The statuses that parents are known to refuse with are told by name, others by their number. */
START_TEST(vsc_open__tells_why_it_was_refused)
{
	static const struct {
		uint32_t status;
		const char *text;
	} statuses[] = {
		{ 0x80000005u, "status 0x80000005 (buffer overflow)" },
		{ 0x8000FFFFu, "status 0x8000ffff (catastrophic failure)" },
		{ 0xC0000001u, "status 0xc0000001 (unsuccessful)" },
		{ 0xC000000Du, "status 0xc000000d (invalid parameter)" },
		{ 0xC000009Au, "status 0xc000009a (insufficient resources)" },
		{ 0xC000FFFFu, "status 0xc000ffff" },
	};
	struct pair s;
	uint32_t i;

	pair_init(&s);
	for (i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		s.chan->open_status = statuses[i].status;
		must_eq(client_begin(&s.c), 0);
		must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OPEN, PARENT_SECOND), VMBUS_E_PEER);
		if (!strstr(s.p->last_line, statuses[i].text))
			ck_abort_msg("%s: %s", statuses[i].text, s.p->last_line);
		must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), 0);
	}
	must(strchr(s.p->last_line, '(') == NULL);
	s.chan->open_status = 0;
	client_open(&s.c);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_open__may_be_refused)
{
	struct pair s;

	pair_init(&s);
	s.chan->open_status = VMBUS_STATUS_FAILED;
	must_eq(client_begin(&s.c), 0);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OPEN, PARENT_SECOND), VMBUS_E_PEER);
	must_eq(s.c.failed, 1);
	must_eq(s.c.err, VMBUS_E_PEER);
	must_eq(s.p->lines, 1);
	must_eq(s.p->mem.shared_pages, 0);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), 0);
	s.chan->open_status = 0;
	client_open(&s.c);
	client_close(&s.c);
	s.p->gpadl_status = VMBUS_STATUS_FAILED;
	must_eq(client_begin(&s.c), 0);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OPEN, PARENT_SECOND), VMBUS_E_PEER);
	must_eq(s.c.failed, 2);
	must_eq(s.c.err, VMBUS_E_PEER);
	s.p->gpadl_status = 0;
	client_open(&s.c);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_open__lacks_memory_at_every_call)
{
	struct pair s;
	unsigned long n;

	pair_init(&s);
	for (n = 1; n <= 2; n++) {
		s.p->mem.fail_at = s.p->mem.allocs + n;
		must_eq(client_begin(&s.c), VMBUS_E_NOMEM);
		must_eq(s.p->mem.shared_pages, 0);
		must_eq(vmbus_vsc_state(s.c.vsc), VMBUS_VSC_OFFERED);
	}
	client_open(&s.c);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_open__without_mirrors)
{
	struct pair s;
	uint64_t n;

	pair_init(&s);
	s.p->mem.no_mirror = true;
	if (_i) {
		s.p->backend.mirror = NULL;
		s.p->backend.unmirror = NULL;
	}
	s.c.opts.send_bytes = 4096;
	s.c.opts.recv_bytes = 4096;
	client_open(&s.c);
	must_eq(s.p->mem.mirrors, 0);
	for (n = 0; n < 1000; n++) {
		uint64_t data[5] = { n, n, n, n, n };

		must_eq(client_request(&s.c, data, sizeof(data), NULL), 0);
		parent_settle(s.p);
	}
	must_eq(s.c.completed, 1000);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_open__lists_may_be_used_up)
{
	struct parent *p = parent_new(0);
	struct vmbus_guest_opts opts = parent_guest_opts(p);
	struct client a, b;

	vmbus_guest_destroy(p->guest);
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.gpadls_max = 1;
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
	(void)parent_offer(p, 1);
	(void)parent_offer(p, 2);
	parent_connect(p);
	client_init(&a, p, vmbus_vsc_find(p->guest, &parent_class, 0));
	client_init(&b, p, vmbus_vsc_find(p->guest, &parent_class, 1));
	client_open(&a);
	must_eq(client_begin(&b), 0);
	must_eq(vmbus_vsc_wait(b.vsc, VMBUS_VSC_OPEN, PARENT_SECOND), VMBUS_E_PEER);
	must_eq(b.err, VMBUS_E_FULL);
	client_close(&a);
	client_open(&b);
	client_close(&b);
	parent_free(p, 0);
}
END_TEST

/* Many channels at once through a queue of two messages: nothing is dropped. */
START_TEST(vsc_open__waits_for_the_machines_queue)
{
	struct parent *p = parent_new(0);
	struct vmbus_guest_opts opts = parent_guest_opts(p);
	struct client c[40];
	uint32_t i, round;

	vmbus_guest_destroy(p->guest);
	opts.limits.struct_bytes = sizeof(opts.limits);
	opts.limits.queue_max = 2;
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
	for (i = 0; i < 40; i++)
		(void)parent_offer(p, (uint8_t)i);
	parent_connect(p);
	for (i = 0; i < 40; i++)
		client_init(&c[i], p, vmbus_vsc_find(p->guest, &parent_class, i));
	for (round = 1; round <= 3; round++) {
		p->post_status = 0x13;
		p->post_status_times = 5;
		for (i = 0; i < 40; i++)
			must_eq(client_begin(&c[i]), 0);
		parent_settle(p);
		for (i = 0; i < 40; i++)
			must_eq(c[i].opened, round);
		for (i = 0; i < 40; i++)
			must_eq(vmbus_vsc_close(c[i].vsc), 0);
		parent_settle(p);
		for (i = 0; i < 40; i++)
			must_eq(c[i].closed, round);
		must_eq(p->mem.shared_pages, 0);
	}
	parent_free(p, 0);
}
END_TEST

/* ---- close at other times ---- */

static void close_it(struct client *c)
{
	must_eq(vmbus_vsc_close(c->vsc), 0);
	must_eq(vmbus_vsc_close(c->vsc), VMBUS_E_STATE);
	must_eq(vmbus_vsc_state(c->vsc), VMBUS_VSC_CLOSING);
}

/* Dispatch one unit of work at a time; _i of them, then close. */
START_TEST(vsc_close__at_every_step_of_an_open)
{
	struct pair s;
	int i;

	pair_init(&s);
	must_eq(client_begin(&s.c), 0);
	for (i = 0; i < _i; i++)
		if (vmbus_guest_dispatch(s.p->guest, 1) == 0)
			(void)parent_turn(s.p);
	close_it(&s.c);
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), 0);
	must_eq(s.c.opened + s.c.failed, 1);
	must_eq(s.c.closed, s.c.opened);
	if (s.c.failed)
		must_eq(s.c.err, VMBUS_E_STATE);
	must_eq(s.p->mem.shared_pages, 0);
	client_open(&s.c);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

static void opened_close(struct client *c, int err)
{
	must_eq(err, 0);
	close_it(c);
}

START_TEST(vsc_close__within_opened)
{
	struct pair s;

	pair_init(&s);
	s.c.on_opened = opened_close;
	must_eq(client_begin(&s.c), 0);
	parent_settle(s.p);
	must_eq(s.c.closed, 1);
	parent_free(s.p, 0);
}
END_TEST

static void packet_close(struct client *c, const struct vmbus_packet *pkt)
{
	(void)pkt;
	if (vmbus_vsc_state(c->vsc) == VMBUS_VSC_OPEN)
		close_it(c);
}

START_TEST(vsc_close__within_packets)
{
	struct pair s;
	uint64_t n;

	pair_init(&s);
	s.c.on_packet = packet_close;
	client_open(&s.c);
	for (n = 0; n < 100; n++) {
		if (n % 2)
			must_eq(client_send(&s.c, &n, 8), 1);
		else
			must_eq(client_request(&s.c, &n, 8, NULL), 0);
	}
	parent_settle(s.p);
	must_eq(s.c.packets, 1);
	must_eq(s.c.closed, 1);
	must_eq(s.c.completed, 1);
	must_eq(s.c.ended, 49);
	parent_free(s.p, 0);
}
END_TEST

static void completed_close(struct client *c, void *cookie, const struct vmbus_packet *pkt)
{
	(void)cookie;
	if (pkt)
		close_it(c);
	else
		must_eq(client_request(c, &cookie, 8, NULL), VMBUS_E_STATE);
}

START_TEST(vsc_close__within_completed)
{
	struct pair s;
	uint64_t n;

	pair_init(&s);
	s.c.on_completed = completed_close;
	client_open(&s.c);
	for (n = 0; n < 256; n++)
		must_eq(client_request(&s.c, &n, 8, NULL), 0);
	parent_settle(s.p);
	must_eq(s.c.completed, 1);
	must_eq(s.c.ended, 255);
	must_eq(s.c.closed, 1);
	parent_free(s.p, 0);
}
END_TEST

static void closed_open(struct client *c)
{
	if (c->closed < 10)
		must_eq(client_begin(c), 0);
}

START_TEST(vsc_open__within_closed)
{
	struct pair s;

	pair_init(&s);
	s.c.on_closed = closed_open;
	s.c.on_opened = opened_close;
	must_eq(client_begin(&s.c), 0);
	parent_settle(s.p);
	must_eq(s.c.opened, 10);
	must_eq(s.c.closed, 10);
	parent_free(s.p, 0);
}
END_TEST

static struct client in_offer;

static void offered_open(struct parent *p, struct vmbus_vsc *vsc)
{
	client_init(&in_offer, p, vsc);
	must_eq(client_begin(&in_offer), 0);
	must_eq(vmbus_guest_dispatch(p->guest, 1), VMBUS_E_STATE);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, 1), VMBUS_E_STATE);
	must_eq(vmbus_vsc_wait(vsc, VMBUS_VSC_OPEN, 1), VMBUS_E_STATE);
	vmbus_guest_destroy(p->guest); /* ignored from a callback */
}

START_TEST(vsc_open__within_offered)
{
	struct parent *p = parent_new(0);

	p->on_offered = offered_open;
	(void)parent_offer(p, 1);
	parent_connect(p);
	parent_settle(p);
	must(in_offer.live);
	must_eq(vmbus_guest_disconnect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_IDLE, PARENT_SECOND), 0);
	must(!in_offer.live);
	must_eq(in_offer.closed, 1);
	parent_free(p, 0);
}
END_TEST

static unsigned long woken;

static void count_woken(void *ctx)
{
	(void)ctx;
	woken++;
}

/* Until the answer to the open, a flood of messages and so many packets of b wait for one dispatch. */
static void wait_in_a_flood(struct pair *s, struct client *b, struct parent_chan *chan, int packets)
{
	static const uint8_t nothing[8];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = nothing, .len = 8 };
	int i;

	client_open(b);
	parent_settle(s->p);
	s->c.opts.own_thread = true;
	must_eq(client_begin(&s->c), 0);
	while (!s->chan->is_open) {
		must(vmbus_guest_dispatch(s->p->guest, 64) >= 0);
		(void)parent_turn(s->p);
	}
	for (i = 0; i < 300; i++)
		parent_tell(s->p, nothing, sizeof(nothing));
	for (i = 0; i < packets; i++)
		must_eq(vmbus_ring_tx_put(&chan->tx, &msg, 1), 1);
	woken = 0;
	must_eq(vmbus_vsc_wait(s->c.vsc, VMBUS_VSC_OPEN, PARENT_SECOND), 0);
}

/* The wait took the wake-up for all that is there, and what it did not look at nobody else wakes for. */
START_TEST(vsc_wait__wakes_who_sleeps_next_for_what_it_left)
{
	struct parent_chan *chan;
	struct client b;
	struct pair s;
	int packets, unseen = 0;

	for (packets = 0; packets < 64; packets++) {
		pair_init(&s);
		s.p->backend.wake = count_woken;
		chan = parent_offer(s.p, 2);
		parent_settle(s.p);
		client_init(&b, s.p, vmbus_vsc_find(s.p->guest, &parent_class, 1));
		wait_in_a_flood(&s, &b, chan, packets);
		must(s.p->inbox_count > 0);
		must_eq(woken, 1);
		unseen += vmbus_guest_timeout(s.p->guest) == UINT64_MAX;
		parent_settle(s.p);
		parent_free(s.p, PARENT_ANY);
	}
	must(unseen > 0);
}
END_TEST

START_TEST(vsc_wait__needs_a_backend_that_can_idle)
{
	struct pair s;

	pair_init(&s);
	s.p->backend.idle = NULL;
	must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OPEN, 1), VMBUS_E_NOTSUP);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_subchannel__is_found_by_its_index)
{
	struct parent *p = parent_new(0);
	struct vmbus_vsc *primary, *sub;
	struct vmbus_vsc_info info;

	(void)parent_offer(p, 1);
	(void)parent_offer(p, 2);
	parent_connect(p);
	(void)parent_offer_sub(p, 1, 1);
	(void)parent_offer_sub(p, 1, 2);
	(void)parent_offer_sub(p, 2, 1);
	parent_settle(p);
	must(vmbus_vsc_find(p->guest, &parent_class, 2) == NULL); /* primaries only */
	primary = vmbus_vsc_find(p->guest, &parent_class, 0);
	sub = vmbus_vsc_subchannel(primary, 2);
	must(sub != NULL);
	vmbus_vsc_info(sub, &info);
	must_eq(info.offer.sub_index, 2);
	must_eq(info.offer.instance_id.b[0], 1);
	must(vmbus_vsc_subchannel(sub, 1) != NULL);
	must(vmbus_vsc_subchannel(primary, 0) == NULL);
	must(vmbus_vsc_subchannel(primary, 3) == NULL);
	must(vmbus_vsc_subchannel(vmbus_vsc_find(p->guest, &parent_class, 1), 2) == NULL);
	parent_free(p, 0);
}
END_TEST

/* ---- another VP ---- */

/* [CTL-MODIFY] */
START_TEST(vsc_set_vp__moves_interrupts)
{
	struct pair s;

	pair_init(&s);
	client_open(&s.c);
	must_eq(vmbus_vsc_set_vp(s.c.vsc, VMBUS_VP_NONE), VMBUS_E_RANGE);
	must_eq(vmbus_vsc_set_vp(s.c.vsc, 2), 0);
	must_eq(vmbus_vsc_set_vp(s.c.vsc, 3), VMBUS_E_AGAIN);
	parent_settle(s.p);
	must_eq(vmbus_vsc_set_vp(s.c.vsc, 3), 0);
	parent_settle(s.p);
	must_eq(s.p->lines, 0);
	client_close(&s.c);
	s.c.opts.poll = true;
	client_open(&s.c);
	must_eq(vmbus_vsc_set_vp(s.c.vsc, 1), VMBUS_E_STATE);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_set_vp__needs_4_1)
{
	struct parent *p = parent_new(VMBUS_PROTO_4_0);
	struct client c;

	p->no_contact_port = true;
	(void)parent_offer(p, 1);
	parent_connect(p);
	client_init(&c, p, vmbus_vsc_find(p->guest, &parent_class, 0));
	client_open(&c);
	must_eq(vmbus_vsc_set_vp(c.vsc, 1), VMBUS_E_NOTSUP);
	client_close(&c);
	parent_free(p, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "open", 20);

	tcase_add_test(tc, vsc_open__opens_and_closes);
	tcase_add_test(tc, vsc_open__refuses_what_cannot_be);
	tcase_add_test(tc, vsc_open__takes_every_size);
	tcase_add_test(tc, vsc_open__a_thousand_times_without_growth);
	tcase_add_test(tc, vsc_open__tells_why_it_was_refused);
	tcase_add_test(tc, vsc_open__may_be_refused);
	tcase_add_test(tc, vsc_open__lacks_memory_at_every_call);
	tcase_add_loop_test(tc, vsc_open__without_mirrors, 0, 2);
	tcase_add_test(tc, vsc_open__lists_may_be_used_up);
	tcase_add_test(tc, vsc_open__waits_for_the_machines_queue);
	tcase_add_test(tc, vsc_open__within_closed);
	tcase_add_test(tc, vsc_open__within_offered);
	tc = vmbus_test_case(suite, "close", 20);
	tcase_add_loop_test(tc, vsc_close__at_every_step_of_an_open, 0, 24);
	tcase_add_test(tc, vsc_close__within_opened);
	tcase_add_test(tc, vsc_close__within_packets);
	tcase_add_test(tc, vsc_close__within_completed);
	tc = vmbus_test_case(suite, "find", 20);
	tcase_add_test(tc, vsc_subchannel__is_found_by_its_index);
	tc = vmbus_test_case(suite, "wait", 20);
	tcase_add_test(tc, vsc_wait__needs_a_backend_that_can_idle);
	tcase_add_test(tc, vsc_wait__wakes_who_sleeps_next_for_what_it_left);
	tc = vmbus_test_case(suite, "vp", 20);
	tcase_add_test(tc, vsc_set_vp__moves_interrupts);
	tcase_add_test(tc, vsc_set_vp__needs_4_1);
}
VMBUS_TEST_MAIN("guest.life", tests)
