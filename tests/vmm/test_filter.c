/* SPDX-License-Identifier: MIT */
/* The sandbox's filter by itself: who makes another system call than its role needs is ended. */
#define _GNU_SOURCE
#include "vmm_guest.h"

#include <errno.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>

static int in_a_process(uint32_t role, void (*call)(void))
{
	const pid_t child = fork();
	int status;

	if (child == 0) {
		if (vmm_filter_prepare(NULL) || vmm_filter_load(role))
			_exit(99);
		call();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void opens(void)
{
	(void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void maps_code(void)
{
	(void)!mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void punches(void)
{
	(void)!fallocate(0, 0, 0, 1);
}

static void signals_itself(void)
{
	if (syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0))
		_exit(98);
}

static void signals_another(void)
{
	(void)!syscall(SYS_tgkill, 1, 1, 0);
}

static void does_nothing(void)
{
	(void)!write(-1, "", 1);
}

START_TEST(filter_load__ends_who_does_something_else)
{
	if (!vmm_filter_there())
		VMBUS_TEST_SKIP("built without libseccomp");
#ifdef SANITIZED
	VMBUS_TEST_SKIP("sanitizers make system calls of their own");
#endif
	ck_assert_int_eq(in_a_process(VMM_ROLE_VCPU, does_nothing), 0);
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS, does_nothing), 0);
	listen_to_us();
	ck_assert_int_eq(in_a_process(VMM_ROLE_VCPU, opens), VMM_FILTER);
	ck_said("sandbox: forbidden system call 257");
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS, opens), VMM_FILTER);
	ck_assert_int_eq(in_a_process(VMM_ROLE_VCPU, maps_code), VMM_FILTER);
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS, maps_code), VMM_FILTER);
	ck_assert_int_eq(in_a_process(VMM_ROLE_VCPU, signals_itself), 0);
	ck_assert_int_eq(in_a_process(VMM_ROLE_VCPU, signals_another), VMM_FILTER);
	ck_assert_int_eq(in_a_process(VMM_ROLE_VCPU, punches), VMM_FILTER);
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS, punches), 0);
}
END_TEST

static void connects(void)
{
	if (socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 || errno != EACCES)
		_exit(98);
}

/* The store of a disk connects to its server again when a guest opens a channel. */
START_TEST(filter_load__a_disk_that_connects_again_does_not_end_the_machine)
{
	if (!vmm_filter_there())
		VMBUS_TEST_SKIP("built without libseccomp");
#ifdef SANITIZED
	VMBUS_TEST_SKIP("sanitizers make system calls of their own");
#endif
	ck_assert_int_eq(in_a_process(VMM_ROLE_QUEUE, connects), 0);
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS | VMM_ROLE_DISKS, connects), 0);
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS | VMM_ROLE_HOST | VMM_ROLE_DISKS, connects), 0);
	listen_to_us();
	ck_assert_int_eq(in_a_process(VMM_ROLE_BUS, connects), VMM_FILTER);
	ck_said("sandbox: forbidden system call 41");
}
END_TEST

/* A thread of either role that ends the process gives the terminal back first. */
START_TEST(filter_load__a_violation_gives_the_terminal_back)
{
	struct termios t;
	int master, slave, status;
	pid_t child;

	if (!vmm_filter_there())
		VMBUS_TEST_SKIP("built without libseccomp");
#ifdef SANITIZED
	VMBUS_TEST_SKIP("sanitizers make system calls of their own");
#endif
	ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	child = fork();
	if (child == 0) {
		setsid();
		ioctl(slave, TIOCSCTTY, 0);
		dup2(slave, STDIN_FILENO);
		vmm_console_raw();
		tcgetattr(slave, &t);
		if ((t.c_lflag & ICANON) || vmm_filter_prepare(NULL) ||
		    vmm_filter_load(_i ? VMM_ROLE_BUS : VMM_ROLE_VCPU))
			_exit(99);
		opens();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, VMM_FILTER << 8);
	tcgetattr(slave, &t);
	ck_assert_uint_eq(t.c_lflag & (ICANON | ECHO), ICANON | ECHO);
	close(master);
	close(slave);
}
END_TEST

/* A processor that is not to be seen again tells its registers before the machine ends. */
START_TEST(filter_load__a_processor_tells_its_registers)
{
	struct vmm_vcpu vcpu = { .fd = -1 };
	int kvm, vm, status;
	pid_t child;

	if (!vmm_filter_there())
		VMBUS_TEST_SKIP("built without libseccomp");
#ifdef SANITIZED
	VMBUS_TEST_SKIP("sanitizers make system calls of their own");
#endif
	NEEDS_KVM();
	listen_to_us();
	child = fork();
	if (child == 0) {
		kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
		vm = ioctl(kvm, KVM_CREATE_VM, 0);
		if (ioctl(vm, KVM_CREATE_IRQCHIP, 0))
			_exit(97);
		vcpu.fd = ioctl(vm, KVM_CREATE_VCPU, 0);
		if (vcpu.fd < 0 || vmm_filter_prepare(NULL) || vmm_filter_load(VMM_ROLE_VCPU))
			_exit(99);
		vmm_cpu_dump(&vcpu);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_said("cr0 ");
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "filter", 20);

	tcase_add_test(tc, filter_load__ends_who_does_something_else);
	tcase_add_test(tc, filter_load__a_disk_that_connects_again_does_not_end_the_machine);
	tcase_add_loop_test(tc, filter_load__a_violation_gives_the_terminal_back, 0, 2);
	tcase_add_test(tc, filter_load__a_processor_tells_its_registers);
}

VMBUS_TEST_MAIN("vmm.filter", tests)
