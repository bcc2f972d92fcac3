/* SPDX-License-Identifier: MIT */
/* Between memory.c (what a step does to memory) and search.c (which step is next). */
#ifndef VMBUS_TESTS_EXPLORE_INTERNAL_H
#define VMBUS_TESTS_EXPLORE_INTERNAL_H

#include "explore.h"

#define MAX_OPTIONS 64u
#define NO_EVENT UINT32_MAX

enum step_kind {
	STEP_ATOMIC,
	STEP_AWAIT, /* a relaxed load that returns only what its thread has not seen */
	STEP_RING,
	STEP_WAIT
};

/* What a thread does next. */
struct step {
	enum step_kind kind;
	uint32_t where; /* word or bell */
	const struct vmbus__site *site;
	uint64_t a, b;
	bool acquire, release, total; /* after the mutant */
	bool fence;		      /* a full fence: no word */
};

/* What it did. */
struct effect {
	uint64_t value;	    /* loaded, stored, or 1 for a swap that was done */
	uint32_t read_from; /* event that stored what was read, or NO_EVENT */
	bool older;	    /* not the latest in modification order */
};

extern struct ex_mutant ex_mutant;

void mem_reset(void);
uint32_t mem_word(const void *p); /* its number */
const char *mem_word_name(uint32_t word);

/* Messages of a word so far in this run. */
uint32_t mem_count(uint32_t word);

/* Whether the step writes to its word, as far as one knows before it is made. */
bool step_writes(const struct step *s);

/*
 * What a step of a thread can do now: messages that it can read, or be stored behind, but for the
 * first of the run up to floor.  Latest first.  0: it must wait.
 */
uint32_t mem_options(uint32_t thread, const struct step *s, uint32_t floor, uint32_t *option);
void mem_apply(uint32_t thread, const struct step *s, uint32_t option, uint32_t event,
	       struct effect *effect);
void mem_fence_local(uint32_t thread, bool acquire, bool release);

#endif
