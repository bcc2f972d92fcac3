/* SPDX-License-Identifier: MIT */
/*
 * The host machine: storage, contact and versions, offers and their order, pause, unload, monitor
 * pages.  src/channel/srv.c, srv_conn.c, srv_offer.c.
 */
#include "srvbox.h"

START_TEST(srv_init__refuses_options)
{
	static _Alignas(16) uint8_t storage[4096];
	struct srvbox *box = srvbox_new(NULL);
	struct vmbus_srv_opts o = box->opts;
	struct vmbus_srv *srv;

	must(box->bytes > 1000);
	must_eq(vmbus_srv_init(box->storage, box->bytes - 1, &o, &srv), VMBUS_E_RANGE);
	must_eq(vmbus_srv_init((uint8_t *)box->storage + 8, box->bytes, &o, &srv), VMBUS_E_INVAL);
	o.struct_bytes--;
	must_eq(vmbus_srv_bytes(&o), 0);
	must_eq(vmbus_srv_init(storage, sizeof(storage), &o, &srv), VMBUS_E_INVAL);
	o = box->opts;
	o.chans_max = 2048;
	must_eq(vmbus_srv_bytes(&o), 0);
	must_eq(vmbus_srv_init(storage, sizeof(storage), &o, &srv), VMBUS_E_RANGE);
	o = box->opts;
	o.gpadls_max = 8193;
	must_eq(vmbus_srv_bytes(&o), 0);
	o = box->opts;
	o.queue_max = 5000;
	must_eq(vmbus_srv_bytes(&o), 0);
	o = box->opts;
	o.tl_max = 2000;
	must_eq(vmbus_srv_bytes(&o), 0);
	o = box->opts;
	o.version_max = 0x00050004;
	must_eq(vmbus_srv_bytes(&o), 0);
	o = box->opts;
	o.features = VMBUS_FEATURE_CONFIDENTIAL;
	must_eq(vmbus_srv_init(storage, sizeof(storage), &o, &srv), VMBUS_E_INVAL);
	o.features = VMBUS_FEATURE_PINNING;
	must_eq(vmbus_srv_bytes(&o), 0);
	o = box->opts;
	o.list_get = NULL;
	must_eq(vmbus_srv_init(box->storage, box->bytes, &o, &srv), VMBUS_E_INVAL);
	memset(&o, 0, sizeof(o));
	o.struct_bytes = sizeof(o);
	must(vmbus_srv_bytes(&o) < 1400 * 1024); /* all defaults; the manual says so */
	o.chans_max = 16;
	must(vmbus_srv_bytes(&o) < 32 * 1024);
	srvbox_free(box);
}
END_TEST

/* [CTL-CONTACT] [CTL-VERSION] the vectors of a contact and its answers, byte by byte */
START_TEST(srv_message__contact_vectors)
{
	static const uint8_t contact[40] = { 0x0e, 0, 0, 0, 0, 0,    0, 0, 3, 0, 5, 0,	  0, 0,
					     0,	   0, 2, 0, 0, 0,    0, 0, 0, 0, 0, 0x10, 1, 0,
					     0,	   0, 0, 0, 0, 0x20, 1, 0, 0, 0, 0, 0 };
	static const uint8_t ok[16] = { 0x0f, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0 };
	static const uint8_t refused[16] = { 0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
	struct srvbox *box = srvbox_new(NULL);
	uint8_t old[40];

	must_eq(srvbox_bytes(box, VMBUS_CONN_CONTACT, contact, 40), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CONNECTED);
	must_eq(box->act.version, VMBUS_PROTO_5_3);
	must_eq(box->act.monitor_p2c, 0x11000);
	must_eq(box->act.monitor_c2p, 0x12000);
	must_eq(srvbox_take(box), VMBUS_SRV_SEND);
	must_eq(box->act.target_vp, 0);
	must_eq(box->act.target_sint, 2);
	must_eq(box->act.len, 16);
	ck_assert_mem_eq(box->act.bytes, ok, 16);
	must_eq(vmbus_srv_version(box->srv), VMBUS_PROTO_5_3);
	memcpy(old, contact, 40);
	old[8] = 4;
	must_eq(srvbox_bytes(box, VMBUS_CONN_CONTACT, old, 40), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	must_eq(srvbox_take(box), VMBUS_SRV_SEND);
	must_eq(box->act.len, 16);
	ck_assert_mem_eq(box->act.bytes, refused, 16);
	must_eq(vmbus_srv_version(box->srv), 0);
	srvbox_free(box);
}
END_TEST

static const uint32_t yes[] = { VMBUS_PROTO_2_4, VMBUS_PROTO_3_0, VMBUS_PROTO_4_0,
				VMBUS_PROTO_4_1, VMBUS_PROTO_5_0, VMBUS_PROTO_5_1,
				VMBUS_PROTO_5_2, VMBUS_PROTO_5_3, VMBUS_PROTO_6_0 };
/* lesson 20: any number below 4.0 was taken elsewhere */
static const uint32_t no[] = { 0,	1,	 0xd,	  0x10001, 0x20003, 0x20005,	0x30001,
			       0x3ffff, 0x40002, 0x50004, 0x60001, 0x70000, 0xffffffffu };

START_TEST(lesson_20_versions_from_an_exact_table)
{
	struct vmbus_srv_opts o;
	struct srvbox *box;
	uint32_t i;

	memset(&o, 0, sizeof(o));
	o.version_max = VMBUS_PROTO_6_0;
	box = srvbox_new(&o);
	for (i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		vmbus_test_at("version %x", yes[i]);
		must_eq(srvbox_contact(box, yes[i], 0), 0);
		while (srvbox_take(box) != VMBUS_SRV_SEND)
			continue;
		must(box->got.u.version.supported);
		must_eq(box->got.u.version.conn_id, yes[i] >= VMBUS_PROTO_5_0 ? 1 : yes[i]);
		must_eq(box->act.len, yes[i] >= VMBUS_PROTO_6_0 ? 20 : 16);
		must_eq(vmbus_srv_version(box->srv), yes[i]);
	}
	for (i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		vmbus_test_at("version %x", no[i]);
		must_eq(srvbox_contact(box, no[i], 0), 0);
		while (srvbox_take(box) != VMBUS_SRV_SEND)
			continue;
		must_eq(box->got.u.version.supported, 0);
		must_eq(box->got.u.version.state, 0);
		must_eq(box->act.len, 16);
		must_eq(vmbus_srv_version(box->srv), 0);
	}
	srvbox_free(box);
}
END_TEST

static const struct contact_case {
	uint32_t conn, version, sint, vtl, p2c, c2p;
	uint32_t supported, answer_vp, answer_sint;
} contacts[] = {
	{ 4, VMBUS_PROTO_5_3, 2, 0, 0, 0, 1, 7, 2 },
	{ 4, VMBUS_PROTO_5_3, 5, 0, 0, 0, 0, 7, 5 }, /* another SINT: told on that SINT */
	{ 4, VMBUS_PROTO_5_0, 15, 0, 0, 0, 0, 7, 15 },
	{ 4, VMBUS_PROTO_5_0, 16, 0, 0, 0, 0, 7, 2 }, /* there are 16 */
	{ 1, VMBUS_PROTO_5_3, 5, 1, 0, 0, 1, 7, 2 }, /* by connection 1 SINT and VTL do not count */
	{ 4, VMBUS_PROTO_5_1, 2, 1, 0, 0, 0, 7, 2 },
	{ 4, VMBUS_PROTO_5_0, 2, 1, 0, 0, 1, 7, 2 }, /* 5.0 has no VTL */
	{ 4, VMBUS_PROTO_4_1, 5, 1, 0, 0, 1, 7, 2 }, /* an address is there */
	{ 1, VMBUS_PROTO_2_4, 0, 0, 0, 0, 1, 0, 2 }, /* before 3.0: VP 0 */
	{ 1, VMBUS_PROTO_3_0, 0, 0, 0, 0, 1, 7, 2 },
	{ 4, VMBUS_PROTO_5_3, 2, 0, 0x1000, 0, 0, 7, 2 },
	{ 4, VMBUS_PROTO_5_3, 2, 0, 0, 0x1000, 0, 7, 2 },
	{ 4, VMBUS_PROTO_5_3, 2, 0, 0x1000, 0x2000, 1, 7, 2 },
};

/* [CTL-CONTACT] [CTL-SINT] */
START_TEST(srv_message__contact_rules)
{
	const struct contact_case *const c = &contacts[_i];
	struct srvbox *box = srvbox_new(NULL);
	struct vmbus_ctl ctl;
	uint8_t bytes[VMBUS_CTL_BYTES_MAX];
	int len;

	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_CONTACT;
	ctl.u.contact.version = c->version;
	ctl.u.contact.target_vp = 7;
	ctl.u.contact.target_sint = (uint8_t)c->sint;
	ctl.u.contact.target_vtl = (uint8_t)c->vtl;
	ctl.u.contact.monitor_p2c = c->p2c;
	ctl.u.contact.monitor_c2p = c->c2p;
	len = vmbus_ctl_encode(&ctl, 0, 0, bytes, sizeof(bytes));
	must_eq(srvbox_bytes(box, c->conn, bytes, (size_t)len), 0);
	while (srvbox_take(box) != VMBUS_SRV_SEND)
		continue;
	must_eq(box->got.u.version.supported, c->supported);
	must_eq(box->got.u.version.state, 0);
	must_eq(box->act.target_vp, c->answer_vp);
	must_eq(box->act.target_sint, c->answer_sint);
	must_eq(vmbus_srv_version(box->srv), c->supported ? c->version : 0);
	srvbox_free(box);
}
END_TEST

START_TEST(srv_message__redirects_to_the_message_connection)
{
	struct vmbus_srv_opts o;
	struct srvbox *box;

	memset(&o, 0, sizeof(o));
	o.message_conn = 0x800074;
	box = srvbox_new(&o);
	must_eq(srvbox_contact(box, VMBUS_PROTO_5_2, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CONNECTED);
	must_eq(srvbox_expect(box, VMBUS_CTL_VERSION_RESPONSE)->u.version.conn_id, 0x800074);
	must_eq(vmbus_srv_message(box->srv, 0x800074, "\3\0\0\0\0\0\0", 8), 0);
	must_eq(vmbus_srv_message(box->srv, 2, "\3\0\0\0\0\0\0", 8), VMBUS_E_INVAL);
	box->shadow.all.owed = 1;
	(void)srvbox_expect(box, VMBUS_CTL_ALL_OFFERS);
	srvbox_free(box);
}
END_TEST

/* [CTL-FEATURES] */
START_TEST(srv_message__features_are_masked)
{
	struct vmbus_srv_opts o;
	struct srvbox *box;

	memset(&o, 0, sizeof(o));
	o.version_max = VMBUS_PROTO_6_0;
	o.features = VMBUS_FEATURE_PAUSE | VMBUS_FEATURE_CLIENT_ID;
	box = srvbox_new(&o);
	must_eq(srvbox_contact(box, VMBUS_PROTO_6_0, 0xff), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CONNECTED);
	must_eq(box->act.features, VMBUS_FEATURE_PAUSE | VMBUS_FEATURE_CLIENT_ID);
	must_eq(srvbox_expect(box, VMBUS_CTL_VERSION_RESPONSE)->u.version.features,
		VMBUS_FEATURE_PAUSE | VMBUS_FEATURE_CLIENT_ID);
	must_eq(box->act.len, 20);
	srvbox_free(box);
}
END_TEST

/* [CTL-OFFER]: sorted by class, order, instance; sub-channels behind their primary; ALL_OFFERS last */
START_TEST(srv_offer__order_of_offers)
{
	static const uint8_t order[] = { 4, 9, 9, 1, 3, 2 };
	struct srvbox *box = srvbox_new(NULL);
	struct vmbus_offer o = srvbox_offer_of(3);
	struct vmbus_srv_ref ref;
	uint32_t i;

	must_eq(vmbus_srv_offer(box->srv, &o, &ref), 0);
	must_eq(ref.slot, 0);
	(void)srvbox_offer(box, 1);
	o = srvbox_offer_of(2);
	o.order = 1;
	must_eq(vmbus_srv_offer(box->srv, &o, &ref), 0);
	o = srvbox_offer_of(9);
	o.class_id.b[0] = 0xcb;
	o.order = 7;
	must_eq(vmbus_srv_offer(box->srv, &o, &ref), 0);
	o.sub_index = 1;
	o.order = 0;
	must_eq(vmbus_srv_offer(box->srv, &o, &ref), 0);
	o = srvbox_offer_of(4);
	o.class_id.b[0] = 0xcb;
	o.order = 6;
	o.monitor_id = 37;
	must_eq(vmbus_srv_offer(box->srv, &o, &ref), 0);
	must_eq(srvbox_contact(box, VMBUS_PROTO_5_3, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CONNECTED);
	(void)srvbox_expect(box, VMBUS_CTL_VERSION_RESPONSE);
	srvbox_expect_nothing(box);
	must_eq(srvbox_say(box, VMBUS_CTL_REQUEST_OFFERS, 0, 0), 0);
	for (i = 0; i < 6; i++) {
		const struct vmbus_ctl_offer *const got =
			&srvbox_expect(box, VMBUS_CTL_OFFER)->u.offer;

		must_eq(got->instance_id.b[0], order[i]);
		must_eq(box->act.len, 196);
		must_eq(got->sub_index, i == 2);
		must_eq(got->monitor_id, i == 0 ? 37 : 255);
		must_eq(got->monitored, i == 0);
		must_eq(got->dedicated, 1);
		must_eq(got->conn_id, 0x2000 + got->relid);
	}
	(void)srvbox_expect(box, VMBUS_CTL_ALL_OFFERS);
	/* One that comes later is offered at once, without ALL_OFFERS. */
	(void)srvbox_offer(box, 5);
	(void)srvbox_expect(box, VMBUS_CTL_OFFER);
	srvbox_expect_nothing(box);
	/* Asked again: everything was offered. */
	must_eq(srvbox_say(box, VMBUS_CTL_REQUEST_OFFERS, 0, 0), 0);
	(void)srvbox_expect(box, VMBUS_CTL_ALL_OFFERS);
	srvbox_expect_nothing(box);
	srvbox_free(box);
}
END_TEST

START_TEST(srv_offer__refuses)
{
	struct vmbus_srv_opts opts;
	struct srvbox *box;
	struct vmbus_offer o = srvbox_offer_of(1);
	struct vmbus_srv_ref ref, sub;

	memset(&opts, 0, sizeof(opts));
	opts.chans_max = 3;
	box = srvbox_new(&opts);
	o.sub_index = 1;
	must_eq(vmbus_srv_offer(box->srv, &o, &ref), VMBUS_E_INVAL); /* no primary */
	o.sub_index = 0;
	o.flags = 2;
	must_eq(vmbus_srv_offer(box->srv, &o, &ref), VMBUS_E_INVAL); /* confidential */
	o.flags = 8;
	must_eq(vmbus_srv_offer(box->srv, &o, &ref), VMBUS_E_INVAL); /* pinned */
	o.flags = 0;
	o.monitor_id = 128;
	must_eq(vmbus_srv_offer(box->srv, &o, &ref), VMBUS_E_INVAL);
	o.monitor_id = 127;
	must_eq(vmbus_srv_offer(box->srv, &o, &ref), 0);
	must_eq(vmbus_srv_offer(box->srv, &o, &sub), VMBUS_E_INVAL); /* instance in use */
	o.class_id.b[1] = 1;
	must_eq(vmbus_srv_offer(box->srv, &o, &sub), VMBUS_E_INVAL); /* the same, other class */
	o.sub_index = 1;
	must_eq(vmbus_srv_offer(box->srv, &o, &sub), VMBUS_E_INVAL); /* a primary of this class */
	o.class_id.b[1] = 0;
	must_eq(vmbus_srv_offer(box->srv, &o, &sub), 0);
	must_eq(vmbus_srv_offer(box->srv, &o, &sub), VMBUS_E_INVAL); /* index in use */
	(void)srvbox_offer(box, 7);
	o = srvbox_offer_of(8);
	must_eq(vmbus_srv_offer(box->srv, &o, &sub), VMBUS_E_FULL);
	must_eq(box->srv->stats.channels, 3);
	/* Withdrawn before anybody heard of it. */
	must_eq(vmbus_srv_revoke(box->srv, ref), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED); /* the sub-channel first */
	must_eq(box->act.chan.slot, 1);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	must_eq(box->act.chan.slot, 0);
	must_eq(vmbus_srv_revoke(box->srv, ref), VMBUS_E_STATE);
	must_eq(vmbus_srv_reoffer(box->srv, ref), VMBUS_E_STATE);
	srvbox_free(box);
}
END_TEST

/* Relids rest as long as can be: the one that is free the longest comes next. */
START_TEST(srv_offer__does_not_hurry_to_reuse_a_relid)
{
	struct srvbox *box = srvbox_new(NULL);
	uint32_t i;

	for (i = 0; i < 20; i++) {
		const struct vmbus_srv_ref ref = srvbox_offer(box, (uint8_t)(i + 1));

		must_eq(ref.slot, i % 8);
		must_eq(vmbus_srv_revoke(box->srv, ref), 0);
		must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	}
	srvbox_free(box);
}
END_TEST

/* [CTL-RELEASE]: sub-channels are rescinded first; a relid is kept until it is released */
START_TEST(srv_revoke__rescinds_sub_channels_first)
{
	struct srvbox *box = srvbox_new(NULL);
	struct vmbus_offer o = srvbox_offer_of(1);
	const struct vmbus_srv_ref primary = srvbox_offer(box, 1);
	struct vmbus_srv_ref sub[2];

	o.sub_index = 1;
	must_eq(vmbus_srv_offer(box->srv, &o, &sub[0]), 0);
	o.sub_index = 2;
	must_eq(vmbus_srv_offer(box->srv, &o, &sub[1]), 0);
	srvbox_connect(box, VMBUS_PROTO_5_3, 0);
	must_eq(vmbus_srv_revoke(box->srv, primary), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_RESCIND)->u.chan.relid, 2);
	must_eq(srvbox_expect(box, VMBUS_CTL_RESCIND)->u.chan.relid, 3);
	must_eq(srvbox_expect(box, VMBUS_CTL_RESCIND)->u.chan.relid, 1);
	o.sub_index = 3;
	must_eq(vmbus_srv_offer(box->srv, &o, &sub[1]), VMBUS_E_INVAL); /* the primary goes */
	must_eq(vmbus_srv_revoke(box->srv, primary), 0);		/* twice is harmless */
	srvbox_expect_nothing(box);
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	must_eq(box->act.relid, 1);
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0), 0);
	must_eq(box->srv->stats.unknown_chan, 1);
	must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	(void)srvbox_expect(box, VMBUS_CTL_UNLOAD_RESPONSE);
	srvbox_free(box);
}
END_TEST

/* The index of a sub-channel is free when the child has let go of it. */
START_TEST(srv_offer__sub_channel_again)
{
	struct srvbox *box = srvbox_new(NULL);
	struct vmbus_offer o = srvbox_offer_of(1);
	struct vmbus_srv_ref sub;

	(void)srvbox_offer(box, 1);
	o.sub_index = 1;
	must_eq(vmbus_srv_offer(box->srv, &o, &sub), 0);
	srvbox_connect(box, VMBUS_PROTO_5_3, 0);
	must_eq(vmbus_srv_offer(box->srv, &o, &sub), VMBUS_E_INVAL);
	must_eq(vmbus_srv_revoke(box->srv, sub), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_RESCIND)->u.chan.relid, 2);
	must_eq(vmbus_srv_offer(box->srv, &o, &sub), VMBUS_E_AGAIN);
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 2, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	must_eq(vmbus_srv_offer(box->srv, &o, &sub), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_OFFER)->u.offer.sub_index, 1);
	srvbox_expect_nothing(box);
	srvbox_free(box);
}
END_TEST

START_TEST(srv_reoffer__offers_when_released)
{
	struct srvbox *box = srvbox_new(NULL);
	const struct vmbus_srv_ref chan = srvbox_offer(box, 1);

	srvbox_connect(box, VMBUS_PROTO_5_3, 0);
	srvbox_open(box, chan, 1);
	must_eq(vmbus_srv_reoffer(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	(void)srvbox_expect(box, VMBUS_CTL_RESCIND);
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0), 0);
	srvbox_expect_nothing(box); /* the device still closes */
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	srvbox_expect_nothing(box);
	must_eq(vmbus_srv_gpadl_gone(box->srv, box->act.list), 0);
	must_eq(vmbus_srv_gpadl_gone(box->srv, box->act.list), VMBUS_E_STATE);
	must_eq(srvbox_expect(box, VMBUS_CTL_OFFER)->u.offer.relid, 1);
	must_eq(srvbox_state(box, chan), VMBUS_SRV_CLOSED); /* the same ref goes on */
	must_eq(vmbus_srv_reoffer(box->srv, chan), 0);
	(void)srvbox_expect(box, VMBUS_CTL_RESCIND);
	must_eq(vmbus_srv_revoke(box->srv, chan), 0); /* it changes its mind: no message */
	srvbox_expect_nothing(box);
	must_eq(vmbus_srv_reoffer(box->srv, chan), VMBUS_E_STATE);
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	srvbox_free(box);
}
END_TEST

/* [CTL-UNLOAD]: last of all, when the devices have let go; [CTL-QUEUE] what was due is dropped */
START_TEST(srv_message__unload_waits_for_devices)
{
	struct srvbox *box = srvbox_new(NULL);
	const struct vmbus_srv_ref chan = srvbox_offer(box, 1);
	struct vmbus_srv_ref list;

	srvbox_connect(box, VMBUS_PROTO_5_3, 0);
	srvbox_open(box, chan, 1);
	must_eq(srvbox_say_header(box, 1, 2, 4, 4), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL);
	list = box->act.list;
	must_eq(srvbox_say_header(box, 9, 2, 4, 4), 0); /* a failure that nobody takes */
	must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0);
	must_eq(vmbus_srv_version(box->srv), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	srvbox_expect_nothing(box);
	must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0); /* once is enough */
	must_eq(vmbus_srv_gpadl_ready(box->srv, list, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(vmbus_srv_gpadl_gone(box->srv, list), 0);
	srvbox_expect_nothing(box);
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(vmbus_srv_gpadl_gone(box->srv, box->act.list), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	(void)srvbox_expect(box, VMBUS_CTL_UNLOAD_RESPONSE);
	srvbox_expect_nothing(box);
	must_eq(srvbox_state(box, chan), VMBUS_SRV_CLIENT_RELEASED);
	srvbox_connect(box, VMBUS_PROTO_4_1, 0); /* and offered to the next one */
	must_eq(srvbox_state(box, chan), VMBUS_SRV_CLOSED);
	srvbox_free(box);
}
END_TEST

/* A newer contact takes the place of one that waits for devices; the answer goes where it says. */
START_TEST(srv_message__newest_contact_is_answered)
{
	struct srvbox *box = srvbox_new(NULL);
	const struct vmbus_srv_ref chan = srvbox_offer(box, 1);

	srvbox_connect(box, VMBUS_PROTO_5_3, 0);
	srvbox_open(box, chan, 1);
	must_eq(srvbox_contact(box, VMBUS_PROTO_5_3, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	must_eq(srvbox_contact(box, 0x70000, 0), 0);
	must_eq(srvbox_contact(box, VMBUS_PROTO_4_0, 0), 0);
	must_eq(box->srv->stats.resets, 3);
	srvbox_expect_nothing(box);
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(vmbus_srv_gpadl_gone(box->srv, box->act.list), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	must_eq(srvbox_take(box), VMBUS_SRV_CONNECTED);
	must_eq(box->act.version, VMBUS_PROTO_4_0);
	must(srvbox_expect(box, VMBUS_CTL_VERSION_RESPONSE)->u.version.supported);
	srvbox_expect_nothing(box);
	/* disconnect() is an unload without an answer. */
	vmbus_srv_disconnect(box->srv);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	srvbox_expect_nothing(box);
	vmbus_srv_disconnect(box->srv);
	srvbox_expect_nothing(box);
	srvbox_free(box);
}
END_TEST

/* [CTL-PAUSE] */
START_TEST(srv_message__pause_holds_messages)
{
	struct vmbus_srv_opts o;
	struct srvbox *box;
	struct vmbus_srv_ref chan;

	memset(&o, 0, sizeof(o));
	o.version_max = VMBUS_PROTO_6_0;
	o.features = SRVBOX_FEATURES;
	box = srvbox_new(&o);
	chan = srvbox_offer(box, 1);
	srvbox_connect(box, VMBUS_PROTO_6_0, SRVBOX_FEATURES);
	must_eq(srvbox_say_open(box, 1, 9, 4), 0); /* its failure comes before the pause */
	must_eq(srvbox_say(box, VMBUS_CTL_PAUSE, 0, 0), 0);
	must_eq(vmbus_srv_revoke(box->srv, chan), 0);
	(void)srvbox_expect(box, VMBUS_CTL_OPEN_RESULT);
	(void)srvbox_expect(box, VMBUS_CTL_PAUSE_RESPONSE);
	srvbox_expect_nothing(box);
	must_eq(srvbox_say(box, VMBUS_CTL_PAUSE, 0, 0), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_REQUEST_OFFERS, 0, 0), 0);
	must_eq(box->srv->stats.out_of_order, 3);
	srvbox_expect_nothing(box);
	must_eq(srvbox_say(box, VMBUS_CTL_RESUME, 0, 0), 0);
	(void)srvbox_expect(box, VMBUS_CTL_RESCIND);
	must_eq(srvbox_say(box, VMBUS_CTL_RESUME, 0, 0), 0);
	must_eq(box->srv->stats.out_of_order, 4);
	must_eq(srvbox_say(box, VMBUS_CTL_PAUSE, 0, 0), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_RESUME, 0, 0), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_PAUSE, 0, 0),
		VMBUS_E_AGAIN); /* the answer was not taken */
	(void)srvbox_expect(box, VMBUS_CTL_PAUSE_RESPONSE);
	must_eq(srvbox_say(box, VMBUS_CTL_PAUSE, 0, 0), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0); /* leaving is always possible */
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	(void)srvbox_expect(box, VMBUS_CTL_UNLOAD_RESPONSE);
	srvbox_free(box);
}
END_TEST

/* [CTL-MODIFY-CONNECTION] */
START_TEST(srv_connection_modified__answers)
{
	struct vmbus_srv_opts o;
	struct srvbox *box;
	struct vmbus_ctl ctl;

	memset(&o, 0, sizeof(o));
	o.version_max = VMBUS_PROTO_6_0;
	o.features = SRVBOX_FEATURES;
	box = srvbox_new(&o);
	srvbox_connect(box, VMBUS_PROTO_6_0, SRVBOX_FEATURES);
	must_eq(vmbus_srv_connection_modified(box->srv, 0), VMBUS_E_STATE);
	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_MODIFY_CONNECTION;
	ctl.u.connection.monitor_p2c = 0x5000;
	must_eq(srvbox_post(box, &ctl), 0); /* one page of two */
	must(srvbox_expect(box, VMBUS_CTL_MODIFY_CONNECTION_RESPONSE)->u.connection.state != 0);
	ctl.u.connection.monitor_c2p = 0x6000;
	must_eq(srvbox_post(box, &ctl), 0);
	must_eq(vmbus_srv_connection_modified(box->srv, 0), VMBUS_E_STATE); /* not taken yet */
	must_eq(srvbox_take(box), VMBUS_SRV_MODIFY_CONNECTION);
	must_eq(box->act.monitor_p2c, 0x5000);
	must_eq(box->act.monitor_c2p, 0x6000);
	must_eq(srvbox_post(box, &ctl), 0); /* a second one meanwhile */
	must(srvbox_expect(box, VMBUS_CTL_MODIFY_CONNECTION_RESPONSE)->u.connection.state != 0);
	must_eq(vmbus_srv_connection_modified(box->srv, 256), VMBUS_E_RANGE);
	must_eq(vmbus_srv_connection_modified(box->srv, 0), 0);
	must_eq(srvbox_post(box, &ctl), VMBUS_E_AGAIN);
	must_eq(srvbox_expect(box, VMBUS_CTL_MODIFY_CONNECTION_RESPONSE)->u.connection.state, 0);
	/* An unload waits for the answer. */
	must_eq(srvbox_post(box, &ctl), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_MODIFY_CONNECTION);
	must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0);
	srvbox_expect_nothing(box);
	must_eq(vmbus_srv_connection_modified(box->srv, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	(void)srvbox_expect(box, VMBUS_CTL_UNLOAD_RESPONSE);
	srvbox_free(box);
}
END_TEST

/* Types that only the parent sends, and numbers that are none, are ordinary errors. */
START_TEST(srv_message__wrong_types_and_lengths)
{
	struct srvbox *box = srvbox_new(NULL);
	struct vmbus_srv_refusal why;
	uint8_t bytes[VMBUS_CTL_BYTES_MAX + 1];
	uint32_t type;
	size_t len;

	vmbus_srv_last_refusal(box->srv, &why);
	must_eq(why.count, 0);
	ck_assert_str_eq(why.what, "");
	box->use_shadow = false;
	for (type = 0; type < 40; type++)
		for (len = 0; len <= sizeof(bytes); len++) {
			memset(bytes, 0, sizeof(bytes));
			bytes[0] = (uint8_t)type;
			if (type == VMBUS_CTL_CONTACT || type == VMBUS_CTL_CLOSE_RESERVED)
				continue;
			must_eq(srvbox_bytes(box, 1, bytes, len), 0);
			srvbox_expect_nothing(box);
		}
	vmbus_srv_last_refusal(box->srv, &why);
	must_eq(why.count, 38 * (sizeof(bytes) + 1));
	must(box->srv->stats.out_of_order > 0 && box->srv->stats.malformed > 0);
	srvbox_connect(box, VMBUS_PROTO_5_3, 0);
	for (type = 0; type < 40; type++)
		for (len = 0; len <= sizeof(bytes); len++) {
			memset(bytes, 0, sizeof(bytes));
			bytes[0] = (uint8_t)type;
			if (type == VMBUS_CTL_CONTACT || type == VMBUS_CTL_UNLOAD)
				continue;
			must_eq(srvbox_bytes(box, 1, bytes, len), 0);
			while (srvbox_take(box))
				continue;
		}
	must_eq(vmbus_srv_version(box->srv), VMBUS_PROTO_5_3);
	srvbox_free(box);
}
END_TEST

START_TEST(srv_next_local__leaves_messages)
{
	struct srvbox *box = srvbox_new(NULL);

	must_eq(srvbox_contact(box, VMBUS_PROTO_5_3, 0), 0);
	must_eq(srvbox_take_local(box), VMBUS_SRV_CONNECTED);
	must_eq(srvbox_take_local(box), 0);
	(void)srvbox_expect(box, VMBUS_CTL_VERSION_RESPONSE);
	ck_assert_str_eq(vmbus_srv_state_name(VMBUS_SRV_OPENED), "opened");
	ck_assert_str_eq(vmbus_srv_state_name(99), "?");
	srvbox_free(box);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "connection", 10);

	tcase_add_test(tc, srv_init__refuses_options);
	tcase_add_test(tc, srv_message__contact_vectors);
	tcase_add_test(tc, lesson_20_versions_from_an_exact_table);
	tcase_add_loop_test(tc, srv_message__contact_rules, 0,
			    (int)(sizeof(contacts) / sizeof(contacts[0])));
	tcase_add_test(tc, srv_message__redirects_to_the_message_connection);
	tcase_add_test(tc, srv_message__features_are_masked);
	tcase_add_test(tc, srv_message__unload_waits_for_devices);
	tcase_add_test(tc, srv_message__newest_contact_is_answered);
	tcase_add_test(tc, srv_message__pause_holds_messages);
	tcase_add_test(tc, srv_connection_modified__answers);
	tcase_add_test(tc, srv_message__wrong_types_and_lengths);
	tcase_add_test(tc, srv_next_local__leaves_messages);
	tc = vmbus_test_case(suite, "offers", 10);
	tcase_add_test(tc, srv_offer__order_of_offers);
	tcase_add_test(tc, srv_offer__refuses);
	tcase_add_test(tc, srv_offer__does_not_hurry_to_reuse_a_relid);
	tcase_add_test(tc, srv_revoke__rescinds_sub_channels_first);
	tcase_add_test(tc, srv_offer__sub_channel_again);
	tcase_add_test(tc, srv_reoffer__offers_when_released);
}
VMBUS_TEST_MAIN("channel.srv_conn", tests)
