/* SPDX-License-Identifier: MIT */
/* The block device's client against its provider, in one thread. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "pair.h"

START_TEST(pair__finds_a_disk)
{
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk) };
	struct vmbus_storvsc_disk found;
	struct pair p;
	uint32_t i;

	pair_start(&p, NULL);
	disk.lun = 3;
	disk.target = 1;
	disk.serial = "S-1234";
	disk.sector = _i & 1 ? 4096 : 512;
	disk.read_only = (_i & 2) != 0;
	disk.write_through = (_i & 4) != 0;
	for (i = 0; i < 16; i++)
		disk.id.b[i] = (uint8_t)(i + 1);
	pair_add(&p, &disk);
	pair_client(&p, 0);
	must_eq(pair_probe(&p, &found, 1, 3), 0);
	must_eq(found.sector, disk.sector);
	must_eq(found.sectors, PAIR_BYTES / disk.sector);
	must_eq(found.read_only, disk.read_only);
	must(!found.cached); /* what is in memory is there */
	must_eq(found.target, 1);
	must_eq(found.lun, 3);
	must_eq(strcmp(found.serial, "S-1234"), 0);
	must_eq(strcmp(found.vendor, "Msft"), 0);
	must_eq(strcmp(found.product, "Virtual Disk"), 0);
	must_eq(strcmp(found.revision, "1.0"), 0);
	must_eq(memcmp(found.id, disk.id.b, 16), 0);
	if (!disk.read_only) {
		must(found.discard);
		must(found.discard_zeroes);
		must(found.discard_max > 0);
	}
	must_eq(pair_probe(&p, &found, 0, 3), VMBUS_E_RANGE);
	must_eq(pair_probe(&p, &found, 1, 2), VMBUS_E_RANGE);
	must_eq(p.s.bad, 0);
	pair_free(&p);
	must_eq(p.closed, 1);
	must_eq(p.removed, 1);
}
END_TEST

START_TEST(pair__reads_what_was_written)
{
	struct vmbus_storvsc_disk disk;
	struct vmbus_storvsc_req req = { 0 };
	struct vmbus_storvsc_piece piece = { 0 };
	struct pair p;
	uint8_t *buf;
	uint32_t i;

	pair_start(&p, NULL);
	pair_add(&p, NULL);
	pair_client(&p, 0);
	must_eq(pair_probe(&p, &disk, 0, 0), 0);
	buf = vmbus_guest_pages(p.l->guest, 4);
	for (i = 0; i < 16384; i++)
		buf[i] = (uint8_t)(i * 7 + i / 256);
	req.piece = &piece;
	req.pieces = 1;
	piece.data = buf + 100;
	piece.bytes = 8192;
	must_eq(vmbus_storvsc_write(&disk, &req, 17, 16, disk.fua), 0);
	must_eq(pair_do(&p, 0, &req), 0);
	must_eq(vmbus_storvsc_flush(&disk, &req), 0);
	must_eq(pair_do(&p, 0, &req), 0);
	memset(buf, 0xEE, 16384);
	req.pieces = 1;
	piece.data = buf + 3000;
	piece.bytes = 9216;
	must_eq(vmbus_storvsc_read(&disk, &req, 16, 18), 0);
	must_eq(pair_do(&p, 0, &req), 0);
	must_eq(req.moved, 9216);
	for (i = 0; i < 16384; i++) {
		uint8_t want = 0xEE;

		if (i >= 3000 && i < 3000 + 9216)
			want = 0;
		if (i >= 3512 && i < 3512 + 8192)
			want = (uint8_t)((i - 3512 + 100) * 7 + (i - 3512 + 100) / 256);
		vmbus_test_at("byte %u", i);
		must_eq(buf[i], want);
	}
	/* Given up, and zero again. */
	piece.data = buf;
	piece.bytes = 24;
	must_eq(vmbus_storvsc_discard(&disk, &req, 17, 8), 0);
	must_eq(pair_do(&p, 0, &req), 0);
	piece.bytes = 8192;
	must_eq(vmbus_storvsc_read(&disk, &req, 17, 16), 0);
	must_eq(pair_do(&p, 0, &req), 0);
	for (i = 0; i < 8192; i++)
		must_eq(buf[i], i < 4096 ? 0 : (uint8_t)((i + 100) * 7 + (i + 100) / 256));
	must_eq(p.s.bad, 0);
	pair_free(&p);
}
END_TEST

/* ---- what happens to disks ---- */

static void faults(const struct vmbus_store *store, const struct vmbus_store_faults *f)
{
	must_eq(vmbus_store_faulty_set(store, f), 0);
}

/* A disk over a faulty store at lun. */
static struct vmbus_store faulty_disk(struct pair *p, uint8_t lun)
{
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk), .lun = lun };

	must_eq(vmbus_store_memory(PAIR_BYTES, -1, &disk.store), 0);
	must_eq(vmbus_store_faulty(&disk.store, &disk.store), 0);
	pair_add(p, &disk);
	return disk.store;
}

static int read_at(struct pair *p, const struct vmbus_storvsc_disk *disk, uint64_t sector,
		   struct vmbus_storvsc_req *req)
{
	static struct vmbus_storvsc_piece piece;

	piece.data = p->page;
	piece.bytes = 4096;
	memset(req, 0, sizeof(*req));
	req->piece = &piece;
	req->pieces = 1;
	must_eq(vmbus_storvsc_read(disk, req, sector, 4096 / disk->sector), 0);
	return pair_do(p, 0, req);
}

/* A medium error arrives with the sector that is bad, and everything else is well. */
START_TEST(pair__tells_the_bad_sector)
{
	const struct vmbus_store_faults bad = {
		.from = 100 * 512 + 7, .bytes = 1, .ops = 1, .end = VMBUS_IO_MEDIUM
	};
	const struct vmbus_store_faults none = { 0 };
	struct vmbus_storvsc_disk disk;
	struct vmbus_storvsc_req req;
	struct vmbus_store store;
	struct pair p;

	pair_start(&p, NULL);
	store = faulty_disk(&p, 0);
	pair_client(&p, 0);
	must_eq(pair_probe(&p, &disk, 0, 0), 0);
	faults(&store, &bad);
	must_eq(read_at(&p, &disk, 96, &req), VMBUS_E_RANGE);
	must_eq(req.scsi_status, 2);
	must_eq(req.srb_status, 0x84);
	must(req.sense_bytes >= 18);
	must_eq(req.sense[0], 0xF0);
	must_eq(req.sense[2], 3);
	must_eq(req.sense[6], 100); /* the sector */
	must_eq(req.sense[12], 0x11);
	must_eq(read_at(&p, &disk, 88, &req), 0);
	must_eq(read_at(&p, &disk, 104, &req), 0);
	faults(&store, &none);
	must_eq(read_at(&p, &disk, 96, &req), 0);
	must_eq(p.s.bad, 0);
	pair_free(&p);
}
END_TEST

/* One disk that stalls keeps nobody else from going on, on the same channel too. */
START_TEST(pair__a_stalled_disk_stalls_nobody)
{
	static struct vmbus_storvsc_req stuck[64];
	static struct vmbus_storvsc_piece piece;
	struct vmbus_block_opts opts = { .struct_bytes = sizeof(opts), .depth = 100 };
	const struct vmbus_store_faults stall = { .stall = true }, none = { 0 };
	struct vmbus_storvsc_disk slow, quick;
	struct vmbus_storvsc_req req;
	struct vmbus_store store;
	struct pair p;
	uint32_t i;

	pair_start(&p, &opts);
	store = faulty_disk(&p, 0);
	(void)faulty_disk(&p, 1);
	pair_client(&p, 0);
	must_eq(pair_probe(&p, &slow, 0, 0), 0);
	must_eq(pair_probe(&p, &quick, 0, 1), 0);
	faults(&store, &stall);
	piece.data = vmbus_guest_pages(p.l->guest, 1);
	piece.bytes = 4096;
	for (i = 0; i < 64; i++) {
		memset(&stuck[i], 0, sizeof(stuck[i]));
		stuck[i].piece = &piece;
		stuck[i].pieces = 1;
		stuck[i].err = 1;
		must_eq(vmbus_storvsc_read(&slow, &stuck[i], i * 8, 8), 0);
		must_eq(vmbus_storvsc_submit(&p.s, 0, &stuck[i]), 0);
	}
	loop_settle(p.l);
	for (i = 0; i < 1000; i++)
		must_eq(read_at(&p, &quick, i * 8, &req), 0);
	for (i = 0; i < 64; i++)
		must_eq(stuck[i].err, 1); /* nothing came of it */
	faults(&store, &none);
	loop_settle(p.l);
	for (i = 0; i < 64; i++)
		must_eq(stuck[i].err, 0);
	pair_free(&p);
}
END_TEST

START_TEST(pair__disks_come_and_go)
{
	struct vmbus_block_disk more = { .struct_bytes = sizeof(more), .lun = 5 };
	struct vmbus_storvsc_disk disk, other;
	struct vmbus_storvsc_req req;
	struct pair p;
	uint32_t changed;
	int fd;

	pair_start(&p, NULL);
	fd = memfd_create("disk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	must(fd >= 0);
	must_eq(ftruncate(fd, 4 << 20), 0);
	must_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	pair_add(&p, NULL);
	pair_client(&p, 0);
	must_eq(pair_probe(&p, &disk, 0, 0), 0);
	must_eq(pair_probe(&p, &other, 0, 5), VMBUS_E_RANGE);
	changed = p.changed;
	must_eq(vmbus_store_memory(4 << 20, fd, &more.store), 0);
	pair_add(&p, &more);
	loop_settle(p.l);
	must(p.changed > changed);
	must_eq(pair_probe(&p, &other, 0, 5), 0);
	must_eq(other.sectors, 8192);
	must_eq(read_at(&p, &other, 0, &req), 0);
	changed = p.changed;
	must_eq(vmbus_block_remove(p.block, 0, 5), 0);
	loop_settle(p.l);
	must(p.changed > changed);
	must_eq(p.removed, 1);
	must_eq(read_at(&p, &other, 0, &req), VMBUS_E_RANGE);
	must_eq(req.srb_status & 0x3F, 0x20);
	must_eq(read_at(&p, &disk, 0, &req), 0);
	close(fd);
	pair_free(&p);
}
END_TEST

/* A disk that was swapped before the client looked: it is told that the old one is gone, then finds the
   new one. */
START_TEST(storvsc_probe__finds_the_disk_that_came_after)
{
	struct vmbus_block_disk other = { .struct_bytes = sizeof(other) };
	struct vmbus_storvsc_disk disk;
	struct vmbus_storvsc_piece piece;
	struct vmbus_storvsc_req req = { .pieces = 1 };
	uint32_t changed;
	struct pair p;

	pair_start(&p, NULL);
	pair_add(&p, NULL);
	pair_client(&p, 0);
	must_eq(pair_probe(&p, &disk, 0, 0), 0);
	must_eq(vmbus_block_remove(p.block, 0, 0), 0);
	loop_settle(p.l);
	must_eq(p.removed, 1);
	must_eq(vmbus_store_memory(2 * PAIR_BYTES, -1, &other.store), 0);
	pair_add(&p, &other);
	loop_settle(p.l);
	changed = p.changed;
	piece = (struct vmbus_storvsc_piece){ .data = p.page, .bytes = disk.sector };
	req.piece = &piece;
	must_eq(vmbus_storvsc_read(&disk, &req, 0, 1), 0);
	if (_i == 0) {
		must_eq(pair_do(&p, 0, &req), VMBUS_E_RANGE);
		must(req.srb_status == 0x20 && req.sense_bytes == 0);
		must(!vmbus_storvsc_retry(&req));
	} else {
		must_eq(pair_probe(&p, &disk, 0, 0), VMBUS_E_RANGE);
	}
	must_eq(p.changed, changed + 1);
	must_eq(pair_probe(&p, &disk, 0, 0), 0);
	must_eq(disk.sectors * disk.sector, 2 * PAIR_BYTES);
	must_eq(pair_do(&p, 0, &req), 0);
	pair_free(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "pair", 60);

	tcase_add_loop_test(tc, storvsc_probe__finds_the_disk_that_came_after, 0, 2);
	tcase_add_loop_test(tc, pair__finds_a_disk, 0, 8);
	tcase_add_test(tc, pair__reads_what_was_written);
	tcase_add_test(tc, pair__tells_the_bad_sector);
	tcase_add_test(tc, pair__a_stalled_disk_stalls_nobody);
	tcase_add_test(tc, pair__disks_come_and_go);
}

VMBUS_TEST_MAIN("block.pair", tests)
