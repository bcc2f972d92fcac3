/* SPDX-License-Identifier: MIT */
/*
 * Messages between parents and providers as bytes.  One table says which members a type has, in
 * their order; lengths, writing and reading follow from it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "shm/provider_proto.h"

#include <stddef.h>
#include <string.h>

#include "shm/header.h"

#define FIELDS_MAX 12u

enum kind {
	END = 0,
	U32,
	U64,
	GUID,
	TEXT,  /* for people, with an end */
	BYTES, /* as they are */
	QWORDS,
	PAD /* 4 bytes of zeroes */
};

struct field {
	uint8_t kind;
	uint16_t at;
	uint16_t bytes;
};

#define AT(kind, member)                                                                           \
	{                                                                                          \
		kind, offsetof(struct vmbus__pv_msg, member),                                      \
			sizeof(((struct vmbus__pv_msg *)0)->member)                                \
	}
#define SKIP                                                                                       \
	{                                                                                          \
		PAD, 0, 4                                                                          \
	}
#define CHANNEL AT(U32, bus), AT(U32, sub), AT(U32, open)

static const struct field fields[VMBUS_PV_END][FIELDS_MAX + 1] = {
	[VMBUS_SHM_REFUSED] = { AT(U32, code), SKIP, AT(TEXT, text) },
	[VMBUS_SHM_BYE] = { AT(U32, code), SKIP, AT(TEXT, text) },
	[VMBUS_PV_PROVIDE] = { AT(U32, flags), AT(U32, max_payload), AT(U32, ring_bytes_max),
			       AT(U32, offer_flags), AT(U32, mmio_mb), AT(U32, monitor_us),
			       AT(U64, journal), AT(GUID, class_id), AT(GUID, instance_id),
			       AT(TEXT, name), AT(TEXT, vsp) },
	[VMBUS_PV_PROVIDED] = { AT(U64, wait_ns), AT(U64, answer_ns) },
	[VMBUS_PV_BUS] = { AT(U32, bus), AT(U32, count), AT(TEXT, name) },
	[VMBUS_PV_REGION] = { AT(U32, bus), AT(U32, access), AT(U64, gpa), AT(U64, bytes),
			      AT(U64, offset) },
	[VMBUS_PV_BUS_READY] = { AT(U32, bus), SKIP },
	[VMBUS_PV_BUS_GONE] = { AT(U32, bus), SKIP },
	[VMBUS_PV_GPADL] = { AT(U32, bus), AT(U32, sub), AT(U32, gpadl), AT(U32, count),
			     AT(U32, ranges), SKIP, AT(QWORDS, qwords) },
	[VMBUS_PV_GPADL_GONE] = { AT(U32, bus), AT(U32, sub), AT(U32, gpadl), SKIP },
	[VMBUS_PV_GPADL_DONE] = { AT(U32, bus), AT(U32, sub), AT(U32, gpadl), SKIP },
	[VMBUS_PV_OPEN] = { CHANNEL, AT(U32, gpadl), AT(U32, down_page), AT(U32, flags),
			    AT(U32, event_flag), SKIP, AT(U64, gpa), AT(BYTES, user) },
	[VMBUS_PV_OPENED] = { CHANNEL, AT(U32, err) },
	[VMBUS_PV_CLOSE] = { CHANNEL, SKIP },
	[VMBUS_PV_CLOSED] = { CHANNEL, SKIP },
	[VMBUS_PV_MODIFY] = { CHANNEL, AT(U32, flags), AT(U32, event_flag), SKIP, AT(U64, gpa) },
	[VMBUS_PV_SIGNAL] = { CHANNEL, SKIP },
	[VMBUS_PV_SUBS] = { AT(U32, bus), AT(U32, count) },
	[VMBUS_PV_FAULT] = { CHANNEL, SKIP, AT(TEXT, text) },
	[VMBUS_PV_YIELD] = { SKIP, SKIP },
	[VMBUS_PV_YIELDED] = { SKIP, SKIP },
	[VMBUS_PV_MEMORY] = { AT(U32, open), SKIP, AT(U64, bytes), AT(TEXT, name) },
	[VMBUS_PV_GPADL_KNOWN] = { AT(U32, bus), AT(U32, sub), AT(U32, gpadl), SKIP },
	[VMBUS_PV_MEMORY_IS] = { AT(U32, open), AT(U32, code), AT(U64, bytes) },
};

_Static_assert(sizeof(struct vmbus__pv_msg) < UINT16_MAX, "offsets fit");

uint32_t vmbus__pv_msg_bytes(uint32_t type)
{
	const struct field *f;
	uint32_t bytes = HEADER_BYTES;

	if (type >= VMBUS_PV_END || fields[type][0].kind == END)
		return 0;
	for (f = fields[type]; f->kind != END; f++)
		bytes += f->bytes;
	return bytes;
}

bool vmbus__pv_is_ours(const uint8_t *bytes, size_t len)
{
	struct vmbus__cursor c = { .in = bytes };
	uint64_t type;

	if (len < HEADER_BYTES || get32(&c) != VMBUS_SHM_MAGIC)
		return false;
	(void)get(&c, 2);
	type = get(&c, 2);
	return type >= VMBUS_PV_FIRST && type < VMBUS_PV_END;
}

static void put_qwords(struct vmbus__cursor *c, const uint64_t *from, size_t bytes)
{
	size_t i;

	for (i = 0; i < bytes / sizeof(*from); i++)
		put(c, from[i], 8);
}

static void put_field(struct vmbus__cursor *c, const struct field *f, const void *from)
{
	switch (f->kind) {
	case U32:
		put32(c, *(const uint32_t *)from);
		break;
	case U64:
		put(c, *(const uint64_t *)from, 8);
		break;
	case TEXT:
		put_text(c, from, f->bytes);
		break;
	case QWORDS:
		put_qwords(c, from, f->bytes);
		break;
	case PAD:
		put32(c, 0);
		break;
	default:
		put_bytes(c, from, f->bytes);
		break;
	}
}

uint32_t vmbus__pv_encode(const struct vmbus__pv_msg *msg, uint8_t out[VMBUS_SHM_MSG_MAX])
{
	const uint32_t bytes = vmbus__pv_msg_bytes(msg->type);
	struct vmbus__cursor c = { .out = out };
	const struct field *f;

	if (!bytes)
		return 0;
	put_header(&c, msg->type, bytes);
	for (f = fields[msg->type]; f->kind != END; f++)
		put_field(&c, f, (const uint8_t *)msg + f->at);
	return bytes;
}

static void get_field(struct vmbus__cursor *c, const struct field *f, void *to)
{
	uint64_t *const qwords = to;
	size_t i;

	switch (f->kind) {
	case U32:
		*(uint32_t *)to = get32(c);
		break;
	case U64:
		*(uint64_t *)to = get(c, 8);
		break;
	case TEXT:
		get_text(c, to, f->bytes);
		break;
	case QWORDS:
		for (i = 0; i < f->bytes / sizeof(*qwords); i++)
			qwords[i] = get(c, 8);
		break;
	case PAD:
		(void)get32(c);
		break;
	default:
		get_bytes(c, to, f->bytes);
		break;
	}
}

int vmbus__pv_decode(const uint8_t *bytes, size_t len, struct vmbus__pv_msg *msg)
{
	struct vmbus__cursor c = { .in = bytes };
	const struct field *f;
	int err;

	memset(msg, 0, sizeof(*msg));
	err = get_header(&c, len, vmbus__pv_msg_bytes, &msg->type);
	if (err)
		return err;
	for (f = fields[msg->type]; f->kind != END; f++)
		get_field(&c, f, (uint8_t *)msg + f->at);
	return c.bad ? VMBUS_E_INVAL : 0;
}

int vmbus__pv_send(int sock, const struct vmbus__pv_msg *msg, const int *fds, int fd_count)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX];

	return vmbus__shm_send_bytes(sock, bytes, vmbus__pv_encode(msg, bytes), fds, fd_count);
}
