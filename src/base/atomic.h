/* SPDX-License-Identifier: MIT */
/*
 * Every atomic access of the library.  No other file includes <stdatomic.h> or names an order.
 *
 * Three bodies: the shipped one over C11 atomics; one for the interleaving test (VMBUS_EXPLORE),
 * which hands each access to a scheduler; one for the prover (__FRAMAC__), in which a load from
 * shared memory may give any value.  Code above this file is the same in all three.
 *
 * Each call carries a tag in a comment, PAIR.side; the table of pairs is in vmbus_ring(7).
 */
#ifndef VMBUS_BASE_ATOMIC_H
#define VMBUS_BASE_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/contract.h"

#if defined(__FRAMAC__)
#include "base/atomic_framac.h"
#elif defined(VMBUS_EXPLORE)
#include "base/atomic_explore.h"
#else

#include <stdatomic.h>

_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock-free");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");

/* Words that two threads or two partitions share, as plain types to all other files. */
typedef struct {
	_Atomic(uint32_t) v;
} vmbus__a32;
typedef struct {
	_Atomic(uint64_t) v;
} vmbus__a64;

_Static_assert(sizeof(vmbus__a32) == 4, "an atomic word has the size of a plain one");
_Static_assert(sizeof(vmbus__a64) == 8, "an atomic word has the size of a plain one");

#if defined(VMBUS_TEST_HOOKS)
/* Called before each load of a shared word, so that a test can play the peer at that moment. */
extern void (*vmbus__test_hook)(const volatile void *p);
#define VMBUS__HOOK(p) (vmbus__test_hook ? vmbus__test_hook(p) : (void)0)
#else
#define VMBUS__HOOK(p) ((void)0)
#endif

static inline uint32_t vmbus__ld32_relaxed(const vmbus__a32 *p)
{
	VMBUS__HOOK(p);
	return atomic_load_explicit(&p->v, memory_order_relaxed);
}

static inline uint32_t vmbus__ld32_acquire(const vmbus__a32 *p)
{
	VMBUS__HOOK(p);
	return atomic_load_explicit(&p->v, memory_order_acquire);
}

static inline void vmbus__st32_relaxed(vmbus__a32 *p, uint32_t v)
{
	atomic_store_explicit(&p->v, v, memory_order_relaxed);
}

static inline void vmbus__st32_release(vmbus__a32 *p, uint32_t v)
{
	atomic_store_explicit(&p->v, v, memory_order_release);
}

static inline bool vmbus__cas32_acquire(vmbus__a32 *p, uint32_t old, uint32_t v)
{
	return atomic_compare_exchange_strong_explicit(&p->v, &old, v, memory_order_acquire,
						       memory_order_relaxed);
}

static inline bool vmbus__cas32_release(vmbus__a32 *p, uint32_t old, uint32_t v)
{
	VMBUS__HOOK(p);
	return atomic_compare_exchange_strong_explicit(&p->v, &old, v, memory_order_release,
						       memory_order_relaxed);
}

static inline void vmbus__or32_relaxed(vmbus__a32 *p, uint32_t v)
{
	(void)atomic_fetch_or_explicit(&p->v, v, memory_order_relaxed);
}

static inline uint64_t vmbus__ld64_relaxed(const vmbus__a64 *p)
{
	VMBUS__HOOK(p);
	return atomic_load_explicit(&p->v, memory_order_relaxed);
}

static inline uint64_t vmbus__ld64_acquire(const vmbus__a64 *p)
{
	VMBUS__HOOK(p);
	return atomic_load_explicit(&p->v, memory_order_acquire);
}

static inline void vmbus__st64_relaxed(vmbus__a64 *p, uint64_t v)
{
	atomic_store_explicit(&p->v, v, memory_order_relaxed);
}

static inline void vmbus__st64_release(vmbus__a64 *p, uint64_t v)
{
	atomic_store_explicit(&p->v, v, memory_order_release);
}

static inline bool vmbus__cas64_acq_rel(vmbus__a64 *p, uint64_t old, uint64_t v)
{
	return atomic_compare_exchange_strong_explicit(&p->v, &old, v, memory_order_acq_rel,
						       memory_order_relaxed);
}

static inline void vmbus__add64_relaxed(vmbus__a64 *p, uint64_t v)
{
	(void)atomic_fetch_add_explicit(&p->v, v, memory_order_relaxed);
}

static inline void vmbus__add64_release(vmbus__a64 *p, uint64_t v)
{
	(void)atomic_fetch_add_explicit(&p->v, v, memory_order_release);
}

/* Returns what was there before. */
static inline uint64_t vmbus__or64_release(vmbus__a64 *p, uint64_t v)
{
	return atomic_fetch_or_explicit(&p->v, v, memory_order_release);
}

/* Returns what was there before. */
static inline uint64_t vmbus__xchg64_acquire(vmbus__a64 *p, uint64_t v)
{
	VMBUS__HOOK(p);
	return atomic_exchange_explicit(&p->v, v, memory_order_acquire);
}

/* Orders loads before it against loads and stores after it. */
static inline void vmbus__fence_acquire(void)
{
	atomic_thread_fence(memory_order_acquire);
}

/* Orders everything, an earlier store against a later load included. */
static inline void vmbus__fence_full(void)
{
	atomic_thread_fence(memory_order_seq_cst);
}

#endif

/* Tell the processor that we wait: one instruction, whose length is its own. */
static inline void vmbus__relax(void)
{
#if defined(__FRAMAC__)
#elif defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb");
#endif
}

/* A public struct has plain words where threads share them; this is their other name. */
static inline vmbus__a64 *vmbus__as_a64(uint64_t *p)
{
	return (vmbus__a64 *)(void *)p;
}

static inline const vmbus__a64 *vmbus__as_a64c(const uint64_t *p)
{
	return (const vmbus__a64 *)(const void *)p;
}

static inline vmbus__a32 *vmbus__as_a32(uint32_t *p)
{
	return (vmbus__a32 *)(void *)p;
}

static inline const vmbus__a32 *vmbus__as_a32c(const uint32_t *p)
{
	return (const vmbus__a32 *)(const void *)p;
}

#endif
