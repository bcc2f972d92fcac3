/* SPDX-License-Identifier: MIT */
/* A controller with the disks of a command line. */
#ifndef BLK_DISKS_H
#define BLK_DISKS_H

#include "disk.h"

#define BLK_DISKS_MAX 64u

struct blk_disks {
	struct disk_spec spec[BLK_DISKS_MAX];
	uint32_t count;
	uint32_t queues, spin_us; /* the largest of all */
	struct vmbus_block *block;
};

/* One more word of the command line; 0, or an exit status that was explained. */
int blk_disks_word(struct blk_disks *disks, const char *text);
/*
 * The controller, without disks.
 *
 * socket, name  where and as what it is served: disks of memory are known by it.
 */
int blk_disks_create(struct blk_disks *disks, const char *socket, const char *name);
/*
 * Open store number i and add it.
 *
 * fd  of its memory, or -1.
 */
int blk_disks_add(struct blk_disks *disks, uint32_t i, int fd);
void blk_disks_destroy(struct blk_disks *disks);

#endif
