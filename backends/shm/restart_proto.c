/* SPDX-License-Identifier: MIT */
/* The messages of a parent's restart as bytes; the header is that of all messages of the socket. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "shm/restart_proto.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "shm/header.h"
#include "shm/sys.h"

static const uint32_t type_bytes[VMBUS_RS_END - VMBUS_RS_FIRST] = {
	[VMBUS_RS_PARENT - VMBUS_RS_FIRST] = 32,
	[VMBUS_RS_SERVER - VMBUS_RS_FIRST] = 144,
	[VMBUS_RS_STATE - VMBUS_RS_FIRST] = 368,
	[VMBUS_RS_WORD - VMBUS_RS_FIRST] = 144,
};

static uint32_t bytes_of(uint32_t type)
{
	return type >= VMBUS_RS_FIRST && type < VMBUS_RS_END ? type_bytes[type - VMBUS_RS_FIRST]
							     : 0;
}

uint32_t vmbus__rs_type_of(const uint8_t *bytes, size_t len)
{
	struct vmbus__cursor c = { .in = bytes };
	uint32_t type;

	return get_header(&c, len, bytes_of, &type) ? 0 : type;
}

static void put_state(struct vmbus__cursor *c, const struct vmbus__rs_state *m)
{
	uint32_t i;

	put(c, m->memory, 8);
	put(c, m->state_bytes, 8);
	put32(c, (uint32_t)m->pid);
	put32(c, m->vps);
	put32(c, m->box_seq);
	put32(c, m->box_broken);
	for (i = 0; i < VMBUS_RS_FLAG_WORDS; i++)
		put(c, m->unbind[i], 8);
	put_text(c, m->name, sizeof(m->name));
}

static void get_state(struct vmbus__cursor *c, struct vmbus__rs_state *m)
{
	uint32_t i;

	m->memory = get(c, 8);
	m->state_bytes = get(c, 8);
	m->pid = (int32_t)get32(c);
	m->vps = get32(c);
	m->box_seq = get32(c);
	m->box_broken = get32(c);
	for (i = 0; i < VMBUS_RS_FLAG_WORDS; i++)
		m->unbind[i] = get(c, 8);
	get_text(c, m->name, sizeof(m->name));
}

uint32_t vmbus__rs_encode(const struct vmbus__rs_msg *msg, uint8_t out[VMBUS_SHM_MSG_MAX])
{
	const uint32_t bytes = bytes_of(msg->type);
	struct vmbus__cursor c = { .out = out };

	memset(out, 0, bytes);
	put_header(&c, msg->type, bytes);
	switch (msg->type) {
	case VMBUS_RS_SERVER:
		put(&c, msg->u.server.dev, 8);
		put(&c, msg->u.server.ino, 8);
		put32(&c, msg->u.server.children);
		put32(&c, 0);
		put_text(&c, msg->u.server.path, sizeof(msg->u.server.path));
		break;
	case VMBUS_RS_STATE:
		put_state(&c, &msg->u.state);
		break;
	case VMBUS_RS_WORD:
		put32(&c, msg->u.word.code);
		put32(&c, 0);
		put_text(&c, msg->u.word.text, sizeof(msg->u.word.text));
		break;
	default: /* PARENT has nothing but its header */
		break;
	}
	return bytes;
}

int vmbus__rs_decode(const uint8_t *bytes, size_t len, struct vmbus__rs_msg *msg)
{
	struct vmbus__cursor c = { .in = bytes };
	int err;

	memset(msg, 0, sizeof(*msg));
	err = get_header(&c, len, bytes_of, &msg->type);
	if (err)
		return err;
	switch (msg->type) {
	case VMBUS_RS_SERVER:
		msg->u.server.dev = get(&c, 8);
		msg->u.server.ino = get(&c, 8);
		msg->u.server.children = get32(&c);
		(void)get32(&c);
		get_text(&c, msg->u.server.path, sizeof(msg->u.server.path));
		break;
	case VMBUS_RS_STATE:
		get_state(&c, &msg->u.state);
		break;
	case VMBUS_RS_WORD:
		msg->u.word.code = get32(&c);
		(void)get32(&c);
		get_text(&c, msg->u.word.text, sizeof(msg->u.word.text));
		break;
	default:
		break;
	}
	return c.bad ? VMBUS_E_INVAL : 0;
}

int vmbus__rs_send(int sock, const struct vmbus__rs_msg *msg, const int *fds, int fd_count,
		   uint64_t end)
{
	struct pollfd room = { .fd = sock, .events = POLLOUT };
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	const uint32_t len = vmbus__rs_encode(msg, bytes);

	for (;;) {
		const int err = vmbus__shm_send_bytes(sock, bytes, len, fds, fd_count);
		const uint64_t now = vmbus__shm_now_ns();

		if (err != VMBUS_E_AGAIN || now >= end)
			return err;
		if (poll(&room, 1, 10) < 0 && errno != EINTR)
			return vmbus__shm_errno();
	}
}

int vmbus__rs_send_word(int sock, uint32_t code, const char *text, uint64_t end)
{
	struct vmbus__rs_msg msg = { .type = VMBUS_RS_WORD };
	const size_t len = strnlen(text, sizeof(msg.u.word.text) - 1);

	msg.u.word.code = code;
	memcpy(msg.u.word.text, text, len);
	return vmbus__rs_send(sock, &msg, NULL, 0, end);
}
