/* SPDX-License-Identifier: MIT */
/*
 * For the exploration of the host machine: what it must remember.  Tables of hashes that grow, the
 * queue of worlds whose events are still to be tried, and how each was reached.
 */
#ifndef SRV_STORE_H
#define SRV_STORE_H

#include "channel/srv_events.h"

/* A state by its hash, with the sum over the hashes of its successors. */
struct known {
	uint64_t hash; /* 0: free */
	uint64_t sum;  /* 0: not expanded yet */
};

/* Open addressing; doubled when it is half full. */
struct table {
	struct known *at;
	size_t size, count;
};

static struct known *place_in(const struct table *table, uint64_t h)
{
	size_t i = (size_t)h & (table->size - 1);

	while (table->at[i].hash && table->at[i].hash != h)
		i = (i + 1) & (table->size - 1);
	return &table->at[i];
}

static void grow(struct table *table)
{
	struct table bigger = { .size = table->size ? table->size * 2 : 1 << 16,
				.count = table->count };
	size_t i;

	bigger.at = calloc(bigger.size, sizeof(*bigger.at));
	must(bigger.at != NULL);
	for (i = 0; i < table->size; i++)
		if (table->at[i].hash)
			*place_in(&bigger, table->at[i].hash) = table->at[i];
	free(table->at);
	*table = bigger;
}

/* The place of a hash; *is_new: it was not there. */
static struct known *look_up(struct table *table, uint64_t h, bool *is_new)
{
	struct known *place;

	h += h == 0;
	if (table->count * 2 >= table->size)
		grow(table);
	place = place_in(table, h);
	*is_new = !place->hash;
	table->count += *is_new;
	place->hash = h;
	return place;
}

/*
 * States whose events are still to be tried, first in, first out: a number, which words differ from
 * those of the first world, and these words.  In blocks, which are freed when they were read.
 */
#define WORLD_WORDS (sizeof(struct world) / 8u)
#define MAP_WORDS ((WORLD_WORDS + 63u) / 64u)
#define BLOCK_WORDS (((size_t)1 << 17) + WORLD_WORDS + MAP_WORDS + 1u)
struct block {
	struct block *next;
	size_t used, read;
	uint64_t word[BLOCK_WORDS];
};

static struct block *first_block, *last_block;
static size_t queued;
static struct world start;

static struct block *block_with_room(void)
{
	struct block *block = last_block;

	if (block && block->used < (size_t)1 << 17)
		return block;
	block = malloc(sizeof(*block));
	must(block != NULL);
	block->next = NULL;
	block->used = block->read = 0;
	if (last_block)
		last_block->next = block;
	else
		first_block = block;
	last_block = block;
	return block;
}

static void push(uint32_t number)
{
	struct block *const block = block_with_room();
	const uint64_t *const now = (const uint64_t *)(const void *)&world;
	const uint64_t *const was = (const uint64_t *)(const void *)&start;
	const size_t words = world_bytes / 8;
	uint64_t *const map = block->word + block->used + 1;
	uint64_t *out = map + (words + 63) / 64;
	size_t i;

	block->word[block->used] = number;
	memset(map, 0, (size_t)((uint8_t *)out - (uint8_t *)map));
	for (i = 0; i < words; i++)
		if (now[i] != was[i]) {
			map[i / 64] |= 1ull << i % 64;
			*out++ = now[i];
		}
	block->used = (size_t)(out - block->word);
	queued++;
}

/* The oldest one, into here; returns its number. */
static uint32_t pop(struct world *here)
{
	struct block *block = first_block;
	uint64_t *const to = (uint64_t *)(void *)here;
	const size_t words = world_bytes / 8;
	const uint64_t *map, *in;
	uint32_t number;
	size_t i;

	if (block->read == block->used) {
		first_block = block->next;
		free(block);
		block = first_block;
	}
	number = (uint32_t)block->word[block->read];
	map = block->word + block->read + 1;
	in = map + (words + 63) / 64;
	memcpy(here, &start, world_bytes);
	for (i = 0; i < words; i++)
		if (map[i / 64] >> i % 64 & 1u)
			to[i] = *in++;
	block->read = (size_t)(in - block->word);
	queued--;
	return number;
}

/* How each state in the queue was reached, so that trouble comes with its story. */
struct origin {
	uint32_t parent;
	uint32_t event;
};
static struct origin *origins;
static size_t origin_count, origin_room;

static uint32_t note_origin(uint32_t parent, uint32_t event)
{
	if (origin_count == origin_room) {
		origin_room = origin_room ? origin_room * 2 : 1 << 16;
		origins = realloc(origins, origin_room * sizeof(*origins));
		must(origins != NULL);
	}
	origins[origin_count].parent = parent;
	origins[origin_count].event = event;
	return (uint32_t)origin_count++;
}

static const char *story(uint32_t state, uint32_t event)
{
	static char text[2048];
	char part[2048];

	snprintf(text, sizeof(text), "%s %u %u", events[event].name, events[event].a,
		 events[event].b);
	for (; state; state = origins[state].parent) {
		const struct event *const e = &events[origins[state].event];

		snprintf(part, sizeof(part), "%s %u %u; %.1900s", e->name, e->a, e->b, text);
		memcpy(text, part, sizeof(text));
	}
	return text;
}

#endif
