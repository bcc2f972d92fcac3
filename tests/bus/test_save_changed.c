/* SPDX-License-Identifier: MIT */
/*
 * vmbus_bus_restore() of states that were changed: sections of a later version, text that was forged,
 * and every byte.
 */
#include "old.h"
#include "savebox.h"

static void mend(uint8_t *state, size_t bytes)
{
	size_t len = 0;
	const size_t at = state_section(state, bytes, 2, &len);

	if (at)
		state_mend(state + at + VMBUS__SECTION_HEAD, len);
	state_mend(state, bytes);
}

/* A section of a later version is skipped if it says that it may be, wherever it lies. */
START_TEST(vmbus_bus_restore__sections_of_a_later_version)
{
	static const uint32_t before[] = { 1, 2, 4, 0 }; /* this section; 0: the end */
	uint8_t section[24] = { 5, 0, 0, 0, 9, 0, VMBUS__SECTION_SKIP, 0, 8 };
	struct box b;
	uint32_t i;

	for (i = 0; i < 8; i++) {
		size_t at, len;
		char why[160];
		uint8_t *with;

		vmbus_test_at("case %u", i);
		section[6] = i < 4 ? VMBUS__SECTION_SKIP : 0;
		begin(&b);
		live(&b);
		move(&b);
		at = before[i % 4] ? state_section(b.state, b.bytes, before[i % 4], &len) : b.bytes;
		must(at != 0);
		with = state_with(b.state, &b.bytes, at, section, sizeof(section));
		free(b.state);
		b.state = with;
		must_eq(vmbus_bus_restore(b.f.bus, b.state, b.bytes, why, sizeof(why)),
			i < 4 ? 0 : VMBUS_E_NOTSUP);
		ck_assert_str_eq(why, i < 4 ? "" : "a section of a later version");
		if (i < 4) {
			must_answer(&b, (ask(&b, 0, BANK_ECHO), 0));
			must_answer(&b, (ask(&b, 1, BANK_ECHO), 1));
		}
		end(&b);
	}
}
END_TEST

/* The text of a state comes to logs, and to terminals. */
START_TEST(vmbus_bus_restore__text_of_a_state_is_printable)
{
	static const char forged[] = "be\x1b[2J\n";
	struct box b;
	uint8_t *at;

	begin(&b);
	live(&b);
	vmbus_chan_fail(b.chan[0], "because");
	move(&b);
	at = memmem(b.state, b.bytes, "because", 7);
	must(at != NULL);
	memcpy(at, forged, 7);
	mend(b.state, b.bytes);
	must_eq(restore(&b), 0);
	fake_expect(&b.f, VMBUS_CTL_RESCIND, NULL);
	must(fake_logged(&b.f, "be?[2J?"));
	end(&b);
}
END_TEST

/* Whatever it is, an error or a bus that goes on until the child unloads. */
static bool try_state(struct old *o, const uint8_t *state, size_t bytes, const uint8_t *mem)
{
	const struct vmbus_ctl unload = { .type = VMBUS_CTL_UNLOAD };
	char why[160];
	uint32_t i;
	int err;

	memcpy(o->f.mem, mem, o->f.pages * FAKE_PAGE);
	memset(o->bank, 0, sizeof(o->bank));
	o->ic = NULL;
	old_create(o);
	err = vmbus_bus_restore(o->f.bus, state, bytes, why, sizeof(why));
	must(err == 0 || err == VMBUS_E_INVAL || err == VMBUS_E_NOTSUP);
	if (err)
		must(why[0] != '\0');
	for (i = 0; !err && i < 100 && vmbus_bus_dispatch(o->f.bus, 64) > 0; i++)
		continue;
	if (!err) {
		(void)fake_try_post(&o->f, VMBUS_CONN_MESSAGE, &unload);
		for (i = 0; i < 100 && vmbus_bus_dispatch(o->f.bus, 64) > 0; i++)
			continue;
	}
	o->f.taken = o->f.posted = 0;
	vmbus_bus_destroy(o->f.bus);
	vmbus_ic_destroy(o->ic);
	o->ic = NULL;
	must_eq(vmbus_region_pins(&o->f.region), 0);
	return err == 0;
}

/* lesson 36, lesson 37 */
START_TEST(lesson_37_every_byte_of_a_bus_changed)
{
	struct old *o = old_live(&old_sessions[_i]);
	const uint32_t stride = vmbus_test_full() ? 1 : o->bytes > 4000 ? 11 : 3;
	uint8_t *mem = malloc(OLD_PAGES * FAKE_PAGE), *copy = malloc(o->bytes);
	size_t at;
	uint32_t good = 0;

	must(mem && copy);
	memcpy(mem, o->f.mem, OLD_PAGES * FAKE_PAGE);
	vmbus_bus_destroy(o->f.bus);
	vmbus_ic_destroy(o->ic);
	o->f.busy = false;
	for (at = 0; at < o->bytes; at += stride) {
		memcpy(copy, o->state, o->bytes);
		copy[at] ^= at % 2 ? 0x81 : 0x01;
		vmbus_test_at("%s, byte %zu", old_sessions[_i].name, at);
		must(!try_state(o, copy, o->bytes, mem)); /* the sum tells */
		mend(copy, o->bytes);
		good += try_state(o, copy, o->bytes, mem);
	}
	must(good > 0);
	for (at = 0; at < o->bytes; at += 97) {
		uint8_t *cut = malloc(at + 1);

		must(cut != NULL);
		memcpy(cut, o->state, at);
		vmbus_test_at("%s, %zu bytes", old_sessions[_i].name, at);
		must(!try_state(o, cut, at, mem));
		if (at >= VMBUS__STATE_HEAD)
			mend(cut, at);
		(void)try_state(o, cut, at, mem); /* between two channels it is one less */
		free(cut);
	}
	memcpy(o->f.mem, mem, OLD_PAGES * FAKE_PAGE);
	must(try_state(o, o->state, o->bytes, mem));
	fake_create(&o->f);
	old_free(o);
	free(mem);
	free(copy);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "changed", 60);

	tcase_add_test(tc, vmbus_bus_restore__sections_of_a_later_version);
	tcase_add_test(tc, vmbus_bus_restore__text_of_a_state_is_printable);
	tcase_add_loop_test(tc, lesson_37_every_byte_of_a_bus_changed, 0, OLD_SESSIONS);
}
VMBUS_TEST_MAIN("bus.save_changed", tests)
