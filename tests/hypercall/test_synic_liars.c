/* SPDX-License-Identifier: MIT */
/* A parent that lies to the child, and one that looks away at the wrong moment: synic.c. */
#include "synicbox.h"

/* A parent that lies about the length: refused, and the slot does not stay blocked. */
START_TEST(synic_take__length_past_the_slot)
{
	uint32_t bytes, i;

	memset(messages, 0, sizeof(messages));
	for (bytes = 0; bytes < 256; bytes++) {
		memset(&got, 0x33, sizeof(got));
		SLOT(15)[0] = 1;
		SLOT(15)[4] = (uint8_t)bytes;
		SLOT(15)[5] = bytes & 1;
		must_eq(vmbus_synic_take(messages, 15, &got, &eom), bytes > 240 ? VMBUS_E_PEER : 1);
		must_eq(eom, bytes & 1);
		must_eq(slot_word(15, 0), 0);
		for (i = bytes > 240 ? 0 : bytes; i < 240; i++)
			must_eq(got.payload[i], 0x33);
	}
	must_eq(vmbus_synic_take(messages, 16, &got, &eom), VMBUS_E_RANGE);
	must_eq(vmbus_synic_take(messages, UINT32_MAX, &got, &eom), VMBUS_E_RANGE);
}
END_TEST

#if defined(VMBUS_TEST_HOOKS)
static struct {
	unsigned int all, at, of_type, of_header, of_sender, of_payload, elsewhere;
	const uint8_t *page;
	unsigned int place;
	uint32_t value;
	bool on;
} plan;

static void hook(const volatile void *p)
{
	const uintptr_t at = (uintptr_t)p - (uintptr_t)plan.page;

	if (at >= 4096)
		return;
	if (plan.on && plan.all == plan.at)
		memcpy(messages + plan.place, &plan.value, sizeof(plan.value));
	plan.all++;
	if (at == 0x200)
		plan.of_type++;
	else if (at == 0x204)
		plan.of_header++;
	else if (at == 0x208)
		plan.of_sender++;
	else if (at == 0x210)
		plan.of_payload++;
	else
		plan.elsewhere++;
}

static void watch(const uint8_t *page)
{
	memset(&plan, 0, sizeof(plan));
	plan.page = page;
	vmbus__test_hook = hook;
}

/* Type: one load and one swap; header: the length once, the pending flag once. */
START_TEST(synic__reads_everything_once)
{
	fresh();
	msg.bytes = 100;
	watch(messages);
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	must_eq(plan.of_type, 1);
	must_eq(plan.all, 1);
	must_eq(post(2), VMBUS_E_AGAIN);
	must_eq(plan.of_type, 3); /* and looked at again */
	must_eq(plan.all, 3);
	watch(messages);
	must_eq(take(2), 1);
	must_eq(plan.of_type, 2);
	must_eq(plan.of_header, 2);
	must_eq(plan.of_sender, 1);
	must_eq(plan.of_payload, 1);
	must_eq(plan.all, 6);
	watch(messages);
	must_eq(take(2), 0);
	must_eq(plan.all, 1);
	vmbus__test_hook = NULL;
}
END_TEST

/* A parent that changes a word of the slot between any two reads of the child's. */
START_TEST(synic_take__parent_that_changes_the_slot_meanwhile)
{
	static const uint32_t values[] = { 0, 1, 2, 0xF0, 0xF1, 0xFF, 0x1FF, 0x100, UINT32_MAX };
	unsigned int at, place, i;
	int ret;

	for (at = 0; at < 6; at++)
		for (place = 0x200; place < 0x300; place += 4)
			for (i = 0; i < COUNT(values); i++) {
				vmbus_test_at("load %u, byte 0x%x, value 0x%x", at, place,
					      values[i]);
				fresh();
				msg.bytes = 40;
				must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
				watch(messages);
				plan.on = true;
				plan.at = at;
				plan.place = place;
				plan.value = values[i];
				memset(&got, 0, sizeof(got));
				ret = vmbus_synic_take(messages, 2, &got, &eom);
				vmbus__test_hook = NULL;
				must(plan.all <= 6);
				must(ret == 1 || ret == VMBUS_E_PEER ||
				     (ret == 0 && place == 0x200));
				must(ret != 1 || got.bytes <= 240);
			}
}
END_TEST

/* The type changes before the swap: the message is not to be trusted, the slot is left as it is. */
START_TEST(synic_take__type_changed_before_the_swap)
{
	fresh();
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	watch(messages);
	plan.on = true;
	plan.at = 4; /* type, header, sender, payload, and then the swap */
	plan.place = 0x200;
	plan.value = 7;
	must_eq(vmbus_synic_take(messages, 2, &got, &eom), VMBUS_E_PEER);
	vmbus__test_hook = NULL;
	must_eq(slot_word(2, 0), 7);
}
END_TEST

/* The race that the second look closes: the child empties the slot just before the flag is set. */
static void empty_the_slot(const volatile void *p)
{
	static unsigned int looks;

	if ((uintptr_t)p != (uintptr_t)SLOT(2))
		return;
	if (++looks == 2) { /* between the flag and the second look */
		uint32_t none = 0;

		memcpy(SLOT(2), &none, sizeof(none));
	}
}

START_TEST(synic_post__second_look_finds_the_slot_empty)
{
	fresh();
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	msg.bytes = 4;
	vmbus__test_hook = empty_the_slot;
	must_eq(post(2), VMBUS_SYNIC_INTERRUPT);
	vmbus__test_hook = NULL;
	must_eq(slot_word(2, 0), 1);
	must_eq(slot_word(2, 4), 4); /* the pending flag is gone with the message it was for */
}
END_TEST
#endif

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "liars", 10);

	tcase_add_test(tc, synic_take__length_past_the_slot);
#if defined(VMBUS_TEST_HOOKS)
	tcase_add_test(tc, synic__reads_everything_once);
	tcase_add_test(tc, synic_take__parent_that_changes_the_slot_meanwhile);
	tcase_add_test(tc, synic_take__type_changed_before_the_swap);
	tcase_add_test(tc, synic_post__second_look_finds_the_slot_empty);
#endif
}

VMBUS_TEST_MAIN("hypercall.synic_liars", tests)
