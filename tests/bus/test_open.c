/* SPDX-License-Identifier: MIT */
/*
 * Offers, opening and closing, in every order, by a child made by hand.
 */
#include "fake.h"

#include <pthread.h>

struct dev {
	struct vmbus_chan *chan;
	int open_err, close_err;
	uint32_t opens, closes, packets, sends;
	bool revoke, fail, fail_in_open;
	uint8_t first, last;
};

static int dev_open(struct vmbus_chan *chan, void *ctx)
{
	struct dev *d = ctx;
	uint32_t i;

	must_eq(vmbus_chan_ctx(chan) == ctx, 1);
	d->chan = chan;
	d->opens++;
	d->first = vmbus_chan_open_data(chan)[0];
	d->last = vmbus_chan_open_data(chan)[119];
	for (i = 0; i < d->sends; i++) {
		const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
					       .data = "hello",
					       .len = 5 };

		must_eq(vmbus_chan_send(chan, &msg, 1), 1);
	}
	if (d->fail_in_open)
		vmbus_chan_fail(chan, "not today");
	return d->open_err;
}

static void dev_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };
	struct dev *d = vmbus_chan_ctx(chan);

	d->packets += n;
	if (d->revoke) {
		must_eq(vmbus_bus_revoke(chan), 0);
		must_eq(vmbus_bus_revoke(chan), 0);
	}
	if (d->fail) {
		vmbus_chan_fail(chan, "it said the wrong thing");
		vmbus_chan_fail(chan, "this comes later and is not told");
		must_eq(vmbus_chan_complete(chan, pkt[0].id, NULL, 0), VMBUS_E_STATE);
		must_eq(vmbus_chan_send(chan, &msg, 1), VMBUS_E_STATE);
	}
}

static int dev_close(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };

	d->closes++;
	must_eq(vmbus_chan_send(chan, &msg, 1), VMBUS_E_STATE);
	must_eq(vmbus_chan_complete(chan, 1, NULL, 0), VMBUS_E_STATE);
	must_eq(vmbus_chan_flush(chan), VMBUS_E_STATE);
	vmbus_chan_fail(chan, "after the end");
	return d->close_err;
}

static const struct vmbus_vsp vsp = {
	.struct_bytes = sizeof(vsp),
	.name = "dev",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 2),
	.open = dev_open,
	.packets = dev_packets,
	.close = dev_close,
};

struct box {
	struct fake f;
	struct dev d;
	struct fake_chan c;
	struct vmbus_chan *chan;
};

static void box_init(struct box *b)
{
	memset(b, 0, sizeof(*b));
	fake_init(&b->f, 512);
	must_eq(vmbus_bus_offer(b->f.bus, &vsp, &b->d, NULL, &b->chan), 0);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, &b->c, 1), 1);
}

static void box_fini(struct box *b)
{
	fake_chan_free(&b->c);
	fake_fini(&b->f);
}

START_TEST(bus_offer__open_echo_close)
{
	struct fake f;
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct vmbus_packet pkt[4];
	struct vmbus_chan *chan = NULL;
	uint64_t id;

	fake_init(&f, 256);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, &chan), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(c.conn, 0x2000 + c.relid);
	must_eq(fake_open(&f, &c, 5, 5), 0);
	must_eq(echo.opens, 1);
	for (id = 1; id < 1000; id++) {
		uint64_t payload[8] = { id, id * 3 };

		must_eq(fake_send(&c, id, payload, sizeof(payload)), 1);
		fake_run(&f);
		must_eq(fake_receive(&c, pkt, 4), 1);
		must_eq(pkt[0].type, VMBUS_PKT_COMPLETION);
		must_eq(pkt[0].id, id);
		must_eq(pkt[0].len, 64);
		must(memcmp(pkt[0].payload, payload, 64) == 0);
		must_eq(fake_receive(&c, pkt, 4), 0);
	}
	fake_close(&f, &c);
	must_eq(echo.closes, 1);
	fake_fini(&f);
	must_eq(f.removed, 1);
}
END_TEST

START_TEST(vsp_open__gets_the_childs_bytes)
{
	struct box b;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 2, 2), 0);
	must_eq(b.d.first, 0x5a);
	must_eq(b.d.last, 0xa5);
	fake_close(&b.f, &b.c);
	box_fini(&b);
}
END_TEST

START_TEST(vsp_open__refuses)
{
	struct box b;

	box_init(&b);
	b.d.open_err = VMBUS_E_NOMEM;
	b.d.sends = 3; /* and what it sent is not published */
	must_eq(fake_open(&b.f, &b.c, 3, 3), VMBUS_STATUS_FAILED);
	must(fake_logged(&b.f, "open failed: NOMEM"));
	must_eq(b.d.closes, 0);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_chan_free(&b.c);
	b.d.open_err = 0;
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	fake_close(&b.f, &b.c);
	must_eq(b.d.opens, 2);
	must_eq(b.d.closes, 1);
	box_fini(&b);
}
END_TEST

START_TEST(chan_fail__in_open_is_a_refusal_and_closes)
{
	struct box b;

	box_init(&b);
	b.d.fail_in_open = true;
	must_eq(fake_open(&b.f, &b.c, 3, 3), VMBUS_STATUS_FAILED);
	must_eq(b.d.closes, 1); /* for the device was open */
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	box_fini(&b);
}
END_TEST

/* A signal that comes before there is anybody to take it, and packets that came before it. */
START_TEST(lesson_04_signal_before_open)
{
	struct box b;
	uint64_t payload = 1;

	box_init(&b);
	fake_rings(&b.f, &b.c, 3, 3);
	b.c.gpadl = 77;
	must_eq(fake_share(&b.f, b.c.relid, 77, b.c.first, 6), 0);
	must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK);
	fake_run(&b.f);
	must_eq(fake_send(&b.c, 1, &payload, 8), 1); /* its signal finds nothing open */
	fake_run(&b.f);
	must_eq(b.d.packets, 0);
	fake_post_open(&b.f, &b.c, 0);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, NULL);
	must_eq(b.d.packets, 1); /* seen without a signal after the open */
	box_fini(&b);
}
END_TEST

/* What open() sends is in the ring, and signalled, before the child hears that it is open. */
START_TEST(lesson_05_event_in_open)
{
	struct box b;
	struct vmbus_packet pkt[4];

	box_init(&b);
	b.d.sends = 2;
	fake_rings(&b.f, &b.c, 3, 3);
	b.c.gpadl = 77;
	must_eq(fake_share(&b.f, b.c.relid, 77, b.c.first, 6), 0);
	b.f.busy = true; /* the result cannot be posted yet */
	fake_post_open(&b.f, &b.c, 3);
	fake_run(&b.f);
	must_eq(b.d.opens, 1);
	must_eq(atomic_load(&b.f.flags[b.c.relid]), 1);
	must_eq(fake_receive(&b.c, pkt, 4), 2);
	must(memcmp(pkt[0].payload, "hello\0\0\0", 8) == 0);
	fake_expect_none(&b.f);
	b.f.busy = false;
	vmbus_bus_slot_free(b.f.bus, 0, 2);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, NULL);
	box_fini(&b);
}
END_TEST

/* [RING-UNSTICK] */
START_TEST(bus__signals_again_after_100_ms)
{
	struct box b;
	const uint64_t from = fake_now_ns();

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	must_eq(atomic_load(&b.f.raised), 0);
	while (atomic_load(&b.f.raised) == 0 && fake_now_ns() - from < 5000000000u) {
		struct pollfd p = { .fd = vmbus_bus_fd(b.f.bus), .events = POLLIN };

		(void)poll(&p, 1, 1000);
		fake_run(&b.f);
	}
	must_eq(atomic_load(&b.f.raised), 1);
	must(fake_now_ns() - from >= 100000000u);
	box_fini(&b);
}
END_TEST

START_TEST(vsp_close__again_keeps_the_rings)
{
	struct box b;
	struct vmbus_ctl ctl;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	b.d.close_err = VMBUS_E_AGAIN;
	fake_post_close(&b.f, &b.c);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect_none(&b.f);
	must_eq(b.d.closes, 1);
	must(vmbus_region_pins(&b.f.region) > 0);
	vmbus_chan_close_done(b.chan);
	vmbus_chan_close_done(b.chan); /* twice is once */
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(ctl.u.created.gpadl, b.c.gpadl);
	must_eq(vmbus_region_pins(&b.f.region), 0);
	vmbus_chan_close_done(b.chan); /* nor does it end the next opening */
	fake_chan_free(&b.c);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	vmbus_chan_close_done(b.chan);
	fake_post_close(&b.f, &b.c);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect_none(&b.f);
	vmbus_chan_close_done(b.chan);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	box_fini(&b);
}
END_TEST

static void *done_later(void *chan)
{
	const struct timespec ms = { 0, 20000000 };

	nanosleep(&ms, NULL);
	vmbus_chan_close_done(chan);
	return NULL;
}

/* destroy() waits for the device, which is through on another thread. */
START_TEST(bus_destroy__waits_for_close_done)
{
	struct box b;
	pthread_t thread;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	b.d.close_err = VMBUS_E_AGAIN;
	must_eq(pthread_create(&thread, NULL, done_later, b.chan), 0);
	box_fini(&b);
	must_eq(b.d.closes, 1);
	must_eq(b.f.removed, 1);
	pthread_join(thread, NULL);
}
END_TEST

/* Withdrawn within a callback: RESCIND, close, and gone when the child has let go. */
START_TEST(bus_revoke__in_packets)
{
	struct box b;
	struct vmbus_ctl ctl;
	uint64_t payload = 1;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	b.d.revoke = true;
	must_eq(fake_send(&b.c, 1, &payload, 8), 1);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl);
	must_eq(ctl.u.chan.relid, b.c.relid);
	fake_expect_none(&b.f);
	must_eq(b.d.closes, 1);
	must_eq(b.f.removed, 0);
	fake_post_close(&b.f, &b.c); /* as Linux does */
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_post_released(&b.f, b.c.relid);
	fake_expect_none(&b.f);
	must_eq(b.f.removed, 1);
	must_eq(b.d.closes, 1);
	box_fini(&b);
	must_eq(b.f.removed, 1);
}
END_TEST

/* A device's own protocol was broken: rescinded, and offered again when it was released. */
START_TEST(chan_fail__withdraws_and_offers_again)
{
	struct box b;
	struct vmbus_ctl ctl;
	uint64_t payload = 1;
	struct vmbus_bus_stats stats;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	b.d.fail = true;
	must_eq(fake_send(&b.c, 1, &payload, 8), 1);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl);
	must_eq(b.d.closes, 1);
	must(fake_logged(&b.f, "kid: channel"));
	must(fake_logged(&b.f, "it said the wrong thing"));
	must(!fake_logged(&b.f, "comes later"));
	vmbus_bus_stats(b.f.bus, &stats);
	must_eq(stats.faults, 1);
	must_eq(fake_send(&b.c, 1, &payload, 8), 1); /* more of it changes nothing */
	fake_run(&b.f);
	must_eq(b.d.packets, 1);
	fake_post_close(&b.f, &b.c);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_post_released(&b.f, b.c.relid);
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl);
	must(vmbus_guid_equal(&ctl.u.offer.instance_id, &b.c.instance));
	fake_chan_free(&b.c);
	b.c.relid = ctl.u.offer.relid;
	b.c.conn = ctl.u.offer.conn_id;
	b.d.fail = false;
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	must_eq(fake_send(&b.c, 1, &payload, 8), 1);
	fake_run(&b.f);
	must_eq(b.d.packets, 2);
	must_eq(b.f.removed, 0);
	box_fini(&b);
}
END_TEST

START_TEST(bus__reset_by_a_new_contact_closes_everything)
{
	struct box b;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	fake_contact(&b.f, VMBUS_PROTO_4_1);
	must_eq(b.d.closes, 1);
	must_eq(vmbus_region_pins(&b.f.region), 0);
	fake_chan_free(&b.c);
	must_eq(fake_offers(&b.f, &b.c, 1), 1);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	fake_close(&b.f, &b.c);
	box_fini(&b);
}
END_TEST

/* The child begins anew while the device is opening: on a thread that has not come to it yet. */
START_TEST(lesson_16_reset_in_opening)
{
	struct fake f;
	struct dev d = { 0 };
	struct fake_chan c;
	struct vmbus_chan *chan;
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };
	const struct vmbus_offer_opts own = { .struct_bytes = sizeof(own), .own_fd = true };

	fake_init(&f, 512);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &own, &chan), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	fake_rings(&f, &c, 3, 3);
	c.gpadl = 5;
	must_eq(fake_share(&f, c.relid, 5, c.first, 6), 0);
	fake_post_open(&f, &c, 0);
	fake_expect_none(&f); /* the channel's thread was not asked yet */
	ctl.u.contact.version = VMBUS_PROTO_5_3;
	ctl.u.contact.target_sint = 2;
	must_eq(fake_try_post(&f, VMBUS_CONN_CONTACT, &ctl), VMBUS_HC_OK);
	fake_run(&f);
	must_eq(d.opens, 0);
	while (vmbus_chan_dispatch(chan, 16) || fake_readable(vmbus_chan_fd(chan)))
		fake_run(&f);
	fake_run(&f);
	while (vmbus_chan_dispatch(chan, 16) || fake_readable(vmbus_chan_fd(chan)))
		fake_run(&f);
	must_eq(d.opens, d.closes);
	fake_expect(&f, VMBUS_CTL_VERSION_RESPONSE, &ctl);
	must_eq(ctl.u.version.supported, 1);
	must_eq(vmbus_region_pins(&f.region), 0);
	fake_chan_free(&c);
	must_eq(fake_offers(&f, &c, 1), 1);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

/* The same by the backend, and in every state. */
START_TEST(bus_reset__in_every_state)
{
	struct box b;

	box_init(&b);
	vmbus_bus_reset(b.f.bus);
	fake_run(&b.f);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, &b.c, 1), 1);
	vmbus_bus_reset(b.f.bus);
	fake_run(&b.f);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, &b.c, 1), 1);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	b.d.close_err = VMBUS_E_AGAIN;
	vmbus_bus_reset(b.f.bus);
	vmbus_bus_reset(b.f.bus);
	fake_run(&b.f);
	must_eq(b.d.closes, 1);
	vmbus_bus_reset(b.f.bus); /* while closing */
	fake_run(&b.f);
	vmbus_chan_close_done(b.chan);
	fake_run(&b.f);
	must_eq(vmbus_region_pins(&b.f.region), 0);
	b.d.close_err = 0;
	fake_chan_free(&b.c);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, &b.c, 1), 1);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	box_fini(&b);
	must_eq(b.d.closes, 2);
}
END_TEST

/* What a child had posted before it was reset is not done for its successor. */
START_TEST(bus_reset__drops_what_was_posted)
{
	struct box b;
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	fake_post_close(&b.f, &b.c);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	ctl.u.contact.version = VMBUS_PROTO_5_3;
	ctl.u.contact.target_sint = 2;
	must_eq(fake_try_post(&b.f, VMBUS_CONN_CONTACT, &ctl), VMBUS_HC_OK);
	vmbus_bus_reset(b.f.bus);
	fake_expect_none(&b.f);
	must_eq(b.d.closes, 1);
	box_fini(&b);
}
END_TEST

/* A child that reopens at once: the second open waits for the first close. */
START_TEST(bus__open_while_closing)
{
	struct box b;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	b.d.close_err = VMBUS_E_AGAIN;
	fake_post_close(&b.f, &b.c);
	vmbus_ring_mem_clear(&b.c.tx_mem);
	vmbus_ring_mem_clear(&b.c.rx_mem);
	fake_post_open(&b.f, &b.c, 0);
	fake_expect_none(&b.f);
	must_eq(b.d.opens, 1);
	vmbus_chan_close_done(b.chan);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, NULL);
	must_eq(b.d.opens, 2);
	b.d.close_err = 0;
	box_fini(&b);
}
END_TEST

/* MODIFY moves the signals; an impossible VP is refused, at the open as well. */
START_TEST(bus__target_vp)
{
	struct box b;
	struct vmbus_ctl ctl;
	struct vmbus_chan_info info;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_MODIFY;
	ctl.u.modify.relid = b.c.relid;
	ctl.u.modify.target_vp = 3;
	fake_post(&b.f, &ctl);
	fake_expect(&b.f, VMBUS_CTL_MODIFY_RESPONSE, &ctl);
	must_eq(ctl.u.modify.status, 0);
	vmbus_chan_info(b.chan, &info);
	must_eq(info.target_vp, 3);
	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_MODIFY;
	ctl.u.modify.relid = b.c.relid;
	ctl.u.modify.target_vp = 4;
	fake_post(&b.f, &ctl);
	fake_expect(&b.f, VMBUS_CTL_MODIFY_RESPONSE, &ctl);
	must_eq(ctl.u.modify.status, VMBUS_STATUS_FAILED);
	fake_close(&b.f, &b.c);
	fake_rings(&b.f, &b.c, 3, 3);
	must_eq(fake_share(&b.f, b.c.relid, b.c.gpadl, b.c.first, 6), 0);
	fake_post_open(&b.f, &b.c, 4);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, VMBUS_STATUS_FAILED);
	must(fake_logged(&b.f, "target VP is 4, limit 3"));
	fake_post_open(&b.f, &b.c, VMBUS_VP_NONE); /* wants no interrupts */
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	must_eq(atomic_load(&b.f.raised), 0);
	box_fini(&b);
}
END_TEST

/* A slot that stays taken stops what is posted, and nothing else. */
START_TEST(bus__busy_slot_does_not_stop_a_close)
{
	struct box b;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	b.f.busy = true;
	must_eq(vmbus_bus_revoke(b.chan), 0);
	fake_run(&b.f);
	must_eq(b.d.closes, 1);
	must_eq(b.f.posted, b.f.taken);
	fake_run(&b.f);
	b.f.busy = false;
	fake_expect_none(&b.f); /* not tried before the slot is said to be free */
	vmbus_bus_slot_free(b.f.bus, 0, 2);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	box_fini(&b);
}
END_TEST

START_TEST(bus_destroy__with_everything_under_way)
{
	struct box b;
	uint64_t payload = 1;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	must_eq(fake_send(&b.c, 1, &payload, 8), 1);
	fake_post_close(&b.f, &b.c);
	vmbus_bus_revoke(b.chan);
	vmbus_bus_slot_free(b.f.bus, 0, 2);
	vmbus_bus_reset(b.f.bus);
	box_fini(&b);
	must_eq(b.d.closes, 1);
	must_eq(b.f.removed, 1);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "open", 10);

	tcase_add_test(tc, bus_offer__open_echo_close);
	tcase_add_test(tc, vsp_open__gets_the_childs_bytes);
	tcase_add_test(tc, vsp_open__refuses);
	tcase_add_test(tc, chan_fail__in_open_is_a_refusal_and_closes);
	tcase_add_test(tc, lesson_04_signal_before_open);
	tcase_add_test(tc, lesson_05_event_in_open);
	tcase_add_test(tc, bus__signals_again_after_100_ms);
	tcase_add_test(tc, vsp_close__again_keeps_the_rings);
	tcase_add_test(tc, bus_destroy__waits_for_close_done);
	tcase_add_test(tc, bus_revoke__in_packets);
	tcase_add_test(tc, chan_fail__withdraws_and_offers_again);
	tcase_add_test(tc, bus__reset_by_a_new_contact_closes_everything);
	tcase_add_test(tc, lesson_16_reset_in_opening);
	tcase_add_test(tc, bus_reset__in_every_state);
	tcase_add_test(tc, bus_reset__drops_what_was_posted);
	tcase_add_test(tc, bus__open_while_closing);
	tcase_add_test(tc, bus__target_vp);
	tcase_add_test(tc, bus__busy_slot_does_not_stop_a_close);
	tcase_add_test(tc, bus_destroy__with_everything_under_way);
}

VMBUS_TEST_MAIN("bus.open", tests)
