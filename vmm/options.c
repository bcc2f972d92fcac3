/* SPDX-License-Identifier: MIT */
/* The command line.  Each wrong word is named, with what would be right. */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmbus/version.h>

static const char usage[] =
	"usage: vmbus-vmm --kernel FILE [option ...]\n"
	"       vmbus-vmm --restore FOLDER [option ...]\n"
	"       vmbus-vmm --send PATH LINE\n"
	"       vmbus-vmm --help | --version\n"
	"\n"
	"  --kernel FILE        bzImage of a distribution, or a 64-bit ELF file\n"
	"  --initrd FILE        its initial file system\n"
	"  --append TEXT        its command line\n"
	"  --mem SIZE           its memory, for instance 512M or 2G [512M]\n"
	"  --cpus N             its processors, 1 to 254 [1]\n"
	"  --synic WAY          kernel, user or auto: who is Hyper-V, KVM or this program [auto]\n"
	"  --device echo[,monitor=US][,count=N]\n"
	"                       offer N echo devices; more than once if you like\n"
	"  --device provider=SOCKET\n"
	"                       offer what vmbus-provider attaches to this socket\n"
	"  --disk STORE[,WORD...]\n"
	"                       a disk; more than once if you like.  STORE: file=PATH, nbd=URI,\n"
	"                       mem=SIZE, null=SIZE, or none; WORD: ro, sector=512|4096, lun=N,\n"
	"                       serial=TEXT, queues=N, spin=US, direct and others, vmbus-vmm(1)\n"
	"  --net PORT[,WORD...] a network interface; more than once if you like.  PORT: tap=NAME,\n"
	"                       user, switch=SOCKET, packet=INTERFACE or null; WORD: mac=, "
	"queues=N,\n"
	"                       mtu=N, capture=FILE, hostfwd=, link=down and others, vmbus-vmm(1)\n"
	"  --no-ic              no shutdown, time and heartbeat components\n"
	"  --no-reboot          end when the guest resets itself\n"
	"  --serial FILE        copy the serial console to a file\n"
	"  --socket PATH        answer vmbusctl on this socket\n"
	"  --control PATH       take commands on this socket (--send)\n"
	"  --record FILE        keep the last control events in a file: vmbusctl record FILE\n"
	"  --restore FOLDER     run a machine on that the command save FOLDER has written\n"
	"  --report FILE        write a report in JSON at the end\n"
	"  --timeout SECONDS    end after that time, with status 5\n"
	"  --numa-node N        memory from this node of the machine\n"
	"  --huge-pages         memory of 2 MiB pages\n"
	"  --sandbox on|off     drop privileges and filter system calls [on]\n"
	"  --verbose, --quiet   more words, or only those about errors\n"
	"\n"
	"Ctrl-C asks the guest to shut down; a second one ends it.  See vmbus-vmm(1).\n";

enum {
	O_KERNEL = 256,
	O_INITRD,
	O_APPEND,
	O_MEM,
	O_CPUS,
	O_SYNIC,
	O_DEVICE,
	O_DISK,
	O_NET,
	O_NO_IC,
	O_NO_REBOOT,
	O_SERIAL,
	O_SOCKET,
	O_CONTROL,
	O_SEND,
	O_RESTORE,
	O_RECORD,
	O_REPORT,
	O_TIMEOUT,
	O_NODE,
	O_HUGE,
	O_SANDBOX,
	O_VERBOSE,
	O_QUIET,
	O_HELP,
	O_VERSION
};

static const struct option longs[] = { { "kernel", required_argument, NULL, O_KERNEL },
				       { "initrd", required_argument, NULL, O_INITRD },
				       { "append", required_argument, NULL, O_APPEND },
				       { "mem", required_argument, NULL, O_MEM },
				       { "cpus", required_argument, NULL, O_CPUS },
				       { "synic", required_argument, NULL, O_SYNIC },
				       { "device", required_argument, NULL, O_DEVICE },
				       { "disk", required_argument, NULL, O_DISK },
				       { "net", required_argument, NULL, O_NET },
				       { "no-ic", no_argument, NULL, O_NO_IC },
				       { "no-reboot", no_argument, NULL, O_NO_REBOOT },
				       { "serial", required_argument, NULL, O_SERIAL },
				       { "socket", required_argument, NULL, O_SOCKET },
				       { "control", required_argument, NULL, O_CONTROL },
				       { "send", required_argument, NULL, O_SEND },
				       { "restore", required_argument, NULL, O_RESTORE },
				       { "record", required_argument, NULL, O_RECORD },
				       { "report", required_argument, NULL, O_REPORT },
				       { "timeout", required_argument, NULL, O_TIMEOUT },
				       { "numa-node", required_argument, NULL, O_NODE },
				       { "huge-pages", no_argument, NULL, O_HUGE },
				       { "sandbox", required_argument, NULL, O_SANDBOX },
				       { "verbose", no_argument, NULL, O_VERBOSE },
				       { "quiet", no_argument, NULL, O_QUIET },
				       { "help", no_argument, NULL, O_HELP },
				       { "version", no_argument, NULL, O_VERSION },
				       { NULL, 0, NULL, 0 } };

static int memory_size(const char *text, uint64_t *bytes)
{
	const char *unit;
	uint64_t n, scale = MIB;

	if (disk_number(text, UINT64_C(1) << 40, &n, &unit))
		goto wrong;
	if (*unit == 'G' || *unit == 'g')
		scale = GIB;
	else if (*unit && *unit != 'M' && *unit != 'm')
		goto wrong;
	if ((*unit && unit[1]) || n > (UINT64_C(1) << 40) / scale || n * scale < 8 * MIB)
		goto wrong;
	*bytes = n * scale;
	return 0;
wrong:
	return vmm_error("--mem %s: a size is a number with M or G, 8M to 1024G", text);
}

static int device_part(struct vmm_device *device, const char *part, const char *text)
{
	uint64_t n;

	if (strncmp(part, "monitor=", 8) == 0) {
		if (disk_number(part + 8, 1000000, &n, NULL) || n == 0)
			return vmm_error("--device %s: monitor= takes microseconds, 1 to 1000000",
					 text);
		device->monitor_us = (uint32_t)n;
	} else if (strncmp(part, "count=", 6) == 0) {
		if (disk_number(part + 6, VMM_CHANNELS_MAX, &n, NULL) || n == 0)
			return vmm_error("--device %s: count= takes 1 to %u", text,
					 VMM_CHANNELS_MAX);
		device->count = (uint32_t)n;
	} else {
		return vmm_error("--device %s: no such option: %s; echo has monitor=US and count=N",
				 text, part);
	}
	return 0;
}

static int provider(struct vmm_opts *opts, const char *path)
{
	if (opts->provider_count == VMM_PROVIDERS_MAX)
		return vmm_error("--device provider=%s: %u sockets are the most; any number of "
				 "providers can share one",
				 path, VMM_PROVIDERS_MAX);
	if (!*path || strlen(path) > 96)
		return vmm_error("--device provider=%s: a socket's path has 1 to 96 characters",
				 path);
	opts->providers[opts->provider_count++] = path;
	return 0;
}

static int device(struct vmm_opts *opts, const char *text)
{
	struct vmm_device *const new = &opts->devices[opts->device_count];
	char copy[128], *save, *part;

	if (strncmp(text, "provider=", 9) == 0)
		return provider(opts, text + 9);
	if (opts->device_count == VMM_DEVICES_MAX)
		return vmm_error("--device %s: %u of them are the most", text, VMM_DEVICES_MAX);
	if (strlen(text) >= sizeof(copy))
		return vmm_error("--device: %.40s... is too long", text);
	strcpy(copy, text);
	part = strtok_r(copy, ",", &save);
	if (!part || strcmp(part, "echo") != 0)
		return vmm_error("--device %s: no such device; there are echo and "
				 "provider=SOCKET",
				 text);
	new->count = 1;
	new->monitor_us = 0;
	while ((part = strtok_r(NULL, ",", &save)))
		if (device_part(new, part, text))
			return -1;
	opts->device_count++;
	return 0;
}

static int disk(struct vmm_opts *opts, const char *text)
{
	char why[800];

	if (opts->disk_count == VMM_DISKS_MAX)
		return vmm_error("--disk %s: %u of them are the most", text, VMM_DISKS_MAX);
	if (disk_parse(&opts->disks[opts->disk_count], text, why, sizeof(why)))
		return vmm_error("--disk %s", why);
	disk_identify(&opts->disks[opts->disk_count], NULL, NULL);
	opts->disk_count++;
	return 0;
}

static int net(struct vmm_opts *opts, const char *text)
{
	char why[NIC_WHY_BYTES];

	if (opts->net_count == VMM_NETS_MAX)
		return vmm_error("--net %s: %u of them are the most", text, VMM_NETS_MAX);
	if (nic_parse(&opts->nets[opts->net_count], text, why) ||
	    nic_alone(opts->nets, opts->net_count, why))
		return vmm_error("--net %s", why);
	opts->net_count++;
	return 0;
}

static int synic(struct vmm_opts *opts, const char *text)
{
	if (strcmp(text, "auto") == 0)
		opts->way = VMBUS_KVM_AUTO;
	else if (strcmp(text, "kernel") == 0)
		opts->way = VMBUS_KVM_KERNEL;
	else if (strcmp(text, "user") == 0)
		opts->way = VMBUS_KVM_USER;
	else
		return vmm_error("--synic %s: it is kernel, user or auto", text);
	return 0;
}

static int seconds(struct vmm_opts *opts, const char *text)
{
	char *end;
	double n;

	errno = 0;
	n = strtod(text, &end);
	if (errno || end == text || *end || !(n >= 0.001 && n <= 1e7))
		return vmm_error("--timeout %s: seconds are 0.001 to 10000000", text);
	opts->timeout_ns = (uint64_t)(n * 1e9);
	return 0;
}

static int small(const char *name, const char *text, uint32_t min, uint32_t max, uint32_t *value)
{
	uint64_t n;

	if (disk_number(text, max, &n, NULL) || n < min)
		return vmm_error("--%s %s: it takes a number, %u to %u", name, text, min, max);
	*value = (uint32_t)n;
	return 0;
}

static int switch_of(const char *text, bool *off)
{
	if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
		return vmm_error("--sandbox %s: it is on or off", text);
	*off = text[1] == 'f';
	return 0;
}

/* Options that take a number or a word. */
static int valued(struct vmm_opts *opts, int c)
{
	uint32_t node = 0;

	switch (c) {
	case O_MEM:
		return memory_size(optarg, &opts->memory_bytes);
	case O_CPUS:
		return small("cpus", optarg, 1, VMM_CPUS_MAX, &opts->cpus);
	case O_SYNIC:
		return synic(opts, optarg);
	case O_DEVICE:
		return device(opts, optarg);
	case O_DISK:
		return disk(opts, optarg);
	case O_NET:
		return net(opts, optarg);
	case O_TIMEOUT:
		return seconds(opts, optarg);
	case O_SANDBOX:
		return switch_of(optarg, &opts->no_sandbox);
	case O_NODE:
		if (small("numa-node", optarg, 0, 1023, &node))
			return -1;
		opts->node = (int32_t)node;
		return 0;
	default:
		return vmm_error("--help lists the options");
	}
}

static int one(struct vmm_opts *opts, int c)
{
	switch (c) {
	case O_KERNEL:
		opts->kernel = optarg;
		return 0;
	case O_INITRD:
		opts->initrd = optarg;
		return 0;
	case O_APPEND:
		opts->append = optarg;
		return 0;
	case O_SERIAL:
		opts->serial = optarg;
		return 0;
	case O_SOCKET:
		opts->socket = optarg;
		return 0;
	case O_CONTROL:
		opts->control = optarg;
		return 0;
	case O_RECORD:
		opts->record = optarg;
		return 0;
	case O_SEND:
		opts->send = optarg;
		return 0;
	case O_RESTORE:
		opts->restore = optarg;
		return 0;
	case O_REPORT:
		opts->report = optarg;
		return 0;
	case O_NO_IC:
		opts->no_ic = true;
		return 0;
	case O_NO_REBOOT:
		opts->no_reboot = true;
		return 0;
	case O_HUGE:
		opts->huge_pages = true;
		return 0;
	case O_VERBOSE:
		opts->verbose = true;
		return 0;
	case O_QUIET:
		opts->quiet = true;
		return 0;
	default:
		return valued(opts, c);
	}
}

static int check(struct vmm_opts *opts, int argc, char **argv)
{
	uint32_t i, channels = 0, queues = 0;

	if (opts->send) {
		if (optind + 1 != argc)
			return vmm_error("--send PATH takes one LINE, in quotes if it has spaces");
		opts->send_line = argv[optind];
		return 0;
	}
	if (optind != argc)
		return vmm_error("%s: options begin with --; --append takes one word, in quotes if "
				 "it has spaces",
				 argv[optind]);
	if (opts->restore && opts->shaped)
		return vmm_error("--restore: memory, processors and devices are those of the saved "
				 "machine; leave out --mem, --cpus, --device echo and --no-ic");
	if (!opts->kernel && !opts->restore)
		return vmm_error("no kernel: name one with --kernel, for instance "
				 "--kernel /boot/vmlinuz-$(uname -r)");
	for (i = 0; i < opts->device_count; i++)
		channels += opts->devices[i].count;
	for (i = 0; i < opts->disk_count; i++)
		queues = opts->disks[i].queues > queues ? opts->disks[i].queues : queues;
	for (i = 0; i < opts->net_count; i++)
		queues += opts->nets[i].queues;
	if (channels + queues + (opts->no_ic ? 0u : 3u) > VMM_CHANNELS_MAX)
		return vmm_error("--device: %u channels in all; %u are the most, and the "
				 "integration components take 3 (--no-ic)",
				 channels + queues, VMM_CHANNELS_MAX);
	return 0;
}

int vmm_options(struct vmm_opts *opts, int argc, char **argv)
{
	int c;

	memset(opts, 0, sizeof(*opts));
	opts->memory_bytes = 512 * MIB;
	opts->cpus = 1;
	opts->node = -1;
	opts->append = "";
	opterr = 0;
	optind = 0; /* begins anew, as tests do */
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c == O_HELP || c == O_VERSION) {
			if (c == O_HELP)
				fputs(usage, stdout);
			else
				printf("vmbus-vmm %s\n", vmbus_version_string());
			return 1;
		}
		if (c == ':')
			return vmm_error("%s needs a value; --help lists the options",
					 argv[optind - 1]);
		if (c == '?')
			return vmm_error("%s: no such option; --help lists them", argv[optind - 1]);
		if (one(opts, c))
			return -1;
		opts->shaped |= c == O_MEM || c == O_CPUS || c == O_NO_IC ||
				(c == O_DEVICE && strncmp(optarg, "echo", 4) == 0);
	}
	vmm_verbose = opts->verbose;
	vmm_quiet = opts->quiet;
	return check(opts, argc, argv);
}
