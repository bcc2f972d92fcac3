/* SPDX-License-Identifier: MIT */
/*
 * The descriptor check, the type-specific headers and the walk over ranges, against a reference
 * that works byte by byte with 64-bit numbers.
 *
 * Input: 2 bytes of available ring bytes in qwords, then a packet from its descriptor on.
 */
#include "fuzz/input.h"
#include "wire/pkt.h"

/* Fields of a header at fixed places; -1 in a place: the type has it not. */
struct layout {
	int gpadl, xfer_set, sender_owns, range_count, byte_offset, byte_count, total_bytes;
};

static const struct layout layouts[14] = {
	[1] = { -1, -1, -1, -1, -1, -1, -1 },  [2] = { 0, 4, -1, -1, -1, -1, -1 },
	[3] = { 0, 4, -1, -1, -1, -1, -1 },    [4] = { 0, -1, -1, 4, -1, -1, -1 },
	[5] = { 0, -1, -1, -1, -1, -1, -1 },   [6] = { -1, -1, -1, -1, -1, -1, -1 },
	[7] = { -1, 0, 2, 4, -1, -1, -1 },     [8] = { 0, -1, -1, -1, -1, -1, -1 },
	[9] = { -1, -1, -1, 4, -1, -1, -1 },   [10] = { -1, -1, -1, -1, -1, -1, -1 },
	[11] = { -1, -1, -1, -1, -1, -1, -1 }, [12] = { -1, -1, -1, -1, -1, -1, -1 },
	[13] = { -1, -1, -1, -1, 8, 12, 0 },
};

static uint64_t field(const uint8_t *p, int at, uint32_t bytes)
{
	return at < 0 ? 0 : get_le(p + at, bytes);
}

static void check_ext(const struct vmbus_packet *pkt)
{
	struct vmbus_wire_ext ext, again;
	struct vmbus_packet copy = *pkt;
	const int ext_min = ref_ext_min(pkt->type);
	uint8_t buf[16];
	const struct layout *l;
	int ret;

	memset(&ext, 0x55, sizeof(ext));
	ret = vmbus_wire_ext_get(pkt, &ext);
	if (ext_min < 0 || pkt->ext_len < (uint32_t)ext_min) {
		MUST(ret == (ext_min < 0 ? VMBUS_E_INVAL : VMBUS_E_RANGE));
		return;
	}
	MUST(ret == 0);
	l = &layouts[pkt->type];
	MUST(ext.gpadl == field(pkt->ext, l->gpadl, 4));
	MUST(ext.xfer_set == field(pkt->ext, l->xfer_set, 2));
	MUST(ext.sender_owns == field(pkt->ext, l->sender_owns, 1));
	MUST(ext.range_count == field(pkt->ext, l->range_count, 4));
	MUST(ext.byte_offset == field(pkt->ext, l->byte_offset, 4));
	MUST(ext.byte_count == field(pkt->ext, l->byte_count, 4));
	MUST(ext.total_bytes == field(pkt->ext, l->total_bytes, 8));
	MUST(vmbus_wire_ext_put(pkt->type, &ext, buf, sizeof(buf)) == ext_min);
	copy.ext = buf;
	copy.ext_len = (uint32_t)ext_min;
	MUST(vmbus_wire_ext_get(&copy, &again) == 0);
	MUST(memcmp(&ext, &again, sizeof(ext)) == 0);
}

/* What the walk must say about one range at p of which left bytes follow; its bytes in *bytes. */
static uint32_t ref_range(uint32_t type, const uint8_t *p, uint64_t left, uint64_t *pages,
			  uint64_t *bytes)
{
	const uint64_t count = left >= 8 ? get_le(p, 4) : 0,
		       offset = left >= 8 ? get_le(p + 4, 4) : 0;

	*pages = 0;
	*bytes = 8;
	if (type == VMBUS_PKT_XFER_PAGES)
		return count ? VMBUS_FAULT_NONE : VMBUS_FAULT_RANGE_BYTES;
	if (left < 16)
		return VMBUS_FAULT_RANGE_PFNS;
	if (count == 0 || count > 0x100000000u - 8192)
		return VMBUS_FAULT_RANGE_BYTES;
	if (offset > 4095)
		return VMBUS_FAULT_RANGE_OFFSET;
	for (*pages = 1; *pages * 4096 < offset + count; ++*pages)
		if (*pages > left) /* already too many: need not count on */
			return VMBUS_FAULT_RANGE_PFNS;
	*bytes += *pages * 8;
	return *bytes > left ? VMBUS_FAULT_RANGE_PFNS : VMBUS_FAULT_NONE;
}

static void walk(struct vmbus_wire_ranges *it, const struct vmbus_packet *pkt, uint64_t count)
{
	const uint8_t *p = pkt->ext + 8;
	uint64_t left = pkt->ext_len - 8, pages, bytes, i, n;
	struct vmbus_wire_range r;

	for (n = 0; n < count; n++) {
		const uint32_t fault = ref_range(pkt->type, p, left, &pages, &bytes);
		const int ret = vmbus_wire_ranges_next(it, &r);

		MUST(ret == (fault ? VMBUS_E_PEER : 1));
		MUST(vmbus_wire_ranges_fault(it)->field == fault);
		if (fault) {
			MUST(vmbus_wire_ranges_next(it, &r) == VMBUS_E_FAULT);
			return;
		}
		MUST(r.byte_count == get_le(p, 4) && r.byte_offset == get_le(p + 4, 4));
		MUST(r.pfn_count == pages);
		for (i = 0; i < pages; i++)
			MUST(vmbus_wire_range_pfn(&r, (uint32_t)i) == get_le(p + 8 + 8 * i, 8));
		MUST(vmbus_wire_range_pfn(&r, r.pfn_count) == UINT64_MAX);
		p += bytes;
		left -= bytes;
	}
	MUST(vmbus_wire_ranges_next(it, &r) == 0);
}

static void check_walk(const struct vmbus_packet *pkt)
{
	const bool xfer = pkt->type == VMBUS_PKT_XFER_PAGES;
	struct vmbus_wire_ranges it;
	int ret = vmbus_wire_ranges_begin(&it, pkt);
	uint64_t count, most;

	if (!xfer && pkt->type != VMBUS_PKT_GPA_DIRECT && pkt->type != VMBUS_PKT_ESTABLISH_GPADL) {
		MUST(ret == VMBUS_E_INVAL);
		return;
	}
	if (pkt->ext_len < 8) {
		MUST(ret == VMBUS_E_RANGE);
		return;
	}
	count = get_le(pkt->ext + 4, 4);
	most = (pkt->ext_len - 8) / (xfer ? 8 : 16);
	if (count == 0 || count > most) {
		MUST(ret == VMBUS_E_PEER);
		MUST(vmbus_wire_ranges_fault(&it)->field == VMBUS_FAULT_RANGE_COUNT);
		return;
	}
	MUST(ret == 0);
	walk(&it, pkt, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	const uint32_t avail = 24 + take(&in, 2) * 8;
	uint64_t value, limit, d;
	struct vmbus_packet pkt = { 0 };
	struct vmbus_fault f = { 0 };
	uint32_t offset;
	uint8_t *ext;

	if (in.left < 16)
		return 0;
	(void)snprintf(checks_context, sizeof(checks_context), "descriptor, %u available", avail);
	d = get_le(in.at, 8);
	f.field = vmbus__desc_check(d, avail, &value, &limit);
	MUST(f.field == ref_desc_fault(in.at, avail));
	if (f.field != VMBUS_FAULT_NONE) {
		f.value = value;
		f.limit = limit;
		check_fault(&f);
	}
	/* Go on with what there is, also behind a wrong descriptor: the calls below check again. */
	offset = (uint32_t)get_le(in.at + 2, 2) * 8;
	pkt.type = (uint16_t)get_le(in.at, 2);
	pkt.flags = (uint16_t)get_le(in.at + 6, 2);
	pkt.ext_len = offset < 16 ? 0 : offset - 16;
	if (pkt.ext_len > in.left - 16)
		pkt.ext_len = (uint32_t)(in.left - 16) / 8 * 8;
	ext = malloc(pkt.ext_len + 1u); /* exact, so that a sanitizer sees its end */
	MUST(ext);
	memcpy(ext, in.at + 16, pkt.ext_len);
	pkt.ext = ext;
	check_ext(&pkt);
	check_walk(&pkt);
	free(ext);
	return 0;
}
