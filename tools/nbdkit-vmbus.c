/* SPDX-License-Identifier: MIT */
/*
 * A plugin for nbdkit: a disk that a parent offers, as an NBD export, for everything that speaks NBD.
 *
 *	nbdkit ./nbdkit-vmbus-plugin.so socket=/run/parent.sock disk=0
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <vmbus/version.h>

#include "blk_engine.h"
#include "disk.h"

#define LOOK_BYTES (UINT64_C(16) << 20)
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct blk_client_opts opts = {
	.name = "nbdkit",
	.channels = 1,
	.depth = 64,
	.timeout_ns = UINT64_C(10000000000),
};
static struct blk_engine *engine;

static int number(const char *key, const char *value, uint32_t max, uint32_t *to)
{
	unsigned int n;

	if (nbdkit_parse_unsigned(key, value, &n))
		return -1;
	if (n == 0 || n > max) {
		nbdkit_error("%s=%s: it is 1 to %u", key, value, max);
		return -1;
	}
	*to = n;
	return 0;
}

static int plugin_config(const char *key, const char *value)
{
	if (strcmp(key, "socket") == 0) {
		opts.socket = nbdkit_absolute_path(value);
		return opts.socket ? 0 : -1;
	}
	if (strcmp(key, "disk") == 0) {
		if (disk_address(value, &opts.target, &opts.lun) == 0)
			return 0;
		nbdkit_error("disk=%s: it is a LUN, or TARGET:LUN", value);
		return -1;
	}
	if (strcmp(key, "serial") == 0) {
		static char serial[33];

		(void)snprintf(serial, sizeof(serial), "%s", value);
		opts.serial = serial;
		return 0;
	}
	if (strcmp(key, "queues") == 0)
		return number(key, value, 16, &opts.channels);
	if (strcmp(key, "depth") == 0)
		return number(key, value, 1024, &opts.depth);
	nbdkit_error("no such parameter: %s; there are socket, disk, serial, queues and depth",
		     key);
	return -1;
}

static int plugin_config_complete(void)
{
	if (opts.socket)
		return 0;
	nbdkit_error("of which parent: socket=PATH is missing");
	return -1;
}

static void log_line(void *ctx, const char *line)
{
	(void)ctx;
	nbdkit_debug("%s", line);
}

/*
 * Is there such a disk?  While whoever started nbdkit still looks at its exit status, and before there
 * is a socket: a child of the parent's for as long as this takes.
 */
static int plugin_get_ready(void)
{
	static struct blk_client client;
	struct blk_client_opts once = opts;
	char why[400] = "";

	once.name = "nbdkit, looking";
	once.channels = 1;
	once.depth = 1;
	once.memory_bytes = LOOK_BYTES;
	once.log = log_line;
	if (blk_client_open(&client, &once, why, sizeof(why))) {
		nbdkit_error("%s", why);
		return -1;
	}
	blk_client_close(&client);
	return 0;
}

/* The process that the parent knows us by is this one, and not the one that it was forked from. */
static int plugin_after_fork(void)
{
	char why[400] = "";

	opts.log = log_line;
	if (blk_engine_start(&engine, &opts, why, sizeof(why)) == 0)
		return 0;
	nbdkit_error("%s", why);
	return -1;
}

static void plugin_cleanup(void)
{
	blk_engine_stop(engine);
	engine = NULL;
}

static void *plugin_open(int readonly)
{
	(void)readonly;
	return engine;
}

static int64_t plugin_get_size(void *handle)
{
	const struct vmbus_storvsc_disk *const disk = blk_engine_disk(handle);

	return (int64_t)(disk->sectors * disk->sector);
}

static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
			     uint32_t *maximum)
{
	const struct vmbus_storvsc_disk *const disk = blk_engine_disk(handle);

	*minimum = disk->sector;
	*preferred = disk->block > 4096 && disk->block <= (32u << 20) ? disk->block : 4096;
	*maximum = UINT32_MAX;
	return 0;
}

static int plugin_can_write(void *handle)
{
	return !blk_engine_disk(handle)->read_only;
}

static int plugin_can_flush(void *handle)
{
	(void)handle;
	return 1;
}

static int plugin_can_fua(void *handle)
{
	return blk_engine_disk(handle)->fua ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_EMULATE;
}

static int plugin_can_trim(void *handle)
{
	return blk_engine_disk(handle)->discard;
}

/* All connections have the same channels: a flush is for all of them. */
static int plugin_can_multi_conn(void *handle)
{
	(void)handle;
	return 1;
}

static int answer(int err)
{
	if (!err)
		return 0;
	if (err == EINVAL)
		nbdkit_error("a request is not of whole sectors of %u bytes; the filter blocksize "
			     "makes it so",
			     blk_engine_disk(engine)->sector);
	nbdkit_set_error(err);
	return -1;
}

static int plugin_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)flags;
	return answer(blk_engine_do(handle, BLK_ENGINE_READ, buf, count, offset, false));
}

static int plugin_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
			 uint32_t flags)
{
	return answer(blk_engine_do(handle, BLK_ENGINE_WRITE, (void *)(uintptr_t)buf, count, offset,
				    flags & NBDKIT_FLAG_FUA));
}

static int plugin_flush(void *handle, uint32_t flags)
{
	(void)flags;
	if (!blk_engine_disk(handle)->cached)
		return 0;
	return answer(blk_engine_do(handle, BLK_ENGINE_FLUSH, NULL, 0, 0, false));
}

static int plugin_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	const struct vmbus_storvsc_disk *const disk = blk_engine_disk(handle);
	/* Part of a sector at either end is not worth an error: a trim is a wish. */
	const uint64_t from = (offset + disk->sector - 1) / disk->sector * disk->sector;
	const uint64_t to = (offset + count) / disk->sector * disk->sector;
	int err = 0;

	if (to > from)
		err = blk_engine_do(handle, BLK_ENGINE_TRIM, NULL, to - from, from, false);
	if (!err && (flags & NBDKIT_FLAG_FUA))
		return plugin_flush(handle, 0);
	return answer(err);
}

/* By a discard, where that is allowed and gives zeroes; else nbdkit writes them. */
static int plugin_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	const struct vmbus_storvsc_disk *const disk = blk_engine_disk(handle);

	if ((flags & NBDKIT_FLAG_MAY_TRIM) && disk->discard && disk->discard_zeroes &&
	    count % disk->sector == 0 && offset % disk->sector == 0)
		return plugin_trim(handle, count, offset, flags & NBDKIT_FLAG_FUA);
	nbdkit_set_error(EOPNOTSUPP);
	return -1;
}

static struct nbdkit_plugin plugin = {
	.name = "vmbus",
	.longname = "disk on a VMBus",
	.version = VMBUS_VERSION_STRING,
	.description = "Exports a disk that the parent at a socket offers, as a client of VMBus.",
	.config = plugin_config,
	.config_complete = plugin_config_complete,
	.config_help = "socket=PATH      (required) where the parent listens\n"
		       "disk=LUN         which disk, or TARGET:LUN [0]\n"
		       "serial=TEXT      that the disk has, if several controllers have one there\n"
		       "queues=N         channels, up to 16 [1]\n"
		       "depth=N          requests at once on each, up to 1024 [64]",
	.magic_config_key = "socket",
	.get_ready = plugin_get_ready,
	.after_fork = plugin_after_fork,
	.cleanup = plugin_cleanup,
	.open = plugin_open,
	.get_size = plugin_get_size,
	.block_size = plugin_block_size,
	.can_write = plugin_can_write,
	.can_flush = plugin_can_flush,
	.can_fua = plugin_can_fua,
	.can_trim = plugin_can_trim,
	.can_multi_conn = plugin_can_multi_conn,
	.pread = plugin_pread,
	.pwrite = plugin_pwrite,
	.flush = plugin_flush,
	.trim = plugin_trim,
	.zero = plugin_zero,
};

NBDKIT_REGISTER_PLUGIN(plugin)
