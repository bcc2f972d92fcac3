/* SPDX-License-Identifier: MIT */
/*
 * What the two files of the io_uring store share: the open file, and what is known of it.
 */
#ifndef VMBUS_BLOCK_URING_H
#define VMBUS_BLOCK_URING_H

#include <vmbus/store_uring.h>

#include "base/atomic.h"

/* A file or a block device; does not change after it was opened, but for what is lost. */
struct vmbus__uring {
	int fd;
	bool is_device;
	bool read_only;
	bool rotates;
	bool punches;	 /* holes can be made, and read as zeroes */
	bool cached;	 /* not O_DIRECT: writes that are done are in the page cache */
	vmbus__a32 lost; /* some of those may never be written: no flush can be good any more */
	uint32_t entries;
	uint32_t busy_ns;
	uint32_t block_bytes;
	uint32_t discard_bytes;
	uint32_t align_bytes;  /* of offsets and lengths */
	uint32_t memory_align; /* of addresses, and of the lengths of pieces */
	uint32_t range_align;  /* of holes and zeroes */
	struct vmbus_store_ops ops;
};

/* Open, lock and look: all of it but ops.  Errors: those of vmbus_store_uring(). */
int vmbus__uring_open(struct vmbus__uring *u, const struct vmbus_store_uring_opts *opts);
int vmbus__uring_info(void *ctx, struct vmbus_store_info *info);

#endif
