/* SPDX-License-Identifier: MIT */
/*
 * The headers of a frame, and its checksums in software.  It knows nothing of where frames come
 * from; what it is given to look at cannot change under way, what it sums up may.
 */
#include <vmbus/frame.h>

#include "frame/bytes.h"

#define ETHER_BYTES 14u
#define TAG_BYTES 4u
#define TAGS_MAX 4u
#define TYPE_IPV4 0x0800u
#define TYPE_IPV6 0x86ddu
#define TYPE_VLAN 0x8100u
#define TYPE_SERVICE_VLAN 0x88a8u
#define IPV4_BYTES 20u
#define IPV6_BYTES 40u
#define TCP_BYTES 20u
#define UDP_BYTES 8u
#define EXTENSIONS_MAX 8u

#define PROTOCOL_TCP 6u
#define PROTOCOL_UDP 17u
#define V6_HOP_BY_HOP 0u
#define V6_ROUTING 43u
#define V6_FRAGMENT 44u
#define V6_AUTHENTICATION 51u
#define V6_DESTINATION 60u

/* What is looked at: len bytes of a frame of bytes. */
struct view {
	const uint8_t *head;
	uint32_t len, bytes;
};

/* Whether need bytes from at on are there to be looked at. */
static bool has(const struct view *v, uint32_t at, uint32_t need)
{
	return at <= v->len && need <= v->len - at;
}

/* The transport header at `at`, in an IP packet that ends at end. */
static int look_transport(const struct view *v, uint32_t at, uint32_t end,
			  struct vmbus_frame_headers *h)
{
	uint32_t bytes = 0;

	if (h->protocol != PROTOCOL_TCP && h->protocol != PROTOCOL_UDP)
		return 0;
	if (h->protocol == PROTOCOL_UDP)
		bytes = UDP_BYTES;
	else if (has(v, at, TCP_BYTES))
		bytes = (uint32_t)(v->head[at + 12] >> 4) * 4u;
	if (bytes < (h->protocol == PROTOCOL_UDP ? UDP_BYTES : TCP_BYTES) || !has(v, at, bytes) ||
	    at > end || bytes > end - at)
		return VMBUS_E_RANGE;
	h->tcp = h->protocol == PROTOCOL_TCP;
	h->udp = !h->tcp;
	h->transport = (uint16_t)at;
	h->payload = (uint16_t)(at + bytes);
	return 0;
}

/* What an IP header tells of the packet's length, or what is there. */
static uint32_t ip_bytes(uint32_t told, uint32_t there)
{
	return told && told < there ? told : there;
}

static int look_ipv4(const struct view *v, uint32_t at, struct vmbus_frame_headers *h)
{
	const uint8_t *const ip = v->head + at;
	uint32_t bytes, told, fragment;

	if (!has(v, at, IPV4_BYTES) || ip[0] >> 4 != 4)
		return VMBUS_E_RANGE;
	bytes = (ip[0] & 15u) * 4u;
	told = vmbus__be16(ip + 2);
	if (bytes < IPV4_BYTES || !has(v, at, bytes) || (told && told < bytes))
		return VMBUS_E_RANGE;
	h->ip = 4;
	h->network = (uint16_t)at;
	h->protocol = ip[9];
	h->ip_bytes = ip_bytes(told, v->bytes - at);
	fragment = vmbus__be16(ip + 6);
	h->fragment = (fragment & 0x3fffu) != 0;
	if (fragment & 0x1fffu)
		return 0;
	return look_transport(v, at + bytes, at + h->ip_bytes, h);
}

static bool is_extension(uint32_t number)
{
	return number == V6_HOP_BY_HOP || number == V6_ROUTING || number == V6_FRAGMENT ||
	       number == V6_AUTHENTICATION || number == V6_DESTINATION;
}

/* Behind the IPv6 header, whose next one has the number next. */
static int look_extensions(const struct view *v, uint32_t at, uint32_t next,
			   struct vmbus_frame_headers *h)
{
	const uint32_t end = h->network + h->ip_bytes;
	uint32_t count = 0, bytes;

	while (is_extension(next)) {
		if (count++ == EXTENSIONS_MAX || !has(v, at, 8))
			return VMBUS_E_RANGE;
		if (next == V6_FRAGMENT)
			bytes = 8;
		else if (next == V6_AUTHENTICATION)
			bytes = (v->head[at + 1] + 2u) * 4u;
		else
			bytes = (v->head[at + 1] + 1u) * 8u;
		if (next == V6_FRAGMENT && (vmbus__be16(v->head + at + 2) & 0xfff9u)) {
			h->fragment = true;
			if (vmbus__be16(v->head + at + 2) & 0xfff8u) {
				h->protocol = v->head[at];
				return 0;
			}
		}
		next = v->head[at];
		if (!has(v, at, bytes))
			return VMBUS_E_RANGE;
		at += bytes;
	}
	h->protocol = (uint8_t)next;
	return look_transport(v, at, end, h);
}

static int look_ipv6(const struct view *v, uint32_t at, struct vmbus_frame_headers *h)
{
	const uint8_t *const ip = v->head + at;
	uint32_t told;

	if (!has(v, at, IPV6_BYTES) || ip[0] >> 4 != 6)
		return VMBUS_E_RANGE;
	told = vmbus__be16(ip + 4);
	h->ip = 6;
	h->network = (uint16_t)at;
	h->ip_bytes = ip_bytes(told ? told + IPV6_BYTES : 0, v->bytes - at);
	return look_extensions(v, at + IPV6_BYTES, ip[6], h);
}

int vmbus_frame_look(const void *head, uint32_t len, uint32_t bytes, struct vmbus_frame_headers *h)
{
	const struct vmbus_frame_headers none = { 0 };
	const struct view v = { head, len < bytes ? len : bytes, bytes };
	uint32_t at = ETHER_BYTES, count = 0;
	uint16_t type;

	*h = none;
	if (v.len < ETHER_BYTES)
		return VMBUS_E_RANGE;
	type = vmbus__be16(v.head + at - 2);
	while (type == TYPE_VLAN || type == TYPE_SERVICE_VLAN) {
		if (count++ == TAGS_MAX || !has(&v, at, TAG_BYTES))
			return VMBUS_E_RANGE;
		at += TAG_BYTES;
		type = vmbus__be16(v.head + at - 2);
	}
	h->type = type;
	if (type == TYPE_IPV4)
		return look_ipv4(&v, at, h);
	return type == TYPE_IPV6 ? look_ipv6(&v, at, h) : 0;
}

/* ---- checksums ---- */

/*
 * Sums are of 16-bit words as they lie in memory, whatever the byte order of this machine: a sum in
 * one's complement comes out in the order in which it went in.
 */
static uint64_t sum_words(const uint8_t *at, size_t len)
{
	uint64_t a = 0, b = 0, word[4];
	uint32_t last = 0;

	for (; len >= sizeof(word); len -= sizeof(word), at += sizeof(word)) {
		__builtin_memcpy(word, at, sizeof(word));
		a += (word[0] & 0xffffffffu) + (word[0] >> 32);
		b += (word[1] & 0xffffffffu) + (word[1] >> 32);
		a += (word[2] & 0xffffffffu) + (word[2] >> 32);
		b += (word[3] & 0xffffffffu) + (word[3] >> 32);
	}
	for (; len >= 4; len -= 4, at += 4) {
		__builtin_memcpy(&last, at, 4);
		a += last;
	}
	last = 0;
	__builtin_memcpy(&last, at, len);
	return a + b + last;
}

static uint64_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffffu) + (sum >> 16);
	return sum;
}

uint64_t vmbus__frame_sum(uint64_t sum, const void *at, size_t len)
{
	/* A part is folded before it is added, so that no sum of a frame's parts overflows. */
	return sum + fold(sum_words(at, len));
}

uint16_t vmbus__frame_sum_end(uint64_t sum)
{
	return (uint16_t)(~fold(sum) & 0xffffu);
}

/* Of bytes from `from` to `to` of a frame, whose pieces begin at odd places too. */
uint64_t vmbus__frame_sum_range(const struct vmbus_frame *frame, uint32_t from, uint32_t to)
{
	uint64_t sum = 0, part;
	uint32_t i, at = 0;

	for (i = 0; i < frame->pieces && at < to; i++) {
		const uint8_t *const base = frame->piece[i].base;
		const uint32_t len = (uint32_t)frame->piece[i].len;
		const uint32_t begin = from > at ? from - at : 0;
		const uint32_t end = to - at < len ? to - at : len;

		if (begin < end) {
			part = fold(sum_words(base + begin, end - begin));
			/* At an odd place of what is summed, its bytes change places. */
			if ((at + begin - from) & 1u)
				part = ((part & 0xffu) << 8) + (part >> 8);
			sum += part;
		}
		at += len;
	}
	return sum;
}

/* Where the IP packet ends in the frame, or the frame where there is none. */
static uint32_t packet_end(const struct vmbus_frame *frame, const struct vmbus_frame_headers *h)
{
	return h->ip ? h->network + h->ip_bytes : frame->bytes;
}

static uint32_t first_bytes(const struct vmbus_frame *frame)
{
	const size_t len = frame->pieces ? frame->piece[0].len : 0;

	return len < frame->bytes ? (uint32_t)len : frame->bytes;
}

static void write_sum(uint8_t *at, uint16_t sum)
{
	__builtin_memcpy(at, &sum, sizeof(sum));
}

static void sum_ipv4(uint8_t *ip)
{
	write_sum(ip + 10, 0);
	write_sum(ip + 10, vmbus__frame_sum_end(vmbus__frame_sum(0, ip, (ip[0] & 15u) * 4u)));
}

int vmbus_frame_checksum(struct vmbus_frame *frame, void *head)
{
	const uint32_t len = first_bytes(frame);
	struct vmbus_frame_headers h;
	uint8_t *const bytes = head;
	uint32_t end;
	uint16_t sum;

	if (!(frame->flags & (VMBUS_FRAME_CSUM | VMBUS_FRAME_IP_CSUM)))
		return 0;
	(void)vmbus_frame_look(head, len, frame->bytes, &h);
	end = packet_end(frame, &h);
	if ((frame->flags & VMBUS_FRAME_IP_CSUM) && h.ip != 4)
		return VMBUS_E_RANGE;
	if ((frame->flags & VMBUS_FRAME_CSUM) &&
	    ((uint32_t)frame->csum_start + frame->csum_offset + 2u > len ||
	     (uint32_t)frame->csum_start + frame->csum_offset + 2u > end))
		return VMBUS_E_RANGE;
	if (frame->flags & VMBUS_FRAME_IP_CSUM)
		sum_ipv4(bytes + h.network);
	if (frame->flags & VMBUS_FRAME_CSUM) {
		sum = vmbus__frame_sum_end(vmbus__frame_sum_range(frame, frame->csum_start, end));
		/* 0 would tell a receiver of UDP that there is none; the other zero does not. */
		write_sum(bytes + frame->csum_start + frame->csum_offset, sum ? sum : 0xffffu);
		frame->flags |= VMBUS_FRAME_CSUM_OK;
	}
	frame->flags &= ~(VMBUS_FRAME_CSUM | VMBUS_FRAME_IP_CSUM);
	return 0;
}
