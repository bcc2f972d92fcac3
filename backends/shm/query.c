/* SPDX-License-Identifier: MIT */
/*
 * The client's half of the socket: how one connects and waits for an answer, and the LIST query.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include <vmbus/shm_bus.h>

#include "shm/proto.h"
#include "shm/sys.h"

#define TIMEOUT_DEFAULT_NS 5000000000u

int vmbus__shm_connect(const char *path, uint64_t timeout_ns)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const struct timeval limit = { .tv_sec = (time_t)(timeout_ns / 1000000000u),
				       .tv_usec = (long)(timeout_ns % 1000000000u / 1000u) };
	const size_t len = strlen(path);
	int sock, err;

	if (len == 0 || len >= sizeof(at.sun_path))
		return VMBUS_E_RANGE;
	memcpy(at.sun_path, path, len);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return vmbus__shm_errno();
	/* A full backlog makes connect() wait, for so long. */
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(sock, (const struct sockaddr *)&at, sizeof(at)) == 0)
		return sock;
	err = errno == EAGAIN ? VMBUS_E_AGAIN : vmbus__shm_errno();
	vmbus__shm_close(&sock);
	return err;
}

int vmbus__shm_recv_until(int sock, uint64_t end, struct vmbus__shm_record *record)
{
	struct pollfd fd = { .fd = sock, .events = POLLIN };

	for (;;) {
		const int got = vmbus__shm_recv(sock, record);
		const uint64_t now = vmbus__shm_now_ns();
		const uint64_t left = now < end ? end - now : 0;
		const struct timespec wait = { .tv_sec = (time_t)(left / 1000000000u),
					       .tv_nsec = (long)(left % 1000000000u) };

		if (got)
			return got > 0 ? 0 : got;
		if (left == 0)
			return VMBUS_E_AGAIN;
		if (ppoll(&fd, 1, &wait, NULL) < 0 && errno != EINTR)
			return vmbus__shm_errno();
	}
}

static void tell_child(const struct vmbus_shm_list_ops *ops, void *ctx,
		       const struct vmbus__shm_child_line *line)
{
	const struct vmbus_shm_child_info info = {
		.name = line->name,
		.pid = line->pid,
		.vps = line->vps,
		.memory_bytes = line->memory,
		.ending = line->state != 0,
	};

	if (ops->child)
		ops->child(ctx, &info);
}

static void tell_channel(const struct vmbus_shm_list_ops *ops, void *ctx,
			 const struct vmbus__shm_channel_line *line)
{
	const struct vmbus_chan_info info = {
		.class_id = line->class_id,
		.instance_id = line->instance_id,
		.vsp = line->vsp,
		.state = line->state,
		.relid = line->relid,
		.sub_index = line->sub_index,
		.conn_id = line->conn_id,
		.target_vp = line->target_vp,
		.send_bytes = line->send_bytes,
		.recv_bytes = line->recv_bytes,
		.subchannels = line->subchannels,
		.mirrored = (line->flags & VMBUS_SHM_CHANNEL_MIRRORED) != 0,
		.faulted = (line->flags & VMBUS_SHM_CHANNEL_FAULTED) != 0,
		.opens = line->opens,
	};

	if (ops->channel)
		ops->channel(ctx, &info);
}

static int refusal(uint32_t code)
{
	switch (code) {
	case VMBUS_SHM_CODE_VERSION:
		return VMBUS_E_NOTSUP;
	case VMBUS_SHM_CODE_LATE:
		return VMBUS_E_AGAIN;
	default:
		return VMBUS_E_PERM;
	}
}

/* One line.  Returns 1 at the end, 0 when more is to come. */
static int take_line(const struct vmbus__shm_record *record, const struct vmbus_shm_list_ops *ops,
		     void *ctx, uint32_t *told)
{
	struct vmbus__shm_msg msg;
	const int err = vmbus__shm_decode(record->bytes, record->len, &msg);

	if (err)
		return err == VMBUS_E_NOTSUP ? err : VMBUS_E_PEER;
	switch (msg.type) {
	case VMBUS_SHM_CHILD:
		tell_child(ops, ctx, &msg.u.child);
		return 0;
	case VMBUS_SHM_CHANNEL:
		tell_channel(ops, ctx, &msg.u.channel);
		++*told;
		return 0;
	case VMBUS_SHM_LIST_END:
		return msg.u.end.channels == *told ? 1 : VMBUS_E_PEER;
	case VMBUS_SHM_REFUSED:
		return refusal(msg.u.text.code);
	default:
		return VMBUS_E_PEER;
	}
}

int vmbus_shm_list(const char *path, uint64_t timeout_ns, const struct vmbus_shm_list_ops *ops,
		   void *ctx)
{
	const uint64_t wait_ns = timeout_ns ? timeout_ns : TIMEOUT_DEFAULT_NS;
	const uint64_t end = vmbus__shm_in_ns(wait_ns);
	const struct vmbus__shm_msg query = { .type = VMBUS_SHM_LIST };
	struct vmbus__shm_record record;
	uint32_t channels = 0;
	int sock, err;

	if (ops->struct_bytes < sizeof(*ops))
		return VMBUS_E_INVAL;
	sock = vmbus__shm_connect(path, wait_ns);
	if (sock < 0)
		return sock;
	err = vmbus__shm_send(sock, &query, NULL, 0);
	while (!err) {
		err = vmbus__shm_recv_until(sock, end, &record);
		if (err)
			break;
		vmbus__shm_record_close(&record);
		err = take_line(&record, ops, ctx, &channels);
		if (!err && vmbus__shm_now_ns() > end)
			err = VMBUS_E_AGAIN;
	}
	vmbus__shm_close(&sock);
	return err == 1 ? (int)channels : err;
}
