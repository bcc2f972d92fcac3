/* SPDX-License-Identifier: MIT */
/*
 * A guest that moves its SynIC pages while the parent posts and raises: src/hypercall/synic.c.  The
 * move comes at chosen loads of the parent's, or from a thread of its own.
 */
#include <pthread.h>
#include <sched.h>

#include "synicbox.h"

static _Alignas(4096) uint8_t others[2][4096];

static void move_to(uint8_t *message_page, uint8_t *flags_page, uint64_t gpa)
{
	must(wr(SIMP, gpa | 1) >= 0);
	must(wr(SIEFP, (gpa + 0x1000) | 1) >= 0);
	vmbus_synic_set_pages(&synic, message_page, flags_page, NULL, 0, 0);
}

static int take_from(uint8_t *page)
{
	memset(&got, 0, sizeof(got));
	return vmbus_synic_take(page, 2, &got, &eom);
}

#if defined(VMBUS_TEST_HOOKS)
static struct {
	const volatile void *at; /* before this load, */
	uint32_t when;		 /* the nth from now, */
	void (*what)(void);	 /* this is done, once */
	uint32_t did;
	int ret;
} plan;

static void hook(const volatile void *p)
{
	if (p != plan.at || --plan.when)
		return;
	vmbus__test_hook = NULL;
	plan.did++;
	plan.what();
}

static void at_load(const volatile void *at, uint32_t when, void (*what)(void))
{
	memset(&plan, 0, sizeof(plan));
	plan.at = at;
	plan.when = when;
	plan.what = what;
	vmbus__test_hook = hook;
}

static void move_both(void)
{
	memset(others, 0xEE, sizeof(others));
	move_to(others[0], others[1], 0xB000);
}

static void disable_both(void)
{
	must(wr(SIMP, GPA_MESSAGES) >= 0);
	must(wr(SIEFP, GPA_FLAGS) >= 0);
	vmbus_synic_set_pages(&synic, NULL, NULL, NULL, 0, 0);
}

static void raise_one(void)
{
	plan.ret = raise_flag(2, 5);
}

static void post_one(void)
{
	plan.ret = post(2);
}

/* The raise knows the old page when it moves: before its OR, or after it. */
START_TEST(synic_raise__into_a_page_that_moves)
{
	fresh();
	if (_i == 0)
		at_load(&synic.control_p, 1, move_both);
	else
		at_load(&synic.flags_p, 2, move_both);
	must_eq(raise_flag(2, 5), VMBUS_SYNIC_INTERRUPT);
	must_eq(arg, 0xF3);
	must_eq(plan.did, 1);
	must_eq(vmbus_synic_take_flags(others[1], 2, 0), 1u << 5);
	/* The same when it is taken away: it stays set there, so its interrupt comes. */
	fresh();
	at_load(&synic.flags_p, 2, disable_both);
	must_eq(raise_flag(2, 5), VMBUS_SYNIC_INTERRUPT);
	/* A page that is not there any more: dropped, and said. */
	fresh();
	at_load(&synic.control_p, 1, disable_both);
	must_eq(raise_flag(2, 5), VMBUS_E_AGAIN);
}
END_TEST

/* Raised by another while its words are carried: at the last of them, past all that was looked at. */
START_TEST(synic_raise__while_flags_are_carried)
{
	fresh();
	must_eq(raise_flag(15, 2047), 0);
	at_load(flags + 4088, 1, raise_one);
	move_both();
	must_eq(plan.did, 1);
	must_eq(plan.ret, VMBUS_SYNIC_INTERRUPT);
	must_eq(vmbus_synic_take_flags(others[1], 2, 0), 1u << 5);
	must_eq(vmbus_synic_take_flags(others[1], 15, 31), 1ull << 63);
	must_eq(vmbus_synic_take_flags(flags, 15, 31), 0);
}
END_TEST

/* The post knows the old page when it moves: before it writes, or after it. */
START_TEST(synic_post__into_a_page_that_moves)
{
	fresh();
	msg.bytes = 8;
	memset(msg.payload, 0x5A, 8);
	if (_i == 0)
		at_load(SLOT(2), 1, move_both);
	else
		at_load(&synic.messages_p, 2, move_both);
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	must_eq(plan.did, 1);
	must_eq(take_from(others[0]), 1);
	must_eq(got.bytes, 8);
	must_eq(got.payload[7], 0x5A);
	must_eq(slot_word(2, 0), 0); /* and not twice */
	fresh();
	at_load(SLOT(2), 1, disable_both);
	must_eq(post(2), VMBUS_E_AGAIN); /* to be posted again */
	must_eq(slot_word(2, 0), 0);
}
END_TEST

/* Posted while slots are carried: it waits, and takes no slot that a message of before is to get. */
START_TEST(synic_post__while_messages_are_carried)
{
	fresh();
	msg.sender = 1;
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	msg.sender = 2;
	at_load(SLOT(15), 1, post_one);
	move_both();
	must_eq(plan.did, 1);
	must_eq(plan.ret, VMBUS_E_AGAIN);
	must_eq(take_from(others[0]), 1);
	must_eq(got.sender, 1);
	must_eq(take_from(others[0]), 0);
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	must_eq(take_from(others[0]), 1);
	must_eq(got.sender, 2);
}
END_TEST
#endif

#define ROUNDS 3000u

static struct {
	vmbus__a32 go, done;
	int raised, posted;
} race;

/* One event and one message for each move. */
static void *raise_and_post(void *unused)
{
	uint32_t n, vector;

	for (n = 1; n <= ROUNDS; n++) {
		while (vmbus__ld32_acquire(&race.go) != n)
			sched_yield();
		race.raised = vmbus_synic_raise(&synic, 2, 5, &vector);
		race.posted = vmbus_synic_post(&synic, 2, &msg, false, &vector);
		vmbus__st32_release(&race.done, n);
	}
	return unused;
}

/* What was told of is in the new page, once both are done. */
START_TEST(synic_set_pages__beside_post_and_raise)
{
	uint8_t *const page[2][2] = { { messages, flags }, { others[0], others[1] } };
	pthread_t thread;
	volatile uint32_t spin;
	uint32_t n;

	fresh();
	msg.bytes = 8;
	must_eq(pthread_create(&thread, NULL, raise_and_post, NULL), 0);
	for (n = 1; n <= ROUNDS; n++) {
		uint8_t *const *const to = page[n % 2];

		vmbus_test_at("round %u", n);
		vmbus__st32_release(&race.go, n);
		for (spin = n % 1000; spin > 0; spin--)
			;
		move_to(to[0], to[1], n % 2 ? 0xB000 : GPA_MESSAGES);
		while (vmbus__ld32_acquire(&race.done) != n)
			sched_yield();
		must_eq(race.raised, VMBUS_SYNIC_INTERRUPT);
		must_eq(vmbus_synic_take_flags(to[1], 2, 0), 1u << 5);
		if (race.posted == VMBUS_E_AGAIN)
			race.posted = post(2); /* as SLOT_FREE says */
		must_eq(race.posted, VMBUS_SYNIC_INTERRUPT);
		must_eq(take_from(to[0]), 1);
		must_eq(take_from(to[0]), 0);
	}
	must_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "move", 30);

#if defined(VMBUS_TEST_HOOKS)
	tcase_add_loop_test(tc, synic_raise__into_a_page_that_moves, 0, 2);
	tcase_add_test(tc, synic_raise__while_flags_are_carried);
	tcase_add_loop_test(tc, synic_post__into_a_page_that_moves, 0, 2);
	tcase_add_test(tc, synic_post__while_messages_are_carried);
#endif
	tcase_add_test(tc, synic_set_pages__beside_post_and_raise);
}

VMBUS_TEST_MAIN("hypercall.synic_move", tests)
