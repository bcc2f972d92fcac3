/* SPDX-License-Identifier: MIT */
/*
 * Tests of the model checker itself.  Small known programs: which results the memory model allows
 * and which it forbids.  Then random programs: the reduced search must find exactly the results
 * that a search of all schedules finds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programs.h"

#define OPS 5u
#define VALUES 16u
#define RESULTS 4096u

enum op {
	END,
	LD,
	LDA,
	ST,
	STR,
	CAS,
	FENCE,
	FENCE_ACQUIRE,
	ADD
};

struct line {
	enum op op;
	uint32_t word, value;
};

/* A program: threads in columns, and a result that it may or may not have. */
struct litmus {
	const char *name;
	struct line line[EX_THREADS][OPS];
	uint32_t wanted[VALUES]; /* of the loads, thread by thread */
	bool allowed;
};

#define X 0
#define Y 1

static const struct litmus table[] = {
	{ "store buffering",
	  { { { ST, X, 1 }, { LD, Y, 0 } }, { { ST, Y, 1 }, { LD, X, 0 } } },
	  { 0, 0 },
	  true },
	{ "store buffering, release and acquire",
	  { { { STR, X, 1 }, { LDA, Y, 0 } }, { { STR, Y, 1 }, { LDA, X, 0 } } },
	  { 0, 0 },
	  true },
	{ "store buffering, full fences",
	  { { { ST, X, 1 }, { FENCE, 0, 0 }, { LD, Y, 0 } },
	    { { ST, Y, 1 }, { FENCE, 0, 0 }, { LD, X, 0 } } },
	  { 0, 0 },
	  false },
	{ "store buffering, one full fence",
	  { { { ST, X, 1 }, { FENCE, 0, 0 }, { LD, Y, 0 } }, { { ST, Y, 1 }, { LD, X, 0 } } },
	  { 0, 0 },
	  true },
	{ "message passing, relaxed",
	  { { { ST, X, 1 }, { ST, Y, 1 } }, { { LD, Y, 0 }, { LD, X, 0 } } },
	  { 1, 0 },
	  true },
	{ "message passing, release only",
	  { { { ST, X, 1 }, { STR, Y, 1 } }, { { LD, Y, 0 }, { LD, X, 0 } } },
	  { 1, 0 },
	  true },
	{ "message passing, acquire only",
	  { { { ST, X, 1 }, { ST, Y, 1 } }, { { LDA, Y, 0 }, { LD, X, 0 } } },
	  { 1, 0 },
	  true },
	{ "message passing, release and acquire",
	  { { { ST, X, 1 }, { STR, Y, 1 } }, { { LDA, Y, 0 }, { LD, X, 0 } } },
	  { 1, 0 },
	  false },
	{ "message passing, full fence and acquire fence",
	  { { { ST, X, 1 }, { FENCE, 0, 0 }, { ST, Y, 1 } },
	    { { LD, Y, 0 }, { FENCE_ACQUIRE, 0, 0 }, { LD, X, 0 } } },
	  { 1, 0 },
	  false },
	{ "message passing past a read-modify-write",
	  { { { ST, X, 1 }, { STR, Y, 1 } }, { { ADD, Y, 1 } }, { { LDA, Y, 0 }, { LD, X, 0 } } },
	  { 2, 0 },
	  false },
	{ "coherence of two loads",
	  { { { ST, X, 1 } }, { { LD, X, 0 }, { LD, X, 0 } } },
	  { 1, 0 },
	  false },
	{ "two stores each, 2+2W",
	  { { { ST, X, 1 }, { ST, Y, 2 } },
	    { { ST, Y, 1 }, { ST, X, 2 } },
	    { { LDA, X, 0 }, { LD, X, 0 }, { LD, Y, 0 }, { LD, Y, 0 } } },
	  { 2, 1, 2, 1 },
	  true },
	{ "independent reads, acquire",
	  { { { ST, X, 1 } },
	    { { ST, Y, 1 } },
	    { { LDA, X, 0 }, { LDA, Y, 0 } },
	    { { LDA, Y, 0 }, { LDA, X, 0 } } },
	  { 1, 0, 1, 0 },
	  true },
	{ "independent reads, full fences",
	  { { { ST, X, 1 } },
	    { { ST, Y, 1 } },
	    { { LD, X, 0 }, { FENCE, 0, 0 }, { LD, Y, 0 } },
	    { { LD, Y, 0 }, { FENCE, 0, 0 }, { LD, X, 0 } } },
	  { 1, 0, 1, 0 },
	  false },
	{ "two swaps of one value", { { { CAS, X, 0 } }, { { CAS, X, 0 } } }, { 1, 1 }, false },
};

static struct line program[EX_THREADS][OPS];
static vmbus__a64 words[2];
static uint32_t seen[EX_THREADS][OPS];

/* The set of results of a search. */
static struct {
	uint32_t count;
	uint64_t hash[RESULTS];
} found[2], *into;
static uint32_t wanted[VALUES];
static bool wanted_seen;

static void setup(void)
{
	memset(words, 0, sizeof(words));
	memset(seen, 0, sizeof(seen));
}

static void body(void)
{
	const uint32_t self = ex_self();
	uint32_t i, *to;

	for (i = 0; i < OPS && program[self][i].op != END; i++) {
		const struct line *l = &program[self][i];
		vmbus__a64 *w = &words[l->word];

		to = &seen[self][i];
		switch (l->op) {
		case LD:
			*to = (uint32_t)vmbus__ld64_relaxed(w);
			break;
		case LDA:
			*to = (uint32_t)vmbus__ld64_acquire(w);
			break;
		case ST:
			vmbus__st64_relaxed(w, l->value);
			break;
		case STR:
			vmbus__st64_release(w, l->value);
			break;
		case CAS:
			*to = vmbus__cas64_acq_rel(w, l->value, 7);
			break;
		case ADD:
			vmbus__add64_relaxed(w, l->value);
			break;
		case FENCE:
			vmbus__fence_full();
			break;
		default:
			vmbus__fence_acquire();
			break;
		}
	}
}

static void finish(void)
{
	uint64_t hash = 0;
	uint32_t t, i, n = 0;
	bool same = true;

	for (t = 0; t < EX_THREADS; t++)
		for (i = 0; i < OPS && program[t][i].op != END; i++) {
			const enum op op = program[t][i].op;

			if (op != LD && op != LDA && op != CAS)
				continue;
			hash = hash * 11 + seen[t][i] + 1;
			same = same && n < VALUES && wanted[n] == seen[t][i];
			n++;
		}
	wanted_seen = wanted_seen || same;
	hash = (hash * 11 + words[0].v) * 11 + words[1].v;
	for (i = 0; i < into->count; i++)
		if (into->hash[i] == hash)
			return;
	if (into->count == RESULTS)
		ex_fail("too many results");
	into->hash[into->count++] = hash;
}

static void search(uint32_t threads, bool reduce, struct ex_result *result)
{
	const struct ex_scenario s = { .name = "litmus",
				       .threads = threads,
				       .setup = setup,
				       .body = { body, body, body, body },
				       .finish = finish };

	into = &found[reduce];
	into->count = 0;
	wanted_seen = false;
	ex_search(&s, NULL, 0, reduce, true, result);
}

static uint32_t count_threads(void)
{
	uint32_t t = 0;

	while (t < EX_THREADS && program[t][0].op != END)
		t++;
	return t;
}

static bool known(const struct litmus *l)
{
	struct ex_result r;
	bool ok = true;
	uint32_t reduce;

	memcpy(program, l->line, sizeof(program));
	memcpy(wanted, l->wanted, sizeof(wanted));
	for (reduce = 0; reduce < 2; reduce++) {
		search(count_threads(), reduce, &r);
		if (r.failed || wanted_seen != l->allowed) {
			printf("%s: %s %s\n", l->name, wanted_seen ? "seen" : "not seen", r.why);
			ok = false;
		}
	}
	return ok;
}

static uint32_t rnd_state = 1;

static uint32_t rnd(uint32_t n)
{
	rnd_state = rnd_state * 1664525u + 1013904223u;
	return (rnd_state >> 8) % n;
}

static bool same_results(void)
{
	uint32_t i, j;

	for (i = 0; i < found[0].count; i++) {
		for (j = 0; j < found[1].count; j++)
			if (found[0].hash[i] == found[1].hash[j])
				break;
		if (j == found[1].count)
			return false;
	}
	return found[0].count == found[1].count;
}

static void print_program(uint32_t threads)
{
	static const char *const names[] = { "",    "ld",    "lda",  "st", "str",
					     "cas", "fence", "facq", "add" };
	uint32_t t, i;

	for (t = 0; t < threads; t++) {
		for (i = 0; i < OPS && program[t][i].op != END; i++)
			printf(" %s %c %u;", names[program[t][i].op], "xy"[program[t][i].word],
			       program[t][i].value);
		printf("\n");
	}
}

/* A program of 2 threads of up to 4 lines, or 3 of up to 3 (the third of 1). */
static bool random_program(uint64_t runs[2])
{
	static const enum op ops[] = { LD, LDA, ST, STR, CAS, FENCE, ADD, LD, ST };
	const uint32_t threads = 2 + rnd(2);
	struct ex_result r[2];
	uint32_t t, i;

	memset(program, 0, sizeof(program));
	for (t = 0; t < threads; t++)
		for (i = 0; i < (threads == 2 ? 4u : t == 2 ? 2u : 3u); i++) {
			program[t][i].op = ops[rnd(sizeof(ops) / sizeof(ops[0]))];
			program[t][i].word = rnd(2);
			program[t][i].value = rnd(3);
		}
	search(threads, false, &r[0]);
	search(threads, true, &r[1]);
	runs[0] += r[0].runs;
	runs[1] += r[1].runs + r[1].cut;
	if (!r[0].failed && !r[1].failed && same_results())
		return true;
	printf("random program: %u results, %u with reduction; %s %s\n", found[0].count,
	       found[1].count, r[0].why, r[1].why);
	print_program(threads);
	return false;
}

void run_litmus(bool full, struct tally *tally)
{
	const uint32_t programs = full ? 4000 : 250;
	uint64_t runs[2] = { 0, 0 };
	uint32_t i, bad = 0;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		count(tally, known(&table[i]), table[i].name);
	for (i = 0; i < programs && bad < 3; i++)
		bad += !random_program(runs);
	printf("random programs: %u; %llu runs, %llu with reduction\n", i,
	       (unsigned long long)runs[0], (unsigned long long)runs[1]);
	count(tally, bad == 0, "random programs");
}
