/* SPDX-License-Identifier: MIT */
/*
 * Receive-side scaling: key, table and what is hashed, as a guest sets them, [NET-RSS].  It is on only
 * when all of them are there.
 */
#include "net/control.h"

#include <string.h>

#define FUNCTION 0xFFu /* of the hash information */
#define HASH_UNCHANGED 0x2u
#define TABLE_UNCHANGED 0x4u
#define KEY_UNCHANGED 0x8u
#define LEAST_BYTES 28u /* of revision 1, without masks */

uint32_t vmbus__net_rss_hash(uint32_t info)
{
	uint32_t hash = 0;

	if (info & VMBUS__RSS_IPV4)
		hash |= VMBUS_FRAME_HASH_IPV4;
	if (info & VMBUS__RSS_TCPV4)
		hash |= VMBUS_FRAME_HASH_TCPV4;
	if (info & VMBUS__RSS_UDPV4)
		hash |= VMBUS_FRAME_HASH_UDPV4;
	if (info & (VMBUS__RSS_IPV6 | VMBUS__RSS_IPV6_EX))
		hash |= VMBUS_FRAME_HASH_IPV6;
	if (info & (VMBUS__RSS_TCPV6 | VMBUS__RSS_TCPV6_EX))
		hash |= VMBUS_FRAME_HASH_TCPV6;
	if (info & VMBUS__RSS_UDPV6)
		hash |= VMBUS_FRAME_HASH_UDPV6;
	return hash;
}

static bool within(uint32_t offset, uint32_t bytes, uint32_t all)
{
	return offset >= LEAST_BYTES && offset <= all && bytes <= all - offset;
}

/* Entries are repeated until the table is full, so that a mask finds one. */
static bool take_table(const struct vmbus__net_chan *ch, struct vmbus__net_shape *to,
		       const uint8_t *from, uint32_t entries)
{
	uint32_t i, channel;

	for (i = 0; i < VMBUS__NET_TABLE; i++) {
		channel = vmbus__net_get32(from + 4u * (i % entries));
		if (channel > ch->net->opts.subchannels)
			return false;
		to->table[i] = (uint8_t)channel;
	}
	to->table_mask = VMBUS__NET_TABLE - 1u;
	return true;
}

/* Into a copy of the shape; 0 or why not. */
static uint32_t take(const struct vmbus__net_chan *ch, struct vmbus__net_shape *to,
		     const uint8_t *in, uint32_t bytes)
{
	struct vmbus__rss_set set;

	vmbus__rss_set_get(&set, in);
	if (!(set.flags & HASH_UNCHANGED)) {
		to->hash = vmbus__net_rss_hash(set.hash);
		if (set.hash && (set.hash & FUNCTION) != VMBUS__RSS_TOEPLITZ)
			return VMBUS__RNDIS_INVALID_DATA;
	}
	if (!(set.flags & TABLE_UNCHANGED)) {
		const uint32_t entries = set.table_bytes / 4u;

		if (entries == 0 || set.table_bytes % 4u || entries > VMBUS__NET_TABLE ||
		    !within(set.table_offset, set.table_bytes, bytes) ||
		    !take_table(ch, to, in + set.table_offset, entries))
			return VMBUS__RNDIS_INVALID_DATA;
	}
	if (!(set.flags & KEY_UNCHANGED)) {
		if (set.key_bytes != VMBUS__RSS_KEY_BYTES ||
		    !within(set.key_offset, set.key_bytes, bytes))
			return VMBUS__RNDIS_INVALID_DATA;
		memcpy(to->key, in + set.key_offset, sizeof(to->key));
	}
	return VMBUS__RNDIS_OK;
}

/* A guest that leaves key or table as they were must have set them once.  Any key will do: Linux has one
   of zeroes for a device that had a single channel before. */
static bool is_whole(const struct vmbus__net_chan *ch, const struct vmbus__net_shape *shape,
		     uint32_t flags)
{
	return shape->table_mask && (!(flags & KEY_UNCHANGED) || ch->session->control->have_key);
}

uint32_t vmbus__net_rss_set(struct vmbus__net_chan *ch, const uint8_t *in, uint32_t bytes)
{
	struct vmbus__net_shape mine = ch->session->shape, *shape;
	uint32_t status = VMBUS__RNDIS_OK, flags;

	if (bytes < LEAST_BYTES)
		return VMBUS__RNDIS_INVALID_LENGTH;
	if (ch->session->shape.nvsp < VMBUS__NET_RSS_VERSION)
		return VMBUS__RNDIS_NOT_SUPPORTED;
	flags = vmbus__net_get16(in + 4);
	mine.rss = false;
	if (!(flags & VMBUS__RSS_DISABLE)) {
		status = take(ch, &mine, in, bytes);
		if (status == VMBUS__RNDIS_OK && mine.hash && !is_whole(ch, &mine, flags))
			status = VMBUS__RNDIS_INVALID_DATA;
		mine.rss = mine.hash != 0;
	}
	if (status != VMBUS__RNDIS_OK)
		return status;
	if (!(flags & (VMBUS__RSS_DISABLE | KEY_UNCHANGED)))
		ch->session->control->have_key = true;
	shape = vmbus__net_shape_begin(ch);
	shape->rss = mine.rss;
	shape->hash = mine.hash;
	shape->table_mask = mine.table_mask;
	memcpy(shape->table, mine.table, sizeof(shape->table));
	memcpy(shape->key, mine.key, sizeof(shape->key));
	vmbus__net_shape_end(ch);
	return VMBUS__RNDIS_OK;
}
