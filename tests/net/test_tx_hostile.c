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

/* ---- more than one callback may do ---- */

#define BIG 15u	       /* large messages of a packet */
#define SEGMENTS 1023u /* of each */
#define RUN_MOST 2048u /* segments of a callback */
#define BIG_PACKETS 6u /* of them as many as may wait, and more in the ring */

static bool shut;     /* the port takes nothing */
static uint32_t run;  /* segments since the port was asked for frames: in this callback */
static uint32_t most; /* of them, ever */
static uint32_t segments;

static uint32_t bound_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frames,
			   uint32_t n)
{
	(void)queue;
	(void)frames;
	if (shut)
		return 0;
	segments += n;
	run += n;
	most = run > most ? run : most;
	return n;
}

static uint32_t bound_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			      uint32_t n)
{
	run = 0;
	return nb_port_receive(queue, room, n);
}

/* Packets of the same pages, each with 15 large frames in segments of 8 bytes. */
static void put_big(uint32_t chan)
{
	const struct fr_ppi lso = { 2, 8u | 34u << 20 | 1u << 30 };
	const uint32_t len = fr_ipv4(frame, 6, SEGMENTS * 8);
	uint8_t *const at = nb_page(&b, b.data);
	uint8_t msg[40] = { 107 }, ext[32 + 8 * NB_DATA_PAGES];
	struct vmbus_msg m = { .data = msg,
			       .len = sizeof(msg),
			       .type = VMBUS_PKT_GPA_DIRECT,
			       .flags = VMBUS_PKT_FLAG_COMPLETE,
			       .ext = ext };
	uint32_t i, bytes = 0;

	for (i = 0; i < BIG; i++)
		bytes += fr_message(at + bytes, &lso, 1, frame, len, true);
	must(bytes <= NB_DATA_PAGES * FAKE_PAGE);
	m.ext_len = nb_range(ext, b.data, 0, bytes);
	nb_put(msg + 8, 4, UINT32_MAX);
	for (i = 0; i < BIG_PACKETS; i++) {
		m.id = b.id++;
		nb_send(&b, chan, &m);
	}
}

static void begin_bound(struct vmbus_port_ops *ops, uint32_t packets_max)
{
	*ops = nb_port_ops;
	ops->send = bound_send;
	ops->receive = bound_receive;
	run = most = segments = 0;
	nb_prepare(&b);
	b.opts.port.ops = ops;
	b.opts.packets_max = packets_max;
	b.opts.subchannels = 1;
	b.port.info.queues = 2;
	nb_start(&b);
	nb_subs(&b, 1);
	(void)nb_run(&b, 0);
}

/* The port has room. */
static void tell_room(uint32_t queue)
{
	const uint64_t one = 1;

	shut = false;
	must_eq(write(b.port.queue[queue]->fd, &one, 8), 8);
}

/* As they come; having waited; and with a port that has no room in the midst of it. */
START_TEST(tx__does_no_more_in_a_callback_than_is_bounded)
{
	const uint32_t all = BIG_PACKETS * BIG * SEGMENTS;
	struct vmbus_port_ops ops;
	uint64_t waits;
	uint32_t before;

	begin_bound(&ops, 4);
	before = b.completions;
	shut = _i > 0;
	put_big(0);
	if (_i > 0) {
		fake_run(&b.f);
		ck_assert_uint_eq(segments, 0);
		tell_room(0);
	}
	waits = fr_stats(&b).sent_waits;
	if (_i > 1) {
		(void)vmbus_bus_dispatch(b.f.bus, 1);
		ck_assert(segments > 0 && segments < all);
		shut = true;
		fake_run(&b.f);
		waits++;
		ck_assert_uint_eq(fr_stats(&b).sent_waits, waits);
		tell_room(0);
	}
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(segments, all);
	ck_assert_uint_le(most, RUN_MOST);
	ck_assert_uint_eq(b.completions, before + BIG_PACKETS);
	ck_assert_uint_eq(fr_stats(&b).cut, all);
	ck_assert_uint_eq(fr_stats(&b).sent_waits, waits); /* it is not the port that has no room */
	nb_end(&b);
}
END_TEST

/* Frames that go nowhere are work as well: a sum of them may have been made. */
START_TEST(tx__leaves_frames_that_it_drops_for_another_callback)
{
	const uint32_t packets = 64, frames = 20, bytes = 3000;
	struct vmbus_msg m = { .type = VMBUS_PKT_INBAND, .flags = VMBUS_PKT_FLAG_COMPLETE };
	uint8_t msg[40] = { 107 };
	uint32_t i, before, at = 0;

	nb_prepare(&b);
	b.opts.section_bytes = 65536;
	nb_start(&b);
	fr_plain(frame, bytes, 1);
	for (i = 0; i < frames; i++)
		at += fr_message(fr_at(&b, 0) + at, NULL, 0, frame, bytes, true);
	nb_put(msg + 12, 4, at);
	m.data = msg;
	m.len = sizeof(msg);
	before = b.completions;
	for (i = 0; i < packets; i++) {
		m.id = b.id++;
		nb_send(&b, 0, &m);
	}
	(void)vmbus_bus_dispatch(b.f.bus, packets);
	ck_assert_uint_gt(fr_stats(&b).sent_bad, 0);
	ck_assert_uint_lt(fr_stats(&b).sent_bad, packets * frames);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, packets * frames);
	ck_assert_uint_eq(b.completions, before + packets);
	nb_end(&b);
}
END_TEST

/* The guest closes, or takes its buffers back, while some of the primary's, or of a sub-channel's, is left
   for another callback. */
START_TEST(tx__ends_with_work_left)
{
	const uint32_t all = BIG_PACKETS * BIG * SEGMENTS;
	uint8_t revoke[40] = { 106 };
	struct vmbus_port_ops ops;
	const uint32_t chan = _i == 2;
	uint32_t before;

	begin_bound(&ops, _i ? 64 : 4);
	shut = true;
	put_big(chan);
	fake_run(&b.f);
	before = b.completions;
	tell_room(chan);
	(void)vmbus_bus_dispatch(b.f.bus, 1);
	ck_assert(segments > 0 && segments < all);
	if (_i == 0) {
		fake_post_close(&b.f, &b.c[0]);
		fake_run(&b.f);
		ck_assert_uint_lt(segments, all);
	} else {
		nb_tell(&b, revoke, sizeof(revoke));
		(void)nb_run(&b, chan);
		ck_assert_uint_eq(b.completions, before + BIG_PACKETS);
		ck_assert_uint_gt(fr_stats(&b).stopped, 0);
	}
	ck_assert_uint_le(most, RUN_MOST);
	nb_end(&b);
	ck_assert_uint_eq(vmbus_region_pins(&b.f.region), 0);
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
	tcase_add_loop_test(tc, tx__does_no_more_in_a_callback_than_is_bounded, 0, 3);
	tcase_add_test(tc, tx__leaves_frames_that_it_drops_for_another_callback);
	tcase_add_loop_test(tc, tx__ends_with_work_left, 0, 3);
}
VMBUS_TEST_MAIN("net.tx_hostile", tests)
