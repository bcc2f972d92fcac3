/* SPDX-License-Identifier: MIT */
/*
 * The NIC against a guest whose every packet is input: NVSP, RNDIS control and frames, in any order and
 * on several channels, over a live bus.  The guest gives sections back in time, never, or twice,
 * changes its memory between any two looks at it, closes and opens its channels; the link goes up
 * and down, the port has no room, and the bus is saved and goes on.  Each request is answered once at
 * most, no section is given to the guest that it has already, and at the end no page is pinned.
 */
#define _GNU_SOURCE

#include "vmbus_test.h"

#undef ck_abort_msg
#define ck_abort_msg(...) __builtin_trap()

#include "fuzz/input.h"
#include "net/netbox.h"

#define OPS_MAX 128u
#define IDS 1024u
#define SECTIONS 65536u
#define LENTS 512u

extern void (*vmbus__test_hook)(const volatile void *p);

enum {
	NEVER,
	ASKED,
	ANSWERED,
	MAYBE
}; /* MAYBE: it may wait for a page list */

struct lent {
	uint64_t id;
	uint32_t chan, first, count; /* of ours: places in lent_section */
	bool out;
};

static struct netbox b;
static uint8_t asked[NB_CHANNELS][IDS];
static uint64_t sent[NB_CHANNELS];
static bool open[NB_CHANNELS];
static uint32_t noise;
static bool lies; /* the guest has given back what it had not: it may be thrown out */
static uint8_t held[SECTIONS];
static struct lent lent[LENTS];
static uint32_t lents;
static uint32_t lent_section[LENTS * 8u], lent_sections;

/* ---- the guest ---- */

static void scribble(const volatile void *p)
{
	(void)p;
	if (!noise)
		return;
	noise = noise * 1664525u + 1013904223u;
	nb_page(&b, b.data)[noise >> 8 & 0x1FFFu] = (uint8_t)(noise >> 4);
	nb_page(&b, b.tx)[noise >> 12 & 0xFFFFu] = (uint8_t)(noise >> 3);
}

static void forget_sections(void)
{
	memset(held, 0, sizeof(held));
	lents = lent_sections = 0;
	b.rx_section = b.rx_count = 0;
}

/* A packet of transfer pages: within the buffer, and of sections that the guest has not. */
static void took_sections(uint32_t chan, const struct vmbus_packet *pkt)
{
	struct lent *const l = &lent[lents];
	struct vmbus_wire_ranges it;
	struct vmbus_wire_range range;
	uint32_t section, last = UINT32_MAX;

	must(b.rx_section && pkt->flags == VMBUS_PKT_FLAG_COMPLETE && pkt->id != 0);
	must_eq(vmbus_wire_ranges_begin(&it, pkt), 0);
	*l = (struct lent){ .id = pkt->id, .chan = chan, .first = lent_sections, .out = true };
	while (vmbus_wire_ranges_next(&it, &range) == 1) {
		section = range.byte_offset / b.rx_section;
		must(section < b.rx_count);
		must(range.byte_offset % b.rx_section + range.byte_count <= b.rx_section);
		if (section == last)
			continue;
		must(!held[section]);
		held[section] = 1;
		last = section;
		must(lent_sections < LENTS * 8u);
		lent_section[lent_sections++] = section;
		l->count++;
	}
	must(++lents < LENTS);
}

static void answered(uint32_t chan, const struct vmbus_packet *pkt)
{
	must_eq(pkt->type, VMBUS_PKT_COMPLETION);
	must(pkt->id >= 1 && pkt->id <= sent[chan]);
	must(asked[chan][pkt->id] == ASKED || asked[chan][pkt->id] == MAYBE);
	asked[chan][pkt->id] = ANSWERED;
	must(pkt->len <= 40);
	if (pkt->len >= 32 && nb_32(pkt->payload) == 102 && nb_32(pkt->payload + 4) == 1) {
		forget_sections();
		b.rx_section = nb_32(pkt->payload + 16);
		b.rx_count = nb_32(pkt->payload + 20);
		must(b.rx_section && b.rx_count <= NB_RX_PAGES * 4096u / b.rx_section);
	}
}

static uint32_t read_all(uint32_t chan)
{
	struct vmbus_packet pkt;
	uint32_t all = 0;

	while (open[chan] && lents < LENTS - 1u && lent_sections < LENTS * 8u - 400u &&
	       fake_receive(&b.c[chan], &pkt, 1) == 1) {
		all++;
		if (pkt.type == VMBUS_PKT_XFER_PAGES)
			took_sections(chan, &pkt);
		else if (pkt.type == VMBUS_PKT_INBAND)
			must(pkt.id == 0 && nb_32(pkt.payload) == 134);
		else
			answered(chan, &pkt);
	}
	return all;
}

static void give_back(uint32_t n, uint32_t status)
{
	struct lent *const l = &lent[n];
	uint8_t done[8] = { 108 };
	const struct vmbus_msg msg = {
		.id = l->id, .data = done, .len = sizeof(done), .type = VMBUS_PKT_COMPLETION
	};
	uint32_t i;

	if (!open[l->chan])
		return;
	nb_put(done + 4, 4, status);
	if (vmbus_ring_tx_put(&b.c[l->chan].tx, &msg, 1) != 1)
		return;
	lies |= !l->out;
	if (l->out)
		for (i = 0; i < l->count; i++)
			held[lent_section[l->first + i]] = 0;
	l->out = false;
}

static void give_all_back(void)
{
	uint32_t i;

	for (i = 0; i < lents; i++)
		if (lent[i].out)
			give_back(i, 1);
	for (i = 0; i < lents && !lent[i].out; i++)
		;
	if (i == lents)
		lents = lent_sections = 0;
}

/* The channel is closed: what came there is the parent's again. */
static void forget_chan(uint32_t chan)
{
	uint32_t i, k;

	open[chan] = false;
	for (i = 0; i < lents; i++) {
		if (lent[i].chan != chan)
			continue;
		for (k = 0; lent[i].out && k < lent[i].count; k++)
			held[lent_section[lent[i].first + k]] = 0;
		lent[i].out = false;
		lent[i].id = 0;
	}
	if (chan == 0)
		forget_sections();
}

static uint32_t find(uint32_t relid)
{
	uint32_t i;

	for (i = 0; i < NB_CHANNELS; i++)
		if (b.c[i].relid == relid)
			return i;
	return NB_CHANNELS;
}

static void lost(uint32_t i)
{
	forget_chan(i);
	fake_chan_free(&b.c[i]);
	memset(&b.c[i], 0, sizeof(b.c[i]));
}

/* What the parent posts: channels that it offers and withdraws. */
static void heard(uint32_t type, const struct vmbus_ctl *ctl)
{
	uint32_t i;

	if (type == VMBUS_CTL_RESCIND) {
		i = find(ctl->u.chan.relid);
		if (i < NB_CHANNELS)
			lost(i);
		fake_post_released(&b.f, ctl->u.chan.relid);
	} else if (type == VMBUS_CTL_OFFER) {
		for (i = ctl->u.offer.sub_index ? 1 : 0; i < NB_CHANNELS; i++)
			if (b.c[i].relid == 0)
				break;
		if (i == NB_CHANNELS)
			return;
		b.c[i].fake = &b.f;
		b.c[i].relid = ctl->u.offer.relid;
		b.c[i].conn = ctl->u.offer.conn_id;
	}
}

static void run(void)
{
	struct vmbus_ctl ctl;
	uint32_t type;

	while ((type = fake_take(&b.f, &ctl)))
		heard(type, &ctl);
}

/* The answer, whatever comes before it; false: there is none. */
static bool wait_for(uint32_t want, struct vmbus_ctl *ctl)
{
	uint32_t type;

	while ((type = fake_take(&b.f, ctl)) && type != want)
		heard(type, ctl);
	return type == want;
}

static void share(uint32_t chan, uint32_t gpadl, size_t first, uint32_t pages)
{
	uint64_t pfns[NB_RX_PAGES];
	uint32_t i;

	for (i = 0; i < pages; i++)
		pfns[i] = first + i;
	fake_gpadl(&b.f, b.c[chan].relid, gpadl, pfns, pages);
}

static void open_chan(uint32_t i)
{
	struct fake_chan *const c = &b.c[i];
	const size_t first = 1 + 40 * i; /* the same pages at each opening */
	const uint32_t down = i % 2 ? 3 : 17;
	struct vmbus_ctl ctl;

	run();
	if (open[i] || c->relid == 0)
		return;
	memset(b.f.mem + first * FAKE_PAGE, 0, 40 * FAKE_PAGE);
	c->first = first;
	fake_rings(&b.f, c, 17, down);
	c->gpadl = b.f.next_gpadl++;
	share(i, c->gpadl, first, 17 + down);
	if (!wait_for(VMBUS_CTL_GPADL_CREATED, &ctl) || ctl.u.created.status || c->relid == 0)
		return;
	fake_post_open(&b.f, c, 0);
	open[i] = wait_for(VMBUS_CTL_OPEN_RESULT, &ctl) && ctl.u.result.status == 0 && c->relid;
	memset(asked[i], 0, sizeof(asked[i]));
	sent[i] = 0;
	if (i == 0 && open[0]) {
		forget_sections();
		share(0, b.rx_gpadl = b.f.next_gpadl++, b.rx, NB_RX_PAGES);
		share(0, b.tx_gpadl = b.f.next_gpadl++, b.tx, NB_TX_PAGES);
		run();
	}
}

static void close_chan(uint32_t i)
{
	if (!open[i])
		return;
	forget_chan(i);
	fake_post_close(&b.f, &b.c[i]);
	fake_post_teardown(&b.f, b.c[i].relid, b.c[i].gpadl);
	if (i == 0) {
		fake_post_teardown(&b.f, b.c[0].relid, b.rx_gpadl);
		fake_post_teardown(&b.f, b.c[0].relid, b.tx_gpadl);
	}
	run();
}

/* ---- packets ---- */

static void send_one(uint32_t chan, const uint8_t *msg, uint32_t len, const uint8_t *ext,
		     uint32_t ext_len, bool wants)
{
	struct vmbus_msg m = { .data = msg,
			       .len = len,
			       .ext = ext,
			       .ext_len = ext_len,
			       .type = ext_len ? VMBUS_PKT_GPA_DIRECT : VMBUS_PKT_INBAND,
			       .flags = wants ? VMBUS_PKT_FLAG_COMPLETE : 0 };
	const uint32_t type = len >= 4 ? nb_32(msg) : 0;

	if (!open[chan] || sent[chan] + 1 >= IDS)
		return;
	m.id = sent[chan] + 1;
	if (vmbus_ring_tx_put(&b.c[chan].tx, &m, 1) != 1)
		return;
	sent[chan]++;
	asked[chan][m.id] = (uint8_t)(!wants ? NEVER : type == 101 || type == 104 ? MAYBE : ASKED);
}

/* Bytes of input in the place of some of a message's. */
static void spoil(struct input *in, uint8_t *msg, uint32_t len)
{
	uint32_t n = take(in, 1) % 4, at;

	for (; n && len; n--) {
		at = take(in, 1) % len;
		msg[at] = (uint8_t)take(in, 1);
	}
}

static void send_nvsp(struct input *in, uint32_t type, bool spoiled)
{
	static const uint32_t versions[] = { 0x60001, 0x60001, 0x50000, 0x40000, 0x30002, 2 };
	const uint32_t how = take(in, 1);
	uint8_t msg[40] = { 0 };

	nb_put(msg, 4, type);
	switch (type) {
	case 1:
		nb_put(msg + 4, 4, versions[how % 6]);
		nb_put(msg + 8, 4, versions[how % 6]);
		break;
	case 125:
		nb_put(msg + 4, 4, how & 1 ? 9014 : 1514);
		nb_put(msg + 12, 8, 8 + (how & 2 ? 128 : 0));
		break;
	case 101:
	case 104:
		nb_put(msg + 4, 4, type == 101 ? b.rx_gpadl : b.tx_gpadl);
		nb_put(msg + 8, 2, NB_ID);
		break;
	case 133:
		nb_put(msg + 4, 4, 1);
		nb_put(msg + 8, 4, 1 + how % 4);
		break;
	default:
		break;
	}
	if (spoiled)
		spoil(in, msg, sizeof(msg));
	send_one(how > 250 ? 1 : 0, msg, spoiled ? how % 6 * 8 : 40, NULL, 0,
		 type == 1 || type == 101 || type == 104 || type == 133 || (how & 16));
}

/* Number 107, of bytes that are in data already, by pages or by a section. */
static void send_107(struct input *in, uint32_t chan, bool control, uint32_t len)
{
	const uint32_t how = take(in, 1), section = how % 8;
	uint8_t msg[40] = { 107 }, ext[32 + 8 * NB_DATA_PAGES];
	uint32_t in_section = 0, ext_len = 0, off = how & 64 ? 4095 - how % 48 : how % 64;

	if (how & 128)
		in_section = how & 1 ? len : len / 2u;
	if (in_section < len) {
		memmove(nb_page(&b, b.data) + off, nb_page(&b, b.data) + in_section,
			len - in_section);
		ext_len = nb_range(ext, b.data, off, len - in_section);
	}
	nb_put(msg + 4, 4, control);
	nb_put(msg + 8, 4, in_section ? section : UINT32_MAX);
	nb_put(msg + 12, 4, in_section);
	if (in_section)
		memcpy(nb_page(&b, b.tx) + section * 6144u, nb_page(&b, b.data), in_section);
	if (how == 63)
		spoil(in, msg, 16);
	if (how == 62 && ext_len)
		spoil(in, ext, ext_len);
	send_one(chan, msg, sizeof(msg), ext, ext_len, true);
}

static uint32_t rss_info(uint8_t *info, uint32_t how)
{
	uint32_t i;

	info[0] = 0x89;
	nb_put(info + 4, 2, how & 3 ? 0 : 0x10);
	nb_put(info + 8, 4, 0x1701);
	nb_put(info + 12, 2, 512);
	nb_put(info + 16, 4, 40);
	nb_put(info + 20, 2, 40);
	nb_put(info + 24, 4, 552);
	for (i = 0; i < 128; i++)
		nb_put(info + 40 + 4 * i, 4, i % 3);
	memset(info + 552, (int)how, 40);
	return 592;
}

static uint32_t name_info(uint8_t *info, uint32_t how)
{
	static const char *const names[] = { "NetworkAddress", "*LsoV2IPv4",
					     "*TCPChecksumOffloadIPv4", "x" };
	static const char *const values[] = { "0A0B0C0D0E0F", "1", "3", "" };
	const char *const name = names[how % 4], *const value = values[how / 4 % 4];
	const uint32_t n = (uint32_t)strlen(name), v = (uint32_t)strlen(value);
	uint32_t i;

	nb_put(info, 4, 20);
	nb_put(info + 4, 4, 2 * n);
	nb_put(info + 8, 4, 2);
	nb_put(info + 12, 4, 20 + 2 * n);
	nb_put(info + 16, 4, 2 * v);
	for (i = 0; i < n; i++)
		info[20 + 2 * i] = (uint8_t)name[i];
	for (i = 0; i < v; i++)
		info[20 + 2 * n + 2 * i] = (uint8_t)value[i];
	return 20 + 2 * (n + v);
}

static uint32_t set_info(struct input *in, uint8_t *info, uint32_t *oid)
{
	const uint32_t how = take(in, 1);
	static const uint8_t offloads[28] = { 0x80, 3, 28, 0, 1, 4,	   4,	    4,
					      4,    0, 0,  2, 2, [22] = 2, [23] = 2 };

	switch (how % 5) {
	case 0:
		*oid = 0x00010204;
		return rss_info(info, how / 8);
	case 1:
		*oid = 0x0001021B;
		return name_info(info, how / 8);
	case 2:
		*oid = 0xFC01020C;
		memcpy(info, offloads, sizeof(offloads));
		return sizeof(offloads);
	default:
		*oid = 0x0001010E;
		nb_put(info, 4, how & 128 ? 0x20 : how & 64 ? 0 : 0x0D);
		return 4;
	}
}

static void send_control(struct input *in, bool spoiled)
{
	static const uint32_t oids[] = {
		0x00010101, 0x00010106, 0x00010114, 0x00010107, 0x01010101,
		0x00020216, 0xFC01020D, 0x00010203, 0x00020101, 0x0101010A
	};
	static const uint8_t types[] = { 4, 4, 4, 5, 5, 5, 8, 6, 9, 2, 3, 2, 2 };
	uint8_t *const msg = nb_page(&b, b.data);
	const uint32_t how = take(in, 1), type = types[how % 13];
	uint32_t len = type == 3 ? 12 : type == 2 ? 24 : 28, info = 0, oid = oids[how / 16 % 10];

	memset(msg, 0, 1024);
	if (type == 5 || type == 9)
		info = set_info(in, msg + 28, &oid);
	else if (type == 4 && (how & 128))
		info = 4, nb_put(msg + 28, 4, 0x009C03A7);
	len += info;
	nb_put(msg, 4, type);
	nb_put(msg + 4, 4, len);
	nb_put(msg + 8, 4, how);
	nb_put(msg + 12, 4, type == 2 ? 1 : oid);
	if (type != 2) {
		nb_put(msg + 16, 4, info);
		nb_put(msg + 20, 4, 20);
	}
	if (spoiled)
		spoil(in, msg, len);
	send_107(in, how == 255 ? 1 : 0, true, len);
}

static void send_frames(struct input *in, bool spoiled)
{
	uint8_t *const p = nb_page(&b, b.data);
	const uint32_t how = take(in, 1), n = 1 + how % 4, bytes = how & 128 ? 1500 : 60;
	const uint32_t each = (44 + bytes + 7) / 8 * 8;
	uint32_t i, k;

	for (i = 0; i < n; i++) {
		uint8_t *const msg = p + i * each;

		memset(msg, 0, each);
		nb_put(msg, 4, 1);
		nb_put(msg + 4, 4, each);
		nb_put(msg + 8, 4, 36);
		nb_put(msg + 12, 4, bytes);
		for (k = 0; k < 12; k++)
			msg[44 + k] = (uint8_t)(2 * k);
		msg[56] = 8;
		msg[58] = 0x45;
		msg[67] = how & 64 ? 6 : 17;
	}
	if (spoiled)
		spoil(in, p, n * each);
	send_107(in, how / 8 % NB_CHANNELS, false, n * each);
}

/* ---- the parent's side ---- */

static void change(struct input *in)
{
	const uint32_t how = take(in, 1);
	uint32_t i;

	switch (how % 4) {
	case 0:
		vmbus_net_link(b.net, how & 16);
		break;
	case 1:
		b.port.info.bits_per_s = how * 1000000u;
		b.port.info.up = !(how & 128);
		must_eq(vmbus_net_port_changed(b.net), 0);
		break;
	case 2:
		b.port.take = how & 128 ? UINT32_MAX : how / 4 % 8;
		break;
	default:
		memset(b.port.given, 0xFF, 6);
		for (i = 6; i < 64; i++)
			b.port.given[i] = (uint8_t)(i * how);
		b.port.given[12] = 8;
		b.port.given[13] = 0;
		if (b.port.queue[0])
			nb_give(&b, 0, how % 64, how & 128 ? 1400 : 60);
		break;
	}
}

/* Another bus goes on, if it can be saved now. */
static void save_and_restore(void)
{
	static uint8_t state[4 << 20];
	char why[160];
	size_t bytes;

	if (vmbus_bus_save(b.f.bus, state, sizeof(state), &bytes))
		return;
	vmbus_bus_destroy(b.f.bus);
	fake_create(&b.f);
	nb_offer(&b);
	must_eq(vmbus_bus_restore(b.f.bus, state, bytes, why, sizeof(why)), 0);
}

static void send_plain(uint32_t type, uint32_t oid, uint32_t value)
{
	uint8_t *const msg = nb_page(&b, b.data);
	struct input none = { msg, 0 };

	memset(msg, 0, 32);
	nb_put(msg, 4, type);
	nb_put(msg + 4, 4, type == 2 ? 24 : 32);
	nb_put(msg + 12, 4, type == 2 ? 1 : oid);
	nb_put(msg + 16, 4, 4);
	nb_put(msg + 20, 4, 20);
	nb_put(msg + 28, 4, value);
	send_107(&none, 0, true, type == 2 ? 24 : 32);
	run();
	(void)read_all(0);
}

/* The initialisation, as far as input says; once more on a channel that is opened again. */
static void begin_all(struct input *in)
{
	static const uint8_t types[] = { 1, 125, 100, 101, 104 };
	const uint32_t how = take(in, 1);
	struct input none = { &types[0], 0 };
	uint32_t i;

	close_chan(0);
	run();
	open_chan(0);
	for (i = 0; i < 5; i++) {
		if (how < 16 && i >= how % 6)
			return;
		send_nvsp(how & 1 ? in : &none, types[i], false);
		run();
		(void)read_all(0);
	}
	send_plain(2, 0, 0);
	send_plain(5, 0x0001010E, how & 2 ? 0x20 : 0x0D);
	if (how & 4) {
		send_nvsp(&none, 133, false);
		run();
		open_chan(1);
	}
}

static void step(struct input *in)
{
	static const uint8_t types[] = { 1,   100, 101, 103, 104, 106, 125, 129,
					 131, 133, 134, 135, 108, 2,   99,  255 };
	const uint32_t op = take(in, 1);

	if (op < 50)
		send_control(in, op & 1);
	else if (op < 100)
		send_frames(in, op & 1);
	else if (op < 130)
		send_nvsp(in, op < 115 ? 133u : types[take(in, 1) % 16], op & 1);
	else if (op < 133)
		begin_all(in);
	else if (op < 165)
		run();
	else if (op < 185)
		(void)read_all(op % NB_CHANNELS);
	else if (op < 200)
		give_all_back();
	else if (op < 205 && lents)
		give_back(take(in, 1) % lents, take(in, 1) % 3);
	else if (op < 230)
		change(in);
	else if (op < 236)
		close_chan(op % NB_CHANNELS);
	else if (op < 245)
		open_chan(op % NB_CHANNELS);
	else if (op < 249)
		save_and_restore();
	else
		noise = take(in, 2);
}

/* Whether a request of the primary channel is not answered yet. */
static bool waits(void)
{
	uint32_t n;

	for (n = 1; open[0] && !lies && n <= sent[0]; n++)
		if (asked[0][n] == ASKED)
			return true;
	return false;
}

/* Everything goes on: each request of the primary channel that is left is answered. */
static void finish(void)
{
	uint32_t i, got, last;

	noise = 0;
	b.port.take = UINT32_MAX;
	b.port.give = 0;
	if (b.port.queue[0])
		nb_give(&b, 0, 0, 60);
	for (last = 0; last < 3; last += !got) {
		if (last == 2 && waits())
			usleep(20000); /* the NIC asks a port that it does not hear every millisecond */
		give_all_back();
		run();
		for (got = 0, i = 0; i < NB_CHANNELS; i++)
			got += read_all(i);
	}
	must(!waits());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t i;

	nb_prepare(&b);
	memset(open, 0, sizeof(open));
	lies = false;
	forget_sections();
	b.opts.subchannels = 2;
	b.opts.packets_max = 16;
	fake_init(&b.f, 700);
	b.f.next_page = 200;
	must_eq(vmbus_net_create(&b.opts, &b.net), 0);
	nb_offer(&b);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, b.c, 1), 1);
	b.rx = fake_pages(&b.f, NB_RX_PAGES);
	b.tx = fake_pages(&b.f, NB_TX_PAGES);
	b.data = fake_pages(&b.f, NB_DATA_PAGES);
	open_chan(0);
	begin_all(&in);
	vmbus__test_hook = scribble;
	for (i = 0; i < OPS_MAX && in.left; i++)
		step(&in);
	finish();
	vmbus__test_hook = NULL;
	nb_end(&b);
	must_eq(vmbus_region_pins(&b.f.region), 0);
	return 0;
}
