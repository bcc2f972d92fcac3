/* SPDX-License-Identifier: MIT */
/*
 * Finding the hypervisor, and setting the calling processor's SynIC up and down.  Every register
 * that is touched was announced by CPUID before.  What the guest does with it is in guest_backend.c.
 */
#include "bare/bare.h"

#define STATE_UP 0x62617265u

#define ENABLE 1u
#define PAGE_MASK 0xFFFull
#define HYPERCALL_LOCKED 2u
#define SINT_MASKED 0x10000ull
#define SINT_AUTO_EOI 0x20000ull
#define SINT_POLLING 0x40000ull
#define SINT_VECTOR 0xFFull

/* CPUID, [HV-CPUID]. */
#define LEAF_FEATURES 1u
#define LEAF_VENDOR 0x40000000u
#define LEAF_HV_FEATURES 0x40000003u
#define LEAF_HV_LIMITS 0x40000005u
#define HYPERVISOR_PRESENT (1u << 31)
#define HAS_COUNTER (1u << 1)
#define HAS_SYNIC (1u << 2)
#define HAS_HYPERCALL (1u << 5)
#define HAS_VP_INDEX (1u << 6)
#define HAS_TSC_PAGE (1u << 9)
#define HAS_FREQUENCIES (1u << 11)
#define MAY_POST (1u << 4)
#define MAY_SIGNAL (1u << 5)

static const uint32_t vendor[3] = { 0x7263694Du, 0x666F736Fu, 0x76482074u }; /* "Microsoft Hv" */

static const char *const lack_names[] = {
	[VMBUS_BARE_LACK_NOTHING] = "nothing",
	[VMBUS_BARE_LACK_HYPERVISOR] = "no hypervisor (CPUID 1 ECX bit 31)",
	[VMBUS_BARE_LACK_SIGNATURE] = "the hypervisor is not \"Microsoft Hv\" (CPUID 0x40000000)",
	[VMBUS_BARE_LACK_LEAVES] = "too few hypervisor leaves (CPUID 0x40000000 EAX)",
	[VMBUS_BARE_LACK_HYPERCALL] = "no hypercall registers (CPUID 0x40000003 EAX bit 5)",
	[VMBUS_BARE_LACK_VP_INDEX] = "no VP index register (CPUID 0x40000003 EAX bit 6)",
	[VMBUS_BARE_LACK_SYNIC] = "no SynIC registers (CPUID 0x40000003 EAX bit 2)",
	[VMBUS_BARE_LACK_POST] = "may not post messages (CPUID 0x40000003 EBX bit 4)",
	[VMBUS_BARE_LACK_SIGNAL] = "may not signal events (CPUID 0x40000003 EBX bit 5)",
	[VMBUS_BARE_LACK_CLOCK] = "no reference time (CPUID 0x40000003 EAX bits 1, 9 and 11)",
	[VMBUS_BARE_LACK_PAGE] = "the hypercall page cannot be enabled (register 0x40000001)",
};

static enum vmbus_bare_lack look_at_features(struct vmbus_bare *bare, const uint32_t regs[4])
{
	if (!(regs[0] & HAS_HYPERCALL))
		return VMBUS_BARE_LACK_HYPERCALL;
	if (!(regs[0] & HAS_VP_INDEX))
		return VMBUS_BARE_LACK_VP_INDEX;
	if (!(regs[0] & HAS_SYNIC))
		return VMBUS_BARE_LACK_SYNIC;
	if (!(regs[1] & MAY_POST))
		return VMBUS_BARE_LACK_POST;
	if (!(regs[1] & MAY_SIGNAL))
		return VMBUS_BARE_LACK_SIGNAL;
	if (regs[0] & HAS_TSC_PAGE)
		bare->clock_p |= CLOCK_PAGE;
	else if (regs[0] & HAS_FREQUENCIES)
		bare->clock_p |= CLOCK_TSC;
	if (regs[0] & HAS_COUNTER)
		bare->clock_p |= CLOCK_COUNTER;
	return bare->clock_p ? VMBUS_BARE_LACK_NOTHING : VMBUS_BARE_LACK_CLOCK;
}

static enum vmbus_bare_lack look(struct vmbus_bare *bare)
{
	const struct vmbus__bare_cpu *const cpu = cpu_of(bare);
	uint32_t regs[4];

	cpu->cpuid(bare->cpu_ctx_p, LEAF_FEATURES, regs);
	if (!(regs[2] & HYPERVISOR_PRESENT))
		return VMBUS_BARE_LACK_HYPERVISOR;
	cpu->cpuid(bare->cpu_ctx_p, LEAF_VENDOR, regs);
	if (regs[1] != vendor[0] || regs[2] != vendor[1] || regs[3] != vendor[2])
		return VMBUS_BARE_LACK_SIGNATURE;
	if (regs[0] < LEAF_HV_LIMITS || regs[0] > 0x4000FFFFu)
		return VMBUS_BARE_LACK_LEAVES;
	cpu->cpuid(bare->cpu_ctx_p, LEAF_HV_FEATURES, regs);
	return look_at_features(bare, regs);
}

static uint64_t page_value(const struct vmbus_bare *bare, enum page page, uint64_t keep)
{
	return vmbus__bare_pfn(bare, bare->pages_p[page]) * VMBUS_PAGE_BYTES | (keep & PAGE_MASK) |
	       ENABLE;
}

/* The bit sticks only for a guest that has said who it is. */
static bool hypercall_up(struct vmbus_bare *bare)
{
	uint64_t value;

	wr(bare, MSR_GUEST_OS_ID, bare->opts_p.os_id);
	if (rd(bare, MSR_HYPERCALL) & HYPERCALL_LOCKED)
		return false;
	value = page_value(bare, PAGE_HYPERCALL, 0);
	wr(bare, MSR_HYPERCALL, value);
	return rd(bare, MSR_HYPERCALL) == value;
}

static void hypercall_down(struct vmbus_bare *bare)
{
	if (!(rd(bare, MSR_HYPERCALL) & HYPERCALL_LOCKED))
		wr(bare, MSR_HYPERCALL, 0);
	wr(bare, MSR_GUEST_OS_ID, 0);
}

/* A clock that the parent does not keep is one that we make of the processor's counter. */
static bool clock_up(struct vmbus_bare *bare)
{
	if (bare->clock_p & CLOCK_PAGE) {
		wr(bare, MSR_REFERENCE_TSC, page_value(bare, PAGE_TSC, 0));
	} else if (bare->clock_p & CLOCK_TSC) {
		bare->scale_p = vmbus_hv_tsc_scale(rd(bare, MSR_TSC_FREQUENCY));
		if (bare->scale_p)
			vmbus_hv_fill_tsc(bare->pages_p[PAGE_TSC], 1, bare->scale_p, 0);
		else
			bare->clock_p &= ~(uint32_t)CLOCK_TSC;
	}
	return bare->clock_p != 0;
}

static void clock_down(struct vmbus_bare *bare)
{
	if (bare->clock_p & CLOCK_PAGE)
		wr(bare, MSR_REFERENCE_TSC, 0);
}

/* Bits that we do not know stay as they are. */
static void synic_up(struct vmbus_bare *bare)
{
	const uint64_t mask = SINT_VECTOR | SINT_MASKED | SINT_AUTO_EOI | SINT_POLLING;
	uint64_t sint = rd(bare, MSR_SINT2) & ~mask;

	sint |= bare->opts_p.vector | (bare->opts_p.poll ? SINT_POLLING : 0);
	wr(bare, MSR_SIMP, page_value(bare, PAGE_MESSAGES, rd(bare, MSR_SIMP)));
	wr(bare, MSR_SIEFP, page_value(bare, PAGE_FLAGS, rd(bare, MSR_SIEFP)));
	wr(bare, MSR_SINT2, sint);
	wr(bare, MSR_SCONTROL, rd(bare, MSR_SCONTROL) | ENABLE);
}

static void synic_down(struct vmbus_bare *bare)
{
	wr(bare, MSR_SINT2, SINT_MASKED);
	wr(bare, MSR_SCONTROL, rd(bare, MSR_SCONTROL) & ~(uint64_t)ENABLE);
	wr(bare, MSR_SIEFP, rd(bare, MSR_SIEFP) & PAGE_MASK & ~(uint64_t)ENABLE);
	wr(bare, MSR_SIMP, rd(bare, MSR_SIMP) & PAGE_MASK & ~(uint64_t)ENABLE);
}

static int take_opts(struct vmbus_bare *bare, const struct vmbus_bare_opts *opts)
{
	struct vmbus_bare_opts *const own = &bare->opts_p;

	if (!opts || opts->struct_bytes < sizeof(*opts) || !opts->memory ||
	    ((uintptr_t)opts->memory | opts->memory_gpa | opts->memory_bytes) % VMBUS_PAGE_BYTES)
		return VMBUS_E_INVAL;
	*own = *opts;
	if (own->vector == 0)
		own->vector = VMBUS_BARE_VECTOR;
	if (own->os_id == 0)
		own->os_id = VMBUS_BARE_OS_ID;
	if (own->memory_bytes / VMBUS_PAGE_BYTES < VMBUS_BARE_PAGES_MIN ||
	    own->memory_bytes / VMBUS_PAGE_BYTES > VMBUS_BARE_PAGES_MAX ||
	    own->memory_bytes > UINT64_MAX - own->memory_gpa || own->vector < 32 ||
	    !(own->os_id >> 63))
		return VMBUS_E_RANGE;
	return 0;
}

static int lacking(struct vmbus_bare *bare, enum vmbus_bare_lack lack)
{
	bare->lack_p = lack;
	return VMBUS_E_NOTSUP;
}

int vmbus__bare_init(struct vmbus_bare *bare, const struct vmbus_bare_opts *opts,
		     const struct vmbus__bare_cpu *cpu, void *ctx)
{
	enum vmbus_bare_lack lack;
	int err;

	__builtin_memset(bare, 0, sizeof(*bare));
	err = take_opts(bare, opts);
	if (err)
		return err;
	bare->cpu_p = cpu;
	bare->cpu_ctx_p = ctx;
	lack = look(bare);
	if (lack)
		return lacking(bare, lack);
	vmbus__bare_pages_init(bare);
	if (!hypercall_up(bare)) {
		hypercall_down(bare);
		return lacking(bare, VMBUS_BARE_LACK_PAGE);
	}
	if (!clock_up(bare)) {
		hypercall_down(bare);
		return lacking(bare, VMBUS_BARE_LACK_CLOCK);
	}
	bare->vp_p = (uint32_t)rd(bare, MSR_VP_INDEX);
	synic_up(bare);
	bare->state_p = STATE_UP;
	return 0;
}

int vmbus_bare_init(struct vmbus_bare *bare, const struct vmbus_bare_opts *opts)
{
	return vmbus__bare_init(bare, opts, &vmbus__bare_real_cpu, NULL);
}

void vmbus_bare_fini(struct vmbus_bare *bare)
{
	if (bare->state_p != STATE_UP)
		return;
	bare->state_p = 0;
	synic_down(bare);
	clock_down(bare);
	hypercall_down(bare);
}

enum vmbus_bare_lack vmbus_bare_lack(const struct vmbus_bare *bare)
{
	return (enum vmbus_bare_lack)bare->lack_p;
}

const char *vmbus_bare_lack_name(enum vmbus_bare_lack lack)
{
	const uint32_t i = (uint32_t)lack;

	return i < sizeof(lack_names) / sizeof(lack_names[0]) ? lack_names[i] : "?";
}

void vmbus_bare_interrupt(struct vmbus_bare *bare)
{
	bare->stats_p.interrupts++;
	bare->woken_p = 1;
}

uint32_t vmbus_bare_vp(const struct vmbus_bare *bare)
{
	return bare->vp_p;
}

void vmbus_bare_stats(const struct vmbus_bare *bare, struct vmbus_bare_stats *stats)
{
	*stats = bare->stats_p;
}
