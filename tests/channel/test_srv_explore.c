/* SPDX-License-Identifier: MIT */
/*
 * The host machine, every reachable state times every event: two channels, two page list ids, two
 * page lists.  After each event all invariants are checked, so that no order of messages, calls and
 * answers leaves the machine undefined (lessons 16 to 19, 26).
 *
 * Actions are taken at once, but for the answers of devices, which are events of their own; runs
 * with "output left" also leave actions and messages in their lists, so that everything meets output
 * that nobody has taken.
 *
 * Of all states that differ by names only one is expanded (srv_world.h).  That they have the same
 * futures is checked: some of the others, or all of them where a run says so, are expanded too, and
 * what all events make of them must be the same.
 */
#include "channel/srv_store.h"

#include <time.h>

/* Returns whether all output was taken, and as it should be. */
static bool take_all(void)
{
	while (!lazy && take(false))
		continue;
	return !lazy && !trouble;
}

static void settle_world(void)
{
	const char *wrong;

	(void)take_all();
	wrong = srv_check(machine);
	complain(wrong, "machine");
	complain(shadow_check(&world.shadow, machine), "shadow");
}

/* In how many states each cell was met, for the count below. */
static uint32_t chan_met[VMBUS_SRV_STATES], list_met[L_STATES], conn_met[CONN_STATES];

static void note_states(void)
{
	uint32_t i;

	for (i = 0; i < chans; i++)
		chan_met[machine->chans[i].state]++;
	for (i = 0; i < lists; i++)
		list_met[machine->lists[i].state]++;
	conn_met[machine->conn]++;
}

/* By canonical hash: all; by concrete hash: those that were pushed because they are compared. */
static struct table seen, twins;
static uint32_t compare_each; /* one of so many events leads to a state to compare */
static size_t expanded, compared;
static uint64_t tried;
static uint32_t left_out;

/* Whether a state has a face that was not seen and is to be compared, if it is known by another. */
static bool to_compare(void)
{
	bool is_new = false;

	if (tried % compare_each == 0)
		(void)look_up(&twins, concrete(), &is_new);
	return is_new;
}

/* What an event made of a state: a new one, one to compare, or nothing. */
static uint64_t reached(uint32_t from, uint32_t event)
{
	const uint64_t h = canonical();
	const bool compare = to_compare();
	bool is_new;

	(void)look_up(&seen, h, &is_new);
	if (is_new)
		note_states();
	if (is_new || compare)
		push(note_origin(from, event));
	return mixed(h, 1);
}

/* All events of the oldest state in the queue. */
static void expand(struct world *here)
{
	const uint32_t number = pop(here);
	struct known *place;
	uint64_t sum = 0, own;
	uint32_t i;
	bool is_new;

	memcpy(&world, here, world_bytes);
	vmbus_test_at("state %u of %zu", number, seen.count);
	own = canonical();
	for (i = 0; i < event_count; i++) {
		memcpy(&world, here, world_bytes);
		events[i].fn(events[i].a, events[i].b);
		if (take_all() && is_unchanged(here)) {
			sum += mixed(own, 1);
			tried++;
			continue;
		}
		settle_world();
		if (trouble)
			ck_abort_msg("%s after: %s", trouble, story(number, i));
		sum += reached(number, i);
		tried++;
	}
	expanded++;
	sum += sum == 0;
	place = look_up(&seen, own, &is_new);
	compared += place->sum != 0;
	if (place->sum && place->sum != sum)
		ck_abort_msg("states that are taken for the same have different futures: %s",
			     story(number, 0));
	place->sum = sum;
}

static void progress(bool always)
{
	static time_t told;
	const time_t now = time(NULL);

	if (!always && (!vmbus_test_full() || now < told + 10))
		return;
	told = now;
	printf("%u channels, %u page lists, version %u.%u%s%s: %zu states%s, %zu compared, "
	       "%llu events",
	       chans, lists, version_now >> 16, version_now & 0xffffu, left_out ? ", core" : "",
	       lazy ? ", output left" : "", seen.count, queued ? " and more" : ", all", compared,
	       (unsigned long long)tried);
	if (!always)
		printf(", %zu to do", queued);
	printf("\n");
	fflush(stdout);
}

/* Breadth first; most: how many states are expanded. */
static void explore(size_t most)
{
	static struct world here;
	bool is_new;

	world_init();
	settle_world();
	start = world;
	(void)look_up(&seen, canonical(), &is_new);
	(void)to_compare();
	push(note_origin(0, 0));
	while (queued && expanded < most) {
		expand(&here);
		if (expanded % 1024 == 0)
			progress(false);
	}
	progress(true);
}

#define CORE_ONLY                                                                                  \
	(NO_PAUSE | NO_UNFINISHED | NO_RESERVED | NO_MODIFY | NO_REOFFER | NO_SUB | NO_BAD_VERSION)
#define TO_THE_END SIZE_MAX

/* Where each step takes five times as long and more: the short runs only. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW true
#endif
#endif
#if defined(VMBUS_MINICHECK) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW true
#endif
#ifndef SLOW
#define SLOW false
#endif

/*
 * Runs.  Compared are states that are not the first with their canonical hash, those that one of
 * compare events leads to: 1 for all.  most: how many states are expanded.
 */
static const struct run {
	uint32_t chans, lists, without, version;
	bool lazy;
	uint32_t compare, compare_full;
	size_t most, most_full;
} runs[] = {
	{ 1, 1, 0, VMBUS_PROTO_5_3, false, 64, 1, TO_THE_END, TO_THE_END },
	{ 1, 1, 0, VMBUS_PROTO_6_0, false, 64, 1, TO_THE_END, TO_THE_END },
	{ 1, 1, 0, VMBUS_PROTO_4_1, false, 64, 1, TO_THE_END, TO_THE_END },
	{ 2, 1, CORE_ONLY, VMBUS_PROTO_5_3, false, 64, 1, TO_THE_END, TO_THE_END },
	{ 2, 2, CORE_ONLY, VMBUS_PROTO_5_3, false, 64, 16, TO_THE_END, TO_THE_END },
	{ 1, 2, 0, VMBUS_PROTO_5_3, false, 64, 16, TO_THE_END, TO_THE_END },
	{ 1, 2, 0, VMBUS_PROTO_6_0, false, 256, 64, 8000, TO_THE_END },
	{ 2, 1, 0, VMBUS_PROTO_6_0, false, 256, 1024, 6000, TO_THE_END },
	{ 2, 2, 0, VMBUS_PROTO_6_0, false, 256, 16384, 6000, TO_THE_END },
	{ 1, 1, 0, VMBUS_PROTO_6_0, true, 1, 1, 12000, 400000 },
	{ 1, 2, CORE_ONLY, VMBUS_PROTO_5_3, true, 1, 1, 12000, 400000 },
	{ 2, 2, 0, VMBUS_PROTO_6_0, true, 1, 1, 6000, 400000 },
};
#define RUNS (int)(sizeof(runs) / sizeof(runs[0]))

/* lesson 16: all pairs of open, close, gpadl, modify, revoke, reset at all states. */
START_TEST(srv__every_state_times_every_event)
{
	const struct run *const run = &runs[_i];
	const bool slow = SLOW && run->chans * run->lists > 1;
	const size_t most = vmbus_test_full() ? run->most_full : slow ? 1000 : run->most;
	uint32_t i;

	version_now = run->version;
	lazy = run->lazy;
	left_out = run->without;
	chans = run->chans;
	lists = run->lists;
	compare_each = vmbus_test_full() ? run->compare_full : run->compare;
	make_events(left_out);
	explore(most);
	if (most != TO_THE_END)
		return;
	ck_assert_msg(queued == 0, "the run did not come to its end");
	ck_assert_msg(compared > 0, "no two states were compared");
	if (run->without)
		return;
	for (i = 0; i < VMBUS_SRV_STATES; i++)
		ck_assert_msg(chan_met[i], "state %s was never met", vmbus_srv_state_name(i));
	for (i = 0; i < L_DONE; i++)
		ck_assert_msg(list_met[i], "page list %s was never met",
			      vmbus__srv_list_state_name(i));
	for (i = 0; i < CONN_STATES; i++)
		ck_assert_msg(conn_met[i] || run->version < VMBUS_PROTO_6_0,
			      "connection %s was never met", vmbus__srv_conn_state_name(i));
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "explore", 60);

	tcase_add_loop_test(tc, srv__every_state_times_every_event, 0, RUNS);
}
VMBUS_TEST_MAIN("channel.srv_explore", tests)
