/* SPDX-License-Identifier: MIT */
/*
 * Message slot, event flags, mailbox and clock page over the real synic.c, hcbox.c and hv.c.
 *
 * Interrupts and EOM are bells.  What is under test is what the pages do, so a bell orders memory
 * here, as a write to an eventfd or an interrupt does: a full fence on both sides of it.
 */
#include <string.h>

#include <vmbus/hypercall.h>
#include <vmbus/synic.h>

#include "programs.h"

#define BELL_CHILD 0u  /* an interrupt, a call that was served */
#define BELL_PARENT 1u /* EOM, a call that was put in */
#define SINT 2u
#define SIEFP 0x40000082u
#define SIMP 0x40000083u
#define SINT2 0x40000092u
#define VECTOR 0xF3u
#define MASKED 0x10000u

static struct vmbus_synic synic;
static uint8_t messages[4096] __attribute__((aligned(64)));
static uint8_t flags[4096] __attribute__((aligned(64)));
static uint8_t box[4096] __attribute__((aligned(64)));
static uint64_t clock_page[512];
static uint8_t data[64] __attribute__((aligned(64)));

static struct {
	uint32_t messages;
	bool polls;	/* the child looks at the slot, without interrupts */
	bool says_more; /* the parent knows what follows */
} plan;
static uint32_t taken;

static void ring(uint32_t bell)
{
	vmbus__fence_full();
	ex_ring(bell);
}

static void wait_for(uint32_t bell)
{
	ex_wait(bell);
	vmbus__fence_full();
}

static void setup_synic(uint64_t sint)
{
	memset(&synic, 0, sizeof(synic));
	vmbus_synic_reset(&synic);
	(void)vmbus_synic_msr_write(&synic, SIMP, 0x7001, true);
	(void)vmbus_synic_msr_write(&synic, SIEFP, 0x9001, true);
	vmbus_synic_set_pages(&synic, messages, flags, NULL, 0, 0);
	(void)vmbus_synic_msr_write(&synic, SINT2, sint, true);
	taken = 0;
	ex_name(messages + 512, "type");
	ex_name(messages + 516, "header");
	ex_name(flags + 512, "flags");
	ex_name(&synic.sint_p[SINT], "sint");
	ex_name(&synic.messages_p, "messages_p");
	ex_name(&synic.flags_p, "flags_p");
}

/* The slot. */
static void setup_slot(uint32_t n, bool polls, bool says_more)
{
	plan.messages = n;
	plan.polls = polls;
	plan.says_more = says_more;
	setup_synic(VECTOR);
	ex_window(messages, sizeof(messages));
}

static void slot(void)
{
	setup_slot(2, false, false);
}

static void slot_more(void)
{
	setup_slot(3, false, true);
}

static void slot_polled(void)
{
	setup_slot(2, true, false);
}

static void post_all(void)
{
	struct vmbus_synic_msg msg = { .type = 1, .bytes = 16 };
	uint32_t i = 0, arg;
	int ret;

	while (i < plan.messages) {
		msg.sender = 100 + i;
		memset(msg.payload, (int)(i + 1), 16);
		ret = vmbus_synic_post(&synic, SINT, &msg, plan.says_more && i + 1 < plan.messages,
				       &arg);
		if (ret == VMBUS_E_AGAIN) {
			wait_for(BELL_PARENT); /* EOM */
			continue;
		}
		EX_CHECK(ret == (int)VMBUS_SYNIC_INTERRUPT && arg == VECTOR, "post: %d", ret);
		i++;
		if (!plan.polls)
			ring(BELL_CHILD);
	}
}

static void check_message(const struct vmbus_synic_msg *msg)
{
	EX_CHECK(msg->sender == 100 + taken, "message %u instead of %u",
		 (unsigned int)msg->sender - 100, taken);
	EX_CHECK(msg->type == 1 && msg->bytes == 16 && msg->payload[0] == taken + 1 &&
			 msg->payload[15] == taken + 1,
		 "message %u is not whole", taken);
	taken++;
}

static void take_all(void)
{
	struct vmbus_synic_msg msg;
	bool eom;
	int ret;

	while (taken < plan.messages) {
		if (!plan.polls)
			wait_for(BELL_CHILD);
		ret = vmbus_synic_take(messages, SINT, &msg, &eom);
		EX_CHECK(ret >= 0, "take: %d", ret);
		if (ret == 0) {
			if (plan.polls)
				ex_await(messages + 512, 4);
			continue;
		}
		check_message(&msg);
		if (eom)
			ring(BELL_PARENT);
	}
}

static void finish_slot(void)
{
	EX_CHECK(taken == plan.messages, "%u messages came", taken);
}

/*
 * Flags: a parent writes and then raises, and what it wrote is there for who takes the flag.  In
 * event it is bytes; in events words, so that an old value is found as a wait without end: the
 * second parent finds the flag set, and rings no bell.
 */
static uint64_t wrote[2];

static void event(void)
{
	setup_synic(VECTOR);
	ex_window(data, sizeof(data));
}

static void raise_flag(void)
{
	uint32_t arg;
	const int ret = vmbus_synic_raise(&synic, SINT, 5, &arg);

	EX_CHECK(ret >= 0, "raise: %d", ret);
	if (ret == (int)VMBUS_SYNIC_INTERRUPT)
		ring(BELL_CHILD);
}

static void write_and_raise(void)
{
	const uint64_t v = 1;

	vmbus__peer_write(data, &v, sizeof(v));
	raise_flag();
}

static void take_event(void)
{
	while (vmbus_synic_take_flags(flags, SINT, 0) != 1u << 5)
		ex_await(flags + 512, 8);
	ex_read_bytes(data, 8);
}

static void events(void)
{
	setup_synic(VECTOR);
	wrote[0] = wrote[1] = 0;
	ex_name(&wrote[0], "wrote[0]");
	ex_name(&wrote[1], "wrote[1]");
}

static void raise0(void)
{
	vmbus__st64_relaxed(vmbus__as_a64(&wrote[0]), 1);
	raise_flag();
}

static void raise1(void)
{
	vmbus__st64_relaxed(vmbus__as_a64(&wrote[1]), 1);
	raise_flag();
}

static void take_events(void)
{
	while (!vmbus__ld64_relaxed(vmbus__as_a64(&wrote[0])) ||
	       !vmbus__ld64_relaxed(vmbus__as_a64(&wrote[1])))
		if (vmbus_synic_take_flags(flags, SINT, 0) == 0)
			wait_for(BELL_CHILD);
}

/* A flag that is raised while the guest unmasks: interrupt, or found when it looks. */
static void unmask(void)
{
	setup_synic(MASKED | VECTOR);
}

static void unmask_and_look(void)
{
	EX_CHECK(vmbus_synic_msr_write(&synic, SINT2, VECTOR, false) >= 0, "unmask");
	while (vmbus_synic_take_flags(flags, SINT, 0) == 0)
		wait_for(BELL_CHILD);
}

/* A page that appears: who finds it finds it prepared. */
static void pages(void)
{
	setup_synic(VECTOR);
	vmbus_synic_set_pages(&synic, NULL, NULL, NULL, 0, 0);
}

static void set_pages(void)
{
	const uint64_t zero = 0;

	ex_touch(true); /* stands for the zeroes */
	vmbus__peer_write(messages + 520, &zero, sizeof(zero));
	vmbus_synic_set_pages(&synic, messages, flags, NULL, 0, 0);
}

static void use_pages(void)
{
	uint32_t arg;

	if (vmbus_synic_raise(&synic, SINT, 5, &arg) != VMBUS_E_AGAIN)
		ex_touch(false);
}

static void use_message_page(void)
{
	const struct vmbus_synic_msg msg = { .type = 1 };
	uint32_t arg;

	if (vmbus_synic_post(&synic, SINT, &msg, false, &arg) != VMBUS_E_AGAIN)
		ex_touch(false);
}

static void message_page(void)
{
	pages();
	ex_window(messages, sizeof(messages));
}

/*
 * The guest moves its message page while a message is posted: it is in the new page, or is posted
 * again once the move is over.
 */
static uint8_t moved[4096] __attribute__((aligned(64)));

static void move(void)
{
	setup_slot(1, false, false);
	memset(messages, 0, sizeof(messages));
	ex_name(moved + 512, "type (new)");
	ex_name(moved + 516, "header (new)");
}

static void move_page(void)
{
	EX_CHECK(vmbus_synic_msr_write(&synic, SIMP, 0xB001, false) > 0, "SIMP");
	vmbus_synic_set_pages(&synic, moved, flags, NULL, 0, 0);
	ring(BELL_PARENT); /* SLOT_FREE */
}

static void post_beside(void)
{
	struct vmbus_synic_msg msg = { .type = 1, .bytes = 16, .sender = 100 };
	uint32_t arg;

	memset(msg.payload, 1, 16);
	while (vmbus_synic_post(&synic, SINT, &msg, false, &arg) == VMBUS_E_AGAIN)
		wait_for(BELL_PARENT);
}

/* The same with a message there before: that goes along whole, and the other waits. */
static void move_taken(void)
{
	struct vmbus_synic_msg msg = { .type = 1, .bytes = 16, .sender = 100 };
	uint32_t arg;

	move();
	memset(msg.payload, 1, 16);
	(void)vmbus_synic_post(&synic, SINT, &msg, false, &arg);
}

static void post_second(void)
{
	const struct vmbus_synic_msg msg = { .type = 1, .bytes = 16, .sender = 101 };
	uint32_t arg;

	EX_CHECK(vmbus_synic_post(&synic, SINT, &msg, false, &arg) == VMBUS_E_AGAIN,
		 "two in a slot");
}

static void finish_move(void)
{
	struct vmbus_synic_msg msg;
	bool eom;

	EX_CHECK(vmbus_synic_take(moved, SINT, &msg, &eom) == 1,
		 "the message is not in the new page");
	check_message(&msg);
	EX_CHECK(vmbus_synic_take(messages, SINT, &msg, &eom) == 0, "and in the old one too");
}

/* The mailbox. */
static struct vmbus_hcbox_child child;
static struct vmbus_hcbox_parent parent;
static uint32_t served;

static uint32_t on_post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload,
			uint32_t bytes)
{
	const uint8_t *p = payload;

	(void)ctx;
	EX_CHECK(conn_id == served + 1 && type == 1 && bytes == 8 && p[0] == conn_id &&
			 p[7] == conn_id,
		 "call %u is not whole", served);
	served++;
	return conn_id == 1 ? VMBUS_HC_NO_BUFFERS : VMBUS_HC_OK;
}

static void mailbox(void)
{
	EX_CHECK(vmbus_hcbox_parent_init(&parent, box) == 0, "parent_init");
	EX_CHECK(vmbus_hcbox_child_init(&child, box) == 0, "child_init");
	served = 0;
	ex_window(box, sizeof(box));
	ex_name(box, "call");
	ex_name(box + 384, "answer");
	ex_name(box + 392, "result");
}

static void put_calls(void)
{
	const struct vmbus_hc_regs regs = { .control = VMBUS_HC_POST_MESSAGE };
	struct vmbus_hc_call call = { .code = VMBUS_HC_POST_MESSAGE, .type = 1, .bytes = 8 };
	uint8_t block[24];
	uint64_t result = 0;
	uint32_t i;
	int ret;

	for (i = 1; i <= 2; i++) {
		call.conn_id = i;
		memset(call.payload, (int)i, 8);
		EX_CHECK(vmbus_hc_encode(&call, block, sizeof(block)) == 24, "encode");
		ret = vmbus_hcbox_put(&child, &regs, block, sizeof(block));
		EX_CHECK(ret == 0, "put: %d", ret);
		ring(BELL_PARENT);
		while ((ret = vmbus_hcbox_result(&child, &result)) == VMBUS_E_AGAIN)
			ex_await(box + 384, 4);
		EX_CHECK(ret == 1, "result: %d", ret);
		EX_CHECK(result == (i == 1 ? VMBUS_HC_NO_BUFFERS : VMBUS_HC_OK),
			 "the answer of another call");
	}
}

static void serve_calls(void)
{
	const struct vmbus_hc_ops ops = { .struct_bytes = sizeof(ops), .post_message = on_post };
	int ret;

	while (served < 2) {
		ret = vmbus_hcbox_serve(&parent, &ops, NULL);
		EX_CHECK(ret >= 0, "serve: %d", ret);
		if (ret == 0)
			ex_await(box, 4);
	}
}

/* The same with both asleep in between, woken by bells. */
static void put_calls_asleep(void)
{
	struct vmbus_hc_regs regs;
	uint64_t result = 0;
	uint32_t i;
	int ret;

	for (i = 1; i <= 2; i++) {
		vmbus_hc_encode_fast_signal(i, 0, &regs);
		EX_CHECK(vmbus_hcbox_put(&child, &regs, NULL, 0) == 0, "put");
		ring(BELL_PARENT);
		while ((ret = vmbus_hcbox_result(&child, &result)) == VMBUS_E_AGAIN)
			wait_for(BELL_CHILD);
		EX_CHECK(ret == 1 && result == i, "result: %d", ret);
	}
}

static uint32_t on_signal(void *ctx, uint32_t conn_id, uint32_t flag)
{
	(void)ctx;
	EX_CHECK(conn_id == served + 1 && flag == 0, "call %u is not whole", served);
	return ++served;
}

static void serve_calls_asleep(void)
{
	const struct vmbus_hc_ops ops = { .struct_bytes = sizeof(ops), .signal_event = on_signal };
	int ret;

	while (served < 2) {
		ret = vmbus_hcbox_serve(&parent, &ops, NULL);
		EX_CHECK(ret >= 0, "serve: %d", ret);
		if (ret)
			ring(BELL_CHILD);
		else
			wait_for(BELL_PARENT);
	}
}

/* The clock page: two updates beside a reader. */
static void clock_words(void)
{
	memset(clock_page, 0, sizeof(clock_page));
	vmbus_hv_fill_tsc(clock_page, 1, 1ull << 63, 10);
	ex_name(&clock_page[0], "sequence");
	ex_name(&clock_page[1], "scale");
	ex_name(&clock_page[2], "offset");
}

static void fill_clock(void)
{
	vmbus_hv_fill_tsc(clock_page, 2, 1ull << 62, 20);
	vmbus_hv_fill_tsc(clock_page, 3, 1ull << 61, 30);
}

static void read_clock(void)
{
	uint64_t time;
	uint32_t i;

	for (i = 0; i < 2; i++)
		if (vmbus_hv_read_tsc(clock_page, 8000, &time))
			EX_CHECK(time == 4010 || time == 2020 || time == 1030,
				 "time %u is of two pages", (unsigned int)time);
}

#define SCENARIO(plan_name, text, first, second, ...)                                              \
	{                                                                                          \
		.name = "hypercall." #plan_name, .what = text, .threads = 2, .setup = plan_name,   \
		.body = { first, second }, __VA_ARGS__                                             \
	}

const struct ex_scenario hypercall_scenarios[] = {
	SCENARIO(slot, "no message stuck, none torn", post_all, take_all, .finish = finish_slot),
	SCENARIO(slot_more, "the same, the parent says that more waits", post_all, take_all,
		 .finish = finish_slot),
	SCENARIO(slot_polled, "the same, the child polls", post_all, take_all,
		 .finish = finish_slot),
	SCENARIO(event, "what was written before a flag is there with it", write_and_raise,
		 take_event, .finish = NULL),
	{ .name = "hypercall.events",
	  .what = "the same of two that raise one flag",
	  .threads = 3,
	  .setup = events,
	  .body = { raise0, raise1, take_events } },
	SCENARIO(unmask, "no flag unseen after unmask", raise_flag, unmask_and_look,
		 .finish = NULL),
	SCENARIO(pages, "a page is prepared before it is used", set_pages, use_pages,
		 .finish = NULL),
	SCENARIO(message_page, "the same of a message", set_pages, use_message_page),
	SCENARIO(move, "a message is not lost when its page moves", move_page, post_beside,
		 .finish = finish_move),
	SCENARIO(move_taken, "the same of one that is there before", move_page, post_second,
		 .finish = finish_move),
	SCENARIO(mailbox, "calls whole, answers their own", put_calls, serve_calls, .finish = NULL),
	{ .name = "hypercall.mailbox_asleep",
	  .what = "nobody left asleep",
	  .threads = 2,
	  .setup = mailbox,
	  .body = { put_calls_asleep, serve_calls_asleep } },
	SCENARIO(clock_words, "no time from two pages", fill_clock, read_clock, .finish = NULL),
};

const uint32_t hypercall_count = sizeof(hypercall_scenarios) / sizeof(hypercall_scenarios[0]);
