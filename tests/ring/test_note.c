/* SPDX-License-Identifier: MIT */
/*
 * The note before each store of an index of ours, and ends that go on where others stopped: the
 * index must be what was left there, and reading goes on anywhere up to what was published.
 */
#include "ringbox.h"

#define SIZE 4096u

struct notes {
	struct ringbox *rb;
	enum ringbox_word word;
	uint32_t count;
	uint32_t before, after; /* of the last one */
};

/* The index is still what it was: nothing is stored before it is noted. */
static void note(void *ctx, uint32_t before, uint32_t after)
{
	struct notes *n = ctx;

	must_eq(ringbox_get(n->rb, n->word), before);
	must(before != after);
	if (n->count)
		must_eq(before, n->after); /* no store without a note since */
	n->before = before;
	n->after = after;
	n->count++;
}

static struct vmbus_ring_opts opts_of(struct notes *n)
{
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = ringbox_tx_signal,
					.signal_ctx = n->rb,
					.buf = n->rb->buf,
					.buf_bytes = n->rb->buf_bytes,
					.note = note,
					.note_ctx = n };

	return opts;
}

static void open_noted(struct notes *tx, struct notes *rx, struct ringbox *rb, uint32_t index)
{
	struct vmbus_ring_opts opts;

	ringbox_new_buf(rb, vmbus_ring_rx_buf_bytes(rb->size));
	ringbox_start_at(rb, index);
	*tx = (struct notes){ .rb = rb, .word = RINGBOX_IN };
	*rx = (struct notes){ .rb = rb, .word = RINGBOX_OUT };
	opts = opts_of(tx);
	must_eq(vmbus_ring_tx_init(&rb->tx, &rb->mem, &opts), 0);
	opts = opts_of(rx);
	must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts), 0);
	must_eq(tx->count + rx->count, 0);
}

/* put and commit note once a batch; abort, refusals and a commit of nothing never. */
START_TEST(ring_note__before_each_store_of_the_write_index)
{
	struct ringbox *rb = ringbox_new(SIZE, ringbox_windows[_i]);
	struct notes tx, rx;
	uint8_t data[64] = { 0 };
	struct vmbus_msg msg[5], empty = { .type = VMBUS_PKT_INBAND, .len = 8 };
	struct vmbus_span span[4];
	uint32_t round, i;

	for (i = 0; i < 5; i++)
		msg[i] = ringbox_msg(i, data, 40 + i);
	open_noted(&tx, &rx, rb, SIZE - 64);
	for (round = 0; round < 100; round++) {
		struct vmbus_packet pkt[16];
		const uint32_t was = tx.count;

		must_eq(vmbus_ring_tx_put(&rb->tx, msg, 1 + round % 5), 1 + round % 5);
		must_eq(tx.count, was + 1);
		must_eq(ringbox_get(rb, RINGBOX_IN), tx.after);
		must(vmbus_ring_tx_reserve(&rb->tx, &empty, span, 4) > 0);
		vmbus_ring_tx_abort(&rb->tx);
		must_eq(vmbus_ring_tx_commit(&rb->tx), 0);
		must_eq(vmbus_ring_tx_put(&rb->tx, msg, 0), 0);
		must_eq(tx.count, was + 1);
		must(vmbus_ring_tx_reserve(&rb->tx, &empty, span, 4) > 0);
		must(vmbus_ring_tx_reserve(&rb->tx, &empty, span, 4) > 0);
		must_eq(vmbus_ring_tx_commit(&rb->tx), 2);
		must_eq(tx.count, was + 2);
		must_eq(ringbox_get(rb, RINGBOX_IN), tx.after);
		must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 16), 3 + round % 5);
	}
	ringbox_free(rb);
}
END_TEST

/* Lazily, at an arm, at a consume: a note for each store, and none where nothing is given back. */
START_TEST(ring_note__before_each_store_of_the_read_index)
{
	struct ringbox *rb = ringbox_new(SIZE, ringbox_windows[_i]);
	struct notes tx, rx;
	const uint8_t data[100] = { 0 };
	const struct vmbus_msg msg = ringbox_msg(7, data, 100);
	struct vmbus_packet pkt[4];
	uint32_t round, was;

	open_noted(&tx, &rx, rb, 0);
	for (round = 0; round < 200; round++) {
		must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
		must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 4), 1);
		must_eq(ringbox_get(rb, RINGBOX_OUT), rx.after);
		was = rx.count;
		if (round % 16 == 3) {
			must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
			must_eq(rx.count, was + 1);
			must_eq(rx.after, ringbox_get(rb, RINGBOX_IN));
			must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
			must_eq(rx.count, was + 1);
		} else if (round % 16 == 9) {
			must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_RING_SLEEP);
			must_eq(rx.count, was + 1);
			vmbus_ring_rx_disarm(&rb->rx);
		}
		must_eq(ringbox_get(rb, RINGBOX_OUT), rx.after);
	}
	must(rx.count > 25); /* lazily as well */
	ringbox_free(rb);
}
END_TEST

/* A sender that goes on: the receiver sees one ring. */
START_TEST(ring_tx_init__resumes)
{
	struct ringbox *rb = ringbox_open(SIZE, ringbox_windows[_i], SIZE - 128);
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts), .resume = true };
	uint8_t data[24];
	struct vmbus_packet pkt[8];
	uint32_t i;

	for (i = 0; i < 300; i++) {
		struct vmbus_msg msg = ringbox_msg(i, data, 24);

		ringbox_fill(data, 24, i);
		must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
		if (i % 3 == 2) {
			must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 8), 3);
			must_eq(pkt[0].id, i - 2);
			ringbox_must_be(&pkt[2], i, data, 24);
		}
		opts.index = ringbox_get(rb, RINGBOX_IN);
		ringbox_set(rb, RINGBOX_PENDING, 8);
		must_eq(vmbus_ring_tx_init(&rb->tx, &rb->mem, &opts), 0);
		must_eq(ringbox_get(rb, RINGBOX_PENDING), 0);
	}
	ringbox_free(rb);
}
END_TEST

/* Any other value in the control page is a fault, and nothing is written then. */
START_TEST(ring_tx_init__refuses_another_index)
{
	struct ringbox *rb = ringbox_open(SIZE, VMBUS_RING_PLAIN, 256);
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.resume = true,
					.index = 256 };
	static const uint32_t wrong[] = { 0, 248, 257, 264, SIZE, UINT32_MAX };
	char text[160];
	uint32_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		ringbox_set(rb, RINGBOX_IN, wrong[i]);
		ringbox_set(rb, RINGBOX_PENDING, 16);
		must_eq(vmbus_ring_tx_init(&rb->tx, &rb->mem, &opts), VMBUS_E_PEER);
		must_eq(vmbus_ring_tx_fault(&rb->tx)->field, VMBUS_FAULT_RESUME_INDEX);
		must_eq(vmbus_ring_tx_fault(&rb->tx)->value, wrong[i]);
		must_eq(vmbus_ring_tx_fault(&rb->tx)->limit, 256);
		must_eq(ringbox_get(rb, RINGBOX_PENDING), 16);
	}
	(void)vmbus_fault_format(vmbus_ring_tx_fault(&rb->tx), text, sizeof(text));
	ck_assert_str_eq(text, "index of ours at resume is 4294967295, must be 256, at ring offset "
			       "4294967295");
	ringbox_set(rb, RINGBOX_IN, 256);
	must_eq(vmbus_ring_tx_init(&rb->tx, &rb->mem, &opts), 0);
	/* What is impossible stays impossible, whatever the options ask for. */
	opts.index = SIZE + 8;
	ringbox_set(rb, RINGBOX_IN, SIZE + 8);
	must_eq(vmbus_ring_tx_init(&rb->tx, &rb->mem, &opts), VMBUS_E_PEER);
	must_eq(vmbus_ring_tx_fault(&rb->tx)->field, VMBUS_FAULT_WRITE_INDEX);
	ringbox_free(rb);
}
END_TEST

/* Reading goes on at `next`, and what lies before it is given back with it. */
START_TEST(ring_rx_init__resumes)
{
	struct ringbox *rb = ringbox_open(SIZE, ringbox_windows[_i], SIZE - 128);
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts), .resume = true };
	uint8_t data[40];
	struct vmbus_packet pkt[8];
	uint32_t i, next = SIZE - 128;

	opts.buf = rb->buf;
	opts.buf_bytes = rb->buf_bytes;
	for (i = 0; i < 300; i++) {
		struct vmbus_msg msg = ringbox_msg(i, data, 40);

		ringbox_fill(data, 40, i);
		must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
		must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 8), 1);
		ringbox_must_be(&pkt[0], i, data, 40);
		next = (next + 64) % SIZE;
		if (i % 7 == 3) { /* it dies with packets held */
			opts.index = ringbox_get(rb, RINGBOX_OUT);
			opts.next = next;
			must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts), 0);
			must_eq(ringbox_get(rb, RINGBOX_OUT), opts.index);
			must_eq(ringbox_get(rb, RINGBOX_MASK), 1);
		}
		if (i % 49 == 48) { /* and gives them back afterwards */
			must_eq(vmbus_ring_rx_consume(&rb->rx), 0);
			must_eq(ringbox_get(rb, RINGBOX_OUT), next);
		}
	}
	/* One that was not done is read again. */
	data[0] = 1;
	for (i = 0; i < 2; i++) {
		struct vmbus_msg msg = ringbox_msg(500 + i, data, 40);

		must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
	}
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 8), 2);
	opts.index = ringbox_get(rb, RINGBOX_OUT);
	opts.next = (next + 64) % SIZE;
	must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts), 0);
	must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 8), 1);
	must_eq(pkt[0].id, 501);
	ringbox_free(rb);
}
END_TEST

START_TEST(ring_rx_init__refuses_another_index_or_place)
{
	struct ringbox *rb = ringbox_open(SIZE, VMBUS_RING_PLAIN, 0);
	struct vmbus_ring_opts opts = {
		.struct_bytes = sizeof(opts), .resume = true, .index = 256, .next = 512
	};
	static const struct {
		uint32_t in, out, next;
		int err;
		uint32_t field;
	} cases[] = {
		{ 1024, 256, 512, 0, 0 },
		{ 512, 256, 512, 0, 0 },
		{ 1024, 256, 256, 0, 0 },
		{ 1024, 256, 1024, 0, 0 },
		{ 256, 256, 256, 0, 0 },
		{ 248, 256, 4088, 0, 0 }, /* all round */
		{ 1024, 264, 512, VMBUS_E_PEER, VMBUS_FAULT_RESUME_INDEX },
		{ 1024, 0, 512, VMBUS_E_PEER, VMBUS_FAULT_RESUME_INDEX },
		{ 1024, 257, 512, VMBUS_E_PEER, VMBUS_FAULT_RESUME_INDEX },
		{ 1024, UINT32_MAX, 512, VMBUS_E_PEER, VMBUS_FAULT_RESUME_INDEX },
		{ 504, 256, 512, VMBUS_E_PEER, VMBUS_FAULT_WRITE_INDEX_BACK },
		{ 1024, 256, 1032, VMBUS_E_PEER, VMBUS_FAULT_WRITE_INDEX_BACK },
		{ 1024, 256, 248, VMBUS_E_PEER, VMBUS_FAULT_WRITE_INDEX_BACK },
		{ 256, 256, 264, VMBUS_E_PEER, VMBUS_FAULT_WRITE_INDEX_BACK },
		{ SIZE, 256, 256, VMBUS_E_PEER, VMBUS_FAULT_WRITE_INDEX },
		{ 1025, 256, 256, VMBUS_E_PEER, VMBUS_FAULT_WRITE_INDEX_ALIGN },
		{ 1024, 256, 513, VMBUS_E_INVAL, 0 },
		{ 1024, 256, SIZE, VMBUS_E_INVAL, 0 },
		{ 1024, 256, UINT32_MAX - 7, VMBUS_E_INVAL, 0 },
	};
	uint32_t i;

	opts.buf = rb->buf;
	opts.buf_bytes = rb->buf_bytes;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		vmbus_test_at("case %u", i);
		ringbox_set(rb, RINGBOX_IN, cases[i].in);
		ringbox_set(rb, RINGBOX_OUT, cases[i].out);
		opts.next = cases[i].next;
		must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts), cases[i].err);
		if (cases[i].err == VMBUS_E_PEER)
			must_eq(vmbus_ring_rx_fault(&rb->rx)->field, cases[i].field);
	}
	ringbox_free(rb);
}
END_TEST

/* A sender for many threads has no order in which it could note. */
START_TEST(ring_mtx_init__refuses_note_and_resume)
{
	struct ringbox *rb = ringbox_open(SIZE, VMBUS_RING_PLAIN, 0);
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts), .note = note };

	must_eq(ringbox_open_mtx(rb, 64), 0);
	must_eq(vmbus_ring_mtx_init(rb->mtx, &rb->mem, &opts, rb->slots, 64), VMBUS_E_INVAL);
	opts.note = NULL;
	opts.resume = true;
	must_eq(vmbus_ring_mtx_init(rb->mtx, &rb->mem, &opts, rb->slots, 64), VMBUS_E_INVAL);
	ringbox_free(rb);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "note", 20);

	tcase_add_loop_test(tc, ring_note__before_each_store_of_the_write_index, 0,
			    RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_note__before_each_store_of_the_read_index, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_init__resumes, 0, RINGBOX_WINDOWS);
	tcase_add_test(tc, ring_tx_init__refuses_another_index);
	tcase_add_loop_test(tc, ring_rx_init__resumes, 0, RINGBOX_WINDOWS);
	tcase_add_test(tc, ring_rx_init__refuses_another_index_or_place);
	tcase_add_test(tc, ring_mtx_init__refuses_note_and_resume);
}

VMBUS_TEST_MAIN("ring.note", tests)
