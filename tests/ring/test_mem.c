/* SPDX-License-Identifier: MIT */
/* Where the memory of a ring is, and copies within its window: src/ring/mem.c and copy.h. */
#include "ringbox.h"

#include "ring/copy.h"

START_TEST(ring_limits__of_each_size)
{
	static const struct {
		uint32_t size, send, accept;
	} table[] = {
		{ 4096, 4080, 4088 },	      { 8192, 8176, 8184 },
		{ 524288, 524272, 524280 },   { 524288 + 4096, 524288, 524288 },
		{ 1u << 30, 524288, 524288 },
	};
	unsigned int i;

	/* [RING-LIMIT] */
	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		must_eq(vmbus_ring_max_send(table[i].size), table[i].send);
		must_eq(vmbus_ring_max_accept(table[i].size), table[i].accept);
		must(vmbus_ring_rx_buf_bytes(table[i].size) >= table[i].accept + 64);
	}
	for (i = 0; i <= 16; i++)
		must_eq(vmbus_ring_max_send(i), 0);
	must_eq(vmbus_ring_max_accept(8), 0);
	must(vmbus_ring_rx_buf_bytes(0) >= VMBUS_RING_RX_BUF_MIN);
}
END_TEST

static _Alignas(4096) uint8_t page[3 * 4096];

static struct vmbus_ring_mem_opts good_opts(void)
{
	return (struct vmbus_ring_mem_opts){ .struct_bytes = sizeof(struct vmbus_ring_mem_opts),
					     .window = VMBUS_RING_PLAIN,
					     .size = 8192,
					     .ctl = page,
					     .data = page + 4096 };
}

static void must_refuse(const struct vmbus_ring_mem_opts *opts, int err)
{
	struct vmbus_ring_mem mem;
	uint8_t before[sizeof(mem)];

	memset(&mem, 0x5a, sizeof(mem));
	memcpy(before, &mem, sizeof(mem));
	must_eq(vmbus_ring_mem_init(&mem, opts), err);
	must(memcmp(&mem, before, sizeof(mem)) == 0);
}

/* [RING-SIZE] */
START_TEST(ring_mem_init__refuses_sizes)
{
	static const uint32_t sizes[] = { 0,	      1,	  8,	      4088,	 4095,
					  4097,	      4104,	  6144,	      8184,	 0x40000008,
					  0x40001000, 0x80000000, 0xfffff000, 0xffffffff };
	struct vmbus_ring_mem_opts opts = good_opts();
	struct vmbus_ring_mem mem;
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		opts.size = sizes[i];
		must_refuse(&opts, VMBUS_E_RANGE);
	}
	opts.size = 4096;
	must_eq(vmbus_ring_mem_init(&mem, &opts), 0);
	opts.size = 1u << 30; /* described only; the memory is not touched */
	must_eq(vmbus_ring_mem_init(&mem, &opts), 0);
	opts.window = VMBUS_RING_MIRRORED;
	must_eq(vmbus_ring_mem_init(&mem, &opts), 0);
	must(mem.linear_p == 1u << 31);
}
END_TEST

START_TEST(ring_mem_init__refuses_pointers_and_windows)
{
	void *pages[] = { page + 4096, page + 8192 };
	struct vmbus_dirty dirty = { 0 };
	struct vmbus_ring_mem_opts opts = good_opts();
	struct vmbus_ring_mem mem;
	size_t i;

	for (i = 1; i < 64; i++) {
		opts.ctl = page + i;
		must_refuse(&opts, VMBUS_E_INVAL);
	}
	opts.ctl = NULL;
	must_refuse(&opts, VMBUS_E_INVAL);
	opts = good_opts();
	for (i = 1; i < 8; i++) {
		opts.data = page + 4096 + i;
		must_refuse(&opts, VMBUS_E_INVAL);
		pages[1] = page + 8192 + i;
		opts.pages = pages;
		opts.window = VMBUS_RING_SCATTERED;
		must_refuse(&opts, VMBUS_E_INVAL);
		opts.window = VMBUS_RING_PLAIN;
	}
	opts.data = NULL;
	must_refuse(&opts, VMBUS_E_INVAL);
	opts.window = VMBUS_RING_MIRRORED;
	must_refuse(&opts, VMBUS_E_INVAL);
	opts.window = VMBUS_RING_SCATTERED;
	pages[1] = NULL;
	must_refuse(&opts, VMBUS_E_INVAL);
	opts.pages = NULL;
	must_refuse(&opts, VMBUS_E_INVAL);
	opts = good_opts();
	opts.window = (enum vmbus_ring_window)3;
	must_refuse(&opts, VMBUS_E_INVAL);
	opts = good_opts();
	opts.dirty = &dirty;
	must_refuse(&opts, VMBUS_E_INVAL);
	opts = good_opts();
	for (i = 0; i < sizeof(opts); i++) {
		opts.struct_bytes = i;
		must_refuse(&opts, VMBUS_E_INVAL);
	}
	opts.struct_bytes = sizeof(opts) + 64; /* a later version's */
	must_eq(vmbus_ring_mem_init(&mem, &opts), 0);
}
END_TEST

START_TEST(ring_mem_init__does_not_touch_the_memory)
{
	struct vmbus_ring_mem_opts opts = good_opts();
	struct vmbus_ring_mem mem;
	size_t i;

	memset(page, 0x77, sizeof(page));
	must_eq(vmbus_ring_mem_init(&mem, &opts), 0);
	for (i = 0; i < sizeof(page); i++)
		must_eq(page[i], 0x77);
}
END_TEST

/* [RING-CTL], [RING-INIT]: five words, and no other byte of the page. */
START_TEST(ring_mem_clear__writes_five_words)
{
	static const uint8_t one[] = { 1, 0, 0, 0 };
	struct vmbus_ring_mem_opts opts = good_opts();
	struct vmbus_ring_mem mem;
	size_t i;

	memset(page, 0x77, sizeof(page));
	must_eq(vmbus_ring_mem_init(&mem, &opts), 0);
	vmbus_ring_mem_clear(&mem);
	for (i = 0; i < 16; i++)
		must_eq(page[i], 0);
	must(memcmp(page + 64, one, 4) == 0);
	for (i = 16; i < sizeof(page); i++)
		must(page[i] == 0x77 || (i >= 64 && i < 68));
}
END_TEST

/* Offsets at which pieces may begin and end, and lengths. */
static const uint32_t edges[] = { 0,	8,    16,   2048, 4080,	 4088, 4096,
				  4104, 8184, 8192, 8200, 12272, 12280 };
#define EDGES (int)(sizeof(edges) / sizeof(edges[0]))
#define WINDOW_SIZE 12288u

/* Every pair of edges as place and length: what is read is what lies there, going round. */
START_TEST(mem_read__every_place_and_length)
{
	struct ringbox *rb = ringbox_new(WINDOW_SIZE, ringbox_windows[_i / EDGES]);
	const uint32_t at = edges[_i % EDGES];
	static uint8_t got[WINDOW_SIZE + 64], expected[WINDOW_SIZE];
	uint32_t len, i;
	int e;

	ringbox_fill(ringbox_data(rb), WINDOW_SIZE, 7);
	for (e = 0; e < EDGES * 9; e++) {
		len = edges[e / 9] + (uint32_t)(e % 9);
		vmbus_test_at("%s at %u len %u", ringbox_window_name[rb->window], at, len);
		memset(got, 0x5a, sizeof(got));
		ringbox_copy_out(rb, at, expected, len);
		vmbus__mem_read(&rb->mem, at, got, len);
		must(memcmp(got, expected, len) == 0);
		for (i = len; i < sizeof(got); i++)
			must_eq(got[i], 0x5a);
	}
	ringbox_free(rb);
}
END_TEST

START_TEST(mem_write__every_place_and_length)
{
	struct ringbox *rb = ringbox_new(WINDOW_SIZE, ringbox_windows[_i / EDGES]);
	const uint32_t at = edges[_i % EDGES];
	static uint8_t from[WINDOW_SIZE], expected[WINDOW_SIZE];
	uint32_t len, i;
	int e;

	ringbox_fill(from, WINDOW_SIZE, 9);
	for (e = 0; e < EDGES * 9; e++) {
		len = edges[e / 9] + (uint32_t)(e % 9);
		vmbus_test_at("%s at %u len %u", ringbox_window_name[rb->window], at, len);
		memset(ringbox_data(rb), 0, WINDOW_SIZE);
		memset(expected, 0, WINDOW_SIZE);
		for (i = 0; i < len; i++)
			expected[(at + i) % WINDOW_SIZE] = from[i];
		vmbus__mem_write(&rb->mem, at, from, len);
		must(memcmp(ringbox_data(rb), expected, WINDOW_SIZE) == 0);
	}
	ringbox_free(rb);
}
END_TEST

/* A piece is where it should be, never longer than asked, and as long as the window allows. */
START_TEST(mem_piece__ends_where_the_window_breaks)
{
	struct ringbox *rb = ringbox_new(WINDOW_SIZE, ringbox_windows[_i]);
	uint32_t at, here, most;
	int e;

	for (at = 0; at < WINDOW_SIZE; at += 8)
		for (e = 1; e < EDGES; e++) {
			const uint8_t *p = vmbus__mem_piece(&rb->mem, at, edges[e], &here);

			most = rb->window == VMBUS_RING_SCATTERED  ? 4096 - at % 4096
			       : rb->window == VMBUS_RING_MIRRORED ? 2 * WINDOW_SIZE - at
								   : WINDOW_SIZE - at;
			must_eq(here, edges[e] < most ? edges[e] : most);
			must_eq(ringbox_place_of(rb, p), 4096 + (long)at);
			must_eq(vmbus__mem_linear(&rb->mem, at, edges[e]),
				rb->window != VMBUS_RING_SCATTERED && edges[e] <= most);
		}
	ringbox_free(rb);
}
END_TEST

/*
 * The page of the protocol is 4096 bytes whatever the host's is.  Here each page of the ring lies
 * at the start, or at an odd multiple of 8, of an area of 4 or 64 KiB; the rest of the areas, and
 * of the control page's, stays untouched.
 */
START_TEST(lesson_32_pages_of_4096_in_larger_ones)
{
	static const size_t strides[] = { 4096, 65536 };
	const size_t stride = strides[_i % 2], shift = _i / 2 ? 24 : 0;
	const uint32_t count = 3, size = count * 4096;
	uint8_t *area = aligned_alloc(65536, (count + 2) * 65536);
	void *pages[3];
	struct vmbus_ring_mem_opts opts = { .struct_bytes = sizeof(opts),
					    .window = VMBUS_RING_SCATTERED,
					    .size = size,
					    .ctl = area,
					    .pages = pages };
	const struct vmbus_ring_opts end = { .struct_bytes = sizeof(end),
					     .buf = malloc(vmbus_ring_rx_buf_bytes(size)),
					     .buf_bytes = vmbus_ring_rx_buf_bytes(size) };
	struct vmbus_ring_mem mem;
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	struct vmbus_packet pkt;
	uint8_t data[1000];
	uint32_t i, k;
	size_t b;

	must(area && end.buf);
	memset(area, 0x77, (count + 2) * 65536);
	for (i = 0; i < count; i++)
		pages[i] = area + (count - i) * stride + shift;
	must_eq(vmbus_ring_mem_init(&mem, &opts), 0);
	vmbus_ring_mem_clear(&mem);
	must_eq(vmbus_ring_tx_init(&tx, &mem, NULL), 0);
	must_eq(vmbus_ring_rx_init(&rx, &mem, &end), 0);
	for (k = 0; k < 500; k++) {
		const uint32_t len = k * 13 % sizeof(data);
		const struct vmbus_msg msg = ringbox_msg(k, data, len);

		ringbox_fill(data, len, k);
		must_eq(vmbus_ring_tx_put(&tx, &msg, 1), 1);
		must_eq(vmbus_ring_rx_get(&rx, &pkt, 1), 1);
		ringbox_must_be(&pkt, k, data, len);
	}
	for (b = 68; b < stride; b++)
		must_eq(area[b], 0x77);
	for (i = 1; i <= count && stride > 4096; i++)
		for (b = shift + 4096; b < stride; b++)
			must_eq(area[i * stride + b], 0x77);
	free(end.buf);
	free(area);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "describe", 5);

	tcase_add_test(tc, ring_limits__of_each_size);
	tcase_add_test(tc, ring_mem_init__refuses_sizes);
	tcase_add_test(tc, ring_mem_init__refuses_pointers_and_windows);
	tcase_add_test(tc, ring_mem_init__does_not_touch_the_memory);
	tcase_add_test(tc, ring_mem_clear__writes_five_words);
	tc = vmbus_test_case(suite, "window", 5);
	tcase_add_loop_test(tc, mem_read__every_place_and_length, 0, EDGES * RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, mem_write__every_place_and_length, 0, EDGES * RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, mem_piece__ends_where_the_window_breaks, 0, RINGBOX_WINDOWS);
	tcase_add_loop_test(tc, lesson_32_pages_of_4096_in_larger_ones, 0, 4);
}

VMBUS_TEST_MAIN("ring.mem", tests)
