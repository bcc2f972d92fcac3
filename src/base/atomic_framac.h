/* SPDX-License-Identifier: MIT */
/*
 * The third body of atomic.h, for Frama-C: every access is a function without a body.  A load from
 * shared memory gives any value, a new one each time, whatever was stored before; a store and a
 * fence change nothing that the prover sees.  So what is proved holds for every value that a peer
 * can write, and nothing is proved about order: that is the task of tests/explore and
 * tests/models.
 */
#ifndef VMBUS_BASE_ATOMIC_FRAMAC_H
#define VMBUS_BASE_ATOMIC_FRAMAC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The hints say nothing about values. */
#undef VMBUS_LIKELY
#undef VMBUS_UNLIKELY
#define VMBUS_LIKELY(x) (x)
#define VMBUS_UNLIKELY(x) (x)

#define VMBUS__HOOK(p) ((void)0)

typedef struct {
	uint32_t v;
} vmbus__a32;
typedef struct {
	uint64_t v;
} vmbus__a64;

/*@ requires \valid_read(p);
  @ assigns \result \from indirect:p; */
uint32_t vmbus__ld32_relaxed(const vmbus__a32 *p);

/*@ requires \valid_read(p);
  @ assigns \result \from indirect:p; */
uint32_t vmbus__ld32_acquire(const vmbus__a32 *p);

/*@ requires \valid(p);
  @ assigns \nothing; */
void vmbus__st32_relaxed(vmbus__a32 *p, uint32_t v);

/*@ requires \valid(p);
  @ assigns \nothing; */
void vmbus__st32_release(vmbus__a32 *p, uint32_t v);

/*@ requires \valid(p);
  @ assigns \result \from indirect:p, indirect:old; */
bool vmbus__cas32_acquire(vmbus__a32 *p, uint32_t old, uint32_t v);

/*@ requires \valid(p);
  @ assigns \result \from indirect:p, indirect:old; */
bool vmbus__cas32_release(vmbus__a32 *p, uint32_t old, uint32_t v);

/*@ requires \valid(p);
  @ assigns \nothing; */
void vmbus__or32_relaxed(vmbus__a32 *p, uint32_t v);

/*@ requires \valid_read(p);
  @ assigns \result \from indirect:p; */
uint64_t vmbus__ld64_relaxed(const vmbus__a64 *p);

/*@ requires \valid_read(p);
  @ assigns \result \from indirect:p; */
uint64_t vmbus__ld64_acquire(const vmbus__a64 *p);

/*@ requires \valid(p);
  @ assigns \nothing; */
void vmbus__st64_relaxed(vmbus__a64 *p, uint64_t v);

/*@ requires \valid(p);
  @ assigns \nothing; */
void vmbus__st64_release(vmbus__a64 *p, uint64_t v);

/*@ requires \valid(p);
  @ assigns \result \from indirect:p, indirect:old; */
bool vmbus__cas64_acq_rel(vmbus__a64 *p, uint64_t old, uint64_t v);

/*@ requires \valid(p);
  @ assigns \nothing; */
void vmbus__add64_relaxed(vmbus__a64 *p, uint64_t v);

/*@ requires \valid(p);
  @ assigns \nothing; */
void vmbus__add64_release(vmbus__a64 *p, uint64_t v);

/*@ requires \valid(p);
  @ assigns \result \from indirect:p; */
uint64_t vmbus__or64_release(vmbus__a64 *p, uint64_t v);

/*@ requires \valid(p);
  @ assigns \result \from indirect:p; */
uint64_t vmbus__xchg64_acquire(vmbus__a64 *p, uint64_t v);

/*@ assigns \nothing; */
void vmbus__fence_acquire(void);

/*@ assigns \nothing; */
void vmbus__fence_full(void);

/* What untrusted.h leaves to this file.  A copy out of the window may give any bytes. */

/*@ requires \valid((uint8_t *)to + (0 .. len - 1));
  @ requires \valid_read(from + (0 .. len - 1));
  @ assigns ((uint8_t *)to)[0 .. len - 1] \from indirect:from, indirect:len; */
void vmbus__peer_read(void *to, const uint8_t *from, size_t len);

/*@ requires \valid(to + (0 .. len - 1));
  @ requires \valid_read((const uint8_t *)from + (0 .. len - 1));
  @ assigns \nothing; */
void vmbus__peer_write(uint8_t *to, const void *from, size_t len);

/*@ requires \valid(to + (0 .. 7));
  @ assigns \nothing; */
void vmbus__peer_st64(uint8_t *to, uint64_t v);

/*@ requires \valid_read(from + (0 .. 7));
  @ assigns \result \from indirect:from; */
uint64_t vmbus__peer_ld64(const uint8_t *from);

#endif
