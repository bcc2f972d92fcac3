/* SPDX-License-Identifier: MIT */
/* The SCSI disk: which commands there are, which way their data goes, how they end. */
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

/* [STOR-CDB]: opcodes that a disk has, and what each does with the buffer of an otherwise empty command. */
static const struct {
	uint8_t op, access;
} known[] = {
	{ 0x00, 0 },	       { 0x03, VMBUS_WRITE }, { 0x04, 0 },	     { 0x08, VMBUS_WRITE },
	{ 0x0A, VMBUS_READ },  { 0x12, VMBUS_WRITE }, { 0x15, VMBUS_READ },  { 0x1A, VMBUS_WRITE },
	{ 0x1B, 0 },	       { 0x1D, 0 },	      { 0x1E, 0 },	     { 0x25, VMBUS_WRITE },
	{ 0x28, VMBUS_WRITE }, { 0x2A, VMBUS_READ },  { 0x2E, VMBUS_READ },  { 0x2F, 0 },
	{ 0x34, 0 },	       { 0x35, 0 },	      { 0x41, VMBUS_READ },  { 0x42, VMBUS_READ },
	{ 0x55, VMBUS_READ },  { 0x5A, VMBUS_WRITE }, { 0x88, VMBUS_WRITE }, { 0x8A, VMBUS_READ },
	{ 0x8E, VMBUS_READ },  { 0x8F, 0 },	      { 0x90, 0 },	     { 0x91, 0 },
	{ 0x93, VMBUS_READ },  { 0x9E, VMBUS_WRITE }, { 0xA0, VMBUS_WRITE }, { 0xA8, VMBUS_WRITE },
	{ 0xAA, VMBUS_READ },  { 0xAE, VMBUS_READ },  { 0xAF, 0 },
};
#define KNOWN (sizeof(known) / sizeof(known[0]))

START_TEST(scsi_access__follows_the_opcode)
{
	uint32_t op, i;

	for (op = 0; op < 256; op++) {
		const uint8_t cdb[VMBUS__CDB_BYTES] = { (uint8_t)op };

		vmbus_test_at("opcode %02x", op);
		for (i = 0; i < KNOWN && known[i].op != op; i++)
			;
		must_eq(vmbus__scsi_access(cdb), i < KNOWN ? known[i].access : 0);
	}
}
END_TEST

START_TEST(scsi_access__follows_bits_that_take_the_buffer_away)
{
	static const uint8_t verify[] = { 0x2F, 0xAF, 0x8F };
	uint32_t i;

	for (i = 0; i < sizeof(verify); i++) {
		must_eq(vmbus__scsi_access((const uint8_t[16]){ verify[i], 0x00 }), 0);
		must_eq(vmbus__scsi_access((const uint8_t[16]){ verify[i], 0x02 }), VMBUS_READ);
		must_eq(vmbus__scsi_access((const uint8_t[16]){ verify[i], 0x04 }), VMBUS_READ);
		must_eq(vmbus__scsi_access((const uint8_t[16]){ verify[i], 0x06 }), VMBUS_READ);
	}
	must_eq(vmbus__scsi_access((const uint8_t[16]){ 0x93, 0x00 }), VMBUS_READ);
	must_eq(vmbus__scsi_access((const uint8_t[16]){ 0x93, 0x01 }), 0);
}
END_TEST

START_TEST(scsi_start__refuses_opcodes_that_a_disk_has_not)
{
	uint32_t op, i, refused = 0;

	for (op = 0; op < 256; op++) {
		const uint8_t cdb[VMBUS__CDB_BYTES] = { (uint8_t)op };

		vmbus_test_at("opcode %02x", op);
		for (i = 0; i < KNOWN && known[i].op != op; i++)
			;
		rig_buffer(&rig, 0, false);
		rig_run(&rig, cdb, sizeof(cdb));
		if (i < KNOWN && op != 0x9E) { /* whose service action 0 is none */
			must(rig.task.sense_len == 0 || rig.task.sense[12] != 0x20);
			continue;
		}
		ILLEGAL(&rig, 0x2000);
		must_eq(rig.asked, 0);
		refused++;
	}
	must_eq(refused, 256 - KNOWN + 1);
}
END_TEST

/* Old and persistent reservations would promise what is not kept: several guests share a disk. */
START_TEST(scsi_start__refuses_reservations)
{
	RUN(&rig, 0, false, 0x16);
	ILLEGAL(&rig, 0x2000);
	RUN(&rig, 0, false, 0x17);
	ILLEGAL(&rig, 0x2000);
	RUN(&rig, 8, true, 0x5E, 0, 0, 0, 0, 0, 0, 0, 8, 0);
	ILLEGAL(&rig, 0x2000);
	RUN(&rig, 24, false, 0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0);
	ILLEGAL(&rig, 0x2000);
}
END_TEST

START_TEST(scsi_start__refuses_a_direction_against_the_opcode)
{
	RUN(&rig, 512, false, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 512, true, 0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	ILLEGAL(&rig, 0x2400);
	must_eq(rig.asked, 0);
	/* Without data it counts for nothing. */
	RUN(&rig, 0, false, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	GOOD(&rig, 0);
	RUN(&rig, 512, true, 0x00);
	GOOD(&rig, 0);
}
END_TEST

/* The control byte is the last one of each form. */
START_TEST(scsi_start__refuses_naca)
{
	RUN(&rig, 0, true, 0x00, 0, 0, 0, 0, 0x04);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 0, true, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0x04);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 0, true, 0xA8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x04);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 0, true, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x04);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 0, true, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0, 0);
	GOOD(&rig, 0);
}
END_TEST

START_TEST(scsi_start__answers_what_there_is_nothing_to_do_for)
{
	RUN(&rig, 0, true, 0x00);
	GOOD(&rig, 0);
	RUN(&rig, 0, true, 0x1E, 0, 0, 0, 1, 0);
	GOOD(&rig, 0);
	RUN(&rig, 0, true, 0x04);
	GOOD(&rig, 0);
	RUN(&rig, 0, true, 0x04, 0x10);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 0, true, 0x1D);
	GOOD(&rig, 0);
	RUN(&rig, 0, true, 0x1D, 0x04);
	GOOD(&rig, 0);
	RUN(&rig, 0, true, 0x1D, 0x20);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 0, true, 0x1D, 0, 0, 0, 1);
	ILLEGAL(&rig, 0x2400);
	must_eq(rig.asked, 0);
}
END_TEST

static const uint8_t writers[][16] = {
	{ 0x04 },
	{ 0x0A, 0, 0, 0, 1 },
	{ 0x2A, 0, 0, 0, 0, 0, 0, 0, 1 },
	{ 0x2E, 0, 0, 0, 0, 0, 0, 0, 1 },
	{ 0x41, 0, 0, 0, 0, 0, 0, 0, 1 },
	{ 0x42, 0, 0, 0, 0, 0, 0, 0, 24 },
	{ 0x8A, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 },
	{ 0x8E, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 },
	{ 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 },
	{ 0xAA, 0, 0, 0, 0, 0, 0, 0, 0, 1 },
	{ 0xAE, 0, 0, 0, 0, 0, 0, 0, 0, 1 },
};

START_TEST(scsi_start__refuses_writes_to_a_read_only_disk)
{
	uint32_t i, how;

	for (how = 0; how < 2; how++) {
		rig.disk.read_only = how == 0;
		rig.disk.info.flags = how ? VMBUS_STORE_READ_ONLY : 0;
		for (i = 0; i < sizeof(writers) / sizeof(writers[0]); i++) {
			vmbus_test_at("opcode %02x", writers[i][0]);
			rig_buffer(&rig, 512, false);
			rig_run(&rig, writers[i], 16);
			CHECK(&rig, 0x84, 7, 0x2700);
			must_eq(rig.asked, 0);
		}
		RUN(&rig, 512, true, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
		GOOD(&rig, 512);
	}
}
END_TEST

/* ---- unit attentions ---- */

START_TEST(scsi_attention__is_told_once)
{
	rig.ua = VMBUS__UA_CAPACITY | VMBUS__UA_LIMITS;
	RUN(&rig, 512, true, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	CHECK(&rig, 0x84, 6, 0x2A09);
	must_eq(rig.ua, VMBUS__UA_LIMITS);
	must_eq(rig.task.kind, VMBUS__SCSI_OTHER);
	must_eq(rig.asked, 0);
	RUN(&rig, 0, true, 0x00);
	CHECK(&rig, 0x84, 6, 0x3F01);
	must_eq(rig.ua, 0);
	RUN(&rig, 0, true, 0x00);
	GOOD(&rig, 0);
}
END_TEST

/* Linux does not look at errors of INQUIRY and MODE SENSE: there it would be lost. */
START_TEST(scsi_attention__waits_for_a_command_that_can_tell_it)
{
	rig.ua = VMBUS__UA_CAPACITY;
	RUN(&rig, 36, true, 0x12, 0, 0, 0, 36, 0);
	GOOD(&rig, 36);
	RUN(&rig, 4, true, 0x1A, 0, 0x3F, 0, 4, 0);
	GOOD(&rig, 4);
	RUN(&rig, 8, true, 0x5A, 0, 0x3F, 0, 0, 0, 0, 0, 8, 0);
	GOOD(&rig, 8);
	rig.luns = 1;
	RUN(&rig, 16, true, 0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0);
	GOOD(&rig, 16);
	must_eq(rig.ua, VMBUS__UA_CAPACITY);
	RUN(&rig, 0, true, 0xFF); /* also one that is not known tells it */
	CHECK(&rig, 0x84, 6, 0x2A09);
	RUN(&rig, 0, true, 0xFF);
	ILLEGAL(&rig, 0x2000);
}
END_TEST

START_TEST(scsi_request_sense__gives_the_attention_as_data)
{
	static const uint8_t fixed[18] = { 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2A, 9 };
	static const uint8_t none[18] = { 0x70, 0, 0, 0, 0, 0, 0, 10 };
	static const uint8_t described[8] = { 0x72, 6, 0x3F, 1 };

	rig.ua = VMBUS__UA_CAPACITY;
	RUN(&rig, 96, true, 0x03, 0, 0, 0, 96, 0);
	GOOD(&rig, 18);
	must(memcmp(rig.buffer, fixed, 18) == 0);
	must_eq(rig.ua, 0);
	RUN(&rig, 96, true, 0x03, 0, 0, 0, 96, 0);
	GOOD(&rig, 18);
	must(memcmp(rig.buffer, none, 18) == 0);
	rig.ua = VMBUS__UA_LIMITS;
	RUN(&rig, 96, true, 0x03, 1, 0, 0, 96, 0);
	GOOD(&rig, 8);
	must(memcmp(rig.buffer, described, 8) == 0);
}
END_TEST

/* ---- no disk at this address ---- */

/* [STOR-ABSENT] */
START_TEST(scsi_start__absent_inquiry_is_good_so_that_linux_sees_no_phantom)
{
	uint32_t i;

	rig.disk.store.ops = NULL;
	memset(rig.buffer, 0xEE, 200);
	RUN(&rig, 104, true, 0x12, 0, 0, 0, 104, 0);
	GOOD(&rig, 104);
	must_eq(rig.buffer[0], 0x7F);
	must_eq(rig.buffer[2], 5);
	must_eq(rig.buffer[3], 2);
	must_eq(rig.buffer[4], 99);
	must(memcmp(rig.buffer + 8, "Msft    Virtual Disk    1.0 ", 28) == 0);
	for (i = 36; i < 104; i++)
		must_eq(rig.buffer[i], 0);
	rig.task.lun = 1;
	RUN(&rig, 36, true, 0x12, 0, 0, 0, 36, 0);
	GOOD(&rig, 36);
	must_eq(rig.buffer[0], 0x7F);
	for (i = 5; i < 36; i++)
		must_eq(rig.buffer[i], 0);
}
END_TEST

START_TEST(scsi_start__absent_ends_everything_else)
{
	uint32_t op;

	rig.disk.store.ops = NULL;
	RUN(&rig, 36, true, 0x12, 1, 0, 0, 36, 0);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 36, true, 0x12, 0, 0x80, 0, 36, 0);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 4096, true, 0xA0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0);
	GOOD(&rig, 8);
	must_eq(rig_be(&rig, 0, 8), 0);
	for (op = 0; op < 256; op++) {
		const uint8_t cdb[1] = { (uint8_t)op };

		if (op == 0x12 || op == 0xA0)
			continue;
		vmbus_test_at("opcode %02x", op);
		rig_buffer(&rig, 512, true);
		rig_run(&rig, cdb, 1);
		must_eq(rig.task.scsi_status, 0x02);
		must_eq(rig.task.srb_status, 0x20);
		must_eq(rig.task.status, 0xC00000C0u);
		must_eq(rig.task.sense_len, 0);
		must_eq(rig.task.moved, 0);
		must_eq(rig.task.kind, VMBUS__SCSI_OTHER);
	}
}
END_TEST

/* ---- ends without the disk ---- */

START_TEST(scsi_refuse__says_busy_or_full)
{
	RUN(&rig, 0, true, 0xFF);
	rig.done = 0;
	vmbus__scsi_refuse(&rig.task, false);
	must_eq(rig.task.scsi_status, 0x08);
	must_eq(rig.task.srb_status, 0x05);
	must_eq(rig.task.status, 0x80000011u);
	must_eq(rig.task.sense_len, 0);
	vmbus__scsi_refuse(&rig.task, true);
	must_eq(rig.task.scsi_status, 0x28);
	must_eq(rig.task.srb_status, 0x05);
	must_eq(rig.task.status, 0x80000011u);
	vmbus__scsi_bad_buffer(&rig.task);
	ILLEGAL(&rig, 0x2400);
	must_eq(rig.done, 0);
}
END_TEST

/* A command of several requests, whose queue gets no more of them while the first is under way. */
START_TEST(scsi_run__asks_no_more_of_a_queue_that_is_over)
{
	static const struct {
		uint8_t cdb[10];
		uint32_t bytes; /* of the buffer */
	} all[] = {
		{ { 0x2A, 0x08, [8] = 8 }, 4096 }, /* WRITE with FUA: then a flush */
		{ { 0x28, 0x08, [8] = 8 }, 4096 }, /* READ with FUA: a flush before it */
		{ { 0x2E, [8] = 8 }, 4096 },	   /* WRITE AND VERIFY */
		{ { 0x2F, [8] = 200 }, 0 },	   /* VERIFY in pieces */
	};
	uint32_t i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		rig.keep = true;
		rig.over = false;
		rig_buffer(&rig, all[i].bytes, all[i].cdb[0] == 0x28);
		rig_begin(&rig, all[i].cdb, sizeof(all[i].cdb));
		must_eq(rig.asked, 1);
		rig.over = true;
		must(rig_let_go(&rig));
		must_eq(rig.asked, 1);
		must_eq(rig.done, 1);
		must_eq(rig.task.scsi_status, 2);
		must_eq(rig.scratches, 0);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "scsi", 20);

	tcase_add_checked_fixture(tc, up, down);
	tcase_add_test(tc, scsi_access__follows_the_opcode);
	tcase_add_test(tc, scsi_access__follows_bits_that_take_the_buffer_away);
	tcase_add_test(tc, scsi_start__refuses_opcodes_that_a_disk_has_not);
	tcase_add_test(tc, scsi_start__refuses_reservations);
	tcase_add_test(tc, scsi_start__refuses_a_direction_against_the_opcode);
	tcase_add_test(tc, scsi_start__refuses_naca);
	tcase_add_test(tc, scsi_start__answers_what_there_is_nothing_to_do_for);
	tcase_add_test(tc, scsi_start__refuses_writes_to_a_read_only_disk);
	tcase_add_test(tc, scsi_attention__is_told_once);
	tcase_add_test(tc, scsi_attention__waits_for_a_command_that_can_tell_it);
	tcase_add_test(tc, scsi_request_sense__gives_the_attention_as_data);
	tcase_add_test(tc, scsi_start__absent_inquiry_is_good_so_that_linux_sees_no_phantom);
	tcase_add_test(tc, scsi_start__absent_ends_everything_else);
	tcase_add_test(tc, scsi_refuse__says_busy_or_full);
	tcase_add_test(tc, scsi_run__asks_no_more_of_a_queue_that_is_over);
}

VMBUS_TEST_MAIN("block.scsi", tests)
