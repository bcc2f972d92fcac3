/* SPDX-License-Identifier: MIT */
/*
 * Calls and children at the edges of what is allowed: budgets past what fits in an answer, states that cannot be
 * saved or gone on with, waits that a diagnosis names, rings that are broken before they are opened.
 */
#include "journal_say.h"

#include <vmbus/diag.h>
#include <vmbus/poll.h>
#include <vmbus/save.h>
#include <vmbus/tap.h>

/* An answer is an int: a larger budget is cut to what fits, and none of them is refused. */
START_TEST(dispatch__budgets_past_an_int)
{
	const struct vmbus_offer_opts own = { .struct_bytes = sizeof(own), .own_fd = true };
	static const uint32_t budgets[] = { (uint32_t)INT32_MAX, (uint32_t)INT32_MAX + 1u,
					    UINT32_MAX };
	struct fake_echo echo = { 0 };
	struct vmbus_chan *chan;
	struct fake_chan c;
	struct fake f;
	uint32_t i;

	fake_init(&f, 256);
	must_eq(vmbus_bus_offer(f.bus, &fake_echo_vsp, &echo, &own, &chan), 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	fake_post_open(&f, &c, 0); /* without rings: refused */
	fake_expect(&f, VMBUS_CTL_OPEN_RESULT, NULL);
	for (i = 0; i < 3; i++) {
		struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };

		fake_post(&f, &ctl);
		must(vmbus_bus_dispatch(f.bus, budgets[i]) > 0);
		while (vmbus_bus_dispatch(f.bus, budgets[i]) > 0)
			;
		must_eq(vmbus_bus_poll(f.bus, budgets[i]), 0);
		must_eq(vmbus_chan_dispatch(chan, budgets[i]), 0);
		must_eq(vmbus_chan_poll(chan, budgets[i], 1), 0);
		must_eq(vmbus_bus_dispatch(f.bus, 0), 0);
		must_eq(vmbus_bus_poll(f.bus, 0), 0);
		must_eq(vmbus_chan_poll(chan, 0, 1), 0);
	}
	fake_fini(&f);
}
END_TEST

/* The same with a channel that is hot: the polled path has a cut of its own. */
START_TEST(bus_poll__a_hot_channel_with_any_budget)
{
	struct fake_echo echo = { 0 };
	struct vmbus_packet pkt[4];
	struct fake_chan c;
	struct fake f;
	uint64_t id;

	fake_init(&f, 256);
	(void)fake_offer(&f, &fake_echo_vsp, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 4, 4), 0);
	must_eq(vmbus_bus_poll(f.bus, 64), 0); /* from now on busy channels are hot */
	id = 1;
	must_eq(fake_send(&c, id, &id, 8), 1);
	fake_run(&f);
	must_eq(fake_receive(&c, pkt, 4), 1);
	must_eq(vmbus_bus_poll(f.bus, UINT32_MAX), 0);
	for (id = 2; id < 10; id++) {
		must_eq(fake_send(&c, id, &id, 8), 1);
		must_eq(vmbus_bus_poll(f.bus, id % 2 ? UINT32_MAX : (uint32_t)INT32_MAX + 1u), 1);
		must_eq(fake_receive(&c, pkt, 4), 1);
	}
	must_eq(c.signals, 1); /* that is: no poll was a dispatch */
	fake_close(&f, &c);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_save__not_of_channels_with_a_journal)
{
	static struct sbox s;
	size_t bytes;

	sbox_new(&s);
	sbox_open(&s);
	must_eq(vmbus_bus_save(s.b.f.bus, NULL, 0, &bytes), VMBUS_E_NOTSUP);
	must(fake_logged(&s.b.f, "cannot be saved: it is open, and has a journal"));
	must_eq(vmbus_chan_set_journal(s.b.chan, NULL, 0), 0);
	must_eq(vmbus_bus_save(s.b.f.bus, NULL, 0, &bytes), VMBUS_E_NOTSUP);
	must(fake_logged(&s.b.f, "cannot be saved: it was let go of"));
	jb_free(&s.b);
}
END_TEST

/* A state with the channel open and no journal, for a bus that has one. */
static size_t save_without_journal(struct sbox *s, uint8_t *state, size_t room)
{
	size_t bytes;

	sbox_new(s);
	must_eq(vmbus_chan_set_journal(s->b.chan, NULL, 0), 0);
	sbox_open(s);
	must_eq(vmbus_bus_save(s->b.f.bus, state, room, &bytes), 0);
	jb_save(&s->b, &image);
	vmbus_bus_destroy(s->b.f.bus);
	memcpy(s->b.f.mem, image.mem, sizeof(image.mem));
	memset(s->b.journal, 0, s->b.journal_bytes);
	fake_create(&s->b.f);
	must_eq(vmbus_bus_offer(s->b.f.bus, s->b.vsp, &s->say, NULL, &s->b.chan), 0);
	return bytes;
}

START_TEST(bus_restore__not_into_a_channel_with_a_journal)
{
	static uint8_t state[65536];
	static struct sbox s;
	size_t bytes;
	char why[160];

	bytes = save_without_journal(&s, state, sizeof(state));
	must_eq(vmbus_chan_set_journal(s.b.chan, s.b.journal, s.b.journal_bytes), 0);
	must_eq(vmbus_bus_restore(s.b.f.bus, state, bytes, why, sizeof(why)), VMBUS_E_NOTSUP);
	must(strstr(why, "it is FOREIGN now, or has a journal") != NULL);
	jb_free(&s.b);
}
END_TEST

/* Nor is a journal given to one that was restored, before it goes on or after. */
START_TEST(chan_set_journal__not_of_a_channel_that_goes_on)
{
	static uint8_t state[65536];
	static struct sbox s;
	size_t bytes;
	char why[160];

	bytes = save_without_journal(&s, state, sizeof(state));
	must_eq(vmbus_bus_restore(s.b.f.bus, state, bytes, why, sizeof(why)), 0);
	must_eq(vmbus_chan_set_journal(s.b.chan, s.b.journal, s.b.journal_bytes), VMBUS_E_STATE);
	fake_run(&s.b.f);
	must_eq(vmbus_chan_set_journal(s.b.chan, s.b.journal, s.b.journal_bytes), VMBUS_E_STATE);
	must_eq(JB_ACTIVE(s.b.journal), 0);
	sbox_send(&s, 1, 3);
	fake_run(&s.b.f);
	must_eq(s.say.packets, 3);
	jb_free(&s.b);
}
END_TEST

/* Rings that the child broke before it asked to open them: the open is refused, with or without a journal. */
START_TEST(bus_open__rings_that_are_broken_already)
{
	static const uint32_t values[] = { 4096 * (JB_UP - 1u), 12, UINT32_MAX };
	static struct sbox s;
	uint32_t i;

	for (i = 0; i < 2 * 3 * 2; i++) {
		const bool down = i % 2;
		struct vmbus_ctl ctl;
		uint32_t *word;

		vmbus_test_at("case %u", i);
		sbox_new(&s);
		if (i >= 6)
			must_eq(vmbus_chan_set_journal(s.b.chan, NULL, 0), 0);
		word = (uint32_t *)(void *)(s.b.f.mem +
					    (down ? JB_FIRST + JB_UP : JB_FIRST) * FAKE_PAGE);
		word[down] = values[i / 2 % 3]; /* the index that the child writes */
		fake_post_open(&s.b.f, &s.b.c, 0);
		fake_run(&s.b.f);
		fake_expect(&s.b.f, VMBUS_CTL_OPEN_RESULT, &ctl);
		must(ctl.u.result.status != 0);
		must_eq(s.say.packets, 0);
		jb_free(&s.b);
	}
}
END_TEST

START_TEST(bus_offer__names_flags_that_cannot_be)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct fake_echo echo = { 0 };
	struct fake f;

	fake_init(&f, 16);
	vsp.offer_flags = 2;
	must_eq(vmbus_bus_offer(f.bus, &vsp, &echo, NULL, NULL), VMBUS_E_INVAL);
	must(fake_logged(&f, "offer_flags 0x2 asks for what is not there"));
	fake_fini(&f);
}
END_TEST

/* Ranges are read of a packet that names some, and of a channel that is open. */
static int sgl_errs[3];

static void sgl_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus_packet lie = pkt[0];
	struct vmbus_sgl sgl;
	uint64_t ext[4] = { 0 };

	(void)n;
	sgl_errs[0] = vmbus_chan_sgl(chan, &lie, VMBUS_READ, &sgl);
	lie.type = VMBUS_PKT_GPA_DIRECT;
	lie.ext = (const uint8_t *)ext + 4;
	lie.ext_len = 8;
	sgl_errs[1] = vmbus_chan_sgl(chan, &lie, VMBUS_READ, &sgl);
	lie.ext = (const uint8_t *)ext;
	lie.ext_len = 0;
	sgl_errs[2] = vmbus_chan_sgl(chan, &lie, VMBUS_READ, &sgl);
}

START_TEST(chan_sgl__of_packets_without_ranges)
{
	struct vmbus_vsp vsp = fake_echo_vsp;
	struct fake_echo echo = { 0 };
	struct fake_chan c;
	struct fake f;
	uint64_t id = 1;

	fake_init(&f, 64);
	vsp.packets = sgl_packets;
	(void)fake_offer(&f, &vsp, &echo, 0);
	fake_contact(&f, VMBUS_PROTO_5_3);
	must_eq(fake_offers(&f, &c, 1), 1);
	must_eq(fake_open(&f, &c, 4, 4), 0);
	must_eq(fake_send(&c, id, &id, 8), 1);
	fake_run(&f);
	must_eq(sgl_errs[0], VMBUS_E_INVAL);
	must_eq(sgl_errs[1], VMBUS_E_INVAL);
	must_eq(sgl_errs[2], VMBUS_E_INVAL);
	fake_close(&f, &c);
	fake_fini(&f);
}
END_TEST

START_TEST(bus_mem_remove__of_what_is_not_there)
{
	struct vmbus_region extra = {
		.gpa = (uint64_t)1 << 30, .bytes = FAKE_PAGE, .fd = -1, .access = VMBUS_READ
	};
	struct fake f;

	fake_init(&f, 16);
	extra.host = f.mem;
	must_eq(vmbus_bus_mem_remove(f.bus, &extra), 0); /* only waited for */
	must_eq(vmbus_bus_mem_add(f.bus, &extra), 0);
	must_eq(vmbus_bus_mem_remove(f.bus, &extra), 0);
	must_eq(vmbus_bus_mem_remove(f.bus, &extra), 0); /* only waited for */
	fake_fini(&f);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "corners", 20);

	tcase_add_test(tc, dispatch__budgets_past_an_int);
	tcase_add_test(tc, bus_poll__a_hot_channel_with_any_budget);
	tcase_add_test(tc, bus_save__not_of_channels_with_a_journal);
	tcase_add_test(tc, bus_restore__not_into_a_channel_with_a_journal);
	tcase_add_test(tc, chan_set_journal__not_of_a_channel_that_goes_on);
	tcase_add_test(tc, bus_open__rings_that_are_broken_already);
	tcase_add_test(tc, bus_offer__names_flags_that_cannot_be);
	tcase_add_test(tc, chan_sgl__of_packets_without_ranges);
	tcase_add_test(tc, bus_mem_remove__of_what_is_not_there);
}

VMBUS_TEST_MAIN("bus.corners", tests)
