/* SPDX-License-Identifier: MIT */
/*
 * Index arithmetic and the two signal decisions: pure functions of numbers, proved in
 * tests/proofs.  size is the ring's data bytes, a multiple of 4096 up to 1 GiB; a valid index is a
 * multiple of 8 below it.  in == out means empty, so 8 bytes always stay free.
 */
#ifndef VMBUS_RING_INDEX_H
#define VMBUS_RING_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include <vmbus/ring.h>

#define VMBUS__RING_UNIT 8u /* indices and sizes are multiples of this */

/*@ predicate vmbus_size_ok(integer size) =
  @	4096 <= size <= 0x40000000 && size % 4096 == 0;
  @ predicate vmbus_index_ok(integer size, integer index) =
  @	0 <= index < size && index % 8 == 0;
  @ logic integer vmbus_used(integer size, integer head, integer tail) =
  @	head >= tail ? head - tail : head - tail + size;
  @ logic integer vmbus_room(integer size, integer head, integer tail) =
  @	size - 8 - vmbus_used(size, head, tail);
  @ logic integer vmbus_want(integer size, integer pending) =
  @	pending - pending % 8 > size - 8 ? size - 8 : pending - pending % 8; */

/*@ assigns \nothing;
  @ ensures \result <==> vmbus_size_ok(size); */
static inline bool vmbus__ring_size_ok(uint32_t size)
{
	return size >= VMBUS_RING_SIZE_MIN && size <= VMBUS_RING_SIZE_MAX &&
	       size % VMBUS_PAGE_BYTES == 0;
}

/*@ assigns \nothing;
  @ ensures \result <==> vmbus_index_ok(size, index); */
static inline bool vmbus__index_ok(uint32_t size, uint32_t index)
{
	return index < size && index % VMBUS__RING_UNIT == 0;
}

/* Bytes from out on to in. */
/*@ requires vmbus_size_ok(size) && vmbus_index_ok(size, in) && vmbus_index_ok(size, out);
  @ assigns \nothing;
  @ ensures \result == vmbus_used(size, in, out);
  @ ensures \result == (in - out + size) % size;
  @ ensures 0 <= \result <= size - 8 && \result % 8 == 0; */
static inline uint32_t vmbus__ring_used(uint32_t size, uint32_t in, uint32_t out)
{
	return in >= out ? in - out : size - out + in;
}

/* Bytes that may be written behind in: what is free but for the unit that stays. */
/*@ requires vmbus_size_ok(size) && vmbus_index_ok(size, in) && vmbus_index_ok(size, out);
  @ assigns \nothing;
  @ ensures \result == vmbus_room(size, in, out);
  @ ensures 0 <= \result <= size - 8 && \result % 8 == 0; */
static inline uint32_t vmbus__ring_room(uint32_t size, uint32_t in, uint32_t out)
{
	return size - VMBUS__RING_UNIT - vmbus__ring_used(size, in, out);
}

/* The index that lies bytes further; bytes is at most size. */
/*@ requires vmbus_size_ok(size) && index < size && bytes <= size;
  @ assigns \nothing;
  @ ensures \result == (index + bytes) % size;
  @ ensures \result == index + bytes || \result == index + bytes - size;
  @ ensures 0 <= \result < size;
  @ ensures index % 8 == 0 && bytes % 8 == 0 ==> vmbus_index_ok(size, \result); */
static inline uint32_t vmbus__ring_advance(uint32_t size, uint32_t index, uint32_t bytes)
{
	const uint32_t next = index + bytes;

	return next >= size ? next - size : next;
}

/*
 * Whether the receiver must be told of a batch, [RING-SIGNAL]: it wants to be, and it had read
 * everything before the batch.
 */
/*@ assigns \nothing;
  @ ensures \result <==> mask == 0 && out == in_before; */
static inline bool vmbus__tx_signal_due(uint32_t mask, uint32_t out, uint32_t in_before)
{
	return mask == 0 && out == in_before;
}

/*
 * Whether the sender must be told of room, [RING-FLOW]: it waits for pending bytes, and the free
 * bytes reach that number just now.  A pending size that the ring can never have free stands for
 * "all of it".
 */
/*@ requires vmbus_size_ok(size) && vmbus_index_ok(size, in);
  @ requires vmbus_index_ok(size, out_before) && vmbus_index_ok(size, out_now);
  @ assigns \nothing;
  @ ensures \result <==> vmbus_want(size, pending) != 0 &&
  @	vmbus_room(size, in, out_before) < vmbus_want(size, pending) &&
  @	vmbus_room(size, in, out_now) >= vmbus_want(size, pending); */
static inline bool vmbus__rx_signal_due(uint32_t size, uint32_t pending, uint32_t in,
					uint32_t out_before, uint32_t out_now)
{
	const uint32_t most = size - VMBUS__RING_UNIT;
	uint32_t want = pending - pending % VMBUS__RING_UNIT;

	if (want > most)
		want = most;
	return want != 0 && vmbus__ring_room(size, in, out_before) < want &&
	       vmbus__ring_room(size, in, out_now) >= want;
}

#endif
