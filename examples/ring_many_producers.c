/* SPDX-License-Identifier: MIT */
/*
 * Many threads send through one ring, one thread receives.
 *
 * Shows: a ring in plain memory, a sending end for many threads, and how they share the one sleeper
 * that the ring knows: a lock of theirs around arm, sleep and disarm.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include <vmbus/mtx.h>

#define THREADS 4
#define PER_THREAD 2000
#define RING_BYTES 4096u /* small, so that the threads do meet a full ring */

static _Alignas(4096) unsigned char ctl[VMBUS_PAGE_BYTES];
static _Alignas(4096) unsigned char data[RING_BYTES];
static unsigned char buf[RING_BYTES + 64];   /* what vmbus_ring_rx_buf_bytes() asks for */
static struct vmbus_ring_mtx_slot slots[16]; /* a power of two, at least one for each thread */
static _Alignas(64) struct vmbus_ring_mtx mtx;
static pthread_mutex_t sleeper = PTHREAD_MUTEX_INITIALIZER;
static int packets_bell, room_bell; /* eventfds: wake the receiver, wake a sender */

static int must(int err, const char *what)
{
	if (err >= 0)
		return err;
	fprintf(stderr, "%s: %s\n", what, vmbus_err_name(err));
	exit(1);
}

static void ring_bell(void *ctx)
{
	if (eventfd_write(*(int *)ctx, 1))
		exit(1);
}

static void wait_bell(int bell)
{
	eventfd_t times;

	if (eventfd_read(bell, &times))
		exit(1);
}

/* The ring was full: sleep until a packet fits, unless one fits by now. */
static void wait_for_room(uint32_t need)
{
	pthread_mutex_lock(&sleeper);
	if (must(vmbus_ring_mtx_arm(&mtx, need), "arm") == VMBUS_RING_SLEEP)
		wait_bell(room_bell);
	vmbus_ring_mtx_disarm(&mtx);
	pthread_mutex_unlock(&sleeper);
	sched_yield(); /* perhaps another thread is about to publish */
}

static void *send_all(void *arg)
{
	const uint64_t thread = *(const uint64_t *)arg;
	uint64_t n = 0;

	while (n < PER_THREAD) {
		const uint64_t payload[2] = { thread, n };
		const struct vmbus_msg msg = { .id = n + 1,
					       .type = VMBUS_PKT_INBAND,
					       .data = payload,
					       .len = sizeof(payload) };
		const int sent = vmbus_ring_mtx_put(&mtx, &msg, 1);

		if (sent == VMBUS_E_FULL)
			wait_for_room((uint32_t)vmbus_wire_ring_bytes(0, msg.len));
		else
			must(sent, "send");
		n += sent == 1;
	}
	return NULL;
}

static void check(const struct vmbus_packet *pkt, uint64_t *next)
{
	uint64_t payload[2] = { THREADS, 0 };

	if (pkt->len == sizeof(payload))
		memcpy(payload, pkt->payload, sizeof(payload));
	if (payload[0] >= THREADS || payload[1] != next[payload[0]]++)
		must(VMBUS_E_PEER, "check a packet");
}

static void receive_all(struct vmbus_ring_rx *rx)
{
	uint64_t next[THREADS] = { 0 };
	int left = THREADS * PER_THREAD, i, got;
	struct vmbus_packet pkt[32];

	for (; left; left -= got) {
		got = must(vmbus_ring_rx_get(rx, pkt, 32), "receive");
		for (i = 0; i < got; i++)
			check(&pkt[i], next);
		if (got == 0 && must(vmbus_ring_rx_arm(rx), "arm") == VMBUS_RING_SLEEP)
			wait_bell(packets_bell);
		vmbus_ring_rx_disarm(rx);
	}
}

int main(void)
{
	const struct vmbus_ring_mem_opts where = {
		.struct_bytes = sizeof(where), .size = RING_BYTES, .ctl = ctl, .data = data
	};
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts), .signal = ring_bell };
	struct vmbus_ring_mem mem;
	struct vmbus_ring_rx rx;
	struct vmbus_ring_stats stats;
	pthread_t threads[THREADS];
	uint64_t numbers[THREADS] = { 0, 1, 2, 3 };
	int i;

	packets_bell = eventfd(0, 0);
	room_bell = eventfd(0, 0);
	must(vmbus_ring_mem_init(&mem, &where), "describe the ring");
	vmbus_ring_mem_clear(&mem);
	opts.signal_ctx = &packets_bell;
	must(vmbus_ring_mtx_init(&mtx, &mem, &opts, slots, 16), "set up the sender");
	opts.signal_ctx = &room_bell;
	opts.buf = buf;
	opts.buf_bytes = sizeof(buf);
	must(vmbus_ring_rx_init(&rx, &mem, &opts), "set up the receiver");
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, send_all, &numbers[i]))
			return 1;
	receive_all(&rx);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	vmbus_ring_mtx_stats(&mtx, &stats);
	printf("%llu packets from %d threads, each thread's in order\n",
	       (unsigned long long)stats.packets, THREADS);
	return 0;
}
