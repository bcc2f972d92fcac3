/* SPDX-License-Identifier: MIT */
/*
 * What a guest wants done with a frame that it sends: checksums, segments, a VLAN tag.  The port does
 * what it can, and the rest is done here.  The frame's own headers are believed where they and the
 * guest's information differ; both are private.
 *
 * [NET-PPI], [NET-OFFLOAD]
 */
#include "net/tx.h"

#include <string.h>

#define MAC_BYTES 12u
#define TAG_BYTES 4u
#define IPV4_BYTES 20u
#define IPV6_BYTES 40u
#define TCP_SUM 16u /* where the checksum is in a header */
#define UDP_SUM 6u
#define TCP 6u

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8 & 255u);
	p[1] = (uint8_t)(v & 255u);
}

static uint32_t add_words(uint32_t sum, const uint8_t *p, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i + 1u < bytes; i += 2u)
		sum += get16(p + i);
	return sum;
}

static uint32_t fold(uint32_t sum)
{
	sum = (sum & 0xFFFFu) + (sum >> 16);
	return (sum & 0xFFFFu) + (sum >> 16);
}

/* A tag goes between addresses and type; there is slack before the head. */
static void put_tag(struct vmbus_frame *frame, struct vmbus_iov *piece, uint8_t **head)
{
	uint8_t *const to = *head - TAG_BYTES;

	memmove(to, *head, MAC_BYTES);
	put16(to + MAC_BYTES, 0x8100);
	put16(to + MAC_BYTES + 2u, frame->vlan);
	*head = to;
	piece->base = to;
	piece->len += TAG_BYTES;
	frame->bytes += TAG_BYTES;
	frame->flags &= ~VMBUS_FRAME_VLAN;
	if (frame->flags & VMBUS_FRAME_CSUM)
		frame->csum_start = (uint16_t)(frame->csum_start + TAG_BYTES);
	if (frame->header_bytes)
		frame->header_bytes = (uint16_t)(frame->header_bytes + TAG_BYTES);
}

/* Where the checksum is, from the headers, or from the guest where those are too many for us. */
static bool set_csum(struct vmbus_frame *frame, const struct vmbus_frame_headers *h, uint32_t csum)
{
	const uint32_t told = csum >> VMBUS__PPI_CSUM_START_SHIFT & VMBUS__PPI_CSUM_START_MASK;
	const bool tcp = h->tcp || (!h->udp && csum & VMBUS__PPI_CSUM_TCP);
	const uint32_t start = h->tcp || h->udp ? h->transport : told;
	const uint32_t offset = tcp ? TCP_SUM : UDP_SUM;

	if (start < 14u + IPV4_BYTES || start + offset + 2u > frame->piece[0].len)
		return false;
	frame->csum_start = (uint16_t)start;
	frame->csum_offset = (uint16_t)offset;
	frame->flags |= VMBUS_FRAME_CSUM;
	return true;
}

/* ---- large frames ---- */

/* The IPv4 header tells the whole length, and its sum is right. */
static void fix_ipv4(uint8_t *ip, uint32_t bytes)
{
	const uint32_t header = (ip[0] & 15u) * 4u;

	put16(ip + 2, bytes);
	put16(ip + 10, 0);
	put16(ip + 10, fold(add_words(0, ip, header)) ^ 0xFFFFu);
}

/* The TCP checksum field has the sum of the pseudo header, with the length. */
static void fix_tcp(uint8_t *tcp, const uint8_t *addresses, uint32_t address_bytes, uint32_t bytes)
{
	uint32_t sum = add_words(0, addresses, address_bytes) + TCP;

	sum += bytes & 0xFFFFu;
	sum += bytes >> 16;
	put16(tcp + TCP_SUM, fold(sum));
}

/*
 * A frame to be cut: what the guest left out of its headers is filled in, as who cuts it expects, [NET-PPI].
 * Information that does not fit the headers makes it one that cannot be.
 */
static bool set_large(struct vmbus_frame *frame, uint8_t *head, const struct vmbus_frame_headers *h,
		      uint32_t lso, uint32_t mtu)
{
	const uint32_t mss = lso & VMBUS__PPI_LSO_MSS_MASK;
	const uint32_t ip = lso & VMBUS__PPI_LSO_IPV6 ? 6u : 4u;
	const uint32_t ip_bytes = frame->bytes - h->network;

	if (!h->tcp || h->ip != ip || h->fragment || mss < VMBUS_FRAME_MSS_MIN ||
	    mss > UINT16_MAX || ip_bytes > UINT16_MAX || h->payload >= frame->bytes ||
	    h->payload > frame->piece[0].len)
		return false;
	if (ip == 4u) {
		fix_ipv4(head + h->network, ip_bytes);
		fix_tcp(head + h->transport, head + h->network + 12u, 8u,
			frame->bytes - h->transport);
	} else {
		put16(head + h->network + 4u, ip_bytes - IPV6_BYTES);
		fix_tcp(head + h->transport, head + h->network + 8u, 32u,
			frame->bytes - h->transport);
	}
	frame->csum_start = h->transport;
	frame->csum_offset = TCP_SUM;
	frame->flags |= VMBUS_FRAME_CSUM;
	if (!vmbus__net_few_segments(frame->bytes - h->payload, mss))
		return false;
	if (frame->bytes - h->payload <= mss)
		return true; /* one segment: the frame's own length counts */
	if (h->payload - h->network + mss > mtu)
		return false;
	frame->header_bytes = h->payload;
	frame->mss = (uint16_t)mss;
	frame->flags |= ip == 4u ? VMBUS_FRAME_TSO4 : VMBUS_FRAME_TSO6;
	return true;
}

/* Before headers can be looked at: a large frame has no length in its IPv4 header. */
static bool offload_ip(struct vmbus__net_chan *ch, struct vmbus_frame *frame, uint8_t *head,
		       const struct vmbus__ppis *ppis)
{
	const uint32_t csum = ppis->has & VMBUS__PPI_HAS_CSUM ? ppis->csum : 0;
	struct vmbus_frame_headers h;

	(void)vmbus_frame_look(head, (uint32_t)frame->piece[0].len, frame->bytes, &h);
	if (ppis->has & VMBUS__PPI_HAS_LSO && ppis->lso & VMBUS__PPI_LSO_MSS_MASK)
		return set_large(frame, head, &h, ppis->lso, ch->shape.mtu);
	if (ppis->has & VMBUS__PPI_HAS_LSO)
		return false;
	if (csum & VMBUS__PPI_CSUM_IP_HEADER && h.ip == 4 &&
	    h.network + (head[h.network] & 15u) * 4u <= frame->piece[0].len) {
		uint8_t *const ip = head + h.network;

		put16(ip + 10, 0);
		put16(ip + 10, fold(add_words(0, ip, (ip[0] & 15u) * 4u)) ^ 0xFFFFu);
		vmbus__net_count(ch, VMBUS__NET_SUMMED, 1);
	}
	if (csum & (VMBUS__PPI_CSUM_TCP | VMBUS__PPI_CSUM_UDP))
		return set_csum(frame, &h, csum);
	return true;
}

/* What the port cannot do; segments are made when it is sent. */
static bool do_rest(struct vmbus__net_chan *ch, struct vmbus_frame *frame, struct vmbus_iov *piece,
		    uint8_t **head)
{
	const uint32_t tso = frame->flags & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6);

	if (frame->flags & VMBUS_FRAME_VLAN & ~ch->takes)
		put_tag(frame, piece, head);
	if (!(frame->flags & VMBUS_FRAME_CSUM) || tso || ch->takes & VMBUS_FRAME_CSUM)
		return true;
	vmbus__net_count(ch, VMBUS__NET_SUMMED, 1);
	return vmbus_frame_checksum(frame, *head) == 0;
}

bool vmbus__tx_offload(struct vmbus__net_chan *ch, struct vmbus_frame *frame, uint8_t **head,
		       const struct vmbus__ppis *ppis)
{
	struct vmbus_iov *const piece = &ch->tx->piece[ch->tx->pieces];

	if (ppis->has & (VMBUS__PPI_HAS_CSUM | VMBUS__PPI_HAS_LSO) &&
	    !offload_ip(ch, frame, *head, ppis))
		return false;
	if (ppis->has & VMBUS__PPI_HAS_VLAN) {
		frame->vlan = (uint16_t)vmbus__ppi_tag_of_vlan(ppis->vlan);
		frame->flags |= VMBUS_FRAME_VLAN;
	}
	return do_rest(ch, frame, piece, head);
}
