/* SPDX-License-Identifier: MIT */
/*
 * Channels whose rings another process serves: devices with VMBUS_VSP_FOREIGN.  For who passes them
 * on, and for backends.
 *
 * Concepts: vmbus_vsp(7), vmbus_backend(7); what stands on it: vmbus_provider(7).
 */
#ifndef VMBUS_FOREIGN_H
#define VMBUS_FOREIGN_H

#include <vmbus/backend.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_bus;
struct vmbus_chan;

/* Where the rings of a FOREIGN channel are, and how child and provider signal. */
struct vmbus_chan_rings {
	const uint64_t *frames; /* page numbers of the child's memory; first the ring from it */
	uint32_t pages;
	uint32_t down_page; /* where the ring to the child begins */
	uint32_t gpadl;	    /* its id */
	uint32_t conn_id;   /* that the child signals */
	uint32_t target_vp; /* VMBUS_VP_NONE: the child wants no signals */
	uint32_t target_sint;
	uint32_t event_flag;
	uint32_t reserved;
};

/*
 * The rings of a FOREIGN channel.  What their server writes, there and elsewhere in the child's memory,
 * is in no dirty bitmap; the bus marks all pages of the rings when the channel is closed.
 *
 * rings  on success, what they are; frames is valid until close() is done.
 *
 * Errors: STATE  it is not open and not opening
 *	   INVAL  it is not FOREIGN
 * Effect: none.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API int vmbus_chan_rings(const struct vmbus_chan *chan, struct vmbus_chan_rings *rings);

/*
 * Have the child's signals for a FOREIGN channel written to an eventfd, by the backend's bind().
 *
 * Signals that come by the bus all the same, because the backend cannot bind or the child was
 * quicker, make the bus call signalled(), or, without one, write fd.  A write blocks if another holder
 * of the descriptor wants it to, so have signalled() where one of them is not trusted.
 *
 * fd  of the caller's, kept until the next call or until close() is done; -1: none.
 *
 * Errors: STATE  it is not open and not opening
 *	   INVAL  it is not FOREIGN, or fd is below -1
 * Effect: none on error.  With a descriptor the next dispatch calls signalled(), or writes fd, once for
 * signals that came before.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API int vmbus_chan_bind(struct vmbus_chan *chan, int fd);

/*
 * Signal the child of a FOREIGN channel, for a provider that cannot do so itself.
 *
 * Effect: its event flag is raised.  None when it is not open and not opening, or not FOREIGN.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API void vmbus_chan_signal(struct vmbus_chan *chan);

/*
 * gpadl() said AGAIN: now who serves the channel knows the page list, or will not need it.  Or
 * gpadl_gone() said AGAIN: now nobody uses it.
 *
 * Effect: the child hears of it.  None for a list that is not waited for.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API void vmbus_chan_gpadl_done(struct vmbus_chan *chan, uint32_t gpadl);

/*
 * What the backend's wake() said of a VP has changed.  From the backend.
 *
 * vp  which; VMBUS_VP_NONE: all.
 *
 * Effect: modified() of FOREIGN channels, from the next dispatch.
 * Threads: any.  Never blocks and takes no lock.
 */
VMBUS_API void vmbus_bus_wake_changed(struct vmbus_bus *bus, uint32_t vp);

/*
 * Ask the backend how another process signals a FOREIGN channel.
 *
 * Errors: NOTSUP  the backend cannot, or not now: call vmbus_chan_signal() for each
 *	   STATE   it is not open and not opening, or wants no signals
 * Effect: none.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API int vmbus_chan_wake(struct vmbus_chan *chan, struct vmbus_wake *wake);

/*
 * For who serves a channel that the child has open since another process served it: the next opening
 * goes on from the journal of vmbus_chan_set_journal(), or fails, also where that tells of a closed
 * channel.
 *
 * Errors: STATE  the channel is not closed, or has no journal
 * Effect: on one opening, and none on error.
 * Threads: the one that dispatches the bus; the channel is not dispatched meanwhile.
 */
VMBUS_API int vmbus_chan_must_resume(struct vmbus_chan *chan);

#ifdef __cplusplus
}
#endif
#endif
