/* SPDX-License-Identifier: MIT */
/*
 * The pool of threads, src/pool, over channels that watch who is in them.  Leaving it:
 * test_remove.c; a channel of the bus: test_pool_bus.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>

#include "watched_chan.h"

START_TEST(pool_create__refuses_options)
{
	const struct vmbus_pool_opts good = { .struct_bytes = sizeof(good), .threads = 1 };
	struct vmbus_pool *pool = NULL;
	struct vmbus_pool_opts o;

	must_eq(vmbus_pool_create(NULL, &pool), VMBUS_E_INVAL);
	o = good;
	o.struct_bytes--;
	must_eq(vmbus_pool_create(&o, &pool), VMBUS_E_INVAL);
	o = good;
	o.threads = 0;
	must_eq(vmbus_pool_create(&o, &pool), VMBUS_E_RANGE);
	o.threads = VMBUS_POOL_THREADS_MAX + 1;
	must_eq(vmbus_pool_create(&o, &pool), VMBUS_E_RANGE);
	o = good;
	o.spin_ns = VMBUS_POOL_SPIN_NS_MAX + 1;
	must_eq(vmbus_pool_create(&o, &pool), VMBUS_E_RANGE);
	o = good;
	o.budget = (uint32_t)INT32_MAX + 1;
	must_eq(vmbus_pool_create(&o, &pool), VMBUS_E_RANGE);
	o = good;
	o.pin = true;
	o.threads =
		VMBUS_POOL_THREADS_MAX; /* more than this machine has processors, or just as many */
	if (sysconf(_SC_NPROCESSORS_ONLN) < (long)VMBUS_POOL_THREADS_MAX)
		must_eq(vmbus_pool_create(&o, &pool), VMBUS_E_RANGE);
	must(pool == NULL);
	vmbus_pool_destroy(NULL);
}
END_TEST

/* Without a NUMA interface the answer is another one, and still an error. */
START_TEST(pool_create__refuses_a_node_that_is_not_there)
{
	const struct vmbus_pool_opts o = {
		.struct_bytes = sizeof(o), .threads = 1, .on_node = true, .node = 100000
	};
	struct vmbus_pool *pool = NULL;
	const int err = vmbus_pool_create(&o, &pool);

	must(err == VMBUS_E_RANGE || err == VMBUS_E_NOTSUP);
	must(pool == NULL);
}
END_TEST

static int threads_now(void)
{
	DIR *dir = opendir("/proc/self/task");
	int n = 0;

	must(dir != NULL);
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n - 2;
}

/* Descriptors are counted by the fixture. */
START_TEST(pool_destroy__ends_all_threads)
{
	static const uint32_t counts[] = { 1, 2, 16, 1 };
	int before;
	uint32_t i;

	vmbus_pool_destroy(
		pool_of(1, 0, 0)); /* a sanitizer starts a thread of its own with the first */
	(void)poll(NULL, 0, 10);
	before = threads_now();
	for (i = 0; i < 4; i++) {
		struct vmbus_pool *pool = pool_of(counts[i], 0, 0);

		must_eq(threads_now(), before + (int)counts[i]);
		vmbus_pool_destroy(pool);
		UNTIL(threads_now() == before);
	}
}
END_TEST

/* Test i: how long it may spin. */
START_TEST(pool_add__dispatches_all_work)
{
	struct vmbus_pool *pool = pool_of(3, 16, spins[_i]);
	struct vmbus_chan c[24];
	struct vmbus_pool_stats stats;
	uint32_t i, round;

	for (i = 0; i < 24; i++) {
		chan_open(&c[i]);
		if (i % 2)
			push(&c[i], 5); /* before it is added */
		must_eq(vmbus_pool_add(pool, &c[i]), 0);
	}
	for (round = 1; round <= 100; round++)
		for (i = 0; i < 24; i++)
			push(&c[i], (int)(i + round) % 40);
	for (i = 0; i < 24; i++) {
		int want = i % 2 ? 5 : 0;

		for (round = 1; round <= 100; round++)
			want += (int)(i + round) % 40;
		UNTIL(GET(c[i].done) == want);
		must_eq(GET(c[i].budget_seen), 16);
	}
	vmbus_pool_stats(pool, &stats);
	must_eq(stats.channels, 24);
	must(stats.dispatches >= 24);
	for (i = 0; i < 24; i++)
		remove_and_close(pool, &c[i]);
	vmbus_pool_stats(pool, &stats);
	must_eq(stats.channels, 0);
	vmbus_pool_destroy(pool);
}
END_TEST

/* Eight channels on four threads: two each, also after some were removed and others came. */
START_TEST(pool_add__takes_the_thread_with_the_fewest)
{
	struct vmbus_pool *pool = pool_of(4, 0, 0);
	struct vmbus_chan c[8];
	uint32_t round, i, k;

	for (i = 0; i < 8; i++) {
		chan_open(&c[i]);
		must_eq(vmbus_pool_add(pool, &c[i]), 0);
	}
	for (round = 0; round < 8; round++) {
		for (i = 0; i < 8; i++) {
			push(&c[i], 1);
			UNTIL(GET(c[i].work) == 0);
		}
		for (i = 0; i < 8; i++) {
			int same = 0;

			for (k = 0; k < 8; k++)
				same += GET(c[k].tid) == GET(c[i].tid);
			must_eq(same, 2);
		}
		for (i = round % 2; i < 8; i += 3) {
			remove_and_close(pool, &c[i]);
			chan_open(&c[i]);
			must_eq(vmbus_pool_add(pool, &c[i]), 0);
		}
	}
	for (i = 0; i < 8; i++)
		remove_and_close(pool, &c[i]);
	vmbus_pool_destroy(pool);
}
END_TEST

START_TEST(pool_add__refuses_what_cannot_be)
{
	struct vmbus_pool *pool = pool_of(1, 0, 0);
	struct vmbus_chan c, none = { .fd = -1 }, file;
	struct vmbus_pool_stats stats;

	chan_open(&c);
	must_eq(vmbus_pool_add(pool, &none), VMBUS_E_INVAL);
	must_eq(vmbus_pool_remove(pool, &c), VMBUS_E_INVAL);
	must_eq(vmbus_pool_add(pool, &c), 0);
	must_eq(vmbus_pool_add(pool, &c), VMBUS_E_STATE);
	memset(&file, 0, sizeof(file));
	file.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	must(file.fd >= 0);
	must_eq(vmbus_pool_add(pool, &file), VMBUS_E_SYSTEM); /* nothing to wait for in a file */
	must_eq(vmbus_pool_remove(pool, &file), VMBUS_E_INVAL);
	vmbus_pool_stats(pool, &stats);
	must_eq(stats.channels, 1);
	(void)close(file.fd);
	remove_and_close(pool, &c);
	must_eq(vmbus_pool_remove(pool, &c), VMBUS_E_INVAL);
	vmbus_pool_destroy(pool);
}
END_TEST

START_TEST(pool_add__refuses_its_own_threads)
{
	struct vmbus_pool *pool = pool_of(2, 0, 0);
	struct vmbus_chan c;

	chan_open(&c);
	c.reenter = pool;
	must_eq(vmbus_pool_add(pool, &c), 0);
	UNTIL(GET(c.reentered) != 0);
	must_eq(c.reentered, 1);
	remove_and_close(pool, &c);
	vmbus_pool_destroy(pool);
}
END_TEST

/* One that always has more gets one budget at a time, and can be removed. */
START_TEST(pool__takes_turns_under_endless_work)
{
	struct vmbus_pool *pool = pool_of(1, 4, 0);
	struct vmbus_chan noisy, quiet;
	uint32_t round;

	chan_open(&noisy);
	chan_open(&quiet);
	noisy.endless = 1;
	must_eq(vmbus_pool_add(pool, &noisy), 0);
	must_eq(vmbus_pool_add(pool, &quiet), 0);
	for (round = 1; round <= 50; round++) {
		push(&quiet, 1);
		UNTIL(GET(quiet.done) == (int)round);
	}
	must(GET(noisy.calls) > 50);
	must_eq(GET(noisy.budget_seen), 4);
	remove_and_close(pool, &noisy);
	push(&quiet, 1);
	UNTIL(GET(quiet.done) == 51);
	remove_and_close(pool, &quiet);
	vmbus_pool_destroy(pool);
}
END_TEST

static int producing;

static void *feed(void *arg)
{
	struct vmbus_chan *c = arg;

	while (GET(producing)) {
		if (GET(c[0].work) == 0)
			push(&c[0], 1);
		if (GET(c[1].work) == 0)
			push(&c[1], 1);
	}
	return NULL;
}

/* Two that answer each time keep the thread spinning; a third one that was asleep has its turn. */
START_TEST(pool__takes_turns_while_spinning)
{
	struct vmbus_pool *pool = pool_of(1, 4, 1000000);
	struct vmbus_chan c[3];
	pthread_t thread;
	uint32_t i;
	int round;

	for (i = 0; i < 3; i++) {
		chan_open(&c[i]);
		must_eq(vmbus_pool_add(pool, &c[i]), 0);
	}
	SET(producing, 1);
	must_eq(pthread_create(&thread, NULL, feed, c), 0);
	for (round = 1; round <= 20; round++) {
		const int seen = GET(c[round % 2].done);

		UNTIL(GET(c[round % 2].done) > seen + 10);
		push(&c[2], 1);
		UNTIL(GET(c[2].done) == round);
	}
	SET(producing, 0);
	must_eq(pthread_join(thread, NULL), 0);
	for (i = 0; i < 3; i++)
		remove_and_close(pool, &c[i]);
	vmbus_pool_destroy(pool);
}
END_TEST

/* One packet at a time, and each must wake: no signal is lost between the last look and the sleep. */
START_TEST(pool__loses_no_wakeup)
{
	struct vmbus_pool *pool = pool_of(2, 8, spins[_i]);
	const uint64_t end =
		now(CLOCK_MONOTONIC) + (vmbus_test_full() ? 60000u : 1000u) * (uint64_t)MS;
	struct vmbus_chan c[2];
	uint32_t seed = 5;
	int round;

	chan_open(&c[0]);
	chan_open(&c[1]);
	must_eq(vmbus_pool_add(pool, &c[0]), 0);
	must_eq(vmbus_pool_add(pool, &c[1]), 0);
	for (round = 1; now(CLOCK_MONOTONIC) < end; round++) {
		struct vmbus_chan *one = &c[round % 2];
		const uint64_t until = now(CLOCK_MONOTONIC) + LONG_NS;
		uint32_t wait;

		push(one, 1);
		while (GET(one->work) > 0)
			if (now(CLOCK_MONOTONIC) > until)
				ck_abort_msg("round %d: the packet lies there", round);
			else
				sched_yield();
		seed = seed * 1664525u + 1013904223u;
		for (wait = seed >> 22; wait > 0; wait--)
			__asm__ volatile("" ::: "memory");
	}
	remove_and_close(pool, &c[0]);
	remove_and_close(pool, &c[1]);
	vmbus_pool_destroy(pool);
}
END_TEST

/*
 * Lesson of the field: 300 % of a processor at idle.  After work, with a long spin allowed, a pool
 * that has nothing to do uses none.  VMBUS_TEST_FULL: 10 s.
 */
START_TEST(pool__uses_no_processor_when_idle)
{
	struct vmbus_pool *pool = pool_of(4, 0, 1000000);
	const int seconds = vmbus_test_full() ? 10 : 2;
	struct vmbus_chan c[16];
	struct vmbus_pool_stats before, after;
	uint64_t used;
	uint32_t i;

	for (i = 0; i < 16; i++) {
		chan_open(&c[i]);
		must_eq(vmbus_pool_add(pool, &c[i]), 0);
		push(&c[i], 1000);
	}
	for (i = 0; i < 16; i++)
		UNTIL(GET(c[i].work) == 0);
	(void)poll(NULL, 0, 100); /* the last spins end */
	vmbus_pool_stats(pool, &before);
	used = now(CLOCK_PROCESS_CPUTIME_ID);
	(void)poll(NULL, 0, seconds * 1000);
	used = now(CLOCK_PROCESS_CPUTIME_ID) - used;
	vmbus_pool_stats(pool, &after);
	must_eq(after.dispatches, before.dispatches);
	must_eq(after.sleeps, before.sleeps);
	vmbus_test_at("%llu ns in %d s", (unsigned long long)used, seconds);
	must(used < VMBUS_TEST_IDLE_NS); /* of this thread's own two system calls */
	for (i = 0; i < 16; i++)
		remove_and_close(pool, &c[i]);
	vmbus_pool_destroy(pool);
}
END_TEST

/* Work that comes at once is met spinning, work that comes seldom ends the spin. */
START_TEST(pool__spins_while_it_pays)
{
	struct vmbus_pool *pool = pool_of(1, 0, 10 * MS);
	struct vmbus_pool_stats stats, later;
	struct vmbus_chan c;
	uint64_t used;
	int i;

	chan_open(&c);
	must_eq(vmbus_pool_add(pool, &c), 0);
	UNTIL((push(&c, 1), vmbus_pool_stats(pool, &stats), stats.spins_won >= 10));
	for (i = 0; i < 40; i++) { /* every 20 ms: each spin of at most 10 ms is in vain */
		(void)poll(NULL, 0, 20);
		push(&c, 1);
		UNTIL(GET(c.work) == 0);
	}
	vmbus_pool_stats(pool, &stats);
	used = now(CLOCK_PROCESS_CPUTIME_ID);
	for (i = 0; i < 20; i++) {
		(void)poll(NULL, 0, 20);
		push(&c, 1);
		UNTIL(GET(c.work) == 0);
	}
	used = now(CLOCK_PROCESS_CPUTIME_ID) - used;
	vmbus_pool_stats(pool, &later);
	must(later.sleeps > stats.sleeps);
	vmbus_test_at("%llu ns for 20 packets", (unsigned long long)used);
	must(used < 20 * 5 * (uint64_t)MS); /* half of what full spins would be */
	remove_and_close(pool, &c);
	vmbus_pool_destroy(pool);
}
END_TEST

START_TEST(pool_create__pins_threads)
{
	struct vmbus_pool_opts opts = { .struct_bytes = sizeof(opts), .pin = true };
	struct vmbus_pool *pool = NULL;
	struct vmbus_chan c[2];
	cpu_set_t set;
	uint32_t i;

	must_eq(sched_getaffinity(0, sizeof(set), &set), 0);
	opts.threads = CPU_COUNT(&set) > 1 ? 2 : 1;
	must_eq(vmbus_pool_create(&opts, &pool), 0);
	for (i = 0; i < opts.threads; i++) {
		chan_open(&c[i]);
		push(&c[i], 1);
		must_eq(vmbus_pool_add(pool, &c[i]), 0);
		UNTIL(GET(c[i].done) == 1);
		must_eq(GET(c[i].allowed), 1);
		must(CPU_ISSET((size_t)GET(c[i].cpu), &set));
	}
	if (opts.threads == 2)
		must(GET(c[0].cpu) != GET(c[1].cpu));
	for (i = 0; i < opts.threads; i++)
		remove_and_close(pool, &c[i]);
	vmbus_pool_destroy(pool);
}
END_TEST

/* Of the processors that are allowed, of which the first is not processor 0. */
START_TEST(pool_create__pins_to_what_is_allowed)
{
	struct vmbus_pool_opts opts = { .struct_bytes = sizeof(opts), .threads = 1, .pin = true };
	struct vmbus_pool *pool = NULL;
	struct vmbus_chan c;
	cpu_set_t set, last;
	size_t cpu = CPU_SETSIZE - 1;

	must_eq(sched_getaffinity(0, sizeof(set), &set), 0);
	while (!CPU_ISSET(cpu, &set))
		cpu--;
	if (cpu == 0)
		VMBUS_TEST_SKIP("one processor only");
	CPU_ZERO(&last);
	CPU_SET(cpu, &last);
	must_eq(sched_setaffinity(0, sizeof(last), &last), 0);
	opts.threads = 2;
	must_eq(vmbus_pool_create(&opts, &pool), VMBUS_E_RANGE);
	opts.threads = 1;
	must_eq(vmbus_pool_create(&opts, &pool), 0);
	must_eq(sched_setaffinity(0, sizeof(set), &set), 0);
	chan_open(&c);
	push(&c, 1);
	must_eq(vmbus_pool_add(pool, &c), 0);
	UNTIL(GET(c.done) == 1);
	must_eq(GET(c.allowed), 1);
	must_eq((size_t)GET(c.cpu), cpu);
	remove_and_close(pool, &c);
	vmbus_pool_destroy(pool);
}
END_TEST

START_TEST(pool_create__stays_on_a_node)
{
	const struct vmbus_pool_opts opts = { .struct_bytes = sizeof(opts),
					      .threads = 1,
					      .on_node = true };
	struct vmbus_pool *pool = NULL;
	struct vmbus_chan c;
	cpu_set_t set;
	int err;

	err = vmbus_pool_create(&opts, &pool);
	if (err == VMBUS_E_NOTSUP || err == VMBUS_E_RANGE)
		VMBUS_TEST_SKIP("no NUMA interface here, or node 0 has none of our processors");
	must_eq(err, 0);
	must_eq(sched_getaffinity(0, sizeof(set), &set), 0);
	chan_open(&c);
	push(&c, 1);
	must_eq(vmbus_pool_add(pool, &c), 0);
	UNTIL(GET(c.done) == 1);
	must(GET(c.allowed) >= 1 && GET(c.allowed) <= CPU_COUNT(&set));
	must(CPU_ISSET((size_t)GET(c.cpu), &set));
	remove_and_close(pool, &c);
	vmbus_pool_destroy(pool);
}
END_TEST

/* Out of descriptors, at each place where one is made: an error, and nothing is left behind. */
START_TEST(pool_create__fails_without_descriptors)
{
	const struct vmbus_pool_opts opts = { .struct_bytes = sizeof(opts), .threads = 2 };
	struct vmbus_pool *pool = NULL;
	int held[1024], n = 0, i, left;

	while (n < 1024 && (held[n] = eventfd(0, EFD_CLOEXEC)) >= 0)
		n++;
	if (n == 1024) {
		for (i = 0; i < n; i++)
			(void)close(held[i]);
		VMBUS_TEST_SKIP("the limit of descriptors is above 1,000");
	}
	for (left = 0; left < 4; left++) {
		must_eq(vmbus_pool_create(&opts, &pool), VMBUS_E_SYSTEM);
		must(pool == NULL);
		(void)close(held[--n]);
	}
	must_eq(vmbus_pool_create(&opts, &pool), 0);
	vmbus_pool_destroy(pool);
	while (n > 0)
		(void)close(held[--n]);
}
END_TEST

static void few_descriptors(void)
{
	struct rlimit limit = { 64, 64 };

	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "create", 5);

	tcase_add_test(tc, pool_create__refuses_options);
	tcase_add_test(tc, pool_create__refuses_a_node_that_is_not_there);
	tcase_add_test(tc, pool_destroy__ends_all_threads);
	tcase_add_test(tc, pool_create__pins_threads);
	tcase_add_test(tc, pool_create__pins_to_what_is_allowed);
	tcase_add_test(tc, pool_create__stays_on_a_node);
	tc = vmbus_test_case(suite, "limits", 5);
	tcase_add_checked_fixture(tc, few_descriptors, NULL);
	tcase_add_test(tc, pool_create__fails_without_descriptors);
	tc = vmbus_test_case(suite, "channels", 10);
	tcase_add_loop_test(tc, pool_add__dispatches_all_work, 0, 4);
	tcase_add_test(tc, pool_add__takes_the_thread_with_the_fewest);
	tcase_add_test(tc, pool_add__refuses_what_cannot_be);
	tcase_add_test(tc, pool_add__refuses_its_own_threads);
	tcase_add_test(tc, pool__takes_turns_under_endless_work);
	tcase_add_test(tc, pool__takes_turns_while_spinning);
	tc = vmbus_test_case(suite, "threads", 20);
	tcase_add_loop_test(tc, pool__loses_no_wakeup, 0, 4);
	tc = vmbus_test_case(suite, "idle", 20);
	tcase_add_test(tc, pool__uses_no_processor_when_idle);
	tcase_add_test(tc, pool__spins_while_it_pays);
}

VMBUS_TEST_MAIN("pool.pool", tests)
