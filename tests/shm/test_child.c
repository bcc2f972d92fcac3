/* SPDX-License-Identifier: MIT */
/*
 * A child that does one thing at a time: every call made outside of callbacks has its wake-up, calls
 * that cannot be made where they are made do no harm, and leaving is orderly.  The parent is a
 * process of its own, so that this one may wait.
 */
#include "shm/guests.h"

static struct {
	struct host host;
	pid_t parent;
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	struct vmbus_vsc *vsc;
	int opened, closed, ready, unshared, completed, gone;
	int err; /* of the last ready() */
	uint32_t gpadl;
	char log[2000];
} me;

static void note_log(void *ctx, const char *line)
{
	const size_t len = strlen(me.log);

	(void)ctx;
	(void)snprintf(me.log + len, sizeof(me.log) - len, "%s\n", line);
}

static void opened(struct vmbus_vsc *vsc, int err)
{
	(void)vsc;
	must_eq(err, 0);
	me.opened++;
}

static void closed(struct vmbus_vsc *vsc)
{
	(void)vsc;
	me.closed++;
}

static void ready(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	(void)vsc;
	me.gpadl = gpadl;
	me.err = err;
	me.ready++;
}

static void unshared(struct vmbus_vsc *vsc, uint32_t gpadl, int err)
{
	(void)vsc;
	must_eq(gpadl, me.gpadl);
	must_eq(err, 0);
	me.unshared++;
}

static void chan_gone(void *ctx, struct vmbus_vsc *vsc)
{
	(void)ctx;
	(void)vsc;
	me.gone++;
}

/* Within a callback: nothing of this is allowed, and none of it waits or does harm. */
static void completed(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	const uint64_t begin = vmbus__shm_now_ns();

	(void)cookie;
	if (!pkt)
		return;
	must_eq(vmbus_shm_attach_dispatch(me.attach, 10), VMBUS_E_STATE);
	must_eq(vmbus_shm_attach_wait(me.attach, 10ull * SECOND_NS), VMBUS_E_STATE);
	must_eq(vmbus_guest_dispatch(me.guest, 10), VMBUS_E_STATE);
	must_eq(vmbus_guest_wait(me.guest, VMBUS_GUEST_IDLE, 10ull * SECOND_NS), VMBUS_E_STATE);
	must_eq(vmbus_vsc_wait(vsc, VMBUS_VSC_OFFERED, 10ull * SECOND_NS), VMBUS_E_STATE);
	must(vmbus__shm_now_ns() - begin < SECOND_NS);
	vmbus_shm_detach(me.attach);
	vmbus_guest_destroy(me.guest);
	me.completed++;
}

static const struct vmbus_vsc_opts chan_opts = {
	.struct_bytes = sizeof(chan_opts),
	.opened = opened,
	.closed = closed,
	.completed = completed,
};

static void parent_begin(void)
{
	memset(&me, 0, sizeof(me));
	host_init(&me.host);
	me.host.channels = 1;
	fflush(NULL);
	me.parent = fork();
	must(me.parent >= 0);
	if (me.parent)
		return;
	alarm(60);
	host_listen(&me.host);
	for (;;)
		(void)vmbus_shm_server_run(me.host.server, SECOND_NS);
}

static void parent_kill(void)
{
	kill(me.parent, SIGKILL);
	must_eq(waitpid(me.parent, NULL, 0), me.parent);
}

static void begin(void)
{
	const uint64_t end = vmbus__shm_now_ns() + 10ull * SECOND_NS;
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts) };

	parent_begin();
	opts.path = me.host.path;
	opts.guest.struct_bytes = sizeof(opts.guest);
	opts.guest.gone = chan_gone;
	opts.guest.log = note_log;
	while (vmbus_shm_attach(&opts, &me.attach)) {
		must(vmbus__shm_now_ns() < end);
		usleep(1000);
	}
	me.guest = vmbus_shm_guest(me.attach);
	must_eq(vmbus_guest_connect(me.guest), 0);
	must_eq(vmbus_guest_wait(me.guest, VMBUS_GUEST_CONNECTED, 10ull * SECOND_NS), 0);
	me.vsc = vmbus_vsc_find(me.guest, &echo_class, 0);
	must(me.vsc != NULL);
}

static void finish(void)
{
	vmbus_shm_detach(me.attach);
	parent_kill();
	unlink(me.host.path);
}

/* Until nothing happens any more. */
static void quiet(void)
{
	struct pollfd fd = { .fd = vmbus_shm_attach_fd(me.attach), .events = POLLIN };
	const uint64_t end = vmbus__shm_now_ns() + 5ull * SECOND_NS;

	while (vmbus_shm_attach_wait(me.attach, 20000000) != VMBUS_E_AGAIN)
		must(vmbus__shm_now_ns() < end);
	must_eq(poll(&fd, 1, 0), 0);
}

static void wait_for(const int *what, int count)
{
	while (*what != count) /* AGAIN would mean that a wake-up is missing */
		must(vmbus_shm_attach_wait(me.attach, 5ull * SECOND_NS) >= 0);
}

static int state_is(enum vmbus_guest_state state)
{
	return vmbus_guest_state(me.guest) == state;
}

/* The call is made on an idle child; what follows from it needs no other push. */
#define DUE(call)                                                                                  \
	do {                                                                                       \
		struct pollfd due_fd = { .fd = vmbus_shm_attach_fd(me.attach), .events = POLLIN }; \
		quiet();                                                                           \
		must_eq(vmbus_guest_timeout(me.guest), UINT64_MAX);                                \
		must_eq((call), 0);                                                                \
		must_eq(vmbus_guest_timeout(me.guest), 0);                                         \
		must_eq(poll(&due_fd, 1, 0), 1);                                                   \
	} while (0)

START_TEST(shm_attach_fd__tells_of_every_call_outside_of_callbacks)
{
	uint8_t *pages;

	begin();
	DUE(vmbus_vsc_open(me.vsc, &chan_opts));
	wait_for(&me.opened, 1);
	pages = vmbus_guest_pages(me.guest, 2);
	DUE(vmbus_vsc_share(me.vsc, pages, 2, ready));
	wait_for(&me.ready, 1);
	must_eq(me.err, 0);
	DUE(vmbus_vsc_unshare(me.vsc, me.gpadl, unshared));
	wait_for(&me.unshared, 1);
	DUE(vmbus_vsc_set_vp(me.vsc, 0));
	quiet();
	DUE(vmbus_vsc_close(me.vsc));
	wait_for(&me.closed, 1);
	DUE(vmbus_vsc_open(me.vsc, &chan_opts));
	wait_for(&me.opened, 2);
	DUE(vmbus_guest_disconnect(me.guest));
	while (!state_is(VMBUS_GUEST_IDLE))
		must(vmbus_shm_attach_wait(me.attach, 5ull * SECOND_NS) >= 0);
	DUE(vmbus_guest_connect(me.guest));
	while (!state_is(VMBUS_GUEST_CONNECTED))
		must(vmbus_shm_attach_wait(me.attach, 5ull * SECOND_NS) >= 0);
	finish();
	must(me.log[0] == 0);
}
END_TEST

/* What a wait left undone is not forgotten by the descriptor. */
START_TEST(shm_attach_fd__after_a_wait_that_took_the_wake_up)
{
	struct pollfd fd = { .events = POLLIN };

	begin();
	quiet();
	fd.fd = vmbus_shm_attach_fd(me.attach);
	must_eq(vmbus_vsc_open(me.vsc, &chan_opts), 0);
	kill(me.parent, SIGSTOP); /* so that a message has to be looked after */
	must_eq(vmbus_vsc_wait(me.vsc, VMBUS_VSC_OPEN, 50000000), VMBUS_E_AGAIN);
	must_eq(poll(&fd, 1, 1000), 1);
	kill(me.parent, SIGCONT);
	wait_for(&me.opened, 1);
	finish();
}
END_TEST

START_TEST(shm_detach__leaves_in_order)
{
	begin();
	must_eq(vmbus_vsc_open(me.vsc, &chan_opts), 0);
	wait_for(&me.opened, 1);
	must_eq(vmbus_vsc_share(me.vsc, vmbus_guest_pages(me.guest, 2), 2, ready), 0);
	wait_for(&me.ready, 1);
	finish();
	must_eq(me.closed, 1);
	must_eq(me.gone, 1);
	must(me.log[0] == 0); /* nothing was lost */
}
END_TEST

/* A parent that is there and does not answer makes no one wait for long. */
START_TEST(shm_detach__has_a_deadline)
{
	uint64_t from;

	begin();
	must_eq(vmbus_vsc_open(me.vsc, &chan_opts), 0);
	wait_for(&me.opened, 1);
	kill(me.parent, SIGSTOP);
	from = vmbus__shm_now_ns();
	finish();
	must(vmbus__shm_now_ns() - from < 2ull * SECOND_NS);
	must_eq(me.closed, 1);
	must(strstr(me.log, "lost") != NULL);
	must(!strstr(me.log, "the parent is gone"));
}
END_TEST

/* Neither refused nor gone: the parent has not answered. */
START_TEST(shm_detach__of_an_open_that_is_not_answered)
{
	const struct vmbus_vsc_opts no_calls = { .struct_bytes = sizeof(no_calls) };

	begin();
	quiet();
	kill(me.parent, SIGSTOP);
	must_eq(vmbus_vsc_open(me.vsc, &no_calls), 0);
	must_eq(vmbus_vsc_wait(me.vsc, VMBUS_VSC_OPEN, 50000000), VMBUS_E_AGAIN);
	finish();
	if (strstr(me.log, "the parent is gone") || strstr(me.log, "refused"))
		ck_abort_msg("%s", me.log);
}
END_TEST

START_TEST(callbacks__cannot_dispatch_wait_or_detach)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };
	int i;

	begin();
	must_eq(vmbus_vsc_open(me.vsc, &chan_opts), 0);
	wait_for(&me.opened, 1);
	for (i = 1; i <= 3; i++) {
		must_eq(vmbus_vsc_request(me.vsc, &msg, NULL), 0);
		wait_for(&me.completed, i);
	}
	finish();
	must_eq(me.closed, 1);
}
END_TEST

START_TEST(guest_destroy__of_an_attached_guest_is_ignored)
{
	begin();
	vmbus_guest_destroy(me.guest);
	must(strstr(me.log, "ignored") != NULL);
	must_eq(vmbus_vsc_open(me.vsc, &chan_opts), 0);
	wait_for(&me.opened, 1);
	finish();
	must_eq(me.closed, 1);
}
END_TEST

START_TEST(guest_pages_free__ignores_what_is_not_free_to_give)
{
	static _Alignas(4096) uint8_t foreign[2 * 4096];
	uint8_t *pages, *others;

	begin();
	must_eq(vmbus_vsc_share(me.vsc, foreign, 1, ready), VMBUS_E_INVAL);
	pages = vmbus_guest_pages(me.guest, 4);
	must_eq(vmbus_vsc_share(me.vsc, pages, 2, ready), 0);
	vmbus_guest_pages_free(me.guest, pages, 4); /* two are shared */
	vmbus_guest_pages_free(me.guest, foreign, 2);
	vmbus_guest_pages_free(me.guest, pages + 8, 1);
	vmbus_guest_pages_free(me.guest, pages, UINT32_MAX);
	vmbus_guest_pages_free(me.guest, NULL, 1);
	vmbus_guest_pages_free(me.guest, pages, 0);
	others = vmbus_guest_pages(me.guest, 4);
	must(others >= pages + 4 * 4096 || others + 4 * 4096 <= pages);
	wait_for(&me.ready, 1);
	must_eq(vmbus_vsc_unshare(me.vsc, me.gpadl, unshared), 0);
	wait_for(&me.unshared, 1);
	me.log[0] = '\0';
	vmbus_guest_pages_free(me.guest, pages, 4);
	must(me.log[0] == 0);
	vmbus_guest_pages_free(me.guest, pages, 4); /* twice */
	must(strstr(me.log, "ignored") != NULL);
	must(vmbus_guest_pages(me.guest, 4) == pages);
	finish();
}
END_TEST

START_TEST(shm_attach__after_the_parents_end)
{
	int did = 0;

	begin();
	must_eq(vmbus_vsc_open(me.vsc, &chan_opts), 0);
	wait_for(&me.opened, 1);
	parent_kill();
	while (did >= 0 || did == VMBUS_E_AGAIN)
		did = vmbus_shm_attach_wait(me.attach, 5ull * SECOND_NS);
	must_eq(did, VMBUS_E_PEER);
	must_eq(me.closed, 1);
	must_eq(me.gone, 1);
	must_eq(vmbus_vsc_state(me.vsc), VMBUS_VSC_GONE);
	must_eq(vmbus_vsc_open(me.vsc, &chan_opts), VMBUS_E_STATE);
	must_eq(vmbus_guest_connect(me.guest), VMBUS_E_STATE);
	must(state_is(VMBUS_GUEST_GONE));
	must(strstr(me.log, "the parent is gone and had") != NULL);
	vmbus_shm_detach(me.attach);
	unlink(me.host.path);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "child", 30);

	tcase_add_test(tc, shm_attach_fd__tells_of_every_call_outside_of_callbacks);
	tcase_add_test(tc, shm_attach_fd__after_a_wait_that_took_the_wake_up);
	tcase_add_test(tc, shm_detach__leaves_in_order);
	tcase_add_test(tc, shm_detach__has_a_deadline);
	tcase_add_test(tc, shm_detach__of_an_open_that_is_not_answered);
	tcase_add_test(tc, callbacks__cannot_dispatch_wait_or_detach);
	tcase_add_test(tc, guest_destroy__of_an_attached_guest_is_ignored);
	tcase_add_test(tc, guest_pages_free__ignores_what_is_not_free_to_give);
	tcase_add_test(tc, shm_attach__after_the_parents_end);
}

VMBUS_TEST_MAIN("shm.child", tests)
