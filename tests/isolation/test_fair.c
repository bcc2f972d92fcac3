/* SPDX-License-Identifier: MIT */
/*
 * What a child makes the bus do is paid for by its own budget, whatever it is: opens, resets, page
 * lists, what a device sends, large packets, looks that find nothing.  Units of work are counted, and
 * the turns that others have meanwhile; no time is looked at.  src/bus/bus.c.
 */
#include "bus/fake.h"

#define BUDGET 64u
#define RING_PAGES 65u /* of one direction, control page included */

/* What a bus does with budgets of one size until it has nothing left: units, and calls. */
struct bill {
	uint64_t units, calls;
};

static struct bill run(struct fake *f, uint32_t budget)
{
	struct bill bill = { 0, 0 };
	int done;

	while ((done = vmbus_bus_dispatch(f->bus, budget)) != 0) {
		must(done > 0 && (uint32_t)done <= budget);
		bill.units += (uint32_t)done;
		bill.calls++;
		must(bill.calls < 1000000);
	}
	return bill;
}

static void add(struct bill *sum, struct bill bill)
{
	sum->units += bill.units;
	sum->calls += bill.calls;
}

static struct vmbus_bus_stats stats_of(const struct fake *f)
{
	struct vmbus_bus_stats stats;

	vmbus_bus_stats(f->bus, &stats);
	return stats;
}

static void connect(struct fake *f, const struct vmbus_vsp *vsp, void *ctx, struct fake_chan *c)
{
	fake_init(f, 4096);
	fake_offer(f, vsp, ctx, 0);
	fake_contact(f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(f, c, 1), 1);
}

START_TEST(dispatch__opens_are_paid_for)
{
	struct fake_echo echo = { 0 };
	struct bill bill = { 0, 0 };
	struct vmbus_ctl ctl;
	struct fake_chan c;
	struct fake f;
	int i;

	connect(&f, &fake_echo_vsp, &echo, &c);
	must_eq(fake_open(&f, &c, RING_PAGES, RING_PAGES), 0);
	fake_post_close(&f, &c);
	fake_run(&f);
	for (i = 0; i < 50; i++) {
		fake_rings(&f, &c, RING_PAGES, RING_PAGES);
		fake_post_open(&f, &c, 0);
		add(&bill, run(&f, BUDGET));
		fake_expect(&f, VMBUS_CTL_OPEN_RESULT, &ctl);
		must_eq(ctl.u.result.status, 0);
		fake_post_close(&f, &c);
		add(&bill, run(&f, BUDGET));
	}
	/* Each costs its pages and its mappings, not the handful of units that its messages are. */
	must(bill.units >= 50 * (64 + 2 * RING_PAGES / 4));
	must(bill.calls >= 50);
	must_eq(stats_of(&f).debt, 0);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

START_TEST(dispatch__contacts_are_paid_for)
{
	struct fake_echo echo = { 0 };
	struct bill bill = { 0, 0 };
	struct fake_chan c;
	struct fake f;
	int i;

	connect(&f, &fake_echo_vsp, &echo, &c);
	for (i = 0; i < 100; i++) {
		struct vmbus_ctl ctl = { .type = VMBUS_CTL_UNLOAD };

		fake_post(&f, &ctl);
		add(&bill, run(&f, BUDGET));
		fake_expect(&f, VMBUS_CTL_UNLOAD_RESPONSE, &ctl);
		fake_contact(&f, VMBUS_PROTO_5_3);
	}
	must(bill.units >= 100ull * VMBUS_RELID_MAX / 32); /* it goes through all channels */
	fake_fini(&f);
}
END_TEST

/* A device that answers each packet with many. */
static void many_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t *const sent = vmbus_chan_ctx(chan), i;

	(void)pkt;
	for (i = 0; i < 100 * n; i++) {
		const struct vmbus_msg msg = { .data = "12345678",
					       .len = 8,
					       .type = VMBUS_PKT_INBAND };

		*sent += vmbus_chan_send(chan, &msg, 1) == 1;
	}
}

static const struct vmbus_vsp many_vsp = {
	.struct_bytes = sizeof(many_vsp),
	.name = "many",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0002, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 1),
	.packets = many_packets,
};

START_TEST(dispatch__what_a_device_sends_is_paid_for)
{
	uint32_t sent = 0, i;
	struct vmbus_bus_stats before;
	struct fake_chan c;
	struct bill bill;
	struct fake f;

	connect(&f, &many_vsp, &sent, &c);
	must_eq(fake_open(&f, &c, RING_PAGES, RING_PAGES), 0);
	fake_run(&f);
	before = stats_of(&f);
	for (i = 0; i < 10; i++)
		must_eq(fake_send(&c, 0, "x", 1), 1);
	bill = run(&f, 16);
	must_eq(sent, 1000);
	must(bill.units >= 1000);
	must(bill.calls >= 1000 / 16);
	must(stats_of(&f).charged - before.charged >= 1000 - 10);
	must_eq(stats_of(&f).debt, 0);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

START_TEST(dispatch__large_packets_are_paid_for)
{
	static uint8_t large[100000];
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct bill bill;
	struct fake f;

	connect(&f, &fake_echo_vsp, &echo, &c);
	must_eq(fake_open(&f, &c, RING_PAGES, RING_PAGES), 0);
	fake_run(&f);
	must_eq(fake_send(&c, 1, large, sizeof(large)), 1);
	bill = run(&f, 16);
	must_eq(echo.packets, 1);
	must(bill.units >= 2 * sizeof(large) / 2048); /* copied in, and out */
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

/* A debt is paid before anything else, and by nobody but the bus that made it. */
START_TEST(dispatch__a_debt_is_paid_first)
{
	uint32_t sent = 0, i;
	struct fake_chan c;
	struct fake f;

	connect(&f, &many_vsp, &sent, &c);
	must_eq(fake_open(&f, &c, RING_PAGES, RING_PAGES), 0);
	fake_run(&f);
	must_eq(fake_send(&c, 0, "x", 1), 1);
	must_eq(vmbus_bus_dispatch(f.bus, 16), 16);
	must_eq(sent, 100);
	must(stats_of(&f).debt >= 100 - 16);
	must_eq(fake_send(&c, 0, "x", 1), 1);
	for (i = 0; i < 5; i++) { /* it has a packet to serve, and must not yet */
		must_eq(sent, 100);
		must(fake_readable(vmbus_bus_fd(f.bus)));
		must_eq(vmbus_bus_dispatch(f.bus, 16), 16);
	}
	(void)run(&f, 16);
	must_eq(sent, 200);
	must_eq(stats_of(&f).debt, 0);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

enum hostile {
	HONEST,
	OPENS,
	CONTACTS,
	SIGNALS,
	POSTS
};

/* One step of a child: it does as much as it can between two turns of its parent. */
static void step(struct fake *f, struct fake_chan *c, enum hostile kind)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_UNLOAD };
	struct vmbus_packet pkt[64];
	uint32_t i;

	f->posted = f->taken = 0;
	switch (kind) {
	case HONEST:
		while (fake_receive(c, pkt, 64) > 0)
			;
		while (fake_send(c, 1, "12345678", 8) == 1)
			;
		break;
	case OPENS:
		ctl.type = VMBUS_CTL_OPEN;
		ctl.u.open.relid = c->relid;
		ctl.u.open.gpadl = c->gpadl;
		ctl.u.open.downstream_page = c->up;
		for (i = 0; i < 32; i++) {
			(void)fake_try_post(f, VMBUS_CONN_MESSAGE, &ctl);
			ctl.type = i % 2 ? VMBUS_CTL_OPEN : VMBUS_CTL_CLOSE;
			ctl.u.chan.relid = c->relid;
		}
		break;
	case CONTACTS:
		for (i = 0; i < 64; i++)
			(void)fake_try_post(f, VMBUS_CONN_MESSAGE, &ctl);
		break;
	case SIGNALS:
		for (i = 0; i < 10000; i++) {
			(void)vmbus_bus_signal_event(f->bus, c->conn, 0);
			(void)vmbus_bus_signal_event(f->bus, 0xFFFFFF, 0);
		}
		break;
	case POSTS:
	default:
		ctl.type = VMBUS_CTL_GPADL_TEARDOWN;
		ctl.u.created.gpadl = 12345;
		for (i = 0; i < 64; i++)
			(void)fake_try_post(f, VMBUS_CONN_MESSAGE, &ctl);
		break;
	}
}

/* What one of three children is served in so many rounds, while another is of that kind. */
static uint32_t served_beside(enum hostile kind)
{
	struct fake_echo echo[3] = { { 0 } };
	struct fake_chan c[3];
	struct fake f[3];
	uint64_t units = 0;
	uint32_t i, served;

	for (i = 0; i < 3; i++) {
		connect(&f[i], &fake_echo_vsp, &echo[i], &c[i]);
		must_eq(fake_open(&f[i], &c[i], RING_PAGES, RING_PAGES), 0);
		fake_run(&f[i]);
		echo[i].packets = 0;
	}
	/* The parent's time is units: each has a turn in a circle until they are spent. */
	for (i = 0; units < 60000; i = (i + 1) % 3) {
		const enum hostile now = i == 0 ? kind : HONEST;
		int done;

		step(&f[i], &c[i], now);
		done = vmbus_bus_dispatch(f[i].bus, BUDGET);
		must(done >= 0 && (uint32_t)done <= BUDGET);
		units += (uint32_t)done;
	}
	served = echo[1].packets;
	for (i = 0; i < 3; i++) {
		fake_chan_free(&c[i]);
		fake_fini(&f[i]);
	}
	return served;
}

START_TEST(children__a_hostile_one_takes_no_more_than_an_honest_one)
{
	static const enum hostile kinds[] = { OPENS, CONTACTS, SIGNALS, POSTS };
	const uint32_t fair = served_beside(HONEST);
	uint32_t i;

	must(fair >= 60000 / 3 * 9 / 10);
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const uint32_t served = served_beside(kinds[i]);

		vmbus_test_at("kind %u: %u packets, %u beside an honest one", (unsigned)kinds[i],
			      served, fair);
		must(served >= fair * 9 / 10);
	}
}
END_TEST

/* A channel that is signalled all the time and has nothing takes a look a round from the others. */
START_TEST(channels__looks_that_find_nothing_cost_one_unit)
{
	struct fake_echo echo[2] = { { 0 } };
	struct fake_chan c[2];
	struct fake f;
	uint32_t i;

	fake_init(&f, 4096);
	fake_offer(&f, &fake_echo_vsp, &echo[0], 0);
	fake_offer(&f, &fake_echo_vsp, &echo[1], 1);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, 2), 2);
	for (i = 0; i < 2; i++)
		must_eq(fake_open(&f, &c[i], RING_PAGES, RING_PAGES), 0);
	fake_run(&f);
	for (i = 0; i < 1000; i++) {
		struct vmbus_packet pkt[64];

		while (fake_receive(&c[1], pkt, 64) > 0)
			;
		while (fake_send(&c[1], 1, "12345678", 8) == 1)
			;
		(void)vmbus_bus_signal_event(f.bus, c[0].conn, 0);
		must(vmbus_bus_dispatch(f.bus, BUDGET) > 0);
	}
	must_eq(echo[0].packets, 0);
	must(echo[1].packets >= 1000 * (BUDGET - 2));
	for (i = 0; i < 2; i++)
		fake_chan_free(&c[i]);
	fake_fini(&f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "fair", 10);

	tcase_add_test(tc, dispatch__opens_are_paid_for);
	tcase_add_test(tc, dispatch__contacts_are_paid_for);
	tcase_add_test(tc, dispatch__what_a_device_sends_is_paid_for);
	tcase_add_test(tc, dispatch__large_packets_are_paid_for);
	tcase_add_test(tc, dispatch__a_debt_is_paid_first);
	tcase_add_test(tc, children__a_hostile_one_takes_no_more_than_an_honest_one);
	tcase_add_test(tc, channels__looks_that_find_nothing_cost_one_unit);
}

VMBUS_TEST_MAIN("isolation.fair", tests)
