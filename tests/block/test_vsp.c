/* SPDX-License-Identifier: MIT */
/* The protocol of the block device's provider: initialisation, requests, buffers, refusals. */
#include "vspbox.h"

#define STATE 0xC0000184u
#define PARAMETER 0xC000000Du
#define MISMATCH 0xC0000059u
#define IO_ERROR 0xC0000185u
#define BUSY 0x80000011u

/* ---- the initialisation, [STOR-INIT] ---- */

START_TEST(block_vsp__agrees_on_each_version)
{
	static const uint16_t versions[] = { 0x0200, 0x0402, 0x0501, 0x0600, 0x0602 };
	const uint16_t version = versions[_i];
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	b.opts.subchannels = 3;
	b.version = version;
	box_begin(&b, 1);
	box_open(&b);
	must_eq(box_step(&b, 0, 7, 0, &r), 0);
	must_eq(box_step(&b, 0, 9, 0x0603, &r), MISMATCH);
	must_eq(box_get(r.raw + 12, 2), 0x0603);
	must_eq(box_step(&b, 0, 9, version, &r), 0);
	must_eq(box_get(r.raw + 12, 2), version);
	must_eq(box_step(&b, 0, 10, 0, &r), 0);
	must_eq(box_get(r.raw + 12, 4), 0);
	must_eq(box_get(r.raw + 16, 2), version < 0x0501 ? 0 : 3);
	must_eq(box_get(r.raw + 20, 4), version < 0x0501 ? 0 : 1);
	must_eq(box_get(r.raw + 24, 4), 1 << 20);
	must_eq(box_get(r.raw + 28, 8), 0);
	must_eq(box_step(&b, 0, 8, 0, &r), 0);
	must_eq(box_step(&b, 0, 13, 3, &r), version < 0x0501 ? PARAMETER : 0);
	box_end(&b);
}
END_TEST

START_TEST(block_vsp__tells_of_no_subchannels)
{
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	b.opts.transfer_bytes = 65536;
	box_begin(&b, 0);
	box_open(&b);
	must_eq(box_step(&b, 0, 7, 0, &r), 0);
	must_eq(box_step(&b, 0, 9, 0x0602, &r), 0);
	must_eq(box_step(&b, 0, 10, 0, &r), 0);
	must_eq(box_get(r.raw + 16, 2), 0);
	must_eq(box_get(r.raw + 20, 4), 0);
	must_eq(box_get(r.raw + 24, 4), 65536);
	must_eq(box_step(&b, 0, 13, 1, &r), PARAMETER);
	box_end(&b);
}
END_TEST

/* Every message in every state but the right one. */
START_TEST(block_vsp__refuses_steps_out_of_order)
{
	static const uint8_t order[] = { 7, 9, 10, 8 };
	struct box_reply r;
	struct box b;
	uint32_t state, op;

	box_prepare(&b);
	b.opts.subchannels = 2;
	box_begin(&b, 1);
	box_open(&b);
	for (state = 0; state <= 4; state++) {
		for (op = 0; op < 32; op++) {
			vmbus_test_at("state %u, message %u", state, op);
			if (state < 4 && op == order[state])
				continue;
			if (op == 3)
				continue; /* an SRB, below */
			if (op == 13 && state >= 3)
				continue;
			if (op >= 4 && op <= 6)
				must_eq(box_step(&b, 0, op, 0x0602, &r), state == 4 ? 0 : STATE);
			else
				must_eq(box_step(&b, 0, op, 0x0602, &r), STATE);
		}
		if (state < 4) {
			must_eq(box_step(&b, 0, 3, 0, &r), STATE);
			must_eq(box_step(&b, 0, order[state], 0x0602, &r), 0);
		}
	}
	box_good(&b, 0, &(struct box_srb){ .data_in = 2 }, 0);
	box_end(&b);
}
END_TEST

/* Payloads of every length, [STOR-FRAME]: the answer is as long, and never longer than 64 bytes. */
START_TEST(lesson_11_short_messages)
{
	uint8_t msg[256] = { 0 };
	struct box_reply r;
	struct box b;
	uint32_t len, op;

	for (op = 3; op < 15; op++)
		for (len = 16; len <= 256; len += 8) {
			vmbus_test_at("message %u of %u bytes", op, len);
			box_prepare(&b);
			box_begin(&b, 1);
			box_open(&b);
			memset(msg, 0, sizeof(msg));
			box_put(msg, 4, op);
			box_send_pkt(&b, 0, 5, msg, len, NULL, 0);
			box_reply(&b, 0, 5, &r);
			must_eq(r.len, len < 64 ? len : 64);
			must_eq(r.status, op == 7 ? 0 : STATE);
			box_end(&b);
		}
}
END_TEST

START_TEST(block_vsp__refuses_a_short_srb)
{
	struct box_reply r;
	uint8_t msg[64];
	struct box b;
	uint32_t len;

	box_prepare(&b);
	box_start(&b, 1);
	for (len = 16; len <= 64; len += 8) {
		const struct box_srb srb = box_tur(0);

		box_srb(msg, &srb);
		box_send_pkt(&b, 0, len, msg, len, NULL, 0);
		box_reply(&b, 0, len, &r);
		must_eq(r.len, len);
		must_eq(r.status, len < 48 ? PARAMETER : 0);
	}
	box_end(&b);
}
END_TEST

/* What cannot be answered, or is no request. */
START_TEST(block_vsp__ignores_or_ends)
{
	struct vmbus_msg msg = { .id = 9, .len = 64, .type = VMBUS_PKT_INBAND };
	uint8_t data[264] = { 3 };
	struct vmbus_ctl ctl;
	struct box b;

	box_prepare(&b);
	box_start(&b, 1);
	msg.data = data;
	must_eq(vmbus_ring_tx_put(&b.c[0].tx, &msg, 1), 1); /* nobody asked for an answer */
	box_none(&b, 0);
	msg.type = VMBUS_PKT_COMPLETION;
	must_eq(vmbus_ring_tx_put(&b.c[0].tx, &msg, 1), 1);
	box_none(&b, 0);
	box_good(&b, 0, &(struct box_srb){ .data_in = 2 }, 0);
	msg.flags = VMBUS_PKT_FLAG_COMPLETE;
	msg.type = VMBUS_PKT_INBAND;
	if (_i == 0)
		msg.len = 8;
	else if (_i == 1)
		msg.len = 264;
	else
		msg.type = VMBUS_PKT_CANCEL;
	if (_i == 2) {
		msg.ext = data;
		msg.ext_len = 8;
	}
	must_eq(vmbus_ring_tx_put(&b.c[0].tx, &msg, 1), 1);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl);
	box_end(&b);
}
END_TEST

/* ---- requests ---- */

/* The vectors of vmbus_wire(7), byte for byte. */
START_TEST(block_vsp__answers_the_test_vector)
{
	static const uint8_t request[] = {
		0x03, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x34,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x0a, 0x14, 0x01, 0x00, 0x00, 0x10,
		0x00, 0x00, 0x28, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00,
		0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0x20,
		0x4a, 0x01, 0x00, 0x00, 0x3c, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	};
	static const uint8_t answer[64] = {
		0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x34, 0x00,
		0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x14, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00,
	};
	struct box_reply r;
	uint8_t ext[64];
	struct box b;
	uint32_t n;

	box_prepare(&b);
	box_begin(&b, 0);
	must_eq(vmbus_store_memory(4 << 20, -1, &b.store[1]), 0);
	must_eq(box_add(&b, 1), 0);
	box_open(&b);
	box_init(&b);
	n = box_range(ext, b.data, 0, 4096);
	memset(box_page(&b, 0), 0x55, 4096);
	must_eq(sizeof(request), 64);
	box_send_pkt(&b, 0, 6, request, 64, ext, n);
	box_reply(&b, 0, 6, &r);
	must_eq(r.len, 64);
	must_eq(memcmp(r.raw, answer, 64), 0);
	for (n = 0; n < 4096; n++)
		must_eq(box_page(&b, 0)[n], 0);
	box_end(&b);
}
END_TEST

static void fill(uint8_t *to, uint32_t bytes, uint32_t seed)
{
	uint32_t i;

	for (i = 0; i < bytes; i++)
		to[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

/* Sizes and offsets of buffers, below and above what a task has room for. */
START_TEST(block_vsp__reads_what_was_written)
{
	static const uint32_t sizes[] = {
		1, 2, 7, 8, 9, 16, 63, 64, 65, 72, 128, 1000, 2047, 2048
	};
	static const uint32_t offsets[] = { 0, 1, 512, 4095 };
	uint8_t msg[64], ext[32 + 8 * BOX_DATA_PAGES], was[2048 * 512];
	struct box_reply r;
	struct box b;
	uint32_t s, o, n;

	box_prepare(&b);
	box_start(&b, 1);
	for (s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		for (o = 0; o < 4; o++) {
			const uint32_t bytes = sizes[s] * 512;
			struct box_srb srb = box_rw(0, true, 2048 - sizes[s], sizes[s]);

			vmbus_test_at("%u bytes at %u", bytes, offsets[o]);
			n = box_range(ext, b.data, offsets[o], bytes);
			fill(box_page(&b, 0) + offsets[o], bytes, s * 4 + o);
			memcpy(was, box_page(&b, 0) + offsets[o], bytes);
			box_srb(msg, &srb);
			box_send_pkt(&b, 0, 100, msg, 64, ext, n);
			box_reply(&b, 0, 100, &r);
			must_eq(r.srb_status, 1);
			must_eq(r.bytes, bytes);
			memset(box_page(&b, 0), 0, bytes + 8192);
			srb = box_rw(0, false, 2048 - sizes[s], sizes[s]);
			box_srb(msg, &srb);
			box_send_pkt(&b, 0, 101, msg, 64, ext, n);
			box_reply(&b, 0, 101, &r);
			must_eq(r.srb_status, 1);
			must_eq(memcmp(was, box_page(&b, 0) + offsets[o], bytes), 0);
		}
	box_end(&b);
}
END_TEST

/* The pages of a buffer in any order. */
START_TEST(block_vsp__takes_pages_in_any_order)
{
	const struct vmbus_wire_ext head = { .range_count = 1 };
	struct box_srb srb = box_rw(0, true, 0, 256);
	uint64_t pfns[32];
	uint8_t msg[64], ext[512];
	struct box_reply r;
	struct box b;
	uint32_t i;

	box_prepare(&b);
	box_start(&b, 1);
	for (i = 0; i < 32; i++) {
		pfns[i] = b.data + i * 37 % 64;
		fill(b.f.mem + pfns[i] * FAKE_PAGE, 4096, i);
	}
	box_srb(msg, &srb);
	must_eq(vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &head, ext, 8), 8);
	must_eq(vmbus_wire_range_put(131072, 0, pfns, ext + 8, 504), 8 + 32 * 8);
	box_send_pkt(&b, 0, 3, msg, 64, ext, 16 + 32 * 8);
	box_reply(&b, 0, 3, &r);
	must_eq(r.srb_status, 1);
	srb = box_rw(0, false, 0, 256);
	box_good(&b, 0, &srb, 100);
	for (i = 0; i < 32; i++)
		must_eq(memcmp(box_page(&b, 100 + i), b.f.mem + pfns[i] * FAKE_PAGE, 4096), 0);
	box_end(&b);
}
END_TEST

/* Buffers that cannot be, [STOR-DATA]: each is refused with 5/24/00, and the channel goes on. */
START_TEST(block_vsp__refuses_buffers)
{
	static const struct {
		const char *what;
		uint32_t bytes, range, offset, ranges, data_in;
		uint64_t pfn;
		bool good;
	} cases[] = {
		{ "as it must be", 4096, 4096, 0, 1, 1, 0, true },
		{ "no direction told", 4096, 4096, 0, 1, 2, 0, true },
		{ "a longer range", 4096, 8192, 0, 1, 1, 0, true },
		{ "no range", 4096, 0, 0, 0, 1, 0, false },
		{ "a shorter range", 4096, 4095, 0, 1, 1, 0, false },
		{ "two ranges", 4096, 4096, 0, 2, 1, 0, false },
		{ "ranges beyond count", 4096, 4096, 0, 0xFFFFFFFF, 1, 0, false },
		{ "the wrong direction", 4096, 4096, 0, 1, 0, 0, false },
		{ "no memory", 4096, 4096, 0, 1, 1, 1 << 20, false },
		{ "a page past all", 4096, 4096, 0, 1, 1, UINT64_MAX, false },
		{ "more than agreed on", (1 << 20) + 4096, 4096, 0, 1, 1, 0, false },
		{ "4 GiB", 0xFFFFFE00, 4096, 0, 1, 1, 0, false },
	};
	struct box b;
	uint32_t i;

	box_prepare(&b);
	box_start(&b, 1);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct box_srb srb = box_rw(0, false, 0, 8);
		uint8_t msg[64], ext[128];
		struct box_reply r;
		uint32_t n = 0;

		vmbus_test_at("%s", cases[i].what);
		srb.bytes = cases[i].bytes;
		srb.data_in = (uint8_t)cases[i].data_in;
		box_srb(msg, &srb);
		if (cases[i].range) {
			n = box_range(ext, b.data, cases[i].offset, cases[i].range);
			box_put(ext + 4, 4, cases[i].ranges);
			if (cases[i].pfn)
				box_put(ext + 16, 8, cases[i].pfn);
		}
		box_send_pkt(&b, 0, 70 + i, msg, 64, ext, n);
		box_reply(&b, 0, 70 + i, &r);
		if (cases[i].good) {
			must_eq(r.srb_status, 1);
			must_eq(r.bytes, 4096);
			continue;
		}
		must_eq(r.srb_status, 0x86);
		box_sense(&r, 0x52400);
		must_eq(r.status, IO_ERROR);
		must_eq(r.bytes, 0);
	}
	box_end(&b);
}
END_TEST

/* A page list that has more pages than a request may have. */
START_TEST(block_vsp__refuses_a_long_page_list)
{
	struct box_srb srb = box_rw(0, false, 0, 8);
	uint8_t msg[64], ext[32 + 8 * BOX_DATA_PAGES];
	struct box_reply r;
	struct box b;
	uint32_t pages;

	box_prepare(&b);
	b.opts.transfer_bytes = 65536;
	box_start(&b, 1);
	box_srb(msg, &srb);
	for (pages = 14; pages < 20; pages++) {
		uint32_t n = box_range(ext, b.data, 0, pages * 4096);

		box_send_pkt(&b, 0, pages, msg, 64, ext, n);
		box_reply(&b, 0, pages, &r);
		must_eq(r.srb_status, pages <= 17 ? 1 : 0x86);
		srb = box_rw(0, false, 0, pages * 8); /* and all of it */
		box_srb(msg, &srb);
		n = box_range(ext, b.data, 0, pages * 4096);
		box_send_pkt(&b, 0, pages, msg, 64, ext, n);
		box_reply(&b, 0, pages, &r);
		must_eq(r.srb_status, pages <= 16 ? 1 : 0x86);
		srb = box_rw(0, false, 0, 8);
		box_srb(msg, &srb);
	}
	/* Two ranges, each as it must be. */
	pages = box_range(ext, b.data, 0, 4096);
	pages += box_range(ext + pages - 8, b.data + 1, 0, 4096) - 8;
	(void)box_range(ext, b.data, 0, 4096);
	box_put(ext + 4, 4, 2);
	box_send_pkt(&b, 0, 99, msg, 64, ext, pages);
	box_reply(&b, 0, 99, &r);
	must_eq(r.srb_status, 0x86);
	box_end(&b);
}
END_TEST

/* ---- addresses ---- */

START_TEST(block_vsp__finds_disks_by_their_exact_address)
{
	struct box_reply r;
	struct box b;
	uint32_t p, t, l;

	box_prepare(&b);
	box_start(&b, 2);
	for (p = 0; p < 9; p++)
		for (t = 0; t < 4; t++)
			for (l = 0; l < 256; l += l < 3 ? 1 : 84) {
				struct box_srb srb = box_tur((uint8_t)l);

				vmbus_test_at("path %u, target %u, LUN %u", p, t, l);
				srb.path = (uint8_t)p;
				srb.target = (uint8_t)t;
				box_do(&b, 0, &srb, 0, &r);
				if (p == 0 && t == 0 && l < 2) {
					must_eq(r.srb_status, 1);
					must_eq(r.scsi_status, 0);
					continue;
				}
				must_eq(r.srb_status, 0x20);
				must_eq(r.scsi_status, 2);
				must_eq(r.status, 0xC00000C0u);
			}
	box_end(&b);
}
END_TEST

/* REPORT LUNS tells of that path and target, absent or not. */
START_TEST(block_vsp__reports_luns)
{
	struct box_srb srb = { .data_in = 1, .bytes = 256, .cdb = { 0xA0, [9] = 255 } };
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk), .target = 1, .lun = 200 };
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	box_start(&b, 2);
	disk.store = b.store[2] = box_store(BOX_DISK_BYTES);
	must_eq(vmbus_block_add(b.block, &disk), 0);
	must_eq(box_any(&b, 0, &r), VMBUS_PKT_INBAND);
	srb.bytes = 255;
	box_do(&b, 0, &srb, 0, &r);
	must_eq(r.srb_status, 1);
	must_eq(box_page(&b, 0)[3], 16);
	must_eq(box_page(&b, 0)[8 + 1], 0);
	must_eq(box_page(&b, 0)[16 + 1], 1);
	srb.target = 1;
	srb.lun = 9;
	box_do(&b, 0, &srb, 0, &r);
	must_eq(r.srb_status, 1);
	must_eq(box_page(&b, 0)[3], 8);
	must_eq(box_page(&b, 0)[8 + 1], 200);
	srb.path = 3;
	srb.target = 0;
	box_do(&b, 0, &srb, 0, &r);
	must_eq(r.srb_status, 1);
	must_eq(box_page(&b, 0)[3], 0);
	box_end(&b);
}
END_TEST

/* ---- limits; how they are told: [STOR-STATUS] ---- */

/* One disk that stalls: above its depth it is full, and the other one goes on. */
START_TEST(block_vsp__limits_each_disk)
{
	struct box_srb srb = box_rw(0, true, 0, 8), other = box_rw(1, true, 0, 8);
	struct vmbus_block_stats stats;
	struct box_reply r;
	struct box b;
	uint64_t id;
	uint32_t i;

	box_prepare(&b);
	b.opts.depth = 5;
	box_start(&b, 2);
	box_stall(&b, 0, true);
	for (i = 0; i < 5; i++)
		(void)box_command(&b, 0, &srb, 0);
	box_none(&b, 0);
	must_eq(vmbus_block_stats(b.block, 0, 0, &stats), 0);
	must_eq(stats.in_flight, 5);
	for (i = 0; i < 20; i++) {
		box_do(&b, 0, &srb, 0, &r);
		must_eq(r.scsi_status, 0x28);
		must_eq(r.srb_status, 0x05);
		must_eq(r.status, BUSY);
		box_good(&b, 0, &other, 1);
	}
	id = b.id - 45;
	box_stall(&b, 0, false);
	for (i = 0; i < 5; i++) {
		box_reply(&b, 0, id + i, &r);
		must_eq(r.srb_status, 1);
	}
	box_none(&b, 0);
	must_eq(vmbus_block_stats(b.block, 0, 0, &stats), 0);
	must_eq(stats.in_flight, 0);
	must_eq(stats.writes, 5);
	must_eq(stats.written_bytes, 5 * 4096);
	must_eq(stats.refused, 20);
	must_eq(vmbus_block_stats(b.block, 0, 1, &stats), 0);
	must_eq(stats.writes, 20);
	must_eq(stats.bytes, BOX_DISK_BYTES);
	box_end(&b);
}
END_TEST

/* All requests of a channel are under way: what comes is told to come again. */
START_TEST(lesson_14_more_requests_than_a_channel_has)
{
	struct box_srb srb = box_rw(0, true, 0, 1);
	struct box_reply r;
	struct box b;
	uint32_t i, got;

	box_prepare(&b);
	b.opts.requests = 10;
	box_start(&b, 1);
	box_stall(&b, 0, true);
	for (i = 0; i < 100; i++)
		(void)box_command(&b, 0, &srb, 0);
	for (i = 0; i < 90; i++) {
		must_eq(box_any(&b, 0, &r), VMBUS_PKT_COMPLETION);
		must_eq(r.scsi_status, 8);
		must_eq(r.srb_status, 5);
		must_eq(r.status, BUSY);
	}
	box_none(&b, 0);
	box_stall(&b, 0, false);
	for (got = 0; got < 10; got++) {
		must_eq(box_any(&b, 0, &r), VMBUS_PKT_COMPLETION);
		must_eq(r.scsi_status, 0);
	}
	box_none(&b, 0);
	box_end(&b);
}
END_TEST

/* Large buffers have a limit of their own. */
START_TEST(block_vsp__limits_large_buffers)
{
	struct box_srb srb = box_rw(0, true, 0, 128), small = box_rw(0, true, 0, 8);
	struct box_reply r;
	struct box b;
	uint32_t i, round;

	box_prepare(&b);
	b.opts.requests = 1024;
	b.opts.depth = 1024;
	box_start(&b, 1);
	for (round = 0; round < 3; round++) {
		box_stall(&b, 0, true);
		for (i = 0; i < 256; i++) {
			(void)box_command(&b, 0, &srb, 0);
			if (i % 32 == 31)
				box_none(&b, 0);
		}
		box_do(&b, 0, &srb, 0, &r);
		must_eq(r.scsi_status, 8);
		(void)box_command(&b, 0, &small, 0);
		box_none(&b, 0);
		box_stall(&b, 0, false);
		for (i = 0; i < 257; i++) {
			must_eq(box_any(&b, 0, &r), VMBUS_PKT_COMPLETION);
			must_eq(r.srb_status, 1);
		}
		box_none(&b, 0);
	}
	box_end(&b);
}
END_TEST

/* A guest that does not read its answers: they are kept, and nothing is lost. */
START_TEST(block_vsp__keeps_answers_while_the_ring_is_full)
{
	struct box_srb srb = box_rw(0, true, 0, 1);
	uint64_t sent = 0, got = 0, first;
	struct vmbus_packet pkt[64];
	struct box b;
	uint8_t msg[64], ext[64];
	uint32_t n;

	box_prepare(&b);
	box_begin(&b, 1);
	must_eq(fake_open(&b.f, &b.c[0], 32, 2), 0);
	box_init(&b);
	box_srb(msg, &srb);
	n = box_range(ext, b.data, 0, 512);
	first = b.id;
	while (got < 5000) {
		const struct vmbus_msg m = { .id = b.id,
					     .data = msg,
					     .len = 64,
					     .ext = ext,
					     .ext_len = n,
					     .type = VMBUS_PKT_GPA_DIRECT,
					     .flags = VMBUS_PKT_FLAG_COMPLETE };
		int i, k;

		if (sent < 5000 && vmbus_ring_tx_put(&b.c[0].tx, &m, 1) == 1) {
			b.id++;
			sent++;
		}
		if (m.id != b.id && sent % 40)
			continue; /* the ring has room still */
		fake_run(&b.f);
		if (m.id != b.id)
			continue; /* and the answers are not read */
		while ((i = fake_receive(&b.c[0], pkt, 64)) > 0) {
			for (k = 0; k < i; k++)
				must_eq(pkt[k].id, first + got++);
			fake_run(&b.f);
		}
	}
	box_none(&b, 0);
	box_end(&b);
}
END_TEST

/* ---- sub-channels, [STOR-SUB] ---- */

START_TEST(block_vsp__serves_sub_channels)
{
	struct box_srb srb = box_rw(0, true, 0, 8);
	struct vmbus_block_stats stats;
	struct vmbus_ctl ctl;
	struct box_reply r;
	struct box b;
	uint32_t i, op;

	box_prepare(&b);
	b.opts.subchannels = 3;
	box_start(&b, 1);
	must_eq(box_step(&b, 0, 13, 0, &r), PARAMETER);
	must_eq(box_step(&b, 0, 13, 4, &r), PARAMETER);
	must_eq(box_step(&b, 0, 13, 65535, &r), PARAMETER);
	fake_expect_none(&b.f);
	box_subs(&b, 3);
	must_eq(box_step(&b, 0, 13, 3, &r), 0); /* once more: nothing new */
	must_eq(box_step(&b, 0, 13, 2, &r), PARAMETER);
	fake_expect_none(&b.f);
	for (i = 0; i < 4; i++) { /* the same ids on each, lesson 13 */
		b.id = 1000;
		fill(box_page(&b, 0), 4096, i);
		box_good(&b, i, &srb, 0);
	}
	for (op = 7; op < 15; op++)
		must_eq(box_step(&b, 1, op, 1, &r), STATE);
	for (op = 4; op < 7; op++)
		must_eq(box_step(&b, 2, op, 0, &r), 0);
	must_eq(vmbus_block_stats(b.block, 0, 0, &stats), 0);
	must_eq(stats.writes, 4);
	/* The primary goes: the others are withdrawn. */
	fake_post_close(&b.f, &b.c[0]);
	for (i = 0; i < 3; i++)
		fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl);
	must_eq(vmbus_block_stats(b.block, 0, 0, &stats), 0);
	must_eq(stats.writes, 4); /* also of channels that are closed */
	box_end(&b);
}
END_TEST

/* Requests on a sub-channel before the primary is ready are held, not failed. */
START_TEST(block_vsp__holds_early_requests)
{
	struct box_srb srb = box_rw(0, true, 0, 8), tur = box_tur(0);
	struct box_reply r;
	struct box b;

	box_prepare(&b);
	b.opts.subchannels = 1;
	box_begin(&b, 1);
	box_open(&b);
	must_eq(box_step(&b, 0, 7, 0, &r), 0);
	must_eq(box_step(&b, 0, 9, 0x0602, &r), 0);
	must_eq(box_step(&b, 0, 10, 0, &r), 0);
	box_subs(&b, 1);
	b.id = 500;
	(void)box_command(&b, 1, &srb, 0);
	(void)box_command(&b, 1, &tur, 0);
	box_none(&b, 1);
	if (_i == 0) {
		must_eq(box_step(&b, 0, 8, 0, &r), 0);
		box_reply(&b, 1, 500, &r);
		must_eq(r.srb_status, 1);
		box_reply(&b, 1, 501, &r);
		must_eq(r.srb_status, 1);
		box_good(&b, 1, &tur, 0);
	} else if (_i == 1) {
		fake_post_close(&b.f, &b.c[1]);
		fake_run(&b.f);
		must_eq(vmbus_region_pins(&b.f.region) > 0, 1);
	}
	box_end(&b);
	must_eq(vmbus_region_pins(&b.f.region), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "vsp", 10);

	tcase_add_loop_test(tc, block_vsp__agrees_on_each_version, 0, 5);
	tcase_add_test(tc, block_vsp__tells_of_no_subchannels);
	tcase_add_test(tc, block_vsp__refuses_steps_out_of_order);
	tcase_add_test(tc, lesson_11_short_messages);
	tcase_add_test(tc, block_vsp__refuses_a_short_srb);
	tcase_add_loop_test(tc, block_vsp__ignores_or_ends, 0, 3);
	tcase_add_test(tc, block_vsp__answers_the_test_vector);
	tcase_add_test(tc, block_vsp__reads_what_was_written);
	tcase_add_test(tc, block_vsp__takes_pages_in_any_order);
	tcase_add_test(tc, block_vsp__refuses_buffers);
	tcase_add_test(tc, block_vsp__refuses_a_long_page_list);
	tcase_add_test(tc, block_vsp__finds_disks_by_their_exact_address);
	tcase_add_test(tc, block_vsp__reports_luns);
	tcase_add_test(tc, block_vsp__limits_each_disk);
	tcase_add_test(tc, lesson_14_more_requests_than_a_channel_has);
	tcase_add_test(tc, block_vsp__limits_large_buffers);
	tcase_add_test(tc, block_vsp__keeps_answers_while_the_ring_is_full);
	tcase_add_test(tc, block_vsp__serves_sub_channels);
	tcase_add_loop_test(tc, block_vsp__holds_early_requests, 0, 3);
}
VMBUS_TEST_MAIN("block.vsp", tests)
