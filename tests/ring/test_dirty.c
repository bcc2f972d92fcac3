/* SPDX-License-Identifier: MIT */
/*
 * The marker of written pages, as the ring uses it: every byte of the shared pages that a call has
 * changed lies in a page that the same call has marked, and a put marks no page that it had no
 * reason to write.
 */
#include "ringbox.h"

#include "ring/index.h"

#define SIZE 16384u
#define PAGES (SIZE / 4096)
#define CTL_FRAME 90u
#define FRAMES 128u

static struct ringbox *rb;
static struct vmbus_dirty dirty;
static uint64_t bitmap[4];
static const uint64_t frame_list[PAGES] = { 77, 3, 64, 63 };
static uint8_t before_ctl[4096], before[SIZE];
static uint32_t marked; /* pages marked by the last call; bit PAGES is the control page */
static uint32_t changed;

static uint64_t frame_of(uint32_t page)
{
	return page == PAGES ? CTL_FRAME : dirty.frame_list ? frame_list[page] : 10u + page;
}

/* Set up a ring with a marker; _i: window, and a list of frames or a run of them. */
static void open_box(int i, uint32_t index)
{
	rb = ringbox_new(SIZE, ringbox_windows[i / 2]);
	dirty = (struct vmbus_dirty){ .bitmap = bitmap,
				      .frames = FRAMES,
				      .ctl_frame = CTL_FRAME,
				      .first_frame = 10,
				      .frame_list = i % 2 ? frame_list : NULL };
	rb->mem_opts.dirty = &dirty;
	must_eq(vmbus_ring_mem_init(&rb->mem, &rb->mem_opts), 0);
	ringbox_start_at(rb, index);
}

static void look(void)
{
	memset(bitmap, 0, sizeof(bitmap));
	memcpy(before_ctl, rb->ctl, 4096);
	memcpy(before, ringbox_data(rb), SIZE);
}

/* After a call: what it changed is marked, and no bit is set that is no page of this ring. */
static void compare(void)
{
	uint64_t expected[4] = { 0 };
	uint32_t page, i;

	marked = 0;
	changed = 0;
	for (page = 0; page <= PAGES; page++) {
		const uint64_t frame = frame_of(page);
		const uint8_t *was = page == PAGES ? before_ctl : before + page * 4096;
		const uint8_t *is = page == PAGES ? rb->ctl : ringbox_data(rb) + page * 4096;

		if (bitmap[frame / 64] >> (frame % 64) & 1) {
			marked |= 1u << page;
			expected[frame / 64] |= (uint64_t)1 << (frame % 64);
		}
		if (memcmp(was, is, 4096) != 0)
			changed |= 1u << page;
	}
	for (i = 0; i < 4; i++)
		must(bitmap[i] == expected[i]);
	must_eq(changed & ~marked, 0);
}

#define MARKS(call)                                                                                \
	do {                                                                                       \
		look();                                                                            \
		call;                                                                              \
		compare();                                                                         \
	} while (0)

/* Pages that so many bytes from an index on lie in. */
static uint32_t pages_of(uint32_t at, uint32_t bytes)
{
	uint32_t set = 0, i;

	for (i = 0; i < bytes; i += 8)
		set |= 1u << (at + i) % SIZE / 4096;
	return set;
}

/* Packets of many sizes at many places: exactly their pages and the control page. */
START_TEST(ring_tx_put__marks_the_pages_of_the_batch)
{
	static uint8_t data[9000];
	uint32_t len, at, n;
	int got = 0;

	open_box(_i, 0);
	must_eq(ringbox_open_tx(rb), 0);
	for (len = 0; len <= sizeof(data); len += len < 16 ? 5 : 347)
		for (at = len % 64 * 8; at < SIZE; at += 4096 - 56)
			for (n = 1; n <= 2 && n * (len + 31) < SIZE; n++) {
				struct vmbus_msg msg[2] = { ringbox_msg(1, data, len),
							    ringbox_msg(2, data, len) };
				const uint32_t bytes = n * (24 + (len + 7) / 8 * 8);

				ringbox_fill(data, len, at + n);
				ringbox_start_at(rb, at / 8 * 8);
				must_eq(ringbox_open_tx(rb), 0);
				memset(ringbox_data(rb), 0xe5, SIZE);
				MARKS(got = vmbus_ring_tx_put(&rb->tx, msg, n));
				vmbus_test_at("len %u at %u n %u", len, at, n);
				must_eq(got, (int)n);
				must_eq(marked, pages_of(at / 8 * 8, bytes) | 1u << PAGES);
			}
	ringbox_free(rb);
}
END_TEST

static void reserve_and_fill(uint32_t len, uint32_t seed)
{
	struct vmbus_msg msg = ringbox_msg(1, NULL, len);
	struct vmbus_span span[8];
	int n = vmbus_ring_tx_reserve(&rb->tx, &msg, span, 8), k;

	must(n >= 0);
	for (k = 0; k < n; k++)
		memset(span[k].base, (int)(seed % 200 + 1), span[k].len);
}

/* Reserved bytes are marked by the commit, or by the abort: they were written either way. */
START_TEST(ring_tx_reserve__marks_at_commit_or_abort)
{
	uint32_t at;

	open_box(_i, 0);
	for (at = 0; at < SIZE; at += 1000) {
		ringbox_start_at(rb, at);
		MARKS(must_eq(ringbox_open_tx(rb), 0));
		memset(ringbox_data(rb), 0xe5, SIZE);
		MARKS(reserve_and_fill(5000, at); reserve_and_fill(100, at);
		      must_eq(vmbus_ring_tx_commit(&rb->tx), 2));
		must_eq(marked, pages_of(at, 5024 + 128) | 1u << PAGES);
		MARKS(reserve_and_fill(3000, at + 1); reserve_and_fill(5000, at + 2);
		      vmbus_ring_tx_abort(&rb->tx));
		must((marked % (1u << PAGES)) != 0);
	}
	ringbox_free(rb);
}
END_TEST

/* A put that finds the peer broken when it has written already. */
START_TEST(ring_tx_put__marks_what_a_fault_left_behind)
{
	static uint8_t data[5000];
	const struct vmbus_msg msg[] = { ringbox_msg(1, data, 5000), ringbox_msg(2, data, 5000),
					 ringbox_msg(3, data, 5000), ringbox_msg(4, data, 5000) };

	open_box(_i, 3000);
	must_eq(ringbox_open_tx(rb), 0);
	ringbox_fill(data, sizeof(data), 1);
	ringbox_set(rb, RINGBOX_OUT, 3); /* seen when room is short */
	MARKS(must_eq(vmbus_ring_tx_put(&rb->tx, msg, 4), VMBUS_E_PEER));
	must((marked % (1u << PAGES)) != 0);
	must_eq(ringbox_get(rb, RINGBOX_IN), 3000);
	ringbox_free(rb);
}
END_TEST

/* All other calls that write: init, arm, disarm, get, consume; and the many-thread sender. */
START_TEST(ring__marks_the_control_page)
{
	static uint8_t data[3000];
	const struct vmbus_msg msg = ringbox_msg(1, data, 3000);
	struct vmbus_packet pkt[8];
	int k;

	open_box(_i, 8000);
	ringbox_set(rb, RINGBOX_PENDING, 7);
	ringbox_set(rb, RINGBOX_FEATURES, 0);
	MARKS(vmbus_ring_mem_clear(&rb->mem));
	must_eq(changed, 1u << PAGES);
	MARKS(must_eq(ringbox_open_rx(rb, 0), 0));
	must_eq(changed, 1u << PAGES);
	ringbox_set(rb, RINGBOX_FEATURES, 0);
	MARKS(must_eq(ringbox_open_tx(rb), 0));
	must_eq(changed, 1u << PAGES);
	MARKS(must_eq(vmbus_ring_rx_arm(&rb->rx), VMBUS_RING_SLEEP));
	must_eq(changed, 1u << PAGES);
	MARKS(vmbus_ring_rx_disarm(&rb->rx));
	must_eq(changed, 1u << PAGES);
	for (k = 0; k < 5; k++)
		MARKS(must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1));
	MARKS(must_eq(vmbus_ring_tx_arm(&rb->tx, 8000), VMBUS_RING_SLEEP));
	must_eq(changed, 1u << PAGES);
	MARKS(must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 2), 2));
	MARKS(must_eq(vmbus_ring_rx_consume(&rb->rx), 0));
	must_eq(changed, 1u << PAGES);
	MARKS(vmbus_ring_tx_disarm(&rb->tx));
	must_eq(changed, 1u << PAGES);
	MARKS(must_eq(vmbus_ring_rx_get_in_peer_memory(&rb->rx, pkt, 8), 3));
	MARKS(must_eq(vmbus_ring_rx_get(&rb->rx, pkt, 8), 0));
	must_eq(changed, 1u << PAGES);
	MARKS(must_eq(ringbox_open_mtx(rb, 8), 0));
	for (k = 0; k < 5; k++) {
		ringbox_fill(data, sizeof(data), 10 + (uint32_t)k);
		MARKS(must_eq(vmbus_ring_mtx_put(rb->mtx, &msg, 1), 1));
		must((changed % (1u << PAGES)) != 0);
	}
	MARKS(must_eq(vmbus_ring_mtx_arm(rb->mtx, 8000), VMBUS_RING_SLEEP));
	must_eq(changed, 1u << PAGES);
	MARKS(vmbus_ring_mtx_disarm(rb->mtx));
	must_eq(changed, 1u << PAGES);
	ringbox_free(rb);
}
END_TEST

/* Frames past the end of the bitmap are passed over. */
START_TEST(ring__bitmap_shorter_than_the_ring)
{
	static uint8_t data[8000];
	const struct vmbus_msg msg = ringbox_msg(1, data, sizeof(data));

	open_box(0, 0);
	dirty.frames = 11;
	must_eq(ringbox_open_tx(rb), 0);
	look();
	must_eq(vmbus_ring_tx_put(&rb->tx, &msg, 1), 1);
	must(bitmap[0] == 1u << 10);
	must(bitmap[1] == 0 && bitmap[2] == 0 && bitmap[3] == 0);
	ringbox_free(rb);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "dirty", 10);

	tcase_add_loop_test(tc, ring_tx_put__marks_the_pages_of_the_batch, 0, 2 * RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_reserve__marks_at_commit_or_abort, 0, 2 * RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring_tx_put__marks_what_a_fault_left_behind, 0,
			    2 * RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, ring__marks_the_control_page, 0, 2 * RINGBOX_WINDOWS);
	tcase_add_test(tc, ring__bitmap_shorter_than_the_ring);
}

VMBUS_TEST_MAIN("ring.dirty", tests)
