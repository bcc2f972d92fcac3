/* SPDX-License-Identifier: MIT */
/* For the tests of vmbus-vmm: what was said on standard error, and files that a test makes. */
#ifndef VMM_TEST_H
#define VMM_TEST_H

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmbus_test.h"
#include "vmm.h"

/* Standard error goes to a file from now on. */
static int said_fd = -1, said_before = -1;

static inline void listen_to_us(void)
{
	said_fd = memfd_create("said", MFD_CLOEXEC);
	said_before = dup(STDERR_FILENO);
	ck_assert_int_ge(said_fd, 0);
	dup2(said_fd, STDERR_FILENO);
}

/* What was said; standard error is as before. */
static inline const char *what_we_said(void)
{
	static char text[8192];
	ssize_t n;

	dup2(said_before, STDERR_FILENO);
	close(said_before);
	n = pread(said_fd, text, sizeof(text) - 1, 0);
	close(said_fd);
	text[n > 0 ? n : 0] = 0;
	return text;
}

#define ck_said(part)                                                                              \
	do {                                                                                       \
		const char *const said = what_we_said();                                           \
		ck_assert_msg(strstr(said, part) != NULL, "said: %s", said);                       \
	} while (0)

/* A file of the test's, with these bytes. */
static inline const char *make_file(const char *name, const void *bytes, size_t count)
{
	static char paths[4][128];
	static unsigned int turn;
	char *const path = paths[turn++ % 4];
	int fd;

	(void)snprintf(path, sizeof(paths[0]), "/tmp/vmm-test-%d-%s", (int)getpid(), name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, count), (ssize_t)count);
	close(fd);
	return path;
}

static inline void put_le(uint8_t *at, uint64_t value, uint32_t bytes)
{
	while (bytes--) {
		*at++ = (uint8_t)value;
		value >>= 8;
	}
}

static inline uint64_t get_le(const uint8_t *at, uint32_t bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | at[bytes];
	return value;
}

#define BZ_BYTES 8192u
#define BZ_AT 0x1000000u
#define BZ_SIZE 0x200000u

/* A bzImage as far as a loader looks: header, then code that is the numbers of its bytes. */
static inline void make_bzimage(uint8_t *image)
{
	uint32_t i;

	memset(image, 0, BZ_BYTES);
	for (i = 2048; i < BZ_BYTES; i++)
		image[i] = (uint8_t)(i * 7u);
	image[0x1f1] = 3; /* (3 + 1) sectors of setup */
	put_le(image + 0x1fe, 0xAA55, 2);
	image[0x201] = 0x6a;
	memcpy(image + 0x202, "HdrS", 4);
	put_le(image + 0x206, 0x20f, 2);
	put_le(image + 0x22c, 0x7fffffff, 4);
	put_le(image + 0x230, 0x200000, 4);
	put_le(image + 0x236, 0x7f, 2);
	put_le(image + 0x238, 2047, 4);
	put_le(image + 0x258, BZ_AT, 8);
	put_le(image + 0x260, BZ_SIZE, 4);
}

#define ELF_HEADER 0x1000u
#define ELF_AT 0x1000000u

/* A 64-bit ELF file with one segment: code, and bytes of zeros behind it. */
static inline size_t make_elf(uint8_t *file, const uint8_t *code, size_t bytes, uint64_t zeros)
{
	memset(file, 0, ELF_HEADER);
	memcpy(file, "\177ELF\2\1\1", 7);
	put_le(file + 16, 2, 2);  /* executable */
	put_le(file + 18, 62, 2); /* x86-64 */
	put_le(file + 20, 1, 4);
	put_le(file + 24, ELF_AT, 8); /* entry */
	put_le(file + 32, 64, 8);     /* program headers */
	put_le(file + 52, 64, 2);
	put_le(file + 54, 56, 2);
	put_le(file + 56, 1, 2);
	put_le(file + 64, 1, 4); /* load */
	put_le(file + 68, 7, 4);
	put_le(file + 72, ELF_HEADER, 8);
	put_le(file + 80, ELF_AT, 8);
	put_le(file + 88, ELF_AT, 8);
	put_le(file + 96, bytes, 8);
	put_le(file + 104, bytes + zeros, 8);
	memcpy(file + ELF_HEADER, code, bytes);
	return ELF_HEADER + bytes;
}

#endif
