/* SPDX-License-Identifier: MIT */
/*
 * A parent that gives way to another process: the state of every child's bus and every descriptor of
 * it go over a socket, and with them the socket that listens.  Until the other says READY nothing is
 * given up; with GO everything is.  So exactly one of the two serves, whichever of them ends when.
 * Who gives up shuts its end for reading before it says CANCEL: the other's READY or GO is here then,
 * and counts, or fails and tells it.
 *
 *	old	SERVER, STATE for each child ->
 *	new					<- READY
 *	old	GO ->
 *	new					<- DONE, when the children were told
 *
 * Nothing is dispatched meanwhile: what the children do waits in their memory and their doorbells.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vmbus/shm.h>
#include <vmbus/shm_restart.h>

#include "shm/capture.h"
#include "shm/parent.h"
#include "shm/restart_proto.h"

#define TIMEOUT_DEFAULT_NS 10000000000u

/* Children that go with it; others end here. */
static bool goes(const struct vmbus_shm_child *child)
{
	return child && child->state == VMBUS_SHM_ATTACHED && !child->kicked;
}

static uint32_t count(const struct vmbus_shm_server *server)
{
	uint32_t slot, n = 0;

	for (slot = 0; slot < server->slots; slot++)
		n += goes(server->children[slot]);
	return n;
}

/* The state of a bus in memory that can be handed on; returns its descriptor. */
static int save_bus(struct vmbus_bus *bus, uint64_t *bytes)
{
	size_t need = 0;
	void *map;
	int fd, err = vmbus_bus_save(bus, NULL, 0, &need);

	if (err && err != VMBUS_E_RANGE)
		return err;
	fd = vmbus_shm_create(need);
	if (fd < 0)
		return fd;
	map = mmap(NULL, need, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		err = vmbus__shm_errno();
	} else {
		*bytes = need;
		err = vmbus_bus_save(bus, map, need, &need);
		munmap(map, *bytes);
	}
	if (err)
		vmbus__shm_close(&fd);
	return err ? err : fd;
}

static int send_child(const struct vmbus_shm_child *child, int sock, uint64_t end)
{
	struct vmbus__rs_msg msg = { .type = VMBUS_RS_STATE };
	struct vmbus__rs_state *const state = &msg.u.state;
	int fds[VMBUS_RS_FDS] = { child->sock,	child->memfd, child->doorbell,
				  child->knock, child->wake,  -1 };
	int err;

	fds[5] = save_bus(child->bus, &state->state_bytes);
	if (fds[5] < 0)
		return fds[5];
	state->memory = child->bytes;
	state->pid = child->pid;
	state->vps = child->vps;
	state->box_seq = child->box.seq_p;
	state->box_broken = child->box.broken_p;
	memcpy(state->unbind, child->unbind, sizeof(state->unbind));
	memcpy(state->name, child->name, sizeof(state->name));
	err = vmbus__rs_send(sock, &msg, fds, (int)VMBUS_RS_FDS, end);
	vmbus__shm_close(&fds[5]);
	return err;
}

/* Whether each bus can be saved now; a bus that can says RANGE, as there is no room. */
static int check_all(const struct vmbus_shm_server *server)
{
	int err = 0, one;
	uint32_t slot;
	size_t need;

	/* All are asked, so that all end what they have under way at the same time. */
	for (slot = 0; slot < server->slots && (!err || err == VMBUS_E_AGAIN); slot++) {
		if (!goes(server->children[slot]))
			continue;
		one = vmbus_bus_save(server->children[slot]->bus, NULL, 0, &need);
		err = one == VMBUS_E_RANGE ? err : one;
	}
	return err;
}

static int send_all(const struct vmbus_shm_server *server, int sock, uint64_t end)
{
	struct vmbus__rs_msg msg = { .type = VMBUS_RS_SERVER };
	uint32_t slot;
	int err;

	msg.u.server.dev = (uint64_t)server->dev;
	msg.u.server.ino = (uint64_t)server->ino;
	msg.u.server.children = count(server);
	(void)snprintf(msg.u.server.path, sizeof(msg.u.server.path), "%s", server->path);
	err = vmbus__rs_send(sock, &msg, &server->listen_fd, 1, end);
	for (slot = 0; slot < server->slots && !err; slot++)
		if (goes(server->children[slot]))
			err = send_child(server->children[slot], sock, end);
	return err;
}

/*
 * Wait for a word of the other, and return its code; unread: it ended before it read ours.
 * Errors: AGAIN (time), PEER (gone, no word).
 */
static int hear(struct vmbus_shm_server *server, int sock, uint64_t end, bool *unread)
{
	struct vmbus__shm_record record = { 0 };
	struct vmbus__rs_msg msg;
	int said = vmbus__shm_recv_until(sock, end, &record);

	*unread = record.reset;
	if (said)
		return said;
	said = VMBUS_E_PEER;
	if (vmbus__rs_type_of(record.bytes, record.len) == VMBUS_RS_WORD &&
	    !vmbus__rs_decode(record.bytes, record.len, &msg) &&
	    msg.u.word.code >= VMBUS_RS_READY && msg.u.word.code <= VMBUS_RS_CANCEL)
		said = (int)msg.u.word.code;
	if (said == VMBUS_RS_CANCEL)
		vmbus__shm_log(&server->log, VMBUS_LOG_ERROR, "%s: hand-over refused: %s",
			       server->path, msg.u.word.text);
	vmbus__shm_record_close(&record);
	return said;
}

static int expect_ready(struct vmbus_shm_server *server, int sock, uint64_t end)
{
	bool unread;
	const int said = hear(server, sock, end, &unread);

	if (said < 0)
		return said;
	return said == VMBUS_RS_READY ? 0 : VMBUS_E_PEER;
}

/*
 * After GO.  Once that is read they are the other's, even if it ends before it says so; this process
 * must not end first.  One that cancels, or ended before, has not read it.
 */
static int expect_done(struct vmbus_shm_server *server, int sock, uint64_t end)
{
	bool unread;
	const int said = hear(server, sock, end, &unread);

	if (said == VMBUS_RS_CANCEL || (said == VMBUS_E_PEER && unread))
		return VMBUS_E_PEER;
	return 0;
}

/* What was looked at by the other may have been told to be quiet: look at everything once. */
static void look(void *ctx, const struct vmbus_chan_info *info)
{
	(void)vmbus_bus_signal_event(ctx, info->conn_id, 0);
}

static void go_on(struct vmbus_shm_server *server)
{
	uint32_t slot;

	for (slot = 0; slot < server->slots; slot++) {
		struct vmbus_shm_child *const child = server->children[slot];

		if (!goes(child))
			continue;
		vmbus_bus_list(child->bus, look, child->bus);
		child->rung = child->bus_due = true;
	}
	vmbus__shm_again(server->again_fd, &server->again_set, true);
}

static void give_up_all(struct vmbus_shm_server *server)
{
	uint32_t slot;

	vmbus__shm_epoll_del(server->epoll_fd, server->listen_fd);
	vmbus__shm_close(&server->listen_fd);
	for (slot = 0; slot < server->slots; slot++)
		if (goes(server->children[slot]))
			vmbus__shm_child_disown(server->children[slot]);
}

/*
 * A READY fails from here on.  If one came before, all that we sent was read, and the word has room.
 * The end of what we send would let go of the children: only after the word.
 */
static void cancel(int sock, int why)
{
	(void)shutdown(sock, SHUT_RD);
	if (!vmbus__rs_send_word(sock, VMBUS_RS_CANCEL, vmbus_err_name(why), vmbus__shm_now_ns()))
		(void)shutdown(sock, SHUT_WR);
}

static int hand_over(struct vmbus_shm_server *server, int sock, uint64_t end)
{
	int err = check_all(server);

	if (err == VMBUS_E_AGAIN)
		return err; /* nothing was said: the other waits for the next time */
	if (!err)
		err = send_all(server, sock, end);
	if (!err)
		err = expect_ready(server, sock, end);
	if (!err)
		err = vmbus__rs_send_word(sock, VMBUS_RS_GO, "", end);
	if (!err)
		err = expect_done(server, sock, end);
	if (err)
		cancel(sock, err);
	return err;
}

int vmbus_shm_server_hand_over(struct vmbus_shm_server *server, int sock, uint64_t timeout_ns)
{
	const uint64_t end =
		vmbus__shm_in_ns(timeout_ns ? timeout_ns : (uint64_t)TIMEOUT_DEFAULT_NS);
	int err;

	if (server->listen_fd < 0 || vmbus__shm_within_callback(server))
		return VMBUS_E_STATE;
	server->calling = true;
	err = hand_over(server, sock, end);
	if (err) {
		go_on(server);
	} else {
		vmbus__shm_log(&server->log, VMBUS_LOG_INFO, "%s: handed over", server->path);
		give_up_all(server);
	}
	server->calling = false;
	return err;
}
