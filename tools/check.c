/* SPDX-License-Identifier: MIT */
/*
 * vmbusctl check: what the backends need of this machine, tried out where that harms nobody, and the
 * limits that many children or channels meet first.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <vmbus/shm.h>

#include "ctl.h"

/* What a parent opens: for itself, for each child, and for each channel with a thread of its own. */
#define FDS_PARENT 16u
#define FDS_CHILD 12u
#define FDS_OWN 3u
/* Mappings: of the program, of a child's memory, of a ring that is mapped twice. */
#define MAPS_PARENT 128u
#define MAPS_CHILD 2u
#define MAPS_RING 3u
#define CHANNELS_MAX 2047u
#define CHILDREN_MAX 64u

static int worst;

void ctl_report(enum ctl_verdict verdict, const char *what, const char *how, const char *advice)
{
	static const char *const marks[] = { "ok", "limited", "no" };

	printf("%-8s %s: %s\n", marks[verdict], what, how);
	if (advice)
		printf("%-8s   %s\n", "", advice);
	if (verdict == CTL_BAD)
		worst = CTL_FAILED;
}

static void report_errno(const char *what, const char *advice)
{
	ctl_report(CTL_BAD, what, strerror(errno), advice);
}

static void check_kernel(void)
{
	struct utsname name;
	char how[160];

	if (uname(&name))
		return;
	(void)snprintf(how, sizeof(how), "%s %s, pages of %ld bytes", name.sysname, name.release,
		       sysconf(_SC_PAGESIZE));
	ctl_report(CTL_GOOD, "kernel", how, NULL);
}

static void check_memfd(void)
{
	const char *const what = "shm: sealed memory (memfd_create, F_SEAL_SHRINK)";
	const int fd = vmbus_shm_create(4096);

	if (fd < 0) {
		report_errno(what, "Linux 3.17 or later; a seccomp filter may forbid it");
		return;
	}
	if (fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK)
		ctl_report(CTL_GOOD, what, "yes", NULL);
	else
		ctl_report(CTL_BAD, what, "the seal does not hold", NULL);
	close(fd);
}

static void check_fds(void)
{
	const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	const int set = epoll_create1(EPOLL_CLOEXEC);
	const int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	const int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (event < 0 || set < 0)
		report_errno("shm: doorbells (eventfd, epoll)", "raise ulimit -n");
	else
		ctl_report(CTL_GOOD, "shm: doorbells (eventfd, epoll)", "yes", NULL);
	if (sock < 0)
		report_errno("shm: socket (AF_UNIX, SOCK_SEQPACKET)", NULL);
	else
		ctl_report(CTL_GOOD, "shm: socket (AF_UNIX, SOCK_SEQPACKET)", "yes", NULL);
	if (self < 0)
		ctl_report(CTL_LIMITED, "shm: process descriptors (pidfd_open)", strerror(errno),
			   "Linux 5.3 or later; without them only the socket tells of a death");
	else
		ctl_report(CTL_GOOD, "shm: process descriptors (pidfd_open)", "yes", NULL);
	if (event >= 0)
		close(event);
	if (set >= 0)
		close(set);
	if (self >= 0)
		close(self);
	if (sock >= 0)
		close(sock);
}

/* A limit against what the sizes that we promise need. */
static void check_limit(const char *what, unsigned long long have, unsigned long long many,
			unsigned long long full, const char *raise)
{
	char how[200], advice[160];

	(void)snprintf(how, sizeof(how),
		       "%llu; %llu for %u children with 16 channels, %llu for "
		       "%u channels that each have a thread or a mirror",
		       have, many, CHILDREN_MAX, full, CHANNELS_MAX);
	(void)snprintf(advice, sizeof(advice), raise, full > many ? full : many);
	ctl_report(have >= full && have >= many	  ? CTL_GOOD
		   : have >= many || have >= full ? CTL_LIMITED
						  : CTL_BAD,
		   what, how, have >= full && have >= many ? NULL : advice);
}

static unsigned long long read_number(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	unsigned long long n = 0;
	char line[256];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) == 0) {
			n = strtoull(line + strlen(key), NULL, 10);
			break;
		}
	}
	fclose(f);
	return n;
}

static void check_limits(void)
{
	struct rlimit files = { 0 }, size = { 0 };
	char how[96];

	(void)getrlimit(RLIMIT_NOFILE, &files);
	check_limit("shm: descriptors (ulimit -n)", files.rlim_cur,
		    FDS_PARENT + CHILDREN_MAX * (FDS_CHILD + 16u * FDS_OWN),
		    FDS_PARENT + FDS_CHILD + CHANNELS_MAX * FDS_OWN,
		    "raise it: ulimit -n %llu, or LimitNOFILE= of the unit");
	check_limit(
		"shm: mappings (sysctl vm.max_map_count)",
		read_number("/proc/sys/vm/max_map_count", ""),
		MAPS_PARENT + CHILDREN_MAX * (MAPS_CHILD + 16u * 2u * MAPS_RING),
		MAPS_PARENT + MAPS_CHILD + CHANNELS_MAX * 2u * MAPS_RING,
		"raise it: sysctl -w vm.max_map_count=%llu; until then rings get split windows");
	(void)getrlimit(RLIMIT_FSIZE, &size);
	if (size.rlim_cur == RLIM_INFINITY) {
		ctl_report(CTL_GOOD, "shm: size of a child's memory (ulimit -f)", "unlimited",
			   NULL);
		return;
	}
	(void)snprintf(how, sizeof(how), "%llu bytes", (unsigned long long)size.rlim_cur);
	ctl_report(CTL_LIMITED, "shm: size of a child's memory (ulimit -f)", how,
		   "a child that asks for more is refused; raise it: ulimit -f unlimited");
}

static void check_huge(void)
{
	const unsigned long long left = read_number("/proc/meminfo", "HugePages_Free:");
	const unsigned long long kib = read_number("/proc/meminfo", "Hugepagesize:");
	char how[96];

	(void)snprintf(how, sizeof(how), "%llu free, of %llu KiB", left, kib);
	ctl_report(left ? CTL_GOOD : CTL_LIMITED, "shm: huge pages", how,
		   left ? NULL
			: "only the option huge_pages needs them: sysctl -w vm.nr_hugepages=N");
}

static void check_numa(void)
{
	char how[64];

	if (numa_available() < 0) {
		ctl_report(CTL_LIMITED, "shm: NUMA placement", "the kernel has no NUMA",
			   "the option on_node is refused");
		return;
	}
	(void)snprintf(how, sizeof(how), "%d node(s)", numa_num_configured_nodes());
	ctl_report(CTL_GOOD, "shm: NUMA placement", how, NULL);
}

int ctl_check(void)
{
	worst = CTL_OK;
	check_kernel();
	check_memfd();
	check_fds();
	check_limits();
	check_huge();
	check_numa();
	ctl_check_kvm();
	return worst;
}
