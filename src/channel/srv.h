/* SPDX-License-Identifier: MIT */
/*
 * Inside of the host machine: its objects, its output lists, and what its files call of each
 * other.
 *
 *   srv.c	 storage, the public calls
 *   srv_conn.c	 the connection: contact, offers, pause, unload
 *   srv_chan.c	 channels: the table and its actions
 *   srv_msg.c	 messages about channels, answers of devices
 *   srv_offer.c offering and withdrawing
 *   srv_list.c	 page lists: the table, fragments, checks, quotas
 *   srv_sock.c	 connect requests of hv_sock
 *   srv_save.c	 the state as bytes
 *   srv_restore.c, srv_restore_check.c  and back
 *   srv_out.c	 what is due to the child and to the device, and vmbus_srv_next()
 *
 * Everything that is due is one bit of an object, not an entry of a queue: a node.  Nodes hang in
 * one of two lists in the order in which they became due, so output never grows with what the
 * child sends.  Only refusals about objects that do not exist take entries of a queue of fixed
 * size, and a message that may need one is held back while it is full.
 */
#ifndef VMBUS_CHANNEL_SRV_H
#define VMBUS_CHANNEL_SRV_H

#include <vmbus/srv.h>

#include "base/contract.h"

#define NIL UINT32_MAX /* no object, no node */

/* What can be due.  Each kind is due at most once per object. */
enum srv_kind {
	/* of a channel, to the child */
	K_OFFER,
	K_RESCIND,
	K_RESULT,
	K_MODIFIED,
	K_RESERVED_CLOSED,
	/* of a channel, to the device */
	K_OPEN,
	K_CLOSE,
	K_MODIFY,
	K_RELEASED,
	/* of a page list, to the child */
	K_CREATED,
	K_TORNDOWN,
	/* of a page list, to the device */
	K_ASK,
	K_DOWN,
	/* of the connection, to the child */
	K_VERSION,
	K_ALL_OFFERS,
	K_UNLOADED,
	K_PAUSED,
	K_CONN_MODIFIED,
	/* of the connection, to the embedder */
	K_CONNECTED,
	K_DISCONNECTED,
	K_CONN_MODIFY,
	/* of a connect request: to the embedder, to the child */
	K_TL_ASK,
	K_TL_RESULT,
	/* an entry of the queue, to the child */
	K_ENTRY,
	K_KINDS
};

/* Whose nodes they are. */
enum srv_group {
	G_CHAN,
	G_LIST,
	G_CONN,
	G_TL,
	G_ENTRY,
	G_GROUPS
};

/* The two output lists. */
enum srv_side {
	SIDE_LOCAL,
	SIDE_CHILD,
	SIDES
};

struct srv_node {
	uint32_t next; /* itself when it is in no list */
	uint32_t prev;
};

/* Events of a channel. */
enum srv_event {
	EV_OPEN,	  /* OPEN or OPEN_RESERVED whose ring can be */
	EV_OPEN_BAD,	  /* the same with a ring that cannot */
	EV_CLOSE,	  /* CLOSE, or CLOSE_RESERVED */
	EV_GPADL,	  /* GPADL_HEADER */
	EV_MODIFY,	  /* MODIFY with a target that can be */
	EV_RELEASE,	  /* RELID_RELEASED */
	EV_CHILD_GONE,	  /* UNLOAD, a new contact, disconnect() */
	EV_OFFER,	  /* the child has asked for offers */
	EV_REVOKE,	  /* revoke() or reoffer() */
	EV_OPENED,	  /* opened(0) */
	EV_OPEN_FAILED,	  /* opened(other) */
	EV_CLOSED,	  /* closed() */
	EV_SETTLED,	  /* device idle, page lists gone, nothing asked: kept */
	EV_SETTLED_OFFER, /* the same; offered again */
	EV_SETTLED_FREE,  /* the same; withdrawn for good */
	EV_COUNT
};

/* What comes with EV_OPEN. */
struct srv_open_arg {
	const struct vmbus_ctl_open *open;
	bool reserved;
};

/* An action gets the machine, the channel's slot, and what came with the event. */
typedef void srv_act_fn(struct vmbus_srv *srv, uint32_t slot, const void *arg);

struct srv_cell {
	uint8_t next;	  /* enum vmbus_srv_state */
	const char *name; /* of the action, for the manual */
	srv_act_fn *act;  /* NULL: the event is refused */
};

struct srv_chan {
	struct vmbus_offer offer;
	struct vmbus_ctl_open open; /* as the child sent it last */
	uint32_t gen;
	uint8_t state;	     /* enum vmbus_srv_state */
	uint8_t fate;	     /* enum vmbus_srv_fate */
	bool reserved;	     /* opened by OPEN_RESERVED */
	bool survives;	     /* reserved, and of an earlier connection */
	bool modifying;	     /* the device was asked to modify */
	bool modify_again;   /* below 5.3: modify_next came meanwhile */
	bool reserved_reply; /* CLOSE_RESERVED_RESPONSE is due once it is closed */
	uint8_t pad;
	uint32_t modify_vp;
	uint32_t modify_next;
	uint32_t modify_status;
	uint32_t target_vp;
	uint32_t open_status;
	uint32_t open_id;
	uint32_t ring;	/* page list that the device has, or NIL */
	uint32_t lists; /* first page list of this channel */
	uint32_t list_count;
	uint32_t reserved_vp; /* answers to reserved messages go here */
	uint32_t reserved_sint;
	uint32_t next; /* order of offers, or list of free slots */
	uint32_t prev;
};

/* States of a page list. */
enum srv_list_state {
	L_FREE,
	L_UNFINISHED,	/* bodies are missing */
	L_OFFERED,	/* the device looks at it */
	L_OFFERED_DROP, /* the device looks at it; to be dropped whatever it says */
	L_ACCEPTED,
	L_HELD, /* to be dropped when the device lets go of the channel */
	L_DOWN, /* the device drops it */
	L_DONE, /* only answers are left to be taken */
	L_STATES
};

/* Events of a page list. */
enum srv_list_event {
	LV_COMPLETE,   /* the last qword came, and it can be */
	LV_IMPOSSIBLE, /* the last qword came, and it cannot */
	LV_INSTANT,    /* the last qword came, and the channel was withdrawn meanwhile */
	LV_READY,      /* gpadl_ready(0) */
	LV_REFUSED,    /* gpadl_ready(other) */
	LV_TEARDOWN,   /* GPADL_TEARDOWN */
	LV_RELEASE,    /* the child let go of the channel */
	LV_REVOKE,     /* the channel was withdrawn */
	LV_IDLE,       /* the device let go of the channel */
	LV_GONE,       /* gpadl_gone() */
	LV_COUNT
};

struct srv_list_cell {
	uint8_t next; /* enum srv_list_state */
	const char *name;
	srv_act_fn *act;
};

struct srv_list {
	uint32_t gen;
	uint32_t id; /* the child's */
	uint32_t chan;
	uint8_t state; /* enum srv_list_state */
	bool created_owed;
	bool torn_owed;
	bool charged;
	uint32_t status; /* of CREATED */
	uint32_t want;	 /* qwords of the whole list */
	uint32_t have;
	uint32_t room; /* qwords that were allocated */
	uint32_t range_count;
	uint32_t pages;
	uint64_t *qwords;
	uint32_t next_in_chan;
	uint32_t prev_in_chan;
	uint32_t next_in_bucket; /* also the list of free ones */
};

struct srv_tl {
	struct vmbus_ctl_tl tl;
	bool asked;
};

/* A reply about something that does not exist. */
struct srv_entry {
	uint32_t type; /* enum vmbus_ctl_type */
	uint32_t vp;
	uint32_t sint;
	uint32_t relid;
	uint32_t id; /* open id, page list */
	uint32_t status;
	uint32_t next_free;
	struct vmbus_ctl_tl tl;
};

/* States of the connection. */
enum srv_conn {
	CONN_OFF,
	CONN_ON, /* version agreed, offers not asked for */
	CONN_ON_PAUSED,
	CONN_READY, /* offers asked for */
	CONN_READY_PAUSED,
	CONN_UNLOADING,	   /* devices let go; then UNLOAD_RESPONSE */
	CONN_RECONNECTING, /* devices let go; then VERSION_RESPONSE */
	CONN_RESETTING,	   /* devices let go; nothing is due */
	CONN_STATES
};

enum srv_conn_event {
	CV_CONTACT,
	CV_REQUEST_OFFERS,
	CV_CHANNEL, /* every message about a channel, and MODIFY_CONNECTION, TL_CONNECT */
	CV_CLOSE_RESERVED,
	CV_PAUSE,
	CV_RESUME,
	CV_UNLOAD,
	CV_RESET, /* disconnect() */
	CV_EMPTY, /* the last device let go */
	CV_COUNT,
	CV_NONE = CV_COUNT
};

typedef void srv_conn_fn(struct vmbus_srv *srv, const struct vmbus_ctl *ctl);

struct srv_conn_cell {
	uint8_t next; /* enum srv_conn */
	const char *name;
	srv_conn_fn *act; /* NULL: the event is refused */
};

struct vmbus_srv {
	struct vmbus_srv_opts opts;
	struct vmbus_srv_stats stats;
	struct vmbus_srv_refusal refusal;

	/* The connection. */
	uint32_t conn;	       /* enum srv_conn */
	uint32_t version;      /* agreed; 0 while there is no connection */
	uint32_t wire_version; /* of the messages that are still due */
	uint32_t features;
	uint32_t vp;
	uint32_t sint;
	uint32_t supported; /* for VERSION_RESPONSE */
	bool hold;	    /* the child has paused us */
	bool modifying;	    /* MODIFY_CONNECTION was given to the embedder */
	bool dropping;	    /* whether all let go is looked at later */
	uint8_t pad;
	uint32_t modify_state;
	uint64_t monitor_p2c;
	uint64_t monitor_c2p;
	uint64_t modify_p2c;
	uint64_t modify_c2p;
	struct vmbus_ctl_contact contact; /* the newest, while devices let go of the old one */
	uint32_t contact_conn;
	uint32_t post_conn; /* where the message at hand was posted to */

	/* Objects. */
	struct srv_chan *chans;
	struct srv_list *lists;
	struct srv_tl *tls;
	struct srv_entry *entries;
	struct srv_node *nodes;
	uint32_t *buckets;
	uint32_t bucket_mask;
	uint32_t base[G_GROUPS + 1];
	uint32_t head[SIDES];
	uint32_t tail[SIDES];
	uint32_t replies;   /* answers waiting for the child */
	uint32_t order;	    /* first channel in the order of offers */
	uint32_t free_chan; /* oldest free slot */
	uint32_t free_chan_last;
	uint32_t free_list;
	uint32_t free_entry;
	uint32_t away; /* channels that a leaving child has not let go of */
	uint32_t unfinished;
	uint32_t tl_count;
};

/* srv.c */
void vmbus__srv_refuse(struct vmbus_srv *srv, uint64_t *counter,
		       const struct vmbus_srv_refusal *why);
bool vmbus__srv_status_is_ok(uint32_t status);
void vmbus__srv_clear(struct vmbus_srv *srv);

/* srv_out.c: nodes */
uint32_t vmbus__srv_nodes(const struct vmbus_srv_opts *opts, uint32_t base[G_GROUPS + 1]);
void vmbus__srv_due(struct vmbus_srv *srv, enum srv_kind kind, uint32_t index);
bool vmbus__srv_is_due(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t index);
void vmbus__srv_undo(struct vmbus_srv *srv, enum srv_kind kind, uint32_t index);
void vmbus__srv_drop_messages(struct vmbus_srv *srv);
enum srv_kind vmbus__srv_kind_of(const struct vmbus_srv *srv, uint32_t node, uint32_t *index);
enum srv_side vmbus__srv_side_of(const struct vmbus_srv *srv, enum srv_kind kind,
				 uint32_t *objects);
int vmbus__srv_message(const struct vmbus_srv *srv, enum srv_kind kind, uint32_t index,
		       struct vmbus_srv_action *action);
void vmbus__srv_entry(struct vmbus_srv *srv, const struct srv_entry *entry);
int vmbus__srv_take(struct vmbus_srv *srv, bool local_only, struct vmbus_srv_action *action);

/* srv_conn.c */
void vmbus__srv_conn_message(struct vmbus_srv *srv, const struct vmbus_ctl *ctl);
bool vmbus__srv_conn_must_wait(const struct vmbus_srv *srv, const struct vmbus_ctl *ctl);
void vmbus__srv_conn_reset(struct vmbus_srv *srv);
void vmbus__srv_conn_check_empty(struct vmbus_srv *srv);
bool vmbus__srv_conn_is_ready(const struct vmbus_srv *srv);
bool vmbus__srv_conn_version_is_known(uint32_t version);
bool vmbus__srv_conn_features_are_had(uint32_t features);
const struct srv_conn_cell *vmbus__srv_conn_cell(uint32_t state, uint32_t event);
const char *vmbus__srv_conn_state_name(uint32_t state);
const char *vmbus__srv_conn_event_name(uint32_t event);

/* srv_chan.c */
bool vmbus__srv_fire(struct vmbus_srv *srv, uint32_t slot, enum srv_event event, const void *arg);
void vmbus__srv_refuse_open(struct vmbus_srv *srv, const struct vmbus_ctl_open *open,
			    bool reserved);
struct srv_chan *vmbus__srv_chan_of(const struct vmbus_srv *srv, struct vmbus_srv_ref ref);
void vmbus__srv_revoke(struct vmbus_srv *srv, uint32_t slot, enum vmbus_srv_fate fate);
void vmbus__srv_child_gone(struct vmbus_srv *srv);
void vmbus__srv_settle(struct vmbus_srv *srv, uint32_t slot);
void vmbus__srv_chan_freed(struct vmbus_srv *srv, uint32_t slot);
uint32_t vmbus__srv_chan_by_relid(const struct vmbus_srv *srv, uint32_t relid);
bool vmbus__srv_child_has(const struct srv_chan *chan);
bool vmbus__srv_is_away(const struct srv_chan *chan);
bool vmbus__srv_is_revoked(uint32_t state);
const struct srv_cell *vmbus__srv_cell(uint32_t state, uint32_t event);
const char *vmbus__srv_event_name(uint32_t event);
uint32_t vmbus__srv_conn_id(const struct vmbus_srv *srv, uint32_t slot);

/* srv_msg.c */
bool vmbus__srv_conn_id_is_free(const struct vmbus_srv *srv, uint32_t slot, uint32_t conn_id);
void vmbus__srv_chan_message(struct vmbus_srv *srv, const struct vmbus_ctl *ctl);
void vmbus__srv_close_reserved(struct vmbus_srv *srv, const struct vmbus_ctl *ctl);

/* srv_offer.c */
void vmbus__srv_offer_all(struct vmbus_srv *srv);
bool vmbus__srv_append(struct vmbus_srv *srv, uint32_t slot, uint32_t last);
void vmbus__srv_remove_from_order(struct vmbus_srv *srv, uint32_t slot);

/* srv_list.c */
void vmbus__srv_gpadl_header(struct vmbus_srv *srv, const struct vmbus_ctl *ctl);
void vmbus__srv_gpadl_body(struct vmbus_srv *srv, const struct vmbus_ctl *ctl);
void vmbus__srv_gpadl_teardown(struct vmbus_srv *srv, const struct vmbus_ctl *ctl);
void vmbus__srv_lists_all(struct vmbus_srv *srv, uint32_t slot, enum srv_list_event event);
bool vmbus__srv_list_fire(struct vmbus_srv *srv, uint32_t at, enum srv_list_event event);
void vmbus__srv_list_sent(struct vmbus_srv *srv, uint32_t at);
uint32_t vmbus__srv_list_find(const struct vmbus_srv *srv, uint32_t slot, uint32_t id);
bool vmbus__srv_ring_can_be(const struct vmbus_srv *srv, uint32_t at, uint32_t downstream_page);
bool vmbus__srv_ring_shape_can_be(const struct srv_list *list, uint32_t downstream_page);
bool vmbus__srv_ranges_can_be(struct srv_list *list, struct vmbus_srv_refusal *why);
uint32_t vmbus__srv_list_find_unfinished(const struct vmbus_srv *srv, uint32_t id);
void vmbus__srv_list_hang_up(struct vmbus_srv *srv, uint32_t at);
void vmbus__srv_lists_fini(struct vmbus_srv *srv);
const struct srv_list_cell *vmbus__srv_list_cell(uint32_t state, uint32_t event);
const char *vmbus__srv_list_state_name(uint32_t state);
const char *vmbus__srv_list_event_name(uint32_t event);

/* srv_sock.c */
void vmbus__srv_tl_connect(struct vmbus_srv *srv, const struct vmbus_ctl *ctl);
void vmbus__srv_tl_offered(struct vmbus_srv *srv, const struct vmbus_offer *offer);
void vmbus__srv_tl_drop_all(struct vmbus_srv *srv);

#endif
