/* SPDX-License-Identifier: MIT */
/*
 * The sending end for many threads, src/ring/mtx.c.  Its messages go through the same writer as
 * those of tx; here is what is its own: claims, publication in order, slots, and the fault that
 * only one thread reports.  All byte layouts: test_wrap.c.
 */
#include "ringbox.h"

#include <pthread.h>
#include <sched.h>

#include "ring/index.h"

static struct ringbox *open_at(uint32_t size, enum vmbus_ring_window window, uint32_t index,
			       uint32_t slots)
{
	struct ringbox *rb = ringbox_new(size, window);

	ringbox_start_at(rb, index);
	must_eq(ringbox_open_rx(rb, 0), 0);
	must_eq(ringbox_open_mtx(rb, slots), 0);
	return rb;
}

START_TEST(ring_mtx_init__refuses_arguments)
{
	struct ringbox *rb = open_at(4096, VMBUS_RING_PLAIN, 0, 2);
	static const uint32_t counts[] = {
		0, 1, 3, 5, 6, 63, 65, 65535, 65537, 131072, UINT32_MAX
	};
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts) - 1 };
	const struct vmbus_ring_mem none = { 0 };
	static struct vmbus_ring_mtx_slot many[VMBUS_RING_MTX_SLOTS_MAX];
	unsigned int i;

	for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		must_eq(vmbus_ring_mtx_init(rb->mtx, &rb->mem, NULL, rb->slots, counts[i]),
			VMBUS_E_RANGE);
	must_eq(vmbus_ring_mtx_init(rb->mtx, &none, NULL, rb->slots, 2), VMBUS_E_INVAL);
	must_eq(vmbus_ring_mtx_init(rb->mtx, &rb->mem, &opts, rb->slots, 2), VMBUS_E_INVAL);
	must_eq(vmbus_ring_mtx_init(rb->mtx, &rb->mem, NULL, NULL, 2), VMBUS_E_INVAL);
	must_eq(vmbus_ring_mtx_init(rb->mtx, &rb->mem, NULL, (void *)((uint8_t *)rb->slots + 4), 2),
		VMBUS_E_INVAL);
	must_eq(vmbus_ring_mtx_init((void *)((uint8_t *)rb->mtx + 8), &rb->mem, NULL, rb->slots, 2),
		VMBUS_E_INVAL);
	memset(many, 0xff, sizeof(many));
	must_eq(vmbus_ring_mtx_init(rb->mtx, &rb->mem, NULL, many, VMBUS_RING_MTX_SLOTS_MAX), 0);
	ringbox_free(rb);
}
END_TEST

/* [RING-INIT] */
START_TEST(ring_mtx_init__adopts_or_refuses_indices)
{
	static const struct {
		uint32_t in, out, field;
	} inits[] = {
		{ 4000, 4000, 0 },
		{ 8, 16, 0 },
		{ 4096, 0, VMBUS_FAULT_WRITE_INDEX },
		{ 12, 0, VMBUS_FAULT_WRITE_INDEX_ALIGN },
		{ 0, UINT32_MAX, VMBUS_FAULT_READ_INDEX },
		{ 0, 12, VMBUS_FAULT_READ_INDEX_ALIGN },
	};
	struct ringbox *rb = ringbox_new(4096, VMBUS_RING_PLAIN);
	const struct vmbus_msg msg = ringbox_msg(1, "x", 1);
	struct vmbus_fault fault;
	unsigned int i;

	for (i = 0; i < sizeof(inits) / sizeof(inits[0]); i++) {
		int err;

		ringbox_set(rb, RINGBOX_IN, inits[i].in);
		ringbox_set(rb, RINGBOX_OUT, inits[i].out);
		ringbox_set(rb, RINGBOX_PENDING, 9);
		ringbox_set(rb, RINGBOX_FEATURES, 0);
		err = ringbox_open_mtx(rb, 4);
		vmbus_ring_mtx_fault(rb->mtx, &fault);
		must_eq(fault.field, inits[i].field);
		must_eq(err, inits[i].field ? VMBUS_E_PEER : 0);
		if (err) {
			must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), VMBUS_E_FAULT);
			must_eq(vmbus_ring_mtx_arm(rb->mtx, 8), VMBUS_E_FAULT);
		} else {
			must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
			must_eq(ringbox_get(rb, RINGBOX_FEATURES), 1);
		}
	}
	ringbox_free(rb);
}
END_TEST

/*
 * A script of puts through tx and through mtx: the same answers, bytes, counters and signals.  The
 * second may send part of a call by the room that it knows, and the rest when called again.
 */
START_TEST(ring_mtx_put__as_tx_put)
{
	struct ringbox *a = ringbox_open(4096, ringbox_windows[_i], 2000);
	struct ringbox *b = open_at(4096, ringbox_windows[_i], 2000, 4);
	static uint8_t data[4096];
	struct vmbus_packet pkt[8];
	struct vmbus_ring_stats sa, sb;
	uint32_t seed = 7, step, k, fulls = 0, refused = 0;

	ringbox_fill(data, sizeof(data), 1);
	for (step = 0; step < 3000; step++) {
		struct vmbus_msg msg[4];
		uint32_t n = 1 + step % 4;
		int ra, rb;

		for (k = 0; k < n; k++) {
			seed = seed % 65536 * 40503 + 12829;
			msg[k] = ringbox_msg(step, data, seed / 256 % (step % 7 ? 300 : 4096));
			if (seed % 41 == 0)
				msg[k].type = 14;
			if (seed % 43 == 0)
				msg[k].ext_len = 4;
		}
		if (step % 5 == 0) {
			must_eq(vmbus_ring_rx_arm(&a->rx), vmbus_ring_rx_arm(&b->rx));
		}
		ra = vmbus_ring_tx_put(&a->tx, msg, n);
		rb = vmbus_ring_mtx_put(b->mtx, msg, n);
		vmbus_test_at("step %u", step);
		if (rb > 0 && rb < ra) {
			const int rest = vmbus_ring_mtx_put(b->mtx, msg + rb, (uint32_t)(ra - rb));

			must(rest > 0);
			rb += rest;
		}
		must_eq(ra, rb);
		fulls += ra == VMBUS_E_FULL;
		refused += ra == VMBUS_E_INVAL || ra == VMBUS_E_RANGE;
		must_eq(a->tx_signals, b->tx_signals);
		must(memcmp(ringbox_data(a), ringbox_data(b), 4096) == 0);
		must(memcmp(a->ctl, b->ctl, 4096) == 0);
		if (step % 5 == 0) {
			vmbus_ring_rx_disarm(&a->rx);
			vmbus_ring_rx_disarm(&b->rx);
		}
		must_eq(vmbus_ring_rx_get(&a->rx, pkt, step % 8),
			vmbus_ring_rx_get(&b->rx, pkt, step % 8));
	}
	must(fulls > 50 && refused > 50 && a->tx_signals > 10);
	must_eq(vmbus_ring_mtx_put(b->mtx, NULL, 0), 0);
	vmbus_ring_tx_stats(&a->tx, &sa);
	vmbus_ring_mtx_stats(b->mtx, &sb);
	must_eq(sa.packets, sb.packets);
	must_eq(sa.bytes, sb.bytes);
	must_eq(sa.signals, sb.signals);
	must_eq(sa.full, sb.full);
	must(sb.batches >= sa.batches);
	must_eq(sb.batches, sb.signals + sb.signals_suppressed);
	ringbox_free(a);
	ringbox_free(b);
}
END_TEST

static struct ringbox *box;
static uint64_t nested_id;
static int nested_result;
static long nested_at; /* place of the load before which another thread puts; -1: private words */
static unsigned int nested_skip;

/* Another thread, complete, at one moment of a put. */
static void put_nested(const volatile void *p)
{
	const struct vmbus_msg msg = ringbox_msg(nested_id, "nested", 6);

	if (ringbox_place_of(box, p) != nested_at || nested_skip--)
		return;
	vmbus__test_hook = NULL;
	nested_result = vmbus_ring_mtx_put(box->mtx, &msg, 1);
}

/*
 * A second put runs within the first one, before each of its loads in turn: both packets come out,
 * whole, in the order of their claims, and published by one or the other.
 */
START_TEST(ring_mtx_put__another_put_at_every_load)
{
	unsigned int skip, inner_first = 0, outer_first = 0;
	const struct vmbus_msg msg = ringbox_msg(1, "outer", 5);
	struct vmbus_packet pkt[4];

	box = open_at(4096, ringbox_windows[_i], 4080, 4);
	for (skip = 0; skip < 40; skip++) {
		ringbox_reopen(box, 4080);
		must_eq(ringbox_open_mtx(box, 4), 0);
		nested_at = skip % 2 ? RINGBOX_MASK : -1;
		nested_skip = skip / 2;
		nested_id = 2;
		nested_result = -99;
		vmbus__test_hook = put_nested;
		must_eq(vmbus_ring_mtx_put(box->mtx, &msg, 1), 1);
		vmbus__test_hook = NULL;
		vmbus_test_at("skip %u", skip);
		if (nested_result == -99) {
			must_eq(vmbus_ring_rx_get(&box->rx, pkt, 4), 1);
			continue;
		}
		must_eq(nested_result, 1);
		must_eq(vmbus_ring_rx_get(&box->rx, pkt, 4), 2);
		if (pkt[0].id == 1) {
			ringbox_must_be(&pkt[0], 1, "outer", 5);
			ringbox_must_be(&pkt[1], 2, "nested", 6);
			outer_first++;
		} else {
			ringbox_must_be(&pkt[0], 2, "nested", 6);
			ringbox_must_be(&pkt[1], 1, "outer", 5);
			inner_first++;
		}
	}
	must(inner_first > 2 && outer_first > 2);
	ringbox_free(box);
}
END_TEST

/* Two slots, and the claims of the signal handler's puts: FULL for want of a slot, nothing lost. */
START_TEST(ring_mtx_put__no_slot_is_full)
{
	struct ringbox *rb = open_at(4096, VMBUS_RING_PLAIN, 0, 2);
	const struct vmbus_msg msg = ringbox_msg(1, "x", 1);
	struct vmbus_ring_stats stats;
	struct vmbus_packet pkt[4];

	/* As two threads leave it that stopped between claim and mark: number 2, indices 64. */
	must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), 1);
	rb->mtx->head_p = (uint64_t)3 << 32 | 96;
	must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), VMBUS_E_FULL);
	vmbus_ring_mtx_stats(rb->mtx, &stats);
	must_eq(stats.full, 1);
	must_eq(ringbox_get(rb, RINGBOX_IN), 32);
	must_eq(vmbus_ring_mtx_arm(rb->mtx, 4080), VMBUS_RING_READY); /* claims are unpublished */
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), 1);
	ringbox_free(rb);
}
END_TEST

/* One slot is taken by a claim that stands: later puts finish, and are published only after it. */
START_TEST(ring_mtx_put__waits_for_no_other_thread)
{
	struct ringbox *rb = open_at(4096, VMBUS_RING_PLAIN, 0, 8);
	const struct vmbus_msg msg = ringbox_msg(7, "later", 5);
	struct vmbus_packet pkt[4];
	int k;

	/* A thread has claimed 32 bytes at 0 and stands there. */
	rb->mtx->head_p = (uint64_t)1 << 32 | 32;
	for (k = 0; k < 3; k++)
		must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), 1);
	must_eq(ringbox_get(rb, RINGBOX_IN), 0);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), 0);
	/* It goes on: fills its room and marks it; the next put publishes all. */
	ringbox_peer_packet(rb, 0, VMBUS__DESC(6, 2, 3, 0), 5, 5);
	rb->slots[0].packets_p = 1;
	rb->slots[0].done_p = (uint64_t)1 << 32 | 32;
	must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), 1);
	must_eq(ringbox_get(rb, RINGBOX_IN), 5 * 32);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), 4);
	must_eq(pkt[0].id, 5);
	must_eq(pkt[1].id, 7);
	ringbox_free(rb);
}
END_TEST

/* After 2^32 claims their numbers begin again at 0. */
START_TEST(ring_mtx_put__numbers_go_round)
{
	struct ringbox *rb = open_at(4096, VMBUS_RING_PLAIN, 64, 4);
	const uint32_t start = UINT32_MAX - 2;
	const struct vmbus_msg msg = ringbox_msg(7, "round", 5);
	struct vmbus_packet pkt;
	uint32_t n;

	/* As if all numbers below start had been used. */
	for (n = start - 4; n != start; n++)
		rb->slots[n % 4].done_p = (uint64_t)(n + 1) << 32 | 64;
	rb->mtx->head_p = rb->mtx->tail_p = (uint64_t)start << 32 | 64;
	for (n = 0; n < 100; n++) {
		must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), 1);
		must_eq(vmbus_ring_rx_get(&rb->rx, &pkt, 1), 1);
		ringbox_must_be(&pkt, 7, "round", 5);
		must_eq(ringbox_get(rb, RINGBOX_IN), (64 + (n + 1) * 32) % 4096);
	}
	ringbox_free(rb);
}
END_TEST

/* A wrong read index: PEER once, to whoever saw it, and FAULT after. */
START_TEST(ring_mtx_put__wrong_read_index)
{
	static const struct {
		uint32_t out, field, limit;
	} bad[] = {
		{ 4096, VMBUS_FAULT_READ_INDEX, 4088 },
		{ 0x80000000u, VMBUS_FAULT_READ_INDEX, 4088 },
		{ 4087, VMBUS_FAULT_READ_INDEX_ALIGN, 8 },
		{ 4080, VMBUS_FAULT_READ_INDEX_BACK, 4072 },
	};
	struct ringbox *rb = open_at(4096, VMBUS_RING_PLAIN, 8, 4);
	static uint8_t data[4040];
	const struct vmbus_msg msg = ringbox_msg(1, data, sizeof(data));
	struct vmbus_ring_stats stats;
	struct vmbus_fault fault;
	int k;

	must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), 1); /* in 4072, out 8 */
	vmbus_ring_mtx_fault(rb->mtx, &fault);
	must_eq(fault.field, VMBUS_FAULT_NONE);
	ringbox_set(rb, RINGBOX_OUT, bad[_i].out);
	must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), VMBUS_E_PEER);
	for (k = 0; k < 3; k++) {
		must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), VMBUS_E_FAULT);
		must_eq(vmbus_ring_mtx_arm(rb->mtx, 8), VMBUS_E_FAULT);
		vmbus_ring_mtx_disarm(rb->mtx);
	}
	vmbus_ring_mtx_fault(rb->mtx, &fault);
	must_eq(fault.field, bad[_i].field);
	must_eq(fault.value, bad[_i].out);
	must_eq(fault.limit, bad[_i].limit);
	vmbus_ring_mtx_stats(rb->mtx, &stats);
	must_eq(stats.faults, 1);
	must_eq(stats.packets, 1);
	must_eq(ringbox_get(rb, RINGBOX_IN), 4072);
	ringbox_free(rb);
}
END_TEST

/* Another thread finds the same fault before we report it: one of the two says PEER. */
START_TEST(ring_mtx_put__two_threads_find_one_fault)
{
	static uint8_t data[4040];
	const struct vmbus_msg msg = ringbox_msg(1, data, sizeof(data));
	struct vmbus_ring_stats stats;

	box = open_at(4096, VMBUS_RING_PLAIN, 8, 4);
	must_eq(vmbus_ring_mtx_put(box->mtx, &msg, 1), 1);
	ringbox_set(box, RINGBOX_OUT, UINT32_MAX);
	nested_at = RINGBOX_OUT;
	nested_skip = 0;
	nested_id = 2;
	vmbus__test_hook = put_nested;
	must_eq(vmbus_ring_mtx_put(box->mtx, &msg, 1), VMBUS_E_FAULT);
	must_eq(nested_result, VMBUS_E_PEER);
	vmbus_ring_mtx_stats(box->mtx, &stats);
	must_eq(stats.faults, 1);
	ringbox_free(box);
}
END_TEST

/* [RING-PENDING] */
START_TEST(ring_mtx_arm__sleeps_and_is_told)
{
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 1000, 4);
	static uint8_t data[4040];
	static const uint32_t wrong[] = { 0, 4, 4081, 4088, UINT32_MAX };
	const struct vmbus_msg msg = ringbox_msg(1, data, sizeof(data));
	struct vmbus_packet pkt;
	struct vmbus_ring_stats stats;
	unsigned int i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		must_eq(vmbus_ring_mtx_arm(rb->mtx, wrong[i]), VMBUS_E_RANGE);
	must_eq(vmbus_ring_mtx_arm(rb->mtx, 4080), VMBUS_RING_READY);
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
	must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), 1);
	must_eq(vmbus_ring_mtx_arm(rb->mtx, 64), VMBUS_RING_SLEEP);
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 64);
	must_eq(vmbus_ring_rx_get(&rb->rx, &pkt, 1), 1);
	must_eq(rb->rx_signals, 0);
	must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
	must_eq(rb->rx_signals, 1);
	vmbus_ring_mtx_disarm(rb->mtx);
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
	must_eq(vmbus_ring_mtx_arm(rb->mtx, 64), VMBUS_RING_READY);
	ringbox_set(rb, RINGBOX_PENDING, 0x1234);
	vmbus_ring_mtx_disarm(rb->mtx); /* nothing to take back */
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 0x1234);
	vmbus_ring_mtx_stats(rb->mtx, &stats);
	must_eq(stats.sleeps, 1);
	ringbox_free(rb);
}
END_TEST

/* The receiver reads on between the store of the pending size and the look. */
static void read_before_look(const volatile void *p)
{
	struct vmbus_packet pkt;

	if (ringbox_place_of(box, p) != RINGBOX_OUT || ringbox_get(box, RINGBOX_PENDING) == 0)
		return;
	vmbus__test_hook = NULL;
	must_eq(vmbus_ring_rx_get(&box->rx, &pkt, 1), 1);
	must_eq(vmbus_ring_rx_consume(&box->rx), 0);
}

START_TEST(lesson_02_receiver_moves_before_the_look_of_mtx)
{
	static uint8_t data[2000];
	const struct vmbus_msg msg = ringbox_msg(1, data, sizeof(data));

	box = open_at(4096, ringbox_windows[_i], 1000, 4);
	must_eq(vmbus_ring_mtx_put(box->mtx, &msg, 1), 1);
	must_eq(vmbus_ring_mtx_put(box->mtx, &msg, 1), 1);
	vmbus__test_hook = read_before_look;
	must_eq(vmbus_ring_mtx_arm(box->mtx, 2024), VMBUS_RING_READY);
	must(vmbus__test_hook == NULL);
	must_eq(box->rx_signals, 1);
	must_eq(ringbox_get(box, RINGBOX_PENDING), 0);
	must_eq(vmbus_ring_mtx_put(box->mtx, &msg, 1), 1);
	ringbox_free(box);
}
END_TEST

#define THREADS 4u
#define EACH 4000u

static void *many_puts(void *arg)
{
	const uint32_t me = (uint32_t)(uintptr_t)arg;
	uint8_t data[3][120];
	uint32_t i = 0, k, n;
	int sent;

	while (i < EACH) {
		struct vmbus_msg msg[3];

		n = 1 + i % 3;
		if (n > EACH - i)
			n = EACH - i;
		for (k = 0; k < n; k++) {
			const uint32_t len = (i + k) * 7 % 120;

			ringbox_fill(data[k], len, me * EACH + i + k);
			msg[k] = ringbox_msg((uint64_t)me << 32 | (i + k), data[k], len);
		}
		sent = vmbus_ring_mtx_put(box->mtx, msg, n);
		if (sent < 0 && sent != VMBUS_E_FULL)
			return (void *)(intptr_t)sent;
		if (sent <= 0)
			sched_yield();
		else
			i += (uint32_t)sent;
	}
	return NULL;
}

/* Four threads: each one's packets come in its order, whole, none twice, none lost. */
START_TEST(ring_mtx_put__four_threads)
{
	pthread_t thread[THREADS];
	uint32_t next[THREADS] = { 0 }, got = 0, t;
	struct vmbus_packet pkt[32];
	struct vmbus_ring_stats stats;
	uint8_t data[120];
	void *result;
	int n, i;

	box = open_at(4096, ringbox_windows[_i], 64, 4);
	for (t = 0; t < THREADS; t++)
		must_eq(pthread_create(&thread[t], NULL, many_puts, (void *)(uintptr_t)t), 0);
	while (got < THREADS * EACH) {
		n = vmbus_ring_rx_get(&box->rx, pkt, 32);
		must(n >= 0);
		if (n == 0)
			sched_yield();
		for (i = 0; i < n; i++, got++) {
			uint32_t len;

			t = (uint32_t)(pkt[i].id >> 32);
			must(t < THREADS);
			must_eq(pkt[i].id & UINT32_MAX, next[t]);
			len = next[t] * 7 % 120;
			ringbox_fill(data, len, t * EACH + next[t]);
			ringbox_must_be(&pkt[i], pkt[i].id, data, len);
			next[t]++;
		}
	}
	for (t = 0; t < THREADS; t++) {
		must_eq(pthread_join(thread[t], &result), 0);
		must(result == NULL);
		must_eq(next[t], EACH);
	}
	must_eq(vmbus_ring_rx_get(&box->rx, pkt, 32), 0);
	vmbus_ring_mtx_stats(box->mtx, &stats);
	must_eq(stats.packets, THREADS * EACH);
	must_eq(stats.bytes, box->rx.stats_p.bytes);
	must_eq(stats.signals, 0);
	must_eq(stats.signals_suppressed, stats.batches);
	ringbox_free(box);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "init", 5);

	tcase_add_test(tc, ring_mtx_init__refuses_arguments);
	tcase_add_test(tc, ring_mtx_init__adopts_or_refuses_indices);
	tc = vmbus_test_case(suite, "put", 10);
	tcase_add_loop_test(tc, ring_mtx_put__as_tx_put, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_mtx_put__another_put_at_every_load, 0, RINGBOX_WINDOWS);
	tcase_add_test(tc, ring_mtx_put__no_slot_is_full);
	tcase_add_test(tc, ring_mtx_put__waits_for_no_other_thread);
	tcase_add_test(tc, ring_mtx_put__numbers_go_round);
	tcase_add_loop_test(tc, ring_mtx_put__wrong_read_index, 0, 4);
	tcase_add_test(tc, ring_mtx_put__two_threads_find_one_fault);
	tcase_add_loop_test(tc, ring_mtx_put__four_threads, 0, RINGBOX_WINDOWS);
	tc = vmbus_test_case(suite, "arm", 5);
	tcase_add_loop_test(tc, ring_mtx_arm__sleeps_and_is_told, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, lesson_02_receiver_moves_before_the_look_of_mtx, 0,
			    RINGBOX_WINDOWS);
}

VMBUS_TEST_MAIN("ring.mtx", tests)
