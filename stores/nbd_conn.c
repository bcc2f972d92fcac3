/* SPDX-License-Identifier: MIT */
/*
 * Connections of the NBD store: made with a deadline, shared where the server allows one only,
 * driven without waiting.  It knows no requests.
 */
#include "nbd/nbd.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define DRIVE_ROUNDS 256u /* then others of the thread have their turn */

static uint64_t now_ns(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* The code for what libnbd said last; errno as it has it. */
static int error(char *why, size_t bytes)
{
	const char *const text = nbd_get_error();
	const int reason = nbd_get_errno();

	if (why && bytes)
		(void)snprintf(why, bytes, "%s", text ? text : "no connection");
	errno = reason ? reason : EIO;
	switch (reason) {
	case ENOMEM:
		return VMBUS_E_NOMEM;
	case EINVAL:
		return VMBUS_E_INVAL;
	default:
		return VMBUS_E_SYSTEM;
	}
}

/* Until it is ready, dead, or too late. */
static int wait_ready(struct nbd_handle *h, uint64_t timeout_ns, char *why, size_t bytes)
{
	const uint64_t until = now_ns() + timeout_ns;

	while (!nbd_aio_is_ready(h)) {
		const uint64_t now = now_ns();
		uint64_t ms;

		if (nbd_aio_is_dead(h) || nbd_aio_is_closed(h))
			return error(why, bytes);
		if (now >= until) {
			if (why && bytes)
				(void)snprintf(why, bytes, "no answer from the server in time");
			return VMBUS_E_AGAIN;
		}
		ms = (until - now) / 1000000u + 1u;
		if (nbd_poll(h, ms < 60000u ? (int)ms : 60000) < 0)
			return error(why, bytes);
	}
	return 0;
}

int vmbus__nbd_connect(const struct vmbus__nbd *nbd, struct vmbus__nbd_conn **conn, char *why,
		       size_t bytes)
{
	struct nbd_handle *const h = nbd_create();
	struct vmbus__nbd_conn *c;
	int err;

	if (!h)
		return VMBUS_E_NOMEM;
	(void)nbd_set_pread_initialize(h, false); /* what a failed read leaves is not looked at */
	err = nbd_aio_connect_uri(h, nbd->uri) ? error(why, bytes)
					       : wait_ready(h, nbd->timeout_ns, why, bytes);
	c = err ? NULL : calloc(1, sizeof(*c));
	if (!c) {
		const int reason = errno;

		nbd_close(h);
		errno = reason;
		return err ? err : VMBUS_E_NOMEM;
	}
	(void)pthread_mutex_init(&c->lock, NULL);
	c->h = h;
	c->fd = nbd_aio_get_fd(h);
	c->events = EPOLLIN;
	*conn = c;
	return 0;
}

void vmbus__nbd_disconnect(struct vmbus__nbd_conn *conn)
{
	if (!conn)
		return;
	(void)nbd_aio_disconnect(conn->h, 0); /* said, and not waited for */
	nbd_close(conn->h);
	(void)pthread_mutex_destroy(&conn->lock);
	free(conn);
}

static int watch(struct vmbus__nbd_conn *conn, struct vmbus__nbd_queue *q)
{
	struct epoll_event event = { .data.fd = conn->fd };
	int err = 0;

	(void)pthread_mutex_lock(&conn->lock);
	event.events = conn->events;
	if (conn->dead) {
		errno = ENOTCONN;
		err = VMBUS_E_SYSTEM;
	} else if (epoll_ctl(q->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event)) {
		err = VMBUS_E_SYSTEM;
	} else {
		q->conn = conn;
		q->next = conn->users;
		conn->users = q;
	}
	(void)pthread_mutex_unlock(&conn->lock);
	return err;
}

/* Whether nobody uses it, and whether it is dead; under the store's lock, so this stays so. */
static bool is_idle(struct vmbus__nbd_conn *conn, bool *dead)
{
	bool idle;

	(void)pthread_mutex_lock(&conn->lock);
	if (!conn->users) /* the server may have gone meanwhile */
		vmbus__nbd_drive(conn);
	idle = !conn->users;
	*dead = conn->dead;
	(void)pthread_mutex_unlock(&conn->lock);
	return idle;
}

/* The first connection stays with the store; a queue has it, or one of its own, or shares the first
   one, also if the server takes no more of them. */
static int join(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q)
{
	struct vmbus__nbd_conn *conn;
	bool dead, idle = is_idle(nbd->first, &dead);
	int err;

	if (idle && dead) {
		err = vmbus__nbd_connect(nbd, &conn, NULL, 0);
		if (err)
			return err;
		vmbus__nbd_disconnect(nbd->first);
		nbd->first = conn;
		return watch(conn, q);
	}
	if (idle || !nbd->several || vmbus__nbd_connect(nbd, &conn, NULL, 0))
		return watch(nbd->first, q);
	err = watch(conn, q);
	if (err)
		vmbus__nbd_disconnect(conn);
	return err;
}

int vmbus__nbd_join(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q)
{
	int err;

	(void)pthread_mutex_lock(&nbd->lock);
	err = join(nbd, q);
	(void)pthread_mutex_unlock(&nbd->lock);
	return err;
}

void vmbus__nbd_leave(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q)
{
	struct vmbus__nbd_conn *const conn = q->conn;
	struct vmbus__nbd_queue **at;

	(void)pthread_mutex_lock(&nbd->lock);
	(void)pthread_mutex_lock(&conn->lock);
	for (at = &conn->users; *at != q; at = &(*at)->next)
		;
	*at = q->next;
	if (!conn->dead)
		(void)epoll_ctl(q->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
	(void)pthread_mutex_unlock(&conn->lock);
	if (conn != nbd->first)
		vmbus__nbd_disconnect(conn);
	(void)pthread_mutex_unlock(&nbd->lock);
}

void vmbus__nbd_update(struct vmbus__nbd_conn *conn)
{
	const unsigned direction = nbd_aio_get_direction(conn->h);
	struct epoll_event event = { .data.fd = conn->fd };
	struct vmbus__nbd_queue *q;

	if (conn->dead)
		return;
	if (nbd_aio_is_dead(conn->h) || nbd_aio_is_closed(conn->h)) {
		conn->dead = true; /* its descriptor has left the epoll sets by itself */
		return;
	}
	event.events = direction & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0;
	event.events |= direction & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0;
	if (event.events == conn->events)
		return;
	conn->events = event.events;
	for (q = conn->users; q; q = q->next)
		(void)epoll_ctl(q->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
}

void vmbus__nbd_drive(struct vmbus__nbd_conn *conn)
{
	uint32_t round;

	for (round = 0; round < DRIVE_ROUNDS && !conn->dead; round++) {
		const unsigned direction = nbd_aio_get_direction(conn->h);
		struct pollfd fd = { .fd = conn->fd };

		fd.events = direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0;
		if (direction & LIBNBD_AIO_DIRECTION_WRITE)
			fd.events |= POLLOUT;
		if (poll(&fd, 1, 0) <= 0)
			break;
		/* Errors end the connection, and all that is under way on it. */
		if (fd.revents & ~POLLOUT && direction & LIBNBD_AIO_DIRECTION_READ)
			(void)nbd_aio_notify_read(conn->h);
		else
			(void)nbd_aio_notify_write(conn->h);
		vmbus__nbd_update(conn);
	}
}
