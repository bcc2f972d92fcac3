/* SPDX-License-Identifier: MIT */
/*
 * What the files of the way from the port to the guest share.  Receive sections are in chains: those
 * that are free, and for each packet the ones that the guest has until it completes the packet.
 */
#ifndef VMBUS_NET_RX_H
#define VMBUS_NET_RX_H

#include "net/vsp.h"

#define VMBUS__RX_RANGES 375u /* of a packet, [NET-DATA] */
#define VMBUS__RX_LENTS 4096u /* packets that the guest has at most */
#define VMBUS__RX_FRAME_AT                                                                         \
	132u		     /* where a port puts a frame: with the header before it aligned to 8 */
#define VMBUS__RX_SPANS 256u /* of the rooms of one call */
#define VMBUS__RX_TAG UINT32_MAX /* in an inbox: a frame for the guest */

struct vmbus__rx_chain {
	uint32_t first, last, count; /* first, last: when there is any */
};

/* A packet that the guest has. */
struct vmbus__rx_lent {
	struct vmbus__rx_chain chain;
	uint32_t generation; /* in its transaction id */
	uint32_t next;	     /* free ones */
	bool out, control;
};

struct vmbus__net_rx {
	struct vmbus__rx_chain free, control; /* control: the primary's */
	struct vmbus__rx_lent *lent;
	uint32_t lent_free,
		lent_fresh; /* NONE or a number; those that were never used begin at fresh */
	uint32_t
		generation; /* of the next packet; no two have the same, so that none counts twice */
	uint32_t ranges_max; /* of a packet in this ring */
	bool starves;	     /* frames wait for sections */
	bool stuck;	     /* the packet is whole, and the ring has no room for it */
	bool control_due;    /* there may be room for control messages again */
	bool control_waits;  /* one does, for a packet that comes back */
	bool again;	     /* sections came back: ask the port */
	bool inbox_waits;    /* frames of other channels wait for the port */
	bool poll_due;	     /* the port was not asked to the end: another callback is rung for */
	/* The packet that is being made. */
	struct vmbus__rx_chain chain;
	uint32_t ranges;
	uint32_t used;	     /* bytes of the chain's last section, if more frames may go there */
	uint32_t pack_bytes; /* of a section that may have several frames; 0: none may */
	uint32_t frames;     /* to be counted when it is sent */
	uint64_t bytes;
	uint8_t ext[8u + 8u * VMBUS__RX_RANGES];
	/* Steering. */
	uint8_t key_bytes[VMBUS_FRAME_KEY_BYTES];
	struct vmbus_frame_key key;
	bool keyed;
	/* Frames that are not used where they are. */
	uint8_t *scratch, *bounce; /* NULL until they are needed; VMBUS__RX_SCRATCH bytes */
	struct vmbus_frame frame[VMBUS_PORT_BURST];
	struct vmbus_iov piece[VMBUS_PORT_BURST];
	struct vmbus_frame_cut cut;
	struct vmbus_port_room room[VMBUS_PORT_BURST];
	struct vmbus_span span[VMBUS__RX_SPANS];
	uint32_t section[VMBUS__RX_RANGES]; /* of the rooms, in order */
	uint32_t taken;			    /* of them */
};

#define VMBUS__RX_SCRATCH (1u << 20)

/* rx.c: chains and packets. */
void vmbus__rx_chain_add(uint32_t *next, struct vmbus__rx_chain *chain, uint32_t section);
void vmbus__rx_show_lent(struct vmbus__net_chan *ch, uint64_t now);
uint32_t vmbus__rx_take(struct vmbus__net_chan *ch);
void vmbus__rx_give(struct vmbus__net_chan *ch, uint32_t section);
bool vmbus__rx_open(struct vmbus__net_chan *ch, uint32_t ranges);
void vmbus__rx_add(struct vmbus__net_chan *ch, uint32_t section);
void vmbus__rx_send(struct vmbus__net_chan *ch);
uint8_t *vmbus__rx_scratch(struct vmbus__net_chan *ch);
uint8_t *vmbus__rx_bounce(void);

/* A word as on the wire, in one store; the guest's memory or ours. */
static inline void vmbus__rx_word(uint8_t *to, uint64_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	__builtin_memcpy(to, &v, sizeof(v));
}

static inline void vmbus__rx_range(struct vmbus__net_rx *rx, uint32_t bytes, uint32_t offset)
{
	vmbus__rx_word(rx->ext + 8u + 8u * rx->ranges++, bytes | (uint64_t)offset << 32);
}

/* Whether none of the channel's sections is the guest's now, nor in the packet that is being made. */
static inline bool vmbus__rx_has_all(const struct vmbus__net_chan *ch)
{
	return ch->lent == 0 && ch->rx->chain.count == 0;
}

/* rx_frame.c */
bool vmbus__rx_wanted(const struct vmbus__net_chan *ch, const uint8_t *mac);
uint32_t vmbus__rx_csum_word(uint32_t flags, uint32_t csum_offset);
uint32_t vmbus__rx_frames(struct vmbus__net_chan *ch, const struct vmbus_frame *frame, uint32_t n);
bool vmbus__rx_is_large(const struct vmbus__net_shape *shape, uint32_t flags);
uint32_t vmbus__rx_frame_max(const struct vmbus__net_shape *shape);

/* rx_steer.c */
bool vmbus__rx_steers(const struct vmbus__net_chan *ch);
uint32_t vmbus__rx_steer(struct vmbus__net_chan *ch, const struct vmbus_frame *frame, uint32_t n);
void vmbus__rx_tell_hash(struct vmbus__net_chan *ch, const void *head, uint32_t head_bytes,
			 uint32_t bytes, struct vmbus__ppis *ppis);

/* rx_room.c */
void vmbus__rx_receive(struct vmbus__net_chan *ch);

#endif
