/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench isolation: one parent, many children, and a place for one more.  In pairs of phases an
 * honest child that is as busy as it can be has that place, and then a hostile one; what the others
 * get in both is compared.  Parent and others stay the same over all phases.
 *
 * Before and after each pair everything is stopped for a moment and a cache-line round trip is taken;
 * pairs where it moved, or in which other work took the processors, do not count and are repeated.
 */
#include "isolation.h"

#include "chan_pair.h"
#include "limits.h"
#include "rounds.h"
#include "subject.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_NS 20000000000u
#define PLACE_NS 5000000000u
#define STEP_US 500u
#define PROBE_US 2000u
#define OTHERS_MAX 0.2 /* processors that other work took in both phases of a pair, together */
#define WARM_PART 4u   /* of a phase's time, before it counts */

struct stage {
	struct iso_bench *ib;
	struct iso_shared *shared;
	char path[64];
	pid_t parent, herd[ISO_HERDS_MAX];
	uint32_t phase;
};

static pid_t start(const struct stage *s, int cpu)
{
	const pid_t pid = fork();

	if (pid < 0)
		die(BENCH_EXIT_MACHINE, "fork: %s", strerror(errno));
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (s->ib->opts.place.pin)
			(void)pin_to(cpu);
	}
	return pid;
}

/* Wait until a number in shared memory is what it should be; false when it takes too long. */
static bool until(const uint32_t *word, uint32_t value, uint64_t ns)
{
	const uint64_t end = now_ns() + ns;

	while (load32(word) != value) {
		if (now_ns() > end)
			return false;
		usleep(STEP_US);
	}
	return true;
}

static bool until_children(const struct stage *s, uint64_t count)
{
	const uint64_t end = now_ns() + PLACE_NS;

	while (load64(&s->shared->children) != count) {
		if (now_ns() > end)
			return false;
		usleep(STEP_US);
	}
	return true;
}

static uint32_t herd_size(const struct iso_bench *ib, uint32_t herd)
{
	const uint32_t others = ib->children - 1;

	return others / ib->herds + (herd < others % ib->herds);
}

static void open_stage(struct stage *s, struct iso_bench *ib)
{
	const struct place *const place = &ib->opts.place;

	memset(s, 0, sizeof(*s));
	s->ib = ib;
	pair_path(s->path, sizeof(s->path));
	s->shared = shared_map(sizeof(*s->shared));
	if (!s->shared)
		die(BENCH_EXIT_MACHINE, "no shared memory: %s", strerror(errno));
	s->parent = start(s, place->cpu_here);
	if (s->parent == 0) {
		iso_parent(s->shared, s->path, ib->children + 1);
		_exit(0);
	}
	for (uint32_t i = 0; i < ib->herds; i++) {
		s->herd[i] = start(s, place->cpu_there);
		if (s->herd[i] == 0) {
			iso_herd(s->shared, s->path, i, herd_size(ib, i));
			_exit(0);
		}
	}
	for (uint32_t i = 0; i < ib->herds; i++)
		if (!until(&s->shared->herd[i].ready, 1, START_NS))
			die(BENCH_EXIT_FAILED, "the children could not open their channels; "
					       "vmbusctl check tells of limits");
}

static void close_stage(struct stage *s)
{
	store32(&s->shared->stop, 1);
	for (uint32_t i = 0; i < s->ib->herds; i++) {
		(void)kill(s->herd[i], SIGKILL);
		(void)waitpid(s->herd[i], NULL, 0);
	}
	(void)waitpid(s->parent, NULL, 0);
	shared_unmap(s->shared, sizeof(*s->shared));
}

static void signal_all(const struct stage *s, int sig)
{
	(void)kill(s->parent, sig);
	for (uint32_t i = 0; i < s->ib->herds; i++)
		(void)kill(s->herd[i], sig);
}

/* The cache-line round trip, with everything else of ours stopped; ns, 0 when it failed. */
static double probe(const struct stage *s)
{
	struct rtt_result res;
	int err;

	signal_all(s, SIGSTOP);
	err = limit_line_rtt(&s->ib->opts.place, false, false, PROBE_US, &res);
	signal_all(s, SIGCONT);
	return err ? 0 : res.p50;
}

/* Busy time of the processors that we use, ns, in ticks of 10 ms. */
static uint64_t busy_ns(const struct place *place)
{
	FILE *f = fopen("/proc/stat", "re");
	unsigned long long v[8];
	uint64_t ticks = 0;
	char line[256];
	int cpu;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "cpu%d %llu %llu %llu %llu %llu %llu %llu %llu", &cpu, &v[0],
			   &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) == 9 &&
		    (!place->pin || cpu == place->cpu_here || cpu == place->cpu_there))
			ticks += v[0] + v[1] + v[2] + v[5] + v[6] + v[7];
	if (f)
		(void)fclose(f);
	return ticks * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

static uint64_t cpu_ns_of(pid_t pid)
{
	struct timespec ts = { 0, 0 };
	clockid_t id;

	if (clock_getcpuclockid(pid, &id) == 0)
		(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Busy time that was not ours: with the child in the tested place, which may be 0. */
static int64_t others_ns(const struct stage *s, pid_t placed)
{
	uint64_t own = cpu_ns_of(s->parent) + cpu_ns_of(getpid());

	for (uint32_t i = 0; i < s->ib->herds; i++)
		own += cpu_ns_of(s->herd[i]);
	if (placed)
		own += cpu_ns_of(placed);
	return (int64_t)busy_ns(&s->ib->opts.place) - (int64_t)own;
}

static void collect(const struct stage *s, uint64_t ns, struct iso_sample *sample)
{
	struct hist *const all = must_alloc(sizeof(*all));
	uint64_t done = 0;

	memset(all, 0, sizeof(*all));
	for (uint32_t i = 0; i < s->ib->herds; i++) {
		const struct iso_herd *const herd = &s->shared->herd[i];

		done += load64(&herd->done);
		all->count += herd->hist.count;
		for (uint32_t k = 0; k < HIST_BUCKETS; k++)
			all->bucket[k] += herd->hist.bucket[k];
	}
	sample->throughput = (double)done * 1e9 / (double)ns;
	sample->p99 = hist_percentile(all, 0.99);
	free(all);
}

/* One child of a kind in the tested place, for a while. */
static int phase(struct stage *s, enum iso_kind kind, struct iso_sample *sample)
{
	const uint32_t us = s->ib->ms * 1000u;
	uint64_t from, took, steps;
	int64_t others;
	pid_t pid;
	bool good;

	store32(&s->shared->placed, 0);
	pid = start(s, s->ib->opts.place.cpu_there);
	if (pid == 0) {
		iso_placed(s->shared, s->path, kind);
		_exit(0);
	}
	good = until(&s->shared->placed, 1, PLACE_NS);
	usleep(us / WARM_PART);
	steps = load64(&s->shared->steps);
	others = others_ns(s, pid);
	store32(&s->shared->measure, ++s->phase);
	from = now_ns();
	usleep(us);
	store32(&s->shared->measure, 0);
	took = now_ns() - from;
	others = others_ns(s, pid) - others;
	sample->others = (double)others / (double)took;
	sample->steps = (double)(load64(&s->shared->steps) - steps) * 1e9 / (double)took;
	collect(s, took, sample);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	good &= until_children(s, s->ib->children - 1); /* it is gone, and nothing of it is left */
	return good && sample->throughput > 0 ? 0 : -1;
}

static void look_at_parent(struct stage *s, uint64_t *anon, uint32_t *fds)
{
	const uint32_t ask = load32(&s->shared->ask) + 1;

	store32(&s->shared->ask, ask);
	if (!until(&s->shared->told, ask, PLACE_NS))
		die(BENCH_EXIT_FAILED, "the parent does not dispatch any more");
	*anon = s->shared->anon_bytes;
	*fds = s->shared->fds;
}

/* One pair; false when it could not be run. */
static bool pair(struct stage *s, struct iso_cell *cell)
{
	const double before = probe(s);
	const uint32_t i = cell->pairs;
	double after;

	if (phase(s, ISO_HONEST, &cell->beside[0][i]) || phase(s, cell->kind, &cell->beside[1][i]))
		return false;
	after = probe(s);
	cell->steady[i] = before > 0 && after > 0 && before <= after * STEADY_RATIO &&
			  after <= before * STEADY_RATIO &&
			  cell->beside[0][i].others + cell->beside[1][i].others <= OTHERS_MAX;
	cell->line_rtt = after;
	cell->steps = cell->beside[1][i].steps;
	cell->pairs++;
	return true;
}

static void measure(struct stage *s, struct iso_cell *cell)
{
	struct iso_bench *const ib = s->ib;
	uint32_t steady = 0, tries;

	fprintf(stderr, "vmbus-bench: %s ", iso_names[cell->kind]);
	look_at_parent(s, &cell->anon_before, &cell->fds_before);
	while (steady < ib->pairs &&
	       cell->pairs < ib->pairs + (ib->quick ? 0 : ROUNDS_REPEAT_MAX)) {
		if (!pair(s, cell)) {
			fputs("failed", stderr);
			ib->results.failed_runs++;
			break;
		}
		steady += cell->steady[cell->pairs - 1];
		fputc(cell->steady[cell->pairs - 1] ? '.' : '~', stderr);
	}
	cell->repeated = cell->pairs > ib->pairs ? cell->pairs - ib->pairs : 0;
	ib->results.repeated += cell->repeated;
	look_at_parent(s, &cell->anon_after, &cell->fds_after);
	/* A child that was killed while it attached is no child yet; its connection goes a moment later. */
	for (tries = 0; tries < 100 && cell->fds_after > cell->fds_before; tries++) {
		usleep(10000);
		look_at_parent(s, &cell->anon_after, &cell->fds_after);
	}
	fputc('\n', stderr);
}

/* Everything that happens once happens before anything is compared. */
static void warm_up(struct stage *s)
{
	struct iso_sample none;
	uint32_t kind;

	for (kind = 0; kind < ISO_KINDS; kind++)
		if (kind == ISO_HONEST || s->ib->kind[kind])
			(void)phase(s, kind, &none);
}

int isolation_main(int argc, char **argv)
{
	struct iso_bench *const ib = must_alloc(sizeof(*ib));
	const uint64_t from = now_ns();
	struct stage stage;
	bool bad;

	memset(ib, 0, sizeof(*ib));
	iso_options(ib, argc, argv);
	options_check_machine(&ib->opts);
	ib->results.command = "isolation";
	open_stage(&stage, ib);
	warm_up(&stage);
	for (uint32_t kind = ISO_HONEST + 1; kind < ISO_KINDS; kind++) {
		ib->cell[kind].kind = kind;
		if (ib->kind[kind])
			measure(&stage, &ib->cell[kind]);
	}
	close_stage(&stage);
	ib->results.seconds = (double)(now_ns() - from) / 1e9;
	iso_report(ib, ib->opts.json && !strcmp(ib->opts.json, "-") ? stderr : stdout);
	if (ib->opts.json && json_write(&ib->results, &ib->opts, ib->opts.json))
		die(BENCH_EXIT_FAILED, "--json %s: %s", ib->opts.json, strerror(errno));
	if (ib->opts.svg && iso_svg(ib, ib->opts.svg))
		die(BENCH_EXIT_FAILED, "--svg %s: %s", ib->opts.svg, strerror(errno));
	bad = ib->results.failed_runs || ib->grown;
	results_free(&ib->results);
	free(ib);
	return bad ? BENCH_EXIT_FAILED : BENCH_EXIT_OK;
}
