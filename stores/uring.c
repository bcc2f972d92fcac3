/* SPDX-License-Identifier: MIT */
/*
 * The io_uring store: a ring for each queue.  Requests are gathered in the ring and begun by
 * commit() with one system call; what is in the page cache is done within that call already.
 *
 * A request may need several rounds: a piece that was cut short, more than IOV_MAX pieces, zeroes
 * that the file system cannot make.  Its store[] says how far it is.
 *
 * A queue's calls may come from changing threads, so nothing here belongs to a thread (no registered
 * ring descriptor, no IORING_SETUP_SINGLE_ISSUER).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "uring/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef IORING_ASYNC_CANCEL_ANY
#define IORING_ASYNC_CANCEL_ANY (1U << 2)
#endif

#define ENTRIES_DEFAULT 256u
#define ENTRIES_MAX 4096u
#define ROUND_MAX (UINT32_C(1) << 30) /* bytes of one plain read or write */
#define TRIES_MAX 100u		      /* of a request that was interrupted */
#define SUBMIT_TRIES 1000u	      /* the kernel has no memory for requests now */
#define ZERO_BYTES (64u << 10)
#define ZERO_PIECES 16u
#define BOUNCE_BYTES_MAX (UINT64_C(32) << 20) /* of a queue; one request may have more */

enum kind {
	READ = 0,
	WRITE,
	FLUSH,
	DISCARD,
	ZERO,
	ZERO_BY_WRITING
};

/* What of a request is where in store[]. */
enum {
	DONE = 0,
	KIND,
	TRIES,
	BOUNCE,
	NEXT /* of those that are given back */
};

struct queue {
	struct io_uring ring;
	uint32_t gathered; /* in the ring, and not begun */
	uint32_t busy_ns;
	uint32_t under_way; /* begun */
	bool refused;	    /* requests are given back: no more are gathered */
	bool cancelled;	    /* no round is begun any more */
	uint64_t bounced;   /* bytes of buffers */
};

static _Alignas(4096) const uint8_t zeroes[ZERO_BYTES];

static struct queue *queue_of(const struct vmbus_io *io)
{
	return io->queue->priv;
}

/* ---- memory that O_DIRECT does not take ---- */

static bool is_aligned(const struct vmbus_io *io, uint32_t align)
{
	uintptr_t all = 0;
	uint32_t i;

	for (i = 0; i < io->iov_count; i++)
		all |= (uintptr_t)io->iov[i].iov_base | io->iov[i].iov_len;
	return !(all & (align - 1u));
}

static uint8_t *bounce_of(const struct vmbus_io *io)
{
	return (uint8_t *)(uintptr_t)io->store[BOUNCE];
}

/* A guest may have many at once: what is past the queue's limit is asked again. */
static bool make_bounce(struct vmbus_io *io)
{
	struct queue *const q = queue_of(io);
	uint8_t *to;
	uint32_t i;

	if (q->bounced && q->bounced + io->bytes > BOUNCE_BYTES_MAX)
		return false;
	to = aligned_alloc(4096, (io->bytes + 4095u) & ~UINT64_C(4095));
	if (!to)
		return false;
	q->bounced += io->bytes;
	io->store[BOUNCE] = (uintptr_t)to;
	if (io->store[KIND] != WRITE)
		return true;
	for (i = 0; i < io->iov_count; i++) {
		memcpy(to, io->iov[i].iov_base, io->iov[i].iov_len);
		to += io->iov[i].iov_len;
	}
	return true;
}

static void end_bounce(struct vmbus_io *io, bool good)
{
	const uint8_t *from = bounce_of(io);
	uint32_t i;

	for (i = 0; good && io->store[KIND] == READ && i < io->iov_count; i++) {
		memcpy(io->iov[i].iov_base, from, io->iov[i].iov_len);
		from += io->iov[i].iov_len;
	}
	queue_of(io)->bounced -= io->bytes;
	free(bounce_of(io));
}

static void end(struct vmbus_io *io, enum vmbus_io_end how)
{
	if (bounce_of(io))
		end_bounce(io, how == VMBUS_IO_OK);
	vmbus_io_done(io, how);
}

/* ---- one round of a request ---- */

/* The pieces from the first byte that is not done. */
static void prepare_pieces(struct io_uring_sqe *sqe, const struct vmbus_io *io)
{
	const uint64_t at = io->offset + io->store[DONE];
	const bool write = io->store[KIND] == WRITE;
	uint64_t skip = io->store[DONE];
	const struct iovec *iov = io->iov;
	uint32_t count = io->iov_count;
	struct iovec rest;

	if (bounce_of(io)) {
		rest = (struct iovec){ bounce_of(io) + skip, io->bytes - skip };
	} else {
		for (; count > 1 && skip >= iov->iov_len; iov++, count--)
			skip -= iov->iov_len;
		if (count > 1 && skip == 0) {
			count = count < IOV_MAX ? count : IOV_MAX;
			if (write)
				io_uring_prep_writev(sqe, 0, iov, count, at);
			else
				io_uring_prep_readv(sqe, 0, iov, count, at);
			return;
		}
		rest = (struct iovec){ (uint8_t *)iov->iov_base + skip, iov->iov_len - skip };
	}
	if (rest.iov_len > ROUND_MAX)
		rest.iov_len = ROUND_MAX;
	if (write)
		io_uring_prep_write(sqe, 0, rest.iov_base, (unsigned)rest.iov_len, at);
	else
		io_uring_prep_read(sqe, 0, rest.iov_base, (unsigned)rest.iov_len, at);
}

static void prepare_zeroes(struct io_uring_sqe *sqe, const struct vmbus_io *io)
{
#define PIECE                                                                                      \
	{                                                                                          \
		(void *)(uintptr_t)zeroes, ZERO_BYTES                                              \
	}
	static const struct iovec pieces[ZERO_PIECES] = { PIECE, PIECE, PIECE, PIECE, PIECE, PIECE,
							  PIECE, PIECE, PIECE, PIECE, PIECE, PIECE,
							  PIECE, PIECE, PIECE, PIECE };
#undef PIECE
	const uint64_t at = io->offset + io->store[DONE], left = io->bytes - io->store[DONE];
	const uint64_t whole = left / ZERO_BYTES;

	if (whole)
		io_uring_prep_writev(sqe, 0, pieces,
				     whole < ZERO_PIECES ? (unsigned)whole : ZERO_PIECES, at);
	else
		io_uring_prep_write(sqe, 0, zeroes, (unsigned)left, at);
}

/* Of a discard or zeroes, from what is done on: a device takes whole blocks only.  0: an edge is next. */
static uint64_t whole_blocks(const struct vmbus_io *io)
{
	const uint64_t past = ((const struct vmbus__uring *)io->queue->ctx)->range_align - 1u;
	const uint64_t at = io->offset + io->store[DONE];

	return at & past ? 0 : (io->bytes - io->store[DONE]) & ~past;
}

/* That edge is written. */
static void prepare_edge(struct io_uring_sqe *sqe, const struct vmbus_io *io)
{
	const uint64_t block = ((const struct vmbus__uring *)io->queue->ctx)->range_align;
	const uint64_t at = io->offset + io->store[DONE], left = io->bytes - io->store[DONE];
	const uint64_t edge = block - (at & (block - 1u));

	io_uring_prep_write(sqe, 0, zeroes, (unsigned)(left < edge ? left : edge), at);
}

static void prepare_range(struct io_uring_sqe *sqe, const struct vmbus_io *io)
{
	const int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	const int range = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	const struct vmbus__uring *const u = io->queue->ctx;
	const bool punch =
		io->store[KIND] == DISCARD || ((io->flags & VMBUS_IO_MAY_DISCARD) && u->punches);
	const uint64_t bytes = whole_blocks(io);

	if (!bytes)
		prepare_edge(sqe, io);
	else
		io_uring_prep_fallocate(sqe, 0, punch ? hole : range,
					(off_t)(io->offset + io->store[DONE]), (off_t)bytes);
}

static void prepare(struct io_uring_sqe *sqe, struct vmbus_io *io)
{
	const struct vmbus__uring *const u = io->queue->ctx;

	switch ((enum kind)io->store[KIND]) {
	case READ:
	case WRITE:
		prepare_pieces(sqe, io);
		if (io->store[KIND] == WRITE && (io->flags & VMBUS_IO_FUA))
			sqe->rw_flags = RWF_DSYNC;
		break;
	case FLUSH:
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
		break;
	case DISCARD:
	case ZERO:
		prepare_range(sqe, io);
		break;
	case ZERO_BY_WRITING:
		prepare_zeroes(sqe, io);
		break;
	}
	sqe->fd = u->fd;
	io_uring_sqe_set_data(sqe, io);
}

/* Nothing is under way whose end would call us again, and the kernel does not take what was gathered:
   those requests are given back.  What is in the ring cannot be taken out; it is to do nothing when it
   is taken. */
static void give_back(struct queue *q)
{
	struct vmbus_io *io, *first = NULL, *last = NULL;
	const struct io_uring_sq *const sq = &q->ring.sq;
	unsigned at;

	for (at = *sq->khead; at != sq->sqe_tail; at++) {
		struct io_uring_sqe *const sqe = &sq->sqes[at & *sq->kring_mask];

		io = (struct vmbus_io *)(uintptr_t)sqe->user_data;
		io_uring_prep_nop(sqe);
		io_uring_sqe_set_data(sqe, NULL);
		if (!io)
			continue;
		io->store[NEXT] = 0;
		if (last)
			last->store[NEXT] = (uintptr_t)io;
		else
			first = io;
		last = io;
	}
	q->refused = true;
	while ((io = first)) {
		first = (struct vmbus_io *)(uintptr_t)io->store[NEXT];
		end(io, VMBUS_IO_BUSY);
	}
	q->refused = false;
}

/* Give the kernel what was gathered.  What it has no memory for now stays, and goes with the next
   call, which comes when something that is under way ends. */
static void submit(struct queue *q)
{
	uint32_t tries;

	for (tries = 0; q->gathered && tries < SUBMIT_TRIES; tries++) {
		const int n = io_uring_submit(&q->ring);

		if (n > 0) {
			q->gathered -= (uint32_t)n;
			q->under_way += (uint32_t)n;
			continue;
		}
		if (n != -EINTR)
			(void)sched_yield();
	}
	if (q->gathered && !q->under_way)
		give_back(q);
}

static void begin_round(struct vmbus_io *io)
{
	struct queue *const q = queue_of(io);
	struct io_uring_sqe *sqe;

	if (q->cancelled) { /* a request of many rounds would go on for hours */
		end(io, VMBUS_IO_GONE);
		return;
	}
	sqe = q->refused ? NULL : io_uring_get_sqe(&q->ring);
	if (!sqe && !q->refused) { /* the ring is full: these first */
		submit(q);
		sqe = io_uring_get_sqe(&q->ring);
	}
	if (!sqe) {
		end(io, VMBUS_IO_BUSY);
		return;
	}
	prepare(sqe, io);
	q->gathered++;
}

/* ---- the end of a round ---- */

static enum vmbus_io_end end_of(int reason)
{
	switch (reason) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return VMBUS_IO_SPACE;
	case EROFS:
	case EPERM:
	case EACCES:
	case EBADF: /* not open for that */
		return VMBUS_IO_READ_ONLY;
	case EAGAIN:
	case ENOMEM:
	case EBUSY:
	case EINTR:
	case ECANCELED:
		return VMBUS_IO_BUSY;
	case EIO:
	case EILSEQ:
	case EBADMSG:
	case ENODATA:
	case EREMOTEIO:
	case ETIMEDOUT:
		return VMBUS_IO_MEDIUM;
	default:
		return VMBUS_IO_GONE;
	}
}

static bool is_durable(const struct vmbus_io *io)
{
	return io->store[KIND] == FLUSH || (io->store[KIND] == WRITE && io->flags & VMBUS_IO_FUA);
}

/* Linux tells an error of writing back once for an open file, to whoever asks first, and holds the
   pages for written from then on. */
static void lose(const struct vmbus_io *io)
{
	struct vmbus__uring *const u = io->queue->ctx;

	if (u->cached && is_durable(io))
		vmbus__st32_relaxed(&u->lost, 1); /* STORELOST.set */
}

/* Of a FUA write these say that it had no room or memory itself, as good as always. */
static bool tells_of_loss(const struct vmbus_io *io, int reason)
{
	if (reason == ECANCELED || reason == EINTR || reason == EAGAIN)
		return false;
	return io->store[KIND] == FLUSH ||
	       (reason != ENOSPC && reason != EDQUOT && reason != ENOMEM && reason != EBUSY);
}

static void failed(struct vmbus_io *io, int reason)
{
	enum vmbus_io_end how = end_of(reason);

	/* The thread that began it has ended, or was called away. */
	if ((reason == ECANCELED || reason == EINTR || reason == EAGAIN) &&
	    io->store[TRIES]++ < TRIES_MAX) {
		begin_round(io);
		return;
	}
	if (tells_of_loss(io, reason))
		lose(io);
	if ((io->store[KIND] == ZERO || io->store[KIND] == DISCARD) &&
	    (reason == EOPNOTSUPP || reason == EINVAL)) {
		io->store[KIND] = ZERO_BY_WRITING;
		begin_round(io);
		return;
	}
	/* No byte of a flush is known to be lost: the disk itself is in doubt. */
	if (how == VMBUS_IO_MEDIUM)
		io->bad_offset = io->offset + io->store[DONE];
	end(io, how);
}

static void ended(struct vmbus_io *io, int res)
{
	const struct vmbus__uring *const u = io->queue->ctx;
	const uint64_t kind = io->store[KIND];
	uint64_t done = (uint64_t)res;

	if (res < 0) {
		failed(io, -res);
		return;
	}
	if (kind != FLUSH) {
		if ((kind == DISCARD || kind == ZERO) && whole_blocks(io))
			done = whole_blocks(io);
		if (done == 0 || done > io->bytes - io->store[DONE]) {
			failed(io, EIO); /* the file ends before: somebody has cut it */
			return;
		}
		io->store[DONE] += done;
		if (io->store[DONE] < io->bytes) {
			begin_round(io);
			return;
		}
	}
	if (VMBUS_UNLIKELY(vmbus__ld32_relaxed(&u->lost)) && is_durable(io)) { /* STORELOST.look */
		io->bad_offset = io->offset + io->bytes; /* another write's bytes */
		end(io, VMBUS_IO_MEDIUM);
		return;
	}
	end(io, VMBUS_IO_OK);
}

/* Returns whether something had ended. */
static bool reap(struct queue *q)
{
	struct io_uring_cqe *cqe;
	bool any = false;

	while (!io_uring_peek_cqe(&q->ring, &cqe)) {
		struct vmbus_io *const io = io_uring_cqe_get_data(cqe);
		const int res = cqe->res;

		io_uring_cqe_seen(&q->ring, cqe);
		q->under_way--;
		any = true;
		if (io) /* else it is that of a cancel, or of nothing */
			ended(io, res);
	}
	return any;
}

/* Begin what was gathered and end what is done, until neither brings anything: a request that ends
   may bring the next one. */
static void run(struct queue *q)
{
	do {
		submit(q);
	} while (reap(q) && q->gathered);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- the table ---- */

static void uring_commit(struct vmbus_store_queue *queue)
{
	struct queue *const q = queue->priv;
	uint64_t until;

	run(q);
	if (!q->busy_ns || !q->under_way)
		return;
	until = now_ns() + q->busy_ns;
	do
		if (io_uring_cq_ready(&q->ring))
			run(q);
	while (q->under_way && now_ns() < until);
}

static void uring_ready(struct vmbus_store_queue *queue)
{
	run(queue->priv);
}

/* Linux 5.19 and later; what it does not let go of is waited for. */
static void uring_cancel(struct vmbus_store_queue *queue)
{
	struct queue *const q = queue->priv;
	struct io_uring_sqe *sqe;

	q->cancelled = true;
	run(q);
	sqe = q->under_way ? io_uring_get_sqe(&q->ring) : NULL;
	if (!sqe)
		return;
	io_uring_prep_cancel(sqe, NULL, IORING_ASYNC_CANCEL_ANY);
	io_uring_sqe_set_data(sqe, NULL);
	q->gathered++;
	run(q);
}

static void begin(struct vmbus_io *io, enum kind kind)
{
	io->store[DONE] = 0;
	io->store[KIND] = kind;
	io->store[TRIES] = 0;
	io->store[BOUNCE] = 0;
	begin_round(io);
}

static void begin_transfer(struct vmbus_io *io, enum kind kind)
{
	const struct vmbus__uring *const u = io->queue->ctx;

	if (u->memory_align > 1 && !is_aligned(io, u->memory_align)) {
		io->store[DONE] = 0;
		io->store[KIND] = kind;
		io->store[TRIES] = 0;
		if (!make_bounce(io))
			vmbus_io_done(io, VMBUS_IO_BUSY);
		else
			begin_round(io);
		return;
	}
	begin(io, kind);
}

static void uring_read(struct vmbus_io *io)
{
	begin_transfer(io, READ);
}

static void uring_write(struct vmbus_io *io)
{
	begin_transfer(io, WRITE);
}

static void uring_flush(struct vmbus_io *io)
{
	begin(io, FLUSH);
}

static void uring_discard(struct vmbus_io *io)
{
	begin(io, DISCARD);
}

static void uring_zero(struct vmbus_io *io)
{
	begin(io, ZERO);
}

/* The file is not registered with the ring: what holds it, and its lock, after a kill are requests that
   run, and not the kernel's next look at dead rings, which may be 50 ms later. */
static int make_ring(uint32_t entries, struct io_uring *ring)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SUBMIT_ALL };
	int err = io_uring_queue_init_params(entries, ring, &params);

	if (err == -EINVAL) { /* before Linux 5.18 */
		params = (struct io_uring_params){ 0 };
		err = io_uring_queue_init_params(entries, ring, &params);
	}
	if (err) {
		errno = -err;
		return err == -ENOMEM || err == -EMFILE || err == -ENFILE ? VMBUS_E_NOMEM
		       : err == -ENOSYS || err == -EPERM		  ? VMBUS_E_NOTSUP
									  : VMBUS_E_SYSTEM;
	}
	if (!(params.features & IORING_FEAT_FAST_POLL)) /* before Linux 5.7 */
		err = VMBUS_E_NOTSUP;
	if (err)
		io_uring_queue_exit(ring);
	return err;
}

static int uring_open(struct vmbus_store_queue *queue)
{
	const struct vmbus__uring *const u = queue->ctx;
	struct queue *const q = malloc(sizeof(*q));
	int err;

	if (!q)
		return VMBUS_E_NOMEM;
	*q = (struct queue){ .busy_ns = u->busy_ns };
	err = make_ring(u->entries, &q->ring);
	if (err) {
		free(q);
		return err;
	}
	queue->priv = q;
	queue->fd = q->ring.ring_fd;
	return 0;
}

static void uring_close(struct vmbus_store_queue *queue)
{
	struct queue *const q = queue->priv;

	io_uring_queue_exit(&q->ring);
	free(q);
	queue->priv = NULL;
	queue->fd = -1;
}

static void uring_destroy(void *ctx)
{
	struct vmbus__uring *const u = ctx;

	(void)close(u->fd);
	free(u);
}

static void fill_ops(struct vmbus__uring *u)
{
	u->ops = (struct vmbus_store_ops){
		.struct_bytes = sizeof(u->ops),
		.name = u->is_device ? "block device" : "file",
		.info = vmbus__uring_info,
		.open = uring_open,
		.close = uring_close,
		.read = uring_read,
		.commit = uring_commit,
		.ready = uring_ready,
		.destroy = uring_destroy,
		.cancel = uring_cancel,
	};
	if (u->read_only)
		return;
	u->ops.write = uring_write;
	u->ops.flush = uring_flush;
	u->ops.zero = uring_zero;
	u->ops.discard = u->punches ? uring_discard : NULL;
}

int vmbus_store_uring(const struct vmbus_store_uring_opts *opts, struct vmbus_store *store)
{
	struct vmbus__uring *u;
	struct io_uring ring;
	uint32_t entries;
	int err;

	if (!opts || opts->struct_bytes < sizeof(*opts) || (!opts->path && opts->fd < 0))
		return VMBUS_E_INVAL;
	entries = opts->entries ? opts->entries : ENTRIES_DEFAULT;
	if (entries > ENTRIES_MAX || (entries & (entries - 1u)))
		return VMBUS_E_RANGE;
	u = calloc(1, sizeof(*u));
	if (!u)
		return VMBUS_E_NOMEM;
	u->entries = entries;
	u->busy_ns = opts->busy_ns;
	err = vmbus__uring_open(u, opts);
	if (!err) {
		err = make_ring(1, &ring); /* rather now than at the first channel */
		if (err)
			(void)close(u->fd);
		else
			io_uring_queue_exit(&ring);
	}
	if (err) {
		free(u);
		return err;
	}
	fill_ops(u);
	*store = (struct vmbus_store){ .ops = &u->ops, .ctx = u };
	return 0;
}
