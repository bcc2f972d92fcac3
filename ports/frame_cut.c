/* SPDX-License-Identifier: MIT */
/*
 * Cutting a TCP frame that is larger than its link takes into segments, as a network card does: the
 * headers are written anew for each one, and the payload stays where it is, but for what belongs to a
 * frame's head.
 *
 * Headers come from the frame's first piece, which cannot change; payload is read once here, for the
 * checksum, and once more by who sends the segment.
 */
#include <vmbus/frame.h>

#include "frame/bytes.h"

#define IPV4_BYTES_AT 2u
#define IPV4_ID_AT 4u
#define IPV4_SUM_AT 10u
#define IPV6_BYTES_AT 4u
#define IPV6_BYTES 40u
#define TCP_SEQUENCE_AT 4u
#define TCP_FLAGS_AT 13u
#define TCP_SUM_AT 16u
#define TCP_FIN 0x01u
#define TCP_PUSH 0x08u
#define TCP_CONGESTION 0x80u /* window reduced */
#define PROTOCOL_TCP 6u
#define IP_BYTES_MAX 65535u

static bool is_tcp(const struct vmbus_frame *frame, const struct vmbus_frame_headers *h)
{
	const uint32_t flag = h->ip == 4 ? VMBUS_FRAME_TSO4 : VMBUS_FRAME_TSO6;

	return h->tcp && !h->fragment && (frame->flags & flag);
}

int vmbus_frame_cut(struct vmbus_frame_cut *cut, const struct vmbus_frame *frame)
{
	const size_t first = frame->pieces ? frame->piece[0].len : 0;
	struct vmbus_frame_headers h;
	uint32_t payload;

	if (!(frame->flags & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6)))
		return VMBUS_E_INVAL;
	if (vmbus_frame_look(first ? frame->piece[0].base : NULL,
			     first < frame->bytes ? (uint32_t)first : frame->bytes, frame->bytes,
			     &h) ||
	    !is_tcp(frame, &h))
		return VMBUS_E_INVAL;
	payload = frame->bytes - h.payload; /* the header lies within the frame */
	if (frame->mss < VMBUS_FRAME_MSS_MIN || frame->header_bytes != h.payload ||
	    h.payload > VMBUS_FRAME_HEAD || payload == 0)
		return VMBUS_E_RANGE;
	if ((uint32_t)h.payload - h.network + (frame->mss < payload ? frame->mss : payload) >
	    IP_BYTES_MAX)
		return VMBUS_E_RANGE;
	cut->frame_p = frame;
	cut->headers_p = h;
	cut->offset_p = 0;
	cut->number_p = 0;
	cut->piece_p = 0;
	cut->into_p = h.payload;
	return 0;
}

/* At most so many bytes of payload that lie together, and goes on behind them; 0: there are none. */
static uint32_t take_run(struct vmbus_frame_cut *cut, uint32_t most, const uint8_t **run)
{
	const struct vmbus_frame *const frame = cut->frame_p;

	while (cut->piece_p < frame->pieces) {
		const struct vmbus_iov *const from = &frame->piece[cut->piece_p];
		const uint32_t left = (uint32_t)from->len - cut->into_p;
		const uint32_t n = left < most ? left : most;

		*run = (const uint8_t *)from->base + cut->into_p;
		cut->into_p += n;
		if (n == left) {
			cut->piece_p++;
			cut->into_p = 0;
		}
		if (n)
			return n;
	}
	return 0;
}

/*
 * The next bytes of payload behind the header: the first ones join it, up to what a frame's head is, the
 * others stay where they are.  How many pieces, or 0: too many.
 */
static uint32_t take_payload(struct vmbus_frame_cut *cut, uint32_t header, uint32_t bytes)
{
	uint32_t have = header, used = 1, n;
	const uint8_t *run;

	while (bytes && have < VMBUS_FRAME_HEAD) {
		n = take_run(cut, bytes < VMBUS_FRAME_HEAD - have ? bytes : VMBUS_FRAME_HEAD - have,
			     &run);
		if (!n)
			return 0;
		__builtin_memcpy(cut->head_p + have, run, n);
		have += n;
		bytes -= n;
	}
	cut->iov_p[0] = (struct vmbus_iov){ cut->head_p, have };
	while (bytes) {
		n = take_run(cut, bytes, &run);
		if (!n || used > VMBUS_FRAME_CUT_PIECES)
			return 0;
		cut->iov_p[used++] = (struct vmbus_iov){ run, n };
		bytes -= n;
	}
	return used;
}

static void write_ip(struct vmbus_frame_cut *cut, uint32_t bytes)
{
	const struct vmbus_frame_headers *const h = &cut->headers_p;
	uint8_t *const ip = cut->head_p + h->network;
	const uint32_t packet = (uint32_t)h->payload - h->network + bytes;
	uint16_t sum = 0;

	if (h->ip == 6) {
		vmbus__put_be16(ip + IPV6_BYTES_AT, packet - IPV6_BYTES);
		return;
	}
	vmbus__put_be16(ip + IPV4_BYTES_AT, packet);
	vmbus__put_be16(ip + IPV4_ID_AT, (vmbus__be16(ip + IPV4_ID_AT) + cut->number_p) & 0xffffu);
	__builtin_memcpy(ip + IPV4_SUM_AT, &sum, sizeof(sum));
	sum = vmbus__frame_sum_end(vmbus__frame_sum(0, ip, (ip[0] & 15u) * 4u));
	__builtin_memcpy(ip + IPV4_SUM_AT, &sum, sizeof(sum));
}

/* Of the addresses, the protocol and the bytes of TCP header and payload. */
static uint64_t pseudo_sum(const struct vmbus_frame_cut *cut, uint32_t bytes)
{
	const uint8_t *const ip = cut->head_p + cut->headers_p.network;
	uint8_t rest[8] = { 0 };

	vmbus__put_be32(rest, bytes);
	rest[7] = PROTOCOL_TCP;
	return cut->headers_p.ip == 4 ? vmbus__frame_sum(vmbus__frame_sum(0, ip + 12, 8), rest, 8)
				      : vmbus__frame_sum(vmbus__frame_sum(0, ip + 8, 32), rest, 8);
}

static void write_tcp(struct vmbus_frame_cut *cut, const struct vmbus_frame *segment, bool last)
{
	const struct vmbus_frame_headers *const h = &cut->headers_p;
	uint8_t *const tcp = cut->head_p + h->transport;
	const uint64_t sequence = (uint64_t)vmbus__be32(tcp + TCP_SEQUENCE_AT) + cut->offset_p;
	uint32_t off = last ? 0 : TCP_FIN | TCP_PUSH;
	uint16_t sum = 0;

	if (cut->number_p)
		off |= TCP_CONGESTION;
	vmbus__put_be32(tcp + TCP_SEQUENCE_AT, (uint32_t)(sequence & 0xffffffffu));
	tcp[TCP_FLAGS_AT] = (uint8_t)(tcp[TCP_FLAGS_AT] & (0xffu - off));
	__builtin_memcpy(tcp + TCP_SUM_AT, &sum, sizeof(sum));
	sum = vmbus__frame_sum_end(pseudo_sum(cut, segment->bytes - h->transport) +
				   vmbus__frame_sum_range(segment, h->transport, segment->bytes));
	__builtin_memcpy(tcp + TCP_SUM_AT, &sum, sizeof(sum));
}

int vmbus_frame_cut_next(struct vmbus_frame_cut *cut, struct vmbus_frame *segment)
{
	const struct vmbus_frame *const frame = cut->frame_p;
	const uint32_t header = cut->headers_p.payload;
	const uint32_t left = frame->bytes - header - cut->offset_p;
	const uint32_t bytes = left < frame->mss ? left : frame->mss;
	uint32_t pieces;

	if (left == 0)
		return 0;
	__builtin_memcpy(cut->head_p, frame->piece[0].base, header);
	pieces = take_payload(cut, header, bytes);
	if (!pieces)
		return VMBUS_E_FULL;
	*segment = *frame;
	segment->piece = cut->iov_p;
	segment->pieces = pieces;
	segment->bytes = header + bytes;
	segment->flags =
		(frame->flags & (VMBUS_FRAME_VLAN | VMBUS_FRAME_HASH)) | VMBUS_FRAME_CSUM_OK;
	segment->header_bytes = 0;
	segment->mss = 0;
	segment->csum_start = 0;
	segment->csum_offset = 0;
	write_ip(cut, bytes);
	write_tcp(cut, segment, bytes == left);
	cut->offset_p += bytes;
	cut->number_p++;
	return 1;
}
