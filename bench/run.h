/* SPDX-License-Identifier: MIT */
/*
 * One run: memory that both sides share, a second side on another processor, a measured time, and
 * a cache-line round trip before and after it that tells whether the machine stood still.
 */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "loop.h"
#include "subject.h"

/* Where the two sides run. */
struct place {
	bool pin;
	int cpu_here;			   /* consumer */
	int cpu_there;			   /* the first producer */
	int cpu_more[BENCH_PRODUCERS_MAX]; /* further producers, from number 1 on */
	uint32_t far_count;		   /* producers that have a processor of their own */
};

enum run_kind {
	RUN_THROUGHPUT,
	RUN_ROUND_TRIP
};

struct run_plan {
	const struct subject *subject;
	const struct cell *cell;
	const struct place *place;
	enum run_kind kind;
	uint32_t chunk; /* limit.copy */
	uint32_t warm_us;
	uint32_t measure_us;
};

struct run_result {
	bool valid;
	bool stalled;
	bool corrupt;
	double packets_per_s;
	double bytes_per_s; /* of payload */
	double rtt_before;  /* of the probe, ns */
	double rtt_after;
	double on_cpu; /* part of the time that the side that had less of it was running, 0 to 1 */
	double here_on_cpu; /* the same of the receiver alone, while it was measured */
	struct hist *hist;  /* caller's, for RUN_ROUND_TRIP; in ticks */
};

/* Run once.  Returns 0, or -1 with errno when it could not be set up. */
int run_once(const struct run_plan *plan, struct run_result *res);

/*
 * Run a function pair on the two processors: there() on the far one, in a child or a thread, here()
 * on this one; when here() returns, ctl->stop is set and the far side must end.
 */
struct pair_job {
	void (*here)(void *arg);
	void (*there)(void *arg, uint32_t index);
	void *arg;
	struct run_ctl *ctl; /* shared, zeroed */
	const struct place *place;
	bool threads;
	uint32_t far_threads; /* at least 1 */
};
int run_pair(const struct pair_job *job);

/*
 * The one control block of this program, zeroed; NULL with errno.  It stays where it is, since the
 * round trip of a line depends on its physical address.
 */
struct run_ctl *run_ctl_get(void);

/* Shared memory, zeroed and touched; NULL with errno. */
void *shared_map(size_t bytes);
void shared_unmap(void *mem, size_t bytes);

/* Pin this thread; 0 or -1 with errno. */
int pin_to(int cpu);

/*
 * Round trip of one line in ns, a lower quartile over blocks of PROBE_BLOCK; both sides call at the
 * same time.
 */
double probe_here(struct run_ctl *ctl, uint32_t blocks);
void probe_there(struct run_ctl *ctl, uint32_t blocks);
#define PROBE_BLOCK 64u /* round trips between two looks at the clock */

#endif
