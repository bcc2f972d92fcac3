/* SPDX-License-Identifier: MIT */
/*
 * The pool over channels of a bus: an echo device on the pool's threads, a child made by hand on
 * the test's own, which also dispatches the bus.
 */
#include "bus/fake.h"

#include <vmbus/pool.h>

#define CHANS 8u
#define SECOND 1000000000ull

struct world {
	struct fake f;
	struct vmbus_pool *pool;
	struct vmbus_chan *chan[CHANS];
	struct fake_chan child[CHANS];
	struct fake_echo echo[CHANS];
	uint32_t removed;
};

/* The pointer has no meaning after this, so the pool lets go of the channel here. */
static void removed(void *ctx, struct vmbus_chan *chan)
{
	struct world *w = ctx;

	must_eq(vmbus_pool_remove(w->pool, chan), 0);
	w->removed++;
}

/* The next message, whenever the pool's threads have brought it about. */
static void await(struct world *w, uint32_t type, struct vmbus_ctl *ctl)
{
	const uint64_t end = fake_now_ns() + 30 * SECOND;

	for (;;) {
		struct pollfd p = { .fd = vmbus_bus_fd(w->f.bus), .events = POLLIN };
		const uint32_t got = fake_take(&w->f, ctl);

		if (got) {
			must_eq(got, type);
			return;
		}
		must(fake_now_ns() < end);
		(void)poll(&p, 1, 100);
	}
}

static void world_open(struct world *w, uint32_t threads, uint64_t spin_ns, bool bind)
{
	const struct vmbus_pool_opts opts = {
		.struct_bytes = sizeof(opts), .threads = threads, .budget = 8, .spin_ns = spin_ns
	};
	const struct vmbus_offer_opts own = { .struct_bytes = sizeof(own), .own_fd = true };
	uint32_t i;

	memset(w, 0, sizeof(*w));
	fake_prepare(&w->f, 1024);
	if (bind) {
		w->f.backend.bind = fake_backend_bind;
		w->f.backend.unbind = fake_backend_unbind;
	}
	w->f.opts.removed = removed;
	w->f.opts.removed_ctx = w;
	fake_create(&w->f);
	must_eq(vmbus_pool_create(&opts, &w->pool), 0);
	for (i = 0; i < CHANS; i++) {
		must_eq(vmbus_bus_offer(w->f.bus, &fake_echo_vsp, &w->echo[i], &own, &w->chan[i]),
			0);
		must_eq(vmbus_pool_add(w->pool, w->chan[i]), 0);
	}
	fake_contact(&w->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&w->f, w->child, CHANS), CHANS);
}

static void chan_open(struct world *w, uint32_t i)
{
	struct fake_chan *c = &w->child[i];
	struct vmbus_ctl ctl;

	fake_rings(&w->f, c, 9, 9);
	c->gpadl = w->f.next_gpadl++;
	must_eq(fake_share(&w->f, c->relid, c->gpadl, c->first, 18), 0);
	fake_post_open(&w->f, c, 0);
	await(w, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
}

static void chan_close(struct world *w, uint32_t i)
{
	struct vmbus_ctl ctl;

	fake_post_close(&w->f, &w->child[i]);
	fake_post_teardown(&w->f, w->child[i].relid, w->child[i].gpadl);
	await(w, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	fake_chan_free(&w->child[i]);
}

/* One request on each channel at a time, rounds times; an answer that does not come is a hang. */
static void ping(struct world *w, uint32_t rounds)
{
	struct vmbus_packet pkt[4];
	uint64_t id;
	uint32_t i;

	for (id = 1; id <= rounds; id++) {
		const uint64_t end = fake_now_ns() + 30 * SECOND;

		for (i = 0; i < CHANS; i++)
			must_eq(fake_send(&w->child[i], id, &id, 8), 1);
		for (i = 0; i < CHANS; i++) {
			int got;

			while ((got = fake_receive(&w->child[i], pkt, 4)) == 0)
				must(fake_now_ns() < end);
			must_eq(got, 1);
			must_eq(pkt[0].id, id);
		}
	}
}

static void world_close(struct world *w)
{
	const uint64_t end = fake_now_ns() + 30 * SECOND;
	struct vmbus_pool_stats stats;
	struct vmbus_ctl ctl;
	uint32_t i;

	for (i = 0; i < CHANS; i++)
		must_eq(vmbus_bus_revoke(w->chan[i]), 0);
	for (i = 0; i < CHANS; i++) {
		await(w, VMBUS_CTL_RESCIND, &ctl);
		fake_post_released(&w->f, ctl.u.chan.relid);
	}
	while (w->removed < CHANS) {
		struct pollfd p = { .fd = vmbus_bus_fd(w->f.bus), .events = POLLIN };

		must(fake_now_ns() < end);
		(void)vmbus_bus_dispatch(w->f.bus, 64);
		(void)poll(&p, 1, 10);
	}
	vmbus_pool_stats(w->pool, &stats);
	must_eq(stats.channels, 0);
	fake_fini(&w->f);
	vmbus_pool_destroy(w->pool);
}

static const struct {
	uint32_t threads;
	uint64_t spin_ns;
	bool bind;
} ways[] = { { 1, 0, false },
	     { 3, 0, true },
	     { 1, 20000, true },
	     { 3, 20000, false },
	     { 2, 1000000, true } };

START_TEST(pool__echoes_on_all_channels)
{
	struct world w;
	uint32_t round, i;

	world_open(&w, ways[_i].threads, ways[_i].spin_ns, ways[_i].bind);
	for (round = 0; round < 5; round++) {
		for (i = 0; i < CHANS; i++)
			chan_open(&w, i);
		ping(&w, 100);
		for (i = 0; i < CHANS; i++)
			chan_close(&w, i);
	}
	world_close(&w);
	for (i = 0; i < CHANS; i++) {
		must_eq(w.echo[i].packets, 500);
		must_eq(w.echo[i].opens, 5);
		must_eq(w.echo[i].closes, 5);
	}
}
END_TEST

/* Open channels, rings that were busy, a long spin allowed: no processor time once it is quiet. */
START_TEST(pool__is_quiet_with_open_channels)
{
	const int seconds = vmbus_test_full() ? 10 : 2;
	struct timespec a, b;
	struct world w;
	uint32_t i;
	int64_t used;

	world_open(&w, 3, 1000000, false);
	for (i = 0; i < CHANS; i++)
		chan_open(&w, i);
	ping(&w, 200);
	(void)poll(NULL, 0, 100);
	fake_run(&w.f);
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	(void)poll(NULL, 0, seconds * 1000);
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	used = (b.tv_sec - a.tv_sec) * (int64_t)SECOND + b.tv_nsec - a.tv_nsec;
	vmbus_test_at("%lld ns in %d s", (long long)used, seconds);
	must(used < VMBUS_TEST_IDLE_NS);
	ping(&w, 10);
	for (i = 0; i < CHANS; i++)
		chan_close(&w, i);
	world_close(&w);
}
END_TEST

/* Taken out of the pool in the midst of work, dispatched by hand, given back: nothing is lost. */
START_TEST(pool_remove__hands_the_channel_over)
{
	struct vmbus_packet pkt[4];
	struct world w;
	uint64_t id;
	uint32_t i;

	world_open(&w, 2, 20000, false);
	for (i = 0; i < CHANS; i++)
		chan_open(&w, i);
	for (id = 1; id <= 300; id++) {
		struct vmbus_chan *chan = w.chan[id % CHANS];
		struct fake_chan *c = NULL;
		const uint64_t end = fake_now_ns() + 30 * SECOND;
		struct vmbus_chan_info info;
		int got;

		must_eq(vmbus_pool_remove(w.pool, chan), 0);
		vmbus_chan_info(chan, &info);
		for (i = 0; i < CHANS; i++)
			if (w.child[i].relid == info.relid)
				c = &w.child[i];
		must(c != NULL);
		must_eq(fake_send(c, id, &id, 8), 1);
		if (id % 3 == 0)
			while (vmbus_chan_dispatch(chan, 8) > 0)
				;
		must_eq(vmbus_pool_add(w.pool, chan), 0);
		while ((got = fake_receive(c, pkt, 4)) == 0)
			must(fake_now_ns() < end);
		must_eq(got, 1);
		must_eq(pkt[0].id, id);
	}
	for (i = 0; i < CHANS; i++)
		chan_close(&w, i);
	world_close(&w);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "bus", 20);

	tcase_add_loop_test(tc, pool__echoes_on_all_channels, 0, sizeof(ways) / sizeof(ways[0]));
	tcase_add_test(tc, pool__is_quiet_with_open_channels);
	tcase_add_test(tc, pool_remove__hands_the_channel_over);
}

VMBUS_TEST_MAIN("pool.bus", tests)
