/* SPDX-License-Identifier: MIT */
/* Parents that are processes of a test's own making, and do to their child what the test wants. */
#ifndef VMBUS_TESTS_SHM_LIAR_H
#define VMBUS_TESTS_SHM_LIAR_H

#include "shm/host.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <vmbus/shm.h>

#define MEMORY ((uint64_t)1 << 20)

/* A parent in a process of its own, which accepts one child and then does what the test wants. */
struct liar {
	char path[64];
	int sock; /* listening */
	pid_t pid;
	void (*play)(int sock, int n); /* in the parent's process; n is the test's */
};

static inline void liar_start(struct liar *liar, void (*play)(int sock, int n), int n)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	static unsigned int count;
	char hello[512];
	int sock;

	(void)snprintf(liar->path, sizeof(liar->path), "/tmp/vmbus-liar-%d-%u.sock", (int)getpid(),
		       count++);
	memcpy(at.sun_path, liar->path, sizeof(liar->path));
	(void)unlink(liar->path);
	liar->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	must_eq(bind(liar->sock, (struct sockaddr *)&at, sizeof(at)), 0);
	must_eq(listen(liar->sock, 1), 0);
	fflush(NULL);
	liar->pid = fork();
	must(liar->pid >= 0);
	if (liar->pid)
		return;
	alarm(20);
	sock = accept4(liar->sock, NULL, NULL, SOCK_CLOEXEC);
	if (sock >= 0 && read(sock, hello, sizeof(hello)) > 0)
		play(sock, n);
	_exit(0);
}

static inline void liar_end(struct liar *liar)
{
	kill(liar->pid, SIGKILL);
	must_eq(waitpid(liar->pid, NULL, 0), liar->pid);
	close(liar->sock);
	unlink(liar->path);
}

static char why[160];

static inline struct vmbus_shm_attach_opts opts_of(const char *path)
{
	return (struct vmbus_shm_attach_opts){ .struct_bytes = sizeof(struct vmbus_shm_attach_opts),
					       .path = path,
					       .name = "test",
					       .memory_bytes = MEMORY,
					       .timeout_ns = 5ull * SECOND_NS,
					       .why = why,
					       .why_bytes = sizeof(why) };
}

/* What a right parent would send; a test makes one thing of it wrong. */
struct welcome {
	struct vmbus__shm_msg msg;
	int fds[VMBUS_SHM_FDS_MAX];
	int count;
};

static inline struct welcome right_welcome(void)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	struct welcome w = { .msg = { .type = VMBUS_SHM_WELCOME }, .count = 3 };
	int bell = eventfd(0, EFD_NONBLOCK);

	w.msg.u.welcome = (struct vmbus__shm_welcome){
		.memory = MEMORY, .vps = 1, .mailbox = 0, .flags_page = 1, .first_vp = 2, .heap = 4
	};
	w.fds[0] = vmbus_shm_create(MEMORY);
	w.fds[1] = eventfd(0, EFD_NONBLOCK);
	w.fds[2] = epoll_create1(0);
	(void)epoll_ctl(w.fds[2], EPOLL_CTL_ADD, bell, &event);
	return w;
}

/* Like vmbus__shm_send(), but cut to len bytes, and with any number of descriptors. */
static inline void send_raw(int sock, const void *bytes, size_t len, const int *fds, int count)
{
	union raw_control control;
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	raw_carry(&hdr, &control, fds, count);
	(void)!sendmsg(sock, &hdr, MSG_NOSIGNAL);
}

static inline void send_welcome(int sock, const struct welcome *w)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX];

	send_raw(sock, bytes, vmbus__shm_encode(&w->msg, bytes), w->fds, w->count);
}

static inline void wait_for_end(int sock)
{
	char buf[512];

	while (read(sock, buf, sizeof(buf)) > 0)
		;
}

#endif
