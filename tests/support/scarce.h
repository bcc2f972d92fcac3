/* SPDX-License-Identifier: MIT */
/*
 * Allocations that fail, one after the other.  The program that includes this has its own malloc() in
 * front of the C library's, which sanitizers do not allow: its tests skip then, by SCARCE_OR_SKIP.
 *
 *	EACH(n)
 *	{
 *		err = make(&thing);
 *		end_of_step();
 *		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
 *	}
 */
#ifndef VMBUS_TEST_SCARCE_H
#define VMBUS_TEST_SCARCE_H

#include <errno.h>

#include "vmbus_test.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NO_OWN_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define NO_OWN_MALLOC 1
#endif
#endif

#if defined(NO_OWN_MALLOC)
#define SCARCE_OR_SKIP() VMBUS_TEST_SKIP("a sanitizer has its own malloc()")
#else
#define SCARCE_OR_SKIP() ((void)0)
#endif

static long fail_in = -1; /* so many allocations succeed; -1: all */
static unsigned long failures;

#if !defined(NO_OWN_MALLOC)
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

static bool fails(void)
{
	if (fail_in < 0 || fail_in-- > 0)
		return false;
	failures++;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t bytes)
{
	return fails() ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
	return fails() ? NULL : __libc_calloc(n, bytes);
}

void *realloc(void *old, size_t bytes)
{
	return fails() ? NULL : __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t align, size_t bytes)
{
	return fails() ? NULL : __libc_memalign(align, bytes);
}
#endif

/* Run a step with its nth allocation failing, for every n, until it needs none more. */
#define EACH(n)                                                                                    \
	for ((n) = 0, failures = 0; (n) == 0 || failures; (n)++)                                   \
		if (failures = 0, fail_in = (n), true)

static inline void end_of_step(void)
{
	fail_in = -1;
}

#endif
