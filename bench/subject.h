/* SPDX-License-Identifier: MIT */
/*
 * One table of calls per subject: what is measured and how one direction of it is set up, fed,
 * emptied and taken down.  setup and teardown run in the process that forks; produce and consume
 * run on their own processor.
 */
#ifndef BENCH_SUBJECT_H
#define BENCH_SUBJECT_H

#include "bench.h"
#include "hist.h"

enum subject_caps {
	CAP_VARIABLE = 1,  /* packets of any length on one ring */
	CAP_BATCH = 2,	   /* several packets in one call */
	CAP_PRODUCERS = 4, /* more than one producer */
	CAP_IN_PLACE = 8,
	CAP_LIMIT = 16 /* bounds the others, is no peer */
};

struct side;

struct subject {
	const char *name;
	const char *what; /* one line for --list */
	unsigned caps;
	const char *(*version)(void);
	/* NULL, or why this cell cannot exist; text that stays. */
	const char *(*refuses)(const struct cell *cell);
	/* Shared memory of one direction. */
	size_t (*bytes)(const struct chan *chan);
	int (*setup)(struct chan *chan); /* 0, or -1 with errno */
	void (*produce)(struct chan *chan, struct side *side);
	void (*consume)(struct chan *chan, struct side *side);
	/* The sides of a polled round trip; NULL where it is not measured. */
	void (*ping)(struct chan *there, struct chan *back, struct side *side, struct hist *hist);
	void (*pong)(struct chan *there, struct chan *back, struct side *side);
	void (*teardown)(struct chan *chan);
};

extern const struct subject subject_vmbus;
extern const struct subject subject_limit_copy;
extern const struct subject subject_ck;
extern const struct subject subject_wfcqueue;
extern const struct subject subject_libqb;
extern const struct subject subject_rte_ring;
extern const struct subject subject_rte_ring_ptr;
extern const struct subject subject_pipe;
extern const struct subject subject_unix;

/* A peer that a user would take instead; subject is NULL in a build without its library. */
struct peer {
	const char *name;
	const char *package; /* that brings it on Debian */
	const char *what;
	const struct subject *subject;
};

extern const struct peer peers[];
extern const unsigned peer_count;

#endif
