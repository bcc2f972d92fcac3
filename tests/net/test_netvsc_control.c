/* SPDX-License-Identifier: MIT */
/* Requests of the client's, and what the host says unasked. */
#include "clienthost.h"

static uint8_t out[1024];

static struct vmbus_netvsc_req query(struct host *h, uint32_t oid)
{
	return (struct vmbus_netvsc_req){
		.oid = oid, .out = out, .out_bytes = sizeof(out), .done = host_on_done, .ctx = h
	};
}

START_TEST(netvsc_control__asks)
{
	struct vmbus_netvsc_req req;
	struct host h;

	host_start(&h);
	h.late_copy = _i;
	must_eq(host_client(&h, NULL), 0);
	req = query(&h, 0x00010107);
	must_eq(vmbus_netvsc_control(&h.nv, &req), 0);
	must_eq(h.done, 0);
	loop_settle(h.l);
	must_eq(h.done, 1);
	must_eq(req.err, 0);
	must_eq(req.status, 0);
	must_eq(req.got, 4);
	must_eq(host_get32(out), 100000);
	/* One that the host knows not, one with too little room, one with too long an answer. */
	req = query(&h, 0x00011111);
	must_eq(vmbus_netvsc_control(&h.nv, &req), 0);
	loop_settle(h.l);
	must_eq(req.err, VMBUS_E_RANGE);
	must_eq(req.status, 0xC00000BBu);
	must_eq(req.got, 0);
	req = query(&h, 0x00010107);
	req.out_bytes = 3;
	must_eq(vmbus_netvsc_control(&h.nv, &req), 0);
	loop_settle(h.l);
	must_eq(req.err, VMBUS_E_RANGE);
	h.long_oid = 0x00010107;
	req = query(&h, 0x00010107);
	must_eq(vmbus_netvsc_control(&h.nv, &req), 0);
	loop_settle(h.l);
	must_eq(req.err, VMBUS_E_RANGE);
	must_eq(h.done, 4);
	must_eq(h.nv.bad, 0);
	host_free(&h);
}
END_TEST

/* Several at once go one by one, in order. */
START_TEST(netvsc_control__in_order)
{
	struct vmbus_netvsc_req req[20];
	struct host h;
	uint32_t i;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	h.oid_count = 0;
	for (i = 0; i < 20; i++) {
		req[i] = query(&h, i & 1 ? 0x00010107 : 0x00010114);
		must_eq(vmbus_netvsc_control(&h.nv, &req[i]), 0);
	}
	loop_settle(h.l);
	must_eq(h.done, 20);
	must_eq(h.oid_count, 20);
	must(h.last_done == &req[19]);
	for (i = 0; i < 20; i++) {
		must_eq(req[i].err, 0);
		must_eq(h.oids[i], req[i].oid);
	}
	host_free(&h);
}
END_TEST

/* Requests under way end with the NIC. */
START_TEST(netvsc_control__ends)
{
	struct vmbus_netvsc_req req[3];
	struct host h;
	uint32_t i;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	h.silent_oid = 0x00010107;
	for (i = 0; i < 3; i++) {
		req[i] = query(&h, 0x00010107);
		must_eq(vmbus_netvsc_control(&h.nv, &req[i]), 0);
	}
	loop_settle(h.l);
	must_eq(h.done, 0);
	must_eq(vmbus_netvsc_stop(&h.nv), 0);
	loop_settle(h.l);
	must_eq(h.done, 3);
	must_eq(h.closed, 1);
	for (i = 0; i < 3; i++)
		must_eq(req[i].err, VMBUS_E_PEER);
	must_eq(vmbus_netvsc_control(&h.nv, &req[0]), VMBUS_E_STATE);
	host_free(&h);
}
END_TEST

/* The host does not take the message at all. */
START_TEST(netvsc_control__refused_message)
{
	struct vmbus_netvsc_req req;
	struct host h;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	h.copy_fails = true;
	req = query(&h, 0x00010107);
	must_eq(vmbus_netvsc_control(&h.nv, &req), 0);
	loop_settle(h.l);
	must_eq(req.err, VMBUS_E_PEER);
	must_eq(h.nv.bad, 1);
	h.copy_fails = false;
	must_eq(vmbus_netvsc_control(&h.nv, &req), 0);
	loop_settle(h.l);
	must_eq(req.err, 0);
	host_free(&h);
}
END_TEST

START_TEST(netvsc_control__refuses)
{
	static const uint8_t group[6] = { 1, 0, 0, 0, 0, 1 }, zero[6];
	struct vmbus_netvsc_req req;
	struct host h;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
#define REFUSED(change, error)                                                                     \
	do {                                                                                       \
		req = query(&h, 0x00010107);                                                       \
		change;                                                                            \
		must_eq(vmbus_netvsc_control(&h.nv, &req), error);                                 \
	} while (0)
	REFUSED(req.in_bytes = 1025, VMBUS_E_RANGE);
	REFUSED(req.in_bytes = 1, VMBUS_E_INVAL);
	REFUSED(req.out = NULL, VMBUS_E_INVAL);
	REFUSED(req.done = NULL, VMBUS_E_INVAL);
	REFUSED(req.oid = 0, VMBUS_E_INVAL);
	must_eq(vmbus_netvsc_set_mac(&h.nv, &req, group), VMBUS_E_INVAL);
	must_eq(vmbus_netvsc_set_mac(&h.nv, &req, zero), VMBUS_E_INVAL);
	must_eq(h.done, 0);
	host_free(&h);
}
END_TEST

START_TEST(netvsc_set__tells_host)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0xAB, 0xCD, 0xEF };
	struct vmbus_netvsc_req req = { .done = host_on_done };
	struct host h;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	req.ctx = &h;
	must_eq(vmbus_netvsc_set_filter(&h.nv, &req, 0x20), 0);
	loop_settle(h.l);
	must_eq(req.err, 0);
	must_eq(h.filter, 0x20);
	must_eq(vmbus_netvsc_set_mac(&h.nv, &req, mac), 0);
	must_eq(memcmp(h.nv.mac, h.mac, 6), 0);
	loop_settle(h.l);
	must_eq(req.err, 0);
	must_eq(memcmp(h.nv.mac, mac, 6), 0);
	must_eq(host_get(h.param + 48, 2), '5');
	must_eq(host_get(h.param + 70, 2), 'F');
	h.refuse_oid = 0x0001021B;
	must_eq(vmbus_netvsc_set_mac(&h.nv, &req, h.mac), 0);
	loop_settle(h.l);
	must_eq(req.err, VMBUS_E_RANGE);
	must_eq(memcmp(h.nv.mac, mac, 6), 0);
	host_free(&h);
}
END_TEST

START_TEST(netvsc_link__is_told)
{
	uint8_t speed[4];
	struct host h;

	host_start(&h);
	h.media = 1;
	must_eq(host_client(&h, NULL), 0);
	must(!h.nv.up);
	host_indicate(&h, 0x4001000B, NULL, 0);
	loop_settle(h.l);
	must_eq(h.links, 1);
	must(h.link_up);
	host_indicate(&h, 0x4001000C, NULL, 0);
	loop_settle(h.l);
	must_eq(h.links, 2);
	must(!h.link_up);
	host_put(speed, 4, 250000);
	host_indicate(&h, 0x40010013, speed, 4);
	host_indicate(&h, 0x40010018, NULL, 0);
	host_indicate(&h, 0x40020006, speed, 4);
	loop_settle(h.l);
	must_eq(h.links, 4);
	must_eq(h.nv.bits_per_s, 25000000);
	must_eq(h.nv.bad, 0);
	host_indicate(&h, 0x40010013, speed, 3);
	loop_settle(h.l);
	must_eq(h.links, 4);
	must_eq(h.nv.bad, 1);
	host_free(&h);
}
END_TEST

/* A message that nobody asked for, cut off at every byte, and with each word at its limits. */
START_TEST(lesson_11_short_messages)
{
	static const uint32_t types[] = { 7, 8, 0x80000002u, 0x80000004u, 0x80000005u, 1, 99 };
	uint8_t msg[64];
	struct host h;
	uint32_t cut, at, bytes = 24;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	for (cut = 1; cut <= bytes; cut++) {
		memset(msg, 0, sizeof(msg));
		host_put(msg, 4, types[_i]);
		host_put(msg + 4, 4, bytes);
		host_tell(&h, msg, cut);
		loop_settle(h.l);
	}
	for (at = 4; at < bytes; at += 4) {
		memset(msg, 0, sizeof(msg));
		host_put(msg, 4, types[_i]);
		host_put(msg + 4, 4, bytes);
		host_put(msg + at, 4, UINT32_MAX);
		host_tell(&h, msg, bytes);
		loop_settle(h.l);
	}
	must(h.nv.bad >= 23);
	must_eq(h.links, 0);
	must_eq(vmbus_vsc_state(host_vsc(&h)), VMBUS_VSC_OPEN);
	host_free(&h);
}
END_TEST

/* Answers to a request of ours that make no sense: it ends with PEER, or goes on to wait. */
START_TEST(netvsc_control__odd_answers)
{
	static const struct {
		uint32_t type, bytes, status, info, offset;
		int err; /* 1: it waits */
	} cases[] = {
		{ 0x80000004u, 24, 0, 4, 16, VMBUS_E_PEER },
		{ 0x80000004u, 28, 0, 4, 15, VMBUS_E_PEER },
		{ 0x80000004u, 28, 0, 4, 17, VMBUS_E_PEER },
		{ 0x80000004u, 28, 0, UINT32_MAX, 16, VMBUS_E_PEER },
		{ 0x80000004u, 28, 0, 4, UINT32_MAX, VMBUS_E_PEER },
		{ 0x80000004u, 20, 0, 0, 0, VMBUS_E_PEER },
		{ 0x80000004u, 12, 0, 0, 0, VMBUS_E_PEER },
		{ 0x80000004u, 28, 5, 9, 9, VMBUS_E_RANGE },
		{ 0x80000005u, 28, 0, 4, 16, 1 },
		{ 0x80000002u, 28, 0, 4, 16, 1 },
		{ 0x80000004u, 28, 0, 4, 16, 0 },
	};
	struct vmbus_netvsc_req req;
	uint8_t msg[64] = { 0 };
	struct host h;

	host_start(&h);
	must_eq(host_client(&h, NULL), 0);
	h.silent_oid = 0x00010107;
	req = query(&h, 0x00010107);
	must_eq(vmbus_netvsc_control(&h.nv, &req), 0);
	loop_settle(h.l);
	host_put(msg, 4, cases[_i].type);
	host_put(msg + 4, 4, cases[_i].bytes);
	host_put(msg + 8, 4, req.id_p + 1);
	host_put(msg + 12, 4, cases[_i].status);
	host_put(msg + 16, 4, cases[_i].info);
	host_put(msg + 20, 4, cases[_i].offset);
	host_tell(&h, msg, cases[_i].bytes); /* another id */
	loop_settle(h.l);
	must_eq(h.done, 0);
	must_eq(h.nv.bad, 1);
	host_put(msg + 8, 4, req.id_p);
	host_tell(&h, msg, cases[_i].bytes);
	host_tell(&h, msg, cases[_i].bytes); /* twice */
	loop_settle(h.l);
	must_eq(h.done, cases[_i].err != 1);
	if (h.done)
		must_eq(req.err, cases[_i].err);
	must(h.nv.bad >= 2);
	host_free(&h);
}
END_TEST

/* What comes by NVSP itself. */
START_TEST(netvsc_said__takes)
{
	struct vmbus_netvsc_opts opts;
	uint8_t msg[128] = { 0 };
	struct vmbus_msg out_msg = { .id = 77, .type = VMBUS_PKT_INBAND, .data = msg };
	struct host h;
	uint32_t i;

	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = 2;
	must_eq(host_client(&h, &opts), 0);
	h.returned = 0;
	host_put(msg, 4, 134);
	host_put(msg + 4, 4, 16);
	host_put(msg + 8, 4, 12);
	for (i = 0; i < 16; i++)
		host_put(msg + 12 + i * 4, 4, 15 - i);
	out_msg.len = 80;
	must_eq(vmbus_chan_send(h.channel[0], &out_msg, 1), 1);
	loop_settle(h.l);
	for (i = 0; i < 16; i++)
		must_eq(h.nv.table[i], 15 - i < 3 ? 15 - i : 0);
	must_eq(h.nv.bad, 0);
	host_put(msg + 4, 4, 15);
	must_eq(vmbus_chan_send(h.channel[0], &out_msg, 1), 1);
	host_put(msg + 4, 4, 16);
	host_put(msg + 8, 4, 17);
	must_eq(vmbus_chan_send(h.channel[0], &out_msg, 1), 1);
	host_put(msg + 8, 4, UINT32_MAX);
	must_eq(vmbus_chan_send(h.channel[0], &out_msg, 1), 1);
	out_msg.len = 8;
	must_eq(vmbus_chan_send(h.channel[0], &out_msg, 1), 1);
	host_put(msg, 4, 3);
	must_eq(vmbus_chan_send(h.channel[0], &out_msg, 1), 1);
	loop_settle(h.l);
	must_eq(h.nv.bad, 5);
	/* A VF, to be completed or not; a data path. */
	out_msg.len = 16;
	host_put(msg, 4, 128);
	must_eq(vmbus_chan_send(h.channel[0], &out_msg, 1), 1);
	out_msg.flags = VMBUS_PKT_FLAG_COMPLETE;
	must_eq(vmbus_chan_send(h.channel[0], &out_msg, 1), 1);
	host_put(msg, 4, 129);
	must_eq(vmbus_chan_send(h.channel[0], &out_msg, 1), 1);
	loop_settle(h.l);
	must_eq(h.returned, 2);
	must_eq(h.nv.bad, 5);
	/* The host asks whether we live. */
	memset(msg, 0, sizeof(msg));
	host_put(msg, 4, 8);
	host_put(msg + 4, 4, 12);
	host_put(msg + 8, 4, 4711);
	host_tell(&h, msg, 12);
	loop_settle(h.l);
	must_eq(h.alive, 4711);
	host_free(&h);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "control", 20);

	tcase_add_loop_test(tc, netvsc_control__asks, 0, 2);
	tcase_add_test(tc, netvsc_control__in_order);
	tcase_add_test(tc, netvsc_control__ends);
	tcase_add_test(tc, netvsc_control__refused_message);
	tcase_add_test(tc, netvsc_control__refuses);
	tcase_add_test(tc, netvsc_set__tells_host);
	tcase_add_test(tc, netvsc_link__is_told);
	tcase_add_loop_test(tc, lesson_11_short_messages, 0, 7);
	tcase_add_loop_test(tc, netvsc_control__odd_answers, 0, 11);
	tcase_add_test(tc, netvsc_said__takes);
}

VMBUS_TEST_MAIN("net.netvsc_control", tests)
