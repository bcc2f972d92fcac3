/* SPDX-License-Identifier: MIT */
/*
 * Packet descriptors, type-specific headers and page ranges: pure functions from private copies to
 * checked values and back.  Counts are always derived from the bytes that are left, and sums of
 * peer's numbers are never formed before each of them is bounded.
 */
#include "wire/pkt.h"

const uint8_t vmbus__pkt_offset8_min[VMBUS_PKT_TYPES] = {
	[0] = 0, /* no such type */
	[VMBUS_PKT_SYNCH] = 2,
	[VMBUS_PKT_ADD_XFER_SET] = 3,
	[VMBUS_PKT_REMOVE_XFER_SET] = 3,
	[VMBUS_PKT_ESTABLISH_GPADL] = 3,
	[VMBUS_PKT_TEARDOWN_GPADL] = 3,
	[VMBUS_PKT_INBAND] = 2,
	[VMBUS_PKT_XFER_PAGES] = 3,
	[VMBUS_PKT_GPADL] = 3,
	[VMBUS_PKT_GPA_DIRECT] = 3,
	[VMBUS_PKT_CANCEL] = 2,
	[VMBUS_PKT_COMPLETION] = 2,
	[VMBUS_PKT_USING_ADDITIONAL] = 2,
	[VMBUS_PKT_ADDITIONAL_DATA] = 4,
};

static const char *const type_names[VMBUS_PKT_TYPES] = {
	[0] = "?",
	[VMBUS_PKT_SYNCH] = "synch",
	[VMBUS_PKT_ADD_XFER_SET] = "add transfer page set",
	[VMBUS_PKT_REMOVE_XFER_SET] = "remove transfer page set",
	[VMBUS_PKT_ESTABLISH_GPADL] = "establish GPADL",
	[VMBUS_PKT_TEARDOWN_GPADL] = "teardown GPADL",
	[VMBUS_PKT_INBAND] = "in-band",
	[VMBUS_PKT_XFER_PAGES] = "transfer pages",
	[VMBUS_PKT_GPADL] = "GPADL",
	[VMBUS_PKT_GPA_DIRECT] = "GPA direct",
	[VMBUS_PKT_CANCEL] = "cancel",
	[VMBUS_PKT_COMPLETION] = "completion",
	[VMBUS_PKT_USING_ADDITIONAL] = "using additional packet",
	[VMBUS_PKT_ADDITIONAL_DATA] = "additional data",
};

#define EXT_FIXED 8u		    /* bytes of a header before its ranges */
#define XFER_RANGE_BYTES 8u	    /* count and offset */
#define GPA_RANGE_FIXED 8u	    /* count and offset, before the page numbers */
#define GPA_RANGE_MIN 16u	    /* with one page number */
#define RANGE_BYTES_MAX 0xffffe000u /* byte_offset + byte_count + 4095 fits 32 bits */

/*@ assigns \nothing;
  @ ensures len <= VMBUS_PKT_RING_BYTES_MAX ==>
  @	\result == 24 + ext_len + (len + 7) / 8 * 8;
  @ ensures \result >= 24 + ext_len;
  @ ensures len > VMBUS_PKT_LENGTH_MAX ==> \result > VMBUS_PKT_RING_BYTES_MAX;
  @ ensures ext_len % 8 == 0 ==> \result % 8 == 0; */
uint64_t vmbus_wire_ring_bytes(uint32_t ext_len, uint64_t len)
{
	if (len > VMBUS_PKT_RING_BYTES_MAX) /* cannot be sent; keep the sum in range */
		len = VMBUS_PKT_RING_BYTES_MAX;
	return VMBUS_PKT_DESC_BYTES + VMBUS_PKT_TRAILER_BYTES + (uint64_t)ext_len +
	       (len + 7u) / 8u * 8u;
}

/*@ assigns \nothing;
  @ ensures 1 <= type <= 13 ==> \result == vmbus_offset8_min(type) * 8 - 16;
  @ ensures !(1 <= type <= 13) ==> \result == VMBUS_E_INVAL; */
int vmbus_wire_ext_min(uint32_t type)
{
	if (type >= VMBUS_PKT_TYPES || vmbus__pkt_offset8_min[type] == 0)
		return VMBUS_E_INVAL;
	return (int)(vmbus__pkt_offset8_min[type] * 8u - VMBUS_PKT_DESC_BYTES);
}

const char *vmbus_wire_type_name(uint32_t type)
{
	return type < VMBUS_PKT_TYPES ? type_names[type] : "?";
}

uint32_t vmbus__desc_check(uint64_t d, uint32_t avail, uint64_t *value, uint64_t *limit)
{
	const uint32_t type = vmbus__desc_type(d);
	const uint32_t offset8 = vmbus__desc_offset8(d);
	const uint32_t length8 = vmbus__desc_length8(d);
	const uint32_t flags = vmbus__desc_flags(d);
	const uint32_t total = vmbus__desc_ring_bytes(d);

	if (type >= VMBUS_PKT_TYPES || type == 0) {
		*value = type;
		*limit = VMBUS_PKT_TYPES - 1;
		return VMBUS_FAULT_PKT_TYPE;
	}
	if (flags > VMBUS_PKT_FLAG_COMPLETE) {
		*value = flags;
		*limit = VMBUS_PKT_FLAG_COMPLETE;
		return VMBUS_FAULT_PKT_FLAGS;
	}
	if (offset8 < vmbus__pkt_offset8_min[type]) {
		*value = offset8;
		*limit = vmbus__pkt_offset8_min[type];
		return VMBUS_FAULT_PKT_OFFSET;
	}
	if (offset8 > length8) {
		*value = offset8;
		*limit = length8;
		return VMBUS_FAULT_PKT_OFFSET_PAST;
	}
	if (total > avail) {
		*value = total;
		*limit = avail;
		return VMBUS_FAULT_PKT_LENGTH;
	}
	return VMBUS_FAULT_NONE;
}

/*@ logic integer vmbus_le16(uint8_t *p) = p[0] + p[1] * 256;
  @ logic integer vmbus_le32(uint8_t *p) = vmbus_le16(p) + vmbus_le16(p + 2) * 65536;
  @ logic integer vmbus_le64(uint8_t *p) = vmbus_le32(p) + vmbus_le32(p + 4) * 4294967296; */

/*@ requires \valid(p + (0 .. 1)) && v <= 65535;
  @ assigns p[0 .. 1];
  @ ensures vmbus_le16(p) == v; */
static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v % 256u);
	p[1] = (uint8_t)(v / 256u % 256u);
}

/*@ requires \valid(p + (0 .. 3));
  @ assigns p[0 .. 3];
  @ ensures vmbus_le32(p) == v; */
static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v % 65536u);
	put16(p + 2, v / 65536u);
}

/*@ requires \valid(p + (0 .. 7));
  @ assigns p[0 .. 7];
  @ ensures vmbus_le64(p) == v; */
static void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)(v % 4294967296u));
	put32(p + 4, (uint32_t)(v / 4294967296u));
}

/*@ requires \valid_read(p + (0 .. 1));
  @ assigns \nothing;
  @ ensures \result == vmbus_le16(p) && \result <= 65535; */
static uint32_t get16(const uint8_t *p)
{
	return p[0] + p[1] * 256u;
}

/*@ requires \valid_read(p + (0 .. 3));
  @ assigns \nothing;
  @ ensures \result == vmbus_le32(p); */
static uint32_t get32(const uint8_t *p)
{
	return get16(p) + get16(p + 2) * 65536u;
}

/*@ requires \valid_read(p + (0 .. 7));
  @ assigns \nothing;
  @ ensures \result == vmbus_le64(p); */
static uint64_t get64(const uint8_t *p)
{
	return get32(p) + get32(p + 4) * (uint64_t)4294967296u;
}

/*@ requires \valid_read(ext);
  @ requires \valid((uint8_t *)buf + (0 .. bytes - 1));
  @ assigns ((uint8_t *)buf)[0 .. bytes - 1];
  @ ensures \result == VMBUS_E_INVAL <==> !(1 <= type <= 13);
  @ ensures \result >= 0 ==> \result == vmbus_offset8_min(type) * 8 - 16 <= bytes;
  @ ensures \result >= 0 || \result == VMBUS_E_INVAL || \result == VMBUS_E_RANGE; */
int vmbus_wire_ext_put(uint32_t type, const struct vmbus_wire_ext *ext, void *buf, size_t bytes)
{
	uint8_t *p = buf;
	const int min = vmbus_wire_ext_min(type);

	if (min < 0)
		return min;
	if ((size_t)min > bytes)
		return VMBUS_E_RANGE;
	switch (type) {
	case VMBUS_PKT_ADD_XFER_SET:
	case VMBUS_PKT_REMOVE_XFER_SET:
		put32(p, ext->gpadl);
		put16(p + 4, ext->xfer_set);
		put16(p + 6, 0);
		break;
	case VMBUS_PKT_TEARDOWN_GPADL:
	case VMBUS_PKT_GPADL:
		put32(p, ext->gpadl);
		put32(p + 4, 0);
		break;
	case VMBUS_PKT_ESTABLISH_GPADL:
		put32(p, ext->gpadl);
		put32(p + 4, ext->range_count);
		break;
	case VMBUS_PKT_XFER_PAGES:
		put16(p, ext->xfer_set);
		p[2] = ext->sender_owns;
		p[3] = 0;
		put32(p + 4, ext->range_count);
		break;
	case VMBUS_PKT_GPA_DIRECT:
		put32(p, 0);
		put32(p + 4, ext->range_count);
		break;
	case VMBUS_PKT_ADDITIONAL_DATA:
		put64(p, ext->total_bytes);
		put32(p + 8, ext->byte_offset);
		put32(p + 12, ext->byte_count);
		break;
	default:
		break;
	}
	return min;
}

/*@ requires \valid_read(pkt) && \valid(ext) && \separated(ext, pkt);
  @ requires \valid_read(pkt->ext + (0 .. pkt->ext_len - 1));
  @ assigns *ext;
  @ ensures \result == 0 || \result == VMBUS_E_INVAL || \result == VMBUS_E_RANGE;
  @ ensures \result == VMBUS_E_INVAL <==> !(1 <= pkt->type <= 13);
  @ ensures \result == 0 ==> \old(pkt->ext_len) >= vmbus_offset8_min(\old(pkt->type)) * 8 - 16; */
int vmbus_wire_ext_get(const struct vmbus_packet *pkt, struct vmbus_wire_ext *ext)
{
	const struct vmbus_wire_ext none = { 0 };
	const uint8_t *p = pkt->ext;
	const int min = vmbus_wire_ext_min(pkt->type);

	if (min < 0)
		return min;
	if ((uint32_t)min > pkt->ext_len)
		return VMBUS_E_RANGE;
	*ext = none;
	switch (pkt->type) {
	case VMBUS_PKT_ADD_XFER_SET:
	case VMBUS_PKT_REMOVE_XFER_SET:
		ext->gpadl = get32(p);
		ext->xfer_set = (uint16_t)get16(p + 4);
		break;
	case VMBUS_PKT_TEARDOWN_GPADL:
	case VMBUS_PKT_GPADL:
		ext->gpadl = get32(p);
		break;
	case VMBUS_PKT_ESTABLISH_GPADL:
		ext->gpadl = get32(p);
		ext->range_count = get32(p + 4);
		break;
	case VMBUS_PKT_XFER_PAGES:
		ext->xfer_set = (uint16_t)get16(p);
		ext->sender_owns = p[2];
		ext->range_count = get32(p + 4);
		break;
	case VMBUS_PKT_GPA_DIRECT:
		ext->range_count = get32(p + 4);
		break;
	case VMBUS_PKT_ADDITIONAL_DATA:
		ext->total_bytes = get64(p);
		ext->byte_offset = get32(p + 8);
		ext->byte_count = get32(p + 12);
		break;
	default:
		break;
	}
	return 0;
}

/* Pages that a range touches; both arguments are bounded by the callers. */
/*@ requires byte_count <= 0xffffe000 && byte_offset <= 4095;
  @ assigns \nothing;
  @ ensures \result == (byte_offset + byte_count + 4095) / 4096;
  @ ensures \result <= 1048575; */
static uint32_t range_pages(uint32_t byte_count, uint32_t byte_offset)
{
	return (byte_offset + byte_count + (VMBUS_PAGE_BYTES - 1)) / VMBUS_PAGE_BYTES;
}

/*@ requires \valid((uint8_t *)buf + (0 .. bytes - 1));
  @ requires \valid_read(pfns + (0 .. (byte_offset + byte_count + 4095) / 4096 - 1));
  @ assigns ((uint8_t *)buf)[0 .. bytes - 1];
  @ ensures \result == VMBUS_E_RANGE || 16 <= \result <= bytes && \result % 8 == 0; */
int vmbus_wire_range_put(uint32_t byte_count, uint32_t byte_offset, const uint64_t *pfns, void *buf,
			 size_t bytes)
{
	uint8_t *p = buf;
	uint32_t i, pages;

	if (byte_count == 0 || byte_count > RANGE_BYTES_MAX || byte_offset >= VMBUS_PAGE_BYTES)
		return VMBUS_E_RANGE;
	pages = range_pages(byte_count, byte_offset);
	if (bytes < GPA_RANGE_FIXED || pages > (bytes - GPA_RANGE_FIXED) / 8u)
		return VMBUS_E_RANGE;
	put32(p, byte_count);
	put32(p + 4, byte_offset);
	/*@ loop invariant 0 <= i <= pages;
	  @ loop assigns i, p[8 .. bytes - 1];
	  @ loop variant pages - i; */
	for (i = 0; i < pages; i++)
		put64(p + GPA_RANGE_FIXED + (size_t)i * 8u, pfns[i]);
	return (int)(GPA_RANGE_FIXED + pages * 8u);
}

/*@ requires \valid((uint8_t *)buf + (0 .. bytes - 1));
  @ assigns ((uint8_t *)buf)[0 .. bytes - 1];
  @ ensures \result == VMBUS_E_RANGE || \result == 8 <= bytes; */
int vmbus_wire_xfer_range_put(uint32_t byte_count, uint32_t byte_offset, void *buf, size_t bytes)
{
	uint8_t *p = buf;

	if (byte_count == 0 || bytes < XFER_RANGE_BYTES)
		return VMBUS_E_RANGE;
	put32(p, byte_count);
	put32(p + 4, byte_offset);
	return (int)XFER_RANGE_BYTES;
}

/*
 * A walk is sound when all that it will read is there; a broken or finished one reads nothing.
 */
/*@ predicate vmbus_walk_ok{L}(struct vmbus_wire_ranges *it) =
  @	\valid_read(it->at_p + (0 .. it->left_p - 1)) &&
  @	(it->type_p == VMBUS_PKT_XFER_PAGES ==> it->count_p * 8 <= it->left_p); */

/*@ requires \valid(it);
  @ assigns it->fault_p.field, it->fault_p.where, it->fault_p.value, it->fault_p.limit;
  @ assigns it->count_p, it->left_p;
  @ ensures \result == VMBUS_E_PEER && vmbus_walk_ok(it);
  @ ensures it->fault_p.field == field && it->fault_p.value == value;
  @ ensures it->fault_p.limit == limit && it->fault_p.where == it->where_p; */
static int ranges_fault(struct vmbus_wire_ranges *it, uint32_t field, uint64_t value,
			uint64_t limit)
{
	it->fault_p.field = field;
	it->fault_p.where = it->where_p;
	it->fault_p.value = value;
	it->fault_p.limit = limit;
	it->count_p = 0;
	it->left_p = 0;
	return VMBUS_E_PEER;
}

/*@ requires \valid(it) && \valid_read(pkt) && \separated(it, pkt);
  @ requires \valid_read(pkt->ext + (0 .. pkt->ext_len - 1));
  @ assigns *it;
  @ ensures vmbus_walk_ok(it);
  @ ensures \result == 0 ==> it->fault_p.field == VMBUS_FAULT_NONE && it->count_p >= 1 &&
  @	it->count_p * 8 <= it->left_p && it->left_p == pkt->ext_len - 8;
  @ ensures \result == VMBUS_E_PEER <==> it->fault_p.field == VMBUS_FAULT_RANGE_COUNT;
  @ ensures \result == 0 || \result == VMBUS_E_PEER || \result == VMBUS_E_INVAL ||
  @	\result == VMBUS_E_RANGE; */
int vmbus_wire_ranges_begin(struct vmbus_wire_ranges *it, const struct vmbus_packet *pkt)
{
	const struct vmbus_wire_ranges none = { 0 };
	struct vmbus_wire_ext ext;
	uint32_t most;
	int err;

	*it = none;
	/*@ assert cleared: it->count_p == 0 && it->left_p == 0 && it->type_p == 0 &&
	  @	it->fault_p.field == VMBUS_FAULT_NONE; */
	if (pkt->type != VMBUS_PKT_GPA_DIRECT && pkt->type != VMBUS_PKT_ESTABLISH_GPADL &&
	    pkt->type != VMBUS_PKT_XFER_PAGES)
		return VMBUS_E_INVAL;
	err = vmbus_wire_ext_get(pkt, &ext);
	if (err)
		return err;
	it->type_p = pkt->type;
	it->where_p = pkt->where;
	it->at_p = pkt->ext + EXT_FIXED;
	it->left_p = pkt->ext_len - EXT_FIXED;
	it->count_p = ext.range_count;
	most = it->left_p / (pkt->type == VMBUS_PKT_XFER_PAGES ? XFER_RANGE_BYTES : GPA_RANGE_MIN);
	if (ext.range_count == 0 || ext.range_count > most)
		return ranges_fault(it, VMBUS_FAULT_RANGE_COUNT, ext.range_count, most);
	return 0;
}

/*@ requires \valid(it) && \valid(range) && \separated(it, range) && vmbus_walk_ok(it);
  @ requires it->type_p == VMBUS_PKT_XFER_PAGES && it->count_p >= 1;
  @ requires it->fault_p.field == VMBUS_FAULT_NONE && range->pfn_count == 0;
  @ assigns it->fault_p.field, it->fault_p.where, it->fault_p.value, it->fault_p.limit;
  @ assigns it->at_p, it->count_p, it->left_p, range->byte_count, range->byte_offset;
  @ ensures vmbus_walk_ok(it);
  @ ensures \result == 1 || \result == VMBUS_E_PEER;
  @ ensures \result == 1 ==> it->count_p == \old(it->count_p) - 1 &&
  @	it->fault_p.field == VMBUS_FAULT_NONE && range->byte_count >= 1;
  @ ensures \result == VMBUS_E_PEER ==> it->fault_p.field == VMBUS_FAULT_RANGE_BYTES; */
static int xfer_range_next(struct vmbus_wire_ranges *it, struct vmbus_wire_range *range)
{
	const uint32_t byte_count = get32(it->at_p);

	if (byte_count == 0)
		return ranges_fault(it, VMBUS_FAULT_RANGE_BYTES, byte_count, UINT32_MAX);
	range->byte_count = byte_count;
	range->byte_offset = get32(it->at_p + 4);
	it->at_p += XFER_RANGE_BYTES;
	it->left_p -= XFER_RANGE_BYTES;
	it->count_p--;
	return 1;
}

/*@ requires \valid(it) && \valid(range) && \separated(it, range) && vmbus_walk_ok(it);
  @ assigns it->fault_p.field, it->fault_p.where, it->fault_p.value, it->fault_p.limit;
  @ assigns it->at_p, it->count_p, it->left_p, *range;
  @ ensures vmbus_walk_ok(it);
  @ ensures \result == 1 || \result == 0 || \result == VMBUS_E_PEER ||
  @	\result == VMBUS_E_FAULT;
  @ ensures \result == 1 ==> it->count_p == \old(it->count_p) - 1 &&
  @	it->fault_p.field == VMBUS_FAULT_NONE && range->byte_count >= 1;
  @ ensures \result == 1 ==> \valid_read(range->pfns + (0 .. range->pfn_count * 8 - 1));
  @ ensures \result == 1 && it->type_p != VMBUS_PKT_XFER_PAGES ==>
  @	range->byte_offset <= 4095 && range->byte_count <= RANGE_BYTES_MAX &&
  @	range->pfn_count == (range->byte_offset + range->byte_count + 4095) / 4096;
  @ ensures \result == 0 ==> it->count_p == 0 && it->fault_p.field == VMBUS_FAULT_NONE;
  @ ensures \result == VMBUS_E_PEER || \result == VMBUS_E_FAULT ==>
  @	it->fault_p.field != VMBUS_FAULT_NONE; */
int vmbus_wire_ranges_next(struct vmbus_wire_ranges *it, struct vmbus_wire_range *range)
{
	const struct vmbus_wire_range none = { 0 };
	uint32_t byte_count, byte_offset, pages, most;

	if (it->fault_p.field != VMBUS_FAULT_NONE)
		return VMBUS_E_FAULT;
	if (it->count_p == 0)
		return 0;
	*range = none;
	/*@ assert cleared: it->count_p == \at(it->count_p, Pre) &&
	  @	it->left_p == \at(it->left_p, Pre) && it->at_p == \at(it->at_p, Pre) &&
	  @	it->type_p == \at(it->type_p, Pre) &&
	  @	it->fault_p.field == VMBUS_FAULT_NONE && range->pfn_count == 0; */
	if (it->type_p == VMBUS_PKT_XFER_PAGES) /* begin() saw room for all of them */
		return xfer_range_next(it, range);
	if (it->left_p < GPA_RANGE_MIN)
		return ranges_fault(it, VMBUS_FAULT_RANGE_PFNS, it->left_p, GPA_RANGE_MIN);
	byte_count = get32(it->at_p);
	byte_offset = get32(it->at_p + 4);
	if (byte_count == 0 || byte_count > RANGE_BYTES_MAX)
		return ranges_fault(it, VMBUS_FAULT_RANGE_BYTES, byte_count, RANGE_BYTES_MAX);
	if (byte_offset >= VMBUS_PAGE_BYTES)
		return ranges_fault(it, VMBUS_FAULT_RANGE_OFFSET, byte_offset,
				    VMBUS_PAGE_BYTES - 1);
	pages = range_pages(byte_count, byte_offset);
	most = (it->left_p - GPA_RANGE_FIXED) / 8u;
	if (pages > most)
		return ranges_fault(it, VMBUS_FAULT_RANGE_PFNS, most, pages);
	range->byte_count = byte_count;
	range->byte_offset = byte_offset;
	range->pfn_count = pages;
	range->pfns = it->at_p + GPA_RANGE_FIXED;
	/*@ assert filled: it->count_p == \at(it->count_p, Pre) &&
	  @	it->left_p == \at(it->left_p, Pre) && it->at_p == \at(it->at_p, Pre) &&
	  @	it->fault_p.field == VMBUS_FAULT_NONE && pages * 8 + 8 <= it->left_p; */
	it->at_p += GPA_RANGE_FIXED + (size_t)pages * 8u;
	it->left_p -= GPA_RANGE_FIXED + pages * 8u;
	it->count_p--;
	return 1;
}

const struct vmbus_fault *vmbus_wire_ranges_fault(const struct vmbus_wire_ranges *it)
{
	return &it->fault_p;
}

/*@ requires \valid_read(range);
  @ requires \valid_read(range->pfns + (0 .. range->pfn_count * 8 - 1));
  @ assigns \nothing;
  @ ensures n < range->pfn_count ==> \result == vmbus_le64(range->pfns + n * 8);
  @ ensures n >= range->pfn_count ==> \result == UINT64_MAX; */
uint64_t vmbus_wire_range_pfn(const struct vmbus_wire_range *range, uint32_t n)
{
	return n < range->pfn_count ? get64(range->pfns + (size_t)n * 8u) : UINT64_MAX;
}
