/* SPDX-License-Identifier: MIT */
/*
 * Sub-channels that a device offers: of the bus and of threads, those that wait for the child to let
 * go of the ones before, no growth, and one that is broken while it is withdrawn.
 */
#include "fake.h"

#include <vmbus/save.h>

struct dev {
	struct fake_echo echo; /* first: the echo device's context */
	uint32_t subs;	       /* offered from open() */
	int sub_err;
	uint32_t opens, closes;
	struct vmbus_chan *last_open;
};

static int dev_open(struct vmbus_chan *chan, void *ctx)
{
	struct dev *d = ctx;

	d->opens++;
	d->last_open = chan;
	if (d->subs && vmbus_chan_primary(chan) == chan)
		d->sub_err = vmbus_chan_offer_subchannels(chan, d->subs);
	return 0;
}

static int dev_close(struct vmbus_chan *chan)
{
	((struct dev *)vmbus_chan_ctx(chan))->closes++;
	return 0;
}

static const struct vmbus_vsp vsp = {
	.struct_bytes = sizeof(vsp),
	.name = "echo",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 1),
	.open = dev_open,
	.packets = fake_echo_packets,
	.close = dev_close,
};

struct subs {
	struct fake f;
	struct dev d;
	struct fake_chan c[8];
	struct vmbus_chan *chan;
	struct vmbus_chan *offered[8];
	uint32_t count;
};

static void on_offered(void *ctx, struct vmbus_chan *sub)
{
	struct subs *s = ctx;

	must(s->count < 8);
	s->offered[s->count++] = sub;
}

static void subs_begin(struct subs *s, bool own)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = own };

	s->f.opts.offered = on_offered;
	s->f.opts.events_ctx = s;
	fake_create(&s->f);
	must_eq(vmbus_bus_offer(s->f.bus, &vsp, &s->d, &opts, &s->chan), 0);
	fake_contact(&s->f, VMBUS_PROTO_5_3);
}

/* The channel is offered, and the child has made contact. */
static void subs_init(struct subs *s, bool own)
{
	memset(s, 0, sizeof(*s));
	fake_prepare(&s->f, 512);
	subs_begin(s, own);
}

/* The same, and the child may have no more channels. */
static void subs_init_max(struct subs *s, uint32_t chans, bool own)
{
	memset(s, 0, sizeof(*s));
	fake_prepare(&s->f, 512);
	s->f.opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(s->f.opts.limits),
						    .chans_max = chans };
	subs_begin(s, own);
}

static void take_sub(struct subs *s, uint32_t i)
{
	struct vmbus_ctl ctl;

	fake_expect(&s->f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.sub_index, i);
	must(vmbus_guid_equal(&ctl.u.offer.instance_id, &s->c[0].instance));
	memset(&s->c[i], 0, sizeof(s->c[i]));
	s->c[i].fake = &s->f;
	s->c[i].relid = ctl.u.offer.relid;
	s->c[i].conn = ctl.u.offer.conn_id;
}

static void subs_run(struct subs *s, bool own)
{
	uint32_t i;

	for (i = 0; i < 4; i++) {
		fake_run(&s->f);
		if (!own)
			continue;
		while (vmbus_chan_dispatch(s->chan, 16) > 0)
			;
		for (uint32_t k = 0; k < s->count; k++)
			while (vmbus_chan_dispatch(s->offered[k], 16) > 0)
				;
	}
}

static void subs_open(struct subs *s, uint32_t i, bool own)
{
	struct fake_chan *c = &s->c[i];

	fake_rings(&s->f, c, 3, 3);
	c->gpadl = s->f.next_gpadl++;
	must_eq(fake_share(&s->f, c->relid, c->gpadl, c->first, 6), 0);
	fake_post_open(&s->f, c, 0);
	subs_run(s, own);
	if (i == 0 && s->d.subs) /* the open() offers them before it is answered */
		return;
	fake_expect(&s->f, VMBUS_CTL_OPEN_RESULT, NULL);
}

static void subchannels(bool own)
{
	struct subs s;
	struct vmbus_packet pkt[4];
	struct vmbus_chan_info info;
	uint64_t id = 1;
	uint32_t i, round;

	subs_init(&s, own);
	for (round = 0; round < 3; round++) {
		if (round == 0)
			must_eq(fake_offers(&s.f, s.c, 1), 1);
		s.count = 0;
		subs_open(&s, 0, own);
		must_eq(vmbus_chan_offer_subchannels(s.chan, 0), VMBUS_E_RANGE);
		must_eq(vmbus_chan_offer_subchannels(s.chan, 2048), VMBUS_E_RANGE);
		must_eq(vmbus_chan_offer_subchannels(s.chan, 1), 0);
		must_eq(vmbus_chan_offer_subchannels(s.chan, 2), 0);
		for (i = 1; i <= 3; i++)
			take_sub(&s, i);
		must_eq(s.count, 3);
		for (i = 1; i <= 3; i++) {
			subs_open(&s, i, own);
			must(s.d.last_open == s.offered[i - 1]);
			must(vmbus_chan_primary(s.d.last_open) == s.chan);
			must_eq(vmbus_chan_offer_subchannels(s.d.last_open, 1), VMBUS_E_INVAL);
			must_eq(fake_send(&s.c[i], id, &id, 8), 1);
			subs_run(&s, own);
			must_eq(fake_receive(&s.c[i], pkt, 4), 1);
		}
		if (!own) {
			vmbus_chan_info(s.chan, &info);
			must_eq(info.subchannels, 3);
		}
		/* The primary is closed: its sub-channels are withdrawn. */
		fake_post_close(&s.f, &s.c[0]);
		subs_run(&s, own);
		for (i = 1; i <= 3; i++)
			fake_expect(&s.f, VMBUS_CTL_RESCIND, NULL);
		fake_post_teardown(&s.f, s.c[0].relid, s.c[0].gpadl);
		fake_expect(&s.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
		must_eq(s.d.opens, 4 * (round + 1));
		must_eq(s.d.closes, 4 * (round + 1));
		for (i = 1; i <= 3; i++) {
			fake_post_teardown(&s.f, s.c[i].relid, s.c[i].gpadl);
			fake_expect(&s.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
			fake_post_released(&s.f, s.c[i].relid);
			fake_chan_free(&s.c[i]);
		}
		fake_chan_free(&s.c[0]);
		fake_expect_none(&s.f);
		must_eq(s.f.removed, 3 * (round + 1));
		s.f.next_page = 1;
		s.c[0].first = 0;
	}
	fake_fini(&s.f);
}

START_TEST(chan_offer_subchannels__of_the_bus)
{
	subchannels(false);
}
END_TEST

START_TEST(chan_offer_subchannels__of_threads)
{
	subchannels(true);
}
END_TEST

/* The primary is closed and opened; its sub-channels are withdrawn, and the child keeps them. */
static void reopen(struct subs *s, bool own)
{
	struct vmbus_ctl ctl;

	fake_post_close(&s->f, &s->c[0]);
	subs_run(s, own);
	while (fake_take(&s->f, &ctl))
		must_eq(ctl.type, VMBUS_CTL_RESCIND);
	fake_post_teardown(&s->f, s->c[0].relid, s->c[0].gpadl);
	fake_expect(&s->f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_chan_free(&s->c[0]);
	s->f.next_page = 1;
	s->c[0].first = 0;
	subs_open(s, 0, own);
}

/* The primary is opened again before the child has let go of its last sub-channels. */
START_TEST(chan_offer_subchannels__wait_for_those_of_before)
{
	const uint32_t first = _i == 0 ? 1 : 2; /* which of them it lets go of first */
	struct subs s;
	uint32_t i;

	subs_init(&s, false);
	must_eq(fake_offers(&s.f, s.c, 1), 1);
	subs_open(&s, 0, false);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 2), 0);
	for (i = 1; i <= 2; i++)
		take_sub(&s, i);
	reopen(&s, false);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 1), 0);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 2), 0);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 2047), VMBUS_E_FULL);
	fake_expect_none(&s.f);
	fake_post_released(&s.f, s.c[first].relid);
	if (first == 1)
		take_sub(&s, 1);
	fake_expect_none(&s.f);
	fake_post_released(&s.f, s.c[3 - first].relid);
	for (i = first == 1 ? 2 : 1; i <= 3; i++)
		take_sub(&s, i);
	fake_expect_none(&s.f);
	must_eq(s.count, 5);
	/* Closed while some are waited for: only those of the next opening are offered. */
	reopen(&s, false);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 3), 0);
	reopen(&s, false);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 1), 0);
	for (i = 1; i <= 3; i++)
		fake_post_released(&s.f, s.c[i].relid);
	subs_run(&s, false);
	take_sub(&s, 1);
	fake_expect_none(&s.f);
	fake_chan_free(&s.c[0]);
	fake_fini(&s.f);
}
END_TEST

/* So many were asked for before the bus looked that they are not all had: the log tells. */
START_TEST(chan_offer_subchannels__tell_how_many_were_had)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct vmbus_chan_info info;
	struct subs s;

	memset(&s, 0, sizeof(s));
	fake_init(&s.f, 512); /* without offered() they need no descriptors */
	must_eq(vmbus_bus_offer(s.f.bus, &vsp, &s.d, &opts, &s.chan), 0);
	fake_contact(&s.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&s.f, s.c, 1), 1);
	subs_open(&s, 0, true);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 1500), 0);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 1500), 0);
	fake_run(&s.f);
	must(fake_logged(&s.f, "only 2046 of 3000 sub-channels"));
	vmbus_chan_info(s.chan, &info);
	must_eq(info.subchannels, 0); /* the child waits for 3000 */
	fake_chan_free(&s.c[0]);
	fake_fini(&s.f);
}
END_TEST

/* The child lets go of a primary that was open, which is withdrawn, and has it offered again. */
static void let_go(struct subs *s, bool own)
{
	struct vmbus_ctl ctl;

	fake_post_close(&s->f, &s->c[0]);
	subs_run(s, own);
	fake_post_teardown(&s->f, s->c[0].relid, s->c[0].gpadl);
	fake_expect(&s->f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_post_released(&s->f, s->c[0].relid);
	fake_expect(&s->f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.sub_index, 0);
	fake_chan_free(&s->c[0]);
	s->f.next_page = 1;
	s->c[0].first = 0;
}

/* A child connects that knows nothing of the last, and finds the device among others. */
static void connect_again(struct subs *s)
{
	const struct vmbus_guid instance = s->c[0].instance;
	struct fake_chan all[128];
	uint32_t i = 0, n;

	fake_chan_free(&s->c[0]);
	s->f.next_page = 1;
	fake_contact(&s->f, VMBUS_PROTO_5_3);
	n = fake_offers(&s->f, all, 128);
	while (i < n && !vmbus_guid_equal(&all[i].instance, &instance))
		i++;
	must(i < n);
	s->c[0] = all[i];
}

/* Two of three that a thread asks for are had; anew: the child sees the device withdrawn. */
static void promise_three(struct subs *s, bool anew)
{
	uint32_t i;

	must_eq(vmbus_chan_offer_subchannels(s->chan, 3), 0);
	for (i = 1; i <= 2; i++)
		take_sub(s, i);
	must(fake_logged(&s->f, "only 2 of 3 sub-channels"));
	s->f.lines = 0;
	memset(s->f.last, 0, sizeof(s->f.last));
	s->count = 0; /* nobody dispatches them */
	for (i = 0; anew && i < 3; i++)
		fake_expect(&s->f, VMBUS_CTL_RESCIND, NULL);
	fake_expect_none(&s->f);
	for (i = 1; anew && i <= 2; i++)
		fake_post_released(&s->f, s->c[i].relid);
	subs_run(s, true);
}

/*
 * Nobody can be told that a thread's sub-channels were not to be had, so the device begins anew; once,
 * if it asks for as many again.  Test 0: no more channels; 1: no more monitor ids.
 */
START_TEST(chan_offer_subchannels__begin_anew_if_they_were_not_to_be_had)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts),
					       .own_fd = true,
					       .monitor_us = _i ? 100 : 0 };
	struct subs s;
	uint32_t i;

	memset(&s, 0, sizeof(s));
	fake_prepare(&s.f, 512);
	s.f.opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(s.f.opts.limits),
						   .chans_max = _i ? 0 : 3 };
	s.f.opts.offered = on_offered;
	s.f.opts.events_ctx = &s;
	s.f.opts.log_lines_max = 1000;
	fake_create(&s.f);
	must_eq(vmbus_bus_offer(s.f.bus, &vsp, &s.d, &opts, &s.chan), 0);
	fake_contact(&s.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&s.f, s.c, 1), 1);
	for (i = 0; _i && i < 128 - 3; i++) {
		must_eq(vmbus_bus_offer(s.f.bus, &vsp, &s.d, &opts, NULL), 0);
		fake_expect(&s.f, VMBUS_CTL_OFFER, NULL);
	}
	subs_open(&s, 0, true);
	promise_three(&s, true);
	must_eq(s.d.closes, 1);
	let_go(&s, true);
	subs_open(&s, 0, true);
	promise_three(&s, false); /* the child would open it again and again */
	must_eq(s.d.closes, 1);
	/* It closes the channel by itself; what it asks for then waits for those of before. */
	reopen(&s, true);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 2), 0);
	subs_run(&s, true);
	for (i = 1; i <= 2; i++)
		fake_post_released(&s.f, s.c[i].relid);
	for (i = 1; i <= 2; i++)
		take_sub(&s, i);
	fake_expect_none(&s.f);
	s.count = 0;
	must_eq(vmbus_chan_offer_subchannels(s.chan, 1), 0);
	for (i = 0; i < 3; i++)
		fake_expect(&s.f, VMBUS_CTL_RESCIND, NULL);
	subs_run(&s, true);
	must_eq(s.d.closes, 3);
	/* And so it may for a child that has connected again. */
	vmbus_bus_reset(s.f.bus);
	subs_run(&s, true);
	connect_again(&s);
	subs_open(&s, 0, true);
	promise_three(&s, true);
	must_eq(s.d.closes, 4);
	fake_chan_free(&s.c[0]);
	fake_fini(&s.f);
}
END_TEST

/* Room that those of before have is waited for by a thread's as well, and nothing begins anew. */
START_TEST(chan_offer_subchannels__of_a_thread_wait_for_room)
{
	struct subs s;
	uint32_t i;

	subs_init_max(&s, 4, true);
	must_eq(fake_offers(&s.f, s.c, 1), 1);
	subs_open(&s, 0, true);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 3), 0);
	for (i = 1; i <= 3; i++)
		take_sub(&s, i);
	s.count = 0;
	reopen(&s, true);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 3), 0);
	fake_expect_none(&s.f);
	for (i = 1; i <= 3; i++) {
		fake_post_released(&s.f, s.c[i].relid);
		take_sub(&s, i);
	}
	fake_expect_none(&s.f);
	must(!fake_logged(&s.f, "sub-channels"));
	must_eq(s.d.closes, 1);
	fake_chan_free(&s.c[0]);
	fake_fini(&s.f);
}
END_TEST

/* Room that those of before have, and the child lets go of: it is waited for as well. */
START_TEST(chan_offer_subchannels__wait_for_room)
{
	struct subs s;
	uint32_t i, round;

	subs_init_max(&s, 4, false);
	must_eq(fake_offers(&s.f, s.c, 1), 1);
	subs_open(&s, 0, false);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 3), 0);
	for (i = 1; i <= 3; i++)
		take_sub(&s, i);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 1), VMBUS_E_FULL);
	reopen(&s, false);
	fake_post_released(&s.f, s.c[1].relid);
	subs_run(&s, false);
	must_eq(vmbus_bus_offer(s.f.bus, &vsp, &s.d, NULL, NULL), 0); /* that room is gone */
	fake_expect(&s.f, VMBUS_CTL_OFFER, NULL);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 3), 0);
	fake_expect_none(&s.f);
	s.c[1] = s.c[2];
	s.c[2] = s.c[3];
	for (round = 0; round < 2; round++) {
		fake_post_released(&s.f, s.c[1].relid);
		take_sub(&s, 1);
		fake_expect_none(&s.f);
		/* There is none for the third: its device begins anew, for nobody could be told. */
		fake_post_released(&s.f, s.c[2].relid);
		take_sub(&s, 2);
		must(fake_logged(&s.f, "only 1 of 2 sub-channels"));
		s.f.lines = 0;
		for (i = 0; i < 3; i++)
			fake_expect(&s.f, VMBUS_CTL_RESCIND, NULL);
		let_go(&s, false);
		must_eq(s.d.closes, 2 + round);
		s.count = 0;
		subs_open(&s, 0, false);
		must_eq(vmbus_chan_offer_subchannels(s.chan, 3), 0);
		fake_expect_none(&s.f);
	}
	fake_chan_free(&s.c[0]);
	fake_fini(&s.f);
}
END_TEST

/* The bus and two devices go on elsewhere, in the same memory. */
static void move(struct subs *s)
{
	const size_t all = s->f.pages * FAKE_PAGE;
	uint8_t *const mem = malloc(all);
	size_t bytes, again;
	uint8_t *state;
	char why[160];

	must_eq(vmbus_bus_save(s->f.bus, NULL, 0, &bytes), VMBUS_E_RANGE);
	state = malloc(bytes);
	must(mem && state);
	must_eq(vmbus_bus_save(s->f.bus, state, bytes, &again), 0);
	memcpy(mem, s->f.mem, all);
	vmbus_bus_destroy(s->f.bus);
	memcpy(s->f.mem, mem, all);
	fake_create(&s->f);
	must_eq(vmbus_bus_offer(s->f.bus, &vsp, &s->d, NULL, &s->chan), 0);
	must_eq(vmbus_bus_offer(s->f.bus, &vsp, &s->d, NULL, NULL), 0);
	must_eq(vmbus_bus_restore(s->f.bus, state, bytes, why, sizeof(why)), 0);
	free(state);
	free(mem);
	subs_run(s, false);
}

/* The same after a restore, whose bus has no device for what lingers. */
START_TEST(vmbus_bus_restore__sub_channels_that_wait_for_room)
{
	struct subs s;
	uint32_t i;

	subs_init_max(&s, 4, false);
	must_eq(fake_offers(&s.f, s.c, 1), 1);
	subs_open(&s, 0, false);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 3), 0);
	for (i = 1; i <= 3; i++)
		take_sub(&s, i);
	reopen(&s, false);
	fake_post_released(&s.f, s.c[1].relid);
	subs_run(&s, false);
	must_eq(vmbus_bus_offer(s.f.bus, &vsp, &s.d, NULL, NULL), 0);
	fake_expect(&s.f, VMBUS_CTL_OFFER, NULL);
	must_eq(vmbus_chan_offer_subchannels(s.chan, 2), 0);
	move(&s);
	fake_expect_none(&s.f);
	fake_post_released(&s.f, s.c[2].relid);
	take_sub(&s, 1);
	fake_expect_none(&s.f);
	fake_post_released(&s.f, s.c[3].relid);
	take_sub(&s, 2);
	fake_expect_none(&s.f);
	must(!fake_logged(&s.f, "sub-channels"));
	fake_chan_free(&s.c[0]);
	fake_fini(&s.f);
}
END_TEST

/* A child that makes a device offer sub-channels for ever gets no more memory for it. */
START_TEST(chan_offer_subchannels__do_not_grow)
{
	struct subs s;
	uint32_t round;
	size_t before = 0;

	memset(&s, 0, sizeof(s));
	s.d.subs = 3;
	fake_init(&s.f, 512);
	must_eq(vmbus_bus_offer(s.f.bus, &vsp, &s.d, NULL, &s.chan), 0);
	for (round = 0; round < 300; round++) {
		fake_contact(&s.f, VMBUS_PROTO_5_3);
		must_eq(fake_offers(&s.f, s.c, 1), 1);
		s.f.next_page = 1;
		subs_open(&s, 0, false);
		must_eq(s.d.sub_err, 0);
		while (fake_take(&s.f, &(struct vmbus_ctl){ 0 }))
			;
		fake_chan_free(&s.c[0]);
		if (round == 20)
			before = mallinfo2().uordblks;
	}
	must(mallinfo2().uordblks <= before + 65536);
	must_eq(s.f.removed, 299 * 3);
	fake_fini(&s.f);
}
END_TEST

/* Its primary's withdrawal is looked at first; it is withdrawn once, and what was wrong is told. */
START_TEST(chan_fault__of_a_sub_channel_that_is_withdrawn_at_the_same_time)
{
	struct vmbus_bus_stats stats;
	struct subs s;
	uint32_t k;

	subs_init(&s, true);
	s.d.subs = 1;
	must_eq(fake_offers(&s.f, s.c, 1), 1);
	subs_open(&s, 0, true);
	fake_expect(&s.f, VMBUS_CTL_OPEN_RESULT, NULL);
	take_sub(&s, 1);
	subs_open(&s, 1, true);
	*(uint32_t *)(void *)(s.f.mem + s.c[1].first * FAKE_PAGE) = UINT32_MAX;
	must_eq(vmbus_bus_signal_event(s.f.bus, s.c[1].conn, 0), VMBUS_HC_OK);
	(void)vmbus_chan_dispatch(s.offered[0], 64);
	must_eq(vmbus_bus_revoke(s.chan), 0);
	subs_run(&s, true);
	for (k = 0; k < 2; k++)
		fake_expect(&s.f, VMBUS_CTL_RESCIND, NULL);
	fake_expect_none(&s.f);
	must(fake_logged(&s.f, "broken by the child"));
	vmbus_bus_stats(s.f.bus, &stats);
	must_eq(stats.faults, 1);
	fake_chan_free(&s.c[0]);
	fake_chan_free(&s.c[1]);
	fake_fini(&s.f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "subchannels", 10);

	tcase_add_test(tc, chan_fault__of_a_sub_channel_that_is_withdrawn_at_the_same_time);
	tcase_add_test(tc, chan_offer_subchannels__of_the_bus);
	tcase_add_test(tc, chan_offer_subchannels__of_threads);
	tcase_add_test(tc, chan_offer_subchannels__do_not_grow);
	tcase_add_test(tc, chan_offer_subchannels__tell_how_many_were_had);
	tcase_add_loop_test(tc, chan_offer_subchannels__begin_anew_if_they_were_not_to_be_had, 0,
			    2);
	tcase_add_test(tc, chan_offer_subchannels__of_a_thread_wait_for_room);
	tcase_add_test(tc, chan_offer_subchannels__wait_for_room);
	tcase_add_test(tc, vmbus_bus_restore__sub_channels_that_wait_for_room);
	tcase_add_loop_test(tc, chan_offer_subchannels__wait_for_those_of_before, 0, 2);
}

VMBUS_TEST_MAIN("bus.subchannels", tests)
