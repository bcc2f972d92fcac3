/* SPDX-License-Identifier: MIT */
/*
 * vmbus-bench kvm: exits and interrupts for each packet between a guest without an operating system
 * and the echo device of vmbus-vmm, both ways, with one channel and with many; boot time, memory.
 *
 * The figures are counts of KVM's, so they hold on a slow machine as on a fast one.  A KVM without
 * hardware below it interprets its guest: there its own count of exits is mostly its preemptions, and
 * what the guest did itself (operations) is judged instead.
 */
#include "kvm.h"

#include "bars.h"
#include "chan_pair.h"
#include "run.h"
#include "subject.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define GOAL 0.05 /* exits for each packet, at GOAL_WINDOW in flight */
#define GOAL_WINDOW 64u
#define PACKETS 20000u
#define PACKETS_SLOW 1000u
#define CHANNELS_SLOW 64u
#define ACTIVE_MAX 32u	/* channels that move packets, so that each fills its window many times */
#define INTERPRETED 50u /* instructions for each packet from which we call it so */
#define OVERHEAD_GOAL (8u << 20)

static const char *const way_names[2] = { "user", "kernel" };

/* ---- the machine ---- */

static void look_at_kvm(struct kvm_bench *kb)
{
	const int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die(BENCH_EXIT_MACHINE, "skipped: /dev/kvm: %s%s", strerror(errno),
		    errno == EACCES ? "; join the group kvm" : "");
	kb->can[0] = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_MSR_FILTER) > 0 &&
		     ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_USER_SPACE_MSR) > 0;
	kb->can[1] = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_HYPERV_SYNIC2) > 0;
	(void)close(fd);
}

static void leave_out(struct kvm_bench *kb, const char *why, uint32_t channels)
{
	const struct cell cell = { .producers = channels, .node = -1 };

	results_leave_out(&kb->results, "vmbus.kvm", why, &cell);
	fprintf(stderr, "vmbus-bench: left out: %s\n", why);
}

/* ---- one run ---- */

static void join(char *to, size_t bytes, const char *key, const struct list *list)
{
	size_t n = strlen(to);

	for (uint32_t i = 0; i < list->count && n < bytes; i++)
		n += (size_t)snprintf(to + n, bytes - n, "%s%s%u", i ? "," : " ", i ? "" : key,
				      list->value[i]);
}

/* KiB of each ring: room for the largest window twice, so that neither side waits for room. */
static uint32_t ring_kib(const struct kvm_bench *kb)
{
	uint32_t most = 0;

	for (uint32_t w = 0; w < kb->windows.count; w++)
		for (uint32_t p = 0; p < kb->payloads.count; p++) {
			const uint32_t bytes =
				2u * kb->windows.value[w] * (kb->payloads.value[p] + 24u);

			most = bytes > most ? bytes : most;
		}
	most = (most / 4096u + 1u) * 4u;
	return most < 8 ? 8 : most > 4096 ? 4096 : most;
}

static int run_payload(struct kvm_bench *kb, uint32_t way, bool poll, uint32_t channels,
		       struct kvm_outcome *outcome)
{
	const uint32_t packets = kb->packets ? kb->packets : kb->slow[way] ? PACKETS_SLOW : PACKETS;
	const uint32_t kib = ring_kib(kb);
	char append[512];
	const struct kvm_start start = { .vmm = kb->vmm,
					 .kernel = kb->payload,
					 .append = append,
					 .way = way_names[way],
					 .devices = channels,
					 .mem_mib = 64u + channels * (2u * kib + 48u) / 1024u,
					 .timeout_s = 1200 };

	snprintf(append, sizeof(append), "echo%s channels=%u active=%u packets=%u ring=%u",
		 poll ? " poll" : "", channels, channels < ACTIVE_MAX ? channels : ACTIVE_MAX,
		 packets, kib);
	join(append, sizeof(append), "window=", &kb->windows);
	join(append, sizeof(append), "payload=", &kb->payloads);
	return kvm_run(&start, outcome);
}

/* The same, with all series that were asked for; a failure is told and counted. */
static int run_all(struct kvm_bench *kb, uint32_t way, bool poll, uint32_t channels,
		   struct kvm_outcome *outcome)
{
	const uint32_t series = kb->windows.count * kb->payloads.count;

	if (run_payload(kb, way, poll, channels, outcome) == 0 && outcome->count == series)
		return 0;
	fprintf(stderr, "vmbus-bench: %s way, %u channels: %s\n", way_names[way], channels,
		outcome->error[0] ? outcome->error : "the guest did not tell all series");
	kb->results.failed_runs++;
	return -1;
}

/* A few packets, to see that the way can be gone, and whether the guest is interpreted. */
static bool probe(struct kvm_bench *kb, uint32_t way)
{
	const struct kvm_start start = { .vmm = kb->vmm,
					 .kernel = kb->payload,
					 .append = "echo packets=64 window=64",
					 .way = way_names[way],
					 .devices = 1,
					 .mem_mib = 64,
					 .timeout_s = 120 };
	struct kvm_outcome *const outcome = must_alloc(sizeof(*outcome));
	bool good = kvm_run(&start, outcome) == 0;

	if (good && outcome->count == 1) {
		kb->slow[way] = outcome->series[0].interpreted > 64 * INTERPRETED;
	} else {
		fprintf(stderr, "vmbus-bench: %s way: %s\n", way_names[way], outcome->error);
		kb->results.failed_runs++;
		good = false;
	}
	free(outcome);
	return good;
}

/* ---- results ---- */

struct figure {
	const char *metric, *unit;
	double value[KVM_RUNS_MAX];
};

enum {
	F_EXITS,
	F_HOST,
	F_OPERATIONS,
	F_USER,
	F_SIGNALS,
	F_INTERRUPTS,
	F_THROUGHPUT,
	FIGURES
};

static void take_figures(struct figure *f, const struct kvm_series *s, uint32_t run)
{
	const double n = (double)s->packets;

	f[F_EXITS].value[run] = (double)s->exits / n;
	f[F_HOST].value[run] = (double)s->host_exits / n;
	/* A halt, a signal, and an end of interrupt: what leaves the guest of its own accord. */
	f[F_OPERATIONS].value[run] = (double)(s->signals + s->halts + s->guest_interrupts) / n;
	f[F_USER].value[run] = (double)s->user_exits / n;
	f[F_SIGNALS].value[run] = (double)s->user_signals / n;
	f[F_INTERRUPTS].value[run] = (double)s->asked / n;
	f[F_THROUGHPUT].value[run] = n * 1e9 / (double)s->ns;
}

static void add_figures(struct kvm_bench *kb, struct figure *figures, const struct kvm_series *s,
			const struct result *like)
{
	struct result r = *like;

	r.cell = (struct cell){ .payload = s->payload,
				.batch = s->window,
				.batch_used = s->window,
				.ring_bytes = ring_kib(kb) * 1024u,
				.producers = 1,
				.node = -1 };
	r.channels = s->channels;
	for (uint32_t i = 0; i < FIGURES; i++) {
		if ((i == F_EXITS || i == F_HOST) && !s->counted)
			continue;
		r.metric = figures[i].metric;
		r.unit = figures[i].unit;
		r.value = spread_of(figures[i].value, kb->opts.runs);
		results_add(&kb->results, &r);
	}
}

/* Every series of so many runs: one line of figures for each. */
static void measure(struct kvm_bench *kb, uint32_t way, bool poll, uint32_t channels)
{
	const struct figure names[FIGURES] = {
		{ .metric = "exits", .unit = "1/packet" },
		{ .metric = "host_exits", .unit = "1/packet" },
		{ .metric = "operations", .unit = "1/packet" },
		{ .metric = "user_exits", .unit = "1/packet" },
		{ .metric = "user_signals", .unit = "1/packet" },
		{ .metric = "interrupts", .unit = "1/packet" },
		{ .metric = "throughput", .unit = "packets/s" },
	};
	const struct result like = { .subject = poll ? "vmbus.kvm-poll" : "vmbus.kvm",
				     .version = subject_vmbus.version(),
				     .mode = way_names[way] };
	const uint32_t series = kb->windows.count * kb->payloads.count;
	struct figure *const all = must_alloc(series * sizeof(names));
	struct kvm_outcome *const outcome = must_alloc(sizeof(*outcome));
	uint32_t run, i;

	fprintf(stderr, "vmbus-bench: %s way, %s, %u channels\n", way_names[way],
		poll ? "polling" : "by interrupt", channels);
	for (i = 0; i < series; i++)
		memcpy(all + i * FIGURES, names, sizeof(names));
	for (run = 0; run < kb->opts.runs; run++) {
		if (run_all(kb, way, poll, channels, outcome))
			break;
		for (i = 0; i < series; i++)
			take_figures(all + i * FIGURES, &outcome->series[i], run);
	}
	for (i = 0; run == kb->opts.runs && i < series; i++)
		add_figures(kb, all + i * FIGURES, &outcome->series[i], &like);
	free(outcome);
	free(all);
}

/* Boot time and memory: of the payload, or of a kernel that was named. */
static void measure_boot(struct kvm_bench *kb, uint32_t way, bool linux_kernel)
{
	const struct kvm_start start = {
		.vmm = kb->vmm,
		.kernel = linux_kernel ? kb->kernel : kb->payload,
		.initrd = linux_kernel ? kb->initrd : NULL,
		.append = linux_kernel ? (kb->append ? kb->append : "console=ttyS0")
				       : "echo packets=64",
		.way = way_names[way],
		.devices = 1,
		.mem_mib = linux_kernel ? 512 : 64,
		.timeout_s = 600,
		.ic = linux_kernel,
	};
	struct result r = { .subject = linux_kernel ? "linux" : "payload",
			    .version = subject_vmbus.version(),
			    .mode = way_names[way],
			    .cell = { .batch = 1, .batch_used = 1, .producers = 1, .node = -1 } };
	struct kvm_outcome *const outcome = must_alloc(sizeof(*outcome));
	double boot[KVM_RUNS_MAX], bytes[KVM_RUNS_MAX];
	uint32_t run;

	for (run = 0; run < kb->opts.runs; run++) {
		if (kvm_run(&start, outcome) || outcome->boot_ns <= 0) {
			fprintf(stderr, "vmbus-bench: %s, %s way: %s\n", r.subject, way_names[way],
				outcome->error[0] ? outcome->error : "it made no mark");
			kb->results.failed_runs++;
			free(outcome);
			return;
		}
		boot[run] = outcome->boot_ns;
		bytes[run] = outcome->overhead_bytes;
	}
	r.metric = "boot_time";
	r.unit = "ns";
	r.value = spread_of(boot, run);
	results_add(&kb->results, &r);
	r.metric = "memory";
	r.unit = "B";
	r.value = spread_of(bytes, run);
	results_add(&kb->results, &r);
	free(outcome);
}

/* ---- the report ---- */

static void print_table(const struct kvm_bench *kb, FILE *to)
{
	fprintf(to, "\n%-15s %-7s %8s %9s %8s %-13s %12s %12s %12s\n", "subject", "way", "channels",
		"in flight", "payload", "metric", "median", "min", "max");
	for (uint32_t i = 0; i < kb->results.count; i++) {
		const struct result *r = &kb->results.list[i];
		const int digits = r->value.max < 1000 ? 4 : 0;

		fprintf(to, "%-15s %-7s %8u %9u %8u %-13s %12.*f %12.*f %12.*f %s\n", r->subject,
			r->mode, r->channels, r->cell.batch, r->cell.payload, r->metric, digits,
			r->value.median, digits, r->value.min, digits, r->value.max, r->unit);
	}
}

static void goal(struct kvm_bench *kb, FILE *to, const struct result *r, double limit,
		 const char *what)
{
	const struct goal g = {
		.unit = r->unit, .got = r->value.median, .bound = limit, .at_most = true
	};
	const bool met = results_goal(&kb->results, &g, "%s way, %s, %u channels, payload %u: %s",
				      r->mode, r->subject, r->channels, r->cell.payload, r->metric);

	fprintf(to, "%s: %s way, %s, %u channels, payload %u: %s %.4f %s, goal %s %g\n",
		met ? "met" : "MISSED", r->mode, r->subject, r->channels, r->cell.payload,
		r->metric, r->value.median, r->unit, what, limit);
	kb->missed |= !met;
}

static void print_goals(struct kvm_bench *kb, FILE *to)
{
	fputs("\n", to);
	for (uint32_t i = 0; i < kb->results.count; i++) {
		const struct result *const r = &kb->results.list[i];
		const bool slow = kb->slow[strcmp(r->mode, "kernel") == 0];

		if (!strcmp(r->metric, "user_signals"))
			goal(kb, to, r, 0, "at most");
		if (!strcmp(r->metric, slow ? "operations" : "exits") &&
		    r->cell.batch == GOAL_WINDOW)
			goal(kb, to, r, GOAL, "below");
		if (!strcmp(r->metric, "memory"))
			goal(kb, to, r, OVERHEAD_GOAL, "below");
	}
	for (uint32_t way = 0; way < 2; way++)
		if (kb->slow[way])
			fprintf(to,
				"note: this KVM interprets its guest; exits of the %s way "
				"count its preemptions, so operations are judged\n",
				way_names[way]);
}

/* A group for each way and each number of channels; what leaves the guest, for each packet. */
static int draw(const struct kvm_bench *kb, const char *path)
{
	struct bars *const bars =
		bars_new("For each packet: signals, halts and ends of interrupt of a guest");
	const struct result *last = NULL;

	for (uint32_t i = 0; i < kb->results.count; i++) {
		const struct result *const r = &kb->results.list[i];
		char name[64];

		if (strcmp(r->metric, "operations") != 0)
			continue;
		if (!last || strcmp(last->mode, r->mode) != 0 || last->channels != r->channels ||
		    strcmp(last->subject, r->subject) != 0)
			bars_group(bars, GOAL, "%s, %s way, %u channels", r->subject, r->mode,
				   r->channels);
		last = r;
		snprintf(name, sizeof(name), "vmbus, %u under way", r->cell.batch);
		bars_add(bars, name, &r->value, 1, 4);
	}
	return bars_write(bars, path);
}

static void measure_way(struct kvm_bench *kb, uint32_t way)
{
	static const uint32_t all[2] = { 1, KVM_CHANNELS_MAX };
	struct list channels = kb->channels;

	if (!probe(kb, way))
		return;
	if (!channels.count) {
		channels.count = 2;
		channels.value[0] = all[0];
		channels.value[1] = kb->slow[way] ? CHANNELS_SLOW : all[1];
		if (kb->slow[way])
			leave_out(kb,
				  "this KVM interprets its guest: 2,047 channels take minutes; "
				  "--channels 2047 runs them",
				  KVM_CHANNELS_MAX);
	}
	for (uint32_t i = 0; i < channels.count; i++) {
		measure(kb, way, false, channels.value[i]);
		measure(kb, way, true, channels.value[i]);
	}
	measure_boot(kb, way, false);
	if (kb->kernel)
		measure_boot(kb, way, true);
}

int kvm_main(int argc, char **argv)
{
	struct kvm_bench *const kb = must_alloc(sizeof(*kb));
	const uint64_t from = now_ns();
	FILE *to;
	int failed;

	memset(kb, 0, sizeof(*kb));
	kvm_options(kb, argc, argv);
	look_at_kvm(kb);
	kb->results.command = "kvm";
	kb->opts.place.cpu_here = kb->opts.place.cpu_there = -1;
	for (uint32_t way = 0; way < 2; way++) {
		if (kb->way[way] && kb->can[way])
			measure_way(kb, way);
		else if (kb->way[way])
			leave_out(kb,
				  way ? "kernel way: this KVM has no Hyper-V emulation "
					"(KVM_CAP_HYPERV_SYNIC2)"
				      : "user way: this KVM has no MSR filter "
					"(KVM_CAP_X86_MSR_FILTER)",
				  0);
	}
	kb->results.seconds = (double)(now_ns() - from) / 1e9;
	to = kb->opts.json && !strcmp(kb->opts.json, "-") ? stderr : stdout;
	print_table(kb, to);
	print_goals(kb, to);
	if (kb->opts.json && json_write(&kb->results, &kb->opts, kb->opts.json))
		die(BENCH_EXIT_FAILED, "--json %s: %s", kb->opts.json, strerror(errno));
	if (kb->opts.svg && draw(kb, kb->opts.svg))
		die(BENCH_EXIT_FAILED, "--svg %s: %s", kb->opts.svg, strerror(errno));
	failed = kb->results.failed_runs || kb->missed;
	results_free(&kb->results);
	free(kb);
	return failed ? BENCH_EXIT_FAILED : BENCH_EXIT_OK;
}
