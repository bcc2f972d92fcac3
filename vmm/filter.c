/* SPDX-License-Identifier: MIT */
/*
 * Which system calls a thread may make, by its role.  Neither may open, connect, execute, or map
 * memory that can be executed.  A violation ends the process with a message that names the call.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <termios.h>
#include <ucontext.h>
#include <unistd.h>

#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>

/* TCGETS2 and TCSETS2, whose header does not go with termios.h. */
#define TERMIOS2_GET 0x802C542Au
#define TERMIOS2_SET 0x402C542Bu

/* Both roles: what threads, locks, memory and the clock need. */
static const int common[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(pread64),
	SCMP_SYS(futex),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(sched_yield),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(membarrier),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(getrandom),
	SCMP_SYS(rseq),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(close),
	SCMP_SYS(eventfd2),
	SCMP_SYS(fcntl),
	SCMP_SYS(poll),
};

/* The main thread: sockets, timers, the console, and the end. */
static const int bus[] = {
	SCMP_SYS(ppoll),	   SCMP_SYS(readv),	      SCMP_SYS(writev),
	SCMP_SYS(epoll_create1),   SCMP_SYS(epoll_ctl),	      SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),	   SCMP_SYS(epoll_pwait2),    SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime), SCMP_SYS(timerfd_gettime), SCMP_SYS(accept4),
	SCMP_SYS(recvmsg),	   SCMP_SYS(recvfrom),	      SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),	   SCMP_SYS(getsockopt),      SCMP_SYS(setsockopt),
	SCMP_SYS(getsockname),	   SCMP_SYS(shutdown),	      SCMP_SYS(fallocate),
	SCMP_SYS(fstat),	   SCMP_SYS(newfstatat),      SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),	   SCMP_SYS(lseek),	      SCMP_SYS(rt_sigaction),
	SCMP_SYS(pidfd_open),	   SCMP_SYS(lstat),	      SCMP_SYS(stat),
	SCMP_SYS(mincore),	   SCMP_SYS(rt_sigtimedwait), SCMP_SYS(dup),
	SCMP_SYS(pwrite64),	   SCMP_SYS(ftruncate),	      SCMP_SYS(fsync),
};

/* With providers besides: their journals.  What they are sent goes by sendmsg. */
static const int host[] = {
	SCMP_SYS(memfd_create),
	SCMP_SYS(fstatfs),
};

/* With disks: stores in memory, and in files that are open. */
static const int disks[] = {
	SCMP_SYS(memfd_create),	     SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register), SCMP_SYS(statx),
};

/* A thread of the disks' queues; the first of them makes the others. */
static const int queue[] = {
	SCMP_SYS(ppoll),	  SCMP_SYS(epoll_create1),   SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),	  SCMP_SYS(epoll_pwait),     SCMP_SYS(epoll_pwait2),
	SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(recvmsg),
	SCMP_SYS(recvfrom),	  SCMP_SYS(sendmsg),	     SCMP_SYS(sendto),
	SCMP_SYS(getsockopt),	  SCMP_SYS(setsockopt),	     SCMP_SYS(shutdown),
	SCMP_SYS(readv),	  SCMP_SYS(writev),	     SCMP_SYS(preadv),
	SCMP_SYS(pwritev),	  SCMP_SYS(pwrite64),	     SCMP_SYS(fallocate),
	SCMP_SYS(fsync),	  SCMP_SYS(fdatasync),	     SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),	  SCMP_SYS(lseek),	     SCMP_SYS(sched_getaffinity),
};

/* With NICs: a burst of frames at once; a capture into a pipe without a reader. */
static const int nets[] = {
	SCMP_SYS(recvmmsg), SCMP_SYS(sendmmsg),	     SCMP_SYS(timerfd_gettime),
	SCMP_SYS(dup3),	    SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigtimedwait),
};

/* What ports ask of descriptors that are open. */
static const unsigned int net_requests[] = {
	TUNSETOFFLOAD, TUNSETQUEUE,   TUNSETVNETHDRSZ, TUNGETIFF, SIOCGIFFLAGS,
	SIOCGIFMTU,    SIOCGIFHWADDR, SIOCETHTOOL,     FIONREAD,
};

/* With a network of user's: its sockets, and where names are looked up. */
static const int sockets[] = {
	SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(bind),	    SCMP_SYS(listen),
	SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
	SCMP_SYS(stat),	  SCMP_SYS(pipe2),
};

/* KVM's requests that handling an exit may take. */
static const unsigned long vcpu_requests[] = {
	KVM_RUN,       KVM_GET_REGS,	    KVM_SET_REGS,	KVM_GET_SREGS,	KVM_SET_SREGS,
	KVM_GET_MSRS,  KVM_SET_MSRS,	    KVM_SIGNAL_MSI,	KVM_IRQ_LINE,	KVM_SET_GSI_ROUTING,
	KVM_IRQFD,     KVM_IOEVENTFD,	    KVM_HYPERV_EVENTFD, KVM_ENABLE_CAP, KVM_GET_TSC_KHZ,
	KVM_GET_CLOCK, KVM_GET_DEVICE_ATTR, KVM_GET_LAPIC,
};

bool vmm_filter_there(void)
{
	return true;
}

/* What follows runs in a signal handler, where stdio is not allowed. */
static size_t put_text(char *line, size_t at, const char *text)
{
	while (*text)
		line[at++] = *text++;
	return at;
}

static size_t put_number(char *line, size_t at, uint64_t value, uint32_t base)
{
	uint64_t scale = 1;

	while (value / scale >= base)
		scale *= base;
	for (; scale; scale /= base)
		line[at++] = "0123456789abcdef"[value / scale % base];
	return at;
}

static void violated(int signal, siginfo_t *info, void *context)
{
	const ucontext_t *const registers = context;
	const uint64_t second = (uint64_t)registers->uc_mcontext.gregs[REG_RSI];
	char line[128];
	size_t at;

	(void)signal;
	vmm_console_restore();
	at = put_text(line, 0, "vmbus-vmm: sandbox: forbidden system call ");
	at = put_number(line, at, (uint32_t)info->si_syscall, 10);
	at = put_text(line, at, ", second argument 0x");
	at = put_number(line, at, second, 16);
	at = put_text(line, at, "\n");
	if (write(STDERR_FILENO, line, at) < 0)
		_exit(VMM_FILTER);
	_exit(VMM_FILTER);
}

int vmm_filter_prepare(struct vmm *vmm)
{
	struct sigaction on = { .sa_sigaction = violated, .sa_flags = SA_SIGINFO };

	(void)vmm;
	if (sigaction(SIGSYS, &on, NULL))
		return vmm_errno("sandbox: SIGSYS");
	return 0;
}

static int allow(scmp_filter_ctx ctx, const int *calls, size_t count)
{
	int err = 0;
	size_t i;

	for (i = 0; i < count && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
	return err;
}

static int allow_memory(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp not_executed = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	const int err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, not_executed);

	return err ? err
		   : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, not_executed);
}

static int allow_request(scmp_filter_ctx ctx, unsigned long mask, unsigned long request)
{
	return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				SCMP_A1(SCMP_CMP_MASKED_EQ, mask, request));
}

static int bus_rules(scmp_filter_ctx ctx, uint32_t roles)
{
	int err = allow(ctx, bus, sizeof(bus) / sizeof(bus[0]));

	if (!err && (roles & VMM_ROLE_HOST))
		err = allow(ctx, host, sizeof(host) / sizeof(host[0]));
	if (!err && (roles & VMM_ROLE_HOST)) /* limits are read, and not set */
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
				       SCMP_A2(SCMP_CMP_EQ, 0, 0));

	if (!err && (roles & VMM_ROLE_HOST)) /* a provider that is thrown out */
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(pidfd_send_signal), 1,
				       SCMP_A1(SCMP_CMP_EQ, SIGKILL, 0));
	if (!err) /* all that KVM has: reset needs most of it */
		err = allow_request(ctx, 0xFF00, KVMIO << 8);
	return err;
}

static int vcpu_rules(scmp_filter_ctx ctx)
{
	int err = 0;
	size_t i;

	for (i = 0; i < sizeof(vcpu_requests) / sizeof(vcpu_requests[0]) && !err; i++)
		err = allow_request(ctx, 0xFFFFFFFF, vcpu_requests[i]);
	return err;
}

/* A thread, no process; and its own name. */
static int queue_rules(scmp_filter_ctx ctx)
{
	int err = allow(ctx, queue, sizeof(queue) / sizeof(queue[0]));

	if (!err) /* its flags cannot be seen; then clone is tried */
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				       SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM,
					       CLONE_THREAD | CLONE_VM));
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				       SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
	return err;
}

/*
 * A store asks block devices about themselves, and what it would read in /sys is not there.  One
 * behind a server connects again when a channel opens: it is told that it cannot, and the machine
 * goes on.
 */
static int disk_rules(scmp_filter_ctx ctx, uint32_t roles)
{
	int err = allow(ctx, disks, sizeof(disks) / sizeof(disks[0]));

	if (!err && !(roles & VMM_ROLE_SOCKETS))
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(openat), 0);
	if (!err && !(roles & VMM_ROLE_SOCKETS))
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(socket), 0);
	if (!err) /* for the server's name */
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(uname), 0);
	return err ? err : allow_request(ctx, 0xFF00, BLKGETSIZE64 & 0xFF00);
}

static int net_rules(scmp_filter_ctx ctx, uint32_t roles)
{
	int err = allow(ctx, nets, sizeof(nets) / sizeof(nets[0]));
	size_t i;

	for (i = 0; i < sizeof(net_requests) / sizeof(net_requests[0]) && !err; i++)
		err = allow_request(ctx, 0xFFFFFFFF, net_requests[i]);
	if (!err && (roles & VMM_ROLE_SOCKETS))
		err = allow(ctx, sockets, sizeof(sockets) / sizeof(sockets[0]));
	if (!err && (roles & VMM_ROLE_SOCKETS)) /* /etc/resolv.conf: the one that is there */
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT, O_RDONLY));
	return err;
}

/* The terminal is put back by whoever ends the process, by either of tcsetattr's requests. */
static int terminal_rules(scmp_filter_ctx ctx)
{
	static const unsigned long requests[] = { TCGETS, TCSETS, TERMIOS2_GET, TERMIOS2_SET };
	int err = 0;
	size_t i;

	for (i = 0; i < sizeof(requests) / sizeof(requests[0]) && !err; i++)
		err = allow_request(ctx, 0xFFFFFFFF, requests[i]);
	return err;
}

int vmm_filter_load(uint32_t roles)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int err;

	if (!ctx)
		return vmm_error("sandbox: no memory for the filter");
	err = allow(ctx, common, sizeof(common) / sizeof(common[0]));
	if (!err) /* threads of ours, and nobody else's */
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				       SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
	if (!err)
		err = allow_memory(ctx);
	if (!err)
		err = terminal_rules(ctx);
	if (!err)
		err = (roles & VMM_ROLE_VCPU)  ? vcpu_rules(ctx)
		      : (roles & VMM_ROLE_BUS) ? bus_rules(ctx, roles)
					       : queue_rules(ctx);
	if (!err && (roles & (VMM_ROLE_DISKS | VMM_ROLE_QUEUE)))
		err = disk_rules(ctx, roles);
	if (!err && (roles & VMM_ROLE_NETS))
		err = net_rules(ctx, roles);
	if (!err)
		err = seccomp_load(ctx);
	seccomp_release(ctx);
	if (!err)
		return 0;
	errno = -err;
	return vmm_errno("sandbox: this kernel takes no filter of system calls; --sandbox off "
			 "runs without one");
}
