/* SPDX-License-Identifier: MIT */
/* Channels whose rings are served elsewhere: their rings, signals and wake-ups. */
#include "foreign.h"

START_TEST(chan_rings__are_pinned_and_not_touched)
{
	struct vmbus_bus_stats stats;
	struct vmbus_chan_info info;
	struct vmbus_chan_rings rings;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	b.f.region.fd = b.f.fd; /* so that rings could be mirrored */
	box_start(&b, &all_vsp);
	must_eq(vmbus_chan_rings(b.chan, &rings), VMBUS_E_STATE);
	must_eq(open_vp(&b, 3, 5, 1), 0);
	must_eq(vmbus_chan_rings(b.chan, &rings), 0);
	must_eq(rings.pages, 8);
	must_eq(rings.down_page, 3);
	for (i = 0; i < 8; i++)
		must_eq(rings.frames[i], b.c.first + i);
	must_eq(rings.gpadl, b.c.gpadl);
	must_eq(rings.conn_id, b.c.conn);
	must_eq(rings.target_vp, 1);
	must_eq(rings.target_sint, VMBUS_SINT_MESSAGE);
	must_eq(rings.event_flag, b.c.relid);
	must(memcmp(&rings, &b.d.rings, sizeof(rings)) == 0); /* also in open() */
	must_eq(vmbus_region_pins(&b.f.region), 1);
	vmbus_bus_stats(b.f.bus, &stats);
	must_eq(stats.mirrored, 0);
	vmbus_chan_info(b.chan, &info);
	must_eq(info.recv_bytes, 2 * FAKE_PAGE);
	must_eq(info.send_bytes, 4 * FAKE_PAGE);
	for (i = 0; i < 10; i++) {
		must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK);
		fake_run(&b.f);
	}
	must_eq(b.d.packets, 0);
	fake_post_close(&b.f, &b.c);
	fake_run(&b.f);
	must_eq(b.d.closes, 1);
	must_eq(vmbus_region_pins(&b.f.region), 0);
	untouched(&b, 8);
	box_fini(&b);
}
END_TEST

START_TEST(chan_rings__of_a_channel_that_is_not_foreign)
{
	struct vmbus_chan_rings rings;
	struct fake_echo echo = { 0 };
	struct vmbus_wake wake;
	struct fake_chan c;
	struct fake f;
	struct vmbus_chan *chan;
	uint64_t raised;

	fake_init(&f, 256);
	chan = fake_offer(&f, &fake_echo_vsp, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 3, 3), 0);
	raised = f.raised;
	must_eq(vmbus_chan_rings(chan, &rings), VMBUS_E_INVAL);
	must_eq(vmbus_chan_bind(chan, 1), VMBUS_E_INVAL);
	must_eq(vmbus_chan_wake(chan, &wake), VMBUS_E_STATE);
	vmbus_chan_signal(chan);
	vmbus_chan_gpadl_done(chan, c.gpadl);
	vmbus_bus_wake_changed(f.bus, VMBUS_VP_NONE);
	fake_run(&f);
	must_eq(f.raised, raised);
	fake_close(&f, &c);
	fake_fini(&f);
}
END_TEST

/* Shape and place are checked as for any channel, before anybody hears of the open. */
START_TEST(chan_rings__that_cannot_be)
{
	static const uint32_t shapes[][2] = { { 1, 5 }, { 5, 1 }, { 2, 1030 } };
	struct vmbus_ctl ctl;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	fake_fini(&b.f);
	memset(&b, 0, sizeof(b));
	fake_prepare(&b.f, 2048);
	box_start(&b, &all_vsp);
	for (i = 0; i < 3; i++) {
		vmbus_test_at("shape %u", i);
		b.c.first = 1;
		must_eq(open_vp(&b, shapes[i][0], shapes[i][1], 0), VMBUS_STATUS_FAILED);
		fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
		fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	}
	must_eq(fake_share(&b.f, b.c.relid, 5, 2047, 4), VMBUS_STATUS_FAILED);
	b.c.gpadl = 5;
	fake_post_open(&b.f, &b.c, 0);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, VMBUS_STATUS_FAILED);
	must_eq(open_vp(&b, 2, 2, 99), VMBUS_STATUS_FAILED); /* no such VP */
	must_eq(b.d.opens, 0);
	must_eq(vmbus_region_pins(&b.f.region), 0);
	box_fini(&b);
}
END_TEST

START_TEST(bus_offer__foreign)
{
	const struct vmbus_offer_opts own = { .struct_bytes = sizeof(own), .own_fd = true };
	struct vmbus_vsp plain = bare_vsp;
	struct dev d = { .fd = -1 };
	struct box b;

	box_init(&b);
	must_eq(vmbus_bus_offer(b.f.bus, &bare_vsp, &d, &own, NULL), VMBUS_E_INVAL);
	must(fake_logged(&b.f, "own_fd is for rings that are served here"));
	must_eq(vmbus_bus_offer(b.f.bus, &bare_vsp, &d, NULL, NULL), 0);
	plain.flags = 0;
	must_eq(vmbus_bus_offer(b.f.bus, &plain, &d, NULL, NULL), VMBUS_E_INVAL);
	box_fini(&b);
}
END_TEST

START_TEST(chan_send__of_a_foreign_channel)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };
	struct vmbus_piece piece;
	struct vmbus_sgl sgl = { .pieces = &piece, .room = 1 };
	struct box b;

	box_init(&b);
	must_eq(box_open(&b), 0);
	must_eq(vmbus_chan_send(b.chan, &msg, 1), VMBUS_E_STATE);
	must_eq(vmbus_chan_complete(b.chan, 1, NULL, 0), VMBUS_E_STATE);
	must_eq(vmbus_chan_flush(b.chan), VMBUS_E_STATE);
	must_eq(vmbus_chan_gpadl(b.chan, b.c.gpadl, VMBUS_READ, &sgl), VMBUS_E_STATE);
	box_fini(&b);
	must_eq(b.d.closes, 1);
	must_eq(b.d.removed, 1);
}
END_TEST

/* Opened and closed by who serves it, in its own time. */
START_TEST(chan_open_done__of_a_foreign_channel)
{
	struct vmbus_chan_rings rings;
	struct vmbus_ctl ctl;
	struct box b;

	box_init(&b);
	b.d.open_err = VMBUS_E_AGAIN;
	b.d.close_err = VMBUS_E_AGAIN;
	(void)box_open(&b);
	must_eq(vmbus_chan_rings(b.chan, &rings), 0);
	vmbus_chan_open_done(b.chan, 0);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	fake_post_close(&b.f, &b.c);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect_none(&b.f);
	must_eq(b.d.closes, 1);
	must_eq(rings.frames[7], b.c.first + 7); /* until close() is done */
	must_eq(vmbus_region_pins(&b.f.region), 1);
	vmbus_chan_close_done(b.chan);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(vmbus_region_pins(&b.f.region), 0);
	box_fini(&b);
}
END_TEST

START_TEST(chan_bind__by_the_backend)
{
	const int fd = eventfd(0, EFD_NONBLOCK), other = eventfd(0, EFD_NONBLOCK);
	struct box b;

	box_init(&b);
	must_eq(vmbus_chan_bind(b.chan, fd), VMBUS_E_STATE);
	b.d.bind_in_open = true;
	b.d.fd = fd;
	must_eq(box_open(&b), 0);
	must_eq(b.f.binds, 1);
	must_eq(b.f.bound_conn[0], b.c.conn);
	must_eq(eventfd_write(b.f.bound[0], 5), 0);
	must_eq(count_of(fd), 5); /* it is that one, and nobody wrote it */
	must_eq(b.d.signalled >= 1, 1);
	must_eq(vmbus_chan_bind(b.chan, -2), VMBUS_E_INVAL);
	must_eq(b.f.unbinds, 0);
	must_eq(vmbus_chan_bind(b.chan, other), 0); /* no backend has two for one id */
	must_eq(b.f.unbinds, 1);
	must_eq(b.f.binds, 2);
	must_eq(vmbus_chan_bind(b.chan, -1), 0);
	must_eq(b.f.unbinds, 2);
	must_eq(vmbus_chan_bind(b.chan, -1), 0);
	must_eq(b.f.unbinds, 2);
	must_eq(vmbus_chan_bind(b.chan, fd), 0);
	fake_post_close(&b.f, &b.c);
	fake_run(&b.f);
	must_eq(b.f.unbinds, 3); /* by the close */
	must_eq(count_of(fd) + count_of(other), 0);
	b.d.bind_in_open = true;
	b.d.open_err = VMBUS_E_NOMEM;
	must_eq(box_open(&b), VMBUS_STATUS_FAILED);
	must_eq(b.f.unbinds, 4); /* by an open that is refused */
	box_fini(&b);
	close(fd);
	close(other);
}
END_TEST

START_TEST(chan_bind__where_the_backend_cannot)
{
	const int fd = eventfd(0, EFD_NONBLOCK);
	struct box b;
	int how;

	for (how = 0; how < 2; how++) {
		box_prepare(&b);
		if (how)
			b.f.backend.bind = NULL;
		else
			memset(b.f.bound_conn, 1, sizeof(b.f.bound_conn)); /* AGAIN */
		box_start(&b, &bare_vsp);
		must_eq(box_open(&b), 0);
		must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK);
		fake_run(&b.f); /* nobody there yet */
		must_eq(vmbus_chan_bind(b.chan, fd), 0);
		fake_run(&b.f);
		must_eq(count_of(fd), 1); /* for what came before */
		fake_run(&b.f);
		must_eq(count_of(fd), 0);
		must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK);
		must_eq(count_of(fd), 0);
		fake_run(&b.f);
		must_eq(count_of(fd), 1);
		must_eq(vmbus_chan_bind(b.chan, -1), 0);
		must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK);
		fake_run(&b.f);
		must_eq(count_of(fd), 0);
		memset(b.f.bound_conn, 0, sizeof(b.f.bound_conn));
		box_fini(&b);
	}
	close(fd);
}
END_TEST

/* With signalled() the bus never writes the descriptor, which others may have. */
START_TEST(vsp_signalled__in_place_of_a_write)
{
	const int fd = eventfd(0, EFD_NONBLOCK);
	struct box b;
	uint32_t n;

	box_init(&b);
	b.d.open_err = VMBUS_E_AGAIN;
	(void)box_open(&b);
	must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK);
	fake_run(&b.f);
	must_eq(b.d.signalled, 1); /* also while it opens */
	vmbus_chan_open_done(b.chan, 0);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, NULL);
	n = b.d.signalled;
	must_eq(vmbus_chan_bind(b.chan, fd), 0);
	fake_run(&b.f);
	must_eq(b.d.signalled, n + 1);
	must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK); /* under way */
	fake_run(&b.f);
	must_eq(b.d.signalled, n + 2);
	must_eq(count_of(fd), 0);
	fake_post_close(&b.f, &b.c);
	fake_run(&b.f);
	must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK);
	fake_run(&b.f);
	must_eq(b.d.signalled, n + 2);
	box_fini(&b);
	close(fd);
}
END_TEST

START_TEST(chan_signal__raises_the_childs_flag)
{
	struct box b;

	box_init(&b);
	vmbus_chan_signal(b.chan);
	must_eq(b.f.raised, 0);
	must_eq(box_open(&b), 0);
	vmbus_chan_signal(b.chan);
	vmbus_chan_signal(b.chan);
	must_eq(b.f.flags[b.c.relid], 2);
	fake_post_close(&b.f, &b.c);
	fake_run(&b.f);
	vmbus_chan_signal(b.chan);
	must_eq(b.f.flags[b.c.relid], 2);
	must_eq(open_vp(&b, 3, 5, VMBUS_VP_NONE), 0);
	vmbus_chan_signal(b.chan);
	must_eq(b.f.flags[b.c.relid], 2);
	box_fini(&b);
}
END_TEST

START_TEST(chan_wake__says_what_the_backend_says)
{
	struct vmbus_wake wake;
	struct box b;

	wake_now = (struct vmbus_wake){ .gpa = 0x5200, .fd = 77 };
	wake_err = 0;
	box_init(&b);
	must_eq(vmbus_chan_wake(b.chan, &wake), VMBUS_E_STATE);
	must_eq(open_vp(&b, 3, 5, 2), 0);
	must_eq(vmbus_chan_wake(b.chan, &wake), VMBUS_E_NOTSUP);
	b.f.backend.wake = tell_wake;
	must_eq(vmbus_chan_wake(b.chan, &wake), 0);
	must_eq(wakes_of, 2);
	must_eq(wake.gpa, 0x5200);
	must_eq(wake.fd, 77);
	wake_err = VMBUS_E_RANGE;
	must_eq(vmbus_chan_wake(b.chan, &wake), VMBUS_E_NOTSUP);
	fake_post_close(&b.f, &b.c);
	fake_run(&b.f);
	must_eq(vmbus_chan_wake(b.chan, &wake), VMBUS_E_STATE);
	must_eq(open_vp(&b, 3, 5, VMBUS_VP_NONE), 0);
	must_eq(vmbus_chan_wake(b.chan, &wake), VMBUS_E_STATE);
	box_fini(&b);
}
END_TEST

START_TEST(bus_wake_changed__tells_the_channels_of_that_vp)
{
	struct box b;
	uint32_t n;

	box_init(&b);
	vmbus_bus_wake_changed(b.f.bus, 2);
	fake_run(&b.f);
	must_eq(b.d.modified, 0); /* it is closed */
	must_eq(open_vp(&b, 3, 5, 2), 0);
	vmbus_bus_wake_changed(b.f.bus, 1);
	fake_run(&b.f);
	must_eq(b.d.modified, 0);
	for (n = 0; n < 100; n++) /* a guest that will not stop */
		vmbus_bus_wake_changed(b.f.bus, 2);
	must(fake_readable(vmbus_bus_fd(b.f.bus)));
	fake_run(&b.f);
	must_eq(b.d.modified, 1);
	vmbus_bus_wake_changed(b.f.bus, VMBUS_VP_NONE);
	fake_run(&b.f);
	must_eq(b.d.modified, 2);
	box_fini(&b);
	box_prepare(&b);
	box_start(&b, &bare_vsp);
	must_eq(box_open(&b), 0);
	vmbus_bus_wake_changed(b.f.bus, VMBUS_VP_NONE);
	fake_run(&b.f); /* to somebody who does not listen */
	box_fini(&b);
}
END_TEST

START_TEST(vsp_modified__by_the_child)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_MODIFY };
	struct box b;

	box_init(&b);
	must_eq(open_vp(&b, 3, 5, 1), 0);
	ctl.u.modify.relid = b.c.relid;
	ctl.u.modify.target_vp = 3;
	fake_post(&b.f, &ctl);
	fake_run(&b.f);
	must_eq(b.d.modified, 1);
	must_eq(b.d.rings.target_vp, 3);
	b.f.taken = b.f.posted = 0;
	ctl.u.modify.target_vp = 17; /* there is none */
	fake_post(&b.f, &ctl);
	fake_run(&b.f);
	must_eq(b.d.modified, 1);
	box_fini(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "foreign", 20);

	tcase_add_test(tc, chan_rings__are_pinned_and_not_touched);
	tcase_add_test(tc, chan_rings__of_a_channel_that_is_not_foreign);
	tcase_add_test(tc, chan_rings__that_cannot_be);
	tcase_add_test(tc, bus_offer__foreign);
	tcase_add_test(tc, chan_send__of_a_foreign_channel);
	tcase_add_test(tc, chan_open_done__of_a_foreign_channel);
	tcase_add_test(tc, chan_bind__by_the_backend);
	tcase_add_test(tc, chan_bind__where_the_backend_cannot);
	tcase_add_test(tc, vsp_signalled__in_place_of_a_write);
	tcase_add_test(tc, chan_signal__raises_the_childs_flag);
	tcase_add_test(tc, chan_wake__says_what_the_backend_says);
	tcase_add_test(tc, bus_wake_changed__tells_the_channels_of_that_vp);
	tcase_add_test(tc, vsp_modified__by_the_child);
}

VMBUS_TEST_MAIN("bus.foreign", tests)
