/* SPDX-License-Identifier: MIT */
/* Disks that come, go and grow while guests use them; channels that end with requests under way. */
#include "vspbox.h"

#include <pthread.h>

#define ENUMERATE_BUS 11u

/* ---- hot add, remove ---- */

static void told(struct box *b)
{
	struct box_reply r;

	must_eq(box_any(b, 0, &r), VMBUS_PKT_INBAND);
	must_eq(r.op, ENUMERATE_BUS);
	must_eq(r.id, 0);
	must_eq(r.flags, 0);
	must_eq(r.len, b->version < 0x0501 ? 48 : 64);
}

START_TEST(block_add__is_seen_by_guests)
{
	static const uint16_t versions[] = { 0x0200, 0x0402, 0x0501, 0x0602 };
	struct box_srb tur = box_tur(1);
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	b.version = versions[_i];
	box_start(&b, 1);
	box_do(&b, 0, &tur, 0, &r);
	must_eq(r.srb_status, 0x20);
	b.store[1] = box_store(BOX_DISK_BYTES);
	must_eq(box_add(&b, 1), 0);
	must_eq(box_add(&b, 1), VMBUS_E_STATE);
	if (b.version >= 0x0402)
		told(&b);
	box_none(&b, 0);
	box_good(&b, 0, &tur, 0);
	must_eq(vmbus_block_remove(b.block, 0, 1), 0);
	(void)box_command(&b, 0, &tur, 0);
	must(box_any(&b, 0, &r) != 0);
	if (b.version >= 0x0402) { /* in either order */
		const uint32_t op = r.op;

		if (op == ENUMERATE_BUS)
			must_eq(box_any(&b, 0, &r), VMBUS_PKT_COMPLETION);
		else
			told(&b);
	}
	must_eq(r.srb_status, 0x20); /* told or not */
	must_eq(b.removed, 1);
	must_eq(b.removed_ctx, (uint64_t)(uintptr_t)b.store[1].ctx);
	box_end(&b);
	must_eq(b.removed, 2);
}
END_TEST

/* What comes before the guest is ready is not told: it looks by itself. */
START_TEST(block_add__is_not_told_before_the_guest_looks)
{
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	box_begin(&b, 1);
	box_open(&b);
	b.store[1] = box_store(BOX_DISK_BYTES);
	must_eq(box_add(&b, 1), 0);
	box_none(&b, 0);
	must_eq(box_step(&b, 0, 7, 0, &r), 0);
	must_eq(box_step(&b, 0, 9, 0x602, &r), 0);
	must_eq(vmbus_block_resized(b.block, 0, 1), 0);
	must_eq(box_step(&b, 0, 10, 0, &r), 0);
	must_eq(box_step(&b, 0, 8, 0, &r), 0);
	box_none(&b, 0);
	box_good(&b, 0, &(struct box_srb){ .lun = 1, .data_in = 2 }, 0);
	box_end(&b);
}
END_TEST

/* Many changes make one notification. */
START_TEST(block_add__is_told_once)
{
	struct box b;
	uint32_t i;

	box_prepare(&b);
	box_start(&b, 2);
	for (i = 0; i < 10; i++)
		must_eq(vmbus_block_resized(b.block, 0, i % 2), 0);
	told(&b);
	box_none(&b, 0);
	box_end(&b);
}
END_TEST

/* A ring without room: the notification follows. */
START_TEST(block_add__is_told_when_there_is_room)
{
	struct box_srb tur = box_tur(0);
	struct vmbus_packet pkt[64];
	uint32_t tells = 0, answers = 0, sent = 0;
	struct box b;
	int n, i;

	box_prepare(&b);
	box_begin(&b, 1);
	must_eq(fake_open(&b.f, &b.c[0], 16, 2), 0);
	box_init(&b);
	for (; sent < 60; sent++)
		(void)box_command(&b, 0, &tur, 0);
	fake_run(&b.f);
	must_eq(vmbus_block_resized(b.block, 0, 0), 0);
	fake_run(&b.f);
	while ((n = fake_receive(&b.c[0], pkt, 64)) > 0) {
		for (i = 0; i < n; i++)
			if (pkt[i].type == VMBUS_PKT_INBAND)
				tells++;
			else
				answers++;
		fake_run(&b.f);
	}
	must_eq(tells, 1);
	must_eq(answers, sent);
	box_end(&b);
}
END_TEST

/* Removed under load: what is under way ends, what comes is told that there is none. */
START_TEST(block_remove__under_load)
{
	struct box_srb srb = box_rw(1, true, 0, 8), tur = box_tur(1);
	struct vmbus_block_stats stats;
	struct box_reply r;
	struct box b;
	uint64_t first;
	uint32_t i;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_start(&b, 2);
	box_subs(&b, 1);
	box_good(&b, 1, &tur, 0);
	box_stall(&b, 1, true);
	first = b.id;
	for (i = 0; i < 7; i++)
		(void)box_command(&b, i % 2, &srb, 0);
	fake_run(&b.f);
	must_eq(vmbus_block_remove(b.block, 0, 1), 0);
	must_eq(vmbus_block_remove(b.block, 0, 1), VMBUS_E_RANGE);
	must_eq(vmbus_block_stats(b.block, 0, 1, &stats), VMBUS_E_RANGE);
	told(&b);
	must_eq(b.removed, 0);
	must_eq(box_add(&b, 1), VMBUS_E_STATE);
	for (i = 0; i < 2; i++) {
		box_do(&b, i, &tur, 0, &r);
		must_eq(r.srb_status, 0x20);
	}
	box_stall(&b, 1, false);
	for (i = 0; i < 7; i++) {
		box_reply(&b, i % 2, first + i, &r);
		must_eq(r.srb_status, 1);
	}
	must_eq(b.removed, 1);
	must_eq(box_add(&b, 1), 0);
	told(&b);
	box_inquiry(&b, 1, 1);
	box_good(&b, 0, &srb, 0);
	must_eq(vmbus_block_stats(b.block, 0, 1, &stats), 0);
	must_eq(stats.writes, 1); /* since it was added */
	box_end(&b);
}
END_TEST

/* One guest does not let go: the others are done with the disk all the same. */
START_TEST(block_remove__of_a_disk_that_nobody_uses)
{
	struct box b;

	box_prepare(&b);
	box_begin(&b, 2);
	must_eq(vmbus_block_remove(b.block, 0, 1), 0);
	must_eq(b.removed, 1);
	box_open(&b);
	box_init(&b);
	must_eq(vmbus_block_remove(b.block, 0, 0), 0);
	must_eq(b.removed, 1);
	told(&b);
	must_eq(b.removed, 2);
	box_end(&b);
}
END_TEST

/* ---- resize ---- */

static uint64_t capacity(struct box *b, uint32_t chan)
{
	const struct box_srb srb = { .data_in = 1, .bytes = 32, .cdb = { 0x9E, 0x10, [13] = 32 } };
	struct box_reply r;
	uint64_t v = 0;
	uint32_t i;

	box_do(b, chan, &srb, 0, &r);
	must_eq(r.srb_status, 1);
	for (i = 0; i < 8; i++)
		v = v << 8 | box_page(b, 0)[i];
	return v + 1;
}

/* A memory store that grows: the bytes of the one below are told by a variable. */
static struct {
	struct vmbus_store below;
	struct vmbus_store_info info;
	struct vmbus_store_ops ops;
} grows;

static int grows_info(void *ctx, struct vmbus_store_info *info)
{
	(void)ctx;
	*info = grows.info;
	return 0;
}

static struct vmbus_store growing(uint64_t bytes)
{
	must_eq(vmbus_store_memory(1 << 20, -1, &grows.below), 0);
	grows.ops = *grows.below.ops;
	must_eq(grows.below.ops->info(grows.below.ctx, &grows.info), 0);
	grows.ops.info = grows_info;
	grows.info.bytes = bytes;
	return (struct vmbus_store){ &grows.ops, grows.below.ctx };
}

START_TEST(block_resized__is_seen_by_guests)
{
	struct box_srb tur = box_tur(0),
		       inquiry = { .data_in = 1, .bytes = 36, .cdb = { 0x12, [4] = 36 } };
	struct vmbus_block_stats stats;
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_begin(&b, 0);
	b.store[0] = growing(65536);
	must_eq(box_add(&b, 0), 0);
	box_open(&b);
	box_init(&b);
	box_subs(&b, 1);
	must_eq(capacity(&b, 0), 128);
	box_good(&b, 1, &tur, 0);
	grows.info.bytes = (1 << 20) - 100;
	must_eq(vmbus_block_resized(b.block, 0, 0), 0);
	told(&b);
	box_good(&b, 1, &inquiry, 0); /* takes no unit attention, [STOR-EVENT] */
	box_do(&b, 1, &tur, 0, &r);
	box_sense(&r, 0x62A09);
	must_eq(r.srb_status, 0x84);
	box_good(&b, 0, &tur, 0); /* told once for the guest */
	must_eq(capacity(&b, 1), 2047);
	must_eq(vmbus_block_stats(b.block, 0, 0, &stats), 0);
	must_eq(stats.bytes, 2047 * 512);
	must_eq(stats.failed, 1);
	grows.info.bytes = 100;
	must_eq(vmbus_block_resized(b.block, 0, 0), VMBUS_E_RANGE);
	must_eq(capacity(&b, 1), 2047);
	box_end(&b);
}
END_TEST

/* Other limits than before: two unit attentions, and counters go on. */
START_TEST(block_resized__takes_other_limits)
{
	struct box_srb tur = box_tur(0), write = box_rw(0, true, 0, 8);
	struct vmbus_block_stats stats;
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	box_begin(&b, 0);
	b.store[0] = growing(1 << 20);
	must_eq(box_add(&b, 0), 0);
	box_open(&b);
	box_init(&b);
	box_good(&b, 0, &write, 0);
	grows.info.flags |= VMBUS_STORE_READ_ONLY;
	must_eq(vmbus_block_resized(b.block, 0, 0), 0);
	told(&b);
	box_do(&b, 0, &tur, 0, &r);
	box_sense(&r, 0x62A09);
	box_do(&b, 0, &tur, 0, &r);
	box_sense(&r, 0x63F01);
	box_good(&b, 0, &tur, 0);
	box_do(&b, 0, &write, 0, &r);
	box_sense(&r, 0x72700);
	grows.info.flags &= ~VMBUS_STORE_READ_ONLY;
	must_eq(vmbus_block_resized(b.block, 0, 0), 0);
	told(&b);
	box_do(&b, 0, &tur, 0, &r);
	box_do(&b, 0, &tur, 0, &r);
	box_good(&b, 0, &write, 0);
	must_eq(vmbus_block_stats(b.block, 0, 0, &stats), 0);
	must_eq(stats.writes, 2);
	must_eq(stats.failed, 5);
	must_eq(b.removed, 0);
	must_eq(vmbus_block_remove(b.block, 0, 0), 0);
	told(&b);
	must_eq(b.removed, 1);
	box_end(&b);
}
END_TEST

/* A store that cannot be opened: BUSY, tried once in a callback, and told. */
static uint32_t opens, lines;

static int no_open(struct vmbus_store_queue *queue)
{
	(void)queue;
	return opens++ < 2 ? VMBUS_E_SYSTEM : 0;
}

static void count_line(void *ctx, const char *line)
{
	(void)ctx;
	must(strstr(line, "disk 0:0") && strstr(line, "bad") && strstr(line, "SYSTEM"));
	lines++;
}

START_TEST(block_vsp__tries_to_open_a_store_again)
{
	struct vmbus_store_info info = { .bytes = 1 << 20 };
	struct vmbus_store_ops ops = box_bad_ops;
	const struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk),
					       .store = { &ops, &info } };
	struct box_srb tur = box_tur(0);
	struct box_reply r;
	struct box b;
	uint32_t i, round;

	box_prepare(&b);
	b.opts.log = count_line;
	box_start(&b, 0);
	ops.open = no_open;
	must_eq(vmbus_block_add(b.block, &disk), 0);
	must_eq(box_any(&b, 0, &r), VMBUS_PKT_INBAND);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 10; i++)
			(void)box_command(&b, 0, &tur, 0);
		for (i = 0; i < 10; i++) {
			must_eq(box_any(&b, 0, &r), VMBUS_PKT_COMPLETION);
			must_eq(r.scsi_status, round < 2 ? 8 : 0);
		}
	}
	must_eq(opens, 3);
	must_eq(lines, 2);
	box_end(&b);
}
END_TEST

/* What memory copies in one callback is charged, beyond what is free. */
START_TEST(block_vsp__is_charged_for_what_it_moves)
{
	struct box_srb srb = box_rw(0, true, 0, 2040), small = box_rw(0, true, 0, 8);
	struct vmbus_bus_stats before, after;
	struct box_reply r;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	box_start(&b, 1);
	vmbus_bus_stats(b.f.bus, &before);
	for (i = 0; i < 20; i++)
		(void)box_command(&b, 0, &small, 0);
	for (i = 0; i < 20; i++)
		must_eq(box_any(&b, 0, &r), VMBUS_PKT_COMPLETION);
	vmbus_bus_stats(b.f.bus, &after);
	must(after.charged - before.charged < 100);
	for (i = 0; i < 3; i++)
		(void)box_command(&b, 0, &srb, 0);
	for (i = 0; i < 3; i++)
		must_eq(box_any(&b, 0, &r), VMBUS_PKT_COMPLETION);
	vmbus_bus_stats(b.f.bus, &before);
	must(before.charged - after.charged > (3 * 2040 - 1024) * 512 / 2048);
	box_end(&b);
}
END_TEST

/* And what is compared when the store answers later. */
START_TEST(block_vsp__is_charged_for_what_it_compares)
{
	/* VERIFY of 1 MiB with the buffer */
	struct box_srb srb = { .bytes = 2040 * 512,
			       .cdb = { 0x2F, 0x02, [7] = 2040 >> 8, [8] = 2040 & 0xFF } };
	struct vmbus_bus_stats before, after;
	struct box_reply r;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	box_start(&b, 1);
	box_stall(&b, 0, true);
	for (i = 0; i < 3; i++)
		(void)box_command(&b, 0, &srb, 0);
	fake_run(&b.f);
	vmbus_bus_stats(b.f.bus, &before);
	box_stall(&b, 0, false);
	for (i = 0; i < 3; i++) {
		must_eq(box_any(&b, 0, &r), VMBUS_PKT_COMPLETION);
		must_eq(r.scsi_status, 0);
	}
	vmbus_bus_stats(b.f.bus, &after);
	/* perhaps each in a callback of its own */
	must(after.charged - before.charged > 3 * (2040 - 1024) * 512 / 2048 - 10);
	box_end(&b);
}
END_TEST

/* UNMAP of 512 MiB; its list is at page 0. */
static void large_unmap(struct box *b, struct box_srb *srb)
{
	uint8_t *const list = box_page(b, 0);

	*srb = (struct box_srb){ .bytes = 24, .cdb = { 0x42, [8] = 24 } };
	memset(list, 0, 24);
	list[1] = 22;
	list[3] = 16;
	list[17] = 0x10; /* 1048576 sectors */
}

/* What is discarded too, and one callback does not all that it brings; nor what was held. */
START_TEST(block_vsp__does_no_more_in_a_callback_than_its_limit)
{
	struct vmbus_bus_stats before, after;
	uint32_t done = 0, full = 0, i;
	struct box_reply r;
	struct box_srb srb;
	struct box b;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_begin(&b, 0);
	must_eq(vmbus_store_memory(UINT64_C(2) << 30, -1, &b.store[0]), 0);
	must_eq(box_add(&b, 0), 0);
	box_open(&b);
	must_eq(box_step(&b, 0, 7, 0, &r), 0);
	must_eq(box_step(&b, 0, 9, b.version, &r), 0);
	must_eq(box_step(&b, 0, 10, 0, &r), 0);
	box_subs(&b, 1);
	if (!_i)
		must_eq(box_step(&b, 0, 8, 0, &r), 0);
	large_unmap(&b, &srb);
	vmbus_bus_stats(b.f.bus, &before);
	for (i = 0; i < 8; i++)
		(void)box_command(&b, 1, &srb, 0);
	if (_i) {
		box_none(&b, 1);
		must_eq(box_step(&b, 0, 8, 0, &r), 0);
	}
	for (i = 0; i < 8; i++) {
		must_eq(box_any(&b, 1, &r), VMBUS_PKT_COMPLETION);
		done += r.scsi_status == 0;
		full += r.scsi_status == 0x28;
	}
	must_eq(done, 2);
	must_eq(full, 6);
	vmbus_bus_stats(b.f.bus, &after);
	must(after.charged - before.charged > (1u << 30) / 2048 - 300);
	box_good(&b, 1, &srb, 0);
	box_end(&b);
}
END_TEST

/* ---- several guests ---- */

/* Two primary channels are two guests: each is told, and has unit attentions of its own. */
START_TEST(block_vsp__serves_several_guests)
{
	struct box_srb tur = box_tur(0), write = box_rw(0, true, 0, 8);
	struct vmbus_block_stats stats;
	struct box_reply r;
	struct box b;
	uint32_t i, op;
	static const uint8_t ops[] = { 7, 9, 10, 8 };

	box_prepare(&b);
	fake_init(&b.f, 1024);
	box_disks(&b, 1);
	(void)fake_offer(&b.f, vmbus_block_vsp(), b.block, 0);
	(void)fake_offer(&b.f, vmbus_block_vsp(), b.block, 1);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, b.c, 2), 2);
	b.data = fake_pages(&b.f, BOX_DATA_PAGES);
	for (i = 0; i < 2; i++) {
		must_eq(fake_open(&b.f, &b.c[i], 17, i ? 9 : 2), 0);
		for (op = 0; op < 4; op++)
			must_eq(box_step(&b, i, ops[op], 0x0602, &r), 0);
	}
	must_eq(vmbus_block_resized(b.block, 0, 0), 0);
	for (i = 0; i < 2; i++) {
		must_eq(box_any(&b, i, &r), VMBUS_PKT_INBAND);
		must_eq(r.op, ENUMERATE_BUS);
		box_do(&b, i, &tur, 0, &r);
		box_sense(&r, 0x62A09);
		box_good(&b, i, &tur, 0);
	}
	/* The first one does not read: its answers fill its ring, and the other one goes on. */
	for (i = 0; i < 80; i++)
		(void)box_command(&b, 0, &write, 0);
	for (i = 0; i < 20; i++)
		box_good(&b, 1, &write, 0);
	must_eq(vmbus_block_remove(b.block, 0, 0), 0);
	must_eq(box_any(&b, 1, &r), VMBUS_PKT_INBAND);
	box_do(&b, 1, &tur, 0, &r);
	must_eq(r.srb_status, 0x20);
	must_eq(b.removed, 0); /* as vmbus_block(7) says */
	fake_post_close(&b.f, &b.c[0]);
	fake_run(&b.f);
	must_eq(b.removed, 1);
	must_eq(vmbus_block_stats(b.block, 0, 0, &stats), VMBUS_E_RANGE);
	box_end(&b);
}
END_TEST

/* ---- the end with requests under way ---- */

/* The guest closes: its answer waits for the store; or all ends at once. */
START_TEST(block_vsp__waits_for_its_store)
{
	struct box_srb srb = box_rw(0, true, 0, 8);
	struct vmbus_ctl ctl;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	box_start(&b, 1);
	box_stall(&b, 0, true);
	fake_run(&b.f);
	for (i = 0; i < 3; i++)
		(void)box_command(&b, 0, &srb, 0);
	fake_run(&b.f);
	must(vmbus_region_pins(&b.f.region) > 0);
	fake_post_close(&b.f, &b.c[0]);
	fake_post_teardown(&b.f, b.c[0].relid, b.c[0].gpadl);
	fake_expect_none(&b.f);
	if (_i == 1) { /* a disk that goes in that time */
		must_eq(vmbus_block_remove(b.block, 0, 0), 0);
		fake_expect_none(&b.f);
		must_eq(b.removed, 0);
	}
	box_stall(&b, 0, false);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(b.removed, _i);
	fake_chan_free(&b.c[0]);
	b.c[0].first = 0;
	if (_i == 0) { /* and a new beginning */
		box_open(&b);
		box_init(&b);
		box_good(&b, 0, &srb, 0);
	}
	box_end(&b);
	must_eq(vmbus_region_pins(&b.f.region), 0);
}
END_TEST

static void *unstall(void *ctx)
{
	const struct timespec t = { .tv_nsec = 50000000 };

	nanosleep(&t, NULL); /* so that the bus is in its end by then, whichever way */
	box_stall(ctx, 0, false);
	return NULL;
}

START_TEST(block_vsp__ends_with_requests_under_way)
{
	struct box_srb srb = box_rw(0, true, 0, 8);
	pthread_t thread;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	box_start(&b, 1);
	box_stall(&b, 0, true);
	for (i = 0; i < 3; i++)
		(void)box_command(&b, 0, &srb, 0);
	fake_run(&b.f);
	must_eq(pthread_create(&thread, NULL, unstall, &b), 0);
	vmbus_bus_destroy(b.f.bus);
	b.f.bus = NULL;
	must_eq(vmbus_region_pins(&b.f.region), 0);
	must_eq(pthread_join(thread, NULL), 0);
	box_end(&b);
}
END_TEST

/* Errors of the store reach the guest with their sense, and only the one that failed. */
START_TEST(block_vsp__tells_of_medium_errors)
{
	const struct vmbus_store_faults faults = {
		.from = 4096 + 1024, .bytes = 512, .ops = 3, .end = VMBUS_IO_MEDIUM
	};
	struct box_srb bad = box_rw(0, _i, 8, 8), good = box_rw(0, _i, 16, 8);
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	box_start(&b, 1);
	box_faults(&b, 0, &faults);
	box_do(&b, 0, &bad, 0, &r);
	box_sense(&r, _i ? 0x30C00 : 0x31100);
	must_eq(r.sense[0], 0xF0);
	must_eq(r.sense[6], 10);
	must_eq(r.sense_len, 20);
	must_eq(r.bytes, 0);
	box_good(&b, 0, &good, 0);
	box_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "disks", 10);

	tcase_add_loop_test(tc, block_add__is_seen_by_guests, 0, 4);
	tcase_add_test(tc, block_add__is_not_told_before_the_guest_looks);
	tcase_add_test(tc, block_add__is_told_once);
	tcase_add_test(tc, block_add__is_told_when_there_is_room);
	tcase_add_test(tc, block_remove__under_load);
	tcase_add_test(tc, block_remove__of_a_disk_that_nobody_uses);
	tcase_add_test(tc, block_resized__is_seen_by_guests);
	tcase_add_test(tc, block_resized__takes_other_limits);
	tcase_add_test(tc, block_vsp__tries_to_open_a_store_again);
	tcase_add_test(tc, block_vsp__is_charged_for_what_it_moves);
	tcase_add_test(tc, block_vsp__is_charged_for_what_it_compares);
	tcase_add_loop_test(tc, block_vsp__does_no_more_in_a_callback_than_its_limit, 0, 2);
	tcase_add_test(tc, block_vsp__serves_several_guests);
	tcase_add_loop_test(tc, block_vsp__waits_for_its_store, 0, 2);
	tcase_add_test(tc, block_vsp__ends_with_requests_under_way);
	tcase_add_loop_test(tc, block_vsp__tells_of_medium_errors, 0, 2);
}
VMBUS_TEST_MAIN("block.vsp_disks", tests)
