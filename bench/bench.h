/* SPDX-License-Identifier: MIT */
/*
 * What the parts of vmbus-bench share: a cell of the grid, a direction between two sides, and the
 * small machine-level helpers.  Nothing here knows the library that is measured.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

/* memfd_create, sched_setaffinity and the like; every file includes this one before all others. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* Exit states of the program. */
enum bench_exit {
	BENCH_EXIT_OK = 0,
	BENCH_EXIT_FAILED = 1, /* a run stalled, or payloads did not arrive as sent */
	BENCH_EXIT_USAGE = 2,  /* an option has no meaning or is past its limit */
	BENCH_EXIT_MACHINE = 3 /* this machine cannot do it: processors, permissions, nodes */
};

#define BENCH_LINE 64u /* bytes; what two sides write is kept this far apart */
#define BENCH_RING_MIN 4096u
#define BENCH_PAYLOAD_MIN 8u
#define BENCH_PAYLOAD_MAX 524264u /* what the longest packet of the protocol carries */
#define BENCH_BATCH_MAX 4096u
#define BENCH_PRODUCERS_MAX 16u

enum bench_window {
	BENCH_PLAIN,
	BENCH_MIRRORED,
	BENCH_SCATTERED,
	BENCH_WINDOWS
};

/* One cell of the grid. */
struct cell {
	uint32_t payload;    /* bytes, a multiple of 8 */
	uint32_t batch;	     /* as asked */
	uint32_t batch_used; /* max(1, min(batch, what a quarter of the ring holds)) */
	uint32_t ring_bytes; /* data bytes */
	uint32_t producers;
	enum bench_window window;
	bool threads; /* else two processes */
	bool in_place;
	int node; /* NUMA node of the memory, -1 for none in particular */
};

/* How one run ended, in memory that both sides map. */
struct run_ctl {
	uint32_t stop; /* the consumer's word to the producers */
	uint8_t pad0[60];
	uint32_t ready; /* producers that are in place */
	uint8_t pad1[60];
	uint32_t probe_here; /* the two lines of the round-trip probe */
	uint8_t pad2[60];
	uint32_t probe_there;
	uint8_t pad3[60];
	uint64_t cpu_ns;     /* processor time that the far side used */
	uint64_t far_on_cpu; /* thousandths of the run that the far side was running */
	uint32_t far_error;
	uint8_t pad4[44];
};

/* One direction between two sides. */
struct chan {
	const struct cell *cell;
	struct run_ctl *ctl;
	uint8_t *mem; /* shared memory of the size that the subject asked for, zeroed */
	size_t mem_bytes;
	uint32_t chunk; /* limit.copy: bytes per copy */
	void *priv;	/* the subject's */
};

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A counter of the processor that costs a few ns to read; see ticks_per_ns(). */
static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t v;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
	return v;
#else
	return now_ns();
#endif
}

/* Ticks of ticks() in one ns, measured once. */
double ticks_per_ns(void);

/* What every subject does when it finds its ring empty or full. */
static inline void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#else
	__asm__ volatile("" ::: "memory");
#endif
}

static inline uint32_t load32(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void store32(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline uint64_t load64(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void store64(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline bool stopped(const struct run_ctl *ctl)
{
	return __atomic_load_n(&ctl->stop, __ATOMIC_RELAXED) != 0;
}

/* The largest power of two that is not above v; v is not 0. */
static inline uint32_t pow2_floor(uint64_t v)
{
	return (uint32_t)1 << (63 - __builtin_clzll(v));
}

static inline size_t round_up(size_t v, size_t to)
{
	return (v + to - 1) / to * to;
}

const char *window_name(enum bench_window window);

/* Print "vmbus-bench: " and the message on standard error, and leave. */
_Noreturn void die(enum bench_exit status, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Memory or nothing: a benchmark that is out of memory has no result. */
void *must_alloc(size_t bytes);

#endif
