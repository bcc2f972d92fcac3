/* SPDX-License-Identifier: MIT */
/* vmbus_bus_end(): a bus that ends without waiting, and when it cannot yet. */
#include "loop.h"

#include <pthread.h>
#include <urcu-bp.h>

#define ECHO_CLASS                                                                                 \
	VMBUS_GUID(0x7e57c1a5, 0x0004, 0x4000, 0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07)
static const struct vmbus_guid echo_class = ECHO_CLASS;

static unsigned int closes, removals;
static int close_says, inside, go_on, end_in_callback;

static void take_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan, (void)pkt, (void)n;
	__atomic_store_n(&inside, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&go_on, __ATOMIC_ACQUIRE))
		usleep(100);
}

static int close_it(struct vmbus_chan *chan)
{
	(void)chan;
	closes++;
	return close_says;
}

static const struct vmbus_vsp vsp = {
	.struct_bytes = sizeof(vsp),
	.name = "slow",
	.class_id = ECHO_CLASS,
	.packets = take_packets,
	.close = close_it,
};

/* A bus of its own that counts removals, over the loop's parts. */
static void on_removed(void *ctx, struct vmbus_chan *chan)
{
	struct loop *l = ctx;

	(void)chan;
	removals++;
	end_in_callback = vmbus_bus_end(l->bus);
}

static struct loop *begin(struct vmbus_chan **chan, bool own_fd)
{
	const struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer), .own_fd = own_fd };
	const struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
					     .send_bytes = 4096,
					     .recv_bytes = 4096 };
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_vsc *vsc;
	int i;

	closes = removals = 0;
	close_says = inside = go_on = end_in_callback = 0;
	loop_new_bus(l, on_removed);
	must_eq(vmbus_bus_offer(l->bus, &vsp, NULL, &offer, chan), 0);
	must_eq(vmbus_bus_offer(l->bus, &vsp, NULL, NULL, NULL), 0);
	loop_connect(l);
	vsc = vmbus_vsc_find(l->guest, &echo_class, 0);
	must(vsc != NULL);
	must_eq(vmbus_vsc_open(vsc, &opts), 0);
	for (i = 0; i < 10; i++) {
		loop_settle(l);
		if (own_fd)
			must(vmbus_chan_dispatch(*chan, 16) >= 0);
	}
	must_eq(vmbus_vsc_state(vsc), VMBUS_VSC_OPEN);
	return l;
}

static void finish(struct loop *l)
{
	must_eq(removals, 2);
	must_eq(end_in_callback, VMBUS_E_STATE);
	must_eq(vmbus_region_pins(&l->region), 0);
	l->bus = NULL;
	loop_free(l);
}

START_TEST(bus_end__when_all_devices_are_closed)
{
	struct vmbus_chan *chan;
	struct loop *l = begin(&chan, false);

	close_says = VMBUS_E_AGAIN;
	must_eq(vmbus_bus_end(l->bus), VMBUS_E_AGAIN);
	loop_end_guest(l); /* the bus is told and dispatched; the device closes slowly */
	must_eq(closes, 1);
	must_eq(vmbus_bus_end(l->bus), VMBUS_E_AGAIN);
	must_eq(removals, 0);
	must_eq(vmbus_bus_dispatch(l->bus, 16), 0); /* it is not ending yet */
	vmbus_chan_close_done(chan);
	while (loop_bus_turn(l))
		;
	must_eq(vmbus_bus_end(l->bus), 0);
	finish(l);
}
END_TEST

static void *dispatch_it(void *chan)
{
	while (!__atomic_load_n(&inside, __ATOMIC_ACQUIRE))
		(void)vmbus_chan_dispatch(chan, 16);
	return NULL;
}

/* A thread that is in a channel, which was closed from elsewhere meanwhile, is waited for. */
START_TEST(bus_end__not_while_a_thread_is_in_a_channel)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "12345678", .len = 8 };
	struct vmbus_chan *chan;
	struct loop *l = begin(&chan, true);
	pthread_t thread;
	int err;

	must_eq(vmbus_vsc_send(vmbus_vsc_find(l->guest, &echo_class, 0), &msg, 1), 1);
	must_eq(pthread_create(&thread, NULL, dispatch_it, chan), 0);
	while (!__atomic_load_n(&inside, __ATOMIC_ACQUIRE))
		usleep(100);
	loop_end_guest(l);
	must_eq(vmbus_bus_end(l->bus), VMBUS_E_AGAIN);
	must_eq(removals, 0);
	__atomic_store_n(&go_on, 1, __ATOMIC_RELEASE);
	must_eq(pthread_join(thread, NULL), 0);
	must(vmbus_chan_dispatch(chan, 16) >= 0); /* its close */
	while (loop_bus_turn(l))
		;
	err = vmbus_bus_end(l->bus);
	must_eq(err, 0);
	finish(l);
}
END_TEST

/* A reader that never leaves: whoever waits for a grace period waits for it. */
static void *read_on(void *arg)
{
	(void)arg;
	urcu_bp_read_lock();
	__atomic_store_n(&inside, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&go_on, __ATOMIC_ACQUIRE))
		usleep(100);
	urcu_bp_read_unlock();
	return NULL;
}

START_TEST(bus_end__waits_for_no_grace_period)
{
	struct vmbus_chan *chan;
	struct loop *l = begin(&chan, false);
	pthread_t thread;

	must_eq(pthread_create(&thread, NULL, read_on, NULL), 0);
	while (!__atomic_load_n(&inside, __ATOMIC_ACQUIRE))
		usleep(100);
	loop_end_guest(l);
	must_eq(vmbus_bus_end(l->bus), 0);
	__atomic_store_n(&go_on, 1, __ATOMIC_RELEASE);
	must_eq(pthread_join(thread, NULL), 0);
	finish(l);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "end", 4);

	tcase_add_test(tc, bus_end__when_all_devices_are_closed);
	tcase_add_test(tc, bus_end__not_while_a_thread_is_in_a_channel);
	tcase_add_test(tc, bus_end__waits_for_no_grace_period);
}

VMBUS_TEST_MAIN("loop.end", tests)
