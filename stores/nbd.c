/* SPDX-License-Identifier: MIT */
/*
 * The NBD store: requests become commands of a connection.  libnbd takes one piece of memory for
 * each, so those of several pieces go through a buffer; what is more than the server takes at once
 * goes in rounds.
 *
 * The server is trusted with the bytes and not with the process: whatever it answers, a request ends
 * once, and a connection that makes no sense ends with GONE for all that is under way on it.
 */
#include "nbd/nbd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define TIMEOUT_DEFAULT_NS UINT64_C(10000000000)
#define TRANSFER_BYTES_MAX (32u << 20)	      /* that every server takes */
#define RANGE_BYTES_MAX (UINT64_C(1) << 30)   /* of a discard: the protocol has 32 bits for it */
#define BOUNCE_BYTES_MAX (UINT64_C(32) << 20) /* of a queue; one request may have more */

enum kind {
	READ = 0,
	WRITE,
	FLUSH,
	DISCARD,
	ZERO
};

/* What of a request is where in store[].  REASON is an errno; SHARED, while a round is under way, whether
   it is on the store's connection, then NEXT of those that have ended. */
enum {
	DONE = 0,
	KIND,
	ROUND,
	BOUNCE,
	REASON,
	NEXT,
	SHARED = NEXT
};

static uint8_t *bounce_of(const struct vmbus_io *io)
{
	return (uint8_t *)(uintptr_t)io->store[BOUNCE];
}

static void copy_out(struct vmbus_io *io)
{
	const uint8_t *from = bounce_of(io);
	uint32_t i;

	for (i = 0; i < io->iov_count; i++) {
		memcpy(io->iov[i].iov_base, from, io->iov[i].iov_len);
		from += io->iov[i].iov_len;
	}
}

/* A guest may have many at once: what is past the queue's limit is asked again. */
static bool make_bounce(struct vmbus_io *io)
{
	struct vmbus__nbd_queue *const q = io->queue->priv;
	uint8_t *to;
	uint32_t i;

	if (q->bounced && q->bounced + io->bytes > BOUNCE_BYTES_MAX)
		return false;
	to = malloc(io->bytes);
	if (!to)
		return false;
	q->bounced += io->bytes;
	io->store[BOUNCE] = (uintptr_t)to;
	for (i = 0; io->store[KIND] == WRITE && i < io->iov_count; i++) {
		memcpy(to, io->iov[i].iov_base, io->iov[i].iov_len);
		to += io->iov[i].iov_len;
	}
	return true;
}

static enum vmbus_io_end end_of(uint64_t reason)
{
	switch (reason) {
	case 0:
		return VMBUS_IO_OK;
	case EIO:
		return VMBUS_IO_MEDIUM;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return VMBUS_IO_SPACE;
	case EPERM:
	case EACCES:
	case EROFS:
		return VMBUS_IO_READ_ONLY;
	case ENOMEM:
	case EAGAIN:
	case EBUSY:
		return VMBUS_IO_BUSY;
	default:
		return VMBUS_IO_GONE;
	}
}

static void end(struct vmbus_io *io)
{
	const enum vmbus_io_end how = end_of(io->store[REASON]);
	struct vmbus__nbd_queue *const q = io->queue->priv;

	if (bounce_of(io)) {
		if (how == VMBUS_IO_OK && io->store[KIND] == READ)
			copy_out(io);
		q->bounced -= io->bytes;
		free(bounce_of(io));
	}
	if (how == VMBUS_IO_MEDIUM)
		io->bad_offset = io->offset + io->store[DONE];
	vmbus_io_done(io, how);
}

/* From libnbd, under the connection's lock: a round has ended. */
static int round_ended(void *user_data, int *reason)
{
	struct vmbus_io *const io = user_data;
	struct vmbus__nbd_queue *const q = io->queue->priv;
	const bool giving = q->giving == io;
	const uint64_t one = 1;

	io->store[REASON] = (uint64_t)*reason;
	q->on_shared -= (uint32_t)io->store[SHARED];
	io->store[NEXT] = 0;
	if (giving)
		q->giving = NULL;
	if (q->last)
		q->last->store[NEXT] = (uintptr_t)io;
	else
		q->first = io;
	q->last = io;
	if (!q->rung) {
		q->rung = true;
		(void)!write(q->bell_fd, &one, sizeof(one));
	}
	return !giving; /* libnbd forgets it, but for one whose cookie it is yet to return */
}

/* Memory of a read or write from its first byte that is not done. */
static void *memory_of(const struct vmbus_io *io)
{
	if (bounce_of(io))
		return bounce_of(io) + io->store[DONE];
	return (uint8_t *)io->iov->iov_base + io->store[DONE];
}

static int64_t command(struct nbd_handle *h, struct vmbus_io *io)
{
	const nbd_completion_callback ended = { .callback = round_ended, .user_data = io };
	const uint64_t at = io->offset + io->store[DONE], bytes = io->store[ROUND];

	switch ((enum kind)io->store[KIND]) {
	case READ:
		return nbd_aio_pread(h, memory_of(io), bytes, at, ended, 0);
	case WRITE:
		return nbd_aio_pwrite(h, memory_of(io), bytes, at, ended,
				      io->flags & VMBUS_IO_FUA ? LIBNBD_CMD_FLAG_FUA : 0);
	case FLUSH:
		return nbd_aio_flush(h, ended, 0);
	case DISCARD:
		return nbd_aio_trim(h, bytes, at, ended, 0);
	case ZERO:
		return nbd_aio_zero(h, bytes, at, ended,
				    io->flags & VMBUS_IO_MAY_DISCARD ? 0 : LIBNBD_CMD_FLAG_NO_HOLE);
	}
	return -1;
}

/* One round of a request, of all that is left at most. */
static void begin_round(struct vmbus_io *io)
{
	const struct vmbus__nbd *const nbd = io->queue->ctx;
	struct vmbus__nbd_queue *const q = io->queue->priv;
	struct vmbus__nbd_conn *const conn = q->own.conn ? q->own.conn : q->shared.conn;
	const uint32_t shared = conn == q->shared.conn;
	const uint64_t left = io->bytes - io->store[DONE];
	const uint64_t most = io->store[KIND] >= DISCARD ? RANGE_BYTES_MAX : nbd->transfer_bytes;
	int64_t cookie = -1;
	bool refused;

	io->store[ROUND] = left < most ? left : most;
	vmbus__nbd_lock(q);
	io->store[SHARED] = shared;
	q->on_shared += shared;
	q->giving = io;
	if (!conn->dead)
		cookie = command(conn->h, io);
	refused = cookie < 0 && q->giving;
	if (refused) {
		q->on_shared -= shared;
		io->store[REASON] = (uint64_t)(conn->dead ? ENOTCONN : nbd_get_errno());
	}
	if (refused && !io->store[REASON])
		io->store[REASON] = ENOTCONN;
	if (cookie > 0 && !q->giving) /* the server was found gone: it has ended already */
		(void)nbd_aio_command_completed(conn->h, (uint64_t)cookie);
	q->giving = NULL;
	vmbus__nbd_update(conn);
	vmbus__nbd_unlock(q);
	if (refused)
		end(io);
}

static void begin(struct vmbus_io *io, enum kind kind)
{
	io->store[DONE] = 0;
	io->store[KIND] = kind;
	io->store[BOUNCE] = 0;
	io->store[REASON] = 0;
	if (kind <= WRITE && io->iov_count > 1 && !make_bounce(io)) {
		vmbus_io_done(io, VMBUS_IO_BUSY);
		return;
	}
	begin_round(io);
}

static void ended(struct vmbus_io *io)
{
	const struct vmbus__nbd_queue *const q = io->queue->priv;

	if (io->store[KIND] == FLUSH && q->lost && !io->store[REASON])
		io->store[REASON] = EIO;
	if (!io->store[REASON] && io->store[KIND] != FLUSH) {
		io->store[DONE] += io->store[ROUND];
		if (io->store[DONE] < io->bytes) {
			begin_round(io);
			return;
		}
	}
	end(io);
}

/* ---- the table ---- */

static int nbd_info(void *ctx, struct vmbus_store_info *info)
{
	const struct vmbus__nbd *const nbd = ctx;

	*info = nbd->info;
	return 0;
}

static void nbd_read(struct vmbus_io *io)
{
	begin(io, READ);
}

static void nbd_write(struct vmbus_io *io)
{
	begin(io, WRITE);
}

static void nbd_flush_(struct vmbus_io *io)
{
	begin(io, FLUSH);
}

static void nbd_discard(struct vmbus_io *io)
{
	begin(io, DISCARD);
}

static void nbd_zero_(struct vmbus_io *io)
{
	begin(io, ZERO);
}

static void nbd_ready(struct vmbus_store_queue *queue)
{
	struct vmbus__nbd_queue *const q = queue->priv;
	struct vmbus_io *io;
	uint64_t count;

	vmbus__nbd_lock(q);
	q->rung = true; /* not for what is found here */
	if (q->shared.conn)
		vmbus__nbd_drive(q->shared.conn);
	if (q->own.conn)
		vmbus__nbd_drive(q->own.conn);
	(void)!read(q->bell_fd, &count, sizeof(count));
	q->rung = false;
	io = q->first;
	q->first = q->last = NULL;
	vmbus__nbd_unlock(q);
	while (io) {
		struct vmbus_io *const next = (struct vmbus_io *)(uintptr_t)io->store[NEXT];

		ended(io);
		io = next;
	}
	if (q->coming || (q->own.conn && q->shared.conn))
		vmbus__nbd_come(queue->ctx, q);
}

/* Nobody knows what the server makes of a request that it has, and its answer would be put where the
   guest's memory was: the connection ends, and with it all that is under way on it. */
static void nbd_cancel(struct vmbus_store_queue *queue)
{
	struct vmbus__nbd_queue *const q = queue->priv;
	struct vmbus__nbd_conn *const conns[] = { q->shared.conn, q->own.conn };
	uint32_t i;

	vmbus__nbd_lock(q);
	for (i = 0; i < 2; i++)
		if (conns[i] && !conns[i]->dead)
			(void)shutdown(conns[i]->fd, SHUT_RDWR);
	vmbus__nbd_unlock(q);
	nbd_ready(queue);
}

static void free_queue(struct vmbus__nbd_queue *q)
{
	if (q->bell_fd >= 0)
		(void)close(q->bell_fd);
	if (q->epoll_fd >= 0)
		(void)close(q->epoll_fd);
	free(q);
}

static int nbd_open(struct vmbus_store_queue *queue)
{
	struct vmbus__nbd_queue *const q = calloc(1, sizeof(*q));
	struct epoll_event event = { .events = EPOLLIN };
	int err = VMBUS_E_SYSTEM;

	if (!q)
		return VMBUS_E_NOMEM;
	q->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	q->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->epoll_fd >= 0 && q->bell_fd >= 0 &&
	    !epoll_ctl(q->epoll_fd, EPOLL_CTL_ADD, q->bell_fd, &event))
		err = vmbus__nbd_join(queue->ctx, q);
	if (err) {
		free_queue(q);
		return err;
	}
	queue->priv = q;
	queue->fd = q->epoll_fd;
	return 0;
}

static void nbd_close_(struct vmbus_store_queue *queue)
{
	vmbus__nbd_leave(queue->ctx, queue->priv);
	free_queue(queue->priv);
	queue->priv = NULL;
	queue->fd = -1;
}

static void nbd_destroy(void *ctx)
{
	struct vmbus__nbd *const nbd = ctx;

	vmbus__nbd_disconnect(nbd->first);
	vmbus__nbd_disconnect(nbd->renewed);
	(void)pthread_mutex_destroy(&nbd->lock);
	free(nbd->uri);
	free(nbd);
}

/* ---- what the server has ---- */

static uint32_t power_of_two(int64_t n)
{
	return n > 0 && n <= INT64_C(0x80000000) && !(n & (n - 1)) ? (uint32_t)n : 0;
}

static int look(struct vmbus__nbd *nbd, bool read_only, const char **why)
{
	struct nbd_handle *const h = nbd->first->h;
	const int64_t bytes = nbd_get_size(h);
	const int64_t least = nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM);
	const int64_t most = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);

	*why = "the export is empty, or wants blocks of more than 4096 bytes";
	if (bytes <= 0 || least > 4096 || (least > 0 && !power_of_two(least)) ||
	    (most > 0 && most < 4096))
		return VMBUS_E_NOTSUP;
	*why = "the export is read-only";
	if (!read_only && nbd_is_read_only(h) == 1)
		return VMBUS_E_PERM;
	nbd->several = nbd_can_multi_conn(h) == 1;
	nbd->transfer_bytes = most > 0 && most < TRANSFER_BYTES_MAX ? (uint32_t)most & ~4095u
								    : TRANSFER_BYTES_MAX;
	nbd->info.bytes = (uint64_t)bytes;
	nbd->info.align_bytes = least > 0 ? (uint32_t)least : 1;
	nbd->info.block_bytes = power_of_two(nbd_get_block_size(h, LIBNBD_SIZE_PREFERRED));
	nbd->info.flags = read_only ? VMBUS_STORE_READ_ONLY : 0;
	nbd->info.flags |= nbd_is_rotational(h) == 1 ? VMBUS_STORE_ROTATES : 0;
	nbd->info.flags |= nbd_can_fua(h) == 1 ? VMBUS_STORE_FUA : 0;
	nbd->info.flags |= nbd_can_flush(h) == 1 || nbd_can_fua(h) == 1 ? VMBUS_STORE_VOLATILE : 0;
	return 0;
}

static void fill_ops(struct vmbus__nbd *nbd, bool read_only)
{
	struct nbd_handle *const h = nbd->first->h;

	nbd->ops = (struct vmbus_store_ops){
		.struct_bytes = sizeof(nbd->ops),
		.name = "NBD",
		.info = nbd_info,
		.open = nbd_open,
		.close = nbd_close_,
		.read = nbd_read,
		.ready = nbd_ready,
		.destroy = nbd_destroy,
		.cancel = nbd_cancel,
	};
	if (read_only)
		return;
	nbd->ops.write = nbd_write;
	nbd->ops.flush = nbd_can_flush(h) == 1 ? nbd_flush_ : NULL;
	nbd->ops.discard = nbd_can_trim(h) == 1 ? nbd_discard : NULL;
	nbd->ops.zero = nbd_can_zero(h) == 1 ? nbd_zero_ : NULL;
}

int vmbus_store_nbd(const struct vmbus_store_nbd_opts *opts, struct vmbus_store *store)
{
	struct vmbus__nbd *nbd;
	const char *why = NULL;
	int err;

	if (!opts || opts->struct_bytes < sizeof(*opts) || !opts->uri)
		return VMBUS_E_INVAL;
	if (opts->why && opts->why_bytes)
		opts->why[0] = '\0';
	nbd = calloc(1, sizeof(*nbd));
	if (!nbd)
		return VMBUS_E_NOMEM;
	(void)pthread_mutex_init(&nbd->lock, NULL);
	nbd->timeout_ns = opts->timeout_ns ? opts->timeout_ns : TIMEOUT_DEFAULT_NS;
	nbd->uri = strdup(opts->uri);
	err = nbd->uri ? vmbus__nbd_connect(nbd, &nbd->first, opts->why, opts->why_bytes)
		       : VMBUS_E_NOMEM;
	if (!err) {
		err = look(nbd, opts->read_only, &why);
		if (err && opts->why && opts->why_bytes)
			(void)snprintf(opts->why, opts->why_bytes, "%s", why);
	}
	if (err) {
		const int reason = errno;

		nbd_destroy(nbd);
		errno = reason;
		return err;
	}
	fill_ops(nbd, opts->read_only);
	*store = (struct vmbus_store){ .ops = &nbd->ops, .ctx = nbd };
	return 0;
}
