/* SPDX-License-Identifier: MIT */
/*
 * A sending end for any number of threads of one process: they claim room, fill it side by side
 * and publish in the order of their claims, and none waits for another.
 *
 * The claim is lock-free.  A thread that stops between claim and publication delays the
 * publication of what was claimed after it; one that dies there blocks the ring until it is set up
 * anew.  Concepts: vmbus_ring(7).  Nothing here needs a C library.  Members that end in _p are
 * private.
 */
#ifndef VMBUS_MTX_H
#define VMBUS_MTX_H

#include <vmbus/ring.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_RING_MTX_SLOTS_MIN 2u
#define VMBUS_RING_MTX_SLOTS_MAX 65536u

/* A claim that is finished and perhaps not yet published. */
struct vmbus_ring_mtx_slot {
	uint64_t done_p;    /* shared: end index, and number of the claim plus 1 */
	uint64_t packets_p; /* shared: packets in it */
};

/*
 * The sending end for many threads.  Words that threads share lie on lines of their own; the
 * storage must be aligned to 64 bytes.  Set up by vmbus_ring_mtx_init().
 */
struct vmbus_ring_mtx {
	struct vmbus_ring_mem mem_p;
	struct vmbus_ring_mtx_slot *slots_p;
	uint32_t slot_mask_p;
	uint32_t reserved1_p;
	vmbus_ring_signal_fn *signal_p;
	void *signal_ctx_p;
	uint64_t pad0_p[4];
	uint64_t head_p; /* shared: index and number of the next claim */
	uint64_t pad1_p[7];
	uint64_t out_p; /* shared: peer's read index as last seen, and a version */
	uint64_t pad2_p[7];
	uint64_t tail_p;   /* shared: index and number published up to */
	uint32_t turn_p;   /* shared: 1 while a thread publishes */
	uint32_t broken_p; /* shared: 1 while a fault is recorded, 2 after that */
	uint64_t pad3_p[6];
	uint64_t full_p; /* shared counter */
	uint32_t armed_p;
	uint32_t reserved2_p;
	struct vmbus_ring_stats stats_p; /* of who has the turn */
	struct vmbus_fault fault_p;
	uint64_t reserved_p[4];
};

/*
 * Set up the sending end for many threads.
 *
 * mtx	  caller's storage, aligned to 64 bytes.
 * mem	  copied.
 * opts	  signal and its context, or NULL; any thread may call it.  No resume and no note.
 * slots  caller's storage for unfinished and unpublished claims; kept.
 * count  slots: a power of two, 2 to 65,536, at least as many as there are threads.  A call that
 *	  finds none free says FULL.
 *
 * Errors: INVAL  mem or opts was not set up or asks for what is not there, a pointer is missing or
 *		  not aligned
 *	   RANGE  count is no power of two or out of bounds
 *	   PEER	  an index in the control page is impossible; the ring is broken
 * Effect: as vmbus_ring_tx_init().
 * Threads: one, before all others.
 * Source: [RING-INIT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_mtx_init(struct vmbus_ring_mtx *mtx, const struct vmbus_ring_mem *mem,
				  const struct vmbus_ring_opts *opts,
				  struct vmbus_ring_mtx_slot *slots, uint32_t count);

/*
 * Send packets from any thread; those of one call lie together and in order.
 *
 * Arguments, return values: as vmbus_ring_tx_put().
 * Errors: FULL	  no room, or no slot, for the first now
 *	   RANGE  the first is larger than vmbus_ring_max_send()
 *	   INVAL  the first has a type, flag or header that does not exist
 *	   PEER	  the peer published an impossible read index; the ring is broken
 *	   FAULT  the ring was broken earlier
 * Effect: the packets are the peer's when this call returns, or as soon as all claims made before
 *	  are finished and the thread that publishes has come to them.  May publish packets of
 *	  other threads, and may call signal, once for each publication.
 * Threads: any.
 * Source: [RING-SEND], [RING-SIGNAL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_mtx_put(struct vmbus_ring_mtx *mtx, const struct vmbus_msg *msg,
				 uint32_t n);

/*
 * As vmbus_ring_tx_arm() and vmbus_ring_tx_disarm(): one sleeper for the whole ring.  Threads that
 * all want to sleep take a lock of their own around arm, sleep and disarm.
 *
 * Arm also says READY while claims of other threads are unpublished, since their publication
 * brings no signal to us: try again.
 *
 * Errors: RANGE  need is out of bounds or no multiple of 8
 *	   PEER	  the peer published an impossible read index; the ring is broken
 *	   FAULT  the ring was broken earlier
 * Effect: arm sets the pending size, disarm clears it.
 * Threads: one at a time for these two; others may put meanwhile.
 * Source: [RING-PENDING] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_mtx_arm(struct vmbus_ring_mtx *mtx, uint32_t need);
VMBUS_API void vmbus_ring_mtx_disarm(struct vmbus_ring_mtx *mtx);

/*
 * The counters and the fault of the ring, copied.  While other threads put, counters may be those
 * of a moment ago, each one a value that it had.
 *
 * fault  field VMBUS_FAULT_NONE when sound.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API void vmbus_ring_mtx_stats(const struct vmbus_ring_mtx *mtx,
				    struct vmbus_ring_stats *stats);
VMBUS_API void vmbus_ring_mtx_fault(const struct vmbus_ring_mtx *mtx, struct vmbus_fault *fault);

#ifdef __cplusplus
}
#endif
#endif
