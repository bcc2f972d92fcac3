/* SPDX-License-Identifier: MIT */
/* vmbusctl replay: a captured channel is fed to a device of the library's again. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <vmbus/echo.h>
#include <vmbus/replay.h>

#include "capture.h"

/* The devices that need nothing but a channel. */
struct device {
	const char *name;
	const struct vmbus_vsp *(*vsp)(void);
};

static const struct device devices[] = { { "echo", vmbus_echo_vsp } };

static const struct vmbus_vsp *vsp_of(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		if (strcmp(name, devices[i].name) == 0)
			return devices[i].vsp();
	fprintf(stderr, "vmbusctl: %s: no such device; there is:", name);
	for (i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		fprintf(stderr, " %s", devices[i].name);
	fputs("; others by vmbus_replay(3)\n", stderr);
	return NULL;
}

static void line(void *ctx, const char *text)
{
	(void)ctx;
	puts(text);
}

static int replay(const char *path, const struct vmbus_vsp *vsp, uint32_t channel)
{
	struct vmbus_replay_opts opts = {
		.struct_bytes = sizeof(opts), .vsp = vsp, .channel = channel, .line = line
	};
	struct vmbus_replay_result result;
	FILE *file;
	int err, status;

	opts.capture = ctl_capture_open(path, &file);
	if (!opts.capture)
		return CTL_FAILED;
	err = vmbus_replay(&opts, &result);
	status = err || result.differences || !result.complete ? CTL_FAILED : CTL_OK;
	if (err)
		(void)ctl_capture_failed(path, opts.capture, err);
	else if (result.records == 0) {
		fprintf(stderr, "vmbusctl: %s: no record of channel %u\n", path, channel);
		status = CTL_FAILED;
	} else
		printf("%llu openings, %llu packets in %llu batches fed; %llu captured, %llu sent: "
		       "%llu differences%s\n",
		       (unsigned long long)result.opens, (unsigned long long)result.fed,
		       (unsigned long long)result.batches, (unsigned long long)result.expected,
		       (unsigned long long)result.sent, (unsigned long long)result.differences,
		       result.complete ? "" : ", not replayed to its end");
	vmbus_capture_reader_destroy(opts.capture);
	fclose(file);
	return status;
}

int ctl_replay(int argc, char **argv)
{
	static const struct option longs[] = { { "vsp", required_argument, NULL, 'v' },
					       { "channel", required_argument, NULL, 'c' },
					       { NULL, 0, NULL, 0 } };
	const struct vmbus_vsp *vsp = vmbus_echo_vsp();
	unsigned long channel = 0;
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'v') {
			vsp = vsp_of(optarg);
			if (!vsp)
				return CTL_USAGE;
		} else if (c == 'c') {
			channel = strtoul(optarg, &end, 10);
			if (end == optarg || *end || channel >= VMBUS_CAPTURE_CHANNELS_MAX) {
				fprintf(stderr, "vmbusctl: %s: channels are 0 to %u\n", optarg,
					VMBUS_CAPTURE_CHANNELS_MAX - 1);
				return CTL_USAGE;
			}
		} else {
			return CTL_USAGE;
		}
	}
	if (argc - optind != 1) {
		fputs("vmbusctl: replay takes one file; vmbusctl capture -w writes it\n", stderr);
		return CTL_USAGE;
	}
	return replay(argv[optind], vsp, (uint32_t)channel);
}
