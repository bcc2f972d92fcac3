/* SPDX-License-Identifier: MIT */
/*
 * Shared between the files of the backend: the places of our pages, and the page allocator.
 */
#ifndef BARE_BARE_H
#define BARE_BARE_H

#include <vmbus/hypercall.h>
#include <vmbus/synic.h>

#include "bare/cpu.h"

/* Synthetic registers that we touch, [HV-MSR], [SYNIC-MSR]. */
#define MSR_GUEST_OS_ID 0x40000000u
#define MSR_HYPERCALL 0x40000001u
#define MSR_VP_INDEX 0x40000002u
#define MSR_TIME_REF_COUNT 0x40000020u
#define MSR_REFERENCE_TSC 0x40000021u
#define MSR_TSC_FREQUENCY 0x40000022u
#define MSR_SCONTROL 0x40000080u
#define MSR_SIEFP 0x40000082u
#define MSR_SIMP 0x40000083u
#define MSR_EOM 0x40000084u
#define MSR_SINT2 0x40000092u

#define SINT_MESSAGE 2u /* that VMBus uses */

/* Members of pages_p. */
enum page {
	PAGE_HYPERCALL,
	PAGE_INPUT,
	PAGE_MESSAGES,
	PAGE_FLAGS,
	PAGE_TSC,
	PAGES
};

/* clock_p */
enum clock {
	CLOCK_NONE = 0,
	CLOCK_PAGE = 1,	   /* the parent fills the page */
	CLOCK_COUNTER = 2, /* a register */
	CLOCK_TSC = 4	   /* we fill the page, from the frequency that the parent told */
};

static inline const struct vmbus__bare_cpu *cpu_of(const struct vmbus_bare *bare)
{
	return bare->cpu_p;
}

static inline uint64_t rd(const struct vmbus_bare *bare, uint32_t msr)
{
	return cpu_of(bare)->rdmsr(bare->cpu_ctx_p, msr);
}

static inline void wr(const struct vmbus_bare *bare, uint32_t msr, uint64_t value)
{
	cpu_of(bare)->wrmsr(bare->cpu_ctx_p, msr, value);
}

/* Page number of a page of memory. */
uint64_t vmbus__bare_pfn(const struct vmbus_bare *bare, const void *page);

/* Begin: our own pages and the map of the others are taken from the start of memory. */
void vmbus__bare_pages_init(struct vmbus_bare *bare);
void *vmbus__bare_alloc(struct vmbus_bare *bare, size_t bytes);
void vmbus__bare_release(struct vmbus_bare *bare, void *p, size_t bytes);

#endif
