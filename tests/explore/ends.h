/* SPDX-License-Identifier: MIT */
/* One small ring and its ends, for the scenarios. */
#ifndef VMBUS_TESTS_EXPLORE_ENDS_H
#define VMBUS_TESTS_EXPLORE_ENDS_H

#include <vmbus/mtx.h>
#include <vmbus/ring.h>

#include "explore.h"

#define ENDS_SIZE 4096u
#define ENDS_PAYLOAD_MAX 2064u
#define BELL_TX 0u /* rung by the receiver: there is room */
#define BELL_RX 1u /* rung by a sender: there are packets */

/* What a scenario wants of both sides. */
struct ends_plan {
	uint32_t start;	  /* both indices */
	uint32_t packets; /* of each sending thread */
	uint32_t payload; /* bytes, a multiple of 8 and at least 8 */
	uint32_t per_put, per_get;
	uint32_t senders;	   /* threads before the receiver */
	bool tx_sleeps, rx_sleeps; /* else they look again when the other's index moves */
	bool in_place, reserves, consumes;
	bool small; /* packets of sender 1 have 8 bytes */
};

extern struct ends_plan plan;
extern struct vmbus_ring_ctl *ends_ctl;
extern struct vmbus_ring_mem ends_mem;
extern struct vmbus_ring_tx ends_tx;
extern struct vmbus_ring_rx ends_rx;
extern uint32_t ends_got;  /* packets that the receiver has checked */
extern uint32_t ends_want; /* until when ends_receive() goes on; ends_setup() says: all */

void ends_setup(void); /* memory, receiver and signals; takes plan */
struct vmbus_ring_opts ends_opts(uint32_t bell);
uint32_t ends_bytes(void); /* of the ring, for one packet of the plan */

/* The message of a sender with this number, from its own storage. */
struct vmbus_msg ends_msg(uint32_t sender, uint32_t number);

/* The receiver: until ends_want packets are there, those of each sender in order. */
void ends_receive(void);
void ends_check_faults(void);

#endif
