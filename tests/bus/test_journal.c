/* SPDX-License-Identifier: MIT */
/*
 * Channels with a journal: what a device may do, what is published when, what is delivered again.
 * Openings are in test_journal_open.c, deaths at every moment in test_journal_kill.c, journals that
 * lie in test_journal_hostile.c.
 */
#include "journal_say.h"

/* ---- the calls by themselves ---- */

START_TEST(journal_bytes__counts_or_refuses)
{
	struct vmbus_vsp vsp = say_vsp;

	must_eq(vmbus_journal_bytes(&vsp), 192 + 4 * (64 + 64) + 128);
	vsp.own_bytes = 0;
	vsp.pending_bytes = 65;
	must_eq(vmbus_journal_bytes(&vsp), 192 + 4 * (64 + 128));
	vsp.pending_max = vsp.pending_bytes = 0;
	must_eq(vmbus_journal_bytes(&vsp), 192 + 64 * (64 + 1024));
	vsp.pending_max = 4096;
	must_eq(vmbus_journal_bytes(&vsp), 192 + 4096 * (64 + 1024));
	vsp.pending_max = 4097;
	must_eq(vmbus_journal_bytes(&vsp), 0);
	vsp.pending_max = 1;
	vsp.pending_bytes = 1 << 20;
	must_eq(vmbus_journal_bytes(&vsp), 192 + 64 + (1 << 20));
	vsp.pending_bytes++;
	must_eq(vmbus_journal_bytes(&vsp), 0);
	vsp.pending_bytes = 1 << 20;
	vsp.pending_max = 256; /* 256 MiB in all */
	must_eq(vmbus_journal_bytes(&vsp), 0);
	vsp.pending_max = 255;
	must(vmbus_journal_bytes(&vsp) > 0);
	vsp.own_bytes = 1 << 16;
	must(vmbus_journal_bytes(&vsp) > 0);
	vsp.own_bytes++;
	must_eq(vmbus_journal_bytes(&vsp), 0);
	vsp = say_vsp;
	vsp.flags = 0;
	must_eq(vmbus_journal_bytes(&vsp), 0);
}
END_TEST

START_TEST(chan_set_journal__errors)
{
	static struct sbox s;
	static const struct vmbus_vsp *const other = &fake_echo_vsp;
	struct vmbus_chan *chan;

	sbox_new(&s);
	chan = fake_offer(&s.b.f, other, &s.say, 1);
	fake_expect(&s.b.f, VMBUS_CTL_OFFER, NULL);
	must_eq(vmbus_chan_set_journal(chan, s.b.journal, s.b.journal_bytes), VMBUS_E_INVAL);
	must_eq(vmbus_chan_set_journal(chan, NULL, 0), 0);
	chan = s.b.chan;
	must_eq(vmbus_chan_set_journal(chan, s.b.journal + 8, s.b.journal_bytes), VMBUS_E_INVAL);
	must_eq(vmbus_chan_set_journal(chan, s.b.journal, s.b.journal_bytes - 1), VMBUS_E_RANGE);
	must_eq(vmbus_chan_set_journal(chan, NULL, 0), 0);
	must_eq(vmbus_chan_set_journal(chan, s.b.journal, s.b.journal_bytes), 0);
	must_eq(vmbus_chan_set_journal(chan, s.b.journal, s.b.journal_bytes), 0);
	sbox_open(&s);
	must_eq(vmbus_chan_set_journal(chan, s.b.journal, s.b.journal_bytes), VMBUS_E_STATE);
	fake_close(&s.b.f, &s.b.c);
	must_eq(vmbus_chan_set_journal(chan, s.b.journal, s.b.journal_bytes), 0);
	jb_free(&s.b);
}
END_TEST

static void set_in_callback(struct say *say, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)pkt;
	(void)n;
	say->err[0] = vmbus_chan_set_journal(say->chan, NULL, 0);
}

START_TEST(chan_set_journal__not_in_a_callback)
{
	static struct sbox s;

	sbox_new(&s);
	s.say.on_packets = set_in_callback;
	sbox_open(&s);
	sbox_send(&s, 1, 1);
	sbox_run(&s);
	must_eq(s.say.calls, 1);
	must_eq(s.say.err[0], VMBUS_E_STATE);
	jb_free(&s.b);
}
END_TEST

/* Without a journal the calls do nothing, and a callback may publish before its end. */
START_TEST(chan_pend__without_a_journal)
{
	static struct sbox s;

	sbox_new(&s);
	must_eq(vmbus_chan_set_journal(s.b.chan, NULL, 0), 0);
	s.say.keep = ~0u;
	sbox_open(&s);
	must_eq(s.say.resumed, false);
	must(vmbus_chan_own(s.b.chan) == NULL);
	sbox_send(&s, 1, 20);
	sbox_run(&s);
	must_eq(s.say.packets, 20);
	must_eq(s.say.most, 20);
	must_eq(s.say.err[0], 0);
	vmbus_chan_pend_done(s.b.chan, 1);
	must_eq(vmbus_chan_complete(s.b.chan, 1, NULL, 0), 0);
	sbox_get(&s, 1, 1);
	jb_free(&s.b);
}
END_TEST

static void pend_wrong(struct say *say, const struct vmbus_packet *pkt, uint32_t n)
{
	const struct vmbus_packet copy = pkt[0];

	say->err[10] = vmbus_chan_pend(say->chan, &copy);
	say->err[11] = vmbus_chan_pend(say->chan, pkt + n);
	say->err[12] = vmbus_chan_pend(say->chan, pkt - 1);
	say->err[13] = vmbus_chan_pend(
		say->chan, (const struct vmbus_packet *)(const void *)((const uint8_t *)pkt + 8));
	say->kept = pkt;
}

START_TEST(chan_pend__errors)
{
	static struct sbox s;
	uint8_t large[72] = { 0 };

	sbox_new(&s);
	s.say.keep = 3;
	s.say.on_packets = pend_wrong;
	sbox_open(&s);
	must_eq(fake_send(&s.b.c, 1, large, 64), 1);
	must_eq(fake_send(&s.b.c, 2, large, 72), 1);
	sbox_run(&s);
	must_eq(s.say.err[0], 0);
	must_eq(s.say.err[1], VMBUS_E_RANGE);
	must_eq(s.say.err[10], VMBUS_E_INVAL);
	must_eq(s.say.err[11], VMBUS_E_INVAL);
	must_eq(s.say.err[12], VMBUS_E_INVAL);
	must_eq(s.say.err[13], VMBUS_E_INVAL);
	must_eq(vmbus_chan_pend(s.b.chan, s.say.kept), VMBUS_E_INVAL); /* the callback is over */
	jb_free(&s.b);
}
END_TEST

/* No more are delivered than can be kept; a slot that is free again brings the next. */
START_TEST(chan_pend__there_is_always_room)
{
	static struct sbox s;
	uint64_t id;

	sbox_new(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	sbox_send(&s, 1, 10);
	sbox_run(&s);
	must_eq(s.say.packets, 4);
	must_eq(s.say.most, 4);
	for (id = 1; id <= 6; id++) {
		must_eq(vmbus_chan_complete(s.b.chan, id, NULL, 0), 0);
		fake_run(&s.b.f); /* no signal of the child's is needed */
		must_eq(s.say.packets, 4 + id);
	}
	vmbus_chan_pend_done(s.b.chan, 77); /* nobody's */
	vmbus_chan_pend_done(s.b.chan, 8);
	fake_run(&s.b.f);
	must_eq(s.say.packets, 10);
	sbox_get(&s, 1, 6);
	/* 7, 9 and 10 are left. */
	sbox_again(&s);
	sbox_open(&s);
	fake_run(&s.b.f);
	must_eq(s.say.packets, 3);
	must_eq(s.say.ids[0], 7);
	must_eq(s.say.ids[1], 9);
	must_eq(s.say.ids[2], 10);
	jb_free(&s.b);
}
END_TEST

/* The same on a thread of its own: a slot that is free makes the descriptor readable. */
START_TEST(chan_pend__with_own_fd)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	static struct sbox s;
	struct vmbus_ring_mem up, down;
	struct vmbus_ctl ctl;

	memset(&s, 0, sizeof(s));
	s.say.keep = ~0u;
	jb_prepare(&s.b, &say_vsp, NULL);
	fake_mem_init(&s.b.f, &up, JB_FIRST, JB_UP);
	fake_mem_init(&s.b.f, &down, JB_FIRST + JB_UP, JB_DOWN);
	vmbus_ring_mem_clear(&up);
	vmbus_ring_mem_clear(&down);
	fake_create(&s.b.f);
	must_eq(vmbus_bus_offer(s.b.f.bus, &say_vsp, &s.say, &opts, &s.b.chan), 0);
	must_eq(vmbus_chan_set_journal(s.b.chan, s.b.journal, s.b.journal_bytes), 0);
	fake_contact(&s.b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&s.b.f, &s.b.c, 1), 1);
	jb_rings(&s.b);
	s.b.c.gpadl = s.b.f.next_gpadl++;
	must_eq(fake_share(&s.b.f, s.b.c.relid, s.b.c.gpadl, JB_FIRST, JB_UP + JB_DOWN), 0);
	fake_post_open(&s.b.f, &s.b.c, 0);
	fake_run(&s.b.f);
	must(vmbus_chan_dispatch(s.b.chan, 64) >= 0);
	fake_expect(&s.b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	sbox_send(&s, 1, 6);
	(void)vmbus_bus_signal_event(s.b.f.bus, s.b.c.conn, 0);
	while (fake_readable(vmbus_chan_fd(s.b.chan)))
		must(vmbus_chan_dispatch(s.b.chan, 64) >= 0);
	must_eq(s.say.packets, 4);
	must_eq(vmbus_chan_complete(s.b.chan, 1, NULL, 0), 0);
	must(fake_readable(vmbus_chan_fd(s.b.chan)));
	while (fake_readable(vmbus_chan_fd(s.b.chan)))
		must(vmbus_chan_dispatch(s.b.chan, 64) >= 0);
	must_eq(s.say.packets, 5);
	must_eq(vmbus_chan_set_journal(s.b.chan, NULL, 0), 0);
	jb_free(&s.b);
}
END_TEST

/* A child that waits for room gets it, also while its packets wait for a slot. */
START_TEST(chan_pend__gives_the_room_back)
{
	static struct sbox s;
	uint32_t n = 0;
	uint64_t id;

	sbox_new(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	sbox_send(&s, 1, 4);
	sbox_run(&s);
	for (id = 5; fake_send(&s.b.c, id, &id, 8) == 1; id++)
		n++;
	must_eq(n, (8192 - 8) / 32);
	jb_free(&s.b);
}
END_TEST

/* ---- callbacks are published whole ---- */

static void send_much(struct say *say, const struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus_msg msg[12] = { 0 };
	struct vmbus_chan_info info;
	uint32_t i;

	(void)n;
	for (i = 0; i < 12; i++) {
		msg[i].type = VMBUS_PKT_INBAND;
		msg[i].id = pkt[0].id * 100 + i;
	}
	must_eq(vmbus_chan_send(say->chan, msg, 12), 12);
	must_eq(vmbus_chan_flush(say->chan), 0);
	must_eq(vmbus_chan_complete(say->chan, pkt[0].id, NULL, 0), 0);
	must_eq(vmbus_chan_flush(say->chan), 0);
	vmbus_chan_info(say->chan, &info);
	must_eq(info.send.packets, 0);
}

START_TEST(chan_flush__nothing_within_a_callback_with_a_journal)
{
	static struct sbox s;
	struct vmbus_chan_info info;
	struct vmbus_packet pkt[16];

	sbox_new(&s);
	s.say.on_packets = send_much;
	sbox_open(&s);
	sbox_send(&s, 1, 1);
	sbox_run(&s);
	vmbus_chan_info(s.b.chan, &info);
	must_eq(info.send.packets, 13);
	must_eq(info.send.batches, 1);
	must_eq(fake_receive(&s.b.c, pkt, 16), 13);
	must_eq(vmbus_chan_flush(s.b.chan), 0);
	jb_free(&s.b);
}
END_TEST

/* ---- what is delivered again ---- */

static void complete_first(struct say *say, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)n;
	must_eq(vmbus_chan_complete(say->chan, pkt[0].id, pkt[0].payload, pkt[0].len), 0);
}

/* Kept again, completed, or neither: then it is done with. */
START_TEST(chan_pend__again)
{
	static struct sbox s;
	struct vmbus_packet pkt[4];

	sbox_new(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	must_eq(s.say.resumed, false);
	sbox_send(&s, 1, 3);
	sbox_run(&s);
	must_eq(s.say.packets, 3);
	s.say.keep = 2; /* of the three the second; the first is completed, the third is neither */
	s.say.on_packets = complete_first;
	sbox_again(&s);
	sbox_send(&s, 10, 1); /* new, and after all that is old */
	sbox_open(&s);
	must_eq(s.say.resumed, true);
	fake_run(&s.b.f);
	must_eq(s.say.calls, 2);
	must_eq(s.say.packets, 4);
	must_eq(s.say.ids[0], 1);
	must_eq(s.say.ids[2], 3);
	must_eq(s.say.ids[3], 10);
	must_eq(fake_receive(&s.b.c, pkt, 4), 2);
	must_eq(pkt[0].id, 1);
	must_eq(pkt[1].id, 10);
	jb_free(&s.b);
}
END_TEST

START_TEST(chan_pend__again_and_again)
{
	static struct sbox s;
	uint32_t round;

	sbox_new(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	sbox_send(&s, 1, 4);
	sbox_run(&s);
	for (round = 0; round < 5; round++) {
		sbox_again(&s);
		sbox_open(&s);
		fake_run(&s.b.f);
		must_eq(s.say.packets, 4);
		must_eq(s.say.ids[0], 1);
		must_eq(s.say.ids[3], 4);
	}
	must_eq(vmbus_chan_complete(s.b.chan, 2, NULL, 0), 0);
	sbox_again(&s);
	s.say.keep = 0;
	sbox_open(&s);
	fake_run(&s.b.f);
	must_eq(s.say.packets, 3);
	must_eq(s.say.ids[1], 3);
	sbox_again(&s);
	sbox_open(&s);
	fake_run(&s.b.f);
	must_eq(s.say.packets, 0);
	jb_free(&s.b);
}
END_TEST

static void check_direct(struct say *say, const struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus_wire_ranges it;
	struct vmbus_wire_range range;

	must_eq(n, 1);
	must_eq(pkt->id, 9);
	must_eq(pkt->len, 16);
	must(memcmp(pkt->payload, "0123456789abcdef", 16) == 0);
	must_eq(vmbus_wire_ranges_begin(&it, pkt), 0);
	must_eq(vmbus_wire_ranges_next(&it, &range), 1);
	must_eq(range.byte_count, 5000);
	must_eq(vmbus_wire_range_pfn(&range, 1), 41);
	must_eq(vmbus_wire_ranges_next(&it, &range), 0);
	must_eq(vmbus_chan_pend(say->chan, pkt), 0);
}

/* The page ranges are kept with the payload. */
START_TEST(chan_pend__keeps_page_ranges)
{
	static struct sbox s;
	const uint64_t pfns[2] = { 40, 41 };
	uint8_t ext[64];
	const struct vmbus_wire_ext fixed = { .range_count = 1 };
	struct vmbus_msg msg = { .id = 9,
				 .data = "0123456789abcdef",
				 .len = 16,
				 .type = VMBUS_PKT_GPA_DIRECT,
				 .flags = VMBUS_PKT_FLAG_COMPLETE };
	int a, c;

	a = vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &fixed, ext, sizeof(ext));
	must(a > 0);
	c = vmbus_wire_range_put(5000, 0, pfns, ext + a, sizeof(ext) - (size_t)a);
	must(c > 0);
	msg.ext = ext;
	msg.ext_len = (uint32_t)(a + c);
	sbox_new(&s);
	s.say.on_packets = check_direct;
	sbox_open(&s);
	must_eq(vmbus_ring_tx_put(&s.b.c.tx, &msg, 1), 1);
	sbox_run(&s);
	must_eq(s.say.calls, 1);
	sbox_again(&s);
	sbox_open(&s);
	fake_run(&s.b.f);
	must_eq(s.say.calls, 1);
	jb_free(&s.b);
}
END_TEST

/* Of one id the oldest is done first, and those of either kind are told apart. */
START_TEST(chan_pend_done__of_equal_ids)
{
	static struct sbox s;
	const struct vmbus_msg plain = { .id = 5, .data = "plain678", .len = 8, .type = 6 };
	const struct vmbus_msg asks = {
		.id = 5, .data = "asks5678", .len = 8, .type = 6, .flags = 1
	};

	sbox_new(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	must_eq(vmbus_ring_tx_put(&s.b.c.tx, &asks, 1), 1);
	must_eq(vmbus_ring_tx_put(&s.b.c.tx, &plain, 1), 1);
	must_eq(vmbus_ring_tx_put(&s.b.c.tx, &asks, 1), 1);
	sbox_run(&s);
	vmbus_chan_pend_done(s.b.chan, 5); /* the plain one */
	must_eq(vmbus_chan_complete(s.b.chan, 5, NULL, 0), 0);
	sbox_again(&s);
	sbox_open(&s);
	fake_run(&s.b.f);
	must_eq(s.say.packets, 1);
	vmbus_chan_pend_done(s.b.chan,
			     5); /* of those that want a completion, as there is no other */
	sbox_again(&s);
	sbox_open(&s);
	fake_run(&s.b.f);
	must_eq(s.say.packets, 0);
	jb_free(&s.b);
}
END_TEST

/* A completion that finds no room leaves the request pended. */
START_TEST(chan_complete__full_outside_of_callbacks)
{
	static struct sbox s;
	uint8_t data[1000] = { 0 };
	uint32_t n = 0;

	sbox_new(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	sbox_send(&s, 1, 2);
	sbox_run(&s);
	must(JB_ACTIVE(s.b.journal) != 0);
	while (vmbus_chan_complete(s.b.chan, 99, data, 1000) == 0)
		n++;
	must_eq(n, 3);
	must_eq(vmbus_chan_complete(s.b.chan, 1, data, 1000), VMBUS_E_FULL);
	must_eq(vmbus_chan_complete(s.b.chan, 2, data, 1000), VMBUS_E_FULL);
	must_eq(vmbus_chan_complete(s.b.chan, 98, NULL, 0), 0); /* another commit */
	sbox_again(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	fake_run(&s.b.f);
	must_eq(s.say.packets, 2);
	must_eq(vmbus_chan_complete(s.b.chan, 2, data, 8), 0);
	must_eq(vmbus_chan_complete(s.b.chan, 2, data, 8), 0); /* sent all the same */
	sbox_again(&s);
	sbox_open(&s);
	fake_run(&s.b.f);
	must_eq(s.say.packets, 1);
	must_eq(s.say.ids[0], 1);
	jb_free(&s.b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "journal", 20);

	tcase_add_test(tc, journal_bytes__counts_or_refuses);
	tcase_add_test(tc, chan_set_journal__errors);
	tcase_add_test(tc, chan_set_journal__not_in_a_callback);
	tcase_add_test(tc, chan_pend__without_a_journal);
	tcase_add_test(tc, chan_pend__errors);
	tcase_add_test(tc, chan_pend__there_is_always_room);
	tcase_add_test(tc, chan_pend__with_own_fd);
	tcase_add_test(tc, chan_pend__gives_the_room_back);
	tcase_add_test(tc, chan_flush__nothing_within_a_callback_with_a_journal);
	tcase_add_test(tc, chan_pend__again);
	tcase_add_test(tc, chan_pend__again_and_again);
	tcase_add_test(tc, chan_pend__keeps_page_ranges);
	tcase_add_test(tc, chan_pend_done__of_equal_ids);
	tcase_add_test(tc, chan_complete__full_outside_of_callbacks);
}

VMBUS_TEST_MAIN("bus.journal", tests)
