/* SPDX-License-Identifier: MIT */
/*
 * Frames from a port to a guest: in receive sections that the port fills by itself, or copied; what the
 * guest wants of them, and what becomes of frames that it has no room for.
 */
#include "frames.h"

static struct netbox b;
static uint8_t frame[NB_FRAME];

/* ---- a port without receive(): its ready() delivers what is in a list ---- */

struct push {
	struct vmbus_frame frame[64];
	struct vmbus_iov piece[64][3];
	uint32_t n, at;
	uint32_t readies;
};

static struct push push;

static void push_ready(struct vmbus_port_queue *queue)
{
	uint64_t count;

	(void)!read(queue->fd, &count, sizeof(count));
	push.readies++;
	push.at += vmbus_port_deliver(queue, push.frame + push.at, push.n - push.at);
}

static struct vmbus_port_ops push_ops;

static void begin_push(void)
{
	nb_prepare(&b);
	push_ops = nb_port_ops;
	push_ops.receive = NULL;
	push_ops.ready = push_ready;
	b.opts.port.ops = &push_ops;
	memset(&push, 0, sizeof(push));
}

static void push_add(const uint8_t *bytes, uint32_t len, uint32_t flags)
{
	push.piece[push.n][0] = (struct vmbus_iov){ bytes, len };
	push.frame[push.n] = (struct vmbus_frame){
		.piece = push.piece[push.n], .pieces = 1, .bytes = len, .flags = flags
	};
	push.n++;
}

static void push_go(void)
{
	const uint64_t one = 1;

	ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
	(void)nb_run(&b, 0);
}

static void to_guest(uint8_t *f, uint32_t len, uint32_t seed)
{
	fr_plain(f, len, seed);
	memcpy(f, fr_guest, 6);
	memcpy(f + 6, fr_other, 6);
}

/* The next message is this frame; returns its per-packet information. */
static const uint8_t *is_next(const uint8_t *f, uint32_t len, uint32_t *ppi_bytes)
{
	const struct nb_message *const m = nb_message(&b);
	uint32_t data;

	must(m != NULL);
	must_eq(m->channel, 0);
	must_eq(nb_32(m->msg), 1);
	must_eq(nb_32(m->msg + 4), m->bytes);
	data = nb_32(m->msg + 8) + 8;
	must_eq(nb_32(m->msg + 12), len);
	must(data + len <= m->bytes);
	must(memcmp(m->msg + data, f, len) == 0);
	if (ppi_bytes)
		*ppi_bytes = nb_32(m->msg + 32);
	return m->msg + 8 + nb_32(m->msg + 28);
}

static void drain_messages(void)
{
	b.taken = b.messages;
}

START_TEST(rx__has_the_port_write_into_sections)
{
	uint32_t len, i;

	nb_prepare(&b);
	nb_start(&b);
	drain_messages();
	for (len = 14; len <= 1514; len += 75) {
		to_guest(b.port.given, len, len);
		nb_give(&b, 0, 3, len);
		(void)nb_run(&b, 0);
		for (i = 0; i < 3; i++)
			(void)is_next(b.port.given, len, NULL);
		ck_assert_ptr_null(nb_message(&b));
	}
	ck_assert_uint_eq(fr_stats(&b).received_frames, 63);
	ck_assert_uint_eq(fr_stats(&b).lent, 0);
	nb_end(&b);
}
END_TEST

START_TEST(rx__copies_what_a_port_delivers)
{
	uint32_t i;

	begin_push();
	nb_start(&b);
	drain_messages();
	for (i = 0; i < 32; i++) {
		to_guest(frame + i * 100, 60 + i, i);
		push_add(frame + i * 100, 60 + i, 0);
	}
	push_go();
	ck_assert_uint_eq(push.at, 32);
	for (i = 0; i < 32; i++)
		(void)is_next(frame + i * 100, 60 + i, NULL);
	ck_assert_uint_eq(fr_stats(&b).received_packets, 1);
	nb_end(&b);
}
END_TEST

START_TEST(rx__packs_small_frames_unless_told_not_to)
{
	const uint32_t flags = _i ? VMBUS_NET_NO_PACK : 0;
	uint32_t i;

	begin_push();
	b.opts.flags = flags;
	nb_start(&b);
	drain_messages();
	b.keep = true;
	for (i = 0; i < 16; i++) {
		to_guest(frame + i * 100, 60, i);
		push_add(frame + i * 100, 60, 0);
	}
	push_go();
	ck_assert_uint_eq(fr_stats(&b).lent, flags ? 16 : 1);
	nb_end(&b);
}
END_TEST

START_TEST(rx__obeys_the_filter)
{
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };
	static const uint8_t many[6] = { 1, 0, 0x5e, 0, 0, 1 };
	static const uint8_t *const to[4] = { fr_guest, fr_other, many, all };
	static const struct {
		uint32_t filter, passes; /* bit i: to[i] */
	} cases[] = { { 0x01, 1 },  { 0x02, 4 },  { 0x04, 4 }, { 0x08, 8 },
		      { 0x0D, 13 }, { 0x20, 15 }, { 0, 0 } };
	uint32_t i, k, want;

	nb_prepare(&b);
	nb_start(&b);
	for (k = 0; k < 7; k++) {
		nb_filter(&b, cases[k].filter);
		drain_messages();
		for (i = 0; i < 4; i++) {
			to_guest(b.port.given, 60, i);
			memcpy(b.port.given, to[i], 6);
			nb_give(&b, 0, 1, 60);
			(void)nb_run(&b, 0);
			want = cases[k].passes >> i & 1;
			ck_assert_uint_eq(b.messages - b.taken, want);
			drain_messages();
			b.port.give = 0;
		}
	}
	ck_assert_uint_gt(fr_stats(&b).filtered, 0);
	nb_end(&b);
}
END_TEST

START_TEST(rx__does_not_ask_a_port_for_frames_that_find_no_section)
{
	uint32_t given, i;

	nb_prepare(&b);
	nb_start(&b);
	drain_messages();
	b.keep = true;
	to_guest(b.port.given, 60, 1);
	nb_give(&b, 0, 10000, 60);
	(void)nb_run(&b, 0); /* and it must come to rest */
	given = 10000 - b.port.give;
	ck_assert_uint_eq(given, b.rx_count - 16);
	ck_assert_uint_eq(fr_stats(&b).lent, given);
	ck_assert_uint_eq(fr_stats(&b).no_room, 0);
	/* A packet comes back, and as many frames as it had sections follow. */
	i = b.messages;
	nb_return(&b, 0, b.message[(i - 1) % NB_MESSAGES].id);
	(void)nb_run(&b, 0);
	ck_assert_uint_gt(b.messages, i);
	nb_end(&b);
}
END_TEST

START_TEST(lesson_22_sections_that_come_back_twice)
{
	uint64_t id;
	uint32_t i;

	begin_push();
	b.opts.flags = VMBUS_NET_NO_PACK;
	nb_start(&b);
	drain_messages();
	b.keep = true;
	to_guest(frame, 60, 1);
	push_add(frame, 60, 0);
	push_go();
	id = b.message[(b.messages - 1) % NB_MESSAGES].id;
	ck_assert_uint_eq(fr_stats(&b).lent, 1);
	for (i = 0; i < 3; i++)
		nb_return(&b, 0, id);
	nb_return(&b, 0, 0);
	nb_return(&b, 0, id + 1);
	nb_return(&b, 0, id + (1ull << 32));
	nb_return(&b, 0, UINT64_MAX);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(fr_stats(&b).lent, 0);
	/* All sections are there, each once. */
	push.n = push.at = 0;
	for (i = 0; i < 64; i++)
		push_add(frame, 60, 0);
	do {
		push.at = 0;
		push_go();
	} while (push.at == 64);
	ck_assert_uint_eq(fr_stats(&b).lent, b.rx_count - 16);
	nb_end(&b);
}
END_TEST

START_TEST(rx__keeps_frames_while_the_ring_is_full)
{
	struct vmbus_packet pkt;
	uint32_t i, got = 0;

	begin_push();
	b.opts.flags = VMBUS_NET_NO_PACK;
	nb_start(&b);
	drain_messages();
	to_guest(frame, 60, 1);
	/* One frame in a packet, until the ring is full: nobody reads it. */
	for (i = 0; i < 2000 && fr_stats(&b).received_packets < 100; i++) {
		const uint64_t one = 1;

		push.n = push.at = 0;
		push_add(frame, 60, 0);
		ck_assert_int_eq(write(b.port.queue[0]->fd, &one, 8), 8);
		fake_run(&b.f);
	}
	while (fake_receive(&b.c[0], &pkt, 1) == 1) {
		got++;
		nb_took(&b, 0, &pkt);
		fake_run(&b.f);
	}
	ck_assert_uint_ge(got, 100);
	ck_assert_uint_eq(got, fr_stats(&b).received_packets);
	ck_assert_uint_eq(fr_stats(&b).no_room, 0);
	nb_end(&b);
}
END_TEST

/* The guest takes large frames, so that a packet is full with a few, and its ring is small. */
static void begin_narrow(void)
{
	uint8_t in[32] = { 0x80, 3, 32, 0 };

	nb_prepare(&b);
	b.caps |= 128;
	nb_begin(&b);
	must_eq(fake_open(&b.f, &b.c[0], NB_UP, 2), 0);
	b.channels = 1;
	nb_steps(&b, 0, NB_STEPS);
	in[22] = in[23] = 2;
	must_eq(nb_set(&b, 0xFC01020C, in, sizeof(in)), 0);
	(void)nb_run(&b, 0);
	to_guest(b.port.given, 60, 1);
}

/* What a port has left, and does not tell of again, is asked for when the ring has room: so many packets are
   in it before some frames that are two. */
START_TEST(rx__asks_the_port_again_when_the_ring_has_room)
{
	uint32_t fill, i, before, left = 0;

	for (fill = 1; fill < 80; fill++) {
		begin_narrow();
		before = b.messages;
		for (i = 0; i < fill; i++) {
			nb_give(&b, 0, b.port.give + 1, 60);
			fake_run(&b.f);
		}
		nb_give(&b, 0, b.port.give + 13, 60);
		fake_run(&b.f);
		left = b.port.give > left ? b.port.give : left;
		for (i = 0; i < 20; i++)
			(void)nb_run(&b, 0);
		ck_assert_uint_eq(b.port.give, 0);
		ck_assert_uint_eq(b.messages - before, fill + 13);
		nb_end(&b);
	}
	ck_assert_uint_gt(left, 0);
}
END_TEST

START_TEST(rx__refuses_frames_that_are_too_long)
{
	begin_push();
	nb_start(&b);
	drain_messages();
	to_guest(frame, 1600, 1);
	push_add(frame, 1515, 0);
	push_add(frame, 1514, 0);
	push_go();
	ck_assert_uint_eq(push.at, 2);
	ck_assert_uint_eq(fr_stats(&b).too_long, 1);
	(void)is_next(frame, 1514, NULL);
	ck_assert_ptr_null(nb_message(&b));
	nb_end(&b);
}
END_TEST

START_TEST(rx__drops_and_counts_when_there_is_no_link)
{
	if (_i)
		begin_push();
	else
		nb_prepare(&b);
	nb_start(&b);
	vmbus_net_link(b.net, false);
	(void)nb_run(&b, 0);
	drain_messages();
	to_guest(frame, 60, 1);
	to_guest(b.port.given, 60, 1);
	push_add(frame, 60, 0);
	nb_give(&b, 0, 1, 60);
	(void)nb_run(&b, 0); /* and it comes to rest */
	ck_assert_uint_eq(b.messages, b.taken);
	ck_assert_uint_eq(fr_stats(&b).stopped, 1);
	nb_end(&b);
}
END_TEST

START_TEST(rx__tells_the_vlan_beside_the_frame)
{
	uint32_t ppi_bytes;
	const uint8_t *ppi;

	begin_push();
	nb_start(&b);
	drain_messages();
	to_guest(frame, 60, 1);
	push_add(frame, 60, VMBUS_FRAME_VLAN);
	push.frame[0].vlan = 5u << 13 | 1u << 12 | 0x123;
	push_go();
	ppi = is_next(frame, 60, &ppi_bytes);
	ck_assert_uint_eq(ppi_bytes, 16);
	ck_assert_uint_eq(nb_32(ppi), 16);
	ck_assert_uint_eq(nb_32(ppi + 4), 6);
	ck_assert_uint_eq(nb_32(ppi + 12), 5u | 1u << 3 | 0x123u << 4);
	nb_end(&b);
}
END_TEST

START_TEST(rx__makes_sums_that_are_due)
{
	const uint32_t protocol = _i ? 6 : 17;
	const struct nb_message *m;
	uint32_t len;

	begin_push();
	nb_start(&b);
	drain_messages();
	len = fr_ipv4(frame, protocol, 501);
	memcpy(frame, fr_guest, 6);
	fr_put16(frame + 34 + (protocol == 6 ? 16 : 6), fr_pseudo4(frame, len - 34));
	push_add(frame, len, VMBUS_FRAME_CSUM);
	push.frame[0].csum_start = 34;
	push.frame[0].csum_offset = protocol == 6 ? 16 : 6;
	push_go();
	m = nb_message(&b);
	must(m != NULL);
	ck_assert(fr_is_summed4(m->msg + 8 + nb_32(m->msg + 8)));
	ck_assert_uint_eq(fr_stats(&b).summed, 1);
	nb_end(&b);
}
END_TEST

/* ---- large frames for a guest that takes them in pieces ---- */

static uint32_t due_flags, due_mss;

static uint32_t due_receive(struct vmbus_port_queue *queue, struct vmbus_port_room *room,
			    uint32_t n)
{
	const uint32_t got = nb_port_receive(queue, room, n);
	uint32_t i;

	for (i = 0; i < got; i++) {
		room[i].flags = due_flags;
		room[i].csum_start = 34;
		room[i].csum_offset = room[i].bytes > 34 && b.port.given[23] == 6 ? 16 : 6;
		room[i].header_bytes = 54;
		room[i].mss = (uint16_t)due_mss;
	}
	return got;
}

static void begin_due(bool large)
{
	nb_prepare(&b);
	push_ops = nb_port_ops;
	push_ops.receive = due_receive;
	b.opts.port.ops = &push_ops;
	if (large)
		b.caps |= 128;
}

static void take_large(void)
{
	uint8_t info[28] = { 0x80, 3, 28 };

	info[22] = info[23] = 2;
	must_eq(nb_set(&b, 0xFC01020C, info, sizeof(info)), 0);
}

START_TEST(rx__makes_sums_that_are_due_in_place)
{
	const uint32_t protocol = _i ? 6 : 17;
	uint32_t payload, len;

	begin_due(false);
	nb_start(&b);
	drain_messages();
	due_flags = VMBUS_FRAME_CSUM;
	for (payload = 0; payload < 1400; payload += 117) {
		const struct nb_message *m;

		len = fr_ipv4(b.port.given, protocol, payload);
		memcpy(b.port.given, fr_guest, 6);
		fr_put16(b.port.given + 34 + (protocol == 6 ? 16 : 6),
			 fr_pseudo4(b.port.given, len - 34));
		nb_give(&b, 0, 2, len);
		(void)nb_run(&b, 0);
		while ((m = nb_message(&b)))
			ck_assert(fr_is_summed4(m->msg + 8 + nb_32(m->msg + 8)));
	}
	ck_assert_uint_eq(fr_stats(&b).summed, 24);
	nb_end(&b);
}
END_TEST

/* The fragments of the one large frame, put together; returns how many there were. */
static uint32_t join(uint8_t *to, uint32_t *len)
{
	const struct nb_message *m;
	uint32_t n = 0, left = b.messages - b.taken;

	for (*len = 0; (m = nb_message(&b)); n++) {
		const uint8_t *ppi = m->msg + 44, *const end = ppi + nb_32(m->msg + 32);
		const uint32_t want = (n ? 0 : 2u) | (n + 1 == left ? 4u : 0) | 1u;
		bool id = false;

		for (; ppi < end; ppi += nb_32(ppi))
			if (nb_32(ppi + 4) == 0x80000001u) {
				ck_assert_uint_eq(ppi[12], 1);
				ck_assert_uint_eq(ppi[13], want);
				id = true;
			} else {
				ck_assert_uint_eq(n, 0);
				/* ok, and never that the value is not what it should be */
				ck_assert_uint_eq(nb_32(ppi + 12) & 128u, 0);
			}
		ck_assert(id);
		memcpy(to + *len, m->msg + 8 + nb_32(m->msg + 8), nb_32(m->msg + 12));
		*len += nb_32(m->msg + 12);
	}
	return n;
}

START_TEST(rx__gives_large_frames_in_fragments)
{
	static const uint32_t sizes[] = { 1900, 5000, 30000, 60000 };
	static uint8_t joined[70000];
	uint32_t i, len, got;

	if (_i)
		begin_push();
	else
		begin_due(true);
	b.caps |= 128;
	nb_start(&b);
	take_large();
	due_flags = VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM;
	due_mss = 1460;
	ck_assert_uint_eq(b.port.config.takes & due_flags, due_flags);
	for (i = 0; i < 4; i++) {
		drain_messages();
		len = fr_ipv4(frame, 6, sizes[i]);
		memcpy(frame, fr_guest, 6);
		fr_put16(frame + 50, fr_pseudo4(frame, len - 34));
		push.n = push.at = 0;
		push_add(frame, len, due_flags);
		push.frame[0].csum_start = 34;
		push.frame[0].csum_offset = 16;
		push.frame[0].header_bytes = 54;
		push.frame[0].mss = 1460;
		memcpy(b.port.given, frame, len);
		nb_give(&b, 0, 1, len);
		(void)nb_run(&b, 0);
		ck_assert_uint_gt(join(joined, &got), 1);
		ck_assert_uint_eq(got, len);
		ck_assert(fr_is_summed4(joined));
		ck_assert(memcmp(joined + 52, frame + 52, len - 52) == 0);
	}
	ck_assert_uint_eq(fr_stats(&b).received_frames, 4);
	ck_assert_uint_eq(fr_stats(&b).lent, 0);
	nb_end(&b);
}
END_TEST

START_TEST(rx__cuts_large_frames_for_a_guest_that_takes_none)
{
	uint32_t len, i, payload = 0;
	const struct nb_message *m;

	begin_push();
	nb_start(&b);
	drain_messages();
	len = fr_ipv4(frame, 6, 10000);
	memcpy(frame, fr_guest, 6);
	fr_put16(frame + 50, fr_pseudo4(frame, len - 34));
	push_add(frame, len, VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM);
	push.frame[0].csum_start = 34;
	push.frame[0].csum_offset = 16;
	push.frame[0].header_bytes = 54;
	push.frame[0].mss = 1460;
	push_go();
	for (i = 0; (m = nb_message(&b)); i++) {
		const uint8_t *const f = m->msg + 8 + nb_32(m->msg + 8);

		ck_assert(fr_is_summed4(f));
		ck_assert(memcmp(f + 54, frame + 54 + payload, nb_32(m->msg + 12) - 54) == 0);
		payload += nb_32(m->msg + 12) - 54;
	}
	ck_assert_uint_eq(i, 7);
	ck_assert_uint_eq(payload, 10000);
	ck_assert_uint_eq(fr_stats(&b).cut, 7);
	nb_end(&b);
}
END_TEST

/* A large frame that is pushed, as TCP is cut by a sender. */
static uint32_t push_large(uint32_t payload, uint32_t mss)
{
	const uint32_t len = fr_ipv4(frame, 6, payload);

	memcpy(frame, fr_guest, 6);
	fr_put16(frame + 50, fr_pseudo4(frame, len - 34));
	push.n = push.at = 0;
	push_add(frame, len, VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM);
	push.frame[0].csum_start = 34;
	push.frame[0].csum_offset = 16;
	push.frame[0].header_bytes = 54;
	push.frame[0].mss = (uint16_t)mss;
	return len;
}

START_TEST(rx__refuses_more_segments_than_a_frame_may_have)
{
	begin_push();
	nb_start(&b);
	drain_messages();
	(void)push_large(8193, 8);
	push_go();
	ck_assert_uint_eq(fr_stats(&b).too_long, 1);
	ck_assert_uint_eq(b.messages, b.taken);
	(void)push_large(1024, 8);
	push_go();
	ck_assert_uint_eq(fr_stats(&b).cut, 128);
	nb_end(&b);
}
END_TEST

/* Fewer sections than one of the largest frames takes: it is cut, and small ones come as ever. */
START_TEST(rx__cuts_large_frames_when_there_are_few_sections)
{
	const uint32_t subs = _i ? 3 : 0;
	uint32_t i;

	begin_push();
	b.caps |= 128;
	b.opts.subchannels = subs;
	b.rx_pages = subs ? 64 : 20;
	nb_start(&b);
	take_large();
	if (subs)
		nb_subs(&b, subs);
	(void)nb_run(&b, 0);
	drain_messages();
	ck_assert_uint_eq(b.port.config.takes & VMBUS_FRAME_TSO4, 0);
	(void)push_large(10000, 1460);
	push_go();
	ck_assert_uint_eq(fr_stats(&b).cut, 7);
	(void)push_large(65400, 1460); /* more segments than sections: the rest is lost */
	push_go();
	ck_assert_uint_eq(push.at, 1);
	drain_messages();
	for (i = 0; i < 100; i++) {
		push.n = push.at = 0;
		to_guest(frame, 60, i);
		push_add(frame, 60, 0);
		push_go();
		(void)is_next(frame, 60, NULL);
	}
	ck_assert_uint_eq(fr_stats(&b).lent, 0);
	nb_end(&b);
}
END_TEST

/* The same with a port that writes by itself: its rooms are of one section each. */
START_TEST(rx__has_small_rooms_when_there_are_few_sections)
{
	uint32_t i;

	begin_due(true);
	due_flags = 0;
	b.rx_pages = 20;
	nb_start(&b);
	take_large();
	(void)nb_run(&b, 0);
	drain_messages();
	for (i = 0; i < 10; i++) {
		to_guest(b.port.given, 60, i);
		nb_give(&b, 0, 10, 60);
		(void)nb_run(&b, 0);
		ck_assert_uint_eq(b.port.give, 0);
		drain_messages();
	}
	ck_assert_uint_eq(fr_stats(&b).received_frames, 100);
	nb_end(&b);
}
END_TEST

/* Longer than the MTU, and nobody says how it would be cut. */
START_TEST(rx__gives_no_long_frame_in_fragments_that_is_no_large_one)
{
	if (_i)
		begin_push();
	else
		begin_due(true);
	b.caps |= 128;
	nb_start(&b);
	take_large();
	drain_messages();
	due_flags = 0;
	to_guest(b.port.given, 5000, 1);
	to_guest(frame, 5000, 1);
	push_add(frame, 5000, 0);
	nb_give(&b, 0, 1, 5000);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(fr_stats(&b).too_long, 1);
	ck_assert_uint_eq(b.messages, b.taken);
	nb_end(&b);
}
END_TEST

/* Sections for answers are there, but the guest has as many packets as it may. */
START_TEST(rx__sends_answers_when_packets_come_back)
{
	uint8_t msg[16] = { 8 }; /* KEEPALIVE */
	uint32_t before;

	nb_prepare(&b);
	b.pages = 4096;
	b.rx_pages = 2100;
	b.opts.flags = VMBUS_NET_NO_PACK;
	push_ops = nb_port_ops;
	push_ops.receive = NULL;
	push_ops.ready = push_ready;
	b.opts.port.ops = &push_ops;
	memset(&push, 0, sizeof(push));
	nb_start(&b);
	drain_messages();
	b.keep = true;
	to_guest(frame, 60, 1);
	while (fr_stats(&b).lent < 4096) {
		push.n = push.at = 0;
		push_add(frame, 60, 0);
		push_go();
	}
	before = b.messages;
	nb_put(msg + 4, 4, 12);
	nb_put(msg + 8, 4, 99);
	ck_assert_uint_eq(nb_rndis(&b, 0, true, msg, 12), 1);
	ck_assert_uint_eq(b.messages, before);
	nb_return(&b, 0, b.message[(before - 1) % NB_MESSAGES].id);
	(void)nb_run(&b, 0);
	ck_assert_uint_eq(b.messages, before + 1);
	ck_assert_uint_eq(nb_32(b.message[before % NB_MESSAGES].msg), 0x80000008u);
	nb_end(&b);
}
END_TEST

START_TEST(rx__goes_on_with_the_smallest_receive_buffer)
{
	uint32_t i;

	nb_prepare(&b);
	b.rx_pages = 4; /* 8 sections */
	b.opts.subchannels = 63;
	nb_start(&b);
	ck_assert_uint_eq(b.rx_count, 8);
	for (i = 0; i < 20; i++)
		(void)nb_number(&b, 0x00010106);
	nb_subs(&b, 3);
	(void)nb_run(&b, 0);
	drain_messages();
	for (i = 0; i < 20; i++) {
		to_guest(b.port.given, 60, i);
		nb_give(&b, 0, 5, 60);
		(void)nb_run(&b, 0);
		ck_assert_uint_eq(b.port.give, 0);
		drain_messages();
	}
	ck_assert_uint_eq(fr_stats(&b).lent, 0);
	nb_end(&b);
}
END_TEST

START_TEST(rx__gives_each_sub_channel_a_section)
{
	uint8_t msg[40] = { 133, 0, 0, 0, 1 };

	nb_prepare(&b);
	b.rx_pages = 5; /* 10 sections, 2 of them for answers */
	b.opts.subchannels = 63;
	nb_start(&b);
	nb_put(msg + 8, 4, 63);
	must(nb_ask(&b, 0, msg, sizeof(msg)));
	ck_assert_uint_eq(nb_32(b.done + 4), 1);
	ck_assert_uint_eq(nb_32(b.done + 8), 7);
	nb_end(&b);
}
END_TEST

START_TEST(rx__refuses_a_receive_buffer_of_too_few_sections)
{
	const uint32_t gpadl = 77;

	nb_prepare(&b);
	b.rx_pages = 3;
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, 3);
	must_eq(fake_share(&b.f, b.c[0].relid, gpadl, b.rx, 3), 0);
	ck_assert_uint_ne(nb_buffer(&b, 101, gpadl), 1);
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "rx", 20);

	tcase_add_test(tc, rx__has_the_port_write_into_sections);
	tcase_add_test(tc, rx__copies_what_a_port_delivers);
	tcase_add_loop_test(tc, rx__packs_small_frames_unless_told_not_to, 0, 2);
	tcase_add_test(tc, rx__obeys_the_filter);
	tcase_add_test(tc, rx__does_not_ask_a_port_for_frames_that_find_no_section);
	tcase_add_test(tc, lesson_22_sections_that_come_back_twice);
	tcase_add_test(tc, rx__keeps_frames_while_the_ring_is_full);
	tcase_add_test(tc, rx__asks_the_port_again_when_the_ring_has_room);
	tcase_add_test(tc, rx__refuses_frames_that_are_too_long);
	tcase_add_loop_test(tc, rx__drops_and_counts_when_there_is_no_link, 0, 2);
	tcase_add_test(tc, rx__tells_the_vlan_beside_the_frame);
	tcase_add_loop_test(tc, rx__makes_sums_that_are_due, 0, 2);
	tcase_add_loop_test(tc, rx__makes_sums_that_are_due_in_place, 0, 2);
	tcase_add_loop_test(tc, rx__gives_large_frames_in_fragments, 0, 2);
	tcase_add_test(tc, rx__cuts_large_frames_for_a_guest_that_takes_none);
	tcase_add_test(tc, rx__refuses_more_segments_than_a_frame_may_have);
	tcase_add_loop_test(tc, rx__cuts_large_frames_when_there_are_few_sections, 0, 2);
	tcase_add_test(tc, rx__has_small_rooms_when_there_are_few_sections);
	tcase_add_loop_test(tc, rx__gives_no_long_frame_in_fragments_that_is_no_large_one, 0, 2);
	tcase_add_test(tc, rx__sends_answers_when_packets_come_back);
	tcase_add_test(tc, rx__goes_on_with_the_smallest_receive_buffer);
	tcase_add_test(tc, rx__gives_each_sub_channel_a_section);
	tcase_add_test(tc, rx__refuses_a_receive_buffer_of_too_few_sections);
}
VMBUS_TEST_MAIN("net.rx", tests)
