/* SPDX-License-Identifier: MIT */
/* A page that a test shares with the processes that it forks: when each is killed, when to stop. */
#ifndef VMBUS_TESTS_ISOLATION_SHARED_H
#define VMBUS_TESTS_ISOLATION_SHARED_H

#include "shm/local.h"

#include <time.h>

#define WITHIN_US_MIN UINT64_C(25000)
#define WITHIN_US_MAX UINT64_C(800000)

struct shared {
	uint64_t when;	 /* this round's victim dies, monotonic ns; 0: it has not said so yet */
	uint64_t within; /* microseconds from its start on, in which it may die */
	uint32_t stop;
	uint32_t lost; /* times that children saw their parent go */
	uint32_t wrong;
};

static inline struct shared *shared_make(void)
{
	struct shared *const s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(s != MAP_FAILED);
	s->within = WITHIN_US_MIN;
	return s;
}

/* On a slow machine they die before there is anything to cut: whether the last one came late enough. */
static inline void shared_adapt(struct shared *s, bool late_enough)
{
	if (!late_enough && s->within < WITHIN_US_MAX)
		s->within *= 2;
	else if (late_enough && s->within > WITHIN_US_MIN)
		s->within /= 2;
}

/* Moments between 0 and most microseconds that differ from round to round. */
static inline uint64_t moment_us(int round, uint64_t most)
{
	uint64_t x = (uint64_t)round * 0x9E3779B97F4A7C15u + 12345;

	x ^= x >> 29;
	x *= 0xBF58476D1CE4E5B9u;
	x ^= x >> 32;
	return x % most;
}

/* This process is killed by the system at that time from now, and the page says when. */
static inline void shared_die_in(struct shared *s, uint64_t us)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	const uint64_t when = vmbus__shm_now_ns() + us * 1000 + 1;
	struct itimerspec at = { .it_value = { (time_t)(when / SECOND_NS),
					       (long)(when % SECOND_NS) } };
	timer_t timer;

	__atomic_store_n(&s->when, when, __ATOMIC_RELEASE);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) ||
	    timer_settime(timer, TIMER_ABSTIME, &at, NULL))
		_exit(99);
}

/* Times of a test, for its report; nothing is judged by them. */
struct times {
	uint64_t *ns;
	uint32_t count, room;
};

static inline void times_init(struct times *t, uint32_t room)
{
	t->ns = calloc(room, sizeof(*t->ns));
	must(t->ns != NULL);
	t->count = 0;
	t->room = room;
}

static inline void times_add(struct times *t, uint64_t ns)
{
	if (t->count < t->room)
		t->ns[t->count++] = ns;
}

static int times_order(const void *a, const void *b)
{
	const uint64_t *const x = a, *const y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Print what was measured, and let go of it. */
static inline void times_tell(struct times *t, const char *what)
{
	if (t->count) {
		qsort(t->ns, t->count, sizeof(*t->ns), times_order);
		printf("notice: %s: %u deaths, median %.2f ms, 99 of 100 within %.2f ms, worst "
		       "%.2f "
		       "ms\n",
		       what, t->count, (double)t->ns[t->count / 2] / 1e6,
		       (double)t->ns[t->count - 1 - t->count / 100] / 1e6,
		       (double)t->ns[t->count - 1] / 1e6);
		fflush(stdout);
	}
	free(t->ns);
}

#endif
