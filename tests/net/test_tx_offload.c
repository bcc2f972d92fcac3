/* SPDX-License-Identifier: MIT */
/*
 * What a guest wants done with its frames: by the port if it can, else by the NIC.
 */
#include "frames.h"

static struct netbox b;
static uint8_t frame[NB_FRAME];

/* Every frame that the port took, one behind the other. */
static uint8_t seen[1 << 20];
static uint32_t seen_bytes[4096], seen_flags[4096], seen_at[4096], seen_n;
static struct vmbus_port_ops ops;

static uint32_t keep_send(struct vmbus_port_queue *queue, const struct vmbus_frame *f, uint32_t n)
{
	uint32_t i, taken = 0;

	for (i = 0; i < n; i++) {
		if (nb_port_send(queue, &f[i], 1) != 1)
			break;
		seen_at[seen_n + 1] = seen_at[seen_n] + f[i].bytes;
		seen_bytes[seen_n] = f[i].bytes;
		seen_flags[seen_n] = f[i].flags;
		memcpy(seen + seen_at[seen_n], b.port.frame, f[i].bytes);
		seen_n++;
		taken++;
	}
	return taken;
}

static void begin(uint32_t can)
{
	nb_prepare(&b);
	ops = nb_port_ops;
	ops.send = keep_send;
	b.opts.port.ops = &ops;
	b.port.info.can = can;
	seen_n = 0;
	nb_start(&b);
}

static uint32_t word_csum(uint32_t protocol, uint32_t start)
{
	return 1u | (protocol == 6 ? 4u : 8u) | start << 16;
}

START_TEST(tx_offload__makes_sums_that_the_port_cannot)
{
	const uint32_t protocol = _i & 1 ? 6 : 17, at = protocol == 6 ? 50 : 40;
	const bool can = _i & 2;
	struct fr_ppi ppi = { 0, 0 };
	uint32_t len, payload, told;

	begin(can ? VMBUS_FRAME_CSUM : 0);
	for (payload = 0; payload < 1400; payload += payload < 260 ? 1 : 111) {
		for (told = 0; told < 2; told++) { /* the offset may be missing */
			len = fr_ipv4(frame, protocol, payload);
			fr_put16(frame + at, fr_pseudo4(frame, len - 34));
			ppi.word = word_csum(protocol, told ? 34 : 0);
			ck_assert_uint_eq(fr_send(&b, &ppi, 1, frame, len), 1);
			ck_assert_uint_eq(b.port.last.bytes, len);
			if (can) {
				ck_assert_uint_eq(b.port.last.flags, VMBUS_FRAME_CSUM);
				ck_assert_uint_eq(b.port.last.csum_start, 34);
				ck_assert_uint_eq(b.port.last.csum_offset, at - 34);
				ck_assert(memcmp(b.port.frame, frame, len) == 0);
			} else {
				ck_assert(!(b.port.last.flags & VMBUS_FRAME_CSUM));
				ck_assert(fr_is_summed4(b.port.frame));
			}
		}
	}
	ck_assert_uint_eq(fr_stats(&b).summed != 0, !can);
	nb_end(&b);
}
END_TEST

/* As Linux sends it: the IP length and sum are 0, and the pseudo header has no length. */
static uint32_t make_large(uint32_t payload)
{
	const uint32_t len = fr_ipv4(frame, 6, payload);

	fr_put16(frame + 16, 0);
	fr_put16(frame + 24, 0);
	fr_put16(frame + 50, fr_pseudo4(frame, 0));
	frame[47] = 0x19; /* FIN, PSH, ACK */
	return len;
}

static uint32_t send_pages(const struct fr_ppi *ppi, uint32_t ppis, uint32_t len)
{
	static uint8_t msg[NB_FRAME + 200];

	return nb_rndis(&b, 0, false, msg, fr_message(msg, ppi, ppis, frame, len, false));
}

START_TEST(tx_offload__cuts_large_frames_that_the_port_cannot)
{
	static const uint32_t sizes[] = { 1461, 2920, 2921, 10000, 62000 };
	const struct fr_ppi ppi = { 2, 1460u | 34u << 20 | 1u << 30 };
	const uint32_t payload = sizes[_i], segments = (payload + 1459) / 1460;
	uint32_t i, done = 0, len;

	begin(0);
	len = make_large(payload);
	ck_assert_uint_eq(send_pages(&ppi, 1, len), 1);
	ck_assert_uint_eq(seen_n, segments);
	for (i = 0; i < segments; i++) {
		const uint8_t *const f = seen + seen_at[i];
		const uint32_t part = seen_bytes[i] - 54;

		ck_assert_uint_eq(part, i + 1 < segments ? 1460 : payload - 1460 * i);
		ck_assert_uint_eq((uint32_t)f[16] << 8 | f[17], part + 40);
		ck_assert_uint_eq(fr_sum(f + 14, 20, 0), 0xFFFF);
		ck_assert(fr_is_summed4(f));
		ck_assert_uint_eq(nb_32(f + 38), __builtin_bswap32(done));
		ck_assert_uint_eq(f[47], i + 1 < segments ? 0x10 : 0x19);
		ck_assert(memcmp(f + 54, frame + 54 + done, part) == 0);
		done += part;
	}
	ck_assert_uint_eq(fr_stats(&b).cut, segments);
	ck_assert_uint_eq(fr_stats(&b).sent_frames, 1);
	nb_end(&b);
}
END_TEST

START_TEST(tx_offload__cuts_on_when_the_port_has_room_again)
{
	const struct fr_ppi ppi = { 2, 1000u | 34u << 20 | 1u << 30 };
	const uint64_t one = 1;
	uint32_t i, len;

	begin(0);
	b.port.take = 0;
	len = make_large(20000);
	ck_assert_uint_eq(send_pages(&ppi, 1, len), 0);
	for (i = 0; i < 20; i++) {
		ck_assert_uint_eq(seen_n, i);
		b.port.take = 1;
		ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
		(void)nb_run(&b, 0);
		ck_assert(memcmp(seen + seen_at[i] + 54, frame + 54 + 1000 * i, 1000) == 0);
	}
	ck_assert_uint_eq(seen_n, 20);
	ck_assert_uint_eq(nb_32(b.done + 4), 1);
	nb_end(&b);
}
END_TEST

START_TEST(lesson_21_large_frames_have_headers_that_a_port_can_use)
{
	const struct fr_ppi ppi = { 2, 1460u | 34u << 20 | 1u << 30 };
	uint32_t len;

	begin(VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4);
	len = make_large(20000);
	ck_assert_uint_eq(send_pages(&ppi, 1, len), 1);
	ck_assert_uint_eq(seen_n, 1);
	ck_assert_uint_eq(b.port.last.flags, VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4);
	ck_assert_uint_eq(b.port.last.mss, 1460);
	ck_assert_uint_eq(b.port.last.header_bytes, 54);
	ck_assert_uint_eq(b.port.last.csum_start, 34);
	ck_assert_uint_eq(b.port.last.csum_offset, 16);
	ck_assert_uint_eq((uint32_t)seen[16] << 8 | seen[17], len - 14);
	ck_assert_uint_eq(fr_sum(seen + 14, 20, 0), 0xFFFF);
	ck_assert_uint_eq((uint32_t)seen[50] << 8 | seen[51], fr_pseudo4(seen, len - 34));
	nb_end(&b);
}
END_TEST

/* 20054 bytes; the port may change its mind. */
START_TEST(tx_offload__cuts_what_is_larger_than_the_port_takes)
{
	const struct fr_ppi ppi = { 2, 1460u | 34u << 20 | 1u << 30 };
	uint32_t i, len;

	begin(VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4);
	b.port.info.tso_max = 20053;
	must_eq(vmbus_net_port_changed(b.net), 0);
	(void)nb_run(&b, 0);
	len = make_large(20000);
	ck_assert_uint_eq(len, 20054);
	ck_assert_uint_eq(send_pages(&ppi, 1, len), 1);
	ck_assert_uint_eq(seen_n, 14);
	for (i = 0; i < seen_n; i++) {
		ck_assert_uint_eq(seen_flags[i] & (VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4), 0);
		ck_assert(fr_is_summed4(seen + seen_at[i]));
	}
	ck_assert_uint_eq(fr_stats(&b).cut, 14);
	nb_end(&b);
	nb_prepare(&b);
	b.opts.port.ops = &ops;
	b.port.info.can = VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4;
	b.port.info.tso_max = (uint32_t)_i;
	seen_n = 0;
	nb_start(&b);
	len = make_large(20000);
	ck_assert_uint_eq(send_pages(&ppi, 1, len), 1);
	ck_assert_uint_eq(seen_n, _i == 20053 ? 14 : 1);
	nb_end(&b);
}
END_TEST

START_TEST(tx_offload__puts_a_tag_in_or_beside)
{
	const bool can = _i;
	const struct fr_ppi ppi = { 6, 5u | 1u << 3 | 0x123u << 4 };

	begin(can ? VMBUS_FRAME_VLAN : 0);
	fr_plain(frame, 100, 3);
	ck_assert_uint_eq(fr_send(&b, &ppi, 1, frame, 100), 1);
	if (can) {
		ck_assert_uint_eq(b.port.last.flags, VMBUS_FRAME_VLAN);
		ck_assert_uint_eq(b.port.last.vlan, 5u << 13 | 1u << 12 | 0x123);
		ck_assert(memcmp(seen, frame, 100) == 0);
	} else {
		ck_assert_uint_eq(seen_bytes[0], 104);
		ck_assert(memcmp(seen, frame, 12) == 0);
		ck_assert(memcmp(seen + 12, "\x81\x00\xb1\x23", 4) == 0);
		ck_assert(memcmp(seen + 16, frame + 12, 88) == 0);
	}
	nb_end(&b);
}
END_TEST

/* Information that cannot be is no reason to send the frame; the packet is answered all the same. */
START_TEST(tx_offload__drops_frames_that_cannot_be)
{
	const struct fr_ppi bad[] = {
		{ 2, 0u | 34u << 20 | 1u << 30 },		/* no MSS */
		{ 2, 1u | 34u << 20 | 1u << 30 },		/* thousands of segments */
		{ 2, 1460u | 34u << 20 | 1u << 30 | 1u << 31 }, /* IPv6, and is not */
		{ 2, 0xFFFFFu | 34u << 20 | 1u << 30 },
	};
	uint32_t len;

	begin(0);
	len = make_large(5000);
	ck_assert_uint_eq(send_pages(&bad[_i], 1, len), 1);
	ck_assert_uint_eq(seen_n, 0);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 1);
	nb_end(&b);
}
END_TEST

START_TEST(tx_offload__refuses_more_segments_than_a_frame_may_have)
{
	const bool can = _i;
	struct fr_ppi ppi = { 2, 8u | 34u << 20 | 1u << 30 };

	begin(can ? VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM : 0);
	ck_assert_uint_eq(send_pages(&ppi, 1, make_large(8193)), 1);
	ck_assert_uint_eq(seen_n, 0);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 1);
	ck_assert_uint_eq(send_pages(&ppi, 1, make_large(8192)), 1);
	ck_assert_uint_eq(seen_n, can ? 1 : 1024);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 1);
	ck_assert_uint_eq(fr_stats(&b).sent_frames, 1);
	nb_end(&b);
}
END_TEST

/* Of an MTU of 1500 a segment has 1460 bytes at most; a frame that is one segment has a length itself. */
START_TEST(tx_offload__refuses_segments_that_are_longer_than_the_mtu)
{
	static const uint32_t mss[] = { 1461, 1500, 30000, 65535 };
	struct fr_ppi ppi = { 2, 34u << 20 | 1u << 30 };
	uint32_t i;

	begin(_i ? VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM : 0);
	for (i = 0; i < sizeof(mss) / sizeof(mss[0]); i++) {
		ppi.word = mss[i] | 34u << 20 | 1u << 30;
		ck_assert_uint_eq(send_pages(&ppi, 1, make_large(mss[i] < 60000 ? 62000 : 1461)),
				  1);
		ck_assert_uint_eq(seen_n, 0);
		ck_assert_uint_eq(fr_stats(&b).sent_bad, i + 1);
	}
	ck_assert_uint_eq(send_pages(&ppi, 1, make_large(1460)), 1);
	ck_assert_uint_eq(seen_n, 1);
	ck_assert_uint_eq(seen_flags[0] & VMBUS_FRAME_TSO4, 0);
	ppi.word = 1460u | 34u << 20 | 1u << 30;
	ck_assert_uint_eq(send_pages(&ppi, 1, make_large(2920)), 1);
	ck_assert_uint_eq(seen_n, _i ? 2 : 3);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, i);
	nb_end(&b);
}
END_TEST

/* The port has no room a few times, and each time its burst is made again. */
START_TEST(tx_offload__counts_a_sum_once)
{
	const struct fr_ppi ppi = { 0, 1u | 4u | 2u << 0 };
	const uint64_t one = 1;
	uint32_t i, len;

	begin(0);
	b.port.take = 0;
	len = fr_ipv4(frame, 6, 100);
	fr_put16(frame + 50, fr_pseudo4(frame, len - 34));
	ck_assert_uint_eq(fr_send(&b, &ppi, 1, frame, len), 0);
	for (i = 0; i < 5; i++) {
		b.port.take = i == 4;
		ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
		(void)nb_run(&b, 0);
	}
	ck_assert_uint_eq(seen_n, 1);
	ck_assert(fr_is_summed4(seen));
	ck_assert_uint_eq(fr_stats(&b).summed, 1);
	nb_end(&b);
}
END_TEST

#define BITS 36u
#define BIT_BYTES 270u
#define BIT_MTU 9202u

/* A segment that lies in more pieces than one may. */
START_TEST(tx_offload__counts_a_frame_once_that_cannot_be_cut)
{
	static uint8_t message[NB_FRAME + 200];
	const struct fr_ppi ppi = { 2, (BIT_MTU - 40u) | 34u << 20 | 1u << 30 };
	const struct vmbus_wire_ext head = { .range_count = BITS };
	uint8_t msg[40] = { 107 }, ext[8 + 16 * BITS];
	struct vmbus_msg m = { .data = msg,
			       .len = sizeof(msg),
			       .type = VMBUS_PKT_GPA_DIRECT,
			       .flags = VMBUS_PKT_FLAG_COMPLETE,
			       .ext = ext };
	uint32_t i, len, at;
	int n;

	nb_prepare(&b);
	b.mtu = BIT_MTU + 14;
	seen_n = 0;
	nb_start(&b);
	m.id = b.id++;
	len = make_large(BITS * BIT_BYTES - FR_HEAD - 16 - 54);
	must_eq(fr_message(message, &ppi, 1, frame, len, false), BITS * BIT_BYTES);
	n = vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &head, ext, sizeof(ext));
	for (i = 0, at = (uint32_t)n; i < BITS; i++, at += (uint32_t)n) {
		const uint64_t page = b.data + i / 2;

		memcpy(nb_page(&b, page) + i % 2 * 2048, message + i * BIT_BYTES, BIT_BYTES);
		n = vmbus_wire_range_put(BIT_BYTES, i % 2 * 2048, &page, ext + at,
					 sizeof(ext) - at);
		must(n > 0);
	}
	m.ext_len = at;
	nb_put(msg + 8, 4, UINT32_MAX);
	nb_send(&b, 0, &m);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(b.done_id, m.id);
	ck_assert_uint_eq(b.port.sent, 0);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 1);
	ck_assert_uint_eq(fr_stats(&b).sent_frames, 0);
	ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, 60), 1);
	ck_assert_uint_eq(fr_stats(&b).sent_frames, 1);
	nb_end(&b);
}
END_TEST

START_TEST(tx_offload__survives_checksums_anywhere)
{
	struct fr_ppi ppi = { 0, 0 };
	uint32_t start, kind, len;

	begin(VMBUS_FRAME_CSUM);
	fr_plain(frame, 80, 9);
	for (kind = 0; kind < 32; kind++)
		for (start = 0; start < 1024; start += start < 100 ? 1 : 77) {
			ppi.word = kind | start << 16;
			ck_assert_uint_eq(fr_send(&b, &ppi, 1, frame, 80), 1);
		}
	len = fr_ipv4(frame, 6, 0);
	frame[46] = 0xF0; /* a TCP header past the frame */
	for (start = 0; start < 1024; start++) {
		ppi.word = 5u | start << 16;
		ck_assert_uint_eq(fr_send(&b, &ppi, 1, frame, len), 1);
		if (b.port.last.flags & VMBUS_FRAME_CSUM)
			ck_assert_uint_le(b.port.last.csum_start + b.port.last.csum_offset + 2u,
					  b.port.last.bytes);
	}
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "tx_offload", 20);

	tcase_add_loop_test(tc, tx_offload__makes_sums_that_the_port_cannot, 0, 4);
	tcase_add_loop_test(tc, tx_offload__cuts_large_frames_that_the_port_cannot, 0, 5);
	tcase_add_test(tc, tx_offload__cuts_on_when_the_port_has_room_again);
	tcase_add_test(tc, lesson_21_large_frames_have_headers_that_a_port_can_use);
	tcase_add_loop_test(tc, tx_offload__cuts_what_is_larger_than_the_port_takes, 20053, 20055);
	tcase_add_loop_test(tc, tx_offload__puts_a_tag_in_or_beside, 0, 2);
	tcase_add_loop_test(tc, tx_offload__drops_frames_that_cannot_be, 0, 4);
	tcase_add_loop_test(tc, tx_offload__refuses_more_segments_than_a_frame_may_have, 0, 2);
	tcase_add_loop_test(tc, tx_offload__refuses_segments_that_are_longer_than_the_mtu, 0, 2);
	tcase_add_test(tc, tx_offload__counts_a_sum_once);
	tcase_add_test(tc, tx_offload__counts_a_frame_once_that_cannot_be_cut);
	tcase_add_test(tc, tx_offload__survives_checksums_anywhere);
}
VMBUS_TEST_MAIN("net.tx_offload", tests)
