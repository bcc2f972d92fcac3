/* SPDX-License-Identifier: MIT */
/* Frames from the host to the client: in place, in order, given back; information; what lies. */
#include "clienthost.h"

static uint8_t data[2000];

/* Whether a frame has these bytes. */
static bool is_frame(const struct vmbus_frame *frame, const void *want, uint32_t bytes)
{
	uint32_t i, at = 0;

	if (frame->bytes != bytes)
		return false;
	for (i = 0; i < frame->pieces; i++) {
		if (memcmp((const uint8_t *)want + at, frame->piece[i].base, frame->piece[i].len) !=
		    0)
			return false;
		at += (uint32_t)frame->piece[i].len;
	}
	return at == bytes;
}

static void wait_returned(struct host *h, uint32_t n, uint32_t bad)
{
	loop_settle(h->l);
	must_eq(h->returned, n);
	must_eq(h->returned_bad, bad);
}

START_TEST(netvsc_receive__every_length)
{
	struct host h;
	uint32_t bytes;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	h.returned = 0;
	for (bytes = 14; bytes <= 1518; bytes++) {
		host_pattern(data, bytes, bytes);
		(void)host_deliver(&h, 0, data, bytes, NULL, 0);
		loop_settle(h.l);
		must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64), 1);
		must(is_frame(&h.burst.frame[0], data, bytes));
		must_eq(h.burst.frame[0].flags, 0);
		must_eq(h.returned, bytes - 14);
		must_eq(vmbus_netvsc_release(&h.nv, 0, &h.burst), 0);
		wait_returned(&h, bytes - 13, 0);
	}
	host_free(&h);
}
END_TEST

/* What may come does not follow from what may be sent: 1500 where mtu is less, and mtu where it is more,
   however little the sections for sending take.  A tag may be in the frame. */
START_TEST(netvsc_receive__takes_more_than_it_sends)
{
	static const struct {
		uint32_t asked, told, send_section, mtu, most;
	} cases[] = {
		{ 1400, 9202, 6144, 1400, 1514 }, { 68, 9202, 6144, 68, 1514 },
		{ 1500, 1300, 6144, 1300, 1514 }, { 1501, 9202, 6144, 1501, 1515 },
		{ 9000, 9202, 256, 9000, 9014 },  { 9000, 1400, 6144, 1400, 1514 },
	};
	static uint8_t frame[9100];
	struct vmbus_netvsc_stats stats;
	struct vmbus_netvsc_opts opts;
	uint32_t i, most, bad = 0;
	uint8_t ppi[16];
	struct host h;

	host_start(&h);
	h.receive_section = 16384;
	h.frame_size = cases[_i].told;
	h.send_section = cases[_i].send_section;
	opts = host_opts(&h);
	opts.mtu = cases[_i].asked;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.nv.mtu, cases[_i].mtu);
	must(h.nv.frame_max <= h.nv.mtu + 14);
	host_pattern(frame, sizeof(frame), 3);
	for (i = 0; i < 14; i++) {
		const uint32_t bytes = cases[_i].most - 1 + i / 2;
		const uint32_t n =
			i % 2 ? host_ppi(ppi, 0, 8) : 0; /* with information, and without */
		const uint32_t got = bytes <= cases[_i].most + 4;

		vmbus_test_at("%u bytes", bytes);
		(void)host_deliver(&h, 0, frame, bytes, ppi, n);
		loop_settle(h.l);
		must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64), got);
		if (got)
			must(is_frame(&h.burst.frame[0], frame, bytes));
		must_eq(vmbus_netvsc_release(&h.nv, 0, &h.burst), 0);
		bad += !got;
		must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
		must_eq(stats.bad, bad);
	}
	most = h.nv.frame_max + 4;
	must_eq(host_send_one(&h, 0, frame, most), 1);
	must_eq(host_send_one(&h, 0, frame, most + 1), VMBUS_E_RANGE);
	host_free(&h);
}
END_TEST

/* Packets of n ranges, bursts of any size, released late and in another order. */
START_TEST(netvsc_receive__bursts)
{
	static struct vmbus_netvsc_burst burst[100];
	struct vmbus_netvsc_stats stats;
	static uint32_t range[375][2];
	struct host h;
	uint32_t i, k, n, max, bursts = 0, got = 0;

	host_start(&h);
	h.receive_section = 512;
	must_eq(host_client(&h, NULL), 0);
	h.returned = 0;
	for (i = 0; i < 375; i++) {
		host_pattern(data, 60 + i % 300, i);
		host_frame_put(&h, data, 60 + i % 300, NULL, 0, range[i]);
	}
	n = (uint32_t)_i;
	for (i = 0; i + n <= 375 && i / n < 100; i += n)
		(void)host_ranges(&h, h.channel[0], 0, (const uint32_t(*)[2]) & range[i], n);
	k = i;
	loop_settle(h.l);
	must(h.readable >= 1);
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.waiting, k);
	must_eq(stats.received_packets, k / n);
	while (got < k) {
		max = 1 + got % 64;
		must_eq(vmbus_netvsc_receive(&h.nv, 0, &burst[bursts], max),
			k - got < max ? k - got : max);
		for (i = 0; i < burst[bursts].frames; i++, got++) {
			host_pattern(data, 60 + got % 300, got);
			must(is_frame(&burst[bursts].frame[i], data, 60 + got % 300));
		}
		must(++bursts < 100);
	}
	must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64), 0);
	wait_returned(&h, 0, 0);
	while (bursts--)
		must_eq(vmbus_netvsc_release(&h.nv, 0, &burst[bursts]), 0);
	wait_returned(&h, k / n, 0);
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.held, 0);
	must_eq(stats.received_frames, k);
	must_eq(vmbus_netvsc_release(&h.nv, 0, &burst[0]), 0); /* it is empty */
	host_free(&h);
}
END_TEST

/* What is said of a frame. */
START_TEST(netvsc_receive__information)
{
	static const struct {
		uint32_t type, word, flags, type2, word2;
	} cases[] = {
		{ 0, 8, VMBUS_FRAME_CSUM_OK, 99, 0 },
		{ 0, 16 + 32, VMBUS_FRAME_CSUM_OK, 99, 0 },
		{ 0, 1, 0, 99, 0 },
		{ 0, 8 + 128, VMBUS_FRAME_CSUM, 99, 0 },
		{ 6, 0x123D, VMBUS_FRAME_VLAN, 99, 0 },
		{ 8, 0xDEADBEEF, VMBUS_FRAME_HASH, 99, 0 },
		{ 3, 7, 0, 99, 0 },
		{ 6, 0x123D, VMBUS_FRAME_VLAN | VMBUS_FRAME_CSUM_OK, 0, 8 },
		{ 9, 1, VMBUS_FRAME_HASH, 8, 5 },
	};
	const struct vmbus_frame *frame;
	uint8_t ppi[64];
	uint32_t n;
	struct host h;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	memset(data, 0, 74);
	data[12] = 8;
	data[14] = 0x45;
	data[17] = 60;
	data[23] = 6;
	data[46] = 0x50;
	n = host_ppi(ppi, cases[_i].type, cases[_i].word);
	if (cases[_i].type2 != 99)
		n += host_ppi(ppi + n, cases[_i].type2, cases[_i].word2);
	(void)host_deliver(&h, 0, data, 74, ppi, n);
	loop_settle(h.l);
	must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64), 1);
	frame = &h.burst.frame[0];
	must(is_frame(frame, data, 74));
	must_eq(frame->flags, cases[_i].flags);
	if (frame->flags & VMBUS_FRAME_VLAN)
		must_eq(frame->vlan, 0xB123);
	if (frame->flags & VMBUS_FRAME_HASH)
		must_eq(frame->hash, cases[_i].type == 8 ? 0xDEADBEEF : 5);
	if (frame->flags & VMBUS_FRAME_CSUM) {
		must_eq(frame->csum_start, 34);
		must_eq(frame->csum_offset, 16);
	}
	must_eq(vmbus_netvsc_release(&h.nv, 0, &h.burst), 0);
	host_free(&h);
}
END_TEST

/* A message with one word changed. */
struct change {
	uint32_t at, value, range_bytes, range_offset;
};

static const struct change lies[] = {
	{ 0, 2, 0, 0 },		  { 0, 0, 0, 0 },	    { 0, UINT32_MAX, 0, 0 },
	{ 4, 7, 0, 0 },		  { 4, 43, 0, 0 },	    { 4, 121, 0, 0 },
	{ 4, UINT32_MAX, 0, 0 },  { 8, 113, 0, 0 },	    { 8, UINT32_MAX, 0, 0 },
	{ 8, 0x80000000u, 0, 0 }, { 12, 13, 0, 0 },	    { 12, 0, 0, 0 },
	{ 12, 61, 0, 0 },	  { 12, UINT32_MAX, 0, 0 }, { 28, 109, 0, 0 },
	{ 28, UINT32_MAX, 0, 0 }, { 32, 17, 0, 0 },	    { 32, 513, 0, 0 },
	{ 32, UINT32_MAX, 0, 0 }, { 44, 0, 0, 0 },	    { 44, 11, 0, 0 },
	{ 44, 12, 0, 0 },	  { 44, 18, 0, 0 },	    { 44, 20, 0, 0 },
	{ 44, UINT32_MAX, 0, 0 }, { 52, 13, 0, 0 },	    { 52, UINT32_MAX, 0, 0 },
	{ 52, 0, 0, 0 },	  { 0, 1, 43, 0 },	    { 0, 1, 1, 0 },
	{ 0, 1, 0, 262145 },	  { 0, 1, 0, UINT32_MAX },  { 0, 1, 2049, 0 },
	{ 0, 1, UINT32_MAX, 0 },  { 0, 1, 100, 262143 },    { 0, 1, 119, 0 },
};

/* Frames that cannot be: not delivered, counted, and their packet given back as bad. */
START_TEST(netvsc_receive__refuses_frames)
{
	const struct change *const c = &lies[_i];
	struct vmbus_netvsc_stats stats;
	uint32_t range[3][2];
	uint8_t msg[256] = { 0 }, ppi[16], word[4];
	struct host h;
	int n;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	h.returned = 0;
	host_pattern(data, 60, 5);
	host_frame_put(&h, data, 60, NULL, 0, range[0]);
	n = (int)host_ppi(ppi, 0, 8);
	range[1][1] = host_section(&h);
	range[1][0] = host_message(msg, data, 60, ppi, (uint32_t)n);
	must_eq(range[1][0], 120);
	host_put(word, 4, c->value);
	memcpy(msg + c->at, word, 4);
	host_write(&h, range[1][1], msg, sizeof(msg));
	if (c->range_bytes)
		range[1][0] = c->range_bytes;
	if (c->range_offset)
		range[1][1] = c->range_offset;
	host_frame_put(&h, data, 60, NULL, 0, range[2]);
	(void)host_ranges(&h, h.channel[0], 0, (const uint32_t(*)[2])range, 3);
	loop_settle(h.l);
	must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64), 2);
	must(is_frame(&h.burst.frame[0], data, 60));
	must(is_frame(&h.burst.frame[1], data, 60));
	must_eq(vmbus_netvsc_release(&h.nv, 0, &h.burst), 0);
	wait_returned(&h, 1, 1);
	/* Alone it gives no burst, and is given back at once. */
	range[1][0] = c->range_bytes ? c->range_bytes : 120;
	(void)host_ranges(&h, h.channel[0], 0, (const uint32_t(*)[2]) & range[1], 1);
	loop_settle(h.l);
	must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64), 0);
	wait_returned(&h, 2, 2);
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.bad, 2);
	must_eq(stats.held, 0);
	host_free(&h);
}
END_TEST

/* A message cut off at every byte. */
START_TEST(lesson_11_short_frames)
{
	uint8_t msg[256], ppi[32];
	uint32_t range[1][2], n, cut;
	struct host h;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	host_pattern(data, 60, 5);
	n = host_ppi(ppi, 0, 8);
	n += host_ppi(ppi + n, 6, 0x10);
	n = host_message(msg, data, 60, ppi, n);
	for (cut = 0; cut < n; cut++) {
		range[0][0] = cut;
		range[0][1] = h.receive_section * h.receive_count - cut;
		host_write(&h, range[0][1], msg, cut);
		if (cut == 0)
			range[0][0] = 1;
		(void)host_ranges(&h, h.channel[0], 0, (const uint32_t(*)[2])range, 1);
		loop_settle(h.l);
		must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64), 0);
	}
	host_free(&h);
}
END_TEST

/* Returns how many completions it gets, each as bad. */
static uint32_t bad_packet(int which, struct vmbus_msg *out)
{
	static uint8_t ext[8 + 8 * 1100], msg[40];
	uint32_t i;

	*out = (struct vmbus_msg){ .id = 5, .type = VMBUS_PKT_XFER_PAGES, .data = msg, .len = 40 };
	memset(ext, 0, sizeof(ext));
	host_put(ext, 2, 0xCAFE);
	host_put(ext + 4, 4, 1);
	for (i = 0; i < 1100; i++)
		host_put(ext + 8 + i * 8, 4, 100);
	memset(msg, 0, sizeof(msg));
	host_put(msg, 4, 107);
	out->ext = ext;
	out->ext_len = 16;
	out->flags = VMBUS_PKT_FLAG_COMPLETE;
	switch (which) {
	case 0: /* another set */
		host_put(ext, 2, 1);
		break;
	case 1:
		host_put(msg, 4, 108);
		break;
	case 2: /* too many ranges for us */
		host_put(ext + 4, 4, 1025);
		out->ext_len = 8 + 8 * 1025;
		break;
	case 3: /* more ranges than are there */
		host_put(ext + 4, 4, 2);
		break;
	case 4:
		host_put(ext + 4, 4, UINT32_MAX);
		break;
	case 5:
		out->len = 8;
		break;
	case 6:
		host_put(ext + 4, 4, 0);
		break;
	case 7: /* control on a sub-channel */
		host_put(msg + 4, 4, 1);
		break;
	case 8: /* a type that nobody sends */
		out->type = VMBUS_PKT_INBAND;
		out->ext = NULL;
		out->ext_len = 0;
		break;
	default: /* nothing to be completed */
		out->flags = 0;
		return 0;
	}
	return 1;
}

/* Packets that cannot be: answered as bad, and nothing else. */
START_TEST(netvsc_receive__refuses_packets)
{
	struct vmbus_netvsc_stats stats;
	struct vmbus_netvsc_opts opts;
	struct vmbus_msg out;
	uint32_t bad;
	struct host h;

	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = 1;
	must_eq(host_client(&h, &opts), 0);
	h.returned = 0;
	bad = bad_packet(_i, &out);
	must_eq(vmbus_chan_send(h.channel[1], &out, 1), 1);
	loop_settle(h.l);
	must_eq(h.returned, bad);
	must_eq(h.returned_bad, bad);
	must_eq(vmbus_netvsc_receive(&h.nv, 1, &h.burst, 64), 0);
	must_eq(vmbus_netvsc_stats(&h.nv, 1, &stats), 0);
	must_eq(stats.bad, 1);
	host_deliver(&h, 1, "12345678901234", 14, NULL, 0);
	loop_settle(h.l);
	must_eq(vmbus_netvsc_receive(&h.nv, 1, &h.burst, 64), 1);
	must_eq(vmbus_netvsc_release(&h.nv, 1, &h.burst), 0);
	must_eq(vmbus_netvsc_receive(&h.nv, 1, &h.burst, 0), VMBUS_E_RANGE);
	must_eq(vmbus_netvsc_receive(&h.nv, 1, &h.burst, 65), VMBUS_E_RANGE);
	must_eq(vmbus_netvsc_receive(&h.nv, 2, &h.burst, 1), VMBUS_E_STATE);
	must_eq(vmbus_netvsc_release(&h.nv, 2, &h.burst), VMBUS_E_STATE);
	host_free(&h);
}
END_TEST

/* Nobody takes frames: what has no room is dropped, counted, and given back. */
START_TEST(netvsc_receive__drops)
{
	static uint32_t range[1024][2];
	struct vmbus_netvsc_stats stats;
	struct host h;
	uint32_t i;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	h.returned = 0;
	host_pattern(data, 60, 5);
	for (i = 0; i < 1024; i++) {
		range[i][0] = 104;
		range[i][1] = 0;
	}
	host_frame_put(&h, data, 60, NULL, 0, range[0]);
	for (i = 1; i < 1024; i++)
		memcpy(range[i], range[0], 8);
	for (i = 0; i < 6; i++) {
		(void)host_ranges(&h, h.channel[0], 0, (const uint32_t(*)[2])range, 1024);
		loop_settle(h.l);
	}
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.waiting, 4096);
	must_eq(stats.dropped, 2048);
	wait_returned(&h, 2, 0);
	for (i = 0; vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64) > 0; i += 64)
		must_eq(vmbus_netvsc_release(&h.nv, 0, &h.burst), 0);
	must_eq(i, 4096);
	wait_returned(&h, 6, 0);
	host_free(&h);
}
END_TEST

/* More packets than there are places for, held for ever: answered, not kept. */
START_TEST(lesson_11_packets_without_end)
{
	struct vmbus_netvsc_stats stats;
	struct host h;
	uint32_t i;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	h.returned = 0;
	host_pattern(data, 60, 5);
	for (i = 0; i < 700; i++) {
		(void)host_deliver(&h, 0, data, 60, NULL, 0);
		loop_settle(h.l);
		(void)vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64); /* and never released */
	}
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.held, 512);
	must_eq(stats.dropped, 188);
	wait_returned(&h, 188, 0);
	host_free(&h);
}
END_TEST

/* Merged frames: pieces in order, and how to cut them; those that make no sense. */
START_TEST(netvsc_receive__merges)
{
	static const struct {
		uint8_t flags[4];
		uint32_t fragments, frames, bad;
	} cases[] = {
		{ { 3, 1, 1, 5 }, 4, 1, 0 }, { { 3, 5 }, 2, 1, 0 },    { { 7 }, 1, 1, 0 },
		{ { 3, 1, 1 }, 3, 0, 1 },    { { 1, 1, 5 }, 3, 0, 3 }, { { 3, 3, 5 }, 3, 0, 2 },
		{ { 3, 0 }, 2, 0, 1 },	     { { 5 }, 1, 0, 1 },
	};
	struct vmbus_netvsc_opts opts;
	struct vmbus_netvsc_stats stats;
	const struct vmbus_frame *f;
	static uint8_t whole[6000];
	uint32_t range[4][2], i;
	uint8_t ppi[64];
	struct host h;

	host_start(&h);
	h.rsc = 1;
	opts = host_opts(&h);
	opts.flags = VMBUS_NETVSC_RSC;
	must_eq(host_client(&h, &opts), 0);
	h.returned = 0;
	memset(whole, 0, 60);
	whole[12] = 8;
	whole[14] = 0x45;
	whole[16] = 4000 >> 8;
	whole[17] = 4000 & 255;
	whole[23] = 6;
	whole[46] = 0x50;
	host_pattern(whole + 54, sizeof(whole) - 54, 9);
	for (i = 0; i < cases[_i].fragments; i++) {
		uint32_t n = i ? 0 : host_ppi(ppi, 0, 8 + 128);

		n += host_ppi(ppi + n, 0x80000001u, 1u | (uint32_t)cases[_i].flags[i] << 8);
		host_frame_put(&h, whole + i * 1400, 1400, ppi, n, range[i]);
	}
	(void)host_ranges(&h, h.channel[0], 0, (const uint32_t(*)[2])range, cases[_i].fragments);
	loop_settle(h.l);
	must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64), cases[_i].frames);
	f = &h.burst.frame[0];
	if (cases[_i].frames) {
		must_eq(f->pieces, cases[_i].fragments);
		must(is_frame(f, whole, cases[_i].fragments * 1400));
	}
	if (cases[_i].frames && cases[_i].fragments > 1) {
		must_eq(f->flags, VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM);
		must_eq(f->header_bytes, 54);
		must_eq(f->mss, 1460);
		must_eq(f->csum_start, 34);
		must_eq(f->csum_offset, 16);
	}
	must_eq(vmbus_netvsc_release(&h.nv, 0, &h.burst), 0);
	wait_returned(&h, 1, cases[_i].bad != 0);
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.bad, cases[_i].bad);
	host_free(&h);
}
END_TEST

/* A host with large sections: the first piece alone is more than a frame. */
START_TEST(netvsc_receive__refuses_a_first_piece_that_is_too_long)
{
	static uint8_t whole[70000];
	struct vmbus_netvsc_opts opts;
	uint32_t range[2][2], i;
	uint8_t ppi[16];
	struct host h;

	host_start(&h);
	h.rsc = 1;
	h.receive_section = 131072;
	opts = host_opts(&h);
	opts.flags = VMBUS_NETVSC_RSC;
	must_eq(host_client(&h, &opts), 0);
	h.returned = 0;
	for (i = 0; i < 2; i++) {
		const uint32_t n = host_ppi(ppi, 0x80000001u, 1u | (i ? 5u : 3u) << 8);

		host_frame_put(&h, whole, i ? 100 : 65600, ppi, n, range[i]);
	}
	(void)host_ranges(&h, h.channel[0], 0, (const uint32_t(*)[2])range, 2);
	loop_settle(h.l);
	must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64), 0);
	wait_returned(&h, 1, true);
	host_free(&h);
}
END_TEST

/* From within the callback frames are taken, sent back, and released. */
static void echo(struct host *h, uint32_t channel)
{
	while (vmbus_netvsc_receive(&h->nv, channel, &h->burst, 64) > 0) {
		must_eq(vmbus_netvsc_send(&h->nv, channel, h->burst.frame, h->burst.frames),
			h->burst.frames);
		must_eq(vmbus_netvsc_release(&h->nv, channel, &h->burst), 0);
	}
}

START_TEST(netvsc_receive__within_callback)
{
	struct host h;
	uint32_t i;

	host_start(&h);
	h.on_readable = echo;
	must_eq(host_client(&h, NULL), 0);
	h.returned = 0;
	for (i = 0; i < 40; i++) {
		host_pattern(data, 60 + i, i);
		(void)host_deliver(&h, 0, data, 60 + i, NULL, 0);
	}
	wait_returned(&h, 40, 0);
	must_eq(h.frames, 40);
	for (i = 0; i < 40; i++) {
		host_pattern(data, 60 + i, i);
		must_eq(memcmp(h.frame[i].data, data, 60 + i), 0);
	}
	host_free(&h);
}
END_TEST

/* The ring to the host is full of completions: they follow. */
START_TEST(netvsc_release__waits_for_room)
{
	static struct vmbus_netvsc_burst burst[300];
	struct vmbus_netvsc_opts opts;
	struct host h;
	uint32_t i;

	host_start(&h);
	opts = host_opts(&h);
	opts.open.send_bytes = 4096;
	must_eq(host_client(&h, &opts), 0);
	h.returned = 0;
	host_pattern(data, 60, 5);
	for (i = 0; i < 300; i++) {
		(void)host_deliver(&h, 0, data, 60, NULL, 0);
		loop_settle(h.l);
		must_eq(vmbus_netvsc_receive(&h.nv, 0, &burst[i], 64), 1);
	}
	for (i = 0; i < 300; i++)
		must_eq(vmbus_netvsc_release(&h.nv, 0, &burst[i]), 0);
	wait_returned(&h, 300, 0);
	for (i = 1; i < 300; i++)
		must(h.returned_ids[i] == h.returned_ids[i - 1] + 1);
	host_free(&h);
}
END_TEST

/* Polled: receive() does it all. */
START_TEST(netvsc_receive__polls)
{
	struct vmbus_netvsc_opts opts;
	struct host h;
	uint32_t i;
	int n = 0;

	host_start(&h);
	opts = host_opts(&h);
	opts.open.poll = true;
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), 0);
	for (i = 0; i < 200 && !h.ready; i++) {
		loop_settle(h.l);
		must(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64) <= 0);
	}
	must_eq(h.ready, 1);
	must_eq(h.ready_err, 0);
	host_pattern(data, 60, 5);
	(void)host_deliver(&h, 0, data, 60, NULL, 0);
	n = vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64);
	must_eq(n, 1);
	must(is_frame(&h.burst.frame[0], data, 60));
	must_eq(vmbus_netvsc_release(&h.nv, 0, &h.burst), 0);
	for (i = 0; i < 200; i++) { /* 42 sections */
		must_eq(host_send_one(&h, 0, data, 60), 1);
		loop_settle(h.l);
	}
	must_eq(h.frames, 200);
	must_eq(h.readable, 0);
	must_eq(vmbus_netvsc_stop(&h.nv), 0);
	loop_settle(h.l);
	must_eq(h.closed, 1);
	must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 64), VMBUS_E_STATE);
	host_free(&h);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "receive", 30);

	tcase_add_test(tc, netvsc_receive__every_length);
	tcase_add_loop_test(tc, netvsc_receive__takes_more_than_it_sends, 0, 6);
	tcase_add_loop_test(tc, netvsc_receive__bursts, 1, 2);
	tcase_add_loop_test(tc, netvsc_receive__bursts, 7, 9);
	tcase_add_loop_test(tc, netvsc_receive__bursts, 64, 66);
	tcase_add_loop_test(tc, netvsc_receive__bursts, 375, 376);
	tcase_add_loop_test(tc, netvsc_receive__information, 0, 9);
	tcase_add_loop_test(tc, netvsc_receive__refuses_frames, 0, 36);
	tcase_add_test(tc, lesson_11_short_frames);
	tcase_add_loop_test(tc, netvsc_receive__refuses_packets, 0, 10);
	tcase_add_test(tc, netvsc_receive__drops);
	tcase_add_test(tc, lesson_11_packets_without_end);
	tcase_add_loop_test(tc, netvsc_receive__merges, 0, 8);
	tcase_add_test(tc, netvsc_receive__refuses_a_first_piece_that_is_too_long);
	tcase_add_test(tc, netvsc_receive__within_callback);
	tcase_add_test(tc, netvsc_release__waits_for_room);
	tcase_add_test(tc, netvsc_receive__polls);
}

VMBUS_TEST_MAIN("net.netvsc_receive", tests)
