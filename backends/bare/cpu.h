/* SPDX-License-Identifier: MIT */
/*
 * What the backend asks of the processor, as a table, so that unit tests play one in a process.
 * cpu.c has the real one, and all assembly of the component.
 */
#ifndef BARE_CPU_H
#define BARE_CPU_H

#include <vmbus/bare.h>

struct vmbus__bare_cpu {
	/* EAX, EBX, ECX, EDX of a leaf, sub-leaf 0. */
	void (*cpuid)(void *ctx, uint32_t leaf, uint32_t regs[4]);
	uint64_t (*rdmsr)(void *ctx, uint32_t msr);
	void (*wrmsr)(void *ctx, uint32_t msr, uint64_t value);
	/* Call the code at the start of page: RCX, RDX, R8 in, RAX out, [HV-PAGE]. */
	uint64_t (*call)(void *ctx, void *page, uint64_t control, uint64_t in, uint64_t out);
	uint64_t (*rdtsc)(void *ctx);
	void (*pause)(void *ctx);
	/* Disable interrupts, and tell what to give irq_restore(). */
	uint64_t (*irq_save)(void *ctx);
	void (*irq_restore)(void *ctx, uint64_t flags);
};

/* vmbus_bare_init() on another processor; the table and ctx are kept. */
int vmbus__bare_init(struct vmbus_bare *bare, const struct vmbus_bare_opts *opts,
		     const struct vmbus__bare_cpu *cpu, void *ctx);

extern const struct vmbus__bare_cpu vmbus__bare_real_cpu;

#endif
