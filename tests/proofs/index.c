/* SPDX-License-Identifier: MIT */
/*
 * What the index functions give when they are used together.  The functions here are never called:
 * the prover takes their arguments as any values that meet the first line.
 */
#include "ring/index.h"

/*@ lemma room_used: \forall integer size, in, out;
  @	vmbus_room(size, in, out) + vmbus_used(size, in, out) + 8 == size;
  @ lemma used_bounds: \forall integer size, in, out;
  @	vmbus_size_ok(size) && vmbus_index_ok(size, in) && vmbus_index_ok(size, out) ==>
  @	0 <= vmbus_used(size, in, out) <= size - 8;
  @ lemma used_zero: \forall integer size, in, out;
  @	vmbus_size_ok(size) && vmbus_index_ok(size, in) && vmbus_index_ok(size, out) ==>
  @	(vmbus_used(size, in, out) == 0 <==> in == out);
  @ lemma want_reachable: \forall integer size, pending; vmbus_size_ok(size) && pending >= 0 ==>
  @	0 <= vmbus_want(size, pending) <= vmbus_room(size, 0, 0);
 */

/* A reader that goes on by n bytes frees just n, and takes just n away from what is there. */
/*@ requires vmbus_size_ok(size) && vmbus_index_ok(size, in) && vmbus_index_ok(size, out);
  @ requires n % 8 == 0 && n <= vmbus_used(size, in, out);
  @ assigns \nothing;
  @ ensures vmbus_index_ok(size, \result);
  @ ensures vmbus_room(size, in, \result) == vmbus_room(size, in, out) + n;
  @ ensures vmbus_used(size, in, \result) == vmbus_used(size, in, out) - n; */
uint32_t proof_reader_moves(uint32_t size, uint32_t in, uint32_t out, uint32_t n)
{
	(void)in;
	return vmbus__ring_advance(size, out, n);
}

/* A writer that goes on by n bytes takes just n of the room. */
/*@ requires vmbus_size_ok(size) && vmbus_index_ok(size, in) && vmbus_index_ok(size, out);
  @ requires n % 8 == 0 && n <= vmbus_room(size, in, out);
  @ assigns \nothing;
  @ ensures vmbus_index_ok(size, \result);
  @ ensures vmbus_room(size, \result, out) == vmbus_room(size, in, out) - n;
  @ ensures vmbus_used(size, \result, out) == vmbus_used(size, in, out) + n;
  @ ensures n != 0 ==> \result != out; */
uint32_t proof_writer_moves(uint32_t size, uint32_t in, uint32_t out, uint32_t n)
{
	(void)out;
	return vmbus__ring_advance(size, in, n);
}

/* A reader that goes on in two steps signals in at most one of them, and in one if at all. */
/*@ requires vmbus_size_ok(size) && vmbus_index_ok(size, in) && vmbus_index_ok(size, out);
  @ requires a % 8 == 0 && b % 8 == 0 && a + b <= vmbus_used(size, in, out);
  @ assigns \nothing;
  @ ensures \result; */
bool proof_one_signal(uint32_t size, uint32_t pending, uint32_t in, uint32_t out, uint32_t a,
		      uint32_t b)
{
	const uint32_t half = vmbus__ring_advance(size, out, a);
	const uint32_t whole = vmbus__ring_advance(size, half, b);
	const bool first = vmbus__rx_signal_due(size, pending, in, out, half);
	const bool second = vmbus__rx_signal_due(size, pending, in, half, whole);
	const bool both = vmbus__rx_signal_due(size, pending, in, out, whole);

	return !(first && second) && both == (first || second);
}
