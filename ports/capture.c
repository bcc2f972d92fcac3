/* SPDX-License-Identifier: MIT */
/*
 * The capturing port: it stands before another one, passes everything on, and writes the frames that
 * were taken to a pcapng file.
 *
 * A burst is put into memory with the lock of the capture, and what is there is written at once.  What a
 * pipe or socket does not take waits for the next call, with frames or without; when there is no room for
 * it, frames are left out of the file and counted: the network never waits for it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/port_capture.h>

#include "capture/ether.h"

#define SNAP_MIN 60u
#define BUFFER_DEFAULT (1u << 20)
#define BUFFER_MIN (256u << 10)
#define BUFFER_MAX (64u << 20)
#define NAME_MAX_BYTES 63u
#define ROOM_SPANS 64u
#define LAST_WAIT_MS 1000

struct cap {
	struct vmbus_port below;
	struct vmbus_port_ops ops; /* has what the one below has */
	pthread_mutex_t lock;	   /* of all that follows */
	struct vmbus_capture_writer *writer;
	int fd;
	bool pipe; /* whose reader may have gone, which is a signal */
	uint32_t snap;
	uint64_t left_out; /* since the last frame in the file */
	struct vmbus_port_capture_counts counts;
	uint32_t head, tail, room; /* bytes that were not written yet */
	uint8_t *buffer;
};

/* A queue as the port below sees it. */
struct seat {
	struct vmbus_port_queue below;
	struct vmbus_port_queue *above;
	bool delivered; /* since the last ready() began */
	uint32_t again; /* frames in the file already that were not taken, and come again */
	/* The begin of the first of them: when another one comes, they were given up.  No bytes: it is
	   not known. */
	uint32_t bytes, head_bytes;
	uint8_t head[SNAP_MIN];
};

/* ---- the file ---- */

/* From the writer, for each block.  What waits is moved once it is the smaller half: not for each frame. */
static int on_write(void *ctx, const void *bytes, size_t n)
{
	struct cap *const cap = ctx;

	if (n > cap->room - cap->tail && cap->head >= cap->room / 2) {
		memmove(cap->buffer, cap->buffer + cap->head, cap->tail - cap->head);
		cap->tail -= cap->head;
		cap->head = 0;
	}
	if (cap->counts.error || n > cap->room - cap->tail)
		return VMBUS_E_FULL;
	memcpy(cap->buffer + cap->tail, bytes, n);
	cap->tail += (uint32_t)n;
	return 0;
}

/* A pipe without a reader is an error, and no signal that ends a process which does not expect it. */
static ssize_t write_quietly(const struct cap *cap, const void *bytes, size_t n)
{
	const struct timespec none = { 0, 0 };
	sigset_t sigpipe, before, pending;
	bool was_pending;
	ssize_t wrote;
	int error;

	if (!cap->pipe)
		return write(cap->fd, bytes, n);
	(void)sigemptyset(&sigpipe);
	(void)sigaddset(&sigpipe, SIGPIPE);
	(void)pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
	was_pending = sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
	wrote = write(cap->fd, bytes, n);
	error = errno;
	if (wrote < 0 && error == EPIPE && !was_pending)
		(void)sigtimedwait(&sigpipe, NULL, &none);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return wrote;
}

/* Write what waits; false: it cannot be written, now or ever. */
static bool flush(struct cap *cap)
{
	ssize_t wrote;

	while (cap->head < cap->tail && !cap->counts.error) {
		wrote = write_quietly(cap, cap->buffer + cap->head, cap->tail - cap->head);
		if (wrote > 0) {
			cap->head += (uint32_t)wrote;
			cap->counts.bytes += (uint64_t)wrote;
		} else if (wrote < 0 && errno == EAGAIN) {
			return false;
		} else if (wrote == 0 || errno != EINTR) {
			cap->counts.error = wrote ? errno : EIO;
		}
	}
	cap->head = cap->tail = 0;
	return !cap->counts.error;
}

/* What a pipe did not take before. */
static void flush_rest(struct cap *cap)
{
	if (!cap->pipe)
		return;
	(void)pthread_mutex_lock(&cap->lock);
	(void)flush(cap);
	(void)pthread_mutex_unlock(&cap->lock);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* With the lock. */
static void put(struct cap *cap, struct vmbus__capture_ether *frame)
{
	frame->dropped = cap->left_out;
	frame->snap = cap->snap;
	if (vmbus__capture_ether_put(cap->writer, 0, frame)) {
		cap->left_out++;
		cap->counts.dropped++;
		return;
	}
	cap->left_out = 0;
	cap->counts.frames++;
}

static void put_frames(struct cap *cap, const struct vmbus_frame *frame, uint32_t n,
		       bool from_guest)
{
	const uint64_t now = now_ns();
	uint32_t i;

	if (n == 0) {
		flush_rest(cap);
		return;
	}
	(void)pthread_mutex_lock(&cap->lock);
	for (i = 0; i < n; i++) {
		struct vmbus__capture_ether ether = {
			.time_ns = now,
			.piece = frame[i].piece,
			.pieces = frame[i].pieces,
			.bytes = frame[i].bytes,
			.from_guest = from_guest,
			.tagged = (frame[i].flags & VMBUS_FRAME_VLAN) != 0,
			.tag = frame[i].vlan,
		};

		put(cap, &ether);
	}
	(void)flush(cap);
	(void)pthread_mutex_unlock(&cap->lock);
}

/* The guest may change these bytes meanwhile: the file shows what it had there. */
static void put_rooms(struct cap *cap, const struct vmbus_port_room *room, uint32_t n)
{
	const uint64_t now = now_ns();
	struct vmbus_iov piece[ROOM_SPANS];
	uint32_t i, k;

	if (n == 0) {
		flush_rest(cap);
		return;
	}
	(void)pthread_mutex_lock(&cap->lock);
	for (i = 0; i < n; i++) {
		struct vmbus__capture_ether ether = {
			.time_ns = now,
			.piece = piece,
			.bytes = room[i].bytes,
			.tagged = (room[i].flags & VMBUS_FRAME_VLAN) != 0,
			.tag = room[i].vlan,
		};

		for (k = 0; k < room[i].spans && k < ROOM_SPANS; k++)
			piece[k] = (struct vmbus_iov){ room[i].span[k].base, room[i].span[k].len };
		ether.pieces = k;
		put(cap, &ether);
	}
	(void)flush(cap);
	(void)pthread_mutex_unlock(&cap->lock);
}

/* ---- the table ---- */

static int cap_info(void *ctx, struct vmbus_port_info *info)
{
	const struct cap *const cap = ctx;

	return cap->below.ops->info(cap->below.ctx, info);
}

static uint32_t cap_deliver(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			    uint32_t n)
{
	struct seat *const seat = queue->up_p;
	const uint32_t taken = vmbus_port_deliver(seat->above, frame, n);

	seat->delivered = true;
	put_frames(seat->above->ctx, frame, taken, false);
	return taken;
}

static int cap_open(struct vmbus_port_queue *queue)
{
	struct cap *const cap = queue->ctx;
	struct seat *const seat = calloc(1, sizeof(*seat));
	int err = 0;

	if (!seat)
		return VMBUS_E_NOMEM;
	seat->above = queue;
	seat->below = (struct vmbus_port_queue){
		.ctx = cap->below.ctx,
		.number = queue->number,
		.fd = -1,
		.up_p = seat,
		.deliver_p = cap_deliver,
	};
	if (cap->below.ops->open)
		err = cap->below.ops->open(&seat->below);
	if (err) {
		free(seat);
		return err;
	}
	queue->priv = seat;
	queue->fd = seat->below.fd;
	return 0;
}

static void cap_close(struct vmbus_port_queue *queue)
{
	struct cap *const cap = queue->ctx;
	struct seat *const seat = queue->priv;

	if (cap->below.ops->close)
		cap->below.ops->close(&seat->below);
	flush_rest(cap);
	free(seat);
	queue->priv = NULL;
}

/* Those that were not taken: the first one is at frame. */
static void expect(struct seat *seat, const struct vmbus_frame *frame)
{
	const size_t len = frame->piece[0].len;

	seat->bytes = frame->bytes;
	seat->head_bytes = len < SNAP_MIN ? (uint32_t)len : SNAP_MIN;
	memcpy(seat->head, frame->piece[0].base, seat->head_bytes);
}

static bool is_expected(const struct seat *seat, const struct vmbus_frame *frame)
{
	return seat->head_bytes == 0 ||
	       (frame->bytes == seat->bytes && frame->piece[0].len >= seat->head_bytes &&
		memcmp(frame->piece[0].base, seat->head, seat->head_bytes) == 0);
}

/* Before they are sent: an answer may come while they are. */
static uint32_t cap_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			 uint32_t n)
{
	struct cap *const cap = queue->ctx;
	struct seat *const seat = queue->priv;
	uint32_t again, taken;

	if (seat->again && n && !is_expected(seat, frame))
		seat->again = 0;
	again = seat->again < n ? seat->again : n;
	put_frames(cap, frame + again, n - again, true);
	taken = cap->below.ops->send(&seat->below, frame, n);
	if (seat->again < n)
		seat->again = n;
	seat->again -= taken;
	if (taken < n)
		expect(seat, frame + taken);
	else
		seat->head_bytes = 0;
	return taken;
}

static uint32_t cap_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			    uint32_t n)
{
	struct cap *const cap = queue->ctx;
	struct seat *const seat = queue->priv;
	const uint32_t filled = cap->below.ops->receive(&seat->below, room, n);

	put_rooms(cap, room, filled);
	return filled;
}

static void cap_ready(struct vmbus_port_queue *queue)
{
	struct cap *const cap = queue->ctx;
	struct seat *const seat = queue->priv;

	seat->delivered = false;
	cap->below.ops->ready(&seat->below);
	if (!seat->delivered)
		flush_rest(cap);
}

static void cap_configure(void *ctx, const struct vmbus_port_config *config)
{
	const struct cap *const cap = ctx;

	cap->below.ops->configure(cap->below.ctx, config);
}

static void cap_dropped(void *ctx, uint64_t *sent, uint64_t *received)
{
	const struct cap *const cap = ctx;

	cap->below.ops->dropped(cap->below.ctx, sent, received);
}

/* The last bytes are waited for, a little. */
static bool flush_all(struct cap *cap)
{
	struct pollfd pollfd = { .fd = cap->fd, .events = POLLOUT };

	while (!flush(cap))
		if (cap->counts.error || poll(&pollfd, 1, LAST_WAIT_MS) <= 0)
			return false;
	return true;
}

/* What waits first: it may leave no room. */
static void end_file(struct cap *cap)
{
	const struct vmbus_tap_counts counts = { .records = cap->counts.frames,
						 .dropped = cap->counts.dropped };

	if (!flush_all(cap))
		return;
	(void)vmbus_capture_writer_counts(cap->writer, 0, &counts);
	(void)flush_all(cap);
}

static void free_cap(struct cap *cap)
{
	if (cap->fd >= 0)
		(void)close(cap->fd);
	vmbus_capture_writer_destroy(cap->writer);
	(void)pthread_mutex_destroy(&cap->lock);
	free(cap->buffer);
	free(cap);
}

static void cap_destroy(void *ctx)
{
	struct cap *const cap = ctx;

	vmbus_port_destroy(&cap->below);
	end_file(cap);
	free_cap(cap);
}

/* ---- making ---- */

static int check(const struct vmbus_port_capture_opts *opts, const struct vmbus_port *below)
{
	const char *at;

	if (opts->struct_bytes < sizeof(*opts) || !below || !below->ops ||
	    below->ops->struct_bytes < sizeof(*below->ops) || !below->ops->info ||
	    !below->ops->send)
		return VMBUS_E_INVAL;
	if (opts->name && strnlen(opts->name, NAME_MAX_BYTES + 1) > NAME_MAX_BYTES)
		return VMBUS_E_INVAL;
	for (at = opts->name; at && *at; at++)
		if (*at < ' ' || *at > '~')
			return VMBUS_E_INVAL;
	if (opts->snap && (opts->snap < SNAP_MIN || opts->snap > VMBUS_FRAME_BYTES_MAX))
		return VMBUS_E_RANGE;
	if (opts->buffer_bytes &&
	    (opts->buffer_bytes < BUFFER_MIN || opts->buffer_bytes > BUFFER_MAX))
		return VMBUS_E_RANGE;
	return 0;
}

static int take_fd(struct cap *cap, int fd)
{
	struct stat st;
	int flags;

	cap->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (cap->fd < 0)
		return errno == EBADF ? VMBUS_E_INVAL : VMBUS_E_SYSTEM;
	flags = fcntl(cap->fd, F_GETFL);
	if (flags < 0 || fstat(cap->fd, &st))
		return VMBUS_E_SYSTEM;
	if ((flags & O_ACCMODE) == O_RDONLY)
		return VMBUS_E_INVAL;
	cap->pipe = S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode);
	return cap->pipe && fcntl(cap->fd, F_SETFL, flags | O_NONBLOCK) ? VMBUS_E_SYSTEM : 0;
}

static int begin_file(struct cap *cap, const char *name)
{
	struct vmbus_capture_writer_opts opts = { .struct_bytes = sizeof(opts),
						  .write = on_write,
						  .ctx = cap,
						  .application = "libvmbus" };
	int err;

	err = vmbus_capture_writer_create(&opts, &cap->writer);
	if (err)
		return err;
	err = vmbus__capture_ether_begin(cap->writer, 0, name, cap->snap);
	if (err)
		return err;
	(void)flush(cap);
	errno = cap->counts.error;
	return cap->counts.error ? VMBUS_E_SYSTEM : 0;
}

static void set_ops(struct cap *cap)
{
	const struct vmbus_port_ops *const below = cap->below.ops;

	cap->ops = (struct vmbus_port_ops){
		.struct_bytes = sizeof(cap->ops),
		.name = below->name,
		.info = cap_info,
		.open = cap_open,
		.close = cap_close,
		.send = cap_send,
		.receive = below->receive ? cap_receive : NULL,
		.ready = below->ready ? cap_ready : NULL,
		.configure = below->configure ? cap_configure : NULL,
		.destroy = cap_destroy,
		.dropped = below->dropped ? cap_dropped : NULL,
	};
}

int vmbus_port_capture(const struct vmbus_port_capture_opts *opts, const struct vmbus_port *below,
		       struct vmbus_port *port)
{
	const char *name;
	struct cap *cap;
	int err = check(opts, below);

	if (err)
		return err;
	name = opts->name ? opts->name : below->ops->name;
	cap = calloc(1, sizeof(*cap));
	if (!cap)
		return VMBUS_E_NOMEM;
	(void)pthread_mutex_init(&cap->lock, NULL);
	cap->below = *below;
	cap->snap = opts->snap ? opts->snap : VMBUS_FRAME_BYTES_MAX;
	cap->room = opts->buffer_bytes ? opts->buffer_bytes : BUFFER_DEFAULT;
	cap->buffer = malloc(cap->room);
	cap->fd = -1;
	err = cap->buffer ? take_fd(cap, opts->fd) : VMBUS_E_NOMEM;
	if (!err)
		err = begin_file(cap, name ? name : "?");
	if (err) {
		const int error = errno;

		free_cap(cap);
		errno = error;
		return err;
	}
	set_ops(cap);
	*port = (struct vmbus_port){ &cap->ops, cap };
	return 0;
}

int vmbus_port_capture_counts(const struct vmbus_port *port,
			      struct vmbus_port_capture_counts *counts)
{
	struct cap *cap;

	if (!port || !port->ops || port->ops->info != cap_info)
		return VMBUS_E_INVAL;
	cap = port->ctx;
	(void)pthread_mutex_lock(&cap->lock);
	if (cap->pipe)
		(void)flush(cap);
	*counts = cap->counts;
	(void)pthread_mutex_unlock(&cap->lock);
	return 0;
}
