/* SPDX-License-Identifier: MIT */
/* What a load comes to, for people and as JSON, "vmbus-blk-load/1". */
#include <stdio.h>

#include "blk.h"
#include "blk_load.h"

/* Sixteen buckets for each power of two. */
static uint32_t bucket(uint64_t ns)
{
	uint32_t shift;

	if (ns < 16)
		return (uint32_t)ns;
	shift = 63u - (uint32_t)__builtin_clzll(ns) - 4u;
	return (shift + 1) * 16u + (uint32_t)(ns >> shift) % 16u;
}

static uint64_t bucket_ns(uint32_t b)
{
	return b < 16 ? b : (UINT64_C(16) + b % 16u) << (b / 16u - 1u);
}

void load_count_latency(struct load *load, uint64_t ns)
{
	const uint32_t b = bucket(ns);

	load->latency[b < LOAD_BUCKETS ? b : LOAD_BUCKETS - 1]++;
}

static uint64_t quantile(const struct load *load, uint64_t all, uint32_t per_mille)
{
	uint64_t seen = 0;
	uint32_t b;

	for (b = 0; b < LOAD_BUCKETS; b++) {
		seen += load->latency[b];
		if (seen * 1000 >= all * per_mille)
			return bucket_ns(b);
	}
	return 0;
}

static void json(const struct load *load, bool good, uint64_t all, double s)
{
	static const char *const names[] = { "reads", "writes", "flushes", "discards" };
	const uint64_t moved = load->bytes[LOAD_READ] + load->bytes[LOAD_WRITE];
	uint32_t k;

	(void)printf("{\"schema\": \"vmbus-blk-load/1\", \"ok\": %s, \"requests\": %llu",
		     good ? "true" : "false", (unsigned long long)all);
	for (k = 0; k < LOAD_KINDS; k++)
		(void)printf(", \"%s\": %llu", names[k], (unsigned long long)load->done[k]);
	(void)printf(", \"bytes\": %llu, \"failed\": %llu, \"retried\": %llu, \"wrong\": %llu, "
		     "\"verified\": %s, \"channels\": %u, \"depth\": %u, \"seconds\": %.6f, "
		     "\"per_second\": %.0f, \"p50_ns\": %llu, \"p99_ns\": %llu, \"p999_ns\": %llu, "
		     "\"longest_ns\": %llu}\n",
		     (unsigned long long)moved, (unsigned long long)load->failed,
		     (unsigned long long)load->retried, (unsigned long long)load->wrong,
		     load->opts.verify ? "true" : "false", load->client.channels,
		     load->opts.client.depth, s, s > 0 ? (double)all / s : 0.0,
		     (unsigned long long)quantile(load, all, 500),
		     (unsigned long long)quantile(load, all, 990),
		     (unsigned long long)quantile(load, all, 999),
		     (unsigned long long)load->longest_ns);
}

void load_report(const struct load *load, bool good)
{
	const double s = (double)(load->end_ns - load->begin_ns) / (double)BLK_SECOND;
	const uint64_t moved = load->bytes[LOAD_READ] + load->bytes[LOAD_WRITE];
	uint64_t all = 0;
	uint32_t k;

	for (k = 0; k < LOAD_KINDS; k++)
		all += load->done[k];
	if (load->opts.json) {
		json(load, good, all, s);
		return;
	}
	(void)printf("%llu requests: %llu reads, %llu writes, %llu flushes, %llu discards; "
		     "%llu failed, %llu were sent again",
		     (unsigned long long)all, (unsigned long long)load->done[LOAD_READ],
		     (unsigned long long)load->done[LOAD_WRITE],
		     (unsigned long long)load->done[LOAD_FLUSH],
		     (unsigned long long)load->done[LOAD_TRIM], (unsigned long long)load->failed,
		     (unsigned long long)load->retried);
	if (load->opts.verify)
		(void)printf(", %llu sectors wrong", (unsigned long long)load->wrong);
	(void)printf("; %u channel%s, depth %u, %.3f s, %.0f a second, %.0f MiB/s; half within "
		     "%.1f us, 99 %% within %.1f us; longest silence %.3f ms\n",
		     load->client.channels, load->client.channels == 1 ? "" : "s",
		     load->opts.client.depth, s, s > 0 ? (double)all / s : 0.0,
		     s > 0 ? (double)moved / s / 1048576.0 : 0.0,
		     (double)quantile(load, all, 500) / 1e3, (double)quantile(load, all, 990) / 1e3,
		     (double)load->longest_ns / 1e6);
}
