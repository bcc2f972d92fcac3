/* SPDX-License-Identifier: MIT */
/*
 * The client's side of captures: ask a parent for a tap of a channel, map its memory, read records.
 * What the parent says is checked; a parent that lies gives a capture that makes no sense.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmbus/shm_capture.h>

#include "shm/capture_proto.h"
#include "shm/sys.h"

#define TIMEOUT_DEFAULT_NS 5000000000u

struct vmbus_shm_capture {
	int sock;
	int listener;
	int epoll_fd;
	void *map;
	size_t bytes;
	struct vmbus_tap_reader *reader;
	bool gone; /* the parent says so, or its end of the socket */
	bool told; /* ENDED came: that is how it should be */
};

static void say(const struct vmbus_shm_capture_opts *opts, const char *text)
{
	if (opts->why && opts->why_bytes)
		(void)snprintf(opts->why, opts->why_bytes, "%s", text);
}

static int refused(const struct vmbus_shm_capture_opts *opts, const struct vmbus__shm_text *text)
{
	say(opts, text->text);
	switch (text->code) {
	case VMBUS_SHM_CODE_VERSION:
	case VMBUS_SHM_CODE_MESSAGE: /* it knows no captures */
		return VMBUS_E_NOTSUP;
	case VMBUS_SHM_CODE_FULL:
		return VMBUS_E_FULL;
	case VMBUS_SHM_CODE_UNKNOWN:
		return VMBUS_E_RANGE;
	case VMBUS_SHM_CODE_SYSTEM:
		return VMBUS_E_SYSTEM;
	default:
		return VMBUS_E_PERM;
	}
}

/* Memory and listener, which are ours from here on. */
static int take_tap(struct vmbus_shm_capture *c, struct vmbus__shm_record *record,
		    const struct vmbus__cp_tapped *tapped)
{
	bool huge = false;
	void *map;
	int err;

	if (record->fd_count != 2 || record->cut)
		return VMBUS_E_PEER;
	err = vmbus__shm_check_memory(record->fds[0], tapped->bytes, &huge);
	if (err || huge)
		return VMBUS_E_PEER;
	map = mmap(NULL, tapped->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, record->fds[0], 0);
	if (map == MAP_FAILED)
		return vmbus__shm_errno();
	c->map = map;
	c->bytes = tapped->bytes;
	c->listener = record->fds[1];
	record->fds[1] = -1;
	err = vmbus_tap_reader_create(c->map, c->bytes, &c->reader);
	return err == VMBUS_E_INVAL ? VMBUS_E_PEER : err;
}

static int take_answer(struct vmbus_shm_capture *c, const struct vmbus_shm_capture_opts *opts,
		       struct vmbus__shm_record *record)
{
	struct vmbus__cp_msg tapped;
	struct vmbus__shm_msg msg;

	if (vmbus__cp_type_of(record->bytes, record->len) == VMBUS_CP_TAPPED) {
		(void)vmbus__cp_decode(record->bytes, record->len, &tapped);
		return take_tap(c, record, &tapped.u.tapped);
	}
	if (vmbus__shm_decode(record->bytes, record->len, &msg) || msg.type != VMBUS_SHM_REFUSED) {
		say(opts, "the answer makes no sense");
		return VMBUS_E_PEER;
	}
	return refused(opts, &msg.u.text);
}

static int ask(struct vmbus_shm_capture *c, const struct vmbus_shm_capture_opts *opts,
	       uint64_t wait_ns)
{
	const uint64_t end = vmbus__shm_in_ns(wait_ns);
	struct vmbus__cp_msg msg = { .type = VMBUS_CP_CAPTURE };
	struct vmbus__shm_record record;
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	int err;

	(void)snprintf(msg.u.capture.name, sizeof(msg.u.capture.name), "%s",
		       opts->child ? opts->child : "");
	msg.u.capture.pid = opts->pid;
	msg.u.capture.relid = opts->relid;
	msg.u.capture.snap = opts->snap;
	msg.u.capture.bytes = opts->bytes;
	err = vmbus__shm_send_bytes(c->sock, bytes, vmbus__cp_encode(&msg, bytes), NULL, 0);
	if (!err)
		err = vmbus__shm_recv_until(c->sock, end, &record);
	if (err)
		return err;
	err = take_answer(c, opts, &record);
	vmbus__shm_record_close(&record);
	return err;
}

static int watch(struct vmbus_shm_capture *c)
{
	int err;

	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll_fd < 0)
		return vmbus__shm_errno();
	err = vmbus__shm_epoll_add(c->epoll_fd, c->listener, EPOLLIN, 0);
	if (!err)
		err = vmbus__shm_epoll_add(c->epoll_fd, c->sock, EPOLLIN | EPOLLRDHUP, 1);
	return err;
}

int vmbus_shm_capture_begin(const struct vmbus_shm_capture_opts *opts,
			    struct vmbus_shm_capture **capture)
{
	const uint64_t wait_ns = opts->timeout_ns ? opts->timeout_ns : TIMEOUT_DEFAULT_NS;
	struct vmbus_shm_capture *c;
	int err, saved;

	*capture = NULL;
	if (opts->struct_bytes < sizeof(*opts) || !opts->path ||
	    (opts->child && strlen(opts->child) >= VMBUS_SHM_NAME_BYTES))
		return VMBUS_E_INVAL;
	say(opts, "");
	c = calloc(1, sizeof(*c));
	if (!c)
		return VMBUS_E_NOMEM;
	c->listener = c->epoll_fd = -1;
	c->sock = vmbus__shm_connect(opts->path, wait_ns);
	err = c->sock < 0 ? c->sock : ask(c, opts, wait_ns);
	if (!err)
		err = watch(c);
	if (err) {
		saved = errno;
		vmbus_shm_capture_end(c);
		errno = saved;
		return err;
	}
	*capture = c;
	return 0;
}

int vmbus_shm_capture_fd(const struct vmbus_shm_capture *c)
{
	return c->epoll_fd;
}

/* Whether the parent's end of the socket is still there. */
static void look_at_socket(struct vmbus_shm_capture *c)
{
	struct vmbus__shm_record record;
	int got = 0;

	while (!c->gone && (got = vmbus__shm_recv(c->sock, &record)) != 0) {
		c->gone = true;
		if (got > 0) {
			c->told = vmbus__cp_type_of(record.bytes, record.len) == VMBUS_CP_ENDED;
			vmbus__shm_record_close(&record);
		}
	}
	if (c->gone)
		vmbus__shm_epoll_del(c->epoll_fd, c->sock);
}

int vmbus_shm_capture_next(struct vmbus_shm_capture *c, struct vmbus_capture_record *record)
{
	struct epoll_event event;
	int got = vmbus_tap_reader_next(c->reader, record);

	if (got)
		return got;
	if (!c->gone)
		look_at_socket(c);
	/* What came before the end is read before the end is told. */
	(void)epoll_wait(c->listener, &event, 1, 0); /* takes the edge */
	got = vmbus_tap_reader_arm(c->reader);
	if (got > 0)
		got = vmbus_tap_reader_next(c->reader, record);
	if (got || !c->gone)
		return got;
	return c->told ? VMBUS_E_STATE : VMBUS_E_PEER;
}

int vmbus_shm_capture_wait(struct vmbus_shm_capture *c, uint64_t timeout_ns)
{
	struct epoll_event events[2];
	int n;

	if (c->gone)
		return 0;
	n = vmbus__shm_epoll_wait(c->epoll_fd, events, 2, timeout_ns);
	if (n < 0)
		return n;
	return n ? 0 : VMBUS_E_AGAIN;
}

void vmbus_shm_capture_counts(const struct vmbus_shm_capture *c, struct vmbus_tap_counts *counts)
{
	vmbus_tap_reader_counts(c->reader, counts);
}

void vmbus_shm_capture_end(struct vmbus_shm_capture *c)
{
	if (!c)
		return;
	vmbus_tap_reader_destroy(c->reader);
	if (c->map)
		munmap(c->map, c->bytes);
	vmbus__shm_close(&c->epoll_fd);
	vmbus__shm_close(&c->listener);
	vmbus__shm_close(&c->sock);
	free(c);
}
