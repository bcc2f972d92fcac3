/* SPDX-License-Identifier: MIT */
/* Wake-ups: what they cost while nothing happens, and that none is lost between two threads. */
#include "uio/drive.h"

#include <pthread.h>

/* What an open channel with a monitor costs while nothing happens; VMBUS_TEST_LOG=1 prints it. */
START_TEST(uio__an_idle_monitor_has_its_price)
{
	static const uint32_t every_us[] = { 100, 1000, 10000 };
	struct timespec from, to;
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;
	uint64_t end, spent;
	uint32_t interrupts;

	heard = 0;
	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, every_us[_i]);
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	drive(uio, heard == 5);
	drive(uio, fake_now_ns() > 0 && vmbus_uio_dispatch(uio, 64) == 0);
	interrupts = k.interrupts;
	end = fake_now_ns() + SECOND;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	while (fake_now_ns() < end) {
		struct pollfd p = { .fd = vmbus_bus_fd(k.f.bus), .events = POLLIN };

		(void)poll(&p, 1, 100);
		kernel_run(&k);
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	spent = (uint64_t)(to.tv_sec - from.tv_sec) * SECOND + (uint64_t)to.tv_nsec -
		(uint64_t)from.tv_nsec;
	if (getenv("VMBUS_TEST_LOG"))
		printf("monitor looked at every %u us: %.2f %% of a processor\n", every_us[_i],
		       (double)spent / 1e7);
	must(spent < SECOND / 2);
	must(k.interrupts - interrupts <= 1); /* the one 100 ms after the open */
	close_channel(uio);
	/* Closed, it costs nothing: nobody wakes the bus. */
	while (vmbus_bus_dispatch(k.f.bus, 64) > 0)
		;
	usleep(20000);
	must(!fake_readable(vmbus_bus_fd(k.f.bus)) || vmbus_bus_dispatch(k.f.bus, 64) >= 0);
	usleep(20000);
	must(!fake_readable(vmbus_bus_fd(k.f.bus)));
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

/* What a dispatch has left for the next one does not keep a wait awake. */
START_TEST(uio__a_wait_sleeps_after_a_dispatch_that_was_full)
{
	struct timespec from, to;
	struct vmbus_vsc_opts opts;
	struct vmbus_uio *uio;
	uint64_t spent;

	kernel_init(&k, &early_vsp, NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	must_eq(vmbus_uio_dispatch(uio, 1), 1);
	must(fake_readable(vmbus_uio_fd(uio)));
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	must_eq(vmbus_guest_wait(vmbus_uio_guest(uio), VMBUS_GUEST_IDLE, SECOND / 2),
		VMBUS_E_AGAIN);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	spent = (uint64_t)(to.tv_sec - from.tv_sec) * SECOND + (uint64_t)to.tv_nsec -
		(uint64_t)from.tv_nsec;
	must(spent < SECOND / 20);
	kernel_run(&k);
	close_channel(uio);
	vmbus_uio_close(uio);
	kernel_end(&k);
}
END_TEST

/* ---- the parent in a thread of its own ---- */

static int parent_stop;

static void *parent(void *unused)
{
	(void)unused;
	while (!__atomic_load_n(&parent_stop, __ATOMIC_ACQUIRE)) {
		struct pollfd p = { .fd = vmbus_bus_fd(k.f.bus), .events = POLLIN };

		(void)poll(&p, 1, 20);
		kernel_run(&k);
	}
	return NULL;
}

static void no_wakeup_is_lost(uint64_t packets, uint32_t window, bool masks)
{
	struct vmbus_echo *const echo = calloc(1, sizeof(*echo));
	struct vmbus_echo_opts opts;
	struct vmbus_uio *uio;
	pthread_t thread;
	uint64_t seen = 0, last = fake_now_ns();

	parent_stop = 0;
	kernel_init(&k, vmbus_echo_vsp(), NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	k.masks = masks;
	uio = kernel_connect_uio(&k);
	opts = echo_opts(uio, packets, window);
	must_eq(vmbus_echo_start(echo, k.vsc, &opts), 0);
	open_alone(uio);
	must_eq(pthread_create(&thread, NULL, parent, NULL), 0);
	while (!echo->done) {
		const int got = vmbus_uio_wait(uio, SECOND);

		must(got >= 0 || got == VMBUS_E_AGAIN);
		if (echo->received != seen) {
			seen = echo->received;
			last = fake_now_ns();
		}
		vmbus_test_at("%llu of %llu", (unsigned long long)seen,
			      (unsigned long long)packets);
		must(fake_now_ns() - last < DEADLINE_NS);
	}
	must_eq(echo->received, packets);
	must_eq(echo->wrong, 0);
	__atomic_store_n(&parent_stop, 1, __ATOMIC_RELEASE);
	must_eq(pthread_join(thread, NULL), 0);
	vmbus_uio_close(uio);
	kernel_end(&k);
	free(echo);
}

START_TEST(uio__no_wakeup_is_lost_one_by_one)
{
	no_wakeup_is_lost(vmbus_test_full() ? 100000 : 3000, 1, _i != 0);
}
END_TEST

START_TEST(uio__no_wakeup_is_lost_in_windows)
{
	no_wakeup_is_lost(vmbus_test_full() ? 1000000 : 50000, 300, _i != 0);
}
END_TEST

/* ---- a channel with a thread of its own ---- */

#define OWN_REQUESTS 2000u

static struct {
	int fd; /* rung by wake() */
	uint32_t sent, done;
	int finished;
} own;

static void own_completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	(void)vsc;
	must(pkt != NULL && pkt->len == 8);
	must_eq((uintptr_t)cookie, own.done + 1u);
	own.done++;
}

static void own_wake(struct vmbus_vsc *vsc)
{
	(void)vsc;
	(void)eventfd_write(own.fd, 1);
}

static void own_send(struct vmbus_vsc *vsc)
{
	const struct vmbus_msg msg = { .data = early, .len = 8, .type = VMBUS_PKT_INBAND };

	while (own.sent < OWN_REQUESTS && own.sent - own.done < 20) {
		must_eq(vmbus_vsc_request(vsc, &msg, (void *)(uintptr_t)(own.sent + 1u)), 0);
		own.sent++;
	}
}

static void *own_thread(void *arg)
{
	struct vmbus_vsc *const vsc = arg;
	eventfd_t count;
	int got;

	for (;;) {
		struct pollfd p = { .fd = own.fd, .events = POLLIN };

		own_send(vsc);
		got = vmbus_vsc_dispatch(vsc, 64);
		if (own.done == OWN_REQUESTS)
			__atomic_store_n(&own.finished, 1, __ATOMIC_RELEASE);
		if (got < 0)
			return NULL;
		if (got == 0) {
			must_eq(poll(&p, 1, 20000), 1);
			(void)eventfd_read(own.fd, &count);
		}
	}
}

START_TEST(uio__a_channel_with_a_thread_of_its_own)
{
	struct vmbus_vsc_opts opts;
	pthread_t bus, thread;
	struct vmbus_uio *uio;
	uint64_t end;

	memset(&own, 0, sizeof(own));
	opened_calls = closed_calls = 0;
	parent_stop = 0;
	own.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	kernel_init(&k, vmbus_echo_vsp(), NULL, KERNEL_RING_PAGES, KERNEL_MONITOR_US);
	k.masks = _i != 0;
	uio = kernel_connect_uio(&k);
	opts = plain_opts(uio);
	opts.own_thread = true;
	opts.completed = own_completed;
	opts.wake = own_wake;
	must_eq(vmbus_vsc_open(k.vsc, &opts), 0);
	open_alone(uio);
	must_eq(opened_calls, 1);
	must_eq(pthread_create(&bus, NULL, parent, NULL), 0);
	must_eq(pthread_create(&thread, NULL, own_thread, k.vsc), 0);
	end = fake_now_ns() + DEADLINE_NS;
	while (!__atomic_load_n(&own.finished, __ATOMIC_ACQUIRE)) {
		(void)vmbus_uio_wait(uio, SECOND / 100);
		must(fake_now_ns() < end);
	}
	__atomic_store_n(&parent_stop, 1, __ATOMIC_RELEASE);
	must_eq(pthread_join(bus, NULL), 0);
	must_eq(vmbus_vsc_close(k.vsc), 0);
	drive(uio, closed_calls == 1);
	must_eq(pthread_join(thread, NULL), 0);
	must_eq(own.done, OWN_REQUESTS);
	vmbus_uio_close(uio);
	kernel_end(&k);
	close(own.fd);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "idle", 30);

	tcase_add_loop_test(tc, uio__an_idle_monitor_has_its_price, 0, 3);
	tcase_add_test(tc, uio__a_wait_sleeps_after_a_dispatch_that_was_full);
	tc = vmbus_test_case(suite, "threads", 30);
	tcase_add_loop_test(tc, uio__no_wakeup_is_lost_one_by_one, 0, 2);
	tcase_add_loop_test(tc, uio__no_wakeup_is_lost_in_windows, 0, 2);
	tcase_add_loop_test(tc, uio__a_channel_with_a_thread_of_its_own, 0, 2);
}
VMBUS_TEST_MAIN("uio.wake", tests)
