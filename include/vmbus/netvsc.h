/* SPDX-License-Identifier: MIT */
/*
 * The network device's client (NetVSC): bursts of Ethernet frames, sent by copy or built in place, and
 * received in place, on a primary channel and its sub-channels.  Freestanding: it runs in a process, in
 * a guest's user space and in a program without an operating system.
 *
 * Concepts, a whole client: vmbus_netvsc(7).
 *
 * Threads: "the guest's" and "the channel's" as in <vmbus/vsc.h>; "the primary's" is that of channel 0.
 */
#ifndef VMBUS_NETVSC_H
#define VMBUS_NETVSC_H

#include <vmbus/frame.h>
#include <vmbus/vsc.h>

#ifdef __cplusplus
extern "C" {
#endif

/* {f8615163-df3e-46c5-913f-f2d2f965ed0e}, the synthetic network adapter */
#define VMBUS_NET_CLASS                                                                            \
	VMBUS_GUID(0xf8615163, 0xdf3e, 0x46c5, 0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e)

#define VMBUS_NETVSC_CHANNELS_MAX 64u
#define VMBUS_NETVSC_BURST 64u	     /* frames of one burst */
#define VMBUS_NETVSC_PIECES 128u     /* pieces of its frames */
#define VMBUS_NETVSC_SECTIONS 1024u  /* of the send buffer, that one channel uses at most */
#define VMBUS_NETVSC_RANGES 4096u    /* received frames that wait for vmbus_netvsc_receive() */
#define VMBUS_NETVSC_PACKETS 512u    /* received packets that are not released */
#define VMBUS_NETVSC_OID_BYTES 1024u /* of information that a request carries, each way */

/* struct vmbus_netvsc_opts: flags. */
#define VMBUS_NETVSC_NO_OFFLOAD 1u /* ask for no checksum and large-send offload */
#define VMBUS_NETVSC_RSC 2u	   /* take frames that the host has merged, with TSO flags */

/* Packet filter. */
#define VMBUS_NETVSC_DIRECTED 0x1u
#define VMBUS_NETVSC_ALL_MULTICAST 0x4u
#define VMBUS_NETVSC_BROADCAST 0x8u
#define VMBUS_NETVSC_PROMISCUOUS 0x20u

struct vmbus_netvsc;

/*
 * Received frames: caller's storage, need not be zeroed.  Every piece lies in memory that THE PARENT CAN
 * CHANGE AT ANY TIME: copy what you check.  flags and their fields are as in <vmbus/frame.h>, and come
 * from private copies; CSUM and TSO are set only in opts.flags' sense.
 */
struct vmbus_netvsc_burst {
	uint32_t frames; /* in frame */
	uint32_t pieces_p, runs_p;
	struct vmbus_frame frame[VMBUS_NETVSC_BURST];
	struct vmbus_iov piece_p[VMBUS_NETVSC_PIECES];
	struct {
		uint16_t packet, ranges;
	} run_p[VMBUS_NETVSC_PIECES];
};

/* Counters of a channel, since start. */
struct vmbus_netvsc_stats {
	uint64_t sent_frames, sent_bytes, sent_packets;
	uint64_t received_frames, received_bytes, received_packets;
	uint64_t refused; /* sent packets whose completion says that they were bad */
	uint64_t bad;	  /* frames, packets and messages of the host's that make no sense */
	uint64_t dropped; /* received frames that found no room in the queue here */
	uint64_t full;	  /* sends that found no room */
	uint64_t summed;  /* checksums made here */
	uint64_t waiting; /* frames now, for vmbus_netvsc_receive() */
	uint64_t held;	  /* packets now, whose frames are not released */
	uint64_t sections, sections_free; /* of the send buffer, now */
	uint64_t reserved[4];
};

/* A channel: caller's storage, about 50 KiB.  All is private. */
struct vmbus_netvsc_chan {
	struct vmbus_netvsc *netvsc_p;
	struct vmbus_vsc *vsc_p; /* NULL: not opening, not open */
	uint32_t number_p;
	bool open_p;   /* opened() was told, and it has not ended; the guest's thread's */
	bool pull_p;   /* own_thread or poll: dispatched from here */
	bool own_p;    /* own_thread */
	bool left_p;   /* own_thread: its thread has left it, or does if the dispatch says so */
	bool inside_p; /* dispatching from here */
	bool wants_p;  /* writable() is due */
	bool held_p;   /* a place is reserved, in the open section */
	bool reserved1_p;
	/* Sending: sections by number in the channel, and the one that is being filled. */
	uint32_t first_p, count_p, free_count_p;
	uint32_t open_section_p, open_bytes_p, open_frames_p;
	uint32_t room_p, room_info_p, room_flags_p; /* of vmbus_netvsc_reserve() */
	/* Receiving: lists of packets, by index. */
	uint32_t range_at_p, range_count_p;
	uint32_t wait_first_p, wait_last_p; /* not received to the end */
	uint32_t due_first_p, due_last_p;   /* completions that found no room */
	uint32_t packet_free_p, packet_count_p;
	struct vmbus_netvsc_stats stats_p;
	uint16_t free_p[VMBUS_NETVSC_SECTIONS]; /* a stack */
	uint16_t next_p[VMBUS_NETVSC_SECTIONS]; /* of the same frame */
	uint64_t range_p[VMBUS_NETVSC_RANGES];
	struct {
		uint64_t id;
		uint32_t left; /* ranges that are not released */
		uint32_t wait; /* ranges that are not received */
		uint16_t next;
		bool bad;
		uint8_t reserved[5];
	} packet_p[VMBUS_NETVSC_PACKETS];
	uint64_t reserved_p[8];
};

/* How to open; 0 takes the default in brackets. */
struct vmbus_netvsc_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_netvsc_opts) */
	/* 1 + subchannels of them; kept until the end.  Need not be zeroed. */
	struct vmbus_netvsc_chan *chan;
	/* Wanted, up to 63.  The host may give fewer; and no more are asked for than leave each channel
	   so much of send_bytes that a frame of mtu has room. */
	uint32_t subchannels;
	uint32_t flags; /* VMBUS_NETVSC_* */
	/* [1500] asked for, 68 and up; the host may give less.  Frames that come may have 1500 even so. */
	uint32_t mtu;
	uint32_t filter;	/* [0x0D: directed, all multicast, broadcast] */
	uint32_t receive_bytes; /* [2 MiB] of the receive buffer, 64 KiB to 31 MiB */
	uint32_t send_bytes;	/* [1 MiB] of the send buffer, 64 KiB to 31 MiB */
	uint32_t frames_max; /* [the host's] in one packet, up to 64, never more than the host's */
	uint32_t vps;	     /* [1] channel n interrupts the VP open.target_vp + n % vps */
	uint8_t mac[6];	     /* all zero: the host's */
	uint8_t reserved1[2];
	/* Ring sizes [256 KiB each], target_vp, poll and own_thread of all channels; the rest is
	   filled in.  All zero: all defaults. */
	struct vmbus_vsc_opts open;
	/* The NIC can be used, from the primary's thread; or why not, from the guest's, and that is
	   the end.  Once for each start. */
	void (*ready)(void *ctx, int err);
	/* One more channel is open, the primary first; from the guest's thread.  With own_thread
	   its thread may begin, and must for the primary: ready() comes from there.  May be NULL. */
	void (*opened)(void *ctx, uint32_t channel);
	/* own_thread: as wake() in struct vmbus_vsc_opts. */
	void (*wake)(void *ctx, uint32_t channel);
	/* Neither own_thread nor poll: frames wait for vmbus_netvsc_receive().  It comes again with
	   the next packet only.  May be NULL. */
	void (*readable)(void *ctx, uint32_t channel);
	/* After FULL there is room again on that channel.  May be NULL. */
	void (*writable)(void *ctx, uint32_t channel);
	/* The link went up or down, or its speed has changed.  From the primary's thread, after
	   ready().  May be NULL. */
	void (*link)(void *ctx, bool up);
	/* The end, after ready(0), from the guest's thread: it was stopped, or the parent left; no
	   frame that was received may be used any more.  May be NULL. */
	void (*closed)(void *ctx);
	void *ctx;
	uint64_t reserved2[4];
};

/*
 * A query or set of an OID: caller's storage, the client's until done().  Set what is above "outcome",
 * zero the rest.
 */
struct vmbus_netvsc_req {
	uint32_t oid;
	bool set;
	uint8_t reserved1[3];
	const void *in;	   /* information of a set, or of a query that has some */
	void *out;	   /* room for the answer to a query */
	uint32_t in_bytes; /* up to VMBUS_NETVSC_OID_BYTES */
	uint32_t out_bytes;
	void (*done)(struct vmbus_netvsc_req *req);
	void *ctx;
	/* Outcome: 0; RANGE with the status of RNDIS, or when the answer has no room; PEER when the
	   channel ended before, or the answer made no sense. */
	int err;
	uint32_t status;
	uint32_t got; /* bytes in out */
	uint32_t id_p;
	struct vmbus_netvsc_req *next_p;
	uint8_t bytes_p[80]; /* of vmbus_netvsc_set_mac() and _set_filter() */
	uint64_t reserved_p[2];
};

/* A NIC, in the caller's storage.  What is above "private" may be read by the primary's thread from
   ready() on, by others if they are told of it; what has no other comment stays as it is. */
struct vmbus_netvsc {
	uint32_t version; /* of NVSP: 0x00060001 for 6.1, down to 2 for 1 */
	uint32_t offered; /* channels that the host has promised, the primary included */
	uint32_t mtu;
	/* To send: bytes of a frame without TSO, VLAN tag not counted, and of one with TSO, 0: none; no
	   more than each channel's part of the send buffer has room for. */
	uint32_t frame_max, tso_max;
	uint32_t frames_max;	/* in one packet */
	uint32_t section_bytes; /* of the send buffer */
	uint32_t tx;		/* VMBUS_FRAME_*: flags that frames may have; CSUM always */
	uint32_t rx;		/* that received ones may have */
	uint8_t mac[6], permanent_mac[6]; /* mac: vmbus_netvsc_set_mac() changes it */
	bool up;			  /* link(): changes */
	uint8_t reserved1[3];
	uint64_t bits_per_s; /* link(): changes */
	uint8_t table[16];   /* the channel for a sent flow of that hash % 16; changes */
	uint64_t bad;	     /* messages of the host's, on any channel, that made no sense */
	/* Private. */
	struct vmbus_netvsc_opts opts_p;
	struct vmbus_guest *guest_p;
	struct {
		uint8_t *pages;
		uint32_t count, gpadl;
		bool shared, lost, going;
		uint8_t reserved;
	} buffer_p[2];	 /* receive, send */
	uint8_t *page_p; /* for messages of RNDIS */
	uint64_t page_pfn_p;
	uint32_t receive_section_p;
	uint32_t sections_p; /* of the send buffer */
	uint32_t room_p;     /* bytes of messages that a section takes */
	uint32_t made_p;     /* checksums that the host makes */
	uint32_t entries_p;  /* of the table of RSS */
	uint32_t state_p;    /* shared by threads: 0, data may come, ready */
	uint32_t step_p, versions_p, subs_p, pending_p;
	int err_p;
	bool stop_p, handed_p, ended_p;
	bool asking_p, copied_p, answered_p; /* a request is on the wire, its page free, answered */
	bool up_next_p;
	uint32_t id_p;
	struct vmbus_netvsc_req *first_p, *last_p; /* requests, the one on the wire first */
	struct vmbus_netvsc_req req_p;
	uint8_t bytes_p[640]; /* of req_p: what is asked, and then the answer */
	uint64_t reserved_p[8];
};

/*
 * Open a NIC's channel, share its buffers, and agree on version, limits and offloads.  Goes on in
 * callbacks; ends with ready().  Sub-channels are asked for, opened, and receive by hash.
 *
 * nv	 caller's storage; kept until closed(), or a ready() with an error; the same for chan.
 * vsc	 an offered primary of class VMBUS_NET_CLASS.
 * opts	 copied.
 *
 * Errors: INVAL  struct_bytes is too small, chan is missing, or mac is a multicast address
 *	   RANGE  subchannels, mtu, frames_max, or a buffer is out of bounds
 *	   STATE, NOMEM, and INVAL and RANGE for open  as vmbus_vsc_open(), vmbus_vsc_share()
 * ready() may tell: PEER    the parent refused, made no sense, or withdrew the channel
 *		     NOTSUP  it knows none of the versions
 *		     STATE   vmbus_netvsc_stop() came first
 *		     FULL, FAULT, NOMEM, and others as vmbus_vsc_open(), vmbus_vsc_share()
 * Effect: takes pages from the guest for both buffers, and one more; none on error.
 * Threads: the guest's.
 * Source: [NET-INIT], [NET-BUFFERS] in vmbus_wire(7).
 */
VMBUS_API int vmbus_netvsc_start(struct vmbus_netvsc *nv, struct vmbus_vsc *vsc,
				 const struct vmbus_netvsc_opts *opts);

/*
 * Begin to end it: closed() follows.  Another start, for instance with another mtu, is fine then.
 *
 * Errors: STATE  it is not started, or stopping
 * Effect: without own_thread the parent is told by HALT first; frames that it has not taken are lost.
 * Threads: the guest's.
 * Source: [NET-DOWN] in vmbus_wire(7).
 */
VMBUS_API int vmbus_netvsc_stop(struct vmbus_netvsc *nv);

/*
 * The channel, for vmbus_vsc_hold(), vmbus_vsc_flush() and vmbus_vsc_set_vp().
 *
 * channel  0 (the primary) and up: the index of a sub-channel.
 *
 * Returns NULL for those that are not open.
 * Effect: none.
 * Threads: the channel's, and the guest's.
 */
VMBUS_API struct vmbus_vsc *vmbus_netvsc_channel(struct vmbus_netvsc *nv, uint32_t channel);

/*
 * Send frames: they are copied, several into one packet, and published with one signal, within a
 * callback of that channel when that returns.
 *
 * frame  n of them, borrowed for the call.  flags: any of nv->tx, CSUM with csum_start and csum_offset,
 *	  IP_CSUM; the headers that they speak of lie in the first piece.
 *
 * Returns how many, from the first on: fewer than n when there is no room, or one cannot be sent; then
 * the next call tells which.
 * Errors: FULL	  no section of the send buffer, or no room in the ring; writable() follows.  With
 *		  own_thread or poll vmbus_netvsc_receive() makes room
 *	   RANGE  more bytes than frame_max, or tso_max; fewer than 14; offsets that cannot be
 *	   INVAL  a flag that tx has not
 *	   STATE  it is not ready, or that channel is not open (any more); own_thread: the thread
 *		  may have left it just now, as in vmbus_netvsc_receive(), and what was taken is lost
 *	   PEER, FAULT  as vmbus_vsc_send()
 * Effect: none on error.
 * Threads: the channel's.
 * Source: [NET-DATA], [NET-PPI] in vmbus_wire(7).
 */
VMBUS_API int vmbus_netvsc_send(struct vmbus_netvsc *nv, uint32_t channel,
				const struct vmbus_frame *frame, uint32_t n);

/*
 * reserve: room for one frame in the send buffer, to be filled in place: write it once, and do not read
 * it back, since the parent can change it.  commit: it is there.  flush: publish what was committed;
 * whenever a packet is full that happens by itself, and vmbus_netvsc_send() does it as well.
 *
 * bytes, flags  of the frame, at most; its flags.
 * data	  set; until commit, or the next call on that channel; a dispatch of it counts as one, and what
 *	  a call goes on to do behind a callback that came in it.
 * frame  bytes, up to those of reserve, flags as told, and the fields that go with them; no pieces.
 *
 * Errors: as vmbus_netvsc_send(); reserve: RANGE also for more than a section has room for;
 *	   commit: STATE  nothing is reserved (any more)
 * Effect: none on error; but flush: FULL means that it follows as soon as there is room.
 * Threads: the channel's.
 * Source: [NET-DATA], [NET-PPI] in vmbus_wire(7).
 */
VMBUS_API int vmbus_netvsc_reserve(struct vmbus_netvsc *nv, uint32_t channel, uint32_t bytes,
				   uint32_t flags, void **data);
VMBUS_API int vmbus_netvsc_commit(struct vmbus_netvsc *nv, uint32_t channel,
				  const struct vmbus_frame *frame);
VMBUS_API int vmbus_netvsc_flush(struct vmbus_netvsc *nv, uint32_t channel);

/*
 * Take frames, in the order in which they came, where they lie.  With own_thread or poll this also does
 * what vmbus_vsc_dispatch() does: all callbacks of the channel come from here, and it must be called
 * from opened() on, until it returns STATE or PEER.
 *
 * burst  filled.
 * max	  frames, 1 to VMBUS_NETVSC_BURST.
 *
 * Returns how many, more may be there; 0: none, and, without poll, wake() or readable() tells of the
 * next ones.
 * Errors: AGAIN  own_thread, poll: none, but there may be at once
 *	   RANGE  max
 *	   STATE, PEER  as vmbus_vsc_dispatch(): the channel has ended, or was not open; with own_thread
 *		  the thread has left it, and must not touch it or its frames any more
 *	   FAULT  neither own_thread nor poll: it was broken before
 * Effect: as told.
 * Threads: the channel's.
 * Source: [NET-DATA], [NET-PPI] in vmbus_wire(7).
 */
VMBUS_API int vmbus_netvsc_receive(struct vmbus_netvsc *nv, uint32_t channel,
				   struct vmbus_netvsc_burst *burst, uint32_t max);

/*
 * Give back the frames of a burst, in any order of bursts; the host has few sections, and sends nothing
 * when it has none.
 *
 * burst  of that channel; empty then.
 *
 * Errors: as vmbus_vsc_complete(), but never FULL
 * Effect: one signal at most.
 * Threads: the channel's.
 */
VMBUS_API int vmbus_netvsc_release(struct vmbus_netvsc *nv, uint32_t channel,
				   struct vmbus_netvsc_burst *burst);

/*
 * Ask, or set; one by one, in order.  set_mac and set_filter fill req in, but for done and ctx.
 *
 * req	kept until its done(), which follows exactly once, perhaps before this returns.
 *
 * Errors: RANGE  in_bytes
 *	   INVAL  done, in, out or oid is missing; an address that is multicast, or all zero
 *	   STATE  it is not ready, or stopped
 * Effect: none on error, and no done().
 * Threads: the primary's.
 * Source: [NET-RNDIS], [NET-OID] in vmbus_wire(7).
 */
VMBUS_API int vmbus_netvsc_control(struct vmbus_netvsc *nv, struct vmbus_netvsc_req *req);
VMBUS_API int vmbus_netvsc_set_mac(struct vmbus_netvsc *nv, struct vmbus_netvsc_req *req,
				   const uint8_t mac[6]);
VMBUS_API int vmbus_netvsc_set_filter(struct vmbus_netvsc *nv, struct vmbus_netvsc_req *req,
				      uint32_t filter);

/*
 * The counters of a channel.
 *
 * Errors: RANGE  no such channel
 * Effect: none but on stats.
 * Threads: the channel's; the guest's while it is not open.
 */
VMBUS_API int vmbus_netvsc_stats(const struct vmbus_netvsc *nv, uint32_t channel,
				 struct vmbus_netvsc_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
