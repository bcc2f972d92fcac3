/* SPDX-License-Identifier: MIT */
/*
 * A VLAN tag that stands beside a frame, put into it.
 */
#include <vmbus/frame.h>

#include "frame/bytes.h"

#define ADDRESSES_BYTES 12u
#define TAG_BYTES 4u
#define TYPE_VLAN 0x8100u

/* The frame's pieces from byte `from` on, behind the new head; how many pieces in all, or 0. */
static uint32_t add_rest(struct vmbus_frame_tagged *tagged, const struct vmbus_frame *frame,
			 uint32_t from)
{
	uint32_t used = 1, i;

	for (i = 0; i < frame->pieces; i++) {
		const size_t len = frame->piece[i].len;
		const uint32_t skip = from < len ? from : (uint32_t)len;

		from -= skip;
		if (skip == len)
			continue;
		if (used > VMBUS_FRAME_CUT_PIECES)
			return 0;
		tagged->iov_p[used++] =
			(struct vmbus_iov){ (const uint8_t *)frame->piece[i].base + skip,
					    len - skip };
	}
	return used;
}

int vmbus_frame_tag(struct vmbus_frame_tagged *tagged, const struct vmbus_frame *frame,
		    struct vmbus_frame *out)
{
	const size_t first = frame->pieces ? frame->piece[0].len : 0;
	const uint32_t head = first < VMBUS_FRAME_HEAD ? (uint32_t)first : VMBUS_FRAME_HEAD;
	const uint8_t *from;
	uint32_t pieces;

	if (!(frame->flags & VMBUS_FRAME_VLAN))
		return VMBUS_E_INVAL;
	if (head < ADDRESSES_BYTES || frame->bytes > VMBUS_FRAME_BYTES_MAX - TAG_BYTES)
		return VMBUS_E_RANGE;
	pieces = add_rest(tagged, frame, head);
	if (!pieces)
		return VMBUS_E_FULL;
	from = frame->piece[0].base;
	__builtin_memcpy(tagged->head_p, from, ADDRESSES_BYTES);
	vmbus__put_be16(tagged->head_p + ADDRESSES_BYTES, TYPE_VLAN);
	vmbus__put_be16(tagged->head_p + ADDRESSES_BYTES + 2, frame->vlan);
	__builtin_memcpy(tagged->head_p + ADDRESSES_BYTES + TAG_BYTES, from + ADDRESSES_BYTES,
			 head - ADDRESSES_BYTES);
	tagged->iov_p[0] = (struct vmbus_iov){ tagged->head_p, head + TAG_BYTES };
	*out = *frame;
	out->piece = tagged->iov_p;
	out->pieces = pieces;
	out->bytes = frame->bytes + TAG_BYTES;
	out->flags = frame->flags & ~VMBUS_FRAME_VLAN;
	out->vlan = 0;
	if (frame->flags & (VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6))
		out->csum_start = (uint16_t)((frame->csum_start + TAG_BYTES) & 0xffffu);
	if (frame->flags & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6))
		out->header_bytes = (uint16_t)((frame->header_bytes + TAG_BYTES) & 0xffffu);
	return 0;
}
