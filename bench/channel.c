/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench channel: what a channel costs above its rings.  Packets through the API of a device
 * beside the bare ring, wake-ups beside raw eventfds, and channels opened by the thousand.
 */
#include "channel.h"

#include "chan_pair.h"
#include "rounds.h"
#include "words.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RING_KIB 1024u /* of the streams */
#define WAKE_PAYLOAD 8u
#define WAKE_US 60000u
#define CHANNELS_MAX 2047u
#define QUICK_LIMIT_S 10u /* repeats of unsteady pairs end when a call has run for so long */
#define DEFAULT_LIMIT_S 40u
#define CYCLES 200u /* openings and closings of one channel */

static const uint32_t default_counts[] = { 1, 16, 256, 2047 };

static void channel_usage(void)
{
	puts("usage: vmbus-bench channel [options]\n"
	     "\n"
	     "Measures a channel between two processes, against the bare ring and raw eventfds.\n"
	     "\n"
	     "  --quick           fewer rounds, 1 and 16 channels; about 15 s\n"
	     "  --channels LIST   how many channels to open at once, 1 to 2047, up to 8 numbers\n"
	     "  --runs N          rounds of each comparison, 1 to 999 (9)\n"
	     "  --ms N            length of one throughput run, 1 to 10000 (40)\n"
	     "  --json FILE       write the results there; - is standard output\n"
	     "  --svg FILE        write a drawing\n"
	     "  --no-pin          leave the processes where the system puts them\n"
	     "  --help            this text");
}

static void counts_parse(struct channel_run *run, char *text)
{
	char *save = NULL, *at;

	run->count = 0;
	for (at = strtok_r(text, ",", &save); at; at = strtok_r(NULL, ",", &save)) {
		if (run->count == sizeof(run->counts) / sizeof(run->counts[0]))
			die(BENCH_EXIT_USAGE, "--channels: more than 8 numbers");
		run->counts[run->count++] = word_number("--channels", at, 1, CHANNELS_MAX);
	}
	if (!run->count)
		die(BENCH_EXIT_USAGE, "--channels: no number");
}

static void parse(struct channel_run *run, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "quick", no_argument, NULL, 'q' },
		{ "channels", required_argument, NULL, 'c' },
		{ "runs", required_argument, NULL, 'r' },
		{ "ms", required_argument, NULL, 'm' },
		{ "json", required_argument, NULL, 'j' },
		{ "svg", required_argument, NULL, 's' },
		{ "no-pin", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct options *o = &run->opts;
	bool counts_given = false, runs_given = false;
	int opt;

	o->runs = 9;
	o->ms = 40;
	o->node = -1;
	o->place.pin = true;
	o->place.cpu_here = -1;
	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (opt) {
		case 'q':
			o->quick = true;
			break;
		case 'c':
			counts_parse(run, optarg);
			counts_given = true;
			break;
		case 'r':
			o->runs = word_number("--runs", optarg, 1, 999);
			runs_given = true;
			break;
		case 'm':
			o->ms = word_number("--ms", optarg, 1, 10000);
			break;
		case 'j':
			o->json = optarg;
			break;
		case 's':
			o->svg = optarg;
			break;
		case 'n':
			o->place.pin = false;
			break;
		case 'h':
			channel_usage();
			exit(BENCH_EXIT_OK);
		default:
			die(BENCH_EXIT_USAGE, "see vmbus-bench channel --help");
		}
	}
	if (optind < argc)
		die(BENCH_EXIT_USAGE, "%s: unexpected argument; see vmbus-bench channel --help",
		    argv[optind]);
	if (o->quick && !runs_given)
		o->runs = 5;
	if (counts_given)
		return;
	run->count = o->quick ? 2 : sizeof(default_counts) / sizeof(default_counts[0]);
	memcpy(run->counts, default_counts, run->count * sizeof(run->counts[0]));
}

/* ---- packets ---- */

static void run_stream(struct contestant *c, struct sample *sample)
{
	struct run_plan plan = { c->ctx,   c->cell,    c->place, RUN_THROUGHPUT,
				 c->chunk, c->us / 4u, c->us };
	struct run_result res = { 0 };

	if (run_once(&plan, &res) || !res.valid) {
		c->error = res.corrupt	 ? "payloads differ from what was sent"
			   : res.stalled ? "stalled"
					 : "cannot run";
		c->error_no = res.corrupt || res.stalled ? 0 : errno;
		progress.failed++;
		return;
	}
	sample->valid = true;
	sample->value[0] = res.packets_per_s;
	sample->rtt_before = res.rtt_before;
	sample->rtt_after = res.rtt_after;
	/* The sender opens its channel first, asleep: its processor time says nothing here. */
	sample->on_cpu = plan.place->pin ? res.here_on_cpu : 1;
}

static void join(struct rounds *r, struct channel_run *run,
		 void (*fn)(struct contestant *, struct sample *), const void *ctx,
		 const struct cell *cell)
{
	struct contestant *c = &r->c[r->count++];

	c->run = fn;
	c->ctx = ctx;
	c->cell = cell;
	c->place = &run->opts.place;
	c->us = run->opts.ms * 1000u;
}

static struct result result_of(const struct rounds *r, uint32_t i, const struct cell *cell,
			       const char *subject)
{
	struct result res = { .subject = subject, .version = "-", .cell = *cell };

	res.line_rtt = rounds_line_rtt(r, i);
	res.unsteady = rounds_unsteady(r, i);
	return res;
}

static void warn_failed(const struct rounds *r, uint32_t i, const char *name)
{
	if (r->c[i].error)
		fprintf(stderr, "vmbus-bench: %s: %s%s%s\n", name, r->c[i].error,
			r->c[i].error_no ? ": " : "",
			r->c[i].error_no ? strerror(r->c[i].error_no) : "");
}

/* ns that a packet takes more than through the bare ring, of the same round. */
static struct spread cost_of(const struct rounds *r, uint32_t i)
{
	double values[ROUNDS_MAX];
	uint32_t n = 0;

	for (uint32_t k = 0; k < r->done; k++) {
		const struct sample *ring = &r->c[0].samples[k], *ours = &r->c[i].samples[k];

		if (ring->valid && ours->valid)
			values[n++] = 1e9 / ours->value[0] - 1e9 / ring->value[0];
	}
	return spread_of(values, n);
}

static void measure_packets(struct channel_run *run, uint32_t batch)
{
	const struct cell cell = { .payload = CHANNEL_PAYLOAD,
				   .batch = batch,
				   .batch_used = batch,
				   .ring_bytes = RING_KIB * 1024u,
				   .producers = 1,
				   .window = BENCH_MIRRORED,
				   .node = -1 };
	const struct subject *const subjects[] = { &subject_vmbus, &subject_channel,
						   &subject_channel_each };
	struct rounds *r = must_alloc(sizeof(*r));

	memset(r, 0, sizeof(*r));
	r->wanted = run->opts.runs;
	for (uint32_t i = 0; i < 3; i++)
		join(r, run, run_stream, subjects[i], &cell);
	rounds_run(r);
	for (uint32_t i = 0; i < 3; i++) {
		struct result res = result_of(r, i, &cell, subjects[i]->name);

		warn_failed(r, i, subjects[i]->name);
		res.version = subjects[i]->version();
		res.mode = "copy";
		res.metric = "throughput";
		res.unit = "packets/s";
		res.value = rounds_value(r, i, 0, 1);
		if (i)
			res.ratio = rounds_ratio(r, i, 0);
		if (res.value.runs)
			results_add(&run->results, &res);
		if (!i || !res.value.runs)
			continue;
		memset(&res.ratio, 0, sizeof(res.ratio));
		res.metric = "cost";
		res.unit = "ns/packet";
		res.value = cost_of(r, i);
		results_add(&run->results, &res);
	}
	run->results.repeated += r->repeated;
	rounds_free(r);
	free(r);
}

/* ---- wake-ups ---- */

static void take_rtt(struct contestant *c, struct sample *sample, int err,
		     const struct rtt_result *res)
{
	if (err || !res->valid) {
		c->error = "cannot run";
		c->error_no = err ? errno : 0;
		progress.failed++;
		return;
	}
	sample->valid = true;
	sample->value[0] = res->p50;
	sample->value[1] = res->p99;
	sample->value[2] = res->p999;
	sample->rtt_before = res->rtt_before;
	sample->rtt_after = res->rtt_after;
	sample->on_cpu = 1;
}

static void run_wake(struct contestant *c, struct sample *sample)
{
	struct rtt_result res = { 0 };

	take_rtt(c, sample, pair_wake(c->cell, c->place, WAKE_US, &res), &res);
}

static void run_eventfd(struct contestant *c, struct sample *sample)
{
	struct rtt_result res = { 0 };

	take_rtt(c, sample, limit_eventfd(c->place, false, WAKE_US, &res), &res);
}

static void measure_wake(struct channel_run *run)
{
	static const char *const metrics[] = { "wake_p50", "wake_p99", "wake_p999" };
	static const char *const names[] = { "vmbus.channel", "limit.eventfd" };
	const struct cell cell = { .payload = WAKE_PAYLOAD,
				   .batch = 1,
				   .batch_used = 1,
				   .ring_bytes = 64u * 1024u,
				   .producers = 1,
				   .window = BENCH_MIRRORED,
				   .node = -1 };
	struct rounds *r = must_alloc(sizeof(*r));

	memset(r, 0, sizeof(*r));
	r->wanted = run->opts.runs;
	join(r, run, run_wake, NULL, &cell);
	join(r, run, run_eventfd, NULL, &cell);
	rounds_run(r);
	for (uint32_t i = 0; i < 2; i++) {
		struct result res = result_of(r, i, &cell, names[i]);

		warn_failed(r, i, names[i]);
		res.mode = "sleep";
		res.unit = "ns";
		for (uint32_t v = 0; v < 3; v++) {
			res.metric = metrics[v];
			res.value = rounds_value(r, i, v, 1);
			memset(&res.ratio, 0, sizeof(res.ratio));
			if (i)
				res.ratio = rounds_ratio(r, i, v);
			if (res.value.runs)
				results_add(&run->results, &res);
		}
	}
	run->results.repeated += r->repeated;
	rounds_free(r);
	free(r);
}

/* ---- many channels ---- */

/* Resident bytes of a process that are not shared with others, and of what it shares. */
static double resident(pid_t pid)
{
	char path[64], line[256];
	double bytes = 0;
	unsigned long kib;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Pss: %lu kB", &kib) == 1)
			bytes = (double)kib * 1024;
	if (f)
		fclose(f);
	return bytes;
}

static _Noreturn void many_parent(const char *path, uint32_t count, int cpu)
{
	struct pair_server ps;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (cpu >= 0)
		(void)pin_to(cpu);
	if (pair_listen(&ps, path, count))
		_exit(1);
	while (!ps.left)
		(void)vmbus_shm_server_run(ps.server, 100000000u);
	pair_unlisten(&ps);
	_exit(0);
}

/* Opening times of one channel, again and again; ns. */
static int open_cycles(struct pair_client *pc, double *ns, uint32_t *n)
{
	struct vmbus_vsc *vsc;

	for (*n = 0; *n < CYCLES; (*n)++) {
		struct vmbus_vsc_opts opts = { .send_bytes = CHANNEL_SMALL_RING,
					       .recv_bytes = CHANNEL_SMALL_RING };
		const uint64_t from = now_ns();

		vsc = pair_open(pc, 0, &opts);
		ns[*n] = (double)(now_ns() - from);
		if (!vsc || vmbus_vsc_close(vsc) ||
		    vmbus_vsc_wait(vsc, VMBUS_VSC_OFFERED, PAIR_WAIT_NS) < 0)
			return -1;
	}
	return 0;
}

struct many {
	double open_ns[CYCLES];
	uint32_t cycles;
	double per_s;
	double bytes; /* for each channel, both processes together */
};

/* In the child: open count channels one after the other. */
static int many_open(struct pair_client *pc, pid_t parent, uint32_t count, struct many *many)
{
	const double before = resident(getpid()) + resident(parent);
	const uint64_t from = now_ns();
	uint64_t took;

	for (uint32_t i = 0; i < count; i++) {
		struct vmbus_vsc_opts opts = { .send_bytes = CHANNEL_SMALL_RING,
					       .recv_bytes = CHANNEL_SMALL_RING };

		if (!pair_open(pc, i, &opts))
			return -1;
	}
	took = now_ns() - from;
	many->per_s = (double)count * 1e9 / (double)took;
	many->bytes = (resident(getpid()) + resident(parent) - before) / (double)count;
	return 0;
}

static int many_once(struct channel_run *run, uint32_t count, struct many *many)
{
	const uint64_t rings = (uint64_t)count * 4u * 4096u;
	const bool pin = run->opts.place.pin;
	struct pair_client pc;
	int status = -1, err = -1;
	char path[64];
	pid_t pid;

	pair_path(path, sizeof(path));
	pid = fork();
	if (pid < 0)
		return -1;
	if (!pid)
		many_parent(path, count, pin ? run->opts.place.cpu_there : -1);
	if (pair_attach(&pc, path, rings * 2u) == 0) {
		err = count == 1 ? open_cycles(&pc, many->open_ns, &many->cycles) : 0;
		if (!err)
			err = many_open(&pc, pid, count, many);
		vmbus_shm_detach(pc.attach);
	} else {
		kill(pid, SIGKILL);
	}
	waitpid(pid, &status, 0);
	return err || status ? -1 : 0;
}

static void measure_many(struct channel_run *run, uint32_t count)
{
	struct result res = { .subject = "vmbus.channel", .version = subject_vmbus.version() };
	const uint32_t runs = run->opts.quick ? 3 : 5;
	double opens[8], bytes[8], times[8 * CYCLES];
	struct many many = { .cycles = 0 };
	uint32_t n = 0, t = 0;

	res.cell = (struct cell){ .batch = 1, .batch_used = 1, .ring_bytes = CHANNEL_SMALL_RING };
	res.cell.producers = 1;
	res.cell.window = BENCH_MIRRORED;
	res.cell.node = -1;
	res.channels = count;
	res.mode = "open";
	for (; n < runs; n++) {
		if (many_once(run, count, &many)) {
			fprintf(stderr,
				"vmbus-bench: %u channels: cannot open them; "
				"vmbusctl check shows the limits\n",
				count);
			progress.failed++;
			return;
		}
		opens[n] = many.per_s;
		bytes[n] = many.bytes;
		for (uint32_t i = 0; i < many.cycles; i++)
			times[t++] = many.open_ns[i];
	}
	if (t) {
		res.metric = "open_time";
		res.unit = "ns";
		res.value = spread_of(times, t);
		results_add(&run->results, &res);
	}
	res.metric = "opens";
	res.unit = "1/s";
	res.value = spread_of(opens, n);
	results_add(&run->results, &res);
	res.metric = "memory";
	res.unit = "B";
	res.value = spread_of(bytes, n);
	results_add(&run->results, &res);
}

int channel_main(int argc, char **argv)
{
	struct channel_run *run = must_alloc(sizeof(*run));
	FILE *to;

	memset(run, 0, sizeof(*run));
	parse(run, argc, argv);
	options_check_machine(&run->opts);
	run->results.command = "channel";
	progress.from_ns = now_ns();
	progress.until_ns = progress.from_ns + (run->opts.quick ? QUICK_LIMIT_S : DEFAULT_LIMIT_S) *
						       (uint64_t)1000000000u;
	progress.planned = run->opts.runs * 8u; /* three subjects twice, two kinds of wake-up */
	fprintf(stderr, "vmbus-bench: packets, wake-ups, then %u sizes of bus\n", run->count);
	measure_packets(run, 32);
	measure_packets(run, 1);
	measure_wake(run);
	for (uint32_t i = 0; i < run->count; i++) {
		fprintf(stderr, "vmbus-bench: opening %u channels\n", run->counts[i]);
		measure_many(run, run->counts[i]);
	}
	progress_end();
	run->results.failed_runs = progress.failed;
	run->results.seconds = (double)(now_ns() - progress.from_ns) / 1e9;
	to = run->opts.json && !strcmp(run->opts.json, "-") ? stderr : stdout;
	channel_report(run, to);
	if (run->opts.json && json_write(&run->results, &run->opts, run->opts.json))
		die(BENCH_EXIT_FAILED, "--json %s: %s", run->opts.json, strerror(errno));
	if (run->opts.svg && channel_svg(run, run->opts.svg))
		die(BENCH_EXIT_FAILED, "--svg %s: %s", run->opts.svg, strerror(errno));
	results_free(&run->results);
	free(run);
	return progress.failed ? BENCH_EXIT_FAILED : BENCH_EXIT_OK;
}
