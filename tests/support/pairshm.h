/* SPDX-License-Identifier: MIT */
/*
 * A device between processes: a parent that serves it to one child or two, whose channels it or a pool
 * dispatches; and what a child does that is not its device's.
 *
 *	pairshm_begin(&p, "net", vmbus_net_vsp());
 *	if (pairshm_fork(&p)) _exit(...);	the child: pairshm_attach(), ...
 *	p.device[0] = ...; pairshm_pool(&p);
 *	pairshm_run(&p);			until every child has left, and well
 */
#ifndef VMBUS_TESTS_PAIRSHM_H
#define VMBUS_TESTS_PAIRSHM_H

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmbus/pool.h>
#include <vmbus/shm_bus.h>

#include "vmbus_test.h"

#define PAIRSHM_SECOND 1000000000ull

/* ---- the parent ---- */

struct pairshm {
	const struct vmbus_vsp *vsp;
	void *device[2]; /* of the child that attaches first, and of the second */
	struct vmbus_shm_server *server;
	struct vmbus_pool *pool;
	uint32_t children, attached, gone;
	pid_t pid[2];
	char path[64];
};

static inline int pairshm_attached(void *ctx, struct vmbus_shm_child *process,
				   struct vmbus_bus *bus)
{
	struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer) };
	struct pairshm *const p = ctx;
	void *const device = p->device[p->attached++ & 1u];
	struct vmbus_chan *chan;
	int err;

	(void)process;
	offer.own_fd = p->pool != NULL;
	err = vmbus_bus_offer(bus, p->vsp, device, &offer, &chan);
	if (!err && p->pool)
		err = vmbus_pool_add(p->pool, chan);
	return err;
}

static inline void pairshm_offered(void *ctx, struct vmbus_chan *sub)
{
	const struct pairshm *const p = ctx;

	if (p->pool && vmbus_pool_add(p->pool, sub))
		abort();
}

static inline void pairshm_removed(void *ctx, struct vmbus_chan *chan)
{
	const struct pairshm *const p = ctx;

	if (p->pool)
		(void)vmbus_pool_remove(p->pool, chan);
}

static inline void pairshm_detached(void *ctx, struct vmbus_shm_child *process,
				    enum vmbus_shm_end why)
{
	(void)process;
	(void)why;
	((struct pairshm *)ctx)->gone++;
}

static inline void pairshm_begin(struct pairshm *p, const char *name, const struct vmbus_vsp *vsp)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts) };

	memset(p, 0, sizeof(*p));
	p->vsp = vsp;
	snprintf(p->path, sizeof(p->path), "/tmp/vmbus-test-%s-%d.sock", name, (int)getpid());
	opts.path = p->path;
	opts.attached = pairshm_attached;
	opts.offered = pairshm_offered;
	opts.removed = pairshm_removed;
	opts.detached = pairshm_detached;
	opts.ctx = p;
	must_eq(vmbus_shm_listen(&opts, &p->server), 0);
}

/* Returns whether this is the child. */
static inline bool pairshm_fork(struct pairshm *p)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid > 0)
		p->pid[p->children++] = pid;
	return pid == 0;
}

/* The channels are dispatched by two threads; after the last fork. */
static inline void pairshm_pool(struct pairshm *p)
{
	struct vmbus_pool_opts opts = { .struct_bytes = sizeof(opts), .threads = 2 };

	must_eq(vmbus_pool_create(&opts, &p->pool), 0);
}

/* The pool is left, for what is looked at before its end. */
static inline void pairshm_run(struct pairshm *p)
{
	uint32_t i;

	while (p->gone < p->children) { /* io_uring interrupts waits: that is not the time over */
		const int err = vmbus_shm_server_run(p->server, 20 * PAIRSHM_SECOND);

		must(err >= 0 || err == VMBUS_E_AGAIN);
	}
	vmbus_shm_server_destroy(p->server);
	for (i = 0; i < p->children; i++) {
		int status = 0;

		must_eq(waitpid(p->pid[i], &status, 0), p->pid[i]);
		must(WIFEXITED(status));
		must_eq(WEXITSTATUS(status), 0);
	}
}

/* ---- a child ---- */

/* Returns NULL when it could not; else its guest is connected. */
static inline struct vmbus_shm_attach *pairshm_attach(const struct pairshm *p, uint64_t bytes)
{
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts), .path = p->path };
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;

	opts.memory_bytes = bytes;
	if (vmbus_shm_attach(&opts, &attach))
		return NULL;
	guest = vmbus_shm_guest(attach);
	if (vmbus_guest_connect(guest) ||
	    vmbus_guest_wait(guest, VMBUS_GUEST_CONNECTED, 10 * PAIRSHM_SECOND))
		return NULL;
	return attach;
}

/* Until closed() was told.  Returns 0, or 9. */
static inline int pairshm_wait_closed(struct vmbus_shm_attach *attach, const int *closed)
{
	while (!*closed)
		if (vmbus_shm_attach_wait(attach, 10 * PAIRSHM_SECOND) < 0)
			return 9;
	return 0;
}

/* The thread of a channel, and how it is woken. */
struct pairshm_thread {
	pthread_t id;
	int wake;
	bool runs;
};

static inline void pairshm_poke(const struct pairshm_thread *t)
{
	const uint64_t one = 1;

	if (write(t->wake, &one, 8) != 8)
		_exit(20);
}

static inline void pairshm_sleep(const struct pairshm_thread *t)
{
	struct pollfd fd = { t->wake, POLLIN, 0 };
	uint64_t count;

	if (poll(&fd, 1, 10000) > 0 && read(t->wake, &count, 8) != 8)
		_exit(22);
}

static inline void pairshm_thread_start(struct pairshm_thread *t, void *(*run)(void *), void *arg)
{
	t->runs = true;
	if (pthread_create(&t->id, NULL, run, arg))
		_exit(23);
}

static inline void pairshm_thread_join(const struct pairshm_thread *t)
{
	if (t->runs)
		pthread_join(t->id, NULL);
}

#endif
