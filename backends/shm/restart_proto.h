/* SPDX-License-Identifier: MIT */
/*
 * The messages by which one parent hands its children to another, and the one that tells a child.
 * vmbus_shm(7) has them byte by byte.  Nothing here knows a server.
 */
#ifndef VMBUS_SHM_RESTART_PROTO_H
#define VMBUS_SHM_RESTART_PROTO_H

#include "shm/proto.h"

enum vmbus__rs_type {
	VMBUS_RS_PARENT = 55, /* parent to child: I am your parent now; a pidfd, if there is one */
	VMBUS_RS_SERVER = 56, /* old to new: what follows; the listening socket */
	VMBUS_RS_STATE = 57,  /* old to new: a child; its descriptors and the state of its bus */
	VMBUS_RS_WORD = 58    /* either: how it goes on */
};
#define VMBUS_RS_FIRST 55u
#define VMBUS_RS_END 59u
#define VMBUS_RS_PATH_BYTES 100u
#define VMBUS_RS_FLAG_WORDS 32u
#define VMBUS_RS_FDS 6u /* of STATE: socket, memory, doorbell, knock, wake, state */

/* What WORD says, in this order: new, old, new; or CANCEL of either. */
enum vmbus__rs_code {
	VMBUS_RS_READY = 1, /* new: everything is restored */
	VMBUS_RS_GO = 2,    /* old: they are yours */
	VMBUS_RS_DONE = 3,  /* new: they know */
	VMBUS_RS_CANCEL = 4 /* either: it did not work; the old one serves on */
};

struct vmbus__rs_server {
	uint64_t dev, ino; /* of the socket in the file system */
	uint32_t children; /* STATEs that follow */
	uint32_t reserved;
	char path[VMBUS_RS_PATH_BYTES];
};

struct vmbus__rs_state {
	uint64_t memory;
	uint64_t state_bytes;
	int32_t pid;
	uint32_t vps;
	uint32_t box_seq; /* of the mailbox: the last call that was answered */
	uint32_t box_broken;
	uint64_t unbind[VMBUS_RS_FLAG_WORDS]; /* UNBINDs that are due */
	char name[VMBUS_SHM_NAME_BYTES];
};

/* One message, decoded. */
struct vmbus__rs_msg {
	uint32_t type; /* enum vmbus__rs_type */
	union {
		struct vmbus__rs_server server;
		struct vmbus__rs_state state;
		struct vmbus__shm_text word; /* code and text */
	} u;
};

/* Which of these a record is by its header, if that is whole and of our version; or 0. */
uint32_t vmbus__rs_type_of(const uint8_t *bytes, size_t len);

/* Write a message; returns its bytes. */
uint32_t vmbus__rs_encode(const struct vmbus__rs_msg *msg, uint8_t out[VMBUS_SHM_MSG_MAX]);

/* Read a message from a private copy; errors as vmbus__shm_decode(). */
int vmbus__rs_decode(const uint8_t *bytes, size_t len, struct vmbus__rs_msg *msg);

/* Send a message, and wait until end for room.  Errors: AGAIN (time), PEER (closed), the system's. */
int vmbus__rs_send(int sock, const struct vmbus__rs_msg *msg, const int *fds, int fd_count,
		   uint64_t end);
int vmbus__rs_send_word(int sock, uint32_t code, const char *text, uint64_t end);

#endif
