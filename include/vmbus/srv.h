/* SPDX-License-Identifier: MIT */
/*
 * The parent's half of the channel protocol as a machine: events in, actions out.  It does no I/O,
 * allocates nothing but page lists, by the caller's hand, and knows no clock.  One machine serves
 * one child, and lives in storage of the caller's.
 *
 * Concepts, the states and what every message does in each: vmbus_channel(7).  Most embedders want
 * the runtime of bus.h, which drives this machine.  Nothing here needs a C library.
 */
#ifndef VMBUS_SRV_H
#define VMBUS_SRV_H

#include <vmbus/ctl.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_srv; /* opaque; lives in storage of the caller's */

/* Quotas and limits; 0 takes the default in brackets. */
struct vmbus_srv_opts {
	size_t struct_bytes;		/* sizeof(struct vmbus_srv_opts) */
	uint32_t chans_max;		/* [2047] offered at once, revoked ones included */
	uint32_t gpadls_max;		/* [chans_max * 2 + 64, at most 8192] */
	uint32_t gpadls_unfinished_max; /* [16] page lists whose bodies are missing */
	uint64_t gpadl_bytes_max;	/* [1 GiB] of memory described by page lists at once */
	uint32_t queue_max;		/* [64] messages waiting to be posted to the child */
	uint32_t version_max;		/* [VMBUS_PROTO_5_3] */
	uint32_t features;		/* [0] VMBUS_FEATURE_* that we may agree to (6.0) */
	uint32_t message_conn; /* [VMBUS_CONN_MESSAGE] id told to children of 5.0 and later */
	uint32_t tl_max;       /* [16] hv_sock connect requests in flight */
	uint32_t hash_seed;    /* [0] a number that the child cannot guess; any; bus.h takes one */
	uint32_t reserved[3];
	/* Memory for page lists: qwords of 8 bytes.  list_get may say NULL: the list is refused. */
	uint64_t *(*list_get)(void *ctx, uint32_t qwords);
	void (*list_put)(void *ctx, uint64_t *list, uint32_t qwords);
	void *list_ctx;
};

/* What to offer. */
struct vmbus_offer {
	struct vmbus_guid class_id;
	struct vmbus_guid instance_id;
	uint16_t flags; /* VMBUS_OFFER_* */
	uint16_t mmio_mb;
	uint16_t sub_index; /* 0: primary; else class and instance are the primary's */
	uint16_t reserved;
	uint32_t monitor_id; /* VMBUS_MONITOR_NONE, or 0 to 127 */
	uint32_t order;	     /* offered in the order of class, this number, instance */
	uint8_t user[120];
};

/* A channel of the machine: a slot and the generation of its occupant. */
struct vmbus_srv_ref {
	uint32_t slot;
	uint32_t gen;
};

/* What the caller must do next; vmbus_srv_next() hands them out in order. */
enum vmbus_srv_act {
	VMBUS_SRV_SEND = 1,	/* post a control message: target_vp, target_sint, bytes, len */
	VMBUS_SRV_CONNECTED,	/* a child agreed on version and features; monitor pages told */
	VMBUS_SRV_DISCONNECTED, /* it unloaded or began anew; everything of its was taken back */
	VMBUS_SRV_OPEN,		/* set the rings up and open the device: answer opened() */
	VMBUS_SRV_CLOSE,	/* close the device and let go of the rings: answer closed() */
	VMBUS_SRV_GPADL,	/* a page list is complete: answer gpadl_ready() */
	VMBUS_SRV_GPADL_DOWN,	/* drop every view of a page list: answer gpadl_gone() */
	VMBUS_SRV_MODIFY,	/* move a channel's interrupts to target_vp: answer modified() */
	VMBUS_SRV_RELEASED, /* a revoked channel is gone for good; its ref has no meaning any more */
	VMBUS_SRV_TL_CONNECT, /* hv_sock: answer by an offer of type service, or tl_refuse() */
	VMBUS_SRV_MODIFY_CONNECTION /* new monitor pages: answer connection_modified() */
};

struct vmbus_srv_action {
	uint32_t act;		   /* enum vmbus_srv_act */
	struct vmbus_srv_ref chan; /* OPEN, CLOSE, GPADL*, MODIFY, RELEASED */
	uint32_t relid;
	uint32_t target_vp;
	uint32_t target_sint;
	uint32_t gpadl;		   /* id of the child's: GPADL*, OPEN (of the rings) */
	struct vmbus_srv_ref list; /* GPADL*, OPEN: the page list, for vmbus_srv_list() */
	uint32_t downstream_page;  /* OPEN */
	uint32_t conn_id;	   /* OPEN: the child signals here */
	uint32_t event_flag;	   /* OPEN: raise this flag to signal the child */
	uint32_t version;	   /* CONNECTED */
	uint32_t features;	   /* CONNECTED */
	uint32_t reserved;
	uint64_t monitor_p2c; /* CONNECTED, MODIFY_CONNECTION */
	uint64_t monitor_c2p;
	struct vmbus_ctl_tl tl; /* TL_CONNECT */
	uint8_t user[120];	/* OPEN */
	uint32_t len;		/* SEND */
	uint32_t ctl_type;	/* SEND: enum vmbus_ctl_type, for logs */
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
};

/* States of a channel, for listings; the table is in vmbus_channel(7). */
enum vmbus_srv_state {
	VMBUS_SRV_FREE = 0,
	VMBUS_SRV_CLIENT_RELEASED, /* known to us; the child has no relid for it */
	VMBUS_SRV_CLOSED,
	VMBUS_SRV_OPENING,
	VMBUS_SRV_OPENED,
	VMBUS_SRV_CLOSING,
	VMBUS_SRV_CLOSING_REOPEN,
	VMBUS_SRV_REVOKED,	   /* withdrawn; the child has not released it */
	VMBUS_SRV_REVOKED_OPENING, /* the same; the device is still opening */
	VMBUS_SRV_REVOKED_CLOSING, /* the same; the device is still closing */
	VMBUS_SRV_CLOSING_RELEASE, /* the child has let go; the device is still closing */
	VMBUS_SRV_OPENING_RELEASE, /* the child has let go; the device is still opening */
	VMBUS_SRV_RELEASING,	   /* the child has let go; views of page lists are left */
	VMBUS_SRV_STATES
};

/* What happens to a channel once the child has let go of it. */
enum vmbus_srv_fate {
	VMBUS_SRV_KEEP = 0, /* offered to the next connection */
	VMBUS_SRV_OFFER,    /* offered again at once */
	VMBUS_SRV_FORGET    /* gone; RELEASED follows */
};

/* Counters; each refused thing has one of its own. */
struct vmbus_srv_stats {
	uint64_t messages;     /* from the child */
	uint64_t sent;	       /* to the child */
	uint64_t malformed;    /* no such type, or too short */
	uint64_t out_of_order; /* not allowed in this state */
	uint64_t unknown_chan; /* relid that is not offered */
	uint64_t unknown_gpadl;
	uint64_t quota_gpadls;	   /* refused: too many page lists */
	uint64_t quota_unfinished; /* refused: too many unfinished page lists */
	uint64_t quota_bytes;	   /* refused: too much memory described */
	uint64_t quota_queue;	   /* times that the child was told to try again */
	uint64_t quota_tl;	   /* refused: too many connect requests */
	uint64_t resets;	   /* contacts made while connected */
	uint64_t channels;	   /* now */
	uint64_t gpadls;	   /* now */
	uint64_t gpadl_bytes;	   /* now */
	uint64_t reserved[8];
};

/* The last thing that was refused: enough for one line of a log. */
struct vmbus_srv_refusal {
	uint64_t count;	   /* of all refusals; 0: there was none */
	const char *what;  /* what was wrong with it and what it should have been; static */
	uint32_t ctl_type; /* enum vmbus_ctl_type of the message */
	uint32_t relid;	   /* 0: none was named */
	uint32_t gpadl;	   /* 0: none was named */
	uint32_t state;	   /* enum vmbus_srv_state of the channel, VMBUS_SRV_FREE for none */
	uint64_t value;	   /* what the child sent, or what it already had */
	uint64_t limit;	   /* 0: no number was past a limit */
};

/* One channel, for listings. */
struct vmbus_srv_info {
	struct vmbus_srv_ref chan;
	uint32_t relid;
	uint32_t state; /* enum vmbus_srv_state */
	uint32_t gpadls;
	uint32_t target_vp;
	uint32_t fate; /* enum vmbus_srv_fate */
	uint32_t reserved;
	struct vmbus_offer offer;
};

/*
 * The bytes of storage that a machine with these limits needs.
 *
 * opts  limits; those that are 0 take their defaults.  list_get and list_put are not looked at.
 *
 * Returns 0 when a limit is out of bounds, or struct_bytes is smaller than ours.
 * Effect: none.
 * Threads: any.
 */
VMBUS_API size_t vmbus_srv_bytes(const struct vmbus_srv_opts *opts);

/*
 * Set a machine up.
 *
 * storage  of the caller's, aligned to 16 bytes; kept until the machine is no longer used.
 * bytes    its size, at least vmbus_srv_bytes(opts).
 * opts	    limits; copied.  list_get and list_put must be set.
 * srv	    on success, the machine.
 *
 * Errors: INVAL  struct_bytes, alignment, no list_get or list_put, a version_max that is no version,
 *		  a feature that we have not
 *	   RANGE  storage too small, or chans_max > 2047, gpadls_max > 8192, queue_max > 4096,
 *		  tl_max > 1024
 * Effect: none on error.
 * Threads: one at a time per machine; so for every call below unless it says otherwise.
 */
VMBUS_API int vmbus_srv_init(void *storage, size_t bytes, const struct vmbus_srv_opts *opts,
			     struct vmbus_srv **srv);

/*
 * Give back all page lists.
 *
 * Effect: list_put() for each one that is held.  What was due is dropped; the storage is the
 *	   caller's again.
 */
VMBUS_API void vmbus_srv_fini(struct vmbus_srv *srv);

/*
 * A message that the child posted.
 *
 * conn_id  the connection that it was posted to: VMBUS_CONN_MESSAGE, VMBUS_CONN_CONTACT or
 *	    message_conn.
 * bytes    a private copy: nothing may change it during the call.
 * len	    its bytes, as the hypercall said; 0 to VMBUS_CTL_BYTES_MAX.
 *
 * Returns 0 when it was taken, also when it was refused: answers are actions, refusals counters.
 * Errors: AGAIN  replies wait to be taken: give the same message again after SENDs were taken, and
 *		  tell the child "insufficient buffers" until then, [CTL-QUEUE].  CONTACT, UNLOAD,
 *		  RESUME, CLOSE and RELID_RELEASED never get it.
 *	   INVAL  no such connection: the child's mistake, for which the hypercall has a status
 * Effect: none on error.  Else actions become due.
 * Source: [CTL-TYPE] and the sections of the types in vmbus_wire(7).
 */
VMBUS_API int vmbus_srv_message(struct vmbus_srv *srv, uint32_t conn_id, const void *bytes,
				size_t len);

/*
 * Take the next action; those for the caller come before messages.
 *
 * action  on 1, what to do; a copy.
 *
 * Returns 1 with an action, 0 when there is nothing to do.  Messages of a child that has paused us
 * wait, [CTL-PAUSE].
 * Effect: the action counts as done, a message as sent.
 */
VMBUS_API int vmbus_srv_next(struct vmbus_srv *srv, struct vmbus_srv_action *action);

/*
 * The same without SEND: for as long as the child's message slot is busy.
 */
VMBUS_API int vmbus_srv_next_local(struct vmbus_srv *srv, struct vmbus_srv_action *action);

/*
 * The child is gone, or was reset: as UNLOAD without an answer.
 *
 * Effect: all messages that are due are dropped; CLOSE and GPADL_DOWN for what it had; DISCONNECTED
 *	   when all of that was answered.  Offers stay, for its next contact, but for hv_sock.
 */
VMBUS_API void vmbus_srv_disconnect(struct vmbus_srv *srv);

/*
 * Offer a channel; at once if the child has asked for offers, else with its next request.
 *
 * offer  copied.  A sub-channel takes the order of its primary.
 * chan	  on success, the channel; its relid is chan->slot + 1.
 *
 * Errors: INVAL  the instance is in use, also by a channel that the child has not released yet;
 *		  a sub-channel without primary, or of one that is withdrawn; a monitor id from 128
 *		  to 254; the flags of confidential or pinned memory
 *	   AGAIN  a sub-channel whose index one has that is withdrawn and not forgotten yet
 *	   FULL	  chans_max
 * Effect: none on error.
 * Source: [CTL-OFFER].
 */
VMBUS_API int vmbus_srv_offer(struct vmbus_srv *srv, const struct vmbus_offer *offer,
			      struct vmbus_srv_ref *chan);

/*
 * Withdraw a channel, and before it its sub-channels.
 *
 * Errors: STATE  a stale reference
 * Effect: RESCIND if the child knows of it, CLOSE if the device is open; RELEASED when child and
 *	   device have let go.  Withdrawing twice is harmless.
 * Source: [CTL-RELEASE].
 */
VMBUS_API int vmbus_srv_revoke(struct vmbus_srv *srv, struct vmbus_srv_ref chan);

/*
 * Withdraw a channel and offer it again as soon as child and device have let go.  Its sub-channels
 * are withdrawn for good.  The reference stays the same.
 *
 * Errors: STATE  a stale reference, or withdrawn for good already
 */
VMBUS_API int vmbus_srv_reoffer(struct vmbus_srv *srv, struct vmbus_srv_ref chan);

/*
 * The answers to actions.  Each action of the kind named is answered exactly once, at any time
 * after it was taken, whatever else happened to the channel meanwhile.
 *
 * status  0, or VMBUS_STATUS_*, or another number that the child gets to see.
 *
 * Errors: STATE  not asked, asked but not taken yet, or a stale reference
 * Effect: none on error.
 */
/* To OPEN. */
VMBUS_API int vmbus_srv_opened(struct vmbus_srv *srv, struct vmbus_srv_ref chan, uint32_t status);
/* To CLOSE: nobody touches the rings any more. */
VMBUS_API int vmbus_srv_closed(struct vmbus_srv *srv, struct vmbus_srv_ref chan);
/* To GPADL: whether the list can be used. */
VMBUS_API int vmbus_srv_gpadl_ready(struct vmbus_srv *srv, struct vmbus_srv_ref list,
				    uint32_t status);
/* To GPADL_DOWN: nobody has a view of the list any more. */
VMBUS_API int vmbus_srv_gpadl_gone(struct vmbus_srv *srv, struct vmbus_srv_ref list);
/* To MODIFY: no interrupt goes to the old VP any more. */
VMBUS_API int vmbus_srv_modified(struct vmbus_srv *srv, struct vmbus_srv_ref chan, uint32_t status);
/*
 * To MODIFY_CONNECTION; state 0, or 1 low resources, 2 unknown failure, [CTL-CONTACT].
 *
 * Errors: STATE, and RANGE: the state is above 255
 */
VMBUS_API int vmbus_srv_connection_modified(struct vmbus_srv *srv, uint32_t state);
/* To TL_CONNECT, by endpoint and service; status 0 stands for VMBUS_STATUS_REFUSED, [CTL-TL]. */
VMBUS_API int vmbus_srv_tl_refuse(struct vmbus_srv *srv, const struct vmbus_ctl_tl *tl,
				  uint32_t status);

/*
 * The range list of a page list: range headers and page numbers as on the wire, in order; its form
 * was checked, where the pages are was not.
 *
 * qwords, range_count	on success, the list, which is the machine's memory.
 *
 * Returns its qwords, 0 for a stale reference.  Valid from GPADL to the answer to GPADL_DOWN, or to
 * gpadl_ready() with a failure.
 * Source: [CTL-GPADL].
 */
VMBUS_API uint32_t vmbus_srv_list(const struct vmbus_srv *srv, struct vmbus_srv_ref list,
				  const uint64_t **qwords, uint32_t *range_count);

/*
 * The page list of a channel that the child calls gpadl, if it was accepted and is not being torn
 * down.
 *
 * Errors: RANGE  none such
 */
VMBUS_API int vmbus_srv_find_list(const struct vmbus_srv *srv, struct vmbus_srv_ref chan,
				  uint32_t gpadl, struct vmbus_srv_ref *list);

/*
 * The channel in a slot, 0 to chans_max - 1.
 *
 * Returns 1 with info, 0 when the slot is free.
 */
VMBUS_API int vmbus_srv_info(const struct vmbus_srv *srv, uint32_t slot,
			     struct vmbus_srv_info *info);

/* The counters, from the beginning of the machine. */
VMBUS_API void vmbus_srv_stats(const struct vmbus_srv *srv, struct vmbus_srv_stats *stats);

/* The last refusal, in place of a log that a child could flood; what is "" before the first. */
VMBUS_API void vmbus_srv_last_refusal(const struct vmbus_srv *srv,
				      struct vmbus_srv_refusal *refusal);

/* The name of a state, for instance "opened"; "?" for a number that is none.  Threads: any. */
VMBUS_API const char *vmbus_srv_state_name(uint32_t state);

/* The agreed version, 0 while no child is connected. */
VMBUS_API uint32_t vmbus_srv_version(const struct vmbus_srv *srv);

#ifdef __cplusplus
}
#endif
#endif
