/* SPDX-License-Identifier: MIT */
/* The fuzzer's bytes as a stream of numbers; 0 behind their end. */
#ifndef VMBUS_TESTS_FUZZ_INPUT_H
#define VMBUS_TESTS_FUZZ_INPUT_H

#include "hostile/ground.h"

struct input {
	const uint8_t *at;
	size_t left;
};

static inline uint32_t take(struct input *in, uint32_t bytes)
{
	uint32_t v = 0, i;

	for (i = 0; i < bytes && in->left; i++, in->at++, in->left--)
		v |= (uint32_t)*in->at << (8 * i);
	return v;
}

/* The last one, larger than a packet can be, is slow and seldom taken. */
static const uint32_t ground_sizes[] = { 4096, 8192, 65536, 1048576 };

/* One ring of each window and size, mapped when first wanted and kept. */
static inline struct ground *pick_ground(uint32_t choice)
{
	static struct ground grounds[3][4];
	static bool open[3][4];
	const uint32_t w = choice % 3, s = choice >= 252 ? 3 : choice / 3 % 3;

	if (!open[w][s])
		ground_open(&grounds[w][s], (enum vmbus_ring_window)w, ground_sizes[s]);
	open[w][s] = true;
	return &grounds[w][s];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
