/* SPDX-License-Identifier: MIT */
/*
 * Sleeping and waking: arm and disarm of both ends, and the signals that they ask for.  Moves of the
 * peer between our store and our look are played by the hook before that look.
 */
#include "ringbox.h"

#include "ring/index.h"

static struct ringbox *box;
static unsigned int hook_calls;

static void put_one(struct ringbox *rb, uint64_t id, uint32_t len)
{
	static uint8_t data[8192];
	const struct vmbus_msg msg = ringbox_msg(id, data, len);

	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
}

static int get_one(struct ringbox *rb)
{
	struct vmbus_packet pkt;

	return vmbus_ring_rx_get(&rb->rx, &pkt, 1);
}

/* [RING-RECV]: asleep, the receiver is told once of the next batch, and of no other. */
START_TEST(ring_rx_arm__next_packet_signals_once)
{
	struct ringbox *rb = ringbox_open(4096, ringbox_windows[_i], 4000);
	struct vmbus_ring_stats stats;

	must(ringbox_get(rb, RINGBOX_MASK) != 0);
	put_one(rb, 1, 8);
	must_eq(rb->tx_signals, 0); /* masked from the start */
	must_eq(get_one(rb), 1);
	must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_RING_SLEEP);
	must_eq(ringbox_get(rb, RINGBOX_MASK), 0);
	must_eq(ringbox_get(rb, RINGBOX_OUT), ringbox_get(rb, RINGBOX_IN));
	put_one(rb, 2, 8);
	must_eq(rb->tx_signals, 1);
	put_one(rb, 3, 8);
	must_eq(rb->tx_signals, 1);
	vmbus_ring_rx_disarm(&rb->rx);
	must(ringbox_get(rb, RINGBOX_MASK) != 0);
	must_eq(get_one(rb), 1);
	must_eq(get_one(rb), 1);
	must_eq(get_one(rb), 0);
	put_one(rb, 4, 8);
	must_eq(rb->tx_signals, 1);
	vmbus_ring_rx_stats(&rb->rx, &stats);
	must_eq(stats.sleeps, 1);
	ringbox_free(rb);
}
END_TEST

/* A packet that came while signals were masked: arm must see it, since nobody will signal it. */
START_TEST(lesson_03_message_arrives_while_masked)
{
	struct ringbox *rb = ringbox_open(4096, ringbox_windows[_i], 0);
	struct vmbus_ring_stats stats;

	must_eq(get_one(rb), 0);
	put_one(rb, 1, 8);
	must_eq(rb->tx_signals, 0);
	must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_RING_READY);
	must(ringbox_get(rb, RINGBOX_MASK) != 0);
	must_eq(get_one(rb), 1);
	must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_RING_SLEEP);
	vmbus_ring_rx_disarm(&rb->rx);
	vmbus_ring_rx_stats(&rb->rx, &stats);
	must_eq(stats.sleeps, 1);
	ringbox_free(rb);
}
END_TEST

/* The sender publishes after our store of the mask and before our look at its index. */
static void send_before_look(const volatile void *p)
{
	if (ringbox_place_of(box, p) != RINGBOX_IN || ringbox_get(box, RINGBOX_MASK) != 0)
		return;
	vmbus__test_hook = NULL;
	hook_calls++;
	put_one(box, 1, 8);
}

START_TEST(lesson_02_sender_moves_before_the_receivers_look)
{
	struct ringbox *rb = ringbox_open(4096, ringbox_windows[_i], 4064);

	box = rb;
	vmbus__test_hook = send_before_look;
	must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_RING_READY);
	must_eq(hook_calls, 1);
	must_eq(rb->tx_signals, 1); /* and it saw our mask: one of the two is enough */
	must(ringbox_get(rb, RINGBOX_MASK) != 0);
	must_eq(get_one(rb), 1);
	ringbox_free(rb);
}
END_TEST

/* The receiver reads on after our store of the pending size and before our look at its index. */
static void read_before_look(const volatile void *p)
{
	if (ringbox_place_of(box, p) != RINGBOX_OUT || ringbox_get(box, RINGBOX_PENDING) == 0)
		return;
	vmbus__test_hook = NULL;
	hook_calls++;
	must_eq(get_one(box), 1);
	must_eq(vmbus_ring_rx_consume(&box->rx), 0);
}

START_TEST(lesson_02_receiver_moves_before_the_senders_look)
{
	struct ringbox *rb = ringbox_open(4096, ringbox_windows[_i], 1000);

	put_one(rb, 1, 2000);
	put_one(rb, 2, 2000);
	box = rb;
	vmbus__test_hook = read_before_look;
	must_eq(vmbus_ring_tx_arm(&rb->tx, 2024), VMBUS_RING_READY);
	must_eq(hook_calls, 1);
	must_eq(rb->rx_signals, 1);
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
	put_one(rb, 3, 2000);
	ringbox_free(rb);
}
END_TEST

/* [RING-PENDING]: asleep, the sender is told once, at the crossing. */
START_TEST(ring_tx_arm__room_signals_once)
{
	struct ringbox *rb = ringbox_open(8192, ringbox_windows[_i], 4096);
	static uint8_t data[4000];
	const struct vmbus_msg msg = ringbox_msg(1, data, 488); /* 512 in the ring */
	struct vmbus_ring_stats stats;
	uint32_t k, room;

	for (k = 0; k < 15; k++)
		must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), VMBUS_E_FULL);
	must_eq(vmbus_ring_tx_arm(&rb->tx, 2048), VMBUS_RING_SLEEP);
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 2048);
	for (k = 1, room = 504; k <= 15; k++) {
		must_eq(get_one(rb), 1);
		must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
		room += 512;
		must_eq(rb->rx_signals, room >= 2048);
	}
	vmbus_ring_tx_disarm(&rb->tx);
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
	vmbus_ring_tx_stats(&rb->tx, &stats);
	must_eq(stats.sleeps, 1);
	must_eq(stats.full, 1);
	vmbus_ring_rx_stats(&rb->rx, &stats);
	must_eq(stats.signals, 1);
	must_eq(stats.signals_suppressed, 14);
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_tx_arm__ready_without_a_store)
{
	struct ringbox *rb = ringbox_open(4096, VMBUS_RING_PLAIN, 0);

	must_eq(vmbus_ring_tx_arm(&rb->tx, 8), VMBUS_RING_READY);
	must_eq(vmbus_ring_tx_arm(&rb->tx, 4080), VMBUS_RING_READY);
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
	put_one(rb, 1, 4000);
	must_eq(get_one(rb), 1);
	must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
	must_eq(vmbus_ring_tx_arm(&rb->tx, 4080), VMBUS_RING_READY); /* found by the look */
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
	must_eq(rb->rx_signals, 0);
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_tx_arm__refuses_needs)
{
	static const uint32_t needs[] = {
		0,	   1, 4, 7, 9, 12, 4079, 4081, 4088, 4096, 8192, 1u << 31, UINT32_MAX - 7,
		UINT32_MAX
	};
	struct ringbox *rb = ringbox_open(4096, VMBUS_RING_PLAIN, 0);
	unsigned int i;

	put_one(rb, 1, 4000);
	for (i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		must_eq(vmbus_ring_tx_arm(&rb->tx, needs[i]), VMBUS_E_RANGE);
		must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
	}
	must_eq(vmbus_ring_tx_arm(&rb->tx, 4080), VMBUS_RING_SLEEP);
	ringbox_free(rb);
}
END_TEST

/* Without arm there is nothing to take back: the words are not stored. */
START_TEST(ring_disarm__only_after_arm)
{
	struct ringbox *rb = ringbox_open(4096, VMBUS_RING_PLAIN, 0);

	ringbox_set(rb, RINGBOX_MASK, 0x1234);
	ringbox_set(rb, RINGBOX_PENDING, 0x1234);
	vmbus_ring_tx_disarm(&rb->tx);
	vmbus_ring_rx_disarm(&rb->rx);
	must_eq(ringbox_get(rb, RINGBOX_MASK), 0x1234);
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 0x1234);
	ringbox_free(rb);
}
END_TEST

/*
 * Both ends of one ring never sleep at once: a sleeping receiver has given back all, so a sender
 * finds room for all that it may ask; a sender sleeps over packets, which a receiver finds.
 */
START_TEST(ring_arm__both_ends_never_sleep_at_once)
{
	struct ringbox *rb = ringbox_open(4096, ringbox_windows[_i], 0);
	uint32_t len, need, seen, first, both = 0, slept = 0;
	uint32_t k;

	for (len = 0; len <= 4056; len += 104)
		for (need = 8; need <= 4080; need += 504)
			for (seen = 0; seen < 2; seen++)
				for (first = 0; first < 2; first++) {
					int tx = 0, rx = 0;

					ringbox_reopen(rb, len / 8 * 8);
					put_one(rb, 1, len);
					if (seen)
						must_eq(get_one(rb), 1);
					for (k = 0; k < 2; k++)
						if (k == first)
							tx = vmbus_ring_tx_arm(&rb->tx, need);
						else
							rx = vmbus_ring_rx_arm(&rb->rx);
					must(tx >= 0 && rx >= 0);
					/* Who slept first was told by what the other did then. */
					if (tx == VMBUS_RING_SLEEP && rx == VMBUS_RING_SLEEP) {
						must_eq(first, 0);
						must_eq(rb->rx_signals, 1);
						both++;
					}
					slept += tx == VMBUS_RING_SLEEP;
					must(seen || rx == VMBUS_RING_READY);
				}
	must(slept > 0 && both > 0);
	ringbox_free(rb);
}
END_TEST

/* A peer's packet of that many ring bytes, from where its index is. */
static void peer_sends(struct ringbox *rb, uint32_t bytes)
{
	const uint32_t in = ringbox_get(rb, RINGBOX_IN);

	ringbox_peer_packet(rb, in, VMBUS__DESC(6, 2, bytes / 8 - 1, 0), 1, 1);
	ringbox_set(rb, RINGBOX_IN, vmbus__ring_advance(rb->size, in, bytes));
}

static void consume_one(struct ringbox *rb)
{
	must_eq(get_one(rb), 1);
	must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
}

/* Section 9: size 8192, pending 4120, in 0, out 8.  [RING-FLOW] */
START_TEST(ring_rx_consume__vector_flow_control)
{
	struct ringbox *rb = ringbox_new(8192, ringbox_windows[_i]);

	ringbox_start_at(rb, 8);
	must_eq(ringbox_open_rx(rb, 0), 0);
	peer_sends(rb, 4112); /* 8 to 4120 */
	peer_sends(rb, 24);   /* to 4144 */
	peer_sends(rb, 4048); /* to 0 */
	must_eq(ringbox_get(rb, RINGBOX_IN), 0);
	ringbox_set(rb, RINGBOX_PENDING, 4120);
	consume_one(rb);
	must_eq(ringbox_get(rb, RINGBOX_OUT), 4120);
	must_eq(rb->rx_signals, 0);
	consume_one(rb);
	must_eq(rb->rx_signals, 1);
	consume_one(rb);
	must_eq(rb->rx_signals, 1);

	ringbox_reopen(rb, 8);
	peer_sends(rb, 4120); /* 8 to 4128: the threshold itself */
	peer_sends(rb, 4064);
	ringbox_set(rb, RINGBOX_PENDING, 4120);
	consume_one(rb);
	must_eq(ringbox_get(rb, RINGBOX_OUT), 4128);
	must_eq(rb->rx_signals, 1);
	consume_one(rb);
	must_eq(rb->rx_signals, 1);
	ringbox_free(rb);
}
END_TEST

static const uint32_t pendings[] = {
	1,    7,    8,	  24,	64,   2048, 4072, 4079,	      4080,	4081,		4087,
	4088, 4089, 4095, 4096, 4097, 4120, 8192, 0x7fffffff, 1u << 31, UINT32_MAX - 7, UINT32_MAX
};
#define PENDINGS (int)(sizeof(pendings) / sizeof(pendings[0]))

/*
 * A pending size that is never cleared, as hv_sock's, and ones that make no sense, over a long walk
 * of the free bytes up and down: a signal at each upward crossing and at no other time.
 */
START_TEST(ring_rx_consume__pending_that_is_never_cleared)
{
	struct ringbox *rb = ringbox_new(4096, ringbox_windows[_i % RINGBOX_WINDOWS]);
	const uint32_t pending = pendings[_i / RINGBOX_WINDOWS];
	uint32_t want = pending / 8 * 8, used = 0, signals = 0, seed = 12345, step, lens[256];
	uint32_t head = 0, tail = 0;

	want = want > 4088 ? 4088 : want;
	must_eq(ringbox_open_rx(rb, 0), 0);
	ringbox_set(rb, RINGBOX_PENDING, pending);
	for (step = 0; step < 3000; step++) {
		uint32_t n, freed = 0;

		seed = seed % 65536 * 40503 + 12829;
		for (n = seed / 256 % 8; n; n--) {
			const uint32_t bytes =
				step % 50 == 0 && used == 0 ? 4088 : 24 + seed / 64 % 100 * 8;

			if (used + bytes > 4088)
				break;
			peer_sends(rb, bytes);
			lens[head++ % 256] = bytes;
			used += bytes;
		}
		for (n = 1 + seed / 4096 % 9; n && tail != head; n--) {
			must_eq(get_one(rb), 1);
			freed += lens[tail++ % 256];
			if (rb->rx.held_p != freed) /* an eighth was held: that was given back */
				break;
		}
		must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
		/* Publications within get were of a part of freed; a crossing is one in any case. */
		if (want && 4088 - used < want && 4088 - used + freed >= want)
			signals++;
		used -= freed;
		vmbus_test_at("pending %u step %u", pending, step);
		must_eq(rb->rx_signals, signals);
	}
	must(want == 0 || signals > 3);
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_rx_consume__mask_does_not_gate_room_signals)
{
	struct ringbox *rb = ringbox_open(4096, VMBUS_RING_PLAIN, 0);

	put_one(rb, 1, 4000);
	must_eq(vmbus_ring_tx_arm(&rb->tx, 1000), VMBUS_RING_SLEEP);
	ringbox_set(rb, RINGBOX_MASK, UINT32_MAX);
	ringbox_set(rb, RINGBOX_FEATURES, 0); /* nor does the peer's feature bit */
	consume_one(rb);
	must_eq(rb->rx_signals, 1);
	ringbox_free(rb);
}
END_TEST

/* A wrong index found by the look of arm: PEER, and the request is taken back. */
START_TEST(ring_arm__wrong_index)
{
	struct ringbox *rb = ringbox_open(4096, VMBUS_RING_PLAIN, 0);

	ringbox_set(rb, RINGBOX_IN, 4095);
	must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_E_PEER);
	must(ringbox_get(rb, RINGBOX_MASK) != 0);
	must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_E_FAULT);
	must_eq(vmbus_ring_rx_fault(&rb->rx)->field, VMBUS_FAULT_WRITE_INDEX_ALIGN);
	put_one(rb, 1, 4000);
	ringbox_set(rb, RINGBOX_OUT, 4096);
	must_eq(vmbus_ring_tx_arm(&rb->tx, 1000), VMBUS_E_PEER);
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
	must_eq(vmbus_ring_tx_arm(&rb->tx, 1000), VMBUS_E_FAULT);
	must_eq(vmbus_ring_tx_fault(&rb->tx)->field, VMBUS_FAULT_READ_INDEX);
	ringbox_free(rb);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "receiver", 5);

	tcase_add_loop_test(tc, ring_rx_arm__next_packet_signals_once, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, lesson_03_message_arrives_while_masked, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, lesson_02_sender_moves_before_the_receivers_look, 0,
			    RINGBOX_WINDOWS);
	tc = vmbus_test_case(suite, "sender", 5);
	tcase_add_loop_test(tc, lesson_02_receiver_moves_before_the_senders_look, 0,
			    RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_arm__room_signals_once, 0, RINGBOX_WINDOWS);
	tcase_add_test(tc, ring_tx_arm__ready_without_a_store);
	tcase_add_test(tc, ring_tx_arm__refuses_needs);
	tc = vmbus_test_case(suite, "both", 5);
	tcase_add_test(tc, ring_disarm__only_after_arm);
	tcase_add_loop_test(tc, ring_arm__both_ends_never_sleep_at_once, 0, RINGBOX_WINDOWS);
	tcase_add_test(tc, ring_arm__wrong_index);
	tc = vmbus_test_case(suite, "flow", 5);
	tcase_add_loop_test(tc, ring_rx_consume__vector_flow_control, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_rx_consume__pending_that_is_never_cleared, 0,
			    PENDINGS * RINGBOX_WINDOWS);
	tcase_add_test(tc, ring_rx_consume__mask_does_not_gate_room_signals);
}

VMBUS_TEST_MAIN("ring.arm", tests)
