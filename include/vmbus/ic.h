/* SPDX-License-Identifier: MIT */
/*
 * Three integration components, both ends: shutdown, time synchronization, heartbeat.
 *
 * Concepts, what each does with a Linux guest: vmbus_ic(7).  The parent's side is hosted
 * (vmbus::vmbus), the child's freestanding (vmbus::core).
 */
#ifndef VMBUS_IC_H
#define VMBUS_IC_H

#include <vmbus/vsc.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_bus;
struct vmbus_ic; /* opaque: the components of one child */

#define VMBUS_IC_SHUTDOWN 1u
#define VMBUS_IC_TIMESYNC 2u
#define VMBUS_IC_HEARTBEAT 4u

/* Classes of their channels, [CTL-CLASS]. */
#define VMBUS_IC_SHUTDOWN_CLASS                                                                    \
	VMBUS_GUID(0x0e0b6031, 0x5213, 0x4934, 0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed, 0x39, 0xdb)
#define VMBUS_IC_TIMESYNC_CLASS                                                                    \
	VMBUS_GUID(0x9527e630, 0xd0ae, 0x497b, 0xad, 0xce, 0xe8, 0x0a, 0xb0, 0x17, 0x5c, 0xaf)
#define VMBUS_IC_HEARTBEAT_CLASS                                                                   \
	VMBUS_GUID(0x57164f39, 0x9115, 0x4e78, 0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d)

#define VMBUS_IC_FORCE 1u /* flags of a shutdown request, [IC-SHUTDOWN] */
#define VMBUS_IC_RESTART 2u
#define VMBUS_IC_HIBERNATE 4u
#define VMBUS_IC_TEXT_MAX 1023u /* characters */

#define VMBUS_IC_OK 0u /* statuses of an answer, [IC-STATUS] */
#define VMBUS_IC_FAILED 0x80004005u
#define VMBUS_IC_NOT_SUPPORTED 0x80070032u
#define VMBUS_IC_INVALID 0x80070057u
#define VMBUS_IC_LOCKED 0x800704F7u /* a user's session is locked: ask with VMBUS_IC_FORCE */

/* What happened. */
enum vmbus_ic_event {
	VMBUS_IC_READY = 1, /* opened by the child, versions agreed on; value is the message's */
	VMBUS_IC_GONE,	    /* a component that was READY is closed, by the child or for a fault */
	VMBUS_IC_ANSWERED,  /* shutdown: the child answered; value is its status, 0: accepted */
	VMBUS_IC_ALIVE,	    /* heartbeat: the first answer, or the first after LOST */
	VMBUS_IC_LOST,	    /* heartbeat: value answers in a row are missing */
	VMBUS_IC_REFUSED    /* the child knows none of our versions: it stays unused */
};

/* Options of vmbus_ic_create(); 0 takes the default in brackets. */
struct vmbus_ic_opts {
	size_t struct_bytes;   /* sizeof(struct vmbus_ic_opts) */
	uint32_t components;   /* [all] VMBUS_IC_* to offer */
	uint32_t lost_after;   /* [5] heartbeats without an answer until LOST */
	uint64_t heartbeat_ns; /* [2 s] between two heartbeats, 1 ms at least */
	uint64_t sample_ns;    /* [5 s] between two time samples, 1 ms at least */
	/* From the thread that dispatches the bus.  It may make any call here but create, destroy
	   and dispatch.  May be NULL. */
	void (*event)(void *ctx, uint32_t component, enum vmbus_ic_event event, uint64_t value);
	void *ctx;
	/* Wall-clock time, 100 ns since 1601-01-01 UTC.  NULL: the system's clock. */
	uint64_t (*wall_time)(void *ctx);
	uint64_t reserved[4];
};

struct vmbus_ic_info {
	uint32_t ready; /* VMBUS_IC_* that are ready */
	bool alive;	/* heartbeats are answered: from the first answer until LOST */
	uint8_t reserved1[3];
	uint32_t
		framework; /* version agreed on by the component opened last: major << 16 | minor */
	uint32_t message;
	uint64_t beats; /* heartbeats answered */
	uint64_t missed;
	uint64_t samples; /* of time, answered; the first of each opening sets the clock */
	uint64_t broken;  /* channels that the child broke by what it sent */
	uint64_t reserved2[4];
};

/*
 * Offer the components on a bus.
 *
 * bus	 must have closed its devices before the components are destroyed.
 * opts	 copied; NULL for defaults.
 *
 * Errors: INVAL  struct_bytes is too small, or a component is on this bus already
 *	   RANGE  components, heartbeat_ns or sample_ns
 *	   FULL, NOMEM  as vmbus_bus_offer()
 *	   SYSTEM  no descriptor is left
 * Effect: none on error.
 * Threads: the one that dispatches the bus.
 * Source: [IC-OFFER] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ic_create(struct vmbus_bus *bus, const struct vmbus_ic_opts *opts,
			      struct vmbus_ic **ic);

/*
 * End it.  No device of the bus may be open any more: after vmbus_bus_destroy() or vmbus_bus_close(),
 * or in detached() of a vmbus_shm_server.
 *
 * ic  NULL is allowed.
 *
 * Effect: ic is freed, its descriptor closed.
 * Threads: no other call on ic may be under way.
 */
VMBUS_API void vmbus_ic_destroy(struct vmbus_ic *ic);

/*
 * A descriptor to poll: readable (EPOLLIN, level-triggered) when vmbus_ic_dispatch() has work, that
 * is, when it is time for a heartbeat or sample.  Nothing wakes while no component is ready.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_ic_fd(const struct vmbus_ic *ic);

/*
 * Send what is due.
 *
 * Returns how many messages were sent.
 * Effect: event() may be called.
 * Threads: the one that dispatches the bus; not from a callback.
 */
VMBUS_API int vmbus_ic_dispatch(struct vmbus_ic *ic);

/*
 * Ask the child to shut down.
 *
 * flags      VMBUS_IC_FORCE, with one of _RESTART and _HIBERNATE or none.
 * timeout_s  that the child is told.
 * text	      ASCII, for the child's user, up to VMBUS_IC_TEXT_MAX bytes; NULL: none.
 *
 * Errors: STATE  the component is not ready, or a request is under way
 *	   RANGE  flags, text
 *	   FULL	  no room in the ring: again later
 *	   PEER, FAULT	the child broke the channel
 * Effect: ANSWERED follows, or GONE; then wait for the power-off with a timer of your own.
 * Threads: the one that dispatches the bus.
 * Source: [IC-SHUTDOWN] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ic_shutdown(struct vmbus_ic *ic, uint32_t flags, uint32_t timeout_s,
				const char *text);

/*
 * Set the child's clock once more: it was paused, or the parent's clock was set.
 *
 * Errors: STATE  the component is not ready
 * Effect: a message that sets the clock, now, or when the one under way is answered.
 * Threads: the one that dispatches the bus.
 * Source: [IC-TIME] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ic_sync(struct vmbus_ic *ic);

/*
 * What is known of the child.
 *
 * Effect: none but on info.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API void vmbus_ic_info(const struct vmbus_ic *ic, struct vmbus_ic_info *info);

/* ---- the child's side ---- */

/* What the child does when it is asked; each may be NULL.  All come from the channel's thread. */
struct vmbus_ic_client_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_ic_client_opts) */
	/* Returns the status for the parent, VMBUS_IC_OK: accepted.  It is sent when dispatch
	   returns: act after that. */
	uint32_t (*shutdown)(void *ctx, uint32_t flags, uint32_t timeout_s);
	/* host_time at reference_time (0: now), 100 ns since 1601; sync: set the clock. */
	void (*time)(void *ctx, uint64_t host_time, uint64_t reference_time, bool sync);
	void (*beat)(void *ctx, uint64_t sequence);
	void *ctx;
	/* NULL, or target_vp, poll, own_thread, wake, and ring sizes [12 KiB each]; copied. */
	const struct vmbus_vsc_opts *open;
	uint64_t reserved[3];
};

/* One component of the child, in the caller's storage. */
struct vmbus_ic_client {
	struct vmbus_ic_client_opts opts_p;
	struct vmbus_vsc *vsc_p;
	uint32_t component_p;
	uint32_t framework_p;
	uint32_t message_p;
	uint32_t flags_p;
	uint64_t reserved_p[16];
};

/*
 * Open an offered channel of one of the three classes and serve it, from its callbacks.
 *
 * client  caller's storage; kept until the channel is closed.  vmbus_vsc_priv() of vsc is client.
 * opts	   copied.
 *
 * Errors: INVAL  struct_bytes is too small, or vsc is of another class
 *	   STATE, NOMEM, and INVAL and RANGE for open  as vmbus_vsc_open()
 * Effect: opens the channel; close it with vmbus_vsc_close().  None on error.
 * Threads: the guest's.
 * Source: [IC-MESSAGE], [IC-NEGOTIATE] in vmbus_wire(7).
 */
VMBUS_API int vmbus_ic_client_start(struct vmbus_ic_client *client, struct vmbus_vsc *vsc,
				    const struct vmbus_ic_client_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
