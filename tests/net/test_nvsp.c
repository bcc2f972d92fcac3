/* SPDX-License-Identifier: MIT */
/*
 * NVSP of the NIC: versions, the initialisation, each message in each state and cut at each length,
 * buffers that cannot be, sub-channels, the end.  [NET-INIT], [NET-NVSP], [NET-BUFFERS], [NET-SUB],
 * [NET-DOWN]
 */
#include "netbox.h"

static const uint32_t versions[] = { 0x00060001, 0x00060000, 0x00050000,
				     0x00040000, 0x00030002, 0x00000002 };

START_TEST(nvsp_init__agrees_on_each_version)
{
	struct vmbus_net_state state;
	struct netbox b;

	nb_prepare(&b);
	b.version = versions[_i];
	nb_begin(&b);
	nb_open(&b);
	must_eq(nb_init_version(&b, versions[_i]), 1);
	must_eq(b.done_len, versions[_i] == NB_V61 ? 40 : 32);
	must_eq(nb_32(b.done + 4), versions[_i] == 2 ? 2 : UINT32_MAX);
	must_eq(nb_32(b.done + 8), 34);
	nb_steps(&b, 1, NB_STEPS);
	vmbus_net_state(b.net, &state);
	must_eq(state.version, versions[_i]);
	must_eq(state.filter, 0x0D);
	must_eq(state.channels, 1);
	must_eq(state.receive_sections, b.rx_count);
	must_eq(state.receive_section_bytes, b.rx_section);
	must_eq(state.send_sections, NB_TX_PAGES * 4096 / 6144);
	must_eq(b.tx_section, 6144);
	must(b.port.config.running);
	nb_end(&b);
}
END_TEST

START_TEST(nvsp_init__refuses_other_versions)
{
	static const uint32_t bad[] = { 0, 1, 3, 0x00030001, 0x00060002, 0x00070000, UINT32_MAX };
	struct netbox b;
	uint32_t i;

	nb_prepare(&b);
	nb_begin(&b);
	nb_open(&b);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		must_eq(nb_init_version(&b, bad[i]), 0);
		must(b.done_len >= 28);
	}
	must_eq(nb_init_version(&b, NB_V61), 1);
	must_eq(nb_init_version(&b, NB_V61), 2); /* once is enough */
	nb_steps(&b, 1, NB_STEPS);
	must_eq(nb_init_version(&b, NB_V61), 2);
	nb_end(&b);
}
END_TEST

START_TEST(nvsp_init__wants_a_range_that_is_one)
{
	uint8_t msg[40] = { 1 };
	struct netbox b;

	nb_prepare(&b);
	nb_begin(&b);
	nb_open(&b);
	nb_put(msg + 4, 4, NB_V61);
	nb_put(msg + 8, 4, 2);
	must(nb_ask(&b, 0, msg, sizeof(msg)));
	must_eq(nb_32(b.done + 12), 0);
	nb_put(msg + 4, 4, 2);
	nb_put(msg + 8, 4, NB_V61);
	must(nb_ask(&b, 0, msg, sizeof(msg)));
	must_eq(nb_32(b.done + 12), 1);
	must_eq(nb_32(b.done + 4), UINT32_MAX);
	nb_end(&b);
}
END_TEST

/* ---- the MTU ---- */

START_TEST(nvsp_config__keeps_the_mtu_within_limits)
{
	static const struct {
		uint32_t asked, most, port, got;
	} t[] = {
		{ 1514, 0, 0, 1500 },	    { 0, 0, 0, 1500 },	     { 13, 0, 0, 1500 },
		{ 1513, 0, 0, 1500 },	    { 1515, 0, 0, 1501 },    { 9014, 0, 0, 9000 },
		{ 9216, 0, 0, 9202 },	    { 9217, 0, 0, 9202 },    { UINT32_MAX, 0, 0, 9202 },
		{ 0x80000000, 0, 0, 9202 }, { 9014, 4000, 0, 4000 }, { 9014, 0, 1500, 1500 },
		{ 9014, 4000, 2000, 2000 }, { 1514, 0, 1280, 1280 },
	};
	struct vmbus_net_state state;
	struct netbox b;

	nb_prepare(&b);
	b.mtu = t[_i].asked;
	b.opts.mtu_max = t[_i].most;
	b.port.info.mtu_max = t[_i].port;
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, NB_STEPS);
	vmbus_net_state(b.net, &state);
	must_eq(state.mtu, t[_i].got);
	must_eq(nb_number(&b, 0x00010106), t[_i].got);
	must_eq(b.port.config.mtu, t[_i].got);
	must(b.rx_section >= t[_i].got + 14 + 44);
	nb_end(&b);
}
END_TEST

/* ---- each message in each state ---- */

/* States, by the steps that lead there; the last is behind HALT, and behind the
 * revocation. */
#define STATES (NB_STEPS + 3u)

static void halt(struct netbox *b)
{
	uint8_t msg[12] = { 3, 0, 0, 0, 12 };

	must_eq(nb_rndis(b, 0, true, msg, sizeof(msg)), 1);
	must(nb_message(b) == NULL);
}

static void revoke_buffer(struct netbox *b, uint32_t type)
{
	uint8_t msg[40] = { 0 };

	nb_put(msg, 4, type);
	nb_put(msg + 4, 2, type == 103 ? NB_ID : 0);
	nb_tell(b, msg, sizeof(msg));
}

static void go_to(struct netbox *b, uint32_t state)
{
	nb_steps(b, 0, state < NB_STEPS ? state : NB_STEPS);
	if (state > NB_STEPS)
		halt(b);
	if (state > NB_STEPS + 1)
		revoke_buffer(b, 103);
}

static const uint32_t types[] = { 0,   1,   2,	 99,  100, 101, 102, 103, 104,
				  105, 106, 108, 109, 124, 125, 126, 128, 129,
				  130, 131, 132, 133, 134, 135, 136, 137, UINT32_MAX };
#define TYPES ((uint32_t)(sizeof(types) / sizeof(types[0])))

/* Whether the guest may send it then, so that the channel stays. */
static bool is_in_turn(uint32_t type, uint32_t state)
{
	switch (type) {
	case 100:
		return state == 2 || state == 1;
	case 125:
		return state == 1;
	default:
		return true;
	}
}

/* Everything that asks for an answer gets one, or ends the channel; then it can
 * be opened again. */
START_TEST(nvsp__each_message_in_each_state)
{
	const uint32_t state = (uint32_t)_i / TYPES, type = types[(uint32_t)_i % TYPES];
	uint8_t msg[40];
	struct netbox b;
	bool answered;

	nb_prepare(&b);
	nb_begin(&b);
	nb_open(&b);
	go_to(&b, state);
	memset(msg, 0, sizeof(msg));
	nb_put(msg, 4, type);
	answered = nb_ask(&b, 0, msg, sizeof(msg));
	must_eq(answered, is_in_turn(type, state));
	if (answered && (type == 101 || type == 104 || type == 133)) {
		must_eq(nb_32(b.done), type == 133 ? 133 : type + 1);
		must_eq(nb_32(b.done + 4), 2); /* GPADL 0, no sub-channels */
	}
	nb_end(&b);
}
END_TEST

/* A message that is cut off, at each length that a packet can have, in each
 * state. */
START_TEST(lesson_11_nvsp__cut_at_each_length)
{
	const uint32_t state = (uint32_t)_i / TYPES, type = types[(uint32_t)_i % TYPES];
	uint8_t msg[40];
	struct netbox b;
	uint32_t len;

	for (len = 0; len < sizeof(msg); len += 8) {
		vmbus_test_at("%u bytes", len);
		nb_prepare(&b);
		nb_begin(&b);
		nb_open(&b);
		go_to(&b, state);
		memset(msg, 0xFF, sizeof(msg));
		nb_put(msg, 4, type);
		(void)nb_ask(&b, 0, msg, len);
		nb_end(&b);
	}
}
END_TEST

/* The bytes of answers that guests check, [NET-NVSP]. */
START_TEST(nvsp__answers_what_a_nic_without_vf_says)
{
	uint8_t msg[40] = { 0 };
	struct netbox b;

	nb_prepare(&b);
	nb_start(&b);
	nb_put(msg, 4, 129);
	nb_put(msg + 4, 4, 1);
	must(nb_ask(&b, 0, msg, sizeof(msg)));
	must_eq(b.done_len, 0);
	nb_put(msg, 4, 131);
	must(nb_ask(&b, 0, msg, sizeof(msg)));
	must_eq(nb_32(b.done), 132);
	must_eq(nb_32(b.done + 4), 0xC00000BB);
	must_eq(nb_32(b.done + 8), 0);
	nb_put(msg, 4, 135);
	must(nb_ask(&b, 0, msg, sizeof(msg)));
	must_eq(nb_32(b.done), 135);
	must_eq(nb_32(b.done + 4), 0xC00000BB);
	nb_put(msg, 4, 110);
	must(nb_ask(&b, 0, msg, sizeof(msg)));
	must_eq(b.done_len, 0);
	nb_tell(&b, msg, sizeof(msg));
	must_eq(nb_number(&b, 0x00010106), 1500);
	nb_end(&b);
}
END_TEST

/* Messages that ask for nothing are not completed, and are when they ask. */
START_TEST(nvsp__completes_what_asks_for_it)
{
	uint8_t msg[40] = { 125 };
	struct netbox b;

	nb_prepare(&b);
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, 1);
	nb_put(msg + 4, 4, 1514);
	must(nb_ask(&b, 0, msg, sizeof(msg)));
	must_eq(b.done_len, 0);
	nb_put(msg, 4, 100);
	must(nb_ask(&b, 0, msg, sizeof(msg)));
	must_eq(b.done_len, 0);
	b.completions = 0;
	nb_steps(&b, 3, NB_STEPS);
	b.completions = 0;
	revoke_buffer(&b, 103);
	revoke_buffer(&b, 106);
	must_eq(b.completions, 0);
	nb_end(&b);
}
END_TEST

/* ---- buffers ---- */

START_TEST(nvsp_buffers__refuse_what_cannot_be)
{
	struct netbox b;
	uint32_t tiny;

	nb_prepare(&b);
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, 3);
	tiny = b.f.next_gpadl++;
	must_eq(fake_share(&b.f, b.c[0].relid, tiny, b.data, 1), 0);
	must_eq(nb_buffer(&b, 101, 0xDEAD), 2);
	must_eq(nb_buffer(&b, 101, tiny), 2);
	must_eq(nb_32(b.done + 8), 0);
	must_eq(nb_buffer(&b, 104, 0xDEAD), 2);
	must_eq(nb_32(b.done + 8), 0);
	must_eq(nb_buffer(&b, 104, tiny), 2); /* not one section */
	nb_steps(&b, 3, 4);
	must_eq(nb_buffer(&b, 101, b.rx_gpadl), 2);
	nb_steps(&b, 4, 5);
	must_eq(nb_buffer(&b, 104, b.tx_gpadl), 2);
	nb_steps(&b, 5, NB_STEPS);
	must_eq(nb_buffer(&b, 101, b.rx_gpadl), 2);
	must_eq(nb_buffer(&b, 104, b.tx_gpadl), 2);
	nb_end(&b);
}
END_TEST

START_TEST(nvsp_buffers__come_after_the_configuration)
{
	struct netbox b;

	nb_prepare(&b);
	nb_begin(&b);
	nb_open(&b);
	must_eq(nb_buffer(&b, 101, 1), 2);
	must_eq(nb_buffer(&b, 104, 1), 2);
	nb_steps(&b, 0, 1);
	b.rx_gpadl = b.f.next_gpadl++;
	must_eq(fake_share(&b.f, b.c[0].relid, b.rx_gpadl, b.rx, NB_RX_PAGES), 0);
	must_eq(nb_buffer(&b, 101, b.rx_gpadl), 2);
	nb_steps(&b, 1, NB_STEPS);
	nb_end(&b);
}
END_TEST

/* A guest without a send buffer, as some programs that boot machines are. */
START_TEST(nvsp_buffers__need_no_send_buffer)
{
	struct vmbus_net_state state;
	struct netbox b;

	nb_prepare(&b);
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, 4);
	nb_steps(&b, 5, NB_STEPS);
	vmbus_net_state(b.net, &state);
	must_eq(state.send_sections, 0);
	must_eq(state.filter, 0x0D);
	nb_end(&b);
}
END_TEST

/* Nothing of RNDIS before there are a receive buffer and an NDIS version. */
START_TEST(nvsp_rndis__does_not_come_too_early)
{
	uint8_t msg[24] = { 2, 0, 0, 0, 24 };
	struct netbox b;

	nb_prepare(&b);
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, (uint32_t)_i);
	must_eq(nb_rndis(&b, 0, true, msg, sizeof(msg)), 2);
	must(nb_message(&b) == NULL);
	nb_steps(&b, (uint32_t)_i, NB_STEPS);
	nb_end(&b);
}
END_TEST

/* ---- sub-channels ---- */

static uint32_t ask_subs(struct netbox *b, uint32_t op, uint32_t count, uint32_t *got)
{
	uint8_t msg[40] = { 133 };

	nb_put(msg + 4, 4, op);
	nb_put(msg + 8, 4, count);
	must(nb_ask(b, 0, msg, sizeof(msg)));
	must_eq(nb_32(b->done), 133);
	*got = nb_32(b->done + 8);
	return nb_32(b->done + 4);
}

START_TEST(nvsp_subchannel__offers_what_it_promises)
{
	struct vmbus_net_state state;
	struct netbox b;
	uint32_t i, got;

	nb_prepare(&b);
	b.opts.subchannels = 3;
	nb_start(&b);
	nb_subs(&b, 2);
	fake_expect_none(&b.f);
	(void)nb_run(&b, 0);
	must_eq(b.inbands, 1);
	must_eq(b.inband_len, 80);
	must_eq(nb_32(b.inband), 134);
	must_eq(nb_32(b.inband + 4), 16);
	must_eq(nb_32(b.inband + 8), 12);
	for (i = 0; i < 16; i++)
		must_eq(nb_32(b.inband + 12 + 4 * i), i % 3);
	vmbus_net_state(b.net, &state);
	must_eq(state.channels, 3);
	must_eq(state.asked, 2);
	must_eq(ask_subs(&b, 1, 1, &got), 2); /* once */
	must_eq(got, 0);
	nb_end(&b);
}
END_TEST

START_TEST(nvsp_subchannel__gives_fewer_than_asked)
{
	struct vmbus_ctl ctl;
	struct netbox b;
	uint32_t got;

	nb_prepare(&b);
	b.opts.subchannels = 1;
	nb_start(&b);
	must_eq(ask_subs(&b, 1, _i ? UINT32_MAX : 5, &got), 1);
	must_eq(got, 1);
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.sub_index, 1);
	fake_expect_none(&b.f);
	must_eq(b.inbands, 0); /* the table waits until it is open */
	nb_end(&b);
}
END_TEST

START_TEST(nvsp_subchannel__refuses)
{
	struct netbox b;
	uint32_t got;

	nb_prepare(&b);
	b.opts.subchannels = _i == 0 ? 0 : 3;
	b.version = _i == 1 ? 0x00040000 : NB_V61;
	nb_begin(&b);
	nb_open(&b);
	nb_steps(&b, 0, _i == 2 ? 5 : NB_STEPS);
	must_eq(ask_subs(&b, _i == 3 ? 2 : 1, _i == 4 ? 0 : 1, &got), 2);
	must_eq(got, 0);
	fake_expect_none(&b.f);
	nb_end(&b);
}
END_TEST

START_TEST(nvsp__control_on_a_sub_channel_ends_it)
{
	uint8_t msg[40] = { 1 };
	struct vmbus_ctl ctl;
	struct netbox b;

	nb_prepare(&b);
	b.opts.subchannels = 1;
	nb_start(&b);
	nb_subs(&b, 1);
	(void)nb_run(&b, 0);
	must(!nb_ask(&b, 1, msg, sizeof(msg)));
	fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl);
	must_eq(ctl.u.chan.relid, b.c[1].relid);
	must_eq(nb_number(&b, 0x00010106), 1500);
	nb_end(&b);
}
END_TEST

/* ---- the end ---- */

static void teardown(struct netbox *b, uint32_t *gpadl)
{
	struct vmbus_ctl ctl;

	fake_post_teardown(&b->f, b->c[0].relid, *gpadl);
	fake_expect(&b->f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(ctl.u.created.gpadl, *gpadl);
	*gpadl = 0;
}

/* As Linux does for another MTU, or on its way down; nothing of the first time
 * is left. */
START_TEST(nvsp__goes_down_and_comes_up_again)
{
	struct vmbus_net_state state;
	struct netbox b;
	uint32_t i;

	nb_prepare(&b);
	nb_start(&b);
	for (i = 0; i < 3; i++) {
		nb_filter(&b, 0);
		halt(&b);
		revoke_buffer(&b, 103);
		revoke_buffer(&b, 106);
		if (i == 1) { /* page lists before the channel, as older ones do */
			teardown(&b, &b.rx_gpadl);
			teardown(&b, &b.tx_gpadl);
		}
		fake_close(&b.f, &b.c[0]);
		if (i != 1) {
			teardown(&b, &b.rx_gpadl);
			teardown(&b, &b.tx_gpadl);
		}
		vmbus_net_state(b.net, &state);
		must_eq(state.version, 0);
		must_eq(state.filter, 0);
		must_eq(state.channels, 0);
		b.mtu = 9014;
		nb_open(&b);
		nb_steps(&b, 0, 6);
		vmbus_net_state(b.net, &state);
		must_eq(state.filter, 0);
		must_eq(state.mtu, 9000);
		must_eq(state.rx, VMBUS_FRAME_VLAN);
		must(!state.rss);
		nb_steps(&b, 6, NB_STEPS);
	}
	nb_end(&b);
}
END_TEST

/* Without a word: closed as it is, in each state. */
START_TEST(nvsp__is_closed_in_each_state)
{
	struct netbox b;

	nb_prepare(&b);
	nb_begin(&b);
	nb_open(&b);
	go_to(&b, (uint32_t)_i);
	fake_close(&b.f, &b.c[0]);
	b.rx_gpadl = b.tx_gpadl = 0;
	b.rx_section = 0;
	nb_open(&b);
	nb_steps(&b, 0, NB_STEPS);
	nb_end(&b);
}
END_TEST

START_TEST(nvsp_revoke__leaves_nothing_behind)
{
	uint8_t msg[28] = { 4, 0, 0, 0, 28 };
	struct vmbus_net_state state;
	struct netbox b;

	nb_prepare(&b);
	nb_start(&b);
	revoke_buffer(&b, _i ? 106 : 103);
	vmbus_net_state(b.net, &state);
	must_eq(state.filter, 0);
	must_eq(_i ? state.send_sections : state.receive_sections, 0);
	must(!b.port.config.running);
	must_eq(nb_rndis(&b, 0, true, msg, sizeof(msg)), 2);
	must_eq(nb_buffer(&b, 101, b.rx_gpadl), 2);
	nb_end(&b);
}
END_TEST

/* One guest at a time. */
START_TEST(net__is_one_guests)
{
	struct fake_chan two[2];
	struct netbox b;

	nb_prepare(&b);
	fake_init(&b.f, 1024);
	must_eq(vmbus_net_create(&b.opts, &b.net), 0);
	nb_offer(&b);
	nb_offer(&b);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, two, 2), 2);
	must_eq(fake_open(&b.f, &two[0], NB_UP, NB_DOWN), 0);
	must(fake_open(&b.f, &two[1], NB_UP, NB_DOWN) != 0);
	fake_close(&b.f, &two[0]);
	fake_chan_free(&two[1]);
	two[1].first = 0;
	must_eq(fake_open(&b.f, &two[1], NB_UP, NB_DOWN), 0);
	fake_close(&b.f, &two[1]);
	nb_end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "nvsp", 60);

	tcase_add_loop_test(tc, nvsp_init__agrees_on_each_version, 0, 6);
	tcase_add_test(tc, nvsp_init__refuses_other_versions);
	tcase_add_test(tc, nvsp_init__wants_a_range_that_is_one);
	tcase_add_loop_test(tc, nvsp_config__keeps_the_mtu_within_limits, 0, 14);
	tcase_add_loop_test(tc, nvsp__each_message_in_each_state, 0, (int)(STATES * TYPES));
	tcase_add_loop_test(tc, lesson_11_nvsp__cut_at_each_length, 0, (int)(STATES * TYPES));
	tcase_add_test(tc, nvsp__answers_what_a_nic_without_vf_says);
	tcase_add_test(tc, nvsp__completes_what_asks_for_it);
	tcase_add_test(tc, nvsp_buffers__refuse_what_cannot_be);
	tcase_add_test(tc, nvsp_buffers__come_after_the_configuration);
	tcase_add_test(tc, nvsp_buffers__need_no_send_buffer);
	tcase_add_loop_test(tc, nvsp_rndis__does_not_come_too_early, 0, 4);
	tcase_add_test(tc, nvsp_subchannel__offers_what_it_promises);
	tcase_add_loop_test(tc, nvsp_subchannel__gives_fewer_than_asked, 0, 2);
	tcase_add_loop_test(tc, nvsp_subchannel__refuses, 0, 5);
	tcase_add_test(tc, nvsp__control_on_a_sub_channel_ends_it);
	tcase_add_test(tc, nvsp__goes_down_and_comes_up_again);
	tcase_add_loop_test(tc, nvsp__is_closed_in_each_state, 0, (int)STATES);
	tcase_add_loop_test(tc, nvsp_revoke__leaves_nothing_behind, 0, 2);
	tcase_add_test(tc, net__is_one_guests);
}
VMBUS_TEST_MAIN("net.nvsp", tests)
