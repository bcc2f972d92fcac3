/* SPDX-License-Identifier: MIT */
/* Control word, input blocks and dispatch: src/hypercall/hc.c. */
#include <vmbus/hypercall.h>

#include "vmbus_test.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Bits of the control word that no field has, [HC-CONTROL]. */
#define RESERVED 0xF000F00078000000u

/* What the table's functions saw. */
static struct {
	unsigned int reads, posts, signals, others;
	uint64_t gpa;
	size_t bytes;
	uint32_t conn_id, type, flag, len;
	uint8_t payload[256];
	struct vmbus_hc_control control;
} seen;
static uint32_t answer;
static int read_answer;
static uint8_t memory[256]; /* what read() gives, whatever the address */

static int read_memory(void *ctx, uint64_t gpa, void *to, size_t bytes)
{
	must(ctx == &seen);
	seen.reads++;
	seen.gpa = gpa;
	seen.bytes = bytes;
	must(bytes <= sizeof(memory));
	memcpy(to, memory, bytes);
	return read_answer;
}

static uint32_t post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload, uint32_t len)
{
	must(ctx == &seen);
	seen.posts++;
	seen.conn_id = conn_id;
	seen.type = type;
	seen.len = len;
	must(len <= VMBUS_HC_MESSAGE_MAX);
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
	must(regs != NULL);
	seen.others++;
	seen.control = *control;
	return 0x0000000300000078u;
}

static const struct vmbus_hc_ops ops = { .struct_bytes = sizeof(ops),
					 .read = read_memory,
					 .post_message = post,
					 .signal_event = signal_event,
					 .other = other };

static void put(uint8_t *p, uint64_t v, unsigned int bytes)
{
	while (bytes--) {
		*p++ = (uint8_t)v;
		v >>= 8;
	}
}

static void post_block(uint8_t *block, uint32_t conn_id, uint32_t type, uint32_t len)
{
	unsigned int i;

	memset(block, 0, 256);
	put(block, conn_id, 4);
	put(block + 8, type, 4);
	put(block + 12, len, 4);
	for (i = 0; i < 240; i++)
		block[16 + i] = (uint8_t)(i + 1);
}

static void fresh(void)
{
	memset(&seen, 0, sizeof(seen));
	memset(memory, 0, sizeof(memory));
	answer = VMBUS_HC_OK;
	read_answer = 0;
}

static uint64_t call(uint64_t control, uint64_t in, uint64_t out)
{
	const struct vmbus_hc_regs regs = { .control = control, .in = in, .out = out };

	return vmbus_hc_dispatch(&ops, &seen, &regs);
}

static unsigned int carried_out(void)
{
	return seen.posts + seen.signals + seen.others;
}

/* [HC-CONTROL]: each bit of the word belongs to one field, or is reserved. */
START_TEST(hc_control_decode__every_bit)
{
	struct vmbus_hc_control c;
	unsigned int bit;

	for (bit = 0; bit < 64; bit++) {
		const uint64_t word = (uint64_t)1 << bit;

		vmbus_test_at("bit %u", bit);
		must_eq(vmbus_hc_control_decode(word, &c),
			word & RESERVED ? VMBUS_HC_INVALID_INPUT : VMBUS_HC_OK);
		must_eq(c.code, bit < 16 ? word : 0);
		must_eq(c.fast, bit == 16);
		must_eq(c.var_header_qwords, bit >= 17 && bit <= 26 ? 1 << (bit - 17) : 0);
		must_eq(c.nested, bit == 31);
		must_eq(c.rep_count, bit >= 32 && bit <= 43 ? 1 << (bit - 32) : 0);
		must_eq(c.rep_start, bit >= 48 && bit <= 59 ? 1 << (bit - 48) : 0);
		must_eq(vmbus_hc_control_encode(&c), word & ~RESERVED);
	}
}
END_TEST

START_TEST(hc_control_encode__drops_what_has_no_room)
{
	struct vmbus_hc_control c = {
		.code = 0x5C, .var_header_qwords = 0xFFFF, .rep_count = 0xFFFF, .rep_start = 0xFFFF
	};
	const uint64_t word = vmbus_hc_control_encode(&c);

	must_eq(word & RESERVED, 0);
	must_eq(word, 0x0FFF0FFF07FE005C);
}
END_TEST

/* The words of section 9: a post is 0x5C, a fast signal 0x1005D with the id in RDX. */
START_TEST(hc_control_encode__known_words)
{
	struct vmbus_hc_control c = { .code = VMBUS_HC_POST_MESSAGE };
	struct vmbus_hc_regs regs;

	must_eq(vmbus_hc_control_encode(&c), 0x5C);
	memset(&regs, 0x55, sizeof(regs));
	vmbus_hc_encode_fast_signal(0x2005, 0, &regs);
	must_eq(regs.control, 0x1005D);
	must_eq(regs.in, 0x2005);
	must_eq(regs.out, 0);
	must(!regs.xmm_valid);
	vmbus_hc_encode_fast_signal(0x2005, 0x107FF, &regs);
	must_eq(regs.in, 0x07FF00002005);
}
END_TEST

static const struct {
	uint32_t conn_id, type, len, status;
} posts[] = {
	{ 1, 1, 0, VMBUS_HC_OK },
	{ 4, 1, 240, VMBUS_HC_OK },
	{ 0xFFFFFF, 0x7FFFFFFF, 240, VMBUS_HC_OK },
	{ 0x1000000, 1, 4, VMBUS_HC_CONNECTION_ID },
	{ 0x80000001, 1, 4, VMBUS_HC_CONNECTION_ID },
	{ 1, 0, 4, VMBUS_HC_PARAMETER },
	{ 1, 0x80000000, 4, VMBUS_HC_PARAMETER },
	{ 1, 0x80000010, 4, VMBUS_HC_PARAMETER },
	{ 1, 1, 241, VMBUS_HC_PARAMETER },
	{ 1, 1, 0x80000000, VMBUS_HC_PARAMETER },
	{ 1, 1, UINT32_MAX, VMBUS_HC_PARAMETER },
};

/* [HC-POST], [HC-STATUS]: each refusal; a refused call is carried out by nobody. */
START_TEST(hc_dispatch__post_message)
{
	const uint32_t conn_id = posts[_i].conn_id, type = posts[_i].type, len = posts[_i].len;
	const uint32_t status = posts[_i].status;
	struct vmbus_hc_call c;

	fresh();
	post_block(memory, conn_id, type, len);
	must_eq(vmbus_hc_decode(VMBUS_HC_POST_MESSAGE, memory, sizeof(memory), &c), status);
	must_eq(call(0x5C, 0x1000, 0), status);
	must_eq(seen.reads, 1);
	must_eq(seen.gpa, 0x1000);
	must_eq(seen.bytes, 256);
	must_eq(seen.posts, status == VMBUS_HC_OK);
	must_eq(carried_out(), seen.posts);
	if (status)
		return;
	must_eq(seen.conn_id, conn_id);
	must_eq(seen.type, type);
	must_eq(seen.len, len);
	must(memcmp(seen.payload, memory + 16, len) == 0);
}
END_TEST

START_TEST(hc_decode__block_shorter_than_it_says)
{
	struct vmbus_hc_call c;
	uint8_t *block;
	size_t bytes;

	for (bytes = 0; bytes <= 256; bytes++) {
		/* Its own allocation: a sanitizer sees a byte too many. */
		block = malloc(bytes + 1);
		must(block);
		post_block(memory, 1, 1, 200);
		memcpy(block, memory, bytes);
		vmbus_test_at("%zu bytes", bytes);
		must_eq(vmbus_hc_decode(VMBUS_HC_POST_MESSAGE, block, bytes, &c),
			bytes < 216 ? VMBUS_HC_INVALID_INPUT : VMBUS_HC_OK);
		must_eq(vmbus_hc_decode(VMBUS_HC_SIGNAL_EVENT, block, bytes, &c),
			bytes < 8 ? VMBUS_HC_INVALID_INPUT : VMBUS_HC_OK);
		must_eq(vmbus_hc_decode(0x5E, block, bytes, &c), VMBUS_HC_INVALID_CODE);
		free(block);
	}
}
END_TEST

/* [HC-SIGNAL]: the flag number is passed on; the two reserved bytes are not looked at. */
START_TEST(hc_dispatch__signal_event)
{
	static const struct {
		uint64_t block;
		uint32_t status, conn_id, flag;
	} cases[] = {
		{ 0x2005, VMBUS_HC_OK, 0x2005, 0 },
		{ 0x07FF00002005, VMBUS_HC_OK, 0x2005, 2047 },
		{ 0xABCD000100FFFFFF, VMBUS_HC_OK, 0xFFFFFF, 1 },
		{ 0x080000002005, VMBUS_HC_PARAMETER, 0, 0 },
		{ 0xFFFF00002005, VMBUS_HC_PARAMETER, 0, 0 },
		{ 0x01002005, VMBUS_HC_CONNECTION_ID, 0, 0 },
		{ 0x80002005, VMBUS_HC_CONNECTION_ID, 0, 0 },
	};
	unsigned int i, slow;

	for (i = 0; i < COUNT(cases); i++)
		for (slow = 0; slow < 2; slow++) {
			vmbus_test_at("case %u, slow %u", i, slow);
			fresh();
			put(memory, cases[i].block, 8);
			must_eq(slow ? call(0x5D, 0xFF8, 0) : call(0x1005D, cases[i].block, ~0ull),
				cases[i].status);
			must_eq(seen.reads, slow);
			if (slow)
				must_eq(seen.bytes, 8);
			must_eq(seen.signals, cases[i].status == VMBUS_HC_OK);
			must_eq(carried_out(), seen.signals);
			must_eq(seen.conn_id, cases[i].conn_id);
			must_eq(seen.flag, cases[i].flag);
		}
}
END_TEST

/* [HC-INPUT]: 8-aligned, and all of the block in one page. */
START_TEST(hc_dispatch__slow_input_alignment)
{
	uint64_t at;

	for (at = 0; at < 4096; at++) {
		vmbus_test_at("offset %" PRIu64, at);
		fresh();
		post_block(memory, 1, 1, 4);
		must_eq(call(0x5C, 0x7000 + at, 0),
			at % 8 || at > 4096 - 256 ? VMBUS_HC_ALIGNMENT : VMBUS_HC_OK);
		must_eq(seen.reads, seen.posts);
		fresh();
		put(memory, 1, 8);
		must_eq(call(0x5D, 0xFFFFFFFFFFFFF000 + at, 0),
			at % 8 ? VMBUS_HC_ALIGNMENT : VMBUS_HC_OK);
		must_eq(seen.reads, seen.signals);
	}
}
END_TEST

START_TEST(hc_dispatch__unreadable_input)
{
	struct vmbus_hc_ops none = ops;
	const struct vmbus_hc_regs regs = { .control = 0x5C, .in = 0x1000 };

	fresh();
	post_block(memory, 1, 1, 4);
	read_answer = VMBUS_E_RANGE;
	must_eq(call(0x5C, 0x1000, 0), VMBUS_HC_PARAMETER);
	must_eq(seen.reads, 1);
	must_eq(carried_out(), 0);
	none.read = NULL;
	must_eq(vmbus_hc_dispatch(&none, &seen, &regs), VMBUS_HC_PARAMETER);
	must_eq(carried_out(), 0);
}
END_TEST

/* [HC-CONTROL]: a call that does not repeat has no count, start, header, and none is nested. */
START_TEST(hc_dispatch__control_bits_of_simple_calls)
{
	static const uint16_t codes[] = { VMBUS_HC_POST_MESSAGE, VMBUS_HC_SIGNAL_EVENT };
	unsigned int bit, i, fast;

	for (i = 0; i < 2; i++)
		for (fast = 0; fast < 2; fast++)
			for (bit = 17; bit < 64; bit++) {
				const uint64_t word =
					codes[i] | (uint64_t)fast << 16 | (uint64_t)1 << bit;

				vmbus_test_at("0x%" PRIx64, word);
				fresh();
				must_eq(call(word, 0, 0), VMBUS_HC_INVALID_INPUT);
				must_eq(carried_out() + seen.reads, 0);
			}
}
END_TEST

/* [HC-STATUS]: every code that is not ours goes to other(), with all fields; or nowhere. */
START_TEST(hc_dispatch__other_codes)
{
	struct vmbus_hc_ops none = ops;
	struct vmbus_hc_regs regs = { 0 };
	uint32_t code;

	none.other = NULL;
	for (code = 0; code <= 0xFFFF; code++) {
		if (code == VMBUS_HC_POST_MESSAGE || code == VMBUS_HC_SIGNAL_EVENT)
			continue;
		vmbus_test_at("code 0x%x", code);
		fresh();
		must_eq(call(code | 0x80010000u | 0x0005000700000000u, 0, 0), 0x300000078);
		must_eq(seen.others, 1);
		must_eq(seen.control.code, code);
		must(seen.control.fast && seen.control.nested);
		must_eq(seen.control.rep_count, 7);
		must_eq(seen.control.rep_start, 5);
		regs.control = code;
		must_eq(vmbus_hc_dispatch(&none, &seen, &regs), VMBUS_HC_INVALID_CODE);
		fresh();
		must_eq(call(code | 1ull << 60, 0, 0), VMBUS_HC_INVALID_INPUT);
		must_eq(carried_out(), 0);
	}
}
END_TEST

/* A table without one of our calls gives it to other() like any code. */
START_TEST(hc_dispatch__calls_that_the_table_lacks)
{
	struct vmbus_hc_ops none = ops;
	struct vmbus_hc_regs regs = { .control = 0x5C };

	fresh();
	none.post_message = NULL;
	none.signal_event = NULL;
	must_eq(vmbus_hc_dispatch(&none, &seen, &regs), 0x300000078);
	regs.control = 0x1005D;
	must_eq(vmbus_hc_dispatch(&none, &seen, &regs), 0x300000078);
	must_eq(seen.others, 2);
	none.other = NULL;
	must_eq(vmbus_hc_dispatch(&none, &seen, &regs), VMBUS_HC_INVALID_CODE);
}
END_TEST

/* [HC-INPUT]: fast input is 16 bytes, and 112 where XMM registers are offered. */
START_TEST(hc_dispatch__fast_and_extended_fast)
{
	struct vmbus_hc_regs regs = { .control = 0x1005C };
	uint8_t block[256];
	uint32_t len, xmm;

	for (xmm = 0; xmm < 2; xmm++)
		for (len = 0; len <= 240; len++) {
			const uint32_t room = xmm ? 96 : 0;

			vmbus_test_at("xmm %u, %u bytes", xmm, len);
			fresh();
			post_block(block, 4, 1, len);
			memcpy(&regs.in, block, 8);
			memcpy(&regs.out, block + 8, 8);
			memcpy(regs.xmm, block + 16, sizeof(regs.xmm));
			regs.xmm_valid = xmm != 0;
			must_eq(vmbus_hc_dispatch(&ops, &seen, &regs),
				len <= room ? VMBUS_HC_OK : VMBUS_HC_INVALID_INPUT);
			must_eq(seen.reads, 0);
			must_eq(seen.posts, len <= room);
			if (seen.posts)
				must(memcmp(seen.payload, block + 16, len) == 0);
		}
	fresh();
	regs.control = 0x1005D;
	regs.in = 0x2001;
	must_eq(vmbus_hc_dispatch(&ops, &seen, &regs), VMBUS_HC_OK);
	must_eq(seen.signals, 1);
}
END_TEST

/* What the functions answer reaches the guest as 16 bits of status. */
START_TEST(hc_dispatch__passes_the_status_on)
{
	static const uint32_t statuses[] = { VMBUS_HC_OK, VMBUS_HC_NO_MEMORY, VMBUS_HC_PORT_ID,
					     VMBUS_HC_CONNECTION_ID, VMBUS_HC_NO_BUFFERS };
	unsigned int i;

	for (i = 0; i < COUNT(statuses); i++) {
		fresh();
		post_block(memory, 1, 1, 4);
		answer = statuses[i];
		must_eq(call(0x5C, 0, 0), statuses[i]);
		must_eq(call(0x1005D, 1, 0), statuses[i]);
	}
	answer = 0xABCD0013; /* nothing past the status can be set */
	must_eq(call(0x1005D, 1, 0), VMBUS_HC_NO_BUFFERS);
}
END_TEST

START_TEST(hc_dispatch__refuses_a_smaller_table)
{
	struct vmbus_hc_ops small = ops;
	const struct vmbus_hc_regs regs = { .control = 0x1005D, .in = 1 };

	fresh();
	small.struct_bytes = sizeof(small) - 1;
	must_eq(vmbus_hc_dispatch(&small, &seen, &regs), VMBUS_HC_OPERATION_DENIED);
	small.struct_bytes = 0;
	must_eq(vmbus_hc_dispatch(&small, &seen, &regs), VMBUS_HC_OPERATION_DENIED);
	must_eq(vmbus_hc_dispatch(NULL, &seen, &regs), VMBUS_HC_OPERATION_DENIED);
	must_eq(carried_out(), 0);
	small.struct_bytes = sizeof(small) + 8; /* a newer caller's */
	must_eq(vmbus_hc_dispatch(&small, &seen, &regs), VMBUS_HC_OK);
}
END_TEST

static struct vmbus_hc_call sample(uint32_t code, uint32_t len)
{
	struct vmbus_hc_call c = { .code = code, .conn_id = 0x2007 };
	uint32_t i;

	if (code == VMBUS_HC_SIGNAL_EVENT) {
		c.flag = 9;
		return c;
	}
	c.type = 1;
	c.bytes = len;
	for (i = 0; i < len && i < sizeof(c.payload); i++)
		c.payload[i] = (uint8_t)(7 * i);
	return c;
}

START_TEST(hc_encode__is_what_decode_takes)
{
	struct vmbus_hc_call c, again;
	uint8_t block[256];
	uint32_t len;
	int bytes;

	for (len = 0; len <= 240; len++) {
		c = sample(VMBUS_HC_POST_MESSAGE, len);
		memset(block, 0xFF, sizeof(block));
		bytes = vmbus_hc_encode(&c, block, sizeof(block));
		must_eq(bytes, 16 + len);
		must_eq(vmbus_hc_decode(c.code, block, (size_t)bytes, &again), VMBUS_HC_OK);
		must(memcmp(&c, &again, sizeof(c)) == 0);
		must(len == 240 || block[16 + len] == 0xFF);
	}
	c = sample(VMBUS_HC_SIGNAL_EVENT, 0);
	must_eq(vmbus_hc_encode(&c, block, 8), 8);
	must_eq(vmbus_hc_decode(c.code, block, 8, &again), VMBUS_HC_OK);
	must(memcmp(&c, &again, sizeof(c)) == 0);
}
END_TEST

START_TEST(hc_encode__refusals)
{
	struct vmbus_hc_call c;
	uint8_t block[256], before[256];

	memset(block, 0x5A, sizeof(block));
	memcpy(before, block, sizeof(block));
	c = sample(0x5E, 0);
	must_eq(vmbus_hc_encode(&c, block, sizeof(block)), VMBUS_E_INVAL);
	c = sample(VMBUS_HC_POST_MESSAGE, 241);
	must_eq(vmbus_hc_encode(&c, block, sizeof(block)), VMBUS_E_RANGE);
	c = sample(VMBUS_HC_POST_MESSAGE, 100);
	must_eq(vmbus_hc_encode(&c, block, 115), VMBUS_E_RANGE);
	c.type = 0;
	must_eq(vmbus_hc_encode(&c, block, sizeof(block)), VMBUS_E_RANGE);
	c = sample(VMBUS_HC_POST_MESSAGE, 4);
	c.conn_id = 0x1000000;
	must_eq(vmbus_hc_encode(&c, block, sizeof(block)), VMBUS_E_RANGE);
	c = sample(VMBUS_HC_SIGNAL_EVENT, 0);
	must_eq(vmbus_hc_encode(&c, block, 7), VMBUS_E_RANGE);
	c.flag = 2048;
	must_eq(vmbus_hc_encode(&c, block, 8), VMBUS_E_RANGE);
	must(memcmp(before, block, sizeof(block)) == 0);
}
END_TEST

START_TEST(hc_status_name__names_those_of_the_enumeration)
{
	unsigned int status, named = 0;

	for (status = 0; status < 0x200; status++)
		named += strcmp(vmbus_hc_status_name(status), "?") != 0;
	must_eq(named, 15);
	must(strcmp(vmbus_hc_status_name(VMBUS_HC_CONNECTION_ID), "invalid connection id") == 0);
	must(strcmp(vmbus_hc_status_name(UINT32_MAX), "?") == 0);
}
END_TEST

/* Callers keep these; members go in place of reserved space only. */
START_TEST(hc_structs__sizes)
{
	must_eq(sizeof(struct vmbus_hc_regs), 128);
	must_eq(sizeof(struct vmbus_hc_control), 10);
	must_eq(sizeof(struct vmbus_hc_call), 264);
	must_eq(sizeof(struct vmbus_hcbox_child), 48);
	must_eq(sizeof(struct vmbus_hcbox_parent), 48);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "control", 10);

	tcase_add_test(tc, hc_control_decode__every_bit);
	tcase_add_test(tc, hc_control_encode__drops_what_has_no_room);
	tcase_add_test(tc, hc_control_encode__known_words);
	tc = vmbus_test_case(suite, "block", 10);
	tcase_add_test(tc, hc_decode__block_shorter_than_it_says);
	tcase_add_test(tc, hc_encode__is_what_decode_takes);
	tcase_add_test(tc, hc_encode__refusals);
	tcase_add_test(tc, hc_structs__sizes);
	tc = vmbus_test_case(suite, "dispatch", 10);
	tcase_add_loop_test(tc, hc_dispatch__post_message, 0, (int)COUNT(posts));
	tcase_add_test(tc, hc_dispatch__signal_event);
	tcase_add_test(tc, hc_dispatch__slow_input_alignment);
	tcase_add_test(tc, hc_dispatch__unreadable_input);
	tcase_add_test(tc, hc_dispatch__control_bits_of_simple_calls);
	tcase_add_test(tc, hc_dispatch__other_codes);
	tcase_add_test(tc, hc_dispatch__calls_that_the_table_lacks);
	tcase_add_test(tc, hc_dispatch__fast_and_extended_fast);
	tcase_add_test(tc, hc_dispatch__passes_the_status_on);
	tcase_add_test(tc, hc_dispatch__refuses_a_smaller_table);
	tcase_add_test(tc, hc_status_name__names_those_of_the_enumeration);
}

VMBUS_TEST_MAIN("hypercall.hc", tests)
