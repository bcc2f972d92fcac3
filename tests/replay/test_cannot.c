/* SPDX-License-Identifier: MIT */
/* Captures that say what cannot be, and devices that do not keep to anything: the replay says so, and ends. */
#include "crafted.h"

#include <vmbus/watch.h>

#define RING 65536u
#define CHILD VMBUS_CAPTURE_FROM_CHILD
#define PARENT VMBUS_CAPTURE_TO_CHILD

START_TEST(replay__of_an_opening_in_an_opening)
{
	struct crafted c;

	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, RING, RING);
	crafted_open(&c, RING, RING);
	must_eq(crafted_replay(&c, &fake_echo_vsp), 0);
	must_eq(c.result.opens, 1);
	must(!c.result.complete);
	crafted_end(&c, "record 3: the replay ends here: an opening that cannot be");
}
END_TEST

START_TEST(replay__of_rings_that_cannot_be)
{
	static const uint32_t sizes[][2] = {
		{ 0, RING },
		{ RING, 0 },
		{ RING + 1, RING },
		{ RING, RING - 4095 },
		{ 0x8000000, RING },
		{ RING, 0x8000000 },
		{ 0xfffff000, RING },
		{ 4095u * 4096u, 4094u * 4096u },
		{ 32767u * 4096u, RING },
		{ RING, 0xfffff000 },
	};
	struct crafted c;

	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, sizes[_i][0], sizes[_i][1]);
	must_eq(crafted_replay(&c, &fake_echo_vsp), 0);
	must_eq(c.result.opens, 0);
	must(!c.result.complete);
	crafted_end(&c, "the replay ends here: rings of these sizes cannot be");
}
END_TEST

/* The largest that one page list describes: 8,190 pages, two of them for control. */
START_TEST(replay__of_the_largest_rings)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct crafted c;

	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, 4094u * 4096u, 4094u * 4096u);
	crafted_packet(&c, CHILD, 1, 7, 8);
	crafted_packet(&c, PARENT, 1, 7, 8);
	crafted_close(&c, 0);
	must_eq(crafted_replay(&c, &vsp), 0); /* 4 MiB are what a device takes that says nothing */
	must(!c.result.complete);
	must(strstr(c.text, "the device refuses the opening, captured: accepted") != NULL);
	vsp.ring_bytes_max = 4094u * 4096u;
	must_eq(crafted_replay(&c, &vsp), 0);
	must_eq(c.result.opens, 1);
	must_eq(c.result.sent, 1);
	must_eq(c.result.differences, 0);
	must(c.result.complete);
	crafted_end(&c, "");
}
END_TEST

START_TEST(replay__of_a_closing_without_an_opening)
{
	struct crafted c;

	crafted_begin(&c, &fake_echo_vsp);
	crafted_close(&c, 0);
	must_eq(crafted_replay(&c, &fake_echo_vsp), 0);
	must(!c.result.complete);
	crafted_end(&c, "record 2: the replay ends here: a closing that cannot be");
}
END_TEST

START_TEST(replay__of_bodies_that_are_cut)
{
	struct crafted c;
	const uint8_t few[4] = { 0 };

	crafted_begin(&c, &fake_echo_vsp);
	crafted_put(&c, VMBUS_CAPTURE_OPEN, few, sizeof(few));
	must_eq(crafted_replay(&c, &fake_echo_vsp), 0);
	crafted_end(&c, "an opening that cannot be");
	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, RING, RING);
	crafted_put(&c, VMBUS_CAPTURE_CLOSE, few, sizeof(few));
	must_eq(crafted_replay(&c, &fake_echo_vsp), 0);
	crafted_end(&c, "a closing that cannot be");
}
END_TEST

START_TEST(replay__of_packets_of_a_closed_channel)
{
	struct crafted c;

	crafted_begin(&c, &fake_echo_vsp);
	crafted_packet(&c, CHILD, 1, 1, 8);
	must_eq(crafted_replay(&c, &fake_echo_vsp), 0);
	must_eq(c.result.fed, 0);
	crafted_end(&c, "a packet of a channel that is not open");
}
END_TEST

START_TEST(replay__of_a_channel_that_was_broken)
{
	struct crafted c;

	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, RING, RING);
	crafted_packet(&c, CHILD, 1, 1, 8);
	crafted_close(&c, VMBUS_E_PEER);
	crafted_open(&c, RING, RING);
	must_eq(crafted_replay(&c, &fake_echo_vsp), 0);
	must_eq(c.result.opens, 1);
	must(c.result.complete);
	crafted_end(&c, "the channel is not broken, the captured one was: why it was");
}
END_TEST

/* The capture ends with an answer that nobody has read. */
START_TEST(replay__of_a_capture_that_ends_early)
{
	struct crafted c;

	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, RING, RING);
	crafted_packet(&c, CHILD, 1, 1, 8);
	crafted_packet(&c, CHILD, 2, 2, 8);
	crafted_packet(&c, PARENT, 2, 1, 8);
	must_eq(crafted_replay(&c, &fake_echo_vsp), 0);
	must_eq(c.result.differences, 0);
	must(c.result.complete);
	crafted_end(&c, "the capture ends before the channel: the last 1 packets are not compared");
}
END_TEST

/* One batch of n packets of so many bytes, and their answers: all is fed, and nothing differs. */
static void replay_batch(struct crafted *c, uint32_t ring, uint32_t n, uint32_t bytes)
{
	uint32_t i;

	crafted_begin(c, &fake_echo_vsp);
	crafted_open(c, ring, RING);
	for (i = 1; i <= n; i++)
		crafted_packet(c, CHILD, 1, i, bytes);
	for (i = 1; i <= n; i++)
		crafted_packet(c, PARENT, 1, i, bytes);
	crafted_close(c, 0);
	must_eq(crafted_replay(c, &fake_echo_vsp), 0);
	must_eq(c->result.fed, n);
	must_eq(c->result.differences, 0);
	must(c->result.complete);
}

/* 200 packets in one batch of the file: no bus delivers more than 64 at once, and all are fed. */
START_TEST(replay__of_a_batch_that_is_too_large)
{
	struct crafted c;

	replay_batch(&c, RING, 200, 8);
	must_eq(c.result.batches, 4);
	crafted_end(&c, "");
}
END_TEST

/* Captured: a ring of 64 KiB took them one by one.  The device of now reads none. */
static void pauses(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)pkt;
	(void)n;
	vmbus_chan_pause(chan, true);
}

START_TEST(replay__to_a_device_that_does_not_read)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct crafted c;
	uint32_t i;

	vsp.packets = pauses;
	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, 8192, RING);
	for (i = 1; i <= 8; i++)
		crafted_packet(&c, CHILD, i, i, 3000);
	must_eq(crafted_replay(&c, &vsp), 0);
	must(!c.result.complete);
	must(c.result.fed < 8);
	must_eq(c.result.differences, 1);
	crafted_end(&c, "the ring from the child is full");
	must(strstr(c.text, "the device does not read: no room for 1 packets") != NULL);
}
END_TEST

/* A batch of more bytes than the ring has: the device makes room for the rest of it. */
START_TEST(replay__of_a_batch_that_no_ring_took)
{
	struct crafted c;

	replay_batch(&c, 8192, 8, 3000);
	must_eq(c.result.sent, 8);
	must_eq(c.result.batches, 1);
	crafted_end(&c, "");
}
END_TEST

/* A packet that is larger than the ring of the capture.  Test i: what follows it. */
START_TEST(replay__of_a_packet_that_no_ring_took)
{
	struct crafted c;

	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, 4096, RING);
	crafted_packet(&c, CHILD, 1, 1, 8000);
	if (_i == 1)
		crafted_packet(&c, CHILD, 2, 2, 8);
	if (_i == 2)
		crafted_packet(&c, PARENT, 1, 1, 8000);
	if (_i == 3)
		crafted_close(&c, 0);
	must_eq(crafted_replay(&c, &fake_echo_vsp), 0);
	must_eq(c.result.sent, 0);
	must_eq(c.result.differences, 0);
	must(!c.result.complete);
	crafted_end(&c, "a packet from the child that the ring of this opening does not take");
}
END_TEST

/* What is answered before the first delivery was asked for before the capture, and only that. */
START_TEST(replay__of_a_channel_that_was_open_already)
{
	const struct vmbus_capture_open body = { .from_bytes = RING,
						 .to_bytes = RING,
						 .flags = VMBUS_CAPTURE_OPEN_ALREADY };
	struct crafted c;

	crafted_begin(&c, &fake_echo_vsp);
	crafted_put(&c, VMBUS_CAPTURE_OPEN, &body, sizeof(body));
	crafted_packet(&c, PARENT, 0, 98, 8);
	crafted_packet(&c, CHILD, 1, 1, 8);
	crafted_packet(&c, PARENT, 1, 1, 8);
	if (_i)
		crafted_packet(&c, PARENT, 1, 99, 8);
	crafted_close(&c, 0);
	must_eq(crafted_replay(&c, &fake_echo_vsp), 0);
	must_eq(c.result.expected, 2 + (uint64_t)_i);
	must_eq(c.result.differences, (uint64_t)_i);
	must(c.result.complete);
	must(!strstr(c.text, "id 98"));
	must(!_i == !strstr(c.text, "id 99, 8 bytes: was captured, is not sent"));
	crafted_end(&c, "the channel was open before the capture: what came before is not known");
}
END_TEST

/* One request, and messages without an end. */
static struct vmbus_chan *talker;

static void talk(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)pkt;
	(void)n;
	talker = chan;
}

static void talk_on(void *ctx, struct vmbus_bus *bus)
{
	const struct vmbus_msg msg = { .data = "on and on", .len = 9, .type = VMBUS_PKT_INBAND };
	uint32_t i;

	(void)ctx;
	(void)bus;
	for (i = 0; talker && i < 1000; i++)
		must_eq(vmbus_chan_send(talker, &msg, 1), 1);
}

START_TEST(replay__to_a_device_that_does_not_cease)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct crafted c;
	uint32_t i;

	talker = NULL;
	vsp.packets = talk;
	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, RING, RING);
	for (i = 1; i <= 100; i++)
		crafted_packet(&c, CHILD, i, i, 8);
	must_eq(crafted_replay_with(&c, &vsp, talk_on), 0);
	must(!c.result.complete);
	must(c.result.fed < 100);
	must_eq(c.result.sent, 65536);
	crafted_end(&c, "the device sends what was not captured, and does not cease");
}
END_TEST

/* It breaks between its last answer and the captured closing. */
static void break_it(void *ctx, struct vmbus_bus *bus)
{
	(void)ctx;
	(void)bus;
	if (talker)
		vmbus_chan_fail(talker, "wanted");
	talker = NULL;
}

START_TEST(replay__to_a_device_that_breaks_at_the_end)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct crafted c;

	talker = NULL;
	vsp.packets = talk;
	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, RING, RING);
	crafted_packet(&c, CHILD, 1, 1, 8);
	crafted_close(&c, 0);
	must_eq(crafted_replay_with(&c, &vsp, break_it), 0);
	must(!c.result.complete);
	must_eq(c.result.differences, 1);
	crafted_end(&c, "the channel is broken, the captured one was not");
}
END_TEST

/*
 * A capture whose request names the control pages of the rings themselves, and a device that writes
 * there later: an index that cannot be.
 */
#define RINGS_PFN (((uint64_t)1 << 46) / VMBUS_PAGE_BYTES)
#define OUT_OF_CHILDS 4u	       /* what the bus has read of the child's ring */
#define IN_OF_PARENTS VMBUS_PAGE_BYTES /* what it has written to the other one */

static struct {
	struct vmbus_sgl pages;
	struct vmbus_piece piece[2];
	uint64_t at;
	uint32_t packets;
	bool reads;
} scribbler;

static void keep_pages(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	scribbler.packets += n;
	if (pkt->type != VMBUS_PKT_GPA_DIRECT)
		return;
	scribbler.pages = (struct vmbus_sgl){ .pieces = scribbler.piece, .room = 2 };
	must_eq(vmbus_chan_sgl(chan, pkt, VMBUS_WRITE, &scribbler.pages), 0);
	vmbus_chan_pause(chan, !scribbler.reads);
}

static void scribble(void *ctx, struct vmbus_bus *bus)
{
	const uint32_t index = 12;

	(void)ctx;
	(void)bus;
	if (!scribbler.pages.bytes)
		return;
	must_eq(vmbus_sgl_write(&scribbler.pages, scribbler.at, &index, 4), 4);
	vmbus_sgl_release(&scribbler.pages);
	scribbler.pages.bytes = 0;
}

/* Rings of 8192 bytes from the child: their control pages are 3 pages apart. */
static void crafted_direct(struct crafted *c)
{
	const struct vmbus_wire_ext head = { .range_count = 1 };
	const uint64_t pfns[2] = { RINGS_PFN, RINGS_PFN + 3 };
	uint8_t ext[40] = { 0 };
	struct vmbus_capture_record r = { .kind = VMBUS_CAPTURE_PACKET,
					  .dir = CHILD,
					  .batch = 1,
					  .id = 1,
					  .type = VMBUS_PKT_GPA_DIRECT,
					  .flags = VMBUS_PKT_FLAG_COMPLETE,
					  .data = ext };

	r.ext_len = (uint32_t)vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &head, ext, sizeof(ext));
	r.ext_len += (uint32_t)vmbus_wire_range_put(2 * VMBUS_PAGE_BYTES, 0, pfns, ext + r.ext_len,
						    sizeof(ext) - r.ext_len);
	r.data_len = r.ext_len;
	must_eq(vmbus_capture_writer_put(c->writer, 0, &r), 0);
}

/* Test i: while a batch waits for room, from a device that reads, or does not; at the close. */
START_TEST(replay__of_a_request_that_names_the_rings)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct crafted c;
	uint32_t i;

	vsp.packets = keep_pages;
	memset(&scribbler, 0, sizeof(scribbler));
	scribbler.at = _i == 1 ? OUT_OF_CHILDS : IN_OF_PARENTS;
	scribbler.reads = _i != 1;
	crafted_begin(&c, &fake_echo_vsp);
	crafted_open(&c, 8192, RING);
	crafted_direct(&c);
	for (i = 2; i < 10 && _i < 2; i++)
		crafted_packet(&c, CHILD, 2, i, 3000);
	crafted_close(&c, 0);
	must_eq(crafted_replay_with(&c, &vsp, scribble), VMBUS_E_PEER);
	must_eq(scribbler.packets, _i == 0 ? 3 : 1); /* nothing goes into a ring after that */
	must_eq(scribbler.pages.bytes, 0);
	must_eq(c.result.sent, 0);
	must_eq(c.result.differences, 0);
	must(!c.result.complete);
	free(c.file.bytes);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "cannot", 60);

	tcase_add_test(tc, replay__of_an_opening_in_an_opening);
	tcase_add_loop_test(tc, replay__of_rings_that_cannot_be, 0, 10);
	tcase_add_test(tc, replay__of_the_largest_rings);
	tcase_add_test(tc, replay__of_a_closing_without_an_opening);
	tcase_add_test(tc, replay__of_bodies_that_are_cut);
	tcase_add_test(tc, replay__of_packets_of_a_closed_channel);
	tcase_add_test(tc, replay__of_a_channel_that_was_broken);
	tcase_add_test(tc, replay__of_a_capture_that_ends_early);
	tcase_add_test(tc, replay__of_a_batch_that_is_too_large);
	tcase_add_test(tc, replay__to_a_device_that_does_not_read);
	tcase_add_test(tc, replay__of_a_batch_that_no_ring_took);
	tcase_add_loop_test(tc, replay__of_a_packet_that_no_ring_took, 0, 4);
	tcase_add_loop_test(tc, replay__of_a_channel_that_was_open_already, 0, 2);
	tcase_add_test(tc, replay__to_a_device_that_does_not_cease);
	tcase_add_test(tc, replay__to_a_device_that_breaks_at_the_end);
	tcase_add_loop_test(tc, replay__of_a_request_that_names_the_rings, 0, 3);
}

VMBUS_TEST_MAIN("replay.cannot", tests)
