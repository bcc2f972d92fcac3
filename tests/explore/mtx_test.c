/* SPDX-License-Identifier: MIT */
/* Several sending threads, and perhaps a receiver (the last thread), over the real mtx.c. */
#include <stdio.h>
#include <string.h>

#include "ends.h"
#include "programs.h"
#include "ring/ctl.h"

#define SLOTS 4u
#define BELL_RESUME 2u
#define BELL_STOPPED 3u

/*
 * A call that waits for nobody makes at most so many accesses: its own, and those of one more try
 * or one more publication for each call of another thread.
 */
#define STEPS_ALONE 60u
#define STEPS_MORE 40u

/* Runs in which the one that arms is told READY more often, by old values, are given up. */
#define READY_MOST 3u

static struct vmbus_ring_mtx mtx __attribute__((aligned(64)));
static struct vmbus_ring_mtx_slot slots[SLOTS];
static uint32_t slot_count;
static bool stopped;
static uint32_t ready_again;

static uint32_t high(uint64_t v)
{
	return (uint32_t)(v >> 32);
}

/* The write index moves on by whole packets and never back. */
static void in_moved(uint64_t before, uint64_t now, bool is_last)
{
	const uint32_t by = (uint32_t)(now >= before ? now - before : ENDS_SIZE - before + now);

	EX_CHECK(is_last, "the write index goes back: an old store comes last");
	EX_CHECK(by && by % (plan.small ? 8u : ends_bytes()) == 0 && by < ENDS_SIZE,
		 "the write index goes from 0x%x to 0x%x", (unsigned int)before, (unsigned int)now);
}

static void setup_slots(uint32_t count)
{
	static char names[SLOTS][2][12];
	const struct vmbus_ring_opts opts = ends_opts(BELL_RX);
	uint32_t i;
	int err;

	ends_setup();
	stopped = false;
	ready_again = 0;
	slot_count = count;
	err = vmbus_ring_mtx_init(&mtx, &ends_mem, &opts, slots, count);
	EX_CHECK(err == 0, "mtx_init: %s", vmbus_err_name(err));
	ex_on_store(&ends_ctl->in, in_moved);
	ex_name(&mtx.head_p, "head");
	ex_name(&mtx.out_p, "seen out");
	ex_name(&mtx.tail_p, "tail");
	ex_name(&mtx.turn_p, "turn");
	ex_name(&mtx.broken_p, "broken");
	for (i = 0; i < count; i++) {
		(void)snprintf(names[i][0], sizeof(names[i][0]), "done[%u]", i);
		(void)snprintf(names[i][1], sizeof(names[i][1]), "packets[%u]", i);
		ex_name(&slots[i].done_p, names[i][0]);
		ex_name(&slots[i].packets_p, names[i][1]);
		ex_handed_over(&slots[i].packets_p);
	}
}

static void setup(void)
{
	setup_slots(SLOTS);
}

static int put(uint32_t number, uint32_t n)
{
	const uint32_t before = ex_steps();
	struct vmbus_msg msg[4];
	uint32_t i;
	int err;

	for (i = 0; i < n; i++)
		msg[i] = ends_msg(ex_self(), number + i);
	err = vmbus_ring_mtx_put(&mtx, msg, n);
	EX_CHECK(ex_steps() - before <=
			 STEPS_ALONE + STEPS_MORE * (plan.senders * plan.packets - 1u),
		 "a put made %u accesses: it waits for somebody", ex_steps() - before);
	EX_CHECK(err > 0 || err == VMBUS_E_FULL, "mtx_put: %s", vmbus_err_name(err));
	return err;
}

/* Full: sleep until the bell, or look when the index moves. */
static void no_room(void)
{
	int err;

	if (!plan.tx_sleeps || ex_self() != 0) { /* one sleeper at a time */
		ex_await(&ends_ctl->out, 4);
		return;
	}
	err = vmbus_ring_mtx_arm(&mtx, ends_bytes());
	EX_CHECK(err >= 0, "mtx_arm: %s", vmbus_err_name(err));
	if (err == VMBUS_RING_READY) {
		/* READY while a claim is unpublished means: try again; a fair scheduler lets it. */
		if (mtx.tail_p != mtx.head_p)
			ex_await(&mtx.tail_p, 8);
		else if (++ready_again > READY_MOST)
			ex_give_up();
		return;
	}
	ready_again = 0;
	ex_wait(BELL_TX);
	vmbus_ring_mtx_disarm(&mtx);
}

static void send(void)
{
	uint32_t sent = 0;

	while (sent < plan.packets) {
		const uint32_t left = plan.packets - sent;
		const int n = put(sent, left < plan.per_put ? left : plan.per_put);

		if (n > 0)
			sent += (uint32_t)n;
		else
			no_room();
	}
}

/* One packet that must find room: no thread may make us wait or come back. */
static void send_one(void)
{
	EX_CHECK(put(0, 1) == 1, "FULL in a ring with room and slots");
}

/* A put that another thread can fill a slot table for: try until it goes. */
static void send_in_few_slots(void)
{
	uint32_t sent = 0;

	while (sent < plan.packets) {
		if (put(sent, 1) == 1)
			sent++;
		else
			ex_await(&mtx.tail_p, 8);
	}
}

static void all_is_published(void)
{
	struct vmbus_ring_stats stats;

	EX_CHECK(mtx.tail_p == mtx.head_p, "finished claims stay unpublished: tail %u, head %u",
		 high(mtx.tail_p), high(mtx.head_p));
	EX_CHECK(ends_ctl->in.v == (uint32_t)mtx.head_p, "the write index is 0x%x, not 0x%x",
		 ends_ctl->in.v, (uint32_t)mtx.head_p);
	EX_CHECK(mtx.turn_p == 0, "the turn was not given back");
	vmbus_ring_mtx_stats(&mtx, &stats);
	EX_CHECK(stats.packets == (uint64_t)plan.senders * plan.packets, "%u packets counted",
		 (unsigned int)stats.packets);
	EX_CHECK(plan.small || stats.bytes == stats.packets * ends_bytes(), "bytes counted");
	EX_CHECK(stats.faults == 0, "a fault");
	EX_CHECK(stats.signals + stats.signals_suppressed == stats.batches, "signals counted");
}

/* All is published; then receive it, in the order of claims. */
static void finish_unread(void)
{
	all_is_published();
	ends_receive();
	ends_check_faults();
}

static void finish_read(void)
{
	all_is_published();
	ends_check_faults();
}

/* Thread 0 stops in its first put, after the claim and before the mark. */
static void stop_here(const uint8_t *to, size_t len)
{
	(void)to;
	(void)len;
	if (ex_self() != 0 || stopped)
		return;
	stopped = true;
	ex_ring(BELL_STOPPED);
	ex_wait(BELL_RESUME);
}

static void setup_stop(void)
{
	setup();
	ex_on_write(stop_here);
}

static void send_past_stopped(void)
{
	uint32_t i, before;

	ex_wait(BELL_STOPPED);
	for (i = 0; i < plan.packets; i++) {
		before = ex_steps();
		EX_CHECK(put(i, 1) == 1, "FULL behind a thread that has stopped");
		EX_CHECK(ex_steps() - before <= STEPS_ALONE, "waits for a thread that has stopped");
		EX_CHECK(ends_ctl->in.v == plan.start, "published past an unfinished claim");
	}
	ex_ring(BELL_RESUME);
}

/* A receiver that breaks the protocol: two threads find it out. */
static void record_is_written(uint64_t before, uint64_t now, bool is_last)
{
	(void)before;
	(void)is_last;
	if (now == 2)
		ex_touch(true);
}

static void setup_broken(void)
{
	struct vmbus_msg msg;
	uint32_t i;

	setup();
	for (i = 0; i < 2; i++) {
		msg = ends_msg(0, i);
		EX_CHECK(vmbus_ring_mtx_put(&mtx, &msg, 1) == 1, "no room for two");
	}
	vmbus__st32_relaxed(&ends_ctl->out, 4);
	ex_on_store(&mtx.broken_p, record_is_written);
}

static void find_fault(void)
{
	struct vmbus_msg msg = ends_msg(ex_self(), 0);
	const int err = vmbus_ring_mtx_put(&mtx, &msg, 1);
	struct vmbus_fault fault;

	EX_CHECK(err == VMBUS_E_PEER || err == VMBUS_E_FAULT, "mtx_put: %s", vmbus_err_name(err));
	vmbus_ring_mtx_fault(&mtx, &fault);
	if (fault.field == VMBUS_FAULT_NONE) {
		EX_CHECK(err == VMBUS_E_FAULT, "who found the fault does not see it");
		return;
	}
	ex_touch(false);
	EX_CHECK(fault.field == VMBUS_FAULT_READ_INDEX_ALIGN && fault.value == 4, "the fault");
}

static void finish_broken(void)
{
	struct vmbus_fault fault;

	vmbus_ring_mtx_fault(&mtx, &fault);
	EX_CHECK(fault.field == VMBUS_FAULT_READ_INDEX_ALIGN, "no fault was recorded");
}

static void put_directly(uint32_t sender, uint32_t number)
{
	const struct vmbus_msg msg = ends_msg(sender, number);
	const int err = vmbus_ring_mtx_put(&mtx, &msg, 1);

	EX_CHECK(err == 1, "put: %s", vmbus_err_name(err));
}

/*
 * A ring that is full with the first packet of each sender.  The receiver takes both; then thread
 * 0 fills the ring once more in one call, while thread 1 looks with what it has seen of all that.
 */
static void setup_lap(void)
{
	setup();
	put_directly(0, 0);
	put_directly(1, 0);
	ends_want = 2;
}

static void receive_and_consume(void)
{
	ends_receive();
	EX_CHECK(vmbus_ring_rx_consume(&ends_rx) == 0, "rx_consume");
}

static void send_lap(void)
{
	ex_await(&ends_ctl->out, 4);
	(void)put(1, 2);
}

static void put_in_lap(void)
{
	(void)put(1, 1);
}

static void arm_in_lap(void)
{
	const int err = vmbus_ring_mtx_arm(&mtx, ends_bytes());

	EX_CHECK(err >= 0, "mtx_arm: %s", vmbus_err_name(err));
	vmbus_ring_mtx_disarm(&mtx);
}

/* One sender at a time is enough to overtake: thread 1 sends one packet of a full ring's room. */
static void send_half(void)
{
	ex_await(&ends_ctl->out, 4);
	EX_CHECK(put(1, 1) == 1, "no room for one in an empty ring");
}

static void finish_lap(void)
{
	struct vmbus_packet pkt;

	EX_CHECK(mtx.tail_p == mtx.head_p, "finished claims stay unpublished");
	while (vmbus_ring_rx_get(&ends_rx, &pkt, 1) == 1)
		;
	EX_CHECK(vmbus_ring_rx_fault(&ends_rx)->field == VMBUS_FAULT_NONE, "receiver has a fault");
}

/* Room for one large packet, or for a small one and then for no large one. */
static void setup_arm(void)
{
	setup();
	put_directly(0, 0);
	ends_want = 3;
}

static void send_rest(void)
{
	while (put(1, 1) != 1)
		no_room();
}

static void send_small(void)
{
	while (put(0, 1) != 1)
		no_room();
}

static void finish_arm(void)
{
	EX_CHECK(mtx.tail_p == mtx.head_p, "finished claims stay unpublished");
	ends_check_faults();
}

/* The index of the receiver is past what a slow thread knows to be claimed. */
static void setup_past(void)
{
	setup();
	put_directly(0, 0);
	put_directly(0, 1);
	ends_want = 3;
}

static void send_past(void)
{
	(void)put(2, 1);
}

static void setup_few_slots(void)
{
	setup_slots(2);
}

#define PLAN(name, with, ...)                                                                      \
	static void name(void)                                                                     \
	{                                                                                          \
		const struct ends_plan p = { __VA_ARGS__ };                                        \
		plan = p;                                                                          \
		with();                                                                            \
	}
#define SMALL .packets = 1, .payload = 8, .per_put = 1, .per_get = 4
#define LARGE .payload = 1976, .per_put = 1, .per_get = 1

PLAN(two, setup, SMALL, .senders = 2)
PLAN(two_twice, setup, .packets = 2, .payload = 8, .per_put = 1, .per_get = 4, .senders = 2)
PLAN(two_batch, setup, .packets = 2, .payload = 8, .per_put = 2, .per_get = 4, .senders = 2)
PLAN(three, setup, SMALL, .senders = 3)
PLAN(few_slots, setup_few_slots, .packets = 2, .payload = 8, .per_put = 1, .per_get = 4,
     .senders = 2)
PLAN(reader, setup, SMALL, .senders = 2)
PLAN(reader_sleeps, setup, SMALL, .senders = 2, .rx_sleeps = true)
PLAN(one_reader_sleeps, setup, .packets = 2, .payload = 8, .per_put = 1, .per_get = 1, .senders = 1,
     .rx_sleeps = true)
PLAN(one_sleeps, setup, .packets = 3, LARGE, .senders = 1, .tx_sleeps = true)
PLAN(one_sleeps_both, setup, .packets = 3, LARGE, .senders = 1, .tx_sleeps = true,
     .rx_sleeps = true)
PLAN(two_full, setup, .packets = 2, LARGE, .senders = 2)
PLAN(two_sleeps, setup, .packets = 2, LARGE, .senders = 2, .tx_sleeps = true)
PLAN(stop, setup_stop, SMALL, .senders = 2)
PLAN(stop_reader, setup_stop, SMALL, .senders = 2, .rx_sleeps = true)
PLAN(lap, setup_lap, .packets = 3, .payload = 1976, .per_put = 2, .per_get = 2, .senders = 2)
PLAN(lap_arm, setup_lap, .packets = 3, .payload = 1976, .per_put = 2, .per_get = 2, .senders = 2)
PLAN(halves, setup_lap, .packets = 3, .payload = 1976, .per_put = 2, .per_get = 2, .senders = 2)
PLAN(arm_small, setup_arm, .packets = 2, .payload = 2016, .per_put = 1, .per_get = 1, .senders = 2,
     .tx_sleeps = true, .small = true)
PLAN(past_head, setup_past, .packets = 3, .payload = 1976, .per_put = 1, .per_get = 2, .senders = 2,
     .small = true)
PLAN(broken, setup_broken, .packets = 1, LARGE, .senders = 2)

#define SCENARIO(plan_name, threads_, finish_, text, ...)                                          \
	{                                                                                          \
		.name = "mtx." #plan_name, .what = text, .threads = threads_, .setup = plan_name,  \
		.finish = finish_, __VA_ARGS__                                                     \
	}

const struct ex_scenario mtx_scenarios[] = {
	SCENARIO(two, 2, finish_unread, "all published, in order of claims",
		 .body = { send_one, send_one }),
	SCENARIO(two_batch, 2, finish_unread, "the same, two packets a call",
		 .body = { send, send }, .no_mutants = true),
	SCENARIO(two_twice, 2, finish_unread, "all published, in order of claims",
		 .body = { send, send }, .preemptions = 3, .full_only = true, .no_mutants = true),
	SCENARIO(three, 3, finish_unread, "the same, three threads",
		 .body = { send_one, send_one, send_one }, .preemptions = 2, .no_mutants = true),
	SCENARIO(few_slots, 2, finish_unread, "slots are used again",
		 .body = { send_in_few_slots, send_in_few_slots }, .preemptions = 2),
	SCENARIO(reader, 3, finish_read, "read in order of claims",
		 .body = { send_one, send_one, ends_receive }, .preemptions = 2),
	SCENARIO(reader_sleeps, 3, finish_read, "receiver not left asleep",
		 .body = { send_one, send_one, ends_receive }, .preemptions = 2),
	SCENARIO(one_reader_sleeps, 2, finish_read, "receiver not left asleep",
		 .body = { send, ends_receive }),
	SCENARIO(one_sleeps, 2, finish_read, "sender not left asleep",
		 .body = { send, ends_receive }),
	SCENARIO(one_sleeps_both, 2, finish_read, "never both asleep with work left",
		 .body = { send, ends_receive }, .preemptions = 3, .no_mutants = true),
	SCENARIO(two_full, 3, finish_read, "nothing overwritten in a full ring",
		 .body = { send, send, ends_receive }, .preemptions = 1, .full_only = true,
		 .no_mutants = true),
	SCENARIO(two_sleeps, 3, finish_read, "sender not left asleep while another publishes",
		 .body = { send, send, ends_receive }, .preemptions = 1, .full_only = true,
		 .no_mutants = true),
	SCENARIO(lap, 3, finish_lap, "no false fault, nothing overwritten, a lap ahead",
		 .body = { send_lap, put_in_lap, receive_and_consume }, .preemptions = 3),
	SCENARIO(lap_arm, 3, finish_lap, "no false fault, a lap ahead",
		 .body = { send_lap, arm_in_lap, receive_and_consume }, .preemptions = 3),
	SCENARIO(halves, 3, finish_lap, "nothing overwritten that another has seen to be free",
		 .body = { send_half, send_half, receive_and_consume }, .preemptions = 3),
	SCENARIO(arm_small, 3, finish_arm, "sender not left asleep while another publishes",
		 .body = { send_rest, send_small, ends_receive }, .preemptions = 3),
	SCENARIO(past_head, 3, finish_lap, "no false fault when the receiver is ahead",
		 .body = { send_past, send_one, receive_and_consume }, .preemptions = 3),
	SCENARIO(stop, 2, finish_unread, "nobody waits for a thread that has stopped",
		 .body = { send_one, send_past_stopped }),
	SCENARIO(stop_reader, 3, finish_read, "the same, with a receiver",
		 .body = { send_one, send_past_stopped, ends_receive }),
	SCENARIO(broken, 2, finish_broken, "one fault, recorded whole",
		 .body = { find_fault, find_fault }),
};

const uint32_t mtx_count = sizeof(mtx_scenarios) / sizeof(mtx_scenarios[0]);
