/* SPDX-License-Identifier: MIT */
/* The sub-command net: what is measured, and what came out. */
#ifndef BENCH_NET_RUN_H
#define BENCH_NET_RUN_H

#include "net.h"
#include "rounds.h"

#define NET_LINKS_MAX 16u
#define NET_WORKS 4u

/* One subject, and what ours is compared with it. */
struct net_entry {
	const struct net_subject *subject; /* NULL: this build has not got it */
	const char *name;
	const char *package; /* NULL: nothing is needed */
	const char *against; /* subject of ours that is compared with it, or NULL */
	double goal;	     /* ours is to be so many times as fast; 0: none */
	bool huge;	     /* memory of huge pages: left out where there are none */
};

struct net_bench {
	struct options opts;
	struct results results;
	struct net_link link[NET_LINKS_MAX]; /* one for each entry */
	bool wanted[NET_LINKS_MAX];
	bool direction[2]; /* to-host, to-guest */
	bool bytes[2];	   /* 64, 1518 */
	struct results_missing missing[NET_LINKS_MAX];
	uint32_t met, unmet, unsteady;
};

extern const struct net_entry net_entries[];
extern const uint32_t net_entry_count;
extern const struct net_work net_works[NET_WORKS];

enum {
	NET_PER_S,
	NET_CPU
};

bool net_is_asked(const struct net_bench *nb, uint32_t work);
/* Keep what the rounds of one work gave; entry[i] is that of contestant i. */
void net_results(struct net_bench *nb, const struct net_work *work, const struct rounds *r,
		 const uint32_t *entry);
void net_report(struct net_bench *nb, FILE *to);
int net_svg(const struct net_bench *nb, const char *path);

#endif
