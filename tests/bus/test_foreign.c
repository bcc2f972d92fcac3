/* SPDX-License-Identifier: MIT */
/*
 * Channels whose rings are served elsewhere: here by nobody.  The device below plays the one that
 * hands them on, and the child's pages show that the bus has touched none of them.
 */
#include "fake.h"

#include <sys/eventfd.h>

struct dev {
	struct vmbus_chan *chan;
	int open_err, close_err, gone_err;
	uint32_t opens, closes, packets, modified, gpadls, gone, signalled, offered, removed;
	uint32_t last_list, last_gone, done_in_gone, done_other;
	const uint64_t *qwords;
	uint32_t count, ranges;
	struct vmbus_chan_rings rings; /* as they are in open() */
	struct vmbus_chan *sub;
	bool bind_in_open;
	int fd;
};

static int dev_open(struct vmbus_chan *chan, void *ctx)
{
	struct dev *d = ctx;

	d->opens++;
	d->chan = chan;
	must_eq(vmbus_chan_rings(chan, &d->rings), 0);
	if (d->bind_in_open)
		must_eq(vmbus_chan_bind(chan, d->fd), 0);
	return d->open_err;
}

static void dev_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)pkt;
	((struct dev *)vmbus_chan_ctx(chan))->packets += n;
}

static int dev_close(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);
	struct vmbus_chan_rings rings;

	d->closes++;
	must_eq(vmbus_chan_rings(chan, &rings), VMBUS_E_STATE);
	must_eq(vmbus_chan_bind(chan, d->fd), VMBUS_E_STATE);
	return d->close_err;
}

static void dev_modified(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);

	d->modified++;
	must_eq(vmbus_chan_rings(chan, &d->rings), 0);
}

static void dev_gpadl(struct vmbus_chan *chan, uint32_t gpadl, const uint64_t *qwords,
		      uint32_t count, uint32_t ranges)
{
	struct dev *d = vmbus_chan_ctx(chan);

	d->gpadls++;
	d->last_list = gpadl;
	d->qwords = qwords;
	d->count = count;
	d->ranges = ranges;
}

static int dev_gone(struct vmbus_chan *chan, uint32_t gpadl)
{
	struct dev *d = vmbus_chan_ctx(chan);

	d->gone++;
	d->last_gone = gpadl;
	if (d->done_in_gone)
		vmbus_chan_gpadl_done(chan, gpadl);
	if (d->done_other)
		vmbus_chan_gpadl_done(chan, d->done_other);
	return d->gone_err;
}

static void dev_signalled(struct vmbus_chan *chan)
{
	((struct dev *)vmbus_chan_ctx(chan))->signalled++;
}

static void dev_offered(struct vmbus_chan *sub)
{
	struct dev *d = vmbus_chan_ctx(sub);

	d->offered++;
	d->sub = sub;
}

static void dev_removed(struct vmbus_chan *chan)
{
	((struct dev *)vmbus_chan_ctx(chan))->removed++;
}

static const struct vmbus_vsp all_vsp = {
	.struct_bytes = sizeof(all_vsp),
	.name = "elsewhere",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 4),
	.flags = VMBUS_VSP_FOREIGN,
	.open = dev_open,
	.packets = dev_packets,
	.close = dev_close,
	.modified = dev_modified,
	.gpadl = dev_gpadl,
	.gpadl_gone = dev_gone,
	.signalled = dev_signalled,
	.offered = dev_offered,
	.removed = dev_removed,
};

/* One without any callback that it need not have. */
static const struct vmbus_vsp bare_vsp = {
	.struct_bytes = sizeof(bare_vsp),
	.name = "bare",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 5),
	.flags = VMBUS_VSP_FOREIGN,
	.open = dev_open,
};

struct box {
	struct fake f;
	struct dev d;
	struct fake_chan c;
	struct vmbus_chan *chan;
};

static int wakes_of;
static struct vmbus_wake wake_now;
static int wake_err;

static int tell_wake(void *ctx, uint32_t vp, uint32_t sint, struct vmbus_wake *wake)
{
	(void)ctx;
	must_eq(sint, VMBUS_SINT_MESSAGE);
	wakes_of = (int)vp;
	*wake = wake_now;
	return wake_err;
}

static void box_start(struct box *b, const struct vmbus_vsp *vsp)
{
	fake_create(&b->f);
	must_eq(vmbus_bus_offer(b->f.bus, vsp, &b->d, NULL, &b->chan), 0);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, &b->c, 1), 1);
}

static void box_prepare(struct box *b)
{
	memset(b, 0, sizeof(*b));
	b->d.fd = -1;
	fake_prepare(&b->f, 512);
	b->f.backend.bind = fake_backend_bind;
	b->f.backend.unbind = fake_backend_unbind;
}

static void box_init(struct box *b)
{
	box_prepare(b);
	box_start(b, &all_vsp);
}

static void box_fini(struct box *b)
{
	fake_chan_free(&b->c);
	fake_fini(&b->f);
}

/* The pages of the rings are whatever the child likes, and stay so. */
static void scribble(struct box *b, uint32_t pages)
{
	if (!b->c.first)
		b->c.first = fake_pages(&b->f, pages);
	memset(b->f.mem + b->c.first * FAKE_PAGE, 0xC3, pages * FAKE_PAGE);
}

static void untouched(const struct box *b, uint32_t pages)
{
	size_t i;

	for (i = 0; i < pages * FAKE_PAGE; i++)
		must(b->f.mem[b->c.first * FAKE_PAGE + i] == 0xC3);
}

static uint32_t open_vp(struct box *b, uint32_t up, uint32_t down, uint32_t vp)
{
	struct vmbus_ctl ctl;

	scribble(b, up + down);
	b->c.up = up;
	b->c.down = down;
	b->c.gpadl = b->f.next_gpadl++;
	must_eq(fake_share(&b->f, b->c.relid, b->c.gpadl, b->c.first, up + down), 0);
	fake_post_open(&b->f, &b->c, vp);
	if (b->d.open_err == VMBUS_E_AGAIN) {
		fake_expect_none(&b->f);
		return 0;
	}
	fake_expect(&b->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	return ctl.u.result.status;
}

static uint32_t box_open(struct box *b)
{
	return open_vp(b, 3, 5, 0);
}

static uint64_t count_of(int fd)
{
	uint64_t v = 0;

	return read(fd, &v, sizeof(v)) == sizeof(v) ? v : 0;
}

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

START_TEST(vsp_gpadl__before_while_and_after)
{
	struct box b;

	box_init(&b);
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), 0); /* before it is open */
	must_eq(b.d.gpadls, 1);
	must_eq(b.d.last_list, 41);
	must_eq(b.d.count, 4);
	must_eq(b.d.ranges, 1);
	must_eq(b.d.qwords[0], 3 * FAKE_PAGE);
	must_eq(b.d.qwords[3], 12);
	must_eq(fake_share(&b.f, b.c.relid, 42, 600, 3), VMBUS_STATUS_FAILED); /* no memory */
	must_eq(b.d.gpadls, 1);
	must_eq(box_open(&b), 0);
	must_eq(b.d.gpadls, 2);
	must_eq(b.d.last_list, b.c.gpadl);
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.d.gone, 1);
	must_eq(b.d.last_gone, 41);
	fake_close(&b.f, &b.c);
	must_eq(b.d.gone, 2);
	must_eq(b.d.last_gone, b.c.gpadl);
	must_eq(fake_share(&b.f, b.c.relid, 43, 10, 3), 0); /* after it */
	must_eq(b.d.gpadls, 3);
	vmbus_bus_reset(b.f.bus);
	fake_run(&b.f);
	must_eq(b.d.gone, 3); /* for the child has gone */
	must_eq(b.d.last_gone, 43);
	box_fini(&b);
	must_eq(b.d.gone, 3);
}
END_TEST

START_TEST(chan_gpadl_done__lets_go_of_a_list)
{
	struct box b;

	box_init(&b);
	b.d.gone_err = VMBUS_E_AGAIN;
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), 0);
	vmbus_chan_gpadl_done(b.chan, 41); /* nobody waits */
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect_none(&b.f);
	vmbus_chan_gpadl_done(b.chan, 40);
	fake_expect_none(&b.f);
	must_eq(b.d.qwords[1], 10); /* still there */
	vmbus_chan_gpadl_done(b.chan, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	vmbus_chan_gpadl_done(b.chan, 41);
	fake_expect_none(&b.f);
	b.d.done_in_gone = 1;
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), 0);
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.d.gone, 2);
	box_fini(&b);
}
END_TEST

/* A callback that lets go of another list, which lies before it in the bus's own. */
START_TEST(chan_gpadl_done__of_another_list_in_gpadl_gone)
{
	struct vmbus_ctl ctl;
	struct box b;

	box_init(&b);
	b.d.gone_err = VMBUS_E_AGAIN;
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), 0);
	must_eq(fake_share(&b.f, b.c.relid, 42, 10, 3), 0);
	fake_post_teardown(&b.f, b.c.relid, 42);
	fake_expect_none(&b.f);
	b.d.done_other = 42;
	b.d.gone_err = 0;
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(ctl.u.created.gpadl, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(ctl.u.created.gpadl, 42);
	box_fini(&b);
}
END_TEST

/* The list of the rings is not gone before they are closed. */
START_TEST(vsp_gpadl_gone__of_the_rings)
{
	struct box b;

	box_init(&b);
	must_eq(box_open(&b), 0);
	b.d.close_err = VMBUS_E_AGAIN;
	fake_post_close(&b.f, &b.c);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect_none(&b.f);
	must_eq(b.d.gone, 0);
	vmbus_chan_close_done(b.chan);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.d.gone, 1);
	box_fini(&b);
}
END_TEST

START_TEST(chan_fail__of_a_foreign_channel)
{
	struct vmbus_bus_stats stats;
	struct vmbus_ctl ctl;
	struct box b;

	box_init(&b);
	vmbus_chan_fail(b.chan, "it is closed"); /* nothing to fail */
	must_eq(box_open(&b), 0);
	vmbus_chan_fail(b.chan, "the provider died");
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	must(fake_logged(&b.f, "the provider died"));
	must_eq(b.d.closes, 1);
	vmbus_bus_stats(b.f.bus, &stats);
	must_eq(stats.faults, 1);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_post_released(&b.f, b.c.relid);
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl); /* again */
	b.c.relid = ctl.u.offer.relid;
	b.c.conn = ctl.u.offer.conn_id;
	must_eq(box_open(&b), 0);
	must_eq(vmbus_bus_revoke(b.chan), 0);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	must_eq(b.d.closes, 2);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.d.removed, 0);
	fake_post_released(&b.f, b.c.relid);
	fake_expect_none(&b.f);
	must_eq(b.d.removed, 1);
	box_fini(&b);
	untouched(&b, 0);
}
END_TEST

START_TEST(chan_offer_subchannels__are_foreign_too)
{
	struct vmbus_chan_rings rings;
	struct vmbus_ctl ctl;
	struct box b;
	struct fake_chan sub;

	box_init(&b);
	must_eq(vmbus_chan_offer_subchannels(b.chan, 1), VMBUS_E_STATE);
	b.d.open_err = VMBUS_E_AGAIN;
	(void)box_open(&b);
	must_eq(vmbus_chan_offer_subchannels(b.chan, 1), 0); /* before the open is answered */
	must_eq(b.d.offered, 1);
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.sub_index, 1);
	vmbus_chan_open_done(b.chan, 0);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, NULL);
	b.d.open_err = 0;
	sub = b.c;
	sub.relid = ctl.u.offer.relid;
	sub.conn = ctl.u.offer.conn_id;
	sub.gpadl = 4711;
	must_eq(fake_share(&b.f, sub.relid, sub.gpadl, b.c.first, 8), 0);
	fake_post_open(&b.f, &sub, 1);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	must_eq(vmbus_chan_rings(b.d.sub, &rings), 0);
	must_eq(rings.conn_id, sub.conn);
	must_eq(rings.gpadl, 4711);
	must(vmbus_chan_primary(b.d.sub) == b.chan);
	box_fini(&b);
	must_eq(b.d.closes, 2);
	must_eq(b.d.removed, 2);
	untouched(&b, 0);
}
END_TEST

/* Who serves the rings marks nothing here, so all their pages are, in the end. */
START_TEST(bus_dirty__marks_the_rings_of_a_foreign_channel)
{
	uint64_t bitmap[8] = { 0 }, want[8] = { 0 };
	struct vmbus_dirty dirty = { .bitmap = bitmap, .frames = 512 };
	struct box b;
	uint32_t i;

	box_prepare(&b);
	b.f.opts.dirty = &dirty;
	box_start(&b, &all_vsp);
	must_eq(box_open(&b), 0);
	must(memcmp(bitmap, want, sizeof(want)) == 0);
	fake_post_close(&b.f, &b.c);
	fake_run(&b.f);
	for (i = 0; i < 8; i++)
		want[(b.c.first + i) / 64] |= (uint64_t)1 << (b.c.first + i) % 64;
	must(memcmp(bitmap, want, sizeof(want)) == 0);
	box_fini(&b);
}
END_TEST

/* The child's memory cannot go while the rings are elsewhere. */
START_TEST(bus_mem_remove__waits_for_a_foreign_channel)
{
	struct box b;

	box_init(&b);
	must_eq(box_open(&b), 0);
	must_eq(vmbus_bus_mem_remove(b.f.bus, &b.f.region), VMBUS_E_AGAIN);
	fake_post_close(&b.f, &b.c);
	fake_run(&b.f);
	must_eq(vmbus_bus_mem_remove(b.f.bus, &b.f.region), 0);
	box_fini(&b);
}
END_TEST

START_TEST(lesson_16_foreign_channel_and_a_child_that_leaves)
{
	struct box b;
	int state;

	for (state = 0; state < 4; state++) {
		const int fd = eventfd(0, EFD_NONBLOCK);

		vmbus_test_at("state %d", state);
		box_init(&b);
		b.d.open_err = state < 2 ? VMBUS_E_AGAIN : 0;
		b.d.bind_in_open = true;
		b.d.fd = fd;
		b.d.close_err = state % 2 ? VMBUS_E_AGAIN : 0;
		b.d.gone_err = b.d.close_err;
		(void)box_open(&b);
		vmbus_bus_reset(b.f.bus);
		fake_run(&b.f);
		must_eq(b.d.closes, 1);
		if (state % 2) {
			must_eq(vmbus_region_pins(&b.f.region), 1);
			vmbus_chan_close_done(b.chan);
			fake_run(&b.f);
			must_eq(b.d.gone, 1);
			vmbus_chan_gpadl_done(b.chan, b.c.gpadl);
			fake_run(&b.f);
		}
		must_eq(b.d.gone, 1);
		must_eq(vmbus_region_pins(&b.f.region), 0);
		must_eq(b.f.unbinds, 1);
		fake_contact(&b.f, VMBUS_PROTO_5_3);
		must_eq(fake_offers(&b.f, &b.c, 1), 1);
		b.d.open_err = b.d.close_err = b.d.gone_err = 0;
		must_eq(box_open(&b), 0);
		box_fini(&b);
		must_eq(b.d.closes, 2);
		close(fd);
	}
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
	tcase_add_test(tc, vsp_gpadl__before_while_and_after);
	tcase_add_test(tc, chan_gpadl_done__lets_go_of_a_list);
	tcase_add_test(tc, chan_gpadl_done__of_another_list_in_gpadl_gone);
	tcase_add_test(tc, vsp_gpadl_gone__of_the_rings);
	tcase_add_test(tc, chan_fail__of_a_foreign_channel);
	tcase_add_test(tc, chan_offer_subchannels__are_foreign_too);
	tcase_add_test(tc, bus_dirty__marks_the_rings_of_a_foreign_channel);
	tcase_add_test(tc, bus_mem_remove__waits_for_a_foreign_channel);
	tcase_add_test(tc, lesson_16_foreign_channel_and_a_child_that_leaves);
}

VMBUS_TEST_MAIN("bus.foreign", tests)
