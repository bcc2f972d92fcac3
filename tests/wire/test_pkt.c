/* SPDX-License-Identifier: MIT */
/*
 * Descriptors, type-specific headers and page ranges: src/wire/pkt.c.  The models here are written
 * from the layout tables, [PKT-DESC], [PKT-TYPE], [PKT-EXT], [PKT-GPA], [PKT-XFER], and share
 * nothing with the library.
 */
#include <vmbus/ring.h>
#include <vmbus/wire.h>

#include "vmbus_test.h"
#include "wire/pkt.h"

/* Bytes of each type's own header, [PKT-EXT]; -1: no such type. */
static const int ext_bytes[] = { -1, 0, 8, 8, 8, 8, 0, 8, 8, 8, 0, 0, 0, 16 };

static int model_ext(uint32_t type)
{
	return type < sizeof(ext_bytes) / sizeof(ext_bytes[0]) ? ext_bytes[type] : -1;
}

/* All that is wrong with a descriptor, a bit for each field. */
static uint32_t model_wrong(uint64_t type, uint64_t offset8, uint64_t length8, uint64_t flags,
			    uint64_t avail)
{
	uint32_t wrong = 0;
	const int ext = model_ext((uint32_t)type);

	if (ext < 0)
		wrong |= 1u << VMBUS_FAULT_PKT_TYPE;
	else if (offset8 * 8 < 16 + (uint64_t)ext)
		wrong |= 1u << VMBUS_FAULT_PKT_OFFSET;
	if (flags != 0 && flags != 1)
		wrong |= 1u << VMBUS_FAULT_PKT_FLAGS;
	if (offset8 > length8)
		wrong |= 1u << VMBUS_FAULT_PKT_OFFSET_PAST;
	if (length8 * 8 + 8 > avail)
		wrong |= 1u << VMBUS_FAULT_PKT_LENGTH;
	return wrong;
}

static void desc_value(uint32_t field, uint64_t d, uint64_t *value)
{
	switch (field) {
	case VMBUS_FAULT_PKT_TYPE:
		*value = d & 0xffff;
		break;
	case VMBUS_FAULT_PKT_OFFSET:
	case VMBUS_FAULT_PKT_OFFSET_PAST:
		*value = d >> 16 & 0xffff;
		break;
	case VMBUS_FAULT_PKT_LENGTH:
		*value = (d >> 32 & 0xffff) * 8 + 8;
		break;
	default:
		*value = d >> 48;
		break;
	}
}

static void check_one(uint32_t type, uint32_t offset8, uint32_t length8, uint32_t flags,
		      uint32_t avail)
{
	const uint64_t d =
		(uint64_t)flags << 48 | (uint64_t)length8 << 32 | (uint64_t)offset8 << 16 | type;
	const uint32_t wrong = model_wrong(type, offset8, length8, flags, avail);
	uint64_t value = 99, limit = 99, expected;
	const uint32_t field = vmbus__desc_check(d, avail, &value, &limit);

	vmbus_test_at("type %u offset8 %u length8 %u flags %u avail %u", type, offset8, length8,
		      flags, avail);
	must_eq(vmbus__desc_ring_bytes(d), (uint64_t)length8 * 8 + 8);
	if (wrong == 0) {
		must_eq(field, VMBUS_FAULT_NONE);
		return;
	}
	must(field <= VMBUS_FAULT_PKT_LENGTH);
	must(wrong >> field & 1);
	desc_value(field, d, &expected);
	must_eq(value, expected);
	if (field == VMBUS_FAULT_PKT_LENGTH)
		must_eq(limit, avail);
	if (field == VMBUS_FAULT_PKT_OFFSET)
		must_eq(limit, 2 + model_ext(type) / 8);
	if (field == VMBUS_FAULT_PKT_OFFSET_PAST)
		must_eq(limit, length8);
}

/* [PKT-DESC]: every type at every boundary of the other fields and of what the ring holds. */
START_TEST(desc_check__against_a_model)
{
	static const uint32_t flags[] = { 0, 1, 2, 3, 0x100, 0x8000, 0xfffe, 0xffff };
	static const uint32_t fields[] = { 0, 1,     2,	     3,	     4,	     5,	    6,
					   8, 0x7ff, 0x7fff, 0x8000, 0xfffe, 0xffff };
	static const uint32_t delta[] = { 0, 8, 16 };
	const uint32_t n = sizeof(fields) / sizeof(fields[0]);
	const uint32_t type = _i < 20 ? (uint32_t)_i : _i == 20 ? 0x106u : 0xffffu;
	uint32_t o, l, f, k;

	for (o = 0; o < n; o++)
		for (l = 0; l < n; l++)
			for (f = 0; f < sizeof(flags) / sizeof(flags[0]); f++)
				for (k = 0; k < 3; k++) {
					const uint32_t total = fields[l] * 8 + 8;
					const uint32_t avail = total + 8 - delta[k];

					check_one(type, fields[o], fields[l], flags[f],
						  avail < 24 ? 24 : avail);
				}
}
END_TEST

/* No header of a type is believed to be there when offset8 says that it is not. */
START_TEST(lesson_08_header_shorter_than_type)
{
	uint32_t type, offset8;

	for (type = 1; type < 14; type++) {
		for (offset8 = 0; offset8 <= 5; offset8++) {
			uint64_t value, limit;
			const uint64_t d = 1000ull << 32 | (uint64_t)offset8 << 16 | type;
			const uint32_t field = vmbus__desc_check(d, 1u << 20, &value, &limit);
			const bool fits = offset8 * 8 >= 16 + (uint32_t)ext_bytes[type];
			struct vmbus_packet pkt = { .type = (uint16_t)type };
			struct vmbus_wire_ext ext;
			uint8_t *bytes;

			vmbus_test_at("type %u offset8 %u", type, offset8);
			must_eq(field, fits ? VMBUS_FAULT_NONE : VMBUS_FAULT_PKT_OFFSET);
			if (offset8 < 2)
				continue;
			/* Nor by the decoder of the header: bytes is as long as it says. */
			pkt.ext_len = offset8 * 8 - 16;
			bytes = malloc(pkt.ext_len ? pkt.ext_len : 1);
			must(bytes);
			memset(bytes, 1, pkt.ext_len);
			pkt.ext = bytes;
			must_eq(vmbus_wire_ext_get(&pkt, &ext), fits ? 0 : VMBUS_E_RANGE);
			free(bytes);
		}
	}
}
END_TEST

START_TEST(wire_ring_bytes__counts_all_parts)
{
	static const uint64_t lens[] = { 0,  1,	   7,	   8,	   9,	   15,	  16,
					 17, 4096, 524256, 524280, 524281, 524288 };
	uint32_t i, ext;

	for (i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		for (ext = 0; ext <= 64; ext += 8)
			must_eq(vmbus_wire_ring_bytes(ext, lens[i]),
				16 + ext + (lens[i] + 7) / 8 * 8 + 8);
	/* [PKT-LAYOUT]: what the length field can hold, and nothing above it. */
	must_eq(vmbus_wire_ring_bytes(0, 524264), VMBUS_PKT_RING_BYTES_MAX);
	must(vmbus_wire_ring_bytes(0, 524265) > VMBUS_PKT_RING_BYTES_MAX);
	must(vmbus_wire_ring_bytes(UINT32_MAX, UINT64_MAX) > VMBUS_PKT_RING_BYTES_MAX);
	must(vmbus_wire_ring_bytes(0, UINT64_MAX - 3) > VMBUS_PKT_RING_BYTES_MAX);
	must(vmbus_wire_ring_bytes(UINT32_MAX - 7, 0) > VMBUS_PKT_RING_BYTES_MAX);
}
END_TEST

START_TEST(wire_ext_min__of_every_number)
{
	static const uint32_t more[] = { 255, 256, 262, 65535, 65542, 1u << 31, UINT32_MAX };
	uint32_t type, i;

	for (type = 0; type < 32; type++) {
		const int ext = model_ext(type);

		must_eq(vmbus_wire_ext_min(type), ext < 0 ? VMBUS_E_INVAL : ext);
		must((strcmp(vmbus_wire_type_name(type), "?") == 0) == (ext < 0));
	}
	for (i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		must_eq(vmbus_wire_ext_min(more[i]), VMBUS_E_INVAL);
		must(strcmp(vmbus_wire_type_name(more[i]), "?") == 0);
	}
	ck_assert_str_eq(vmbus_wire_type_name(VMBUS_PKT_INBAND), "in-band");
}
END_TEST

/* Where each field of each type lies in the header. */
struct layout {
	uint32_t type;
	uint8_t bytes[16];
	struct vmbus_wire_ext ext;
};

static const struct layout layouts[] = {
	{ VMBUS_PKT_ADD_XFER_SET,
	  { 0x78, 0x56, 0x34, 0x12, 0xfe, 0xca, 0, 0 },
	  { .gpadl = 0x12345678, .xfer_set = 0xcafe } },
	{ VMBUS_PKT_REMOVE_XFER_SET,
	  { 0x78, 0x56, 0x34, 0x12, 0xfe, 0xca, 0, 0 },
	  { .gpadl = 0x12345678, .xfer_set = 0xcafe } },
	{ VMBUS_PKT_ESTABLISH_GPADL,
	  { 0x10, 0x1e, 0x0e, 0x80, 0x04, 0x03, 0x02, 0x81 },
	  { .gpadl = 0x800e1e10, .range_count = 0x81020304 } },
	{ VMBUS_PKT_TEARDOWN_GPADL, { 0x10, 0x1e, 0x0e, 0x80 }, { .gpadl = 0x800e1e10 } },
	{ VMBUS_PKT_GPADL, { 0xff, 0xff, 0xff, 0xff }, { .gpadl = UINT32_MAX } },
	{ VMBUS_PKT_XFER_PAGES,
	  { 0xfe, 0xca, 0x81, 0, 0x04, 0x03, 0x02, 0x81 },
	  { .xfer_set = 0xcafe, .sender_owns = 0x81, .range_count = 0x81020304 } },
	{ VMBUS_PKT_GPA_DIRECT,
	  { 0, 0, 0, 0, 0x04, 0x03, 0x02, 0x81 },
	  { .range_count = 0x81020304 } },
	{ VMBUS_PKT_ADDITIONAL_DATA,
	  { 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x81, 0xd4, 0xc3, 0xb2, 0xa1, 0x78, 0x56,
	    0x34, 0x92 },
	  { .total_bytes = 0x8123456789abcdef,
	    .byte_offset = 0xa1b2c3d4,
	    .byte_count = 0x92345678 } },
	{ VMBUS_PKT_SYNCH, { 0 }, { 0 } },
	{ VMBUS_PKT_INBAND, { 0 }, { 0 } },
	{ VMBUS_PKT_CANCEL, { 0 }, { 0 } },
	{ VMBUS_PKT_COMPLETION, { 0 }, { 0 } },
	{ VMBUS_PKT_USING_ADDITIONAL, { 0 }, { 0 } },
};
#define LAYOUTS (int)(sizeof(layouts) / sizeof(layouts[0]))

/* [PKT-EXT], and nothing is written past the header, or at all when there is no room. */
START_TEST(wire_ext_put__writes_each_field)
{
	const struct layout *l = &layouts[_i];
	const int min = ext_bytes[l->type];
	struct vmbus_wire_ext all;
	uint8_t buf[24];
	int room, i;

	for (room = 0; room <= 24; room++) {
		memset(buf, 0xaa, sizeof(buf));
		must_eq(vmbus_wire_ext_put(l->type, &l->ext, buf, (size_t)room),
			room < min ? VMBUS_E_RANGE : min);
		if (room >= min)
			must(memcmp(buf, l->bytes, (size_t)min) == 0);
		for (i = room < min ? 0 : min; i < 24; i++)
			must_eq(buf[i], 0xaa);
	}
	/* Fields that the type has not are passed over. */
	memset(&all, 0x5a, sizeof(all));
	if (min == 0)
		must_eq(vmbus_wire_ext_put(l->type, &all, NULL, 0), 0);
}
END_TEST

START_TEST(wire_ext_get__reads_each_field)
{
	const struct layout *l = &layouts[_i];
	const uint32_t min = (uint32_t)ext_bytes[l->type];
	struct vmbus_wire_ext ext;
	struct vmbus_packet pkt = { .type = (uint16_t)l->type, .ext = l->bytes };
	uint8_t marks[sizeof(ext)];

	memset(marks, 0x5a, sizeof(marks));
	memset(&ext, 0x5a, sizeof(ext));
	for (pkt.ext_len = 0; pkt.ext_len < min; pkt.ext_len++) {
		must_eq(vmbus_wire_ext_get(&pkt, &ext), VMBUS_E_RANGE);
		must(memcmp(&ext, marks, sizeof(ext)) == 0);
	}
	must_eq(vmbus_wire_ext_get(&pkt, &ext), 0);
	must(memcmp(&ext, &l->ext, sizeof(ext)) == 0);
}
END_TEST

START_TEST(wire_ext__refuses_types_that_are_none)
{
	static const uint16_t types[] = { 0, 14, 15, 255, 256, 65535 };
	struct vmbus_wire_ext ext = { 0 };
	uint8_t buf[16] = { 0 };
	uint32_t i;

	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		const struct vmbus_packet pkt = { .type = types[i], .ext = buf, .ext_len = 16 };

		must_eq(vmbus_wire_ext_put(types[i], &ext, buf, 16), VMBUS_E_INVAL);
		must_eq(vmbus_wire_ext_get(&pkt, &ext), VMBUS_E_INVAL);
	}
}
END_TEST

static uint64_t model_pages(uint64_t count, uint64_t offset)
{
	uint64_t first = offset / 4096, last = (offset + count - 1) / 4096;

	return last - first + 1;
}

/* [PKT-GPA]: GPA direct of section 9: 6000 bytes at 0x200 of pages 0x1234, 0x1235. */
START_TEST(wire_range_put__vector)
{
	static const uint8_t vector[] = { 0, 0, 0,    0,    1, 0,    0,	   0, 0x70, 0x17, 0,
					  0, 0, 2,    0,    0, 0x34, 0x12, 0, 0,    0,	  0,
					  0, 0, 0x35, 0x12, 0, 0,    0,	   0, 0,    0 };
	const uint64_t pfns[] = { 0x1234, 0x1235 };
	struct vmbus_wire_ext ext = { .range_count = 1 };
	struct vmbus_wire_ranges it;
	struct vmbus_wire_range range;
	struct vmbus_packet pkt = { .type = VMBUS_PKT_GPA_DIRECT };
	uint8_t buf[32];

	must_eq(vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &ext, buf, sizeof(buf)), 8);
	must_eq(vmbus_wire_range_put(6000, 0x200, pfns, buf + 8, sizeof(buf) - 8), 24);
	ck_assert_mem_eq(buf, vector, sizeof(vector));
	pkt.ext = buf;
	pkt.ext_len = sizeof(buf);
	must_eq(vmbus_wire_ranges_begin(&it, &pkt), 0);
	must_eq(vmbus_wire_ranges_next(&it, &range), 1);
	must_eq(range.byte_count, 6000);
	must_eq(range.byte_offset, 0x200);
	must_eq(range.pfn_count, 2);
	must_eq(vmbus_wire_range_pfn(&range, 0), 0x1234);
	must_eq(vmbus_wire_range_pfn(&range, 1), 0x1235);
	must(vmbus_wire_range_pfn(&range, 2) == UINT64_MAX);
	must(vmbus_wire_range_pfn(&range, UINT32_MAX) == UINT64_MAX);
	must_eq(vmbus_wire_ranges_next(&it, &range), 0);
	must_eq(vmbus_wire_ranges_next(&it, &range), 0);
	must_eq(vmbus_wire_ranges_fault(&it)->field, VMBUS_FAULT_NONE);
}
END_TEST

/* Every boundary of count and offset: as many page numbers as pages are touched, and no more. */
START_TEST(wire_range_put__against_a_byte_model)
{
	static const uint32_t counts[] = { 1, 2, 4095, 4096, 4097, 8191, 8192, 8193, 12288, 40000 };
	static const uint32_t offsets[] = { 0, 1, 511, 2048, 4094, 4095 };
	static const uint32_t n = sizeof(counts) / sizeof(counts[0]);
	uint64_t pfns[16];
	uint8_t buf[8 + 16 * 8];
	uint32_t c, o, i, room;

	for (i = 0; i < 16; i++)
		pfns[i] = 0x1122334455667700ull + i;
	for (c = 0; c < n; c++) {
		for (o = 0; o < sizeof(offsets) / sizeof(offsets[0]); o++) {
			const uint32_t pages = (uint32_t)model_pages(counts[c], offsets[o]);

			vmbus_test_at("count %u offset %u", counts[c], offsets[o]);
			for (room = 0; room <= sizeof(buf); room++) {
				memset(buf, 0xaa, sizeof(buf));
				must_eq(vmbus_wire_range_put(counts[c], offsets[o], pfns, buf,
							     room),
					room < 8 + pages * 8 ? VMBUS_E_RANGE
							     : (int)(8 + pages * 8));
				for (i = room < 8 + pages * 8 ? 0 : 8 + pages * 8; i < sizeof(buf);
				     i++)
					must_eq(buf[i], 0xaa);
			}
			must_eq(buf[8], 0);
			must_eq(buf[15], 0x11);
			must_eq(buf[8 + (pages - 1) * 8], pages - 1);
		}
	}
}
END_TEST

START_TEST(wire_range_put__refuses_what_cannot_be)
{
	static const uint32_t counts[] = { 0, 0xffffe001u, 0xfffff000u, UINT32_MAX };
	static const uint32_t offsets[] = { 4096, 4097, 0x80000000u, UINT32_MAX };
	uint64_t pfn = 1;
	uint8_t buf[64];
	uint32_t i;

	memset(buf, 0xaa, sizeof(buf));
	for (i = 0; i < 4; i++) {
		must_eq(vmbus_wire_range_put(counts[i], 0, &pfn, buf, SIZE_MAX), VMBUS_E_RANGE);
		must_eq(vmbus_wire_range_put(1, offsets[i], &pfn, buf, SIZE_MAX), VMBUS_E_RANGE);
	}
	must_eq(vmbus_wire_range_put(0xffffe000u, 4095, &pfn, buf, 64), VMBUS_E_RANGE);
	must_eq(vmbus_wire_xfer_range_put(0, 5, buf, 64), VMBUS_E_RANGE);
	must_eq(vmbus_wire_xfer_range_put(1, 5, buf, 7), VMBUS_E_RANGE);
	for (i = 0; i < sizeof(buf); i++)
		must_eq(buf[i], 0xaa);
}
END_TEST

/* The largest range there is: 2^32 - 8192 bytes, a million page numbers. */
START_TEST(wire_range_put__largest_range)
{
	const uint32_t pages = (uint32_t)model_pages(0xffffe000u, 4095);
	const size_t bytes = 8 + (size_t)pages * 8;
	uint64_t *pfns = calloc(pages, 8);
	uint8_t *buf = malloc(bytes + 8);
	struct vmbus_wire_ext ext = { .range_count = 1 };
	struct vmbus_packet pkt = { .type = VMBUS_PKT_GPA_DIRECT,
				    .ext = buf,
				    .ext_len = (uint32_t)bytes + 8 };
	struct vmbus_wire_ranges it;
	struct vmbus_wire_range range;

	must(pfns && buf);
	pfns[pages - 1] = 0x123456789abcdef0;
	must_eq(pages, 1048575);
	must_eq(vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &ext, buf, 8), 8);
	must_eq(vmbus_wire_range_put(0xffffe000u, 4095, pfns, buf + 8, bytes - 1), VMBUS_E_RANGE);
	must_eq(vmbus_wire_range_put(0xffffe000u, 4095, pfns, buf + 8, bytes), bytes);
	must_eq(vmbus_wire_ranges_begin(&it, &pkt), 0);
	must_eq(vmbus_wire_ranges_next(&it, &range), 1);
	must_eq(range.pfn_count, pages);
	must_eq(vmbus_wire_range_pfn(&range, pages - 1), 0x123456789abcdef0);
	must_eq(vmbus_wire_ranges_next(&it, &range), 0);
	free(pfns);
	free(buf);
}
END_TEST

static uint64_t le(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

/*
 * What a walk over ext gives, by a naive reader that takes one range after the other and counts in
 * 64 bits.  Returns the ranges before the end or the first wrong one.
 */
static uint32_t model_walk(uint32_t type, const uint8_t *ext, uint32_t len, bool *wrong)
{
	const uint64_t count = le(ext + 4, 4);
	uint64_t at = 8, n;

	*wrong = false;
	if (count == 0 || at + count * (type == VMBUS_PKT_XFER_PAGES ? 8 : 16) > len) {
		*wrong = true;
		return 0;
	}
	for (n = 0; n < count; n++) {
		uint64_t bytes, offset, pages;

		*wrong = at + 8 > len;
		if (*wrong)
			break;
		bytes = le(ext + at, 4);
		offset = le(ext + at + 4, 4);
		if (type == VMBUS_PKT_XFER_PAGES) {
			*wrong = bytes == 0;
			pages = 0;
		} else {
			*wrong = bytes == 0 || offset > 4095 || bytes > 0xffffe000u;
			pages = *wrong ? 0 : model_pages(bytes, offset);
			*wrong = *wrong || at + 8 + pages * 8 > len;
		}
		if (*wrong)
			break;
		at += 8 + pages * 8;
	}
	return (uint32_t)n;
}

/* Walk a header whose memory is as long as it says, and compare with the model. */
static void walk_one(uint32_t type, const uint8_t *bytes, uint32_t len)
{
	struct vmbus_packet pkt = { .type = (uint16_t)type, .ext_len = len, .where = 4080 };
	struct vmbus_wire_ranges it;
	struct vmbus_wire_range range;
	uint8_t *ext = malloc(len);
	uint32_t n = 0, expected, i;
	bool wrong;
	int err;

	must(ext);
	memcpy(ext, bytes, len);
	pkt.ext = ext;
	expected = model_walk(type, ext, len, &wrong);
	err = vmbus_wire_ranges_begin(&it, &pkt);
	if (err == 0)
		while ((err = vmbus_wire_ranges_next(&it, &range)) == 1) {
			n++;
			must(range.byte_count != 0);
			must_eq(range.pfn_count,
				type == VMBUS_PKT_XFER_PAGES
					? 0
					: model_pages(range.byte_count, range.byte_offset));
			for (i = 0; i < range.pfn_count; i++)
				(void)vmbus_wire_range_pfn(&range,
							   i); /* within ext: the sanitizer sees */
			must(range.pfn_count == 0 ||
			     (range.pfns >= ext && range.pfns + range.pfn_count * 8u <= ext + len));
		}
	must_eq(n, expected);
	must_eq(err, wrong ? VMBUS_E_PEER : 0);
	must((vmbus_wire_ranges_fault(&it)->field != VMBUS_FAULT_NONE) == wrong);
	if (wrong) {
		must_eq(vmbus_wire_ranges_fault(&it)->where, 4080);
		must_eq(vmbus_wire_ranges_next(&it, &range), VMBUS_E_FAULT);
		must_eq(vmbus_wire_ranges_next(&it, &range), VMBUS_E_FAULT);
	}
	free(ext);
}

static void put_le(uint8_t *p, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		*p++ = (uint8_t)v;
}

static const uint32_t nasty[] = { 0,	       1,	    2,		 3,
				  8,	       4095,	    4096,	 4097,
				  8192,	       0x7fffffffu, 0x80000000u, 0xffffe000u,
				  0xffffe001u, 0xfffff000u, 0xfffff001u, 0xffffffffu };
#define NASTY (int)(sizeof(nasty) / sizeof(nasty[0]))

static const uint32_t ranged[] = { VMBUS_PKT_GPA_DIRECT, VMBUS_PKT_ESTABLISH_GPADL,
				   VMBUS_PKT_XFER_PAGES };

/*
 * Two ranges, each with every pair of boundary values for count and offset, range counts around
 * what is there and around 2^32, and headers cut at every qword.
 */
START_TEST(lesson_09_ranges_against_a_byte_model)
{
	const uint32_t type = ranged[_i / NASTY];
	const uint32_t c1 = nasty[_i % NASTY];
	uint8_t ext[64] = { 0 };
	int o1, c2, o2, k;
	uint32_t len;

	for (o1 = 0; o1 < NASTY; o1++)
		for (c2 = 0; c2 < NASTY; c2++)
			for (o2 = 0; o2 < NASTY; o2 += 3)
				for (k = 0; k < NASTY; k++) {
					const uint32_t at = type == VMBUS_PKT_XFER_PAGES ? 16 : 24;

					put_le(ext + 4, 4, nasty[k]);
					put_le(ext + 8, 4, c1);
					put_le(ext + 12, 4, nasty[o1]);
					put_le(ext + at, 4, nasty[c2]);
					put_le(ext + at + 4, 4, nasty[o2]);
					len = 8 + (uint32_t)(o1 + c2 + o2 + k) % 8 * 8;
					walk_one(type, ext, len);
				}
}
END_TEST

/* Many small ranges, every count up to what is there and past it, every length. */
START_TEST(wire_ranges__every_count_and_length)
{
	const uint32_t type = ranged[_i];
	const uint32_t step = type == VMBUS_PKT_XFER_PAGES ? 8 : 16;
	uint8_t ext[8 + 16 * 16];
	uint32_t i, count, len;

	memset(ext, 0, sizeof(ext));
	for (i = 8; i + step <= sizeof(ext); i += step) {
		put_le(ext + i, 4, 1 + i);
		put_le(ext + i + 4, 4, i);
	}
	for (count = 0; count < 40; count++)
		for (len = 8; len <= sizeof(ext); len += 8) {
			vmbus_test_at("count %u len %u", count, len);
			put_le(ext + 4, 4, count);
			walk_one(type, ext, len);
		}
	for (i = 0; i < 64; i++) { /* counts whose product with the size of a range overflows */
		put_le(ext + 4, 4, 0x10000000ull * (i % 16) + i / 16);
		walk_one(type, ext, sizeof(ext));
	}
}
END_TEST

START_TEST(wire_ranges_begin__refuses_types_without_ranges)
{
	const uint8_t ext[24] = { 0, 0, 0, 0, 1, 0, 0, 0, 1 };
	uint32_t type;

	for (type = 0; type < 20; type++) {
		struct vmbus_packet pkt = { .type = (uint16_t)type, .ext = ext, .ext_len = 24 };
		struct vmbus_wire_ranges it;
		const bool has = type == 4 || type == 7 || type == 9;

		must_eq(vmbus_wire_ranges_begin(&it, &pkt), has ? 0 : VMBUS_E_INVAL);
		pkt.ext_len = 0;
		must_eq(vmbus_wire_ranges_begin(&it, &pkt), has ? VMBUS_E_RANGE : VMBUS_E_INVAL);
	}
}
END_TEST

/* [PKT-XFER]: what is put is what comes back, in the layout of the table. */
START_TEST(wire_xfer_range_put__round_trip)
{
	static const uint8_t bytes[] = { 0x04, 0x03, 0x02, 0x81, 0xef, 0xbe, 0xad, 0xde };
	struct vmbus_wire_ext head = { .xfer_set = 0xcafe, .range_count = 2 };
	uint8_t ext[24];
	struct vmbus_packet pkt = { .type = VMBUS_PKT_XFER_PAGES, .ext = ext, .ext_len = 24 };
	struct vmbus_wire_ranges it;
	struct vmbus_wire_range range;

	must_eq(vmbus_wire_ext_put(VMBUS_PKT_XFER_PAGES, &head, ext, 8), 8);
	must_eq(vmbus_wire_xfer_range_put(0x81020304, 0xdeadbeef, ext + 8, 8), 8);
	must_eq(vmbus_wire_xfer_range_put(1, 0, ext + 16, 8), 8);
	ck_assert_mem_eq(ext + 8, bytes, 8);
	must_eq(vmbus_wire_ranges_begin(&it, &pkt), 0);
	must_eq(vmbus_wire_ranges_next(&it, &range), 1);
	must_eq(range.byte_count, 0x81020304);
	must_eq(range.byte_offset, 0xdeadbeef);
	must_eq(range.pfn_count, 0);
	must(vmbus_wire_range_pfn(&range, 0) == UINT64_MAX);
	must_eq(vmbus_wire_ranges_next(&it, &range), 1);
	must_eq(range.byte_count, 1);
	must_eq(vmbus_wire_ranges_next(&it, &range), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "descriptor", 10);

	tcase_add_loop_test(tc, desc_check__against_a_model, 0, 22);
	tcase_add_test(tc, lesson_08_header_shorter_than_type);
	tcase_add_test(tc, wire_ring_bytes__counts_all_parts);
	tc = vmbus_test_case(suite, "header", 10);
	tcase_add_test(tc, wire_ext_min__of_every_number);
	tcase_add_loop_test(tc, wire_ext_put__writes_each_field, 0, LAYOUTS);
	tcase_add_loop_test(tc, wire_ext_get__reads_each_field, 0, LAYOUTS);
	tcase_add_test(tc, wire_ext__refuses_types_that_are_none);
	tc = vmbus_test_case(suite, "ranges", 10);
	tcase_add_test(tc, wire_range_put__vector);
	tcase_add_test(tc, wire_range_put__against_a_byte_model);
	tcase_add_test(tc, wire_range_put__refuses_what_cannot_be);
	tcase_add_test(tc, wire_range_put__largest_range);
	tcase_add_loop_test(tc, lesson_09_ranges_against_a_byte_model, 0, 3 * NASTY);
	tcase_add_loop_test(tc, wire_ranges__every_count_and_length, 0, 3);
	tcase_add_test(tc, wire_ranges_begin__refuses_types_without_ranges);
	tcase_add_test(tc, wire_xfer_range_put__round_trip);
}

VMBUS_TEST_MAIN("wire.pkt", tests)
