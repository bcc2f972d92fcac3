/* SPDX-License-Identifier: MIT */
/*
 * A block store before another one, for tests: it fails, stalls, and loses what was not flushed, as it
 * is told.  Slow on purpose of being simple: one lock, and what is kept back is written and read
 * while the caller waits.
 *
 * What is kept are sectors in a table.  They are newer than those below; a flush brings them there,
 * and a power cut forgets them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vmbus/store.h>

#define BUCKETS 65536u
#define KEPT_BYTES_MAX (256u << 20) /* then all is written back, as a full cache does */
#define RUN_MAX 256u		    /* sectors of one write */

enum kind {
	READ = 1,
	WRITE = 2,
	FLUSH = 4,
	DISCARD = 8,
	ZERO = 16
};

struct kept {
	struct kept *next; /* of the bucket */
	uint64_t sector;
	uint8_t data[];
};

struct faulty {
	struct vmbus_store_ops ops;
	struct vmbus_store below;
	uint32_t below_flags;
	uint32_t sector;
	pthread_mutex_t lock; /* of all that follows */
	struct vmbus_store_faults faults;
	struct vmbus_store_queue own; /* of the store below, for what is kept */
	struct kept **table;
	uint32_t count;
	struct queue *queues;
};

struct queue {
	struct vmbus_store_queue below;
	struct queue *next;
	int epoll_fd;
	int bell_fd;
	struct vmbus_io *first, *last; /* that stall; linked by store[0], their kind in store[1] */
};

/* A request that was passed on. */
struct passed {
	struct vmbus_io below;
	struct vmbus_io *io;
};

/* ---- the store below, while we wait ---- */

static void now_done(struct vmbus_io *io, enum vmbus_io_end end)
{
	io->reserved_p[0] = 1;
	io->reserved_p[1] = (uint64_t)end;
}

static enum vmbus_io_end now(struct faulty *f, struct vmbus_io *io, void (*op)(struct vmbus_io *io))
{
	struct pollfd fd = { .fd = f->own.fd, .events = POLLIN };

	if (!op)
		return VMBUS_IO_OK;
	io->queue = &f->own;
	io->done_p = now_done;
	io->reserved_p[0] = 0;
	op(io);
	if (f->below.ops->commit)
		f->below.ops->commit(&f->own);
	while (!io->reserved_p[0])
		if (poll(&fd, 1, -1) > 0)
			f->below.ops->ready(&f->own);
	return (enum vmbus_io_end)io->reserved_p[1];
}

/* ---- sectors that are kept ---- */

static struct kept **bucket(const struct faulty *f, uint64_t sector)
{
	return &f->table[(sector ^ sector >> 16 ^ sector >> 32) % BUCKETS];
}

static struct kept *find(const struct faulty *f, uint64_t sector)
{
	struct kept *kept = *bucket(f, sector);

	while (kept && kept->sector != sector)
		kept = kept->next;
	return kept;
}

static void forget(struct faulty *f, uint64_t from, uint64_t sectors)
{
	struct kept **at, *kept;
	uint32_t i;

	if (!f->count)
		return;
	for (i = 0; i < BUCKETS; i++)
		for (at = &f->table[i]; (kept = *at);) {
			if (kept->sector < from || kept->sector - from >= sectors) {
				at = &kept->next;
				continue;
			}
			*at = kept->next;
			free(kept);
			f->count--;
		}
}

static void sift(struct kept **list, uint32_t at, uint32_t n)
{
	struct kept *const moved = list[at];
	uint32_t child;

	for (; (child = 2 * at + 1) < n; at = child) {
		if (child + 1 < n && list[child]->sector < list[child + 1]->sector)
			child++;
		if (moved->sector >= list[child]->sector)
			break;
		list[at] = list[child];
	}
	list[at] = moved;
}

/* A heap sort: glibc's qsort() asks for the machine's memory, which a sandbox forbids. */
static void sort_by_sector(struct kept **list, uint32_t n)
{
	struct kept *last;
	uint32_t i;

	for (i = n / 2; i > 0; i--)
		sift(list, i - 1, n);
	for (i = n; i > 1; i--) {
		last = list[i - 1];
		list[i - 1] = list[0];
		list[0] = last;
		sift(list, 0, i - 1);
	}
}

/* Write sectors that follow each other; returns how many went, and how it ended. */
static uint32_t write_run(struct faulty *f, struct kept **list, uint32_t n, enum vmbus_io_end *end)
{
	struct iovec iov[RUN_MAX];
	struct vmbus_io io = { .iov = iov, .offset = list[0]->sector * f->sector };
	uint32_t i;

	for (i = 0; i < n && i < RUN_MAX && list[i]->sector == list[0]->sector + i; i++)
		iov[i] = (struct iovec){ list[i]->data, f->sector };
	io.iov_count = i;
	io.bytes = (uint64_t)i * f->sector;
	*end = now(f, &io, f->below.ops->write);
	return i;
}

/* All that is kept goes below. */
static enum vmbus_io_end write_back(struct faulty *f)
{
	enum vmbus_io_end end = VMBUS_IO_OK;
	struct kept **list, *kept;
	uint32_t i, n = 0;

	if (!f->count)
		return VMBUS_IO_OK;
	list = malloc(f->count * sizeof(struct kept *));
	if (!list)
		return VMBUS_IO_BUSY;
	for (i = 0; i < BUCKETS; i++)
		for (kept = f->table[i]; kept; kept = kept->next)
			list[n++] = kept;
	sort_by_sector(list, n);
	for (i = 0; i < n && end == VMBUS_IO_OK;)
		i += write_run(f, &list[i], n - i, &end);
	free(list);
	if (end == VMBUS_IO_OK)
		forget(f, 0, UINT64_MAX);
	return end;
}

static enum vmbus_io_end keep_one(struct faulty *f, uint64_t sector, const uint8_t *data)
{
	struct kept *kept = find(f, sector);

	if (!kept) {
		if (f->count >= KEPT_BYTES_MAX / f->sector) {
			const enum vmbus_io_end end = write_back(f);

			if (end != VMBUS_IO_OK)
				return end;
		}
		kept = malloc(sizeof(*kept) + f->sector);
		if (!kept)
			return VMBUS_IO_BUSY;
		kept->sector = sector;
		kept->next = *bucket(f, sector);
		*bucket(f, sector) = kept;
		f->count++;
	}
	memcpy(kept->data, data, f->sector);
	return VMBUS_IO_OK;
}

/* A copy of a write's bytes, sector by sector: pieces need not be whole ones. */
static enum vmbus_io_end keep(struct faulty *f, const struct vmbus_io *io)
{
	enum vmbus_io_end end = VMBUS_IO_OK;
	uint8_t *const copy = malloc(io->bytes), *to = copy;
	uint64_t at;
	uint32_t i;

	if (!copy)
		return VMBUS_IO_BUSY;
	for (i = 0; i < io->iov_count; i++) {
		memcpy(to, io->iov[i].iov_base, io->iov[i].iov_len);
		to += io->iov[i].iov_len;
	}
	for (at = 0; at < io->bytes && end == VMBUS_IO_OK; at += f->sector)
		end = keep_one(f, (io->offset + at) / f->sector, copy + at);
	free(copy);
	return end;
}

/* What is kept, over what was read. */
static void lay_over(const struct faulty *f, const struct vmbus_io *io)
{
	uint64_t at = io->offset;
	uint32_t i;

	for (i = 0; f->count && i < io->iov_count; i++) {
		uint8_t *to = io->iov[i].iov_base;
		size_t left = io->iov[i].iov_len;

		while (left) {
			const struct kept *const kept = find(f, at / f->sector);
			const uint32_t skip = (uint32_t)(at % f->sector);
			const size_t n = left < f->sector - skip ? left : f->sector - skip;

			if (kept)
				memcpy(to, kept->data + skip, n);
			to += n;
			at += n;
			left -= n;
		}
	}
}

/* ---- requests while writes are kept ---- */

static enum vmbus_io_end flush_below(struct faulty *f)
{
	struct vmbus_io io = { 0 };

	return now(f, &io, f->below.ops->flush);
}

static enum vmbus_io_end write_through(struct faulty *f, struct vmbus_io *copy)
{
	enum vmbus_io_end end = now(f, copy, f->below.ops->write);

	if (end == VMBUS_IO_OK && !(f->below_flags & VMBUS_STORE_FUA))
		end = flush_below(f);
	if (end == VMBUS_IO_OK)
		forget(f, copy->offset / f->sector, copy->bytes / f->sector);
	return end;
}

/* A request from beginning to end, under the lock. */
static enum vmbus_io_end with_kept(struct faulty *f, struct vmbus_io *io, enum kind kind)
{
	struct vmbus_io copy = { .offset = io->offset,
				 .bytes = io->bytes,
				 .iov = io->iov,
				 .iov_count = io->iov_count,
				 .flags = io->flags };
	enum vmbus_io_end end = VMBUS_IO_OK;

	switch (kind) {
	case READ:
		end = now(f, &copy, f->below.ops->read);
		if (end == VMBUS_IO_OK)
			lay_over(f, io);
		break;
	case WRITE:
		end = io->flags & VMBUS_IO_FUA ? write_through(f, &copy) : keep(f, io);
		break;
	case FLUSH:
		end = write_back(f);
		if (end == VMBUS_IO_OK)
			end = flush_below(f);
		break;
	case DISCARD:
	case ZERO:
		end = now(f, &copy, kind == ZERO ? f->below.ops->zero : f->below.ops->discard);
		if (end == VMBUS_IO_OK)
			forget(f, io->offset / f->sector, io->bytes / f->sector);
		break;
	}
	io->bad_offset = copy.bad_offset;
	return end;
}

/* ---- requests that pass ---- */

static void passed_done(struct vmbus_io *below, enum vmbus_io_end end)
{
	struct passed *const passed = (struct passed *)below->user_p;
	struct vmbus_io *const io = passed->io;

	io->bad_offset = below->bad_offset;
	free(passed);
	vmbus_io_done(io, end);
}

static void pass(const struct faulty *f, struct vmbus_io *io, enum kind kind)
{
	struct queue *const q = io->queue->priv;
	struct passed *const passed = calloc(1, sizeof(*passed));
	const struct vmbus_store_ops *const ops = f->below.ops;

	if (!passed) {
		vmbus_io_done(io, VMBUS_IO_BUSY);
		return;
	}
	passed->io = io;
	passed->below = (struct vmbus_io){ .queue = &q->below,
					   .offset = io->offset,
					   .bytes = io->bytes,
					   .iov = io->iov,
					   .iov_count = io->iov_count,
					   .flags = io->flags,
					   .done_p = passed_done,
					   .user_p = passed };
	switch (kind) {
	case READ:
		ops->read(&passed->below);
		break;
	case WRITE:
		ops->write(&passed->below);
		break;
	case FLUSH:
		if (ops->flush)
			ops->flush(&passed->below);
		else
			passed_done(&passed->below, VMBUS_IO_OK);
		break;
	case DISCARD:
		ops->discard(&passed->below);
		break;
	case ZERO:
		ops->zero(&passed->below);
		break;
	}
}

static bool is_hit(const struct vmbus_store_faults *faults, const struct vmbus_io *io,
		   enum kind kind)
{
	const uint64_t first = io->offset > faults->from ? io->offset : faults->from;

	if (!faults->bytes || !(faults->ops & (kind == ZERO ? DISCARD : kind)))
		return false;
	if (kind == FLUSH)
		return true;
	return first - io->offset < io->bytes && first - faults->from < faults->bytes;
}

static void begin(struct vmbus_io *io, enum kind kind)
{
	struct queue *const q = io->queue->priv;
	struct faulty *const f = io->queue->ctx;
	enum vmbus_io_end end = VMBUS_IO_OK;
	bool stall, ended = true;

	(void)pthread_mutex_lock(&f->lock);
	stall = f->faults.stall;
	if (f->faults.cut) {
		end = VMBUS_IO_GONE;
	} else if (!stall && is_hit(&f->faults, io, kind)) {
		end = (enum vmbus_io_end)f->faults.end;
		io->bad_offset = io->offset > f->faults.from ? io->offset : f->faults.from;
	} else if (!stall && f->faults.drop) {
		end = with_kept(f, io, kind);
	} else {
		ended = false;
	}
	(void)pthread_mutex_unlock(&f->lock);
	if (ended) {
		vmbus_io_done(io, end);
	} else if (!stall) {
		pass(f, io, kind);
	} else {
		io->store[0] = 0;
		io->store[1] = (uint64_t)kind;
		if (q->last)
			q->last->store[0] = (uintptr_t)io;
		else
			q->first = io;
		q->last = io;
	}
}

/* ---- the table ---- */

static void faulty_read(struct vmbus_io *io)
{
	begin(io, READ);
}

static void faulty_write(struct vmbus_io *io)
{
	begin(io, WRITE);
}

static void faulty_flush(struct vmbus_io *io)
{
	begin(io, FLUSH);
}

static void faulty_discard(struct vmbus_io *io)
{
	begin(io, DISCARD);
}

static void faulty_zero(struct vmbus_io *io)
{
	begin(io, ZERO);
}

static void faulty_commit(struct vmbus_store_queue *queue)
{
	const struct faulty *const f = queue->ctx;
	struct queue *const q = queue->priv;

	if (f->below.ops->commit)
		f->below.ops->commit(&q->below);
}

static void faulty_ready(struct vmbus_store_queue *queue)
{
	const struct faulty *const f = queue->ctx;
	struct queue *const q = queue->priv;
	struct pollfd fd = { .fd = q->below.fd, .events = POLLIN };
	struct vmbus_io *io;
	uint64_t rung;

	if (read(q->bell_fd, &rung, sizeof(rung)) == (ssize_t)sizeof(rung)) {
		io = q->first;
		q->first = q->last = NULL;
		while (io) { /* those that must wait again are put back, in order */
			struct vmbus_io *const next = (struct vmbus_io *)(uintptr_t)io->store[0];

			begin(io, (enum kind)io->store[1]);
			io = next;
		}
		faulty_commit(queue);
	}
	if (f->below.ops->ready && poll(&fd, 1, 0) > 0)
		f->below.ops->ready(&q->below);
}

/* What stalls, and what the store below has. */
static void faulty_cancel(struct vmbus_store_queue *queue)
{
	const struct faulty *const f = queue->ctx;
	struct queue *const q = queue->priv;
	struct vmbus_io *io = q->first;

	q->first = q->last = NULL;
	while (io) {
		struct vmbus_io *const next = (struct vmbus_io *)(uintptr_t)io->store[0];

		vmbus_io_done(io, VMBUS_IO_GONE);
		io = next;
	}
	if (f->below.ops->cancel)
		f->below.ops->cancel(&q->below);
}

static int faulty_info(void *ctx, struct vmbus_store_info *info)
{
	struct faulty *const f = ctx;
	const int err = f->below.ops->info(f->below.ctx, info);

	if (err)
		return err;
	if (!(info->flags & VMBUS_STORE_VOLATILE))
		info->flags |= VMBUS_STORE_FUA; /* what is below is durable at once */
	info->flags |= VMBUS_STORE_VOLATILE;
	return 0;
}

static int open_below(const struct faulty *f, struct vmbus_store_queue *queue, uint32_t depth)
{
	*queue = (struct vmbus_store_queue){ .ctx = f->below.ctx, .fd = -1, .depth = depth };
	return f->below.ops->open ? f->below.ops->open(queue) : 0;
}

static void close_below(const struct faulty *f, struct vmbus_store_queue *queue)
{
	if (f->below.ops->close)
		f->below.ops->close(queue);
}

static void free_queue(struct queue *q)
{
	if (q->bell_fd >= 0)
		(void)close(q->bell_fd);
	if (q->epoll_fd >= 0)
		(void)close(q->epoll_fd);
	free(q);
}

static int add_fd(const struct queue *q, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return fd >= 0 && epoll_ctl(q->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? VMBUS_E_SYSTEM : 0;
}

static int faulty_open(struct vmbus_store_queue *queue)
{
	struct faulty *const f = queue->ctx;
	struct queue *const q = calloc(1, sizeof(*q));
	int err = VMBUS_E_SYSTEM;

	if (!q)
		return VMBUS_E_NOMEM;
	q->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	q->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->epoll_fd >= 0 && q->bell_fd >= 0)
		err = open_below(f, &q->below, queue->depth);
	if (err) {
		free_queue(q);
		return err;
	}
	if (add_fd(q, q->bell_fd) || add_fd(q, q->below.fd)) {
		close_below(f, &q->below);
		free_queue(q);
		return VMBUS_E_SYSTEM;
	}
	(void)pthread_mutex_lock(&f->lock);
	q->next = f->queues;
	f->queues = q;
	(void)pthread_mutex_unlock(&f->lock);
	queue->priv = q;
	queue->fd = q->epoll_fd;
	return 0;
}

static void faulty_close(struct vmbus_store_queue *queue)
{
	struct faulty *const f = queue->ctx;
	struct queue *const q = queue->priv, **at;

	(void)pthread_mutex_lock(&f->lock);
	for (at = &f->queues; *at != q; at = &(*at)->next)
		;
	*at = q->next;
	(void)pthread_mutex_unlock(&f->lock);
	close_below(f, &q->below);
	free_queue(q);
	queue->priv = NULL;
	queue->fd = -1;
}

static void faulty_destroy(void *ctx)
{
	struct faulty *const f = ctx;

	forget(f, 0, UINT64_MAX);
	close_below(f, &f->own);
	vmbus_store_destroy(&f->below);
	(void)pthread_mutex_destroy(&f->lock);
	free(f->table);
	free(f);
}

static void fill_ops(struct faulty *f)
{
	const struct vmbus_store_ops *const below = f->below.ops;

	f->ops = (struct vmbus_store_ops){
		.struct_bytes = sizeof(f->ops),
		.name = "faulty",
		.info = faulty_info,
		.open = faulty_open,
		.close = faulty_close,
		.read = faulty_read,
		.write = below->write ? faulty_write : NULL,
		.flush = faulty_flush,
		.discard = below->discard ? faulty_discard : NULL,
		.zero = below->zero ? faulty_zero : NULL,
		.commit = faulty_commit,
		.ready = faulty_ready,
		.destroy = faulty_destroy,
		.cancel = faulty_cancel,
	};
}

int vmbus_store_faulty(const struct vmbus_store *below, struct vmbus_store *store)
{
	struct vmbus_store_info info;
	struct faulty *f;
	int err;

	if (!below || !below->ops || below->ops->struct_bytes < sizeof(*below->ops))
		return VMBUS_E_INVAL;
	err = below->ops->info(below->ctx, &info);
	if (err)
		return err;
	f = calloc(1, sizeof(*f));
	if (!f)
		return VMBUS_E_NOMEM;
	f->table = calloc(BUCKETS, sizeof(*f->table));
	f->below = *below;
	f->below_flags = info.flags;
	f->sector = info.align_bytes > 512u ? info.align_bytes : 512u;
	err = f->table ? open_below(f, &f->own, 1) : VMBUS_E_NOMEM;
	if (err) {
		free(f->table);
		free(f);
		return err;
	}
	(void)pthread_mutex_init(&f->lock, NULL);
	fill_ops(f);
	*store = (struct vmbus_store){ .ops = &f->ops, .ctx = f };
	return 0;
}

int vmbus_store_faulty_set(const struct vmbus_store *store, const struct vmbus_store_faults *faults)
{
	const uint64_t one = 1;
	struct faulty *f;
	struct queue *q;
	int err = 0;

	if (!store || !store->ops || store->ops->destroy != faulty_destroy || !faults ||
	    faults->ops > (READ | WRITE | FLUSH | DISCARD) || faults->end > VMBUS_IO_BUSY)
		return VMBUS_E_INVAL;
	f = store->ctx;
	(void)pthread_mutex_lock(&f->lock);
	if (faults->cut)
		forget(f, 0, UINT64_MAX);
	else if (!faults->drop && write_back(f) != VMBUS_IO_OK)
		err = VMBUS_E_SYSTEM;
	if (!err) {
		f->faults = *faults;
		for (q = f->queues; q && (!faults->stall || faults->cut); q = q->next)
			(void)!write(q->bell_fd, &one, sizeof(one));
	}
	(void)pthread_mutex_unlock(&f->lock);
	return err;
}
