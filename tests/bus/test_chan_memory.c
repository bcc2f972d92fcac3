/* SPDX-License-Identifier: MIT */
/*
 * The child's memory behind an open channel: ring words and lengths that it may not write so, which
 * end the channel, and the pages that its requests and its page lists name.
 */
#include "packets.h"

#include <vmbus/diag.h>

static void expect_fault(struct box *b, const char *line)
{
	fake_expect(&b->f, VMBUS_CTL_RESCIND, NULL);
	must_eq(b->d.closes, 1);
	if (!fake_logged(&b->f, line))
		ck_abort_msg("no line with \"%s\", but \"%s\"", line,
			     b->f.last[(b->f.lines - 1) % FAKE_LINES]);
}

START_TEST(vsp_max_payload__faults_the_channel)
{
	struct box b;
	uint8_t data[64] = { 0 };
	struct vmbus_chan_info info;

	box_init(&b);
	b.vsp.max_payload = 56;
	box_open(&b, 3, 3);
	must_eq(fake_send(&b.c, 1, data, 56), 1);
	fake_run(&b.f);
	must_eq(b.d.packets, 1);
	must_eq(fake_send(&b.c, 2, data, 57), 1);
	fake_run(&b.f);
	must_eq(b.d.packets, 1);
	vmbus_chan_info(b.chan, &info);
	must(info.faulted);
	must_eq(info.fault.value, 64);
	must_eq(info.fault.limit, 56);
	expect_fault(&b,
		     "channel 1 (dev): broken by the child: payload is 64, must be at most 56, at "
		     "ring offset 80");
	box_fini(&b);
}
END_TEST

static volatile uint32_t *word(struct box *b, bool up, uint32_t offset)
{
	return (volatile uint32_t *)(void *)(b->f.mem +
					     (b->c.first + (up ? 0 : b->c.up)) * FAKE_PAGE +
					     offset);
}

START_TEST(ring__write_index_faults_the_channel)
{
	struct box b;

	box_init(&b);
	box_open(&b, 3, 3);
	*word(&b, true, 0) = 77;
	vmbus_bus_signal_event(b.f.bus, b.c.conn, 0);
	expect_fault(&b, "ring from the child: write index is 77, must be a multiple of 8");
	box_fini(&b);
}
END_TEST

START_TEST(ring__read_index_faults_the_channel)
{
	struct box b;
	uint8_t data[1000] = { 0 };
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = data, .len = 1000 };
	int sent;

	box_init(&b);
	box_open(&b, 3, 3);
	*word(&b, false, 4) = 0x10000000;
	do
		sent = vmbus_chan_send(b.chan, &msg, 1);
	while (sent == 1);
	must(sent == VMBUS_E_PEER || sent == VMBUS_E_FULL);
	expect_fault(&b, "ring to the child: read index is 268435456");
	box_fini(&b);
}
END_TEST

/* Indices that are wrong at the open: it fails, and says so. */
START_TEST(ring__bad_indices_at_the_open)
{
	struct box b;
	struct vmbus_ctl ctl;
	uint32_t which;

	box_init(&b);
	must_eq(vmbus_bus_offer(b.f.bus, &b.vsp, &b.d, NULL, &b.chan), 0);
	fake_contact(&b.f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&b.f, &b.c, 1), 1);
	for (which = 0; which < 4; which++) {
		fake_rings(&b.f, &b.c, 3, 3);
		b.c.gpadl = 70 + which;
		must_eq(fake_share(&b.f, b.c.relid, b.c.gpadl, b.c.first, 6), 0);
		*word(&b, which & 1, which & 2 ? 4 : 0) = 0x7ff1;
		fake_post_open(&b.f, &b.c, 0);
		fake_expect(&b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
		must_eq(ctl.u.result.status, VMBUS_STATUS_FAILED);
	}
	must(fake_logged(&b.f, "open failed: PEER: ring to the child: write index is 32753"));
	box_fini(&b);
}
END_TEST

/* Mask and pending size are the child's to set; absurd ones harm nobody else. */
START_TEST(ring__absurd_mask_and_pending)
{
	struct box b;
	static const uint32_t values[] = { 1,	 7,	     8,		 4096,	    8191,
					   8192, 0x7fffffff, 0x80000000, UINT32_MAX };
	uint32_t i, j;
	uint64_t id = 1;

	box_init(&b);
	b.d.mode = ECHO_KEEP;
	box_open(&b, 3, 3);
	for (i = 0; i < 9; i++)
		for (j = 0; j < 9; j++) {
			*word(&b, true, 8) = values[i];	  /* our mask, which is not its to set */
			*word(&b, false, 8) = values[j];  /* its own mask */
			*word(&b, true, 12) = values[j];  /* its pending size */
			*word(&b, false, 12) = values[i]; /* our pending size */
			must_eq(fake_send(&b.c, id, &id, 8), 1);
			vmbus_bus_signal_event(b.f.bus, b.c.conn, 0);
			fake_run(&b.f);
			must_eq(drain(&b, id), 1);
			id++;
		}
	must_eq(b.d.closes, 0);
	box_fini(&b);
}
END_TEST

/* A request whose data is in pages of the child's. */
static void send_direct(struct box *b, uint64_t pfn, uint32_t offset, uint32_t bytes)
{
	uint8_t ext[64] = { 0 };
	const struct vmbus_wire_ext head = { .range_count = 1 };
	uint64_t pfns[3] = { pfn, pfn + 1, pfn + 2 };
	struct vmbus_msg msg = {
		.type = VMBUS_PKT_GPA_DIRECT, .id = 9, .flags = VMBUS_PKT_FLAG_COMPLETE, .ext = ext
	};

	msg.ext_len = (uint32_t)vmbus_wire_ext_put(VMBUS_PKT_GPA_DIRECT, &head, ext, sizeof(ext));
	must_eq(msg.ext_len, 8);
	msg.ext_len +=
		(uint32_t)vmbus_wire_range_put(bytes, offset, pfns, ext + 8, sizeof(ext) - 8);
	must_eq(vmbus_ring_tx_put(&b->c.tx, &msg, 1), 1);
	fake_run(&b->f);
}

START_TEST(chan_sgl__reads_and_writes_the_childs_pages)
{
	struct box b;
	uint8_t text[16];

	box_init(&b);
	b.d.mode = SGL;
	box_open(&b, 3, 3);
	memcpy(b.f.mem + 1500 * FAKE_PAGE + 4090, "over the page's end", 16);
	send_direct(&b, 1500, 4090, 16);
	must_eq(b.d.err, 0);
	must_eq(b.d.sgl.bytes, 16);
	must_eq(vmbus_sgl_read(&b.d.sgl, 0, text, 16), 16);
	must(memcmp(text, "over the page's end", 16) == 0);
	must_eq(vmbus_sgl_write(&b.d.sgl, 2, "XY", 2), 2);
	must(memcmp(b.f.mem + 1500 * FAKE_PAGE + 4090, "ovXY the", 8) == 0);
	vmbus_sgl_release(&b.d.sgl);
	send_direct(&b, 4000, 0, 16); /* no memory there */
	must_eq(b.d.err, VMBUS_E_PEER);
	must_eq(fake_send(&b.c, 1, text, 8), 1); /* no pages in it */
	fake_run(&b.f);
	must_eq(b.d.err, VMBUS_E_INVAL);
	b.d.sgl.room = 0;
	send_direct(&b, 1500, 0, 16);
	must_eq(b.d.err, VMBUS_E_FULL);
	must_eq(b.d.closes, 0);
	box_fini(&b);
}
END_TEST

/* What a diagnosis says that the only channel waits for; how many pins there are. */
static uint32_t waits_of(struct box *b, uint32_t *pins)
{
	struct vmbus_chan_diag diag;
	uint32_t at = 0;

	must_eq(vmbus_bus_diag_next(b->f.bus, &at, &diag), 1);
	*pins = diag.pins;
	return diag.waits;
}

/* Pages that a device holds keep rings and page lists where they are, and a diagnosis says so. */
START_TEST(chan_sgl__close_waits_for_it)
{
	uint32_t pins;
	struct box b;

	box_init(&b);
	b.d.mode = SGL;
	box_open(&b, 3, 3);
	send_direct(&b, 1500, 0, 4096);
	must_eq(b.d.err, 0);
	must_eq(waits_of(&b, &pins), 0);
	must_eq(pins, 1);
	fake_post_close(&b.f, &b.c);
	fake_post_teardown(&b.f, b.c.relid, b.c.gpadl);
	fake_expect_none(&b.f);
	must_eq(b.d.closes, 1);
	must_eq(waits_of(&b, &pins), VMBUS_WAIT_PINS);
	must_eq(pins, 1);
	vmbus_sgl_release(&b.d.sgl);
	{
		const uint64_t end = fake_now_ns() + 5000000000u;

		while (b.f.posted == b.f.taken && fake_now_ns() < end) {
			struct pollfd p = { .fd = vmbus_bus_fd(b.f.bus), .events = POLLIN };

			(void)poll(&p, 1, 100);
			fake_run(&b.f);
		}
	}
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	must_eq(waits_of(&b, &pins), 0);
	must_eq(pins, 0);
	must_eq(vmbus_chan_sgl(b.chan, NULL, VMBUS_READ, &b.d.sgl), VMBUS_E_STATE);
	box_fini(&b);
}
END_TEST

START_TEST(chan_gpadl__views_hold_the_list)
{
	struct box b;
	uint64_t id = 1, end;

	box_init(&b);
	b.d.mode = GPADL;
	box_open(&b, 3, 3);
	must_eq(fake_share(&b.f, b.c.relid, 555, 1600, 100), 0);
	b.d.gpadl = 554;
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	fake_run(&b.f);
	must_eq(b.d.err, VMBUS_E_RANGE);
	b.d.gpadl = 555;
	must_eq(fake_send(&b.c, id, &id, 8), 1);
	fake_run(&b.f);
	must_eq(b.d.err, 0);
	must_eq(b.d.sgl.bytes, 100 * 4096);
	fake_post_teardown(&b.f, b.c.relid, 555);
	fake_expect_none(&b.f);
	{
		struct vmbus_sgl other = { .pieces = b.d.pieces, .room = 16 };

		/* It is on its way out: nobody gets a new view of it. */
		must_eq(vmbus_chan_gpadl(b.chan, 555, VMBUS_READ, &other), VMBUS_E_RANGE);
	}
	vmbus_sgl_release(&b.d.sgl);
	end = fake_now_ns() + 5000000000u;
	while (b.f.posted == b.f.taken && fake_now_ns() < end) {
		struct pollfd p = { .fd = vmbus_bus_fd(b.f.bus), .events = POLLIN };

		(void)poll(&p, 1, 100);
		fake_run(&b.f);
	}
	fake_expect(&b.f, VMBUS_CTL_GPADL_TORNDOWN, NULL);
	fake_close(&b.f, &b.c);
	must_eq(vmbus_chan_gpadl(b.chan, 555, VMBUS_READ, &b.d.sgl), VMBUS_E_STATE);
	box_fini(&b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "chan_memory", 10);

	tcase_add_test(tc, vsp_max_payload__faults_the_channel);
	tcase_add_test(tc, ring__write_index_faults_the_channel);
	tcase_add_test(tc, ring__read_index_faults_the_channel);
	tcase_add_test(tc, ring__bad_indices_at_the_open);
	tcase_add_test(tc, ring__absurd_mask_and_pending);
	tcase_add_test(tc, chan_sgl__reads_and_writes_the_childs_pages);
	tcase_add_test(tc, chan_sgl__close_waits_for_it);
	tcase_add_test(tc, chan_gpadl__views_hold_the_list);
}

VMBUS_TEST_MAIN("bus.chan_memory", tests)
