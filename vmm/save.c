/* SPDX-License-Identifier: MIT */
/*
 * A whole machine into two files, state and memory, while its vCPUs stand still: what is in KVM, what
 * is here, the library's registers (vmbus_kvm_save()), the bus (vmbus_bus_save()).  The files come
 * opened from the client, since the sandbox has no file system.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SAVE_NS 20000000000u /* for the devices, to finish what they do */

static int save_machine(struct vmm *vmm, struct vmm_saved *to)
{
	struct vmm_saved_machine *const m = vmm_saved_add(to, VMM_SAVED_MACHINE, 0, sizeof(*m));
	struct kvm_clock_data clock = { 0 };
	const int khz = ioctl(vmm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);

	if (!m)
		return -1;
	if (ioctl(vmm->vm_fd, KVM_GET_CLOCK, &clock))
		return vmm_errno("saving: the clock");
	m->memory_bytes = vmm->memory.bytes;
	m->cpus = vmm->vcpu_count;
	m->vcpu_bytes = sizeof(struct vmm_vcpu_state);
	m->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	m->clock_ns = clock.clock;
	m->resets = vmm->resets;
	m->no_ic = vmm->ic == NULL;
	m->disks = vmm->opts.disk_count > 0;
	m->nets = vmm->opts.net_count;
	vmm_platform_save(&vmm->platform, &m->platform);
	return 0;
}

static int save_devices(struct vmm *vmm, struct vmm_saved *to)
{
	struct vmm_saved_device *device;
	struct vmbus_chan_info info;
	uint32_t i, n = 0;

	for (i = 0; i < VMM_CHANNELS_MAX; i++) {
		if (!vmm->chans[i])
			continue;
		device = vmm_saved_add(to, VMM_SAVED_DEVICE, n++, sizeof(*device));
		if (!device)
			return -1;
		vmbus_chan_info(vmm->chans[i], &info);
		memcpy(device->instance, info.instance_id.b, sizeof(device->instance));
		device->monitor_us = vmm->monitor_us[i];
	}
	return 0;
}

static int save_chips(struct vmm *vmm, struct vmm_saved *to)
{
	struct kvm_irqchip *chip;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		chip = vmm_saved_add(to, VMM_SAVED_CHIP, i, sizeof(*chip));
		if (!chip)
			return -1;
		chip->chip_id = i;
		if (ioctl(vmm->vm_fd, KVM_GET_IRQCHIP, chip))
			return vmm_errno("saving: an interrupt controller");
	}
	return 0;
}

static int save_vcpus(struct vmm *vmm, struct vmm_saved *to)
{
	struct vmm_vcpu_state *state;
	struct kvm_msr_entry *msrs;
	struct kvm_cpuid2 *cpuid;
	uint32_t i, count;

	for (i = 0; i < vmm->vcpu_count; i++) {
		state = vmm_saved_add(to, VMM_SAVED_VCPU, i, sizeof(*state));
		if (!state || vmm_vcpu_get(&vmm->vcpus[i], state))
			return vmm_errno("saving: vCPU %u", i);
		msrs = vmm_vcpu_msrs(vmm, &vmm->vcpus[i], &count);
		if (!msrs)
			return -1;
		if (!vmm_saved_put(to, VMM_SAVED_MSRS, i, msrs, count * sizeof(*msrs))) {
			free(msrs);
			return -1;
		}
		free(msrs);
		cpuid = vmm_saved_add(to, VMM_SAVED_CPUID, i,
				      sizeof(*cpuid) + VMM_CPUID_MAX * sizeof(cpuid->entries[0]));
		if (!cpuid)
			return -1;
		cpuid->nent = VMM_CPUID_MAX;
		if (ioctl(vmm->vcpus[i].fd, KVM_GET_CPUID2, cpuid))
			return vmm_errno("saving: CPUID of vCPU %u", i);
	}
	return 0;
}

static int save_registers(struct vmm *vmm, struct vmm_saved *to)
{
	const int bytes = vmbus_kvm_save(vmm->kvm, NULL, 0);
	void *const at = bytes > 0 ? vmm_saved_add(to, VMM_SAVED_KVM, 0, (size_t)bytes) : NULL;
	const int did = at ? vmbus_kvm_save(vmm->kvm, at, (size_t)bytes) : bytes;

	if (did <= 0)
		return vmm_error("saving: the partition: %s", vmbus_err_name(did));
	return 0;
}

/* A device may have to finish what it does; what it then sends is saved with the rest. */
static int save_bus(struct vmm *vmm, struct vmm_saved *to)
{
	struct pollfd p = { .fd = vmbus_kvm_fd(vmm->kvm), .events = POLLIN };
	size_t need = 0, wrote = 0;
	const uint64_t until = vmm_now_ns() + SAVE_NS;
	void *at;
	int err;

	while ((err = vmbus_bus_save(vmm->bus, NULL, 0, &need)) == VMBUS_E_AGAIN &&
	       vmm_now_ns() < until) {
		poll(&p, 1, 1);
		vmbus_kvm_dispatch(vmm->kvm, 256);
		vmm_disks_dispatch(vmm);
		vmm_nets_dispatch(vmm);
	}
	at = need && (!err || err == VMBUS_E_RANGE) ? vmm_saved_add(to, VMM_SAVED_BUS, 0, need)
						    : NULL;
	if (at)
		err = vmbus_bus_save(vmm->bus, at, need, &wrote);
	if (err == VMBUS_E_AGAIN)
		return vmm_error("saving: a device has had requests under way for 20 s");
	if (err || !at || wrote != need)
		return vmm_error("saving: the bus: %s", vmbus_err_name(err));
	return 0;
}

/* Pages that were never touched are holes here, and there. */
static int save_memory(const struct vmm_memory *mem, int fd)
{
	off_t at = 0, end;

	if (ftruncate(fd, (off_t)mem->bytes))
		return vmm_errno("saving: the memory");
	while ((uint64_t)at < mem->bytes) {
		at = mem->huge ? at : lseek(mem->fd, at, SEEK_DATA);
		if (at < 0)
			return 0; /* nothing but a hole */
		end = mem->huge ? (off_t)mem->bytes : lseek(mem->fd, at, SEEK_HOLE);
		if (end <= at)
			return vmm_errno("saving: the memory");
		if (vmm_write_all(fd, mem->base + at, (uint64_t)(end - at), (uint64_t)at))
			return vmm_errno("saving: the memory");
		at = end;
	}
	return 0;
}

static int save(struct vmm *vmm, struct vmm_saved *to, int state_fd, int memory_fd)
{
	if (save_bus(vmm, to) || save_registers(vmm, to) || save_machine(vmm, to) ||
	    save_devices(vmm, to) || save_chips(vmm, to) || save_vcpus(vmm, to) ||
	    save_memory(&vmm->memory, memory_fd))
		return -1;
	if (vmm_saved_write(to, state_fd))
		return vmm_errno("saving: the state");
	if (fsync(memory_fd) || fsync(state_fd))
		return vmm_errno("saving: onto the disk");
	return 0;
}

/* 0: it is saved, and its vCPUs do not run any more.  -1: it runs on. */
int vmm_save(struct vmm *vmm, int state_fd, int memory_fd)
{
	struct vmm_saved saved = { 0 };
	uint32_t asks;
	int err;

	vmm_vcpus_stop(vmm);
	vmm_disks_stop(vmm);
	vmm_nets_stop(vmm);
	pthread_mutex_lock(&vmm->lock);
	asks = vmm->asks & ~VMM_ASK_OUTPUT;
	pthread_mutex_unlock(&vmm->lock);
	if (asks || vmm->crashed)
		err = vmm_error("saving: the guest ends or resets itself just now");
	else
		err = save(vmm, &saved, state_fd, memory_fd);
	vmm_saved_free(&saved);
	if (err) {
		vmm_disks_go(vmm);
		vmm_nets_go(vmm);
	}
	/* Of a crash the guest still has something to say. */
	if (err && !(asks & ~VMM_ASK_CRASH))
		vmm_vcpus_go(vmm);
	return err;
}
