/* SPDX-License-Identifier: MIT */
/*
 * The host machine: page lists, their fragments, ranges, quotas and teardown.
 * src/channel/srv_list.c.
 */
#include "srvbox.h"

static struct srvbox *ready(struct vmbus_srv_ref *chan, const struct vmbus_srv_opts *o)
{
	struct srvbox *const box = srvbox_new(o);

	*chan = srvbox_offer(box, 1);
	(void)srvbox_offer(box, 2);
	srvbox_connect(box, o && o->version_max ? o->version_max : VMBUS_PROTO_5_3,
		       o ? o->features : 0);
	return box;
}

/* Bytes as they are on the wire, little-endian. */
static void put(uint8_t *to, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		*to++ = (uint8_t)v;
}

/* [CTL-GPADL] [CTL-OPEN]: 66 pages in three messages, opened in the middle; byte by byte */
START_TEST(srv_message__gpadl_and_open_vectors)
{
	static const uint8_t head[28] = {
		8,    0,    0,	  0, 0,	   0, 0, 0, 1, 0, 0, 0,
		0x10, 0x1e, 0x0e, 0, 0x18, 2, 1, 0, 0, 0, 4, 0x20 - 0x20
	};
	static const uint8_t open[28] = { 5, 0, 0, 0,	 0,    0,    0, 0, 1, 0, 0, 0,	1,
					  0, 0, 0, 0x10, 0x1e, 0x0e, 0, 0, 0, 0, 0, 33, 0 };
	static const uint8_t created[20] = {
		10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x10, 0x1e, 0x0e
	};
	static const uint8_t result[20] = { 6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1 };
	struct vmbus_srv_ref chan, list;
	struct srvbox *box = ready(&chan, NULL);
	const uint64_t *qwords;
	uint8_t m[VMBUS_CTL_BYTES_MAX];
	uint32_t i, n, sent = 0, ranges;

	memset(m, 0, sizeof(m));
	memcpy(m, head, 20);
	put(m + 20, 4, 66 * 4096);
	for (i = 0; i < 26; i++)
		put(m + 28 + 8 * i, 8, 0x100 + sent++);
	must_eq(srvbox_bytes(box, 1, m, 236), 0);
	for (n = 28; sent < 66; n = 66 - sent) {
		srvbox_expect_nothing(box);
		memset(m, 0, sizeof(m));
		m[0] = 9;
		put(m + 12, 4, 0xE1E10);
		for (i = 0; i < n; i++)
			put(m + 16 + 8 * i, 8, 0x100 + sent++);
		must_eq(srvbox_bytes(box, 1, m, 240), 0); /* padded, as UEFI does */
	}
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL);
	must_eq(box->act.gpadl, 0xE1E10);
	must_eq(box->act.relid, 1);
	list = box->act.list;
	must_eq(vmbus_srv_list(box->srv, list, &qwords, &ranges), 67);
	must_eq(ranges, 1);
	must_eq(qwords[0], 66 * 4096);
	for (i = 0; i < 66; i++)
		must_eq(qwords[1 + i], 0x100 + i);
	must_eq(vmbus_srv_find_list(box->srv, chan, 0xE1E10, &list), VMBUS_E_RANGE);
	must_eq(vmbus_srv_gpadl_ready(box->srv, list, 0), 0);
	must_eq(vmbus_srv_gpadl_ready(box->srv, list, 0), VMBUS_E_STATE);
	(void)srvbox_expect(box, VMBUS_CTL_GPADL_CREATED);
	must_eq(box->act.len, 20);
	ck_assert_mem_eq(box->act.bytes, created, 20);
	must_eq(vmbus_srv_find_list(box->srv, chan, 0xE1E10, &list), 0);
	memset(m, 0, sizeof(m));
	memcpy(m, open, 28);
	m[28] = 0xab;
	must_eq(srvbox_bytes(box, 1, m, 148), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(box->act.downstream_page, 33);
	must_eq(box->act.target_vp, 0);
	must_eq(box->act.target_sint, 2);
	must_eq(box->act.conn_id, 0x2001);
	must_eq(box->act.event_flag, 1);
	must_eq(box->act.user[0], 0xab);
	must_eq(box->act.list.slot, list.slot);
	must_eq(vmbus_srv_opened(box->srv, chan, 0), 0);
	(void)srvbox_expect(box, VMBUS_CTL_OPEN_RESULT);
	must_eq(box->act.len, 20);
	ck_assert_mem_eq(box->act.bytes, result, 20);
	srvbox_free(box);
}
END_TEST

/* Ranges that cannot be are found when the last qword is there, and answered. */
static const struct ranges_case {
	uint32_t range_bytes, range_count, count;
	uint64_t q[6];
	bool good;
	uint32_t pages;
} ranges_cases[] = {
	{ 16, 1, 2, { 4096, 5 }, true, 1 },
	{ 16, 1, 2, { 1 | 4095ull << 32, 5 }, true, 1 },
	{ 23, 1, 3, { 4096, 5, 9 }, true, 1 }, /* floored to 2 qwords */
	{ 24, 1, 3, { 4096, 5, 9 }, true, 1 }, /* one is left over */
	{ 32, 2, 4, { 4096, 5, 8 | 16ull << 32, 6 }, true, 2 },
	{ 24, 1, 3, { 4097, 5, 6 }, true, 2 },
	{ 24, 1, 3, { 2 | 4095ull << 32, 5, 6 }, true, 2 },
	{ 16, 1, 2, { 0, 5 }, false, 0 },		     /* no bytes */
	{ 16, 1, 2, { 4096 | 4096ull << 32, 5 }, false, 0 }, /* begins past its first page */
	{ 16, 1, 2, { 4097, 5 }, false, 0 },		     /* a page is missing */
	{ 16, 1, 2, { 0xffffffff, 5 }, false, 0 },
	{ 16, 1, 2, { 0xffffffffffffffff, 5 }, false, 0 },
	{ 16, 1, 2, { 4096, 1ull << 52 }, false, 0 },
	{ 16, 0, 2, { 4096, 5 }, false, 0 },
	{ 16, 2, 2, { 4096, 5 }, false, 0 },
	{ 32, 2, 4, { 8192, 5, 6, 7 }, false, 0 }, /* no second range */
	{ 32, 2, 4, { 12288, 5, 6, 7 }, false, 0 },
	{ 8, 1, 1, { 4096 }, false, 0 },
	{ 7, 1, 1, { 4096 }, false, 0 },
	{ 0, 1, 1, { 4096 }, false, 0 },
	{ 65535, 65535, 2, { 4096, 5 }, false, 0 }, /* lesson 20: more than it can hold */
};

/* [CTL-GPADL] */
START_TEST(srv_message__gpadl_ranges)
{
	const struct ranges_case *const c = &ranges_cases[_i];
	struct vmbus_srv_ref chan, list;
	struct srvbox *box = ready(&chan, NULL);
	uint8_t m[VMBUS_CTL_BYTES_MAX];
	uint32_t i;

	memset(m, 0, sizeof(m));
	m[0] = VMBUS_CTL_GPADL_HEADER;
	put(m + 8, 4, 1);
	put(m + 12, 4, 7);
	put(m + 16, 2, c->range_bytes);
	put(m + 18, 2, c->range_count);
	for (i = 0; i < c->count; i++)
		put(m + 20 + 8 * i, 8, c->q[i]);
	must_eq(srvbox_bytes(box, 1, m, 20 + 8 * c->count), 0);
	if (c->good) {
		must_eq(srvbox_take(box), VMBUS_SRV_GPADL);
		must_eq(box->srv->stats.gpadl_bytes, c->pages * 4096);
		list = box->act.list;
		must_eq(vmbus_srv_gpadl_ready(box->srv, list, 0x1234), 0);
		must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, 0x1234);
	} else {
		must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status,
			VMBUS_STATUS_FAILED);
		must_eq(box->srv->stats.malformed, 1);
		must(box->srv->refusal.what[0]);
	}
	must_eq(box->srv->stats.gpadls, 0);
	must_eq(box->srv->stats.gpadl_bytes, 0);
	must_eq(box->lists, 0);
	srvbox_free(box);
}
END_TEST

/* Bodies of several lists in any order; ids in progress are unique over the connection. */
START_TEST(srv_message__gpadl_fragments_interleave)
{
	struct vmbus_srv_ref chan;
	struct srvbox *box = ready(&chan, NULL);

	must_eq(srvbox_say_header(box, 1, 1, 30, 2), 0);
	must_eq(srvbox_say_header(box, 2, 2, 30, 2), 0);
	must_eq(srvbox_say_header(box, 2, 1, 30, 2), 0); /* in progress on channel 1 */
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, VMBUS_STATUS_FAILED);
	must_eq(box->got.u.created.relid, 2);
	must_eq(srvbox_say_body(box, 2, 28), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL);
	must_eq(box->act.gpadl, 2);
	must_eq(srvbox_say_body(box, 1, 10), 0);
	must_eq(srvbox_say_body(box, 1, 10), 0);
	srvbox_expect_nothing(box);
	must_eq(srvbox_say_body(box, 1, 28), 0); /* 20 more than are needed */
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL);
	must_eq(box->act.gpadl, 1);
	must_eq(vmbus_srv_gpadl_ready(box->srv, box->act.list, 0), 0);
	(void)srvbox_expect(box, VMBUS_CTL_GPADL_CREATED);
	must_eq(srvbox_say_header(box, 2, 1, 4, 4), 0); /* complete: another channel may have it */
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL);
	must_eq(srvbox_say_header(box, 2, 1, 4, 4), 0); /* but not the same one */
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, VMBUS_STATUS_FAILED);
	must_eq(srvbox_say_header(box, 7, 1, 4, 4), 0); /* no such channel */
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.relid, 7);
	must_eq(box->got.u.created.status, VMBUS_STATUS_FAILED);
	must_eq(box->srv->stats.unknown_chan, 1);
	srvbox_free(box);
}
END_TEST

/* The asserts and the allocation that others had. */
START_TEST(lesson_20_body_for_a_complete_gpadl)
{
	struct vmbus_srv_ref chan;
	struct srvbox *box = ready(&chan, NULL);

	(void)srvbox_gpadl(box, 1, 5, 8);
	must_eq(srvbox_say_body(box, 5, 28), 0);
	must_eq(srvbox_say_body(box, 6, 28), 0);
	must_eq(box->srv->stats.unknown_gpadl, 2);
	srvbox_expect_nothing(box);
	srvbox_free(box);
}
END_TEST

START_TEST(lesson_20_length_of_16_bits_is_bounded)
{
	struct vmbus_srv_opts o;
	struct vmbus_srv_ref chan;
	struct srvbox *box;
	struct vmbus_ctl ctl;
	uint32_t i;

	memset(&o, 0, sizeof(o));
	o.gpadls_unfinished_max = 4;
	box = ready(&chan, &o);
	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_GPADL_HEADER;
	ctl.u.gpadl.relid = 1;
	ctl.u.gpadl.range_bytes = 65535;
	ctl.u.gpadl.range_count = 1;
	ctl.u.gpadl.count = 1;
	for (i = 0; i < 10; i++) {
		ctl.u.gpadl.gpadl = i;
		must_eq(srvbox_post(box, &ctl), 0);
		while (srvbox_take(box))
			continue;
	}
	must_eq(box->srv->stats.quota_unfinished, 6);
	must_eq(box->lists, 4);
	must_eq(box->list_qwords, 4 * 8191);
	srvbox_free(box);
}
END_TEST

/* Who pins everything is refused, by the name of the quota; other channels go on. */
START_TEST(lesson_21_page_lists_have_quotas)
{
	struct vmbus_srv_opts o;
	struct vmbus_srv_ref chan, list;
	struct vmbus_srv_refusal why;
	struct srvbox *box;
	uint32_t i;

	memset(&o, 0, sizeof(o));
	o.gpadls_max = 4;
	o.gpadl_bytes_max = 64 * 4096;
	box = ready(&chan, &o);
	list = srvbox_gpadl(box, 1, 1, 24);
	(void)srvbox_gpadl(box, 1, 2, 24);
	must_eq(srvbox_say_header(box, 1, 3, 17, 17), 0); /* 16 are left */
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, VMBUS_STATUS_FAILED);
	must_eq(box->srv->stats.quota_bytes, 1);
	vmbus_srv_last_refusal(box->srv, &why);
	must_eq(why.limit, 64 * 4096);
	must_eq(why.value, 48 * 4096);
	must_eq(why.relid, 1);
	must_eq(why.gpadl, 3);
	must_eq(why.ctl_type, VMBUS_CTL_GPADL_HEADER);
	must(strstr(why.what, "gpadl_bytes_max"));
	(void)srvbox_gpadl(box, 2, 3, 8);
	(void)srvbox_gpadl(box, 2, 4, 8);
	must_eq(srvbox_say_open(box, 2, 3, 4), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(srvbox_say_header(box, 2, 5, 4, 4), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, VMBUS_STATUS_FAILED);
	must_eq(box->srv->stats.quota_gpadls, 1);
	for (i = 0; i < 3; i++) {
		must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 1), 0);
		must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
		must_eq(vmbus_srv_gpadl_gone(box->srv, list), 0);
		must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_TORNDOWN)->u.created.gpadl, 1);
		list = srvbox_gpadl(box, 1, 1, 24);
	}
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 1), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(vmbus_srv_gpadl_gone(box->srv, list), 0);
	(void)srvbox_expect(box, VMBUS_CTL_GPADL_TORNDOWN);
	box->no_lists = true;
	must_eq(srvbox_say_header(box, 1, 1, 4, 4), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, VMBUS_STATUS_FAILED);
	must_eq(box->srv->stats.gpadls, 3);
	srvbox_free(box);
}
END_TEST

/* Each teardown is answered; only what may not be said is not. */
START_TEST(srv_message__teardown_is_answered)
{
	struct vmbus_srv_ref chan, list;
	struct srvbox *box = ready(&chan, NULL);

	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 9), 0); /* no such list anywhere */
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_TORNDOWN)->u.created.gpadl, 9);
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 99, 9), 0);
	(void)srvbox_expect(box, VMBUS_CTL_GPADL_TORNDOWN);
	(void)srvbox_gpadl(box, 1, 9, 8);
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 2, 9), 0); /* the other channel's */
	srvbox_expect_nothing(box);
	must_eq(box->srv->stats.unknown_gpadl, 3);
	/* Bodies are missing: both answers. */
	must_eq(srvbox_say_header(box, 1, 5, 30, 2), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 5), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, VMBUS_STATUS_FAILED);
	(void)srvbox_expect(box, VMBUS_CTL_GPADL_TORNDOWN);
	/* The device looks at it: both answers, when it has. */
	must_eq(srvbox_say_header(box, 1, 5, 8, 8), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL);
	list = box->act.list;
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 5), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 5), 0); /* twice: one answer is due */
	must_eq(box->srv->stats.out_of_order, 1);
	must_eq(vmbus_srv_gpadl_ready(box->srv, list, 0), 0);
	must_eq(vmbus_srv_gpadl_gone(box->srv, list), VMBUS_E_STATE); /* not asked yet */
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	(void)srvbox_expect(box, VMBUS_CTL_GPADL_CREATED);
	srvbox_expect_nothing(box);
	must_eq(vmbus_srv_gpadl_gone(box->srv, list), 0);
	(void)srvbox_expect(box, VMBUS_CTL_GPADL_TORNDOWN);
	must_eq(vmbus_srv_gpadl_gone(box->srv, list), VMBUS_E_STATE); /* lesson 18: stale */
	srvbox_free(box);
}
END_TEST

/* The rings of an open channel wait for the device to close. */
START_TEST(srv_message__teardown_of_open_rings_waits)
{
	struct vmbus_srv_ref chan;
	struct srvbox *box = ready(&chan, NULL);

	srvbox_open(box, chan, 1);
	(void)srvbox_gpadl(box, 1, 2, 8);
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 1), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 2), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(box->act.gpadl, 2);
	srvbox_expect_nothing(box);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	must_eq(srvbox_say_open(box, 1, 1, 4), 0); /* a list that goes cannot be opened */
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, VMBUS_STATUS_FAILED);
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(box->act.gpadl, 1);
	must_eq(vmbus_srv_gpadl_gone(box->srv, box->act.list), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_TORNDOWN)->u.created.gpadl, 1);
	srvbox_free(box);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "page lists", 10);

	tcase_add_test(tc, srv_message__gpadl_and_open_vectors);
	tcase_add_loop_test(tc, srv_message__gpadl_ranges, 0,
			    (int)(sizeof(ranges_cases) / sizeof(ranges_cases[0])));
	tcase_add_test(tc, srv_message__gpadl_fragments_interleave);
	tcase_add_test(tc, lesson_20_body_for_a_complete_gpadl);
	tcase_add_test(tc, lesson_20_length_of_16_bits_is_bounded);
	tcase_add_test(tc, lesson_21_page_lists_have_quotas);
	tcase_add_test(tc, srv_message__teardown_is_answered);
	tcase_add_test(tc, srv_message__teardown_of_open_rings_waits);
}
VMBUS_TEST_MAIN("channel.srv_list", tests)
