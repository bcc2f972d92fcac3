/* SPDX-License-Identifier: MIT */
/* Sectors that tell what and where they are. */
#include "blk_pattern.h"

#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xBF58476D1CE4E5B9);
	x ^= x >> 27;
	x *= UINT64_C(0x94D049BB133111EB);
	return x ^ x >> 31;
}

uint64_t blk_random(uint64_t *state)
{
	*state += UINT64_C(0x9E3779B97F4A7C15);
	return mix(*state);
}

int blk_pattern_init(struct blk_pattern *p, uint32_t sectors, uint32_t sector_bytes, uint64_t seed)
{
	memset(p, 0, sizeof(*p));
	p->last = calloc(sectors, sizeof(*p->last));
	p->in_use = calloc(sectors, 1);
	p->sectors = sectors;
	p->sector_bytes = sector_bytes;
	p->seed = seed;
	return p->last && p->in_use ? 0 : -1;
}

void blk_pattern_free(struct blk_pattern *p)
{
	free(p->last);
	free(p->in_use);
	memset(p, 0, sizeof(*p));
}

bool blk_pattern_take(struct blk_pattern *p, uint32_t sector, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (p->in_use[sector + i])
			return false;
	memset(p->in_use + sector, 1, count);
	return true;
}

void blk_pattern_release(struct blk_pattern *p, uint32_t sector, uint32_t count)
{
	memset(p->in_use + sector, 0, count);
}

/* One sector, eight bytes at a time. */
static void fill(const struct blk_pattern *p, uint32_t sector, uint32_t number, uint8_t *to)
{
	const uint64_t key = mix(p->seed ^ ((uint64_t)number << 32 | sector));
	uint64_t word[2] = { sector, number };
	uint32_t i;

	memcpy(to, word, sizeof(word));
	for (i = 16; i < p->sector_bytes; i += 8) {
		word[0] = key + i * UINT64_C(0x9E3779B97F4A7C15);
		word[0] ^= word[0] >> 29;
		memcpy(to + i, word, 8);
	}
}

uint32_t blk_pattern_fill(struct blk_pattern *p, uint32_t sector, uint32_t count, void *bytes)
{
	uint32_t i;

	p->number++;
	if (p->number == BLK_ZEROES || p->number == BLK_UNKNOWN)
		p->number = 1;
	for (i = 0; i < count; i++)
		fill(p, sector + i, p->number, (uint8_t *)bytes + (size_t)i * p->sector_bytes);
	return p->number;
}

void blk_pattern_set(struct blk_pattern *p, uint32_t sector, uint32_t count, uint32_t number)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		p->last[sector + i] = number;
}

static bool good(const struct blk_pattern *p, uint32_t sector, const uint8_t *bytes)
{
	uint8_t want[4096];

	if (p->last[sector] == BLK_UNKNOWN)
		return true;
	if (p->last[sector] == BLK_ZEROES)
		memset(want, 0, p->sector_bytes);
	else
		fill(p, sector, p->last[sector], want);
	return memcmp(bytes, want, p->sector_bytes) == 0;
}

uint32_t blk_pattern_check(const struct blk_pattern *p, uint32_t sector, uint32_t count,
			   const void *bytes, uint32_t *first)
{
	uint32_t i, wrong = 0;

	for (i = 0; i < count; i++) {
		if (good(p, sector + i, (const uint8_t *)bytes + (size_t)i * p->sector_bytes))
			continue;
		if (wrong++ == 0)
			*first = sector + i;
	}
	return wrong;
}
