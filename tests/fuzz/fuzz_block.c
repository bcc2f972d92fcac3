/* SPDX-License-Identifier: MIT */
/*
 * The block device's provider against a guest whose every packet is input: messages, SRBs, command
 * blocks, page lists, in any order and on several channels, over a live bus.  Stores stall and
 * fail, disks come, go and grow, channels close, and the guest changes its buffers between any two
 * looks at them.  Each request is answered once at most, with 64 bytes at most; when all stores
 * have gone on and the guest has read everything, each was answered, and no page is pinned.
 */
#define _GNU_SOURCE

#include "vmbus_test.h"

#undef ck_abort_msg
#define ck_abort_msg(...) __builtin_trap()

#include "block/vspbox.h"
#include "fuzz/input.h"

#define OPS_MAX 96u
#define DISKS 3u
#define IDS 512u

extern void (*vmbus__test_hook)(const volatile void *p);

static struct box b;
static uint8_t asked[BOX_CHANNELS][IDS]; /* 1: under way, 2: answered */
static uint64_t sent[BOX_CHANNELS];
static bool open[BOX_CHANNELS];
static bool there[DISKS];
static uint32_t noise; /* 0: the guest leaves its buffers alone */

/* ---- the guest ---- */

/* Before a look of the parent's at memory that is shared: it is something else by then. */
static void scribble(const volatile void *p)
{
	(void)p;
	if (!noise)
		return;
	noise = noise * 1664525u + 1013904223u;
	box_page(&b, noise >> 8 & 7u)[noise >> 16 & 0xFFFu] = (uint8_t)(noise >> 4);
}

static void answered(uint32_t chan, const struct vmbus_packet *pkt)
{
	must(pkt->len <= 64);
	if (pkt->type == VMBUS_PKT_INBAND) {
		must(pkt->id == 0 && box_get(pkt->payload, 4) == 11);
		return;
	}
	must_eq(pkt->type, VMBUS_PKT_COMPLETION);
	must(pkt->id >= 1 && pkt->id <= sent[chan]);
	must_eq(asked[chan][pkt->id], 1);
	asked[chan][pkt->id] = 2;
	must_eq(box_get(pkt->payload, 4), 1);
}

static uint32_t read_all(uint32_t chan)
{
	struct vmbus_packet pkt[64];
	uint32_t all = 0;
	int n, i;

	while (open[chan] && (n = fake_receive(&b.c[chan], pkt, 64)) > 0)
		for (i = 0, all += (uint32_t)n; i < n; i++)
			answered(chan, &pkt[i]);
	return all;
}

static uint32_t find(uint32_t relid)
{
	uint32_t i;

	for (i = 0; i < BOX_CHANNELS; i++)
		if (b.c[i].relid == relid)
			return i;
	return BOX_CHANNELS;
}

/* What the parent posts: channels that it offers and withdraws. */
static void run(void)
{
	struct vmbus_ctl ctl;
	uint32_t type, i;

	while ((type = fake_take(&b.f, &ctl))) {
		if (type == VMBUS_CTL_RESCIND) {
			i = find(ctl.u.chan.relid);
			if (i < BOX_CHANNELS) {
				open[i] = false;
				fake_chan_free(&b.c[i]);
				memset(&b.c[i], 0, sizeof(b.c[i]));
			}
			fake_post_released(&b.f, ctl.u.chan.relid);
		} else if (type == VMBUS_CTL_OFFER) {
			for (i = ctl.u.offer.sub_index ? 1 : 0; i < BOX_CHANNELS; i++)
				if (b.c[i].relid == 0)
					break;
			if (i < BOX_CHANNELS) {
				memset(&b.c[i], 0, sizeof(b.c[i]));
				b.c[i].fake = &b.f;
				b.c[i].relid = ctl.u.offer.relid;
				b.c[i].conn = ctl.u.offer.conn_id;
			}
		}
	}
}

static void open_chan(uint32_t i)
{
	struct vmbus_ctl ctl;
	uint32_t type;
	static const uint32_t pages[BOX_CHANNELS] = { 9, 3, 9, 9 };
	const size_t first = 1 + 20 * i; /* the same pages at each opening */

	if (open[i] || b.c[i].relid == 0)
		return;
	memset(b.f.mem + first * FAKE_PAGE, 0, 18 * FAKE_PAGE);
	b.c[i].first = first;
	fake_rings(&b.f, &b.c[i], 9, pages[i]);
	b.c[i].gpadl = b.f.next_gpadl++;
	if (fake_share(&b.f, b.c[i].relid, b.c[i].gpadl, first, 9 + pages[i]))
		return;
	fake_post_open(&b.f, &b.c[i], 0);
	while ((type = fake_take(&b.f, &ctl)) && type != VMBUS_CTL_OPEN_RESULT)
		must(type == VMBUS_CTL_OFFER || type == VMBUS_CTL_RESCIND);
	open[i] = type && ctl.u.result.status == 0;
	memset(asked[i], 0, sizeof(asked[i]));
	sent[i] = 0;
}

static void close_chan(uint32_t i)
{
	if (!open[i])
		return;
	open[i] = false;
	fake_post_close(&b.f, &b.c[i]);
	fake_post_teardown(&b.f, b.c[i].relid, b.c[i].gpadl);
	run();
}

/* ---- packets ---- */

static uint32_t make_ext(struct input *in, uint8_t *ext, uint32_t bytes)
{
	const uint32_t how = take(in, 1);
	uint32_t len, i;

	if (how < 16)
		return 0;
	if (how < 24) {
		len = 8 + how % 8 * 8;
		for (i = 0; i < len; i++)
			ext[i] = (uint8_t)take(in, 1);
		return len;
	}
	if (bytes == 0 || bytes > 1u << 20)
		bytes = 4096;
	len = box_range(ext, b.data + how % 4, how % 5 ? 0 : 512, bytes);
	if (how > 200)
		ext[take(in, 1) % len] = (uint8_t)take(in, 1);
	return len;
}

/* Command blocks that are near to real ones. */
static void make_srb(struct input *in, struct box_srb *srb)
{
	static const uint8_t ops[] = { 0x00, 0x03, 0x08, 0x0A, 0x12, 0x15, 0x1A, 0x1B,
				       0x25, 0x28, 0x2A, 0x2E, 0x2F, 0x35, 0x41, 0x42,
				       0x55, 0x5A, 0x88, 0x8A, 0x8F, 0x91, 0x93, 0x9E,
				       0xA0, 0xA8, 0xAA, 0xAE, 0xAF, 0x5E, 0x5F, 0x34 };
	const uint32_t how = take(in, 1);
	uint32_t i;

	memset(srb, 0, sizeof(*srb));
	srb->lun = (uint8_t)(how % 4);
	srb->target = how == 255;
	srb->path = how == 254;
	srb->cdb[0] = how & 0x80 ? (uint8_t)take(in, 1) : ops[take(in, 1) % 32];
	if (how & 0x40)
		for (i = 1; i < 16; i++)
			srb->cdb[i] = (uint8_t)take(in, 1);
	else
		for (i = take(in, 1) % 8; i; i--)
			srb->cdb[take(in, 1) % 16] = (uint8_t)take(in, 1);
	srb->data_in = (uint8_t)take(in, 1) % 4;
	srb->bytes = how & 0x20 ? take(in, 3) : take(in, 1) % 17 * 512;
}

static void send_packet(struct input *in, bool wild)
{
	const uint32_t chan = take(in, 1) % BOX_CHANNELS;
	uint8_t data[264] = { 0 }, ext[32 + 8 * BOX_DATA_PAGES];
	struct vmbus_msg msg = { .data = data, .type = VMBUS_PKT_INBAND, .ext = ext };
	struct box_srb srb;
	uint32_t i;

	if (!open[chan] || sent[chan] + 1 >= IDS)
		return;
	msg.len = 64;
	msg.flags = VMBUS_PKT_FLAG_COMPLETE;
	if (wild) {
		msg.len = take(in, 1) + 1;
		for (i = 0; i < msg.len && in->left; i++)
			data[i] = (uint8_t)take(in, 1);
		i = take(in, 1);
		if (i < 8)
			msg.type = (uint16_t)(1 + take(in, 1) % 13);
		if (i > 250)
			msg.flags = 0;
		msg.ext_len = make_ext(in, ext, 4096);
	} else {
		make_srb(in, &srb);
		box_srb(data, &srb);
		msg.ext_len = make_ext(in, ext, srb.bytes);
	}
	if (msg.ext_len && msg.type == VMBUS_PKT_INBAND)
		msg.type = VMBUS_PKT_GPA_DIRECT;
	if (msg.type == VMBUS_PKT_COMPLETION)
		msg.flags = 0;
	if (msg.type != VMBUS_PKT_GPA_DIRECT)
		msg.ext_len = 0;
	msg.id = sent[chan] + 1;
	if (vmbus_ring_tx_put(&b.c[chan].tx, &msg, 1) != 1)
		return;
	sent[chan]++;
	asked[chan][msg.id] = msg.flags ? 1 : 2;
}

static void send_step(struct input *in)
{
	static const uint8_t ops[] = { 7, 9, 10, 8, 13 };
	uint32_t from = take(in, 1) % 6, to = from == 5 ? 4 : from + 1;
	uint8_t data[64];

	for (from %= 5; from < to; from++) {
		struct vmbus_msg msg = { .data = data,
					 .len = 64,
					 .type = VMBUS_PKT_INBAND,
					 .flags = VMBUS_PKT_FLAG_COMPLETE };

		if (!open[0] || sent[0] + 1 >= IDS)
			return;
		memset(data, 0, sizeof(data));
		data[0] = ops[from];
		box_put(data + 12, 2, ops[from] == 13 ? 2 : 0x0602);
		msg.id = sent[0] + 1;
		if (vmbus_ring_tx_put(&b.c[0].tx, &msg, 1) != 1)
			return;
		asked[0][++sent[0]] = 1;
	}
}

/* ---- the parent's side ---- */

static void change_disks(struct input *in)
{
	const uint32_t how = take(in, 1), lun = how % DISKS;
	struct vmbus_store_faults faults = { 0 };

	switch (how / 8 % 4) {
	case 0:
		if (there[lun])
			must_eq(vmbus_block_remove(b.block, 0, (uint8_t)lun), 0);
		there[lun] = false;
		break;
	case 1:
		if (!there[lun])
			there[lun] = box_add(&b, lun) == 0;
		break;
	case 2:
		(void)vmbus_block_resized(b.block, 0, (uint8_t)lun);
		break;
	default:
		faults.stall = how & 32;
		faults.from = how & 64 ? 4096 : 0;
		faults.bytes = how & 128 ? 8192 : 0;
		faults.ops = 1 + take(in, 1) % 15;
		faults.end = 1 + take(in, 1) % 5;
		box_faults(&b, lun, &faults);
		break;
	}
}

/* Another bus goes on, if it can be saved now. */
static void save_and_restore(void)
{
	static uint8_t state[1 << 20];
	char why[160];
	size_t bytes;

	if (vmbus_bus_save(b.f.bus, state, sizeof(state), &bytes))
		return;
	vmbus_bus_destroy(b.f.bus);
	fake_create(&b.f);
	(void)fake_offer(&b.f, vmbus_block_vsp(), b.block, 0);
	must_eq(vmbus_bus_restore(b.f.bus, state, bytes, why, sizeof(why)), 0);
}

static void step(struct input *in)
{
	uint32_t op = take(in, 1), i;

	if (op < 120)
		send_packet(in, false);
	else if (op < 160)
		send_packet(in, true);
	else if (op < 180)
		send_step(in);
	else if (op < 200)
		run();
	else if (op < 215)
		(void)read_all(op % BOX_CHANNELS);
	else if (op < 235)
		change_disks(in);
	else if (op < 241)
		close_chan(op % BOX_CHANNELS);
	else if (op < 247)
		open_chan(op % BOX_CHANNELS);
	else if (op < 250)
		save_and_restore();
	else
		for (noise = take(in, 2), i = 0; i < 64; i++)
			box_page(&b, 0)[i] = (uint8_t)take(in, 1);
}

/* Everything goes on: each request that is left is answered. */
static void finish(void)
{
	uint32_t i, n, got;

	noise = 0;
	for (i = 0; i < DISKS; i++)
		box_stall(&b, i, false);
	do {
		run();
		for (got = 0, i = 0; i < BOX_CHANNELS; i++)
			got += read_all(i);
	} while (got);
	for (i = 0; i < BOX_CHANNELS; i++)
		for (n = 1; open[i] && (i == 0 || open[0]) && n <= sent[i]; n++)
			must(asked[i][n] == 2 || i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t i;

	box_prepare(&b);
	memset(open, 0, sizeof(open));
	b.opts.subchannels = 2;
	b.opts.depth = 8;
	b.opts.requests = 16;
	fake_init(&b.f, 600);
	b.f.next_page = 100;
	box_disks(&b, DISKS);
	for (i = 0; i < DISKS; i++)
		there[i] = true;
	(void)fake_offer(&b.f, vmbus_block_vsp(), b.block, 0);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, b.c, 1), 1);
	b.data = fake_pages(&b.f, BOX_DATA_PAGES);
	open_chan(0);
	vmbus__test_hook = scribble;
	for (i = 0; i < OPS_MAX && in.left; i++)
		step(&in);
	finish();
	vmbus__test_hook = NULL;
	box_end(&b);
	must_eq(vmbus_region_pins(&b.f.region), 0);
	return 0;
}
