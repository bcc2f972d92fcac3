/* SPDX-License-Identifier: MIT */
/*
 * A receiver under a peer that changes any word between any two of its loads, and what it makes of
 * descriptors that lie.  The sweep itself is in hook.h.
 */
#define _GNU_SOURCE
#include "hostile/hook.h"

struct receiver {
	struct vmbus_ring_rx rx;
	uint8_t *buf;
	uint32_t buf_bytes;
	bool in_place;
	bool broken;
	struct vmbus_fault first;
	unsigned signals;
	uint32_t in; /* what an honest peer would have published */
};

static const struct most rx_idle = { 0, 0, 0, 0, 0, 0 };
static const struct most rx_most_consume = { 1, 0, 0, 1, 0, 0 };
static const struct most rx_most_arm = { 2, 0, 0, 1, 0, 0 };

/* After any call: sound, or broken in the one way and for ever. */
static void rx_after(struct receiver *r, int ret, const struct most *most)
{
	call_end(r->broken ? &rx_idle : most);
	check_rx(&r->rx);
	if (r->broken) {
		MUST(ret == VMBUS_E_FAULT);
		MUST(memcmp(&r->first, vmbus_ring_rx_fault(&r->rx), sizeof(r->first)) == 0);
	}
	MUST(r->broken || ret != VMBUS_E_FAULT);
	if (ret == VMBUS_E_PEER) {
		r->broken = true;
		r->first = *vmbus_ring_rx_fault(&r->rx);
	}
	MUST(r->broken == (vmbus_ring_rx_fault(&r->rx)->field != VMBUS_FAULT_NONE));
	MUST(r->buf[r->buf_bytes] == 0xa5);
}

static void rx_set_buf(struct receiver *r, uint32_t bytes)
{
	free(r->buf);
	r->buf = malloc(bytes + 1u);
	MUST(r->buf);
	memset(r->buf, 0xa5, bytes + 1u);
	r->buf_bytes = bytes;
}

static void rx_get(struct receiver *r, uint32_t n)
{
	/*
	 * Write index: by the look for packets, and by each of two publications that meet a waiting
	 * sender.  Data: one copy, two where it goes round, and again for what the first one cut;
	 * in place, a descriptor, an id, and up to four pieces a packet.
	 */
	const struct most most = { 3, 0, 0, 3, r->in_place ? 6 * n : 6, 1 };
	struct rx_bounds b = { r->buf, r->buf_bytes, r->in_place ? &ground.ours.mem : NULL, SIZE,
			       r->rx.next_p };
	struct vmbus_packet pkt[16];
	int ret, i;

	call_begin();
	ret = r->in_place ? vmbus_ring_rx_get_in_peer_memory(&r->rx, pkt, n)
			  : vmbus_ring_rx_get(&r->rx, pkt, n);
	rx_after(r, ret, &most);
	MUST(ret <= (int)n);
	for (i = 0; i < ret; i++)
		check_packet(&b, &pkt[i]);
	if (ret >= 0)
		MUST(b.where == r->rx.next_p);
	if (ret == VMBUS_E_RANGE) { /* only a buffer that is too small for the ring */
		MUST(r->buf_bytes < vmbus_ring_rx_buf_bytes(SIZE));
		MUST(vmbus_ring_rx_need(&r->rx) <= vmbus_ring_rx_buf_bytes(SIZE));
		rx_set_buf(r, vmbus_ring_rx_buf_bytes(SIZE));
		MUST(vmbus_ring_rx_set_buf(&r->rx, r->buf, r->buf_bytes) == 0);
		return;
	}
	MUST(ret >= 0 || ret == VMBUS_E_PEER || ret == VMBUS_E_FAULT);
}

static void rx_arm(struct receiver *r)
{
	int ret;

	call_begin();
	ret = vmbus_ring_rx_arm(&r->rx);
	rx_after(r, ret, &rx_most_arm);
	MUST(ret == VMBUS_RING_SLEEP || ret == VMBUS_RING_READY || ret == VMBUS_E_PEER ||
	     ret == VMBUS_E_FAULT);
}

static void rx_consume(struct receiver *r)
{
	int ret;

	call_begin();
	ret = vmbus_ring_rx_consume(&r->rx);
	rx_after(r, ret, &rx_most_consume);
	MUST(ret == 0 || ret == VMBUS_E_PEER || ret == VMBUS_E_FAULT);
}

/* Between calls the peer goes on as if nothing were wrong. */
static void rx_peer_publishes(struct receiver *r, uint32_t in)
{
	r->in = in;
	forge(CTL_IN * 4, in, 4);
}

static uint32_t write_stream(uint32_t at, uint32_t part)
{
	static const uint8_t gpa[24] = { 0, 0, 0, 0, 1, 0, 0, 0,    100,
					 0, 0, 0, 5, 0, 0, 0, 0x34, 0x12 };
	static const uint8_t xfer[16] = { 0xfe, 0xca, 0, 0, 1, 0, 0, 0, 64 };

	if (part == 0) {
		at = ground_packet(&ground, at, VMBUS_PKT_INBAND, 0, 40, 1, ID);
		ground_write(&ground, at + 16, gpa, sizeof(gpa));
		at = ground_packet(&ground, at, VMBUS_PKT_GPA_DIRECT, 24, 16, 1, ID);
		at = ground_packet(&ground, at, VMBUS_PKT_COMPLETION, 0, 0, 0, ID);
		ground_write(&ground, at + 16, xfer, sizeof(xfer));
		return ground_packet(&ground, at, VMBUS_PKT_XFER_PAGES, 16, 8, 0, ID);
	}
	at = ground_packet(&ground, at, VMBUS_PKT_INBAND, 0, 608, 0, ID);
	at = ground_packet(&ground, at, VMBUS_PKT_ADDITIONAL_DATA, 16, 0, 0, ID);
	return ground_packet(&ground, at, VMBUS_PKT_INBAND, 0, 8, 0, ID);
}

static void rx_session(enum role role, bool in_place, uint32_t buf_bytes)
{
	struct receiver r = { .in_place = in_place };
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = noted_signal,
					.signal_ctx = &r.signals };
	uint32_t second;
	int ret;

	session_begin(role);
	rx_set_buf(&r, buf_bytes);
	opts.buf = r.buf;
	opts.buf_bytes = r.buf_bytes;
	r.in = role == PARENT ? START : 0;
	second = write_stream(r.in, 0);
	rx_peer_publishes(&r, second);
	call_begin();
	ret = vmbus_ring_rx_init(&r.rx, &ground.ours.mem, &opts);
	rx_after(&r, ret, &(const struct most){ 1, 1, 0, 0, 0, 0 });
	rx_get(&r, 2);
	rx_get(&r, 1);
	rx_consume(&r);
	rx_arm(&r);
	rx_get(&r, 8);
	forge(CTL_PENDING * 4, SIZE - 64, 4);
	rx_peer_publishes(&r, write_stream(second, 1));
	rx_arm(&r);
	vmbus_ring_rx_disarm(&r.rx);
	rx_get(&r, 2);
	if (!r.broken)
		MUST(vmbus_ring_rx_set_buf(&r.rx, r.buf, r.buf_bytes) == 0);
	rx_get(&r, 8);
	forge(CTL_PENDING * 4, 4000, 4);
	rx_get(&r, 8);
	r.in_place = !in_place; /* the other reader goes on where this one was */
	rx_peer_publishes(&r, write_stream(r.in, 0));
	rx_get(&r, 3);
	r.in_place = in_place;
	rx_get(&r, 8);
	rx_consume(&r);
	rx_arm(&r);
	vmbus_ring_rx_disarm(&r.rx);
	MUST(r.signals <= 8);
	free(r.buf);
}

static void script(enum kind kind, enum role role)
{
	rx_session(role, kind == RX_IN_PLACE,
		   role == CHILD ? VMBUS_RING_RX_BUF_MIN : vmbus_ring_rx_buf_bytes(SIZE));
}

START_TEST(lesson_10_reader_survives_changes_between_any_two_loads)
{
	run_all(RX_COPY);
}
END_TEST

START_TEST(lesson_10_reader_in_place_survives_changes_between_any_two_loads)
{
	run_all(RX_IN_PLACE);
}
END_TEST

/* A plain run, with its loads counted exactly: what one more fetch would break. */
static void count_loads(enum vmbus_ring_window window, bool in_place, uint32_t data_loads)
{
	uint8_t buf[VMBUS_RING_RX_BUF_MIN + 64];
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .buf = buf,
					      .buf_bytes = sizeof(buf) };
	struct vmbus_packet pkt[8];
	struct vmbus_ring_rx rx;

	ground_open(&ground, window, SIZE);
	session_begin(PARENT);
	vmbus__test_hook = hook;
	MUST(vmbus_ring_rx_init(&rx, &ground.ours.mem, &opts) == 0);
	forge(CTL_IN * 4, write_stream(START, 0), 4);
	call_begin();
	MUST((in_place ? vmbus_ring_rx_get_in_peer_memory(&rx, pkt, 8)
		       : vmbus_ring_rx_get(&rx, pkt, 8)) == 4);
	MUST(loads.in == 1 && loads.out == 0 && loads.mask == 0 && loads.pending == 0);
	MUST(loads.data == data_loads);
	vmbus__test_hook = NULL;
	ground_close(&ground);
}

START_TEST(lesson_10_each_word_is_loaded_once)
{
	plan.on = false;
	count_loads(VMBUS_RING_MIRRORED, false, 1); /* one copy of all four packets */
	count_loads(VMBUS_RING_PLAIN, false, 1);
	count_loads(VMBUS_RING_SCATTERED, false, 1);
	/* four descriptors, four ids, two headers */
	count_loads(VMBUS_RING_MIRRORED, true, 10);
	count_loads(VMBUS_RING_PLAIN, true, 10);
	count_loads(VMBUS_RING_SCATTERED, true, 10);
}
END_TEST

/*
 * A length that the ring cannot hold is the peer's fault and not a matter of our buffer, wherever
 * the copied part of the ring ends.
 */
static void impossible_length(uint32_t before)
{
	const uint32_t size = 65536, bytes = vmbus_ring_rx_buf_bytes(size);
	struct rx_bounds b = { NULL, bytes, NULL, size, 0 };
	uint8_t *buf = malloc(bytes);
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .buf = buf,
					      .buf_bytes = bytes };
	struct vmbus_packet pkt[64];
	struct vmbus_ring_rx rx;
	uint32_t at = 0;
	int ret, i;

	MUST(buf);
	(void)snprintf(checks_context, sizeof(checks_context), "lie at %u", before);
	b.buf = buf;
	ground_reset(&ground, 0);
	while (at < before)
		at = ground_packet(&ground, at, VMBUS_PKT_INBAND, 0,
				   before - at >= 48 ? 0 : before - at - 24, 0, ID);
	ground_qword(&ground, at, DESC(6, 2, 65535, 0));
	ground.ctl[CTL_IN] = at + 64;
	MUST(vmbus_ring_rx_init(&rx, &ground.ours.mem, &opts) == 0);
	while ((ret = vmbus_ring_rx_get(&rx, pkt, 64)) > 0)
		for (i = 0; i < ret; i++)
			check_packet(&b, &pkt[i]);
	MUST(ret == VMBUS_E_PEER);
	MUST(b.where == before);
	MUST(vmbus_ring_rx_fault(&rx)->field == VMBUS_FAULT_PKT_LENGTH);
	MUST(vmbus_ring_rx_fault(&rx)->where == before);
	free(buf);
}

START_TEST(impossible_length_is_a_fault_wherever_a_copy_ends)
{
	uint32_t before;

	ground_open(&ground, VMBUS_RING_MIRRORED, 65536);
	for (before = 16384 - 64; before <= 16384 + 64; before += 8)
		impossible_length(before);
	ground_close(&ground);
}
END_TEST

/* Every type with every header length around its minimum, and around the packet's end. */
START_TEST(lesson_08_header_shorter_than_type)
{
	uint8_t buf[VMBUS_RING_RX_BUF_MIN + 64];
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .buf = buf,
					      .buf_bytes = sizeof(buf) };
	uint32_t type, offset8, length8;
	int in_place;

	ground_open(&ground, VMBUS_RING_PLAIN, SIZE);
	for (in_place = 0; in_place < 2; in_place++)
		for (type = 0; type < 20; type++)
			for (offset8 = 0; offset8 < 12; offset8++)
				for (length8 = 0; length8 < 12; length8++) {
					struct rx_bounds b = { buf, sizeof(buf),
							       in_place ? &ground.ours.mem : NULL,
							       SIZE, 0 };
					struct vmbus_packet pkt[2];
					struct vmbus_ring_rx rx;
					uint32_t field;
					int ret;

					ground_reset(&ground, 0);
					ground_qword(&ground, 0, DESC(type, offset8, length8, 0));
					ground.ctl[CTL_IN] = 80;
					field = ref_desc_fault(ground.data, 80);
					MUST(vmbus_ring_rx_init(&rx, &ground.ours.mem, &opts) == 0);
					ret = in_place ? vmbus_ring_rx_get_in_peer_memory(&rx, pkt,
											  1)
						       : vmbus_ring_rx_get(&rx, pkt, 1);
					MUST(ret == (field ? VMBUS_E_PEER : 1));
					MUST(vmbus_ring_rx_fault(&rx)->field == field);
					if (ret == 1)
						check_packet(&b, &pkt[0]);
				}
	ground_close(&ground);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "hook_rx", 28);

	tcase_add_test(tc, lesson_08_header_shorter_than_type);
	tcase_add_test(tc, lesson_10_each_word_is_loaded_once);
	tcase_add_test(tc, impossible_length_is_a_fault_wherever_a_copy_ends);
	tcase_add_test(tc, lesson_10_reader_survives_changes_between_any_two_loads);
	tcase_add_test(tc, lesson_10_reader_in_place_survives_changes_between_any_two_loads);
}
VMBUS_TEST_MAIN("hostile.hook_rx", tests)
