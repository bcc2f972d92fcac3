/* SPDX-License-Identifier: MIT */
/*
 * A virtual machine on this host's own /dev/kvm, with memory, one or two vCPUs and a few lines of
 * 64-bit code as guest.  Suites that use it are skipped where there is no /dev/kvm.
 */
#ifndef TESTS_KVM_REALVM_H
#define TESTS_KVM_REALVM_H

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmbus/kvm.h>

#include "vmbus_test.h"

#define REAL_BYTES (4u << 20)
#define REAL_TABLES 0x1000u /* three pages */
#define REAL_GDT 0x5000u
#define REAL_STACK 0x8000u
#define REAL_CODE 0x10000u
#define REAL_DATA 0x20000u /* what the test hands to its guest */

struct realvm {
	int kvm_fd, vm_fd, vcpu_fd;
	struct kvm_run *run;
	size_t run_bytes;
	uint8_t *memory;
	struct vmbus_region region;
	struct vmbus_kvm *kvm;
	uint64_t exits;
};

#define REALVM_OR_SKIP()                                                                           \
	do {                                                                                       \
		if (access("/dev/kvm", R_OK | W_OK))                                               \
			VMBUS_TEST_SKIP("/dev/kvm is not here, or not for us");                    \
		if (!start(_i))                                                                    \
			VMBUS_TEST_SKIP("this KVM has no Hyper-V emulation");                      \
	} while (0)

static inline void realvm_put64(struct realvm *vm, uint64_t gpa, uint64_t v)
{
	memcpy(vm->memory + gpa, &v, sizeof(v));
}

/* Everything below 1 GiB at its own address, and the local APIC's page with it. */
static inline void realvm_tables(struct realvm *vm)
{
	const uint64_t present = 3, large = 0x80;
	uint64_t n;

	realvm_put64(vm, REAL_TABLES, (REAL_TABLES + 0x1000u) | present);
	realvm_put64(vm, REAL_TABLES + 0x1000u, (REAL_TABLES + 0x2000u) | present);
	for (n = 0; n < 8; n++)
		realvm_put64(vm, REAL_TABLES + 0x2000u + 8 * n, n << 21 | present | large);
	realvm_put64(vm, REAL_GDT + 0x10, 0x00AF9B000000FFFFull);
	realvm_put64(vm, REAL_GDT + 0x18, 0x00CF93000000FFFFull);
}

static inline void realvm_segment(struct kvm_segment *segment, uint16_t selector, bool code)
{
	*segment = (struct kvm_segment){ .selector = selector,
					 .limit = 0xFFFFFFFF,
					 .type = code ? 11 : 3,
					 .present = 1,
					 .s = 1,
					 .g = 1,
					 .l = code,
					 .db = !code };
}

static inline void realvm_registers(struct realvm *vm)
{
	struct kvm_regs regs = { .rip = REAL_CODE, .rsp = REAL_STACK, .rflags = 2 };
	struct kvm_sregs sregs;

	ck_assert_int_eq(ioctl(vm->vcpu_fd, KVM_GET_SREGS, &sregs), 0);
	sregs.cr0 = 0x80000031;
	sregs.cr3 = REAL_TABLES;
	sregs.cr4 = 0x20;
	sregs.efer = 0x500;
	realvm_segment(&sregs.cs, 0x10, true);
	realvm_segment(&sregs.ds, 0x18, false);
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
	sregs.gdt.base = REAL_GDT;
	sregs.gdt.limit = 0x1F;
	ck_assert_int_eq(ioctl(vm->vcpu_fd, KVM_SET_SREGS, &sregs), 0);
	ck_assert_int_eq(ioctl(vm->vcpu_fd, KVM_SET_REGS, &regs), 0);
}

static inline void realvm_cpuid(struct realvm *vm)
{
	struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + 256 * sizeof(list->entries[0]));
	int count;

	ck_assert_ptr_nonnull(list);
	list->nent = 200;
	ck_assert_int_eq(ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, list), 0);
	count = vmbus_kvm_cpuid(vm->kvm, list->entries, list->nent, 256);
	ck_assert_int_gt(count, 0);
	list->nent = (uint32_t)count;
	ck_assert_int_eq(ioctl(vm->vcpu_fd, KVM_SET_CPUID2, list), 0);
	free(list);
}

/* Returns whether this KVM can go that way. */
static inline bool realvm_open(struct realvm *vm, struct vmbus_kvm_opts *opts)
{
	int err;

	struct kvm_userspace_memory_region slot = { .memory_size = REAL_BYTES };
	struct vmbus_region *const regions[1] = { &vm->region };

	memset(vm, 0, sizeof(*vm));
	vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(vm->kvm_fd, 0);
	vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	ck_assert_int_ge(vm->vm_fd, 0);
	(void)ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, 0xFFFBD000);
	ck_assert_int_eq(ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, 0), 0);
	vm->memory =
		mmap(NULL, REAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(vm->memory, MAP_FAILED);
	slot.userspace_addr = (uintptr_t)vm->memory;
	ck_assert_int_eq(ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	vm->region = (struct vmbus_region){
		.bytes = REAL_BYTES, .host = vm->memory, .fd = -1, .access = VMBUS_READ_WRITE
	};
	opts->struct_bytes = sizeof(*opts);
	opts->kvm_fd = vm->kvm_fd;
	opts->vm_fd = vm->vm_fd;
	opts->bus.struct_bytes = sizeof(opts->bus);
	opts->bus.name = "real";
	opts->bus.regions = regions;
	opts->bus.region_count = 1;
	err = vmbus_kvm_create(opts, &vm->kvm);
	if (err == VMBUS_E_NOTSUP) {
		munmap(vm->memory, REAL_BYTES);
		close(vm->vm_fd);
		close(vm->kvm_fd);
		return false;
	}
	ck_assert_int_eq(err, 0);
	vm->vcpu_fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, 0);
	ck_assert_int_ge(vm->vcpu_fd, 0);
	vm->run_bytes = (size_t)ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->run = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu_fd, 0);
	ck_assert_ptr_ne(vm->run, MAP_FAILED);
	realvm_cpuid(vm);
	ck_assert_int_eq(vmbus_kvm_add_vcpu(vm->kvm, 0, 0, vm->vcpu_fd, vm->run), 0);
	realvm_tables(vm);
	realvm_registers(vm);
	return true;
}

static inline void realvm_close(struct realvm *vm)
{
	vmbus_kvm_destroy(vm->kvm);
	munmap(vm->run, vm->run_bytes);
	close(vm->vcpu_fd);
	close(vm->vm_fd);
	close(vm->kvm_fd);
	munmap(vm->memory, REAL_BYTES);
}

/*
 * Run until the guest writes 4 bytes to port 0x10: the answer is in *value.  Exits that the library
 * handles are counted.
 */
static inline void realvm_run(struct realvm *vm, uint32_t *value)
{
	for (;;) {
		int done;

		ck_assert_msg(ioctl(vm->vcpu_fd, KVM_RUN, 0) == 0 || errno == EINTR, "KVM_RUN: %s",
			      strerror(errno));
		done = vmbus_kvm_handle_exit(vm->kvm, 0);
		ck_assert_int_ge(done, 0);
		if (done) {
			vm->exits++;
			(void)vmbus_kvm_dispatch(vm->kvm, 64);
			continue;
		}
		ck_assert_msg(vm->run->exit_reason == KVM_EXIT_IO && vm->run->io.port == 0x10,
			      "exit %u (port 0x%x, msr 0x%x)", vm->run->exit_reason,
			      vm->run->io.port, vm->run->msr.index);
		memcpy(value, (uint8_t *)vm->run + vm->run->io.data_offset, sizeof(*value));
		return;
	}
}

#endif
