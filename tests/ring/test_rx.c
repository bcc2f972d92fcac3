/* SPDX-License-Identifier: MIT */
/*
 * The receiving end, src/ring/rx.c.  The peer is the test's own hand on the other mapping.  Peers
 * that break the protocol: test_rx_fault.c.
 */
#include "ringbox.h"

typedef int get_fn(struct vmbus_ring_rx *rx, struct vmbus_packet *pkt, uint32_t n);
static get_fn *const gets[] = { vmbus_ring_rx_get, vmbus_ring_rx_get_in_peer_memory };
#define GETS 2

static const struct {
	uint32_t in, out, field;
} inits[] = {
	{ 0, 0, 0 },
	{ 8184, 8184, 0 },
	{ 8, 16, 0 },
	{ 8192, 0, VMBUS_FAULT_WRITE_INDEX },
	{ UINT32_MAX, 0, VMBUS_FAULT_WRITE_INDEX },
	{ 4, 0, VMBUS_FAULT_WRITE_INDEX_ALIGN },
	{ 8191, 0, VMBUS_FAULT_WRITE_INDEX_ALIGN },
	{ 0, 8192, VMBUS_FAULT_READ_INDEX },
	{ 0, 0x80000000u, VMBUS_FAULT_READ_INDEX },
	{ 0, 0xfffffff8u, VMBUS_FAULT_READ_INDEX },
	{ 0, 12, VMBUS_FAULT_READ_INDEX_ALIGN },
};

/* [RING-INIT] */
START_TEST(ring_rx_init__adopts_or_refuses_indices)
{
	struct ringbox *rb = ringbox_new(8192, VMBUS_RING_PLAIN);
	struct vmbus_packet pkt;
	int err;

	ringbox_set(rb, RINGBOX_IN, inits[_i].in);
	ringbox_set(rb, RINGBOX_OUT, inits[_i].out);
	ringbox_set(rb, RINGBOX_PENDING, 4120); /* hv_sock's, which is there before the open */
	err = ringbox_open_rx(rb, 0);
	must_eq(vmbus_ring_rx_fault(&rb->rx)->field, inits[_i].field);
	must_eq(err, inits[_i].field ? VMBUS_E_PEER : 0);
	must_eq(ringbox_get(rb, RINGBOX_IN), inits[_i].in);
	must_eq(ringbox_get(rb, RINGBOX_OUT), inits[_i].out);
	must_eq(ringbox_get(rb, RINGBOX_PENDING), 4120);
	must_eq(rb->rx_signals, 0);
	if (err) {
		must_eq(vmbus_ring_rx_get(&rb->rx, &pkt, 1), VMBUS_E_FAULT);
		must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, &pkt, 1), VMBUS_E_FAULT);
		must_eq(vmbus_ring_rx_consume(&rb->rx), VMBUS_E_FAULT);
		must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_E_FAULT);
	} else {
		must(ringbox_get(rb, RINGBOX_MASK) != 0);
	}
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_rx_init__refuses_arguments)
{
	struct ringbox *rb = ringbox_new(4096, VMBUS_RING_PLAIN);
	static uint8_t buf[8192];
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.buf = buf,
					.buf_bytes = 4096 };
	const struct vmbus_ring_mem none = { 0 };

	must_eq(vmbus_ring_rx_init(&rb->rx, &none, &opts), VMBUS_E_INVAL);
	must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, NULL), VMBUS_E_INVAL);
	opts.struct_bytes--;
	must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts), VMBUS_E_INVAL);
	opts.struct_bytes++;
	opts.buf = NULL;
	must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts), VMBUS_E_INVAL);
	opts.buf = buf;
	opts.buf_bytes = VMBUS_RING_RX_BUF_MIN - 1;
	must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts), VMBUS_E_RANGE);
	must_eq(ringbox_get(rb, RINGBOX_MASK), 0);
	opts.buf_bytes++;
	must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts), 0);
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, NULL, 8192), VMBUS_E_INVAL);
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, buf, 4095), VMBUS_E_RANGE);
	must_eq(vmbus_ring_rx_need(&rb->rx), 0);
	ringbox_free(rb);
}
END_TEST

/* Every type with the smallest header, a larger one, and none where it may; both ways of getting. */
START_TEST(ring_rx_get__every_type)
{
	struct ringbox *rb = ringbox_open_receiver(4096, ringbox_windows[_i / GETS], 4064, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt;
	uint32_t type, more, len;
	uint64_t id = 1;

	for (type = 1; type < 14; type++)
		for (more = 0; more <= 32; more += 8)
			for (len = 0; len <= 64; len += 8) {
				const uint32_t ext_len = (uint32_t)vmbus_wire_ext_min(type) + more;
				const uint32_t at = ringbox_get(rb, RINGBOX_IN);

				vmbus_test_at("type %u ext %u len %u at %u", type, ext_len, len,
					      at);
				ringbox_send(rb, type, ext_len, len, id);
				must_eq(get(&rb->rx, &pkt, 1), 1);
				ringbox_must_be_sent(&pkt, type, ext_len, len, id);
				must_eq(pkt.where, at);
				must_eq(get(&rb->rx, &pkt, 1), 0);
				id++;
			}
	must_eq(ringbox_get(rb, RINGBOX_OUT), ringbox_get(rb, RINGBOX_IN));
	ringbox_free(rb);
}
END_TEST

/* [RING-LIMIT]: a peer may fill the ring but for 8 bytes. */
START_TEST(ring_rx_get__packet_of_size_minus_8)
{
	struct ringbox *rb = ringbox_open_receiver(8192, ringbox_windows[_i / GETS], 0, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt;
	uint32_t at;

	for (at = 0; at < 8192; at += 8) {
		ringbox_reopen(rb, at);
		ringbox_send(rb, VMBUS_PKT_INBAND, 0, 8184 - 24, at);
		must_eq(get(&rb->rx, &pkt, 1), 1);
		must_eq(pkt.len, 8184 - 24);
		must_eq(pkt.payload[0], ringbox_byte(at, 0));
		must_eq(pkt.payload[8184 - 25], ringbox_byte(at, 8184 - 25));
		must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
		must_eq(ringbox_get(rb, RINGBOX_OUT), (at + 8184) % 8192);
	}
	ringbox_must_be_sent(&pkt, VMBUS_PKT_INBAND, 0, 8184 - 24, 8184);
	ringbox_free(rb);
}
END_TEST

/* The largest packet of all, 524288 ring bytes, taken with the buffer that the library names. */
START_TEST(ring_rx_get__largest_packet)
{
	struct ringbox *rb = ringbox_open_receiver(1u << 20, ringbox_windows[_i / GETS],
						   (1u << 20) - 4096 - 64, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt;

	ringbox_send(rb, VMBUS_PKT_INBAND, 0, 64, 6);
	ringbox_send(rb, VMBUS_PKT_INBAND, 0, 524264, 7);
	ringbox_send(rb, VMBUS_PKT_INBAND, 0, 8, 8);
	must_eq(get(&rb->rx, &pkt, 1), 1);
	ringbox_must_be_sent(&pkt, VMBUS_PKT_INBAND, 0, 64, 6);
	must_eq(get(&rb->rx, &pkt, 1), 1);
	ringbox_must_be_sent(&pkt, VMBUS_PKT_INBAND, 0, 524264, 7);
	must_eq(get(&rb->rx, &pkt, 1), 1);
	ringbox_must_be_sent(&pkt, VMBUS_PKT_INBAND, 0, 8, 8);
	ringbox_free(rb);
}
END_TEST

/*
 * Buffers from the packet's size on up to what is asked for: the packet comes or RANGE, whatever
 * the places of ring and buffer within a cache line; with what is asked for it comes.
 */
START_TEST(ring_rx_get__buffers_just_large_enough)
{
	struct ringbox *rb = ringbox_new(16384, ringbox_windows[_i]);
	struct vmbus_packet pkt;
	uint32_t at, bytes, refused = 0;

	must_eq(ringbox_open_rx(rb, 0), 0);
	for (at = 8192 - 64; at < 8192 + 64; at += 8)
		for (bytes = 5000; bytes <= 5024 + 64; bytes += 8) {
			int got;

			vmbus_test_at("at %u buffer %u", at, bytes);
			ringbox_reopen(rb, at);
			ringbox_new_buf(rb, bytes);
			must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, bytes), 0);
			ringbox_send(rb, 6, 0, 5000, 2);
			got = vmbus_ring_rx_get(&rb->rx, &pkt, 1);
			must(got == 1 || got == VMBUS_E_RANGE);
			must(got == 1 || bytes < vmbus_ring_rx_need(&rb->rx));
			must(got == VMBUS_E_RANGE || bytes >= 5024);
			refused += got == VMBUS_E_RANGE;
			if (got == 1)
				ringbox_must_be_sent(&pkt, 6, 0, 5000, 2);
		}
	must(refused > 0);
	ringbox_free(rb);
}
END_TEST

/* Buffer too small: RANGE as often as asked, then a larger one, and no packet is lost. */
START_TEST(ring_rx_set_buf__nothing_is_lost)
{
	struct ringbox *rb = ringbox_open_receiver(65536, ringbox_windows[_i], 65536 - 512, 4096);
	struct vmbus_packet pkt[4];
	uint32_t need;
	int i;

	ringbox_send(rb, 6, 0, 32, 1);
	ringbox_send(rb, 6, 0, 20000, 2);
	ringbox_send(rb, 6, 0, 48, 3);
	ringbox_send(rb, 6, 0, 5000, 4);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), 1);
	ringbox_must_be_sent(&pkt[0], 6, 0, 32, 1);
	must_eq(vmbus_ring_rx_need(&rb->rx), 0);
	for (i = 0; i < 3; i++)
		must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), VMBUS_E_RANGE);
	must_eq(vmbus_ring_rx_fault(&rb->rx)->field, VMBUS_FAULT_NONE);
	need = vmbus_ring_rx_need(&rb->rx);
	must(need >= 20024 && need <= 20024 + 64);
	ringbox_new_buf(rb, need - 64 - 8); /* too small still */
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), VMBUS_E_RANGE);
	ringbox_new_buf(rb, need);
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 1), 1);
	ringbox_must_be_sent(&pkt[0], 6, 0, 20000, 2);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 1), 1);
	ringbox_must_be_sent(&pkt[0], 6, 0, 48, 3);
	ringbox_new_buf(rb, 8192); /* what was copied ahead is read again */
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), 1);
	ringbox_must_be_sent(&pkt[0], 6, 0, 5000, 4);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), 0);
	must_eq(ringbox_get(rb, RINGBOX_OUT), ringbox_get(rb, RINGBOX_IN));
	ringbox_free(rb);
}
END_TEST

/* The same in place: only what must be copied counts, and packets before it come out first. */
START_TEST(ring_rx_get_in_peer_memory__buffer_too_small)
{
	struct ringbox *rb = ringbox_open_receiver(65536, VMBUS_RING_PLAIN, 65536 - 512, 4096);
	struct vmbus_packet pkt[4];
	uint32_t need;

	ringbox_send(rb, 6, 0, 32, 1);
	ringbox_send(rb, 6, 0, 20000, 2); /* split by the end of the window */
	ringbox_send(rb, 6, 0, 9000, 3);  /* whole: needs no buffer */
	ringbox_send(rb, 7, 6000, 8, 4);  /* a header larger than the buffer */
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 4), 1);
	ringbox_must_be_sent(&pkt[0], 6, 0, 32, 1);
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 4), VMBUS_E_RANGE);
	need = vmbus_ring_rx_need(&rb->rx);
	must(need >= 20000 && need <= 20000 + 64);
	ringbox_new_buf(rb, need);
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 4), 2);
	ringbox_must_be_sent(&pkt[0], 6, 0, 20000, 2);
	ringbox_must_be_sent(&pkt[1], 6, 0, 9000, 3);
	must(ringbox_place_of(rb, pkt[1].payload) > 0);
	ringbox_new_buf(rb, 4096);
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 4), VMBUS_E_RANGE);
	need = vmbus_ring_rx_need(&rb->rx);
	ringbox_new_buf(rb, need);
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 4), 1);
	ringbox_must_be_sent(&pkt[0], 7, 6000, 8, 4);
	must_eq(ringbox_place_of(rb, pkt[0].ext), -1);
	ringbox_free(rb);
}
END_TEST

/* A header that the peer rewrites after the get stays as it was; the payload is the peer's. */
START_TEST(ring_rx_get_in_peer_memory__header_is_private)
{
	struct ringbox *rb = ringbox_open_receiver(4096, ringbox_windows[_i], 256, 0);
	struct vmbus_packet pkt;

	ringbox_send(rb, 9, 24, 64, 9);
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, &pkt, 1), 1);
	ringbox_must_be_sent(&pkt, 9, 24, 64, 9);
	must_eq(ringbox_place_of(rb, pkt.payload), 4096 + 256 + 16 + 24);
	memset(ringbox_data(rb), 0, 4096);
	must_eq(pkt.ext[0], ringbox_byte(9, 0));
	must_eq(pkt.ext[23], ringbox_byte(9, 23));
	must_eq(pkt.payload[0], 0);
	must_eq(pkt.type, 9);
	ringbox_free(rb);
}
END_TEST

/* The copying reader: everything stays as it was. */
START_TEST(ring_rx_get__packets_are_private)
{
	struct ringbox *rb = ringbox_open_receiver(4096, ringbox_windows[_i], 3800, 0);
	struct vmbus_packet pkt[8];
	uint32_t k;

	for (k = 0; k < 8; k++)
		ringbox_send(rb, k % 2 ? 9 : 6, k % 2 ? 24 : 0, 64, k);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 8), 8);
	memset(ringbox_data(rb), 0, 4096);
	ringbox_set(rb, RINGBOX_IN, 8);
	for (k = 0; k < 8; k++)
		ringbox_must_be_sent(&pkt[k], k % 2 ? 9 : 6, k % 2 ? 24 : 0, 64, k);
	ringbox_free(rb);
}
END_TEST

static unsigned int ctl_loads, data_loads;
static const struct ringbox *counted;

static void count_load(const volatile void *p)
{
	const long place = ringbox_place_of(counted, p);

	ctl_loads += place >= 0 && place < 4096;
	data_loads += place >= 4096;
}

/* After one look that found many packets, one at a time comes from private memory alone. */
START_TEST(ring_rx_get__reads_ahead)
{
	struct ringbox *rb = ringbox_open_receiver(65536, ringbox_windows[_i], 65000, 0);
	struct vmbus_packet pkt;
	uint32_t k;

	for (k = 0; k < 100; k++)
		ringbox_send(rb, 6, 0, 16 + k % 7 * 8, k);
	must_eq(vmbus_ring_rx_get(&rb->rx, &pkt, 1), 1);
	ringbox_must_be_sent(&pkt, 6, 0, 16, 0);
	counted = rb;
	vmbus__test_hook = count_load;
	for (k = 1; k < 100; k++) {
		must_eq(vmbus_ring_rx_get(&rb->rx, &pkt, 1), 1);
		ringbox_must_be_sent(&pkt, 6, 0, 16 + k % 7 * 8, k);
	}
	must_eq(ctl_loads, 0);
	must_eq(data_loads, 0);
	vmbus__test_hook = NULL;
	ringbox_free(rb);
}
END_TEST

/* Copying and in place, in every pattern of six calls, in the middle of what was read ahead. */
START_TEST(ring_rx_get__switches_with_in_place)
{
	struct ringbox *rb = ringbox_open_receiver(8192, ringbox_windows[_i], 0, 0);
	struct vmbus_packet pkt[3];
	uint32_t pattern, k, seen, n;
	int got, g;

	for (pattern = 0; pattern < 64 * 3; pattern++) {
		ringbox_reopen(rb, (8192 - 320 + pattern * 8) % 8192);
		for (k = 0; k < 12; k++)
			ringbox_send(rb, k % 3 == 2 ? 9 : 6, k % 3 == 2 ? 24 : 0, 24 + k * 8, k);
		n = 1 + pattern / 64;
		for (k = 0, seen = 0; seen < 12; k++) {
			got = gets[pattern >> k % 6 & 1](&rb->rx, pkt, n);
			must(got >= 1 && got <= (int)n);
			for (g = 0; g < got; g++, seen++)
				ringbox_must_be_sent(&pkt[g], seen % 3 == 2 ? 9 : 6,
						     seen % 3 == 2 ? 24 : 0, 24 + seen * 8, seen);
		}
		must_eq(vmbus_ring_rx_get(&rb->rx, pkt, n), 0);
		must_eq(ringbox_get(rb, RINGBOX_OUT), ringbox_get(rb, RINGBOX_IN));
	}
	ringbox_free(rb);
}
END_TEST

/*
 * The read index is published when an eighth of the ring is held, when the ring is found empty,
 * when the sender waits, by arm and by consume; and not before.  What a call returned is not given
 * back by that call.  [RING-FLOW]
 */
START_TEST(ring_rx_get__publishes_lazily)
{
	struct ringbox *rb = ringbox_open_receiver(8192, ringbox_windows[_i / GETS], 4096, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt[64];
	struct vmbus_ring_stats stats;
	uint32_t k;

	for (k = 0; k < 60; k++) /* 64 bytes each: an eighth is 16 of them */
		ringbox_send(rb, 6, 0, 40, k);
	for (k = 1; k <= 16; k++) {
		must_eq(get(&rb->rx, pkt, 1), 1);
		must_eq(ringbox_get(rb, RINGBOX_OUT), 4096);
	}
	must_eq(get(&rb->rx, pkt, 1), 1); /* an eighth was held: given back, but not this one */
	must_eq(ringbox_get(rb, RINGBOX_OUT), 4096 + 16 * 64);
	must_eq(get(&rb->rx, pkt, 2), 2);
	must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
	must_eq(ringbox_get(rb, RINGBOX_OUT), 4096 + 19 * 64);
	must_eq(get(&rb->rx, pkt, 3), 3);
	must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_RING_READY);
	must_eq(ringbox_get(rb, RINGBOX_OUT), 4096 + 22 * 64);
	must_eq(get(&rb->rx, pkt, 64), 38);
	must_eq(ringbox_get(rb, RINGBOX_OUT), 4096 + 22 * 64);
	must_eq(get(&rb->rx, pkt, 64), 0);
	must_eq(ringbox_get(rb, RINGBOX_OUT), (4096 + 60 * 64) % 8192);
	must_eq(get(&rb->rx, pkt, 64), 0);
	vmbus_ring_rx_stats(&rb->rx, &stats);
	must_eq(stats.packets, 60);
	must_eq(stats.bytes, 60 * 64);
	must_eq(stats.batches, 4);
	must_eq(stats.signals + stats.signals_suppressed, 0);
	ringbox_free(rb);
}
END_TEST

/* A sender that waits is served at the next look at the ring, long before an eighth is held. */
START_TEST(ring_rx_get__publishes_for_a_sender_that_waits)
{
	struct ringbox *rb = ringbox_open_receiver(8192, ringbox_windows[_i / GETS], 0, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt[4];

	ringbox_send(rb, 6, 0, 40, 1);
	must_eq(get(&rb->rx, pkt, 1), 1);
	ringbox_send(rb, 6, 0, 40, 2);
	ringbox_set(rb, RINGBOX_PENDING, 8184 - 128 + 64);
	must_eq(get(&rb->rx, pkt, 1), 1); /* looks again, since nothing was left */
	must_eq(ringbox_get(rb, RINGBOX_OUT), 64);
	must_eq(rb->rx_signals, 1);
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_rx_get__of_no_packets)
{
	struct ringbox *rb = ringbox_open_receiver(4096, VMBUS_RING_PLAIN, 0, 0);
	struct vmbus_packet pkt;

	must_eq(gets[_i](&rb->rx, &pkt, 1), 0);
	ringbox_send(rb, 6, 0, 8, 1);
	must_eq(gets[_i](&rb->rx, NULL, 0), 0);
	must_eq(gets[_i](&rb->rx, &pkt, 1), 1);
	ringbox_must_be_sent(&pkt, 6, 0, 8, 1);
	ringbox_free(rb);
}
END_TEST

static void add_for_all(TCase *tc, const TTest *test)
{
	tcase_add_loop_test(tc, test, 0, RINGBOX_WINDOWS * GETS);
}

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "init", 5);

	tcase_add_loop_test(tc, ring_rx_init__adopts_or_refuses_indices, 0,
			    (int)(sizeof(inits) / sizeof(inits[0])));
	tcase_add_test(tc, ring_rx_init__refuses_arguments);
	tc = vmbus_test_case(suite, "get", 10);
	add_for_all(tc, ring_rx_get__every_type);
	add_for_all(tc, ring_rx_get__packet_of_size_minus_8);
	add_for_all(tc, ring_rx_get__largest_packet);
	tcase_add_loop_test(tc, ring_rx_get__packets_are_private, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_rx_get__reads_ahead, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_rx_get__switches_with_in_place, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_rx_get__of_no_packets, 0, GETS);
	tcase_add_loop_test(tc, ring_rx_get_in_peer_memory__header_is_private, 0, RINGBOX_WINDOWS);
	tc = vmbus_test_case(suite, "buffer", 5);
	tcase_add_loop_test(tc, ring_rx_set_buf__nothing_is_lost, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_rx_get__buffers_just_large_enough, 0, RINGBOX_WINDOWS);
	tcase_add_test(tc, ring_rx_get_in_peer_memory__buffer_too_small);
	tc = vmbus_test_case(suite, "publish", 5);
	add_for_all(tc, ring_rx_get__publishes_lazily);
	add_for_all(tc, ring_rx_get__publishes_for_a_sender_that_waits);
}

VMBUS_TEST_MAIN("ring.rx", tests)
