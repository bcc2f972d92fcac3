/* SPDX-License-Identifier: MIT */
/* Headers of frames, and the hash. */
#include "frames.h"

static struct built b;

/* Each length of head from 0 to all of it, in memory of exactly that length. */
static void look_at_every_length(const struct shape *s)
{
	struct vmbus_frame_headers h;
	uint32_t len;

	build(&b, s);
	for (len = 0; len <= b.bytes; len++) {
		uint8_t *const head = malloc(len ? len : 1);
		int err;

		memcpy(head, b.at, len);
		err = vmbus_frame_look(head, len, b.bytes, &h);
		vmbus_test_at("ip %d protocol %d len %u", s->ip, s->protocol, len);
		must_eq(err, len < (s->ip ? b.payload : b.network) ? VMBUS_E_RANGE : 0);
		must_eq(h.tcp, s->protocol == 6 && !err && s->ip);
		must_eq(h.udp, s->protocol == 17 && !err && s->ip);
		must_eq(h.transport, !err && s->ip ? b.transport : 0);
		must_eq(h.payload, !err && s->ip ? b.payload : 0);
		if (!err && s->ip) {
			must_eq(h.ip, s->ip);
			must_eq(h.network, b.network);
			must_eq(h.protocol, s->protocol);
			must_eq(h.ip_bytes, b.bytes - b.network);
		}
		free(head);
	}
}

START_TEST(frame_look__finds_headers_of_every_kind_cut_at_every_length)
{
	static const struct shape shapes[] = {
		{ .ip = 4, .protocol = 6, .payload = 20 },
		{ .ip = 4, .protocol = 17, .payload = 3 },
		{ .ip = 4, .protocol = 6, .options = 40, .tcp_options = 40, .payload = 1 },
		{ .ip = 4, .protocol = 17, .tags = 2, .options = 4 },
		{ .ip = 6, .protocol = 6, .payload = 9 },
		{ .ip = 6, .protocol = 17, .tags = 1, .options = 16, .payload = 2 },
		{ .ip = 6, .protocol = 6, .options = 8, .tcp_options = 12 },
		{ .ip = 0 },
		{ .ip = 0, .tags = 4 },
	};
	size_t i;

	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		look_at_every_length(&shapes[i]);
}
END_TEST

START_TEST(frame_look__refuses_lengths_that_make_no_sense)
{
	const struct shape v4 = { .ip = 4, .protocol = 6, .payload = 20 };
	const struct shape v6 = { .ip = 6, .protocol = 6, .options = 8, .payload = 20 };
	struct vmbus_frame_headers h;

	build(&b, &v4);
	b.at[b.network] = 0x44; /* a header of 16 bytes */
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), VMBUS_E_RANGE);
	ck_assert_int_eq(h.ip, 0);
	ck_assert_int_eq(h.type, 0x0800);
	b.at[b.network] = 0x55; /* version 5 */
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), VMBUS_E_RANGE);
	build(&b, &v4);
	put16(b.at + b.network + 2, 19); /* shorter than its header */
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), VMBUS_E_RANGE);
	ck_assert_int_eq(h.ip, 0);
	put16(b.at + b.network + 2, 39); /* shorter than the TCP header */
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), VMBUS_E_RANGE);
	ck_assert_int_eq(h.ip, 4);
	ck_assert(!h.tcp);
	build(&b, &v4);
	b.at[b.transport + 12] = 0x40; /* TCP header of 16 bytes */
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), VMBUS_E_RANGE);
	build(&b, &v6);
	b.at[b.network + 41] = 255; /* extension of 2048 bytes */
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), VMBUS_E_RANGE);
	ck_assert_int_eq(h.ip, 6);
	build(&b, &v6);
	b.at[b.network + 40] = 60; /* extensions without end: each names the next */
	memset(b.at + b.transport, 0, 200);
	for (uint32_t at = b.transport; at < b.transport + 200; at += 8)
		b.at[at] = 60;
	ck_assert_int_eq(vmbus_frame_look(b.at, 400, 400, &h), VMBUS_E_RANGE);
}
END_TEST

START_TEST(frame_look__refuses_more_than_four_tags)
{
	const struct shape s = { .ip = 4, .protocol = 6, .tags = 5 };
	struct vmbus_frame_headers h;

	build(&b, &s);
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), VMBUS_E_RANGE);
	ck_assert_int_eq(h.ip, 0);
}
END_TEST

START_TEST(frame_look__tells_fragments)
{
	const struct shape v4 = { .ip = 4, .protocol = 17, .payload = 20 };
	const struct shape v6 = { .ip = 6, .protocol = 17, .options = 8, .payload = 20 };
	struct vmbus_frame_headers h;

	build(&b, &v4);
	put16(b.at + b.network + 6, 0x4000); /* may not be fragmented: is none */
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), 0);
	ck_assert(h.udp && !h.fragment);
	put16(b.at + b.network + 6, 0x2000); /* the first of several */
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), 0);
	ck_assert(h.udp && h.fragment);
	put16(b.at + b.network + 6, 0x0001); /* the last */
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), 0);
	ck_assert(!h.udp && h.fragment && h.transport == 0);
	ck_assert_int_eq(h.protocol, 17);

	build(&b, &v6);
	b.at[b.network + 6] = 44; /* the extension is a fragment header */
	memcpy(b.at + b.network + 40, "\x11\x00\x00\x00\x00\x00\x00\x01", 8);
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), 0);
	ck_assert(h.udp && !h.fragment); /* an atomic one */
	b.at[b.network + 43] = 1;
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), 0);
	ck_assert(h.udp && h.fragment);
	b.at[b.network + 42] = 1;
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), 0);
	ck_assert(!h.udp && h.fragment && h.transport == 0);
	ck_assert_int_eq(h.protocol, 17);
}
END_TEST

START_TEST(frame_look__takes_0_for_all_that_is_there_and_ends_before_padding)
{
	const struct shape v4 = { .ip = 4, .protocol = 6, .payload = 2 };
	const struct shape v6 = { .ip = 6, .protocol = 6, .payload = 2 };
	struct vmbus_frame_headers h;

	build(&b, &v4);
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes + 4, &h), 0);
	ck_assert_int_eq(h.ip_bytes, b.bytes - b.network);
	put16(b.at + b.network + 2, 0);
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, 60000, &h), 0);
	ck_assert_int_eq(h.ip_bytes, 60000 - b.network);
	put16(b.at + b.network + 2, 65535);
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), 0);
	ck_assert_int_eq(h.ip_bytes, b.bytes - b.network);
	build(&b, &v6);
	put16(b.at + b.network + 4, 0);
	ck_assert_int_eq(vmbus_frame_look(b.at, b.bytes, 60000, &h), 0);
	ck_assert_int_eq(h.ip_bytes, 60000 - b.network);
}
END_TEST

/* ---- the hash ---- */

static const uint8_t known_key[] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
	0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
	0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

_Static_assert(sizeof(known_key) == VMBUS_FRAME_KEY_BYTES, "a whole key");

/* Source, destination, ports; the hash of the addresses, and of all. */
struct vector {
	uint8_t data[36];
	uint32_t addresses, len, ip_hash, port_hash;
};

static const struct vector vectors[] = {
	{ { 66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6 },
	  8,
	  12,
	  0x323e8fc2,
	  0x51ccc178 },
	{ { 199, 92, 111, 2, 65, 69, 140, 83, 0x37, 0x96, 0x12, 0x83 },
	  8,
	  12,
	  0xd718262a,
	  0xc626b0ea },
	{ { 24, 19, 198, 95, 12, 22, 207, 184, 0x32, 0x62, 0x94, 0x88 },
	  8,
	  12,
	  0xd2d0a5de,
	  0x5c2b394a },
	{ { 0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x1f, 0xff, 0,	  0,	0,    0,
	    0,	  0,	0,    7,    0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x00, 0x03,
	    0,	  0,	0,    0,    0,	  0,	0,    1,    0x0a, 0xea, 0x06, 0xe6 },
	  32,
	  36,
	  0x2cc18cd5,
	  0x40207d3d },
};

START_TEST(toeplitz__gives_the_known_vectors)
{
	struct vmbus_frame_key key;
	size_t i;

	vmbus_frame_key(&key, known_key);
	for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		const struct vector *const v = &vectors[i];

		ck_assert_uint_eq(vmbus_toeplitz(&key, v->data, v->addresses), v->ip_hash);
		ck_assert_uint_eq(vmbus_toeplitz(&key, v->data, v->len), v->port_hash);
	}
	ck_assert_uint_eq(vmbus_toeplitz(&key, vectors[0].data, 0), 0);
}
END_TEST

START_TEST(toeplitz__leaves_out_what_is_past_its_limit)
{
	struct vmbus_frame_key key;
	uint8_t data[64];

	memset(data, 0xff, sizeof(data));
	vmbus_frame_key(&key, known_key);
	ck_assert_uint_eq(vmbus_toeplitz(&key, data, 36), vmbus_toeplitz(&key, data, 64));
	ck_assert_uint_ne(vmbus_toeplitz(&key, data, 35), vmbus_toeplitz(&key, data, 36));
}
END_TEST

/* A frame with the vector's addresses and ports. */
static void frame_of(const struct vector *v, int protocol, struct vmbus_frame_headers *h)
{
	const struct shape s = { .ip = v->addresses == 8 ? 4 : 6, .protocol = protocol };

	build(&b, &s);
	memcpy(b.at + b.network + (s.ip == 4 ? 12 : 8), v->data, v->addresses);
	memcpy(b.at + b.transport, v->data + v->addresses, 4);
	must_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, h), 0);
}

START_TEST(frame_hash__takes_what_is_asked_for)
{
	static const struct {
		uint32_t what;
		int protocol;
		bool found, ports;
	} cases[] = {
		{ VMBUS_FRAME_HASH_TCPV4 | VMBUS_FRAME_HASH_TCPV6, 6, true, true },
		{ VMBUS_FRAME_HASH_TCPV4 | VMBUS_FRAME_HASH_TCPV6, 17, false, false },
		{ VMBUS_FRAME_HASH_UDPV4 | VMBUS_FRAME_HASH_UDPV6, 17, true, true },
		{ VMBUS_FRAME_HASH_UDPV4 | VMBUS_FRAME_HASH_UDPV6, 6, false, false },
		{ VMBUS_FRAME_HASH_IPV4 | VMBUS_FRAME_HASH_IPV6, 6, true, false },
		{ 63, 6, true, true },
		{ VMBUS_FRAME_HASH_IPV4 | VMBUS_FRAME_HASH_IPV6 | VMBUS_FRAME_HASH_TCPV4 |
			  VMBUS_FRAME_HASH_TCPV6,
		  17, true, false },
		{ 0, 6, false, false },
	};
	struct vmbus_frame_headers h;
	struct vmbus_frame_key key;
	size_t i, c;

	vmbus_frame_key(&key, known_key);
	for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		for (c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
			uint32_t hash = 1;

			vmbus_test_at("vector %zu, case %zu", i, c);
			frame_of(&vectors[i], cases[c].protocol, &h);
			must_eq(vmbus_frame_hash(&key, cases[c].what, b.at, &h, &hash),
				cases[c].found);
			must_eq(hash, !cases[c].found  ? 1
				      : cases[c].ports ? vectors[i].port_hash
						       : vectors[i].ip_hash);
		}
	}
}
END_TEST

START_TEST(frame_hash__sends_all_fragments_the_same_way)
{
	struct vmbus_frame_headers h;
	struct vmbus_frame_key key;
	uint32_t first, last;

	vmbus_frame_key(&key, known_key);
	frame_of(&vectors[0], 17, &h);
	put16(b.at + b.network + 6, 0x2000);
	must_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), 0);
	ck_assert(vmbus_frame_hash(&key, 63, b.at, &h, &first));
	put16(b.at + b.network + 6, 0x0100);
	must_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), 0);
	ck_assert(vmbus_frame_hash(&key, 63, b.at, &h, &last));
	ck_assert_uint_eq(first, last);
	ck_assert_uint_eq(first, vectors[0].ip_hash);
}
END_TEST

START_TEST(frame_hash__finds_nothing_in_arp)
{
	const struct shape arp = { .ip = 0 };
	struct vmbus_frame_headers h;
	struct vmbus_frame_key key;
	uint32_t hash;

	vmbus_frame_key(&key, known_key);
	build(&b, &arp);
	must_eq(vmbus_frame_look(b.at, b.bytes, b.bytes, &h), 0);
	ck_assert(!vmbus_frame_hash(&key, 63, b.at, &h, &hash));
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "look", 10);

	tcase_add_test(tc, frame_look__finds_headers_of_every_kind_cut_at_every_length);
	tcase_add_test(tc, frame_look__refuses_lengths_that_make_no_sense);
	tcase_add_test(tc, frame_look__refuses_more_than_four_tags);
	tcase_add_test(tc, frame_look__tells_fragments);
	tcase_add_test(tc, frame_look__takes_0_for_all_that_is_there_and_ends_before_padding);
	tc = vmbus_test_case(suite, "hash", 10);
	tcase_add_test(tc, toeplitz__gives_the_known_vectors);
	tcase_add_test(tc, toeplitz__leaves_out_what_is_past_its_limit);
	tcase_add_test(tc, frame_hash__takes_what_is_asked_for);
	tcase_add_test(tc, frame_hash__sends_all_fragments_the_same_way);
	tcase_add_test(tc, frame_hash__finds_nothing_in_arp);
}

VMBUS_TEST_MAIN("ports.frame", tests)
