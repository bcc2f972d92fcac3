/* SPDX-License-Identifier: MIT */
/*
 * The downward seam: what a backend must supply so that a bus (the parent's side) or a guest (the
 * child's side) runs over it.  A backend moves bytes and wake-ups and knows no protocol.
 *
 * Concepts, and how to write one: vmbus_backend(7).
 */
#ifndef VMBUS_BACKEND_H
#define VMBUS_BACKEND_H

#include <vmbus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * How to signal a child: set the flag, bit n of 2048 little-endian, at gpa + n / 8 by an atomic OR that
 * releases; if it was clear, write 1 to fd.  Nothing else is to be looked at.  Who takes over from a
 * process that may have died between the two writes fd whatever the flag was.  The page is the child's
 * memory, and no dirty bitmap is marked for what is written there.
 */
struct vmbus_wake {
	uint64_t gpa; /* of the 256 bytes of flags, in the child's memory */
	int fd;	      /* the backend's; valid as long as the rest */
	uint32_t reserved;
};

/*
 * The parent's side, of one child.  The table is kept by the bus; ctx is backend_ctx of
 * struct vmbus_bus_opts.  No function may block, wait for the child, or call the bus back but for
 * those that any thread may call, vmbus_bus_post_message(), _signal_event(), _slot_free() and
 * _wake_changed().
 */
struct vmbus_backend {
	size_t struct_bytes; /* sizeof(struct vmbus_backend) */

	/*
	 * Put a message into the slot of (vp, sint), as vmbus_synic_post() does, and interrupt the
	 * VP.
	 *
	 * type	    SynIC message type, not 0.
	 * payload  borrowed; bytes of them, at most 240.
	 *
	 * Returns 0.
	 * Errors: AGAIN  the slot is taken, or the VP takes no messages now: vmbus_bus_slot_free()
	 *		  follows when that may have changed, and the bus gives the message again
	 *	   other  the message is dropped and a line logged
	 * Threads: the one that dispatches the bus.
	 */
	int (*post)(void *ctx, uint32_t vp, uint32_t sint, uint32_t type, const void *payload,
		    uint32_t bytes);

	/*
	 * Set an event flag of (vp, sint), as vmbus_synic_raise() does, and interrupt the VP if it
	 * was clear.  The child sees what the caller wrote before.  The return value is not looked
	 * at: an event that cannot be delivered now is dropped, and the child looks for itself
	 * after it has unmasked.
	 *
	 * Threads: any, several at once.
	 */
	int (*raise)(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag);

	/*
	 * From now on a signal of flag 0 on conn_id is a write of 1 to eventfd fd, without passing
	 * through the bus.  fd is the bus's and stays open until unbind(); it is non-blocking.
	 * Signals that are under way may still come by vmbus_bus_signal_event().
	 *
	 * NULL, or any error: the backend cannot, and calls vmbus_bus_signal_event() for each.
	 * Threads: the one that dispatches the bus.
	 */
	int (*bind)(void *ctx, uint32_t conn_id, int fd);

	/*
	 * Undo it: no write to that eventfd begins after this returns, but for those that a child
	 * makes which was handed it.  Does not fail.  NULL only if bind is.
	 *
	 * Threads: as bind.
	 */
	int (*unbind)(void *ctx, uint32_t conn_id);

	/* Reference time: units of 100 ns that never go back.  May be NULL.  Threads: any. */
	uint64_t (*time)(void *ctx);

	/*
	 * How another process raises event flags of (vp, sint) by itself: where their page is, and
	 * an eventfd that interrupts the VP, of which nobody here depends on a write being quick.  When
	 * either changes, or becomes possible or impossible, vmbus_bus_wake_changed() follows.  A
	 * flag that was set in the meantime may be lost with its page, so who is told of a change
	 * signals every channel of the VP once the new way.  NULL, or any error: another process
	 * cannot now, and has the bus do it.
	 *
	 * Threads: the one that dispatches the bus.
	 */
	int (*wake)(void *ctx, uint32_t vp, uint32_t sint, struct vmbus_wake *wake);

	/*
	 * How many VPs there are now: messages and events for others are not given to the backend.
	 * NULL: as many as anybody names.  Threads: any.
	 */
	uint32_t (*vps)(void *ctx);
};

/*
 * The child's side.  The table is kept by the guest; ctx is backend_ctx of struct vmbus_guest_opts.
 * mirror, unmirror, idle, wake and keeps may be NULL.  But for idle() no function may block.
 */
struct vmbus_guest_backend {
	size_t struct_bytes; /* sizeof(struct vmbus_guest_backend) */

	/*
	 * Post a message: the hypercall of vmbus_hc_encode().
	 *
	 * type	    SynIC message type.
	 * payload  borrowed; bytes of them, at most 240.
	 *
	 * Returns the status of the hypercall, 0 or positive: after NO_MEMORY and NO_BUFFERS the
	 * guest makes the call again later; after CONNECTION_ID, unless it makes contact, and after
	 * an error but AGAIN it does so 100 times, over some seconds; after others it does not.
	 * Errors: AGAIN  the call is under way: the same message is given again until the answer is
	 *		  there; give it then, and do not post it twice
	 * Threads: the one that dispatches the guest.
	 */
	int (*post)(void *ctx, uint32_t conn_id, uint32_t type, const void *payload,
		    uint32_t bytes);

	/*
	 * Take the next message of our SINT, as vmbus_synic_take() does, and see to EOM.
	 *
	 * payload  240 bytes; a private copy.
	 * bytes    how many of them the message has.
	 *
	 * Returns 1 with a message; anything else: there is none.
	 * Threads: the one that dispatches the guest.
	 */
	int (*receive)(void *ctx, uint32_t *type, void *payload, uint32_t *bytes);

	/*
	 * Take 64 event flags of our SINT, 64 * word and up, as vmbus_synic_take_flags() does.
	 * Threads: any.
	 */
	uint64_t (*flags)(void *ctx, uint32_t word);

	/*
	 * Signal event.  The parent sees what the caller wrote before.
	 *
	 * Returns 0, or an error: it could not be signalled now, and the guest tries again soon.
	 * Threads: any, several at once.
	 */
	int (*signal)(void *ctx, uint32_t conn_id, uint32_t flag);

	/*
	 * Memory.
	 *
	 * bytes   whole pages of VMBUS_PAGE_BYTES.
	 * shared  the parent can reach it at the page numbers that pfn() tells; these need not
	 *	   follow each other.  Else it is private.
	 *
	 * Returns zeroed memory, page-aligned, one piece in our address space; NULL: none left.
	 * Threads: the one that dispatches the guest.
	 */
	void *(*alloc)(void *ctx, size_t bytes, bool shared);

	/* Give it back: p, bytes and shared as in alloc().  Threads: as alloc. */
	void (*release)(void *ctx, void *p, size_t bytes, bool shared);

	/* The guest physical page number of a shared page.  Threads: any. */
	uint64_t (*pfn)(void *ctx, const void *page);

	/*
	 * Map size bytes at p, shared pages, twice, one after the other.  NULL, or a return of
	 * NULL, means that rings get plain windows; see vmbus_ring(7).
	 * Threads: as alloc.
	 */
	void *(*mirror)(void *ctx, void *p, size_t size);

	/* Undo it; p stays.  NULL only if mirror is.  Threads: as alloc. */
	void (*unmirror)(void *ctx, void *window, size_t size);

	/*
	 * Sleep until a message, a flag or an answer may have come, for timeout_ns at most; one that
	 * came since the last look at them must count.  Spurious wake-ups are fine.  Returns 0.
	 * NULL: the calls that wait say NOTSUP, and the embedder sleeps by itself.
	 * Threads: the one that waits; several may wait at once.
	 */
	int (*idle)(void *ctx, uint64_t timeout_ns);

	/* Reference time: units of 100 ns that never go back.  Threads: any. */
	uint64_t (*time)(void *ctx);

	/*
	 * NULL, or: something is due that was asked for outside of dispatch, so whoever sleeps until
	 * there is work is to wake up.  It must not call the guest.  Threads: any, several at once.
	 */
	void (*wake)(void *ctx);

	/*
	 * NULL, or whether the guest is the backend's: vmbus_guest_destroy() is ignored while this
	 * says so.  Threads: as alloc.
	 */
	bool (*keeps)(void *ctx);

	/* vmbus_guest_destroy() disconnects in order for at most so many nanoseconds, if there is
	   idle(); 0: not at all. */
	uint64_t leave_ns;
};

#ifdef __cplusplus
}
#endif
#endif
