/* SPDX-License-Identifier: MIT */
/*
 * The child's half of the channel protocol as a machine: events in, actions out.  It does no I/O,
 * allocates nothing and knows no clock, and it believes the parent no more than the parent believes
 * a child.
 *
 * Concepts, the states and what every message does in each: vmbus_channel(7).  Most guests want the
 * runtime of guest.h, which drives this machine.  Nothing here needs a C library.
 */
#ifndef VMBUS_CLI_H
#define VMBUS_CLI_H

#include <vmbus/ctl.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_cli; /* opaque; lives in storage of the caller's */

/* Limits and what to ask for; 0 takes the default in brackets. */
struct vmbus_cli_opts {
	size_t struct_bytes;  /* sizeof(struct vmbus_cli_opts) */
	uint32_t chans_max;   /* [2047] channels that we take note of */
	uint32_t gpadls_max;  /* [chans_max * 2 + 64] page lists of ours at once, at most 8192 */
	uint32_t queue_max;   /* [64] messages waiting to be posted, 2 to 4096 */
	uint32_t version_max; /* [VMBUS_PROTO_5_3] first version to try */
	uint32_t version_min; /* [VMBUS_PROTO_2_4] last version to try */
	uint32_t features;    /* [0] VMBUS_FEATURE_* to ask for (6.0) */
	uint32_t target_vp;   /* VP that gets the messages */
	uint32_t target_sint; /* [VMBUS_SINT_MESSAGE] */
	uint64_t monitor_p2c; /* 0, or guest physical addresses of two pages of ours */
	uint64_t monitor_c2p;
	struct vmbus_guid client_id; /* with VMBUS_FEATURE_CLIENT_ID */
	uint32_t reserved[4];
};

/*
 * A channel or page list of the machine: a slot and the generation of its occupant.  A ref whose
 * occupant is gone fits nothing any more, and one of zeroes never fits.
 */
struct vmbus_cli_ref {
	uint32_t slot;
	uint32_t gen;
};

/* What happened, or must be done; vmbus_cli_next() hands it out.  status is 0 for success. */
enum vmbus_cli_act {
	VMBUS_CLI_POST = 1,  /* post a control message: conn_id, bytes, len; then posted() */
	VMBUS_CLI_CONNECTED, /* features, monitor_p2c and monitor_c2p of the parent's if it has */
	VMBUS_CLI_REFUSED,   /* no version suited the parent, or no contact came about: status */
	VMBUS_CLI_UNLOADED,  /* the parent has answered UNLOAD; or status: the connection failed */
	VMBUS_CLI_OFFERED,   /* a channel: vmbus_cli_info() tells about it */
	VMBUS_CLI_ALL_OFFERED,
	VMBUS_CLI_RESCINDED,   /* stop using the channel, then vmbus_cli_release() it */
	VMBUS_CLI_OPENED,      /* status 0: rings are live; else it is closed again */
	VMBUS_CLI_GPADL_READY, /* status 0: the page list may be used; else the memory is ours */
	VMBUS_CLI_GPADL_GONE,  /* the parent has let go: the memory is ours again */
	VMBUS_CLI_GPADL_LOST,  /* it may still use the memory: never reuse it */
	VMBUS_CLI_MODIFIED,
	VMBUS_CLI_TL_RESULT, /* hv_sock: refused; an accepted request is an offer */
	VMBUS_CLI_PAUSED,
	VMBUS_CLI_CONNECTION_MODIFIED /* status 0: the parent uses the new monitor pages */
};

struct vmbus_cli_action {
	uint32_t act; /* enum vmbus_cli_act */
	uint32_t status;
	struct vmbus_cli_ref chan;
	struct vmbus_cli_ref list; /* GPADL_* */
	uint32_t gpadl;
	uint32_t conn_id; /* POST */
	uint32_t len;
	uint32_t ctl_type; /* POST: enum vmbus_ctl_type, for logs */
	uint32_t features; /* CONNECTED: VMBUS_FEATURE_* agreed on */
	uint32_t reserved;
	uint64_t monitor_p2c; /* CONNECTED with VMBUS_FEATURE_SERVER_MONITOR: pages to use */
	uint64_t monitor_c2p;
	struct vmbus_ctl_tl tl;
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
};

/* States of a channel; the table is in vmbus_channel(7). */
enum vmbus_cli_state {
	VMBUS_CLI_FREE = 0,
	VMBUS_CLI_CLOSED, /* offered */
	VMBUS_CLI_OPENING,
	VMBUS_CLI_OPEN,
	VMBUS_CLI_RESCINDED_CLOSED, /* rescinded, not released by us yet */
	VMBUS_CLI_RESCINDED_OPEN,   /* rescinded while it was open, not closed by us yet */
	VMBUS_CLI_STATES
};

struct vmbus_cli_info {
	struct vmbus_cli_ref chan;
	uint32_t state;	 /* enum vmbus_cli_state */
	uint32_t gpadls; /* page lists, gone ones included until the caller was told */
	struct vmbus_ctl_offer offer;
};

struct vmbus_cli_open {
	struct vmbus_cli_ref list; /* accepted page list of the rings */
	uint32_t downstream_page;  /* first page of the ring from the parent */
	uint32_t target_vp;	   /* VMBUS_VP_NONE: we poll */
	uint32_t conn_id;	   /* VMBUS_FEATURE_SIGNAL_PARAMS: we signal here, [the offer's] */
	uint16_t event_flag;	   /* same: the parent raises this flag, [the relid] */
	uint16_t redirect;	   /* VMBUS_FEATURE_REDIRECT */
	uint8_t user[120];
};

struct vmbus_cli_stats {
	uint64_t messages; /* from the parent */
	uint64_t posted;
	uint64_t malformed;	 /* no such type, or too short */
	uint64_t out_of_order;	 /* not asked for, answered already, or not allowed in this state */
	uint64_t unknown_chan;	 /* relid that was not offered */
	uint64_t refused_offers; /* bad relid, relid or instance in use, no room */
	uint64_t post_failures;	 /* hypercall statuses that no retry helps */
	uint64_t reserved[7];
};

/*
 * The bytes of storage that a machine with these limits needs.
 *
 * opts	  limits; 0 members take their defaults.
 *
 * Returns 0 when a limit is out of bounds or opts is not valid, see vmbus_cli_init().
 * Effect: none.
 * Threads: any.
 */
VMBUS_API size_t vmbus_cli_bytes(const struct vmbus_cli_opts *opts);

/*
 * Set a machine up, not connected.
 *
 * storage  aligned to 16 bytes; kept: the machine is there until the caller reuses it.
 * bytes    its size, at least vmbus_cli_bytes(opts).
 * opts	    copied.
 * cli	    on success, the machine.
 *
 * Errors: INVAL  a pointer is missing or not aligned, struct_bytes is too small, a version is none
 *		  or min is above max, a feature is none that we have, or one monitor page is missing
 *		  or not page-aligned
 *	   RANGE  a limit or target_sint is past its bounds, target_vp is VMBUS_VP_NONE, or storage
 *		  is too small
 * Effect: writes storage.  None on error.
 * Threads: any.
 */
VMBUS_API int vmbus_cli_init(void *storage, size_t bytes, const struct vmbus_cli_opts *opts,
			     struct vmbus_cli **cli);

/*
 * Begin: contact the parent with each version from version_max down until one suits, then request
 * its offers.  CONNECTED or REFUSED follows; after CONNECTED, OFFERED for each channel and
 * ALL_OFFERED.
 *
 * Errors: STATE  a connection exists or is being made
 *	   AGAIN  an action of an earlier connection was not taken yet
 * Effect: queues a message.  Channels of an earlier connection stay until they are released.
 * Threads: one at a time per machine, here and in all calls on it.
 * Source: [CTL-CONTACT], [CTL-VERSION] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_connect(struct vmbus_cli *cli);

/*
 * Leave: UNLOADED follows, and before it RESCINDED for each channel that was not released.
 *
 * Errors: STATE  not connected, a channel is not closed, a page list is not gone, or the answer to
 *		  pause is awaited
 *	   FULL	  the queue is full: post messages first
 * Effect: queues a message; no call about a channel but release is allowed from now on.
 * Threads: one at a time per machine.
 * Source: [CTL-UNLOAD] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_unload(struct vmbus_cli *cli);

/*
 * The parent is gone without a word, or is given up.  Every request under way is answered with a
 * failure, every channel is RESCINDED and every page list that the parent may have seen is LOST.
 *
 * Effect: as said; the queue is emptied.  None when there is no connection.
 * Threads: one at a time per machine.
 */
VMBUS_API void vmbus_cli_disconnect(struct vmbus_cli *cli);

/*
 * A message of the parent's.
 *
 * bytes  a private copy of it, header included.
 * len	  its bytes, as the SynIC message said.
 *
 * After a contact that was given up an answer to the next one counts only when vmbus_cli_posted() has
 * told of it: the answer does not say to which of them it is.
 *
 * Returns 0 when it was taken, also when it was refused: what follows from it are actions, refusals
 * are counters.
 * Errors: INVAL  bytes is NULL
 *	   PEER	  an answer to the contact that nothing can be done with: REFUSED follows
 * Effect: may add actions, never more than there are channels, lists and requests to tell about.
 * Threads: one at a time per machine.
 * Source: [CTL-TYPE] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_message(struct vmbus_cli *cli, const void *bytes, size_t len);

/*
 * The next action.
 *
 * action  on 1, what to do or know.  POST is handed out only when the one before it was answered by
 *	   vmbus_cli_posted(); all other actions come regardless.
 *
 * Returns 1 with one, 0 when there is nothing to do now.
 * Effect: the action is taken; a page list told as GONE or LOST, or not READY, has no ref any more.
 * Threads: one at a time per machine.
 */
VMBUS_API int vmbus_cli_next(struct vmbus_cli *cli, struct vmbus_cli_action *action);

/*
 * What became of the last POST.
 *
 * hv_status  status of the hypercall.  0: posted.  0x0B and 0x13, and 0x12 for all but a contact:
 *	      the same message is handed out again, after vmbus_cli_next() has returned 0 once; the
 *	      caller paces.  Else it has failed: a contact goes on with the next version, a request
 *	      is answered with this status, a page list being torn down is LOST, and one that the
 *	      parent has seen a part of is torn down.  After RELID_RELEASED nothing follows; after
 *	      any other message that has no answer the connection ends with UNLOADED.
 *
 * Errors: STATE  no POST was handed out
 * Effect: may add actions.
 * Threads: one at a time per machine.
 * Source: [HC-STATUS], [CTL-CONTACT] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_posted(struct vmbus_cli *cli, uint32_t hv_status);

/*
 * Describe memory to the parent: one range of whole pages.  GPADL_READY or GPADL_LOST follows; or
 * GPADL_GONE, when a part could not be posted and the parent has let go of the rest.
 *
 * chan	  the channel that it is for: closed, opening or open.
 * pfns	  page numbers; kept until one of these, read while the messages are made.
 * count  pages, 1 to 8190.
 * list	  on success, the page list; not to be used before GPADL_READY with status 0.
 *
 * Errors: INVAL  a pointer is missing
 *	   RANGE  no such count
 *	   STATE  not connected, paused, stale ref, or not in this state of the channel
 *	   FULL	  too many page lists, or the queue is full
 * Effect: queues its messages.  None on error.
 * Threads: one at a time per machine.
 * Source: [CTL-GPADL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_gpadl(struct vmbus_cli *cli, struct vmbus_cli_ref chan,
			      const uint64_t *pfns, uint32_t count, struct vmbus_cli_ref *list);

/*
 * Ask the parent to let go of a page list.  GPADL_GONE or GPADL_LOST follows.  The list that a
 * channel was opened with can go only after the close.
 *
 * Errors: STATE  not connected, paused, stale ref, not READY, or the rings of an open channel
 *	   AGAIN  its GPADL_READY was not taken yet
 *	   FULL	  the queue is full
 * Effect: queues a message.  None on error.
 * Threads: one at a time per machine.
 * Source: [CTL-GPADL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_gpadl_teardown(struct vmbus_cli *cli, struct vmbus_cli_ref list);

/*
 * Open a channel.  OPENED follows.
 *
 * open	  copied; each ring has 2 pages or more, so downstream_page is 2 to the pages of the list less 2.
 *
 * Errors: INVAL  open is NULL
 *	   STATE  not connected, paused, stale ref, not closed, or the list is not READY or not of
 *		  this channel
 *	   RANGE  no such downstream_page
 *	   AGAIN  OPENED or GPADL_READY was not taken yet
 *	   FULL	  the queue is full
 * Effect: queues a message.  None on error.
 * Threads: one at a time per machine.
 * Source: [CTL-OPEN] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_open(struct vmbus_cli *cli, struct vmbus_cli_ref chan,
			     const struct vmbus_cli_open *open);

/*
 * Close an open channel, rescinded or not.  There is no answer: the page list of the rings can be
 * torn down at once, and when it is GONE the parent uses the rings no more.
 *
 * Errors: STATE  not connected, paused, stale ref, or not open
 *	   FULL	  the queue is full
 * Effect: queues a message, unless the connection has ended.  None on error.
 * Threads: one at a time per machine.
 * Source: [CTL-CLOSE] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_close(struct vmbus_cli *cli, struct vmbus_cli_ref chan);

/*
 * Move the interrupts of an open channel to another VP.  MODIFIED follows: from 5.3 on with the
 * parent's answer, before that as soon as the message was posted.
 *
 * target_vp  not VMBUS_VP_NONE.
 *
 * Errors: STATE   not connected, paused, stale ref, or not open
 *	   RANGE   no such VP
 *	   NOTSUP  the version is below 4.1
 *	   AGAIN   MODIFIED of the last call was not taken yet
 *	   FULL	   the queue is full
 * Effect: queues a message.  None on error.
 * Threads: one at a time per machine.
 * Source: [CTL-MODIFY] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_modify(struct vmbus_cli *cli, struct vmbus_cli_ref chan,
			       uint32_t target_vp);

/*
 * Let go of a rescinded channel whose page lists are gone; the ref has no meaning any more.
 *
 * Errors: STATE  stale ref, not rescinded, it has page lists, or paused
 *	   AGAIN  an action of it was not taken yet
 *	   FULL	  the queue is full
 * Effect: queues a message, unless the connection has ended or UNLOAD is under way; the parent may
 *	   then offer another channel with the same relid.  None on error.
 * Threads: one at a time per machine.
 * Source: [CTL-RELEASE] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_release(struct vmbus_cli *cli, struct vmbus_cli_ref chan);

/*
 * hv_sock: ask the parent for a channel to a service.  The answer is an offer with class service_id
 * and instance endpoint_id, or TL_RESULT with the refusal; before 4.1 there are no refusals, and the
 * caller waits as long as it likes.
 *
 * tl	  copied; a silo id needs 5.2.
 *
 * Errors: INVAL   tl is NULL
 *	   STATE   not connected, or paused
 *	   NOTSUP  the version is below 4.0, or below 5.2 with a silo id
 *	   AGAIN   the same request is under way
 *	   FULL	   16 requests are under way, or the queue is full
 * Effect: queues a message.  None on error.
 * Threads: one at a time per machine.
 * Source: [CTL-TL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_tl_connect(struct vmbus_cli *cli, const struct vmbus_ctl_tl *tl);

/*
 * Ask the parent to hold its messages back, until resume; PAUSED follows.  Only resume, unload and
 * disconnect are allowed meanwhile.
 *
 * Errors: STATE   pause: not all offers are delivered yet, or paused; resume: not paused
 *	   NOTSUP  VMBUS_FEATURE_PAUSE was not agreed on
 *	   AGAIN   the last PAUSED was not taken yet
 *	   FULL	   the queue is full
 * Effect: queues a message.  None on error.
 * Threads: one at a time per machine.
 * Source: [CTL-PAUSE] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_pause(struct vmbus_cli *cli);
VMBUS_API int vmbus_cli_resume(struct vmbus_cli *cli);

/*
 * Give the parent other monitor pages, or none.  CONNECTION_MODIFIED follows.
 *
 * monitor_p2c, monitor_c2p  guest physical addresses of whole pages, or both 0.
 *
 * Errors: STATE   not connected, or paused
 *	   INVAL   one is missing, or not page-aligned
 *	   NOTSUP  VMBUS_FEATURE_MODIFY_CONNECTION was not agreed on
 *	   AGAIN   CONNECTION_MODIFIED of the last call was not taken yet
 *	   FULL	   the queue is full
 * Effect: queues a message.  None on error.
 * Threads: one at a time per machine.
 * Source: [CTL-MODIFY-CONNECTION] in vmbus_wire(7).
 */
VMBUS_API int vmbus_cli_modify_connection(struct vmbus_cli *cli, uint64_t monitor_p2c,
					  uint64_t monitor_c2p);

/*
 * Look at the machine: the channel in a slot, 0 to chans_max - 1; the counters; the name of a state,
 * "?" for a number that is none; the agreed version, 0 without a connection; the id of a page list as
 * the parent knows it, 0 for a stale ref.
 *
 * Returns (info) 1 with info, 0 when the slot is free.
 * Errors: RANGE  (info) no such slot
 * Effect: none.
 * Threads: one at a time per machine; vmbus_cli_state_name() any.
 */
VMBUS_API int vmbus_cli_info(const struct vmbus_cli *cli, uint32_t slot,
			     struct vmbus_cli_info *info);
VMBUS_API void vmbus_cli_stats(const struct vmbus_cli *cli, struct vmbus_cli_stats *stats);
VMBUS_API const char *vmbus_cli_state_name(uint32_t state);
VMBUS_API uint32_t vmbus_cli_version(const struct vmbus_cli *cli);
VMBUS_API uint32_t vmbus_cli_gpadl_id(const struct vmbus_cli *cli, struct vmbus_cli_ref list);

#ifdef __cplusplus
}
#endif
#endif
