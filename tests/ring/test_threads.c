/* SPDX-License-Identifier: MIT */
/*
 * Both ends of one ring, each on a thread of its own and honest, with sleeping: what the thread
 * sanitizer and a processor with weak ordering look at.  Under an emulator of such a processor this
 * shows how the code was generated and laid out, not how it is ordered.
 */
#include "ringbox.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#define SIZE 8192u
#define STALE_MS 20000

static struct ringbox *rb;
static int to_receiver[2], to_sender[2]; /* pipes; a byte is a signal */
static uint32_t total;

static void ring_bell(void *ctx)
{
	const int *bell = ctx;

	must_eq(write(bell[1], "!", 1), 1);
}

/* A bell that never rings is a lost wake-up. */
static int wait_for(const int *bell)
{
	struct pollfd p = { .fd = bell[0], .events = POLLIN };
	char c;

	return poll(&p, 1, STALE_MS) == 1 && read(bell[0], &c, 1) == 1 ? 0 : -1;
}

static uint32_t len_of(uint32_t k)
{
	return k * 29 % 700;
}

static void *sender(void *arg)
{
	static uint8_t data[4][700];
	struct vmbus_msg msg[4];
	uint32_t k = 0, i, n;
	int sent;

	(void)arg;
	while (k < total) {
		n = 1 + k % 4;
		for (i = 0; i < n && k + i < total; i++) {
			ringbox_fill(data[i], len_of(k + i), k + i);
			msg[i] = ringbox_msg(k + i, data[i], len_of(k + i));
		}
		sent = vmbus_ring_tx_put(&rb->tx, msg, i);
		if (sent > 0) {
			k += (uint32_t)sent;
			continue;
		}
		if (sent != VMBUS_E_FULL)
			return "put";
		sent = vmbus_ring_tx_arm(&rb->tx, 2048);
		if (sent < 0)
			return "arm";
		if (sent == VMBUS_RING_SLEEP && wait_for(to_sender))
			return "the sender was never woken";
		vmbus_ring_tx_disarm(&rb->tx);
	}
	return NULL;
}

/* _i: window.  The receiver is the test's own thread. */
START_TEST(lesson_07_stale_packet)
{
	static uint8_t data[700];
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts), .signal = ring_bell };
	struct vmbus_packet pkt[8];
	pthread_t thread;
	void *failure;
	uint32_t k = 0;
	int n, i;

	total = vmbus_test_full() ? 1000000 : 20000;
	rb = ringbox_new(SIZE, ringbox_windows[_i]);
	must_eq(pipe(to_receiver) | pipe(to_sender), 0);
	ringbox_new_buf(rb, vmbus_ring_rx_buf_bytes(SIZE));
	opts.buf = rb->buf;
	opts.buf_bytes = rb->buf_bytes;
	opts.signal_ctx = to_sender;
	must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts), 0);
	opts.signal_ctx = to_receiver;
	must_eq(vmbus_ring_tx_init(&rb->tx, &rb->mem, &opts), 0);
	must_eq(pthread_create(&thread, NULL, sender, NULL), 0);
	while (k < total) {
		n = vmbus_ring_rx_get(&rb->rx, pkt, 8);
		must(n >= 0);
		for (i = 0; i < n; i++, k++) {
			ringbox_fill(data, len_of(k), k);
			ringbox_must_be(&pkt[i], k, data, len_of(k));
		}
		if (n)
			continue;
		n = vmbus_ring_rx_arm(&rb->rx);
		must(n >= 0);
		if (n == VMBUS_RING_SLEEP)
			must_eq(wait_for(to_receiver), 0);
		vmbus_ring_rx_disarm(&rb->rx);
	}
	must_eq(pthread_join(thread, &failure), 0);
	must(failure == NULL);
	must_eq(rb->rx.stats_p.packets, total);
	close(to_receiver[0]);
	close(to_receiver[1]);
	close(to_sender[0]);
	close(to_sender[1]);
	ringbox_free(rb);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "threads", 10);

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) /* sees a page through one address only: the plain window */
	tcase_add_loop_test(tc, lesson_07_stale_packet, 0, 1);
	return;
#endif
#endif
	tcase_add_loop_test(tc, lesson_07_stale_packet, 0, RINGBOX_WINDOWS);
}

VMBUS_TEST_MAIN("ring.threads", tests)
