/* SPDX-License-Identifier: MIT */
/*
 * What every suite has: the Check library or our own small body of it, a main function, a process
 * and a timeout for each test, and a count of skips.  A test that leaves a descriptor open fails;
 * in builds with the address sanitizer so does one that leaves memory.
 *
 *	static void tests(Suite *suite)
 *	{
 *		TCase *tc = vmbus_test_case(suite, "put", 10);
 *		tcase_add_test(tc, ring_tx_put__sends);
 *	}
 *	VMBUS_TEST_MAIN("ring.tx", tests)
 */
#ifndef VMBUS_TEST_H
#define VMBUS_TEST_H

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(VMBUS_MINICHECK)
#include "minicheck.h"
#else
#include <check.h>
#endif

#define VMBUS_TEST_SKIPPED 77 /* exit status of a suite that could run nothing */

/*
 * Processor time, in ns, of a process that only sleeps for a few seconds.  The thread sanitizer has a
 * thread of its own in every process, which takes about 0.7 ms a second.
 */
#define VMBUS_TEST_IDLE_NS 2000000
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#undef VMBUS_TEST_IDLE_NS
#define VMBUS_TEST_IDLE_NS 20000000
#endif
#endif

static int *vmbus_test_skips; /* shared by all processes of the suite */
static int vmbus_test_fds;
static char vmbus_test_where[256];

static inline int vmbus_test_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	if (!dir)
		return 0;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static inline void vmbus_test_setup(void)
{
	vmbus_test_where[0] = '\0';
	vmbus_test_fds = vmbus_test_count_fds();
}

static inline void vmbus_test_teardown(void)
{
	const int now = vmbus_test_count_fds();

	ck_assert_msg(now == vmbus_test_fds, "%d descriptors before the test, %d after it",
		      vmbus_test_fds, now);
}

/* Where a loop is: printed when something fails after it.  Cheap enough for inner loops. */
#define vmbus_test_at(...) ((void)snprintf(vmbus_test_where, sizeof(vmbus_test_where), __VA_ARGS__))

/* Checks for inner loops: Check's own write a record for each that holds. */
#define must(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg("%s (%s)", #cond, vmbus_test_where);                          \
	} while (0)

#define must_eq(x, y)                                                                              \
	do {                                                                                       \
		const long long must_x = (long long)(x);                                           \
		const long long must_y = (long long)(y);                                           \
		if (must_x != must_y)                                                              \
			ck_abort_msg("%s == %s: %lld (0x%llx), %lld (0x%llx) (%s)", #x, #y,        \
				     must_x, (unsigned long long)must_x, must_y,                   \
				     (unsigned long long)must_y, vmbus_test_where);                \
	} while (0)

/* Leave a test that cannot run here.  test: its __func__. */
static inline void vmbus_test_skip(const char *test, const char *reason)
{
	const size_t len = strlen(test);
	const size_t tail = len > 3 && strcmp(test + len - 3, "_fn") == 0 ? 3 : 0;

	printf("SKIP %.*s: %s\n", (int)(len - tail), test, reason);
	fflush(stdout);
	__atomic_fetch_add(vmbus_test_skips, 1, __ATOMIC_RELAXED);
}

#define VMBUS_TEST_SKIP(reason)                                                                    \
	do {                                                                                       \
		vmbus_test_skip(__func__, reason);                                                 \
		return;                                                                            \
	} while (0)

/* Whether the long form of the tests is wanted. */
static inline bool vmbus_test_full(void)
{
	const char *full = getenv("VMBUS_TEST_FULL");

	return full && strcmp(full, "0") != 0;
}

/*
 * A group of tests.  seconds: the timeout of each on an idle machine with a plain build; sanitizers
 * and an emulator get ten times as much, the long form sixty times.
 */
static inline TCase *vmbus_test_case(Suite *suite, const char *name, int seconds)
{
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, seconds * (vmbus_test_full() ? 60.0 : 10.0));
	tcase_add_checked_fixture(tc, vmbus_test_setup, vmbus_test_teardown);
	suite_add_tcase(suite, tc);
	return tc;
}

static inline int vmbus_test_main(const char *name, void (*tests)(Suite *suite))
{
	Suite *suite = suite_create(name);
	SRunner *runner;
	int failed, run, skipped;

	vmbus_test_skips =
		mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (vmbus_test_skips == MAP_FAILED)
		return EXIT_FAILURE;
	tests(suite);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_FORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	run = srunner_ntests_run(runner);
	skipped = *vmbus_test_skips;
	srunner_free(runner);
	printf("%s: %d run, %d failed, %d skipped\n", name, run - skipped, failed, skipped);
	munmap(vmbus_test_skips, sizeof(int));
	if (run == 0) /* CK_RUN_CASE names no case: a suite of nothing has not passed */
		return EXIT_FAILURE;
	if (failed)
		return EXIT_FAILURE;
	return run == skipped ? VMBUS_TEST_SKIPPED : EXIT_SUCCESS;
}

#define VMBUS_TEST_MAIN(name, tests)                                                               \
	int main(void)                                                                             \
	{                                                                                          \
		return vmbus_test_main(name, tests);                                               \
	}

#endif
