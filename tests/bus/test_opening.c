/* SPDX-License-Identifier: MIT */
/*
 * Devices that take their time to open: open() says AGAIN, and everything may happen before
 * vmbus_chan_open_done().  The device notes what it is told and checks the order.
 */
#include "fake.h"

enum state {
	SHUT,
	WAITS,
	SERVED,
	CLOSING /* close() said AGAIN */
};

struct dev {
	struct vmbus_chan *chan;
	enum state state;
	int open_err;	  /* of open() */
	int said;	  /* of open_done() within it, if says */
	bool says;	  /* call it there */
	bool fail;	  /* fail the channel in open() */
	bool break_ring;  /* the child breaks the ring to it while the device opens */
	bool close_again; /* close() says AGAIN */
	uint32_t sends, subs;
	struct vmbus_ring_mem *down; /* the child's, to break */
	uint32_t opens, closes, refused, packets, modified;
};

static int dev_open(struct vmbus_chan *chan, void *ctx)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = "early", .len = 5 };
	struct dev *d = ctx;
	uint32_t i;

	must_eq(d->state, SHUT);
	d->chan = chan;
	d->opens++;
	for (i = 0; i < d->sends; i++)
		must_eq(vmbus_chan_send(chan, &msg, 1), 1);
	if (d->subs && vmbus_chan_primary(chan) == chan)
		must_eq(vmbus_chan_offer_subchannels(chan, d->subs), 0);
	if (d->break_ring) {
		memset(d->down->ctl_p, 0xFF, 8);
		while (vmbus_chan_send(chan, &msg, 1) == 1)
			; /* until it looks at the indices */
		must_eq(vmbus_chan_send(chan, &msg, 1), VMBUS_E_FAULT);
	}
	if (d->fail)
		vmbus_chan_fail(chan, "it shall not be");
	if (d->says) {
		vmbus_chan_open_done(chan, d->said);
		vmbus_chan_open_done(chan, VMBUS_E_NOMEM); /* the first counts */
	}
	d->state = WAITS;
	if (d->open_err && d->open_err != VMBUS_E_AGAIN)
		d->state = SHUT;
	if (d->open_err == VMBUS_E_AGAIN && d->says && d->said)
		d->state = SHUT;
	if (!d->open_err || (d->says && !d->said))
		d->state = SERVED;
	return d->open_err;
}

static void dev_packet(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct dev *d = vmbus_chan_ctx(chan);

	must_eq(d->state, SERVED);
	d->packets++;
	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
}

static void dev_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, dev_packet);
}

static int dev_close(struct vmbus_chan *chan)
{
	struct dev *d = vmbus_chan_ctx(chan);

	must(d->state == WAITS || d->state == SERVED);
	d->closes++;
	d->state = d->close_again ? CLOSING : SHUT;
	vmbus_chan_open_done(chan, 0); /* too late */
	return d->close_again ? VMBUS_E_AGAIN : 0;
}

static const struct vmbus_vsp vsp = {
	.struct_bytes = sizeof(vsp),
	.name = "slow",
	.class_id = VMBUS_GUID(0x1c6e0e0fu, 0x0001, 0x4a11, 0x80, 0x01, 0, 0, 0, 0, 0, 3),
	.open = dev_open,
	.packets = dev_packets,
	.close = dev_close,
};

/* The device is through with its open(). */
static void say(struct dev *d, int err)
{
	d->state = err ? SHUT : SERVED;
	vmbus_chan_open_done(d->chan, err);
}

static void say_closed(struct dev *d)
{
	d->state = SHUT;
	vmbus_chan_close_done(d->chan);
}

struct box {
	struct fake f;
	struct dev d;
	struct fake_chan c;
	struct vmbus_chan *chan;
};

static void box_contact(struct box *b)
{
	fake_chan_free(&b->c);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, &b->c, 1), 1);
}

static void box_init(struct box *b)
{
	memset(b, 0, sizeof(*b));
	fake_init(&b->f, 512);
	b->d.open_err = VMBUS_E_AGAIN;
	must_eq(vmbus_bus_offer(b->f.bus, &vsp, &b->d, NULL, &b->chan), 0);
	b->d.chan = b->chan;
	b->d.down = &b->c.rx_mem;
	box_contact(b);
}

static void box_fini(struct box *b)
{
	fake_chan_free(&b->c);
	fake_fini(&b->f);
	must_eq(b->d.state, SHUT);
}

/* The child opens, and the device takes its time. */
static void begin(struct box *b)
{
	fake_rings(&b->f, &b->c, 3, 3);
	b->c.gpadl = b->f.next_gpadl++;
	must_eq(fake_share(&b->f, b->c.relid, b->c.gpadl, b->c.first, 6), 0);
	fake_post_open(&b->f, &b->c, 0);
	fake_run(&b->f);
}

static uint32_t result(struct box *b)
{
	struct vmbus_ctl ctl;

	fake_expect(&b->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.relid, b->c.relid);
	return ctl.u.result.status;
}

static void teardown(struct box *b)
{
	fake_post_teardown(&b->f, b->c.relid, b->c.gpadl);
	fake_expect(&b->f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
}

START_TEST(chan_open_done__opens_and_sends_what_waited)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND };
	struct vmbus_packet pkt[8];
	uint64_t payload = 7;
	struct box b;

	box_init(&b);
	b.d.sends = 3;
	begin(&b);
	must_eq(b.d.opens, 1);
	must_eq(fake_send(&b.c, 1, &payload, 8), 1);
	must_eq(vmbus_bus_signal_event(b.f.bus, b.c.conn, 0), VMBUS_HC_OK);
	fake_expect_none(&b.f);
	must_eq(b.d.packets, 0);
	must_eq(vmbus_chan_send(b.chan, &msg, 1), VMBUS_E_STATE);
	must_eq(vmbus_chan_complete(b.chan, 1, NULL, 0), VMBUS_E_STATE);
	must_eq(vmbus_chan_flush(b.chan), VMBUS_E_STATE);
	must_eq(fake_receive(&b.c, pkt, 8), 0);
	say(&b.d, 0);
	must_eq(result(&b), 0);
	must_eq(b.d.packets, 1);
	must_eq(fake_receive(&b.c, pkt, 8), 4);
	must_eq(pkt[2].type, VMBUS_PKT_INBAND);
	must_eq(pkt[3].type, VMBUS_PKT_COMPLETION);
	vmbus_chan_open_done(b.chan, VMBUS_E_NOMEM); /* it is open */
	fake_expect_none(&b.f);
	fake_close(&b.f, &b.c);
	must_eq(b.d.closes, 1);
	vmbus_chan_open_done(b.chan, 0); /* it is closed */
	fake_expect_none(&b.f);
	box_fini(&b);
}
END_TEST

/* A dispatch whose budget ends among the channels that have an answer leaves the rest to the next. */
START_TEST(chan_open_done__of_more_channels_than_the_budget)
{
	static struct dev d[130];
	static struct fake_chan c[130];
	static const uint32_t which[] = { 0, 65, 129 }; /* of 64 channels one is taken each time */
	struct vmbus_ctl ctl;
	struct fake f;
	uint32_t i, n = 0;

	fake_init(&f, 512);
	for (i = 0; i < 130; i++) {
		d[i].open_err = VMBUS_E_AGAIN;
		(void)fake_offer(&f, &vsp, &d[i], i);
	}
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, c, 130), 130);
	for (i = 0; i < 3; i++) {
		struct fake_chan *const at = &c[which[i]];

		must_eq((at->relid - 1u) / 64u, i);
		fake_rings(&f, at, 3, 3);
		at->gpadl = f.next_gpadl++;
		must_eq(fake_share(&f, at->relid, at->gpadl, at->first, 6), 0);
		fake_post_open(&f, at, 0);
		fake_expect_none(&f);
	}
	for (i = 0; i < 3; i++)
		say(&d[which[i]], 0);
	while (vmbus_bus_dispatch(f.bus, 1) > 0)
		must(++n < 1000);
	for (i = 0; i < 3; i++) {
		fake_expect(&f, VMBUS_CTL_OPEN_RESULT, &ctl);
		must_eq(ctl.u.result.relid, c[which[i]].relid);
		must_eq(ctl.u.result.status, 0);
	}
	for (i = 0; i < 3; i++)
		fake_close(&f, &c[which[i]]);
	fake_fini(&f);
}
END_TEST

START_TEST(chan_open_done__refuses)
{
	struct box b;
	int n;

	box_init(&b);
	for (n = 0; n < 3; n++) {
		b.d.subs = n == 2;
		begin(&b);
		if (n == 2)
			fake_expect(&b.f, VMBUS_CTL_OFFER, NULL);
		say(&b.d, VMBUS_E_NOMEM);
		must_eq(result(&b), VMBUS_STATUS_FAILED);
		must(fake_logged(&b.f, "open failed: NOMEM: the device refused"));
		if (n == 2)
			fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
		teardown(&b);
	}
	b.d.subs = 0;
	must_eq(b.d.closes, 0);
	begin(&b);
	say(&b.d, 0);
	must_eq(result(&b), 0);
	fake_close(&b.f, &b.c);
	must_eq(b.d.opens, 4);
	must_eq(b.d.closes, 1);
	box_fini(&b);
}
END_TEST

START_TEST(chan_open_done__within_open)
{
	static const int said[] = { 0, VMBUS_E_NOMEM, VMBUS_E_AGAIN };
	struct box b;
	size_t i;

	for (i = 0; i < 3; i++) {
		box_init(&b);
		b.d.says = true;
		b.d.said = said[i];
		begin(&b);
		must_eq(result(&b), said[i] ? VMBUS_STATUS_FAILED : 0);
		must_eq(b.d.opens, 1);
		box_fini(&b);
		must_eq(b.d.closes, said[i] == 0);
	}
}
END_TEST

/* What open() returns counts if it is not AGAIN. */
START_TEST(chan_open_done__within_an_open_that_does_not_wait)
{
	struct box b;

	box_init(&b);
	b.d.says = true;
	b.d.said = VMBUS_E_NOMEM;
	b.d.open_err = 0;
	begin(&b);
	must_eq(result(&b), 0);
	fake_close(&b.f, &b.c);
	b.d.said = 0;
	b.d.open_err = VMBUS_E_NOTSUP;
	begin(&b);
	b.d.state = SHUT;
	must_eq(result(&b), VMBUS_STATUS_FAILED);
	must_eq(b.d.closes, 1);
	box_fini(&b);
}
END_TEST

/* An open that succeeded is closed when its ring is broken by then. */
START_TEST(vsp_open__succeeded_and_the_ring_broke)
{
	struct box b;
	int later;

	for (later = 0; later < 2; later++) {
		box_init(&b);
		b.d.sends = 1;
		b.d.break_ring = true;
		b.d.open_err = later ? VMBUS_E_AGAIN : 0;
		begin(&b);
		must_eq(result(&b), VMBUS_STATUS_FAILED); /* whoever waits waits no longer */
		vmbus_chan_open_done(b.chan, 0);
		must_eq(b.d.opens, 1);
		must_eq(b.d.closes, 1);
		must(fake_logged(&b.f, "open failed: ring to the child"));
		teardown(&b);
		b.d.break_ring = false;
		b.d.open_err = 0;
		begin(&b);
		must_eq(result(&b), 0);
		fake_close(&b.f, &b.c);
		box_fini(&b);
	}
}
END_TEST

/* The same, with a device that takes its time to close: the child hears of it after that. */
START_TEST(vsp_open__broke_and_close_takes_its_time)
{
	struct box b;

	box_init(&b);
	b.d.sends = 1;
	b.d.break_ring = true;
	b.d.open_err = 0;
	b.d.close_again = true;
	begin(&b);
	must_eq(b.d.closes, 1);
	fake_expect_none(&b.f);
	say_closed(&b.d);
	must_eq(result(&b), VMBUS_STATUS_FAILED);
	box_fini(&b);
}
END_TEST

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
	must_eq(vmbus_bus_offer(b.f.bus, &vsp, &other, NULL, &chan), 0);
	must(chan != b.chan); /* its storage is in use until close() is done */
	vmbus_chan_open_done(b.chan, 0);
	say_closed(&b.d);
	fake_run(&b.f);
	must_eq(b.f.removed, 1);
	must_eq(other.opens, 0);
	box_fini(&b);
}
END_TEST

/* The machine takes neither from a child whose open was not answered. */
START_TEST(chan_open_done__after_the_child_was_impatient)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_MODIFY };
	struct box b;

	box_init(&b);
	begin(&b);
	fake_post_close(&b.f, &b.c);
	ctl.u.modify.relid = b.c.relid;
	ctl.u.modify.target_vp = 1;
	fake_post(&b.f, &ctl);
	fake_post_open(&b.f, &b.c, 0);
	fake_run(&b.f);
	must_eq(b.d.closes, 0);
	must_eq(b.d.opens, 1);
	say(&b.d, 0);
	while (fake_take(&b.f, &ctl) && ctl.type != VMBUS_CTL_OPEN_RESULT)
		;
	must_eq(ctl.type, VMBUS_CTL_OPEN_RESULT);
	must_eq(b.d.state, SERVED);
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

/* A channel with own_fd: what its thread says goes to the bus by answers. */
START_TEST(chan_open_done__of_a_channel_with_own_fd)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct box b;
	int how;

	for (how = 0; how < 3; how++) {
		memset(&b, 0, sizeof(b));
		fake_init(&b.f, 512);
		b.d.open_err = VMBUS_E_AGAIN;
		must_eq(vmbus_bus_offer(b.f.bus, &vsp, &b.d, &opts, &b.chan), 0);
		b.d.chan = b.chan;
		box_contact(&b);
		begin(&b);
		must_eq(b.d.opens, 0);
		must(fake_readable(vmbus_chan_fd(b.chan)));
		must_eq(vmbus_chan_dispatch(b.chan, 16), 0);
		must_eq(b.d.opens, 1);
		fake_expect_none(&b.f);
		if (how == 0) {
			say(&b.d, 0);
			must_eq(result(&b), 0);
		} else if (how == 1) {
			vmbus_chan_fail(b.chan, "no");
			must(fake_readable(vmbus_chan_fd(b.chan)));
			must_eq(vmbus_chan_dispatch(b.chan, 16), 0);
			must_eq(result(&b), VMBUS_STATUS_FAILED);
			must_eq(b.d.closes, 1);
		} else {
			must_eq(vmbus_bus_revoke(b.chan), 0);
			fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
			must_eq(b.d.closes, 0);
			must_eq(vmbus_chan_dispatch(b.chan, 16), 0);
			must_eq(b.d.closes, 1);
			fake_expect_none(&b.f);
		}
		box_fini(&b);
		must_eq(b.d.closes, 1);
	}
}
END_TEST

/* A refusal and a command to close that cross: the command does not end the next opening. */
START_TEST(lesson_18_close_of_an_opening_that_was_refused)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct box b;

	memset(&b, 0, sizeof(b));
	fake_init(&b.f, 512);
	must_eq(vmbus_bus_offer(b.f.bus, &vsp, &b.d, &opts, &b.chan), 0);
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
	TCase *tc = vmbus_test_case(suite, "opening", 20);

	tcase_add_test(tc, chan_open_done__opens_and_sends_what_waited);
	tcase_add_test(tc, chan_open_done__of_more_channels_than_the_budget);
	tcase_add_test(tc, chan_open_done__refuses);
	tcase_add_test(tc, chan_open_done__within_open);
	tcase_add_test(tc, chan_open_done__within_an_open_that_does_not_wait);
	tcase_add_test(tc, vsp_open__succeeded_and_the_ring_broke);
	tcase_add_test(tc, vsp_open__broke_and_close_takes_its_time);
	tcase_add_test(tc, chan_fail__while_it_opens);
	tcase_add_test(tc, bus_revoke__while_it_opens);
	tcase_add_test(tc, lesson_16_child_leaves_while_it_opens);
	tcase_add_test(tc, lesson_16_child_leaves_and_close_waits);
	tcase_add_test(tc, lesson_17_page_lists_of_a_channel_that_was_withdrawn_while_it_opened);
	tcase_add_test(tc, lesson_18_said_after_it_ended);
	tcase_add_test(tc, chan_open_done__after_the_child_was_impatient);
	tcase_add_test(tc, bus_destroy__while_it_opens);
	tcase_add_test(tc, bus_close__while_it_opens);
	tcase_add_test(tc, bus_end__while_it_opens);
	tcase_add_test(tc, chan_open_done__of_a_channel_with_own_fd);
	tcase_add_test(tc, lesson_18_close_of_an_opening_that_was_refused);
	tcase_add_test(tc, lesson_16_any_order);
}

VMBUS_TEST_MAIN("bus.opening", tests)
