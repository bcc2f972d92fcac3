/* SPDX-License-Identifier: MIT */
/*
 * A disk's part towards a store, for tests: a queue, requests, and waiting for them with a deadline.
 * Each request must end once, from within a call of its queue.
 */
#ifndef DRIVE_H
#define DRIVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vmbus/store.h>

#include "vmbus_test.h"

#define DRIVE_DEADLINE_MS 20000
#define DRIVE_DEPTH 64u

struct drive {
	struct vmbus_store store;
	struct vmbus_store_queue queue;
	uint32_t under_way;
	bool inside; /* a call of the queue */
};

struct req {
	struct vmbus_io io;
	struct drive *drive;
	uint32_t ends;
	enum vmbus_io_end end;
	void (*then)(struct req *req); /* NULL, or what follows its end */
};

static inline void drive_done(struct vmbus_io *io, enum vmbus_io_end end)
{
	struct req *const req = (struct req *)io->user_p;

	must(req->drive->inside);
	req->ends++;
	req->end = end;
	must(req->drive->under_way > 0);
	req->drive->under_way--;
	must(req->ends == 1);
	if (req->then)
		req->then(req);
}

static inline void drive_open(struct drive *d, const struct vmbus_store *store)
{
	memset(d, 0, sizeof(*d));
	d->store = *store;
	d->queue = (struct vmbus_store_queue){ .ctx = store->ctx, .fd = -1, .depth = DRIVE_DEPTH };
	must_eq(store->ops->open ? store->ops->open(&d->queue) : 0, 0);
}

/* Whether the store's server has aborted; waits for that a little.  NULL: there is no server. */
static bool (*drive_over)(void);

/*
 * Again, when the store may have to make up its connection first, which it says by AGAIN.  false: the
 * server has aborted.
 */
static inline bool drive_open_again(struct drive *d, const struct vmbus_store *store)
{
	uint32_t tries = DRIVE_DEADLINE_MS / 10;
	int err;

	memset(d, 0, sizeof(*d));
	d->store = *store;
	do {
		d->queue = (struct vmbus_store_queue){ .ctx = store->ctx,
						       .fd = -1,
						       .depth = DRIVE_DEPTH };
		err = store->ops->open ? store->ops->open(&d->queue) : 0;
	} while (err == VMBUS_E_AGAIN && tries-- && !usleep(10000));
	if (err && drive_over && drive_over())
		return false;
	must_eq(err, 0);
	return true;
}

static inline void drive_close(struct drive *d)
{
	must_eq(d->under_way, 0);
	if (d->store.ops->close)
		d->store.ops->close(&d->queue);
}

enum drive_op {
	DRIVE_READ,
	DRIVE_WRITE,
	DRIVE_FLUSH,
	DRIVE_DISCARD,
	DRIVE_ZERO
};

/* Begin a request whose io has offset, bytes, pieces and flags. */
static inline void drive_begin(struct drive *d, struct req *req, enum drive_op op)
{
	const struct vmbus_store_ops *const ops = d->store.ops;
	void (*const fn[])(struct vmbus_io *) = { ops->read, ops->write, ops->flush, ops->discard,
						  ops->zero };
	const bool inside = d->inside;

	req->drive = d;
	req->ends = 0;
	req->io.queue = &d->queue;
	req->io.done_p = drive_done;
	req->io.user_p = req;
	d->under_way++;
	d->inside = true;
	fn[op](&req->io);
	d->inside = inside;
}

static inline void drive_commit(struct drive *d)
{
	d->inside = true;
	if (d->store.ops->commit)
		d->store.ops->commit(&d->queue);
	d->inside = false;
}

/* One wait for the queue's descriptor; false: nothing came in time. */
static inline bool drive_wait(struct drive *d, int ms)
{
	struct pollfd fd = { .fd = d->queue.fd, .events = POLLIN };

	if (d->queue.fd < 0 || poll(&fd, 1, ms) <= 0)
		return false;
	d->inside = true;
	d->store.ops->ready(&d->queue);
	d->inside = false;
	return true;
}

static inline void drive_cancel(struct drive *d)
{
	d->inside = true;
	d->store.ops->cancel(&d->queue);
	d->inside = false;
}

/* What the kernel says of a descriptor that did not become readable. */
static inline void drive_tell(const struct drive *d)
{
	char path[64], text[512];
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", d->queue.fd);
	fprintf(stderr, "%u under way after %u ms; %s:\n", d->under_way, DRIVE_DEADLINE_MS, path);
	file = fopen(path, "r");
	while (file && fgets(text, sizeof(text), file))
		fputs(text, stderr);
	if (file)
		(void)fclose(file);
}

/*
 * Until the descriptor is readable.  A disk that others keep busy may need longer than the deadline; then
 * nothing has ended either, or we were not told of it.
 */
static inline void drive_wait_long(struct drive *d)
{
	const uint32_t under_way = d->under_way;
	uint32_t tries = 6;

	while (!drive_wait(d, DRIVE_DEADLINE_MS)) {
		drive_tell(d);
		must(d->queue.fd >= 0 && --tries);
		d->inside = true;
		d->store.ops->ready(&d->queue);
		d->inside = false;
		must_eq(d->under_way, under_way);
	}
}

/* Until all have ended. */
static inline void drive_all(struct drive *d)
{
	drive_commit(d);
	while (d->under_way) {
		drive_wait_long(d);
		drive_commit(d); /* what then() began */
	}
}

/* A request from beginning to end. */
static inline enum vmbus_io_end drive_one(struct drive *d, enum drive_op op, struct vmbus_io io)
{
	struct req req = { .io = io };

	drive_begin(d, &req, op);
	drive_all(d);
	return req.end;
}

static inline enum vmbus_io_end drive_move(struct drive *d, enum drive_op op, uint64_t offset,
					   void *data, uint64_t bytes)
{
	const struct iovec iov = { data, bytes };

	return drive_one(
		d, op,
		(struct vmbus_io){ .offset = offset, .bytes = bytes, .iov = &iov, .iov_count = 1 });
}

static inline enum vmbus_io_end drive_range(struct drive *d, enum drive_op op, uint64_t offset,
					    uint64_t bytes, uint32_t flags)
{
	return drive_one(d, op,
			 (struct vmbus_io){ .offset = offset, .bytes = bytes, .flags = flags });
}

/* From here on n more descriptors can be had. */
static inline void drive_limit_fds(uint32_t n)
{
	const int fd = dup(0); /* the lowest that is free */
	struct rlimit limit;

	must(fd >= 0 && !close(fd));
	must(!getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = (rlim_t)fd + n;
	must(!setrlimit(RLIMIT_NOFILE, &limit));
}

static inline uint32_t drive_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*seed >> 33);
}

static inline void drive_fill(uint8_t *data, size_t bytes, uint64_t seed)
{
	size_t i;

	for (i = 0; i < bytes; i++)
		data[i] = (uint8_t)(drive_random(&seed) >> 7);
}

#endif
