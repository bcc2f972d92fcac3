/* SPDX-License-Identifier: MIT */
/*
 * A look at a ring from outside: for people, and for tools that tell them what is stuck.
 */
#ifndef VMBUS_LOOK_H
#define VMBUS_LOOK_H

#include <vmbus/ring.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The words of a control page, each loaded once; those of the peer's are its claims. */
struct vmbus_ring_words {
	uint32_t size;	       /* data bytes, from mem */
	uint32_t write_index;  /* the sender's */
	uint32_t read_index;   /* the receiver's */
	uint32_t mask;	       /* the receiver's: not 0, it wants no signals */
	uint32_t pending_send; /* the sender's: not 0, it waits until so much is free */
	uint32_t features;     /* the sender's */
	uint32_t used;	       /* bytes from read index on to write index */
	uint32_t reserved;
};

/*
 * Look at a ring, from either side or none: for people, and for tools that tell them what is stuck.
 *
 * mem	  one that was set up.
 * words  what was seen; the words were not seen at one moment.
 *
 * Errors: STATE  mem was not set up; words is zeroed
 *	   PEER	  an index cannot be; used is 0, the rest is as seen
 * Effect: none.
 * Threads: any; the ends may be in use.
 * Source: [RING-CTL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_look(const struct vmbus_ring_mem *mem, struct vmbus_ring_words *words);

#ifdef __cplusplus
}
#endif
#endif
