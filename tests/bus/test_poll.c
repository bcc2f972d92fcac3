/* SPDX-License-Identifier: MIT */
/*
 * vmbus_bus_poll(): looks at rings that nobody signals.
 */
#include "watchbox.h"

#include <vmbus/poll.h>

#define CHANS 6u

static uint64_t signals(struct fake_chan *c)
{
	return c->signals;
}

/* Polled packets come without a signal; who stops polling dispatches, and is signalled again. */
START_TEST(bus_poll__is_not_signalled)
{
	struct box b = { 0 };
	uint64_t id;

	box_open(&b, &vsp, false);
	must_eq(vmbus_bus_poll(b.f.bus, 64), 0); /* it was never busy */
	run(&b);
	must(!readable(&b));
	id = 1;
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	must_eq(signals(&b.c), 1);
	run(&b);
	must_eq(b.d.packets, 1);
	must_eq(vmbus_bus_poll(b.f.bus, 64), 0);
	must(readable(&b)); /* who sleeps now is woken */
	for (id = 2; id <= 500; id++) {
		must_eq(fake_send(&b.c, id, &id, 8), 1);
		must_eq(vmbus_bus_poll(b.f.bus, 64), 1);
	}
	must_eq(b.d.packets, 500);
	must_eq(signals(&b.c), 1);
	run(&b);
	must(!readable(&b));
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	must_eq(signals(&b.c), 2);
	run(&b);
	must_eq(b.d.packets, 501);
	box_fini(&b);
}
END_TEST

/* A bus that is only polled does all that one that is dispatched does. */
static void poll_all(struct fake *f)
{
	uint32_t i;

	for (i = 0; i < 2100; i++)
		must(vmbus_bus_poll(f->bus, 64) >= 0);
}

START_TEST(bus_poll__is_a_dispatch_at_times)
{
	struct box b = { 0 };
	struct vmbus_ctl ctl;
	uint64_t id;

	box_init(&b, &vsp, false);
	poll_all(&b.f);
	fake_rings(&b.f, &b.c, 3, 3);
	b.c.gpadl = b.f.next_gpadl++;
	must_eq(fake_share(&b.f, b.c.relid, b.c.gpadl, b.c.first, 6), 0);
	fake_post_open(&b.f, &b.c, 0);
	poll_all(&b.f);
	must_eq(b.d.opens, 1);
	for (id = 1; id <= 20; id++)
		must_eq(fake_send(&b.c, id, &id, 8), 1);
	poll_all(&b.f);
	must_eq(b.d.packets, 20);
	fake_post_close(&b.f, &b.c);
	poll_all(&b.f);
	must_eq(b.d.closes, 1);
	must_eq(vmbus_bus_poll(b.f.bus, 0), 0);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	box_fini(&b);
}
END_TEST

/* A device's own descriptor is looked at while only rings are. */
START_TEST(bus_poll__looks_at_watched_descriptors)
{
	struct box b = { 0 };
	uint64_t id = 1;
	uint32_t n, worst = 0, round;

	box_open(&b, &vsp, false);
	must_eq(vmbus_bus_poll(b.f.bus, 64), 0);
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	run(&b);
	for (round = 1; round <= 200; round++) {
		const uint32_t was = b.d.readies;

		ring(&b);
		for (n = 0; n < 2000 && b.d.readies == was; n++)
			must(vmbus_bus_poll(b.f.bus, 64) >= 0);
		must_eq(b.d.readies, was + 1);
		if (n > worst)
			worst = n;
	}
	must(worst <= 70);
	run(&b);
	must_eq(drain(&b), 1);
	box_fini(&b);
}
END_TEST

/* Busy channels share what a poll may do; one that is withdrawn meanwhile is none of them. */
START_TEST(bus_poll__is_fair)
{
	struct fake f;
	struct dev d[CHANS];
	struct fake_chan c[CHANS];
	struct vmbus_chan *chan[CHANS];
	uint64_t id = 1;
	uint32_t i, n;

	fake_init(&f, 1024);
	memset(d, 0, sizeof(d));
	for (i = 0; i < CHANS; i++) {
		d[i].fd = eventfd(0, EFD_NONBLOCK);
		chan[i] = fake_offer(&f, &vsp, &d[i], i);
	}
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, CHANS), CHANS);
	for (i = 0; i < CHANS; i++)
		must_eq(fake_open(&f, &c[i], 17, 17), 0);
	must_eq(vmbus_bus_poll(f.bus, 64), 0);
	for (i = 0; i < CHANS; i++)
		must_eq(fake_send(&c[i], 0, &id, 8), 1);
	fake_run(&f);
	for (n = 0; n < 64; n++)
		for (i = 0; i < CHANS; i++)
			must_eq(fake_send(&c[i], 0, &id, 8), 1);
	for (n = 0; n < 4 * CHANS; n++)
		must(vmbus_bus_poll(f.bus, 8) >= 8);
	for (i = 0; i < CHANS; i++) {
		must(d[i].packets >= 1 + 8);
		must(d[i].packets <= 1 + 48);
	}
	must_eq(vmbus_bus_revoke(chan[2]), 0);
	for (n = 0; n < 200; n++)
		must(vmbus_bus_poll(f.bus, 8) >= 0);
	for (i = 0; i < CHANS; i++)
		must(i == 2 ? d[i].closes == 1 : d[i].packets == 65);
	fake_run(&f);
	f.taken = f.posted;
	must(!fake_readable(vmbus_bus_fd(f.bus)));
	fake_fini(&f);
	for (i = 0; i < CHANS; i++) {
		fake_chan_free(&c[i]);
		close(d[i].fd);
	}
}
END_TEST

static struct vmbus_bus *inside;
static int inside_err;

static void poll_inside(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	(void)pkt;
	(void)n;
	inside_err = vmbus_bus_poll(inside, 1);
}

START_TEST(bus_poll__not_in_a_callback)
{
	static const struct vmbus_vsp v = { VSP, .ready = dev_ready };
	struct vmbus_vsp mine = v;
	struct box b = { 0 };
	uint64_t id = 1;

	mine.packets = poll_inside;
	box_open(&b, &mine, false);
	inside = b.f.bus;
	must_eq(fake_send(&b.c, 0, &id, 8), 1);
	run(&b);
	must_eq(inside_err, VMBUS_E_STATE);
	inside_err = 0;
	must_eq(fake_send(&b.c, 0, &id, 8), 1);
	while (inside_err == 0)
		must(vmbus_bus_poll(b.f.bus, 64) >= 0);
	must_eq(inside_err, VMBUS_E_STATE);
	box_fini(&b);
}
END_TEST

/* A channel that brings nothing for long is left to its signals. */
START_TEST(bus_poll__lets_the_idle_sleep)
{
	struct box b = { 0 };
	uint64_t id = 1;
	uint32_t n;

	box_open(&b, &vsp, false);
	must_eq(vmbus_bus_poll(b.f.bus, 64), 0);
	must_eq(vmbus_chan_watch(b.chan, -1), 0);
	must_eq(fake_send(&b.c, 0, &id, 8), 1);
	run(&b);
	for (n = 0; n < 20000; n++) /* a dispatch counts its looks as work */
		must(vmbus_bus_poll(b.f.bus, 64) <= 1);
	must_eq(b.d.packets, 1);
	must_eq(fake_send(&b.c, 0, &id, 8), 1);
	must_eq(signals(&b.c), 2);
	run(&b);
	must_eq(b.d.packets, 2);
	box_fini(&b);
}
END_TEST

static void tests(Suite *s)
{
	TCase *t = vmbus_test_case(s, "poll", 20);

	tcase_add_test(t, bus_poll__is_not_signalled);
	tcase_add_test(t, bus_poll__is_a_dispatch_at_times);
	tcase_add_test(t, bus_poll__looks_at_watched_descriptors);
	tcase_add_test(t, bus_poll__is_fair);
	tcase_add_test(t, bus_poll__not_in_a_callback);
	tcase_add_test(t, bus_poll__lets_the_idle_sleep);
}

VMBUS_TEST_MAIN("bus.poll", tests)
