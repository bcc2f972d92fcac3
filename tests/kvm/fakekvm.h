/* SPDX-License-Identifier: MIT */
/*
 * A KVM of our own: it answers the ioctls of backends/kvm as a kernel does, with or without Hyper-V
 * emulation, notes what it was asked for, and plays the processor: register accesses, hypercalls,
 * signals, interrupts, ends of interrupt.  Descriptors of KVM, VM and vCPUs are numbers that the
 * system does not know; eventfds are real.
 *
 * fake.fail_request and fake.fail_in make the nth such request fail; fake.lacks takes a capability
 * away.
 */
#ifndef TESTS_KVM_FAKEKVM_H
#define TESTS_KVM_FAKEKVM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vmbus/kvm.h>
#include <vmbus/synic.h>

#include "../../backends/kvm/sys.h"

#define FAKE_KVM_FD 100000
#define FAKE_VM_FD 100001
#define FAKE_VCPU_FD 100100
#define FAKE_VPS 8u
#define FAKE_GSIS 4096u
#define FAKE_PORTS 0x10000u
#define FAKE_CONNS 0x4000u
#define FAKE_TSC_KHZ 2000000u
#define FAKE_TSC_AHEAD 0x1234567u
#define FAKE_LEAVES 6u

struct fake_vcpu {
	uint64_t synic[0x20]; /* registers 0x40000080 to 0x4000009F */
	uint64_t vp_assist, vp_index;
	bool has_synic, enforces;
	struct kvm_regs regs; /* when there is no KVM_CAP_SYNC_REGS */
	union {
		struct kvm_run run;
		uint8_t bytes[4096 * 2];
	};
};

static struct {
	bool hyperv, no_sync_regs, unstable, split, no_offset;
	bool scaled; /* the guest's counter has a rate of its own, which all are told */
	uint32_t lacks;
	unsigned long fail_request;
	uint32_t fail_in; /* the nth from now; 0: never */
	int fail_errno;	  /* 0: EIO */
	uint64_t clock_ns, tsc;
	uint64_t os_id, hypercall, reference_tsc, invariant;
	uint64_t frozen; /* a register that cannot be set from here */
	int event_fd[FAKE_GSIS], resample_fd[FAKE_GSIS];
	int wake_fd[FAKE_GSIS]; /* the second of its GSI */
	int port_fd[FAKE_PORTS], conn_fd[FAKE_CONNS];
	struct kvm_irq_routing_entry routes[FAKE_GSIS];
	uint32_t route_count, routings;
	uint32_t filter_ranges, filter_first[2], filter_count[2], msr_exits;
	uint32_t msis, last_msi;
	unsigned long ioctls;
	void (*on_clock)(struct kvm_clock_data *clock); /* instead of ours */
	struct fake_vcpu vcpu[FAKE_VPS];
} fake;

static inline int fake_refuse(int err)
{
	errno = err;
	return -1;
}

static inline int fake_extension(uint32_t number)
{
	if (number == fake.lacks)
		return 0;
	switch (number) {
	case KVM_CAP_IRQ_ROUTING:
		return (int)FAKE_GSIS;
	case KVM_CAP_SYNC_REGS:
		return fake.no_sync_regs ? 0 : 7;
	case KVM_CAP_ADJUST_CLOCK:
		return KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
	case KVM_CAP_HYPERV:
	case KVM_CAP_HYPERV_SYNIC2:
	case KVM_CAP_HYPERV_VP_INDEX:
	case KVM_CAP_HYPERV_EVENTFD:
	case KVM_CAP_HYPERV_TIME:
	case KVM_CAP_HYPERV_ENFORCE_CPUID:
		return fake.hyperv;
	default:
		return 1;
	}
}

/* Where KVM keeps a register; NULL: it has none such. */
static inline uint64_t *fake_register(struct fake_vcpu *vcpu, uint32_t msr)
{
	if (msr == 0x10) {
		fake.tsc += 1000;
		return &fake.tsc;
	}
	if (!fake.hyperv)
		return NULL;
	if (msr >= 0x40000080 && msr < 0x400000A0)
		return vcpu->has_synic ? &vcpu->synic[msr - 0x40000080] : NULL;
	switch (msr) {
	case 0x40000000:
		return &fake.os_id;
	case 0x40000001:
		return &fake.hypercall;
	case 0x40000002:
		return &vcpu->vp_index;
	case 0x40000021:
		return &fake.reference_tsc;
	case 0x40000073:
		return &vcpu->vp_assist;
	case 0x40000118:
		return &fake.invariant;
	default:
		return NULL;
	}
}

static inline int fake_msrs(struct fake_vcpu *vcpu, struct kvm_msrs *msrs, bool set)
{
	uint32_t n;

	for (n = 0; n < msrs->nmsrs; n++) {
		uint64_t *at = fake_register(vcpu, msrs->entries[n].index);

		if (!at || (set && fake.frozen == msrs->entries[n].index))
			return (int)n;
		if (set)
			*at = msrs->entries[n].data;
		else
			msrs->entries[n].data = *at;
	}
	return (int)n;
}

static inline int fake_vcpu_ioctl(struct fake_vcpu *vcpu, unsigned long request, void *arg)
{
	const struct kvm_enable_cap *cap = arg;
	uint32_t n;

	switch (request) {
	case KVM_ENABLE_CAP:
		if (!fake.hyperv)
			return fake_refuse(EINVAL);
		if (cap->cap == KVM_CAP_HYPERV_SYNIC2) {
			vcpu->has_synic = true;
			for (n = 0; n < 16; n++)
				vcpu->synic[0x10 + n] = 1u << 16;
		} else if (cap->cap == KVM_CAP_HYPERV_ENFORCE_CPUID) {
			vcpu->enforces = cap->args[0] != 0;
		} else {
			return fake_refuse(EINVAL);
		}
		return 0;
	case KVM_GET_MSRS:
		return fake_msrs(vcpu, arg, false);
	case KVM_SET_MSRS:
		return fake_msrs(vcpu, arg, true);
	case KVM_GET_REGS:
		*(struct kvm_regs *)arg = vcpu->regs;
		return 0;
	case KVM_SET_REGS:
		vcpu->regs = *(struct kvm_regs *)arg;
		return 0;
	case KVM_GET_TSC_KHZ:
		return (int)FAKE_TSC_KHZ;
	case KVM_GET_DEVICE_ATTR:
		if (fake.no_offset)
			return fake_refuse(ENXIO);
		*(uint64_t *)(uintptr_t)((struct kvm_device_attr *)arg)->addr = FAKE_TSC_AHEAD;
		return 0;
	default:
		return fake_refuse(ENOTTY);
	}
}

static inline int fake_irqfd(const struct kvm_irqfd *irqfd)
{
	if (irqfd->gsi >= FAKE_GSIS)
		return fake_refuse(EINVAL);
	if (irqfd->flags & KVM_IRQFD_FLAG_DEASSIGN) {
		if ((int)irqfd->fd == fake.wake_fd[irqfd->gsi])
			fake.wake_fd[irqfd->gsi] = 0;
		else
			fake.event_fd[irqfd->gsi] = fake.resample_fd[irqfd->gsi] = 0;
		return 0;
	}
	if (fake.split && (irqfd->flags & KVM_IRQFD_FLAG_RESAMPLE))
		return fake_refuse(EINVAL);
	if (fake.event_fd[irqfd->gsi] == (int)irqfd->fd || fake.wake_fd[irqfd->gsi])
		return fake_refuse(EBUSY);
	if (fake.event_fd[irqfd->gsi]) { /* several may lead to one GSI */
		fake.wake_fd[irqfd->gsi] = (int)irqfd->fd;
		return 0;
	}
	fake.event_fd[irqfd->gsi] = (int)irqfd->fd;
	if (irqfd->flags & KVM_IRQFD_FLAG_RESAMPLE)
		fake.resample_fd[irqfd->gsi] = (int)irqfd->resamplefd;
	return 0;
}

static inline int fake_ioeventfd(const struct kvm_ioeventfd *io)
{
	if (!(io->flags & KVM_IOEVENTFD_FLAG_PIO) || !(io->flags & KVM_IOEVENTFD_FLAG_DATAMATCH) ||
	    io->len != 4 || io->addr >= FAKE_PORTS || (io->addr & 0x7FF) != (io->datamatch & 0x7FF))
		return fake_refuse(EINVAL);
	if (io->flags & KVM_IOEVENTFD_FLAG_DEASSIGN) {
		if (fake.port_fd[io->addr] != io->fd)
			return fake_refuse(ENOENT);
		fake.port_fd[io->addr] = 0;
		return 0;
	}
	if (fake.port_fd[io->addr])
		return fake_refuse(EEXIST);
	fake.port_fd[io->addr] = io->fd;
	return 0;
}

static inline int fake_hyperv_eventfd(const struct kvm_hyperv_eventfd *call)
{
	if (!fake.hyperv || call->conn_id >= FAKE_CONNS)
		return fake_refuse(EINVAL);
	if (call->flags & KVM_HYPERV_EVENTFD_DEASSIGN) {
		if (!fake.conn_fd[call->conn_id])
			return fake_refuse(ENOENT);
		fake.conn_fd[call->conn_id] = 0;
		return 0;
	}
	if (fake.conn_fd[call->conn_id])
		return fake_refuse(EEXIST);
	fake.conn_fd[call->conn_id] = call->fd;
	return 0;
}

static inline int fake_routing(const struct kvm_irq_routing *table)
{
	if (table->nr > FAKE_GSIS)
		return fake_refuse(E2BIG);
	memcpy(fake.routes, table->entries, table->nr * sizeof(fake.routes[0]));
	fake.route_count = table->nr;
	fake.routings++;
	return 0;
}

static inline int fake_filter(const struct kvm_msr_filter *filter)
{
	uint32_t n;

	for (n = 0; n < KVM_MSR_FILTER_MAX_RANGES && filter->ranges[n].nmsrs; n++)
		if (n < 2) {
			fake.filter_first[n] = filter->ranges[n].base;
			fake.filter_count[n] = filter->ranges[n].nmsrs;
		}
	fake.filter_ranges = n;
	return 0;
}

static inline int fake_vm_ioctl(unsigned long request, void *arg)
{
	struct kvm_clock_data *clock = arg;

	switch (request) {
	case KVM_CHECK_EXTENSION:
		return fake_extension((uint32_t)(uintptr_t)arg);
	case KVM_ENABLE_CAP:
		if (((struct kvm_enable_cap *)arg)->cap != KVM_CAP_X86_USER_SPACE_MSR)
			return fake_refuse(EINVAL);
		fake.msr_exits = (uint32_t)((struct kvm_enable_cap *)arg)->args[0];
		return 0;
	case KVM_X86_SET_MSR_FILTER:
		return fake_filter(arg);
	case KVM_GET_TSC_KHZ:
		return (int)FAKE_TSC_KHZ;
	case KVM_GET_CLOCK:
		fake.clock_ns += 500;
		clock->clock = fake.clock_ns;
		clock->flags = (fake.unstable ? 0 : KVM_CLOCK_TSC_STABLE) | KVM_CLOCK_HOST_TSC;
		clock->host_tsc = (fake.tsc >> fake.scaled) - FAKE_TSC_AHEAD;
		return 0;
	case KVM_IRQFD:
		return fake_irqfd(arg);
	case KVM_IOEVENTFD:
		return fake_ioeventfd(arg);
	case KVM_HYPERV_EVENTFD:
		return fake_hyperv_eventfd(arg);
	case KVM_SET_GSI_ROUTING:
		return fake_routing(arg);
	case KVM_SIGNAL_MSI:
		fake.msis++;
		fake.last_msi = ((struct kvm_msi *)arg)->data;
		return 1;
	default:
		return fake_refuse(ENOTTY);
	}
}

static inline int fake_cpuid(struct kvm_cpuid2 *list, bool hv)
{
	static const struct kvm_cpuid_entry2 leaves[] = {
		{ .function = 0, .eax = 6 },
		{ .function = 1 },
		{ .function = 6 },
		{ .function = 0x40000000, .ebx = 0x4B4D564B },
		{ .function = 0x40000001, .eax = 1 },
		{ .function = 0x80000007, .edx = 1u << 8 },
	};

	if (hv && !fake.hyperv)
		return fake_refuse(ENOTTY);
	if (list->nent < FAKE_LEAVES)
		return fake_refuse(E2BIG);
	memcpy(list->entries, leaves, sizeof(leaves));
	list->nent = FAKE_LEAVES;
	if (hv) {
		list->entries[0] =
			(struct kvm_cpuid_entry2){ .function = 0x40000003, .eax = 1u << 15 };
		list->nent = 1;
	}
	return 0;
}

static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;

static inline int fake_answer(int fd, unsigned long request, void *arg)
{
	fake.ioctls++;
	if (request == fake.fail_request && fake.fail_in && --fake.fail_in == 0)
		return fake_refuse(fake.fail_errno ? fake.fail_errno : EIO);
	if (fd == FAKE_VM_FD)
		return fake_vm_ioctl(request, arg);
	if (fd >= FAKE_VCPU_FD && fd < FAKE_VCPU_FD + (int)FAKE_VPS)
		return fake_vcpu_ioctl(&fake.vcpu[fd - FAKE_VCPU_FD], request, arg);
	if (fd != FAKE_KVM_FD)
		return fake_refuse(EBADF);
	switch (request) {
	case KVM_GET_API_VERSION:
		return KVM_API_VERSION;
	case KVM_CHECK_EXTENSION:
		return fake_extension((uint32_t)(uintptr_t)arg);
	case KVM_GET_SUPPORTED_CPUID:
		return fake_cpuid(arg, false);
	case KVM_GET_SUPPORTED_HV_CPUID:
		return fake_cpuid(arg, true);
	default:
		return fake_refuse(ENOTTY);
	}
}

static inline int fake_ioctl(int fd, unsigned long request, void *arg)
{
	int got;

	if (request == KVM_GET_CLOCK && fake.on_clock) { /* it may ask again itself */
		fake.on_clock(arg);
		return 0;
	}
	pthread_mutex_lock(&fake_lock);
	got = fake_answer(fd, request, arg);
	pthread_mutex_unlock(&fake_lock);
	return got;
}

static const struct vmbus__kvm_sys fake_sys = { .ioctl = fake_ioctl };

static inline void fake_begin(bool hyperv)
{
	memset(&fake, 0, sizeof(fake));
	fake.hyperv = hyperv;
	fake.clock_ns = 1000000;
	fake.tsc = 1u << 30;
	vmbus__kvm_sys = &fake_sys;
}

/* ---- the processor ---- */

static inline struct kvm_run *fake_run(uint32_t vp)
{
	return &fake.vcpu[vp].run;
}

static inline bool fake_is_user(struct vmbus_kvm *kvm)
{
	return vmbus_kvm_way(kvm) == VMBUS_KVM_USER;
}

static inline void fake_exit(struct vmbus_kvm *kvm, uint32_t vp)
{
	must_eq(vmbus_kvm_handle_exit(kvm, vp), 1);
}

/* End of interrupt, or EOM: KVM tells by the resample descriptor of the last GSI of the SINT. */
static inline void fake_eoi(uint32_t vp)
{
	const uint64_t one = 1;
	uint32_t n;
	int fd = 0;

	for (n = 0; n < fake.route_count; n++)
		if (fake.routes[n].type == KVM_IRQ_ROUTING_HV_SINT &&
		    fake.routes[n].u.hv_sint.vcpu == vp)
			fd = fake.resample_fd[fake.routes[n].gsi];
	if (fd)
		(void)!write(fd, &one, sizeof(one));
}

/* The guest writes a register.  Returns whether it got #GP. */
static inline bool fake_wrmsr(struct vmbus_kvm *kvm, uint32_t vp, uint32_t msr, uint64_t value)
{
	struct fake_vcpu *vcpu = &fake.vcpu[vp];
	struct kvm_run *run = fake_run(vp);
	uint64_t *at;

	if (fake_is_user(kvm) || (msr >= 0x40000100 && msr <= 0x40000105) || msr == 0x40000003) {
		run->exit_reason = KVM_EXIT_X86_WRMSR;
		run->msr.reason = KVM_MSR_EXIT_REASON_FILTER;
		run->msr.index = msr;
		run->msr.data = value;
		run->msr.error = 0;
		fake_exit(kvm, vp);
		return run->msr.error != 0;
	}
	if (msr == 0x40000084) {
		fake_eoi(vp);
		return false;
	}
	at = fake_register(vcpu, msr);
	if (!at)
		return true;
	*at = value;
	if (msr == 0x40000080 || msr == 0x40000082 || msr == 0x40000083) {
		run->exit_reason = KVM_EXIT_HYPERV;
		run->hyperv.type = KVM_EXIT_HYPERV_SYNIC;
		run->hyperv.u.synic.msr = msr;
		run->hyperv.u.synic.control = vcpu->synic[0];
		run->hyperv.u.synic.evt_page = vcpu->synic[2];
		run->hyperv.u.synic.msg_page = vcpu->synic[3];
		fake_exit(kvm, vp);
	}
	return false;
}

/* The guest reads a register.  Returns whether it got #GP. */
static inline bool fake_rdmsr(struct vmbus_kvm *kvm, uint32_t vp, uint32_t msr, uint64_t *value)
{
	struct kvm_run *run = fake_run(vp);
	const uint64_t *at;

	if (fake_is_user(kvm) || (msr >= 0x40000100 && msr <= 0x40000105) || msr == 0x40000003) {
		run->exit_reason = KVM_EXIT_X86_RDMSR;
		run->msr.index = msr;
		run->msr.data = 0;
		run->msr.error = 0;
		fake_exit(kvm, vp);
		*value = run->msr.data;
		return run->msr.error != 0;
	}
	at = fake_register(&fake.vcpu[vp], msr);
	if (at)
		*value = *at;
	return !at;
}

/* The registers of a vCPU as KVM shows them at an exit. */
static inline struct kvm_regs *fake_regs(uint32_t vp)
{
	return fake.no_sync_regs ? &fake.vcpu[vp].regs : &fake_run(vp)->s.regs.regs;
}

static inline void fake_out(struct vmbus_kvm *kvm, uint32_t vp, uint16_t port, uint8_t size,
			    uint32_t value)
{
	struct kvm_run *run = fake_run(vp);

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = KVM_EXIT_IO_OUT;
	run->io.size = size;
	run->io.port = port;
	run->io.count = 1;
	run->io.data_offset = 4096;
	memcpy(fake.vcpu[vp].bytes + 4096, &value, sizeof(value));
	fake_exit(kvm, vp);
}

/* What KVM sends to user space of a call. */
static inline uint64_t fake_kernel_call(struct vmbus_kvm *kvm, uint32_t vp, uint64_t control,
					uint64_t in, uint64_t out)
{
	struct kvm_run *run = fake_run(vp);

	run->exit_reason = KVM_EXIT_HYPERV;
	run->hyperv.type = KVM_EXIT_HYPERV_HCALL;
	run->hyperv.u.hcall.input = control;
	run->hyperv.u.hcall.params[0] = in;
	run->hyperv.u.hcall.params[1] = out;
	fake_exit(kvm, vp);
	return run->hyperv.u.hcall.result;
}

/* The guest calls its hypercall page: what its code, and KVM, make of it. */
static inline uint64_t fake_call(struct vmbus_kvm *kvm, uint32_t vp, uint64_t control, uint64_t in,
				 uint64_t out)
{
	const uint64_t one = 1;
	struct kvm_regs *regs = fake_regs(vp);
	const bool signal = control == 0x1005D && in > 0x2000 && in < 0x2800;
	int fd = 0;

	if (signal)
		fd = fake_is_user(kvm) ? fake.port_fd[0xA000 + (in - 0x2000)] : fake.conn_fd[in];
	if (fd) {
		must(write(fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
		return 0;
	}
	if (!fake_is_user(kvm))
		return fake_kernel_call(kvm, vp, control, in, out);
	if (signal) {
		regs->rcx = 0;
		fake_out(kvm, vp, (uint16_t)(0xA000 + (in - 0x2000)), 4, (uint32_t)in);
		return regs->rcx;
	}
	regs->rcx = control;
	regs->rax = in;
	regs->r8 = out;
	fake_out(kvm, vp, 0xA000, 1, (uint32_t)in & 0xFF);
	return regs->rax;
}

static inline uint64_t fake_drain(int fd)
{
	uint64_t count = 0;

	if (!fd || read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return 0;
	return count;
}

/* Interrupts since the last look. */
static inline uint64_t fake_interrupts(uint32_t vp)
{
	return fake_drain(fake.event_fd[32 + 2 * vp]) + fake_drain(fake.event_fd[33 + 2 * vp]) +
	       fake_drain(fake.wake_fd[32 + 2 * vp]);
}

#endif
