/* SPDX-License-Identifier: MIT */
/* Checksums, tags and segments made in software. */
#include "frames.h"

static struct built b, copy;
static uint8_t flat[VMBUS_FRAME_BYTES_MAX];
static struct vmbus_iov iov[VMBUS_FRAME_BYTES_MAX];

static struct vmbus_frame whole(uint32_t first, uint32_t piece)
{
	struct vmbus_frame frame = { .piece = iov, .bytes = b.bytes };

	frame.pieces = pieces_of(iov, VMBUS_FRAME_BYTES_MAX, &b, first, piece);
	return frame;
}

/* As a guest leaves it: the pseudo header's sum where the checksum goes. */
static void leave_due(struct vmbus_frame *frame, const struct shape *s)
{
	const uint32_t at = s->protocol == 6 ? 16 : 6;

	frame->flags = VMBUS_FRAME_CSUM;
	frame->csum_start = (uint16_t)b.transport;
	frame->csum_offset = (uint16_t)at;
	put16(b.at + b.transport + at,
	      slow_pseudo(b.at + b.network, s->ip, s->protocol, b.bytes - b.transport));
}

START_TEST(frame_checksum__is_right_for_every_length_and_piece)
{
	struct shape s = { .ip = 4, .protocol = 6 };
	int kind;

	for (kind = 0; kind < 4; kind++) {
		s.ip = kind & 1 ? 6 : 4;
		s.protocol = kind & 2 ? 17 : 6;
		for (s.payload = 0; s.payload < 200; s.payload++) {
			const uint32_t piece = 1 + s.payload % 13;
			struct vmbus_frame frame;

			vmbus_test_at("kind %d payload %u", kind, s.payload);
			build(&b, &s);
			frame = whole(b.payload, piece);
			leave_due(&frame, &s);
			must_eq(vmbus_frame_checksum(&frame, b.at), 0);
			must_eq(frame.flags, VMBUS_FRAME_CSUM_OK);
			must_eq(transport_wrong(b.at + b.network, b.at + b.transport, s.protocol,
						b.bytes - b.transport),
				0);
		}
	}
}
END_TEST

START_TEST(frame_checksum__leaves_padding_out)
{
	const struct shape s = { .ip = 4, .protocol = 17, .payload = 1 };
	struct vmbus_frame frame;
	const uint32_t bytes = (build(&b, &s), b.bytes);

	memset(b.at + bytes, 0x55, 60 - bytes);
	frame = whole(1000, 1);
	leave_due(&frame, &s);
	b.bytes = 60;
	frame = (struct vmbus_frame){ .piece = iov,
				      .pieces = 1,
				      .bytes = 60,
				      .flags = VMBUS_FRAME_CSUM,
				      .csum_start = frame.csum_start,
				      .csum_offset = frame.csum_offset };
	iov[0].len = 60;
	ck_assert_int_eq(vmbus_frame_checksum(&frame, b.at), 0);
	ck_assert_uint_eq(
		transport_wrong(b.at + b.network, b.at + b.transport, 17, bytes - b.transport), 0);
}
END_TEST

/* For UDP, 0 means that there is none. */
START_TEST(frame_checksum__never_writes_0)
{
	const struct shape s = { .ip = 4, .protocol = 17, .payload = 2 };
	struct vmbus_frame frame;

	build(&b, &s);
	memset(b.at + b.payload, 0, 2);
	frame = whole(1000, 1);
	leave_due(&frame, &s);
	/* Let the payload make the sum all ones. */
	put16(b.at + b.payload, 0xffffu - slow_sum(0, b.at + b.transport, b.bytes - b.transport));
	ck_assert_int_eq(vmbus_frame_checksum(&frame, b.at), 0);
	ck_assert_uint_eq(get16(b.at + b.transport + 6), 0xffff);
}
END_TEST

START_TEST(frame_checksum__writes_the_ip_header_sum)
{
	const struct shape s = { .ip = 4, .protocol = 6, .options = 8, .tags = 1, .payload = 3 };
	struct vmbus_frame frame;

	build(&b, &s);
	put16(b.at + b.network + 10, 0x1234);
	frame = whole(1000, 1);
	frame.flags = VMBUS_FRAME_IP_CSUM | VMBUS_FRAME_HASH;
	ck_assert_int_eq(vmbus_frame_checksum(&frame, b.at), 0);
	ck_assert_uint_eq(frame.flags, VMBUS_FRAME_HASH);
	ck_assert_uint_eq(slow_sum(0, b.at + b.network, 28), 0xffff);
}
END_TEST

START_TEST(frame_checksum__refuses_places_that_are_not_in_the_first_piece)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 100 };
	const struct shape v6 = { .ip = 6, .protocol = 6, .payload = 100 };
	struct vmbus_frame frame;

	build(&b, &s);
	copy = b;
	frame = whole(b.payload, 40);
	frame.flags = VMBUS_FRAME_CSUM;
	frame.csum_start = (uint16_t)(b.payload - 1);
	ck_assert_int_eq(vmbus_frame_checksum(&frame, b.at), VMBUS_E_RANGE);
	frame.csum_start = 65535;
	frame.csum_offset = 65535;
	ck_assert_int_eq(vmbus_frame_checksum(&frame, b.at), VMBUS_E_RANGE);
	ck_assert_uint_eq(frame.flags, VMBUS_FRAME_CSUM);
	ck_assert_mem_eq(b.at, copy.at, b.bytes);
	/* In the first piece, and behind the packet's end. */
	put16(b.at + b.network + 2, 40);
	frame = whole(200, 1);
	frame.flags = VMBUS_FRAME_CSUM;
	frame.csum_start = (uint16_t)b.payload;
	ck_assert_int_eq(vmbus_frame_checksum(&frame, b.at), VMBUS_E_RANGE);
	build(&b, &v6);
	frame = whole(1000, 1);
	frame.flags = VMBUS_FRAME_IP_CSUM;
	ck_assert_int_eq(vmbus_frame_checksum(&frame, b.at), VMBUS_E_RANGE);
	frame.flags = 0;
	ck_assert_int_eq(vmbus_frame_checksum(&frame, b.at), 0);
}
END_TEST

/* ---- tags ---- */

START_TEST(frame_tag__puts_the_tag_into_frames_of_any_pieces)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 700 };
	const struct shape tagged_shape = { .ip = 4, .protocol = 6, .tags = 1, .payload = 700 };
	struct vmbus_frame_tagged tagged;
	struct vmbus_frame frame, out;
	uint32_t first;

	build(&copy, &tagged_shape);
	put16(copy.at + 14, 0x6123);
	build(&b, &s);
	for (first = 12; first < b.bytes; first++) {
		vmbus_test_at("first %u", first);
		frame = whole(first, 100);
		frame.flags = VMBUS_FRAME_VLAN | VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM;
		frame.vlan = 0x6123;
		frame.csum_start = 34;
		frame.header_bytes = 54;
		must_eq(vmbus_frame_tag(&tagged, &frame, &out), 0);
		must_eq(out.bytes, copy.bytes);
		gather(flat, &out);
		must(memcmp(flat, copy.at, out.bytes) == 0);
		must_eq(out.flags, VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM);
		must_eq(out.csum_start, 38);
		must_eq(out.header_bytes, 58);
		must(out.piece[0].len >= (first < 192 ? first : 192));
	}
}
END_TEST

START_TEST(frame_tag__refuses_what_it_cannot_tag)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 700 };
	struct vmbus_frame_tagged tagged;
	struct vmbus_frame frame, out = { .bytes = 1 };

	build(&b, &s);
	frame = whole(100, 100);
	ck_assert_int_eq(vmbus_frame_tag(&tagged, &frame, &out), VMBUS_E_INVAL);
	frame.flags = VMBUS_FRAME_VLAN;
	frame.bytes = VMBUS_FRAME_BYTES_MAX - 3;
	ck_assert_int_eq(vmbus_frame_tag(&tagged, &frame, &out), VMBUS_E_RANGE);
	frame = whole(11, 100);
	frame.flags = VMBUS_FRAME_VLAN;
	ck_assert_int_eq(vmbus_frame_tag(&tagged, &frame, &out), VMBUS_E_RANGE);
	frame = whole(100, 10);
	frame.flags = VMBUS_FRAME_VLAN;
	ck_assert_int_eq(vmbus_frame_tag(&tagged, &frame, &out), VMBUS_E_FULL);
	ck_assert_uint_eq(out.bytes, 1);
}
END_TEST

/* ---- segments ---- */

static struct vmbus_frame to_cut(const struct shape *s, uint32_t mss, uint32_t piece)
{
	struct vmbus_frame frame;

	build(&b, s);
	/* As Linux leaves it: no length, and the pseudo header's sum without one. */
	put16(b.at + b.network + (s->ip == 4 ? 2 : 4), 0);
	frame = whole(b.payload > VMBUS_FRAME_HEAD ? b.payload : VMBUS_FRAME_HEAD, piece);
	frame.flags = (s->ip == 4 ? VMBUS_FRAME_TSO4 : VMBUS_FRAME_TSO6) | VMBUS_FRAME_CSUM |
		      VMBUS_FRAME_VLAN;
	frame.vlan = 7;
	frame.header_bytes = (uint16_t)b.payload;
	frame.mss = (uint16_t)mss;
	return frame;
}

static void check_segment(const struct shape *s, const struct vmbus_frame *segment, uint32_t number,
			  uint32_t at, bool last)
{
	const uint8_t *const ip = flat + b.network, *const tcp = flat + b.transport;
	const uint32_t bytes = segment->bytes - b.transport;

	gather(flat, segment);
	must(segment->bytes <= sizeof(flat));
	must_eq(segment->flags, VMBUS_FRAME_CSUM_OK | VMBUS_FRAME_VLAN);
	must_eq(segment->vlan, 7);
	must_eq(segment->mss, 0);
	must(memcmp(flat + b.payload, b.at + b.payload + at, segment->bytes - b.payload) == 0);
	must_eq(get32(tcp + 4), (0xffffff00u + (uint64_t)at) & 0xffffffffu);
	must_eq(tcp[13], (number ? 0 : 0x80) | 0x10 | (last ? 0x09 : 0));
	must_eq(transport_wrong(ip, tcp, 6, bytes), 0);
	if (s->ip == 4) {
		must_eq(get16(ip + 2), segment->bytes - b.network);
		must_eq(get16(ip + 4), (0xfffe + number) & 0xffffu);
		must_eq(slow_sum(0, ip, 20 + s->options), 0xffff);
	} else {
		must_eq(get16(ip + 4), segment->bytes - b.network - 40);
	}
	/* The rest of the headers is as it was. */
	must(memcmp(flat, b.at, b.network) == 0);
	must(memcmp(tcp + 20, b.at + b.transport + 20, s->tcp_options) == 0);
	must(memcmp(tcp + 8, b.at + b.transport + 8, 5) == 0);
}

static void cut_all(const struct shape *s, uint32_t mss, uint32_t piece)
{
	struct vmbus_frame frame = to_cut(s, mss, piece), segment;
	uint32_t at = 0, number = 0;
	struct vmbus_frame_cut cut;

	vmbus_test_at("ip %d options %u/%u payload %u mss %u piece %u", s->ip, s->options,
		      s->tcp_options, s->payload, mss, piece);
	must_eq(vmbus_frame_cut(&cut, &frame), 0);
	while (vmbus_frame_cut_next(&cut, &segment) == 1) {
		const uint32_t bytes = segment.bytes - b.payload;

		must_eq(bytes, s->payload - at < mss ? s->payload - at : mss);
		check_segment(s, &segment, number++, at, at + bytes == s->payload);
		at += bytes;
	}
	must_eq(at, s->payload);
	must_eq(vmbus_frame_cut_next(&cut, &segment), 0);
}

START_TEST(frame_cut__makes_segments_that_are_right_to_the_last_bit)
{
	static const struct shape shapes[] = {
		{ .ip = 4, .protocol = 6 },
		{ .ip = 6, .protocol = 6 },
		{ .ip = 4, .protocol = 6, .options = 40, .tcp_options = 40, .tags = 1 },
		{ .ip = 6, .protocol = 6, .options = 16, .tcp_options = 12, .tags = 2 },
	};
	static const uint32_t payloads[] = { 1, 8, 1447, 1448, 1449, 2896, 9000, 65000 };
	size_t i, p;

	for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		for (p = 0; p < sizeof(payloads) / sizeof(payloads[0]); p++) {
			struct shape s = shapes[i];

			s.payload = payloads[p];
			cut_all(&s, 1448, 4096);
			cut_all(&s, 1447, 999);
			cut_all(&s, 9000, 65536);
			cut_all(&s, 9000, 301);
			if (s.payload <= 9000)
				cut_all(&s, 8, 1);
		}
	}
}
END_TEST

START_TEST(frame_cut__refuses_what_is_no_such_frame)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 5000 };
	const struct shape udp = { .ip = 4, .protocol = 17, .payload = 5000 };
	struct vmbus_frame frame = to_cut(&s, 1000, 4096);
	struct vmbus_frame_cut cut;

	frame.flags = VMBUS_FRAME_CSUM;
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), VMBUS_E_INVAL);
	frame.flags = VMBUS_FRAME_TSO6;
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), VMBUS_E_INVAL);
	frame.flags = VMBUS_FRAME_TSO4;
	frame.pieces = 0;
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), VMBUS_E_INVAL);
	frame = to_cut(&s, 1000, 4096);
	put16(b.at + b.network + 6, 0x2000);
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), VMBUS_E_INVAL);
	frame = to_cut(&udp, 1000, 4096);
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), VMBUS_E_INVAL);
	frame = to_cut(&s, 1000, 4096);
	b.at[b.transport + 12] = 0xf0; /* a header of 60 bytes, and told to be of 20 */
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), VMBUS_E_RANGE);
	frame = to_cut(&s, 7, 4096);
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), VMBUS_E_RANGE);
	frame = to_cut(&s, 1000, 4096);
	frame.header_bytes = 0;
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), VMBUS_E_RANGE);
}
END_TEST

START_TEST(frame_cut__refuses_no_payload_and_segments_that_ip_cannot_tell)
{
	struct shape s = { .ip = 4, .protocol = 6 };
	struct vmbus_frame frame = to_cut(&s, 1000, 4096);
	struct vmbus_frame_cut cut;

	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), VMBUS_E_RANGE);
	s.payload = 65495; /* with 40 bytes of headers as long as IP allows */
	frame = to_cut(&s, 65535, 65536);
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), 0);
	s.payload = 65496;
	frame = to_cut(&s, 65535, 65536);
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), VMBUS_E_RANGE);
	frame = to_cut(&s, 65495, 65536);
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), 0);
}
END_TEST

START_TEST(frame_cut_next__refuses_too_many_pieces)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 1000 };
	struct vmbus_frame frame = to_cut(&s, 400, 10), segment = { .bytes = 1 };
	struct vmbus_frame_cut cut;

	/* The first 138 bytes of payload join the header, so 27 pieces make 400; or 53 of 5 bytes. */
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), 0);
	ck_assert_int_eq(vmbus_frame_cut_next(&cut, &segment), 1);
	ck_assert_int_eq(vmbus_frame_cut_next(&cut, &segment), 1);
	frame = to_cut(&s, 400, 5);
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), 0);
	segment.bytes = 1;
	ck_assert_int_eq(vmbus_frame_cut_next(&cut, &segment), VMBUS_E_FULL);
	ck_assert_uint_eq(segment.bytes, 1);
}
END_TEST

/* As every frame: what may change under way begins behind its head. */
START_TEST(frame_cut_next__has_the_head_in_the_first_piece)
{
	const struct shape s = { .ip = 4, .protocol = 6, .payload = 1000 };
	struct vmbus_frame frame = to_cut(&s, 400, 10), segment;
	struct vmbus_frame_cut cut;
	uint32_t n = 0;

	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), 0);
	while (vmbus_frame_cut_next(&cut, &segment) == 1) {
		ck_assert_uint_eq(segment.piece[0].len, VMBUS_FRAME_HEAD);
		n++;
	}
	ck_assert_uint_eq(n, 3);
	frame = to_cut(&s, 100, 10);
	ck_assert_int_eq(vmbus_frame_cut(&cut, &frame), 0);
	ck_assert_int_eq(vmbus_frame_cut_next(&cut, &segment), 1);
	ck_assert_uint_eq(segment.pieces, 1);
	ck_assert_uint_eq(segment.piece[0].len, segment.bytes);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "checksum", 10);

	tcase_add_test(tc, frame_checksum__is_right_for_every_length_and_piece);
	tcase_add_test(tc, frame_checksum__leaves_padding_out);
	tcase_add_test(tc, frame_checksum__never_writes_0);
	tcase_add_test(tc, frame_checksum__writes_the_ip_header_sum);
	tcase_add_test(tc, frame_checksum__refuses_places_that_are_not_in_the_first_piece);
	tc = vmbus_test_case(suite, "tag", 10);
	tcase_add_test(tc, frame_tag__puts_the_tag_into_frames_of_any_pieces);
	tcase_add_test(tc, frame_tag__refuses_what_it_cannot_tag);
	tc = vmbus_test_case(suite, "cut", 20);
	tcase_add_test(tc, frame_cut__makes_segments_that_are_right_to_the_last_bit);
	tcase_add_test(tc, frame_cut__refuses_what_is_no_such_frame);
	tcase_add_test(tc, frame_cut__refuses_no_payload_and_segments_that_ip_cannot_tell);
	tcase_add_test(tc, frame_cut_next__refuses_too_many_pieces);
	tcase_add_test(tc, frame_cut_next__has_the_head_in_the_first_piece);
}

VMBUS_TEST_MAIN("ports.frame_cut", tests)
