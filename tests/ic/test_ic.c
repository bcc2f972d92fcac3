/* SPDX-License-Identifier: MIT */
/*
 * The parent's end of the integration components, byte by byte, against a child that answers as a
 * Linux guest does, or as none should: devices/ic/vsp.c, vsp_msg.c.
 */
#include "ic.h"

/* ---- what is on the wire ---- */

static void check_pipe(const uint8_t *m, uint32_t len)
{
	must(len % 8 == 0);
	must_eq(ic_get(m, 4), 1);
	must(ic_get(m + 4, 4) + 8 <= len);
	must(len - (ic_get(m + 4, 4) + 8) < 8);
}

START_TEST(ic_create__offers_what_hyper_v_does)
{
	static const uint16_t flags = 0x11; /* [IC-OFFER] */
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	static const char *const instances[] = { "b6650ff7-33bc-4840-8048-e0676786f393",
						 "2dd1ce17-079e-403c-b352-a1921ee207ee",
						 "fd149e91-82e0-4a7d-afa6-2a4166cbd7c0" };
	static const char *const names[] = { "shutdown", "timesync", "heartbeat" };
	uint32_t i, j;

	must_eq(l->offered, 3);
	for (i = 0; i < 3; i++) {
		struct vmbus_vsc *vsc = vmbus_vsc_find(l->guest, &ic_class[i], 0);
		struct vmbus_vsc_info info;
		char text[37];

		must(vsc != NULL);
		vmbus_vsc_info(vsc, &info);
		must_eq(info.offer.flags, flags);
		must_eq(info.offer.user[0], 4);
		for (j = 1; j < 120; j++)
			must_eq(info.offer.user[j], 0);
		vmbus_guid_format(&info.offer.instance_id, text);
		ck_assert_str_eq(text, instances[i]);
		ck_assert_str_eq(vmbus_class_name(&info.offer.class_id), names[i]);
	}
	must(!ic_readable(ic));
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_create__negotiates)
{
	/* [IC-NEGOTIATE]: framework 1.0 and 3.0; messages as Linux knows them. */
	static const uint8_t versions[3][4][4] = {
		{ { 1, 0, 0, 0 }, { 3, 0, 0, 0 }, { 3, 0, 1, 0 }, { 3, 0, 2, 0 } },
		{ { 1, 0, 0, 0 }, { 3, 0, 0, 0 }, { 4, 0, 0, 0 } },
		{ { 1, 0, 0, 0 }, { 3, 0, 0, 0 } },
	};
	static const uint32_t count[] = { 4, 3, 2 };
	static const uint8_t framework[2][4] = { { 1, 0, 0, 0 }, { 3, 0, 0, 0 } };
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	uint32_t i, j;

	for (i = 0; i < 3; i++) {
		const struct ic_kept *k = ic_open(l, i);
		const uint8_t *m = k->last;

		must_eq(k->count, 1);
		check_pipe(m, k->len);
		must_eq(ic_get(m + 8, 4), 0);  /* framework */
		must_eq(ic_get(m + 12, 2), 0); /* negotiate */
		must_eq(ic_get(m + 14, 4), 0);
		must_eq(ic_get(m + 18, 2), 8 + 4 * (2 + count[i]));
		must_eq(ic_get(m + 20, 4), 0);
		must_eq(m[25], 3);
		must_eq(ic_get(m + 26, 2), 0);
		must_eq(ic_get(m + 28, 2), 2);
		must_eq(ic_get(m + 30, 2), count[i]);
		must_eq(ic_get(m + 32, 4), 0);
		must_eq(memcmp(m + 36, framework, 8), 0);
		for (j = 0; j < count[i]; j++)
			must_eq(memcmp(m + 44 + 4 * j, versions[i][j], 4), 0);
	}
	must_eq(ic_events.count, 0);
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_shutdown__sends_all_of_it)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = ic_open(l, 0);
	const uint8_t *m = k->last;
	uint8_t transaction;
	uint32_t i;

	must_eq(vmbus_ic_shutdown(ic, 0, 0, NULL), VMBUS_E_STATE); /* not ready */
	ic_agree(l, k, 0x30002);
	must_eq(ic_value(1, VMBUS_IC_READY), 0x30002);
	transaction = k->last[24];
	must_eq(k->count, 1);
	must_eq(vmbus_ic_shutdown(ic, VMBUS_IC_FORCE | VMBUS_IC_RESTART, 77, "bye"), 0);
	must_eq(vmbus_ic_shutdown(ic, 0, 0, NULL), VMBUS_E_STATE); /* under way */
	loop_settle(l);
	must_eq(k->count, 2);
	must_eq(k->len, IC_SHUTDOWN_WHOLE);
	must_eq(ic_get(m + 4, 4), IC_SHUTDOWN_WHOLE - 8);
	must_eq(ic_get(m + 8, 4), 3);
	must_eq(ic_get(m + 12, 2), 3);
	must_eq(ic_get(m + 14, 4), 0x20003);
	must_eq(ic_get(m + 18, 2), 2060);
	must_eq(m[25], 3);
	must(m[24] != transaction);
	must_eq(ic_get(m + 28, 4), 0x80000000u); /* planned */
	must_eq(ic_get(m + 32, 4), 77);
	must_eq(ic_get(m + 36, 4), 3);
	must_eq(memcmp(m + 40, "b\0y\0e\0\0", 8), 0);
	for (i = 46; i < IC_SHUTDOWN_WHOLE; i++)
		must_eq(m[i], 0);
	ic_answer(l, k, 0);
	must_eq(ic_value(1, VMBUS_IC_ANSWERED), 0);
	must_eq(vmbus_ic_shutdown(ic, 0, 0, NULL), 0);
	loop_settle(l);
	ic_answer(l, k, VMBUS_IC_LOCKED); /* [IC-STATUS] */
	must_eq(ic_value(1, VMBUS_IC_ANSWERED), 0x800704F7u);
	must_eq(ic_count(1, VMBUS_IC_ANSWERED), 2);
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_shutdown__refuses)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = ic_open(l, 0);
	char text[VMBUS_IC_TEXT_MAX + 2];

	ic_agree(l, k, 0x30000);
	memset(text, 'x', sizeof(text));
	text[VMBUS_IC_TEXT_MAX + 1] = '\0';
	must_eq(vmbus_ic_shutdown(ic, 8, 0, NULL), VMBUS_E_RANGE);
	must_eq(vmbus_ic_shutdown(ic, 6, 0, NULL), VMBUS_E_RANGE);
	must_eq(vmbus_ic_shutdown(ic, 0, 0, text), VMBUS_E_RANGE);
	must_eq(vmbus_ic_shutdown(ic, 0, 0, "gr\xc3\xbc\xc3\x9f"), VMBUS_E_RANGE);
	text[VMBUS_IC_TEXT_MAX] = '\0';
	must_eq(vmbus_ic_shutdown(ic, 0, 0, text), 0);
	loop_settle(l);
	must_eq(ic_get(k->last + 40 + 2 * 1022, 4), 'x'); /* and a zero after it */
	ic_end(l, ic);
}
END_TEST

/* A child whose ring has no room: told, and nothing is lost. */
START_TEST(ic_shutdown__full)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct ic_kept *k = &ic_kept[0];
	uint32_t i;

	memset(k, 0, sizeof(*k));
	opts.send_bytes = opts.recv_bytes = 4096;
	opts.packets = ic_packets;
	opts.priv = k;
	opts.poll = true; /* nothing is read unless we say so */
	k->vsc = vmbus_vsc_find(l->guest, &ic_class[0], 0);
	must_eq(vmbus_vsc_open(k->vsc, &opts), 0);
	loop_settle(l);
	must(vmbus_vsc_dispatch(k->vsc, 64) >= 0);
	ic_agree(l, k, 0x30000);
	for (i = 0; i < 2; i++) {
		uint8_t m[64] = { 0 };

		must_eq(vmbus_ic_shutdown(ic, 0, 0, NULL), i ? VMBUS_E_FULL : 0);
		/* Answer the first without having read it. */
		ic_put(m, 4, 1);
		ic_put(m + 4, 4, 56);
		ic_put(m + 12, 2, 3);
		m[24] = (uint8_t)(k->last[24] + 1);
		m[25] = 5;
		if (i == 0)
			ic_send(l, k, m, 64);
	}
	must_eq(ic_count(1, VMBUS_IC_ANSWERED), 1);
	loop_settle(l);
	must(vmbus_vsc_dispatch(k->vsc, 64) >= 0);
	loop_settle(l);
	must_eq(vmbus_ic_shutdown(ic, 0, 0, NULL), 0);
	ic_end(l, ic);
}
END_TEST

/* Both layouts of the body, one sync, then samples, each after the answer to the last. [IC-TIME] */
START_TEST(ic_dispatch__sends_the_time)
{
	const uint32_t version = _i ? 0x40000 : 0x30000;
	const uint32_t bytes = _i ? 24 : 28, at = 28 + (_i ? 16u : 24u);
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic;
	struct vmbus_ic_info info;
	struct ic_kept *k;
	const uint8_t *m;
	uint32_t i, j;

	o.sample_ns = 2000000;
	ic = ic_start(l, &o);
	k = ic_open(l, 1);
	m = k->last;
	l->now = 5555555;
	must(!ic_readable(ic));
	ic_agree(l, k, version);
	for (i = 0; i < 4; i++) {
		vmbus_test_at("message %u", i);
		must_eq(k->count, 2 + i);
		check_pipe(m, k->len);
		must_eq(ic_get(m + 12, 2), 4);
		must_eq(ic_get(m + 18, 2), bytes);
		must_eq(ic_get(m + 14, 4), version >> 16);
		must_eq(ic_get(m + 28, 8), IC_WALL);
		must(_i ? ic_get(m + 36, 8) >= 5555555 && ic_get(m + 36, 8) <= l->now
			: ic_get(m + 36, 8) == 0);
		must_eq(m[at], i == 0 ? 1 : 2);
		for (j = at + 1; j < 28 + bytes; j++)
			must_eq(m[j], 0);
		must(!ic_readable(ic)); /* it waits for the answer */
		must_eq(vmbus_ic_dispatch(ic), 0);
		ic_answer(l, k, 0);
		vmbus_ic_info(ic, &info);
		must_eq(info.samples, i + 1);
		must_eq(ic_turn(ic), 1);
		loop_settle(l);
	}
	must_eq(info.ready, VMBUS_IC_TIMESYNC);
	must_eq(info.framework, 0x30000);
	must_eq(info.message, version);
	ic_answer(l, k, VMBUS_IC_FAILED); /* is no sample, and no reason to sync again */
	vmbus_ic_info(ic, &info);
	must_eq(info.samples, 4);
	must_eq(ic_turn(ic), 1);
	loop_settle(l);
	must_eq(m[at], 2);
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_sync__sets_the_clock_once_more)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k;

	must_eq(vmbus_ic_sync(ic), VMBUS_E_STATE);
	k = ic_open(l, 1);
	must_eq(vmbus_ic_sync(ic), VMBUS_E_STATE); /* negotiating */
	ic_agree(l, k, 0x40000);
	ic_answer(l, k, 0);
	must_eq(k->count, 2);
	must_eq(vmbus_ic_sync(ic), 0); /* nothing is under way: at once */
	loop_settle(l);
	must_eq(k->count, 3);
	must_eq(k->last[28 + 16], 1);
	must_eq(vmbus_ic_sync(ic), 0); /* that is under way: after its answer */
	must_eq(vmbus_ic_sync(ic), 0);
	loop_settle(l);
	must_eq(k->count, 3);
	must(!ic_readable(ic));
	ic_answer(l, k, 0);
	must_eq(ic_turn(ic), 1);
	loop_settle(l);
	must_eq(k->count, 4);
	must_eq(k->last[28 + 16], 1);
	ic_answer(l, k, 0);
	must(!ic_readable(ic)); /* and then samples, in their time */
	must_eq(vmbus_ic_sync(ic), 0);
	must_eq(vmbus_ic_sync(ic), 0);
	must_eq(vmbus_vsc_close(k->vsc), 0);
	loop_settle(l);
	k = ic_open(l, 1); /* a wish of an earlier opening is none of this one */
	ic_agree(l, k, 0x40000);
	ic_answer(l, k, 0);
	must(!ic_readable(ic));
	ic_end(l, ic);
}
END_TEST

/* Without a reference time a version that refers to it would set a wrong clock. */
START_TEST(ic_create__offers_no_version_4_without_a_reference_time)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic;
	struct ic_kept *k;

	l->parent.time = NULL;
	ic = ic_start(l, &o);
	k = ic_open(l, 1);
	must_eq(ic_get(k->last + 30, 2), 2);
	must_eq(ic_get(k->last + 44, 2), 1);
	must_eq(ic_get(k->last + 48, 2), 3);
	ic_agree(l, k, 0x40000);
	must_eq(k->closed, 1);
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_dispatch__beats)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic_info info;
	struct vmbus_ic *ic;
	struct ic_kept *k;
	uint64_t sequence = 0;
	uint32_t i, j;

	o.heartbeat_ns = 2000000;
	o.lost_after = 3;
	ic = ic_start(l, &o);
	k = ic_open(l, 2);
	ic_agree(l, k, 0x30000);
	for (i = 0; i < 5; i++) {
		must_eq(k->count, 2 + i);
		check_pipe(k->last, k->len);
		must_eq(ic_get(k->last + 12, 2), 1);
		must_eq(ic_get(k->last + 18, 2), 40); /* [IC-HEARTBEAT] */
		must(i == 0 || ic_get(k->last + 28, 8) == sequence + 1);
		sequence = ic_get(k->last + 28, 8);
		for (j = 36; j < 68; j++)
			must_eq(k->last[j], 0);
		ic_put(k->last + 28, 8, sequence + 1);
		ic_answer(l, k, 0);
		must_eq(ic_count(4, VMBUS_IC_ALIVE), 1);
		must_eq(ic_turn(ic), 1);
		loop_settle(l);
	}
	for (i = 0; i < 5; i++) /* and now it hangs */
		must_eq(ic_turn(ic), 0);
	loop_settle(l);
	must_eq(k->count, 7);
	must_eq(ic_count(4, VMBUS_IC_LOST), 1);
	must_eq(ic_value(4, VMBUS_IC_LOST), 3);
	vmbus_ic_info(ic, &info);
	must(!info.alive);
	must_eq(info.missed, 5);
	must_eq(info.beats, 5);
	ic_answer(l, k, 0); /* it comes back */
	must_eq(ic_count(4, VMBUS_IC_ALIVE), 2);
	must_eq(ic_turn(ic), 1);
	vmbus_ic_info(ic, &info);
	must(info.alive);
	must_eq(info.ready, VMBUS_IC_HEARTBEAT);
	must_eq(vmbus_vsc_close(k->vsc), 0);
	loop_settle(l);
	must_eq(ic_count(4, VMBUS_IC_GONE), 1);
	vmbus_ic_info(ic, &info);
	must(!info.alive);
	must_eq(info.ready, 0);
	must(!ic_readable(ic)); /* nothing wakes any more */
	must_eq(poll(&(struct pollfd){ .fd = vmbus_ic_fd(ic), .events = POLLIN }, 1, 20), 0);
	ic_end(l, ic);
}
END_TEST

/* A child that never answered is lost as well. */
START_TEST(ic_dispatch__notices_a_child_that_hangs_from_the_start)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic;
	uint32_t i;

	o.heartbeat_ns = 1000000;
	ic = ic_start(l, &o);
	ic_agree(l, ic_open(l, 2), 0x10000);
	for (i = 0; i < 4; i++)
		must_eq(ic_turn(ic), 0);
	must_eq(ic_count(4, VMBUS_IC_LOST), 0);
	must_eq(vmbus_vsc_close(ic_kept[2].vsc), 0);
	loop_settle(l);
	ic_agree(l, ic_open(l, 2), 0x10000); /* and begins to count anew */
	for (i = 0; i < 4; i++)
		must_eq(ic_turn(ic), 0);
	must_eq(ic_count(4, VMBUS_IC_LOST), 0);
	must_eq(ic_turn(ic), 0);
	must_eq(ic_value(4, VMBUS_IC_LOST), 5); /* the default */
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_create__begins_anew_when_opened_again)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = NULL;
	uint32_t round, i;

	for (round = 1; round <= 4; round++) {
		vmbus_test_at("round %u", round);
		for (i = 0; i < 3; i++) {
			k = ic_open(l, i);
			must_eq(ic_get(k->last + 12, 2), 0);
			ic_agree(l, k, 0x30000);
			must_eq(ic_count(1u << i, VMBUS_IC_READY), round);
		}
		must_eq(ic_kept[1].last[28 + 24], 1); /* a sync, not a sample */
		ic_answer(l, &ic_kept[1], 0);
		ic_answer(l, &ic_kept[2], 0);
		must_eq(ic_count(4, VMBUS_IC_ALIVE), round);
		must_eq(vmbus_ic_shutdown(ic, 0, 0, NULL), 0); /* not answered */
		if (round % 2) {
			for (i = 0; i < 3; i++)
				must_eq(vmbus_vsc_close(ic_kept[i].vsc), 0);
			loop_settle(l);
		} else { /* the child is reset */
			loop_end_guest(l);
			memset(l->mem.used, 0, l->mem.pages);
			l->mem.shared_pages = 0;
			l->offered = l->gone = 0;
			loop_new_guest(l, NULL);
			loop_connect(l);
		}
		for (i = 0; i < 3; i++)
			must_eq(ic_count(1u << i, VMBUS_IC_GONE), round);
		must_eq(vmbus_ic_shutdown(ic, 0, 0, NULL), VMBUS_E_STATE);
	}
	ic_end(l, ic);
}
END_TEST

/* Open component 0 with a ring from the parent that has no room.  Returns its control page. */
static uint32_t *open_full(struct loop *l, struct ic_kept *k)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts) };
	uint32_t *ctl, i;
	size_t page;

	opts.send_bytes = opts.recv_bytes = 4096;
	opts.packets = ic_packets;
	opts.closed = ic_closed;
	opts.priv = k;
	for (page = 0; l->mem.used[page]; page++)
		;
	k->count = 0;
	k->vsc = vmbus_vsc_find(l->guest, &ic_class[0], 0);
	must_eq(vmbus_vsc_open(k->vsc, &opts), 0);
	/* Control page and data of the ring to the parent, then of the one from it.  [RING-CTL] */
	ctl = (uint32_t *)(void *)(l->mem.guest + (page + 2) * CHILD_PAGE);
	for (i = 0; i < 100 && !ctl[16]; i++) { /* feature bit: the rings are made */
		must(loop_bus_turn(l) < LOOP_BUDGET);
		must(vmbus_guest_dispatch(l->guest, 1) >= 0);
	}
	ctl[1] = 8; /* read index: all is full */
	loop_settle(l);
	must_eq(vmbus_vsc_state(k->vsc), VMBUS_VSC_OPEN);
	must_eq(k->count, 0);
	return ctl;
}

/* Such a child is asked when it has made room. */
START_TEST(ic_create__negotiates_when_there_is_room)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = &ic_kept[0];
	struct vmbus_vsc_info info;

	memset(k, 0, sizeof(*k));
	open_full(l, k)[1] = 0;
	vmbus_vsc_info(k->vsc, &info);
	must_eq(vmbus_bus_signal_event(l->bus, info.offer.conn_id, 0), 0);
	loop_settle(l);
	must_eq(k->count, 1);
	ic_agree(l, k, 0x30000);
	must_eq(ic_count(1, VMBUS_IC_READY), 1);
	ic_end(l, ic);
}
END_TEST

/* The request of an earlier opening is no request of this one. */
START_TEST(ic_vsp__answer_to_an_earlier_opening)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = ic_open(l, 0);

	must_eq(vmbus_vsc_close(k->vsc), 0);
	loop_settle(l);
	k->closed = 0;
	(void)open_full(l, k);
	ic_agree(l, k, 0x30000); /* what came the first time */
	must_eq(k->closed, 1);
	must_eq(ic_events.count, 0);
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_create__stays_unused_without_a_common_version)
{
	static const uint8_t counts[3][2] = { { 0, 0 }, { 1, 0 }, { 0, 1 } };
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = ic_open(l, 0);

	ic_edit(k, 0);
	ic_put(k->last + 18, 2, 16);
	ic_put(k->last + 28, 2, counts[_i][0]);
	ic_put(k->last + 30, 2, counts[_i][1]);
	ic_put(k->last + 36, 8, 0x1234567812345678); /* means nothing, [IC-NEGOTIATE] */
	ic_send(l, k, k->last, k->len);
	must_eq(ic_count(1, VMBUS_IC_REFUSED), 1);
	must_eq(ic_count(1, VMBUS_IC_READY), 0);
	must_eq(vmbus_ic_shutdown(ic, 0, 0, NULL), VMBUS_E_STATE);
	must_eq(k->closed, 0);
	must_eq(vmbus_vsc_close(k->vsc), 0);
	loop_settle(l);
	must_eq(ic_count(1, VMBUS_IC_GONE), 0);
	ic_end(l, ic);
}
END_TEST

START_TEST(ic_create__refuses)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic, *other = NULL;

	o.struct_bytes--;
	must_eq(vmbus_ic_create(l->bus, &o, &ic), VMBUS_E_INVAL);
	o = ic_opts();
	o.components = 8;
	must_eq(vmbus_ic_create(l->bus, &o, &ic), VMBUS_E_RANGE);
	o = ic_opts();
	o.heartbeat_ns = 999999;
	must_eq(vmbus_ic_create(l->bus, &o, &ic), VMBUS_E_RANGE);
	o.heartbeat_ns = UINT64_MAX;
	must_eq(vmbus_ic_create(l->bus, &o, &ic), VMBUS_E_RANGE);
	o = ic_opts();
	o.sample_ns = 1;
	must_eq(vmbus_ic_create(l->bus, &o, &ic), VMBUS_E_RANGE);
	o.sample_ns = UINT64_MAX;
	must_eq(vmbus_ic_create(l->bus, &o, &ic), VMBUS_E_RANGE);
	must_eq(vmbus_ic_create(l->bus, NULL, &ic), 0);
	must_eq(vmbus_ic_create(l->bus, NULL, &other), VMBUS_E_INVAL); /* on the bus already */
	must(other == NULL);
	vmbus_ic_destroy(NULL);
	ic_end(l, ic);
}
END_TEST

/* The last component finds no room: what was offered before is withdrawn. */
START_TEST(ic_create__leaves_nothing_on_error)
{
	struct vmbus_srv_opts srv = { .struct_bytes = sizeof(srv) };
	struct vmbus_ic *ic = NULL;
	struct loop *l;

	srv.chans_max = 2;
	l = loop_new(&srv, NULL);
	if (_i)
		loop_connect(l);
	must_eq(vmbus_ic_create(l->bus, NULL, &ic), VMBUS_E_FULL);
	must(ic == NULL);
	if (!_i)
		loop_connect(l);
	loop_settle(l);
	must_eq(l->offered, l->gone);
	loop_free(l);
}
END_TEST

START_TEST(ic_create__offers_what_is_asked_for)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic;

	o.components = VMBUS_IC_HEARTBEAT;
	ic = ic_start(l, &o);
	must_eq(l->offered, 1);
	must(vmbus_vsc_find(l->guest, &ic_class[2], 0) != NULL);
	must_eq(vmbus_ic_shutdown(ic, 0, 0, NULL), VMBUS_E_STATE);
	ic_end(l, ic);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "ic", 20);

	tcase_add_test(tc, ic_create__offers_what_hyper_v_does);
	tcase_add_test(tc, ic_create__negotiates);
	tcase_add_test(tc, ic_shutdown__sends_all_of_it);
	tcase_add_test(tc, ic_shutdown__refuses);
	tcase_add_test(tc, ic_shutdown__full);
	tcase_add_loop_test(tc, ic_dispatch__sends_the_time, 0, 2);
	tcase_add_test(tc, ic_sync__sets_the_clock_once_more);
	tcase_add_test(tc, ic_create__offers_no_version_4_without_a_reference_time);
	tcase_add_test(tc, ic_dispatch__beats);
	tcase_add_test(tc, ic_dispatch__notices_a_child_that_hangs_from_the_start);
	tcase_add_test(tc, ic_create__begins_anew_when_opened_again);
	tcase_add_test(tc, ic_create__negotiates_when_there_is_room);
	tcase_add_loop_test(tc, ic_create__stays_unused_without_a_common_version, 0, 3);
	tcase_add_test(tc, ic_create__refuses);
	tcase_add_loop_test(tc, ic_create__leaves_nothing_on_error, 0, 2);
	tcase_add_test(tc, ic_create__offers_what_is_asked_for);
	tcase_add_test(tc, ic_vsp__answer_to_an_earlier_opening);
}
VMBUS_TEST_MAIN("ic.ic", tests)
