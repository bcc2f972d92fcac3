/* SPDX-License-Identifier: MIT */
/*
 * What wakes a child: its parent's bell, messages on the socket, the parent's end.  Nothing here
 * calls the guest but to tell it that the parent is gone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "shm/attached.h"
#include "shm/restart_proto.h"

#define MESSAGES_PER_CALL 4096 /* more than that is not a parent but a flood */

void vmbus__shm_lose_parent(struct vmbus_shm_attach *attach, const char *why)
{
	char line[VMBUS_SHM_TEXT_BYTES + 24];

	if (attach->gone)
		return;
	attach->gone = true;
	(void)snprintf(attach->why, sizeof(attach->why), "%s", why);
	(void)snprintf(line, sizeof(line), "the parent is gone: %s", attach->why);
	if (!attach->log || attach->ending)
		return;
	attach->logging = true;
	attach->log(attach->log_ctx, line);
	attach->logging = false;
}

static void bind_channel(struct vmbus_shm_attach *attach, uint32_t conn_id, int fd)
{
	struct vmbus__shm_bound *bound;
	int old = fd;

	if (vmbus__shm_bindable(conn_id)) {
		bound = &attach->bound[conn_id - VMBUS_SHM_CONN_BASE];
		(void)pthread_mutex_lock(&bound->lock);
		old = bound->fd;
		bound->fd = fd;
		(void)pthread_mutex_unlock(&bound->lock);
	}
	vmbus__shm_close(&old);
}

/* From now on a connection is signalled by its event flag. */
static void unbind_channel(struct vmbus_shm_attach *attach, uint32_t conn_id)
{
	bind_channel(attach, conn_id, -1);
	/* A signal may have gone to who does not listen any more. */
	vmbus__shm_signal_once(attach, conn_id);
}

/*
 * The eventfd of a BIND found no room among our descriptors.  A parent takes event flags of what is
 * bound too, so the connection goes on without; an eventfd that came earlier may be nobody's now.
 */
static void bind_without(struct vmbus_shm_attach *attach, uint32_t conn_id)
{
	unbind_channel(attach, conn_id);
	if (attach->lacked || !attach->log)
		return;
	attach->lacked = true;
	attach->logging = true;
	attach->log(attach->log_ctx, "no descriptor is free for the signals of a channel: "
				     "they go by event flags");
	attach->logging = false;
}

/* Another process is the parent from now on: its end is ours to see, not that of the one before. */
static void take_parent(struct vmbus_shm_attach *attach, struct vmbus__shm_record *record)
{
	int pidfd = -1;

	if (record->fd_count > 1) {
		vmbus__shm_lose_parent(attach, "it sent a message that a parent does not send");
		return;
	}
	if (record->fd_count == 1) {
		pidfd = record->fds[0];
		record->fds[0] = -1;
	}
	vmbus__shm_epoll_del(attach->epoll_fd, attach->pidfd);
	vmbus__shm_close(&attach->pidfd);
	attach->pidfd = pidfd;
	attach->parents++;
	/* An event of the one before may be among those that were taken already: they are numbered. */
	if (pidfd >= 0 &&
	    vmbus__shm_epoll_add(attach->epoll_fd, pidfd, EPOLLIN,
				 VMBUS_SHM_WAKE_PROCESS | (uint64_t)attach->parents << 8))
		vmbus__shm_close(&attach->pidfd); /* then the socket tells */
}

static void take_message(struct vmbus_shm_attach *attach, struct vmbus__shm_record *record)
{
	const bool whole = !record->cut || record->lost;
	struct vmbus__shm_msg msg;

	if (whole && vmbus__rs_type_of(record->bytes, record->len) == VMBUS_RS_PARENT) {
		take_parent(attach, record);
		return;
	}
	if (!whole || vmbus__shm_decode(record->bytes, record->len, &msg)) {
		vmbus__shm_lose_parent(attach, "it sent a message that cannot be read");
		return;
	}
	if (msg.type == VMBUS_SHM_BIND && record->fd_count == 1 &&
	    vmbus__shm_is_doorbell(record->fds[0])) {
		bind_channel(attach, msg.u.bind.conn_id, record->fds[0]);
		record->fds[0] = -1;
	} else if (msg.type == VMBUS_SHM_BIND && record->lost && record->fd_count == 0) {
		bind_without(attach, msg.u.bind.conn_id);
	} else if (msg.type == VMBUS_SHM_UNBIND && !record->lost && record->fd_count == 0) {
		unbind_channel(attach, msg.u.bind.conn_id);
	} else if (msg.type == VMBUS_SHM_BYE) {
		vmbus__shm_lose_parent(attach, msg.u.text.text[0] ? msg.u.text.text
								  : "it ended the connection");
	} else {
		vmbus__shm_lose_parent(attach, "it sent a message that a parent does not send");
	}
}

void vmbus__shm_take_messages(struct vmbus_shm_attach *attach)
{
	struct vmbus__shm_record record;
	int i, got = 1;

	for (i = 0; i < MESSAGES_PER_CALL && got > 0 && !attach->gone; i++) {
		got = vmbus__shm_recv(attach->sock, &record);
		if (got < 0)
			vmbus__shm_lose_parent(attach, "it closed the connection without a word");
		if (got > 0)
			take_message(attach, &record);
		vmbus__shm_record_close(&record);
	}
}

/* Returns how many things woke us; 0: none in that time. */
int vmbus__shm_take_wakeups(struct vmbus_shm_attach *attach, uint64_t timeout_ns)
{
	struct epoll_event events[6], heard;
	const int n = vmbus__shm_epoll_wait(attach->epoll_fd, events, 6, timeout_ns);
	uint64_t count;
	int i;

	for (i = 0; i < n; i++) {
		switch (events[i].data.u64 & 0xFFu) {
		case VMBUS_SHM_WAKE_SOCK:
			vmbus__shm_take_messages(attach);
			break;
		case VMBUS_SHM_WAKE_PROCESS:
			vmbus__shm_take_messages(attach); /* its last word */
			if (events[i].data.u64 >> 8 == attach->parents)
				vmbus__shm_lose_parent(attach, "its process has ended");
			break;
		case VMBUS_SHM_WAKE_LISTENER:
			if (epoll_wait(attach->listener, &heard, 1, 0) < 0 && errno != EINTR)
				vmbus__shm_lose_parent(attach, "its bell is no epoll set");
			break;
		case VMBUS_SHM_WAKE_TIMER:
			(void)!read(attach->timer_fd, &count, sizeof(count));
			break;
		case VMBUS_SHM_WAKE_KICK:
			(void)!read(attach->kick_fd, &count, sizeof(count));
			break;
		default:
			break;
		}
	}
	return n;
}

void vmbus__shm_tell_guest(struct vmbus_shm_attach *attach)
{
	const enum vmbus_guest_state state =
		attach->gone ? vmbus_guest_state(attach->guest) : VMBUS_GUEST_IDLE;

	if (attach->gone && !attach->told) {
		attach->told = true;
		vmbus__shm_epoll_del(attach->epoll_fd, attach->sock);
		vmbus__shm_epoll_del(attach->epoll_fd, attach->pidfd);
		vmbus__shm_epoll_del(attach->epoll_fd, attach->listener);
		/* What follows from it is done by the next dispatch. */
		vmbus__shm_again(attach->again_fd, &attach->again_set, true);
	}
	/* There is no coming back over this attachment, however often the guest tries. */
	if (state != VMBUS_GUEST_IDLE && state != VMBUS_GUEST_GONE)
		vmbus_guest_parent_gone(attach->guest);
}
