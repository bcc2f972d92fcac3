/* SPDX-License-Identifier: MIT */
/*
 * A processor that has gone wild: random synthetic registers, hypercalls, leaves and ports for so
 * many seconds of reference time.  What would harm only ourselves is left out: pages are put into
 * scratch memory or where there is none, and no reset, crash, or interrupt to all is asked for.
 */
#include "payload.h"

#define MSR_OS_ID 0x40000000u
#define MSR_HYPERCALL 0x40000001u
#define MSR_RESET 0x40000003u
#define MSR_TIME 0x40000020u
#define MSR_TSC_PAGE 0x40000021u
#define MSR_ICR 0x40000071u
#define MSR_ASSIST 0x40000073u
#define MSR_SCONTROL 0x40000080u
#define MSR_SIEFP 0x40000082u
#define MSR_SIMP 0x40000083u
#define MSR_SINT0 0x40000090u
#define MSR_STIMER0 0x400000B0u
#define MSR_STIMER_END 0x400000B8u
#define MSR_IDLE 0x400000F0u
#define MSR_CRASH_CTL 0x40000105u
#define MSR_X2_TPR 0x808u

#define MASKED 0x10000u
#define PORTS_FIRST 0xA000u /* as vmbus-vmm has them */
#define PORTS 2048u
#define PAGE 4096u
#define NOWHERE 0x0000100000000000ull /* past any memory that we may have */
#define ROUND 64u

enum act {
	ACT_WRITE,
	ACT_READ,
	ACT_CALL,
	ACT_POST,
	ACT_CPUID,
	ACT_OUT,
	ACT_IN,
	ACTS
};

static const char *const act_names[ACTS] = { "writes", "reads", "calls", "posts",
					     "cpuids", "outs",	"ins" };

struct flood {
	uint64_t state;
	uint8_t *scratch;
	uint64_t pages;
	uint64_t counts[ACTS];
};

static uint64_t roll(struct flood *f)
{
	f->state ^= f->state << 13;
	f->state ^= f->state >> 7;
	f->state ^= f->state << 17;
	return f->state * 0x2545F4914F6CDD1Dull;
}

static uint64_t pick(struct flood *f, uint64_t n)
{
	return (roll(f) >> 32) % n;
}

/* An address that the parent may write to: scratch memory, or nowhere. */
static uint64_t some_gpa(struct flood *f)
{
	if (pick(f, 4) == 0)
		return NOWHERE | (roll(f) & 0xFFFFFFFFFFFull);
	return (uintptr_t)f->scratch + pick(f, f->pages * PAGE);
}

/* One that it may only read from: any. */
static uint64_t any_gpa(struct flood *f)
{
	switch (pick(f, 4)) {
	case 0:
		return roll(f);
	case 1:
		return (some_gpa(f) | 0xFF8u) - pick(f, 2) * 0x100u;
	default:
		return some_gpa(f) & ~7ull;
	}
}

static uint32_t some_msr(struct flood *f)
{
	static const uint32_t known[] = {
		MSR_OS_ID, MSR_HYPERCALL, MSR_TSC_PAGE,	 MSR_ASSIST,  MSR_SCONTROL,  MSR_SIEFP,
		MSR_SIMP,  0x40000084u,	  MSR_SINT0 + 2, 0x40000100u, MSR_CRASH_CTL, 0x40000118u
	};

	switch (pick(f, 4)) {
	case 0:
		return known[pick(f, sizeof(known) / sizeof(known[0]))];
	case 1:
		return MSR_SINT0 + (uint32_t)pick(f, 0x30);
	default:
		return 0x40000000u + (uint32_t)pick(f, 0x200);
	}
}

static bool is_page(uint32_t msr)
{
	return msr == MSR_HYPERCALL || msr == MSR_TSC_PAGE || msr == MSR_ASSIST ||
	       msr == MSR_SIEFP || msr == MSR_SIMP;
}

/* Vectors of exceptions would look like exceptions. */
static uint64_t some_value(struct flood *f, uint32_t msr)
{
	uint64_t v = pick(f, 8) ? roll(f) : pick(f, 4);

	if (is_page(msr))
		v = (some_gpa(f) & ~(uint64_t)(PAGE - 1)) | (v & (PAGE - 1) & ~2ull);
	else if (msr >= MSR_SINT0 && msr < MSR_SINT0 + VMBUS_SINTS && (v & 0xF0u) == 0x10u)
		v |= 0x20u;
	else if (msr >= MSR_STIMER0 && msr < MSR_STIMER_END && msr % 2 == 0)
		v |= 0x200u;
	else if (msr == MSR_CRASH_CTL)
		v &= ~(1ull << 63);
	return v;
}

static void write_register(struct flood *f)
{
	const uint32_t msr = some_msr(f);

	if (msr == MSR_RESET || msr == MSR_ICR || msr == MSR_IDLE)
		return;
	(void)try_wrmsr(msr, some_value(f, msr));
}

static void read_register(struct flood *f)
{
	const uint32_t msr = pick(f, 4) ? some_msr(f) : (uint32_t)roll(f);
	uint64_t value;

	if (msr != MSR_IDLE)
		(void)try_rdmsr(msr, &value);
}

/* The page is enabled anew each time: a random write may have moved or disabled it. */
static void call(struct flood *f, uint64_t control, uint64_t in, uint64_t out)
{
	const uint64_t page = (uintptr_t)f->scratch;
	register uint64_t r8 __asm__("r8") = out;
	uint64_t value = 0;

	if (!try_wrmsr(MSR_OS_ID, VMBUS_BARE_OS_ID) || !try_wrmsr(MSR_HYPERCALL, page | 1u) ||
	    !try_rdmsr(MSR_HYPERCALL, &value) || value != (page | 1u))
		return;
	__asm__ volatile("call *%[page]"
			 : "+c"(control), "+d"(in), "+r"(r8), "=a"(value)
			 : [page] "r"(page)
			 : "r9", "r10", "r11", "cc", "memory");
}

static void hypercall(struct flood *f)
{
	const uint64_t r = roll(f);

	switch (pick(f, 5)) {
	case 0:
		call(f, 0x1005Du, 0x2000u + pick(f, 2048), 0);
		break;
	case 1:
		call(f, 0x1005Du, r, roll(f));
		break;
	case 2:
		call(f, pick(f, 0x100), any_gpa(f), some_gpa(f));
		break;
	case 3:
		call(f, (r & 0xFFFFu) | (r & 0x0FFF00000000u), any_gpa(f), some_gpa(f));
		break;
	default:
		call(f, r, any_gpa(f), some_gpa(f));
		break;
	}
}

/* A message that gets as far as the parent's machine, most times. */
static void post(struct flood *f)
{
	uint8_t *const at = f->scratch + PAGE;
	uint32_t head[4] = { pick(f, 2) ? 1u : 4u, 0, 1, (uint32_t)pick(f, 260) }, i;
	uint64_t body[30];

	for (i = 0; i < 30; i++)
		body[i] = roll(f);
	body[0] = pick(f, 32);
	if (pick(f, 8) == 0)
		head[pick(f, 4)] = (uint32_t)roll(f);
	__builtin_memcpy(at, head, sizeof(head));
	__builtin_memcpy(at + sizeof(head), body, sizeof(body));
	call(f, VMBUS_HC_POST_MESSAGE, (uintptr_t)at, 0);
}

static void leaf(struct flood *f)
{
	uint32_t a = pick(f, 2) ? 0x40000000u + (uint32_t)pick(f, 0x100) : (uint32_t)roll(f);
	uint32_t c = (uint32_t)pick(f, 8), b, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
}

static void port(struct flood *f, bool out)
{
	const uint16_t at = (uint16_t)(PORTS_FIRST + pick(f, PORTS));
	uint32_t value = (uint32_t)roll(f);

	switch (pick(f, 3) * 2 + out) {
	case 0:
		__asm__ volatile("inb %1, %%al" : "=a"(value) : "Nd"(at));
		break;
	case 1:
		__asm__ volatile("outb %%al, %1" : : "a"(value), "Nd"(at) : "memory");
		break;
	case 2:
		__asm__ volatile("inw %1, %%ax" : "=a"(value) : "Nd"(at));
		break;
	case 3:
		__asm__ volatile("outw %%ax, %1" : : "a"(value), "Nd"(at) : "memory");
		break;
	case 4:
		__asm__ volatile("inl %1, %%eax" : "=a"(value) : "Nd"(at));
		break;
	default:
		__asm__ volatile("outl %%eax, %1" : : "a"(value), "Nd"(at) : "memory");
		break;
	}
}

static void one(struct flood *f)
{
	const enum act act = (enum act)pick(f, ACTS);

	f->counts[act]++;
	switch (act) {
	case ACT_WRITE:
		write_register(f);
		break;
	case ACT_READ:
		read_register(f);
		break;
	case ACT_CALL:
		hypercall(f);
		break;
	case ACT_POST:
		post(f);
		break;
	case ACT_CPUID:
		leaf(f);
		break;
	default:
		port(f, act == ACT_OUT);
		break;
	}
}

/* Leave the machine as a boot finds it. */
static void settle(void)
{
	uint32_t i;

	for (i = 0; i < VMBUS_SINTS; i++)
		(void)try_wrmsr(MSR_SINT0 + i, MASKED);
	for (i = MSR_STIMER0; i < MSR_STIMER_END; i++)
		(void)try_wrmsr(i, 0);
	(void)try_wrmsr(MSR_SCONTROL, 0);
	(void)try_wrmsr(MSR_SIEFP, 0);
	(void)try_wrmsr(MSR_SIMP, 0);
	(void)try_wrmsr(MSR_ASSIST, 0);
	(void)try_wrmsr(MSR_TSC_PAGE, 0);
	(void)try_wrmsr(MSR_HYPERCALL, 0);
	(void)try_wrmsr(MSR_OS_ID, 0);
	(void)try_wrmsr(MSR_X2_TPR, 0);
}

void run_flood(const struct options *opts, uint8_t *scratch, size_t bytes)
{
	struct flood f = { .state = opts->seed, .scratch = scratch, .pages = bytes / PAGE };
	const uint64_t span = opts->seconds * 10000000ull;
	uint64_t begin, time;
	uint32_t i;

	if (!try_rdmsr(MSR_TIME, &begin))
		fail("no reference time for the flood", NULL);
	do {
		for (i = 0; i < ROUND; i++)
			one(&f);
		if (!try_rdmsr(MSR_TIME, &time))
			fail("the reference time is gone", NULL);
	} while (time - begin < span);
	settle();
	say("flood_ns", (time - begin) * 100u);
	for (i = 0; i < ACTS; i++)
		say(act_names[i], f.counts[i]);
	say("faults", machine_faults());
}
