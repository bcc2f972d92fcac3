/* SPDX-License-Identifier: MIT */
/*
 * For authors of a VSP: one const struct, and what its callbacks may call.  A device sees an open
 * channel and never a backend; one VSP serves any number of channels in any number of children.
 *
 * Concepts, a whole device, what the payload's length means: vmbus_vsp(7).
 */
#ifndef VMBUS_VSP_H
#define VMBUS_VSP_H

#include <vmbus/ctl.h>
#include <vmbus/mem.h>
#include <vmbus/ring.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_chan; /* a channel that is offered to one child; opaque */

#define VMBUS_VSP_READ_WHILE_FULL 1u /* deliver packets also while a send waits for room */
/*
 * The device can go on where a process that died, or gave way, left off: vmbus_provider(7).  When
 * packets() returns, each packet is done with, completed, or kept by vmbus_chan_pend(); all state
 * that matters is in the channel's journal.  What is sent in a callback is published at its end.
 */
#define VMBUS_VSP_RESUMABLE 2u
/* The rings are served elsewhere, see <vmbus/foreign.h>: no packets(), and nothing can be sent. */
#define VMBUS_VSP_FOREIGN 4u

/*
 * A provider.  All callbacks of one channel come from the thread that dispatches it, one at a time.
 * Only name, class_id and packets are mandatory.
 *
 * A callback may send on its own channel, and on any other open channel that the same thread
 * dispatches: all channels without own_fd of one bus, or of all buses that one thread dispatches
 * (those of one vmbus_shm_server, for instance).  Never on a channel of another thread: put the
 * message where that thread finds it, wake it by an eventfd of your own, and send there.
 */
struct vmbus_vsp {
	size_t struct_bytes; /* sizeof(struct vmbus_vsp) */
	const char *name;    /* for messages, for instance "echo" */
	struct vmbus_guid class_id;
	uint16_t offer_flags; /* VMBUS_OFFER_* */
	uint16_t mmio_mb;
	uint32_t max_payload; /* of a packet from the child; larger ones fault the channel; 0: what
				   the ring allows */
	uint32_t ring_bytes_max; /* 0: 4 MiB; a child that opens with larger rings is refused */
	uint32_t flags;		 /* VMBUS_VSP_* */
	/*
	 * The child opens the channel: 0, or an error, and the child is told that it failed.
	 * Sending is allowed from here on.  AGAIN: not yet; vmbus_chan_open_done() follows, and
	 * until then nothing is delivered and nothing can be sent; what was sent in open() goes out
	 * then.  close() may come instead, and ends the opening.
	 */
	int (*open)(struct vmbus_chan *chan, void *ctx);
	/*
	 * Packets came, checked, in private memory until the callback returns.  A packet with
	 * VMBUS_PKT_FLAG_COMPLETE wants one vmbus_chan_complete(), now or later.
	 */
	void (*packets)(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n);
	/* There is room again after a send that said FULL. */
	void (*writable)(struct vmbus_chan *chan);
	/*
	 * The channel ends: closed or reset by the child, withdrawn, faulted.  It comes from the
	 * thread that dispatches the channel; only when vmbus_bus_destroy() finds that an own_fd
	 * channel's thread does not come, from the destroying one.  Return 0 when nothing
	 * of it is in use any more, or AGAIN, and call vmbus_chan_close_done() when that is so: rings
	 * and page lists stay mapped until then.  No callback follows, but ready() after AGAIN.
	 */
	int (*close)(struct vmbus_chan *chan);
	/*
	 * Write what the device must know to go on with this open channel, into at most bytes of
	 * buf; nothing is in a callback.  Returns the bytes written, 0 and up.  RANGE: they are too
	 * few; AGAIN: not now.  NULL: there is nothing to save.  vmbus_save(7).
	 */
	int (*save)(struct vmbus_chan *chan, void *buf, size_t bytes);
	/*
	 * In the place of open(): go on from what save() wrote, a sub-channel after its primary.
	 * The bytes are hostile.  0, or an error, and the channel fails.  NULL: open() is called.
	 */
	int (*restore)(struct vmbus_chan *chan, const void *buf, size_t bytes);
	uint32_t save_bytes_max; /* of save(); 0: 64 KiB */
	/* RESUMABLE: requests kept at once [64], bytes of payload and page ranges of each [1024],
	   bytes of own words [0]. */
	uint32_t pending_max;
	uint32_t pending_bytes;
	uint32_t own_bytes;
	/* FOREIGN: the target VP of the channel, or the way to wake it, has changed.  May be NULL. */
	void (*modified)(struct vmbus_chan *chan);
	/*
	 * FOREIGN: a page list that can be used, also before the open: ranges as vmbus_sgl_from_ranges()
	 * takes them, which stay until it is gone, or the channel is removed.  0, or an error, and the
	 * child is told that it was refused.  AGAIN: who serves the channel does not know it yet; the
	 * child's answer waits for vmbus_chan_gpadl_done().  May be NULL.
	 */
	int (*gpadl)(struct vmbus_chan *chan, uint32_t gpadl, const uint64_t *qwords,
		     uint32_t count, uint32_t ranges);
	/* FOREIGN: it is torn down, that of the rings after the close.  0, or AGAIN: it is in use, and
	   vmbus_chan_gpadl_done() follows.  Not called when the bus ends.  May be NULL. */
	int (*gpadl_gone)(struct vmbus_chan *chan, uint32_t gpadl);
	/* FOREIGN: a signal came by the bus; NULL: it writes the descriptor of vmbus_chan_bind(). */
	void (*signalled)(struct vmbus_chan *chan);
	/* FOREIGN: a sub-channel was offered, with the primary's ctx.  May be NULL. */
	void (*offered)(struct vmbus_chan *sub);
	/* FOREIGN: the channel, or sub-channel, is gone for good: its last callback.  May be NULL. */
	void (*removed)(struct vmbus_chan *chan);
	void (*ready)(struct vmbus_chan *chan); /* the descriptor of vmbus_chan_watch(); or NULL */
};

/* Why a channel broke, or which limits it has. */
struct vmbus_chan_info {
	struct vmbus_guid class_id;
	struct vmbus_guid instance_id;
	const char *vsp;   /* its name */
	const char *state; /* as vmbus_srv_state_name() */
	uint32_t relid;
	uint32_t sub_index;
	uint32_t conn_id;
	uint32_t target_vp;
	uint32_t send_bytes; /* data bytes of the ring to the child, 0 while closed */
	uint32_t recv_bytes;
	uint32_t subchannels; /* offered now */
	bool mirrored;
	bool faulted;
	uint8_t reserved[2];
	struct vmbus_fault fault;
	struct vmbus_ring_stats send; /* of the present opening */
	struct vmbus_ring_stats recv;
	uint64_t opens;
	uint64_t bad_completions; /* unknown, zero or repeated transaction ids */
	uint64_t reserved2[4];
};

/*
 * Send messages to the child.
 *
 * msg	  n messages; borrowed for the call.
 *
 * Returns how many were sent.  Fewer than n when the ring is full or a message is wrong; a further
 * call with the rest tells the reason.  When the ring is full, writable() follows, and until then
 * no packets are delivered (VMBUS_VSP_READ_WHILE_FULL).
 * Errors: FULL	  no room for the first
 *	   RANGE  the first is larger than the ring can take, vmbus_ring_max_send()
 *	   INVAL  the first has a type, flag, header or pointer that cannot be
 *	   PEER	  the child has just broken the ring: the channel ends when the callback returns
 *	   FAULT  it was broken before
 *	   STATE  the channel is not open, or vmbus_chan_fail() was called
 * Effect: within a callback of this channel, published when it returns at the latest, with one
 *	  signal at most; anywhere else, also in a callback of another channel, at once.
 * Threads: the one that dispatches the channel.
 * Source: [RING-SEND] in vmbus_wire(7).
 */
VMBUS_API int vmbus_chan_send(struct vmbus_chan *chan, const struct vmbus_msg *msg, uint32_t n);

/*
 * Complete a request of the child's.
 *
 * id	  its transaction id, whatever it is.  Which ids are under way is not known here: a
 *	  second completion, or one of an id that the child did not send, is sent all the same, and
 *	  the child counts and ignores it.
 * data	  len bytes of answer; borrowed.
 *
 * Errors: FULL	  keep id and answer, and try again in writable()
 *	   RANGE, INVAL, PEER, FAULT, STATE  as for vmbus_chan_send()
 * Effect, threads: as for vmbus_chan_send().
 * Source: [PKT-ID] in vmbus_wire(7).
 */
VMBUS_API int vmbus_chan_complete(struct vmbus_chan *chan, uint64_t id, const void *data,
				  uint32_t len);

/*
 * Publish now what was sent within this callback.
 *
 * Errors: FAULT, STATE  as for vmbus_chan_send()
 * Effect: as at the end of the callback.  None within a callback of a channel with a journal: it is
 *	  published whole.
 * Threads: the one that dispatches the channel.
 */
VMBUS_API int vmbus_chan_flush(struct vmbus_chan *chan);

/*
 * From packets(): call fn for each packet, until one fails the channel.
 *
 * Effect: fn's.
 * Threads: the one that dispatches the channel.
 */
typedef void vmbus_chan_packet_fn(struct vmbus_chan *chan, const struct vmbus_packet *pkt);
VMBUS_API void vmbus_chan_each(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n,
			       vmbus_chan_packet_fn *fn);

/*
 * The pages that a GPA_DIRECT packet names, checked and pinned.  The list may be kept after the
 * packet; release it with vmbus_sgl_release(): the close of the channel waits for that.
 *
 * access  what will be done with the pages.
 * sgl	   pieces and room set by the caller; the rest is filled in.
 *
 * Errors: INVAL  the packet is no GPA_DIRECT
 *	   PEER	  a range that cannot be, or no memory there
 *	   PERM	  memory without this access
 *	   FULL	  more pieces than room, or more than 7 regions
 *	   STATE  the channel is not open
 * Effect: none on error.
 * Threads: the one that dispatches the channel.
 * Source: [PKT-GPA] in vmbus_wire(7).
 */
VMBUS_API int vmbus_chan_sgl(struct vmbus_chan *chan, const struct vmbus_packet *pkt,
			     enum vmbus_access access, struct vmbus_sgl *sgl);

/*
 * The pages of a GPADL that the child described on this channel, checked and pinned.  The child's
 * teardown of the GPADL, and the close of the channel, wait until the list is released.
 *
 * gpadl  the child's id of it.
 *
 * Errors: RANGE  no such GPADL on this channel, or it is being torn down
 *	   PEER, PERM, FULL, STATE  as for vmbus_chan_sgl(); 6 regions
 * Effect: none on error.
 * Threads: the one that dispatches the channel.
 * Source: [CTL-GPADL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_chan_gpadl(struct vmbus_chan *chan, uint32_t gpadl, enum vmbus_access access,
			       struct vmbus_sgl *sgl);

/*
 * The context given at the offer; a pointer of the device's own for this channel, NULL at first.
 *
 * Effect: none but of set_priv().
 * Threads: ctx: any; priv: the one that dispatches the channel.
 */
VMBUS_API void *vmbus_chan_ctx(const struct vmbus_chan *chan);
VMBUS_API void *vmbus_chan_priv(const struct vmbus_chan *chan);
VMBUS_API void vmbus_chan_set_priv(struct vmbus_chan *chan, void *priv);

/*
 * The 120 bytes that the child sent when it opened the channel, a private copy.
 *
 * Effect: none.
 * Threads: the one that dispatches the channel, from open() to close().
 * Source: [CTL-OPEN] in vmbus_wire(7).
 */
VMBUS_API const uint8_t *vmbus_chan_open_data(const struct vmbus_chan *chan);

/*
 * What the channel is, and its counters; for a channel with own_fd those of its last dispatch.
 *
 * Effect: none but on info.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API void vmbus_chan_info(const struct vmbus_chan *chan, struct vmbus_chan_info *info);

/*
 * End the channel because the child broke the device's own protocol: close() follows when the
 * callback returns, the child sees RESCIND, and the offer again once it has let go.
 *
 * why	  one line for people; copied, up to 159 bytes.  The first counts.
 *
 * Effect: nothing is delivered any more; what was sent in this callback is dropped, and sending says
 * STATE from now on.
 * Threads: the one that dispatches the channel.
 */
VMBUS_API void vmbus_chan_fail(struct vmbus_chan *chan, const char *why);

/*
 * close() said AGAIN; now nothing of the channel is in use any more.  Once for each such close().
 *
 * Effect: rings are unmapped, and the child hears of it, in the next dispatch of the bus.
 * Threads: any; that of the channel while it watches a descriptor.
 */
VMBUS_API void vmbus_chan_close_done(struct vmbus_chan *chan);

/*
 * The child sent a completion that the device cannot place: an unknown, zero or repeated id.
 * Counted in vmbus_chan_info, and nothing more: such a packet is ignored.
 *
 * Effect: one counter.
 * Threads: any.
 * Source: [PKT-ID] in vmbus_wire(7).
 */
VMBUS_API void vmbus_chan_bad_completion(struct vmbus_chan *chan);

/*
 * Offer sub-channels of this open channel, with the same device and context, and indices that
 * follow those there are.  They are withdrawn when the primary is closed.  One whose index a sub-channel
 * of the last opening still has is offered when that is gone, and those after it then, too.
 *
 * count  1 to 2047.
 *
 * Errors: STATE  the channel is not open
 *	   INVAL  it is a sub-channel itself
 *	   RANGE  count
 *	   FULL, NOMEM	quotas as for vmbus_bus_offer(), memory: the log has how many were offered
 * With own_fd the next dispatch offers them; for FULL and NOMEM the device begins anew, once.
 * Effect: offered() of vmbus_bus_opts for each.
 * Threads: the one that dispatches the channel.
 * Source: [CTL-OFFER] in vmbus_wire(7).
 */
VMBUS_API int vmbus_chan_offer_subchannels(struct vmbus_chan *chan, uint32_t count);

/*
 * The primary of a sub-channel; itself for a primary.  A sub-channel that outlives its primary, as
 * one whose child has not let go may, answers itself.
 *
 * Effect: none.
 * Threads: the one that dispatches the channel.
 */
VMBUS_API struct vmbus_chan *vmbus_chan_primary(struct vmbus_chan *chan);

/*
 * open() said AGAIN: now it is open, or refused.  Once for each such open(), also from within it,
 * unless close() was called instead.
 *
 * err  0, or why not: there is nothing to close then.
 *
 * Effect: the child hears of it.  With 0, and a channel that broke or failed meanwhile: close().  None
 * when no open() waits, as after close().
 * Threads: the one that dispatches the channel.
 */
VMBUS_API void vmbus_chan_open_done(struct vmbus_chan *chan, int err);

/*
 * Bytes of journal that a channel of this device needs.
 *
 * Returns 0 when it is not RESUMABLE, or a limit is out of bounds (pending_max 4096, pending_bytes
 * 1 MiB, own_bytes 64 KiB, 256 MiB in all).
 * Effect: none.
 * Threads: any.
 */
VMBUS_API size_t vmbus_journal_bytes(const struct vmbus_vsp *vsp);

/*
 * Give a channel of a RESUMABLE device its journal, in memory that outlives this process and that
 * the child cannot reach.  If it tells of an open channel, the next open goes on from it, or fails.
 *
 * mem	  aligned to 64 bytes, vmbus_journal_bytes() of them, zero at first; kept until the next call,
 *	  or removed().  What it tells is checked, and not trusted.  NULL: none.  A channel that is
 *	  open and has a journal is then let go of: another process goes on with it, nothing is
 *	  delivered or sent here any more, and close() follows when the channel is closed.
 *
 * Errors: STATE  the channel is not closed, and mem is not NULL; or within a callback of it
 *	   INVAL  the device is not RESUMABLE, or mem is not aligned
 *	   RANGE  bytes is too small
 *	   NOMEM  out of memory
 *	   FAULT  it is let go of, but was broken: the journal tells of a closed channel
 * Effect: none on error but FAULT.  Threads: that of the bus; the channel is not dispatched meanwhile.
 */
VMBUS_API int vmbus_chan_set_journal(struct vmbus_chan *chan, void *mem, size_t bytes);

/*
 * In open() and later: whether this opening went on from a journal, so that nothing is to be sent
 * or offered anew.
 *
 * Effect: none.
 * Threads: the one that dispatches the channel.
 */
VMBUS_API bool vmbus_chan_resumed(const struct vmbus_chan *chan);

/*
 * In packets(): this request is under way beyond the callback.  Without a journal it does nothing.
 * With one it is kept, payload and page ranges and all, until vmbus_chan_complete() of its id is
 * published, or vmbus_chan_pend_done(); when the channel goes on in another process it is delivered
 * again, before anything new, in the order of these calls.  One that is delivered again is kept if
 * this is called again; what is not, and not completed, is done with.  There is always room: no
 * more packets are delivered than can be kept.
 *
 * pkt	  one of those that packets() was given, itself and not a copy.
 *
 * Errors: RANGE  payload and header, which holds the page ranges, are larger than pending_bytes
 *	   INVAL  the packet is none of this callback's
 * Effect: a copy, none on error.
 * Threads: the one that dispatches the channel.
 */
VMBUS_API int vmbus_chan_pend(struct vmbus_chan *chan, const struct vmbus_packet *pkt);

/*
 * A request that was pended is done with, without a completion: the oldest of that id, of those that
 * want no completion if there is one.
 *
 * Effect: it is not delivered again.  In a callback, from its end on, together with what it sends;
 *	   elsewhere at once.  None for an id that is not pended.
 * Threads: the one that dispatches the channel.
 */
VMBUS_API void vmbus_chan_pend_done(struct vmbus_chan *chan, uint64_t id);

/*
 * The device's own words in the journal: own_bytes of its VSP, zero at an opening that went on from
 * nothing.  What is written there stays, whatever becomes of the callback: one aligned word is
 * written whole or not at all, more are not.
 *
 * Returns them, aligned to 64 bytes; NULL without a journal, or with own_bytes 0.
 * Effect: none.
 * Threads: the one that dispatches the channel, while it is open.
 */
VMBUS_API void *vmbus_chan_own(struct vmbus_chan *chan);

#ifdef __cplusplus
}
#endif
#endif
