/* SPDX-License-Identifier: MIT */
/* The mode of a SCSI disk. */
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

#define SENSE6(rig, page, sub, alloc) RUN(rig, alloc, true, 0x1A, 0, (uint8_t)(page), sub, alloc, 0)
#define SENSE10(rig, page, sub, alloc)                                                             \
	RUN(rig, alloc, true, 0x5A, 0, (uint8_t)(page), sub, 0, 0, 0, 0, alloc, 0)

/* [STOR-MODE] */
START_TEST(scsi_mode_sense__has_the_caching_page)
{
	static const uint8_t six[16] = { 15, 0, 0x10, 0, 0x08, 0x0A, 0x04 };
	static const uint8_t ten[20] = { 0, 18, 0, 0x10, 0, 0, 0, 0, 0x08, 0x0A, 0x04 };

	SENSE6(&rig, 0x08, 0, 255);
	GOOD(&rig, 16);
	must(memcmp(rig.buffer, six, sizeof(six)) == 0);
	SENSE10(&rig, 0x08, 0, 255);
	GOOD(&rig, 20);
	must(memcmp(rig.buffer, ten, sizeof(ten)) == 0);
	SENSE6(&rig, 0x88, 0, 255); /* default values */
	must(memcmp(rig.buffer, six, sizeof(six)) == 0);
}
END_TEST

/* Nothing is lost by a write cache that there is not. */
START_TEST(scsi_mode_sense__cache_is_told_as_it_is)
{
	SENSE6(&rig, 0x08, 0, 255);
	must_eq(rig.buffer[6], 0x04);
	rig.disk.write_through = true;
	SENSE6(&rig, 0x08, 0, 255);
	must_eq(rig.buffer[6], 0);
	rig.disk.write_through = false;
	rig.disk.info.flags = 0;
	SENSE6(&rig, 0x08, 0, 255);
	must_eq(rig.buffer[6], 0);
	rig.disk.info.flags = VMBUS_STORE_VOLATILE;
	rig.ops.flush = NULL;
	SENSE6(&rig, 0x08, 0, 255);
	must_eq(rig.buffer[6], 0);
}
END_TEST

/* Linux learns the write protection from these four bytes. */
START_TEST(scsi_mode_sense__all_pages_tell_write_protection)
{
	SENSE6(&rig, 0x3F, 0, 4);
	GOOD(&rig, 4);
	must_eq(rig.buffer[2], 0x10);
	rig.disk.read_only = true;
	SENSE6(&rig, 0x3F, 0, 4);
	must_eq(rig.buffer[2], 0x90);
	SENSE10(&rig, 0x3F, 0, 8);
	must_eq(rig.buffer[3], 0x90);
	rig.disk.read_only = false;
	rig.disk.info.flags |= VMBUS_STORE_READ_ONLY;
	SENSE6(&rig, 0x3F, 0, 4);
	must_eq(rig.buffer[2], 0x90);
}
END_TEST

START_TEST(scsi_mode_sense__all_pages_are_caching_and_control)
{
	static const uint8_t want[28] = { 27, 0, 0x10, 0, 0x08, 0x0A, 0x04, 0,	  0, 0,
					  0,  0, 0,    0, 0,	0,    0x0A, 0x0A, 0, 0x10 };

	SENSE6(&rig, 0x3F, 0, 255);
	GOOD(&rig, 28);
	must(memcmp(rig.buffer, want, sizeof(want)) == 0);
	SENSE6(&rig, 0x3F, 0xFF, 255);
	GOOD(&rig, 28);
	SENSE10(&rig, 0x3F, 0, 255);
	GOOD(&rig, 32);
	must_eq(rig_be(&rig, 0, 2), 30);
	must(memcmp(rig.buffer + 8, want + 4, 24) == 0);
	SENSE6(&rig, 0x0A, 0, 255);
	GOOD(&rig, 16);
	must(memcmp(rig.buffer + 4, want + 16, 12) == 0);
}
END_TEST

START_TEST(scsi_mode_sense__nothing_can_be_changed_or_saved)
{
	uint32_t i;

	SENSE6(&rig, 0x7F, 0, 255);
	GOOD(&rig, 28);
	must_eq(rig_be(&rig, 4, 2), 0x080A);
	must_eq(rig_be(&rig, 16, 2), 0x0A0A);
	for (i = 6; i < 28; i++)
		must(i == 16 || i == 17 || rig.buffer[i] == 0);
	SENSE6(&rig, 0xC8, 0, 255);
	ILLEGAL(&rig, 0x3900);
	SENSE10(&rig, 0xFF, 0, 255);
	ILLEGAL(&rig, 0x3900);
}
END_TEST

START_TEST(scsi_mode_sense__refuses_other_pages)
{
	uint32_t page;

	for (page = 0; page < 0x3F; page++) {
		if (page == 0x08 || page == 0x0A)
			continue;
		SENSE6(&rig, page, 0, 255);
		ILLEGAL(&rig, 0x2400);
		SENSE10(&rig, page, 0, 255);
		ILLEGAL(&rig, 0x2400);
	}
	SENSE6(&rig, 0x08, 1, 255);
	ILLEGAL(&rig, 0x2400);
	SENSE6(&rig, 0x08, 0xFF, 255);
	ILLEGAL(&rig, 0x2400);
	SENSE10(&rig, 0x0A, 5, 255); /* newer Linux asks for this one */
	ILLEGAL(&rig, 0x2400);
	SENSE6(&rig, 0x3F, 1, 255);
	ILLEGAL(&rig, 0x2400);
}
END_TEST

static const uint8_t caching[12] = { 0x08, 0x0A, 0x04 };
static const uint8_t control[12] = { 0x0A, 0x0A, 0x00, 0x10 };

/* A list with a head of 4 bytes that ends with len bytes of pages, given to MODE SELECT(6). */
static void select6(const uint8_t *pages, uint32_t len)
{
	memset(rig.buffer, 0, 64);
	if (len)
		memcpy(rig.buffer + 4, pages, len);
	RUN(&rig, 4 + len, false, 0x15, 0x10, 0, 0, (uint8_t)(4 + len), 0);
}

START_TEST(scsi_mode_select__accepts_what_changes_nothing)
{
	uint8_t both[24];

	memcpy(both, control, 12);
	memcpy(both + 12, caching, 12);
	select6(caching, 12);
	GOOD(&rig, 16);
	select6(both, 24);
	GOOD(&rig, 28);
	select6(NULL, 0);
	GOOD(&rig, 4);
	RUN(&rig, 0, false, 0x15, 0x10, 0, 0, 0, 0);
	GOOD(&rig, 0);
	memset(rig.buffer, 0, 8);
	memcpy(rig.buffer + 8, caching, 12);
	RUN(&rig, 20, false, 0x55, 0x10, 0, 0, 0, 0, 0, 0, 20, 0);
	GOOD(&rig, 20);
}
END_TEST

START_TEST(scsi_mode_select__refuses_to_change_each_byte)
{
	uint8_t page[12];
	uint32_t i;

	for (i = 1; i < 12; i++) {
		vmbus_test_at("byte %u", i);
		memcpy(page, caching, 12);
		page[i] ^= 0x04;
		select6(page, 12);
		ILLEGAL(&rig, 0x2600);
		memcpy(page, control, 12);
		page[i] ^= 0x08;
		select6(page, 12);
		ILLEGAL(&rig, 0x2600);
	}
	page[0] = 0x1C;
	select6(page, 12);
	ILLEGAL(&rig, 0x2600);
}
END_TEST

START_TEST(scsi_mode_select__refuses_lists_that_are_cut)
{
	uint32_t n;

	for (n = 1; n < 12; n++) {
		vmbus_test_at("%u bytes of a page", n);
		select6(caching, n);
		ILLEGAL(&rig, 0x1A00);
	}
	for (n = 1; n < 4; n++) {
		RUN(&rig, n, false, 0x15, 0x10, 0, 0, (uint8_t)n, 0);
		ILLEGAL(&rig, 0x1A00);
	}
	for (n = 1; n < 8; n++) {
		RUN(&rig, n, false, 0x55, 0x10, 0, 0, 0, 0, 0, 0, (uint8_t)n, 0);
		ILLEGAL(&rig, 0x1A00);
	}
	RUN(&rig, 16, false, 0x15, 0x10, 0, 0, 17, 0); /* the buffer ends before the list */
	ILLEGAL(&rig, 0x2400);
	memset(rig.buffer, 0, 64); /* nor is what the range has behind the transfer */
	rig_buffer(&rig, 4, false);
	rig.pieces[0].len = 64;
	rig.sgl.bytes = 64;
	rig_run(&rig, (const uint8_t[]){ 0x15, 0x10, 0, 0, 5, 0 }, 6);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 255, false, 0x15, 0x10, 0, 0, 255, 0); /* longer than any that we know */
	ILLEGAL(&rig, 0x1A00);
}
END_TEST

START_TEST(scsi_mode_select__refuses_descriptors_saving_and_old_forms)
{
	memset(rig.buffer, 0, 64);
	rig.buffer[3] = 12;
	memcpy(rig.buffer + 4, caching, 12); /* what looks like a page is none */
	RUN(&rig, 16, false, 0x15, 0x10, 0, 0, 16, 0);
	ILLEGAL(&rig, 0x2600);
	memset(rig.buffer, 0, 64);
	rig.buffer[7] = 8;
	RUN(&rig, 16, false, 0x55, 0x10, 0, 0, 0, 0, 0, 0, 16, 0);
	ILLEGAL(&rig, 0x2600);
	RUN(&rig, 4, false, 0x15, 0x11, 0, 0, 4, 0);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 4, false, 0x15, 0x00, 0, 0, 4, 0);
	ILLEGAL(&rig, 0x2400);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "mode", 20);

	tcase_add_checked_fixture(tc, up, down);
	tcase_add_test(tc, scsi_mode_sense__has_the_caching_page);
	tcase_add_test(tc, scsi_mode_sense__cache_is_told_as_it_is);
	tcase_add_test(tc, scsi_mode_sense__all_pages_tell_write_protection);
	tcase_add_test(tc, scsi_mode_sense__all_pages_are_caching_and_control);
	tcase_add_test(tc, scsi_mode_sense__nothing_can_be_changed_or_saved);
	tcase_add_test(tc, scsi_mode_sense__refuses_other_pages);
	tcase_add_test(tc, scsi_mode_select__accepts_what_changes_nothing);
	tcase_add_test(tc, scsi_mode_select__refuses_to_change_each_byte);
	tcase_add_test(tc, scsi_mode_select__refuses_lists_that_are_cut);
	tcase_add_test(tc, scsi_mode_select__refuses_descriptors_saving_and_old_forms);
}

VMBUS_TEST_MAIN("block.scsi_mode", tests)
