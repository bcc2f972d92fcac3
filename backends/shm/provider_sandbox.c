/* SPDX-License-Identifier: MIT */
/*
 * A provider's list of system calls, as a filter that the kernel runs: what serving takes once the
 * connection is there.  No file can be opened, no socket made, no program or thread started, no
 * memory made executable.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <vmbus/provider.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm/sys.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef ARCH

static const uint32_t calls[] = {
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_pread64,
	SYS_pwrite64,
	SYS_recvmsg,
	SYS_sendmsg,
	SYS_recvfrom,
	SYS_sendto,
	SYS_shutdown,
#ifdef SYS_epoll_wait
	SYS_epoll_wait,
	SYS_poll,
#endif
	SYS_epoll_pwait,
	SYS_epoll_pwait2,
	SYS_ppoll,
	SYS_epoll_create1,
	SYS_epoll_ctl,
	SYS_eventfd2,
	SYS_timerfd_create,
	SYS_timerfd_settime,
	SYS_close,
	SYS_fstat,
	SYS_fstatfs,
	SYS_newfstatat, /* what fstat() is with some C libraries */
	SYS_lseek,
	SYS_munmap,
	SYS_mremap,
	SYS_madvise,
	SYS_brk,
	SYS_futex,
	SYS_membarrier,
	SYS_sched_yield,
	SYS_clock_gettime,
	SYS_clock_nanosleep,
	SYS_nanosleep,
	SYS_gettimeofday,
	SYS_getrandom,
	SYS_getpid,
	SYS_gettid,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_sigaltstack,
	SYS_restart_syscall,
	SYS_rseq,
	SYS_set_robust_list,
	SYS_exit,
	SYS_exit_group,
};

#define CALLS (sizeof(calls) / sizeof(calls[0]))

/* arch, number, four calls by an argument, the lists, and their ends; a jump goes up to 255 */
#define MORE_MAX 128u
#define ROOM (CALLS + MORE_MAX + 32u)
_Static_assert(CALLS + MORE_MAX < 255u, "each call of the lists can jump to their end");

#define LOAD(member)                                                                               \
	(struct sock_filter)                                                                       \
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define IS(value, yes, no)                                                                         \
	(struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), yes, no)
#define HAS(bits, yes, no)                                                                         \
	(struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (uint32_t)(bits), yes, no)
#define END_WITH(value) (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, value)

static unsigned short build(struct sock_filter *f, const int *more, uint32_t more_count)
{
	const size_t all = CALLS + more_count;
	unsigned short n = 0;
	size_t i;

	/* Arguments are looked at by their lower halves, on a little-endian machine. */
	f[n++] = LOAD(arch);
	f[n++] = IS(ARCH, 1, 0);
	f[n++] = END_WITH(SECCOMP_RET_KILL_PROCESS);
	f[n++] = LOAD(nr);
	f[n++] = IS(SYS_mmap, 1, 0);
	f[n++] = IS(SYS_mprotect, 0, 4);
	f[n++] = LOAD(args[2]);
	f[n++] = HAS(PROT_EXEC, 0, 1);
	f[n++] = END_WITH(SECCOMP_RET_KILL_PROCESS);
	f[n++] = END_WITH(SECCOMP_RET_ALLOW);
	f[n++] = IS(SYS_tgkill, 0, 4); /* abort() */
	f[n++] = LOAD(args[0]);
	f[n++] = IS(getpid(), 1, 0);
	f[n++] = END_WITH(SECCOMP_RET_KILL_PROCESS);
	f[n++] = END_WITH(SECCOMP_RET_ALLOW);
	f[n++] = IS(SYS_fcntl, 0, 9);
	f[n++] = LOAD(args[1]);
	f[n++] = IS(F_DUPFD_CLOEXEC, 6, 0); /* devices do: what they have already */
	f[n++] = IS(F_OFD_SETLK, 5, 0);	    /* stores: a file changes hands */
	f[n++] = IS(F_GETFD, 4, 0);
	f[n++] = IS(F_GETFL, 3, 0);
	f[n++] = IS(F_SETFL, 2, 0);
	f[n++] = IS(F_GET_SEALS, 1, 0);
	f[n++] = END_WITH(SECCOMP_RET_KILL_PROCESS);
	f[n++] = END_WITH(SECCOMP_RET_ALLOW);
	for (i = 0; i < all; i++) {
		f[n++] =
			IS(i < CALLS ? calls[i] : (uint32_t)more[i - CALLS], (uint8_t)(all - i), 0);
	}
	f[n++] = END_WITH(SECCOMP_RET_KILL_PROCESS);
	f[n++] = END_WITH(SECCOMP_RET_ALLOW);
	return n;
}

int vmbus_provider_sandbox_more(const int *more, uint32_t n)
{
	struct sock_filter filter[ROOM];
	struct sock_fprog program = { .filter = filter };
	uint32_t i;
	long got;

	if (n > MORE_MAX)
		return VMBUS_E_RANGE;
	for (i = 0; i < n; i++)
		if (more[i] < 0)
			return VMBUS_E_RANGE;
	program.len = build(filter, more, n);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return vmbus__shm_errno();
	got = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	if (got == 0)
		return 0;
	if (got > 0) { /* a thread with a filter that we have not; errno is not the kernel's then */
		errno = ESRCH;
		return VMBUS_E_SYSTEM;
	}
	return errno == ENOSYS || errno == EINVAL ? VMBUS_E_NOTSUP : VMBUS_E_SYSTEM;
}

#else

int vmbus_provider_sandbox_more(const int *more, uint32_t n)
{
	(void)more;
	(void)n;
	return VMBUS_E_NOTSUP;
}

#endif

int vmbus_provider_sandbox(void)
{
	return vmbus_provider_sandbox_more(NULL, 0);
}
