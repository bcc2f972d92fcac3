/* SPDX-License-Identifier: MIT */
/* The memory store and the null store. */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int outer = -1;

static const char *make_own(struct vmbus_store *store)
{
	must_eq(vmbus_store_memory(CONFORM_BYTES, -1, store), 0);
	return NULL;
}

static int sealed(uint64_t bytes, int seals)
{
	const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	must(fd >= 0 && !ftruncate(fd, (off_t)bytes));
	must(!fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

static const char *make_given(struct vmbus_store *store)
{
	outer = sealed(CONFORM_BYTES + 4096, F_SEAL_SHRINK);
	must_eq(vmbus_store_memory(CONFORM_BYTES, outer, store), 0);
	return NULL;
}

static void unmake_given(void)
{
	must(!close(outer));
}

static const char *make_null(struct vmbus_store *store)
{
	must_eq(vmbus_store_null(CONFORM_BYTES, false, store), 0);
	return NULL;
}

static const char *make_zeroes(struct vmbus_store *store)
{
	must_eq(vmbus_store_null(CONFORM_BYTES, true, store), 0);
	return NULL;
}

static const struct variant variants[] = {
	{ "memory", make_own, NULL, 512, false, VMBUS_STORE_ZEROES, VMBUS_STORE_VOLATILE },
	{ "memory given", make_given, unmake_given, 512, false, VMBUS_STORE_ZEROES,
	  VMBUS_STORE_VOLATILE },
	{ "null", make_null, NULL, 512, true, 0, VMBUS_STORE_VOLATILE },
	{ "null of zeroes", make_zeroes, NULL, 512, true, 0, VMBUS_STORE_VOLATILE },
};

START_TEST(store_memory__refuses_sizes_and_descriptors)
{
	struct vmbus_store store = { NULL, &store };
	int fd;

	must_eq(vmbus_store_memory(0, -1, &store), VMBUS_E_RANGE);
	must_eq(vmbus_store_memory(VMBUS_STORE_BYTES_MAX + 1, -1, &store), VMBUS_E_RANGE);
	/* More than addresses: the system says so. */
	must(vmbus_err_class(vmbus_store_memory(VMBUS_STORE_BYTES_MAX, -1, &store)) ==
	     VMBUS_CLASS_SYSTEM);
	fd = sealed(4096, F_SEAL_GROW);
	must_eq(vmbus_store_memory(4096, fd, &store), VMBUS_E_PERM);
	must(!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	must_eq(vmbus_store_memory(4097, fd, &store), VMBUS_E_RANGE);
	must(!close(fd));
	fd = sealed(4096, F_SEAL_SHRINK | F_SEAL_WRITE);
	must_eq(vmbus_store_memory(4096, fd, &store), VMBUS_E_SYSTEM);
	must(!close(fd));
	errno = 0;
	must_eq(vmbus_store_memory(4096, fd, &store), VMBUS_E_SYSTEM);
	must_eq(errno, EBADF);
	must(!store.ops && store.ctx == &store);
}
END_TEST

START_TEST(store_memory__needs_a_descriptor)
{
	const int fd = sealed(4096, F_SEAL_SHRINK);
	struct vmbus_store store = { NULL, NULL };

	drive_limit_fds(0);
	must_eq(vmbus_store_memory(4096, -1, &store), VMBUS_E_NOMEM);
	must_eq(vmbus_store_memory(4096, fd, &store), VMBUS_E_NOMEM);
	must(!store.ops && !close(fd));
}
END_TEST

START_TEST(store_memory__gives_back_what_is_discarded)
{
	uint8_t *data = conform_memory(8 << 20);
	struct vmbus_store store;
	struct stat full, less;
	struct drive d;
	int fd;

	fd = sealed(CONFORM_BYTES, F_SEAL_SHRINK);
	must_eq(vmbus_store_memory(CONFORM_BYTES, fd, &store), 0);
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_WRITE, 0, data, 8 << 20), VMBUS_IO_OK);
	must(!fstat(fd, &full));
	must_eq(drive_range(&d, DRIVE_DISCARD, 0, 4 << 20, 0), VMBUS_IO_OK);
	must_eq(drive_range(&d, DRIVE_ZERO, 4 << 20, 1 << 20, VMBUS_IO_MAY_DISCARD), VMBUS_IO_OK);
	must(!fstat(fd, &less));
	must(full.st_blocks - less.st_blocks >= (5 << 20) / 512);
	must_eq(drive_range(&d, DRIVE_ZERO, 5 << 20, 1 << 20, 0), VMBUS_IO_OK); /* kept */
	must(!fstat(fd, &full));
	must_eq(full.st_blocks, less.st_blocks);
	drive_close(&d);
	vmbus_store_destroy(&store);
	must(!close(fd));
	free(data);
}
END_TEST

START_TEST(store_memory__given_outlives_the_process)
{
	const int fd = sealed(CONFORM_BYTES, F_SEAL_SHRINK);
	uint8_t *data = conform_memory(65536), *back = conform_memory(65536);
	struct vmbus_store store;
	struct drive d;
	pid_t pid;
	int status;

	drive_fill(data, 65536, 1);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		free(back); /* nothing is lost when it is killed, and memcheck says so */
		must_eq(vmbus_store_memory(CONFORM_BYTES, fd, &store), 0);
		drive_open(&d, &store);
		must_eq(drive_move(&d, DRIVE_WRITE, 512, data, 65536), VMBUS_IO_OK);
		(void)kill(getpid(), SIGKILL);
	}
	must(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	must_eq(vmbus_store_memory(CONFORM_BYTES, fd, &store), 0);
	drive_open(&d, &store);
	must_eq(drive_move(&d, DRIVE_READ, 512, back, 65536), VMBUS_IO_OK);
	must(!memcmp(data, back, 65536));
	drive_close(&d);
	vmbus_store_destroy(&store);
	must(!close(fd));
	free(data);
	free(back);
}
END_TEST

START_TEST(store_null__leaves_memory_or_fills_it)
{
	uint8_t data[1024], want[1024];
	struct vmbus_store store = { NULL, NULL };
	struct drive d;
	int fill;

	must_eq(vmbus_store_null(0, false, &store), VMBUS_E_RANGE);
	must_eq(vmbus_store_null(VMBUS_STORE_BYTES_MAX + 1, false, &store), VMBUS_E_RANGE);
	for (fill = 0; fill < 2; fill++) {
		must_eq(vmbus_store_null(VMBUS_STORE_BYTES_MAX, fill, &store), 0);
		drive_open(&d, &store);
		memset(data, 0x33, sizeof(data));
		memset(want, fill ? 0 : 0x33, sizeof(want));
		must_eq(drive_move(&d, DRIVE_READ, VMBUS_STORE_BYTES_MAX - 1024, data, 1024),
			VMBUS_IO_OK);
		must(!memcmp(data, want, 1024));
		drive_close(&d);
		vmbus_store_destroy(&store);
	}
}
END_TEST

START_TEST(store_destroy__takes_a_store_that_is_none)
{
	struct vmbus_store store = { NULL, NULL };

	vmbus_store_destroy(&store);
	must(!store.ops);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *const tc = vmbus_test_case(suite, "memory", 10);

	conform_tests(suite, variants, (int)(sizeof(variants) / sizeof(variants[0])));
	tcase_add_test(tc, store_memory__refuses_sizes_and_descriptors);
	tcase_add_test(tc, store_memory__needs_a_descriptor);
	tcase_add_test(tc, store_memory__gives_back_what_is_discarded);
	tcase_add_test(tc, store_memory__given_outlives_the_process);
	tcase_add_test(tc, store_null__leaves_memory_or_fills_it);
	tcase_add_test(tc, store_destroy__takes_a_store_that_is_none);
}

VMBUS_TEST_MAIN("store.memory", tests)
