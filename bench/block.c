/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench block: disks behind a channel, behind sockets and queues that people use today, and in
 * the kernel, all under the same load, in rounds.  Each server has the far processor and stands still
 * while another one is measured.
 */
#include "block_run.h"

#include "limits.h"
#include "words.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define PROBE_US 300u
#define RUNS 9u
#define QUICK_RUNS 3u
#define RUN_MS 50u
#define QUICK_RUN_MS 25u
#define QUICK_LIMIT_S 25u /* repeats of unsteady pairs end then */
#define DEFAULT_LIMIT_S 150u
#define MIB 256u
#define QUICK_MIB 64u

#ifdef VMBUS_BENCH_HAVE_NBD
#define NBDKIT &block_nbdkit
#else
#define NBDKIT NULL
#endif
#ifdef VMBUS_BENCH_HAVE_URING
#define URING &block_uring
#else
#define URING NULL
#endif

const struct block_entry block_entries[] = {
	{ &block_vmbus, "vmbus.block", NULL, NULL, BLOCK_NO_GOAL, 0, 0, true },
	{ &block_vmbus_sleep, "vmbus.block-sleep", NULL, NULL, BLOCK_NO_GOAL, 0, 0, true },
	{ NBDKIT, "nbdkit", "nbdkit, libnbd-dev", "vmbus.block", BLOCK_TIMES, 5, 0, true },
	{ &block_vhost, "vhost-user-blk", "qemu-system-common", "vmbus.block", BLOCK_TIMES, 2, 0,
	  true },
	{ URING, "limit.io_uring", "liburing-dev", "vmbus.block", BLOCK_NO_GOAL, 0, 0, true },
	{ &block_psync, "limit.pread", NULL, "vmbus.block", BLOCK_NO_GOAL, 0, 0, true },
	{ &block_vmbus_null, "vmbus.block-null", NULL, NULL, BLOCK_NO_GOAL, 0, 0, false },
	{ &block_vhost_null, "vhost-user-blk-null", "qemu-system-common", "vmbus.block-null",
	  BLOCK_TIMES, 1, 32, false },
	{ &block_channel, "vmbus.channel-echo", NULL, "vmbus.block-null", BLOCK_COST, 500, 32,
	  false },
};
const uint32_t block_entry_count = sizeof(block_entries) / sizeof(block_entries[0]);

const struct block_work block_works[BLOCK_WORKS_MAX] = {
	{ "randread", 4096, 1, false, true }, { "randread", 4096, 32, false, true },
	{ "randwrite", 4096, 1, true, true }, { "randwrite", 4096, 32, true, true },
	{ "read", 131072, 32, false, false }, { "write", 131072, 32, true, false },
};

static void usage(void)
{
	fputs("usage: vmbus-bench block [options]\n"
	      "\n"
	      "Compares a disk behind a channel with what people use today: requests in a second,\n"
	      "processor time of both sides, and round trips, at depth 1 and 32.\n"
	      "\n"
	      "  --quick           3 rounds, disks of 64 MiB; under a minute\n"
	      "  --subjects LIST   only these, by name; vmbus-bench --list names them\n"
	      "  --work LIST       of randread, randwrite, read, write; all\n"
	      "  --runs N          rounds of each comparison, 1 to 999; 9\n"
	      "  --ms N            length of one run, 5 to 10000; 50\n"
	      "  --mib N           size of each disk, 16 to 65536; 256\n"
	      "  --no-pin          leave both sides where the system puts them\n"
	      "  --json FILE       write results as JSON, schema vmbus-bench/1; - for stdout\n"
	      "  --svg FILE        write a drawing\n"
	      "  --help            this text\n"
	      "\n"
	      "Exit status: 0 measured, whatever the figures; 1 a request failed, or something\n"
	      "else was read than had been written; 2 bad option; 3 this machine cannot measure.\n",
	      stdout);
}

enum {
	OPT_QUICK = 256,
	OPT_SUBJECTS,
	OPT_WORK,
	OPT_RUNS,
	OPT_MS,
	OPT_MIB,
	OPT_NO_PIN,
	OPT_JSON,
	OPT_SVG,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "quick", no_argument, NULL, OPT_QUICK },
	{ "subjects", required_argument, NULL, OPT_SUBJECTS },
	{ "work", required_argument, NULL, OPT_WORK },
	{ "runs", required_argument, NULL, OPT_RUNS },
	{ "ms", required_argument, NULL, OPT_MS },
	{ "mib", required_argument, NULL, OPT_MIB },
	{ "no-pin", no_argument, NULL, OPT_NO_PIN },
	{ "json", required_argument, NULL, OPT_JSON },
	{ "svg", required_argument, NULL, OPT_SVG },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static bool is_word(const char *name, const char *text, size_t len)
{
	return strlen(name) == len && strncmp(name, text, len) == 0;
}

static void take_subjects(struct block_bench *bb, const char *text)
{
	memset(bb->wanted, 0, sizeof(bb->wanted));
	while (*text) {
		const size_t len = strcspn(text, ",");
		uint32_t i = 0;

		while (i < block_entry_count && !is_word(block_entries[i].name, text, len))
			i++;
		if (i == block_entry_count)
			die(BENCH_EXIT_USAGE, "--subjects %s: no such subject; see --list", text);
		bb->wanted[i] = true;
		text += len + (text[len] == ',');
	}
}

static void take_work(struct block_bench *bb, const char *text)
{
	memset(bb->work, 0, sizeof(bb->work));
	while (*text) {
		const size_t len = strcspn(text, ",");
		bool any = false;

		for (uint32_t i = 0; i < BLOCK_WORKS_MAX; i++)
			if (is_word(block_works[i].name, text, len))
				any = bb->work[i] = true;
		if (!any)
			die(BENCH_EXIT_USAGE, "--work %s: no such work; see --help", text);
		text += len + (text[len] == ',');
	}
}

static void take(struct block_bench *bb, int c, const char *arg)
{
	switch (c) {
	case OPT_QUICK:
		bb->opts.quick = true;
		break;
	case OPT_SUBJECTS:
		take_subjects(bb, arg);
		break;
	case OPT_WORK:
		take_work(bb, arg);
		break;
	case OPT_RUNS:
		bb->opts.runs = word_number("--runs", arg, 1, 999);
		break;
	case OPT_MS:
		bb->opts.ms = word_number("--ms", arg, 5, 10000);
		break;
	case OPT_MIB:
		bb->bytes = (uint64_t)word_number("--mib", arg, 16, 65536) << 20;
		break;
	case OPT_NO_PIN:
		bb->opts.place.pin = false;
		break;
	case OPT_JSON:
		bb->opts.json = arg;
		break;
	case OPT_SVG:
		bb->opts.svg = arg;
		break;
	case OPT_HELP:
		usage();
		exit(BENCH_EXIT_OK);
	default:
		die(BENCH_EXIT_USAGE, "see vmbus-bench block --help");
	}
}

void block_options(struct block_bench *bb, int argc, char **argv)
{
	struct options *const o = &bb->opts;
	int c;

	o->node = -1;
	o->place.pin = true;
	o->place.cpu_here = o->place.cpu_there = -1;
	memset(bb->wanted, 1, sizeof(bb->wanted));
	memset(bb->work, 1, sizeof(bb->work));
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take(bb, c, optarg);
	if (optind < argc)
		die(BENCH_EXIT_USAGE, "%s: expected options only", argv[optind]);
	word_writable("--json", o->json);
	word_writable("--svg", o->svg);
	o->runs = o->runs ? o->runs : o->quick ? QUICK_RUNS : RUNS;
	o->ms = o->ms ? o->ms : o->quick ? QUICK_RUN_MS : RUN_MS;
	bb->bytes = bb->bytes ? bb->bytes : (uint64_t)(o->quick ? QUICK_MIB : MIB) << 20;
}

/* ---- one run ---- */

struct job {
	struct block_disk *disk;
	const struct block_work *work;
};

static void run(struct contestant *c, struct sample *sample)
{
	const struct job *const job = c->ctx;
	struct rtt_result before = { 0 }, after = { 0 };
	struct block_outcome out;

	if (!job->disk->load)
		return; /* it was closed, since a run of it failed */
	(void)limit_line_rtt(c->place, false, false, PROBE_US, &before);
	block_server_go(job->disk);
	block_run(job->disk, job->work, c->us, &out);
	block_server_stop(job->disk);
	(void)limit_line_rtt(c->place, false, false, PROBE_US, &after);
	sample->valid = !out.error && out.per_s > 0; /* a busy machine may not let it run at all */
	sample->value[BLOCK_PER_S] = out.per_s;
	sample->value[BLOCK_CPU] = out.cpu_ns;
	sample->value[BLOCK_P50] = out.p50;
	sample->value[BLOCK_P99] = out.p99;
	sample->rtt_before = before.p50;
	sample->rtt_after = after.p50;
	sample->on_cpu = c->place->pin ? out.on_cpu : 1;
	if (!out.error)
		return;
	progress.failed++;
	fprintf(stderr, "\nvmbus-bench: %s, %s at depth %u: %s; it is left out from here on\n",
		job->disk->subject->name, job->work->name, job->work->depth, out.error);
	block_close(job->disk);
}

static bool takes_part(const struct block_bench *bb, uint32_t i, const struct block_work *work)
{
	const struct block_subject *const subject = block_entries[i].subject;

	return bb->disk[i].load && (work->random || block_entries[i].in_order) &&
	       (!subject->depth_max || work->depth <= subject->depth_max);
}

static void measure(struct block_bench *bb, const struct block_work *work)
{
	struct rounds *const r = must_alloc(sizeof(*r));
	const struct cell cell = { .payload = work->bytes, .batch = work->depth, .node = -1 };
	uint32_t entry[BLOCK_DISKS_MAX];
	struct job job[BLOCK_DISKS_MAX];

	memset(r, 0, sizeof(*r));
	r->wanted = bb->opts.runs;
	for (uint32_t i = 0; i < block_entry_count; i++) {
		struct contestant *const c = &r->c[r->count];

		if (!takes_part(bb, i, work))
			continue;
		job[r->count] = (struct job){ &bb->disk[i], work };
		entry[r->count] = i;
		c->run = run;
		c->ctx = &job[r->count];
		c->cell = &cell;
		c->place = &bb->opts.place;
		c->us = bb->opts.ms * 1000u;
		c->pair_with = r->count;
		for (uint32_t k = 0; k < r->count && block_entries[i].against; k++)
			if (!strcmp(block_entries[entry[k]].name, block_entries[i].against))
				c->pair_with = k;
		r->count++;
	}
	if (r->count) {
		rounds_run(r);
		block_results(bb, work, r, entry);
		bb->results.repeated += r->repeated;
	}
	rounds_free(r);
	free(r);
}

/* ---- all of them ---- */

static void leave_out(struct block_bench *bb, uint32_t i, const char *why)
{
	const struct block_entry *const e = &block_entries[i];

	fprintf(stderr, "vmbus-bench: %s is left out: %s%s%s%s\n", e->name, why,
		e->package ? " (Debian: " : "", e->package ? e->package : "",
		e->package ? ")" : "");
	if (e->package)
		bb->missing[bb->results.missing_count++] =
			(struct results_missing){ e->name, e->package };
}

static void open_all(struct block_bench *bb)
{
	for (uint32_t i = 0; i < block_entry_count; i++) {
		struct block_disk *const disk = &bb->disk[i];

		if (!bb->wanted[i])
			continue;
		disk->subject = block_entries[i].subject;
		disk->place = &bb->opts.place;
		disk->bytes = bb->bytes;
		if (!disk->subject) {
			leave_out(bb, i, "this build has not got it");
		} else if (block_open(disk)) {
			leave_out(bb, i, disk->why);
			if (!disk->missing)
				progress.failed++;
		}
	}
}

static void plan(const struct block_bench *bb)
{
	progress.planned = 0;
	for (uint32_t w = 0; w < BLOCK_WORKS_MAX; w++)
		for (uint32_t i = 0; i < block_entry_count && bb->work[w]; i++)
			if (takes_part(bb, i, &block_works[w]))
				progress.planned += bb->opts.runs;
	progress.from_ns = now_ns();
	progress.until_ns = progress.from_ns + (bb->opts.quick ? QUICK_LIMIT_S : DEFAULT_LIMIT_S) *
						       (uint64_t)1000000000u;
}

int block_main(int argc, char **argv)
{
	struct block_bench *const bb = must_alloc(sizeof(*bb));
	const uint64_t from = now_ns();

	memset(bb, 0, sizeof(*bb));
	block_options(bb, argc, argv);
	options_check_machine(&bb->opts);
	(void)signal(SIGPIPE, SIG_IGN); /* a peer that dies is a run that failed */
	bb->results.command = "block";
	bb->results.missing = bb->missing;
	open_all(bb);
	plan(bb);
	for (uint32_t w = 0; w < BLOCK_WORKS_MAX; w++)
		if (bb->work[w])
			measure(bb, &block_works[w]);
	progress_end();
	for (uint32_t i = 0; i < block_entry_count; i++)
		block_close(&bb->disk[i]);
	bb->results.failed_runs = progress.failed;
	bb->results.out_of_time = progress.gave_up;
	bb->results.seconds = (double)(now_ns() - from) / 1e9;
	block_report(bb, bb->opts.json && !strcmp(bb->opts.json, "-") ? stderr : stdout);
	if (bb->opts.json && json_write(&bb->results, &bb->opts, bb->opts.json))
		die(BENCH_EXIT_FAILED, "--json %s: %s", bb->opts.json, strerror(errno));
	if (bb->opts.svg && block_svg(bb, bb->opts.svg))
		die(BENCH_EXIT_FAILED, "--svg %s: %s", bb->opts.svg, strerror(errno));
	results_free(&bb->results);
	free(bb);
	return progress.failed ? BENCH_EXIT_FAILED : BENCH_EXIT_OK;
}
