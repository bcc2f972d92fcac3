/* SPDX-License-Identifier: MIT */
/* What vmbus-bench ring was asked for. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "bench.h"
#include "run.h"

#define LIST_MAX 32u
#define PEERS_MAX 16u

struct list {
	uint32_t value[LIST_MAX];
	uint32_t count;
};

struct options {
	bool quick;
	bool full;
	bool latency; /* measure round trips, wake-ups and the fence as well */
	struct list payloads;
	struct list batches;
	struct list rings_kib;
	struct list producers;
	bool windows[BENCH_WINDOWS];
	bool threads;
	bool in_place;
	bool peer[PEERS_MAX]; /* by number in peers[] */
	uint32_t runs;
	uint32_t ms;
	uint32_t seconds; /* for all runs; 0: as usual */
	int node;	  /* -1: none in particular */
	struct place place;
	const char *json;
	const char *svg;
};

/* Fill opts from the arguments behind "ring"; leaves the program on a bad one. */
void options_parse(struct options *opts, int argc, char **argv);

/* Check processors, permissions and the NUMA node; leaves the program with a message. */
void options_check_machine(struct options *opts);

void ring_usage(void);

#endif
