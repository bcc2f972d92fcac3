/* SPDX-License-Identifier: MIT */
/* The tables on standard output. */
#include "rounds.h"

#include <stdio.h>

static FILE *out; /* where the tables go */

#define COLUMNS_MAX (PEERS_MAX + 2u)

/* The subjects of a table: ours, the chosen peers, the copy limit. */
static unsigned columns_of(const struct options *opts, const char **names)
{
	unsigned n = 0;

	names[n++] = subject_vmbus.name;
	for (unsigned i = 0; i < peer_count; i++)
		if (opts->peer[i])
			names[n++] = peers[i].name;
	names[n++] = subject_limit_copy.name;
	return n;
}

static void print_head(const char *corner, const char **names, unsigned n)
{
	fprintf(out, "%12s", corner);
	for (unsigned i = 0; i < n; i++)
		fprintf(out, " %13s", names[i]);
	fprintf(out, "\n");
}

static void print_value(const struct result *r, bool ratio)
{
	char text[32];

	if (!r) {
		fprintf(out, " %13s", "-");
		return;
	}
	if (!ratio)
		snprintf(text, sizeof(text), "%.*f%s", r->value.median < 1e7 ? 3 : 1,
			 r->value.median / 1e6, r->unsteady ? "u" : " ");
	else if (r->ratio.runs)
		snprintf(text, sizeof(text), "%.2f%s", r->ratio.median, r->unsteady ? "u" : " ");
	else
		snprintf(text, sizeof(text), "- ");
	fprintf(out, " %13s", text);
}

/* One row of a table: each subject's packets a second, or ours divided by them. */
static void print_row(const struct results *res, const struct cell *cell, const char **names,
		      unsigned n, bool ratio)
{
	fprintf(out, "%10u B", cell->payload);
	for (unsigned i = 0; i < n; i++) {
		bool copy = i == n - 1u;
		const struct result *r =
			results_find(res, names[i], copy ? "bandwidth" : "throughput", cell);

		if (copy && !ratio && r) {
			fprintf(out, " %8.2f GB/s%s", r->value.median / 1e9,
				r->unsteady ? "u" : " ");
			continue;
		}
		print_value(r, ratio);
	}
	fprintf(out, "\n");
}

static bool same_table(const struct cell *a, const struct cell *b)
{
	struct cell x = *b;

	x.payload = a->payload;
	return cell_equal(a, &x);
}

static bool first_of_table(const struct results *res, uint32_t at)
{
	for (uint32_t i = 0; i < at; i++)
		if (!strcmp(res->list[i].metric, "throughput") &&
		    same_table(&res->list[i].cell, &res->list[at].cell))
			return false;
	return true;
}

static void print_table(const struct results *res, const struct options *opts, uint32_t at)
{
	const struct cell *cell = &res->list[at].cell;
	const char *names[COLUMNS_MAX];
	unsigned n = columns_of(opts, names);

	for (int ratio = 0; ratio < 2; ratio++) {
		if (ratio && n == 2)
			break;
		fprintf(out, "\n%s: ring %u KiB, batch %u, %s, %s window, %s, %u producer%s\n",
			ratio ? "Ratio vmbus / subject, median of pairs" : "M packets/s",
			cell->ring_bytes / 1024u, cell->batch, cell->in_place ? "in place" : "copy",
			window_name(cell->window), cell->threads ? "two threads" : "two processes",
			cell->producers, cell->producers == 1 ? "" : "s");
		print_head("payload", names, n);
		for (uint32_t i = at; i < res->count; i++) {
			const struct result *r = &res->list[i];

			if (!strcmp(r->metric, "throughput") && r->subject == subject_vmbus.name &&
			    same_table(&r->cell, cell))
				print_row(res, &r->cell, names, n, ratio);
		}
	}
}

static const struct result *find_mode(const struct results *res, const char *subject,
				      const char *metric, const char *mode)
{
	for (uint32_t i = 0; i < res->count; i++) {
		const struct result *r = &res->list[i];

		if (!strcmp(r->subject, subject) && !strcmp(r->metric, metric) &&
		    !strcmp(r->mode, mode))
			return r;
	}
	return NULL;
}

static void print_latency_row(const struct results *res, const struct result *p50)
{
	bool sleeps = !strcmp(p50->mode, "sleep");
	const struct result *p99 =
		find_mode(res, p50->subject, sleeps ? "wake_p99" : "rtt_p99", p50->mode);
	const struct result *p999 =
		find_mode(res, p50->subject, sleeps ? "wake_p999" : "rtt_p999", p50->mode);
	const struct result *cpu = sleeps ? find_mode(res, p50->subject, "cpu", "sleep") : NULL;

	fprintf(out, "%-20s %-7s %9.0f %9.0f %9.0f", p50->subject, p50->mode, p50->value.median,
		p99 ? p99->value.median : 0, p999 ? p999->value.median : 0);
	if (cpu)
		fprintf(out, " %11.0f", cpu->value.median);
	else
		fprintf(out, " %11s", "-");
	if (p50->ratio.runs)
		fprintf(out, "  %.2f [%.2f %.2f]%s", p50->ratio.median, p50->ratio.min,
			p50->ratio.max, p50->unsteady ? " unsteady" : "");
	fprintf(out, "\n");
}

static void print_latency(const struct results *res)
{
	bool head = false;

	for (uint32_t i = 0; i < res->count; i++) {
		const struct result *r = &res->list[i];

		if (strcmp(r->metric, "rtt_p50") && strcmp(r->metric, "wake_p50"))
			continue;
		if (!head)
			fprintf(out,
				"\nRound trip of 8 B polled, and wake-up (half a round trip) "
				"asleep, "
				"ns\n%-20s %-7s %9s %9s %9s %11s  %s\n",
				"subject", "mode", "p50", "p99", "p99.9", "cpu/message",
				"vmbus / subject [min max]");
		head = true;
		print_latency_row(res, r);
	}
	for (uint32_t i = 0; i < res->count; i++) {
		const struct result *r = &res->list[i];

		if (!strcmp(r->metric, "fence"))
			fprintf(out, "full fence, %s line: %.1f ns [%.1f %.1f]\n", r->mode,
				r->value.median, r->value.min, r->value.max);
		if (!strcmp(r->metric, "cpu") && !strcmp(r->mode, "idle"))
			fprintf(out, "processor time of two idle sides over 10 s: %.4f %%\n",
				r->value.median);
	}
}

static void print_left_out(const struct results *res)
{
	if (res->left_count)
		fprintf(out, "\nCells left out, since they cannot exist:\n");
	for (uint32_t i = 0; i < res->left_count; i++) {
		const struct left_out *l = &res->left[i];

		fprintf(out, "  %s, %u B, batch %u, ring %u KiB: %s\n", l->subject, l->cell.payload,
			l->cell.batch, l->cell.ring_bytes / 1024u, l->why);
	}
}

static void print_notes(const struct results *res, const struct options *opts)
{
	uint32_t unsteady = 0;

	fprintf(out, "\n");
	for (unsigned i = 0; i < peer_count; i++)
		if (!peers[i].subject)
			fprintf(out, "Peer missing in this build: %s (Debian package %s).\n",
				peers[i].name, peers[i].package);
	for (uint32_t i = 0; i < res->count; i++)
		unsteady += res->list[i].unsteady && !strcmp(res->list[i].metric, "throughput");
	if (unsteady)
		fprintf(out,
			"u: unsteady, fewer than %u pairs in which the round trip of a cache line "
			"moved by at most 20 %%\nand no other work took the processors; %u "
			"results, not to be judged.\n",
			opts->runs, unsteady);
	if (res->out_of_time)
		fprintf(out, "Repeats of unsteady pairs were given up to end in time.\n");
	if (res->failed_runs)
		fprintf(out, "%u runs FAILED; see above.\n", res->failed_runs);
	fprintf(out, "%u rounds, %u repeated, %.0f s; processors %d and %d%s.\n", opts->runs,
		res->repeated, res->seconds, opts->place.cpu_here, opts->place.cpu_there,
		opts->place.pin ? "" : ", not pinned");
}

void report_print(const struct results *res, const struct options *opts, FILE *to)
{
	out = to;
	for (uint32_t i = 0; i < res->count; i++)
		if (!strcmp(res->list[i].metric, "throughput") && first_of_table(res, i))
			print_table(res, opts, i);
	print_latency(res);
	print_left_out(res);
	print_notes(res, opts);
	fflush(out);
}
