/* SPDX-License-Identifier: MIT */
/*
 * What the files of the way from the guest to the port share.  A packet waits in a queue until the port
 * has taken all of its frames; frames are made of its bytes a burst at a time, and made anew for those
 * that the port did not take, so nothing of the guest's memory is believed for longer than a burst.
 */
#ifndef VMBUS_NET_TX_H
#define VMBUS_NET_TX_H

#include "net/vsp.h"

#define VMBUS__TX_PRIVATE (64u << 10) /* bytes of copies in a burst */
#define VMBUS__TX_PIECES 1024u	      /* of frames in a burst */
#define VMBUS__TX_LIST 40u  /* pieces of pages of a packet, after those that follow each other */
#define VMBUS__TX_SLACK 16u /* before a frame's head, for a VLAN tag */
#define VMBUS__TX_WORK_FRAME 512u /* that a frame counts besides its bytes, see tx.c */

/* Memory for the pages of a packet that is not all in one piece. */
struct vmbus__tx_room {
	struct vmbus__tx_room *next;
	struct vmbus_sgl sgl;
	struct vmbus_piece piece[VMBUS__TX_LIST];
	struct vmbus_iov iov[]; /* a section's pieces, and those of piece */
};

/* Where in a packet's bytes. */
struct vmbus__tx_at {
	uint32_t offset;
	uint32_t piece, into; /* the same, in its pieces */
};

struct vmbus__tx_packet {
	uint64_t id;
	const struct vmbus_iov *iov; /* pieces: the guest's memory */
	struct vmbus_iov one;
	struct vmbus__tx_room *room;
	uint8_t *copy; /* NULL, or what follows begin.offset, private, in this burst */
	uint32_t copied;
	uint32_t iovs, bytes;
	struct vmbus__tx_at at; /* the next message */
	uint32_t messages;
	uint32_t dropped; /* frames that begin before this offset, and were dropped, are counted */
	uint32_t summed;  /* sums of frames that begin before this one are */
	uint16_t out;	  /* frames in the burst */
	bool complete;	  /* it wants a completion */
	bool all;	  /* every message was looked at */
	bool bad;	  /* and one of them made no sense */
};

/* A frame of the burst that is being made, beside its struct vmbus_frame. */
struct vmbus__tx_made {
	struct vmbus__tx_packet *packet;
	struct vmbus__tx_at before;
	uint32_t messages; /* of the packet, before it */
};

struct vmbus__net_tx {
	uint32_t first, count; /* of the queue: packets that wait */
	uint32_t next;	       /* of them, how many have no message left to look at */
	uint32_t mask;
	struct vmbus__tx_packet *queue;
	struct vmbus__tx_room *free;
	uint8_t *rooms; /* fresh ones behind each other */
	size_t room_bytes, rooms_bytes;
	uint32_t fresh, iovs_max;
	bool waits;   /* the port has no room */
	bool more;    /* the rest is another callback's: this one has done enough */
	bool cutting; /* the last frame of the burst is cut, and not done */
	bool segment_waits;
	/* The burst. */
	uint32_t n, pieces;
	uint32_t used; /* of private_bytes */
	struct vmbus_frame frame[VMBUS_PORT_BURST];
	struct vmbus__tx_made made[VMBUS_PORT_BURST];
	struct vmbus_iov piece[VMBUS__TX_PIECES];
	struct vmbus_frame_cut cut;
	struct vmbus_frame segment;
	uint8_t *private_bytes;
};

/* tx_frame.c: the next frame of a packet joins the burst.  Returns what became of it. */
enum vmbus__tx_got {
	VMBUS__TX_FRAME,   /* it is there */
	VMBUS__TX_NOTHING, /* the message was passed over */
	VMBUS__TX_NO_ROOM, /* the burst is full */
	VMBUS__TX_BAD	   /* it makes no sense, nor does what follows */
};
/* Those of a packet in one piece, up to the first that is not of the commonest kind. */
void vmbus__tx_plain(struct vmbus__net_chan *ch, struct vmbus__tx_packet *p);
enum vmbus__tx_got vmbus__tx_next(struct vmbus__net_chan *ch, struct vmbus__tx_packet *p);
void vmbus__tx_copy_packet(struct vmbus__net_tx *tx, struct vmbus__tx_packet *p);
void vmbus__tx_read(const struct vmbus__tx_packet *p, struct vmbus__tx_at at, void *to,
		    uint32_t len);
void vmbus__tx_skip(const struct vmbus__tx_packet *p, struct vmbus__tx_at *at, uint32_t len);

/* tx_offload.c: what the guest wants done with a frame.  ppis: of it.  Returns false when it cannot be:
   it is dropped. */
bool vmbus__tx_offload(struct vmbus__net_chan *ch, struct vmbus_frame *frame, uint8_t **head,
		       const struct vmbus__ppis *ppis);

#endif
