/* SPDX-License-Identifier: MIT */
/* Frames as datagrams of a pair of Unix sockets: one sendmmsg and one recvmmsg for each burst, polled. */
#include "../block.h"
#include "../net.h"
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_BYTES (1 << 20)

struct gram {
	int fd[2]; /* of this process, of the far one */
	struct mmsghdr msg[NET_BURST];
	struct iovec iov[NET_BURST];
};

/* Both return how many, 0 when the socket is full or empty, or -1. */
static int gram_put(struct gram *g, int fd, const struct net_end *end, uint32_t first, uint32_t n)
{
	int put;

	for (uint32_t i = 0; i < n; i++)
		g->iov[i] = (struct iovec){ net_frame(end, first + i), end->bytes };
	put = sendmmsg(fd, g->msg, n, 0);
	return put < 0 && (errno == EAGAIN || errno == ENOBUFS) ? 0 : put;
}

static int gram_get(struct gram *g, int fd, struct net_end *end)
{
	int got;

	for (uint32_t i = 0; i < NET_BURST; i++)
		g->iov[i] = (struct iovec){ net_frame(end, end->at + i), NET_FRAME_BYTES };
	got = recvmmsg(fd, g->msg, NET_BURST, 0, NULL);
	for (int i = 0; i < got; i++)
		net_got(end, g->msg[i].msg_len);
	return got < 0 && errno == EAGAIN ? 0 : got;
}

/* ---- the far process ---- */

static void far_produce(struct gram *g, struct net_ctl *ctl, struct net_end *end)
{
	while (load32(&ctl->what) == NET_PRODUCE) {
		uint32_t due = NET_BURST;

		for (uint32_t i = 0; i < NET_BURST; i++)
			net_stamp(end, i);
		while (due) {
			const int put = gram_put(g, g->fd[1], end, NET_BURST - due, due);

			if (put < 0)
				_exit(1);
			due -= (uint32_t)put;
		}
		store64(&ctl->sent, end->next);
	}
}

static void far_sink(struct gram *g, struct net_ctl *ctl, struct net_end *end)
{
	while (load32(&ctl->what) == NET_SINK) {
		if (gram_get(g, g->fd[1], end) < 0)
			_exit(1);
		store64(&ctl->wrong, end->wrong);
		store64(&ctl->received, end->next);
	}
}

static _Noreturn void far_main(struct net_link *link)
{
	struct gram *const g = link->priv;
	struct net_ctl *const ctl = link->ctl;

	(void)close(g->fd[0]);
	for (;;) {
		const uint32_t what = load32(&ctl->what);

		if (what == NET_IDLE) {
			relax();
			continue;
		}
		net_end_begin(&link->end, ctl->bytes);
		store32(&ctl->seen, ctl->go);
		if (what == NET_PRODUCE)
			far_produce(g, ctl, &link->end);
		else
			far_sink(g, ctl, &link->end);
		store32(&ctl->idle, ctl->go);
	}
}

/* ---- this process ---- */

static void gram_close(struct net_link *link)
{
	struct gram *const g = link->priv;

	net_reap(&link->far);
	(void)close(g->fd[0]);
	free(g);
}

static int gram_open(struct net_link *link)
{
	struct gram *const g = must_alloc(sizeof(*g));
	const int bytes = SOCKET_BYTES;

	memset(g, 0, sizeof(*g));
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, g->fd)) {
		free(g);
		return net_fail(link, "socketpair: %s", strerror(errno));
	}
	for (int i = 0; i < 2; i++)
		(void)setsockopt(g->fd[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	for (uint32_t i = 0; i < NET_BURST; i++) {
		g->msg[i].msg_hdr.msg_iov = &g->iov[i];
		g->msg[i].msg_hdr.msg_iovlen = 1;
	}
	link->priv = g;
	link->far = block_fork(link->place);
	if (link->far == 0)
		far_main(link);
	(void)close(g->fd[1]);
	if (link->far > 0)
		return 0;
	gram_close(link);
	return net_fail(link, "fork: %s", strerror(errno));
}

static int gram_send(struct net_link *link, uint32_t first, uint32_t n)
{
	struct gram *const g = link->priv;

	return gram_put(g, g->fd[0], &link->end, first, n);
}

static int gram_receive(struct net_link *link)
{
	struct gram *const g = link->priv;

	return gram_get(g, g->fd[0], &link->end);
}

const struct net_subject net_unix = {
	.name = "unix-datagram",
	.what = "a pair of Unix sockets of datagrams, polled",
	.version = kernel_version,
	.open = gram_open,
	.close = gram_close,
	.send = gram_send,
	.receive = gram_receive,
};
