/* SPDX-License-Identifier: MIT */
/*
 * A partition's memory as its peer sees it: regions, addresses that cannot be dereferenced, and
 * lists of pieces with pins on the regions they lie in.
 *
 * Concepts: vmbus_bus(7).  Nothing here needs a C library.  Members that end in _p are private.
 */
#ifndef VMBUS_MEM_H
#define VMBUS_MEM_H

#include <vmbus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A guest physical address.  A struct, so that nobody takes it for a pointer. */
typedef struct {
	uint64_t v;
} vmbus_gpa_t;

enum vmbus_access {
	VMBUS_READ = 1,
	VMBUS_WRITE = 2,
	VMBUS_READ_WRITE = 3
};

/* A run of guest memory.  Caller's storage; must stay until it is removed and has no pins. */
struct vmbus_region {
	uint64_t gpa;	 /* multiple of 4096 */
	uint64_t bytes;	 /* multiple of 4096 */
	void *host;	 /* where we have it mapped */
	int fd;		 /* the memfd that it comes from, or -1; 0 is a descriptor too: set it */
	uint32_t access; /* enum vmbus_access: what we may do */
	uint64_t fd_offset;
	uint64_t pins_p;
	uint64_t reserved_p[3];
};

/* An immutable map of regions: caller's storage.  To change it, make another and replace it. */
#define VMBUS_REGIONS_MAX 64u
struct vmbus_mem {
	uint32_t count_p;
	uint32_t reserved2_p;
	const struct vmbus_dirty *dirty_p;
	uint64_t reserved_p[2];
	struct vmbus_region *regions_p[VMBUS_REGIONS_MAX]; /* by rising address, no overlaps */
};

/*
 * Make a map of regions.
 *
 * mem	    caller's storage; needs no end.
 * regions  in any order; the array is read now, the regions are kept.
 * count    0 to VMBUS_REGIONS_MAX.
 * dirty    NULL, or the marker of every page that is written through this map; kept.  Of its members
 *	    bitmap and frames count here: bit n is the page at address n * 4096.
 *
 * Errors: RANGE  too many regions; one that is empty, not of whole pages, or reaches past 2^64
 *	   INVAL  regions overlap, or one has no host pointer or an access that does not exist
 * Effect: on error the map is empty.
 * Threads: any; a map that is made may be read by any number of threads.
 */
VMBUS_API int vmbus_mem_init(struct vmbus_mem *mem, struct vmbus_region *const *regions,
			     uint32_t count, const struct vmbus_dirty *dirty);

/*
 * Make a map with one region more, or one fewer, than an old one, which stays as it is.
 *
 * mem	   the new map; not the old one.
 * region  kept by vmbus_mem_with(); of the old map in vmbus_mem_without().
 *
 * Errors: INVAL  mem is old; the region cannot be in a map, or overlaps another; or it is not in old
 *	   RANGE  as for vmbus_mem_init()
 * Effect: on error the new map is empty, unless mem is old: then nothing has changed.
 * Threads: any.
 */
VMBUS_API int vmbus_mem_with(struct vmbus_mem *mem, const struct vmbus_mem *old,
			     struct vmbus_region *region);
VMBUS_API int vmbus_mem_without(struct vmbus_mem *mem, const struct vmbus_mem *old,
				const struct vmbus_region *region);

/*
 * Copy out of the peer's memory, or into it.  May cross regions that touch; written pages are marked.
 *
 * gpa	where; any number is safe.
 * len	bytes, 0 included.
 *
 * Errors: RANGE  not all of it is memory
 *	   PERM	  a region of it may not be read, or written
 * Effect: none on error.
 * Threads: any; the peer may write at the same time, and the copy is then a mix.
 */
VMBUS_API int vmbus_mem_read(const struct vmbus_mem *mem, vmbus_gpa_t gpa, void *to, size_t len);
VMBUS_API int vmbus_mem_write(const struct vmbus_mem *mem, vmbus_gpa_t gpa, const void *from,
			      size_t len);

/*
 * A pointer to len bytes in one region, for pages that stay mapped.  Pins nothing, marks nothing.
 *
 * len	   at least 1; all of it in one region.
 * access  what the pointer will be used for.
 * host	   on success, the pointer; good for as long as the region is mapped.
 *
 * Errors: RANGE  len is 0, or not all of it is in one region
 *	   PERM	  the region does not allow it
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_mem_map(const struct vmbus_mem *mem, vmbus_gpa_t gpa, size_t len,
			    enum vmbus_access access, void **host);

/*
 * The region with this address, or NULL.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API struct vmbus_region *vmbus_mem_find(const struct vmbus_mem *mem, vmbus_gpa_t gpa);

/*
 * How many lists have a pin on a region.  A region may be unmapped when it is in no map that anybody
 * still reads and this is 0; what lists did with its memory is then done.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API uint64_t vmbus_region_pins(const struct vmbus_region *region);

/* A piece of a list. */
struct vmbus_piece {
	void *host; /* the peer can change these bytes at any time */
	uint32_t len;
	uint32_t region_p;
	uint64_t gpa;
};

/*
 * Pieces of the peer's memory, checked, with a pin on each region that they lie in.  Set pieces and
 * room; the calls that build a list set all else.
 */
#define VMBUS_SGL_REGIONS_MAX 8u
struct vmbus_sgl {
	struct vmbus_piece *pieces; /* caller's storage */
	uint32_t room;		    /* pieces in it */
	uint32_t count;		    /* pieces used */
	uint64_t bytes;		    /* their sum */
	uint32_t access;	    /* enum vmbus_access; 0: nothing is built */
	uint32_t pinned_p;
	struct vmbus_region *regions_p[VMBUS_SGL_REGIONS_MAX];
	const struct vmbus_dirty *dirty_p;
	uint64_t extra_p;
	uint64_t reserved_p[1];
};

/*
 * Build a list from ranges as they lie on the wire: for each a qword with the byte count in its low
 * and the byte offset in its high half, then one qword with the number of each page.
 *
 * sgl		pieces and room set; holds no pins.
 * qwords	a private copy; each is read once.  May be freed afterwards.
 * count	qwords in it; what follows the last range is not looked at.
 * range_count	at least 1.
 * access	what the list will be used for; each region must allow it.
 *
 * Pieces that follow each other in one region become one.
 *
 * Errors: PEER	  no range, a range of no bytes, an offset past its first page, page numbers missing,
 *		  or a page that is no memory
 *	   PERM	  a region does not allow the access
 *	   FULL	  more pieces than room, or more regions than VMBUS_SGL_REGIONS_MAX
 *	   INVAL  no such access
 * Effect: on error the list is empty and nothing is pinned.
 * Threads: one at a time per list; the map must stay readable for the call.
 * Source: [PKT-GPA], [CTL-GPADL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_sgl_from_ranges(struct vmbus_sgl *sgl, const struct vmbus_mem *mem,
				    const uint64_t *qwords, uint32_t count, uint32_t range_count,
				    enum vmbus_access access);

/*
 * Build a list of len bytes of another one from offset on, with pins of its own.
 *
 * part	  pieces and room set; holds no pins; not the whole.
 * whole  keeps its own pins.
 *
 * Errors: RANGE  not all of it is in the whole
 *	   FULL	  more pieces than room
 *	   INVAL  part is whole
 * Effect: on error the part is empty and has no pins; if it is the whole, nothing has changed.
 * Threads: one at a time per list.
 */
VMBUS_API int vmbus_sgl_slice(struct vmbus_sgl *part, const struct vmbus_sgl *whole,
			      uint64_t offset, uint64_t len);

/*
 * Pin one more region with a list that is built, also one that is in no map: a counter of lists in
 * use.  Slices pin it as well.
 *
 * Errors: FULL  the list has VMBUS_SGL_REGIONS_MAX regions
 * Effect: none on error; no second pin if the list has the region already.
 * Threads: one at a time per list.
 */
VMBUS_API int vmbus_sgl_pin(struct vmbus_sgl *sgl, struct vmbus_region *region);

/*
 * Copy out of the peer's memory, or into it; written pages are marked.
 *
 * offset  bytes from the start of the list; any number is safe.
 * len	   bytes; any number is safe.
 *
 * Returns the bytes copied: fewer than len at the list's end, 0 behind it, and 0 if the list was not
 * built for this access.
 * Effect: none but the copy and the marks.
 * Threads: any number may use a list that is built.
 */
VMBUS_API uint64_t vmbus_sgl_read(const struct vmbus_sgl *sgl, uint64_t offset, void *to,
				  uint64_t len);
VMBUS_API uint64_t vmbus_sgl_write(const struct vmbus_sgl *sgl, uint64_t offset, const void *from,
				   uint64_t len);

/*
 * Mark the pages of a part of a list, which somebody wrote through the pieces' pointers.  Call it
 * when the bytes are there.  Does nothing for a list that is not for writing.
 *
 * Effect: marks only.
 * Threads: any number may use a list that is built.
 */
VMBUS_API void vmbus_sgl_dirty(const struct vmbus_sgl *sgl, uint64_t offset, uint64_t len);

/*
 * Let the regions go, those of vmbus_sgl_pin() last.  The list is empty then; twice is harmless.
 *
 * sgl	built by one of the calls above, or all zero.
 *
 * Effect: what was done through the list happens before anybody sees that its pins are gone.
 * Threads: one at a time per list.
 */
VMBUS_API void vmbus_sgl_release(struct vmbus_sgl *sgl);

#ifdef __cplusplus
}
#endif
#endif
