/* SPDX-License-Identifier: MIT */
/* The echo device between processes: channels, sub-channels, a channel with a thread of its own. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/echo.h>
#include <vmbus/shm_bus.h>

#include "vmbus_test.h"

#define CHANS 3u
#define SUBS 2u
#define PACKETS 20000u
#define SECOND 1000000000ull

static const struct vmbus_guid echo_class = VMBUS_ECHO_CLASS;

/* ---- the child ---- */

static struct vmbus_echo echo[CHANS][SUBS + 1];

static struct vmbus_echo_opts echo_opts(bool completions)
{
	struct vmbus_echo_opts opts = { .struct_bytes = sizeof(opts) };

	opts.packets = PACKETS;
	opts.payload = 512;
	opts.window = 300; /* more than the rings hold */
	opts.completions = completions;
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = 65536;
	opts.open.recv_bytes = 16384;
	return opts;
}

static bool right(const struct vmbus_echo *e)
{
	return e->done && !e->err && e->received == PACKETS && !e->wrong;
}

static bool all_done(uint32_t subs)
{
	uint32_t c, s;

	for (c = 0; c < CHANS; c++)
		for (s = 0; s <= subs; s++)
			if (!echo[c][s].done)
				return false;
	return true;
}

static int wait_all(struct vmbus_shm_attach *attach, uint32_t subs)
{
	uint32_t c, s;

	while (!all_done(subs))
		if (vmbus_shm_attach_wait(attach, 10 * SECOND) < 0)
			return 2;
	for (c = 0; c < CHANS; c++)
		for (s = 0; s <= subs; s++)
			if (!right(&echo[c][s]))
				return 3;
	return 0;
}

static int child_channels(struct vmbus_shm_attach *attach, struct vmbus_guest *guest)
{
	struct vmbus_echo_opts opts;
	uint32_t c, s;
	int err;

	for (c = 0; c < CHANS; c++) {
		opts = echo_opts(c % 2);
		opts.subchannels = SUBS;
		if (vmbus_echo_start(&echo[c][0], vmbus_vsc_find(guest, &echo_class, c), &opts))
			return 4;
	}
	err = wait_all(attach, 0);
	for (c = 0; c < CHANS && !err; c++)
		for (s = 1; s <= SUBS; s++) {
			struct vmbus_vsc *vsc = vmbus_vsc_find(guest, &echo_class, c);

			opts = echo_opts(s % 2);
			if (vmbus_echo_start(&echo[c][s], vmbus_vsc_subchannel(vsc, s), &opts))
				return 5;
		}
	return err ? err : wait_all(attach, SUBS);
}

static struct vmbus_vsc *own;
static int own_stop, own_done;

/* A thread that polls its channel. */
static void *own_loop(void *arg)
{
	(void)arg;
	while (vmbus_vsc_dispatch(own, 64) >= 0)
		if (__atomic_load_n(&own_stop, __ATOMIC_ACQUIRE))
			usleep(1000);
	return NULL;
}

static void tell_done(void *ctx, int err)
{
	(void)ctx;
	(void)err;
	__atomic_store_n(&own_done, 1, __ATOMIC_RELEASE);
}

static void wake(struct vmbus_vsc *vsc)
{
	(void)vsc;
}

static int child_own_thread(struct vmbus_shm_attach *attach, struct vmbus_guest *guest)
{
	struct vmbus_echo_opts opts = echo_opts(true);
	pthread_t thread;

	(void)attach;
	opts.open.own_thread = true;
	opts.open.wake = wake;
	opts.done = tell_done;
	own = vmbus_vsc_find(guest, &echo_class, 0);
	if (vmbus_echo_start(&echo[0][0], own, &opts) ||
	    vmbus_vsc_wait(own, VMBUS_VSC_OPEN, 10 * SECOND) ||
	    pthread_create(&thread, NULL, own_loop, NULL))
		return 6;
	while (!__atomic_load_n(&own_done, __ATOMIC_ACQUIRE))
		usleep(1000);
	__atomic_store_n(&own_stop, 1, __ATOMIC_RELEASE);
	if (vmbus_vsc_close(own) || vmbus_vsc_wait(own, VMBUS_VSC_OFFERED, 10 * SECOND) ||
	    pthread_join(thread, NULL))
		return 7;
	return right(&echo[0][0]) ? 0 : 8;
}

static int child(const char *path, int which)
{
	struct vmbus_shm_attach_opts at = { .struct_bytes = sizeof(at), .path = path };
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	int err;

	if (vmbus_shm_attach(&at, &attach))
		return 1;
	guest = vmbus_shm_guest(attach);
	if (vmbus_guest_connect(guest) ||
	    vmbus_guest_wait(guest, VMBUS_GUEST_CONNECTED, 10 * SECOND))
		return 1;
	err = which ? child_own_thread(attach, guest) : child_channels(attach, guest);
	vmbus_shm_detach(attach);
	return err;
}

/* ---- the parent ---- */

static bool gone;

static int attached(void *ctx, struct vmbus_shm_child *process, struct vmbus_bus *bus)
{
	uint32_t i;
	int err = 0;

	(void)ctx;
	(void)process;
	for (i = 0; i < CHANS && !err; i++)
		err = vmbus_bus_offer(bus, vmbus_echo_vsp(), NULL, NULL, NULL);
	return err;
}

static void detached(void *ctx, struct vmbus_shm_child *process, enum vmbus_shm_end why)
{
	(void)ctx;
	(void)process;
	(void)why;
	gone = true;
}

START_TEST(echo__between_processes)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_shm_server *server;
	int status = 0;
	char path[64];
	pid_t pid;

	gone = false;
	snprintf(path, sizeof(path), "/tmp/vmbus-test-echo-%d.sock", (int)getpid());
	opts.path = path;
	opts.attached = attached;
	opts.detached = detached;
	must_eq(vmbus_shm_listen(&opts, &server), 0);
	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid == 0)
		_exit(child(path, _i));
	while (!gone)
		must(vmbus_shm_server_run(server, 20 * SECOND) >= 0);
	vmbus_shm_server_destroy(server);
	must_eq(waitpid(pid, &status, 0), pid);
	must(WIFEXITED(status));
	must_eq(WEXITSTATUS(status), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "processes", 30);

	tcase_add_loop_test(tc, echo__between_processes, 0, 2);
}
VMBUS_TEST_MAIN("echo.echo_shm", tests)
