/* SPDX-License-Identifier: MIT */
/*
 * A provider that spins before it sleeps: no signals while it does, everything else in time, and sleep
 * when there is nothing.
 */
#include "play.h"

#include <time.h>

/* The thread of the provider. */
struct loop {
	struct play *p;
	pthread_t thread;
	atomic_uint stop;
	atomic_int end; /* what the last wait said */
};

static void *loop_thread(void *arg)
{
	struct loop *const l = arg;
	int got = 0;

	while (!atomic_load(&l->stop) && (got >= 0 || got == VMBUS_E_AGAIN))
		got = vmbus_provider_wait(l->p->provider, 20 * MS);
	atomic_store(&l->end, got);
	return NULL;
}

static void loop_begin(struct loop *l, struct play *p)
{
	*l = (struct loop){ .p = p };
	must_eq(pthread_create(&l->thread, NULL, loop_thread, l), 0);
}

static void loop_end(struct loop *l)
{
	atomic_store(&l->stop, 1);
	must_eq(pthread_join(l->thread, NULL), 0);
}

static void start(struct play *p, uint64_t spin_ns)
{
	play_prepare(p);
	p->spin_ns = spin_ns;
	must_eq(attach(p, NULL), 0);
	bring_bus(p);
	open_chan(p);
}

/* One request and its answer; false: none came in time. */
static bool exchange(struct play *p, uint64_t id)
{
	const uint64_t end = vmbus__shm_now_ns() + 10000 * MS;
	const struct vmbus_msg msg = { .id = id,
				       .data = &id,
				       .len = sizeof(id),
				       .type = VMBUS_PKT_INBAND,
				       .flags = VMBUS_PKT_FLAG_COMPLETE };
	struct vmbus_packet pkt;

	if (vmbus_ring_tx_put(&p->tx, &msg, 1) != 1)
		return false;
	while (vmbus_ring_rx_get(&p->rx, &pkt, 1) == 0)
		if (vmbus__shm_now_ns() > end)
			return false;
	return pkt.id == id;
}

static uint64_t signals(const struct play *p)
{
	struct vmbus_ring_stats stats;

	vmbus_ring_tx_stats(&p->tx, &stats);
	return stats.signals;
}

static uint64_t cpu_ns(pthread_t thread)
{
	struct timespec t;
	clockid_t clock;

	must_eq(pthread_getcpuclockid(thread, &clock), 0);
	must_eq(clock_gettime(clock, &t), 0);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Few requests are signalled, and when nothing comes any more it sleeps, and is woken. */
START_TEST(provider_wait__spins_and_sleeps)
{
	struct play p;
	struct loop l;
	uint64_t id, before, until;

	start(&p, 50 * MS);
	loop_begin(&l, &p);
	for (id = 1; id <= 400; id++)
		must(exchange(&p, id));
	must(signals(&p) < 200); /* all but all of them, if it did not spin */
	until = vmbus__shm_now_ns() + 10000 * MS;
	do { /* some 50 ms later it sleeps */
		must(vmbus__shm_now_ns() < until);
		before = cpu_ns(l.thread);
		usleep(100000);
	} while (cpu_ns(l.thread) - before > 10 * MS);
	before = signals(&p);
	must(exchange(&p, id));
	must_eq(signals(&p), before + 1);
	loop_end(&l);
	play_fini(&p);
}
END_TEST

/* Without spin_ns nothing is looked at that was not signalled. */
START_TEST(provider_wait__does_not_spin_unasked)
{
	struct play p;
	struct loop l;
	uint64_t id, before;

	start(&p, 0);
	loop_begin(&l, &p);
	for (id = 1; id <= 50; id++) {
		usleep(2000); /* it sleeps meanwhile */
		must(exchange(&p, id));
	}
	before = cpu_ns(l.thread);
	usleep(100000);
	must(cpu_ns(l.thread) - before < 10 * MS);
	must(signals(&p) > 25);
	loop_end(&l);
	play_fini(&p);
}
END_TEST

/* While packets never end, what the parent says is heard. */
START_TEST(provider_wait__hears_the_parent_while_it_spins)
{
	const uint64_t end = vmbus__shm_now_ns() + 20000 * MS;
	struct vmbus__pv_msg list, gone = { .type = VMBUS_PV_GPADL_GONE, .bus = 1, .gpadl = 6 };
	struct vmbus__pv_msg msg;
	struct vmbus__shm_record record;
	struct play p;
	struct loop l;
	uint64_t id = 1;
	uint32_t n;

	start(&p, 50 * MS);
	loop_begin(&l, &p);
	list = list_msg();
	list.gpadl = 6;
	for (n = 0; n < 3; n++) {
		script_send(p.sock, &list);
		script_send(p.sock, &gone);
		do {
			must(exchange(&p, id++));
			must(vmbus__shm_now_ns() < end);
		} while (!script_take(p.sock, &record, &msg));
		must_eq(msg.type, VMBUS_PV_GPADL_DONE);
	}
	msg = (struct vmbus__pv_msg){ .type = VMBUS_PV_CLOSE, .bus = 1, .open = 3 };
	script_send(p.sock, &msg);
	while (!script_take(p.sock, &record, &msg))
		must(vmbus__shm_now_ns() < end);
	must_eq(msg.type, VMBUS_PV_CLOSED);
	loop_end(&l);
	must_eq(closes, 1);
	play_fini(&p);
}
END_TEST

/* The parent goes while it spins. */
START_TEST(provider_wait__ends_while_it_spins)
{
	struct play p;
	struct loop l;
	uint64_t id;

	start(&p, _i ? 900 * MS : 1 * MS);
	loop_begin(&l, &p);
	for (id = 1; id <= 100; id++)
		must(exchange(&p, id));
	close(p.sock);
	p.sock = -1;
	must_eq(pthread_join(l.thread, NULL), 0);
	must_eq(atomic_load(&l.end), VMBUS_E_PEER);
	must_eq(closes, 1);
	play_fini(&p);
}
END_TEST

START_TEST(provider_attach__spin_ns_is_bounded)
{
	struct play p;

	play_prepare(&p);
	p.spin_ns = 1000000001u;
	p.answer.type = 0;
	{
		const struct vmbus_provider_opts opts = { .struct_bytes = sizeof(opts),
							  .path = p.path,
							  .name = "test",
							  .vsp = &p.vsp,
							  .spin_ns = p.spin_ns };

		must_eq(vmbus_provider_attach(&opts, &p.provider), VMBUS_E_RANGE);
	}
	play_fini(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "spin", 60);

	tcase_add_test(tc, provider_wait__spins_and_sleeps);
	tcase_add_test(tc, provider_wait__does_not_spin_unasked);
	tcase_add_test(tc, provider_wait__hears_the_parent_while_it_spins);
	tcase_add_loop_test(tc, provider_wait__ends_while_it_spins, 0, 2);
	tcase_add_test(tc, provider_attach__spin_ns_is_bounded);
}

VMBUS_TEST_MAIN("provider.spin", tests)
