/* SPDX-License-Identifier: MIT */
/* vmbus_ring_look(): the words of a control page, whatever they are. */
#include "vmbus_test.h"

#include <stdalign.h>

#include <vmbus/look.h>

static alignas(4096) uint8_t pages[3 * 4096];

static struct vmbus_ring_mem ring(void)
{
	const struct vmbus_ring_mem_opts opts = { .struct_bytes = sizeof(opts),
						  .window = VMBUS_RING_PLAIN,
						  .size = 8192,
						  .ctl = pages,
						  .data = pages + 4096 };
	struct vmbus_ring_mem mem;

	must_eq(vmbus_ring_mem_init(&mem, &opts), 0);
	vmbus_ring_mem_clear(&mem);
	return mem;
}

static void put(uint32_t at, uint32_t v)
{
	memcpy(pages + at, &v, 4);
}

START_TEST(ring_look__tells_each_word)
{
	const struct vmbus_ring_mem mem = ring();
	struct vmbus_ring_words words;

	put(0, 16);
	put(4, 8000);
	put(8, 1);
	put(12, 4096);
	put(64, 1);
	must_eq(vmbus_ring_look(&mem, &words), 0);
	must_eq(words.size, 8192);
	must_eq(words.write_index, 16);
	must_eq(words.read_index, 8000);
	must_eq(words.mask, 1);
	must_eq(words.pending_send, 4096);
	must_eq(words.features, 1);
	must_eq(words.used, 16 + 192);
}
END_TEST

START_TEST(ring_look__errors)
{
	static const uint32_t bad[][2] = {
		{ 8192, 0 }, { 0, 8192 }, { 4, 0 }, { 0, 12 }, { UINT32_MAX, 0 }
	};
	struct vmbus_ring_mem mem = ring(), none;
	struct vmbus_ring_words words;
	uint32_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put(0, bad[i][0]);
		put(4, bad[i][1]);
		must_eq(vmbus_ring_look(&mem, &words), VMBUS_E_PEER);
		must_eq(words.used, 0);
		must_eq(words.write_index, bad[i][0]);
		must_eq(words.read_index, bad[i][1]);
	}
	memset(&none, 0, sizeof(none));
	must_eq(vmbus_ring_look(&none, &words), VMBUS_E_STATE);
	must_eq(words.write_index, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "look", 4);

	tcase_add_test(tc, ring_look__tells_each_word);
	tcase_add_test(tc, ring_look__errors);
}

VMBUS_TEST_MAIN("ring.look", tests)
