/* SPDX-License-Identifier: MIT */
/*
 * What ends while a device takes its time to open: the channel fails or is withdrawn, the child
 * leaves, the bus ends; and any order of it all.
 */
#include "slowbox.h"

#include <poll.h>

#include "bus/bus.h"

START_TEST(chan_fail__while_it_opens)
{
	struct box b;
	int early;

	for (early = 0; early < 2; early++) {
		box_init(&b);
		b.d.fail = early;
		b.d.subs = 2;
		begin(&b);
		if (!early) {
			fake_expect(&b.f, VMBUS_CTL_OFFER, NULL);
			fake_expect(&b.f, VMBUS_CTL_OFFER, NULL);
			vmbus_chan_fail(b.chan, "somebody pulled the plug");
			fake_run(&b.f);
			must(fake_logged(&b.f, "open failed: somebody pulled the plug"));
		} else {
			fake_expect(&b.f, VMBUS_CTL_OFFER, NULL);
			fake_expect(&b.f, VMBUS_CTL_OFFER, NULL);
		}
		must_eq(b.d.closes, 1);
		must_eq(result(&b), VMBUS_STATUS_FAILED);
		fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
		fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
		say(&b.d, 0); /* too late */
		b.d.state = SHUT;
		fake_expect_none(&b.f);
		box_fini(&b);
	}
}
END_TEST

START_TEST(bus_revoke__while_it_opens)
{
	struct vmbus_ctl ctl;
	struct box b;
	int again;

	for (again = 0; again < 2; again++) {
		box_init(&b);
		begin(&b);
		b.d.close_again = again;
		must_eq(vmbus_bus_revoke(b.chan), 0);
		fake_expect(&b.f, VMBUS_CTL_RESCIND, &ctl);
		must_eq(b.d.closes, 1);
		fake_expect_none(&b.f); /* RESCIND answers the open */
		if (again) {
			fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
			fake_expect_none(&b.f);
			say_closed(&b.d);
			fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
		} else {
			teardown(&b);
		}
		must_eq(b.f.removed, 0);
		fake_post_released(&b.f, b.c.relid);
		fake_expect_none(&b.f);
		must_eq(b.f.removed, 1);
		box_fini(&b);
	}
}
END_TEST

/* Reset, UNLOAD, and a new contact without a word. */
static void leave(struct box *b, int how)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_UNLOAD };

	if (how == 0)
		vmbus_bus_reset(b->f.bus);
	if (how == 1) {
		fake_post(&b->f, &ctl);
		fake_expect(&b->f, VMBUS_CTL_UNLOAD_RESPONSE, NULL);
	}
	fake_run(&b->f);
}

START_TEST(lesson_16_child_leaves_while_it_opens)
{
	struct box b;
	int how;

	for (how = 0; how < 3; how++) {
		box_init(&b);
		b.d.subs = 1;
		begin(&b);
		fake_expect(&b.f, VMBUS_CTL_OFFER, NULL);
		leave(&b, how);
		if (how < 2) {
			must_eq(b.d.closes, 1);
			must_eq(b.d.state, SHUT);
		}
		b.d.subs = 0;
		box_contact(&b);
		must_eq(b.d.closes, 1);
		b.c.first = 0;
		begin(&b);
		say(&b.d, 0);
		must_eq(result(&b), 0);
		fake_close(&b.f, &b.c);
		must_eq(b.d.opens, 2);
		must_eq(b.d.closes, 2);
		box_fini(&b);
	}
}
END_TEST

/* The device hangs: the child can be served again only when it lets go, and then at once. */
START_TEST(lesson_16_child_leaves_and_close_waits)
{
	struct box b;

	box_init(&b);
	b.d.close_again = true;
	begin(&b);
	vmbus_bus_reset(b.f.bus);
	fake_run(&b.f);
	must_eq(b.d.closes, 1);
	must_eq(vmbus_region_pins(&b.f.region), 1);
	say_closed(&b.d);
	fake_run(&b.f);
	must_eq(vmbus_region_pins(&b.f.region), 0);
	box_contact(&b);
	box_fini(&b);
}
END_TEST

START_TEST(lesson_17_page_lists_of_a_channel_that_was_withdrawn_while_it_opened)
{
	struct box b;

	box_init(&b);
	begin(&b);
	must_eq(vmbus_bus_revoke(b.chan), 0);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	must_eq(fake_share(&b.f, b.c.relid, 99, b.c.first, 2), 0);
	fake_post_teardown(&b.f, b.c.relid, 99);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	teardown(&b);
	fake_post_released(&b.f, b.c.relid);
	fake_expect_none(&b.f);
	must_eq(b.f.removed, 1);
	box_fini(&b);
}
END_TEST

/* What is said late of an opening that has ended says nothing of another channel in its place. */
START_TEST(lesson_18_said_after_it_ended)
{
	struct box b;
	struct dev other = { .open_err = VMBUS_E_AGAIN };
	struct vmbus_chan *chan = NULL;

	box_init(&b);
	b.d.close_again = true;
	begin(&b);
	must_eq(vmbus_bus_revoke(b.chan), 0);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	fake_post_released(&b.f, b.c.relid);
	vmbus_chan_open_done(b.chan, 0);
	fake_expect_none(&b.f);
	must_eq(b.f.removed, 0);
	must_eq(vmbus_bus_offer(b.f.bus, &slow_vsp, &other, NULL, &chan), 0);
	must(chan != b.chan); /* its storage is in use until close() is done */
	vmbus_chan_open_done(b.chan, 0);
	say_closed(&b.d);
	fake_run(&b.f);
	must_eq(b.f.removed, 1);
	must_eq(other.opens, 0);
	box_fini(&b);
}
END_TEST

START_TEST(bus_destroy__while_it_opens)
{
	struct box b;

	box_init(&b);
	begin(&b);
	box_fini(&b);
	must_eq(b.d.closes, 1);
	must_eq(b.f.removed, 1);
}
END_TEST

START_TEST(bus_close__while_it_opens)
{
	struct box b;

	box_init(&b);
	begin(&b);
	vmbus_bus_close(b.f.bus);
	must_eq(b.d.closes, 1);
	must_eq(b.f.removed, 0);
	box_fini(&b);
	must_eq(b.f.removed, 1);
}
END_TEST

/* A thread that has told of the last answer and is not out of the call yet; its kick was taken. */
START_TEST(bus_end__while_a_thread_tells_it)
{
	struct pollfd set = { .events = POLLIN };
	struct box b;

	box_init(&b);
	set.fd = vmbus_bus_fd(b.f.bus);
	fake_run(&b.f);
	must_eq(poll(&set, 1, 0), 0);
	vmbus__add64_relaxed(&b.f.bus->visitors, 1); /* VISIT.enter */
	must_eq(vmbus_bus_end(b.f.bus), VMBUS_E_AGAIN);
	must_eq(poll(&set, 1, 0), 1);			      /* or nobody would come back */
	vmbus__add64_release(&b.f.bus->visitors, UINT64_MAX); /* VISIT.leave */
	must_eq(vmbus_bus_end(b.f.bus), 0);
	b.f.bus = NULL;
	box_fini(&b);
}
END_TEST

/* The same within its dispatch. */
START_TEST(bus_end__while_a_thread_is_in_its_dispatch)
{
	struct pollfd set = { .events = POLLIN };
	struct box b;

	box_init(&b);
	set.fd = vmbus_bus_fd(b.f.bus);
	fake_run(&b.f);
	must_eq(poll(&set, 1, 0), 0);
	b.chan->own_fd = true;
	vmbus__st64_relaxed(&b.chan->holder, 12345); /* HOLD.enter */
	must_eq(vmbus_bus_end(b.f.bus), VMBUS_E_AGAIN);
	must_eq(poll(&set, 1, 0), 1);
	vmbus__st64_release(&b.chan->holder, 0); /* HOLD.enter */
	b.chan->own_fd = false;
	must_eq(vmbus_bus_end(b.f.bus), 0);
	b.f.bus = NULL;
	box_fini(&b);
}
END_TEST

START_TEST(bus_end__while_it_opens)
{
	struct box b;

	box_init(&b);
	begin(&b);
	must_eq(vmbus_bus_end(b.f.bus), VMBUS_E_AGAIN);
	must_eq(b.d.closes, 0);
	vmbus_bus_reset(b.f.bus);
	fake_run(&b.f);
	must_eq(vmbus_bus_end(b.f.bus), 0);
	b.f.bus = NULL;
	must_eq(b.d.closes, 1);
	box_fini(&b);
}
END_TEST

/* A refusal and a command to close that cross: the command does not end the next opening. */
START_TEST(lesson_18_close_of_an_opening_that_was_refused)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct box b;

	memset(&b, 0, sizeof(b));
	fake_init(&b.f, 512);
	must_eq(vmbus_bus_offer(b.f.bus, &slow_vsp, &b.d, &opts, &b.chan), 0);
	box_contact(&b);
	begin(&b);
	b.d.open_err = VMBUS_E_NOMEM;
	must_eq(vmbus_chan_dispatch(b.chan, 16), 0);
	vmbus_bus_reset(b.f.bus); /* before the bus has heard of it */
	fake_run(&b.f);
	box_contact(&b);
	b.d.open_err = 0;
	begin(&b);
	must_eq(vmbus_chan_dispatch(b.chan, 16), 0);
	must_eq(result(&b), 0);
	must_eq(b.d.opens, 2);
	must_eq(b.d.closes, 0);
	box_fini(&b);
	must_eq(b.d.closes, 1);
}
END_TEST

/* One step of the device's, or of the embedder's. */
static void device_step(struct box *b, uint32_t r)
{
	struct dev *d = &b->d;

	switch (r % 6) {
	case 0:
		if (d->state == WAITS)
			say(d, 0);
		break;
	case 1:
		if (d->state == WAITS)
			say(d, VMBUS_E_NOMEM);
		break;
	case 2:
		if (d->state == CLOSING)
			say_closed(d);
		break;
	case 3:
		if (d->state == WAITS || d->state == SERVED)
			vmbus_chan_fail(b->chan, "by chance");
		break;
	case 4:
		d->close_again = !d->close_again;
		break;
	default:
		d->open_err = r / 6 % 3 == 0 ? VMBUS_E_NOMEM : r / 6 % 3 == 1 ? 0 : VMBUS_E_AGAIN;
		break;
	}
}

/* One step of the child's, whether it makes sense or not. */
static void child_step(struct box *b, uint32_t r)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_UNLOAD };
	uint64_t pfns[6];
	uint32_t i;

	switch (r % 8) {
	case 0:
	case 1:
		b->c.gpadl = 1000 + r / 8 % 3;
		for (i = 0; i < 6; i++)
			pfns[i] = b->c.first + i;
		fake_gpadl(&b->f, b->c.relid, b->c.gpadl, pfns, 6);
		break;
	case 2:
		fake_post_open(&b->f, &b->c, 0);
		break;
	case 3:
		fake_post_close(&b->f, &b->c);
		break;
	case 4:
		fake_post_teardown(&b->f, b->c.relid, 1000 + r / 8 % 3);
		break;
	case 5:
		fake_post_released(&b->f, b->c.relid);
		break;
	case 6:
		if (r / 8 % 4 == 0)
			fake_post(&b->f, &ctl);
		else if (r / 8 % 4 == 1)
			vmbus_bus_reset(b->f.bus);
		break;
	default:
		ctl.type = VMBUS_CTL_CONTACT;
		ctl.u.contact.version = VMBUS_PROTO_5_3;
		ctl.u.contact.target_sint = VMBUS_SINT_MESSAGE;
		if (r / 8 % 3 == 0)
			must_eq(fake_try_post(&b->f, VMBUS_CONN_CONTACT, &ctl), VMBUS_HC_OK);
		ctl.type = VMBUS_CTL_REQUEST_OFFERS;
		fake_post(&b->f, &ctl);
		break;
	}
}

/*
 * Any order of everything: the device is opened only when it is shut, and closed only when it waits
 * or is open, which it checks by itself; nothing hangs at the end.
 */
START_TEST(lesson_16_any_order)
{
	uint64_t seed;
	struct box b;
	int n;

	for (seed = 1; seed <= 40; seed++) {
		uint64_t x = seed * 0x9E3779B97F4A7C15u;

		vmbus_test_at("seed %llu", (unsigned long long)seed);
		box_init(&b);
		b.d.sends = (uint32_t)(seed % 2);
		fake_rings(&b.f, &b.c, 3, 3);
		for (n = 0; n < 400; n++) {
			uint32_t r;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			r = (uint32_t)(x >> 16 & 0xFFFFFF);
			if (r % 3)
				child_step(&b, r / 3);
			else
				device_step(&b, r / 3);
			if (r / 3 % 7 < 5)
				fake_run(&b.f);
			b.f.taken = b.f.posted = 0;
		}
		b.d.close_again = false;
		if (b.d.state == CLOSING)
			say_closed(&b.d);
		vmbus_bus_reset(b.f.bus);
		fake_run(&b.f);
		must_eq(b.d.state, SHUT);
		b.f.taken = b.f.posted = 0;
		b.d.open_err = VMBUS_E_AGAIN;
		box_contact(&b); /* and it can be served again */
		b.c.first = 0;
		begin(&b);
		must_eq(b.d.state, WAITS);
		say(&b.d, 0);
		must_eq(result(&b), 0);
		box_fini(&b);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "opening_ends", 20);

	tcase_add_test(tc, chan_fail__while_it_opens);
	tcase_add_test(tc, bus_revoke__while_it_opens);
	tcase_add_test(tc, lesson_16_child_leaves_while_it_opens);
	tcase_add_test(tc, lesson_16_child_leaves_and_close_waits);
	tcase_add_test(tc, lesson_17_page_lists_of_a_channel_that_was_withdrawn_while_it_opened);
	tcase_add_test(tc, lesson_18_said_after_it_ended);
	tcase_add_test(tc, bus_destroy__while_it_opens);
	tcase_add_test(tc, bus_close__while_it_opens);
	tcase_add_test(tc, bus_end__while_a_thread_tells_it);
	tcase_add_test(tc, bus_end__while_a_thread_is_in_its_dispatch);
	tcase_add_test(tc, bus_end__while_it_opens);
	tcase_add_test(tc, lesson_18_close_of_an_opening_that_was_refused);
	tcase_add_test(tc, lesson_16_any_order);
}

VMBUS_TEST_MAIN("bus.opening_ends", tests)
