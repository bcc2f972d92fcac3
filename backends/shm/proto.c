/* SPDX-License-Identifier: MIT */
/*
 * Messages of the socket as bytes, little-endian on every machine, and how they are sent and
 * received.  A record is checked as a whole: magic, version, type, length; descriptors that came
 * with it are the receiver's, and each one that is not expected is closed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "shm/proto.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/header.h"
#include "shm/sys.h"

static const uint32_t type_bytes[VMBUS_SHM_TYPES] = {
	[VMBUS_SHM_HELLO] = 112,   [VMBUS_SHM_WELCOME] = 64,  [VMBUS_SHM_REFUSED] = 144,
	[VMBUS_SHM_BYE] = 144,	   [VMBUS_SHM_LIST] = 32,     [VMBUS_SHM_CHILD] = 112,
	[VMBUS_SHM_CHANNEL] = 192, [VMBUS_SHM_LIST_END] = 32, [VMBUS_SHM_BIND] = 32,
	[VMBUS_SHM_UNBIND] = 32,
};

uint32_t vmbus__shm_msg_bytes(uint32_t type)
{
	return type < VMBUS_SHM_TYPES ? type_bytes[type] : 0;
}

static void put_hello(struct vmbus__cursor *c, const struct vmbus__shm_hello *m)
{
	put(c, m->memory, 8);
	put32(c, m->vps);
	put32(c, m->flags);
	put_text(c, m->name, sizeof(m->name));
}

static void get_hello(struct vmbus__cursor *c, struct vmbus__shm_hello *m)
{
	m->memory = get(c, 8);
	m->vps = get32(c);
	m->flags = get32(c);
	get_text(c, m->name, sizeof(m->name));
}

static void put_welcome(struct vmbus__cursor *c, const struct vmbus__shm_welcome *m)
{
	put(c, m->memory, 8);
	put32(c, m->vps);
	put32(c, m->flags);
	put32(c, m->mailbox);
	put32(c, m->flags_page);
	put32(c, m->first_vp);
	put32(c, m->heap);
}

static void get_welcome(struct vmbus__cursor *c, struct vmbus__shm_welcome *m)
{
	m->memory = get(c, 8);
	m->vps = get32(c);
	m->flags = get32(c);
	m->mailbox = get32(c);
	m->flags_page = get32(c);
	m->first_vp = get32(c);
	m->heap = get32(c);
}

static void put_child(struct vmbus__cursor *c, const struct vmbus__shm_child_line *m)
{
	put(c, m->memory, 8);
	put32(c, (uint32_t)m->pid);
	put32(c, m->vps);
	put32(c, m->version);
	put32(c, m->state);
	put_text(c, m->name, sizeof(m->name));
}

static void get_child(struct vmbus__cursor *c, struct vmbus__shm_child_line *m)
{
	m->memory = get(c, 8);
	m->pid = (int32_t)get32(c);
	m->vps = get32(c);
	m->version = get32(c);
	m->state = get32(c);
	get_text(c, m->name, sizeof(m->name));
}

static void put_channel(struct vmbus__cursor *c, const struct vmbus__shm_channel_line *m)
{
	put_bytes(c, m->class_id.b, sizeof(m->class_id.b));
	put_bytes(c, m->instance_id.b, sizeof(m->instance_id.b));
	put(c, m->opens, 8);
	put32(c, m->relid);
	put32(c, m->conn_id);
	put32(c, m->sub_index);
	put32(c, m->target_vp);
	put32(c, m->send_bytes);
	put32(c, m->recv_bytes);
	put32(c, m->subchannels);
	put32(c, m->flags);
	put_text(c, m->vsp, sizeof(m->vsp));
	put_text(c, m->state, sizeof(m->state));
}

static void get_channel(struct vmbus__cursor *c, struct vmbus__shm_channel_line *m)
{
	get_bytes(c, m->class_id.b, sizeof(m->class_id.b));
	get_bytes(c, m->instance_id.b, sizeof(m->instance_id.b));
	m->opens = get(c, 8);
	m->relid = get32(c);
	m->conn_id = get32(c);
	m->sub_index = get32(c);
	m->target_vp = get32(c);
	m->send_bytes = get32(c);
	m->recv_bytes = get32(c);
	m->subchannels = get32(c);
	m->flags = get32(c);
	get_text(c, m->vsp, sizeof(m->vsp));
	get_text(c, m->state, sizeof(m->state));
}

uint32_t vmbus__shm_encode(const struct vmbus__shm_msg *msg, uint8_t out[VMBUS_SHM_MSG_MAX])
{
	const uint32_t bytes = vmbus__shm_msg_bytes(msg->type);
	struct vmbus__cursor c = { .out = out };

	memset(out, 0, VMBUS_SHM_MSG_MAX);
	put_header(&c, msg->type, bytes);
	switch (msg->type) {
	case VMBUS_SHM_HELLO:
		put_hello(&c, &msg->u.hello);
		break;
	case VMBUS_SHM_WELCOME:
		put_welcome(&c, &msg->u.welcome);
		break;
	case VMBUS_SHM_REFUSED:
	case VMBUS_SHM_BYE:
		put32(&c, msg->u.text.code);
		put32(&c, 0);
		put_text(&c, msg->u.text.text, sizeof(msg->u.text.text));
		break;
	case VMBUS_SHM_CHILD:
		put_child(&c, &msg->u.child);
		break;
	case VMBUS_SHM_CHANNEL:
		put_channel(&c, &msg->u.channel);
		break;
	case VMBUS_SHM_LIST_END:
		put32(&c, msg->u.end.children);
		put32(&c, msg->u.end.channels);
		break;
	case VMBUS_SHM_BIND:
	case VMBUS_SHM_UNBIND:
		put32(&c, msg->u.bind.conn_id);
		break;
	default: /* LIST has nothing but its header */
		break;
	}
	return bytes;
}

static void decode_body(struct vmbus__cursor *c, struct vmbus__shm_msg *msg)
{
	switch (msg->type) {
	case VMBUS_SHM_HELLO:
		get_hello(c, &msg->u.hello);
		break;
	case VMBUS_SHM_WELCOME:
		get_welcome(c, &msg->u.welcome);
		break;
	case VMBUS_SHM_REFUSED:
	case VMBUS_SHM_BYE:
		msg->u.text.code = get32(c);
		(void)get32(c);
		get_text(c, msg->u.text.text, sizeof(msg->u.text.text));
		break;
	case VMBUS_SHM_CHILD:
		get_child(c, &msg->u.child);
		break;
	case VMBUS_SHM_CHANNEL:
		get_channel(c, &msg->u.channel);
		break;
	case VMBUS_SHM_LIST_END:
		msg->u.end.children = get32(c);
		msg->u.end.channels = get32(c);
		break;
	case VMBUS_SHM_BIND:
	case VMBUS_SHM_UNBIND:
		msg->u.bind.conn_id = get32(c);
		break;
	default:
		break;
	}
}

int vmbus__shm_decode(const uint8_t *bytes, size_t len, struct vmbus__shm_msg *msg)
{
	struct vmbus__cursor c = { .in = bytes };
	int err;

	memset(msg, 0, sizeof(*msg));
	err = get_header(&c, len, vmbus__shm_msg_bytes, &msg->type);
	if (err)
		return err;
	decode_body(&c, msg);
	return c.bad ? VMBUS_E_INVAL : 0;
}

/* Take the descriptors out of a record's control data, of whatever number they are. */
static void take_fds(struct msghdr *hdr, struct vmbus__shm_record *record)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(hdr); cmsg; cmsg = CMSG_NXTHDR(hdr, cmsg)) {
		size_t bytes = cmsg->cmsg_len - CMSG_LEN(0), i;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		for (i = 0; i + sizeof(int) <= bytes; i += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i, sizeof(fd));
			if (record->fd_count < VMBUS_SHM_FDS_MAX)
				record->fds[record->fd_count++] = fd;
			else
				close(fd);
		}
	}
}

int vmbus__shm_recv(int sock, struct vmbus__shm_record *record)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * VMBUS_SHM_FDS_MAX) + 256];
	} control;
	struct iovec iov = { record->bytes, sizeof(record->bytes) };
	struct msghdr hdr = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	bool reset = false;
	ssize_t n;

	record->len = 0;
	record->fd_count = 0;
	record->cut = false;
	record->lost = false;
	record->reset = false;
	/* A peer that closed with something unread: told once, before what it said last. */
	do
		n = recvmsg(sock, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !reset && (reset = true))));
	record->reset = reset;
	if (n < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return 0;
		return errno == ECONNRESET || errno == EPIPE ? VMBUS_E_PEER : vmbus__shm_errno();
	}
	take_fds(&hdr, record);
	record->len = (uint32_t)n;
	record->cut = (hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
	record->lost = (hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == MSG_CTRUNC;
	/* An empty record cannot be told from the end; both end the connection. */
	if (n == 0) {
		vmbus__shm_record_close(record);
		return VMBUS_E_PEER;
	}
	return 1;
}

void vmbus__shm_record_close(struct vmbus__shm_record *record)
{
	int i;

	for (i = 0; i < record->fd_count; i++)
		vmbus__shm_close(&record->fds[i]);
	record->fd_count = 0;
}

int vmbus__shm_send_bytes(int sock, const uint8_t *bytes, uint32_t len, const int *fds,
			  int fd_count)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * 8)];
	} control;
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (fd_count) {
		struct cmsghdr *const cmsg = &control.align;
		const size_t room = sizeof(int) * (size_t)fd_count;

		memset(&control, 0, sizeof(control));
		hdr.msg_control = &control;
		hdr.msg_controllen = CMSG_SPACE(room);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(room);
		memcpy(CMSG_DATA(cmsg), fds, room);
	}
	do
		n = sendmsg(sock, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)iov.iov_len)
		return 0;
	if (n >= 0)
		return VMBUS_E_SYSTEM; /* a record goes whole or not at all */
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS)
		return VMBUS_E_AGAIN;
	return errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? VMBUS_E_PEER
									  : vmbus__shm_errno();
}

int vmbus__shm_send(int sock, const struct vmbus__shm_msg *msg, const int *fds, int fd_count)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX];

	return vmbus__shm_send_bytes(sock, bytes, vmbus__shm_encode(msg, bytes), fds, fd_count);
}

void vmbus__shm_send_text(int sock, uint32_t type, uint32_t code, const char *text)
{
	struct vmbus__shm_msg msg = { .type = type };
	const size_t len = strnlen(text, sizeof(msg.u.text.text) - 1);

	msg.u.text.code = code;
	memcpy(msg.u.text.text, text, len);
	(void)vmbus__shm_send(sock, &msg, NULL, 0);
}
