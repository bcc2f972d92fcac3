/* SPDX-License-Identifier: MIT */
/*
 * Rounds: every contestant of a cell once, again and again; a contestant's result is compared with
 * that of the first one, ours, in the same round.  A pair counts only when the cache-line round
 * trip stood still over both and no other work took the processors; pairs that do not count are
 * measured again, at most 9 times a cell.
 */
#ifndef BENCH_ROUNDS_H
#define BENCH_ROUNDS_H

#include "results.h"

#define CONTESTANTS_MAX (PEERS_MAX + 8u)
#define ROUNDS_REPEAT_MAX 9u
#define ROUNDS_MAX (999u + ROUNDS_REPEAT_MAX)
#define VALUES_MAX 4u /* that one run yields */
#define STEADY_RATIO 1.2
#define STEADY_ON_CPU 0.95 /* a run that lost more to other work does not count either */

/* One run's outcome. */
struct sample {
	double value[VALUES_MAX];
	double rtt_before, rtt_after;
	double on_cpu; /* 1 where it is not taken */
	bool valid;
};

struct contestant {
	/* Runs once; failures are counted and the sample is not valid. */
	void (*run)(struct contestant *c, struct sample *sample);
	const void *ctx;
	const struct cell *cell;
	const struct place *place;
	uint32_t chunk;
	uint32_t us;
	uint32_t pair_with; /* number of the contestant that is compared with this one */
	const char *error;  /* why the last run failed */
	int error_no;
	struct sample *samples; /* one per round */
};

struct rounds {
	struct contestant c[CONTESTANTS_MAX];
	uint32_t count;
	uint32_t wanted;
	uint32_t done;
	uint32_t repeated;
};

/* The program's progress, on standard error. */
struct progress {
	uint64_t from_ns;
	uint64_t until_ns; /* no repeats after this; 0 for no limit */
	uint64_t end_ns;   /* runs are shortened to be done by then; 0 for no limit */
	uint32_t planned;
	uint32_t done;
	uint32_t failed;
	uint64_t told_ns;
	bool gave_up;
};
extern struct progress progress;
void progress_step(void);
void progress_end(void);
/* How long a run may take, so that all end in time; us, or less but not below least. */
uint32_t progress_shorten(uint32_t us, uint32_t least);

void rounds_run(struct rounds *rounds);

/* Spread of value v of contestant i, and of vmbus's to it; scale multiplies the value. */
struct spread rounds_value(const struct rounds *rounds, uint32_t i, uint32_t v, double scale);
struct spread rounds_ratio(const struct rounds *rounds, uint32_t i, uint32_t v);
/* Median of the cache-line round trips around its runs, ns. */
double rounds_line_rtt(const struct rounds *rounds, uint32_t i);
bool rounds_unsteady(const struct rounds *rounds, uint32_t i);
void rounds_free(struct rounds *rounds);

#endif
