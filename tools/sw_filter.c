/* SPDX-License-Identifier: MIT */
/*
 * What a switch may still do once all is open: no file is opened, no program executed, no memory made
 * executable, and no privilege is left.  A violation ends it with a message that names the call.
 */
#define _GNU_SOURCE
#include "sw.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int calls[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(recvmsg),
	SCMP_SYS(recvmmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendmmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(accept4),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockname),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2),
	SCMP_SYS(eventfd2),
	SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime),
	SCMP_SYS(timerfd_gettime),
	SCMP_SYS(memfd_create),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fallocate),
	SCMP_SYS(fcntl),
	SCMP_SYS(dup),
	SCMP_SYS(dup3),
	SCMP_SYS(close),
	SCMP_SYS(fstat),
	SCMP_SYS(fstatfs),
	SCMP_SYS(newfstatat),
	SCMP_SYS(stat),
	SCMP_SYS(lstat),
	SCMP_SYS(statx),
	SCMP_SYS(lseek),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(mincore),
	SCMP_SYS(mbind),
	SCMP_SYS(set_mempolicy),
	SCMP_SYS(get_mempolicy),
	SCMP_SYS(brk),
	SCMP_SYS(futex),
	SCMP_SYS(membarrier),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(tgkill),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigpending), /* and the next: a capture into a pipe whose reader goes */
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rseq),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
};

/* Of a port that makes sockets, and looks where names are looked up. */
static const int socket_calls[] = {
	SCMP_SYS(socket), SCMP_SYS(connect),	 SCMP_SYS(bind),  SCMP_SYS(listen),
	SCMP_SYS(accept), SCMP_SYS(getpeername), SCMP_SYS(uname), SCMP_SYS(pipe2),
};

/* Of ports, at run time. */
static const unsigned int requests[] = {
	TUNSETOFFLOAD, TUNSETQUEUE, TUNSETVNETHDRSZ, TUNGETIFF, SIOCGIFFLAGS,
	SIOCGIFMTU,    SIOCETHTOOL, SIOCGIFHWADDR,   FIONREAD,
};

/* What follows runs in a signal handler, where stdio is not allowed. */
static size_t put_number(char *line, size_t at, uint32_t value)
{
	uint32_t scale = 1;

	while (value / scale >= 10)
		scale *= 10;
	for (; scale; scale /= 10)
		line[at++] = (char)('0' + value / scale % 10);
	return at;
}

static void violated(int signal, siginfo_t *info, void *context)
{
	static const char text[] = "vmbus-switch: sandbox: forbidden system call ";
	char line[sizeof(text) + 16];
	size_t at = sizeof(text) - 1;

	(void)signal;
	(void)context;
	memcpy(line, text, at);
	at = put_number(line, at, (uint32_t)info->si_syscall);
	line[at++] = '\n';
	if (write(STDERR_FILENO, line, at) < 0)
		_exit(SW_FILTER);
	_exit(SW_FILTER);
}

static int allow(scmp_filter_ctx ctx, const int *list, size_t count)
{
	int err = 0;
	size_t i;

	for (i = 0; i < count && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, list[i], 0);
	return err;
}

static int allow_some(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp not_executed = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	int err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, not_executed);
	size_t i;

	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, not_executed);
	if (!err) /* limits are read, and not set */
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
				       SCMP_A2(SCMP_CMP_EQ, 0, 0));
	if (!err) /* a thread gives itself a name */
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				       SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
	for (i = 0; i < sizeof(requests) / sizeof(requests[0]) && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_MASKED_EQ, 0xFFFFFFFFu, requests[i]));
	return err;
}

/* The C library looks at files of the system, and does without: they are not there. */
static int no_files(scmp_filter_ctx ctx)
{
	return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(openat), 0);
}

static int allow_sockets(scmp_filter_ctx ctx)
{
	const int err = allow(ctx, socket_calls, sizeof(socket_calls) / sizeof(socket_calls[0]));

	return err ? err
		   : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ,
					      O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND, O_RDONLY));
}

/* All of them; descriptors that are open keep what they can. */
int sw_unprivileged(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[2] = { { 0 }, { 0 } };

	return syscall(SYS_capset, &head, none) ? sw_failed("privileges: %s", strerror(errno)) : 0;
}

int sw_sandbox(bool sockets)
{
	const struct sigaction on = { .sa_sigaction = violated, .sa_flags = SA_SIGINFO };
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int err;

	if (!ctx || sigaction(SIGSYS, &on, NULL))
		return sw_failed("sandbox: %s", strerror(errno));
	err = allow(ctx, calls, sizeof(calls) / sizeof(calls[0]));
	if (!err)
		err = allow_some(ctx);
	if (!err)
		err = sockets ? allow_sockets(ctx) : no_files(ctx);
	if (!err)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!err)
		err = seccomp_load(ctx);
	seccomp_release(ctx);
	if (!err)
		return 0;
	return sw_failed("sandbox: this kernel takes no filter of system calls (%s); --no-sandbox "
			 "runs without one",
			 strerror(-err));
}
