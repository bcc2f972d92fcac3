/* SPDX-License-Identifier: MIT */
/*
 * The sub-command isolation: a parent with many children, one of which is hostile, or honest and as
 * busy; what the others get meanwhile.  Shared by its files.
 */
#ifndef BENCH_ISOLATION_H
#define BENCH_ISOLATION_H

#include "bench.h"
#include "hist.h"
#include "results.h"

#define ISO_CHILDREN_MAX 256u
#define ISO_HERDS_MAX 16u
#define ISO_PAIRS_MAX 99u

/* What the child in the tested place does. */
enum iso_kind {
	ISO_HONEST, /* sends as fast as it can, and never sleeps */
	ISO_MESSAGES,
	ISO_DOORBELL,
	ISO_INDICES,
	ISO_GPADLS,
	ISO_NEVER_READS,
	ISO_NEVER_ANSWERS,
	ISO_RETURNS,
	ISO_KINDS
};
extern const char *const iso_names[ISO_KINDS];

/* One process with several honest children; it writes, the program reads. */
struct iso_herd {
	uint64_t done; /* requests answered while measuring */
	uint32_t ready;
	uint32_t failed;
	struct hist hist; /* of their round trips, ns */
};

/* Memory that all processes share. */
struct iso_shared {
	uint32_t stop;
	uint32_t measure; /* count from now on; the next number begins anew */
	uint32_t placed;  /* the child in the tested place has begun */
	uint32_t ask;	  /* the parent looks at itself when this changes */
	uint32_t told;	  /* ... and has, for this number */
	uint32_t fds;
	uint64_t anon_bytes; /* resident memory of the parent that is no child's */
	uint64_t children;   /* attached, and those whose devices close */
	uint64_t steps;	     /* of the hostile child, now */
	struct iso_herd herd[ISO_HERDS_MAX];
};

/* The bodies of processes; they return when shared->stop is set, or are killed. */
void iso_parent(struct iso_shared *shared, const char *path, uint32_t children);
void iso_herd(struct iso_shared *shared, const char *path, uint32_t herd, uint32_t children);
void iso_placed(struct iso_shared *shared, const char *path, enum iso_kind kind);

/* What one phase gave. */
struct iso_sample {
	double throughput; /* requests of the others in a second */
	double p99;	   /* of their round trips, ns */
	double steps;	   /* of the child in the tested place in a second */
	double others;	   /* processors that other work took, 0 and up */
};

struct iso_cell {
	enum iso_kind kind;
	struct iso_sample beside[2][ISO_PAIRS_MAX]; /* honest, hostile */
	bool steady[ISO_PAIRS_MAX];
	uint32_t pairs, repeated;
	double line_rtt;
	double steps;			  /* of the hostile child in a second, in the last pair */
	uint64_t anon_before, anon_after; /* of the parent */
	uint32_t fds_before, fds_after;
};

struct iso_bench {
	struct options opts; /* for the report */
	struct results results;
	uint32_t children, herds, pairs, ms;
	bool quick;
	bool kind[ISO_KINDS];
	struct iso_cell cell[ISO_KINDS];
	uint32_t unmet, unsteady, grown;
};

/* Fill the options; leaves the program on a bad one. */
void iso_options(struct iso_bench *ib, int argc, char **argv);
/* Judge the cells, fill the results, print the table. */
void iso_report(struct iso_bench *ib, FILE *to);
int iso_svg(const struct iso_bench *ib, const char *path);

int isolation_main(int argc, char **argv);

#endif
