/* SPDX-License-Identifier: MIT */
/* What vmbus-bench soak tells: a table, faults, JSON of schema vmbus-soak/1, and a drawing. */
#include "soak.h"

#include <vmbus/shm_bus.h>
#include <vmbus/version.h>

#include <math.h>
#include <sys/utsname.h>

#define PLUGS 16u

struct totals {
	uint64_t done[SOAK_SERIES], wrong, lost, failed, opened, closed, luns, links;
};

static struct totals add_up(const struct soak_run *run)
{
	struct totals t = { 0 };

	for (uint32_t i = 0; i < run->children; i++) {
		const struct soak_seat *const seat = &run->shared->seat[i];

		for (uint32_t k = 0; k < SOAK_DEVICES; k++)
			t.done[k] += seat->done[k];
		t.wrong += seat->wrong;
		t.lost += seat->lost;
		t.failed += seat->failed;
		t.opened += seat->opened;
		t.closed += seat->closed;
		t.luns += seat->luns;
		t.links += seat->links;
	}
	return t;
}

static uint32_t fault(FILE *to, bool is, const char *what, uint64_t n)
{
	if (is)
		fprintf(to, "FAULT: %s: %llu\n", what, (unsigned long long)n);
	return is;
}

uint32_t soak_faults(const struct soak_run *run, FILE *to)
{
	const struct totals t = add_up(run);
	const uint64_t broke = run->shared->ended[VMBUS_SHM_BROKE];
	/* The switch keeps a descriptor for each port that it had at the same time. */
	const double fds = run->after.fds - run->before.fds - 2.0 * run->children - PLUGS;
	const double threads = run->after.threads - run->before.threads;
	uint32_t n = 0;

	n += fault(to, t.wrong, "answers that were not what was sent", t.wrong);
	n += fault(to, t.failed, "requests that failed", t.failed);
	n += fault(to, run->stalls, "processes that stood still or did not leave", run->stalls);
	n += fault(to, run->exits, "processes that ended by themselves", run->exits);
	n += fault(to, broke, "children that the parent threw out", broke);
	n += fault(to, fds > 0, "descriptors that the parent has left", (uint64_t)fds);
	n += fault(to, threads > 0, "threads that the parent has left", (uint64_t)threads);
	for (uint32_t i = 0; i < run->judged_count; i++)
		n += fault(to, !run->judged[i].flat, run->judged[i].name,
			   (uint64_t)run->judged[i].last);
	return n;
}

void soak_report(const struct soak_run *run, FILE *to)
{
	const struct totals t = add_up(run);

	fprintf(to, "\n%u children, %.1f minutes, seed %llu%s\n\n", run->children,
		run->seconds / 60, (unsigned long long)run->seed,
		run->complete ? "" : ", NOT to its end");
	for (uint32_t k = 0; k < SOAK_DEEDS; k++)
		fprintf(to, "%-24s %12llu\n", soak_deed_name[k],
			(unsigned long long)run->shared->deed[k]);
	for (uint32_t k = 0; k < SOAK_DEVICES; k++)
		fprintf(to, "%-24s %12llu requests\n", soak_series_name[k],
			(unsigned long long)t.done[k]);
	fprintf(to,
		"channels opened %llu, closed in order or withdrawn %llu; disks seen to come and "
		"go "
		"%llu, links %llu; frames lost %llu\n",
		(unsigned long long)t.opened, (unsigned long long)t.closed,
		(unsigned long long)t.luns, (unsigned long long)t.links,
		(unsigned long long)t.lost);
	fprintf(to,
		"parent without children: %.0f descriptors, %.0f threads, %.0f KiB at the begin; "
		"%.0f, %.0f, %.0f KiB at the end\n\n",
		run->before.fds, run->before.threads, run->before.anon_kib, run->after.fds,
		run->after.threads, run->after.anon_kib);
	if (!run->judged_count)
		fputs("too short to be judged\n", to);
	else
		fprintf(to, "%-24s %12s %12s %12s %12s\n", "median of", "first 1/4", "last 1/4",
			"limit", "per hour");
	for (uint32_t i = 0; i < run->judged_count; i++) {
		const struct soak_judged *const j = &run->judged[i];

		fprintf(to, "%-24s %12.1f %12.1f %12.1f %+12.1f  %-3s %s\n", j->name, j->first,
			j->last, j->limit, j->slope, j->unit,
			!j->judged ? "not judged"
			: j->flat  ? "flat"
				   : "NOT FLAT");
	}
	if (run->judged_count)
		fprintf(to,
			"\nThe machine was busy for %.0f %% of the time in the first quarter, %.0f "
			"%% in "
			"the last.  p99 is judged below 95 %%, from 15 minutes on.\n",
			run->busy_first * 100, run->busy_last * 100);
}

/* ---- JSON ---- */

static void put_figures(FILE *f, const char *name, const struct soak_figures *v, const char *after)
{
	fprintf(f,
		"\"%s\": { \"memory_kib\": %.1f, \"shared_kib\": %.1f, \"descriptors\": %.2f, "
		"\"threads\": %.2f, \"mappings\": %.2f }%s",
		name, v->anon_kib, v->shmem_kib, v->fds, v->threads, v->maps, after);
}

static void put_window(FILE *f, const struct soak_window *w, const char *after)
{
	fprintf(f, "    { \"from_s\": %.1f, \"to_s\": %.1f, \"children\": %.1f, \"busy\": %.3f, ",
		w->from_s, w->to_s, w->children, w->busy);
	put_figures(f, "parent", &w->who[SOAK_PARENT], ", ");
	put_figures(f, "provider", &w->who[SOAK_PROVIDER], ", ");
	put_figures(f, "child", &w->who[SOAK_CHILD], ", ");
	for (uint32_t k = 0; k < SOAK_SERIES; k++)
		fprintf(f, "\"%s\": { \"requests\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f }%s",
			soak_series_name[k], (unsigned long long)w->count[k], w->p50[k] / 1e3,
			w->p99[k] / 1e3, ", ");
	for (uint32_t k = 0; k < SOAK_DEEDS; k++)
		fprintf(f, "\"%s\": %llu%s", soak_deed_name[k], (unsigned long long)w->deed[k],
			k + 1 < SOAK_DEEDS ? ", " : "");
	fprintf(f, " }%s\n", after);
}

static void put_judged(FILE *f, const struct soak_judged *j, const char *after)
{
	fprintf(f,
		"    { \"name\": \"%s\", \"unit\": \"%s\", \"first\": %.2f, \"last\": %.2f, "
		"\"limit\": %.2f, \"per_hour\": %.3f, \"judged\": %s, \"flat\": %s }%s\n",
		j->name, j->unit, j->first, j->last, j->limit, isfinite(j->slope) ? j->slope : 0,
		j->judged ? "true" : "false", j->flat ? "true" : "false", after);
}

static void put_head(FILE *f, const struct soak_run *run)
{
	const struct totals t = add_up(run);
	struct utsname name;
	char when[32];
	const time_t now = time(NULL);
	struct tm tm;

	if (uname(&name))
		memset(&name, 0, sizeof(name));
	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	fprintf(f,
		"{\n  \"schema\": \"vmbus-soak/1\", \"version\": \"%s\", \"kernel\": \"%s\", "
		"\"time\": \"%s\",\n",
		VMBUS_VERSION_STRING, name.release, when);
	fprintf(f,
		"  \"children\": %u, \"seed\": %llu, \"minutes\": %.1f, \"seconds\": %.1f, "
		"\"complete\": %s,\n",
		run->children, (unsigned long long)run->seed, run->minutes, run->seconds,
		run->complete ? "true" : "false");
	fprintf(f,
		"  \"wrong\": %llu, \"failed\": %llu, \"lost_frames\": %llu, \"stalls\": %llu, "
		"\"exits\": %llu, \"opened\": %llu, \"closed\": %llu,\n  ",
		(unsigned long long)t.wrong, (unsigned long long)t.failed,
		(unsigned long long)t.lost, (unsigned long long)run->stalls,
		(unsigned long long)run->exits, (unsigned long long)t.opened,
		(unsigned long long)t.closed);
	put_figures(f, "parent_before", &run->before, ", ");
	put_figures(f, "parent_after", &run->after, ",\n");
}

int soak_json(const struct soak_run *run, const char *path)
{
	FILE *const f = strcmp(path, "-") ? fopen(path, "we") : stdout;
	int bad;

	if (!f)
		return -1;
	put_head(f, run);
	fputs("  \"windows\": [\n", f);
	for (uint32_t i = 0; i < run->windows; i++)
		put_window(f, &run->window[i], i + 1 < run->windows ? "," : "");
	fputs("  ],\n  \"judged\": [\n", f);
	for (uint32_t i = 0; i < run->judged_count; i++)
		put_judged(f, &run->judged[i], i + 1 < run->judged_count ? "," : "");
	fputs("  ]\n}\n", f);
	bad = ferror(f);
	if (f == stdout)
		return fflush(f) || bad ? -1 : 0;
	return fclose(f) || bad ? -1 : 0;
}
