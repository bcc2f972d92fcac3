/* SPDX-License-Identifier: MIT */
/*
 * A pipe as large as the ring, not blocking, so that both sides poll like all others.  A batch is
 * one write and one read of packets that lie one behind the other; a packet that came in part is
 * completed before the next is looked at.
 */
#include "../loop.h"
#include "../subject.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct pipe_fds {
	int end[2];
};

struct pipe_state {
	int fd;
	size_t part; /* bytes of the current packets that have gone or come */
};

static const char *pipe_refuses(const struct cell *cell)
{
	return cell->producers != 1u ? "one producer only" : NULL;
}

static size_t pipe_bytes(const struct chan *chan)
{
	(void)chan;
	return 0;
}

static int pipe_setup(struct chan *chan)
{
	struct pipe_fds *fds = must_alloc(sizeof(*fds));

	if (pipe2(fds->end, O_CLOEXEC | O_NONBLOCK))
		return -1;
	/* Above /proc/sys/fs/pipe-max-size the kernel refuses; then it stays as it is. */
	(void)fcntl(fds->end[1], F_SETPIPE_SZ, (int)chan->cell->ring_bytes);
	chan->priv = fds;
	return 0;
}

static void pipe_teardown(struct chan *chan)
{
	struct pipe_fds *fds = chan->priv;

	close(fds->end[0]);
	close(fds->end[1]);
	free(fds);
}

static void pipe_open_tx(struct pipe_state *st, struct chan *chan, struct side *side)
{
	(void)side;
	st->fd = ((struct pipe_fds *)chan->priv)->end[1];
	st->part = 0;
}

static void pipe_open_rx(struct pipe_state *st, struct chan *chan, struct side *side)
{
	(void)side;
	st->fd = ((struct pipe_fds *)chan->priv)->end[0];
	st->part = 0;
}

static inline uint32_t pipe_send(struct pipe_state *st, struct side *side, uint32_t first,
				 uint32_t n)
{
	ssize_t put = write(st->fd, side_packet(side, first) + st->part,
			    (size_t)n * side->payload - st->part);

	if (put <= 0)
		return 0;
	st->part += (size_t)put;
	n = (uint32_t)(st->part / side->payload);
	st->part %= side->payload;
	return n;
}

static inline uint32_t pipe_receive(struct pipe_state *st, struct side *side, uint32_t n)
{
	ssize_t got = read(st->fd, side->buf + st->part, (size_t)n * side->payload - st->part);

	if (got <= 0)
		return 0;
	st->part += (size_t)got;
	n = (uint32_t)(st->part / side->payload);
	st->part %= side->payload;
	side_check_run(side, n);
	if (n && st->part)
		memmove(side->buf, side_packet(side, n), st->part);
	return n;
}

SUBJECT_LOOPS(pipe, struct pipe_state, pipe_open_tx, pipe_open_rx, pipe_send, pipe_receive);

const struct subject subject_pipe = {
	.name = "pipe",
	.what = "a pipe, polled",
	.caps = CAP_BATCH,
	.version = kernel_version,
	.refuses = pipe_refuses,
	.bytes = pipe_bytes,
	.setup = pipe_setup,
	.produce = pipe_produce,
	.consume = pipe_consume,
	.ping = pipe_ping,
	.pong = pipe_pong,
	.teardown = pipe_teardown,
};
