/* SPDX-License-Identifier: MIT */
/* Both ends of the integration components against each other: in one thread, and as processes. */
#include "ic.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/shm_bus.h>

/* ---- the child ---- */

static struct {
	uint32_t shutdowns, flags, timeout_s, times, syncs, beats;
	uint64_t host, reference;
} told;

static uint32_t on_shutdown(void *ctx, uint32_t flags, uint32_t timeout_s)
{
	(void)ctx;
	told.shutdowns++;
	told.flags = flags;
	told.timeout_s = timeout_s;
	return flags & VMBUS_IC_HIBERNATE ? VMBUS_IC_NOT_SUPPORTED : VMBUS_IC_OK;
}

static void on_time(void *ctx, uint64_t host, uint64_t reference, bool sync)
{
	(void)ctx;
	told.times++;
	told.syncs += sync;
	told.host = host;
	told.reference = reference;
}

static void on_beat(void *ctx, uint64_t sequence)
{
	(void)ctx;
	(void)sequence;
	told.beats++;
}

static const struct vmbus_ic_client_opts client_opts = {
	.struct_bytes = sizeof(client_opts),
	.shutdown = on_shutdown,
	.time = on_time,
	.beat = on_beat,
};

static void start_clients(struct vmbus_guest *guest, struct vmbus_ic_client client[3])
{
	uint32_t i;

	for (i = 0; i < 3; i++)
		must_eq(vmbus_ic_client_start(&client[i], vmbus_vsc_find(guest, &ic_class[i], 0),
					      &client_opts),
			0);
}

/* ---- one thread ---- */

START_TEST(ic__both_ends_in_one_thread)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic_client client[3];
	struct vmbus_ic_info info;
	struct vmbus_ic *ic;
	uint32_t i;

	memset(&told, 0, sizeof(told));
	o.heartbeat_ns = 2000000;
	o.sample_ns = 3000000;
	ic = ic_start(l, &o);
	start_clients(l->guest, client);
	loop_settle(l);
	must_eq(ic_value(VMBUS_IC_SHUTDOWN, VMBUS_IC_READY), 0x30002);
	must_eq(ic_value(VMBUS_IC_TIMESYNC, VMBUS_IC_READY), 0x40000);
	must_eq(ic_value(VMBUS_IC_HEARTBEAT, VMBUS_IC_READY), 0x30000);
	must_eq(told.syncs, 1);
	must_eq(told.host, IC_WALL);
	must(told.reference != 0 && told.reference <= l->now);
	for (i = 0; i < 40; i++) {
		must(ic_turn(ic) >= 0);
		loop_settle(l);
	}
	vmbus_ic_info(ic, &info);
	must_eq(info.ready, 7);
	must(info.alive);
	must_eq(info.missed, 0);
	must_eq(info.broken, 0);
	must(info.beats >= 10 && info.beats == told.beats);
	must(info.samples >= 5 && info.samples == told.times);
	must_eq(told.syncs, 1);
	must_eq(vmbus_ic_shutdown(ic, VMBUS_IC_RESTART, 30, "now"), 0);
	loop_settle(l);
	must_eq(ic_value(1, VMBUS_IC_ANSWERED), 0);
	must_eq(told.flags, VMBUS_IC_RESTART);
	must_eq(told.timeout_s, 30);
	must_eq(vmbus_ic_shutdown(ic, VMBUS_IC_HIBERNATE, 30, NULL), 0);
	loop_settle(l);
	must_eq(ic_value(1, VMBUS_IC_ANSWERED), VMBUS_IC_NOT_SUPPORTED);
	ic_end(l, ic);
}
END_TEST

/* A new opening has a new sync; a child that leaves is seen. */
START_TEST(ic__child_leaves_and_comes_back)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct vmbus_ic_client client[3];
	uint32_t round, i;

	memset(&told, 0, sizeof(told));
	for (round = 1; round <= 5; round++) {
		start_clients(l->guest, client);
		loop_settle(l);
		must_eq(told.syncs, round);
		must_eq(ic_count(4, VMBUS_IC_ALIVE), round);
		for (i = 0; i < 3; i++)
			must_eq(vmbus_vsc_close(vmbus_vsc_find(l->guest, &ic_class[i], 0)), 0);
		loop_settle(l);
		for (i = 0; i < 3; i++)
			must_eq(ic_count(1u << i, VMBUS_IC_GONE), round);
		must(!ic_readable(ic));
	}
	ic_end(l, ic);
}
END_TEST

/* ---- processes ---- */

static int child_process(const char *path)
{
	struct vmbus_shm_attach_opts at = { .struct_bytes = sizeof(at), .path = path };
	struct vmbus_ic_client client[3];
	struct vmbus_shm_attach *attach;

	memset(&told, 0, sizeof(told));
	if (vmbus_shm_attach(&at, &attach))
		return 1;
	must_eq(vmbus_guest_connect(vmbus_shm_guest(attach)), 0);
	must_eq(vmbus_guest_wait(vmbus_shm_guest(attach), VMBUS_GUEST_CONNECTED, 10 * LOOP_SECOND),
		0);
	start_clients(vmbus_shm_guest(attach), client);
	while (!told.shutdowns) {
		const int err = vmbus_shm_attach_wait(attach, 10 * LOOP_SECOND);

		if (err < 0 && err != VMBUS_E_AGAIN) /* AGAIN: it was stopped in its sleep */
			return 2;
	}
	vmbus_shm_detach(attach);
	return told.syncs == 1 && told.beats ? 42 : 3;
}

static struct {
	struct vmbus_shm_server *server;
	struct vmbus_ic *ic;
	struct vmbus_ic_opts opts;
	bool detached;
	enum vmbus_shm_end why;
} parent;

static int attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	(void)ctx;
	(void)child;
	return vmbus_ic_create(bus, &parent.opts, &parent.ic);
}

static void detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	(void)ctx;
	(void)child;
	vmbus_ic_destroy(parent.ic); /* its channels are closed */
	parent.ic = NULL;
	parent.detached = true;
	parent.why = why;
}

/* One turn of a parent that sleeps between them. */
static void parent_turn(void)
{
	struct pollfd p[2] = { { .fd = vmbus_shm_server_fd(parent.server), .events = POLLIN },
			       { .fd = -1, .events = POLLIN } };

	if (parent.ic)
		p[1].fd = vmbus_ic_fd(parent.ic);
	must(poll(p, 2, 10000) > 0);
	if (parent.ic && p[1].revents)
		must(vmbus_ic_dispatch(parent.ic) >= 0);
	if (p[0].revents)
		must(vmbus_shm_server_dispatch(parent.server, 256) >= 0);
}

#define UNTIL(cond)                                                                                \
	do {                                                                                       \
		uint32_t until_i;                                                                  \
		for (until_i = 0; !(cond); until_i++) {                                            \
			must(until_i < 100000);                                                    \
			parent_turn();                                                             \
		}                                                                                  \
	} while (0)

static pid_t start_parent(char *path, size_t bytes)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts) };
	pid_t pid;

	memset(&parent, 0, sizeof(parent));
	memset(&ic_events, 0, sizeof(ic_events));
	parent.opts = ic_opts();
	parent.opts.wall_time = NULL;
	parent.opts.heartbeat_ns = 20000000;
	parent.opts.sample_ns = 10000000;
	snprintf(path, bytes, "/tmp/vmbus-test-ic-%d.sock", (int)getpid());
	opts.path = path;
	opts.attached = attached;
	opts.detached = detached;
	must_eq(vmbus_shm_listen(&opts, &parent.server), 0);
	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid == 0)
		_exit(child_process(path));
	return pid;
}

static int end_parent(pid_t pid)
{
	int status = 0;

	vmbus_shm_server_destroy(parent.server);
	must_eq(waitpid(pid, &status, 0), pid);
	return status;
}

START_TEST(ic__processes)
{
	struct vmbus_ic_info info = { 0 };
	char path[64];
	const pid_t pid = start_parent(path, sizeof(path));
	int status;

	UNTIL(ic_count(1, VMBUS_IC_READY) && ic_count(2, VMBUS_IC_READY) &&
	      ic_count(4, VMBUS_IC_ALIVE));
	must_eq(ic_value(2, VMBUS_IC_READY), 0x40000);
	while (info.beats < 5 || info.samples < 5) {
		parent_turn();
		vmbus_ic_info(parent.ic, &info);
	}
	must_eq(vmbus_ic_shutdown(parent.ic, VMBUS_IC_FORCE, 10, "end of the test"), 0);
	UNTIL(ic_count(1, VMBUS_IC_ANSWERED));
	must_eq(ic_value(1, VMBUS_IC_ANSWERED), 0);
	UNTIL(parent.detached);
	must_eq(parent.why, VMBUS_SHM_LEFT);
	must_eq(ic_count(4, VMBUS_IC_GONE), 1);
	status = end_parent(pid);
	must(WIFEXITED(status));
	must_eq(WEXITSTATUS(status), 42);
}
END_TEST

/* A process that is stopped is lost; when it goes on, it is alive again; when killed, gone. */
START_TEST(ic__a_process_that_hangs)
{
	char path[64];
	const pid_t pid = start_parent(path, sizeof(path));
	uint32_t round;
	int status;

	for (round = 1; round <= 3; round++) {
		UNTIL(ic_count(4, VMBUS_IC_ALIVE) >= round && ic_count(4, VMBUS_IC_READY));
		must_eq(kill(pid, SIGSTOP), 0);
		UNTIL(ic_count(4, VMBUS_IC_LOST) >= round);
		must_eq(ic_value(4, VMBUS_IC_LOST), 5);
		must_eq(kill(pid, SIGCONT), 0);
	}
	UNTIL(ic_count(4, VMBUS_IC_ALIVE) > 3);
	must_eq(kill(pid, SIGKILL), 0);
	UNTIL(parent.detached);
	must_eq(ic_count(4, VMBUS_IC_GONE), 1);
	status = end_parent(pid);
	must(WIFSIGNALED(status));
}
END_TEST

/* Processor time of this process, ns. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* With nothing open there is no timer: a second of sleep costs nothing. */
START_TEST(ic_fd__wakes_nobody_while_nothing_is_ready)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic;
	struct pollfd p[2];
	uint64_t before;

	o.heartbeat_ns = o.sample_ns = 1000000;
	ic = ic_start(l, &o);
	loop_settle(l);
	p[0] = (struct pollfd){ .fd = vmbus_ic_fd(ic), .events = POLLIN };
	p[1] = (struct pollfd){ .fd = vmbus_bus_fd(l->bus), .events = POLLIN };
	before = cpu_ns();
	must_eq(poll(p, 2, 1000), 0);
	must(cpu_ns() - before < VMBUS_TEST_IDLE_NS);
	ic_end(l, ic);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "pair", 20);

	tcase_add_test(tc, ic__both_ends_in_one_thread);
	tcase_add_test(tc, ic__child_leaves_and_comes_back);
	tcase_add_test(tc, ic__processes);
	tcase_add_test(tc, ic__a_process_that_hangs);
	tcase_add_test(tc, ic_fd__wakes_nobody_while_nothing_is_ready);
}
VMBUS_TEST_MAIN("ic.ic_pair", tests)
