/* SPDX-License-Identifier: MIT */
/* The echo device: its client against its provider, over a bus and a guest in one thread. */
#include "loop.h"

#include <vmbus/echo.h>

static const struct vmbus_guid echo_class = VMBUS_ECHO_CLASS;

static struct {
	unsigned long calls;
	int err;
	struct vmbus_echo *echo;
	const struct vmbus_echo_opts *again;
} ended;

static void done(void *ctx, int err)
{
	(void)ctx;
	ended.calls++;
	ended.err = err;
	if (ended.again) {
		const struct vmbus_echo_opts *again = ended.again;

		ended.again = NULL;
		must_eq(vmbus_echo_again(ended.echo, again), 0);
	}
}

static struct loop *echo_loop(uint32_t count)
{
	struct loop *l = loop_new(NULL, NULL);

	memset(&ended, 0, sizeof(ended));
	while (count--)
		must_eq(vmbus_bus_offer(l->bus, vmbus_echo_vsp(), NULL, NULL, NULL), 0);
	loop_connect(l);
	return l;
}

static struct vmbus_echo_opts echo_opts(uint64_t packets, uint32_t payload, uint32_t window)
{
	struct vmbus_echo_opts opts = { .struct_bytes = sizeof(opts) };

	opts.packets = packets;
	opts.payload = payload;
	opts.window = window;
	opts.done = done;
	opts.open.struct_bytes = sizeof(opts.open);
	return opts;
}

static struct vmbus_vsc *nth(struct loop *l, uint32_t n)
{
	struct vmbus_vsc *vsc = vmbus_vsc_find(l->guest, &echo_class, n);

	must(vsc != NULL);
	return vsc;
}

static void close_it(struct vmbus_echo *echo, struct vmbus_vsc *vsc)
{
	must_eq(vmbus_vsc_close(vsc), 0);
	must_eq(vmbus_vsc_wait(vsc, VMBUS_VSC_OFFERED, LOOP_SECOND), 0);
	must(echo->done);
}

static void all_right(const struct vmbus_echo *echo, uint64_t packets)
{
	must(echo->done);
	must_eq(echo->err, 0);
	must_eq(echo->sent, packets);
	must_eq(echo->received, packets);
	must_eq(echo->wrong, 0);
}

/* Every payload, small rings and windows that are larger than they: nothing is lost. */
START_TEST(echo_start__sends_and_checks)
{
	static const uint32_t windows[] = { 1, 2, 64, 1000 };
	static const uint32_t payloads[] = { 16, 24, 64, 1024, 2048, 4000, 4096 };
	static const uint32_t rings[] = { 0, 4096, 8192 };
	struct loop *l = echo_loop(1);
	uint32_t w, p, r;

	for (w = 0; w < 4; w++)
		for (p = 0; p < 7; p++)
			for (r = 0; r < 3; r++) {
				struct vmbus_echo_opts o = echo_opts(3000, payloads[p], windows[w]);
				struct vmbus_echo echo;
				int err;

				vmbus_test_at("window %u, payload %u, ring %u", windows[w],
					      payloads[p], rings[r]);
				o.completions = _i;
				o.open.send_bytes = o.open.recv_bytes = rings[r];
				err = vmbus_echo_start(&echo, nth(l, 0), &o);
				if (payloads[p] == 4096 && rings[r] == 4096) {
					must_eq(err, VMBUS_E_RANGE);
					continue;
				}
				must_eq(err, 0);
				loop_settle(l);
				all_right(&echo, 3000);
				close_it(&echo, nth(l, 0));
			}
	loop_free(l);
}
END_TEST

/* The ring to the child is smaller than the one from it, so the provider has to keep packets. */
START_TEST(echo_vsp__keeps_what_finds_the_ring_full)
{
	struct loop *l = echo_loop(1);
	struct vmbus_echo_opts o = echo_opts(20000, 512, 2000);
	struct vmbus_echo echo;

	o.completions = _i;
	o.open.send_bytes = 1u << 20;
	o.open.recv_bytes = 4096;
	must_eq(vmbus_echo_start(&echo, nth(l, 0), &o), 0);
	loop_settle(l);
	all_right(&echo, 20000);
	loop_free(l); /* without a close: the provider lets go of what it keeps */
}
END_TEST

START_TEST(echo_vsp__frees_what_it_keeps)
{
	struct loop *l = echo_loop(1);
	struct vmbus_echo_opts o = echo_opts(20000, 512, 2000);
	struct vmbus_echo echo;
	uint32_t i;

	o.open.send_bytes = 1u << 20;
	o.open.recv_bytes = 4096;
	must_eq(vmbus_echo_start(&echo, nth(l, 0), &o), 0);
	must_eq(vmbus_vsc_wait(nth(l, 0), VMBUS_VSC_OPEN, LOOP_SECOND), 0);
	for (i = 0; i < 5; i++) /* the child does not read */
		must(vmbus_bus_dispatch(l->bus, LOOP_BUDGET) >= 0);
	must(!echo.done);
	must_eq(vmbus_vsc_close(nth(l, 0)), 0);
	loop_settle(l);
	must_eq(ended.calls, 1);
	must_eq(ended.err, VMBUS_E_PEER);
	loop_free(l);
}
END_TEST

START_TEST(echo_start__refuses)
{
	struct loop *l = echo_loop(1);
	struct vmbus_echo_opts o = echo_opts(1, 64, 1);
	struct vmbus_echo echo;
	struct vmbus_vsc *vsc = nth(l, 0);

	o.struct_bytes = 8;
	must_eq(vmbus_echo_start(&echo, vsc, &o), VMBUS_E_INVAL);
	o = echo_opts(1, 12, 1);
	must_eq(vmbus_echo_start(&echo, vsc, &o), VMBUS_E_RANGE);
	o = echo_opts(1, 8, 1);
	must_eq(vmbus_echo_start(&echo, vsc, &o), VMBUS_E_RANGE);
	o = echo_opts(1, VMBUS_ECHO_PAYLOAD_MAX + 8, 1);
	must_eq(vmbus_echo_start(&echo, vsc, &o), VMBUS_E_RANGE);
	o = echo_opts(UINT64_MAX, 64, 1);
	must_eq(vmbus_echo_start(&echo, vsc, &o), VMBUS_E_RANGE);
	o = echo_opts(1, 64, 70000);
	must_eq(vmbus_echo_start(&echo, vsc, &o), 0);
	must_eq(vmbus_echo_start(&echo, vsc, &o), VMBUS_E_STATE);
	loop_settle(l);
	all_right(&echo, 1);
	close_it(&echo, vsc);
	o.completions = true;
	must_eq(vmbus_echo_start(&echo, vsc, &o), VMBUS_E_RANGE);
	o = echo_opts(1, 64, 1);
	o.subchannels = VMBUS_ECHO_SUBCHANNELS_MAX + 1;
	must_eq(vmbus_echo_start(&echo, vsc, &o), VMBUS_E_RANGE);
	o = echo_opts(1, 64, 1);
	o.open.struct_bytes = 1;
	must_eq(vmbus_echo_start(&echo, vsc, &o), VMBUS_E_INVAL);
	o = echo_opts(1, 64, 1);
	o.open.send_bytes = 4095;
	must_eq(vmbus_echo_start(&echo, vsc, &o), VMBUS_E_RANGE);
	loop_free(l);
}
END_TEST

START_TEST(echo_again__sends_another_series)
{
	struct loop *l = echo_loop(1);
	struct vmbus_echo_opts o = echo_opts(500, 64, 16), next = echo_opts(700, 128, 8);
	struct vmbus_echo echo;

	must_eq(vmbus_echo_start(&echo, nth(l, 0), &o), 0);
	must_eq(vmbus_echo_again(&echo, &next), VMBUS_E_STATE); /* not done */
	loop_settle(l);
	all_right(&echo, 500);
	next.struct_bytes = 0;
	must_eq(vmbus_echo_again(&echo, &next), VMBUS_E_INVAL);
	next = echo_opts(700, 20, 8);
	must_eq(vmbus_echo_again(&echo, &next), VMBUS_E_RANGE);
	next = echo_opts(700, 128, 8);
	must_eq(vmbus_echo_again(&echo, &next), 0);
	loop_settle(l);
	all_right(&echo, 700);
	next.completions = true;
	ended.echo = &echo; /* a third from done() of the second */
	ended.again = &o;
	must_eq(vmbus_echo_again(&echo, &next), 0);
	loop_settle(l);
	all_right(&echo, 500);
	must_eq(ended.calls, 4);
	close_it(&echo, nth(l, 0));
	must_eq(vmbus_echo_again(&echo, &o), VMBUS_E_STATE); /* closed */
	loop_free(l);
}
END_TEST

START_TEST(echo_start__tells_when_the_channel_ends)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_echo_opts o = echo_opts(1000000000, 64, 16);
	struct vmbus_chan *chan;
	struct vmbus_echo echo;
	uint32_t i;

	memset(&ended, 0, sizeof(ended));
	must_eq(vmbus_bus_offer(l->bus, vmbus_echo_vsp(), NULL, NULL, &chan), 0);
	loop_connect(l);
	must_eq(vmbus_echo_start(&echo, nth(l, 0), &o), 0);
	for (i = 0; i < 200; i++) {
		must(vmbus_guest_dispatch(l->guest, 16) >= 0);
		(void)loop_bus_turn(l);
	}
	must(echo.received > 100);
	must(!echo.done);
	must_eq(vmbus_bus_revoke(chan), 0);
	loop_settle(l);
	must_eq(ended.calls, 1);
	must_eq(ended.err, VMBUS_E_PEER);
	must_eq(echo.wrong, 0);
	loop_free(l);
}
END_TEST

START_TEST(echo_start__polls)
{
	struct loop *l = echo_loop(1);
	struct vmbus_echo_opts o = echo_opts(5000, 64, 16);
	struct vmbus_vsc *vsc = nth(l, 0);
	struct vmbus_echo echo;
	uint32_t i;

	o.open.poll = true;
	must_eq(vmbus_echo_start(&echo, vsc, &o), 0);
	must_eq(vmbus_vsc_wait(vsc, VMBUS_VSC_OPEN, LOOP_SECOND), 0);
	for (i = 0; i < 100000 && !echo.done; i++) {
		(void)loop_bus_turn(l);
		must(vmbus_vsc_dispatch(vsc, 64) >= 0);
	}
	all_right(&echo, 5000);
	close_it(&echo, vsc);
	loop_free(l);
}
END_TEST

#define SUBS 7u

START_TEST(echo_vsp__offers_subchannels)
{
	struct loop *l = echo_loop(3);
	struct vmbus_echo_opts o = echo_opts(2000, 64, 16);
	static struct vmbus_echo echo[3][SUBS + 1];
	uint32_t i, s;

	o.subchannels = SUBS;
	for (i = 0; i < 3; i++)
		must_eq(vmbus_echo_start(&echo[i][0], nth(l, i), &o), 0);
	loop_settle(l);
	o.subchannels = 3; /* of no effect on a sub-channel */
	for (i = 0; i < 3; i++)
		for (s = 1; s <= SUBS; s++) {
			struct vmbus_vsc *sub = vmbus_vsc_subchannel(nth(l, i), s);

			must(sub != NULL);
			must_eq(vmbus_echo_start(&echo[i][s], sub, &o), 0);
		}
	must(vmbus_vsc_subchannel(nth(l, 0), SUBS + 1) == NULL);
	loop_settle(l);
	for (i = 0; i < 3; i++)
		for (s = 0; s <= SUBS; s++)
			all_right(&echo[i][s], 2000);
	close_it(&echo[1][0], nth(l, 1)); /* its sub-channels go with it */
	loop_settle(l);
	must_eq(l->gone, SUBS);
	loop_free(l);
}
END_TEST

/* ---- a parent that lies ---- */

enum lie {
	DROP_BYTE,
	SWAP,
	TWICE,
	SHORT,
	UNASKED,
	REPLAY
};
static enum lie lie;
static uint8_t held[64];
static bool have;

static void reply(struct vmbus_chan *chan, const void *data, uint32_t len)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data, .len = len };

	must_eq(vmbus_chan_send(chan, &msg, 1), 1);
}

static void liar(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	uint8_t copy[64];

	must_eq(pkt->len, 64);
	memcpy(copy, pkt->payload, 64);
	switch (lie) {
	case DROP_BYTE:
		copy[63] ^= copy[0] == 5 ? 1 : 0;
		reply(chan, copy, 64);
		break;
	case SWAP:
		if (have) {
			reply(chan, copy, 64);
			reply(chan, held, 64);
		} else {
			memcpy(held, copy, 64);
		}
		have = !have;
		break;
	case TWICE:
	case UNASKED:
		reply(chan, copy, 64);
		reply(chan, copy, 64);
		break;
	case SHORT:
		reply(chan, copy, 56);
		break;
	case REPLAY:
		if (!have)
			memcpy(held, copy, 64);
		have = true;
		reply(chan, held, 64);
		break;
	}
}

static void liar_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, liar);
}

static const struct vmbus_vsp liar_vsp = {
	.struct_bytes = sizeof(liar_vsp),
	.name = "liar",
	.class_id = VMBUS_ECHO_CLASS,
	.packets = liar_packets,
};

START_TEST(echo_start__counts_what_is_wrong)
{
	static const struct {
		enum lie lie;
		uint32_t packets, window, sent, received, wrong;
	} t[] = {
		{ DROP_BYTE, 10, 4, 10, 9, 1 }, { SWAP, 10, 4, 10, 0, 10 },
		{ TWICE, 2, 2, 2, 1, 1 },	{ SHORT, 3, 1, 3, 0, 3 },
		{ UNASKED, 9, 1, 1, 1, 1 },
	};
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_echo_opts o = echo_opts(t[_i].packets, 64, t[_i].window);
	struct vmbus_echo echo;

	memset(&ended, 0, sizeof(ended));
	lie = t[_i].lie;
	must_eq(vmbus_bus_offer(l->bus, &liar_vsp, NULL, NULL, NULL), 0);
	loop_connect(l);
	must_eq(vmbus_echo_start(&echo, nth(l, 0), &o), 0);
	loop_settle(l);
	must_eq(ended.calls, 1);
	must_eq(ended.err, VMBUS_E_PEER);
	must_eq(echo.sent, t[_i].sent);
	must_eq(echo.received, t[_i].received);
	must_eq(echo.wrong, t[_i].wrong);
	loop_free(l);
}
END_TEST

/* What was right in one series is wrong in the next. */
START_TEST(echo_again__knows_its_own_packets)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_echo_opts o = echo_opts(1, 64, 1);
	struct vmbus_echo echo;

	lie = REPLAY;
	have = false;
	must_eq(vmbus_bus_offer(l->bus, &liar_vsp, NULL, NULL, NULL), 0);
	loop_connect(l);
	must_eq(vmbus_echo_start(&echo, nth(l, 0), &o), 0);
	loop_settle(l);
	all_right(&echo, 1);
	must_eq(vmbus_echo_again(&echo, &o), 0);
	loop_settle(l);
	must_eq(echo.wrong, 1);
	must_eq(echo.err, VMBUS_E_PEER);
	loop_free(l);
}
END_TEST

/* ---- a parent that takes its time ---- */

#define HOARD 60u /* more than a ring of 4096 bytes holds, less than half of the window */

static uint8_t hoard[HOARD][64];
static uint32_t hoarded;

static void hoarder(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	uint32_t i;

	memcpy(hoard[hoarded++], pkt->payload, 64);
	for (i = 0; hoarded == HOARD && i < HOARD; i++)
		reply(chan, hoard[i], 64);
	hoarded %= HOARD;
}

static void hoarder_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, hoarder);
}

static const struct vmbus_vsp hoarder_vsp = {
	.struct_bytes = sizeof(hoarder_vsp),
	.name = "hoarder",
	.class_id = VMBUS_ECHO_CLASS,
	.packets = hoarder_packets,
};

/* Nothing comes back before more than the ring holds was sent. */
START_TEST(echo_start__goes_on_when_there_is_room)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_echo_opts o = echo_opts(10 * HOARD, 64, 3 * HOARD);
	struct vmbus_echo echo;

	hoarded = 0;
	o.open.send_bytes = 4096;
	o.open.recv_bytes = 65536;
	must_eq(vmbus_bus_offer(l->bus, &hoarder_vsp, NULL, NULL, NULL), 0);
	loop_connect(l);
	must_eq(vmbus_echo_start(&echo, nth(l, 0), &o), 0);
	loop_settle(l);
	all_right(&echo, 10 * HOARD);
	loop_free(l);
}
END_TEST

/* ---- a child that lies ---- */

static void raw_open(struct loop *l, struct vmbus_vsc_opts *opts)
{
	opts->struct_bytes = sizeof(*opts);
	must_eq(vmbus_vsc_open(nth(l, 0), opts), 0);
	loop_settle(l);
}

static uint32_t raw_came;

static void raw_packets(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)vsc;
	(void)pkt;
	raw_came += n;
}

START_TEST(echo_vsp__ignores_what_asks_for_nothing)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_vsc_opts opts = { .packets = raw_packets };
	struct vmbus_chan_info info;
	struct vmbus_chan *chan;
	uint8_t ext[8] = { 0 };
	const uint64_t data = 1;
	const struct vmbus_msg msg[] = {
		{ .type = VMBUS_PKT_COMPLETION, .id = 77, .data = &data, .len = 8 },
		{ .type = VMBUS_PKT_GPA_DIRECT, .ext = ext, .ext_len = 8, .data = &data, .len = 8 },
		{ .type = VMBUS_PKT_INBAND, .data = &data, .len = 8 },
	};

	raw_came = 0;
	must_eq(vmbus_bus_offer(l->bus, vmbus_echo_vsp(), NULL, NULL, &chan), 0);
	loop_connect(l);
	raw_open(l, &opts);
	must_eq(vmbus_vsc_send(nth(l, 0), msg, 3), 3);
	loop_settle(l);
	must_eq(raw_came, 1);
	vmbus_chan_info(chan, &info);
	must_eq(info.bad_completions, 1);
	must(!info.faulted);
	loop_free(l);
}
END_TEST

/* A packet that the ring to the child could never take breaks the child's own channel. */
START_TEST(echo_vsp__faults_what_cannot_go_back)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_vsc_opts opts = { .send_bytes = 16384, .recv_bytes = 4096 };
	static uint8_t data[4200];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
				       .data = data,
				       .len = _i ? VMBUS_ECHO_PAYLOAD_MAX + 8u
						 : VMBUS_ECHO_PAYLOAD_MAX };
	struct vmbus_bus_stats stats;
	struct vmbus_chan *chan;

	must_eq(vmbus_bus_offer(l->bus, vmbus_echo_vsp(), NULL, NULL, &chan), 0);
	loop_connect(l);
	raw_open(l, &opts);
	must_eq(vmbus_vsc_send(nth(l, 0), &msg, 1), 1);
	loop_settle(l);
	must_eq(l->gone, 1);
	must_eq(l->offered, 2); /* and it is offered anew */
	vmbus_bus_stats(l->bus, &stats);
	must_eq(stats.faults, 1);
	loop_free(l);
}
END_TEST

START_TEST(echo_vsp__refuses_too_many_subchannels)
{
	struct loop *l = echo_loop(1);
	struct vmbus_vsc_opts opts = { .user = { 65 } };

	raw_open(l, &opts);
	must_eq(vmbus_vsc_state(nth(l, 0)), VMBUS_VSC_OFFERED);
	opts.user[0] = 0;
	opts.user[3] = 0x80;
	raw_open(l, &opts);
	must_eq(vmbus_vsc_state(nth(l, 0)), VMBUS_VSC_OFFERED);
	must_eq(l->offered, 1);
	loop_free(l);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "echo", 20);

	tcase_add_loop_test(tc, echo_start__sends_and_checks, 0, 2);
	tcase_add_loop_test(tc, echo_vsp__keeps_what_finds_the_ring_full, 0, 2);
	tcase_add_test(tc, echo_vsp__frees_what_it_keeps);
	tcase_add_test(tc, echo_start__refuses);
	tcase_add_test(tc, echo_again__sends_another_series);
	tcase_add_test(tc, echo_start__tells_when_the_channel_ends);
	tcase_add_test(tc, echo_start__polls);
	tcase_add_test(tc, echo_vsp__offers_subchannels);
	tcase_add_loop_test(tc, echo_start__counts_what_is_wrong, 0, 5);
	tcase_add_test(tc, echo_again__knows_its_own_packets);
	tcase_add_test(tc, echo_start__goes_on_when_there_is_room);
	tcase_add_test(tc, echo_vsp__ignores_what_asks_for_nothing);
	tcase_add_loop_test(tc, echo_vsp__faults_what_cannot_go_back, 0, 2);
	tcase_add_test(tc, echo_vsp__refuses_too_many_subchannels);
}
VMBUS_TEST_MAIN("echo.echo", tests)
