/* SPDX-License-Identifier: MIT */
/*
 * Rings from page lists: every window, every list that must be refused, pins, dirty pages.
 */
#include "fake.h"

struct box {
	struct fake f;
	struct fake_echo echo;
	struct fake_chan c, other;
	struct vmbus_chan *chan;
};

static void box_offer(struct box *b)
{
	struct fake_chan c[2];

	b->chan = fake_offer(&b->f, &fake_echo_vsp, &b->echo, 0);
	(void)fake_offer(&b->f, &fake_echo_vsp, &b->echo, 1);
	fake_contact(&b->f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b->f, c, 2), 2);
	b->c = c[0];
	b->other = c[1];
	must_eq(fake_open(&b->f, &b->other, 3, 3), 0);
}

static void box_init(struct box *b)
{
	memset(b, 0, sizeof(*b));
	fake_init(&b->f, 4096);
	box_offer(b);
}

static void one_echo(struct box *b, struct fake_chan *c, uint64_t id)
{
	struct vmbus_packet pkt[2];
	uint8_t payload[3000];
	uint32_t i;

	for (i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(id + i * 7);
	must_eq(fake_send(c, id, payload, sizeof(payload)), 1);
	fake_run(&b->f);
	must_eq(fake_receive(c, pkt, 2), 1);
	must_eq(pkt[0].id, id);
	must_eq(pkt[0].len, 3000);
	must(memcmp(pkt[0].payload, payload, sizeof(payload)) == 0);
	(void)fake_receive(c, pkt, 2);
}

static void box_fini(struct box *b)
{
	one_echo(b, &b->other, 77); /* whatever happened, the other channel goes on */
	fake_chan_free(&b->c);
	fake_chan_free(&b->other);
	fake_fini(&b->f);
	must_eq(vmbus_region_pins(&b->f.region), 0);
}

/* Open on a list given by its page numbers; returns the status of the open. */
static uint32_t open_on(struct box *b, const uint64_t *pfns, uint32_t n, uint32_t up)
{
	struct vmbus_ctl ctl;

	b->c.gpadl = b->f.next_gpadl++;
	b->c.up = up;
	fake_gpadl(&b->f, b->c.relid, b->c.gpadl, pfns, n);
	fake_expect(&b->f, VMBUS_CTL_GPADL_CREATED, &ctl);
	if (ctl.u.created.status)
		return ctl.u.created.status;
	fake_post_open(&b->f, &b->c, 0);
	fake_expect(&b->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	return ctl.u.result.status;
}

static void tear_down(struct box *b)
{
	fake_post_teardown(&b->f, b->c.relid, b->c.gpadl);
	fake_expect(&b->f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
}

static void refused(struct box *b, const uint64_t *pfns, uint32_t n, uint32_t up, const char *why)
{
	vmbus_test_at("%s", why);
	must_eq(open_on(b, pfns, n, up), VMBUS_STATUS_FAILED);
	if (!fake_logged(&b->f, why))
		ck_abort_msg("no line with \"%s\"", why);
	tear_down(b);
	one_echo(b, &b->other, 5);
	vmbus_test_at("%s", "");
}

START_TEST(bus_open__refuses_shapes)
{
	struct box b;
	uint64_t pfns[64];
	uint32_t i;

	box_init(&b);
	for (i = 0; i < 64; i++)
		pfns[i] = 1000 + i;
	refused(&b, pfns, 8, 0, "2 pages or more each way");
	refused(&b, pfns, 8, 1, "2 pages or more each way");
	refused(&b, pfns, 8, 7, "2 pages or more each way");
	refused(&b, pfns, 8, 8, "2 pages or more each way");
	refused(&b, pfns, 8, UINT32_MAX, "2 pages or more each way");
	refused(&b, pfns, 3, 2, "2 pages or more each way");
	must_eq(b.echo.opens, 1);
	box_fini(&b);
}
END_TEST

/* Ranges that are no whole pages, and more than one of them. */
START_TEST(bus_open__refuses_ranges)
{
	struct box b;
	struct vmbus_ctl ctl;
	uint32_t i;
	static const struct {
		uint32_t bytes, offset, ranges, qwords;
	} bad[] = { { 4 * 4096, 8, 1, 6 }, { 4 * 4096 - 8, 0, 1, 5 }, { 4096, 0, 4, 8 } };

	box_init(&b);
	for (i = 0; i < 3; i++) {
		uint32_t n, q = 0;

		vmbus_test_at("%u", i);
		memset(&ctl, 0, sizeof(ctl));
		ctl.type = VMBUS_CTL_GPADL_HEADER;
		ctl.u.gpadl.relid = b.c.relid;
		ctl.u.gpadl.gpadl = b.c.gpadl = 900 + i;
		ctl.u.gpadl.range_count = bad[i].ranges;
		ctl.u.gpadl.range_bytes = bad[i].qwords * 8;
		ctl.u.gpadl.count = bad[i].qwords;
		for (n = 0; n < bad[i].ranges; n++) {
			const uint32_t pages = bad[i].qwords / bad[i].ranges - 1;

			ctl.u.gpadl.qwords[q++] = (uint64_t)bad[i].offset << 32 | bad[i].bytes;
			while (q % (pages + 1))
				ctl.u.gpadl.qwords[q] = 500 + q, q++;
		}
		fake_post(&b.f, &ctl);
		fake_expect(&b.f, VMBUS_CTL_GPADL_CREATED, &ctl);
		must_eq(ctl.u.created.status, 0);
		b.c.up = 2;
		fake_post_open(&b.f, &b.c, 0);
		fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
		must_eq(ctl.u.result.status, VMBUS_STATUS_FAILED);
		tear_down(&b);
	}
	must(fake_logged(&b.f, "one range of whole pages"));
	box_fini(&b);
}
END_TEST

/* Pages that are no memory: past the end, around 2^64, a hole, at each place of the list. */
START_TEST(lesson_24_page_list_outside_of_memory)
{
	struct box b;
	uint64_t pfns[8];
	static const uint64_t bad[] = { 4096, 4097, 0xfffffffffffffu, 0x10000000000000u,
					UINT64_MAX };
	uint32_t place, i, which;

	box_init(&b);
	for (place = 0; place < 8; place++)
		for (which = 0; which < 5; which++) {
			for (i = 0; i < 8; i++)
				pfns[i] = 1000 + i;
			pfns[place] = bad[which];
			vmbus_test_at("place %u, page %llx", place, (unsigned long long)bad[which]);
			must_eq(open_on(&b, pfns, 8, 4), VMBUS_STATUS_FAILED);
		}
	must(fake_logged(&b.f, "no memory of the child's"));
	must_eq(b.echo.opens, 1);
	box_fini(&b);
}
END_TEST

/* Memory that we may only read is no place for a ring. */
START_TEST(lesson_33_read_only_memory)
{
	struct box b;
	struct vmbus_region region = { 0 };
	uint64_t pfns[8];
	uint32_t i;

	box_init(&b);
	region.gpa = (uint64_t)1 << 32;
	region.bytes = 16 * FAKE_PAGE;
	region.host = aligned_alloc(4096, 16 * FAKE_PAGE);
	region.fd = -1;
	region.access = VMBUS_READ;
	must_eq(vmbus_bus_mem_add(b.f.bus, &region), 0);
	for (i = 0; i < 8; i++)
		pfns[i] = (1u << 20) + i;
	refused(&b, pfns, 8, 4, "memory of the ring: PERM");
	for (i = 0; i < 7; i++)
		pfns[i] = 1000 + i; /* only the last page is read-only */
	refused(&b, pfns, 8, 4, "memory of the ring: PERM");
	must_eq(vmbus_region_pins(&region), 0);
	must_eq(vmbus_bus_mem_remove(b.f.bus, &region), 0);
	free(region.host);
	box_fini(&b);
}
END_TEST

START_TEST(bus_open__refuses_large_rings)
{
	struct box b;
	struct vmbus_vsp small = fake_echo_vsp;
	struct fake_chan c;
	uint64_t pfns[64];
	uint32_t i;

	memset(&b, 0, sizeof(b));
	fake_init(&b.f, 8192);
	small.ring_bytes_max = 8 * 4096;
	(void)fake_offer(&b.f, &small, &b.echo, 0);
	(void)fake_offer(&b.f, &fake_echo_vsp, &b.echo, 1);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, &b.c, 1), 2);
	c = b.c;
	(void)c;
	for (i = 0; i < 64; i++)
		pfns[i] = 1000 + i;
	must_eq(open_on(&b, pfns, 20, 10), VMBUS_STATUS_FAILED); /* 9 and 9 pages of data */
	must(fake_logged(&b.f, "bytes of a ring is 36864, limit 32768"));
	must_eq(open_on(&b, pfns, 19, 9), VMBUS_STATUS_FAILED); /* 8 and 9 */
	must_eq(open_on(&b, pfns, 18, 9), 0);
	fake_fini(&b.f);
}
END_TEST

/* A page list of another channel, one that does not exist, and one that is torn down. */
START_TEST(bus_open__refuses_lists_of_others)
{
	struct box b;
	struct vmbus_ctl ctl;

	box_init(&b);
	b.c.up = 3;
	b.c.gpadl = b.other.gpadl;
	fake_post_open(&b.f, &b.c, 0);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, VMBUS_STATUS_FAILED);
	b.c.gpadl = 0xdead;
	fake_post_open(&b.f, &b.c, 0);
	fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
	must_eq(ctl.u.result.status, VMBUS_STATUS_FAILED);
	box_fini(&b);
}
END_TEST

/* The child takes the list of an open channel's rings away: the answer waits for the close. */
START_TEST(bus__teardown_of_open_rings_waits)
{
	struct box b;

	box_init(&b);
	must_eq(fake_open(&b.f, &b.c, 3, 3), 0);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect_none(&b.f);
	one_echo(&b, &b.c, 9);
	fake_post_close(&b.f, &b.c);
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	box_fini(&b);
}
END_TEST

/* Pages in any order, backwards, and the same page twice: scattered windows carry data all the same. */
START_TEST(bus_open__scattered)
{
	struct box b;
	struct fake_chan *c = &b.c;
	uint64_t pfns[12];
	uint8_t *flat;
	uint32_t i;
	struct vmbus_chan_info info;

	box_init(&b);
	for (i = 0; i < 12; i++)
		pfns[i] = 1000 + (i * 5) % 12;
	/* The child's view is scattered as well. */
	flat = NULL;
	(void)flat;
	{
		void *up[5], *down[5];
		struct vmbus_ring_mem_opts mo = { .struct_bytes = sizeof(mo),
						  .window = VMBUS_RING_SCATTERED,
						  .size = 5 * VMBUS_PAGE_BYTES,
						  .ctl = b.f.mem + pfns[0] * FAKE_PAGE,
						  .pages = up };
		struct vmbus_ring_opts ro = { .struct_bytes = sizeof(ro),
					      .signal = fake_child_signal,
					      .signal_ctx = c };

		for (i = 0; i < 5; i++) {
			up[i] = b.f.mem + pfns[1 + i] * FAKE_PAGE;
			down[i] = b.f.mem + pfns[7 + i] * FAKE_PAGE;
		}
		must_eq(vmbus_ring_mem_init(&c->tx_mem, &mo), 0);
		mo.ctl = b.f.mem + pfns[6] * FAKE_PAGE;
		mo.pages = down;
		must_eq(vmbus_ring_mem_init(&c->rx_mem, &mo), 0);
		vmbus_ring_mem_clear(&c->tx_mem);
		vmbus_ring_mem_clear(&c->rx_mem);
		must_eq(vmbus_ring_tx_init(&c->tx, &c->tx_mem, &ro), 0);
		ro.buf_bytes = vmbus_ring_rx_buf_bytes(5 * VMBUS_PAGE_BYTES);
		ro.buf = c->buf = aligned_alloc(64, (ro.buf_bytes + 63) / 64 * 64);
		must_eq(vmbus_ring_rx_init(&c->rx, &c->rx_mem, &ro), 0);
		must_eq(open_on(&b, pfns, 12, 6), 0);
		for (i = 1; i < 200; i++)
			one_echo(&b, c, i);
		vmbus_chan_info(b.chan, &info);
		must_eq(info.mirrored, 0);
		must_eq(info.send_bytes, 5 * 4096);
		must_eq(info.recv_bytes, 5 * 4096);
		fake_close(&b.f, c);
		/* All pages the same: what the child reads is its own affair. */
		for (i = 0; i < 12; i++)
			pfns[i] = 2000;
		must_eq(open_on(&b, pfns, 12, 6), 0);
		fake_post_close(&b.f, c);
	}
	box_fini(&b);
}
END_TEST

/* With a file behind the memory the rings are mapped twice, as many as the quota allows. */
START_TEST(bus_open__mirrored_within_quota)
{
	struct box b;
	struct vmbus_chan_info info;
	struct vmbus_bus_stats stats;
	uint32_t i;

	memset(&b, 0, sizeof(b));
	fake_prepare(&b.f, 4096);
	b.f.region.fd = b.f.fd;
	b.f.opts.mirrors_max = 3;
	fake_create(&b.f);
	box_offer(&b);
	must_eq(fake_open(&b.f, &b.c, 4, 6), 0);
	vmbus_chan_info(b.chan, &info);
	must_eq(info.mirrored, 0); /* one ring is, the other found the quota used up */
	vmbus_bus_stats(b.f.bus, &stats);
	must_eq(stats.mirrored, 3);
	for (i = 1; i < 200; i++) {
		one_echo(&b, &b.c, i);
		one_echo(&b, &b.other, i);
	}
	fake_close(&b.f, &b.other);
	vmbus_bus_stats(b.f.bus, &stats);
	must_eq(stats.mirrored, 1);
	must_eq(fake_open(&b.f, &b.other, 4, 6), 0);
	vmbus_bus_stats(b.f.bus, &stats);
	must_eq(stats.mirrored, 3);
	fake_close(&b.f, &b.c);
	must_eq(fake_open(&b.f, &b.c, 4, 6), 0);
	vmbus_bus_stats(b.f.bus, &stats);
	must_eq(stats.mirrored, 3);
	box_fini(&b);
}
END_TEST

/* Every page that differs from what it was is marked, and so is nothing that nobody wrote. */
START_TEST(bus__marks_what_it_writes)
{
	struct box b;
	static uint64_t bitmap[4096 / 64];
	const struct vmbus_dirty dirty = { .bitmap = bitmap, .frames = 4096 };
	uint8_t *before;
	uint32_t id, page, how;

	for (how = 0; how < 2; how++) {
		memset(&b, 0, sizeof(b));
		fake_prepare(&b.f, 4096);
		b.f.region.fd = how ? b.f.fd : -1;
		b.f.opts.dirty = &dirty;
		fake_create(&b.f);
		box_offer(&b);
		must_eq(fake_open(&b.f, &b.c, 4, 4), 0);
		before = malloc(4096 * FAKE_PAGE);
		must(before != NULL);
		for (id = 1; id < 40; id++) {
			uint64_t payload[100] = { id };
			struct vmbus_packet pkt[2];

			must_eq(fake_send(&b.c, id, payload, sizeof(payload)), 1);
			memset(bitmap, 0, sizeof(bitmap));
			memcpy(before, b.f.mem, 4096 * FAKE_PAGE);
			fake_run(&b.f); /* from here on only the bus writes */
			for (page = 0; page < 4096; page++) {
				const bool changed =
					memcmp(before + page * FAKE_PAGE,
					       b.f.mem + page * FAKE_PAGE, FAKE_PAGE) != 0;

				vmbus_test_at("round %u, page %u of %zu", id, page, b.c.first);
				if (changed)
					must(bitmap[page / 64] >> page % 64 & 1);
				if (page < b.c.first || page >= b.c.first + 8)
					must_eq(bitmap[page / 64] >> page % 64 & 1, 0);
			}
			must_eq(fake_receive(&b.c, pkt, 2), 1);
			(void)fake_receive(&b.c, pkt, 2);
		}
		free(before);
		box_fini(&b);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "rings", 10);

	tcase_add_test(tc, bus_open__refuses_shapes);
	tcase_add_test(tc, bus_open__refuses_ranges);
	tcase_add_test(tc, lesson_24_page_list_outside_of_memory);
	tcase_add_test(tc, lesson_33_read_only_memory);
	tcase_add_test(tc, bus_open__refuses_large_rings);
	tcase_add_test(tc, bus_open__refuses_lists_of_others);
	tcase_add_test(tc, bus__teardown_of_open_rings_waits);
	tcase_add_test(tc, bus_open__scattered);
	tcase_add_test(tc, bus_open__mirrored_within_quota);
	tcase_add_test(tc, bus__marks_what_it_writes);
}

VMBUS_TEST_MAIN("bus.rings", tests)
