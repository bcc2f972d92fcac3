/* SPDX-License-Identifier: MIT */
/*
 * What the network device's RNDIS queries and sets carry, as both ends read and write it: layout
 * only, as wire.h.
 */
#ifndef VMBUS_NETWIRE_WIRE_OID_H
#define VMBUS_NETWIRE_WIRE_OID_H

#include "netwire/wire.h"

/* ---- OIDs, [NET-OID] ---- */

enum vmbus__oid {
	VMBUS__OID_SUPPORTED_LIST = 0x00010101,
	VMBUS__OID_HARDWARE_STATUS = 0x00010102,
	VMBUS__OID_MEDIA_SUPPORTED = 0x00010103,
	VMBUS__OID_MEDIA_IN_USE = 0x00010104,
	VMBUS__OID_MAXIMUM_LOOKAHEAD = 0x00010105,
	VMBUS__OID_MAXIMUM_FRAME_SIZE = 0x00010106,
	VMBUS__OID_LINK_SPEED = 0x00010107,
	VMBUS__OID_TRANSMIT_BUFFER_SPACE = 0x00010108,
	VMBUS__OID_RECEIVE_BUFFER_SPACE = 0x00010109,
	VMBUS__OID_TRANSMIT_BLOCK_SIZE = 0x0001010A,
	VMBUS__OID_RECEIVE_BLOCK_SIZE = 0x0001010B,
	VMBUS__OID_VENDOR_ID = 0x0001010C,
	VMBUS__OID_VENDOR_DESCRIPTION = 0x0001010D,
	VMBUS__OID_PACKET_FILTER = 0x0001010E,
	VMBUS__OID_CURRENT_LOOKAHEAD = 0x0001010F,
	VMBUS__OID_DRIVER_VERSION = 0x00010110,
	VMBUS__OID_MAXIMUM_TOTAL_SIZE = 0x00010111,
	VMBUS__OID_PROTOCOL_OPTIONS = 0x00010112,
	VMBUS__OID_MAC_OPTIONS = 0x00010113,
	VMBUS__OID_MEDIA_CONNECT_STATUS = 0x00010114,
	VMBUS__OID_MAXIMUM_SEND_PACKETS = 0x00010115,
	VMBUS__OID_VENDOR_DRIVER_VERSION = 0x00010116,
	VMBUS__OID_NETWORK_LAYER_ADDRESSES = 0x00010118,
	VMBUS__OID_RECEIVE_SCALE_CAPABILITIES = 0x00010203,
	VMBUS__OID_RECEIVE_SCALE_PARAMETERS = 0x00010204,
	VMBUS__OID_MAX_LINK_SPEED = 0x00010206,
	VMBUS__OID_LINK_STATE = 0x00010207,
	VMBUS__OID_FRIENDLY_NAME = 0x00020216,
	VMBUS__OID_RNDIS_CONFIG_PARAMETER = 0x0001021B,
	VMBUS__OID_XMIT_OK = 0x00020101,
	VMBUS__OID_RCV_OK = 0x00020102,
	VMBUS__OID_XMIT_ERROR = 0x00020103,
	VMBUS__OID_RCV_ERROR = 0x00020104,
	VMBUS__OID_RCV_NO_BUFFER = 0x00020105,
	VMBUS__OID_BYTES_RCV = 0x00020219,
	VMBUS__OID_BYTES_XMIT = 0x0002021A,
	VMBUS__OID_PERMANENT_ADDRESS = 0x01010101,
	VMBUS__OID_CURRENT_ADDRESS = 0x01010102,
	VMBUS__OID_MULTICAST_LIST = 0x01010103,
	VMBUS__OID_MAXIMUM_LIST_SIZE = 0x01010104,
	VMBUS__OID_ENCAPSULATION = 0x0101010A,
	VMBUS__OID_RCV_ERROR_ALIGNMENT = 0x01020101,
	VMBUS__OID_XMIT_ONE_COLLISION = 0x01020102,
	VMBUS__OID_XMIT_MORE_COLLISIONS = 0x01020103
};
/* These do not fit an enum constant. */
#define VMBUS__OID_OFFLOAD_CURRENT 0xFC01020Bu
#define VMBUS__OID_OFFLOAD_PARAMETERS 0xFC01020Cu
#define VMBUS__OID_OFFLOAD_CAPABILITIES 0xFC01020Du

/* Packet filter. */
#define VMBUS__FILTER_DIRECTED 0x1u
#define VMBUS__FILTER_MULTICAST 0x2u
#define VMBUS__FILTER_ALL_MULTICAST 0x4u
#define VMBUS__FILTER_BROADCAST 0x8u
#define VMBUS__FILTER_PROMISCUOUS 0x20u

/* Before a structure of NDIS: type, revision, size (16). */
#define VMBUS__NDIS_HEAD_BYTES 4u
#define VMBUS__NDIS_DEFAULT 0x80u
#define VMBUS__NDIS_OFFLOAD 0xA7u
#define VMBUS__NDIS_ENCAPSULATION 0xA8u
#define VMBUS__NDIS_RSS_CAPABILITIES 0x88u
#define VMBUS__NDIS_RSS_PARAMETERS 0x89u

static inline void vmbus__ndis_head_put(uint8_t *p, uint32_t type, uint32_t revision, uint32_t size)
{
	p[0] = (uint8_t)(type & 255u);
	p[1] = (uint8_t)(revision & 255u);
	vmbus__net_put16(p + 2, size);
}

/* What an NDIS_OFFLOAD tells, [NET-OFFLOAD]; on the wire also what receiving needs, the same. */
#define VMBUS__OFFLOAD_1_BYTES 112u
#define VMBUS__OFFLOAD_2_BYTES 144u
#define VMBUS__OFFLOAD_3_BYTES 156u
#define VMBUS__OFFLOAD_8023 2u	       /* encapsulation */
#define VMBUS__OFFLOAD_IP_OPTIONS 0x1u /* of IPv6: extension headers */
#define VMBUS__OFFLOAD_TCP_OPTIONS 0x4u
#define VMBUS__OFFLOAD_TCP 0x10u
#define VMBUS__OFFLOAD_UDP 0x40u
#define VMBUS__OFFLOAD_IP_HEADER 0x100u

struct vmbus__offload {
	uint32_t tx4, rx4, tx6, rx6;	 /* VMBUS__OFFLOAD_*, 0: none */
	uint32_t lso4_bytes, lso6_bytes; /* largest, 0: none */
	uint32_t lso_segments;		 /* fewest that are worth it */
	uint8_t rsc4, rsc6;
};

/* Into bytes, one of VMBUS__OFFLOAD_*_BYTES; and back.  get: false when they are none of these. */
void vmbus__offload_put(uint8_t *p, uint32_t bytes, const struct vmbus__offload *offload);
bool vmbus__offload_get(struct vmbus__offload *offload, const uint8_t *p, uint32_t bytes);

/* The parameters of offloads that a guest sets. */
#define VMBUS__OFFLOAD_SET_BYTES 28u
#define VMBUS__OFFLOAD_SET_SHORT_BYTES 20u
#define VMBUS__OFFLOAD_NO_CHANGE 0u
#define VMBUS__OFFLOAD_OFF 1u
#define VMBUS__OFFLOAD_TX 2u /* of checksums; of LSO and RSC: on */
#define VMBUS__OFFLOAD_RX 3u
#define VMBUS__OFFLOAD_BOTH 4u

struct vmbus__offload_set {
	uint8_t ip4, tcp4, udp4, tcp6, udp6; /* VMBUS__OFFLOAD_NO_CHANGE and so on */
	uint8_t lso1, lso4, lso6, rsc4, rsc6;
};

/* bytes at least VMBUS__OFFLOAD_SET_SHORT_BYTES; what is not there is 0.  put: all 28 bytes. */
void vmbus__offload_set_get(struct vmbus__offload_set *set, const uint8_t *p, uint32_t bytes);
void vmbus__offload_set_put(uint8_t *p, const struct vmbus__offload_set *set);

/* Receive-side scaling, [NET-RSS]. */
#define VMBUS__RSS_CAPS_BYTES 18u
#define VMBUS__RSS_CAPS_FLAGS 0x301u /* TCP over IPv4 and IPv6, Toeplitz */
#define VMBUS__RSS_ENTRIES_MAX 128u
#define VMBUS__RSS_KEY_BYTES 40u
#define VMBUS__RSS_BYTES 40u /* of the parameters, without table and key */
#define VMBUS__RSS_DISABLE 0x10u
#define VMBUS__RSS_TOEPLITZ 0x1u
#define VMBUS__RSS_IPV4 0x100u
#define VMBUS__RSS_TCPV4 0x200u
#define VMBUS__RSS_IPV6 0x400u
#define VMBUS__RSS_IPV6_EX 0x800u
#define VMBUS__RSS_TCPV6 0x1000u
#define VMBUS__RSS_TCPV6_EX 0x2000u
#define VMBUS__RSS_UDPV4 0x4000u
#define VMBUS__RSS_UDPV6 0x8000u

struct vmbus__rss_caps {
	uint32_t flags, queues, entries;
};

struct vmbus__rss_set {
	uint32_t flags, hash;
	uint32_t table_bytes, table_offset; /* from the structure's begin */
	uint32_t key_bytes, key_offset;
};

void vmbus__rss_caps_put(uint8_t *p, const struct vmbus__rss_caps *caps);
void vmbus__rss_caps_get(struct vmbus__rss_caps *caps, const uint8_t *p);
void vmbus__rss_set_get(struct vmbus__rss_set *set, const uint8_t *p);
void vmbus__rss_set_put(uint8_t *p, const struct vmbus__rss_set *set);

/* A parameter by name; offsets from the structure's begin. */
#define VMBUS__PARAM_BYTES 20u
#define VMBUS__PARAM_INTEGER 0u
#define VMBUS__PARAM_STRING 2u

struct vmbus__param {
	uint32_t name_offset, name_bytes, type, value_offset, value_bytes;
};

void vmbus__param_get(struct vmbus__param *param, const uint8_t *p);
void vmbus__param_put(uint8_t *p, const struct vmbus__param *param);

#endif
