/* SPDX-License-Identifier: MIT */
/* Results, table, goals and drawing of vmbus-bench block. */
#include "block_run.h"

#include "bars.h"
#include "chan_pair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ns of processor time that a request of ours takes more than one of this subject, of the same round. */
static struct spread cost_of(const struct rounds *r, uint32_t i)
{
	const struct contestant *const ours = &r->c[r->c[i].pair_with], *const other = &r->c[i];
	double values[ROUNDS_MAX];
	uint32_t n = 0;

	for (uint32_t k = 0; k < r->done; k++)
		if (ours->samples[k].valid && other->samples[k].valid)
			values[n++] = ours->samples[k].value[BLOCK_CPU] -
				      other->samples[k].value[BLOCK_CPU];
	return spread_of(values, n);
}

static void add(struct block_bench *bb, struct result *res, const char *metric, const char *unit,
		struct spread value)
{
	res->metric = metric;
	res->unit = unit;
	res->value = value;
	if (value.runs)
		results_add(&bb->results, res);
	memset(&res->ratio, 0, sizeof(res->ratio));
}

void block_results(struct block_bench *bb, const struct block_work *work, const struct rounds *r,
		   const uint32_t *entry)
{
	for (uint32_t i = 0; i < r->count; i++) {
		const struct block_entry *const e = &block_entries[entry[i]];
		const bool paired = r->c[i].pair_with != i;
		struct result res = { .subject = e->name,
				      .version = e->subject->version(),
				      .mode = work->name,
				      .cell = { .payload = work->bytes,
						.batch = work->depth,
						.batch_used = work->depth,
						.ring_bytes = 131072,
						.producers = 1,
						.node = -1 } };

		res.line_rtt = rounds_line_rtt(r, i);
		res.unsteady = rounds_unsteady(r, i);
		if (paired)
			res.ratio = rounds_ratio(r, i, BLOCK_PER_S);
		add(bb, &res, "requests", "1/s", rounds_value(r, i, BLOCK_PER_S, 1));
		add(bb, &res, "cpu", "ns/request", rounds_value(r, i, BLOCK_CPU, 1));
		if (work->depth == 1) {
			add(bb, &res, "rtt_p50", "ns", rounds_value(r, i, BLOCK_P50, 1));
			add(bb, &res, "rtt_p99", "ns", rounds_value(r, i, BLOCK_P99, 1));
		}
		if (paired && e->kind == BLOCK_COST)
			add(bb, &res, "cost", "ns/request", cost_of(r, i));
	}
}

/* ---- the table ---- */

static const struct result *find(const struct block_bench *bb, const struct block_work *work,
				 const char *subject, const char *metric)
{
	for (uint32_t i = 0; i < bb->results.count; i++) {
		const struct result *const r = &bb->results.list[i];

		if (!strcmp(r->subject, subject) && !strcmp(r->metric, metric) &&
		    !strcmp(r->mode, work->name) && r->cell.batch == work->depth)
			return r;
	}
	return NULL;
}

static void print_row(const struct result *r, const struct block_work *work,
		      const struct block_bench *bb, const struct block_entry *e, FILE *to)
{
	const struct result *const cpu = find(bb, work, r->subject, "cpu");
	const struct result *const p50 = find(bb, work, r->subject, "rtt_p50");
	const struct result *const p99 = find(bb, work, r->subject, "rtt_p99");

	fprintf(to, "%-20s %10.1f %9.1f %9.2f %8.0f", r->subject, r->value.median / 1e3,
		r->value.min / 1e3, r->value.median * work->bytes / 1e9,
		cpu ? cpu->value.median : 0);
	if (p50 && p99)
		fprintf(to, " %8.0f %8.0f", p50->value.median, p99->value.median);
	else
		fprintf(to, " %8s %8s", "-", "-");
	if (r->ratio.runs)
		fprintf(to, "  %6.2f [%.2f %.2f] %s", r->ratio.median, r->ratio.min, r->ratio.max,
			e->against);
	fprintf(to, "%s\n", r->unsteady ? "  unsteady" : "");
}

static void print_work(const struct block_bench *bb, const struct block_work *work, FILE *to)
{
	fprintf(to, "\n%s of %u KiB, %u under way\n%-20s %10s %9s %9s %8s %8s %8s  %s\n",
		work->name, work->bytes / 1024u, work->depth, "subject", "thousand/s", "min",
		"GB/s", "cpu ns", "p50 ns", "p99 ns", "times as many by");
	for (uint32_t i = 0; i < block_entry_count; i++) {
		const struct result *const r = find(bb, work, block_entries[i].name, "requests");

		if (r)
			print_row(r, work, bb, &block_entries[i], to);
	}
}

static void judge(struct block_bench *bb, const struct block_entry *e,
		  const struct block_work *work, FILE *to)
{
	const bool cost = e->kind == BLOCK_COST;
	const struct result *const r = find(bb, work, e->name, cost ? "cost" : "requests");
	struct goal goal;
	double got;
	bool met;

	if (!r || (!cost && !r->ratio.runs) || (e->goal_depth && e->goal_depth != work->depth))
		return;
	got = cost ? r->value.median : r->ratio.median;
	goal = (struct goal){ .unit = cost ? "ns/request" : "ratio",
			      .got = got,
			      .bound = e->goal,
			      .at_most = cost,
			      .unsteady = r->unsteady };
	met = results_goal(&bb->results, &goal, "%s against %s, %s, %u under way", e->against,
			   e->name, work->name, work->depth);
	bb->unsteady += r->unsteady;
	bb->met += !r->unsteady && met;
	bb->unmet += !r->unsteady && !met;
	if (cost)
		fprintf(to, "  %-18s %9s %2u: %.0f ns of processor time more than %s, goal %.0f",
			e->against, work->name, work->depth, got, e->name, e->goal);
	else
		fprintf(to, "  %-18s %9s %2u: %.2f times %s, goal %.0f", e->against, work->name,
			work->depth, got, e->name, e->goal);
	fprintf(to, ": %s\n", r->unsteady ? "unsteady, not judged" : met ? "met" : "NOT MET");
}

static bool any_unsteady(const struct block_bench *bb)
{
	for (uint32_t i = 0; i < bb->results.count; i++)
		if (bb->results.list[i].unsteady)
			return true;
	return false;
}

void block_report(struct block_bench *bb, FILE *to)
{
	for (uint32_t w = 0; w < BLOCK_WORKS_MAX; w++)
		if (bb->work[w] && bb->results.count)
			print_work(bb, &block_works[w], to);
	fprintf(to, "\nGoals, by medians over pairs of the same round:\n");
	for (uint32_t i = 0; i < block_entry_count; i++)
		for (uint32_t w = 0; w < BLOCK_WORKS_MAX; w++)
			if (block_entries[i].kind != BLOCK_NO_GOAL && block_works[w].random)
				judge(bb, &block_entries[i], &block_works[w], to);
	fprintf(to,
		"%u met, %u not met, %u unsteady\n"
		"\ncpu: processor time of both sides for each request, polling included\n"
		"%u rounds, %u repeated, %.0f s; processors %d and %d%s\n",
		bb->met, bb->unmet, bb->unsteady, bb->opts.runs, bb->results.repeated,
		bb->results.seconds, bb->opts.place.cpu_here, bb->opts.place.cpu_there,
		bb->opts.place.pin ? "" : ", not pinned");
	if (bb->results.out_of_time)
		fputs("Repeats of unsteady pairs were given up to end in time.\n", to);
	if (any_unsteady(bb))
		fprintf(to,
			"unsteady: in fewer than %u rounds the round trip of a cache line held and "
			"no "
			"other work took\nthe processors.  Such rows are not judged.  %s\n",
			bb->opts.runs,
			bb->opts.place.pin
				? "Measure again when the machine has nothing else to do;\n"
				  "on one that is never idle --no-pin leaves the choice of "
				  "processors to the system."
				: "Measure again when the machine has nothing else to do.");
}

/* ---- the drawing ---- */

int block_svg(const struct block_bench *bb, const char *path)
{
	struct bars *bars;
	char title[96];

	snprintf(title, sizeof(title),
		 "Thousand requests in a second, disks of %llu MiB in memory, two processors",
		 (unsigned long long)(bb->bytes >> 20));
	bars = bars_new(title);
	for (uint32_t w = 0; w < BLOCK_WORKS_MAX; w++) {
		const struct block_work *const work = &block_works[w];

		if (!bb->work[w])
			continue;
		bars_group(bars, 0, "%s of %u KiB, %u under way", work->name, work->bytes / 1024u,
			   work->depth);
		for (uint32_t i = 0; i < block_entry_count; i++) {
			const struct result *const r =
				find(bb, work, block_entries[i].name, "requests");

			if (!r)
				continue;
			bars_add(bars, r->subject, &r->value, 1e3, 1);
			bars_unsteady(bars, r->unsteady);
		}
	}
	return bars_write(bars, path);
}
