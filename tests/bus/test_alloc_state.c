/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of what saves, restores and resumes fails once: a bus that could not be saved goes on, one
 * that could not be restored can be destroyed, and a channel that could not resume is opened later.
 */
#include "old.h"
#include "journal_say.h"

#include "scarce.h"

/* What a restore needs anew each time. */
struct kept {
	uint8_t *state, *mem;
	size_t bytes;
};

static void keep(struct old *o, struct kept *k)
{
	uint32_t n;
	int err;

	must_eq(vmbus_bus_save(o->f.bus, NULL, 0, &k->bytes), VMBUS_E_RANGE);
	k->state = malloc(k->bytes);
	k->mem = malloc(o->f.pages * FAKE_PAGE);
	must(k->state && k->mem);
	EACH(n)
	{
		err = vmbus_bus_save(o->f.bus, k->state, k->bytes, &k->bytes);
		end_of_step();
		vmbus_test_at("save, allocation %u", n);
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
	}
	memcpy(k->mem, o->f.mem, o->f.pages * FAKE_PAGE);
}

START_TEST(bus_restore__every_allocation_fails_once)
{
	const struct old_session *session = &old_sessions[_i];
	char why[160];
	struct kept k;
	struct old *o;
	uint32_t n;
	int err = -1;

	SCARCE_OR_SKIP();
	o = old_live(session);
	keep(o, &k);
	for (n = 0; err; n++) {
		vmbus_bus_destroy(o->f.bus);
		vmbus_ic_destroy(o->ic);
		o->ic = NULL;
		memcpy(o->f.mem, k.mem, o->f.pages * FAKE_PAGE);
		old_create(o);
		failures = 0;
		fail_in = n;
		err = vmbus_bus_restore(o->f.bus, k.state, k.bytes, why, sizeof(why));
		end_of_step();
		vmbus_test_at("%s: restore, allocation %u: %s", session->name, n, why);
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
		must((err == 0) == (why[0] == '\0'));
	}
	must(n > 1);
	fake_run(&o->f);
	free(k.state);
	free(k.mem);
	old_free(o);
}
END_TEST

START_TEST(chan_set_journal__every_allocation_fails_once)
{
	static struct sbox s;
	uint32_t n;
	int err;

	SCARCE_OR_SKIP();
	sbox_new(&s);
	EACH(n)
	{
		err = vmbus_chan_set_journal(s.b.chan, s.b.journal, s.b.journal_bytes);
		end_of_step();
		must_eq(err, failures ? VMBUS_E_NOMEM : 0);
	}
	must(n > 4);
	sbox_open(&s);
	sbox_send(&s, 1, 3);
	sbox_run(&s);
	must_eq(s.say.packets, 3);
	jb_free(&s.b);
}
END_TEST

/* Three requests are pended; the process after this one has no memory at some place of the opening. */
START_TEST(chan_must_resume__every_allocation_fails_once)
{
	static struct sbox s;
	static struct jb_image first;
	uint32_t n;

	SCARCE_OR_SKIP();
	sbox_new(&s);
	s.say.keep = ~0u;
	sbox_open(&s);
	sbox_send(&s, 1, 3);
	sbox_run(&s);
	jb_save(&s.b, &first);
	for (n = 0, failures = 1; failures; n++) {
		memcpy(s.b.f.mem, first.mem, sizeof(first.mem));
		memcpy(s.b.journal, first.journal, s.b.journal_bytes);
		sbox_again(&s);
		must_eq(vmbus_chan_must_resume(s.b.chan), 0);
		failures = 0;
		fake_post_open(&s.b.f, &s.b.c, 0);
		fail_in = n;
		fake_run(&s.b.f);
		end_of_step();
		vmbus_test_at("allocation %u", n);
		must(!failures || s.say.packets == 0);
	}
	must(n > 5);
	must(s.say.resumed);
	must_eq(s.say.packets, 3);
	jb_free(&s.b);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "alloc_state", 60);

	tcase_add_loop_test(tc, bus_restore__every_allocation_fails_once, 0, OLD_SESSIONS);
	tcase_add_test(tc, chan_set_journal__every_allocation_fails_once);
	tcase_add_test(tc, chan_must_resume__every_allocation_fails_once);
}

VMBUS_TEST_MAIN("bus.alloc_state", tests)
