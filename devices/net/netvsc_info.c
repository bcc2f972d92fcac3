/* SPDX-License-Identifier: MIT */
/*
 * What the network device's client tells the host of a frame that it sends: a tag, a checksum or
 * segments that are to be made.  [NET-PPI]  It looks at private copies of headers only.
 */
#include "netvsc/netvsc_state.h"

#define TYPE_AT 12u
#define TYPE_IPV4 0x0800u
#define TYPE_IPV6 0x86DDu
#define TCP_SUM 16u /* offset of the checksum in the header */
#define UDP_SUM 6u
#define TCP 6u
#define IPV4_BYTES 20u
#define IPV6_BYTES 40u

static uint32_t get_be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

/* 4, 6, or 0, of a frame whose transport header begins at start. */
static uint32_t ip_of(const struct vmbus_frame *frame, const uint8_t *head, uint32_t bytes)
{
	struct vmbus_frame_headers h;

	switch (get_be16(head + TYPE_AT)) {
	case TYPE_IPV4:
		return 4;
	case TYPE_IPV6:
		return 6;
	default: /* perhaps behind a tag */
		(void)vmbus_frame_look(head, bytes, frame->bytes, &h);
		return h.ip;
	}
}

/* The checksum: the host's, if it makes such ones, or ours. */
static void info_sum(const struct vmbus_netvsc *nv, const struct vmbus_frame *frame, uint32_t ip,
		     struct vmbus__ppis *ppis, struct vmbus__netvsc_info *info)
{
	const bool tcp = frame->csum_offset == TCP_SUM;
	const uint32_t kind = ip == 4 ? (tcp ? VMBUS__NETVSC_TCP4 : VMBUS__NETVSC_UDP4)
				      : (tcp ? VMBUS__NETVSC_TCP6 : VMBUS__NETVSC_UDP6);

	if (!ip || (!tcp && frame->csum_offset != UDP_SUM) || !(nv->made_p & kind) ||
	    frame->csum_start > VMBUS__PPI_CSUM_START_MASK || frame->flags & VMBUS_FRAME_IP_CSUM) {
		info->sum = true;
		return;
	}
	ppis->has |= VMBUS__PPI_HAS_CSUM;
	ppis->csum = (ip == 4 ? VMBUS__PPI_CSUM_IPV4 : VMBUS__PPI_CSUM_IPV6) |
		     (tcp ? VMBUS__PPI_CSUM_TCP : VMBUS__PPI_CSUM_UDP) |
		     (uint32_t)frame->csum_start << VMBUS__PPI_CSUM_START_SHIFT;
}

/* Segments: the headers are believed, not the frame's fields. */
static int info_cut(const struct vmbus_frame *frame, const uint8_t *head, uint32_t bytes,
		    struct vmbus__ppis *ppis, struct vmbus__netvsc_info *info)
{
	const uint32_t ip = frame->flags & VMBUS_FRAME_TSO4 ? 4u : 6u;

	(void)vmbus_frame_look(head, bytes, frame->bytes, &info->h);
	if (!info->h.tcp || info->h.ip != ip || frame->mss == 0 ||
	    info->h.transport > VMBUS__PPI_LSO_START_MASK)
		return VMBUS_E_RANGE;
	info->cut = true;
	ppis->has |= VMBUS__PPI_HAS_LSO;
	ppis->lso = frame->mss | (uint32_t)info->h.transport << VMBUS__PPI_LSO_START_SHIFT |
		    VMBUS__PPI_LSO_V2 | (ip == 6 ? VMBUS__PPI_LSO_IPV6 : 0);
	return 0;
}

int vmbus__netvsc_info(const struct vmbus_netvsc *nv, const struct vmbus_frame *frame,
		       const uint8_t *head, uint32_t head_bytes, struct vmbus__netvsc_info *info)
{
	const uint32_t sums = VMBUS_FRAME_CSUM | VMBUS_FRAME_IP_CSUM;
	const uint32_t cut = frame->flags & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6);
	struct vmbus__ppis ppis = { .has = 0 };
	int err = 0;

	info->sum = false;
	info->cut = false;
	if (frame->flags & ~nv->tx || cut == (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6))
		return VMBUS_E_INVAL;
	if (head_bytes < VMBUS__NETVSC_FRAME_MIN)
		return VMBUS_E_RANGE;
	if (frame->flags & VMBUS_FRAME_VLAN) {
		ppis.has = VMBUS__PPI_HAS_VLAN;
		ppis.vlan = vmbus__ppi_vlan_of_tag(frame->vlan);
	}
	if (cut)
		err = info_cut(frame, head, head_bytes, &ppis, info);
	else if (frame->flags & sums)
		info_sum(nv, frame, ip_of(frame, head, head_bytes), &ppis, info);
	info->bytes = vmbus__ppi_put(info->ppi, &ppis);
	return err;
}

/* The sum of bytes of an even number, in words of 16 bits; at most 40 bytes. */
static uint32_t sum_of(const uint8_t *p, uint32_t bytes)
{
	uint32_t sum = 0;

	for (; bytes; bytes -= 2, p += 2)
		sum += get_be16(p);
	return sum;
}

static void put_be16(uint8_t *p, uint32_t v)
{
	const uint8_t bytes[2] = { (uint8_t)(v >> 8 & 255u), (uint8_t)(v & 255u) };

	vmbus__peer_write(p, bytes, 2);
}

/* [NET-PPI]: no length in the IP header and in the pseudo header, no sum of the IP header. */
void vmbus__netvsc_cut_head(const struct vmbus__netvsc_info *info, const uint8_t *head, uint8_t *to)
{
	const uint32_t ip = info->h.network;
	uint32_t sum = TCP;

	if (info->h.ip == 4) {
		sum += sum_of(head + ip + IPV4_BYTES - 8, 8);
		put_be16(to + ip + 2, 0);
		put_be16(to + ip + 10, 0);
	} else {
		sum += sum_of(head + ip + IPV6_BYTES - 32, 32);
		put_be16(to + ip + 4, 0);
	}
	sum = (sum & 0xFFFFu) + (sum >> 16);
	sum = (sum & 0xFFFFu) + (sum >> 16);
	put_be16(to + info->h.transport + TCP_SUM, sum);
}
