/* SPDX-License-Identifier: MIT */
/*
 * A stateless model checker for the ring.  Threads are coroutines; every atomic access of theirs is
 * a step; the search runs the scenario again and again until all orders of steps that matter, and
 * all values that the memory model lets each load return, have been seen.  See README.md.
 */
#ifndef VMBUS_TESTS_EXPLORE_H
#define VMBUS_TESTS_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

#define EX_THREADS 4u
#define EX_BELLS 4u
#define EX_OUR_SITE UINT32_MAX /* number of a site that is in a test */

/* What a scenario is. */
struct ex_scenario {
	const char *name;
	const char *what; /* one line: what must never happen */
	uint32_t threads;
	uint32_t preemptions; /* bound on switches away from a thread that could go on; 0: none */
	bool full_only;	      /* only with VMBUS_EXPLORE_FULL=1 */
	bool no_mutants;      /* too slow to be run once per mutant */
	void (*setup)(void);  /* before the threads; accesses are direct */
	void (*body[EX_THREADS])(void);
	void (*finish)(void); /* after all have ended, or NULL; accesses are direct */
};

/* Result of a search. */
struct ex_result {
	uint64_t runs; /* complete runs */
	uint64_t cut;  /* runs that were given up as equal to another, or past the bound */
	uint64_t steps;
	uint32_t longest; /* steps of the longest run */
	bool capped;	  /* max_runs was reached: not exhaustive */
	bool failed;
	char why[200];
};

/* How a mutant changes the orders of one place. */
struct ex_mutant {
	const struct vmbus__site *site; /* NULL: no mutant */
	bool drop;			/* a fence that is not there */
	bool acquire, release;		/* what is left; a full fence loses its total order */
};

/* Search.  max_runs 0: no limit.  trace: print the failing run. */
void ex_search(const struct ex_scenario *s, const struct ex_mutant *mutant, uint64_t max_runs,
	       bool reduce, bool trace, struct ex_result *result);

/* Sites in the order of file and line, once the first search or ex_sites() has run. */
uint32_t ex_sites(struct vmbus__site *const **sites);
bool ex_site_was_run(const struct vmbus__site *site); /* by any search so far */
void ex_sites_forget(void);
const char *ex_site_file(const struct vmbus__site *site); /* without folders */

/* For setup: a name for a word in traces. */
void ex_name(const void *word, const char *name);

/* A word that is handed over: a write must be ordered after all earlier accesses by others. */
void ex_handed_over(const void *word);

/* Called for each store to the word, in the order of the run. */
typedef void ex_store_fn(uint64_t before, uint64_t now, bool is_last);
void ex_on_store(const void *word, ex_store_fn *fn);

/* Data bytes of the ring, checked for races; mirrored: the same bytes follow once more. */
void ex_window(const uint8_t *data, uint32_t size);

/* Called before bytes of the window are written. */
void ex_on_write(void (*fn)(const uint8_t *to, size_t len));

/* In a thread. */
void ex_ring(uint32_t bell);			 /* a latched signal; orders no memory */
void ex_wait(uint32_t bell);			 /* until it is set; takes it */
void ex_await(const void *word, uint32_t bytes); /* for a value newer than this thread loaded */
uint32_t ex_self(void);
uint32_t ex_steps(void);   /* of this thread so far in this run */
void ex_touch(bool write); /* one plain object, checked for races; also in an ex_store_fn */
uint64_t ex_atomic(const struct vmbus__site *site, void *p, uint64_t a, uint64_t b);
void ex_read_bytes(const void *from, size_t len); /* as vmbus__explore_read(), for tests */

/* In a thread: leave this run; the bound of the scenario is reached. */
__attribute__((noreturn)) void ex_give_up(void);

/* End the search: the run has failed. */
__attribute__((noreturn, format(printf, 1, 2))) void ex_fail(const char *format, ...);

#define EX_CHECK(cond, ...) ((cond) ? (void)0 : ex_fail(__VA_ARGS__))

#endif
