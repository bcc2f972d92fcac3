/* SPDX-License-Identifier: MIT */
/*
 * Timers of a channel that cannot be had for once: the next attempt gets one that is heard.  A port whose
 * descriptor no set takes.
 */
#include "frames.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

static bool fails;	 /* the next descriptor that is added to a set */
static int deep_fd = -1; /* is in no set: as a set would be whose holder is in too many others */

int epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
	if (fails && op == EPOLL_CTL_ADD) {
		fails = false;
		errno = ENOSPC;
		return -1;
	}
	if (op == EPOLL_CTL_ADD && fd == deep_fd) {
		errno = ELOOP;
		return -1;
	}
	return (int)syscall(SYS_epoll_ctl, set, op, fd, event);
}

static struct netbox b;
static uint8_t frame[NB_FRAME];
static uint32_t lines;
static const char *counted = "no timer"; /* in lines */

static void log_line(void *ctx, const char *line)
{
	(void)ctx;
	lines += strstr(line, counted) != NULL;
}

/* Dispatch until something has come, which takes two seconds: ten at most. */
static void wait_until(const uint32_t *count, uint32_t n)
{
	const uint64_t end = fake_now_ns() + UINT64_C(10000000000);

	while (*count < n && fake_now_ns() < end) {
		struct pollfd p = { .fd = vmbus_bus_fd(b.f.bus), .events = POLLIN };

		(void)poll(&p, 1, 50);
		(void)nb_run(&b, 0);
	}
}

START_TEST(descriptors__a_link_is_told_by_the_next_timer)
{
	const struct nb_message *m;

	nb_prepare(&b);
	b.opts.log = log_line;
	nb_start(&b);
	b.taken = b.messages;
	lines = 0;
	fails = true;
	vmbus_net_link(b.net, false);
	(void)nb_run(&b, 0);
	ck_assert(!fails);
	ck_assert_uint_eq(lines, 1);
	vmbus_net_link(b.net, false); /* look again */
	(void)nb_run(&b, 0);
	wait_until(&b.messages, b.taken + 1);
	m = nb_message(&b);
	ck_assert_ptr_nonnull(m);
	ck_assert_uint_eq(nb_32(m->msg + 8), 0x4001000C);
	ck_assert_uint_eq(lines, 1);
	nb_end(&b);
}
END_TEST

static int deaf_open(struct vmbus_port_queue *queue)
{
	((struct nb_port *)queue->ctx)->opens++;
	return 0;
}

static void deaf_close(struct vmbus_port_queue *queue)
{
	((struct nb_port *)queue->ctx)->closes++;
}

static uint32_t deaf_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			     uint32_t n)
{
	(void)queue;
	(void)room;
	(void)n;
	return 0;
}

/* One without a descriptor, that has no room: it is asked by a timer. */
START_TEST(descriptors__a_port_is_asked_by_the_next_timer)
{
	struct vmbus_port_ops ops = nb_port_ops;
	uint32_t len;

	ops.open = deaf_open;
	ops.close = deaf_close;
	ops.receive = deaf_receive;
	nb_prepare(&b);
	b.opts.port.ops = &ops;
	nb_start(&b);
	b.port.take = 0;
	fr_plain(frame, 60, 1);
	len = fr_message(fr_at(&b, 1), NULL, 0, frame, 60, false);
	fails = true;
	ck_assert_uint_eq(fr_section(&b, 0, 1, len), 0);
	ck_assert(!fails);
	vmbus_net_link(b.net, true); /* look again */
	(void)nb_run(&b, 0);
	b.port.take = 1;
	wait_until(&b.port.sent, 1);
	ck_assert_uint_eq(b.port.sent, 1);
	nb_end(&b);
}
END_TEST

static int deep_open(struct vmbus_port_queue *queue)
{
	const int err = nb_port_open(queue);

	deep_fd = queue->fd;
	return err;
}

static void deep_close(struct vmbus_port_queue *queue)
{
	nb_port_close(queue);
	deep_fd = -1;
}

/* Nothing tells when it has frames: a timer asks it, and the log says so. */
START_TEST(descriptors__a_port_that_cannot_be_waited_for_is_asked)
{
	struct vmbus_port_ops ops = nb_port_ops;
	uint32_t i;

	ops.open = deep_open;
	ops.close = deep_close;
	counted = "cannot be waited for: ";
	lines = 0;
	nb_prepare(&b);
	b.opts.port.ops = &ops;
	b.opts.log = log_line;
	nb_start(&b);
	fr_plain(b.port.given, 60, 1);
	memcpy(b.port.given, fr_guest, 6);
	for (i = 0; i < 3; i++) {
		b.taken = b.messages;
		nb_give(&b, 0, 1, 60);
		wait_until(&b.messages, b.taken + 1);
		ck_assert_uint_eq(b.messages, b.taken + 1);
	}
	ck_assert_uint_eq(lines, 1);
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "descriptors", 30);

	tcase_add_test(tc, descriptors__a_link_is_told_by_the_next_timer);
	tcase_add_test(tc, descriptors__a_port_is_asked_by_the_next_timer);
	tcase_add_test(tc, descriptors__a_port_that_cannot_be_waited_for_is_asked);
}
VMBUS_TEST_MAIN("net.descriptors", tests)
