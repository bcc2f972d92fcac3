/* SPDX-License-Identifier: MIT */
/*
 * System calls that fail, or do less than they were asked for, when a test says so: the nth call of
 * one kind.  They stand in the test's program in front of the C library's.
 */
#ifndef VMBUS_TESTS_ISOLATION_INJECT_H
#define VMBUS_TESTS_ISOLATION_INJECT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

enum inject_call {
	INJECT_NONE,
	INJECT_SENDMSG,
	INJECT_RECVMSG,
	INJECT_MMAP,
	INJECT_WRITE,
	INJECT_EVENTFD,
	INJECT_EPOLL_CREATE,
	INJECT_EPOLL_CTL,
	INJECT_TIMERFD,
	INJECT_MEMFD,
	INJECT_FTRUNCATE,
	INJECT_CALLS
};

static const char *const inject_names[INJECT_CALLS] = {
	"none",		 "sendmsg",   "recvmsg",	"mmap",		"write",     "eventfd",
	"epoll_create1", "epoll_ctl", "timerfd_create", "memfd_create", "ftruncate",
};

enum inject_how {
	INJECT_FAIL, /* with an error */
	INJECT_SHORT /* does less, or says that it did */
};

static uint32_t inject_call; /* enum inject_call */
static uint32_t inject_nth;  /* 0: only count */
static uint32_t inject_how;
static uint32_t inject_count;

static inline void inject_arm(enum inject_call call, uint32_t nth, enum inject_how how)
{
	__atomic_store_n(&inject_count, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&inject_nth, nth, __ATOMIC_SEQ_CST);
	__atomic_store_n(&inject_how, how, __ATOMIC_SEQ_CST);
	__atomic_store_n(&inject_call, call, __ATOMIC_SEQ_CST);
}

/* Returns how many calls there were. */
static inline uint32_t inject_disarm(void)
{
	__atomic_store_n(&inject_call, INJECT_NONE, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&inject_count, __ATOMIC_SEQ_CST);
}

/* Whether this is the call. */
static inline int inject_now(enum inject_call call)
{
	if (__atomic_load_n(&inject_call, __ATOMIC_SEQ_CST) != call)
		return 0;
	return __atomic_add_fetch(&inject_count, 1, __ATOMIC_SEQ_CST) ==
	       __atomic_load_n(&inject_nth, __ATOMIC_SEQ_CST);
}

static inline int inject_error(int number)
{
	errno = number;
	return -1;
}

/* A record is cut in half; a receiver gets half of it, and no descriptors. */
ssize_t sendmsg(int fd, const struct msghdr *hdr, int flags)
{
	struct msghdr cut = *hdr;
	struct iovec iov;

	if (!inject_now(INJECT_SENDMSG))
		return syscall(SYS_sendmsg, fd, hdr, flags);
	if (inject_how == INJECT_FAIL || hdr->msg_iovlen != 1)
		return inject_error(ENOBUFS);
	iov = (struct iovec){ hdr->msg_iov->iov_base, hdr->msg_iov->iov_len / 2 };
	cut.msg_iov = &iov;
	return syscall(SYS_sendmsg, fd, &cut, flags);
}

ssize_t recvmsg(int fd, struct msghdr *hdr, int flags)
{
	struct msghdr cut = *hdr;
	ssize_t n;

	if (!inject_now(INJECT_RECVMSG))
		return syscall(SYS_recvmsg, fd, hdr, flags);
	if (inject_how == INJECT_FAIL)
		return inject_error(ENOMEM);
	cut.msg_control = NULL;
	cut.msg_controllen = 0;
	n = syscall(SYS_recvmsg, fd, &cut, flags);
	hdr->msg_controllen = 0;
	hdr->msg_flags = cut.msg_flags;
	return n > 1 ? n / 2 : n;
}

void *mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	if (inject_now(INJECT_MMAP)) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, at, bytes, prot, flags, fd, offset);
}

/* What is written is written, so that nobody waits for ever; what is said of it is not true. */
ssize_t write(int fd, const void *from, size_t bytes)
{
	const ssize_t n = syscall(SYS_write, fd, from, bytes);

	if (!inject_now(INJECT_WRITE))
		return n;
	return inject_how == INJECT_FAIL ? inject_error(EAGAIN) : n / 2;
}

int eventfd(unsigned int count, int flags)
{
	return inject_now(INJECT_EVENTFD) ? inject_error(EMFILE)
					  : (int)syscall(SYS_eventfd2, count, flags);
}

int epoll_create1(int flags)
{
	return inject_now(INJECT_EPOLL_CREATE) ? inject_error(EMFILE)
					       : (int)syscall(SYS_epoll_create1, flags);
}

int epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
	return inject_now(INJECT_EPOLL_CTL) ? inject_error(ENOSPC)
					    : (int)syscall(SYS_epoll_ctl, set, op, fd, event);
}

int timerfd_create(clockid_t clock, int flags)
{
	return inject_now(INJECT_TIMERFD) ? inject_error(EMFILE)
					  : (int)syscall(SYS_timerfd_create, clock, flags);
}

int memfd_create(const char *name, unsigned int flags)
{
	return inject_now(INJECT_MEMFD) ? inject_error(EMFILE)
					: (int)syscall(SYS_memfd_create, name, flags);
}

int ftruncate(int fd, off_t bytes)
{
	return inject_now(INJECT_FTRUNCATE) ? inject_error(ENOSPC)
					    : (int)syscall(SYS_ftruncate, fd, bytes);
}

#endif
