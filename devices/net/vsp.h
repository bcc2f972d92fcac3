/* SPDX-License-Identifier: MIT */
/*
 * What the files of the NIC share.  Three kinds of thread come here: those of the embedder, the one of
 * the primary channel, and one for each sub-channel.  Control messages come by the primary channel
 * alone.  What was agreed on (the shape) is changed with the lock and counted; each channel has a copy,
 * which it brings up to date when the number has changed, so a packet takes no lock.
 *
 * Frames that another channel's thread is to send, or to give to the guest, go through that channel's
 * inbox, whose descriptor is also how a thread is woken.
 *
 * Control (net.c, nvsp.c, rndis.c, oid.c, link.c, state.c) and data path (vsp.c, glue.c, buffer.c,
 * tx*.c, rx*.c) know of each other only what is here.
 */
#ifndef VMBUS_NET_VSP_H
#define VMBUS_NET_VSP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>

#include <vmbus/net.h>
#include <vmbus/vsp.h>
#include <vmbus/watch.h>

#include "base/atomic.h"
#include "base/contract.h"
#include "netwire/wire.h"
#include "port/inbox.h"

#define VMBUS__NET_CHANNELS (VMBUS_NET_SUBCHANNELS_MAX + 1u)
#define VMBUS__NET_CONTROL_SECTIONS                                                                \
	16u			     /* of the receive buffer, at most: for control messages only */
#define VMBUS__NET_SECTIONS_MIN 8u   /* of a receive buffer */
#define VMBUS__NET_CONTROL_MAX 8192u /* bytes of a control message of the guest's */
#define VMBUS__NET_TABLE 128u	     /* entries of the table of receive-side scaling */
#define VMBUS__NET_MESSAGE_MAX 104u  /* bytes of an NVSP message that we send */
#define VMBUS__NET_ANSWERS 160u	     /* NVSP messages that wait for room in the ring */
#define VMBUS__NET_BATCH 64u	     /* packets of one callback */

/* How many of a receive buffer's sections are for control messages only: the first ones. */
static inline uint32_t vmbus__net_control_sections(uint32_t sections)
{
	return sections / 4u < VMBUS__NET_CONTROL_SECTIONS ? sections / 4u
							   : VMBUS__NET_CONTROL_SECTIONS;
}

/*
 * Segments that a large frame may have: a frame in the smallest ones would cost as much as thousands.
 * Returns whether it has no more; its header_bytes and mss are as they came.
 */
#define VMBUS__NET_SEGMENTS_MAX 1024u

static inline bool vmbus__net_few_segments(uint32_t payload, uint32_t mss)
{
	return payload <= mss * VMBUS__NET_SEGMENTS_MAX; /* mss: 16 bits */
}

/* struct vmbus_net_stats, in order. */
enum vmbus__net_count {
	VMBUS__NET_SENT_FRAMES,
	VMBUS__NET_SENT_BYTES,
	VMBUS__NET_RECEIVED_FRAMES,
	VMBUS__NET_RECEIVED_BYTES,
	VMBUS__NET_SENT_PACKETS,
	VMBUS__NET_RECEIVED_PACKETS,
	VMBUS__NET_CUT,
	VMBUS__NET_SUMMED,
	VMBUS__NET_SENT_BAD,
	VMBUS__NET_SENT_WAITS,
	VMBUS__NET_NO_ROOM,
	VMBUS__NET_TOO_LONG,
	VMBUS__NET_FILTERED,
	VMBUS__NET_STOPPED,
	VMBUS__NET_CONTROL,
	VMBUS__NET_COUNTS
};

/* ---- what was agreed on, as the data path needs it ---- */

/*
 * A buffer of the guest's that is cut into sections.  The session and each channel that has it in its
 * shape use it; the last one that lets go gives the guest its pages back.
 */
struct vmbus__net_buffer {
	uint32_t refs; /* lock */
	uint32_t section_bytes, sections;
	uint64_t bytes;
	struct vmbus_sgl sgl;
	uint8_t **page; /* where each page of it is */
	uint8_t **at;	/* where each section is; NULL: in pages that do not follow each other */
	uint32_t *next; /* of a receive buffer: chains of sections; an entry is its owner's */
	uint8_t *owner; /* the channel that a section belongs to; changed by the primary */
};

#define VMBUS__NET_NONE UINT32_MAX /* no section: the end of a chain */

struct vmbus__net_shape {
	uint32_t nvsp;	 /* version, 0: none yet */
	uint32_t mtu;	 /* without the Ethernet header */
	uint32_t filter; /* of packets, as in NDIS; 0: the guest takes none */
	uint32_t
		receive_id; /* the guest's name of the receive buffer: the set of transfer packets */
	uint32_t tx, rx;    /* VMBUS_FRAME_*: offloads that are on */
	uint32_t hash;	    /* VMBUS_FRAME_HASH_*: of what, for rss */
	uint32_t table_mask; /* entries of table - 1, a power of two - 1 */
	bool messages;	     /* frames and control messages may come: 107 */
	bool running;	     /* RNDIS is initialised, and not halted: frames are sent */
	bool link;	     /* there is one: that of the port, and no plug pulled */
	bool rss;	     /* and more than one channel */
	bool rsc4, rsc6;     /* the guest takes large frames in pieces */
	uint8_t mac[6];
	uint8_t table[VMBUS__NET_TABLE]; /* of channel numbers, all below VMBUS__NET_CHANNELS */
	uint8_t key[VMBUS_FRAME_KEY_BYTES];
	struct vmbus__net_buffer *receive, *send; /* NULL: none.  By buffer.c alone */
};

/* ---- the NIC ---- */

struct vmbus__net_session;
struct vmbus__net_chan;
struct vmbus__net_control; /* of a session; the control's own */

struct vmbus_net {
	struct vmbus_net_opts opts; /* with defaults filled in */
	char name[256];		    /* "": none */
	uint8_t mac[6];		    /* permanent */
	pthread_mutex_t lock;
	/* With the lock. */
	struct vmbus_port_info info;	    /* as the port told it last */
	struct vmbus__net_session *session; /* of the guest that has the NIC, or NULL */
	uint64_t queues;		    /* of the port that are open, a bit each */
	bool plug;			    /* vmbus_net_link() */
	bool asked;			    /* the port, again: the control is to tell of it */
	uint8_t guest_mac[6];		    /* that a guest chose, kept; all zero: none */
	uint64_t asks, newest;		    /* info() so often; and which of them info is of */
	uint32_t subs_max;		    /* that are granted: once, fewer found room */
	uint32_t channels_ever;		    /* 1 + the highest number of a channel there was */
	uint64_t log_second, log_lines;
	/* Atomic: counters, of each channel; by its thread. */
	uint64_t count[VMBUS__NET_CHANNELS][VMBUS__NET_COUNTS];
	uint64_t lent[VMBUS__NET_CHANNELS];
};

/* A channel's place in a session; made when the guest is granted it. */
struct vmbus__net_seat {
	struct vmbus__inbox *inbox;
	uint32_t first, count; /* receive sections that are its own, as a chain; with the lock */
	vmbus__a32 open;       /* it has a thread that looks into the inbox */
};

/* From the open of a primary channel to its close; sub-channels may keep it longer. */
struct vmbus__net_session {
	struct vmbus_net *net;
	struct vmbus_chan *primary;
	uint32_t refs;		       /* lock: channels */
	uint64_t number;	       /* atomic; changed with the lock: of the shape */
	struct vmbus__net_shape shape; /* lock */
	uint32_t subs;		       /* lock: granted */
	struct vmbus__net_seat seat[VMBUS__NET_CHANNELS];
	/* The thread of the primary channel. */
	struct vmbus__net_control *control;
	vmbus__a32 poke; /* any thread: the control is to look, see vmbus__net_poke() */
};

struct vmbus__net_answer { /* an NVSP message that waits for room in the ring */
	uint64_t id;
	uint32_t len;
	bool inband;
	uint8_t msg[VMBUS__NET_MESSAGE_MAX];
};

struct vmbus__net_tx;
struct vmbus__net_rx;

/* An open channel. */
struct vmbus__net_chan {
	struct vmbus_net *net;
	struct vmbus_chan *chan;
	struct vmbus__net_session *session;
	struct vmbus__net_seat *seat;
	uint32_t number; /* 0: the primary */
	uint64_t seen;	 /* number of the shape that is copied */
	struct vmbus__net_shape shape;
	struct vmbus__net_tx *tx;
	struct vmbus__net_rx *rx;
	struct vmbus_port_queue queue;
	uint32_t takes;	   /* what the port can: VMBUS_FRAME_*, as info told */
	uint32_t tso_max;  /* bytes of a frame with TSO that it takes, as info told */
	bool has_queue;	   /* of the port */
	bool single_queue; /* the port has no more than one */
	bool queue_heard;  /* its descriptor is in the epoll */
	bool paused;	   /* vmbus_chan_pause() */
	bool ended;	   /* messages or the send buffer were there, and are not any more */
	bool deaf_told;	   /* that no descriptor tells of the port */
	int epoll_fd;
	int timer_fd; /* -1, or of the control; the primary's */
	int retry_fd; /* -1, or: see vmbus__net_queue_hear() */
	bool timer_set, retry_set;
	uint32_t answer_first, answers; /* a ring of messages that wait */
	struct vmbus__net_answer *answer;
	uint64_t count[VMBUS__NET_COUNTS]; /* of this callback, not yet in net->count */
	uint64_t lent;			   /* receive sections, as shown in net->lent */
	uint64_t work;			   /* bytes moved in this callback */
	uint64_t tx_work;		   /* and what was done for the port, see tx.c */
	bool told;			   /* the port has config; the primary's */
	struct vmbus_port_config config;
};

static inline bool vmbus__net_is_primary(const struct vmbus__net_chan *ch)
{
	return ch->number == 0;
}

static inline void vmbus__net_count(struct vmbus__net_chan *ch, enum vmbus__net_count which,
				    uint64_t n)
{
	ch->count[which] += n;
}

/* ---- what the control gives the data path: all on the thread of the primary channel ---- */

/* A session begins (session->control is NULL), ends.  0 or an error. */
int vmbus__net_control_open(struct vmbus__net_chan *ch);
void vmbus__net_control_close(struct vmbus__net_chan *ch);
/* An in-band NVSP message, but number 107; len is 4 at least, what pkt points to is private.  Answers
   by vmbus__net_complete(). */
void vmbus__net_nvsp(struct vmbus__net_chan *ch, const struct vmbus_packet *pkt);
/* Number 107 came while shape.messages is false: may it?  If so the control has set it. */
bool vmbus__net_may_begin(struct vmbus__net_chan *ch);
/* An RNDIS message that is no PACKET, private, of 8 bytes at least, len is what the guest told.  The
   108 is the caller's; false makes it status 2. */
bool vmbus__net_rndis(struct vmbus__net_chan *ch, uint8_t *msg, uint32_t len);
/* There may be room again for control messages, somebody called vmbus__net_poke(), or the timer that
   vmbus__net_timer() set is due. */
void vmbus__net_control_again(struct vmbus__net_chan *ch);

/* ---- what the data path gives the control ---- */

/* vsp.c: answer a request; kept while the ring has no room.  Fails the channel when too many wait,
   which cannot be. */
void vmbus__net_complete(struct vmbus__net_chan *ch, uint64_t id, const void *msg, uint32_t len);
/* The same for a message of ours that wants no answer, of id 0. */
void vmbus__net_inband(struct vmbus__net_chan *ch, const void *msg, uint32_t len);
/* Any thread: have vmbus__net_control_again() called.  With the lock held, while net->session is. */
void vmbus__net_poke(struct vmbus__net_session *session);
/* Call vmbus__net_control_again() in so many milliseconds, 0: never.  One timer. */
void vmbus__net_timer(struct vmbus__net_chan *ch, uint32_t ms);

/*
 * shape.c: change what was agreed on: lock, change session->shape (but receive and send), and call
 * vmbus__net_shape_end(), which unlocks, has this channel take it up at once and the others soon, and
 * tells the port.
 */
struct vmbus__net_shape *vmbus__net_shape_begin(struct vmbus__net_chan *ch);
void vmbus__net_shape_end(struct vmbus__net_chan *ch);

/* rx.c: send an RNDIS control message to the guest, in a receive section.  FULL: none is free, or the
   ring is; vmbus__net_control_again() follows.  RANGE: longer than a section.  STATE: no buffer. */
int vmbus__net_send_control(struct vmbus__net_chan *ch, const void *msg, uint32_t len);

/*
 * buffer.c: take the guest's buffers.  mtu of the shape is final by then.
 *
 * Errors: as vmbus_chan_gpadl(); RANGE also for one that is too small, or of several ranges;
 *	   STATE  there is one already
 */
int vmbus__net_take_receive(struct vmbus__net_chan *ch, uint32_t gpadl, uint32_t *section_bytes,
			    uint32_t *sections);
int vmbus__net_take_send(struct vmbus__net_chan *ch, uint32_t gpadl, uint32_t *sections);
/* Nothing of it is used any more, by this channel at once, by the others soon.  None: no effect. */
void vmbus__net_revoke_receive(struct vmbus__net_chan *ch);
void vmbus__net_revoke_send(struct vmbus__net_chan *ch);

/* Grant sub-channels: seats with inboxes, and receive sections shared out, to each channel one at least;
   not offered yet.  Returns how many, at most asked; 0 when there is no memory. */
uint32_t vmbus__net_grant(struct vmbus__net_chan *ch, uint32_t asked);

/* ---- among the files of the data path ---- */

/* buffer.c.  read and write: offset + len <= bytes; spans: pieces of it, at most room (0 when they are
   more). */
void vmbus__net_buffer_use(struct vmbus__net_buffer *buffer);			      /* lock */
void vmbus__net_buffer_drop(struct vmbus_net *net, struct vmbus__net_buffer *buffer); /* lock */
void vmbus__net_buffer_write(const struct vmbus__net_buffer *buffer, uint64_t offset,
			     const void *from, uint64_t len);
uint32_t vmbus__net_buffer_sections(const struct vmbus__net_buffer *buffer,
				    uint32_t *section_bytes);
uint32_t vmbus__net_buffer_spans(const struct vmbus__net_buffer *buffer, uint64_t offset,
				 uint64_t len, struct vmbus_span *span, uint32_t room);

/* shape.c: take up a shape that has changed; wake all channels of a session (lock). */
void vmbus__net_shape_refresh(struct vmbus__net_chan *ch);
void vmbus__net_wake(struct vmbus__net_session *session);

/* glue.c: the port's queue of a channel. */
int vmbus__net_queue_open(struct vmbus__net_chan *ch);
void vmbus__net_queue_close(struct vmbus__net_chan *ch);
void vmbus__net_queue_hear(struct vmbus__net_chan *ch);
void vmbus__net_queue_takes(struct vmbus__net_chan *ch); /* lock */
void vmbus__net_configure(struct vmbus__net_chan *ch);

/* tx.c */
int vmbus__net_tx_make(struct vmbus__net_chan *ch);
void vmbus__net_tx_free(struct vmbus__net_chan *ch);
void vmbus__net_tx_packet(struct vmbus__net_chan *ch, const struct vmbus_packet *pkt);
void vmbus__net_tx_run(struct vmbus__net_chan *ch);
void vmbus__net_tx_forget(struct vmbus__net_chan *ch);
bool vmbus__net_tx_waits(const struct vmbus__net_chan *ch);
bool vmbus__net_tx_is_due(const struct vmbus__net_chan *ch);

/* rx.c */
int vmbus__net_rx_make(struct vmbus__net_chan *ch);
void vmbus__net_rx_free(struct vmbus__net_chan *ch);
void vmbus__net_rx_begin(struct vmbus__net_chan *ch);
void vmbus__net_rx_forget(struct vmbus__net_chan *ch);
void vmbus__net_rx_returned(struct vmbus__net_chan *ch, const struct vmbus_packet *pkt);
void vmbus__net_rx_poll(struct vmbus__net_chan *ch);
void vmbus__net_rx_inbox(struct vmbus__net_chan *ch);
void vmbus__net_rx_asked(struct vmbus__net_chan *ch);
void vmbus__net_rx_end(struct vmbus__net_chan *ch);
bool vmbus__net_rx_is_open(const struct vmbus__net_chan *ch);
bool vmbus__net_rx_starves(const struct vmbus__net_chan *ch);
bool vmbus__net_rx_inbox_waits(const struct vmbus__net_chan *ch);
uint32_t vmbus__net_rx_shares(const struct vmbus__net_chan *ch, uint32_t subs);
void vmbus__net_rx_share(struct vmbus__net_chan *ch, uint32_t subs);
uint32_t vmbus__net_deliver(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			    uint32_t n);

/* save.c: what the data path has under way on a channel, as bytes of its own.  save: bytes, RANGE.
   restore: 0, or PEER for what cannot be; after the buffers were taken again. */
int vmbus__net_data_save(struct vmbus__net_chan *ch, uint8_t *buf, size_t bytes);
int vmbus__net_data_restore(struct vmbus__net_chan *ch, const uint8_t *buf, size_t bytes);

/* The control's save() and restore() of a channel, sub-channels included; for a primary restore comes
   in the place of vmbus__net_control_open(). */
int vmbus__net_save(struct vmbus__net_chan *ch, void *buf, size_t bytes);
int vmbus__net_restore(struct vmbus__net_chan *ch, const void *buf, size_t bytes);

/* net.c */
void vmbus__net_log(struct vmbus_net *net, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
