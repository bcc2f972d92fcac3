/* SPDX-License-Identifier: MIT */
/*
 * Page lists from ranges that a child may send, in a partition of three regions with holes, against
 * a reference that goes page by page with numbers of 64 bits.
 *
 * Input: access, pieces that there is room for, number of ranges (4 bytes), offset and length of a
 * slice (3 bytes each), then the qwords.
 */
#include <vmbus/mem.h>

#include "fuzz/input.h"

#define PAGES 24u
#define PIECES_MAX 255u
#define QWORDS_MAX 512u

/* Pages 1 to 4 and 5 to 8 touch; 9 is a hole; 10 to 23 may only be read. */
static uint8_t host[PAGES][4096];
static struct vmbus_region regions[3] = {
	{ .gpa = 0x1000, .bytes = 0x4000, .host = host[1], .access = VMBUS_READ_WRITE },
	{ .gpa = 0x5000, .bytes = 0x4000, .host = host[5], .access = VMBUS_READ_WRITE },
	{ .gpa = 0xA000, .bytes = 0xE000, .host = host[10], .access = VMBUS_READ },
};
static struct vmbus_region *const list[3] = { &regions[2], &regions[0], &regions[1] };

static int region_of(uint64_t pfn)
{
	return pfn >= 1 && pfn <= 4	  ? 0
	       : pfn >= 5 && pfn <= 8	  ? 1
	       : pfn >= 10 && pfn < PAGES ? 2
					  : -1;
}

/* One page's part of a list. */
struct part {
	uint64_t gpa;
	uint32_t len;
};
static struct part parts[QWORDS_MAX];
static uint32_t part_count;

static int ref_from(const uint64_t *q, uint64_t count, uint32_t ranges, uint32_t access)
{
	uint64_t at = 0, r, k;

	part_count = 0;
	for (r = 0; r < ranges; r++) {
		uint64_t bytes, offset, pages;

		if (at >= count)
			return VMBUS_E_PEER;
		bytes = q[at] % 4294967296u;
		offset = q[at++] / 4294967296u;
		pages = (bytes + offset + 4095) / 4096;
		if (bytes == 0 || offset > 4095 || at + pages > count)
			return VMBUS_E_PEER;
		for (k = 0; k < pages; k++, offset = 0) {
			const uint64_t pfn = q[at + k], room = 4096 - offset;
			const uint64_t len = bytes < room ? bytes : room;

			if (region_of(pfn) < 0)
				return VMBUS_E_PEER;
			if ((regions[region_of(pfn)].access & access) != access)
				return VMBUS_E_PERM;
			parts[part_count].gpa = pfn * 4096 + offset;
			parts[part_count++].len = (uint32_t)len;
			bytes -= len;
		}
		at += pages;
	}
	return ranges ? 0 : VMBUS_E_PEER;
}

/* The list's pieces are the parts from byte skip on, len of them. */
static void check_list(const struct vmbus_sgl *sgl, uint64_t skip, uint64_t len)
{
	uint32_t i, k = 0;
	uint64_t sum = 0;

	MUST(sgl->bytes == len);
	while (k < part_count && skip >= parts[k].len)
		skip -= parts[k++].len;
	for (i = 0; i < sgl->count; i++) {
		const struct vmbus_piece *p = &sgl->pieces[i];
		uint64_t done = 0;

		MUST(p->len > 0);
		MUST(p->host == &host[p->gpa / 4096][p->gpa % 4096]);
		MUST(region_of(p->gpa / 4096) == region_of((p->gpa + p->len - 1) / 4096));
		for (; done < p->len; k++, skip = 0) {
			MUST(k < part_count && parts[k].gpa + skip == p->gpa + done);
			done += parts[k].len - skip;
		}
		MUST(done == p->len || (i + 1 == sgl->count && sum + p->len == len));
		sum += p->len;
	}
	MUST(sum == len);
}

static void use(const struct vmbus_sgl *sgl, uint32_t offset, uint32_t len)
{
	static struct vmbus_piece room[PIECES_MAX];
	static uint8_t copy[8192];
	struct vmbus_sgl cut = { .pieces = room, .room = PIECES_MAX };
	const int ret = vmbus_sgl_slice(&cut, sgl, offset, len);
	uint64_t n;

	if (offset > sgl->bytes || len > sgl->bytes - offset) {
		MUST(ret == VMBUS_E_RANGE && cut.count == 0);
	} else if (ret) {
		MUST(ret == VMBUS_E_FULL && cut.count == 0);
	} else {
		check_list(&cut, offset, len);
		n = vmbus_sgl_read(&cut, 0, copy, sizeof(copy));
		MUST(n == (!(cut.access & VMBUS_READ) ? 0
			   : len < sizeof(copy)	      ? len
						      : sizeof(copy)));
		n = vmbus_sgl_write(&cut, 0, copy, sizeof(copy));
		MUST(n == (!(cut.access & VMBUS_WRITE) ? 0
			   : len < sizeof(copy)	       ? len
						       : sizeof(copy)));
	}
	vmbus_sgl_release(&cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vmbus_piece room[PIECES_MAX];
	struct input in = { data, size };
	struct vmbus_sgl sgl = { .pieces = room };
	uint64_t *q;
	uint32_t access, ranges, offset, len, count, i;
	struct vmbus_mem mem;
	int want, ret;

	access = 1 + take(&in, 1) % 3;
	sgl.room = take(&in, 1);
	ranges = take(&in, 4);
	offset = take(&in, 3);
	len = take(&in, 3);
	count = (uint32_t)(in.left / 8 < QWORDS_MAX ? in.left / 8 : QWORDS_MAX);
	q = malloc(count ? count * sizeof(*q) : 1);
	MUST(q != NULL);
	for (i = 0; i < count; i++) {
		const uint64_t low = take(&in, 4);

		q[i] = low | (uint64_t)take(&in, 4) << 32;
	}
	MUST(vmbus_mem_init(&mem, list, 3, NULL) == 0);
	want = ref_from(q, count, ranges, access);
	ret = vmbus_sgl_from_ranges(&sgl, &mem, q, count, ranges, (enum vmbus_access)access);
	free(q);
	MUST(ret == want || ret == VMBUS_E_FULL);
	if (ret) {
		MUST(sgl.count == 0 && sgl.bytes == 0);
	} else {
		uint64_t all = 0;

		for (i = 0; i < part_count; i++)
			all += parts[i].len;
		check_list(&sgl, 0, all);
		use(&sgl, offset, len);
	}
	vmbus_sgl_release(&sgl);
	for (i = 0; i < 3; i++)
		MUST(vmbus_region_pins(&regions[i]) == 0);
	return 0;
}
