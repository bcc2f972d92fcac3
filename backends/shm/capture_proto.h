/* SPDX-License-Identifier: MIT */
/*
 * The part of the socket's protocol that tools ask by for a tap of a channel.  vmbus_shm(7) has it
 * byte by byte.  Nothing here knows a bus.
 */
#ifndef VMBUS_SHM_CAPTURE_PROTO_H
#define VMBUS_SHM_CAPTURE_PROTO_H

#include "shm/proto.h"

enum vmbus__cp_type {
	VMBUS_CP_CAPTURE = 50, /* anybody: let me see a channel; the connection's end ends it */
	VMBUS_CP_TAPPED = 51,  /* parent: memory, and a set that tells of records */
	VMBUS_CP_ENDED = 52    /* parent: nothing more will come, and why */
};
#define VMBUS_CP_FIRST 50u
#define VMBUS_CP_END 53u

struct vmbus__cp_capture {
	char name[VMBUS_SHM_NAME_BYTES]; /* of the child; empty: any */
	int32_t pid;			 /* 0: any */
	uint32_t relid;
	uint32_t snap;
	uint32_t bytes; /* of the memory, 0: what the parent likes */
};

struct vmbus__cp_tapped {
	uint64_t bytes;
};

/* One message, decoded. */
struct vmbus__cp_msg {
	uint32_t type; /* enum vmbus__cp_type */
	union {
		struct vmbus__cp_capture capture;
		struct vmbus__cp_tapped tapped;
		struct vmbus__shm_text text; /* ENDED */
	} u;
};

/* Which of these a record is by its header, if that is whole and of our version; or 0. */
uint32_t vmbus__cp_type_of(const uint8_t *bytes, size_t len);

/* Write a message; returns its bytes. */
uint32_t vmbus__cp_encode(const struct vmbus__cp_msg *msg, uint8_t out[VMBUS_SHM_MSG_MAX]);

/* Read a message from a private copy; errors as vmbus__shm_decode(). */
int vmbus__cp_decode(const uint8_t *bytes, size_t len, struct vmbus__cp_msg *msg);

#endif
