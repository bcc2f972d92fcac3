/* SPDX-License-Identifier: MIT */
/*
 * The state of vCPUs, read and put back.  KVM cannot reset a machine: so what vCPUs and interrupt
 * controllers looked like when they were new is kept.  The library does its own registers:
 * vmbus_kvm_reset(), vmbus_kvm_save().
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

/* The same for all: one copy. */
static struct {
	struct kvm_irqchip chips[3];
	uint32_t msr_count;
	struct kvm_msr_entry *msrs;
} machine;

struct one_msr {
	uint32_t count, pad; /* as struct kvm_msrs */
	struct kvm_msr_entry entry;
};

/* The library's registers are not ours: vmbus_kvm_save(), vmbus_kvm_reset(). */
static bool is_ours(uint32_t index)
{
	return index < MSR_HV_FIRST || index > MSR_HV_LAST;
}

struct kvm_msr_entry *vmm_vcpu_msrs(struct vmm *vmm, struct vmm_vcpu *vcpu, uint32_t *count)
{
	struct kvm_msr_list *const list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(uint32_t));
	struct kvm_msr_entry *const msrs = calloc(MSRS_MAX, sizeof(*msrs));
	struct one_msr one = { .count = 1 };
	uint32_t i;

	*count = 0;
	if (list)
		list->nmsrs = MSRS_MAX;
	if (!list || !msrs || ioctl(vmm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list)) {
		vmm_errno("vCPU %u: reading its MSRs", vcpu->index);
		free(list);
		free(msrs);
		return NULL;
	}
	for (i = 0; i < list->nmsrs; i++) {
		one.entry.index = list->indices[i];
		one.entry.data = 0;
		if (is_ours(list->indices[i]) && ioctl(vcpu->fd, KVM_GET_MSRS, &one) == 1)
			msrs[(*count)++] = one.entry;
	}
	free(list);
	return msrs;
}

int vmm_vcpu_get(struct vmm_vcpu *vcpu, struct vmm_vcpu_state *to)
{
	const int fd = vcpu->fd;

	if (ioctl(fd, KVM_GET_MP_STATE, &to->mp) || ioctl(fd, KVM_GET_REGS, &to->regs) ||
	    ioctl(fd, KVM_GET_SREGS, &to->sregs) || ioctl(fd, KVM_GET_LAPIC, &to->lapic) ||
	    ioctl(fd, KVM_GET_XSAVE, to->xsave) || ioctl(fd, KVM_GET_VCPU_EVENTS, &to->events) ||
	    ioctl(fd, KVM_GET_DEBUGREGS, &to->debug))
		return -1;
	/* None at all: a processor without XSAVE, where they cannot be set either. */
	to->has_xcrs = ioctl(fd, KVM_GET_XCRS, &to->xcrs) == 0 && to->xcrs.nr_xcrs > 0;
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
	for (i = 0; i < vmm->vcpu_count; i++) {
		vmm->vcpus[i].pristine = calloc(1, sizeof(*vmm->vcpus[i].pristine));
		if (!vmm->vcpus[i].pristine || vmm_vcpu_get(&vmm->vcpus[i], vmm->vcpus[i].pristine))
			return vmm_errno("vCPU %u: reading its state", i);
	}
	machine.msrs = vmm_vcpu_msrs(vmm, &vmm->vcpus[0], &machine.msr_count);
	return machine.msrs ? 0 : -1;
}

static bool is_clock(uint32_t index)
{
	return index == MSR_TSC || index == MSR_TSC_ADJUST;
}

/* One by one: those that can only be read are refused, and need nothing. */
static void set_msrs(const struct vmm_vcpu *vcpu, const struct kvm_msr_entry *msrs, uint32_t count,
		     bool clock)
{
	struct one_msr one = { .count = 1 };
	uint32_t i;

	for (i = 0; i < count; i++) {
		one.entry = msrs[i];
		if (is_clock(msrs[i].index) == clock && is_ours(msrs[i].index) &&
		    ioctl(vcpu->fd, KVM_SET_MSRS, &one) != 1)
			continue;
	}
}

static int set_state(struct vmm_vcpu *vcpu, const struct vmm_vcpu_state *state,
		     const struct kvm_msr_entry *msrs, uint32_t count)
{
	struct vmm_vcpu_state s = *state;
	const int fd = vcpu->fd;

	/* The mode of the local APIC is in the first, its registers in the second. */
	if (ioctl(fd, KVM_SET_SREGS, &s.sregs) || ioctl(fd, KVM_SET_LAPIC, &s.lapic) ||
	    ioctl(fd, KVM_SET_XSAVE, s.xsave) || (s.has_xcrs && ioctl(fd, KVM_SET_XCRS, &s.xcrs)) ||
	    ioctl(fd, KVM_SET_DEBUGREGS, &s.debug) || ioctl(fd, KVM_SET_VCPU_EVENTS, &s.events) ||
	    ioctl(fd, KVM_SET_REGS, &s.regs))
		return vmm_errno("vCPU %u: putting back its state", vcpu->index);
	set_msrs(vcpu, msrs, count, false);
	if (ioctl(fd, KVM_SET_MP_STATE, &s.mp))
		return vmm_errno("vCPU %u: putting back its state", vcpu->index);
	return 0;
}

/* The counter first: deadlines are times of it. */
int vmm_vcpu_set(struct vmm_vcpu *vcpu, const struct vmm_vcpu_state *state,
		 const struct kvm_msr_entry *msrs, uint32_t count)
{
	set_msrs(vcpu, msrs, count, true);
	return set_state(vcpu, state, msrs, count);
}

/* The clock goes on through a reset. */
int vmm_pristine_restore(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < 3; i++)
		if (ioctl(vmm->vm_fd, KVM_SET_IRQCHIP, &machine.chips[i]))
			return vmm_errno("putting back the interrupt controllers");
	for (i = 0; i < vmm->vcpu_count; i++)
		if (set_state(&vmm->vcpus[i], vmm->vcpus[i].pristine, machine.msrs,
			      machine.msr_count))
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
