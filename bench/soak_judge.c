/* SPDX-License-Identifier: MIT */
/*
 * How vmbus-bench soak judges: the median of the last quarter of all windows against that of the first
 * one, the begin left out.  Memory, descriptors, threads and mappings may grow by a little, latencies by
 * a part, and by what the control's grew: a slower machine is not our growth.
 */
#include "soak.h"

#include "results.h"

/* Memory may grow by a part and a constant, since allocators and page tables breathe.  In a short run
   pages are touched for the first time all the while, and one death weighs much in a window. */
#define SHORT_MINUTES 15.0
#define MEMORY_PART 0.02
#define MEMORY_PART_SHORT 0.25
#define MEMORY_KIB 256.0
#define FDS_PART 0.01
#define FDS_PART_SHORT 0.05
#define FDS 2.0
#define THREADS 0.5
#define P50_TIMES 1.25
#define P99_TIMES 1.5
#define WARM_PART 20u  /* of the windows, left out at the begin */
#define BUSY_PART 0.95 /* other work of the machine decides on the slowest hundredth */

/* A figure of a window, by what it is of and a number. */
typedef double value_fn(const struct soak_window *w, uint32_t of, uint32_t which);

static double figure(const struct soak_window *w, uint32_t who, uint32_t which)
{
	const struct soak_figures *const f = &w->who[who];
	const double v[5] = { f->anon_kib, f->shmem_kib, f->fds, f->threads, f->maps };

	return v[which];
}

static double latency(const struct soak_window *w, uint32_t series, uint32_t which)
{
	return (which ? w->p99[series] : w->p50[series]) / 1e3;
}

static double busy(const struct soak_window *w, uint32_t of, uint32_t which)
{
	(void)of;
	(void)which;
	return w->busy;
}

static uint32_t first_window(const struct soak_run *run)
{
	return 1u + run->windows / WARM_PART;
}

static double median(const struct soak_window *w, uint32_t n, value_fn *value, uint32_t of,
		     uint32_t which)
{
	double v[SOAK_WINDOWS_MAX];

	for (uint32_t i = 0; i < n; i++)
		v[i] = value(&w[i], of, which);
	return spread_of(v, n).median;
}

/* Medians of the quarters, and the slope per hour of a line through all. */
static void quarters(const struct soak_run *run, value_fn *value, uint32_t of, uint32_t which,
		     struct soak_judged *j)
{
	const struct soak_window *const w = &run->window[first_window(run)];
	const uint32_t n = run->windows - first_window(run), quarter = n / 4;
	double sx = 0, sy = 0, sxx = 0, sxy = 0;

	j->first = median(w, quarter, value, of, which);
	j->last = median(w + n - quarter, quarter, value, of, which);
	for (uint32_t i = 0; i < n; i++) {
		const double x = (w[i].from_s + w[i].to_s) / 7200, y = value(&w[i], of, which);

		sx += x;
		sy += y;
		sxx += x * x;
		sxy += x * y;
	}
	j->slope = (n * sxy - sx * sy) / (n * sxx - sx * sx);
}

static bool is_short(const struct soak_run *run)
{
	return run->seconds < SHORT_MINUTES * 60;
}

static void judge_figures(struct soak_run *run, uint32_t who, uint32_t which)
{
	static const char *const of[SOAK_WHO] = { "parent", "provider", "child" };
	static const char *const what[5] = { "memory", "shared", "descriptors", "threads",
					     "mappings" };
	const double memory = is_short(run) ? MEMORY_PART_SHORT : MEMORY_PART;
	const double fds = is_short(run) ? FDS_PART_SHORT : FDS_PART;
	struct soak_judged *const j = &run->judged[run->judged_count++];

	snprintf(j->name, sizeof(j->name), "%s.%s", of[who], what[which]);
	j->unit = which < 2 ? "KiB" : "";
	quarters(run, figure, who, which, j);
	if (which < 2)
		j->limit = j->first * (1 + memory) + MEMORY_KIB;
	else if (which == 3)
		j->limit = j->first + THREADS;
	else
		j->limit = j->first * (1 + fds) + FDS;
	/* The children's memory is of a fixed size, and touched bit by bit. */
	j->judged = which != 1 || !is_short(run);
	j->flat = !j->judged || j->last <= j->limit;
}

static void judge_latency(struct soak_run *run, uint32_t series, uint32_t which, double slower,
			  bool judged)
{
	struct soak_judged *const j = &run->judged[run->judged_count++];

	snprintf(j->name, sizeof(j->name), "%s.%s", soak_series_name[series],
		 which ? "p99" : "p50");
	j->unit = "us";
	quarters(run, latency, series, which, j);
	j->limit = j->first * (which ? P99_TIMES : P50_TIMES) * (slower > 1 ? slower : 1);
	j->judged = judged && series != SOAK_CONTROL;
	j->flat = !j->judged || j->last <= j->limit;
}

bool soak_judge(struct soak_run *run)
{
	struct soak_judged control, work;
	bool flat = true;

	run->judged_count = 0;
	if (run->windows < first_window(run) + 4)
		return false;
	for (uint32_t who = 0; who < SOAK_WHO; who++)
		for (uint32_t which = 0; which < 5; which++)
			judge_figures(run, who, which);
	quarters(run, busy, 0, 0, &work);
	run->busy_first = work.first;
	run->busy_last = work.last;
	for (uint32_t which = 0; which < 2; which++) {
		const bool judged = !which || (!is_short(run) && work.first < BUSY_PART &&
					       work.last < BUSY_PART);

		quarters(run, latency, SOAK_CONTROL, which, &control);
		for (uint32_t k = 0; k < SOAK_SERIES; k++)
			judge_latency(run, k, which,
				      control.first > 0 ? control.last / control.first : 1, judged);
	}
	for (uint32_t i = 0; i < run->judged_count; i++)
		flat = flat && run->judged[i].flat;
	return flat;
}
