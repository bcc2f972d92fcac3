/* SPDX-License-Identifier: MIT */
/*
 * Writing of one packet into room that is already ours; shared by both sending ends.  Nothing here
 * reads what the peer can write.
 */
#ifndef VMBUS_RING_EMIT_H
#define VMBUS_RING_EMIT_H

#include <vmbus/ring.h>

#include "ring/copy.h"
#include "wire/pkt.h"

/*
 * Payloads up to this are copied in line, and the loop over them is free of calls.  A longer copy
 * is left to the C library, which takes whole lines from the other core in larger steps.  That is
 * twice as fast as in line where the cores share no cache, and half as fast where they do; who
 * knows where the program will run can say so: -DCMAKE_C_FLAGS=-DVMBUS__INLINE_COPY=8192u.
 */
#ifndef VMBUS__INLINE_COPY
#define VMBUS__INLINE_COPY 2048u
#endif

/*
 * A ring's lines lie in the cache of the core that read them last, and a store waits until its line
 * has come from there.  So the copy in line asks for the line so far ahead of what it writes: far
 * enough for several packets' lines to be under way at once, near enough for a first-level cache.
 */
#define VMBUS__WRITE_AHEAD 6144u

/*
 * Whether a message needs no more checks than its room: in-band data or a completion, no header, a
 * payload in one piece.
 */
static inline bool vmbus__msg_is_simple(const struct vmbus_msg *msg)
{
	return (msg->ext_len | msg->more_count) == 0 && msg->flags <= VMBUS_PKT_FLAG_COMPLETE &&
	       (msg->type == VMBUS_PKT_INBAND || msg->type == VMBUS_PKT_COMPLETION) &&
	       msg->len <= VMBUS_PKT_LENGTH_MAX - VMBUS_PKT_DESC_BYTES;
}

/*
 * The same for the loop over small messages.  Each field is read once and with the width in which
 * callers write it: a wider load right after their stores would have to wait for them.
 */
struct vmbus__small {
	uint32_t len;
	uint32_t type;
	uint32_t flags;
};

static inline bool vmbus__msg_is_small(const struct vmbus_msg *msg, struct vmbus__small *small)
{
	small->len = msg->len;
	small->type = msg->type;
	small->flags = msg->flags;
	if (VMBUS_UNLIKELY(small->len > VMBUS__INLINE_COPY))
		return false;
	if (VMBUS_UNLIKELY((msg->ext_len | msg->more_count) != 0))
		return false;
	if (VMBUS_UNLIKELY(small->flags > VMBUS_PKT_FLAG_COMPLETE))
		return false;
	return VMBUS_LIKELY(small->type == VMBUS_PKT_INBAND) || small->type == VMBUS_PKT_COMPLETION;
}

/* The descriptor of such a message: bytes is its size in the ring. */
static inline uint64_t vmbus__small_desc(const struct vmbus__small *small, uint32_t bytes)
{
	return VMBUS__DESC(small->type, 2u, 0, small->flags) |
	       (uint64_t)(bytes - 8u) << 29; /* (bytes / 8 - 1) << 32 */
}

/* Ring bytes of a simple message: its length rounded up, and the smallest packet. */
static inline uint32_t vmbus__simple_bytes(uint32_t len)
{
	return (len + 7u + VMBUS__PKT_RING_BYTES_MIN) / 8u * 8u;
}

static inline uint32_t vmbus__msg_simple_bytes(const struct vmbus_msg *msg)
{
	return vmbus__simple_bytes(msg->len);
}

/*
 * Check any message and count its ring bytes.
 *
 * Returns 0, VMBUS_E_INVAL, or VMBUS_E_RANGE for one larger than vmbus_ring_max_send().
 */
int vmbus__msg_check(const struct vmbus_msg *msg, uint32_t ring_size, uint32_t *bytes);

/* The same, quickly where the message is simple. */
static inline int vmbus__msg_bytes(const struct vmbus_msg *msg, uint32_t ring_size, uint32_t *bytes)
{
	if (vmbus__msg_is_simple(msg)) {
		*bytes = vmbus__msg_simple_bytes(msg);
		if (*bytes <= vmbus_ring_max_send(ring_size))
			return 0;
	}
	return vmbus__msg_check(msg, ring_size, bytes);
}

/* Write any checked message at an index, split where the window is. */
void vmbus__msg_write(const struct vmbus_ring_mem *mem, uint32_t at, const struct vmbus_msg *msg,
		      uint32_t bytes);

/* Write its descriptor, header, zeroed last qword and trailer, and leave the payload. */
void vmbus__msg_frame(const struct vmbus_ring_mem *mem, uint32_t at, const struct vmbus_msg *msg,
		      uint32_t bytes);

/* The last odd bytes (1 to 7) of a payload as a qword with zeroes behind them. */
static inline uint64_t vmbus__tail(const uint8_t *from, uint32_t len, uint32_t odd)
{
	uint64_t v = 0;
	uint32_t i;

	if (len >= 8u) { /* the last qword of the payload, without what comes before them */
		__builtin_memcpy(&v, from + len - 8u, 8);
		return v >> (64u - 8u * odd);
	}
	for (i = 0; i < odd; i++)
		v |= (uint64_t)from[i] << (8u * i);
	return v;
}

/* A payload of up to VMBUS__INLINE_COPY bytes into contiguous room, with its padding. */
static inline void vmbus__put_payload_small(uint8_t *to, const uint8_t *from, uint32_t len)
{
	uint8_t *const end = to + len / 64u * 64u;
	const uint8_t *q = from;

	for (; to != end; to += 64, q += 64) {
		vmbus__peer_will_write((uintptr_t)to + VMBUS__WRITE_AHEAD);
		vmbus__peer_write(to, q, 64);
	}
	if (len & 32u) {
		vmbus__peer_write(to, q, 32);
		to += 32;
		q += 32;
	}
	if (len & 16u) {
		vmbus__peer_write(to, q, 16);
		to += 16;
		q += 16;
	}
	if (len & 8u) {
		vmbus__peer_write(to, q, 8);
		to += 8;
	}
	if (VMBUS_UNLIKELY(len & 7u))
		vmbus__peer_st64(to, vmbus__tail(from, len, len & 7u));
}

/* Descriptor and trailer of a simple message in contiguous room. */
static inline void vmbus__put_frame(uint8_t *to, uint32_t at, const struct vmbus_msg *msg,
				    uint32_t bytes)
{
	vmbus__peer_st64(to, VMBUS__DESC(msg->type, 2u, bytes / 8u - 1u, msg->flags));
	vmbus__peer_st64(to + 8, msg->id);
	vmbus__peer_st64(to + bytes - VMBUS_PKT_TRAILER_BYTES, (uint64_t)at << 32);
}

/* A simple message of any length into contiguous room. */
static inline void vmbus__put_simple(uint8_t *to, uint32_t at, const struct vmbus_msg *msg,
				     uint32_t bytes)
{
	uint8_t *const payload = to + VMBUS_PKT_DESC_BYTES;
	const uint8_t *const from = msg->data;
	const uint32_t odd = msg->len % 8u;

	vmbus__put_frame(to, at, msg, bytes);
	if (msg->len <= VMBUS__INLINE_COPY) {
		vmbus__put_payload_small(payload, from, msg->len);
		return;
	}
	vmbus__peer_write(payload, from, msg->len - odd);
	if (odd)
		vmbus__peer_st64(payload + msg->len - odd, vmbus__tail(from, msg->len, odd));
}

#endif
