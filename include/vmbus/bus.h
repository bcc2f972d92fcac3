/* SPDX-License-Identifier: MIT */
/*
 * The parent's runtime: one bus for one child partition.  It offers channels, answers the child,
 * maps rings, and calls the VSPs.  It starts no thread: the embedder polls a descriptor and calls
 * dispatch with a budget.
 *
 * Concepts, threads, limits: vmbus_bus(7).
 */
#ifndef VMBUS_BUS_H
#define VMBUS_BUS_H

#include <vmbus/backend.h>
#include <vmbus/foreign.h>
#include <vmbus/hypercall.h>
#include <vmbus/save.h>
#include <vmbus/srv.h>
#include <vmbus/vsp.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_bus; /* opaque */

enum vmbus_log_level {
	VMBUS_LOG_ERROR = 1, /* a peer or the system broke something */
	VMBUS_LOG_INFO = 2   /* life cycle */
};

struct vmbus_bus_opts {
	size_t struct_bytes;		     /* sizeof(struct vmbus_bus_opts) */
	const struct vmbus_backend *backend; /* kept */
	void *backend_ctx;
	const char *name;		     /* of the child, for messages; copied */
	struct vmbus_region *const *regions; /* its memory at the start; each is kept */
	uint32_t region_count;
	uint32_t mirrors_max; /* [4096] rings mapped twice at once; others get split windows */
	struct vmbus_srv_opts limits;	 /* struct_bytes 0: all defaults; list_* must be NULL */
	const struct vmbus_dirty *dirty; /* NULL, or the marker of all pages we write; kept */
	/*
	 * A line of text; at most log_lines_max a second.  Within calls of the thread that creates,
	 * dispatches, changes, saves or destroys the bus; may not call the bus.
	 */
	void (*log)(void *ctx, enum vmbus_log_level level, const char *line);
	void *log_ctx;
	/* The channel is gone for good; its pointer has no meaning after this call.  May be NULL. */
	void (*removed)(void *ctx, struct vmbus_chan *chan);
	void *removed_ctx;
	/*
	 * The child wants an hv_sock connection.  0: it was accepted, by an offer with the flag
	 * VMBUS_OFFER_TLNPI, now or later; an error refuses it.  NULL: refuse all.
	 */
	int (*tl_connect)(void *ctx, const struct vmbus_ctl_tl *tl);
	/*
	 * A sub-channel was offered; with own_fd, as its primary, it is the embedder's to dispatch.
	 * NULL: the bus dispatches all sub-channels.
	 */
	void (*offered)(void *ctx, struct vmbus_chan *sub);
	void *events_ctx; /* of tl_connect and offered */
	bool bind_all; /* bind() the signals of every open channel, not only of those with own_fd */
	uint8_t reserved1[3];
	uint32_t posts_max;	/* [64] messages of the child that wait; at most 64 */
	uint32_t log_lines_max; /* [10] lines of the log in a second */
	uint32_t reserved2;
	uint64_t buf_bytes_max; /* [64 MiB] of buffers for packets that are larger than 16 KiB */
	/* NULL, or where the flight recorder of diag.h writes: aligned to 64 bytes, zeroed; kept. */
	void *record;
	size_t record_bytes; /* VMBUS_RECORD_BYTES_MIN to 1 GiB */
	uint64_t reserved[2];
};

struct vmbus_bus_stats {
	struct vmbus_srv_stats srv;
	uint64_t signals;	  /* from the child */
	uint64_t signals_unknown; /* to no channel of ours */
	uint64_t posts;		  /* by the child */
	uint64_t posts_refused;	  /* insufficient buffers: the inbox was full */
	uint64_t raised;	  /* event flags for the child */
	uint64_t faults;	  /* channels that the child broke */
	uint64_t mirrored;	  /* rings mapped twice now */
	uint64_t dispatches, log_dropped;
	/* What the child wanted and was refused for a quota, or did not get in full: QUOTAS. */
	uint64_t offers_refused;  /* limits.chans_max, or monitor ids; sub-channels too */
	uint64_t opens_refused;	  /* rings too large, or otherwise not as they must be */
	uint64_t lists_refused;	  /* page lists that name what is no memory, or no memory of ours */
	uint64_t mirrors_refused; /* mirrors_max: rings in split windows that could be doubled */
	uint64_t bufs_refused;	  /* buf_bytes_max, or no memory: the channel was broken */
	uint64_t charged;	  /* units of work beyond one for each message, packet and look */
	uint64_t debt;		  /* units done now that no budget has paid for yet */
	uint64_t reserved[1];
};

/* What to offer beyond what the VSP says. */
struct vmbus_offer_opts {
	size_t struct_bytes;	       /* sizeof(struct vmbus_offer_opts) */
	struct vmbus_guid instance_id; /* all zero: made from class, child and a count */
	uint32_t order;
	bool own_fd; /* the embedder dispatches it: vmbus_chan_fd(), vmbus_chan_dispatch() */
	uint8_t reserved[3];
	uint8_t user[120];
	/* 0, or look at the child's monitor page as often as this while the channel is open. */
	uint32_t monitor_us;
	uint32_t reserved1;
	uint64_t reserved2[3];
};

/*
 * Make a bus for one child.
 *
 * opts	  what is kept of it must outlive the bus; the rest is copied.
 * bus	  on success, the bus.
 *
 * Errors: INVAL   a size is wrong, backend, post, raise, regions or, with bind, unbind is missing,
 *		   limits name list_get or lack struct_bytes, regions overlap, or record is not aligned
 *	   RANGE   a limit or record_bytes is out of bounds, or a region is not page-aligned
 *	   NOMEM   out of memory
 *	   SYSTEM  no descriptor is left (RLIMIT_NOFILE); a bus has 3
 * Effect: none on error, but a line of opts->log about an option that is wrong.
 * Threads: any.
 */
VMBUS_API int vmbus_bus_create(const struct vmbus_bus_opts *opts, struct vmbus_bus **bus);

/*
 * End everything: close() of every device that is open or opening, then removed() for every channel.
 * The child is told nothing.
 *
 * close() of a channel without own_fd is called on this thread.  With own_fd its thread is told, and
 * calls close() if it dispatches the channel within 100 ms; else this thread does, and never while
 * the other is in a dispatch: a callback that runs is waited for, however long it takes, as is a
 * close() that says AGAIN, which the log names after a second.  A dispatch of the channel after that
 * returns STATE and touches nothing, until removed() has returned, which stops a thread that runs yet.
 *
 * bus	  may be NULL.
 *
 * Effect: the bus and its channels are gone; regions have no pins of the bus any more.  Within a
 * callback of the bus or of a device on it: none, but, without own_fd, a line in the log.
 * Threads: no other call on the bus or its channels may be under way, but for
 *	    vmbus_chan_close_done(), and vmbus_chan_dispatch() or _poll() of channels with own_fd.
 *	    Blocks.
 */
VMBUS_API void vmbus_bus_destroy(struct vmbus_bus *bus);

/*
 * The first half of vmbus_bus_destroy(): close() of every open device.  What follows is removed() for
 * each channel, from destroy; between the two an embedder may let go of what its devices used.
 *
 * Effect: nothing is dispatched on the bus from now on.  Twice is once.
 * Threads: as vmbus_bus_destroy(); not within a callback of the bus.  Blocks.
 */
VMBUS_API void vmbus_bus_close(struct vmbus_bus *bus);

/*
 * vmbus_bus_destroy() for those who may not wait, as in a dispatch of their own: removed() for every
 * channel, and the bus is gone, if every device is closed and no thread is left in a channel.  After
 * vmbus_bus_reset() dispatch the bus until its devices are closed, then call this.
 *
 * Returns 0: the bus is gone.
 * Errors: AGAIN  not yet: a device is open, or a thread is in vmbus_chan_dispatch(), _poll() or
 *		  _close_done(), or has a command to take.  Once all closed, nothing is dispatched
 *	   STATE  within a callback of the bus
 * Effect: removed() is called once for each channel, by the first call that finds no thread left.
 * Threads: as vmbus_bus_destroy().  Never waits.
 */
VMBUS_API int vmbus_bus_end(struct vmbus_bus *bus);

/*
 * Whether the calling thread is within a callback of the bus, or of a device on it, where it must
 * not be dispatched or destroyed.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API bool vmbus_bus_in_callback(struct vmbus_bus *bus);

/*
 * A descriptor to poll: readable (EPOLLIN, level-triggered) while dispatch has work.  The bus owns
 * it.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_bus_fd(const struct vmbus_bus *bus);

/*
 * Do work: answer the child, run timers, call devices.  Never blocks, whatever the child does.
 *
 * budget  units of work, messages and packets, at most; 0 does nothing.
 *
 * What costs more than a message, such as an open of large rings or what a device sends of its own
 * accord, counts for more units; those that the budget does not cover are a debt, which the budgets
 * of the next calls pay first.
 *
 * Returns the units done, 0 when there was nothing to do.  When the budget is spent the descriptor
 * stays readable.
 * Errors: STATE  within a callback that this bus called, or the bus is ending: nothing was done
 * Effect: callbacks of devices and of vmbus_bus_opts.
 * Threads: one at a time per bus; never from a callback.
 */
VMBUS_API int vmbus_bus_dispatch(struct vmbus_bus *bus, uint32_t budget);

/*
 * Offer a channel to the child, now or at its next contact.
 *
 * vsp	  the device; kept.
 * ctx	  for vmbus_chan_ctx(); kept.
 * opts	  NULL for defaults.
 * chan	  on success, the channel; may be NULL.  Valid until removed().
 *
 * Errors: INVAL   a size is wrong, name or packets is missing, the instance is in use, offer_flags has
 *		   one that does not exist, or own_fd is set and the vsp is FOREIGN
 *	   FULL	   the quota of channels, or of monitor ids (128), is used up
 *	   NOMEM   out of memory, or of descriptors for own_fd
 * Effect: none on error but a line in the log, which names what is wrong.  Never waits: the storage
 * of a channel that is gone is used again, and freed with the bus.
 * Threads: the one that dispatches the bus, callbacks included.
 * Source: [CTL-OFFER] in vmbus_wire(7).
 */
VMBUS_API int vmbus_bus_offer(struct vmbus_bus *bus, const struct vmbus_vsp *vsp, void *ctx,
			      const struct vmbus_offer_opts *opts, struct vmbus_chan **chan);

/*
 * Withdraw a channel, its sub-channels first.  Done by the next dispatch of the bus: the child sees
 * RESCIND, the device close(); removed() follows when the child has let go.  Twice is once.
 *
 * Returns 0.
 * Effect: see above.
 * Threads: any, callbacks included; not after removed().
 * Source: [CTL-CLOSE] in vmbus_wire(7).
 */
VMBUS_API int vmbus_bus_revoke(struct vmbus_chan *chan);

/*
 * The descriptor of a channel with own_fd: readable while vmbus_chan_dispatch() has work, also to
 * open and to close it.  Until removed(), which must see to it that no thread is in the channel nor
 * comes later, and that no epoll has it: it is not closed then, and may be the next channel's.
 *
 * Errors: INVAL  the channel has no own_fd
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_chan_fd(const struct vmbus_chan *chan);

/*
 * Dispatch a channel with own_fd: open and close the device, deliver packets.
 *
 * budget  units at most, packets, calls of ready() and what was charged; 0 does nothing.
 *
 * Returns the units done.  0: nothing is left, and the descriptor becomes readable when there is.
 * When the budget is spent the descriptor stays readable.
 * Errors: INVAL  the channel has no own_fd
 *	   STATE  within a callback of the channel, or the bus is ending and has closed it
 * Effect: callbacks of its device.
 * Threads: one at a time per channel; another one may dispatch the bus.
 */
VMBUS_API int vmbus_chan_dispatch(struct vmbus_chan *chan, uint32_t budget);

/*
 * The same, but look for packets for up to spin_ns before the channel is armed and 0 returned.
 * After a return above 0 call again before you sleep: the descriptor need not be readable.
 *
 * spin_ns  0: as vmbus_chan_dispatch().
 *
 * Returns, errors, effect, threads: as vmbus_chan_dispatch().
 */
VMBUS_API int vmbus_chan_poll(struct vmbus_chan *chan, uint32_t budget, uint64_t spin_ns);

/*
 * Add memory to the child.
 *
 * region  kept until it is removed and has no pins.
 *
 * Errors: INVAL  it overlaps another, or has no host pointer
 *	   RANGE  64 regions are there, or it is not page-aligned
 *	   NOMEM  out of memory
 * Effect: none on error.
 * Threads: any but a callback.  Waits for a grace period.
 */
VMBUS_API int vmbus_bus_mem_add(struct vmbus_bus *bus, struct vmbus_region *region);

/*
 * Take memory away from the child, and wait, up to a second, until nobody uses it.
 *
 * region  one that was added; one that is out of the map already is only waited for.
 *
 * Errors: AGAIN  out of the map, but still pinned by rings or lists of devices: call again
 *	   NOMEM  out of memory; nothing has changed
 * Effect: no new use of the region; after a return of 0 it may be unmapped.
 * Threads: any but a callback.  Blocks.
 */
VMBUS_API int vmbus_bus_mem_remove(struct vmbus_bus *bus, struct vmbus_region *region);

/*
 * Copy out of the child's memory.
 *
 * gpa	  where; may cross regions that touch.
 * to	  len bytes of private memory.
 *
 * Errors: RANGE  no memory there
 *	   PERM	  memory that may not be read
 * Effect: none but on to.
 * Threads: any.
 */
VMBUS_API int vmbus_bus_mem_read(struct vmbus_bus *bus, vmbus_gpa_t gpa, void *to, size_t len);

/*
 * The child posts a message.  From the backend.
 *
 * conn_id  VMBUS_CONN_MESSAGE, VMBUS_CONN_CONTACT, or limits.message_conn.
 * type	    VMBUS_MSG_TYPE_CTL.
 * payload  borrowed; bytes of it, 0 to 240.
 *
 * Returns enum vmbus_hc_status: OK, CONNECTION_ID (no such connection), PARAMETER (type or length),
 * NO_BUFFERS (posts_max messages wait: try again).
 * Effect: the bus becomes readable.
 * Threads: any.  Never blocks, takes no lock, allocates nothing.
 * Source: [HC-POST], [CTL-QUEUE] in vmbus_wire(7).
 */
VMBUS_API uint32_t vmbus_bus_post_message(struct vmbus_bus *bus, uint32_t conn_id, uint32_t type,
					  const void *payload, uint32_t bytes);

/*
 * The child signals an event.  From the backend.
 *
 * conn_id  of a channel's offer, or of its opening.
 * flag	    0 to 2047; channels look at no flag.
 *
 * Returns enum vmbus_hc_status: OK, CONNECTION_ID (of no channel), PARAMETER (flag).
 * Effect: the channel is looked at by the thread that dispatches it.
 * Threads: any.  Never blocks and takes no lock.
 * Source: [HC-SIGNAL] in vmbus_wire(7).
 */
VMBUS_API uint32_t vmbus_bus_signal_event(struct vmbus_bus *bus, uint32_t conn_id, uint32_t flag);

/*
 * These two, and vmbus_bus_mem_read(), as a table for vmbus_hc_dispatch() with the bus as context.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const struct vmbus_hc_ops *vmbus_bus_hc_ops(void);

/*
 * A message slot of the child is free: what waited for it is posted by the next dispatch.  From the
 * backend, after its post() said AGAIN; more often is harmless.
 *
 * Effect: the bus becomes readable.
 * Threads: any.
 */
VMBUS_API void vmbus_bus_slot_free(struct vmbus_bus *bus, uint32_t vp, uint32_t sint);

/*
 * The child was reset or is gone: the next dispatch closes everything of its and drops what it has
 * posted.  The offers stay for its next contact, but for hv_sock and sub-channels.  From the backend.
 *
 * Effect: the bus becomes readable.
 * Threads: any.
 */
VMBUS_API void vmbus_bus_reset(struct vmbus_bus *bus);

/*
 * The counters.
 *
 * Effect: none.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API void vmbus_bus_stats(const struct vmbus_bus *bus, struct vmbus_bus_stats *stats);

/*
 * Call fn for every channel, by rising relid.
 *
 * fn	  may not offer or dispatch.
 *
 * Effect: none but fn's.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API void vmbus_bus_list(struct vmbus_bus *bus,
			      void (*fn)(void *ctx, const struct vmbus_chan_info *info), void *ctx);

/*
 * The name that the bus was given; up to 63 bytes of it.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const char *vmbus_bus_name(const struct vmbus_bus *bus);

/*
 * The child's reference time: what its clocks say that Hyper-V's interface defines.
 *
 * Returns units of 100 ns that never go back; 0 when the backend has no such time.
 * Effect: none.
 * Threads: any.
 * Source: TIME_REF_COUNT, [HV-MSR] in vmbus_wire(7).
 */
VMBUS_API uint64_t vmbus_bus_time(struct vmbus_bus *bus);

#ifdef __cplusplus
}
#endif
#endif
