/* SPDX-License-Identifier: MIT */
/*
 * What the examples share: a parent that offers one VSP to each child, and a child that attaches
 * and opens the first device of a class.  examples/echo.c has the same written out.
 */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/shm_bus.h>

#define SECONDS 1000000000ull /* of nanoseconds */

static inline int must(int err, const char *what)
{
	if (err >= 0)
		return err;
	fprintf(stderr, "%s: %s\n", what, vmbus_err_name(err));
	exit(1);
}

static inline void *must_be(void *p, const char *what)
{
	if (!p)
		must(VMBUS_E_NOMEM, what);
	return p;
}

/* A child with one open channel. */
struct example_child {
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	struct vmbus_vsc *vsc;
};

static inline struct example_child example_open(const char *path, const char *name,
						const struct vmbus_guid *class_id,
						const struct vmbus_vsc_opts *opts)
{
	struct vmbus_shm_attach_opts at = { .struct_bytes = sizeof(at), .path = path };
	struct example_child me;

	at.name = name;
	must(vmbus_shm_attach(&at, &me.attach), "attach");
	me.guest = vmbus_shm_guest(me.attach);
	must(vmbus_guest_connect(me.guest), "connect");
	must(vmbus_guest_wait(me.guest, VMBUS_GUEST_CONNECTED, 5 * SECONDS), "wait for offers");
	me.vsc = must_be(vmbus_vsc_find(me.guest, class_id, 0), "find the device");
	must(vmbus_vsc_open(me.vsc, opts), "open");
	must(vmbus_vsc_wait(me.vsc, VMBUS_VSC_OPEN, 5 * SECONDS), "wait for the open channel");
	return me;
}

static inline void example_close(struct example_child *me)
{
	must(vmbus_vsc_close(me->vsc), "close");
	must(vmbus_vsc_wait(me->vsc, VMBUS_VSC_OFFERED, 5 * SECONDS),
	     "wait for the closed channel");
	vmbus_shm_detach(me->attach);
}

struct example_parent {
	const struct vmbus_vsp *vsp;
	void *vsp_ctx;
	unsigned int left; /* children still to come and go */
};

static inline int example_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	const struct example_parent *me = ctx;

	printf("parent: \"%s\" attached\n", vmbus_shm_child_name(child));
	return vmbus_bus_offer(bus, me->vsp, me->vsp_ctx, NULL, NULL);
}

static inline void example_detached(void *ctx, struct vmbus_shm_child *child,
				    enum vmbus_shm_end why)
{
	struct example_parent *me = ctx;

	printf("parent: \"%s\" %s\n", vmbus_shm_child_name(child),
	       why == VMBUS_SHM_LEFT ? "has left" : "is gone");
	me->left--;
}

/* Serve children, one process each, until all have come and gone; their exit status is ours. */
static inline int example_run_with(const struct vmbus_vsp *vsp, void *vsp_ctx,
				   unsigned int children, int (*child)(const char *path))
{
	struct example_parent me = { vsp, vsp_ctx, children };
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_shm_server *server;
	int failed = 0, status;
	char path[64];
	unsigned int i;

	setvbuf(stdout, NULL, _IOLBF, 0); /* the lines of all processes in their order */
	snprintf(path, sizeof(path), "/tmp/vmbus-example-%d.sock", (int)getpid());
	opts.path = path;
	opts.attached = example_attached;
	opts.detached = example_detached;
	opts.ctx = &me;
	must(vmbus_shm_listen(&opts, &server), "listen");
	fflush(stdout);
	for (i = 0; i < children; i++) {
		const pid_t pid = fork();

		must(pid < 0 ? VMBUS_E_SYSTEM : 0, "fork");
		if (pid == 0)
			exit(child(path));
	}
	while (me.left)
		must(vmbus_shm_server_run(server, 10 * SECONDS), "serve");
	vmbus_shm_server_destroy(server);
	while (wait(&status) > 0)
		failed |= !WIFEXITED(status) || WEXITSTATUS(status);
	return failed;
}

static inline int example_run(const struct vmbus_vsp *vsp, unsigned int children,
			      int (*child)(const char *path))
{
	return example_run_with(vsp, NULL, children, child);
}

#endif
