/* SPDX-License-Identifier: MIT */
/*
 * A histogram of durations in ticks: 128 buckets for each power of two, so that a percentile is
 * exact to 0.8 %, and small enough to stay in a first-level cache where durations are alike.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 7
#define HIST_SUB (1u << HIST_SUB_BITS)
#define HIST_BUCKETS ((40u - HIST_SUB_BITS + 1u) * HIST_SUB)

struct hist {
	uint64_t count;
	uint32_t bucket[HIST_BUCKETS];
};

static inline uint32_t hist_index(uint64_t v)
{
	uint32_t shift, index;

	if (v < HIST_SUB)
		return (uint32_t)v;
	shift = 63u - (uint32_t)__builtin_clzll(v) - HIST_SUB_BITS;
	index = (shift + 1u) * HIST_SUB + (uint32_t)((v >> shift) - HIST_SUB);
	return index < HIST_BUCKETS ? index : HIST_BUCKETS - 1u;
}

static inline void hist_add(struct hist *h, uint64_t v)
{
	h->bucket[hist_index(v)]++;
	h->count++;
}

/* The smallest value that a bucket stands for. */
static inline double hist_low(uint32_t index)
{
	uint32_t shift;

	if (index < HIST_SUB)
		return (double)index;
	shift = index / HIST_SUB - 1u;
	return (double)((uint64_t)(HIST_SUB + index % HIST_SUB) << shift);
}

/* The value below which the part p of all lie (0 < p < 1), between the bounds of its bucket. */
static inline double hist_percentile(const struct hist *h, double p)
{
	double want = p * (double)h->count, seen = 0;

	for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
		double in = (double)h->bucket[i];

		if (h->bucket[i] && seen + in >= want) {
			double low = hist_low(i), high = hist_low(i + 1u);

			return low + (high - low) * (want - seen) / in;
		}
		seen += in;
	}
	return 0;
}

#endif
