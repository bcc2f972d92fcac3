/* SPDX-License-Identifier: MIT */
/*
 * Every call of the shm backend to the system fails, or does less than it was asked for, once: a
 * child attaches, opens, echoes and leaves, and whatever becomes of it, nothing is left behind, and
 * the same server serves the next one.
 */
#include "isolation/inject.h"
#include "isolation/shared.h"

#define REQUESTS 20u
#define CALLS_MAX 64u /* of one kind in one life; later ones repeat what was there */

static struct {
	uint32_t done;
} child;

static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	(void)vsc;
	(void)cookie;
	child.done += pkt != NULL;
}

/* Both sides have turns; false when one of them is gone for good, or nothing comes of it. */
static bool turns(struct host *host, struct vmbus_shm_attach *attach, uint32_t n)
{
	while (n--) {
		if (vmbus_shm_attach_dispatch(attach, 64) < 0 ||
		    vmbus_shm_server_dispatch(host->server, 256) < 0 ||
		    vmbus_guest_state(vmbus_shm_guest(attach)) == VMBUS_GUEST_GONE)
			return false;
	}
	return true;
}

/* Attach, in a thread of its own, for the server has to dispatch meanwhile. */
static struct vmbus_shm_attach *attach_to(struct host *host, uint64_t timeout_ns)
{
	struct local local = { .opts = { .struct_bytes = sizeof(local.opts),
					 .path = host->path,
					 .name = "unlucky",
					 .memory_bytes = 1 << 20,
					 .timeout_ns = timeout_ns } };

	must_eq(pthread_create(&local.thread, NULL, local_thread, &local), 0);
	while (!__atomic_load_n(&local.done, __ATOMIC_ACQUIRE))
		(void)vmbus_shm_server_run(host->server, 1000000);
	must_eq(pthread_join(local.thread, NULL), 0);
	return local.result ? NULL : local.attach;
}

static bool talk(struct host *host, struct vmbus_shm_attach *attach)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
				       .send_bytes = 8192,
				       .recv_bytes = 8192,
				       .completed = completed };
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "12345678", .len = 8 };
	struct vmbus_guest *const guest = vmbus_shm_guest(attach);
	struct vmbus_vsc *vsc;
	uint32_t i;

	if (vmbus_guest_connect(guest) || !turns(host, attach, 40))
		return false;
	vsc = vmbus_vsc_find(guest, &echo_class, 0);
	if (!vsc || vmbus_vsc_open(vsc, &opts) || !turns(host, attach, 40) ||
	    vmbus_vsc_state(vsc) != VMBUS_VSC_OPEN)
		return false;
	for (i = 0; i < REQUESTS; i++)
		if (vmbus_vsc_request(vsc, &msg, NULL) < 0 || !turns(host, attach, 4))
			return false;
	return child.done == REQUESTS;
}

static void *leave_thread(void *arg)
{
	struct local *const local = arg;

	vmbus_shm_detach(local->attach);
	__atomic_store_n(&local->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Leave, in a thread of its own, for a child that leaves in order waits for its parent. */
static void leave(struct host *host, struct vmbus_shm_attach *attach)
{
	struct local local = { .attach = attach };

	must_eq(pthread_create(&local.thread, NULL, leave_thread, &local), 0);
	while (!__atomic_load_n(&local.done, __ATOMIC_ACQUIRE))
		(void)vmbus_shm_server_run(host->server, 1000000);
	must_eq(pthread_join(local.thread, NULL), 0);
}

/* A life; returns whether all of it went well. */
static bool live(struct host *host, uint64_t timeout_ns)
{
	struct vmbus_shm_attach *const attach = attach_to(host, timeout_ns);
	bool good;

	child.done = 0;
	if (!attach)
		return false;
	good = talk(host, attach);
	leave(host, attach);
	return good;
}

static void inject_all(enum inject_call call, enum inject_how how, uint32_t *failed)
{
	uint32_t calls, nth;
	struct host host;
	int fds;

	host_init(&host);
	host.opts.attach_rate_max = 1000000;
	host_listen(&host);
	host.channels = 1;
	must(live(&host, 10ull * SECOND_NS));
	host_until(&host, host.attached == host.detached);
	fds = vmbus_test_count_fds();
	inject_arm(call, 0, how);
	must(live(&host, 10ull * SECOND_NS));
	calls = inject_disarm();
	must(calls > 0); /* else this injects nothing */
	for (nth = 1; nth <= calls && nth <= CALLS_MAX; nth++) {
		vmbus_test_at("%s %u of %u, %s", inject_names[call], nth, calls,
			      how == INJECT_FAIL ? "fails" : "is short");
		inject_arm(call, nth, how);
		*failed += !live(&host, SECOND_NS / 5);
		(void)inject_disarm();
		host_until(&host, host.attached == host.detached);
		host_spin(&host);
		must_eq(count_memory(), 0);
		must_eq(vmbus_test_count_fds(), fds);
	}
	must(live(&host, 10ull * SECOND_NS)); /* and it serves on */
	host_until(&host, host.attached == host.detached);
	host_close(&host);
}

START_TEST(lesson_28_calls_that_fail)
{
	uint32_t failed = 0;

	inject_all((enum inject_call)_i, INJECT_FAIL, &failed);
	if (_i != INJECT_WRITE) /* a bell that says that it is full has rung */
		must(failed > 0);
	else
		must_eq(failed, 0);
}
END_TEST

static const enum inject_call shorts[] = { INJECT_SENDMSG, INJECT_RECVMSG, INJECT_WRITE };

START_TEST(lesson_28_short_counts)
{
	uint32_t failed = 0;

	inject_all(shorts[_i], INJECT_SHORT, &failed);
	if (shorts[_i] != INJECT_WRITE)
		must(failed > 0);
	else
		must_eq(failed, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "inject", 20);

	tcase_add_loop_test(tc, lesson_28_calls_that_fail, INJECT_SENDMSG, INJECT_CALLS);
	tcase_add_loop_test(tc, lesson_28_short_counts, 0, 3);
}

VMBUS_TEST_MAIN("isolation.inject", tests)
