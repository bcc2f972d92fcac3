/* SPDX-License-Identifier: MIT */
/* What was measured: a list of results, as docs/bench-schema.md describes them. */
#ifndef BENCH_RESULTS_H
#define BENCH_RESULTS_H

#include "options.h"

#include <stdio.h>

struct spread {
	double median, min, max;
	uint32_t runs;
};

struct result {
	const char *subject;
	const char *version;
	const char *metric;
	const char *mode; /* copy, in-place, polled, sleep, idle, private, shared */
	const char *unit;
	struct cell cell;
	struct spread value;
	struct spread ratio; /* vmbus to this subject, of the same round; runs is 0 for none */
	bool unsteady;
	double line_rtt;   /* around its runs, ns; 0 when not taken */
	uint32_t chunk;	   /* limit.copy */
	uint32_t channels; /* open at once; 0 where it has no meaning */
};

/* A cell that cannot exist. */
struct left_out {
	const char *subject;
	const char *why;
	struct cell cell;
};

/* A figure against a bound, as a sub-command judged it. */
struct goal {
	char what[96];
	const char *unit; /* of got and bound; "ratio" for ours divided by the other's */
	double got, bound;
	bool at_most;  /* else at least */
	bool unsteady; /* not to be judged */
};

/* A peer that could not take part, and the package that brings it. */
struct results_missing {
	const char *subject;
	const char *package;
};

struct results {
	const char *command; /* the sub-command */
	/* NULL: those of the ring that this build has not got. */
	const struct results_missing *missing;
	uint32_t missing_count;
	struct result *list;
	uint32_t count;
	uint32_t room;
	struct left_out *left;
	uint32_t left_count;
	uint32_t left_room;
	struct goal *goals;
	uint32_t goal_count;
	uint32_t goal_room;
	uint32_t failed_runs;
	uint32_t repeated;
	double seconds;
	bool out_of_time; /* repeats were given up to end in time */
};

/* Median, minimum and maximum; values is sorted by this call. */
struct spread spread_of(double *values, uint32_t n);

struct result *results_add(struct results *res, const struct result *r);
void results_leave_out(struct results *res, const char *subject, const char *why,
		       const struct cell *cell);
/* Keep a judgement for the JSON file; fmt names what was compared.  True: the goal is met. */
bool results_goal(struct results *res, const struct goal *goal, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool goal_met(const struct goal *goal);
/* Free the lists; res itself is the caller's. */
void results_free(struct results *res);
const struct result *results_find(const struct results *res, const char *subject,
				  const char *metric, const struct cell *cell);
bool cell_equal(const struct cell *a, const struct cell *b);

/* The tables. */
void report_print(const struct results *res, const struct options *opts, FILE *to);

/* Both return 0, or -1 with errno. */
int json_write(const struct results *res, const struct options *opts, const char *path);
int svg_write(const struct results *res, const struct options *opts, const char *path);

#endif
