/* SPDX-License-Identifier: MIT */
/* Memory whose pages come as they are touched: anonymous mappings, one for each call. */
#define _DEFAULT_SOURCE
#include "lazy/lazy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LINE_BYTES 64u

#if defined(__SANITIZE_ADDRESS__)
#define HEAP 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HEAP 1
#endif
#endif

#ifdef HEAP

void *vmbus__lazy_get(size_t bytes)
{
	void *const at =
		aligned_alloc(LINE_BYTES, (bytes + LINE_BYTES - 1u) & ~(size_t)(LINE_BYTES - 1u));

	return at ? memset(at, 0, bytes) : NULL;
}

void vmbus__lazy_put(void *at, size_t bytes)
{
	(void)bytes;
	free(at);
}

#else

void *vmbus__lazy_get(size_t bytes)
{
	void *const at =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

void vmbus__lazy_put(void *at, size_t bytes)
{
	if (at)
		(void)munmap(at, bytes);
}

#endif
