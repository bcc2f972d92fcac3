/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of channels with own_fd that cannot be had: what is left of the attempt harms nobody.
 */
#include "fake.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

static bool fails; /* the next descriptor that is added to a set */

int epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
	if (fails && op == EPOLL_CTL_ADD) {
		fails = false;
		errno = ENOSPC;
		return -1;
	}
	return (int)syscall(SYS_epoll_ctl, set, op, fd, event);
}

static void none_ready(struct vmbus_chan *chan)
{
	(void)chan;
}

/* A device that offers another one when it is opened: nothing is freed within a dispatch. */
struct offerer {
	struct fake *f;
	struct vmbus_vsp vsp;
	struct fake_echo echo;
	struct vmbus_chan *made;
};

static int offerer_open(struct vmbus_chan *chan, void *ctx)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct offerer *const o = ctx;

	(void)chan;
	fails = true;
	must_eq(vmbus_bus_offer(o->f->bus, &o->vsp, &o->echo, &opts, &o->made), VMBUS_E_NOMEM);
	must(!fails);
	must_eq(vmbus_bus_offer(o->f->bus, &o->vsp, &o->echo, &opts, &o->made), 0);
	return 0;
}

START_TEST(vmbus_bus_offer__after_a_descriptor_that_failed)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct fake_chan c[2];
	struct vmbus_ctl ctl;
	struct offerer o;
	struct fake f;

	memset(c, 0, sizeof(c));
	memset(&o, 0, sizeof(o));
	fake_init(&f, 64);
	o.f = &f;
	o.vsp = fake_echo_vsp;
	o.vsp.ready = none_ready;
	vsp.open = offerer_open;
	vsp.packets = fake_echo_vsp.packets;
	vsp.close = NULL;
	(void)fake_offer(&f, &vsp, &o, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, 1), 1);
	fake_rings(&f, &c[0], 2, 2);
	c[0].gpadl = 7;
	must_eq(fake_share(&f, c[0].relid, 7, c[0].first, 4), 0);
	fake_post_open(&f, &c[0], 0);
	while (fake_take(&f, &ctl) != VMBUS_CTL_OFFER)
		must(ctl.type == VMBUS_CTL_OPEN_RESULT);
	c[1] = (struct fake_chan){ .fake = &f,
				   .relid = ctl.u.offer.relid,
				   .conn = ctl.u.offer.conn_id };
	fake_rings(&f, &c[1], 2, 2);
	c[1].gpadl = 8;
	while (fake_take(&f, &ctl))
		continue;
	must_eq(fake_share(&f, c[1].relid, 8, c[1].first, 4), 0);
	must(!fake_readable(vmbus_chan_fd(o.made)));
	fake_post_open(&f, &c[1], 0);
	fake_run(&f);
	must(fake_readable(vmbus_chan_fd(o.made))); /* its thread is told */
	(void)vmbus_chan_dispatch(o.made, 64);
	fake_expect(&f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, VMBUS_STATUS_OK);
	fake_chan_free(&c[0]);
	fake_chan_free(&c[1]);
	fake_fini(&f);
}
END_TEST

/* Revoke a channel and wait until it is gone. */
static void begone(struct fake *f, struct vmbus_chan *chan)
{
	const uint32_t before = f->removed;

	must_eq(vmbus_bus_revoke(chan), 0);
	fake_run(f);
	must_eq(f->removed, before + 1);
}

/* The number that the next descriptor gets. */
static int next_fd(int any)
{
	const int fd = dup(any);

	must(fd >= 0);
	close(fd);
	return fd;
}

/* The descriptors of a channel that is gone are the next one's; a set of epoll that has one keeps it. */
START_TEST(vmbus_chan_fd__stays_for_the_next_channel)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct epoll_event event = { .events = EPOLLIN };
	struct fake_echo echo = { 0 };
	struct vmbus_chan *chan;
	struct fake f;
	uint32_t round;
	int fd, set, next;

	vsp.ready = _i ? none_ready : NULL;
	fake_init(&f, 64);
	set = epoll_create1(EPOLL_CLOEXEC);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &echo, &opts, &chan), 0);
	fd = vmbus_chan_fd(chan);
	must_eq(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), 0);
	next = next_fd(set);
	for (round = 0; round < 100; round++) {
		begone(&f, chan);
		must_eq(vmbus_bus_offer(f.bus, &vsp, &echo, &opts, &chan), 0);
		must_eq(vmbus_chan_fd(chan), fd);
		must_eq(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), -1);
		must_eq(errno, EEXIST);
	}
	must_eq(next_fd(set), next); /* no round has kept any */
	close(set);
	fake_fini(&f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "descriptors", 20);

	tcase_add_test(tc, vmbus_bus_offer__after_a_descriptor_that_failed);
	tcase_add_loop_test(tc, vmbus_chan_fd__stays_for_the_next_channel, 0, 2);
}
VMBUS_TEST_MAIN("bus.descriptors", tests)
