/* SPDX-License-Identifier: MIT */
/*
 * The page allocator: runs of pages, first fit, a bit for each page that is handed out.  Our own
 * pages come first in memory, then the bits, then what can be handed out.  Knows nothing of what
 * the pages are for.
 */
#include "bare/bare.h"

#define WORD_BITS 64u

static uint8_t *at(const struct vmbus_bare *bare, uint64_t page)
{
	return (uint8_t *)bare->opts_p.memory + page * VMBUS_PAGE_BYTES;
}

static bool taken(const struct vmbus_bare *bare, uint64_t page)
{
	return (bare->map_p[page / WORD_BITS] >> page % WORD_BITS & 1u) != 0;
}

static void mark(struct vmbus_bare *bare, uint64_t first, uint64_t count, bool take)
{
	uint64_t page;

	for (page = first; page < first + count; page++) {
		if (take)
			bare->map_p[page / WORD_BITS] |= 1ull << page % WORD_BITS;
		else
			bare->map_p[page / WORD_BITS] &= ~(1ull << page % WORD_BITS);
	}
}

/* Pages whose content is not known to be zero are below fresh_p. */
static void clear(struct vmbus_bare *bare, uint64_t first, uint64_t count)
{
	const uint64_t end = first + count;
	uint64_t old = count;

	if (bare->opts_p.zeroed && end > bare->fresh_p)
		old = first < bare->fresh_p ? bare->fresh_p - first : 0;
	__builtin_memset(at(bare, first), 0, (size_t)(old * VMBUS_PAGE_BYTES));
	if (end > bare->fresh_p)
		bare->fresh_p = end;
}

static uint64_t whole(size_t bytes)
{
	return bytes / VMBUS_PAGE_BYTES + (bytes % VMBUS_PAGE_BYTES != 0);
}

/* The first run of free pages from low_p on; count_p when there is none. */
static uint64_t find(const struct vmbus_bare *bare, uint64_t count)
{
	uint64_t page = bare->low_p, run = 0;

	for (; page < bare->count_p; page++) {
		if (page % WORD_BITS == 0 && bare->map_p[page / WORD_BITS] == UINT64_MAX) {
			page += WORD_BITS - 1;
			run = 0;
			continue;
		}
		run = taken(bare, page) ? 0 : run + 1;
		if (run == count)
			return page + 1 - count;
	}
	return bare->count_p;
}

uint64_t vmbus__bare_pfn(const struct vmbus_bare *bare, const void *page)
{
	const uintptr_t base = (uintptr_t)bare->opts_p.memory, p = (uintptr_t)page;

	if (p < base || p - base >= bare->opts_p.memory_bytes)
		return UINT64_MAX;
	return (bare->opts_p.memory_gpa + (p - base)) / VMBUS_PAGE_BYTES;
}

void vmbus__bare_pages_init(struct vmbus_bare *bare)
{
	uint64_t map_pages, i;

	bare->count_p = bare->opts_p.memory_bytes / VMBUS_PAGE_BYTES;
	map_pages = whole((size_t)((bare->count_p + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t)));
	for (i = 0; i < PAGES; i++)
		bare->pages_p[i] = at(bare, i);
	bare->map_p = (uint64_t *)(void *)at(bare, PAGES);
	bare->first_p = PAGES + map_pages;
	bare->low_p = bare->first_p;
	bare->fresh_p = 0;
	clear(bare, 0, bare->first_p);
}

void *vmbus__bare_alloc(struct vmbus_bare *bare, size_t bytes)
{
	const uint64_t count = whole(bytes);
	uint64_t first;

	if (count == 0 || count > bare->count_p - bare->first_p)
		return NULL;
	first = find(bare, count);
	if (first == bare->count_p)
		return NULL;
	mark(bare, first, count, true);
	if (first == bare->low_p)
		bare->low_p = first + count;
	clear(bare, first, count);
	bare->stats_p.pages += count;
	return at(bare, first);
}

void vmbus__bare_release(struct vmbus_bare *bare, void *p, size_t bytes)
{
	const uintptr_t base = (uintptr_t)bare->opts_p.memory;
	const uint64_t count = whole(bytes);
	uint64_t first, page;
	bool good;

	if (!p)
		return;
	first = ((uintptr_t)p - base) / VMBUS_PAGE_BYTES;
	good = (uintptr_t)p >= base && (uintptr_t)p % VMBUS_PAGE_BYTES == 0 &&
	       first >= bare->first_p && first < bare->count_p && count <= bare->count_p - first;
	for (page = first; good && page < first + count; page++)
		good = taken(bare, page);
	if (!good) {
		bare->stats_p.bad_releases++;
		return;
	}
	mark(bare, first, count, false);
	if (first < bare->low_p)
		bare->low_p = first;
	bare->stats_p.pages -= count;
}
