/* SPDX-License-Identifier: MIT */
/* Table, goals and drawing of vmbus-bench channel. */
#include "channel.h"

#include "bars.h"

#define COST_GOAL 5.0	    /* ns above the bare ring, 64 bytes, batch 32 */
#define COST_EACH_GOAL 20.0 /* the same through the helper for one packet */

static void print_table(const struct channel_run *run, FILE *to)
{
	fprintf(to, "\n%-22s %-12s %8s %6s %8s %14s %14s %14s\n", "subject", "metric", "payload",
		"batch", "channels", "median", "min", "max");
	for (uint32_t i = 0; i < run->results.count; i++) {
		const struct result *r = &run->results.list[i];

		fprintf(to, "%-22s %-12s %8u %6u %8u %14.1f %14.1f %14.1f %s%s\n", r->subject,
			r->metric, r->cell.payload, r->cell.batch, r->channels, r->value.median,
			r->value.min, r->value.max, r->unit, r->unsteady ? ", unsteady" : "");
	}
	fprintf(to,
		"\ncost: what a packet takes more than through the bare ring, of the same round"
		"\nmemory: of both processes, for each channel with two rings of %u bytes\n",
		CHANNEL_SMALL_RING);
}

static void judge(struct channel_run *run, FILE *to)
{
	for (uint32_t i = 0; i < run->results.count; i++) {
		const struct result *const r = &run->results.list[i];
		const bool each = strcmp(r->subject, "vmbus.channel-each") == 0;
		const struct goal goal = { .unit = r->unit,
					   .got = r->value.median,
					   .bound = each ? COST_EACH_GOAL : COST_GOAL,
					   .at_most = true,
					   .unsteady = r->unsteady };
		bool met;

		if (strcmp(r->metric, "cost") != 0 || r->cell.batch != 32)
			continue;
		met = results_goal(&run->results, &goal, "%s above the bare ring, 64 B, batch 32",
				   r->subject);
		fprintf(to, "goal: %s takes at most %.0f ns more than the bare ring: %.1f ns, %s\n",
			r->subject, goal.bound, goal.got,
			goal.unsteady ? "unsteady, not judged"
			: met	      ? "met"
				      : "NOT MET");
	}
}

void channel_report(struct channel_run *run, FILE *to)
{
	print_table(run, to);
	judge(run, to);
}

/* Results of one metric, in the order of their measurement. */
static void draw_metric(const struct channel_run *run, struct bars *bars, const char *metric,
			double unit)
{
	for (uint32_t i = 0; i < run->results.count; i++) {
		const struct result *const r = &run->results.list[i];
		char name[64];

		if (strcmp(r->metric, metric) != 0)
			continue;
		if (r->channels)
			snprintf(name, sizeof(name), "vmbus, %u channels", r->channels);
		else if (strcmp(metric, "throughput") == 0)
			snprintf(name, sizeof(name), "%s, batch %u", r->subject, r->cell.batch);
		else
			snprintf(name, sizeof(name), "%s", r->subject);
		bars_add(bars, name, &r->value, unit, 2);
		bars_unsteady(bars, r->unsteady);
	}
}

int channel_svg(const struct channel_run *run, const char *path)
{
	struct bars *const bars = bars_new("A channel between two processes, and the bare ring");

	bars_group(bars, 0, "million packets of %u bytes in a second", CHANNEL_PAYLOAD);
	draw_metric(run, bars, "throughput", 1e6);
	bars_group(bars, 0, "wake-up of a side that sleeps, microseconds");
	draw_metric(run, bars, "wake_p50", 1e3);
	bars_group(bars, 0, "thousand channels opened in a second");
	draw_metric(run, bars, "opens", 1e3);
	bars_group(bars, 0, "memory of a channel in both processes, KiB");
	draw_metric(run, bars, "memory", 1024);
	return bars_write(bars, path);
}
