/* SPDX-License-Identifier: MIT */
/* The network device's client against our own NICs, two of them, in one thread. */
#include "pairnet.h"

static void fill(uint8_t *p, uint32_t bytes, uint8_t to, uint8_t from, uint32_t seed)
{
	uint32_t i;

	memset(p, 0, 14);
	p[0] = p[6] = 2;
	p[5] = to;
	p[11] = from;
	p[12] = 0x88;
	p[13] = 0xB5;
	for (i = 14; i < bytes; i++)
		p[i] = (uint8_t)(seed + i * 13u);
}

/* Frames of all sizes arrive, in order, whole. */
START_TEST(pair__all_sizes)
{
	static uint8_t data[1514], want[1514];
	struct vmbus_iov piece = { data, 0 };
	struct vmbus_frame frame = { .piece = &piece, .pieces = 1 };
	struct pair p;
	uint32_t bytes, from;
	int n;

	pair_start(&p, NULL, NULL);
	for (bytes = 14; bytes <= 1514; bytes++) {
		from = bytes & 1u;
		fill(data, bytes, (uint8_t)(2 - from), (uint8_t)(1 + from), bytes);
		piece.len = frame.bytes = bytes;
		must_eq(vmbus_netvsc_send(&p.side[from].nv, 0, &frame, 1), 1);
		pair_settle(&p);
		n = vmbus_netvsc_receive(&p.side[1 - from].nv, 0, &p.side[1 - from].burst, 64);
		vmbus_test_at("%u bytes", bytes);
		must_eq(n, 1);
		must_eq(p.side[1 - from].burst.frame[0].bytes, bytes);
		must_eq(p.side[1 - from].burst.frame[0].pieces, 1);
		fill(want, bytes, (uint8_t)(2 - from), (uint8_t)(1 + from), bytes);
		must_eq(memcmp(p.side[1 - from].burst.frame[0].piece[0].base, want, bytes), 0);
		must_eq(vmbus_netvsc_release(&p.side[1 - from].nv, 0, &p.side[1 - from].burst), 0);
	}
	pair_free(&p);
	must_eq(p.side[0].closed, 1);
	must_eq(p.side[1].closed, 1);
}
END_TEST

/* A client that asks for less than 1500 is told 1500, and has frames of that length. */
START_TEST(pair__takes_1500_whatever_was_asked)
{
	const struct vmbus_netvsc_opts less = { .struct_bytes = sizeof(less), .mtu = 1400 };
	static uint8_t data[1514];
	struct vmbus_iov piece = { data, sizeof(data) };
	struct vmbus_frame frame = { .piece = &piece, .pieces = 1, .bytes = sizeof(data) };
	struct vmbus_netvsc_stats stats;
	struct pair_side *to;
	struct pair p;

	pair_start(&p, NULL, NULL);
	to = &p.side[1];
	must_eq(vmbus_netvsc_stop(&to->nv), 0);
	pair_settle(&p);
	must_eq(to->closed, 1);
	to->ready = 0;
	pair_client(to, &less);
	must_eq(to->nv.mtu, 1400);
	fill(data, sizeof(data), 2, 1, 7);
	must_eq(vmbus_netvsc_send(&p.side[0].nv, 0, &frame, 1), 1);
	pair_settle(&p);
	must_eq(vmbus_netvsc_receive(&to->nv, 0, &to->burst, 64), 1);
	must_eq(to->burst.frame[0].bytes, sizeof(data));
	must_eq(memcmp(to->burst.frame[0].piece[0].base, data, sizeof(data)), 0);
	must_eq(vmbus_netvsc_release(&to->nv, 0, &to->burst), 0);
	must_eq(vmbus_netvsc_stats(&to->nv, 0, &stats), 0);
	must_eq(stats.bad, 0);
	pair_free(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "pair", 60);

	tcase_add_test(tc, pair__all_sizes);
	tcase_add_test(tc, pair__takes_1500_whatever_was_asked);
}

VMBUS_TEST_MAIN("net.pair", tests)
