/* SPDX-License-Identifier: MIT */
/*
 * The SynIC of one VP and the child's steps on its pages: src/hypercall/synic.c.  Peers that lie are
 * in test_synic_liars.c, threads in test_synic_threads.c.
 */
#include "synicbox.h"

static _Alignas(4096) uint8_t moved[4096];
static uint64_t bitmap[1];
static const struct vmbus_dirty dirty = { .bitmap = bitmap, .frames = 64 };

/* [SYNIC-MSR]: what a VP has after reset. */
START_TEST(synic_reset__values)
{
	uint64_t v;
	uint32_t msr;

	memset(&synic, 0xA5, sizeof(synic));
	vmbus_synic_reset(&synic);
	must_eq(reg(SCONTROL), 1);
	must_eq(reg(SVERSION), 1);
	must_eq(reg(SIEFP), 0);
	must_eq(reg(SIMP), 0);
	must_eq(reg(EOM), 0);
	must_eq(reg(VP_ASSIST), 0);
	for (msr = 0; msr < VMBUS_SINTS; msr++)
		must_eq(reg(SINT0 + msr), MASKED);
	must_eq(vmbus_synic_simp(&synic), UINT64_MAX);
	must_eq(vmbus_synic_siefp(&synic), UINT64_MAX);
	for (msr = 0x40000000; msr < 0x40000200; msr++) {
		const bool ours = (msr >= SCONTROL && msr <= EOM) || msr == VP_ASSIST ||
				  (msr >= SINT0 && msr < SINT0 + 16);

		vmbus_test_at("MSR 0x%x", msr);
		must_eq(vmbus_synic_msr_read(&synic, msr, &v), ours ? 0 : VMBUS_E_NOTSUP);
		if (!ours)
			must_eq(vmbus_synic_msr_write(&synic, msr, 0, msr & 1), VMBUS_E_NOTSUP);
	}
	must_eq(vmbus_synic_msr_read(&synic, 0x10, &v), VMBUS_E_NOTSUP);
	must_eq(vmbus_synic_msr_read(&synic, 0xC0000080, &v), VMBUS_E_NOTSUP);
}
END_TEST

/* What a write does, from [SYNIC-MSR] anew: expected value and answer. */
static int ref_write(uint32_t msr, uint64_t old, uint64_t value, bool host, uint64_t *now)
{
	const uint64_t page_bits = ~(uint64_t)0xFFE;

	*now = value;
	if (msr >= SINT0) {
		const bool open = !(value & MASKED) || (value & POLLING);
		const bool was = !(old & MASKED) || (old & POLLING);

		if (!host && !(value & MASKED) && (value & 0xFF) < 16) {
			*now = old;
			return VMBUS_E_INVAL;
		}
		return open && !was ? VMBUS_SYNIC_SLOT_FREE : 0;
	}
	switch (msr) {
	case SCONTROL:
		return (value & 1) && !(old & 1) ? VMBUS_SYNIC_SLOT_FREE : 0;
	case SVERSION:
		*now = 1;
		return host && value == 1 ? 0 : VMBUS_E_INVAL;
	case SIEFP:
	case SIMP:
		if (!((old | value) & 1) || ((old ^ value) & page_bits) == 0)
			return 0;
		return VMBUS_SYNIC_PAGES | (msr == SIMP && (value & 1) ? VMBUS_SYNIC_SLOT_FREE : 0);
	case EOM:
		*now = 0;
		return host ? 0 : VMBUS_SYNIC_SLOT_FREE;
	default:
		return 0;
	}
}

static const uint32_t msrs[] = { VP_ASSIST,  SCONTROL,	 SVERSION,   SIEFP,	 SIMP,
				 EOM,	     SINT0,	 SINT0 + 1,  SINT0 + 2,	 SINT0 + 3,
				 SINT0 + 4,  SINT0 + 5,	 SINT0 + 6,  SINT0 + 7,	 SINT0 + 8,
				 SINT0 + 9,  SINT0 + 10, SINT0 + 11, SINT0 + 12, SINT0 + 13,
				 SINT0 + 14, SINT0 + 15 };

/* Every register, from several values, every single bit set and cleared, by guest and by host. */
START_TEST(synic_msr_write__every_register_and_bit)
{
	static const uint64_t from[] = { 0, 1, 0xF3, 0x10000, 0x500F3, 0x70000, 0x7001, ~0ull };
	unsigned int m, f, bit, host;
	uint64_t before, now;

	for (m = 0; m < COUNT(msrs); m++)
		for (f = 0; f < COUNT(from); f++)
			for (bit = 0; bit < 64; bit++)
				for (host = 0; host < 2; host++) {
					const uint64_t value = from[f] ^ (uint64_t)1 << bit;
					int expect;

					vmbus_test_at("MSR 0x%x, 0x%" PRIx64 ", host %u", msrs[m],
						      value, host);
					vmbus_synic_reset(&synic);
					(void)vmbus_synic_msr_write(&synic, msrs[m], from[f], true);
					before = reg(msrs[m]);
					expect = ref_write(msrs[m], before, value, host, &now);
					must_eq(vmbus_synic_msr_write(&synic, msrs[m], value, host),
						expect);
					must_eq(reg(msrs[m]), now);
				}
}
END_TEST

START_TEST(synic_msr_write__leaves_the_others)
{
	unsigned int m, n;

	for (m = 0; m < COUNT(msrs); m++) {
		vmbus_synic_reset(&synic);
		(void)wr(msrs[m], 0x12300F1);
		for (n = 0; n < COUNT(msrs); n++)
			if (n != m)
				must_eq(reg(msrs[n]), msrs[n] >= SINT0 ? MASKED
						      : msrs[n] == SCONTROL || msrs[n] == SVERSION
							      ? 1
							      : 0);
	}
}
END_TEST

/* The vectors of a SINT: 16 to 255 unless it is masked. */
START_TEST(synic_msr_write__vectors)
{
	uint32_t vector;

	vmbus_synic_reset(&synic);
	for (vector = 0; vector < 256; vector++) {
		must_eq(wr(SINT0 + 5, MASKED | vector) < 0, 0);
		must_eq(wr(SINT0 + 5, vector) == VMBUS_E_INVAL, vector < 16);
		must_eq(wr(SINT0 + 5, MASKED) < 0, 0);
		must_eq(wr(SINT0 + 5, POLLING | AUTO_EOI | vector) == VMBUS_E_INVAL, vector < 16);
		must_eq(wr(SINT0 + 5, MASKED) < 0, 0);
		must_eq(vmbus_synic_msr_write(&synic, SINT0 + 5, vector, true) < 0, 0);
		must_eq(wr(SINT0 + 5, MASKED) < 0, 0);
	}
}
END_TEST

/* The steps of a Linux guest at boot, read-modify-write, section 5.2. */
START_TEST(synic_msr_write__linux_boot)
{
	vmbus_synic_reset(&synic);
	must_eq(wr(VP_ASSIST, 0x5001), 0);
	must_eq(wr(SIMP, reg(SIMP) | 0x1234001), VMBUS_SYNIC_PAGES | VMBUS_SYNIC_SLOT_FREE);
	must_eq(vmbus_synic_simp(&synic), 0x1234000);
	must_eq(wr(SIEFP, reg(SIEFP) | 0x1235001), VMBUS_SYNIC_PAGES);
	must_eq(vmbus_synic_siefp(&synic), 0x1235000);
	set_pages();
	must_eq(wr(SINT0 + 2, 0xF3), VMBUS_SYNIC_SLOT_FREE);
	must_eq(wr(SCONTROL, reg(SCONTROL) | 1), 0);
	must_eq(post(2), VMBUS_E_INVAL); /* type 0 */
	msg.type = 1;
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	must_eq(arg, 0xF3);
	must_eq(reg(VP_ASSIST), 0x5001);
}
END_TEST

/* [SYNIC-MESSAGE]: every byte of a slot; nothing beside it. */
START_TEST(synic_post__bytes_of_the_slot)
{
	uint32_t sint, i;

	for (sint = 0; sint < VMBUS_SINTS; sint++) {
		fresh();
		must_eq(vmbus_synic_msr_write(&synic, SINT0 + sint, 0x30 + sint, true) < 0, 0);
		for (i = 0; i < 4096; i++)
			must_eq(messages[i], 0);
		msg.type = 0x80000010;
		msg.bytes = 24;
		msg.sender = 0x0807060504030201;
		for (i = 0; i < 24; i++)
			msg.payload[i] = (uint8_t)(i + 1);
		must_eq(vmbus_synic_post(&synic, sint, &msg, true, &arg), VMBUS_SYNIC_INTERRUPT);
		must_eq(arg, 0x30 + sint);
		must_eq(slot_word(sint, 0), 0x80000010);
		must_eq(slot_word(sint, 4), 24 | 0x100);
		for (i = 0; i < 8; i++)
			must_eq(SLOT(sint)[8 + i], i + 1);
		for (i = 0; i < 24; i++)
			must_eq(SLOT(sint)[16 + i], i + 1);
		for (i = 0; i < 4096; i++)
			must(messages[i] == 0 || i / 256 == sint);
		must_eq(vmbus_synic_take(messages, sint, &got, &eom), 1);
		must(eom);
		must_eq(got.type, 0x80000010);
		must_eq(got.bytes, 24);
		must_eq(got.sender, 0x0807060504030201);
		must(memcmp(got.payload, msg.payload, 24) == 0);
		must_eq(slot_word(sint, 0), 0);
	}
}
END_TEST

START_TEST(synic_post__every_length)
{
	uint32_t bytes, i;

	fresh();
	for (bytes = 0; bytes <= 240; bytes++) {
		msg.bytes = bytes;
		for (i = 0; i < 240; i++)
			msg.payload[i] = (uint8_t)(bytes + i);
		must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
		must_eq(take(2), 1);
		must(!eom);
		must_eq(got.bytes, bytes);
		must(memcmp(got.payload, msg.payload, bytes) == 0);
		for (i = bytes; i < 240; i++)
			must_eq(got.payload[i], 0); /* not written */
	}
	must_eq(take(2), 0);
	must(!eom);
}
END_TEST

START_TEST(synic_post__refusals)
{
	fresh();
	must_eq(post(16), VMBUS_E_RANGE);
	must_eq(post(UINT32_MAX), VMBUS_E_RANGE);
	msg.bytes = 241;
	must_eq(post(2), VMBUS_E_RANGE);
	msg.bytes = 0;
	msg.type = 0;
	must_eq(post(2), VMBUS_E_INVAL);
	must_eq(slot_word(2, 0), 0);
	must_eq(arg, 0);
}
END_TEST

/* [SYNIC-SLOT]: a taken slot gets the pending flag; the guest's EOM frees it for the next. */
START_TEST(synic_post__slot_taken)
{
	fresh();
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	must_eq(slot_word(2, 4), 0);
	msg.bytes = 8;
	must_eq(post(2), VMBUS_E_AGAIN);
	must_eq(slot_word(2, 4), 0x100); /* the length of the first is as it was */
	must_eq(slot_word(2, 0), 1);
	must_eq(post(2), VMBUS_E_AGAIN);
	must_eq(take(2), 1);
	must(eom);
	must_eq(got.bytes, 0);
	must_eq(wr(EOM, 0), VMBUS_SYNIC_SLOT_FREE);
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	must_eq(slot_word(2, 4), 8); /* no message waits any more */
	must_eq(take(2), 1);
	must(!eom);
	must_eq(wr(EOM, 0), VMBUS_SYNIC_SLOT_FREE); /* with nothing queued: ignored by the caller */
	must_eq(post(3), VMBUS_E_AGAIN);	    /* SINT 3 is masked; slots are independent */
}
END_TEST

/* Each way to be off keeps the message; what turns it on says so. */
START_TEST(synic_post__off)
{
	static const struct {
		uint32_t msr;
		uint64_t off, on;
		int answer;
	} cases[] = {
		{ SCONTROL, 0, 1, VMBUS_SYNIC_SLOT_FREE },
		{ SCONTROL, 0xFFFFFFFE, 0xFFFFFFFF, VMBUS_SYNIC_SLOT_FREE },
		{ SIMP, GPA_MESSAGES, GPA_MESSAGES | 1, VMBUS_SYNIC_PAGES | VMBUS_SYNIC_SLOT_FREE },
		{ SINT0 + 2, MASKED | 0xF3, 0xF3, VMBUS_SYNIC_SLOT_FREE },
		{ SINT0 + 2, MASKED, POLLING | MASKED, VMBUS_SYNIC_SLOT_FREE },
	};
	unsigned int i;

	for (i = 0; i < COUNT(cases); i++) {
		vmbus_test_at("case %u", i);
		fresh();
		must(wr(cases[i].msr, cases[i].off) >= 0);
		must_eq(post(2), VMBUS_E_AGAIN);
		must_eq(slot_word(2, 0), 0);
		must_eq(wr(cases[i].msr, cases[i].on), cases[i].answer);
		must(post(2) >= 0);
		must_eq(slot_word(2, 0), 1);
	}
	fresh();
	vmbus_synic_set_pages(&synic, NULL, NULL, NULL, 0, 0);
	must_eq(post(2), VMBUS_E_AGAIN);
	must_eq(raise_flag(2, 1), VMBUS_E_AGAIN);
}
END_TEST

/* [SYNIC-MSR]: what the bits of a SINT do to messages and to events. */
START_TEST(synic__mask_polling_auto_eoi)
{
	static const struct {
		uint64_t sint;
		int message, event;
		uint32_t arg;
	} cases[] = {
		{ 0xF3, VMBUS_SYNIC_INTERRUPT, VMBUS_SYNIC_INTERRUPT, 0xF3 },
		{ 0x10, VMBUS_SYNIC_INTERRUPT, VMBUS_SYNIC_INTERRUPT, 0x10 },
		{ 0xFF, VMBUS_SYNIC_INTERRUPT, VMBUS_SYNIC_INTERRUPT, 0xFF },
		{ AUTO_EOI | 0xF3, VMBUS_SYNIC_INTERRUPT, VMBUS_SYNIC_INTERRUPT, 0x1F3 },
		{ POLLING | 0xF3, 0, 0, 0xF3 },
		{ POLLING | MASKED | 0xF3, 0, 0, 0xF3 },
		{ MASKED | 0xF3, VMBUS_E_AGAIN, 0, 0xF3 },
		{ 0x0F, 0, 0, 0x0F }, /* as a host may restore it: no such interrupt */
		{ 0, 0, 0, 0 },
		{ 0xFFFFFFFFFFE00000 | 0xF3, VMBUS_SYNIC_INTERRUPT, VMBUS_SYNIC_INTERRUPT, 0xF3 },
	};
	unsigned int i;

	for (i = 0; i < COUNT(cases); i++) {
		vmbus_test_at("SINT 0x%" PRIx64, cases[i].sint);
		fresh();
		must(vmbus_synic_msr_write(&synic, SINT0 + 2, cases[i].sint, true) >= 0);
		must_eq(post(2), cases[i].message);
		if (cases[i].message == (int)VMBUS_SYNIC_INTERRUPT)
			must_eq(arg, cases[i].arg);
		must_eq(raise_flag(2, 77), cases[i].event);
		must_eq(arg, cases[i].arg);
		/* Masked or not, the flag is set. */
		must_eq(vmbus_synic_take_flags(flags, 2, 1), 1ull << 13);
	}
}
END_TEST

/* [SYNIC-EVENT]: byte and bit of each flag, section 9; an interrupt only when it was clear. */
START_TEST(synic_raise__every_flag)
{
	uint32_t sint, flag, i;

	fresh();
	for (sint = 0; sint < VMBUS_SINTS; sint++)
		must(vmbus_synic_msr_write(&synic, SINT0 + sint, 0x40 + sint, true) >= 0);
	for (sint = 0; sint < VMBUS_SINTS; sint += 5)
		for (flag = 0; flag < VMBUS_SYNIC_FLAGS; flag++) {
			vmbus_test_at("SINT %u, flag %u", sint, flag);
			must_eq(raise_flag(sint, flag), VMBUS_SYNIC_INTERRUPT);
			must_eq(arg, 0x40 + sint);
			must_eq(flags[sint * 256 + flag / 8], 1 << (flag % 8));
			must_eq(raise_flag(sint, flag), 0);
			for (i = 0; i < 32; i++)
				must_eq(vmbus_synic_take_flags(flags, sint, i),
					i == flag / 64 ? 1ull << (flag % 64) : 0);
			must_eq(flags[sint * 256 + flag / 8], 0);
		}
	must_eq(raise_flag(2, 1), VMBUS_SYNIC_INTERRUPT);
	must_eq(flags[0x200], 2);
	must_eq(raise_flag(2, 100), VMBUS_SYNIC_INTERRUPT);
	must_eq(flags[0x20C], 0x10);
	must_eq(raise_flag(2, 2047), VMBUS_SYNIC_INTERRUPT);
	must_eq(flags[0x2FF], 0x80);
}
END_TEST

START_TEST(synic_raise__refusals_and_off)
{
	fresh();
	must_eq(raise_flag(16, 1), VMBUS_E_RANGE);
	must_eq(raise_flag(UINT32_MAX, 1), VMBUS_E_RANGE);
	must_eq(raise_flag(2, 2048), VMBUS_E_RANGE);
	must_eq(raise_flag(2, UINT32_MAX), VMBUS_E_RANGE);
	must_eq(wr(SCONTROL, 0), 0);
	must_eq(raise_flag(2, 1), VMBUS_E_AGAIN);
	must_eq(wr(SCONTROL, 1), VMBUS_SYNIC_SLOT_FREE);
	must_eq(wr(SIEFP, GPA_FLAGS), VMBUS_SYNIC_PAGES);
	must_eq(raise_flag(2, 1), VMBUS_E_AGAIN);
	must_eq(vmbus_synic_take_flags(flags, 2, 0), 0);
}
END_TEST

START_TEST(synic_take_flags__stays_in_its_area)
{
	static _Alignas(4096) uint8_t two[2][4096];

	memset(two, 0xFF, sizeof(two));
	must_eq(vmbus_synic_take_flags(two[0], 16, 0), 0);
	must_eq(vmbus_synic_take_flags(two[0], UINT32_MAX, 0), 0);
	must_eq(vmbus_synic_take_flags(two[0], 2, 32), 0);
	must_eq(vmbus_synic_take_flags(two[0], 2, UINT32_MAX), 0);
	must(vmbus_synic_take_flags(two[0], 15, 31) == UINT64_MAX);
	must_eq(two[0][4096 - 9], 0xFF);
	must_eq(two[0][4096 - 8], 0);
	must_eq(two[1][0], 0xFF);
}
END_TEST

/*
 * Lesson 4: an event that comes before its receiver has unmasked is not lost: the flag is there when
 * the receiver looks, which it does after it unmasks.
 */
START_TEST(lesson_04_event_before_unmask)
{
	fresh();
	must(wr(SINT0 + 2, MASKED | 0xF3) >= 0);
	must_eq(raise_flag(2, 5), 0);
	must_eq(wr(SINT0 + 2, 0xF3), VMBUS_SYNIC_SLOT_FREE);
	must_eq(vmbus_synic_take_flags(flags, 2, 0), 1u << 5);
	must_eq(raise_flag(2, 5), VMBUS_SYNIC_INTERRUPT);
}
END_TEST

/* Lesson 5: and one that comes before the page is there is refused, not swallowed silently. */
START_TEST(lesson_05_event_before_the_page)
{
	vmbus_synic_reset(&synic);
	must_eq(raise_flag(2, 5), VMBUS_E_AGAIN);
	must_eq(wr(SIEFP, GPA_FLAGS | 1), VMBUS_SYNIC_PAGES);
	must_eq(raise_flag(2, 5), VMBUS_E_AGAIN); /* not mapped yet */
	set_pages();
	must_eq(wr(SINT0 + 2, 0xF3), VMBUS_SYNIC_SLOT_FREE);
	must_eq(raise_flag(2, 5), VMBUS_SYNIC_INTERRUPT);
}
END_TEST

/* Pages are zeroed at the first enable after reset, and their content goes with them later. */
START_TEST(synic_set_pages__zeroes_once_and_carries_over)
{
	uint32_t i;

	fresh();
	for (i = 0; i < 4096; i++)
		must_eq(messages[i] | flags[i], 0);
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	must_eq(raise_flag(2, 9), VMBUS_SYNIC_INTERRUPT);
	set_pages(); /* the same again */
	must_eq(slot_word(2, 0), 1);
	must_eq(wr(SIMP, GPA_MESSAGES), VMBUS_SYNIC_PAGES); /* off and on in its place */
	vmbus_synic_set_pages(&synic, NULL, flags, NULL, 0, 0);
	must_eq(wr(SIMP, GPA_MESSAGES | 1), VMBUS_SYNIC_PAGES | VMBUS_SYNIC_SLOT_FREE);
	set_pages();
	must_eq(slot_word(2, 0), 1);
	memset(moved, 0xEE, sizeof(moved)); /* moved while mapped: goes with it */
	must_eq(wr(SIMP, 0xB001), VMBUS_SYNIC_PAGES | VMBUS_SYNIC_SLOT_FREE);
	vmbus_synic_set_pages(&synic, moved, flags, NULL, 0, 0);
	must_eq(slot_word(2, 0), 0);
	must_eq(vmbus_synic_take(moved, 2, &got, &eom), 1);
	memset(messages, 0xEE, sizeof(messages)); /* moved over nothing: empty */
	vmbus_synic_set_pages(&synic, NULL, flags, NULL, 0, 0);
	must_eq(wr(SIMP, GPA_MESSAGES | 1), VMBUS_SYNIC_PAGES | VMBUS_SYNIC_SLOT_FREE);
	set_pages();
	for (i = 0; i < 4096; i++)
		must_eq(messages[i], 0);
	must_eq(vmbus_synic_take_flags(flags, 2, 0), 1u << 9); /* the other page was left alone */
	vmbus_synic_reset(&synic);			       /* and zeroed again after a reset */
	memset(messages, 0xEE, sizeof(messages));
	must(wr(SIMP, GPA_MESSAGES | 1) >= 0);
	vmbus_synic_set_pages(&synic, messages, NULL, NULL, 0, 0);
	must_eq(messages[0] | messages[4095], 0);
}
END_TEST

START_TEST(synic_set_pages__flags_move_with_their_page)
{
	fresh();
	must_eq(raise_flag(2, 9), VMBUS_SYNIC_INTERRUPT);
	must_eq(raise_flag(15, 2047), 0);
	memset(moved, 0xEE, sizeof(moved));
	must_eq(wr(SIEFP, 0xB001), VMBUS_SYNIC_PAGES);
	vmbus_synic_set_pages(&synic, messages, moved, NULL, 0, 0);
	must_eq(vmbus_synic_take_flags(moved, 2, 0), 1u << 9);
	must_eq(vmbus_synic_take_flags(moved, 15, 31), 1ull << 63);
	must_eq(raise_flag(2, 9), VMBUS_SYNIC_INTERRUPT);
	must_eq(vmbus_synic_take_flags(moved, 2, 0), 1u << 9);
	must_eq(vmbus_synic_take_flags(flags, 2, 0), 0);
}
END_TEST

/* A page that the guest has not enabled is not written, though the embedder mapped it. */
START_TEST(synic_set_pages__leaves_disabled_pages_alone)
{
	uint32_t i;

	vmbus_synic_reset(&synic);
	memset(messages, 0xEE, sizeof(messages));
	memset(flags, 0xEE, sizeof(flags));
	set_pages();
	for (i = 0; i < 4096; i++)
		must(messages[i] == 0xEE && flags[i] == 0xEE);
}
END_TEST

/* Decision 20: each write of ours into the child's memory is marked. */
START_TEST(synic__marks_pages_that_it_writes)
{
	fresh();
	vmbus_synic_set_pages(&synic, messages, flags, &dirty, 7, 9);
	bitmap[0] = 0;
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	must_eq(bitmap[0], 1u << 7);
	bitmap[0] = 0;
	must_eq(post(2), VMBUS_E_AGAIN); /* the pending flag */
	must_eq(bitmap[0], 1u << 7);
	bitmap[0] = 0;
	must_eq(raise_flag(2, 3), VMBUS_SYNIC_INTERRUPT);
	must_eq(bitmap[0], 1u << 9);
	bitmap[0] = 0;
	must_eq(wr(SCONTROL, 0), 0);
	must_eq(post(2), VMBUS_E_AGAIN);
	must_eq(raise_flag(2, 3), VMBUS_E_AGAIN);
	must_eq(bitmap[0], 0);
	must_eq(wr(SCONTROL, 1), VMBUS_SYNIC_SLOT_FREE);
	must_eq(wr(SIMP, 0xB001), VMBUS_SYNIC_PAGES | VMBUS_SYNIC_SLOT_FREE);
	bitmap[0] = 0;
	vmbus_synic_set_pages(&synic, moved, flags, &dirty, 11, 9);
	must(bitmap[0] & 1u << 11);
	must(bitmap[0] & 1u << 7); /* its bytes were taken away from there */
	must_eq(wr(SIEFP, 0xC001), VMBUS_SYNIC_PAGES);
	bitmap[0] = 0;
	vmbus_synic_set_pages(&synic, moved, messages, &dirty, 11, 13);
	must((bitmap[0] & (1u << 13 | 1u << 9)) == (1u << 13 | 1u << 9));
}
END_TEST

START_TEST(synic_structs__sizes)
{
	must_eq(sizeof(struct vmbus_synic), 280);
	must_eq(sizeof(struct vmbus_synic_msg), 256);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "registers", 10);

	tcase_add_test(tc, synic_reset__values);
	tcase_add_test(tc, synic_msr_write__every_register_and_bit);
	tcase_add_test(tc, synic_msr_write__leaves_the_others);
	tcase_add_test(tc, synic_msr_write__vectors);
	tcase_add_test(tc, synic_msr_write__linux_boot);
	tcase_add_test(tc, synic_structs__sizes);
	tc = vmbus_test_case(suite, "messages", 10);
	tcase_add_test(tc, synic_post__bytes_of_the_slot);
	tcase_add_test(tc, synic_post__every_length);
	tcase_add_test(tc, synic_post__refusals);
	tcase_add_test(tc, synic_post__slot_taken);
	tcase_add_test(tc, synic_post__off);
	tcase_add_test(tc, synic__mask_polling_auto_eoi);
	tc = vmbus_test_case(suite, "events", 10);
	tcase_add_test(tc, synic_raise__every_flag);
	tcase_add_test(tc, synic_raise__refusals_and_off);
	tcase_add_test(tc, synic_take_flags__stays_in_its_area);
	tcase_add_test(tc, lesson_04_event_before_unmask);
	tcase_add_test(tc, lesson_05_event_before_the_page);
	tc = vmbus_test_case(suite, "pages", 10);
	tcase_add_test(tc, synic_set_pages__zeroes_once_and_carries_over);
	tcase_add_test(tc, synic_set_pages__flags_move_with_their_page);
	tcase_add_test(tc, synic_set_pages__leaves_disabled_pages_alone);
	tcase_add_test(tc, synic__marks_pages_that_it_writes);
}

VMBUS_TEST_MAIN("hypercall.synic", tests)
