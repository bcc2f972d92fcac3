/* SPDX-License-Identifier: MIT */
/*
 * A bounded queue of frames in this process's memory: any number of threads put, one takes.  It is a
 * ring of this library with a sending end for many threads, and an eventfd for the one that sleeps.
 *
 * Nobody ever waits for room here: who finds none drops, or keeps what it has and asks to be told.
 */
#ifndef VMBUS_PORT_INBOX_H
#define VMBUS_PORT_INBOX_H

#include <vmbus/port.h>

#define VMBUS__INBOX_BYTES_MIN 131072u	 /* so that the largest frame fits */
#define VMBUS__INBOX_BYTES_MAX 16777216u /* both powers of two */
#define VMBUS__INBOX_BURST VMBUS_PORT_BURST

#define VMBUS__INBOX_TURNS 16u /* peeks of one ready() */

struct vmbus__inbox; /* opaque */

/*
 * bytes  of the ring: a power of two, VMBUS__INBOX_BYTES_MIN to _MAX.
 *
 * Errors: RANGE, NOMEM, SYSTEM (errno tells)
 */
int vmbus__inbox_create(uint32_t bytes, struct vmbus__inbox **inbox);

/* NULL is allowed; no thread is in a call on it. */
void vmbus__inbox_destroy(struct vmbus__inbox *inbox);

/* Any thread: copy n frames, in order, with all that is in their structs but reserved words.  tag
   comes out beside them.  Returns how many found room, from the first on. */
uint32_t vmbus__inbox_put(struct vmbus__inbox *inbox, const struct vmbus_frame *frame, uint32_t n,
			  uint32_t tag);

/*
 * Any thread, after a put that found no room: be told of room.  who is 0 to 63 and means what the
 * caller and the taker agree on.  Then put again: if that finds no room either, wait.
 */
void vmbus__inbox_want(struct vmbus__inbox *inbox, uint32_t who);

/* Any thread: wake the taker up, for whatever reason. */
void vmbus__inbox_ring(struct vmbus__inbox *inbox);

/* The taker's: an eventfd, readable when there are frames, or somebody rang.  Owned by the inbox;
   vmbus__inbox_look() reads it. */
int vmbus__inbox_fd(const struct vmbus__inbox *inbox);

/*
 * The taker's: what waits.  frame and tag point to that many, each of one piece, which lie in memory
 * that only the taker uses until vmbus__inbox_done() of them; tag may be NULL.
 *
 * Returns how many, VMBUS__INBOX_BURST at most; 0: none now, and the descriptor becomes readable
 * when there are some.  Call it until it returns 0, or until what it returned is left there on
 * purpose: then the descriptor does not become readable for it, and the taker comes back by itself.
 */
uint32_t vmbus__inbox_look(struct vmbus__inbox *inbox, const struct vmbus_frame **frame,
			   const uint32_t **tag);

/* The taker's: the first n of what peek returned are done with. */
void vmbus__inbox_done(struct vmbus__inbox *inbox, uint32_t n);

/* The taker's: drop what waits now.  Returns how many. */
uint32_t vmbus__inbox_drain(struct vmbus__inbox *inbox);

/* The taker's, after vmbus__inbox_done(): bit w is set for each who that wanted room, once. */
uint64_t vmbus__inbox_wanted(struct vmbus__inbox *inbox);

#endif
