/* SPDX-License-Identifier: MIT */
/*
 * Connections of the NBD store: made with a deadline, shared where the server allows one only,
 * driven without waiting.  It knows no requests.
 *
 * Only the store's connection is waited for, and when it is to be renewed not long: a channel's thread
 * has others to serve, whom a server that says nothing does not concern.
 */
#include "nbd/nbd.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define DRIVE_ROUNDS 256u		  /* then others of the thread have their turn */
#define RENEW_WAIT_NS UINT64_C(200000000) /* of a channel that opens, once for a connection */

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

/* What it waits for, and on which descriptor: while it comes up that may be another at any time. */
static void look_at(struct vmbus__nbd_conn *c)
{
	const unsigned direction = nbd_aio_get_direction(c->h);

	c->fd = nbd_aio_get_fd(c->h);
	c->events = direction & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0;
	c->events |= direction & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0;
}

/* Begin to connect. */
static int begin(const struct vmbus__nbd *nbd, struct vmbus__nbd_conn **conn, char *why,
		 size_t bytes)
{
	struct vmbus__nbd_conn *const c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return VMBUS_E_NOMEM;
	(void)pthread_mutex_init(&c->lock, NULL);
	c->until_ns = now_ns() + nbd->timeout_ns;
	c->h = nbd_create();
	/* libnbd keeps zeroing what it reads into: a server may say that a read is done and have sent
	   less of it, and then a buffer of ours would take what was in our heap to the guest. */
	err = c->h ? 0 : VMBUS_E_NOMEM;
	if (!err && nbd_aio_connect_uri(c->h, nbd->uri))
		err = error(why, bytes);
	if (err) {
		const int reason = errno;

		vmbus__nbd_disconnect(c);
		errno = reason;
		return err;
	}
	look_at(c);
	*conn = c;
	return 0;
}

/* What has come of it meanwhile.  Errors: AGAIN  it is not ready yet; else it never will be. */
static int try(struct vmbus__nbd_conn *c, char *why, size_t bytes)
{
	uint32_t round;

	for (round = 0; round < DRIVE_ROUNDS && !nbd_aio_is_ready(c->h); round++) {
		struct pollfd fd = { .fd = c->fd };

		if (nbd_aio_is_dead(c->h)) { /* EINVAL is then of looking at it */
			const int err = error(why, bytes);

			errno = err == VMBUS_E_INVAL ? ENOTCONN : errno;
			return err == VMBUS_E_INVAL ? VMBUS_E_SYSTEM : err;
		}
		if (nbd_aio_is_closed(c->h)) { /* by the server: libnbd has no word for it */
			if (why && bytes)
				(void)snprintf(why, bytes, "the server ended the connection");
			errno = ENOTCONN;
			return VMBUS_E_SYSTEM;
		}
		fd.events = c->events & EPOLLIN ? POLLIN : 0;
		if (c->events & EPOLLOUT)
			fd.events |= POLLOUT;
		if (poll(&fd, 1, 0) <= 0)
			return VMBUS_E_AGAIN;
		if (fd.revents & ~POLLOUT && c->events & EPOLLIN)
			(void)nbd_aio_notify_read(c->h);
		else
			(void)nbd_aio_notify_write(c->h);
		look_at(c);
	}
	return nbd_aio_is_ready(c->h) ? 0 : VMBUS_E_AGAIN;
}

/* Until it is ready, dead, or too late, whatever signals come.  Errors: those of try(). */
static int wait_ready(struct vmbus__nbd_conn *c, uint64_t until, char *why, size_t bytes)
{
	int err;

	while ((err = try(c, why, bytes)) == VMBUS_E_AGAIN) {
		struct pollfd fd = { .fd = c->fd };
		const uint64_t now = now_ns();
		uint64_t ms;

		if (now >= until) {
			if (why && bytes)
				(void)snprintf(why, bytes, "no answer from the server in time");
			break;
		}
		ms = (until - now) / 1000000u + 1u;
		fd.events = c->events & EPOLLIN ? POLLIN : 0;
		if (c->events & EPOLLOUT)
			fd.events |= POLLOUT;
		(void)poll(&fd, 1, ms < 60000u ? (int)ms : 60000);
	}
	return err;
}

int vmbus__nbd_connect(const struct vmbus__nbd *nbd, struct vmbus__nbd_conn **conn, char *why,
		       size_t bytes)
{
	struct vmbus__nbd_conn *c;
	int err = begin(nbd, &c, why, bytes);

	if (err)
		return err;
	err = wait_ready(c, c->until_ns, why, bytes);
	if (err) {
		const int reason = errno;

		vmbus__nbd_disconnect(c);
		errno = reason;
		return err;
	}
	*conn = c;
	return 0;
}

void vmbus__nbd_disconnect(struct vmbus__nbd_conn *conn)
{
	if (!conn)
		return;
	if (conn->h) {
		(void)nbd_aio_disconnect(conn->h, 0); /* said, and not waited for */
		nbd_close(conn->h);
	}
	(void)pthread_mutex_destroy(&conn->lock);
	free(conn);
}

/* An epoll descriptor waits for what the connection waits for; it may know its descriptor already. */
static int set_events(int epoll_fd, const struct vmbus__nbd_conn *conn)
{
	struct epoll_event event = { .events = conn->events, .data.fd = conn->fd };

	if (!epoll_ctl(epoll_fd, EPOLL_CTL_MOD, conn->fd, &event))
		return 0;
	return errno == ENOENT ? epoll_ctl(epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) : -1;
}

static int watch(struct vmbus__nbd_conn *conn, struct vmbus__nbd_use *use, int epoll_fd)
{
	int err = 0;

	(void)pthread_mutex_lock(&conn->lock);
	if (conn->dead) {
		errno = ENOTCONN;
		err = VMBUS_E_SYSTEM;
	} else if (set_events(epoll_fd, conn)) {
		err = VMBUS_E_SYSTEM;
	} else {
		*use = (struct vmbus__nbd_use){ conn, conn->users, epoll_fd };
		conn->users = use;
	}
	(void)pthread_mutex_unlock(&conn->lock);
	return err;
}

/* Lock of the connection. */
static void unwatch(struct vmbus__nbd_use *use)
{
	struct vmbus__nbd_conn *const conn = use->conn;
	struct vmbus__nbd_use **at;

	for (at = &conn->users; *at != use; at = &(*at)->next)
		;
	*at = use->next;
	if (!conn->dead)
		(void)epoll_ctl(use->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
	use->conn = NULL;
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

/* Whether it is what guests were told of, as far as their bytes depend on it. */
static bool is_same(const struct vmbus__nbd *nbd, struct nbd_handle *h)
{
	if (nbd_get_size(h) != (int64_t)nbd->info.bytes ||
	    (nbd->several && nbd_can_multi_conn(h) != 1))
		return false;
	return !nbd->ops.write ||
	       (nbd_is_read_only(h) != 1 && (nbd_can_flush(h) == 1) == (nbd->ops.flush != NULL) &&
		(nbd_can_fua(h) == 1) == ((nbd->info.flags & VMBUS_STORE_FUA) != 0));
}

/* Store's lock: the first connection is dead, and another is to be the first.  It is waited for a
   little when it begins; later openings look only whether it is there.  The server may be one that
   was started again, and has lost what was in its memory: who has a queue since before has not heard
   that if it had nothing under way. */
static int renew(struct vmbus__nbd *nbd)
{
	struct vmbus__nbd_conn *conn;
	uint64_t until = now_ns();
	int err;

	if (!nbd->renewed) {
		err = begin(nbd, &nbd->renewed, NULL, 0);
		if (err)
			return err;
		until += RENEW_WAIT_NS;
	}
	conn = nbd->renewed;
	err = wait_ready(conn, until < conn->until_ns ? until : conn->until_ns, NULL, 0);
	if (err == VMBUS_E_AGAIN && now_ns() < conn->until_ns)
		return err;
	nbd->renewed = NULL;
	if (!err && !is_same(nbd, conn->h))
		err = VMBUS_E_NOTSUP;
	if (err) {
		const int reason = errno;

		vmbus__nbd_disconnect(conn);
		errno = reason;
		return err;
	}
	if (!nbd->first->users)
		vmbus__nbd_disconnect(nbd->first); /* else the last of them does */
	nbd->first = conn;
	nbd->lost = nbd->queues > 0;
	return 0;
}

/* The first connection stays with the store: a queue uses it at once, and another of its own when that
   is there, if the server takes more of them and the first one is not the queue's alone. */
static int join(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q)
{
	bool dead, idle = is_idle(nbd->first, &dead);
	int err = 0;

	if (dead) {
		err = renew(nbd);
		idle = true;
	}
	if (!err)
		err = watch(nbd->first, &q->shared, q->epoll_fd);
	if (err || idle || !nbd->several || begin(nbd, &q->coming, NULL, 0))
		return err;
	if (set_events(q->epoll_fd, q->coming)) {
		vmbus__nbd_disconnect(q->coming);
		q->coming = NULL;
	}
	return 0;
}

int vmbus__nbd_join(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q)
{
	int err;

	(void)pthread_mutex_lock(&nbd->lock);
	err = join(nbd, q);
	if (!err) {
		nbd->queues++;
		q->lost = nbd->lost;
	}
	(void)pthread_mutex_unlock(&nbd->lock);
	return err;
}

/* Store's lock. */
static void leave(struct vmbus__nbd *nbd, struct vmbus__nbd_use *use)
{
	struct vmbus__nbd_conn *const conn = use->conn;
	bool unused;

	if (!conn)
		return;
	(void)pthread_mutex_lock(&conn->lock);
	unwatch(use);
	unused = !conn->users && conn != nbd->first;
	(void)pthread_mutex_unlock(&conn->lock);
	if (unused)
		vmbus__nbd_disconnect(conn);
}

void vmbus__nbd_leave(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q)
{
	(void)pthread_mutex_lock(&nbd->lock);
	leave(nbd, &q->shared);
	leave(nbd, &q->own);
	if (--nbd->queues == 0)
		nbd->lost = false; /* nobody is left who was told that something is done */
	(void)pthread_mutex_unlock(&nbd->lock);
	vmbus__nbd_disconnect(q->coming);
	q->coming = NULL;
}

void vmbus__nbd_lock(struct vmbus__nbd_queue *q)
{
	if (q->shared.conn)
		(void)pthread_mutex_lock(&q->shared.conn->lock);
	if (q->own.conn)
		(void)pthread_mutex_lock(&q->own.conn->lock);
}

void vmbus__nbd_unlock(struct vmbus__nbd_queue *q)
{
	if (q->own.conn)
		(void)pthread_mutex_unlock(&q->own.conn->lock);
	if (q->shared.conn)
		(void)pthread_mutex_unlock(&q->shared.conn->lock);
}

/* Whether the server that the queue began with has gone: the own connection is then to another. */
static bool is_another(struct vmbus__nbd_queue *q)
{
	bool dead;

	vmbus__nbd_lock(q);
	vmbus__nbd_drive(q->shared.conn);
	dead = q->shared.conn->dead;
	vmbus__nbd_unlock(q);
	return dead;
}

/* The queue's own connection, if it is ready; one that fails, or takes too long, is given up. */
static void take_own(const struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q)
{
	struct vmbus__nbd_conn *const conn = q->coming;
	const int err = try(conn, NULL, 0);

	if (err == VMBUS_E_AGAIN && now_ns() < conn->until_ns && !set_events(q->epoll_fd, conn))
		return;
	q->coming = NULL;
	if (!err && is_another(q))
		q->lost = true;
	if (err || !is_same(nbd, conn->h) || watch(conn, &q->own, q->epoll_fd))
		vmbus__nbd_disconnect(conn);
}

void vmbus__nbd_come(struct vmbus__nbd *nbd, struct vmbus__nbd_queue *q)
{
	bool done;

	if (q->coming)
		take_own(nbd, q);
	if (!q->own.conn || !q->shared.conn)
		return;
	vmbus__nbd_lock(q);
	done = !q->on_shared;
	vmbus__nbd_unlock(q);
	if (!done)
		return;
	(void)pthread_mutex_lock(&nbd->lock);
	leave(nbd, &q->shared);
	(void)pthread_mutex_unlock(&nbd->lock);
}

void vmbus__nbd_update(struct vmbus__nbd_conn *conn)
{
	const unsigned direction = nbd_aio_get_direction(conn->h);
	struct epoll_event event = { .data.fd = conn->fd };
	const struct vmbus__nbd_use *use;

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
	for (use = conn->users; use; use = use->next)
		(void)epoll_ctl(use->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
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
