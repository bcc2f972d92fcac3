/* SPDX-License-Identifier: MIT */
/*
 * What a disk says of itself, from private copies of its answers: each byte that is used is there,
 * and a number that cannot be is not believed.  It sends nothing.
 */
#include "storvsc/storvsc_state.h"

#define SECTOR_MIN 512u
#define SECTOR_MAX 4096u
#define BLOCK_MAX (UINT32_C(1) << 20)
#define BYTES_MAX (UINT64_C(1) << 62)

#define PAGE_SERIAL 0x80u
#define PAGE_ID 0x83u
#define PAGE_LIMITS 0xB0u
#define PAGE_PROVISIONING 0xB2u

static uint64_t get_be(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	for (; bytes; bytes--)
		v = v << 8 | *p++;
	return v;
}

/* Printable characters, without spaces at either end; room: with the zero at the end. */
static void text(char *to, uint32_t room, const uint8_t *from, uint32_t bytes)
{
	uint32_t i, n = 0;

	while (bytes && (from[bytes - 1] == ' ' || from[bytes - 1] == 0))
		bytes--;
	while (bytes && *from == ' ') {
		from++;
		bytes--;
	}
	for (i = 0; i < bytes && n + 1 < room; i++)
		to[n++] = from[i] > ' ' && from[i] < 127 ? (char)from[i] : ' ';
	to[n] = '\0';
}

/* Whether there is a disk. */
bool vmbus__found_inquiry(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes)
{
	if (bytes < 36 || p[0] != 0)
		return false;
	text(disk->vendor, sizeof(disk->vendor), p + 8, 8);
	text(disk->product, sizeof(disk->product), p + 16, 16);
	text(disk->revision, sizeof(disk->revision), p + 32, 4);
	return true;
}

/* Bytes of a page behind its header that are there. */
static uint32_t page_bytes(const uint8_t *p, uint32_t bytes, uint8_t page)
{
	uint32_t n;

	if (bytes < 4 || p[1] != page)
		return 0;
	n = (uint32_t)get_be(p + 2, 2);
	return n < bytes - 4 ? n : bytes - 4;
}

void vmbus__found_pages(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes)
{
	const uint32_t n = page_bytes(p, bytes, 0);
	uint32_t i;

	for (i = 0; i < n; i++) {
		switch (p[4 + i]) {
		case PAGE_SERIAL:
			disk->pages_p |= VMBUS__FOUND_SERIAL;
			break;
		case PAGE_ID:
			disk->pages_p |= VMBUS__FOUND_ID;
			break;
		case PAGE_LIMITS:
			disk->pages_p |= VMBUS__FOUND_LIMITS;
			break;
		case PAGE_PROVISIONING:
			disk->pages_p |= VMBUS__FOUND_PROVISIONING;
			break;
		default:
			break;
		}
	}
}

void vmbus__found_serial(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes)
{
	text(disk->serial, sizeof(disk->serial), p + 4, page_bytes(p, bytes, PAGE_SERIAL));
}

/*
 * The id: 16 bytes behind the vendor in a designator of vendor and id, or else that of a NAA, which
 * may be shorter.
 */
void vmbus__found_id(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes)
{
	const uint32_t end = 4 + page_bytes(p, bytes, PAGE_ID);
	uint32_t at, n;
	bool have = false;

	for (at = 4; at < end && end - at >= 4; at += 4 + n) {
		n = p[at + 3];
		if (n > end - at - 4)
			return;
		if ((p[at + 1] & 0x3F) == 1 && n == 24) {
			__builtin_memcpy(disk->id, p + at + 12, 16);
			return;
		}
		if ((p[at + 1] & 0x3F) == 3 && n <= 16 && !have) {
			__builtin_memset(disk->id, 0, 16);
			__builtin_memcpy(disk->id, p + at + 4, n);
			have = true;
		}
	}
}

void vmbus__found_limits(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes)
{
	if (page_bytes(p, bytes, PAGE_LIMITS) < 28 || get_be(p + 24, 4) == 0)
		return;
	disk->discard_max = (uint32_t)get_be(p + 20, 4);
	disk->discard_grain = (uint32_t)get_be(p + 28, 4);
	if (disk->discard_grain == 0)
		disk->discard_grain = 1;
}

/* After the limits. */
void vmbus__found_provisioning(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes)
{
	if (page_bytes(p, bytes, PAGE_PROVISIONING) < 4)
		return;
	disk->discard = p[5] & 0x80 && disk->discard_max;
	disk->discard_zeroes = disk->discard && p[5] & 0x1C;
}

/* Whether the sector, and the number of them, can be. */
static bool is_size(uint64_t last, uint64_t sector)
{
	return sector >= SECTOR_MIN && sector <= SECTOR_MAX && (sector & (sector - 1)) == 0 &&
	       last < BYTES_MAX / sector;
}

bool vmbus__found_capacity16(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes)
{
	uint32_t block;

	if (bytes < 12 || !is_size(get_be(p, 8), get_be(p + 8, 4)))
		return false;
	disk->sectors = get_be(p, 8) + 1;
	disk->sector = (uint32_t)get_be(p + 8, 4);
	disk->block = disk->sector;
	if (bytes < 16)
		return true;
	block = disk->sector << (p[13] & 15);
	if (block <= BLOCK_MAX)
		disk->block = block;
	if (!(p[14] & 0x80)) {
		disk->discard = false;
		disk->discard_zeroes = false;
	} else if (p[14] & 0x40) {
		disk->discard_zeroes = disk->discard;
	}
	return true;
}

bool vmbus__found_capacity10(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes)
{
	if (bytes < 8 || get_be(p, 4) == UINT32_MAX || !is_size(get_be(p, 4), get_be(p + 4, 4)))
		return false;
	disk->sectors = get_be(p, 4) + 1;
	disk->sector = (uint32_t)get_be(p + 4, 4);
	disk->block = disk->sector;
	disk->discard = false;
	disk->discard_zeroes = false;
	return true;
}

/* The header of MODE SENSE(6), and the caching page if it is among the pages.  Returns whether it is. */
bool vmbus__found_modes(struct vmbus_storvsc_disk *disk, const uint8_t *p, uint32_t bytes)
{
	uint32_t at, end;

	if (bytes < 4)
		return false;
	disk->read_only = (p[2] & 0x80) != 0;
	disk->fua = (p[2] & 0x10) != 0;
	end = p[0] + 1u < bytes ? p[0] + 1u : bytes;
	for (at = 4u + p[3]; at < end && end - at >= 3; at += 2u + p[at + 1]) {
		if (p[at] & 0x40) /* with a sub-page, whose length has two bytes */
			return false;
		if ((p[at] & 0x3F) == 8) {
			disk->cached = (p[at + 2] & 0x04) != 0;
			return true;
		}
	}
	return false;
}
