/* SPDX-License-Identifier: MIT */
/*
 * What the shm backend wants of the system: sealed memory, doorbells that nobody can block on,
 * process descriptors, time, and log lines that a peer cannot multiply.
 */
#ifndef VMBUS_SHM_SYS_H
#define VMBUS_SHM_SYS_H

#include <vmbus/base.h>
#include <vmbus/bus.h>

/* The code for what a system call said; errno stays as it is. */
int vmbus__shm_errno(void);

/* Close *fd if it is one and make it -1; errno stays as it is. */
void vmbus__shm_close(int *fd);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t vmbus__shm_now_ns(void);

/* So many from now on; UINT64_MAX, which never comes, if that is too many. */
uint64_t vmbus__shm_in_ns(uint64_t ns);

/*
 * Whether a file may have this many bytes; a system call that asks for more gets a signal that ends
 * the process.  Errors: SYSTEM (errno EFBIG).
 */
int vmbus__shm_size_allowed(uint64_t bytes);

/* Bytes rounded up to whole pages of the host. */
uint64_t vmbus__shm_whole_pages(uint64_t bytes);

/* Bind pages to a NUMA node.  Errors: NOTSUP, NOMEM, the system's. */
int vmbus__shm_place(void *map, uint64_t bytes, uint32_t node);

/* A sealed memfd of huge pages; *bytes is rounded up to them. */
int vmbus__shm_create_huge(uint64_t *bytes);

/*
 * Whether fd is a memfd that cannot shrink and has this many bytes; *huge: of huge pages.
 * Errors: INVAL (not sealed, no memfd), RANGE (another size), the system's.
 */
int vmbus__shm_check_memory(int fd, uint64_t bytes, bool *huge);

/* A descriptor of a process; readable when it is dead.  Errors: the system's. */
int vmbus__shm_pidfd(int32_t pid);

/*
 * A doorbell.  Who rings has the eventfd and adds to it, who listens has it in an epoll set, edge
 * by edge, and never reads it.  So nobody calls what could block: O_NONBLOCK belongs to the open
 * file, which a peer that holds it too may change, and a counter that the peer filled or emptied
 * would make a read or write wait.
 */
int vmbus__shm_doorbell(void);
void vmbus__shm_ring_doorbell(int fd);
/* Whether a descriptor that came can be one: anonymous, and now written without waiting. */
bool vmbus__shm_is_doorbell(int fd);

int vmbus__shm_epoll_add(int epoll_fd, int fd, uint32_t events, uint64_t data);
int vmbus__shm_epoll_mod(int epoll_fd, int fd, uint32_t events, uint64_t data);
void vmbus__shm_epoll_del(int epoll_fd, int fd);

struct epoll_event;
/* Events of a set, waited for up to timeout_ns; 0 when there are none, or a signal came. */
int vmbus__shm_epoll_wait(int epoll_fd, struct epoll_event *events, int room, uint64_t timeout_ns);

/* A descriptor of our own that makes an epoll set readable: raise and clear it. */
void vmbus__shm_again(int fd, bool *is_set, bool set);

/* Lines of text, at most ten a second; then one tells how many were left out. */
struct vmbus__shm_log {
	void (*fn)(void *ctx, enum vmbus_log_level level, const char *line);
	void *ctx;
	uint64_t second;
	uint32_t lines;
	uint32_t dropped;
	uint64_t dropped_ever;
};
void vmbus__shm_log(struct vmbus__shm_log *log, enum vmbus_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
