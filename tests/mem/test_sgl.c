/* SPDX-License-Identifier: MIT */
/*
 * Lists of pieces of the peer's memory, src/mem/sgl.c, against a model that is an array with the
 * address of every single byte.  Ranges as on the wire: [PKT-GPA], [CTL-GPADL].
 */
#include <signal.h>
#include <sys/mman.h>

#include "base/atomic.h"
#include "membox.h"

#if defined(__SANITIZE_THREAD__)
#define THREADS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREADS_SANITIZED 1
#endif
#endif
#ifndef THREADS_SANITIZED
#define THREADS_SANITIZED 0
#endif

#define PIECES 64u
#define LIST_BYTES_MAX (BOX_BYTES * 2u)

/* The model: the addresses of all bytes of a list, in order. */
struct naive {
	uint32_t count;
	uint64_t gpa[LIST_BYTES_MAX];
};

static struct naive model, model2;
static struct vmbus_piece pieces[2][BOX_PAGES * 4];

static void list_init(struct vmbus_sgl *sgl, uint32_t which, uint32_t room)
{
	memset(sgl, 0x55, sizeof(*sgl));
	sgl->pieces = pieces[which];
	sgl->room = room;
}

/* Append a range with n pages; returns the qwords that it takes. */
static uint32_t put_range(uint64_t *q, uint32_t byte_count, uint32_t byte_offset,
			  const uint64_t *pfns, uint32_t n)
{
	q[0] = byte_count | (uint64_t)byte_offset << 32;
	memcpy(q + 1, pfns, n * sizeof(*pfns));
	return 1 + n;
}

/*
 * What the list must be, byte by byte; qwords as a child may send them, with numbers of 64 bits.
 * Returns 0 or the error; FULL is not the model's matter.
 */
static int naive_from(struct naive *m, struct membox *b, const uint64_t *q, uint32_t count,
		      uint32_t ranges, uint32_t access)
{
	uint64_t at = 0;
	uint32_t r;

	m->count = 0;
	if (ranges == 0)
		return VMBUS_E_PEER;
	for (r = 0; r < ranges; r++) {
		uint64_t bytes, offset, pages, k;

		if (at >= count)
			return VMBUS_E_PEER;
		bytes = q[at] & 0xFFFFFFFFu;
		offset = q[at] >> 32;
		at++;
		pages = (bytes + offset + 4095) / 4096;
		if (bytes == 0 || offset > 4095 || at + pages > count)
			return VMBUS_E_PEER;
		for (k = offset; k < offset + bytes; k++) {
			const uint64_t pfn = q[at + k / 4096];
			const struct vmbus_region *region;

			if (pfn >= (uint64_t)1 << 52)
				return VMBUS_E_PEER;
			region = box_region(b, pfn * 4096);
			if (!region)
				return VMBUS_E_PEER;
			if ((region->access & access) != access)
				return VMBUS_E_PERM;
			must(m->count < LIST_BYTES_MAX);
			m->gpa[m->count++] = pfn * 4096 + k % 4096;
		}
		at += pages;
	}
	return 0;
}

/* The pieces are the model's bytes, in order, merged where they may be; the pins are right. */
static void check_list(struct membox *b, const struct vmbus_sgl *sgl, const struct naive *m)
{
	const struct vmbus_region *before = NULL;
	uint32_t i, at = 0;

	must_eq(sgl->bytes, m->count);
	for (i = 0; i < sgl->count; i++) {
		const struct vmbus_piece *p = &sgl->pieces[i];
		struct vmbus_region *region = box_region(b, p->gpa);
		uint32_t k;

		must(p->len > 0 && p->len <= m->count - at);
		must(region != NULL);
		for (k = 0; k < p->len; k++)
			must(m->gpa[at + k] == p->gpa + k);
		must(p->host == box_byte(b, p->gpa));
		must(box_region(b, p->gpa + p->len - 1) == region);
		must(i == 0 || region != before || m->gpa[at] != m->gpa[at - 1] + 1);
		before = region;
		at += p->len;
	}
	must_eq(at, m->count);
}

/* How many regions the bytes of a model lie in. */
static uint32_t regions_of(struct membox *b, const struct naive *m)
{
	uint32_t i, n = 0;
	bool seen[16] = { false };

	for (i = 0; i < m->count; i++) {
		const struct vmbus_region *r = box_region(b, m->gpa[i]);
		const size_t k = (size_t)(r - b->region);

		n += seen[k] ? 0 : 1;
		seen[k] = true;
	}
	return n;
}

static uint64_t all_pins(const struct membox *b)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; i < b->count; i++)
		n += vmbus_region_pins(&b->region[i]);
	return n;
}

static void check_empty(const struct vmbus_sgl *sgl)
{
	must_eq(sgl->count, 0);
	must_eq(sgl->bytes, 0);
}

/* Ranges that mostly can be; returns the qwords. */
static uint32_t random_ranges(uint64_t *q, uint32_t ranges, uint32_t bad)
{
	uint32_t at = 0, r, i;

	for (r = 0; r < ranges; r++) {
		const uint32_t offset = box_random(4) ? box_random(4096) : 0;
		const uint32_t bytes = 1 + box_random(box_random(3) ? 3000 : 5 * 4096);
		const uint32_t pages = (offset + bytes + 4095) / 4096;
		uint64_t pfn = box_random(BOX_PAGES), pfns[8];

		for (i = 0; i < pages; i++) {
			pfns[i] = pfn;
			pfn = box_random(3) ? (pfn + 1) % BOX_PAGES : box_random(BOX_PAGES);
		}
		at += put_range(q + at, bytes, offset, pfns, pages);
	}
	if (bad == 1)
		q[box_random(at)] ^= (uint64_t)1 << box_random(64);
	return at;
}

/* Marked are the pages of n bytes of the model from off on, and no others. */
static void check_marks(struct membox *b, uint32_t off, uint32_t n)
{
	uint64_t want[4] = { 0 };
	uint32_t i;

	for (i = 0; i < n; i++)
		want[model.gpa[off + i] / 4096 / 64] |= (uint64_t)1
							<< (model.gpa[off + i] / 4096 % 64);
	must(memcmp(want, b->bitmap, sizeof(want)) == 0);
}

/* Slices, copies and marks of one list, each against the model. */
static void use_list(struct membox *b, const struct vmbus_sgl *sgl)
{
	static uint8_t got[LIST_BYTES_MAX], put[LIST_BYTES_MAX], last[BOX_BYTES];
	const uint32_t off = box_random(model.count + 2), len = box_random(model.count + 2);
	const uint32_t n = off >= model.count	     ? 0
			   : len < model.count - off ? len
						     : model.count - off;
	struct vmbus_sgl part;
	uint64_t pins;
	uint32_t i;

	list_init(&part, 1, BOX_PAGES * 4);
	pins = all_pins(b);
	if (off > model.count || len > model.count - off) {
		must_eq(vmbus_sgl_slice(&part, sgl, off, len), VMBUS_E_RANGE);
		check_empty(&part);
		must_eq(all_pins(b), pins);
	} else {
		must_eq(vmbus_sgl_slice(&part, sgl, off, len), 0);
		model2.count = len;
		memcpy(model2.gpa, model.gpa + off, len * sizeof(model.gpa[0]));
		check_list(b, &part, &model2);
		must_eq(all_pins(b), pins + regions_of(b, &model2));
		vmbus_sgl_release(&part);
		must_eq(all_pins(b), pins);
	}
	memset(got, 0xEE, len);
	must_eq(vmbus_sgl_read(sgl, off, got, len), n);
	for (i = 0; i < len; i++)
		must_eq(got[i], i < n ? *box_byte(b, model.gpa[off + i]) : 0xEE);
	for (i = 0; i < len; i++)
		put[i] = (uint8_t)box_random(256);
	memset(b->bitmap, 0, sizeof(b->bitmap));
	must_eq(vmbus_sgl_write(sgl, off, put, len), n);
	for (i = 0; i < n; i++) /* where a list has a byte twice, the later one stays */
		last[model.gpa[off + i]] = put[i];
	for (i = 0; i < n; i++)
		must_eq(*box_byte(b, model.gpa[off + i]), last[model.gpa[off + i]]);
	check_marks(b, off, n);
	memset(b->bitmap, 0, sizeof(b->bitmap));
	vmbus_sgl_dirty(sgl, off, len);
	check_marks(b, off, n);
}

/* Test i: without and with one flipped bit.  Range and subrange against the bytes. */
START_TEST(lesson_09_ranges_agree_with_naive_bytes)
{
	struct membox b;
	struct vmbus_sgl sgl;
	uint64_t q[256];
	uint32_t round, k, good = 0;

	box_seed = 9u + (uint32_t)_i;
	for (round = 0; round < 1500; round++) {
		const uint32_t ranges = 1 + box_random(6);
		const uint32_t access = round % 4 ? VMBUS_READ_WRITE : 1 + box_random(3);
		uint32_t count;
		int want, got;

		box_begin(&b, 0);
		box_fill(&b, round % 8 ? VMBUS_READ_WRITE : 0);
		if (round % 3) { /* few holes, so that most lists can be */
			uint32_t i;

			for (i = 0; i < b.count; i++)
				free(b.region[i].host);
			b.count = 0;
			for (i = 0; i < 4; i++)
				box_add(&b, i * 16, 16, VMBUS_READ_WRITE);
		}
		box_ready(&b, true);
		count = random_ranges(q, ranges, (uint32_t)_i);
		if (box_random(8) == 0)
			count -= box_random(2);
		vmbus_test_at("round %u", round);
		list_init(&sgl, 0, BOX_PAGES * 4);
		want = naive_from(&model, &b, q, count, ranges, access);
		got = vmbus_sgl_from_ranges(&sgl, &b.mem, q, count, ranges,
					    (enum vmbus_access)access);
		must_eq(got, want);
		if (got) {
			check_empty(&sgl);
			must_eq(all_pins(&b), 0);
		} else {
			good++;
			check_list(&b, &sgl, &model);
			must_eq(all_pins(&b), regions_of(&b, &model));
			for (k = 0; k < 4 && access == VMBUS_READ_WRITE; k++)
				use_list(&b, &sgl);
		}
		vmbus_sgl_release(&sgl);
		vmbus_sgl_release(&sgl); /* twice is harmless */
		check_empty(&sgl);
		must_eq(all_pins(&b), 0);
		box_free(&b);
	}
	must(good > 100);
}
END_TEST

/* Two regions: pages 1 to 3 and 4 to 5; page 9 alone, read-only. */
static void small_box(struct membox *b)
{
	box_begin(b, 0);
	box_add(b, 1, 3, VMBUS_READ_WRITE);
	box_add(b, 4, 2, VMBUS_READ_WRITE);
	box_add(b, 9, 1, VMBUS_READ);
	box_ready(b, true);
}

#define HEAD(bytes, offset) ((uint64_t)(bytes) | (uint64_t)(offset) << 32)

static const struct {
	uint64_t q[6];
	uint32_t count, ranges;
	enum vmbus_access access;
	int err;
} hostile[] = {
	{ { HEAD(4096, 0), 1 }, 2, 1, VMBUS_READ, 0 },
	{ { HEAD(4096, 0), 1 }, 2, 0, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(4096, 0), 1 }, 2, 2, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(4096, 0), 1 }, 2, UINT32_MAX, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(4096, 0), 1 }, 1, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(4096, 0), 1 }, 0, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(0, 0), 1 }, 2, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(1, 4095), 1 }, 2, 1, VMBUS_READ, 0 },
	{ { HEAD(2, 4095), 1, 2 }, 2, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(2, 4095), 1, 2 }, 3, 1, VMBUS_READ, 0 },
	{ { HEAD(1, 4096), 1, 2 }, 3, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(1, UINT32_MAX), 1, 2 }, 3, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(UINT32_MAX, 4095), 1, 2 }, 3, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(UINT32_MAX, 0), 1 }, 2, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(0xFFFFF001u, 4095), 1 }, 2, 1, VMBUS_READ, VMBUS_E_PEER }, /* 32 bits: 0 pages */
	{ { HEAD(4096, 0), 0 }, 2, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(4096, 0), 6 }, 2, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(4096, 0), UINT64_MAX }, 2, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(4096, 0), ((uint64_t)1 << 52) + 1 },
	  2,
	  1,
	  VMBUS_READ,
	  VMBUS_E_PEER }, /* shifts out */
	{ { HEAD(4096, 0), ((uint64_t)1 << 52) - 1 }, 2, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(8192, 0), 5, 6 }, 3, 1, VMBUS_READ, VMBUS_E_PEER }, /* the second page is a hole */
	{ { HEAD(12288, 0), 5, 6, 9 }, 4, 1, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(8192, 0), 3, 4 }, 3, 1, VMBUS_READ_WRITE, 0 }, /* crosses two regions */
	{ { HEAD(4096, 0), 9 }, 2, 1, VMBUS_READ, 0 },
	{ { HEAD(4096, 0), 9 }, 2, 1, VMBUS_WRITE, VMBUS_E_PERM },
	{ { HEAD(4096, 0), 9 }, 2, 1, VMBUS_READ_WRITE, VMBUS_E_PERM },
	{ { HEAD(8192, 0), 5, 9 }, 3, 1, VMBUS_WRITE, VMBUS_E_PERM },
	{ { HEAD(4096, 0), 1, HEAD(4096, 0), 2 }, 4, 2, VMBUS_READ, 0 },
	{ { HEAD(4096, 0), 1, HEAD(4096, 0), 2 }, 3, 2, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(4096, 0), 1, HEAD(0, 0), 2 }, 4, 2, VMBUS_READ, VMBUS_E_PEER },
	{ { HEAD(4096, 0), 1, 7, 7 }, 4, 1, VMBUS_READ, 0 }, /* slack after the ranges */
	{ { HEAD(4096, 0), 1 }, 2, 1, (enum vmbus_access)0, VMBUS_E_INVAL },
	{ { HEAD(4096, 0), 1 }, 2, 1, (enum vmbus_access)4, VMBUS_E_INVAL },
};

/* Counts and offsets that a child may send; each list in a block of its exact size. */
START_TEST(lesson_08_ranges_that_cannot_be)
{
	const size_t bytes = hostile[_i].count * sizeof(uint64_t);
	uint64_t *exact = malloc(bytes ? bytes : 1);
	struct vmbus_sgl sgl;
	struct membox b;

	must(exact != NULL);
	memcpy(exact, hostile[_i].q, bytes);
	small_box(&b);
	list_init(&sgl, 0, PIECES);
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, exact, hostile[_i].count, hostile[_i].ranges,
				      hostile[_i].access),
		hostile[_i].err);
	if (hostile[_i].err) {
		check_empty(&sgl);
		must_eq(all_pins(&b), 0);
	} else {
		must_eq(naive_from(&model, &b, exact, hostile[_i].count, hostile[_i].ranges,
				   hostile[_i].access),
			0);
		check_list(&b, &sgl, &model);
	}
	vmbus_sgl_release(&sgl);
	box_free(&b);
	free(exact);
}
END_TEST

/* A range at the very end of all addresses, and none after it. */
START_TEST(lesson_24_last_page_of_all)
{
	static uint8_t host[4096];
	struct vmbus_region r = {
		.gpa = UINT64_MAX - 4095, .bytes = 4096, .host = host, .access = 3
	};
	struct vmbus_region *list[1] = { &r };
	const uint64_t pfn = UINT64_MAX >> 12;
	const uint64_t q[3] = { HEAD(4096, 0), pfn, 0 }, over[3] = { HEAD(4096, 1), pfn, 0 };
	struct vmbus_mem mem;
	struct vmbus_sgl sgl;
	uint8_t copy[4096];

	must_eq(vmbus_mem_init(&mem, list, 1, NULL), 0);
	list_init(&sgl, 0, PIECES);
	must_eq(vmbus_sgl_from_ranges(&sgl, &mem, q, 2, 1, VMBUS_READ_WRITE), 0);
	must_eq(vmbus_sgl_read(&sgl, 0, copy, 4096), 4096);
	must_eq(vmbus_sgl_read(&sgl, 4095, copy, UINT64_MAX), 1);
	must_eq(vmbus_sgl_read(&sgl, 4096, copy, 1), 0);
	must_eq(vmbus_sgl_read(&sgl, UINT64_MAX, copy, UINT64_MAX), 0);
	vmbus_sgl_release(&sgl);
	must_eq(vmbus_sgl_from_ranges(&sgl, &mem, over, 3, 1, VMBUS_READ), VMBUS_E_PEER);
	must_eq(vmbus_region_pins(&r), 0);
}
END_TEST

/* Pages that follow each other become one piece, ranges too; regions never do. */
START_TEST(sgl_from_ranges__merges_what_follows)
{
	const uint64_t q[] = { HEAD(3 * 4096 - 10, 10), 1, 2, 3, HEAD(4096, 0), 4, HEAD(10, 0), 5 };
	struct vmbus_sgl sgl;
	struct membox b;

	small_box(&b);
	list_init(&sgl, 0, 2);
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 8, 3, VMBUS_READ), 0);
	must_eq(sgl.count, 2);
	must_eq(sgl.pieces[0].len, 3 * 4096 - 10);
	must_eq(sgl.pieces[1].len, 4096 + 10);
	must_eq(all_pins(&b), 2);
	vmbus_sgl_release(&sgl);
	sgl.room = 1;
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 8, 3, VMBUS_READ), VMBUS_E_FULL);
	check_empty(&sgl);
	must_eq(all_pins(&b), 0);
	sgl.room = 0;
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 8, 3, VMBUS_READ), VMBUS_E_FULL);
	box_free(&b);
}
END_TEST

/* At most eight regions to a list, all or nothing; a slice needs only its own. */
START_TEST(sgl_from_ranges__pins_eight_regions)
{
	uint64_t q[10] = { HEAD(9 * 4096, 0) };
	struct vmbus_sgl sgl, part;
	struct membox b;
	uint32_t i;

	box_begin(&b, 0);
	for (i = 0; i < 9; i++) {
		box_add(&b, i * 2, 1, VMBUS_READ);
		q[1 + i] = i * 2;
	}
	box_ready(&b, false);
	list_init(&sgl, 0, PIECES);
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 10, 1, VMBUS_READ), VMBUS_E_FULL);
	check_empty(&sgl);
	must_eq(all_pins(&b), 0);
	q[0] = HEAD(8 * 4096, 0);
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 10, 1, VMBUS_READ), 0);
	must_eq(all_pins(&b), 8);
	list_init(&part, 1, 3);
	must_eq(vmbus_sgl_slice(&part, &sgl, 4095, 2), 0);
	must_eq(part.count, 2);
	must_eq(vmbus_region_pins(&b.region[0]), 2);
	must_eq(vmbus_region_pins(&b.region[1]), 2);
	must_eq(vmbus_region_pins(&b.region[2]), 1);
	vmbus_sgl_release(&sgl); /* the part keeps its own */
	must_eq(all_pins(&b), 2);
	must_eq(vmbus_sgl_slice(&sgl, &part, 1, 1), 0);
	must_eq(vmbus_region_pins(&b.region[1]), 2);
	vmbus_sgl_release(&sgl);
	vmbus_sgl_release(&part);
	must_eq(all_pins(&b), 0);
	q[0] = HEAD(8 * 4096, 0);
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 10, 1, VMBUS_READ), 0);
	part.room = 2;
	must_eq(vmbus_sgl_slice(&part, &sgl, 0, 4096 * 2 + 1), VMBUS_E_FULL);
	check_empty(&part);
	must_eq(all_pins(&b), 8);
	must_eq(vmbus_sgl_slice(&sgl, &sgl, 0, 1), VMBUS_E_INVAL);
	must_eq(vmbus_sgl_slice(&part, &sgl, UINT64_MAX, 1), VMBUS_E_RANGE);
	must_eq(vmbus_sgl_slice(&part, &sgl, 1, UINT64_MAX), VMBUS_E_RANGE);
	must_eq(vmbus_sgl_slice(&part, &sgl, sgl.bytes, 0), 0);
	check_empty(&part);
	vmbus_sgl_release(&sgl);
	box_free(&b);
}
END_TEST

/* The pages of one region, again and again: one pin, however long the list. */
START_TEST(sgl_from_ranges__pins_a_region_once)
{
	static uint64_t q[1 + 4096];
	struct vmbus_sgl sgl;
	struct membox b;
	uint32_t i;

	box_begin(&b, 0);
	box_add(&b, 0, BOX_PAGES, VMBUS_READ_WRITE);
	box_ready(&b, false);
	q[0] = HEAD(4096u * 4096u, 0);
	for (i = 0; i < 4096; i++)
		q[1 + i] = i % BOX_PAGES;
	list_init(&sgl, 0, PIECES);
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 4097, 1, VMBUS_READ_WRITE), 0);
	must_eq(sgl.count, 64);
	must_eq(sgl.bytes, 4096u * 4096u);
	must_eq(vmbus_region_pins(&b.region[0]), 1);
	vmbus_sgl_release(&sgl);
	box_free(&b);
}
END_TEST

/* A region that no piece lies in: pinned once, inherited by slices, let go with the list. */
START_TEST(sgl_pin__pins_one_region_more)
{
	const uint64_t q[] = { HEAD(8192, 0), 3, 4 };
	struct vmbus_region counter = { .fd = -1 }, others[8];
	struct vmbus_sgl sgl, part, again;
	struct membox b;
	uint32_t i;

	memset(others, 0, sizeof(others));
	small_box(&b);
	list_init(&sgl, 0, PIECES);
	list_init(&part, 1, 1);
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 3, 1, VMBUS_READ), 0);
	must_eq(vmbus_sgl_pin(&sgl, &counter), 0);
	must_eq(vmbus_sgl_pin(&sgl, &counter), 0);
	must_eq(vmbus_region_pins(&counter), 1);
	must_eq(vmbus_sgl_slice(&part, &sgl, 4096, 1), 0);
	must_eq(vmbus_region_pins(&counter), 2);
	must_eq(all_pins(&b), 3);
	list_init(&again, 1, 0);
	must_eq(vmbus_sgl_slice(&again, &part, 0, 0), 0);
	must_eq(vmbus_region_pins(&counter), 3);
	vmbus_sgl_release(&again);
	must_eq(vmbus_sgl_slice(&again, &part, 0, 1), VMBUS_E_FULL);
	must_eq(vmbus_region_pins(&counter), 2);
	vmbus_sgl_release(&part);
	must_eq(vmbus_sgl_pin(&sgl, &b.region[0]), 0); /* has it already */
	must_eq(vmbus_region_pins(&b.region[0]), 1);
	for (i = 0; i < 5; i++)
		must_eq(vmbus_sgl_pin(&sgl, &others[i]), 0);
	must_eq(vmbus_sgl_pin(&sgl, &others[5]), VMBUS_E_FULL);
	must_eq(vmbus_region_pins(&others[5]), 0);
	vmbus_sgl_release(&sgl);
	must_eq(vmbus_region_pins(&counter), 0);
	for (i = 0; i < 8; i++)
		must_eq(vmbus_region_pins(&others[i]), 0);
	must_eq(all_pins(&b), 0);
	box_free(&b);
}
END_TEST

/* A region whose counter cannot be written, and what the other one's is when that is tried. */
static struct {
	struct vmbus_region *region;
	const struct vmbus_region *counter;
	uint64_t pins;
	uint32_t times;
} guarded;

static void on_guarded(int sig)
{
	(void)sig;
	guarded.pins = vmbus_region_pins(guarded.counter);
	guarded.times++;
	(void)mprotect(guarded.region, 4096, PROT_READ | PROT_WRITE);
}

/*
 * A counter says how many lists are in use, so a list has let go of the memory before it leaves that,
 * wherever it has it: in a slice it comes first.
 */
START_TEST(sgl_release__the_counter_last)
{
	const uint64_t q[] = { HEAD(4096, 0), 0 };
	struct vmbus_region counter = { .fd = -1 }, *list[1];
	struct vmbus_sgl whole, part;
	struct vmbus_mem mem;

	if (THREADS_SANITIZED)
		VMBUS_TEST_SKIP(
			"the thread sanitizer hangs when a signal comes in the midst of an atomic");
	guarded.region =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(guarded.region != MAP_FAILED);
	guarded.counter = &counter;
	*guarded.region = (struct vmbus_region){
		.bytes = 4096, .host = malloc(4096), .fd = -1, .access = VMBUS_READ_WRITE
	};
	list[0] = guarded.region;
	must_eq(vmbus_mem_init(&mem, list, 1, NULL), 0);
	list_init(&whole, 0, PIECES);
	list_init(&part, 1, PIECES);
	must_eq(vmbus_sgl_from_ranges(&whole, &mem, q, 2, 1, VMBUS_READ), 0);
	must_eq(vmbus_sgl_pin(&whole, &counter), 0);
	must_eq(vmbus_sgl_slice(&part, &whole, 0, 4096), 0);
	vmbus_sgl_release(&whole);
	must_eq(vmbus_region_pins(&counter), 1);
	must(signal(SIGSEGV, on_guarded) != SIG_ERR);
	must_eq(mprotect(guarded.region, 4096, PROT_READ), 0);
	vmbus_sgl_release(&part);
	must(signal(SIGSEGV, SIG_DFL) != SIG_ERR);
	must_eq(guarded.times, 1);
	must_eq(guarded.pins, 1);
	must_eq(vmbus_region_pins(&counter), 0);
	must_eq(vmbus_region_pins(guarded.region), 0);
	free(guarded.region->host);
	(void)munmap(guarded.region, 4096);
}
END_TEST

/* A list for reading refuses writes, also where the region would allow them, and the reverse. */
START_TEST(lesson_33_list_for_reading_refuses_writes)
{
	const uint64_t q[] = { HEAD(4096, 0), 1 };
	struct vmbus_sgl sgl, part;
	uint8_t byte = 0x99;
	struct membox b;

	small_box(&b);
	list_init(&sgl, 0, PIECES);
	list_init(&part, 1, PIECES);
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 2, 1, VMBUS_READ), 0);
	must_eq(vmbus_sgl_write(&sgl, 0, &byte, 1), 0);
	must_eq(*box_byte(&b, 4096), 0x10);
	vmbus_sgl_dirty(&sgl, 0, 4096);
	must_eq(b.bitmap[0], 0);
	must_eq(vmbus_sgl_slice(&part, &sgl, 0, 1), 0);
	must_eq(vmbus_sgl_write(&part, 0, &byte, 1), 0);
	must_eq(*box_byte(&b, 4096), 0x10);
	vmbus_sgl_release(&part);
	vmbus_sgl_release(&sgl);
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 2, 1, VMBUS_WRITE), 0);
	must_eq(vmbus_sgl_read(&sgl, 0, &byte, 1), 0);
	must_eq(byte, 0x99);
	must_eq(vmbus_sgl_write(&sgl, 0, &byte, 1), 1);
	must_eq(*box_byte(&b, 4096), 0x99);
	must_eq(b.bitmap[0], 2);
	vmbus_sgl_release(&sgl);
	must_eq(vmbus_sgl_read(&sgl, 0, &byte, 1), 0); /* released: nothing is there */
	must_eq(vmbus_sgl_write(&sgl, 0, &byte, 1), 0);
	box_free(&b);
}
END_TEST

static uint32_t reads;
static uint8_t *turn;

/* The peer changes its bytes before every read of ours. */
static void flip(const volatile void *p)
{
	(void)p;
	reads++;
	turn[0] ^= 0xFF;
}

/* Each piece of the payload is read once, so the copy is one moment of the peer's memory. */
START_TEST(lesson_10_pieces_are_read_once)
{
	const uint64_t q[] = { HEAD(8192, 0), 1, 4 };
	static uint8_t copy[8192];
	struct vmbus_sgl sgl;
	struct membox b;

	small_box(&b);
	list_init(&sgl, 0, PIECES);
	must_eq(vmbus_sgl_from_ranges(&sgl, &b.mem, q, 3, 1, VMBUS_READ), 0);
	turn = box_byte(&b, 4096);
	reads = 0;
	vmbus__test_hook = flip;
	must_eq(vmbus_sgl_read(&sgl, 0, copy, 8192), 8192);
	vmbus__test_hook = NULL;
	must_eq(reads, 2);
	must_eq(copy[0], 0x10 ^ 0xFF);
	vmbus_sgl_release(&sgl);
	box_free(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "sgl", 20);

	tcase_add_loop_test(tc, lesson_09_ranges_agree_with_naive_bytes, 0, 2);
	tcase_add_loop_test(tc, lesson_08_ranges_that_cannot_be, 0,
			    sizeof(hostile) / sizeof(hostile[0]));
	tcase_add_test(tc, lesson_24_last_page_of_all);
	tcase_add_test(tc, sgl_from_ranges__merges_what_follows);
	tcase_add_test(tc, sgl_from_ranges__pins_eight_regions);
	tcase_add_test(tc, sgl_from_ranges__pins_a_region_once);
	tcase_add_test(tc, sgl_pin__pins_one_region_more);
	tcase_add_test(tc, sgl_release__the_counter_last);
	tcase_add_test(tc, lesson_33_list_for_reading_refuses_writes);
	tcase_add_test(tc, lesson_10_pieces_are_read_once);
}

VMBUS_TEST_MAIN("mem.sgl", tests)
