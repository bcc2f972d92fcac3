/* SPDX-License-Identifier: MIT */
/*
 * The parent's side of captures: a tap of a channel for somebody who asked by the socket.  Memory
 * and bell are the capture's own; who reads can fill or empty them and harms nobody else.  It lasts
 * as long as its connection, and no longer than the channel.
 *
 * A capture outlives its connection, and its server, until the channel's thread has let go of the
 * memory: done() frees it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "shm/capture.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmbus/shm.h>
#include <vmbus/tap.h>

#define BYTES_DEFAULT (1u << 20)
#define BYTES_MIN (64u << 10)
#define BYTES_MAX (16u << 20)

struct vmbus__shm_capture {
	struct vmbus_shm_server *server; /* NULL: forgotten */
	struct vmbus_bus *bus;
	struct vmbus_chan *chan;
	uint32_t slot, gen;
	int sock;
	int bell; /* rung by the channel's thread */
	int memfd;
	void *map;
	size_t bytes;
};

static int refuse(struct vmbus__shm_text *refused, uint32_t code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int refuse(struct vmbus__shm_text *refused, uint32_t code, const char *format, ...)
{
	va_list args;

	refused->code = code;
	va_start(args, format);
	(void)vsnprintf(refused->text, sizeof(refused->text), format, args);
	va_end(args);
	return VMBUS_E_RANGE;
}

static void close_sock(struct vmbus__shm_capture *cap)
{
	if (cap->sock < 0)
		return;
	if (cap->server)
		vmbus__shm_epoll_del(cap->server->epoll_fd, cap->sock);
	vmbus__shm_close(&cap->sock);
}

static void leave(struct vmbus__shm_capture *cap)
{
	if (!cap->server)
		return;
	cap->server->captures[cap->slot] = NULL;
	cap->server->capturing--;
	cap->server = NULL;
}

static void free_capture(struct vmbus__shm_capture *cap)
{
	close_sock(cap);
	leave(cap);
	if (cap->map)
		munmap(cap->map, cap->bytes);
	vmbus__shm_close(&cap->bell);
	vmbus__shm_close(&cap->memfd);
	free(cap);
}

/* From the channel's thread. */
static void wake(void *ctx)
{
	vmbus__shm_ring_doorbell(((struct vmbus__shm_capture *)ctx)->bell);
}

/* Nothing writes to the memory any more. */
static void done(void *ctx)
{
	struct vmbus__shm_capture *const cap = ctx;
	struct vmbus__cp_msg msg = { .type = VMBUS_CP_ENDED };
	uint8_t bytes[VMBUS_SHM_MSG_MAX];

	if (cap->sock >= 0) {
		(void)snprintf(msg.u.text.text, sizeof(msg.u.text.text), "the channel has ended");
		(void)vmbus__shm_send_bytes(cap->sock, bytes, vmbus__cp_encode(&msg, bytes), NULL,
					    0);
	}
	free_capture(cap);
}

static bool meant(const struct vmbus__cp_capture *msg, const char *name, int32_t pid)
{
	return (!msg->pid || msg->pid == pid) && (!msg->name[0] || strcmp(msg->name, name) == 0);
}

/* The channel that is asked for, of the first child that fits. */
static struct vmbus_chan *find(struct vmbus_shm_server *server, const struct vmbus__cp_capture *msg,
			       struct vmbus_bus **bus)
{
	struct vmbus_chan *chan = NULL;
	uint32_t i;

	for (i = 0; i < server->slots && !chan; i++) {
		const struct vmbus_shm_child *const child = server->children[i];

		if (!child || child->state != VMBUS_SHM_ATTACHED ||
		    !meant(msg, child->name, child->pid))
			continue;
		*bus = child->bus;
		chan = vmbus_chan_find(*bus, msg->relid);
	}
	for (i = 0; i < VMBUS_SHM_BUSES_MAX && !chan; i++) {
		struct vmbus_bus *const other = server->others[i].bus;

		if (!other || !meant(msg, vmbus_bus_name(other), (int32_t)getpid()))
			continue;
		*bus = other;
		chan = vmbus_chan_find(*bus, msg->relid);
	}
	return chan;
}

static int make_memory(struct vmbus__shm_capture *cap, size_t bytes)
{
	void *map;

	cap->bytes = bytes;
	cap->bell = vmbus__shm_doorbell();
	if (cap->bell < 0)
		return cap->bell;
	cap->memfd = vmbus_shm_create(bytes);
	if (cap->memfd < 0)
		return cap->memfd;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, cap->memfd, 0);
	if (map == MAP_FAILED)
		return vmbus__shm_errno();
	cap->map = map;
	return 0;
}

/* A set that hears the bell and cannot touch it. */
static int make_listener(int bell)
{
	int fd = epoll_create1(EPOLL_CLOEXEC), err;

	if (fd < 0)
		return vmbus__shm_errno();
	err = vmbus__shm_epoll_add(fd, bell, EPOLLIN | EPOLLET, 0);
	if (err)
		vmbus__shm_close(&fd);
	return err ? err : fd;
}

static int tell(const struct vmbus__shm_capture *cap)
{
	struct vmbus__cp_msg msg = { .type = VMBUS_CP_TAPPED };
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	int listener = make_listener(cap->bell), err;
	const int fds[] = { cap->memfd, listener };

	if (listener < 0)
		return listener;
	msg.u.tapped.bytes = cap->bytes;
	err = vmbus__shm_send_bytes(cap->sock, bytes, vmbus__cp_encode(&msg, bytes), fds, 2);
	vmbus__shm_close(&listener);
	return err;
}

static int refuse_tap(struct vmbus__shm_text *refused, const struct vmbus__cp_capture *msg, int err)
{
	switch (err) {
	case VMBUS_E_PERM:
		return refuse(refused, VMBUS_SHM_CODE_DENIED,
			      "no capture is allowed on the bus of channel %u", msg->relid);
	case VMBUS_E_STATE:
	case VMBUS_E_AGAIN:
		return refuse(refused, VMBUS_SHM_CODE_FULL, "channel %u %s", msg->relid,
			      err == VMBUS_E_STATE ? "is captured already"
						   : "has a capture that has not ended yet");
	case VMBUS_E_NOTSUP:
		return refuse(refused, VMBUS_SHM_CODE_DENIED,
			      "the packets of channel %u go to another process", msg->relid);
	case VMBUS_E_RANGE:
		return refuse(refused, VMBUS_SHM_CODE_UNKNOWN, "%u bytes of a packet, at most %u",
			      msg->snap, VMBUS_CAPTURE_SNAP_MAX);
	default:
		return refuse(refused, VMBUS_SHM_CODE_SYSTEM, "the parent's system: %s",
			      vmbus_err_name(err));
	}
}

static int check(struct vmbus_shm_server *server, const struct vmbus__cp_capture *msg,
		 struct vmbus__shm_text *refused)
{
	if (!server->opts.allow_capture)
		return refuse(refused, VMBUS_SHM_CODE_DENIED,
			      "no capture is allowed here (allow_capture)");
	if (server->capturing >= server->opts.captures_max)
		return refuse(refused, VMBUS_SHM_CODE_FULL,
			      "%u captures are under way already (captures_max)",
			      server->capturing);
	if (msg->bytes && (msg->bytes < BYTES_MIN || msg->bytes > BYTES_MAX))
		return refuse(refused, VMBUS_SHM_CODE_UNKNOWN,
			      "%u bytes of memory asked for, %u to %u allowed", msg->bytes,
			      BYTES_MIN, BYTES_MAX);
	return 0;
}

static int tap(struct vmbus__shm_capture *cap, const struct vmbus__cp_capture *msg)
{
	const struct vmbus_tap_opts opts = { .struct_bytes = sizeof(opts),
					     .mem = cap->map,
					     .bytes = cap->bytes,
					     .snap = msg->snap,
					     .wake = wake,
					     .done = done,
					     .ctx = cap };

	return vmbus_chan_tap(cap->chan, &opts);
}

static struct vmbus__shm_capture *new_capture(struct vmbus_shm_server *server, int sock)
{
	struct vmbus__shm_capture *const cap = calloc(1, sizeof(*cap));

	if (!cap)
		return NULL;
	while (server->captures[cap->slot])
		cap->slot++;
	cap->server = server;
	cap->gen = ++server->gen;
	cap->sock = sock;
	cap->bell = cap->memfd = -1;
	server->captures[cap->slot] = cap;
	server->capturing++;
	return cap;
}

int vmbus__shm_capture_begin(struct vmbus_shm_server *server, int sock,
			     const struct vmbus__cp_capture *msg, struct vmbus__shm_text *refused)
{
	struct vmbus__shm_capture *cap;
	struct vmbus_bus *bus = NULL;
	struct vmbus_chan *chan;
	int err = check(server, msg, refused);

	if (err)
		return err;
	chan = find(server, msg, &bus);
	if (!chan)
		return refuse(refused, VMBUS_SHM_CODE_UNKNOWN, "no channel %u of %s", msg->relid,
			      msg->name[0] ? msg->name : "any child");
	cap = new_capture(server, sock);
	if (!cap)
		return refuse_tap(refused, msg, VMBUS_E_NOMEM);
	cap->chan = chan;
	cap->bus = bus;
	err = make_memory(cap, msg->bytes ? vmbus__shm_whole_pages(msg->bytes) : BYTES_DEFAULT);
	if (!err)
		err = tap(cap, msg);
	if (err) {
		cap->sock = -1; /* the caller's still */
		free_capture(cap);
		return refuse_tap(refused, msg, err);
	}
	vmbus__shm_log(&server->log, VMBUS_LOG_INFO, "%s: channel %u is captured",
		       vmbus_bus_name(bus), msg->relid);
	err = tell(cap);
	if (!err)
		err = vmbus__shm_epoll_add(
			server->epoll_fd, sock, EPOLLIN | EPOLLRDHUP,
			vmbus__shm_tag(VMBUS_SHM_EV_CAPTURE, cap->slot, cap->gen));
	if (err) { /* the connection ends, and so does the tap */
		close_sock(cap);
		vmbus_chan_untap(chan);
	}
	return 0;
}

void vmbus__shm_capture_event(struct vmbus_shm_server *server, uint32_t slot, uint32_t gen)
{
	struct vmbus__shm_capture *const cap =
		slot < VMBUS_SHM_CAPTURES_MAX ? server->captures[slot] : NULL;

	if (!cap || cap->gen != gen)
		return;
	close_sock(cap); /* whatever it says: it has nothing to say */
	vmbus_chan_untap(cap->chan);
}

void vmbus__shm_capture_forget(struct vmbus_shm_server *server, const struct vmbus_bus *bus)
{
	uint32_t slot;

	for (slot = 0; slot < VMBUS_SHM_CAPTURES_MAX; slot++) {
		struct vmbus__shm_capture *const cap = server->captures[slot];

		if (!cap || (bus && cap->bus != bus))
			continue;
		close_sock(cap);
		leave(cap);
		vmbus_chan_untap(cap->chan);
	}
}
