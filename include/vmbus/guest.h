/* SPDX-License-Identifier: MIT */
/*
 * The child's runtime: it contacts the parent, takes offers, and runs VSCs.  Freestanding: memory
 * comes from the backend, nothing happens but in dispatch, and no call but the waits ever sleeps.
 *
 * Concepts, threads, a whole client: vmbus_vsc(7).  How to write a backend: vmbus_backend(7).
 */
#ifndef VMBUS_GUEST_H
#define VMBUS_GUEST_H

#include <vmbus/backend.h>
#include <vmbus/cli.h>
#include <vmbus/vsc.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_guest; /* opaque; lives in memory of the backend's */

enum vmbus_guest_state {
	VMBUS_GUEST_IDLE = 0,	/* not connected */
	VMBUS_GUEST_CONNECTING, /* contact made, or offers not all delivered */
	VMBUS_GUEST_CONNECTED,	/* all offers delivered */
	VMBUS_GUEST_LEAVING,	/* closing channels, then unloading */
	VMBUS_GUEST_REFUSED,	/* no version suits both, or a message was refused for good */
	VMBUS_GUEST_GONE	/* the parent is gone */
};

/*
 * Options of vmbus_guest_create(); zero what you do not need.  All callbacks come from dispatch and
 * may make any call but vmbus_guest_destroy(), dispatch and the waits.
 */
struct vmbus_guest_opts {
	size_t struct_bytes;			   /* sizeof(struct vmbus_guest_opts) */
	const struct vmbus_guest_backend *backend; /* kept; only mirror, unmirror, idle, wake and
						      keeps may be NULL */
	void *backend_ctx;
	struct vmbus_cli_opts limits; /* all zero: all defaults */
	/* A channel was offered.  It stays valid until gone() has returned; the address may be that
	   of an earlier channel, so tell them apart by the offer, not by the pointer. */
	void (*offered)(void *ctx, struct vmbus_vsc *vsc);
	/*
	 * A channel that was offered is forgotten: its last callback, after opened() or closed() if
	 * it was not closed.  Pages shared on it are the child's own again, unless they were said
	 * to be lost.
	 */
	void (*gone)(void *ctx, struct vmbus_vsc *vsc);
	void *ctx; /* for all callbacks */
	/* A line of text for people; at most 10 a second come through, then one tells how many
	   did not. */
	void (*log)(void *ctx, const char *line);
	/*
	 * The answers to vmbus_guest_tl_connect(): the parent has refused, with its status, or the
	 * connection ended (an accepted request is an offer); to _pause(): err 0, or PEER when the
	 * connection ended; to _set_monitor(): err 0, PEER (refused: the parent uses the pages of
	 * before), or FAULT (the connection ended, and the pages are lost).  Each may be NULL.
	 */
	void (*tl_refused)(void *ctx, const struct vmbus_ctl_tl *tl, uint32_t status);
	void (*paused)(void *ctx, int err);
	void (*monitor_set)(void *ctx, int err);
	uint64_t reserved[1];
};

/*
 * Make a guest.  It does nothing before vmbus_guest_connect().
 *
 * opts	  borrowed; backend, backend_ctx and ctx are kept.
 * guest  where the guest goes.
 *
 * Errors: INVAL  struct_bytes is too small, here or in limits, a limit is set but struct_bytes of
 *		  limits is not, or a function of the backend's is missing
 *	   RANGE  a limit is out of bounds: at most 2,047 channels and 8,192 page lists; or
 *		  vmbus_cli_init() refuses another member of limits
 *	   NOMEM  the backend has no memory
 * Effect: takes all memory of the guest but that of channels from the backend.
 * Threads: one at a time per backend.
 */
VMBUS_API int vmbus_guest_create(const struct vmbus_guest_opts *opts, struct vmbus_guest **guest);

/*
 * End a guest.  Every request under way, every open channel and every channel at all ends with its
 * callback.  A backend that sets leave_ns has the guest disconnect in order first, for at most so
 * long; over others nothing is posted, so disconnect first for a clean end.
 *
 * guest  NULL is fine.  No thread may use one of its channels any more.
 *
 * Effect: everything is given back to the backend, but pages that the parent may still use: those
 *	  are leaked, and log() tells how many.  Ignored from within a callback; ignored, with a
 *	  line in the log, for a guest that its backend keeps: vmbus_shm_detach() ends that of an
 *	  attachment.
 * Threads: the guest's.
 */
VMBUS_API void vmbus_guest_destroy(struct vmbus_guest *guest);

/*
 * Begin to connect: agree on a version, ask for the offers.  Dispatch does the rest; the state is
 * CONNECTED when all offers are delivered, or REFUSED.
 *
 * Errors: STATE  not in the state IDLE or REFUSED.  GONE is final: make another guest over a backend
 *		  of the new parent
 *	   AGAIN  channels of the last connection are not forgotten yet, or something of it is still to
 *		  be told: dispatch, then try again
 * Effect: the state becomes CONNECTING.
 * Threads: the guest's.
 * Source: [CTL-CONTACT], [CTL-VERSION] in vmbus_wire(7).
 */
VMBUS_API int vmbus_guest_connect(struct vmbus_guest *guest);

/*
 * Begin to leave: close every channel, take back every shared page, then unload.  The state IDLE
 * follows, and gone() for every channel before it; a parent that never answers delays it for ever.
 * While no version is agreed on there is nothing to unload: the contact is given up.
 *
 * Errors: STATE  not in the state CONNECTING or CONNECTED
 * Effect: the state becomes LEAVING; nothing can be opened or shared any more.
 * Threads: the guest's.
 * Source: [CTL-UNLOAD] in vmbus_wire(7).
 */
VMBUS_API int vmbus_guest_disconnect(struct vmbus_guest *guest);

/*
 * hv_sock: ask the parent for a channel to a service.  The answer is offered(), with the class
 * service_id, the instance endpoint_id and the flag VMBUS_OFFER_TLNPI, or tl_refused(); a parent
 * below 4.1 tells no refusals, and the caller waits as long as it likes.
 *
 * tl  copied; with has_silo it has a silo id, which needs version 5.2.
 *
 * Errors: INVAL   tl is NULL
 *	   STATE   not in the state CONNECTING with a version agreed on, or CONNECTED; or paused
 *	   NOTSUP  the version is below 4.0, or below 5.2 with a silo id
 *	   AGAIN   the same request is under way
 *	   FULL	   16 requests are under way, or too many messages wait to be posted: dispatch first
 * Effect: a message is posted by dispatch.  None on error.
 * Threads: the guest's; callbacks may call this.
 * Source: [CTL-TL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_guest_tl_connect(struct vmbus_guest *guest, const struct vmbus_ctl_tl *tl);

/*
 * Ask the parent to hold its messages back; paused() follows, and from then on no offer, rescind or
 * answer comes until resume.  Packets go on.  What is asked of channels meanwhile, open and close
 * included, is done after resume; vmbus_guest_disconnect() resumes first.
 *
 * Errors: STATE   pause: not in the state CONNECTED, or paused; resume: not paused, or paused() was
 *		   not called yet
 *	   NOTSUP  VMBUS_FEATURE_PAUSE was not agreed on: it needs limits.features and version 6.0
 *	   AGAIN   pause: how the last one ended has not been told by paused() yet
 *	   FULL	   too many messages wait to be posted: dispatch first
 * Effect: a message is posted by dispatch.  None on error.
 * Threads: the guest's; callbacks may call these.
 * Source: [CTL-PAUSE] in vmbus_wire(7).
 */
VMBUS_API int vmbus_guest_pause(struct vmbus_guest *guest);
VMBUS_API int vmbus_guest_resume(struct vmbus_guest *guest);

/*
 * Give the parent monitor pages, others than it has, or none; monitor_set() follows.  A channel whose
 * offer has a monitor id can then be signalled by its bit in c2p, which the parent looks at from time
 * to time; the library itself signals by hypercall.
 *
 * p2c, c2p	each a page of vmbus_guest_pages(), used in no other way; or both NULL.  They cannot be
 *		freed before the parent said that it uses others, or the connection was unloaded.
 *
 * Errors: INVAL   one is missing, they are the same, or one is not the backend's or in use
 *	   STATE   not connected, or paused
 *	   NOTSUP  VMBUS_FEATURE_MODIFY_CONNECTION was not agreed on: it needs limits.features and
 *		   version 6.0
 *	   AGAIN   monitor_set() of the last call has not been called yet
 *	   FULL	   too many messages wait to be posted: dispatch first
 * Effect: a message is posted by dispatch.  None on error.
 * Threads: the guest's; callbacks may call this.
 * Source: [CTL-MODIFY-CONNECTION] in vmbus_wire(7).
 */
VMBUS_API int vmbus_guest_set_monitor(struct vmbus_guest *guest, void *p2c, void *c2p);

/*
 * For backends: the parent is gone without a word.  Every channel is rescinded, and every page that
 * it knew is lost.
 *
 * Effect: the state becomes GONE at once; callbacks come from the next dispatch.  None in the state
 *	  IDLE.
 * Threads: the guest's; from a callback or a function of the backend's as well.
 */
VMBUS_API void vmbus_guest_parent_gone(struct vmbus_guest *guest);

/*
 * The state, and the version agreed on, VMBUS_PROTO_*, 0 while there is none.
 *
 * Effect: none.
 * Threads: the guest's.
 */
VMBUS_API enum vmbus_guest_state vmbus_guest_state(const struct vmbus_guest *guest);
VMBUS_API uint32_t vmbus_guest_version(const struct vmbus_guest *guest);

/*
 * Do what there is to do: take messages and event flags, post messages, open and close channels,
 * hand packets to VSCs.  Sources of work and channels take turns.
 *
 * budget  units of work, a message or a packet each, after which to return.
 *
 * Returns how much was done, at most a few units more than the budget; 0: nothing to do before the
 * next wake-up, or before vmbus_guest_timeout().
 * Errors: STATE  called from a callback
 * Effect: all callbacks come from here.
 * Threads: one at a time; whoever calls it is "the guest's thread" meanwhile.
 */
VMBUS_API int vmbus_guest_dispatch(struct vmbus_guest *guest, uint32_t budget);

/*
 * How long to sleep at most: a message that the parent did not take is posted again after a while,
 * without a wake-up, and calls made outside of callbacks (open, close, share, unshare, set_vp,
 * connect, disconnect, tl_connect, pause, resume, set_monitor) leave work for the next dispatch.
 *
 * Returns nanoseconds; 0: dispatch now; UINT64_MAX: sleep until there is a wake-up.
 * Effect: none.
 * Threads: the guest's.
 */
VMBUS_API uint64_t vmbus_guest_timeout(const struct vmbus_guest *guest);

/*
 * For programs that wait: dispatch and idle until the state is reached.
 *
 * timeout_ns  nanoseconds of the backend's time.
 *
 * Errors: AGAIN   the time is over
 *	   PEER	   cannot be any more: refused, or the parent is gone
 *	   STATE   cannot be: not connecting; or called from a callback, and then at once
 *	   NOTSUP  the backend cannot idle
 * Effect: as vmbus_guest_dispatch().
 * Threads: the guest's.
 */
VMBUS_API int vmbus_guest_wait(struct vmbus_guest *guest, enum vmbus_guest_state state,
			       uint64_t timeout_ns);

/*
 * Whole pages of zeroes that vmbus_vsc_share() takes, from the backend; and back.  Never give pages
 * back that are lost.
 *
 * count  pages; the same number for both calls.
 *
 * Returns NULL when there are none, or count is 0.
 * Effect: none on the guest.  Pages that are shared, being shared, or not known to the backend are
 *	  not taken back; the log says so.
 * Threads: the guest's.
 */
VMBUS_API void *vmbus_guest_pages(struct vmbus_guest *guest, uint32_t count);
VMBUS_API void vmbus_guest_pages_free(struct vmbus_guest *guest, void *pages, uint32_t count);

/*
 * The counters of the machine: messages, and what was wrong with them.
 *
 * Effect: none but on stats.
 * Threads: the guest's.
 */
VMBUS_API void vmbus_guest_stats(const struct vmbus_guest *guest, struct vmbus_cli_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
