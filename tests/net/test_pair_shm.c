/* SPDX-License-Identifier: MIT */
/*
 * The network device between processes: millions of frames of all sizes, each of whose bytes are
 * compared, through a port that sends them back and through a pair of ports to another child; on one
 * channel and several, dispatched by one thread and by many.  No frame may be lost.
 */
#define _GNU_SOURCE
#include <vmbus/net.h>

#include "flow.h"
#include "pairshm.h"

#define CHANNELS 3u
#define MEMORY_BYTES (UINT64_C(32) << 20)
#define PAIR_BYTES (1u << 20)

/* Sanitizers make all of this slow. */
#define FRAMES 600000u
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#undef FRAMES
#define FRAMES 40000u
#endif
#endif

struct kind {
	const char *name;
	uint32_t channels; /* 1: dispatched with the guest; more: each by its thread */
	bool poll, pair;
	bool pool; /* the parent's channels are dispatched by two threads */
	uint32_t window, section, frames_max;
	uint32_t frames; /* of each channel */
};

static const struct kind kinds[] = {
	{ "loop", 1, false, false, false, 256, 0, 0, FRAMES },
	{ "loop, polled", 1, true, false, false, 64, 0, 1, FRAMES / 4 },
	{ "loop, large sections", 1, false, false, true, 512, 65536, 32, FRAMES },
	{ "loop, small sections", 1, false, false, false, 128, 256, 4, FRAMES / 4 },
	{ "loop, threads", CHANNELS, false, false, false, 128, 0, 0, FRAMES / 2 },
	{ "loop, threads, pool", CHANNELS, false, false, true, 256, 16384, 16, FRAMES / 2 },
	{ "pair", 1, false, true, false, 150, 0, 0, FRAMES },
	{ "pair, pool", 1, false, true, true, 150, 65536, 32, FRAMES },
};

/* As it was when a child began, in the child. */
static struct {
	const struct kind *kind;
	struct vmbus_net *net[2];
	struct pairshm p;
} parent;

/* ---- a child ---- */

struct thread {
	struct pairshm_thread t;
	struct flow flow;
};

static struct {
	const struct kind *kind;
	struct vmbus_netvsc nv;
	struct vmbus_netvsc_chan chan[CHANNELS];
	struct vmbus_guest *guest;
	struct thread thread[CHANNELS];
	int ready, begun, finished, closed;
} c;

static void on_ready(void *ctx, int err)
{
	(void)ctx;
	if (err)
		_exit(30);
	__atomic_store_n(&c.ready, 1, __ATOMIC_RELEASE);
}

static void on_closed(void *ctx)
{
	(void)ctx;
	c.closed = 1;
}

/* A channel's thread: its flow begins when all channels are there. */
static void *run(void *arg)
{
	struct thread *const t = arg;
	bool told = false;
	int n;

	for (;;) {
		if (__atomic_load_n(&c.begun, __ATOMIC_ACQUIRE))
			n = flow_turn(&t->flow);
		else
			n = vmbus_netvsc_receive(&c.nv, t->flow.channel, &t->flow.burst, 64);
		if (n > 0 || t->flow.err)
			_exit(21);
		if (flow_is_done(&t->flow) && !told) {
			told = true;
			__atomic_fetch_add(&c.finished, 1, __ATOMIC_RELEASE);
		}
		if (n < 0 && n != VMBUS_E_AGAIN)
			return NULL;
		if (n == 0)
			pairshm_sleep(&t->t);
	}
}

static void on_opened(void *ctx, uint32_t channel)
{
	struct thread *const t = &c.thread[channel];

	(void)ctx;
	if (c.kind->channels == 1)
		return;
	pairshm_thread_start(&t->t, run, t);
}

static void on_wake(void *ctx, uint32_t channel)
{
	(void)ctx;
	pairshm_poke(&c.thread[channel].t);
}

static void on_ready_to_go(void *ctx, uint32_t channel)
{
	(void)ctx;
	(void)channel; /* the loop below looks by itself */
}

static int start(uint8_t id)
{
	const struct vmbus_guid class_id = VMBUS_NET_CLASS;
	struct vmbus_netvsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_vsc *const vsc = vmbus_vsc_find(c.guest, &class_id, 0);
	uint32_t i;

	for (i = 0; i < CHANNELS; i++) {
		struct flow *const f = &c.thread[i].flow;

		c.thread[i].t.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		f->nv = &c.nv;
		f->channel = i;
		f->window = c.kind->window;
		f->total = c.kind->frames;
		f->out_id = (uint8_t)(i * 2 + (c.kind->pair ? id : 0));
		f->in_id = (uint8_t)(i * 2 + (c.kind->pair ? 1 - id : 0));
	}
	opts.chan = c.chan;
	opts.subchannels = c.kind->channels - 1;
	opts.filter = VMBUS_NETVSC_PROMISCUOUS;
	opts.open.own_thread = c.kind->channels > 1;
	opts.open.poll = c.kind->poll;
	opts.open.send_bytes = 16384;
	opts.open.recv_bytes = 16384;
	opts.ready = on_ready;
	opts.opened = on_opened;
	opts.wake = on_wake;
	opts.readable = on_ready_to_go;
	opts.writable = on_ready_to_go;
	opts.closed = on_closed;
	return !vsc || vmbus_netvsc_start(&c.nv, vsc, &opts) ? 3 : 0;
}

static int report(uint8_t id)
{
	struct vmbus_netvsc_stats stats;
	uint64_t frames = 0, bytes = 0, full = 0, packets = 0, in = 0;
	uint32_t i;

	for (i = 0; i < c.kind->channels; i++) {
		const struct flow *const f = &c.thread[i].flow;

		if (vmbus_netvsc_stats(&c.nv, i, &stats))
			return 10;
		if (f->wrong || f->err || !flow_is_done(f))
			return 6;
		if (stats.bad || stats.refused || stats.dropped || stats.waiting ||
		    stats.sent_frames != f->sent + f->hellos ||
		    stats.received_frames != f->got + f->heard)
			return 11;
		frames += f->got;
		bytes += f->bytes;
		full += f->full;
		packets += stats.sent_packets;
		in += stats.received_packets;
		close(c.thread[i].t.wake);
	}
	printf("%s %u: %llu frames, %llu MiB, in %llu packets out and %llu in, %llu times full\n",
	       c.kind->name, id, (unsigned long long)frames, (unsigned long long)bytes >> 20,
	       (unsigned long long)packets, (unsigned long long)in, (unsigned long long)full);
	fflush(stdout);
	return c.nv.bad ? 7 : 0;
}

/* One thread does all: returns whether it is at its end. */
static bool turn_alone(void)
{
	struct flow *const f = &c.thread[0].flow;
	int n;

	if (!c.ready) {
		if (c.kind->poll)
			(void)vmbus_netvsc_receive(&c.nv, 0, &f->burst, 64);
		return false;
	}
	if (c.kind->pair && !c.begun) {
		if (f->hellos < 3 || !f->heard)
			flow_hello(f);
		n = vmbus_netvsc_receive(&c.nv, 0, &f->burst, 1);
		if (n == 1) {
			flow_take(f, &f->burst.frame[0]);
			(void)vmbus_netvsc_release(&c.nv, 0, &f->burst);
			flow_hello(f);
			c.begun = true;
		}
		return false;
	}
	n = flow_turn(f);
	if (f->err || f->wrong || (n < 0 && n != VMBUS_E_AGAIN))
		_exit(24);
	return flow_is_done(f);
}

static bool all_finished(void)
{
	uint32_t i;

	if (c.kind->channels == 1)
		return turn_alone();
	if (!c.begun && __atomic_load_n(&c.ready, __ATOMIC_ACQUIRE) &&
	    c.thread[CHANNELS - 1].t.runs && c.thread[1].t.runs) {
		__atomic_store_n(&c.begun, 1, __ATOMIC_RELEASE);
		for (i = 0; i < CHANNELS; i++)
			pairshm_poke(&c.thread[i].t);
	}
	return __atomic_load_n(&c.finished, __ATOMIC_ACQUIRE) == CHANNELS;
}

/* The other end of a pair may have frames of ours on its way still. */
static void linger(struct vmbus_shm_attach *attach)
{
	uint32_t i;

	for (i = 0; c.kind->pair && i < 40; i++) {
		(void)turn_alone();
		(void)vmbus_shm_attach_wait(attach, PAIRSHM_SECOND / 200);
	}
}

static int child(uint8_t id)
{
	struct vmbus_shm_attach *const attach = pairshm_attach(&parent.p, MEMORY_BYTES);
	uint64_t wait;
	uint32_t i;
	int err;

	c.kind = parent.kind;
	if (!attach)
		return 1;
	c.guest = vmbus_shm_guest(attach);
	err = start(id);
	while (!err && !all_finished()) {
		wait = c.kind->poll ? 0 : PAIRSHM_SECOND / 20;
		if (vmbus_shm_attach_wait(attach, wait) == VMBUS_E_PEER)
			err = 5;
	}
	if (!err)
		linger(attach);
	if (!err && vmbus_netvsc_stop(&c.nv))
		err = 8;
	if (!err)
		err = pairshm_wait_closed(attach, &c.closed);
	for (i = 0; i < CHANNELS && !err; i++)
		pairshm_thread_join(&c.thread[i].t);
	if (!err)
		err = report(id);
	vmbus_shm_detach(attach);
	return err;
}

/* ---- a port that sends everything back ---- */

static uint64_t loop_dropped;

static int loop_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	*info = (struct vmbus_port_info){ .queues = CHANNELS, .up = true };
	return 0;
}

static uint32_t loop_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			  uint32_t n)
{
	const uint32_t taken = vmbus_port_deliver(queue, frame, n);

	__atomic_fetch_add(&loop_dropped, n - taken, __ATOMIC_RELAXED);
	return n;
}

static const struct vmbus_port_ops loop_ops = {
	.struct_bytes = sizeof(loop_ops),
	.name = "loop",
	.info = loop_info,
	.send = loop_send,
};

/* ---- the parent ---- */

static void make_nics(struct vmbus_port port[2], uint32_t count)
{
	struct vmbus_net_opts opts = { .struct_bytes = sizeof(opts),
				       .subchannels = CHANNELS - 1,
				       .section_bytes = parent.kind->section,
				       .frames_max = parent.kind->frames_max };
	uint32_t i;

	if (parent.kind->pair)
		must_eq(vmbus_port_pair(PAIR_BYTES, port), 0);
	for (i = 0; i < count; i++) {
		if (!parent.kind->pair)
			port[i] = (struct vmbus_port){ &loop_ops, NULL };
		opts.port = port[i];
		memcpy(opts.mac, (const uint8_t[]){ 2, 0, 0, 0, 0, (uint8_t)(i + 1) }, 6);
		must_eq(vmbus_net_create(&opts, &parent.net[i]), 0);
		parent.p.device[i] = parent.net[i];
	}
	if (parent.kind->pool)
		pairshm_pool(&parent.p);
}

static void check_stats(uint32_t count)
{
	struct vmbus_net_stats stats;
	uint64_t sent = 0, received = 0;
	uint32_t i;

	for (i = 0; i < count; i++) {
		must_eq(vmbus_net_stats(parent.net[i], VMBUS_NET_ALL, &stats), 0);
		must_eq(stats.sent_bad, 0);
		must_eq(stats.no_room, 0);
		must_eq(stats.too_long, 0);
		must(stats.filtered == 0 || parent.kind->pair);
		must_eq(stats.port_sent, 0);
		/* Of a pair: what greeted this side before it was there. */
		must(stats.port_received == 0 || parent.kind->pair);
		must_eq(stats.lent, 0);
		sent += stats.sent_frames;
		received += stats.received_frames;
	}
	must(sent == received || parent.kind->pair);
	must(received >= (uint64_t)parent.kind->frames * parent.kind->channels * count);
	must_eq(loop_dropped, 0);
}

START_TEST(pair__keeps_every_frame)
{
	const uint32_t count = kinds[_i].pair ? 2 : 1;
	struct vmbus_port port[2] = { { 0 } };
	uint32_t i;

	memset(&parent, 0, sizeof(parent));
	loop_dropped = 0;
	parent.kind = &kinds[_i];
	pairshm_begin(&parent.p, "net", vmbus_net_vsp());
	for (i = 0; i < count; i++)
		if (pairshm_fork(&parent.p))
			_exit(child((uint8_t)i));
	make_nics(port, count);
	pairshm_run(&parent.p);
	check_stats(count);
	vmbus_pool_destroy(parent.p.pool);
	for (i = 0; i < count; i++)
		vmbus_net_destroy(parent.net[i]);
	if (kinds[_i].pair) {
		vmbus_port_destroy(&port[0]);
		vmbus_port_destroy(&port[1]);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "processes", 100);

	tcase_add_loop_test(tc, pair__keeps_every_frame, 0,
			    (int)(sizeof(kinds) / sizeof(kinds[0])));
}

VMBUS_TEST_MAIN("net.pair_shm", tests)
