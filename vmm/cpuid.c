/* SPDX-License-Identifier: MIT */
/*
 * What CPUID says: all that KVM supports, the library's leaves merged in, and the topology of one
 * package with as many cores as there are vCPUs.  APIC ids are the numbers of the vCPUs.
 */
#include "vmm.h"

#include <string.h>
#include <sys/ioctl.h>

#define ECX_VMX (1u << 5) /* no virtual machines in the guest: their state is not reset or saved */
#define ECX_SVM (1u << 2)
#define ECX_X2APIC (1u << 21)
#define ECX_DEADLINE (1u << 24)
#define EAX_ARAT (1u << 2)

struct supported {
	uint32_t count, pad; /* as struct kvm_cpuid2 */
	struct kvm_cpuid_entry2 entries[VMM_CPUID_MAX];
};

static void features(struct vmm *vmm, struct kvm_cpuid_entry2 *e)
{
	if (e->function == 1) {
		e->ecx |= ECX_X2APIC;
		if (ioctl(vmm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
			e->ecx |= ECX_DEADLINE;
	} else if (e->function == 6) {
		e->eax |= EAX_ARAT;
	}
}

int vmm_cpuid_get(struct vmm *vmm, struct kvm_cpuid_entry2 *entries, uint32_t *count)
{
	static struct supported all;
	bool has_6 = false;
	uint32_t i;
	int n;

	all.count = VMM_CPUID_MAX;
	if (ioctl(vmm->kvm_fd, KVM_GET_SUPPORTED_CPUID, &all))
		return vmm_errno("asking KVM for the processor's features");
	/* Six for the topology, sixteen for the library, one for leaf 6. */
	if (all.count > VMM_CPUID_MAX - 23)
		return vmm_error("KVM has %u CPUID leaves, more than there is room for", all.count);
	for (i = 0; i < all.count; i++) {
		features(vmm, &all.entries[i]);
		has_6 |= all.entries[i].function == 6;
	}
	if (!has_6)
		all.entries[all.count++] =
			(struct kvm_cpuid_entry2){ .function = 6, .eax = EAX_ARAT };
	n = vmbus_kvm_cpuid(vmm->kvm, all.entries, all.count, VMM_CPUID_MAX - 6);
	if (n < 0)
		return vmm_error("Hyper-V's CPUID leaves: %s", vmbus_err_name(n));
	memcpy(entries, all.entries, (size_t)n * sizeof(*entries));
	*count = (uint32_t)n;
	return 0;
}

/* Bits that a number below cpus needs. */
static uint32_t id_bits(uint32_t cpus)
{
	uint32_t bits = 0;

	while ((1u << bits) < cpus)
		bits++;
	return bits;
}

static bool is_topology(const struct kvm_cpuid_entry2 *e)
{
	return e->function == 0xB || e->function == 0x1F;
}

/* One thread a core, all cores in one package. */
static uint32_t topology_leaf(struct kvm_cpuid_entry2 *e, uint32_t leaf, uint32_t cpu,
			      uint32_t cpus)
{
	uint32_t level;

	memset(e, 0, 3 * sizeof(*e));
	for (level = 0; level < 3; level++) {
		e[level].function = leaf;
		e[level].index = level;
		e[level].flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		e[level].ecx = level | (level < 2 ? (level + 1) << 8 : 0);
		e[level].edx = cpu;
	}
	e[0].ebx = 1;
	e[1].eax = id_bits(cpus);
	e[1].ebx = cpus;
	return 3;
}

static void one(struct kvm_cpuid_entry2 *e, uint32_t cpu, uint32_t cpus)
{
	switch (e->function) {
	case 1:
		e->ecx &= ~ECX_VMX;
		e->ebx = (e->ebx & 0xFF00u) | cpu << 24 |
			 (id_bits(cpus) < 8 ? 1u << id_bits(cpus) : 0xFFu) << 16;
		e->edx = cpus > 1 ? e->edx | 1u << 28 : e->edx & ~(1u << 28);
		break;
	case 4: /* caches: threads that share them, cores in the package */
		if (!(e->eax & 0x1Fu))
			break;
		e->eax &= 0x3FFFu;
		if (((e->eax >> 5) & 7u) >= 3)
			e->eax |= (cpus - 1) << 14;
		e->eax |= ((1u << id_bits(cpus < 64 ? cpus : 64)) - 1) << 26;
		break;
	case 0x80000001:
		e->ecx &= ~ECX_SVM;
		break;
	case 0x80000008:
		e->ecx = (e->ecx & ~0xF0FFu) | (cpus - 1) | id_bits(cpus) << 12;
		break;
	case 0x8000001E:
		e->eax = cpu;
		e->ebx = cpu & 0xFFu;
		e->ecx = 0;
		break;
	case 0x8000000A: /* what SVM can do */
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	default:
		break;
	}
}

uint32_t vmm_cpuid_for(struct kvm_cpuid_entry2 *entries, uint32_t count, uint32_t cpu,
		       uint32_t cpus)
{
	uint32_t i, kept = 0, basic = 0;

	for (i = 0; i < count; i++) {
		if (entries[i].function == 0)
			basic = entries[i].eax;
		if (is_topology(&entries[i]))
			continue;
		entries[kept] = entries[i];
		one(&entries[kept++], cpu, cpus);
	}
	if (basic >= 0xB)
		kept += topology_leaf(&entries[kept], 0xB, cpu, cpus);
	if (basic >= 0x1F)
		kept += topology_leaf(&entries[kept], 0x1F, cpu, cpus);
	return kept;
}
