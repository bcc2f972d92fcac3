/* SPDX-License-Identifier: MIT */
/*
 * The virtual machine and its bus: what docs/embedding.md describes, in the order in which KVM wants
 * it.
 */
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define IDENTITY_MAP UINT64_C(0xFFFBC000)
#define TSS 0xFFFBD000u

static int open_kvm(struct vmm *vmm)
{
	int version;

	vmm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vmm->kvm_fd < 0 && errno == ENOENT)
		return vmm_error("/dev/kvm is missing: load the module kvm_intel or kvm_amd, and "
				 "switch virtualization on in the firmware, or in the machine "
				 "around this one");
	if (vmm->kvm_fd < 0 && (errno == EACCES || errno == EPERM))
		return vmm_error("/dev/kvm: not allowed: join the group kvm (as root: adduser USER "
				 "kvm; then log in anew)");
	if (vmm->kvm_fd < 0)
		return vmm_errno("/dev/kvm");
	version = ioctl(vmm->kvm_fd, KVM_GET_API_VERSION, 0);
	if (version != 12)
		return vmm_error("/dev/kvm speaks version %d of its interface, not 12", version);
	return 0;
}

static int memory_slots(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < vmm->memory.count; i++) {
		const struct vmbus_region *const r = &vmm->memory.regions[i];
		const struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = r->gpa,
			.memory_size = r->bytes,
			.userspace_addr = (uint64_t)(uintptr_t)r->host,
		};

		if (ioctl(vmm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot))
			return vmm_errno("giving the guest %llu MiB",
					 (unsigned long long)(r->bytes / MIB));
	}
	return 0;
}

static int machine(struct vmm *vmm)
{
	uint64_t identity = IDENTITY_MAP;

	vmm->vm_fd = ioctl(vmm->kvm_fd, KVM_CREATE_VM, 0);
	if (vmm->vm_fd < 0)
		return vmm_errno("KVM makes no virtual machine; does something else use the "
				 "processor's virtualization?");
	fcntl(vmm->vm_fd, F_SETFD, FD_CLOEXEC);
	if (ioctl(vmm->vm_fd, KVM_SET_TSS_ADDR, TSS) ||
	    ioctl(vmm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) ||
	    ioctl(vmm->vm_fd, KVM_CREATE_IRQCHIP, 0))
		return vmm_errno("making the interrupt controllers");
	return memory_slots(vmm);
}

static int vcpu(struct vmm *vmm, uint32_t index)
{
	struct vmm_vcpu *const vcpu = &vmm->vcpus[index];

	vcpu->vmm = vmm;
	vcpu->index = index;
	vcpu->stats_fd = -1;
	vcpu->fd = ioctl(vmm->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0)
		return vmm_errno("vCPU %u of %u cannot be made; try fewer --cpus, or raise "
				 "ulimit -n",
				 index, vmm->opts.cpus);
	fcntl(vcpu->fd, F_SETFD, FD_CLOEXEC);
	vmm->vcpu_count++;
	vcpu->run = mmap(NULL, vmm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		return vmm_errno("vCPU %u: its shared page", index);
	}
	return 0;
}

static int vcpus(struct vmm *vmm)
{
	const int most = ioctl(vmm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	const int run_bytes = ioctl(vmm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	uint32_t i;

	if (most > 0 && vmm->opts.cpus > (uint32_t)most)
		return vmm_error("--cpus %u: this KVM has %d at most", vmm->opts.cpus, most);
	if (run_bytes <= 0)
		return vmm_errno("the size of a vCPU's shared page");
	vmm->run_bytes = (uint32_t)run_bytes;
	for (i = 0; i < vmm->opts.cpus; i++)
		if (vcpu(vmm, i))
			return -1;
	return 0;
}

static void bus_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)ctx;
	if (level == VMBUS_LOG_ERROR)
		vmm_warn("bus: %s", line);
	else
		vmm_tell("bus: %s", line);
}

/* On the vCPU's thread; the main one prints it. */
static void crashed(void *ctx, const struct vmbus_kvm_crash *crash)
{
	struct vmm *const vmm = ctx;
	const uint64_t *const p = crash->params;
	size_t bytes = crash->text_bytes;

	pthread_mutex_lock(&vmm->lock);
	if (bytes && crash->text) {
		bytes = bytes < sizeof(vmm->crash) ? bytes : sizeof(vmm->crash) - 1;
		/* The end is where the reason is. */
		memcpy(vmm->crash, crash->text + (crash->text_bytes - bytes), bytes);
		vmm->crash[bytes] = 0;
	} else if (!vmm->crash[0]) {
		(void)snprintf(vmm->crash, sizeof(vmm->crash),
			       "(no text; parameters %llx %llx %llx %llx %llx, vCPU %u)",
			       (unsigned long long)p[0], (unsigned long long)p[1],
			       (unsigned long long)p[2], (unsigned long long)p[3],
			       (unsigned long long)p[4], crash->vp);
	}
	pthread_mutex_unlock(&vmm->lock);
	vmm_ask(vmm, VMM_ASK_CRASH);
}

/* Whether this KVM leaves the APIC to software; then its Hyper-V registers cost fewer exits. */
static bool apic_in_software(void)
{
	static const char *const paths[] = { "/sys/module/kvm_intel/parameters/enable_apicv",
					     "/sys/module/kvm_amd/parameters/avic" };
	char word = 0;
	uint32_t i;

	for (i = 0; i < sizeof(paths) / sizeof(paths[0]) && !word; i++) {
		const int fd = open(paths[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			continue;
		if (read(fd, &word, 1) != 1)
			word = 0;
		close(fd);
	}
	return word == 'N' || word == '0';
}

static int bus(struct vmm *vmm)
{
	struct vmbus_region *regions[2] = { &vmm->memory.regions[0], &vmm->memory.regions[1] };
	struct vmbus_kvm_opts opts = { .struct_bytes = sizeof(opts),
				       .kvm_fd = vmm->kvm_fd,
				       .vm_fd = vmm->vm_fd,
				       .way = vmm->opts.way,
				       .vps_max = vmm->opts.cpus,
				       .crashed = crashed,
				       .reset = vmm_vcpu_reset_register,
				       .ctx = vmm };
	/* Of a vCPU, since a VM knows it only where it can be changed. */
	const int khz = ioctl(vmm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
	int err;

	opts.tsc_hz = khz > 0 ? (uint64_t)khz * 1000u : 0;
	opts.apic_msrs = apic_in_software();
	opts.bus.struct_bytes = sizeof(opts.bus);
	opts.bus.name = "guest";
	opts.bus.regions = regions;
	opts.bus.region_count = vmm->memory.count;
	opts.bus.log = bus_log;
	opts.bus.removed = vmm_devices_removed;
	opts.bus.removed_ctx = vmm;
	opts.bus.offered = vmm_disks_offered;
	opts.bus.events_ctx = vmm;
	if (vmm_record_open(vmm, &opts.bus))
		return -1;
	err = vmbus_kvm_create(&opts, &vmm->kvm);
	if (err == VMBUS_E_NOTSUP)
		return vmm_error("this KVM cannot go %s way%s",
				 vmm->opts.way == VMBUS_KVM_AUTO     ? "either"
				 : vmm->opts.way == VMBUS_KVM_KERNEL ? "the kernel's"
								     : "the user-space",
				 vmm->opts.way == VMBUS_KVM_KERNEL
					 ? ": it was built without Hyper-V emulation; use "
					   "--synic user"
					 : "; vmbusctl check tells what it lacks");
	if (err == VMBUS_E_SYSTEM)
		return vmm_errno("making the bus");
	if (err)
		return vmm_error("making the bus: %s", vmbus_err_name(err));
	vmm->bus = vmbus_kvm_bus(vmm->kvm);
	return 0;
}

static int set_cpuid(const struct vmm_vcpu *vcpu, const struct kvm_cpuid_entry2 *entries,
		     uint32_t count)
{
	static struct {
		uint32_t count, pad; /* as struct kvm_cpuid2 */
		struct kvm_cpuid_entry2 entries[VMM_CPUID_MAX];
	} mine;

	memcpy(mine.entries, entries, count * sizeof(*entries));
	mine.count = vmm_cpuid_for(mine.entries, count, vcpu->index, vcpu->vmm->opts.cpus);
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, &mine))
		return vmm_errno("vCPU %u: its CPUID", vcpu->index);
	return 0;
}

static int add_vcpus(struct vmm *vmm)
{
	uint32_t i;
	int err;

	for (i = 0; i < vmm->vcpu_count; i++) {
		err = vmbus_kvm_add_vcpu(vmm->kvm, i, i, vmm->vcpus[i].fd, vmm->vcpus[i].run);
		if (err == VMBUS_E_SYSTEM)
			return vmm_errno("vCPU %u: its SynIC", i);
		if (err)
			return vmm_error("vCPU %u: its SynIC: %s", i, vmbus_err_name(err));
		if (vmm_cpu_boot(&vmm->vcpus[i]))
			return -1;
	}
	return 0;
}

/* Their CPUID, what they are like when new, the library's part, and ours. */
static int set_up_vcpus(struct vmm *vmm)
{
	static struct kvm_cpuid_entry2 entries[VMM_CPUID_MAX];
	uint32_t i, count;

	if (vmm_cpuid_get(vmm, entries, &count))
		return -1;
	for (i = 0; i < vmm->vcpu_count; i++)
		if (vmm->opts.restore ? vmm_restore_cpuid(&vmm->vcpus[i])
				      : set_cpuid(&vmm->vcpus[i], entries, count))
			return -1;
	return vmm_pristine_save(vmm) || add_vcpus(vmm) ? -1 : 0;
}

static void serial_irq(void *ctx, bool level)
{
	const struct vmm *const vmm = ctx;
	struct kvm_irq_level irq = { .irq = VMM_SERIAL_IRQ, .level = level };

	if (ioctl(vmm->vm_fd, KVM_IRQ_LINE, &irq))
		vmm_errno("the serial port's interrupt");
}

static void serial_wake(void *ctx)
{
	vmm_ask(ctx, VMM_ASK_OUTPUT);
}

int vmm_partition_create(struct vmm *vmm)
{
	vmm->platform.serial.irq = serial_irq;
	vmm->platform.serial.wake = serial_wake;
	vmm->platform.serial.ctx = vmm;
	if (open_kvm(vmm) || machine(vmm) || vcpus(vmm) ||
	    (vmm->opts.restore && vmm_restore_rate(vmm)))
		return -1;
	return bus(vmm) || set_up_vcpus(vmm) ? -1 : 0;
}

/* The vCPUs stand still. */
int vmm_partition_reset(struct vmm *vmm)
{
	int err;
	uint32_t i;

	vmm_serial_reset(&vmm->platform.serial);
	err = vmbus_kvm_reset(vmm->kvm);
	if (err)
		return vmm_error("resetting the bus: %s", vmbus_err_name(err));
	/* Devices close while their rings are still there; a few rounds are enough. */
	for (i = 0; i < 1000 && vmbus_kvm_dispatch(vmm->kvm, 256) > 0; i++)
		;
	if (vmm_disks_let_go(vmm) || vmm_nets_let_go(vmm) || vmm_providers_let_go(vmm))
		return -1;
	if (vmm_pristine_restore(vmm) || vmm_memory_zero(&vmm->memory) ||
	    vmm_boot_load(&vmm->image, &vmm->memory, vmm->opts.cpus, false))
		return -1;
	for (i = 0; i < vmm->vcpu_count; i++)
		if (vmm_cpu_boot(&vmm->vcpus[i]))
			return -1;
	return 0;
}

void vmm_partition_destroy(struct vmm *vmm)
{
	uint32_t i;

	vmbus_kvm_destroy(vmm->kvm);
	vmm->kvm = NULL;
	vmm->bus = NULL;
	vmm_record_close(vmm);
	vmm_pristine_free(vmm);
	for (i = 0; i < vmm->vcpu_count; i++) {
		if (vmm->vcpus[i].run)
			munmap(vmm->vcpus[i].run, vmm->run_bytes);
		close(vmm->vcpus[i].fd);
	}
	vmm->vcpu_count = 0;
	if (vmm->vm_fd >= 0)
		close(vmm->vm_fd);
	if (vmm->kvm_fd >= 0)
		close(vmm->kvm_fd);
	vmm->vm_fd = vmm->kvm_fd = -1;
}
