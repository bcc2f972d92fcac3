/* SPDX-License-Identifier: MIT */
/*
 * The parent's end of the integration components saved and gone on with: negotiated or about to be,
 * with a request under way or none.
 */
#include "ic.h"

static struct {
	uint32_t shutdowns, times, syncs, beats;
} told;

static uint32_t on_shutdown(void *ctx, uint32_t flags, uint32_t timeout_s)
{
	(void)ctx;
	(void)flags;
	(void)timeout_s;
	told.shutdowns++;
	return VMBUS_IC_OK;
}

static void on_time(void *ctx, uint64_t host, uint64_t reference, bool sync)
{
	(void)ctx;
	(void)host;
	(void)reference;
	told.times++;
	told.syncs += sync;
}

static void on_beat(void *ctx, uint64_t sequence)
{
	(void)ctx;
	(void)sequence;
	told.beats++;
}

static const struct vmbus_ic_client_opts client_opts = {
	.struct_bytes = sizeof(client_opts),
	.shutdown = on_shutdown,
	.time = on_time,
	.beat = on_beat,
};

static void copy_used(const struct loop *l, uint8_t *to, const uint8_t *from)
{
	size_t page;

	for (page = 0; page < LOOP_PAGES; page++)
		if (l->mem.used[page])
			memcpy(to + page * CHILD_PAGE, from + page * CHILD_PAGE, CHILD_PAGE);
}

/* Another bus and other components, on the memory as it was. */
static struct vmbus_ic *move(struct loop *l, struct vmbus_ic *ic, const struct vmbus_ic_opts *opts)
{
	uint8_t *mem = malloc(LOOP_PAGES * CHILD_PAGE), *state;
	size_t bytes, again;
	char why[160];

	must_eq(vmbus_bus_save(l->bus, NULL, 0, &bytes), VMBUS_E_RANGE);
	state = malloc(bytes);
	must(mem && state);
	must_eq(vmbus_bus_save(l->bus, state, bytes, &again), 0);
	copy_used(l, mem, l->mem.host);
	loop_new_bus(l, NULL);
	copy_used(l, l->mem.host, mem);
	vmbus_ic_destroy(ic);
	memset(&ic_events, 0, sizeof(ic_events));
	must_eq(vmbus_ic_create(l->bus, opts, &ic), 0);
	must_eq(vmbus_bus_restore(l->bus, state, bytes, why, sizeof(why)), 0);
	free(mem);
	free(state);
	return ic;
}

static void turns(struct loop *l, struct vmbus_ic *ic, uint32_t n)
{
	for (; n; n--) {
		must(ic_turn(ic) >= 0);
		loop_settle(l);
	}
}

START_TEST(ic__goes_on_from_a_saved_state)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic_client client[3];
	struct vmbus_ic_info info;
	struct vmbus_ic *ic;
	uint32_t i, beats;

	memset(&told, 0, sizeof(told));
	o.heartbeat_ns = 2000000;
	o.sample_ns = 3000000;
	ic = ic_start(l, &o);
	for (i = 0; i < 3; i++)
		must_eq(vmbus_ic_client_start(&client[i], vmbus_vsc_find(l->guest, &ic_class[i], 0),
					      &client_opts),
			0);
	loop_settle(l);
	must_eq(told.syncs, 1);
	turns(l, ic, 10);
	ic = move(l, ic, &o);
	loop_settle(l);
	must_eq(ic_value(VMBUS_IC_SHUTDOWN, VMBUS_IC_READY), 0x30002);
	must_eq(ic_value(VMBUS_IC_TIMESYNC, VMBUS_IC_READY), 0x40000);
	must_eq(ic_value(VMBUS_IC_HEARTBEAT, VMBUS_IC_READY), 0x30000);
	beats = told.beats;
	turns(l, ic, 10);
	must(told.beats > beats);
	must_eq(told.syncs, 2); /* the clock is set again */
	vmbus_ic_info(ic, &info);
	must_eq(info.ready, 7);
	must(info.alive);
	must_eq(info.missed + info.broken, 0);
	/* A request that is under way is answered to whoever goes on. */
	must_eq(vmbus_ic_shutdown(ic, 0, 1, NULL), 0);
	ic = move(l, ic, &o);
	loop_settle(l);
	must_eq(told.shutdowns, 1);
	must_eq(ic_value(VMBUS_IC_SHUTDOWN, VMBUS_IC_ANSWERED), VMBUS_IC_OK);
	must_eq(vmbus_ic_shutdown(ic, 0, 1, NULL), 0);
	loop_settle(l);
	must_eq(told.shutdowns, 2);
	turns(l, ic, 5);
	vmbus_ic_info(ic, &info);
	must_eq(info.broken, 0);
	ic_end(l, ic);
}
END_TEST

/* The negotiation is under way. */
START_TEST(ic__goes_on_with_the_negotiation)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic *ic = ic_start(l, &o);
	struct ic_kept *k = ic_open(l, (uint32_t)_i);

	must_eq(k->count, 1);
	ic = move(l, ic, &o);
	loop_settle(l);
	must_eq(k->count, 1); /* it is not asked again */
	must_eq(ic_events.count, 0);
	ic_agree(l, k, _i == 0 ? 0x30002 : _i == 1 ? 0x40000 : 0x30000);
	must_eq(ic_count(1u << _i, VMBUS_IC_READY), 1);
	must_eq(k->closed, 0);
	ic_end(l, ic);
}
END_TEST

/* A child that hangs is lost, though it missed more beats before than are too many now. */
START_TEST(ic__a_child_that_hangs_is_lost_with_another_limit)
{
	struct loop *l = loop_new(NULL, NULL);
	struct vmbus_ic_opts o = ic_opts();
	struct vmbus_ic_info info;
	struct vmbus_ic *ic;
	struct ic_kept *k;
	uint32_t i;

	o.heartbeat_ns = 2000000;
	ic = ic_start(l, &o);
	k = ic_open(l, 2);
	ic_agree(l, k, 0x30000);
	ic_answer(l, k, 0);
	must_eq(ic_turn(ic), 1);
	for (i = 0; i < 3; i++)
		must_eq(ic_turn(ic), 0);
	must_eq(ic_count(4, VMBUS_IC_LOST), 0);
	o.lost_after = 2 + (uint32_t)_i;
	ic = move(l, ic, &o);
	loop_settle(l);
	for (i = 0; i < 3; i++)
		must_eq(ic_turn(ic), 0);
	must_eq(ic_count(4, VMBUS_IC_LOST), 1);
	must_eq(ic_value(4, VMBUS_IC_LOST), 4);
	vmbus_ic_info(ic, &info);
	must(!info.alive);
	o.lost_after = 9; /* told once is enough */
	ic = move(l, ic, &o);
	loop_settle(l);
	for (i = 0; i < 12; i++)
		must_eq(ic_turn(ic), 0);
	must_eq(ic_count(4, VMBUS_IC_LOST), 0);
	ic_end(l, ic);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "save", 20);

	tcase_add_test(tc, ic__goes_on_from_a_saved_state);
	tcase_add_loop_test(tc, ic__goes_on_with_the_negotiation, 0, 3);
	tcase_add_loop_test(tc, ic__a_child_that_hangs_is_lost_with_another_limit, 0, 3);
}
VMBUS_TEST_MAIN("ic.ic_save", tests)
