/* SPDX-License-Identifier: MIT */
/* Structs in the caller's storage are part of the ABI: their sizes stay what they are. */
#include <stddef.h>

#include <vmbus/base.h>
#include <vmbus/mtx.h>
#include <vmbus/ring.h>
#include <vmbus/wire.h>

#include "vmbus_test.h"

#define LINE 64u

/* On 64-bit systems.  A size that changes is a new soname, or reserved space was not used. */
static const struct {
	const char *name;
	size_t now, recorded;
} sizes[] = {
	{ "vmbus_iov", sizeof(struct vmbus_iov), 16 },
	{ "vmbus_span", sizeof(struct vmbus_span), 16 },
	{ "vmbus_fault", sizeof(struct vmbus_fault), 24 },
	{ "vmbus_dirty", sizeof(struct vmbus_dirty), 40 },
	{ "vmbus_msg", sizeof(struct vmbus_msg), 48 },
	{ "vmbus_packet", sizeof(struct vmbus_packet), 40 },
	{ "vmbus_wire_ext", sizeof(struct vmbus_wire_ext), 32 },
	{ "vmbus_wire_range", sizeof(struct vmbus_wire_range), 24 },
	{ "vmbus_wire_ranges", sizeof(struct vmbus_wire_ranges), 56 },
	{ "vmbus_ring_mem", sizeof(struct vmbus_ring_mem), 64 },
	{ "vmbus_ring_mem_opts", sizeof(struct vmbus_ring_mem_opts), 48 },
	{ "vmbus_ring_opts", sizeof(struct vmbus_ring_opts), 64 },
	{ "vmbus_ring_stats", sizeof(struct vmbus_ring_stats), 64 },
	{ "vmbus_ring_tx", sizeof(struct vmbus_ring_tx), 224 },
	{ "vmbus_ring_rx", sizeof(struct vmbus_ring_rx), 264 },
	{ "vmbus_ring_mtx_slot", sizeof(struct vmbus_ring_mtx_slot), 16 },
	{ "vmbus_ring_mtx", sizeof(struct vmbus_ring_mtx), 456 },
};

START_TEST(abi__size_of_each_struct)
{
	ck_assert_msg(sizes[_i].now == sizes[_i].recorded, "struct %s has %zu bytes, not %zu",
		      sizes[_i].name, sizes[_i].now, sizes[_i].recorded);
}
END_TEST

/* Threads that claim must not take the line of what they only read. */
START_TEST(abi__shared_words_of_mtx_on_lines_of_their_own)
{
	ck_assert_uint_eq(offsetof(struct vmbus_ring_mtx, head_p) % LINE, 0);
	ck_assert_uint_eq(offsetof(struct vmbus_ring_mtx, out_p) % LINE, 0);
	ck_assert_uint_eq(offsetof(struct vmbus_ring_mtx, tail_p) % LINE, 0);
	ck_assert_uint_eq(offsetof(struct vmbus_ring_mtx, full_p) % LINE, 0);
	ck_assert_uint_ge(offsetof(struct vmbus_ring_mtx, head_p),
			  offsetof(struct vmbus_ring_mtx, pad0_p) + 4 * sizeof(uint64_t));
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "abi", 5);

	tcase_add_loop_test(tc, abi__size_of_each_struct, 0,
			    (int)(sizeof(sizes) / sizeof(sizes[0])));
	tcase_add_test(tc, abi__shared_words_of_mtx_on_lines_of_their_own);
}

VMBUS_TEST_MAIN("ring.abi", tests)
