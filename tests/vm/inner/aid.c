/* SPDX-License-Identifier: MIT */
/*
 * What a busybox cannot do for the scenarios, inside and outside of the guest: tell the time in
 * nanoseconds, start another kernel, and write to the VMM's port for marks.  Linked statically; it
 * must know nothing about VMBus.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MARK_PORT 0x604

static int fail(const char *what)
{
	fprintf(stderr, "aid: %s: %s\n", what, strerror(errno));
	return 1;
}

static int now(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_REALTIME, &t) != 0)
		return fail("clock_gettime");
	printf("%lld%09ld\n", (long long)t.tv_sec, t.tv_nsec);
	return 0;
}

/* Loads the kernel, tells the drivers to let go, as reboot -k does, and enters it. */
static int start_kernel(const char *kernel, const char *initrd, const char *cmdline)
{
	int kernel_fd = open(kernel, O_RDONLY | O_CLOEXEC);
	int initrd_fd = open(initrd, O_RDONLY | O_CLOEXEC);

	if (kernel_fd < 0)
		return fail(kernel);
	if (initrd_fd < 0)
		return fail(initrd);
	if (syscall(SYS_kexec_file_load, kernel_fd, initrd_fd, strlen(cmdline) + 1, cmdline, 0L) !=
	    0)
		return fail("kexec_file_load");
	puts("vmtest: kexec loaded");
	fflush(stdout);
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	return fail("reboot");
}

/* Debian's kernels have no /dev/port. */
static int mark(const char *number)
{
	if (ioperm(MARK_PORT, 4, 1) != 0)
		return fail("ioperm");
	outl((unsigned int)atoi(number), MARK_PORT);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "now") == 0)
		return now();
	if (argc == 3 && strcmp(argv[1], "mark") == 0)
		return mark(argv[2]);
	if (argc == 5 && strcmp(argv[1], "kexec") == 0)
		return start_kernel(argv[2], argv[3], argv[4]);
	fputs("usage: aid now | aid mark NUMBER | aid kexec KERNEL INITRD CMDLINE\n", stderr);
	return 2;
}
