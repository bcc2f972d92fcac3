/* SPDX-License-Identifier: MIT */
/*
 * What an embedder says of a disk, checked and put into the form that the SCSI layer has.  It knows
 * no controller and no channel.
 */
#include "block/vsp.h"

#include <string.h>

#define SERIAL_MAX 32u

/* A text into its place, which has one byte more than it may be long. */
static int take_text(char *to, uint32_t room, const char *from, bool pad)
{
	uint32_t n;

	for (n = 0; from[n]; n++) {
		if (n == room)
			return VMBUS_E_RANGE;
		if (from[n] < 0x20 || from[n] > 0x7E)
			return VMBUS_E_INVAL;
		to[n] = from[n];
	}
	if (pad)
		while (n < room)
			to[n++] = ' ';
	to[n] = '\0';
	return 0;
}

static int take_texts(struct vmbus__disk *to, const struct vmbus_block_disk *from)
{
	int err = take_text(to->serial, SERIAL_MAX, from->serial ? from->serial : "", false);

	if (!err)
		err = take_text(to->vendor, 8, from->vendor ? from->vendor : "Msft", true);
	if (!err)
		err = take_text(to->product, 16, from->product ? from->product : "Virtual Disk",
				true);
	if (!err)
		err = take_text(to->revision, 4, from->revision ? from->revision : "1.0", true);
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

static bool is_power(uint32_t n)
{
	return n && !(n & (n - 1u));
}

/* What a store says of itself, checked. */
int vmbus__disk_ask(const struct vmbus_store *store, struct vmbus_store_info *info)
{
	int err;

	memset(info, 0, sizeof(*info));
	err = store->ops->info(store->ctx, info);
	if (err)
		return err;
	if (info->bytes == 0 || info->bytes > VMBUS_STORE_BYTES_MAX)
		return VMBUS_E_RANGE;
	if ((info->block_bytes && !is_power(info->block_bytes)) ||
	    (info->discard_bytes && !is_power(info->discard_bytes)) ||
	    (info->align_bytes && !is_power(info->align_bytes)))
		return VMBUS_E_INVAL;
	return 0;
}

int vmbus__disk_size(const struct vmbus__disk *disk, const struct vmbus_store_info *info,
		     uint64_t *bytes)
{
	*bytes = info->bytes >> disk->sector_shift << disk->sector_shift;
	if (*bytes == 0 || info->align_bytes > 1u << disk->sector_shift)
		return VMBUS_E_RANGE;
	return 0;
}

static bool is_whole(const struct vmbus_store *store, bool read_only)
{
	const struct vmbus_store_ops *const ops = store->ops;

	return ops && ops->struct_bytes >= sizeof(*ops) && ops->info && ops->read &&
	       (ops->write || read_only);
}

int vmbus__disk_make(struct vmbus__disk *to, const struct vmbus_block_disk *from,
		     const struct vmbus_block_opts *opts)
{
	static const struct vmbus_guid none;
	int err;

	if (from->struct_bytes < sizeof(*from) || !from->store.ops)
		return VMBUS_E_INVAL;
	if (from->target >= VMBUS__TARGETS ||
	    (from->sector && from->sector != 512 && from->sector != 4096))
		return VMBUS_E_RANGE;
	memset(to, 0, sizeof(*to));
	if (!is_whole(&from->store, true))
		return VMBUS_E_INVAL;
	err = take_texts(to, from);
	if (!err)
		err = vmbus__disk_ask(&from->store, &to->info);
	if (err)
		return err;
	to->store = from->store;
	to->target = from->target;
	to->lun = from->lun;
	to->sector_shift = from->sector == 4096 ? 12 : 9;
	to->transfer_bytes = opts->transfer_bytes;
	to->read_only = from->read_only || (to->info.flags & VMBUS_STORE_READ_ONLY);
	to->write_through = from->write_through;
	if (!is_whole(&from->store, to->read_only))
		return VMBUS_E_INVAL;
	to->id = from->id;
	if (memcmp(&to->id, &none, sizeof(none)) == 0)
		make_id(to, &opts->id);
	return vmbus__disk_size(to, &to->info, &to->bytes);
}
