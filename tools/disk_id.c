/* SPDX-License-Identifier: MIT */
/*
 * What a disk is known by, in page 83, when nobody said it: a number made from what names its bytes, so
 * that it is the same at each start and another one for the disk of another controller.
 */
#define _GNU_SOURCE
#include "disk.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a of a text and its end, then each bit to all places. */
static uint64_t mix(uint64_t h, const char *text)
{
	do {
		h = (h ^ (uint8_t)*text) * UINT64_C(0x100000001B3);
	} while (*text++);
	h = (h ^ h >> 33) * UINT64_C(0xFF51AFD7ED558CCD);
	h = (h ^ h >> 33) * UINT64_C(0xC4CEB9FE1A85EC53);
	return h ^ h >> 33;
}

static void make(struct vmbus_guid *id, const char *const *text, uint32_t count)
{
	uint64_t h[2] = { UINT64_C(0xCBF29CE484222325), UINT64_C(0x9E3779B97F4A7C15) };
	uint32_t i, n;

	for (i = 0; i < count; i++)
		for (n = 0; n < 2; n++)
			h[n] = mix(h[n], text[i]);
	for (i = 0; i < 16; i++)
		id->b[i] = (uint8_t)(h[i / 8u] >> 8u * (i % 8u) & 255u);
	id->b[7] = (uint8_t)((id->b[7] & 0x0Fu) | 0x80u); /* version 8: one's own way */
	id->b[8] = (uint8_t)((id->b[8] & 0x3Fu) | 0x80u);
}

static bool has_id(const struct disk_spec *spec)
{
	const struct vmbus_guid none = { { 0 } };

	return !vmbus_guid_equal(&spec->id, &none);
}

void disk_identify(struct disk_spec *spec, const char *scope, const char *name)
{
	const bool placed = spec->kind == DISK_MEM || spec->kind == DISK_NULL;
	char *const scoped = placed && scope ? realpath(scope, NULL) : NULL;
	char *const path = spec->kind == DISK_FILE ? realpath(spec->source, NULL) : NULL;
	const char *text[4] = { "file", path ? path : spec->source, "", "" };

	if (spec->kind == DISK_NBD)
		text[0] = "nbd";
	if (placed) {
		text[0] = "memory";
		text[1] = scoped ? scoped : scope ? scope : "";
		text[2] = name ? name : "";
	}
	if (!has_id(spec) && !spec->serial[0] && spec->kind != DISK_NONE && (!placed || scope)) {
		make(&spec->id, text, 3);
		spec->id_of_place = placed;
	}
	free(scoped);
	free(path);
}

struct vmbus_guid disk_id_at(const struct disk_spec *spec, uint8_t lun)
{
	struct vmbus_guid id = spec->id;
	const char place[3] = { (char)('0' + spec->target), (char)(lun / 16u + 'A'),
				(char)(lun % 16u + 'A') };
	char guid[37], at[4] = "";
	const char *const text[2] = { guid, at };

	if (!spec->id_of_place)
		return id;
	vmbus_guid_format(&spec->id, guid);
	memcpy(at, place, sizeof(place));
	make(&id, text, 2);
	return id;
}
