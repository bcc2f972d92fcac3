/* SPDX-License-Identifier: MIT */
/*
 * A child that floods, lies about its limits, or says nothing: what it gets is bounded, told, and
 * no business of others.
 */
#include "fake.h"

#include <sys/resource.h>

#include <vmbus/watch.h>

struct dev {
	uint64_t packets, calls;
	uint32_t opens, closes;
	uint32_t charge; /* units that each packet costs besides its own */
	bool fail;
};

static int dev_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	((struct dev *)ctx)->opens++;
	return 0;
}

static void dev_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct dev *d = vmbus_chan_ctx(chan);

	(void)pkt;
	d->packets += n;
	d->calls++;
	vmbus_chan_charge(chan, n * d->charge);
	if (d->fail)
		vmbus_chan_fail(chan, "bad packet");
}

static int dev_close(struct vmbus_chan *chan)
{
	((struct dev *)vmbus_chan_ctx(chan))->closes++;
	return 0;
}

static const struct vmbus_vsp vsp = {
	.struct_bytes = sizeof(vsp),
	.name = "dev",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 4),
	.open = dev_open,
	.packets = dev_packets,
	.close = dev_close,
};

START_TEST(bus_post_message__statuses)
{
	struct fake f;
	uint8_t bytes[241] = { 0 };

	fake_init(&f, 64);
	must_eq(vmbus_bus_post_message(f.bus, 0, 1, bytes, 8), VMBUS_HC_CONNECTION_ID);
	must_eq(vmbus_bus_post_message(f.bus, 2, 1, bytes, 8), VMBUS_HC_CONNECTION_ID);
	must_eq(vmbus_bus_post_message(f.bus, 0x2001, 1, bytes, 8), VMBUS_HC_CONNECTION_ID);
	must_eq(vmbus_bus_post_message(f.bus, 1, 2, bytes, 8), VMBUS_HC_PARAMETER);
	must_eq(vmbus_bus_post_message(f.bus, 1, 0x80000001u, bytes, 8), VMBUS_HC_PARAMETER);
	must_eq(vmbus_bus_post_message(f.bus, 1, 1, bytes, 241), VMBUS_HC_PARAMETER);
	must_eq(vmbus_bus_post_message(f.bus, 1, 1, NULL, 1), VMBUS_HC_PARAMETER);
	must_eq(vmbus_bus_post_message(f.bus, 1, 1, NULL, 0), VMBUS_HC_OK);
	must_eq(vmbus_bus_post_message(f.bus, 4, 1, bytes, 240), VMBUS_HC_OK);
	must_eq(vmbus_bus_signal_event(f.bus, 0x2001, 0), VMBUS_HC_CONNECTION_ID);
	must_eq(vmbus_bus_signal_event(f.bus, 0x2001, 2048), VMBUS_HC_PARAMETER);
	must_eq(vmbus_bus_signal_event(f.bus, UINT32_MAX, 0), VMBUS_HC_CONNECTION_ID);
	fake_run(&f);
	fake_fini(&f);
}
END_TEST

/* A parent that has told its child of another connection for messages takes them there too, and no other. */
START_TEST(bus_post_message__on_a_connection_of_its_own)
{
	struct fake f;

	fake_prepare(&f, 64);
	f.opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(f.opts.limits),
						 .message_conn = 0x800074 };
	fake_create(&f);
	must_eq(vmbus_bus_post_message(f.bus, 0x800074, 1, NULL, 0), VMBUS_HC_OK);
	must_eq(vmbus_bus_post_message(f.bus, 1, 1, NULL, 0), VMBUS_HC_OK);
	must_eq(vmbus_bus_post_message(f.bus, 0x800075, 1, NULL, 0), VMBUS_HC_CONNECTION_ID);
	must_eq(vmbus_bus_post_message(f.bus, 0, 1, NULL, 0), VMBUS_HC_CONNECTION_ID);
	fake_run(&f);
	fake_fini(&f);
}
END_TEST

/* The inbox has 64 places; the 65th message is told to come again, and does, [CTL-QUEUE]. */
START_TEST(lesson_21_inbox_quota)
{
	struct fake f;
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_UNLOAD };
	struct vmbus_bus_stats stats;
	uint32_t i, round;

	fake_init(&f, 64);
	for (round = 0; round < 10; round++) {
		for (i = 0; i < 64; i++)
			must_eq(fake_try_post(&f, 1, &ctl), VMBUS_HC_OK);
		for (i = 0; i < 5; i++)
			must_eq(fake_try_post(&f, 1, &ctl), VMBUS_HC_NO_BUFFERS);
		fake_run(&f);
	}
	vmbus_bus_stats(f.bus, &stats);
	must_eq(stats.posts, 640);
	must_eq(stats.posts_refused, 50);
	fake_fini(&f);
}
END_TEST

/* A child that does not take its messages gets no more than the queue holds, and loses none. */
START_TEST(lesson_21_queue_quota)
{
	struct fake f;
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_HEADER };
	uint32_t posted = 0, answers = 0;

	fake_init(&f, 64);
	fake_contact(&f, VMBUS_PROTO_5_3);
	f.busy = true;
	ctl.u.gpadl.relid = 99; /* of no channel: refused, and answered */
	ctl.u.gpadl.range_count = 1;
	ctl.u.gpadl.range_bytes = 16;
	ctl.u.gpadl.count = 2;
	while (posted < 1000) {
		ctl.u.gpadl.gpadl = posted + 1;
		if (fake_try_post(&f, 1, &ctl) != VMBUS_HC_OK)
			break;
		posted++;
		fake_run(&f); /* which comes to rest although messages wait */
	}
	must(posted >= 64 && posted <= 64 + 64 + 16);
	must_eq(fake_try_post(&f, 1, &ctl), VMBUS_HC_NO_BUFFERS);
	f.busy = false;
	vmbus_bus_slot_free(f.bus, 0, 2);
	while (fake_take(&f, &ctl)) {
		must_eq(ctl.type, VMBUS_CTL_GPADL_CREATED);
		must(ctl.u.created.status != 0);
		must_eq(ctl.u.created.gpadl, ++answers);
	}
	must_eq(answers, posted);
	fake_fini(&f);
}
END_TEST

/* Page lists are counted; past the quota they are refused, and another channel opens all the same. */
START_TEST(lesson_21_page_list_quota)
{
	struct fake f;
	struct dev d[2] = { { 0 } };
	struct fake_chan c[2];
	uint64_t payload = 1;
	uint32_t i, good = 0;
	struct vmbus_bus_stats stats;

	fake_prepare(&f, 1024);
	f.opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(f.opts.limits),
						 .gpadls_max = 8,
						 .gpadl_bytes_max = 1u << 20 };
	fake_create(&f);
	(void)fake_offer(&f, &vsp, &d[0], 0);
	(void)fake_offer(&f, &vsp, &d[1], 1);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, 2), 2);
	must_eq(fake_open(&f, &c[0], 3, 3), 0);
	for (i = 0; i < 20; i++)
		good += fake_share(&f, c[1].relid, 7000 + i, 500, 100) == 0;
	must_eq(good, 2); /* 400 KiB each */
	for (i = 0; i < 20; i++)
		good += fake_share(&f, c[1].relid, 8000 + i, 500, 1) == 0;
	must_eq(good, 7); /* and the rings */
	vmbus_bus_stats(f.bus, &stats);
	must_eq(stats.srv.quota_bytes, 18);
	must_eq(stats.srv.quota_gpadls, 15);
	must_eq(fake_send(&c[0], 1, &payload, 8), 1);
	fake_run(&f);
	must_eq(d[0].packets, 1);
	fake_post_teardown(&f, c[1].relid, 7000);
	fake_expect(&f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(fake_share(&f, c[1].relid, 9000, 500, 1), 0);
	fake_chan_free(&c[0]);
	fake_fini(&f);
}
END_TEST

/* One channel is never empty; the others have their turn after each batch of it. */
START_TEST(lesson_15_no_channel_starves)
{
	struct fake f;
	struct dev d[4];
	struct fake_chan c[4];
	uint64_t payload = 1;
	uint32_t i, round, relid_dev[4];
	uint32_t budget;
	static const uint32_t budgets[] = { 1, 2, 16, 64, 256 };

	for (budget = 0; budget < 5; budget++) {
		vmbus_test_at("budget %u", budgets[budget]);
		memset(d, 0, sizeof(d));
		fake_init(&f, 1024);
		for (i = 0; i < 4; i++)
			(void)fake_offer(&f, &vsp, &d[i], i);
		fake_contact(&f, VMBUS_PROTO_5_3);
		must_eq(fake_offers(&f, c, 4), 4);
		for (i = 0; i < 4; i++) {
			must_eq(fake_open(&f, &c[i], 17, 3), 0);
			relid_dev[i] = d[0].opens + d[1].opens + d[2].opens + d[3].opens;
			must_eq(relid_dev[i], i + 1);
		}
		for (round = 0; round < 500; round++) {
			uint64_t before[4], others = 0;
			uint32_t k, calls = 0;

			while (fake_send(&c[0], 0, &payload, 8) == 1)
				;
			for (i = 1; i < 4; i++)
				must_eq(fake_send(&c[i], 0, &payload, 8), 1);
			for (k = 0; k < 4; k++)
				before[k] = d[k].packets;
			/* The flood goes on; in a fixed number of units all others are served. */
			while (others < 3 && calls * budgets[budget] < 64 * 8 + 64) {
				(void)vmbus_bus_dispatch(f.bus, budgets[budget]);
				calls++;
				while (fake_send(&c[0], 0, &payload, 8) == 1)
					;
				for (others = 0, k = 1; k < 4; k++)
					others += d[k].packets == before[k] + 1;
			}
			must_eq(others, 3);
		}
		for (i = 0; i < 4; i++)
			fake_chan_free(&c[i]);
		fake_fini(&f);
	}
}
END_TEST

/* One channel is never empty, and each turn of it costs more than the budget: the others come next. */
START_TEST(lesson_15_no_costly_channel_starves_others)
{
	static const uint32_t budgets[] = { 1, 16, 64, 256, 4096 };
	const uint32_t budget = budgets[_i];
	uint8_t payload[60] = { 0 };
	struct fake f;
	struct dev d[4] = { { 0 } };
	struct fake_chan c[4];
	uint32_t i, round, units;

	d[0].charge = 63;
	fake_init(&f, 1024);
	for (i = 0; i < 4; i++)
		(void)fake_offer(&f, &vsp, &d[i], i);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, 4), 4);
	for (i = 0; i < 4; i++)
		must_eq(fake_open(&f, &c[i], 17, 3), 0);
	for (round = 1; round <= 100; round++) {
		for (i = 1; i < 4; i++)
			must_eq(fake_send(&c[i], 0, payload, 8), 1);
		/* Four turns of the costly one at most, of 64 packets each. */
		for (units = 0; units < 4u * 64u * 64u + budget; units += budget) {
			while (fake_send(&c[0], 0, payload, sizeof(payload)) == 1)
				;
			must(vmbus_bus_dispatch(f.bus, budget) > 0);
			if (d[1].packets + d[2].packets + d[3].packets == 3u * round)
				break;
		}
		for (i = 1; i < 4; i++)
			must_eq(d[i].packets, round);
	}
	must(d[0].packets != 0);
	for (i = 0; i < 4; i++)
		fake_chan_free(&c[i]);
	fake_fini(&f);
}
END_TEST

/* Messages without end do not keep packets waiting, nor packets messages. */
START_TEST(lesson_15_messages_and_packets)
{
	struct fake f;
	struct dev d = { 0 };
	struct fake_chan c;
	struct vmbus_ctl junk = { .type = VMBUS_CTL_UNLOAD };
	uint8_t bytes[8] = { 250 };
	uint64_t payload = 1, packets;
	uint32_t round, calls;

	fake_init(&f, 256);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, NULL, NULL), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 17, 3), 0);
	(void)junk;
	for (round = 0; round < 1000; round++) {
		while (vmbus_bus_post_message(f.bus, 1, 1, bytes, 8) == VMBUS_HC_OK)
			;
		packets = d.packets;
		must_eq(fake_send(&c, 0, &payload, 8), 1);
		for (calls = 0; d.packets == packets; calls++) {
			must(calls < 8);
			must_eq(vmbus_bus_dispatch(f.bus, 1), 1);
			(void)vmbus_bus_post_message(f.bus, 1, 1, bytes, 8);
		}
	}
	/* The other way round. */
	fake_run(&f);
	while (fake_send(&c, 0, &payload, 8) == 1)
		;
	fake_post_close(&f, &c);
	for (calls = 0; d.closes == 0; calls++) {
		must(calls < 16);
		(void)vmbus_bus_dispatch(f.bus, 1);
		(void)fake_send(&c, 0, &payload, 8);
	}
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

/* A million bad packets and messages: at most ten lines a second, and a count of the rest. */
START_TEST(lesson_31_log_flood)
{
	struct fake f;
	struct dev d = { .fail = true };
	struct fake_chan c;
	struct vmbus_bus_stats stats;
	struct vmbus_ctl ctl;
	uint8_t bytes[8] = { 250 };
	uint64_t payload = 1, i, from, seconds;
	const uint64_t rounds = vmbus_test_full() ? 1000000 : 100000;

	fake_init(&f, 256);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, NULL, NULL), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	from = fake_now_ns();
	for (i = 0; i < rounds * 9 / 10; i++) {
		if (vmbus_bus_post_message(f.bus, 1, 1, bytes, 8) != VMBUS_HC_OK)
			fake_run(&f);
	}
	fake_run(&f);
	/* Channels broken over and over: open, fault, rescind, release, offer. */
	for (i = 0; i < rounds / 100; i++) {
		must_eq(fake_open(&f, &c, 3, 3), 0);
		must_eq(fake_send(&c, 1, &payload, 8), 1);
		fake_expect(&f, VMBUS_CTL_RESCIND, NULL);
		fake_post_teardown(&f, c.relid, c.gpadl);
		fake_expect(&f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
		fake_post_released(&f, c.relid);
		fake_expect(&f, VMBUS_CTL_OFFER, &ctl);
		c.relid = ctl.u.offer.relid;
		c.conn = ctl.u.offer.conn_id;
	}
	seconds = (fake_now_ns() - from) / 1000000000u + 2;
	must(f.lines <= 10 * seconds);
	vmbus_bus_stats(f.bus, &stats);
	must_eq(stats.faults, rounds / 100);
	must(stats.log_dropped > rounds / 200);
	{ /* the count is told when there is room for a line again */
		const struct timespec second = { 1, 100000000 };

		nanosleep(&second, NULL);
		vmbus_bus_post_message(f.bus, 1, 1, bytes, 8);
		fake_run(&f);
		must(fake_logged(&f, "messages were left out"));
	}
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Open channels and nothing to do: no wake-up after the one that follows the opens. */
START_TEST(bus_fd__idle_costs_nothing)
{
	struct fake f;
	struct dev d = { 0 };
	struct fake_chan c[8];
	struct vmbus_bus_stats before, after;
	struct pollfd p;
	double cpu;
	uint32_t i;

	fake_init(&f, 1024);
	for (i = 0; i < 8; i++)
		must_eq(vmbus_bus_offer(f.bus, &vsp, &d, NULL, NULL), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, 8), 8);
	for (i = 0; i < 8; i++)
		must_eq(fake_open(&f, &c[i], 3, 3), 0);
	p = (struct pollfd){ .fd = vmbus_bus_fd(f.bus), .events = POLLIN };
	while (poll(&p, 1, 300) == 1)
		fake_run(&f);
	vmbus_bus_stats(f.bus, &before);
	cpu = cpu_seconds();
	must_eq(poll(&p, 1, vmbus_test_full() ? 10000 : 2000), 0);
	cpu = cpu_seconds() - cpu;
	must(cpu < 0.01);
	vmbus_bus_stats(f.bus, &after);
	must_eq(before.dispatches, after.dispatches);
	for (i = 0; i < 8; i++)
		fake_chan_free(&c[i]);
	fake_fini(&f);
}
END_TEST

/* A budget that is spent leaves the descriptor readable. */
START_TEST(bus_dispatch__budget)
{
	struct fake f;
	struct dev d = { 0 };
	struct fake_chan c;
	uint64_t payload = 1, sent = 0;
	int done;

	fake_init(&f, 256);
	must_eq(vmbus_bus_dispatch(f.bus, 0), 0);
	must_eq(vmbus_bus_dispatch(f.bus, 64), 0);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, NULL, NULL), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 9, 3), 0);
	fake_run(&f);
	must(!fake_readable(vmbus_bus_fd(f.bus)));
	while (fake_send(&c, 0, &payload, 8) == 1)
		sent++;
	while (d.packets < sent) {
		must(fake_readable(vmbus_bus_fd(f.bus)));
		done = vmbus_bus_dispatch(f.bus, 7);
		must(done > 0 && done <= 8);
	}
	fake_run(&f);
	must(!fake_readable(vmbus_bus_fd(f.bus)));
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "hostile", 20);

	tcase_add_test(tc, bus_post_message__statuses);
	tcase_add_test(tc, bus_post_message__on_a_connection_of_its_own);
	tcase_add_test(tc, lesson_21_inbox_quota);
	tcase_add_test(tc, lesson_21_queue_quota);
	tcase_add_test(tc, lesson_21_page_list_quota);
	tcase_add_test(tc, lesson_15_no_channel_starves);
	tcase_add_loop_test(tc, lesson_15_no_costly_channel_starves_others, 0, 5);
	tcase_add_test(tc, lesson_15_messages_and_packets);
	tcase_add_test(tc, lesson_31_log_flood);
	tcase_add_test(tc, bus_fd__idle_costs_nothing);
	tcase_add_test(tc, bus_dispatch__budget);
}

VMBUS_TEST_MAIN("bus.hostile", tests)
