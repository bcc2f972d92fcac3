/* SPDX-License-Identifier: MIT */
/*
 * Large frames from a guest in one piece: of each message only the begin is copied, and the rest of the
 * frame stays in the guest's memory.
 */
#include "frames.h"

static struct netbox b;
static uint8_t frame[NB_FRAME];

static void begin(void)
{
	nb_prepare(&b);
	nb_start(&b);
}

/* The port has this frame as its last. */
static void is_last(uint32_t len, uint32_t seed)
{
	fr_plain(frame, len, seed);
	must_eq(b.port.last.bytes, len);
	must(memcmp(b.port.frame, frame, len) == 0);
}

/* Messages of these sizes behind each other in section 0.  Returns the bytes. */
static uint32_t put(const uint32_t *len, uint32_t n)
{
	uint32_t i, at = 0;

	for (i = 0; i < n; i++) {
		fr_plain(frame, len[i], i);
		at += fr_message(fr_at(&b, 0) + at, NULL, 0, frame, len[i], i + 1 < n);
	}
	return at;
}

/* One at a time, so that each is looked at; the port refuses the others meanwhile. */
START_TEST(tx_large__sends_large_and_small_ones_in_order)
{
	static const uint32_t len[] = { 1514, 60, 900, 14, 213, 212, 211, 1000, 61 };
	const uint32_t n = sizeof(len) / sizeof(len[0]);
	const uint64_t one = 1;
	uint32_t i;

	begin();
	b.port.take = 1;
	ck_assert_uint_eq(fr_section(&b, 0, 0, put(len, n)), 0);
	for (i = 0; i < n; i++) {
		ck_assert_uint_eq(b.port.sent, i + 1);
		is_last(len[i], i);
		b.port.take = 1;
		ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
		(void)nb_run(&b, 0);
	}
	ck_assert_uint_eq(b.port.sent, n);
	ck_assert_uint_eq(fr_stats(&b).sent_frames, n);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 0);
	nb_end(&b);
}
END_TEST

/* A message whose begin is shorter than what is copied of others is at the end of the section. */
START_TEST(tx_large__sends_a_short_one_at_the_end)
{
	uint32_t len[2] = { 1200, 14 };

	begin();
	for (; len[1] < 260; len[1]++) {
		ck_assert_uint_eq(fr_section(&b, 0, 0, put(len, 2)), 1);
		is_last(len[1], 1);
	}
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 0);
	nb_end(&b);
}
END_TEST

START_TEST(tx_large__refuses_one_that_is_cut_off)
{
	const uint32_t len[2] = { 1514, 1514 };
	uint32_t whole, cut, sent = 0;

	begin();
	for (cut = 1; cut <= 1514 + FR_HEAD; cut += cut < 300 || cut > 1300 ? 1 : 13) {
		whole = put(len, 2);
		ck_assert_uint_eq(fr_section(&b, 0, 0, whole - cut), cut == 1514 + FR_HEAD ? 1 : 2);
		ck_assert_uint_eq(b.port.sent, ++sent);
		is_last(1514, 0);
	}
	nb_end(&b);
}
END_TEST

/* Each word of the second header with each of these values: it may be sent, or refused. */
START_TEST(lesson_01_every_word_of_a_large_header)
{
	static const uint32_t values[] = {
		0,    1,    4,	  13,	14,    35,	   36,	       37,	   44,
		211,  212,  213,  255,	256,   512,	   1513,       1514,	   1515,
		1557, 1558, 1559, 6144, 65535, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF
	};
	const uint32_t len[3] = { 1514, 1514, 60 };
	uint32_t word, i, at, bytes, status;

	begin();
	for (word = 0; word < FR_HEAD; word += 4)
		for (i = 0; i < sizeof(values) / 4; i++) {
			bytes = put(len, 3);
			at = 1514 + FR_HEAD;
			at += (8u - at % 8u) % 8u;
			nb_put(fr_at(&b, 0) + at + word, 4, values[i]);
			status = fr_section(&b, 0, 0, bytes);
			ck_assert(status == 1 || status == 2);
			ck_assert_uint_le(b.port.last.bytes, 1514 + 4);
			ck_assert(b.port.last.piece != NULL);
		}
	bytes = put(len, 3);
	ck_assert_uint_eq(fr_section(&b, 0, 0, bytes), 1);
	is_last(60, 2);
	nb_end(&b);
}
END_TEST

/* More bytes than its message has would be those of the next one. */
START_TEST(tx_large__refuses_a_frame_that_is_longer_than_its_message)
{
	static const uint32_t len[2] = { 900, 900 };
	uint32_t more;

	begin();
	for (more = 905; more <= 1514; more += 87) {
		const uint32_t bytes = put(len, 2), sent = b.port.sent;

		nb_put(fr_at(&b, 0) + 12, 4, more);
		ck_assert_uint_eq(fr_section(&b, 0, 0, bytes), 2);
		ck_assert_uint_eq(b.port.sent, sent);
	}
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "tx_large", 30);

	tcase_add_test(tc, tx_large__sends_large_and_small_ones_in_order);
	tcase_add_test(tc, tx_large__sends_a_short_one_at_the_end);
	tcase_add_test(tc, tx_large__refuses_one_that_is_cut_off);
	tcase_add_test(tc, lesson_01_every_word_of_a_large_header);
	tcase_add_test(tc, tx_large__refuses_a_frame_that_is_longer_than_its_message);
}
VMBUS_TEST_MAIN("net.tx_large", tests)
