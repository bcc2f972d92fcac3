/* SPDX-License-Identifier: MIT */
/*
 * Options of vmbus-bench ring.  A bad one is refused with the value and the limit, before anything
 * is measured.
 */
#include "options.h"
#include "words.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEFAULT_MS 40u /* of one throughput run */
#define QUICK_MS 25u
#define RING_KIB_MAX 1048576u
#define RUNS_MAX 999u
#define MS_MAX 60000u
#define SECONDS_MAX 604800u
#define NODES_MAX 1024
#define MPOL_BIND_MODE 2 /* MPOL_BIND of set_mempolicy(2) */

enum {
	OPT_QUICK = 256,
	OPT_FULL,
	OPT_RING_KIB,
	OPT_PAYLOAD,
	OPT_BATCH,
	OPT_PEERS,
	OPT_RUNS,
	OPT_MS,
	OPT_SECONDS,
	OPT_THREADS,
	OPT_WINDOW,
	OPT_IN_PLACE,
	OPT_PRODUCERS,
	OPT_NUMA,
	OPT_NO_PIN,
	OPT_CPUS,
	OPT_NO_LATENCY,
	OPT_JSON,
	OPT_SVG,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "quick", no_argument, NULL, OPT_QUICK },
	{ "full", no_argument, NULL, OPT_FULL },
	{ "ring-kib", required_argument, NULL, OPT_RING_KIB },
	{ "payload", required_argument, NULL, OPT_PAYLOAD },
	{ "batch", required_argument, NULL, OPT_BATCH },
	{ "peers", required_argument, NULL, OPT_PEERS },
	{ "runs", required_argument, NULL, OPT_RUNS },
	{ "ms", required_argument, NULL, OPT_MS },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "threads", no_argument, NULL, OPT_THREADS },
	{ "window", required_argument, NULL, OPT_WINDOW },
	{ "in-place", no_argument, NULL, OPT_IN_PLACE },
	{ "producers", required_argument, NULL, OPT_PRODUCERS },
	{ "numa", required_argument, NULL, OPT_NUMA },
	{ "no-pin", no_argument, NULL, OPT_NO_PIN },
	{ "cpus", required_argument, NULL, OPT_CPUS },
	{ "no-latency", no_argument, NULL, OPT_NO_LATENCY },
	{ "json", required_argument, NULL, OPT_JSON },
	{ "svg", required_argument, NULL, OPT_SVG },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

void ring_usage(void)
{
	fputs("usage: vmbus-bench ring [options]\n"
	      "\n"
	      "Measures the ring of libvmbus, what bounds it, and what could be used instead.\n"
	      "Without options: 1 MiB ring, copying, two processes, 8 payloads, batch 1 and 32.\n"
	      "\n"
	      "  --quick            3 payloads, under a minute\n"
	      "  --full             the grid; prints an estimate of its time first\n"
	      "  --ring-kib LIST    ring sizes in KiB of data, multiples of 4, 4 to 1048576\n"
	      "  --payload LIST     payload bytes, multiples of 8, 8 to 524264\n"
	      "  --batch LIST       packets in a call, 1 to 4096\n"
	      "  --window LIST      plain, mirrored, scattered\n"
	      "  --producers LIST   producers on one ring, 1 to 16\n"
	      "  --in-place         fill and read packets in the ring (peers are left out)\n"
	      "  --threads          two threads instead of two processes\n"
	      "  --peers LIST       peers to measure, or all, or none; see vmbus-bench --list\n"
	      "  --no-latency       throughput only\n"
	      "  --runs N           rounds of each cell, 1 to 999; 9\n"
	      "  --ms N             measured time of one run in ms, 1 to 60000; 40, quick 25\n"
	      "  --seconds N        repeats of unsteady pairs end after so many; runs get shorter "
	      "if it\n"
	      "                     would take 1.4 times as long; 105, quick 30\n"
	      "  --numa NODE        place the memory on this node\n"
	      "  --cpus A,B         processors of receiver and sender; the first two allowed\n"
	      "  --no-pin           do not pin to processors\n"
	      "  --json FILE        write results as JSON, schema vmbus-bench/1; - for stdout\n"
	      "  --svg FILE         draw them\n"
	      "  --help             this text\n"
	      "\n"
	      "Exit status: 0 measured, 1 a run failed, 2 bad option, 3 this machine cannot do "
	      "it.\n",
	      stdout);
}

static void parse_list(const char *name, const char *text, struct list *list, uint32_t min,
		       uint32_t max, uint32_t multiple)
{
	char *copy = strdup(text), *save = NULL;

	list->count = 0;
	if (!copy)
		die(BENCH_EXIT_MACHINE, "out of memory");
	for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		uint32_t v = word_number(name, item, min, max);

		if (v % multiple)
			die(BENCH_EXIT_USAGE, "%s %u: not a multiple of %u", name, v, multiple);
		if (list->count == LIST_MAX)
			die(BENCH_EXIT_USAGE, "%s: more than %u values", name, LIST_MAX);
		list->value[list->count++] = v;
	}
	free(copy);
	if (!list->count)
		die(BENCH_EXIT_USAGE, "%s: expected a list of numbers", name);
}

static void parse_windows(struct options *opts, const char *text)
{
	char *copy = strdup(text), *save = NULL;
	bool any = false;

	memset(opts->windows, 0, sizeof(opts->windows));
	if (!copy)
		die(BENCH_EXIT_MACHINE, "out of memory");
	for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		int i;

		for (i = 0; i < BENCH_WINDOWS; i++)
			if (!strcmp(item, window_name((enum bench_window)i)))
				break;
		if (i == BENCH_WINDOWS)
			die(BENCH_EXIT_USAGE, "--window %s: expected plain, mirrored or scattered",
			    item);
		opts->windows[i] = true;
		any = true;
	}
	free(copy);
	if (!any)
		die(BENCH_EXIT_USAGE, "--window: expected plain, mirrored or scattered");
}

static void parse_peer(struct options *opts, const char *name)
{
	for (unsigned i = 0; i < peer_count; i++) {
		if (strcmp(name, peers[i].name))
			continue;
		if (!peers[i].subject)
			die(BENCH_EXIT_USAGE, "--peers %s: not in this build; it needs %s", name,
			    peers[i].package);
		opts->peer[i] = true;
		return;
	}
	die(BENCH_EXIT_USAGE, "--peers %s: no such peer; see vmbus-bench --list", name);
}

static void parse_peers(struct options *opts, const char *text)
{
	char *copy = strdup(text), *save = NULL;

	if (!copy)
		die(BENCH_EXIT_MACHINE, "out of memory");
	memset(opts->peer, 0, sizeof(opts->peer));
	if (!strcmp(text, "all")) {
		for (unsigned i = 0; i < peer_count; i++)
			opts->peer[i] = peers[i].subject != NULL;
	} else if (strcmp(text, "none")) {
		for (char *item = strtok_r(copy, ",", &save); item;
		     item = strtok_r(NULL, ",", &save))
			parse_peer(opts, item);
	}
	free(copy);
}

static void parse_cpus(struct options *opts, const char *text)
{
	char *end;
	long a = strtol(text, &end, 10), b;

	if (end == text || *end != ',')
		die(BENCH_EXIT_USAGE, "--cpus %s: expected two numbers, for instance 0,1", text);
	text = end + 1;
	b = strtol(text, &end, 10);
	if (end == text || *end || a < 0 || b < 0 || a >= CPU_SETSIZE || b >= CPU_SETSIZE)
		die(BENCH_EXIT_USAGE, "--cpus: expected two numbers from 0 to %d", CPU_SETSIZE - 1);
	if (a == b)
		die(BENCH_EXIT_USAGE, "--cpus %ld,%ld: the two sides need different processors", a,
		    b);
	opts->place.cpu_here = (int)a;
	opts->place.cpu_there = (int)b;
}

static void list_set(struct list *list, const uint32_t *values, uint32_t n)
{
	list->count = n;
	memcpy(list->value, values, n * sizeof(values[0]));
}

static void options_default(struct options *opts)
{
	static const uint32_t payloads[] = { 8, 16, 64, 256, 1024, 4096, 16384, 65536 };
	static const uint32_t batches[] = { 1, 32 };
	static const uint32_t one[] = { 1 };
	static const uint32_t mib[] = { 1024 };

	memset(opts, 0, sizeof(*opts));
	opts->latency = true;
	list_set(&opts->payloads, payloads, 8);
	list_set(&opts->batches, batches, 2);
	list_set(&opts->rings_kib, mib, 1);
	list_set(&opts->producers, one, 1);
	opts->windows[BENCH_MIRRORED] = true;
	parse_peers(opts, "all");
	opts->runs = 9;
	opts->ms = DEFAULT_MS;
	opts->node = -1;
	opts->place = (struct place){ .pin = true, .cpu_here = -1, .cpu_there = -1 };
}

/* Options that take an argument.  False when the option is none of them. */
static bool option_value(struct options *opts, int opt, const char *arg)
{
	switch (opt) {
	case OPT_RING_KIB:
		parse_list("--ring-kib", arg, &opts->rings_kib, BENCH_RING_MIN / 1024u,
			   RING_KIB_MAX, BENCH_RING_MIN / 1024u);
		return true;
	case OPT_PAYLOAD:
		parse_list("--payload", arg, &opts->payloads, BENCH_PAYLOAD_MIN, BENCH_PAYLOAD_MAX,
			   8);
		return true;
	case OPT_BATCH:
		parse_list("--batch", arg, &opts->batches, 1, BENCH_BATCH_MAX, 1);
		return true;
	case OPT_PRODUCERS:
		parse_list("--producers", arg, &opts->producers, 1, BENCH_PRODUCERS_MAX, 1);
		return true;
	case OPT_PEERS:
		parse_peers(opts, arg);
		return true;
	case OPT_WINDOW:
		parse_windows(opts, arg);
		return true;
	case OPT_RUNS:
		opts->runs = word_number("--runs", arg, 1, RUNS_MAX);
		return true;
	case OPT_MS:
		opts->ms = word_number("--ms", arg, 1, MS_MAX);
		return true;
	case OPT_SECONDS:
		opts->seconds = word_number("--seconds", arg, 1, SECONDS_MAX);
		return true;
	case OPT_NUMA:
		opts->node = (int)word_number("--numa", arg, 0, NODES_MAX - 1);
		return true;
	case OPT_CPUS:
		parse_cpus(opts, arg);
		return true;
	case OPT_JSON:
		opts->json = arg;
		return true;
	case OPT_SVG:
		opts->svg = arg;
		return true;
	default:
		return false;
	}
}

static void option_flag(struct options *opts, int opt)
{
	static const uint32_t quick[] = { 64, 1024, 16384 };

	switch (opt) {
	case OPT_QUICK:
		opts->quick = true;
		if (opts->ms == DEFAULT_MS)
			opts->ms = QUICK_MS;
		list_set(&opts->payloads, quick, 3);
		break;
	case OPT_FULL:
		opts->full = true;
		break;
	case OPT_THREADS:
		opts->threads = true;
		break;
	case OPT_IN_PLACE:
		opts->in_place = true;
		break;
	case OPT_NO_PIN:
		opts->place.pin = false;
		break;
	case OPT_NO_LATENCY:
		opts->latency = false;
		break;
	case OPT_HELP:
		ring_usage();
		exit(BENCH_EXIT_OK);
	default:
		die(BENCH_EXIT_USAGE, "see vmbus-bench ring --help");
	}
}

void options_parse(struct options *opts, int argc, char **argv)
{
	int opt;

	options_default(opts);
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		if (!option_value(opts, opt, optarg))
			option_flag(opts, opt);
	if (optind < argc)
		die(BENCH_EXIT_USAGE, "%s: unexpected argument; see vmbus-bench ring --help",
		    argv[optind]);
	if (opts->quick && opts->full)
		die(BENCH_EXIT_USAGE, "--quick and --full exclude each other");
}

static void check_cpus(struct place *place)
{
	cpu_set_t set;
	int found[2] = { -1, -1 }, n = 0;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set))
		die(BENCH_EXIT_MACHINE, "cannot read the processors of this process: %s",
		    strerror(errno));
	for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET((size_t)i, &set))
			found[n++] = i;
	if (n < 2)
		die(BENCH_EXIT_MACHINE,
		    "two processors are needed, this process may use 1 (number %d)", found[0]);
	if (place->cpu_here < 0) {
		place->cpu_here = found[0];
		place->cpu_there = found[1];
	}
	place->far_count = 1;
	for (int i = 0; i < CPU_SETSIZE && place->far_count < BENCH_PRODUCERS_MAX; i++)
		if (CPU_ISSET((size_t)i, &set) && i != place->cpu_here && i != place->cpu_there)
			place->cpu_more[place->far_count++] = i;
	for (int i = 0; i < 2; i++) {
		int cpu = i ? place->cpu_there : place->cpu_here;

		if (!CPU_ISSET((size_t)cpu, &set))
			die(BENCH_EXIT_MACHINE,
			    "processor %d is not one that this process may use (it may use %d)",
			    cpu, CPU_COUNT(&set));
	}
}

static void check_pinning(const struct place *place)
{
	if (!place->pin)
		return;
	for (int i = 0; i < 2; i++) {
		int cpu = i ? place->cpu_here : place->cpu_there;

		if (pin_to(cpu))
			die(BENCH_EXIT_MACHINE,
			    "cannot pin to processor %d: %s; --no-pin measures without", cpu,
			    strerror(errno));
	}
}

/* Numbers such as "0-3,8" from a file of the kernel's; the highest, and whether node is there. */
static bool node_online(int node, int *last)
{
	char text[256] = "0";
	FILE *f = fopen("/sys/devices/system/node/online", "re");
	bool there = false;

	if (f && !fgets(text, sizeof(text), f))
		strcpy(text, "0");
	if (f)
		fclose(f);
	*last = 0;
	for (char *at = text; *at >= '0' && *at <= '9';) {
		int from = (int)strtol(at, &at, 10), to = from;

		if (*at == '-')
			to = (int)strtol(at + 1, &at, 10);
		there = there || (node >= from && node <= to);
		*last = to;
		if (*at == ',')
			at++;
	}
	return there;
}

static void check_node(const struct options *opts)
{
	unsigned long mask[NODES_MAX / (8 * sizeof(unsigned long))] = { 0 };
	unsigned bits = 8 * sizeof(unsigned long), node;
	int last;

	if (opts->node < 0)
		return;
	node = (unsigned)opts->node;
	if (!node_online(opts->node, &last))
		die(BENCH_EXIT_MACHINE, "--numa %d: no such node; this machine has %s%d",
		    opts->node, last ? "nodes up to " : "only node ", last);
	if (!last)
		fprintf(stderr, "vmbus-bench: --numa 0: this machine has one node, so that "
				"placement changes nothing\n");
	/* Covers what peers allocate; our ring is placed by the library. */
	mask[node / bits] |= 1ul << node % bits;
	if (syscall(SYS_set_mempolicy, MPOL_BIND_MODE, mask, (unsigned long)NODES_MAX))
		die(BENCH_EXIT_MACHINE, "--numa %d: %s", opts->node, strerror(errno));
}

static void check_output(const char *option, const char *path)
{
	FILE *f;

	if (!path || !strcmp(path, "-"))
		return;
	f = fopen(path, "we");
	if (!f)
		die(BENCH_EXIT_USAGE, "%s %s: %s", option, path, strerror(errno));
	fclose(f);
}

void options_check_machine(struct options *opts)
{
	check_cpus(&opts->place);
	check_pinning(&opts->place);
	check_node(opts);
	check_output("--json", opts->json);
	check_output("--svg", opts->svg);
}
