/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of the bus fails once: each call says so or the child is told, nothing is lost,
 * and all goes on when there is memory again.  Descriptors run out too.
 */
#include "fake.h"

#include <sys/resource.h>

#include "scarce.h"

struct box {
	struct fake f;
	struct fake_echo echo;
	struct fake_chan c;
};

static void make(struct box *b)
{
	const struct vmbus_offer_opts own = { .struct_bytes = sizeof(own), .own_fd = true };
	struct vmbus_chan *chan;
	uint32_t n;
	int err;

	fake_prepare(&b->f, 256);
	EACH(n)
	{
		err = vmbus_bus_create(&b->f.opts, &b->f.bus);
		end_of_step();
		vmbus_test_at("create, allocation %u", n);
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
	}
	must(n > 3);
	EACH(n)
	{
		err = vmbus_bus_offer(b->f.bus, &fake_echo_vsp, &b->echo, &own, &chan);
		end_of_step();
		vmbus_test_at("offer, allocation %u", n);
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
	}
	must(n > 1);
	must_eq(vmbus_bus_revoke(chan), 0);
	fake_run(&b->f);
	must_eq(vmbus_bus_offer(b->f.bus, &fake_echo_vsp, &b->echo, NULL, &chan), 0);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, &b->c, 1), 1);
}

START_TEST(bus_open__every_allocation_fails_once)
{
	struct box b = { .echo = { .opens = 0 } };
	struct vmbus_packet pkt[4];
	struct vmbus_ctl ctl;
	uint64_t id = 1;
	uint32_t n;

	SCARCE_OR_SKIP();
	make(&b);
	fake_rings(&b.f, &b.c, 3, 3);
	b.c.gpadl = 5;
	EACH(n)
	{
		const uint32_t status = fake_share(&b.f, b.c.relid, 5, b.c.first, 6);

		end_of_step();
		vmbus_test_at("page list, allocation %u", n);
		must_eq(status != 0, failures != 0);
	}
	must(n > 1);
	EACH(n)
	{
		fake_post_open(&b.f, &b.c, 0);
		fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
		end_of_step();
		vmbus_test_at("open, allocation %u", n);
		must_eq(ctl.u.result.status != 0, failures != 0);
		must_eq(vmbus_region_pins(&b.f.region) != 0, failures == 0);
	}
	must(n > 3);
	must_eq(b.echo.opens, 1);
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	fake_run(&b.f);
	must_eq(fake_receive(&b.c, pkt, 4), 1);
	fake_close(&b.f, &b.c);
	must_eq(b.echo.closes, 1);
	fake_fini(&b.f);
}
END_TEST

START_TEST(chan_offer_subchannels__every_allocation_fails_once)
{
	struct fake_echo echo = { 0 };
	struct vmbus_chan *chan, *other;
	struct vmbus_ctl ctl;
	struct fake_chan c;
	struct vmbus_bus_stats stats;
	struct fake f;
	uint32_t n, last;
	int err;

	SCARCE_OR_SKIP();
	fake_prepare(&f, 256);
	f.opts.limits =
		(struct vmbus_srv_opts){ .struct_bytes = sizeof(f.opts.limits), .chans_max = 3 };
	fake_create(&f);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, &chan), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 3, 3), 0);
	other = fake_offer(&f, &fake_echo_vsp, &echo, 1);
	fake_expect(&f, VMBUS_CTL_OFFER, &ctl);
	last = ctl.u.offer.relid;
	EACH(n)
	{
		err = vmbus_chan_offer_subchannels(chan, 1);
		end_of_step();
		vmbus_test_at("sub-channel, allocation %u", n);
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
		must(!failures || fake_logged(&f, "only 0 of 1 sub-channels: NOMEM"));
	}
	must(n > 1);
	fake_expect(&f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.sub_index, 1); /* those that were not made have none */
	fake_expect_none(&f);
	must_eq(vmbus_chan_offer_subchannels(chan, 1), VMBUS_E_FULL);
	must(fake_logged(&f, "only 0 of 1 sub-channels: FULL"));
	fake_expect_none(&f);
	vmbus_bus_stats(f.bus, &stats);
	must_eq(stats.offers_refused, 1);
	must_eq(vmbus_bus_revoke(other), 0);
	fake_expect(&f, VMBUS_CTL_RESCIND, NULL);
	fake_post_released(&f, last);
	fake_run(&f);
	must_eq(vmbus_chan_offer_subchannels(chan, 1), 0);
	fake_expect(&f, VMBUS_CTL_OFFER, &ctl);
	must_eq(ctl.u.offer.sub_index, 2);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_mem__every_allocation_fails_once)
{
	struct fake f;
	struct vmbus_region extra;
	uint32_t n;
	int err;

	SCARCE_OR_SKIP();
	fake_init(&f, 16);
	extra = (struct vmbus_region){ .gpa = (uint64_t)1 << 30,
				       .bytes = FAKE_PAGE,
				       .host = f.mem,
				       .fd = -1,
				       .access = VMBUS_READ };
	EACH(n)
	{
		err = vmbus_bus_mem_add(f.bus, &extra);
		end_of_step();
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
	}
	must(n > 1);
	EACH(n)
	{
		err = vmbus_bus_mem_remove(f.bus, &extra);
		end_of_step();
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
	}
	must(n > 1);
	fake_fini(&f);
}
END_TEST

START_TEST(chan__no_memory_for_a_large_packet)
{
	struct fake f;
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	uint8_t *data;

	SCARCE_OR_SKIP();
	data = calloc(1, 100000);
	fake_init(&f, 256);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, NULL), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 40, 3), 0);
	must_eq(fake_send(&c, 1, data, 100000), 1);
	fail_in = 0;
	fake_run(&f);
	fail_in = -1;
	must(fake_logged(&f, "no memory for a packet"));
	fake_expect(&f, VMBUS_CTL_RESCIND, NULL);
	fake_chan_free(&c);
	fake_fini(&f);
	free(data);
}
END_TEST

/* Without a descriptor left: no bus, no channel of a thread, and signals that go through the bus. */
START_TEST(bus__no_descriptor_left)
{
	struct fake f;
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct vmbus_bus *bus;
	struct vmbus_packet pkt[4];
	struct rlimit old, none;
	const struct vmbus_offer_opts own = { .struct_bytes = sizeof(own), .own_fd = true };
	uint64_t id = 1;
	int left;

	fake_prepare(&f, 256);
	f.backend.bind = fake_backend_bind;
	f.backend.unbind = fake_backend_unbind;
	f.opts.bind_all = true;
	fake_create(&f);
	must_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, NULL, NULL), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	left = dup(0);
	must(left >= 0);
	close(left);
	none = old;
	none.rlim_cur = (rlim_t)left;
	must_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	must_eq(vmbus_bus_create(&f.opts, &bus), VMBUS_E_SYSTEM);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &own, NULL), VMBUS_E_NOMEM);
	must_eq(fake_open(&f, &c, 3, 3), 0);
	must_eq(f.binds, 0);
	must_eq(fake_send(&c, id, &id, 8), 1);
	fake_run(&f);
	must_eq(fake_receive(&c, pkt, 4), 1);
	must_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	fake_chan_free(&c);
	fake_fini(&f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "alloc", 20);

	tcase_add_test(tc, bus_open__every_allocation_fails_once);
	tcase_add_test(tc, chan_offer_subchannels__every_allocation_fails_once);
	tcase_add_test(tc, bus_mem__every_allocation_fails_once);
	tcase_add_test(tc, chan__no_memory_for_a_large_packet);
	tcase_add_test(tc, bus__no_descriptor_left);
}

VMBUS_TEST_MAIN("bus.alloc", tests)
