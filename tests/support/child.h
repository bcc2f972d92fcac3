/* SPDX-License-Identifier: MIT */
/*
 * The memory of a child to test with: a memfd mapped twice, once as the child sees it and once as
 * the parent does, at different addresses.  A guest physical address is an offset in it.  Every
 * allocation is counted, and the nth can be made to fail.
 */
#ifndef CHILD_H
#define CHILD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmbus/guest.h>

#include "vmbus_test.h"

#define CHILD_PAGE ((size_t)VMBUS_PAGE_BYTES)

struct child {
	int fd;
	size_t pages;
	uint8_t *guest, *host; /* the same memory: the child's view, the parent's view */
	uint8_t *used;	       /* a byte for each page */
	size_t shared_pages, private_pages, mirrors; /* allocated now */
	unsigned long allocs;			     /* calls so far */
	unsigned long fail_at;			     /* this call of alloc fails; 0: none */
	bool no_mirror;
};

static inline void *child_map(struct child *c, void *at, size_t offset, size_t bytes)
{
	void *p = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0), c->fd,
		       (off_t)offset);

	must(p != MAP_FAILED);
	return p;
}

static inline void child_init(struct child *c, size_t pages)
{
	memset(c, 0, sizeof(*c));
	c->pages = pages;
	c->fd = memfd_create("child", MFD_CLOEXEC);
	must(c->fd >= 0);
	must(ftruncate(c->fd, (off_t)(pages * CHILD_PAGE)) == 0);
	c->guest = child_map(c, NULL, 0, pages * CHILD_PAGE);
	c->host = child_map(c, NULL, 0, pages * CHILD_PAGE);
	c->used = calloc(1, pages);
	must(c->used != NULL);
}

static inline void child_fini(struct child *c)
{
	munmap(c->guest, c->pages * CHILD_PAGE);
	munmap(c->host, c->pages * CHILD_PAGE);
	close(c->fd);
	free(c->used);
}

static inline void *child_alloc_shared(struct child *c, size_t pages)
{
	size_t first, n = 0;

	for (first = 0; first + pages <= c->pages; first += n + 1) {
		for (n = 0; n < pages && !c->used[first + n]; n++)
			;
		if (n < pages)
			continue;
		memset(&c->used[first], 1, pages);
		memset(c->guest + first * CHILD_PAGE, 0, pages * CHILD_PAGE);
		c->shared_pages += pages;
		return c->guest + first * CHILD_PAGE;
	}
	return NULL;
}

/* The memory calls of a guest's backend. */
static inline void *child_alloc(struct child *c, size_t bytes, bool shared)
{
	void *p;

	must_eq(bytes % CHILD_PAGE, 0);
	must(bytes > 0);
	if (++c->allocs == c->fail_at)
		return NULL;
	if (shared)
		return child_alloc_shared(c, bytes / CHILD_PAGE);
	p = aligned_alloc(CHILD_PAGE, bytes);
	must(p != NULL);
	memset(p, 0, bytes);
	c->private_pages += bytes / CHILD_PAGE;
	return p;
}

static inline size_t child_offset(const struct child *c, const void *p)
{
	const size_t offset = (size_t)((const uint8_t *)p - c->guest);

	must(offset < c->pages * CHILD_PAGE);
	return offset;
}

static inline void child_release(struct child *c, void *p, size_t bytes, bool shared)
{
	const size_t pages = bytes / CHILD_PAGE;
	size_t first, i;

	must_eq(bytes % CHILD_PAGE, 0);
	if (!shared) {
		must(c->private_pages >= pages);
		c->private_pages -= pages;
		memset(p, 0xA5, bytes); /* whoever uses it still shall notice */
		free(p);
		return;
	}
	first = child_offset(c, p) / CHILD_PAGE;
	for (i = 0; i < pages; i++) {
		must_eq(c->used[first + i], 1);
		c->used[first + i] = 0;
	}
	memset(p, 0xA5, bytes);
	must(c->shared_pages >= pages);
	c->shared_pages -= pages;
}

static inline uint64_t child_pfn(const struct child *c, const void *page)
{
	must_eq(child_offset(c, page) % CHILD_PAGE, 0);
	return child_offset(c, page) / CHILD_PAGE;
}

static inline void *child_mirror(struct child *c, void *p, size_t size)
{
	uint8_t *window;

	if (c->no_mirror)
		return NULL;
	window = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(window != MAP_FAILED);
	child_map(c, window, child_offset(c, p), size);
	child_map(c, window + size, child_offset(c, p), size);
	c->mirrors++;
	return window;
}

static inline void child_unmirror(struct child *c, void *window, size_t size)
{
	must(c->mirrors > 0);
	c->mirrors--;
	munmap(window, 2 * size);
}

#endif
