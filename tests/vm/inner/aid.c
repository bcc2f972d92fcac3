/* SPDX-License-Identifier: MIT */
/*
 * What a busybox cannot do for the scenarios, inside and outside of the guest: tell the time in
 * nanoseconds, measure the time stamp counter, start another kernel, write to the VMM's port for
 * marks, and write records to a disk that must be there after a power cut.  Linked statically; it
 * must know nothing about VMBus.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/syscall.h>
#include <sys/uio.h>
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

/* Cycles of the time stamp counter in a millisecond; nothing where there is none. */
static int tsc(void)
{
#if defined(__x86_64__)
	struct timespec from, to;
	unsigned long long cycles, ns;

	clock_gettime(CLOCK_MONOTONIC, &from);
	cycles = __builtin_ia32_rdtsc();
	usleep(500000); /* so that it does not matter who was on the processor between two lines */
	clock_gettime(CLOCK_MONOTONIC, &to);
	cycles = __builtin_ia32_rdtsc() - cycles;
	ns = (unsigned long long)(to.tv_sec - from.tv_sec) * 1000000000 +
	     (unsigned long long)to.tv_nsec - (unsigned long long)from.tv_nsec;
	printf("%llu\n", cycles * 1000 / (ns / 1000));
#endif
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

/* Record n: its number and what follows from it, so that no other is taken for it. */
#define RECORD_BYTES 4096u
#define RECORD_WORDS (RECORD_BYTES / 8u)
#define LATE_RECORDS 256u

static void fill_record(uint64_t *words, uint64_t n)
{
	for (uint64_t i = 0; i < RECORD_WORDS; i++)
		words[i] = (n + 1) * UINT64_C(0x9e3779b97f4a7c15) + i;
}

/* Every other record is made durable by itself, the others by a flush after them. */
static int write_record(int fd, const uint64_t *words, uint64_t n)
{
	const struct iovec iov = { .iov_base = (void *)(uintptr_t)words, .iov_len = RECORD_BYTES };
	const off_t at = (off_t)(n * RECORD_BYTES);

	if (n % 2 == 0)
		return pwritev2(fd, &iov, 1, at, RWF_DSYNC) == RECORD_BYTES ? 0 : -1;
	return pwritev2(fd, &iov, 1, at, 0) == RECORD_BYTES && fdatasync(fd) == 0 ? 0 : -1;
}

/*
 * Writes records to a disk and says of each when it is durable, until that fails.  Between them it
 * writes, far behind, others without a flush, and at the end over those, again without one.
 */
static int write_records(const char *disk, const char *count)
{
	const uint64_t most = strtoull(count, NULL, 10);
	const int fd = open(disk, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint64_t *words = aligned_alloc(RECORD_BYTES, RECORD_BYTES), n;

	if (fd < 0 || !words)
		return fail(disk);
	for (n = 0; n < most; n++) {
		fill_record(words, n);
		if (write_record(fd, words, n) != 0)
			return fail("record");
		printf("vmtest: durable %llu\n", (unsigned long long)n);
		fflush(stdout);
		fill_record(words, most + n);
		if (pwrite(fd, words, RECORD_BYTES, (off_t)((most + n) * RECORD_BYTES)) !=
		    RECORD_BYTES)
			return fail("other record");
	}
	for (n = 0; n < LATE_RECORDS; n++) {
		fill_record(words, 2 * most + n);
		if (pwrite(fd, words, RECORD_BYTES, (off_t)((most + n) * RECORD_BYTES)) !=
		    RECORD_BYTES)
			return fail("late record");
	}
	puts("vmtest: undurable");
	return 0;
}

/* Tells how many records are there one after another, how many of the others, and of the last. */
static int count_records(const char *file, const char *count)
{
	const uint64_t most = strtoull(count, NULL, 10);
	const int fd = open(file, O_RDONLY | O_CLOEXEC);
	uint64_t is[RECORD_WORDS], wanted[RECORD_WORDS], there = 0, others = 0, late = 0;
	int in_order = 1;

	if (fd < 0)
		return fail(file);
	for (uint64_t n = 0; n < 2 * most + LATE_RECORDS; n++) {
		fill_record(wanted, n);
		if (pread(fd, is, sizeof(is), (off_t)(n * RECORD_BYTES)) != sizeof(is))
			break;
		if (n >= most) {
			others += memcmp(is, wanted, sizeof(is)) == 0;
			fill_record(wanted, n + most);
			late += memcmp(is, wanted, sizeof(is)) == 0;
		} else if (in_order && memcmp(is, wanted, sizeof(is)) == 0)
			there++;
		else
			in_order = 0;
	}
	printf("%llu %llu %llu\n", (unsigned long long)there, (unsigned long long)others,
	       (unsigned long long)late);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "now") == 0)
		return now();
	if (argc == 2 && strcmp(argv[1], "tsc") == 0)
		return tsc();
	if (argc == 3 && strcmp(argv[1], "mark") == 0)
		return mark(argv[2]);
	if (argc == 5 && strcmp(argv[1], "kexec") == 0)
		return start_kernel(argv[2], argv[3], argv[4]);
	if (argc == 4 && strcmp(argv[1], "write-records") == 0)
		return write_records(argv[2], argv[3]);
	if (argc == 4 && strcmp(argv[1], "count-records") == 0)
		return count_records(argv[2], argv[3]);
	fputs("usage: aid now | aid tsc | aid mark NUMBER | aid kexec KERNEL INITRD CMDLINE\n"
	      "       aid write-records DISK COUNT | aid count-records FILE COUNT\n",
	      stderr);
	return 2;
}
