/* SPDX-License-Identifier: MIT */
/*
 * The entry, in the state of a 64-bit Linux kernel (RSI: the zero page), and the stubs of the 256
 * vectors.  All of it is assembly; nothing here decides anything.
 */
__asm__(".pushsection .text.start, \"ax\"\n"
	".globl payload_start\n"
	"payload_start:\n"
	"	cli\n"
	"	cld\n"
	"	leaq payload_stack_top(%rip), %rsp\n"
	"	movq %rsi, %rdi\n"
	"	xorl %ebp, %ebp\n"
	"	call payload_main\n"
	"1:	cli\n"
	"	hlt\n"
	"	jmp 1b\n"
	".popsection\n");

__asm__(".pushsection .bss\n"
	".balign 4096\n"
	"	.skip 65536\n"
	"payload_stack_top:\n"
	".popsection\n");

/*
 * Each stub is 32 bytes.  Some exceptions push an error code, and a flood may have an interrupt come
 * with such a vector, which pushes none: what is second from the top tells, our code selector or not.
 */
__asm__(".pushsection .text\n"
	".balign 32\n"
	".globl payload_stubs\n"
	"payload_stubs:\n"
	".set vector, 0\n"
	".rept 256\n"
	"	.balign 32\n"
	"	cmpq $0x10, 8(%rsp)\n"
	"	jne 1f\n"
	"	pushq $0\n"
	"1:	pushq $vector\n"
	"	jmp payload_common\n"
	"	.set vector, vector + 1\n"
	".endr\n"
	"payload_common:\n"
	"	pushq %rax\n"
	"	pushq %rbx\n"
	"	pushq %rcx\n"
	"	pushq %rdx\n"
	"	pushq %rbp\n"
	"	pushq %rsi\n"
	"	pushq %rdi\n"
	"	pushq %r8\n"
	"	pushq %r9\n"
	"	pushq %r10\n"
	"	pushq %r11\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	cld\n"
	"	movq %rsp, %rdi\n"
	"	call payload_trap\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %r11\n"
	"	popq %r10\n"
	"	popq %r9\n"
	"	popq %r8\n"
	"	popq %rdi\n"
	"	popq %rsi\n"
	"	popq %rbp\n"
	"	popq %rdx\n"
	"	popq %rcx\n"
	"	popq %rbx\n"
	"	popq %rax\n"
	"	addq $16, %rsp\n"
	"	iretq\n"
	".popsection\n");

/* Register accesses that may fault: rip is set to the label behind, with 0 in RAX for "faulted". */
__asm__(".pushsection .text\n"
	".globl payload_rdmsr, payload_rdmsr_at, payload_rdmsr_end\n"
	"payload_rdmsr:\n" /* uint64_t (uint32_t msr, uint64_t *value) */
	"	movl %edi, %ecx\n"
	"payload_rdmsr_at:\n"
	"	rdmsr\n"
	"	shlq $32, %rdx\n"
	"	orq %rdx, %rax\n"
	"	movq %rax, (%rsi)\n"
	"	movl $1, %eax\n"
	"payload_rdmsr_end:\n"
	"	ret\n"
	".globl payload_wrmsr, payload_wrmsr_at, payload_wrmsr_end\n"
	"payload_wrmsr:\n" /* uint64_t (uint32_t msr, uint64_t value) */
	"	movl %edi, %ecx\n"
	"	movl %esi, %eax\n"
	"	movq %rsi, %rdx\n"
	"	shrq $32, %rdx\n"
	"payload_wrmsr_at:\n"
	"	wrmsr\n"
	"	movl $1, %eax\n"
	"payload_wrmsr_end:\n"
	"	ret\n"
	".popsection\n");

/* Sleep until an interrupt: payload_trap() must know where, see there. */
__asm__(".pushsection .text\n"
	".globl payload_sleep, payload_sleep_at, payload_sleep_end\n"
	"payload_sleep:\n" /* void (void) */
	"	sti\n"
	"payload_sleep_at:\n"
	"	hlt\n"
	"payload_sleep_end:\n"
	"	cli\n"
	"	ret\n"
	".popsection\n");

typedef int payload_start_is_assembly; /* ISO C wants a declaration in each file */
