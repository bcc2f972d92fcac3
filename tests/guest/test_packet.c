/* SPDX-License-Identifier: MIT */
/* Packets both ways: data, room, signals, large packets. */
#include "client.h"

#include "base/untrusted.h"

/* ---- data ---- */

/* A payload that tells its number and length, and bytes that follow from them. */
static uint32_t make_payload(uint8_t *buf, uint32_t n, uint32_t len)
{
	uint32_t i;

	memcpy(buf, &n, 4);
	memcpy(buf + 4, &len, 4);
	for (i = 8; i < len; i++)
		buf[i] = (uint8_t)(n * 31u + i);
	return len < 8 ? 8 : len;
}

static void check_payload(const uint8_t *got, uint32_t got_len, uint32_t n)
{
	uint32_t number, len, i;

	must(got_len >= 8);
	memcpy(&number, got, 4);
	memcpy(&len, got + 4, 4);
	must_eq(number, n);
	must(got_len == (len < 8 ? 8 : (len + 7) / 8 * 8));
	for (i = 8; i < len; i++)
		must_eq(got[i], (uint8_t)(n * 31u + i));
	for (; i < got_len; i++)
		must_eq(got[i], 0); /* the padding */
}

struct flow {
	uint32_t sent, seen, answered;
};

static uint32_t length_of(uint32_t n)
{
	return 8 + n * 7919u % 1500u;
}

static void flow_packet(struct client *c, const struct vmbus_packet *pkt)
{
	struct flow *f = c->priv;

	check_payload(pkt->payload, pkt->len, f->seen++);
}

static void flow_completed(struct client *c, void *cookie, const struct vmbus_packet *pkt)
{
	struct flow *f = c->priv;

	must(pkt != NULL);
	check_payload(pkt->payload, pkt->len, (uint32_t)(uintptr_t)cookie);
	f->answered++;
}

/* Everything sent comes back, in order, through rings of the smallest and of a larger size. */
START_TEST(vsc_send__data_both_ways)
{
	static const uint32_t sizes[] = { 4096, 8192, 65536 };
	const uint32_t total = vmbus_test_full() ? 1000000 : 20000;
	struct flow f = { 0 };
	uint8_t buf[2048];
	struct pair s;
	int err;

	pair_init(&s);
	s.p->mem.no_mirror = _i >= 3;
	s.c.opts.send_bytes = sizes[_i % 3];
	s.c.opts.recv_bytes = sizes[(_i + 1) % 3];
	s.c.on_packet = flow_packet;
	s.c.on_completed = flow_completed;
	s.c.priv = &f;
	client_open(&s.c);
	while (f.seen < total) {
		err = 1;
		/* What is under way must fit the ring back to us: this parent never waits. */
		while (f.sent < total && f.sent - f.seen < sizes[(_i + 1) % 3] / 2048u &&
		       err == 1) {
			const uint32_t len = make_payload(buf, f.sent, length_of(f.sent));

			err = client_send(&s.c, buf, len);
			if (err == 1)
				f.sent++;
			else
				must_eq(err, VMBUS_E_FULL);
		}
		parent_settle(s.p);
	}
	must_eq(s.c.packets, total);
	for (f.sent = 0; f.sent < 2000; f.sent++) {
		const uint32_t len = make_payload(buf, f.sent, length_of(f.sent));

		must_eq(client_request(&s.c, buf, len, (void *)(uintptr_t)f.sent), 0);
		parent_settle(s.p);
	}
	must_eq(f.answered, 2000);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_send__gathers_pieces)
{
	struct vmbus_iov more[3] = { { "bcdefgh", 7 }, { "", 0 }, { "ijk", 3 } };
	struct vmbus_msg msg[2] = { { .type = VMBUS_PKT_INBAND, .data = "a", .len = 1 },
				    { .type = VMBUS_PKT_INBAND } };
	struct pair s;

	pair_init(&s);
	client_open(&s.c);
	msg[0].more = more;
	msg[0].more_count = 3;
	must_eq(vmbus_vsc_send(s.c.vsc, msg, 2), 2);
	must_eq(vmbus_vsc_send(s.c.vsc, msg, 0), 0);
	parent_settle(s.p);
	must_eq(s.c.packets, 2);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

static void pieces_in_call(struct client *c, const struct vmbus_packet *pkt)
{
	struct vmbus_iov more[4] = { { "", 0 }, { "bcdefgh", 7 }, { "ij", 2 }, { "klm", 3 } };
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "a", .len = 1 };

	if (c->packets < 1000) {
		msg.more = more;
		msg.more_count = 4;
		must_eq(vmbus_vsc_send(c->vsc, &msg, 1), 1);
	}
	if (c->packets > 1) {
		must_eq(pkt->len, 16);
		must_eq(memcmp(pkt->payload, "abcdefghijklm\0\0", 16), 0);
	}
}

/* The same within a callback, at every place of a ring that splits. */
START_TEST(vsc_send__gathers_pieces_within_callbacks)
{
	struct pair s;

	pair_init(&s);
	s.p->mem.no_mirror = _i;
	s.c.opts.send_bytes = 4096;
	s.c.on_packet = pieces_in_call;
	client_open(&s.c);
	must_eq(client_send(&s.c, "x", 1), 1);
	parent_settle(s.p);
	must_eq(s.c.packets, 1000);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* Bytes without an address, in each piece of a message. */
static void refuse_null(struct client *c)
{
	static uint8_t byte;
	const struct vmbus_iov none = { NULL, 8 }, empty = { NULL, 0 };
	const struct vmbus_msg wrong[] = {
		{ .type = VMBUS_PKT_INBAND, .len = 8 },
		{ .type = VMBUS_PKT_INBAND, .more_count = 1 },
		{ .type = VMBUS_PKT_INBAND, .data = &byte, .len = 1, .more_count = 1 },
		{ .type = VMBUS_PKT_INBAND,
		  .data = &byte,
		  .len = 1,
		  .more = &none,
		  .more_count = 1 },
	};
	struct vmbus_msg two[2] = { { .type = VMBUS_PKT_INBAND, .more = &empty, .more_count = 1 },
				    { .type = VMBUS_PKT_INBAND, .len = 8 } };
	size_t i;

	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		must_eq(vmbus_vsc_send(c->vsc, &wrong[i], 1), VMBUS_E_INVAL);
		must_eq(vmbus_vsc_request(c->vsc, &wrong[i], NULL), VMBUS_E_INVAL);
	}
	must_eq(vmbus_vsc_complete(c->vsc, 7, NULL, 8), VMBUS_E_INVAL);
	must_eq(vmbus_vsc_send(c->vsc, two, 2), 1);
	must_eq(client_info(c).requests, 0);
}

static void refuse_null_in_call(struct client *c, const struct vmbus_packet *pkt)
{
	(void)pkt;
	if (c->packets == 2)
		refuse_null(c);
}

START_TEST(vsc_send__refuses_bytes_without_an_address)
{
	struct pair s;

	pair_init(&s);
	s.c.on_packet = refuse_null_in_call;
	client_open(&s.c);
	refuse_null(&s.c);
	must_eq(client_send(&s.c, "x", 1), 1);
	parent_settle(s.p);
	must_eq(s.c.packets, 3);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_send__refuses_what_cannot_be)
{
	static uint8_t large[4096];
	struct vmbus_iov more[2] = { { large, 4000 }, { large, 0xFFFFFFFFu } };
	struct vmbus_msg msg[3] = { { .type = VMBUS_PKT_INBAND },
				    { .type = VMBUS_PKT_INBAND, .flags = VMBUS_PKT_FLAG_COMPLETE },
				    { .type = 14 } };
	struct pair s;

	pair_init(&s);
	s.c.opts.send_bytes = 4096;
	client_open(&s.c);
	must_eq(vmbus_vsc_send(s.c.vsc, msg, 2), 1); /* what is before it goes out */
	must_eq(vmbus_vsc_send(s.c.vsc, &msg[1], 1), VMBUS_E_INVAL);
	must_eq(vmbus_vsc_send(s.c.vsc, &msg[2], 1), VMBUS_E_INVAL);
	msg[0].data = large;
	msg[0].len = 4057;
	must_eq(vmbus_vsc_send(s.c.vsc, msg, 1), VMBUS_E_RANGE);
	must_eq(vmbus_vsc_request(s.c.vsc, msg, NULL), VMBUS_E_RANGE);
	msg[0].len = 100;
	msg[0].more = more;
	msg[0].more_count = 2;
	must_eq(vmbus_vsc_send(s.c.vsc, msg, 1), VMBUS_E_RANGE);
	must_eq(vmbus_vsc_complete(s.c.vsc, 1, large, 4057), VMBUS_E_RANGE);
	msg[0].type = VMBUS_PKT_COMPLETION;
	must_eq(vmbus_vsc_request(s.c.vsc, msg, NULL), VMBUS_E_INVAL);
	must_eq(client_info(&s.c).requests, 0);
	must_eq(vmbus_vsc_flush(s.c.vsc), 0);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

static void refuse_in_call(struct client *c, const struct vmbus_packet *pkt)
{
	static uint8_t large[4096];
	struct vmbus_iov more[2] = { { large, 4000 }, { large, 0xFFFFFFFFu } };
	struct vmbus_msg msg[3] = { { .type = VMBUS_PKT_INBAND },
				    { .type = VMBUS_PKT_INBAND, .flags = VMBUS_PKT_FLAG_COMPLETE },
				    { .type = 14 } };

	(void)pkt;
	if (c->packets > 1)
		return;
	must_eq(vmbus_vsc_send(c->vsc, msg, 2), 1);
	must_eq(vmbus_vsc_send(c->vsc, &msg[1], 1), VMBUS_E_INVAL);
	must_eq(vmbus_vsc_send(c->vsc, &msg[2], 1), VMBUS_E_INVAL);
	msg[0].data = large;
	msg[0].len = 4057;
	must_eq(vmbus_vsc_send(c->vsc, msg, 1), VMBUS_E_RANGE);
	must_eq(vmbus_vsc_request(c->vsc, msg, NULL), VMBUS_E_RANGE);
	msg[0].len = 100;
	msg[0].more = more;
	msg[0].more_count = 2;
	must_eq(vmbus_vsc_send(c->vsc, msg, 1), VMBUS_E_RANGE);
	must_eq(vmbus_vsc_dispatch(c->vsc, 1), VMBUS_E_STATE);
}

START_TEST(vsc_send__refuses_the_same_within_callbacks)
{
	struct pair s;

	pair_init(&s);
	s.c.opts.send_bytes = 4096;
	s.c.on_packet = refuse_in_call;
	client_open(&s.c);
	must_eq(client_send(&s.c, "x", 1), 1);
	parent_settle(s.p);
	must_eq(s.c.packets, 2);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* ---- requests of the parent's ---- */

static void ask_child(struct parent_chan *chan)
{
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .flags = VMBUS_PKT_FLAG_COMPLETE };
	uint64_t *next = chan->priv, data;
	int err = 1;

	while (*next < 3000 && err == 1) {
		data = *next;
		msg.id = 1000000 + *next;
		msg.data = &data;
		msg.len = 8;
		err = vmbus_ring_tx_put(&chan->tx, &msg, 1);
		if (err == 1)
			++*next;
	}
	if (err != 1 && vmbus_ring_tx_arm(&chan->tx, 40) == VMBUS_RING_READY)
		chan->signalled = true;
}

static void answer(struct client *c, const struct vmbus_packet *pkt)
{
	must_eq(pkt->flags, VMBUS_PKT_FLAG_COMPLETE);
	must_eq(vmbus_vsc_complete(c->vsc, pkt->id, pkt->payload, pkt->len), 0);
}

static void count_answer(struct parent_chan *chan, const struct vmbus_packet *pkt)
{
	static uint64_t next;
	uint64_t data;

	(void)chan;
	must_eq(pkt->type, VMBUS_PKT_COMPLETION);
	memcpy(&data, pkt->payload, 8);
	must_eq(pkt->id, 1000000 + data);
	must_eq(data, next++);
}

START_TEST(vsc_complete__answers_the_parent)
{
	uint64_t next = 0;
	struct pair s;

	pair_init(&s);
	s.c.on_packet = answer;
	s.chan->on_turn = ask_child;
	s.chan->on_packet = count_answer;
	s.chan->priv = &next;
	client_open(&s.c);
	parent_settle(s.p);
	must_eq(next, 3000);
	must_eq(s.c.packets, 3000);
	must_eq(s.chan->packets, 3000);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* ---- room ---- */

/* The ring is filled, the parent reads it empty: writable() comes once, and says the truth. */
START_TEST(lesson_02_writable_follows_full)
{
	uint64_t data[4] = { 0 };
	struct pair s;
	uint32_t n = 0, round;
	int err;

	pair_init(&s);
	s.c.opts.send_bytes = 4096;
	s.chan->on_packet = NULL; /* does not read */
	client_open(&s.c);
	for (round = 1; round <= 50; round++) {
		s.chan->on_packet = NULL;
		while ((err = client_send(&s.c, data, sizeof(data))) == 1)
			n++;
		must_eq(err, VMBUS_E_FULL);
		must_eq(client_send(&s.c, data, sizeof(data)), VMBUS_E_FULL);
		parent_settle(s.p);
		must_eq(s.c.writable, round - 1);
		s.chan->on_packet = parent_ignore;
		s.chan->signalled = true;
		parent_settle(s.p);
		must_eq(s.c.writable, round);
		must_eq(s.chan->packets, n);
	}
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* Nobody can ask for more room than a packet may need, however large a part of the ring that is. */
START_TEST(vsc_writable__of_a_large_ring)
{
	static const uint32_t sizes[] = { 4u << 20, (4u << 20) + 4096, 8u << 20 };
	static uint8_t data[8192];
	struct pair s;
	int err;

	pair_init(&s);
	s.c.opts.send_bytes = sizes[_i];
	s.chan->on_packet = NULL;
	client_open(&s.c);
	while ((err = client_send(&s.c, data, sizeof(data))) == 1)
		;
	must_eq(err, VMBUS_E_FULL);
	s.chan->on_packet = parent_ignore;
	s.chan->signalled = true;
	parent_settle(s.p);
	must_eq(s.c.writable, 1);
	must_eq(client_send(&s.c, data, sizeof(data)), 1);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

#if defined(VMBUS_TEST_HOOKS)
/* Before load number n from now on, the parent reads everything. */
static struct parent_chan *reader;
static uint32_t loads_left;

static void read_at_load(const volatile void *p)
{
	struct parent_chan *chan = reader;
	struct vmbus_packet pkt[64];

	(void)p;
	if (!chan || --loads_left)
		return;
	reader = NULL;
	while (vmbus_ring_rx_get(&chan->rx, pkt, 64) > 0)
		;
	vmbus_ring_rx_consume(&chan->rx);
}

/* Ring bytes that the parent has not read. */
static uint64_t unread(struct client *c)
{
	struct vmbus_ring_stats read;

	vmbus_ring_rx_stats(&c->parent->chans[0].rx, &read);
	return client_info(c).send.bytes - read.bytes;
}

/* Fill the ring, and let the parent empty it at the nth load of the call that finds it full. */
static int send_as_parent_reads(struct client *c, uint32_t n)
{
	const uint64_t data[8] = { 0 };
	const uint64_t bytes = vmbus_wire_ring_bytes(0, sizeof(data));
	int err;

	while (unread(c) + bytes <= 4096 - 8)
		must_eq(client_send(c, data, sizeof(data)), 1);
	loads_left = n;
	reader = c->parent->chans;
	err = client_send(c, data, sizeof(data));
	reader = NULL;
	return err;
}

/* Room that comes between the look that found none and the sleep is found by the second look. */
START_TEST(lesson_02_room_between_full_and_sleep)
{
	unsigned long sent = 0, waits = 0;
	struct pair s;
	uint32_t n;

	pair_init(&s);
	s.c.opts.send_bytes = 4096;
	s.chan->on_packet = NULL;
	client_open(&s.c);
	parent_settle(s.p);
	vmbus__test_hook = read_at_load;
	for (n = 1; n < 6; n++) {
		const int err = send_as_parent_reads(&s.c, n);

		if (err == 1) {
			sent++;
			must_eq(s.c.writable, waits);
		} else {
			must_eq(err, VMBUS_E_FULL);
			waits++;
			vmbus__test_hook = NULL;
			s.chan->on_packet = parent_ignore;
			s.chan->signalled = true;
			parent_settle(s.p);
			s.chan->on_packet = NULL;
			must_eq(s.c.writable, waits);
			vmbus__test_hook = read_at_load;
		}
	}
	vmbus__test_hook = NULL;
	must(sent >= 2); /* at the first look, and at the second */
	must(waits >= 1);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST
#endif

/* A sender that knows nothing but send and writable(), and a parent that reads when signalled. */
START_TEST(vsc_writable__keeps_a_sender_going)
{
	uint64_t left = 100000;
	struct pair s;

	pair_init(&s);
	s.c.opts.send_bytes = 4096;
	s.c.on_writable = client_send_left;
	s.c.priv = &left;
	s.chan->on_packet = parent_ignore;
	client_open(&s.c);
	client_send_left(&s.c);
	parent_settle(s.p);
	must_eq(left, 0);
	must_eq(s.chan->packets, 100000);
	must(s.c.writable > 100);
	/* Each fill of the ring is one or two wake-ups, not one per packet. */
	must(s.chan->signals_in < 3000);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* Two sends and a request in one callback are published together. */
static void three_in_call(struct client *c, const struct vmbus_packet *pkt)
{
	struct parent_chan *chan = c->parent->chans;
	uint64_t before[2], after[2];

	if (c->packets > 1)
		return;
	memcpy(before, chan->pages[0], 16); /* the control page of the ring to the parent */
	must_eq(client_send(c, pkt->payload, 8), 1);
	must_eq(client_request(c, pkt->payload, 8, NULL), 0);
	must_eq(client_send(c, pkt->payload, 8), 1);
	memcpy(after, chan->pages[0], 16);
	must_eq(before[0], after[0]);
	if (c->opts.user[0]) {
		must_eq(vmbus_vsc_flush(c->vsc), 0);
		memcpy(after, chan->pages[0], 16);
		must(before[0] != after[0]);
	}
}

START_TEST(vsc_send__within_a_callback_is_one_batch)
{
	struct pair s;

	pair_init(&s);
	s.c.opts.user[0] = (uint8_t)_i;
	s.c.on_packet = three_in_call;
	client_open(&s.c);
	must_eq(client_send(&s.c, "12345678", 8), 1);
	must_eq(s.chan->signals_in, 1);
	parent_settle(s.p);
	must_eq(s.chan->signals_in, 2);
	must_eq(s.c.packets, 3);
	must_eq(s.c.completed, 1);
	must_eq(client_info(&s.c).send.batches, 2);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* ---- wake-ups ---- */

START_TEST(vsc_run__sleeps_and_wakes)
{
	struct pair s;
	uint64_t n;

	pair_init(&s);
	client_open(&s.c);
	parent_settle(s.p);
	for (n = 1; n <= 100; n++) {
		must_eq(client_request(&s.c, &n, 8, NULL), 0);
		parent_settle(s.p);
		must_eq(s.c.completed, n);
		must_eq(s.chan->signals_in, n);	 /* one to wake the parent */
		must_eq(s.chan->signals_out, n); /* one to wake us */
	}
	must_eq(client_info(&s.c).recv.sleeps, 101);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

static void say_hello(struct parent_chan *chan)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "hello", .len = 5 };

	must_eq(vmbus_ring_tx_put(&chan->tx, &msg, 1), 1);
	chan->on_turn = NULL;
}

/* The parent sends before it answers the open: the packet and its signal come too early. */
START_TEST(lesson_04_packets_before_the_open_result)
{
	struct pair s;

	pair_init(&s);
	s.chan->hold_open = true;
	must_eq(client_begin(&s.c), 0);
	parent_settle(s.p);
	must(s.chan->opening);
	say_hello(s.chan);
	parent_raise(s.p, s.chan->relid);
	parent_settle(s.p); /* the flag is taken while the channel is not open */
	must_eq(s.c.packets, 0);
	parent_answer_open(s.chan, 0);
	s.p->flags[0] = 0; /* no other signal comes */
	parent_settle(s.p);
	must_eq(s.c.opened, 1);
	must_eq(s.c.packets, 1);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

static void opened_send(struct client *c, int err)
{
	must_eq(err, 0);
	must_eq(client_request(c, "12345678", 8, NULL), 0);
}

/* The parent sends at once when the channel is open, and the child from within opened(). */
START_TEST(lesson_05_packets_at_the_moment_of_opening)
{
	struct pair s;

	pair_init(&s);
	s.chan->on_turn = say_hello;
	s.c.on_opened = opened_send;
	must_eq(client_begin(&s.c), 0);
	parent_settle(s.p);
	must_eq(s.c.packets, 1);
	must_eq(s.c.completed, 1);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_run__a_flag_for_nobody_is_dropped)
{
	struct pair s;
	uint32_t i;

	pair_init(&s);
	for (i = 0; i < 32; i++)
		s.p->flags[i] = UINT64_MAX;
	parent_settle(s.p);
	client_open(&s.c);
	for (i = 0; i < 32; i++)
		s.p->flags[i] = UINT64_MAX;
	parent_settle(s.p);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_signal__is_given_again)
{
	struct pair s;

	pair_init(&s);
	client_open(&s.c);
	parent_settle(s.p);
	s.p->signal_fails = 5;
	must_eq(client_request(&s.c, "12345678", 8, NULL), 0);
	must(vmbus_guest_timeout(s.p->guest) <= 1000000);
	parent_settle(s.p);
	must_eq(s.p->signal_fails, 0);
	must_eq(s.c.completed, 1);
	must_eq(vmbus_guest_timeout(s.p->guest), UINT64_MAX);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

/* ---- large packets ---- */

static void send_large(struct parent_chan *chan)
{
	static uint8_t data[600000];
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data };
	uint32_t *len = chan->priv;

	memset(data, 7, *len);
	msg.len = *len;
	must_eq(vmbus_ring_tx_put(&chan->tx, &msg, 1), 1);
	chan->on_turn = NULL;
}

static void check_large(struct client *c, const struct vmbus_packet *pkt)
{
	uint32_t i;

	(void)c;
	for (i = 0; i < pkt->len; i++)
		must_eq(pkt->payload[i], 7);
}

START_TEST(vsc_run__grows_its_buffer_for_large_packets)
{
	uint32_t len = 16;
	struct pair s;
	size_t private_pages;

	pair_init(&s);
	private_pages = s.p->mem.private_pages;
	s.c.opts.recv_bytes = 1u << 20;
	s.c.on_packet = check_large;
	s.chan->priv = &len;
	client_open(&s.c);
	for (; len < 524000; len = len * 5 / 32 * 8 + 8) {
		s.chan->on_turn = send_large;
		s.chan->signalled = true;
		parent_settle(s.p);
	}
	must(s.c.packets > 30);
	client_close(&s.c);
	must_eq(s.p->mem.private_pages, private_pages);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_run__closes_when_there_is_no_memory_for_a_packet)
{
	uint32_t len = 60000;
	struct pair s;

	pair_init(&s);
	s.chan->priv = &len;
	client_open(&s.c);
	s.chan->on_turn = send_large;
	s.chan->signalled = true;
	s.p->mem.fail_at = s.p->mem.allocs + 1;
	parent_settle(s.p);
	must_eq(s.c.closed, 1);
	must_eq(s.p->lines, 1);
	must_eq(vmbus_vsc_state(s.c.vsc), VMBUS_VSC_OFFERED);
	client_open(&s.c);
	s.chan->on_turn = send_large;
	s.chan->signalled = true;
	parent_settle(s.p);
	must_eq(s.c.packets, 1);
	client_close(&s.c);
	parent_free(s.p, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "data", 30);

	tcase_add_loop_test(tc, vsc_send__data_both_ways, 0, 6);
	tcase_add_test(tc, vsc_send__gathers_pieces);
	tcase_add_loop_test(tc, vsc_send__gathers_pieces_within_callbacks, 0, 2);
	tcase_add_test(tc, vsc_send__refuses_bytes_without_an_address);
	tcase_add_test(tc, vsc_send__refuses_what_cannot_be);
	tcase_add_test(tc, vsc_send__refuses_the_same_within_callbacks);
	tcase_add_test(tc, vsc_complete__answers_the_parent);
	tcase_add_test(tc, vsc_run__grows_its_buffer_for_large_packets);
	tcase_add_test(tc, vsc_run__closes_when_there_is_no_memory_for_a_packet);
	tc = vmbus_test_case(suite, "room", 20);
	tcase_add_test(tc, lesson_02_writable_follows_full);
	tcase_add_loop_test(tc, vsc_writable__of_a_large_ring, 0, 3);
#if defined(VMBUS_TEST_HOOKS)
	tcase_add_test(tc, lesson_02_room_between_full_and_sleep);
#endif
	tcase_add_test(tc, vsc_writable__keeps_a_sender_going);
	tcase_add_loop_test(tc, vsc_send__within_a_callback_is_one_batch, 0, 2);
	tc = vmbus_test_case(suite, "wake", 20);
	tcase_add_test(tc, vsc_run__sleeps_and_wakes);
	tcase_add_test(tc, lesson_04_packets_before_the_open_result);
	tcase_add_test(tc, lesson_05_packets_at_the_moment_of_opening);
	tcase_add_test(tc, vsc_run__a_flag_for_nobody_is_dropped);
	tcase_add_test(tc, vsc_signal__is_given_again);
}
VMBUS_TEST_MAIN("guest.packet", tests)
