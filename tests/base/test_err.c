/* SPDX-License-Identifier: MIT */
/* Errors and faults as text and classes: src/base/err.c and version.c. */
#include <limits.h>

#include <vmbus/base.h>
#include <vmbus/version.h>

#include "vmbus_test.h"

static const struct {
	int err;
	const char *name;
	enum vmbus_err_class class;
} table[] = {
	{ VMBUS_OK, "OK", VMBUS_CLASS_NONE },
	{ VMBUS_E_AGAIN, "AGAIN", VMBUS_CLASS_RETRY },
	{ VMBUS_E_FULL, "FULL", VMBUS_CLASS_RETRY },
	{ VMBUS_E_INVAL, "INVAL", VMBUS_CLASS_CALLER },
	{ VMBUS_E_RANGE, "RANGE", VMBUS_CLASS_CALLER },
	{ VMBUS_E_STATE, "STATE", VMBUS_CLASS_CALLER },
	{ VMBUS_E_PEER, "PEER", VMBUS_CLASS_PEER },
	{ VMBUS_E_FAULT, "FAULT", VMBUS_CLASS_PEER },
	{ VMBUS_E_NOMEM, "NOMEM", VMBUS_CLASS_SYSTEM },
	{ VMBUS_E_PERM, "PERM", VMBUS_CLASS_SYSTEM },
	{ VMBUS_E_NOTSUP, "NOTSUP", VMBUS_CLASS_SYSTEM },
	{ VMBUS_E_SYSTEM, "SYSTEM", VMBUS_CLASS_SYSTEM },
};
#define TABLE (int)(sizeof(table) / sizeof(table[0]))

START_TEST(err_class__of_each_error)
{
	ck_assert_int_eq(table[_i].err, -_i); /* numbers are ABI and without gaps */
	ck_assert_int_eq(vmbus_err_class(table[_i].err), table[_i].class);
	ck_assert_str_eq(vmbus_err_name(table[_i].err), table[_i].name);
}
END_TEST

START_TEST(err_class__of_other_numbers)
{
	ck_assert_int_eq(vmbus_err_class(1), VMBUS_CLASS_NONE);
	ck_assert_int_eq(vmbus_err_class(INT_MAX), VMBUS_CLASS_NONE);
	ck_assert_str_eq(vmbus_err_name(INT_MAX), "OK");
	ck_assert_int_eq(vmbus_err_class(-TABLE), VMBUS_CLASS_SYSTEM);
	ck_assert_int_eq(vmbus_err_class(INT_MIN), VMBUS_CLASS_SYSTEM);
	ck_assert_str_eq(vmbus_err_name(-TABLE), "?");
	ck_assert_str_eq(vmbus_err_name(INT_MIN), "?");
}
END_TEST

START_TEST(fault_name__of_each_field)
{
	uint32_t field;

	for (field = VMBUS_FAULT_NONE; field <= VMBUS_FAULT_RESUME_INDEX; field++) {
		ck_assert_ptr_nonnull(vmbus_fault_name(field));
		ck_assert_str_ne(vmbus_fault_name(field), "?");
		ck_assert_str_ne(vmbus_fault_name(field), "");
	}
	ck_assert_str_eq(vmbus_fault_name(VMBUS_FAULT_RESUME_INDEX + 1), "?");
	ck_assert_str_eq(vmbus_fault_name(UINT32_MAX), "?");
	ck_assert_str_eq(vmbus_fault_name(VMBUS_FAULT_WRITE_INDEX), "write index");
}
END_TEST

static const struct {
	struct vmbus_fault fault;
	const char *text;
} lines[] = {
	{ { VMBUS_FAULT_NONE, 7, 8, 9 }, "none" },
	{ { VMBUS_FAULT_WRITE_INDEX, 4096, 4096, 4088 },
	  "write index is 4096, must be at most 4088, at ring offset 4096" },
	{ { VMBUS_FAULT_WRITE_INDEX_ALIGN, 12, 12, 8 },
	  "write index is 12, must be a multiple of 8, at ring offset 12" },
	{ { VMBUS_FAULT_WRITE_INDEX_BACK, 64, 32, 128 },
	  "write index (moved back) is 32, may not pass 128, at ring offset 64" },
	{ { VMBUS_FAULT_READ_INDEX_BACK, 64, 32, 128 },
	  "read index (outside what was published) is 32, may not pass 128, at ring offset 64" },
	{ { VMBUS_FAULT_READ_INDEX_ALIGN, 9, 9, 8 },
	  "read index is 9, must be a multiple of 8, at ring offset 9" },
	{ { VMBUS_FAULT_PKT_SPACE, 0, 16, 24 },
	  "bytes left for a packet is 16, must be at least 24, at ring offset 0" },
	{ { VMBUS_FAULT_PKT_OFFSET, 8, 2, 3 },
	  "packet offset8 is 2, must be at least 3, at ring offset 8" },
	{ { VMBUS_FAULT_PKT_OFFSET_PAST, 8, 9, 3 },
	  "packet offset8 is 9, must be at most 3, at ring offset 8" },
	{ { VMBUS_FAULT_RANGE_PFNS, 4294967295u, UINT64_MAX, 10 },
	  "range page numbers is 18446744073709551615, must be at least 10, at ring offset "
	  "4294967295" },
	{ { VMBUS_FAULT_PKT_TYPE, 64, 99, 13 },
	  "packet type is 99, must be at most 13, at ring offset 64" },
	{ { VMBUS_FAULT_PKT_TYPE, 64, 0, 13 },
	  "packet type is 0, must be from 1 to 13, at ring offset 64" },
	{ { 99, 1, 2, 3 }, "? is 2, must be at most 3, at ring offset 1" },
};

/* Whole, and cut at every length: terminated, nothing past the end, the whole length returned. */
START_TEST(fault_format__every_buffer_size)
{
	const size_t len = strlen(lines[_i].text);
	char buf[160];
	size_t bytes, i;

	for (bytes = 0; bytes <= len + 3; bytes++) {
		memset(buf, '#', sizeof(buf));
		must_eq(vmbus_fault_format(&lines[_i].fault, buf, bytes), len);
		if (bytes > len) {
			must(strcmp(buf, lines[_i].text) == 0);
		} else if (bytes) {
			must(memcmp(buf, lines[_i].text, bytes - 1) == 0);
			must_eq(buf[bytes - 1], '\0');
		}
		for (i = bytes; i < sizeof(buf); i++)
			must_eq(buf[i], '#');
	}
	must_eq(vmbus_fault_format(&lines[_i].fault, NULL, 0), len);
}
END_TEST

START_TEST(version__is_that_of_the_headers)
{
	char text[32];

	ck_assert_uint_eq(vmbus_version(), VMBUS_VERSION_NUMBER);
	snprintf(text, sizeof(text), "%d.%d.%d", VMBUS_VERSION_MAJOR, VMBUS_VERSION_MINOR,
		 VMBUS_VERSION_PATCH);
	ck_assert_str_eq(vmbus_version_string(), text);
	ck_assert_str_eq(VMBUS_VERSION_STRING, text);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "err", 5);

	tcase_add_loop_test(tc, err_class__of_each_error, 0, TABLE);
	tcase_add_test(tc, err_class__of_other_numbers);
	tcase_add_test(tc, fault_name__of_each_field);
	tcase_add_loop_test(tc, fault_format__every_buffer_size, 0,
			    (int)(sizeof(lines) / sizeof(lines[0])));
	tcase_add_test(tc, version__is_that_of_the_headers);
}

VMBUS_TEST_MAIN("base.err", tests)
