/* SPDX-License-Identifier: MIT */
/*
 * A parent that takes the children of another process: hand_over.c has the order of messages.  What
 * the other says is checked; until it says GO nothing of a child's memory is written, and a server
 * that does not come about leaves no trace.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vmbus/shm_restart.h>

#include "shm/parent.h"
#include "shm/restart_proto.h"

#define TIMEOUT_DEFAULT_NS 10000000000u
#define STATE_BYTES_MAX ((uint64_t)256 << 20)

struct taking {
	struct vmbus_shm_server *server;
	int sock;
	uint64_t end;
	struct vmbus__rs_server told;
	char why[VMBUS_SHM_TEXT_BYTES];
};

static int say(struct taking *t, int err, const char *text)
{
	if (!t->why[0])
		(void)snprintf(t->why, sizeof(t->why), "%s", text);
	return err;
}

/* The old parent has given up, and says why. */
static int cancelled(struct taking *t, const struct vmbus__rs_msg *msg)
{
	char text[VMBUS_SHM_TEXT_BYTES];

	(void)snprintf(text, sizeof(text), "the old parent serves on: %.64s; its log says more",
		       msg->u.word.text);
	return say(t, VMBUS_E_PEER, text);
}

/* The next message, which must be of that type. */
static int receive(struct taking *t, uint32_t type, struct vmbus__shm_record *record,
		   struct vmbus__rs_msg *msg)
{
	int err = vmbus__shm_recv_until(t->sock, t->end, record);

	if (err)
		return say(t, err,
			   err == VMBUS_E_AGAIN ? "no message in time" : "the old parent is gone");
	if (record->cut || vmbus__rs_decode(record->bytes, record->len, msg))
		err = say(t, VMBUS_E_PEER, "a message that cannot be");
	else if (msg->type == type)
		return 0;
	else if (msg->type == VMBUS_RS_WORD && msg->u.word.code == VMBUS_RS_CANCEL)
		err = cancelled(t, msg);
	else
		err = say(t, VMBUS_E_PEER, "a message out of order");
	vmbus__shm_record_close(record);
	return err;
}

static int take_server(struct taking *t, const struct vmbus_shm_server_opts *opts)
{
	struct vmbus__shm_record record;
	struct vmbus__rs_msg msg;
	int err = receive(t, VMBUS_RS_SERVER, &record, &msg);

	if (err)
		return err;
	if (record.fd_count != 1) {
		err = say(t, VMBUS_E_PEER, "no listening socket");
	} else if (!opts->path || strcmp(opts->path, msg.u.server.path) != 0) {
		err = say(t, VMBUS_E_INVAL, "the old parent listens at another path");
	} else {
		err = vmbus__shm_listen_by(opts, record.fds[0], &t->server);
		if (!err)
			record.fds[0] = -1;
		else
			(void)say(t, err, "no server can be made");
	}
	t->told = msg.u.server;
	vmbus__shm_record_close(&record);
	return err;
}

static int restore(struct taking *t, struct vmbus_shm_child *child, int fd, uint64_t bytes)
{
	bool huge;
	void *map;
	int err;

	if (bytes == 0 || bytes > STATE_BYTES_MAX || vmbus__shm_check_memory(fd, bytes, &huge) ||
	    huge)
		return say(t, VMBUS_E_PEER, "a state that cannot be");
	map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return say(t, vmbus__shm_errno(), "out of memory for a state");
	err = vmbus_bus_restore(child->bus, map, bytes, t->why, sizeof(t->why));
	munmap(map, bytes);
	return err;
}

static int take_child(struct taking *t)
{
	struct vmbus__shm_record record;
	struct vmbus_shm_child *child;
	struct vmbus__rs_msg msg;
	int err = receive(t, VMBUS_RS_STATE, &record, &msg);

	if (err)
		return err;
	if (record.fd_count != (int)VMBUS_RS_FDS) {
		err = say(t, VMBUS_E_PEER, "a child without its descriptors");
	} else {
		err = vmbus__shm_child_adopt(t->server, &msg.u.state, record.fds, &child);
		if (err)
			(void)say(t, err, "a child that cannot be served here");
		else
			err = restore(t, child, record.fds[5], msg.u.state.state_bytes);
	}
	vmbus__shm_record_close(&record);
	return err;
}

/*
 * The last word of the old parent; one that ends without a word has left them to us.  When time is up
 * its GO is here, or fails from then on: it serves on, and knows.
 */
static int wait_for_go(struct taking *t)
{
	struct vmbus__shm_record record;
	struct vmbus__rs_msg msg;
	int err = vmbus__shm_recv_until(t->sock, t->end, &record);

	if (err == VMBUS_E_PEER)
		return 0;
	if (err == VMBUS_E_AGAIN) {
		(void)shutdown(t->sock, SHUT_RD);
		if (!vmbus__shm_recv_until(t->sock, t->end, &record))
			err = 0;
	}
	if (err)
		return say(t, err, "the old parent does not let go");
	if (vmbus__rs_decode(record.bytes, record.len, &msg) || msg.type != VMBUS_RS_WORD ||
	    msg.u.word.code != VMBUS_RS_GO)
		err = say(t, VMBUS_E_PEER, "the old parent serves on");
	vmbus__shm_record_close(&record);
	return err;
}

static int take(struct taking *t, const struct vmbus_shm_server_opts *opts)
{
	uint32_t i;
	int err = take_server(t, opts);

	for (i = 0; !err && i < t->told.children; i++)
		err = take_child(t);
	if (err)
		return err;
	if (vmbus__shm_now_ns() >= t->end)
		return say(t, VMBUS_E_AGAIN, "the children are not restored in time");
	err = vmbus__rs_send_word(t->sock, VMBUS_RS_READY, "", t->end);
	if (err)
		return say(t, err, "the old parent serves on, or is gone");
	return wait_for_go(t);
}

/* They are ours: tell each, and look at everything once. */
static void begin(struct taking *t)
{
	struct vmbus_shm_server *const server = t->server;
	uint32_t slot;

	server->dev = (dev_t)t->told.dev;
	server->ino = (ino_t)t->told.ino;
	for (slot = 0; slot < server->slots; slot++)
		if (server->children[slot])
			vmbus__shm_child_begin(server->children[slot]);
	vmbus__shm_again(server->again_fd, &server->again_set, true);
	(void)vmbus__rs_send_word(t->sock, VMBUS_RS_DONE, "", t->end);
}

/* The children are the old parent's still: they hear nothing, and nothing of theirs is written. */
static void undo(struct taking *t)
{
	struct vmbus_shm_server *const server = t->server;
	uint32_t slot;

	(void)shutdown(t->sock, SHUT_RD);
	(void)vmbus__rs_send_word(t->sock, VMBUS_RS_CANCEL, t->why, vmbus__shm_now_ns());
	(void)shutdown(t->sock, SHUT_WR);
	for (slot = 0; server && slot < server->slots; slot++)
		if (server->children[slot])
			vmbus__shm_child_disown(server->children[slot]);
	if (server)
		vmbus__shm_close(&server->listen_fd); /* so that its name stays */
	vmbus_shm_server_destroy(server);
}

int vmbus_shm_take_over(const struct vmbus_shm_server_opts *opts, int sock, uint64_t timeout_ns,
			struct vmbus_shm_server **server)
{
	struct taking t = { .sock = sock };
	struct vmbus__shm_log log = { 0 };
	int err;

	*server = NULL;
	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	t.end = vmbus__shm_in_ns(timeout_ns ? timeout_ns : (uint64_t)TIMEOUT_DEFAULT_NS);
	err = take(&t, opts);
	if (err) {
		log.fn = opts->log;
		log.ctx = opts->ctx;
		vmbus__shm_log(&log, VMBUS_LOG_ERROR, "cannot take over: %s (%s)", t.why,
			       vmbus_err_name(err));
		undo(&t);
		return err;
	}
	begin(&t);
	*server = t.server;
	return 0;
}
