/* SPDX-License-Identifier: MIT */
/* Channels whose rings are served elsewhere: page lists, sub-channels, and how they end. */
#include "foreign.h"

#include <vmbus/diag.h>

START_TEST(vsp_gpadl__before_while_and_after)
{
	struct box b;

	box_init(&b);
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), 0); /* before it is open */
	must_eq(b.d.gpadls, 1);
	must_eq(b.d.last_list, 41);
	must_eq(b.d.count, 4);
	must_eq(b.d.ranges, 1);
	must_eq(b.d.qwords[0], 3 * FAKE_PAGE);
	must_eq(b.d.qwords[3], 12);
	must_eq(fake_share(&b.f, b.c.relid, 42, 600, 3), VMBUS_STATUS_FAILED); /* no memory */
	must_eq(b.d.gpadls, 1);
	must_eq(box_open(&b), 0);
	must_eq(b.d.gpadls, 2);
	must_eq(b.d.last_list, b.c.gpadl);
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.d.gone, 1);
	must_eq(b.d.last_gone, 41);
	fake_close(&b.f, &b.c);
	must_eq(b.d.gone, 2);
	must_eq(b.d.last_gone, b.c.gpadl);
	must_eq(fake_share(&b.f, b.c.relid, 43, 10, 3), 0); /* after it */
	must_eq(b.d.gpadls, 3);
	vmbus_bus_reset(b.f.bus);
	fake_run(&b.f);
	must_eq(b.d.gone, 3); /* for the child has gone */
	must_eq(b.d.last_gone, 43);
	box_fini(&b);
	must_eq(b.d.gone, 3);
}
END_TEST

START_TEST(chan_gpadl_done__lets_go_of_a_list)
{
	struct box b;

	box_init(&b);
	b.d.gone_err = VMBUS_E_AGAIN;
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), 0);
	vmbus_chan_gpadl_done(b.chan, 41); /* nobody waits */
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect_none(&b.f);
	vmbus_chan_gpadl_done(b.chan, 40);
	fake_expect_none(&b.f);
	must_eq(b.d.qwords[1], 10); /* still there */
	vmbus_chan_gpadl_done(b.chan, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	vmbus_chan_gpadl_done(b.chan, 41);
	fake_expect_none(&b.f);
	b.d.done_in_gone = 1;
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), 0);
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.d.gone, 2);
	box_fini(&b);
}
END_TEST

/* The child has no answer before who serves the channel knows the list. */
START_TEST(vsp_gpadl__keeps_the_answer_back)
{
	struct vmbus_ctl ctl;
	struct box b;

	box_init(&b);
	b.d.gpadl_err = VMBUS_E_AGAIN;
	fake_post_share(&b.f, b.c.relid, 41, 10, 3);
	fake_expect_none(&b.f);
	must_eq(b.d.gpadls, 1);
	vmbus_chan_gpadl_done(b.chan, 40);
	fake_expect_none(&b.f);
	vmbus_chan_gpadl_done(b.chan, 41);
	vmbus_chan_gpadl_done(b.chan, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_CREATED, &ctl);
	must_eq(ctl.u.created.gpadl, 41);
	must_eq(ctl.u.created.status, 0);
	vmbus_chan_gpadl_done(b.chan, 41);
	fake_expect_none(&b.f);
	b.d.done_in_gpadl = 1;
	must_eq(fake_share(&b.f, b.c.relid, 42, 10, 3), 0);
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.d.last_gone, 41);
	box_fini(&b);
}
END_TEST

/* After a restore the child has its answer, whatever the new owner says, and may take the list back. */
START_TEST(vsp_gpadl__restored_and_torn_down_before_the_answer)
{
	struct vmbus_bus_diag diag;
	struct box b;
	size_t bytes, again;
	char why[160];
	void *state;

	box_init(&b);
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), 0);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &bytes), VMBUS_E_RANGE);
	state = malloc(bytes);
	must(state != NULL);
	must_eq(vmbus_bus_save(b.f.bus, state, bytes, &again), 0);
	vmbus_bus_destroy(b.f.bus);
	fake_create(&b.f);
	must_eq(vmbus_bus_offer(b.f.bus, &all_vsp, &b.d, NULL, &b.chan), 0);
	b.d.gpadl_err = VMBUS_E_AGAIN;
	must_eq(vmbus_bus_restore(b.f.bus, state, bytes, why, sizeof(why)), 0);
	free(state);
	must_eq(b.d.gpadls, 2);
	fake_expect_none(&b.f);
	if (_i) /* the owner is earlier */
		vmbus_chan_gpadl_done(b.chan, 41);
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.d.gone, 1);
	vmbus_chan_gpadl_done(b.chan, 41);
	fake_expect_none(&b.f);
	vmbus_bus_diag(b.f.bus, &diag);
	must_eq(diag.waits & VMBUS_WAIT_LISTS, 0);
	box_fini(&b);
}
END_TEST

/* Torn down before the answer: it comes first, and then the list goes. */
START_TEST(vsp_gpadl__torn_down_before_the_answer)
{
	struct vmbus_bus_diag diag;
	struct vmbus_ctl ctl;
	struct box b;

	box_init(&b);
	b.d.gpadl_err = VMBUS_E_AGAIN;
	fake_post_share(&b.f, b.c.relid, 41, 10, 3);
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect_none(&b.f);
	must_eq(b.d.gone, 0);
	vmbus_chan_gpadl_done(b.chan, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_CREATED, &ctl);
	must_eq(ctl.u.created.status, 0);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(b.d.gone, 1);
	/* The child goes before the answer. */
	fake_post_share(&b.f, b.c.relid, 42, 10, 3);
	fake_run(&b.f);
	vmbus_bus_diag(b.f.bus, &diag);
	must(diag.waits & VMBUS_WAIT_LISTS);
	vmbus_bus_reset(b.f.bus);
	fake_run(&b.f);
	must_eq(b.d.gpadls, 2);
	vmbus_bus_diag(b.f.bus, &diag);
	must(diag.waits & VMBUS_WAIT_LISTS); /* the device owes its answer all the same */
	vmbus_chan_gpadl_done(b.chan, 42);
	fake_run(&b.f);
	vmbus_bus_diag(b.f.bus, &diag);
	must_eq(diag.waits & VMBUS_WAIT_LISTS, 0);
	box_fini(&b);
}
END_TEST

START_TEST(vsp_gpadl__refuses)
{
	struct vmbus_chan_diag diag;
	struct box b;
	uint32_t at = 0;

	box_init(&b);
	b.d.gpadl_err = VMBUS_E_NOMEM;
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), VMBUS_STATUS_FAILED);
	must_eq(b.d.gpadls, 1);
	must_eq(vmbus_bus_diag_next(b.f.bus, &at, &diag), 1);
	ck_assert_str_eq(diag.refused, "page list 41: NOMEM");
	b.d.gpadl_err = 0;
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), 0);
	must_eq(b.d.gone, 0);
	box_fini(&b);
	must_eq(b.d.gone, 0);
}
END_TEST

/* A callback that lets go of another list, which lies before it in the bus's own. */
START_TEST(chan_gpadl_done__of_another_list_in_gpadl_gone)
{
	struct vmbus_ctl ctl;
	struct box b;

	box_init(&b);
	b.d.gone_err = VMBUS_E_AGAIN;
	must_eq(fake_share(&b.f, b.c.relid, 41, 10, 3), 0);
	must_eq(fake_share(&b.f, b.c.relid, 42, 10, 3), 0);
	fake_post_teardown(&b.f, b.c.relid, 42);
	fake_expect_none(&b.f);
	b.d.done_other = 42;
	b.d.gone_err = 0;
	fake_post_teardown(&b.f, b.c.relid, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(ctl.u.created.gpadl, 41);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, &ctl);
	must_eq(ctl.u.created.gpadl, 42);
	box_fini(&b);
}
END_TEST

/* The list of the rings is not gone before they are closed. */
START_TEST(vsp_gpadl_gone__of_the_rings)
{
	struct box b;

	box_init(&b);
	must_eq(box_open(&b), 0);
	b.d.close_err = VMBUS_E_AGAIN;
	fake_post_close(&b.f, &b.c);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect_none(&b.f);
	must_eq(b.d.gone, 0);
	vmbus_chan_close_done(b.chan);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.d.gone, 1);
	box_fini(&b);
}
END_TEST

START_TEST(chan_fail__of_a_foreign_channel)
{
	struct vmbus_bus_stats stats;
	struct vmbus_ctl ctl;
	struct box b;

	box_init(&b);
	vmbus_chan_fail(b.chan, "it is closed"); /* nothing to fail */
	must_eq(box_open(&b), 0);
	vmbus_chan_fail(b.chan, "the provider died");
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	must(fake_logged(&b.f, "the provider died"));
	must_eq(b.d.closes, 1);
	vmbus_bus_stats(b.f.bus, &stats);
	must_eq(stats.faults, 1);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_post_released(&b.f, b.c.relid);
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl); /* again */
	b.c.relid = ctl.u.offer.relid;
	b.c.conn = ctl.u.offer.conn_id;
	must_eq(box_open(&b), 0);
	must_eq(vmbus_bus_revoke(b.chan), 0);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	must_eq(b.d.closes, 2);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(b.d.removed, 0);
	fake_post_released(&b.f, b.c.relid);
	fake_expect_none(&b.f);
	must_eq(b.d.removed, 1);
	box_fini(&b);
	untouched(&b, 0);
}
END_TEST

START_TEST(chan_offer_subchannels__are_foreign_too)
{
	struct vmbus_chan_rings rings;
	struct vmbus_ctl ctl;
	struct box b;
	struct fake_chan sub;

	box_init(&b);
	must_eq(vmbus_chan_offer_subchannels(b.chan, 1), VMBUS_E_STATE);
	b.d.open_err = VMBUS_E_AGAIN;
	(void)box_open(&b);
	must_eq(vmbus_chan_offer_subchannels(b.chan, 1), 0); /* before the open is answered */
	must_eq(b.d.offered, 1);
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.sub_index, 1);
	vmbus_chan_open_done(b.chan, 0);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, NULL);
	b.d.open_err = 0;
	sub = b.c;
	sub.relid = ctl.u.offer.relid;
	sub.conn = ctl.u.offer.conn_id;
	sub.gpadl = 4711;
	must_eq(fake_share(&b.f, sub.relid, sub.gpadl, b.c.first, 8), 0);
	fake_post_open(&b.f, &sub, 1);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, 0);
	must_eq(vmbus_chan_rings(b.d.sub, &rings), 0);
	must_eq(rings.conn_id, sub.conn);
	must_eq(rings.gpadl, 4711);
	must(vmbus_chan_primary(b.d.sub) == b.chan);
	box_fini(&b);
	must_eq(b.d.closes, 2);
	must_eq(b.d.removed, 2);
	untouched(&b, 0);
}
END_TEST

/* Who serves the rings marks nothing here, so all their pages are, in the end. */
START_TEST(bus_dirty__marks_the_rings_of_a_foreign_channel)
{
	uint64_t bitmap[8] = { 0 }, want[8] = { 0 };
	struct vmbus_dirty dirty = { .bitmap = bitmap, .frames = 512 };
	struct box b;
	uint32_t i;

	box_prepare(&b);
	b.f.opts.dirty = &dirty;
	box_start(&b, &all_vsp);
	must_eq(box_open(&b), 0);
	must(memcmp(bitmap, want, sizeof(want)) == 0);
	fake_post_close(&b.f, &b.c);
	fake_run(&b.f);
	for (i = 0; i < 8; i++)
		want[(b.c.first + i) / 64] |= (uint64_t)1 << (b.c.first + i) % 64;
	must(memcmp(bitmap, want, sizeof(want)) == 0);
	box_fini(&b);
}
END_TEST

/* The child's memory cannot go while the rings are elsewhere. */
START_TEST(bus_mem_remove__waits_for_a_foreign_channel)
{
	struct box b;

	box_init(&b);
	must_eq(box_open(&b), 0);
	must_eq(vmbus_bus_mem_remove(b.f.bus, &b.f.region), VMBUS_E_AGAIN);
	fake_post_close(&b.f, &b.c);
	fake_run(&b.f);
	must_eq(vmbus_bus_mem_remove(b.f.bus, &b.f.region), 0);
	box_fini(&b);
}
END_TEST

START_TEST(lesson_16_foreign_channel_and_a_child_that_leaves)
{
	struct box b;
	int state;

	for (state = 0; state < 4; state++) {
		const int fd = eventfd(0, EFD_NONBLOCK);

		vmbus_test_at("state %d", state);
		box_init(&b);
		b.d.open_err = state < 2 ? VMBUS_E_AGAIN : 0;
		b.d.bind_in_open = true;
		b.d.fd = fd;
		b.d.close_err = state % 2 ? VMBUS_E_AGAIN : 0;
		b.d.gone_err = b.d.close_err;
		(void)box_open(&b);
		vmbus_bus_reset(b.f.bus);
		fake_run(&b.f);
		must_eq(b.d.closes, 1);
		if (state % 2) {
			must_eq(vmbus_region_pins(&b.f.region), 1);
			vmbus_chan_close_done(b.chan);
			fake_run(&b.f);
			must_eq(b.d.gone, 1);
			vmbus_chan_gpadl_done(b.chan, b.c.gpadl);
			fake_run(&b.f);
		}
		must_eq(b.d.gone, 1);
		must_eq(vmbus_region_pins(&b.f.region), 0);
		must_eq(b.f.unbinds, 1);
		fake_contact(&b.f, VMBUS_PROTO_5_3);
		must_eq(fake_offers(&b.f, &b.c, 1), 1);
		b.d.open_err = b.d.close_err = b.d.gone_err = 0;
		must_eq(box_open(&b), 0);
		box_fini(&b);
		must_eq(b.d.closes, 2);
		close(fd);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "foreign", 20);

	tcase_add_test(tc, vsp_gpadl__before_while_and_after);
	tcase_add_test(tc, chan_gpadl_done__lets_go_of_a_list);
	tcase_add_test(tc, vsp_gpadl__keeps_the_answer_back);
	tcase_add_test(tc, vsp_gpadl__torn_down_before_the_answer);
	tcase_add_loop_test(tc, vsp_gpadl__restored_and_torn_down_before_the_answer, 0, 2);
	tcase_add_test(tc, vsp_gpadl__refuses);
	tcase_add_test(tc, chan_gpadl_done__of_another_list_in_gpadl_gone);
	tcase_add_test(tc, vsp_gpadl_gone__of_the_rings);
	tcase_add_test(tc, chan_fail__of_a_foreign_channel);
	tcase_add_test(tc, chan_offer_subchannels__are_foreign_too);
	tcase_add_test(tc, bus_dirty__marks_the_rings_of_a_foreign_channel);
	tcase_add_test(tc, bus_mem_remove__waits_for_a_foreign_channel);
	tcase_add_test(tc, lesson_16_foreign_channel_and_a_child_that_leaves);
}

VMBUS_TEST_MAIN("bus.foreign_end", tests)
