/* SPDX-License-Identifier: MIT */
/*
 * Objects of the NIC: each with the bytes that Linux insists on, sets and what becomes of them.  What
 * they are carried by is test_rndis.c's.  [NET-OID], [NET-OFFLOAD], [NET-RSS]
 */
#include "netbox.h"

#define NOT_SUPPORTED 0xC00000BBu
#define FAILURE 0xC0000001u
#define INVALID_LENGTH 0xC0010014u
#define INVALID_DATA 0xC0010015u
#define TOO_SHORT 0xC0010016u

static void start(struct netbox *b)
{
	nb_prepare(b);
	nb_start(b);
}

/* ---- queries ---- */

static const struct {
	uint32_t oid, bytes, value;
} numbers[] = {
	{ 0x00010102, 4, 0 },	       { 0x00010103, 4, 0 },	  { 0x00010104, 4, 0 },
	{ 0x00010105, 4, 1500 },       { 0x00010106, 4, 1500 },	  { 0x00010107, 4, 10000000 },
	{ 0x00010108, 4, 262144 },     { 0x00010109, 4, 262144 }, { 0x0001010A, 4, 1514 },
	{ 0x0001010B, 4, 1514 },       { 0x0001010C, 4, 0x155D }, { 0x0001010E, 4, 0x0D },
	{ 0x0001010F, 4, 1500 },       { 0x00010110, 2, 0x100 },  { 0x00010111, 4, 1514 },
	{ 0x00010112, 4, 0 },	       { 0x00010113, 4, 0x24D },  { 0x00010114, 4, 0 },
	{ 0x00010115, 4, UINT32_MAX }, { 0x00010116, 2, 0x100 },  { 0x01010104, 4, 0 },
	{ 0x01020101, 4, 0 },	       { 0x01020102, 4, 0 },	  { 0x01020103, 4, 0 },
};

START_TEST(oid_query__numbers)
{
	const uint8_t *out;
	struct netbox b;
	uint32_t i, bytes;

	start(&b);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		vmbus_test_at("oid %08x", numbers[i].oid);
		must_eq(nb_query(&b, numbers[i].oid, NULL, 0, &out, &bytes), 0);
		must_eq(bytes, numbers[i].bytes);
		must_eq(nb_get(out, bytes), numbers[i].value);
	}
	nb_end(&b);
}
END_TEST

/* What is in the list is answered or can be set; what is not is refused. */
START_TEST(oid_query__answers_all_of_its_list)
{
	uint32_t list[64], bytes, n, i, got;
	const uint8_t *out;
	struct netbox b;

	nb_prepare(&b);
	b.version = _i ? 0x00040000 : NB_V61;
	nb_start(&b);
	must_eq(nb_query(&b, 0x00010101, NULL, 0, &out, &bytes), 0);
	must_eq(bytes % 4, 0);
	n = bytes / 4;
	must(n > 40 && n <= 64);
	for (i = 0; i < n; i++)
		list[i] = nb_32(out + 4 * i);
	for (i = 0; i < n; i++) {
		vmbus_test_at("oid %08x", list[i]);
		got = nb_query(&b, list[i], NULL, 0, &out, &bytes);
		must(got == 0 ||
		     (got == NOT_SUPPORTED && nb_set(&b, list[i], NULL, 0) != NOT_SUPPORTED));
	}
	must_eq(nb_query(&b, 0x0001FFFF, NULL, 0, &out, &bytes), NOT_SUPPORTED);
	must_eq(nb_set(&b, 0x0001FFFF, NULL, 0), NOT_SUPPORTED);
	must_eq(nb_query(&b, 0x00010203, NULL, 0, &out, &bytes), _i ? NOT_SUPPORTED : 0);
	nb_end(&b);
}
END_TEST

START_TEST(oid_query__addresses_and_texts)
{
	static const uint8_t mac[6] = { 0x02, 1, 2, 3, 4, 5 };
	const uint8_t *out;
	struct netbox b;
	uint32_t bytes;

	nb_prepare(&b);
	b.opts.name = "eth X";
	nb_start(&b);
	must_eq(nb_query(&b, 0x01010101, NULL, 0, &out, &bytes), 0);
	must_eq(bytes, 6);
	ck_assert_mem_eq(out, mac, 6);
	must_eq(nb_query(&b, 0x01010102, NULL, 0, &out, &bytes), 0);
	must_eq(bytes, 6);
	ck_assert_mem_eq(out, mac, 6);
	must_eq(nb_query(&b, 0x00020216, NULL, 0, &out, &bytes), 0);
	must_eq(bytes, 12);
	ck_assert_mem_eq(out, "e\0t\0h\0 \0X\0\0", 12);
	must_eq(nb_query(&b, 0x0001010D, NULL, 0, &out, &bytes), 0);
	ck_assert_mem_eq(out, "Microsoft Corporation", bytes);
	must_eq(nb_query(&b, 0x01010103, NULL, 0, &out, &bytes), 0);
	must_eq(bytes, 0);
	nb_end(&b);
}
END_TEST

START_TEST(oid_query__link)
{
	const uint8_t *out;
	struct netbox b;
	uint32_t bytes;

	nb_prepare(&b);
	b.opts.flags = _i ? VMBUS_NET_LINK_DOWN : 0;
	b.opts.bits_per_s = _i ? 40000000000u : 0;
	nb_start(&b);
	must_eq(nb_number(&b, 0x00010114), _i);
	must_eq(nb_number(&b, 0x00010107), _i ? 400000000 : 10000000);
	must_eq(nb_query(&b, 0x00010206, NULL, 0, &out, &bytes), 0);
	must_eq(bytes, 16);
	must_eq(nb_get(out, 8), _i ? 40000000000u : 1000000000u);
	must_eq(nb_get(out + 8, 8), nb_get(out, 8));
	must_eq(nb_query(&b, 0x00010207, NULL, 0, &out, &bytes), 0);
	must_eq(bytes, 40);
	must_eq(nb_32(out), 0x00280180);
	must_eq(nb_32(out + 4), _i ? 2 : 1);
	must_eq(nb_32(out + 8), 2);
	must_eq(nb_get(out + 16, 8), _i ? 40000000000u : 1000000000u);
	nb_end(&b);
}
END_TEST

START_TEST(oid_query__a_speed_that_does_not_fit)
{
	struct netbox b;

	nb_prepare(&b);
	b.opts.bits_per_s = UINT64_MAX;
	nb_start(&b);
	must_eq(nb_number(&b, 0x00010107), UINT32_MAX);
	nb_end(&b);
}
END_TEST

/* The largest structure that the guest says it knows, or that its version has. */
START_TEST(oid_query__offloads_by_version)
{
	static const struct {
		uint32_t version, header, bytes;
	} t[] = { { 0x00060001, 0, 156 },   { 0x00040000, 0, 144 },   { 0x00030002, 0, 112 },
		  { 0x00060001, 156, 156 }, { 0x00060001, 144, 144 }, { 0x00060001, 112, 112 },
		  { 0x00060001, 150, 144 }, { 0x00060001, 500, 156 }, { 0x00060001, 111, 0 } };
	uint8_t in[4] = { 0xA7, 3 };
	const uint8_t *out;
	struct netbox b;
	uint32_t bytes;

	nb_prepare(&b);
	b.version = t[_i].version;
	nb_start(&b);
	nb_put(in + 2, 2, t[_i].header);
	must_eq(nb_query(&b, 0xFC01020D, in, t[_i].header ? 4 : 0, &out, &bytes),
		t[_i].bytes ? 0 : TOO_SHORT);
	must_eq(bytes, t[_i].bytes);
	if (bytes) {
		must_eq(nb_get(out + 2, 2), bytes);
		must_eq(nb_32(out + 4), 2);
		must_eq(nb_32(out + 8) & 0x155, 0x155); /* what Linux looks for */
		must_eq(nb_32(out + 24) & 0x55, 0x55);
		must_eq(nb_32(out + 80), 2);
		must_eq(nb_32(out + 84), 62780);
		must_eq(nb_32(out + 88), 2);
		must_eq(nb_32(out + 92), 2);
		must_eq(nb_32(out + 96), 62780);
		must_eq(nb_32(out + 104) & 5, 5);
	}
	nb_end(&b);
}
END_TEST

START_TEST(oid_query__no_offloads)
{
	const uint8_t *out;
	struct netbox b;
	uint32_t bytes, i;

	nb_prepare(&b);
	b.opts.flags = VMBUS_NET_NO_OFFLOAD;
	nb_start(&b);
	must_eq(nb_query(&b, 0xFC01020D, NULL, 0, &out, &bytes), 0);
	must_eq(bytes, 156);
	for (i = 4; i < 156; i++)
		must_eq(out[i], 0);
	nb_end(&b);
}
END_TEST

START_TEST(oid_query__rsc_to_those_who_know_it)
{
	const uint8_t *out;
	struct netbox b;
	uint32_t bytes;

	nb_prepare(&b);
	b.caps = _i & 1 ? 8 + 128 : 8;
	b.version = _i & 2 ? NB_V61 : 0x00050000;
	b.opts.flags = _i & 4 ? VMBUS_NET_NO_RSC : 0;
	nb_start(&b);
	must_eq(nb_query(&b, 0xFC01020D, NULL, 0, &out, &bytes), 0);
	must_eq(out[144], _i == 3);
	must_eq(out[145], _i == 3);
	nb_end(&b);
}
END_TEST

START_TEST(oid_query__rss_capabilities)
{
	uint8_t in[18] = { 0x88, 2, 18 };
	const uint8_t *out;
	struct netbox b;
	uint32_t bytes;

	nb_prepare(&b);
	b.opts.subchannels = 3;
	nb_start(&b);
	must_eq(nb_query(&b, 0x00010203, in, sizeof(in), &out, &bytes), 0);
	must_eq(bytes, 18);
	must_eq(nb_32(out), 0x00120288);
	must_eq(nb_32(out + 4), 0x301);
	must_eq(nb_32(out + 8), 1);
	must_eq(nb_32(out + 12), 4);
	must_eq(nb_get(out + 16, 2), 128);
	nb_end(&b);
}
END_TEST

START_TEST(oid_query__counters)
{
	static const uint32_t oids[] = { 0x00020101, 0x00020102, 0x00020103, 0x00020104,
					 0x00020105 };
	uint8_t in[8] = { 0 }, frame[44 + 60] = { 1 };
	const uint8_t *out;
	struct netbox b;
	uint32_t bytes, i;

	start(&b);
	nb_put(frame + 4, 4, sizeof(frame));
	nb_put(frame + 8, 4, 36);
	nb_put(frame + 12, 4, 60);
	for (i = 0; i < 3; i++)
		must_eq(nb_rndis(&b, 0, false, frame, sizeof(frame)), 1);
	must_eq(b.port.sent, 3);
	for (i = 0; i < 5; i++) {
		must_eq(nb_number(&b, oids[i]), i == 0 ? 3 : 0);
		must_eq(nb_query(&b, oids[i], in, 8, &out, &bytes), 0);
		must_eq(bytes, 8);
		must_eq(nb_get(out, 8), i == 0 ? 3 : 0);
	}
	must_eq(nb_query(&b, 0x0002021A, NULL, 0, &out, &bytes), 0);
	must_eq(bytes, 8);
	must_eq(nb_get(out, 8), 180);
	must_eq(nb_query(&b, 0x00020219, NULL, 0, &out, &bytes), 0);
	must_eq(nb_get(out, 8), 0);
	nb_end(&b);
}
END_TEST

/* ---- sets ---- */

START_TEST(oid_set__filter)
{
	static const uint32_t good[] = { 0x0D, 0x20, 0x01, 0x2F, 0x09, 0 };
	struct vmbus_net_state state;
	uint8_t in[4] = { 0x80 };
	struct netbox b;
	uint32_t i;

	start(&b);
	for (i = 0; i < 6; i++) {
		nb_filter(&b, good[i]);
		vmbus_net_state(b.net, &state);
		must_eq(state.filter, good[i]);
		must_eq(nb_number(&b, 0x0001010E), good[i]);
		must_eq(b.port.config.promiscuous, (good[i] & 0x20) != 0);
		must_eq(b.port.config.running, good[i] != 0);
	}
	must_eq(nb_set(&b, 0x0001010E, in, 4), NOT_SUPPORTED);
	must_eq(nb_set(&b, 0x0001010E, in, 3), INVALID_LENGTH);
	nb_end(&b);
}
END_TEST

static void offloads(uint8_t *in, const uint8_t *five, uint8_t lso, uint8_t rsc)
{
	memset(in, 0, 28);
	in[0] = 0x80;
	in[1] = 3;
	in[2] = 28;
	memcpy(in + 4, five, 5);
	in[11] = in[12] = lso;
	in[22] = in[23] = rsc;
}

/* What Linux sets at its begin. */
START_TEST(oid_set__offloads)
{
	static const uint8_t on[5] = { 1, 4, 4, 4, 4 }, off[5] = { 1, 1, 1, 1, 1 }, same[5];
	const uint32_t tx =
		VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN;
	struct vmbus_net_state state;
	const struct nb_message *m;
	uint8_t in[28];
	struct netbox b;

	nb_prepare(&b);
	b.caps = 8 + 128;
	nb_start(&b);
	offloads(in, on, 2, 2);
	must_eq(nb_set(&b, 0xFC01020C, in, 28), 0);
	vmbus_net_state(b.net, &state);
	must_eq(state.tx, tx);
	must_eq(state.rx, tx);
	must(state.rsc);
	/* And tells of it, which Windows needs. */
	m = nb_message(&b);
	must(m != NULL);
	must_eq(nb_32(m->msg), 7);
	must_eq(nb_32(m->msg + 8), 0x40020006);
	must_eq(nb_32(m->msg + 12), 156);
	must_eq(nb_32(m->msg + 16), 12);
	must_eq(m->msg[20], 0xA7);
	must_eq(nb_32(m->msg + 20 + 8), 0x055);
	must_eq(m->msg[20 + 144], 1);
	must(nb_message(&b) == NULL);
	offloads(in, same, 0, 1);
	must_eq(nb_set(&b, 0xFC01020C, in, 28), 0);
	(void)nb_message(&b);
	vmbus_net_state(b.net, &state);
	must_eq(state.tx, tx);
	must_eq(state.rx, VMBUS_FRAME_CSUM | VMBUS_FRAME_VLAN);
	must(!state.rsc);
	offloads(in, off, 1, 1);
	must_eq(nb_set(&b, 0xFC01020C, in, 22), 0); /* as older guests have it */
	(void)nb_message(&b);
	must_eq(nb_set(&b, 0xFC01020C, in, 28), 0);
	vmbus_net_state(b.net, &state);
	must_eq(state.tx, VMBUS_FRAME_VLAN);
	must_eq(state.rx, VMBUS_FRAME_VLAN);
	nb_end(&b);
}
END_TEST

START_TEST(oid_set__offloads_that_cannot_be)
{
	static const uint8_t on[5] = { 4, 4, 4, 4, 4 };
	struct vmbus_net_state state;
	uint8_t in[28];
	struct netbox b;
	uint32_t i;

	nb_prepare(&b);
	b.opts.flags = VMBUS_NET_NO_OFFLOAD;
	nb_start(&b);
	for (i = 0; i < 20; i++)
		must_eq(nb_set(&b, 0xFC01020C, in, i), INVALID_LENGTH);
	for (i = 4; i < 24; i++) {
		if (i == 9 || i == 10 || (i > 12 && i < 22))
			continue;
		offloads(in, on, 2, 2);
		in[i] = 5;
		must_eq(nb_set(&b, 0xFC01020C, in, 28), INVALID_DATA);
	}
	offloads(in, on, 3, 2);
	must_eq(nb_set(&b, 0xFC01020C, in, 28), INVALID_DATA);
	offloads(in, on, 2, 2);
	in[9] = 2;
	must_eq(nb_set(&b, 0xFC01020C, in, 28), NOT_SUPPORTED);
	in[9] = 0;
	in[0] = 0x81;
	must_eq(nb_set(&b, 0xFC01020C, in, 28), INVALID_DATA);
	in[0] = 0x80;
	in[2] = 4;
	must_eq(nb_set(&b, 0xFC01020C, in, 28), INVALID_DATA);
	in[2] = 28;
	must_eq(nb_set(&b, 0xFC01020C, in, 28), 0); /* and stays off */
	vmbus_net_state(b.net, &state);
	must_eq(state.tx, VMBUS_FRAME_VLAN);
	must_eq(state.rx, VMBUS_FRAME_VLAN);
	nb_end(&b);
}
END_TEST

/* ---- receive-side scaling ---- */

struct rss {
	uint32_t flags, hash, table_bytes, table_offset, key_bytes, key_offset, bytes;
};

static uint32_t set_rss(struct netbox *b, const struct rss *rss, uint32_t channels)
{
	uint8_t in[1024] = { 0x89, 2, 40 };
	uint32_t i;

	nb_put(in + 4, 2, rss->flags);
	nb_put(in + 8, 4, rss->hash);
	nb_put(in + 12, 2, rss->table_bytes);
	nb_put(in + 16, 4, rss->table_offset);
	nb_put(in + 20, 2, rss->key_bytes);
	nb_put(in + 24, 4, rss->key_offset);
	for (i = 0; i < 128; i++)
		nb_put(in + 40 + 4 * i, 4, i % channels);
	memset(in + 552, 0x6D, 40);
	return nb_set(b, 0x00010204, in, rss->bytes);
}

static const struct rss whole = { 0, 0x1701, 512, 40, 40, 552, 592 };

static bool is_rss(struct netbox *b)
{
	struct vmbus_net_state state;

	vmbus_net_state(b->net, &state);
	return state.rss;
}

START_TEST(oid_set__rss)
{
	struct rss rss = whole;
	struct netbox b;

	nb_prepare(&b);
	b.opts.subchannels = 3;
	nb_start(&b);
	nb_subs(&b, 3);
	rss.flags = 0x10;
	must_eq(set_rss(&b, &rss, 4), 0);
	must(!is_rss(&b));
	must_eq(set_rss(&b, &whole, 4), 0);
	must(is_rss(&b));
	rss.flags = 0x0E; /* all as it was */
	must_eq(set_rss(&b, &rss, 4), 0);
	must(is_rss(&b));
	rss.flags = 0;
	rss.table_bytes = 16; /* repeated */
	must_eq(set_rss(&b, &rss, 4), 0);
	rss.table_bytes = 12;
	must_eq(set_rss(&b, &rss, 3), 0);
	rss.hash = 0; /* nothing to hash: off */
	must_eq(set_rss(&b, &rss, 3), 0);
	must(!is_rss(&b));
	nb_end(&b);
}
END_TEST

START_TEST(oid_set__rss_that_cannot_be)
{
	static const struct rss bad[] = {
		{ 0, 0x1702, 512, 40, 40, 552, 592 },
		{ 0, 0x1700, 512, 40, 40, 552, 592 },
		{ 0, 0x1701, 0, 40, 40, 552, 592 },
		{ 0, 0x1701, 511, 40, 40, 552, 592 },
		{ 0, 0x1701, 516, 40, 40, 552, 592 },
		{ 0, 0x1701, 512, 0, 40, 552, 592 },
		{ 0, 0x1701, 512, 81, 40, 552, 592 },
		{ 0, 0x1701, 512, UINT32_MAX, 40, 552, 592 },
		{ 0, 0x1701, 512, 40, 39, 552, 592 },
		{ 0, 0x1701, 512, 40, 41, 551, 592 },
		{ 0, 0x1701, 512, 40, 40, 553, 592 },
		{ 0, 0x1701, 512, 40, 40, UINT32_MAX, 592 },
		{ 0, 0x1701, 512, 40, 40, 552, 591 },
		{ 0, 0x1701, 512, 40, 40, 552, 40 },
		{ 0, 0x1701, 0xFFFC, 40, 40, 552, 592 },
		{ 0, 0x1701, 512, 40, 0, 552, 592 },
	};
	struct netbox b;
	uint32_t i;

	nb_prepare(&b);
	b.opts.subchannels = 3;
	nb_start(&b);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		vmbus_test_at("row %u", i);
		must_eq(set_rss(&b, &bad[i], 4), INVALID_DATA);
		must(!is_rss(&b));
	}
	must_eq(set_rss(&b, &whole, 5), INVALID_DATA); /* a channel that there cannot be */
	for (i = 0; i < 28; i++)
		must_eq(nb_set(&b, 0x00010204, b.port.frame, i), INVALID_LENGTH);
	nb_end(&b);
}
END_TEST

/* A key without a table, and a table without a key: there is nothing to go on from. */
START_TEST(lesson_30_rss__parts_alone)
{
	struct rss rss = whole;
	struct netbox b;

	nb_prepare(&b);
	b.opts.subchannels = 3;
	nb_start(&b);
	rss.flags = (uint32_t)_i << 1;
	/* Without hash information there is nothing that is hashed: off, and no error. */
	must_eq(set_rss(&b, &rss, 4), _i & 1 ? 0 : INVALID_DATA);
	must(!is_rss(&b));
	must_eq(set_rss(&b, &whole, 4), 0);
	must(is_rss(&b));
	nb_end(&b);
}
END_TEST

/* As Linux sends it for a NIC that had one channel before. */
START_TEST(oid_set__rss_with_a_key_of_zeroes)
{
	struct rss rss = whole;
	struct netbox b;

	nb_prepare(&b);
	b.opts.subchannels = 3;
	nb_start(&b);
	rss.key_offset = 600;
	rss.bytes = 640;
	must_eq(set_rss(&b, &rss, 4), 0);
	must(is_rss(&b));
	rss.flags = 8; /* which stays */
	must_eq(set_rss(&b, &rss, 4), 0);
	must(is_rss(&b));
	nb_end(&b);
}
END_TEST

START_TEST(oid_set__rss_of_an_old_guest)
{
	struct netbox b;

	nb_prepare(&b);
	b.version = 0x00040000;
	nb_start(&b);
	must_eq(set_rss(&b, &whole, 1), NOT_SUPPORTED);
	nb_end(&b);
}
END_TEST

/* ---- settings by name ---- */

static uint32_t set_name(struct netbox *b, const char *name, uint32_t type, const char *value)
{
	uint8_t in[512] = { 0 };
	uint32_t i, n = (uint32_t)strlen(name) * 2, v = (uint32_t)strlen(value) * 2;

	nb_put(in, 4, 20);
	nb_put(in + 4, 4, n);
	nb_put(in + 8, 4, type);
	nb_put(in + 12, 4, 20 + n);
	nb_put(in + 16, 4, v);
	for (i = 0; i < n / 2; i++)
		in[20 + 2 * i] = (uint8_t)name[i];
	for (i = 0; i < v / 2; i++)
		in[20 + n + 2 * i] = (uint8_t)value[i];
	return nb_set(b, 0x0001021B, in, 20 + n + v);
}

START_TEST(oid_set__address)
{
	static const uint8_t mac[6] = { 0xAA, 0xBB, 0xCC, 0x0D, 0x1E, 0xF2 };
	struct vmbus_net_state state;
	const uint8_t *out;
	struct netbox b;
	uint32_t bytes;

	start(&b);
	must_eq(set_name(&b, "NetworkAddress", 2, "AABBCC0d1eF2"), 0);
	vmbus_net_state(b.net, &state);
	ck_assert_mem_eq(state.mac, mac, 6);
	ck_assert_mem_eq(b.port.config.mac, mac, 6);
	must_eq(nb_query(&b, 0x01010102, NULL, 0, &out, &bytes), 0);
	ck_assert_mem_eq(out, mac, 6);
	must_eq(nb_query(&b, 0x01010101, NULL, 0, &out, &bytes), 0);
	ck_assert_mem_eq(out, b.opts.mac, 6);
	must_eq(set_name(&b, "NetworkAddress", 0, "AABBCC0d1eF2"), INVALID_DATA);
	must_eq(set_name(&b, "NetworkAddress", 2, "ABBBCC0d1eF2"), INVALID_DATA);
	must_eq(set_name(&b, "NetworkAddress", 2, "000000000000"), INVALID_DATA);
	must_eq(set_name(&b, "NetworkAddress", 2, "AABBCC0d1eF"), INVALID_DATA);
	must_eq(set_name(&b, "NetworkAddress", 2, "AABBCC0d1eF22"), INVALID_DATA);
	must_eq(set_name(&b, "NetworkAddress", 2, "AABBCC0d1eG2"), INVALID_DATA);
	must_eq(set_name(&b, "NetworkAddress", 2, "AABBCC0d1e:2"), INVALID_DATA);
	must_eq(set_name(&b, "NetworkAddress", 2, ""), INVALID_DATA);
	vmbus_net_state(b.net, &state);
	ck_assert_mem_eq(state.mac, mac, 6);
	/* The address stays when the guest takes its interface down and up. */
	fake_close(&b.f, &b.c[0]);
	b.rx_gpadl = b.tx_gpadl = 0;
	nb_open(&b);
	nb_steps(&b, 0, NB_STEPS);
	vmbus_net_state(b.net, &state);
	ck_assert_mem_eq(state.mac, mac, 6);
	nb_end(&b);
}
END_TEST

START_TEST(oid_set__named_offloads)
{
	static const struct {
		const char *name, *value;
		uint32_t status;
	} t[] = {
		{ "*TCPChecksumOffloadIPv4", "1", 0 },
		{ "*TCPChecksumOffloadIPv4", "4", INVALID_DATA },
		{ "*TCPChecksumOffloadIPv4", "", INVALID_DATA },
		{ "*UDPChecksumOffloadIPv4", "3", 0 },
		{ "*TCPChecksumOffloadIPv6", "3", 0 },
		{ "*UDPChecksumOffloadIPv6", "3", 0 },
		{ "*TCPChecksumOffloadIPv4", "3", 0 },
		{ "*IPChecksumOffloadIPv4", "3", 0 },
		{ "*LsoV2IPv4", "1", 0 },
		{ "*LsoV2IPv6", "1", 0 },
		{ "*LsoV2IPv6", "2", INVALID_DATA },
		{ "*LsoV2IPv6", "-", INVALID_DATA },
		{ "*LsoV2IPv6", "a", INVALID_DATA },
		{ "something else", "x", 0 },
		{ "", "", 0 },
	};
	struct vmbus_net_state state;
	struct netbox b;
	uint32_t i;

	start(&b);
	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		vmbus_test_at("row %u", i);
		must_eq(set_name(&b, t[i].name, 2, t[i].value), t[i].status);
		while (nb_message(&b))
			;
	}
	vmbus_net_state(b.net, &state);
	must_eq(state.tx, VMBUS_FRAME_CSUM | VMBUS_FRAME_IP_CSUM | VMBUS_FRAME_TSO4 |
				  VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN);
	must_eq(state.rx, VMBUS_FRAME_CSUM | VMBUS_FRAME_VLAN);
	must_eq(set_name(&b, "*LsoV2IPv4", 2, "0"), 0);
	vmbus_net_state(b.net, &state);
	must(!(state.tx & VMBUS_FRAME_TSO4));
	(void)nb_message(&b);
	must_eq(set_name(&b, "*LsoV2IPv4", 1, "0"), INVALID_DATA);
	nb_end(&b);
}
END_TEST

START_TEST(lesson_22_named__offsets_anywhere)
{
	static const uint32_t v[] = {
		0, 1, 19, 20, 21, 47, 48, 0x7FFFFFFF, 0x80000000, UINT32_MAX
	};
	uint8_t in[48] = { 0 };
	struct netbox b;
	uint32_t i, k, field;

	start(&b);
	for (field = 0; field < 20; field += 4)
		for (i = 0; i < 10; i++)
			for (k = 0; k < 3; k++) {
				nb_put(in, 4, 20);
				nb_put(in + 4, 4, 14);
				nb_put(in + 8, 4, 2);
				nb_put(in + 12, 4, 34);
				nb_put(in + 16, 4, 14);
				nb_put(in + field, 4, v[i]);
				(void)nb_set(&b, 0x0001021B, in, 48 - k);
			}
	for (i = 0; i < 20; i++)
		must_eq(nb_set(&b, 0x0001021B, in, i), INVALID_LENGTH);
	must_eq(nb_number(&b, 0x00010106), 1500);
	nb_end(&b);
}
END_TEST

START_TEST(oid_set__what_only_has_to_succeed)
{
	uint8_t in[28] = { 0xA8, 1, 28 }, list[257 * 6];
	const uint8_t *out;
	struct netbox b;
	uint32_t bytes;

	memset(list, 1, sizeof(list));
	start(&b);
	must_eq(nb_query(&b, 0x0101010A, NULL, 0, &out, &bytes), 0);
	must_eq(bytes, 28);
	must_eq(nb_32(out), 0x001C01A8);
	must_eq(nb_32(out + 12), 14);
	in[7] = 9;
	must_eq(nb_set(&b, 0x0101010A, in, 28), 0);
	must_eq(nb_query(&b, 0x0101010A, NULL, 0, &out, &bytes), 0);
	ck_assert_mem_eq(out, in, 28);
	must_eq(nb_set(&b, 0x0101010A, in, 27), INVALID_LENGTH);
	in[0] = 1;
	must_eq(nb_set(&b, 0x0101010A, in, 28), INVALID_DATA);
	must_eq(nb_set(&b, 0x0001010F, in, 4), 0);
	must_eq(nb_set(&b, 0x0001010F, in, 3), INVALID_LENGTH);
	must_eq(nb_set(&b, 0x00010112, in, 4), 0);
	must_eq(nb_set(&b, 0x00010118, in, 20), 0);
	must_eq(nb_set(&b, 0x01010103, list, 0), 0);
	must_eq(nb_set(&b, 0x01010103, list, 12), 0);
	must_eq(nb_set(&b, 0x01010103, list, 13), INVALID_LENGTH);
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "oid", 60);

	tcase_add_test(tc, oid_query__numbers);
	tcase_add_loop_test(tc, oid_query__answers_all_of_its_list, 0, 2);
	tcase_add_test(tc, oid_query__addresses_and_texts);
	tcase_add_loop_test(tc, oid_query__link, 0, 2);
	tcase_add_test(tc, oid_query__a_speed_that_does_not_fit);
	tcase_add_loop_test(tc, oid_query__offloads_by_version, 0, 9);
	tcase_add_test(tc, oid_query__no_offloads);
	tcase_add_loop_test(tc, oid_query__rsc_to_those_who_know_it, 0, 8);
	tcase_add_test(tc, oid_query__rss_capabilities);
	tcase_add_test(tc, oid_query__counters);
	tcase_add_test(tc, oid_set__filter);
	tcase_add_test(tc, oid_set__offloads);
	tcase_add_test(tc, oid_set__offloads_that_cannot_be);
	tcase_add_test(tc, oid_set__rss);
	tcase_add_test(tc, oid_set__rss_that_cannot_be);
	tcase_add_loop_test(tc, lesson_30_rss__parts_alone, 1, 8);
	tcase_add_test(tc, oid_set__rss_with_a_key_of_zeroes);
	tcase_add_test(tc, oid_set__rss_of_an_old_guest);
	tcase_add_test(tc, oid_set__address);
	tcase_add_test(tc, oid_set__named_offloads);
	tcase_add_test(tc, lesson_22_named__offsets_anywhere);
	tcase_add_test(tc, oid_set__what_only_has_to_succeed);
}
VMBUS_TEST_MAIN("net.oid", tests)
