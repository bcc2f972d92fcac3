/* SPDX-License-Identifier: MIT */
/*
 * Two processes, two rings: the parent sends requests, the child sends each one back.
 *
 * Shows: ring memory on a sealed memfd, doorbells made of eventfds, and loops that sleep without
 * losing a wake-up: the child waits for packets or for room, the parent for both at once.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/shm.h>

#define REQUESTS 5000
#define RING_BYTES 4096u /* small, so that both sides do meet a full ring */
#define BYTES 64u	 /* of a payload */
#define NEED (BYTES + VMBUS_PKT_DESC_BYTES + VMBUS_PKT_TRAILER_BYTES)

static int bell[2];			   /* eventfds: wake the parent, wake the child */
static unsigned char buf[RING_BYTES + 64]; /* what vmbus_ring_rx_buf_bytes() asks for */
static struct vmbus_ring_tx tx;
static struct vmbus_ring_rx rx;

static int must(int err, const char *what)
{
	if (err >= 0)
		return err;
	fprintf(stderr, "%s: %s\n", what, vmbus_err_name(err));
	exit(1);
}

static void ring_bell(void *ctx)
{
	must(eventfd_write(*(int *)ctx, 1) ? VMBUS_E_SYSTEM : 0, "ring a bell");
}

static void wait_bell(int fd)
{
	must(eventfd_read(fd, &(eventfd_t){ 0 }) ? VMBUS_E_SYSTEM : 0, "wait for a bell");
}

/* Our ends: a ring to send on and one to receive from.  For both we ring the other side's bell. */
static void set_up(int fd, uint64_t send_at, uint64_t receive_at, int *other)
{
	static struct vmbus_shm_ring send, receive;
	struct vmbus_shm_ring_opts map = { .struct_bytes = sizeof(map), .size = RING_BYTES };
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts), .signal = ring_bell };

	opts.signal_ctx = other;
	opts.buf = buf;
	opts.buf_bytes = sizeof(buf);
	map.window = VMBUS_RING_MIRRORED;
	map.offset = send_at;
	must(vmbus_shm_ring_map(&send, fd, &map), "map the ring to send on");
	map.offset = receive_at;
	must(vmbus_shm_ring_map(&receive, fd, &map), "map the ring to receive from");
	must(vmbus_ring_tx_init(&tx, &send.mem, &opts), "set up the sender");
	must(vmbus_ring_rx_init(&rx, &receive.mem, &opts), "set up the receiver");
}

/* Send, and sleep as long as there is no room. */
static void send_back(const struct vmbus_packet *pkt)
{
	const struct vmbus_msg msg = {
		.type = VMBUS_PKT_COMPLETION, .id = pkt->id, .data = pkt->payload, .len = pkt->len
	};
	const uint32_t need = (uint32_t)vmbus_wire_ring_bytes(0, msg.len);
	int sent;

	while ((sent = vmbus_ring_tx_put(&tx, &msg, 1)) == VMBUS_E_FULL) {
		if (must(vmbus_ring_tx_arm(&tx, need), "arm") == VMBUS_RING_SLEEP)
			wait_bell(bell[1]);
		vmbus_ring_tx_disarm(&tx);
	}
	must(sent, "child sends");
}

static void child(void)
{
	struct vmbus_packet pkt[16];
	int i, got, left;

	for (left = REQUESTS; left; left -= got) {
		got = must(vmbus_ring_rx_get(&rx, pkt, 16), "child receives");
		for (i = 0; i < got; i++) /* they stay valid until the next call on rx */
			send_back(&pkt[i]);
		if (got == 0 && must(vmbus_ring_rx_arm(&rx), "arm") == VMBUS_RING_SLEEP)
			wait_bell(bell[1]);
		vmbus_ring_rx_disarm(&rx);
	}
}

static void parent(void)
{
	struct vmbus_packet pkt[16];
	uint64_t sent = 0, back = 0, payload[BYTES / 8] = { 0 };
	int i, put, got;

	while (back < REQUESTS) {
		const struct vmbus_msg msg = {
			.type = VMBUS_PKT_INBAND, .id = sent + 1, .data = payload, .len = BYTES
		};

		payload[0] = sent;
		put = sent < REQUESTS ? vmbus_ring_tx_put(&tx, &msg, 1) : VMBUS_E_FULL;
		sent += put == VMBUS_E_FULL ? 0 : (uint64_t)must(put, "parent sends");
		got = must(vmbus_ring_rx_get(&rx, pkt, 16), "parent receives");
		for (i = 0; i < got; i++, back++)
			if (pkt[i].id != back + 1 || pkt[i].len != BYTES ||
			    memcmp(pkt[i].payload, &back, sizeof(back)))
				must(VMBUS_E_PEER, "compare the echo");
		if (put > 0 || got)
			continue;
		/* Arm for all that we wait for; sleep only if each answer is to sleep. */
		if ((sent == REQUESTS || must(vmbus_ring_tx_arm(&tx, NEED), "arm") == 0) &&
		    must(vmbus_ring_rx_arm(&rx), "arm") == 0) /* VMBUS_RING_SLEEP */
			wait_bell(bell[0]);
		vmbus_ring_tx_disarm(&tx);
		vmbus_ring_rx_disarm(&rx);
	}
}

int main(void)
{
	const uint64_t one = vmbus_shm_ring_bytes(RING_BYTES);
	const int fd = must(vmbus_shm_create(2 * one), "create the memory"); /* zero: empty */
	int status, pid;

	bell[0] = eventfd(0, 0);
	bell[1] = eventfd(0, 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a child that sleeps ends with its parent */
		set_up(fd, one, 0, &bell[0]);
		child();
		return 0;
	}
	must(pid < 0 ? VMBUS_E_SYSTEM : 0, "fork");
	set_up(fd, 0, one, &bell[1]);
	parent();
	must(wait(&status) < 0 || status ? VMBUS_E_SYSTEM : 0, "wait for the child");
	printf("%d requests sent to another process and back\n", REQUESTS);
	return 0;
}
