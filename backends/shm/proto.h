/* SPDX-License-Identifier: MIT */
/*
 * The protocol on the socket between a parent and its children, as structs and as bytes: one
 * SOCK_SEQPACKET record is one message, of a length that follows from its type.  vmbus_shm(7) has
 * it byte by byte.  Nothing here knows a bus or a guest.
 */
#ifndef VMBUS_SHM_PROTO_H
#define VMBUS_SHM_PROTO_H

#include <vmbus/ctl.h>

#define VMBUS_SHM_MAGIC 0x53424D56u /* "VMBS" */
#define VMBUS_SHM_VERSION 1u
#define VMBUS_SHM_NAME_BYTES 64u
#define VMBUS_SHM_TEXT_BYTES 120u
#define VMBUS_SHM_MSG_MAX 1024u /* room for a message of any kind */
#define VMBUS_SHM_FDS_MAX 253	/* that one message can carry, whatever we expect */
#define VMBUS_SHM_RELIDS 2048u
#define VMBUS_SHM_CONN_BASE 0x2000u /* connection id of relid 0: relid + (SINT << 12) */
#define VMBUS_SHM_CONTROL_BIT 0u    /* event flag to the parent: look at slots and mailbox */

enum vmbus__shm_type {
	VMBUS_SHM_HELLO = 1,	/* child: I want to attach */
	VMBUS_SHM_WELCOME = 2,	/* parent: your memory and doorbells */
	VMBUS_SHM_REFUSED = 3,	/* parent: no, and why */
	VMBUS_SHM_BYE = 4,	/* either: I end this, and why */
	VMBUS_SHM_LIST = 5,	/* anybody: tell me about your channels */
	VMBUS_SHM_CHILD = 6,	/* parent: a child, in answer to LIST */
	VMBUS_SHM_CHANNEL = 7,	/* parent: a channel of the child told last */
	VMBUS_SHM_LIST_END = 8, /* parent: that was all */
	VMBUS_SHM_BIND = 9,	/* parent: signal this connection by its own eventfd */
	VMBUS_SHM_UNBIND = 10	/* parent: signal it by its event flag again */
};
#define VMBUS_SHM_TYPES 11u

/* Why a parent refuses, or why somebody says BYE. */
enum vmbus__shm_code {
	VMBUS_SHM_CODE_NONE = 0,
	VMBUS_SHM_CODE_VERSION = 1,  /* no such version of this protocol */
	VMBUS_SHM_CODE_MESSAGE = 2,  /* a message that cannot be, or not now */
	VMBUS_SHM_CODE_MEMORY = 3,   /* too much or too little memory asked for */
	VMBUS_SHM_CODE_VPS = 4,	     /* too many processors asked for, or none */
	VMBUS_SHM_CODE_FULL = 5,     /* as many children as this parent takes */
	VMBUS_SHM_CODE_DENIED = 6,   /* the embedder does not want it */
	VMBUS_SHM_CODE_SYSTEM = 7,   /* the parent's system refused */
	VMBUS_SHM_CODE_HUGE = 8,     /* memory is of huge pages, and the child does not allow it */
	VMBUS_SHM_CODE_KICKED = 9,   /* thrown out */
	VMBUS_SHM_CODE_TAKEN = 10,   /* there is a provider of this class and name */
	VMBUS_SHM_CODE_OVER = 11,    /* another provider took over */
	VMBUS_SHM_CODE_UNKNOWN = 12, /* no channel like that, or a number past its limit */
	VMBUS_SHM_CODE_LATE = 13     /* a listing that was not taken in time */
};

#define VMBUS_SHM_HELLO_HUGE 0x1u    /* HELLO: huge pages are fine */
#define VMBUS_SHM_WELCOME_HUGE 0x1u  /* WELCOME: the memory is of huge pages */
#define VMBUS_SHM_WELCOME_PIDFD 0x2u /* WELCOME: a fourth descriptor is a pidfd of the parent */
#define VMBUS_SHM_CHANNEL_MIRRORED 0x1u
#define VMBUS_SHM_CHANNEL_FAULTED 0x2u

struct vmbus__shm_hello {
	uint64_t memory;
	uint32_t vps;
	uint32_t flags;
	char name[VMBUS_SHM_NAME_BYTES];
};

/* Page numbers in the memfd. */
struct vmbus__shm_welcome {
	uint64_t memory;
	uint32_t vps;
	uint32_t flags;
	uint32_t mailbox;
	uint32_t flags_page; /* event flags for the parent */
	uint32_t first_vp;   /* message page of VP 0, then its event flags, then VP 1's */
	uint32_t heap;	     /* this and what follows is the child's */
};

struct vmbus__shm_text {
	uint32_t code;
	char text[VMBUS_SHM_TEXT_BYTES];
};

struct vmbus__shm_child_line {
	uint64_t memory;
	int32_t pid;
	uint32_t vps;
	uint32_t version; /* that it agreed on, 0 when not connected */
	uint32_t state;	  /* 0 attached, 1 ending */
	char name[VMBUS_SHM_NAME_BYTES];
};

struct vmbus__shm_channel_line {
	struct vmbus_guid class_id;
	struct vmbus_guid instance_id;
	uint64_t opens;
	uint32_t relid;
	uint32_t conn_id;
	uint32_t sub_index;
	uint32_t target_vp;
	uint32_t send_bytes;
	uint32_t recv_bytes;
	uint32_t subchannels;
	uint32_t flags;
	char vsp[32];
	char state[32];
};

struct vmbus__shm_end_line {
	uint32_t children;
	uint32_t channels;
};

struct vmbus__shm_bind {
	uint32_t conn_id;
};

/* Whether BIND and UNBIND, and signals, may name this connection. */
static inline bool vmbus__shm_bindable(uint32_t conn_id)
{
	return conn_id > VMBUS_SHM_CONN_BASE && conn_id < VMBUS_SHM_CONN_BASE + VMBUS_SHM_RELIDS;
}

/* One message, decoded. */
struct vmbus__shm_msg {
	uint32_t type; /* enum vmbus__shm_type */
	union {
		struct vmbus__shm_hello hello;
		struct vmbus__shm_welcome welcome;
		struct vmbus__shm_text text; /* REFUSED, BYE */
		struct vmbus__shm_child_line child;
		struct vmbus__shm_channel_line channel;
		struct vmbus__shm_end_line end;
		struct vmbus__shm_bind bind; /* BIND, UNBIND */
	} u;
};

/* A record as it came: bytes, and descriptors that are ours to close. */
struct vmbus__shm_record {
	uint32_t len;
	int fd_count;
	bool cut;   /* longer than bytes, or descriptors were lost */
	bool lost;  /* only descriptors were, for want of room among ours: not the peer's doing */
	bool reset; /* the peer ended, and had not read all that was sent */
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	int fds[VMBUS_SHM_FDS_MAX];
};

/* Bytes of a message of this type, 0 for a type that is none. */
uint32_t vmbus__shm_msg_bytes(uint32_t type);

/* Write a message; returns its bytes. */
uint32_t vmbus__shm_encode(const struct vmbus__shm_msg *msg, uint8_t out[VMBUS_SHM_MSG_MAX]);

/*
 * Read a message from a private copy.  Errors: NOTSUP (another version), INVAL (no such type, or a
 * text without an end), RANGE (a length that is not the type's), PEER (no message of ours at all)
 */
int vmbus__shm_decode(const uint8_t *bytes, size_t len, struct vmbus__shm_msg *msg);

/*
 * Receive one record without waiting.  Returns 1 with one, 0 when there is none now.
 * Errors: PEER (the other side closed), others as vmbus__shm_errno()
 */
int vmbus__shm_recv(int sock, struct vmbus__shm_record *record);

/* Close every descriptor that nobody took out by setting it to -1. */
void vmbus__shm_record_close(struct vmbus__shm_record *record);

/* Send one message without waiting.  Errors: AGAIN (no room), PEER (closed), the system's. */
int vmbus__shm_send(int sock, const struct vmbus__shm_msg *msg, const int *fds, int fd_count);

/* The same of bytes that were encoded. */
int vmbus__shm_send_bytes(int sock, const uint8_t *bytes, uint32_t len, const int *fds,
			  int fd_count);

/* Send REFUSED or BYE; what cannot be sent is lost. */
void vmbus__shm_send_text(int sock, uint32_t type, uint32_t code, const char *text);

/* A client's end: connect, within the time.  Errors: RANGE (path), AGAIN (time), the system's. */
int vmbus__shm_connect(const char *path, uint64_t timeout_ns);

/* Wait until end (CLOCK_MONOTONIC) for a record.  Errors: AGAIN (time), PEER (closed), others. */
int vmbus__shm_recv_until(int sock, uint64_t end, struct vmbus__shm_record *record);

#endif
