/* SPDX-License-Identifier: MIT */
/* Disks of a command line, on one controller. */
#include "blk_disks.h"

#include "blk.h"

static void block_log(void *ctx, const char *line)
{
	(void)ctx;
	blk_say("%s", line);
}

static void block_removed(void *ctx, uint8_t target, uint8_t lun, const struct vmbus_store *store)
{
	struct vmbus_store gone = *store;

	(void)ctx;
	(void)target;
	(void)lun;
	vmbus_store_destroy(&gone);
}

int blk_disks_word(struct blk_disks *disks, const char *text)
{
	struct disk_spec *const spec = &disks->spec[disks->count];
	char why[800];

	if (disks->count == BLK_DISKS_MAX)
		return blk_usage("%s: %u disks are the most", text, BLK_DISKS_MAX);
	if (disk_parse(spec, text, why, sizeof(why)))
		return blk_usage("%s", why);
	disks->queues = spec->queues > disks->queues ? spec->queues : disks->queues;
	disks->spin_us = spec->spin_us > disks->spin_us ? spec->spin_us : disks->spin_us;
	disks->count++;
	return 0;
}

int blk_disks_create(struct blk_disks *disks, const char *socket, const char *name)
{
	const struct vmbus_block_opts opts = { .struct_bytes = sizeof(opts),
					       .subchannels = disks->queues ? disks->queues - 1 : 0,
					       .log = block_log,
					       .removed = block_removed };
	const int err = vmbus_block_create(&opts, &disks->block);
	uint32_t i;

	for (i = 0; i < disks->count; i++)
		disk_identify(&disks->spec[i], socket, name);
	return err ? blk_failed("the controller: %s", vmbus_err_name(err)) : 0;
}

int blk_disks_add(struct blk_disks *disks, uint32_t i, int fd)
{
	struct disk_spec *const spec = &disks->spec[i];
	struct vmbus_store store;
	char why[800];

	if (spec->kind == DISK_NONE)
		return 0;
	if (disk_open(spec, fd, &store, why, sizeof(why)))
		return blk_failed("%s", why);
	if (disk_add(disks->block, spec, &store, why, sizeof(why)) == 0)
		return 0;
	vmbus_store_destroy(&store);
	return blk_failed("%s", why);
}

void blk_disks_destroy(struct blk_disks *disks)
{
	vmbus_block_destroy(disks->block);
	disks->block = NULL;
}
