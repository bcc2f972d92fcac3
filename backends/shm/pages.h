/* SPDX-License-Identifier: MIT */
/* A page allocator over the child's part of its memory; one bit per page, in private memory. */
#ifndef VMBUS_SHM_PAGES_H
#define VMBUS_SHM_PAGES_H

#include <stdbool.h>
#include <stdint.h>

struct vmbus__shm_pages {
	uint64_t *used; /* a bit per page of the whole memory */
	uint32_t first; /* pages below are not ours to give */
	uint32_t end;
	uint32_t next;	/* where the search begins */
	uint32_t fresh; /* pages from here on were never given out */
};

int vmbus__shm_pages_init(struct vmbus__shm_pages *pages, uint32_t first, uint32_t end);
void vmbus__shm_pages_fini(struct vmbus__shm_pages *pages);
/* count pages that follow each other; UINT32_MAX: none.  *old: how many were given out before. */
uint32_t vmbus__shm_pages_take(struct vmbus__shm_pages *pages, uint32_t count, uint32_t *old);
/* Returns false for pages that were not taken, and changes nothing then. */
bool vmbus__shm_pages_give(struct vmbus__shm_pages *pages, uint32_t page, uint32_t count);

#endif
