/* SPDX-License-Identifier: MIT */
/*
 * Messages of the network device, to and from bytes: what is more than a field.  Nothing here judges
 * a value.
 */
#include "netwire/wire.h"
#include "netwire/wire_oid.h"

#define get16 vmbus__net_get16
#define get32 vmbus__net_get32
#define put16 vmbus__net_put16
#define put32 vmbus__net_put32

/* ---- per-packet information ---- */

/* The word of an element; which member it goes to is the type's.  NULL: it is passed over. */
static uint32_t *word_of(struct vmbus__ppis *ppis, uint32_t type, uint32_t *has)
{
	switch (type) {
	case VMBUS__PPI_CSUM:
		*has = VMBUS__PPI_HAS_CSUM;
		return &ppis->csum;
	case VMBUS__PPI_LSO:
		*has = VMBUS__PPI_HAS_LSO;
		return &ppis->lso;
	case VMBUS__PPI_VLAN:
		*has = VMBUS__PPI_HAS_VLAN;
		return &ppis->vlan;
	case VMBUS__PPI_HASH:
		*has = VMBUS__PPI_HAS_HASH;
		return &ppis->hash;
	case VMBUS__PPI_PACKET_ID | VMBUS__PPI_INTERNAL:
		*has = VMBUS__PPI_HAS_ID;
		return &ppis->id;
	default:
		return NULL;
	}
}

bool vmbus__ppi_get(struct vmbus__ppis *ppis, const uint8_t *p, uint32_t bytes)
{
	*ppis = (struct vmbus__ppis){ .has = 0 };
	while (bytes) {
		uint32_t size, offset, has, *word;

		if (bytes < VMBUS__PPI_HEAD_BYTES)
			return false;
		size = get32(p);
		if (size < VMBUS__PPI_HEAD_BYTES || size % 4u || size > bytes)
			return false;
		word = word_of(ppis, get32(p + 4), &has);
		offset = get32(p + 8);
		if (word && (offset > size - 4u || offset < VMBUS__PPI_HEAD_BYTES))
			return false;
		if (word) {
			*word = get32(p + offset);
			ppis->has |= has;
		}
		p += size;
		bytes -= size;
	}
	return true;
}

static uint8_t *put_ppi(uint8_t *p, uint32_t type, uint32_t word)
{
	put32(p, VMBUS__PPI_HEAD_BYTES + 4u);
	put32(p + 4, type);
	put32(p + 8, VMBUS__PPI_HEAD_BYTES);
	put32(p + VMBUS__PPI_HEAD_BYTES, word);
	return p + VMBUS__PPI_HEAD_BYTES + 4u;
}

uint32_t vmbus__ppi_put(uint8_t *p, const struct vmbus__ppis *ppis)
{
	uint8_t *at = p;

	if (ppis->has & VMBUS__PPI_HAS_HASH)
		at = put_ppi(at, VMBUS__PPI_HASH, ppis->hash);
	if (ppis->has & VMBUS__PPI_HAS_VLAN)
		at = put_ppi(at, VMBUS__PPI_VLAN, ppis->vlan);
	if (ppis->has & VMBUS__PPI_HAS_LSO)
		at = put_ppi(at, VMBUS__PPI_LSO, ppis->lso);
	if (ppis->has & VMBUS__PPI_HAS_CSUM)
		at = put_ppi(at, VMBUS__PPI_CSUM, ppis->csum);
	if (ppis->has & VMBUS__PPI_HAS_ID)
		at = put_ppi(at, VMBUS__PPI_PACKET_ID | VMBUS__PPI_INTERNAL, ppis->id);
	return (uint32_t)(at - p);
}

/* ---- offloads ---- */

static void put_two(uint8_t *p, uint32_t flags)
{
	put32(p, flags ? VMBUS__OFFLOAD_8023 : 0);
	put32(p + 4, flags);
}

static void put_lso(uint8_t *p, uint32_t largest, uint32_t segments)
{
	put32(p, largest ? VMBUS__OFFLOAD_8023 : 0);
	put32(p + 4, largest);
	put32(p + 8, largest ? segments : 0);
}

static uint32_t revision_of(uint32_t bytes)
{
	return bytes == VMBUS__OFFLOAD_3_BYTES ? 3u : bytes == VMBUS__OFFLOAD_2_BYTES ? 2u : 1u;
}

void vmbus__offload_put(uint8_t *p, uint32_t bytes, const struct vmbus__offload *offload)
{
	__builtin_memset(p, 0, bytes);
	vmbus__ndis_head_put(p, VMBUS__NDIS_OFFLOAD, revision_of(bytes), bytes);
	put_two(p + 4, offload->tx4);
	put_two(p + 12, offload->rx4);
	put_two(p + 20, offload->tx6);
	put_two(p + 28, offload->rx6);
	put_lso(p + 80, offload->lso4_bytes, offload->lso_segments);
	put_lso(p + 92, offload->lso6_bytes, offload->lso_segments);
	if (offload->lso6_bytes)
		put32(p + 104, VMBUS__OFFLOAD_IP_OPTIONS | VMBUS__OFFLOAD_TCP_OPTIONS);
	if (bytes >= VMBUS__OFFLOAD_3_BYTES) {
		p[144] = offload->rsc4;
		p[145] = offload->rsc6;
	}
}

static uint32_t get_two(const uint8_t *p)
{
	return get32(p) & VMBUS__OFFLOAD_8023 ? get32(p + 4) : 0;
}

bool vmbus__offload_get(struct vmbus__offload *offload, const uint8_t *p, uint32_t bytes)
{
	const uint32_t size = bytes < VMBUS__OFFLOAD_1_BYTES ? 0 : get16(p + 2);

	if (size < VMBUS__OFFLOAD_1_BYTES || size > bytes || p[0] != VMBUS__NDIS_OFFLOAD)
		return false;
	offload->tx4 = get_two(p + 4);
	offload->rx4 = get_two(p + 12);
	offload->tx6 = get_two(p + 20);
	offload->rx6 = get_two(p + 28);
	offload->lso4_bytes = get_two(p + 80);
	offload->lso6_bytes = get_two(p + 92);
	offload->lso_segments = get32(p + 88);
	offload->rsc4 = size >= VMBUS__OFFLOAD_3_BYTES ? p[144] : 0;
	offload->rsc6 = size >= VMBUS__OFFLOAD_3_BYTES ? p[145] : 0;
	return true;
}

void vmbus__offload_set_get(struct vmbus__offload_set *set, const uint8_t *p, uint32_t bytes)
{
	set->ip4 = p[4];
	set->tcp4 = p[5];
	set->udp4 = p[6];
	set->tcp6 = p[7];
	set->udp6 = p[8];
	set->lso1 = p[9];
	set->lso4 = p[11];
	set->lso6 = p[12];
	set->rsc4 = bytes > 22u ? p[22] : 0;
	set->rsc6 = bytes > 23u ? p[23] : 0;
}

void vmbus__offload_set_put(uint8_t *p, const struct vmbus__offload_set *set)
{
	__builtin_memset(p, 0, VMBUS__OFFLOAD_SET_BYTES);
	vmbus__ndis_head_put(p, VMBUS__NDIS_DEFAULT, 3, VMBUS__OFFLOAD_SET_BYTES);
	p[4] = set->ip4;
	p[5] = set->tcp4;
	p[6] = set->udp4;
	p[7] = set->tcp6;
	p[8] = set->udp6;
	p[9] = set->lso1;
	p[11] = set->lso4;
	p[12] = set->lso6;
	p[22] = set->rsc4;
	p[23] = set->rsc6;
}

/* ---- receive-side scaling ---- */

void vmbus__rss_caps_put(uint8_t *p, const struct vmbus__rss_caps *caps)
{
	vmbus__ndis_head_put(p, VMBUS__NDIS_RSS_CAPABILITIES, 2, VMBUS__RSS_CAPS_BYTES);
	put32(p + 4, caps->flags);
	put32(p + 8, 1);
	put32(p + 12, caps->queues);
	put16(p + 16, caps->entries);
}

void vmbus__rss_caps_get(struct vmbus__rss_caps *caps, const uint8_t *p)
{
	caps->flags = get32(p + 4);
	caps->queues = get32(p + 12);
	caps->entries = get16(p + 16);
}

void vmbus__rss_set_get(struct vmbus__rss_set *set, const uint8_t *p)
{
	set->flags = get16(p + 4);
	set->hash = get32(p + 8);
	set->table_bytes = get16(p + 12);
	set->table_offset = get32(p + 16);
	set->key_bytes = get16(p + 20);
	set->key_offset = get32(p + 24);
}

void vmbus__rss_set_put(uint8_t *p, const struct vmbus__rss_set *set)
{
	__builtin_memset(p, 0, VMBUS__RSS_BYTES);
	vmbus__ndis_head_put(p, VMBUS__NDIS_RSS_PARAMETERS, 2, VMBUS__RSS_BYTES);
	put16(p + 4, set->flags);
	put32(p + 8, set->hash);
	put16(p + 12, set->table_bytes);
	put32(p + 16, set->table_offset);
	put16(p + 20, set->key_bytes);
	put32(p + 24, set->key_offset);
}

/* ---- parameters by name ---- */

void vmbus__param_get(struct vmbus__param *param, const uint8_t *p)
{
	param->name_offset = get32(p);
	param->name_bytes = get32(p + 4);
	param->type = get32(p + 8);
	param->value_offset = get32(p + 12);
	param->value_bytes = get32(p + 16);
}

void vmbus__param_put(uint8_t *p, const struct vmbus__param *param)
{
	put32(p, param->name_offset);
	put32(p + 4, param->name_bytes);
	put32(p + 8, param->type);
	put32(p + 12, param->value_offset);
	put32(p + 16, param->value_bytes);
}
