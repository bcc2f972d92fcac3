/* SPDX-License-Identifier: MIT */
/*
 * Sequences of register accesses, messages and events, with a child that writes into its pages
 * meanwhile: against a model of the registers and of the event flags.
 *
 * Input: options, then operations: a byte which, and its operands.
 */
#include <vmbus/synic.h>

#include "fuzz/input.h"

enum {
	SCONTROL = 0x40000080,
	SVERSION = 0x40000081,
	SIEFP = 0x40000082,
	SIMP = 0x40000083,
	SINT0 = 0x40000090
};

static _Alignas(4096) uint8_t messages[4096], flags[4096];
static struct vmbus_synic synic;
static struct vmbus_hv hv;
static struct {
	uint64_t control, sint[16];
	bool pages; /* mapped, and unchanged since */
} model;

static uint64_t reg(uint32_t msr)
{
	uint64_t v = 0;

	MUST(vmbus_synic_msr_read(&synic, msr, &v) == 0);
	return v;
}

static bool is_open(uint32_t sint)
{
	return !(model.sint[sint] >> 16 & 1) || (model.sint[sint] >> 18 & 1);
}

static void write_register(struct input *in)
{
	static const uint32_t bases[] = { 0x40000000, 0x40000010, 0x40000020, 0x40000070,
					  0x40000080, 0x40000090, 0x40000100, 0x40000110 };
	const uint32_t where = take(in, 1), msr = bases[where % 8] + where / 8 % 16;
	const uint64_t value =
		take(in, 4) | (uint64_t)take(in, 1) << 32 | (uint64_t)take(in, 1) << 56;
	const bool host = where >= 128;
	uint64_t v = 0;
	int ret = vmbus_synic_msr_write(&synic, msr, value, host);

	(void)snprintf(checks_context, sizeof(checks_context), "MSR 0x%x, 0x%llx", msr,
		       (unsigned long long)value);
	if (msr >= SINT0 && msr < SINT0 + 16) {
		const uint32_t n = msr - SINT0;
		const bool was_open = is_open(n);

		MUST((ret == VMBUS_E_INVAL) ==
		     (!host && !(value >> 16 & 1) && (value & 0xF0) == 0));
		if (ret >= 0)
			model.sint[n] = value;
		MUST(ret < 0 || ret == (is_open(n) && !was_open ? (int)VMBUS_SYNIC_SLOT_FREE : 0));
		MUST(reg(msr) == model.sint[n]);
	} else if (msr == SCONTROL) {
		MUST(ret == (value & ~model.control & 1 ? (int)VMBUS_SYNIC_SLOT_FREE : 0));
		model.control = value;
	} else if (msr == SIMP || msr == SIEFP) {
		MUST(ret >= 0 && reg(msr) == value);
		if (ret & (int)VMBUS_SYNIC_PAGES)
			model.pages = false;
	}
	if (ret == VMBUS_E_NOTSUP) {
		MUST(vmbus_synic_msr_read(&synic, msr, &v) == VMBUS_E_NOTSUP);
		ret = vmbus_hv_msr_write(&hv, where, msr, value);
		MUST((ret == VMBUS_E_NOTSUP) ==
		     (vmbus_hv_msr_read(&hv, where, msr, value, &v) == VMBUS_E_NOTSUP));
		MUST(ret >= 0 || ret == VMBUS_E_NOTSUP || ret == VMBUS_E_INVAL);
	}
	MUST(vmbus_hv_hypercall_gpa(&hv) == UINT64_MAX || vmbus_hv_hypercall_gpa(&hv) % 4096 == 0);
}

/* Whether the pages are there and on. */
static bool is_on(uint32_t msr)
{
	return model.pages && (reg(SCONTROL) & reg(msr) & 1);
}

static void post(struct input *in)
{
	const uint32_t sint = take(in, 1) % 18;
	struct vmbus_synic_msg msg = { .type = take(in, 1), .bytes = take(in, 1) };
	uint32_t arg, type = 0;
	int ret;

	memset(msg.payload, 0x5A, sizeof(msg.payload));
	if (sint < 16)
		memcpy(&type, messages + 256 * sint, 4);
	ret = vmbus_synic_post(&synic, sint, &msg, msg.type & 1, &arg);
	if (sint >= 16 || msg.bytes > 240)
		MUST(ret == VMBUS_E_RANGE);
	else if (msg.type == 0)
		MUST(ret == VMBUS_E_INVAL);
	else if (!model.pages)
		MUST(ret == VMBUS_E_AGAIN || ret >= 0);
	else if (!is_on(SIMP) || !is_open(sint) || type)
		MUST(ret == VMBUS_E_AGAIN);
	else {
		const uint64_t v = model.sint[sint];

		MUST(ret == (v >> 16 & 1 || v >> 18 & 1 || (v & 0xF0) == 0
				     ? 0
				     : (int)VMBUS_SYNIC_INTERRUPT));
		MUST((arg & 0xFF) == (v & 0xFF));
	}
}

static void take_message(struct input *in)
{
	const uint32_t sint = take(in, 1) % 18;
	struct vmbus_synic_msg msg;
	bool eom;
	int ret = vmbus_synic_take(messages, sint, &msg, &eom);

	if (sint >= 16) {
		MUST(ret == VMBUS_E_RANGE && !eom);
		return;
	}
	MUST(ret == 0 || ret == 1 || ret == VMBUS_E_PEER);
	MUST(ret != 1 || (msg.bytes <= 240 && msg.type));
	MUST(vmbus_synic_take(messages, sint, &msg, &eom) == 0 && !eom);
}

static void raise_and_take(struct input *in)
{
	const uint32_t sint = take(in, 1) % 18, flag = take(in, 2) % 2100;
	const bool was = sint < 16 && flag < 2048 && (flags[256 * sint + flag / 8] >> flag % 8 & 1);
	uint32_t arg;
	const int ret = vmbus_synic_raise(&synic, sint, flag, &arg);

	if (sint >= 16 || flag >= 2048)
		MUST(ret == VMBUS_E_RANGE);
	else if (!model.pages)
		MUST(ret == VMBUS_E_AGAIN || ret >= 0);
	else if (!is_on(SIEFP))
		MUST(ret == VMBUS_E_AGAIN);
	else {
		MUST(ret >= 0 && (!was || ret == 0));
		MUST(vmbus_synic_raise(&synic, sint, flag, &arg) == 0);
		MUST(vmbus_synic_take_flags(flags, sint, flag / 64) >> flag % 64 & 1);
		MUST(vmbus_synic_take_flags(flags, sint, flag / 64) == 0);
	}
}

static void other_steps(struct input *in, uint32_t which)
{
	uint32_t regs[4], at = take(in, 2);
	uint64_t time;

	if (which % 4 == 0) {
		vmbus_synic_set_pages(&synic, messages, flags, NULL, 0, 0);
		model.pages = true;
	} else if (which % 4 == 1) { /* the child writes */
		(at & 0x1000 ? flags : messages)[at % 4096] = (uint8_t)take(in, 1);
	} else if (which % 4 == 2) {
		MUST(vmbus_hv_cpuid(&hv, 0x40000000 + at % 32, regs) == (at % 32 <= 12));
	} else {
		vmbus_hv_fill_tsc(flags, at, vmbus_hv_tsc_scale(take(in, 4)), -(int64_t)at);
		MUST(vmbus_hv_read_tsc(flags, take(in, 4), &time) == (at != 0));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct vmbus_hv_opts opts = { .struct_bytes = sizeof(opts) };
	const uint32_t choice = take(&in, 1);
	uint32_t i;

	opts.reference_tsc = choice & 1;
	opts.crash = choice & 2;
	opts.reset = choice & 4;
	opts.invariant_tsc = choice & 8;
	opts.tsc_hz = opts.apic_hz = choice & 16;
	MUST(vmbus_hv_init(&hv, &opts) == 0);
	memset(messages, (int)choice, sizeof(messages));
	memset(flags, (int)choice, sizeof(flags));
	vmbus_synic_reset(&synic);
	memset(&model, 0, sizeof(model));
	model.control = 1;
	for (i = 0; i < 16; i++)
		model.sint[i] = 0x10000;
	while (in.left) {
		const uint32_t which = take(&in, 1);

		if (which < 100)
			write_register(&in);
		else if (which < 140)
			post(&in);
		else if (which < 170)
			take_message(&in);
		else if (which < 210)
			raise_and_take(&in);
		else
			other_steps(&in, which);
	}
	return 0;
}
