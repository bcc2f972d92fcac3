/* SPDX-License-Identifier: MIT */
/*
 * As many channels as there can be, and channels and memory that come and go for long: nothing
 * grows.
 */
#include "fake.h"

#define ALL 2047u

static uint32_t count_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	uint32_t n = 0;
	int c;

	must(maps != NULL);
	while ((c = fgetc(maps)) != EOF)
		n += c == '\n';
	fclose(maps);
	return n;
}

struct usage {
	int fds;
	uint32_t maps;
	size_t bytes;
};

static struct usage measure(void)
{
	return (struct usage){ vmbus_test_count_fds(), count_maps(), mallinfo2().uordblks };
}

/* What is in use now is what was; malloc may keep a little more for itself. */
static void must_not_grow(struct usage before)
{
	const struct usage now = measure();

	must_eq(now.fds, before.fds);
	must(now.maps <= before.maps + 4);
	must(now.bytes <= before.bytes + 4096);
}

struct big {
	struct fake f;
	struct fake_echo echo;
	struct fake_chan c[ALL];
};

static struct big *big_new(bool mirrored)
{
	struct big *b = calloc(1, sizeof(*b));
	uint32_t i;

	must(b != NULL);
	fake_prepare(&b->f, 4 * ALL + 16);
	b->f.region.fd = mirrored ? b->f.fd : -1;
	fake_create(&b->f);
	for (i = 0; i < ALL; i++)
		(void)fake_offer(&b->f, &fake_echo_vsp, &b->echo, i);
	must_eq(vmbus_bus_offer(b->f.bus, &fake_echo_vsp, NULL, NULL, NULL), VMBUS_E_FULL);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, b->c, ALL), ALL);
	return b;
}

static void all_channels(bool mirrored)
{
	struct big *b = big_new(mirrored);
	struct vmbus_packet pkt[2];
	struct vmbus_bus_stats stats;
	struct usage before = { 0 };
	uint32_t i, round;

	for (round = 0; round < 3; round++) {
		if (round == 1) /* once everything has been used */
			before = measure();
		for (i = 0; i < ALL; i++)
			must_eq(fake_open(&b->f, &b->c[i], 2, 2), 0);
		vmbus_bus_stats(b->f.bus, &stats);
		must_eq(stats.mirrored, mirrored ? 4094 : 0);
		for (i = 0; i < ALL; i++) {
			const uint64_t id = 1 + i;

			must_eq(fake_send(&b->c[i], id, &id, 8), 1);
			if (i % 3 == 0)
				fake_run(&b->f);
		}
		fake_run(&b->f);
		for (i = 0; i < ALL; i++) {
			must_eq(fake_receive(&b->c[i], pkt, 2), 1);
			must_eq(pkt[0].id, 1 + i);
		}
		for (i = 0; i < ALL; i++)
			fake_close(&b->f, &b->c[i]);
		if (round)
			must_not_grow(before);
	}
	must_eq(b->echo.opens, 3 * ALL);
	must_eq(b->echo.closes, 3 * ALL);
	must_eq(b->echo.packets, 3 * ALL);
	fake_fini(&b->f);
	must_eq(b->f.removed, ALL);
	free(b);
}

START_TEST(bus__2047_channels)
{
	all_channels(false);
}
END_TEST

START_TEST(bus__2047_channels_mirrored)
{
	all_channels(true);
}
END_TEST

/* Devices plugged and unplugged while the child is connected, with data each time. */
START_TEST(bus__channels_come_and_go)
{
	struct fake f;
	struct fake_echo echo = { 0 };
	struct usage before = { 0 };
	uint32_t round;
	const uint32_t rounds = vmbus_test_full() ? 20000 : 1000;

	fake_prepare(&f, 64);
	f.region.fd = f.fd;
	f.backend.bind = fake_backend_bind;
	f.backend.unbind = fake_backend_unbind;
	fake_create(&f);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, NULL, 0), 0);
	for (round = 0; round < rounds; round++) {
		const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts),
						       .own_fd = round & 1 };
		struct vmbus_chan *chan;
		struct fake_chan c = { 0 };
		struct vmbus_packet pkt[2];
		struct vmbus_ctl ctl;
		uint64_t id = 1;

		if (round == 100)
			before = measure();
		must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &opts, &chan), 0);
		fake_expect(&f, VMBUS_CTL_OFFER, &ctl);
		c.fake = &f;
		c.relid = ctl.u.offer.relid;
		c.conn = ctl.u.offer.conn_id;
		f.next_page = 1;
		fake_rings(&f, &c, 3, 3);
		c.gpadl = f.next_gpadl++;
		must_eq(fake_share(&f, c.relid, c.gpadl, c.first, 6), 0);
		fake_post_open(&f, &c, 0);
		fake_run(&f);
		if (opts.own_fd)
			must_eq(vmbus_chan_dispatch(chan, 16), 0);
		fake_expect(&f, VMBUS_CTL_OPEN_RESULT, &ctl);
		must_eq(ctl.u.result.status, 0);
		must_eq(fake_send(&c, id, &id, 8), 1);
		if (opts.own_fd)
			must_eq(vmbus_chan_dispatch(chan, 16), 1);
		fake_run(&f);
		must_eq(fake_receive(&c, pkt, 2), 1);
		must_eq(vmbus_bus_revoke(chan), 0);
		fake_run(&f);
		if (opts.own_fd)
			must_eq(vmbus_chan_dispatch(chan, 16), 0);
		fake_expect(&f, VMBUS_CTL_RESCIND, NULL);
		fake_post_teardown(&f, c.relid, c.gpadl);
		fake_expect(&f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
		fake_post_released(&f, c.relid);
		fake_expect_none(&f);
		must_eq(f.removed, round + 1);
		fake_chan_free(&c);
	}
	must_not_grow(before);
	fake_fini(&f);
}
END_TEST

/* Memory plugged and unplugged beside that of the start. */
START_TEST(bus__memory_comes_and_goes)
{
	struct fake f;
	struct usage before = { 0 };
	struct vmbus_region extra[8];
	uint32_t round, i;

	fake_init(&f, 64);
	for (i = 0; i < 8; i++)
		extra[i] = (struct vmbus_region){ .gpa = (1024 + 16 * i) * FAKE_PAGE,
						  .bytes = 8 * FAKE_PAGE,
						  .host = aligned_alloc(4096, 8 * FAKE_PAGE),
						  .fd = -1,
						  .access = VMBUS_READ_WRITE };
	for (round = 0; round < 500; round++) {
		if (round == 20)
			before = measure();
		for (i = 0; i < 8; i++)
			must_eq(vmbus_bus_mem_add(f.bus, &extra[i]), 0);
		for (i = 0; i < 8; i++)
			must_eq(vmbus_bus_mem_remove(f.bus, &extra[(i * 3 + round) % 8]), 0);
	}
	must_not_grow(before);
	for (i = 0; i < 8; i++)
		free(extra[i].host);
	fake_fini(&f);
}
END_TEST

/* Many children, each with a bus of its own. */
START_TEST(bus__64_children_with_16_channels)
{
	static struct fake f[64];
	static struct fake_chan c[64][16];
	struct fake_echo echo = { 0 };
	struct vmbus_packet pkt[2];
	uint32_t child, i;

	for (child = 0; child < 64; child++) {
		fake_init(&f[child], 16 * 4 + 1);
		for (i = 0; i < 16; i++)
			(void)fake_offer(&f[child], &fake_echo_vsp, &echo, i);
		fake_contact(&f[child], VMBUS_PROTO_5_3);
		must_eq(fake_offers(&f[child], c[child], 16), 16);
	}
	for (child = 0; child < 64; child++)
		for (i = 0; i < 16; i++)
			must_eq(fake_open(&f[child], &c[child][i], 2, 2), 0);
	for (i = 0; i < 16; i++)
		for (child = 0; child < 64; child++) {
			const uint64_t id = 1 + child;

			must_eq(fake_send(&c[child][i], id, &id, 8), 1);
		}
	for (child = 0; child < 64; child++)
		fake_run(&f[child]);
	for (child = 0; child < 64; child++)
		for (i = 0; i < 16; i++) {
			must_eq(fake_receive(&c[child][i], pkt, 2), 1);
			must_eq(pkt[0].id, 1 + child);
			fake_chan_free(&c[child][i]);
		}
	for (child = 0; child < 64; child++)
		fake_fini(&f[child]);
	must_eq(echo.opens, 1024);
	must_eq(echo.closes, 1024);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "scale", 20);

	tcase_add_test(tc, bus__2047_channels);
	tcase_add_test(tc, bus__2047_channels_mirrored);
	tcase_add_test(tc, bus__channels_come_and_go);
	tcase_add_test(tc, bus__memory_comes_and_goes);
	tcase_add_test(tc, bus__64_children_with_16_channels);
}

VMBUS_TEST_MAIN("bus.scale", tests)
