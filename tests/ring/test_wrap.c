/* SPDX-License-Identifier: MIT */
/*
 * Packets of every kind of size over the end of the ring, at every offset: each sent in three ways,
 * received in two, through each window.  By default a reduced set of offsets and sizes; all of them
 * with VMBUS_TEST_FULL=1 in the environment.
 */
#include "ringbox.h"

#define SIZE 8192u

static const uint32_t few[] = { 0, 1, 8, 13, 64, 255, 256, 257, 1000, 4088, 4096, 4103, 8152 };
static const uint32_t lens[] = { 0,    1,    2,	   7,	 8,    9,    15,   16,	 17,   23,
				 24,   31,   32,   63,	 64,   65,   127,  128,	 129,  248,
				 255,  256,  257,  264,	 511,  512,  1000, 1024, 2047, 2048,
				 2049, 3000, 4063, 4064, 4072, 4080, 4088, 4095, 4096, 4097,
				 4104, 6000, 8000, 8143, 8144, 8145, 8151, 8152 };
#define LENS(array) (uint32_t)(sizeof(array) / sizeof(array[0]))

enum way {
	PUT,
	RESERVE,
	MTX,
	WAYS
};
static const char *const way_name[] = { "put", "reserve", "mtx" };

static struct ringbox *rb;
static uint8_t data[SIZE], model[SIZE + 64], seen[SIZE + 64];

static void send_one(const struct vmbus_msg *msg, enum way way)
{
	struct vmbus_msg bare = *msg;
	struct vmbus_span span[4];
	uint32_t done = 0;
	int n, k;

	if (way == PUT) {
		must_eq(vmbus_ring_tx_put(&rb->tx, msg, 1), 1);
		return;
	}
	if (way == MTX) {
		must_eq(vmbus_ring_mtx_put(rb->mtx, msg, 1), 1);
		return;
	}
	bare.data = NULL;
	n = vmbus_ring_tx_reserve(&rb->tx, &bare, span, 4);
	must(n >= 0);
	for (k = 0; k < n; k++) {
		memcpy(span[k].base, data + done, span[k].len);
		done += (uint32_t)span[k].len;
	}
	must_eq(done, msg->len);
	must_eq(vmbus_ring_tx_commit(&rb->tx), 1);
}

/* What lies in the ring is what the model says, and what comes out is what went in. */
static void check_one(const struct vmbus_msg *msg, uint32_t at, bool in_place)
{
	const uint32_t bytes = ringbox_model(model, at, msg);
	struct vmbus_packet pkt;
	int got;

	ringbox_copy_out(rb, at, seen, bytes);
	must(memcmp(seen, model, bytes) == 0);
	must_eq(ringbox_get(rb, RINGBOX_IN), (at + bytes) % SIZE);
	got = in_place ? vmbus_ring_rx_get_in_peer_memory(&rb->rx, &pkt, 1)
		       : vmbus_ring_rx_get(&rb->rx, &pkt, 1);
	must_eq(got, 1);
	must_eq(pkt.type, msg->type);
	must_eq(pkt.flags, msg->flags);
	must_eq(pkt.id, msg->id);
	must_eq(pkt.where, at);
	must_eq(pkt.ext_len, msg->ext_len);
	must_eq(pkt.len, (msg->len + 7) / 8 * 8);
	must(memcmp(pkt.ext, model + 16, pkt.ext_len) == 0);
	must(memcmp(pkt.payload, model + 16 + pkt.ext_len, pkt.len) == 0);
	must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
	must_eq(ringbox_get(rb, RINGBOX_OUT), (at + bytes) % SIZE);
}

static void one(uint32_t at, const struct vmbus_msg *msg, enum way way, bool in_place)
{
	vmbus_test_at("%s at %u type %u ext %u len %u in place %d", way_name[way], at, msg->type,
		      msg->ext_len, msg->len, in_place);
	ringbox_reopen(rb, at);
	if (way == MTX)
		must_eq(ringbox_open_mtx(rb, 2), 0);
	send_one(msg, way);
	check_one(msg, at, in_place);
}

/* Where packets begin: everywhere when all is wanted, else where each part of the packet is cut. */
static bool wanted(uint32_t at, uint32_t bytes)
{
	const uint32_t to_end = SIZE - at;

	if (vmbus_test_full() || to_end <= 128)
		return true;
	if (to_end > bytes)
		return at % 2048 == 0 || to_end == bytes + 8;
	return bytes - to_end <= 64 || at % 1024 < 16 || at % 4096 >= 4080;
}

/* _i: window, and the way of sending. */
START_TEST(ring_wrap__every_offset_and_size)
{
	const uint32_t *const list = vmbus_test_full() ? lens : few;
	const uint32_t n = vmbus_test_full() ? LENS(lens) : LENS(few);
	const enum way way = (enum way)(_i % WAYS);
	uint32_t k, at, bytes, count = 0;

	rb = ringbox_open(SIZE, ringbox_windows[_i / WAYS], 0);
	for (k = 0; k < n; k++) {
		struct vmbus_msg msg = ringbox_msg(k + 1, data, list[k]);

		msg.flags = k % 2;
		bytes = 24 + (list[k] + 7) / 8 * 8;
		ringbox_fill(data, list[k], k);
		for (at = 0; at < SIZE; at += 8) {
			if (!wanted(at, bytes))
				continue;
			one(at, &msg, way, false);
			one(at, &msg, way, true);
			count++;
		}
	}
	must(count >= n * 16);
	ringbox_free(rb);
}
END_TEST

/* Every type, with the header that it needs and one that is longer, cut at every qword. */
START_TEST(ring_wrap__every_type)
{
	static const uint32_t sizes[] = { 0, 8, 21 };
	const enum way way = (enum way)(_i % WAYS);
	uint8_t ext[4096];
	uint32_t type, more, k, at;

	rb = ringbox_open(SIZE, ringbox_windows[_i / WAYS], 0);
	ringbox_fill(ext, sizeof(ext), 99);
	for (type = 1; type < VMBUS_PKT_TYPES; type++)
		for (more = 0; more <= 4000; more = more ? more * 20 : 8)
			for (k = 0; k < 3; k++) {
				struct vmbus_msg msg = ringbox_msg(type, data, sizes[k]);

				msg.type = (uint16_t)type;
				msg.ext = ext;
				msg.ext_len = (uint32_t)vmbus_wire_ext_min(type) + more;
				ringbox_fill(data, sizes[k], type);
				for (at = SIZE - 72 - (more / 8 % 16) * 8; at < SIZE; at += 8) {
					one(at, &msg, way, false);
					one(at, &msg, way, true);
				}
				if (vmbus_test_full())
					for (at = 0; at < SIZE; at += 8)
						one(at, &msg, way, at % 16 == 0);
			}
	ringbox_free(rb);
}
END_TEST

/*
 * A long stream of mixed packets, sent and received in batches of changing size, through a buffer
 * of the smallest size and one that takes all: every byte of what came is what was sent, in order,
 * and the ring is full at times and empty at times.
 */
START_TEST(ring_wrap__stream_of_mixed_batches)
{
	const uint32_t total = vmbus_test_full() ? 400000 : 8000;
	const bool in_place = _i % 2;
	static uint8_t payload[16][600];
	struct vmbus_msg msg[16];
	struct vmbus_packet pkt[16];
	uint32_t sent = 0, got = 0, seed = 1, k, fulls = 0, empties = 0;
	int n;

	rb = ringbox_open(SIZE, ringbox_windows[_i / 2], 4096);
	if (!in_place) {
		ringbox_new_buf(rb, VMBUS_RING_RX_BUF_MIN + 8u * (uint32_t)_i);
		must_eq(vmbus_ring_rx_set_buf(&rb->rx, rb->buf, rb->buf_bytes), 0);
	}
	while (got < total) {
		seed = seed % 65536 * 40503 + 12829;
		for (k = 0; k < 1 + seed / 256 % 16 && sent + k < total; k++) {
			const uint32_t len = (sent + k) * 37 % sizeof(payload[0]);

			ringbox_fill(payload[k], len, sent + k);
			msg[k] = ringbox_msg(sent + k, payload[k], len);
		}
		n = k ? vmbus_ring_tx_put(&rb->tx, msg, k) : 0;
		must(n >= 0 || n == VMBUS_E_FULL);
		fulls += n < (int)k;
		sent += n > 0 ? (uint32_t)n : 0;
		for (k = seed / 8192 % 3; k < 3; k++) {
			const uint32_t most = 1 + seed / 65536 % 16;
			int i;

			n = in_place ? vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, most)
				     : vmbus_ring_rx_get(&rb->rx, pkt, most);
			must(n >= 0 && n <= (int)most);
			empties += n == 0;
			for (i = 0; i < n; i++, got++) {
				const uint32_t len = got * 37 % sizeof(payload[0]);

				ringbox_fill(data, len, got);
				ringbox_must_be(&pkt[i], got, data, len);
			}
		}
	}
	must_eq(sent, total);
	must(fulls > 10 && empties > 10);
	must_eq(rb->tx.stats_p.packets, total);
	must_eq(rb->rx.stats_p.packets, total);
	must_eq(rb->tx.stats_p.bytes, rb->rx.stats_p.bytes);
	ringbox_free(rb);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "wrap", 20);

	tcase_add_loop_test(tc, ring_wrap__every_offset_and_size, 0, WAYS * RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_wrap__every_type, 0, WAYS * RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_wrap__stream_of_mixed_batches, 0, 2 * RINGBOX_WINDOWS);
}

VMBUS_TEST_MAIN("ring.wrap", tests)
