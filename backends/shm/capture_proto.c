/* SPDX-License-Identifier: MIT */
/* The messages of captures as bytes; the header is that of all messages of the socket. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "shm/capture_proto.h"

#include <string.h>

#include "shm/header.h"

static const uint32_t type_bytes[VMBUS_CP_END - VMBUS_CP_FIRST] = {
	[VMBUS_CP_CAPTURE - VMBUS_CP_FIRST] = 96,
	[VMBUS_CP_TAPPED - VMBUS_CP_FIRST] = 32,
	[VMBUS_CP_ENDED - VMBUS_CP_FIRST] = 144,
};

static uint32_t bytes_of(uint32_t type)
{
	return type >= VMBUS_CP_FIRST && type < VMBUS_CP_END ? type_bytes[type - VMBUS_CP_FIRST]
							     : 0;
}

uint32_t vmbus__cp_type_of(const uint8_t *bytes, size_t len)
{
	struct vmbus__cursor c = { .in = bytes };
	uint32_t type;

	return get_header(&c, len, bytes_of, &type) ? 0 : type;
}

uint32_t vmbus__cp_encode(const struct vmbus__cp_msg *msg, uint8_t out[VMBUS_SHM_MSG_MAX])
{
	const uint32_t bytes = bytes_of(msg->type);
	struct vmbus__cursor c = { .out = out };

	memset(out, 0, bytes);
	put_header(&c, msg->type, bytes);
	switch (msg->type) {
	case VMBUS_CP_CAPTURE:
		put_text(&c, msg->u.capture.name, sizeof(msg->u.capture.name));
		put32(&c, (uint32_t)msg->u.capture.pid);
		put32(&c, msg->u.capture.relid);
		put32(&c, msg->u.capture.snap);
		put32(&c, msg->u.capture.bytes);
		break;
	case VMBUS_CP_TAPPED:
		put(&c, msg->u.tapped.bytes, 8);
		break;
	default:
		put32(&c, msg->u.text.code);
		put32(&c, 0);
		put_text(&c, msg->u.text.text, sizeof(msg->u.text.text));
		break;
	}
	return bytes;
}

int vmbus__cp_decode(const uint8_t *bytes, size_t len, struct vmbus__cp_msg *msg)
{
	struct vmbus__cursor c = { .in = bytes };
	int err;

	memset(msg, 0, sizeof(*msg));
	err = get_header(&c, len, bytes_of, &msg->type);
	if (err)
		return err;
	switch (msg->type) {
	case VMBUS_CP_CAPTURE:
		get_text(&c, msg->u.capture.name, sizeof(msg->u.capture.name));
		msg->u.capture.pid = (int32_t)get32(&c);
		msg->u.capture.relid = get32(&c);
		msg->u.capture.snap = get32(&c);
		msg->u.capture.bytes = get32(&c);
		break;
	case VMBUS_CP_TAPPED:
		msg->u.tapped.bytes = get(&c, 8);
		break;
	default:
		msg->u.text.code = get32(&c);
		(void)get32(&c);
		get_text(&c, msg->u.text.text, sizeof(msg->u.text.text));
		break;
	}
	return c.bad ? VMBUS_E_INVAL : 0;
}
