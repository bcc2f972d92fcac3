/* SPDX-License-Identifier: MIT */
/* Results as JSON, schema vmbus-bench/1; docs/bench-schema.md describes each key. */
#include "results.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

static void put_string(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(f, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			fprintf(f, "\\u%04x", (unsigned)(unsigned char)*text);
		else
			fputc(*text, f);
	}
	fputc('"', f);
}

static void put_text(FILE *f, const char *key, const char *text)
{
	fprintf(f, "\"%s\": ", key);
	put_string(f, text);
	fputs(", ", f);
}

/* JSON has no infinity and no NaN. */
static void put_number(FILE *f, const char *key, double v, const char *after)
{
	if (isfinite(v))
		fprintf(f, "\"%s\": %.9g%s", key, v, after);
	else
		fprintf(f, "\"%s\": null%s", key, after);
}

/* The value of the first line of /proc/cpuinfo that begins with one of these. */
static void cpu_name(char *buf, size_t bytes)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(buf, bytes, "unknown");
	while (f && fgets(line, sizeof(line), f)) {
		char *at = strchr(line, ':');

		if (!at || (strncmp(line, "model name", 10) && strncmp(line, "CPU part", 8)))
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(buf, bytes, "%s", at + (at[1] == ' ' ? 2 : 1));
		break;
	}
	if (f)
		fclose(f);
}

static void put_host(FILE *f, const struct options *opts)
{
	struct utsname name;
	char cpu[128], when[32];
	time_t now = time(NULL);
	struct tm tm;

	if (uname(&name))
		memset(&name, 0, sizeof(name));
	cpu_name(cpu, sizeof(cpu));
	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	fputs("  \"host\": { ", f);
	put_text(f, "system", name.sysname);
	put_text(f, "kernel", name.release);
	put_text(f, "machine", name.machine);
	put_text(f, "processor", cpu);
	fprintf(f, "\"processors\": %ld, ", sysconf(_SC_NPROCESSORS_ONLN));
	fprintf(f, "\"cpu_receiver\": %d, \"cpu_sender\": %d, \"pinned\": %s, ",
		opts->place.cpu_here, opts->place.cpu_there, opts->place.pin ? "true" : "false");
	put_text(f, "compiler",
#ifdef __clang__
		 "clang " __clang_version__
#else
		 "gcc " __VERSION__
#endif
	);
	fprintf(f, "\"time\": \"%s\" },\n", when);
}

static void put_cell(FILE *f, const struct cell *cell)
{
	fprintf(f, "\"payload\": %u, \"batch\": %u, \"batch_used\": %u, \"ring_kib\": %u, ",
		cell->payload, cell->batch, cell->batch_used, cell->ring_bytes / 1024u);
	fprintf(f, "\"window\": \"%s\", \"producers\": %u, \"processes\": %d, ",
		window_name(cell->window), cell->producers, cell->threads ? 1 : 2);
	if (cell->node < 0)
		fputs("\"numa\": null, ", f);
	else
		fprintf(f, "\"numa\": %d, ", cell->node);
}

static void put_result(FILE *f, const struct result *r)
{
	fputs("    { ", f);
	put_text(f, "subject", r->subject);
	put_text(f, "version", r->version);
	put_text(f, "metric", r->metric);
	put_text(f, "mode", r->mode);
	put_cell(f, &r->cell);
	put_text(f, "unit", r->unit);
	put_number(f, "median", r->value.median, ", ");
	put_number(f, "min", r->value.min, ", ");
	put_number(f, "max", r->value.max, ", ");
	fprintf(f, "\"runs\": %u, ", r->value.runs);
	if (r->ratio.runs) {
		put_number(f, "ratio_median", r->ratio.median, ", ");
		put_number(f, "ratio_min", r->ratio.min, ", ");
		put_number(f, "ratio_max", r->ratio.max, ", ");
	}
	if (r->line_rtt > 0)
		put_number(f, "line_rtt", r->line_rtt, ", ");
	if (r->chunk)
		fprintf(f, "\"chunk\": %u, ", r->chunk);
	if (r->channels)
		fprintf(f, "\"channels\": %u, ", r->channels);
	fprintf(f, "\"unsteady\": %s }", r->unsteady ? "true" : "false");
}

static void put_peer(FILE *f, const char *subject, const char *package, bool first)
{
	fputs(first ? " { " : ", { ", f);
	put_text(f, "subject", subject);
	fprintf(f, "\"package\": \"%s\" }", package);
}

static void put_missing(FILE *f, const struct results *res)
{
	bool first = true;

	fputs("  \"missing_peers\": [", f);
	for (uint32_t i = 0; res->missing && i < res->missing_count; i++)
		put_peer(f, res->missing[i].subject, res->missing[i].package, i == 0);
	for (unsigned i = 0; !res->missing && i < peer_count; i++) {
		if (peers[i].subject)
			continue;
		put_peer(f, peers[i].name, peers[i].package, first);
		first = false;
	}
	fputs(" ],\n", f);
}

static void put_left_out(FILE *f, const struct results *res)
{
	fputs("  \"left_out\": [", f);
	for (uint32_t i = 0; i < res->left_count; i++) {
		const struct left_out *l = &res->left[i];

		fputs(i ? ",\n    { " : "\n    { ", f);
		put_text(f, "subject", l->subject);
		put_cell(f, &l->cell);
		fputs("\"why\": ", f);
		put_string(f, l->why);
		fputs(" }", f);
	}
	fputs(" ],\n", f);
}

static void put_goals(FILE *f, const struct results *res)
{
	fputs("  \"goals\": [", f);
	for (uint32_t i = 0; i < res->goal_count; i++) {
		const struct goal *const g = &res->goals[i];

		fputs(i ? ",\n    { " : "\n    { ", f);
		put_text(f, "what", g->what);
		put_text(f, "unit", g->unit);
		put_number(f, "got", g->got, ", ");
		put_number(f, g->at_most ? "at_most" : "at_least", g->bound, ", ");
		fprintf(f, "\"verdict\": \"%s\" }",
			g->unsteady   ? "unsteady"
			: goal_met(g) ? "met"
				      : "not met");
	}
	fputs(" ],\n", f);
}

static void put_all(FILE *f, const struct results *res, const struct options *opts)
{
	fprintf(f, "{\n  \"schema\": \"vmbus-bench/1\",\n  \"command\": \"%s\",\n", res->command);
	put_host(f, opts);
	put_missing(f, res);
	put_left_out(f, res);
	fprintf(f, "  \"rounds\": %u,\n  \"repeated_rounds\": %u,\n  \"failed_runs\": %u,\n",
		opts->runs, res->repeated, res->failed_runs);
	fprintf(f, "  \"out_of_time\": %s,\n  \"seconds\": %.1f,\n",
		res->out_of_time ? "true" : "false", res->seconds);
	put_goals(f, res);
	fputs("  \"results\": [\n", f);
	for (uint32_t i = 0; i < res->count; i++) {
		put_result(f, &res->list[i]);
		fputs(i + 1u < res->count ? ",\n" : "\n", f);
	}
	fputs("  ]\n}\n", f);
}

int json_write(const struct results *res, const struct options *opts, const char *path)
{
	bool out = !strcmp(path, "-");
	FILE *f = out ? stdout : fopen(path, "we");
	int err;

	if (!f)
		return -1;
	put_all(f, res, opts);
	err = ferror(f) ? -1 : 0;
	if (out)
		return fflush(f) ? -1 : err;
	return fclose(f) ? -1 : err;
}
