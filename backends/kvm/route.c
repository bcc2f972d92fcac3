/* SPDX-License-Identifier: MIT */
/*
 * Interrupts: descriptors that KVM listens to, and the table that leads their GSIs to a vector.
 *
 * Each virtual processor has two GSIs, the even one for events and the odd one for messages.  In the
 * kernel's way both lead to SINT 2, and the kernel notes for the end of interrupt the last of the
 * table: the one for messages, whose descriptor has a second one that tells when to try again.
 * In the user-space way the even one leads to the vector that the guest has written into SINT 2.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "kvm/partition.h"

#define PIC_PINS 8u
#define IOAPIC_PINS 24u
#define OTHERS (2u * PIC_PINS + IOAPIC_PINS)

static uint32_t event_gsi(const struct vmbus_kvm *kvm, uint32_t vp)
{
	return kvm->opts.gsi + 2u * vp;
}

static uint32_t message_gsi(const struct vmbus_kvm *kvm, uint32_t vp)
{
	return event_gsi(kvm, vp) + 1u;
}

static struct kvm_irq_routing_entry *put(struct kvm_irq_routing *table, uint32_t gsi, uint32_t type)
{
	struct kvm_irq_routing_entry *entry = &table->entries[table->nr++];

	memset(entry, 0, sizeof(*entry));
	entry->gsi = gsi;
	entry->type = type;
	return entry;
}

static void put_pin(struct kvm_irq_routing *table, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	struct kvm_irq_routing_entry *entry = put(table, gsi, KVM_IRQ_ROUTING_IRQCHIP);

	entry->u.irqchip.irqchip = chip;
	entry->u.irqchip.pin = pin;
}

/* What the kernel has for its own PIC and I/O APIC when they are made. */
static void put_irqchip(struct kvm_irq_routing *table)
{
	uint32_t gsi;

	for (gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		put_pin(table, gsi, KVM_IRQCHIP_IOAPIC, gsi);
		if (gsi < PIC_PINS)
			put_pin(table, gsi, KVM_IRQCHIP_PIC_MASTER, gsi);
		else if (gsi < 2u * PIC_PINS)
			put_pin(table, gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - PIC_PINS);
	}
}

static void put_sint(struct kvm_irq_routing *table, uint32_t gsi, uint32_t vp)
{
	struct kvm_irq_routing_entry *entry = put(table, gsi, KVM_IRQ_ROUTING_HV_SINT);

	entry->u.hv_sint.vcpu = vp;
	entry->u.hv_sint.sint = VMBUS__KVM_SINT;
}

static void put_msi(struct kvm_irq_routing *table, uint32_t gsi, const struct vmbus__kvm_vp *vp)
{
	struct kvm_irq_routing_entry *entry = put(table, gsi, KVM_IRQ_ROUTING_MSI);

	entry->u.msi.address_lo = MSI_ADDRESS | vp->apic_id << MSI_ID_SHIFT;
	entry->u.msi.data = vp->vector;
}

static void put_ours(struct vmbus_kvm *kvm)
{
	uint32_t n;

	for (n = 0; n < kvm->opts.vps_max; n++) {
		const struct vmbus__kvm_vp *vp = &kvm->vp[n];

		if (!vmbus__ld32_relaxed(&vp->here)) /* HERE.look */
			continue;
		if (kvm->way == VMBUS_KVM_KERNEL) {
			put_sint(kvm->table, event_gsi(kvm, n), n);
			put_sint(kvm->table, message_gsi(kvm, n), n);
		} else if (vp->vector) {
			put_msi(kvm->table, event_gsi(kvm, n), vp);
		}
	}
}

int vmbus__kvm_routes_init(struct vmbus_kvm *kvm)
{
	const size_t room = OTHERS + 2u * (size_t)kvm->opts.vps_max;

	kvm->table = calloc(1, sizeof(*kvm->table) + room * sizeof(struct kvm_irq_routing_entry));
	if (!kvm->table)
		return VMBUS_E_NOMEM;
	/* An embedder with a table of its own hears of ours when there is one. */
	return kvm->opts.routes ? 0 : vmbus__kvm_routes(kvm);
}

/* Put our routes into the VM's table. */
int vmbus__kvm_routes(struct vmbus_kvm *kvm)
{
	kvm->table->nr = 0;
	if (kvm->opts.routes) {
		put_ours(kvm);
		return kvm->opts.routes(kvm->opts.ctx, kvm->table->entries, kvm->table->nr)
			       ? VMBUS_E_SYSTEM
			       : 0;
	}
	put_irqchip(kvm->table);
	put_ours(kvm);
	return vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_SET_GSI_ROUTING, kvm->table)
		       ? VMBUS_E_SYSTEM
		       : 0;
}

int vmbus__kvm_route_sint(struct vmbus_kvm *kvm, uint32_t vp, uint32_t msr, uint64_t value)
{
	const uint32_t vector = (uint8_t)value, before = kvm->vp[vp].vector;
	int err;

	if (kvm->way == VMBUS_KVM_KERNEL || msr != MSR_SINT0 + VMBUS__KVM_SINT ||
	    (value & SINT_MASKED) || vector < SINT_VECTOR_MIN || vector == before)
		return 0;
	kvm->vp[vp].vector = vector;
	err = vmbus__kvm_routes(kvm);
	if (err)
		kvm->vp[vp].vector = before;
	return err;
}

static int listen_to(struct vmbus_kvm *kvm, uint32_t gsi, int fd, int resample_fd)
{
	struct kvm_irqfd irqfd = { .fd = (uint32_t)fd, .gsi = gsi };

	if (resample_fd >= 0) {
		irqfd.flags = KVM_IRQFD_FLAG_RESAMPLE;
		irqfd.resamplefd = (uint32_t)resample_fd;
	}
	return vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_IRQFD, &irqfd) ? VMBUS_E_SYSTEM : 0;
}

static void stop_listening(struct vmbus_kvm *kvm, uint32_t gsi, int *fd)
{
	struct kvm_irqfd irqfd = { .fd = (uint32_t)*fd,
				   .gsi = gsi,
				   .flags = KVM_IRQFD_FLAG_DEASSIGN };

	if (*fd >= 0)
		(void)vmbus__kvm_ioctl(kvm, kvm->opts.vm_fd, KVM_IRQFD, &irqfd);
	vmbus__kvm_close(fd);
}

static int make_fd(int *fd)
{
	*fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return *fd < 0 ? VMBUS_E_SYSTEM : 0;
}

int vmbus__kvm_try_resample(struct vmbus_kvm *kvm)
{
	int fd = -1, resample_fd = -1;
	int err = make_fd(&fd);

	if (!err)
		err = make_fd(&resample_fd);
	/* Only what KVM says is about its I/O APIC. */
	if (!err && listen_to(kvm, message_gsi(kvm, 0), fd, resample_fd))
		err = errno == ENOMEM ? VMBUS_E_SYSTEM : VMBUS_E_NOTSUP;
	if (!err)
		stop_listening(kvm, message_gsi(kvm, 0), &fd);
	vmbus__kvm_close(&fd);
	vmbus__kvm_close(&resample_fd);
	return err;
}

static int connect_messages(struct vmbus_kvm *kvm, uint32_t n)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[n];
	struct epoll_event none = { .data.u64 = n }; /* until a message waits */

	if (kvm->way == VMBUS_KVM_USER)
		return 0;
	if (make_fd(&vp->message_fd) || make_fd(&vp->resample_fd) ||
	    epoll_ctl(kvm->epoll_fd, EPOLL_CTL_ADD, vp->resample_fd, &none))
		return VMBUS_E_SYSTEM;
	return listen_to(kvm, message_gsi(kvm, n), vp->message_fd, vp->resample_fd);
}

/* The descriptors of a virtual processor; they stay until the partition ends. */
int vmbus__kvm_connect(struct vmbus_kvm *kvm, uint32_t n)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[n];
	int err;

	if (vp->event_fd >= 0)
		return 0;
	err = make_fd(&vp->event_fd);
	if (!err)
		err = listen_to(kvm, event_gsi(kvm, n), vp->event_fd, -1);
	if (!err)
		err = connect_messages(kvm, n);
	if (err)
		vmbus__kvm_disconnect(kvm, n);
	return err;
}

/*
 * A second descriptor for events, for other processes: whoever has one can read it, and where the
 * kernel does not take what is written to an irqfd, can make the next write wait.
 */
int vmbus__kvm_wake_fd(struct vmbus_kvm *kvm, uint32_t n)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[n];

	if (vp->wake_fd >= 0)
		return 0;
	if (make_fd(&vp->wake_fd))
		return VMBUS_E_SYSTEM;
	if (listen_to(kvm, event_gsi(kvm, n), vp->wake_fd, -1)) {
		vmbus__kvm_close(&vp->wake_fd);
		return VMBUS_E_SYSTEM;
	}
	return 0;
}

void vmbus__kvm_disconnect(struct vmbus_kvm *kvm, uint32_t n)
{
	struct vmbus__kvm_vp *vp = &kvm->vp[n];

	const int saved = errno;

	stop_listening(kvm, message_gsi(kvm, n), &vp->message_fd);
	stop_listening(kvm, event_gsi(kvm, n), &vp->event_fd);
	stop_listening(kvm, event_gsi(kvm, n), &vp->wake_fd);
	vmbus__kvm_close(&vp->resample_fd);
	errno = saved;
}
