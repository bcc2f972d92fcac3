/* SPDX-License-Identifier: MIT */
/* The block device's client: how it begins, agrees, gets its channels, and ends. */
#include "host.h"

static const uint32_t plain_ops[] = { 7, 9, 10, 8 };

START_TEST(storvsc_start__agrees)
{
	static const struct {
		uint16_t version;
		uint32_t tried;
	} known[] = { { 0x0602, 1 }, { 0x0600, 2 }, { 0x0501, 3 } };
	struct host h;
	uint32_t i, at;

	host_start(&h);
	h.version = known[_i].version;
	must_eq(host_client(&h, NULL), 0);
	must_eq(h.s.version, known[_i].version);
	must_eq(h.tried_count, known[_i].tried);
	for (i = 0; i < h.tried_count; i++)
		must_eq(h.tried[i], known[i].version);
	must_eq(h.op_count, 3u + known[_i].tried);
	for (i = 0, at = 0; i < h.op_count; i++) {
		must_eq(h.ops[i], plain_ops[at]);
		if (h.ops[i] != 9 || i == known[_i].tried)
			at++;
	}
	must_eq(h.s.channels, 1);
	must_eq(h.s.offered, 1);
	must_eq(h.s.transfer_bytes, 1u << 20);
	must_eq(h.s.bad, 0);
	must_eq(h.opened, 1);
	must_eq(h.opened_list[0], 0);
	must(vmbus_storvsc_channel(&h.s, 0) == host_vsc(&h));
	must(vmbus_storvsc_channel(&h.s, 1) == NULL);
	must(vmbus_storvsc_channel(&h.s, UINT32_MAX) == NULL);
	host_free(&h);
	must_eq(h.closed, 1);
}
END_TEST

/* The limits of a host are taken as far as they make sense: whole pages, ours, and the ring's. */
START_TEST(storvsc_start__takes_limits)
{
	static const struct {
		uint32_t told, ring, is;
	} cases[] = {
		{ 4096, 0, 4096 },
		{ 4097, 0, 4096 },
		{ 262144, 0, 262144 },
		{ UINT32_MAX, 1u << 20, 8u << 20 },
		{ 8u << 20, 1u << 20, 8u << 20 },
		/* 16 + 16 + 64 + 8 bytes, and 497 page numbers, one for an offset, are 4096 - 16 */
		{ UINT32_MAX, 4096, 496u * 4096u },
	};
	struct vmbus_storvsc_opts opts;
	struct host h;

	host_start(&h);
	opts = host_opts(&h);
	h.transfer = cases[_i].told;
	opts.open.send_bytes = cases[_i].ring;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.s.transfer_bytes, cases[_i].is);
	host_free(&h);
}
END_TEST

/* Whatever is wrong, ready() tells it once, the channel is closed, and nothing comes after. */
START_TEST(storvsc_start__tells_why_not)
{
	static const struct {
		uint32_t refuse, odd, answer, bytes, version, transfer;
		int err;
	} cases[] = {
		{ 7, 0, 0, 0, 0x0602, 4096, VMBUS_E_PEER },
		{ 10, 0, 0, 0, 0x0602, 4096, VMBUS_E_PEER },
		{ 8, 0, 0, 0, 0x0602, 4096, VMBUS_E_PEER },
		{ 0, 7, 2, 0, 0x0602, 4096, VMBUS_E_PEER },
		{ 0, 9, 11, 0, 0x0602, 4096, VMBUS_E_PEER },
		{ 0, 10, 0, 0, 0x0602, 4096, VMBUS_E_PEER },
		{ 0, 8, 3, 0, 0x0602, 4096, VMBUS_E_PEER },
		{ 0, 7, 1, 8, 0x0602, 4096, VMBUS_E_PEER },
		{ 0, 10, 1, 32, 0x0602, 4096, VMBUS_E_PEER },
		{ 0, 0, 0, 0, 0x0500, 4096, VMBUS_E_NOTSUP },
		{ 0, 0, 0, 0, 0x0602, 0, VMBUS_E_PEER },
		{ 0, 0, 0, 0, 0x0602, 4095, VMBUS_E_PEER },
	};
	struct vmbus_storvsc_req req = { .cdb_bytes = 6 };
	struct host h;

	host_start(&h);
	h.refuse_op = cases[_i].refuse;
	h.refuse_status = 0xC0000001u;
	h.odd_op = cases[_i].odd;
	h.odd_answer = cases[_i].answer;
	h.odd_bytes = cases[_i].bytes;
	h.version = (uint16_t)cases[_i].version;
	h.transfer = cases[_i].transfer;
	must_eq(host_client(&h, NULL), cases[_i].err);
	must_eq(h.opens, 1);
	must_eq(h.closes, 1);
	must_eq(vmbus_vsc_state(host_vsc(&h)), VMBUS_VSC_OFFERED);
	must_eq(vmbus_storvsc_submit(&h.s, 0, &req), VMBUS_E_STATE);
	must_eq(vmbus_storvsc_stop(&h.s), VMBUS_E_STATE);
	/* It may be tried again. */
	h.refuse_op = h.odd_op = 0;
	h.version = 0x0602;
	h.transfer = 4096;
	h.ready = 0;
	must_eq(host_client(&h, NULL), 0);
	host_free(&h);
	must_eq(h.closed, 1);
}
END_TEST

START_TEST(storvsc_start__refuses)
{
	struct vmbus_storvsc_opts opts;
	struct host h;

	host_start(&h);
	opts = host_opts(&h);
	opts.struct_bytes--;
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), VMBUS_E_INVAL);
	opts = host_opts(&h);
	opts.open.struct_bytes = sizeof(opts.open) - 1;
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), VMBUS_E_INVAL);
	opts = host_opts(&h);
	opts.subchannels = 65;
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), VMBUS_E_RANGE);
	opts = host_opts(&h);
	opts.depth = 65536;
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), VMBUS_E_RANGE);
	opts = host_opts(&h);
	opts.open.send_bytes = 100;
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), VMBUS_E_RANGE);
	opts = host_opts(&h);
	opts.open.recv_bytes = 5000;
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), VMBUS_E_RANGE);
	opts = host_opts(&h);
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), 0);
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), VMBUS_E_STATE);
	host_free(&h);
}
END_TEST

START_TEST(storvsc_start__opens_subchannels)
{
	static const struct {
		uint16_t has, offers;
		uint32_t flags, wants, refuse;
		uint32_t asked, offered, channels;
	} cases[] = {
		{ 4, 4, 1, 2, 0, 2, 3, 3 },  /* wants fewer than there are */
		{ 4, 4, 1, 64, 0, 4, 5, 5 }, /* wants more */
		{ 4, 2, 1, 4, 0, 4, 5, 3 },  /* is offered fewer than promised */
		{ 4, 0, 1, 4, 13, 4, 1, 1 }, /* is refused: does without them */
		{ 4, 4, 0, 4, 0, 0, 1, 1 },  /* the flag is missing */
		{ 0, 0, 1, 4, 0, 0, 1, 1 },  { 4, 4, 1, 0, 0, 0, 1, 1 },
	};
	struct vmbus_storvsc_opts opts;
	struct host h;
	uint32_t i;

	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = cases[_i].wants;
	opts.vps = 2;
	h.subchannels = cases[_i].has;
	h.flags = cases[_i].flags;
	h.offers = cases[_i].offers;
	h.refuse_op = cases[_i].refuse;
	h.refuse_status = 0xC000000Du;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.wanted, cases[_i].asked);
	must_eq(h.s.offered, cases[_i].offered);
	must_eq(h.s.channels, cases[_i].channels);
	must_eq(h.opened, cases[_i].channels);
	must_eq(h.opens, cases[_i].channels);
	for (i = 0; i < h.opened; i++)
		must_eq(h.opened_list[i], i);
	must_eq(vmbus_storvsc_stop(&h.s), 0);
	loop_settle(h.l);
	must_eq(h.closed, 1);
	must_eq(h.closes, h.opens);
	host_free(&h);
	must_eq(h.closed, 1);
}
END_TEST

/* Sub-channels are offered before the host has answered that it will. */
START_TEST(storvsc_start__subchannels_come_early)
{
	struct vmbus_storvsc_opts opts;
	struct host h;

	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = 2;
	h.subchannels = 2;
	h.flags = 1;
	h.silent_op = 10;
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), 0);
	loop_settle(h.l);
	must_eq(h.ready, 0);
	must_eq(vmbus_chan_offer_subchannels(h.chan, 3), 0);
	loop_settle(h.l);
	must_eq(h.s.channels, 3); /* the third was not wanted */
	must_eq(h.opens, 3);
	must_eq(h.ready, 0);
	must_eq(vmbus_storvsc_stop(&h.s), 0);
	loop_settle(h.l);
	must_eq(h.ready, 1);
	must_eq(h.ready_err, VMBUS_E_STATE);
	must_eq(h.closed, 0);
	host_free(&h);
}
END_TEST

START_TEST(storvsc_stop__at_any_time)
{
	struct vmbus_storvsc_opts opts;
	struct host h;
	int turn;

	h.closed = 0;
	for (turn = 0; !h.closed; turn++) {
		int left;

		must(turn < 500);
		vmbus_test_at("stopped after %d turns", turn);
		host_start(&h);
		opts = host_opts(&h);
		opts.subchannels = 2;
		h.subchannels = h.offers = 2;
		h.flags = 1;
		must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), 0);
		for (left = turn; left; left--) {
			must(vmbus_guest_dispatch(h.l->guest, 1) >= 0);
			must(vmbus_bus_dispatch(h.l->bus, 1) >= 0);
		}
		must_eq(vmbus_storvsc_stop(&h.s), 0);
		must_eq(vmbus_storvsc_stop(&h.s), VMBUS_E_STATE);
		loop_settle(h.l);
		must_eq(h.ready, 1);
		must_eq(h.closed, h.ready_err == 0);
		must_eq(h.opens, h.closes);
		must_eq(vmbus_storvsc_stop(&h.s), VMBUS_E_STATE);
		host_free(&h);
	}
}
END_TEST

/* What a sub-channel's requests name is the host's until that is closed; then it can start again. */
START_TEST(storvsc_stop__waits_for_a_slow_subchannel)
{
	struct vmbus_storvsc_opts opts;
	struct host h;

	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = h.subchannels = h.offers = 1;
	h.flags = 1;
	h.slow_sub = true;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.s.channels, 2);
	must_eq(vmbus_storvsc_stop(&h.s), 0);
	loop_settle(h.l);
	must(h.slow != NULL);
	must_eq(h.closed, 0);
	must(h.chan != NULL); /* the primary is open meanwhile */
	vmbus_chan_close_done(h.slow);
	loop_settle(h.l);
	must_eq(h.closed, 1);
	must_eq(h.closes, 2);
	h.ready = h.closed = h.opened = h.tried_count = 0;
	h.slow_sub = false;
	h.slow = NULL;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.s.channels, 2);
	host_free(&h);
}
END_TEST

START_TEST(storvsc_stop__from_ready)
{
	struct host h;

	host_start(&h);
	h.stop_when_ready = true;
	must_eq(host_client(&h, NULL), 0);
	must_eq(h.closed, 1);
	host_free(&h);
}
END_TEST

/* The primary goes, by the parent's will: the sub-channels end as well, and then all of it. */
START_TEST(storvsc__ends_when_the_primary_goes)
{
	struct vmbus_storvsc_opts opts;
	struct host h;

	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = 3;
	h.subchannels = h.offers = 3;
	h.flags = 1;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.s.channels, 4);
	must_eq(vmbus_bus_revoke(h.chan), 0);
	loop_settle(h.l);
	must_eq(h.closed, 1);
	must_eq(h.opens, h.closes);
	host_free(&h);
	must_eq(h.closed, 1);
}
END_TEST

/* The guest ends under it, at any time. */
START_TEST(storvsc__ends_with_the_guest)
{
	struct vmbus_storvsc_opts opts;
	struct host h;
	int turn, left;

	for (turn = 0; turn < 150; turn += 3) {
		vmbus_test_at("destroyed after %d turns", turn);
		host_start(&h);
		opts = host_opts(&h);
		opts.subchannels = 2;
		h.subchannels = h.offers = 2;
		h.flags = 1;
		must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), 0);
		for (left = turn; left; left--) {
			must(vmbus_guest_dispatch(h.l->guest, 1) >= 0);
			must(vmbus_bus_dispatch(h.l->bus, 1) >= 0);
		}
		host_free(&h);
		must_eq(h.ready, 1);
		must_eq(h.closed, h.ready_err == 0);
	}
}
END_TEST

START_TEST(storvsc__tells_of_changes)
{
	struct host h;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	must_eq(h.changed, 0);
	host_say(h.chan, 11, 64);
	loop_settle(h.l);
	must_eq(h.changed, 1);
	host_say(h.chan, 2, 48);
	loop_settle(h.l);
	must_eq(h.changed, 2);
	host_say(h.chan, 14, 64); /* an event: not for us */
	loop_settle(h.l);
	must_eq(h.changed, 2);
	must_eq(h.s.bad, 0);
	host_say(h.chan, 3, 64);
	host_say(h.chan, 1, 64);
	host_say(h.chan, 11, 8); /* cut off */
	loop_settle(h.l);
	must_eq(h.changed, 2);
	must_eq(h.s.bad, 3);
	host_free(&h);
}
END_TEST

/* One that comes while they agree is told after ready(). */
START_TEST(storvsc__tells_of_early_changes)
{
	struct vmbus_storvsc_opts opts;
	struct host h;

	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = 1;
	h.subchannels = h.offers = 1;
	h.flags = 1;
	h.enumerate_op = 13;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.changed, 1);
	host_free(&h);
}
END_TEST

static uint32_t wakes;

static void on_wake(void *ctx, uint32_t channel)
{
	(void)ctx;
	must(channel < 2);
	wakes++;
}

/* Let the guest, the bus and the channels' own threads have their turns. */
static void run_threads(struct host *h, bool left[2])
{
	uint32_t turn, i;

	for (turn = 0; turn < 300; turn++) {
		must(vmbus_guest_dispatch(h->l->guest, LOOP_BUDGET) >= 0);
		(void)loop_bus_turn(h->l);
		h->l->now += 1000;
		for (i = 0; i < h->opened; i++)
			if (!left[i])
				left[i] =
					vmbus_vsc_dispatch(vmbus_storvsc_channel(&h->s, i), 64) < 0;
	}
}

/* With a thread for each channel: it agrees, or fails and the thread leaves, and it ends. */
START_TEST(storvsc_start__with_own_threads)
{
	struct vmbus_storvsc_opts opts;
	bool left[2] = { false, false };
	struct host h;

	wakes = 0;
	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = 1;
	opts.open.own_thread = true;
	opts.wake = on_wake;
	h.subchannels = h.offers = 1;
	h.flags = 1;
	h.refuse_op = _i == 1 ? 8 : 0;
	h.refuse_status = 0xC0000001u;
	h.transfer = _i == 2 ? 0 : 65536;
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), 0);
	run_threads(&h, left);
	must_eq(h.ready, 1);
	must_eq(h.ready_err, _i ? VMBUS_E_PEER : 0);
	must_eq(left[0], _i != 0);
	if (_i == 0) {
		must_eq(h.s.channels, 2);
		must_eq(vmbus_storvsc_stop(&h.s), 0);
		run_threads(&h, left);
		must(left[0] && left[1]);
		must_eq(h.closed, 1);
		must(wakes > 0);
	}
	must_eq(h.opens, h.closes);
	host_free(&h);
}
END_TEST

static struct host *again;
static uint32_t starts;

static void start_again(void *ctx)
{
	struct vmbus_storvsc_opts opts = host_opts(again);

	host_on_closed(ctx);
	if (--starts == 0)
		return;
	again->ready = again->closed = again->opened = 0;
	again->stop_when_ready = starts > 1;
	opts.closed = start_again;
	must_eq(vmbus_storvsc_start(&again->s, host_vsc(again), &opts), 0);
}

START_TEST(storvsc_start__from_closed)
{
	struct vmbus_storvsc_opts opts;
	struct host h;

	host_start(&h);
	again = &h;
	starts = 4;
	opts = host_opts(&h);
	opts.closed = start_again;
	h.stop_when_ready = true;
	must_eq(vmbus_storvsc_start(&h.s, host_vsc(&h), &opts), 0);
	loop_settle(h.l);
	must_eq(starts, 1);
	must_eq(h.ready, 1);
	must_eq(h.ready_err, 0);
	must_eq(h.closed, 0);
	host_free(&h);
	must_eq(h.closed, 1);
	must_eq(starts, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "start", 60);

	tcase_add_loop_test(tc, storvsc_start__agrees, 0, 3);
	tcase_add_loop_test(tc, storvsc_start__takes_limits, 0, 6);
	tcase_add_loop_test(tc, storvsc_start__tells_why_not, 0, 12);
	tcase_add_test(tc, storvsc_start__refuses);
	tcase_add_loop_test(tc, storvsc_start__opens_subchannels, 0, 7);
	tcase_add_test(tc, storvsc_start__subchannels_come_early);
	tcase_add_loop_test(tc, storvsc_start__with_own_threads, 0, 3);
	tcase_add_test(tc, storvsc_start__from_closed);
	tc = vmbus_test_case(suite, "end", 60);
	tcase_add_test(tc, storvsc_stop__at_any_time);
	tcase_add_test(tc, storvsc_stop__waits_for_a_slow_subchannel);
	tcase_add_test(tc, storvsc_stop__from_ready);
	tcase_add_test(tc, storvsc__ends_when_the_primary_goes);
	tcase_add_test(tc, storvsc__ends_with_the_guest);
	tc = vmbus_test_case(suite, "changes", 60);
	tcase_add_test(tc, storvsc__tells_of_changes);
	tcase_add_test(tc, storvsc__tells_of_early_changes);
}

VMBUS_TEST_MAIN("block.storvsc", tests)
