/* SPDX-License-Identifier: MIT */
/*
 * The network device's provider (NetVSP): a NIC of a guest, with a port behind it.
 *
 * Concepts, what guests ask for, limits, counters: vmbus_net(7).
 */
#ifndef VMBUS_NET_H
#define VMBUS_NET_H

#include <vmbus/ctl.h>
#include <vmbus/port.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_vsp;
struct vmbus_net; /* a NIC; opaque */

#define VMBUS_NET_SUBCHANNELS_MAX 63u
#define VMBUS_NET_MTU_MAX 9202u

#define VMBUS_NET_LINK_DOWN 1u	/* to begin with */
#define VMBUS_NET_NO_PACK 2u	/* each frame to the guest has a receive section of its own */
#define VMBUS_NET_NO_OFFLOAD 4u /* tell the guest of no checksum and large-send offload */
#define VMBUS_NET_NO_RSC 8u	/* give it no large receive frames, whatever it asks */

/* Options of a NIC; 0 takes the default in brackets. */
struct vmbus_net_opts {
	size_t struct_bytes;	/* sizeof(struct vmbus_net_opts) */
	struct vmbus_port port; /* kept, and not destroyed */
	uint8_t mac[6];		/* all zero: the port's; if it has none, made of id */
	uint8_t reserved1[2];
	uint32_t flags;	      /* VMBUS_NET_* */
	uint32_t subchannels; /* that a guest may ask for, up to VMBUS_NET_SUBCHANNELS_MAX */
	uint32_t mtu_max;     /* [VMBUS_NET_MTU_MAX] that a guest may choose, 1500 and up */
	uint32_t
		section_bytes; /* [6144] of the guest's send buffer, 256 to 1 MiB, a multiple of 8 */
	uint32_t frames_max;   /* [8] that a guest may put into one message, up to 64 */
	uint32_t packets_max;  /* [1024] of a channel that wait for the port, up to 4096 */
	uint64_t bits_per_s;   /* [the port's, or 10 Gb/s] that the guest is told */
	const char *name;      /* NULL, or a friendly name, up to 255 characters of ASCII */
	/* A line of text, at most ten a second.  May be NULL. */
	void (*log)(void *ctx, const char *line);
	void *ctx;
	struct vmbus_guid id; /* of the NIC, the same at each start */
	uint64_t reserved[4];
};

/* Counters, of a channel or of the NIC, since it was made. */
struct vmbus_net_stats {
	uint64_t sent_frames, sent_bytes; /* by the guest, taken or dropped by the port; TSO: one */
	uint64_t received_frames, received_bytes; /* by the guest */
	uint64_t sent_packets, received_packets;  /* of the ring that they came in */
	uint64_t cut;				  /* segments made of TSO frames in software */
	uint64_t summed;			  /* frames whose checksum was made in software */
	uint64_t sent_bad;   /* messages that make no sense, or frames that cannot be */
	uint64_t sent_waits; /* times that the port had no room */
	uint64_t no_room;    /* received frames dropped: no receive section, or no ring */
	uint64_t too_long;   /* longer than the MTU, or the guest's sections */
	uint64_t filtered;   /* not wanted by the guest's filter */
	uint64_t stopped;    /* of the guest's while its NIC was halted, or it had no link */
	uint64_t control;    /* RNDIS control messages */
	uint64_t lent;	     /* receive sections that the guest has now */
	uint64_t port_sent, port_received; /* dropped by the port itself; of the NIC only */
	uint64_t reserved[6];
};

/* What the NIC and its guest agreed on. */
struct vmbus_net_state {
	uint32_t version; /* of NVSP, 0x00060001 for 6.1; 0: not there yet */
	uint32_t mtu;
	uint32_t filter;   /* of packets, as in NDIS; 0: the guest's interface is down */
	uint32_t channels; /* open */
	uint32_t asked;	   /* sub-channels that the guest asked for and was granted */
	uint32_t tx, rx;   /* VMBUS_FRAME_*: offloads that are on */
	uint32_t receive_sections, receive_section_bytes;
	uint32_t send_sections;
	bool up; /* link */
	bool rss, rsc;
	uint8_t mac[6]; /* that the guest uses now */
	uint8_t reserved1[7];
	uint64_t reserved[4];
};

/*
 * Make a NIC.
 *
 * opts	 copied.
 * net	 on success.
 *
 * Errors: INVAL  struct_bytes is too small, no port, one that lacks what is mandatory, or has both
 *		  receive and ready; a name that is not printable; a multicast address
 *	   RANGE  a number is past its limit, also one of the port's; bits of its can that are unknown;
 *		  a name of more than 255 characters
 *	   NOMEM, SYSTEM, and what the port's info() returned
 * Effect: none on error, but a line in the log that says what is wrong.
 * Threads: any.
 */
VMBUS_API int vmbus_net_create(const struct vmbus_net_opts *opts, struct vmbus_net **net);

/*
 * End it.
 *
 * net	NULL is allowed.  Every channel that was offered with it is gone.
 *
 * Effect: the port may be destroyed.
 * Threads: none other in a call on it.
 */
VMBUS_API void vmbus_net_destroy(struct vmbus_net *net);

/*
 * The provider, for vmbus_bus_offer() and vmbus_provider_attach(); its context is a NIC, which one guest
 * at a time has: while its primary channel is open, another open of it is refused.  Channels with own_fd
 * may be dispatched by any threads.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const struct vmbus_vsp *vmbus_net_vsp(void);

/*
 * Pull the plug, or put it in: the guest is told.  While it is out, frames are dropped and counted.
 *
 * Effect: a message to the guest, two seconds after the last one at the earliest; the last state counts.
 * Threads: any.
 */
VMBUS_API void vmbus_net_link(struct vmbus_net *net, bool up);

/*
 * What the port's info() tells has changed: link, speed, offloads.
 *
 * Errors: RANGE	 it makes no sense: nothing changes
 *	   what info() returned: there is no link from then on
 * Effect: the guest is told of link and speed.
 * Threads: any.
 */
VMBUS_API int vmbus_net_port_changed(struct vmbus_net *net);

/*
 * Read counters, and what was agreed on.
 *
 * channel  0 (the primary) and up, or VMBUS_NET_ALL: all of the NIC.
 *
 * Errors: RANGE  there was never such a channel
 * Effect: none but on stats, state.
 * Threads: any.
 */
#define VMBUS_NET_ALL UINT32_MAX
VMBUS_API int vmbus_net_stats(const struct vmbus_net *net, uint32_t channel,
			      struct vmbus_net_stats *stats);
VMBUS_API void vmbus_net_state(const struct vmbus_net *net, struct vmbus_net_state *state);

#ifdef __cplusplus
}
#endif
#endif
