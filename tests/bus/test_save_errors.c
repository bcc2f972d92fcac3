/* SPDX-License-Identifier: MIT */
/*
 * vmbus_bus_save() and vmbus_bus_restore(): what they refuse, devices that are missing, new, or
 * cannot go on.
 */
#include "savebox.h"

START_TEST(vmbus_bus_save__errors)
{
	struct box b;
	uint8_t *buf;
	size_t need, room;

	begin(&b);
	live(&b);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 1, &need), VMBUS_E_INVAL);
	take_state(&b);
	for (room = 1; room < b.bytes; room += 7) {
		buf = malloc(room); /* exact, so that a sanitizer sees its end */
		must(buf != NULL);
		must_eq(vmbus_bus_save(b.f.bus, buf, room, &need), VMBUS_E_RANGE);
		must_eq(need, b.bytes);
		free(buf);
	}
	vmbus_bus_close(b.f.bus);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_STATE);
	end(&b);
}
END_TEST

static int in_callback;

static void save_within(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct fake *f = vmbus_chan_ctx(chan);
	size_t need;

	(void)pkt;
	(void)n;
	in_callback = vmbus_bus_save(f->bus, NULL, 0, &need);
	must_eq(vmbus_bus_restore(f->bus, "", 0, NULL, 0), VMBUS_E_STATE);
}

START_TEST(vmbus_bus_save__not_in_a_callback)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct fake f;
	struct fake_chan c;

	vsp.open = NULL;
	vsp.close = NULL;
	vsp.packets = save_within;
	fake_init(&f, 64);
	(void)fake_offer(&f, &vsp, &f, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 2, 2), 0);
	must_eq(fake_send(&c, 1, "12345678", 8), 1);
	fake_run(&f);
	must_eq(in_callback, VMBUS_E_STATE);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

START_TEST(vmbus_bus_save__what_devices_say)
{
	static const struct {
		int says, err;
	} cases[] = {
		{ VMBUS_E_AGAIN, VMBUS_E_AGAIN },
		{ VMBUS_E_RANGE, VMBUS_E_NOTSUP },
		{ VMBUS_E_NOMEM, VMBUS_E_NOMEM },
		{ VMBUS_E_STATE, VMBUS_E_NOTSUP },
		{ (int)sizeof(struct bank) + 1, VMBUS_E_NOTSUP },
	};
	struct box b;
	size_t need, i;

	begin(&b);
	live(&b);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		b.bank[0].save_says = cases[i].says;
		must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), cases[i].err);
	}
	b.bank[0].save_says = 0;
	must_answer(&b, (ask(&b, 0, BANK_ECHO), 0)); /* nothing has happened to it */
	b.vsp.save_bytes_max = UINT32_MAX;
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_NOTSUP);
	end(&b);
}
END_TEST

/* close() that is not done, and pages that are held, may still be written to. */
static int slow_close(struct vmbus_chan *chan)
{
	(void)bank_close(chan);
	return VMBUS_E_AGAIN;
}

START_TEST(vmbus_bus_save__waits_for_devices_that_close)
{
	struct box b;
	size_t need;

	begin(&b);
	b.vsp.close = slow_close;
	live(&b);
	fake_post_close(&b.f, &b.c[0]);
	fake_run(&b.f);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_AGAIN);
	vmbus_chan_close_done(b.chan[0]);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_RANGE);
	b.vsp.close = bank_close;
	end(&b);
}
END_TEST

static int foreign_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	(void)ctx;
	return 0;
}

START_TEST(vmbus_bus_save__not_of_an_open_foreign_channel)
{
	static const struct vmbus_vsp vsp = {
		.struct_bytes = sizeof(vsp),
		.name = "elsewhere",
		.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 9),
		.flags = VMBUS_VSP_FOREIGN,
		.open = foreign_open,
	};
	struct fake f;
	struct fake_chan c;
	size_t need;

	fake_init(&f, 64);
	(void)fake_offer(&f, &vsp, NULL, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(vmbus_bus_save(f.bus, NULL, 0, &need),
		VMBUS_E_RANGE); /* closed, it is as any other */
	must_eq(fake_open(&f, &c, 2, 2), 0);
	must_eq(vmbus_bus_save(f.bus, NULL, 0, &need), VMBUS_E_NOTSUP);
	must(strstr(f.last[(f.lines - 1) % FAKE_LINES],
		    "(elsewhere): cannot be saved: another process has its rings") != NULL);
	fake_close(&f, &c);
	must_eq(vmbus_bus_save(f.bus, NULL, 0, &need), VMBUS_E_RANGE);
	fake_fini(&f);
}
END_TEST

START_TEST(vmbus_bus_restore__only_into_a_new_bus)
{
	struct box b;

	begin(&b);
	live(&b);
	must_eq(vmbus_bus_restore(b.f.bus, "", 0, NULL, 0), VMBUS_E_STATE);
	move(&b);
	must_eq(restore(&b), 0);
	must_eq(restore(&b), VMBUS_E_STATE);
	fake_run(&b.f);
	must_eq(b.bank[0].restores, 1);
	must_eq(b.bank[0].opens, 0);
	move(&b);
	must_eq(fake_try_post(&b.f, VMBUS_CONN_MESSAGE,
			      &(struct vmbus_ctl){ .type = VMBUS_CTL_UNLOAD }),
		VMBUS_HC_OK);
	must_eq(restore(&b), VMBUS_E_STATE);
	end(&b);
}
END_TEST

/* Saved again before anybody has dispatched, and destroyed so. */
START_TEST(vmbus_bus_restore__and_save_before_the_first_dispatch)
{
	struct box b;
	uint8_t *first;
	size_t bytes;

	begin(&b);
	live(&b);
	(void)ask(&b, 0, BANK_KEEP);
	fake_run(&b.f);
	move(&b);
	must_eq(restore(&b), 0);
	first = b.state;
	bytes = b.bytes;
	b.state = NULL;
	move(&b);
	must_eq(b.bank[0].closes, 0);
	must_eq(b.bytes, bytes);
	must(memcmp(first, b.state, bytes) == 0);
	free(first);
	must_eq(restore(&b), 0);
	(void)ask(&b, 0, BANK_PAY);
	must_answer(&b, 0);
	must_eq(b.bank[0].restores, 1);
	end(&b);
}
END_TEST

START_TEST(vmbus_bus_restore__device_that_cannot_go_on)
{
	struct vmbus_ctl ctl;
	struct box b;

	begin(&b);
	live(&b);
	move(&b);
	b.bank[0].restore_says = VMBUS_E_INVAL;
	must_eq(restore(&b), 0);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl);
	must_eq(ctl.u.chan.relid, b.c[0].relid);
	fake_post_teardown(&b.f, b.c[0].relid, b.c[0].gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_post_released(&b.f, b.c[0].relid);
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.relid, b.c[0].relid);
	b.bank[0].restore_says = 0;
	must_eq(fake_open(&b.f, &b.c[0], 2, 2), 0);
	(void)ask(&b, 0, BANK_ECHO);
	must_answer(&b, 0);
	(void)ask(&b, 1, BANK_ECHO);
	must_answer(&b, 1); /* the other one has gone on */
	must_eq(b.bank[1].restores, 1);
	end(&b);
}
END_TEST

START_TEST(vmbus_bus_restore__device_without_restore_is_opened)
{
	struct box b;

	begin(&b);
	b.vsp.restore = NULL;
	live(&b);
	move(&b);
	must_eq(restore(&b), 0);
	(void)ask(&b, 0, BANK_ECHO);
	must_answer(&b, 0);
	must_eq(b.bank[0].opens, 1);
	end(&b);
}
END_TEST

START_TEST(vmbus_bus_restore__device_that_is_missing_and_one_that_is_new)
{
	struct vmbus_ctl ctl;
	struct box b;
	uint32_t i;

	begin(&b);
	live(&b);
	b.second = 3; /* instead of 2 */
	move(&b);
	must_eq(restore(&b), 0);
	for (i = 0; i < 2; i++) {
		const uint32_t got = fake_take(&b.f, &ctl);

		if (got == VMBUS_CTL_RESCIND) {
			must_eq(ctl.u.chan.relid, b.c[1].relid);
		} else {
			must_eq(got, VMBUS_CTL_OFFER);
			must_eq(ctl.u.offer.instance_id.b[0], 3);
			must(ctl.u.offer.relid != b.c[1].relid &&
			     ctl.u.offer.relid != b.c[0].relid);
		}
	}
	fake_expect_none(&b.f);
	(void)ask(&b, 0, BANK_ECHO);
	must_answer(&b, 0);
	fake_post_teardown(&b.f, b.c[1].relid, b.c[1].gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_post_released(&b.f, b.c[1].relid);
	fake_expect_none(&b.f);
	must_eq(b.f.removed, 0);
	end(&b);
}
END_TEST

/* What the embedder had withdrawn and offers all the same is the old one, which ends. */
START_TEST(vmbus_bus_restore__device_that_was_withdrawn)
{
	struct box b;

	begin(&b);
	live(&b);
	must_eq(vmbus_bus_revoke(b.chan[1]), 0);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	move(&b);
	must_eq(restore(&b), 0);
	fake_expect_none(&b.f);
	must_eq(b.f.removed, 0);
	fake_post_teardown(&b.f, b.c[1].relid, b.c[1].gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_post_released(&b.f, b.c[1].relid);
	fake_run(&b.f);
	must_eq(b.f.removed, 1);
	end(&b);
}
END_TEST

static void run_own(struct box *b)
{
	uint32_t n;

	for (n = 0; n < 100; n++) {
		fake_run(&b->f);
		if (b->own_fd && vmbus_chan_dispatch(b->chan[0], 64) == 0 &&
		    !fake_readable(vmbus_bus_fd(b->f.bus)))
			return;
	}
}

/* A channel with a thread of its own, whose commands may wait for it. */
START_TEST(vmbus_bus_restore__channel_with_own_fd)
{
	struct box b;

	begin(&b);
	b.second = 0;
	b.own_fd = true;
	create(&b);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, b.c, 2), 1);
	fake_rings(&b.f, &b.c[0], 2, 2);
	b.c[0].gpadl = 7;
	must_eq(fake_share(&b.f, b.c[0].relid, 7, b.c[0].first, 4), 0);
	fake_post_open(&b.f, &b.c[0], 0);
	fake_run(&b.f);
	move(&b); /* its thread has not opened it */
	must_eq(restore(&b), 0);
	fake_run(&b.f);
	run_own(&b);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, NULL);
	must_eq(b.bank[0].opens, 1);
	(void)ask(&b, 0, BANK_KEEP);
	run_own(&b);
	move(&b);
	must_eq(restore(&b), 0);
	fake_run(&b.f); /* the command waits */
	move(&b);
	must_eq(restore(&b), 0);
	run_own(&b);
	must_eq(b.bank[0].restores, 1);
	(void)ask(&b, 0, BANK_PAY);
	run_own(&b);
	must_answer(&b, 0);
	fake_post_close(&b.f, &b.c[0]);
	fake_run(&b.f);
	move(&b); /* its thread has not closed it */
	must_eq(restore(&b), 0);
	fake_post_teardown(&b.f, b.c[0].relid, 7);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.bank[0].opens + b.bank[0].restores, 0);
	end(&b);
}
END_TEST

/* A fault that nobody has seen to, and a reset that nobody has looked at. */
START_TEST(vmbus_bus_restore__what_was_about_to_end)
{
	struct box b;

	begin(&b);
	live(&b);
	vmbus_chan_fail(b.chan[0], "because");
	move(&b);
	must_eq(restore(&b), 0);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	must(fake_logged(&b.f, "because"));
	must_eq(b.bank[0].closes, 1);
	vmbus_bus_reset(b.f.bus);
	move(&b);
	must_eq(restore(&b), 0);
	fake_expect_none(&b.f);
	fake_chan_free(&b.c[0]);
	fake_chan_free(&b.c[1]);
	fake_contact(&b.f, VMBUS_PROTO_5_2);
	must_eq(fake_offers(&b.f, b.c, 2), 2);
	end(&b);
}
END_TEST

/* The child was told of monitor ids. */
START_TEST(vmbus_bus_restore__monitors)
{
	struct box b;
	size_t page;

	begin(&b);
	b.monitor_us = 100;
	create(&b);
	page = fake_pages(&b.f, 2);
	fake_contact_pages(&b.f, VMBUS_PROTO_5_3, page * FAKE_PAGE, (page + 1) * FAKE_PAGE);
	must_eq(fake_offers(&b.f, b.c, 2), 2);
	must_eq(fake_open(&b.f, &b.c[0], 2, 2), 0);
	b.monitor_us = 0;
	move(&b);
	must_eq(restore(&b), VMBUS_E_INVAL);
	must_eq(vmbus_bus_dispatch(b.f.bus, 1), VMBUS_E_STATE);
	vmbus_bus_destroy(b.f.bus);
	must_eq(b.f.removed, 2);
	b.monitor_us = 100;
	create(&b);
	must_eq(restore(&b), 0);
	fake_run(&b.f);
	(void)ask(&b, 0, BANK_ECHO);
	must_answer(&b, 0);
	end(&b);
}
END_TEST

/* The indices in the control page, and the memory, must be those of the state. */
START_TEST(vmbus_bus_restore__memory_of_another_time)
{
	struct vmbus_region region;
	struct box b;

	begin(&b);
	live(&b);
	move(&b);
	b.f.mem[b.c[0].first * FAKE_PAGE + 4] ^= 8; /* the read index of the ring from the child */
	must_eq(restore(&b), 0);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	must_eq(b.bank[0].restores, 0);
	(void)ask(&b, 1, BANK_ECHO);
	must_answer(&b, 1);
	take_state(&b);
	vmbus_bus_destroy(b.f.bus);
	region = b.f.region;
	b.f.region.bytes = FAKE_PAGE; /* the pages of a list are not there */
	create(&b);
	must_eq(restore(&b), VMBUS_E_INVAL);
	vmbus_bus_destroy(b.f.bus);
	b.f.region = region;
	create(&b);
	end(&b);
}
END_TEST

START_TEST(vmbus_bus_restore__limits)
{
	struct box b;
	uint32_t i;

	begin(&b);
	b.f.opts.limits =
		(struct vmbus_srv_opts){ .struct_bytes = sizeof(b.f.opts.limits), .chans_max = 2 };
	live(&b);
	for (i = 0; i < 3; i++)
		fake_post_teardown(&b.f, 2047, i); /* messages that wait */
	move(&b);
	must_eq(restore(&b), 0);
	take_state(&b);
	vmbus_bus_destroy(b.f.bus);
	b.f.opts.posts_max = 2;
	create(&b);
	must_eq(restore(&b), VMBUS_E_NOTSUP);
	vmbus_bus_destroy(b.f.bus);
	b.f.opts.posts_max = 0;
	b.f.opts.limits.chans_max = 1;
	b.second = 0;
	create(&b);
	must_eq(restore(&b), VMBUS_E_NOTSUP);
	vmbus_bus_destroy(b.f.bus);
	b.f.opts.limits.chans_max = 2;
	b.second = 3; /* a third device */
	create(&b);
	must_eq(restore(&b), VMBUS_E_NOTSUP);
	end(&b);
}
END_TEST

static void count_sub(void *ctx, struct vmbus_chan *chan)
{
	(void)chan;
	++*(uint32_t *)ctx;
}

/* Channels of the state and devices that it does not tell of, more than there are slots together. */
START_TEST(vmbus_bus_restore__more_channels_than_slots)
{
	uint32_t subs = 0, i;
	struct box b;

	begin(&b);
	b.second = 0;
	b.bank[0].subs = 2046;
	create(&b);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, b.c, 2), 1);
	fake_rings(&b.f, &b.c[0], 2, 2);
	b.c[0].gpadl = 7;
	must_eq(fake_share(&b.f, b.c[0].relid, 7, b.c[0].first, 4), 0);
	b.f.busy = true; /* nobody takes 2046 messages */
	fake_post_open(&b.f, &b.c[0], 0);
	for (i = 0; i < 4; i++)
		(void)vmbus_bus_dispatch(b.f.bus, 64);
	b.f.opts.offered = count_sub;
	b.f.opts.events_ctx = &subs;
	move(&b);
	for (i = 2; i <= 10; i++) {
		const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts),
						       .instance_id.b[0] = (uint8_t)i };

		must_eq(vmbus_bus_offer(b.f.bus, &b.vsp, &b.bank[1], &opts, NULL), 0);
	}
	must_eq(restore(&b), VMBUS_E_NOTSUP);
	must(subs > 2000);
	vmbus_bus_destroy(b.f.bus);
	must_eq(b.f.removed, subs + 10); /* nobody was lost */
	b.f.opts.offered = NULL;
	create(&b);
	end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "errors", 60);

	tcase_add_test(tc, vmbus_bus_save__errors);
	tcase_add_test(tc, vmbus_bus_save__not_in_a_callback);
	tcase_add_test(tc, vmbus_bus_save__what_devices_say);
	tcase_add_test(tc, vmbus_bus_save__waits_for_devices_that_close);
	tcase_add_test(tc, vmbus_bus_save__not_of_an_open_foreign_channel);
	tcase_add_test(tc, vmbus_bus_restore__only_into_a_new_bus);
	tcase_add_test(tc, vmbus_bus_restore__and_save_before_the_first_dispatch);
	tcase_add_test(tc, vmbus_bus_restore__device_that_cannot_go_on);
	tcase_add_test(tc, vmbus_bus_restore__device_without_restore_is_opened);
	tcase_add_test(tc, vmbus_bus_restore__device_that_is_missing_and_one_that_is_new);
	tcase_add_test(tc, vmbus_bus_restore__device_that_was_withdrawn);
	tcase_add_test(tc, vmbus_bus_restore__channel_with_own_fd);
	tcase_add_test(tc, vmbus_bus_restore__what_was_about_to_end);
	tcase_add_test(tc, vmbus_bus_restore__monitors);
	tcase_add_test(tc, vmbus_bus_restore__memory_of_another_time);
	tcase_add_test(tc, vmbus_bus_restore__limits);
	tcase_add_test(tc, vmbus_bus_restore__more_channels_than_slots);
}
VMBUS_TEST_MAIN("bus.save_errors", tests)
