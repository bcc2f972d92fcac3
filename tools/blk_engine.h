/* SPDX-License-Identifier: MIT */
/*
 * A disk for many threads: each waits for its own request, and one thread of the engine's has the
 * connection.  Data goes through buffers that the parent can reach.
 */
#ifndef BLK_ENGINE_H
#define BLK_ENGINE_H

#include "blk_client.h"

#define BLK_ENGINE_CHUNK (256u << 10) /* of one request at most */

enum blk_engine_kind {
	BLK_ENGINE_READ,
	BLK_ENGINE_WRITE,
	BLK_ENGINE_FLUSH,
	BLK_ENGINE_TRIM
};

struct blk_engine; /* opaque */

/*
 * Open the disk and start the thread.  opts: its depth is that of each channel; memory_bytes, writable
 * and ctx are filled in.
 *
 * Returns 0, or -1 and a text.
 */
int blk_engine_start(struct blk_engine **engine, const struct blk_client_opts *opts, char *why,
		     size_t why_bytes);
/* No call is under way. */
void blk_engine_stop(struct blk_engine *engine);
const struct vmbus_storvsc_disk *blk_engine_disk(const struct blk_engine *engine);
/*
 * Do it, and wait until it is done.  Whole sectors; any length.
 *
 * Returns 0, or an errno.
 */
int blk_engine_do(struct blk_engine *engine, enum blk_engine_kind kind, void *data, uint64_t bytes,
		  uint64_t offset, bool fua);

#endif
