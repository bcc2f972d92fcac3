/* SPDX-License-Identifier: MIT */
/*
 * What is under way when a bus is saved: requests of a child that always has some, a MODIFY, a page list
 * that waits for its device, and a connection id that another channel's offer would have by itself.
 */
#include "subbox.h"

#include <sys/eventfd.h>

static uint64_t under_way[16];
static uint32_t held;

/* ---- a device that ends its requests later ---- */

static void disk_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	(void)chan;
	for (i = 0; i < n; i++) {
		must(held < 16);
		under_way[held++] = pkt[i].id;
	}
}

static int disk_save(struct vmbus_chan *chan, void *buf, size_t bytes)
{
	(void)chan;
	(void)buf;
	(void)bytes;
	return held ? VMBUS_E_AGAIN : 0;
}

/* The oldest. */
static void disk_ends_one(struct box *b)
{
	if (!held)
		return;
	must_eq(vmbus_chan_complete(b->d.chan[0], under_way[0], NULL, 0), 0);
	memmove(under_way, under_way + 1, --held * sizeof(under_way[0]));
}

static void ask(struct box *b, uint32_t n)
{
	static uint64_t id = 1;

	for (; n; n--, id++)
		must_eq(fake_send(&b->c[0], id, &id, 8), 1);
	come(b, 0);
}

static void begin_disk(struct box *b, struct vmbus_vsp *vsp)
{
	*vsp = dev_vsp;
	vsp->packets = disk_packets;
	vsp->save = disk_save;
	held = 0;
	memset(b, 0, sizeof(*b));
	fake_prepare(&b->f, 128);
	create(b, vsp);
	b->d.quiet = true;
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, b->c, 1), 1);
	ask_open(b, 0);
	come(b, 0);
	opened(b, VMBUS_STATUS_OK);
}

/* The child asks for more than the device ends, and the bus is saved all the same. */
START_TEST(vmbus_bus_save__gives_no_more_to_a_device_that_is_busy)
{
	struct vmbus_vsp vsp;
	uint8_t *state;
	uint32_t rounds = 0;
	size_t need;
	struct box b;
	int err;

	begin_disk(&b, &vsp);
	ask(&b, 3);
	must_eq(held, 3);
	while ((err = vmbus_bus_save(b.f.bus, NULL, 0, &need)) == VMBUS_E_AGAIN) {
		must(++rounds < 10);
		ask(&b, 2);
		disk_ends_one(&b);
	}
	must_eq(err, VMBUS_E_RANGE);
	must_eq(rounds, 3);
	must(fake_logged(&b.f, "no packets until it can"));
	come(&b, 0);
	must_eq(held, 0); /* it was only asked how much there is */
	if (_i == 0) {
		state = malloc(need);
		must(state != NULL);
		must_eq(vmbus_bus_save(b.f.bus, state, need, &need), 0);
		free(state);
	} else { /* nobody tries again */
		usleep(1100000);
	}
	come(&b, 0);
	must_eq(held, 6);
	fake_chan_free(&b.c[0]);
	fake_fini(&b.f);
}
END_TEST

/* The child opens the channel anew between two attempts. */
START_TEST(vmbus_bus_save__gives_no_more_to_a_device_that_is_opened_again)
{
	struct vmbus_vsp vsp;
	size_t need;
	struct box b;

	begin_disk(&b, &vsp);
	ask(&b, 3);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_AGAIN);
	fake_post_close(&b.f, &b.c[0]);
	held = 0;
	come(&b, 0);
	must_eq(b.d.closes[0], 1);
	fake_post_teardown(&b.f, b.c[0].relid, b.c[0].gpadl);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_chan_free(&b.c[0]);
	b.c[0].first = 0;
	ask_open(&b, 0);
	come(&b, 0);
	opened(&b, VMBUS_STATUS_OK);
	ask(&b, 2);
	must_eq(held, 0);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_RANGE);
	fake_chan_free(&b.c[0]);
	fake_fini(&b.f);
}
END_TEST

/* Its thread is gone when packets are to come again, with which nobody waits for it. */
START_TEST(vmbus_bus_end__after_a_save_that_was_not_tried_again)
{
	struct vmbus_vsp vsp;
	size_t need;
	struct box b;

	begin_disk(&b, &vsp);
	ask(&b, 1);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_AGAIN);
	held = 0;
	fake_post_close(&b.f, &b.c[0]);
	come(&b, 0);
	must_eq(b.d.closes[0], 1);
	usleep(1100000);
	fake_run(&b.f);
	must_eq(vmbus_bus_end(b.f.bus), 0);
	b.f.bus = NULL;
	fake_chan_free(&b.c[0]);
	fake_fini(&b.f);
}
END_TEST

static int end_fd;
static uint32_t ends, unsent;

/* So many have ended; what finds no room is kept. */
static void disk_ready(struct vmbus_chan *chan)
{
	static uint8_t large[1000];
	uint64_t n;

	must_eq(read(end_fd, &n, sizeof(n)), sizeof(n));
	for (ends += (uint32_t)n; ends; ends--, held--)
		if (unsent || vmbus_chan_complete(chan, under_way[0], large, sizeof(large)))
			unsent++;
}

static int disk_watch(struct vmbus_chan *chan, void *ctx)
{
	((struct dev *)ctx)->quiet = true;
	return dev_open(chan, ctx) || vmbus_chan_watch(chan, end_fd);
}

/* Its device hears of what ends, though a send waits for room. */
START_TEST(vmbus_bus_save__of_a_child_that_does_not_read)
{
	const uint64_t first = 6, rest = 4;
	struct vmbus_vsp vsp = dev_vsp;
	size_t need;
	struct box b;

	end_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	must(end_fd >= 0);
	held = ends = unsent = 0;
	vsp.open = disk_watch;
	vsp.packets = disk_packets;
	vsp.ready = disk_ready;
	vsp.save = disk_save;
	memset(&b, 0, sizeof(b));
	fake_prepare(&b.f, 128);
	create(&b, &vsp);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, b.c, 1), 1);
	ask_open(&b, 0);
	come(&b, 0);
	opened(&b, VMBUS_STATUS_OK);
	ask(&b, 10);
	must_eq(held, 10);
	must_eq(write(end_fd, &first, sizeof(first)), sizeof(first));
	come(&b, 0);
	must_eq(held, 4);
	must(unsent > 0);
	must_eq(write(end_fd, &rest, sizeof(rest)), sizeof(rest));
	come(&b, 0);
	must_eq(held, 4); /* while a send waits it is not told */
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_AGAIN);
	come(&b, 0);
	must_eq(held, 0);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_RANGE);
	fake_chan_free(&b.c[0]);
	fake_fini(&b.f);
	must_eq(close(end_fd), 0);
}
END_TEST

/* It waits in the inbox, or was asked of a thread that has not come. */
START_TEST(vmbus_bus_restore__carries_out_a_modify_under_way)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_MODIFY };
	struct vmbus_chan_info info;
	const uint32_t k = _i & 1;
	struct box b;

	begin(&b, true);
	ctl.u.modify.relid = b.c[k].relid;
	ctl.u.modify.target_vp = 1;
	fake_post(&b.f, &ctl);
	if (_i & 2)
		fake_run(&b.f);
	move(&b);
	come(&b, 0);
	come(&b, 1);
	come(&b, 0);
	fake_expect(&b.f, VMBUS_CTL_MODIFY_RESPONSE, &ctl);
	must_eq(ctl.u.modify.status, VMBUS_STATUS_OK);
	vmbus_chan_info(b.d.chan[k], &info);
	must_eq(info.target_vp, 1);
	end(&b);
}
END_TEST

static int list_err;

static int list_restore(struct vmbus_chan *chan, const void *buf, size_t bytes)
{
	struct vmbus_piece piece[8];
	struct vmbus_sgl sgl = { .pieces = piece, .room = 8 };

	if (vmbus_chan_sub_index(chan) == 0) {
		list_err = vmbus_chan_gpadl(chan, 77, VMBUS_READ, &sgl);
		if (!list_err)
			vmbus_sgl_release(&sgl);
	}
	return dev_restore(chan, buf, bytes);
}

/* The child takes a page list back that the device uses; that goes on in the other process. */
START_TEST(vmbus_bus_restore__page_list_that_waits_for_its_device)
{
	struct vmbus_vsp vsp = dev_vsp;
	struct vmbus_piece piece[8];
	struct vmbus_sgl sgl = { .pieces = piece, .room = 8 };
	const uint64_t pfn = 100;
	char why[160];
	struct box b;

	vsp.restore = list_restore;
	list_err = -1;
	begin(&b, true);
	fake_gpadl(&b.f, b.c[0].relid, 77, &pfn, 1);
	fake_expect(&b.f, VMBUS_CTL_GPADL_CREATED, NULL);
	must_eq(vmbus_chan_gpadl(b.d.chan[0], 77, VMBUS_READ, &sgl), 0);
	fake_post_teardown(&b.f, b.c[0].relid, 77);
	fake_run(&b.f);
	fake_expect_none(&b.f);
	sgl_of_before = &sgl;
	must_eq(move_to(&b, &vsp, why, sizeof(why)), 0);
	fake_expect_none(&b.f);
	come(&b, 0);
	must_eq(list_err, 0);
	usleep(50000);
	come(&b, 0);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	end(&b);
}
END_TEST

static struct vmbus_piece kept_piece[8];
static struct vmbus_sgl kept = { .pieces = kept_piece, .room = 8 };

static int keeping_restore(struct vmbus_chan *chan, const void *buf, size_t bytes)
{
	if (vmbus_chan_sub_index(chan))
		return dev_restore(chan, buf, bytes);
	must_eq(vmbus_chan_gpadl(chan, 77, VMBUS_READ, &kept), 0);
	return VMBUS_E_AGAIN;
}

/* It goes on with what it had under way, and is not through with restore(). */
START_TEST(vmbus_bus_save__waits_for_pages_of_a_device_that_waits)
{
	struct vmbus_vsp vsp = dev_vsp;
	const uint64_t pfn = 100;
	char why[160];
	struct box b;
	size_t need;

	vsp.restore = keeping_restore;
	begin(&b, true);
	fake_gpadl(&b.f, b.c[0].relid, 77, &pfn, 1);
	fake_expect(&b.f, VMBUS_CTL_GPADL_CREATED, NULL);
	must_eq(move_to(&b, &vsp, why, sizeof(why)), 0);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_RANGE);
	come(&b, 0);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_AGAIN);
	vmbus_sgl_release(&kept);
	must_eq(vmbus_bus_save(b.f.bus, NULL, 0, &need), VMBUS_E_RANGE);
	end(&b);
}
END_TEST

/* 6.0: the child opens its channel with the connection id of the next offer, which does without. */
START_TEST(vmbus_bus_restore__connection_id_of_a_later_offer)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };
	uint8_t raw[VMBUS_CTL_BYTES_MAX];
	struct box b;
	int len;

	memset(&b, 0, sizeof(b));
	fake_prepare(&b.f, 128);
	b.f.opts.limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(b.f.opts.limits),
						   .version_max = VMBUS_PROTO_6_0,
						   .features = VMBUS_FEATURE_SIGNAL_PARAMS };
	create(&b, &dev_vsp);
	ctl.u.contact.version = VMBUS_PROTO_6_0;
	ctl.u.contact.features = VMBUS_FEATURE_SIGNAL_PARAMS;
	ctl.u.contact.target_sint = VMBUS_SINT_MESSAGE;
	b.f.version = VMBUS_PROTO_6_0;
	must_eq(fake_try_post(&b.f, VMBUS_CONN_CONTACT, &ctl), VMBUS_HC_OK);
	fake_expect(&b.f, VMBUS_CTL_VERSION_RESPONSE, &ctl);
	must_eq(fake_offers(&b.f, b.c, 1), 1);
	fake_rings(&b.f, &b.c[0], 2, 2);
	must_eq(fake_share(&b.f, b.c[0].relid, 7, b.c[0].first, 4), 0);
	memset(&ctl, 0, sizeof(ctl));
	ctl.type = VMBUS_CTL_OPEN;
	ctl.u.open.relid = b.c[0].relid;
	ctl.u.open.open_id = 1;
	ctl.u.open.gpadl = 7;
	ctl.u.open.downstream_page = 2;
	ctl.u.open.event_flag = 1;
	ctl.u.open.conn_id = 0x2000 + b.c[0].relid + 1;
	len = vmbus_ctl_encode(&ctl, VMBUS_PROTO_6_0, VMBUS_FEATURE_SIGNAL_PARAMS, raw,
			       sizeof(raw));
	must(len > 0);
	must_eq(vmbus_bus_post_message(b.f.bus, VMBUS_CONN_MESSAGE, VMBUS_MSG_TYPE_CTL, raw,
				       (uint32_t)len),
		VMBUS_HC_OK);
	fake_run(&b.f);
	come(&b, 0);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, VMBUS_STATUS_OK);
	fake_expect(&b.f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.relid, b.c[0].relid + 1);
	move(&b);
	come(&b, 0);
	must_eq(b.d.restores[0], 1);
	end(&b);
}
END_TEST

/* A child closes its rings, asks for larger ones while the device closes, and leaves. */
START_TEST(vmbus_bus_restore__after_an_open_that_was_held)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_OPEN };
	char why[160];
	struct box b;

	begin(&b, true);
	must_eq(fake_share(&b.f, b.c[0].relid, 99, fake_pages(&b.f, 20), 20), 0);
	fake_post_close(&b.f, &b.c[0]);
	fake_run(&b.f); /* the thread of the device has not come */
	ctl.u.open.relid = b.c[0].relid;
	ctl.u.open.open_id = 5;
	ctl.u.open.gpadl = 99;
	ctl.u.open.downstream_page = 10;
	fake_post(&b.f, &ctl);
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_UNLOAD };
	fake_post(&b.f, &ctl);
	fake_run(&b.f);
	must_eq(move_to(&b, &dev_vsp, why, sizeof(why)), 0);
	end(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "save_busy", 20);

	tcase_add_test(tc, vmbus_bus_end__after_a_save_that_was_not_tried_again);
	tcase_add_loop_test(tc, vmbus_bus_save__gives_no_more_to_a_device_that_is_busy, 0, 2);
	tcase_add_test(tc, vmbus_bus_save__gives_no_more_to_a_device_that_is_opened_again);
	tcase_add_test(tc, vmbus_bus_save__of_a_child_that_does_not_read);
	tcase_add_loop_test(tc, vmbus_bus_restore__carries_out_a_modify_under_way, 0, 4);
	tcase_add_test(tc, vmbus_bus_restore__page_list_that_waits_for_its_device);
	tcase_add_test(tc, vmbus_bus_save__waits_for_pages_of_a_device_that_waits);
	tcase_add_test(tc, vmbus_bus_restore__connection_id_of_a_later_offer);
	tcase_add_test(tc, vmbus_bus_restore__after_an_open_that_was_held);
}

VMBUS_TEST_MAIN("bus.save_busy", tests)
