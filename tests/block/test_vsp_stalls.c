/* SPDX-License-Identifier: MIT */
/* Channels that end while a store stalls: their own are given up after a while, and nobody else waits. */
#include "vspbox.h"

#include <vmbus/diag.h>

#define MS 1000000u
#define PATIENCE_NS (UINT64_C(2000) * MS)
#define LATE_NS (UINT64_C(4000) * MS)

/* Those who look see requests under way, of which none ends. */
static void looks_busy(struct box *b)
{
	struct vmbus_chan_diag diag;
	uint32_t at = 0, under_way = 0;

	while (vmbus_bus_diag_next(b->f.bus, &at, &diag) == 1) {
		under_way += diag.under_way;
		must_eq(diag.under_way > 0, diag.under_way_since > 0);
	}
	must_eq(under_way, 4);
}

/* A guest's write to LUN 1, which stalls, on the last channel. */
static void stall(struct box *b)
{
	struct box_srb srb = box_rw(1, true, 0, 8), repeat = { .lun = 1, .bytes = 512 };
	uint32_t i;

	box_prepare(b);
	b->opts.subchannels = 1;
	box_start(b, 2);
	box_subs(b, 1);
	box_stall(b, 1, true);
	for (i = 0; i < 3; i++)
		(void)box_command(b, i % 2, &srb, 0);
	/* WRITE AND VERIFY: several requests of the store */
	repeat.bytes = 4096;
	repeat.cdb[0] = 0x2E;
	repeat.cdb[8] = 8;
	(void)box_command(b, 0, &repeat, 0);
	fake_run(&b->f);
	must(vmbus_region_pins(&b->f.region) > 0);
	looks_busy(b);
}

/* Both channels are closed, one after the other, as guests do; the other disk goes on. */
START_TEST(block_vsp__ends_what_stalls_when_the_channel_is_closed)
{
	const uint64_t before = fake_now_ns();
	struct vmbus_ctl ctl;
	struct box b;
	bool torn = false;

	stall(&b);
	if (_i == 1) /* a disk that is removed and cannot end */
		must_eq(vmbus_block_remove(b.block, 0, 1), 0);
	fake_post_close(&b.f, &b.c[1]);
	fake_post_close(&b.f, &b.c[0]);
	fake_post_teardown(&b.f, b.c[0].relid, b.c[0].gpadl);
	while (!torn) {
		must(fake_now_ns() - before < LATE_NS);
		fake_run(&b.f);
		torn = fake_take(&b.f, &ctl) && ctl.type == VMBUS_CTL_GPADL_TORNDOWN;
	}
	/* a store that is only slow has its time */
	must(fake_now_ns() - before >= PATIENCE_NS);
	must_eq(b.removed, _i);
	box_end(&b);
	must_eq(vmbus_region_pins(&b.f.region), 0);
}
END_TEST

/* The bus ends without being dispatched. */
START_TEST(bus_destroy__ends_what_stalls)
{
	uint64_t before;
	struct box b;

	stall(&b);
	before = fake_now_ns();
	vmbus_bus_destroy(b.f.bus);
	b.f.bus = NULL;
	must(fake_now_ns() - before < LATE_NS);
	must_eq(vmbus_region_pins(&b.f.region), 0);
	box_end(&b);
}
END_TEST

/* A store of one's own: that of faults, but for what changes it. */
static struct vmbus_store_ops faulty_ops, plain_ops;

static void start_own(struct box *b, void (*read)(struct vmbus_io *io),
		      void (*cancel)(struct vmbus_store_queue *queue))
{
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk) };

	box_prepare(b);
	must_eq(vmbus_block_create(&b->opts, &b->block), 0);
	b->store[0] = box_store(BOX_DISK_BYTES);
	faulty_ops = plain_ops = *b->store[0].ops;
	plain_ops.cancel = cancel;
	if (read)
		plain_ops.read = read;
	disk.store = (struct vmbus_store){ &plain_ops, b->store[0].ctx };
	must_eq(vmbus_block_add(b->block, &disk), 0);
	fake_init(&b->f, 1024);
	(void)fake_offer(&b->f, vmbus_block_vsp(), b->block, 0);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, b->c, 1), 1);
	b->data = fake_pages(&b->f, BOX_DATA_PAGES);
	box_open(b);
	box_init(b);
	box_stall(b, 0, true);
}

static uint32_t reads;

static void own_read(struct vmbus_io *io)
{
	reads++;
	faulty_ops.read(io);
}

/* ---- a store that gathers, and has no FUA ---- */

static struct vmbus_io *gathered;
static uint32_t flushes;

static int gather_info(void *ctx, struct vmbus_store_info *info)
{
	(void)ctx;
	*info = (struct vmbus_store_info){ .bytes = BOX_DISK_BYTES, .flags = VMBUS_STORE_VOLATILE };
	return 0;
}

static void gather(struct vmbus_io *io)
{
	io->store[0] = (uintptr_t)gathered;
	gathered = io;
}

static void gather_flush(struct vmbus_io *io)
{
	flushes++;
	gather(io);
}

/* Those that there are; what begins meanwhile waits for the next call. */
static void gather_commit(struct vmbus_store_queue *queue)
{
	struct vmbus_io *io = gathered;

	(void)queue;
	gathered = NULL;
	while (io) {
		struct vmbus_io *const next = (struct vmbus_io *)(uintptr_t)io->store[0];

		vmbus_io_done(io, VMBUS_IO_OK);
		io = next;
	}
}

static const struct vmbus_store_ops gathers = { .struct_bytes = sizeof(gathers),
						.info = gather_info,
						.read = gather,
						.write = gather,
						.flush = gather_flush,
						.commit = gather_commit };

/* A write with FUA is a write and a flush then, and the flush begins within commit(). */
START_TEST(block_vsp__commits_what_begins_within_commit)
{
	const struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk),
					       .store = { &gathers, NULL } };
	struct box_srb write = box_rw(0, true, 0, 8);
	struct box b;

	gathered = NULL;
	flushes = 0;
	box_prepare(&b);
	box_begin(&b, 0);
	must_eq(vmbus_block_add(b.block, &disk), 0);
	box_open(&b);
	box_init(&b);
	box_good(&b, 0, &write, 0);
	must_eq(flushes, 0);
	write.cdb[1] = 0x08;
	box_good(&b, 0, &write, 0);
	must_eq(flushes, 1);
	box_end(&b);
}
END_TEST

/* A channel that is closed and waits for one disk keeps no other: that one goes, and another comes. */
START_TEST(block_vsp__lets_go_of_other_disks_while_it_closes)
{
	struct vmbus_ctl ctl;
	struct box_srb read = box_rw(0, false, 0, 8);
	struct box b;

	stall(&b);
	box_good(&b, 0, &read, 0);
	if (_i) { /* what is under way is of both, and that of the first ends later */
		box_stall(&b, 0, true);
		(void)box_command(&b, 0, &read, 0);
		fake_run(&b.f);
	}
	fake_post_close(&b.f, &b.c[1]);
	fake_post_close(&b.f, &b.c[0]);
	fake_run(&b.f);
	must_eq(vmbus_block_remove(b.block, 0, 0), 0);
	if (_i) {
		must_eq(b.removed, 0);
		box_stall(&b, 0, false);
		fake_run(&b.f);
	}
	must_eq(b.removed, 1);
	must_eq(box_add(&b, 0), 0);
	box_stall(&b, 1, false);
	fake_post_teardown(&b.f, b.c[0].relid, b.c[0].gpadl);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl); /* of the sub-channel */
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	box_end(&b);
	must_eq(vmbus_region_pins(&b.f.region), 0);
}
END_TEST

/* Without cancel() it is waited for, and nothing is begun behind it. */
START_TEST(block_vsp__waits_for_a_store_that_cannot_end)
{
	/* WRITE AND VERIFY: a write, then a read */
	struct box_srb srb = { .bytes = 4096, .cdb = { 0x2E, [8] = 8 } };
	struct vmbus_ctl ctl;
	struct box b;
	uint64_t until;

	reads = 0;
	start_own(&b, own_read, NULL);
	(void)box_command(&b, 0, &srb, 0);
	fake_run(&b.f);
	fake_post_close(&b.f, &b.c[0]);
	fake_post_teardown(&b.f, b.c[0].relid, b.c[0].gpadl);
	for (until = fake_now_ns() + PATIENCE_NS + 700u * MS; fake_now_ns() < until;) {
		fake_run(&b.f);
		must(!fake_take(&b.f, &ctl));
		usleep(1000);
	}
	box_stall(&b, 0, false);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(reads, 0);
	box_end(&b);
}
END_TEST

/* What cancel() cannot end ends well, and is followed by nothing. */
static struct box *own;
static uint32_t cancels;

static void own_cancel(struct vmbus_store_queue *queue)
{
	(void)queue;
	cancels++;
	box_stall(own, 0, false);
}

START_TEST(block_vsp__begins_nothing_after_cancel)
{
	/* WRITE AND VERIFY: a write, then a read */
	struct box_srb srb = { .bytes = 4096, .cdb = { 0x2E, [8] = 8 } };
	const uint64_t before = fake_now_ns();
	struct vmbus_ctl ctl;
	struct box_reply r;
	struct box b;
	bool torn = false;

	own = &b;
	cancels = reads = 0;
	start_own(&b, own_read, own_cancel);
	box_stall(&b, 0, false);
	box_do(&b, 0, &srb, 0, &r);
	must_eq(r.scsi_status, 0);
	must_eq(reads, 1);
	box_stall(&b, 0, true);
	(void)box_command(&b, 0, &srb, 0);
	fake_run(&b.f);
	fake_post_close(&b.f, &b.c[0]);
	fake_post_teardown(&b.f, b.c[0].relid, b.c[0].gpadl);
	while (!torn) {
		must(fake_now_ns() - before < LATE_NS);
		fake_run(&b.f);
		torn = fake_take(&b.f, &ctl) && ctl.type == VMBUS_CTL_GPADL_TORNDOWN;
	}
	must_eq(cancels, 1);
	must_eq(reads, 1);
	box_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "stalls", 20);

	tcase_add_loop_test(tc, block_vsp__ends_what_stalls_when_the_channel_is_closed, 0, 2);
	tcase_add_test(tc, bus_destroy__ends_what_stalls);
	tcase_add_test(tc, block_vsp__commits_what_begins_within_commit);
	tcase_add_loop_test(tc, block_vsp__lets_go_of_other_disks_while_it_closes, 0, 2);
	tcase_add_test(tc, block_vsp__waits_for_a_store_that_cannot_end);
	tcase_add_test(tc, block_vsp__begins_nothing_after_cancel);
}
VMBUS_TEST_MAIN("block.vsp_stalls", tests)
