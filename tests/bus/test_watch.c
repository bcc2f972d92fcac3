/* SPDX-License-Identifier: MIT */
/*
 * A device that waits for a descriptor of its own, beside packets: on channels of the bus, and on
 * those with own_fd, which most tests do twice.
 */
#include "watchbox.h"

/* What ready() sends goes out when it returns, with one signal. */
START_TEST(chan_watch__ready_publishes_at_its_end)
{
	struct box b = { .bind = _i >= 2 };
	struct vmbus_chan_info info;
	uint64_t id;

	box_open(&b, &vsp, _i % 2);
	must(!readable(&b));
	for (id = 1; id <= 20; id++)
		must_eq(fake_send(&b.c, id, &id, 8), 1);
	run(&b);
	must_eq(b.d.packets, 20);
	must_eq(atomic_load(&b.f.raised), 0);
	ring(&b);
	must(readable(&b));
	run(&b);
	must_eq(b.d.readies, 1);
	must_eq(atomic_load(&b.f.raised), 1);
	must_eq(drain(&b), 20);
	vmbus_chan_info(b.chan, &info);
	must_eq(info.send.batches, 1);
	must_eq(fake_send(&b.c, 21, &id, 8), 1); /* it still sleeps and wakes as before */
	run(&b);
	must_eq(b.d.packets, 21);
	must_eq(b.d.readies, 1);
	box_fini(&b);
}
END_TEST

/* Level: what is left is told again, one unit each, and packets have their turn beside it. */
START_TEST(chan_watch__what_is_left_is_told_again)
{
	struct box b = { 0 };
	uint64_t id = 7;
	uint32_t n;

	box_open(&b, &vsp, _i);
	b.d.leave = true;
	ring(&b);
	for (n = 1; n <= 10; n++) {
		must(readable(&b));
		must(_i ? vmbus_chan_dispatch(b.chan, 1) == 1
			: vmbus_bus_dispatch(b.f.bus, 1) == 1);
	}
	must(b.d.readies >= 5);
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	for (n = 0; n < 10 && !b.d.packets; n++)
		must(_i ? vmbus_chan_dispatch(b.chan, 8) > 0 : vmbus_bus_dispatch(b.f.bus, 8) > 0);
	must_eq(b.d.packets, 1);
	b.d.leave = false;
	run(&b);
	must(!readable(&b));
	box_fini(&b);
}
END_TEST

/* With a budget of one and both always there, neither waits for ever. */
START_TEST(chan_watch__a_budget_of_one_reaches_both)
{
	struct box b = { 0 };
	uint64_t id;
	uint32_t n;

	box_open(&b, &vsp, _i);
	b.d.leave = true;
	ring(&b);
	for (id = 1; id <= 100; id++)
		must_eq(fake_send(&b.c, id, &id, 8), 1);
	for (n = 0; n < 1000 && b.d.packets < 100; n++)
		(void)(_i ? vmbus_chan_dispatch(b.chan, 1) : vmbus_bus_dispatch(b.f.bus, 1));
	must_eq(b.d.packets, 100);
	must(b.d.readies >= 20);
	b.d.leave = false;
	run(&b);
	must_eq(drain(&b), 100);
	box_fini(&b);
}
END_TEST

/* While a send waits for room the descriptor waits as well, and does not keep the thread awake. */
START_TEST(chan_watch__waits_while_full)
{
	struct box b = { 0 };
	struct vmbus_ctl ctl;
	uint32_t readies, sent = 0, got = 0, n;
	uint64_t id;

	box_init(&b, &vsp, _i);
	opened(&b, 17, 2);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	for (id = 1; id <= 400; id++) {
		must_eq(fake_send(&b.c, id, &id, 8), 1);
		sent++;
	}
	run(&b);
	ring(&b);
	run(&b);
	must_eq(b.d.readies, 1);
	must(b.d.head != b.d.tail); /* the ring is full */
	readies = b.d.readies;
	ring(&b);
	run(&b); /* which ends, since nothing is readable */
	must_eq(b.d.readies, readies);
	must(!readable(&b));
	for (n = 0; n < 100 && got < sent; n++) {
		got += drain(&b);
		run(&b);
	}
	must_eq(got, sent);
	must(b.d.writables > 0);
	must_eq(b.d.readies, readies + 1); /* what came meanwhile */
	box_fini(&b);
}
END_TEST

START_TEST(chan_watch__read_while_full_is_told_all_the_same)
{
	struct box b = { 0 };
	struct vmbus_ctl ctl;
	uint64_t id;

	box_init(&b, &vsp_reads, _i);
	opened(&b, 17, 2);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	for (id = 1; id <= 400; id++)
		must_eq(fake_send(&b.c, id, &id, 8), 1);
	run(&b);
	ring(&b);
	run(&b);
	must(b.d.head != b.d.tail);
	ring(&b);
	run(&b);
	must_eq(b.d.readies, 2);
	box_fini(&b);
}
END_TEST

/* A descriptor that was full of the device's is forgotten with the channel. */
START_TEST(chan_watch__ends_with_close)
{
	struct box b = { 0 };

	box_open(&b, &vsp, _i);
	b.d.leave = true;
	ring(&b);
	fake_post_close(&b.f, &b.c);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	run(&b);
	must_eq(b.d.closes, 1);
	must(!readable(&b));
	must_eq(vmbus_chan_watch(b.chan, b.d.fd), VMBUS_E_STATE);
	b.f.taken = b.f.posted;
	fake_chan_free(&b.c);
	b.c.first = 0;
	b.d.leave = false;
	b.d.readies = 0;
	opened(&b, 17, 17); /* and begins anew: the descriptor is still readable */
	must_eq(b.d.opens, 2);
	must_eq(b.d.readies, 1);
	box_fini(&b);
}
END_TEST

START_TEST(chan_watch__ends_with_a_refused_open)
{
	struct box b = { .d = { .open_err = VMBUS_E_NOMEM, .leave = true } };
	struct vmbus_ctl ctl;

	box_init(&b, &vsp, _i);
	ring(&b);
	opened(&b, 3, 3);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must(ctl.u.result.status != 0);
	must_eq(b.d.watch_err, 0);
	must_eq(b.d.readies, 0);
	must_eq(b.d.closes, 0);
	must(!readable(&b));
	box_fini(&b);
}
END_TEST

/* open() says AGAIN, and ready() says the rest: 0, or why not. */
START_TEST(chan_watch__an_open_that_waits_is_told)
{
	struct box b = { .d = { .open_err = VMBUS_E_AGAIN } };
	const bool refuse = _i >= 2;
	struct vmbus_ctl ctl;
	uint64_t id = 1;

	box_init(&b, &vsp, _i % 2);
	opened(&b, 3, 3);
	fake_expect_none(&b.f);
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	ring(&b);
	must(readable(&b));
	run(&b);
	must_eq(b.d.readies, 1); /* it may as well say nothing yet */
	must_eq(b.d.packets, 0);
	b.d.say = true;
	b.d.said = refuse ? VMBUS_E_NOMEM : 0;
	b.d.owed[b.d.tail++] = 99; /* and sends in the same callback */
	if (refuse)
		b.d.head = b.d.tail;
	ring(&b);
	run(&b);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status != 0, refuse);
	must_eq(b.d.readies, 2);
	must_eq(b.d.packets, refuse ? 0 : 1);
	must_eq(drain(&b), refuse ? 0 : 1);
	if (!refuse) {
		ring(&b);
		run(&b);
		must_eq(drain(&b), 1);
	}
	box_fini(&b);
}
END_TEST

START_TEST(chan_watch__ready_may_fail_the_channel)
{
	struct box b = { .d = { .fail = true } };
	struct vmbus_ctl ctl;
	uint64_t id = 5;

	box_open(&b, &vsp, _i);
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	run(&b);
	b.d.head = b.d.tail; /* it could not send anyway */
	ring(&b);
	run(&b);
	must_eq(b.d.readies, 1);
	must_eq(b.d.closes, 1);
	must_eq(drain(&b), 0);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl);
	box_fini(&b);
}
END_TEST

START_TEST(chan_watch__another_descriptor_takes_its_place)
{
	struct box b = { .d = { .renew = true } };
	uint32_t n;

	box_open(&b, &vsp, _i);
	ring(&b);
	for (n = 0; n < 8; n++)
		(void)(_i ? vmbus_chan_dispatch(b.chan, 8) : vmbus_bus_dispatch(b.f.bus, 8));
	must(b.d.readies >= 4);
	b.d.renew = false;
	run(&b);
	n = b.d.readies;
	must_eq(vmbus_chan_watch(b.chan, b.d.fd), 0); /* the same once more */
	ring(&b);
	must_eq(vmbus_chan_watch(b.chan, -1), 0);
	must_eq(vmbus_chan_watch(b.chan, -1), 0);
	must(!readable(&b));
	run(&b);
	must_eq(b.d.readies, n);
	must_eq(vmbus_chan_watch(b.chan, b.d.fd), 0);
	run(&b);
	must_eq(b.d.readies, n + 1);
	box_fini(&b);
}
END_TEST

/* An epoll set is a descriptor too. */
START_TEST(chan_watch__a_set_of_descriptors)
{
	struct box b = { 0 };
	struct epoll_event event = { .events = EPOLLIN };
	const int set = epoll_create1(EPOLL_CLOEXEC);

	box_open(&b, &vsp, _i);
	must_eq(vmbus_chan_watch(b.chan, set), 0);
	must_eq(epoll_ctl(set, EPOLL_CTL_ADD, b.d.fd, &event), 0);
	run(&b);
	must_eq(b.d.readies, 0);
	ring(&b);
	must(readable(&b));
	run(&b);
	must_eq(b.d.readies, 1);
	box_fini(&b);
	close(set);
}
END_TEST

START_TEST(chan_watch__errors)
{
	struct box b = { 0 }, none = { .d = { .quiet = true } };
	const int file = memfd_create("file", MFD_CLOEXEC);
	const int shut = fcntl(file, F_DUPFD_CLOEXEC, 900);

	close(shut);
	box_init(&b, &vsp, _i);
	must_eq(vmbus_chan_watch(b.chan, b.d.fd), VMBUS_E_STATE);
	must_eq(vmbus_chan_watch(b.chan, -1), VMBUS_E_STATE);
	opened(&b, 3, 3);
	must_eq(b.d.watch_err, 0);
	must_eq(vmbus_chan_watch(b.chan, -2), VMBUS_E_INVAL);
	must_eq(vmbus_chan_watch(b.chan, shut), VMBUS_E_INVAL);
	must_eq(vmbus_chan_watch(b.chan, file), VMBUS_E_INVAL); /* epoll takes no files */
	must_eq(vmbus_chan_watch(b.chan, vmbus_bus_fd(b.f.bus)), VMBUS_E_INVAL * !_i);
	must_eq(vmbus_chan_watch(b.chan, b.d.fd), 0);
	ring(&b); /* the first is still watched */
	run(&b);
	must_eq(b.d.readies, 1);
	box_fini(&b);
	box_init(&none, &vsp_none, _i);
	opened(&none, 3, 3);
	must_eq(vmbus_chan_watch(none.chan, none.d.fd), VMBUS_E_STATE);
	box_fini(&none);
	close(file);
}
END_TEST

/* Two channels of a bus with a descriptor each, and storage that was another channel's. */
START_TEST(chan_watch__each_channel_its_own)
{
	struct fake f;
	struct dev d[8];
	struct fake_chan c[8];
	struct vmbus_chan *chan[8];
	uint32_t round, i, k;

	fake_init(&f, 1024);
	for (round = 0; round < 3; round++) {
		memset(d, 0, sizeof(d));
		for (i = 0; i < 8; i++) {
			d[i].fd = eventfd(0, EFD_NONBLOCK);
			chan[i] = fake_offer(&f, &vsp, &d[i], i);
		}
		f.next_page = 1;
		if (!round)
			fake_contact(&f, VMBUS_PROTO_5_3);
		must_eq(round ? 8 : fake_offers(&f, c, 8), 8);
		for (i = 0; round && i < 8; i++) {
			struct vmbus_ctl ctl;

			fake_expect(&f, VMBUS_CTL_OFFER, &ctl);
			memset(&c[i], 0, sizeof(c[i]));
			c[i].fake = &f;
			c[i].relid = ctl.u.offer.relid;
			c[i].conn = ctl.u.offer.conn_id;
		}
		for (i = 0; i < 8; i++)
			must_eq(fake_open(&f, &c[i], 3, 3), 0);
		for (i = 0; i < 8; i++) {
			must_eq(eventfd_write(d[i].fd, 1), 0);
			fake_run(&f);
			for (k = 0; k < 8; k++)
				must_eq(d[k].readies, k <= i);
		}
		for (i = 0; i < 8; i++) {
			struct vmbus_ctl ctl;

			d[i].leave = true;
			must_eq(eventfd_write(d[i].fd, 1), 0);
			must_eq(vmbus_bus_revoke(chan[i]), 0);
			fake_run(&f);
			fake_expect(&f, VMBUS_CTL_RESCIND, &ctl);
			fake_post_teardown(&f, c[i].relid, c[i].gpadl);
			fake_expect(&f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
			fake_post_released(&f, c[i].relid);
			fake_run(&f);
			fake_chan_free(&c[i]);
			close(d[i].fd);
		}
		must_eq(f.removed, 8 * (round + 1));
	}
	fake_fini(&f);
}
END_TEST

/* Packets that never end do not keep the descriptor from being looked at, also when they are polled. */
START_TEST(chan_poll__looks_at_the_descriptor_beside_packets)
{
	struct box b = { 0 };
	uint64_t id;
	uint32_t n;

	box_open(&b, &vsp, true);
	b.d.leave = true;
	ring(&b);
	for (id = 1; id <= 400; id++) {
		must_eq(fake_send(&b.c, id, &id, 8), 1);
		must(vmbus_chan_poll(b.chan, 1, _i ? 1000 : 0) > 0);
	}
	must(b.d.readies >= 5);
	must(b.d.packets >= 100);
	b.d.leave = false;
	run(&b);
	n = b.d.readies;
	must_eq(vmbus_chan_poll(b.chan, 1, 1000), 0);
	must_eq(b.d.readies, n);
	ring(&b); /* a spin that is long enough finds it without sleep */
	must_eq(vmbus_chan_poll(b.chan, 1, 5000000000u), 1);
	must_eq(b.d.readies, n + 1);
	box_fini(&b);
}
END_TEST

/* A thread that sleeps on the channel's descriptor; others write the device's and send packets. */
struct sleeper {
	struct box *box;
	atomic_uint stop;
	atomic_uint readies;
};

static void *sleeper(void *arg)
{
	struct sleeper *s = arg;
	const int set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	must_eq(epoll_ctl(set, EPOLL_CTL_ADD, vmbus_chan_fd(s->box->chan), &event), 0);
	while (!atomic_load(&s->stop)) {
		while (vmbus_chan_dispatch(s->box->chan, 4) > 0)
			;
		atomic_store(&s->readies, s->box->d.readies);
		(void)epoll_wait(set, &event, 1, 1000);
	}
	close(set);
	return NULL;
}

START_TEST(chan_watch__an_edge_wakes_a_thread_every_time)
{
	struct box b = { 0 };
	struct sleeper s = { .box = &b };
	pthread_t thread;
	uint64_t end = fake_now_ns() + 20000000000u, slow = 0, id;
	uint32_t n;

	box_open(&b, &vsp, true);
	must_eq(pthread_create(&thread, NULL, sleeper, &s), 0);
	for (n = 1; n <= 2000; n++) {
		const uint32_t was = atomic_load(&s.readies);
		const uint64_t from = fake_now_ns();

		id = n;
		if (n % 3 == 0)
			must_eq(fake_send(&b.c, id, &id, 8), 1);
		ring(&b);
		while (atomic_load(&s.readies) == was && fake_now_ns() < end)
			;
		slow += fake_now_ns() - from > 900000000u; /* it slept through it */
		if (n % 100 == 0)
			(void)drain(&b);
	}
	must_eq(slow, 0);
	atomic_store(&s.stop, 1);
	ring(&b);
	must_eq(pthread_join(thread, NULL), 0);
	must(fake_now_ns() < end);
	box_fini(&b);
}
END_TEST

/* A bus that lets go leaves the descriptor alone: nothing of the device's is called any more. */
START_TEST(bus_let_go__watches_nothing)
{
	struct box b = { 0 };

	box_open(&b, &vsp, false);
	b.d.leave = true;
	ring(&b);
	vmbus_bus_let_go(b.f.bus);
	must_eq(vmbus_chan_watch(b.chan, b.d.fd), VMBUS_E_STATE);
	run(&b);
	must_eq(b.d.readies, 0);
	box_fini(&b);
	must_eq(b.d.closes, 1);
}
END_TEST

/* ---- what work costs ---- */

static void charges(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct dev *d = vmbus_chan_ctx(chan);

	(void)pkt;
	d->packets += n;
	vmbus_chan_charge(chan, 950 * n);
}

/* A request that moved much costs as many units, of this dispatch and of the next ones. */
START_TEST(chan_charge__is_paid_for)
{
	struct vmbus_vsp v = vsp;
	struct vmbus_bus_stats before, after;
	struct box b = { 0 };
	uint64_t id;
	uint32_t n, units;

	v.packets = charges;
	box_open(&b, &v, _i);
	vmbus_bus_stats(b.f.bus, &before);
	for (id = 1; id <= 3; id++)
		must_eq(fake_send(&b.c, 0, &id, 8), 1);
	for (n = 0, units = 0; b.d.packets < 3 && n < 100; n++) {
		const int did =
			_i ? vmbus_chan_dispatch(b.chan, 100) : vmbus_bus_dispatch(b.f.bus, 100);

		must(did > 0 && did <= 100);
		must(readable(&b) || b.d.packets == 3);
		units += (uint32_t)did;
	}
	must_eq(b.d.packets, 3); /* one batch */
	must_eq(n, 1);
	for (; n < 100 && b.d.packets == 3; n++) { /* and then it pays, and gets nothing */
		must_eq(fake_send(&b.c, 0, &id, 8), 1);
		must_eq(_i ? vmbus_chan_dispatch(b.chan, 100) : vmbus_bus_dispatch(b.f.bus, 100),
			100);
		must(readable(&b));
	}
	must(n >= 28 && n <= 31);
	run(&b);
	must_eq(b.d.packets, 3 + n - 1);
	vmbus_bus_stats(b.f.bus, &after);
	must_eq(after.charged - before.charged >= 3 * 950, !_i);
	must_eq(after.debt, 0);
	box_fini(&b);
}
END_TEST

/* With a journal ready() is a commit, which ends what was pended, and lets more in. */
START_TEST(chan_watch__with_a_journal)
{
	const size_t bytes = vmbus_journal_bytes(&vsp_resumes);
	uint8_t *const journal = aligned_alloc(64, (bytes + 63) / 64 * 64);
	struct box b = { 0 };
	struct vmbus_ctl ctl;
	uint64_t id;

	memset(journal, 0, bytes);
	box_init(&b, &vsp_resumes, false);
	must_eq(vmbus_chan_set_journal(b.chan, journal, bytes), 0);
	opened(&b, 3, 3);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	for (id = 1; id <= 20; id++)
		must_eq(fake_send(&b.c, id, &id, 8), 1);
	run(&b);
	must_eq(b.d.packets, 8); /* no more can be kept */
	for (id = 1; id <= 3; id++) {
		ring(&b);
		run(&b);
		must_eq(b.d.packets, id < 2 ? 16 : 20);
	}
	must_eq(drain(&b), 20);
	id = 21;
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	run(&b);
	b.d.leave = true;
	ring(&b);
	must_eq(vmbus_chan_set_journal(b.chan, NULL, 0), 0); /* let go of: another goes on */
	must_eq(vmbus_chan_watch(b.chan, b.d.fd), VMBUS_E_STATE);
	run(&b);
	must_eq(b.d.readies, 3);
	box_fini(&b);
	must_eq(b.d.closes, 1);
	free(journal);
}
END_TEST

static void tests(Suite *s)
{
	TCase *t = vmbus_test_case(s, "watch", 20);

	tcase_add_loop_test(t, chan_watch__ready_publishes_at_its_end, 0, 4);
	tcase_add_loop_test(t, chan_watch__what_is_left_is_told_again, 0, 2);
	tcase_add_loop_test(t, chan_watch__a_budget_of_one_reaches_both, 0, 2);
	tcase_add_loop_test(t, chan_watch__waits_while_full, 0, 2);
	tcase_add_loop_test(t, chan_watch__read_while_full_is_told_all_the_same, 0, 2);
	tcase_add_loop_test(t, chan_watch__ends_with_close, 0, 2);
	tcase_add_loop_test(t, chan_watch__ends_with_a_refused_open, 0, 2);
	tcase_add_loop_test(t, chan_watch__an_open_that_waits_is_told, 0, 4);
	tcase_add_loop_test(t, chan_watch__ready_may_fail_the_channel, 0, 2);
	tcase_add_loop_test(t, chan_watch__another_descriptor_takes_its_place, 0, 2);
	tcase_add_loop_test(t, chan_watch__a_set_of_descriptors, 0, 2);
	tcase_add_loop_test(t, chan_watch__errors, 0, 2);
	tcase_add_test(t, chan_watch__each_channel_its_own);
	tcase_add_loop_test(t, chan_poll__looks_at_the_descriptor_beside_packets, 0, 2);
	tcase_add_test(t, chan_watch__an_edge_wakes_a_thread_every_time);
	tcase_add_test(t, bus_let_go__watches_nothing);
	tcase_add_test(t, chan_watch__with_a_journal);
	tcase_add_loop_test(t, chan_charge__is_paid_for, 0, 2);
}

VMBUS_TEST_MAIN("bus.watch", tests)
