/* SPDX-License-Identifier: MIT */
/* Frames from the client to the host: packing, sections, offloads, large frames, no room. */
#include "clienthost.h"

static uint8_t data[64][1600];

static uint32_t be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

/* The sum of 16-bit words, folded. */
static uint32_t sum_of(const uint8_t *p, uint32_t bytes, uint32_t sum)
{
	uint32_t i;

	for (i = 0; i + 1 < bytes; i += 2)
		sum += be16(p + i);
	if (bytes & 1)
		sum += (uint32_t)p[bytes - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xFFFF) + (sum >> 16);
	return sum;
}

/* A frame of IPv4 or IPv6 with TCP (protocol 6) or UDP, and a pseudo header's sum in it. */
static uint32_t ip_frame(uint8_t *p, uint32_t ip, uint8_t protocol, uint32_t payload)
{
	const uint32_t head = ip == 4 ? 20 : 40, l4 = protocol == 6 ? 20 : 8;
	uint8_t *const l3 = p + 14, *const at = l3 + head;
	const uint32_t len = l4 + payload;
	uint32_t i, sum;

	memset(p, 0, 14 + head + l4);
	p[0] = p[6] = 2;
	p[12] = ip == 4 ? 8 : 0x86;
	p[13] = ip == 4 ? 0 : 0xDD;
	l3[0] = ip == 4 ? 0x45 : 0x60;
	if (ip == 4) {
		l3[2] = (uint8_t)((20 + len) >> 8);
		l3[3] = (uint8_t)(20 + len);
		l3[8] = 64;
		l3[9] = protocol;
	} else {
		l3[4] = (uint8_t)(len >> 8);
		l3[5] = (uint8_t)len;
		l3[6] = protocol;
		l3[7] = 64;
	}
	for (i = 0; i < (ip == 4 ? 8u : 32u); i++)
		l3[(ip == 4 ? 12 : 8) + i] = (uint8_t)(i * 17 + 3);
	if (protocol == 6)
		at[12] = 0x50;
	else
		at[4] = (uint8_t)(len >> 8), at[5] = (uint8_t)len;
	for (i = 0; i < payload; i++)
		at[l4 + i] = (uint8_t)(i * 3);
	sum = sum_of(l3 + (ip == 4 ? 12 : 8), ip == 4 ? 8 : 32, protocol + len);
	at[protocol == 6 ? 16 : 6] = (uint8_t)(sum >> 8);
	at[protocol == 6 ? 17 : 7] = (uint8_t)sum;
	return 14 + head + len;
}

/* Both sides, and channels that are dispatched from here. */
static void host_turn(struct host *h)
{
	uint32_t i;

	loop_settle(h->l);
	for (i = 0; h->chan[0].pull_p && i < 2; i++)
		(void)vmbus_netvsc_receive(&h->nv, i, &h->burst, 1);
}

static uint32_t word(const struct host_frame *f, uint32_t type)
{
	uint32_t at;

	for (at = 0; at < f->ppi_bytes; at += host_get32(f->ppi + at))
		if (host_get32(f->ppi + at + 4) == type) {
			must_eq(host_get32(f->ppi + at), 16);
			must_eq(host_get32(f->ppi + at + 8), 12);
			return host_get32(f->ppi + at + 12);
		}
	return UINT32_MAX;
}

/* Frames go together, as many as a section has room for, or the host takes. */
START_TEST(netvsc_send__packs)
{
	static const struct {
		uint32_t frames_max, want, bytes, packets;
	} cases[] = {
		{ 8, 0, 60, 4 },  { 32, 0, 60, 1 },    { 64, 16, 60, 2 },   { 1, 0, 60, 32 },
		{ 0, 0, 60, 32 }, { 64, 0, 1514, 11 }, { 1000, 0, 100, 1 },
	};
	struct vmbus_iov piece[32];
	struct vmbus_frame frame[32];
	struct vmbus_netvsc_opts opts;
	struct vmbus_netvsc_stats stats;
	struct host h;
	uint32_t i;

	host_start(&h);
	h.frames_max = cases[_i].frames_max;
	opts = host_opts(&h);
	opts.frames_max = cases[_i].want;
	must_eq(host_client(&h, &opts), 0);
	for (i = 0; i < 32; i++) {
		host_pattern(data[i], cases[_i].bytes, i);
		piece[i] = (struct vmbus_iov){ data[i], cases[_i].bytes };
		frame[i] = (struct vmbus_frame){ .piece = &piece[i],
						 .pieces = 1,
						 .bytes = cases[_i].bytes };
	}
	must_eq(vmbus_netvsc_send(&h.nv, 0, frame, 32), 32);
	loop_settle(h.l);
	must_eq(h.frames, 32);
	must_eq(h.packets, cases[_i].packets);
	for (i = 0; i < 32; i++) {
		must_eq(h.frame[i].bytes, cases[_i].bytes);
		must_eq(h.frame[i].ppi_bytes, 0);
		must_eq(memcmp(h.frame[i].data, data[i], cases[_i].bytes), 0);
	}
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.sent_frames, 32);
	must_eq(stats.sent_bytes, 32 * cases[_i].bytes);
	must_eq(stats.sent_packets, cases[_i].packets);
	must_eq(stats.sections_free, stats.sections);
	must_eq(vmbus_netvsc_send(&h.nv, 0, frame, 0), 0);
	host_free(&h);
}
END_TEST

/* Every length, in one piece or several, with every size of a section: whole. */
START_TEST(netvsc_send__every_length)
{
	static const uint32_t sections[] = { 256, 260, 1000, 1560, 6144, 65536 };
	static uint8_t big[9100];
	struct vmbus_netvsc_opts opts;
	struct host h;
	uint32_t bytes, cut;

	host_start(&h);
	h.send_section = sections[_i];
	opts = host_opts(&h);
	opts.mtu = 9000;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.nv.frame_max, _i > 1 ? 9014 : sections[_i] * 33 - 124);
	host_pattern(big, sizeof(big), 77);
	for (bytes = 14; bytes <= h.nv.frame_max; bytes += bytes < 1700 ? 1 : 97) {
		const struct vmbus_iov piece[3] = { { big, bytes / 3 },
						    { big + bytes / 3, bytes / 7 },
						    { big + bytes / 3 + bytes / 7,
						      bytes - bytes / 3 - bytes / 7 } };
		struct vmbus_frame frame = { .piece = piece, .pieces = 3, .bytes = bytes };
		const struct vmbus_iov one = { big, bytes };

		for (cut = 0; cut < 2; cut++) {
			vmbus_test_at("%u bytes, %u", bytes, cut);
			must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), 1);
			loop_settle(h.l);
			must_eq(h.frames, 1);
			must_eq(h.frame[0].bytes, bytes);
			must_eq(memcmp(h.frame[0].data, big, bytes), 0);
			host_forget(&h);
			frame.piece = &one;
			frame.pieces = 1;
		}
	}
	host_free(&h);
}
END_TEST

START_TEST(netvsc_send__refuses)
{
	static uint8_t long_one[1519];
	struct vmbus_iov piece = { long_one, 60 };
	struct vmbus_frame frame = { .piece = &piece, .pieces = 1, .bytes = 60 };
	struct vmbus_frame three[3];
	void *to;
	struct host h;

	host_start(&h);
	h.lso4 = h.lso6 = 0;
	must_eq(host_client(&h, NULL), 0);
	must_eq(vmbus_netvsc_send(&h.nv, 1, &frame, 1), VMBUS_E_STATE);
	must_eq(vmbus_netvsc_send(&h.nv, UINT32_MAX, &frame, 1), VMBUS_E_STATE);
	frame.bytes = 61; /* than its pieces have */
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), VMBUS_E_RANGE);
	piece.len = frame.bytes = 13;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), VMBUS_E_RANGE);
	piece.len = frame.bytes = 1519;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), VMBUS_E_RANGE);
	piece.len = frame.bytes = 1518;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), 1);
	frame.flags = VMBUS_FRAME_TSO4;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), VMBUS_E_RANGE);
	piece.len = frame.bytes = 100;
	frame.flags = 1u << 20;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), VMBUS_E_INVAL);
	frame.flags = VMBUS_FRAME_CSUM;
	frame.csum_start = 99;
	frame.csum_offset = 16;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), VMBUS_E_RANGE);
	frame.flags = 0;
	three[0] = three[1] = three[2] = frame;
	three[2].bytes = 7;
	must_eq(vmbus_netvsc_send(&h.nv, 0, three, 3), 2);
	must_eq(vmbus_netvsc_commit(&h.nv, 0, &frame), VMBUS_E_STATE);
	must_eq(vmbus_netvsc_reserve(&h.nv, 0, 13, 0, &to), VMBUS_E_RANGE);
	must_eq(vmbus_netvsc_reserve(&h.nv, 0, 1519, 0, &to), VMBUS_E_RANGE);
	must_eq(vmbus_netvsc_reserve(&h.nv, 0, 60, 1u << 20, &to), VMBUS_E_INVAL);
	must_eq(vmbus_netvsc_reserve(&h.nv, 0, 60, VMBUS_FRAME_TSO4, &to), VMBUS_E_INVAL);
	must_eq(vmbus_netvsc_reserve(&h.nv, 1, 60, 0, &to), VMBUS_E_STATE);
	must_eq(vmbus_netvsc_commit(&h.nv, 1, &frame), VMBUS_E_STATE);
	must_eq(vmbus_netvsc_flush(&h.nv, 1), VMBUS_E_STATE);
	must_eq(vmbus_netvsc_reserve(&h.nv, 0, 60, 0, &to), 0);
	frame.bytes = 61;
	must_eq(vmbus_netvsc_commit(&h.nv, 0, &frame), VMBUS_E_RANGE);
	frame.bytes = 60;
	frame.flags = VMBUS_FRAME_VLAN;
	must_eq(vmbus_netvsc_commit(&h.nv, 0, &frame), VMBUS_E_INVAL);
	host_free(&h);
}
END_TEST

/* Built in place: what is committed is sent with the next flush, or when a packet is full. */
START_TEST(netvsc_reserve__builds_in_place)
{
	struct vmbus_frame frame = { .bytes = 0 };
	struct host h;
	uint32_t i;
	void *to;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	for (i = 0; i < 20; i++) {
		frame.flags = i % 3 == 0 ? VMBUS_FRAME_VLAN : 0;
		frame.vlan = 0xB123;
		frame.bytes = 60 + i;
		must_eq(vmbus_netvsc_reserve(&h.nv, 0, 100, frame.flags, &to), 0);
		must_eq(vmbus_netvsc_reserve(&h.nv, 0, 200, frame.flags, &to), 0);
		host_pattern(to, frame.bytes, i);
		must_eq(vmbus_netvsc_commit(&h.nv, 0, &frame), 0);
		must_eq(vmbus_netvsc_commit(&h.nv, 0, &frame), VMBUS_E_STATE);
	}
	loop_settle(h.l);
	must_eq(h.frames, 16);
	must_eq(vmbus_netvsc_flush(&h.nv, 0), 0);
	must_eq(vmbus_netvsc_flush(&h.nv, 0), 0);
	loop_settle(h.l);
	must_eq(h.frames, 20);
	must_eq(h.packets, 3);
	for (i = 0; i < 20; i++) {
		host_pattern(data[0], 60 + i, i);
		must_eq(h.frame[i].bytes, 60 + i);
		must_eq(memcmp(h.frame[i].data, data[0], 60 + i), 0);
		/* priority 5, DEI 1, id 0x123 */
		must_eq(word(&h.frame[i], 6), i % 3 ? UINT32_MAX : 0x123D);
	}
	host_free(&h);
}
END_TEST

/* Checksums: the host's where it makes them, ours where not; both right. */
START_TEST(netvsc_send__checksums)
{
	static const uint8_t ips[] = { 4, 4, 6, 6 }, protocols[] = { 6, 17, 6, 17 };
	const uint32_t way = (uint32_t)_i % 4, host_does = _i < 8;
	const uint8_t ip = ips[way], protocol = protocols[way];
	const bool large = _i % 8 >= 4;
	struct vmbus_frame frame = { .pieces = 1, .flags = VMBUS_FRAME_CSUM };
	static uint8_t p[9000];
	struct vmbus_netvsc_opts opts;
	struct vmbus_netvsc_stats stats;
	struct vmbus_iov piece;
	const uint8_t *l3, *at;
	uint32_t sum, len;
	struct host h;

	host_start(&h);
	opts = host_opts(&h);
	opts.mtu = 9000;
	opts.flags = host_does ? 0 : VMBUS_NETVSC_NO_OFFLOAD;
	must_eq(host_client(&h, &opts), 0);
	frame.bytes = ip_frame(p, ip, protocol, large ? 8001 : 333);
	piece = (struct vmbus_iov){ p, frame.bytes };
	frame.piece = &piece;
	frame.csum_start = ip == 4 ? 34 : 54;
	frame.csum_offset = protocol == 6 ? 16 : 6;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), 1);
	loop_settle(h.l);
	must_eq(h.frames, 1);
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.summed, !host_does);
	if (host_does) {
		must_eq(word(&h.frame[0], 0), (ip == 4 ? 1u : 2u) | (protocol == 6 ? 4u : 8u) |
						      (uint32_t)frame.csum_start << 16);
		must_eq(memcmp(h.frame[0].data, p, frame.bytes), 0);
		host_free(&h);
		return;
	}
	must_eq(h.frame[0].ppi_bytes, 0);
	l3 = h.frame[0].data + 14;
	at = h.frame[0].data + frame.csum_start;
	len = frame.bytes - frame.csum_start;
	sum = sum_of(l3 + (ip == 4 ? 12 : 8), ip == 4 ? 8 : 32, protocol + len);
	must_eq(sum_of(at, len, sum), 0xFFFF);
	host_free(&h);
}
END_TEST

/* Large send: the words that the host wants, the rest as it is; in one section and in several. */
START_TEST(netvsc_send__large_send)
{
	const uint8_t ip = _i & 1 ? 6 : 4;
	const uint32_t payload = _i & 2 ? 40000 : 4000;
	static uint8_t p[66000], want[66000];
	struct vmbus_frame frame = { .pieces = 1, .mss = 1400 };
	struct vmbus_iov piece;
	uint32_t sum, l4 = ip == 4 ? 34 : 54;
	struct host h;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	frame.flags = ip == 4 ? VMBUS_FRAME_TSO4 : VMBUS_FRAME_TSO6;
	frame.flags |= VMBUS_FRAME_CSUM;
	frame.bytes = ip_frame(p, ip, 6, payload);
	frame.csum_start = (uint16_t)l4;
	frame.csum_offset = 16;
	frame.header_bytes = (uint16_t)(l4 + 20);
	piece = (struct vmbus_iov){ p, frame.bytes };
	frame.piece = &piece;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), 1);
	loop_settle(h.l);
	must_eq(h.frames, 1);
	must_eq(h.packets, 1);
	must_eq(h.frame[0].bytes, frame.bytes);
	must_eq(h.frame[0].ppi_bytes, 16);
	must_eq(word(&h.frame[0], 2), 1400u | l4 << 20 | 1u << 30 | (uint32_t)(ip == 6) << 31);
	memcpy(want, p, frame.bytes);
	sum = sum_of(want + (ip == 4 ? 26 : 22), ip == 4 ? 8 : 32, 6);
	if (ip == 4)
		memset(want + 16, 0, 2), memset(want + 24, 0, 2);
	else
		memset(want + 18, 0, 2);
	want[l4 + 16] = (uint8_t)(sum >> 8);
	want[l4 + 17] = (uint8_t)sum;
	must_eq(memcmp(h.frame[0].data, want, frame.bytes), 0);
	/* What cannot be. */
	frame.mss = 0;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), VMBUS_E_RANGE);
	frame.mss = 1400;
	frame.flags ^= VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), VMBUS_E_RANGE);
	frame.flags |= VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), VMBUS_E_INVAL);
	p[14] = 0;
	frame.flags = VMBUS_FRAME_TSO4;
	must_eq(vmbus_netvsc_send(&h.nv, 0, &frame, 1), VMBUS_E_RANGE);
	host_free(&h);
}
END_TEST

/* No section is left: FULL, writable() when some are back, and nothing is lost or sent twice. */
START_TEST(netvsc_send__full)
{
	struct vmbus_netvsc_stats stats;
	struct host h;
	uint32_t i;
	void *to;
	int err;

	host_start(&h);
	h.keep = true;
	must_eq(host_client(&h, NULL), 0);
	host_pattern(data[0], 60, 1);
	for (i = 0; i < 42; i++)
		must_eq(host_send_one(&h, 0, data[0], 60), 1);
	must_eq(host_send_one(&h, 0, data[0], 60), VMBUS_E_FULL);
	must_eq(vmbus_netvsc_reserve(&h.nv, 0, 60, 0, &to), VMBUS_E_FULL);
	loop_settle(h.l);
	must_eq(h.frames, 42);
	must_eq(h.kept_count, 42);
	must_eq(h.writable, 0);
	host_let_go(&h);
	loop_settle(h.l);
	must(h.writable >= 1);
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.sections_free, 42);
	must_eq(stats.full, 2);
	/* A small ring: what was taken is sent when there is room. */
	h.keep = false;
	for (i = 0; i < 500; i++) {
		err = host_send_one(&h, 0, data[0], 60);
		if (err == 1)
			continue;
		must_eq(err, VMBUS_E_FULL);
		loop_settle(h.l);
		i--;
	}
	loop_settle(h.l);
	must_eq(h.frames, 542);
	host_free(&h);
}
END_TEST

/* The ring has less room than the send buffer. */
START_TEST(netvsc_send__ring_full)
{
	struct vmbus_netvsc_opts opts;
	struct host h;
	uint32_t i, full = 0;
	int err;

	host_start(&h);
	opts = host_opts(&h);
	opts.open.send_bytes = 4096;
	opts.send_bytes = 1u << 20;
	must_eq(host_client(&h, &opts), 0);
	for (i = 0; i < 1000; i++) {
		host_pattern(data[0], 60, i);
		err = host_send_one(&h, 0, data[0], 60);
		if (err != 1) {
			must_eq(err, VMBUS_E_FULL);
			full++;
			loop_settle(h.l);
			i--;
		}
	}
	must(full > 5);
	loop_settle(h.l);
	must_eq(h.frames, 1000);
	for (i = 0; i < 1000; i++) {
		host_pattern(data[0], 60, i);
		must_eq(memcmp(h.frame[i].data, data[0], 60), 0);
	}
	host_free(&h);
}
END_TEST

/* A dispatch between reserve and commit: the ring has room again, frames that waited for that go out,
   and the place with them. */
START_TEST(netvsc_commit__after_dispatch)
{
	const uint32_t channel = (uint32_t)_i & 1u;
	const bool poll = _i & 2;
	struct vmbus_frame frame = { .bytes = 60 };
	struct vmbus_netvsc_chan *chan;
	struct vmbus_netvsc_opts opts;
	uint32_t i, n;
	struct host h;
	void *to;

	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = 1;
	opts.open.send_bytes = 4096;
	opts.open.poll = poll;
	opts.send_bytes = 1u << 20;
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), 0);
	for (i = 0; i < 1000 && (h.ready == 0 || h.opened < 2); i++)
		host_turn(&h);
	must_eq(h.ready_err, 0);
	chan = &h.chan[channel];
	host_pattern(data[0], 60, 1);
	for (n = 0; n < 500 && !chan->wants_p; n++)
		must_eq(host_send_one(&h, channel, data[0], 60), 1);
	must(n < 500); /* the ring is full: the last one waits in its section */
	must_eq(vmbus_netvsc_reserve(&h.nv, channel, 60, 0, &to), 0);
	host_pattern(to, 60, 2);
	for (i = 0; i < 100; i++)
		host_turn(&h);
	must_eq(h.frames, n);
	must_eq(vmbus_netvsc_commit(&h.nv, channel, &frame), VMBUS_E_STATE);
	must_eq(vmbus_netvsc_reserve(&h.nv, channel, 60, 0, &to), 0);
	host_pattern(to, 60, 3);
	must_eq(vmbus_netvsc_commit(&h.nv, channel, &frame), 0);
	must_eq(vmbus_netvsc_flush(&h.nv, channel), 0);
	for (i = 0; i < 100; i++)
		host_turn(&h);
	must_eq(h.frames, n + 1);
	host_pattern(data[0], 60, 3);
	must_eq(memcmp(h.frame[n].data, data[0], 60), 0);
	host_free(&h);
}
END_TEST

static void on_writable_reserve(void *ctx, uint32_t channel)
{
	struct host *const h = ctx;
	void *to;

	h->writable++;
	must_eq(vmbus_netvsc_reserve(&h->nv, channel, 150, 0, &to), 0);
}

/* A callback has reserved a place, while a large frame waited for sections; the frame behind that one
   takes it, and the ring is full or not: nothing is committed past the end of a section. */
START_TEST(netvsc_commit__after_large)
{
	const struct vmbus_frame own = { .bytes = 150 };
	struct vmbus_iov piece[2] = { { data[0], 1514 }, { data[1], 60 } };
	struct vmbus_frame frame[2] = { { .piece = &piece[0], .pieces = 1, .bytes = 1514 },
					{ .piece = &piece[1], .pieces = 1, .bytes = 60 } };
	struct vmbus_netvsc_opts opts;
	uint32_t i;
	struct host h;

	host_start(&h);
	h.send_section = 256;
	opts = host_opts(&h);
	opts.open.send_bytes = 4096;
	opts.open.poll = true;
	opts.send_bytes = 64u << 10;
	opts.writable = on_writable_reserve;
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), 0);
	for (i = 0; i < 1000 && h.ready == 0; i++)
		host_turn(&h);
	must_eq(h.ready_err, 0);
	h.keep = true;
	for (i = 256 - 6; i; i--) { /* the last ones stay in the ring */
		must_eq(host_send_one(&h, 0, data[1], 60), 1);
		if (i > (uint32_t)_i)
			loop_settle(h.l);
	}
	must_eq(vmbus_netvsc_send(&h.nv, 0, frame, 2), VMBUS_E_FULL);
	host_let_go(&h);
	must(vmbus_netvsc_send(&h.nv, 0, frame, 2) != 0);
	must_eq(h.writable, 1);
	(void)vmbus_netvsc_commit(&h.nv, 0, &own);
	must(h.chan[0].open_section_p == UINT32_MAX || h.chan[0].open_bytes_p <= h.nv.room_p);
	host_free(&h);
}
END_TEST

/* The NIC, up to ready(), with a send buffer of 64 KiB. */
static void small_client(struct host *h, uint32_t send_section, bool poll,
			 void (*writable)(void *ctx, uint32_t channel))
{
	struct vmbus_netvsc_opts opts;
	uint32_t i;

	h->send_section = send_section;
	opts = host_opts(h);
	opts.send_bytes = 64u << 10;
	opts.open.poll = poll;
	if (writable)
		opts.writable = writable;
	must_eq(vmbus_netvsc_start(&h->nv, host_vsc(h), &opts), 0);
	for (i = 0; i < 1000 && h->ready == 0; i++)
		host_turn(h);
	must_eq(h->ready, 1);
	must_eq(h->ready_err, 0);
}

static int send_tso(struct host *h, uint32_t payload)
{
	static uint8_t p[66000];
	struct vmbus_iov piece = { p, ip_frame(p, 4, 6, payload) };
	const struct vmbus_frame frame = { .piece = &piece,
					   .pieces = 1,
					   .bytes = (uint32_t)piece.len,
					   .flags = VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM,
					   .mss = 1400,
					   .csum_start = 34,
					   .csum_offset = 16,
					   .header_bytes = 54 };

	return vmbus_netvsc_send(&h->nv, 0, &frame, 1);
}

/* A large frame needs every section of the channel, of which one is open, without a frame: a place was
   reserved and is given up, or a frame was refused behind the reservation.  Nothing is under way. */
START_TEST(netvsc_send__large_after_empty)
{
	struct vmbus_iov piece = { data[0], 100 };
	struct vmbus_frame odd = { .piece = &piece,
				   .pieces = 1,
				   .bytes = 100,
				   .flags = VMBUS_FRAME_CSUM,
				   .csum_start = 99,
				   .csum_offset = 16 };
	struct vmbus_netvsc_stats stats;
	const bool poll = _i >= 3;
	uint32_t i;
	struct host h;
	void *to;

	host_start(&h);
	small_client(&h, 32768, poll, NULL);
	if (_i % 3 == 0)
		must_eq(vmbus_netvsc_reserve(&h.nv, 0, 60, 0, &to), 0);
	if (_i % 3 == 1)
		must_eq(vmbus_netvsc_send(&h.nv, 0, &odd, 1), VMBUS_E_RANGE);
	if (_i % 3 == 2) {
		must_eq(vmbus_netvsc_reserve(&h.nv, 0, 100, VMBUS_FRAME_CSUM, &to), 0);
		memset(to, 0, 100);
		must_eq(vmbus_netvsc_commit(&h.nv, 0, &odd), VMBUS_E_RANGE);
	}
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.sections, 2);
	must_eq(stats.sections_free, 1);
	must_eq(send_tso(&h, 40000), 1);
	odd.flags = 0;
	must_eq(vmbus_netvsc_commit(&h.nv, 0, &odd), VMBUS_E_STATE);
	for (i = 0; i < 10; i++)
		host_turn(&h);
	must_eq(h.frames, 1);
	must_eq(h.frame[0].bytes, 40054);
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.sections_free, 2);
	must_eq(stats.full, 0);
	host_free(&h);
}
END_TEST

/* A callback reserves a place within a call that needs its section: that call gets it. */
START_TEST(netvsc_send__takes_what_a_callback_reserved)
{
	const struct vmbus_frame own = { .bytes = 60 };
	const uint32_t sections = _i ? 2 : 1;
	uint32_t i;
	struct host h;

	host_start(&h);
	small_client(&h, 65536 / sections, true, on_writable_reserve);
	h.keep = true;
	for (i = 0; i < sections; i++)
		must_eq(host_send_one(&h, 0, data[0], 60), 1);
	must_eq(host_send_one(&h, 0, data[0], 60), VMBUS_E_FULL);
	loop_settle(h.l);
	host_let_go(&h);
	must_eq(_i ? send_tso(&h, 40000) : host_send_one(&h, 0, data[0], 60), 1);
	must_eq(h.writable, 1);
	must_eq(vmbus_netvsc_commit(&h.nv, 0, &own), VMBUS_E_STATE);
	host_turn(&h);
	must_eq(h.frames, sections + 1);
	host_free(&h);
}
END_TEST

static void on_writable_commit(void *ctx, uint32_t channel)
{
	const struct vmbus_frame frame = { .bytes = 150 };
	struct host *const h = ctx;
	void *to;

	if (h->writable++)
		return;
	must_eq(vmbus_netvsc_reserve(&h->nv, channel, 150, 0, &to), 0);
	host_pattern(to, 150, 7);
	must_eq(vmbus_netvsc_commit(&h->nv, channel, &frame), 0);
}

/* A callback commits a frame, and does not flush it, within a call that needs a section: there is another,
   or it is FULL; and the frame goes out, so that its section comes back, and with it writable(). */
START_TEST(netvsc_reserve__sends_what_a_callback_committed)
{
	const uint32_t sections = _i ? 2 : 1;
	struct vmbus_netvsc_stats stats;
	struct host h;
	uint32_t i;
	void *to;

	host_start(&h);
	small_client(&h, 65536 / sections, true, on_writable_commit);
	h.keep = true;
	for (i = 0; i < sections; i++)
		must_eq(host_send_one(&h, 0, data[0], 60), 1);
	must_eq(vmbus_netvsc_reserve(&h.nv, 0, 60, 0, &to), VMBUS_E_FULL);
	loop_settle(h.l);
	h.keep = false;
	host_let_go(&h);
	must_eq(vmbus_netvsc_reserve(&h.nv, 0, 60, 0, &to), _i ? 0 : VMBUS_E_FULL);
	must_eq(h.writable, 1);
	for (i = 0; i < 10; i++)
		host_turn(&h);
	must_eq(h.frames, sections + 1);
	must_eq(h.frame[sections].bytes, 150);
	must_eq(h.writable, _i ? 1 : 2);
	must_eq(vmbus_netvsc_reserve(&h.nv, 0, 60, 0, &to), 0);
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.sections_free, sections - 1);
	host_free(&h);
}
END_TEST

/* The host says that a packet was bad, or answers it with something else. */
START_TEST(netvsc_send__counts_refused)
{
	struct vmbus_netvsc_stats stats;
	struct host h;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	h.data_status = 2;
	host_pattern(data[0], 60, 1);
	must_eq(host_send_one(&h, 0, data[0], 60), 1);
	loop_settle(h.l);
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.refused, 1);
	must_eq(stats.bad, 0);
	h.keep = true;
	must_eq(host_send_one(&h, 0, data[0], 60), 1);
	loop_settle(h.l);
	must_eq(vmbus_chan_complete(h.kept[0].chan, h.kept[0].id, "\x05\0\0\0\1\0\0\0", 8), 0);
	loop_settle(h.l);
	must_eq(vmbus_netvsc_stats(&h.nv, 0, &stats), 0);
	must_eq(stats.bad, 1);
	must_eq(stats.sections_free, stats.sections);
	host_free(&h);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "send", 30);

	tcase_add_loop_test(tc, netvsc_send__packs, 0, 7);
	tcase_add_loop_test(tc, netvsc_send__every_length, 0, 6);
	tcase_add_test(tc, netvsc_send__refuses);
	tcase_add_test(tc, netvsc_reserve__builds_in_place);
	tcase_add_loop_test(tc, netvsc_send__checksums, 0, 16);
	tcase_add_loop_test(tc, netvsc_send__large_send, 0, 4);
	tcase_add_test(tc, netvsc_send__full);
	tcase_add_test(tc, netvsc_send__ring_full);
	tcase_add_loop_test(tc, netvsc_commit__after_dispatch, 0, 4);
	tcase_add_loop_test(tc, netvsc_commit__after_large, 56, 64);
	tcase_add_loop_test(tc, netvsc_send__large_after_empty, 0, 6);
	tcase_add_loop_test(tc, netvsc_send__takes_what_a_callback_reserved, 0, 2);
	tcase_add_loop_test(tc, netvsc_reserve__sends_what_a_callback_committed, 0, 2);
	tcase_add_test(tc, netvsc_send__counts_refused);
}

VMBUS_TEST_MAIN("net.netvsc_send", tests)
