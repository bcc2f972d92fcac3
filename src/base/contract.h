/* SPDX-License-Identifier: MIT */
/*
 * Hints to the compiler, and contracts.
 *
 * Contracts between our own functions: an assert in debug builds, nothing in release.  Never for
 * what a peer or a caller can get wrong: those get an error.
 */
#ifndef VMBUS_BASE_CONTRACT_H
#define VMBUS_BASE_CONTRACT_H

#define VMBUS_LIKELY(x) __builtin_expect(!!(x), 1)
#define VMBUS_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define VMBUS_INLINE inline __attribute__((always_inline))
#define VMBUS_NOINLINE __attribute__((noinline))

#if defined(NDEBUG) || defined(__FRAMAC__)
#define VMBUS_REQUIRE(cond) ((void)0)
#else
#define VMBUS_REQUIRE(cond) ((cond) ? (void)0 : __builtin_trap())
#endif
#define VMBUS_ENSURE(cond) VMBUS_REQUIRE(cond)

#endif
