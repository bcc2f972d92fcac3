/* SPDX-License-Identifier: MIT */
/* The receiving end, src/ring/rx.c.  The peer is the test's own hand on the other mapping. */
#include "ringbox.h"

#include "ring/index.h"

static struct ringbox *open_at(uint32_t size, enum vmbus_ring_window window, uint32_t index,
			       uint32_t buf_bytes)
{
	struct ringbox *rb = ringbox_new(size, window);

	ringbox_start_at(rb, index);
	must_eq(ringbox_open_rx(rb, buf_bytes), 0);
	return rb;
}

/* The peer sends one packet, without the library. */
static void send(struct ringbox *rb, uint32_t type, uint32_t ext_len, uint32_t len, uint64_t id)
{
	const uint32_t at = ringbox_get(rb, RINGBOX_IN);
	const uint32_t length8 = (16 + ext_len + len) / 8;

	ringbox_peer_packet(rb, at, VMBUS__DESC(type, 2 + ext_len / 8, length8, id % 2), id,
			    (uint32_t)id);
	ringbox_set(rb, RINGBOX_IN, vmbus__ring_advance(rb->size, at, length8 * 8 + 8));
}

/* Whether a packet is that one: header and payload are one run of bytes of the seed. */
static void must_be(const struct vmbus_packet *pkt, uint32_t type, uint32_t ext_len, uint32_t len,
		    uint64_t id)
{
	uint32_t i;

	must_eq(pkt->type, type);
	must_eq(pkt->id, id);
	must_eq(pkt->flags, id % 2);
	must_eq(pkt->ext_len, ext_len);
	must_eq(pkt->len, len);
	for (i = 0; i < ext_len; i++)
		must_eq(pkt->ext[i], ringbox_byte((uint32_t)id, i));
	for (i = 0; i < len; i++)
		must_eq(pkt->payload[i], ringbox_byte((uint32_t)id, ext_len + i));
}

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
	struct ringbox *rb = open_at(4096, ringbox_windows[_i / GETS], 4064, 0);
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
				send(rb, type, ext_len, len, id);
				must_eq(get(&rb->rx, &pkt, 1), 1);
				must_be(&pkt, type, ext_len, len, id);
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
	struct ringbox *rb = open_at(8192, ringbox_windows[_i / GETS], 0, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt;
	uint32_t at;

	for (at = 0; at < 8192; at += 8) {
		ringbox_reopen(rb, at);
		send(rb, VMBUS_PKT_INBAND, 0, 8184 - 24, at);
		must_eq(get(&rb->rx, &pkt, 1), 1);
		must_eq(pkt.len, 8184 - 24);
		must_eq(pkt.payload[0], ringbox_byte(at, 0));
		must_eq(pkt.payload[8184 - 25], ringbox_byte(at, 8184 - 25));
		must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
		must_eq(ringbox_get(rb, RINGBOX_OUT), (at + 8184) % 8192);
	}
	must_be(&pkt, VMBUS_PKT_INBAND, 0, 8184 - 24, 8184);
	ringbox_free(rb);
}
END_TEST

/* The largest packet of all, 524288 ring bytes, taken with the buffer that the library names. */
START_TEST(ring_rx_get__largest_packet)
{
	struct ringbox *rb =
		open_at(1u << 20, ringbox_windows[_i / GETS], (1u << 20) - 4096 - 64, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt;

	send(rb, VMBUS_PKT_INBAND, 0, 64, 6);
	send(rb, VMBUS_PKT_INBAND, 0, 524264, 7);
	send(rb, VMBUS_PKT_INBAND, 0, 8, 8);
	must_eq(get(&rb->rx, &pkt, 1), 1);
	must_be(&pkt, VMBUS_PKT_INBAND, 0, 64, 6);
	must_eq(get(&rb->rx, &pkt, 1), 1);
	must_be(&pkt, VMBUS_PKT_INBAND, 0, 524264, 7);
	must_eq(get(&rb->rx, &pkt, 1), 1);
	must_be(&pkt, VMBUS_PKT_INBAND, 0, 8, 8);
	ringbox_free(rb);
}
END_TEST

static const struct {
	uint32_t type, offset8, length8, flags;
	uint32_t field, value, limit;
} bad[] = {
	{ 0, 2, 3, 0, VMBUS_FAULT_PKT_TYPE, 0, 13 },
	{ 14, 2, 3, 0, VMBUS_FAULT_PKT_TYPE, 14, 13 },
	{ 0x106, 2, 3, 0, VMBUS_FAULT_PKT_TYPE, 0x106, 13 },
	{ 6, 2, 3, 2, VMBUS_FAULT_PKT_FLAGS, 2, 1 },
	{ 6, 2, 3, 0x8001, VMBUS_FAULT_PKT_FLAGS, 0x8001, 1 },
	{ 6, 0, 3, 0, VMBUS_FAULT_PKT_OFFSET, 0, 2 },
	{ 6, 1, 3, 0, VMBUS_FAULT_PKT_OFFSET, 1, 2 },
	{ 7, 2, 3, 0, VMBUS_FAULT_PKT_OFFSET, 2, 3 },
	{ 9, 2, 3, 0, VMBUS_FAULT_PKT_OFFSET, 2, 3 },
	{ 13, 3, 6, 0, VMBUS_FAULT_PKT_OFFSET, 3, 4 },
	{ 6, 4, 3, 0, VMBUS_FAULT_PKT_OFFSET_PAST, 4, 3 },
	{ 6, 65535, 3, 0, VMBUS_FAULT_PKT_OFFSET_PAST, 65535, 3 },
	{ 6, 2, 1, 0, VMBUS_FAULT_PKT_OFFSET_PAST, 2, 1 },
	{ 6, 2, 0, 1, VMBUS_FAULT_PKT_OFFSET_PAST, 2, 0 },
	{ 6, 2, 8, 0, VMBUS_FAULT_PKT_LENGTH, 72, 64 }, /* the trailer is past the index */
	{ 6, 2, 9, 0, VMBUS_FAULT_PKT_LENGTH, 80, 64 },
	{ 6, 2, 65535, 0, VMBUS_FAULT_PKT_LENGTH, 524288, 64 },
	{ 9, 6, 65535, 1, VMBUS_FAULT_PKT_LENGTH, 524288, 64 },
	{ 13, 4, 511, 0, VMBUS_FAULT_PKT_LENGTH, 4096, 64 },
};
#define BAD (int)(sizeof(bad) / sizeof(bad[0]))

/*
 * [PKT-DESC]: a wrong packet behind some good ones, whole and split by the end of the ring.  The
 * good ones come out; then PEER once, with the fault; then FAULT, and nothing moves any more.
 */
START_TEST(ring_rx_get__wrong_packet_breaks_the_ring)
{
	struct ringbox *rb = ringbox_new(4096, ringbox_windows[_i / GETS]);
	get_fn *const get = gets[_i % GETS];
	const struct vmbus_fault *fault;
	struct vmbus_packet pkt[8];
	struct vmbus_ring_stats stats;
	uint32_t good, at, start;
	int b;

	must_eq(ringbox_open_rx(rb, 0), 0);
	for (b = 0; b < BAD; b++)
		for (good = 0; good < 4; good++)
			for (start = 3960; start < 4096; start += 8) {
				uint32_t k;

				ringbox_reopen(rb, start);
				for (k = 0; k < good; k++)
					send(rb, 6, 0, 8, k);
				at = ringbox_get(rb, RINGBOX_IN);
				memset(ringbox_data(rb), 0xe5, 512);
				for (k = 0; k < good; k++)
					ringbox_peer_packet(rb, (start + k * 32) % 4096,
							    VMBUS__DESC(6, 2, 3, k % 2), k, k);
				ringbox_set64(rb, at,
					      VMBUS__DESC(bad[b].type, bad[b].offset8,
							  bad[b].length8, bad[b].flags));
				ringbox_set(rb, RINGBOX_IN, (at + 64) % 4096);
				vmbus_test_at("bad %d good %u at %u", b, good, at);
				if (good)
					must_eq(get(&rb->rx, pkt, 8), (int)good);
				for (k = 0; k < good; k++)
					must_be(&pkt[k], 6, 0, 8, k);
				must_eq(get(&rb->rx, pkt, 8), VMBUS_E_PEER);
				fault = vmbus_ring_rx_fault(&rb->rx);
				must_eq(fault->field, bad[b].field);
				must_eq(fault->value, bad[b].value);
				must_eq(fault->limit, bad[b].limit);
				must_eq(fault->where, at);
				ringbox_set64(rb, at, VMBUS__DESC(6, 2, 3, 0)); /* too late */
				for (k = 0; k < 3; k++)
					must_eq(get(&rb->rx, pkt, 8), VMBUS_E_FAULT);
				must_eq(vmbus_ring_rx_consume(&rb->rx), VMBUS_E_FAULT);
				must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_E_FAULT);
				vmbus_ring_rx_disarm(&rb->rx);
				must_eq(ringbox_get(rb, RINGBOX_OUT), start);
				vmbus_ring_rx_stats(&rb->rx, &stats);
				must_eq(stats.faults, 1);
				must_eq(stats.packets, good);
				must_eq(rb->rx_signals, 0);
			}
	ringbox_free(rb);
}
END_TEST

/* Fewer bytes than a packet has at least; and a write index that moves back, or out of bounds. */
START_TEST(ring_rx_get__wrong_write_index_breaks_the_ring)
{
	static const struct {
		uint32_t in, field, value, limit;
	} wrong[] = {
		{ 4096, VMBUS_FAULT_WRITE_INDEX, 4096, 4088 },
		{ 0xfffffff8u, VMBUS_FAULT_WRITE_INDEX, 0xfffffff8u, 4088 },
		{ 4, VMBUS_FAULT_WRITE_INDEX_ALIGN, 4, 8 },
		{ 1000 + 32 + 8, VMBUS_FAULT_PKT_SPACE, 8, 24 },
		{ 1000 + 32 + 16, VMBUS_FAULT_PKT_SPACE, 16, 24 },
		{ 1000 + 24, VMBUS_FAULT_WRITE_INDEX_BACK, 1024, 1032 },
		{ 1000, VMBUS_FAULT_WRITE_INDEX_BACK, 1000, 1032 },
	};
	struct ringbox *rb = ringbox_new(4096, ringbox_windows[_i / GETS]);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt;
	uint32_t w;

	must_eq(ringbox_open_rx(rb, 0), 0);
	for (w = 0; w < sizeof(wrong) / sizeof(wrong[0]); w++) {
		ringbox_reopen(rb, 1000);
		send(rb, 6, 0, 8, 5);
		must_eq(get(&rb->rx, &pkt, 1), 1);
		ringbox_set(rb, RINGBOX_IN, wrong[w].in);
		vmbus_test_at("index %u", wrong[w].in);
		must_eq(get(&rb->rx, &pkt, 1), VMBUS_E_PEER);
		must_eq(vmbus_ring_rx_fault(&rb->rx)->field, wrong[w].field);
		must_eq(vmbus_ring_rx_fault(&rb->rx)->value, wrong[w].value);
		must_eq(vmbus_ring_rx_fault(&rb->rx)->limit, wrong[w].limit);
		must_eq(get(&rb->rx, &pkt, 1), VMBUS_E_FAULT);
	}
	ringbox_free(rb);
}
END_TEST

/* Packets, and bytes behind them that are fewer than a packet: first the packets, then the fault. */
START_TEST(ring_rx_get__packets_before_stray_bytes)
{
	struct ringbox *rb = ringbox_new(4096, ringbox_windows[_i / GETS]);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt[8];
	uint32_t good, stray, k, at;

	must_eq(ringbox_open_rx(rb, 0), 0);
	for (good = 1; good < 6; good++)
		for (stray = 8; stray <= 16; stray += 8)
			for (at = 4096 - 200; at < 4096; at += 8) {
				ringbox_reopen(rb, at);
				for (k = 0; k < good; k++)
					send(rb, k % 2 ? 9 : 6, k % 2 ? 8 : 0, 8, k);
				ringbox_set(rb, RINGBOX_IN,
					    (ringbox_get(rb, RINGBOX_IN) + stray) % 4096);
				must_eq(get(&rb->rx, pkt, 8), (int)good);
				must_be(&pkt[0], 6, 0, 8, 0);
				must_eq(get(&rb->rx, pkt, 8), VMBUS_E_PEER);
				must_eq(vmbus_ring_rx_fault(&rb->rx)->field, VMBUS_FAULT_PKT_SPACE);
				must_eq(vmbus_ring_rx_fault(&rb->rx)->value, stray);
				must_eq(get(&rb->rx, pkt, 8), VMBUS_E_FAULT);
			}
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
			send(rb, 6, 0, 5000, 2);
			got = vmbus_ring_rx_get(&rb->rx, &pkt, 1);
			must(got == 1 || got == VMBUS_E_RANGE);
			must(got == 1 || bytes < vmbus_ring_rx_need(&rb->rx));
			must(got == VMBUS_E_RANGE || bytes >= 5024);
			refused += got == VMBUS_E_RANGE;
			if (got == 1)
				must_be(&pkt, 6, 0, 5000, 2);
		}
	must(refused > 0);
	ringbox_free(rb);
}
END_TEST

/* Buffer too small: RANGE as often as asked, then a larger one, and no packet is lost. */
START_TEST(ring_rx_set_buf__nothing_is_lost)
{
	struct ringbox *rb = open_at(65536, ringbox_windows[_i], 65536 - 512, 4096);
	struct vmbus_packet pkt[4];
	uint32_t need;
	int i;

	send(rb, 6, 0, 32, 1);
	send(rb, 6, 0, 20000, 2);
	send(rb, 6, 0, 48, 3);
	send(rb, 6, 0, 5000, 4);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), 1);
	must_be(&pkt[0], 6, 0, 32, 1);
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
	must_be(&pkt[0], 6, 0, 20000, 2);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 1), 1);
	must_be(&pkt[0], 6, 0, 48, 3);
	ringbox_new_buf(rb, 8192); /* what was copied ahead is read again */
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), 1);
	must_be(&pkt[0], 6, 0, 5000, 4);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), 0);
	must_eq(ringbox_get(rb, RINGBOX_OUT), ringbox_get(rb, RINGBOX_IN));
	ringbox_free(rb);
}
END_TEST

/* The same in place: only what must be copied counts, and packets before it come out first. */
START_TEST(ring_rx_get_in_peer_memory__buffer_too_small)
{
	struct ringbox *rb = open_at(65536, VMBUS_RING_PLAIN, 65536 - 512, 4096);
	struct vmbus_packet pkt[4];
	uint32_t need;

	send(rb, 6, 0, 32, 1);
	send(rb, 6, 0, 20000, 2); /* split by the end of the window */
	send(rb, 6, 0, 9000, 3);  /* whole: needs no buffer */
	send(rb, 7, 6000, 8, 4);  /* a header larger than the buffer */
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 4), 1);
	must_be(&pkt[0], 6, 0, 32, 1);
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 4), VMBUS_E_RANGE);
	need = vmbus_ring_rx_need(&rb->rx);
	must(need >= 20000 && need <= 20000 + 64);
	ringbox_new_buf(rb, need);
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 4), 2);
	must_be(&pkt[0], 6, 0, 20000, 2);
	must_be(&pkt[1], 6, 0, 9000, 3);
	must(ringbox_place_of(rb, pkt[1].payload) > 0);
	ringbox_new_buf(rb, 4096);
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 4), VMBUS_E_RANGE);
	need = vmbus_ring_rx_need(&rb->rx);
	ringbox_new_buf(rb, need);
	must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 4), 1);
	must_be(&pkt[0], 7, 6000, 8, 4);
	must_eq(ringbox_place_of(rb, pkt[0].ext), -1);
	ringbox_free(rb);
}
END_TEST

/* A header that the peer rewrites after the get stays as it was; the payload is the peer's. */
START_TEST(ring_rx_get_in_peer_memory__header_is_private)
{
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 256, 0);
	struct vmbus_packet pkt;

	send(rb, 9, 24, 64, 9);
	must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, &pkt, 1), 1);
	must_be(&pkt, 9, 24, 64, 9);
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
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 3800, 0);
	struct vmbus_packet pkt[8];
	uint32_t k;

	for (k = 0; k < 8; k++)
		send(rb, k % 2 ? 9 : 6, k % 2 ? 24 : 0, 64, k);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 8), 8);
	memset(ringbox_data(rb), 0, 4096);
	ringbox_set(rb, RINGBOX_IN, 8);
	for (k = 0; k < 8; k++)
		must_be(&pkt[k], k % 2 ? 9 : 6, k % 2 ? 24 : 0, 64, k);
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
	struct ringbox *rb = open_at(65536, ringbox_windows[_i], 65000, 0);
	struct vmbus_packet pkt;
	uint32_t k;

	for (k = 0; k < 100; k++)
		send(rb, 6, 0, 16 + k % 7 * 8, k);
	must_eq(vmbus_ring_rx_get(&rb->rx, &pkt, 1), 1);
	must_be(&pkt, 6, 0, 16, 0);
	counted = rb;
	vmbus__test_hook = count_load;
	for (k = 1; k < 100; k++) {
		must_eq(vmbus_ring_rx_get(&rb->rx, &pkt, 1), 1);
		must_be(&pkt, 6, 0, 16 + k % 7 * 8, k);
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
	struct ringbox *rb = open_at(8192, ringbox_windows[_i], 0, 0);
	struct vmbus_packet pkt[3];
	uint32_t pattern, k, seen, n;
	int got, g;

	for (pattern = 0; pattern < 64 * 3; pattern++) {
		ringbox_reopen(rb, (8192 - 320 + pattern * 8) % 8192);
		for (k = 0; k < 12; k++)
			send(rb, k % 3 == 2 ? 9 : 6, k % 3 == 2 ? 24 : 0, 24 + k * 8, k);
		n = 1 + pattern / 64;
		for (k = 0, seen = 0; seen < 12; k++) {
			got = gets[pattern >> k % 6 & 1](&rb->rx, pkt, n);
			must(got >= 1 && got <= (int)n);
			for (g = 0; g < got; g++, seen++)
				must_be(&pkt[g], seen % 3 == 2 ? 9 : 6, seen % 3 == 2 ? 24 : 0,
					24 + seen * 8, seen);
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
	struct ringbox *rb = open_at(8192, ringbox_windows[_i / GETS], 4096, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt[64];
	struct vmbus_ring_stats stats;
	uint32_t k;

	for (k = 0; k < 60; k++) /* 64 bytes each: an eighth is 16 of them */
		send(rb, 6, 0, 40, k);
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
	struct ringbox *rb = open_at(8192, ringbox_windows[_i / GETS], 0, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt[4];

	send(rb, 6, 0, 40, 1);
	must_eq(get(&rb->rx, pkt, 1), 1);
	send(rb, 6, 0, 40, 2);
	ringbox_set(rb, RINGBOX_PENDING, 8184 - 128 + 64);
	must_eq(get(&rb->rx, pkt, 1), 1); /* looks again, since nothing was left */
	must_eq(ringbox_get(rb, RINGBOX_OUT), 64);
	must_eq(rb->rx_signals, 1);
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_rx_get__of_no_packets)
{
	struct ringbox *rb = open_at(4096, VMBUS_RING_PLAIN, 0, 0);
	struct vmbus_packet pkt;

	must_eq(gets[_i](&rb->rx, &pkt, 1), 0);
	send(rb, 6, 0, 8, 1);
	must_eq(gets[_i](&rb->rx, NULL, 0), 0);
	must_eq(gets[_i](&rb->rx, &pkt, 1), 1);
	must_be(&pkt, 6, 0, 8, 1);
	ringbox_free(rb);
}
END_TEST

static struct ringbox *changed;
static long change_place;     /* to be changed after its load */
static uint32_t change_start; /* of the packet, 64 bytes: descriptor, id, 24 header, 16 payload */
static bool change_whole;     /* reads are of whole runs of the ring, not of parts of the packet */
static uint64_t change_to;
static bool change_next, change_done;
static uint32_t in_loads;

/* Whether a read that begins at a place of a 4096-byte ring brings the qword to change as well. */
static bool covers(long place)
{
	const uint32_t from = ((uint32_t)place - 4096 + 4096 - change_start) % 4096;
	const uint32_t to = ((uint32_t)change_place - 4096 + 4096 - change_start) % 4096;
	const uint32_t end = change_whole ? 64 : from < 16 ? from + 8 : from < 40 ? 40 : 56;

	if (place < 4096 || change_place < 4096)
		return place == change_place;
	if (to < from || to >= end)
		return false;
	return changed->window == VMBUS_RING_MIRRORED || (uint32_t)place + to - from < 2 * 4096;
}

/*
 * The hook runs before a load, so the change is made before the load that comes after the one that
 * read the place: then only a second load of it would see the new value.
 */
static void change_after_load(const volatile void *p)
{
	const long place = ringbox_place_of(changed, p);

	if (change_next && !change_done) {
		if (change_place < 4096)
			ringbox_set(changed, (enum ringbox_word)change_place, (uint32_t)change_to);
		else
			ringbox_set64(changed, (uint32_t)change_place - 4096, change_to);
		change_done = true;
	}
	in_loads += place == RINGBOX_IN;
	if (place >= 0 && covers(place))
		change_next = true;
}

static const uint64_t flips[] = {
	0,
	UINT64_MAX,
	VMBUS__DESC(6, 2, 65535, 0),
	VMBUS__DESC(6, 65535, 65535, 0),
	VMBUS__DESC(9, 2, 3, 0),
	VMBUS__DESC(6, 2, 2, 0),
	VMBUS__DESC(14, 2, 3, 0),
	4096,
	1ull << 31,
	4,
};
#define FLIPS (int)(sizeof(flips) / sizeof(flips[0]))

/*
 * The peer rewrites the write index, a descriptor, an id or a header as soon as it was read once.
 * What comes out is what was there at that first read: nothing that decides is read twice.
 */
START_TEST(lesson_10_double_fetch_while_receiving)
{
	struct ringbox *rb = ringbox_new(4096, ringbox_windows[_i / GETS]);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt[4];
	uint32_t start, word, i, changes = 0;
	int f, got;

	must_eq(ringbox_open_rx(rb, 0), 0);
	changed = rb;
	for (start = 4096 - 96; start < 4096; start += 8)
		for (word = 0; word < 9; word++)
			for (f = 0; f < FLIPS; f++) {
				ringbox_reopen(rb, start);
				send(rb, 9, 24, 16, 3); /* 64 bytes, words 1 to 8 */
				change_place = word ? (long)(4096 + (start + (word - 1) * 8) % 4096)
						    : RINGBOX_IN;
				change_to = flips[f];
				change_start = start;
				change_whole = get == vmbus_ring_rx_get;
				change_next = change_done = false;
				in_loads = 0;
				vmbus_test_at("start %u word %u flip %d", start, word, f);
				vmbus__test_hook = change_after_load;
				got = get(&rb->rx, pkt, 4);
				vmbus__test_hook = NULL;
				must_eq(got, 1);
				must_eq(in_loads, 1);
				must_eq(pkt[0].type, 9);
				must_eq(pkt[0].id, 3);
				must_eq(pkt[0].ext_len, 24);
				must_eq(pkt[0].len, 16);
				must_eq(pkt[0].where, start);
				for (i = 0; i < 24; i++)
					must_eq(pkt[0].ext[i], ringbox_byte(3, i));
				changes += change_done;
			}
	must(changes > 100);
	ringbox_free(rb);
}
END_TEST

static unsigned int place_loads[2 * 4096];

static void count_places(const volatile void *p)
{
	const long place = ringbox_place_of(counted, p);

	if (place >= 0)
		place_loads[place]++;
}

/* A call loads each word of the control page once, and starts no two reads at the same byte. */
START_TEST(lesson_10_each_place_is_read_once)
{
	struct ringbox *rb = open_at(4096, ringbox_windows[_i / GETS], 3904, 0);
	get_fn *const get = gets[_i % GETS];
	struct vmbus_packet pkt[16];
	uint32_t k, i, total = 0;

	for (k = 0; k < 10; k++)
		send(rb, k % 2 ? 9 : 6, k % 2 ? 24 : 0, 40 + k * 8, k);
	counted = rb;
	vmbus__test_hook = count_places;
	must_eq(get(&rb->rx, pkt, 16), 10);
	vmbus__test_hook = NULL;
	for (i = 0; i < 2 * 4096; i++) {
		must(place_loads[i] <= 1);
		total += place_loads[i];
	}
	must(total >= 2);
	must_eq(place_loads[RINGBOX_IN], 1);
	must_eq(place_loads[RINGBOX_OUT], 0); /* our own is never read back */
	must_eq(place_loads[RINGBOX_MASK], 0);
	ringbox_free(rb);
}
END_TEST

/*
 * A million packets that are wrong: one PEER, one fault record that stays the first, no signal, and
 * after that FAULT at no cost to the ring: the control page is not even looked at.
 */
START_TEST(lesson_31_million_bad_packets)
{
	struct ringbox *rb = open_at(4096, VMBUS_RING_MIRRORED, 0, 0);
	get_fn *const get = gets[_i];
	struct vmbus_ring_stats stats;
	struct vmbus_packet pkt;
	struct vmbus_fault first;
	uint32_t k, peer = 0, broken = 0;

	counted = rb;
	for (k = 0; k < 1000000; k++) {
		int err;

		ringbox_set64(rb, k * 8 % 4096, UINT64_MAX - k);
		ringbox_set(rb, RINGBOX_IN, 64 + k * 8 % 4032);
		err = get(&rb->rx, &pkt, 1);
		peer += err == VMBUS_E_PEER;
		broken += err == VMBUS_E_FAULT;
		if (k == 0) {
			first = *vmbus_ring_rx_fault(&rb->rx);
			vmbus__test_hook = count_load;
		}
	}
	vmbus__test_hook = NULL;
	must_eq(peer, 1);
	must_eq(broken, 999999);
	must_eq(ctl_loads + data_loads, 0);
	must(memcmp(&first, vmbus_ring_rx_fault(&rb->rx), sizeof(first)) == 0);
	must_eq(first.field, VMBUS_FAULT_PKT_TYPE);
	vmbus_ring_rx_stats(&rb->rx, &stats);
	must_eq(stats.faults, 1);
	must_eq(stats.packets, 0);
	must_eq(stats.signals, 0);
	must_eq(rb->rx_signals, 0);
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
	tc = vmbus_test_case(suite, "fault", 10);
	add_for_all(tc, ring_rx_get__wrong_packet_breaks_the_ring);
	add_for_all(tc, ring_rx_get__wrong_write_index_breaks_the_ring);
	add_for_all(tc, ring_rx_get__packets_before_stray_bytes);
	add_for_all(tc, lesson_10_double_fetch_while_receiving);
	add_for_all(tc, lesson_10_each_place_is_read_once);
	tcase_add_loop_test(tc, lesson_31_million_bad_packets, 0, GETS);
}

VMBUS_TEST_MAIN("ring.rx", tests)
