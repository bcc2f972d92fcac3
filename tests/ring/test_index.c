/* SPDX-License-Identifier: MIT */
/*
 * Index arithmetic and signal decisions, src/ring/index.h, against models that step through the
 * ring unit by unit, [RING-SIGNAL], [RING-FLOW].
 */
#include "ring/index.h"
#include "vmbus_test.h"

#define SIZE 4096u

/* Units from out on to in, counted one by one. */
static uint32_t model_used(uint32_t size, uint32_t in, uint32_t out)
{
	uint32_t n = 0;

	while (out != in) {
		out = out + 8 == size ? 0 : out + 8;
		n += 8;
	}
	return n;
}

START_TEST(ring_used__every_pair_of_indices)
{
	uint32_t in, out;

	for (in = 0; in < SIZE; in += 8)
		for (out = 0; out < SIZE; out += 8) {
			const uint32_t used = model_used(SIZE, in, out);

			must_eq(vmbus__ring_used(SIZE, in, out), used);
			must_eq(vmbus__ring_room(SIZE, in, out), SIZE - used - 8);
		}
}
END_TEST

START_TEST(ring_advance__every_step)
{
	uint32_t index, bytes, next;

	for (index = 0; index < SIZE; index += 8)
		for (bytes = 0, next = index; bytes <= SIZE; bytes += 8) {
			must_eq(vmbus__ring_advance(SIZE, index, bytes), next);
			next = next + 8 == SIZE ? 0 : next + 8;
		}
	/* The largest ring: no sum overflows. */
	must_eq(vmbus__ring_advance(1u << 30, (1u << 30) - 8, 1u << 30), (1u << 30) - 8);
}
END_TEST

START_TEST(ring_size_ok__every_boundary)
{
	static const uint32_t bad[] = { 0,    4095,	  4097,	      4104,
					6144, 0x40000008, 0x40001000, UINT32_MAX };
	unsigned int i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		must(!vmbus__ring_size_ok(bad[i]));
	must(vmbus__ring_size_ok(4096) && vmbus__ring_size_ok(8192) &&
	     vmbus__ring_size_ok(1u << 30));
}
END_TEST

START_TEST(index_ok__every_number_near_the_ring)
{
	uint32_t i;

	for (i = 0; i < 3 * SIZE; i++)
		must_eq(vmbus__index_ok(SIZE, i), i < SIZE && i % 8 == 0);
	must(!vmbus__index_ok(SIZE, UINT32_MAX));
	must(!vmbus__index_ok(SIZE, 0xfffffff8));
	must(!vmbus__index_ok(SIZE, 1u << 31));
}
END_TEST

START_TEST(tx_signal_due__only_to_one_that_has_read_all)
{
	static const uint32_t masks[] = { 0, 1, 2, 0x80000000, UINT32_MAX };
	uint32_t m, out, in;

	for (m = 0; m < 5; m++)
		for (out = 0; out < SIZE; out += 8)
			for (in = 0; in < SIZE; in += 56)
				must_eq(vmbus__tx_signal_due(masks[m], out, in),
					masks[m] == 0 && out == in);
}
END_TEST

static const uint32_t pendings[] = {
	0,	   1,	 7,    8,    9,	   16,	 24,   512,   4072,	  4079,	    4080,
	4081,	   4088, 4089, 4095, 4096, 4097, 8192, 65536, 0x7fffffff, 1u << 31, UINT32_MAX - 7,
	UINT32_MAX
};
#define PENDINGS (int)(sizeof(pendings) / sizeof(pendings[0]))

/*
 * The receiver frees unit by unit from before to now; the signal is due if and only if at one of
 * these units the usable bytes first reach what the sender waits for.
 */
START_TEST(rx_signal_due__on_the_crossing_alone)
{
	uint32_t want = pendings[_i] / 8 * 8, in, before, free;

	if (want > SIZE - 8)
		want = SIZE - 8;
	for (in = 0; in < SIZE; in += 264)
		for (before = 0; before < SIZE; before += 24) {
			const uint32_t used = model_used(SIZE, in, before);
			bool crossed = false;

			for (free = 0; free <= used; free += 8) {
				const uint32_t now = (before + free) % SIZE;

				if (free && want && SIZE - 8 - used + free == want)
					crossed = true;
				must_eq(vmbus__rx_signal_due(SIZE, pendings[_i], in, before, now),
					crossed);
			}
		}
}
END_TEST

/* The same as the two published formulas wherever these agree: sizes that are multiples of 8. */
START_TEST(rx_signal_due__as_both_published_formulas)
{
	uint32_t pending, before, now;

	for (pending = 8; pending < SIZE; pending += 8)
		for (before = 8; before < SIZE; before += 40)
			for (now = before; now < SIZE; now += 88) {
				const uint32_t raw0 = before, raw1 = now; /* in is 0: raw free */
				const bool raw = raw0 <= pending && raw1 > pending;
				const bool usable = raw0 - 8 < pending && raw1 - 8 >= pending;

				must_eq(raw, usable);
				must_eq(vmbus__rx_signal_due(SIZE, pending, 0, before, now), raw);
			}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "index", 5);

	tcase_add_test(tc, ring_used__every_pair_of_indices);
	tcase_add_test(tc, ring_advance__every_step);
	tcase_add_test(tc, ring_size_ok__every_boundary);
	tcase_add_test(tc, index_ok__every_number_near_the_ring);
	tc = vmbus_test_case(suite, "signal", 5);
	tcase_add_test(tc, tx_signal_due__only_to_one_that_has_read_all);
	tcase_add_loop_test(tc, rx_signal_due__on_the_crossing_alone, 0, PENDINGS);
	tcase_add_test(tc, rx_signal_due__as_both_published_formulas);
}

VMBUS_TEST_MAIN("ring.index", tests)
