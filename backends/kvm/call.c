/* SPDX-License-Identifier: MIT */
/*
 * Exits for hypercalls.  In the user-space way they are port writes by the code in the guest's
 * hypercall page, or by whoever in the guest may use ports: registers are the guest's, any value.
 * In the kernel's way KVM has decoded the registers, and sends on what it does not do itself.
 */
#include <string.h>

#include "kvm/grace.h"
#include "kvm/partition.h"

#define CONTROL_FAST ((uint64_t)1 << 16) /* [HC-CONTROL] */
#define CODE_MASK 0xFFFFu

/* The general registers of a vCPU that has exited. */
static int get_regs(struct vmbus_kvm *kvm, struct vmbus__kvm_vp *vp, struct kvm_regs *regs)
{
	if (kvm->sync_regs && (vp->run->kvm_valid_regs & KVM_SYNC_X86_REGS)) {
		*regs = vp->run->s.regs.regs;
		return 0;
	}
	return vmbus__kvm_ioctl(kvm, vp->vcpu_fd, KVM_GET_REGS, regs) ? VMBUS_E_SYSTEM : 0;
}

static int set_regs(struct vmbus_kvm *kvm, struct vmbus__kvm_vp *vp, struct kvm_regs *regs)
{
	if (kvm->sync_regs && (vp->run->kvm_valid_regs & KVM_SYNC_X86_REGS)) {
		vp->run->s.regs.regs = *regs;
		vp->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
		return 0;
	}
	return vmbus__kvm_ioctl(kvm, vp->vcpu_fd, KVM_SET_REGS, regs) ? VMBUS_E_SYSTEM : 0;
}

static void count_call(struct vmbus_kvm *kvm, uint64_t control, uint64_t result)
{
	vmbus__kvm_count((control & CODE_MASK) == VMBUS_HC_SIGNAL_EVENT
				 ? &kvm->stats.exits_signal
				 : &kvm->stats.exits_hypercall);
	if ((result & CODE_MASK) != VMBUS_HC_OK && (result & CODE_MASK) != VMBUS_HC_NO_BUFFERS)
		vmbus__kvm_count(&kvm->stats.bad);
}

/* Any call: control word in RCX, input in RAX, output in R8; the result goes to RAX. */
static int port_call(struct vmbus_kvm *kvm, struct vmbus__kvm_vp *vp)
{
	struct vmbus_hc_regs call = { 0 };
	struct kvm_regs regs;
	int err = get_regs(kvm, vp, &regs);

	if (err)
		return err;
	call.control = regs.rcx;
	call.in = regs.rax;
	call.out = regs.r8;
	regs.rax = vmbus_hc_dispatch(vmbus_bus_hc_ops(), kvm->bus, &call);
	count_call(kvm, call.control, regs.rax);
	return set_regs(kvm, vp, &regs);
}

/* A signal that no descriptor took: the page moves RCX, which is 0, into RAX. */
static int port_signal(struct vmbus_kvm *kvm, struct vmbus__kvm_vp *vp, uint32_t conn_id)
{
	const uint32_t status = vmbus_bus_signal_event(kvm->bus, conn_id, 0);
	struct kvm_regs regs;
	int err;

	count_call(kvm, VMBUS_HC_SIGNAL_EVENT, status);
	if (status == VMBUS_HC_OK)
		return 0;
	err = get_regs(kvm, vp, &regs);
	if (err)
		return err;
	regs.rcx = status;
	return set_regs(kvm, vp, &regs);
}

static int refuse(struct vmbus_kvm *kvm)
{
	vmbus__kvm_count(&kvm->stats.bad);
	return 0;
}

static int port_write(struct vmbus_kvm *kvm, struct vmbus__kvm_vp *vp, uint32_t port)
{
	const struct kvm_run *run = vp->run;
	uint32_t id;

	if (run->io.count != 1)
		return refuse(kvm);
	if (port == 0 && run->io.size == 1)
		return port_call(kvm, vp);
	if (port == 0 || run->io.size != sizeof(id))
		return refuse(kvm);
	memcpy(&id, (const uint8_t *)run + run->io.data_offset, sizeof(id));
	if (id != VMBUS__KVM_CONN_BASE + port)
		return refuse(kvm);
	return port_signal(kvm, vp, id);
}

int vmbus__kvm_exit_io(struct vmbus_kvm *kvm, uint32_t n)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[n];
	struct kvm_run *run = vp->run;
	int err;

	if (kvm->way == VMBUS_KVM_KERNEL || run->io.port < kvm->opts.port ||
	    run->io.port - kvm->opts.port >= (int)VMBUS_KVM_PORTS)
		return 0;
	if (run->io.direction == KVM_EXIT_IO_OUT) {
		err = port_write(kvm, vp, (uint32_t)(run->io.port - kvm->opts.port));
		return err ? err : 1;
	}
	memset((uint8_t *)run + run->io.data_offset, 0xFF, (size_t)run->io.size * run->io.count);
	(void)refuse(kvm);
	return 1;
}

/* A SynIC register was written: KVM shows the three that it keeps, and we take them over. */
static int synic_moved(struct vmbus_kvm *kvm, uint32_t n)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[n];
	const struct kvm_hyperv_exit *exit = &vp->run->hyperv;
	const uint32_t msrs[3] = { MSR_SCONTROL, MSR_SIEFP, MSR_SIMP };
	const uint64_t values[3] = { exit->u.synic.control, exit->u.synic.evt_page,
				     exit->u.synic.msg_page };
	uint32_t left = 0;
	bool moved = false;
	int i, did;

	vmbus__kvm_count(&kvm->stats.exits_synic);
	(void)pthread_mutex_lock(&kvm->lock);
	for (i = 0; i < 3; i++) {
		did = vmbus_synic_msr_write(&vp->synic, msrs[i], values[i], true);
		left |= vmbus__kvm_synic_did(kvm, n, did);
		moved |= did > 0 && (uint32_t)did & VMBUS_SYNIC_PAGES;
	}
	(void)pthread_mutex_unlock(&kvm->lock);
	if (moved)
		vmbus__kvm_grace(kvm); /* nobody writes into an old page when the guest goes on */
	if (left)
		vmbus__kvm_slot_free(kvm, n);
	vmbus_bus_wake_changed(kvm->bus, n);
	return 1;
}

/* KVM has read the input of a slow signal, and left the control word as it was. */
static int call_of_kernel(struct vmbus_kvm *kvm, uint32_t n)
{
	struct kvm_hyperv_exit *exit = &kvm->vp[n].run->hyperv;
	struct vmbus_hc_regs call = { .control = exit->u.hcall.input,
				      .in = exit->u.hcall.params[0],
				      .out = exit->u.hcall.params[1] };

	if ((call.control & CODE_MASK) == VMBUS_HC_SIGNAL_EVENT)
		call.control |= CONTROL_FAST;
	exit->u.hcall.result = vmbus_hc_dispatch(vmbus_bus_hc_ops(), kvm->bus, &call);
	count_call(kvm, call.control, exit->u.hcall.result);
	return 1;
}

int vmbus__kvm_exit_hyperv(struct vmbus_kvm *kvm, uint32_t vp)
{
	if (kvm->way == VMBUS_KVM_USER)
		return 0;
	switch (kvm->vp[vp].run->hyperv.type) {
	case KVM_EXIT_HYPERV_SYNIC:
		return synic_moved(kvm, vp);
	case KVM_EXIT_HYPERV_HCALL:
		return call_of_kernel(kvm, vp);
	default:
		return 0;
	}
}
