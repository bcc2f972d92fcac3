/* SPDX-License-Identifier: MIT */
/* The sending end, src/ring/tx.c and emit.c: the test is the peer and reads the memory itself. */
#include "ringbox.h"

static struct ringbox *open_at(uint32_t size, enum vmbus_ring_window window, uint32_t index)
{
	struct ringbox *rb = ringbox_new(size, window);

	ringbox_start_at(rb, index);
	must_eq(ringbox_open_tx(rb), 0);
	return rb;
}

/* What both mappings hold, to see that a call has changed nothing. */
static uint8_t *snapshot(const struct ringbox *rb)
{
	uint8_t *copy = malloc(VMBUS_PAGE_BYTES + rb->size);

	must(copy);
	memcpy(copy, rb->ctl, VMBUS_PAGE_BYTES);
	memcpy(copy + VMBUS_PAGE_BYTES, ringbox_data(rb), rb->size);
	return copy;
}

static void must_be_unchanged(const struct ringbox *rb, uint8_t *copy)
{
	must(memcmp(copy, rb->ctl, VMBUS_PAGE_BYTES) == 0);
	must(memcmp(copy + VMBUS_PAGE_BYTES, ringbox_data(rb), rb->size) == 0);
	free(copy);
}

static const struct {
	uint32_t in, out, size, field;
} inits[] = {
	{ 0, 0, 8192, 0 },
	{ 8184, 8184, 8192, 0 },
	{ 8, 16, 8192, 0 }, /* all but 8 bytes used */
	{ 4096, 8, 8192, 0 },
	{ 8192, 0, 8192, VMBUS_FAULT_WRITE_INDEX },
	{ 8196, 0, 8192, VMBUS_FAULT_WRITE_INDEX },
	{ UINT32_MAX, 0, 8192, VMBUS_FAULT_WRITE_INDEX },
	{ 0x80000000u, 0, 8192, VMBUS_FAULT_WRITE_INDEX },
	{ 1, 0, 8192, VMBUS_FAULT_WRITE_INDEX_ALIGN },
	{ 8191, 0, 8192, VMBUS_FAULT_WRITE_INDEX_ALIGN },
	{ 4, 0, 8192, VMBUS_FAULT_WRITE_INDEX_ALIGN },
	{ 0, 8192, 8192, VMBUS_FAULT_READ_INDEX },
	{ 0, 0xfffffff8u, 8192, VMBUS_FAULT_READ_INDEX },
	{ 0, 4, 8192, VMBUS_FAULT_READ_INDEX_ALIGN },
	{ 0, 8191, 8192, VMBUS_FAULT_READ_INDEX_ALIGN },
};

/* [RING-INIT]: the indices are taken as they are, or refused; nothing is reset or signalled. */
START_TEST(ring_tx_init__adopts_or_refuses_indices)
{
	struct ringbox *rb = ringbox_new(inits[_i].size, VMBUS_RING_PLAIN);
	const struct vmbus_msg msg = ringbox_msg(1, "x", 1);
	struct vmbus_span span;
	const struct vmbus_fault *fault;
	int err;

	ringbox_set(rb, RINGBOX_IN, inits[_i].in);
	ringbox_set(rb, RINGBOX_OUT, inits[_i].out);
	ringbox_set(rb, RINGBOX_PENDING, 77);
	ringbox_set(rb, RINGBOX_FEATURES, 0);
	err = ringbox_open_tx(rb);
	fault = vmbus_ring_tx_fault(&rb->tx);
	must_eq(fault->field, inits[_i].field);
	must_eq(err, inits[_i].field ? VMBUS_E_PEER : 0);
	must_eq(ringbox_get(rb, RINGBOX_IN), inits[_i].in);
	must_eq(ringbox_get(rb, RINGBOX_OUT), inits[_i].out);
	must_eq(rb->tx_signals, 0);
	if (err) {
		must(fault->value == inits[_i].in || fault->value == inits[_i].out);
		must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), VMBUS_E_FAULT);
		must_eq(vmbus_ring_tx_reserve(&rb->tx, &msg, &span, 1), VMBUS_E_FAULT);
		must_eq(vmbus_ring_tx_commit(&rb->tx), VMBUS_E_FAULT);
		must_eq(vmbus_ring_tx_arm(&rb->tx, 8), VMBUS_E_FAULT);
	} else {
		must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
		must_eq(ringbox_get(rb, RINGBOX_FEATURES), 1);
		must_eq(ringbox_get(rb, RINGBOX_MASK), 0);
	}
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_tx_init__refuses_arguments)
{
	struct ringbox *rb = ringbox_new(4096, VMBUS_RING_PLAIN);
	const struct vmbus_ring_mem none = { 0 };
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts) - 1 };
	uint8_t *copy = snapshot(rb);

	must_eq(vmbus_ring_tx_init(&rb->tx, &none, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_ring_tx_init(&rb->tx, &rb->mem, &opts), VMBUS_E_INVAL);
	must_be_unchanged(rb, copy);
	must_eq(vmbus_ring_tx_init(&rb->tx, &rb->mem, NULL), 0);
	ringbox_free(rb);
}
END_TEST

/* Section 9 of the facts: hello, then an empty completion, byte for byte.  [PKT-LAYOUT] */
START_TEST(ring_tx_put__vector_hello_and_completion)
{
	static const uint8_t vector[] = {
		0x06, 0,    2,	  0,	3,    0,    1,	  0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33,
		0x22, 0x11, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0, 0,	   0,	 0,    0,    0,	   0,
		0,    0,    0,	  0,	0x0b, 0,    2,	  0, 2,	   0,	 0,    0,    9,	   0,
		0,    0,    0,	  0,	0,    0,    0,	  0, 0,	   0,	 0x20, 0,    0,	   0
	};
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 0);
	struct vmbus_msg msg = ringbox_msg(0x1122334455667788, "hello", 5);

	msg.flags = VMBUS_PKT_FLAG_COMPLETE;
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
	must_eq(ringbox_get(rb, RINGBOX_IN), 32);
	msg = (struct vmbus_msg){ .type = VMBUS_PKT_COMPLETION, .id = 9 };
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
	must_eq(ringbox_get(rb, RINGBOX_IN), 56);
	ck_assert_mem_eq(ringbox_data(rb), vector, sizeof(vector));
	must_eq(ringbox_data(rb)[56], 0xe5);
	ringbox_free(rb);
}
END_TEST

/* Section 9: GPA direct with two page numbers and 16 bytes of payload, 72 bytes in the ring. */
START_TEST(ring_tx_put__vector_gpa_direct)
{
	static const uint8_t head[] = {
		9,    0,    6, 0, 8, 0, 1, 0, 5,    0,	  0, 0, 0, 0, 0, 0,
		0,    0,    0, 0, 1, 0, 0, 0, 0x70, 0x17, 0, 0, 0, 2, 0, 0,
		0x34, 0x12, 0, 0, 0, 0, 0, 0, 0x35, 0x12, 0, 0, 0, 0, 0, 0
	};
	const uint64_t pfns[] = { 0x1234, 0x1235 };
	const struct vmbus_wire_ext fields = { .range_count = 1 };
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 0);
	uint8_t ext[32], payload[16];
	struct vmbus_msg msg = { .type = VMBUS_PKT_GPA_DIRECT,
				 .flags = 1,
				 .id = 5,
				 .ext = ext,
				 .ext_len = 32,
				 .data = payload,
				 .len = 16 };

	ringbox_fill(payload, 16, 3);
	must_eq(vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &fields, ext, 8), 8);
	must_eq(vmbus_wire_range_put(6000, 0x200, pfns, ext + 8, 24), 24);
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
	must_eq(ringbox_get(rb, RINGBOX_IN), 72);
	ck_assert_mem_eq(ringbox_data(rb), head, sizeof(head));
	ck_assert_mem_eq(ringbox_data(rb) + 48, payload, 16);
	must_eq(ringbox_get64(rb, 64), 0);
	must_eq(ringbox_data(rb)[72], 0xe5);
	ringbox_free(rb);
}
END_TEST

/* Section 9: size 4096, in 4080, 32 bytes: half of it behind the end, trailer with 4080. */
START_TEST(ring_tx_put__vector_wrap)
{
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 4080);
	const struct vmbus_msg msg = ringbox_msg(7, "12345678", 8);

	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
	must_eq(ringbox_get(rb, RINGBOX_IN), 16);
	must_eq(ringbox_get64(rb, 4080), 0x0000000300020006);
	must_eq(ringbox_get64(rb, 4088), 7);
	ck_assert_mem_eq(ringbox_data(rb), "12345678", 8);
	must_eq(ringbox_get64(rb, 8), 4080ull << 32);
	must_eq(ringbox_data(rb)[16], 0xe5);
	must_eq(ringbox_data(rb)[4079], 0xe5);
	ringbox_free(rb);
}
END_TEST

/* Section 9: an empty ring takes a packet of 4080 bytes from us, and no larger. [RING-LIMIT] */
START_TEST(ring_tx_put__vector_full)
{
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 0);
	static uint8_t data[4096];
	struct vmbus_msg msg = ringbox_msg(1, data, 4080 - 24 + 1);
	struct vmbus_ring_stats stats;
	struct vmbus_span span[3];
	uint8_t *copy = snapshot(rb);
	uint32_t len;

	for (len = 4057; len < 4096; len++) {
		msg.len = len;
		must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), VMBUS_E_RANGE);
		msg.data = NULL;
		must_eq(vmbus_ring_tx_reserve(&rb->tx, &msg, span, 3), VMBUS_E_RANGE);
		msg.data = data;
	}
	must_be_unchanged(rb, copy);
	msg.len = 4056;
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
	must_eq(ringbox_get(rb, RINGBOX_IN), 4080);
	copy = snapshot(rb);
	msg.len = 0; /* 24 bytes; 8 are free */
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), VMBUS_E_FULL);
	must_be_unchanged(rb, copy);
	vmbus_ring_tx_stats(&rb->tx, &stats);
	must_eq(stats.full, 1);
	must_eq(stats.bytes, 4080);
	must_eq(stats.packets, 1);
	ringbox_free(rb);
}
END_TEST

/* The largest that the length field holds, and one more. */
START_TEST(ring_tx_put__largest_packet)
{
	struct ringbox *rb = open_at(1u << 20, ringbox_windows[_i], 1000);
	uint8_t *data = calloc(1, 524288);
	struct vmbus_msg msg = ringbox_msg(1, data, 524264);
	uint32_t len;

	must(data);
	for (len = 524265; len <= 524290; len++) {
		msg.len = len;
		must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), VMBUS_E_RANGE);
	}
	msg.len = UINT32_MAX;
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), VMBUS_E_RANGE);
	must_eq(ringbox_get(rb, RINGBOX_IN), 1000);
	ringbox_fill(data, 524264, 1);
	msg.len = 524264;
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
	must_eq(ringbox_get(rb, RINGBOX_IN), 1000 + 524288);
	must_eq(ringbox_get64(rb, 1000), 0x0000ffff00020006);
	ck_assert_mem_eq(ringbox_data(rb) + 1016, data, 524264);
	free(data);
	ringbox_free(rb);
}
END_TEST

/*
 * Every length through the sizes that are copied in different ways, with and without a header, at
 * an index where the packet is whole and at one where it is split: all bytes as the model says, and
 * no other byte of the window touched.
 */
START_TEST(ring_tx_put__every_length_byte_exact)
{
	const bool with_ext = _i % 2;
	struct ringbox *rb = open_at(8192, ringbox_windows[_i / 2], 0);
	static uint8_t data[1200], packet[1300], expected[8192];
	static const uint8_t ext[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	uint32_t len, at, bytes, i, pass;

	for (pass = 0; pass < 2; pass++)
		for (len = 0; len < sizeof(data); len += len < 600 ? 1 : 17) {
			struct vmbus_msg msg = ringbox_msg(len + 1, data, len);

			at = pass ? 8192 - len / 16 * 8 - 8 : len * 8 % 8192;
			vmbus_test_at("len %u at %u", len, at);
			msg.flags = len % 2;
			if (with_ext) {
				msg.type = VMBUS_PKT_XFER_PAGES;
				msg.ext = ext;
				msg.ext_len = 8;
			} else if (len % 3 == 0) {
				msg.type = VMBUS_PKT_COMPLETION;
			}
			ringbox_fill(data, len, len);
			ringbox_start_at(rb, at);
			must_eq(ringbox_open_tx(rb), 0);
			memset(ringbox_data(rb), 0xe5, rb->size);
			memset(expected, 0xe5, sizeof(expected));
			bytes = ringbox_model(packet, at, &msg);
			for (i = 0; i < bytes; i++)
				expected[(at + i) % 8192] = packet[i];
			must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
			must(memcmp(ringbox_data(rb), expected, 8192) == 0);
			must_eq(ringbox_get(rb, RINGBOX_IN), (at + bytes) % 8192);
		}
	ringbox_free(rb);
}
END_TEST

/* A payload in three pieces, cut everywhere, lies as if it were one. */
START_TEST(ring_tx_put__scattered_input)
{
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 0);
	uint8_t data[45], packet[128], got[128];
	uint32_t a, b, bytes;

	ringbox_fill(data, sizeof(data), 5);
	for (a = 0; a <= sizeof(data); a++)
		for (b = a; b <= sizeof(data); b++) {
			const struct vmbus_iov more[] = { { data + a, b - a },
							  { data + b, sizeof(data) - b } };
			const uint32_t at = 4096 - 8 * (1 + (a + b) % 9);
			struct vmbus_msg whole = ringbox_msg(3, data, sizeof(data));
			struct vmbus_msg msg = ringbox_msg(3, data, a);

			msg.more = more;
			msg.more_count = 2;
			ringbox_start_at(rb, at);
			must_eq(ringbox_open_tx(rb), 0);
			bytes = ringbox_model(packet, at, &whole);
			must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
			ringbox_copy_out(rb, at, got, bytes);
			must(memcmp(got, packet, bytes) == 0);
			must_eq(ringbox_get(rb, RINGBOX_IN), (at + bytes) % 4096);
		}
	ringbox_free(rb);
}
END_TEST

/* Messages that cannot be: refused, and nothing has changed. */
START_TEST(ring_tx_put__refuses_wrong_messages)
{
	static const uint8_t ext[24] = { 0 };
	static uint8_t data[64];
	const struct vmbus_iov huge[] = { { data, SIZE_MAX } };
	const struct vmbus_iov sum[] = { { data, 524280 }, { data, 524280 } };
	const struct vmbus_iov wraps[] = { { data, SIZE_MAX - 15 }, { data, 64 } };
	const struct vmbus_iov to_zero[] = { { data, SIZE_MAX - 15 } }; /* and 16 make 2^64 */
	const struct {
		struct vmbus_msg msg;
		int err;
	} wrong[] = {
		{ { .type = 0 }, VMBUS_E_INVAL },
		{ { .type = 14 }, VMBUS_E_INVAL },
		{ { .type = 0x106 }, VMBUS_E_INVAL },
		{ { .type = 65535 }, VMBUS_E_INVAL },
		{ { .type = 6, .flags = 2 }, VMBUS_E_INVAL },
		{ { .type = 6, .flags = 3 }, VMBUS_E_INVAL },
		{ { .type = 6, .flags = 0x8000 }, VMBUS_E_INVAL },
		{ { .type = 6, .flags = 65535 }, VMBUS_E_INVAL },
		{ { .type = 6, .ext = ext, .ext_len = 4 }, VMBUS_E_INVAL },
		{ { .type = 6, .ext = ext, .ext_len = 9 }, VMBUS_E_INVAL },
		{ { .type = 6, .ext_len = 8 }, VMBUS_E_INVAL }, /* no header there */
		{ { .type = 7 }, VMBUS_E_INVAL },
		{ { .type = 9 }, VMBUS_E_INVAL },
		{ { .type = 13, .ext = ext, .ext_len = 8 }, VMBUS_E_INVAL },
		{ { .type = 6, .more_count = 1 }, VMBUS_E_INVAL },
		{ { .type = 6, .more_count = 1, .more = huge }, VMBUS_E_RANGE },
		{ { .type = 6, .more_count = 2, .more = sum }, VMBUS_E_RANGE },
		{ { .type = 6, .more_count = 2, .more = wraps }, VMBUS_E_RANGE },
		{ { .type = 6, .data = data, .len = 16, .more_count = 1, .more = to_zero },
		  VMBUS_E_RANGE },
		{ { .type = 6, .ext = ext, .ext_len = UINT32_MAX - 7 }, VMBUS_E_RANGE },
		{ { .type = 6, .ext = ext, .ext_len = 4064 }, VMBUS_E_RANGE },
	};
	const struct vmbus_msg good = ringbox_msg(1, data, 8);
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 4072);
	struct vmbus_msg three[3];
	struct vmbus_span span[2];
	uint8_t *copy;
	unsigned int i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		vmbus_test_at("message %u", i);
		copy = snapshot(rb);
		must_eq(vmbus_ring_tx_put(&rb->tx, &wrong[i].msg, 1), wrong[i].err);
		if (wrong[i].msg.more_count == 0 && !wrong[i].msg.data)
			must_eq(vmbus_ring_tx_reserve(&rb->tx, &wrong[i].msg, span, 2),
				wrong[i].err);
		must_be_unchanged(rb, copy);
		/* In the middle of a call: what lies before it goes, and the next call tells. */
		three[0] = good;
		three[1] = wrong[i].msg;
		three[2] = good;
		must_eq(vmbus_ring_tx_put(&rb->tx, three, 3), 1);
		must_eq(vmbus_ring_tx_put(&rb->tx, three + 1, 2), wrong[i].err);
	}
	must_eq(vmbus_ring_tx_fault(&rb->tx)->field, VMBUS_FAULT_NONE);
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_tx_put__sends_what_fits)
{
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 64);
	static uint8_t data[1000];
	struct vmbus_msg msg[8];
	struct vmbus_ring_stats stats;
	uint32_t i;

	for (i = 0; i < 8; i++)
		msg[i] = ringbox_msg(i + 1, data, 1000); /* 1024 in the ring: three fit */
	must_eq(vmbus_ring_tx_put(&rb->tx, msg, 0), 0);
	must_eq(vmbus_ring_tx_put(&rb->tx, msg, 8), 3);
	must_eq(vmbus_ring_tx_put(&rb->tx, msg + 3, 5), VMBUS_E_FULL);
	ringbox_set(rb, RINGBOX_OUT, 64 + 1024);
	must_eq(vmbus_ring_tx_put(&rb->tx, msg + 3, 5), 1);
	must_eq(vmbus_ring_tx_put(&rb->tx, msg + 4, 4), VMBUS_E_FULL);
	ringbox_set(rb, RINGBOX_OUT, ringbox_get(rb, RINGBOX_IN)); /* all is read */
	must_eq(vmbus_ring_tx_put(&rb->tx, msg + 4, 4), 3);
	must_eq(ringbox_get64(rb, ringbox_get(rb, RINGBOX_IN) + 4096 - 1024 + 8), 7);
	vmbus_ring_tx_stats(&rb->tx, &stats);
	must_eq(stats.packets, 7);
	must_eq(stats.bytes, 7 * 1024);
	must_eq(stats.batches, 3);
	must_eq(stats.full, 2);
	must_eq(stats.faults, 0);
	ringbox_free(rb);
}
END_TEST

static struct ringbox *read_box;
static unsigned int out_loads;

/* A peer that reads one packet on before each of our looks. */
static void read_on(const volatile void *p)
{
	if (ringbox_place_of(read_box, p) != RINGBOX_OUT)
		return;
	out_loads++;
	ringbox_set(read_box, RINGBOX_OUT, (ringbox_get(read_box, RINGBOX_OUT) + 1024) % 4096);
}

/* One call looks at the read index once, however the peer moves; else a peer could hold it for ever. */
START_TEST(ring_tx_put__looks_once_a_call)
{
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 0);
	static uint8_t data[1000];
	struct vmbus_msg msg[16];
	uint32_t i;

	for (i = 0; i < 16; i++)
		msg[i] = ringbox_msg(i, data, 1000);
	ringbox_set(rb, RINGBOX_MASK, 1);
	must_eq(vmbus_ring_tx_put(&rb->tx, msg, 16), 3);
	read_box = rb;
	vmbus__test_hook = read_on;
	must_eq(vmbus_ring_tx_put(&rb->tx, msg, 16), 1);
	must_eq(out_loads, 1);
	must_eq(vmbus_ring_tx_put(&rb->tx, msg, 16), 1);
	must_eq(out_loads, 2);
	vmbus__test_hook = NULL;
	ringbox_free(rb);
}
END_TEST

/* A mix of small, large and odd messages in one call: one publication of all, in order. */
START_TEST(ring_tx_put__mixed_batch)
{
	static const uint32_t lens[] = { 0, 1, 256, 257, 8, 300, 7, 64, 1000, 255, 3 };
	const uint32_t n = sizeof(lens) / sizeof(lens[0]);
	struct ringbox *rb = open_at(8192, ringbox_windows[_i], 8192 - 640);
	static uint8_t data[11][1000], packet[1100], got[1100];
	struct vmbus_msg msg[11], whole;
	struct vmbus_iov more;
	uint32_t i, at = 8192 - 640, bytes;

	for (i = 0; i < n; i++) {
		ringbox_fill(data[i], lens[i], i);
		msg[i] = ringbox_msg(i, data[i], lens[i]);
	}
	msg[5].more = &more; /* 300 bytes as 100 and 200 */
	msg[5].more_count = 1;
	msg[5].len = 100;
	more = (struct vmbus_iov){ data[5] + 100, 200 };
	must_eq(vmbus_ring_tx_put(&rb->tx, msg, n), (int)n);
	must_eq(rb->tx.stats_p.batches, 1);
	must_eq(rb->tx_signals, 1);
	for (i = 0; i < n; i++) {
		whole = ringbox_msg(i, data[i], lens[i]);
		bytes = ringbox_model(packet, at, &whole);
		ringbox_copy_out(rb, at, got, bytes);
		must(memcmp(got, packet, bytes) == 0);
		at = (at + bytes) % 8192;
	}
	must_eq(ringbox_get(rb, RINGBOX_IN), at);
	ringbox_free(rb);
}
END_TEST

/* Every payload length reserved and filled: the pieces sum to it, and the packet is the model's. */
START_TEST(ring_tx_reserve__every_length_byte_exact)
{
	struct ringbox *rb = open_at(12288, ringbox_windows[_i], 0);
	static uint8_t data[9000], packet[9100], got[9100];
	struct vmbus_span span[8];
	uint32_t len, bytes, at, done;
	int n, k;

	for (len = 0; len <= sizeof(data); len += len < 40 ? 1 : 123) {
		struct vmbus_msg msg = ringbox_msg(len, NULL, len);

		at = (12288 - len / 16 * 8) % 12288;
		vmbus_test_at("len %u", len);
		ringbox_start_at(rb, at);
		must_eq(ringbox_open_tx(rb), 0);
		ringbox_fill(data, len, len);
		n = vmbus_ring_tx_reserve(&rb->tx, &msg, span, 8);
		must(n >= 0 && (n > 0) == (len > 0));
		must(rb->window != VMBUS_RING_MIRRORED || n <= 1);
		must(rb->window != VMBUS_RING_PLAIN || n <= 2);
		must((uint32_t)n <= len / 4096 + 2);
		for (k = 0, done = 0; k < n; k++) {
			memcpy(span[k].base, data + done, span[k].len);
			done += (uint32_t)span[k].len;
		}
		must_eq(done, len);
		must_eq(ringbox_get(rb, RINGBOX_IN), at);
		must_eq(vmbus_ring_tx_commit(&rb->tx), 1);
		msg.data = data;
		bytes = ringbox_model(packet, at, &msg);
		ringbox_copy_out(rb, at, got, bytes);
		must(memcmp(got, packet, bytes) == 0);
		must_eq(ringbox_get(rb, RINGBOX_IN), (at + bytes) % 12288);
	}
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_tx_reserve__too_few_spans)
{
	struct ringbox *rb = open_at(12288, VMBUS_RING_SCATTERED, 4080);
	const struct vmbus_msg msg = ringbox_msg(1, NULL, 4100); /* from 4096: two pages */
	struct vmbus_span span[3];
	uint8_t *copy = snapshot(rb);

	must_eq(vmbus_ring_tx_reserve(&rb->tx, &msg, span, 0), VMBUS_E_RANGE);
	must_eq(vmbus_ring_tx_reserve(&rb->tx, &msg, span, 1), VMBUS_E_RANGE);
	must_be_unchanged(rb, copy);
	must_eq(vmbus_ring_tx_commit(&rb->tx), 0);
	must_eq(vmbus_ring_tx_reserve(&rb->tx, &msg, span, 2), 2);
	must_eq(span[0].len, 4096);
	must_eq(span[1].len, 4);
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_tx_reserve__refuses_a_payload)
{
	struct ringbox *rb = open_at(4096, VMBUS_RING_PLAIN, 0);
	const struct vmbus_iov more = { "x", 1 };
	struct vmbus_msg msg = ringbox_msg(1, "x", 1);
	struct vmbus_span span;

	must_eq(vmbus_ring_tx_reserve(&rb->tx, &msg, &span, 1), VMBUS_E_INVAL);
	msg = ringbox_msg(1, NULL, 0);
	msg.more = &more;
	msg.more_count = 1;
	must_eq(vmbus_ring_tx_reserve(&rb->tx, &msg, &span, 1), VMBUS_E_INVAL);
	ringbox_free(rb);
}
END_TEST

/* [RING-SEND]: a batch is invisible until its commit, blocks put and arm, and is published once. */
START_TEST(ring_tx_commit__publishes_the_batch_once)
{
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 4000);
	struct vmbus_msg msg = ringbox_msg(0, NULL, 0);
	struct vmbus_span span[2];
	struct vmbus_ring_stats stats;
	uint32_t i, bytes = 0;

	must_eq(vmbus_ring_tx_commit(&rb->tx), 0);
	for (i = 0; i < 9; i++) {
		msg.id = i + 1;
		msg.len = i * 11;
		must(vmbus_ring_tx_reserve(&rb->tx, &msg, span, 2) >= 0);
		bytes += 24 + (msg.len + 7) / 8 * 8;
		must_eq(ringbox_get(rb, RINGBOX_IN), 4000);
		must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), VMBUS_E_STATE);
		must_eq(vmbus_ring_tx_arm(&rb->tx, 4080), VMBUS_E_STATE);
	}
	must_eq(rb->tx_signals, 0);
	must_eq(vmbus_ring_tx_commit(&rb->tx), 9);
	must_eq(ringbox_get(rb, RINGBOX_IN), (4000 + bytes) % 4096);
	must_eq(rb->tx_signals, 1);
	must_eq(vmbus_ring_tx_commit(&rb->tx), 0);
	must_eq(rb->tx_signals, 1);
	vmbus_ring_tx_stats(&rb->tx, &stats);
	must_eq(stats.packets, 9);
	must_eq(stats.bytes, bytes);
	must_eq(stats.batches, 1);
	must_eq(stats.signals, 1);
	must_eq(stats.signals_suppressed, 0);
	ringbox_free(rb);
}
END_TEST

/* The room of an aborted batch is free again, all of it, and nothing was published. */
START_TEST(ring_tx_abort__gives_the_room_back)
{
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 2000);
	struct vmbus_msg msg = ringbox_msg(1, NULL, 1000);
	struct vmbus_msg after = ringbox_msg(2, "after", 5);
	struct vmbus_span span[3];
	uint8_t packet[64], got[64];
	uint32_t i, bytes;

	for (i = 0; i < 5; i++) {
		must(vmbus_ring_tx_reserve(&rb->tx, &msg, span, 3) > 0);
		must(vmbus_ring_tx_reserve(&rb->tx, &msg, span, 3) > 0);
		must(vmbus_ring_tx_reserve(&rb->tx, &msg, span, 3) > 0);
		must_eq(vmbus_ring_tx_reserve(&rb->tx, &msg, span, 3), VMBUS_E_FULL);
		vmbus_ring_tx_abort(&rb->tx);
		must_eq(ringbox_get(rb, RINGBOX_IN), 2000);
		must_eq(rb->tx_signals, 0);
	}
	vmbus_ring_tx_abort(&rb->tx); /* nothing reserved: nothing happens */
	must_eq(vmbus_ring_tx_commit(&rb->tx), 0);
	must_eq(vmbus_ring_tx_put(&rb->tx, &after, 1), 1);
	bytes = ringbox_model(packet, 2000, &after);
	ringbox_copy_out(rb, 2000, got, bytes);
	must(memcmp(got, packet, bytes) == 0);
	must_eq(ringbox_get(rb, RINGBOX_IN), 2000 + bytes);
	ringbox_free(rb);
}
END_TEST

/* [RING-SIGNAL]: told if and only if unmasked and the reader had read all before the batch. */
START_TEST(ring_tx_put__signals_when_due)
{
	static const uint32_t masks[] = { 0, 1, 0x80000000, UINT32_MAX };
	struct ringbox *rb = open_at(4096, ringbox_windows[_i], 0);
	const struct vmbus_msg msg[] = { ringbox_msg(1, "a", 1), ringbox_msg(2, "b", 1) };
	struct vmbus_ring_stats stats;
	uint32_t m, lag, n, signals = 0, calls = 0;

	for (m = 0; m < 4; m++)
		for (lag = 0; lag < 5; lag++)
			for (n = 1; n <= 2; n++) {
				const uint32_t in = ringbox_get(rb, RINGBOX_IN);
				/* A reader that is some packets behind, all read at the end. */
				const uint32_t out = (in + 4096 - lag * 32) % 4096;
				uint32_t k;

				ringbox_start_at(rb, out);
				must_eq(ringbox_open_tx(rb), 0);
				ringbox_set(rb, RINGBOX_MASK, 1);
				for (k = 0; k < lag; k++)
					must_eq(vmbus_ring_tx_put(&rb->tx, msg, 1), 1);
				rb->tx_signals = 0;
				ringbox_set(rb, RINGBOX_MASK, masks[m]);
				must_eq(vmbus_ring_tx_put(&rb->tx, msg, n), (int)n);
				vmbus_test_at("mask %x lag %u n %u", masks[m], lag, n);
				must_eq(rb->tx_signals, masks[m] == 0 && lag == 0);
				vmbus_ring_tx_stats(&rb->tx, &stats);
				must_eq(stats.signals, rb->tx_signals);
				must_eq(stats.signals + stats.signals_suppressed, stats.batches);
				signals += rb->tx_signals;
				calls++;
				ringbox_set(rb, RINGBOX_OUT, ringbox_get(rb, RINGBOX_IN));
			}
	must_eq(signals, 2);
	must_eq(calls, 40);
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_tx_put__no_signal_function)
{
	struct ringbox *rb = ringbox_new(4096, VMBUS_RING_PLAIN);
	const struct vmbus_msg msg = ringbox_msg(1, "a", 1);
	struct vmbus_ring_stats stats;

	must_eq(vmbus_ring_tx_init(&rb->tx, &rb->mem, NULL), 0);
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
	vmbus_ring_tx_stats(&rb->tx, &stats);
	must_eq(stats.signals, 0);
	must_eq(stats.signals_suppressed, 1);
	ringbox_free(rb);
}
END_TEST

/* After a fault of the peer: PEER once, FAULT from all calls, nothing more is written. */
START_TEST(ring_tx_put__after_a_fault)
{
	static const struct {
		uint32_t out, field, limit;
	} bad[] = {
		{ 4096, VMBUS_FAULT_READ_INDEX, 4088 },
		{ UINT32_MAX, VMBUS_FAULT_READ_INDEX, 4088 },
		{ 4, VMBUS_FAULT_READ_INDEX_ALIGN, 8 },
		{ 1000, VMBUS_FAULT_READ_INDEX_BACK, 4088 }, /* past what was published */
	};
	struct ringbox *rb = open_at(4096, VMBUS_RING_PLAIN, 8);
	static uint8_t data[4056];
	const struct vmbus_msg msg = ringbox_msg(1, data, sizeof(data));
	struct vmbus_ring_stats stats;
	const struct vmbus_fault *fault;
	struct vmbus_span span[2];
	uint8_t *copy;

	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1); /* full: in is 4088, out 8 */
	must_eq(ringbox_get(rb, RINGBOX_IN), 4088);
	if (bad[_i].field == VMBUS_FAULT_READ_INDEX_BACK) {
		ringbox_set(rb, RINGBOX_OUT, 2000); /* has read on */
		must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), VMBUS_E_FULL);
	}
	ringbox_set(rb, RINGBOX_OUT, bad[_i].out);
	copy = snapshot(rb);
	rb->tx_signals = 0;
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), VMBUS_E_PEER);
	ringbox_set(rb, RINGBOX_OUT, 8);
	memcpy(copy, rb->ctl, 16);
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), VMBUS_E_FAULT);
	must_eq(vmbus_ring_tx_reserve(&rb->tx, &msg, span, 2), VMBUS_E_FAULT);
	must_eq(vmbus_ring_tx_commit(&rb->tx), VMBUS_E_FAULT);
	must_eq(vmbus_ring_tx_arm(&rb->tx, 64), VMBUS_E_FAULT);
	vmbus_ring_tx_abort(&rb->tx);
	vmbus_ring_tx_disarm(&rb->tx);
	must_be_unchanged(rb, copy);
	must_eq(rb->tx_signals, 0);
	fault = vmbus_ring_tx_fault(&rb->tx);
	must_eq(fault->field, bad[_i].field);
	must_eq(fault->value, bad[_i].out);
	must_eq(fault->limit, bad[_i].limit);
	vmbus_ring_tx_stats(&rb->tx, &stats);
	must_eq(stats.faults, 1);
	ringbox_free(rb);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "init", 5);
	const int inits_n = (int)(sizeof(inits) / sizeof(inits[0]));

	tcase_add_loop_test(tc, ring_tx_init__adopts_or_refuses_indices, 0, inits_n);
	tcase_add_test(tc, ring_tx_init__refuses_arguments);
	tc = vmbus_test_case(suite, "put", 10);
	tcase_add_loop_test(tc, ring_tx_put__vector_hello_and_completion, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__vector_gpa_direct, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__vector_wrap, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__vector_full, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__largest_packet, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__every_length_byte_exact, 0, 2 * RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__scattered_input, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__refuses_wrong_messages, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__sends_what_fits, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__looks_once_a_call, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__mixed_batch, 0, RINGBOX_WINDOWS);
	tc = vmbus_test_case(suite, "reserve", 10);
	tcase_add_loop_test(tc, ring_tx_reserve__every_length_byte_exact, 0, RINGBOX_WINDOWS);
	tcase_add_test(tc, ring_tx_reserve__too_few_spans);
	tcase_add_test(tc, ring_tx_reserve__refuses_a_payload);
	tcase_add_loop_test(tc, ring_tx_commit__publishes_the_batch_once, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_abort__gives_the_room_back, 0, RINGBOX_WINDOWS);
	tc = vmbus_test_case(suite, "signal", 5);
	tcase_add_loop_test(tc, ring_tx_put__signals_when_due, 0, RINGBOX_WINDOWS);
	tcase_add_test(tc, ring_tx_put__no_signal_function);
	tc = vmbus_test_case(suite, "fault", 5);
	tcase_add_loop_test(tc, ring_tx_put__after_a_fault, 0, 4);
}

VMBUS_TEST_MAIN("ring.tx", tests)
