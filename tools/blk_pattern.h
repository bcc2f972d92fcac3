/* SPDX-License-Identifier: MIT */
/*
 * What a verified disk must hold: for each sector which writing of it was the last that was told to be
 * done, and whether it is in use now.  Each sector's bytes say what and where it is.
 */
#ifndef BLK_PATTERN_H
#define BLK_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLK_UNKNOWN 0u		   /* never written by us, or a writing that failed */
#define BLK_ZEROES 0xFFFFFFFFu	   /* discarded */
#define BLK_SECTORS_MAX (1u << 26) /* 256 MiB of this process */

struct blk_pattern {
	uint32_t *last;	 /* of each sector: its number, or one of the above */
	uint8_t *in_use; /* by a request under way */
	uint32_t sectors, sector_bytes;
	uint32_t number; /* of the last writing */
	uint64_t seed;
};

/* 0, or -1: no memory. */
int blk_pattern_init(struct blk_pattern *p, uint32_t sectors, uint32_t sector_bytes, uint64_t seed);
void blk_pattern_free(struct blk_pattern *p);
/* Take sectors for a request; false: one of them is in use. */
bool blk_pattern_take(struct blk_pattern *p, uint32_t sector, uint32_t count);
void blk_pattern_release(struct blk_pattern *p, uint32_t sector, uint32_t count);
/* The bytes of a writing, which gets a number. */
uint32_t blk_pattern_fill(struct blk_pattern *p, uint32_t sector, uint32_t count, void *bytes);
void blk_pattern_set(struct blk_pattern *p, uint32_t sector, uint32_t count, uint32_t number);
/* Sectors that are not what they must be; *first: of the first of them. */
uint32_t blk_pattern_check(const struct blk_pattern *p, uint32_t sector, uint32_t count,
			   const void *bytes, uint32_t *first);
uint64_t blk_random(uint64_t *state);

#endif
