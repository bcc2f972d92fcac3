/* SPDX-License-Identifier: MIT */
/*
 * A parent looks after a child by the integration components: it sets the child's clock, sees by
 * heartbeats that it lives, and asks it to shut down, which the child does in its own time.
 *
 * Shows: both ends of the components; a parent with two descriptors to poll; what each event means.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/ic.h>

#include "example.h"

#define MS 1000000ull /* of nanoseconds */

/* ---- the child ---- */

static bool leave;

static uint32_t shutdown_asked(void *ctx, uint32_t flags, uint32_t timeout_s)
{
	(void)ctx;
	(void)flags;
	printf("child:  asked to shut down within %u s\n", timeout_s);
	leave = true; /* and not here: the answer is sent when the dispatch returns */
	return VMBUS_IC_OK;
}

static void time_told(void *ctx, uint64_t host_time, uint64_t reference_time, bool sync)
{
	(void)ctx;
	(void)reference_time;
	if (sync) /* 100 ns since 1601 */
		printf("child:  told to set the clock to %llu s after 1970\n",
		       (unsigned long long)(host_time / 10000000u - 11644473600u));
}

static int child(const char *path)
{
	static const struct vmbus_guid class_id[] = { VMBUS_IC_SHUTDOWN_CLASS,
						      VMBUS_IC_TIMESYNC_CLASS,
						      VMBUS_IC_HEARTBEAT_CLASS };
	struct vmbus_shm_attach_opts at = { .struct_bytes = sizeof(at), .path = path };
	struct vmbus_ic_client_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_ic_client client[3];
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;

	must(vmbus_shm_attach(&at, &attach), "attach");
	guest = vmbus_shm_guest(attach);
	must(vmbus_guest_connect(guest), "connect");
	must(vmbus_guest_wait(guest, VMBUS_GUEST_CONNECTED, 5 * SECONDS), "wait for offers");
	opts.shutdown = shutdown_asked;
	opts.time = time_told;
	for (int i = 0; i < 3; i++) {
		struct vmbus_vsc *vsc = must_be(vmbus_vsc_find(guest, &class_id[i], 0), "find");

		must(vmbus_ic_client_start(&client[i], vsc, &opts), "start a component");
	}
	while (!leave)
		must(vmbus_shm_attach_wait(attach, 5 * SECONDS), "wait for the parent");
	vmbus_shm_detach(attach);
	return 0;
}

/* ---- the parent ---- */

static struct vmbus_ic *ic;
static bool over;

static void event(void *ctx, uint32_t component, enum vmbus_ic_event what, uint64_t value)
{
	(void)ctx;
	(void)component;
	if (what == VMBUS_IC_ALIVE)
		printf("parent: the child's heart beats\n");
	else if (what == VMBUS_IC_LOST)
		printf("parent: %llu heartbeats have no answer\n", (unsigned long long)value);
	else if (what == VMBUS_IC_ANSWERED)
		printf("parent: the child %s\n", value == VMBUS_IC_OK ? "agrees" : "refuses");
}

static int attached(void *ctx, struct vmbus_shm_child *process, struct vmbus_bus *bus)
{
	struct vmbus_ic_opts opts = { .struct_bytes = sizeof(opts), .event = event };

	(void)ctx;
	(void)process;
	opts.heartbeat_ns = 20 * MS;
	return vmbus_ic_create(bus, &opts, &ic);
}

static void detached(void *ctx, struct vmbus_shm_child *process, enum vmbus_shm_end why)
{
	(void)ctx;
	(void)process;
	printf("parent: the child %s\n", why == VMBUS_SHM_LEFT ? "has left" : "is gone");
	vmbus_ic_destroy(ic);
	ic = NULL;
	over = true;
}

/* Sleep until there is something to do, and do it. */
static void turn(struct vmbus_shm_server *server)
{
	struct pollfd p[2] = { { .fd = vmbus_shm_server_fd(server), .events = POLLIN },
			       { .fd = ic ? vmbus_ic_fd(ic) : -1, .events = POLLIN } };

	must(poll(p, 2, 5000) > 0 ? 0 : VMBUS_E_AGAIN, "wait for the child");
	if (p[1].revents)
		vmbus_ic_dispatch(ic);
	if (p[0].revents)
		must(vmbus_shm_server_dispatch(server, 256), "serve");
}

int main(void)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_ic_info info = { 0 };
	struct vmbus_shm_server *server;
	char path[64];
	bool asked = false;
	int status;
	pid_t pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(path, sizeof(path), "/tmp/vmbus-example-%d.sock", (int)getpid());
	opts.path = path;
	opts.attached = attached;
	opts.detached = detached;
	must(vmbus_shm_listen(&opts, &server), "listen");
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		exit(child(path));
	while (pid > 0 && !over) {
		turn(server);
		if (ic)
			vmbus_ic_info(ic, &info);
		if (ic && !asked && info.beats >= 5)
			asked = vmbus_ic_shutdown(ic, 0, 30, "thank you") == 0;
	}
	vmbus_shm_server_destroy(server);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
									       : 1;
}
