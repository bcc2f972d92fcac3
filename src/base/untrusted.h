/* SPDX-License-Identifier: MIT */
/*
 * Bytes in memory that the peer can write.  Words of the control page go through atomic.h, bytes
 * of the window through here, and nothing else touches a peer's page.
 *
 * A copy is taken once, checked, and used; nothing is read twice.  In test builds a hook runs
 * before each read, so that a test can change the peer's memory between any two.
 */
#ifndef VMBUS_BASE_UNTRUSTED_H
#define VMBUS_BASE_UNTRUSTED_H

#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

#if defined(VMBUS_EXPLORE)
/* In the interleaving test these are accesses that the scheduler sees; see atomic_explore.h. */
#elif defined(__FRAMAC__)
/* See atomic_framac.h. */
#else

static inline void vmbus__peer_read(void *to, const uint8_t *from, size_t len)
{
	VMBUS__HOOK(from);
	__builtin_memcpy(to, from, len);
}

static inline void vmbus__peer_write(uint8_t *to, const void *from, size_t len)
{
	__builtin_memcpy(to, from, len);
}

static inline void vmbus__peer_st64(uint8_t *to, uint64_t v)
{
	__builtin_memcpy(to, &v, sizeof(v));
}

/* A qword of the peer's, read once. */
static inline uint64_t vmbus__peer_ld64(const uint8_t *from)
{
	uint64_t v;

	VMBUS__HOOK(from);
	v = *(const volatile uint64_t *)(const void *)from;
	return v;
}

#endif

/*
 * Ask for the line of a place that we are going to write, in order to own it by then: elsewhere it
 * lies where the peer has read it last.  Reads and writes nothing, and any address will do.
 */
static inline void vmbus__peer_will_write(uintptr_t place)
{
#if defined(__FRAMAC__) || defined(VMBUS_EXPLORE)
	(void)place;
#elif defined(__x86_64__)
	__asm__ volatile("prefetchw (%0)" : : "r"(place));
#else
	__builtin_prefetch((const void *)place, 1);
#endif
}

/* The same for a place that we are going to read, if the peer writes it: a hint, and no access. */
static inline void vmbus__peer_will_read(uintptr_t place)
{
#if defined(__FRAMAC__) || defined(VMBUS_EXPLORE)
	(void)place;
#else
	__builtin_prefetch((const void *)place, 0);
#endif
}

/* The same for many bytes, while others are worked on: it takes as long as several hundred instructions
   until a line that the peer has is here, so these are asked for all at once. */
static inline void vmbus__peer_will_write_all(uintptr_t place, size_t len)
{
	size_t i = 0;

	for (; i + 192 < len; i += 256) { /* a loop for each line costs as much as the copy */
		vmbus__peer_will_write(place + i);
		vmbus__peer_will_write(place + i + 64);
		vmbus__peer_will_write(place + i + 128);
		vmbus__peer_will_write(place + i + 192);
	}
	for (; i < len; i += 64)
		vmbus__peer_will_write(place + i);
}

static inline void vmbus__peer_will_read_all(uintptr_t place, size_t len)
{
#if defined(__FRAMAC__) || defined(VMBUS_EXPLORE)
	(void)place;
	(void)len;
#else
	size_t i = 0;

	for (; i + 192 < len; i += 256) {
		__builtin_prefetch((const void *)(place + i), 0, 2);
		__builtin_prefetch((const void *)(place + i + 64), 0, 2);
		__builtin_prefetch((const void *)(place + i + 128), 0, 2);
		__builtin_prefetch((const void *)(place + i + 192), 0, 2);
	}
	for (; i < len; i += 64)
		__builtin_prefetch((const void *)(place + i), 0, 2);
#endif
}

#endif
