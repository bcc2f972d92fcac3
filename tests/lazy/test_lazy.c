/* SPDX-License-Identifier: MIT */
/* Memory of which most is never used: zeroes, and no page before it is touched. */
#define _DEFAULT_SOURCE
#include "vmbus_test.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "lazy/lazy.h"

#define BYTES ((size_t)64 << 20)
#define TOUCHED_KIB 1024

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

/* Memory of this process's own, in KiB. */
static long own_kib(void)
{
	char line[128];
	long kib = -1;
	FILE *f = fopen("/proc/self/status", "re");

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %ld", &kib) == 1)
			break;
	(void)fclose(f);
	ck_assert_int_ge(kib, 0);
	return kib;
}

START_TEST(lazy_get__gives_zeroes_that_can_be_written)
{
	uint8_t *const at = vmbus__lazy_get(10000);

	ck_assert_ptr_nonnull(at);
	ck_assert_uint_eq((uintptr_t)at % 64, 0);
	for (size_t i = 0; i < 10000; i++)
		ck_assert_uint_eq(at[i], 0);
	memset(at, 0xa5, 10000);
	vmbus__lazy_put(at, 10000);
}
END_TEST

START_TEST(lazy_put__takes_nothing)
{
	vmbus__lazy_put(NULL, 4096);
}
END_TEST

START_TEST(lazy_get__says_when_there_is_none)
{
	ck_assert_ptr_null(vmbus__lazy_get((size_t)1 << 60));
}
END_TEST

/* What calloc() does not keep from the second time on. */
START_TEST(lazy_get__takes_no_page_before_it_is_touched)
{
	for (int i = 0; i < 4; i++) {
		const long before = own_kib();
		uint8_t *const at = vmbus__lazy_get(BYTES);

		ck_assert_ptr_nonnull(at);
		at[i * 4096] = 1;
		ck_assert_int_lt(own_kib(), before + TOUCHED_KIB);
		memset(at, 1, BYTES);
		ck_assert_int_gt(own_kib(), before + (long)(BYTES / 2048));
		vmbus__lazy_put(at, BYTES);
		ck_assert_int_lt(own_kib(), before + TOUCHED_KIB);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *const tc = vmbus_test_case(suite, "lazy", 20);

	tcase_add_test(tc, lazy_get__gives_zeroes_that_can_be_written);
	tcase_add_test(tc, lazy_put__takes_nothing);
	if (SANITIZED)
		return;
	/* A sanitizer ends a process that asks its heap for so much, and keeps what was freed. */
	tcase_add_test(tc, lazy_get__says_when_there_is_none);
	tcase_add_test(tc, lazy_get__takes_no_page_before_it_is_touched);
}

VMBUS_TEST_MAIN("lazy.lazy", tests)
