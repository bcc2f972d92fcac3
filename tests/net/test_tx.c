/* SPDX-License-Identifier: MIT */
/*
 * Frames from a guest to a port: where they lie in its buffers and pages, several in a message, and what
 * happens when the port has no room.
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
static void is_last(const uint8_t *f, uint32_t len)
{
	must_eq(b.port.last.bytes, len);
	must(memcmp(b.port.frame, f, len) == 0);
}

START_TEST(tx__sends_a_frame_of_any_size_from_a_section)
{
	uint32_t len;

	begin();
	for (len = 14; len <= 1514; len += len < 260 ? 1 : 97) {
		fr_plain(frame, len, len);
		ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, len), 1);
		is_last(frame, len);
		ck_assert(b.port.last.piece && b.port.last.flags == 0);
	}
	ck_assert_uint_eq(b.port.sent, fr_stats(&b).sent_frames);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 0);
	nb_end(&b);
}
END_TEST

START_TEST(tx__sends_all_frames_of_a_message_in_order)
{
	uint32_t i, at = 0;

	begin();
	for (i = 0; i < 8; i++) {
		fr_plain(frame, 60 + i, i);
		at += fr_message(fr_at(&b, 3) + at, NULL, 0, frame, 60 + i, i < 7);
	}
	ck_assert_uint_eq(fr_section(&b, 0, 3, at), 1);
	ck_assert_uint_eq(b.port.sent, 8);
	is_last(frame, 67);
	ck_assert_uint_eq(fr_stats(&b).sent_packets, 3); /* with two control messages */
	nb_end(&b);
}
END_TEST

START_TEST(tx__sends_a_frame_in_pages_at_every_offset)
{
	uint32_t offset;

	begin();
	for (offset = 0; offset < 4096; offset += offset < 3900 ? 61 : 1) {
		uint8_t msg[40] = { 107 }, ext[64];
		struct vmbus_msg m = { .id = b.id++,
				       .data = msg,
				       .len = sizeof(msg),
				       .type = VMBUS_PKT_GPA_DIRECT,
				       .flags = VMBUS_PKT_FLAG_COMPLETE,
				       .ext = ext };
		uint32_t len;

		nb_put(msg + 8, 4, UINT32_MAX);
		fr_plain(frame, 700, offset);
		len = fr_message(nb_page(&b, b.data) + offset, NULL, 0, frame, 700, false);
		m.ext_len = nb_range(ext, b.data, offset, len);
		nb_send(&b, 0, &m);
		(void)nb_run(&b, 0);
		ck_assert_uint_eq(b.done_id, m.id);
		ck_assert_uint_eq(nb_32(b.done + 4), 1);
		is_last(frame, 700);
	}
	nb_end(&b);
}
END_TEST

/* The header in a section, and the rest in pages: they are one message. */
START_TEST(tx__joins_a_section_and_pages_at_every_byte)
{
	uint32_t cut, len;
	uint8_t whole[512];

	begin();
	fr_plain(frame, 300, 1);
	len = fr_message(whole, NULL, 0, frame, 300, false);
	for (cut = 1; cut < len; cut++) {
		uint8_t msg[40] = { 107 }, ext[64];
		struct vmbus_msg m = { .id = b.id++,
				       .data = msg,
				       .len = sizeof(msg),
				       .type = VMBUS_PKT_GPA_DIRECT,
				       .flags = VMBUS_PKT_FLAG_COMPLETE,
				       .ext = ext };

		nb_put(msg + 8, 4, 2);
		nb_put(msg + 12, 4, cut);
		memcpy(fr_at(&b, 2), whole, cut);
		memcpy(nb_page(&b, b.data) + 11, whole + cut, len - cut);
		m.ext_len = nb_range(ext, b.data, 11, len - cut);
		memset(b.port.frame, 0, 300);
		nb_send(&b, 0, &m);
		(void)nb_run(&b, 0);
		ck_assert_uint_eq(nb_32(b.done + 4), 1);
		is_last(frame, 300);
	}
	nb_end(&b);
}
END_TEST

START_TEST(tx__waits_for_the_port_and_loses_nothing)
{
	uint32_t i, k, at, sent = 0;
	const uint64_t one = 1;

	begin();
	b.port.take = 5;
	for (k = 0; k < 4; k++) {
		for (i = at = 0; i < 8; i++) {
			fr_plain(frame, 60, 8 * k + i);
			at += fr_message(fr_at(&b, k) + at, NULL, 0, frame, 60, i < 7);
		}
		ck_assert_uint_eq(fr_section(&b, 0, k, at), 0);
	}
	ck_assert_uint_eq(b.port.sent, 5);
	ck_assert_uint_ge(fr_stats(&b).sent_waits, 1);
	for (sent = 5; sent < 32; sent++) {
		b.port.take = 1;
		ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
		(void)nb_run(&b, 0);
		ck_assert_uint_eq(b.port.sent, sent + 1);
		fr_plain(frame, 60, sent);
		is_last(frame, 60);
	}
	ck_assert_uint_eq(fr_stats(&b).sent_frames, 32);
	nb_end(&b);
}
END_TEST

/* Copies of packets that wait are not written over by those of later ones. */
START_TEST(tx__keeps_packets_apart_while_the_port_takes_few)
{
	const uint64_t one = 1;
	uint32_t i, k, at;

	begin();
	b.port.take = 5;
	for (k = 0; k < 4; k++) {
		for (i = at = 0; i < 8; i++) {
			fr_plain(frame, 60, 8 * k + i);
			at += fr_message(fr_at(&b, k) + at, NULL, 0, frame, 60, i < 7);
		}
		ck_assert_uint_eq(fr_section(&b, 0, k, at), 0);
	}
	b.port.take = 4; /* of two packets */
	ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(b.port.sent, 9);
	fr_plain(frame, 60, 8);
	is_last(frame, 60);
	nb_end(&b);
}
END_TEST

/* Frames that are dropped between those that wait count once, however often the burst is made again, and
   so do the messages of a packet. */
START_TEST(tx__counts_a_dropped_frame_once)
{
	const uint64_t one = 1;
	uint32_t i, at = 0, try;

	begin();
	b.port.take = 0;
	for (i = 0; i < 24; i++) { /* every other one is too short */
		fr_plain(frame, 60, i);
		at += fr_message(fr_at(&b, 0) + at, NULL, 0, frame, i % 2u ? 60 : 13, i < 23);
	}
	ck_assert_uint_eq(fr_section(&b, 0, 0, at), 0);
	for (try = 0; try < 70; try++) {
		b.port.take = 0;
		ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
		(void)nb_run(&b, 0);
	}
	ck_assert_uint_eq(b.port.sent, 0);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 12);
	b.port.take = 64;
	ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(b.port.sent, 12);
	ck_assert_uint_eq(fr_stats(&b).sent_frames, 12);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 12);
	nb_end(&b);
}
END_TEST

/* Frames that are dropped need room for copies, too: more than there is in one burst. */
START_TEST(tx__answers_all_packets_whose_frames_are_dropped)
{
	uint8_t msg[40] = { 107 };
	struct vmbus_msg m = { .data = msg,
			       .len = sizeof(msg),
			       .type = VMBUS_PKT_INBAND,
			       .flags = VMBUS_PKT_FLAG_COMPLETE };
	uint32_t i, at, before;

	nb_prepare(&b);
	b.opts.packets_max = 16;
	nb_start(&b);
	vmbus_net_link(b.net, false);
	(void)nb_run(&b, 0);
	before = b.completions;
	fr_plain(frame, 60, 1);
	for (i = at = 0; i < 40; i++)
		at += fr_message(fr_at(&b, 0) + at, NULL, 0, frame, 60, i < 39);
	nb_put(msg + 12, 4, at);
	for (i = 0; i < 60; i++) {
		m.id = b.id++;
		nb_send(&b, 0, &m);
	}
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(b.completions - before, 60);
	ck_assert_uint_eq(fr_stats(&b).stopped, 60 * 40);
	nb_end(&b);
}
END_TEST

START_TEST(tx__stops_the_guest_at_the_limit_and_goes_on)
{
	const uint64_t one = 1;
	uint32_t n = 0, len, rounds;
	uint8_t msg[40] = { 107 };
	struct vmbus_msg m = { .data = msg,
			       .len = sizeof(msg),
			       .type = VMBUS_PKT_INBAND,
			       .flags = VMBUS_PKT_FLAG_COMPLETE };

	nb_prepare(&b);
	b.opts.packets_max = 16;
	nb_start(&b);
	fr_plain(frame, 60, 1);
	len = fr_message(fr_at(&b, 0), NULL, 0, frame, 60, false);
	nb_put(msg + 12, 4, len);
	b.port.take = 0;
	for (;;) {
		m.id = b.id++;
		if (vmbus_ring_tx_put(&b.c[0].tx, &m, 1) != 1)
			break;
		n++;
		fake_run(&b.f);
		ck_assert_uint_lt(n, 5000);
	}
	ck_assert_uint_gt(n, 100); /* the ring is full, and the NIC does not read it */
	ck_assert_uint_eq(b.port.sent, 0);
	b.port.take = UINT32_MAX;
	for (rounds = 0; b.port.sent < n && rounds < 1000; rounds++) {
		ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
		(void)nb_run(&b, 0);
	}
	ck_assert_uint_eq(b.port.sent, n);
	nb_end(&b);
}
END_TEST

START_TEST(tx__drops_and_counts_when_there_is_no_link)
{
	begin();
	vmbus_net_link(b.net, false);
	(void)nb_run(&b, 0);
	fr_plain(frame, 60, 1);
	ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, 60), 1);
	ck_assert_uint_eq(b.port.sent, 0);
	ck_assert_uint_eq(fr_stats(&b).stopped, 1);
	nb_end(&b);
}
END_TEST

/* What comes while the guest stops is no mistake of its; what comes before it began is. */
START_TEST(tx__counts_what_comes_after_the_end_as_stopped)
{
	uint8_t msg[40] = { 0 };
	uint32_t i;

	nb_prepare(&b);
	b.opts.subchannels = 1;
	nb_begin(&b);
	nb_open(&b);
	fr_plain(frame, 60, 1);
	ck_assert_uint_eq(fr_section(&b, 0, 0, 100), 2);
	ck_assert_uint_eq(fr_stats(&b).sent_bad, 1);
	nb_steps(&b, 0, NB_STEPS);
	nb_subs(&b, 1);
	nb_put(msg, 4, 106);
	nb_tell(&b, msg, sizeof(msg));
	for (i = 0; i < 2; i++) {
		ck_assert_uint_eq(fr_section(&b, i, 0, 100), 2);
		ck_assert_uint_eq(fr_stats(&b).sent_bad, 1);
		ck_assert_uint_eq(fr_stats(&b).stopped, i + 1);
	}
	ck_assert_uint_eq(b.port.sent, 0);
	nb_end(&b);
}
END_TEST

static uint32_t lines;
static char last_line[200];

static void keep_line(void *ctx, const char *line)
{
	(void)ctx;
	(void)snprintf(last_line, sizeof(last_line), "%s", line);
	lines++;
}

static int open_without(struct vmbus_port_queue *queue)
{
	b.port.queue[queue->number] = queue;
	b.port.opens++;
	return 0;
}

static void close_without(struct vmbus_port_queue *queue)
{
	b.port.queue[queue->number] = NULL;
	b.port.closes++;
}

/* It ought to take everything; its guest does not hang for it. */
START_TEST(tx__asks_a_port_again_that_has_no_descriptor)
{
	struct vmbus_port_ops ops = nb_port_ops;
	const uint64_t end = fake_now_ns() + 5000000000u;
	uint32_t i;

	nb_prepare(&b);
	ops.open = open_without;
	ops.close = close_without;
	ops.receive = NULL;
	b.opts.port.ops = &ops;
	b.opts.log = keep_line;
	nb_start(&b);
	fr_plain(frame, 60, 1);
	for (i = 0; i < 3; i++) {
		b.port.take = 0;
		ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, 60), 0);
		b.port.take = 1;
		while (b.port.sent == i && fake_now_ns() < end) {
			struct pollfd p = { .fd = vmbus_bus_fd(b.f.bus), .events = POLLIN };

			(void)poll(&p, 1, 100);
			(void)nb_run(&b, 0);
		}
		ck_assert_uint_eq(b.port.sent, i + 1);
		ck_assert_uint_eq(nb_32(b.done + 4), 1);
	}
	ck_assert_uint_eq(lines, 1);
	ck_assert_msg(strstr(last_line, "no descriptor"), "%s", last_line);
	nb_end(&b);
}
END_TEST

/* A port that has read what told of its room when it is asked for frames. */
static bool tells;

static uint32_t told_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			     uint32_t n)
{
	if (tells)
		b.port.take = UINT32_MAX;
	return nb_port_receive(queue, room, n);
}

START_TEST(tx__sends_what_waits_after_the_port_was_asked)
{
	struct vmbus_port_ops ops = nb_port_ops;
	const uint64_t one = 1;

	ops.receive = told_receive;
	tells = false;
	nb_prepare(&b);
	b.opts.port.ops = &ops;
	nb_start(&b);
	fr_plain(frame, 60, 1);
	b.port.take = 0;
	b.keep = true;
	if (_i) { /* when sections come back */
		memcpy(b.port.given, frame, 60);
		memcpy(b.port.given, fr_guest, 6);
		nb_give(&b, 0, b.rx_count - 16, 60);
		(void)nb_run(&b, 0);
		nb_give(&b, 0, 1, 60);
		(void)nb_run(&b, 0);
		ck_assert_uint_eq(b.port.give, 1);
	}
	ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, 60), 0);
	ck_assert_uint_eq(b.port.sent, 0);
	tells = true;
	if (_i)
		nb_return(&b, 0, b.message[(b.messages - 1) % NB_MESSAGES].id);
	else
		ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(b.port.sent, 1);
	ck_assert_uint_eq(b.port.give, 0);
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "tx", 20);

	tcase_add_test(tc, tx__sends_a_frame_of_any_size_from_a_section);
	tcase_add_test(tc, tx__sends_all_frames_of_a_message_in_order);
	tcase_add_test(tc, tx__sends_a_frame_in_pages_at_every_offset);
	tcase_add_test(tc, tx__joins_a_section_and_pages_at_every_byte);
	tcase_add_test(tc, tx__waits_for_the_port_and_loses_nothing);
	tcase_add_test(tc, tx__keeps_packets_apart_while_the_port_takes_few);
	tcase_add_test(tc, tx__counts_a_dropped_frame_once);
	tcase_add_test(tc, tx__answers_all_packets_whose_frames_are_dropped);
	tcase_add_test(tc, tx__stops_the_guest_at_the_limit_and_goes_on);
	tcase_add_test(tc, tx__drops_and_counts_when_there_is_no_link);
	tcase_add_test(tc, tx__counts_what_comes_after_the_end_as_stopped);
	tcase_add_test(tc, tx__asks_a_port_again_that_has_no_descriptor);
	tcase_add_loop_test(tc, tx__sends_what_waits_after_the_port_was_asked, 0, 2);
}
VMBUS_TEST_MAIN("net.tx", tests)
