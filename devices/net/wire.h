/* SPDX-License-Identifier: MIT */
/*
 * Messages of the network device, as both ends read and write them: layout only.  Whoever uses the
 * fields decides what may be in them.
 *
 * Messages of NVSP are what packets of the ring carry; number 107 of them stands for RNDIS messages,
 * which lie in a buffer or in pages.
 */
#ifndef VMBUS_NETWIRE_WIRE_H
#define VMBUS_NETWIRE_WIRE_H

#include <vmbus/base.h>

static inline uint32_t vmbus__net_get16(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t vmbus__net_get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t vmbus__net_get64(const uint8_t *p)
{
	return (uint64_t)vmbus__net_get32(p) | (uint64_t)vmbus__net_get32(p + 4) << 32;
}

static inline void vmbus__net_put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v & 255u);
	p[1] = (uint8_t)(v >> 8 & 255u);
}

static inline void vmbus__net_put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v & 255u);
	p[1] = (uint8_t)(v >> 8 & 255u);
	p[2] = (uint8_t)(v >> 16 & 255u);
	p[3] = (uint8_t)(v >> 24);
}

static inline void vmbus__net_put64(uint8_t *p, uint64_t v)
{
	vmbus__net_put32(p, (uint32_t)(v & UINT32_MAX));
	vmbus__net_put32(p + 4, (uint32_t)(v >> 32));
}

/* ---- NVSP ---- */

/* [NET-NVSP]: bytes of a message from 6.1 on, and before. */
#define VMBUS__NVSP_BYTES 40u
#define VMBUS__NVSP_SHORT_BYTES 32u

/* Versions, [NET-INIT]. */
#define VMBUS__NVSP_1 0x00000002u
#define VMBUS__NVSP_2 0x00030002u
#define VMBUS__NVSP_4 0x00040000u
#define VMBUS__NVSP_5 0x00050000u
#define VMBUS__NVSP_6 0x00060000u
#define VMBUS__NVSP_61 0x00060001u

enum vmbus__nvsp_type {
	VMBUS__NVSP_INIT = 1,
	VMBUS__NVSP_INIT_DONE = 2,
	VMBUS__NVSP_NDIS_VERSION = 100,
	VMBUS__NVSP_RECEIVE_BUFFER = 101,
	VMBUS__NVSP_RECEIVE_BUFFER_DONE = 102,
	VMBUS__NVSP_RECEIVE_BUFFER_REVOKE = 103,
	VMBUS__NVSP_SEND_BUFFER = 104,
	VMBUS__NVSP_SEND_BUFFER_DONE = 105,
	VMBUS__NVSP_SEND_BUFFER_REVOKE = 106,
	VMBUS__NVSP_RNDIS = 107,
	VMBUS__NVSP_RNDIS_DONE = 108,
	VMBUS__NVSP_NDIS_CONFIG = 125,
	VMBUS__NVSP_VF = 128,
	VMBUS__NVSP_DATA_PATH = 129,
	VMBUS__NVSP_OID_EX = 131,
	VMBUS__NVSP_OID_EX_DONE = 132,
	VMBUS__NVSP_SUBCHANNEL = 133,
	VMBUS__NVSP_TABLE = 134,
	VMBUS__NVSP_PD_API = 135,
	VMBUS__NVSP_PD_POST = 136
};

/* Status words. */
#define VMBUS__NVSP_OK 1u
#define VMBUS__NVSP_FAIL 2u
#define VMBUS__NVSP_TOO_NEW 3u
#define VMBUS__NVSP_TOO_OLD 4u
#define VMBUS__NVSP_INVALID 5u /* an RNDIS message */
#define VMBUS__NVSP_BUSY 6u
#define VMBUS__NVSP_UNSUPPORTED 7u

/*
 * Fields, as offsets from the message's begin; the type is at 0.  32 bits each, but where another
 * number of bits is given.
 */
#define VMBUS__NVSP_AT_STATUS 4u /* 102, 105, 108, 132, 133 as an answer */
#define VMBUS__NVSP_AT_INIT_MIN 4u
#define VMBUS__NVSP_AT_INIT_MAX 8u
#define VMBUS__NVSP_AT_DONE_VERSION 4u /* 2 for version 1, else all ones */
#define VMBUS__NVSP_AT_DONE_CHAIN 8u   /* longest chain of pieces of a frame */
#define VMBUS__NVSP_AT_DONE_STATUS 12u
#define VMBUS__NVSP_AT_NDIS_MAJOR 4u
#define VMBUS__NVSP_AT_NDIS_MINOR 8u
#define VMBUS__NVSP_AT_GPADL 4u	    /* 101, 104 */
#define VMBUS__NVSP_AT_BUFFER_ID 8u /* 16 bits */
#define VMBUS__NVSP_AT_REVOKE_ID 4u /* 103, 106; 16 bits */
#define VMBUS__NVSP_AT_SECTIONS 8u  /* 102: areas of equal sections, always 1 */
#define VMBUS__NVSP_AT_AREA_OFFSET 12u
#define VMBUS__NVSP_AT_AREA_SECTION 16u /* bytes of a section */
#define VMBUS__NVSP_AT_AREA_COUNT 20u
#define VMBUS__NVSP_AT_AREA_END 24u
#define VMBUS__NVSP_AT_SEND_SECTION 8u /* 105: bytes of a section */
#define VMBUS__NVSP_AT_RNDIS_CHANNEL 4u
#define VMBUS__NVSP_AT_RNDIS_SECTION 8u
#define VMBUS__NVSP_AT_RNDIS_BYTES 12u
#define VMBUS__NVSP_AT_MTU 4u	/* with the Ethernet header */
#define VMBUS__NVSP_AT_CAPS 12u /* 64 bits */
#define VMBUS__NVSP_AT_PATH 4u	/* 129: 0 synthetic, 1 VF */
#define VMBUS__NVSP_AT_OID_BYTES 8u
#define VMBUS__NVSP_AT_SUB_OP 4u
#define VMBUS__NVSP_AT_SUB_COUNT 8u /* of the request, and of the answer */
#define VMBUS__NVSP_AT_TABLE_COUNT 4u
#define VMBUS__NVSP_AT_TABLE_OFFSET 8u
#define VMBUS__NVSP_TABLE_ENTRIES 16u
#define VMBUS__NVSP_TABLE_OFFSET 12u
#define VMBUS__NVSP_TABLE_BYTES (VMBUS__NVSP_TABLE_OFFSET + 4u * VMBUS__NVSP_TABLE_ENTRIES)

#define VMBUS__NVSP_SUB_ALLOCATE 1u
#define VMBUS__NVSP_CHANNEL_DATA 0u
#define VMBUS__NVSP_CHANNEL_CONTROL 1u
#define VMBUS__NVSP_NO_SECTION UINT32_MAX
#define VMBUS__NVSP_RECEIVE_ID 0xCAFEu /* what Linux calls its receive buffer */

/* Bits of the capabilities. */
#define VMBUS__NVSP_CAP_VMQ (1ull << 0)
#define VMBUS__NVSP_CAP_SRIOV (1ull << 2)
#define VMBUS__NVSP_CAP_8021Q (1ull << 3)
#define VMBUS__NVSP_CAP_TEAMING (1ull << 5)
#define VMBUS__NVSP_CAP_RSC (1ull << 7)

/* Number 107, of 16 bytes. */
struct vmbus__nvsp_rndis {
	uint32_t channel, section, section_bytes;
};
#define VMBUS__NVSP_RNDIS_BYTES 16u

static inline void vmbus__nvsp_rndis_get(struct vmbus__nvsp_rndis *rndis, const uint8_t *msg)
{
	rndis->channel = vmbus__net_get32(msg + VMBUS__NVSP_AT_RNDIS_CHANNEL);
	rndis->section = vmbus__net_get32(msg + VMBUS__NVSP_AT_RNDIS_SECTION);
	rndis->section_bytes = vmbus__net_get32(msg + VMBUS__NVSP_AT_RNDIS_BYTES);
}

static inline void vmbus__nvsp_rndis_put(uint8_t *msg, const struct vmbus__nvsp_rndis *rndis)
{
	vmbus__net_put32(msg, VMBUS__NVSP_RNDIS);
	vmbus__net_put32(msg + VMBUS__NVSP_AT_RNDIS_CHANNEL, rndis->channel);
	vmbus__net_put32(msg + VMBUS__NVSP_AT_RNDIS_SECTION, rndis->section);
	vmbus__net_put32(msg + VMBUS__NVSP_AT_RNDIS_BYTES, rndis->section_bytes);
}

/* Bytes of a message that is answered in a version; what lies behind its fields is zero. */
static inline uint32_t vmbus__nvsp_bytes(uint32_t version)
{
	return version == VMBUS__NVSP_61 ? VMBUS__NVSP_BYTES : VMBUS__NVSP_SHORT_BYTES;
}

/* ---- RNDIS ---- */

/* [NET-RNDIS]: type and length of the message; offsets count from behind them. */
#define VMBUS__RNDIS_HEAD_BYTES 8u

enum vmbus__rndis_type {
	VMBUS__RNDIS_PACKET = 1,
	VMBUS__RNDIS_INITIALIZE = 2,
	VMBUS__RNDIS_HALT = 3,
	VMBUS__RNDIS_QUERY = 4,
	VMBUS__RNDIS_SET = 5,
	VMBUS__RNDIS_RESET = 6,
	VMBUS__RNDIS_INDICATE = 7,
	VMBUS__RNDIS_KEEPALIVE = 8,
	VMBUS__RNDIS_SET_EX = 9
};
#define VMBUS__RNDIS_DONE 0x80000000u /* added to the type in the answer */

#define VMBUS__RNDIS_OK 0u
#define VMBUS__RNDIS_MEDIA_CONNECT 0x4001000Bu
#define VMBUS__RNDIS_MEDIA_DISCONNECT 0x4001000Cu
#define VMBUS__RNDIS_LINK_SPEED 0x40010013u
#define VMBUS__RNDIS_NETWORK_CHANGE 0x40010018u
#define VMBUS__RNDIS_OFFLOAD_CONFIG 0x40020006u
#define VMBUS__RNDIS_FAILURE 0xC0000001u
#define VMBUS__RNDIS_RESOURCES 0xC000009Au
#define VMBUS__RNDIS_NOT_SUPPORTED 0xC00000BBu
#define VMBUS__RNDIS_BAD_VERSION 0xC0010004u
#define VMBUS__RNDIS_INVALID_LENGTH 0xC0010014u
#define VMBUS__RNDIS_INVALID_DATA 0xC0010015u
#define VMBUS__RNDIS_TOO_SHORT 0xC0010016u
#define VMBUS__RNDIS_INVALID_OID 0xC0010017u

/* Fields of bodies, as offsets from the message's begin. */
#define VMBUS__RNDIS_AT_ID 8u	   /* all but PACKET, RESET and INDICATE */
#define VMBUS__RNDIS_AT_STATUS 12u /* answers but that of RESET */
#define VMBUS__RNDIS_AT_MAJOR 12u  /* INITIALIZE */
#define VMBUS__RNDIS_AT_MINOR 16u
#define VMBUS__RNDIS_AT_MAX_TRANSFER 20u
#define VMBUS__RNDIS_AT_OID 12u /* QUERY, SET, SET_EX */
#define VMBUS__RNDIS_AT_INFO_BYTES 16u
#define VMBUS__RNDIS_AT_INFO_OFFSET 20u
#define VMBUS__RNDIS_ASK_BYTES 28u /* QUERY, SET, SET_EX without information */
#define VMBUS__RNDIS_ASK_OFFSET 20u
#define VMBUS__RNDIS_QUERY_DONE_BYTES 24u
#define VMBUS__RNDIS_QUERY_DONE_OFFSET 16u
#define VMBUS__RNDIS_SET_DONE_BYTES 16u
#define VMBUS__RNDIS_KEEPALIVE_DONE_BYTES 16u
#define VMBUS__RNDIS_RESET_DONE_BYTES 16u
#define VMBUS__RNDIS_INITIALIZE_BYTES 24u
#define VMBUS__RNDIS_HALT_BYTES 12u
#define VMBUS__RNDIS_INDICATE_BYTES 20u /* without a buffer */
#define VMBUS__RNDIS_INDICATE_OFFSET 12u
#define VMBUS__RNDIS_AT_INDICATE_STATUS 8u
#define VMBUS__RNDIS_AT_INDICATE_BYTES 12u
#define VMBUS__RNDIS_AT_INDICATE_OFFSET 16u

/* The answer to INITIALIZE. */
#define VMBUS__RNDIS_INITIALIZE_DONE_BYTES 52u
#define VMBUS__RNDIS_AT_DONE_MAJOR 16u
#define VMBUS__RNDIS_AT_DONE_MINOR 20u
#define VMBUS__RNDIS_AT_DONE_FLAGS 24u
#define VMBUS__RNDIS_AT_DONE_MEDIUM 28u
#define VMBUS__RNDIS_AT_DONE_PACKETS 32u /* in one message, at most */
#define VMBUS__RNDIS_AT_DONE_TRANSFER 36u
#define VMBUS__RNDIS_AT_DONE_ALIGN 40u /* 3: of 8 bytes */
#define VMBUS__RNDIS_ALIGN_FACTOR 3u
#define VMBUS__RNDIS_ALIGN 8u

/* ---- frames, [NET-DATA] ---- */

/* A PACKET: type and length, and 36 bytes; offsets count from behind the first 8. */
#define VMBUS__RNDIS_PACKET_BYTES 44u
#define VMBUS__RNDIS_AT_DATA_OFFSET 8u
#define VMBUS__RNDIS_AT_DATA_BYTES 12u
#define VMBUS__RNDIS_AT_OOB_OFFSET 16u
#define VMBUS__RNDIS_AT_OOB_BYTES 20u
#define VMBUS__RNDIS_AT_OOB_COUNT 24u
#define VMBUS__RNDIS_AT_PPI_OFFSET 28u
#define VMBUS__RNDIS_AT_PPI_BYTES 32u
#define VMBUS__RNDIS_AT_VC 36u
#define VMBUS__RNDIS_PPI_OFFSET 36u /* where it is when there is one */

struct vmbus__rndis_packet {
	uint32_t type, bytes; /* of the message */
	uint32_t data_offset, data_bytes;
	uint32_t oob_offset, oob_bytes, oob_count;
	uint32_t ppi_offset, ppi_bytes;
	uint32_t vc;
};

static inline void vmbus__rndis_packet_get(struct vmbus__rndis_packet *packet, const uint8_t *msg)
{
	packet->type = vmbus__net_get32(msg);
	packet->bytes = vmbus__net_get32(msg + 4);
	packet->data_offset = vmbus__net_get32(msg + VMBUS__RNDIS_AT_DATA_OFFSET);
	packet->data_bytes = vmbus__net_get32(msg + VMBUS__RNDIS_AT_DATA_BYTES);
	packet->oob_offset = vmbus__net_get32(msg + VMBUS__RNDIS_AT_OOB_OFFSET);
	packet->oob_bytes = vmbus__net_get32(msg + VMBUS__RNDIS_AT_OOB_BYTES);
	packet->oob_count = vmbus__net_get32(msg + VMBUS__RNDIS_AT_OOB_COUNT);
	packet->ppi_offset = vmbus__net_get32(msg + VMBUS__RNDIS_AT_PPI_OFFSET);
	packet->ppi_bytes = vmbus__net_get32(msg + VMBUS__RNDIS_AT_PPI_BYTES);
	packet->vc = vmbus__net_get32(msg + VMBUS__RNDIS_AT_VC);
}

/*
 * The header of a frame of data_bytes, with ppi_bytes of information behind it and the frame behind
 * that, in a message of bytes.
 */
static inline void vmbus__rndis_packet_put(uint8_t *msg, uint32_t bytes, uint32_t data_bytes,
					   uint32_t ppi_bytes)
{
	vmbus__net_put32(msg, VMBUS__RNDIS_PACKET);
	vmbus__net_put32(msg + 4, bytes);
	vmbus__net_put32(msg + VMBUS__RNDIS_AT_DATA_OFFSET, VMBUS__RNDIS_PPI_OFFSET + ppi_bytes);
	vmbus__net_put32(msg + VMBUS__RNDIS_AT_DATA_BYTES, data_bytes);
	vmbus__net_put64(msg + VMBUS__RNDIS_AT_OOB_OFFSET, 0);
	vmbus__net_put32(msg + VMBUS__RNDIS_AT_OOB_COUNT, 0);
	vmbus__net_put32(msg + VMBUS__RNDIS_AT_PPI_OFFSET, ppi_bytes ? VMBUS__RNDIS_PPI_OFFSET : 0);
	vmbus__net_put32(msg + VMBUS__RNDIS_AT_PPI_BYTES, ppi_bytes);
	vmbus__net_put64(msg + VMBUS__RNDIS_AT_VC, 0);
}

/* ---- per-packet information, [NET-PPI] ---- */

#define VMBUS__PPI_HEAD_BYTES 12u
#define VMBUS__PPI_BYTES_MAX 512u /* of all of a frame, that are looked at */
#define VMBUS__PPI_INTERNAL 0x80000000u

enum vmbus__ppi_type {
	VMBUS__PPI_CSUM = 0,
	VMBUS__PPI_LSO = 2,
	VMBUS__PPI_VLAN = 6,
	VMBUS__PPI_HASH = 8,
	VMBUS__PPI_PACKET_ID = 1 /* with VMBUS__PPI_INTERNAL */
};

/* Checksum, of a frame that a guest sends: what is to be made. */
#define VMBUS__PPI_CSUM_IPV4 1u
#define VMBUS__PPI_CSUM_IPV6 2u
#define VMBUS__PPI_CSUM_TCP 4u
#define VMBUS__PPI_CSUM_UDP 8u
#define VMBUS__PPI_CSUM_IP_HEADER 16u
#define VMBUS__PPI_CSUM_START_SHIFT 16u /* 10 bits: where the transport header begins */
#define VMBUS__PPI_CSUM_START_MASK 1023u
/* Of one that it receives: what was found. */
#define VMBUS__PPI_CSUM_TCP_BAD 1u
#define VMBUS__PPI_CSUM_UDP_BAD 2u
#define VMBUS__PPI_CSUM_IP_BAD 4u
#define VMBUS__PPI_CSUM_TCP_OK 8u
#define VMBUS__PPI_CSUM_UDP_OK 16u
#define VMBUS__PPI_CSUM_IP_OK 32u
#define VMBUS__PPI_CSUM_LOOPBACK 64u
#define VMBUS__PPI_CSUM_TCP_VALUE 128u /* ok, but what stands in the field is not the sum */
#define VMBUS__PPI_CSUM_IP_VALUE 256u

/* Large send. */
#define VMBUS__PPI_LSO_MSS_MASK 0xFFFFFu
#define VMBUS__PPI_LSO_START_SHIFT 20u /* 10 bits: where the TCP header begins */
#define VMBUS__PPI_LSO_START_MASK 1023u
#define VMBUS__PPI_LSO_V2 0x40000000u
#define VMBUS__PPI_LSO_IPV6 0x80000000u

/* VLAN: priority 3 bits, DEI 1, id 12, from the lowest bit on; the tag on the wire is the other way
   round. */
static inline uint32_t vmbus__ppi_vlan_of_tag(uint32_t tag)
{
	return (tag >> 13 & 7u) | (tag >> 12 & 1u) << 3 | (tag & 0xFFFu) << 4;
}

static inline uint32_t vmbus__ppi_tag_of_vlan(uint32_t vlan)
{
	return (vlan & 7u) << 13 | (vlan >> 3 & 1u) << 12 | (vlan >> 4 & 0xFFFu);
}

/* Packet id, of 4 bytes: version, flags, id (16). */
#define VMBUS__PPI_ID_VERSION 1u
#define VMBUS__PPI_ID_RSC 1u
#define VMBUS__PPI_ID_FIRST 2u
#define VMBUS__PPI_ID_LAST 4u

/* What vmbus__ppi_get() found. */
#define VMBUS__PPI_HAS_CSUM 1u
#define VMBUS__PPI_HAS_LSO 2u
#define VMBUS__PPI_HAS_VLAN 4u
#define VMBUS__PPI_HAS_HASH 8u
#define VMBUS__PPI_HAS_ID 16u

struct vmbus__ppis {
	uint32_t has; /* VMBUS__PPI_HAS_* */
	uint32_t csum, lso, vlan, hash, id;
};

#define VMBUS__PPI_ALL_BYTES 80u /* of one of each */

/*
 * Elements of information that are packed into bytes of p; private memory.  Of several of one type the
 * last counts.  Returns false when one is no multiple of 4, less than its head, more than what is
 * left, or, of a type that is known, has no room for its word.
 */
bool vmbus__ppi_get(struct vmbus__ppis *ppis, const uint8_t *p, uint32_t bytes);
/* Those that has names, into VMBUS__PPI_ALL_BYTES at most.  Returns the bytes. */
uint32_t vmbus__ppi_put(uint8_t *p, const struct vmbus__ppis *ppis);

#endif
