/* SPDX-License-Identifier: MIT */
/*
 * Sub-channels with threads of their own in a saved state: they go on, or open, when their primary has,
 * whichever thread comes first.
 */
#include "subbox.h"

#include "bus/save.h"
#include "channel/srv_state_check.h"

START_TEST(vmbus_bus_restore__sub_channels_after_their_primary)
{
	struct box b;

	begin(&b, true);
	move(&b);
	come(&b, 1);
	must_eq(b.d.restores[1], 0);
	come(&b, 0);
	must_eq(b.d.restores[0], 1);
	come(&b, 1);
	must_eq(b.d.restores[1], 1);
	must_eq(b.d.opens[1], 0);
	must(!fake_logged(&b.f, "failed"));
	fake_expect_none(&b.f);
	move(&b); /* once more, and nobody comes */
	move(&b);
	come(&b, 0);
	come(&b, 1);
	must_eq(b.d.restores[1], 1);
	end(&b);
	must_eq(b.d.closes[0], 1);
	must_eq(b.d.closes[1], 1);
}
END_TEST

START_TEST(vmbus_bus_restore__sub_channel_of_a_primary_that_does_not_go_on)
{
	struct box b;

	begin(&b, true);
	move(&b);
	b.d.restore_err = VMBUS_E_PEER;
	come(&b, 1);
	come(&b, 0);
	come(&b, 1);
	must_eq(b.d.restores[0], 1);
	must_eq(b.d.restores[1], 0);
	must(fake_logged(&b.f, "failed"));
	end(&b);
}
END_TEST

START_TEST(vmbus_bus_restore__opening_of_a_sub_channel_waits)
{
	struct box b;

	begin(&b, false);
	move(&b);
	come(&b, 1);
	must_eq(b.d.opens[1], 0);
	come(&b, 0);
	come(&b, 1);
	must_eq(b.d.restores[1], 0);
	must_eq(b.d.opens[1], 1);
	opened(&b, VMBUS_STATUS_OK);
	end(&b);
	must_eq(b.d.closes[1], 1);
}
END_TEST

/* Its thread has heard of nothing, and must be told of the opening to answer the close. */
START_TEST(vmbus_bus_restore__opening_of_a_sub_channel_whose_primary_does_not_go_on)
{
	const bool later = _i == 1; /* restore() said AGAIN, and the child closes the primary */
	struct box b;

	begin(&b, false);
	move(&b);
	b.d.restore_err = later ? VMBUS_E_AGAIN : VMBUS_E_PEER;
	come(&b, 1);
	come(&b, 0);
	if (later) {
		fake_post_close(&b.f, &b.c[0]);
		come(&b, 0);
	}
	come(&b, 1);
	must_eq(b.d.restores[0], 1);
	must_eq(b.d.restores[1], 0);
	must_eq(vmbus_bus_end(b.f.bus), 0); /* all are closed */
	b.f.bus = NULL;
	end(&b);
}
END_TEST

/* What waits is closed by the child, withdrawn, or ends with the bus. */
START_TEST(vmbus_bus_restore__sub_channel_that_waits_is_closed)
{
	const bool open = _i & 1;
	struct box b;

	begin(&b, open);
	move(&b);
	if ((_i & 2) && open) {
		fake_post_close(&b.f, &b.c[1]);
		fake_post_teardown(&b.f, b.c[1].relid, b.c[1].gpadl);
	} else if (_i & 2) {
		must_eq(vmbus_bus_revoke(b.d.chan[1]), 0);
	}
	if (_i & 2) {
		fake_run(&b.f);
		come(&b, 1);
		come(&b, 0);
		come(&b, 1);
		must_eq(b.d.restores[0], 1);
		must_eq(b.d.restores[1] + b.d.closes[1], 0);
		if (open)
			fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
		must(b.d.chan[1] != NULL); /* the child has not let go of it */
		fake_post_released(&b.f, b.c[1].relid);
		come(&b, 1);
	}
	end(&b);
}
END_TEST

static void *until_it_has_no_primary(void *sub)
{
	while (vmbus_chan_primary(sub) != sub)
		continue;
	return NULL;
}

/* The sub-channel's thread asks meanwhile. */
START_TEST(vmbus_chan_primary__of_a_sub_channel_that_outlives_it)
{
	struct vmbus_chan *primary;
	pthread_t thread;
	struct box b;

	begin(&b, true);
	primary = b.d.chan[0];
	must(vmbus_chan_primary(b.d.chan[1]) == primary);
	must_eq(vmbus_bus_revoke(primary), 0);
	come(&b, 1);
	come(&b, 0);
	must(vmbus_chan_primary(b.d.chan[1]) == primary);
	must_eq(pthread_create(&thread, NULL, until_it_has_no_primary, b.d.chan[1]), 0);
	fake_post_released(&b.f, b.c[0].relid);
	fake_run(&b.f);
	must_eq(pthread_join(thread, NULL), 0);
	must(!b.d.chan[0]);
	end(&b);
}
END_TEST

/* The device was removed; the child has released its primary, and not its sub-channel. */
static void begin_half_released(struct box *b)
{
	begin(b, true);
	must_eq(vmbus_bus_revoke(b->d.chan[0]), 0);
	come(b, 1);
	come(b, 0);
	fake_post_released(&b->f, b->c[0].relid);
	come(b, 1);
	must(!b->d.chan[0] && b->d.chan[1]);
}

START_TEST(vmbus_bus_restore__device_whose_sub_channel_lingers)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts),
					       .own_fd = true,
					       .instance_id.b[0] = 1 };
	struct vmbus_ctl ctl;
	uint32_t round;
	char why[160];
	struct box b;

	begin_half_released(&b);
	for (round = 0; round < 2; round++) {
		must_eq(move_to(&b, &dev_vsp, why, sizeof(why)), 0);
		must(b.d.chan[0] && !b.d.chan[1]); /* it is what lingers */
		must_eq(vmbus_chan_sub_index(b.d.chan[0]), 1);
		come(&b, 0);
	}
	while (fake_take(&b.f, &ctl))
		;
	fake_post_released(&b.f, b.c[1].relid);
	fake_run(&b.f);
	must(!b.d.chan[0]);
	must_eq(b.d.opens[0] + b.d.restores[0] + b.d.closes[0], 0);
	must_eq(vmbus_bus_offer(b.f.bus, &dev_vsp, &b.d, &opts, &b.d.chan[0]), 0);
	fake_run(&b.f);
	fake_expect(&b.f, VMBUS_CTL_OFFER, NULL);
	end(&b);
}
END_TEST

/* Another device has its instance id now. */
START_TEST(vmbus_bus_restore__says_whose_instance_lingers)
{
	struct vmbus_vsp other = dev_vsp;
	char why[160];
	struct box b;

	other.class_id.b[0] ^= 0xff;
	begin_half_released(&b);
	must_eq(move_to(&b, &other, why, sizeof(why)), VMBUS_E_INVAL);
	must(strstr(why, "instance id") != NULL);
	end(&b);
}
END_TEST

/* The child closes the primary and opens it again, and keeps the sub-channel of before. */
static void reopen(struct box *b)
{
	fake_post_close(&b->f, &b->c[0]);
	come(b, 0);
	come(b, 1);
	come(b, 0);
	fake_expect(&b->f, VMBUS_CTL_RESCIND, NULL);
	fake_post_teardown(&b->f, b->c[0].relid, b->c[0].gpadl);
	fake_expect(&b->f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_chan_free(&b->c[0]);
	b->c[0].first = 0;
	b->d.up = false;
	ask_open(b, 0);
	come(b, 0);
	opened(b, VMBUS_STATUS_OK);
}

/* They were asked for before the save, or are after it; the child lets go late, or before the device goes on. */
START_TEST(vmbus_bus_restore__sub_channels_that_wait_for_those_of_before)
{
	struct vmbus_ctl ctl;
	char why[160];
	struct box b;
	size_t need;

	begin(&b, true);
	b.d.quiet = _i == 1;
	reopen(&b);
	fake_expect_none(&b.f);
	must_eq(move_to(&b, &dev_vsp, why, sizeof(why)), 0);
	must_eq(move_to(&b, &dev_vsp, why, sizeof(why)), 0); /* before the device went on */
	must(b.d.chan[0] && !b.d.chan[1]);
	if (_i == 2)
		fake_post_released(&b.f, b.c[1].relid);
	come(&b, 0);
	must_eq(b.d.restores[0], 1);
	if (_i == 1)
		must_eq(vmbus_chan_offer_subchannels(b.d.chan[0], 1), 0);
	come(&b, 0);
	if (_i < 2) {
		fake_expect_none(&b.f);
		must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_RANGE);
		fake_post_released(&b.f, b.c[1].relid);
		come(&b, 0);
	}
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.sub_index, 1);
	must(b.d.chan[1] != NULL);
	fake_expect_none(&b.f);
	end(&b);
}
END_TEST

/* The last word of the first channel's section. */
static void forge_how_many_wait(uint8_t *state, size_t bytes)
{
	size_t len = 0, at = state_section(state, bytes, VMBUS__SAVE_CHAN, &len);
	uint8_t *const word = state + at + VMBUS__SECTION_HEAD + len - 4;

	must(at && len > 4 && word[0] == 1 && word[1] == 0);
	word[1] = 8; /* 2,049 */
	state_mend(state, bytes);
}

START_TEST(vmbus_bus_restore__more_sub_channels_wait_than_there_can_be)
{
	char why[160];
	struct box b;

	begin(&b, true);
	reopen(&b);
	fake_expect_none(&b.f);
	forge = forge_how_many_wait;
	must_eq(move_to(&b, &dev_vsp, why, sizeof(why)), VMBUS_E_INVAL);
	must(strstr(why, "a channel's section"));
	forge = NULL;
	end(&b);
}
END_TEST

/* The child has closed a channel, and its device has requests under way until it hears of that, whenever. */
START_TEST(vmbus_bus_save__waits_for_a_device_whose_channel_is_closed)
{
	struct box b;
	size_t need;
	uint32_t i;

	begin(&b, true);
	b.d.busy = true;
	fake_post_close(&b.f, &b.c[0]);
	for (i = 0; i < 20; i++) {
		must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_AGAIN);
		(void)vmbus_bus_dispatch(b.f.bus, 1);
	}
	must_eq(b.d.closes[0], 0);
	b.d.busy = false; /* they end before its thread hears of it */
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_RANGE);
	b.d.busy = true;
	come(&b, 0);
	must_eq(b.d.closes[0], 1);
	come(&b, 1);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_RANGE);
	end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "save_subs", 20);

	tcase_add_test(tc, vmbus_bus_restore__sub_channels_after_their_primary);
	tcase_add_test(tc, vmbus_bus_restore__sub_channel_of_a_primary_that_does_not_go_on);
	tcase_add_test(tc, vmbus_bus_restore__opening_of_a_sub_channel_waits);
	tcase_add_loop_test(
		tc, vmbus_bus_restore__opening_of_a_sub_channel_whose_primary_does_not_go_on, 0, 2);
	tcase_add_loop_test(tc, vmbus_bus_restore__sub_channel_that_waits_is_closed, 0, 4);
	tcase_add_test(tc, vmbus_chan_primary__of_a_sub_channel_that_outlives_it);
	tcase_add_test(tc, vmbus_bus_restore__device_whose_sub_channel_lingers);
	tcase_add_test(tc, vmbus_bus_restore__says_whose_instance_lingers);
	tcase_add_test(tc, vmbus_bus_restore__more_sub_channels_wait_than_there_can_be);
	tcase_add_test(tc, vmbus_bus_save__waits_for_a_device_whose_channel_is_closed);
	tcase_add_loop_test(tc, vmbus_bus_restore__sub_channels_that_wait_for_those_of_before, 0,
			    3);
}

VMBUS_TEST_MAIN("bus.save_subs", tests)
