/* SPDX-License-Identifier: MIT */
/*
 * Power cuts: random commands for a disk on a store that forgets what was not flushed, then a look at
 * what is there.  Each sector that was written tells when; none may be older than what the disk had
 * promised to keep.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <unistd.h>

#include "block/scsi_rig.h"

#define SECTORS 512u
#define LARGEST 40u /* sectors of one command */
#define COMMANDS 60u

struct sector {
	uint64_t written; /* when: number of the command */
	uint64_t zeroed;
	uint64_t promised; /* the last one that must be found, or a later one */
};

static struct rig rig;
static struct sector sectors[SECTORS];
static const uint8_t *below; /* the bytes that stay */
static int memory_fd;
static uint64_t seed = 88172645463325252u, now;

static uint32_t draw(uint32_t below_this)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 11) % below_this);
}

static void plug_in(bool write_through)
{
	struct vmbus_store_faults faults = { .drop = true };
	struct vmbus_store store;

	memory_fd = memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ck_assert_int_ge(memory_fd, 0);
	ck_assert_int_eq(ftruncate(memory_fd, SECTORS * 512), 0);
	ck_assert_int_eq(fcntl(memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	below = mmap(NULL, SECTORS * 512, PROT_READ, MAP_SHARED, memory_fd, 0);
	ck_assert(below != MAP_FAILED);
	ck_assert_int_eq(vmbus_store_memory(SECTORS * 512, memory_fd, &store), 0);
	ck_assert_int_eq(vmbus_store_faulty(&store, &rig.disk.store), 0);
	ck_assert_int_eq(vmbus_store_faulty_set(&rig.disk.store, &faults), 0);
	ck_assert_int_eq(rig.disk.store.ops->info(rig.disk.store.ctx, &rig.disk.info), 0);
	rig.disk.bytes = SECTORS * 512;
	rig.disk.write_through = write_through;
	rig.queue = (struct vmbus_store_queue){ .ctx = rig.disk.store.ctx, .fd = -1, .depth = 4 };
	ck_assert_int_eq(rig.disk.store.ops->open(&rig.queue), 0);
	memset(sectors, 0, sizeof(sectors));
	now = 0;
}

static void unplug(void)
{
	rig.disk.store.ops->close(&rig.queue);
	vmbus_store_destroy(&rig.disk.store);
	ck_assert_int_eq(munmap((void *)(uintptr_t)below, SECTORS * 512), 0);
	close(memory_fd);
}

static void promise(uint32_t from, uint32_t count)
{
	uint32_t i;

	for (i = from; i < from + count; i++)
		sectors[i].promised = sectors[i].written > sectors[i].zeroed ? sectors[i].written
									     : sectors[i].zeroed;
}

/* Each sector says which it is, and when it was written. */
static void write_some(uint8_t op, uint8_t flags)
{
	const uint32_t n = 1 + draw(LARGEST), at = draw(SECTORS - n);
	uint32_t i;

	for (i = 0; i < n; i++) {
		const uint64_t words[2] = { now, at + i };

		memset(rig.buffer + i * 512, (int)(now & 0xFF), 512);
		memcpy(rig.buffer + i * 512, words, sizeof(words));
		memcpy(rig.buffer + i * 512 + 496, words, sizeof(words));
	}
	RUN(&rig, n * 512, false, op, flags, 0, 0, (uint8_t)(at >> 8), (uint8_t)at, 0, 0,
	    (uint8_t)n, 0);
	GOOD(&rig, n * 512);
	for (i = 0; i < n; i++)
		sectors[at + i].written = now;
	if (flags & 0x08 || op == 0x2E || rig.disk.write_through)
		promise(at, n);
}

static void zero_some(bool unmap)
{
	const uint32_t n = 1 + draw(LARGEST), at = draw(SECTORS - n);
	uint32_t i;

	memset(rig.buffer, 0, 512);
	if (unmap) {
		const uint8_t list[24] = { 0,		22, 0, 16, 0,
					   0,		0,  0, 0,  0,
					   0,		0,  0, 0,  (uint8_t)(at >> 8),
					   (uint8_t)at, 0,  0, 0,  (uint8_t)n };

		memcpy(rig.buffer, list, sizeof(list));
		RUN(&rig, 24, false, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0);
		GOOD(&rig, 24);
	} else {
		RUN(&rig, 512, false, 0x41, 0, 0, 0, (uint8_t)(at >> 8), (uint8_t)at, 0, 0,
		    (uint8_t)n, 0);
		GOOD(&rig, 512);
	}
	for (i = 0; i < n; i++)
		sectors[at + i].zeroed = now;
	if (rig.disk.write_through)
		promise(at, n);
}

static void command(void)
{
	now++;
	vmbus_test_at("command %llu", (unsigned long long)now);
	switch (draw(16)) {
	case 0:
		RUN(&rig, 0, false, 0x35);
		GOOD(&rig, 0);
		promise(0, SECTORS);
		break;
	case 1:
		RUN(&rig, 0, false, 0x1B, 0, 0, 0, 0, 0);
		GOOD(&rig, 0);
		promise(0, SECTORS);
		break;
	case 2:
	case 3:
		write_some(0x2A, 0x08);
		break;
	case 4:
		write_some(0x2E, draw(2) ? 0x02 : 0);
		break;
	case 5:
		zero_some(true);
		break;
	case 6:
		zero_some(false);
		break;
	default:
		write_some(0x2A, 0);
		break;
	}
}

/* What the guest reads while the power is on is the newest of everything. */
static void look_from_above(void)
{
	uint32_t i;

	for (i = 0; i < SECTORS; i++) {
		uint64_t words[2];

		RUN(&rig, 512, true, 0x28, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i, 0, 0, 1, 0);
		GOOD(&rig, 512);
		memcpy(words, rig.buffer, sizeof(words));
		must_eq(words[0], sectors[i].written > sectors[i].zeroed ? sectors[i].written : 0);
	}
}

/* The newest, or what was there since it was promised. */
static uint32_t look_below(void)
{
	uint32_t i, lost = 0;

	for (i = 0; i < SECTORS; i++) {
		uint64_t words[2], last[2];

		vmbus_test_at("sector %u, promised %llu", i,
			      (unsigned long long)sectors[i].promised);
		memcpy(words, below + i * 512, sizeof(words));
		memcpy(last, below + i * 512 + 496, sizeof(last));
		must(words[0] == last[0] && words[1] == last[1]);
		if (words[0]) {
			must_eq(words[1], i);
			must(words[0] >= sectors[i].promised && words[0] <= sectors[i].written);
		} else {
			must(sectors[i].zeroed >= sectors[i].promised);
		}
		lost += words[0] < sectors[i].written && words[0] >= sectors[i].zeroed;
	}
	return lost;
}

static uint32_t cut_power(uint32_t times, bool write_through)
{
	const struct vmbus_store_faults cut = { .drop = true, .cut = true };
	uint32_t i, lost = 0;

	while (times--) {
		rig_open(&rig, 9);
		plug_in(write_through);
		for (i = draw(COMMANDS); i; i--)
			command();
		look_from_above();
		ck_assert_int_eq(vmbus_store_faulty_set(&rig.disk.store, &cut), 0);
		now++;
		RUN(&rig, 512, true, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
		CHECK(&rig, 0x84, 4, 0x4400);
		lost += look_below();
		unplug();
		rig_close(&rig);
	}
	return lost;
}

START_TEST(scsi_power__what_was_promised_is_there_after_a_cut)
{
	/* That something is lost shows that the store forgets. */
	ck_assert_uint_gt(cut_power(vmbus_test_full() ? 2000 : 60, false), 1000);
}
END_TEST

START_TEST(scsi_power__a_write_through_disk_loses_nothing)
{
	ck_assert_uint_eq(cut_power(vmbus_test_full() ? 2000 : 30, true), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "power", 20);

	tcase_add_test(tc, scsi_power__what_was_promised_is_there_after_a_cut);
	tcase_add_test(tc, scsi_power__a_write_through_disk_loses_nothing);
}

VMBUS_TEST_MAIN("block.scsi_power", tests)
