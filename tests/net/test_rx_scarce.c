/* SPDX-License-Identifier: MIT */
/*
 * Frames for a guest while there is no memory: lost and counted, or not steered, and never a channel that
 * stands still or spins.
 */
#include "frames.h"

#include "scarce.h"

static struct netbox b;
static struct vmbus_frame given;
static uint32_t left;

static void give_ready(struct vmbus_port_queue *queue)
{
	uint64_t count;

	(void)!read(queue->fd, &count, sizeof(count));
	if (left)
		left -= vmbus_port_deliver(queue, &given, 1);
}

static void ring(void)
{
	const uint64_t one = 1;

	must_eq(write(b.port.queue[0]->fd, &one, 8), 8);
	(void)nb_run(&b, 0);
}

/* Its sum is made in memory that is not there yet. */
START_TEST(rx_scarce__loses_a_frame_that_cannot_be_summed)
{
	struct vmbus_port_ops ops = nb_port_ops;
	struct vmbus_iov piece;
	uint8_t f[200];
	uint32_t i;

	SCARCE_OR_SKIP();
	ops.receive = NULL;
	ops.ready = give_ready;
	nb_prepare(&b);
	b.opts.port.ops = &ops;
	nb_start(&b);
	piece = (struct vmbus_iov){ f, fr_ipv4(f, 6, 100) };
	memcpy(f, fr_guest, 6);
	given = (struct vmbus_frame){ .piece = &piece,
				      .pieces = 1,
				      .bytes = (uint32_t)piece.len,
				      .flags = VMBUS_FRAME_CSUM,
				      .csum_start = 34,
				      .csum_offset = 16 };
	for (i = 0; i < 3; i++) {
		left = 1;
		fail_in = i < 2 ? 0 : -1;
		ring();
		end_of_step();
		ck_assert_uint_eq(left, 0);
		ck_assert_uint_eq(fr_stats(&b).no_room, i < 2 ? i + 1 : 2);
	}
	ck_assert_uint_eq(failures, 2);
	ck_assert_uint_eq(fr_stats(&b).received_frames, 1);
	ck_assert_uint_eq(fr_stats(&b).summed, 1);
	nb_end(&b);
}
END_TEST

static void scale(void)
{
	uint8_t info[40 + 128 * 4 + 40] = { 0x89, 2, 40, 0 };
	uint32_t i;

	nb_put(info + 8, 4, 0x1701);
	nb_put(info + 12, 2, 128 * 4);
	nb_put(info + 16, 4, 40);
	nb_put(info + 20, 2, 40);
	nb_put(info + 24, 4, 40 + 128 * 4);
	for (i = 0; i < 128; i++)
		nb_put(info + 40 + 4 * i, 4, 1);
	memset(info + 40 + 128 * 4, 0x5A, 40);
	must_eq(nb_set(&b, 0x00010204, info, sizeof(info)), 0);
}

/* Between two calls of the port's one allocation fails. */
static bool scarce;

static uint32_t scarce_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			       uint32_t n)
{
	const uint32_t got = nb_port_receive(queue, room, n);

	fail_in = scarce ? 0 : -1;
	return got;
}

/* All flows are channel 1's; without memory they are the primary's, until there is some. */
START_TEST(rx_scarce__steers_when_there_is_memory)
{
	struct vmbus_port_ops ops = nb_port_ops;
	uint32_t k, before;

	SCARCE_OR_SKIP();
	ops.receive = scarce_receive;
	nb_prepare(&b);
	b.opts.port.ops = &ops;
	b.opts.subchannels = 1;
	nb_start(&b);
	nb_subs(&b, 1);
	(void)nb_run(&b, 0);
	scarce = true;
	fail_in = 0;
	scale();
	for (k = 0; k < 2; k++) {
		const uint32_t len = fr_ipv4(b.port.given, 6, 20);

		memcpy(b.port.given, fr_guest, 6);
		nb_give(&b, 0, 5, len);
		before = b.messages;
		failures = 0;
		scarce = k == 0;
		fake_run(&b.f);
		ck_assert(k || failures);
		ck_assert_uint_eq(b.port.give, 0);
		(void)nb_run(&b, k);
		ck_assert_uint_eq(b.messages, before + 5);
	}
	end_of_step();
	ck_assert_uint_eq(fr_stats(&b).received_frames, 10);
	ck_assert_uint_eq(fr_stats(&b).no_room, 0);
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "rx_scarce", 20);

	tcase_add_test(tc, rx_scarce__loses_a_frame_that_cannot_be_summed);
	tcase_add_test(tc, rx_scarce__steers_when_there_is_memory);
}
VMBUS_TEST_MAIN("net.rx_scarce", tests)
