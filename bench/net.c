/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench net: frames through a NIC of ours between two processes, and through what people use
 * today, in rounds.  The two processes of a link stand still while another one is measured.
 */
#include "net_run.h"

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
#define QUICK_RUN_MS 20u
#define QUICK_LIMIT_S 3u /* repeats of unsteady pairs end then */
#define DEFAULT_LIMIT_S 120u
#define HUGE_MIB 512u /* of free huge pages that all subjects with them need */

const struct net_entry net_entries[] = {
	{ &net_vmbus, "vmbus.net", NULL, NULL, 0, false },
	{ &net_memif, "memif", "dpdk-dev", "vmbus.net", 1, false },
	{ &net_virtio, "virtio-user", "dpdk-dev", "vmbus.net", 1, false },
	{ &net_virtio_packed, "virtio-user-packed", "dpdk-dev", "vmbus.net", 1, false },
	{ &net_unix, "unix-datagram", NULL, "vmbus.net", 1, false },
	{ &net_vmbus, "vmbus.net-huge", NULL, NULL, 0, true },
	{ &net_memif, "memif-huge", "dpdk-dev", "vmbus.net-huge", 1, true },
	{ &net_virtio, "virtio-user-huge", "dpdk-dev", "vmbus.net-huge", 1, true },
};
const uint32_t net_entry_count = sizeof(net_entries) / sizeof(net_entries[0]);

const struct net_work net_works[NET_WORKS] = {
	{ "to-host", 64, true },
	{ "to-guest", 64, false },
	{ "to-host", 1518, true },
	{ "to-guest", 1518, false },
};

bool net_is_asked(const struct net_bench *nb, uint32_t work)
{
	return nb->direction[!net_works[work].to_host] && nb->bytes[net_works[work].bytes > 64];
}

static void usage(void)
{
	fputs("usage: vmbus-bench net [options]\n"
	      "\n"
	      "Compares a network card behind a channel with what people use today: frames of 64 "
	      "and\n"
	      "1518 bytes in a second, in both directions, and processor time of both sides.\n"
	      "\n"
	      "  --quick           3 rounds; a few seconds\n"
	      "  --subjects LIST   only these, by name; vmbus-bench --list names them\n"
	      "  --work LIST       of to-host, to-guest; all\n"
	      "  --bytes LIST      of 64, 1518; all\n"
	      "  --runs N          rounds of each comparison, 1 to 999; 9\n"
	      "  --ms N            length of one run, 5 to 10000; 50\n"
	      "  --no-pin          leave both sides where the system puts them\n"
	      "  --json FILE       write results as JSON, schema vmbus-bench/1; - for stdout\n"
	      "  --svg FILE        write a drawing\n"
	      "  --help            this text\n"
	      "\n"
	      "Exit status: 0 measured, whatever the figures; 1 a frame was lost, came twice, or\n"
	      "was not what had been sent; 2 bad option; 3 this machine cannot measure.\n",
	      stdout);
}

enum {
	OPT_QUICK = 256,
	OPT_SUBJECTS,
	OPT_WORK,
	OPT_BYTES,
	OPT_RUNS,
	OPT_MS,
	OPT_NO_PIN,
	OPT_JSON,
	OPT_SVG,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "quick", no_argument, NULL, OPT_QUICK },
	{ "subjects", required_argument, NULL, OPT_SUBJECTS },
	{ "work", required_argument, NULL, OPT_WORK },
	{ "bytes", required_argument, NULL, OPT_BYTES },
	{ "runs", required_argument, NULL, OPT_RUNS },
	{ "ms", required_argument, NULL, OPT_MS },
	{ "no-pin", no_argument, NULL, OPT_NO_PIN },
	{ "json", required_argument, NULL, OPT_JSON },
	{ "svg", required_argument, NULL, OPT_SVG },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static void take_words(const char *name, const char *text, const char *const *word, uint32_t count,
		       bool *take)
{
	const char *at = text;

	memset(take, 0, count * sizeof(*take));
	do {
		const char *const from = at;
		const uint32_t i = word_of(&at, word, count);

		if (i == count)
			die(BENCH_EXIT_USAGE,
			    "%s %s: expected words that net --help or --list names", name, from);
		take[i] = true;
	} while (*at);
}

static void take_subjects(struct net_bench *nb, const char *text)
{
	const char *name[NET_LINKS_MAX];

	for (uint32_t i = 0; i < net_entry_count; i++)
		name[i] = net_entries[i].name;
	take_words("--subjects", text, name, net_entry_count, nb->wanted);
}

static void take(struct net_bench *nb, int c, const char *arg)
{
	static const char *const works[] = { "to-host", "to-guest" };
	static const char *const sizes[] = { "64", "1518" };

	switch (c) {
	case OPT_QUICK:
		nb->opts.quick = true;
		break;
	case OPT_SUBJECTS:
		take_subjects(nb, arg);
		break;
	case OPT_WORK:
		take_words("--work", arg, works, 2, nb->direction);
		break;
	case OPT_BYTES:
		take_words("--bytes", arg, sizes, 2, nb->bytes);
		break;
	case OPT_RUNS:
		nb->opts.runs = word_number("--runs", arg, 1, 999);
		break;
	case OPT_MS:
		nb->opts.ms = word_number("--ms", arg, 5, 10000);
		break;
	case OPT_NO_PIN:
		nb->opts.place.pin = false;
		break;
	case OPT_JSON:
		nb->opts.json = arg;
		break;
	case OPT_SVG:
		nb->opts.svg = arg;
		break;
	case OPT_HELP:
		usage();
		exit(BENCH_EXIT_OK);
	default:
		die(BENCH_EXIT_USAGE, "see vmbus-bench net --help");
	}
}

static void options(struct net_bench *nb, int argc, char **argv)
{
	struct options *const o = &nb->opts;
	int c;

	o->node = -1;
	o->place.pin = true;
	o->place.cpu_here = o->place.cpu_there = -1;
	memset(nb->wanted, 1, sizeof(nb->wanted));
	memset(nb->direction, 1, sizeof(nb->direction));
	memset(nb->bytes, 1, sizeof(nb->bytes));
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take(nb, c, optarg);
	if (optind < argc)
		die(BENCH_EXIT_USAGE, "%s: expected options only", argv[optind]);
	word_writable("--json", o->json);
	word_writable("--svg", o->svg);
	o->runs = o->runs ? o->runs : o->quick ? QUICK_RUNS : RUNS;
	o->ms = o->ms ? o->ms : o->quick ? QUICK_RUN_MS : RUN_MS;
}

/* ---- one run ---- */

struct job {
	struct net_link *link;
	const struct net_work *work;
};

static void run(struct contestant *c, struct sample *sample)
{
	const struct job *const job = c->ctx;
	struct rtt_result before = { 0 }, after = { 0 };
	struct net_outcome out;

	if (!job->link->open)
		return; /* it was closed, since a run of it failed */
	(void)limit_line_rtt(c->place, false, false, PROBE_US, &before);
	net_go(job->link);
	net_run(job->link, job->work, c->us, &out);
	net_stop(job->link);
	(void)limit_line_rtt(c->place, false, false, PROBE_US, &after);
	sample->valid = !out.error && out.per_s > 0; /* a busy machine may not let it run at all */
	sample->value[NET_PER_S] = out.per_s;
	sample->value[NET_CPU] = out.cpu_ns;
	sample->rtt_before = before.p50;
	sample->rtt_after = after.p50;
	sample->on_cpu = c->place->pin ? out.on_cpu : 1;
	if (!out.error)
		return;
	progress.failed++;
	fprintf(stderr, "\nvmbus-bench: %s, %s of %u bytes: %s; it is left out from here on\n",
		job->link->subject->name, job->work->name, job->work->bytes, out.error);
	net_close(job->link);
}

static void measure(struct net_bench *nb, const struct net_work *work)
{
	struct rounds *const r = must_alloc(sizeof(*r));
	const struct cell cell = { .payload = work->bytes, .batch = NET_BURST, .node = -1 };
	uint32_t entry[NET_LINKS_MAX];
	struct job job[NET_LINKS_MAX];

	memset(r, 0, sizeof(*r));
	r->wanted = nb->opts.runs;
	for (uint32_t i = 0; i < net_entry_count; i++) {
		struct contestant *const c = &r->c[r->count];

		if (!nb->link[i].open)
			continue;
		job[r->count] = (struct job){ &nb->link[i], work };
		entry[r->count] = i;
		c->run = run;
		c->ctx = &job[r->count];
		c->cell = &cell;
		c->place = &nb->opts.place;
		c->us = nb->opts.ms * 1000u;
		c->pair_with = r->count;
		for (uint32_t k = 0; k < r->count && net_entries[i].against; k++)
			if (!strcmp(net_entries[entry[k]].name, net_entries[i].against))
				c->pair_with = k;
		r->count++;
	}
	if (r->count) {
		rounds_run(r);
		net_results(nb, work, r, entry);
		nb->results.repeated += r->repeated;
	}
	rounds_free(r);
	free(r);
}

/* ---- all of them ---- */

/* MiB of huge pages that nobody has, of the size that the system takes by default. */
static uint64_t huge_mib(void)
{
	unsigned long long pages = 0, kib = 0;
	FILE *const f = fopen("/proc/meminfo", "re");
	char line[128];

	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "HugePages_Free:", 15))
			pages = strtoull(line + 15, NULL, 10);
		else if (!strncmp(line, "Hugepagesize:", 13))
			kib = strtoull(line + 13, NULL, 10);
	}
	if (f)
		(void)fclose(f);
	return pages * kib >> 10;
}

static void leave_out(struct net_bench *nb, uint32_t i, const char *why)
{
	const struct net_entry *const e = &net_entries[i];

	fprintf(stderr, "vmbus-bench: %s is left out: %s%s%s%s\n", e->name, why,
		e->package ? " (Debian: " : "", e->package ? e->package : "",
		e->package ? ")" : "");
	if (e->package)
		nb->missing[nb->results.missing_count++] =
			(struct results_missing){ e->name, e->package };
}

static void open_all(struct net_bench *nb)
{
	const bool huge = huge_mib() >= HUGE_MIB;

	for (uint32_t i = 0; i < net_entry_count; i++) {
		struct net_link *const link = &nb->link[i];

		/* A machine without huge pages lacks nothing. */
		if (!nb->wanted[i] || (net_entries[i].huge && !huge))
			continue;
		link->subject = net_entries[i].subject;
		link->place = &nb->opts.place;
		link->huge = net_entries[i].huge;
		if (net_open(link)) {
			leave_out(nb, i, link->why);
			if (!link->missing)
				progress.failed++;
		}
	}
}

static void plan(const struct net_bench *nb)
{
	progress.planned = 0;
	for (uint32_t w = 0; w < NET_WORKS; w++)
		for (uint32_t i = 0; i < net_entry_count && net_is_asked(nb, w); i++)
			if (nb->link[i].open)
				progress.planned += nb->opts.runs;
	progress.from_ns = now_ns();
	progress.until_ns = progress.from_ns + (nb->opts.quick ? QUICK_LIMIT_S : DEFAULT_LIMIT_S) *
						       (uint64_t)1000000000u;
}

int net_main(int argc, char **argv)
{
	struct net_bench *const nb = must_alloc(sizeof(*nb));
	const uint64_t from = now_ns();

	memset(nb, 0, sizeof(*nb));
	options(nb, argc, argv);
	options_check_machine(&nb->opts);
	(void)signal(SIGPIPE, SIG_IGN); /* a peer that dies is a run that failed */
	nb->results.command = "net";
	nb->results.missing = nb->missing;
	open_all(nb);
	plan(nb);
	for (uint32_t w = 0; w < NET_WORKS; w++)
		if (net_is_asked(nb, w))
			measure(nb, &net_works[w]);
	progress_end();
	for (uint32_t i = 0; i < net_entry_count; i++)
		net_close(&nb->link[i]);
	nb->results.failed_runs = progress.failed;
	nb->results.out_of_time = progress.gave_up;
	nb->results.seconds = (double)(now_ns() - from) / 1e9;
	net_report(nb, nb->opts.json && !strcmp(nb->opts.json, "-") ? stderr : stdout);
	if (nb->opts.json && json_write(&nb->results, &nb->opts, nb->opts.json))
		die(BENCH_EXIT_FAILED, "--json %s: %s", nb->opts.json, strerror(errno));
	if (nb->opts.svg && net_svg(nb, nb->opts.svg))
		die(BENCH_EXIT_FAILED, "--svg %s: %s", nb->opts.svg, strerror(errno));
	results_free(&nb->results);
	free(nb);
	return progress.failed ? BENCH_EXIT_FAILED : BENCH_EXIT_OK;
}
