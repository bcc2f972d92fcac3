/* SPDX-License-Identifier: MIT */
/*
 * Marking of pages that we wrote.  The bit is set after the bytes and with a release, so whoever
 * takes the bit and copies the page then copies the bytes as well.
 */
#ifndef VMBUS_BASE_DIRTY_H
#define VMBUS_BASE_DIRTY_H

#include <vmbus/base.h>

#include "base/atomic.h"

static inline void vmbus__dirty_frame(const struct vmbus_dirty *d, uint64_t frame)
{
	if (frame < d->frames)
		vmbus__or64_release(vmbus__as_a64(&d->bitmap[frame / 64u]), /* DIRTY.mark */
				    (uint64_t)1 << (frame % 64u));
}

/* The frames of len bytes from guest physical address at on, of which there is at least one. */
static inline void vmbus__dirty_bytes(const struct vmbus_dirty *d, uint64_t at, uint64_t len)
{
	const uint64_t last = (at + (len - 1)) / VMBUS_PAGE_BYTES;
	uint64_t frame;

	for (frame = at / VMBUS_PAGE_BYTES; frame <= last; frame++)
		vmbus__dirty_frame(d, frame);
}

/* Data bytes first to last of a ring's window, both included. */
static inline void vmbus__dirty_data(const struct vmbus_dirty *d, uint32_t first, uint32_t last)
{
	uint32_t page;

	for (page = first / VMBUS_PAGE_BYTES; page <= last / VMBUS_PAGE_BYTES; page++)
		vmbus__dirty_frame(d, d->frame_list ? d->frame_list[page] : d->first_frame + page);
}

#endif
