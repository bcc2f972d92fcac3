/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench ring: first the limits and round trips, then every cell of the grid with ours, the
 * peers and the copy limit in alternating rounds.
 */
#include "ring.h"

#include "grid.h"
#include "latency.h"
#include "rounds.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define COPY_CANDIDATES 3u /* chunks that take part in the rounds, of all that were tried */
#define COPY_TRIES 5u	   /* runs of each chunk to find them */
#define COPY_TRY_US 12000u
#define LATENCY_PAYLOAD 8u
#define LATENCY_US 20000u
#define SLEEP_US 60000u
#define FENCE_US 8000u
#define IDLE_MS 10000u
#define DEFAULT_LIMIT_S 105u /* repeats of unsteady pairs end when a call has run for so long */
#define QUICK_LIMIT_S 30u
#define END_AFTER_LIMIT 1.4 /* times that: when runs are shortened, on a machine that is busy */
#define SHORTEST_US 5000u
#define LOAD_WARN 0.5
#define OVERHEAD_US 5000u /* of one run: memory, the second side, the probes */

/* The chunks of limit.copy for one ring size. */
struct copy_plan {
	uint32_t ring_bytes;
	uint32_t chunk[COPY_CANDIDATES];
	uint32_t count;
};

struct ring_run {
	struct options opts;
	struct grid grid;
	struct results results;
	struct copy_plan copy;
};

static void run_failed(struct contestant *c, const char *error, int error_no)
{
	c->error = error;
	c->error_no = error_no;
	progress.failed++;
}

static void run_subject(struct contestant *c, struct sample *sample)
{
	struct run_plan plan = { c->ctx,   c->cell,    c->place, RUN_THROUGHPUT,
				 c->chunk, c->us / 4u, c->us };
	struct run_result res = { 0 };

	if (run_once(&plan, &res)) {
		run_failed(c, "cannot run", errno);
	} else if (res.stalled) {
		run_failed(c, "stalled", 0);
	} else if (res.corrupt) {
		run_failed(c, "payloads differ from what was sent", 0);
	} else {
		sample->valid = true;
		sample->value[0] = res.packets_per_s;
		sample->value[1] = res.bytes_per_s;
		sample->rtt_before = res.rtt_before;
		sample->rtt_after = res.rtt_after;
		sample->on_cpu = plan.cell->producers > 1u || !plan.place->pin ? 1 : res.on_cpu;
	}
}

static void take_rtt(struct contestant *c, struct sample *sample, int err,
		     const struct rtt_result *res)
{
	if (err || !res->valid) {
		run_failed(c, "cannot run", err ? errno : 0);
		return;
	}
	sample->valid = true;
	sample->value[0] = res->p50;
	sample->value[1] = res->p99;
	sample->value[2] = res->p999;
	sample->value[3] = res->cpu_ns;
	sample->rtt_before = res->rtt_before;
	sample->rtt_after = res->rtt_after;
	sample->on_cpu = 1;
}

static void run_polled(struct contestant *c, struct sample *sample)
{
	struct rtt_result res = { 0 };

	take_rtt(c, sample, latency_polled(c->ctx, c->cell, c->place, c->us, &res), &res);
}

static void run_line(struct contestant *c, struct sample *sample)
{
	struct rtt_result res = { 0 };

	take_rtt(c, sample, limit_line_rtt(c->place, false, c->cell->threads, c->us, &res), &res);
}

static void run_two_lines(struct contestant *c, struct sample *sample)
{
	struct rtt_result res = { 0 };

	take_rtt(c, sample, limit_line_rtt(c->place, true, c->cell->threads, c->us, &res), &res);
}

static void run_eventfd(struct contestant *c, struct sample *sample)
{
	struct rtt_result res = { 0 };

	take_rtt(c, sample, limit_eventfd(c->place, c->cell->threads, c->us, &res), &res);
}

static void run_sleeping(struct contestant *c, struct sample *sample)
{
	struct rtt_result res = { 0 };

	take_rtt(c, sample, latency_sleeping(c->cell, c->place, c->us, &res), &res);
}

static struct contestant *join(struct rounds *r, const struct ring_run *ring,
			       void (*run)(struct contestant *, struct sample *), const void *ctx,
			       const struct cell *cell, uint32_t us)
{
	struct contestant *c = &r->c[r->count++];

	memset(c, 0, sizeof(*c));
	c->run = run;
	c->ctx = ctx;
	c->cell = cell;
	c->place = &ring->opts.place;
	c->us = us;
	return c;
}

static const char *mode_of(const struct cell *cell)
{
	return cell->in_place ? "in-place" : "copy";
}

static void warn_failed(const struct rounds *r, uint32_t i, const char *name)
{
	const struct contestant *c = &r->c[i];

	if (c->error)
		fprintf(stderr, "\nvmbus-bench: %s, %u B, batch %u, ring %u KiB: %s%s%s\n", name,
			c->cell->payload, c->cell->batch_used, c->cell->ring_bytes / 1024u,
			c->error, c->error_no ? ": " : "",
			c->error_no ? strerror(c->error_no) : "");
}

/* Fills a result from contestant i; the caller adds metric and unit. */
static struct result result_of(const struct rounds *r, uint32_t i, const struct subject *subject)
{
	struct result res = { 0 };

	res.subject = subject->name;
	res.version = subject->version();
	res.cell = *r->c[i].cell;
	res.mode = mode_of(&res.cell);
	res.chunk = r->c[i].chunk;
	res.unsteady = rounds_unsteady(r, i);
	res.line_rtt = rounds_line_rtt(r, i);
	return res;
}

static void take_throughput(struct ring_run *ring, const struct rounds *r, uint32_t i)
{
	struct result res = result_of(r, i, r->c[i].ctx);

	warn_failed(r, i, res.subject);
	for (uint32_t v = 0; v < 2; v++) {
		if (res.chunk && !v)
			continue; /* a copy of another size is no packet */
		res.metric = v ? "bandwidth" : "throughput";
		res.unit = v ? "B/s" : "packets/s";
		res.value = rounds_value(r, i, v, 1);
		memset(&res.ratio, 0, sizeof(res.ratio));
		if (r->c[i].pair_with != i)
			res.ratio = rounds_ratio(r, i, v);
		if (res.value.runs)
			results_add(&ring->results, &res);
	}
}

/* Of the chunks that ran, the one with the best median stands for the limit. */
static void take_copy(struct ring_run *ring, const struct rounds *r)
{
	uint32_t best = r->count;
	double most = 0;

	for (uint32_t i = 0; i < r->count; i++) {
		struct spread s;

		if (!r->c[i].chunk)
			continue;
		s = rounds_value(r, i, 1, 1);
		if (s.runs && s.median > most) {
			most = s.median;
			best = i;
		}
	}
	if (best < r->count)
		take_throughput(ring, r, best);
}

/* Tries all chunks for this ring size and keeps the best few for the rounds. */
static void copy_prepare(struct ring_run *ring, const struct cell *cell)
{
	double median[LIMIT_CHUNKS] = { 0 }, values[COPY_TRIES];
	struct cell plain = *cell;

	if (ring->copy.ring_bytes == cell->ring_bytes)
		return;
	ring->copy.ring_bytes = cell->ring_bytes;
	ring->copy.count = 0;
	for (uint32_t i = 0; i < LIMIT_CHUNKS; i++) {
		struct run_plan plan = { &subject_limit_copy, &plain,	      &ring->opts.place,
					 RUN_THROUGHPUT,      limit_chunk(i), COPY_TRY_US / 4u,
					 COPY_TRY_US };
		uint32_t n = 0;

		for (uint32_t k = 0; k < COPY_TRIES && limit_chunk_fits(i, cell->ring_bytes); k++) {
			struct run_result res = { 0 };

			if (!run_once(&plan, &res) && res.valid)
				values[n++] = res.bytes_per_s;
			progress_step();
		}
		median[i] = spread_of(values, n).median;
	}
	while (ring->copy.count < COPY_CANDIDATES) {
		uint32_t best = 0;

		for (uint32_t i = 1; i < LIMIT_CHUNKS; i++)
			if (median[i] > median[best])
				best = i;
		if (median[best] <= 0)
			break;
		median[best] = 0;
		ring->copy.chunk[ring->copy.count++] = limit_chunk(best);
	}
}

static void join_peers(struct ring_run *ring, struct rounds *r, const struct cell *cell,
		       uint32_t us)
{
	for (unsigned i = 0; i < peer_count; i++) {
		const struct subject *subject = peers[i].subject;
		const char *why;

		if (!subject || !ring->opts.peer[i])
			continue;
		why = subject->refuses(cell);
		/* A peer's producer that is not running holds up the others for a time slice. */
		if (!why && cell->producers > ring->opts.place.far_count)
			why = "its producers wait for one another and need a processor each";
		if (why)
			results_leave_out(&ring->results, subject->name, why, cell);
		else
			join(r, ring, run_subject, subject, cell, us);
	}
}

static void measure_cell(struct ring_run *ring, const struct grid_cell *g)
{
	struct rounds *r = must_alloc(sizeof(*r));
	const char *why = subject_vmbus.refuses(&g->cell);
	uint32_t us = progress_shorten(ring->opts.ms * 1000u, SHORTEST_US);

	memset(r, 0, sizeof(*r));
	r->wanted = ring->opts.runs;
	if (why) {
		results_leave_out(&ring->results, subject_vmbus.name, why, &g->cell);
		free(r);
		return;
	}
	join(r, ring, run_subject, &subject_vmbus, &g->cell, us);
	if (g->with_peers)
		join_peers(ring, r, &g->cell, us);
	if (g->with_copy) {
		copy_prepare(ring, &g->cell);
		for (uint32_t i = 0; i < ring->copy.count; i++)
			join(r, ring, run_subject, &subject_limit_copy, &g->cell, us)->chunk =
				ring->copy.chunk[i];
	}
	rounds_run(r);
	for (uint32_t i = 0; i < r->count; i++)
		if (!r->c[i].chunk)
			take_throughput(ring, r, i);
	take_copy(ring, r);
	ring->results.repeated += r->repeated;
	rounds_free(r);
	free(r);
}

static struct subject limit_named(const char *name)
{
	struct subject s = subject_limit_copy;

	s.name = name;
	return s;
}

static void take_latency(struct ring_run *ring, const struct rounds *r, uint32_t i,
			 const char *name, const char *mode)
{
	static const char *const polled[] = { "rtt_p50", "rtt_p99", "rtt_p999" };
	static const char *const asleep[] = { "wake_p50", "wake_p99", "wake_p999", "cpu" };
	bool sleeps = !strcmp(mode, "sleep");
	struct subject limit = limit_named(name);
	const struct subject *subject = r->c[i].ctx ? r->c[i].ctx : &limit;
	struct result res = result_of(r, i, subject);

	warn_failed(r, i, res.subject);
	res.mode = mode;
	for (uint32_t v = 0; v < (sleeps ? 4u : 3u); v++) {
		res.metric = sleeps ? asleep[v] : polled[v];
		res.unit = v == 3u ? "ns/message" : "ns";
		res.value = rounds_value(r, i, v, 1);
		memset(&res.ratio, 0, sizeof(res.ratio));
		if (r->c[i].pair_with != i)
			res.ratio = rounds_ratio(r, i, v);
		if (res.value.runs)
			results_add(&ring->results, &res);
	}
}

static void join_polled_peers(struct ring_run *ring, struct rounds *r, const struct cell *cell)
{
	for (unsigned i = 0; i < peer_count; i++) {
		const struct subject *subject = peers[i].subject;

		if (subject && ring->opts.peer[i] && subject->ping && !subject->refuses(cell))
			join(r, ring, run_polled, subject, cell, LATENCY_US);
	}
}

static void measure_latency(struct ring_run *ring, const struct cell *cell)
{
	struct rounds *r = must_alloc(sizeof(*r));
	uint32_t peers_from, sleep_at;

	memset(r, 0, sizeof(*r));
	r->wanted = ring->opts.runs;
	join(r, ring, run_polled, &subject_vmbus, cell, LATENCY_US);
	join(r, ring, run_line, NULL, cell, LATENCY_US);
	join(r, ring, run_two_lines, NULL, cell, LATENCY_US);
	peers_from = r->count;
	join_polled_peers(ring, r, cell);
	sleep_at = r->count;
	join(r, ring, run_sleeping, &subject_vmbus, cell, SLEEP_US)->pair_with = sleep_at;
	join(r, ring, run_eventfd, NULL, cell, SLEEP_US)->pair_with = sleep_at;
	rounds_run(r);
	take_latency(ring, r, 0, NULL, "polled");
	take_latency(ring, r, 1, "limit.line_rtt", "polled");
	take_latency(ring, r, 2, "limit.two_line_rtt", "polled");
	for (uint32_t i = peers_from; i < sleep_at; i++)
		take_latency(ring, r, i, NULL, "polled");
	take_latency(ring, r, sleep_at, NULL, "sleep");
	take_latency(ring, r, sleep_at + 1u, "limit.eventfd", "sleep");
	ring->results.repeated += r->repeated;
	rounds_free(r);
	free(r);
}

static void measure_fence(struct ring_run *ring, const struct cell *cell)
{
	double added[ROUNDS_MAX];

	for (int shared = 0; shared < 2; shared++) {
		struct result res = { .subject = "limit.fence",
				      .version = "-",
				      .metric = "fence",
				      .mode = shared ? "shared" : "private",
				      .unit = "ns",
				      .cell = *cell };
		uint32_t n = 0;

		for (uint32_t i = 0; i < ring->opts.runs; i++) {
			struct fence_result f;

			if (!limit_fence(&ring->opts.place, cell->threads, shared, FENCE_US, &f))
				added[n++] = f.fenced_ns - f.plain_ns;
			progress_step();
		}
		res.value = spread_of(added, n);
		if (n)
			results_add(&ring->results, &res);
	}
}

static void take_idle(struct ring_run *ring, struct idle *idle, const struct cell *cell)
{
	double ms, cpu_us;
	struct result res = { .subject = subject_vmbus.name,
			      .version = subject_vmbus.version(),
			      .metric = "cpu",
			      .mode = "idle",
			      .unit = "percent",
			      .cell = *cell };

	if (idle_end(idle, IDLE_MS, &ms, &cpu_us)) {
		fprintf(stderr, "vmbus-bench: idle sides did not wake up\n");
		progress.failed++;
		return;
	}
	res.value = (struct spread){ cpu_us / (ms * 10.0), 0, 0, 1 };
	res.value.min = res.value.max = res.value.median;
	results_add(&ring->results, &res);
}

static uint32_t planned_runs(const struct ring_run *ring, double *us)
{
	const struct options *o = &ring->opts;
	uint32_t runs = 0, chosen = 0, rings = 0, copy_ring = 0;

	*us = 0;
	for (unsigned i = 0; i < peer_count; i++)
		chosen += o->peer[i];
	for (uint32_t i = 0; i < ring->grid.count; i++) {
		const struct grid_cell *g = &ring->grid.list[i];

		runs += o->runs *
			(1u + (g->with_peers ? chosen : 0) + (g->with_copy ? COPY_CANDIDATES : 0));
		if (g->with_copy && g->cell.ring_bytes != copy_ring) {
			copy_ring = g->cell.ring_bytes;
			rings++;
		}
	}
	*us += (double)runs * (o->ms * 1250.0 + OVERHEAD_US);
	runs += rings * LIMIT_CHUNKS * COPY_TRIES;
	*us += (double)rings * LIMIT_CHUNKS * COPY_TRIES * (COPY_TRY_US * 1.25 + OVERHEAD_US);
	if (o->latency) {
		runs += o->runs * (5u + chosen + 2u);
		*us += o->runs * ((3.0 + chosen) * LATENCY_US + 2.0 * SLEEP_US + 4.0 * FENCE_US) *
		       1.3;
	}
	return runs;
}

static void warn_load(void)
{
	double load;

	if (getloadavg(&load, 1) == 1 && load > LOAD_WARN)
		fprintf(stderr,
			"vmbus-bench: other work uses the processors (load %.2f); cells may be "
			"unsteady\n",
			load);
}

static void plan(struct ring_run *ring)
{
	double us, worst;
	uint32_t limit = ring->opts.seconds ? ring->opts.seconds
			 : ring->opts.quick ? QUICK_LIMIT_S
					    : DEFAULT_LIMIT_S;

	grid_make(&ring->grid, &ring->opts);
	progress.planned = planned_runs(ring, &us);
	progress.from_ns = now_ns();
	if (!ring->opts.full || ring->opts.seconds)
		progress.until_ns = progress.from_ns + (uint64_t)limit * 1000000000u;
	if (!ring->opts.full && !ring->opts.seconds && us > limit * 1e6)
		progress.until_ns = 0; /* asked for more than the default: then no limit */
	if (progress.until_ns)
		progress.end_ns = progress.from_ns + (uint64_t)(limit * END_AFTER_LIMIT * 1e9);
	worst = us / 1e6 * (ring->opts.runs + ROUNDS_REPEAT_MAX) / ring->opts.runs;
	if (progress.end_ns && worst > limit * END_AFTER_LIMIT)
		worst = limit * END_AFTER_LIMIT;
	fprintf(stderr,
		"vmbus-bench: %u cells, %u runs, about %.0f s; on an unsteady machine up to "
		"%.0f s\n",
		ring->grid.count, progress.planned, us / 1e6, worst);
}

/* Whether standard output belongs to JSON or the drawing. */
static bool goes_out(const struct options *opts)
{
	return (opts->json && !strcmp(opts->json, "-")) || (opts->svg && !strcmp(opts->svg, "-"));
}

int ring_main(int argc, char **argv)
{
	struct ring_run *ring = must_alloc(sizeof(*ring));
	struct cell small = { .payload = LATENCY_PAYLOAD,
			      .batch = 1,
			      .batch_used = 1,
			      .producers = 1,
			      .window = BENCH_MIRRORED };
	struct idle *idle = NULL;
	int status = BENCH_EXIT_OK;

	memset(ring, 0, sizeof(*ring));
	options_parse(&ring->opts, argc, argv);
	options_check_machine(&ring->opts);
	ring->results.command = "ring";
	warn_load();
	plan(ring);
	small.ring_bytes = ring->opts.rings_kib.value[0] * 1024u;
	small.threads = ring->opts.threads;
	small.node = ring->opts.node;
	if (ring->opts.latency) {
		idle = idle_start(&small, &ring->opts.place);
		if (!idle)
			die(BENCH_EXIT_MACHINE, "cannot set up a ring of %u KiB: %s",
			    small.ring_bytes / 1024u, strerror(errno));
		measure_latency(ring, &small);
		measure_fence(ring, &small);
	}
	for (uint32_t i = 0; i < ring->grid.count; i++)
		measure_cell(ring, &ring->grid.list[i]);
	if (idle)
		take_idle(ring, idle, &small);
	progress_end();
	ring->results.failed_runs = progress.failed;
	ring->results.out_of_time = progress.gave_up;
	ring->results.seconds = (double)(now_ns() - progress.from_ns) / 1e9;
	report_print(&ring->results, &ring->opts, goes_out(&ring->opts) ? stderr : stdout);
	if (ring->opts.json && json_write(&ring->results, &ring->opts, ring->opts.json))
		die(BENCH_EXIT_FAILED, "--json %s: %s", ring->opts.json, strerror(errno));
	if (ring->opts.svg && svg_write(&ring->results, &ring->opts, ring->opts.svg))
		die(BENCH_EXIT_FAILED, "--svg %s: %s", ring->opts.svg, strerror(errno));
	if (progress.failed)
		status = BENCH_EXIT_FAILED;
	grid_free(&ring->grid);
	results_free(&ring->results);
	free(ring);
	return status;
}
