/* SPDX-License-Identifier: MIT */
/*
 * Options of vmbus-bench kvm.  A bad one is refused with the value and the limit, before anything is
 * measured.
 */
#include "kvm.h"
#include "words.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void kvm_usage(void)
{
	fputs("usage: vmbus-bench kvm [options]\n"
	      "\n"
	      "Counts exits and interrupts for each packet between a small guest and vmbus-vmm.\n"
	      "\n"
	      "  --vmm FILE         vmbus-vmm; beside this program, else from PATH\n"
	      "  --guest FILE       the payload, tests/payload of the build tree\n"
	      "  --synic LIST       kernel, user; both that this KVM has\n"
	      "  --channels LIST    channels open and busy at once, 1 to 2047; 1,2047\n"
	      "  --in-flight LIST   packets in flight on each, 1 to 4096; 1,64\n"
	      "  --payload LIST     payload bytes, multiples of 8, 16 to 4096; 64\n"
	      "  --packets N        of each series, in all; 20000, or 1000 where it is slow\n"
	      "  --runs N           1 to 16; 3\n"
	      "  --boot-kernel FILE, --boot-initrd FILE, --boot-append TEXT\n"
	      "                     boot this as well, up to its first mark: boot_time\n"
	      "  --json FILE        write results as JSON, schema vmbus-bench/1; - for stdout\n"
	      "  --svg FILE         write a drawing\n"
	      "  --help             this text\n"
	      "\n"
	      "Exit status: 0 measured, 1 a run failed or a goal was missed, 2 bad option, 3 this\n"
	      "machine has no usable /dev/kvm.\n",
	      stdout);
}

enum {
	OPT_VMM = 256,
	OPT_GUEST,
	OPT_SYNIC,
	OPT_CHANNELS,
	OPT_IN_FLIGHT,
	OPT_PAYLOAD,
	OPT_PACKETS,
	OPT_RUNS,
	OPT_KERNEL,
	OPT_INITRD,
	OPT_APPEND,
	OPT_JSON,
	OPT_SVG,
	OPT_HELP
};

static const struct option long_options[] = {
	{ "vmm", required_argument, NULL, OPT_VMM },
	{ "guest", required_argument, NULL, OPT_GUEST },
	{ "synic", required_argument, NULL, OPT_SYNIC },
	{ "channels", required_argument, NULL, OPT_CHANNELS },
	{ "in-flight", required_argument, NULL, OPT_IN_FLIGHT },
	{ "payload", required_argument, NULL, OPT_PAYLOAD },
	{ "packets", required_argument, NULL, OPT_PACKETS },
	{ "runs", required_argument, NULL, OPT_RUNS },
	{ "boot-kernel", required_argument, NULL, OPT_KERNEL },
	{ "boot-initrd", required_argument, NULL, OPT_INITRD },
	{ "boot-append", required_argument, NULL, OPT_APPEND },
	{ "json", required_argument, NULL, OPT_JSON },
	{ "svg", required_argument, NULL, OPT_SVG },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

/* One number, or the first of a list. */
static uint32_t first(const char *name, const char *text, uint32_t min, uint32_t max)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || end == text || (*end && *end != ',') || *text == '-' || v < min || v > max)
		die(BENCH_EXIT_USAGE, "%s %s: expected a number from %u to %u", name, text, min,
		    max);
	return (uint32_t)v;
}

static uint32_t number(const char *name, const char *text, uint32_t min, uint32_t max)
{
	if (strchr(text, ','))
		die(BENCH_EXIT_USAGE, "%s %s: expected one number", name, text);
	return first(name, text, min, max);
}

static void numbers(const char *name, const char *text, struct list *list, uint32_t min,
		    uint32_t max)
{
	for (list->count = 0; text; text = strchr(text, ',') ? strchr(text, ',') + 1 : NULL) {
		if (list->count == 8)
			die(BENCH_EXIT_USAGE, "%s: more than 8 values", name);
		list->value[list->count++] = first(name, text, min, max);
	}
}

static void synic(struct kvm_bench *kb, const char *text)
{
	kb->way[0] = kb->way[1] = false;
	if (!strcmp(text, "user") || !strcmp(text, "kernel,user") || !strcmp(text, "user,kernel"))
		kb->way[0] = true;
	if (!strcmp(text, "kernel") || !strcmp(text, "kernel,user") || !strcmp(text, "user,kernel"))
		kb->way[1] = true;
	if (!kb->way[0] && !kb->way[1])
		die(BENCH_EXIT_USAGE, "--synic %s: expected kernel, user or kernel,user", text);
}

static void take(struct kvm_bench *kb, int c, const char *arg)
{
	switch (c) {
	case OPT_VMM:
		kb->vmm = arg;
		break;
	case OPT_GUEST:
		kb->payload = arg;
		break;
	case OPT_SYNIC:
		synic(kb, arg);
		break;
	case OPT_CHANNELS:
		numbers("--channels", arg, &kb->channels, 1, KVM_CHANNELS_MAX);
		break;
	case OPT_IN_FLIGHT:
		numbers("--in-flight", arg, &kb->windows, 1, 4096);
		break;
	case OPT_PAYLOAD:
		numbers("--payload", arg, &kb->payloads, 16, 4096);
		break;
	case OPT_PACKETS:
		kb->packets = number("--packets", arg, 1, 1u << 30);
		break;
	case OPT_RUNS:
		kb->opts.runs = number("--runs", arg, 1, KVM_RUNS_MAX);
		break;
	case OPT_KERNEL:
		kb->kernel = arg;
		break;
	case OPT_INITRD:
		kb->initrd = arg;
		break;
	case OPT_APPEND:
		kb->append = arg;
		break;
	case OPT_JSON:
		kb->opts.json = arg;
		break;
	case OPT_SVG:
		kb->opts.svg = arg;
		break;
	case OPT_HELP:
		kvm_usage();
		exit(BENCH_EXIT_OK);
	default:
		die(BENCH_EXIT_USAGE, "see vmbus-bench kvm --help");
	}
}

/* A program of the build tree or beside us; else the name, for PATH. */
static const char *beside(char *path, size_t bytes, const char *const *places)
{
	char self[400];
	const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (; slash && *places; places++) {
		*slash = '\0';
		snprintf(path, bytes, "%s/%s", self, *places);
		if (access(path, R_OK) == 0)
			return path;
	}
	return NULL;
}

void kvm_options(struct kvm_bench *kb, int argc, char **argv)
{
	static const char *const vmm[] = { "vmbus-vmm", "../vmm/vmbus-vmm", NULL };
	static const char *const guest[] = { "../tests/payload/payload", "payload", NULL };
	uint32_t i;
	int c;

	kb->opts.runs = 3;
	kb->way[0] = kb->way[1] = true;
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take(kb, c, optarg);
	if (optind < argc)
		die(BENCH_EXIT_USAGE, "%s: expected options only", argv[optind]);
	word_writable("--json", kb->opts.json);
	word_writable("--svg", kb->opts.svg);
	if (!kb->vmm)
		kb->vmm = beside(kb->vmm_path, sizeof(kb->vmm_path), vmm);
	if (!kb->vmm)
		kb->vmm = "vmbus-vmm";
	if (!kb->payload)
		kb->payload = beside(kb->payload_path, sizeof(kb->payload_path), guest);
	if (!kb->payload)
		die(BENCH_EXIT_USAGE, "no guest to run: name the payload of the build tree with "
				      "--guest BUILD/tests/payload/payload");
	if (!kb->windows.count)
		numbers("", "1,64", &kb->windows, 1, 4096);
	if (!kb->payloads.count)
		numbers("", "64", &kb->payloads, 16, 4096);
	for (i = 0; i < kb->payloads.count; i++)
		if (kb->payloads.value[i] % 8)
			die(BENCH_EXIT_USAGE, "--payload %u: not a multiple of 8",
			    kb->payloads.value[i]);
}
