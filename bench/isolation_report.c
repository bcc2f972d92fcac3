/* SPDX-License-Identifier: MIT */
/* Options, judgement, table and drawing of vmbus-bench isolation. */
#include "isolation.h"

#include "bars.h"
#include "rounds.h"
#include "subject.h"
#include "words.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SHARE_GOAL 0.8	       /* of the throughput beside an honest child */
#define LATE_GOAL 1.2	       /* of the 99th percentile beside one */
#define GROWTH_GOAL (4u << 20) /* bytes of the parent, over all phases of a kind */
#define CHILDREN 64u
#define PAIRS 9u
#define PHASE_MS 200u

static void usage(void)
{
	fputs("usage: vmbus-bench isolation [options]\n"
	      "\n"
	      "Compares what honest children get beside a hostile one with what they get beside "
	      "an\n"
	      "honest one that is as busy; looks whether the parent grows.\n"
	      "\n"
	      "  --quick          16 children, 3 pairs of 40 ms; under 20 s\n"
	      "  --children N     in all, 2 to 256; 64\n"
	      "  --pairs N        of phases that count, for each kind, 1 to 90; 9\n"
	      "  --ms N           of a phase, 10 to 10000; 200\n"
	      "  --kinds LIST     messages, doorbell, indices, gpadls, never-reads, "
	      "never-answers,\n"
	      "                   returns; all\n"
	      "  --no-pin         do not pin the parent to one processor, the children to another\n"
	      "  --json FILE      write results as JSON, schema vmbus-bench/1; - for stdout\n"
	      "  --svg FILE       write a drawing\n"
	      "  --help           this text\n"
	      "\n"
	      "Exit status: 0 measured, whatever the figures; 1 a phase failed, or the parent's\n"
	      "memory or descriptors grew; 2 bad option; 3 this machine cannot measure.\n",
	      stdout);
}

enum {
	OPT_QUICK = 256,
	OPT_CHILDREN,
	OPT_PAIRS,
	OPT_MS,
	OPT_KINDS,
	OPT_NO_PIN,
	OPT_JSON,
	OPT_SVG,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "quick", no_argument, NULL, OPT_QUICK },
	{ "children", required_argument, NULL, OPT_CHILDREN },
	{ "pairs", required_argument, NULL, OPT_PAIRS },
	{ "ms", required_argument, NULL, OPT_MS },
	{ "kinds", required_argument, NULL, OPT_KINDS },
	{ "no-pin", no_argument, NULL, OPT_NO_PIN },
	{ "json", required_argument, NULL, OPT_JSON },
	{ "svg", required_argument, NULL, OPT_SVG },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static void kinds(struct iso_bench *ib, const char *text)
{
	memset(ib->kind, 0, sizeof(ib->kind));
	while (*text) {
		const size_t len = strcspn(text, ",");
		uint32_t kind = ISO_HONEST + 1;

		while (kind < ISO_KINDS &&
		       (strlen(iso_names[kind]) != len || strncmp(iso_names[kind], text, len) != 0))
			kind++;
		if (kind == ISO_KINDS)
			die(BENCH_EXIT_USAGE, "--kinds %s: no such kind; see --help", text);
		ib->kind[kind] = true;
		text += len + (text[len] == ',');
	}
}

static void take(struct iso_bench *ib, int c, const char *arg)
{
	switch (c) {
	case OPT_QUICK:
		ib->quick = true;
		break;
	case OPT_CHILDREN:
		ib->children = word_number("--children", arg, 2, ISO_CHILDREN_MAX);
		break;
	case OPT_PAIRS:
		ib->pairs = word_number("--pairs", arg, 1, ISO_PAIRS_MAX - ROUNDS_REPEAT_MAX);
		break;
	case OPT_MS:
		ib->ms = word_number("--ms", arg, 10, 10000);
		break;
	case OPT_KINDS:
		kinds(ib, arg);
		break;
	case OPT_NO_PIN:
		ib->opts.place.pin = false;
		break;
	case OPT_JSON:
		ib->opts.json = arg;
		break;
	case OPT_SVG:
		ib->opts.svg = arg;
		break;
	case OPT_HELP:
		usage();
		exit(BENCH_EXIT_OK);
	default:
		die(BENCH_EXIT_USAGE, "see vmbus-bench isolation --help");
	}
}

void iso_options(struct iso_bench *ib, int argc, char **argv)
{
	int c;

	ib->opts.node = -1;
	ib->opts.place.pin = true;
	ib->opts.place.cpu_here = ib->opts.place.cpu_there = -1;
	for (uint32_t kind = ISO_HONEST + 1; kind < ISO_KINDS; kind++)
		ib->kind[kind] = true;
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take(ib, c, optarg);
	if (optind < argc)
		die(BENCH_EXIT_USAGE, "%s: expected options only", argv[optind]);
	word_writable("--json", ib->opts.json);
	word_writable("--svg", ib->opts.svg);
	ib->children = ib->children ? ib->children : ib->quick ? 16 : CHILDREN;
	ib->pairs = ib->pairs ? ib->pairs : ib->quick ? 3 : PAIRS;
	ib->ms = ib->ms ? ib->ms : ib->quick ? 40 : PHASE_MS;
	ib->herds = ib->children > 8 ? 4 : 1;
	ib->opts.runs = ib->pairs;
}

/* ---- what came out ---- */

/* Of the pairs that count, or of all when none does: beside[0], beside[1], and their ratio. */
static struct spread values(const struct iso_cell *cell, uint32_t which, bool p99)
{
	double list[ISO_PAIRS_MAX];
	uint32_t n = 0, all;

	for (all = 0; all < 2 && !n; all++)
		for (uint32_t i = 0; i < cell->pairs; i++) {
			const struct iso_sample *const a = &cell->beside[0][i];
			const struct iso_sample *const b = &cell->beside[1][i];
			const double honest = p99 ? a->p99 : a->throughput;
			const double hostile = p99 ? b->p99 : b->throughput;

			if (cell->steady[i] || all)
				list[n++] = which == 0	 ? honest
					    : which == 1 ? hostile
							 : hostile / honest;
		}
	return spread_of(list, n);
}

static bool is_steady(const struct iso_bench *ib, const struct iso_cell *cell)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < cell->pairs; i++)
		n += cell->steady[i];
	return n >= ib->pairs;
}

static void add_rows(struct iso_bench *ib, const struct iso_cell *cell, bool p99)
{
	struct result r = { .version = subject_vmbus.version(),
			    .metric = p99 ? "rtt_p99" : "throughput",
			    .mode = iso_names[cell->kind],
			    .unit = p99 ? "ns" : "packets/s",
			    .cell = { .payload = 64,
				      .batch = 8,
				      .batch_used = 8,
				      .ring_bytes = 16384,
				      .producers = ib->children - 1,
				      .node = -1 },
			    .unsteady = !is_steady(ib, cell),
			    .line_rtt = cell->line_rtt,
			    .channels = 1 };

	r.subject = "beside-honest";
	r.value = values(cell, 0, p99);
	results_add(&ib->results, &r);
	r.subject = "beside-hostile";
	r.value = values(cell, 1, p99);
	r.ratio = values(cell, 2, p99);
	results_add(&ib->results, &r);
}

static void add_growth(struct iso_bench *ib, const struct iso_cell *cell, const char *metric,
		       const char *unit, double bytes)
{
	const struct result r = { .subject = "parent",
				  .version = subject_vmbus.version(),
				  .metric = metric,
				  .mode = iso_names[cell->kind],
				  .unit = unit,
				  .cell = { .payload = 64,
					    .batch = 8,
					    .batch_used = 8,
					    .ring_bytes = 16384,
					    .producers = ib->children - 1,
					    .node = -1 },
				  .value = { bytes, bytes, bytes, 1 } };

	results_add(&ib->results, &r);
}

/* Whether the parent has not grown.  It may have fewer descriptors: those of a child it threw out. */
static bool is_flat(const struct iso_cell *cell)
{
	return cell->fds_after <= cell->fds_before &&
	       cell->anon_after <= cell->anon_before + GROWTH_GOAL;
}

/* Both ratios, and the parent's growth. */
static bool judge(struct iso_bench *ib, const struct iso_cell *cell, const struct spread *share,
		  const struct spread *late)
{
	struct goal goal = { .unit = "ratio",
			     .got = share->median,
			     .bound = SHARE_GOAL,
			     .unsteady = !is_steady(ib, cell) };
	bool met;

	met = results_goal(&ib->results, &goal, "throughput beside %s", iso_names[cell->kind]);
	goal.got = late->median;
	goal.bound = LATE_GOAL;
	goal.at_most = true;
	met &= results_goal(&ib->results, &goal, "99th percentile beside %s",
			    iso_names[cell->kind]);
	goal.unsteady = false;
	goal.unit = "B";
	goal.got = (double)cell->anon_after - (double)cell->anon_before;
	goal.bound = GROWTH_GOAL;
	(void)results_goal(&ib->results, &goal, "growth of the parent beside %s",
			   iso_names[cell->kind]);
	return met;
}

static void print_row(struct iso_bench *ib, const struct iso_cell *cell, FILE *to)
{
	const struct spread share = values(cell, 2, false), late = values(cell, 2, true);
	const bool steady = is_steady(ib, cell), flat = is_flat(cell);
	const bool met = judge(ib, cell, &share, &late);

	ib->unsteady += !steady;
	ib->unmet += steady && !met;
	ib->grown += !flat;
	fprintf(to, "%-14s %10.0f %10.0f %6.2f %10.1f %10.1f %6.2f %10.0f %+9.1f %+4d  %s%s\n",
		iso_names[cell->kind], values(cell, 0, false).median, values(cell, 1, false).median,
		share.median, values(cell, 0, true).median / 1e3,
		values(cell, 1, true).median / 1e3, late.median, cell->steps,
		((double)cell->anon_after - (double)cell->anon_before) / 1024.0,
		(int)cell->fds_after - (int)cell->fds_before,
		!steady ? "unsteady"
		: met	? "met"
			: "NOT MET",
		flat ? "" : ", the parent GREW");
}

void iso_report(struct iso_bench *ib, FILE *to)
{
	fprintf(to,
		"\n%u children, %u pairs of phases of %u ms; what the others get beside an honest "
		"and beside a hostile child\n\n",
		ib->children, ib->pairs, ib->ms);
	fprintf(to, "%-14s %10s %10s %6s %10s %10s %6s %10s %9s %4s\n", "hostile child", "honest",
		"hostile", "ratio", "p99 us", "p99 us", "ratio", "its acts/s", "KiB", "fds");
	for (uint32_t kind = ISO_HONEST + 1; kind < ISO_KINDS; kind++) {
		const struct iso_cell *const cell = &ib->cell[kind];

		if (!cell->pairs)
			continue;
		add_rows(ib, cell, false);
		add_rows(ib, cell, true);
		add_growth(ib, cell, "memory", "B",
			   (double)cell->anon_after - (double)cell->anon_before);
		add_growth(ib, cell, "descriptors", "descriptors",
			   (double)cell->fds_after - (double)cell->fds_before);
		print_row(ib, cell, to);
	}
	fprintf(to,
		"\ngoal: throughput at least %.2f, 99th percentile at most %.2f of that beside an "
		"honest child; %u not met, %u unsteady\n",
		SHARE_GOAL, LATE_GOAL, ib->unmet, ib->unsteady);
	fprintf(to, "goal: memory of the parent grows by at most %u KiB, descriptors by none: %s\n",
		GROWTH_GOAL >> 10, ib->grown ? "MISSED" : "met");
}

/* ---- the drawing ---- */

int iso_svg(const struct iso_bench *ib, const char *path)
{
	struct bars *bars;
	char title[96];

	snprintf(title, sizeof(title),
		 "%u children: what the others get beside a hostile child, as part of beside an "
		 "honest one",
		 ib->children);
	bars = bars_new(title);
	for (int p99 = 0; p99 < 2; p99++) {
		bars_group(bars, p99 ? LATE_GOAL : SHARE_GOAL,
			   p99 ? "99th percentile of the round trip (at most %.1f)"
			       : "throughput (at least %.1f)",
			   p99 ? LATE_GOAL : SHARE_GOAL);
		for (uint32_t kind = ISO_HONEST + 1; kind < ISO_KINDS; kind++) {
			const struct iso_cell *const cell = &ib->cell[kind];
			const struct spread ratio = values(cell, 2, p99);

			if (!cell->pairs)
				continue;
			bars_add(bars, iso_names[kind], &ratio, 1, 2);
			bars_unsteady(bars, !is_steady(ib, cell));
		}
	}
	return bars_write(bars, path);
}
