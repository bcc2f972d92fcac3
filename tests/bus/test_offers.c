/* SPDX-License-Identifier: MIT */
/*
 * What is offered and how: instances, order, hv_sock, monitored channels, memory that comes and goes,
 * and what a caller can get wrong.
 */
#include "fake.h"

static struct vmbus_vsp make_vsp(uint8_t last)
{
	struct vmbus_vsp vsp = fake_echo_vsp;

	vsp.class_id.b[15] = last;
	return vsp;
}

static void wait_message(struct fake *f)
{
	const uint64_t end = fake_now_ns() + 20000000000u;

	fake_run(f);
	while (f->posted == f->taken && fake_now_ns() < end) {
		struct pollfd p = { .fd = vmbus_bus_fd(f->bus), .events = POLLIN };

		(void)poll(&p, 1, 100);
		fake_run(f);
	}
}

START_TEST(bus_offer__errors)
{
	struct fake f;
	struct vmbus_vsp vsp = make_vsp(1);
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts) };
	struct fake_echo d = { 0 };
	uint32_t i;

	fake_prepare(&f, 16);
	f.opts.limits =
		(struct vmbus_srv_opts){ .struct_bytes = sizeof(f.opts.limits), .chans_max = 5 };
	fake_create(&f);
	must_eq(vmbus_bus_offer(f.bus, NULL, &d, NULL, NULL), VMBUS_E_INVAL);
	opts.struct_bytes--;
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, NULL), VMBUS_E_INVAL);
	opts.struct_bytes++;
	vsp.packets = NULL;
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, NULL), VMBUS_E_INVAL);
	vsp = make_vsp(1);
	vsp.name = NULL;
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, NULL), VMBUS_E_INVAL);
	vsp = make_vsp(1);
	vsp.struct_bytes--;
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, NULL), VMBUS_E_INVAL);
	vsp = make_vsp(1);
	opts.instance_id.b[0] = 1;
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, NULL), 0);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, NULL), VMBUS_E_INVAL); /* in use */
	for (i = 0; i < 4; i++)
		must_eq(vmbus_bus_offer(f.bus, &vsp, &d, NULL, NULL), 0);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, NULL, NULL), VMBUS_E_FULL);
	fake_fini(&f);
	must_eq(f.removed, 5);
}
END_TEST

START_TEST(chan_dispatch__errors)
{
	struct fake f;
	struct vmbus_vsp vsp = make_vsp(1);
	struct fake_echo d = { 0 };
	struct vmbus_chan *chan, *own;
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };

	fake_init(&f, 16);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, NULL, &chan), 0);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, &own), 0);
	must_eq(vmbus_chan_fd(chan), VMBUS_E_INVAL);
	must_eq(vmbus_chan_dispatch(chan, 1), VMBUS_E_INVAL);
	must_eq(vmbus_chan_poll(chan, 1, 0), VMBUS_E_INVAL);
	must(vmbus_chan_fd(own) >= 0);
	must_eq(vmbus_chan_dispatch(own, 0), 0);
	must_eq(vmbus_chan_dispatch(own, 16), 0);
	must_eq(vmbus_chan_poll(own, 0, 1000), 0);
	must_eq(vmbus_chan_poll(own, 16, 1000), 0);
	must_eq(vmbus_chan_offer_subchannels(chan, 1), VMBUS_E_STATE);
	fake_fini(&f);
}
END_TEST

/* Offers carry what was asked for; instances are made, distinct, and the same at every start. */
START_TEST(bus_offer__what_the_child_sees)
{
	struct vmbus_guid seen[2][3];
	uint32_t start;

	for (start = 0; start < 2; start++) {
		struct fake f;
		struct vmbus_vsp a = make_vsp(9), b = make_vsp(7);
		struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .order = 5 };
		struct fake_echo d = { 0 };
		struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
		uint32_t i;

		a.offer_flags = VMBUS_OFFER_ENUMERATE;
		a.mmio_mb = 3;
		opts.user[0] = 0x11;
		opts.user[119] = 0x22;
		fake_init(&f, 16);
		must_eq(vmbus_bus_offer(f.bus, &a, &d, &opts, NULL), 0);
		must_eq(vmbus_bus_offer(f.bus, &a, &d, NULL, NULL), 0);
		must_eq(vmbus_bus_offer(f.bus, &b, &d, NULL, NULL), 0);
		fake_contact(&f, VMBUS_PROTO_5_3);
		fake_post(&f, &ctl);
		for (i = 0; i < 3; i++) {
			fake_expect(&f, VMBUS_CTL_OFFER, &ctl);
			seen[start][i] = ctl.u.offer.instance_id;
			must_eq(ctl.u.offer.instance_id.b[7] & 0xf0, 0x40);
			must_eq(ctl.u.offer.instance_id.b[8] & 0xc0, 0x80);
			must_eq(ctl.u.offer.class_id.b[15], i == 0 ? 7 : 9);
			must_eq(ctl.u.offer.monitor_id, VMBUS_MONITOR_NONE);
			must_eq(ctl.u.offer.conn_id, 0x2000 + ctl.u.offer.relid);
			if (i == 2) { /* the one with order 5 */
				must_eq(ctl.u.offer.flags, VMBUS_OFFER_ENUMERATE);
				must_eq(ctl.u.offer.mmio_mb, 3);
				must_eq(ctl.u.offer.user[0], 0x11);
				must_eq(ctl.u.offer.user[119], 0x22);
			}
		}
		fake_expect(&f, VMBUS_CTL_ALL_OFFERS, NULL);
		fake_fini(&f);
	}
	must(memcmp(seen[0], seen[1], sizeof(seen[0])) == 0);
	must(!vmbus_guid_equal(&seen[0][0], &seen[0][1]));
	must(!vmbus_guid_equal(&seen[0][1], &seen[0][2]));
}
END_TEST

/* ---- hv_sock ---- */

struct sock {
	struct fake f;
	struct fake_echo d;
	struct vmbus_vsp vsp;
	bool accept;
	uint32_t asked;
};

static int on_connect(void *ctx, const struct vmbus_ctl_tl *tl)
{
	struct sock *s = ctx;
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts) };

	s->asked++;
	if (!s->accept)
		return VMBUS_E_PERM;
	s->vsp.class_id = tl->service_id;
	opts.instance_id = tl->endpoint_id;
	return vmbus_bus_offer(s->f.bus, &s->vsp, &s->d, &opts, NULL);
}

static void sock_init(struct sock *s)
{
	memset(s, 0, sizeof(*s));
	s->vsp = make_vsp(1);
	s->vsp.offer_flags = VMBUS_OFFER_TLNPI | VMBUS_OFFER_PIPE | VMBUS_OFFER_ENUMERATE;
	fake_prepare(&s->f, 256);
	s->f.opts.tl_connect = on_connect;
	s->f.opts.events_ctx = s;
	fake_create(&s->f);
	fake_contact(&s->f, VMBUS_PROTO_5_3);
}

static void tl_connect(struct sock *s, uint8_t endpoint)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_TL_CONNECT };

	ctl.u.tl.endpoint_id.b[0] = endpoint;
	ctl.u.tl.service_id.b[0] = 0x99;
	fake_post(&s->f, &ctl);
}

START_TEST(bus_tl_connect__accepted_and_closed)
{
	struct sock s;
	struct fake_chan c[1];
	struct vmbus_ctl ctl;

	sock_init(&s);
	s.accept = true;
	must_eq(fake_offers(&s.f, c, 1), 0);
	tl_connect(&s, 0x42);
	fake_expect(&s.f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.flags, 0x2011);
	must_eq(ctl.u.offer.class_id.b[0], 0x99);
	must_eq(ctl.u.offer.instance_id.b[0], 0x42);
	memset(c, 0, sizeof(c));
	c[0].fake = &s.f;
	c[0].relid = ctl.u.offer.relid;
	c[0].conn = ctl.u.offer.conn_id;
	must_eq(fake_open(&s.f, &c[0], 3, 3), 0);
	fake_post_close(&s.f, &c[0]);
	fake_expect(&s.f, VMBUS_CTL_RESCIND, &ctl); /* which Linux waits for */
	must_eq(ctl.u.chan.relid, c[0].relid);
	fake_post_teardown(&s.f, c[0].relid, c[0].gpadl);
	fake_expect(&s.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_post_released(&s.f, c[0].relid);
	fake_run(&s.f);
	must_eq(s.f.removed, 1);
	fake_chan_free(&c[0]);
	fake_fini(&s.f);
}
END_TEST

START_TEST(bus_tl_connect__refused)
{
	struct sock s;
	struct vmbus_ctl ctl;
	uint32_t how;

	for (how = 0; how < 2; how++) {
		sock_init(&s);
		if (how) { /* nobody to ask */
			fake_fini(&s.f);
			fake_init(&s.f, 16);
			fake_contact(&s.f, VMBUS_PROTO_5_3);
		}
		tl_connect(&s, 0x42);
		fake_expect(&s.f, VMBUS_CTL_TL_RESULT, &ctl);
		must_eq(ctl.u.tl.status, VMBUS_STATUS_REFUSED);
		must_eq(ctl.u.tl.endpoint_id.b[0], 0x42);
		must_eq(s.asked, how ? 0 : 1);
		fake_fini(&s.f);
	}
}
END_TEST

/* A child that does not open what it asked for: the offer is withdrawn. */
START_TEST(bus_tl_connect__not_opened_in_time)
{
	struct sock s;
	struct fake_chan c[1];
	const uint64_t from = fake_now_ns();

	if (!vmbus_test_full())
		VMBUS_TEST_SKIP("takes 5 s: VMBUS_TEST_FULL=1");
	sock_init(&s);
	s.accept = true;
	must_eq(fake_offers(&s.f, c, 1), 0);
	tl_connect(&s, 0x42);
	fake_expect(&s.f, VMBUS_CTL_OFFER, NULL);
	wait_message(&s.f);
	fake_expect(&s.f, VMBUS_CTL_RESCIND, NULL);
	must(fake_now_ns() - from >= 5000000000u);
	fake_fini(&s.f);
}
END_TEST

/* ---- monitored channels, [MONITOR-PAGE] ---- */

START_TEST(bus_monitor__pending_bits_are_signals)
{
	struct fake f;
	struct fake_echo d = { 0 };
	struct vmbus_vsp vsp = make_vsp(1);
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .monitor_us = 200 };
	struct fake_chan c;
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
	struct vmbus_packet pkt[4];
	struct pollfd p;
	static uint64_t bitmap[256 / 64];
	const struct vmbus_dirty dirty = { .bitmap = bitmap, .frames = 256 };
	uint32_t *pending, monitor;
	uint64_t id;

	fake_prepare(&f, 256);
	f.opts.dirty = &dirty;
	fake_create(&f);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, NULL), 0);
	f.next_page = 4;
	fake_contact_pages(&f, VMBUS_PROTO_5_3, 2 * FAKE_PAGE, 3 * FAKE_PAGE);
	fake_post(&f, &ctl);
	fake_expect(&f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.monitored, 1);
	monitor = ctl.u.offer.monitor_id;
	must(monitor < 128);
	memset(&c, 0, sizeof(c));
	c.fake = &f;
	c.relid = ctl.u.offer.relid;
	c.conn = 0xffffff; /* its signals go nowhere: only the page counts */
	fake_expect(&f, VMBUS_CTL_ALL_OFFERS, NULL);
	p = (struct pollfd){ .fd = vmbus_bus_fd(f.bus), .events = POLLIN };
	must_eq(poll(&p, 1, 50), 0); /* nothing is open: nothing is scanned */
	must_eq(fake_open(&f, &c, 3, 3), 0);
	pending = (uint32_t *)(void *)(f.mem + 3 * FAKE_PAGE + 8 + 8 * (monitor / 32));
	for (id = 1; id < 50; id++) {
		const uint64_t end = fake_now_ns() + 10000000000u;

		must_eq(fake_send(&c, id, &id, 8), 1);
		memset(bitmap, 0, sizeof(bitmap));
		__atomic_fetch_or(pending, 1u << monitor % 32 | 1u << 30, __ATOMIC_SEQ_CST);
		while (d.packets < id && fake_now_ns() < end) {
			(void)poll(&p, 1, 100);
			(void)vmbus_bus_dispatch(f.bus, 64);
		}
		must_eq(d.packets, id);
		must_eq(*pending, 0);
		must(bitmap[0] >> 3 & 1);
		must_eq(fake_receive(&c, pkt, 4), 1);
		(void)fake_receive(&c, pkt, 4);
	}
	/* Closed: the timer is off again. */
	fake_post_close(&f, &c);
	(void)vmbus_bus_dispatch(f.bus, 64);
	while (poll(&p, 1, 150) == 1)
		(void)vmbus_bus_dispatch(f.bus, 64);
	must_eq(poll(&p, 1, 300), 0);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

/* Broken by the child: nobody looks at the page any more. */
START_TEST(bus_monitor__ends_with_a_fault)
{
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .monitor_us = 200 };
	struct vmbus_vsp vsp = make_vsp(1);
	struct fake_echo d = { 0 };
	struct fake_chan c;
	struct pollfd p;
	struct fake f;
	uint32_t n;

	fake_init(&f, 256);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, NULL), 0);
	f.next_page = 4;
	fake_contact_pages(&f, VMBUS_PROTO_5_3, 2 * FAKE_PAGE, 3 * FAKE_PAGE);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 3, 3), 0);
	p = (struct pollfd){ .fd = vmbus_bus_fd(f.bus), .events = POLLIN };
	must_eq(poll(&p, 1, 10000), 1); /* the next look at the page is due */
	*(uint32_t *)(void *)(f.mem + c.first * FAKE_PAGE) = UINT32_MAX;
	must_eq(vmbus_bus_signal_event(f.bus, c.conn, 0), VMBUS_HC_OK);
	fake_expect(&f, VMBUS_CTL_RESCIND, NULL);
	must(fake_logged(&f, "broken by the child: ring from the child"));
	for (n = 0; n < 100 && poll(&p, 1, 150) == 1; n++)
		must(vmbus_bus_dispatch(f.bus, 64) >= 0);
	must_eq(poll(&p, 1, 300), 0);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_monitor__128_ids)
{
	struct fake f;
	struct fake_echo d = { 0 };
	struct vmbus_vsp vsp = make_vsp(1);
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .monitor_us = 200 };
	struct vmbus_chan *chan = NULL;
	uint32_t i;

	fake_init(&f, 16);
	for (i = 0; i < 128; i++)
		must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, &chan), 0);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, NULL), VMBUS_E_FULL);
	must_eq(vmbus_bus_revoke(chan), 0);
	fake_run(&f);
	must_eq(f.removed, 1);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, &opts, NULL), 0);
	fake_fini(&f);
}
END_TEST

/* ---- memory ---- */

START_TEST(bus_mem__add_remove_read)
{
	struct fake f;
	struct vmbus_region extra = {
		.gpa = 64 * FAKE_PAGE, .bytes = 4 * FAKE_PAGE, .fd = -1, .access = VMBUS_READ_WRITE
	};
	struct vmbus_region overlap;
	uint8_t buf[16];

	fake_init(&f, 64);
	extra.host = aligned_alloc(4096, 4 * FAKE_PAGE);
	memset(extra.host, 0xab, 4 * FAKE_PAGE);
	memset(f.mem + 63 * FAKE_PAGE, 0xcd, FAKE_PAGE);
	must_eq(vmbus_bus_mem_read(f.bus, (vmbus_gpa_t){ 64 * FAKE_PAGE - 8 }, buf, 16),
		VMBUS_E_RANGE);
	must_eq(vmbus_bus_mem_add(f.bus, &extra), 0);
	must_eq(vmbus_bus_mem_add(f.bus, &extra), VMBUS_E_INVAL);
	overlap = extra;
	overlap.gpa -= FAKE_PAGE;
	must_eq(vmbus_bus_mem_add(f.bus, &overlap), VMBUS_E_INVAL);
	must_eq(vmbus_bus_mem_read(f.bus, (vmbus_gpa_t){ 64 * FAKE_PAGE - 8 }, buf, 16), 0);
	must_eq(buf[7], 0xcd);
	must_eq(buf[8], 0xab);
	must_eq(vmbus_bus_hc_ops()->read(f.bus, 64 * FAKE_PAGE, buf, 16), 0);
	must_eq(vmbus_bus_mem_remove(f.bus, &extra), 0);
	must_eq(vmbus_bus_mem_read(f.bus, (vmbus_gpa_t){ 64 * FAKE_PAGE }, buf, 16), VMBUS_E_RANGE);
	must_eq(vmbus_bus_mem_remove(f.bus, &extra), 0); /* already out, and no pins */
	free(extra.host);
	fake_fini(&f);
}
END_TEST

/* Memory with an open channel's rings in it stays until the channel is closed. */
START_TEST(bus_mem_remove__waits_for_rings)
{
	struct fake f;
	struct fake_echo d = { 0 };
	struct vmbus_vsp vsp = make_vsp(1);
	struct fake_chan c;

	fake_init(&f, 64);
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, NULL, NULL), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 3, 3), 0);
	must_eq(vmbus_bus_mem_remove(f.bus, &f.region), VMBUS_E_AGAIN);
	fake_close(&f, &c);
	must_eq(vmbus_bus_mem_remove(f.bus, &f.region), 0);
	/* A child without memory opens nothing. */
	must(fake_share(&f, c.relid, 99, 1, 6) != 0);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_hc_ops__carry_calls_out)
{
	struct fake f;
	struct fake_echo d = { 0 };
	struct vmbus_vsp vsp = make_vsp(1);
	const struct vmbus_hc_ops *ops = vmbus_bus_hc_ops();
	struct vmbus_hc_regs regs = { 0 };

	fake_init(&f, 64);
	must_eq(ops->struct_bytes, sizeof(*ops));
	must_eq(vmbus_bus_offer(f.bus, &vsp, &d, NULL, NULL), 0);
	vmbus_hc_encode_fast_signal(0x2001, 0, &regs);
	must_eq(vmbus_hc_dispatch(ops, f.bus, &regs), VMBUS_HC_OK);
	vmbus_hc_encode_fast_signal(0x2002, 0, &regs);
	must_eq(vmbus_hc_dispatch(ops, f.bus, &regs), VMBUS_HC_CONNECTION_ID);
	fake_fini(&f);
}
END_TEST

/* ---- listings ---- */

static void count_one(void *ctx, const struct vmbus_chan_info *info)
{
	uint32_t *count = ctx;

	must(info->relid > *count); /* in their order */
	*count = info->relid;
	ck_assert_str_eq(info->vsp, "echo");
	ck_assert_str_eq(info->state, vmbus_srv_state_name(VMBUS_SRV_CLIENT_RELEASED));
}

START_TEST(bus_list__all_channels)
{
	struct fake f;
	struct fake_echo d = { 0 };
	struct vmbus_vsp vsp = make_vsp(1);
	uint32_t count = 0, i;

	fake_init(&f, 64);
	for (i = 0; i < 10; i++)
		must_eq(vmbus_bus_offer(f.bus, &vsp, &d, NULL, NULL), 0);
	vmbus_bus_list(f.bus, count_one, &count);
	must(count >= 10);
	fake_fini(&f);
}
END_TEST

/* Every refusal of an offer tells what is wrong. */
START_TEST(bus_offer__refusals_name_what_is_wrong)
{
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct fake_echo echo = { 0 };
	struct vmbus_chan *chan;
	struct fake f;

	fake_prepare(&f, 64);
	f.opts.limits.struct_bytes = sizeof(f.opts.limits);
	f.opts.limits.chans_max = 2;
	fake_create(&f);
	must_eq(vmbus_bus_offer(f.bus, NULL, &echo, NULL, &chan), VMBUS_E_INVAL);
	must(fake_logged(&f, "offer of a device refused: vsp is NULL (INVAL)"));
	vsp.struct_bytes--;
	must_eq(vmbus_bus_offer(f.bus, &vsp, &echo, NULL, &chan), VMBUS_E_INVAL);
	must(fake_logged(&f, "sizeof(struct vmbus_vsp)"));
	vsp.struct_bytes++;
	vsp.name = NULL;
	must_eq(vmbus_bus_offer(f.bus, &vsp, &echo, NULL, &chan), VMBUS_E_INVAL);
	must(fake_logged(&f, "no name"));
	vsp.name = "echo";
	vsp.packets = NULL;
	must_eq(vmbus_bus_offer(f.bus, &vsp, &echo, NULL, &chan), VMBUS_E_INVAL);
	must(fake_logged(&f, "offer of echo refused: the vsp has no packets()"));
	opts.struct_bytes = 8;
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &opts, &chan), VMBUS_E_INVAL);
	must(fake_logged(&f, "sizeof(struct vmbus_offer_opts)"));
	opts.struct_bytes = sizeof(opts);
	opts.instance_id.b[3] = 7;
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &opts, &chan), 0);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &opts, &chan), VMBUS_E_INVAL);
	must(fake_logged(&f, "is offered already"));
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, &chan), 0);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, &chan), VMBUS_E_FULL);
	must(fake_logged(&f, "the child has 2 channels (limits.chans_max)"));
	fake_fini(&f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "offers", 10);

	tcase_add_test(tc, bus_offer__refusals_name_what_is_wrong);
	tcase_add_test(tc, bus_offer__errors);
	tcase_add_test(tc, chan_dispatch__errors);
	tcase_add_test(tc, bus_offer__what_the_child_sees);
	tcase_add_test(tc, bus_tl_connect__accepted_and_closed);
	tcase_add_test(tc, bus_tl_connect__refused);
	tcase_add_test(tc, bus_tl_connect__not_opened_in_time);
	tcase_add_test(tc, bus_monitor__pending_bits_are_signals);
	tcase_add_test(tc, bus_monitor__ends_with_a_fault);
	tcase_add_test(tc, bus_monitor__128_ids);
	tcase_add_test(tc, bus_mem__add_remove_read);
	tcase_add_test(tc, bus_mem_remove__waits_for_rings);
	tcase_add_test(tc, bus_hc_ops__carry_calls_out);
	tcase_add_test(tc, bus_list__all_channels);
}

VMBUS_TEST_MAIN("bus.offers", tests)
