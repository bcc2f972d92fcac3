/* SPDX-License-Identifier: MIT */
/* Snapshots of a bus and its channels: states, steps, who waits for whom. */
#include "bus/fake.h"

#include <vmbus/diag.h>

static struct vmbus_chan_diag diag_of(struct fake *f, uint32_t place)
{
	struct vmbus_chan_diag diag;
	uint32_t at = 0;

	do
		must_eq(vmbus_bus_diag_next(f->bus, &at, &diag), 1);
	while (place--);
	must(diag.since <= diag.now);
	return diag;
}

static struct vmbus_bus_diag bus_of(struct fake *f)
{
	struct vmbus_bus_diag diag;

	vmbus_bus_diag(f->bus, &diag);
	must(diag.now >= diag.created);
	return diag;
}

START_TEST(bus_diag__from_attach_to_offers)
{
	struct fake_echo echo = { 0 };
	struct vmbus_bus_diag d;
	struct fake_chan c;
	struct fake f;

	fake_init(&f, 256);
	(void)fake_offer(&f, &fake_echo_vsp, &echo, 0);
	d = bus_of(&f);
	ck_assert_str_eq(d.name, "kid");
	must_eq(d.waits, VMBUS_WAIT_CONTACT);
	must_eq(d.version + d.contact + d.offers + d.message, 0);
	must_eq(d.channels, 1);
	fake_contact(&f, VMBUS_PROTO_5_2);
	d = bus_of(&f);
	must_eq(d.waits, 0);
	must_eq(d.version, VMBUS_PROTO_5_2);
	must(d.contact >= d.created && d.message == d.contact);
	must_eq(d.offers, 0);
	must_eq(fake_offers(&f, &c, 1), 1);
	d = bus_of(&f);
	must(d.offers >= d.contact);
	must_eq(d.refused, 0);
	fake_post_close(&f, &c); /* it is not open */
	fake_run(&f);
	d = bus_of(&f);
	must(d.refused >= d.offers);
	must_eq(d.refusal.relid, c.relid);
	must(d.refusal.what[0] != 0);
	vmbus_bus_reset(f.bus);
	fake_run(&f);
	d = bus_of(&f);
	must_eq(d.waits, VMBUS_WAIT_CONTACT);
	must_eq(d.contact, 0);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_diag__waits_for_the_slot)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
	struct vmbus_bus_diag d;
	struct fake f;

	fake_init(&f, 64);
	fake_contact(&f, VMBUS_PROTO_5_3);
	f.busy = true;
	fake_post(&f, &ctl);
	(void)vmbus_bus_dispatch(f.bus, 64);
	(void)vmbus_bus_dispatch(f.bus, 64);
	d = bus_of(&f);
	must_eq(d.waits, VMBUS_WAIT_SLOT);
	must_eq(d.slot_message, VMBUS_CTL_ALL_OFFERS);
	must(d.slot_since >= d.offers);
	f.busy = false;
	vmbus_bus_slot_free(f.bus, 0, 2);
	fake_expect(&f, VMBUS_CTL_ALL_OFFERS, NULL);
	must_eq(bus_of(&f).waits, 0);
	fake_fini(&f);
}
END_TEST

/* A message that has to wait until what is due to the child has gone out. */
START_TEST(bus_diag__waits_for_replies)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
	struct fake f;
	int i;

	fake_init(&f, 64);
	fake_contact(&f, VMBUS_PROTO_5_3);
	f.busy = true;
	for (i = 0; i < 3; i++) {
		must_eq(bus_of(&f).waits, i ? VMBUS_WAIT_SLOT : 0);
		fake_post(&f, &ctl);
		(void)vmbus_bus_dispatch(f.bus, 64);
		(void)vmbus_bus_dispatch(f.bus, 64);
	}
	must_eq(bus_of(&f).waits, VMBUS_WAIT_SLOT | VMBUS_WAIT_REPLIES);
	f.busy = false;
	vmbus_bus_slot_free(f.bus, 0, 2);
	for (i = 0; i < 3; i++)
		fake_expect(&f, VMBUS_CTL_ALL_OFFERS, NULL);
	fake_expect_none(&f);
	must_eq(bus_of(&f).waits, 0);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_diag_next__steps_and_rings)
{
	struct fake_echo echo = { 0 };
	struct vmbus_chan_diag d;
	struct fake_chan c;
	struct fake f;

	fake_init(&f, 256);
	(void)fake_offer(&f, &fake_echo_vsp, &echo, 0);
	d = diag_of(&f, 0);
	must(d.steps[VMBUS_STEP_OFFERED] != 0 && d.since == d.steps[VMBUS_STEP_OFFERED]);
	must_eq(d.steps[VMBUS_STEP_TOLD], 0);
	must_eq(d.from_child.size, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(diag_of(&f, 0).state, VMBUS_SRV_CLOSED);
	must_eq(fake_open(&f, &c, 4, 5), 0);
	d = diag_of(&f, 0);
	must_eq(d.state, VMBUS_SRV_OPENED);
	must_eq(d.from_child.size, 3 * 4096);
	must_eq(d.to_child.size, 4 * 4096);
	must_eq(d.gpadls, 1);
	must_eq(d.waits, 0);
	must(d.steps[VMBUS_STEP_OPENED] >= d.steps[VMBUS_STEP_OPEN]);
	must_eq(d.steps[VMBUS_STEP_ACCEPTED], 0);
	must(d.armed);
	must_eq(d.from_child.mask, 0);
	must_eq(fake_send(&c, 1, "hello", 5), 1);
	d = diag_of(&f, 0);
	must(d.from_child.used > 0);
	must_eq(d.signals, 1);
	fake_run(&f);
	d = diag_of(&f, 0);
	must_eq(d.from_child.used, 0);
	must(d.steps[VMBUS_STEP_ACCEPTED] >= d.steps[VMBUS_STEP_OPENED]);
	must_eq(d.info.recv.packets, 1);
	must(d.to_child.used > 0); /* the answer */
	must_eq(d.raised, 1);
	must_eq(d.signal_at + d.raised_at, 0); /* no record, no times */
	fake_close(&f, &c);
	d = diag_of(&f, 0);
	must_eq(d.from_child.size, 0);
	must(d.steps[VMBUS_STEP_CLOSED] >= d.steps[VMBUS_STEP_CLOSE]);
	must(d.steps[VMBUS_STEP_CLOSE] > d.steps[VMBUS_STEP_OPENED]);
	fake_fini(&f);
}
END_TEST

static int diag_slow_close(struct vmbus_chan *chan)
{
	(void)chan;
	return VMBUS_E_AGAIN;
}

START_TEST(bus_diag_next__waits_for_the_device)
{
	struct vmbus_vsp slow = fake_echo_vsp;
	struct fake_echo echo = { 0 };
	struct vmbus_chan *chan;
	struct vmbus_chan_diag d;
	struct fake_chan c;
	struct fake f;

	fake_init(&f, 256);
	slow.close = diag_slow_close;
	chan = fake_offer(&f, &slow, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 4, 4), 0);
	(void)vmbus_bus_revoke(chan);
	fake_expect(&f, VMBUS_CTL_RESCIND, NULL);
	d = diag_of(&f, 0);
	must_eq(d.waits, VMBUS_WAIT_DEVICE_CLOSE | VMBUS_WAIT_RELEASE);
	must(d.steps[VMBUS_STEP_RESCINDED] >= d.steps[VMBUS_STEP_CLOSE]);
	vmbus_chan_close_done(chan);
	fake_run(&f);
	must_eq(diag_of(&f, 0).waits, VMBUS_WAIT_RELEASE);
	fake_post_teardown(&f, c.relid, c.gpadl);
	fake_expect(&f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_post_released(&f, c.relid);
	fake_run(&f);
	must_eq(f.removed, 1);
	{
		uint32_t at = 0;

		must_eq(vmbus_bus_diag_next(f.bus, &at, &d), 0);
	}
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_diag_next__waits_for_room)
{
	struct fake_echo echo = { 0 };
	struct vmbus_chan_diag d;
	struct fake_chan c;
	struct fake f;
	int i;

	fake_init(&f, 256);
	(void)fake_offer(&f, &fake_echo_vsp, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 4, 2), 0);
	for (i = 0; i < 200; i++)
		(void)fake_send(&c, (uint64_t)i + 1, "0123456789abcdef0123456789abcdef", 32);
	fake_run(&f);
	d = diag_of(&f, 0);
	must_eq(d.waits, VMBUS_WAIT_ROOM);
	must(d.need > 0 && d.need < 4096);
	must(d.to_child.pending_send != 0);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_diag_next__own_fd_that_nobody_dispatches)
{
	const struct vmbus_offer_opts own = { .struct_bytes = sizeof(own), .own_fd = true };
	struct fake_echo echo = { 0 };
	struct vmbus_chan *chan = NULL;
	struct vmbus_chan_diag d;
	struct fake_chan c;
	struct fake f;

	fake_init(&f, 256);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &own, &chan), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(diag_of(&f, 0).waits, 0);
	fake_rings(&f, &c, 4, 4);
	c.gpadl = f.next_gpadl++;
	must_eq(fake_share(&f, c.relid, c.gpadl, c.first, 8), 0);
	fake_post_open(&f, &c, 0);
	fake_run(&f);
	d = diag_of(&f, 0);
	must(d.own_fd);
	must_eq(d.waits, VMBUS_WAIT_DEVICE_OPEN | VMBUS_WAIT_THREAD);
	must(vmbus_chan_dispatch(chan, 64) >= 0);
	fake_expect(&f, VMBUS_CTL_OPEN_RESULT, NULL);
	must(vmbus_chan_dispatch(chan, 64) >= 0); /* the look after an open */
	must_eq(diag_of(&f, 0).waits, 0);
	must_eq(fake_send(&c, 1, "x", 1), 1);
	must_eq(diag_of(&f, 0).waits, VMBUS_WAIT_THREAD);
	must_eq(vmbus_chan_dispatch(chan, 64), 1); /* the look took nothing away */
	must_eq(diag_of(&f, 0).waits, 0);
	vmbus_bus_reset(f.bus);
	(void)vmbus_bus_dispatch(f.bus, 64);
	must(vmbus_chan_dispatch(chan, 64) >= 0);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

/* Indices that cannot be are told as they are. */
START_TEST(bus_diag_next__hostile_control_pages)
{
	struct fake_echo echo = { 0 };
	struct vmbus_chan_diag d;
	struct fake_chan c;
	struct fake f;

	fake_init(&f, 256);
	(void)fake_offer(&f, &fake_echo_vsp, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 4, 4), 0);
	*(uint32_t *)(void *)(f.mem + c.first * FAKE_PAGE) = UINT32_MAX;
	d = diag_of(&f, 0);
	must(!d.from_child_ok && d.to_child_ok);
	must_eq(d.from_child.write_index, UINT32_MAX);
	must_eq(d.from_child.used, 0);
	(void)vmbus_bus_signal_event(f.bus, c.conn, 0);
	fake_run(&f);
	d = diag_of(&f, 0);
	must(d.steps[VMBUS_STEP_FAULT] != 0);
	must(strstr(d.refused, "write index") != NULL);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

START_TEST(step_name__every_step_has_one)
{
	uint32_t i;

	for (i = 0; i < VMBUS_STEPS; i++)
		must(vmbus_step_name(i)[0] != '?');
	ck_assert_str_eq(vmbus_step_name(VMBUS_STEPS), "?");
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "diag", 8);

	tcase_add_test(tc, bus_diag__from_attach_to_offers);
	tcase_add_test(tc, bus_diag__waits_for_the_slot);
	tcase_add_test(tc, bus_diag__waits_for_replies);
	tcase_add_test(tc, bus_diag_next__steps_and_rings);
	tcase_add_test(tc, bus_diag_next__waits_for_the_device);
	tcase_add_test(tc, bus_diag_next__waits_for_room);
	tcase_add_test(tc, bus_diag_next__own_fd_that_nobody_dispatches);
	tcase_add_test(tc, bus_diag_next__hostile_control_pages);
	tcase_add_test(tc, step_name__every_step_has_one);
}

VMBUS_TEST_MAIN("bus.diag", tests)
