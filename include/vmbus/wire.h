/* SPDX-License-Identifier: MIT */
/*
 * Packets as they lie in a ring: the descriptor, the type-specific header and the page ranges, and
 * every limit of the format in one place.  All words are little-endian; a "qword" is 8 bytes.
 *
 * Concepts and sources of the facts: vmbus_wire(7).  Nothing here needs a C library.
 */
#ifndef VMBUS_WIRE_H
#define VMBUS_WIRE_H

#include <vmbus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Types of packet, [PKT-TYPE]. */
enum vmbus_pkt_type {
	VMBUS_PKT_SYNCH = 1,
	VMBUS_PKT_ADD_XFER_SET = 2,
	VMBUS_PKT_REMOVE_XFER_SET = 3,
	VMBUS_PKT_ESTABLISH_GPADL = 4,
	VMBUS_PKT_TEARDOWN_GPADL = 5,
	VMBUS_PKT_INBAND = 6,
	VMBUS_PKT_XFER_PAGES = 7,
	VMBUS_PKT_GPADL = 8,
	VMBUS_PKT_GPA_DIRECT = 9,
	VMBUS_PKT_CANCEL = 10,
	VMBUS_PKT_COMPLETION = 11,
	VMBUS_PKT_USING_ADDITIONAL = 12,
	VMBUS_PKT_ADDITIONAL_DATA = 13
};
#define VMBUS_PKT_TYPES 14u /* numbers below this one exist, but for 0 */

/* Flags of a packet, [PKT-DESC].  No other bit may be set. */
#define VMBUS_PKT_FLAG_COMPLETE 1u /* the sender asks for a completion */

#define VMBUS_PKT_DESC_BYTES 16u	 /* type, offset, length, flags, transaction id */
#define VMBUS_PKT_TRAILER_BYTES 8u	 /* after the packet, not counted in its length */
#define VMBUS_PKT_LENGTH_MAX 524280u	 /* 65,535 qwords: the length field has 16 bits */
#define VMBUS_PKT_RING_BYTES_MAX 524288u /* the same with its trailer */

/*
 * What vmbus_ring_tx_put() sends.  Zero the struct first: fields may be added in place of reserved
 * bits.  The payload is data, then the pieces of more, in order; it is padded to 8 bytes with
 * zeroes, and the receiver sees the padded length.
 */
struct vmbus_msg {
	uint64_t id;	  /* transaction id; 0 is reserved for unsolicited packets */
	const void *data; /* first piece of the payload */
	uint32_t len;	  /* its bytes */
	uint16_t type;	  /* enum vmbus_pkt_type */
	uint16_t flags;	  /* VMBUS_PKT_FLAG_* */
	const void *ext;  /* type-specific header, as vmbus_wire_ext_put() and the like build it */
	uint32_t ext_len; /* its bytes, a multiple of 8 */
	uint32_t more_count; /* further pieces of the payload */
	const struct vmbus_iov *more;
};

/* What vmbus_ring_rx_get() returns: a decoded view of one packet. */
struct vmbus_packet {
	uint64_t id;
	const uint8_t *payload;
	uint32_t len;	    /* payload bytes, always a multiple of 8 */
	uint16_t type;	    /* enum vmbus_pkt_type, checked */
	uint16_t flags;	    /* VMBUS_PKT_FLAG_*, checked */
	const uint8_t *ext; /* type-specific header: a private copy, never the peer's memory */
	uint32_t ext_len;   /* its bytes; as many as the type needs at least */
	uint32_t where;	    /* byte offset of the packet in the ring, for messages */
};

/* The fixed part of a type-specific header.  Fields that a type has not are 0. */
struct vmbus_wire_ext {
	uint32_t gpadl;	     /* ADD_ and REMOVE_XFER_SET, ESTABLISH_, TEARDOWN_GPADL, GPADL */
	uint16_t xfer_set;   /* ADD_ and REMOVE_XFER_SET, XFER_PAGES */
	uint8_t sender_owns; /* XFER_PAGES */
	uint8_t reserved;
	uint32_t range_count; /* ESTABLISH_GPADL, XFER_PAGES, GPA_DIRECT */
	uint32_t byte_offset; /* ADDITIONAL_DATA */
	uint32_t byte_count;  /* ADDITIONAL_DATA */
	uint32_t reserved2;
	uint64_t total_bytes; /* ADDITIONAL_DATA */
};

/* A run of bytes in guest pages, or (XFER_PAGES: pfn_count 0) in a shared buffer. */
struct vmbus_wire_range {
	uint32_t byte_count;
	uint32_t byte_offset; /* in the first page; XFER_PAGES: in the buffer */
	uint32_t pfn_count;
	uint32_t reserved;
	const uint8_t *pfns; /* little-endian qwords; read them with vmbus_wire_range_pfn() */
};

/* A walk over the ranges of a packet.  Members are private. */
struct vmbus_wire_ranges {
	const uint8_t *at_p;
	uint32_t left_p;  /* bytes not yet walked */
	uint32_t count_p; /* ranges not yet walked */
	uint32_t where_p; /* of the packet, for faults */
	uint16_t type_p;
	uint16_t reserved_p[3];
	struct vmbus_fault fault_p;
};

/*
 * Bytes that a packet takes in a ring, descriptor, header, padding and trailer included.
 *
 * ext_len  bytes of the type-specific header, a multiple of 8.
 * len	    bytes of the payload.
 *
 * Returns a multiple of 8; a number above VMBUS_PKT_RING_BYTES_MAX cannot be sent at all.
 * Effect: none.
 * Threads: any.
 * Source: [PKT-LAYOUT] in vmbus_wire(7).
 */
VMBUS_API uint64_t vmbus_wire_ring_bytes(uint32_t ext_len, uint64_t len);

/*
 * Bytes that the type-specific header of a type has at least, 0 to 16.
 *
 * type	  enum vmbus_pkt_type.
 *
 * Errors: INVAL  no such type
 * Effect: none.
 * Threads: any.
 * Source: [PKT-EXT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_wire_ext_min(uint32_t type);

/*
 * The name of a packet type, for instance "in-band"; "?" for a number that is none.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const char *vmbus_wire_type_name(uint32_t type);

/*
 * Write the fixed part of a type-specific header.
 *
 * type	  enum vmbus_pkt_type; types without such a header give 0 bytes.
 * ext	  fields to write; those that the type has not are passed over.
 * buf	  where the bytes go.
 * bytes  room in buf.
 *
 * Returns the bytes written, a multiple of 8.
 * Errors: INVAL  no such type
 *	   RANGE  buf is too small
 * Effect: none on error.
 * Threads: any.
 * Source: [PKT-EXT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_wire_ext_put(uint32_t type, const struct vmbus_wire_ext *ext, void *buf,
				 size_t bytes);

/*
 * Read the fixed part of a packet's type-specific header.
 *
 * pkt	  a packet from a ring.
 * ext	  where the fields go; those that the type has not become 0.
 *
 * Errors: INVAL  no such type
 *	   RANGE  ext_len is shorter than the type needs
 * Effect: none on error.
 * Threads: any.
 * Source: [PKT-EXT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_wire_ext_get(const struct vmbus_packet *pkt, struct vmbus_wire_ext *ext);

/*
 * Add one range with its page numbers behind a header or behind another range, for GPA_DIRECT and
 * ESTABLISH_GPADL.
 *
 * byte_count	bytes of the range, 1 to 2^32 - 8192.
 * byte_offset	where it starts in its first page, 0 to 4095.
 * pfns		page numbers, (byte_offset + byte_count + 4095) / 4096 of them.
 * buf		where the bytes go.
 * bytes	room in buf.
 *
 * Returns the bytes written, a multiple of 8.
 * Errors: RANGE  byte_count, byte_offset or the room in buf
 * Effect: none on error.
 * Threads: any.
 * Source: [PKT-GPA] in vmbus_wire(7).
 */
VMBUS_API int vmbus_wire_range_put(uint32_t byte_count, uint32_t byte_offset, const uint64_t *pfns,
				   void *buf, size_t bytes);

/*
 * Add one range of a shared buffer, for XFER_PAGES: 8 bytes.
 *
 * byte_count	bytes of the range, at least 1.
 * byte_offset	where it starts in the buffer.
 * buf		where the bytes go.
 * bytes	room in buf.
 *
 * Returns 8.
 * Errors: RANGE  byte_count is 0, or buf is too small
 * Effect: none on error.
 * Threads: any.
 * Source: [PKT-XFER] in vmbus_wire(7).
 */
VMBUS_API int vmbus_wire_xfer_range_put(uint32_t byte_count, uint32_t byte_offset, void *buf,
					size_t bytes);

/*
 * Begin to walk the ranges of a GPA_DIRECT, ESTABLISH_GPADL or XFER_PAGES packet.
 *
 * it	  the walk; caller's storage.
 * pkt	  a packet from a ring; its ext is kept until the walk ends.
 *
 * Errors: INVAL  a type without ranges
 *	   RANGE  ext_len is shorter than the type needs
 *	   PEER	  no range, or more than the header has room for; the fault says which
 * Effect: none but on it.
 * Threads: one at a time per walk.
 * Source: [PKT-GPA], [PKT-XFER] in vmbus_wire(7).
 */
VMBUS_API int vmbus_wire_ranges_begin(struct vmbus_wire_ranges *it, const struct vmbus_packet *pkt);

/*
 * The next range.
 *
 * it	  the walk.
 * range  on success, the range; its pfns point into the packet's header.
 *
 * Returns 1 with a range, 0 when there is none left.
 * Errors: PEER	  the range is empty or too long, starts past its first page, or lacks page numbers
 *	   FAULT  a call before this one said PEER
 * Effect: none but on it.
 * Threads: one at a time per walk.
 * Source: [PKT-GPA], [PKT-XFER] in vmbus_wire(7).
 */
VMBUS_API int vmbus_wire_ranges_next(struct vmbus_wire_ranges *it, struct vmbus_wire_range *range);

/*
 * The fault of a walk that said PEER; its field is VMBUS_FAULT_NONE otherwise.
 *
 * Effect: none.
 * Threads: one at a time per walk.
 */
VMBUS_API const struct vmbus_fault *vmbus_wire_ranges_fault(const struct vmbus_wire_ranges *it);

/*
 * Page number n of a range.
 *
 * n	  0 to pfn_count - 1; past that the answer is UINT64_MAX, which no page has.
 *
 * Effect: none.
 * Threads: any.
 * Source: [PKT-GPA] in vmbus_wire(7).
 */
VMBUS_API uint64_t vmbus_wire_range_pfn(const struct vmbus_wire_range *range, uint32_t n);

#ifdef __cplusplus
}
#endif
#endif
