/* SPDX-License-Identifier: MIT */
/* Two ports that are each other's far end. */
#include <pthread.h>
#include <sched.h>

#include "nic.h"

static struct vmbus_port two[2];
static struct nic a, b;

static void make(void)
{
	must_eq(vmbus_port_pair(0, two), 0);
	nic_open(&a, &two[0]);
	nic_open(&b, &two[1]);
	must_eq(nic_take(&a) + nic_take(&b), 0);
}

static void unmake(void)
{
	nic_close(&a);
	nic_close(&b);
	vmbus_port_destroy(&two[0]);
	vmbus_port_destroy(&two[1]);
}

START_TEST(port_pair__refuses_sizes)
{
	struct vmbus_port none[2] = { { 0 } };

	ck_assert_int_eq(vmbus_port_pair(65536, none), VMBUS_E_RANGE);
	ck_assert_int_eq(vmbus_port_pair(196608, none), VMBUS_E_RANGE);
	ck_assert_int_eq(vmbus_port_pair(33554432, none), VMBUS_E_RANGE);
	ck_assert_ptr_null(none[0].ops);
	vmbus_port_destroy(&none[0]);
}
END_TEST

START_TEST(port_pair__tells_what_it_can)
{
	struct vmbus_port_info info;

	make();
	ck_assert_int_eq(two[0].ops->info(two[0].ctx, &info), 0);
	ck_assert_uint_eq(info.can, VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 |
					    VMBUS_FRAME_VLAN);
	ck_assert_uint_eq(info.queues, 1);
	ck_assert(info.up);
	unmake();
}
END_TEST

START_TEST(port_pair__has_one_queue_with_one_user)
{
	struct nic second;

	make();
	ck_assert_int_eq(nic_try_open(&second, &two[0], 0), VMBUS_E_STATE);
	nic_close(&a);
	ck_assert_int_eq(nic_try_open(&second, &two[0], 1), VMBUS_E_STATE);
	ck_assert_int_eq(nic_try_open(&a, &two[0], 0), 0);
	unmake();
}
END_TEST

START_TEST(port_pair__carries_frames_both_ways)
{
	uint32_t i;

	make();
	for (i = 0; i < 200; i++) {
		nic_send(&a, 1, 2, i);
		nic_send(&b, 2, 1, 1000 + i);
	}
	ck_assert_uint_eq(nic_take(&a), 200);
	ck_assert_uint_eq(nic_take(&b), 200);
	for (i = 0; i < 200; i++) {
		must_eq(nic_number(&a, i), 1000 + i);
		must_eq(nic_number(&b, i), i);
	}
	unmake();
}
END_TEST

START_TEST(port_pair__keeps_what_the_nic_has_no_room_for)
{
	uint32_t i;

	make();
	for (i = 0; i < 100; i++)
		nic_send(&a, 1, 2, i);
	b.room = 30;
	ck_assert_uint_eq(nic_take(&b), 30);
	b.room = UINT32_MAX;
	b.port.ops->ready(&b.queue); /* the NIC comes by itself when it has room */
	ck_assert_uint_eq(b.count, 100);
	for (i = 0; i < 100; i++)
		must_eq(nic_number(&b, i), i);
	unmake();
}
END_TEST

START_TEST(port_pair__drops_and_counts_behind_its_bytes)
{
	uint64_t sent, received;
	uint32_t i, came;

	make();
	for (i = 0; i < 20000; i++)
		nic_send(&a, 1, 2, i);
	b.port.ops->dropped(a.port.ctx, &sent, &received);
	came = nic_take(&b);
	ck_assert_uint_eq(came + sent, 20000);
	ck_assert(came > 1000 && sent > 1000);
	ck_assert_uint_eq(received, 0);
	b.port.ops->dropped(b.port.ctx, &sent, &received);
	ck_assert_uint_eq(sent + received, 0);
	unmake();
}
END_TEST

START_TEST(port_pair__drops_and_counts_what_came_while_closed)
{
	uint64_t sent, received;

	make();
	nic_send(&a, 1, 2, 1);
	nic_close(&b);
	nic_send(&a, 1, 2, 2);
	nic_open(&b, &two[1]);
	ck_assert_uint_eq(nic_take(&b), 0);
	b.port.ops->dropped(b.port.ctx, &sent, &received);
	ck_assert_uint_eq(sent, 0);
	ck_assert_uint_eq(received, 2);
	nic_send(&a, 1, 2, 3);
	ck_assert_uint_eq(nic_take(&b), 1);
	ck_assert_uint_eq(nic_number(&b, 0), 3);
	b.port.ops->dropped(b.port.ctx, &sent, &received);
	ck_assert_uint_eq(sent + received, 2);
	a.port.ops->dropped(a.port.ctx, &sent, &received);
	ck_assert_uint_eq(sent + received, 0);
	unmake();
}
END_TEST

START_TEST(port_destroy__leaves_the_other_port_alone)
{
	make();
	nic_close(&b);
	vmbus_port_destroy(&two[1]);
	ck_assert_ptr_null(two[1].ops);
	nic_send(&a, 1, 2, 1);
	ck_assert_uint_eq(nic_take(&a), 0);
	nic_close(&a);
	vmbus_port_destroy(&two[0]);
	vmbus_port_destroy(&two[0]);
}
END_TEST

#define ECHOES (vmbus_test_full() ? 1000000u : 20000u)

static void *echo(void *arg)
{
	struct nic *const nic = arg;
	struct pollfd p = { .fd = nic->queue.fd, .events = POLLIN };
	const uint32_t echoes = ECHOES;
	uint32_t seen = 0;

	while (seen < echoes) {
		must_eq(poll(&p, 1, 10000), 1);
		nic->port.ops->ready(&nic->queue);
		for (; nic->count; nic->count--, seen++)
			nic_send(nic, 2, 1, seen);
	}
	return NULL;
}

/* Each frame waits for the one before: one lost wake-up would be the end. */
START_TEST(port_pair__wakes_two_threads_without_end)
{
	struct pollfd p;
	pthread_t thread;
	uint32_t i;

	make();
	p = (struct pollfd){ .fd = a.queue.fd, .events = POLLIN };
	must(!pthread_create(&thread, NULL, echo, &b));
	for (i = 0; i < ECHOES; i++) {
		nic_send(&a, 1, 2, i);
		while (a.count == 0) {
			must_eq(poll(&p, 1, 10000), 1);
			a.port.ops->ready(&a.queue);
		}
		must_eq(nic_number(&a, 0), i);
		nic_clear(&a);
	}
	must(!pthread_join(thread, NULL));
	unmake();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "pair", 20);

	tcase_add_test(tc, port_pair__refuses_sizes);
	tcase_add_test(tc, port_pair__tells_what_it_can);
	tcase_add_test(tc, port_pair__has_one_queue_with_one_user);
	tcase_add_test(tc, port_pair__carries_frames_both_ways);
	tcase_add_test(tc, port_pair__keeps_what_the_nic_has_no_room_for);
	tcase_add_test(tc, port_pair__drops_and_counts_behind_its_bytes);
	tcase_add_test(tc, port_pair__drops_and_counts_what_came_while_closed);
	tcase_add_test(tc, port_destroy__leaves_the_other_port_alone);
	tcase_add_test(tc, port_pair__wakes_two_threads_without_end);
}

VMBUS_TEST_MAIN("ports.pair", tests)
