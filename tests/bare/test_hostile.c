/* SPDX-License-Identifier: MIT */
/*
 * A parent that lies to a guest without an operating system: in the message slot, the event flags,
 * the clock and the results of hypercalls.  Lies in the rings are the business of tests/guest.  The guest goes on, or says so; it neither
 * faults nor loops.
 */
#include "machine.h"

#define SECOND_NS 1000000000ull
#define MESSAGES 2u /* pages of ours, in order */
#define FLAGS 3u
#define TSC 4u
#define SLOT (MESSAGES * PAGE + 2 * 256) /* [SYNIC-MESSAGE] */
#define EOM 0x40000084u

static uint32_t seed = 4711;

static uint32_t roll(void)
{
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

static uint64_t roll64(void)
{
	return (uint64_t)roll() << 40 ^ (uint64_t)roll() << 20 ^ roll();
}

static void put32(struct machine *m, size_t at, uint32_t v)
{
	memcpy(m->mem + at, &v, 4);
}

static uint32_t get32(const struct machine *m, size_t at)
{
	uint32_t v;

	memcpy(&v, m->mem + at, 4);
	return v;
}

/* Every length that the slot's field can have, with and without more waiting. */
START_TEST(bare_receive__takes_no_more_than_a_slot_has)
{
	struct machine *const m = machine_new();
	uint8_t payload[240 + 16];
	uint32_t size, type, bytes, i;

	must_eq(machine_init(m), 0);
	for (size = 0; size < 512; size++) {
		vmbus_test_at("size %u", size);
		memset(m->mem + SLOT, 0x5A, 256);
		memset(payload, 0xEE, sizeof(payload));
		put32(m, SLOT, 1);
		put32(m, SLOT + 4, size); /* bit 8 is the one for more */
		m->writes_n = 0;
		type = bytes = 9999;
		if ((size & 255u) <= 240) {
			must_eq(be()->receive(&m->bare, &type, payload, &bytes), 1);
			must_eq(type, 1);
			must_eq(bytes, size & 255u);
		} else {
			must_eq(be()->receive(&m->bare, &type, payload, &bytes), 0);
			must_eq(bytes, 9999);
		}
		for (i = bytes == 9999 ? 0 : bytes; i < sizeof(payload); i++)
			must_eq(payload[i], 0xEE);
		must_eq(get32(m, SLOT), 0); /* it is free again */
		must_eq(m->writes_n, size >> 8);
		must(!m->writes_n || m->writes[0].msr == EOM);
	}
	must_eq(machine_stats(m).bad_messages, 2 * 15);
	must_eq(machine_stats(m).eoms, 256);
	must_eq(machine_stats(m).messages, 2 * 241);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

START_TEST(bare_flags__takes_each_once)
{
	struct machine *const m = machine_new();
	uint32_t i;

	must_eq(machine_init(m), 0);
	memset(m->mem + FLAGS * PAGE, 0xFF, PAGE);
	for (i = 0; i < 40; i++)
		must(be()->flags(&m->bare, i) == (i < 32 ? UINT64_MAX : 0));
	for (i = 0; i < 40; i++)
		must_eq(be()->flags(&m->bare, i), 0);
	must_eq(m->mem[FLAGS * PAGE + 511], 0xFF); /* of SINT 1: not ours */
	must_eq(m->mem[FLAGS * PAGE + 768], 0xFF); /* of SINT 3 */
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

/* Whatever the word in RAX: a post tells a status, a signal that it may be tried again. */
START_TEST(bare_post__takes_any_result)
{
	static const uint64_t results[] = { 0,		0x13, 0xFFFF, 0x10000,	    UINT64_MAX,
					    1ull << 63, 0xB,  0x12,   0xFFFFFFFFull };
	struct machine *const m = machine_new();
	const uint8_t payload[240] = { 0 };
	uint32_t i;

	must_eq(machine_init(m), 0);
	for (i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		m->status = results[i];
		m->statuses = 2;
		must_eq(be()->post(&m->bare, 1, 1, payload, 240), results[i] & 0xFFFFu);
		must_eq(be()->signal(&m->bare, 0x2001, 0),
			results[i] & 0xFFFFu ? VMBUS_E_AGAIN : 0);
	}
	must_eq(machine_stats(m).posts, i);
	must_eq(machine_stats(m).signals, i);
	/* What the guest itself gets wrong makes no call. */
	must_eq(be()->post(&m->bare, 1, 1, payload, 241), VMBUS_E_RANGE);
	must_eq(be()->post(&m->bare, 1u << 24, 1, payload, 8), VMBUS_E_RANGE);
	must_eq(machine_stats(m).posts, i);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

/* A parent that has no port for us, and one that is always out of buffers. */
START_TEST(bare__is_told_that_it_cannot_connect)
{
	static const uint32_t statuses[] = { 0x12, 0x13, 0xB, 0x6, 0xFFFF };
	struct machine *const m = machine_new();
	int err;

	must_eq(machine_init(m), 0);
	machine_guest(m);
	m->status = statuses[_i];
	m->statuses = UINT32_MAX;
	must_eq(vmbus_guest_connect(m->guest), 0);
	err = vmbus_guest_wait(m->guest, VMBUS_GUEST_CONNECTED, 20 * SECOND_NS);
	must(err == VMBUS_E_AGAIN || err == VMBUS_E_PEER);
	must(machine_stats(m).posts < 100000);
	vmbus_guest_destroy(m->guest);
	must_eq(machine_stats(m).pages, 0);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

/* A clock of random words: time may stand or leap, it does not go back. */
START_TEST(bare_time__of_a_lying_page)
{
	struct machine *const m = machine_new();
	uint64_t last = 0, now;
	uint32_t i;

	must_eq(machine_init(m), 0);
	for (i = 0; i < 10000; i++) {
		const uint64_t words[3] = { roll() % 3, roll64(), roll64() };

		memcpy(m->mem + TSC * PAGE, words, sizeof(words));
		m->now += roll() % 1000;
		now = be()->time(&m->bare);
		must(now >= last);
		last = now;
	}
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

/* ---- everything at once ---- */

static void lie(struct machine *m)
{
	const uint32_t what = roll() % 64;
	size_t at;

	if (what < 40)
		return;
	if (what < 48) {
		m->mem[FLAGS * PAGE + roll() % PAGE] = (uint8_t)roll();
	} else if (what < 52) {
		for (at = 0; at < 256; at += 4)
			put32(m, SLOT + at, roll());
		put32(m, SLOT, roll() % 3);
		m->mem[SLOT + 16] = (uint8_t)(roll() % 32);
	} else if (what < 56) {
		put32(m, SLOT + (roll() % 64) * 4, roll() % 8);
	} else if (what < 58) {
		put32(m, TSC * PAGE, roll() % 2);
	} else {
		m->status = roll() % 0x20;
		m->statuses = roll() % 4;
	}
	if (roll() % 8 == 0)
		machine_irq(m, VMBUS_BARE_VECTOR);
}

static void nothing(void *ctx, int err)
{
	(void)err;
	++*(unsigned *)ctx;
}

static void try_echo(struct machine *m, struct vmbus_echo *echo, unsigned *done)
{
	struct vmbus_echo_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_vsc *const vsc = vmbus_vsc_find(m->guest, &echo_class, 0);

	opts.packets = 200;
	opts.done = nothing;
	opts.ctx = done;
	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = 4096;
	opts.open.recv_bytes = 4096;
	if (vsc && vmbus_vsc_state(vsc) == VMBUS_VSC_OFFERED)
		(void)vmbus_echo_start(echo, vsc, &opts);
}

static void live_with(struct machine *m)
{
	static struct vmbus_echo echo;
	unsigned done = 0;
	uint32_t turn;

	machine_guest(m);
	(void)vmbus_guest_connect(m->guest);
	for (turn = 0; turn < 3000; turn++) {
		const int did = vmbus_guest_dispatch(m->guest, 32);

		must(did >= 0);
		if (turn % 64 == 0)
			try_echo(m, &echo, &done);
		if (turn % 500 == 499)
			(void)vmbus_guest_disconnect(m->guest);
		if (vmbus_guest_state(m->guest) == VMBUS_GUEST_IDLE)
			(void)vmbus_guest_connect(m->guest);
		if (did == 0)
			(void)be()->idle(&m->bare, SECOND_NS / 100);
	}
	vmbus_guest_destroy(m->guest);
	must_eq(machine_stats(m).bad_releases, 0);
}

/* The same parent may be honest to the next guest, over the same memory. */
START_TEST(bare__lives_with_a_liar)
{
	struct machine *const m = machine_new();
	uint32_t i;

	seed = 4711u + (uint32_t)_i * 7919u;
	for (i = 0; i < 3; i++)
		must_eq(vmbus_bus_offer(m->bus, vmbus_echo_vsp(), NULL, NULL, NULL), 0);
	m->opts.poll = _i % 2 != 0;
	must_eq(machine_init(m), 0);
	m->meddle = lie;
	live_with(m);
	m->meddle = NULL;
	m->statuses = 0;
	vmbus_bare_fini(&m->bare);
	vmbus_bus_reset(m->bus);
	(void)machine_turn(m);
	m->opts.poll = false;
	must_eq(machine_init(m), 0);
	machine_guest(m);
	must_eq(vmbus_guest_connect(m->guest), 0);
	must_eq(vmbus_guest_wait(m->guest, VMBUS_GUEST_CONNECTED, 10 * SECOND_NS), 0);
	vmbus_guest_destroy(m->guest);
	must_eq(machine_stats(m).pages, 0);
	vmbus_bare_fini(&m->bare);
	machine_free(m);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "backend", 10);

	tcase_add_test(tc, bare_receive__takes_no_more_than_a_slot_has);
	tcase_add_test(tc, bare_flags__takes_each_once);
	tcase_add_test(tc, bare_post__takes_any_result);
	tcase_add_test(tc, bare_time__of_a_lying_page);
	tc = vmbus_test_case(suite, "guest", 20);
	tcase_add_loop_test(tc, bare__is_told_that_it_cannot_connect, 0, 5);
	tcase_add_loop_test(tc, bare__lives_with_a_liar, 0, 20);
}

VMBUS_TEST_MAIN("bare.hostile", tests)
