/* SPDX-License-Identifier: MIT */
/* The marker of written pages: src/base/dirty.h.  What the ring marks is in ring/test_dirty.c. */
#include <vmbus/base.h>

#include "base/dirty.h"
#include "vmbus_test.h"

#define FRAMES 130u /* not a whole number of words */

static uint64_t bitmap[4];
static struct vmbus_dirty marker;

static void clear(void)
{
	memset(bitmap, 0, sizeof(bitmap));
	marker = (struct vmbus_dirty){ .bitmap = bitmap, .frames = FRAMES, .first_frame = 3 };
}

static bool bit(uint64_t frame)
{
	return bitmap[frame / 64] >> (frame % 64) & 1;
}

static unsigned int bits(void)
{
	unsigned int n = 0, i;

	for (i = 0; i < sizeof(bitmap) * 8; i++)
		n += bit(i);
	return n;
}

START_TEST(dirty_frame__sets_that_bit_alone)
{
	uint64_t frame;

	for (frame = 0; frame < FRAMES; frame++) {
		clear();
		vmbus__dirty_frame(&marker, frame);
		must(bit(frame));
		must_eq(bits(), 1);
		vmbus__dirty_frame(&marker, frame);
		must_eq(bits(), 1);
	}
}
END_TEST

START_TEST(dirty_frame__passes_over_frames_past_the_end)
{
	static const uint64_t past[] = { FRAMES, FRAMES + 1, 255, 256, 1u << 20, UINT64_MAX };
	unsigned int i;

	for (i = 0; i < sizeof(past) / sizeof(past[0]); i++) {
		clear();
		vmbus__dirty_frame(&marker, past[i]);
		must_eq(bits(), 0);
	}
}
END_TEST

/* Every run within five pages, by a model that goes byte by byte. */
START_TEST(dirty_data__marks_each_page_of_a_run)
{
	static const uint32_t edges[] = { 0, 1, 4095, 4096, 4097, 8191, 8192, 12287, 12288, 20479 };
	const uint64_t list[] = { 77, 2, 129, 40, 1000 };
	const uint32_t n = sizeof(edges) / sizeof(edges[0]);
	uint32_t a, b, page, expected;

	for (a = 0; a < n; a++) {
		for (b = a; b < n; b++) {
			clear();
			marker.frame_list = _i ? list : NULL;
			vmbus__dirty_data(&marker, edges[a], edges[b]);
			expected = 0;
			for (page = edges[a] / 4096; page <= edges[b] / 4096; page++) {
				const uint64_t frame = _i ? list[page] : 3u + page;

				must(frame >= FRAMES || bit(frame));
				expected += frame < FRAMES;
			}
			must_eq(bits(), expected);
		}
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "dirty", 5);

	tcase_add_test(tc, dirty_frame__sets_that_bit_alone);
	tcase_add_test(tc, dirty_frame__passes_over_frames_past_the_end);
	tcase_add_loop_test(tc, dirty_data__marks_each_page_of_a_run, 0, 2);
}

VMBUS_TEST_MAIN("base.dirty", tests)
