/* SPDX-License-Identifier: MIT */
/*
 * For authors of a VSC: find a channel by class, open it, send, await completions, close.
 *
 * Concepts, a whole client: vmbus_vsc(7).  Nothing here needs a C library.
 *
 * Threads: "the guest's" stands for one at a time with vmbus_guest_dispatch(), callbacks included;
 * "the channel's" is the same, but for a channel with own_thread, where it is the thread that calls
 * vmbus_vsc_dispatch(), from opened() until that call has returned an error.
 */
#ifndef VMBUS_VSC_H
#define VMBUS_VSC_H

#include <vmbus/ctl.h>
#include <vmbus/ring.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_guest;
struct vmbus_vsc; /* a channel that the parent offered; opaque */

enum vmbus_vsc_state {
	VMBUS_VSC_OFFERED = 0, /* closed; may be opened */
	VMBUS_VSC_OPENING,
	VMBUS_VSC_OPEN,
	VMBUS_VSC_CLOSING, /* asked to close, rescinded or broken; not at its end yet */
	/* Rescinded, or closed while the parent is gone: only state, priv, info, guest and unshare
	   may be called. */
	VMBUS_VSC_GONE
};

/*
 * How to open a channel; zero what you do not need, members in brackets have that default.
 * Callbacks come from dispatch and may make any call but vmbus_guest_destroy(), dispatch and the
 * waits.  packets(), completed() and writable() come from the channel's thread, the others from the
 * guest's.
 */
struct vmbus_vsc_opts {
	size_t struct_bytes;   /* sizeof(struct vmbus_vsc_opts) */
	uint32_t send_bytes;   /* data bytes of the ring to the parent, [64 KiB] */
	uint32_t recv_bytes;   /* data bytes of the ring from the parent, [64 KiB] */
	uint32_t requests_max; /* [256] requests under way at once, up to 65,535 */
	uint32_t target_vp;    /* that gets the interrupts */
	bool poll;	       /* no interrupts: the caller calls vmbus_vsc_dispatch() by itself */
	bool own_thread; /* not dispatched by the guest's dispatch, but by vmbus_vsc_dispatch() */
	uint8_t reserved[6];
	uint8_t user[120]; /* device-specific, given to the VSP */
	/* 0: open, send is allowed.  Else an error, and it is closed again; once for each open. */
	void (*opened)(struct vmbus_vsc *vsc, int err);
	/* Packets that are no completions: private copies, checked, valid during the call. */
	void (*packets)(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n);
	/* A request ended: pkt is its completion, or NULL when the channel ended before it came. */
	void (*completed)(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt);
	/* After FULL: there is room again, in the ring or in the table of requests. */
	void (*writable)(struct vmbus_vsc *vsc);
	/*
	 * The end of a channel that was open: closed by us (state OFFERED, may be opened again),
	 * broken by the parent (the same; the info tells how) or rescinded (state GONE).  All
	 * requests were ended before.
	 */
	void (*closed)(struct vmbus_vsc *vsc);
	/* own_thread: the channel has work, or is to be left; wake its thread. */
	void (*wake)(struct vmbus_vsc *vsc);
	void *priv; /* for vmbus_vsc_priv() */
	/* The parent offered a sub-channel of this one, which is opening or open; after the guest's
	   offered(). */
	void (*subchannel)(struct vmbus_vsc *vsc, struct vmbus_vsc *sub);
	uint64_t reserved2[2];
};

struct vmbus_vsc_info {
	struct vmbus_ctl_offer offer;
	enum vmbus_vsc_state state;
	uint32_t requests;	  /* under way */
	uint64_t bad_completions; /* unknown, zero or repeated transaction ids: counted, ignored */
	struct vmbus_fault fault; /* how the parent broke the channel */
	struct vmbus_ring_stats send; /* of the present or last opening, as the three above */
	struct vmbus_ring_stats recv;
	uint64_t reserved[4];
};

/*
 * The nth offered channel of a class, primaries only, in the order of their offers.
 *
 * nth	  counted from 0.
 *
 * Returns NULL when there is none.
 * Effect: none.
 * Threads: the guest's.
 */
VMBUS_API struct vmbus_vsc *vmbus_vsc_find(struct vmbus_guest *guest,
					   const struct vmbus_guid *class_id, uint32_t nth);

/*
 * A sub-channel of a device.
 *
 * vsc	      any channel of the device.
 * sub_index  1 and up, as the VSP offers them.
 *
 * Returns NULL when it is not offered.
 * Effect: none.
 * Threads: the guest's.
 */
VMBUS_API struct vmbus_vsc *vmbus_vsc_subchannel(struct vmbus_vsc *vsc, uint32_t sub_index);

/*
 * Begin to open: take memory for the rings, describe it to the parent, ask it to open.  opened()
 * follows, once, from dispatch.
 *
 * opts	  copied.  Ring sizes are multiples of 4096, and both together at most 8,188 pages.
 *
 * Errors: INVAL  struct_bytes is too small
 *	   STATE  not in the state OFFERED, or the guest is not connected
 *	   RANGE  a size of a ring or requests_max is out of bounds
 *	   NOMEM  the backend has no memory
 * opened() may tell: PEER  the parent refused, or withdrew the channel
 *		      STATE vmbus_vsc_close() came first; or the channel was withdrawn, or the
 *			    connection ended, before the parent was told of the rings
 *		      FAULT the connection ended while the rings were described: they are lost
 *		      FULL  no page list is free, see gpadls_max in struct vmbus_cli_opts
 * Effect: the state becomes OPENING.
 * Threads: the guest's.
 * Source: [CTL-GPADL], [CTL-OPEN], [RING-INIT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_vsc_open(struct vmbus_vsc *vsc, const struct vmbus_vsc_opts *opts);

/*
 * Begin to close.  completed(NULL) for each request, then closed() follow from dispatch, closed()
 * when the parent has let go of the rings.  With own_thread wake() is called, and the channel's
 * thread has to call vmbus_vsc_dispatch() until that returns an error.
 *
 * Errors: STATE  not opening or open, or closing already
 * Effect: the state becomes CLOSING; no packet is received or sent any more, with own_thread when the
 *	  thread has left the channel.
 * Threads: the guest's.
 * Source: [CTL-CLOSE] in vmbus_wire(7).
 */
VMBUS_API int vmbus_vsc_close(struct vmbus_vsc *vsc);

/*
 * For programs that wait: dispatch and idle until the state is reached.
 *
 * state       GONE waits until the channel is forgotten; vsc has no meaning then.
 * timeout_ns  nanoseconds of the backend's time.
 *
 * Errors: AGAIN   the time is over
 *	   PEER	   cannot be: the opening failed, or the channel was withdrawn
 *	   STATE   cannot be: nobody opened it; or called from a callback, and then at once
 *	   NOTSUP  the backend cannot idle
 * Effect: as vmbus_guest_dispatch().  After PEER vsc may have no meaning any more.
 * Threads: the guest's.
 */
VMBUS_API int vmbus_vsc_wait(struct vmbus_vsc *vsc, enum vmbus_vsc_state state,
			     uint64_t timeout_ns);

/*
 * Send messages, or as many as there is room for.  Within a callback they are published when it
 * returns, together and with one signal; elsewhere at once.
 *
 * msg	  n messages; borrowed for the call.  None may ask for a completion.
 *
 * Returns how many were sent: fewer than n when the ring is full or a message is wrong, and then
 * the next call tells the reason.
 * Errors: FULL	  no room for the first; writable() follows
 *	   INVAL  the first asks for a completion, has a type, flag or header that cannot be, or
 *		  bytes whose address is NULL
 *	   RANGE  the first is larger than vmbus_ring_max_send()
 *	   STATE  the channel is not open
 *	   PEER	  the parent broke the ring; closed() follows
 *	   FAULT  the channel was broken earlier, also by vmbus_vsc_fail() or for want of memory;
 *		  closed() follows
 * Effect: the packets are the parent's.  None on error.
 * Threads: the channel's.
 * Source: [RING-SEND], [RING-SIGNAL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_vsc_send(struct vmbus_vsc *vsc, const struct vmbus_msg *msg, uint32_t n);

/*
 * Send one message and ask for its completion.  Its transaction id is ours.
 *
 * msg	   borrowed for the call; its id has no meaning.
 * cookie  given to completed(), which follows exactly once.
 *
 * Errors: FULL	  no room in the ring, or requests_max are under way; writable() follows
 *	   INVAL  a completion, a type, flag or header that cannot be, or bytes whose address is
 *		  NULL
 *	   RANGE, STATE, PEER, FAULT  as vmbus_vsc_send()
 * Effect: as vmbus_vsc_send().  On error there is no request, and no completed().
 * Threads: the channel's.
 * Source: [PKT-ID] in vmbus_wire(7).
 */
VMBUS_API int vmbus_vsc_request(struct vmbus_vsc *vsc, const struct vmbus_msg *msg, void *cookie);

/*
 * Complete a request of the parent's: a packet with VMBUS_PKT_FLAG_COMPLETE wants one completion.
 *
 * id	  of the packet.
 * data	  the answer; borrowed for the call.
 * len	  its bytes.
 *
 * Errors: FULL	  no room: keep it, and try again in writable()
 *	   INVAL  data is NULL, and len is not 0
 *	   RANGE, STATE, PEER, FAULT  as vmbus_vsc_send()
 * Effect: as vmbus_vsc_send().
 * Threads: the channel's.
 */
VMBUS_API int vmbus_vsc_complete(struct vmbus_vsc *vsc, uint64_t id, const void *data,
				 uint32_t len);

/*
 * hold: outside of callbacks, have what is sent from now on wait for vmbus_vsc_flush(), which publishes
 * all of it with one signal; flush: publish now what was sent since then, or within this callback.  A
 * callback that comes before flush publishes it at its end, as does a dispatch when writable() is due.
 *
 * hold returns 1: flush is due; 0: within a callback, or held already.
 * Errors: STATE, PEER, FAULT  as vmbus_vsc_send(); hold: STATE alone
 * Effect: flush: one signal at most; none outside of callbacks without hold.
 * Threads: the channel's.
 */
VMBUS_API int vmbus_vsc_hold(struct vmbus_vsc *vsc);
VMBUS_API int vmbus_vsc_flush(struct vmbus_vsc *vsc);

/*
 * Give a channel up whose parent makes no sense: it ends as one does whose ring the parent broke.
 *
 * why  a text for the log, kept; what the parent did wrong.  May be NULL.
 *
 * Errors: STATE  the channel is not open
 * Effect: nothing is sent or received any more; closed() follows.  With own_thread
 *	  vmbus_vsc_dispatch() says PEER next.
 * Threads: the channel's.
 */
VMBUS_API int vmbus_vsc_fail(struct vmbus_vsc *vsc, const char *why);

/*
 * The page number by which the parent knows memory, for page lists within packets.
 *
 * at  anywhere in the page.
 *
 * Returns UINT64_MAX when the parent cannot reach it.
 * Effect: none.
 * Threads: any, while the guest exists.
 */
VMBUS_API uint64_t vmbus_vsc_pfn(const struct vmbus_vsc *vsc, const void *at);

/*
 * Receive packets and completions, for channels with own_thread or poll; others may be helped
 * along by it.
 *
 * budget  packets after which to return; 0 counts as 1.
 *
 * Returns how many came, or with own_thread 1 while the backend has not taken a signal; 0: none,
 * and without poll wake(), or the guest's dispatch, tells of the next ones.
 * Errors: STATE  the channel is not open (any more); called from a callback
 *	   PEER	  the parent broke a ring, vmbus_vsc_fail() was called, or there is no memory for
 *		  a packet; closed() follows
 * Effect: packets(), completed() and writable() come from here.  With own_thread an error means
 *	  that the thread has left the channel: it must not use it any more, and the guest is to be
 *	  dispatched.
 * Threads: the channel's.
 */
VMBUS_API int vmbus_vsc_dispatch(struct vmbus_vsc *vsc, uint32_t budget);

/*
 * Ask the parent to send interrupts to another VP from now on.  A refusal is logged, and nothing
 * changes then.
 *
 * Errors: STATE   not open, opened with poll, or the guest is paused
 *	   NOTSUP  the version is below 4.1
 *	   RANGE   target_vp is VMBUS_VP_NONE
 *	   AGAIN   the parent has not answered the last such call yet
 *	   FULL	   too many messages wait to be posted
 * Effect: one message.
 * Threads: the guest's.
 * Source: [CTL-MODIFY] in vmbus_wire(7).
 */
VMBUS_API int vmbus_vsc_set_vp(struct vmbus_vsc *vsc, uint32_t target_vp);

/*
 * Share whole pages with the parent, for this channel, open or not.  They stay shared when it is
 * closed and opened again, until they are taken back, or the channel is rescinded.  Pages may be
 * shared more than once; each time has its id, and they are the child's own when all are taken back.
 *
 * pages  from vmbus_guest_pages(), or other pages that the backend's pfn() knows; kept.
 * count  pages, 1 to 8,190.
 * ready  follows once, from dispatch: with err 0 and the id that the parent knows the pages by; or
 *	  with PEER (refused, or withdrawn), FULL (no page list is free) or STATE, and the pages
 *	  are the child's own; or with FAULT: they are lost, see vmbus_vsc_unshare().
 *
 * Errors: INVAL  pages is NULL or no page's address, one of them is none that the parent can reach,
 *		  or ready is NULL
 *	   RANGE  count
 *	   STATE  the channel was rescinded, or the guest is not connected
 *	   NOMEM  the backend has no memory
 * Effect: the parent may read and write the pages until they are taken back.
 * Threads: the guest's.
 * Source: [CTL-GPADL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_vsc_share(struct vmbus_vsc *vsc, void *pages, uint32_t count,
			      void (*ready)(struct vmbus_vsc *vsc, uint32_t gpadl, int err));

/*
 * Take shared pages back.  Those of a rescinded channel are taken back without it, before the
 * guest's gone() for that channel.
 *
 * gpadl  the id that ready() told.
 * gone	  NULL, or follows once, from dispatch: with err 0, and the pages are the child's own; or
 *	  with FAULT: the parent went away and did not let go, so they must never be used again.
 *
 * Errors: RANGE  no such pages
 *	   STATE  they are being taken back already
 * Effect: as told; none on error.
 * Threads: the guest's.
 * Source: [CTL-GPADL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_vsc_unshare(struct vmbus_vsc *vsc, uint32_t gpadl,
				void (*gone)(struct vmbus_vsc *vsc, uint32_t gpadl, int err));

/*
 * The state of a channel; what the parent offered, counters and faults; the priv of the last open;
 * the guest.  The guest's gone() is the last moment at which the pointer may be used: its storage is
 * that of a later offer then.  Until there is one, or the guest ends, state still says GONE.
 *
 * Effect: none.
 * Threads: state: the guest's.  info: the guest's, and with own_thread only while no thread uses
 *	  the channel.  priv, guest: any, while the channel is open.
 */
VMBUS_API enum vmbus_vsc_state vmbus_vsc_state(const struct vmbus_vsc *vsc);
VMBUS_API void vmbus_vsc_info(const struct vmbus_vsc *vsc, struct vmbus_vsc_info *info);
VMBUS_API void *vmbus_vsc_priv(const struct vmbus_vsc *vsc);
VMBUS_API struct vmbus_guest *vmbus_vsc_guest(const struct vmbus_vsc *vsc);

#ifdef __cplusplus
}
#endif
#endif
