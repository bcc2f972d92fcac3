/* SPDX-License-Identifier: MIT */
/*
 * Numbers in network byte order, and sums, for the files of this module.
 */
#ifndef VMBUS_FRAME_BYTES_H
#define VMBUS_FRAME_BYTES_H

#include <vmbus/frame.h>

static inline uint16_t vmbus__be16(const uint8_t *from)
{
	return (uint16_t)(from[0] << 8 | from[1]);
}

static inline uint32_t vmbus__be32(const uint8_t *from)
{
	return (uint32_t)vmbus__be16(from) << 16 | vmbus__be16(from + 2);
}

static inline void vmbus__put_be16(uint8_t *to, uint32_t v)
{
	to[0] = (uint8_t)(v >> 8 & 255u);
	to[1] = (uint8_t)(v & 255u);
}

static inline void vmbus__put_be32(uint8_t *to, uint32_t v)
{
	vmbus__put_be16(to, v >> 16);
	vmbus__put_be16(to + 2, v & 0xffffu);
}

/*
 * Add bytes to a sum in one's complement of words as they lie in memory; len is even, but for the
 * last.  vmbus__frame_sum_end() is what is stored, as it lies in memory too.
 */
uint64_t vmbus__frame_sum(uint64_t sum, const void *at, size_t len);
uint16_t vmbus__frame_sum_end(uint64_t sum);

/* Of bytes from `from` to `to` of a frame, in pieces of any length. */
uint64_t vmbus__frame_sum_range(const struct vmbus_frame *frame, uint32_t from, uint32_t to);

#endif
