/* SPDX-License-Identifier: MIT */
/*
 * A Unix socket of kind SOCK_SEQPACKET, which keeps packets apart, not blocking; a batch is one
 * sendmmsg and one recvmmsg.
 */
#include "../loop.h"
#include "../subject.h"
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct unix_fds {
	int end[2];
};

struct unix_state {
	int fd;
	struct mmsghdr *msg;
	struct iovec *iov;
};

static const char *unix_refuses(const struct cell *cell)
{
	return cell->producers != 1u ? "measured with one producer" : NULL;
}

static size_t unix_bytes(const struct chan *chan)
{
	(void)chan;
	return 0;
}

static int unix_setup(struct chan *chan)
{
	struct unix_fds *fds = must_alloc(sizeof(*fds));
	int bytes = (int)chan->cell->ring_bytes;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds->end))
		return -1;
	if (setsockopt(fds->end[1], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
		(void)setsockopt(fds->end[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	chan->priv = fds;
	return 0;
}

static void unix_teardown(struct chan *chan)
{
	struct unix_fds *fds = chan->priv;

	close(fds->end[0]);
	close(fds->end[1]);
	free(fds);
}

static void unix_open(struct unix_state *st, struct chan *chan, struct side *side, int end)
{
	st->fd = ((struct unix_fds *)chan->priv)->end[end];
	st->msg = side_alloc(side, side->batch * sizeof(*st->msg));
	st->iov = side_alloc(side, side->batch * sizeof(*st->iov));
	for (uint32_t i = 0; i < side->batch; i++) {
		st->iov[i].iov_base = side_packet(side, i);
		st->iov[i].iov_len = side->payload;
		st->msg[i].msg_hdr.msg_iov = &st->iov[i];
		st->msg[i].msg_hdr.msg_iovlen = 1;
	}
}

static void unix_open_tx(struct unix_state *st, struct chan *chan, struct side *side)
{
	unix_open(st, chan, side, 1);
}

static void unix_open_rx(struct unix_state *st, struct chan *chan, struct side *side)
{
	unix_open(st, chan, side, 0);
}

static inline uint32_t unix_send(struct unix_state *st, struct side *side, uint32_t first,
				 uint32_t n)
{
	int put;

	if (side->batch == 1u)
		return send(st->fd, side->buf, side->payload, 0) == (ssize_t)side->payload;
	put = sendmmsg(st->fd, &st->msg[first], n, 0);
	return put > 0 ? (uint32_t)put : 0;
}

static inline uint32_t unix_receive(struct unix_state *st, struct side *side, uint32_t n)
{
	int got;

	if (side->batch == 1u)
		got = recv(st->fd, side->buf, side->payload, 0) == (ssize_t)side->payload;
	else
		got = recvmmsg(st->fd, st->msg, n, 0, NULL);
	if (got <= 0)
		return 0;
	side_check_run(side, (uint32_t)got);
	return (uint32_t)got;
}

SUBJECT_LOOPS(sock, struct unix_state, unix_open_tx, unix_open_rx, unix_send, unix_receive);

const struct subject subject_unix = {
	.name = "unix",
	.what = "a Unix socket that keeps packets apart, polled",
	.caps = CAP_VARIABLE | CAP_BATCH,
	.version = kernel_version,
	.refuses = unix_refuses,
	.bytes = unix_bytes,
	.setup = unix_setup,
	.produce = sock_produce,
	.consume = sock_consume,
	.ping = sock_ping,
	.pong = sock_pong,
	.teardown = unix_teardown,
};
