/* SPDX-License-Identifier: MIT */
/*
 * KVM cannot reset a machine.  So what vCPUs and interrupt controllers looked like when they were new
 * is kept, and put back.  The library does its own registers: vmbus_kvm_reset().
 */
#include "vmm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSRS_MAX 512u
#define MSR_TSC 0x10u
#define MSR_TSC_ADJUST 0x3Bu
#define MSR_HV_FIRST 0x40000000u
#define MSR_HV_LAST 0x400001FFu

struct vmm_pristine {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_lapic_state lapic;
	struct kvm_xcrs xcrs;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	struct kvm_mp_state mp;
	bool has_xcrs;
	uint32_t xsave[1024]; /* as struct kvm_xsave */
};

/* The same for all: one copy. */
static struct {
	struct kvm_irqchip chips[3];
	uint32_t msr_count;
	struct kvm_msr_entry *msrs;
} machine;

/* The clock goes on through a reset, and the library's registers are not ours. */
static bool is_kept(uint32_t index)
{
	return index == MSR_TSC || index == MSR_TSC_ADJUST ||
	       (index >= MSR_HV_FIRST && index <= MSR_HV_LAST);
}

struct one_msr {
	uint32_t count, pad; /* as struct kvm_msrs */
	struct kvm_msr_entry entry;
};

static int save_msrs(const struct vmm *vmm)
{
	struct kvm_msr_list *const list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(uint32_t));
	struct one_msr one = { .count = 1 };
	uint32_t i;

	if (!list)
		return -1;
	list->nmsrs = MSRS_MAX;
	machine.msrs = calloc(MSRS_MAX, sizeof(*machine.msrs));
	if (!machine.msrs || ioctl(vmm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list)) {
		free(list);
		return -1;
	}
	for (i = 0; i < list->nmsrs; i++) {
		one.entry.index = list->indices[i];
		one.entry.data = 0;
		if (!is_kept(list->indices[i]) && ioctl(vmm->vcpus[0].fd, KVM_GET_MSRS, &one) == 1)
			machine.msrs[machine.msr_count++] = one.entry;
	}
	free(list);
	return 0;
}

static int save_vcpu(struct vmm_vcpu *vcpu)
{
	struct vmm_pristine *const p = calloc(1, sizeof(*p));
	const int fd = vcpu->fd;

	vcpu->pristine = p;
	if (!p || ioctl(fd, KVM_GET_REGS, &p->regs) || ioctl(fd, KVM_GET_SREGS, &p->sregs) ||
	    ioctl(fd, KVM_GET_LAPIC, &p->lapic) || ioctl(fd, KVM_GET_XSAVE, p->xsave) ||
	    ioctl(fd, KVM_GET_VCPU_EVENTS, &p->events) || ioctl(fd, KVM_GET_DEBUGREGS, &p->debug) ||
	    ioctl(fd, KVM_GET_MP_STATE, &p->mp))
		return -1;
	/* None at all: a processor without XSAVE, where they cannot be set either. */
	p->has_xcrs = ioctl(fd, KVM_GET_XCRS, &p->xcrs) == 0 && p->xcrs.nr_xcrs > 0;
	return 0;
}

int vmm_pristine_save(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < 3; i++) {
		machine.chips[i].chip_id = i;
		if (ioctl(vmm->vm_fd, KVM_GET_IRQCHIP, &machine.chips[i]))
			return vmm_errno("reading the interrupt controllers");
	}
	for (i = 0; i < vmm->vcpu_count; i++)
		if (save_vcpu(&vmm->vcpus[i]))
			return vmm_errno("vCPU %u: reading its state", i);
	if (save_msrs(vmm))
		return vmm_errno("vCPU 0: reading its MSRs");
	return 0;
}

static void restore_msrs(const struct vmm_vcpu *vcpu)
{
	struct one_msr one = { .count = 1 };
	uint32_t i;

	/* One by one: those that can only be read are refused, and need nothing. */
	for (i = 0; i < machine.msr_count; i++) {
		one.entry = machine.msrs[i];
		if (ioctl(vcpu->fd, KVM_SET_MSRS, &one) != 1)
			continue;
	}
}

static int restore_vcpu(const struct vmm_vcpu *vcpu)
{
	struct vmm_pristine *const p = vcpu->pristine;
	const int fd = vcpu->fd;

	/* The mode of the local APIC is in the first, its registers in the second. */
	if (ioctl(fd, KVM_SET_SREGS, &p->sregs) || ioctl(fd, KVM_SET_LAPIC, &p->lapic) ||
	    ioctl(fd, KVM_SET_XSAVE, p->xsave) ||
	    (p->has_xcrs && ioctl(fd, KVM_SET_XCRS, &p->xcrs)) ||
	    ioctl(fd, KVM_SET_DEBUGREGS, &p->debug) || ioctl(fd, KVM_SET_VCPU_EVENTS, &p->events) ||
	    ioctl(fd, KVM_SET_REGS, &p->regs))
		return vmm_errno("vCPU %u: putting back the state of a new one", vcpu->index);
	restore_msrs(vcpu);
	if (ioctl(fd, KVM_SET_MP_STATE, &p->mp))
		return vmm_errno("vCPU %u: putting back the state of a new one", vcpu->index);
	return 0;
}

int vmm_pristine_restore(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < 3; i++)
		if (ioctl(vmm->vm_fd, KVM_SET_IRQCHIP, &machine.chips[i]))
			return vmm_errno("putting back the interrupt controllers");
	for (i = 0; i < vmm->vcpu_count; i++)
		if (restore_vcpu(&vmm->vcpus[i]))
			return -1;
	return 0;
}

void vmm_pristine_free(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < vmm->vcpu_count; i++) {
		free(vmm->vcpus[i].pristine);
		vmm->vcpus[i].pristine = NULL;
	}
	free(machine.msrs);
	machine.msrs = NULL;
	machine.msr_count = 0;
}
