/* SPDX-License-Identifier: MIT */
/*
 * Packets of an open channel, and what a device may do with them.
 */
#include "packets.h"

/* What a callback sends goes out with one publication and one signal. */
START_TEST(chan_complete__one_signal_for_a_batch)
{
	struct box b;
	struct vmbus_chan_info info;
	uint64_t id;

	box_init(&b);
	b.d.mode = ECHO_KEEP;
	box_open(&b, 17, 17);
	for (id = 1; id <= 32; id++)
		must_eq(fake_send(&b.c, id, &id, 8), 1);
	must_eq(b.c.signals, 1);
	fake_run(&b.f);
	must_eq(b.d.calls, 1);
	must_eq(b.d.most, 32);
	vmbus_chan_info(b.chan, &info);
	must_eq(info.send.packets, 32);
	must_eq(info.send.batches, 1);
	must_eq(atomic_load(&b.f.raised), 1);
	must_eq(drain(&b, 1), 32);
	box_fini(&b);
}
END_TEST

START_TEST(chan_flush__publishes_now)
{
	struct box b;
	struct vmbus_chan_info info;
	uint64_t id;

	box_init(&b);
	b.d.mode = FLUSH;
	box_open(&b, 17, 17);
	for (id = 1; id <= 10; id++)
		must_eq(fake_send(&b.c, id, &id, 8), 1);
	fake_run(&b.f);
	vmbus_chan_info(b.chan, &info);
	must_eq(info.send.batches, 10);
	must_eq(drain(&b, 1), 10);
	must_eq(vmbus_chan_flush(b.chan), 0); /* nothing to do */
	box_fini(&b);
}
END_TEST

/* Messages of every shape, alone and many, from a callback and from outside of one. */
START_TEST(chan_send__every_shape)
{
	struct box b;
	static uint8_t data[5000], more[700];
	const struct vmbus_iov iov[3] = { { more, 3 }, { NULL, 0 }, { more + 3, 600 } };
	struct vmbus_msg msg[20];
	struct vmbus_packet pkt[32];
	uint8_t whole[5603];
	uint32_t i, round, outside;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 13);
	for (i = 0; i < sizeof(more); i++)
		more[i] = (uint8_t)(i * 7 + 1);
	box_init(&b);
	b.d.mode = SEND;
	b.d.msg = msg;
	box_open(&b, 9, 9);
	for (round = 0; round < 400; round++) {
		const uint32_t n = 1 + round % 12; /* on both sides of what goes out directly */
		uint64_t id = round + 1;

		memset(msg, 0, sizeof(msg));
		for (i = 0; i < n; i++) {
			msg[i].type = VMBUS_PKT_INBAND;
			msg[i].id = id + i;
			msg[i].data = data + i;
			msg[i].len = (round * 37 + i * 101) % 1500;
			if (i % 3 == 2) {
				msg[i].more = iov;
				msg[i].more_count = 3;
			}
		}
		b.d.msgs = n;
		outside = round & 1;
		if (outside) {
			must_eq(vmbus_chan_send(b.chan, msg, n), n);
		} else {
			must_eq(fake_send(&b.c, 0, &id, 8), 1);
			fake_run(&b.f);
			must_eq(b.d.sent, n);
		}
		must_eq(fake_receive(&b.c, pkt, 32), n);
		for (i = 0; i < n; i++) {
			uint32_t len = msg[i].len;

			vmbus_test_at("round %u, message %u", round, i);
			memcpy(whole, msg[i].data, len);
			if (msg[i].more_count) {
				memcpy(whole + len, more, 603);
				len += 603;
			}
			must_eq(pkt[i].id, msg[i].id);
			must_eq(pkt[i].len, (len + 7) / 8 * 8);
			must(memcmp(pkt[i].payload, whole, len) == 0);
		}
		(void)fake_receive(&b.c, pkt, 32);
		vmbus_test_at("%s", "");
	}
	box_fini(&b);
}
END_TEST

/* What a send says, in a callback or outside of one. */
static int send_one(struct box *b, const struct vmbus_msg *msg, uint32_t in_callback)
{
	if (!in_callback)
		return vmbus_chan_send(b->chan, msg, 1);
	must_eq(fake_send(&b->c, 0, "", 0), 1);
	fake_run(&b->f);
	return b->d.sent;
}

START_TEST(chan_send__errors)
{
	struct box b;
	static uint8_t large[70000];
	struct vmbus_msg msg[2] = {
		{ .type = VMBUS_PKT_INBAND, .data = large, .len = sizeof(large) }
	};
	uint32_t in_callback;

	box_init(&b);
	must_eq(vmbus_bus_offer(b.f.bus, &b.vsp, &b.d, NULL, &b.chan), 0);
	must_eq(vmbus_chan_send(b.chan, msg, 1), VMBUS_E_STATE);
	must_eq(vmbus_chan_complete(b.chan, 1, NULL, 0), VMBUS_E_STATE);
	must_eq(vmbus_chan_flush(b.chan), VMBUS_E_STATE);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, &b.c, 1), 1);
	must_eq(fake_open(&b.f, &b.c, 9, 9), 0);
	b.d.mode = SEND;
	b.d.msg = msg;
	b.d.msgs = 1;
	for (in_callback = 0; in_callback < 2; in_callback++) {
		must_eq(send_one(&b, msg, in_callback), VMBUS_E_RANGE);
		msg[0].len = 8;
		msg[0].type = 14;
		must_eq(send_one(&b, msg, in_callback), VMBUS_E_INVAL);
		msg[0].type = VMBUS_PKT_INBAND;
		msg[0].flags = 2;
		must_eq(send_one(&b, msg, in_callback), VMBUS_E_INVAL);
		msg[0].flags = 0;
		msg[0].more_count = 1;
		must_eq(send_one(&b, msg, in_callback), VMBUS_E_INVAL);
		msg[0].more_count = 0;
		msg[0].len = sizeof(large);
	}
	must_eq(vmbus_chan_complete(b.chan, 1, large, sizeof(large)), VMBUS_E_RANGE);
	must_eq(b.d.writables, 0);
	must_eq(drain(&b, 0), 0);
	box_fini(&b);
}
END_TEST

static int said[2];

static void complete_without_data(struct vmbus_chan *chan, const struct vmbus_packet *pkt,
				  uint32_t n)
{
	(void)n;
	said[0] = vmbus_chan_complete(chan, pkt->id, NULL, 8);
	said[1] = vmbus_chan_complete(chan, pkt->id, NULL, 0);
}

START_TEST(chan_complete__a_length_without_data)
{
	struct vmbus_packet pkt[4];
	struct box b;

	box_init(&b);
	b.vsp.packets = complete_without_data;
	box_open(&b, 3, 3);
	must_eq(fake_send(&b.c, 7, "request", 7), 1);
	fake_run(&b.f);
	must_eq(said[0], VMBUS_E_INVAL);
	must_eq(said[1], 0);
	must_eq(fake_receive(&b.c, pkt, 4), 1); /* of the two that were tried */
	must_eq(pkt[0].id, 7);
	must_eq(pkt[0].len, 0);
	must_eq(pkt[0].type, VMBUS_PKT_COMPLETION);
	must_eq(b.d.closes, 0);
	box_fini(&b);
}
END_TEST

/* Pieces that no ring holds are refused, also where their sum is past what a number holds; none is read. */
START_TEST(chan_send__pieces_past_a_ring)
{
	const size_t max = VMBUS_PKT_RING_BYTES_MAX, quarter = (size_t)1 << 62;
	const struct vmbus_iov pieces[][4] = {
		{ { "", max + 1u } },
		{ { "", max }, { "", max } },
		{ { "", 1 }, { "", SIZE_MAX } },
		{ { "", quarter }, { "", quarter }, { "", quarter }, { "", quarter } }, /* 2^64 */
	};
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "", .more_count = 4 };
	struct box b;
	uint32_t i;

	box_init(&b);
	b.d.mode = SEND;
	b.d.msg = &msg;
	b.d.msgs = 1;
	box_open(&b, 9, 9);
	for (i = 0; i < 2 * sizeof(pieces) / sizeof(pieces[0]); i++) {
		vmbus_test_at("case %u", i);
		msg.more = pieces[i / 2];
		must_eq(send_one(&b, &msg, i % 2), VMBUS_E_RANGE);
	}
	vmbus_test_at("%s", "");
	must_eq(b.d.writables, 0); /* there is no room to wait for */
	must_eq(drain(&b, 0), 0);
	msg.more_count = 0;
	must_eq(send_one(&b, &msg, 0), 1);
	must_eq(drain(&b, 0), 1);
	must_eq(b.d.closes, 0);
	box_fini(&b);
}
END_TEST

/*
 * A child that floods and does not read: what the device owes stays small, since nothing is
 * delivered while a send waits for room; and when it reads, it gets every answer once, in order.
 */
START_TEST(lesson_14_back_pressure)
{
	struct box b;
	uint64_t id = 1, answered = 0;
	uint32_t round;

	box_init(&b);
	b.d.mode = ECHO_KEEP;
	box_open(&b, 9, 2); /* 32 KiB to the parent, 4 KiB back */
	for (round = 0; round < 3000; round++) {
		while (fake_send(&b.c, id, &id, 8) == 1)
			id++;
		fake_run(&b.f);
		must(b.d.most_owed <= 64);
		if (round % 3 == 0)
			answered += drain(&b, 1 + answered);
	}
	while (answered != id - 1) {
		const uint32_t got = drain(&b, 1 + answered);

		must(got > 0);
		answered += got;
		fake_run(&b.f);
	}
	must(b.d.writables > 100);
	must_eq(b.d.packets, id - 1);
	box_fini(&b);
}
END_TEST

/* A device that wants packets all the same gets them. */
START_TEST(vsp_flags__read_while_full)
{
	struct box b;
	uint64_t id = 1;

	box_init(&b);
	b.vsp.flags = VMBUS_VSP_READ_WHILE_FULL;
	b.d.mode = ECHO_KEEP;
	box_open(&b, 9, 2);
	while (id < 1000 && fake_send(&b.c, id, &id, 8) == 1)
		id++;
	fake_run(&b.f);
	must_eq(b.d.packets, id - 1);
	must(b.d.owed_done < b.d.owed_count);
	must(drain(&b, 1) > 0);
	box_fini(&b);
}
END_TEST

/* FULL outside of a callback is followed by writable(), from dispatch. */
START_TEST(vsp_writable__after_a_full_outside)
{
	struct box b;
	uint64_t sent = 0, got;
	uint8_t data[256] = { 0 };
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data, .len = 256 };

	box_init(&b);
	box_open(&b, 3, 3);
	while (vmbus_chan_send(b.chan, &msg, 1) == 1) {
		sent++;
		msg.id++;
	}
	fake_run(&b.f);
	must_eq(b.d.writables, 0);
	got = drain(&b, 0);
	must_eq(got, sent);
	fake_run(&b.f);
	must_eq(b.d.writables, 1);
	must_eq(vmbus_chan_send(b.chan, &msg, 1), 1);
	box_fini(&b);
}
END_TEST

/* Of many messages those that fit go out, and writable() follows for the rest. */
START_TEST(chan_send__part)
{
	struct box b;
	uint8_t data[1000] = { 0 };
	struct vmbus_msg msg[20];
	uint32_t i;

	for (i = 0; i < 20; i++)
		msg[i] = (struct vmbus_msg){
			.type = VMBUS_PKT_INBAND, .id = i, .data = data, .len = 1000
		};
	box_init(&b);
	box_open(&b, 3, 3);
	must_eq(vmbus_chan_send(b.chan, msg, 20), 7); /* of 1,024 bytes each in 8,192 - 8 */
	must_eq(drain(&b, 0), 7);
	fake_run(&b.f);
	must_eq(b.d.writables, 1);
	b.d.mode = SEND;
	b.d.msg = msg;
	b.d.msgs = 7;
	must_eq(fake_send(&b.c, 0, "", 0), 1);
	fake_run(&b.f);
	must_eq(b.d.sent, 7);
	must_eq(fake_send(&b.c, 0, "", 0), 1);
	fake_run(&b.f);
	must_eq(b.d.sent, VMBUS_E_FULL);
	must_eq(drain(&b, 0), 7);
	fake_run(&b.f);
	must_eq(b.d.writables, 2);
	box_fini(&b);
}
END_TEST

/* The rest that is wrong, and not only late, is no room to wait for. */
START_TEST(chan_send__part_before_a_wrong_one)
{
	struct box b;
	static uint8_t data[20000];
	const struct vmbus_msg msg[2] = {
		{ .type = VMBUS_PKT_INBAND, .data = data, .len = 8 },
		{ .type = VMBUS_PKT_INBAND, .data = data, .len = sizeof(data) }
	};

	box_init(&b);
	box_open(&b, 3, 3);
	must_eq(vmbus_chan_send(b.chan, msg, 2), 1);
	fake_run(&b.f);
	must_eq(vmbus_chan_send(b.chan, msg + 1, 1), VMBUS_E_RANGE);
	fake_run(&b.f);
	must_eq(b.d.writables, 0);
	must_eq(b.d.closes, 0);
	box_fini(&b);
}
END_TEST

/* Bytes without an address: refused before anything reads them, and what comes before is sent. */
START_TEST(chan_send__bytes_without_an_address)
{
	const struct vmbus_iov nowhere[2] = { { "", 1 }, { NULL, 1 } };
	struct vmbus_packet pkt[16];
	struct vmbus_msg msg[10];
	struct box b;
	uint32_t i;

	for (i = 0; i < 10; i++)
		msg[i] = (struct vmbus_msg){ .type = VMBUS_PKT_INBAND, .data = "x", .len = 1 };
	msg[9].data = NULL;
	box_init(&b);
	b.d.mode = SEND;
	b.d.msg = msg;
	b.d.msgs = 10; /* so many go out at once in a callback, too */
	box_open(&b, 3, 3);
	must_eq(vmbus_chan_send(b.chan, msg, 10), 9);
	must_eq(fake_receive(&b.c, pkt, 16), 9);
	must_eq(vmbus_chan_send(b.chan, msg + 9, 1), VMBUS_E_INVAL);
	must_eq(send_one(&b, msg, 1), 9);
	must_eq(fake_receive(&b.c, pkt, 16), 9);
	msg[9] = msg[0];
	msg[0].more = nowhere;
	msg[0].more_count = 2;
	must_eq(vmbus_chan_send(b.chan, msg, 10), VMBUS_E_INVAL);
	must_eq(send_one(&b, msg, 1), VMBUS_E_INVAL);
	b.d.msgs = 1;
	must_eq(send_one(&b, msg, 1), VMBUS_E_INVAL);
	must_eq(vmbus_chan_complete(b.chan, 7, NULL, 1), VMBUS_E_INVAL);
	must_eq(vmbus_chan_complete(b.chan, 7, NULL, 0), 0);
	must_eq(fake_receive(&b.c, pkt, 16), 1);
	must_eq(b.d.closes, 0);
	box_fini(&b);
}
END_TEST

/* Few messages join what the callback sends; many go out at once, in order with those. */
START_TEST(chan_send__joins_the_batch)
{
	struct box b;
	struct vmbus_msg msg[8];
	struct vmbus_chan_info info;
	uint32_t i;

	for (i = 0; i < 8; i++)
		msg[i] = (struct vmbus_msg){ .type = VMBUS_PKT_INBAND, .data = "x", .len = 1 };
	box_init(&b);
	b.d.mode = SEND;
	b.d.msg = msg;
	box_open(&b, 5, 5);
	for (b.d.msgs = 1; b.d.msgs <= 8; b.d.msgs++) {
		struct vmbus_ring_stats before;

		vmbus_chan_info(b.chan, &info);
		before = info.send;
		for (i = 0; i < 3; i++)
			must_eq(fake_send(&b.c, 0, "", 0), 1);
		fake_run(&b.f); /* one callback for three packets */
		vmbus_chan_info(b.chan, &info);
		must_eq(info.send.packets - before.packets, 3 * b.d.msgs);
		must_eq(info.send.batches - before.batches, b.d.msgs < 8 ? 1 : 3);
		must(info.send.signals - before.signals <= 1);
		{
			struct vmbus_packet pkt[64];

			while (fake_receive(&b.c, pkt, 64) > 0)
				;
		}
	}
	box_fini(&b);
}
END_TEST

/* The reader's buffer grows to the largest packet, once. */
START_TEST(chan__large_packets)
{
	struct box b;
	uint8_t *data = calloc(1, 500000);
	uint32_t len;

	box_init(&b);
	b.d.mode = ECHO_KEEP;
	box_open(&b, 260, 3);
	for (len = 100; len < 500000; len += len / 2) {
		vmbus_test_at("%u bytes", len);
		must_eq(fake_send(&b.c, len, data, len), 1);
		fake_run(&b.f);
		must_eq(drain(&b, len), 1);
	}
	must_eq(b.d.closes, 0);
	box_fini(&b);
	free(data);
}
END_TEST

START_TEST(chan_each__stops_after_a_failure)
{
	struct box b;
	uint64_t id;

	box_init(&b);
	b.d.mode = FAIL_SECOND;
	box_open(&b, 3, 3);
	for (id = 1; id <= 5; id++)
		must_eq(fake_send(&b.c, id, &id, 8), 1);
	fake_run(&b.f);
	must_eq(b.d.packets, 2);
	must_eq(b.d.closes, 1);
	box_fini(&b);
}
END_TEST

/* What was sent in the callback that fails the channel is dropped. */
START_TEST(chan_flush__of_a_channel_that_was_failed)
{
	struct vmbus_packet pkt;
	struct box b;
	uint64_t id = 1;

	box_init(&b);
	b.d.mode = FAIL_FLUSH;
	box_open(&b, 3, 3);
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	fake_run(&b.f);
	must_eq(b.d.packets, 1);
	must_eq(b.d.closes, 1);
	must_eq(vmbus_ring_rx_get(&b.c.rx, &pkt, 1), 0);
	box_fini(&b);
}
END_TEST

START_TEST(chan_info__tells)
{
	struct box b;
	struct vmbus_chan_info info;
	uint64_t id = 1;

	box_init(&b);
	box_open(&b, 4, 6);
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	fake_run(&b.f);
	vmbus_chan_bad_completion(b.chan);
	vmbus_chan_bad_completion(b.chan);
	vmbus_chan_info(b.chan, &info);
	ck_assert_str_eq(info.vsp, "dev");
	ck_assert_str_eq(info.state, vmbus_srv_state_name(VMBUS_SRV_OPENED));
	must_eq(info.relid, b.c.relid);
	must_eq(info.conn_id, b.c.conn);
	must_eq(info.send_bytes, 5 * 4096);
	must_eq(info.recv_bytes, 3 * 4096);
	must_eq(info.recv.packets, 1);
	must_eq(info.send.packets, 0);
	must_eq(info.opens, 1);
	must_eq(info.bad_completions, 2);
	must(!info.faulted);
	must(vmbus_guid_equal(&info.class_id, &base_vsp.class_id));
	must(vmbus_guid_equal(&info.instance_id, &b.c.instance));
	must(vmbus_chan_priv(b.chan) == NULL);
	vmbus_chan_set_priv(b.chan, &b);
	must(vmbus_chan_priv(b.chan) == &b);
	must(vmbus_chan_primary(b.chan) == b.chan);
	fake_close(&b.f, &b.c);
	vmbus_chan_info(b.chan, &info);
	must_eq(info.send_bytes, 0);
	ck_assert_str_eq(info.state, vmbus_srv_state_name(VMBUS_SRV_CLOSED));
	box_fini(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "packets", 10);

	tcase_add_test(tc, chan_complete__one_signal_for_a_batch);
	tcase_add_test(tc, chan_flush__publishes_now);
	tcase_add_test(tc, chan_send__every_shape);
	tcase_add_test(tc, chan_send__errors);
	tcase_add_test(tc, chan_complete__a_length_without_data);
	tcase_add_test(tc, chan_send__pieces_past_a_ring);
	tcase_add_test(tc, lesson_14_back_pressure);
	tcase_add_test(tc, vsp_flags__read_while_full);
	tcase_add_test(tc, vsp_writable__after_a_full_outside);
	tcase_add_test(tc, chan_send__part);
	tcase_add_test(tc, chan_send__part_before_a_wrong_one);
	tcase_add_test(tc, chan_send__bytes_without_an_address);
	tcase_add_test(tc, chan_send__joins_the_batch);
	tcase_add_test(tc, chan__large_packets);
	tcase_add_test(tc, chan_each__stops_after_a_failure);
	tcase_add_test(tc, chan_flush__of_a_channel_that_was_failed);
	tcase_add_test(tc, chan_info__tells);
}

VMBUS_TEST_MAIN("bus.packets", tests)
