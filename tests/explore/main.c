/* SPDX-License-Identifier: MIT */
/*
 * explore [litmus | spsc | mtx | hypercall | mem | mutants [PART OF A NAME]]
 *
 * litmus tests the model checker, spsc and mtx the ring, hypercall the SynIC pages and the mailbox,
 * mem the pins of regions, mutants the other tests; without an argument all of them.  VMBUS_EXPLORE_FULL=1 in the environment: larger bounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "programs.h"

void count(struct tally *tally, bool ok, const char *name)
{
	if (ok)
		tally->passed++;
	else
		tally->failed++;
	printf("%s %s\n", ok ? "ok  " : "FAIL", name);
	(void)fflush(stdout);
}

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void run_scenarios(const struct ex_scenario *s, uint32_t n, bool full, const char *only,
			  struct tally *tally)
{
	struct ex_result r;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const double start = seconds();

		if (only && !strstr(s[i].name, only))
			continue;
		if (s[i].full_only && !full) {
			printf("SKIP %s (VMBUS_EXPLORE_FULL=1)\n", s[i].name);
			tally->skipped++;
			continue;
		}
		ex_search(&s[i], NULL, 0, true, true, &r);
		printf("     %s: %llu runs, %llu cut, longest %u steps, %.1f s; %s", s[i].name,
		       (unsigned long long)r.runs, (unsigned long long)r.cut, r.longest,
		       seconds() - start,
		       s[i].preemptions ? "bounded, preemptions " : "exhaustive");
		if (s[i].preemptions)
			printf("%u", s[i].preemptions);
		printf("\n");
		if (r.failed)
			printf("     must hold: %s; seen: %s\n", s[i].what, r.why);
		count(tally, !r.failed && r.runs, s[i].name);
	}
}

/* The folder of the sources is the current one, unless ctest says otherwise. */
static void mutants(bool full, const char *only, struct tally *tally)
{
	const char *folder = getenv("VMBUS_SOURCE_DIR");
	char file[4096];

	(void)snprintf(file, sizeof(file), "%s/tests/explore/excused.txt", folder ? folder : ".");
	run_mutants(full, file, only, tally);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "all";
	const char *only = argc > 2 ? argv[2] : NULL;
	const char *env = getenv("VMBUS_EXPLORE_FULL");
	const bool full = env && strcmp(env, "1") == 0, all = strcmp(what, "all") == 0;
	struct tally tally = { 0, 0, 0 };

	if (all || strcmp(what, "litmus") == 0)
		run_litmus(full, &tally);
	if (all || strcmp(what, "spsc") == 0)
		run_scenarios(spsc_scenarios, spsc_count, full, only, &tally);
	if (all || strcmp(what, "mtx") == 0)
		run_scenarios(mtx_scenarios, mtx_count, full, only, &tally);
	if (all || strcmp(what, "hypercall") == 0)
		run_scenarios(hypercall_scenarios, hypercall_count, full, only, &tally);
	if (all || strcmp(what, "mem") == 0)
		run_scenarios(pin_scenarios, pin_count, full, only, &tally);
	if (all || strcmp(what, "mutants") == 0)
		mutants(full, only, &tally);
	if (tally.passed + tally.failed + tally.skipped == 0)
		(void)fprintf(stderr, "usage: explore [litmus | spsc | mtx | hypercall | mem | "
				      "mutants [NAME]]\n");
	printf("%u passed, %u failed, %u skipped\n", tally.passed, tally.failed, tally.skipped);
	return tally.failed || !tally.passed;
}
