/* SPDX-License-Identifier: MIT */
/*
 * Next fit over a bitmap.  Rings and page lists are few sizes that come and go, so the search
 * seldom meets anything that does not fit.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "shm/pages.h"

#include <stdlib.h>

#include <vmbus/base.h>

int vmbus__shm_pages_init(struct vmbus__shm_pages *pages, uint32_t first, uint32_t end)
{
	if (first > end)
		return VMBUS_E_RANGE;
	pages->used = calloc((size_t)end / 64 + 1, sizeof(*pages->used));
	pages->first = pages->next = pages->fresh = first;
	pages->end = end;
	return pages->used ? 0 : VMBUS_E_NOMEM;
}

void vmbus__shm_pages_fini(struct vmbus__shm_pages *pages)
{
	free(pages->used);
	pages->used = NULL;
}

static bool is_used(const struct vmbus__shm_pages *pages, uint32_t page)
{
	return pages->used[page / 64] >> page % 64 & 1u;
}

/* The first of count free pages from page from on, wholly below end; UINT32_MAX: none. */
static uint32_t find(const struct vmbus__shm_pages *pages, uint32_t from, uint32_t end,
		     uint32_t count)
{
	uint32_t page = from, run = 0;

	while (page < end) {
		if (run == 0 && page % 64 == 0 && pages->used[page / 64] == UINT64_MAX) {
			page += 64;
			continue;
		}
		run = is_used(pages, page) ? 0 : run + 1;
		page++;
		if (run == count)
			return page - count;
	}
	return UINT32_MAX;
}

static void mark(struct vmbus__shm_pages *pages, uint32_t page, uint32_t count, bool used)
{
	uint32_t i;

	for (i = page; i < page + count; i++) {
		const uint64_t bit = (uint64_t)1 << i % 64;

		if (used)
			pages->used[i / 64] |= bit;
		else
			pages->used[i / 64] &= ~bit;
	}
}

uint32_t vmbus__shm_pages_take(struct vmbus__shm_pages *pages, uint32_t count, uint32_t *old)
{
	uint32_t page;

	if (count == 0 || count > pages->end - pages->first)
		return UINT32_MAX;
	page = find(pages, pages->next, pages->end, count);
	if (page == UINT32_MAX)
		page = find(pages, pages->first, pages->end, count);
	if (page == UINT32_MAX)
		return UINT32_MAX;
	mark(pages, page, count, true);
	pages->next = page + count;
	*old = page >= pages->fresh ? 0 : pages->fresh - page;
	if (*old > count)
		*old = count;
	if (page + count > pages->fresh)
		pages->fresh = page + count;
	return page;
}

bool vmbus__shm_pages_give(struct vmbus__shm_pages *pages, uint32_t page, uint32_t count)
{
	uint32_t i;

	if (page < pages->first || count > pages->end - pages->first || page > pages->end - count)
		return false;
	for (i = page; i < page + count; i++)
		if (!is_used(pages, i))
			return false;
	mark(pages, page, count, false);
	if (page < pages->next)
		pages->next = page; /* low pages are used again first */
	return true;
}
