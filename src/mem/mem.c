/* SPDX-License-Identifier: MIT */
/*
 * The map of a partition's memory: regions by rising address, which do not overlap.  A map is
 * never changed once it is built; who wants another one builds another one, and readers go on with
 * theirs.  Every address comes from a peer, so no sum of two of its numbers is formed: distances
 * are compared with what is left.
 */
#include <vmbus/mem.h>

#include "base/atomic.h"
#include "base/contract.h"
#include "base/dirty.h"
#include "base/untrusted.h"

#define NO_REGION UINT32_MAX

/* Whether a region can be in a map at all. */
static int region_check(const struct vmbus_region *region)
{
	if (!region || !region->host)
		return VMBUS_E_INVAL;
	if (region->access == 0 || region->access > VMBUS_READ_WRITE)
		return VMBUS_E_INVAL;
	if (region->bytes == 0 || region->gpa % VMBUS_PAGE_BYTES != 0 ||
	    region->bytes % VMBUS_PAGE_BYTES != 0)
		return VMBUS_E_RANGE;
	if (region->bytes - 1 > UINT64_MAX - region->gpa)
		return VMBUS_E_RANGE;
	return 0;
}

/* Regions whose address is not above v. */
static uint32_t count_up_to(const struct vmbus_mem *mem, uint64_t v)
{
	uint32_t low = 0, high = mem->count_p;

	while (low < high) {
		const uint32_t mid = low + (high - low) / 2u;

		if (mem->regions_p[mid]->gpa <= v)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The place of the region with address v, or NO_REGION. */
static uint32_t index_of(const struct vmbus_mem *mem, uint64_t v)
{
	const uint32_t n = count_up_to(mem, v);

	if (n == 0 || v - mem->regions_p[n - 1]->gpa >= mem->regions_p[n - 1]->bytes)
		return NO_REGION;
	return n - 1;
}

static int insert(struct vmbus_mem *mem, struct vmbus_region *region)
{
	const int err = region_check(region);
	uint32_t at, i;

	if (err)
		return err;
	if (mem->count_p == VMBUS_REGIONS_MAX)
		return VMBUS_E_RANGE;
	at = count_up_to(mem, region->gpa);
	if (at > 0 && region->gpa - mem->regions_p[at - 1]->gpa < mem->regions_p[at - 1]->bytes)
		return VMBUS_E_INVAL;
	if (at < mem->count_p && mem->regions_p[at]->gpa - region->gpa < region->bytes)
		return VMBUS_E_INVAL;
	for (i = mem->count_p; i > at; i--)
		mem->regions_p[i] = mem->regions_p[i - 1];
	mem->regions_p[at] = region;
	mem->count_p++;
	return 0;
}

int vmbus_mem_init(struct vmbus_mem *mem, struct vmbus_region *const *regions, uint32_t count,
		   const struct vmbus_dirty *dirty)
{
	uint32_t i;
	int err;

	__builtin_memset(mem, 0, sizeof(*mem));
	mem->dirty_p = dirty;
	if (count > VMBUS_REGIONS_MAX)
		return VMBUS_E_RANGE;
	for (i = 0; i < count; i++) {
		err = insert(mem, regions[i]);
		if (err) {
			mem->count_p = 0;
			return err;
		}
	}
	return 0;
}

int vmbus_mem_with(struct vmbus_mem *mem, const struct vmbus_mem *old, struct vmbus_region *region)
{
	int err;

	if (mem == old)
		return VMBUS_E_INVAL;
	__builtin_memcpy(mem, old, sizeof(*mem));
	err = insert(mem, region);
	if (err)
		mem->count_p = 0;
	return err;
}

int vmbus_mem_without(struct vmbus_mem *mem, const struct vmbus_mem *old,
		      const struct vmbus_region *region)
{
	uint32_t i, kept = 0;

	if (mem == old)
		return VMBUS_E_INVAL;
	__builtin_memcpy(mem, old, sizeof(*mem));
	for (i = 0; i < old->count_p; i++)
		if (old->regions_p[i] != region)
			mem->regions_p[kept++] = old->regions_p[i];
	if (kept == old->count_p) {
		mem->count_p = 0;
		return VMBUS_E_INVAL;
	}
	mem->regions_p[kept] = NULL;
	mem->count_p = kept;
	return 0;
}

/* Bytes from address v on in one region, at most len; 0 if v is not in it. */
static uint64_t part_of(const struct vmbus_region *region, uint64_t v, uint64_t len)
{
	uint64_t left;

	if (v < region->gpa || v - region->gpa >= region->bytes)
		return 0;
	left = region->bytes - (v - region->gpa);
	return len < left ? len : left;
}

/*
 * Whether all len bytes from v on are memory with such access; *first is the place of the region
 * where they begin.  The walk passes each region at most once.
 */
static int range_check(const struct vmbus_mem *mem, uint64_t v, uint64_t len, uint32_t access,
		       uint32_t *first)
{
	uint32_t i = index_of(mem, v);

	if (i == NO_REGION)
		return VMBUS_E_RANGE;
	*first = i;
	for (;; i++) {
		uint64_t part;

		if (i == mem->count_p)
			return VMBUS_E_RANGE;
		part = part_of(mem->regions_p[i], v, len);
		if (part == 0)
			return VMBUS_E_RANGE;
		if ((mem->regions_p[i]->access & access) != access)
			return VMBUS_E_PERM;
		len -= part;
		if (len == 0)
			return 0;
		if (part > UINT64_MAX - v) /* that was the end of all addresses */
			return VMBUS_E_RANGE;
		v += part;
	}
}

static uint8_t *host_of(const struct vmbus_region *region, uint64_t v)
{
	return (uint8_t *)region->host + (size_t)(v - region->gpa);
}

int vmbus_mem_read(const struct vmbus_mem *mem, vmbus_gpa_t gpa, void *to, size_t len)
{
	uint8_t *at = to;
	uint64_t v = gpa.v;
	uint32_t i;
	int err;

	if (len == 0)
		return 0;
	err = range_check(mem, v, len, VMBUS_READ, &i);
	if (err)
		return err;
	for (;; i++) {
		const size_t part = (size_t)part_of(mem->regions_p[i], v, len);

		vmbus__peer_read(at, host_of(mem->regions_p[i], v), part);
		len -= part;
		if (len == 0)
			return 0;
		at += part;
		v += part;
	}
}

int vmbus_mem_write(const struct vmbus_mem *mem, vmbus_gpa_t gpa, const void *from, size_t len)
{
	const uint8_t *at = from;
	uint64_t v = gpa.v;
	uint32_t i;
	int err;

	if (len == 0)
		return 0;
	err = range_check(mem, v, len, VMBUS_WRITE, &i);
	if (err)
		return err;
	for (;; i++) {
		const size_t part = (size_t)part_of(mem->regions_p[i], v, len);

		vmbus__peer_write(host_of(mem->regions_p[i], v), at, part);
		if (mem->dirty_p)
			vmbus__dirty_bytes(mem->dirty_p, v, part);
		len -= part;
		if (len == 0)
			return 0;
		at += part;
		v += part;
	}
}

int vmbus_mem_map(const struct vmbus_mem *mem, vmbus_gpa_t gpa, size_t len,
		  enum vmbus_access access, void **host)
{
	const uint32_t i = index_of(mem, gpa.v);

	if (i == NO_REGION || len == 0 || part_of(mem->regions_p[i], gpa.v, len) != len)
		return VMBUS_E_RANGE;
	if ((mem->regions_p[i]->access & (uint32_t)access) != (uint32_t)access)
		return VMBUS_E_PERM;
	*host = host_of(mem->regions_p[i], gpa.v);
	return 0;
}

struct vmbus_region *vmbus_mem_find(const struct vmbus_mem *mem, vmbus_gpa_t gpa)
{
	const uint32_t i = index_of(mem, gpa.v);

	return i == NO_REGION ? NULL : mem->regions_p[i];
}

uint64_t vmbus_region_pins(const struct vmbus_region *region)
{
	return vmbus__ld64_acquire(vmbus__as_a64c(&region->pins_p)); /* MEMPIN.look */
}
