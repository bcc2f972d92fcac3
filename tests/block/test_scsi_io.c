/* SPDX-License-Identifier: MIT */
/* The SCSI commands that move sectors, verify them, and flush. */
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

static uint8_t pattern(uint64_t i, uint32_t seed)
{
	return (uint8_t)(i * 2654435761u >> 13 ^ i ^ seed);
}

static void fill(uint8_t *p, uint64_t bytes, uint32_t seed)
{
	uint64_t i;

	for (i = 0; i < bytes; i++)
		p[i] = pattern(i, seed);
}

/* One form of a command: its opcode, and how its command block tells the range. */
struct form {
	uint8_t op;
	uint32_t bytes;
};

static const struct form reads[] = { { 0x08, 6 }, { 0x28, 10 }, { 0xA8, 12 }, { 0x88, 16 } };
static const struct form writes[] = { { 0x0A, 6 }, { 0x2A, 10 }, { 0xAA, 12 }, { 0x8A, 16 } };
static const struct form verifies[] = { { 0x2F, 10 }, { 0xAF, 12 }, { 0x8F, 16 } };
static const struct form write_verifies[] = { { 0x2E, 10 }, { 0xAE, 12 }, { 0x8E, 16 } };

static void put(uint8_t *p, uint32_t bytes, uint64_t v)
{
	while (bytes) {
		p[--bytes] = (uint8_t)v;
		v >>= 8;
	}
}

static const uint8_t *cdb_of(const struct form *form, uint8_t flags, uint64_t lba, uint64_t sectors)
{
	static uint8_t cdb[16];

	memset(cdb, 0, sizeof(cdb));
	cdb[0] = form->op;
	switch (form->bytes) {
	case 6:
		put(cdb + 1, 3, lba);
		cdb[4] = (uint8_t)sectors;
		return cdb;
	case 10:
		put(cdb + 2, 4, lba);
		put(cdb + 7, 2, sectors);
		break;
	case 12:
		put(cdb + 2, 4, lba);
		put(cdb + 6, 4, sectors);
		break;
	default:
		put(cdb + 2, 8, lba);
		put(cdb + 10, 4, sectors);
		break;
	}
	cdb[1] = flags;
	return cdb;
}

/* Run a form with a buffer of bytes. */
static void run(const struct form *form, uint8_t flags, uint64_t lba, uint64_t sectors,
		uint32_t bytes, bool in)
{
	rig_buffer(&rig, bytes, in);
	rig_run(&rig, cdb_of(form, flags, lba, sectors), form->bytes);
}

#define EACH(list, f)                                                                              \
	for (f = list; f < list + sizeof(list) / sizeof(list[0]); f++)                             \
		if (vmbus_test_at("opcode %02x", f->op), true)

START_TEST(scsi_read__each_form_reads_straight_into_the_buffer)
{
	const struct form *f;
	uint32_t keep, n;

	fill(rig.bytes, RIG_SECTORS * 512u, 7);
	for (keep = 0; keep < 2; keep++)
		EACH(reads, f)
		{
			rig.keep = keep;
			for (n = 1; n <= 33; n += 8) {
				memset(rig.buffer, 0, n * 512u);
				run(f, 0, 3 + n, n, n * 512u, true);
				GOOD(&rig, n * 512u);
				must_eq(rig.task.kind, VMBUS__SCSI_READ);
				must_eq(rig.asked, 1);
				ASKED(&rig, 0, 'r', (3u + n) * 512u, n * 512u, 0);
				must(memcmp(rig.buffer, rig.bytes + (3u + n) * 512u, n * 512u) ==
				     0);
			}
		}
}
END_TEST

START_TEST(scsi_write__each_form_writes_straight_from_the_buffer)
{
	const struct form *f;
	uint32_t keep, n;

	for (keep = 0; keep < 2; keep++)
		EACH(writes, f)
		{
			rig.keep = keep;
			for (n = 1; n <= 33; n += 8) {
				fill(rig.buffer, n * 512u, n + f->op);
				run(f, 0, 5 + n, n, n * 512u, false);
				GOOD(&rig, n * 512u);
				must_eq(rig.task.kind, VMBUS__SCSI_WRITE);
				must_eq(rig.asked, 1);
				ASKED(&rig, 0, 'w', (5u + n) * 512u, n * 512u, 0);
				must(memcmp(rig.buffer, rig.bytes + (5u + n) * 512u, n * 512u) ==
				     0);
			}
		}
}
END_TEST

START_TEST(scsi_read__six_byte_form_has_21_bits_and_0_is_256)
{
	RUN(&rig, 256 * 512, true, 0x08, 0xE0, 0, 7, 0, 0); /* 3 bits that are no address */
	GOOD(&rig, 256 * 512);
	ASKED(&rig, 0, 'r', 7 * 512, 256 * 512, 0);
	rig.disk.bytes = UINT64_C(1) << 40;
	rig.fail_at = 1;
	rig.fail = VMBUS_IO_GONE;
	RUN(&rig, 512, true, 0x08, 0x1F, 0xFF, 0xFF, 1, 0);
	ASKED(&rig, 0, 'r', 0x1FFFFF * 512u, 512, 0);
}
END_TEST

START_TEST(scsi_read__4096_byte_sectors)
{
	rig_close(&rig);
	rig_open(&rig, 12);
	fill(rig.bytes, RIG_SECTORS * 4096u, 9);
	RUN(&rig, 8192, true, 0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0);
	GOOD(&rig, 8192);
	ASKED(&rig, 0, 'r', 3 * 4096, 8192, 0);
	must(memcmp(rig.buffer, rig.bytes + 3 * 4096, 8192) == 0);
	RUN(&rig, 4096, true, 0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 4096, true, 0x28, 0, 0, 0, 0x10, 0, 0, 0, 1, 0);
	ILLEGAL(&rig, 0x2100);
}
END_TEST

/* No sum of these may wrap. */
START_TEST(scsi_range__ends_at_the_capacity)
{
	static const struct {
		uint64_t lba, sectors;
		bool good;
	} cases[] = {
		{ 0, 1, true },
		{ RIG_SECTORS - 1, 1, true },
		{ RIG_SECTORS, 1, false },
		{ RIG_SECTORS - 1, 2, false },
		{ 0xFFFFFFFF, 1, false },
		{ 0xFFFFFFFF, 0xFFFF, false },
		{ UINT64_MAX, 1, false },
		{ UINT64_MAX - 7, 8, false },
		{ UINT64_MAX, 0xFFFF, false },
		{ UINT64_C(1) << 55, 1, false },
		{ UINT64_C(1) << 63, 1, false },
	};
	const struct form *f;
	uint32_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		EACH(reads, f)
		{
			if (f->bytes < 16 && cases[i].lba > UINT32_MAX)
				continue;
			if (f->bytes == 6 && (cases[i].lba >= 0x200000 || cases[i].sectors > 256))
				continue;
			run(f, 0, cases[i].lba, cases[i].sectors, 512, true);
			if (cases[i].good)
				GOOD(&rig, 512);
			else
				ILLEGAL(&rig, 0x2100);
			must_eq(rig.asked, cases[i].good);
		}
	}
}
END_TEST

START_TEST(scsi_range__no_sectors_are_good_up_to_the_end)
{
	static const struct form none[] = { { 0x28, 10 }, { 0xA8, 12 }, { 0x88, 16 }, { 0x2A, 10 },
					    { 0xAA, 12 }, { 0x8A, 16 }, { 0x2E, 10 }, { 0xAE, 12 },
					    { 0x8E, 16 }, { 0x2F, 10 }, { 0xAF, 12 }, { 0x8F, 16 },
					    { 0x34, 10 }, { 0x90, 16 } };
	const struct form *f;

	EACH(none, f)
	{
		run(f, 0, RIG_SECTORS, 0, 0, false);
		GOOD(&rig, 0);
		must_eq(rig.asked, 0);
		run(f, 0, RIG_SECTORS + 1, 0, 0, false);
		ILLEGAL(&rig, 0x2100);
	}
}
END_TEST

START_TEST(scsi_range__the_buffer_must_hold_it)
{
	const struct form *f;

	EACH(reads, f)
	{
		run(f, 0, 0, 2, 1023, true);
		ILLEGAL(&rig, 0x2400);
		run(f, 0, 0, 2, 0, true);
		ILLEGAL(&rig, 0x2400);
	}
	EACH(writes, f)
	{
		run(f, 0, 0, 2, 1023, false);
		ILLEGAL(&rig, 0x2400);
	}
	EACH(write_verifies, f)
	{
		run(f, 0, 0, 2, 1023, false);
		ILLEGAL(&rig, 0x2400);
	}
	must_eq(rig.asked, 0);
}
END_TEST

/* What the guest gave too much of is left alone, wherever the end falls in its pieces. */
START_TEST(scsi_range__a_longer_buffer_is_used_in_part)
{
	uint32_t n;

	fill(rig.bytes, RIG_SECTORS * 512u, 3);
	for (n = 1; n <= 20; n++) {
		vmbus_test_at("%u sectors", n);
		memset(rig.buffer, 0xEE, 20 * 512u);
		run(&reads[1], 0, 0, n, 20 * 512u, true);
		GOOD(&rig, n * 512u);
		must(memcmp(rig.buffer, rig.bytes, n * 512u) == 0);
		must(n == 20 || rig.buffer[n * 512u] == 0xEE);
		must_eq(rig.log[0].iov_count, n * 512u <= 5000 ? 2 : 3);
	}
}
END_TEST

START_TEST(scsi_range__a_longer_buffer_ends_with_a_piece)
{
	const uint8_t *const cdb = cdb_of(&reads[1], 0, 0, 2);

	rig_buffer(&rig, 2048, true);
	rig.iov[0].iov_len = 512;
	rig.iov[1] = (struct iovec){ rig.buffer + 512, 512 };
	rig.iov[2] = (struct iovec){ rig.buffer + 1024, 1024 };
	rig.task.iov_count = 3;
	rig_run(&rig, cdb, 10);
	GOOD(&rig, 1024);
	must_eq(rig.log[0].iov_count, 2);
}
END_TEST

START_TEST(scsi_range__not_more_than_the_largest_transfer)
{
	const uint32_t max = RIG_BUFFER_BYTES / 512;

	run(&reads[1], 0, 0, max, RIG_BUFFER_BYTES, true);
	GOOD(&rig, RIG_BUFFER_BYTES);
	run(&reads[1], 0, 0, max + 1, RIG_BUFFER_BYTES, true);
	ILLEGAL(&rig, 0x2400);
	run(&verifies[2], 0, 0, max + 1, 0, false);
	ILLEGAL(&rig, 0x2400);
	run(&reads[3], 0, 0, 0xFFFFFFFF, RIG_BUFFER_BYTES, true);
	ILLEGAL(&rig, 0x2100);
}
END_TEST

/* There is no protection information, and no relative address. */
START_TEST(scsi_range__refuses_flags_that_mean_something_else)
{
	static const struct form all[] = { { 0x28, 10 }, { 0xA8, 12 }, { 0x88, 16 }, { 0x2A, 10 },
					   { 0xAA, 12 }, { 0x8A, 16 }, { 0x2E, 10 }, { 0xAE, 12 },
					   { 0x8E, 16 }, { 0x2F, 10 }, { 0xAF, 12 }, { 0x8F, 16 } };
	static const uint8_t bad[] = { 0x20, 0x40, 0x80, 0xE0, 0x01 };
	const struct form *f;
	uint32_t i;

	EACH(all, f)
	{
		for (i = 0; i < sizeof(bad); i++) {
			rig_buffer(&rig, 512,
				   vmbus__scsi_access(cdb_of(f, 0, 0, 1)) == VMBUS_WRITE);
			rig_run(&rig, cdb_of(f, bad[i], 0, 1), f->bytes);
			ILLEGAL(&rig, 0x2400);
		}
		rig_buffer(&rig, 512, vmbus__scsi_access(cdb_of(f, 0, 0, 1)) == VMBUS_WRITE);
		rig_run(&rig, cdb_of(f, 0x10, 0, 1), f->bytes); /* DPO */
		must_eq(rig.task.scsi_status, 0);
	}
	must_eq(rig.asked, 1);
}
END_TEST

/* ---- durable writes ---- */

START_TEST(scsi_write__fua_is_the_stores_or_a_flush_after_it)
{
	const struct form *f;
	uint32_t keep;

	for (keep = 0; keep < 2; keep++)
		EACH(writes, f)
		{
			if (f->bytes == 6)
				continue;
			rig.keep = keep;
			rig.disk.info.flags = VMBUS_STORE_VOLATILE;
			run(f, 0x08, 4, 2, 1024, false);
			GOOD(&rig, 1024);
			must_eq(rig.asked, 2);
			ASKED(&rig, 0, 'w', 2048, 1024, 0);
			ASKED(&rig, 1, 'f', 0, 0, 0);
			must_eq(rig.task.kind, VMBUS__SCSI_WRITE);
			rig.disk.info.flags = VMBUS_STORE_VOLATILE | VMBUS_STORE_FUA;
			run(f, 0x08, 4, 2, 1024, false);
			GOOD(&rig, 1024);
			must_eq(rig.asked, 1);
			ASKED(&rig, 0, 'w', 2048, 1024, VMBUS_IO_FUA);
			rig.disk.info.flags = 0; /* what is written is durable */
			run(f, 0x08, 4, 2, 1024, false);
			GOOD(&rig, 1024);
			must_eq(rig.asked, 1);
			ASKED(&rig, 0, 'w', 2048, 1024, 0);
		}
}
END_TEST

/* Without a flush the guest is told of no cache: each write is durable, by FUA if there is one. */
START_TEST(scsi_write__uses_fua_where_there_is_no_flush)
{
	struct vmbus_store_ops ops = *rig.disk.store.ops;
	uint32_t fua;

	ops.flush = NULL;
	rig.disk.store.ops = &ops;
	for (fua = 0; fua < 2; fua++) {
		rig.disk.info.flags = VMBUS_STORE_FUA;
		run(&writes[1], fua ? 0x08 : 0, 1, 1, 512, false);
		GOOD(&rig, 512);
		must_eq(rig.asked, 1);
		ASKED(&rig, 0, 'w', 512, 512, fua ? VMBUS_IO_FUA : 0);
		rig.disk.info.flags = VMBUS_STORE_VOLATILE | VMBUS_STORE_FUA;
		run(&writes[1], fua ? 0x08 : 0, 1, 1, 512, false);
		GOOD(&rig, 512);
		must_eq(rig.asked, 1);
		ASKED(&rig, 0, 'w', 512, 512, VMBUS_IO_FUA);
		rig.disk.info.flags = VMBUS_STORE_VOLATILE; /* nothing can be done */
		run(&writes[1], fua ? 0x08 : 0, 1, 1, 512, false);
		GOOD(&rig, 512);
		must_eq(rig.asked, 1);
		ASKED(&rig, 0, 'w', 512, 512, 0);
	}
}
END_TEST

START_TEST(scsi_write__write_through_makes_every_write_durable)
{
	rig.disk.write_through = true;
	run(&writes[0], 0, 1, 1, 512, false);
	GOOD(&rig, 512);
	must_eq(rig.asked, 2);
	ASKED(&rig, 1, 'f', 0, 0, 0);
	rig.disk.info.flags |= VMBUS_STORE_FUA;
	run(&writes[1], 0, 1, 1, 512, false);
	must_eq(rig.asked, 1);
	ASKED(&rig, 0, 'w', 512, 512, VMBUS_IO_FUA);
}
END_TEST

START_TEST(scsi_write__a_flush_that_fails_fails_it)
{
	rig.fail_at = 2;
	rig.fail = VMBUS_IO_MEDIUM;
	run(&writes[1], 0x08, 1, 1, 512, false);
	CHECK(&rig, 0x84, 3, 0x0C00);
	rig.fail = VMBUS_IO_GONE;
	run(&writes[1], 0x08, 1, 1, 512, false);
	CHECK(&rig, 0x84, 4, 0x4400);
}
END_TEST

START_TEST(scsi_read__fua_flushes_first)
{
	run(&reads[1], 0x08, 2, 1, 512, true);
	GOOD(&rig, 512);
	must_eq(rig.asked, 2);
	ASKED(&rig, 0, 'f', 0, 0, 0);
	ASKED(&rig, 1, 'r', 1024, 512, 0);
	rig.disk.info.flags = 0;
	run(&reads[1], 0x08, 2, 1, 512, true);
	must_eq(rig.asked, 1);
}
END_TEST

/* ---- how requests of the store end ---- */

static const struct {
	enum vmbus_io_end end;
	uint8_t key;
	uint16_t asc;
} ends[] = {
	{ VMBUS_IO_SPACE, 7, 0x2707 },
	{ VMBUS_IO_READ_ONLY, 7, 0x2700 },
	{ VMBUS_IO_GONE, 4, 0x4400 },
	{ (enum vmbus_io_end)77, 4, 0x4400 },
};

START_TEST(scsi_end__each_of_the_stores_has_its_sense)
{
	uint32_t i, keep;

	rig.fail_at = 1;
	for (keep = 0; keep < 2; keep++)
		for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
			rig.keep = keep;
			rig.fail = ends[i].end;
			run(&reads[1], 0, 2, 1, 512, true);
			CHECK(&rig, 0x84, ends[i].key, ends[i].asc);
			run(&writes[1], 0, 2, 1, 512, false);
			CHECK(&rig, 0x84, ends[i].key, ends[i].asc);
			RUN(&rig, 0, true, 0x35);
			CHECK(&rig, 0x84, ends[i].key, ends[i].asc);
		}
	rig.fail = VMBUS_IO_BUSY;
	run(&reads[1], 0, 2, 1, 512, true);
	must_eq(rig.task.scsi_status, 0x08);
	must_eq(rig.task.srb_status, 0x05);
	must_eq(rig.task.status, 0x80000011u);
	must_eq(rig.task.moved, 0);
}
END_TEST

/* [STOR-SENSE] */
START_TEST(scsi_end__medium_errors_name_the_sector)
{
	uint8_t want[20] = { 0xF0, 0, 3, 0, 0, 0x01, 0x05, 10, 0, 0, 0, 0, 0x11, 0 };

	rig.fail_at = 1;
	rig.fail = VMBUS_IO_MEDIUM;
	rig.fail_offset = 5 * 512 + 17; /* of sector 0x100 on */
	run(&reads[1], 0, 0x100, 8, 4096, true);
	must_eq(rig.task.scsi_status, 0x02);
	must_eq(rig.task.srb_status, 0x84);
	must_eq(rig.task.sense_len, 18);
	must(memcmp(rig.task.sense, want, 20) == 0);
	want[12] = 0x0C;
	run(&writes[1], 0, 0x100, 8, 4096, false);
	must(memcmp(rig.task.sense, want, 20) == 0);
}
END_TEST

START_TEST(scsi_end__medium_errors_past_32_bits_use_a_descriptor)
{
	static const uint8_t want[20] = { 0x72, 3, 0x11, 0, 0,	  0,	0,    12,   0,	  0x0A,
					  0x80, 0, 0,	 0, 0x12, 0x34, 0x56, 0x78, 0x9A, 0xBD };

	rig.disk.bytes = VMBUS_STORE_BYTES_MAX;
	rig.fail_at = 1;
	rig.fail = VMBUS_IO_MEDIUM;
	rig.fail_offset = 512;
	run(&reads[3], 0, 0x123456789ABC, 4, 2048, true);
	must_eq(rig.task.sense_len, 20);
	must(memcmp(rig.task.sense, want, 20) == 0);
	/* The last one that fits the other format. */
	rig.fail_offset = 0;
	run(&reads[3], 0, 0xFFFFFFFF, 4, 2048, true);
	must_eq(rig.task.sense_len, 18);
	must_eq(rig.task.sense[0], 0xF0);
	must(memcmp(rig.task.sense + 3, "\xFF\xFF\xFF\xFF", 4) == 0);
}
END_TEST

/* A store that names a byte outside of the request names none. */
START_TEST(scsi_end__medium_errors_elsewhere_name_no_sector)
{
	rig.fail_at = 1;
	rig.fail = VMBUS_IO_MEDIUM;
	rig.fail_offset = 4096;
	run(&reads[1], 0, 0x100, 8, 4096, true);
	CHECK(&rig, 0x84, 3, 0x1100);
	rig.fail_offset = (uint64_t)-1;
	run(&reads[1], 0, 0x100, 8, 4096, true);
	CHECK(&rig, 0x84, 3, 0x1100);
}
END_TEST

/* ---- verification ---- */

START_TEST(scsi_verify__without_a_buffer_reads_all)
{
	const struct form *f;

	EACH(verifies, f)
	{
		run(f, 0, 9, 300, 0, false);
		GOOD(&rig, 0);
		must_eq(rig.task.kind, VMBUS__SCSI_OTHER);
		must_eq(rig.asked, 3);
		ASKED(&rig, 0, 'r', 9 * 512, 65536, 0);
		ASKED(&rig, 1, 'r', 9 * 512 + 65536, 65536, 0);
		ASKED(&rig, 2, 'r', 9 * 512 + 131072, 300 * 512 - 131072, 0);
		rig.fail_at = 2;
		rig.fail = VMBUS_IO_MEDIUM;
		run(f, 0, 9, 300, 0, false);
		must_eq(rig.task.sense[2], 3);
		must_eq(rig.task.sense[6], 9 + 128);
		rig.fail_at = 0;
	}
}
END_TEST

START_TEST(scsi_verify__compares_every_byte)
{
	static const uint32_t where[] = { 0, 511, 512, 65535, 65536, 131071, 300 * 512 - 1 };
	const struct form *f;
	uint32_t i, keep;

	fill(rig.bytes, RIG_SECTORS * 512u, 1);
	for (keep = 0; keep < 2; keep++)
		EACH(verifies, f)
		{
			rig.keep = keep;
			memcpy(rig.buffer, rig.bytes + 9 * 512, 300 * 512);
			run(f, 0x02, 9, 300, 300 * 512, false);
			GOOD(&rig, 300 * 512);
			for (i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
				rig.buffer[where[i]] ^= 1;
				run(f, 0x02, 9, 300, 300 * 512, false);
				CHECK(&rig, 0x84, 0xE, 0x1D00);
				rig.buffer[where[i]] ^= 1;
			}
		}
	run(&verifies[0], 0x02, 9, 300, 300 * 512 - 1, false);
	ILLEGAL(&rig, 0x2400);
}
END_TEST

START_TEST(scsi_verify__compares_one_sector_with_all)
{
	uint32_t i;

	fill(rig.buffer, 512, 5);
	for (i = 0; i < 300; i++)
		memcpy(rig.bytes + (9 + i) * 512, rig.buffer, 512);
	run(&verifies[1], 0x06, 9, 300, 512, false);
	GOOD(&rig, 512);
	rig.bytes[(9 + 299) * 512 + 511] ^= 1;
	run(&verifies[1], 0x06, 9, 300, 512, false);
	CHECK(&rig, 0x84, 0xE, 0x1D00);
	run(&verifies[1], 0x06, 9, 299, 512, false);
	GOOD(&rig, 512);
	run(&verifies[1], 0x06, 9, 300, 511, false);
	ILLEGAL(&rig, 0x2400);
	rig_buffer(&rig, 511, false); /* the range is longer than the transfer */
	rig.pieces[rig.sgl.count - 1].len++;
	rig.sgl.bytes = 512;
	rig_run(&rig, cdb_of(&verifies[1], 0x06, 9, 299), 12);
	ILLEGAL(&rig, 0x2400);
	run(&verifies[1], 0x04, 9, 300, 512, false); /* no such way to compare */
	ILLEGAL(&rig, 0x2400);
}
END_TEST

/* What a guest can make us allocate is bounded. */
START_TEST(scsi_verify__is_busy_when_the_channel_has_many)
{
	rig.scratches = 15;
	run(&verifies[0], 0, 0, 1, 0, false);
	GOOD(&rig, 0);
	must_eq(rig.scratches, 15);
	rig.scratches = 16;
	run(&verifies[0], 0, 0, 1, 0, false);
	must_eq(rig.task.scsi_status, 0x08);
	must_eq(rig.asked, 0);
	run(&write_verifies[0], 0, 0, 1, 512, false);
	must_eq(rig.task.scsi_status, 0x08);
	must_eq(rig.asked, 0);
	memset(rig.buffer, 1, 512);
	RUN(&rig, 512, false, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	must_eq(rig.task.scsi_status, 0x08);
	must_eq(rig.asked, 0);
	must_eq(rig.scratches, 16);
	rig.scratches = 0;
	rig.keep = true;
	rig_buffer(&rig, 0, false);
	rig_begin(&rig, cdb_of(&verifies[0], 0, 0, 1), 10);
	must_eq(rig.scratches, 1);
	must(rig_let_go(&rig));
	must_eq(rig.scratches, 0);
}
END_TEST

START_TEST(scsi_write_verify__writes_flushes_and_looks)
{
	const struct form *f;

	EACH(write_verifies, f)
	{
		fill(rig.buffer, 300 * 512, f->op);
		run(f, 0x02, 9, 300, 300 * 512, false);
		GOOD(&rig, 300 * 512);
		must_eq(rig.task.kind, VMBUS__SCSI_WRITE);
		must_eq(rig.asked, 5);
		ASKED(&rig, 0, 'w', 9 * 512, 300 * 512, 0);
		ASKED(&rig, 1, 'f', 0, 0, 0);
		ASKED(&rig, 4, 'r', 9 * 512 + 131072, 300 * 512 - 131072, 0);
		must(memcmp(rig.buffer, rig.bytes + 9 * 512, 300 * 512) == 0);
		rig.fail_at = 4;
		rig.fail = VMBUS_IO_MEDIUM;
		run(f, 0, 9, 300, 300 * 512, false);
		must_eq(rig.task.sense[2], 3);
		must_eq(rig.task.sense[12], 0x11);
		rig.fail_at = 0;
		run(f, 0x06, 9, 1, 512, false);
		ILLEGAL(&rig, 0x2400);
	}
}
END_TEST

/* Between the write and the look somebody else writes there. */
static void spoil(struct rig *r)
{
	if (r->log[r->asked - 1].op == 'r')
		r->bytes[9 * 512] ^= 1;
}

START_TEST(scsi_write_verify__tells_a_difference)
{
	rig.before = spoil;
	run(&write_verifies[0], 0x02, 9, 1, 512, false);
	CHECK(&rig, 0x84, 0xE, 0x1D00);
	run(&write_verifies[0], 0x00, 9, 1, 512, false);
	GOOD(&rig, 512);
}
END_TEST

/* ---- the flush ---- */

START_TEST(scsi_synchronize__flushes_whatever_the_range)
{
	static const struct form flushes[] = { { 0x35, 10 }, { 0x91, 16 } };
	const struct form *f;

	EACH(flushes, f)
	{
		run(f, 0, 0, 0, 0, false);
		GOOD(&rig, 0);
		must_eq(rig.asked, 1);
		ASKED(&rig, 0, 'f', 0, 0, 0);
		must_eq(rig.task.kind, VMBUS__SCSI_FLUSH);
		run(f, 0x02, 5, 6, 0, false); /* IMMED: done when it is durable all the same */
		GOOD(&rig, 0);
		must_eq(rig.asked, 1);
		run(f, 0, RIG_SECTORS, 1, 0, false);
		ILLEGAL(&rig, 0x2100);
		run(f, 1, 0, 0, 0, false);
		ILLEGAL(&rig, 0x2400);
		rig.disk.read_only = true;
		run(f, 0, 0, 0, 0, false);
		GOOD(&rig, 0);
		rig.disk.read_only = false;
	}
	rig.ops.flush = NULL;
	run(&flushes[0], 0, 0, 0, 0, false);
	GOOD(&rig, 0);
	must_eq(rig.asked, 0);
}
END_TEST

START_TEST(scsi_synchronize__ends_when_the_store_has_ended)
{
	const uint8_t cdb[10] = { 0x35 };

	rig.keep = true;
	rig_buffer(&rig, 0, false);
	rig_begin(&rig, cdb, sizeof(cdb));
	must_eq(rig.done, 0);
	must(rig_let_go(&rig));
	must_eq(rig.done, 1);
	GOOD(&rig, 0);
}
END_TEST

START_TEST(scsi_start_stop__flushes_when_it_stops)
{
	RUN(&rig, 0, false, 0x1B, 0, 0, 0, 0x00, 0);
	GOOD(&rig, 0);
	must_eq(rig.asked, 1);
	ASKED(&rig, 0, 'f', 0, 0, 0);
	RUN(&rig, 0, false, 0x1B, 1, 0, 0, 0x01, 0); /* Linux: IMMED */
	GOOD(&rig, 0);
	must_eq(rig.asked, 0);
	RUN(&rig, 0, false, 0x1B, 0, 0, 0, 0x02, 0); /* nothing to eject */
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 0, false, 0x1B, 0, 0, 0, 0x03, 0);
	ILLEGAL(&rig, 0x2400);
	RUN(&rig, 0, false, 0x1B, 0, 0, 0, 0x32, 0); /* a power condition: the rest is no word */
	GOOD(&rig, 0);
	must_eq(rig.asked, 0);
	RUN(&rig, 512, true, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0); /* it goes on to work */
	GOOD(&rig, 512);
}
END_TEST

START_TEST(scsi_prefetch__checks_the_range)
{
	static const struct form all[] = { { 0x34, 10 }, { 0x90, 16 } };
	const struct form *f;

	EACH(all, f)
	{
		run(f, 0, 0, 256, 0, false);
		GOOD(&rig, 0);
		run(f, 0x02, RIG_SECTORS - 1, 1, 0, false);
		GOOD(&rig, 0);
		run(f, 0, RIG_SECTORS - 1, 2, 0, false);
		ILLEGAL(&rig, 0x2100);
	}
	must_eq(rig.asked, 0);
}
END_TEST

/* ---- the size changes while it is used ---- */

START_TEST(scsi_range__follows_the_size)
{
	run(&reads[1], 0, RIG_SECTORS - 1, 1, 512, true);
	GOOD(&rig, 512);
	rig.disk.bytes = 512 * 10 + 511;
	run(&reads[1], 0, 10, 1, 512, true);
	ILLEGAL(&rig, 0x2100);
	run(&reads[1], 0, 9, 1, 512, true);
	GOOD(&rig, 512);
	rig.disk.bytes = 0;
	run(&reads[1], 0, 0, 1, 512, true);
	ILLEGAL(&rig, 0x2100);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "io", 20);

	tcase_add_checked_fixture(tc, up, down);
	tcase_add_test(tc, scsi_read__each_form_reads_straight_into_the_buffer);
	tcase_add_test(tc, scsi_write__each_form_writes_straight_from_the_buffer);
	tcase_add_test(tc, scsi_read__six_byte_form_has_21_bits_and_0_is_256);
	tcase_add_test(tc, scsi_read__4096_byte_sectors);
	tcase_add_test(tc, scsi_range__ends_at_the_capacity);
	tcase_add_test(tc, scsi_range__no_sectors_are_good_up_to_the_end);
	tcase_add_test(tc, scsi_range__the_buffer_must_hold_it);
	tcase_add_test(tc, scsi_range__a_longer_buffer_is_used_in_part);
	tcase_add_test(tc, scsi_range__a_longer_buffer_ends_with_a_piece);
	tcase_add_test(tc, scsi_range__not_more_than_the_largest_transfer);
	tcase_add_test(tc, scsi_range__refuses_flags_that_mean_something_else);
	tcase_add_test(tc, scsi_write__fua_is_the_stores_or_a_flush_after_it);
	tcase_add_test(tc, scsi_write__uses_fua_where_there_is_no_flush);
	tcase_add_test(tc, scsi_write__write_through_makes_every_write_durable);
	tcase_add_test(tc, scsi_write__a_flush_that_fails_fails_it);
	tcase_add_test(tc, scsi_read__fua_flushes_first);
	tcase_add_test(tc, scsi_end__each_of_the_stores_has_its_sense);
	tcase_add_test(tc, scsi_end__medium_errors_name_the_sector);
	tcase_add_test(tc, scsi_end__medium_errors_past_32_bits_use_a_descriptor);
	tcase_add_test(tc, scsi_end__medium_errors_elsewhere_name_no_sector);
	tcase_add_test(tc, scsi_verify__without_a_buffer_reads_all);
	tcase_add_test(tc, scsi_verify__compares_every_byte);
	tcase_add_test(tc, scsi_verify__compares_one_sector_with_all);
	tcase_add_test(tc, scsi_verify__is_busy_when_the_channel_has_many);
	tcase_add_test(tc, scsi_write_verify__writes_flushes_and_looks);
	tcase_add_test(tc, scsi_write_verify__tells_a_difference);
	tcase_add_test(tc, scsi_synchronize__flushes_whatever_the_range);
	tcase_add_test(tc, scsi_synchronize__ends_when_the_store_has_ended);
	tcase_add_test(tc, scsi_start_stop__flushes_when_it_stops);
	tcase_add_test(tc, scsi_prefetch__checks_the_range);
	tcase_add_test(tc, scsi_range__follows_the_size);
}

VMBUS_TEST_MAIN("block.scsi_io", tests)
