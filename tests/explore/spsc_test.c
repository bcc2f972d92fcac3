/* SPDX-License-Identifier: MIT */
/* One sender (thread 0) and one receiver (thread 1) over the real tx.c and rx.c. */
#include <string.h>

#include "ends.h"
#include "programs.h"
#include "ring/ctl.h"

static void setup(void)
{
	const struct vmbus_ring_opts opts = ends_opts(BELL_RX);

	plan.senders = 1;
	ends_setup();
	EX_CHECK(vmbus_ring_tx_init(&ends_tx, &ends_mem, &opts) == 0, "tx_init");
}

/* No room: sleep until the bell, or look when the index moves. */
static void no_room(void)
{
	int err;

	if (!plan.tx_sleeps) {
		ex_await(&ends_ctl->out, 4);
		return;
	}
	err = vmbus_ring_tx_arm(&ends_tx, ends_bytes());
	EX_CHECK(err >= 0, "tx_arm: %s", vmbus_err_name(err));
	if (err == VMBUS_RING_READY)
		return;
	ex_wait(BELL_TX);
	vmbus_ring_tx_disarm(&ends_tx);
}

/* One packet, filled in place. */
static int reserve_and_commit(uint32_t number)
{
	struct vmbus_msg msg = ends_msg(0, number);
	const uint8_t *from = msg.data;
	struct vmbus_span span[2];
	int n, i;

	msg.data = NULL;
	n = vmbus_ring_tx_reserve(&ends_tx, &msg, span, 2);
	if (n < 0)
		return n;
	for (i = 0; i < n; i++) {
		vmbus__peer_write(span[i].base, from, span[i].len);
		from += span[i].len;
	}
	return vmbus_ring_tx_commit(&ends_tx);
}

static void send(void)
{
	struct vmbus_msg msg[4];
	uint32_t sent = 0, i, n;
	int err;

	while (sent < plan.packets) {
		n = plan.packets - sent < plan.per_put ? plan.packets - sent : plan.per_put;
		for (i = 0; i < n; i++)
			msg[i] = ends_msg(0, sent + i);
		err = plan.reserves ? reserve_and_commit(sent)
				    : vmbus_ring_tx_put(&ends_tx, msg, n);
		EX_CHECK(err > 0 || err == VMBUS_E_FULL, "tx_put: %s", vmbus_err_name(err));
		if (err > 0)
			sent += (uint32_t)err;
		else
			no_room();
	}
}

/*
 * Who collects dirty pages: sees the bit of the first data page, by a read-modify-write, and then
 * copies the packet that was written before it was set.
 */
#define DIRTY_FRAME 1u

static uint64_t bitmap[1];

static void setup_dirty(void)
{
	static const struct vmbus_dirty dirty = {
		.bitmap = bitmap, .frames = 64, .ctl_frame = 0, .first_frame = DIRTY_FRAME
	};
	const struct vmbus_ring_opts opts = ends_opts(BELL_RX);

	plan.senders = 1;
	ends_setup();
	ends_mem.dirty_p = &dirty;
	EX_CHECK(vmbus_ring_tx_init(&ends_tx, &ends_mem, &opts) == 0, "tx_init");
	bitmap[0] = 0;
	ex_name(bitmap, "bitmap");
}

static void collect(void)
{
	static const struct vmbus__site take = { __FILE__, "collect",	 "or64_acquire",
						 __LINE__, VMBUS__EX_OR, 8,
						 true,	   false,	 EX_OUR_SITE };

	while ((ex_atomic(&take, bitmap, 0, 0) >> DIRTY_FRAME & 1u) == 0)
		ex_await(bitmap, 8);
	ex_read_bytes(ends_mem.data_p, ends_bytes());
}

static void finish_dirty(void)
{
	EX_CHECK(bitmap[0] == (1u << DIRTY_FRAME | 1u), "bits of the pages written");
}

static void finish(void)
{
	struct vmbus_ring_stats stats;

	ends_check_faults();
	vmbus_ring_tx_stats(&ends_tx, &stats);
	EX_CHECK(stats.packets == plan.packets && stats.faults == 0, "counters of the sender");
}

#define PLAN(name, ...)                                                                            \
	static void name(void)                                                                     \
	{                                                                                          \
		const struct ends_plan p = { __VA_ARGS__ };                                        \
		plan = p;                                                                          \
		setup();                                                                           \
	}

PLAN(small, .packets = 3, .payload = 8, .per_put = 1, .per_get = 1)
PLAN(batch, .packets = 3, .payload = 8, .per_put = 2, .per_get = 4)
PLAN(full, .start = 3000, .packets = 4, .payload = 1976, .per_put = 1, .per_get = 1)
PLAN(full_batch, .start = 3000, .packets = 4, .payload = 1976, .per_put = 4, .per_get = 4)
PLAN(reserve, .start = 3000, .packets = 3, .payload = 1976, .per_put = 1, .per_get = 1,
     .reserves = true)
PLAN(rx_sleeps, .packets = 3, .payload = 8, .per_put = 1, .per_get = 2, .rx_sleeps = true)
PLAN(rx_sleeps_long, .packets = 4, .payload = 8, .per_put = 1, .per_get = 2, .rx_sleeps = true)
PLAN(rx_sleeps_wrap, .start = 4000, .packets = 4, .payload = 40, .per_put = 2, .per_get = 1,
     .rx_sleeps = true)
PLAN(tx_sleeps, .packets = 4, .payload = 1976, .per_put = 1, .per_get = 1, .tx_sleeps = true)
PLAN(tx_sleeps_lazy, .start = 4000, .packets = 10, .payload = 456, .per_put = 4, .per_get = 1,
     .tx_sleeps = true)
PLAN(tx_sleeps_consume, .packets = 4, .payload = 1976, .per_put = 1, .per_get = 1,
     .tx_sleeps = true, .consumes = true)
PLAN(both_sleep, .packets = 3, .payload = 1976, .per_put = 1, .per_get = 1, .tx_sleeps = true,
     .rx_sleeps = true)
PLAN(both_sleep_one, .start = 4088, .packets = 2, .payload = 2040, .per_put = 1, .per_get = 1,
     .tx_sleeps = true, .rx_sleeps = true)
PLAN(both_sleep_long, .packets = 4, .payload = 1976, .per_put = 2, .per_get = 2, .tx_sleeps = true,
     .rx_sleeps = true)
PLAN(in_place, .start = 3000, .packets = 4, .payload = 1976, .per_put = 1, .per_get = 1,
     .in_place = true)
PLAN(in_place_both, .packets = 3, .payload = 1976, .per_put = 1, .per_get = 2, .tx_sleeps = true,
     .rx_sleeps = true, .in_place = true)

static void dirty(void)
{
	const struct ends_plan p = { .packets = 1, .payload = 8, .per_put = 1 };

	plan = p;
	setup_dirty();
}

#define SCENARIO(plan_name, text, ...)                                                             \
	{                                                                                          \
		.name = "spsc." #plan_name, .what = text, .threads = 2, .setup = plan_name,        \
		.body = { send, ends_receive }, .finish = finish, __VA_ARGS__                      \
	}

const struct ex_scenario spsc_scenarios[] = {
	SCENARIO(small, "payload right, order, nothing lost", .no_mutants = false),
	SCENARIO(batch, "the same, several packets a call", .no_mutants = false),
	SCENARIO(full, "packets that wrap, in a ring that fills", .no_mutants = false),
	SCENARIO(full_batch, "the same, several packets a call", .no_mutants = false),
	SCENARIO(reserve, "filled in place", .no_mutants = false),
	SCENARIO(rx_sleeps, "receiver not left asleep", .no_mutants = false),
	SCENARIO(rx_sleeps_long, "receiver not left asleep", .no_mutants = true),
	SCENARIO(rx_sleeps_wrap, "receiver not left asleep", .no_mutants = false),
	SCENARIO(tx_sleeps, "sender not left asleep", .no_mutants = false),
	SCENARIO(tx_sleeps_lazy, "sender not left asleep, index given back lazily",
		 .no_mutants = false),
	SCENARIO(tx_sleeps_consume, "sender not left asleep", .no_mutants = false),
	SCENARIO(both_sleep, "never both asleep with work left", .no_mutants = false),
	SCENARIO(both_sleep_one, "the same, a ring that holds one packet", .no_mutants = false),
	SCENARIO(both_sleep_long, "never both asleep with work left", .no_mutants = true),
	SCENARIO(in_place, "payload not overwritten while it is read", .no_mutants = false),
	SCENARIO(in_place_both, "in place, both sleep", .no_mutants = true),
	{ .name = "spsc.dirty",
	  .what = "a page that is collected has what was written",
	  .threads = 2,
	  .setup = dirty,
	  .body = { send, collect },
	  .finish = finish_dirty },
};

const uint32_t spsc_count = sizeof(spsc_scenarios) / sizeof(spsc_scenarios[0]);
