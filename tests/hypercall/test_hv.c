/* SPDX-License-Identifier: MIT */
/* Partition-wide registers, hypercall page, TSC page, CPUID leaves: src/hypercall/hv.c. */
#define _GNU_SOURCE
#include <signal.h>
#include <ucontext.h>

#include <vmbus/hypercall.h>
#include <vmbus/synic.h>

#include "base/atomic.h"
#include "vmbus_test.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum {
	GUEST_OS_ID = 0x40000000,
	HYPERCALL = 0x40000001,
	VP_INDEX = 0x40000002,
	RESET = 0x40000003,
	TIME_REF_COUNT = 0x40000020,
	REFERENCE_TSC = 0x40000021,
	TSC_FREQUENCY = 0x40000022,
	APIC_FREQUENCY = 0x40000023,
	CRASH_P0 = 0x40000100,
	CRASH_CTL = 0x40000105,
	TSC_INVARIANT = 0x40000118
};

#define LINUX_6_1 0x8100000601000000u
#define NOW 0x123456789u
#define OPTIONS 9u /* bits of the choice below */

static struct vmbus_hv hv;

/* Every choice of options is a number. */
static struct vmbus_hv_opts options(unsigned int choice)
{
	struct vmbus_hv_opts opts = { .struct_bytes = sizeof(opts), .vps_max = 64 };

	opts.reference_tsc = choice & 1;
	opts.crash = choice & 2;
	opts.reset = choice & 4;
	opts.stimers = choice & 8;
	opts.xmm_fast = choice & 16;
	opts.auto_eoi = choice & 32;
	opts.invariant_tsc = choice & 64;
	opts.tsc_hz = choice & 128 ? 2000000000 : 0;
	opts.apic_hz = choice & 128 ? 100000000 : 0;
	opts.apic_msrs = choice & 256;
	return opts;
}

static void fresh(unsigned int choice)
{
	const struct vmbus_hv_opts opts = options(choice);

	memset(&hv, 0xA5, sizeof(hv));
	must_eq(vmbus_hv_init(&hv, &opts), 0);
}

#define ALL ((1u << OPTIONS) - 1)

static uint64_t reg(uint32_t msr)
{
	uint64_t v = 0xDEAD;

	must_eq(vmbus_hv_msr_read(&hv, 3, msr, NOW, &v), 0);
	return v;
}

static int wr(uint32_t msr, uint64_t value)
{
	return vmbus_hv_msr_write(&hv, 3, msr, value);
}

START_TEST(hv_init__refusals)
{
	struct vmbus_hv_opts opts = options(0);

	must_eq(vmbus_hv_init(NULL, &opts), VMBUS_E_INVAL);
	must_eq(vmbus_hv_init(&hv, NULL), VMBUS_E_INVAL);
	opts.struct_bytes--;
	must_eq(vmbus_hv_init(&hv, &opts), VMBUS_E_INVAL);
	opts.struct_bytes += 9;
	must_eq(vmbus_hv_init(&hv, &opts), 0);
}
END_TEST

/* [HV-MSR]: whether a choice of options has a register. */
static bool has(unsigned int choice, uint32_t msr)
{
	switch (msr) {
	case GUEST_OS_ID:
	case HYPERCALL:
	case VP_INDEX:
	case TIME_REF_COUNT:
		return true;
	case RESET:
		return choice & 4;
	case REFERENCE_TSC:
		return choice & 1;
	case TSC_FREQUENCY:
	case APIC_FREQUENCY:
		return choice & 128;
	case TSC_INVARIANT:
		return choice & 64;
	default:
		return msr >= CRASH_P0 && msr <= CRASH_CTL && choice & 2;
	}
}

/* Every number in the range, under every choice of options; only what is offered is known. */
START_TEST(hv_msr__every_number)
{
	unsigned int choice;
	uint32_t msr;
	uint64_t v;

	for (choice = 0; choice <= ALL; choice++)
		for (msr = 0x3FFFFFF0; msr < 0x40000210; msr++) {
			const bool known = has(choice, msr);

			vmbus_test_at("options 0x%x, MSR 0x%x", choice, msr);
			fresh(choice);
			must_eq(vmbus_hv_msr_read(&hv, 0, msr, 0, &v), known ? 0 : VMBUS_E_NOTSUP);
			if (!known)
				must_eq(wr(msr, 0), VMBUS_E_NOTSUP);
			else
				must(wr(msr, 0) != VMBUS_E_NOTSUP);
		}
	must_eq(vmbus_hv_msr_read(&hv, 0, 0, 0, &v), VMBUS_E_NOTSUP);
	must_eq(vmbus_hv_msr_read(&hv, 0, 0xC0000001, 0, &v), VMBUS_E_NOTSUP);
}
END_TEST

/* What a write does to an enabled guest without a lock, from [HV-MSR] anew. */
static int ref_write(uint32_t msr, uint64_t value, uint64_t *now)
{
	*now = value;
	switch (msr) {
	case GUEST_OS_ID:
		return value ? 0 : (int)VMBUS_HV_PAGE;
	case HYPERCALL:
		return (int)VMBUS_HV_PAGE; /* it was on, and stays on or goes off */
	case REFERENCE_TSC:
		return (int)VMBUS_HV_TSC;
	case RESET:
		*now = 0;
		return value & 1 ? (int)VMBUS_HV_RESET : 0;
	case CRASH_CTL:
		*now = 3ull << 62;
		return value >> 63 ? (int)VMBUS_HV_CRASH : 0;
	case TSC_INVARIANT:
		if (value > 1) {
			*now = 0;
			return VMBUS_E_INVAL;
		}
		return 0;
	case VP_INDEX:
		*now = 3;
		return VMBUS_E_INVAL;
	case TIME_REF_COUNT:
		*now = NOW;
		return VMBUS_E_INVAL;
	case TSC_FREQUENCY:
		*now = 2000000000;
		return VMBUS_E_INVAL;
	case APIC_FREQUENCY:
		*now = 100000000;
		return VMBUS_E_INVAL;
	default:
		return 0;
	}
}

START_TEST(hv_msr_write__every_register_and_bit)
{
	static const uint64_t from[] = { 0, 1, 0x1234001, ~0ull };
	unsigned int f, bit;
	uint32_t msr;
	uint64_t now;

	for (msr = GUEST_OS_ID; msr <= TSC_INVARIANT; msr++)
		for (f = 0; f < COUNT(from) && has(ALL, msr); f++)
			for (bit = 0; bit < 64; bit++) {
				const uint64_t value = from[f] ^ (uint64_t)1 << bit;
				int expect;

				vmbus_test_at("MSR 0x%x, 0x%" PRIx64, msr, value);
				fresh(ALL);
				must_eq(wr(GUEST_OS_ID, LINUX_6_1), 0);
				must_eq(wr(HYPERCALL, 0x5001), VMBUS_HV_PAGE);
				must_eq(wr(REFERENCE_TSC, 0x6001), VMBUS_HV_TSC);
				expect = ref_write(msr, value, &now);
				must_eq(wr(msr, value), expect);
				must_eq(reg(msr), now);
			}
}
END_TEST

/* Enable sticks only with a guest id; the id 0 takes the page away; the lock holds. */
START_TEST(hv_msr_write__hypercall_page)
{
	fresh(0);
	must_eq(wr(HYPERCALL, 0x5003), 0);
	must_eq(reg(HYPERCALL), 0x5000);
	must_eq(vmbus_hv_hypercall_gpa(&hv), UINT64_MAX);
	must_eq(wr(GUEST_OS_ID, LINUX_6_1), 0);
	must_eq(reg(GUEST_OS_ID), LINUX_6_1);
	must_eq(wr(HYPERCALL, 0x5000), 0);
	must_eq(wr(HYPERCALL, 0xFFF0000000005001), VMBUS_HV_PAGE);
	must_eq(vmbus_hv_hypercall_gpa(&hv), 0xFFF0000000005000);
	must_eq(wr(HYPERCALL, 0x6001), VMBUS_HV_PAGE); /* moved */
	must_eq(vmbus_hv_hypercall_gpa(&hv), 0x6000);
	must_eq(wr(HYPERCALL, 0x6001), VMBUS_HV_PAGE); /* filled anew */
	must_eq(wr(GUEST_OS_ID, 0), VMBUS_HV_PAGE);
	must_eq(reg(HYPERCALL), 0x6000);
	must_eq(vmbus_hv_hypercall_gpa(&hv), UINT64_MAX);
	must_eq(wr(GUEST_OS_ID, 0), 0);
	must_eq(wr(GUEST_OS_ID, 1), 0);
	must_eq(wr(HYPERCALL, 0x7003), VMBUS_HV_PAGE); /* locked */
	must_eq(wr(HYPERCALL, 0x8001), VMBUS_E_INVAL);
	must_eq(wr(HYPERCALL, 0), VMBUS_E_INVAL);
	must_eq(reg(HYPERCALL), 0x7003);
	must_eq(wr(GUEST_OS_ID, 0), VMBUS_HV_PAGE);
	must_eq(vmbus_hv_hypercall_gpa(&hv), UINT64_MAX);
	must_eq(wr(HYPERCALL, 0x7003), VMBUS_E_INVAL);
}
END_TEST

START_TEST(hv_msr_write__tsc_page)
{
	fresh(1);
	must_eq(vmbus_hv_tsc_gpa(&hv), UINT64_MAX);
	must_eq(wr(REFERENCE_TSC, 0x9000), 0);
	must_eq(wr(REFERENCE_TSC, 0x9001), VMBUS_HV_TSC); /* needs no guest id */
	must_eq(vmbus_hv_tsc_gpa(&hv), 0x9000);
	must_eq(wr(REFERENCE_TSC, 0), VMBUS_HV_TSC);
	must_eq(vmbus_hv_tsc_gpa(&hv), UINT64_MAX);
}
END_TEST

/* Decision 23: text is announced; what the guest wrote comes out as it was. */
START_TEST(hv_msr_write__crash)
{
	uint64_t params[5], ctl;
	uint32_t i;

	fresh(2);
	must_eq(reg(CRASH_CTL), 3ull << 62);
	for (i = 0; i < 5; i++)
		must_eq(wr(CRASH_P0 + i, 0xC0DE0000 + i), 0);
	vmbus_hv_crash(&hv, params, &ctl);
	must_eq(ctl, 0);
	must_eq(wr(CRASH_CTL, 1ull << 62), 0);
	must_eq(wr(CRASH_CTL, ~0ull), VMBUS_HV_CRASH);
	vmbus_hv_crash(&hv, params, &ctl);
	must_eq(ctl, 3ull << 62);
	for (i = 0; i < 5; i++)
		must_eq(params[i], 0xC0DE0000 + i);
}
END_TEST

/* [HV-CPUID]: nothing that the options do not have, and never what makes a guest a root partition. */
START_TEST(hv_cpuid__every_choice_of_options)
{
	unsigned int choice;
	uint32_t r[4];

	for (choice = 0; choice <= ALL; choice++) {
		vmbus_test_at("options 0x%x", choice);
		fresh(choice);
		must_eq(vmbus_hv_cpuid(&hv, 0x40000003, r), 1);
		must_eq(r[0], 0x76 | (choice & 1 ? 1 << 9 : 0) | (choice & 4 ? 1 << 7 : 0) |
				      (choice & 8 ? 1 << 3 : 0) | (choice & 64 ? 1 << 15 : 0) |
				      (choice & 128 ? 1 << 11 : 0));
		must_eq(r[1], 0x30);
		must_eq(r[1] & (1u << 1 | 1u << 12 | 1u << 22), 0);
		must_eq(r[2], 0);
		must_eq(r[3], (choice & 2 ? 1 << 10 : 0) | (choice & 16 ? 1 << 4 : 0) |
				      (choice & 128 ? 1 << 8 : 0));
		must_eq(vmbus_hv_cpuid(&hv, 0x40000004, r), 1);
		must_eq(r[0], (choice & 32 ? 0 : 1 << 9) | (choice & 256 ? 1 << 3 : 0));
		must_eq(r[1], 0xFFFFFFFF);
		must_eq(r[2] | r[3], 0);
	}
}
END_TEST

START_TEST(hv_cpuid__leaves)
{
	uint32_t r[4], leaf;

	fresh(0);
	must_eq(vmbus_hv_cpuid(&hv, 0x40000000, r), 1);
	must(r[0] >= 0x40000005 && r[0] <= 0x4000FFFF);
	must(memcmp(&r[1], "Microsoft Hv", 12) == 0);
	must_eq(vmbus_hv_cpuid(&hv, 0x40000001, r), 1);
	must(memcmp(&r[0], "Hv#1", 4) == 0);
	must_eq(r[1] | r[2] | r[3], 0);
	must_eq(vmbus_hv_cpuid(&hv, 0x40000005, r), 1);
	must_eq(r[0], 64);
	for (leaf = 0x40000006; leaf <= 0x4000000C; leaf++) {
		must_eq(vmbus_hv_cpuid(&hv, leaf, r), 1);
		must_eq(r[0] | r[1] | r[2] | r[3], 0);
	}
	must_eq(vmbus_hv_cpuid(&hv, 0x40000002, r), 1);
	must_eq(r[0] | r[1] | r[2] | r[3], 0);
	must_eq(vmbus_hv_cpuid(&hv, 0x3FFFFFFF, r), 0);
	must_eq(vmbus_hv_cpuid(&hv, 0x4000000D, r), 0);
	must_eq(vmbus_hv_cpuid(&hv, 1, r), 0);
	must_eq(vmbus_hv_cpuid(&hv, 0xC0000000, r), 0);
}
END_TEST

static _Alignas(4096) uint8_t page[4096];

/* [HV-PAGE]: instruction and return, and nothing else that does anything. */
START_TEST(hv_fill_page__vmcall_and_vmmcall)
{
	static const uint8_t vmcall[] = { 0xF3, 0x0F, 0x1E, 0xFA, 0x0F, 0x01, 0xC1, 0xC3 };
	static const uint8_t vmmcall[] = { 0xF3, 0x0F, 0x1E, 0xFA, 0x0F, 0x01, 0xD9, 0xC3 };
	unsigned int i;

	must_eq(vmbus_hv_fill_page(page, VMBUS_HV_VMCALL, 0), 0);
	must(memcmp(page, vmcall, sizeof(vmcall)) == 0);
	for (i = sizeof(vmcall); i < sizeof(page); i++)
		must_eq(page[i], 0xCC);
	must_eq(vmbus_hv_fill_page(page, VMBUS_HV_VMMCALL, 0xFFFF), 0); /* no port is used */
	must(memcmp(page, vmmcall, sizeof(vmmcall)) == 0);
	for (i = sizeof(vmmcall); i < sizeof(page); i++)
		must_eq(page[i], 0xCC);
}
END_TEST

START_TEST(hv_fill_page__refusals)
{
	unsigned int i;

	memset(page, 0x11, sizeof(page));
	must_eq(vmbus_hv_fill_page(page, (enum vmbus_hv_call)3, 0), VMBUS_E_INVAL);
	must_eq(vmbus_hv_fill_page(page, VMBUS_HV_PORT_IO, 0xF801), VMBUS_E_RANGE);
	must_eq(vmbus_hv_fill_page(page, VMBUS_HV_PORT_IO, 0xFFFF), VMBUS_E_RANGE);
	for (i = 0; i < sizeof(page); i++)
		must_eq(page[i], 0x11);
	must_eq(vmbus_hv_fill_page(page, VMBUS_HV_PORT_IO, 0xF800), 0);
	for (i = 54; i < sizeof(page); i++)
		must_eq(page[i], 0xCC);
}
END_TEST

/*
 * The code of the port-I/O page runs here: OUT is not allowed to a process, and the handler of the
 * signal that follows is the hypervisor which sees the port access.
 */
#if defined(__x86_64__)
static struct {
	unsigned int exits;
	uint8_t opcode;
	uint64_t rax, rcx, rdx, r8;
	uint64_t status; /* what the handler answers */
	bool answer_rax;
} port;

static void on_out(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *r = uc->uc_mcontext.gregs;
	const uint8_t *ip = (const uint8_t *)r[REG_RIP];

	(void)sig;
	(void)info;
	port.exits++;
	port.opcode = *ip;
	if (*ip != 0xEE && *ip != 0xEF)
		_exit(1);
	port.rax = (uint64_t)r[REG_RAX];
	port.rcx = (uint64_t)r[REG_RCX];
	port.rdx = (uint64_t)r[REG_RDX];
	port.r8 = (uint64_t)r[REG_R8];
	if (port.answer_rax)
		r[REG_RAX] = (greg_t)port.status;
	else if (port.status)
		r[REG_RCX] = (greg_t)port.status;
	r[REG_RIP]++;
}

static uint8_t *code_page(uint16_t base)
{
	struct sigaction act = { .sa_sigaction = on_out, .sa_flags = SA_SIGINFO };
	uint8_t *code =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(code != MAP_FAILED);
	must_eq(vmbus_hv_fill_page(code, VMBUS_HV_PORT_IO, base), 0);
	must_eq(mprotect(code, 4096, PROT_READ | PROT_EXEC), 0);
	must_eq(sigaction(SIGSEGV, &act, NULL), 0);
	return code;
}

static uint64_t call_page(const uint8_t *code, uint64_t control, uint64_t in, uint64_t out)
{
	register uint64_t r8 __asm__("r8") = out;
	uint64_t result;

	memset(&port, 0, offsetof(__typeof__(port), status));
	__asm__ volatile("call *%[code]"
			 : "=a"(result), "+c"(control), "+d"(in), "+r"(r8)
			 : [code] "r"(code)
			 : "cc", "memory", "r9", "r10", "r11");
	must_eq(port.exits, 1);
	return result;
}

/* Decision 23: the port is computed from the id, the id is the data, the result is 0. */
START_TEST(hv_fill_page__signals_by_port)
{
	const uint16_t bases[] = { 0x1000, 0, 0xF800, 0x3F00 };
	unsigned int b;
	uint64_t id;

	for (b = 0; b < COUNT(bases); b++) {
		uint8_t *code = code_page(bases[b]);

		port.status = 0;
		port.answer_rax = false;
		for (id = 0x2001; id <= 0x27FF; id++) {
			vmbus_test_at("base 0x%x, id 0x%" PRIx64, bases[b], id);
			must_eq(call_page(code, 0x1005D, id, ~0ull), 0);
			must_eq(port.opcode, 0xEF);
			must_eq(port.rdx & 0xFFFF, bases[b] + (id & 0xFFF));
			must_eq(port.rax, id);
		}
		port.status = VMBUS_HC_CONNECTION_ID; /* of who emulates a port that nobody bound */
		must_eq(call_page(code, 0x1005D, 0x2005, 0), VMBUS_HC_CONNECTION_ID);
		must_eq(munmap(code, 4096), 0);
	}
}
END_TEST

/* Every other call traps with its registers, whatever is next to a signal. */
START_TEST(hv_fill_page__other_calls_trap)
{
	static const struct {
		uint64_t control, in;
	} cases[] = {
		{ 0x5C, 0x12345000 },
		{ 0x5D, 0x2005 },    /* slow */
		{ 0x1005D, 0x2000 }, /* no channel has index 0 */
		{ 0x1005D, 0x2800 },
		{ 0x1005D, 1 },
		{ 0x1005D, 0 },
		{ 0x1005D, 0x1002005 },
		{ 0x1005D, 0x100002005 }, /* another flag */
		{ 0x1005D, 0x8000000000002005 },
		{ 0x1005D, 0xFFFFFFFFFFFFE001 },
		{ 0x1005D, UINT64_MAX },
		{ 0x10001005D, 0x2005 }, /* repeats */
		{ 0x8001005D, 0x2005 },	 /* nested */
		{ 0x800000000001005D, 0x2005 },
		{ 0xFFFFFFFF0001005D, 0x2005 },
		{ 0x2, 0 },
		{ UINT64_MAX, UINT64_MAX },
	};
	uint8_t *code = code_page(0x1000);
	unsigned int i;

	port.answer_rax = true;
	port.status = 0x300000013;
	for (i = 0; i < COUNT(cases); i++) {
		vmbus_test_at("case %u", i);
		must_eq(call_page(code, cases[i].control, cases[i].in, 0xABCDEF), 0x300000013);
		must_eq(port.opcode, 0xEE);
		must_eq(port.rdx, 0x1000);
		must_eq(port.rcx, cases[i].control);
		must_eq(port.rax, cases[i].in);
		must_eq(port.r8, 0xABCDEF);
	}
	must_eq(munmap(code, 4096), 0);
}
END_TEST
#endif

/* [HV-TSC]: the three words, and nothing else of the page. */
START_TEST(hv_fill_tsc__words)
{
	uint64_t v;
	uint32_t sequence;
	unsigned int i;

	memset(page, 0x77, sizeof(page));
	vmbus_hv_fill_tsc(page, 5, 0x1122334455667788, -9);
	memcpy(&sequence, page, 4);
	must_eq(sequence, 5);
	memcpy(&v, page + 8, 8);
	must_eq(v, 0x1122334455667788);
	memcpy(&v, page + 16, 8);
	must_eq((int64_t)v, -9);
	for (i = 24; i < sizeof(page); i++)
		must_eq(page[i], 0x77);
}
END_TEST

/* Against numbers of the compiler's own wide arithmetic. */
__extension__ typedef unsigned __int128 wide;

START_TEST(hv_tsc_scale__rates)
{
	static const uint64_t rates[] = { 10000001,   20000000,	  1000000000,
					  1999999999, 2000000000, 2694000000,
					  5000000000, 1ull << 62, UINT64_MAX };
	static const uint64_t counts[] = {
		0, 1, 999, 1ull << 32, 1ull << 40, 1ull << 62, UINT64_MAX - 1, UINT64_MAX
	};
	unsigned int i, k;
	uint64_t time;

	must_eq(vmbus_hv_tsc_scale(0), 0);
	must_eq(vmbus_hv_tsc_scale(1), 0);
	must_eq(vmbus_hv_tsc_scale(10000000), 0);
	for (i = 0; i < COUNT(rates); i++) {
		const uint64_t scale = vmbus_hv_tsc_scale(rates[i]);

		must(scale == (uint64_t)(((wide)10000000 << 64) / rates[i]));
		vmbus_hv_fill_tsc(page, 1, scale, 1000);
		for (k = 0; k < COUNT(counts); k++) {
			must_eq(vmbus_hv_read_tsc(page, counts[k], &time), 1);
			must(time == (uint64_t)(((wide)counts[k] * scale) >> 64) + 1000);
		}
	}
	vmbus_hv_fill_tsc(page, 2, vmbus_hv_tsc_scale(2000000000), -50);
	must_eq(vmbus_hv_read_tsc(page, 2000000000, &time), 1);
	must(time == 10000000 - 50 || time == 10000000 - 51); /* a second, rounded down */
}
END_TEST

START_TEST(hv_read_tsc__page_that_is_not_valid)
{
	uint64_t time = 7;

	vmbus_hv_fill_tsc(page, 0, 1, 1);
	must_eq(vmbus_hv_read_tsc(page, 1, &time), 0);
	must_eq(time, 7);
}
END_TEST

#if defined(VMBUS_TEST_HOOKS)
static unsigned int loads, strike_at;

static void refill(const volatile void *p)
{
	(void)p;
	if (loads++ == strike_at)
		vmbus_hv_fill_tsc(page, 9, 2ull << 60, 900);
}

/* A page that changes between any two loads gives the old time, the new one, or none. */
START_TEST(hv_read_tsc__page_that_changes_meanwhile)
{
	const uint64_t old = (1ull << 34) / 16 + 500, new = (1ull << 34) / 8 + 900;
	uint64_t time;
	int ret;

	for (strike_at = 0; strike_at < 5; strike_at++) {
		vmbus_test_at("load %u", strike_at);
		vmbus_hv_fill_tsc(page, 8, 1ull << 60, 500);
		loads = 0;
		vmbus__test_hook = refill;
		ret = vmbus_hv_read_tsc(page, 1ull << 34, &time);
		vmbus__test_hook = NULL;
		must_eq(loads, 4);
		must_eq(ret, strike_at == 0 || strike_at == 4);
		if (ret)
			must_eq(time, strike_at == 0 ? new : old);
	}
}
END_TEST
#endif

START_TEST(hv_structs__sizes)
{
	must_eq(sizeof(struct vmbus_hv_opts), 40);
	must_eq(sizeof(struct vmbus_hv), 248);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "registers", 10);

	tcase_add_test(tc, hv_init__refusals);
	tcase_add_test(tc, hv_msr__every_number);
	tcase_add_test(tc, hv_msr_write__every_register_and_bit);
	tcase_add_test(tc, hv_msr_write__hypercall_page);
	tcase_add_test(tc, hv_msr_write__tsc_page);
	tcase_add_test(tc, hv_msr_write__crash);
	tcase_add_test(tc, hv_structs__sizes);
	tc = vmbus_test_case(suite, "cpuid", 10);
	tcase_add_test(tc, hv_cpuid__every_choice_of_options);
	tcase_add_test(tc, hv_cpuid__leaves);
	tc = vmbus_test_case(suite, "page", 10);
	tcase_add_test(tc, hv_fill_page__vmcall_and_vmmcall);
	tcase_add_test(tc, hv_fill_page__refusals);
#if defined(__x86_64__)
	tcase_add_test(tc, hv_fill_page__signals_by_port);
	tcase_add_test(tc, hv_fill_page__other_calls_trap);
#endif
	tc = vmbus_test_case(suite, "clock", 10);
	tcase_add_test(tc, hv_fill_tsc__words);
	tcase_add_test(tc, hv_tsc_scale__rates);
	tcase_add_test(tc, hv_read_tsc__page_that_is_not_valid);
#if defined(VMBUS_TEST_HOOKS)
	tcase_add_test(tc, hv_read_tsc__page_that_changes_meanwhile);
#endif
}

VMBUS_TEST_MAIN("hypercall.hv", tests)
