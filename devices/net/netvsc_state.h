/* SPDX-License-Identifier: MIT */
/*
 * The network device's client from inside: what its files share.
 *
 * The guest's thread opens, shares and closes (netvsc.c); the primary's agrees with the host
 * (netvsc_init.c) and carries requests (netvsc_control.c); each channel's sends (netvsc_send.c) and
 * receives (netvsc_receive.c) on what is its own.
 */
#ifndef VMBUS_NETVSC_STATE_H
#define VMBUS_NETVSC_STATE_H

#include <vmbus/guest.h>
#include <vmbus/netvsc.h>

#include "base/atomic.h"
#include "base/contract.h"
#include "base/untrusted.h"
#include "netwire/wire.h"
#include "netwire/wire_oid.h"

#define VMBUS__NETVSC_NONE UINT32_MAX
#define VMBUS__NETVSC_RECEIVE 0u /* of buffer_p */
#define VMBUS__NETVSC_SEND 1u

/* state_p. */
enum vmbus__netvsc_state {
	VMBUS__NETVSC_BEGUN,
	VMBUS__NETVSC_DATA, /* limits are known, and frames may come */
	VMBUS__NETVSC_READY
};

/* made_p. */
#define VMBUS__NETVSC_TCP4 1u
#define VMBUS__NETVSC_UDP4 2u
#define VMBUS__NETVSC_TCP6 4u
#define VMBUS__NETVSC_UDP6 8u

#define VMBUS__NETVSC_FRAME_MIN 14u
#define VMBUS__NETVSC_TAG_BYTES 4u

/* Written by the primary's thread before the other channels' threads may use what it found. */
static inline uint32_t vmbus__netvsc_state(const struct vmbus_netvsc *nv)
{
	return vmbus__ld32_acquire(vmbus__as_a32c(&nv->state_p)); /* NETVSC.user */
}

/* netvsc_init.c: begin to agree, on a primary that is open, with both buffers shared.  Errors: as
   vmbus_vsc_request(). */
int vmbus__netvsc_begin(struct vmbus_netvsc *nv);
/* The answer to a message of NVSP. */
void vmbus__netvsc_answer(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt);
/* It cannot be: the channel ends, and the guest's thread tells ready(). */
void vmbus__netvsc_fail(struct vmbus_netvsc *nv, int err, const char *why);

/* netvsc_control.c: a request of RNDIS, whatever the state. */
void vmbus__netvsc_ask(struct vmbus_netvsc *nv, struct vmbus_netvsc_req *req);
/* The one that is oid 0 and begins RNDIS. */
#define VMBUS__NETVSC_INITIALIZE 0u
/* Its message was copied by the host, or refused, or (pkt NULL) the channel has ended. */
void vmbus__netvsc_copied(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt);
/* A message of RNDIS that lies in the receive buffer, bytes of it: checked against its end. */
void vmbus__netvsc_told(struct vmbus_netvsc *nv, const uint8_t *at, uint32_t bytes);
/* A message of NVSP on the primary. */
void vmbus__netvsc_said(struct vmbus_netvsc *nv, const struct vmbus_packet *pkt);
/* HALT, and the buffers back, without waiting. */
void vmbus__netvsc_halt(struct vmbus_netvsc *nv);
/* All requests end. */
void vmbus__netvsc_ask_end(struct vmbus_netvsc *nv);
/* One that found no room goes on. */
void vmbus__netvsc_ask_more(struct vmbus_netvsc *nv);
/* Into p: how to set the address; returns the bytes. */
#define VMBUS__NETVSC_MAC_BYTES (VMBUS__PARAM_BYTES + 28u + 24u)
uint32_t vmbus__netvsc_mac_put(uint8_t *p, const uint8_t mac[6]);

/* netvsc_send.c: sections, when they are known; a section is back; there is room in the ring. */
void vmbus__netvsc_sections(struct vmbus_netvsc_chan *chan, uint32_t first, uint32_t count);
void vmbus__netvsc_sent(struct vmbus_netvsc_chan *chan, uint32_t section,
			const struct vmbus_packet *pkt);
void vmbus__netvsc_send_more(struct vmbus_netvsc_chan *chan);

/* netvsc_info.c: what is said of a frame beside its bytes. */
struct vmbus__netvsc_info {
	uint8_t ppi[VMBUS__PPI_ALL_BYTES];
	uint32_t bytes; /* of ppi */
	bool sum;	/* the checksum is to be made here */
	bool cut;	/* TSO: words of the headers are to be as the host wants them */
	struct vmbus_frame_headers h;
};
/* head: the first bytes of the frame, private.  Errors: INVAL, RANGE. */
int vmbus__netvsc_info(const struct vmbus_netvsc *nv, const struct vmbus_frame *frame,
		       const uint8_t *head, uint32_t head_bytes, struct vmbus__netvsc_info *info);
/* The room that vmbus__netvsc_info() needs at most. */
static inline uint32_t vmbus__netvsc_info_room(uint32_t flags)
{
	const uint32_t sums =
		VMBUS_FRAME_CSUM | VMBUS_FRAME_IP_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6;

	return (flags & sums ? VMBUS__PPI_HEAD_BYTES + 4u : 0u) +
	       (flags & VMBUS_FRAME_VLAN ? VMBUS__PPI_HEAD_BYTES + 4u : 0u);
}
/* TSO: write the words at to, where the frame's first bytes are; head as above. */
void vmbus__netvsc_cut_head(const struct vmbus__netvsc_info *info, const uint8_t *head,
			    uint8_t *to);

/* netvsc_receive.c: lists of a channel that begins; packets that came; completions go on. */
void vmbus__netvsc_packets_init(struct vmbus_netvsc_chan *chan);
void vmbus__netvsc_packets(struct vmbus_netvsc_chan *chan, const struct vmbus_packet *pkt,
			   uint32_t n);
int vmbus__netvsc_complete_more(struct vmbus_netvsc_chan *chan);
/* own_thread or poll: dispatch, as far as what may come has room.  Returns as vmbus_vsc_dispatch();
   0 within a callback.  own_thread: after an error chan, and nv, are not touched any more. */
int vmbus__netvsc_pull(struct vmbus_netvsc_chan *chan);

#endif
