/* SPDX-License-Identifier: MIT */
/* The network device's client: how it begins, agrees, gets its channels, and ends. */
#include "clienthost.h"

#define STEPS 160 /* of dispatches, behind which all is agreed on, with opts_of_few() */

START_TEST(netvsc_start__agrees)
{
	static const uint32_t versions[] = { 0x00060001, 0x00060000, 0x00050000,
					     0x00040000, 0x00030002, 0x00000002 };
	struct host h;
	uint32_t i;

	host_start(&h);
	h.version = versions[_i];
	must_eq(host_client(&h, NULL), 0);
	must_eq(h.nv.version, versions[_i]);
	must_eq(h.tried_count, (uint32_t)_i + 1);
	for (i = 0; i < h.tried_count; i++)
		must_eq(h.tried[i], versions[i]);
	must_eq(h.minor, _i < 3 ? 30 : 1);
	must_eq(h.mtu, 1514);
	must_eq(h.caps, _i < 5 ? 8 : 0);
	must_eq(h.nv.mtu, 1500);
	must_eq(h.nv.frame_max, 1514);
	must_eq(h.nv.frames_max, 8);
	must_eq(h.nv.section_bytes, 6144);
	must_eq(memcmp(h.nv.mac, h.mac, 6), 0);
	must(h.nv.up);
	must_eq(h.nv.bits_per_s, _i < 3 ? 10000000 : 0);
	must_eq(h.nv.offered, 1);
	must_eq(h.filter, 0x0D);
	must_eq(h.opened, 1);
	must_eq(h.nv.bad, 0);
	must(vmbus_netvsc_channel(&h.nv, 0) == host_vsc(&h));
	must(vmbus_netvsc_channel(&h.nv, 1) == NULL);
	must(vmbus_netvsc_channel(&h.nv, UINT32_MAX) == NULL);
	host_free(&h);
	must_eq(h.closed, 1);
}
END_TEST

/* Whatever is wrong, ready() tells it once, the channel is closed, and it may be tried again. */
START_TEST(netvsc_start__tells_why_not)
{
	static const struct {
		uint32_t version, type, status, cut, bytes, odd, oid;
		int err;
	} cases[] = {
		{ 0, 0, 0, 0, 0, 0, 0, VMBUS_E_NOTSUP },
		{ 0x60001, 101, 2, 0, 0, 0, 0, VMBUS_E_PEER },
		{ 0x60001, 104, 2, 0, 0, 0, 0, VMBUS_E_PEER },
		{ 0x60001, 2, 0xC0000001, 0, 0, 0, 0, VMBUS_E_PEER },
		{ 0x60001, 0, 0, 1, 8, 0, 0, VMBUS_E_PEER },
		{ 0x60001, 0, 0, 1, 0, 0, 0, VMBUS_E_PEER },
		{ 0x60001, 0, 0, 101, 24, 0, 0, VMBUS_E_PEER },
		{ 0x60001, 0, 0, 104, 8, 0, 0, VMBUS_E_PEER },
		{ 0x60001, 0, 0, 0, 0, 1, 0, VMBUS_E_PEER },
		{ 0x60001, 0, 0, 0, 0, 101, 0, VMBUS_E_PEER },
		{ 0x60001, 0, 0, 0, 0, 104, 0, VMBUS_E_PEER },
		{ 0x60001, 0, 0, 0, 0, 0, 0x01010101, VMBUS_E_PEER },
		{ 0x60001, 0, 0, 0, 0, 0, 0x0001010E, VMBUS_E_PEER },
	};
	struct vmbus_netvsc_req req = { .oid = 0x00020101, .done = host_on_done };
	struct host h;

	host_start(&h);
	h.version = cases[_i].version;
	h.refuse_type = cases[_i].type;
	h.refuse_status = cases[_i].status;
	h.cut_type = cases[_i].cut;
	h.cut_bytes = cases[_i].bytes;
	h.odd_type = cases[_i].odd;
	h.refuse_oid = cases[_i].oid;
	must_eq(host_client(&h, NULL), cases[_i].err);
	must_eq(h.closes, h.opens);
	must_eq(vmbus_vsc_state(host_vsc(&h)), VMBUS_VSC_OFFERED);
	must_eq(vmbus_netvsc_stop(&h.nv), VMBUS_E_STATE);
	must_eq(host_send_one(&h, 0, "12345678901234", 14), VMBUS_E_STATE);
	must_eq(vmbus_netvsc_control(&h.nv, &req), VMBUS_E_STATE);
	must_eq(vmbus_netvsc_receive(&h.nv, 0, &h.burst, 1), VMBUS_E_STATE);
	must_eq(vmbus_netvsc_release(&h.nv, 0, &h.burst), VMBUS_E_STATE);
	must(vmbus_netvsc_channel(&h.nv, 0) == NULL);
	h.version = 0x60001;
	h.refuse_type = h.cut_type = h.odd_type = h.refuse_oid = h.tried_count = h.ready = 0;
	must_eq(host_client(&h, NULL), 0);
	host_free(&h);
	must_eq(h.closed, 1);
}
END_TEST

/* Sections that cannot be. */
START_TEST(netvsc_start__refuses_sections)
{
	static const struct {
		uint32_t receive, count, send, transfer;
	} cases[] = {
		{ 67, 1, 6144, 65536 },	      { 4096, 65, 6144, 65536 },
		{ 1u << 31, 2, 6144, 65536 }, { 2048, 0x80000001u, 6144, 65536 },
		{ 2048, 1, 255, 65536 },      { 2048, 1, (256u << 10) + 1, 65536 },
		{ 2048, 1, 0, 65536 },	      { 2048, 1, 6144, 255 },
	};
	struct host h;

	host_start(&h);
	h.receive_section = cases[_i].receive;
	h.receive_count = cases[_i].count;
	h.send_section = cases[_i].send;
	h.transfer = cases[_i].transfer;
	must_eq(host_client(&h, NULL), VMBUS_E_PEER);
	host_free(&h);
}
END_TEST

/* What the host does not do, the client does without. */
START_TEST(netvsc_start__does_without)
{
	static const struct {
		uint32_t oid, tx, tso_max;
		bool rsc;
	} cases[] = {
		{ 0, 0x37F & ~64u, 62780, false }, { 0xFC01020D, 0, 0, false },
		{ 0xFC01020C, 0, 0, false },	   { 0x00010114, 1, 0, false },
		{ 0x00010107, 1, 0, false },	   { 0x00010203, 1, 0, false },
		{ 0x00010106, 1, 0, false },	   { 0x00010204, 1, 0, false },
	};
	const uint32_t tso = VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6;
	struct vmbus_netvsc_opts opts;
	struct host h;

	host_start(&h);
	h.refuse_oid = cases[_i].oid;
	opts = host_opts(&h);
	opts.subchannels = 2;
	must_eq(host_client(&h, &opts), 0);
	must(h.nv.tx & VMBUS_FRAME_CSUM && h.nv.tx & VMBUS_FRAME_VLAN);
	if (cases[_i].tx == 0) {
		must_eq(h.nv.tx & tso, 0);
		must_eq(h.nv.tso_max, 0);
	} else {
		must_eq(h.nv.tx & tso, tso);
		must_eq(h.nv.tso_max, 62780);
	}
	must_eq(h.nv.offered, cases[_i].oid == 0x00010203 ? 1 : 3);
	must_eq(h.nv.mtu, 1500);
	host_free(&h);
}
END_TEST

/* What is set, to the byte. */
START_TEST(netvsc_start__sets)
{
	static const uint8_t on[12] = { 1, 4, 4, 4, 4, 0, 0, 2, 2 };
	static const uint8_t off[12] = { 1, 1, 1, 1, 1, 0, 0, 1, 1 };
	static const char text[] = "NetworkAddress0200AABBCCDD";
	struct vmbus_netvsc_opts opts;
	struct host h;
	uint32_t i;

	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = 3;
	opts.mtu = 9000;
	opts.filter = 0x20;
	opts.flags = _i ? VMBUS_NETVSC_NO_OFFLOAD : VMBUS_NETVSC_RSC;
	h.rsc = 1;
	memcpy(opts.mac, (const uint8_t[]){ 2, 0, 0xAA, 0xBB, 0xCC, 0xDD }, 6);
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.mtu, 9014);
	must_eq(h.caps, _i ? 8 : 8 + 128);
	must_eq(h.nv.mtu, 9000);
	must_eq(h.filter, 0x20);
	must_eq(h.offloads[0], 0x80);
	must_eq(h.offloads[1], 3);
	must_eq(host_get(h.offloads + 2, 2), 28);
	must_eq(memcmp(h.offloads + 4, _i ? off : on, 9), 0);
	must_eq(h.offloads[22], _i ? 1 : 2);
	must_eq(h.offloads[23], _i ? 1 : 2);
	must_eq((h.nv.rx & VMBUS_FRAME_TSO4) != 0, !_i);
	/* RSS: four channels in turn, 128 entries, the key. */
	must_eq(h.scale_bytes, 40 + 512 + 40);
	must_eq(h.scale[0], 0x89);
	must_eq(host_get32(h.scale + 8), 0x1701);
	must_eq(host_get(h.scale + 12, 2), 512);
	must_eq(host_get32(h.scale + 16), 40);
	must_eq(host_get(h.scale + 20, 2), 40);
	must_eq(host_get32(h.scale + 24), 552);
	for (i = 0; i < 128; i++)
		must_eq(host_get32(h.scale + 40 + i * 4), i % 4);
	must_eq(h.scale[552], 0x6d);
	must_eq(h.scale[591], 0xfa);
	/* The address. */
	must_eq(h.param_bytes, 72);
	must_eq(host_get32(h.param), 20);
	must_eq(host_get32(h.param + 4), 28);
	must_eq(host_get32(h.param + 8), 2);
	must_eq(host_get32(h.param + 12), 48);
	must_eq(host_get32(h.param + 16), 24);
	for (i = 0; i < 26; i++)
		must_eq(host_get(h.param + 20 + i * 2, 2), text[i]);
	must_eq(memcmp(h.nv.mac, opts.mac, 6), 0);
	must_eq(memcmp(h.nv.permanent_mac, h.mac, 6), 0);
	must_eq(h.opened, 4);
	must_eq(h.nv.offered, 4);
	for (i = 0; i < 16; i++)
		must_eq(h.nv.table[i], i % 4);
	host_free(&h);
}
END_TEST

/* Fewer sub-channels than wanted, none, or more than asked for. */
START_TEST(netvsc_start__takes_channels)
{
	static const struct {
		uint32_t queues, grant, offers, status, is, opened;
	} cases[] = {
		{ 4, 3, 3, 1, 4, 4 }, { 3, UINT32_MAX, 2, 1, 3, 3 }, { 4, 1, 1, 1, 2, 2 },
		{ 4, 0, 0, 1, 1, 1 }, { 4, 3, 0, 2, 1, 1 },	     { 1, 3, 0, 1, 1, 1 },
		{ 4, 9, 3, 1, 4, 4 }, { 4, 3, 1, 1, 4, 2 },
	};
	struct vmbus_netvsc_opts opts;
	struct vmbus_netvsc_stats stats;
	struct host h;
	uint32_t i;

	host_start(&h);
	h.queues = cases[_i].queues;
	h.grant = cases[_i].grant;
	h.offers = cases[_i].offers;
	h.refuse_type = cases[_i].status == 1 ? 0 : 133;
	h.refuse_status = cases[_i].status;
	opts = host_opts(&h);
	opts.subchannels = 3;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.nv.offered, cases[_i].is);
	must_eq(h.opened, cases[_i].opened);
	for (i = 0; i < h.nv.offered; i++) {
		must_eq(vmbus_netvsc_stats(&h.nv, i, &stats), 0);
		must_eq(stats.sections, 42 / h.nv.offered);
		must_eq(stats.sections_free, stats.sections);
	}
	must_eq(vmbus_netvsc_stats(&h.nv, 4, &stats), VMBUS_E_RANGE);
	host_free(&h);
	must_eq(h.closed, 1);
}
END_TEST

START_TEST(netvsc_start__refuses)
{
	struct vmbus_netvsc_opts opts;
	struct host h;

	host_start(&h);
#define REFUSED(change, error)                                                                     \
	do {                                                                                       \
		opts = host_opts(&h);                                                              \
		change;                                                                            \
		must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), error);                    \
	} while (0)
	REFUSED(opts.struct_bytes--, VMBUS_E_INVAL);
	REFUSED(opts.chan = NULL, VMBUS_E_INVAL);
	REFUSED(opts.mac[0] = 1, VMBUS_E_INVAL);
	REFUSED(opts.open.struct_bytes = 8, VMBUS_E_INVAL);
	REFUSED(opts.subchannels = 64, VMBUS_E_RANGE);
	REFUSED(opts.mtu = 67, VMBUS_E_RANGE);
	REFUSED(opts.mtu = 65522, VMBUS_E_RANGE);
	REFUSED(opts.frames_max = 65, VMBUS_E_RANGE);
	REFUSED(opts.receive_bytes = 65535, VMBUS_E_RANGE);
	REFUSED(opts.send_bytes = (31u << 20) + 1, VMBUS_E_RANGE);
	REFUSED(opts.open.send_bytes = 5000, VMBUS_E_RANGE);
	opts = host_opts(&h);
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), 0);
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), VMBUS_E_STATE);
	loop_settle(h.l);
	must_eq(h.ready_err, 0);
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), VMBUS_E_STATE);
	host_free(&h);
}
END_TEST

/* No memory, at each allocation of the start: an error or ready() with one, and nothing is kept. */
START_TEST(netvsc_start__no_memory)
{
	struct vmbus_netvsc_opts opts;
	struct host h;

	host_start(&h);
	opts = host_opts(&h);
	opts.receive_bytes = 31u << 20;
	opts.send_bytes = 31u << 20;
	opts.open.send_bytes = opts.open.recv_bytes = 8u << 20;
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), VMBUS_E_NOMEM);
	must_eq(host_client(&h, NULL), 0);
	host_free(&h);
}
END_TEST

START_TEST(netvsc_stop__halts)
{
	struct host h;
	uint32_t i;

	host_start(&h);
	for (i = 0; i < 3; i++) {
		h.ready = h.closed = h.type_count = h.oid_count = h.tried_count = 0;
		must_eq(host_client(&h, NULL), 0);
		must_eq(vmbus_netvsc_stop(&h.nv), 0);
		must_eq(vmbus_netvsc_stop(&h.nv), VMBUS_E_STATE);
		loop_settle(h.l);
		must_eq(h.closed, 1);
		must_eq(h.halts, i + 1);
		must_eq(h.revokes, 2 * i + 2);
		must_eq(vmbus_netvsc_stop(&h.nv), VMBUS_E_STATE);
		must_eq(vmbus_vsc_state(host_vsc(&h)), VMBUS_VSC_OFFERED);
	}
	host_free(&h);
}
END_TEST

/* From within callbacks, and at any step. */
START_TEST(netvsc_stop__at_any_time)
{
	static const uint32_t oids[] = { 0x00010106, 0x01010101, 0xFC01020D, 0xFC01020C, 0x00010114,
					 0x00010107, 0x00010203, 0x00010204, 0x0001010E };
	struct vmbus_netvsc_opts opts;
	struct host h;

	host_start(&h);
	opts = host_opts(&h);
	opts.subchannels = 2;
	h.stop_at_oid = oids[_i];
	must_eq(host_client(&h, &opts), VMBUS_E_STATE);
	must_eq(h.closes, h.opens);
	h.stop_at_oid = 0;
	h.ready = h.tried_count = h.type_count = h.oid_count = 0;
	h.stop_in = 1;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.closed, 1);
	/* Before it is open, and while its buffers are shared. */
	h.ready = h.closed = h.stop_in = 0;
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), 0);
	must_eq(vmbus_netvsc_stop(&h.nv), 0);
	loop_settle(h.l);
	must_eq(h.ready, 1);
	must_eq(h.ready_err, VMBUS_E_STATE);
	host_free(&h);
	must_eq(h.closed, 0);
}
END_TEST

/* Few pages, so that few messages go before what both say to agree. */
static struct vmbus_netvsc_opts opts_of_few(struct host *h)
{
	struct vmbus_netvsc_opts opts = host_opts(h);

	opts.receive_bytes = opts.send_bytes = 64u << 10;
	opts.open.send_bytes = opts.open.recv_bytes = 4096;
	return opts;
}

/* The parent withdraws the NIC, at rest and under way. */
START_TEST(netvsc_start__survives_rescind)
{
	struct vmbus_netvsc_opts opts;
	struct host h;
	uint32_t i;

	host_start(&h);
	opts = opts_of_few(&h);
	opts.subchannels = 2;
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), 0);
	for (i = 0; i < (uint32_t)_i; i++) {
		(void)vmbus_guest_dispatch(h.l->guest, 1);
		(void)vmbus_bus_dispatch(h.l->bus, 1);
	}
	if (_i == STEPS - 1)
		must_eq(h.ready, 1);
	vmbus_bus_reset(h.l->bus);
	(void)loop_bus_turn(h.l); /* it reads no page of the guest's any more */
	vmbus_guest_parent_gone(h.l->guest);
	loop_settle(h.l);
	must_eq(h.ready + h.closed, h.ready_err == 0 && h.ready ? 2 : 1);
	/* FAULT: what the parent was being given when it left is lost. */
	must(h.closed ? h.ready_err == 0
		      : h.ready_err == VMBUS_E_PEER || h.ready_err == VMBUS_E_FAULT);
	must(h.nv.buffer_p[0].pages == NULL);
	loop_end_guest(h.l);
	loop_new_guest(h.l, NULL);
	loop_connect(h.l);
	host_free(&h);
}
END_TEST

/* The parent withdraws the channel, which ends in order, while both agree: PEER. */
START_TEST(netvsc_start__tells_of_a_withdrawal)
{
	struct vmbus_netvsc_opts opts;
	struct host h;
	uint32_t i;

	host_start(&h);
	opts = opts_of_few(&h);
	opts.subchannels = 2;
	h.silent_oid = 0x0001010E; /* the last one that is asked */
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), 0);
	for (i = 0; i < (uint32_t)_i; i++) {
		(void)vmbus_guest_dispatch(h.l->guest, 1);
		(void)vmbus_bus_dispatch(h.l->bus, 1);
	}
	if (_i == STEPS - 1)
		must_eq(h.filter, 0x0D);
	must_eq(vmbus_bus_revoke(h.offered), 0);
	loop_settle(h.l);
	must_eq(h.ready, 1);
	must_eq(h.ready_err, VMBUS_E_PEER);
	must_eq(vmbus_netvsc_stop(&h.nv), VMBUS_E_STATE);
	host_free(&h);
	must_eq(h.closed, 0);
}
END_TEST

/* The parent breaks the channel while both agree, or the user stops it first: ready() tells which. */
START_TEST(netvsc_start__tells_who_ended_it)
{
	const bool stop = _i >= STEPS;
	struct vmbus_netvsc_opts opts;
	struct host h;
	uint32_t i;

	host_start(&h);
	opts = opts_of_few(&h);
	h.silent_oid = 0x0001010E;
	must_eq(vmbus_netvsc_start(&h.nv, host_vsc(&h), &opts), 0);
	for (i = 0; i < (uint32_t)_i % STEPS || !h.channel[0]; i++) {
		(void)vmbus_guest_dispatch(h.l->guest, 1);
		(void)vmbus_bus_dispatch(h.l->bus, 1);
	}
	if (stop)
		must_eq(vmbus_netvsc_stop(&h.nv), 0);
	vmbus_chan_fail(h.channel[0], "for a test");
	loop_settle(h.l);
	must_eq(h.ready, 1);
	must_eq(h.ready_err, stop ? VMBUS_E_STATE : VMBUS_E_PEER);
	must_eq(vmbus_netvsc_stop(&h.nv), VMBUS_E_STATE);
	host_free(&h);
	must_eq(h.closed, 0);
}
END_TEST

/* Frames of the MTU have room on every channel, if need be on fewer ones; frame_max and tso_max are never
   more than a channel's part of the sections holds. */
START_TEST(netvsc_start__limits_hold_on_each_channel)
{
	static const struct {
		uint32_t section, mtu, subchannels, offered, frame_max, tso_max;
	} cases[] = {
		{ 6144, 1500, 3, 4, 1514, 2 * 6144 - 124 },
		{ 6144, 9000, 3, 4, 9014, 2 * 6144 - 124 },
		{ 6144, 20000, 3, 2, 20014, 5 * 6144 - 124 },
		{ 6144, 30582, 3, 2, 30596, 5 * 6144 - 124 },
		{ 6144, 30583, 3, 1, 30597, 10 * 6144 - 124 },
		{ 6144, 65521, 3, 1, 10 * 6144 - 124, 10 * 6144 - 124 },
		{ 65536, 9000, 3, 1, 9014, 62780 },
		{ 256, 1500, 3, 4, 1514, 33 * 256 - 124 },
	};
	static uint8_t p[66000];
	struct vmbus_iov piece = { p, 0 };
	struct vmbus_frame frame = { .piece = &piece, .pieces = 1, .mss = 1400 };
	struct vmbus_netvsc_opts opts;
	struct host h;
	uint32_t i;

	host_start(&h);
	h.send_section = cases[_i].section;
	h.frame_size = 65521;
	opts = host_opts(&h);
	opts.send_bytes = 64u << 10;
	opts.mtu = cases[_i].mtu;
	opts.subchannels = cases[_i].subchannels;
	must_eq(host_client(&h, &opts), 0);
	must_eq(h.nv.offered, cases[_i].offered);
	must_eq(h.opened, cases[_i].offered);
	must_eq(h.nv.frame_max, cases[_i].frame_max);
	must_eq(h.nv.tso_max, cases[_i].tso_max);
	memcpy(p, "12345612345\x6\x8\0\x45", 15);
	p[14 + 9] = 6;
	p[14 + 20 + 12] = 0x50;
	for (i = 0; i < h.nv.offered; i++) {
		frame.flags = 0;
		piece.len = frame.bytes = h.nv.frame_max + 4;
		must_eq(vmbus_netvsc_send(&h.nv, i, &frame, 1), 1);
		loop_settle(h.l);
		frame.flags = VMBUS_FRAME_TSO4 | VMBUS_FRAME_CSUM | VMBUS_FRAME_VLAN;
		piece.len = frame.bytes = h.nv.tso_max;
		must_eq(vmbus_netvsc_send(&h.nv, i, &frame, 1), 1);
		loop_settle(h.l);
		must_eq(h.frames, 2 * i + 2);
		must_eq(h.frame[2 * i].channel, i);
		must_eq(h.frame[2 * i + 1].bytes, h.nv.tso_max);
	}
	host_free(&h);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "start", 20);

	tcase_add_loop_test(tc, netvsc_start__agrees, 0, 6);
	tcase_add_loop_test(tc, netvsc_start__tells_why_not, 0, 13);
	tcase_add_loop_test(tc, netvsc_start__refuses_sections, 0, 8);
	tcase_add_loop_test(tc, netvsc_start__does_without, 0, 8);
	tcase_add_loop_test(tc, netvsc_start__sets, 0, 2);
	tcase_add_loop_test(tc, netvsc_start__takes_channels, 0, 8);
	tcase_add_loop_test(tc, netvsc_start__limits_hold_on_each_channel, 0, 8);
	tcase_add_test(tc, netvsc_start__refuses);
	tcase_add_test(tc, netvsc_start__no_memory);
	tc = vmbus_test_case(suite, "end", 20);
	tcase_add_test(tc, netvsc_stop__halts);
	tcase_add_loop_test(tc, netvsc_stop__at_any_time, 0, 9);
	tcase_add_loop_test(tc, netvsc_start__survives_rescind, 0, STEPS);
	tcase_add_loop_test(tc, netvsc_start__tells_of_a_withdrawal, 0, STEPS);
	tcase_add_loop_test(tc, netvsc_start__tells_who_ended_it, 0, 2 * STEPS);
}

VMBUS_TEST_MAIN("net.netvsc", tests)
