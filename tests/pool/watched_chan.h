/* SPDX-License-Identifier: MIT */
/*
 * Channels of a test's own for the pool of threads: the three calls that a pool makes of a channel
 * are defined here, and watch who makes them.  For one file of a test program.
 */
#ifndef VMBUS_TEST_POOL_CHAN_H
#define VMBUS_TEST_POOL_CHAN_H

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/pool.h>

#include "vmbus_test.h"

#define MS 1000000u
#define LONG_NS (20000u * (uint64_t)MS) /* a deadline; nothing waits so long but what is broken */

/* What stands for a channel.  A channel that was taken out of the pool must not be touched. */
struct vmbus_chan {
	int fd;
	int work;   /* packets that wait */
	int done;   /* packets taken */
	int armed;  /* the next packet writes the descriptor */
	int inside; /* threads in it */
	int gone;   /* removed from the pool */
	int calls;
	int budget_seen;
	int endless; /* always has more */
	pid_t tid;   /* of the thread that came last */
	int allowed; /* processors that it might use, and the first of them */
	int cpu;
	int hold;		    /* dispatch does not return as long as this is set */
	int hold_poll;		    /* nor does a poll that took packets */
	struct vmbus_pool *reenter; /* call the pool from the callback */
	int reentered;
};

#define GET(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define SET(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELEASE)
#define ADD(x, v) __atomic_add_fetch(&(x), v, __ATOMIC_ACQ_REL)

static inline void stop(const char *why)
{
	(void)!write(2, why, strlen(why));
	abort();
}

static inline void enter(struct vmbus_chan *c)
{
	if (GET(c->gone))
		stop("a removed channel was touched\n");
	if (ADD(c->inside, 1) != 1)
		stop("two threads are in one channel\n");
	ADD(c->calls, 1);
	SET(c->tid, (pid_t)syscall(SYS_gettid));
}

static inline int take(struct vmbus_chan *c, uint32_t budget)
{
	int n = GET(c->work);

	if (n > (int)budget)
		n = (int)budget;
	if (n > 0) {
		ADD(c->work, -n);
		ADD(c->done, n);
	}
	return GET(c->endless) ? (int)budget : n;
}

/* As a ring does it: ask for a signal, then look again. */
static inline int take_or_arm(struct vmbus_chan *c, uint32_t budget)
{
	const int n = take(c, budget);

	if (n > 0)
		return n;
	__atomic_store_n(&c->armed, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&c->work, __ATOMIC_SEQ_CST) == 0)
		return 0;
	SET(c->armed, 0);
	return take(c, budget);
}

int vmbus_chan_fd(const struct vmbus_chan *chan)
{
	return chan->fd;
}

int vmbus_chan_dispatch(struct vmbus_chan *c, uint32_t budget)
{
	uint64_t ignored;
	cpu_set_t set;
	int n;

	enter(c);
	SET(c->budget_seen, (int)budget);
	(void)!read(c->fd, &ignored, sizeof(ignored));
	if (sched_getaffinity(0, sizeof(set), &set) == 0) {
		int cpu = 0;

		while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET((size_t)cpu, &set))
			cpu++;
		SET(c->allowed, CPU_COUNT(&set));
		SET(c->cpu, cpu);
	}
	n = take_or_arm(c, budget);
	if (c->reenter) {
		const int add = vmbus_pool_add(c->reenter, c),
			  rm = vmbus_pool_remove(c->reenter, c);

		SET(c->reentered, add == VMBUS_E_STATE && rm == VMBUS_E_STATE ? 1 : -1);
	}
	while (GET(c->hold))
		(void)poll(NULL, 0, 1);
	ADD(c->inside, -1);
	return n;
}

static inline uint64_t now(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000u * MS + (uint64_t)t.tv_nsec;
}

int vmbus_chan_poll(struct vmbus_chan *c, uint32_t budget, uint64_t spin_ns)
{
	const uint64_t until = now(CLOCK_MONOTONIC) + spin_ns;
	int n;

	enter(c);
	do
		n = take(c, budget);
	while (n == 0 && now(CLOCK_MONOTONIC) < until);
	while (n > 0 && GET(c->hold_poll))
		(void)poll(NULL, 0, 1);
	if (n == 0)
		n = take_or_arm(c, budget);
	ADD(c->inside, -1);
	return n;
}

static inline void chan_open(struct vmbus_chan *c)
{
	memset(c, 0, sizeof(*c));
	c->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	must(c->fd >= 0);
	c->armed = 1;
}

static inline void push(struct vmbus_chan *c, int n)
{
	const uint64_t one = 1;

	(void)__atomic_add_fetch(&c->work, n, __ATOMIC_SEQ_CST);
	if (__atomic_exchange_n(&c->armed, 0, __ATOMIC_SEQ_CST))
		must_eq(write(c->fd, &one, sizeof(one)), 8);
}

/* Wait for a condition; the test's own thread sleeps in between. */
#define UNTIL(cond)                                                                                \
	do {                                                                                       \
		const uint64_t until_ = now(CLOCK_MONOTONIC) + LONG_NS;                            \
		while (!(cond)) {                                                                  \
			if (now(CLOCK_MONOTONIC) > until_)                                         \
				ck_abort_msg("never: %s (%s)", #cond, vmbus_test_where);           \
			(void)poll(NULL, 0, 1);                                                    \
		}                                                                                  \
	} while (0)

static inline struct vmbus_pool *pool_of(uint32_t threads, uint32_t budget, uint64_t spin_ns)
{
	const struct vmbus_pool_opts opts = { .struct_bytes = sizeof(opts),
					      .threads = threads,
					      .budget = budget,
					      .spin_ns = spin_ns };
	struct vmbus_pool *pool = NULL;

	must_eq(vmbus_pool_create(&opts, &pool), 0);
	return pool;
}

static inline void remove_and_close(struct vmbus_pool *pool, struct vmbus_chan *c)
{
	must_eq(vmbus_pool_remove(pool, c), 0);
	SET(c->gone, 1);
	must_eq(GET(c->inside), 0);
	(void)close(c->fd);
}

static const uint64_t spins[] = { 0, 1000, 20000, 1000000 };

#endif
