/* SPDX-License-Identifier: MIT */
/* The mailbox for calls, both ends, and a peer that lies: src/hypercall/hcbox.c. */
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <vmbus/hypercall.h>

#include "base/atomic.h"
#include "vmbus_test.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The words of the page, for a peer that lies; nobody else needs to know them. */
enum {
	AT_CALL = 0,
	AT_WORDS = 64,
	AT_BYTES = 88,
	AT_INPUT = 128,
	AT_ANSWER = 384,
	AT_RESULT = 392
};

static _Alignas(4096) uint8_t page[VMBUS_HCBOX_BYTES];
static struct vmbus_hcbox_child child;
static struct vmbus_hcbox_parent parent;

static struct {
	unsigned int posts, signals, others;
	uint32_t conn_id, flag, len;
	uint8_t payload[240];
	uint64_t other_in;
	uint32_t other_code;
} seen;
static uint32_t answer;

static uint32_t post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload, uint32_t len)
{
	must(ctx == &seen);
	must(type != 0);
	must(len <= VMBUS_HC_MESSAGE_MAX);
	seen.posts++;
	seen.conn_id = conn_id;
	seen.len = len;
	memcpy(seen.payload, payload, len);
	return answer;
}

static uint32_t signal_event(void *ctx, uint32_t conn_id, uint32_t flag)
{
	must(ctx == &seen);
	seen.signals++;
	seen.conn_id = conn_id;
	seen.flag = flag;
	return answer;
}

static uint64_t other(void *ctx, const struct vmbus_hc_control *control,
		      const struct vmbus_hc_regs *regs)
{
	must(ctx == &seen);
	seen.others++;
	seen.other_in = regs->in;
	seen.other_code = control->code;
	return 0x500000003;
}

static int read_never(void *ctx, uint64_t gpa, void *to, size_t bytes)
{
	(void)ctx;
	(void)gpa;
	(void)to;
	(void)bytes;
	ck_abort_msg("the box has the input");
}

static const struct vmbus_hc_ops ops = { .struct_bytes = sizeof(ops),
					 .read = read_never,
					 .post_message = post,
					 .signal_event = signal_event,
					 .other = other };

static uint32_t word(unsigned int at)
{
	uint32_t v;

	memcpy(&v, page + at, sizeof(v));
	return v;
}

static void set_word(unsigned int at, uint32_t v)
{
	memcpy(page + at, &v, sizeof(v));
}

static void fresh(void)
{
	memset(&seen, 0, sizeof(seen));
	answer = VMBUS_HC_OK;
	memset(page, 0xA5, sizeof(page));
	must_eq(vmbus_hcbox_parent_init(&parent, page), 0);
	must_eq(vmbus_hcbox_child_init(&child, page), 0);
}

static int put_post(uint32_t conn_id, uint32_t len, uint8_t first)
{
	struct vmbus_hc_call call = { .code = VMBUS_HC_POST_MESSAGE, .type = 1 };
	const struct vmbus_hc_regs regs = { .control = 0x5C, .in = 0xDEADBEEF00000123 };
	uint8_t block[VMBUS_HC_INPUT_MAX];
	uint32_t i;

	call.conn_id = conn_id;
	call.bytes = len;
	for (i = 0; i < len; i++)
		call.payload[i] = (uint8_t)(first + i);
	return vmbus_hcbox_put(&child, &regs, block,
			       (size_t)vmbus_hc_encode(&call, block, sizeof(block)));
}

static int put_signal(uint32_t conn_id)
{
	struct vmbus_hc_regs regs;

	vmbus_hc_encode_fast_signal(conn_id, 0, &regs);
	return vmbus_hcbox_put(&child, &regs, NULL, 0);
}

START_TEST(hcbox_init__refusals)
{
	fresh();
	must_eq(vmbus_hcbox_child_init(NULL, page), VMBUS_E_INVAL);
	must_eq(vmbus_hcbox_child_init(&child, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_hcbox_child_init(&child, page + 4), VMBUS_E_INVAL);
	must_eq(vmbus_hcbox_parent_init(NULL, page), VMBUS_E_INVAL);
	must_eq(vmbus_hcbox_parent_init(&parent, NULL), VMBUS_E_INVAL);
	must_eq(vmbus_hcbox_parent_init(&parent, page + 4), VMBUS_E_INVAL);
}
END_TEST

/* A call of each form, of every length; the answer can be taken once. */
START_TEST(hcbox__carries_calls)
{
	uint64_t result;
	uint32_t len, i;

	fresh();
	for (len = 0; len <= 240; len++) {
		vmbus_test_at("%u bytes", len);
		must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 0);
		must_eq(vmbus_hcbox_result(&child, &result), VMBUS_E_STATE);
		must_eq(put_post(4, len, (uint8_t)len), 0);
		must_eq(vmbus_hcbox_result(&child, &result), VMBUS_E_AGAIN);
		must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
		must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 0);
		must_eq(seen.posts, len + 1);
		must_eq(seen.conn_id, 4);
		must_eq(seen.len, len);
		for (i = 0; i < len; i++)
			must_eq(seen.payload[i], (uint8_t)(len + i));
		must_eq(vmbus_hcbox_result(&child, &result), 1);
		must_eq(result, VMBUS_HC_OK);
		must_eq(vmbus_hcbox_result(&child, &result), VMBUS_E_STATE);
		must_eq(put_signal(0x2001 + len), 0);
		must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
		must_eq(seen.signals, len + 1);
		must_eq(seen.conn_id, 0x2001 + len);
		must_eq(vmbus_hcbox_result(&child, &result), 1);
		must_eq(result, VMBUS_HC_OK);
	}
}
END_TEST

START_TEST(hcbox_put__one_call_at_a_time)
{
	uint64_t result;

	fresh();
	must_eq(put_signal(1), 0);
	must_eq(put_signal(2), VMBUS_E_AGAIN);
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
	must_eq(seen.conn_id, 1);
	must_eq(put_signal(2), VMBUS_E_AGAIN); /* until the answer is taken */
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 0);
	must_eq(vmbus_hcbox_result(&child, &result), 1);
	must_eq(put_signal(3), 0);
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
	must_eq(seen.conn_id, 3);
	must_eq(seen.signals, 2);
}
END_TEST

START_TEST(hcbox_put__refusals)
{
	const struct vmbus_hc_regs regs = { .control = 0x5C };
	uint8_t block[VMBUS_HC_INPUT_MAX + 1] = { 0 };

	fresh();
	must_eq(vmbus_hcbox_put(&child, &regs, block, sizeof(block)), VMBUS_E_RANGE);
	must_eq(vmbus_hcbox_put(&child, &regs, block, SIZE_MAX), VMBUS_E_RANGE);
	must_eq(vmbus_hcbox_put(&child, &regs, NULL, 8), VMBUS_E_INVAL);
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 0);
	must_eq(vmbus_hcbox_put(&child, &regs, block, VMBUS_HC_INPUT_MAX), 0);
}
END_TEST

/* What the table says is the answer; so are our own refusals. */
START_TEST(hcbox_serve__answers)
{
	static const struct {
		uint64_t control, in;
		uint32_t answer;
		uint64_t result;
	} cases[] = {
		{ 0x1005D, 1, VMBUS_HC_NO_BUFFERS, VMBUS_HC_NO_BUFFERS },
		{ 0x1005D, 1, VMBUS_HC_CONNECTION_ID, VMBUS_HC_CONNECTION_ID },
		{ 0x1005D, 0x01000000, VMBUS_HC_OK, VMBUS_HC_CONNECTION_ID },
		{ 0x5C, 3, VMBUS_HC_OK, VMBUS_HC_PARAMETER }, /* a block of zeroes: type 0 */
		{ 0x18008001, 7, VMBUS_HC_OK, VMBUS_HC_INVALID_INPUT },
		{ 0x8001, 7, VMBUS_HC_OK, 0x500000003 },
		{ 0x18001, 7, VMBUS_HC_OK, 0x500000003 },
	};
	uint64_t result;
	unsigned int i;

	fresh();
	for (i = 0; i < COUNT(cases); i++) {
		const struct vmbus_hc_regs regs = { .control = cases[i].control,
						    .in = cases[i].in };

		vmbus_test_at("case %u", i);
		answer = cases[i].answer;
		must_eq(vmbus_hcbox_put(&child, &regs, NULL, 0), 0);
		must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
		must_eq(vmbus_hcbox_result(&child, &result), 1);
		must_eq(result, cases[i].result);
	}
	must_eq(seen.others, 2);
	must_eq(seen.other_code, 0x8001);
	must_eq(seen.other_in, 7); /* of the fast one; the address of a slow one is taken away */
}
END_TEST

/* What is behind a short block is 0, never a byte of an earlier call. */
START_TEST(hcbox_serve__no_residue_of_earlier_calls)
{
	struct vmbus_hc_regs regs = { .control = 0x5C };
	uint8_t block[16] = { 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 240, 0, 0, 0 };
	uint64_t result;
	unsigned int i;

	fresh();
	must_eq(put_post(4, 240, 1), 0);
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
	must_eq(vmbus_hcbox_result(&child, &result), 1);
	must_eq(vmbus_hcbox_put(&child, &regs, block, sizeof(block)), 0);
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
	must_eq(seen.len, 240);
	for (i = 0; i < 240; i++)
		must_eq(seen.payload[i], 0);
}
END_TEST

START_TEST(hcbox_serve__refuses_a_smaller_table)
{
	struct vmbus_hc_ops small = ops;

	fresh();
	must_eq(put_signal(1), 0);
	small.struct_bytes--;
	must_eq(vmbus_hcbox_serve(&parent, &small, &seen), VMBUS_E_INVAL);
	must_eq(vmbus_hcbox_serve(&parent, NULL, &seen), VMBUS_E_INVAL);
	must_eq(seen.signals, 0);
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1); /* nothing was lost */
}
END_TEST

START_TEST(hcbox__numbers_go_round)
{
	uint64_t result;
	unsigned int i;

	fresh();
	child.seq_p = parent.seq_p = UINT32_MAX - 2;
	set_word(AT_CALL, UINT32_MAX - 2);
	set_word(AT_ANSWER, UINT32_MAX - 2);
	for (i = 1; i <= 6; i++) {
		must_eq(put_signal(i), 0);
		must_eq(vmbus_hcbox_result(&child, &result), VMBUS_E_AGAIN);
		must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
		must_eq(vmbus_hcbox_result(&child, &result), 1);
		must_eq(seen.conn_id, i);
	}
	must_eq(word(AT_CALL), 3);
}
END_TEST

/* A child that comes back needs a page that the parent has set up anew. */
START_TEST(hcbox_child_init__after_calls)
{
	struct vmbus_hcbox_child second;
	uint64_t result;

	fresh();
	must_eq(put_signal(1), 0);
	must_eq(vmbus_hcbox_child_init(&second, page), VMBUS_E_STATE);
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
	must_eq(vmbus_hcbox_child_init(&second, page), VMBUS_E_STATE);
	set_word(AT_CALL, 0); /* the child may write what it likes into its own word */
	must_eq(vmbus_hcbox_child_init(&second, page), VMBUS_E_STATE);
	must_eq(put_signal(2), VMBUS_E_AGAIN);
	must_eq(vmbus_hcbox_parent_init(&parent, page), 0);
	must_eq(vmbus_hcbox_child_init(&second, page), 0);
	child = second;
	must_eq(vmbus_hcbox_result(&child, &result), VMBUS_E_STATE); /* the old call is gone */
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 0);
	must_eq(put_signal(3), 0);
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
	must_eq(seen.conn_id, 3);
}
END_TEST

/* A number that is neither the last nor the next one breaks the box, for the one who sees it. */
START_TEST(hcbox__impossible_numbers)
{
	static const uint32_t steps[] = { 2, 3, 0x7FFFFFFF, 0x80000000, UINT32_MAX };
	uint64_t result;
	unsigned int i;

	for (i = 0; i < COUNT(steps); i++) {
		vmbus_test_at("step %u", steps[i]);
		fresh();
		set_word(AT_CALL, steps[i]);
		must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), VMBUS_E_PEER);
		set_word(AT_CALL, 1);
		must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), VMBUS_E_FAULT);
		must_eq(seen.signals + seen.posts, 0);
		must_eq(word(AT_ANSWER), 0);
		fresh();
		must_eq(put_signal(1), 0);
		set_word(AT_ANSWER, steps[i]);
		must_eq(vmbus_hcbox_result(&child, &result), VMBUS_E_PEER);
		set_word(AT_ANSWER, 1);
		must_eq(vmbus_hcbox_result(&child, &result), VMBUS_E_FAULT);
		must_eq(put_signal(2), VMBUS_E_FAULT);
	}
}
END_TEST

/* An end never reads its own words back: a peer that overwrites them harms itself. */
START_TEST(hcbox__own_words_are_private)
{
	uint64_t result;

	fresh();
	must_eq(put_signal(1), 0);
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
	must_eq(vmbus_hcbox_result(&child, &result), 1);
	set_word(AT_CALL, 77); /* the parent overwrites the child's */
	must_eq(put_signal(2), 0);
	must_eq(word(AT_CALL), 2);
	set_word(AT_ANSWER, 99); /* the child overwrites the parent's */
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
	must_eq(word(AT_ANSWER), 2);
}
END_TEST

/* More input than a box has. */
START_TEST(hcbox_serve__input_past_the_box)
{
	static const uint32_t lengths[] = { 257, 4096, 0x80000000, UINT32_MAX };
	uint64_t result;
	unsigned int i;

	fresh();
	for (i = 0; i < COUNT(lengths); i++) {
		must_eq(put_post(4, 8, 1), 0);
		set_word(AT_BYTES, lengths[i]);
		must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
		must_eq(seen.posts, 0);
		must_eq(vmbus_hcbox_result(&child, &result), 1);
		must_eq(result, VMBUS_HC_INVALID_INPUT);
	}
}
END_TEST

#if defined(VMBUS_TEST_HOOKS)
static struct {
	unsigned int all, at; /* loads of the page so far; before which one to strike */
	unsigned int call, words, input, answer, result, elsewhere;
	unsigned int place;
	uint32_t value;
	bool on;
} plan;

static void hook(const volatile void *p)
{
	const uintptr_t at = (uintptr_t)p - (uintptr_t)page;

	if (at >= sizeof(page))
		return;
	if (plan.on && plan.all == plan.at)
		set_word(plan.place, plan.value);
	plan.all++;
	if (at == AT_CALL)
		plan.call++;
	else if (at == AT_WORDS)
		plan.words++;
	else if (at == AT_INPUT)
		plan.input++;
	else if (at == AT_ANSWER)
		plan.answer++;
	else if (at == AT_RESULT)
		plan.result++;
	else
		plan.elsewhere++;
}

/* Each word and each byte is read once in a call. */
START_TEST(hcbox__reads_everything_once)
{
	uint64_t result;

	fresh();
	vmbus__test_hook = hook;
	memset(&plan, 0, sizeof(plan));
	must_eq(put_post(4, 240, 1), 0);
	must_eq(plan.all, 0);
	must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
	must_eq(plan.call, 1);
	must_eq(plan.words, 1);
	must_eq(plan.input, 1);
	must_eq(plan.all, 3);
	must_eq(vmbus_hcbox_result(&child, &result), 1);
	must_eq(plan.answer, 1);
	must_eq(plan.result, 1);
	must_eq(plan.all, 5);
	vmbus__test_hook = NULL;
}
END_TEST

/* One session with the child's words forged before one load of the parent's. */
static void forged_session(unsigned int at, unsigned int place, uint32_t value)
{
	uint64_t result = 0;
	int ret;

	fresh();
	must_eq(put_post(4, 16, 1), 0);
	memset(&plan, 0, sizeof(plan));
	plan.on = true;
	plan.at = at;
	plan.place = place;
	plan.value = value;
	vmbus__test_hook = hook;
	ret = vmbus_hcbox_serve(&parent, &ops, &seen);
	vmbus__test_hook = NULL;
	must(plan.all <= 3);
	must(seen.posts + seen.signals + seen.others <= 1);
	must(ret == 1 || ret == 0 || ret == VMBUS_E_PEER);
	must_eq(word(AT_ANSWER) == 1, ret == 1 || (place == AT_ANSWER && value == 1));
	if (ret == 1)
		must_eq(vmbus_hcbox_result(&child, &result), 1);
}

START_TEST(hcbox_serve__child_that_changes_words_meanwhile)
{
	static const uint32_t values[] = { 0,	1,    2,       8,	   240,	      256,
					   257, 0x5D, 0x1005D, 0x80000000, UINT32_MAX };
	unsigned int at, place, i;

	for (at = 0; at < 3; at++)
		for (place = 0; place < 416; place += 4)
			for (i = 0; i < COUNT(values); i++) {
				vmbus_test_at("load %u, byte %u, value %u", at, place, values[i]);
				forged_session(at, place, values[i]);
			}
}
END_TEST

/* And a parent that does the same to the child. */
START_TEST(hcbox_result__parent_that_changes_words_meanwhile)
{
	static const uint32_t values[] = { 0, 1, 2, 0x13, 0x80000000, UINT32_MAX };
	unsigned int at, place, i;
	uint64_t result;
	int ret;

	for (at = 0; at < 2; at++)
		for (place = 0; place < 416; place += 4)
			for (i = 0; i < COUNT(values); i++) {
				fresh();
				must_eq(put_signal(1), 0);
				must_eq(vmbus_hcbox_serve(&parent, &ops, &seen), 1);
				memset(&plan, 0, sizeof(plan));
				plan.on = true;
				plan.at = at;
				plan.place = place;
				plan.value = values[i];
				vmbus__test_hook = hook;
				ret = vmbus_hcbox_result(&child, &result);
				vmbus__test_hook = NULL;
				must(plan.all <= 2);
				must(ret == 1 || ret == VMBUS_E_AGAIN || ret == VMBUS_E_PEER);
				must(ret == 1 || place == AT_ANSWER);
			}
}
END_TEST
#endif

#define STRESS_CALLS 20000u

static uint32_t stress_post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload,
			    uint32_t len)
{
	const uint8_t *p = payload;
	uint32_t *next = ctx, i;

	if (conn_id != *next || type != 1)
		return VMBUS_HC_PORT_ID;
	for (i = 0; i < len; i++)
		if (p[i] != (uint8_t)(conn_id + i))
			return VMBUS_HC_PARAMETER;
	(*next)++;
	return len ? VMBUS_HC_OK : VMBUS_HC_NO_BUFFERS;
}

static const struct vmbus_hc_ops stress_ops = { .struct_bytes = sizeof(stress_ops),
						.post_message = stress_post };

/* The parent, in a thread of its own: returns NULL when all calls were served. */
static void *serve_all(void *arg)
{
	const time_t end = time(NULL) + 60;
	uint32_t next = 1, served = 0;

	(void)arg;
	while (served < STRESS_CALLS) {
		const int ret = vmbus_hcbox_serve(&parent, &stress_ops, &next);

		if (ret < 0)
			return (void *)(uintptr_t) "serve failed";
		served += (uint32_t)ret;
		if (ret == 0) {
			if (time(NULL) > end)
				return (void *)(uintptr_t) "no call came";
			(void)sched_yield();
		}
	}
	return NULL;
}

/* Two honest threads on one page: calls arrive whole, in order, and each answer is its own. */
START_TEST(hcbox__two_threads)
{
	const time_t end = time(NULL) + 60;
	pthread_t thread;
	uint64_t result;
	void *failure;
	uint32_t i;
	int ret;

	fresh();
	must_eq(pthread_create(&thread, NULL, serve_all, NULL), 0);
	for (i = 1; i <= STRESS_CALLS; i++) {
		must_eq(put_post(i, i % 241, (uint8_t)i), 0);
		while ((ret = vmbus_hcbox_result(&child, &result)) == VMBUS_E_AGAIN) {
			must(time(NULL) <= end);
			(void)sched_yield();
		}
		vmbus_test_at("call %u", i);
		must_eq(ret, 1);
		must_eq(result, i % 241 ? VMBUS_HC_OK : VMBUS_HC_NO_BUFFERS);
	}
	must_eq(pthread_join(thread, &failure), 0);
	must(failure == NULL);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "calls", 10);

	tcase_add_test(tc, hcbox_init__refusals);
	tcase_add_test(tc, hcbox__carries_calls);
	tcase_add_test(tc, hcbox_put__one_call_at_a_time);
	tcase_add_test(tc, hcbox_put__refusals);
	tcase_add_test(tc, hcbox_serve__answers);
	tcase_add_test(tc, hcbox_serve__no_residue_of_earlier_calls);
	tcase_add_test(tc, hcbox_serve__refuses_a_smaller_table);
	tcase_add_test(tc, hcbox__numbers_go_round);
	tcase_add_test(tc, hcbox_child_init__after_calls);
	tc = vmbus_test_case(suite, "liars", 10);
	tcase_add_test(tc, hcbox__impossible_numbers);
	tcase_add_test(tc, hcbox__own_words_are_private);
	tcase_add_test(tc, hcbox_serve__input_past_the_box);
#if defined(VMBUS_TEST_HOOKS)
	tcase_add_test(tc, hcbox__reads_everything_once);
	tcase_add_test(tc, hcbox_serve__child_that_changes_words_meanwhile);
	tcase_add_test(tc, hcbox_result__parent_that_changes_words_meanwhile);
#endif
	tc = vmbus_test_case(suite, "threads", 20);
	tcase_add_test(tc, hcbox__two_threads);
}

VMBUS_TEST_MAIN("hypercall.hcbox", tests)
