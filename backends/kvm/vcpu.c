/* SPDX-License-Identifier: MIT */
/*
 * Virtual processors come and go, and their exits come here first; the CPUID leaves that each gets.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "kvm/partition.h"

#define LEAF_BASIC 0x1u
#define BASIC_HYPERVISOR (1u << 31) /* of its ECX */
#define LEAF_THERMAL 0x6u
#define THERMAL_ARAT (1u << 2)	 /* of its EAX: the timer runs on in sleep */
#define LEAVES_FIRST 0x40000000u /* of hypervisors, [HV-CPUID] */
#define LEAVES_LAST 0x4FFFFFFFu
#define OURS 0xDu	       /* leaves 0x40000000 to 0x4000000C */
#define LEAF_STACK 0x40000080u /* Linux asks for three there whatever the limit says */
#define STACK_LEAVES 3u
#define APIC_ID_MAX 254u /* 255 in a message is every one */
#define ANY_VECTOR 0x10u

int vmbus_kvm_cpuid(const struct vmbus_kvm *kvm, struct kvm_cpuid_entry2 *entries, uint32_t count,
		    uint32_t room)
{
	uint32_t from, to = 0, n, kept = 0;

	for (from = 0; from < count; from++)
		kept += entries[from].function < LEAVES_FIRST ||
			entries[from].function > LEAVES_LAST;
	if (count > room || room - kept < OURS + STACK_LEAVES)
		return VMBUS_E_RANGE;
	for (from = 0; from < count; from++) {
		if (entries[from].function >= LEAVES_FIRST && entries[from].function <= LEAVES_LAST)
			continue;
		entries[to] = entries[from];
		if (entries[to].function == LEAF_BASIC)
			entries[to].ecx |= BASIC_HYPERVISOR;
		if (entries[to].function == LEAF_THERMAL)
			entries[to].eax |= THERMAL_ARAT;
		to++;
	}
	for (n = 0; n < OURS + STACK_LEAVES; n++) {
		const uint32_t leaf = n < OURS ? LEAVES_FIRST + n : LEAF_STACK + n - OURS;
		uint32_t regs[4] = { 0 };

		(void)vmbus_hv_cpuid(&kvm->hv, leaf, regs);
		entries[to++] = (struct kvm_cpuid_entry2){ .function = leaf,
							   .eax = regs[0],
							   .ebx = regs[1],
							   .ecx = regs[2],
							   .edx = regs[3] };
	}
	return (int)to;
}

/* struct kvm_msrs with room for one. */
struct one_msr {
	uint32_t nmsrs;
	uint32_t pad;
	struct kvm_msr_entry entry;
};

int vmbus__kvm_get_msr(const struct vmbus_kvm *kvm, int vcpu_fd, uint32_t msr, uint64_t *value)
{
	struct one_msr one = { .nmsrs = 1, .entry.index = msr };
	const int got = vmbus__kvm_ioctl(kvm, vcpu_fd, KVM_GET_MSRS, &one);

	if (got == 0)
		errno = EINVAL;
	*value = one.entry.data;
	return got == 1 ? 0 : VMBUS_E_SYSTEM;
}

int vmbus__kvm_set_msr(const struct vmbus_kvm *kvm, int vcpu_fd, uint32_t msr, uint64_t value)
{
	struct one_msr one = { .nmsrs = 1, .entry = { .index = msr, .data = value } };
	const int got = vmbus__kvm_ioctl(kvm, vcpu_fd, KVM_SET_MSRS, &one);

	if (got == 0)
		errno = EINVAL;
	return got == 1 ? 0 : VMBUS_E_SYSTEM;
}

/*
 * A SynIC as it is after a reset.  The kernel's begins switched off, and we are not shown what the
 * guest writes into its SINTs: ours counts as open, with any vector, and the kernel drops what the
 * guest does not want.
 */
void vmbus__kvm_synic_init(struct vmbus_kvm *kvm, uint32_t vp)
{
	struct vmbus_synic *synic = &kvm->vp[vp].synic;

	vmbus_synic_reset(synic);
	kvm->vp[vp].crashes = 0;
	kvm->vp[vp].vector = 0; /* its route leads nowhere that anybody looks */
	if (kvm->way == VMBUS_KVM_USER)
		return;
	(void)vmbus_synic_msr_write(synic, MSR_SCONTROL, 0, true);
	(void)vmbus_synic_msr_write(synic, MSR_SINT0 + VMBUS__KVM_SINT, ANY_VECTOR, true);
}

/* What the kernel must do for this vCPU. */
static int enlighten(struct vmbus_kvm *kvm, uint32_t vp, int vcpu_fd)
{
	struct kvm_enable_cap synic = { .cap = KVM_CAP_HYPERV_SYNIC2 };
	struct kvm_enable_cap enforce = { .cap = KVM_CAP_HYPERV_ENFORCE_CPUID, .args = { 1 } };

	if (kvm->way == VMBUS_KVM_USER)
		return 0;
	if (vmbus__kvm_ioctl(kvm, vcpu_fd, KVM_ENABLE_CAP, &synic) ||
	    (kvm->enforce_cpuid && vmbus__kvm_ioctl(kvm, vcpu_fd, KVM_ENABLE_CAP, &enforce)))
		return VMBUS_E_SYSTEM;
	return vmbus__kvm_set_msr(kvm, vcpu_fd, MSR_VP_INDEX, vp);
}

static void count_vps(struct vmbus_kvm *kvm)
{
	uint32_t n, vps = 0;

	for (n = 0; n < kvm->opts.vps_max; n++)
		if (vmbus__ld32_relaxed(&kvm->vp[n].here)) /* HERE.look */
			vps = n + 1u;
	vmbus__st32_relaxed(&kvm->vps, vps); /* HERE.set */
}

/* An irqfd needs the vCPU's interrupt controller in the kernel.  Without the lock: it is the embedder's. */
static void log_no_irqfd(const struct vmbus_kvm *kvm, uint32_t n)
{
	vmbus__kvm_say(&kvm->opts.bus, VMBUS_LOG_ERROR, "no interrupts for vCPU %u (errno %d): %s",
		       (unsigned int)n, errno,
		       errno == EMFILE || errno == ENFILE
			       ? "too few descriptors are allowed, see ulimit -n"
			       : "KVM refused an irqfd: make the local APICs by KVM_CREATE_IRQCHIP "
				 "before the vCPU, or have them by KVM_CAP_SPLIT_IRQCHIP");
}

/* With the lock.  no_irqfd: whether it fails by the descriptors of interrupts. */
static int add(struct vmbus_kvm *kvm, uint32_t n, int vcpu_fd, struct kvm_run *run, bool *no_irqfd)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[n];
	int err = enlighten(kvm, n, vcpu_fd);

	if (!err) {
		err = vmbus__kvm_connect(kvm, n);
		*no_irqfd = err != 0;
	}
	if (err)
		return err;
	vp->vcpu_fd = vcpu_fd;
	vp->run = run;
	vmbus__kvm_synic_init(kvm, n);
	vmbus__st32_release(&vp->here, 1); /* HERE.set */
	if (kvm->way == VMBUS_KVM_KERNEL)
		err = vmbus__kvm_routes(kvm);
	if (err)
		vmbus__st32_release(&vp->here, 0); /* HERE.set */
	else if (kvm->sync_regs && kvm->way == VMBUS_KVM_USER)
		run->kvm_valid_regs |= KVM_SYNC_X86_REGS;
	count_vps(kvm);
	return err;
}

int vmbus_kvm_add_vcpu(struct vmbus_kvm *kvm, uint32_t vp, uint32_t apic_id, int vcpu_fd,
		       struct kvm_run *run)
{
	bool no_irqfd = false;
	int err;

	if (vcpu_fd < 0 || !run || run == MAP_FAILED)
		return VMBUS_E_INVAL;
	if (vp >= kvm->opts.vps_max || apic_id > APIC_ID_MAX)
		return VMBUS_E_RANGE;
	(void)pthread_mutex_lock(&kvm->lock);
	if (vmbus__ld32_relaxed(&kvm->vp[vp].here)) { /* HERE.look */
		err = VMBUS_E_STATE;
	} else {
		kvm->vp[vp].apic_id = apic_id;
		err = add(kvm, vp, vcpu_fd, run, &no_irqfd);
	}
	(void)pthread_mutex_unlock(&kvm->lock);
	if (no_irqfd)
		log_no_irqfd(kvm, vp);
	if (!err) {
		vmbus__kvm_slot_free(kvm, vp);
		vmbus_bus_wake_changed(kvm->bus, vp);
	}
	return err;
}

int vmbus_kvm_remove_vcpu(struct vmbus_kvm *kvm, uint32_t vp)
{
	int err = VMBUS_E_STATE;

	(void)pthread_mutex_lock(&kvm->lock);
	if (vp < kvm->opts.vps_max && vmbus__ld32_relaxed(&kvm->vp[vp].here)) { /* HERE.look */
		vmbus__st32_release(&kvm->vp[vp].here, 0);			/* HERE.set */
		vmbus_synic_reset(&kvm->vp[vp].synic);
		kvm->vp[vp].run = NULL;
		kvm->vp[vp].vcpu_fd = -1;
		kvm->vp[vp].vector = 0;
		count_vps(kvm);
		err = 0;
	}
	(void)pthread_mutex_unlock(&kvm->lock);
	if (!err)
		vmbus_bus_wake_changed(kvm->bus, vp);
	return err;
}

int vmbus_kvm_handle_exit(struct vmbus_kvm *kvm, uint32_t vp)
{
	if (vp >= kvm->opts.vps_max || !vmbus__ld32_acquire(&kvm->vp[vp].here)) /* HERE.look */
		return VMBUS_E_STATE;
	vmbus__kvm_count(&kvm->stats.exits);
	switch (kvm->vp[vp].run->exit_reason) {
	case KVM_EXIT_X86_RDMSR:
		return vmbus__kvm_exit_msr(kvm, vp, false);
	case KVM_EXIT_X86_WRMSR:
		return vmbus__kvm_exit_msr(kvm, vp, true);
	case KVM_EXIT_IO:
		return vmbus__kvm_exit_io(kvm, vp);
	case KVM_EXIT_HYPERV:
		return vmbus__kvm_exit_hyperv(kvm, vp);
	default:
		return 0;
	}
}
