/* SPDX-License-Identifier: MIT */
/* vmbus-blk load: what its files share. */
#ifndef BLK_LOAD_H
#define BLK_LOAD_H

#include "blk_client.h"
#include "blk_pattern.h"

#define LOAD_BUCKETS 1024u /* of latencies: 16 for each power of two */

struct load_opts {
	struct blk_client_opts client;
	uint64_t size_min, size_max, region, requests, seed;
	uint64_t run_ns, timeout_ns;
	uint32_t read, trim, flush, fua; /* per cent; of writes: fua */
	bool sequential, verify, unaligned, json;
};

enum load_kind {
	LOAD_READ,
	LOAD_WRITE,
	LOAD_FLUSH,
	LOAD_TRIM,
	LOAD_KINDS
};

struct load;

/* A request, and its buffer. */
struct load_slot {
	struct vmbus_storvsc_req req;
	struct vmbus_storvsc_piece piece;
	struct load *load;
	uint8_t *buffer;
	uint64_t began_ns;
	uint32_t channel;
	uint32_t sector, sectors;
	uint32_t number; /* of a write's contents */
	uint32_t tries;
	enum load_kind kind;
	bool fua, busy;
};

struct load {
	struct load_opts opts;
	struct blk_client client;
	struct blk_pattern pattern;
	struct load_slot *slots;
	uint32_t slot_count, sectors, next; /* next: of sequential ones */
	uint64_t random;
	uint64_t started, done[LOAD_KINDS], bytes[LOAD_KINDS];
	uint64_t under_way, failed, retried, wrong;
	uint64_t begin_ns, end_ns, last_ns, longest_ns; /* longest time with nothing done */
	uint64_t latency[LOAD_BUCKETS];
	bool stop, looking; /* looking: all that was written is read once more */
};

/* blk_load_run.c; an exit status. */
int load_run(struct load *load);
/* blk_load_report.c */
void load_count_latency(struct load *load, uint64_t ns);
void load_report(const struct load *load, bool good);

#endif
