/* SPDX-License-Identifier: MIT */
/* The map of a partition's memory, src/mem/mem.c, against a model that looks at every byte. */
#include "membox.h"

#define LAST_PAGE (UINT64_MAX - 4095)

static uint8_t page[3 * 4096];

static const struct {
	uint64_t gpa, bytes;
	bool host;
	uint32_t access;
	int err;
} regions[] = {
	{ 0, 4096, true, VMBUS_READ, 0 },
	{ 4096, 3 * 4096, true, VMBUS_READ_WRITE, 0 },
	{ LAST_PAGE, 4096, true, VMBUS_READ, 0 },
	{ 0, UINT64_MAX - 4095, true, VMBUS_READ, 0 },
	{ 0, 0, true, VMBUS_READ, VMBUS_E_RANGE },
	{ 1, 4096, true, VMBUS_READ, VMBUS_E_RANGE },
	{ 2048, 4096, true, VMBUS_READ, VMBUS_E_RANGE },
	{ 4096, 4095, true, VMBUS_READ, VMBUS_E_RANGE },
	{ 4096, 4097, true, VMBUS_READ, VMBUS_E_RANGE },
	{ LAST_PAGE, 8192, true, VMBUS_READ, VMBUS_E_RANGE },
	{ 8192, UINT64_MAX - 4095, true, VMBUS_READ, VMBUS_E_RANGE },
	{ 0, 4096, false, VMBUS_READ, VMBUS_E_INVAL },
	{ 0, 4096, true, 0, VMBUS_E_INVAL },
	{ 0, 4096, true, 4, VMBUS_E_INVAL },
	{ 0, 4096, true, 7, VMBUS_E_INVAL },
};

START_TEST(mem_init__checks_each_region)
{
	struct vmbus_region r = { .gpa = regions[_i].gpa,
				  .bytes = regions[_i].bytes,
				  .host = regions[_i].host ? page : NULL,
				  .access = regions[_i].access };
	struct vmbus_region *list[1] = { &r };
	struct vmbus_mem mem, none;

	must_eq(vmbus_mem_init(&mem, list, 1, NULL), regions[_i].err);
	must((vmbus_mem_find(&mem, gpa_at(r.gpa)) == &r) == (regions[_i].err == 0));
	must_eq(vmbus_mem_init(&none, NULL, 0, NULL), 0);
	must_eq(vmbus_mem_with(&mem, &none, &r), regions[_i].err);
	must((vmbus_mem_find(&mem, gpa_at(r.gpa)) == &r) == (regions[_i].err == 0));
}
END_TEST

START_TEST(mem_init__refuses_overlap_and_no_region)
{
	struct vmbus_region a = { .gpa = 0x10000, .bytes = 0x4000, .host = page, .access = 1 };
	struct vmbus_region b = { .bytes = 0x2000, .host = page, .access = 1 };
	struct vmbus_region *list[3] = { &a, &b, NULL };
	struct vmbus_mem mem;
	uint64_t at;

	for (at = 0xC000; at <= 0x16000; at += 0x1000) {
		const bool apart = at + 0x2000 <= 0x10000 || at >= 0x14000;

		b.gpa = at;
		vmbus_test_at("at %llx", (unsigned long long)at);
		must_eq(vmbus_mem_init(&mem, list, 2, NULL), apart ? 0 : VMBUS_E_INVAL);
		list[0] = &b;
		list[1] = &a;
		must_eq(vmbus_mem_init(&mem, list, 2, NULL), apart ? 0 : VMBUS_E_INVAL);
		list[0] = &a;
		list[1] = &b;
		if (!apart)
			must(vmbus_mem_find(&mem, gpa_at(0x10000)) == NULL);
	}
	must_eq(vmbus_mem_init(&mem, list, 3, NULL), VMBUS_E_INVAL);
	list[1] = &a;
	must_eq(vmbus_mem_init(&mem, list, 2, NULL), VMBUS_E_INVAL);
}
END_TEST

START_TEST(mem_init__takes_64_regions_in_any_order)
{
	static struct vmbus_region r[VMBUS_REGIONS_MAX + 1];
	struct vmbus_region *list[VMBUS_REGIONS_MAX + 1];
	struct vmbus_mem mem, more;
	uint32_t i;

	for (i = 0; i <= VMBUS_REGIONS_MAX; i++) {
		r[i].gpa = (uint64_t)(i * 29 % 65) * 8192;
		r[i].bytes = 4096;
		r[i].host = page;
		r[i].access = VMBUS_READ;
		list[i] = &r[i];
	}
	must_eq(vmbus_mem_init(&mem, list, VMBUS_REGIONS_MAX, NULL), 0);
	for (i = 0; i < VMBUS_REGIONS_MAX; i++) {
		must(vmbus_mem_find(&mem, gpa_at(r[i].gpa)) == &r[i]);
		must(vmbus_mem_find(&mem, gpa_at(r[i].gpa + 4095)) == &r[i]);
		must(vmbus_mem_find(&mem, gpa_at(r[i].gpa + 4096)) == NULL);
	}
	must_eq(vmbus_mem_with(&more, &mem, &r[VMBUS_REGIONS_MAX]), VMBUS_E_RANGE);
	must_eq(vmbus_mem_init(&mem, list, VMBUS_REGIONS_MAX + 1, NULL), VMBUS_E_RANGE);
	must_eq(vmbus_mem_init(&mem, list, UINT32_MAX, NULL), VMBUS_E_RANGE);
}
END_TEST

START_TEST(mem_with__leaves_the_old_map_alone)
{
	struct vmbus_region a = { .gpa = 0, .bytes = 4096, .host = page, .access = 1 };
	struct vmbus_region b = { .gpa = 4096, .bytes = 4096, .host = page + 4096, .access = 1 };
	struct vmbus_region *list[1] = { &a };
	struct vmbus_mem one, two, less;
	uint8_t got[2];

	must_eq(vmbus_mem_init(&one, list, 1, NULL), 0);
	must_eq(vmbus_mem_with(&one, &one, &b), VMBUS_E_INVAL);
	must_eq(vmbus_mem_with(&two, &one, &a), VMBUS_E_INVAL);
	must_eq(vmbus_mem_with(&two, &one, &b), 0);
	must(vmbus_mem_find(&one, gpa_at(4096)) == NULL);
	must(vmbus_mem_find(&two, gpa_at(4096)) == &b);
	must_eq(vmbus_mem_read(&two, gpa_at(4095), got, 2), 0);
	must_eq(vmbus_mem_without(&two, &two, &a), VMBUS_E_INVAL);
	must_eq(vmbus_mem_without(&less, &one, &b), VMBUS_E_INVAL);
	must(vmbus_mem_find(&less, gpa_at(0)) == NULL); /* empty */
	must_eq(vmbus_mem_read(&less, gpa_at(0), got, 1), VMBUS_E_RANGE);
	must_eq(vmbus_mem_without(&less, &two, &a), 0);
	must(vmbus_mem_find(&less, gpa_at(0)) == NULL);
	must(vmbus_mem_find(&less, gpa_at(4096)) == &b);
	must(vmbus_mem_find(&two, gpa_at(0)) == &a);
	must_eq(vmbus_mem_without(&one, &less, &b), 0);
	must(vmbus_mem_find(&one, gpa_at(4096)) == NULL);
	must_eq(vmbus_mem_without(&two, &one, &b), VMBUS_E_INVAL);
}
END_TEST

/* What the model says of a copy: 0, RANGE or PERM, whichever a walk from the start meets first. */
static int model_check(struct membox *b, uint64_t gpa, uint32_t len, uint32_t access)
{
	uint32_t i;

	for (i = 0; i < len; i++) {
		struct vmbus_region *r = box_region(b, gpa + i);

		if (!r || (i > 0 && gpa + i == 0))
			return VMBUS_E_RANGE;
		if ((r->access & access) != access)
			return VMBUS_E_PERM;
	}
	return 0;
}

static void one_copy(struct membox *b, uint64_t gpa, uint32_t len)
{
	static uint8_t got[BOX_BYTES], put[BOX_BYTES], was[BOX_BYTES];
	uint32_t i;
	int err;

	memset(got, 0xEE, len);
	err = vmbus_mem_read(&b->mem, gpa_at(gpa), got, len);
	must_eq(err, model_check(b, gpa, len, VMBUS_READ));
	for (i = 0; i < len; i++)
		must_eq(got[i], err ? 0xEE : *box_byte(b, gpa + i));
	for (i = 0; i < len; i++) {
		put[i] = (uint8_t)box_random(256);
		was[i] = box_byte(b, gpa + i) ? *box_byte(b, gpa + i) : 0;
	}
	err = vmbus_mem_write(&b->mem, gpa_at(gpa), put, len);
	must_eq(err, model_check(b, gpa, len, VMBUS_WRITE));
	for (i = 0; i < len; i++)
		if (box_byte(b, gpa + i))
			must_eq(*box_byte(b, gpa + i), err ? was[i] : put[i]);
}

static void one_map(struct membox *b, uint64_t gpa, uint32_t len, uint32_t access)
{
	struct vmbus_region *r = box_region(b, gpa);
	void *host = page;
	int want = 0;

	if (len == 0 || !r || box_region(b, gpa + (len - 1)) != r || gpa + (len - 1) < gpa)
		want = VMBUS_E_RANGE;
	else if ((r->access & access) != access)
		want = VMBUS_E_PERM;
	must_eq(vmbus_mem_map(&b->mem, gpa_at(gpa), len, (enum vmbus_access)access, &host), want);
	must(host == (want ? (void *)page : (void *)box_byte(b, gpa)));
	must(vmbus_mem_find(&b->mem, gpa_at(gpa)) == r);
}

/* Test i: at the bottom, in the middle, and at the very end of all addresses. */
START_TEST(mem__agrees_with_the_model)
{
	static const uint64_t bases[] = { 0, 0x100000, UINT64_MAX - BOX_BYTES + 1 };
	struct membox b;
	uint32_t round, copy;

	box_seed = 77u + (uint32_t)_i;
	for (round = 0; round < 150; round++) {
		box_begin(&b, bases[_i]);
		box_fill(&b, round % 2 ? VMBUS_READ_WRITE : 0);
		box_ready(&b, false);
		for (copy = 0; copy < 20; copy++) {
			const uint64_t gpa = bases[_i] + box_random(BOX_BYTES);
			const uint32_t len = box_random(copy % 2 ? 9000 : 40);

			vmbus_test_at("round %u, gpa %llx, %u bytes", round,
				      (unsigned long long)gpa, len);
			one_copy(&b, gpa, len);
			one_map(&b, gpa, len, 1 + box_random(3));
		}
		box_free(&b);
	}
}
END_TEST

static const struct {
	uint64_t gpa;
	uint64_t len;
	int err;
} reach[] = {
	{ 0x3000, 0, 0 },
	{ 0, 0, 0 },
	{ 0x3FFF, 1, 0 },
	{ 0x3FFF, 2, VMBUS_E_RANGE },
	{ 0, 1, VMBUS_E_RANGE },
	{ 0x1000, 0x3000, 0 },
	{ 0x1000, 0x3001, VMBUS_E_RANGE },
	{ 0x1000, 0x5000, VMBUS_E_RANGE }, /* over a hole into a region */
	{ 0x1000, UINT64_MAX, VMBUS_E_RANGE },
	{ 0x1000, UINT64_MAX - 0xFFF, VMBUS_E_RANGE }, /* end at 2^64: 0x1000 + len is 0 */
	{ 0x1001, UINT64_MAX - 0xFFF, VMBUS_E_RANGE }, /* the sum would be 1 */
	{ LAST_PAGE, 4096, 0 },
	{ LAST_PAGE, 4097, VMBUS_E_RANGE },
	{ LAST_PAGE + 4095, 1, 0 },
	{ LAST_PAGE + 4095, 2, VMBUS_E_RANGE }, /* wraps to 0 */
	{ UINT64_MAX, UINT64_MAX, VMBUS_E_RANGE },
};

/* Only the start of a range was checked, or a sum wrapped: ranges over two regions, holes, 2^64. */
START_TEST(lesson_24_range_crosses_regions_or_ends_at_2_64)
{
	static uint8_t host[4][0x2000], copy[0x4000];
	struct vmbus_region r[4] = {
		{ .gpa = 0x1000, .bytes = 0x2000, .host = host[0], .access = 3 },
		{ .gpa = 0x3000, .bytes = 0x1000, .host = host[1], .access = 3 },
		{ .gpa = 0x5000, .bytes = 0x1000, .host = host[2], .access = 3 },
		{ .gpa = LAST_PAGE, .bytes = 0x1000, .host = host[3], .access = 3 },
	};
	struct vmbus_region *list[4] = { &r[3], &r[1], &r[0], &r[2] };
	struct vmbus_mem mem;

	must_eq(vmbus_mem_init(&mem, list, 4, NULL), 0);
	must_eq(vmbus_mem_read(&mem, gpa_at(reach[_i].gpa), copy, reach[_i].len), reach[_i].err);
	must_eq(vmbus_mem_write(&mem, gpa_at(reach[_i].gpa), copy, reach[_i].len), reach[_i].err);
}
END_TEST

/* A header that lies in two regions, split at each byte. */
START_TEST(lesson_24_header_split_at_each_byte)
{
	struct membox b;
	uint8_t head[16], got[16];
	uint32_t split, i;

	box_begin(&b, 0);
	box_add(&b, 2, 1, VMBUS_READ_WRITE);
	box_add(&b, 1, 1, VMBUS_READ_WRITE);
	box_ready(&b, false);
	for (i = 0; i < 16; i++)
		head[i] = (uint8_t)(0xA0 + i);
	for (split = 0; split <= 16; split++) {
		const vmbus_gpa_t at = gpa_at(0x2000 - split);

		must_eq(vmbus_mem_write(&b.mem, at, head, 16), 0);
		must_eq(vmbus_mem_read(&b.mem, at, got, 16), 0);
		must(memcmp(head, got, 16) == 0);
		for (i = 0; i < 16; i++)
			must_eq(*box_byte(&b, at.v + i), head[i]);
	}
	box_free(&b);
}
END_TEST

/* A page that may only be read was locked without write intent and then written. */
START_TEST(lesson_33_read_only_region_refuses_writes)
{
	struct membox b;
	uint8_t byte = 0;
	void *host;

	box_begin(&b, 0);
	box_add(&b, 0, 1, VMBUS_READ);
	box_add(&b, 1, 1, VMBUS_WRITE);
	box_ready(&b, true);
	must_eq(vmbus_mem_read(&b.mem, gpa_at(0), &byte, 1), 0);
	must_eq(vmbus_mem_write(&b.mem, gpa_at(0), &byte, 1), VMBUS_E_PERM);
	must_eq(vmbus_mem_write(&b.mem, gpa_at(4096), &byte, 1), 0);
	must_eq(vmbus_mem_read(&b.mem, gpa_at(4096), &byte, 1), VMBUS_E_PERM);
	must_eq(vmbus_mem_map(&b.mem, gpa_at(0), 1, VMBUS_WRITE, &host), VMBUS_E_PERM);
	must_eq(vmbus_mem_map(&b.mem, gpa_at(0), 1, VMBUS_READ_WRITE, &host), VMBUS_E_PERM);
	must_eq(vmbus_mem_map(&b.mem, gpa_at(0), 1, VMBUS_READ, &host), 0);
	must_eq(vmbus_mem_map(&b.mem, gpa_at(4096), 1, VMBUS_READ, &host), VMBUS_E_PERM);
	must_eq(vmbus_mem_map(&b.mem, gpa_at(4096), 1, VMBUS_WRITE, &host), 0);
	must_eq(b.bitmap[0], 2); /* only the page that was written */
	box_free(&b);
}
END_TEST

START_TEST(mem_write__marks_pages_it_wrote)
{
	struct membox b;
	static uint8_t bytes[3 * 4096];
	uint32_t round, i;

	box_begin(&b, 0);
	box_add(&b, 1, 3, VMBUS_READ_WRITE);
	box_add(&b, 4, 4, VMBUS_READ_WRITE);
	b.dirty.frames = 7; /* the last page has no bit */
	box_ready(&b, true);
	for (round = 0; round < 500; round++) {
		const uint64_t gpa =
			4096 + box_random(round % 2 ? 4 * 4096 : 2) * (round % 2 ? 1 : 4096);
		const uint32_t len = round % 4 ? box_random(3 * 4096) : 4096u * box_random(3);

		memset(b.bitmap, 0, sizeof(b.bitmap));
		must_eq(vmbus_mem_read(&b.mem, gpa_at(gpa), bytes, len), 0);
		must_eq(b.bitmap[0], 0);
		must_eq(vmbus_mem_write(&b.mem, gpa_at(gpa), bytes, len), 0);
		for (i = 0; i < 64; i++)
			must_eq(box_is_dirty(&b, i),
				len > 0 && i < 7 && i >= gpa / 4096 && i <= (gpa + len - 1) / 4096);
	}
	memset(b.bitmap, 0, sizeof(b.bitmap));
	must_eq(vmbus_mem_write(&b.mem, gpa_at(7 * 4096), bytes, 4097), VMBUS_E_RANGE);
	must_eq(b.bitmap[0], 0);
	box_free(&b);
}
END_TEST

START_TEST(mem__sizes_do_not_move)
{
	must_eq(sizeof(vmbus_gpa_t), 8);
	must_eq(sizeof(struct vmbus_region), 72);
	must_eq(sizeof(struct vmbus_mem), 544);
	must_eq(sizeof(struct vmbus_piece), 24);
	must_eq(sizeof(struct vmbus_sgl), 120);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "map", 5);

	tcase_add_loop_test(tc, mem_init__checks_each_region, 0,
			    sizeof(regions) / sizeof(regions[0]));
	tcase_add_test(tc, mem_init__refuses_overlap_and_no_region);
	tcase_add_test(tc, mem_init__takes_64_regions_in_any_order);
	tcase_add_test(tc, mem_with__leaves_the_old_map_alone);
	tcase_add_test(tc, mem__sizes_do_not_move);
	tc = vmbus_test_case(suite, "copy", 10);
	tcase_add_loop_test(tc, mem__agrees_with_the_model, 0, 3);
	tcase_add_loop_test(tc, lesson_24_range_crosses_regions_or_ends_at_2_64, 0,
			    sizeof(reach) / sizeof(reach[0]));
	tcase_add_test(tc, lesson_24_header_split_at_each_byte);
	tcase_add_test(tc, lesson_33_read_only_region_refuses_writes);
	tcase_add_test(tc, mem_write__marks_pages_it_wrote);
}

VMBUS_TEST_MAIN("mem.mem", tests)
