/* SPDX-License-Identifier: MIT */
/*
 * Server and children in one process and one thread, so that turns can be counted: only attaching,
 * which waits for the parent, has a thread of its own.
 */
#ifndef VMBUS_TESTS_SHM_LOCAL_H
#define VMBUS_TESTS_SHM_LOCAL_H

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "shm/guests.h"

struct local {
	pthread_t thread;
	struct vmbus_shm_attach_opts opts;
	struct vmbus_shm_attach *attach;
	int result, done;
};

static inline void *local_thread(void *arg)
{
	struct local *const local = arg;

	local->result = vmbus_shm_attach(&local->opts, &local->attach);
	__atomic_store_n(&local->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Attach to a server of this process; guest may be NULL. */
static inline void local_attach_with(struct host *host, struct local *local,
				     const struct vmbus_guest_opts *guest)
{
	memset(local, 0, sizeof(*local));
	if (guest)
		local->opts.guest = *guest;
	local->opts.struct_bytes = sizeof(local->opts);
	local->opts.path = host->path;
	local->opts.name = "local";
	must_eq(pthread_create(&local->thread, NULL, local_thread, local), 0);
	host_until(host, __atomic_load_n(&local->done, __ATOMIC_ACQUIRE));
	must_eq(pthread_join(local->thread, NULL), 0);
	must_eq(local->result, 0);
}

static inline void local_attach(struct host *host, struct local *local)
{
	local_attach_with(host, local, NULL);
}

/* A child of which a test has the memory and the bells, and no library in between. */
struct raw_child {
	int sock, memfd, bell, listener;
	uint8_t *map;
	struct vmbus__shm_welcome welcome;
};

static inline void raw_child_attach(struct host *host, struct raw_child *child)
{
	struct vmbus__shm_record record;

	child->sock = raw_attach(host, &child->welcome, &record);
	must(record.fd_count >= 3);
	child->memfd = record.fds[0];
	child->bell = record.fds[1];
	child->listener = record.fds[2];
	record.fds[0] = record.fds[1] = record.fds[2] = -1;
	vmbus__shm_record_close(&record);
	child->map = mmap(NULL, child->welcome.memory, PROT_READ | PROT_WRITE, MAP_SHARED,
			  child->memfd, 0);
	must(child->map != MAP_FAILED);
}

static inline void raw_child_leave(struct raw_child *child)
{
	munmap(child->map, child->welcome.memory);
	close(child->sock);
	close(child->memfd);
	close(child->bell);
	close(child->listener);
}

static inline uint8_t *raw_child_page(const struct raw_child *child, uint32_t page)
{
	return child->map + (size_t)page * VMBUS_PAGE_BYTES;
}

/* Whether the parent rang since the last time. */
static inline bool raw_child_hears(const struct raw_child *child)
{
	struct epoll_event event;

	return epoll_wait(child->listener, &event, 1, 0) == 1;
}

static inline void raw_child_ring(const struct raw_child *child)
{
	const uint64_t one = 1;

	(void)!write(child->bell, &one, sizeof(one));
}

#endif
