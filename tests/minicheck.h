/* SPDX-License-Identifier: MIT */
/*
 * The part of the Check library's interface that our suites use, in one header, for builds where
 * Check is not at hand: cross-built suites under an emulator, or a C library alone.  As there, each
 * test runs in a process of its own with a timeout; CK_RUN_CASE names the one test case to run.
 *
 * A program includes this file once.
 */
#ifndef MINICHECK_H
#define MINICHECK_H

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MINICHECK_TESTS_MAX 512

typedef struct {
	const char *name;
	void (*fn)(int i);
} TTest;

typedef struct {
	const TTest *test;
	int first, end;
} minicheck_entry;

typedef struct TCase {
	const char *name;
	double timeout;
	void (*setup)(void);
	void (*teardown)(void);
	minicheck_entry entry[MINICHECK_TESTS_MAX];
	int entries;
	struct TCase *next;
} TCase;

typedef struct {
	const char *name;
	TCase *first, *last;
} Suite;

typedef struct {
	Suite *suite;
	int run, failed;
} SRunner;

enum print_output {
	CK_SILENT,
	CK_MINIMAL,
	CK_NORMAL,
	CK_VERBOSE,
	CK_ENV
};
enum fork_status {
	CK_FORK_GETENV,
	CK_FORK,
	CK_NOFORK
};

#define START_TEST(testname)                                                                       \
	static void testname##_fn(int _i);                                                         \
	static const TTest testname##_ttest = { #testname, testname##_fn };                        \
	static const TTest *const testname = &testname##_ttest;                                    \
	static void testname##_fn(int _i)                                                          \
	{                                                                                          \
		(void)_i;                                                                          \
		{
#define END_TEST                                                                                   \
	}                                                                                          \
	}

/* Say what failed and leave the test's process. */
__attribute__((noreturn, format(printf, 3, 4))) static inline void
minicheck_abort(const char *file, int line, const char *format, ...)
{
	va_list args;

	printf("%s:%d: ", file, line);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

#define ck_abort_msg(...) minicheck_abort(__FILE__, __LINE__, __VA_ARGS__)
#define ck_abort() ck_abort_msg("Failed")
#define ck_assert_msg(cond, ...) ((cond) ? (void)0 : ck_abort_msg(__VA_ARGS__))
#define ck_assert(cond) ck_assert_msg(cond, "Assertion '%s' failed", #cond)

#define MINICHECK_COMPARE(type, format, x, op, y)                                                  \
	do {                                                                                       \
		const type minicheck_x = (x);                                                      \
		const type minicheck_y = (y);                                                      \
		if (!(minicheck_x op minicheck_y))                                                 \
			ck_abort_msg("Assertion '%s' failed: %" format ", %" format,               \
				     #x " " #op " " #y, minicheck_x, minicheck_y);                 \
	} while (0)
#define ck_assert_int_eq(x, y) MINICHECK_COMPARE(intmax_t, PRIdMAX, x, ==, y)
#define ck_assert_int_ne(x, y) MINICHECK_COMPARE(intmax_t, PRIdMAX, x, !=, y)
#define ck_assert_int_lt(x, y) MINICHECK_COMPARE(intmax_t, PRIdMAX, x, <, y)
#define ck_assert_int_le(x, y) MINICHECK_COMPARE(intmax_t, PRIdMAX, x, <=, y)
#define ck_assert_int_gt(x, y) MINICHECK_COMPARE(intmax_t, PRIdMAX, x, >, y)
#define ck_assert_int_ge(x, y) MINICHECK_COMPARE(intmax_t, PRIdMAX, x, >=, y)
#define ck_assert_uint_eq(x, y) MINICHECK_COMPARE(uintmax_t, PRIuMAX, x, ==, y)
#define ck_assert_uint_ne(x, y) MINICHECK_COMPARE(uintmax_t, PRIuMAX, x, !=, y)
#define ck_assert_uint_lt(x, y) MINICHECK_COMPARE(uintmax_t, PRIuMAX, x, <, y)
#define ck_assert_uint_le(x, y) MINICHECK_COMPARE(uintmax_t, PRIuMAX, x, <=, y)
#define ck_assert_uint_gt(x, y) MINICHECK_COMPARE(uintmax_t, PRIuMAX, x, >, y)
#define ck_assert_uint_ge(x, y) MINICHECK_COMPARE(uintmax_t, PRIuMAX, x, >=, y)

#define ck_assert_ptr_eq(x, y) ck_assert_msg((const void *)(x) == (const void *)(y), #x " == " #y)
#define ck_assert_ptr_ne(x, y) ck_assert_msg((const void *)(x) != (const void *)(y), #x " != " #y)
#define ck_assert_ptr_null(x) ck_assert_ptr_eq(x, NULL)
#define ck_assert_ptr_nonnull(x) ck_assert_ptr_ne(x, NULL)
#define ck_assert_str_eq(x, y)                                                                     \
	do {                                                                                       \
		const char *minicheck_s = (x);                                                     \
		const char *minicheck_t = (y);                                                     \
		if (strcmp(minicheck_s, minicheck_t) != 0)                                         \
			ck_abort_msg("Assertion '%s' failed: \"%s\", \"%s\"", #x " == " #y,        \
				     minicheck_s, minicheck_t);                                    \
	} while (0)
#define ck_assert_str_ne(x, y) ck_assert_msg(strcmp((x), (y)) != 0, #x " != " #y)
#define ck_assert_mem_eq(x, y, n) ck_assert_msg(memcmp((x), (y), (n)) == 0, #x " == " #y)
#define ck_assert_mem_ne(x, y, n) ck_assert_msg(memcmp((x), (y), (n)) != 0, #x " != " #y)

static inline void *minicheck_alloc(size_t bytes)
{
	void *p = calloc(1, bytes);

	if (!p)
		abort();
	return p;
}

static inline Suite *suite_create(const char *name)
{
	Suite *suite = minicheck_alloc(sizeof(*suite));

	suite->name = name;
	return suite;
}

static inline TCase *tcase_create(const char *name)
{
	TCase *tc = minicheck_alloc(sizeof(*tc));

	tc->name = name;
	tc->timeout = 4;
	return tc;
}

static inline void suite_add_tcase(Suite *suite, TCase *tc)
{
	if (suite->last)
		suite->last->next = tc;
	else
		suite->first = tc;
	suite->last = tc;
}

static inline void tcase_add_loop_test(TCase *tc, const TTest *test, int first, int end)
{
	if (tc->entries == MINICHECK_TESTS_MAX)
		abort();
	tc->entry[tc->entries++] = (minicheck_entry){ test, first, end };
}

static inline void tcase_add_test(TCase *tc, const TTest *test)
{
	tcase_add_loop_test(tc, test, 0, 1);
}

static inline void tcase_set_timeout(TCase *tc, double seconds)
{
	tc->timeout = seconds;
}

static inline void tcase_add_checked_fixture(TCase *tc, void (*setup)(void), void (*teardown)(void))
{
	tc->setup = setup;
	tc->teardown = teardown;
}

static inline SRunner *srunner_create(Suite *suite)
{
	SRunner *runner = minicheck_alloc(sizeof(*runner));

	runner->suite = suite;
	return runner;
}

static inline void srunner_set_fork_status(SRunner *runner, enum fork_status status)
{
	(void)runner;
	(void)status;
}

static inline int minicheck_child(const TCase *tc, const TTest *test, int i)
{
	alarm((unsigned int)tc->timeout);
	if (tc->setup)
		tc->setup();
	test->fn(i);
	if (tc->teardown)
		tc->teardown();
	return 0;
}

static inline void minicheck_run_one(SRunner *runner, const TCase *tc, const TTest *test, int i)
{
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		exit(minicheck_child(tc, test, i));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		abort();
	runner->run++;
	if (status == 0)
		return;
	runner->failed++;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		printf("%s:%d: timeout\n", test->name, i);
	else if (WIFSIGNALED(status))
		printf("%s:%d: signal %d\n", test->name, i, WTERMSIG(status));
	else
		printf("%s:%d: failed\n", test->name, i);
}

static inline void srunner_run_all(SRunner *runner, enum print_output mode)
{
	const char *only = getenv("CK_RUN_CASE");
	const TCase *tc;
	int e, i;

	(void)mode;
	printf("Running suite(s): %s\n", runner->suite->name);
	for (tc = runner->suite->first; tc; tc = tc->next) {
		if (only && strcmp(only, tc->name) != 0)
			continue;
		for (e = 0; e < tc->entries; e++)
			for (i = tc->entry[e].first; i < tc->entry[e].end; i++)
				minicheck_run_one(runner, tc, tc->entry[e].test, i);
	}
	printf("%d Checks, Failures: %d\n", runner->run, runner->failed);
}

static inline int srunner_ntests_run(SRunner *runner)
{
	return runner->run;
}

static inline int srunner_ntests_failed(SRunner *runner)
{
	return runner->failed;
}

static inline void srunner_free(SRunner *runner)
{
	TCase *tc = runner->suite->first, *next;

	for (; tc; tc = next) {
		next = tc->next;
		free(tc);
	}
	free(runner->suite);
	free(runner);
}

#endif
