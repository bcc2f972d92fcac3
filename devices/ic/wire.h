/* SPDX-License-Identifier: MIT */
/*
 * Messages of the integration components, as both ends read and write them: layout only.  Whoever
 * uses the fields decides what may be in them.
 */
#ifndef VMBUS_IC_WIRE_H
#define VMBUS_IC_WIRE_H

#include <vmbus/base.h>

/* [IC-MESSAGE]: offsets from the beginning of the payload. */
#define VMBUS__IC_PIPE_BYTES 8u
#define VMBUS__IC_BODY 28u /* of the pipe header and the message's header */
#define VMBUS__IC_PIPE_DATA 1u

enum vmbus__ic_type {
	VMBUS__IC_NEGOTIATE = 0,
	VMBUS__IC_HEARTBEAT = 1,
	VMBUS__IC_SHUTDOWN = 3,
	VMBUS__IC_TIMESYNC = 4
};

#define VMBUS__IC_TRANSACTION 1u /* flags of a message */
#define VMBUS__IC_REQUEST 2u
#define VMBUS__IC_RESPONSE 4u

#define VMBUS__IC_VERSION(major, minor) ((uint32_t)(major) << 16 | (minor))
#define VMBUS__IC_VERSIONS_MAX 4u /* of one list that we have */
#define VMBUS__IC_TAKEN_MAX 100u  /* entries of a list that we read, as Linux does */

/* Bytes of the bodies that we send, and offsets in them. */
#define VMBUS__IC_SHUTDOWN_BYTES 2060u /* [IC-SHUTDOWN] */
#define VMBUS__IC_SHUTDOWN_TEXT 12u
#define VMBUS__IC_TIME_BYTES 24u /* version 4, [IC-TIME] */
#define VMBUS__IC_TIME_FLAGS 16u
#define VMBUS__IC_OLD_TIME_BYTES 28u /* versions 1 and 3 */
#define VMBUS__IC_OLD_TIME_FLAGS 24u
#define VMBUS__IC_TIME_SYNC 1u
#define VMBUS__IC_TIME_SAMPLE 2u
#define VMBUS__IC_BEAT_BYTES 40u /* [IC-HEARTBEAT] */
#define VMBUS__IC_MESSAGE_MAX (VMBUS__IC_BODY + VMBUS__IC_SHUTDOWN_BYTES)

/* The header of a message; body points into the payload that was read. */
struct vmbus__ic_msg {
	uint32_t framework; /* major << 16 | minor */
	uint32_t message;
	uint32_t status;
	uint16_t type;
	uint16_t body_bytes; /* as the message says; all of them are there */
	uint8_t transaction;
	uint8_t flags;
	const uint8_t *body;
};

/* A list of versions that one end knows. */
struct vmbus__ic_versions {
	uint32_t count;
	uint32_t list[VMBUS__IC_VERSIONS_MAX];
};

uint64_t vmbus__ic_get(const uint8_t *from, uint32_t bytes);
void vmbus__ic_put(uint8_t *to, uint32_t bytes, uint64_t v);
uint32_t vmbus__ic_get_version(const uint8_t *from);
void vmbus__ic_put_version(uint8_t *to, uint32_t version);

/*
 * Read a payload: a private copy of what the peer sent.
 *
 * Returns NULL, or what is wrong with it.
 */
const char *vmbus__ic_read(struct vmbus__ic_msg *msg, const uint8_t *payload, uint32_t len);

/* Write both headers before a body of msg->body_bytes; returns the bytes of the whole. */
uint32_t vmbus__ic_write(uint8_t *to, const struct vmbus__ic_msg *msg);

/* The body of a request to negotiate, [IC-NEGOTIATE]; returns its bytes. */
uint32_t vmbus__ic_offer(uint8_t *body, const struct vmbus__ic_versions *framework,
			 const struct vmbus__ic_versions *message);

/* What a component knows: which of the three by its VMBUS_IC_* bit. */
const struct vmbus__ic_versions *vmbus__ic_frameworks(void);
const struct vmbus__ic_versions *vmbus__ic_messages(uint32_t component);
uint16_t vmbus__ic_type(uint32_t component);
bool vmbus__ic_knows(const struct vmbus__ic_versions *versions, uint32_t version);

#endif
