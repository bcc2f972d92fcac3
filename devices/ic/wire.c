/* SPDX-License-Identifier: MIT */
/*
 * Layout of the messages of the integration components: two headers, a body, lists of versions.
 * What a peer wrote is read from a private copy, each field once, and no further than it goes.
 */
#include "ic/wire.h"

#include <vmbus/ic.h>

/* Little-endian numbers, at any alignment. */
uint64_t vmbus__ic_get(const uint8_t *from, uint32_t bytes)
{
	uint64_t v = 0;

	for (; bytes > 0; bytes--)
		v = v << 8 | from[bytes - 1];
	return v;
}

void vmbus__ic_put(uint8_t *to, uint32_t bytes, uint64_t v)
{
	uint32_t i;

	for (i = 0; i < bytes; i++, v >>= 8)
		to[i] = (uint8_t)(v & 255u);
}

/* Two numbers of 2 bytes, the major one first. */
uint32_t vmbus__ic_get_version(const uint8_t *from)
{
	return (uint32_t)(vmbus__ic_get(from, 2) << 16 | vmbus__ic_get(from + 2, 2));
}

void vmbus__ic_put_version(uint8_t *to, uint32_t version)
{
	vmbus__ic_put(to, 2, version >> 16);
	vmbus__ic_put(to + 2, 2, version & 0xFFFFu);
}

/* [IC-MESSAGE].  The pipe's length is the exact one; what is behind it is passed over. */
const char *vmbus__ic_read(struct vmbus__ic_msg *msg, const uint8_t *payload, uint32_t len)
{
	uint64_t pipe;

	if (len < VMBUS__IC_BODY)
		return "a message of less than 28 bytes";
	if (vmbus__ic_get(payload, 4) != VMBUS__IC_PIPE_DATA)
		return "a pipe message of another type than 1";
	pipe = vmbus__ic_get(payload + 4, 4);
	if (pipe > len - VMBUS__IC_PIPE_BYTES)
		return "a pipe length of more than the packet has";
	if (pipe < VMBUS__IC_BODY - VMBUS__IC_PIPE_BYTES)
		return "a pipe length of less than the header of a message";
	msg->framework = vmbus__ic_get_version(payload + 8);
	msg->type = (uint16_t)vmbus__ic_get(payload + 12, 2);
	msg->message = vmbus__ic_get_version(payload + 14);
	msg->body_bytes = (uint16_t)vmbus__ic_get(payload + 18, 2);
	msg->status = (uint32_t)vmbus__ic_get(payload + 20, 4);
	msg->transaction = payload[24];
	msg->flags = payload[25];
	msg->body = payload + VMBUS__IC_BODY;
	if (msg->body_bytes > pipe - (VMBUS__IC_BODY - VMBUS__IC_PIPE_BYTES))
		return "a message size of more than the pipe message has";
	return NULL;
}

uint32_t vmbus__ic_write(uint8_t *to, const struct vmbus__ic_msg *msg)
{
	vmbus__ic_put(to, 4, VMBUS__IC_PIPE_DATA);
	vmbus__ic_put(to + 4, 4, VMBUS__IC_BODY - VMBUS__IC_PIPE_BYTES + msg->body_bytes);
	vmbus__ic_put_version(to + 8, msg->framework);
	vmbus__ic_put(to + 12, 2, msg->type);
	vmbus__ic_put_version(to + 14, msg->message);
	vmbus__ic_put(to + 18, 2, msg->body_bytes);
	vmbus__ic_put(to + 20, 4, msg->status);
	to[24] = msg->transaction;
	to[25] = msg->flags;
	vmbus__ic_put(to + 26, 2, 0);
	return VMBUS__IC_BODY + msg->body_bytes;
}

uint32_t vmbus__ic_offer(uint8_t *body, const struct vmbus__ic_versions *framework,
			 const struct vmbus__ic_versions *message)
{
	uint32_t at = 8, i;

	vmbus__ic_put(body, 2, framework->count);
	vmbus__ic_put(body + 2, 2, message->count);
	vmbus__ic_put(body + 4, 4, 0);
	for (i = 0; i < framework->count; i++, at += 4)
		vmbus__ic_put_version(body + at, framework->list[i]);
	for (i = 0; i < message->count; i++, at += 4)
		vmbus__ic_put_version(body + at, message->list[i]);
	return at;
}

/* What Linux knows, [IC-NEGOTIATE]. */
const struct vmbus__ic_versions *vmbus__ic_frameworks(void)
{
	static const struct vmbus__ic_versions framework = {
		2, { VMBUS__IC_VERSION(1, 0), VMBUS__IC_VERSION(3, 0) }
	};

	return &framework;
}

const struct vmbus__ic_versions *vmbus__ic_messages(uint32_t component)
{
	static const struct vmbus__ic_versions shutdown = {
		4,
		{ VMBUS__IC_VERSION(1, 0), VMBUS__IC_VERSION(3, 0), VMBUS__IC_VERSION(3, 1),
		  VMBUS__IC_VERSION(3, 2) }
	};
	static const struct vmbus__ic_versions timesync = {
		3, { VMBUS__IC_VERSION(1, 0), VMBUS__IC_VERSION(3, 0), VMBUS__IC_VERSION(4, 0) }
	};
	static const struct vmbus__ic_versions heartbeat = {
		2, { VMBUS__IC_VERSION(1, 0), VMBUS__IC_VERSION(3, 0) }
	};

	if (component == VMBUS_IC_SHUTDOWN)
		return &shutdown;
	return component == VMBUS_IC_TIMESYNC ? &timesync : &heartbeat;
}

uint16_t vmbus__ic_type(uint32_t component)
{
	if (component == VMBUS_IC_SHUTDOWN)
		return VMBUS__IC_SHUTDOWN;
	return component == VMBUS_IC_TIMESYNC ? VMBUS__IC_TIMESYNC : VMBUS__IC_HEARTBEAT;
}

bool vmbus__ic_knows(const struct vmbus__ic_versions *versions, uint32_t version)
{
	uint32_t i;

	for (i = 0; i < versions->count; i++)
		if (versions->list[i] == version)
			return true;
	return false;
}
