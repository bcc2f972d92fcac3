/* SPDX-License-Identifier: MIT */
/* Taps of channels: what is recorded, what is dropped, who may, and when they end. */
#include "bus/bus.h"

#include "capture/tapped.h"

#include <pthread.h>

#define RING 16u /* pages of each ring, control page included */

struct set_up {
	struct fake f;
	struct fake_echo echo;
	struct fake_chan c;
	struct vmbus_chan *chan;
};

static void set_up(struct set_up *s, const struct vmbus_vsp *vsp, bool own_fd)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = own_fd };

	memset(s, 0, sizeof(*s));
	fake_init(&s->f, 256);
	must_eq(vmbus_bus_offer(s->f.bus, vsp, &s->echo, &opts, &s->chan), 0);
	fake_contact(&s->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&s->f, &s->c, 1), 1);
	vmbus_bus_allow_capture(s->f.bus, true);
}

static void open_it(struct set_up *s)
{
	must_eq(fake_open(&s->f, &s->c, RING, RING), 0);
}

static void tear_down(struct set_up *s)
{
	fake_chan_free(&s->c);
	fake_fini(&s->f);
}

START_TEST(chan_tap__refuses_what_cannot_be)
{
	struct set_up s;
	struct tapped t = { 0 }, other = { 0 };
	struct vmbus_tap_opts opts = tapped_opts(&t, 65536), wrong;

	set_up(&s, &fake_echo_vsp, false);
	vmbus_bus_allow_capture(s.f.bus, false);
	must_eq(vmbus_chan_tap(s.chan, &opts), VMBUS_E_PERM);
	vmbus_bus_allow_capture(s.f.bus, true);
	wrong = opts;
	wrong.struct_bytes--;
	must_eq(vmbus_chan_tap(s.chan, &wrong), VMBUS_E_INVAL);
	wrong = opts;
	wrong.mem = NULL;
	must_eq(vmbus_chan_tap(s.chan, &wrong), VMBUS_E_INVAL);
	wrong.mem = (uint8_t *)opts.mem + 8;
	must_eq(vmbus_chan_tap(s.chan, &wrong), VMBUS_E_INVAL);
	wrong = opts;
	wrong.bytes = VMBUS_TAP_BYTES_MIN - 4096;
	must_eq(vmbus_chan_tap(s.chan, &wrong), VMBUS_E_RANGE);
	wrong.bytes = 65536 - 8;
	must_eq(vmbus_chan_tap(s.chan, &wrong), VMBUS_E_RANGE);
	wrong.bytes = (size_t)VMBUS_TAP_BYTES_MAX + 4096;
	must_eq(vmbus_chan_tap(s.chan, &wrong), VMBUS_E_RANGE);
	wrong = opts;
	wrong.snap = VMBUS_CAPTURE_SNAP_MAX + 1;
	must_eq(vmbus_chan_tap(s.chan, &wrong), VMBUS_E_RANGE);
	must_eq(vmbus_chan_tap(s.chan, &opts), 0);
	must_eq(vmbus_chan_tap(s.chan, &opts), VMBUS_E_STATE);
	vmbus_chan_untap(s.chan);
	vmbus_chan_untap(s.chan);
	must_eq(vmbus_chan_tap(s.chan, &opts), VMBUS_E_AGAIN);
	must_eq(t.dones, 0);
	fake_run(&s.f);
	must_eq(t.dones, 1);
	opts = tapped_opts(&other, VMBUS_TAP_BYTES_MIN);
	must_eq(vmbus_chan_tap(s.chan, &opts), 0);
	vmbus_bus_allow_capture(s.f.bus, false); /* ends it */
	fake_run(&s.f);
	must_eq(other.dones, 1);
	tear_down(&s);
	must_eq(t.dones, 1);
	tapped_free(&t);
	tapped_free(&other);
}
END_TEST

static void foreign_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	(void)pkt;
	(void)n;
}

START_TEST(chan_tap__of_a_foreign_channel_is_not_supported)
{
	struct vmbus_vsp vsp = { .struct_bytes = sizeof(vsp),
				 .name = "far",
				 .packets = foreign_packets,
				 .flags = VMBUS_VSP_FOREIGN };
	struct tapped t = { 0 };
	const struct vmbus_tap_opts opts = tapped_opts(&t, 65536);
	struct set_up s;

	vsp.class_id = fake_echo_vsp.class_id;
	set_up(&s, &vsp, false);
	must_eq(vmbus_chan_tap(s.chan, &opts), VMBUS_E_NOTSUP);
	tear_down(&s);
	must_eq(t.dones, 0);
	tapped_free(&t);
}
END_TEST

START_TEST(chan_find__by_relid)
{
	struct set_up s;

	set_up(&s, &fake_echo_vsp, false);
	must(vmbus_chan_find(s.f.bus, s.c.relid) == s.chan);
	must(vmbus_chan_find(s.f.bus, 0) == NULL);
	must(vmbus_chan_find(s.f.bus, s.c.relid + 1) == NULL);
	tear_down(&s);
}
END_TEST

/* One session from the offer to the close, as it is recorded. */
START_TEST(chan_tap__records_opening_packets_and_closing_in_order)
{
	struct vmbus_capture_channel channel;
	struct vmbus_capture_open open;
	struct vmbus_capture_close close;
	struct vmbus_capture_record r;
	struct vmbus_packet pkt[4];
	struct set_up s;
	struct tapped t;
	uint64_t i;

	set_up(&s, &fake_echo_vsp, false);
	tapped_begin(&t, s.chan, 65536, 0);
	open_it(&s);
	for (i = 1; i <= 3; i++)
		must_eq(fake_send(&s.c, i, "abcdefghijklm", 5 + (uint32_t)i), 1);
	fake_run(&s.f);
	must_eq(fake_receive(&s.c, pkt, 4), 3);
	fake_close(&s.f, &s.c);

	r = tapped_expect(&t, VMBUS_CAPTURE_CHANNEL);
	must_eq(vmbus_capture_channel_get(&r, &channel), 0);
	must(vmbus_guid_equal(&channel.class_id, &fake_echo_vsp.class_id));
	must(vmbus_guid_equal(&channel.instance_id, &s.c.instance));
	must_eq(channel.relid, s.c.relid);
	must(strcmp(channel.vsp, "echo") == 0 && strcmp(channel.child, "kid") == 0);
	must_eq(vmbus_capture_open_get(&r, &open), VMBUS_E_INVAL);
	r = tapped_expect(&t, VMBUS_CAPTURE_OPEN);
	must_eq(vmbus_capture_open_get(&r, &open), 0);
	must_eq(open.from_bytes, (RING - 1) * 4096);
	must_eq(open.to_bytes, (RING - 1) * 4096);
	must_eq(open.user[0], 0x5a);
	must_eq(open.user[119], 0xa5);
	must_eq(open.flags, 0);
	for (i = 1; i <= 6; i++) { /* one batch of three, then the answers */
		r = tapped_expect(&t, VMBUS_CAPTURE_PACKET);
		must_eq(r.dir, i <= 3 ? VMBUS_CAPTURE_FROM_CHILD : VMBUS_CAPTURE_TO_CHILD);
		must_eq(r.type, i <= 3 ? VMBUS_PKT_INBAND : VMBUS_PKT_COMPLETION);
		must_eq(r.flags, i <= 3 ? VMBUS_PKT_FLAG_COMPLETE : 0);
		must_eq(r.id, (i - 1) % 3 + 1);
		must_eq(r.batch, 1);
		must_eq(r.ext_len, 0);
		must_eq(r.len, 8);
		must_eq(r.data_len, 8);
		must(memcmp(r.data, "abcdefgh", 5 + (i - 1) % 3 + 1) == 0);
		must_eq(r.dropped, 0);
	}
	r = tapped_expect(&t, VMBUS_CAPTURE_CLOSE);
	must_eq(vmbus_capture_close_get(&r, &close), 0);
	must_eq(close.err, 0);
	must(close.why[0] == 0);
	must_eq(vmbus_tap_reader_next(t.reader, &r), 0);
	tear_down(&s);
	must_eq(t.dones, 1); /* with the end of the channel */
	must_eq(vmbus_tap_reader_next(t.reader, &r), VMBUS_E_STATE);
	tapped_free(&t);
}
END_TEST

/* A tap that comes while the channel is open, and a channel that the device gives up. */
START_TEST(chan_tap__begins_in_the_middle_and_tells_why_it_broke)
{
	struct vmbus_capture_open open;
	struct vmbus_capture_close close;
	struct vmbus_capture_record r;
	struct set_up s;
	struct tapped t;

	set_up(&s, &fake_echo_vsp, false);
	open_it(&s);
	must_eq(fake_send(&s.c, 1, "before", 6), 1);
	fake_run(&s.f);
	tapped_begin(&t, s.chan, 65536, 0);
	tapped_expect(&t, VMBUS_CAPTURE_CHANNEL);
	r = tapped_expect(&t, VMBUS_CAPTURE_OPEN);
	must_eq(vmbus_capture_open_get(&r, &open), 0);
	must_eq(open.flags, VMBUS_CAPTURE_OPEN_ALREADY);
	must_eq(open.user[0], 0x5a);
	vmbus_chan_fail(s.chan, "wanted\x1b by the test");
	fake_run(&s.f);
	r = tapped_expect(&t, VMBUS_CAPTURE_CLOSE);
	must_eq(vmbus_capture_close_get(&r, &close), 0);
	must_eq(close.err, VMBUS_E_PEER);
	must(strcmp(close.why, "wanted? by the test") == 0);
	vmbus_chan_untap(s.chan);
	fake_run(&s.f);
	must_eq(t.dones, 1);
	tear_down(&s);
	tapped_free(&t);
}
END_TEST

static int refuse_open(struct vmbus_chan *chan, void *ctx)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "lost", .len = 4 };

	(void)ctx;
	must_eq(vmbus_chan_send(chan, &msg, 1), 1);
	return VMBUS_E_PERM;
}

START_TEST(chan_tap__a_refused_open_publishes_nothing)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct vmbus_capture_close close;
	struct vmbus_capture_record r;
	struct set_up s;
	struct tapped t;

	vsp.open = refuse_open;
	set_up(&s, &vsp, false);
	tapped_begin(&t, s.chan, 65536, 0);
	must(fake_open(&s.f, &s.c, RING, RING) != 0);
	tapped_expect(&t, VMBUS_CAPTURE_CHANNEL);
	tapped_expect(&t, VMBUS_CAPTURE_OPEN);
	r = tapped_expect(&t, VMBUS_CAPTURE_CLOSE);
	must_eq(vmbus_capture_close_get(&r, &close), 0);
	must_eq(close.err, VMBUS_E_PERM);
	must_eq(vmbus_tap_reader_next(t.reader, &r), 0);
	tear_down(&s);
	tapped_free(&t);
}
END_TEST

START_TEST(chan_tap__keeps_no_more_than_snap)
{
	struct vmbus_capture_record r;
	uint8_t payload[1000];
	struct set_up s;
	struct tapped t;
	int dir;

	memset(payload, 0x77, sizeof(payload));
	set_up(&s, &fake_echo_vsp, false);
	tapped_begin(&t, s.chan, 65536, 98); /* in steps of 8 */
	open_it(&s);
	must_eq(fake_send(&s.c, 9, payload, sizeof(payload)), 1);
	fake_run(&s.f);
	tapped_expect(&t, VMBUS_CAPTURE_CHANNEL);
	tapped_expect(&t, VMBUS_CAPTURE_OPEN); /* bodies are whole */
	for (dir = VMBUS_CAPTURE_FROM_CHILD; dir <= VMBUS_CAPTURE_TO_CHILD; dir++) {
		r = tapped_expect(&t, VMBUS_CAPTURE_PACKET);
		must_eq(r.dir, dir);
		must_eq(r.len, 1000);
		must_eq(r.data_len, 104);
		must(memcmp(r.data, payload, 104) == 0);
	}
	tear_down(&s);
	tapped_free(&t);
}
END_TEST

/* The payload in pieces and a type-specific header, outside of callbacks. */
START_TEST(chan_tap__what_is_sent_in_pieces_is_recorded_as_it_lies_in_the_ring)
{
	const struct vmbus_iov more[2] = { { "cd", 2 }, { "efghi", 5 } };
	const struct vmbus_wire_ext fixed = { .gpadl = 3, .xfer_set = 4 };
	uint8_t ext[16];
	struct vmbus_msg msg = { .type = VMBUS_PKT_ADD_XFER_SET,
				 .id = 77,
				 .data = "ab",
				 .len = 2,
				 .more = more,
				 .more_count = 2,
				 .ext = ext };
	struct vmbus_capture_record r;
	struct vmbus_packet pkt;
	struct set_up s;
	struct tapped t;

	msg.ext_len = (uint32_t)vmbus_wire_ext_put(msg.type, &fixed, ext, sizeof(ext));
	set_up(&s, &fake_echo_vsp, false);
	open_it(&s);
	tapped_begin(&t, s.chan, 65536, 0);
	must_eq(vmbus_chan_send(s.chan, &msg, 1), 1);
	tapped_expect(&t, VMBUS_CAPTURE_CHANNEL);
	tapped_expect(&t, VMBUS_CAPTURE_OPEN);
	r = tapped_expect(&t, VMBUS_CAPTURE_PACKET);
	must_eq(fake_receive(&s.c, &pkt, 1), 1);
	must_eq(r.dir, VMBUS_CAPTURE_TO_CHILD);
	must_eq(r.batch, 0);
	must_eq(r.ext_len, pkt.ext_len);
	must_eq(r.len, pkt.len);
	must_eq(r.data_len, pkt.ext_len + pkt.len);
	must(memcmp(r.data, pkt.ext, pkt.ext_len) == 0);
	must(memcmp(r.data + r.ext_len, "abcdefghi\0\0\0\0\0\0\0", 16) == 0);
	tear_down(&s);
	tapped_free(&t);
}
END_TEST

/* A reader that stops: each record is in the memory or counted, and the channel notices nothing. */
START_TEST(chan_tap__counts_exactly_what_a_slow_reader_loses)
{
	struct vmbus_tap_counts counts;
	struct vmbus_capture_record r;
	struct vmbus_packet pkt[64];
	uint8_t payload[200] = { 0 };
	uint64_t seen = 0, dropped = 0, id, after = 0;
	struct set_up s;
	struct tapped t;
	int got;

	set_up(&s, &fake_echo_vsp, false);
	tapped_begin(&t, s.chan, VMBUS_TAP_BYTES_MIN, 0);
	open_it(&s);
	for (id = 1; id <= 500; id++) {
		must_eq(fake_send(&s.c, id, payload, sizeof(payload)), 1);
		fake_run(&s.f);
		must_eq(fake_receive(&s.c, pkt, 64), 1);
	}
	vmbus_tap_reader_counts(t.reader, &counts);
	must_eq(counts.records + counts.dropped, 2 + 1000);
	must(counts.dropped > 900);
	must(!counts.ended);
	while ((got = vmbus_tap_reader_next(t.reader, &r)) == 1) {
		seen++;
		dropped += r.dropped;
	}
	must_eq(got, 0);
	must_eq(seen, counts.records);
	must_eq(dropped, 0);
	/* From here on the reader follows: the next record tells of the loss. */
	must_eq(fake_send(&s.c, id, payload, sizeof(payload)), 1);
	fake_run(&s.f);
	while (vmbus_tap_reader_next(t.reader, &r) == 1) {
		must_eq(r.dropped, after++ ? 0 : counts.dropped);
		must_eq(r.id, 501);
	}
	must_eq(after, 2);
	must_eq(fake_receive(&s.c, pkt, 64), 1);
	must_eq(pkt[0].id, 501);
	tear_down(&s);
	tapped_free(&t);
}
END_TEST

/* A reader that sleeps is woken once for what comes; one that lies loses its tap and nobody else. */
START_TEST(tap_reader__sleeps_and_is_woken_once_a_batch)
{
	struct vmbus_capture_record r;
	struct set_up s;
	struct tapped t;
	uint64_t id;

	set_up(&s, &fake_echo_vsp, false);
	tapped_begin(&t, s.chan, 65536, 0);
	open_it(&s);
	must_eq(vmbus_tap_reader_arm(t.reader), 1);
	while (vmbus_tap_reader_next(t.reader, &r) == 1)
		;
	must_eq(vmbus_tap_reader_arm(t.reader), 0);
	t.wakes = 0; /* the first record was there before the reader */
	for (id = 1; id <= 10; id++)
		must_eq(fake_send(&s.c, id, "x", 1), 1);
	fake_run(&s.f);
	must_eq(t.wakes, 1); /* the batch; its answers found the reader awake */
	must_eq(vmbus_tap_reader_arm(t.reader), 1);
	while (vmbus_tap_reader_next(t.reader, &r) == 1)
		;
	must_eq(vmbus_tap_reader_arm(t.reader), 0);
	vmbus_chan_untap(s.chan);
	fake_run(&s.f);
	must_eq(t.wakes, 2);
	must_eq(vmbus_tap_reader_arm(t.reader), 1);
	must_eq(vmbus_tap_reader_next(t.reader, &r), VMBUS_E_STATE);
	tear_down(&s);
	tapped_free(&t);
}
END_TEST

START_TEST(chan_tap__a_lying_reader_harms_only_its_tap)
{
	struct vmbus_tap_counts counts;
	struct vmbus_packet pkt[4];
	struct set_up s;
	struct tapped t;
	uint64_t id;

	set_up(&s, &fake_echo_vsp, false);
	tapped_begin(&t, s.chan, VMBUS_TAP_BYTES_MIN, 0);
	open_it(&s);
	memset((uint8_t *)t.mem + 4096, 0xff, 64); /* the ring's indices */
	for (id = 1; id <= 200; id++) {
		must_eq(fake_send(&s.c, id, "12345678", 8), 1);
		fake_run(&s.f);
		must_eq(fake_receive(&s.c, pkt, 4), 1);
	}
	vmbus_tap_reader_counts(t.reader, &counts);
	must_eq(counts.records + counts.dropped, 2 + 400);
	must(counts.dropped > 300);
	vmbus_chan_untap(s.chan);
	fake_run(&s.f);
	must_eq(t.dones, 1);
	tear_down(&s);
	tapped_free(&t);
}
END_TEST

START_TEST(tap_reader_create__distrusts_the_memory)
{
	struct vmbus_tap_reader *reader;
	struct vmbus_capture_record r;
	struct set_up s;
	struct tapped t;
	uint32_t *page;

	set_up(&s, &fake_echo_vsp, false);
	tapped_begin(&t, s.chan, 65536, 0);
	page = t.mem;
	must_eq(vmbus_tap_reader_create(NULL, 65536, &reader), VMBUS_E_INVAL);
	must_eq(vmbus_tap_reader_create((uint8_t *)t.mem + 8, 65528, &reader), VMBUS_E_INVAL);
	must_eq(vmbus_tap_reader_create(t.mem, 8192, &reader), VMBUS_E_INVAL);
	must_eq(vmbus_tap_reader_create(t.mem, 61440, &reader), VMBUS_E_PEER);
	must(reader == NULL);
	page[0]++;
	must_eq(vmbus_tap_reader_create(t.mem, 65536, &reader), VMBUS_E_INVAL);
	page[0]--;
	page[2] = 4097;
	must_eq(vmbus_tap_reader_create(t.mem, 65536, &reader), VMBUS_E_PEER);
	/* A record that is none: its version. */
	((uint8_t *)t.mem)[8192 + 16 + 16]++;
	must_eq(vmbus_tap_reader_next(t.reader, &r), VMBUS_E_PEER);
	must_eq(vmbus_tap_reader_next(t.reader, &r), VMBUS_E_FAULT);
	must_eq(vmbus_tap_reader_arm(t.reader), VMBUS_E_FAULT);
	tear_down(&s);
	tapped_free(&t);
}
END_TEST

struct dispatcher {
	struct vmbus_chan *chan;
	pthread_t thread;
	int stop;
};

static void *dispatch_chan(void *arg)
{
	struct dispatcher *d = arg;

	while (!__atomic_load_n(&d->stop, __ATOMIC_ACQUIRE)) {
		struct pollfd p = { .fd = vmbus_chan_fd(d->chan), .events = POLLIN };

		(void)poll(&p, 1, 1);
		(void)vmbus_chan_dispatch(d->chan, 64);
	}
	return NULL;
}

#define wait_for(f, cond)                                                                          \
	do {                                                                                       \
		const uint64_t end_ = fake_now_ns() + 10000000000u;                                \
		while (!(cond)) {                                                                  \
			fake_run(f);                                                               \
			must(fake_now_ns() < end_);                                                \
		}                                                                                  \
	} while (0)

/* A channel on a thread of its own: taps come and go while packets pass. */
START_TEST(chan_tap__of_a_channel_with_a_thread_of_its_own)
{
	struct vmbus_capture_record r;
	struct vmbus_packet pkt[64];
	struct dispatcher d = { 0 };
	struct vmbus_ctl ctl;
	struct set_up s;
	struct tapped t;
	uint32_t round;
	uint64_t id = 0, last;
	int got;

	set_up(&s, &fake_echo_vsp, true);
	d.chan = s.chan;
	must_eq(pthread_create(&d.thread, NULL, dispatch_chan, &d), 0);
	fake_rings(&s.f, &s.c, RING, RING);
	s.c.gpadl = s.f.next_gpadl++;
	must_eq(fake_share(&s.f, s.c.relid, s.c.gpadl, s.c.first, 2 * RING), 0);
	fake_post_open(&s.f, &s.c, 0);
	wait_for(&s.f, s.f.posted > s.f.taken);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	for (round = 0; round < 20; round++) {
		uint64_t first = id + 1;

		tapped_begin(&t, s.chan, 65536, 0);
		wait_for(&s.f, (got = vmbus_tap_reader_next(t.reader, &r)) != 0);
		must_eq(got, 1);
		must_eq(r.kind, VMBUS_CAPTURE_CHANNEL);
		last = id + 10;
		while (id < last)
			must_eq(fake_send(&s.c, ++id, &id, 8), 1);
		for (got = 0; got < 10;)
			wait_for(&s.f, (got += fake_receive(&s.c, pkt, 64)) >= 10);
		while (first <= last) {
			wait_for(&s.f, (got = vmbus_tap_reader_next(t.reader, &r)) != 0);
			must_eq(got, 1);
			if (r.kind == VMBUS_CAPTURE_PACKET && r.dir == VMBUS_CAPTURE_TO_CHILD)
				must_eq(r.id, first++);
		}
		vmbus_chan_untap(s.chan);
		wait_for(&s.f, __atomic_load_n(&t.dones, __ATOMIC_RELAXED) == 1);
		tapped_free(&t);
	}
	__atomic_store_n(&d.stop, 1, __ATOMIC_RELEASE);
	must_eq(pthread_join(d.thread, NULL), 0);
	/* Nobody dispatches it now: the end of the bus ends the tap. */
	memset(&t, 0, sizeof(t));
	{
		const struct vmbus_tap_opts opts = tapped_opts(&t, 65536);

		must_eq(vmbus_chan_tap(s.chan, &opts), 0);
	}
	vmbus_chan_untap(s.chan);
	fake_run(&s.f);
	must_eq(t.dones, 0);
	tear_down(&s);
	must_eq(t.dones, 1);
	tapped_free(&t);
}
END_TEST

/* A channel whose thread does not come any more: its tap holds nobody up. */
START_TEST(chan_tap__does_not_keep_a_bus_from_ending)
{
	struct vmbus_tap_opts opts;
	struct tapped t = { 0 };
	struct set_up s;

	set_up(&s, &fake_echo_vsp, true);
	opts = tapped_opts(&t, 65536);
	must_eq(vmbus_chan_tap(s.chan, &opts), 0);
	vmbus_chan_untap(s.chan);
	fake_run(&s.f);
	must_eq(t.dones, 0);
	must_eq(vmbus_bus_end(s.f.bus), 0);
	must_eq(t.dones, 1);
	s.f.bus = NULL;
	tear_down(&s);
	tapped_free(&t);
}
END_TEST

/* The bus acts while the channel's thread is in its first record of a tap. */
struct race {
	struct set_up *s;
	struct tapped t;
	unsigned int wakes;
};

static void untap_in_wake(void *ctx)
{
	struct race *const r = ctx;

	if (r->wakes++)
		return;
	vmbus_chan_untap(r->s->chan);
	(void)vmbus_bus_dispatch(r->s->f.bus, 64);
	must_eq(r->t.dones, 0); /* its memory is in use */
}

static void done_of_race(void *ctx)
{
	((struct race *)ctx)->t.dones++;
}

/* An answer of the tap before comes late: it says nothing of this one. */
START_TEST(chan_tap__is_not_freed_by_an_older_answer)
{
	struct set_up s;
	struct tapped first = { 0 };
	struct race r = { .s = &s };
	struct vmbus_tap_opts opts;

	set_up(&s, &fake_echo_vsp, true);
	opts = tapped_opts(&first, 65536);
	must_eq(vmbus_chan_tap(s.chan, &opts), 0);
	(void)vmbus_chan_dispatch(s.chan, 64);
	vmbus_chan_untap(s.chan);
	(void)vmbus_chan_dispatch(s.chan, 64);
	fake_run(&s.f);
	must_eq(first.dones, 1);
	opts = tapped_opts(&r.t, 65536);
	opts.wake = untap_in_wake;
	opts.done = done_of_race;
	opts.ctx = &r;
	must_eq(vmbus_chan_tap(s.chan, &opts), 0);
	vmbus__chan_answer(s.chan, VMBUS__ANS_TAP); /* as if its thread had stopped before it */
	(void)vmbus_chan_dispatch(s.chan, 64);
	must(r.wakes > 0);
	(void)vmbus_chan_dispatch(s.chan, 64);
	fake_run(&s.f);
	must_eq(r.t.dones, 1);
	tear_down(&s);
	free(first.mem);
	free(r.t.mem);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "tap", 30);

	tcase_add_test(tc, chan_tap__refuses_what_cannot_be);
	tcase_add_test(tc, chan_tap__of_a_foreign_channel_is_not_supported);
	tcase_add_test(tc, chan_find__by_relid);
	tcase_add_test(tc, chan_tap__records_opening_packets_and_closing_in_order);
	tcase_add_test(tc, chan_tap__begins_in_the_middle_and_tells_why_it_broke);
	tcase_add_test(tc, chan_tap__a_refused_open_publishes_nothing);
	tcase_add_test(tc, chan_tap__keeps_no_more_than_snap);
	tcase_add_test(tc, chan_tap__what_is_sent_in_pieces_is_recorded_as_it_lies_in_the_ring);
	tcase_add_test(tc, chan_tap__counts_exactly_what_a_slow_reader_loses);
	tcase_add_test(tc, tap_reader__sleeps_and_is_woken_once_a_batch);
	tcase_add_test(tc, chan_tap__a_lying_reader_harms_only_its_tap);
	tcase_add_test(tc, tap_reader_create__distrusts_the_memory);
	tcase_add_test(tc, chan_tap__of_a_channel_with_a_thread_of_its_own);
	tcase_add_test(tc, chan_tap__does_not_keep_a_bus_from_ending);
	tcase_add_test(tc, chan_tap__is_not_freed_by_an_older_answer);
}

VMBUS_TEST_MAIN("capture.tap", tests)
