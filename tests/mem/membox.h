/* SPDX-License-Identifier: MIT */
/*
 * A small partition for tests: up to eight regions in a space of 64 pages at a base address, each
 * in a block of its own, and a model that knows of every byte whether it is there and where.
 */
#ifndef VMBUS_TESTS_MEM_MEMBOX_H
#define VMBUS_TESTS_MEM_MEMBOX_H

#include <vmbus/mem.h>

#include "vmbus_test.h"

#define BOX_PAGES 64u
#define BOX_BYTES (BOX_PAGES * 4096u)

struct membox {
	uint64_t base;
	struct vmbus_region region[16];
	struct vmbus_region *list[16];
	uint32_t count;
	struct vmbus_mem mem;
	struct vmbus_dirty dirty;
	uint64_t bitmap[4];
};

static uint64_t box_seed = 1;

static inline uint32_t box_random(uint32_t below)
{
	box_seed = box_seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(box_seed >> 33) % below;
}

static inline void box_add(struct membox *b, uint32_t page, uint32_t pages, uint32_t access)
{
	struct vmbus_region *r = &b->region[b->count];

	memset(r, 0, sizeof(*r));
	r->gpa = b->base + (uint64_t)page * 4096u;
	r->bytes = (uint64_t)pages * 4096u;
	r->host = malloc((size_t)r->bytes);
	must(r->host != NULL);
	memset(r->host, (int)(0x10 + b->count), (size_t)r->bytes);
	r->fd = -1;
	r->access = access;
	b->list[b->count++] = r;
}

static inline void box_begin(struct membox *b, uint64_t base)
{
	memset(b, 0, sizeof(*b));
	b->base = base;
	b->dirty.bitmap = b->bitmap;
	b->dirty.frames = 256;
}

/* The marker's frames begin at address 0, so a box with dirty marking has base 0. */
static inline void box_ready(struct membox *b, bool mark)
{
	must_eq(vmbus_mem_init(&b->mem, b->list, b->count, mark ? &b->dirty : NULL), 0);
}

/* Regions at random: runs and holes; neighbours that touch are likely. */
static inline void box_fill(struct membox *b, uint32_t access)
{
	uint32_t page = box_random(3);

	while (page < BOX_PAGES && b->count < 8) {
		uint32_t pages = 1 + box_random(8);

		if (pages > BOX_PAGES - page)
			pages = BOX_PAGES - page;
		box_add(b, page, pages, access ? access : 1 + box_random(3));
		page += pages + (box_random(2) ? 0 : 1 + box_random(3));
	}
}

static inline void box_free(struct membox *b)
{
	uint32_t i;

	for (i = 0; i < b->count; i++) {
		must_eq(vmbus_region_pins(&b->region[i]), 0);
		free(b->region[i].host);
	}
}

/* The model: the region that has this address, by looking at each; NULL: none. */
static inline struct vmbus_region *box_region(struct membox *b, uint64_t gpa)
{
	uint32_t i;

	for (i = 0; i < b->count; i++)
		if (gpa >= b->region[i].gpa && gpa - b->region[i].gpa < b->region[i].bytes)
			return &b->region[i];
	return NULL;
}

static inline uint8_t *box_byte(struct membox *b, uint64_t gpa)
{
	struct vmbus_region *r = box_region(b, gpa);

	return r ? (uint8_t *)r->host + (size_t)(gpa - r->gpa) : NULL;
}

static inline vmbus_gpa_t gpa_at(uint64_t v)
{
	const vmbus_gpa_t gpa = { v };

	return gpa;
}

static inline bool box_is_dirty(const struct membox *b, uint64_t frame)
{
	return b->bitmap[frame / 64] >> (frame % 64) & 1;
}

#endif
