/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench resume: a device provider is killed and started again, or replaced by another one,
 * while a child talks to its device; how long the child waits (pause), and how long it takes until a
 * death is noticed (notice): a provider's and a child's by the parent, a parent's by its child.
 */
#include "resume.h"

#include "bars.h"
#include "chan_pair.h"
#include "run.h"
#include "subject.h"
#include "words.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 50u
#define ROUNDS_QUICK 5u
#define STEP_US 100u
#define DEADLINE_NS 10000000000u
#define SETTLED 200u /* answers after which all is as before */

enum series {
	PAUSE_KILL,
	PAUSE_HANDOVER,
	SWITCH,
	NOTICE_PROVIDER,
	NOTICE_CHILD,
	NOTICE_PARENT,
	SERIES
};

static const struct {
	const char *metric, *mode;
	double goal; /* ns */
} series_of[SERIES] = {
	[PAUSE_KILL] = { "pause", "kill", 50e6 },
	[PAUSE_HANDOVER] = { "pause", "hand-over", 1e6 },
	[SWITCH] = { "pause", "switch", 1e6 },
	[NOTICE_PROVIDER] = { "notice", "provider", 5e6 },
	[NOTICE_CHILD] = { "notice", "child", 5e6 },
	[NOTICE_PARENT] = { "notice", "parent", 5e6 },
};

struct resume_bench {
	struct options opts; /* for the report */
	struct results results;
	struct resume_shared *shared;
	uint32_t rounds;
	bool take_over;
	const char *serve; /* we are the provider of this parent */
	char path[64];
	pid_t parent, child, provider;
	double value[SERIES][RESUME_ROUNDS_MAX];
	uint32_t count[SERIES];
};

static void usage(void)
{
	fputs("usage: vmbus-bench resume [options]\n"
	      "\n"
	      "Kills and replaces the process of a device while a child talks to it, and measures\n"
	      "how long the child waits, and how long a death goes unnoticed.\n"
	      "\n"
	      "  --quick          5 rounds\n"
	      "  --rounds N       of each kind, 1 to 1000; 50\n"
	      "  --json FILE      write results as JSON, schema vmbus-bench/1; - for stdout\n"
	      "  --svg FILE       write a drawing\n"
	      "  --help           this text\n"
	      "\n"
	      "Exit status: 0 measured, whatever the figures; 1 a round failed, or an answer was\n"
	      "lost or wrong; 2 bad option; 3 this machine cannot measure.\n",
	      stdout);
}

/* ---- processes ---- */

static pid_t start(void)
{
	const pid_t pid = fork();

	if (pid < 0)
		die(BENCH_EXIT_MACHINE, "fork: %s", strerror(errno));
	if (pid == 0)
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* A new program, as a supervisor starts it. */
static pid_t start_provider(const struct resume_bench *rb, bool take_over)
{
	const pid_t pid = start();

	if (pid == 0) {
		(void)execl("/proc/self/exe", "vmbus-bench", "resume", "--serve", rb->path,
			    take_over ? "--take-over" : NULL, NULL);
		_exit(BENCH_EXIT_MACHINE);
	}
	return pid;
}

static void end(pid_t pid)
{
	if (pid <= 0)
		return;
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

static bool until32(const uint32_t *word, uint32_t value)
{
	const uint64_t late = now_ns() + DEADLINE_NS;

	while (load32(word) != value && now_ns() < late)
		usleep(STEP_US);
	return load32(word) == value;
}

/* Until a number in shared memory is at least this. */
static bool until64(const uint64_t *word, uint64_t least)
{
	const uint64_t late = now_ns() + DEADLINE_NS;

	while (load64(word) < least && now_ns() < late)
		usleep(STEP_US);
	return load64(word) >= least;
}

static bool open_all(struct resume_bench *rb)
{
	struct resume_shared *const shared = rb->shared;

	rb->parent = start();
	if (rb->parent == 0) {
		resume_parent(shared, rb->path);
		_exit(0);
	}
	if (!until32(&shared->listening, 1))
		return false;
	rb->provider = start_provider(rb, false);
	rb->child = start();
	if (rb->child == 0) {
		resume_child(shared, rb->path);
		_exit(0);
	}
	return until32(&shared->open, 1) && until64(&shared->done, SETTLED);
}

static void add(struct resume_bench *rb, enum series series, double ns)
{
	rb->value[series][rb->count[series]++] = ns;
}

/* ---- rounds ---- */

/* The longest time without an answer that touches a span of time. */
static uint64_t longest_gap(const struct resume_shared *shared, uint64_t from, uint64_t to)
{
	const uint64_t count = load64(&shared->gaps);
	uint64_t i, longest = 0;

	for (i = count > RESUME_GAPS ? count - RESUME_GAPS : 0; i < count; i++) {
		const struct resume_gap *const gap = &shared->gap[i % RESUME_GAPS];

		if (gap->to >= from && gap->from <= to && gap->to - gap->from > longest)
			longest = gap->to - gap->from;
	}
	return longest;
}

static bool kill_round(struct resume_bench *rb)
{
	struct resume_shared *const shared = rb->shared;
	const uint64_t deaths = load64(&shared->deaths);
	const uint64_t pauses = load64(&shared->pause_to);
	uint64_t at;

	at = now_ns();
	(void)kill(rb->provider, SIGKILL);
	(void)waitpid(rb->provider, NULL, 0);
	rb->provider = start_provider(rb, false);
	if (!until64(&shared->deaths, deaths + 1) || !until64(&shared->pause_to, pauses + 1) ||
	    !until64(&shared->done, load64(&shared->done) + SETTLED) || !load32(&shared->open))
		return false;
	add(rb, PAUSE_KILL, (double)longest_gap(shared, at, shared->pause_to));
	at = load64(&shared->death_at) > at ? load64(&shared->death_at) - at : 0;
	add(rb, NOTICE_PROVIDER, (double)at);
	return true;
}

static bool handover_round(struct resume_bench *rb)
{
	struct resume_shared *const shared = rb->shared;
	const uint64_t handovers = load64(&shared->handovers);
	const uint64_t pauses = load64(&shared->pause_to);
	const pid_t old = rb->provider;
	uint64_t to;

	rb->provider = start_provider(rb, true);
	if (!until64(&shared->handovers, handovers + 1) ||
	    !until64(&shared->pause_to, pauses + 1) ||
	    !until64(&shared->done, load64(&shared->done) + SETTLED) || !load32(&shared->open))
		return false;
	to = shared->pause_to;
	add(rb, PAUSE_HANDOVER, (double)longest_gap(shared, to - shared->pause_ns, to));
	add(rb, SWITCH, (double)shared->pause_ns);
	end(old);
	return true;
}

static bool child_round(struct resume_bench *rb)
{
	struct resume_shared *const shared = rb->shared;
	const uint64_t died = load64(&shared->died);
	uint64_t at;
	pid_t pid;

	store32(&shared->ready, 0);
	pid = start();
	if (pid == 0) {
		resume_victim(shared, rb->path);
		_exit(0);
	}
	if (!until32(&shared->ready, 1)) {
		end(pid);
		return false;
	}
	at = now_ns();
	end(pid);
	if (!until64(&shared->died, died + 1))
		return false;
	add(rb, NOTICE_CHILD, (double)(shared->died_at > at ? shared->died_at - at : 0));
	return true;
}

static pid_t start_parent(const char *path)
{
	const pid_t pid = start();
	struct pair_server ps;

	if (pid)
		return pid;
	if (pair_listen(&ps, path, 1))
		_exit(BENCH_EXIT_FAILED);
	for (;;)
		(void)vmbus_shm_server_run(ps.server, 1000000000);
}

static bool parent_round(struct resume_bench *rb)
{
	struct resume_shared *const shared = rb->shared;
	char path[64];
	pid_t parent, child;
	uint64_t at;
	bool good;

	pair_path(path, sizeof(path));
	store32(&shared->ready, 0);
	store64(&shared->noticed_at, 0);
	parent = start_parent(path);
	child = start();
	if (child == 0) {
		resume_orphan(shared, path);
		_exit(0);
	}
	good = until32(&shared->ready, 1);
	at = now_ns();
	end(parent);
	good = good && until64(&shared->noticed_at, 1);
	end(child);
	(void)unlink(path);
	if (good)
		add(rb, NOTICE_PARENT, (double)(shared->noticed_at - at));
	return good;
}

static void run_rounds(struct resume_bench *rb, const char *what,
		       bool (*round)(struct resume_bench *rb))
{
	fprintf(stderr, "vmbus-bench: %s ", what);
	for (uint32_t i = 0; i < rb->rounds; i++) {
		if (!round(rb)) {
			fputs("failed", stderr);
			rb->results.failed_runs++;
			break;
		}
		fputc('.', stderr);
	}
	fputc('\n', stderr);
}

/* ---- the report ---- */

static void report(struct resume_bench *rb, FILE *to)
{
	fprintf(to, "\n%-8s %-10s %12s %12s %12s %6s\n", "metric", "mode", "median us", "min us",
		"max us", "rounds");
	for (uint32_t s = 0; s < SERIES; s++) {
		struct result r = { .subject = "vmbus.provider",
				    .version = subject_vmbus.version(),
				    .metric = series_of[s].metric,
				    .mode = series_of[s].mode,
				    .unit = "ns",
				    .cell = { .payload = 8,
					      .batch = 16,
					      .batch_used = 16,
					      .ring_bytes = 16384,
					      .producers = 1,
					      .node = -1 },
				    .channels = 1 };
		struct goal goal = { .unit = "ns", .at_most = true };
		bool met;

		if (!rb->count[s])
			continue;
		r.value = spread_of(rb->value[s], rb->count[s]);
		results_add(&rb->results, &r);
		goal.got = r.value.median;
		goal.bound = series_of[s].goal;
		met = results_goal(&rb->results, &goal, "%s, %s", r.metric, r.mode);
		fprintf(to, "%-8s %-10s %12.1f %12.1f %12.1f %6u  %s: below %g ms\n", r.metric,
			r.mode, r.value.median / 1e3, r.value.min / 1e3, r.value.max / 1e3,
			r.value.runs, met ? "met" : "NOT MET", series_of[s].goal / 1e6);
	}
	fprintf(to, "\nanswers: %llu, wrong %llu\n", (unsigned long long)rb->shared->done,
		(unsigned long long)rb->shared->wrong);
}

static int draw(struct resume_bench *rb, const char *path)
{
	struct bars *const bars = bars_new("Times in ms of a child's pause, and until a death is "
					   "noticed");

	for (enum series s = 0; s < SERIES; s++) {
		struct spread value;

		if (!rb->count[s])
			continue;
		value = spread_of(rb->value[s], rb->count[s]);
		bars_group(bars, series_of[s].goal / 1e6, "%s, %s", series_of[s].metric,
			   series_of[s].mode);
		bars_add(bars, "vmbus.provider", &value, 1e6, 2);
	}
	return bars_write(bars, path);
}

/* ---- options ---- */

enum {
	OPT_QUICK = 256,
	OPT_ROUNDS,
	OPT_JSON,
	OPT_SVG,
	OPT_SERVE,
	OPT_TAKE_OVER,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "quick", no_argument, NULL, OPT_QUICK },
	{ "rounds", required_argument, NULL, OPT_ROUNDS },
	{ "json", required_argument, NULL, OPT_JSON },
	{ "svg", required_argument, NULL, OPT_SVG },
	{ "serve", required_argument, NULL, OPT_SERVE }, /* for ourselves */
	{ "take-over", no_argument, NULL, OPT_TAKE_OVER },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static void take(struct resume_bench *rb, int c, const char *arg)
{
	switch (c) {
	case OPT_QUICK:
		rb->rounds = ROUNDS_QUICK;
		break;
	case OPT_ROUNDS:
		rb->rounds = word_number("--rounds", arg, 1, RESUME_ROUNDS_MAX);
		break;
	case OPT_JSON:
		rb->opts.json = arg;
		break;
	case OPT_SVG:
		rb->opts.svg = arg;
		break;
	case OPT_SERVE:
		rb->serve = arg;
		break;
	case OPT_TAKE_OVER:
		rb->take_over = true;
		break;
	case OPT_HELP:
		usage();
		exit(BENCH_EXIT_OK);
	default:
		die(BENCH_EXIT_USAGE, "see vmbus-bench resume --help");
	}
}

static void parse(struct resume_bench *rb, int argc, char **argv)
{
	int c;

	rb->rounds = ROUNDS;
	rb->opts.node = -1;
	rb->opts.place.cpu_here = rb->opts.place.cpu_there = -1;
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take(rb, c, optarg);
	if (optind < argc)
		die(BENCH_EXIT_USAGE, "%s: expected options only", argv[optind]);
	word_writable("--json", rb->opts.json);
	word_writable("--svg", rb->opts.svg);
	rb->opts.runs = rb->rounds;
}

static void measure(struct resume_bench *rb)
{
	pair_path(rb->path, sizeof(rb->path));
	rb->shared = shared_map(sizeof(*rb->shared));
	if (!rb->shared)
		die(BENCH_EXIT_MACHINE, "no shared memory: %s", strerror(errno));
	if (open_all(rb)) {
		run_rounds(rb, "hand-over", handover_round);
		run_rounds(rb, "kill of the provider", kill_round);
		run_rounds(rb, "kill of a child", child_round);
	} else {
		fputs("vmbus-bench: the child could not open the provider's channel\n", stderr);
		rb->results.failed_runs++;
	}
	run_rounds(rb, "kill of a parent", parent_round);
	store32(&rb->shared->stop, 1);
	end(rb->child);
	end(rb->provider);
	end(rb->parent);
	(void)unlink(rb->path);
}

int resume_main(int argc, char **argv)
{
	struct resume_bench *const rb = must_alloc(sizeof(*rb));
	const uint64_t from = now_ns();
	bool bad;

	memset(rb, 0, sizeof(*rb));
	parse(rb, argc, argv);
	if (rb->serve)
		return resume_serve(rb->serve, rb->take_over);
	rb->results.command = "resume";
	measure(rb);
	rb->results.seconds = (double)(now_ns() - from) / 1e9;
	report(rb, rb->opts.json && !strcmp(rb->opts.json, "-") ? stderr : stdout);
	if (rb->opts.json && json_write(&rb->results, &rb->opts, rb->opts.json))
		die(BENCH_EXIT_FAILED, "--json %s: %s", rb->opts.json, strerror(errno));
	if (rb->opts.svg && draw(rb, rb->opts.svg))
		die(BENCH_EXIT_FAILED, "--svg %s: %s", rb->opts.svg, strerror(errno));
	bad = rb->results.failed_runs || rb->shared->wrong;
	results_free(&rb->results);
	free(rb);
	return bad ? BENCH_EXIT_FAILED : BENCH_EXIT_OK;
}
