/* SPDX-License-Identifier: MIT */
/* UNMAP and WRITE SAME of the SCSI disk. */
#include "block/scsi_rig.h"

static struct rig rig;

static void up(void)
{
	rig_open(&rig, 9);
	rig.disk.transfer_bytes = 2u << 20; /* all of it */
}

static void down(void)
{
	rig_close(&rig);
}

static void put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	while (bytes) {
		p[--bytes] = (uint8_t)v;
		v >>= 8;
	}
}

/* A list of n descriptors with honest lengths; descriptor i is set by describe(). */
static void make_list(uint32_t n)
{
	memset(rig.buffer, 0, 8 + 16 * n);
	put(rig.buffer, 2, 6 + 16 * n);
	put(rig.buffer + 2, 2, 16 * n);
}

static void describe(uint32_t i, uint64_t lba, uint32_t sectors)
{
	put(rig.buffer + 8 + 16 * i, 8, lba);
	put(rig.buffer + 8 + 16 * i + 8, 4, sectors);
}

/* UNMAP with a list of so many bytes, in a buffer of so many. */
static void unmap_in(uint32_t list, uint32_t bytes)
{
	RUN(&rig, bytes, false, 0x42, 0, 0, 0, 0, 0, 0, (uint8_t)(list >> 8), (uint8_t)list, 0);
}

static void unmap(uint32_t n)
{
	unmap_in(8 + 16 * n, 8 + 16 * n);
}

/* [STOR-UNMAP] */
START_TEST(scsi_unmap__discards_what_is_described)
{
	uint32_t keep;

	for (keep = 0; keep < 2; keep++) {
		rig.keep = keep;
		memset(rig.bytes, 0xAA, 1u << 20);
		make_list(3);
		describe(0, 10, 5);
		describe(1, 20, 0);
		describe(2, 100, 64);
		unmap(3);
		GOOD(&rig, 56);
		must_eq(rig.task.kind, VMBUS__SCSI_DISCARD);
		must_eq(rig.task.covered, 69 * 512);
		must_eq(rig.asked, 2);
		ASKED(&rig, 0, 'd', 5120, 2560, 0);
		ASKED(&rig, 1, 'd', 51200, 32768, 0);
	}
}
END_TEST

START_TEST(scsi_unmap__as_many_descriptors_as_the_limits_page_says)
{
	uint32_t i;

	make_list(257);
	for (i = 0; i < 257; i++)
		describe(i, i * 2, 1);
	unmap(257);
	ILLEGAL(&rig, 0x2600);
	must_eq(rig.asked, 0);
	put(rig.buffer, 2, 6 + 16 * 256);
	put(rig.buffer + 2, 2, 16 * 256);
	unmap(256);
	GOOD(&rig, 8 + 16 * 256);
	must_eq(rig.asked, 256);
	ASKED(&rig, 255, 'd', 510 * 512, 512, 0);
	unmap(257); /* a list that is longer than what it describes */
	GOOD(&rig, 8 + 16 * 257);
	must_eq(rig.asked, 256);
}
END_TEST

static void only_count(struct vmbus_io *io)
{
	rig.asked++;
	vmbus_io_done(io, VMBUS_IO_OK);
}

/* All descriptors together, whatever they overlap; all of it is work. */
START_TEST(scsi_unmap__as_many_sectors_as_the_limits_page_says)
{
	const uint32_t most = 1048576;
	uint32_t i;

	rig.ops.discard = only_count;
	rig.disk.bytes = UINT64_C(4) << 30;
	make_list(256);
	for (i = 0; i < 256; i++)
		describe(i, i % 2, most / 256);
	unmap(256);
	GOOD(&rig, 8 + 16 * 256);
	must_eq(rig.asked, 256);
	must_eq(rig.task.covered, 512u << 20);
	must_eq(rig.task.work, (512u << 20) + 256 * 4096);
	describe(255, 0, most / 256 + 1);
	unmap(256);
	ILLEGAL(&rig, 0x2600);
	must_eq(rig.asked, 0);
	make_list(1);
	describe(0, 7, most + 1);
	unmap(1);
	ILLEGAL(&rig, 0x2600);
	must_eq(rig.asked, 0);
}
END_TEST

START_TEST(scsi_unmap__checks_every_descriptor_before_the_first_is_done)
{
	static const struct {
		uint64_t lba;
		uint32_t sectors;
	} bad[] = { { RIG_SECTORS, 1 },	    { RIG_SECTORS - 1, 2 },	{ 0, RIG_SECTORS + 1 },
		    { UINT64_MAX, 1 },	    { UINT64_MAX, 0xFFFFFFFF }, { 1, 0xFFFFFFFF },
		    { RIG_SECTORS + 1, 0 }, { UINT64_C(1) << 55, 1 } };
	uint32_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		vmbus_test_at("case %u", i);
		make_list(2);
		describe(0, 0, 1);
		describe(1, bad[i].lba, bad[i].sectors);
		unmap(2);
		ILLEGAL(&rig, 0x2100);
		must_eq(rig.asked, 0);
	}
	make_list(1);
	describe(0, RIG_SECTORS, 0);
	unmap(1);
	GOOD(&rig, 24);
	must_eq(rig.asked, 0);
	make_list(1);
	describe(0, 0, RIG_SECTORS);
	unmap(1);
	GOOD(&rig, 24);
	ASKED(&rig, 0, 'd', 0, RIG_SECTORS * 512, 0);
}
END_TEST

START_TEST(scsi_unmap__refuses_lists_whose_lengths_disagree)
{
	uint32_t n;

	unmap_in(0, 0);
	GOOD(&rig, 0);
	for (n = 1; n < 8; n++) {
		unmap_in(n, n);
		ILLEGAL(&rig, 0x1A00);
	}
	make_list(1);
	describe(0, 0, 1);
	unmap_in(24, 23); /* the buffer is shorter */
	ILLEGAL(&rig, 0x2400);
	unmap_in(23, 23); /* the list is */
	ILLEGAL(&rig, 0x1A00);
	put(rig.buffer, 2, 21);
	unmap(1);
	ILLEGAL(&rig, 0x2600);
	rig_buffer(&rig, 23, false); /* the transfer is, though the range is not */
	rig.pieces[0].len = 24;
	rig.sgl.bytes = 24;
	put(rig.buffer, 2, 22);
	rig_run(&rig, (const uint8_t[]){ 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0 }, 10);
	ILLEGAL(&rig, 0x2400);
	put(rig.buffer, 2, 38);
	put(rig.buffer + 2, 2, 17);
	unmap_in(40, 40);
	ILLEGAL(&rig, 0x2600);
	make_list(0);
	unmap_in(8, 8);
	GOOD(&rig, 8);
	must_eq(rig.asked, 0);
	make_list(1);
	RUN(&rig, 24, false, 0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0); /* ANCHOR */
	ILLEGAL(&rig, 0x2400);
}
END_TEST

START_TEST(scsi_unmap__is_unknown_to_a_store_without_discard)
{
	rig.ops.discard = NULL;
	make_list(1);
	describe(0, 0, 1);
	unmap(1);
	ILLEGAL(&rig, 0x2000);
}
END_TEST

/* Lesson: what the guest changes after the check counts for nothing. */
static void change_list(struct rig *r)
{
	memset(r->buffer, 0xFF, 4096);
}

START_TEST(scsi_unmap__uses_its_own_copy_of_the_list)
{
	uint32_t i;

	make_list(40);
	for (i = 0; i < 40; i++)
		describe(i, i, 1);
	rig.before = change_list;
	unmap(40);
	GOOD(&rig, 8 + 16 * 40);
	must_eq(rig.asked, 40);
	for (i = 0; i < 40; i++)
		ASKED(&rig, i, 'd', i * 512, 512, 0);
}
END_TEST

START_TEST(scsi_unmap__ends_at_the_first_failure)
{
	uint32_t keep;

	for (keep = 0; keep < 2; keep++) {
		rig.keep = keep;
		make_list(3);
		describe(0, 0, 1);
		describe(1, 100, 1);
		describe(2, 200, 1);
		rig.fail_at = 2;
		rig.fail = VMBUS_IO_MEDIUM;
		unmap(3);
		must_eq(rig.asked, 2);
		must_eq(rig.task.sense[2], 3);
		must_eq(rig.task.sense[12], 0x0C);
		must_eq(rig.task.sense[6], 100);
		must_eq(rig.task.covered, 0);
		rig.fail = VMBUS_IO_BUSY;
		unmap(3);
		must_eq(rig.task.scsi_status, 0x08);
	}
}
END_TEST

START_TEST(scsi_unmap__is_durable_on_a_write_through_disk)
{
	rig.disk.write_through = true;
	make_list(1);
	describe(0, 0, 1);
	unmap(1);
	GOOD(&rig, 24);
	must_eq(rig.asked, 2);
	ASKED(&rig, 1, 'f', 0, 0, 0);
}
END_TEST

/* ---- WRITE SAME ---- */

#define SAME10(flags, lba, n, bytes)                                                               \
	RUN(&rig, bytes, false, 0x41, flags, 0, 0, (uint8_t)((lba) >> 8), (uint8_t)(lba), 0,       \
	    (uint8_t)((n) >> 8), (uint8_t)(n), 0)
#define SAME16(flags, lba, n, bytes)                                                               \
	RUN(&rig, bytes, false, 0x93, flags, 0, 0, 0, 0, 0, 0, (uint8_t)((lba) >> 8),              \
	    (uint8_t)(lba), 0, (uint8_t)((n) >> 16), (uint8_t)((n) >> 8), (uint8_t)(n))

START_TEST(scsi_write_same__repeats_the_sector)
{
	uint32_t i, keep, n;

	for (keep = 0; keep < 2; keep++)
		for (n = 1; n <= 401; n += 100) {
			rig.keep = keep;
			vmbus_test_at("%u sectors", n);
			memset(rig.bytes, 0, 1u << 20);
			memset(rig.buffer, 0, 512);
			rig.buffer[0] = 1;
			rig.buffer[511] = 2;
			if (n & 2)
				SAME10(0, 10, n, 512);
			else
				SAME16(0, 10, n, 512);
			GOOD(&rig, 512);
			must_eq(rig.task.kind, VMBUS__SCSI_WRITE);
			must_eq(rig.asked, (n * 512 + 65535) / 65536);
			must_eq(rig.task.work, n * 512 + rig.asked * 4096);
			must(rig.bytes[10 * 512 - 1] == 0 && rig.bytes[(10 + n) * 512] == 0);
			for (i = 10; i < 10 + n; i++)
				must(memcmp(rig.bytes + i * 512, rig.buffer, 512) == 0);
		}
}
END_TEST

START_TEST(scsi_write_same__zeroes_are_the_stores)
{
	memset(rig.buffer, 0, 512);
	SAME16(0, 10, 1000, 512);
	GOOD(&rig, 512);
	must_eq(rig.asked, 1);
	must_eq(rig.task.kind, VMBUS__SCSI_WRITE);
	ASKED(&rig, 0, 'z', 5120, 512000, 0);
	SAME16(0x08, 10, 1000, 512);
	must_eq(rig.asked, 1);
	must_eq(rig.task.kind, VMBUS__SCSI_DISCARD);
	must_eq(rig.task.covered, 512000);
	ASKED(&rig, 0, 'z', 5120, 512000, VMBUS_IO_MAY_DISCARD);
	SAME16(0x01, 10, 1000, 0); /* NDOB: no buffer stands for zeroes */
	GOOD(&rig, 0);
	ASKED(&rig, 0, 'z', 5120, 512000, 0);
	rig.ops.zero = NULL;
	memset(rig.bytes, 0xAA, 1u << 20);
	SAME16(0x09, 10, 1000, 0);
	GOOD(&rig, 0);
	must_eq(rig.asked, 8);
	ASKED(&rig, 7, 'w', 5120 + 7 * 65536, 512000 - 7 * 65536, 0);
	must_eq(rig.bytes[5119], 0xAA);
	must_eq(rig.bytes[5120], 0);
	must_eq(rig.bytes[5120 + 511999], 0);
	must_eq(rig.bytes[5120 + 512000], 0xAA);
}
END_TEST

/* Without a flush the guest is told of no cache, and the store promises durable writes only. */
START_TEST(scsi_write_same__is_durable_where_there_is_no_flush)
{
	rig.ops.flush = NULL;
	rig.disk.info.flags = VMBUS_STORE_VOLATILE | VMBUS_STORE_FUA;
	memset(rig.buffer, 0, 512);
	SAME16(0x08, 10, 200, 512);
	GOOD(&rig, 512);
	must_eq(rig.asked, 2);
	ASKED(&rig, 0, 'w', 5120, 65536, VMBUS_IO_FUA);
	ASKED(&rig, 1, 'w', 5120 + 65536, 200 * 512 - 65536, VMBUS_IO_FUA);
	rig.buffer[7] = 7;
	SAME10(0, 10, 3, 512);
	ASKED(&rig, 0, 'w', 5120, 1536, VMBUS_IO_FUA);
	rig.disk.info.flags = VMBUS_STORE_VOLATILE; /* nothing can be done */
	SAME10(0, 10, 3, 512);
	ASKED(&rig, 0, 'w', 5120, 1536, 0);
}
END_TEST

/* What is not zero must be there afterwards, also if the space could be given back. */
START_TEST(scsi_write_same__a_pattern_is_written_though_unmap_is_set)
{
	memset(rig.buffer, 0xA6, 512);
	SAME10(0x08, 0, 3, 512);
	GOOD(&rig, 512);
	ASKED(&rig, 0, 'w', 0, 1536, 0);
	must_eq(rig.bytes[1535], 0xA6);
}
END_TEST

/* [STOR-LIMITS]: what page B0 says. */
START_TEST(scsi_write_same__writes_no_more_than_a_write)
{
	rig.disk.bytes = UINT64_C(1) << 40;
	memset(rig.buffer, 0, 512);
	rig.fail_at = 1; /* the rig has no such disk */
	rig.fail = VMBUS_IO_BUSY;
	SAME16(0, 0, 4096, 512);
	ASKED(&rig, 0, 'z', 0, 4096 * 512, 0);
	SAME16(0, 0, 4097, 512);
	ILLEGAL(&rig, 0x2400);
	rig.disk.transfer_bytes = 64u << 20; /* the form of 10 bytes tells 65535 at most */
	SAME16(0, 0, 65535, 512);
	ASKED(&rig, 0, 'z', 0, 65535 * 512, 0);
	SAME16(0, 0, 65536, 512);
	ILLEGAL(&rig, 0x2400);
	SAME10(0, 0, 0, 512); /* WSNZ */
	ILLEGAL(&rig, 0x2400);
	SAME16(0, 0, 0, 512);
	ILLEGAL(&rig, 0x2400);
}
END_TEST

START_TEST(scsi_write_same__refuses_ranges_flags_and_buffers)
{
	static const uint8_t bad10[] = { 0x20, 0xE0, 0x10, 0x18, 0x01, 0x02, 0x04 };
	static const uint8_t bad16[] = { 0x20, 0xE0, 0x10, 0x18, 0x02, 0x04 };
	uint32_t i;

	memset(rig.buffer, 0, 1024);
	SAME10(0, RIG_SECTORS, 1, 512);
	ILLEGAL(&rig, 0x2100);
	SAME16(0, RIG_SECTORS - 1, 2, 512);
	ILLEGAL(&rig, 0x2100);
	RUN(&rig, 512, false, 0x93, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 2);
	ILLEGAL(&rig, 0x2100);
	for (i = 0; i < sizeof(bad10); i++) {
		SAME10(bad10[i], 0, 1, 512);
		ILLEGAL(&rig, 0x2400);
	}
	for (i = 0; i < sizeof(bad16); i++) {
		SAME16(bad16[i], 0, 1, 512);
		ILLEGAL(&rig, 0x2400);
	}
	SAME10(0, 0, 1, 511);
	ILLEGAL(&rig, 0x2400);
	SAME10(0, 0, 1, 1024);
	ILLEGAL(&rig, 0x2400);
	SAME10(0, 0, 1, 0);
	ILLEGAL(&rig, 0x2400);
	must_eq(rig.asked, 0);
	rig.ops.discard = NULL;
	SAME10(0x08, 0, 1, 512);
	ILLEGAL(&rig, 0x2400);
	SAME10(0x00, 0, 1, 512);
	GOOD(&rig, 512);
}
END_TEST

START_TEST(scsi_write_same__fails_where_it_fails)
{
	uint32_t keep;

	for (keep = 0; keep < 2; keep++) {
		rig.keep = keep;
		memset(rig.buffer, 1, 512);
		rig.fail_at = 2;
		rig.fail = VMBUS_IO_SPACE;
		SAME16(0, 0, 1000, 512);
		CHECK(&rig, 0x84, 7, 0x2707);
		must_eq(rig.asked, 2);
	}
}
END_TEST

START_TEST(scsi_write_same__is_durable_on_a_write_through_disk)
{
	rig.disk.write_through = true;
	memset(rig.buffer, 1, 512);
	SAME16(0, 0, 200, 512);
	GOOD(&rig, 512);
	must_eq(rig.asked, 3);
	ASKED(&rig, 2, 'f', 0, 0, 0);
	rig.disk.info.flags = 0;
	SAME16(0, 0, 200, 512);
	must_eq(rig.asked, 2);
}
END_TEST

static uintptr_t stack_low, stack_high;

static void note_stack(struct rig *r)
{
	const uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	if (r->asked == 1 || here < stack_low)
		stack_low = here;
	if (r->asked == 1 || here > stack_high)
		stack_high = here;
}

/* Requests that end within the call that begins them, one after the other: no stack for each. */
START_TEST(scsi_write_same__does_not_recurse)
{
	uint32_t i;

	memset(rig.buffer, 1, 512);
	rig.before = note_stack;
	SAME16(0, 0, RIG_SECTORS, 512);
	GOOD(&rig, 512);
	must_eq(rig.asked, RIG_SECTORS * 512 / 65536);
	must(stack_high - stack_low < 1024);
	make_list(256);
	for (i = 0; i < 256; i++)
		describe(i, i, 1);
	unmap(256);
	must_eq(rig.asked, 256);
	must_eq(rig.task.work, 256 * (4096 + 512));
	must(stack_high - stack_low < 1024);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "unmap", 20);

	tcase_add_checked_fixture(tc, up, down);
	tcase_add_test(tc, scsi_unmap__discards_what_is_described);
	tcase_add_test(tc, scsi_unmap__as_many_descriptors_as_the_limits_page_says);
	tcase_add_test(tc, scsi_unmap__as_many_sectors_as_the_limits_page_says);
	tcase_add_test(tc, scsi_unmap__checks_every_descriptor_before_the_first_is_done);
	tcase_add_test(tc, scsi_unmap__refuses_lists_whose_lengths_disagree);
	tcase_add_test(tc, scsi_unmap__is_unknown_to_a_store_without_discard);
	tcase_add_test(tc, scsi_unmap__uses_its_own_copy_of_the_list);
	tcase_add_test(tc, scsi_unmap__ends_at_the_first_failure);
	tcase_add_test(tc, scsi_unmap__is_durable_on_a_write_through_disk);
	tcase_add_test(tc, scsi_write_same__repeats_the_sector);
	tcase_add_test(tc, scsi_write_same__zeroes_are_the_stores);
	tcase_add_test(tc, scsi_write_same__is_durable_where_there_is_no_flush);
	tcase_add_test(tc, scsi_write_same__a_pattern_is_written_though_unmap_is_set);
	tcase_add_test(tc, scsi_write_same__writes_no_more_than_a_write);
	tcase_add_test(tc, scsi_write_same__refuses_ranges_flags_and_buffers);
	tcase_add_test(tc, scsi_write_same__fails_where_it_fails);
	tcase_add_test(tc, scsi_write_same__is_durable_on_a_write_through_disk);
	tcase_add_test(tc, scsi_write_same__does_not_recurse);
}

VMBUS_TEST_MAIN("block.scsi_unmap", tests)
