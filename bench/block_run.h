/* SPDX-License-Identifier: MIT */
/* The sub-command block: what is measured, and what came out. */
#ifndef BENCH_BLOCK_RUN_H
#define BENCH_BLOCK_RUN_H

#include "block.h"
#include "rounds.h"

#define BLOCK_DISKS_MAX 16u
#define BLOCK_WORKS_MAX 6u

enum block_goal {
	BLOCK_NO_GOAL,
	BLOCK_TIMES, /* ours is so many times as fast as this */
	BLOCK_COST   /* ours costs less than so many ns of processor time more than this */
};

/* One subject, and what ours is compared with it. */
struct block_entry {
	const struct block_subject *subject; /* NULL: this build has not got it */
	const char *name;
	const char *package; /* NULL: nothing is needed */
	const char *against; /* subject of ours that is compared with it, or NULL */
	enum block_goal kind;
	double goal;
	uint32_t goal_depth; /* 0: at all depths */
	bool in_order;	     /* takes part one behind the other as well */
};

struct block_bench {
	struct options opts;
	struct results results;
	struct block_disk disk[BLOCK_DISKS_MAX]; /* one for each entry */
	bool wanted[BLOCK_DISKS_MAX];
	bool work[BLOCK_WORKS_MAX];
	uint64_t bytes;
	struct results_missing missing[BLOCK_DISKS_MAX];
	uint32_t met, unmet, unsteady;
};

extern const struct block_entry block_entries[];
extern const uint32_t block_entry_count;
extern const struct block_work block_works[BLOCK_WORKS_MAX];

enum {
	BLOCK_PER_S,
	BLOCK_CPU,
	BLOCK_P50,
	BLOCK_P99
};

void block_options(struct block_bench *bb, int argc, char **argv);
/* Keep what the rounds of one work gave; entry[i] is that of contestant i. */
void block_results(struct block_bench *bb, const struct block_work *work, const struct rounds *r,
		   const uint32_t *entry);
void block_report(struct block_bench *bb, FILE *to);
int block_svg(const struct block_bench *bb, const char *path);

#endif
