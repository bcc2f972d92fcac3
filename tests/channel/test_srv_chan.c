/* SPDX-License-Identifier: MIT */
/*
 * The host machine: open, close, modify, rescind, reserved channels,
 * connect requests.  src/channel/srv_chan.c, srv_msg.c, srv_sock.c, srv_out.c.
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

/* [CTL-OPEN]: the rings must be one range of whole pages, two pages or more each way */
START_TEST(srv_message__open_checks_the_rings)
{
	struct vmbus_srv_ref chan, list;
	struct srvbox *box = ready(&chan, NULL);
	struct vmbus_ctl ctl;
	uint32_t page;

	(void)srvbox_gpadl(box, 1, 1, 8);
	(void)srvbox_gpadl(box, 1, 2, 3);
	(void)srvbox_gpadl(box, 2, 3, 8);
	for (page = 0; page < 10; page++) {
		vmbus_test_at("downstream page %u", page);
		must_eq(srvbox_say_open(box, 1, 1, page), 0);
		if (page >= 2 && page <= 6) {
			must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
			must_eq(vmbus_srv_opened(box->srv, chan, 0xdead),
				0); /* the device says no */
			must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, 0xdead);
		} else {
			must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status,
				VMBUS_STATUS_FAILED);
		}
		must_eq(box->got.u.result.open_id, 101);
		must_eq(srvbox_state(box, chan), VMBUS_SRV_CLOSED);
	}
	must_eq(srvbox_say_open(box, 1, 1, UINT32_MAX), 0);
	(void)srvbox_expect(box, VMBUS_CTL_OPEN_RESULT);
	must_eq(srvbox_say_open(box, 1, 2, 2), 0); /* three pages */
	(void)srvbox_expect(box, VMBUS_CTL_OPEN_RESULT);
	must_eq(srvbox_say_open(box, 1, 3, 4), 0); /* the other channel's */
	(void)srvbox_expect(box, VMBUS_CTL_OPEN_RESULT);
	must_eq(srvbox_say_open(box, 77, 1, 4), 0); /* no such channel: answered too */
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.relid, 77);
	/* Whole pages, but not from the first byte; and two ranges. */
	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_GPADL_HEADER;
	ctl.u.gpadl.relid = 1;
	ctl.u.gpadl.gpadl = 8;
	ctl.u.gpadl.range_bytes = 6 * 8;
	ctl.u.gpadl.range_count = 1;
	ctl.u.gpadl.count = 6;
	ctl.u.gpadl.qwords[0] = 4 * 4096 | 8ull << 32;
	must_eq(srvbox_post(box, &ctl), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL);
	list = box->act.list;
	must_eq(srvbox_say_open(box, 1, 8, 2), 0); /* not accepted yet */
	(void)srvbox_expect(box, VMBUS_CTL_OPEN_RESULT);
	must_eq(vmbus_srv_gpadl_ready(box->srv, list, 0), 0);
	(void)srvbox_expect(box, VMBUS_CTL_GPADL_CREATED);
	must_eq(srvbox_say_open(box, 1, 8, 2), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, VMBUS_STATUS_FAILED);
	must(box->srv->stats.malformed > 5);
	srvbox_free(box);
}
END_TEST

/* An OPEN in the wrong state is answered as well; one while closing is held. */
START_TEST(srv_message__open_twice)
{
	struct vmbus_srv_ref chan;
	struct srvbox *box = ready(&chan, NULL);

	(void)srvbox_gpadl(box, 1, 1, 8);
	must_eq(srvbox_say_open(box, 1, 1, 4), 0);
	must_eq(vmbus_srv_opened(box->srv, chan, 0), VMBUS_E_STATE); /* the action was not taken */
	must_eq(srvbox_say_open(box, 1, 1, 4), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, VMBUS_STATUS_FAILED);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0), 0); /* opening: no */
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0), 0);
	must_eq(box->srv->stats.out_of_order, 3);
	must_eq(vmbus_srv_opened(box->srv, chan, 0), 0);
	must_eq(vmbus_srv_opened(box->srv, chan, 0), VMBUS_E_STATE);
	must_eq(vmbus_srv_closed(box->srv, chan), VMBUS_E_STATE);
	must_eq(srvbox_say_open(box, 1, 1, 4), VMBUS_E_AGAIN); /* the result waits to be taken */
	must_eq(box->srv->stats.quota_queue, 1);
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, 0);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0), 0);
	must_eq(vmbus_srv_closed(box->srv, chan), VMBUS_E_STATE);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	must_eq(srvbox_say_open(box, 1, 1, 5), 0); /* held */
	srvbox_expect_nothing(box);
	must_eq(srvbox_state(box, chan), VMBUS_SRV_CLOSING_REOPEN);
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(box->act.downstream_page, 5);
	must_eq(vmbus_srv_opened(box->srv, chan, 0), 0);
	(void)srvbox_expect(box, VMBUS_CTL_OPEN_RESULT);
	/* Held again, but its page list goes meanwhile. */
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	must_eq(srvbox_say_open(box, 1, 1, 5), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 1), 0);
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, VMBUS_STATUS_FAILED);
	must_eq(srvbox_state(box, chan), VMBUS_SRV_CLOSED);
	srvbox_free(box);
}
END_TEST

/* [CTL-OPEN] long form: the child's connection id and flag, checked */
START_TEST(srv_message__open_with_the_childs_signals)
{
	struct vmbus_srv_opts o;
	struct vmbus_srv_ref chan;
	struct srvbox *box;
	struct vmbus_ctl ctl;

	memset(&o, 0, sizeof(o));
	o.version_max = VMBUS_PROTO_6_0;
	o.features = VMBUS_FEATURE_SIGNAL_PARAMS;
	box = ready(&chan, &o);
	(void)srvbox_gpadl(box, 1, 1, 8);
	(void)srvbox_gpadl(box, 2, 2, 8);
	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_OPEN;
	ctl.u.open.relid = 1;
	ctl.u.open.gpadl = 1;
	ctl.u.open.downstream_page = 4;
	ctl.u.open.conn_id = 0x4444;
	ctl.u.open.event_flag = 2048;
	must_eq(srvbox_post(box, &ctl), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, VMBUS_STATUS_FAILED);
	ctl.u.open.event_flag = 2047;
	ctl.u.open.conn_id = 4;
	must_eq(srvbox_post(box, &ctl), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, VMBUS_STATUS_FAILED);
	ctl.u.open.conn_id = 0x1000000;
	must_eq(srvbox_post(box, &ctl), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, VMBUS_STATUS_FAILED);
	ctl.u.open.conn_id = 0x4444;
	must_eq(srvbox_post(box, &ctl), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(box->act.conn_id, 0x4444);
	must_eq(box->act.event_flag, 2047);
	ctl.u.open.relid = 2;
	ctl.u.open.gpadl = 2;
	must_eq(srvbox_post(box, &ctl), 0); /* the first channel has this connection id */
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, VMBUS_STATUS_FAILED);
	srvbox_free(box);
}
END_TEST

/* [CTL-MODIFY]: answered from 5.3 on, whatever comes; the newest wins before */
START_TEST(srv_message__modify)
{
	struct vmbus_srv_opts o;
	struct vmbus_srv_ref chan;
	struct srvbox *box = ready(&chan, NULL);
	struct vmbus_srv_info info;

	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 3), 0); /* closed */
	must_eq(srvbox_expect(box, VMBUS_CTL_MODIFY_RESPONSE)->u.modify.status,
		VMBUS_STATUS_FAILED);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 50, 3), 0); /* no such channel */
	must_eq(srvbox_expect(box, VMBUS_CTL_MODIFY_RESPONSE)->u.modify.relid, 50);
	srvbox_open(box, chan, 1);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, VMBUS_VP_NONE), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_MODIFY_RESPONSE)->u.modify.status,
		VMBUS_STATUS_FAILED);
	must_eq(vmbus_srv_modified(box->srv, chan, 0), VMBUS_E_STATE);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 3), 0);
	must_eq(vmbus_srv_modified(box->srv, chan, 0), VMBUS_E_STATE); /* not taken yet */
	must_eq(srvbox_take(box), VMBUS_SRV_MODIFY);
	must_eq(box->act.target_vp, 3);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 4), 0); /* one is under way */
	must_eq(srvbox_expect(box, VMBUS_CTL_MODIFY_RESPONSE)->u.modify.status,
		VMBUS_STATUS_FAILED);
	must_eq(vmbus_srv_modified(box->srv, chan, 0), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 5), VMBUS_E_AGAIN);
	must_eq(srvbox_expect(box, VMBUS_CTL_MODIFY_RESPONSE)->u.modify.status, 0);
	must(vmbus_srv_info(box->srv, 0, &info));
	must_eq(info.target_vp, 3);
	must_eq(info.gpadls, 1);
	srvbox_free(box);

	memset(&o, 0, sizeof(o));
	o.version_max = VMBUS_PROTO_4_1;
	box = ready(&chan, &o);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 3), 0);
	srvbox_expect_nothing(box);
	srvbox_open(box, chan, 1);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 3), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_MODIFY);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 4), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 5), 0);
	must_eq(vmbus_srv_modified(box->srv, chan, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_MODIFY);
	must_eq(box->act.target_vp, 5);
	must_eq(vmbus_srv_modified(box->srv, chan, 0), 0);
	srvbox_expect_nothing(box);
	srvbox_free(box);
}
END_TEST

/* A withdrawn channel takes and tears down page lists until it is released. */
START_TEST(lesson_17_revoked_channel_takes_page_lists)
{
	struct vmbus_srv_ref chan, offered, mine;
	struct srvbox *box = ready(&chan, NULL);

	mine = srvbox_gpadl(box, 1, 1, 8);
	must_eq(srvbox_say_header(box, 1, 2, 8, 8), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL);
	offered = box->act.list;
	must_eq(srvbox_say_header(box, 1, 3, 8, 8), 0);	 /* the device has not seen it */
	must_eq(srvbox_say_header(box, 1, 4, 30, 2), 0); /* bodies are missing */
	must_eq(vmbus_srv_revoke(box->srv, chan), 0);
	/* Answers of page lists, then RESCIND. */
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, VMBUS_STATUS_FAILED);
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, VMBUS_STATUS_FAILED);
	(void)srvbox_expect(box, VMBUS_CTL_RESCIND);
	must_eq(srvbox_say_body(box, 4, 28), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, 0);
	must_eq(srvbox_say_header(box, 1, 5, 8, 8), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, 0);
	must_eq(srvbox_say_header(box, 1, 6, 30, 8), 0); /* at once, without its bodies */
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_CREATED)->u.created.status, 0);
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 5), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_GPADL_TORNDOWN)->u.created.gpadl, 5);
	must_eq(srvbox_say(box, VMBUS_CTL_GPADL_TEARDOWN, 1, 1), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN); /* the device has views of this one */
	must_eq(vmbus_srv_gpadl_gone(box->srv, mine), 0);
	(void)srvbox_expect(box, VMBUS_CTL_GPADL_TORNDOWN);
	must_eq(srvbox_say_open(box, 1, 1, 4), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0), 0);
	srvbox_expect_nothing(box);
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 3), 0); /* answered even now */
	must_eq(srvbox_expect(box, VMBUS_CTL_MODIFY_RESPONSE)->u.modify.status,
		VMBUS_STATUS_FAILED);
	must_eq(box->srv->stats.out_of_order, 1);
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0), 0);
	srvbox_expect_nothing(box); /* the device still looks at a list */
	must_eq(vmbus_srv_gpadl_ready(box->srv, offered, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(vmbus_srv_gpadl_gone(box->srv, offered), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	srvbox_free(box);
}
END_TEST

/* A reference is worth nothing once its channel was released, whoever has the slot now. */
START_TEST(lesson_18_references_have_generations)
{
	struct vmbus_srv_opts o;
	struct vmbus_srv_ref chan, next;
	struct srvbox *box;

	memset(&o, 0, sizeof(o));
	o.chans_max = 2;
	box = ready(&chan, &o);
	srvbox_open(box, chan, 1);
	must_eq(vmbus_srv_revoke(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	(void)srvbox_expect(box, VMBUS_CTL_RESCIND);
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0), 0);
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(vmbus_srv_gpadl_gone(box->srv, box->act.list), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	next = srvbox_offer(box, 3);
	must_eq(next.slot, chan.slot);
	must(next.gen != chan.gen);
	must_eq(vmbus_srv_revoke(box->srv, chan), VMBUS_E_STATE);
	must_eq(vmbus_srv_opened(box->srv, chan, 0), VMBUS_E_STATE);
	must_eq(vmbus_srv_closed(box->srv, chan), VMBUS_E_STATE);
	must_eq(vmbus_srv_modified(box->srv, chan, 0), VMBUS_E_STATE);
	next.slot = 99;
	must_eq(vmbus_srv_revoke(box->srv, next), VMBUS_E_STATE);
	must_eq(vmbus_srv_gpadl_ready(box->srv, next, 0), VMBUS_E_STATE);
	srvbox_free(box);
}
END_TEST

/* Who gives a relid back is told nothing more about it, whatever was due. */
START_TEST(srv_message__release_drops_what_is_due)
{
	struct vmbus_srv_ref chan;
	struct srvbox *box = ready(&chan, NULL);

	(void)srvbox_gpadl(box, 1, 1, 8);
	must_eq(srvbox_say_open(box, 1, 1, 4), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(vmbus_srv_opened(box->srv, chan, 1), 0); /* its OPEN_RESULT is not taken */
	must_eq(vmbus_srv_revoke(box->srv, chan), 0);	 /* nor the RESCIND */
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 1, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(vmbus_srv_gpadl_gone(box->srv, box->act.list), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	srvbox_expect_nothing(box);
	srvbox_free(box);
}
END_TEST

/* A socket is never offered to another child. */
START_TEST(srv_disconnect__forgets_sockets)
{
	struct srvbox *box = srvbox_new(NULL);
	struct vmbus_offer o = srvbox_offer_of(1);
	struct vmbus_srv_ref chan;

	o.flags = VMBUS_OFFER_TLNPI;
	must_eq(vmbus_srv_offer(box->srv, &o, &chan), 0);
	srvbox_connect(box, VMBUS_PROTO_5_3, 0);
	must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	(void)srvbox_expect(box, VMBUS_CTL_UNLOAD_RESPONSE);
	must_eq(box->srv->stats.channels, 0);
	srvbox_free(box);
}
END_TEST

/* Reset while the device is still opening. */
START_TEST(lesson_16_reset_while_opening)
{
	struct vmbus_srv_ref chan;
	struct srvbox *box = ready(&chan, NULL);

	(void)srvbox_gpadl(box, 1, 1, 8);
	must_eq(srvbox_say_open(box, 1, 1, 4), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(srvbox_contact(box, VMBUS_PROTO_5_3, 0), 0);
	srvbox_expect_nothing(box);
	must_eq(vmbus_srv_opened(box->srv, chan, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	srvbox_expect_nothing(box);
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(vmbus_srv_gpadl_gone(box->srv, box->act.list), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	must_eq(srvbox_take(box), VMBUS_SRV_CONNECTED);
	(void)srvbox_expect(box, VMBUS_CTL_VERSION_RESPONSE);
	srvbox_free(box);
}
END_TEST

/* [CTL-RESERVED]: open over an unload, closed without a connection */
START_TEST(srv_message__reserved_channel_survives)
{
	struct vmbus_srv_ref chan;
	struct srvbox *box = ready(&chan, NULL);

	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE_RESERVED, 1, 6), 0); /* nothing is open: answered */
	must_eq(srvbox_expect(box, VMBUS_CTL_CLOSE_RESERVED_RESPONSE)->u.chan.relid, 1);
	(void)srvbox_gpadl(box, 1, 1, 8);
	must_eq(srvbox_say_open_reserved(box, 1, 1, 4), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(box->act.target_vp, VMBUS_VP_NONE);
	must_eq(vmbus_srv_opened(box->srv, chan, 0), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.open_id, 0);
	must_eq(box->act.target_vp, 3);
	must_eq(box->act.target_sint, 5);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0), 0); /* not like this */
	must_eq(srvbox_say(box, VMBUS_CTL_MODIFY, 1, 0), 0);
	(void)srvbox_expect(box, VMBUS_CTL_MODIFY_RESPONSE);
	must_eq(box->srv->stats.out_of_order, 1);
	must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	(void)srvbox_expect(box, VMBUS_CTL_UNLOAD_RESPONSE);
	must_eq(srvbox_state(box, chan), VMBUS_SRV_OPENED);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE_RESERVED, 1, 6), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	srvbox_expect_nothing(box);
	must_eq(srvbox_contact(box, VMBUS_PROTO_5_3, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CONNECTED);
	(void)srvbox_expect(box, VMBUS_CTL_VERSION_RESPONSE);
	must_eq(srvbox_say(box, VMBUS_CTL_REQUEST_OFFERS, 0, 0), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_OFFER)->u.offer.relid, 2); /* channel 1 is in use */
	(void)srvbox_expect(box, VMBUS_CTL_ALL_OFFERS);
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(srvbox_expect(box, VMBUS_CTL_CLOSE_RESERVED_RESPONSE)->u.chan.relid, 1);
	must_eq(box->act.target_vp, 6);
	must_eq(box->act.target_sint, 5);
	must_eq(vmbus_srv_gpadl_gone(box->srv, (struct vmbus_srv_ref){ 0, 1 }), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_OFFER)->u.offer.relid, 1);
	srvbox_free(box);
}
END_TEST

/* [CTL-RESERVED]: while CLOSE_RESERVED is not answered, nobody's OPEN can wait behind the close. */
START_TEST(srv_message__reserved_channel_is_not_opened_while_it_closes)
{
	struct vmbus_srv_refusal why;
	struct vmbus_srv_ref chan;
	struct srvbox *box = ready(&chan, NULL);

	(void)srvbox_gpadl(box, 1, 1, 8);
	(void)srvbox_gpadl(box, 1, 2, 8);
	must_eq(srvbox_say_open_reserved(box, 1, 1, 4), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	must_eq(vmbus_srv_opened(box->srv, chan, 0), 0);
	(void)srvbox_expect(box, VMBUS_CTL_OPEN_RESULT);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE_RESERVED, 1, 6), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	if (_i)
		must_eq(srvbox_say_open_reserved(box, 1, 2, 4), 0);
	else
		must_eq(srvbox_say_open(box, 1, 2, 4), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_OPEN_RESULT)->u.result.status, VMBUS_STATUS_FAILED);
	must_eq(srvbox_state(box, chan), VMBUS_SRV_CLOSING);
	must_eq(box->srv->stats.malformed, 1);
	vmbus_srv_last_refusal(box->srv, &why);
	must_eq(strcmp(why.what, "open: the channel is being closed; "
				 "wait for CLOSE_RESERVED_RESPONSE"),
		0);
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_CLOSE_RESERVED_RESPONSE)->u.chan.relid, 1);
	must_eq(srvbox_say_open(box, 1, 2, 4), 0); /* now it can be */
	must_eq(srvbox_take(box), VMBUS_SRV_OPEN);
	srvbox_free(box);
}
END_TEST

static void say_connect(struct srvbox *box, uint8_t endpoint)
{
	struct vmbus_ctl ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_TL_CONNECT;
	ctl.u.tl.endpoint_id.b[0] = endpoint;
	ctl.u.tl.service_id.b[0] = 0x55;
	must_eq(srvbox_post(box, &ctl), 0);
}

/* [CTL-TL] */
START_TEST(srv_tl_refuse__and_offers_answer_connect_requests)
{
	struct vmbus_srv_opts opts;
	struct vmbus_srv_ref chan;
	struct srvbox *box;
	struct vmbus_offer o = srvbox_offer_of(9);
	struct vmbus_ctl_tl tl;

	memset(&opts, 0, sizeof(opts));
	opts.tl_max = 2;
	box = ready(&chan, &opts);
	say_connect(box, 9);
	memset(&tl, 0, sizeof(tl));
	tl.endpoint_id.b[0] = 9;
	tl.service_id.b[0] = 0x55;
	must_eq(vmbus_srv_tl_refuse(box->srv, &tl, 0), VMBUS_E_STATE); /* not taken yet */
	must_eq(srvbox_take(box), VMBUS_SRV_TL_CONNECT);
	must_eq(box->act.tl.endpoint_id.b[0], 9);
	say_connect(box, 9); /* the same one again */
	must_eq(srvbox_expect(box, VMBUS_CTL_TL_RESULT)->u.tl.status, VMBUS_STATUS_REFUSED);
	say_connect(box, 10);
	say_connect(box, 11); /* one too many */
	must_eq(srvbox_take(box), VMBUS_SRV_TL_CONNECT);
	must_eq(srvbox_expect(box, VMBUS_CTL_TL_RESULT)->u.tl.endpoint_id.b[0], 11);
	must_eq(box->srv->stats.quota_tl, 1);
	must_eq(vmbus_srv_tl_refuse(box->srv, &tl, 0), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_TL_RESULT)->u.tl.status, VMBUS_STATUS_REFUSED);
	must_eq(vmbus_srv_tl_refuse(box->srv, &tl, 0), VMBUS_E_STATE);
	/* An offer of the service is the other answer. */
	say_connect(box, 9);
	must_eq(srvbox_take(box), VMBUS_SRV_TL_CONNECT);
	o.class_id.b[0] = 0x55;
	o.flags = VMBUS_OFFER_TLNPI | VMBUS_OFFER_PIPE | VMBUS_OFFER_ENUMERATE;
	must_eq(vmbus_srv_offer(box->srv, &o, &chan), 0);
	must_eq(vmbus_srv_tl_refuse(box->srv, &tl, 0), VMBUS_E_STATE);
	must_eq(srvbox_expect(box, VMBUS_CTL_OFFER)->u.offer.relid, 3);
	/* A closed socket is rescinded without anybody's word, and forgotten. */
	srvbox_open(box, chan, 77);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 3, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_CLOSE);
	srvbox_expect_nothing(box);
	must_eq(vmbus_srv_closed(box->srv, chan), 0);
	must_eq(srvbox_expect(box, VMBUS_CTL_RESCIND)->u.chan.relid, 3);
	must_eq(srvbox_say(box, VMBUS_CTL_RELID_RELEASED, 3, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_GPADL_DOWN);
	must_eq(vmbus_srv_gpadl_gone(box->srv, box->act.list), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_RELEASED);
	/* Requests do not outlive their child. */
	must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0);
	tl.endpoint_id.b[0] = 10;
	must_eq(vmbus_srv_tl_refuse(box->srv, &tl, 0), VMBUS_E_STATE);
	srvbox_free(box);
}
END_TEST

/* lesson 31, and [CTL-QUEUE]: a flood of bad messages changes counters only, and is held back */
START_TEST(lesson_31_floods_are_bounded)
{
	struct vmbus_srv_opts o;
	struct vmbus_srv_ref chan;
	struct srvbox *box;
	uint32_t i, again = 0, taken = 0;

	memset(&o, 0, sizeof(o));
	o.queue_max = 5;
	box = ready(&chan, &o);
	for (i = 0; i < 20000; i++) {
		const int err = srvbox_say_header(box, 90, i, 4, 4);

		must(err == 0 || err == VMBUS_E_AGAIN);
		again += err != 0;
		must(box->srv->replies <= 5);
	}
	must_eq(again, 20000 - 5);
	must_eq(box->srv->stats.quota_queue, again);
	must_eq(box->srv->refusal.count, 5);
	must_eq(srvbox_say(box, VMBUS_CTL_CLOSE, 1, 0), 0); /* what needs no answer goes on */
	while (srvbox_take(box))
		taken++;
	must_eq(taken, 5);
	must_eq(srvbox_say_header(box, 90, 1, 4, 4), 0);
	/* Leaving is always possible, and drops what waits. */
	for (i = 0; i < 4; i++)
		must_eq(srvbox_say_header(box, 90, i, 4, 4), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0);
	must_eq(srvbox_take(box), VMBUS_SRV_DISCONNECTED);
	(void)srvbox_expect(box, VMBUS_CTL_UNLOAD_RESPONSE);
	srvbox_expect_nothing(box);
	srvbox_free(box);
}
END_TEST

/* lesson 29: steps depend on what there is, not on what the child says; 2,047 channels */
START_TEST(lesson_29_all_channels_at_once)
{
	struct vmbus_srv_opts o;
	struct srvbox *box;
	struct vmbus_offer offer;
	struct vmbus_srv_ref ref;
	uint32_t i, n = 0;

	memset(&o, 0, sizeof(o));
	o.chans_max = VMBUS_RELID_MAX;
	box = srvbox_new(&o);
	for (i = 0; i < VMBUS_RELID_MAX; i++) {
		offer = srvbox_offer_of((uint8_t)(i & 255));
		offer.instance_id.b[1] = (uint8_t)(i >> 8);
		must_eq(vmbus_srv_offer(box->srv, &offer, &ref), 0);
	}
	must_eq(vmbus_srv_offer(box->srv, &offer, &ref), VMBUS_E_INVAL);
	offer.instance_id.b[2] = 1;
	must_eq(vmbus_srv_offer(box->srv, &offer, &ref), VMBUS_E_FULL);
	box->use_shadow = false; /* it knows few relids */
	must_eq(srvbox_contact(box, VMBUS_PROTO_5_3, 0), 0);
	must_eq(srvbox_say(box, VMBUS_CTL_REQUEST_OFFERS, 0, 0), 0);
	while (vmbus_srv_next(box->srv, &box->act))
		n++;
	must_eq(n, 2 + VMBUS_RELID_MAX + 1);
	must_eq(srvbox_say(box, VMBUS_CTL_UNLOAD, 0, 0), 0);
	n = 0;
	while (vmbus_srv_next(box->srv, &box->act))
		n++;
	must_eq(n, 2);
	srvbox_free(box);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "channels", 10);

	tcase_add_test(tc, srv_message__open_checks_the_rings);
	tcase_add_test(tc, srv_message__open_twice);
	tcase_add_test(tc, srv_message__open_with_the_childs_signals);
	tcase_add_test(tc, srv_message__modify);
	tcase_add_test(tc, srv_message__release_drops_what_is_due);
	tcase_add_test(tc, srv_disconnect__forgets_sockets);
	tcase_add_test(tc, lesson_16_reset_while_opening);
	tcase_add_test(tc, lesson_17_revoked_channel_takes_page_lists);
	tcase_add_test(tc, lesson_18_references_have_generations);
	tcase_add_test(tc, srv_message__reserved_channel_survives);
	tcase_add_loop_test(tc, srv_message__reserved_channel_is_not_opened_while_it_closes, 0, 2);
	tcase_add_test(tc, srv_tl_refuse__and_offers_answer_connect_requests);
	tcase_add_test(tc, lesson_29_all_channels_at_once);
	tcase_add_test(tc, lesson_31_floods_are_bounded);
}
VMBUS_TEST_MAIN("channel.srv_chan", tests)
