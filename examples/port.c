/* SPDX-License-Identifier: MIT */
/*
 * A network port of one's own: frames as datagrams on a socket, in and out.  The parent offers a NIC
 * with that port behind it, and at the socket's far end sends every frame back to where it came from;
 * the child sends frames and waits for them.
 *
 * Shows: the functions of a port; a NIC; a client that sends and receives.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <vmbus/net.h>
#include <vmbus/netvsc.h>

#include "example.h"

#define FRAMES 100u
#define WINDOW 8u /* on their way at once, since a socket takes few datagrams */
#define PIECES 40u

/* ---- the port ---- */

static int socket_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	memset(info, 0, sizeof(*info)); /* can: nothing, so sums are made and segments cut before */
	info->queues = 1;
	info->up = true;
	return 0;
}

static int socket_open(struct vmbus_port_queue *queue)
{
	queue->fd = *(int *)queue->ctx;
	return 0;
}

/* Frames in pieces, which the guest may change meanwhile: the kernel copies them once. */
static uint32_t socket_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			    uint32_t n)
{
	struct iovec iov[PIECES];
	uint32_t i, p;

	for (i = 0; i < n; i++) {
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = frame[i].pieces };

		if (frame[i].pieces > PIECES)
			continue; /* a port may drop, and then should count */
		for (p = 0; p < frame[i].pieces; p++)
			iov[p] = (struct iovec){ (void *)(uintptr_t)frame[i].piece[p].base,
						 frame[i].piece[p].len };
		/* A full socket drops too; a port that can tell when there is room returns i. */
		(void)!sendmsg(queue->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	return n;
}

/* Straight into the guest's memory. */
static uint32_t socket_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			       uint32_t n)
{
	struct iovec iov[PIECES];
	uint32_t i, p;

	for (i = 0; i < n; i++) {
		struct msghdr msg = { .msg_iov = iov };
		ssize_t got;

		for (p = 0; p < room[i].spans && p < PIECES; p++)
			iov[p] = (struct iovec){ room[i].span[p].base, room[i].span[p].len };
		msg.msg_iovlen = p;
		got = recvmsg(queue->fd, &msg, MSG_DONTWAIT);
		if (got < 0)
			break;
		room[i].bytes = (uint32_t)got;
	}
	return i;
}

static const struct vmbus_port_ops socket_ops = {
	.struct_bytes = sizeof(socket_ops),
	.name = "socket",
	.info = socket_info,
	.open = socket_open,
	.send = socket_send,
	.receive = socket_receive,
};

/* ---- the socket's far end: every frame goes back ---- */

static void *mirror(void *arg)
{
	const int fd = *(int *)arg;
	unsigned char frame[2048] = { 0 }, address[6];
	ssize_t len;

	(void)!send(fd, frame, 1, MSG_NOSIGNAL); /* it runs */
	while ((len = recv(fd, frame, sizeof(frame), 0)) > 0) {
		memcpy(address, frame, 6);
		memcpy(frame, frame + 6, 6);
		memcpy(frame + 6, address, 6);
		(void)!send(fd, frame, (size_t)len, MSG_NOSIGNAL);
	}
	return NULL;
}

/* ---- the client ---- */

struct client {
	struct vmbus_netvsc nic;
	struct vmbus_netvsc_chan chan;
	struct vmbus_netvsc_burst burst;
	unsigned int sent, came, wrong;
};

static void send_more(struct client *me)
{
	unsigned char bytes[60] = { 2, 0, 0, 0, 0, 99 };
	const struct vmbus_iov piece = { bytes, sizeof(bytes) };
	const struct vmbus_frame frame = { .piece = &piece, .pieces = 1, .bytes = sizeof(bytes) };

	memcpy(bytes + 6, me->nic.mac, 6);
	bytes[12] = 0x88; /* EtherType 88b5 is for experiments */
	bytes[13] = 0xb5;
	for (; me->sent < FRAMES && me->sent < me->came + WINDOW; me->sent++) {
		bytes[14] = (unsigned char)me->sent;
		if (vmbus_netvsc_send(&me->nic, 0, &frame, 1) != 1)
			return; /* writable() goes on */
	}
}

static void ready(void *ctx, int err)
{
	must(err, "start");
	send_more(ctx);
}

static void writable(void *ctx, uint32_t channel)
{
	(void)channel;
	send_more(ctx);
}

static void readable(void *ctx, uint32_t channel)
{
	struct client *const me = ctx;
	uint32_t i;

	while (vmbus_netvsc_receive(&me->nic, channel, &me->burst, VMBUS_NETVSC_BURST) > 0) {
		for (i = 0; i < me->burst.frames; i++) {
			const unsigned char *const bytes = me->burst.frame[i].piece[0].base;

			me->wrong += bytes[14] != (unsigned char)me->came++;
		}
		must(vmbus_netvsc_release(&me->nic, channel, &me->burst), "release");
		send_more(me);
	}
}

static int child(const char *path)
{
	static const struct vmbus_guid class_id = VMBUS_NET_CLASS;
	static struct client me;
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts),
					  .chan = &me.chan,
					  .ready = ready,
					  .writable = writable,
					  .readable = readable,
					  .ctx = &me };
	struct vmbus_shm_attach_opts at = { .struct_bytes = sizeof(at), .path = path };
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;

	at.name = "port client";
	must(vmbus_shm_attach(&at, &attach), "attach");
	guest = vmbus_shm_guest(attach);
	must(vmbus_guest_connect(guest), "connect");
	must(vmbus_guest_wait(guest, VMBUS_GUEST_CONNECTED, 5 * SECONDS), "wait for offers");
	must(vmbus_netvsc_start(&me.nic, must_be(vmbus_vsc_find(guest, &class_id, 0), "find it"),
				&opts),
	     "start");
	while (me.came < FRAMES)
		must(vmbus_shm_attach_wait(attach, 5 * SECONDS), "wait for frames");
	printf("child:  %u frames went out and came back, %u of them wrong\n", me.came, me.wrong);
	vmbus_shm_detach(attach);
	return me.wrong != 0;
}

int main(void)
{
	struct vmbus_net_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_net *net;
	pthread_t thread;
	int end[2], failed;
	char up;

	must(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, end) ? VMBUS_E_SYSTEM : 0, "socket");
	must(pthread_create(&thread, NULL, mirror, &end[1]) ? VMBUS_E_SYSTEM : 0, "thread");
	/* A child that is forked while a thread starts may inherit a lock that nobody gives back. */
	must(recv(end[0], &up, 1, 0) == 1 ? 0 : VMBUS_E_SYSTEM, "wait for the thread");
	opts.port = (struct vmbus_port){ &socket_ops, &end[0] };
	must(vmbus_net_create(&opts, &net), "create a NIC");
	failed = example_run_with(vmbus_net_vsp(), net, 1, child);
	vmbus_net_destroy(net);
	(void)shutdown(end[1], SHUT_RDWR);
	(void)pthread_join(thread, NULL);
	close(end[0]);
	close(end[1]);
	return failed;
}
