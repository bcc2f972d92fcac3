/* SPDX-License-Identifier: MIT */
/*
 * Machines that cannot go on under another SynIC than the one that they were saved under; KVM and the
 * partition are made up (--wrap).
 */
#define _GNU_SOURCE
#include "vmm_test.h"

#include <stdarg.h>
#include <sys/ioctl.h>

static struct vmm vmm;
static enum vmbus_kvm_way way;
static uint32_t cpuids; /* that KVM was told */

enum vmbus_kvm_way __wrap_vmbus_kvm_way(const struct vmbus_kvm *kvm);
enum vmbus_kvm_way __wrap_vmbus_kvm_way(const struct vmbus_kvm *kvm)
{
	(void)kvm;
	return way;
}

int __wrap_vmbus_kvm_restore(struct vmbus_kvm *kvm, const void *buf, size_t bytes);
int __wrap_vmbus_kvm_restore(struct vmbus_kvm *kvm, const void *buf, size_t bytes)
{
	(void)kvm;
	(void)buf;
	(void)bytes;
	return 0;
}

int __wrap_vmbus_bus_restore(struct vmbus_bus *bus, const void *buf, size_t bytes, char *why,
			     size_t why_bytes);
int __wrap_vmbus_bus_restore(struct vmbus_bus *bus, const void *buf, size_t bytes, char *why,
			     size_t why_bytes)
{
	(void)bus;
	(void)buf;
	(void)bytes;
	(void)why;
	(void)why_bytes;
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	(void)fd;
	cpuids += request == KVM_SET_CPUID2;
	return 0;
}

static void set_up(void)
{
	memset(&vmm, 0, sizeof(vmm));
	vmm.opts.restore = "folder";
	vmm.vcpu_count = 1;
	vmm.vcpus[0] = (struct vmm_vcpu){ .vmm = &vmm, .fd = -1 };
	cpuids = 0;
}

/* A saved machine that was told these hints. */
static void add_cpuid(uint32_t hints)
{
	struct kvm_cpuid2 *const cpuid =
		vmm_saved_add(&vmm.saved, VMM_SAVED_CPUID, 0,
			      sizeof(*cpuid) + VMM_CPUID_MAX * sizeof(cpuid->entries[0]));

	ck_assert_ptr_nonnull(cpuid);
	cpuid->nent = 2;
	cpuid->entries[0].eax = 8;
	cpuid->entries[1].function = 0x40000004;
	cpuid->entries[1].eax = hints;
}

/* Its end of an interrupt would be a fault. */
START_TEST(restore_cpuid__refuses_the_apics_registers_in_user_space)
{
	static const struct {
		enum vmbus_kvm_way asked, is;
		uint32_t hints;
		const char *says;
	} cases[] = {
		{ VMBUS_KVM_AUTO, VMBUS_KVM_USER, 0x8, "a KVM with Hyper-V emulation" },
		{ VMBUS_KVM_USER, VMBUS_KVM_USER, 0x208, "leave out --synic user" },
		{ VMBUS_KVM_USER, VMBUS_KVM_USER, 0x200, NULL },
		{ VMBUS_KVM_AUTO, VMBUS_KVM_KERNEL, 0x8, NULL },
	};
	const char *says = cases[_i].says;

	set_up();
	way = cases[_i].is;
	vmm.opts.way = cases[_i].asked;
	add_cpuid(cases[_i].hints);
	listen_to_us();
	ck_assert_int_eq(vmm_restore_cpuid(&vmm.vcpus[0]), says ? -1 : 0);
	ck_said(says ? says : "");
	ck_assert_uint_eq(cpuids, says ? 0 : 1);
	vmm_saved_free(&vmm.saved);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "restore", 20);

	tcase_add_loop_test(tc, restore_cpuid__refuses_the_apics_registers_in_user_space, 0, 4);
}

VMBUS_TEST_MAIN("vmm.restore", tests)
