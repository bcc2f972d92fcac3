/* SPDX-License-Identifier: MIT */
/*
 * A parent that lies: in the rings, through its own mapping of them, between any two reads of the
 * guest's; and in control messages.  Whatever it does, each request ends once, the channel closes
 * or goes on, and the guest takes no more memory than its rings justify.
 */
#include "client.h"

#include "base/untrusted.h"

static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % n;
}

/* The word at an offset of the control page of one of the rings, in the parent's view. */
static uint32_t *word(struct parent_chan *chan, bool to_child, uint32_t offset)
{
	const uint32_t page = to_child ? chan->open.downstream_page : 0;

	return (uint32_t *)(void *)((uint8_t *)chan->pages[page] + offset);
}

static uint8_t *data_of(struct parent_chan *chan, bool to_child, uint32_t at)
{
	const uint32_t page = to_child ? chan->open.downstream_page : 0;

	return (uint8_t *)chan->pages[page + 1 + at / 4096] + at % 4096;
}

static uint32_t bad_value(uint32_t size)
{
	static const uint32_t values[] = { 0, 8, 1, 7, 0xFFFFFFF8, 0xFFFFFFFF, 0x80000000, 16 };

	switch (rnd(4)) {
	case 0:
		return values[rnd(8)];
	case 1:
		return size - 8 * rnd(3);
	case 2:
		return rnd(size / 8) * 8;
	default:
		return (uint32_t)seed;
	}
}

/* One packet of random or nearly right fields where the child will look next. */
static void write_packet(struct parent_chan *chan)
{
	uint16_t fields[4];
	uint32_t at, used = *word(chan, true, 0) % chan->send_bytes / 8 * 8;

	fields[0] = rnd(3) ? (uint16_t)(rnd(2) ? 6 : 11) : (uint16_t)rnd(16);
	fields[1] = rnd(3) ? 2 : (uint16_t)rnd(12);
	fields[2] = rnd(3) ? (uint16_t)(2 + rnd(30)) : (uint16_t)seed;
	fields[3] = rnd(3) ? (uint16_t)rnd(2) : (uint16_t)(seed >> 16);
	for (at = 0; at < 4; at++)
		memcpy(data_of(chan, true, (used + at * 2) % chan->send_bytes), &fields[at], 2);
	memcpy(data_of(chan, true, (used + 8) % chan->send_bytes), &seed, 8);
	used += rnd(4) ? (fields[2] % 64u) * 8 + 8 : 8 * rnd(80);
	*word(chan, true, 0) = used % chan->send_bytes;
}

static void lie(struct parent_chan *chan)
{
	const bool to_child = rnd(2);

	if (!chan->pages || !chan->is_open)
		return;
	if (rnd(8))
		write_packet(chan);
	else
		*word(chan, to_child, 4 * rnd(4)) =
			bad_value(to_child ? chan->send_bytes : chan->recv_bytes);
	parent_raise(chan->parent, chan->relid);
}

static void keep_going(struct client *c, const struct vmbus_packet *pkt)
{
	uint32_t i;
	volatile uint8_t sum = 0;

	for (i = 0; i < pkt->len; i++)
		sum = (uint8_t)(sum + pkt->payload[i]);
	for (i = 0; i < pkt->ext_len; i++)
		sum = (uint8_t)(sum + pkt->ext[i]);
	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		(void)vmbus_vsc_complete(c->vsc, pkt->id, pkt->payload, pkt->len % 64);
	(void)client_request(c, "12345678", 8, NULL);
	(void)client_send(c, "12345678", 8);
}

static bool is_open(const struct client *c)
{
	return vmbus_vsc_state(c->vsc) == VMBUS_VSC_OPEN;
}

START_TEST(vsc_run__survives_lies_in_the_rings)
{
	const uint32_t rounds = vmbus_test_full() ? 20000 : 300;
	struct pair s;
	uint32_t round, i;
	unsigned long broken = 0;

	seed = 5 + (uint64_t)_i * 7919;
	pair_init(&s);
	s.p->mem.no_mirror = _i & 1;
	s.chan->on_packet = NULL;
	s.c.on_packet = keep_going;
	s.c.opts.send_bytes = 4096;
	s.c.opts.recv_bytes = 4096u << rnd(4);
	for (round = 0; round < rounds; round++) {
		client_open(&s.c);
		for (i = 0; i < 300 && is_open(&s.c); i++) {
			lie(s.chan);
			(void)client_request(&s.c, "12345678", 8, NULL);
			must(vmbus_guest_dispatch(s.p->guest, 1 + rnd(64)) >= 0);
			must(s.p->mem.private_pages < 200);
		}
		if (is_open(&s.c))
			must_eq(vmbus_vsc_close(s.c.vsc), 0);
		else
			broken++;
		parent_settle(s.p);
		must_eq(s.c.closed, round + 1);
		must_eq(s.c.asked, s.c.completed + s.c.ended);
		must_eq(s.p->mem.shared_pages, 0);
		s.p->now += 100000000;
	}
	must(broken > rounds / 4);
	parent_free(s.p, 0);
}
END_TEST

/* ---- between any two reads ---- */

#if defined(VMBUS_TEST_HOOKS)
static struct parent_chan *hooked;

static void lie_at_load(const volatile void *p)
{
	(void)p;
	if (hooked && rnd(16) == 0)
		lie(hooked);
}

START_TEST(lesson_10_lies_between_any_two_reads)
{
	struct pair s;
	uint32_t round, i;

	seed = 99 + (uint64_t)_i * 7919;
	pair_init(&s);
	s.chan->on_packet = NULL;
	s.c.on_packet = keep_going;
	s.c.opts.send_bytes = 4096;
	s.c.opts.recv_bytes = 8192;
	for (round = 0; round < 100; round++) {
		client_open(&s.c);
		hooked = s.chan;
		vmbus__test_hook = lie_at_load;
		for (i = 0; i < 200 && is_open(&s.c); i++) {
			(void)client_request(&s.c, "12345678", 8, NULL);
			parent_raise(s.p, s.chan->relid);
			must(vmbus_guest_dispatch(s.p->guest, 1 + rnd(64)) >= 0);
		}
		vmbus__test_hook = NULL;
		hooked = NULL;
		if (is_open(&s.c))
			must_eq(vmbus_vsc_close(s.c.vsc), 0);
		parent_settle(s.p);
		must_eq(s.c.closed, round + 1);
		must_eq(s.c.asked, s.c.completed + s.c.ended);
		s.p->now += 100000000;
	}
	parent_free(s.p, 0);
}
END_TEST
#endif

/* ---- faults are told ---- */

START_TEST(vsc_info__tells_how_the_parent_broke_the_ring)
{
	struct vmbus_vsc_info info;
	struct pair s;

	pair_init(&s);
	client_open(&s.c);
	parent_settle(s.p);
	*word(s.chan, true, 0) = 12; /* a write index that is no multiple of 8 */
	parent_raise(s.p, s.chan->relid);
	parent_settle(s.p);
	must_eq(s.c.closed, 1);
	must_eq(vmbus_vsc_state(s.c.vsc), VMBUS_VSC_OFFERED);
	vmbus_vsc_info(s.c.vsc, &info);
	must_eq(info.fault.field, VMBUS_FAULT_WRITE_INDEX_ALIGN);
	must_eq(info.fault.value, 12);
	must_eq(s.p->lines, 1);
	must(strstr(s.p->last_line, "write index") != NULL);
	must_eq(client_send(&s.c, "x", 1), VMBUS_E_FAULT);
	/* It may be opened again, and works. */
	client_open(&s.c);
	vmbus_vsc_info(s.c.vsc, &info);
	must_eq(info.fault.field, VMBUS_FAULT_NONE);
	must_eq(client_request(&s.c, "x", 1, NULL), 0);
	parent_settle(s.p);
	must_eq(s.c.completed, 1);
	/* The other ring. */
	*word(s.chan, false, 4) = 4097;
	while (client_send(&s.c, "12345678", 8) == 1)
		;
	must_eq(client_send(&s.c, "x", 1), VMBUS_E_FAULT);
	must_eq(vmbus_vsc_flush(s.c.vsc), VMBUS_E_FAULT);
	must_eq(client_request(&s.c, "x", 1, NULL), VMBUS_E_FAULT);
	must_eq(vmbus_vsc_complete(s.c.vsc, 1, "x", 1), VMBUS_E_FAULT);
	parent_settle(s.p);
	must_eq(s.c.closed, 2);
	parent_free(s.p, 0);
}
END_TEST

/* A parent that breaks its rings faster than lines are allowed: the rest is counted. */
START_TEST(guest_log__of_broken_rings_is_limited)
{
	struct pair s;
	uint32_t i;

	pair_init(&s);
	for (i = 1; i <= 13; i++) {
		if (i == 13)
			s.p->now += 20000000;
		client_open(&s.c);
		*word(s.chan, true, 0) = 12;
		parent_raise(s.p, s.chan->relid);
		must_eq(vmbus_vsc_wait(s.c.vsc, VMBUS_VSC_OFFERED, PARENT_SECOND), 0);
		must_eq(s.c.closed, i);
		must_eq(client_info(&s.c).fault.field, VMBUS_FAULT_WRITE_INDEX_ALIGN);
		must_eq(s.p->lines, i < 10 ? i : i < 13 ? 10 : 12);
	}
	must(strstr(s.p->last_line, "the parent broke a ring: ") != NULL);
	parent_free(s.p, 0);
}
END_TEST

START_TEST(vsc_dispatch__tells_a_thread_of_a_broken_ring)
{
	struct pair s;

	pair_init(&s);
	s.c.opts.own_thread = _i == 0;
	s.c.opts.poll = _i == 1;
	client_open(&s.c);
	must_eq(client_request(&s.c, "x", 1, NULL), 0);
	*word(s.chan, true, 0) = 12;
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 8), VMBUS_E_PEER);
	must_eq(vmbus_vsc_dispatch(s.c.vsc, 8), _i ? VMBUS_E_PEER : VMBUS_E_STATE);
	must_eq(vmbus_guest_timeout(s.p->guest), 0); /* no wake-up tells the guest to close it */
	parent_settle(s.p);
	must_eq(s.c.ended, 1);
	must_eq(s.c.closed, 1);
	must_eq(s.p->lines, 1);
	parent_free(s.p, 0);
}
END_TEST

/* One packet of these fields, bytes of the ring long. */
static void truncated(struct pair *s, uint32_t type, uint32_t offset8, uint32_t length8,
		      uint32_t bytes)
{
	const uint16_t fields[4] = { (uint16_t)type, (uint16_t)offset8, (uint16_t)length8, 0 };
	uint32_t *in;

	if (!s->c.live)
		client_open(&s->c);
	in = word(s->chan, true, 0);
	memcpy(data_of(s->chan, true, *in), fields, 8);
	*in = (*in + bytes) % 4096;
	parent_raise(s->p, s->chan->relid);
	parent_settle(s->p);
	must(s->c.live || s->c.closed > 0);
	s->p->now += 20000000;
}

/* Every length of a packet, of its header, and of what the index says, under the sanitizers. */
START_TEST(lesson_11_truncated_packets_of_every_length)
{
	uint32_t type, offset8, length8, bytes;
	struct pair s;

	pair_init(&s);
	s.p->mem.no_mirror = true;
	s.chan->on_packet = NULL;
	s.c.on_packet = keep_going;
	s.c.opts.recv_bytes = 4096;
	s.c.opts.send_bytes = 4096;
	for (type = 6; type < 12; type++)
		for (offset8 = 0; offset8 < 5; offset8++)
			for (length8 = 0; length8 < 7; length8++)
				for (bytes = 8; bytes < 64; bytes += 8)
					truncated(&s, type, offset8, length8, bytes);
	must(s.c.closed > 200);
	must(s.c.packets > 50);
	must_eq(s.p->lines, s.c.closed);
	parent_free(s.p, s.c.live ? 4 : 0);
}
END_TEST

/* ---- control messages ---- */

static void mutate(uint8_t *bytes, uint32_t len)
{
	uint32_t n = 1 + rnd(3);

	while (n--)
		bytes[rnd(len)] = (uint8_t)seed;
}

/* A message that the parent's machine made is changed, doubled, cut, or replaced. */
static void lie_in_messages(struct parent *p)
{
	struct parent_msg *msg;
	uint32_t i, len;
	uint8_t bytes[240];

	if (p->inbox_count && rnd(2)) {
		msg = &p->inbox[(p->inbox_first + rnd(p->inbox_count)) % PARENT_INBOX];
		switch (rnd(3)) {
		case 0:
			mutate(msg->payload, msg->bytes ? msg->bytes : 1);
			break;
		case 1:
			msg->bytes = rnd(msg->bytes + 1);
			break;
		default:
			if (p->inbox_count < 100)
				parent_tell(p, msg->payload, msg->bytes);
			break;
		}
		return;
	}
	len = rnd(241);
	memset(bytes, 0, sizeof(bytes));
	bytes[0] = (uint8_t)rnd(30);
	for (i = 8; i < len; i += 1 + rnd(8))
		bytes[i] = rnd(2) ? (uint8_t)rnd(4) : (uint8_t)seed;
	if (p->inbox_count < 100)
		parent_tell(p, bytes, len);
}

static struct client many[8];

static void open_offered(struct parent *p, struct vmbus_vsc *vsc)
{
	uint32_t i;

	for (i = 0; i < 8; i++)
		if (!many[i].vsc)
			break;
	if (i == 8)
		return;
	client_init(&many[i], p, vsc);
	many[i].opts.send_bytes = 4096;
	many[i].opts.recv_bytes = 4096;
	(void)client_begin(&many[i]);
}

static void forget_offered(struct parent *p, struct vmbus_vsc *vsc)
{
	uint32_t i;

	(void)p;
	for (i = 0; i < 8; i++)
		if (many[i].vsc == vsc)
			memset(&many[i], 0, sizeof(many[i]));
}

START_TEST(guest_dispatch__survives_lies_in_messages)
{
	const uint32_t steps = vmbus_test_full() ? 1000000 : 20000;
	struct parent *p = parent_new(0);
	struct vmbus_cli_stats stats;
	uint32_t i;

	seed = 1234 + (uint64_t)_i * 7919;
	memset(many, 0, sizeof(many));
	p->on_offered = open_offered;
	p->on_gone = forget_offered;
	for (i = 0; i < 5; i++)
		(void)parent_offer(p, (uint8_t)i);
	(void)vmbus_guest_connect(p->guest);
	for (i = 0; i < steps; i++) {
		if (rnd(3))
			lie_in_messages(p);
		must(vmbus_guest_dispatch(p->guest, 1 + rnd(8)) >= 0);
		if (rnd(2) && p->inbox_count < 200)
			(void)parent_turn(p);
		p->now += 10000;
		if (rnd(500) == 0)
			vmbus_guest_parent_gone(p->guest);
		if (rnd(100) == 0 && vmbus_guest_state(p->guest) == VMBUS_GUEST_GONE)
			parent_new_guest(p);
		if (rnd(100) == 0 && vmbus_guest_connect(p->guest) == 0)
			vmbus_srv_disconnect(p->srv);
		/* Lists that a liar made us lose are leaked; the test's pages must not run out. */
		if (p->mem.shared_pages > 4000) {
			memset(p->mem.used, 1, p->mem.pages);
			break;
		}
	}
	vmbus_guest_stats(p->guest, &stats);
	must(stats.malformed > 0 && stats.messages > stats.malformed);
	must(p->lines < 40 + p->now / 1000000);
	parent_free(p, PARENT_ANY);
}
END_TEST

START_TEST(lesson_31_a_million_bad_messages_few_lines)
{
	struct parent *p = parent_new(0);
	const uint8_t bad[8] = { 0xFF };
	struct vmbus_cli_stats stats;
	uint32_t i, rounds = vmbus_test_full() ? 10000 : 500;

	parent_connect(p);
	while (rounds--) {
		for (i = 0; i < 100; i++)
			parent_tell(p, bad, i % 9);
		while (vmbus_guest_dispatch(p->guest, 64))
			;
	}
	vmbus_guest_stats(p->guest, &stats);
	must(stats.malformed >= 50000);
	must(p->lines <= 12);
	parent_free(p, 0);
}
END_TEST

/* A backend that says that a message has more bytes than any: what it has not written is not looked at. */
static int receive_more(void *ctx, uint32_t *type, void *payload, uint32_t *bytes)
{
	static const uint8_t zero[VMBUS_CTL_BYTES_MAX];

	memcpy(payload, zero, sizeof(zero));
	if (parent_receive(ctx, type, payload, bytes) != 1)
		return 0;
	*bytes = UINT32_MAX;
	return 1;
}

START_TEST(guest_dispatch__of_messages_longer_than_any)
{
	struct vmbus_cli_stats stats;
	struct parent *p = parent_new(0);

	(void)parent_offer(p, 1);
	p->backend.receive = receive_more;
	parent_connect(p);
	must_eq(p->offered, 1);
	vmbus_guest_stats(p->guest, &stats);
	must_eq(stats.malformed, 0);
	parent_free(p, 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "rings", 60);

	tcase_add_loop_test(tc, vsc_run__survives_lies_in_the_rings, 0, 8);
#if defined(VMBUS_TEST_HOOKS)
	tcase_add_loop_test(tc, lesson_10_lies_between_any_two_reads, 0, 4);
#endif
	tcase_add_test(tc, vsc_info__tells_how_the_parent_broke_the_ring);
	tcase_add_test(tc, guest_log__of_broken_rings_is_limited);
	tcase_add_loop_test(tc, vsc_dispatch__tells_a_thread_of_a_broken_ring, 0, 2);
	tcase_add_test(tc, lesson_11_truncated_packets_of_every_length);
	tc = vmbus_test_case(suite, "messages", 60);
	tcase_add_loop_test(tc, guest_dispatch__survives_lies_in_messages, 0, 8);
	tcase_add_test(tc, guest_dispatch__of_messages_longer_than_any);
	tcase_add_test(tc, lesson_31_a_million_bad_messages_few_lines);
}
VMBUS_TEST_MAIN("guest.hostile", tests)
