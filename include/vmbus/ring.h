/* SPDX-License-Identifier: MIT */
/*
 * A ring carries packets one way through memory that two partitions share.  The sender holds a
 * vmbus_ring_tx (or, for many threads, a vmbus_ring_mtx), the receiver a vmbus_ring_rx; each keeps
 * its own cursors in private memory and believes nothing that the other side can write.
 *
 * Concepts, the table of orderings and a drawn packet: vmbus_ring(7).  Nothing here needs a C
 * library.  Members that end in _p are private.
 */
#ifndef VMBUS_RING_H
#define VMBUS_RING_H

#include <vmbus/base.h>
#include <vmbus/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_RING_SIZE_MIN 4096u	/* data bytes of a ring */
#define VMBUS_RING_SIZE_MAX 0x40000000u /* 1 GiB */

struct vmbus_ring_ctl; /* the control page: 4096 bytes that only the library touches */

/* One direction: where its control page and its data are.  Set up by vmbus_ring_mem_init(). */
struct vmbus_ring_mem {
	struct vmbus_ring_ctl *ctl_p;
	uint8_t *data_p;
	void *const *pages_p;
	const struct vmbus_dirty *dirty_p;
	uint32_t size_p;   /* data bytes */
	uint32_t linear_p; /* bytes from data_p that lie one behind the other */
	uint64_t reserved_p[3];
};

/* How the data pages appear in our address space. */
enum vmbus_ring_window {
	VMBUS_RING_PLAIN,    /* one after the other */
	VMBUS_RING_MIRRORED, /* twice, one after the other, so that no packet is split */
	VMBUS_RING_SCATTERED /* anywhere, an address for each */
};

/* Options of vmbus_ring_mem_init(); zero what you do not need. */
struct vmbus_ring_mem_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_ring_mem_opts) */
	enum vmbus_ring_window window;
	uint32_t size;			 /* data bytes: a multiple of 4096 */
	void *ctl;			 /* control page, aligned to 64 bytes; kept */
	void *data;			 /* PLAIN, MIRRORED: aligned to 8 bytes; kept */
	void *const *pages;		 /* SCATTERED: size / 4096 addresses; kept */
	const struct vmbus_dirty *dirty; /* NULL, or the marker of written pages; kept */
};

/* Tells the other side to look; called by the ring at most once a batch. */
typedef void vmbus_ring_signal_fn(void *ctx);
/* Told right before an index of ours is stored in the control page: what it is and will be. */
typedef void vmbus_ring_note_fn(void *ctx, uint32_t before, uint32_t after);

/* Counters; read by vmbus_ring_tx_stats() and its kin. */
struct vmbus_ring_stats {
	uint64_t packets;	     /* published, or consumed */
	uint64_t bytes;		     /* of the ring: headers, padding and trailers included */
	uint64_t batches;	     /* stores of our index */
	uint64_t signals;	     /* sent to the other side */
	uint64_t signals_suppressed; /* decided against: masked, or the other side was awake */
	uint64_t full;		     /* calls that found no room for their first packet */
	uint64_t sleeps;	     /* times that arm said SLEEP */
	uint64_t faults;	     /* 0 or 1 */
};

/* Answers of the arm calls. */
enum vmbus_ring_arm {
	VMBUS_RING_SLEEP = 0, /* nothing to do: the other side will signal; sleep now */
	VMBUS_RING_READY = 1  /* do not sleep: there is room, or there are packets */
};

/* The sending end, for one thread at a time.  Set up by vmbus_ring_tx_init(). */
struct vmbus_ring_tx {
	struct vmbus_ring_mem mem_p;
	uint32_t next_p;      /* where the next packet goes */
	uint32_t committed_p; /* what the peer may read up to */
	uint32_t room_p;      /* bytes free behind next_p, as last seen */
	uint32_t out_p;	      /* peer's read index, as last seen */
	uint32_t batch_p;     /* packets reserved and not committed */
	uint32_t armed_p;
	vmbus_ring_signal_fn *signal_p;
	void *signal_ctx_p;
	struct vmbus_ring_stats stats_p;
	struct vmbus_fault fault_p;
	vmbus_ring_note_fn *note_p;
	void *note_ctx_p;
	uint64_t reserved_p[2];
};

/* The receiving end, for one thread at a time.  Set up by vmbus_ring_rx_init(). */
struct vmbus_ring_rx {
	struct vmbus_ring_mem mem_p;
	uint32_t next_p;      /* first byte that the caller has not seen */
	uint32_t committed_p; /* what the peer may overwrite up to */
	uint32_t avail_p;     /* bytes of packets from next_p on, as last seen */
	uint32_t held_p;      /* bytes from committed_p to next_p */
	uint32_t lazy_p;      /* publish when this much is held */
	uint32_t left_p;      /* copied bytes not yet seen by the caller */
	uint32_t buf_bytes_p;
	uint32_t hint_p;  /* ring bytes of the last packet: how the next ones may be */
	uint32_t need_p;  /* buffer that the packet refused with RANGE needs */
	uint32_t pace_p;  /* pauses before the next look at the peer's index, if any */
	uint32_t pause_p; /* of these, still to do */
	uint32_t armed_p;
	const uint8_t *at_p; /* the first of them */
	uint8_t *buf_p;
	vmbus_ring_signal_fn *signal_p;
	void *signal_ctx_p;
	struct vmbus_ring_stats stats_p;
	struct vmbus_fault fault_p;
	vmbus_ring_note_fn *note_p;
	void *note_ctx_p;
	uint64_t reserved_p[2];
};

/* Options of the end's init calls; zero what you do not need. */
struct vmbus_ring_opts {
	size_t struct_bytes;	      /* sizeof(struct vmbus_ring_opts) */
	vmbus_ring_signal_fn *signal; /* NULL: the other side polls and is never signalled */
	void *signal_ctx;
	void *buf;	    /* receiver: private memory that packets are copied to; kept */
	uint32_t buf_bytes; /* its size: see VMBUS_RING_RX_BUF_MIN */
	/* Go on where another end stopped: our index in the control page must be `index`. */
	bool resume;
	uint8_t reserved[3];
	uint32_t index;
	uint32_t next;		  /* receiver: where to read on; what lies before it is done */
	vmbus_ring_note_fn *note; /* NULL: nobody wants to know */
	void *note_ctx;
};

#define VMBUS_RING_RX_BUF_MIN 4096u /* smallest buffer of a receiver */

/*
 * Limits of a ring of size data bytes: the largest packet that we send, min(size - 16, 524288) ring
 * bytes; the largest that we take from a peer, min(size - 8, 524288); and the buffer with which a
 * receiver can take each of those.
 *
 * Effect: none.
 * Threads: any.
 * Source: [RING-LIMIT] in vmbus_wire(7).
 */
VMBUS_API uint32_t vmbus_ring_max_send(uint32_t size);
VMBUS_API uint32_t vmbus_ring_max_accept(uint32_t size);
VMBUS_API uint32_t vmbus_ring_rx_buf_bytes(uint32_t size);

/*
 * Describe the memory of one direction.
 *
 * mem	  caller's storage.
 * opts	  where the memory is.  Pointers in it marked "kept" must outlive the ring.
 *
 * Errors: RANGE  size is below 4096, above 1 GiB or no multiple of 4096
 *	   INVAL  a pointer is missing or not aligned, or the window does not exist
 * Effect: none on the memory: a parent must not touch it before the channel opens.
 * Threads: any.
 * Source: [RING-CTL], [RING-SIZE] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_mem_init(struct vmbus_ring_mem *mem,
				  const struct vmbus_ring_mem_opts *opts);

/*
 * Make an empty ring: zero the indices, the mask and the pending size, set the feature bit.  The
 * child does it before it opens a channel, and nobody does it later.
 *
 * Effect: writes the control page of the ring.
 * Threads: while neither end is set up.
 * Source: [RING-INIT] in vmbus_wire(7).
 */
VMBUS_API void vmbus_ring_mem_clear(struct vmbus_ring_mem *mem);

/*
 * Set up the sending end on a ring whose indices are as the child left them: they are checked, and
 * kept, not reset.
 *
 * tx	  caller's storage.
 * mem	  copied.
 * opts	  signal and its context; NULL for none.
 *
 * Errors: INVAL  mem or opts was not set up
 *	   PEER	  an index is impossible, or not that of a resume; the ring is broken
 * Effect: sets the feature bit and clears the pending size in the control page.
 * Threads: one at a time per ring end, here and in all calls on it.
 * Source: [RING-INIT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_tx_init(struct vmbus_ring_tx *tx, const struct vmbus_ring_mem *mem,
				 const struct vmbus_ring_opts *opts);

/*
 * Send packets: copy them into the ring, publish them at once, decide about one signal.
 *
 * msg	  n messages; borrowed for the call.
 * n	  1 to 2^30; 0 sends nothing.
 *
 * Returns how many were sent: fewer than n when the ring is full or a message is wrong, and then
 * the next call tells the reason.
 * Errors: FULL	  no room for the first; arm, then wait
 *	   RANGE  the first is larger than vmbus_ring_max_send()
 *	   INVAL  the first has a type, flag or header that does not exist
 *	   STATE  packets are reserved and not committed
 *	   PEER	  the peer published an impossible read index; the ring is broken
 *	   FAULT  the ring was broken earlier
 * Effect: the packets are the peer's; may call signal, once.  None on error.
 * Threads: one at a time per ring.
 * Source: [RING-SEND], [RING-SIGNAL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_tx_put(struct vmbus_ring_tx *tx, const struct vmbus_msg *msg, uint32_t n);

/*
 * Claim room for one packet and lend its payload for filling in place.  Further reservations join
 * the batch; vmbus_ring_tx_commit() publishes all of them, vmbus_ring_tx_abort() none.
 *
 * msg	  type, flags, id, header and len of the packet; data and more must be 0.
 * span	  where the payload goes: writable pieces whose lengths sum to len.  Their memory is the
 *	  peer's too, so do not read it back.  Valid until commit or abort.
 * spans  room in span: 1 is enough for a mirrored window, 2 for a plain one, len / 4096 + 2 for
 *	  a scattered one.
 *
 * Returns the pieces used, 0 for an empty payload.
 * Errors: FULL	  no room now; commit what is reserved, or arm, then wait
 *	   RANGE  larger than vmbus_ring_max_send(), or more pieces than spans
 *	   INVAL  a type, flag, header or field that cannot be
 *	   PEER	  the peer published an impossible read index; the ring is broken
 *	   FAULT  the ring was broken earlier
 * Effect: invisible to the peer until the commit.  None on error.
 * Threads: one at a time per ring.
 * Source: [RING-SEND] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_tx_reserve(struct vmbus_ring_tx *tx, const struct vmbus_msg *msg,
				    struct vmbus_span *span, uint32_t spans);

/*
 * Publish all reserved packets and decide about one signal.
 *
 * Returns how many packets were published, 0 when none was reserved.
 * Errors: FAULT  the ring was broken earlier
 * Effect: the packets are the peer's; may call signal, once.
 * Threads: one at a time per ring.
 * Source: [RING-SEND], [RING-SIGNAL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_tx_commit(struct vmbus_ring_tx *tx);

/*
 * Drop all reserved packets.
 *
 * Effect: their room is free again; the peer never learns of them.
 * Threads: one at a time per ring.
 */
VMBUS_API void vmbus_ring_tx_abort(struct vmbus_ring_tx *tx);

/*
 * Ask the peer to signal once need bytes are free, then look again.
 *
 * need	  ring bytes, as vmbus_wire_ring_bytes() counts them, a multiple of 8, 8 to
 *	  vmbus_ring_max_send().
 *
 * Returns VMBUS_RING_SLEEP when it is safe to sleep, VMBUS_RING_READY when there is room already
 * (then nothing is asked).
 * Errors: RANGE  need is out of bounds or no multiple of 8
 *	   STATE  packets are reserved and not committed
 *	   PEER	  the peer published an impossible read index; the ring is broken
 *	   FAULT  the ring was broken earlier
 * Effect: sets the pending size in the control page until vmbus_ring_tx_disarm().
 * Threads: one at a time per ring.
 * Source: [RING-PENDING] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_tx_arm(struct vmbus_ring_tx *tx, uint32_t need);

/*
 * Take back what vmbus_ring_tx_arm() asked.  Call it after waking.
 *
 * Effect: clears the pending size.
 * Threads: one at a time per ring.
 * Source: [RING-PENDING] in vmbus_wire(7).
 */
VMBUS_API void vmbus_ring_tx_disarm(struct vmbus_ring_tx *tx);

/* The counters; the fault, field VMBUS_FAULT_NONE when sound.  Threads: one at a time per ring. */
VMBUS_API void vmbus_ring_tx_stats(const struct vmbus_ring_tx *tx, struct vmbus_ring_stats *stats);
VMBUS_API const struct vmbus_fault *vmbus_ring_tx_fault(const struct vmbus_ring_tx *tx);

/*
 * Set up the receiving end on a ring whose indices are as the child left them: they are checked,
 * and kept, not reset.
 *
 * rx	  caller's storage.
 * mem	  copied.
 * opts	  buffer (needed), signal and its context.
 *
 * Errors: INVAL  mem or opts was not set up, there is no buffer, or next is no index
 *	   RANGE  the buffer is smaller than VMBUS_RING_RX_BUF_MIN
 *	   PEER	  an index is impossible, or not that of a resume; the ring is broken
 * Effect: masks the peer's signals until vmbus_ring_rx_arm().
 * Threads: one at a time per ring end, here and in all calls on it.
 * Source: [RING-INIT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_rx_init(struct vmbus_ring_rx *rx, const struct vmbus_ring_mem *mem,
				 const struct vmbus_ring_opts *opts);

/*
 * Receive packets: copy what has come to private memory, check it there, describe it.
 *
 * pkt	  where up to n descriptions go.  What they point to is in the receiver's buffer, and
 *	  valid until the next call on this end but for stats and fault.
 * n	  1 to 2^30.
 *
 * Returns how many came, 0 when the ring is empty.
 * Errors: RANGE  the first packet is larger than the buffer: give a larger one with
 *		  vmbus_ring_rx_set_buf(), it needs vmbus_ring_rx_need() bytes
 *	   PEER	  the first packet, or the peer's write index, is impossible; the ring is broken
 *	   FAULT  the ring was broken earlier
 * Effect: gives the room of packets returned by calls before this one back to the sender: when an
 *	  eighth of the ring is held, when the ring is found empty, or when the sender is seen to
 *	  wait.  May call signal, once.  Before it looks at the ring again after packets it may
 *	  pause, 32 times the processor's pause at most, to let the sender get ahead.
 * Threads: one at a time per ring.
 * Source: [RING-RECV], [PKT-DESC] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_rx_get(struct vmbus_ring_rx *rx, struct vmbus_packet *pkt, uint32_t n);

/*
 * Receive packets without copying the payload: payload points into memory THAT THE PEER CAN
 * CHANGE AT ANY TIME.  Safe only for a payload that you use in one pass and never check first and
 * use later: hand it to a sink that treats every byte as hostile, or copy it yourself.  The
 * descriptor and the type-specific header are private copies, as in vmbus_ring_rx_get().  A payload
 * that is split in a plain or scattered window is copied to the buffer.
 *
 * Arguments, return values, errors, effect, threads: as vmbus_ring_rx_get(); RANGE stands for a
 * header, or a split packet, that is larger than the buffer.
 */
VMBUS_API int vmbus_ring_rx_get_in_peer_memory(struct vmbus_ring_rx *rx, struct vmbus_packet *pkt,
					       uint32_t n);

/*
 * Give back the room of all packets received so far, now.
 *
 * Errors: PEER	  the peer's write index is impossible; the ring is broken
 *	   FAULT  the ring was broken earlier
 * Effect: publishes the read index; may call signal, once.  Packets received are no longer valid.
 * Threads: one at a time per ring.
 * Source: [RING-FLOW] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_rx_consume(struct vmbus_ring_rx *rx);

/*
 * Ask the peer to signal when a packet comes, then look again.
 *
 * Returns VMBUS_RING_SLEEP when it is safe to sleep, VMBUS_RING_READY when there are packets
 * already (then the peer's signals are masked again).
 * Errors: PEER	  the peer's write index is impossible; the ring is broken
 *	   FAULT  the ring was broken earlier
 * Effect: as vmbus_ring_rx_consume(), then clears the interrupt mask until vmbus_ring_rx_disarm().
 * Threads: one at a time per ring.
 * Source: [RING-RECV] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ring_rx_arm(struct vmbus_ring_rx *rx);

/*
 * Take back what vmbus_ring_rx_arm() asked.  Call it after waking, then receive.
 *
 * Effect: sets the interrupt mask.
 * Threads: one at a time per ring.
 * Source: [RING-RECV] in vmbus_wire(7).
 */
VMBUS_API void vmbus_ring_rx_disarm(struct vmbus_ring_rx *rx);

/*
 * Use another buffer from now on.
 *
 * buf	  private memory; kept.  The old buffer is the caller's again.
 * bytes  at least VMBUS_RING_RX_BUF_MIN.
 *
 * Errors: INVAL  no buffer
 *	   RANGE  too small
 * Effect: packets received are no longer valid; none is lost.
 * Threads: one at a time per ring.
 */
VMBUS_API int vmbus_ring_rx_set_buf(struct vmbus_ring_rx *rx, void *buf, uint32_t bytes);

/*
 * The buffer that the packet needs that vmbus_ring_rx_get() refused with RANGE; 0 before that.
 *
 * Effect: none.
 * Threads: one at a time per ring.
 */
VMBUS_API uint32_t vmbus_ring_rx_need(const struct vmbus_ring_rx *rx);

/* The counters; the fault, field VMBUS_FAULT_NONE when sound.  Threads: one at a time per ring. */
VMBUS_API void vmbus_ring_rx_stats(const struct vmbus_ring_rx *rx, struct vmbus_ring_stats *stats);
VMBUS_API const struct vmbus_fault *vmbus_ring_rx_fault(const struct vmbus_ring_rx *rx);

#ifdef __cplusplus
}
#endif
#endif
