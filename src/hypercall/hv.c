/* SPDX-License-Identifier: MIT */
/*
 * What a partition has once: the registers that announce a guest and place its hypercall and clock
 * pages, the contents of those pages, and the CPUID leaves that say what there is.
 *
 * Nothing is announced that the options do not say is there.  This file knows neither time nor
 * memory: the caller brings the one and maps the other.
 */
#include <vmbus/synic.h>

#include "base/atomic.h"
#include "base/contract.h"

/* Registers, [HV-MSR]. */
#define MSR_GUEST_OS_ID 0x40000000u
#define MSR_HYPERCALL 0x40000001u
#define MSR_VP_INDEX 0x40000002u
#define MSR_RESET 0x40000003u
#define MSR_TIME_REF_COUNT 0x40000020u
#define MSR_REFERENCE_TSC 0x40000021u
#define MSR_TSC_FREQUENCY 0x40000022u
#define MSR_APIC_FREQUENCY 0x40000023u
#define MSR_CRASH_P0 0x40000100u
#define MSR_CRASH_P4 0x40000104u
#define MSR_CRASH_CTL 0x40000105u
#define MSR_TSC_INVARIANT 0x40000118u

#define ENABLE ((uint64_t)1)
#define HYPERCALL_LOCKED ((uint64_t)1 << 1)
#define PAGE_MASK (~(uint64_t)(VMBUS_PAGE_BYTES - 1u))
#define CRASH_NOTIFY ((uint64_t)1 << 63)
#define CRASH_MESSAGE ((uint64_t)1 << 62)

/* Reference time has 100 ns, [HV-TSC]. */
#define REFERENCE_HZ 10000000u

/* Leaves, [HV-CPUID]. */
#define LEAF_FIRST 0x40000000u
#define LEAF_INTERFACE 0x40000001u
#define LEAF_FEATURES 0x40000003u
#define LEAF_HINTS 0x40000004u
#define LEAF_LIMITS 0x40000005u
#define LEAF_LAST 0x4000000Cu
#define SIGNATURE_EBX 0x7263694Du /* "Micr" */
#define SIGNATURE_ECX 0x666F736Fu /* "osof" */
#define SIGNATURE_EDX 0x76482074u /* "t Hv" */
#define INTERFACE 0x31237648u	  /* "Hv#1" */
#define FEATURE_TIME (1u << 1)
#define FEATURE_SYNIC (1u << 2)
#define FEATURE_STIMER (1u << 3)
#define FEATURE_APIC (1u << 4)
#define FEATURE_HYPERCALL (1u << 5)
#define FEATURE_VP_INDEX (1u << 6)
#define FEATURE_RESET (1u << 7)
#define FEATURE_REFERENCE_TSC (1u << 9)
#define FEATURE_FREQUENCY (1u << 11)
#define FEATURE_TSC_INVARIANT (1u << 15)
#define FEATURE_EBX_POST (1u << 4)
#define FEATURE_EBX_SIGNAL (1u << 5)
#define FEATURE_EDX_XMM (1u << 4)
#define FEATURE_EDX_FREQUENCY (1u << 8)
#define FEATURE_EDX_CRASH (1u << 10)
#define HINT_APIC (1u << 3)
#define HINT_NO_AUTO_EOI (1u << 9)
#define SPIN_NEVER 0xFFFFFFFFu

/* The port-I/O page has a port per connection id 0x2001 to 0x27FF, and one for all other calls. */
#define PORTS 0x800u
#define FIRST_ID 0x2000
#define PORT_AT 34u /* offset in the code of base - FIRST_ID */
#define TRAP_AT 48u /* offset of base */

/* The reference TSC page, [HV-TSC]. */
struct tsc_page {
	vmbus__a32 sequence; /* 0: not valid */
	uint32_t reserved;
	vmbus__a64 scale;
	vmbus__a64 offset;
};

int vmbus_hv_init(struct vmbus_hv *hv, const struct vmbus_hv_opts *opts)
{
	if (!hv || !opts || opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	__builtin_memset(hv, 0, sizeof(*hv));
	hv->opts_p = *opts;
	hv->opts_p.struct_bytes = sizeof(*opts);
	return 0;
}

static uint64_t named_page(uint64_t value)
{
	return value & ENABLE ? value & PAGE_MASK : UINT64_MAX;
}

uint64_t vmbus_hv_hypercall_gpa(const struct vmbus_hv *hv)
{
	return named_page(hv->hypercall_p);
}

uint64_t vmbus_hv_tsc_gpa(const struct vmbus_hv *hv)
{
	return named_page(hv->tsc_page_p);
}

void vmbus_hv_crash(const struct vmbus_hv *hv, uint64_t params[5], uint64_t *ctl)
{
	__builtin_memcpy(params, hv->crash_p, sizeof(hv->crash_p));
	*ctl = hv->crash_ctl_p;
}

static bool is_crash(uint32_t msr)
{
	return msr >= MSR_CRASH_P0 && msr <= MSR_CRASH_CTL;
}

/* Whether the options have this register. */
static bool is_offered(const struct vmbus_hv *hv, uint32_t msr)
{
	const struct vmbus_hv_opts *opts = &hv->opts_p;

	if (is_crash(msr))
		return opts->crash;
	switch (msr) {
	case MSR_GUEST_OS_ID:
	case MSR_HYPERCALL:
	case MSR_VP_INDEX:
	case MSR_TIME_REF_COUNT:
		return true;
	case MSR_RESET:
		return opts->reset;
	case MSR_REFERENCE_TSC:
		return opts->reference_tsc;
	case MSR_TSC_FREQUENCY:
	case MSR_APIC_FREQUENCY:
		return opts->tsc_hz && opts->apic_hz;
	case MSR_TSC_INVARIANT:
		return opts->invariant_tsc;
	default:
		return false;
	}
}

int vmbus_hv_msr_read(const struct vmbus_hv *hv, uint32_t vp, uint32_t msr, uint64_t now,
		      uint64_t *value)
{
	if (!is_offered(hv, msr))
		return VMBUS_E_NOTSUP;
	if (msr >= MSR_CRASH_P0 && msr <= MSR_CRASH_P4) {
		*value = hv->crash_p[msr - MSR_CRASH_P0];
		return 0;
	}
	switch (msr) {
	case MSR_GUEST_OS_ID:
		*value = hv->os_id_p;
		break;
	case MSR_HYPERCALL:
		*value = hv->hypercall_p;
		break;
	case MSR_VP_INDEX:
		*value = vp;
		break;
	case MSR_TIME_REF_COUNT:
		*value = now;
		break;
	case MSR_REFERENCE_TSC:
		*value = hv->tsc_page_p;
		break;
	case MSR_TSC_FREQUENCY:
		*value = hv->opts_p.tsc_hz;
		break;
	case MSR_APIC_FREQUENCY:
		*value = hv->opts_p.apic_hz;
		break;
	case MSR_CRASH_CTL: /* what we can be told */
		*value = CRASH_NOTIFY | CRASH_MESSAGE;
		break;
	case MSR_TSC_INVARIANT:
		*value = hv->invariant_p;
		break;
	default: /* RESET */
		*value = 0;
		break;
	}
	return 0;
}

/* The page is filled anew whenever it is enabled, for the guest may have written there. */
static int page_bits(uint64_t before, uint64_t after, uint32_t bit)
{
	return (before | after) & ENABLE ? (int)bit : 0;
}

static int write_os_id(struct vmbus_hv *hv, uint64_t value)
{
	const uint64_t before = hv->hypercall_p;

	hv->os_id_p = value;
	if (value)
		return 0;
	hv->hypercall_p &= ~ENABLE;
	return page_bits(before, hv->hypercall_p, VMBUS_HV_PAGE);
}

static int write_hypercall(struct vmbus_hv *hv, uint64_t value)
{
	const uint64_t before = hv->hypercall_p;

	if (before & HYPERCALL_LOCKED)
		return VMBUS_E_INVAL;
	if (!hv->os_id_p)
		value &= ~(ENABLE | HYPERCALL_LOCKED);
	hv->hypercall_p = value;
	return page_bits(before, value, VMBUS_HV_PAGE);
}

static int write_tsc_page(struct vmbus_hv *hv, uint64_t value)
{
	const uint64_t before = hv->tsc_page_p;

	hv->tsc_page_p = value;
	return page_bits(before, value, VMBUS_HV_TSC);
}

int vmbus_hv_msr_write(struct vmbus_hv *hv, uint32_t vp, uint32_t msr, uint64_t value)
{
	(void)vp;
	if (!is_offered(hv, msr))
		return VMBUS_E_NOTSUP;
	if (msr >= MSR_CRASH_P0 && msr <= MSR_CRASH_P4) {
		hv->crash_p[msr - MSR_CRASH_P0] = value;
		return 0;
	}
	switch (msr) {
	case MSR_GUEST_OS_ID:
		return write_os_id(hv, value);
	case MSR_HYPERCALL:
		return write_hypercall(hv, value);
	case MSR_REFERENCE_TSC:
		return write_tsc_page(hv, value);
	case MSR_RESET:
		return value & ENABLE ? (int)VMBUS_HV_RESET : 0;
	case MSR_CRASH_CTL:
		hv->crash_ctl_p = value & (CRASH_NOTIFY | CRASH_MESSAGE);
		return value & CRASH_NOTIFY ? (int)VMBUS_HV_CRASH : 0;
	case MSR_TSC_INVARIANT:
		if (value & ~ENABLE)
			return VMBUS_E_INVAL;
		hv->invariant_p = value;
		return 0;
	default: /* read-only */
		return VMBUS_E_INVAL;
	}
}

/*
 * Each page begins with ENDBR64, which processors without branch tracking pass over: a guest that
 * uses it in its kernel turns it off if it is missing.
 */
static const uint8_t vmcall_code[] = {
	0xF3, 0x0F, 0x1E, 0xFA, /* endbr64 */
	0x0F, 0x01, 0xC1,	/* vmcall */
	0xC3,			/* ret */
};

static const uint8_t vmmcall_code[] = {
	0xF3, 0x0F, 0x1E, 0xFA, /* endbr64 */
	0x0F, 0x01, 0xD9,	/* vmmcall */
	0xC3,			/* ret */
};

/*
 * A call is an OUT, for a hypervisor that does not pass VMCALL on.  A fast signal of flag 0 to one
 * of our connection ids goes to the port base + (id & 0xFFF) with the id as data, so that a
 * descriptor bound to that port and id completes it without leaving the kernel; RAX becomes what is
 * in RCX after it: 0, or a status if somebody who emulates the port puts one there.  Any other call
 * goes to the port base, with the control word in RCX, the input in RAX (it was in RDX), the output
 * in R8, and the result is put in RAX.  RCX and RDX are lost.
 */
static const uint8_t port_code[] = {
	0xF3, 0x0F, 0x1E, 0xFA,			  /*  0 endbr64 */
	0x48, 0x81, 0xF9, 0x5D, 0x00, 0x01, 0x00, /*  4 cmp rcx, 0x1005D */
	0x75, 0x1F,				  /* 11 jne trap */
	0x48, 0x8D, 0x82, 0xFF, 0xDF, 0xFF, 0xFF, /* 13 lea rax, [rdx - 0x2001] */
	0x48, 0x3D, 0xFE, 0x07, 0x00, 0x00,	  /* 20 cmp rax, 0x7FE */
	0x77, 0x10,				  /* 26 ja trap */
	0x89, 0xD0,				  /* 28 mov eax, edx */
	0x31, 0xC9,				  /* 30 xor ecx, ecx */
	0x81, 0xC2, 0x00, 0x00, 0x00, 0x00,	  /* 32 add edx, base - 0x2000 */
	0xEF,					  /* 38 out dx, eax */
	0x48, 0x89, 0xC8,			  /* 39 mov rax, rcx */
	0xC3,					  /* 42 ret */
	0xCC,					  /* 43 int3 */
	/* trap: */
	0x48, 0x89, 0xD0,	      /* 44 mov rax, rdx */
	0xBA, 0x00, 0x00, 0x00, 0x00, /* 47 mov edx, base */
	0xEE,			      /* 52 out dx, al */
	0xC3,			      /* 53 ret */
};

#define FILLER 0xCC /* int3: nobody comes here */

static void patch32(uint8_t *p, uint32_t v)
{
	__builtin_memcpy(p, &v, sizeof(v));
}

static void put_code(uint8_t *page, const uint8_t *code, size_t bytes)
{
	__builtin_memset(page, FILLER, VMBUS_PAGE_BYTES);
	__builtin_memcpy(page, code, bytes);
}

int vmbus_hv_fill_page(void *page, enum vmbus_hv_call how, uint16_t port)
{
	switch (how) {
	case VMBUS_HV_VMCALL:
		put_code(page, vmcall_code, sizeof(vmcall_code));
		return 0;
	case VMBUS_HV_VMMCALL:
		put_code(page, vmmcall_code, sizeof(vmmcall_code));
		return 0;
	case VMBUS_HV_PORT_IO:
		if (port > 0x10000u - PORTS)
			return VMBUS_E_RANGE;
		put_code(page, port_code, sizeof(port_code));
		patch32((uint8_t *)page + PORT_AT, (uint32_t)((int32_t)port - FIRST_ID));
		patch32((uint8_t *)page + TRAP_AT, port);
		return 0;
	default:
		return VMBUS_E_INVAL;
	}
}

void vmbus_hv_fill_tsc(void *page, uint32_t sequence, uint64_t scale, int64_t offset)
{
	struct tsc_page *tsc = page;

	/*
	 * CLOCK: no reader may take the new words under the old number, nor the old words under the
	 * new one.
	 */
	vmbus__st32_relaxed(&tsc->sequence, 0);		     /* CLOCK.fill */
	vmbus__fence_full();				     /* CLOCK.fill */
	vmbus__st64_relaxed(&tsc->scale, scale);	     /* CLOCK.fill */
	vmbus__st64_relaxed(&tsc->offset, (uint64_t)offset); /* CLOCK.fill */
	vmbus__st32_release(&tsc->sequence, sequence);	     /* CLOCK.fill */
}

uint64_t vmbus_hv_tsc_scale(uint64_t tsc_hz)
{
	uint64_t rest = REFERENCE_HZ, scale = 0;
	int bit;

	if (tsc_hz <= REFERENCE_HZ)
		return 0;
	for (bit = 0; bit < 64; bit++) { /* (REFERENCE_HZ << 64) / tsc_hz, by hand */
		const bool over = rest >= tsc_hz - rest;

		rest = over ? rest - (tsc_hz - rest) : rest + rest;
		scale = scale << 1 | over;
	}
	return scale;
}

/* The upper half of a product. */
static uint64_t multiply_high(uint64_t a, uint64_t b)
{
	const uint64_t al = a & 0xFFFFFFFFu, ah = a >> 32, bl = b & 0xFFFFFFFFu, bh = b >> 32;
	const uint64_t low = al * bl, mid1 = ah * bl + (low >> 32);
	const uint64_t mid2 = al * bh + (mid1 & 0xFFFFFFFFu);

	return ah * bh + (mid1 >> 32) + (mid2 >> 32);
}

int vmbus_hv_read_tsc(const void *page, uint64_t tsc, uint64_t *time)
{
	const struct tsc_page *from = page;
	const uint32_t sequence = vmbus__ld32_acquire(&from->sequence); /* CLOCK.read */
	uint64_t scale, offset;

	if (sequence == 0)
		return 0;
	scale = vmbus__ld64_relaxed(&from->scale);	      /* CLOCK.read */
	offset = vmbus__ld64_relaxed(&from->offset);	      /* CLOCK.read */
	vmbus__fence_acquire();				      /* CLOCK.read */
	if (vmbus__ld32_relaxed(&from->sequence) != sequence) /* CLOCK.read */
		return 0;
	/* The offset may be negative: the sum goes round. */
	(void)__builtin_add_overflow(multiply_high(tsc, scale), offset, time);
	return 1;
}

static uint32_t features(const struct vmbus_hv_opts *opts)
{
	return FEATURE_TIME | FEATURE_SYNIC | FEATURE_APIC | FEATURE_HYPERCALL | FEATURE_VP_INDEX |
	       (opts->stimers ? FEATURE_STIMER : 0) | (opts->reset ? FEATURE_RESET : 0) |
	       (opts->reference_tsc ? FEATURE_REFERENCE_TSC : 0) |
	       (opts->tsc_hz && opts->apic_hz ? FEATURE_FREQUENCY : 0) |
	       (opts->invariant_tsc ? FEATURE_TSC_INVARIANT : 0);
}

int vmbus_hv_cpuid(const struct vmbus_hv *hv, uint32_t leaf, uint32_t regs[4])
{
	const struct vmbus_hv_opts *opts = &hv->opts_p;

	if (leaf < LEAF_FIRST || leaf > LEAF_LAST)
		return 0;
	__builtin_memset(regs, 0, 4 * sizeof(regs[0]));
	switch (leaf) {
	case LEAF_FIRST:
		regs[0] = LEAF_LAST;
		regs[1] = SIGNATURE_EBX;
		regs[2] = SIGNATURE_ECX;
		regs[3] = SIGNATURE_EDX;
		break;
	case LEAF_INTERFACE:
		regs[0] = INTERFACE;
		break;
	case LEAF_FEATURES:
		regs[0] = features(opts);
		regs[1] = FEATURE_EBX_POST | FEATURE_EBX_SIGNAL;
		regs[3] = (opts->xmm_fast ? FEATURE_EDX_XMM : 0) |
			  (opts->tsc_hz && opts->apic_hz ? FEATURE_EDX_FREQUENCY : 0) |
			  (opts->crash ? FEATURE_EDX_CRASH : 0);
		break;
	case LEAF_HINTS:
		regs[0] =
			(opts->auto_eoi ? 0 : HINT_NO_AUTO_EOI) | (opts->apic_msrs ? HINT_APIC : 0);
		regs[1] = SPIN_NEVER;
		break;
	case LEAF_LIMITS:
		regs[0] = opts->vps_max;
		break;
	default:
		break;
	}
	return 1;
}
