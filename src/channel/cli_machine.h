/* SPDX-License-Identifier: MIT */
/*
 * The client machine from inside: its tables of channels and page lists, its queue of messages to
 * post, its events for the caller.
 *
 * Everything lies in one piece of storage of the caller's and is bounded from the start.  A message
 * of the parent's never needs room in a queue: what is to be told about a channel or a page list is
 * a bit in it, and what has bits set is chained in the order in which it happened.
 */
#ifndef VMBUS_CHANNEL_CLI_MACHINE_H
#define VMBUS_CHANNEL_CLI_MACHINE_H

#include <vmbus/cli.h>

#include "base/contract.h"

#define VMBUS__CLI_NONE 0xFFFFFFFFu
#define VMBUS__CLI_TL_MAX 16u	   /* hv_sock requests under way at once */
#define VMBUS__CLI_RELEASING 65535 /* in the map of relids: RELID_RELEASED is not posted yet */
#define VMBUS__CLI_GPADLS_MAX 8192u
#define VMBUS__CLI_QUEUE_MAX 4096u
#define VMBUS__CLI_QUEUE_MIN 2u /* a contact under way, and what follows its answer */

/* States of the connection. */
enum vmbus__cli_conn {
	VMBUS__CONN_IDLE,
	VMBUS__CONN_CONTACT, /* a contact waits for its answer */
	VMBUS__CONN_OFFERS,  /* connected, offers are coming */
	VMBUS__CONN_READY,   /* all offers delivered */
	VMBUS__CONN_PAUSING,
	VMBUS__CONN_PAUSED,
	VMBUS__CONN_LEAVING, /* UNLOAD waits for its answer */
	VMBUS__CONN_STATES
};

/* What can happen to a channel: calls of ours, messages of the parent's, the loss of the parent. */
enum vmbus__cli_event {
	VMBUS__CLI_EV_OPEN,
	VMBUS__CLI_EV_CLOSE,
	VMBUS__CLI_EV_MODIFY,
	VMBUS__CLI_EV_GPADL,
	VMBUS__CLI_EV_TEARDOWN,	     /* of a page list that is no ring's */
	VMBUS__CLI_EV_TEARDOWN_RING, /* of the one that the channel was opened with */
	VMBUS__CLI_EV_RELEASE,
	VMBUS__CLI_EV_OFFER,
	VMBUS__CLI_EV_OPENED,
	VMBUS__CLI_EV_OPEN_FAILED,
	VMBUS__CLI_EV_MODIFIED,
	VMBUS__CLI_EV_RESCIND,
	VMBUS__CLI_EV_LOST, /* the connection ended */
	VMBUS__CLI_EVENTS
};

/* What a state of the connection does with a message. */
enum vmbus__cli_message_fate {
	VMBUS__MESSAGE_REFUSED,
	VMBUS__MESSAGE_PASSED, /* over: it may cross an UNLOAD on its way */
	VMBUS__MESSAGE_TAKEN
};

/* A page list's life. */
enum vmbus__cli_list_state {
	VMBUS__LIST_FREE,
	VMBUS__LIST_CREATING, /* messages are made of it, or its CREATED is awaited */
	VMBUS__LIST_READY,
	VMBUS__LIST_TEARING, /* its TORNDOWN is awaited */
	VMBUS__LIST_DEAD     /* over; the caller has not been told yet */
};

/* Messages to post. */
enum vmbus__cli_post {
	VMBUS__POST_CONTACT = 1,
	VMBUS__POST_REQUEST_OFFERS,
	VMBUS__POST_UNLOAD,
	VMBUS__POST_OPEN,
	VMBUS__POST_CLOSE,
	VMBUS__POST_MODIFY,
	VMBUS__POST_GPADL, /* header and bodies, made when their turn comes */
	VMBUS__POST_TEARDOWN,
	VMBUS__POST_RELEASED,
	VMBUS__POST_TL,
	VMBUS__POST_PAUSE,
	VMBUS__POST_RESUME,
	VMBUS__POST_MODIFY_CONNECTION
};

/* Progress of a request that is one message and one answer. */
enum vmbus__cli_ask {
	VMBUS__ASK_NONE,
	VMBUS__ASK_QUEUED,
	VMBUS__ASK_SENT
};

/* A message that was handed out, when the connection ended. */
enum vmbus__cli_stale {
	VMBUS__STALE_NO,
	VMBUS__STALE,
	VMBUS__STALE_CONTACT /* its answer may come, if it is posted */
};

/* A link in the chain of what has something to tell; events is a set of bits, lowest first. */
struct vmbus__cli_node {
	uint32_t next;
	uint32_t events;
};

/* Bits of a channel's node and of a page list's node. */
#define VMBUS__CHAN_OFFERED 1u
#define VMBUS__CHAN_OPENED 2u
#define VMBUS__CHAN_MODIFIED 4u
#define VMBUS__CHAN_RESCINDED 8u
#define VMBUS__LIST_TELL_READY 1u
#define VMBUS__LIST_TELL_GONE 2u
#define VMBUS__LIST_TELL_LOST 4u

/* Nodes of the connection: one event each, so that each keeps its place among the others. */
enum vmbus__cli_global {
	VMBUS__TELL_CONNECTED,
	VMBUS__TELL_ALL_OFFERED,
	VMBUS__TELL_PAUSED,
	VMBUS__TELL_CONNECTION_MODIFIED,
	VMBUS__TELL_REFUSED,
	VMBUS__TELL_UNLOADED,
	VMBUS__TELL_COUNT
};

struct vmbus__cli_chan {
	struct vmbus__cli_node node;
	struct vmbus_ctl_offer offer;
	uint32_t gen;
	uint32_t state; /* enum vmbus_cli_state */
	uint32_t gpadls;
	uint32_t free_next;
	uint32_t open_id;
	uint32_t open_status;
	uint32_t modify_status;
	uint32_t ring_id;  /* id of the page list that it was opened with */
	uint8_t open_sent; /* the result may come */
	uint8_t modify;	   /* enum vmbus__cli_ask */
	uint8_t orphan;	   /* of a connection that has ended: the parent knows it no more */
	uint8_t reserved;
};

struct vmbus__cli_list {
	struct vmbus__cli_node node;
	const uint64_t *pfns; /* the caller's, while CREATING */
	uint32_t id;	      /* generation and slot in one number: the parent's name for it */
	uint32_t state;	      /* enum vmbus__cli_list_state */
	uint32_t chan;	      /* slot */
	uint32_t pages;
	uint32_t posted; /* of these, in messages that were posted */
	uint32_t status;
	uint32_t free_next;
	uint8_t sent; /* the parent may have seen the header, or the teardown */
	uint8_t header_posted;
	uint8_t cut; /* a body could not be posted, so it is torn down: never told as ready */
	uint8_t reserved;
};

struct vmbus__cli_tl {
	struct vmbus__cli_node node;
	struct vmbus_ctl_tl tl;
	uint32_t ask; /* enum vmbus__cli_ask */
	uint32_t gen; /* of the request: an answered one may still be in the queue */
};

struct vmbus__cli_entry {
	uint32_t kind; /* enum vmbus__cli_post */
	uint32_t slot;
	uint32_t tag; /* generation, open id, or id; whether the entry is still wanted */
	uint32_t len;
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
};

struct vmbus_cli {
	struct vmbus_cli_opts opts; /* with the defaults filled in */
	struct vmbus_cli_stats stats;
	struct vmbus__cli_chan *chans;
	struct vmbus__cli_list *lists;
	struct vmbus__cli_entry *queue;
	uint32_t conn; /* enum vmbus__cli_conn */
	uint32_t version;
	uint32_t features;
	uint32_t conn_id;    /* where messages are posted */
	uint32_t version_at; /* place in the list of versions of the contact under way */
	uint32_t contact_status;
	uint32_t id_shift; /* bits of a page list's id that are its slot */
	uint32_t next_open_id;
	uint32_t lists_used;
	uint32_t chan_free, chan_free_last;
	uint32_t list_free, list_free_last;
	uint32_t queue_first, queue_count;
	uint32_t tell_first, tell_last; /* numbers of nodes */
	uint32_t tell_status[VMBUS__TELL_COUNT];
	uint64_t server_p2c, server_c2p;
	uint8_t asked;	       /* the message that conn waits for an answer to was handed out */
	uint8_t offers_asked;  /* so was REQUEST_OFFERS */
	uint8_t modifying;     /* enum vmbus__cli_ask: MODIFY_CONNECTION */
	uint8_t posting;       /* a message was handed out, and posted() is awaited */
	uint8_t posting_stale; /* enum vmbus__cli_stale: ... of a connection that has ended */
	uint8_t hold;	       /* it is to be tried again, later */
	uint8_t unanswered;    /* contacts that were posted and then given up */
	uint8_t reserved;
	struct vmbus__cli_node tell[VMBUS__TELL_COUNT];
	struct vmbus__cli_tl tl[VMBUS__CLI_TL_MAX];
	uint16_t relids[VMBUS_RELID_MAX + 1u]; /* 0: free; else slot + 1 */
};

/* The next generation of a slot: never 0, so that a ref of zeroes fits nothing. */
static inline uint32_t vmbus__cli_next_gen(uint32_t gen)
{
	return gen == UINT32_MAX ? 1 : gen + 1;
}

/* cli_table.c: what an event does to a channel in a state; the state itself where it stays. */
bool vmbus__cli_allows(uint32_t state, uint32_t event, uint32_t *to);
const char *vmbus__cli_event_name(uint32_t event);

/* cli_msg.c: enum vmbus__cli_message_fate of a type of message. */
uint32_t vmbus__cli_message_in(uint32_t conn, uint32_t type);

/* cli_store.c */
struct vmbus__cli_chan *vmbus__cli_chan(struct vmbus_cli *cli, struct vmbus_cli_ref ref);
struct vmbus__cli_list *vmbus__cli_list(struct vmbus_cli *cli, struct vmbus_cli_ref ref);
struct vmbus__cli_list *vmbus__cli_list_by_id(struct vmbus_cli *cli, uint32_t id);
struct vmbus_cli_ref vmbus__cli_chan_ref(const struct vmbus_cli *cli, uint32_t slot);
struct vmbus_cli_ref vmbus__cli_list_ref(const struct vmbus_cli *cli, uint32_t slot);
struct vmbus__cli_chan *vmbus__cli_chan_take(struct vmbus_cli *cli);
void vmbus__cli_chan_put(struct vmbus_cli *cli, struct vmbus__cli_chan *chan);
struct vmbus__cli_list *vmbus__cli_list_take(struct vmbus_cli *cli);
void vmbus__cli_list_put(struct vmbus_cli *cli, struct vmbus__cli_list *list);
void vmbus__cli_tell(struct vmbus_cli *cli, uint32_t global, uint32_t status);
void vmbus__cli_tell_chan(struct vmbus_cli *cli, struct vmbus__cli_chan *chan, uint32_t bit);
void vmbus__cli_tell_list(struct vmbus_cli *cli, struct vmbus__cli_list *list, uint32_t bit,
			  uint32_t status);
void vmbus__cli_tell_tl(struct vmbus_cli *cli, struct vmbus__cli_tl *tl, uint32_t status);
/* The next thing to tell: 1 with an action. */
int vmbus__cli_told(struct vmbus_cli *cli, struct vmbus_cli_action *action);

/* cli_post.c: the queue.  push returns FULL when there is no room; ctl is NULL for a page list. */
int vmbus__cli_push(struct vmbus_cli *cli, uint32_t kind, uint32_t slot, uint32_t tag,
		    const struct vmbus_ctl *ctl);
bool vmbus__cli_queue_full(const struct vmbus_cli *cli);
void vmbus__cli_queue_clear(struct vmbus_cli *cli);

/* cli.c: the connection. */
extern const uint32_t vmbus__cli_versions[];
void vmbus__cli_contact(struct vmbus_cli *cli);
void vmbus__cli_next_version(struct vmbus_cli *cli, uint32_t status);
void vmbus__cli_refused(struct vmbus_cli *cli, uint32_t status);
/* A contact was posted and given up: its answer is not the next one's. */
void vmbus__cli_unanswered(struct vmbus_cli *cli);
/* Everything that the connection had is over; what asked for something is answered. */
void vmbus__cli_end(struct vmbus_cli *cli);

/* cli_chan.c: events that are no calls. */
int vmbus__cli_event(struct vmbus_cli *cli, struct vmbus__cli_chan *chan, uint32_t event,
		     uint32_t status);

#endif
