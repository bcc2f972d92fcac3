/* SPDX-License-Identifier: MIT */
/*
 * Channels on threads of their own, and everything that any thread may call while channels come
 * and go.  Run it with the thread sanitizer too.
 */
#include "fake.h"

#include <pthread.h>
#include <sys/eventfd.h>

#define SECOND 1000000000u

static const struct vmbus_offer_opts own_opts = { .struct_bytes = sizeof(own_opts),
						  .own_fd = true };

/* Dispatches one channel until it is told to stop. */
struct worker {
	pthread_t thread;
	struct vmbus_chan *chan;
	atomic_bool stop;
	uint64_t spin_ns;
	int wake; /* an eventfd that ends a sleep */
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct pollfd p[2] = { { .fd = vmbus_chan_fd(w->chan), .events = POLLIN },
			       { .fd = w->wake, .events = POLLIN } };

	while (!atomic_load(&w->stop)) {
		while (vmbus_chan_poll(w->chan, 64, w->spin_ns) > 0)
			;
		(void)poll(p, 2, 1000);
	}
	return NULL;
}

static void worker_start(struct worker *w, struct vmbus_chan *chan, uint64_t spin_ns)
{
	memset(w, 0, sizeof(*w));
	w->chan = chan;
	w->spin_ns = spin_ns;
	w->wake = eventfd(0, EFD_NONBLOCK);
	must(w->wake >= 0);
	must_eq(pthread_create(&w->thread, NULL, work, w), 0);
}

static void worker_stop(struct worker *w)
{
	atomic_store(&w->stop, true);
	(void)eventfd_write(w->wake, 1);
	pthread_join(w->thread, NULL);
	close(w->wake);
}

/* Take the next message, waiting for it. */
static void await(struct fake *f, uint32_t type, struct vmbus_ctl *ctl)
{
	const uint64_t end = fake_now_ns() + 30ull * SECOND;

	for (;;) {
		struct pollfd p = { .fd = vmbus_bus_fd(f->bus), .events = POLLIN };
		const uint32_t got = fake_take(f, ctl);

		if (got) {
			must_eq(got, type);
			return;
		}
		must(fake_now_ns() < end);
		(void)poll(&p, 1, 100);
	}
}

static uint32_t await_open(struct fake *f, struct fake_chan *c)
{
	struct vmbus_ctl ctl;

	fake_rings(f, c, 9, 9);
	c->gpadl = f->next_gpadl++;
	must_eq(fake_share(f, c->relid, c->gpadl, c->first, 18), 0);
	fake_post_open(f, c, 0);
	await(f, VMBUS_CTL_OPEN_RESULT, &ctl);
	return ctl.u.result.status;
}

static void await_close(struct fake *f, struct fake_chan *c)
{
	struct vmbus_ctl ctl;

	fake_post_close(f, c);
	fake_post_teardown(f, c->relid, c->gpadl);
	await(f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
}

/* Requests one by one; each sleeps until the other side has answered. */
static void ping(struct fake *f, struct fake_chan *c, uint32_t rounds)
{
	struct vmbus_packet pkt[4];
	uint64_t id;

	(void)f;
	for (id = 1; id <= rounds; id++) {
		const uint64_t end = fake_now_ns() + 30ull * SECOND;
		int got;

		must_eq(fake_send(c, id, &id, 8), 1);
		while ((got = fake_receive(c, pkt, 4)) == 0)
			must(fake_now_ns() < end);
		must_eq(got, 1);
		must_eq(pkt[0].id, id);
	}
}

static void own_thread(uint64_t spin_ns, bool bind)
{
	struct fake f;
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct vmbus_chan *chan;
	struct worker w;
	uint32_t round;

	fake_prepare(&f, 256);
	if (bind) {
		f.backend.bind = fake_backend_bind;
		f.backend.unbind = fake_backend_unbind;
	}
	fake_create(&f);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &own_opts, &chan), 0);
	must(vmbus_chan_fd(chan) >= 0);
	worker_start(&w, chan, spin_ns);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	for (round = 0; round < 20; round++) {
		must_eq(await_open(&f, &c), 0);
		must_eq(f.binds, bind ? round + 1 : 0);
		ping(&f, &c, 200);
		await_close(&f, &c);
	}
	must_eq(f.unbinds, f.binds);
	worker_stop(&w);
	must_eq(echo.packets, 20 * 200);
	must_eq(echo.opens, 20);
	must_eq(echo.closes, 20);
	fake_chan_free(&c);
	fake_fini(&f);
}

START_TEST(chan_dispatch__on_a_thread)
{
	own_thread(0, false);
}
END_TEST

START_TEST(chan_poll__on_a_thread)
{
	own_thread(20000, false);
}
END_TEST

START_TEST(chan_dispatch__bound)
{
	own_thread(0, true);
}
END_TEST

/* The child's signals by the descriptor that was bound, and not through the bus. */
static void signal_bound(void *ctx)
{
	struct fake_chan *c = ctx;
	uint32_t i;

	c->signals++;
	for (i = 0; i < 16; i++)
		if (c->fake->bound_conn[i] == c->conn)
			(void)!eventfd_write(c->fake->bound[i], 1);
}

static void bound_only(bool own)
{
	struct fake f;
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct vmbus_chan *chan;
	struct vmbus_packet pkt[4];
	struct vmbus_bus_stats stats;
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = own };
	uint64_t id;

	fake_prepare(&f, 256);
	f.backend.bind = fake_backend_bind;
	f.backend.unbind = fake_backend_unbind;
	f.opts.bind_all = true;
	fake_create(&f);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &opts, &chan), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	fake_rings(&f, &c, 3, 3);
	c.gpadl = 4;
	must_eq(fake_share(&f, c.relid, 4, c.first, 6), 0);
	fake_post_open(&f, &c, 0);
	fake_run(&f);
	while (own && (vmbus_chan_dispatch(chan, 64) > 0 || fake_readable(vmbus_chan_fd(chan))))
		;
	fake_expect(&f, VMBUS_CTL_OPEN_RESULT, NULL);
	c.tx.signal_p = signal_bound;
	while (own && (vmbus_chan_dispatch(chan, 64) > 0 || fake_readable(vmbus_chan_fd(chan))))
		;
	for (id = 1; id < 100; id++) {
		must(!fake_readable(own ? vmbus_chan_fd(chan) : vmbus_bus_fd(f.bus)));
		must_eq(fake_send(&c, id, &id, 8), 1);
		must(fake_readable(own ? vmbus_chan_fd(chan) : vmbus_bus_fd(f.bus)));
		if (own)
			must_eq(vmbus_chan_dispatch(chan, 64), 1);
		else
			fake_run(&f);
		must_eq(fake_receive(&c, pkt, 4), 1);
		(void)fake_receive(&c, pkt, 4);
	}
	vmbus_bus_stats(f.bus, &stats);
	must_eq(stats.signals, own ? 0 : 99);
	fake_chan_free(&c);
	fake_fini(&f);
	must_eq(f.unbinds, 1);
}

START_TEST(bind__signals_go_past_the_bus)
{
	bound_only(true);
	bound_only(false);
}
END_TEST

/* A child that fills the descriptor it was given harms only itself. */
START_TEST(bind__hostile_descriptor)
{
	struct fake f;
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct vmbus_chan *chan;
	uint64_t id = 1;

	fake_prepare(&f, 256);
	f.backend.bind = fake_backend_bind;
	f.backend.unbind = fake_backend_unbind;
	fake_create(&f);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &own_opts, &chan), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	fake_rings(&f, &c, 3, 3);
	c.gpadl = 4;
	must_eq(fake_share(&f, c.relid, 4, c.first, 6), 0);
	fake_post_open(&f, &c, 0);
	fake_run(&f);
	while (vmbus_chan_dispatch(chan, 64) > 0 || fake_readable(vmbus_chan_fd(chan)))
		;
	fake_expect(&f, VMBUS_CTL_OPEN_RESULT, NULL);
	must_eq(eventfd_write(f.bound[0], UINT64_MAX - 1), 0); /* full */
	(void)vmbus_chan_dispatch(chan, 64);
	must(!fake_readable(vmbus_chan_fd(chan)));
	must_eq(fake_send(&c, id, &id, 8), 1); /* its signal by the bus still comes through */
	must_eq(vmbus_chan_dispatch(chan, 64), 1);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

/* ---- threads that post and signal while channels come and go ---- */

struct storm {
	struct fake f;
	atomic_bool stop;
	atomic_ullong posts, refused, unknown, signals;
};

static void *storm_thread(void *arg)
{
	struct storm *s = arg;
	uint8_t junk[16] = { 250 };
	uint32_t n = 0;

	while (!atomic_load(&s->stop)) {
		uint32_t status = vmbus_bus_signal_event(s->f.bus, 0x2001 + n % 16, 0);

		must(status == VMBUS_HC_OK || status == VMBUS_HC_CONNECTION_ID);
		atomic_fetch_add(status ? &s->unknown : &s->signals, 1);
		if (n % 8 == 0) {
			status = vmbus_bus_post_message(s->f.bus, 1, 1, junk, sizeof(junk));
			must(status == VMBUS_HC_OK || status == VMBUS_HC_NO_BUFFERS);
			atomic_fetch_add(status ? &s->refused : &s->posts, 1);
		}
		if (n % 64 == 0)
			vmbus_bus_slot_free(s->f.bus, n % 4, 2);
		if (n % 4096 == 0)
			must(!vmbus_bus_in_callback(s->f.bus));
		if (n % 16 == 0) {
			uint64_t word;

			(void)vmbus_bus_mem_read(s->f.bus, (vmbus_gpa_t){ 4096 + n % 512 }, &word,
						 8);
		}
		n++;
	}
	return NULL;
}

START_TEST(bus__four_threads_while_channels_come_and_go)
{
	static struct storm s;
	struct fake_echo echo = { 0 };
	pthread_t threads[4];
	struct vmbus_region extra = {
		.gpa = (uint64_t)1 << 30, .bytes = 1 << 16, .fd = -1, .access = VMBUS_READ_WRITE
	};
	uint32_t i, round, offered = 0;
	const uint32_t rounds = vmbus_test_full() ? 20000 : 1000;

	memset(&s, 0, sizeof(s));
	fake_init(&s.f, 64);
	s.f.drop = true;
	extra.host = aligned_alloc(4096, 1 << 16);
	for (i = 0; i < 4; i++)
		must_eq(pthread_create(&threads[i], NULL, storm_thread, &s), 0);
	for (round = 0; round < rounds; round++) {
		struct vmbus_chan *chan[8];

		for (i = 0; i < 8; i++)
			must_eq(vmbus_bus_offer(s.f.bus, &fake_echo_vsp, &echo,
						i & 1 ? &own_opts : NULL, &chan[i]),
				0);
		(void)vmbus_bus_dispatch(s.f.bus, 16);
		for (i = 0; i < 8; i++)
			must_eq(vmbus_bus_revoke(chan[i]), 0);
		offered += 8;
		while (s.f.removed < offered)
			(void)vmbus_bus_dispatch(s.f.bus, 16);
		if (round % 16 == 0) {
			must_eq(vmbus_bus_mem_add(s.f.bus, &extra), 0);
			must_eq(vmbus_bus_mem_remove(s.f.bus, &extra), 0);
		}
	}
	atomic_store(&s.stop, true);
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	must(atomic_load(&s.posts) > 0);
	free(extra.host);
	fake_fini(&s.f);
}
END_TEST

/* Every message that was taken is handled once, whichever thread posted it. */
static void *post_teardowns(void *arg)
{
	struct storm *s = arg;
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_MODIFY };
	uint32_t n;

	ctl.u.modify.relid = 77;
	for (n = 0; n < 2000;)
		if (fake_try_post(&s->f, 1, &ctl) == VMBUS_HC_OK)
			n++;
	return NULL;
}

START_TEST(bus_post_message__each_is_answered_once)
{
	static struct storm s;
	pthread_t threads[4];
	uint32_t i;
	const uint64_t end = fake_now_ns() + 60ull * SECOND;

	memset(&s, 0, sizeof(s));
	fake_init(&s.f, 64);
	fake_contact(&s.f, VMBUS_PROTO_5_3);
	s.f.drop = true;
	for (i = 0; i < 4; i++)
		must_eq(pthread_create(&threads[i], NULL, post_teardowns, &s), 0);
	while (s.f.dropped < 8000) {
		(void)vmbus_bus_dispatch(s.f.bus, 64);
		must(fake_now_ns() < end);
	}
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	fake_run(&s.f);
	must_eq(s.f.dropped, 8000); /* one MODIFY_RESPONSE each */
	fake_fini(&s.f);
}
END_TEST

/* Own threads, listings, modify, revoke, faults and resets at once. */
START_TEST(chan__own_thread_life)
{
	struct fake f;
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct vmbus_chan *chan;
	struct worker w;
	struct vmbus_ctl ctl;
	uint32_t round;

	fake_init(&f, 256);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &own_opts, &chan), 0);
	worker_start(&w, chan, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	for (round = 0; round < 50; round++) {
		struct vmbus_chan_info info;

		must_eq(await_open(&f, &c), 0);
		vmbus_chan_info(chan, &info);
		memset(&ctl, 0, sizeof(ctl));
		ctl.type = VMBUS_CTL_MODIFY;
		ctl.u.modify.relid = c.relid;
		ctl.u.modify.target_vp = round % 4;
		fake_post(&f, &ctl);
		await(&f, VMBUS_CTL_MODIFY_RESPONSE, &ctl);
		must_eq(ctl.u.modify.status, 0);
		ping(&f, &c, 20);
		vmbus_chan_info(chan, &info);
		must_eq(info.target_vp, round % 4);
		if (round % 3 == 0) { /* a write index that cannot be */
			__atomic_store_n((uint32_t *)(void *)(f.mem + c.first * FAKE_PAGE), 3,
					 __ATOMIC_SEQ_CST);
			vmbus_bus_signal_event(f.bus, c.conn, 0);
			await(&f, VMBUS_CTL_RESCIND, &ctl);
			fake_post_teardown(&f, c.relid, c.gpadl);
			await(&f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
			fake_post_released(&f, c.relid);
			await(&f, VMBUS_CTL_OFFER, &ctl);
			c.relid = ctl.u.offer.relid;
			c.conn = ctl.u.offer.conn_id;
		} else if (round % 3 == 1) {
			memset(&ctl, 0, sizeof(ctl));
			ctl.type = VMBUS_CTL_CONTACT;
			ctl.u.contact.version = VMBUS_PROTO_5_3;
			ctl.u.contact.target_sint = 2;
			must_eq(fake_try_post(&f, 4, &ctl), 0);
			await(&f, VMBUS_CTL_VERSION_RESPONSE, &ctl);
			fake_chan_free(&c);
			f.next_page = 1; /* nothing of the child's is in use any more */
			must_eq(fake_offers(&f, &c, 1), 1);
		} else {
			await_close(&f, &c);
		}
	}
	must_eq(vmbus_bus_revoke(chan), 0);
	await(&f, VMBUS_CTL_RESCIND, &ctl);
	worker_stop(&w);
	must_eq(echo.opens, echo.closes);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

/* A device that looks who calls it, and whether two do at once. */
struct watched {
	struct fake *f;
	struct worker *w;
	pthread_t packets_by, closed_by;
	atomic_uint inside, entered, overlaps, opens, closes;
	uint32_t nap_us;
	bool removed_after_close;
	int in_callback; /* what a dispatch within a callback said */
	bool misuse;
};

static int watched_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	atomic_fetch_add(&((struct watched *)ctx)->opens, 1);
	return 0;
}

static void watched_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct watched *d = vmbus_chan_ctx(chan);

	(void)pkt;
	(void)n;
	atomic_fetch_add(&d->inside, 1);
	d->packets_by = pthread_self();
	atomic_store(&d->entered, 1);
	if (d->misuse) {
		d->in_callback = vmbus_chan_fd(chan) >= 0 ? vmbus_chan_dispatch(chan, 8)
							  : vmbus_bus_dispatch(d->f->bus, 8);
		vmbus_bus_destroy(d->f->bus); /* it is ignored */
	}
	if (d->nap_us)
		usleep(d->nap_us);
	atomic_fetch_sub(&d->inside, 1);
}

static int watched_close(struct vmbus_chan *chan)
{
	struct watched *d = vmbus_chan_ctx(chan);

	if (atomic_load(&d->inside))
		atomic_fetch_add(&d->overlaps, 1);
	d->closed_by = pthread_self();
	atomic_fetch_add(&d->closes, 1);
	return 0;
}

static const struct vmbus_vsp watched_vsp = {
	.struct_bytes = sizeof(watched_vsp),
	.name = "watched",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0002, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 2),
	.open = watched_open,
	.packets = watched_packets,
	.close = watched_close,
};

/* removed(): the end of the channel's thread, as a pool's or a program's own. */
static void watched_removed(void *ctx, struct vmbus_chan *chan)
{
	struct fake *f = ctx;
	struct watched *d = vmbus_chan_ctx(chan);

	d->removed_after_close = atomic_load(&d->closes) == 1;
	if (d->w)
		worker_stop(d->w);
	f->removed++;
}

/* An open channel of that device, with or without a thread of its own. */
static void watched_start(struct fake *f, struct watched *d, struct fake_chan *c, struct worker *w,
			  bool own)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = own };
	struct vmbus_chan *chan;

	fake_prepare(f, 256);
	f->opts.removed = watched_removed;
	fake_create(f);
	d->f = f;
	d->w = w;
	must_eq(vmbus_bus_offer(f->bus, &watched_vsp, d, &opts, &chan), 0);
	if (w)
		worker_start(w, chan, 0);
	fake_contact(f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(f, c, 1), 1);
	must_eq(await_open(f, c), 0);
}

static void await_entered(struct watched *d)
{
	const uint64_t end = fake_now_ns() + 30ull * SECOND;

	while (!atomic_load(&d->entered))
		must(fake_now_ns() < end);
}

START_TEST(bus_destroy__closes_on_the_thread_of_the_channel)
{
	struct watched d = { .nap_us = 30000 };
	struct fake_chan c;
	struct worker w;
	struct fake f;

	watched_start(&f, &d, &c, &w, true);
	must_eq(fake_send(&c, 1, &c, 8), 1);
	await_entered(&d);
	fake_chan_free(&c);
	fake_fini(&f); /* while packets() runs */
	must_eq(d.closes, 1);
	must_eq(d.overlaps, 0);
	must(pthread_equal(d.closed_by, d.packets_by));
	must(d.removed_after_close);
	must_eq(f.removed, 1);
}
END_TEST

START_TEST(bus_destroy__waits_for_a_callback_that_runs)
{
	struct watched d = { .nap_us = 300000 }; /* longer than the time to come */
	struct fake_chan c;
	struct worker w;
	struct fake f;

	watched_start(&f, &d, &c, &w, true);
	must_eq(fake_send(&c, 1, &c, 8), 1);
	await_entered(&d);
	fake_chan_free(&c);
	fake_fini(&f);
	must_eq(d.closes, 1);
	must_eq(d.overlaps, 0);
	must_eq(f.removed, 1);
}
END_TEST

START_TEST(bus_destroy__closes_for_a_thread_that_left)
{
	struct watched d = { 0 };
	struct fake_chan c;
	struct worker w;
	struct fake f;
	uint64_t begin;

	watched_start(&f, &d, &c, &w, true);
	worker_stop(&w);
	d.w = NULL;
	fake_chan_free(&c);
	begin = fake_now_ns();
	fake_fini(&f);
	must(fake_now_ns() - begin < 10ull * SECOND);
	must_eq(d.closes, 1);
	must(pthread_equal(d.closed_by, pthread_self()));
	must_eq(f.removed, 1);
}
END_TEST

/* A device of two channels that has a view of one's pages until the other is closed. */
struct pair {
	struct vmbus_chan *of; /* whose pages */
	struct vmbus_piece pieces[4];
	struct vmbus_sgl sgl;
	atomic_uint err, entered, closes;
};

static int pair_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	(void)ctx;
	return 0;
}

static void pair_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct pair *d = vmbus_chan_ctx(chan);

	(void)pkt;
	(void)n;
	d->of = chan;
	atomic_store(&d->err, (unsigned)-vmbus_chan_gpadl(chan, 77, VMBUS_READ, &d->sgl));
	atomic_store(&d->entered, 1);
}

static int pair_close(struct vmbus_chan *chan)
{
	struct pair *d = vmbus_chan_ctx(chan);

	if (chan != d->of)
		vmbus_sgl_release(&d->sgl);
	atomic_fetch_add(&d->closes, 1);
	return 0;
}

static const struct vmbus_vsp pair_vsp = {
	.struct_bytes = sizeof(pair_vsp),
	.name = "pair",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0002, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 3),
	.open = pair_open,
	.packets = pair_packets,
	.close = pair_close,
};

START_TEST(bus_destroy__of_a_device_whose_channels_wait_for_each_other)
{
	struct pair d = { .sgl = { .pieces = d.pieces, .room = 4 } };
	struct vmbus_chan *chan;
	struct fake_chan c[2];
	struct worker w[2];
	struct fake f;
	uint64_t end;
	uint32_t i;

	fake_init(&f, 256);
	for (i = 0; i < 2; i++) {
		must_eq(vmbus_bus_offer(f.bus, &pair_vsp, &d, &own_opts, &chan), 0);
		worker_start(&w[i], chan, 0);
	}
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, 2), 2);
	must_eq(await_open(&f, &c[0]), 0);
	must_eq(await_open(&f, &c[1]), 0);
	must_eq(fake_share(&f, c[_i].relid, 77, fake_pages(&f, 2), 2), 0);
	must_eq(fake_send(&c[_i], 1, &c, 8), 1);
	for (end = fake_now_ns() + 30ull * SECOND; !atomic_load(&d.entered);)
		must(fake_now_ns() < end);
	must_eq(atomic_load(&d.err), 0);
	for (i = 0; i < 2; i++) { /* nobody comes for the channels any more */
		worker_stop(&w[i]);
		fake_chan_free(&c[i]);
	}
	fake_fini(&f);
	must_eq(d.closes, 2);
	must_eq(f.removed, 2);
}
END_TEST

START_TEST(bus_destroy__and_dispatch_in_a_callback)
{
	struct watched d = { .misuse = true };
	struct fake_chan c;
	struct worker w;
	struct fake f;

	/* of a channel with a thread of its own */
	watched_start(&f, &d, &c, &w, true);
	must_eq(fake_send(&c, 1, &c, 8), 1);
	await_entered(&d);
	fake_chan_free(&c);
	fake_fini(&f);
	must_eq(d.in_callback, VMBUS_E_STATE);
	must_eq(f.removed, 1);
	/* of one without */
	d = (struct watched){ .misuse = true };
	watched_start(&f, &d, &c, NULL, false);
	must_eq(fake_send(&c, 1, &c, 8), 1);
	must_eq(vmbus_bus_signal_event(f.bus, c.conn, 0), VMBUS_HC_OK);
	fake_run(&f);
	must_eq(d.entered, 1);
	must_eq(d.in_callback, VMBUS_E_STATE);
	must_eq(d.closes, 0);
	must(fake_logged(&f, "destroy"));
	fake_chan_free(&c);
	fake_fini(&f);
	must_eq(d.closes, 1);
}
END_TEST

static void *send_later(void *arg)
{
	(void)poll(NULL, 0, 50);
	must_eq(fake_send(arg, 0, &own_opts, 8), 1);
	return NULL;
}

/* However long the spin may be, past the end of the clock too, it waits for the packet. */
START_TEST(chan_poll__spins_without_end)
{
	const uint64_t spin_ns = UINT64_MAX - (_i ? fake_now_ns() : 0);
	struct fake_echo echo = { 0 };
	struct vmbus_chan *chan;
	struct fake_chan c;
	pthread_t thread;
	struct worker w;
	struct fake f;

	fake_init(&f, 64);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &own_opts, &chan), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	worker_start(&w, chan, 0);
	must_eq(await_open(&f, &c), 0);
	worker_stop(&w);
	must_eq(vmbus_chan_dispatch(chan, 8), 0);
	must_eq(pthread_create(&thread, NULL, send_later, &c), 0);
	must_eq(vmbus_chan_poll(chan, 8, spin_ns), 1);
	must_eq(pthread_join(thread, NULL), 0);
	must_eq(echo.packets, 1);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "threads", 20);

	tcase_add_test(tc, chan_dispatch__on_a_thread);
	tcase_add_test(tc, chan_poll__on_a_thread);
	tcase_add_loop_test(tc, chan_poll__spins_without_end, 0, 2);
	tcase_add_test(tc, chan_dispatch__bound);
	tcase_add_test(tc, bind__signals_go_past_the_bus);
	tcase_add_test(tc, bind__hostile_descriptor);
	tcase_add_test(tc, bus__four_threads_while_channels_come_and_go);
	tcase_add_test(tc, bus_post_message__each_is_answered_once);
	tcase_add_test(tc, chan__own_thread_life);
	tcase_add_test(tc, bus_destroy__closes_on_the_thread_of_the_channel);
	tcase_add_test(tc, bus_destroy__waits_for_a_callback_that_runs);
	tcase_add_test(tc, bus_destroy__closes_for_a_thread_that_left);
	tcase_add_loop_test(tc, bus_destroy__of_a_device_whose_channels_wait_for_each_other, 0, 2);
	tcase_add_test(tc, bus_destroy__and_dispatch_in_a_callback);
}

VMBUS_TEST_MAIN("bus.threads", tests)
