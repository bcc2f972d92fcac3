/* SPDX-License-Identifier: MIT */
/*
 * A device that takes no packets for a while, on channels of the bus and on those with own_fd: what the
 * child sends meanwhile waits in its ring, and nobody is kept awake.
 */
#include "watchbox.h"

#include <vmbus/poll.h>

/* Each callback takes what it is given, and no more until the descriptor says so. */
static void take_and_pause(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	dev_packets(chan, pkt, n);
	vmbus_chan_pause(chan, true);
	vmbus_chan_pause(chan, true);
}

static void go_on(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);
	const uint32_t packets = d->packets;

	dev_ready(chan);
	if (d->left)
		return;
	vmbus_chan_pause(chan, false);
	must_eq(d->packets, packets);
}

static const struct vmbus_vsp pauses = {
	.struct_bytes = sizeof(struct vmbus_vsp),
	.name = "pauser",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 10),
	.open = dev_open,
	.packets = take_and_pause,
	.ready = go_on,
	.writable = dev_writable,
	.close = dev_close,
};

static void send(struct box *b, uint64_t first, uint32_t n)
{
	uint64_t id;

	for (id = first; id < first + n; id++)
		must_eq(fake_send(&b->c, id, &id, 8), 1);
}

START_TEST(chan_pause__packets_wait_and_nobody_is_awake)
{
	struct box b = { 0 };

	box_open(&b, &pauses, _i);
	send(&b, 1, 1);
	run(&b);
	must_eq(b.d.packets, 1);
	send(&b, 2, 5);
	run(&b); /* ends, so nothing is readable */
	must_eq(b.d.packets, 1);
	ring(&b);
	run(&b);
	must_eq(b.d.readies, 1);
	must_eq(b.d.packets, 6);
	must_eq(drain(&b), 1); /* ready() answered the first */
	send(&b, 7, 1);
	run(&b);
	must_eq(b.d.packets, 6);
	ring(&b);
	run(&b);
	must_eq(b.d.packets, 7);
	must_eq(drain(&b), 5);
	box_fini(&b);
}
END_TEST

/* Undone outside of a callback, with no other reason to look at the channel. */
START_TEST(chan_pause__is_undone_anywhere)
{
	struct box b = { 0 };

	box_open(&b, &pauses, _i);
	send(&b, 1, 1);
	run(&b);
	send(&b, 2, 1);
	run(&b);
	must_eq(b.d.packets, 1);
	vmbus_chan_pause(b.chan, false);
	must(readable(&b));
	run(&b);
	must_eq(b.d.packets, 2);
	box_fini(&b);
}
END_TEST

/* Loops that spin do not see packets either, and see them when it is undone. */
START_TEST(chan_pause__holds_for_poll)
{
	struct box b = { 0 };
	uint32_t n;

	box_open(&b, &pauses, false);
	send(&b, 1, 1);
	run(&b);
	send(&b, 2, 3);
	for (n = 0; n < 5000; n++)
		must(vmbus_bus_poll(b.f.bus, 64) >= 0);
	must_eq(b.d.packets, 1);
	vmbus_chan_pause(b.chan, false);
	for (n = 0; n < 5000 && b.d.packets < 4; n++)
		must(vmbus_bus_poll(b.f.bus, 64) >= 0);
	must_eq(b.d.packets, 4);
	box_fini(&b);
}
END_TEST

/* writable() comes, and the answers go out, while packets wait. */
START_TEST(chan_pause__room_is_told_all_the_same)
{
	struct box b = { 0 };
	struct vmbus_chan_info info;
	uint32_t rounds, packets;
	eventfd_t rung;

	box_init(&b, &pauses, _i);
	opened(&b, 17, 2);
	for (rounds = 0; rounds < 20; rounds++) {
		send(&b, 1 + rounds * 32u, 32);
		run(&b);
		ring(&b);
		run(&b);
	}
	vmbus_chan_info(b.chan, &info);
	must(info.send.full > 0);
	must(b.d.head != b.d.tail);
	must_eq(b.d.writables, 0);
	(void)eventfd_read(b.d.fd, &rung); /* else ready() undoes it */
	vmbus_chan_pause(b.chan, true);
	packets = b.d.packets;
	must(drain(&b) > 0);
	must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK);
	run(&b);
	must(b.d.writables > 0);
	must_eq(b.d.packets, packets);
	must(drain(&b) > 0);
	vmbus_chan_pause(b.chan, false);
	run(&b);
	must(b.d.packets > packets);
	box_fini(&b);
}
END_TEST

/* A channel that is closed while it is paused closes, and opens anew without. */
START_TEST(chan_pause__ends_with_the_opening)
{
	struct box b = { 0 };
	struct vmbus_ctl ctl;

	box_open(&b, &pauses, _i);
	send(&b, 1, 1);
	run(&b);
	send(&b, 2, 1);
	fake_post_close(&b.f, &b.c);
	run(&b);
	must_eq(b.d.closes, 1);
	must_eq(b.d.packets, 1);
	b.d.head = b.d.tail;
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	run(&b);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	fake_chan_free(&b.c);
	opened(&b, 17, 17);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	send(&b, 1, 1);
	run(&b);
	must_eq(b.d.packets, 2);
	box_fini(&b);
}
END_TEST

static void tests(Suite *s)
{
	TCase *t = vmbus_test_case(s, "pause", 20);

	tcase_add_loop_test(t, chan_pause__packets_wait_and_nobody_is_awake, 0, 2);
	tcase_add_loop_test(t, chan_pause__is_undone_anywhere, 0, 2);
	tcase_add_test(t, chan_pause__holds_for_poll);
	tcase_add_loop_test(t, chan_pause__room_is_told_all_the_same, 0, 2);
	tcase_add_loop_test(t, chan_pause__ends_with_the_opening, 0, 2);
}

VMBUS_TEST_MAIN("bus.pause", tests)
