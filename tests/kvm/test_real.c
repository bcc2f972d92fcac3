/* SPDX-License-Identifier: MIT */
/*
 * The user-space way on this host's own KVM: registers, hypercall page, signals that stay in the
 * kernel, interrupts, the clock.  The guest is a few instructions; it tells what it found by port.
 */
#include "kvm/realvm.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <vmbus/synic.h>

/*
 * The guest: a list of operations at REAL_DATA, each of four qwords: what, and three operands.
 * 0 end; 1 wrmsr(msr, value); 2 rdmsr(msr); 3 hypercall(rcx, rdx, r8) by the page; 4 out32(port,
 * value); 5 sti and wait for the interrupt counter to reach the operand; 6 rdtsc.  The result of
 * each goes to its fourth qword.
 */
__asm__(".pushsection .rodata\n"
	".globl real_guest, real_guest_end\n"
	"real_guest:\n"
	"	movabs $0x20000, %rbx\n"
	"1:	mov (%rbx), %rax\n"
	"	cmp $0, %rax; je 9f\n"
	"	cmp $1, %rax; je 2f\n"
	"	cmp $2, %rax; je 3f\n"
	"	cmp $3, %rax; je 4f\n"
	"	cmp $4, %rax; je 5f\n"
	"	cmp $5, %rax; je 6f\n"
	"	rdtsc\n"
	"	jmp 7f\n"
	"2:	mov 8(%rbx), %ecx; mov 16(%rbx), %eax; mov 20(%rbx), %edx; wrmsr\n"
	"	jmp 8f\n"
	"3:	mov 8(%rbx), %ecx; rdmsr\n"
	"	jmp 7f\n"
	"4:	mov 8(%rbx), %rcx; mov 16(%rbx), %rdx; xor %r8, %r8\n"
	"	movabs $0x30000, %rax; call *%rax\n"
	"	mov %rax, 24(%rbx)\n"
	"	jmp 8f\n"
	"5:	mov 8(%rbx), %edx; mov 16(%rbx), %eax; out %eax, %dx\n"
	"	jmp 8f\n"
	"6:	sti\n"
	"61:	mov 0x28000, %rax; cmp 8(%rbx), %rax; jb 61b\n"
	"	cli\n"
	"	mov %rax, 24(%rbx)\n"
	"	jmp 8f\n"
	"7:	mov %eax, 24(%rbx); mov %edx, 28(%rbx)\n"
	"8:	add $32, %rbx\n"
	"	jmp 1b\n"
	"9:	mov $0x10, %edx; mov $1, %eax; out %eax, %dx\n"
	"	jmp real_guest\n"
	/* The handler of vector 0xF3, at offset 0x100. */
	".org real_guest + 0x100\n"
	"	push %rax; push %rcx; push %rdx\n"
	"	incq 0x28000\n"
	"	mov $0x80B, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr\n"
	"	pop %rdx; pop %rcx; pop %rax\n"
	"	iretq\n"
	/* The handler of #GP, at offset 0x180: counts, and passes over the 2 bytes of RDMSR or WRMSR. */
	".org real_guest + 0x180\n"
	"	addq $8, %rsp\n"
	"	incq 0x28008\n"
	"	addq $2, (%rsp)\n"
	"	iretq\n"
	"real_guest_end:\n"
	".popsection\n");
extern const uint8_t real_guest[], real_guest_end[];
extern const struct vmbus_backend vmbus__kvm_backend;

#define IDT 0x40000u
#define HYPERCALL_PAGE 0x30000u
#define SIMP_PAGE 0x31000u
#define SIEFP_PAGE 0x32000u
#define TSC_PAGE 0x33000u
#define INPUT 0x34000u
#define INTERRUPTS 0x28000u
#define FAULTS 0x28008u
#define VECTOR 0xF3u

struct op {
	uint64_t what, a, b, result;
};

enum {
	OP_END,
	OP_WRMSR,
	OP_RDMSR,
	OP_CALL,
	OP_OUT,
	OP_WAIT,
	OP_TSC
};

static struct realvm vm;

static void put_gate(uint32_t vector, uint64_t offset)
{
	const uint64_t at = REAL_CODE + offset;

	realvm_put64(&vm, IDT + 16u * vector,
		     (at & 0xFFFF) | 0x10u << 16 | 0x8E00ull << 32 | (at >> 16 & 0xFFFF) << 48);
	realvm_put64(&vm, IDT + 16u * vector + 8, at >> 32);
}

static bool start(int way)
{
	struct vmbus_kvm_opts opts = { .way = way ? VMBUS_KVM_KERNEL : VMBUS_KVM_USER };
	struct kvm_sregs sregs;

	if (!realvm_open(&vm, &opts))
		return false;
	memcpy(vm.memory + REAL_CODE, real_guest, (size_t)(real_guest_end - real_guest));
	put_gate(VECTOR, 0x100);
	put_gate(13, 0x180);
	ck_assert_int_eq(ioctl(vm.vcpu_fd, KVM_GET_SREGS, &sregs), 0);
	sregs.idt.base = IDT;
	sregs.idt.limit = 0xFFF;
	sregs.apic_base |= 0x400; /* x2APIC: its registers are MSRs */
	ck_assert_int_eq(ioctl(vm.vcpu_fd, KVM_SET_SREGS, &sregs), 0);
	return true;
}

static uint64_t run_ops(const struct op *ops, size_t count)
{
	uint32_t value = 0;

	memset(vm.memory + REAL_DATA, 0, 0x1000);
	memcpy(vm.memory + REAL_DATA, ops, count * sizeof(*ops));
	realvm_run(&vm, &value);
	ck_assert_uint_eq(value, 1);
	memcpy(&value, vm.memory + REAL_DATA + (count - 1) * sizeof(*ops) + 24, sizeof(value));
	return value;
}

static uint64_t result(size_t n)
{
	uint64_t value;

	memcpy(&value, vm.memory + REAL_DATA + n * sizeof(struct op) + 24, sizeof(value));
	return value;
}

static uint64_t word(uint64_t gpa)
{
	uint64_t value;

	memcpy(&value, vm.memory + gpa, sizeof(value));
	return value;
}

static const struct op set_up[] = {
	{ OP_WRMSR, 0x80F, 0x1FF, 0 }, /* the local APIC on */
	{ OP_WRMSR, 0x40000000, 0x81000000, 0 },
	{ OP_WRMSR, 0x40000001, HYPERCALL_PAGE | 1, 0 },
	{ OP_WRMSR, 0x40000083, SIMP_PAGE | 1, 0 },
	{ OP_WRMSR, 0x40000082, SIEFP_PAGE | 1, 0 },
	{ OP_WRMSR, 0x40000092, VECTOR, 0 },
	{ OP_WRMSR, 0x40000080, 1, 0 },
	{ OP_RDMSR, 0x40000002, 0, 0 },
};

static void set_up_guest(void)
{
	run_ops(set_up, sizeof(set_up) / sizeof(set_up[0]));
}

START_TEST(kvm_handle_exit__serves_a_guest)
{
	const struct op more[] = { { OP_RDMSR, 0x40000020, 0, 0 },
				   { OP_RDMSR, 0x40000092, 0, 0 },
				   { OP_RDMSR, 0x40000070, 0, 0 }, /* none: #GP */
				   { OP_RDMSR, 0x40000083, 0, 0 } };

	REALVM_OR_SKIP();
	set_up_guest();
	ck_assert_uint_eq(vm.exits, _i ? 3 : 7);
	if (!_i)
		ck_assert_uint_eq(vm.memory[HYPERCALL_PAGE], 0xF3); /* endbr64 */
	run_ops(more, 4);
	ck_assert_uint_gt(result(0), 0);
	ck_assert_uint_eq(result(1), VECTOR);
	ck_assert_uint_eq(word(FAULTS), 1);
	ck_assert_uint_eq(result(3), SIMP_PAGE | 1);
	realvm_close(&vm);
}
END_TEST

START_TEST(kvm_handle_exit__carries_out_calls_of_the_page)
{
	const struct op calls[] = {
		{ OP_CALL, 0x1005D, 0x2001, 0 },	/* nobody's: 0x12 */
		{ OP_CALL, 0x1005D, 0x10000, 0 },	/* past our ports: by the trap */
		{ OP_CALL, 0x5C, INPUT, 0 },		/* a message */
		{ OP_CALL, 0x5C, 0xFFFFF000, 0 },	/* where no memory is */
		{ OP_CALL, 0x1234, 0, 0 },		/* no such call */
		{ _i ? OP_TSC : OP_OUT, 0xA001, 5, 0 }, /* a port with another id */
	};
	struct vmbus_kvm_stats stats;

	REALVM_OR_SKIP();
	set_up_guest();
	realvm_put64(&vm, INPUT, 1);
	realvm_put64(&vm, INPUT + 8, 1ull | 40ull << 32);
	realvm_put64(&vm, INPUT + 16, 14);
	realvm_put64(&vm, INPUT + 24, 0x00040000);
	run_ops(calls, 6);
	ck_assert_uint_eq(result(0), VMBUS_HC_CONNECTION_ID);
	ck_assert_uint_eq(result(1), VMBUS_HC_CONNECTION_ID);
	ck_assert_uint_eq(result(2), VMBUS_HC_OK);
	ck_assert_uint_eq(result(3), VMBUS_HC_PARAMETER);
	ck_assert_uint_eq(result(4), VMBUS_HC_INVALID_CODE);
	vmbus_kvm_stats(vm.kvm, &stats);
	ck_assert_uint_eq(stats.exits_signal, 2);
	if (!_i) {
		ck_assert_uint_eq(stats.exits_hypercall, 3);
		ck_assert_uint_eq(stats.bad, 5);
	}
	/* The bus has answered: the message is in the slot and has interrupted. */
	run_ops((const struct op[]){ { OP_WAIT, 1, 0, 0 } }, 1);
	ck_assert_uint_eq(word(SIMP_PAGE + 0x200) & 0xFFFFFFFF, 1);
	realvm_close(&vm);
}
END_TEST

/* The page, the register and the parent's own clock tell the same time. */
START_TEST(kvm_msr__keeps_a_reference_clock)
{
	const struct op ops[] = { { OP_WRMSR, 0x40000021, TSC_PAGE | 1, 0 },
				  { OP_RDMSR, 0x40000020, 0, 0 },
				  { OP_TSC, 0, 0, 0 },
				  { OP_RDMSR, 0x40000020, 0, 0 } };
	uint64_t time = 0, mine;

	REALVM_OR_SKIP();
	set_up_guest();
	mine = vmbus_bus_time(vmbus_kvm_bus(vm.kvm));
	run_ops(ops, 4);
	ck_assert_uint_le(mine, result(1));
	ck_assert_uint_lt(result(1), result(3));
	ck_assert_uint_ge(vmbus_bus_time(vmbus_kvm_bus(vm.kvm)), result(3));
	if (vmbus_hv_read_tsc(vm.memory + TSC_PAGE, result(2), &time)) { /* else it is not valid */
		ck_assert_uint_ge(time + 50, result(1));
		ck_assert_uint_le(time, result(3) + 50);
	} else {
		ck_assert_uint_eq(word(TSC_PAGE) & 0xFFFFFFFF, 0);
		printf("this host's TSC cannot be relied on: the page is not valid\n");
	}
	realvm_close(&vm);
}
END_TEST

#define CHANNELS 2047u

/* A signal costs the guest no exit to user space, whatever the number of those bound. */
START_TEST(kvm_bind__takes_2047_signals)
{
	struct op ops[64];
	const struct rlimit limit = { 8192, 8192 };
	static int fds[CHANNELS];
	struct vmbus_kvm_stats stats;
	uint64_t count, exits;
	uint32_t n;

	REALVM_OR_SKIP();
	if (setrlimit(RLIMIT_NOFILE, &limit)) {
		realvm_close(&vm);
		VMBUS_TEST_SKIP("the limit of open files cannot be raised to 8192");
	}
	set_up_guest();
	for (n = 0; n < CHANNELS; n++) {
		fds[n] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		ck_assert_int_ge(fds[n], 0);
		must_eq(vmbus__kvm_backend.bind(vm.kvm, 0x2001 + n, fds[n]), 0);
	}
	vmbus_kvm_stats(vm.kvm, &stats);
	ck_assert_uint_eq(stats.bound, CHANNELS);
	for (n = 0; n < 64; n++)
		ops[n] = (struct op){ OP_CALL, 0x1005D, 0x2001 + n * 32u, 0 };
	exits = vm.exits;
	run_ops(ops, 64);
	ck_assert_uint_eq(vm.exits, exits);
	for (n = 0; n < CHANNELS; n++) {
		must_eq(read(fds[n], &count, sizeof(count)) == (ssize_t)sizeof(count), n % 32 == 0);
		must_eq(vmbus__kvm_backend.unbind(vm.kvm, 0x2001 + n), 0);
		close(fds[n]);
	}
	realvm_close(&vm);
}
END_TEST

/* Events, each by an interrupt of the vector that the guest chose, and chooses anew. */
START_TEST(kvm_raise__interrupts_a_guest)
{
	const struct op other[] = { { OP_WRMSR, 0x40000092, 0x40, 0 } };
	const struct op wait[] = { { OP_WAIT, 1, 0, 0 } }, again[] = { { OP_WAIT, 2, 0, 0 } };

	REALVM_OR_SKIP();
	set_up_guest();
	must_eq(vmbus__kvm_backend.raise(vm.kvm, 0, 2, 65), 0);
	run_ops(wait, 1);
	ck_assert_uint_eq(word(SIEFP_PAGE + 0x208), 2);
	put_gate(0x40, 0x100);
	run_ops(other, 1);
	must_eq(vmbus__kvm_backend.raise(vm.kvm, 0, 2, 64), 0);
	run_ops(again, 1);
	ck_assert_uint_eq(word(SIEFP_PAGE + 0x208), 3);
	realvm_close(&vm);
}
END_TEST

/* The same by another process: a bit in memory, and a descriptor of its own, on the same GSI. */
START_TEST(kvm_wake__interrupts_a_guest)
{
	const struct op other[] = { { OP_WRMSR, 0x40000092, 0x40, 0 } };
	const struct op masked[] = { { OP_WRMSR, 0x40000092, 0x10040, 0 } };
	const struct op wait[] = { { OP_WAIT, 1, 0, 0 } }, again[] = { { OP_WAIT, 2, 0, 0 } };
	const struct op third[] = { { OP_WAIT, 3, 0, 0 } };
	struct vmbus_wake wake;

	REALVM_OR_SKIP();
	must_eq(vmbus__kvm_backend.wake(vm.kvm, 0, 2, &wake), VMBUS_E_NOTSUP); /* not yet */
	set_up_guest();
	must_eq(vmbus__kvm_backend.wake(vm.kvm, 0, 2, &wake), 0);
	must_eq(wake.gpa, SIEFP_PAGE + 0x200);
	vm.memory[wake.gpa + 8] |= 2;
	must_eq(eventfd_write(wake.fd, 1), 0);
	run_ops(wait, 1);
	put_gate(0x40, 0x100);
	run_ops(other, 1);
	must_eq(eventfd_write(wake.fd, 1), 0);
	run_ops(again, 1);
	must_eq(vmbus__kvm_backend.raise(vm.kvm, 0, 2, 64), 0); /* and ours as before */
	run_ops(third, 1);
	ck_assert_uint_eq(word(SIEFP_PAGE + 0x208), 3);
	run_ops(masked, 1);
	must_eq(vmbus__kvm_backend.wake(vm.kvm, 0, 2, &wake), _i ? 0 : VMBUS_E_NOTSUP);
	realvm_close(&vm);
}
END_TEST

/* A state of one way goes on under the other, on a KVM that has both. */
START_TEST(kvm_restore__takes_what_save_gave)
{
	static uint8_t state[4096], memory[REAL_BYTES];
	const struct op calls[] = { { OP_CALL, 0x1005D, 0x2001, 0 },
				    { OP_RDMSR, 0x40000092, 0, 0 } };
	int bytes;

	REALVM_OR_SKIP();
	set_up_guest();
	bytes = vmbus_kvm_save(vm.kvm, state, sizeof(state));
	ck_assert_int_gt(bytes, 0);
	memcpy(memory, vm.memory, sizeof(memory));
	realvm_close(&vm);
	if (!start(!_i))
		ck_assert(start(_i));
	memcpy(vm.memory, memory, sizeof(memory));
	ck_assert_int_eq(vmbus_kvm_restore(vm.kvm, state, (size_t)bytes), 0);
	run_ops(calls, 2);
	ck_assert_uint_eq(result(0), VMBUS_HC_CONNECTION_ID);
	ck_assert_uint_eq(result(1), VECTOR);
	ck_assert_int_eq(vmbus_kvm_reset(vm.kvm), 0);
	run_ops(calls + 1, 1);
	ck_assert_uint_eq(result(0), 0x10000);
	realvm_close(&vm);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "real", 60);

	tcase_add_loop_test(tc, kvm_handle_exit__serves_a_guest, 0, 2);
	tcase_add_loop_test(tc, kvm_handle_exit__carries_out_calls_of_the_page, 0, 2);
	tcase_add_loop_test(tc, kvm_msr__keeps_a_reference_clock, 0, 2);
	tcase_add_loop_test(tc, kvm_bind__takes_2047_signals, 0, 2);
	tcase_add_loop_test(tc, kvm_raise__interrupts_a_guest, 0, 2);
	tcase_add_loop_test(tc, kvm_wake__interrupts_a_guest, 0, 2);
	tcase_add_loop_test(tc, kvm_restore__takes_what_save_gave, 0, 2);
}

VMBUS_TEST_MAIN("kvm.real", tests)
