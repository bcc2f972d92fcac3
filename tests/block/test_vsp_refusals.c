/* SPDX-License-Identifier: MIT */
/* Controllers and disks that cannot be, and the line of the log that says why. */
#include "vspbox.h"

static char refusal[300];
static uint32_t refusals;

static void keep_refusal(void *ctx, const char *line)
{
	(void)ctx;
	(void)snprintf(refusal, sizeof(refusal), "%s", line);
	refusals++;
}

START_TEST(block_create__refuses)
{
	static const struct {
		struct vmbus_block_opts opts;
		int err;
	} cases[] = {
		{ { .struct_bytes = sizeof(struct vmbus_block_opts) }, 0 },
		{ { .struct_bytes = 8 }, VMBUS_E_INVAL },
		{ { .struct_bytes = sizeof(struct vmbus_block_opts), .subchannels = 64 }, 0 },
		{ { .struct_bytes = sizeof(struct vmbus_block_opts), .subchannels = 65 },
		  VMBUS_E_RANGE },
		{ { .struct_bytes = sizeof(struct vmbus_block_opts), .depth = 1024 }, 0 },
		{ { .struct_bytes = sizeof(struct vmbus_block_opts), .depth = 1025 },
		  VMBUS_E_RANGE },
		{ { .struct_bytes = sizeof(struct vmbus_block_opts), .requests = 4096 }, 0 },
		{ { .struct_bytes = sizeof(struct vmbus_block_opts), .requests = 4097 },
		  VMBUS_E_RANGE },
		{ { .struct_bytes = sizeof(struct vmbus_block_opts), .transfer_bytes = 8 << 20 },
		  0 },
		{ { .struct_bytes = sizeof(struct vmbus_block_opts), .transfer_bytes = 4097 },
		  VMBUS_E_RANGE },
		{ { .struct_bytes = sizeof(struct vmbus_block_opts),
		    .transfer_bytes = (8 << 20) + 4096 },
		  VMBUS_E_RANGE },
	};
	struct vmbus_block *block = NULL;
	uint32_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		vmbus_test_at("case %u", i);
		must_eq(vmbus_block_create(&cases[i].opts, &block), cases[i].err);
		if (!cases[i].err)
			vmbus_block_destroy(block);
	}
	must_eq(vmbus_block_create(NULL, &block), 0);
	vmbus_block_destroy(block);
	vmbus_block_destroy(NULL);
}
END_TEST

START_TEST(block_add__refuses)
{
	struct vmbus_store_info info = { .bytes = 4096 };
	struct vmbus_store_ops ops = box_bad_ops;
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk), .store = { &ops, &info } };
	const struct vmbus_block_disk good = disk;
	struct vmbus_block *block;

	must_eq(vmbus_block_create(NULL, &block), 0);
#define REFUSED(change, error)                                                                     \
	do {                                                                                       \
		vmbus_test_at("%s", #change);                                                      \
		disk = good;                                                                       \
		ops = box_bad_ops;                                                                 \
		info = (struct vmbus_store_info){ .bytes = 4096 };                                 \
		change;                                                                            \
		must_eq(vmbus_block_add(block, &disk), error);                                     \
	} while (0)
	REFUSED(disk.struct_bytes = 8, VMBUS_E_INVAL);
	REFUSED(disk.store.ops = NULL, VMBUS_E_INVAL);
	REFUSED(ops.struct_bytes = 16, VMBUS_E_INVAL);
	REFUSED(ops.info = NULL, VMBUS_E_INVAL);
	REFUSED(ops.read = NULL, VMBUS_E_INVAL);
	REFUSED(ops.write = NULL, VMBUS_E_INVAL);
	REFUSED(disk.target = 2, VMBUS_E_RANGE);
	REFUSED(disk.sector = 520, VMBUS_E_RANGE);
	REFUSED(disk.serial = "123456789012345678901234567890123", VMBUS_E_RANGE);
	REFUSED(disk.serial = "a\nb", VMBUS_E_INVAL);
	REFUSED(disk.vendor = "123456789", VMBUS_E_RANGE);
	REFUSED(disk.product = "12345678901234567", VMBUS_E_RANGE);
	REFUSED(disk.revision = "12345", VMBUS_E_RANGE);
	REFUSED(disk.revision = "\x7f", VMBUS_E_INVAL);
	REFUSED(info.bytes = 0, VMBUS_E_RANGE);
	REFUSED(info.bytes = 511, VMBUS_E_RANGE);
	REFUSED(info.bytes = VMBUS_STORE_BYTES_MAX + 1, VMBUS_E_RANGE);
	REFUSED(info.bytes = 4095; disk.sector = 4096, VMBUS_E_RANGE);
	REFUSED(info.align_bytes = 4096, VMBUS_E_RANGE);
	REFUSED(info.align_bytes = 3, VMBUS_E_INVAL);
	REFUSED(info.block_bytes = 3000, VMBUS_E_INVAL);
	REFUSED(info.discard_bytes = 513, VMBUS_E_INVAL);
	REFUSED(info.reserved[0] = 1, VMBUS_E_SYSTEM);
	REFUSED(ops.write = NULL; disk.read_only = true, 0);
	ops = box_bad_ops;
	must_eq(vmbus_block_add(block, &good), VMBUS_E_STATE);
	REFUSED(ops.write = NULL; info.flags = VMBUS_STORE_READ_ONLY; disk.lun = 1, 0);
	must_eq(vmbus_block_remove(block, 2, 0), VMBUS_E_RANGE);
	must_eq(vmbus_block_remove(block, 0, 2), VMBUS_E_RANGE);
	must_eq(vmbus_block_resized(block, 2, 0), VMBUS_E_RANGE);
	must_eq(vmbus_block_resized(block, 0, 2), VMBUS_E_RANGE);
	info.bytes = 100;
	must_eq(vmbus_block_resized(block, 0, 1), VMBUS_E_RANGE);
	info.reserved[0] = 1;
	must_eq(vmbus_block_resized(block, 0, 1), VMBUS_E_SYSTEM);
	must_eq(vmbus_block_stats(block, 2, 0, NULL), VMBUS_E_RANGE);
	must_eq(vmbus_block_stats(block, 0, 2, NULL), VMBUS_E_RANGE);
	vmbus_block_destroy(block);
}
END_TEST

/* One line for each refusal that has several causes: which disk, what, and what it may be. */
START_TEST(block_create__says_what_it_refuses)
{
	const struct vmbus_block_opts good = { .struct_bytes = sizeof(good), .log = keep_refusal };
	struct vmbus_block *block = NULL;
	struct vmbus_block_opts bad;
	uint32_t before;

#define SAYS(change, text)                                                                         \
	do {                                                                                       \
		bad = good;                                                                        \
		change;                                                                            \
		before = refusals;                                                                 \
		must_eq(vmbus_block_create(&bad, &block), VMBUS_E_RANGE);                          \
		must_eq(refusals, before + 1);                                                     \
		ck_assert_str_eq(refusal, "the controller cannot be made: " text);                 \
	} while (0)
	SAYS(bad.subchannels = 65, "subchannels is 65, and may be up to 64");
	SAYS(bad.depth = 1025, "depth is 1025, and may be up to 1024");
	SAYS(bad.requests = 4097, "requests is 4097, and may be up to 4096");
	SAYS(bad.transfer_bytes = 9 << 20, "transfer_bytes is 9437184, and may be up to 8388608");
	SAYS(bad.transfer_bytes = 513, "transfer_bytes is 513, and has to be a multiple of 4096");
#undef SAYS
	before = refusals;
	must_eq(vmbus_block_create(&good, &block), 0);
	must_eq(refusals, before);
	vmbus_block_destroy(block);
	must_eq(refusals, before);
}
END_TEST

static const struct refused_disk {
	struct vmbus_block_disk disk;
	struct vmbus_store_info info;
	size_t table;
	const char *says;
	bool no_ops, no_info, no_write;
} refused_disks[] = {
	{ .disk.target = 2, .says = "disk 2:1: cannot be added: target is 2, and may be 0 to 1" },
	{ .disk.sector = 520,
	  .says = "disk 0:1: cannot be added: sector is 520, and may be 512 or" },
	{ .disk.serial = "123456789012345678901234567890123",
	  .says = "disk 0:1: cannot be added: serial has more than 32 characters" },
	{ .disk.serial = "a\nb",
	  .says = "disk 0:1: cannot be added: serial has 0x0a, which is not printable" },
	{ .disk.vendor = "123456789", .says = "vendor has more than 8 characters" },
	{ .disk.product = "12345678901234567", .says = "product has more than 16 characters" },
	{ .disk.revision = "\xFF", .says = "revision has 0xff, which is not printable" },
	{ .info.bytes = UINT64_MAX, .says = "its store has 18446744073709551615 bytes, and may" },
	{ .info.bytes = 511,
	  .says = "disk 0:1: cannot be added: its store has 511 bytes, and a sector has 512" },
	{ .info = { .bytes = 4095 },
	  .disk.sector = 4096,
	  .says = "4095 bytes, and a sector has 4096" },
	{ .info = { .bytes = 4096, .align_bytes = 4096 },
	  .says = "align_bytes of its store is 4096, and may be up to its sector, 512" },
	{ .info = { .bytes = 4096, .align_bytes = 3 },
	  .says = "align_bytes of its store is 3, which is no power of 2" },
	{ .info = { .bytes = 4096, .block_bytes = 3000 },
	  .says = "block_bytes of its store is 3000" },
	{ .info = { .bytes = 4096, .discard_bytes = 9 },
	  .says = "discard_bytes of its store is 9" },
	{ .info = { .bytes = 4096, .reserved[0] = 1 },
	  .says = "disk 0:1: cannot be added: info() of its store, bad, returned SYSTEM" },
	{ .no_ops = true, .says = "disk 0:1: cannot be added: there is no store" },
	{ .no_info = true, .says = "its store lacks info or read" },
	{ .no_write = true, .says = "its store lacks write, and it is not read-only" },
	{ .table = 16, .says = "struct_bytes of its store's table is 16, and has to be at least" },
	{ .disk.struct_bytes = 8,
	  .says = "a disk cannot be added: struct_bytes is 8, and has to be" },
};

START_TEST(block_add__says_what_it_refuses)
{
	const struct vmbus_block_opts opts = { .struct_bytes = sizeof(opts), .log = keep_refusal };
	const struct refused_disk *const c = &refused_disks[_i];
	struct vmbus_store_info info = c->info;
	struct vmbus_store_ops ops = box_bad_ops;
	struct vmbus_block_disk disk = c->disk;
	struct vmbus_block *block;

	must_eq(vmbus_block_create(&opts, &block), 0);
	if (!disk.struct_bytes)
		disk.struct_bytes = sizeof(disk);
	if (!info.bytes)
		info.bytes = 4096;
	if (c->table)
		ops.struct_bytes = c->table;
	if (c->no_info)
		ops.info = NULL;
	if (c->no_write)
		ops.write = NULL;
	disk.lun = 1;
	disk.store = (struct vmbus_store){ c->no_ops ? NULL : &ops, &info };
	must(vmbus_block_add(block, &disk) < 0);
	must_eq(refusals, 1);
	ck_assert_msg(strstr(refusal, c->says), "%s", refusal);
	vmbus_block_destroy(block);
}
END_TEST

START_TEST(block_resized__says_what_it_refuses)
{
	const struct vmbus_block_opts opts = { .struct_bytes = sizeof(opts), .log = keep_refusal };
	struct vmbus_store_info info = { .bytes = 4096 };
	const struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk),
					       .store = { &box_bad_ops, &info },
					       .lun = 7 };
	struct vmbus_block *block;

	must_eq(vmbus_block_create(&opts, &block), 0);
	must_eq(vmbus_block_add(block, &disk), 0);
	must_eq(vmbus_block_add(block, &disk), VMBUS_E_STATE); /* that has one cause, and no line */
	must_eq(vmbus_block_resized(block, 0, 7), 0);
	must_eq(refusals, 0);
	must_eq(vmbus_block_resized(block, 1, 3), VMBUS_E_RANGE);
	ck_assert_str_eq(refusal, "disk 1:3: cannot be resized: there is none");
	must_eq(vmbus_block_resized(block, 2, 0), VMBUS_E_RANGE);
	ck_assert_str_eq(refusal, "disk 2:0: cannot be resized: there is none");
	info.bytes = 100;
	must_eq(vmbus_block_resized(block, 0, 7), VMBUS_E_RANGE);
	ck_assert_msg(strstr(refusal, "disk 0:7: cannot be resized: its store has 100 bytes"), "%s",
		      refusal);
	info.reserved[0] = 1;
	must_eq(vmbus_block_resized(block, 0, 7), VMBUS_E_SYSTEM);
	ck_assert_msg(strstr(refusal, "its store, bad, returned SYSTEM"), "%s", refusal);
	must_eq(refusals, 4);
	vmbus_block_destroy(block);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "refusals", 10);

	tcase_add_test(tc, block_create__refuses);
	tcase_add_test(tc, block_add__refuses);
	tcase_add_test(tc, block_create__says_what_it_refuses);
	tcase_add_loop_test(tc, block_add__says_what_it_refuses, 0,
			    sizeof(refused_disks) / sizeof(refused_disks[0]));
	tcase_add_test(tc, block_resized__says_what_it_refuses);
}
VMBUS_TEST_MAIN("block.vsp_refusals", tests)
