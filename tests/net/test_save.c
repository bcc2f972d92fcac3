/* SPDX-License-Identifier: MIT */
/*
 * The data path goes on from a saved state: receive sections that the guest has, and its own packets that
 * were not answered, on a primary channel and on sub-channels.
 */
#include "frames.h"

#include "../channel/srv_state_check.h"

#include <vmbus/diag.h>

static struct netbox b;
static uint8_t frame[NB_FRAME];
static bool paused; /* before anything came after a move */
static void (*spoil)(uint8_t *state, size_t bytes);

static bool is_paused(void)
{
	struct vmbus_chan_diag diag;
	uint32_t at = 0;

	must_eq(vmbus_bus_diag_next(b.f.bus, &at, &diag), 1);
	return diag.waits & VMBUS_WAIT_PAUSED;
}

/* The NIC, its bus and all go on elsewhere, in the same memory. */
static void move(void)
{
	const size_t all = b.f.pages * FAKE_PAGE;
	uint32_t opens, turns;
	size_t bytes, again;
	uint8_t *state, *mem;
	char why[160];

	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &bytes), VMBUS_E_RANGE);
	state = malloc(bytes);
	mem = malloc(all);
	must(state && mem);
	must_eq(vmbus_bus_save(b.f.bus, state, bytes, &again), 0);
	memcpy(mem, b.f.mem, all);
	if (spoil)
		spoil(state, bytes);
	vmbus_bus_destroy(b.f.bus);
	memcpy(b.f.mem, mem, all);
	vmbus_net_destroy(b.net);
	must_eq(vmbus_net_create(&b.opts, &b.net), 0);
	fake_create(&b.f);
	nb_offer(&b);
	must_eq(vmbus_bus_restore(b.f.bus, state, bytes, why, sizeof(why)), 0);
	free(state);
	free(mem);
	for (opens = b.port.opens, turns = 1000; opens == b.port.opens && turns; turns--)
		(void)vmbus_bus_dispatch(b.f.bus, 1);
	paused = is_paused();
	fake_run(&b.f);
}

static uint32_t give_all(uint32_t queue)
{
	fr_plain(b.port.given, 60, queue);
	memcpy(b.port.given, fr_guest, 6);
	nb_give(&b, queue, 10000, 60);
	(void)nb_run(&b, queue);
	queue = 10000 - b.port.give;
	b.port.give = 0;
	return queue;
}

START_TEST(save__keeps_the_sections_that_the_guest_has)
{
	uint32_t k, had = 0, got = 0;

	nb_prepare(&b);
	b.opts.subchannels = 3;
	b.port.info.queues = 4;
	nb_start(&b);
	nb_subs(&b, 3);
	(void)nb_run(&b, 0);
	b.keep = true;
	for (k = 0; k < 4; k++) {
		const uint32_t frames = 5 + k;

		fr_plain(b.port.given, 60, k);
		memcpy(b.port.given, fr_guest, 6);
		nb_give(&b, k, frames, 60);
		(void)nb_run(&b, k);
		had += frames;
	}
	ck_assert_uint_eq(fr_stats(&b).lent, had);
	move();
	ck_assert_uint_eq(fr_stats(&b).lent, had);
	for (k = 0; k < 4; k++)
		got += give_all(k);
	ck_assert_uint_eq(had + got, b.rx_count - 16); /* each section once */
	ck_assert_uint_eq(fr_stats(&b).lent, b.rx_count - 16);
	nb_end(&b);
}
END_TEST

static uint64_t give_one(void)
{
	fr_plain(b.port.given, 60, 1);
	memcpy(b.port.given, fr_guest, 6);
	nb_give(&b, 0, 1, 60);
	must_eq(nb_run(&b, 0), 1);
	return b.message[(b.messages - 1) % NB_MESSAGES].id;
}

/* What comes back once more after the move is not one of the next packets, which are in the same place. */
START_TEST(save__gives_no_packet_the_number_of_another)
{
	uint64_t first, next;
	uint32_t i;

	nb_prepare(&b);
	nb_start(&b);
	b.keep = true;
	first = give_one();
	nb_return(&b, 0, first);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(fr_stats(&b).lent, 0);
	move();
	for (i = 0; i < 100; i++) {
		next = give_one();
		ck_assert_uint_eq((uint32_t)next, (uint32_t)first);
		ck_assert_uint_ne(next, first);
		nb_return(&b, 0, first);
		(void)nb_run(&b, 0);
		ck_assert_uint_eq(fr_stats(&b).lent, 1);
		nb_return(&b, 0, next);
		(void)nb_run(&b, 0);
		ck_assert_uint_eq(fr_stats(&b).lent, 0);
	}
	nb_end(&b);
}
END_TEST

START_TEST(save__answers_packets_that_waited)
{
	uint32_t i, before;

	nb_prepare(&b);
	nb_start(&b);
	b.port.take = 3;
	fr_plain(frame, 60, 1);
	for (i = 0; i < 10; i++)
		ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, 60), i < 3);
	before = b.completions;
	move();
	ck_assert(!paused);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(b.completions, before + 7);
	ck_assert_uint_eq(b.port.sent, 3); /* frames are lost, and counted */
	ck_assert_uint_eq(fr_stats(&b).stopped, 7);
	b.port.take = UINT32_MAX;
	ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, 60), 1);
	ck_assert_uint_eq(b.port.sent, 4);
	nb_end(&b);
}
END_TEST

/* The port has room, but one callback does not send so many frames as wait. */
START_TEST(save__answers_packets_that_were_left_for_another_callback)
{
	struct vmbus_msg m = { .type = VMBUS_PKT_INBAND, .flags = VMBUS_PKT_FLAG_COMPLETE };
	const uint32_t packets = 300, frames = 64;
	uint8_t msg[40] = { 107 };
	const uint64_t one = 1;
	uint32_t i, before, at = 0;

	nb_prepare(&b);
	b.opts.section_bytes = 65536;
	nb_start(&b);
	b.port.take = 0;
	fr_plain(frame, 20, 1);
	for (i = 0; i < frames; i++)
		at += fr_message(fr_at(&b, 0) + at, NULL, 0, frame, 20, true);
	nb_put(msg + 12, 4, at);
	m.data = msg;
	m.len = sizeof(msg);
	before = b.completions;
	for (i = 0; i < packets; i++) {
		m.id = b.id++;
		nb_send(&b, 0, &m);
		(void)nb_run(&b, 0);
	}
	ck_assert_uint_eq(b.port.sent, 0);
	b.port.take = UINT32_MAX;
	must_eq(write(b.port.queue[0]->fd, &one, 8), 8);
	(void)vmbus_bus_dispatch(b.f.bus, 1);
	ck_assert(b.port.sent > 0 && b.port.sent < packets * frames);
	i = b.port.sent;
	move();
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(b.completions, before + packets);
	ck_assert_uint_eq(b.port.sent, i);
	ck_assert_uint_eq(fr_stats(&b).stopped, packets - i / frames);
	nb_end(&b);
}
END_TEST

/* As many as may wait, and more in the ring: those come when the others are answered. */
START_TEST(save__waits_with_as_many_packets_as_may)
{
	struct vmbus_msg m = { .type = VMBUS_PKT_INBAND, .flags = VMBUS_PKT_FLAG_COMPLETE };
	uint8_t msg[40] = { 107 };
	uint32_t i, put = 0;

	nb_prepare(&b);
	b.opts.packets_max = 64;
	nb_start(&b);
	b.port.take = 0;
	fr_plain(frame, 60, 1);
	nb_put(msg + 12, 4, fr_message(fr_at(&b, 0), NULL, 0, frame, 60, false));
	m.data = msg;
	m.len = sizeof(msg);
	for (i = 0; i < 63; i++, put++) {
		m.id = b.id++;
		nb_send(&b, 0, &m);
	}
	fake_run(&b.f);
	for (i = 0; i < 200; i++) {
		m.id = b.id++;
		put += vmbus_ring_tx_put(&b.c[0].tx, &m, 1) == 1;
	}
	fake_run(&b.f);
	ck_assert_uint_gt(put, 64 + 63);
	i = b.completions;
	b.port.take = UINT32_MAX;
	move();
	ck_assert(paused);
	(void)nb_run(&b, 0);
	ck_assert(!is_paused());
	ck_assert_uint_eq(b.completions, i + put);
	ck_assert_uint_ge(fr_stats(&b).stopped, 64);
	ck_assert_uint_eq(b.port.sent + fr_stats(&b).stopped, put);
	nb_end(&b);
}
END_TEST

/* The owners: form, how many, and those for control messages are the primary's. */
static void give_control_away(uint8_t *state, size_t bytes)
{
	uint8_t want[24] = { 2 };
	size_t i;

	nb_put(want + 4, 4, b.rx_count);
	for (i = 0; memcmp(state + i, want, sizeof(want)); i++)
		must(i + sizeof(want) < bytes);
	state[i + 8] = 1;
	state_mend(state, bytes);
}

/* A sub-channel that gets one back would look at the primary's control, which may be gone. */
START_TEST(save__refuses_sections_for_control_messages_that_are_not_the_primarys)
{
	struct vmbus_net_state state;

	nb_prepare(&b);
	b.opts.subchannels = 3;
	b.port.info.queues = 4;
	nb_start(&b);
	nb_subs(&b, 3);
	(void)nb_run(&b, 0);
	if (_i)
		spoil = give_control_away;
	move();
	vmbus_net_state(b.net, &state);
	ck_assert_uint_eq(state.channels, _i ? 0 : 4);
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "save", 20);

	tcase_add_test(tc, save__keeps_the_sections_that_the_guest_has);
	tcase_add_test(tc, save__gives_no_packet_the_number_of_another);
	tcase_add_test(tc, save__answers_packets_that_waited);
	tcase_add_test(tc, save__answers_packets_that_were_left_for_another_callback);
	tcase_add_test(tc, save__waits_with_as_many_packets_as_may);
	tcase_add_loop_test(
		tc, save__refuses_sections_for_control_messages_that_are_not_the_primarys, 0, 2);
}
VMBUS_TEST_MAIN("net.save", tests)
