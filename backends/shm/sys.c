/* SPDX-License-Identifier: MIT */
/*
 * The system calls of the shm backend that more than one of its files needs.  Nothing here knows
 * the socket's protocol.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "shm/sys.h"

#include "base/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <numa.h>
#include <numaif.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define LINES_PER_SECOND 10u
#define LINE_BYTES 320

static vmbus__a32 no_pwait2; /* this system has no epoll_pwait2(); once it is so, for ever */

int vmbus__shm_errno(void)
{
	switch (errno) {
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ENOSPC:
		return VMBUS_E_NOMEM;
	case EPERM:
	case EACCES:
		return VMBUS_E_PERM;
	case ENOSYS:
		return VMBUS_E_NOTSUP;
	default:
		return VMBUS_E_SYSTEM;
	}
}

void vmbus__shm_close(int *fd)
{
	const int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

uint64_t vmbus__shm_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t vmbus__shm_in_ns(uint64_t ns)
{
	const uint64_t now = vmbus__shm_now_ns();

	return ns < UINT64_MAX - now ? now + ns : UINT64_MAX;
}

int vmbus__shm_size_allowed(uint64_t bytes)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur == RLIM_INFINITY ||
	    bytes <= limit.rlim_cur)
		return 0;
	errno = EFBIG;
	return VMBUS_E_SYSTEM;
}

uint64_t vmbus__shm_whole_pages(uint64_t bytes)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

int vmbus__shm_place(void *map, uint64_t bytes, uint32_t node)
{
	struct bitmask *mask;
	long failed;

	if (numa_available() < 0 || (int64_t)node > numa_max_node() ||
	    !numa_bitmask_isbitset(numa_all_nodes_ptr, node))
		return VMBUS_E_NOTSUP;
	mask = numa_allocate_nodemask();
	if (!mask)
		return VMBUS_E_NOMEM;
	numa_bitmask_setbit(mask, node);
	failed = mbind(map, bytes, MPOL_BIND, mask->maskp, mask->size + 1, 0);
	numa_bitmask_free(mask);
	return failed ? vmbus__shm_errno() : 0;
}

int vmbus__shm_create_huge(uint64_t *bytes)
{
	int fd = memfd_create("vmbus-child", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
	uint64_t page, whole = 0;
	struct stat st;
	int err;

	if (fd < 0)
		return vmbus__shm_errno();
	if (fstat(fd, &st) == 0) {
		page = (uint64_t)st.st_blksize; /* the system's size of a huge page */
		whole = (*bytes + page - 1) / page * page;
	}
	if (whole && vmbus__shm_size_allowed(whole) == 0 && ftruncate(fd, (off_t)whole) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
		*bytes = whole;
		return fd;
	}
	err = vmbus__shm_errno();
	vmbus__shm_close(&fd);
	return err;
}

int vmbus__shm_check_memory(int fd, uint64_t bytes, bool *huge)
{
	struct stat st;
	struct statfs fs;
	const int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return VMBUS_E_INVAL;
	if (fstat(fd, &st) || fstatfs(fd, &fs))
		return vmbus__shm_errno();
	*huge = fs.f_type == HUGETLBFS_MAGIC;
	return st.st_size >= 0 && (uint64_t)st.st_size >= bytes ? 0 : VMBUS_E_RANGE;
}

int vmbus__shm_pidfd(int32_t pid)
{
	const int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0); /* close-on-exec by itself */

	return fd < 0 ? vmbus__shm_errno() : fd;
}

int vmbus__shm_doorbell(void)
{
	const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	return fd < 0 ? vmbus__shm_errno() : fd;
}

bool vmbus__shm_is_doorbell(int fd)
{
	struct stat st;
	const int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_ACCMODE) == O_RDWR && fstat(fd, &st) == 0 &&
	       (st.st_mode & S_IFMT) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

void vmbus__shm_ring_doorbell(int fd)
{
	const uint64_t one = 1;
	ssize_t n;

	/* A counter that is full is the peer's doing, and its loss. */
	do
		n = write(fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

int vmbus__shm_epoll_add(int epoll_fd, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) ? vmbus__shm_errno() : 0;
}

int vmbus__shm_epoll_mod(int epoll_fd, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };

	return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event) ? vmbus__shm_errno() : 0;
}

/* Closing is not enough where another process has the same open file. */
void vmbus__shm_epoll_del(int epoll_fd, int fd)
{
	struct epoll_event unused = { 0 };

	if (fd >= 0)
		(void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, &unused);
}

/* What epoll_pwait2() does, which Linux has from 5.11 on, and some sandboxes and tools never. */
static int pwait2(int epoll_fd, struct epoll_event *events, int room,
		  const struct timespec *timeout)
{
	struct pollfd fd = { .fd = epoll_fd, .events = POLLIN };
	int n;

	if (!vmbus__ld32_relaxed(&no_pwait2)) { /* NOPWAIT.look */
		n = epoll_pwait2(epoll_fd, events, room, timeout, NULL);
		if (n >= 0 || errno != ENOSYS)
			return n;
		vmbus__st32_relaxed(&no_pwait2, 1); /* NOPWAIT.learn */
	}
	return ppoll(&fd, 1, timeout, NULL) > 0 ? epoll_wait(epoll_fd, events, room, 0) : 0;
}

int vmbus__shm_epoll_wait(int epoll_fd, struct epoll_event *events, int room, uint64_t timeout_ns)
{
	const struct timespec timeout = { .tv_sec = (time_t)(timeout_ns / 1000000000u),
					  .tv_nsec = (long)(timeout_ns % 1000000000u) };
	int n;

	if (timeout_ns == 0)
		n = epoll_wait(epoll_fd, events, room, 0);
	else
		n = pwait2(epoll_fd, events, room, &timeout);
	if (n < 0)
		return errno == EINTR ? 0 : vmbus__shm_errno();
	return n;
}

void vmbus__shm_again(int fd, bool *is_set, bool set)
{
	uint64_t count;

	if (*is_set == set)
		return;
	*is_set = set;
	if (set)
		vmbus__shm_ring_doorbell(fd);
	else
		(void)!read(fd, &count, sizeof(count));
}

static void emit(struct vmbus__shm_log *log, enum vmbus_log_level level, const char *line)
{
	log->lines++;
	log->fn(log->ctx, level, line);
}

void vmbus__shm_log(struct vmbus__shm_log *log, enum vmbus_log_level level, const char *format, ...)
{
	const uint64_t second = vmbus__shm_now_ns() / 1000000000u;
	const int saved = errno;
	char line[LINE_BYTES];
	va_list args;

	if (!log->fn)
		return;
	if (second != log->second) {
		const uint32_t dropped = log->dropped;

		log->second = second;
		log->lines = 0;
		log->dropped = 0;
		if (dropped) {
			(void)snprintf(line, sizeof(line), "%u lines left out", dropped);
			emit(log, VMBUS_LOG_ERROR, line);
		}
	}
	if (log->lines >= LINES_PER_SECOND) {
		log->dropped++;
		log->dropped_ever++;
		return;
	}
	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	emit(log, level, line);
	errno = saved;
}
