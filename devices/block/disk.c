/* SPDX-License-Identifier: MIT */
/*
 * What an embedder says of a disk, checked and put into the form that the SCSI layer has.  It knows
 * no controller and no channel.
 */
#include "block/vsp.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SERIAL_MAX 32u

__attribute__((format(printf, 3, 4))) static int refuse(char *why, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, VMBUS__WHY_BYTES, format, args);
	va_end(args);
	return err;
}

/* A text, and its place, which has one byte more than it may be long. */
struct text {
	const char *field, *from;
	char *to;
	uint32_t room;
	bool pad;
};

static int take_text(const struct text *text, char *why)
{
	uint32_t n;

	for (n = 0; text->from[n]; n++) {
		if (n == text->room)
			return refuse(why, VMBUS_E_RANGE, "%s has more than %u characters",
				      text->field, text->room);
		if (text->from[n] < 0x20 || text->from[n] > 0x7E)
			return refuse(why, VMBUS_E_INVAL, "%s has 0x%02x, which is not printable",
				      text->field, (unsigned char)text->from[n]);
		text->to[n] = text->from[n];
	}
	if (text->pad)
		while (n < text->room)
			text->to[n++] = ' ';
	text->to[n] = '\0';
	return 0;
}

static int take_texts(struct vmbus__disk *to, const struct vmbus_block_disk *from, char *why)
{
	const struct text texts[] = {
		{ "serial", from->serial ? from->serial : "", to->serial, SERIAL_MAX, false },
		{ "vendor", from->vendor ? from->vendor : "Msft", to->vendor, 8, true },
		{ "product", from->product ? from->product : "Virtual Disk", to->product, 16,
		  true },
		{ "revision", from->revision ? from->revision : "1.0", to->revision, 4, true },
	};
	uint32_t i;
	int err = 0;

	for (i = 0; !err && i < sizeof(texts) / sizeof(texts[0]); i++)
		err = take_text(&texts[i], why);
	return err;
}

/* CRC-64 (ECMA-182, reflected) of the bytes of a number, the lowest first. */
uint64_t vmbus__block_mix(uint64_t h, uint64_t v, uint32_t bytes)
{
	uint32_t i, bit;

	for (i = 0; i < bytes; i++, v >>= 8) {
		h ^= v & 0xFFu;
		for (bit = 0; bit < 8; bit++)
			h = h >> 1 ^ (h & 1u ? 0xC96C5795D7870F42u : 0);
	}
	return h;
}

/* A number that is the same in the next process. */
static void make_id(struct vmbus__disk *to, const struct vmbus_guid *controller)
{
	static const struct vmbus_guid none;
	uint64_t h = UINT64_MAX;
	uint32_t i, n;

	for (i = 0; memcmp(controller, &none, sizeof(none)) && i < sizeof(controller->b); i++)
		h = vmbus__block_mix(h, controller->b[i], 1);
	for (i = 0; to->serial[i]; i++)
		h = vmbus__block_mix(h, (uint8_t)to->serial[i], 1);
	h = vmbus__block_mix(h, (uint64_t)to->target << 8 | to->lun, 2);
	for (n = 0; n < 2; n++, h = vmbus__block_mix(h, n, 8))
		for (i = 0; i < 8; i++)
			to->id.b[n * 8u + i] = (uint8_t)(h >> 8u * i & 255u);
	to->id.b[7] = (uint8_t)((to->id.b[7] & 0x0Fu) | 0x80u); /* version 8: one's own way */
	to->id.b[8] = (uint8_t)((to->id.b[8] & 0x3Fu) | 0x80u);
}

static int check_power(uint32_t n, const char *field, char *why)
{
	if (n == 0 || !(n & (n - 1u)))
		return 0;
	return refuse(why, VMBUS_E_INVAL, "%s of its store is %u, which is no power of 2", field,
		      n);
}

/* What a store says of itself, checked. */
int vmbus__disk_ask(const struct vmbus_store *store, struct vmbus_store_info *info, char *why)
{
	int err;

	memset(info, 0, sizeof(*info));
	err = store->ops->info(store->ctx, info);
	if (err)
		return refuse(why, err, "info() of its store, %.40s, returned %s",
			      store->ops->name ? store->ops->name : "?", vmbus_err_name(err));
	if (info->bytes == 0 || info->bytes > VMBUS_STORE_BYTES_MAX)
		return refuse(
			why, VMBUS_E_RANGE, "its store has %llu bytes, and may have 1 to %llu",
			(unsigned long long)info->bytes, (unsigned long long)VMBUS_STORE_BYTES_MAX);
	err = check_power(info->block_bytes, "block_bytes", why);
	if (!err)
		err = check_power(info->discard_bytes, "discard_bytes", why);
	return err ? err : check_power(info->align_bytes, "align_bytes", why);
}

int vmbus__disk_size(const struct vmbus__disk *disk, const struct vmbus_store_info *info,
		     uint64_t *bytes, char *why)
{
	const uint32_t sector = 1u << disk->sector_shift;

	*bytes = info->bytes >> disk->sector_shift << disk->sector_shift;
	if (*bytes == 0)
		return refuse(why, VMBUS_E_RANGE,
			      "its store has %llu bytes, and a sector has %u: none is whole",
			      (unsigned long long)info->bytes, sector);
	if (info->align_bytes > sector)
		return refuse(why, VMBUS_E_RANGE,
			      "align_bytes of its store is %u, and may be up to its sector, %u",
			      info->align_bytes, sector);
	return 0;
}

/* All but whether it can write. */
static int check(const struct vmbus_block_disk *from, char *why)
{
	const struct vmbus_store_ops *const ops = from->store.ops;

	if (!ops)
		return refuse(why, VMBUS_E_INVAL, "there is no store");
	if (from->target >= VMBUS__TARGETS)
		return refuse(why, VMBUS_E_RANGE, "target is %u, and may be 0 to %u", from->target,
			      VMBUS__TARGETS - 1u);
	if (from->sector && from->sector != 512 && from->sector != 4096)
		return refuse(why, VMBUS_E_RANGE, "sector is %u, and may be 512 or 4096",
			      from->sector);
	if (ops->struct_bytes < sizeof(*ops))
		return refuse(
			why, VMBUS_E_INVAL,
			"struct_bytes of its store's table is %zu, and has to be at least %zu",
			ops->struct_bytes, sizeof(*ops));
	if (!ops->info || !ops->read)
		return refuse(why, VMBUS_E_INVAL, "its store lacks info or read");
	return 0;
}

int vmbus__disk_make(struct vmbus__disk *to, const struct vmbus_block_disk *from,
		     const struct vmbus_block_opts *opts, char *why)
{
	static const struct vmbus_guid none;
	int err = check(from, why);

	if (err)
		return err;
	memset(to, 0, sizeof(*to));
	err = take_texts(to, from, why);
	if (!err)
		err = vmbus__disk_ask(&from->store, &to->info, why);
	if (err)
		return err;
	to->store = from->store;
	to->target = from->target;
	to->lun = from->lun;
	to->sector_shift = from->sector == 4096 ? 12 : 9;
	to->transfer_bytes = opts->transfer_bytes;
	to->read_only = from->read_only || (to->info.flags & VMBUS_STORE_READ_ONLY);
	to->write_through = from->write_through;
	if (!from->store.ops->write && !to->read_only)
		return refuse(why, VMBUS_E_INVAL, "its store lacks write, and it is not read-only");
	to->id = from->id;
	if (memcmp(&to->id, &none, sizeof(none)) == 0)
		make_id(to, &opts->id);
	return vmbus__disk_size(to, &to->info, &to->bytes, why);
}
