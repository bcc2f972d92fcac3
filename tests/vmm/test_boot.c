/* SPDX-License-Identifier: MIT */
/* Images: what is refused and why; what is in memory before the first instruction. */
#define _GNU_SOURCE
#include "vmm_test.h"

static struct vmm_image image;
static struct vmm_memory memory;
static struct vmm_opts opts;
static uint8_t file[BZ_BYTES];

static int open_image(const void *bytes, size_t count)
{
	const char *const path = make_file("kernel", bytes, count);
	int err;

	opts.kernel = path;
	if (!opts.append)
		opts.append = "console=ttyS0";
	err = vmm_image_open(&image, &opts);
	unlink(path);
	return err;
}

static void end(void)
{
	vmm_image_close(&image);
	vmm_memory_destroy(&memory);
}

static void give_memory(uint64_t bytes)
{
	opts.memory_bytes = bytes;
	opts.node = -1;
	ck_assert_int_eq(vmm_memory_create(&memory, &opts), 0);
}

static const struct {
	uint32_t at, bytes;
	uint64_t value;
	const char *said;
} wrong[] = {
	{ 0x1fe, 2, 0, "neither a bzImage" },
	{ 0x202, 4, 0, "neither a bzImage" },
	{ 0x206, 2, 0x20b, "field version at 0x206 (0x20b)" },
	{ 0x236, 2, 0x7e, "field xloadflags at 0x236" },
	{ 0x1f1, 1, 200, "field setup_sects at 0x1f1" },
	{ 0x258, 8, 0x1000001, "field pref_address at 0x258" },
	{ 0x258, 8, 0x1000, "field pref_address at 0x258" },
	{ 0x258, 8, UINT64_MAX - 4095, "field pref_address at 0x258" },
	{ 0x260, 4, 0, "field init_size at 0x260" },
	{ 0x260, 4, 0xffffffff, "field init_size at 0x260" },
	{ 0x201, 1, 0x10, "header is too short, byte at 0x201" },
};

START_TEST(image_open__names_the_field)
{
	make_bzimage(file);
	put_le(file + wrong[_i].at, wrong[_i].value, wrong[_i].bytes);
	listen_to_us();
	ck_assert_int_eq(open_image(file, sizeof(file)), -1);
	ck_said(wrong[_i].said);
}
END_TEST

START_TEST(image_open__names_what_the_file_is_not)
{
	listen_to_us();
	ck_assert_int_eq(open_image("abc", 3), -1);
	ck_said("too short for a kernel");
	listen_to_us();
	ck_assert_int_eq(open_image("", 0), -1);
	ck_said("no file with something in it");
	opts.kernel = "/nowhere/vmlinuz";
	listen_to_us();
	ck_assert_int_eq(vmm_image_open(&image, &opts), -1);
	ck_said("--kernel /nowhere/vmlinuz: No such file");
	opts.kernel = "/tmp";
	listen_to_us();
	ck_assert_int_eq(vmm_image_open(&image, &opts), -1);
	ck_said("no file with something in it");
	make_bzimage(file);
	opts.initrd = "/nowhere/initrd";
	listen_to_us();
	ck_assert_int_eq(open_image(file, sizeof(file)), -1);
	ck_said("--initrd /nowhere/initrd: No such file");
}
END_TEST

START_TEST(image_open__limits_the_command_line)
{
	make_bzimage(file);
	put_le(file + 0x238, 5, 4);
	opts.append = "123456";
	listen_to_us();
	ck_assert_int_eq(open_image(file, sizeof(file)), -1);
	ck_said("--append: 6 characters; this kernel takes 5");
}
END_TEST

static const uint8_t code[] = { 0xf4, 0xeb, 0xfd };

static const struct {
	uint32_t at, bytes;
	uint64_t value;
	const char *said;
} wrong_elf[] = {
	{ 4, 1, 1, "not for 64-bit x86" },
	{ 18, 2, 183, "not for 64-bit x86" },
	{ 54, 2, 32, "without program headers" },
	{ 56, 2, 0, "without program headers" },
	{ 32, 8, 0x100000, "cut off in its program headers" },
	{ 32, 8, UINT64_MAX, "cut off in its program headers" },
	{ 72, 8, 0x100000, "a segment lies past its end" },
	{ 96, 8, 0x100000, "a segment lies past its end" },
	{ 88, 8, 0x1000, "between 1 MiB and 3 GiB" },
	{ 104, 8, UINT64_MAX, "between 1 MiB and 3 GiB" },
	{ 24, 8, 0x5000000, "its entry lies in no segment" },
	{ 64, 4, 4, "its entry lies in no segment" },
};

START_TEST(image_open__names_what_is_wrong_with_an_elf_file)
{
	const size_t bytes = make_elf(file, code, sizeof(code), 4096);

	put_le(file + wrong_elf[_i].at, wrong_elf[_i].value, wrong_elf[_i].bytes);
	listen_to_us();
	ck_assert_int_eq(open_image(file, bytes), -1);
	ck_said(wrong_elf[_i].said);
}
END_TEST

START_TEST(image_open__takes_an_entry_that_is_virtual)
{
	const size_t bytes = make_elf(file, code, sizeof(code), 0);

	put_le(file + 80, 0xffffffff81000000u, 8);
	put_le(file + 24, 0xffffffff81000001u, 8);
	ck_assert_int_eq(open_image(file, bytes), 0);
	ck_assert_uint_eq(image.entry, ELF_AT + 1);
	end();
}
END_TEST

START_TEST(boot_load__puts_a_bzimage_where_it_wants_to_be)
{
	const uint8_t *zero;
	char *initrd;

	make_bzimage(file);
	initrd = strdup(make_file("initrd", "initrd!", 7));
	opts.initrd = initrd;
	ck_assert_int_eq(open_image(file, sizeof(file)), 0);
	unlink(initrd);
	free(initrd);
	give_memory(64 * MIB);
	ck_assert_int_eq(vmm_boot_load(&image, &memory, 2, false), 0);
	ck_assert_uint_eq(image.entry, BZ_AT + 0x200);
	ck_assert_mem_eq(vmm_memory_at(&memory, BZ_AT, 6144), file + 2048, 6144);
	zero = vmm_memory_at(&memory, VMM_ZERO_PAGE, PAGE);
	ck_assert_mem_eq(zero + 0x1f1, file + 0x1f1, 0x210 - 0x1f1);
	ck_assert_uint_eq(zero[0x210], 0xff);
	ck_assert_uint_eq(zero[0x1ef], 0); /* the sentinel */
	ck_assert_uint_eq(get_le(zero + 0x70, 8), VMM_ACPI);
	ck_assert_uint_eq(get_le(zero + 0x228, 4), VMM_CMDLINE);
	ck_assert_str_eq(vmm_memory_at(&memory, VMM_CMDLINE, 64), "console=ttyS0");
	ck_assert_uint_eq(get_le(zero + 0x218, 4), 64 * MIB - PAGE);
	ck_assert_uint_eq(get_le(zero + 0x21c, 4), 7);
	ck_assert_mem_eq(vmm_memory_at(&memory, 64 * MIB - PAGE, 7), "initrd!", 7);
	end();
}
END_TEST

START_TEST(boot_load__tells_the_memory_map)
{
	const uint8_t *zero;

	make_bzimage(file);
	ck_assert_int_eq(open_image(file, sizeof(file)), 0);
	give_memory(4 * GIB);
	ck_assert_uint_eq(memory.count, 2);
	ck_assert_uint_eq(vmm_memory_top(&memory), 5 * GIB);
	ck_assert_int_eq(vmm_boot_load(&image, &memory, 1, false), 0);
	zero = vmm_memory_at(&memory, VMM_ZERO_PAGE, PAGE);
	ck_assert_uint_eq(zero[0x1e8], 4);
	ck_assert_uint_eq(get_le(zero + 0x2d0, 8), 0);
	ck_assert_uint_eq(get_le(zero + 0x2d8, 8), 0x9fc00);
	ck_assert_uint_eq(get_le(zero + 0x2e4, 8), VMM_ACPI);
	ck_assert_uint_eq(get_le(zero + 0x2e4 + 16, 4), 2);
	ck_assert_uint_eq(get_le(zero + 0x2f8, 8), 0x100000);
	ck_assert_uint_eq(get_le(zero + 0x300, 8), VMM_LOW_END - 0x100000);
	ck_assert_uint_eq(get_le(zero + 0x30c, 8), 4 * GIB);
	ck_assert_uint_eq(get_le(zero + 0x314, 8), GIB);
	end();
}
END_TEST

START_TEST(boot_load__maps_four_gib_onto_themselves)
{
	const uint64_t *t;
	uint64_t i;

	make_bzimage(file);
	ck_assert_int_eq(open_image(file, sizeof(file)), 0);
	give_memory(64 * MIB);
	ck_assert_int_eq(vmm_boot_load(&image, &memory, 1, false), 0);
	t = vmm_memory_at(&memory, VMM_PAGE_TABLES, 6 * PAGE);
	ck_assert_uint_eq(t[0], (VMM_PAGE_TABLES + PAGE) | 3u);
	for (i = 0; i < 2048; i++) {
		ck_assert_uint_eq(t[512 + i / 512], (VMM_PAGE_TABLES + (2 + i / 512) * PAGE) | 3u);
		ck_assert_uint_eq(t[1024 + i], i * 2 * MIB | 0x83u);
	}
	end();
}
END_TEST

START_TEST(boot_load__has_a_bios_that_resets)
{
	const uint8_t *at;

	make_bzimage(file);
	ck_assert_int_eq(open_image(file, sizeof(file)), 0);
	give_memory(64 * MIB);
	ck_assert_int_eq(vmm_boot_load(&image, &memory, 254, false), 0);
	at = vmm_memory_at(&memory, 0xFFFF0, 16);
	ck_assert_mem_eq(at, "\xba\x00\x06\xb0\x01\xee", 6);
	end();
}
END_TEST

START_TEST(boot_load__zeroes_what_an_elf_file_leaves_out)
{
	const size_t bytes = make_elf(file, code, sizeof(code), 64);

	ck_assert_int_eq(open_image(file, bytes), 0);
	give_memory(32 * MIB);
	ck_assert_int_eq(vmm_boot_load(&image, &memory, 1, false), 0);
	ck_assert_mem_eq(vmm_memory_at(&memory, ELF_AT, sizeof(code)), code, sizeof(code));
	ck_assert_uint_eq(image.end, ELF_AT + sizeof(code) + 64);
	ck_assert_uint_eq(image.entry, ELF_AT);
	end();
}
END_TEST

START_TEST(boot_fits__says_how_much_is_needed)
{
	make_bzimage(file);
	ck_assert_int_eq(open_image(file, sizeof(file)), 0);
	give_memory(16 * MIB);
	listen_to_us();
	ck_assert_int_eq(vmm_boot_fits(&image, &memory), -1);
	ck_said("--mem 16M is too little: kernel and initrd alone need 18M");
	vmm_memory_destroy(&memory);
	give_memory(18 * MIB);
	ck_assert_int_eq(vmm_boot_fits(&image, &memory), 0);
	end();
}
END_TEST

START_TEST(boot_fits__keeps_the_initrd_below_the_kernels_limit)
{
	make_bzimage(file);
	put_le(file + 0x22c, BZ_AT + BZ_SIZE + 0xfff, 4);
	ck_assert_int_eq(open_image(file, sizeof(file)), 0);
	give_memory(64 * MIB);
	image.initrd_bytes = PAGE;
	ck_assert_int_eq(vmm_boot_fits(&image, &memory), 0);
	image.initrd_bytes = PAGE + 1;
	listen_to_us();
	ck_assert_int_eq(vmm_boot_fits(&image, &memory), -1);
	ck_said("use a smaller initrd");
	end();
}
END_TEST

START_TEST(boot_load__sees_a_file_that_shrank)
{
	make_bzimage(file);
	ck_assert_int_eq(open_image(file, sizeof(file)), 0);
	give_memory(64 * MIB);
	image.segments[0].file_bytes += 1;
	listen_to_us();
	ck_assert_int_eq(vmm_boot_load(&image, &memory, 1, false), -1);
	ck_said("was it changed meanwhile");
	end();
}
END_TEST

START_TEST(memory__is_sealed_and_can_be_emptied)
{
	give_memory(16 * MIB);
	ck_assert_int_eq(ftruncate(memory.fd, 4096), -1);
	memory.base[5] = 7;
	ck_assert_uint_gt(vmm_memory_resident(&memory), 0);
	ck_assert_int_eq(vmm_memory_zero(&memory), 0);
	ck_assert_uint_eq(vmm_memory_resident(&memory), 0);
	ck_assert_uint_eq(memory.base[5], 0);
	ck_assert_ptr_null(vmm_memory_at(&memory, 16 * MIB, 1));
	ck_assert_ptr_null(vmm_memory_at(&memory, 1, UINT64_MAX));
	ck_assert_ptr_nonnull(vmm_memory_at(&memory, 16 * MIB - 1, 1));
	end();
}
END_TEST

START_TEST(memory__says_what_is_missing)
{
	opts.memory_bytes = 16 * MIB;
	opts.node = 1000;
	listen_to_us();
	ck_assert_int_eq(vmm_memory_create(&memory, &opts), -1);
	ck_said("--numa-node 1000");
	opts.node = -1;
	opts.huge_pages = true;
	opts.memory_bytes = 17 * MIB;
	listen_to_us();
	ck_assert_int_eq(vmm_memory_create(&memory, &opts), -1);
	ck_said("must be a multiple of 2M");
	opts.memory_bytes = UINT64_C(512) * GIB;
	listen_to_us();
	ck_assert_int_eq(vmm_memory_create(&memory, &opts), -1);
	ck_said("--huge-pages");
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "boot", 20);

	image.kernel_fd = image.initrd_fd = memory.fd = -1;
	tcase_add_loop_test(tc, image_open__names_the_field, 0,
			    (int)(sizeof(wrong) / sizeof(wrong[0])));
	tcase_add_loop_test(tc, image_open__names_what_is_wrong_with_an_elf_file, 0,
			    (int)(sizeof(wrong_elf) / sizeof(wrong_elf[0])));
	tcase_add_test(tc, image_open__names_what_the_file_is_not);
	tcase_add_test(tc, image_open__limits_the_command_line);
	tcase_add_test(tc, image_open__takes_an_entry_that_is_virtual);
	tcase_add_test(tc, boot_load__puts_a_bzimage_where_it_wants_to_be);
	tcase_add_test(tc, boot_load__tells_the_memory_map);
	tcase_add_test(tc, boot_load__maps_four_gib_onto_themselves);
	tcase_add_test(tc, boot_load__has_a_bios_that_resets);
	tcase_add_test(tc, boot_load__zeroes_what_an_elf_file_leaves_out);
	tcase_add_test(tc, boot_load__sees_a_file_that_shrank);
	tcase_add_test(tc, boot_fits__says_how_much_is_needed);
	tcase_add_test(tc, boot_fits__keeps_the_initrd_below_the_kernels_limit);
	tcase_add_test(tc, memory__is_sealed_and_can_be_emptied);
	tcase_add_test(tc, memory__says_what_is_missing);
}

VMBUS_TEST_MAIN("vmm.boot", tests)
