/* SPDX-License-Identifier: MIT */
/*
 * Openings of channels with a journal: which of them go on, what ends what a journal tells, and how a
 * process lets go.
 */
#include "journal_say.h"

START_TEST(chan_own__lasts_as_long_as_the_opening)
{
	static struct sbox s;
	uint64_t *own;
	uint32_t i;

	sbox_new(&s);
	memset(s.b.journal + s.b.journal_bytes - 128, 0xee, 100);
	sbox_open(&s);
	own = vmbus_chan_own(s.b.chan);
	must(own != NULL && (uintptr_t)own % 64 == 0);
	for (i = 0; i < 100; i++)
		must_eq(((uint8_t *)own)[i], 0);
	own[0] = 0x1122334455667788u;
	own[11] = 12;
	sbox_again(&s);
	sbox_open(&s);
	own = vmbus_chan_own(s.b.chan);
	must_eq(own[0], 0x1122334455667788u);
	must_eq(own[11], 12);
	fake_close(&s.b.f, &s.b.c);
	sbox_again(&s);
	sbox_open(&s);
	own = vmbus_chan_own(s.b.chan);
	must_eq(own[0], 0);
	must_eq(s.say.resumed, false);
	jb_free(&s.b);
}
END_TEST

/* A close ends what the journal tells; the next opening begins. */
START_TEST(journal__a_close_is_a_close)
{
	static struct sbox s;

	sbox_new(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	sbox_send(&s, 1, 3);
	sbox_run(&s);
	must_eq(s.say.packets, 3);
	fake_close(&s.b.f, &s.b.c);
	must_eq(fake_open(&s.b.f, &s.b.c, JB_UP, JB_DOWN), 0);
	must_eq(s.say.resumed, false);
	sbox_send(&s, 10, 4);
	sbox_run(&s);
	must_eq(s.say.packets, 7);
	must_eq(vmbus_chan_complete(s.b.chan, 10, NULL, 0), 0);
	sbox_get(&s, 10, 1);
	jb_free(&s.b);
}
END_TEST

/* A channel that was let go of does nothing more, and its close reaches the device. */
START_TEST(chan_set_journal__lets_go)
{
	static struct sbox s;
	uint8_t mem[JB_PAGES * 4096];

	sbox_new(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	sbox_send(&s, 1, 3);
	sbox_run(&s);
	must_eq(vmbus_chan_set_journal(s.b.chan, NULL, 0), 0);
	jb_save(&s.b, &image);
	sbox_send(&s, 4, 1);
	memcpy(mem, s.b.f.mem, sizeof(mem));
	sbox_run(&s);
	must_eq(s.say.packets, 3);
	must_eq(vmbus_chan_complete(s.b.chan, 1, NULL, 0), VMBUS_E_STATE);
	must_eq(vmbus_chan_send(s.b.chan, &(struct vmbus_msg){ .type = 6 }, 1), VMBUS_E_STATE);
	must_eq(vmbus_chan_flush(s.b.chan), VMBUS_E_STATE);
	must(vmbus_chan_own(s.b.chan) == NULL);
	vmbus_chan_fail(s.b.chan, "no more");
	sbox_run(&s);
	fake_expect_none(&s.b.f);
	must(memcmp(mem, s.b.f.mem, sizeof(mem)) == 0);
	must(memcmp(image.journal, s.b.journal, s.b.journal_bytes) == 0);
	fake_close(&s.b.f, &s.b.c);
	must(memcmp(mem, s.b.f.mem, sizeof(mem)) == 0);
	must(memcmp(image.journal, s.b.journal, s.b.journal_bytes) == 0);
	must_eq(vmbus_chan_set_journal(s.b.chan, s.b.journal, s.b.journal_bytes), 0);
	jb_free(&s.b);
}
END_TEST

/* One that is broken and not closed yet is none to go on with. */
START_TEST(chan_set_journal__tells_that_a_channel_is_broken)
{
	static struct sbox s;

	sbox_new(&s);
	sbox_open(&s);
	must(JB_ACTIVE(s.b.journal) > 0);
	vmbus_chan_fail(s.b.chan, "no more");
	must_eq(vmbus_chan_set_journal(s.b.chan, NULL, 0), VMBUS_E_FAULT);
	must_eq(JB_ACTIVE(s.b.journal), 0);
	must_eq(vmbus_chan_set_journal(s.b.chan, NULL, 0), 0);
	jb_free(&s.b);
}
END_TEST

/* Let go of while its device has not said yet whether it is open. */
START_TEST(chan_set_journal__lets_go_of_an_opening)
{
	static struct sbox s;
	uint8_t mem[JB_PAGES * 4096];

	sbox_new(&s);
	sbox_open(&s);
	sbox_again(&s);
	s.say.open_err = VMBUS_E_AGAIN;
	fake_post_open(&s.b.f, &s.b.c, 0);
	fake_run(&s.b.f);
	must(s.say.resumed);
	must_eq(vmbus_chan_set_journal(s.b.chan, NULL, 0), 0);
	jb_save(&s.b, &image);
	must(JB_ACTIVE(image.journal) > 0);
	memcpy(mem, s.b.f.mem, sizeof(mem));
	vmbus_chan_open_done(s.b.chan, 0);
	fake_run(&s.b.f);
	must(memcmp(mem, s.b.f.mem, sizeof(mem)) == 0);
	must(memcmp(image.journal, s.b.journal, s.b.journal_bytes) == 0);
	jb_free(&s.b);
}
END_TEST

START_TEST(chan_must_resume__begins_nothing)
{
	static struct sbox s;

	sbox_new(&s);
	must_eq(vmbus_chan_must_resume(s.b.chan), 0);
	jb_open(&s.b); /* a journal of zeroes */
	must(s.b.err != 0);
	must(fake_logged(&s.b.f, "journal: magic is 0"));
	must(s.say.chan == NULL);
	sbox_open(&s); /* it was for one opening */
	must_eq(vmbus_chan_must_resume(s.b.chan), VMBUS_E_STATE);
	fake_close(&s.b.f, &s.b.c);
	sbox_again(&s);
	must_eq(JB_ACTIVE(s.b.journal), 0);
	must_eq(vmbus_chan_must_resume(s.b.chan), 0);
	jb_open(&s.b);
	must(s.b.err != 0);
	must(fake_logged(&s.b.f, "journal: number of the commit that counts is 0"));
	must(s.say.chan == NULL);
	must_eq(vmbus_chan_set_journal(s.b.chan, NULL, 0), 0);
	must_eq(vmbus_chan_must_resume(s.b.chan), VMBUS_E_STATE);
	jb_free(&s.b);
}
END_TEST

START_TEST(chan_must_resume__goes_on)
{
	static struct sbox s;

	sbox_new(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	sbox_send(&s, 1, 3);
	sbox_run(&s);
	sbox_again(&s);
	must_eq(vmbus_chan_must_resume(s.b.chan), 0);
	sbox_open(&s);
	must(s.say.resumed);
	sbox_run(&s);
	must_eq(s.say.packets, 3);
	jb_free(&s.b);
}
END_TEST

static const uint8_t *shared;
static size_t shared_bytes;

/* Somebody writes into the journal while the device reads: it has copies. */
static void look_twice(struct say *say, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		const uintptr_t at = (uintptr_t)pkt[i].payload, ext = (uintptr_t)pkt[i].ext;

		if (say->resumed) {
			must(at < (uintptr_t)shared || at >= (uintptr_t)shared + shared_bytes);
			must(ext < (uintptr_t)shared || ext >= (uintptr_t)shared + shared_bytes);
		}
	}
}

START_TEST(journal__what_comes_again_is_private)
{
	static struct sbox s;

	sbox_new(&s);
	s.say.keep = ~0u;
	s.say.on_packets = look_twice;
	sbox_open(&s);
	sbox_send(&s, 1, 3);
	sbox_run(&s);
	sbox_again(&s);
	shared = s.b.journal;
	shared_bytes = s.b.journal_bytes;
	sbox_open(&s);
	must(s.say.resumed);
	sbox_run(&s);
	must_eq(s.say.packets, 3);
	jb_free(&s.b);
}
END_TEST

static void greet(struct say *say)
{
	const struct vmbus_msg msg = { .id = 55, .type = VMBUS_PKT_INBAND };

	if (!say->resumed)
		must_eq(vmbus_chan_send(say->chan, &msg, 1), 1);
}

/* What is sent in open() is sent once, whether the process dies before or after it is published. */
START_TEST(journal__open_that_sends)
{
	static struct sbox s;
	uint32_t *in;

	sbox_new(&s);
	s.say.on_open = greet;
	sbox_open(&s);
	in = (uint32_t *)(void *)(s.b.f.mem + (JB_FIRST + JB_UP) * FAKE_PAGE);
	must_eq(*in, 24);
	*in = 0; /* it was not */
	sbox_again(&s);
	sbox_open(&s);
	must_eq(s.say.resumed, false);
	sbox_get(&s, 55, 1);
	sbox_again(&s);
	sbox_open(&s);
	must_eq(s.say.resumed, true);
	sbox_get(&s, 0, 0);
	jb_free(&s.b);
}
END_TEST

/* An open that the device refuses leaves nothing to go on from. */
START_TEST(journal__open_that_is_refused)
{
	static struct sbox s;

	sbox_new(&s);
	s.say.on_open = greet;
	s.say.open_err = VMBUS_E_NOTSUP;
	jb_open(&s.b);
	must(s.b.err != 0);
	s.say.open_err = 0;
	sbox_open(&s);
	must_eq(s.say.resumed, false);
	sbox_get(&s, 55, 1);
	jb_free(&s.b);
}
END_TEST

/* A channel that a child broke is closed for the journal too. */
START_TEST(journal__a_fault_is_a_close)
{
	static struct sbox s;

	sbox_new(&s);
	sbox_open(&s);
	*(uint32_t *)(void *)(s.b.f.mem + JB_FIRST * FAKE_PAGE) = 4; /* a write index */
	sbox_run(&s);
	must(fake_logged(&s.b.f, "broken by the child"));
	must_eq(JB_ACTIVE(s.b.journal), 0);
	jb_free(&s.b);
}
END_TEST

/* ---- the echo device ---- */

/* It never loses its place: half of the answers find the ring full, and it dies there. */
START_TEST(echo_vsp__goes_on)
{
	static struct jb b;
	static struct jb_image at;
	static struct jb_child child;
	struct vmbus_ring_mem up, down;
	struct vmbus_vsp vsp;
	uint32_t round;

	memset(&child, 0, sizeof(child));
	memset(&b, 0, sizeof(b));
	vsp = *vmbus_echo_vsp();
	vsp.open = NULL; /* the open data of this child is no number of sub-channels */
	must(vsp.flags & VMBUS_VSP_RESUMABLE);
	b.vsp = &vsp;
	fake_prepare(&b.f, JB_PAGES);
	b.journal_bytes = vmbus_journal_bytes(b.vsp);
	b.journal = aligned_alloc(64, b.journal_bytes);
	memset(b.journal, 0, b.journal_bytes);
	fake_mem_init(&b.f, &up, JB_FIRST, JB_UP);
	fake_mem_init(&b.f, &down, JB_FIRST + JB_UP, JB_DOWN);
	vmbus_ring_mem_clear(&up);
	vmbus_ring_mem_clear(&down);
	jb_offer(&b);
	jb_open(&b);
	for (round = 0; round < 40; round++) {
		vmbus_test_at("round %u", round);
		must_eq(b.err, 0);
		(void)jb_send(&b, &child, 60);
		(void)vmbus_bus_signal_event(b.f.bus, b.c.conn, 0);
		fake_run(&b.f);
		(void)jb_take(&b, &child, round % 30);
		if (round % 3 == 0)
			fake_run(&b.f);
		must_eq(vmbus_chan_set_journal(b.chan, NULL, 0), 0);
		memcpy(at.mem, b.f.mem, sizeof(at.mem));
		fake_chan_free(&b.c);
		fake_fini(&b.f);
		fake_prepare(&b.f, JB_PAGES);
		memcpy(b.f.mem, at.mem, sizeof(at.mem));
		jb_offer(&b);
		jb_open(&b);
	}
	jb_drain(&b, &child);
	must(child.came > 500);
	fake_chan_free(&b.c);
	fake_fini(&b.f);
	free(b.journal);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "journal", 20);

	tcase_add_test(tc, chan_own__lasts_as_long_as_the_opening);
	tcase_add_test(tc, journal__a_close_is_a_close);
	tcase_add_test(tc, chan_set_journal__lets_go);
	tcase_add_test(tc, chan_set_journal__tells_that_a_channel_is_broken);
	tcase_add_test(tc, chan_set_journal__lets_go_of_an_opening);
	tcase_add_test(tc, chan_must_resume__begins_nothing);
	tcase_add_test(tc, chan_must_resume__goes_on);
	tcase_add_test(tc, journal__what_comes_again_is_private);
	tcase_add_test(tc, journal__open_that_sends);
	tcase_add_test(tc, journal__open_that_is_refused);
	tcase_add_test(tc, journal__a_fault_is_a_close);
	tcase_add_test(tc, echo_vsp__goes_on);
}

VMBUS_TEST_MAIN("bus.journal_open", tests)
