/* SPDX-License-Identifier: MIT */
/*
 * What a guest may ask a NIC: each object with the bytes of its answer, which are exact, since guests
 * take a longer one for an error, [NET-OID].
 */
#include "net/control.h"

#include <string.h>

#define VENDOR 0x0000155Du
#define VENDOR_TEXT "Microsoft Corporation"
#define DRIVER_VERSION 0x0100u
#define BUFFER_SPACE 262144u
#define BITS_OF_UNIT 100u
/* Look-ahead is copied, sends do not wait, nothing comes back, priority, VLAN. */
#define MAC_OPTIONS 0x24Du
#define NO_LIMIT UINT32_MAX
#define NAME_DEFAULT "Network Adapter"
#define LINK_STATE_BYTES 40u
#define ENCAPSULATION_BYTES 28u
#define DUPLEX_FULL 2u

static const uint32_t supported[] = {
	VMBUS__OID_SUPPORTED_LIST,
	VMBUS__OID_HARDWARE_STATUS,
	VMBUS__OID_MEDIA_SUPPORTED,
	VMBUS__OID_MEDIA_IN_USE,
	VMBUS__OID_MAXIMUM_LOOKAHEAD,
	VMBUS__OID_MAXIMUM_FRAME_SIZE,
	VMBUS__OID_LINK_SPEED,
	VMBUS__OID_TRANSMIT_BUFFER_SPACE,
	VMBUS__OID_RECEIVE_BUFFER_SPACE,
	VMBUS__OID_TRANSMIT_BLOCK_SIZE,
	VMBUS__OID_RECEIVE_BLOCK_SIZE,
	VMBUS__OID_VENDOR_ID,
	VMBUS__OID_VENDOR_DESCRIPTION,
	VMBUS__OID_PACKET_FILTER,
	VMBUS__OID_CURRENT_LOOKAHEAD,
	VMBUS__OID_DRIVER_VERSION,
	VMBUS__OID_MAXIMUM_TOTAL_SIZE,
	VMBUS__OID_PROTOCOL_OPTIONS,
	VMBUS__OID_MAC_OPTIONS,
	VMBUS__OID_MEDIA_CONNECT_STATUS,
	VMBUS__OID_MAXIMUM_SEND_PACKETS,
	VMBUS__OID_VENDOR_DRIVER_VERSION,
	VMBUS__OID_NETWORK_LAYER_ADDRESSES,
	VMBUS__OID_MAX_LINK_SPEED,
	VMBUS__OID_LINK_STATE,
	VMBUS__OID_XMIT_OK,
	VMBUS__OID_RCV_OK,
	VMBUS__OID_XMIT_ERROR,
	VMBUS__OID_RCV_ERROR,
	VMBUS__OID_RCV_NO_BUFFER,
	VMBUS__OID_FRIENDLY_NAME,
	VMBUS__OID_BYTES_RCV,
	VMBUS__OID_BYTES_XMIT,
	VMBUS__OID_RNDIS_CONFIG_PARAMETER,
	VMBUS__OID_PERMANENT_ADDRESS,
	VMBUS__OID_CURRENT_ADDRESS,
	VMBUS__OID_MULTICAST_LIST,
	VMBUS__OID_MAXIMUM_LIST_SIZE,
	VMBUS__OID_ENCAPSULATION,
	VMBUS__OID_RCV_ERROR_ALIGNMENT,
	VMBUS__OID_XMIT_ONE_COLLISION,
	VMBUS__OID_XMIT_MORE_COLLISIONS,
	VMBUS__OID_OFFLOAD_CURRENT,
	VMBUS__OID_OFFLOAD_PARAMETERS,
	VMBUS__OID_OFFLOAD_CAPABILITIES,
	/* Behind these: from version 5 on. */
	VMBUS__OID_RECEIVE_SCALE_CAPABILITIES,
	VMBUS__OID_RECEIVE_SCALE_PARAMETERS,
};
#define SUPPORTED ((uint32_t)(sizeof(supported) / sizeof(supported[0])))
#define SUPPORTED_WITHOUT_RSS (SUPPORTED - 2u)

static uint32_t number(const struct vmbus__net_ask *ask, uint32_t v)
{
	vmbus__net_put32(ask->out, v);
	*ask->bytes = 4;
	return VMBUS__RNDIS_OK;
}

static uint32_t wide(const struct vmbus__net_ask *ask, uint64_t v)
{
	vmbus__net_put64(ask->out, v);
	*ask->bytes = 8;
	return VMBUS__RNDIS_OK;
}

/* A counter: 8 bytes if the guest has room for them, else what 4 hold of it. */
static uint32_t counter(const struct vmbus__net_ask *ask, uint64_t v)
{
	return ask->in_bytes == 8 ? wide(ask, v) : number(ask, (uint32_t)(v & UINT32_MAX));
}

static uint32_t bytes_of(const struct vmbus__net_ask *ask, const void *from, uint32_t bytes)
{
	memcpy(ask->out, from, bytes);
	*ask->bytes = bytes;
	return VMBUS__RNDIS_OK;
}

/* ---- lists and texts ---- */

static uint32_t list(const struct vmbus__net_ask *ask)
{
	const uint32_t n = vmbus__net_version(ask->ch) < VMBUS__NET_RSS_VERSION
				   ? SUPPORTED_WITHOUT_RSS
				   : SUPPORTED;
	uint32_t i;

	for (i = 0; i < n; i++)
		vmbus__net_put32(ask->out + 4u * i, supported[i]);
	*ask->bytes = 4u * n;
	return VMBUS__RNDIS_OK;
}

/* In UTF-16; Linux takes "Network Adapter" for none. */
static uint32_t friendly_name(const struct vmbus__net_ask *ask)
{
	const char *const name = ask->ch->net->name[0] ? ask->ch->net->name : NAME_DEFAULT;
	uint32_t i;

	for (i = 0; name[i]; i++)
		vmbus__net_put16(ask->out + 2u * i, (uint8_t)name[i]);
	vmbus__net_put16(ask->out + 2u * i, 0);
	*ask->bytes = 2u * i + 2u;
	return VMBUS__RNDIS_OK;
}

/* ---- the link ---- */

static uint32_t speed(const struct vmbus__net_ask *ask)
{
	uint64_t bits;

	(void)vmbus__net_is_up(ask->ch->net, &bits);
	bits /= BITS_OF_UNIT;
	return number(ask, bits > UINT32_MAX ? UINT32_MAX : (uint32_t)bits);
}

static uint32_t max_speed(const struct vmbus__net_ask *ask)
{
	uint64_t bits;

	(void)vmbus__net_is_up(ask->ch->net, &bits);
	vmbus__net_put64(ask->out, bits);
	vmbus__net_put64(ask->out + 8, bits);
	*ask->bytes = 16;
	return VMBUS__RNDIS_OK;
}

static uint32_t link_state(const struct vmbus__net_ask *ask)
{
	uint8_t *const out = ask->out;
	uint64_t bits;
	const bool up = vmbus__net_is_up(ask->ch->net, &bits);

	memset(out, 0, LINK_STATE_BYTES);
	vmbus__ndis_head_put(out, VMBUS__NDIS_DEFAULT, 1, LINK_STATE_BYTES);
	vmbus__net_put32(out + 4, up ? 1 : 2);
	vmbus__net_put32(out + 8, DUPLEX_FULL);
	vmbus__net_put64(out + 16, bits);
	vmbus__net_put64(out + 24, bits);
	*ask->bytes = LINK_STATE_BYTES;
	return VMBUS__RNDIS_OK;
}

static uint32_t connected(const struct vmbus__net_ask *ask)
{
	uint64_t bits;
	const bool up = vmbus__net_is_up(ask->ch->net, &bits);

	vmbus__net_link_told(ask->ch, up);
	return number(ask, up ? 0 : 1);
}

/* ---- structures ---- */

/* A guest that says by a header how much it knows gets no more than that. */
static uint32_t capabilities(const struct vmbus__net_ask *ask, bool now)
{
	uint32_t bytes = vmbus__net_offload_bytes(ask->ch);
	struct vmbus__offload offload;

	if (ask->in_bytes >= VMBUS__NDIS_HEAD_BYTES) {
		const uint32_t size = vmbus__net_get16(ask->in + 2);

		if (size < VMBUS__OFFLOAD_1_BYTES)
			return VMBUS__RNDIS_TOO_SHORT;
		bytes = size >= VMBUS__OFFLOAD_3_BYTES	 ? VMBUS__OFFLOAD_3_BYTES
			: size >= VMBUS__OFFLOAD_2_BYTES ? VMBUS__OFFLOAD_2_BYTES
							 : VMBUS__OFFLOAD_1_BYTES;
	}
	if (now)
		vmbus__net_offload_is(ask->ch, &offload);
	else
		vmbus__net_offload_can(ask->ch, &offload);
	vmbus__offload_put(ask->out, bytes, &offload);
	*ask->bytes = bytes;
	return VMBUS__RNDIS_OK;
}

static uint32_t rss_capabilities(const struct vmbus__net_ask *ask)
{
	const struct vmbus__rss_caps caps = {
		.flags = VMBUS__RSS_CAPS_FLAGS,
		.queues = ask->ch->net->opts.subchannels + 1u,
		.entries = VMBUS__NET_TABLE,
	};

	if (vmbus__net_version(ask->ch) < VMBUS__NET_RSS_VERSION)
		return VMBUS__RNDIS_NOT_SUPPORTED;
	vmbus__rss_caps_put(ask->out, &caps);
	*ask->bytes = VMBUS__RSS_CAPS_BYTES;
	return VMBUS__RNDIS_OK;
}

/* As it was set, else what is so: 802.3 with a header of 14 bytes. */
static uint32_t encapsulation(const struct vmbus__net_ask *ask)
{
	const uint8_t *const set = ask->ch->session->control->encapsulation;
	uint32_t i;

	if (set[0])
		return bytes_of(ask, set, ENCAPSULATION_BYTES);
	memset(ask->out, 0, ENCAPSULATION_BYTES);
	vmbus__ndis_head_put(ask->out, VMBUS__NDIS_ENCAPSULATION, 1, ENCAPSULATION_BYTES);
	for (i = 4; i < ENCAPSULATION_BYTES; i += 12u) {
		vmbus__net_put32(ask->out + i, 1);
		vmbus__net_put32(ask->out + i + 4u, VMBUS__OFFLOAD_8023);
		vmbus__net_put32(ask->out + i + 8u, VMBUS__NET_ETHERNET);
	}
	*ask->bytes = ENCAPSULATION_BYTES;
	return VMBUS__RNDIS_OK;
}

/* ---- counters ---- */

static uint32_t statistics(const struct vmbus__net_ask *ask, uint32_t oid)
{
	struct vmbus_net_stats stats;

	vmbus__net_sum(ask->ch->net, VMBUS_NET_ALL, &stats);
	switch (oid) {
	case VMBUS__OID_XMIT_OK:
		return counter(ask, stats.sent_frames);
	case VMBUS__OID_RCV_OK:
		return counter(ask, stats.received_frames);
	case VMBUS__OID_XMIT_ERROR:
		return counter(ask, stats.sent_bad);
	case VMBUS__OID_RCV_ERROR:
		return counter(ask, stats.too_long);
	case VMBUS__OID_RCV_NO_BUFFER:
		return counter(ask, stats.no_room);
	case VMBUS__OID_BYTES_RCV:
		return wide(ask, stats.received_bytes);
	case VMBUS__OID_BYTES_XMIT:
		return wide(ask, stats.sent_bytes);
	default:
		return VMBUS__RNDIS_NOT_SUPPORTED;
	}
}

/* ---- all of them ---- */

/* Objects whose answer is not a number that is known here. */
static uint32_t others(const struct vmbus__net_ask *ask, uint32_t oid)
{
	switch (oid) {
	case VMBUS__OID_SUPPORTED_LIST:
		return list(ask);
	case VMBUS__OID_FRIENDLY_NAME:
		return friendly_name(ask);
	case VMBUS__OID_VENDOR_DESCRIPTION:
		return bytes_of(ask, VENDOR_TEXT, sizeof(VENDOR_TEXT));
	case VMBUS__OID_LINK_SPEED:
		return speed(ask);
	case VMBUS__OID_MAX_LINK_SPEED:
		return max_speed(ask);
	case VMBUS__OID_LINK_STATE:
		return link_state(ask);
	case VMBUS__OID_MEDIA_CONNECT_STATUS:
		return connected(ask);
	case VMBUS__OID_PERMANENT_ADDRESS:
		return bytes_of(ask, ask->ch->net->mac, 6);
	case VMBUS__OID_CURRENT_ADDRESS:
		return bytes_of(ask, ask->ch->session->shape.mac, 6);
	case VMBUS__OID_MULTICAST_LIST:
		return bytes_of(ask, "", 0);
	case VMBUS__OID_OFFLOAD_CAPABILITIES:
		return capabilities(ask, false);
	case VMBUS__OID_OFFLOAD_CURRENT:
		return capabilities(ask, true);
	case VMBUS__OID_RECEIVE_SCALE_CAPABILITIES:
		return rss_capabilities(ask);
	case VMBUS__OID_ENCAPSULATION:
		return encapsulation(ask);
	default:
		return statistics(ask, oid);
	}
}

uint32_t vmbus__net_query(const struct vmbus__net_ask *ask, uint32_t oid)
{
	const struct vmbus__net_shape *const shape = &ask->ch->session->shape;

	switch (oid) {
	case VMBUS__OID_HARDWARE_STATUS: /* ready */
	case VMBUS__OID_MEDIA_SUPPORTED: /* 802.3 */
	case VMBUS__OID_MEDIA_IN_USE:
	case VMBUS__OID_MAXIMUM_LIST_SIZE: /* of multicast addresses: none are looked at */
	case VMBUS__OID_RCV_ERROR_ALIGNMENT:
	case VMBUS__OID_XMIT_ONE_COLLISION:
	case VMBUS__OID_XMIT_MORE_COLLISIONS:
	case VMBUS__OID_PROTOCOL_OPTIONS:
		return number(ask, 0);
	case VMBUS__OID_MAXIMUM_LOOKAHEAD:
	case VMBUS__OID_CURRENT_LOOKAHEAD:
	case VMBUS__OID_MAXIMUM_FRAME_SIZE:
		return number(ask, shape->mtu);
	case VMBUS__OID_TRANSMIT_BLOCK_SIZE:
	case VMBUS__OID_RECEIVE_BLOCK_SIZE:
	case VMBUS__OID_MAXIMUM_TOTAL_SIZE:
		return number(ask, shape->mtu + VMBUS__NET_ETHERNET);
	case VMBUS__OID_TRANSMIT_BUFFER_SPACE:
	case VMBUS__OID_RECEIVE_BUFFER_SPACE:
		return number(ask, BUFFER_SPACE);
	case VMBUS__OID_VENDOR_ID:
		return number(ask, VENDOR);
	case VMBUS__OID_PACKET_FILTER:
		return number(ask, shape->filter);
	case VMBUS__OID_DRIVER_VERSION:
	case VMBUS__OID_VENDOR_DRIVER_VERSION:
		vmbus__net_put16(ask->out, DRIVER_VERSION);
		*ask->bytes = 2;
		return VMBUS__RNDIS_OK;
	case VMBUS__OID_MAC_OPTIONS:
		return number(ask, MAC_OPTIONS);
	case VMBUS__OID_MAXIMUM_SEND_PACKETS:
		return number(ask, NO_LIMIT);
	default:
		return others(ask, oid);
	}
}
