/* SPDX-License-Identifier: MIT */
/*
 * Several channels: with a queue of the port for each, or one for all; frames that another channel's
 * thread is to send, or to give to the guest; sections that are shared out, and come back.
 */
#include "frames.h"

#include <pthread.h>

static struct netbox b;
static uint8_t frame[NB_FRAME];

static const uint8_t key[40] = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
				 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
				 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
				 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa };

/* Receive-side scaling over n channels; entry i of the table is channel i % n. */
static void scale(uint32_t n)
{
	uint8_t info[40 + 128 * 4 + 40] = { 0x89, 2, 40, 0 };
	uint32_t i;

	nb_put(info + 8, 4, 0x1701);
	nb_put(info + 12, 2, 128 * 4);
	nb_put(info + 16, 4, 40);
	nb_put(info + 20, 2, 40);
	nb_put(info + 24, 4, 40 + 128 * 4);
	for (i = 0; i < 128; i++)
		nb_put(info + 40 + 4 * i, 4, i % n);
	memcpy(info + 40 + 128 * 4, key, 40);
	must_eq(nb_set(&b, 0x00010204, info, sizeof(info)), 0);
}

static void prepare(uint32_t queues)
{
	nb_prepare(&b);
	b.opts.subchannels = 3;
	b.port.info.queues = queues;
}

static void go(void)
{
	nb_start(&b);
	nb_subs(&b, 3);
	(void)nb_run(&b, 0);
	scale(4);
	b.taken = b.messages;
}

static void begin(uint32_t queues)
{
	prepare(queues);
	go();
}

/* A TCP frame for the guest, of a flow. */
static uint32_t flow(uint32_t port)
{
	const uint32_t len = fr_ipv4(b.port.given, 6, 20);

	memcpy(b.port.given, fr_guest, 6);
	fr_put16(b.port.given + 34, port);
	return len;
}

/* Which channel the one message came by; none: 99. */
static uint32_t came_by(void)
{
	uint32_t k, by = 99;

	for (k = 0; k < 4; k++) {
		const uint32_t before = b.messages;

		(void)nb_run(&b, k);
		if (b.messages != before) {
			must_eq(by, 99);
			must_eq(b.messages, before + 1);
			by = k;
		}
	}
	b.taken = b.messages;
	return by;
}

/* What the last message says of the hash, beside the frame; 0: nothing. */
static uint32_t told_hash(void)
{
	const struct nb_message *const m = &b.message[(b.messages - 1) % NB_MESSAGES];
	const uint8_t *const ppi = m->msg + 8 + nb_32(m->msg + 28);

	if (nb_32(m->msg + 32) != 16 || nb_32(ppi) != 16 || nb_32(ppi + 4) != 8)
		return 0;
	return nb_32(ppi + 12);
}

static uint32_t hash_now(uint32_t len)
{
	struct vmbus_frame_headers h;
	struct vmbus_frame_key ready;
	uint32_t hash = 0;

	vmbus_frame_key(&ready, key);
	ck_assert_int_eq(vmbus_frame_look(b.port.given, len, len, &h), 0);
	(void)vmbus_frame_hash(&ready, VMBUS_FRAME_HASH_TCPV4, b.port.given, &h, &hash);
	return hash;
}

START_TEST(sub__steers_by_the_hash_with_one_queue)
{
	uint32_t i, hash, seen = 0;

	begin(1);
	for (i = 0; i < 64; i++) {
		const uint32_t len = flow(1000 + i);

		hash = hash_now(len);
		ck_assert_uint_ne(hash, 0);
		nb_give(&b, 0, 1, len);
		ck_assert_uint_eq(came_by(), (hash & 127) % 4);
		ck_assert_uint_eq(told_hash(), hash);
		seen |= 1u << (hash & 127) % 4;
	}
	ck_assert_uint_eq(seen, 15);
	ck_assert_uint_eq(fr_stats(&b).received_frames, 64);
	ck_assert_uint_eq(fr_stats(&b).no_room, 0);
	nb_end(&b);
}
END_TEST

START_TEST(sub__steers_no_frame_that_a_port_gets_wrong)
{
	begin(1);
	(void)flow(1000);
	nb_give(&b, 0, 1, 13);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(came_by(), 99);
	ck_assert_uint_eq(fr_stats(&b).too_long, 1);
	nb_end(&b);
}
END_TEST

START_TEST(sub__leaves_frames_on_the_channel_of_their_queue)
{
	uint32_t i;

	begin(4);
	ck_assert_uint_eq(b.port.opens, 4);
	for (i = 0; i < 16; i++) {
		const uint32_t bytes = flow(1000 + i);

		nb_give(&b, i % 4, 1, bytes);
		ck_assert_uint_eq(came_by(), i % 4);
		ck_assert_uint_eq(told_hash(), hash_now(bytes));
	}
	nb_end(&b);
}
END_TEST

/* A frame without addresses to hash, and a guest that has set up no scaling: nothing is told. */
START_TEST(sub__tells_no_hash_where_there_is_none)
{
	uint8_t off[40] = { 0x89, 2, 40, 0, 0x10 };

	begin(4);
	fr_plain(b.port.given, 60, 1);
	memcpy(b.port.given, fr_guest, 6);
	nb_give(&b, 0, 1, 60);
	ck_assert_uint_eq(came_by(), 0);
	ck_assert_uint_eq(told_hash(), 0);
	must_eq(nb_set(&b, 0x00010204, off, sizeof(off)), 0);
	b.taken = b.messages;
	nb_give(&b, 0, 1, flow(1000));
	ck_assert_uint_eq(came_by(), 0);
	ck_assert_uint_eq(told_hash(), 0);
	nb_end(&b);
}
END_TEST

START_TEST(sub__sends_by_the_primary_when_it_has_no_queue)
{
	uint32_t i, len;

	begin((uint32_t)_i);
	for (i = 0; i < 40; i++) {
		fr_plain(frame, 60 + i, i);
		len = fr_message(fr_at(&b, i % 4), NULL, 0, frame, 60 + i, false);
		ck_assert_uint_eq(fr_section(&b, i % 4, i % 4, len), 1);
		(void)nb_run(&b, 0);
		ck_assert_uint_eq(b.port.sent, i + 1);
		ck_assert(memcmp(b.port.frame, frame, 60 + i) == 0);
	}
	ck_assert_uint_eq(fr_stats(&b).sent_frames, 40);
	nb_end(&b);
}
END_TEST

/* The port takes nothing: the inbox of the primary fills, and the sub-channels wait for it. */
START_TEST(sub__waits_for_the_primary_and_loses_nothing)
{
	const uint64_t one = 1;
	uint32_t i, n = 0, len, rounds;
	uint8_t msg[40] = { 107 };
	struct vmbus_msg m = { .data = msg,
			       .len = sizeof(msg),
			       .type = VMBUS_PKT_INBAND,
			       .flags = VMBUS_PKT_FLAG_COMPLETE };

	begin(1);
	fr_plain(frame, 1514, 1);
	len = fr_message(fr_at(&b, 2), NULL, 0, frame, 1514, false);
	nb_put(msg + 8, 4, 2);
	nb_put(msg + 12, 4, len);
	b.port.take = 0;
	for (i = 0; i < 3000; i++) {
		m.id = b.id++;
		if (vmbus_ring_tx_put(&b.c[1].tx, &m, 1) != 1)
			break;
		n++;
		(void)nb_run(&b, 1);
	}
	ck_assert_uint_gt(n, 700); /* a MiB of them */
	ck_assert_uint_eq(b.port.sent, 0);
	ck_assert_uint_gt(fr_stats(&b).sent_waits, 0);
	b.port.take = UINT32_MAX;
	for (rounds = 0; b.port.sent < n && rounds < 1000; rounds++) {
		ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
		(void)nb_run(&b, 0);
		(void)nb_run(&b, 1);
	}
	ck_assert_uint_eq(b.port.sent, n);
	ck_assert_uint_eq(fr_stats(&b).sent_frames, n);
	nb_end(&b);
}
END_TEST

/* The same, and the port has read what told of its room when it is asked for frames. */
static bool tells;

static uint32_t told_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			     uint32_t n)
{
	if (tells)
		b.port.take = UINT32_MAX;
	return nb_port_receive(queue, room, n);
}

START_TEST(sub__sends_by_the_primary_after_the_port_was_asked)
{
	struct vmbus_port_ops ops = nb_port_ops;
	const uint64_t one = 1;
	uint32_t len;

	ops.receive = told_receive;
	tells = false;
	prepare(1);
	b.opts.port.ops = &ops;
	go();
	b.port.take = 0;
	fr_plain(frame, 60, 1);
	len = fr_message(fr_at(&b, 1), NULL, 0, frame, 60, false);
	ck_assert_uint_eq(fr_section(&b, 1, 1, len), 1);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(b.port.sent, 0);
	tells = true;
	ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(b.port.sent, 1);
	nb_end(&b);
}
END_TEST

/* The same, and another thread tells meanwhile that the port has changed: what wakes the primary
   for that comes by its inbox, which is read here. */
static void *port_changes(void *arg)
{
	(void)arg;
	must_eq(vmbus_net_port_changed(b.net), 0);
	return NULL;
}

static uint32_t changed_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
				uint32_t n)
{
	pthread_t thread;

	if (tells) {
		tells = false;
		must(!pthread_create(&thread, NULL, port_changes, NULL));
		must(!pthread_join(thread, NULL));
	}
	return nb_port_receive(queue, room, n);
}

START_TEST(sub__takes_up_what_changes_while_the_port_is_asked)
{
	struct vmbus_port_ops ops = nb_port_ops;
	const struct nb_message *m;
	const uint64_t one = 1;
	uint32_t len;

	ops.receive = changed_receive;
	tells = false;
	prepare(1);
	b.opts.port.ops = &ops;
	go();
	b.port.take = 0;
	fr_plain(frame, 60, 1);
	len = fr_message(fr_at(&b, 1), NULL, 0, frame, 60, false);
	ck_assert_uint_eq(fr_section(&b, 1, 1, len), 1);
	(void)nb_run(&b, 0);
	ck_assert_ptr_null(nb_message(&b));
	b.port.info.bits_per_s = 2500000000u;
	tells = true;
	ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
	(void)nb_run(&b, 0);
	ck_assert(!tells);
	ck_assert_uint_eq(b.port.sent, 0); /* and it still waits */
	m = nb_message(&b);
	ck_assert_ptr_nonnull(m);
	ck_assert_uint_eq(nb_32(m->msg + 8), 0x40010013);
	ck_assert_uint_eq(nb_32(m->msg + 20), 25000000);
	nb_end(&b);
}
END_TEST

/* The same, and the port has more frames for the guest than one callback asks for; or the guest stops
   meanwhile, and then nobody asks. */
START_TEST(sub__asks_the_port_to_the_end_while_frames_wait_for_it)
{
	const uint8_t filter[32] = { 5, 0,    0, 0, 32, 0, 0, 0, 77, 0, 0,
				     0, 0x0E, 1, 1, 0,	4, 0, 0, 0,  20 };
	uint32_t len;

	prepare(1);
	b.pages = 4096;
	b.rx_pages = 2048;
	nb_start(&b);
	nb_subs(&b, 3);
	(void)nb_run(&b, 0);
	ck_assert_uint_gt(b.rx_count / 4, 900);
	b.port.take = 0;
	fr_plain(frame, 60, 1);
	len = fr_message(fr_at(&b, 1), NULL, 0, frame, 60, false);
	ck_assert_uint_eq(fr_section(&b, 1, 1, len), 1);
	(void)nb_run(&b, 0);
	(void)flow(1000);
	nb_give(&b, 0, 900, 74); /* without another word of the port's */
	if (_i == 1) {
		(void)vmbus_bus_dispatch(b.f.bus, 1);
		ck_assert(b.port.give > 0 && b.port.give < 900);
		must_eq(nb_rndis(&b, 0, true, filter, sizeof(filter)), 1);
		nb_end(&b);
		return;
	}
	fake_run(&b.f);
	ck_assert_uint_eq(b.port.give, 0);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(fr_stats(&b).received_frames, 900);
	ck_assert_uint_eq(b.port.sent, 0);
	nb_end(&b);
}
END_TEST

/* A flow of this channel in port.given: its port. */
static uint32_t flow_of(uint32_t channel)
{
	uint32_t port = 1000;

	while ((hash_now(flow(port)) & 127) % 4 != channel)
		port++;
	return port;
}

/* In each call frames of channel 0 first, as many of channel 1 behind them. */
static uint32_t asked, ports[2];

static uint32_t two_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			    uint32_t n)
{
	const uint32_t give = b.port.give;
	uint32_t half = n / 2, got;

	asked++;
	b.port.given_bytes = flow(ports[0]);
	b.port.give = give < half ? give : half;
	half = nb_port_receive(queue, room, n / 2);
	(void)flow(ports[1]);
	b.port.give = give - half < n - half ? give - half : n - half;
	got = half + nb_port_receive(queue, room + half, n - half);
	b.port.give = give - got;
	return got;
}

/* When one channel has no section left the port keeps its frames, but those of the batch, of which the other
   channel gets its own. */
START_TEST(sub__loses_no_more_than_a_batch_when_sections_run_out)
{
	struct vmbus_port_ops ops = nb_port_ops;
	struct vmbus_net_stats stats;
	uint32_t given, calls;

	ops.receive = two_receive;
	prepare(1);
	b.opts.port.ops = &ops;
	b.opts.flags = VMBUS_NET_NO_PACK;
	go();
	ports[0] = flow_of(0);
	ports[1] = flow_of(1);
	b.keep = true;
	nb_give(&b, 0, (uint32_t)_i * 64, 60); /* so many calls of a callback's */
	(void)nb_run(&b, 0);
	asked = 0;
	nb_give(&b, 0, 10000, 60);
	(void)nb_run(&b, 0);
	calls = asked;
	given = (uint32_t)_i * 64 + 10000 - b.port.give;
	must_eq(vmbus_net_stats(b.net, 0, &stats), 0);
	ck_assert_uint_eq(stats.received_frames, (b.rx_count - 16) / 4);
	ck_assert_uint_eq(stats.no_room, given / 2 - stats.received_frames);
	ck_assert_uint_lt(stats.no_room, 32);
	ck_assert_uint_eq(calls, given / 64 - (uint32_t)_i);
	nb_end(&b);
}
END_TEST

/* What channels have for each other when one of them ends. */
START_TEST(sub__counts_what_lies_in_an_inbox_that_closes)
{
	uint32_t i, len;

	begin(1);
	if (_i) { /* for the port, by the primary */
		b.port.take = 0;
		fr_plain(frame, 60, 1);
		len = fr_message(fr_at(&b, 1), NULL, 0, frame, 60, false);
		for (i = 0; i < 20; i++)
			ck_assert_uint_eq(fr_section(&b, 1, 1, len), 1);
		fake_post_close(&b.f, &b.c[0]);
		fake_run(&b.f);
		ck_assert_uint_eq(fr_stats(&b).stopped, 20);
	} else { /* for the guest, by a sub-channel without sections */
		b.keep = true;
		(void)flow_of(1);
		nb_give(&b, 0, 5000, 74);
		(void)nb_run(&b, 0);
		(void)nb_run(&b, 1);
		ck_assert_uint_lt(fr_stats(&b).received_frames, 5000);
		fake_close(&b.f, &b.c[1]);
		ck_assert_uint_eq(fr_stats(&b).received_frames + fr_stats(&b).no_room +
					  fr_stats(&b).stopped,
				  5000);
	}
	nb_end(&b);
}
END_TEST

/* Of those that the guest does not have, when it asks. */
START_TEST(sub__grants_no_more_than_there_are_sections_for)
{
	uint8_t msg[40] = { 133, 0, 0, 0, 1 };
	uint32_t left = (uint32_t)_i;

	nb_prepare(&b);
	b.opts.subchannels = 3;
	nb_start(&b);
	b.keep = true;
	fr_plain(b.port.given, 60, 1);
	memcpy(b.port.given, fr_guest, 6);
	nb_give(&b, 0, b.rx_count - 16 - left, 60);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(fr_stats(&b).lent, b.rx_count - 16 - left);
	nb_put(msg + 8, 4, 3);
	must(nb_ask(&b, 0, msg, sizeof(msg)));
	ck_assert_uint_eq(nb_32(b.done + 4), left < 2 ? 2 : 1);
	ck_assert_uint_eq(nb_32(b.done + 8), left ? left - 1 : 0);
	nb_end(&b);
}
END_TEST

/* Pages that do not follow each other, and sections whose frame begins right before the end of one. */
START_TEST(sub__tells_the_hash_of_a_frame_across_pages)
{
	uint32_t i, len, hash;

	prepare(4);
	b.mtu = 9216;
	b.rx_pages = 1024;
	b.pages = 2048;
	b.scatter = true;
	go();
	b.keep = true;
	ck_assert_uint_gt(b.rx_count / 4, 100);
	len = flow(1000);
	b.port.given[46] = 0x80; /* with 12 bytes of options */
	hash = hash_now(len);
	ck_assert_uint_ne(hash, 0);
	for (i = 0; i < 90; i++) {
		nb_give(&b, 0, 1, len);
		ck_assert_uint_eq(came_by(), 0);
		ck_assert_uint_eq(told_hash(), hash);
	}
	nb_end(&b);
}
END_TEST

START_TEST(sub__shares_sections_out_and_gets_them_back)
{
	uint32_t k, lent = 0;

	begin(4);
	b.keep = true;
	for (k = 0; k < 4; k++) {
		flow(k);
		nb_give(&b, k, 10000, 74);
		(void)nb_run(&b, k);
		lent += 10000 - b.port.give;
		ck_assert_uint_ge(10000 - b.port.give, (b.rx_count - 16) / 4);
		b.port.give = 0;
	}
	ck_assert_uint_eq(lent, b.rx_count - 16);
	ck_assert_uint_eq(fr_stats(&b).lent, lent);
	/* A channel that is closed gives them back, and has them when it is opened again. */
	fake_close(&b.f, &b.c[3]);
	b.port.give = 0;
	ck_assert_uint_eq(fr_stats(&b).lent, lent - (b.rx_count - 16) / 4);
	nb_end(&b);
}
END_TEST

START_TEST(sub__ends_with_its_primary_in_any_order)
{
	begin(_i & 1 ? 4 : 1);
	if (_i & 2) {
		fake_post_close(&b.f, &b.c[0]);
		fake_run(&b.f);
		fake_post_close(&b.f, &b.c[2]);
	} else {
		fake_post_close(&b.f, &b.c[2]);
		fake_run(&b.f);
		fake_post_close(&b.f, &b.c[0]);
	}
	fake_run(&b.f);
	nb_end(&b);
	ck_assert_uint_eq(vmbus_region_pins(&b.f.region), 0);
}
END_TEST

/* ---- a bus that has no room ---- */

/* The guest lets go of everything, and finds the NIC again. */
static void lose_and_find(uint32_t subs)
{
	struct vmbus_ctl ctl;
	uint32_t i, relid[4];

	for (i = 0; i < subs; i++) {
		fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl);
		relid[i] = ctl.u.offer.relid;
	}
	for (i = 0; i < subs; i++) {
		fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl);
		must_eq(ctl.u.chan.relid, relid[i]);
		fake_post_released(&b.f, relid[i]);
	}
	fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl);
	must_eq(ctl.u.chan.relid, b.c[0].relid);
	fake_chan_free(&b.c[0]);
	fake_post_released(&b.f, b.c[0].relid);
	b.rx_gpadl = b.tx_gpadl = 0;
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.sub_index, 0);
	b.c[0].relid = ctl.u.offer.relid;
	b.c[0].conn = ctl.u.offer.conn_id;
	nb_open(&b);
	nb_steps(&b, 0, NB_STEPS);
}

/* The bus has room for so many sub-channels, and the guest asks for 3: the second time it gets them. */
START_TEST(sub__grants_no_more_than_the_bus_had_room_for)
{
	const uint32_t room = (uint32_t)_i;

	prepare(1);
	fake_prepare(&b.f, b.pages);
	b.f.opts.limits.struct_bytes = sizeof(b.f.opts.limits);
	b.f.opts.limits.chans_max = 1 + room;
	fake_create(&b.f);
	nb_begin_bus(&b);
	nb_open(&b);
	nb_steps(&b, 0, NB_STEPS);
	ck_assert_uint_eq(nb_ask_subs(&b, 3), 3);
	lose_and_find(room);
	if (room) {
		ck_assert_uint_eq(nb_ask_subs(&b, 3), room);
		nb_open_subs(&b, room);
		(void)nb_run(&b, 0);
		ck_assert_uint_eq(b.inbands, 1); /* the table: all are open */
	} else {
		ck_assert_uint_eq(nb_ask_subs(&b, 3), 0);
	}
	fake_expect_none(&b.f);
	ck_assert_uint_eq(fr_send(&b, NULL, 0, frame, fr_ipv4(frame, 6, 20)), 1);
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "sub", 30);

	tcase_add_test(tc, sub__steers_by_the_hash_with_one_queue);
	tcase_add_test(tc, sub__tells_no_hash_where_there_is_none);
	tcase_add_test(tc, sub__steers_no_frame_that_a_port_gets_wrong);
	tcase_add_test(tc, sub__leaves_frames_on_the_channel_of_their_queue);
	tcase_add_loop_test(tc, sub__sends_by_the_primary_when_it_has_no_queue, 1, 5);
	tcase_add_test(tc, sub__waits_for_the_primary_and_loses_nothing);
	tcase_add_test(tc, sub__sends_by_the_primary_after_the_port_was_asked);
	tcase_add_test(tc, sub__takes_up_what_changes_while_the_port_is_asked);
	tcase_add_loop_test(tc, sub__asks_the_port_to_the_end_while_frames_wait_for_it, 0, 2);
	tcase_add_loop_test(tc, sub__loses_no_more_than_a_batch_when_sections_run_out, 0, 2);
	tcase_add_loop_test(tc, sub__counts_what_lies_in_an_inbox_that_closes, 0, 2);
	tcase_add_loop_test(tc, sub__grants_no_more_than_there_are_sections_for, 0, 4);
	tcase_add_loop_test(tc, sub__grants_no_more_than_the_bus_had_room_for, 0, 3);
	tcase_add_test(tc, sub__tells_the_hash_of_a_frame_across_pages);
	tcase_add_test(tc, sub__shares_sections_out_and_gets_them_back);
	tcase_add_loop_test(tc, sub__ends_with_its_primary_in_any_order, 0, 4);
}
VMBUS_TEST_MAIN("net.sub", tests)
