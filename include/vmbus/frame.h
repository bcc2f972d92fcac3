/* SPDX-License-Identifier: MIT */
/*
 * Ethernet frames on their way between a guest and a port: pieces, what is still to be done to them
 * (checksums, segments, a VLAN tag), and the functions that do it in software.
 *
 * Concepts: vmbus_net(7).  Nothing here needs a C library.
 */
#ifndef VMBUS_FRAME_H
#define VMBUS_FRAME_H

#include <vmbus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_FRAME_HEAD 192u	     /* bytes at a frame's begin that cannot change under way */
#define VMBUS_FRAME_BYTES_MAX 65553u /* 65,535 of IP, 14 of Ethernet, 4 of a VLAN tag */
#define VMBUS_FRAME_KEY_BYTES 40u
#define VMBUS_FRAME_MSS_MIN 8u /* smaller ones are refused, since each segment costs work */

/* struct vmbus_frame: flags. */
#define VMBUS_FRAME_CSUM 1u    /* the transport checksum is due, see csum_start */
#define VMBUS_FRAME_CSUM_OK 2u /* it was checked, or comes from memory of this machine */
#define VMBUS_FRAME_TSO4 4u /* TCP over IPv4, to be cut into segments of mss bytes; implies CSUM */
#define VMBUS_FRAME_TSO6 8u /* the same over IPv6 */
#define VMBUS_FRAME_IP_CSUM 16u /* the IPv4 header's checksum is due */
#define VMBUS_FRAME_VLAN 32u	/* vlan has a tag that is not in the frame */
#define VMBUS_FRAME_HASH 64u	/* hash is set */

/*
 * A frame without its FCS.  The first piece has all of it, or at least VMBUS_FRAME_HEAD bytes, in
 * memory that nobody else can change; what is in further pieces a guest may change at any time.
 */
struct vmbus_frame {
	const struct vmbus_iov *piece;
	uint32_t pieces;
	uint32_t bytes; /* of all pieces: 14 to VMBUS_FRAME_BYTES_MAX */
	uint32_t flags; /* VMBUS_FRAME_* */
	/* CSUM: of the bytes from csum_start to the end of the IP packet, stored at csum_start +
	   csum_offset, where the sum of the pseudo header stands.  In the first piece. */
	uint16_t csum_start, csum_offset;
	uint16_t header_bytes; /* TSO: up to the end of the TCP header; in the first piece */
	uint16_t mss;	       /* TSO: bytes of payload in a segment */
	uint16_t vlan; /* the tag as on the wire: priority, DEI and id, in host byte order */
	uint16_t reserved1;
	uint32_t hash; /* Toeplitz */
	uint64_t reserved[2];
};

/* What vmbus_frame_look() finds; offsets from the frame's begin, 0: there is none. */
struct vmbus_frame_headers {
	uint16_t type;	    /* EtherType behind VLAN tags, in host byte order */
	uint16_t network;   /* IPv4 or IPv6 header */
	uint16_t transport; /* TCP or UDP header; 0 for fragments but the first */
	uint16_t payload;   /* what follows the TCP or UDP header */
	uint8_t ip;	    /* 4, 6, or 0 */
	uint8_t protocol;   /* of IP: 6 TCP, 17 UDP, ... */
	bool tcp, udp;	    /* whole header within the bytes looked at */
	bool fragment;
	uint8_t reserved[3];
	/* IP header and payload, as the header tells, at most what is there; all that is there if it
	   tells 0, as in a TSO frame. */
	uint32_t ip_bytes;
};

/*
 * Find the headers of a frame.
 *
 * head	   its first bytes.
 * len	   of head, up to bytes.
 * bytes   of the whole frame.
 *
 * Errors: RANGE  len is less than 14; a header is cut off, or its own length makes no sense, or
 *		  there are too many: what comes before it is told
 * Effect: none but on h.
 * Threads: any.
 */
VMBUS_API int vmbus_frame_look(const void *head, uint32_t len, uint32_t bytes,
			       struct vmbus_frame_headers *h);

/*
 * Do in software what the flags CSUM and IP_CSUM say is due, for a frame that is not cut.
 *
 * frame  flags change.
 * head	  the bytes of the first piece, where the sums are written.
 *
 * Errors: RANGE  offsets are not in the first piece or the IP packet, or there is no IPv4 header whose
 *		  sum is due: nothing was written
 * Effect: CSUM becomes CSUM_OK.  Bytes that a guest changes meanwhile make a wrong sum, no more.
 * Threads: one for a frame.
 */
VMBUS_API int vmbus_frame_checksum(struct vmbus_frame *frame, void *head);

/* Cutting a TSO frame into segments; caller's storage, set up by vmbus_frame_cut(). */
#define VMBUS_FRAME_CUT_PIECES 32u
struct vmbus_frame_cut {
	const struct vmbus_frame *frame_p;
	struct vmbus_frame_headers headers_p;
	uint32_t offset_p, number_p; /* of payload, of segments done */
	uint32_t piece_p, into_p;    /* where the next segment's payload begins */
	struct vmbus_iov iov_p[VMBUS_FRAME_CUT_PIECES + 1];
	uint8_t head_p[VMBUS_FRAME_HEAD];
	uint64_t reserved_p[4];
};

/*
 * Begin to cut: the headers are looked at, and trusted instead of the offsets in the frame.
 *
 * frame  kept, with its pieces, while it is cut.
 *
 * Errors: INVAL  it has no TSO flag, is a fragment, or is no TCP over the IP version that the flag
 *		  tells, with whole headers in the first piece
 *	   RANGE  mss is below VMBUS_FRAME_MSS_MIN; header_bytes are not those of the headers, or more
 *		  than VMBUS_FRAME_HEAD; no payload follows them; a segment longer than IP allows
 * Effect: none on error.
 * Threads: one for a cut.
 */
VMBUS_API int vmbus_frame_cut(struct vmbus_frame_cut *cut, const struct vmbus_frame *frame);

/*
 * The next segment, with lengths, ids, sequence numbers, flags, and all checksums filled in.
 *
 * segment  set; its pieces lie in cut and in the frame, until the next call.
 *
 * Returns 1; 0 when there is none left.
 * Errors: FULL  a segment lies in more than VMBUS_FRAME_CUT_PIECES pieces
 * Effect: none but on cut and segment.
 * Threads: one for a cut.
 */
VMBUS_API int vmbus_frame_cut_next(struct vmbus_frame_cut *cut, struct vmbus_frame *segment);

/* A frame with a tag put into it; caller's storage. */
struct vmbus_frame_tagged {
	struct vmbus_iov iov_p[VMBUS_FRAME_CUT_PIECES + 1];
	uint8_t head_p[VMBUS_FRAME_HEAD + 8];
};

/*
 * Put the tag that stands beside a frame into it, for who cannot take it there.
 *
 * tagged  where the first bytes go; further pieces stay where they are.
 * out	   set: its pieces lie in tagged and in the frame.
 *
 * Errors: INVAL  it has no tag
 *	   RANGE  the first piece is shorter than the two addresses, or the frame too long
 *	   FULL	  it lies in more than VMBUS_FRAME_CUT_PIECES pieces
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_frame_tag(struct vmbus_frame_tagged *tagged, const struct vmbus_frame *frame,
			      struct vmbus_frame *out);

/* vmbus_frame_hash(): what is hashed. */
#define VMBUS_FRAME_HASH_IPV4 1u
#define VMBUS_FRAME_HASH_TCPV4 2u
#define VMBUS_FRAME_HASH_UDPV4 4u
#define VMBUS_FRAME_HASH_IPV6 8u
#define VMBUS_FRAME_HASH_TCPV6 16u
#define VMBUS_FRAME_HASH_UDPV6 32u

#define VMBUS_FRAME_HASH_BYTES_MAX 36u /* two IPv6 addresses and two ports */

/* A key, made ready: what each half of each byte adds to the hash.  Caller's storage. */
struct vmbus_frame_key {
	uint32_t part_p[2 * VMBUS_FRAME_HASH_BYTES_MAX][16];
};

/*
 * Make a key ready.
 *
 * key	  set.
 * bytes  VMBUS_FRAME_KEY_BYTES of them.
 *
 * Effect: none but on key.
 * Threads: any.
 * Source: [NET-RSS] in vmbus_wire(7).
 */
VMBUS_API void vmbus_frame_key(struct vmbus_frame_key *key, const uint8_t *bytes);

/*
 * The Toeplitz hash of bytes; of a frame's addresses and, if what says so, ports.  A frame with TCP
 * or UDP that is not asked for, and a fragment, is hashed by its addresses if those are.
 *
 * key	  made ready.
 * data	  len bytes; those past VMBUS_FRAME_HASH_BYTES_MAX are left out.
 * what	  VMBUS_FRAME_HASH_*.
 * head	  the frame's first bytes, that h was found in.
 * hash	  set when true is returned.
 *
 * Returns toeplitz: the hash.  hash: true; false when nothing of what is asked is there.
 * Effect: none.
 * Threads: any.
 * Source: [NET-RSS] in vmbus_wire(7).
 */
VMBUS_API uint32_t vmbus_toeplitz(const struct vmbus_frame_key *key, const void *data,
				  uint32_t len);
VMBUS_API bool vmbus_frame_hash(const struct vmbus_frame_key *key, uint32_t what, const void *head,
				const struct vmbus_frame_headers *h, uint32_t *hash);

#ifdef __cplusplus
}
#endif
#endif
