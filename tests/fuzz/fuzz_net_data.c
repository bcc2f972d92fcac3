/* SPDX-License-Identifier: MIT */
/*
 * The data path of the network device's provider against a guest whose every frame is input: messages
 * and per-packet information in sections and pages, good ones with some words changed, completions of
 * anything, on a primary channel and a sub-channel that has no queue of the port; the port takes as
 * much as the input says, and gives frames of any kind.
 *
 * What the port is given keeps to the promises of <vmbus/port.h>; what the guest is given lies in its
 * sections, none of which it has already; when the port has gone on, every packet was answered once;
 * no page is pinned in the end.
 */
#define _GNU_SOURCE

#include "vmbus_test.h"

#undef ck_abort_msg
#define ck_abort_msg(...) __builtin_trap()

#include "net/frames.h"

#include "fuzz/input.h"

#define OPS_MAX 128u
#define SUBS 1u
#define IDS 1024u
#define KEPT 64u

static struct netbox b;
static struct vmbus_port_ops ops;
static uint8_t asked[SUBS + 1][IDS]; /* 1: under way, 2: answered */
static uint64_t sent[SUBS + 1];
static uint64_t kept[SUBS + 1][KEPT]; /* packets of frames that the guest has */
static uint32_t kepts[SUBS + 1];
static uint8_t lent[NB_RX_PAGES * 2]; /* sections that it has, each once for each packet */
static uint32_t budget;
static struct vmbus_frame push[16];
static struct vmbus_iov piece[16][2];
static uint8_t bytes[70000];
static uint32_t pushes, pushed;

/* ---- the port ---- */

static void check_frame(const struct vmbus_frame *f)
{
	const uint32_t tso = f->flags & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6);
	uint64_t sum = 0;
	uint32_t i, x = 0;

	must(f->bytes >= 14 && f->bytes <= VMBUS_FRAME_BYTES_MAX + 4u && f->pieces >= 1);
	must(f->piece[0].len == f->bytes || f->piece[0].len >= VMBUS_FRAME_HEAD);
	for (i = 0; i < f->pieces; i++) {
		const uint8_t *const p = f->piece[i].base;

		must(f->piece[i].len > 0);
		sum += f->piece[i].len;
		x += p[0] + p[f->piece[i].len - 1];
	}
	must(sum == f->bytes && x != UINT32_MAX);
	must(!(f->flags & ~(b.port.info.can | VMBUS_FRAME_CSUM_OK | VMBUS_FRAME_HASH)));
	if (f->flags & VMBUS_FRAME_CSUM)
		must(f->csum_start >= 14u &&
		     f->csum_start + f->csum_offset + 2u <= f->piece[0].len);
	if (tso)
		must(f->flags & VMBUS_FRAME_CSUM && f->mss && f->header_bytes < f->bytes &&
		     f->header_bytes <= f->piece[0].len);
	else
		must(f->bytes <= 1514 + 8);
}

static uint32_t port_send(struct vmbus_port_queue *queue, const struct vmbus_frame *f, uint32_t n)
{
	uint32_t i;

	must(n >= 1 && n <= VMBUS_PORT_BURST && queue->number == 0);
	for (i = 0; i < n && budget; i++, budget--)
		check_frame(&f[i]);
	return i;
}

static void port_ready(struct vmbus_port_queue *queue)
{
	uint64_t count;

	(void)!read(queue->fd, &count, sizeof(count));
	if (pushed < pushes)
		pushed += vmbus_port_deliver(queue, push + pushed, pushes - pushed);
}

static uint32_t port_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			     uint32_t n)
{
	uint64_t count;
	uint32_t i, k;

	(void)!read(queue->fd, &count, sizeof(count));
	for (i = 0; i < n && pushed < pushes; i++, pushed++) {
		uint32_t left =
			push[pushed].bytes < room[i].room ? push[pushed].bytes : room[i].room;

		room[i].bytes = left;
		room[i].flags = push[pushed].flags & VMBUS_FRAME_CSUM_OK;
		for (k = 0; k < room[i].spans && left; k++) {
			const uint32_t some =
				left < room[i].span[k].len ? left : (uint32_t)room[i].span[k].len;

			memcpy(room[i].span[k].base, push[pushed].piece[0].base,
			       some < push[pushed].piece[0].len ? some : push[pushed].piece[0].len);
			left -= some;
		}
		must(left == 0);
	}
	return i;
}

static void wake_port(void)
{
	const uint64_t one = 1;

	if (b.port.queue[0])
		must(write(b.port.queue[0]->fd, &one, 8) == 8);
}

/* ---- the guest ---- */

static void take_ranges(uint32_t chan, const struct vmbus_packet *pkt, bool keep)
{
	struct vmbus_wire_ranges it;
	struct vmbus_wire_range range;

	must(vmbus_wire_ranges_begin(&it, pkt) == 0);
	while (vmbus_wire_ranges_next(&it, &range) == 1) {
		const uint32_t section = range.byte_offset / b.rx_section;
		const uint8_t *const m = nb_page(&b, b.rx) + range.byte_offset;

		must(section < b.rx_count);
		must(range.byte_offset % b.rx_section + range.byte_count <= b.rx_section);
		must(range.byte_offset % 8u == 0);
		must(nb_32(m + 4) <= range.byte_count);
		if (nb_32(m) == 1)
			must(nb_32(m + 8) + 8 + nb_32(m + 12) <= range.byte_count);
		must(!lent[section]); /* of packets that were given back before this one */
	}
	if (!keep || kepts[chan] == KEPT) {
		nb_return(&b, chan, pkt->id);
		return;
	}
	must(vmbus_wire_ranges_begin(&it, pkt) == 0);
	while (vmbus_wire_ranges_next(&it, &range) == 1)
		lent[range.byte_offset / b.rx_section] = 1;
	kept[chan][kepts[chan]++] = pkt->id;
}

static uint32_t read_all(bool keep)
{
	struct vmbus_packet pkt;
	uint32_t all = 0, k;

	for (k = 0; k <= SUBS; k++)
		while (fake_receive(&b.c[k], &pkt, 1) == 1) {
			all++;
			if (pkt.type == VMBUS_PKT_XFER_PAGES) {
				take_ranges(k, &pkt, keep);
			} else if (pkt.type == VMBUS_PKT_COMPLETION && pkt.id < IDS) {
				must(asked[k][pkt.id] == 1);
				asked[k][pkt.id] = 2;
			}
			if (all % 16 == 0)
				fake_run(&b.f);
		}
	return all;
}

static void give_back_all(void)
{
	uint32_t k;

	for (k = 0; k <= SUBS; k++)
		while (kepts[k]) {
			nb_return(&b, k, kept[k][--kepts[k]]);
			fake_run(&b.f);
		}
	memset(lent, 0, sizeof(lent));
}

/* ---- frames of the input's ---- */

/* A message in private memory; returns its bytes. */
static uint32_t make_message(struct input *in, uint8_t *m)
{
	struct fr_ppi ppi[3];
	uint8_t frame[1600];
	const uint32_t how = take(in, 1);
	uint32_t len = 14 + take(in, 2) % 1500, i, changes;

	switch (how & 3) {
	case 0:
		len = fr_ipv4(frame, 6, len % 1400);
		break;
	case 1:
		len = fr_ipv4(frame, 17, len % 1400);
		break;
	default:
		fr_plain(frame, len, how);
		break;
	}
	for (i = 0; i < 3; i++) {
		static const uint32_t types[] = { 0, 2, 6, 8, 0x80000001u, 9, 0, 2 };

		ppi[i].type = types[take(in, 1) % 8];
		ppi[i].word = take(in, 4);
	}
	len = fr_message(m, ppi, how >> 2 & 3, frame, len, how & 16);
	for (changes = how >> 5 & 3; changes; changes--)
		nb_put(m + take(in, 1) % 140 % len, 1 + (take(in, 1) & 3), take(in, 4));
	return len;
}

static void send_section(struct input *in, uint32_t chan)
{
	uint8_t msg[40] = { 107 };
	struct vmbus_msg m = { .id = sent[chan] + 1,
			       .data = msg,
			       .len = sizeof(msg),
			       .type = VMBUS_PKT_INBAND,
			       .flags = VMBUS_PKT_FLAG_COMPLETE };
	const uint32_t section = take(in, 1) % 33, count = 1 + take(in, 1) % 3;
	uint32_t len = 0, i;

	if (sent[chan] + 1 >= IDS)
		return;
	for (i = 0; i < count && section < 32 && len < 4000; i++)
		len += make_message(in, fr_at(&b, section) + len);
	nb_put(msg + 8, 4, section);
	nb_put(msg + 12, 4, take(in, 1) < 240 ? len : take(in, 2));
	if (vmbus_ring_tx_put(&b.c[chan].tx, &m, 1) == 1)
		asked[chan][++sent[chan]] = 1;
}

static void send_pages(struct input *in, uint32_t chan)
{
	uint8_t msg[40] = { 107 }, ext[64], whole[2048];
	struct vmbus_msg m = { .id = sent[chan] + 1,
			       .data = msg,
			       .len = sizeof(msg),
			       .type = VMBUS_PKT_GPA_DIRECT,
			       .flags = VMBUS_PKT_FLAG_COMPLETE,
			       .ext = ext };
	const uint32_t len = make_message(in, whole), offset = take(in, 2) % 4096;
	const uint32_t cut = take(in, 1) & 1 ? take(in, 2) % len : 0;

	if (sent[chan] + 1 >= IDS)
		return;
	memcpy(fr_at(&b, 5), whole, cut);
	memcpy(nb_page(&b, b.data) + offset, whole + cut, len - cut);
	nb_put(msg + 8, 4, cut ? 5 : UINT32_MAX);
	nb_put(msg + 12, 4, cut);
	m.ext_len = nb_range(ext, b.data, offset, len - cut);
	if (vmbus_ring_tx_put(&b.c[chan].tx, &m, 1) == 1)
		asked[chan][++sent[chan]] = 1;
}

static void push_frame(struct input *in)
{
	static const uint32_t sizes[] = { 14, 60, 1514, 1515, 1600, 9000, 60000, 65000 };
	const uint32_t how = take(in, 1), n = sizes[how & 7];
	uint32_t first, at;

	if (pushed == pushes)
		pushed = pushes = 0;
	if (pushes == 16)
		return;
	at = pushes++;
	first = n > 400 && how & 8 ? 192 + take(in, 1) : n;
	push[at] = (struct vmbus_frame){ .piece = piece[at],
					 .pieces = first < n ? 2 : 1,
					 .bytes = n,
					 .flags = take(in, 1) & 127,
					 .csum_start = (uint16_t)(how & 16 ? 34 : take(in, 1)),
					 .csum_offset = (uint16_t)(how & 32 ? 16 : take(in, 1)),
					 .header_bytes = (uint16_t)(how & 64 ? 54 : take(in, 1)),
					 .mss = (uint16_t)take(in, 2),
					 .vlan = (uint16_t)take(in, 2) };
	piece[at][0] = (struct vmbus_iov){ bytes, first };
	piece[at][1] = (struct vmbus_iov){ bytes + first, n - first };
	wake_port();
}

static void step(struct input *in)
{
	const uint32_t op = take(in, 1), chan = op & 1;

	if (op < 90)
		send_section(in, chan);
	else if (op < 130)
		send_pages(in, chan);
	else if (op < 170)
		push_frame(in);
	else if (op < 190)
		fake_run(&b.f);
	else if (op < 215)
		(void)read_all(op & 2);
	else if (op < 225)
		nb_return(&b, chan,
			  op & 2 ? take(in, 4) : (uint64_t)take(in, 2) << 32 | take(in, 1));
	else if (op < 230)
		give_back_all();
	else if (op < 250) {
		budget = take(in, 1);
		wake_port();
	} else if (op < 253)
		vmbus_net_link(b.net, op & 1);
	else
		bytes[take(in, 1)] = (uint8_t)take(in, 1);
}

/* Everything goes on: each packet that is left is answered. */
static void finish(void)
{
	uint32_t k, n;

	do {
		budget = UINT32_MAX;
		wake_port();
		fake_run(&b.f);
		n = read_all(false);
		give_back_all();
	} while (n);
	for (k = 0; k <= SUBS; k++)
		for (n = 1; n <= sent[k]; n++)
			must(asked[k][n] == 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t i, how = take(&in, 1);

	memset(&b, 0, sizeof(b));
	nb_prepare(&b);
	ops = nb_port_ops;
	ops.send = port_send;
	ops.ready = how & 1 ? NULL : port_ready;
	ops.receive = how & 1 ? port_receive : NULL;
	b.opts.port.ops = &ops;
	b.opts.subchannels = SUBS;
	b.opts.packets_max = 8;
	b.opts.flags = how & 2 ? VMBUS_NET_NO_PACK : 0;
	b.port.info.can = how >> 2 & (VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 |
				      VMBUS_FRAME_VLAN);
	if (b.port.info.can & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6))
		b.port.info.can |= VMBUS_FRAME_CSUM;
	memset(asked, 0, sizeof(asked));
	memset(sent, 0, sizeof(sent));
	memset(kepts, 0, sizeof(kepts));
	memset(lent, 0, sizeof(lent));
	pushes = pushed = budget = 0;
	(void)fr_ipv4(bytes, 6, 1400);
	memcpy(bytes, fr_guest, 6);
	b.id = IDS; /* of the messages of the beginning */
	nb_start(&b);
	nb_subs(&b, SUBS);
	(void)nb_run(&b, 0);
	for (i = 0; i < OPS_MAX && in.left; i++)
		step(&in);
	finish();
	nb_end(&b);
	must(vmbus_region_pins(&b.f.region) == 0);
	return 0;
}
