/* SPDX-License-Identifier: MIT */
/*
 * Frames for tests, byte by byte, and sums made the slow way.
 */
#ifndef VMBUS_TEST_FRAMES_H
#define VMBUS_TEST_FRAMES_H

#include <vmbus/frame.h>

#include "vmbus_test.h"

struct shape {
	int ip;		  /* 4, 6, 0: ARP */
	int protocol;	  /* 6, 17 */
	uint32_t tags;	  /* VLAN tags in the frame */
	uint32_t options; /* of IPv4, or an extension header of IPv6: bytes, a multiple of 4 or 8 */
	uint32_t tcp_options;
	uint32_t payload;
};

struct built {
	uint32_t bytes, network, transport, payload;
	uint8_t at[VMBUS_FRAME_BYTES_MAX + 64];
};

static inline void put16(uint8_t *to, uint32_t v)
{
	to[0] = (uint8_t)(v >> 8);
	to[1] = (uint8_t)(v & 0xffu);
}

static inline uint32_t get16(const uint8_t *from)
{
	return (uint32_t)from[0] << 8 | from[1];
}

static inline uint32_t get32(const uint8_t *from)
{
	return get16(from) << 16 | get16(from + 2);
}

/* RFC 1071, word by word. */
static inline uint32_t slow_sum(uint32_t sum, const uint8_t *at, size_t len)
{
	size_t i;

	for (i = 0; i + 1 < len; i += 2)
		sum += get16(at + i);
	if (len & 1u)
		sum += (uint32_t)at[len - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffffu) + (sum >> 16);
	return sum;
}

/* The pseudo header's sum, with the bytes of the transport header and payload. */
static inline uint32_t slow_pseudo(const uint8_t *ip, int version, int protocol, uint32_t bytes)
{
	uint32_t sum = version == 4 ? slow_sum(0, ip + 12, 8) : slow_sum(0, ip + 8, 32);
	uint8_t rest[4];

	put16(rest, (uint32_t)protocol);
	put16(rest + 2, bytes & 0xffffu);
	return slow_sum(sum + (bytes >> 16), rest, 4);
}

/* 0 when the transport checksum of a packet is right. */
static inline uint32_t transport_wrong(const uint8_t *ip, const uint8_t *transport, int protocol,
				       uint32_t bytes)
{
	return 0xffffu - slow_sum(slow_pseudo(ip, ip[0] >> 4, protocol, bytes), transport, bytes);
}

static inline uint32_t build_ip(struct built *b, const struct shape *s, uint32_t rest)
{
	uint8_t *const ip = b->at + b->network;
	uint32_t i;

	if (s->ip == 4) {
		ip[0] = (uint8_t)(0x40u | (20 + s->options) / 4);
		put16(ip + 2, 20 + s->options + rest);
		put16(ip + 4, 0xfffe); /* id */
		ip[8] = 64;
		ip[9] = (uint8_t)s->protocol;
		for (i = 0; i < 8; i++)
			ip[12 + i] = (uint8_t)(10 + i * 7);
		memset(ip + 20, 1, s->options);
		put16(ip + 10, 0xffffu - slow_sum(0, ip, 20 + s->options));
		return 20 + s->options;
	}
	ip[0] = 0x60;
	put16(ip + 4, s->options + rest);
	ip[6] = (uint8_t)(s->options ? 60 : s->protocol);
	ip[7] = 64;
	for (i = 0; i < 32; i++)
		ip[8 + i] = (uint8_t)(0x20 + i * 5);
	memset(ip + 40, 0, s->options);
	if (s->options) {
		ip[40] = (uint8_t)s->protocol;
		ip[41] = (uint8_t)(s->options / 8 - 1);
	}
	return 40 + s->options;
}

static inline void build(struct built *b, const struct shape *s)
{
	const uint32_t header = s->protocol == 6 ? 20 + s->tcp_options : 8;
	uint32_t at = 12, i;
	uint8_t *t;

	memset(b->at, 0, 256);
	memcpy(b->at, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", 12);
	for (i = 0; i < s->tags; i++, at += 4) {
		put16(b->at + at, i + 1 < s->tags ? 0x88a8 : 0x8100);
		put16(b->at + at + 2, 5 + i);
	}
	put16(b->at + at, s->ip == 4 ? 0x0800 : s->ip == 6 ? 0x86dd : 0x0806);
	b->network = at + 2;
	b->transport = b->network + (s->ip ? build_ip(b, s, header + s->payload) : 28);
	if (!s->ip) {
		b->bytes = b->payload = b->transport;
		return;
	}
	t = b->at + b->transport;
	memset(t, 0, header);
	put16(t, 2794);
	put16(t + 2, 1766);
	if (s->protocol == 6) {
		memcpy(t + 4, "\xff\xff\xff\x00", 4); /* wraps early */
		t[12] = (uint8_t)(header / 4 << 4);
		t[13] = 0x80 | 0x18 | 0x01; /* CWR ACK PSH FIN */
		memset(t + 20, 1, s->tcp_options);
	} else {
		put16(t + 4, header + s->payload);
	}
	b->payload = b->transport + header;
	b->bytes = b->payload + s->payload;
	for (i = 0; i < s->payload; i++)
		t[header + i] = (uint8_t)(i * 131 + (i >> 8) * 17 + 3);
}

/* Cut bytes into pieces of piece bytes, the first of first bytes. */
static inline uint32_t pieces_of(struct vmbus_iov *iov, uint32_t room, const struct built *b,
				 uint32_t first, uint32_t piece)
{
	uint32_t at = 0, n = 0;

	while (at < b->bytes) {
		const uint32_t want = n ? piece : first;
		const uint32_t len = b->bytes - at < want ? b->bytes - at : want;

		must(n < room);
		iov[n++] = (struct vmbus_iov){ b->at + at, len };
		at += len;
	}
	return n;
}

static inline void gather(uint8_t *to, const struct vmbus_frame *frame)
{
	uint32_t i, at = 0;

	for (i = 0; i < frame->pieces; i++) {
		memcpy(to + at, frame->piece[i].base, frame->piece[i].len);
		at += (uint32_t)frame->piece[i].len;
	}
	must_eq(at, frame->bytes);
}

#endif
