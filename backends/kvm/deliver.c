/* SPDX-License-Identifier: MIT */
/*
 * What the bus asks of a backend: messages and events for the guest, descriptors for its signals,
 * and the time.
 *
 * A message that finds its slot taken is tried once more after we have said that we wait, so the
 * guest's word that the slot is free either finds us waiting or is not needed.  In the kernel's way
 * that word is a descriptor which every end of interrupt makes readable: it is looked at only while
 * a message waits.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "kvm/grace.h"
#include "kvm/partition.h"

#define HEAR_AT_ONCE 32
#define SET_BACK 100000u /* 10 ms, in 100 ns: more is no correction of the kernel's */

static void ring(int fd)
{
	const uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

static void signal_msi(struct vmbus_kvm *kvm, const struct vmbus__kvm_vp *vp, uint32_t vector)
{
	struct kvm_msi msi = { .address_lo = MSI_ADDRESS | vp->apic_id << MSI_ID_SHIFT,
			       .data = vector };

	(void)vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_SIGNAL_MSI, &msi);
}

/* Interrupt a VP.  Another SINT than ours has no descriptor. */
static void interrupt(struct vmbus_kvm *kvm, struct vmbus__kvm_vp *vp, uint32_t sint, uint32_t arg,
		      bool message)
{
	vmbus__kvm_count(&kvm->stats.interrupts);
	if (sint != VMBUS__KVM_SINT)
		signal_msi(kvm, vp, arg & SINT_VECTOR);
	else
		ring(message && vp->message_fd >= 0 ? vp->message_fd : vp->event_fd);
}

void vmbus__kvm_nudge(struct vmbus_kvm *kvm, uint32_t vp)
{
	if (kvm->way == VMBUS_KVM_KERNEL || kvm->vp[vp].vector)
		interrupt(kvm, &kvm->vp[vp], VMBUS__KVM_SINT, 0, true);
}

/* From now on the end of an interrupt wakes the bus. */
static void listen_to(struct vmbus_kvm *kvm, uint32_t n)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[n];
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = n };
	uint64_t count;

	if (vp->listening || vp->resample_fd < 0)
		return;
	(void)!read(vp->resample_fd, &count, sizeof(count)); /* what it says is of the past */
	/* It is in the set since connect, so this needs no memory. */
	if (epoll_ctl(kvm->epoll_fd, EPOLL_CTL_MOD, vp->resample_fd, &event))
		return;
	vp->listening = true;
	kvm->listening++;
}

static void stop_listening(struct vmbus_kvm *kvm, uint32_t n)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[n];
	struct epoll_event none = { .data.u64 = n };

	if (!vp->listening)
		return;
	(void)epoll_ctl(kvm->epoll_fd, EPOLL_CTL_MOD, vp->resample_fd, &none);
	vp->listening = false;
	kvm->listening--;
}

void vmbus__kvm_hear(struct vmbus_kvm *kvm)
{
	struct epoll_event events[HEAR_AT_ONCE];
	int n = 0, i;

	if (kvm->listening)
		n = epoll_wait(kvm->epoll_fd, events, HEAR_AT_ONCE, 0);
	for (i = 0; i < n; i++) {
		const uint64_t vp = events[i].data.u64;

		if (vp >= kvm->opts.vps_max)
			continue; /* the bus's own */
		stop_listening(kvm, (uint32_t)vp);
		vmbus__kvm_slot_free(kvm, (uint32_t)vp);
	}
}

/*
 * WAITS: post() sets the word and then looks at slot and registers; who makes these ready, guest or
 * register write, does so and then looks at the word.  With a full fence between the two on each
 * side, a message that could be posted does not wait for ever.
 */
void vmbus__kvm_slot_free(struct vmbus_kvm *kvm, uint32_t vp)
{
	vmbus__fence_full();			      /* WAITS.free */
	if (!vmbus__ld32_relaxed(&kvm->vp[vp].waits)) /* WAITS.free */
		return;
	vmbus__st32_relaxed(&kvm->vp[vp].waits, 0); /* WAITS.free */
	vmbus_bus_slot_free(kvm->bus, vp, VMBUS__KVM_SINT);
}

static int post_once(struct vmbus_kvm *kvm, uint32_t n, uint32_t sint,
		     const struct vmbus_synic_msg *msg)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[n];
	uint32_t arg;
	int did;

	if (!vmbus__ld32_acquire(&vp->here)) /* HERE.look */
		return VMBUS_E_AGAIN;
	vmbus__kvm_enter();
	did = vmbus_synic_post(&vp->synic, sint, msg, false, &arg);
	vmbus__kvm_leave(kvm);
	if (did < 0)
		return did;
	vmbus__kvm_count(&kvm->stats.messages);
	if (did & (int)VMBUS_SYNIC_INTERRUPT)
		interrupt(kvm, vp, sint, arg, true);
	return 0;
}

static int post(void *ctx, uint32_t n, uint32_t sint, uint32_t type, const void *payload,
		uint32_t bytes)
{
	struct vmbus_kvm *kvm = ctx;
	struct vmbus_synic_msg msg = { .type = type, .bytes = bytes };
	int err;

	if (n >= kvm->opts.vps_max || bytes > sizeof(msg.payload))
		return VMBUS_E_RANGE;
	if (kvm->way == VMBUS_KVM_KERNEL && sint != VMBUS__KVM_SINT)
		return VMBUS_E_NOTSUP; /* the kernel keeps the others to itself */
	memcpy(msg.payload, payload, bytes);
	err = post_once(kvm, n, sint, &msg);
	if (err != VMBUS_E_AGAIN) {
		stop_listening(kvm, n);
		return err;
	}
	vmbus__kvm_count(&kvm->stats.slots_busy);
	vmbus__st32_relaxed(&kvm->vp[n].waits, 1); /* WAITS.post */
	listen_to(kvm, n);
	vmbus__fence_full(); /* WAITS.post */
	err = post_once(kvm, n, sint, &msg);
	if (err != VMBUS_E_AGAIN) {
		vmbus__st32_relaxed(&kvm->vp[n].waits, 0); /* WAITS.post */
		stop_listening(kvm, n);
	}
	return err;
}

static int raise_event(void *ctx, uint32_t n, uint32_t sint, uint32_t flag)
{
	struct vmbus_kvm *kvm = ctx;
	struct vmbus__kvm_vp *vp;
	uint32_t arg;
	int did;

	if (n >= kvm->opts.vps_max)
		return VMBUS_E_RANGE;
	vp = &kvm->vp[n];
	if (!vmbus__ld32_acquire(&vp->here)) /* HERE.look */
		return VMBUS_E_AGAIN;
	vmbus__kvm_enter();
	did = vmbus_synic_raise(&vp->synic, sint, flag, &arg);
	vmbus__kvm_leave(kvm);
	if (did < 0)
		return did;
	if (did & (int)VMBUS_SYNIC_INTERRUPT)
		interrupt(kvm, vp, sint, arg, false);
	return 0;
}

/* A signal is a write of the connection id to its own port, or a call that the kernel knows. */
static int bind_signal(struct vmbus_kvm *kvm, uint32_t conn_id, int fd, bool on)
{
	struct kvm_hyperv_eventfd call = { .conn_id = conn_id,
					   .fd = fd,
					   .flags = on ? 0 : KVM_HYPERV_EVENTFD_DEASSIGN };
	struct kvm_ioeventfd port = { .datamatch = conn_id,
				      .len = sizeof(uint32_t),
				      .fd = fd,
				      .flags = KVM_IOEVENTFD_FLAG_PIO |
					       KVM_IOEVENTFD_FLAG_DATAMATCH |
					       (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN) };

	if (kvm->way == VMBUS_KVM_KERNEL)
		return vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_HYPERV_EVENTFD, &call);
	port.addr = kvm->opts.port + (uint64_t)(conn_id - VMBUS__KVM_CONN_BASE);
	return vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_IOEVENTFD, &port);
}

/* Which port a connection id has; 0: none. */
static uint32_t port_of(uint32_t conn_id)
{
	const bool ours =
		conn_id > VMBUS__KVM_CONN_BASE && conn_id - VMBUS__KVM_CONN_BASE < VMBUS_KVM_PORTS;

	return ours ? conn_id - VMBUS__KVM_CONN_BASE : 0;
}

static int bind_fd(void *ctx, uint32_t conn_id, int fd)
{
	struct vmbus_kvm *kvm = ctx;

	if (kvm->way == VMBUS_KVM_USER && !port_of(conn_id))
		return VMBUS_E_RANGE; /* the guest has named one that our page does not know */
	if (bind_signal(kvm, conn_id, fd, true))
		return VMBUS_E_SYSTEM;
	kvm->bound[port_of(conn_id)] = fd;
	vmbus__add64_relaxed(vmbus__as_a64(&kvm->stats.bound), 1); /* COUNT.add */
	return 0;
}

static int unbind_fd(void *ctx, uint32_t conn_id)
{
	struct vmbus_kvm *kvm = ctx;

	if (bind_signal(kvm, conn_id, kvm->bound[port_of(conn_id)], false))
		return VMBUS_E_SYSTEM;
	kvm->bound[port_of(conn_id)] = -1;
	vmbus__add64_relaxed(vmbus__as_a64(&kvm->stats.bound), UINT64_MAX); /* COUNT.add */
	return 0;
}

/*
 * Reference time is KVM's clock of the VM in both ways, for that is what its own register reads.
 * The kernel may set it back by a little when it finds its counters out of step, and we then wait; the
 * VMM by more, which is a new time.
 */
uint64_t vmbus__kvm_time(struct vmbus_kvm *kvm)
{
	uint64_t last = vmbus__ld64_relaxed(&kvm->clock); /* TIME.read */
	struct kvm_clock_data clock;
	uint64_t now;

	memset(&clock, 0, sizeof(clock));
	if (vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_GET_CLOCK, &clock))
		return last;
	now = clock.clock / REFERENCE_NS;
	if (VMBUS_UNLIKELY(last > now && last - now > SET_BACK)) {
		if (vmbus__cas64_acq_rel(&kvm->clock, last, now)) /* TIME.keep */
			return now;
		last = vmbus__ld64_relaxed(&kvm->clock); /* TIME.read */
	}
	/* Another thread may have told a later time meanwhile; each round that fails it is later. */
	while (now > last) {
		if (vmbus__cas64_acq_rel(&kvm->clock, last, now)) /* TIME.keep */
			return now;
		last = vmbus__ld64_relaxed(&kvm->clock); /* TIME.read */
	}
	return last;
}

/* Whether the guest wants interrupts of its SINT now; in the kernel's way KVM sees to that. */
static bool is_awake(const struct vmbus_synic *synic)
{
	uint64_t control = 0, sint = 0;

	(void)vmbus_synic_msr_read(synic, MSR_SCONTROL, &control);
	(void)vmbus_synic_msr_read(synic, MSR_SINT0 + VMBUS__KVM_SINT, &sint);
	return (control & 1u) && !(sint & (SINT_MASKED | SINT_POLLING)) &&
	       (sint & SINT_VECTOR) >= SINT_VECTOR_MIN;
}

/*
 * Another process raises flags by itself: as raise_event(), but that it does not look at the SINT.  A
 * guest that masks it may get one more interrupt, before we have told, and looks after it has
 * unmasked it, as it must.
 */
static int tell_wake(void *ctx, uint32_t n, uint32_t sint, struct vmbus_wake *wake)
{
	struct vmbus_kvm *kvm = ctx;
	uint64_t siefp;
	uint8_t byte;

	if (n >= kvm->opts.vps_max)
		return VMBUS_E_RANGE;
	if (sint != VMBUS__KVM_SINT || !vmbus__ld32_acquire(&kvm->vp[n].here)) /* HERE.look */
		return VMBUS_E_NOTSUP;
	siefp = vmbus_synic_siefp(&kvm->vp[n].synic);
	if (siefp == UINT64_MAX || !is_awake(&kvm->vp[n].synic) ||
	    vmbus_bus_mem_read(kvm->bus, (vmbus_gpa_t){ siefp }, &byte, 1) ||
	    vmbus__kvm_wake_fd(kvm, n))
		return VMBUS_E_NOTSUP;
	wake->gpa = siefp + sint * (uint64_t)VMBUS__KVM_FLAG_BYTES;
	wake->fd = kvm->vp[n].wake_fd;
	return 0;
}

static uint64_t tell_time(void *ctx)
{
	return vmbus__kvm_time(ctx);
}

static uint32_t count_vps(void *ctx)
{
	const struct vmbus_kvm *kvm = ctx;

	return vmbus__ld32_relaxed(&kvm->vps); /* HERE.look */
}

const struct vmbus_backend vmbus__kvm_backend = {
	.struct_bytes = sizeof(struct vmbus_backend),
	.post = post,
	.raise = raise_event,
	.bind = bind_fd,
	.unbind = unbind_fd,
	.time = tell_time,
	.wake = tell_wake,
	.vps = count_vps,
};
