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
#endif
