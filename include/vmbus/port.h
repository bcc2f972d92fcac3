/* SPDX-License-Identifier: MIT */
/*
 * Network ports: where the frames of a NIC go to, and come from.  A port is a small table of functions
 * and a context; the NIC above it speaks RNDIS and knows nothing of devices and sockets, nor the port
 * of VMBus.
 *
 * Concepts, a whole port, which ones there are: vmbus_port(7).
 */
#ifndef VMBUS_PORT_H
#define VMBUS_PORT_H

#include <vmbus/frame.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_PORT_QUEUES_MAX 64u
#define VMBUS_PORT_BURST 64u /* frames, and rooms, of one call at most */

/* What a port tells of itself; asked again after vmbus_net_port_changed(). */
struct vmbus_port_info {
	/* VMBUS_FRAME_CSUM, _TSO4, _TSO6, _VLAN: frames with these flags may be given to send();
	   for others it is done before.  IP_CSUM is never left due, but within TSO4. */
	uint32_t can;
	uint32_t queues;  /* that can be opened, 1 to VMBUS_PORT_QUEUES_MAX */
	uint32_t mtu_max; /* largest IP packet that send() takes without TSO; 0: any */
	bool up;	  /* there is a link */
	uint8_t mac[6];	  /* that the guest is to have; all zero: it does not matter */
	uint8_t reserved1;
	uint64_t bits_per_s; /* 0: unknown */
	uint32_t tso_max;    /* bytes of a frame with TSO that send() takes, 0: any; larger ones are
				cut before */
	uint32_t reserved2;
	uint64_t reserved[3];
};

/* What the NIC tells a port, whenever it changes: which frames the guest takes.  Another number of queues
   alone is no change: open() and close() tell of that. */
struct vmbus_port_config {
	uint32_t takes;	 /* VMBUS_FRAME_CSUM, _TSO4, _TSO6, _VLAN: may be set in what it receives */
	uint32_t mtu;	 /* without the Ethernet header */
	uint32_t queues; /* in use when this is told: 0 to queues - 1 */
	bool running;	 /* false: the guest wants no frames */
	bool promiscuous, all_multicast;
	uint8_t mac[6]; /* of the guest */
	uint8_t reserved1[3];
	uint64_t reserved[4];
};

/*
 * One queue of a port.  All calls for a queue come from one thread at a time; different queues of a
 * port come from different threads at the same time.
 */
struct vmbus_port_queue {
	void *ctx;	 /* of the port */
	void *priv;	 /* the port's, set by open() */
	uint32_t number; /* 0 and up */
	int fd;	    /* -1, or the port's, set by open(): readable when ready() is to be called */
	void *up_p; /* the NIC's */
	uint32_t (*deliver_p)(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			      uint32_t n);
	uint64_t reserved_p[4];
};

/* Room for one frame that is received, in the guest's memory: to be written, never to be read. */
struct vmbus_port_room {
	const struct vmbus_span *span;
	uint32_t spans;
	uint32_t room; /* bytes of all spans */
	/* Set by receive(), as in struct vmbus_frame; flags 0 is what a wire gives. */
	uint32_t bytes;
	uint32_t flags;
	uint16_t csum_start, csum_offset, header_bytes, mss, vlan;
	uint16_t reserved1;
	uint32_t hash;
	uint64_t reserved[2];
};

/*
 * A port.  info and send are mandatory; NULL stands for what the port does not have.
 */
struct vmbus_port_ops {
	size_t struct_bytes; /* sizeof(struct vmbus_port_ops) */
	const char *name;    /* for messages, for instance "tap" */
	/* 0, or an error: it cannot be used, or not any more.  Any thread. */
	int (*info)(void *ctx, struct vmbus_port_info *info);
	/* A channel begins, ends to use a queue.  At the begin fd is -1 and priv NULL.  open: 0, or
	   an error, and then nothing was kept. */
	int (*open)(struct vmbus_port_queue *queue);
	void (*close)(struct vmbus_port_queue *queue);
	/*
	 * Frames of the guest's, in order; the bytes are lent for the call.  What is taken is sent,
	 * or dropped and counted by the port.  Returns how many were taken, from the first on: fewer
	 * than n when there is no room now; the rest comes again after the next ready() or
	 * receive() of this queue, for which the descriptor becomes readable.
	 */
	uint32_t (*send)(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			 uint32_t n);
	/*
	 * The descriptor is readable, or may be; also when it is not: fill rooms, from the first on,
	 * without waiting.  Returns how many have a frame; fewer than n: no more is there.  It is not
	 * called while the guest has no room.
	 */
	uint32_t (*receive)(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			    uint32_t n);
	/* The same for a port without receive: it calls vmbus_port_deliver() for what came. */
	void (*ready)(struct vmbus_port_queue *queue);
	/* What the guest takes has changed.  Any thread, one at a time; may come before open(). */
	void (*configure)(void *ctx, const struct vmbus_port_config *config);
	/* From vmbus_port_destroy(). */
	void (*destroy)(void *ctx);
	/* Frames that the port itself has dropped.  Any thread. */
	void (*dropped)(void *ctx, uint64_t *sent, uint64_t *received);
	void *reserved_p[4];
};

/* A port: small, copied. */
struct vmbus_port {
	const struct vmbus_port_ops *ops;
	void *ctx;
};

/*
 * From ready(), or send(): frames for the guest, which are copied.
 *
 * queue  as the port was given it.
 * frame  n frames, in order.
 *
 * Returns how many the guest has, from the first on; the rest finds no room: the port drops and counts
 * them, or keeps them for its next ready(), which comes when there is room.  Frames that the guest does
 * not want, by its filter, or that are too long, count as taken.
 * Effect: as told.
 * Threads: the queue's.
 */
VMBUS_API uint32_t vmbus_port_deliver(struct vmbus_port_queue *queue,
				      const struct vmbus_frame *frame, uint32_t n);

/*
 * Free what a call of this library put into a port.
 *
 * port  ops NULL: nothing happens.  No NIC and no switch uses it.
 *
 * Effect: ops is NULL then.
 * Threads: any.
 */
VMBUS_API void vmbus_port_destroy(struct vmbus_port *port);

/*
 * Two ports that are each other's far end: what is sent into one comes out of the other, for two NICs
 * of this process.
 *
 * bytes  of frames that wait on each side, a power of two from 128 KiB to 16 MiB; 0: 256 KiB.  What
 *	  finds no room there is dropped and counted; so is what still waits when a NIC opens.
 * two	  set on success; each is destroyed by itself.
 *
 * Errors: RANGE, NOMEM, SYSTEM
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_port_pair(uint32_t bytes, struct vmbus_port two[2]);

#ifdef __cplusplus
}
#endif
#endif
