/* SPDX-License-Identifier: MIT */
/* The sub-command resume: how long a child waits when its device's process dies or gives way. */
#ifndef BENCH_RESUME_H
#define BENCH_RESUME_H

#include "results.h"

#define RESUME_ROUNDS_MAX 1000u
#define RESUME_GAPS 4096u    /* that are remembered */
#define RESUME_GAP_NS 10000u /* shorter ones are none */

/* A time without an answer. */
struct resume_gap {
	uint64_t from, to;
};

/* Memory that all processes share. */
struct resume_shared {
	/* The parent's. */
	uint32_t listening;
	uint32_t stop;
	uint64_t deaths, handovers; /* of providers, as it knows */
	uint64_t death_at;	    /* when it noticed the last one, ns */
	uint64_t pause_to;	    /* when it had all resumed after the last one of either */
	uint64_t pause_ns;	    /* how long that took, as it knows */
	uint64_t died;		    /* children */
	uint64_t died_at;
	/* The child's that talks. */
	uint32_t open;
	uint64_t done;
	uint64_t wrong; /* answers that were not what was sent */
	uint64_t gaps;	/* in all; the last RESUME_GAPS are there */
	struct resume_gap gap[RESUME_GAPS];
	/* Of those that are only there to die. */
	uint32_t ready;
	uint64_t noticed_at;
};

/* The bodies of processes. */
void resume_parent(struct resume_shared *shared, const char *path);
void resume_child(struct resume_shared *shared, const char *path);
int resume_serve(const char *path, bool take_over);
/* A child that tells when it notices that its parent is gone. */
void resume_orphan(struct resume_shared *shared, const char *path);
/* One that attaches and waits to be killed. */
void resume_victim(struct resume_shared *shared, const char *path);

int resume_main(int argc, char **argv);

#endif
