/* SPDX-License-Identifier: MIT */
/* The windows of vmbus-bench soak: what processes use, from /proc, and latencies, since a moment ago. */
#include "soak.h"

#include <dirent.h>
#include <stdlib.h>

static double entries(pid_t pid, const char *what)
{
	char path[64];
	double n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	d = opendir(path);
	if (!d)
		return 0;
	for (const struct dirent *e = readdir(d); e; e = readdir(d))
		n += e->d_name[0] != '.';
	(void)closedir(d);
	return n;
}

static double lines(pid_t pid, const char *what)
{
	char path[64], line[512];
	double n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		n += strchr(line, '\n') != NULL;
	if (f)
		(void)fclose(f);
	return n;
}

bool soak_look(pid_t pid, struct soak_figures *figures)
{
	char path[64], line[256];
	FILE *f;

	memset(figures, 0, sizeof(*figures));
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "RssAnon:", 8))
			figures->anon_kib = strtod(line + 8, NULL);
		else if (!strncmp(line, "RssShmem:", 9))
			figures->shmem_kib = strtod(line + 9, NULL);
		else if (!strncmp(line, "Threads:", 8))
			figures->threads = strtod(line + 8, NULL);
	}
	(void)fclose(f);
	figures->fds = entries(pid, "fd");
	figures->maps = lines(pid, "maps");
	return figures->threads > 0;
}

void soak_cpu(uint64_t *busy, uint64_t *all)
{
	unsigned long long v[8] = { 0 };
	FILE *f = fopen("/proc/stat", "re");

	*busy = *all = 0;
	if (!f)
		return;
	if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
		   &v[4], &v[5], &v[6], &v[7]) == 8)
		for (uint32_t i = 0; i < 8; i++) {
			*all += v[i];
			*busy += i == 3 || i == 4 ? 0 : v[i];
		}
	(void)fclose(f);
}

/* ---- windows ---- */

static void add_figures(struct soak_figures *to, const struct soak_figures *f, double part)
{
	to->anon_kib += f->anon_kib * part;
	to->shmem_kib += f->shmem_kib * part;
	to->fds += f->fds * part;
	to->threads += f->threads * part;
	to->maps += f->maps * part;
}

/* Sums; the window's end makes means of them. */
void soak_sample(struct soak_run *run, pid_t parent, pid_t provider, const pid_t *child)
{
	struct soak_window *const w = &run->window[run->windows];
	struct soak_figures f;

	if (soak_look(parent, &f))
		add_figures(&w->who[SOAK_PARENT], &f, 1);
	if (soak_look(provider, &f))
		add_figures(&w->who[SOAK_PROVIDER], &f, 1);
	for (uint32_t i = 0; i < SOAK_STEADY; i++)
		if (soak_look(child[i], &f))
			add_figures(&w->who[SOAK_CHILD], &f, 1.0 / SOAK_STEADY);
	w->children += load32(&run->shared->children);
	w->samples++;
}

void soak_open_window(struct soak_run *run, uint64_t now)
{
	run->window_ns = now;
	soak_cpu(&run->busy, &run->all);
	memcpy(run->hist, run->shared->hist, sizeof(run->hist));
	memcpy(run->deed, run->shared->deed, sizeof(run->deed));
	memset(&run->window[run->windows], 0, sizeof(struct soak_window));
}

static void take_latencies(const struct soak_run *run, struct soak_window *w)
{
	static struct hist h;

	for (uint32_t k = 0; k < SOAK_SERIES; k++) {
		const struct hist *const all = &run->shared->hist[k];

		h.count = 0;
		for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
			h.bucket[i] = load32(&all->bucket[i]) - run->hist[k].bucket[i];
			h.count += h.bucket[i];
		}
		w->count[k] = h.count;
		w->p50[k] = h.count ? hist_percentile(&h, 0.5) : 0;
		w->p99[k] = h.count ? hist_percentile(&h, 0.99) : 0;
	}
}

void soak_close_window(struct soak_run *run, uint64_t now)
{
	struct soak_window *const w = &run->window[run->windows];
	const double part = w->samples ? 1.0 / w->samples : 0;
	uint64_t busy, all;

	for (uint32_t k = 0; k < SOAK_WHO; k++) {
		const struct soak_figures sum = w->who[k];

		memset(&w->who[k], 0, sizeof(w->who[k]));
		add_figures(&w->who[k], &sum, part);
	}
	w->children *= part;
	w->from_s = (double)(run->window_ns - run->from_ns) / 1e9;
	w->to_s = (double)(now - run->from_ns) / 1e9;
	soak_cpu(&busy, &all);
	w->busy = all > run->all ? (double)(busy - run->busy) / (double)(all - run->all) : 0;
	for (uint32_t k = 0; k < SOAK_DEEDS; k++)
		w->deed[k] = run->shared->deed[k] - run->deed[k];
	take_latencies(run, w);
	run->windows++;
	run->seconds = w->to_s;
	(void)soak_judge(run);
	fprintf(stderr,
		"%5.1f min  %3.0f children  parent %6.0f KiB %4.0f fd %2.0f threads  p50 us echo "
		"%.0f block %.0f net %.0f control %.0f\n",
		w->to_s / 60, w->children, w->who[SOAK_PARENT].anon_kib, w->who[SOAK_PARENT].fds,
		w->who[SOAK_PARENT].threads, w->p50[SOAK_ECHO] / 1e3, w->p50[SOAK_BLOCK] / 1e3,
		w->p50[SOAK_NET] / 1e3, w->p50[SOAK_CONTROL] / 1e3);
}
