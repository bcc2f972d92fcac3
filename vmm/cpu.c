/* SPDX-License-Identifier: MIT */
/*
 * A vCPU before its first instruction: long mode with the page tables of boot.c, as Linux's 64-bit
 * protocol wants it.  And what a vCPU looks like when KVM gives up.
 */
#include "vmm.h"

#include <string.h>
#include <sys/ioctl.h>

#define MSR_MISC_ENABLE 0x1A0u
#define MSR_MTRR_TYPE 0x2FFu
#define MTRR_ON_WRITE_BACK 0x806u /* without it Linux switches PAT off */

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){ .limit = 0xFFFFFFFF,
				     .selector = selector,
				     .type = type,
				     .present = 1,
				     .db = !code,
				     .s = 1,
				     .l = code,
				     .g = 1 };
}

static int long_mode(const struct vmm_vcpu *vcpu)
{
	struct kvm_sregs s;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &s))
		return vmm_errno("vCPU %u: its registers", vcpu->index);
	s.cr0 = 0x80000001u | (s.cr0 & 0x10u);
	s.cr3 = VMM_PAGE_TABLES;
	s.cr4 = 0x20;
	s.efer = 0x500;
	s.cs = segment(0x10, 11, true);
	s.ds = segment(0x18, 3, false);
	s.es = s.fs = s.gs = s.ss = s.ds;
	s.tr.type = 11;
	s.tr.present = 1;
	s.gdt.base = VMM_GDT;
	s.gdt.limit = 31;
	s.idt.base = 0;
	s.idt.limit = 0;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &s))
		return vmm_errno("vCPU %u: entering long mode", vcpu->index);
	return 0;
}

static int msrs(const struct vmm_vcpu *vcpu)
{
	struct {
		uint32_t count, pad; /* as struct kvm_msrs */
		struct kvm_msr_entry entry[2];
	} m = { .count = 2,
		.entry = { { .index = MSR_MTRR_TYPE, .data = MTRR_ON_WRITE_BACK },
			   { .index = MSR_MISC_ENABLE, .data = 1 } } };

	/* The second is the first that may be missing. */
	if (ioctl(vcpu->fd, KVM_SET_MSRS, &m) < 1)
		return vmm_errno("vCPU %u: its memory types (MSR 0x2FF)", vcpu->index);
	return 0;
}

int vmm_cpu_boot(struct vmm_vcpu *vcpu)
{
	struct kvm_regs r;

	if (msrs(vcpu))
		return -1;
	if (vcpu->index != 0)
		return 0; /* waits for the first one's word */
	memset(&r, 0, sizeof(r));
	r.rip = vcpu->vmm->image.entry;
	r.rsi = VMM_ZERO_PAGE;
	r.rsp = VMM_STACK;
	r.rflags = 2;
	if (long_mode(vcpu))
		return -1;
	if (ioctl(vcpu->fd, KVM_SET_REGS, &r))
		return vmm_errno("vCPU %u: its registers", vcpu->index);
	return 0;
}

/* Interrupts that wait, and those that the guest has not ended. */
static void dump_vectors(const struct vmm_vcpu *vcpu)
{
	static const char *const names[] = { "in service", "requested" };
	static const uint32_t registers[] = { 0x100, 0x200 };
	struct kvm_lapic_state apic;
	uint32_t i, vector, word;

	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &apic))
		return;
	for (i = 0; i < 2; i++)
		for (vector = 0; vector < 256; vector++) {
			memcpy(&word, apic.regs + registers[i] + vector / 32 * 16, sizeof(word));
			if (word >> vector % 32 & 1u)
				vmm_warn("  vector %u is %s", vector, names[i]);
		}
}

void vmm_cpu_dump(const struct vmm_vcpu *vcpu)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) || ioctl(vcpu->fd, KVM_GET_SREGS, &s))
		return;
#define U(x) ((unsigned long long)(x))
	vmm_warn("  rip %016llx rsp %016llx flags %08llx", U(r.rip), U(r.rsp), U(r.rflags));
	vmm_warn("  rax %016llx rbx %016llx rcx %016llx rdx %016llx", U(r.rax), U(r.rbx), U(r.rcx),
		 U(r.rdx));
	vmm_warn("  rsi %016llx rdi %016llx rbp %016llx r8  %016llx", U(r.rsi), U(r.rdi), U(r.rbp),
		 U(r.r8));
	vmm_warn("  r9  %016llx r10 %016llx r11 %016llx r12 %016llx", U(r.r9), U(r.r10), U(r.r11),
		 U(r.r12));
	vmm_warn("  r13 %016llx r14 %016llx r15 %016llx", U(r.r13), U(r.r14), U(r.r15));
	vmm_warn("  cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %llx", U(s.cr0), U(s.cr2),
		 U(s.cr3), U(s.cr4), U(s.efer));
	vmm_warn("  cs %04x base %llx  ss %04x  gdt %llx  idt %llx", s.cs.selector, U(s.cs.base),
		 s.ss.selector, U(s.gdt.base), U(s.idt.base));
#undef U
	dump_vectors(vcpu);
}
