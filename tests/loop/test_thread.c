/* SPDX-License-Identifier: MIT */
/*
 * A channel with a thread of its own: packets there, the guest and the bus on another thread.
 * Under the thread sanitizer this is the test of the hand-over, LEAVE in vmbus_vsc(7).
 */
#include "loop.h"

#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#define ECHO_CLASS                                                                                 \
	VMBUS_GUID(0x7e57c1a5, 0x0003, 0x4000, 0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07)
static const struct vmbus_guid echo_class = ECHO_CLASS;

#define CHANS 4u

static void echo_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		must_eq(vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len), 0);
}

static void echo_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, echo_one);
}

static const struct vmbus_vsp echo_vsp = {
	.struct_bytes = sizeof(echo_vsp),
	.name = "echo",
	.class_id = ECHO_CLASS,
	.packets = echo_packets,
};

struct client {
	struct vmbus_vsc *vsc;
	pthread_t thread;
	sem_t work;
	uint64_t asked, completed, ended, wrong, want; /* the thread's */
	uint32_t done;				       /* atomic: the thread has what it wants */
	bool running, closed;			       /* the guest's thread's */
	int left;				       /* what the last dispatch said */
};

static void ask(struct client *c)
{
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .len = 8 };
	int err = 0;

	while (c->asked < c->want && c->asked - c->completed < 100 && err == 0) {
		msg.data = &c->asked;
		err = vmbus_vsc_request(c->vsc, &msg, (void *)(uintptr_t)c->asked);
		if (err == 0)
			c->asked++;
	}
	must(err == 0 || err == VMBUS_E_FULL);
}

static void *run(void *arg)
{
	struct client *c = arg;
	int n;

	ask(c);
	while ((n = vmbus_vsc_dispatch(c->vsc, 64)) >= 0)
		if (n == 0)
			sem_wait(&c->work);
	c->left = n;
	return NULL;
}

static void opened(struct vmbus_vsc *vsc, int err)
{
	struct client *c = vmbus_vsc_priv(vsc);

	must_eq(err, 0);
	must_eq(pthread_create(&c->thread, NULL, run, c), 0);
	c->running = true;
}

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	struct client *c = vmbus_vsc_priv(vsc);
	const uint64_t n = (uint64_t)(uintptr_t)cookie;

	if (!pkt) {
		c->ended++;
		return;
	}
	c->wrong += memcmp(pkt->payload, &n, 8) != 0;
	c->completed++;
	ask(c);
	if (c->completed == c->want)
		__atomic_store_n(&c->done, 1, __ATOMIC_RELEASE);
}

static void closed(struct vmbus_vsc *vsc)
{
	struct client *c = vmbus_vsc_priv(vsc);

	must_eq(pthread_join(c->thread, NULL), 0);
	c->running = false;
	c->closed = true;
	must_eq(c->left, VMBUS_E_STATE);
	must_eq(c->asked, c->completed + c->ended);
	must_eq(c->wrong, 0);
}

static void wake(struct vmbus_vsc *vsc)
{
	sem_post(&((struct client *)vmbus_vsc_priv(vsc))->work);
}

static struct client clients[CHANS];

static void begin(struct loop *l, uint32_t i, uint64_t want)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts), .own_thread = true };
	struct client *c = &clients[i];

	memset(c, 0, sizeof(*c));
	c->want = want;
	must_eq(sem_init(&c->work, 0, 0), 0);
	opts.opened = opened;
	opts.completed = completed;
	opts.closed = closed;
	opts.wake = wake;
	opts.priv = c;
	c->vsc = vmbus_vsc_find(l->guest, &echo_class, i);
	must(c->vsc != NULL);
	must_eq(vmbus_vsc_open(c->vsc, &opts), 0);
}

static void turn(struct loop *l)
{
	const struct timespec moment = { 0, 20000 };
	int done = vmbus_guest_dispatch(l->guest, LOOP_BUDGET);

	must(done >= 0);
	if (done == 0 && loop_bus_turn(l) == 0)
		nanosleep(&moment, NULL);
	l->now += 100;
}

static bool all_done(void)
{
	uint32_t i;

	for (i = 0; i < CHANS; i++)
		if (!__atomic_load_n(&clients[i].done, __ATOMIC_ACQUIRE))
			return false;
	return true;
}

static bool all_closed(void)
{
	uint32_t i;

	for (i = 0; i < CHANS; i++)
		if (!clients[i].closed)
			return false;
	return true;
}

START_TEST(vsc_dispatch__on_threads_of_their_own)
{
	const uint64_t want = vmbus_test_full() ? 1000000 : 5000;
	struct loop *l = loop_new(NULL, NULL);
	uint32_t i;

	for (i = 0; i < CHANS; i++)
		must_eq(vmbus_bus_offer(l->bus, &echo_vsp, NULL, NULL, NULL), 0);
	loop_connect(l);
	for (i = 0; i < CHANS; i++)
		begin(l, i, want);
	while (!all_done())
		turn(l);
	for (i = 0; i < CHANS; i++)
		must_eq(vmbus_vsc_close(clients[i].vsc), 0);
	while (!all_closed())
		turn(l);
	for (i = 0; i < CHANS; i++)
		must_eq(clients[i].completed, want);
	must_eq(l->mem.shared_pages, 0);
	loop_free(l);
}
END_TEST

/* Closed or withdrawn while packets flow. */
START_TEST(vsc_dispatch__leaves_in_the_middle)
{
	const uint32_t rounds = vmbus_test_full() ? 2000 : 30;
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_chan *chan[CHANS];
	uint32_t i, round, turns;

	loop_connect(l);
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < CHANS; i++)
			must_eq(vmbus_bus_offer(l->bus, &echo_vsp, NULL, NULL, &chan[i]), 0);
		while (!vmbus_vsc_find(l->guest, &echo_class, CHANS - 1))
			turn(l);
		for (i = 0; i < CHANS; i++)
			begin(l, i, UINT64_MAX);
		for (turns = 0; turns < 20 + round % 7; turns++)
			turn(l);
		for (i = 0; i < CHANS; i++)
			while (!clients[i].running)
				turn(l);
		for (i = 0; i < CHANS; i++)
			if ((round + i) % 2)
				must_eq(vmbus_vsc_close(clients[i].vsc), 0);
		for (i = 0; i < CHANS; i++)
			must_eq(vmbus_bus_revoke(chan[i]), 0);
		while (!all_closed() || l->gone < l->offered)
			turn(l);
		must_eq(l->mem.shared_pages, 0);
	}
	loop_free(l);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "thread", 20);

	tcase_add_test(tc, vsc_dispatch__on_threads_of_their_own);
	tcase_add_test(tc, vsc_dispatch__leaves_in_the_middle);
}
VMBUS_TEST_MAIN("loop.thread", tests)
