/* SPDX-License-Identifier: MIT */
/*
 * The test of the tests.  Every acquire, release and fence of the sources is weakened in turn, and
 * some scenario must fail.  What survives must be in excused.txt with a reason, and so must a file
 * that no scenario comes to; a line there that no survivor needs is an error too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programs.h"

#define EXCUSES 64u
#define SCENARIOS 64u
#define MAX_RUNS 60000u /* of one scenario with one mutant */
#define MAX_RUNS_FULL 400000u

struct excuse {
	char key[96], reason[160];
	bool used;
};

struct run {
	struct excuse excuses[EXCUSES];
	uint32_t excuse_count;
	const struct ex_scenario *scenario[SCENARIOS];
	bool *covers[SCENARIOS]; /* places that the scenario comes to */
	uint32_t count;
	uint64_t max_runs;
	bool not_exhaustive;
	char caught_by[40], why[200];
};

static struct run run;

static bool read_excuses(const char *file)
{
	char line[300];
	size_t key, reason;
	FILE *f = fopen(file, "r");

	if (!f) {
		printf("cannot read %s\n", file);
		return false;
	}
	while (fgets(line, sizeof(line), f)) {
		struct excuse *e = &run.excuses[run.excuse_count];
		char *tab = strstr(line, " | ");

		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (!tab || run.excuse_count == EXCUSES) {
			printf("wrong line in %s: %s", file, line);
			(void)fclose(f);
			return false;
		}
		key = (size_t)(tab - line);
		reason = strcspn(tab + 3, "\n");
		if (key < sizeof(e->key) && reason < sizeof(e->reason)) {
			memcpy(e->key, line, key);
			memcpy(e->reason, tab + 3, reason);
		}
		run.excuse_count++;
	}
	(void)fclose(f);
	return true;
}

/* Run each scenario without a mutant, to know which places it comes to. */
static bool add_scenarios(const struct ex_scenario *s, uint32_t n)
{
	struct vmbus__site *const *sites;
	const uint32_t places = ex_sites(&sites);
	struct ex_result r;
	uint32_t i, k;

	for (i = 0; i < n; i++) {
		bool *covers;

		if (s[i].full_only || s[i].no_mutants)
			continue;
		covers = calloc(places, sizeof(bool));
		if (!covers || run.count == SCENARIOS)
			abort();
		ex_sites_forget();
		ex_search(&s[i], NULL, run.max_runs, true, true, &r);
		if (r.failed) {
			printf("%s fails without a mutant: %s\n", s[i].name, r.why);
			return false;
		}
		for (k = 0; k < places; k++)
			covers[k] = ex_site_was_run(sites[k]);
		run.covers[run.count] = covers;
		run.scenario[run.count++] = &s[i];
	}
	return true;
}

/* The name of a place and a change: file:function:access#n change. */
static void make_key(char *key, size_t bytes, uint32_t place, const char *change)
{
	struct vmbus__site *const *sites;
	uint32_t i, n = 1;
	const struct vmbus__site *s;

	(void)ex_sites(&sites);
	s = sites[place];
	for (i = 0; i < place; i++)
		if (sites[i]->number != s->number && strcmp(sites[i]->func, s->func) == 0 &&
		    strcmp(sites[i]->file, s->file) == 0 && strcmp(sites[i]->name, s->name) == 0 &&
		    (i == 0 || sites[i]->number != sites[i - 1]->number))
			n++;
	(void)snprintf(key, bytes, "%s:%s:%s#%u %s", ex_site_file(s), s->func, s->name, n, change);
}

static bool is_caught(const struct ex_mutant *m)
{
	struct ex_result r;
	uint32_t i;

	run.not_exhaustive = false;
	for (i = 0; i < run.count; i++) {
		if (!run.covers[i][m->site->number])
			continue;
		ex_search(run.scenario[i], m, run.max_runs, true, false, &r);
		run.not_exhaustive = run.not_exhaustive || r.capped;
		if (r.failed) {
			(void)snprintf(run.caught_by, sizeof(run.caught_by), "%s",
				       run.scenario[i]->name);
			(void)snprintf(run.why, sizeof(run.why), "%s", r.why);
			return true;
		}
	}
	return false;
}

static bool is_covered(uint32_t place)
{
	uint32_t i;

	for (i = 0; i < run.count; i++)
		if (run.covers[i][place])
			return true;
	return false;
}

/* A key that ends in * stands for all that begin like it. */
static struct excuse *find_excuse(const char *key)
{
	uint32_t i;

	for (i = 0; i < run.excuse_count; i++) {
		const char *excused = run.excuses[i].key;
		const size_t len = strcspn(excused, "*");

		if (excused[len] ? strncmp(excused, key, len) == 0 : strcmp(excused, key) == 0)
			return &run.excuses[i];
	}
	return NULL;
}

static void try_mutant(uint32_t place, const char *change, const struct ex_mutant *m,
		       const char *only, struct tally *tally)
{
	struct excuse *e;
	char key[96];

	make_key(key, sizeof(key), place, change);
	e = find_excuse(key);
	if (only && !strstr(key, only)) {
		if (e)
			e->used = true;
		return;
	}
	if (is_caught(m)) {
		printf("caught    %-58s %s: %s\n", key, run.caught_by, run.why);
		tally->passed++;
	} else if (e) {
		printf("excused   %-58s %s\n", key, e->reason);
		e->used = true;
		tally->passed++;
	} else {
		printf("SURVIVES  %-58s %s\n", key,
		       !is_covered(place)   ? "no scenario comes here"
		       : run.not_exhaustive ? "(some search was cut short)"
					    : "(all runs within the bounds)");
		tally->failed++;
	}
	(void)fflush(stdout);
}

static void mutate(uint32_t place, const struct vmbus__site *s, const char *only,
		   struct tally *tally)
{
	const struct ex_mutant drop = { s, true, false, false };
	const struct ex_mutant relaxed = { s, false, false, false };
	const struct ex_mutant acquire = { s, false, true, false };
	const struct ex_mutant release = { s, false, false, true };
	const struct ex_mutant acq_rel = { s, false, true, true };

	if (s->op == VMBUS__EX_FENCE_ACQUIRE || s->op == VMBUS__EX_FENCE_FULL)
		try_mutant(place, "dropped", &drop, only, tally);
	if (s->op == VMBUS__EX_FENCE_FULL)
		try_mutant(place, "acq_rel", &acq_rel, only, tally);
	if (s->op == VMBUS__EX_FENCE_ACQUIRE || s->op == VMBUS__EX_FENCE_FULL)
		return;
	if (s->acquire && s->release) {
		try_mutant(place, "acquire", &acquire, only, tally);
		try_mutant(place, "release", &release, only, tally);
	} else if (s->acquire || s->release) {
		try_mutant(place, "relaxed", &relaxed, only, tally);
	}
}

void run_mutants(bool full, const char *excused, const char *only, struct tally *tally)
{
	struct vmbus__site *const *sites;
	const uint32_t places = ex_sites(&sites);
	uint32_t i;

	run.max_runs = full ? MAX_RUNS_FULL : MAX_RUNS;
	if (!read_excuses(excused) || !add_scenarios(spsc_scenarios, spsc_count) ||
	    !add_scenarios(mtx_scenarios, mtx_count) ||
	    !add_scenarios(hypercall_scenarios, hypercall_count) ||
	    !add_scenarios(pin_scenarios, pin_count)) {
		tally->failed++;
		return;
	}
	for (i = 0; i < places; i++)
		if (sites[i]->number == i && strcmp(ex_site_file(sites[i]), "litmus.c") != 0 &&
		    strcmp(ex_site_file(sites[i]), "ends.c") != 0 &&
		    !strstr(ex_site_file(sites[i]), "_test.c"))
			mutate(i, sites[i], only, tally);
	for (i = 0; i < run.excuse_count; i++) {
		if (run.excuses[i].used)
			continue;
		printf("FAIL excused.txt: no surviving mutant is called %s\n", run.excuses[i].key);
		tally->failed++;
	}
}
