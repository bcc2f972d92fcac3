/* SPDX-License-Identifier: MIT */
/*
 * A guest that lies about its frames: everything is answered, nothing outside of its memory is read, and
 * the next frame goes as if nothing had been.
 */
#include "frames.h"

#include <pthread.h>

static struct netbox b;
static uint8_t frame[NB_FRAME];

static void begin(void)
{
	nb_prepare(&b);
	nb_start(&b);
}

static void still_works(void)
{
	const uint32_t sent = b.port.sent;

	fr_plain(frame, 60, 77);
	must_eq(fr_send(&b, NULL, 0, frame, 60), 1);
	must_eq(b.port.sent, sent + 1);
	must(memcmp(b.port.frame, frame, 60) == 0);
}

START_TEST(lesson_11_a_message_cut_off_at_every_byte)
{
	const struct fr_ppi ppi = { 6, 5 };
	uint32_t len, cut;

	begin();
	fr_plain(frame, 60, 1);
	len = fr_message(fr_at(&b, 0), &ppi, 1, frame, 60, false);
	for (cut = 0; cut < len; cut++)
		ck_assert_uint_eq(fr_section(&b, 0, 0, cut), 2);
	ck_assert_uint_eq(b.port.sent, 0);
	ck_assert_uint_eq(fr_section(&b, 0, 0, len), 1);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, len);
	still_works();
	nb_end(&b);
}
END_TEST

/* Each word of the header with each of these values: it may be sent, or refused. */
START_TEST(lesson_01_every_word_of_the_header)
{
	static const uint32_t values[] = {
		0,     1,     4,	  7,	      8,	  13,	      14,
		35,    36,    37,	  44,	      52,	  60,	      100,
		104,   105,   255,	  256,	      512,	  513,	      6144,
		65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFC, 0xFFFFFFFF
	};
	const struct fr_ppi ppi[2] = { { 6, 5 }, { 0, 5u | 34u << 16 } };
	uint32_t len, word, i, k, status;

	begin();
	fr_plain(frame, 60, 1);
	for (k = 0; k < 3; k++) /* one message; two, and the first, the second is changed */
		for (word = 0; word < FR_HEAD + 32; word += 4)
			for (i = 0; i < sizeof(values) / 4; i++) {
				uint8_t *const at = fr_at(&b, 0);

				len = fr_message(at, ppi, 2, frame, 60, true);
				if (k)
					len += fr_message(at + len, ppi, 2, frame, 60, false);
				nb_put(at + (k == 2 ? len - 136 : 0) + word, 4, values[i]);
				status = fr_section(&b, 0, 0, len);
				ck_assert(status == 1 || status == 2);
				ck_assert(b.port.sent == 0 || b.port.last.bytes <= 136 + 4);
			}
	still_works();
	nb_end(&b);
}
END_TEST

START_TEST(tx__refuses_sections_that_are_not_there)
{
	static const struct {
		uint32_t section, bytes;
	} cases[] = { { 32, 104 },  { UINT32_MAX - 1, 104 }, { 0, 6145 },	  { 0, UINT32_MAX },
		      { 31, 6145 }, { 0x80000000u, 8 },	     { UINT32_MAX, 104 }, { 0, 0 } };
	uint32_t i;

	begin();
	fr_plain(frame, 60, 1);
	(void)fr_message(fr_at(&b, 0), NULL, 0, frame, 60, false);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ck_assert_uint_eq(fr_section(&b, 0, cases[i].section, cases[i].bytes), 2);
	ck_assert_uint_eq(b.port.sent, 0);
	still_works();
	nb_end(&b);
}
END_TEST

START_TEST(tx__refuses_more_messages_than_it_looks_at)
{
	uint32_t i, at = 0;

	nb_prepare(&b);
	b.opts.section_bytes = 65536;
	nb_start(&b);
	fr_plain(frame, 20, 1);
	for (i = 0; i < 100; i++)
		at += fr_message(fr_at(&b, 0) + at, NULL, 0, frame, 20, true);
	ck_assert_uint_eq(fr_section(&b, 0, 0, at), 2);
	ck_assert_uint_eq(b.port.sent, 64);
	still_works();
	nb_end(&b);
}
END_TEST

START_TEST(tx__refuses_runts_and_giants)
{
	uint32_t len;

	nb_prepare(&b);
	nb_start(&b);
	fr_plain(frame, 2000, 1);
	for (len = 1; len < 14; len++)
		ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, len), 1);
	ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, 0), 2);
	ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, 1515), 1);
	ck_assert_uint_eq(b.port.sent, 0);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 15);
	/* A tag in the frame makes it longer than the MTU tells. */
	memcpy(frame + 12, "\x81\x00\x00\x05", 4);
	ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, 1518), 1);
	ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, 1519), 1);
	ck_assert_uint_eq(b.port.sent, 1);
	still_works();
	nb_end(&b);
}
END_TEST

/* ---- frames that are rewritten under way ---- */

static uint32_t seed = 1;

static uint32_t rnd(void)
{
	seed = seed * 1103515245u + 12345u;
	return seed >> 8 & 0xFFFFFFu;
}

/* The guest writes into its buffers all the time, by a mapping of its own. */
static atomic_bool stop;

static void *rewrite(void *arg)
{
	uint8_t *const mem = arg;
	uint8_t *const tx = mem + b.tx * FAKE_PAGE, *const data = mem + b.data * FAKE_PAGE;

	while (!atomic_load(&stop)) {
		nb_put(tx + rnd() % 256, 4, rnd() & 1 ? rnd() : rnd() % 200);
		nb_put(data + rnd() % 256, 4, rnd() & 1 ? rnd() : rnd() % 200);
	}
	return NULL;
}

START_TEST(lesson_10_frames_that_are_rewritten_under_way)
{
	const struct fr_ppi ppi[2] = { { 6, 5 }, { 0, 5u | 34u << 16 } };
	static uint8_t msg[4096];
	uint32_t i, k, len, status, at;
	pthread_t thread;
	void *mem;

	begin();
	mem = mmap(NULL, b.f.pages * FAKE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, b.f.fd, 0);
	must(mem != MAP_FAILED);
	atomic_store(&stop, false);
	must_eq(pthread_create(&thread, NULL, rewrite, mem), 0);
	for (i = 0; i < 2000; i++) {
		fr_plain(frame, 1400, i);
		for (k = at = 0; k < 3; k++)
			at += fr_message(fr_at(&b, 0) + at, ppi, i % 3, frame, i & 2 ? 60 : 800,
					 k < 2);
		len = fr_message(msg, ppi, 2, frame, 60 + i % 1000, false);
		if (i & 1)
			status = fr_section(&b, 0, 0, at);
		else
			status = nb_rndis(&b, 0, false, msg, len);
		ck_assert(status == 1 || status == 2);
		if (b.port.last.bytes)
			ck_assert(b.port.last.bytes >= 14 && b.port.last.bytes <= 1514 + 8);
	}
	atomic_store(&stop, true);
	must_eq(pthread_join(thread, NULL), 0);
	munmap(mem, b.f.pages * FAKE_PAGE);
	still_works();
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "tx_hostile", 30);

	tcase_add_test(tc, lesson_11_a_message_cut_off_at_every_byte);
	tcase_add_test(tc, lesson_01_every_word_of_the_header);
	tcase_add_test(tc, tx__refuses_sections_that_are_not_there);
	tcase_add_test(tc, tx__refuses_more_messages_than_it_looks_at);
	tcase_add_test(tc, tx__refuses_runts_and_giants);
	tcase_add_test(tc, lesson_10_frames_that_are_rewritten_under_way);
}
VMBUS_TEST_MAIN("net.tx_hostile", tests)
