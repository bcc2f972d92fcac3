/* SPDX-License-Identifier: MIT */
/*
 * The part of the socket's protocol that parents and device providers speak, as a struct and as
 * bytes.  vmbus_provider(7) has it byte by byte.  Nothing here knows a bus.
 */
#ifndef VMBUS_SHM_PROVIDER_PROTO_H
#define VMBUS_SHM_PROVIDER_PROTO_H

#include "shm/proto.h"

#define VMBUS_PV_INLINE 56u /* qwords of a page list that fit into its message */
#define VMBUS_PV_VSP_BYTES 32u

enum vmbus__pv_type {
	VMBUS_PV_PROVIDE = 16,	  /* provider: I have this device */
	VMBUS_PV_PROVIDED = 17,	  /* parent: welcome */
	VMBUS_PV_BUS = 18,	  /* parent: a partition; its regions follow */
	VMBUS_PV_REGION = 19,	  /* parent: memory of it, with a descriptor */
	VMBUS_PV_BUS_READY = 20,  /* provider: I can serve it */
	VMBUS_PV_BUS_GONE = 21,	  /* parent: it is gone */
	VMBUS_PV_GPADL = 22,	  /* parent: a page list of a channel */
	VMBUS_PV_GPADL_GONE = 23, /* parent: let go of it */
	VMBUS_PV_GPADL_DONE = 24, /* provider: I have */
	VMBUS_PV_OPEN = 25,	  /* parent: serve a channel */
	VMBUS_PV_OPENED = 26,	  /* provider: I do, or why not */
	VMBUS_PV_CLOSE = 27,	  /* parent: no more */
	VMBUS_PV_CLOSED = 28,	  /* provider: it is closed */
	VMBUS_PV_MODIFY = 29,	  /* parent: signal the child in another way */
	VMBUS_PV_SIGNAL = 30,	  /* either: signal this channel in my place */
	VMBUS_PV_SUBS = 31,	  /* provider: offer so many sub-channels */
	VMBUS_PV_FAULT = 32,	  /* provider: the channel is broken, and why */
	VMBUS_PV_YIELD = 33,	  /* parent: stop, another one takes over */
	VMBUS_PV_YIELDED = 34,	  /* provider: I touch nothing any more */
	VMBUS_PV_MEMORY = 35,	  /* provider: memory of this name, please, or no more */
	VMBUS_PV_MEMORY_IS = 36,  /* parent: here it is, or why not */
	VMBUS_PV_GPADL_KNOWN = 37 /* provider: the bus of mine has the page list, or refused it */
};
#define VMBUS_PV_FIRST 16u
#define VMBUS_PV_END 38u
#define VMBUS_PV_MEMORY_MAX ((uint64_t)1 << 46) /* bytes of a memory */

/* Flags of PROVIDE. */
#define VMBUS_PV_RESUMABLE 0x1u
#define VMBUS_PV_TAKE_OVER 0x2u
/* Flags of OPEN and MODIFY: which descriptors there are, in this order, and what they are for. */
#define VMBUS_PV_LISTENER 0x1u /* OPEN: an epoll set that hears the child's signals */
#define VMBUS_PV_JOURNAL 0x2u  /* OPEN: the journal, of the bytes that PROVIDE asked for */
#define VMBUS_PV_WAKE 0x4u     /* an eventfd that wakes the child, with the flags at gpa */
#define VMBUS_PV_RESUME 0x8u   /* OPEN: it was open before; the journal tells */
#define VMBUS_PV_QUIET 0x10u   /* the child wants no signals */

/* One message, decoded.  Members that its type has not are 0. */
struct vmbus__pv_msg {
	uint32_t type;
	uint32_t code; /* REFUSED, BYE, MEMORY_IS */
	uint32_t flags;
	uint32_t bus; /* a number of the parent's, never used again */
	uint32_t sub; /* of the channel: 0 the primary */
	uint32_t
		open; /* of its opening: a number of the parent's that rises; MEMORY: of the asker's */
	uint32_t gpadl;
	uint32_t count; /* regions, qwords, sub-channels */
	uint32_t ranges;
	uint32_t down_page;
	uint32_t event_flag;
	uint32_t err; /* OPENED: 0, or an error of ours, negated */
	uint32_t access;
	uint32_t max_payload;
	uint32_t ring_bytes_max;
	uint32_t offer_flags;
	uint32_t mmio_mb;
	uint32_t monitor_us;
	uint64_t gpa;
	uint64_t bytes;
	uint64_t offset;
	uint64_t journal;
	uint64_t wait_ns;
	uint64_t answer_ns;
	struct vmbus_guid class_id;
	struct vmbus_guid instance_id;
	char name[VMBUS_SHM_NAME_BYTES];
	char vsp[VMBUS_PV_VSP_BYTES];
	char text[VMBUS_SHM_TEXT_BYTES];
	uint8_t user[120];
	uint64_t qwords[VMBUS_PV_INLINE];
};

/* Bytes of a message of this type, 0 for one that is not of providers. */
uint32_t vmbus__pv_msg_bytes(uint32_t type);

/* Whether a record is of this part of the protocol, by its type alone. */
bool vmbus__pv_is_ours(const uint8_t *bytes, size_t len);

/* Write a message; returns its bytes. */
uint32_t vmbus__pv_encode(const struct vmbus__pv_msg *msg, uint8_t out[VMBUS_SHM_MSG_MAX]);

/* Read a message from a private copy.  Errors: as vmbus__shm_decode(). */
int vmbus__pv_decode(const uint8_t *bytes, size_t len, struct vmbus__pv_msg *msg);

/* Send one message without waiting.  Errors: as vmbus__shm_send(). */
int vmbus__pv_send(int sock, const struct vmbus__pv_msg *msg, const int *fds, int fd_count);

#endif
