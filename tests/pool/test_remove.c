/* SPDX-License-Identifier: MIT */
/*
 * Channels that leave a pool of threads: nobody is in them afterwards, whatever goes on beside it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "watched_chan.h"

static int producing;

static void *produce(void *arg)
{
	struct vmbus_chan *c = arg;
	uint32_t seed = (uint32_t)(uintptr_t)arg;

	while (GET(producing)) {
		seed = seed * 1664525u + 1013904223u;
		push(&c[seed >> 28], 1 + (int)(seed >> 20 & 31));
		if (seed >> 16 & 1)
			sched_yield();
	}
	return NULL;
}

/* Channels come and go while work arrives; a removed one that is touched ends the test program. */
START_TEST(pool_remove__leaves_no_thread_in_the_channel)
{
	struct vmbus_pool *pool = pool_of(3, 4, spins[_i]);
	const uint64_t end =
		now(CLOCK_MONOTONIC) + (vmbus_test_full() ? 60000u : 1000u) * (uint64_t)MS;
	struct vmbus_chan c[16];
	pthread_t thread[2];
	uint32_t seed = 11, i;

	for (i = 0; i < 16; i++) {
		chan_open(&c[i]);
		must_eq(vmbus_pool_add(pool, &c[i]), 0);
	}
	SET(producing, 1);
	for (i = 0; i < 2; i++)
		must_eq(pthread_create(&thread[i], NULL, produce, c), 0);
	while (now(CLOCK_MONOTONIC) < end) {
		struct vmbus_chan *one;

		seed = seed * 1664525u + 1013904223u;
		one = &c[seed >> 28];
		must_eq(vmbus_pool_remove(pool, one), 0);
		SET(one->gone, 1);
		must_eq(GET(one->inside), 0);
		if (seed >> 20 & 1)
			sched_yield();
		SET(one->gone, 0);
		must_eq(vmbus_pool_add(pool, one), 0);
	}
	SET(producing, 0);
	for (i = 0; i < 2; i++)
		must_eq(pthread_join(thread[i], NULL), 0);
	for (i = 0; i < 16; i++) {
		UNTIL(GET(c[i].work) == 0);
		remove_and_close(pool, &c[i]);
	}
	vmbus_pool_destroy(pool);
}
END_TEST

static struct vmbus_pool *shared;

static void *add_one(void *chan)
{
	return (void *)(intptr_t)vmbus_pool_add(shared, chan);
}

static void *remove_one(void *chan)
{
	return (void *)(intptr_t)vmbus_pool_remove(shared, chan);
}

static uint64_t channels_of(const struct vmbus_pool *pool)
{
	struct vmbus_pool_stats stats;

	vmbus_pool_stats(pool, &stats);
	return stats.channels;
}

/* Test i: the thread, which is busy meanwhile, then takes the channel; the kernel refuses it. */
START_TEST(pool_remove__waits_for_an_add_under_way)
{
	struct vmbus_chan busy, c;
	pthread_t thread[2];
	void *added, *removed;

	shared = pool_of(1, 0, 0);
	chan_open(&busy);
	chan_open(&c);
	if (_i == 1) {
		(void)close(c.fd);
		c.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		must(c.fd >= 0);
	}
	busy.hold = 1;
	must_eq(vmbus_pool_add(shared, &busy), 0);
	UNTIL(GET(busy.inside) == 1);
	must_eq(pthread_create(&thread[0], NULL, add_one, &c), 0);
	UNTIL(channels_of(shared) == 2);
	must_eq(pthread_create(&thread[1], NULL, remove_one, &c), 0);
	(void)poll(NULL, 0, 50);
	SET(busy.hold, 0);
	must_eq(pthread_join(thread[0], &added), 0);
	must_eq(pthread_join(thread[1], &removed), 0);
	must_eq((intptr_t)added, _i == 1 ? VMBUS_E_SYSTEM : 0);
	must_eq((intptr_t)removed, _i == 1 ? VMBUS_E_INVAL : 0);
	SET(c.gone, 1);
	must_eq(channels_of(shared), 1);
	if (_i == 0)
		push(&c, 1); /* nobody listens */
	push(&busy, 1);	     /* the thread goes on, with the one that is left */
	UNTIL(GET(busy.done) == 1);
	(void)close(c.fd);
	remove_and_close(shared, &busy);
	vmbus_pool_destroy(shared);
}
END_TEST

/* A thread is in the channel while two remove it: neither is told that it is out before that is so. */
START_TEST(pool_remove__waits_for_a_removal_under_way)
{
	struct vmbus_chan c;
	pthread_t thread[2];
	void *said[2];
	uint32_t i;

	shared = pool_of(1, 0, 0);
	chan_open(&c);
	c.hold = 1;
	must_eq(vmbus_pool_add(shared, &c), 0);
	UNTIL(GET(c.inside) == 1);
	for (i = 0; i < 2; i++)
		must_eq(pthread_create(&thread[i], NULL, remove_one, &c), 0);
	(void)poll(NULL, 0, 50);
	for (i = 0; i < 2; i++)
		must_eq(pthread_tryjoin_np(thread[i], NULL), EBUSY);
	SET(c.hold, 0);
	for (i = 0; i < 2; i++)
		must_eq(pthread_join(thread[i], &said[i]), 0);
	SET(c.gone, 1);
	must_eq((intptr_t)said[0] + (intptr_t)said[1], VMBUS_E_INVAL);
	must_eq(channels_of(shared), 0);
	must_eq(vmbus_pool_remove(shared, &c), VMBUS_E_INVAL);
	(void)close(c.fd);
	vmbus_pool_destroy(shared);
}
END_TEST

/* Removed between two looks of a spin, it is handed back so that one may sleep at its descriptor. */
START_TEST(pool_remove__leaves_the_channel_armed)
{
	struct vmbus_pool *pool = pool_of(1, 8, VMBUS_POOL_SPIN_NS_MAX);
	struct vmbus_chan c;
	struct pollfd ready;
	pthread_t thread;
	uint64_t ignored;

	shared = pool;
	chan_open(&c);
	must_eq(vmbus_pool_add(pool, &c), 0);
	c.hold_poll = 1;
	push(&c, 1); /* wakes the thread, which spins from now on */
	UNTIL(GET(c.done) == 1);
	(void)poll(NULL, 0, 20);
	push(&c, 1); /* found by a spin */
	UNTIL(GET(c.done) == 2);
	(void)!read(c.fd, &ignored, sizeof(ignored));
	must_eq(pthread_create(&thread, NULL, remove_one, &c), 0);
	(void)poll(NULL, 0, 50);
	SET(c.hold_poll, 0);
	must_eq(pthread_join(thread, NULL), 0);
	SET(c.gone, 1);
	push(&c, 1);
	ready = (struct pollfd){ .fd = c.fd, .events = POLLIN };
	must_eq(poll(&ready, 1, 0), 1);
	(void)close(c.fd);
	vmbus_pool_destroy(pool);
}
END_TEST

static void *add_remove(void *arg)
{
	struct vmbus_chan *c = arg;
	int round;

	for (round = 0; round < 500; round++) {
		SET(c->gone, 0);
		if (vmbus_pool_add(shared, c))
			stop("add failed\n");
		push(c, 1);
		if (vmbus_pool_remove(shared, c))
			stop("remove failed\n");
		SET(c->gone, 1);
	}
	return NULL;
}

/* Several threads give commands at once, to the same two workers. */
START_TEST(pool_remove__from_several_threads)
{
	struct vmbus_chan c[4];
	pthread_t thread[4];
	uint32_t i;

	shared = pool_of(2, 0, 1000);
	for (i = 0; i < 4; i++) {
		chan_open(&c[i]);
		must_eq(pthread_create(&thread[i], NULL, add_remove, &c[i]), 0);
	}
	for (i = 0; i < 4; i++) {
		must_eq(pthread_join(thread[i], NULL), 0);
		(void)close(c[i].fd);
	}
	vmbus_pool_destroy(shared);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "threads", 20);

	tcase_add_loop_test(tc, pool_remove__leaves_no_thread_in_the_channel, 0, 4);
	tcase_add_loop_test(tc, pool_remove__waits_for_an_add_under_way, 0, 2);
	tcase_add_test(tc, pool_remove__waits_for_a_removal_under_way);
	tcase_add_test(tc, pool_remove__leaves_the_channel_armed);
	tcase_add_test(tc, pool_remove__from_several_threads);
}

VMBUS_TEST_MAIN("pool.remove", tests)
