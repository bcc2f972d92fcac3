/* SPDX-License-Identifier: MIT */
/* vmbus-blk load: its command line, and what it asks of the disk before it begins. */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "blk_load.h"
#include "disk.h"

#define MIB (UINT64_C(1) << 20)
#define REGION (256 * MIB) /* of a verified load */
#define DEPTH_MAX 4096u

enum {
	O_DISK = 256,
	O_SERIAL,
	O_DEPTH,
	O_CHANNELS,
	O_SIZE,
	O_READ,
	O_TRIM,
	O_FLUSH,
	O_FUA,
	O_SEQUENTIAL,
	O_REGION,
	O_REQUESTS,
	O_SECONDS,
	O_VERIFY,
	O_UNALIGNED,
	O_SEED,
	O_SPIN,
	O_TIMEOUT,
	O_JSON
};

static const struct option longs[] = { { "disk", required_argument, NULL, O_DISK },
				       { "serial", required_argument, NULL, O_SERIAL },
				       { "depth", required_argument, NULL, O_DEPTH },
				       { "channels", required_argument, NULL, O_CHANNELS },
				       { "size", required_argument, NULL, O_SIZE },
				       { "read", required_argument, NULL, O_READ },
				       { "trim", required_argument, NULL, O_TRIM },
				       { "flush", required_argument, NULL, O_FLUSH },
				       { "fua", required_argument, NULL, O_FUA },
				       { "sequential", no_argument, NULL, O_SEQUENTIAL },
				       { "region", required_argument, NULL, O_REGION },
				       { "requests", required_argument, NULL, O_REQUESTS },
				       { "seconds", required_argument, NULL, O_SECONDS },
				       { "verify", no_argument, NULL, O_VERIFY },
				       { "unaligned", no_argument, NULL, O_UNALIGNED },
				       { "seed", required_argument, NULL, O_SEED },
				       { "spin", no_argument, NULL, O_SPIN },
				       { "timeout", required_argument, NULL, O_TIMEOUT },
				       { "json", no_argument, NULL, O_JSON },
				       { NULL, 0, NULL, 0 } };

static int sizes(struct load_opts *o, const char *text)
{
	char first[32];
	const char *const dash = strchr(text, '-');
	const size_t n = dash ? (size_t)(dash - text) : strlen(text);

	if (n >= sizeof(first))
		return -1;
	memcpy(first, text, n);
	first[n] = 0;
	if (disk_size(first, &o->size_min))
		return -1;
	o->size_max = o->size_min;
	if (dash && disk_size(dash + 1, &o->size_max))
		return -1;
	return o->size_max < o->size_min || o->size_max > VMBUS_STORVSC_TRANSFER_MAX ? -1 : 0;
}

static int small(const char *text, uint64_t min, uint64_t max, uint32_t *value)
{
	uint64_t n;

	if (disk_number(text, max, &n, NULL) || n < min)
		return -1;
	*value = (uint32_t)n;
	return 0;
}

static int duration(const char *text, uint64_t *ns)
{
	char *end;
	const double s = strtod(text, &end);

	if (end == text || *end || !(s > 0 && s <= 1e6))
		return -1;
	*ns = (uint64_t)(s * (double)BLK_SECOND);
	return 0;
}

static int flags(struct load_opts *o, int c)
{
	switch (c) {
	case O_SEQUENTIAL:
		o->sequential = true;
		return 0;
	case O_VERIFY:
		o->verify = true;
		return 0;
	case O_UNALIGNED:
		o->unaligned = true;
		return 0;
	case O_SPIN:
		o->client.poll = true;
		return 0;
	case O_JSON:
		o->json = true;
		return 0;
	default:
		return -1;
	}
}

static int one(struct load_opts *o, int c)
{
	switch (c) {
	case 's':
		o->client.socket = optarg;
		return 0;
	case O_DISK:
		return disk_address(optarg, &o->client.target, &o->client.lun);
	case O_SERIAL:
		o->client.serial = optarg;
		return 0;
	case O_DEPTH:
		return small(optarg, 1, DEPTH_MAX, &o->client.depth);
	case O_CHANNELS:
		return small(optarg, 1, VMBUS_STORVSC_CHANNELS_MAX, &o->client.channels);
	case O_SIZE:
		return sizes(o, optarg);
	case O_READ:
		return small(optarg, 0, 100, &o->read);
	case O_TRIM:
		return small(optarg, 0, 100, &o->trim);
	case O_FLUSH:
		return small(optarg, 0, 100, &o->flush);
	case O_FUA:
		return small(optarg, 0, 100, &o->fua);
	case O_REGION:
		return disk_size(optarg, &o->region);
	case O_REQUESTS:
		return disk_number(optarg, UINT64_MAX, &o->requests, NULL);
	case O_SECONDS:
		return duration(optarg, &o->run_ns);
	case O_SEED:
		return disk_number(optarg, UINT64_MAX, &o->seed, NULL);
	case O_TIMEOUT:
		return duration(optarg, &o->timeout_ns);
	default:
		return flags(o, c);
	}
}

static int parse(int argc, char **argv, struct load_opts *o)
{
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":s:", longs, NULL)) != -1) {
		if (c == ':')
			return blk_usage("load: %s needs a value", argv[optind - 1]);
		if (c == '?')
			return blk_usage("load: no such option: %s", argv[optind - 1]);
		if (one(o, c))
			return blk_usage("load: a wrong value: %s", optarg ? optarg : "");
	}
	if (optind != argc)
		return blk_usage("load: what is this: %s", argv[optind]);
	if (!o->client.socket)
		return blk_usage("load: of which parent: -s SOCKET is missing");
	if (!o->requests && !o->run_ns)
		o->run_ns = 5 * BLK_SECOND;
	o->client.timeout_ns = o->timeout_ns;
	return 0;
}

static void log_line(void *ctx, const char *line)
{
	(void)ctx;
	blk_say("%s", line);
}

/* What the disk is like, and what was asked for, must go together. */
static int fit(struct load *load)
{
	const struct vmbus_storvsc_disk *const disk = &load->client.disk;
	struct load_opts *const o = &load->opts;
	uint64_t bytes = disk->sectors * disk->sector;

	if (o->size_min % disk->sector || o->size_max % disk->sector)
		return blk_failed("load: --size: the disk has sectors of %u bytes", disk->sector);
	if (o->size_max > load->client.storvsc.transfer_bytes)
		return blk_failed("load: --size: the disk takes %u bytes at once at most",
				  load->client.storvsc.transfer_bytes);
	if (disk->read_only && (o->read < 100 || o->trim))
		return blk_failed("load: the disk is read-only: --read 100 reads it");
	if (o->trim && !disk->discard)
		return blk_failed("load: --trim: the disk has no discard");
	if (o->fua && !disk->fua)
		return blk_failed("load: --fua: the disk has no such writes");
	if (o->region && o->region < bytes)
		bytes = o->region;
	else if (o->verify && bytes > REGION)
		bytes = REGION;
	if (bytes / disk->sector > UINT32_MAX)
		bytes = (uint64_t)UINT32_MAX * disk->sector;
	load->sectors = (uint32_t)(bytes / disk->sector);
	if (o->verify && load->sectors > BLK_SECTORS_MAX)
		return blk_failed("load: --verify: %u sectors are the most; --region takes fewer",
				  BLK_SECTORS_MAX);
	if (load->sectors < o->size_max / disk->sector)
		return blk_failed("load: --size: the disk, or --region, is smaller");
	load->random = o->seed;
	if (o->verify && blk_pattern_init(&load->pattern, load->sectors, disk->sector, o->seed))
		return blk_failed("load: no memory for %u sectors", load->sectors);
	return 0;
}

static void say_begin(const struct load *load)
{
	const struct vmbus_storvsc_disk *const disk = &load->client.disk;
	struct vmbus_guid id;
	char text[37];

	memcpy(id.b, disk->id, sizeof(id.b));
	vmbus_guid_format(&id, text);
	blk_say("load: begins, %llu sectors of %u bytes, %u channel%s, depth %u",
		(unsigned long long)disk->sectors, disk->sector, load->client.channels,
		load->client.channels == 1 ? "" : "s", load->opts.client.depth);
	blk_say("load: disk %u:%u, serial %s, id %s", disk->target, disk->lun,
		disk->serial[0] ? disk->serial : "none", text);
}

int blk_load(int argc, char **argv)
{
	static struct load load = { .opts = { .client = { .name = "vmbus-blk load",
							  .channels = 1,
							  .depth = 32,
							  .log = log_line },
					      .size_min = 4096,
					      .size_max = 4096,
					      .read = 50,
					      .seed = 1,
					      .timeout_ns = 30 * BLK_SECOND } };
	struct blk_client_opts *const client = &load.opts.client;
	char why[400];
	int status = parse(argc, argv, &load.opts);

	if (status)
		return status;
	blk_catch_signals();
	client->memory_bytes = 16 * MIB + (uint64_t)client->channels * MIB +
			       (uint64_t)client->channels * client->depth *
				       (load.opts.size_max + 2 * VMBUS_PAGE_BYTES);
	client->memory_bytes = (client->memory_bytes + MIB - 1) / MIB * MIB;
	if (blk_client_open(&load.client, client, why, sizeof(why)))
		return blk_failed("load: %s", why);
	status = fit(&load);
	if (!status) {
		say_begin(&load);
		status = load_run(&load);
	}
	blk_pattern_free(&load.pattern);
	blk_client_close(&load.client);
	return status;
}
