/* SPDX-License-Identifier: MIT */
/*
 * The window: bytes of a ring, contiguous up to linear_p from data_p (all of it twice when
 * mirrored, once when plain, nothing when scattered).  Every access first asks whether it lies
 * within that, which is one comparison; what does not goes piece by piece.
 */
#ifndef VMBUS_RING_COPY_H
#define VMBUS_RING_COPY_H

#include <vmbus/ring.h>

#include "base/dirty.h"
#include "base/untrusted.h"

/* Whether len bytes from at lie one behind the other in our address space. */
static inline bool vmbus__mem_linear(const struct vmbus_ring_mem *mem, uint32_t at, uint32_t len)
{
	return (uint64_t)at + len <= mem->linear_p;
}

/* Where the byte at an offset below size is, and how many follow it there, up to len. */
uint8_t *vmbus__mem_piece(const struct vmbus_ring_mem *mem, uint32_t at, uint32_t len,
			  uint32_t *here);

/* Copies that may be split; at is below size, len at most size. */
void vmbus__mem_read(const struct vmbus_ring_mem *mem, uint32_t at, void *to, uint32_t len);
void vmbus__mem_write(const struct vmbus_ring_mem *mem, uint32_t at, const void *from,
		      uint32_t len);

/* Mark what lies from first on to next, which is behind the last byte written. */
void vmbus__mem_dirty(const struct vmbus_ring_mem *mem, uint32_t first, uint32_t next);

/* Whether anybody collects the pages that we write. */
static inline bool vmbus__mem_dirty_wanted(const struct vmbus_ring_mem *mem)
{
	return VMBUS_UNLIKELY(mem->dirty_p != NULL);
}

static inline void vmbus__ctl_dirty(const struct vmbus_ring_mem *mem)
{
	if (vmbus__mem_dirty_wanted(mem))
		vmbus__dirty_frame(mem->dirty_p, mem->dirty_p->ctl_frame);
}

#endif
