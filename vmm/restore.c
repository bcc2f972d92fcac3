/* SPDX-License-Identifier: MIT */
/*
 * A machine from what save.c wrote.  The file decides how much memory and how many vCPUs there are
 * and which devices; then the same steps as for a new machine are gone, and in the place of loading
 * a kernel the state is put back.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAF_HINTS 0x40000004u /* of Hyper-V's CPUID */
#define HINT_APIC (1u << 3)

/* A section of exactly so many bytes, or an error. */
static const void *need(const struct vmm *vmm, uint32_t type, uint32_t index, size_t bytes)
{
	size_t got;
	const void *const at = vmm_saved_find(&vmm->saved, type, index, &got);

	if (at && got == bytes)
		return at;
	vmm_error("--restore %s: section %u number %u %s", vmm->opts.restore, type, index,
		  at ? "has a wrong length" : "is missing");
	return NULL;
}

/* For the file's name in a message. */
static int open_part(struct vmm *vmm, const char *name)
{
	char path[4096];
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", vmm->opts.restore, name) >= (int)sizeof(path))
		return vmm_error("--restore: the name is too long");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vmm_errno("--restore %s: its file %s", vmm->opts.restore, name);
	return fd;
}

/* What the machine is like goes to the options. */
static int take_machine(struct vmm *vmm)
{
	const struct vmm_saved_machine *const m = need(vmm, VMM_SAVED_MACHINE, 0, sizeof(*m));

	if (!m)
		return -1;
	if (m->memory_bytes < 8 * MIB || m->memory_bytes > 1024 * GIB || m->memory_bytes % PAGE ||
	    m->cpus == 0 || m->cpus > VMM_CPUS_MAX)
		return vmm_error(
			"--restore %s: a machine of %llu bytes and %u processors cannot be",
			vmm->opts.restore, (unsigned long long)m->memory_bytes, m->cpus);
	if (m->vcpu_bytes != sizeof(struct vmm_vcpu_state))
		return vmm_error("--restore %s: its processors were saved by another vmbus-vmm",
				 vmm->opts.restore);
	if (m->disks && vmm->opts.disk_count == 0)
		return vmm_error("--restore %s: the machine has disks: name them as they were, by "
				 "the same --disk options",
				 vmm->opts.restore);
	if (m->nets != vmm->opts.net_count)
		return vmm_error(
			"--restore %s: the machine has %u NICs: name them as they were, by "
			"the same --net options",
			vmm->opts.restore, m->nets);
	vmm->opts.memory_bytes = m->memory_bytes;
	vmm->opts.cpus = m->cpus;
	vmm->opts.no_ic = m->no_ic != 0;
	vmm->resets = m->resets;
	return 0;
}

int vmm_restore_open(struct vmm *vmm)
{
	const int fd = open_part(vmm, "state");
	const char *why;

	if (fd < 0)
		return -1;
	why = vmm_saved_read(&vmm->saved, fd);
	close(fd);
	if (why)
		return vmm_error("--restore %s: its file state: %s", vmm->opts.restore, why);
	return take_machine(vmm);
}

static int read_part(int fd, uint8_t *to, uint64_t bytes, uint64_t offset)
{
	uint64_t done = 0;
	ssize_t n;

	while (done < bytes) {
		const uint64_t left = bytes - done;

		n = pread(fd, to + done, left < 16 * MIB ? left : 16 * MIB, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		done += (uint64_t)n;
	}
	return 0;
}

static int read_memory(const struct vmm_memory *mem, int fd)
{
	off_t at = 0, end;

	while ((uint64_t)at < mem->bytes) {
		at = lseek(fd, at, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0 : -1; /* nothing but a hole */
		end = lseek(fd, at, SEEK_HOLE);
		if (end <= at || (uint64_t)end > mem->bytes)
			return -1;
		if (read_part(fd, mem->base + at, (uint64_t)(end - at), (uint64_t)at))
			return -1;
		at = end;
	}
	return 0;
}

int vmm_restore_memory(struct vmm *vmm)
{
	const int fd = open_part(vmm, "memory");
	struct stat st;
	int err;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != vmm->memory.bytes)
		err = vmm_error("--restore %s: its file memory is not the machine's",
				vmm->opts.restore);
	else if (read_memory(&vmm->memory, fd))
		err = vmm_errno("--restore %s: its file memory", vmm->opts.restore);
	else
		err = 0;
	close(fd);
	return err;
}

int vmm_restore_rate(struct vmm *vmm)
{
	const struct vmm_saved_machine *const m = need(vmm, VMM_SAVED_MACHINE, 0, sizeof(*m));
	uint32_t i;
	int khz;

	if (!m)
		return -1;
	for (i = 0; i < vmm->vcpu_count && m->tsc_khz; i++) {
		khz = ioctl(vmm->vcpus[i].fd, KVM_GET_TSC_KHZ, 0);
		if (khz != (int)m->tsc_khz &&
		    ioctl(vmm->vcpus[i].fd, KVM_SET_TSC_KHZ, (unsigned long)m->tsc_khz))
			return vmm_errno("--restore %s: its processors count %u kHz, these %d",
					 vmm->opts.restore, m->tsc_khz, khz);
	}
	return 0;
}

/* Whether the guest was advised to use the APIC's registers of Hyper-V, which user space has not. */
static bool wants_apic(const struct kvm_cpuid_entry2 *entries, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (entries[i].function == LEAF_HINTS)
			return (entries[i].eax & HINT_APIC) != 0;
	return false;
}

int vmm_restore_cpuid(struct vmm_vcpu *vcpu)
{
	struct {
		uint32_t count, pad; /* as struct kvm_cpuid2 */
		struct kvm_cpuid_entry2 entries[VMM_CPUID_MAX];
	} mine;
	const void *const at =
		need(vcpu->vmm, VMM_SAVED_CPUID, vcpu->index,
		     sizeof(struct kvm_cpuid2) + VMM_CPUID_MAX * sizeof(mine.entries[0]));

	if (!at)
		return -1;
	memcpy(&mine, at, sizeof(mine));
	if (mine.count > VMM_CPUID_MAX)
		return vmm_error("--restore %s: %u CPUID leaves", vcpu->vmm->opts.restore,
				 mine.count);
	if (vmbus_kvm_way(vcpu->vmm->kvm) == VMBUS_KVM_USER && wants_apic(mine.entries, mine.count))
		return vmm_error("--restore %s: its guest uses the APIC by registers that only "
				 "the kernel's SynIC has: %s",
				 vcpu->vmm->opts.restore,
				 vcpu->vmm->opts.way == VMBUS_KVM_USER
					 ? "leave out --synic user"
					 : "it needs a KVM with Hyper-V emulation");
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, &mine))
		return vmm_errno("--restore %s: CPUID of vCPU %u: this processor is another one",
				 vcpu->vmm->opts.restore, vcpu->index);
	return 0;
}

int vmm_restore_devices(struct vmm *vmm)
{
	const struct vmm_saved_device *saved;
	struct vmm_device device = { .count = 1 };
	size_t bytes;
	uint32_t i;
	int err;

	for (i = 0; i < VMM_CHANNELS_MAX; i++) {
		saved = vmm_saved_find(&vmm->saved, VMM_SAVED_DEVICE, i, &bytes);
		if (!saved)
			break;
		if (bytes != sizeof(*saved))
			return vmm_error("--restore %s: device %u", vmm->opts.restore, i);
		device.monitor_us = saved->monitor_us;
		memcpy(device.instance.b, saved->instance, sizeof(saved->instance));
		err = vmm_devices_add_echo(vmm, &device, NULL);
		if (err)
			return vmm_error("--restore %s: device %u: %s", vmm->opts.restore, i,
					 vmbus_err_name(err));
	}
	return 0;
}

static int put_clock(struct vmm *vmm, const struct vmm_saved_machine *m)
{
	struct kvm_clock_data clock = { .clock = m->clock_ns };

	return ioctl(vmm->vm_fd, KVM_SET_CLOCK, &clock) ? vmm_errno("--restore: the clock") : 0;
}

static int put_chips(struct vmm *vmm)
{
	struct kvm_irqchip chip;
	const void *at;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		at = need(vmm, VMM_SAVED_CHIP, i, sizeof(chip));
		if (!at)
			return -1;
		memcpy(&chip, at, sizeof(chip));
		chip.chip_id = i;
		if (ioctl(vmm->vm_fd, KVM_SET_IRQCHIP, &chip))
			return vmm_errno("--restore: an interrupt controller");
	}
	return 0;
}

static int put_vcpus(struct vmm *vmm)
{
	const struct vmm_vcpu_state *state;
	const struct kvm_msr_entry *msrs;
	size_t bytes;
	uint32_t i;

	for (i = 0; i < vmm->vcpu_count; i++) {
		state = need(vmm, VMM_SAVED_VCPU, i, sizeof(*state));
		msrs = vmm_saved_find(&vmm->saved, VMM_SAVED_MSRS, i, &bytes);
		if (!state || !msrs || bytes % sizeof(*msrs))
			return vmm_error("--restore %s: vCPU %u is not there, or cut off",
					 vmm->opts.restore, i);
		if (vmm_vcpu_set(&vmm->vcpus[i], state, msrs, (uint32_t)(bytes / sizeof(*msrs))))
			return -1;
	}
	return 0;
}

static int put_bus(struct vmm *vmm)
{
	size_t bytes;
	const void *at = vmm_saved_find(&vmm->saved, VMM_SAVED_KVM, 0, &bytes);
	char why[256] = "";
	int err = at ? vmbus_kvm_restore(vmm->kvm, at, bytes) : VMBUS_E_INVAL;

	if (err)
		return vmm_error("--restore %s: the partition: %s", vmm->opts.restore,
				 vmbus_err_name(err));
	at = vmm_saved_find(&vmm->saved, VMM_SAVED_BUS, 0, &bytes);
	err = at ? vmbus_bus_restore(vmm->bus, at, bytes, why, sizeof(why)) : VMBUS_E_INVAL;
	if (err)
		return vmm_error("--restore %s: the bus: %s (%s)", vmm->opts.restore, why,
				 vmbus_err_name(err));
	return 0;
}

/* The page in which a vCPU stands, and what was saved of it. */
struct place {
	const uint8_t *page; /* NULL: none of memory, or at its first byte */
	uint8_t was[PAGE];
};

static const uint8_t *page_at(const struct vmm_memory *mem, uint64_t gpa)
{
	uint32_t i;

	for (i = 0; i < mem->count; i++)
		if (gpa - mem->regions[i].gpa < mem->regions[i].bytes)
			return (const uint8_t *)mem->regions[i].host +
			       (gpa - mem->regions[i].gpa) / PAGE * PAGE;
	return NULL;
}

/* Its registers are in place. */
static void look_at_place(const struct vmm_vcpu *vcpu, struct place *place)
{
	size_t bytes;
	const struct vmm_vcpu_state *const state =
		vmm_saved_find(&vcpu->vmm->saved, VMM_SAVED_VCPU, vcpu->index, &bytes);
	struct kvm_translation at = { .linear_address = state->sregs.cs.base + state->regs.rip };

	if (at.linear_address % PAGE == 0 || ioctl(vcpu->fd, KVM_TRANSLATE, &at) || !at.valid)
		return;
	place->page = page_at(&vcpu->vmm->memory, at.physical_address);
	if (place->page)
		memcpy(place->was, place->page, PAGE);
}

/*
 * The partition has written the page of hypercalls anew, and another SynIC has other code there.  A
 * vCPU that had come to its middle would go on in the middle of something else.
 */
static int check_places(const struct vmm *vmm, const struct place *places)
{
	uint32_t i;

	for (i = 0; i < vmm->vcpu_count; i++)
		if (places[i].page && memcmp(places[i].page, places[i].was, PAGE) != 0)
			return vmm_error(
				"--restore %s: vCPU %u is in the midst of a hypercall, whose code "
				"is another here: restore it with the --synic that it was saved "
				"under; there it may be saved anew",
				vmm->opts.restore, i);
	return 0;
}

static int put_bus_around(struct vmm *vmm)
{
	struct place *const places = calloc(vmm->vcpu_count, sizeof(*places));
	uint32_t i;
	int err;

	if (!places)
		return vmm_error("--restore %s: no memory", vmm->opts.restore);
	for (i = 0; i < vmm->vcpu_count; i++)
		look_at_place(&vmm->vcpus[i], &places[i]);
	err = put_bus(vmm) || check_places(vmm, places) ? -1 : 0;
	free(places);
	return err;
}

/* The state, in the order in which KVM wants it: the bus's interrupts go to a local APIC that is there. */
int vmm_restore(struct vmm *vmm)
{
	const struct vmm_saved_machine *const m = need(vmm, VMM_SAVED_MACHINE, 0, sizeof(*m));

	if (!m || put_clock(vmm, m) || put_chips(vmm) || put_vcpus(vmm) || put_bus_around(vmm))
		return -1;
	vmm_platform_restore(&vmm->platform, &m->platform);
	vmm_saved_free(&vmm->saved);
	return 0;
}
