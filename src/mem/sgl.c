/* SPDX-License-Identifier: MIT */
/*
 * Lists of pieces of the peer's memory.  A list is built once from a private copy of page numbers,
 * each of which is read once; it never holds an address that was not looked up, and it pins the
 * regions that it lies in until it is released.  It is built as a whole or not at all: pins are
 * taken when nothing can fail any more.
 */
#include <vmbus/mem.h>

#include "base/atomic.h"
#include "base/contract.h"
#include "base/dirty.h"
#include "base/untrusted.h"

static void empty(struct vmbus_sgl *sgl)
{
	sgl->count = 0;
	sgl->bytes = 0;
	sgl->access = 0;
	sgl->pinned_p = 0;
	sgl->extra_p = 0;
	sgl->dirty_p = NULL;
}

/* The place of a region among those of the list, added if it is new; -1 if there is no room. */
static int place_of(struct vmbus_sgl *sgl, struct vmbus_region *region)
{
	uint32_t i;

	for (i = 0; i < sgl->pinned_p; i++)
		if (sgl->regions_p[i] == region)
			return (int)i;
	if (i == VMBUS_SGL_REGIONS_MAX)
		return -1;
	sgl->regions_p[i] = region;
	sgl->pinned_p = i + 1;
	return (int)i;
}

/*
 * A region cannot leave before the pin is seen: whoever finds it in a map holds that map, and the
 * remover waits until nobody holds the old map before it looks at the pins.
 */
static void pin_all(const struct vmbus_sgl *sgl)
{
	uint32_t i;

	for (i = 0; i < sgl->pinned_p; i++)
		vmbus__add64_relaxed(vmbus__as_a64(&sgl->regions_p[i]->pins_p), /* MEMPIN.take */
				     1);
}

/* Add bytes of one region to the end of a list, to its last piece where they follow it. */
static int add(struct vmbus_sgl *sgl, struct vmbus_region *region, uint64_t gpa, uint32_t len)
{
	const int place = place_of(sgl, region);
	struct vmbus_piece *last = sgl->count ? &sgl->pieces[sgl->count - 1] : NULL;

	if (place < 0)
		return VMBUS_E_FULL;
	if (last && last->region_p == (uint32_t)place && gpa > last->gpa &&
	    gpa - last->gpa == last->len && len <= UINT32_MAX - last->len) {
		last->len += len;
		sgl->bytes += len;
		return 0;
	}
	if (sgl->count == sgl->room)
		return VMBUS_E_FULL;
	last = &sgl->pieces[sgl->count++];
	last->host = (uint8_t *)region->host + (size_t)(gpa - region->gpa);
	last->len = len;
	last->region_p = (uint32_t)place;
	last->gpa = gpa;
	sgl->bytes += len;
	return 0;
}

/* A walk over ranges: what is left of the copy, and the region that the last page was in. */
struct walk {
	const struct vmbus_mem *mem;
	struct vmbus_region *region;
	const uint64_t *qwords;
	uint32_t left;
	uint32_t access;
};

/* Add len bytes of one page, from offset on; offset + len is at most a page. */
static int add_page(struct vmbus_sgl *sgl, struct walk *w, uint64_t pfn, uint32_t offset,
		    uint32_t len)
{
	vmbus_gpa_t gpa;

	if (pfn > UINT64_MAX / VMBUS_PAGE_BYTES)
		return VMBUS_E_PEER;
	gpa.v = pfn * VMBUS_PAGE_BYTES;
	if (!w->region || gpa.v < w->region->gpa || gpa.v - w->region->gpa >= w->region->bytes) {
		w->region = vmbus_mem_find(w->mem, gpa);
		if (!w->region)
			return VMBUS_E_PEER;
		if ((w->region->access & w->access) != w->access)
			return VMBUS_E_PERM;
	}
	return add(sgl, w->region, gpa.v + offset, len);
}

/* [PKT-GPA], [CTL-GPADL] */
static int add_range(struct vmbus_sgl *sgl, struct walk *w)
{
	uint32_t byte_count, offset, i;
	uint64_t head, pages;

	if (w->left == 0)
		return VMBUS_E_PEER;
	head = w->qwords[0];
	byte_count = (uint32_t)(head & UINT32_MAX);
	offset = (uint32_t)(head >> 32);
	if (byte_count == 0 || offset >= VMBUS_PAGE_BYTES)
		return VMBUS_E_PEER;
	pages = ((uint64_t)offset + byte_count + (VMBUS_PAGE_BYTES - 1)) / VMBUS_PAGE_BYTES;
	if (pages > w->left - 1)
		return VMBUS_E_PEER;
	for (i = 0; i < pages; i++) {
		const uint32_t room = VMBUS_PAGE_BYTES - offset;
		const uint32_t len = byte_count < room ? byte_count : room;
		const int err = add_page(sgl, w, w->qwords[1 + i], offset, len);

		if (err)
			return err;
		byte_count -= len;
		offset = 0;
	}
	w->qwords += 1 + pages;
	w->left -= 1 + (uint32_t)pages;
	return 0;
}

int vmbus_sgl_from_ranges(struct vmbus_sgl *sgl, const struct vmbus_mem *mem,
			  const uint64_t *qwords, uint32_t count, uint32_t range_count,
			  enum vmbus_access access)
{
	struct walk w = { mem, NULL, qwords, count, (uint32_t)access };
	uint32_t i;
	int err = 0;

	empty(sgl);
	if (access != VMBUS_READ && access != VMBUS_WRITE && access != VMBUS_READ_WRITE)
		return VMBUS_E_INVAL;
	if (range_count == 0)
		return VMBUS_E_PEER;
	for (i = 0; i < range_count && !err; i++)
		err = add_range(sgl, &w);
	if (err) {
		empty(sgl);
		return err;
	}
	sgl->access = (uint32_t)access;
	sgl->dirty_p = mem->dirty_p;
	pin_all(sgl);
	return 0;
}

/* What an offset into a list and a length come to in one piece. */
struct part {
	uint64_t skip; /* bytes before the part */
	uint64_t left; /* bytes of the part that are still to come */
};

/* Bytes of a piece that belong to the part; *off is where they begin in it. */
static uint32_t part_of(struct part *part, const struct vmbus_piece *piece, uint32_t *off)
{
	uint32_t len;

	if (part->skip >= piece->len) {
		part->skip -= piece->len;
		return 0;
	}
	*off = (uint32_t)part->skip;
	len = piece->len - *off;
	if (len > part->left)
		len = (uint32_t)part->left;
	part->skip = 0;
	part->left -= len;
	return len;
}

int vmbus_sgl_pin(struct vmbus_sgl *sgl, struct vmbus_region *region)
{
	const uint32_t before = sgl->pinned_p;
	const int place = place_of(sgl, region);

	if (place < 0)
		return VMBUS_E_FULL;
	sgl->extra_p |= (uint64_t)1 << place;
	if (sgl->pinned_p > before)
		vmbus__add64_relaxed(vmbus__as_a64(&region->pins_p), 1); /* MEMPIN.take */
	return 0;
}

/*
 * The regions that were pinned to the whole by vmbus_sgl_pin() are pinned to its part as well, behind those of
 * its pieces, as in any list: a release goes in that order, and who sees in such a counter that no list is in
 * use may free what the others lie in.
 */
static int inherit(struct vmbus_sgl *part, const struct vmbus_sgl *whole)
{
	uint32_t i;

	for (i = 0; i < whole->pinned_p; i++) {
		int place;

		if (!(whole->extra_p >> i & 1u))
			continue;
		place = place_of(part, whole->regions_p[i]);
		if (place < 0)
			return VMBUS_E_FULL;
		part->extra_p |= (uint64_t)1 << place;
	}
	return 0;
}

int vmbus_sgl_slice(struct vmbus_sgl *part, const struct vmbus_sgl *whole, uint64_t offset,
		    uint64_t len)
{
	struct part p = { offset, len };
	uint32_t i, off;
	int err = 0;

	if (part == whole)
		return VMBUS_E_INVAL;
	empty(part);
	if (offset > whole->bytes || len > whole->bytes - offset)
		return VMBUS_E_RANGE;
	for (i = 0; i < whole->count && p.left > 0 && !err; i++) {
		const struct vmbus_piece *piece = &whole->pieces[i];
		const uint32_t n = part_of(&p, piece, &off);

		if (n > 0)
			err = add(part, whole->regions_p[piece->region_p], piece->gpa + off, n);
	}
	if (!err)
		err = inherit(part, whole);
	if (err) {
		empty(part);
		return err;
	}
	part->access = whole->access;
	part->dirty_p = whole->dirty_p;
	pin_all(part);
	return 0;
}

uint64_t vmbus_sgl_read(const struct vmbus_sgl *sgl, uint64_t offset, void *to, uint64_t len)
{
	struct part p = { offset, len };
	uint8_t *at = to;
	uint32_t i, off;

	if (!(sgl->access & VMBUS_READ))
		return 0;
	for (i = 0; i < sgl->count && p.left > 0; i++) {
		const uint32_t n = part_of(&p, &sgl->pieces[i], &off);

		if (n == 0)
			continue;
		vmbus__peer_read(at, (const uint8_t *)sgl->pieces[i].host + off, n);
		at += n;
	}
	return len - p.left;
}

uint64_t vmbus_sgl_write(const struct vmbus_sgl *sgl, uint64_t offset, const void *from,
			 uint64_t len)
{
	struct part p = { offset, len };
	const uint8_t *at = from;
	uint32_t i, off;

	if (!(sgl->access & VMBUS_WRITE))
		return 0;
	for (i = 0; i < sgl->count && p.left > 0; i++) {
		const uint32_t n = part_of(&p, &sgl->pieces[i], &off);

		if (n == 0)
			continue;
		vmbus__peer_write((uint8_t *)sgl->pieces[i].host + off, at, n);
		if (sgl->dirty_p)
			vmbus__dirty_bytes(sgl->dirty_p, sgl->pieces[i].gpa + off, n);
		at += n;
	}
	return len - p.left;
}

void vmbus_sgl_dirty(const struct vmbus_sgl *sgl, uint64_t offset, uint64_t len)
{
	struct part p = { offset, len };
	uint32_t i, off;

	if (!sgl->dirty_p || !(sgl->access & VMBUS_WRITE))
		return;
	for (i = 0; i < sgl->count && p.left > 0; i++) {
		const uint32_t n = part_of(&p, &sgl->pieces[i], &off);

		if (n > 0)
			vmbus__dirty_bytes(sgl->dirty_p, sgl->pieces[i].gpa + off, n);
	}
}

void vmbus_sgl_release(struct vmbus_sgl *sgl)
{
	uint32_t i;

	/* What was read or written through the pieces is done before the pin is seen to be gone. */
	for (i = 0; i < sgl->pinned_p; i++)
		vmbus__add64_release(vmbus__as_a64(&sgl->regions_p[i]->pins_p), /* MEMPIN.drop */
				     UINT64_MAX);
	empty(sgl);
}
