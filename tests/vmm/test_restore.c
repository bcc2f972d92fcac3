/* SPDX-License-Identifier: MIT */
/*
 * Machines that cannot go on under another SynIC than the one that they were saved under; KVM and the
 * partition are made up (--wrap).
 */
#define _GNU_SOURCE
#include "vmm_test.h"

#include <stdarg.h>
#include <sys/ioctl.h>

#define RIP_PAGE UINT64_C(0xFFFFFFFFC0000000)

static struct vmm vmm;
static enum vmbus_kvm_way way;
static uint32_t cpuids; /* that KVM was told */
static uint8_t memory[4 * PAGE], *rewrites;
static uint64_t rip_gpa; /* of RIP; 0: nowhere */

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
	if (rewrites)
		*rewrites ^= 1;
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
	struct kvm_translation *at;
	va_list args;

	(void)fd;
	cpuids += request == KVM_SET_CPUID2;
	if (request == KVM_TRANSLATE) {
		va_start(args, request);
		at = va_arg(args, struct kvm_translation *);
		va_end(args);
		ck_assert_uint_eq(at->linear_address, RIP_PAGE + rip_gpa % PAGE);
		at->physical_address = rip_gpa;
		at->valid = rip_gpa != 0;
	}
	return 0;
}

static void set_up(void)
{
	memset(&vmm, 0, sizeof(vmm));
	vmm.opts.restore = "folder";
	vmm.vcpu_count = 1;
	vmm.vcpus[0] = (struct vmm_vcpu){ .vmm = &vmm, .fd = -1 };
	vmm.memory.count = 2;
	vmm.memory.regions[0] = (struct vmbus_region){ .host = memory, .bytes = 2 * PAGE };
	vmm.memory.regions[1] = (struct vmbus_region){ .host = memory + 2 * PAGE,
						       .bytes = 2 * PAGE,
						       .gpa = 4 * GIB };
	cpuids = 0;
	rewrites = NULL;
	rip_gpa = 0;
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

/* All sections that vmm_restore() wants. */
static void add_machine(void)
{
	struct vmm_vcpu_state *state;
	uint32_t i;

	ck_assert_ptr_nonnull(
		vmm_saved_add(&vmm.saved, VMM_SAVED_MACHINE, 0, sizeof(struct vmm_saved_machine)));
	for (i = 0; i < 3; i++)
		ck_assert_ptr_nonnull(
			vmm_saved_add(&vmm.saved, VMM_SAVED_CHIP, i, sizeof(struct kvm_irqchip)));
	ck_assert_ptr_nonnull(vmm_saved_add(&vmm.saved, VMM_SAVED_MSRS, 0, 0));
	ck_assert_ptr_nonnull(vmm_saved_add(&vmm.saved, VMM_SAVED_KVM, 0, 8));
	ck_assert_ptr_nonnull(vmm_saved_add(&vmm.saved, VMM_SAVED_BUS, 0, 8));
	state = vmm_saved_add(&vmm.saved, VMM_SAVED_VCPU, 0, sizeof(*state));
	ck_assert_ptr_nonnull(state);
	state->sregs.cs.base = 0x1000;
	state->regs.rip = RIP_PAGE - 0x1000 + rip_gpa % PAGE;
}

/* The bytes at its RIP, or before it, are no longer what it was in the midst of. */
START_TEST(restore__refuses_a_vcpu_in_code_that_has_changed)
{
	static const struct {
		enum vmbus_kvm_way is;
		uint64_t rip_gpa;
		uint32_t changes; /* the byte of memory; 0: none */
		const char *says;
	} cases[] = {
		{ VMBUS_KVM_USER, PAGE + 3, PAGE, "with the --synic that it was saved under" },
		{ VMBUS_KVM_KERNEL, PAGE + 39, PAGE + 1, "vCPU 0 is in the midst" },
		{ VMBUS_KVM_USER, 4 * GIB + 2 * PAGE - 1, 3 * PAGE, "vCPU 0 is in the midst" },
		{ VMBUS_KVM_USER, PAGE + 3, 0, NULL },		  /* the code of before */
		{ VMBUS_KVM_USER, PAGE + 3, 3 * PAGE, NULL },	  /* elsewhere */
		{ VMBUS_KVM_USER, PAGE, PAGE, NULL },		  /* it has yet to begin */
		{ VMBUS_KVM_USER, 0, PAGE, NULL },		  /* no page that is there */
		{ VMBUS_KVM_USER, 2 * PAGE + 3, 2 * PAGE, NULL }, /* no memory */
	};
	const char *const says = cases[_i].says;

	set_up();
	way = cases[_i].is;
	rip_gpa = cases[_i].rip_gpa;
	rewrites = cases[_i].changes ? &memory[cases[_i].changes] : NULL;
	vmm_platform_init(&vmm.platform);
	add_machine();
	listen_to_us();
	ck_assert_int_eq(vmm_restore(&vmm), says ? -1 : 0);
	ck_said(says ? says : "");
	vmm_saved_free(&vmm.saved);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "restore", 20);

	tcase_add_loop_test(tc, restore_cpuid__refuses_the_apics_registers_in_user_space, 0, 4);
	tcase_add_loop_test(tc, restore__refuses_a_vcpu_in_code_that_has_changed, 0, 8);
}

VMBUS_TEST_MAIN("vmm.restore", tests)
