/* SPDX-License-Identifier: MIT */
/* The rate of the guest's counter, as the bus is told of it; KVM and the bus are made up (--wrap). */
#define _GNU_SOURCE
#include "vmm_test.h"

#include "vmm.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define CPUS 3u
#define HOST_KHZ 2000000u

static struct vmm vmm;
static int vcpu_fd[CPUS];
static uint32_t khz[CPUS], vcpus, sets;
static bool fixed; /* this KVM has one rate */
static uint64_t bus_hz;
static bool bus_made;

static int any_file(void)
{
	const int fd = memfd_create("kvm", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 4096), 0);
	return fd;
}

int __real_open(const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	if (strcmp(path, "/dev/kvm") == 0)
		return any_file();
	if (flags & O_CREAT) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return __real_open(path, flags, mode);
}

static int rate(int fd, bool set, unsigned long value)
{
	uint32_t i;

	for (i = 0; i < CPUS && vcpu_fd[i] != fd; i++)
		;
	ck_assert_uint_lt(i, CPUS);
	if (!set)
		return (int)khz[i];
	if (fixed) {
		errno = EINVAL;
		return -1;
	}
	khz[i] = (uint32_t)value;
	sets++;
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	unsigned long value;
	va_list args;

	va_start(args, request);
	value = va_arg(args, unsigned long);
	va_end(args);
	switch (request) {
	case KVM_GET_API_VERSION:
		return 12;
	case KVM_CREATE_VM:
		return any_file();
	case KVM_GET_VCPU_MMAP_SIZE:
		return 4096;
	case KVM_CREATE_VCPU:
		ck_assert_uint_lt(vcpus, CPUS);
		return vcpu_fd[vcpus++] = any_file();
	case KVM_GET_TSC_KHZ:
	case KVM_SET_TSC_KHZ:
		return rate(fd, request == KVM_SET_TSC_KHZ, value);
	default:
		return 0;
	}
}

int __wrap_vmbus_kvm_create(const struct vmbus_kvm_opts *opts, struct vmbus_kvm **out);
int __wrap_vmbus_kvm_create(const struct vmbus_kvm_opts *opts, struct vmbus_kvm **out)
{
	(void)out;
	bus_made = true;
	bus_hz = opts->tsc_hz;
	return VMBUS_E_NOTSUP; /* no further */
}

/* Of a machine that was saved where counters have this rate; 0: of a new one. */
static void create(uint32_t saved_khz)
{
	struct vmm_saved_machine *m;
	uint32_t i;

	memset(&vmm, 0, sizeof(vmm));
	vmm.vm_fd = vmm.kvm_fd = -1;
	vmm.opts.cpus = CPUS;
	vcpus = sets = 0;
	bus_made = false;
	for (i = 0; i < CPUS; i++)
		khz[i] = HOST_KHZ;
	if (saved_khz) {
		vmm.opts.restore = "folder";
		m = vmm_saved_add(&vmm.saved, VMM_SAVED_MACHINE, 0, sizeof(*m));
		ck_assert_ptr_nonnull(m);
		m->tsc_khz = saved_khz;
	}
	listen_to_us();
	ck_assert_int_eq(vmm_partition_create(&vmm), -1);
}

static void destroy(void)
{
	vmm_partition_destroy(&vmm);
	vmm_saved_free(&vmm.saved);
}

/* The reference TSC page goes by it, and the register with the rate. */
START_TEST(partition_create__takes_the_rate_that_was_saved)
{
	static const uint32_t saved[] = { 0, HOST_KHZ, 3000000, 1999999 };
	const uint32_t want = saved[_i] ? saved[_i] : HOST_KHZ;
	uint32_t i;

	create(saved[_i]);
	ck_said("this KVM cannot go");
	ck_assert(bus_made);
	ck_assert_uint_eq(bus_hz, want * UINT64_C(1000));
	for (i = 0; i < CPUS; i++)
		ck_assert_uint_eq(khz[i], want);
	ck_assert_uint_eq(sets, want == HOST_KHZ ? 0 : CPUS);
	destroy();
}
END_TEST

START_TEST(partition_create__refuses_a_rate_that_this_kvm_cannot)
{
	fixed = true;
	create(3000000);
	ck_said("its processors count 3000000 kHz, these 2000000");
	ck_assert(!bus_made);
	destroy();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "rate", 20);

	tcase_add_loop_test(tc, partition_create__takes_the_rate_that_was_saved, 0, 4);
	tcase_add_test(tc, partition_create__refuses_a_rate_that_this_kvm_cannot);
}

VMBUS_TEST_MAIN("vmm.rate", tests)
