/* SPDX-License-Identifier: MIT */
/* Devices that answer open() and close() later: the replay lets them finish, and does not wait for ever. */
#include "crafted.h"

#include <pthread.h>
#include <vmbus/watch.h>

#define RING 65536u
#define CHILD VMBUS_CAPTURE_FROM_CHILD
#define PARENT VMBUS_CAPTURE_TO_CHILD

static struct {
	struct vmbus_chan *opening, *closing;
	uint32_t settled;
} later;

static int open_later(struct vmbus_chan *chan, void *ctx)
{
	(void)ctx;
	later.opening = chan;
	return VMBUS_E_AGAIN;
}

static int close_later(struct vmbus_chan *chan)
{
	later.closing = chan;
	return VMBUS_E_AGAIN;
}

static void finish_opening(void)
{
	struct vmbus_chan *const chan = later.opening;

	later.opening = NULL;
	if (chan)
		vmbus_chan_open_done(chan, 0);
}

static void finish_closing(void)
{
	struct vmbus_chan *const chan = later.closing;

	later.closing = NULL;
	if (chan)
		vmbus_chan_close_done(chan);
}

static void finish(void *ctx, struct vmbus_bus *bus)
{
	(void)ctx;
	(void)bus;
	later.settled++;
	finish_opening();
	finish_closing();
}

static void finish_closing_only(void *ctx, struct vmbus_bus *bus)
{
	(void)ctx;
	(void)bus;
	finish_closing();
}

static struct vmbus_vsp begin(struct crafted *c)
{
	struct vmbus_vsp vsp = fake_echo_vsp;

	memset(&later, 0, sizeof(later));
	vsp.open = open_later;
	vsp.close = close_later;
	crafted_begin(c, &fake_echo_vsp);
	crafted_open(c, RING, RING);
	return vsp;
}

START_TEST(replay__lets_a_device_open_and_close_later)
{
	struct crafted c;
	struct vmbus_vsp vsp = begin(&c);

	crafted_packet(&c, CHILD, 1, 1, 8);
	crafted_packet(&c, PARENT, 1, 1, 8);
	crafted_close(&c, 0);
	crafted_open(&c, RING, RING);
	crafted_packet(&c, CHILD, 2, 2, 8);
	crafted_packet(&c, PARENT, 2, 2, 8);
	crafted_close(&c, 0);
	must_eq(crafted_replay_with(&c, &vsp, finish), 0);
	must_eq(c.result.opens, 2);
	must_eq(c.result.sent, 2);
	must_eq(c.result.differences, 0);
	must(c.result.complete);
	must(!later.opening && !later.closing);
	must(later.settled >= 4);
	crafted_end(&c, "");
}
END_TEST

/* Test i: at the end of a file without a closing; after a packet that ends the replay. */
START_TEST(replay__lets_a_device_close_at_its_end)
{
	struct crafted c;
	struct vmbus_vsp vsp = begin(&c);

	crafted_packet(&c, CHILD, 1, 1, 8);
	crafted_packet(&c, PARENT, 1, 1, 8);
	if (_i == 1)
		crafted_open(&c, RING, RING);
	must_eq(crafted_replay_with(&c, &vsp, finish), 0);
	must_eq(c.result.complete, _i == 0);
	must(!later.closing);
	crafted_end(&c, "");
}
END_TEST

START_TEST(replay__to_a_device_that_does_not_answer_the_opening)
{
	struct crafted c;
	struct vmbus_vsp vsp = begin(&c);

	must_eq(crafted_replay_with(&c, &vsp, finish_closing_only), 0);
	must_eq(c.result.opens, 0);
	must_eq(c.result.differences, 1);
	must(!c.result.complete);
	crafted_end(&c, "the device has not answered the opening");
}
END_TEST

static pthread_t closer;

/* On a thread of the device's, when the replay has waited already. */
static void *close_on_a_thread(void *unused)
{
	(void)unused;
	usleep(300000);
	finish_closing();
	return NULL;
}

static int close_by_a_thread(struct vmbus_chan *chan)
{
	later.closing = chan;
	must_eq(pthread_create(&closer, NULL, close_on_a_thread, NULL), 0);
	return VMBUS_E_AGAIN;
}

START_TEST(replay__to_a_device_that_closes_on_a_thread)
{
	struct crafted c;
	struct vmbus_vsp vsp = begin(&c);

	vsp.open = fake_echo_open;
	vsp.close = close_by_a_thread;
	crafted_close(&c, 0);
	must_eq(crafted_replay(&c, &vsp), 0);
	must_eq(pthread_join(closer, NULL), 0);
	must_eq(c.result.differences, 1);
	must(!c.result.complete);
	crafted_end(&c, "the device has not finished what it does, with the channel closed");
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "settle", 20);

	tcase_add_test(tc, replay__lets_a_device_open_and_close_later);
	tcase_add_loop_test(tc, replay__lets_a_device_close_at_its_end, 0, 2);
	tcase_add_test(tc, replay__to_a_device_that_does_not_answer_the_opening);
	tcase_add_test(tc, replay__to_a_device_that_closes_on_a_thread);
}

VMBUS_TEST_MAIN("replay.settle", tests)
