/* SPDX-License-Identifier: MIT */
/*
 * Rings from a page list that the child described: the shape is checked, every page must be memory
 * that we may read and write, its region is pinned, and each direction gets the best window that
 * the pages allow.  No byte of the pages is touched here.  The rings of a FOREIGN channel get no
 * window: their pages are checked and pinned, and that is all.
 *
 *	[ctl | data ... ][ctl | data ... ]	pages 0 to D - 1 from the child, D to N - 1 to it
 */
#include "bus/bus.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define RING_BYTES_DEFAULT (4u << 20)
#define RING_PAGES_MIN 2u /* control and one of data */

/* The pages of one direction. */
struct span {
	uint32_t first; /* in the list */
	uint32_t pages; /* control page included */
};

static int refuse(struct vmbus__refusal *why, const char *step, uint64_t value, uint64_t limit)
{
	*why = (struct vmbus__refusal){ step, value, limit };
	return VMBUS_E_PEER;
}

/* One range of whole pages that two rings of allowed size divide, [RING-SIZE]. */
static int check_shape(const struct vmbus_chan *chan, const uint64_t *qwords, uint32_t count,
		       uint32_t ranges, uint32_t down_page, struct vmbus__refusal *why)
{
	const uint32_t limit =
		chan->vsp->ring_bytes_max ? chan->vsp->ring_bytes_max : RING_BYTES_DEFAULT;
	uint32_t bytes, pages;
	uint64_t up_bytes, down_bytes;

	if (ranges != 1 || count < 1)
		return refuse(why, "ranges of the ring's page list", ranges, 1);
	bytes = (uint32_t)qwords[0];
	pages = bytes / VMBUS_PAGE_BYTES;
	if (qwords[0] >> 32 || bytes % VMBUS_PAGE_BYTES)
		return refuse(why, "page alignment of the ring", qwords[0], VMBUS_PAGE_BYTES);
	if (count - 1u < pages)
		return refuse(why, "pages of the ring", count - 1u, pages);
	if (pages < 2u * RING_PAGES_MIN)
		return refuse(why, "pages of both rings", pages, 2u * RING_PAGES_MIN);
	if (down_page < RING_PAGES_MIN || down_page > pages - RING_PAGES_MIN)
		return refuse(why, "downstream page", down_page, pages - RING_PAGES_MIN);
	up_bytes = (uint64_t)(down_page - 1u) * VMBUS_PAGE_BYTES;
	down_bytes = (uint64_t)(pages - down_page - 1u) * VMBUS_PAGE_BYTES;
	if (up_bytes > limit || down_bytes > limit)
		return refuse(why, "bytes of a ring", up_bytes > limit ? up_bytes : down_bytes,
			      limit);
	return 0;
}

/* Pin the pages and have their addresses. */
static int pin(struct vmbus_chan *chan, const uint64_t *qwords, uint32_t pages,
	       struct vmbus__refusal *why)
{
	struct vmbus__rings *r = &chan->rings;
	int err;

	r->pieces = calloc(pages, sizeof(*r->pieces));
	r->list = calloc(pages, sizeof(*r->list));
	r->frames = calloc(pages, sizeof(*r->frames));
	if (!r->pieces || !r->list || !r->frames) {
		refuse(why, "memory of ours for pages", pages, 0);
		return VMBUS_E_NOMEM;
	}
	r->pages = (struct vmbus_sgl){ .pieces = r->pieces, .room = pages };
	vmbus__rcu_enter();
	err = vmbus_sgl_from_ranges(&r->pages, vmbus__mem(chan->bus), qwords, pages + 1u, 1,
				    VMBUS_READ_WRITE);
	vmbus__rcu_leave(chan->bus);
	if (err)
		refuse(why,
		       err == VMBUS_E_FULL ? "memory regions of the ring" : "memory of the ring", 0,
		       0);
	return err;
}

static void name_pages(struct vmbus__rings *r, const uint64_t *qwords, uint32_t pages)
{
	uint32_t piece, page = 0, at;

	for (piece = 0; piece < r->pages.count; piece++)
		for (at = 0; at < r->pieces[piece].len && page < pages; at += VMBUS_PAGE_BYTES) {
			r->list[page] = (uint8_t *)r->pieces[piece].host + at;
			r->frames[page] = qwords[1u + page];
			page++;
		}
}

static bool follows_in_host(const struct vmbus__rings *r, struct span span)
{
	uint32_t i;

	for (i = span.first + 1u; i + 1u < span.first + span.pages; i++)
		if ((uint8_t *)r->list[i] + VMBUS_PAGE_BYTES != (uint8_t *)r->list[i + 1u])
			return false;
	return true;
}

static bool follows_in_guest(const struct vmbus__rings *r, struct span span)
{
	uint32_t i;

	for (i = span.first + 1u; i + 1u < span.first + span.pages; i++)
		if (r->frames[i] + 1u != r->frames[i + 1u])
			return false;
	return true;
}

static void *map_twice(int fd, uint64_t offset, size_t bytes)
{
	const int access = PROT_READ | PROT_WRITE;
	uint8_t *window = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (window == MAP_FAILED)
		return NULL;
	if (mmap(window, bytes, access, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED ||
	    mmap(window + bytes, bytes, access, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) ==
		    MAP_FAILED) {
		munmap(window, 2 * bytes);
		return NULL;
	}
	return window;
}

/* The data pages of a direction twice, where they come from one file and the quota allows it. */
static void *mirror(struct vmbus_chan *chan, struct span span)
{
	struct vmbus__rings *r = &chan->rings;
	const size_t bytes = (size_t)(span.pages - 1u) * VMBUS_PAGE_BYTES;
	const uint64_t gpa = r->frames[span.first + 1u] * VMBUS_PAGE_BYTES;
	const struct vmbus_region *region;
	void *window = NULL;

	if (!follows_in_guest(r, span))
		return NULL;
	if (chan->bus->mirrors >= chan->bus->opts.mirrors_max) {
		chan->bus->mirrors_refused++;
		return NULL;
	}
	vmbus__rcu_enter();
	region = vmbus_mem_find(vmbus__mem(chan->bus), (vmbus_gpa_t){ gpa });
	if (region && region->fd >= 0 && bytes <= region->bytes - (gpa - region->gpa)) {
		const uint64_t at = region->fd_offset + (gpa - region->gpa);
		const uint64_t host_page = (uint64_t)sysconf(_SC_PAGESIZE);

		if (at % host_page == 0 && bytes % host_page == 0)
			window = map_twice(region->fd, at, bytes);
	}
	vmbus__rcu_leave(chan->bus);
	return window;
}

static struct vmbus_dirty *mark_with(struct vmbus_chan *chan, uint32_t which, struct span span)
{
	struct vmbus__rings *r = &chan->rings;

	if (!chan->bus->opts.dirty)
		return NULL;
	r->dirty[which] = *chan->bus->opts.dirty;
	r->dirty[which].ctl_frame = r->frames[span.first];
	r->dirty[which].frame_list = &r->frames[span.first + 1u];
	return &r->dirty[which];
}

static int map_one(struct vmbus_chan *chan, uint32_t which, struct span span)
{
	struct vmbus__rings *r = &chan->rings;
	struct vmbus_ring_mem_opts opts = {
		.struct_bytes = sizeof(opts),
		.window = VMBUS_RING_SCATTERED,
		.size = (span.pages - 1u) * VMBUS_PAGE_BYTES,
		.ctl = r->list[span.first],
		.data = r->list[span.first + 1u],
		.pages = (void *const *)&r->list[span.first + 1u],
		.dirty = mark_with(chan, which, span),
	};

	r->mirror[which] = mirror(chan, span);
	if (r->mirror[which]) {
		r->mirror_bytes[which] = 2u * (size_t)opts.size;
		chan->bus->mirrors++;
		opts.window = VMBUS_RING_MIRRORED;
		opts.data = r->mirror[which];
	} else if (follows_in_host(r, span)) {
		opts.window = VMBUS_RING_PLAIN;
	}
	return vmbus_ring_mem_init(&r->mem[which], &opts);
}

static int map_both(struct vmbus_chan *chan, struct vmbus__refusal *why)
{
	const uint32_t pages = chan->rings.total, down_page = chan->rings.down_page;
	int err = map_one(chan, 0, (struct span){ 0, down_page });

	if (!err)
		err = map_one(chan, 1, (struct span){ down_page, pages - down_page });
	if (err)
		refuse(why, "window of the ring", 0, 0);
	return err;
}

/*
 * Map the rings of a channel that the child opens.
 *
 * list	      an accepted page list of the channel.
 * down_page  where in it the ring to the child begins.
 * why	      on an error: what was wrong.
 */
int vmbus__rings_map(struct vmbus_chan *chan, struct vmbus_srv_ref list, uint32_t down_page,
		     struct vmbus__refusal *why)
{
	const uint64_t *qwords = NULL;
	uint32_t ranges = 0, pages;
	const uint32_t count = vmbus_srv_list(chan->bus->srv, list, &qwords, &ranges);
	int err;

	if (!count)
		return refuse(why, "page list of the rings", 0, 1);
	err = check_shape(chan, qwords, count, ranges, down_page, why);
	if (err)
		return err;
	pages = (uint32_t)qwords[0] / VMBUS_PAGE_BYTES;
	vmbus__charge(chan->bus, VMBUS__COST_OPEN + pages / VMBUS__PAGES_PER_UNIT);
	err = pin(chan, qwords, pages, why);
	if (!err) {
		name_pages(&chan->rings, qwords, pages);
		chan->rings.total = pages;
		chan->rings.down_page = down_page;
		if (!chan->foreign)
			err = map_both(chan, why);
	}
	chan->rings.mapped = true;
	if (err)
		vmbus__rings_unmap(chan);
	return err;
}

void vmbus__rings_unmap(struct vmbus_chan *chan)
{
	struct vmbus__rings *r = &chan->rings;
	uint32_t which;

	if (!r->mapped)
		return;
	for (which = 0; which < 2; which++)
		if (r->mirror[which]) {
			munmap(r->mirror[which], r->mirror_bytes[which]);
			chan->bus->mirrors--;
		}
	vmbus_sgl_release(&r->pages);
	free(r->pieces);
	free(r->list);
	free(r->frames);
	*r = (struct vmbus__rings){ 0 };
}
