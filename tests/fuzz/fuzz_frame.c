/* SPDX-License-Identifier: MIT */
/*
 * Frames of any bytes, in any pieces, through all that is done to frames in software; each result is
 * held against what it may be.
 *
 * Input: flags (4 bits each of work and frame flags: 1 byte), len of the first piece (2), of others (1),
 * csum_start, csum_offset, header_bytes, mss (2 each), bytes that are added to the end (2), then the
 * frame's.
 */
#include <vmbus/frame.h>

#include "fuzz/input.h"

#define HEAD 14u
#define PIECES 600u

static const uint8_t key_bytes[VMBUS_FRAME_KEY_BYTES] = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b };
static struct vmbus_iov iov[PIECES];

static uint32_t u16(const uint8_t *from)
{
	return (uint32_t)from[0] | (uint32_t)from[1] << 8;
}

static void check_headers(const struct vmbus_frame_headers *h, int err, uint32_t len,
			  uint32_t bytes)
{
	MUST(err == 0 || err == VMBUS_E_RANGE);
	MUST(h->ip == 0 || h->ip == 4 || h->ip == 6);
	MUST(!h->ip || (h->network >= HEAD && h->network < len));
	MUST(!h->ip || h->ip_bytes <= bytes - h->network);
	MUST(!(h->tcp && h->udp));
	MUST((h->tcp || h->udp) == (h->transport != 0));
	if (h->transport) {
		MUST(h->transport > h->network && h->payload <= len);
		MUST(h->payload >= h->transport + (h->tcp ? 20u : 8u));
		MUST(h->payload <= h->network + h->ip_bytes);
	}
}

static void hash(const uint8_t *head, const struct vmbus_frame_headers *h)
{
	static struct vmbus_frame_key key;
	static bool made;
	uint32_t value = 0, what;

	if (!made)
		vmbus_frame_key(&key, key_bytes);
	made = true;
	for (what = 0; what < 64; what += 9)
		MUST(!vmbus_frame_hash(&key, what, head, h, &value) || (h->ip && what));
}

/* The pieces of a frame hold as many bytes as it says, each within what was given. */
static void check_frame(const struct vmbus_frame *frame, uint32_t pieces_max)
{
	uint64_t sum = 0;
	uint32_t i, k;

	MUST(frame->pieces <= pieces_max);
	for (i = 0; i < frame->pieces; i++) {
		const uint8_t *const base = frame->piece[i].base;
		volatile uint8_t byte;

		sum += frame->piece[i].len;
		for (k = 0; k < frame->piece[i].len; k++)
			byte = base[k];
		(void)byte;
	}
	MUST(sum == frame->bytes);
}

static void cut_all(const struct vmbus_frame *frame)
{
	struct vmbus_frame_cut cut;
	struct vmbus_frame segment;
	uint64_t payload = 0;
	int ret = vmbus_frame_cut(&cut, frame);

	MUST(ret == 0 || ret == VMBUS_E_INVAL || ret == VMBUS_E_RANGE);
	if (ret)
		return;
	while ((ret = vmbus_frame_cut_next(&cut, &segment)) == 1) {
		struct vmbus_frame_headers h;

		check_frame(&segment, VMBUS_FRAME_CUT_PIECES + 1);
		MUST(segment.bytes > frame->header_bytes);
		MUST(segment.bytes - frame->header_bytes <= frame->mss);
		payload += segment.bytes - frame->header_bytes;
		MUST(vmbus_frame_look(segment.piece[0].base, (uint32_t)segment.piece[0].len,
				      segment.bytes, &h) == 0);
		MUST(h.tcp && h.payload == frame->header_bytes);
		MUST(h.network + h.ip_bytes == segment.bytes);
	}
	MUST(ret == VMBUS_E_FULL || payload == frame->bytes - frame->header_bytes);
}

static void tag(const struct vmbus_frame *frame)
{
	struct vmbus_frame_tagged tagged;
	struct vmbus_frame out;
	const int err = vmbus_frame_tag(&tagged, frame, &out);

	MUST(err == 0 || err == VMBUS_E_INVAL || err == VMBUS_E_RANGE || err == VMBUS_E_FULL);
	if (err)
		return;
	check_frame(&out, VMBUS_FRAME_CUT_PIECES + 1);
	MUST(out.bytes == frame->bytes + 4);
	cut_all(&out);
}

static uint32_t split(uint8_t *bytes, uint32_t len, uint32_t first, uint32_t other)
{
	uint32_t at = 0, n = 0;

	while (at < len) {
		uint32_t some = n ? other + 1 : first;

		some = n + 1 == PIECES || some > len - at ? len - at : some;
		iov[n++] = (struct vmbus_iov){ bytes + at, some };
		at += some;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vmbus_frame_headers h;
	struct vmbus_frame frame = { .piece = iov };
	uint32_t len, first;
	uint8_t *bytes;
	int err;

	if (size < 14)
		return 0;
	len = (uint32_t)(size - 14) + u16(data + 12);
	if (len < HEAD || len > VMBUS_FRAME_BYTES_MAX)
		return 0;
	bytes = calloc(1, len);
	MUST(bytes);
	memcpy(bytes, data + 14, size - 14);
	first = u16(data + 1) < HEAD ? HEAD : u16(data + 1);
	first = first < len ? first : len;
	err = vmbus_frame_look(bytes, first, len, &h);
	check_headers(&h, err, first, len);
	hash(bytes, &h);

	frame.pieces = split(bytes, len, first, data[3]);
	frame.bytes = len;
	frame.flags = data[0] & 63u;
	frame.csum_start = (uint16_t)u16(data + 4);
	frame.csum_offset = (uint16_t)u16(data + 6);
	/* Mostly what the headers say, so that there is something to cut. */
	frame.header_bytes = data[0] & 64u ? (uint16_t)u16(data + 8) : h.payload;
	frame.mss = (uint16_t)u16(data + 10);
	cut_all(&frame);
	tag(&frame);
	err = vmbus_frame_checksum(&frame, bytes);
	MUST(err == 0 || err == VMBUS_E_RANGE);
	MUST(err || !(frame.flags & (VMBUS_FRAME_CSUM | VMBUS_FRAME_IP_CSUM)));
	free(bytes);
	return 0;
}
