/* SPDX-License-Identifier: MIT */
/* What a SCSI disk tells of itself: INQUIRY, its pages, the capacity, the disks of a target. */
#include "block/scsi_rig.h"

static struct rig rig;

static void up(void)
{
	rig_open(&rig, 9);
}

static void down(void)
{
	rig_close(&rig);
}

#define INQUIRY(rig, evpd, page, alloc)                                                            \
	RUN(rig, alloc, true, 0x12, evpd, page, (uint8_t)((alloc) >> 8), (uint8_t)(alloc), 0)

/* [STOR-INQUIRY] */
START_TEST(scsi_inquiry__tells_what_linux_reads)
{
	static const uint8_t head[8] = { 0x00, 0x00, 0x05, 0x02, 99, 0, 0, 0x02 };

	INQUIRY(&rig, 0, 0, 104);
	GOOD(&rig, 104);
	must(memcmp(rig.buffer, head, sizeof(head)) == 0);
	must(memcmp(rig.buffer + 8, "Msft    Virtual Disk    1.0 ", 28) == 0);
	must_eq(rig_be(&rig, 58, 2), 0x0060);
	must_eq(rig_be(&rig, 60, 2), 0x0300);
	must_eq(rig_be(&rig, 62, 2), 0x04C0);
	must_eq(rig_be(&rig, 64, 8), 0);
	rig.disk.read_only = true; /* still a disk, not a DVD drive */
	memcpy(rig.disk.vendor, "ACME    ", 8);
	INQUIRY(&rig, 0, 0, 36);
	GOOD(&rig, 36);
	must_eq(rig.buffer[0], 0);
	must(memcmp(rig.buffer + 8, "ACME    ", 8) == 0);
}
END_TEST

START_TEST(scsi_inquiry__gives_as_much_as_is_wanted)
{
	uint32_t n;

	for (n = 0; n <= 300; n++) {
		vmbus_test_at("%u bytes", n);
		memset(rig.buffer, 0xEE, 400);
		INQUIRY(&rig, 0, 0, n);
		GOOD(&rig, n < 104 ? n : 104);
		must_eq(rig.buffer[n < 104 ? n : 104], 0xEE);
	}
	/* The buffer may be smaller than what the command says. */
	memset(rig.buffer, 0xEE, 400);
	RUN(&rig, 10, true, 0x12, 0, 0, 0, 255, 0);
	GOOD(&rig, 10);
	must_eq(rig.buffer[10], 0xEE);
	RUN(&rig, 0, true, 0x12, 0, 0, 0, 255, 0);
	GOOD(&rig, 0);
}
END_TEST

START_TEST(scsi_inquiry__refuses_what_does_not_exist)
{
	uint32_t page;

	INQUIRY(&rig, 0, 0x80, 255);
	ILLEGAL(&rig, 0x2400);
	INQUIRY(&rig, 2, 0, 255);
	ILLEGAL(&rig, 0x2400);
	for (page = 0; page < 256; page++) {
		vmbus_test_at("page %02x", page);
		INQUIRY(&rig, 1, (uint8_t)page, 255);
		if (page == 0 || page == 0x80 || page == 0x83 || (page >= 0xB0 && page <= 0xB2)) {
			must_eq(rig.task.scsi_status, 0);
			must_eq(rig.buffer[1], page);
			must_eq(rig.buffer[0], 0);
			must_eq(rig_be(&rig, 2, 2) + 4, rig.task.moved);
		} else {
			ILLEGAL(&rig, 0x2400);
		}
	}
}
END_TEST

START_TEST(scsi_inquiry__pages_are_as_long_as_their_heads_say)
{
	static const uint8_t pages[] = { 0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2 };
	static const uint8_t lengths[] = { 6, 3, 48, 60, 60, 4 };
	uint32_t i;

	for (i = 0; i < sizeof(pages); i++) {
		vmbus_test_at("page %02x", pages[i]);
		INQUIRY(&rig, 1, pages[i], 4);
		GOOD(&rig, 4);
		must_eq(rig_be(&rig, 2, 2), lengths[i]);
		INQUIRY(&rig, 1, pages[i], 4u + lengths[i]);
		GOOD(&rig, 4u + lengths[i]);
		INQUIRY(&rig, 1, pages[i], 255u);
		GOOD(&rig, 4u + lengths[i]);
	}
	INQUIRY(&rig, 1, 0x00, 36);
	must(memcmp(rig.buffer + 4, pages, sizeof(pages)) == 0);
}
END_TEST

START_TEST(scsi_inquiry__serial_page_is_left_out_without_a_serial)
{
	INQUIRY(&rig, 1, 0x80, 255);
	GOOD(&rig, 7);
	must(memcmp(rig.buffer + 4, "S-1", 3) == 0);
	memset(rig.disk.serial, 'x', 32);
	INQUIRY(&rig, 1, 0x80, 255);
	GOOD(&rig, 36);
	memset(rig.disk.serial, 0, sizeof(rig.disk.serial));
	INQUIRY(&rig, 1, 0x80, 255);
	ILLEGAL(&rig, 0x2400);
	INQUIRY(&rig, 1, 0x00, 255);
	GOOD(&rig, 9);
	must(memcmp(rig.buffer, "\x00\x00\x00\x05\x00\x83\xB0\xB1\xB2", 9) == 0);
}
END_TEST

START_TEST(scsi_inquiry__identity_page_has_both_designators)
{
	static const uint8_t want[52] = {
		0x00, 0x83, 0x00, 48, 0x01, 0x01, 0x00, 0x18, 'M',  's',  'f',	't',  ' ',
		' ',  ' ',  ' ',  1,  2,    3,	  4,	5,    6,    7,	  8,	9,    10,
		11,   12,   13,	  14, 15,   16,	  0x01, 0x03, 0x00, 0x10, 0x60, 0x02, 0x24,
		0x80, 1,    2,	  3,  4,    5,	  6,	11,   12,   13,	  14,	15,   16,
	};

	INQUIRY(&rig, 1, 0x83, 255);
	GOOD(&rig, 52);
	must(memcmp(rig.buffer, want, 52) == 0);
}
END_TEST

START_TEST(scsi_inquiry__limits_page_lets_guests_make_large_requests)
{
	INQUIRY(&rig, 1, 0xB0, 64);
	GOOD(&rig, 64);
	must_eq(rig.buffer[4], 1);	       /* WSNZ */
	must_eq(rig.buffer[5], 0);	       /* no COMPARE AND WRITE */
	must_eq(rig_be(&rig, 6, 2), 0);	       /* no granularity */
	must_eq(rig_be(&rig, 8, 4), 512);      /* 256 KiB */
	must_eq(rig_be(&rig, 12, 4), 0);       /* no need to tell: less than Linux's own limit */
	must_eq(rig_be(&rig, 20, 4), 1048576); /* 512 MiB */
	must_eq(rig_be(&rig, 24, 4), 256);
	must_eq(rig_be(&rig, 28, 4), 1);
	must_eq(rig_be(&rig, 32, 4), 0x80000000);
	must_eq(rig_be(&rig, 36, 8), 512); /* as a WRITE */
	rig.disk.transfer_bytes = 8u << 20;
	rig.disk.info.block_bytes = 65536;
	rig.disk.info.discard_bytes = 1u << 20;
	INQUIRY(&rig, 1, 0xB0, 64);
	must_eq(rig_be(&rig, 6, 2), 128);
	must_eq(rig_be(&rig, 8, 4), 16384);
	must_eq(rig_be(&rig, 12, 4), 16384);
	must_eq(rig_be(&rig, 28, 4), 2048);
	/* A granularity that does not fit the largest transfer would make Linux ignore both. */
	rig.disk.transfer_bytes = (8u << 20) + 4096;
	INQUIRY(&rig, 1, 0xB0, 64);
	must_eq(rig_be(&rig, 6, 2), 0);
	rig.disk.sector_shift = 12;
	INQUIRY(&rig, 1, 0xB0, 64);
	must_eq(rig_be(&rig, 8, 4), 2049);
	must_eq(rig_be(&rig, 20, 4), 131072);
	must_eq(rig_be(&rig, 36, 8), 2049);
}
END_TEST

/* What can be discarded, as three pages of answers tell it. */
START_TEST(scsi_inquiry__discard_is_told_only_where_there_is_one)
{
	uint32_t how;

	for (how = 0; how < 3; how++) {
		vmbus_test_at("way %u", how);
		if (how == 1)
			rig.ops.discard = NULL;
		if (how == 2) {
			rig.ops.discard = rig_discard;
			rig.disk.read_only = true;
		}
		INQUIRY(&rig, 1, 0xB0, 64);
		must_eq(rig_be(&rig, 20, 4), how ? 0 : 1048576);
		must_eq(rig_be(&rig, 24, 4), how ? 0 : 256);
		must_eq(rig_be(&rig, 28, 8), how ? 0 : 0x0000000180000000);
		must_eq(rig_be(&rig, 36, 8), how == 2 ? 0 : 512);
		INQUIRY(&rig, 1, 0xB2, 8);
		must_eq(rig.buffer[5], how ? 0 : 0xE4);
		must_eq(rig.buffer[6], how ? 0 : 0x02);
		RUN(&rig, 32, true, 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
		must_eq(rig.buffer[14], how ? 0 : 0xC0);
	}
	rig.disk.read_only = false;
	rig.disk.info.flags = 0;
	INQUIRY(&rig, 1, 0xB2, 8);
	must_eq(rig.buffer[5], 0xE0);
	RUN(&rig, 32, true, 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
	must_eq(rig.buffer[14], 0x80);
}
END_TEST

START_TEST(scsi_inquiry__threshold_exponent_fits_the_capacity)
{
	static const struct {
		uint64_t sectors;
		uint8_t exponent;
	} cases[] = { { 1, 1 },
		      { UINT64_C(1) << 32, 1 },
		      { UINT64_C(1) << 33, 2 },
		      { (UINT64_C(1) << 33) - 1, 1 },
		      { UINT64_C(1) << 53, 22 } };
	uint32_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig.disk.bytes = cases[i].sectors << 9;
		INQUIRY(&rig, 1, 0xB2, 8);
		must_eq(rig.buffer[4], cases[i].exponent);
	}
}
END_TEST

START_TEST(scsi_inquiry__character_page_tells_whether_it_rotates)
{
	INQUIRY(&rig, 1, 0xB1, 64);
	GOOD(&rig, 64);
	must_eq(rig_be(&rig, 4, 2), 1);
	must_eq(rig_be(&rig, 8, 8), 0);
	rig.disk.info.flags |= VMBUS_STORE_ROTATES;
	INQUIRY(&rig, 1, 0xB1, 64);
	must_eq(rig_be(&rig, 4, 2), 0);
}
END_TEST

/* ---- capacity ---- */

/* [STOR-CAPACITY] */
START_TEST(scsi_read_capacity__tells_last_sector_and_size)
{
	static const uint64_t sectors[] = { 1,
					    4096,
					    0xFFFFFFFF,
					    UINT64_C(0x100000000),
					    UINT64_C(0x100000001),
					    VMBUS_STORE_BYTES_MAX >> 12 };
	uint32_t i, shift;

	for (shift = 9; shift <= 12; shift += 3)
		for (i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
			const uint64_t last = sectors[i] - 1;

			vmbus_test_at("%llu sectors", (unsigned long long)sectors[i]);
			rig.disk.sector_shift = shift;
			rig.disk.bytes = sectors[i] << shift;
			RUN(&rig, 8, true, 0x25);
			GOOD(&rig, 8);
			must_eq(rig_be(&rig, 0, 4), last < 0xFFFFFFFF ? last : 0xFFFFFFFF);
			must_eq(rig_be(&rig, 4, 4), 1u << shift);
			RUN(&rig, 32, true, 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32);
			GOOD(&rig, 32);
			must_eq(rig_be(&rig, 0, 8), last);
			must_eq(rig_be(&rig, 8, 4), 1u << shift);
			must_eq(rig.buffer[12], 0);
			must_eq(rig_be(&rig, 16, 8), 0);
			must_eq(rig_be(&rig, 24, 8), 0);
		}
}
END_TEST

START_TEST(scsi_read_capacity__tells_physical_blocks_up_to_a_page)
{
	static const struct {
		uint32_t shift, block;
		uint8_t exponent;
	} cases[] = { { 9, 0, 0 },     { 9, 512, 0 },	{ 9, 1024, 1 },	  { 9, 4096, 3 },
		      { 9, 65536, 3 }, { 12, 4096, 0 }, { 12, 65536, 0 }, { 12, 512, 0 } };
	uint32_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		rig.disk.sector_shift = cases[i].shift;
		rig.disk.info.block_bytes = cases[i].block;
		RUN(&rig, 32, true, 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32);
		must_eq(rig.buffer[13], cases[i].exponent);
	}
}
END_TEST

static void too_short(void)
{
	must_eq(rig.task.scsi_status, 0x02);
	must_eq(rig.task.srb_status, 0x92);
	must_eq(rig.task.status, 0x80000005u);
	must_eq(rig.task.sense[2], 5);
	must_eq(rig.task.sense[12], 0x24);
	must_eq(rig.task.moved, 0);
}

START_TEST(scsi_read_capacity__refuses_a_buffer_that_is_too_short)
{
	uint32_t n;

	for (n = 0; n < 8; n++) {
		RUN(&rig, n, true, 0x25);
		too_short();
	}
	RUN(&rig, 31, true, 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32);
	too_short();
	for (n = 0; n <= 40; n++) { /* as many as the command asks for */
		RUN(&rig, n, true, 0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (uint8_t)n);
		GOOD(&rig, n < 32 ? n : 32);
	}
	RUN(&rig, 24, true, 0x9E, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24); /* GET LBA STATUS */
	ILLEGAL(&rig, 0x2000);
}
END_TEST

/* ---- disks of a target ---- */

/* [STOR-LUNS] */
START_TEST(scsi_report_luns__lists_the_targets_disks)
{
	uint32_t i;

	rig.luns = 256;
	RUN(&rig, 4096, true, 0xA0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0);
	GOOD(&rig, 8 + 8 * 256);
	must_eq(rig_be(&rig, 0, 4), 8 * 256);
	for (i = 0; i < 256; i++)
		must_eq(rig_be(&rig, 8 + 8 * i, 8), (uint64_t)i << 48);
	/* The list's length stays what it is when it is cut. */
	memset(rig.buffer, 0xEE, 64);
	RUN(&rig, 24, true, 0xA0, 0, 2, 0, 0, 0, 0, 0, 0, 24, 0, 0);
	GOOD(&rig, 24);
	must_eq(rig_be(&rig, 0, 4), 8 * 256);
	must_eq(rig.buffer[24], 0xEE);
	RUN(&rig, 16, true, 0xA0, 0, 1, 0, 0, 0, 0, 0, 0, 16, 0, 0);
	GOOD(&rig, 8);
	must_eq(rig_be(&rig, 0, 4), 0);
	RUN(&rig, 16, true, 0xA0, 0, 3, 0, 0, 0, 0, 0, 0, 16, 0, 0);
	ILLEGAL(&rig, 0x2400);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "inquiry", 20);

	tcase_add_checked_fixture(tc, up, down);
	tcase_add_test(tc, scsi_inquiry__tells_what_linux_reads);
	tcase_add_test(tc, scsi_inquiry__gives_as_much_as_is_wanted);
	tcase_add_test(tc, scsi_inquiry__refuses_what_does_not_exist);
	tcase_add_test(tc, scsi_inquiry__pages_are_as_long_as_their_heads_say);
	tcase_add_test(tc, scsi_inquiry__serial_page_is_left_out_without_a_serial);
	tcase_add_test(tc, scsi_inquiry__identity_page_has_both_designators);
	tcase_add_test(tc, scsi_inquiry__limits_page_lets_guests_make_large_requests);
	tcase_add_test(tc, scsi_inquiry__discard_is_told_only_where_there_is_one);
	tcase_add_test(tc, scsi_inquiry__threshold_exponent_fits_the_capacity);
	tcase_add_test(tc, scsi_inquiry__character_page_tells_whether_it_rotates);
	tcase_add_test(tc, scsi_read_capacity__tells_last_sector_and_size);
	tcase_add_test(tc, scsi_read_capacity__tells_physical_blocks_up_to_a_page);
	tcase_add_test(tc, scsi_read_capacity__refuses_a_buffer_that_is_too_short);
	tcase_add_test(tc, scsi_report_luns__lists_the_targets_disks);
}

VMBUS_TEST_MAIN("block.scsi_inquiry", tests)
