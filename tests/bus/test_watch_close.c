/* SPDX-License-Identifier: MIT */
/*
 * A device that waits for a descriptor of its own while it closes, however it came to that.
 */
#include "watchbox.h"

/* How a channel may end while its device still waits for something. */
enum ends {
	BY_CLOSE,
	BY_RESET,
	BY_REVOKE,
	BY_FAULT,
	BY_FULL_CLOSE, /* a send waits for room */
	BY_LET_GO,
	BY_DESTROY,
	ENDS
};

static void end_by(struct box *b, enum ends how)
{
	uint64_t id;

	switch (how) {
	case BY_RESET:
		vmbus_bus_reset(b->f.bus);
		break;
	case BY_REVOKE:
		must_eq(vmbus_bus_revoke(b->chan), 0);
		break;
	case BY_FAULT:
		vmbus_chan_fail(b->chan, "it shall end");
		break;
	case BY_FULL_CLOSE:
		for (id = 1; id <= 400; id++)
			must_eq(fake_send(&b->c, id, &id, 8), 1);
		run(b);
		ring(b);
		run(b);
		ring(b);
		run(b); /* the descriptor is not heard of */
		must(b->d.head != b->d.tail);
		fake_post_close(&b->f, &b->c);
		break;
	case BY_LET_GO:
		vmbus_bus_let_go(b->f.bus);
		ring(b);
		run(b);
		must_eq(b->d.readies, 0);
		fake_post_close(&b->f, &b->c);
		break;
	case BY_CLOSE:
	default:
		fake_post_close(&b->f, &b->c);
		break;
	}
}

/* close() says AGAIN: the descriptor is looked after until close_done(), on the same thread. */
START_TEST(chan_watch__goes_on_while_close_waits)
{
	const enum ends how = (enum ends)(_i / 2);
	struct box b = { .d = { .drain = 3 } };
	const bool own = _i % 2;
	uint32_t before, n;

	box_init(&b, &vsp, own);
	opened(&b, 17, how == BY_FULL_CLOSE ? 2 : 17);
	if (how == BY_DESTROY) { /* the destroying thread tells it */
		b.d.leave = true;
		ring(&b);
		box_fini(&b);
		must_eq(b.d.closes, 1);
		must_eq(b.d.left, 0);
		return;
	}
	end_by(&b, how);
	before = b.d.readies;
	run(&b);
	must_eq(b.d.closes, 1);
	before = how == BY_LET_GO || how == BY_FULL_CLOSE ? before + 1 : before;
	must_eq(b.d.readies, before); /* what was there before is told now */
	for (n = b.d.left; n; n--) {
		must_eq(b.d.left, n);
		ring(&b);
		must(readable(&b));
		run(&b);
		must_eq(b.d.readies, ++before);
	}
	must_eq(b.d.left, 0);
	ring(&b);
	must(!readable(&b)); /* it is forgotten */
	run(&b);
	must_eq(b.d.readies, before);
	box_fini(&b);
	must_eq(b.d.closes, 1);
}
END_TEST

/* Two channels of which one cannot end before the other has been told. */
static void *ring_later(void *arg)
{
	const struct timespec ms = { 0, 20000000 };
	const int *const fds = arg;

	nanosleep(&ms, NULL);
	must_eq(eventfd_write(fds[1], 1), 0);
	nanosleep(&ms, NULL);
	must_eq(eventfd_write(fds[0], 1), 0);
	return NULL;
}

START_TEST(bus_destroy__tells_all_who_wait)
{
	struct fake f;
	struct dev d[2];
	struct fake_chan c[2];
	pthread_t thread;
	int fds[2];
	uint32_t i;

	fake_init(&f, 256);
	memset(d, 0, sizeof(d));
	for (i = 0; i < 2; i++) {
		fds[i] = d[i].fd = eventfd(0, EFD_NONBLOCK);
		d[i].drain = 1;
		(void)fake_offer(&f, &vsp, &d[i], i);
	}
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, 2), 2);
	for (i = 0; i < 2; i++)
		must_eq(fake_open(&f, &c[i], 3, 3), 0);
	must_eq(pthread_create(&thread, NULL, ring_later, fds), 0);
	fake_fini(&f);
	must_eq(pthread_join(thread, NULL), 0);
	for (i = 0; i < 2; i++) {
		must_eq(d[i].closes, 1);
		must_eq(d[i].readies, 1);
		close(fds[i]);
		fake_chan_free(&c[i]);
	}
}
END_TEST

/* A device whose close() ends by another thread, or within the time that nobody needs to be told of. */
struct late {
	struct vmbus_chan *chan;
	long ms;
};

static int late_close(struct vmbus_chan *chan)
{
	(void)chan;
	return VMBUS_E_AGAIN;
}

static void late_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	(void)pkt;
	(void)n;
}

static const struct vmbus_vsp late_vsp = {
	.struct_bytes = sizeof(late_vsp),
	.name = "late",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0002, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 9),
	.packets = late_packets,
	.close = late_close,
};

static void *done_later(void *arg)
{
	const struct late *const late = arg;
	const struct timespec time = { late->ms / 1000, late->ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
	vmbus_chan_close_done(late->chan);
	return NULL;
}

static uint32_t lines_with(const struct fake *f, const char *text)
{
	uint32_t i, n = 0;

	for (i = 0; i < FAKE_LINES && i < f->lines; i++)
		n += strstr(f->last[i], text) != NULL;
	return n;
}

/*
 * Two channels keep the end waiting, and one that is closed does not: after a second one line names the
 * first of the two, and no more come.
 */
START_TEST(bus_destroy__tells_for_whom_it_waits)
{
	const bool own = _i % 2;
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = own };
	struct late late[2];
	struct fake_chan all[3], *const c = &all[1];
	pthread_t thread[2];
	struct fake f;
	char text[160];
	uint32_t i;

	fake_init(&f, 256);
	must_eq(vmbus_bus_offer(f.bus, &late_vsp, NULL, &opts, NULL), 0);
	for (i = 0; i < 2; i++) {
		opts.order = 1 + i;
		late[i].ms = _i < 2 ? 1600 + 700 * (long)i : 400; /* after close() */
		must_eq(vmbus_bus_offer(f.bus, &late_vsp, NULL, &opts, &late[i].chan), 0);
	}
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, all, 3), 3);
	must(all[0].relid < c[0].relid && all[0].relid < c[1].relid);
	for (i = 0; i < 2; i++) {
		fake_rings(&f, &c[i], 3, 3);
		c[i].gpadl = f.next_gpadl++;
		must_eq(fake_share(&f, c[i].relid, c[i].gpadl, c[i].first, 6), 0);
		fake_post_open(&f, &c[i], 0);
		fake_run(&f);
		if (own)
			(void)vmbus_chan_dispatch(late[i].chan, 8);
		fake_expect(&f, VMBUS_CTL_OPEN_RESULT, NULL);
	}
	for (i = 0; i < 2; i++)
		must_eq(pthread_create(&thread[i], NULL, done_later, &late[i]), 0);
	vmbus_bus_close(f.bus);
	for (i = 0; i < 2; i++)
		must_eq(pthread_join(thread[i], NULL), 0);
	(void)snprintf(text, sizeof(text),
		       "the end waits for channel %u (late): its close() said AGAIN, and "
		       "vmbus_chan_close_done() has not come",
		       (unsigned)(c[0].relid < c[1].relid ? c[0].relid : c[1].relid));
	must_eq(lines_with(&f, text), _i < 2);
	must_eq(lines_with(&f, "the end waits"), _i < 2);
	fake_fini(&f);
	for (i = 0; i < 2; i++)
		fake_chan_free(&c[i]);
}
END_TEST

static void tests(Suite *s)
{
	TCase *t = vmbus_test_case(s, "close", 20);

	tcase_add_loop_test(t, chan_watch__goes_on_while_close_waits, 0, 2 * ENDS);
	tcase_add_test(t, bus_destroy__tells_all_who_wait);
	tcase_add_loop_test(t, bus_destroy__tells_for_whom_it_waits, 0, 4);
}

VMBUS_TEST_MAIN("bus.watch_close", tests)
