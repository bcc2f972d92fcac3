/* SPDX-License-Identifier: MIT */
/*
 * The packet descriptor, decoded from a private copy.  These functions see only numbers that were
 * loaded once; they know no ring and no memory.
 */
#ifndef VMBUS_WIRE_PKT_H
#define VMBUS_WIRE_PKT_H

#include <stdbool.h>
#include <stdint.h>

#include <vmbus/wire.h>

#include "base/contract.h"

/* The first qword of a descriptor: type, offset8, length8, flags, 16 bits each, lowest first. */
#define VMBUS__DESC(type, offset8, length8, flags)                                                 \
	((uint64_t)(type) | (uint64_t)(offset8) << 16 | (uint64_t)(length8) << 32 |                \
	 (uint64_t)(flags) << 48)

/* Smallest packet with its trailer, in ring bytes. */
#define VMBUS__PKT_RING_BYTES_MIN (VMBUS_PKT_DESC_BYTES + VMBUS_PKT_TRAILER_BYTES)

/* Smallest offset8 of each type; 0 where there is no such type.  [PKT-EXT] */
extern const uint8_t vmbus__pkt_offset8_min[VMBUS_PKT_TYPES];

/*@ logic integer vmbus_d_type(integer d) = d % 65536;
  @ logic integer vmbus_d_offset8(integer d) = d / 65536 % 65536;
  @ logic integer vmbus_d_length8(integer d) = d / 4294967296 % 65536;
  @ logic integer vmbus_d_flags(integer d) = d / 281474976710656;
  @ logic integer vmbus_offset8_min(integer type) =
  @	type == 13 ? 4 : 2 <= type <= 5 || 7 <= type <= 9 ? 3 : 2;
  @ predicate vmbus_desc_ok(integer d, integer avail) =
  @	1 <= vmbus_d_type(d) <= 13 && 0 <= vmbus_d_flags(d) <= 1 &&
  @	vmbus_offset8_min(vmbus_d_type(d)) <= vmbus_d_offset8(d) <= vmbus_d_length8(d) &&
  @	vmbus_d_length8(d) * 8 + 8 <= avail; */

/*@ assigns \nothing;
  @ ensures \result == vmbus_d_type(d) && 0 <= \result <= 65535; */
static inline uint32_t vmbus__desc_type(uint64_t d)
{
	return (uint32_t)(d % 65536u);
}

/*@ assigns \nothing;
  @ ensures \result == vmbus_d_offset8(d) && 0 <= \result <= 65535; */
static inline uint32_t vmbus__desc_offset8(uint64_t d)
{
	return (uint32_t)(d / 65536u % 65536u);
}

/*@ assigns \nothing;
  @ ensures \result == vmbus_d_length8(d) && 0 <= \result <= 65535; */
static inline uint32_t vmbus__desc_length8(uint64_t d)
{
	return (uint32_t)(d / 4294967296u % 65536u);
}

/*@ assigns \nothing;
  @ ensures \result == vmbus_d_flags(d) && 0 <= \result <= 65535; */
static inline uint32_t vmbus__desc_flags(uint64_t d)
{
	return (uint32_t)(d / 281474976710656u);
}

/* Ring bytes of the packet that d describes: at least 8, at most VMBUS_PKT_RING_BYTES_MAX.  */
/*@ assigns \nothing;
  @ ensures \result == vmbus_d_length8(d) * 8 + 8;
  @ ensures 8 <= \result <= 524288;
  @ ensures \result % 8 == 0; */
static inline uint32_t vmbus__desc_ring_bytes(uint64_t d)
{
	return vmbus__desc_length8(d) * 8u + VMBUS_PKT_TRAILER_BYTES;
}

/*
 * Whether a descriptor is that of in-band data or a completion without a header, with flags that
 * exist: then length8 is all that is left to check.
 */
static inline bool vmbus__desc_is_simple(uint64_t d)
{
	const uint64_t rest = d & 0xfffe0000ffff0000u; /* offset8, and flags but for bit 0 */
	const uint32_t type = vmbus__desc_type(d);

	if (rest != VMBUS__DESC(0, 2u, 0, 0))
		return false;
	return VMBUS_LIKELY(type == VMBUS_PKT_INBAND) || type == VMBUS_PKT_COMPLETION;
}

/*
 * Check a descriptor against the bytes that the ring holds from it on.
 *
 * d	   first qword of the descriptor.
 * avail   bytes from the descriptor to the write index, at least 24.  That it is less than the size
 *	   of the ring, and that length8 has 16 bits, makes vmbus_ring_max_accept() hold.
 * value   on failure, what the peer wrote, and limit, what it had to keep.
 *
 * Returns VMBUS_FAULT_NONE or the field that is wrong.  When it returns NONE:
 *	   2 <= offset8 <= length8, offset8 is enough for the type, and packet and trailer lie
 *	   within avail.
 */
/*@ requires \valid(value) && \valid(limit) && \separated(value, limit);
  @ requires avail >= 24;
  @ assigns *value, *limit;
  @ ensures \result == VMBUS_FAULT_NONE <==> vmbus_desc_ok(d, avail);
  @ ensures \result == VMBUS_FAULT_NONE ==> 2 <= vmbus_d_offset8(d) &&
  @	24 <= vmbus_d_length8(d) * 8 + 8 <= avail;
  @ ensures \result != VMBUS_FAULT_NONE ==> \result == VMBUS_FAULT_PKT_TYPE ||
  @	\result == VMBUS_FAULT_PKT_FLAGS || \result == VMBUS_FAULT_PKT_OFFSET ||
  @	\result == VMBUS_FAULT_PKT_OFFSET_PAST || \result == VMBUS_FAULT_PKT_LENGTH;
  @ ensures \result == VMBUS_FAULT_PKT_TYPE ==>
  @	*value == vmbus_d_type(d) && *limit == 13 && !(1 <= *value <= *limit);
  @ ensures \result == VMBUS_FAULT_PKT_FLAGS ==>
  @	*value == vmbus_d_flags(d) && *limit == 1 && *value > *limit;
  @ ensures \result == VMBUS_FAULT_PKT_OFFSET ==> *value == vmbus_d_offset8(d) &&
  @	*limit == vmbus_offset8_min(vmbus_d_type(d)) && *value < *limit;
  @ ensures \result == VMBUS_FAULT_PKT_OFFSET_PAST ==>
  @	*value == vmbus_d_offset8(d) && *limit == vmbus_d_length8(d) && *value > *limit;
  @ ensures \result == VMBUS_FAULT_PKT_LENGTH ==>
  @	*value == vmbus_d_length8(d) * 8 + 8 && *limit == avail && *value > *limit; */
uint32_t vmbus__desc_check(uint64_t d, uint32_t avail, uint64_t *value, uint64_t *limit);

#endif
