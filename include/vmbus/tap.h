/* SPDX-License-Identifier: MIT */
/*
 * Taps: what passes through a channel of a bus is copied into memory that somebody else reads, if
 * the embedder allows it.  A tap never waits for its reader; what finds no room is counted.
 *
 * Concepts: vmbus_capture(7).  Reading: <vmbus/capture.h>.
 */
#ifndef VMBUS_TAP_H
#define VMBUS_TAP_H

#include <vmbus/bus.h>
#include <vmbus/capture.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_TAP_BYTES_MIN 12288u     /* of a tap's memory */
#define VMBUS_TAP_BYTES_MAX 268435456u /* 256 MiB */

struct vmbus_tap_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_tap_opts) */
	void *mem;     /* aligned to 4096 bytes; may be shared with the reader; kept until done() */
	size_t bytes;  /* a multiple of 4096, VMBUS_TAP_BYTES_MIN to _MAX */
	uint32_t snap; /* [262144, or what fits] bytes kept of each packet */
	uint32_t reserved;
	/*
	 * The reader sleeps, and there are records: at most once for each batch of packets.  From
	 * the thread that dispatches the channel, at the end from that of the bus; it must not wait.
	 * May be NULL.
	 */
	void (*wake)(void *ctx);
	/* The memory is not used any more.  From the thread that dispatches the bus.  May be NULL. */
	void (*done)(void *ctx);
	void *ctx;
	uint64_t reserved2[2];
};

/*
 * Allow taps on the channels of a bus, or forbid them, as they are at first.
 *
 * Effect: forbidding ends the taps that there are.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API void vmbus_bus_allow_capture(struct vmbus_bus *bus, bool allow);

/*
 * The channel with a relid.
 *
 * Returns NULL when there is none.
 * Effect: none.
 * Threads: the one that dispatches the bus; the channel is valid as after its offer.
 */
VMBUS_API struct vmbus_chan *vmbus_chan_find(struct vmbus_bus *bus, uint32_t relid);

/*
 * Copy what passes through a channel from now on: packets from the child when they are delivered to
 * the device, packets to the child when they are published, and openings and closings.
 *
 * opts	  copied.
 *
 * Errors: PERM	   vmbus_bus_allow_capture() was not called
 *	   INVAL   a size is wrong, or the memory is not aligned
 *	   RANGE   bytes or snap is out of bounds
 *	   STATE   the channel has a tap
 *	   AGAIN   it has one that is ending: after done()
 *	   NOTSUP  the channel is FOREIGN: its packets do not come here
 *	   NOMEM   out of memory
 * Effect: none on error.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API int vmbus_chan_tap(struct vmbus_chan *chan, const struct vmbus_tap_opts *opts);

/*
 * End the tap of a channel; done() follows from a dispatch of the bus, when the channel's thread has
 * let go.  The end of the channel or of the bus ends it too.
 *
 * Effect: none when there is no tap.
 * Threads: the one that dispatches the bus; done() and wake() may not call this.
 */
VMBUS_API void vmbus_chan_untap(struct vmbus_chan *chan);

#ifdef __cplusplus
}
#endif
#endif
