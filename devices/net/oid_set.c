/* SPDX-License-Identifier: MIT */
/*
 * What a guest may set of a NIC, [NET-OID]: which frames it takes, its address, and what is known by
 * the names that Windows gives to settings.  Offloads and receive-side scaling have files of their own.
 */
#include "net/control.h"

#include <string.h>

#define FILTERS                                                                                    \
	(VMBUS__FILTER_DIRECTED | VMBUS__FILTER_MULTICAST | VMBUS__FILTER_ALL_MULTICAST |          \
	 VMBUS__FILTER_BROADCAST | VMBUS__FILTER_PROMISCUOUS)
#define ENCAPSULATION_BYTES 28u
#define NAME_MAX 63u /* characters of a setting's name that we know */
#define MAC_DIGITS 12u
#define ADDRESS "NetworkAddress"
#define MULTICAST_MAX 256u /* addresses of a list */

static uint32_t set_filter(struct vmbus__net_chan *ch, const uint8_t *in, uint32_t bytes)
{
	struct vmbus__net_shape *shape;
	uint32_t filter;

	if (bytes < 4)
		return VMBUS__RNDIS_INVALID_LENGTH;
	filter = vmbus__net_get32(in);
	if (filter && (filter & FILTERS) == 0)
		return VMBUS__RNDIS_NOT_SUPPORTED;
	shape = vmbus__net_shape_begin(ch);
	shape->filter = filter & FILTERS;
	vmbus__net_shape_end(ch);
	return VMBUS__RNDIS_OK;
}

static uint32_t set_encapsulation(struct vmbus__net_chan *ch, const uint8_t *in, uint32_t bytes)
{
	if (bytes < ENCAPSULATION_BYTES)
		return VMBUS__RNDIS_INVALID_LENGTH;
	if (in[0] != VMBUS__NDIS_ENCAPSULATION || vmbus__net_get16(in + 2) < ENCAPSULATION_BYTES)
		return VMBUS__RNDIS_INVALID_DATA;
	memcpy(ch->session->control->encapsulation, in, ENCAPSULATION_BYTES);
	return VMBUS__RNDIS_OK;
}

/* Nothing is filtered by it: a guest that wants some gets all. */
static uint32_t set_multicast(uint32_t bytes)
{
	if (bytes % 6u)
		return VMBUS__RNDIS_INVALID_LENGTH;
	return bytes / 6u > MULTICAST_MAX ? VMBUS__RNDIS_RESOURCES : VMBUS__RNDIS_OK;
}

/* ---- settings by name ---- */

/* The digit's value, or 16. */
static uint32_t digit_of(uint32_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10u;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10u : 16u;
}

static uint32_t set_address(struct vmbus__net_chan *ch, const uint8_t *value, uint32_t chars)
{
	static const uint8_t none[6];
	struct vmbus__net_shape *shape;
	uint8_t mac[6] = { 0 };
	uint32_t i;

	if (chars != MAC_DIGITS)
		return VMBUS__RNDIS_INVALID_DATA;
	for (i = 0; i < MAC_DIGITS; i++) {
		const uint32_t digit = digit_of(vmbus__net_get16(value + 2u * i));

		if (digit > 15u)
			return VMBUS__RNDIS_INVALID_DATA;
		mac[i / 2u] = (uint8_t)(((uint32_t)mac[i / 2u] << 4 | digit) & 255u);
	}
	if ((mac[0] & 1u) || !memcmp(mac, none, sizeof(mac)))
		return VMBUS__RNDIS_INVALID_DATA;
	shape = vmbus__net_shape_begin(ch);
	memcpy(shape->mac, mac, sizeof(mac));
	memcpy(ch->net->guest_mac, mac, sizeof(mac));
	vmbus__net_shape_end(ch);
	return VMBUS__RNDIS_OK;
}

static bool within(uint32_t offset, uint32_t bytes, uint32_t all)
{
	return offset >= VMBUS__PARAM_BYTES && offset <= all && bytes <= all - offset &&
	       bytes % 2u == 0;
}

static uint32_t set_named(struct vmbus__net_chan *ch, const uint8_t *in, uint32_t bytes)
{
	struct vmbus__param param;
	char name[NAME_MAX + 1u];
	uint32_t i, chars;

	if (bytes < VMBUS__PARAM_BYTES)
		return VMBUS__RNDIS_INVALID_LENGTH;
	vmbus__param_get(&param, in);
	if (!within(param.name_offset, param.name_bytes, bytes) ||
	    !within(param.value_offset, param.value_bytes, bytes))
		return VMBUS__RNDIS_INVALID_DATA;
	chars = param.name_bytes / 2u;
	if (chars > NAME_MAX)
		return VMBUS__RNDIS_OK; /* none that we know */
	for (i = 0; i < chars; i++) {
		const uint32_t c = vmbus__net_get16(in + param.name_offset + 2u * i);

		name[i] = c < 128u ? (char)c : '?';
	}
	name[chars] = '\0';
	if (param.type != VMBUS__PARAM_STRING && param.type != VMBUS__PARAM_INTEGER)
		return VMBUS__RNDIS_INVALID_DATA;
	if (!strcmp(name, ADDRESS))
		return param.type == VMBUS__PARAM_STRING
			       ? set_address(ch, in + param.value_offset, param.value_bytes / 2u)
			       : VMBUS__RNDIS_INVALID_DATA;
	return vmbus__net_offload_name(
		ch, name, param.value_bytes ? vmbus__net_get16(in + param.value_offset) : 0);
}

/* ---- all of them ---- */

uint32_t vmbus__net_set(struct vmbus__net_chan *ch, uint32_t oid, const uint8_t *in, uint32_t bytes)
{
	switch (oid) {
	case VMBUS__OID_PACKET_FILTER:
		return set_filter(ch, in, bytes);
	case VMBUS__OID_OFFLOAD_PARAMETERS:
		return vmbus__net_offload_set(ch, in, bytes);
	case VMBUS__OID_RECEIVE_SCALE_PARAMETERS:
		return vmbus__net_rss_set(ch, in, bytes);
	case VMBUS__OID_RNDIS_CONFIG_PARAMETER:
		return set_named(ch, in, bytes);
	case VMBUS__OID_ENCAPSULATION:
		return set_encapsulation(ch, in, bytes);
	case VMBUS__OID_MULTICAST_LIST:
		return set_multicast(bytes);
	case VMBUS__OID_CURRENT_LOOKAHEAD:
	case VMBUS__OID_PROTOCOL_OPTIONS:
		return bytes < 4 ? VMBUS__RNDIS_INVALID_LENGTH : VMBUS__RNDIS_OK;
	case VMBUS__OID_NETWORK_LAYER_ADDRESSES:
		return VMBUS__RNDIS_OK;
	default:
		return VMBUS__RNDIS_NOT_SUPPORTED;
	}
}
