/* SPDX-License-Identifier: MIT */
/*
 * One hypercall, registers and memory of the fuzzer's choice: through dispatch against a reference
 * that works bit by bit, and through the mailbox, whose page a hostile child has written.
 *
 * Input: choice of form and xmm, control word, RDX, R8, XMM, then the guest's memory.
 */
#include <vmbus/hypercall.h>

#include "fuzz/input.h"

static struct {
	uint8_t memory[256];
	bool unreadable;
	unsigned int reads, calls, others;
	uint32_t conn_id, type, len, flag;
	uint8_t payload[240];
} guest;

static int read_memory(void *ctx, uint64_t gpa, void *to, size_t bytes)
{
	MUST(ctx == &guest && bytes <= sizeof(guest.memory));
	MUST(gpa % 8 == 0 && gpa % 4096 + bytes <= 4096);
	guest.reads++;
	memcpy(to, guest.memory, bytes);
	return guest.unreadable ? VMBUS_E_RANGE : 0;
}

static uint32_t post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload, uint32_t len)
{
	MUST(ctx == &guest && len <= 240);
	guest.calls++;
	guest.conn_id = conn_id;
	guest.type = type;
	guest.len = len;
	memcpy(guest.payload, payload, len);
	return VMBUS_HC_NO_BUFFERS;
}

static uint32_t signal_event(void *ctx, uint32_t conn_id, uint32_t flag)
{
	MUST(ctx == &guest);
	guest.calls++;
	guest.conn_id = conn_id;
	guest.flag = flag;
	return VMBUS_HC_NO_BUFFERS;
}

static uint64_t other(void *ctx, const struct vmbus_hc_control *control,
		      const struct vmbus_hc_regs *regs)
{
	MUST(ctx == &guest && regs);
	guest.others++;
	MUST(vmbus_hc_control_encode(control) == regs->control);
	return 0x1234500000077;
}

static const struct vmbus_hc_ops ops = { .struct_bytes = sizeof(ops),
					 .read = read_memory,
					 .post_message = post,
					 .signal_event = signal_event,
					 .other = other };

static bool bits(uint64_t v, unsigned int from, unsigned int to)
{
	for (; from <= to; from++)
		if (v >> from & 1)
			return true;
	return false;
}

/* The status that a block of so many bytes gets, from [HC-POST] and [HC-SIGNAL] anew. */
static uint32_t ref_block(uint32_t code, const uint8_t *block, uint32_t bytes)
{
	const uint64_t conn_id = get_le(block, 4);

	if (code == VMBUS_HC_SIGNAL_EVENT) {
		if (get_le(block + 4, 2) > 2047)
			return VMBUS_HC_PARAMETER;
	} else {
		const uint64_t type = get_le(block + 8, 4), len = get_le(block + 12, 4);

		if (len > 240 || type == 0 || type >> 31)
			return VMBUS_HC_PARAMETER;
		if (conn_id < 1u << 24 && 16 + len > bytes)
			return VMBUS_HC_INVALID_INPUT;
	}
	return conn_id < 1u << 24 ? VMBUS_HC_NO_BUFFERS : VMBUS_HC_CONNECTION_ID;
}

static uint64_t ref_dispatch(const struct vmbus_hc_regs *regs, uint8_t block[256])
{
	const uint64_t c = regs->control;
	const uint32_t code = (uint32_t)(c & 0xFFFF);
	const bool post_code = code == VMBUS_HC_POST_MESSAGE;
	uint32_t bytes = post_code ? 256 : 8, i;

	if (bits(c, 27, 30) || bits(c, 44, 47) || bits(c, 60, 63))
		return VMBUS_HC_INVALID_INPUT;
	if (!post_code && code != VMBUS_HC_SIGNAL_EVENT)
		return 0x1234500000077;
	if (bits(c, 17, 63))
		return VMBUS_HC_INVALID_INPUT;
	if (c >> 16 & 1) {
		put_le(block, regs->in, 8);
		put_le(block + 8, regs->out, 8);
		for (i = 0; i < 12; i++)
			put_le(block + 16 + 8 * i, regs->xmm[i], 8);
		return ref_block(code, block, regs->xmm_valid ? 112 : 16);
	}
	if (regs->in % 8 || regs->in % 4096 + bytes > 4096)
		return VMBUS_HC_ALIGNMENT;
	if (guest.unreadable)
		return VMBUS_HC_PARAMETER;
	memcpy(block, guest.memory, 256);
	return ref_block(code, block, bytes);
}

static void check_seen(uint64_t result, const struct vmbus_hc_regs *regs, const uint8_t *block)
{
	const uint32_t code = (uint32_t)(regs->control & 0xFFFF);

	MUST(guest.reads <= 1 && guest.calls + guest.others <= 1);
	MUST(guest.others == (result == 0x1234500000077));
	MUST(guest.calls == (result == VMBUS_HC_NO_BUFFERS));
	if (!guest.calls)
		return;
	MUST(guest.conn_id == get_le(block, 4));
	if (code == VMBUS_HC_SIGNAL_EVENT) {
		MUST(guest.flag == get_le(block + 4, 2));
		return;
	}
	MUST(guest.type == get_le(block + 8, 4) && guest.len == get_le(block + 12, 4));
	MUST(memcmp(guest.payload, block + 16, guest.len) == 0);
}

/* The same bytes as the page of a mailbox, call number and all. */
static void through_the_box(struct input *in)
{
	static _Alignas(4096) uint8_t page[VMBUS_HCBOX_BYTES];
	struct vmbus_hcbox_parent parent;
	uint32_t i, number;
	int ret;

	MUST(vmbus_hcbox_parent_init(&parent, page) == 0);
	for (i = 0; i < 416 && in->left; i++)
		page[i] = (uint8_t)take(in, 1);
	memcpy(&number, page, 4);
	for (i = 1; i <= 3; i++) {
		guest.calls = guest.others = guest.reads = 0;
		ret = vmbus_hcbox_serve(&parent, &ops, &guest);
		MUST(guest.reads == 0 && guest.calls + guest.others <= 1);
		if (i > 1 || number == 0)
			MUST(ret == 0 || ret == VMBUS_E_FAULT);
		else
			MUST(ret == (number == 1 ? 1 : VMBUS_E_PEER));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct vmbus_hc_regs regs = { 0 };
	uint8_t block[256] = { 0 };
	uint64_t result;
	uint32_t choice = take(&in, 1), i;

	memset(&guest, 0, sizeof(guest));
	if (choice & 1) {
		through_the_box(&in);
		return 0;
	}
	guest.unreadable = choice & 2;
	regs.xmm_valid = choice & 4;
	regs.control = take(&in, 4) | (uint64_t)take(&in, 4) << 32;
	regs.in = take(&in, 4) | (uint64_t)take(&in, 4) << 32;
	regs.out = take(&in, 4) | (uint64_t)take(&in, 4) << 32;
	for (i = 0; i < 12 && regs.xmm_valid; i++)
		regs.xmm[i] = take(&in, 4) | (uint64_t)take(&in, 4) << 32;
	for (i = 0; i < sizeof(guest.memory) && in.left; i++)
		guest.memory[i] = (uint8_t)take(&in, 1);
	(void)snprintf(checks_context, sizeof(checks_context), "control 0x%llx, in 0x%llx",
		       (unsigned long long)regs.control, (unsigned long long)regs.in);
	result = vmbus_hc_dispatch(&ops, &guest, &regs);
	MUST(result == ref_dispatch(&regs, block));
	check_seen(result, &regs, block);
	return 0;
}
