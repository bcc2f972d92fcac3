/* SPDX-License-Identifier: MIT */
/* What bounds every ring on this machine, measured raw. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include "run.h"

#define LIMIT_CHUNKS 9u /* 1, 2, 4 ... 256 KiB */

struct rtt_result {
	double p50, p99, p999; /* ns */
	double cpu_ns;	       /* processor time of both sides for each message, for sleepers */
	double rtt_before, rtt_after;
	bool valid;
};

/* Bytes of chunk number i, and whether a ring can hold it. */
uint32_t limit_chunk(uint32_t i);
bool limit_chunk_fits(uint32_t i, uint32_t ring_bytes);

/* Round trips through one line that both write, or through a line for each direction. */
int limit_line_rtt(const struct place *place, bool two_lines, bool threads, uint32_t us,
		   struct rtt_result *res);

/* Half a round trip through two eventfds, both sides asleep in between. */
int limit_eventfd(const struct place *place, bool threads, uint32_t us, struct rtt_result *res);

struct fence_result {
	double plain_ns;  /* a store, again and again */
	double fenced_ns; /* a store and a full fence */
};

/*
 * What a full fence adds to a store: on a line of one's own, or with shared on a line that the
 * other processor polls, with a load of a second line that it wrote behind the fence.
 */
int limit_fence(const struct place *place, bool threads, bool shared, uint32_t us,
		struct fence_result *res);

#endif
