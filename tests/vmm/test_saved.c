/* SPDX-License-Identifier: MIT */
/* The file of a saved machine: what is written comes back, and what somebody changed is refused. */
#define _GNU_SOURCE
#include "vmm_test.h"

#include <sys/mman.h>

#define HEAD 32u
#define SUM 24u

static uint64_t sum_of(const uint8_t *at, size_t bytes)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	while (bytes--)
		sum = (sum ^ *at++) * UINT64_C(0x100000001b3);
	return sum;
}

/* A file with these bytes; what reading it says. */
static const char *read_bytes(struct vmm_saved *saved, const uint8_t *bytes, size_t count)
{
	const int fd = memfd_create("saved", MFD_CLOEXEC);
	const char *why;

	ck_assert_int_eq(vmm_write_all(fd, bytes, count, 0), 0);
	why = vmm_saved_read(saved, fd);
	close(fd);
	return why;
}

/* Three sections, one of them empty, one of a length that is padded. */
static size_t write_three(uint8_t *bytes, size_t room)
{
	const int fd = memfd_create("saved", MFD_CLOEXEC);
	struct vmm_saved saved = { 0 };
	ssize_t n;

	memcpy(vmm_saved_add(&saved, VMM_SAVED_MACHINE, 0, 13), "thirteen bytes", 13);
	ck_assert_ptr_nonnull(vmm_saved_add(&saved, VMM_SAVED_MSRS, 0, 0));
	ck_assert_ptr_nonnull(vmm_saved_put(&saved, VMM_SAVED_MSRS, 1, "12345678", 8));
	ck_assert_int_eq(vmm_saved_write(&saved, fd), 0);
	vmm_saved_free(&saved);
	n = pread(fd, bytes, room, 0);
	close(fd);
	ck_assert_int_eq(n, HEAD + 3 * 16 + 16 + 8);
	return (size_t)n;
}

START_TEST(saved_read__gives_what_was_written)
{
	struct vmm_saved saved;
	uint8_t bytes[256];
	size_t got;

	ck_assert_ptr_null(read_bytes(&saved, bytes, write_three(bytes, sizeof(bytes))));
	ck_assert_mem_eq(vmm_saved_find(&saved, VMM_SAVED_MACHINE, 0, &got), "thirteen bytes", 13);
	ck_assert_uint_eq(got, 13);
	ck_assert_ptr_nonnull(vmm_saved_find(&saved, VMM_SAVED_MSRS, 0, &got));
	ck_assert_uint_eq(got, 0);
	ck_assert_mem_eq(vmm_saved_find(&saved, VMM_SAVED_MSRS, 1, &got), "12345678", 8);
	ck_assert_ptr_null(vmm_saved_find(&saved, VMM_SAVED_MSRS, 2, &got));
	ck_assert_uint_eq(got, 0);
	vmm_saved_free(&saved);
}
END_TEST

START_TEST(saved_read__refuses_every_cut_and_every_changed_byte)
{
	uint8_t bytes[256], changed[256];
	const size_t count = write_three(bytes, sizeof(bytes));
	struct vmm_saved saved;
	size_t i;

	for (i = 0; i < count; i++) {
		ck_assert_ptr_nonnull(read_bytes(&saved, bytes, i));
		vmm_saved_free(&saved);
		memcpy(changed, bytes, count);
		changed[i] ^= (uint8_t)(1u << i % 8u);
		ck_assert_ptr_nonnull(read_bytes(&saved, changed, count));
		vmm_saved_free(&saved);
	}
	memcpy(changed, bytes, count);
	changed[count] = 0;
	ck_assert_ptr_nonnull(read_bytes(&saved, changed, count + 1));
	vmm_saved_free(&saved);
}
END_TEST

static const struct {
	uint32_t at; /* of a word of 8 bytes */
	uint64_t value;
	const char *says;
} lies[] = {
	{ 0, 0x4141414141414141, "it is no saved machine" },
	{ 8, 2, "another version" },
	{ 8, UINT64_C(4096) << 32 | 1, "a section is cut off" },
	{ 8, UINT64_C(0xFFFFFFFF) << 32 | 1, "it was cut off" },
	{ 8, UINT64_C(2) << 32 | 1, "behind the last section" },
	{ 16, UINT64_MAX, "it was cut off" },
	{ 40, UINT64_MAX, "longer than the file" },
	{ 40, UINT64_MAX - 6, "longer than the file" },
	{ 40, 96, "longer than the file" },
	{ 80, VMM_SAVED_MSRS, "there twice" },
	{ 104, 0, "is cut off" },
};

/* With a checksum that is right: somebody did it on purpose. */
START_TEST(saved_read__refuses_lies)
{
	struct vmm_saved saved;
	const char *why;
	uint8_t bytes[256];
	const size_t count = write_three(bytes, sizeof(bytes));

	put_le(bytes + lies[_i].at, lies[_i].value, 8);
	if (lies[_i].at == 104) { /* a fourth, of which there is only half */
		put_le(bytes + 8, UINT64_C(4) << 32 | 1, 8);
		put_le(bytes + 16, count + 8, 8);
		memset(bytes + count, 0, 8);
		put_le(bytes + SUM, sum_of(bytes + HEAD, count + 8 - HEAD), 8);
		why = read_bytes(&saved, bytes, count + 8);
	} else {
		put_le(bytes + SUM, sum_of(bytes + HEAD, count - HEAD), 8);
		why = read_bytes(&saved, bytes, count);
	}
	ck_assert_msg(why && strstr(why, lies[_i].says), "it said: %s", why ? why : "nothing");
	vmm_saved_free(&saved);
}
END_TEST

/* Bytes changed at random under a right checksum: it ends, and never reads beyond. */
START_TEST(saved_read__survives_changes)
{
	uint8_t bytes[256], changed[256];
	const size_t count = write_three(bytes, sizeof(bytes));
	struct vmm_saved saved;
	uint32_t seed = 1, i, n;
	size_t got, k;
	const uint8_t *at;

	for (i = 0; i < 20000; i++) {
		memcpy(changed, bytes, count);
		for (n = 0; n < 3; n++) {
			seed = seed * 1103515245u + 12345u;
			changed[8 + seed / 65536u % (count - 8)] = (uint8_t)(seed >> 8);
		}
		put_le(changed + 16, count, 8);
		put_le(changed + SUM, sum_of(changed + HEAD, count - HEAD), 8);
		if (!read_bytes(&saved, changed, count))
			for (n = 0; n < 10; n++) {
				at = vmm_saved_find(&saved, n, 0, &got);
				for (k = 0; at && k < got; k++)
					seed += at[k];
			}
		vmm_saved_free(&saved);
	}
}
END_TEST

START_TEST(serial_restore__takes_any_bytes)
{
	struct vmm_saved_platform state, back;
	static struct vmm_platform p;

	vmm_platform_init(&p);
	vmm_port_out(&p, VMM_SERIAL_PORT + 7, 0x5a);
	vmm_port_out(&p, 0x70, 0x0b);
	vmm_serial_input(&p.serial, (const uint8_t *)"hello", 5);
	memset(&state, 0, sizeof(state));
	vmm_platform_save(&p, &state);
	vmm_platform_init(&p);
	vmm_platform_restore(&p, &state);
	ck_assert_uint_eq(vmm_port_in(&p, VMM_SERIAL_PORT + 7, 1), 0x5a);
	ck_assert_uint_eq(vmm_port_in(&p, 0x70, 1), 0x0b);
	ck_assert_uint_eq(vmm_port_in(&p, VMM_SERIAL_PORT, 1), 'h');
	memset(&back, 0, sizeof(back));
	vmm_platform_save(&p, &back);
	ck_assert_uint_eq(back.in_count, 4);
	ck_assert_mem_eq(back.in, "ello", 4);
	memset(&state, 0xFF, sizeof(state));
	vmm_platform_restore(&p, &state);
	ck_assert_uint_eq(vmm_serial_room(&p.serial), 0);
	ck_assert_uint_le(vmm_port_in(&p, VMM_SERIAL_PORT + 1, 1), 0xFF);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "saved", 30);

	tcase_add_test(tc, saved_read__gives_what_was_written);
	tcase_add_test(tc, saved_read__refuses_every_cut_and_every_changed_byte);
	tcase_add_loop_test(tc, saved_read__refuses_lies, 0, (int)(sizeof(lies) / sizeof(lies[0])));
	tcase_add_test(tc, saved_read__survives_changes);
	tcase_add_test(tc, serial_restore__takes_any_bytes);
}

VMBUS_TEST_MAIN("vmm.saved", tests)
