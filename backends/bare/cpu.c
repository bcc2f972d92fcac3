/* SPDX-License-Identifier: MIT */
/*
 * The instructions of the processor that C has no words for, and nothing else.  Privileged: this
 * runs at level 0.
 */
#include "bare/cpu.h"

#define FLAGS_IF 0x200u

static void cpu_cpuid(void *ctx, uint32_t leaf, uint32_t regs[4])
{
	(void)ctx;
	__asm__ volatile("cpuid"
			 : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3])
			 : "a"(leaf), "c"(0));
}

static uint64_t cpu_rdmsr(void *ctx, uint32_t msr)
{
	uint32_t low, high;

	(void)ctx;
	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
	return (uint64_t)high << 32 | low;
}

/* memory: the parent sees what was written before, and we what it wrote into a page of ours. */
static void cpu_wrmsr(void *ctx, uint32_t msr, uint64_t value)
{
	(void)ctx;
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

static uint64_t cpu_call(void *ctx, void *page, uint64_t control, uint64_t in, uint64_t out)
{
	register uint64_t r8 __asm__("r8") = out;
	uint64_t result;

	(void)ctx;
	__asm__ volatile("call *%[page]"
			 : "=a"(result), "+c"(control), "+d"(in), "+r"(r8)
			 : [page] "r"(page)
			 : "r9", "r10", "r11", "cc", "memory");
	return result;
}

static uint64_t cpu_rdtsc(void *ctx)
{
	uint32_t low, high;

	(void)ctx;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static void cpu_pause(void *ctx)
{
	(void)ctx;
	__asm__ volatile("pause" ::: "memory");
}

static uint64_t cpu_irq_save(void *ctx)
{
	uint64_t flags;

	(void)ctx;
	__asm__ volatile("pushfq; popq %0; cli" : "=r"(flags)::"memory");
	return flags;
}

static void cpu_irq_restore(void *ctx, uint64_t flags)
{
	(void)ctx;
	if (flags & FLAGS_IF)
		__asm__ volatile("sti" ::: "memory");
	else
		__asm__ volatile("cli" ::: "memory");
}

const struct vmbus__bare_cpu vmbus__bare_real_cpu = {
	.cpuid = cpu_cpuid,
	.rdmsr = cpu_rdmsr,
	.wrmsr = cpu_wrmsr,
	.call = cpu_call,
	.rdtsc = cpu_rdtsc,
	.pause = cpu_pause,
	.irq_save = cpu_irq_save,
	.irq_restore = cpu_irq_restore,
};
