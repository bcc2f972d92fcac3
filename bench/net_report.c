/* SPDX-License-Identifier: MIT */
/* Results, table, goals and drawing of vmbus-bench net. */
#include "net_run.h"

#include "bars.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void add(struct net_bench *nb, struct result *res, const char *metric, const char *unit,
		struct spread value)
{
	res->metric = metric;
	res->unit = unit;
	res->value = value;
	if (value.runs)
		results_add(&nb->results, res);
	memset(&res->ratio, 0, sizeof(res->ratio));
}

void net_results(struct net_bench *nb, const struct net_work *work, const struct rounds *r,
		 const uint32_t *entry)
{
	for (uint32_t i = 0; i < r->count; i++) {
		const struct net_entry *const e = &net_entries[entry[i]];
		struct result res = { .subject = e->name,
				      .version = e->subject->version(),
				      .mode = work->name,
				      .cell = { .payload = work->bytes,
						.batch = NET_BURST,
						.batch_used = NET_BURST,
						.producers = 1,
						.node = -1 } };

		res.line_rtt = rounds_line_rtt(r, i);
		res.unsteady = rounds_unsteady(r, i);
		if (r->c[i].pair_with != i)
			res.ratio = rounds_ratio(r, i, NET_PER_S);
		add(nb, &res, "frames", "1/s", rounds_value(r, i, NET_PER_S, 1));
		add(nb, &res, "cpu", "ns/frame", rounds_value(r, i, NET_CPU, 1));
	}
}

/* ---- the table ---- */

static const struct result *find(const struct net_bench *nb, const struct net_work *work,
				 const char *subject, const char *metric)
{
	for (uint32_t i = 0; i < nb->results.count; i++) {
		const struct result *const r = &nb->results.list[i];

		if (!strcmp(r->subject, subject) && !strcmp(r->metric, metric) &&
		    !strcmp(r->mode, work->name) && r->cell.payload == work->bytes)
			return r;
	}
	return NULL;
}

static void print_row(const struct result *r, const struct net_work *work,
		      const struct net_bench *nb, const struct net_entry *e, FILE *to)
{
	const struct result *const cpu = find(nb, work, r->subject, "cpu");

	fprintf(to, "%-20s %10.2f %9.2f %9.2f %9.2f %8.0f", r->subject, r->value.median / 1e6,
		r->value.min / 1e6, r->value.max / 1e6, r->value.median * work->bytes / 1e9,
		cpu ? cpu->value.median : 0);
	if (r->ratio.runs)
		fprintf(to, "  %6.2f [%.2f %.2f] %s", r->ratio.median, r->ratio.min, r->ratio.max,
			e->against);
	fprintf(to, "%s\n", r->unsteady ? "  unsteady" : "");
}

static void print_work(const struct net_bench *nb, const struct net_work *work, FILE *to)
{
	fprintf(to, "\nframes of %u bytes, %s\n%-20s %10s %9s %9s %9s %8s  %s\n", work->bytes,
		work->to_host ? "guest to host" : "host to guest", "subject", "million/s", "min",
		"max", "GB/s", "cpu ns", "times as many by");
	for (uint32_t i = 0; i < net_entry_count; i++) {
		const struct result *const r = find(nb, work, net_entries[i].name, "frames");

		if (r)
			print_row(r, work, nb, &net_entries[i], to);
	}
}

static void judge(struct net_bench *nb, const struct net_entry *e, const struct net_work *work,
		  FILE *to)
{
	const struct result *const r = find(nb, work, e->name, "frames");
	struct goal goal;
	bool met;

	if (!r || !r->ratio.runs)
		return;
	goal = (struct goal){
		.unit = "ratio", .got = r->ratio.median, .bound = e->goal, .unsteady = r->unsteady
	};
	met = results_goal(&nb->results, &goal, "%s against %s, %s, %u bytes", e->against, e->name,
			   work->name, work->bytes);
	nb->unsteady += r->unsteady;
	nb->met += !r->unsteady && met;
	nb->unmet += !r->unsteady && !met;
	fprintf(to, "  %-14s %8s %4u: %.2f times %s, goal %.0f: %s\n", e->against, work->name,
		work->bytes, r->ratio.median, e->name, e->goal,
		r->unsteady ? "unsteady, not judged"
		: met	    ? "met"
			    : "NOT MET");
}

static bool any_unsteady(const struct net_bench *nb)
{
	for (uint32_t i = 0; i < nb->results.count; i++)
		if (nb->results.list[i].unsteady)
			return true;
	return false;
}

void net_report(struct net_bench *nb, FILE *to)
{
	for (uint32_t w = 0; w < NET_WORKS; w++)
		if (net_is_asked(nb, w) && nb->results.count)
			print_work(nb, &net_works[w], to);
	fprintf(to, "\nGoals, by medians over pairs of the same round:\n");
	for (uint32_t i = 0; i < net_entry_count; i++)
		for (uint32_t w = 0; w < NET_WORKS && net_entries[i].goal > 0; w++)
			judge(nb, &net_entries[i], &net_works[w], to);
	fprintf(to,
		"%u met, %u not met, %u unsteady\n"
		"\ncpu: processor time of both sides for each frame, polling included\n"
		"%u rounds, %u repeated, %.0f s; processors %d and %d%s\n",
		nb->met, nb->unmet, nb->unsteady, nb->opts.runs, nb->results.repeated,
		nb->results.seconds, nb->opts.place.cpu_here, nb->opts.place.cpu_there,
		nb->opts.place.pin ? "" : ", not pinned");
	if (nb->results.out_of_time)
		fputs("Repeats of unsteady pairs were given up to end in time.\n", to);
	if (any_unsteady(nb))
		fprintf(to,
			"unsteady: in fewer than %u rounds the round trip of a cache line held and "
			"no other work took\nthe processors.  Such rows are not judged.  Measure "
			"again when the machine has nothing else to do.\n",
			nb->opts.runs);
}

/* ---- the drawing ---- */

int net_svg(const struct net_bench *nb, const char *path)
{
	struct bars *const bars =
		bars_new("Million frames in a second, one sender and one receiver, two processors");

	for (uint32_t w = 0; w < NET_WORKS; w++) {
		const struct net_work *const work = &net_works[w];

		if (!net_is_asked(nb, w))
			continue;
		bars_group(bars, 0, "frames of %u bytes, %s", work->bytes,
			   work->to_host ? "guest to host" : "host to guest");
		for (uint32_t i = 0; i < net_entry_count; i++) {
			const struct result *const r =
				find(nb, work, net_entries[i].name, "frames");

			if (!r)
				continue;
			bars_add(bars, r->subject, &r->value, 1e6, 2);
			bars_unsteady(bars, r->unsteady);
		}
	}
	return bars_write(bars, path);
}
