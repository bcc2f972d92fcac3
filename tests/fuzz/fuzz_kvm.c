/* SPDX-License-Identifier: MIT */
/*
 * A partition under KVM whose guest does anything: register reads and writes, hypercalls by registers
 * and by port, its own memory; whose vCPUs, memory and state come, go and come back changed; and
 * whose KVM refuses now and then.  Both ways, with a KVM of our own and a live bus.  Afterwards
 * nothing is bound, pinned or open.
 */
#define _GNU_SOURCE

#include "vmbus_test.h"

#undef ck_abort_msg
#define ck_abort_msg(...) (fprintf(stderr, __VA_ARGS__), __builtin_trap())

#include <vmbus/echo.h>

#include "fuzz/input.h"
#include "kvm/part.h"

#define OPS_MAX 96u
#define VPS 3u
#define MORE_GPA (PART_PAGES * (uint64_t)VMBUS_PAGE_BYTES)

static struct part p;
static uint8_t more_page[2 * 4096] __attribute__((aligned(4096)));
static struct vmbus_region more;
static struct vmbus_chan *chans[2];
extern const struct vmbus_backend vmbus__kvm_backend;

static const uint32_t msrs[] = {
	0x40000000, 0x40000001, 0x40000002, 0x40000003, 0x40000020, 0x40000021, 0x40000022,
	0x40000073, 0x40000080, 0x40000081, 0x40000082, 0x40000083, 0x40000084, 0x40000090,
	0x40000092, 0x4000009F, 0x40000100, 0x40000103, 0x40000104, 0x40000105, 0x40000118,
};

static uint64_t take64(struct input *in)
{
	const uint64_t low = take(in, 4);

	return low | (uint64_t)take(in, 4) << 32;
}

/* An address that is a page of memory, mostly. */
static uint64_t take_page(struct input *in)
{
	const uint32_t n = take(in, 2);

	return n >= 0xFFF0 ? take64(in) : (n % (PART_PAGES + 3)) * (uint64_t)VMBUS_PAGE_BYTES;
}

static uint64_t take_value(struct input *in)
{
	const uint32_t kind = take(in, 1);

	if (kind < 96)
		return take_page(in) | kind % 4;
	return kind < 160 ? take(in, 2) : take64(in);
}

static uint32_t take_msr(struct input *in)
{
	const uint32_t n = take(in, 1);

	return n < 200 ? msrs[n % (sizeof(msrs) / sizeof(msrs[0]))]
		       : 0x40000000 + take(in, 2) % 0x200;
}

/* An exit is handled, or refused because KVM was made to refuse. */
static void show_exit(uint32_t vp)
{
	const int done = vmbus_kvm_handle_exit(p.kvm, vp);

	must(done == 0 || done == 1 || done == VMBUS_E_STATE ||
	     (done == VMBUS_E_SYSTEM && fake.fail_request));
}

static void access_msr(struct input *in, uint32_t vp, bool write)
{
	struct kvm_run *run = fake_run(vp);

	run->exit_reason = write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	run->msr.index = take_msr(in);
	run->msr.data = write ? take_value(in) : 0;
	show_exit(vp);
}

static void write_port(struct input *in, uint32_t vp)
{
	struct kvm_run *run = fake_run(vp);
	static const uint8_t sizes[] = { 1, 2, 4, 1 };
	struct kvm_regs *regs = fake_regs(vp);
	const uint32_t what = take(in, 1);
	uint32_t data;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = what / 4 % 8 ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	run->io.size = sizes[what % 4];
	run->io.port = (uint16_t)(0xA000 + (what & 0x80 ? 0 : take(in, 2) % 2050 - 1));
	run->io.count = what & 0x40 ? take(in, 1) + 1 : 1;
	run->io.data_offset = 4096;
	data = what & 0x20 ? (uint32_t)run->io.port - 0xA000 + 0x2000 : take(in, 4);
	memcpy(fake.vcpu[vp].bytes + 4096, &data, sizeof(data));
	regs->rcx = take(in, 1) < 128 ? 0x5C + (data & 1) : take64(in);
	regs->rax = take_page(in) + take(in, 1) * 8;
	show_exit(vp);
}

static void exit_of_hyperv(struct input *in, uint32_t vp)
{
	struct kvm_run *run = fake_run(vp);
	const uint32_t what = take(in, 1);

	run->exit_reason = KVM_EXIT_HYPERV;
	run->hyperv.type = what % 3;
	if (run->hyperv.type == KVM_EXIT_HYPERV_SYNIC) {
		run->hyperv.u.synic.control = what / 4 % 2;
		run->hyperv.u.synic.evt_page = take_page(in) | what / 8 % 2;
		run->hyperv.u.synic.msg_page = take_page(in) | what / 16 % 2;
	} else {
		run->hyperv.u.hcall.input = what & 0x80 ? take64(in) : 0x5C + what / 8 % 2;
		run->hyperv.u.hcall.params[0] = take_page(in) + take(in, 1) * 8;
	}
	show_exit(vp);
}

/* A state that was saved, with some bytes changed, or one that is all input. */
static void bring_back(struct input *in)
{
	static uint8_t state[4096];
	const uint32_t changes = take(in, 1);
	int bytes = vmbus_kvm_save(p.kvm, state, sizeof(state)), err;
	uint32_t n;

	if (bytes < 0) {
		must(bytes == VMBUS_E_SYSTEM && fake.fail_request);
		return;
	}
	for (n = 0; n < changes % 8; n++)
		state[take(in, 2) % (uint32_t)bytes] = (uint8_t)take(in, 1);
	if (changes & 0x80)
		bytes = (int)(take(in, 2) % sizeof(state));
	err = vmbus_kvm_restore(p.kvm, state, (size_t)bytes);
	must(err == 0 || err == VMBUS_E_NOTSUP || err == VMBUS_E_INVAL || err == VMBUS_E_RANGE ||
	     (err == VMBUS_E_SYSTEM && fake.fail_request) ||
	     (err == VMBUS_E_SYSTEM && vmbus_kvm_way(p.kvm) == VMBUS_KVM_KERNEL));
}

static void change_vcpu(struct input *in)
{
	const uint32_t vp = 1 + take(in, 1) % (VPS - 1);
	int err = vmbus_kvm_remove_vcpu(p.kvm, vp);

	if (err == VMBUS_E_STATE)
		err = part_add(&p, vp);
	must(err == 0 || (err == VMBUS_E_SYSTEM && fake.fail_request));
}

static void change_memory(struct input *in)
{
	const int err = vmbus_kvm_mem_remove(p.kvm, &more);

	must_eq(err, 0);
	must_eq(vmbus_region_pins(&more), 0);
	more.access = take(in, 1) % 3 + 1;
	if (take(in, 1) % 4)
		must_eq(vmbus_kvm_mem_add(p.kvm, &more), 0);
}

static void write_memory(struct input *in)
{
	const uint64_t page = take_page(in) % MORE_GPA & ~(uint64_t)4095;
	uint8_t *const at = p.mem.host + page + take(in, 1) * 8;
	uint32_t n, len = take(in, 1) % 64;

	for (n = 0; n < len; n++)
		at[n] = (uint8_t)take(in, 1);
}

static void refuse_soon(struct input *in)
{
	static const unsigned long requests[] = { KVM_SET_GSI_ROUTING, KVM_GET_MSRS,  KVM_SET_MSRS,
						  KVM_GET_CLOCK,       KVM_IRQFD,     KVM_GET_REGS,
						  KVM_SET_REGS,	       KVM_ENABLE_CAP };

	fake.fail_request = requests[take(in, 1) % 8];
	fake.fail_in = take(in, 1) % 8;
}

static void offer(struct input *in)
{
	const uint32_t n = take(in, 1) % 2;

	if (chans[n])
		(void)vmbus_bus_revoke(chans[n]);
	chans[n] = NULL;
	(void)vmbus_bus_offer(p.bus, vmbus_echo_vsp(), NULL, NULL, &chans[n]);
}

static void from_the_bus(struct input *in)
{
	const uint32_t what = take(in, 1), vp = what % 4, sint = what & 0x80 ? take(in, 1) : 2;

	if (what & 0x40)
		(void)vmbus__kvm_backend.post(p.kvm, vp, sint, 1, "message", 8);
	else
		(void)vmbus__kvm_backend.raise(p.kvm, vp, sint, take(in, 2));
}

static void cpuid(struct input *in)
{
	struct kvm_cpuid_entry2 entries[40];
	const uint32_t count = take(in, 1) % 24;
	uint32_t n;

	memset(entries, 0, sizeof(entries));
	for (n = 0; n < count; n++)
		entries[n].function = take(in, 4);
	must_eq(vmbus_kvm_cpuid(p.kvm, entries, count, count + 16) < 0, false);
}

static void operate(struct input *in)
{
	const uint32_t op = take(in, 1), vp = op / 32 % VPS;

	switch (op % 16) {
	case 0:
	case 1:
		access_msr(in, vp, true);
		break;
	case 2:
		access_msr(in, vp, false);
		break;
	case 3:
		write_port(in, vp);
		break;
	case 4:
		exit_of_hyperv(in, vp);
		break;
	case 5:
		write_memory(in);
		break;
	case 6:
		(void)vmbus_kvm_dispatch(p.kvm, op / 16 + 1);
		break;
	case 7:
		bring_back(in);
		break;
	case 8:
		(void)vmbus_kvm_reset(p.kvm);
		break;
	case 9:
		change_vcpu(in);
		break;
	case 10:
		change_memory(in);
		break;
	case 11:
		refuse_soon(in);
		break;
	case 12:
		offer(in);
		break;
	case 13:
		from_the_bus(in);
		break;
	case 14:
		fake_eoi(vp);
		break;
	default:
		cpuid(in);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	const uint32_t how = take(&in, 1);
	struct vmbus_kvm_opts opts;
	uint32_t n;

	fake_begin(how & 1);
	fake.no_sync_regs = (how & 2) != 0;
	part_memory(&p);
	part_opts(&p, &opts);
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	p.bus = vmbus_kvm_bus(p.kvm);
	must_eq(part_add(&p, 0), 0);
	if (how & 4)
		part_enable(&p);
	memset(chans, 0, sizeof(chans));
	more = (struct vmbus_region){ .gpa = MORE_GPA, .bytes = sizeof(more_page), .fd = -1 };
	more.host = more_page;
	more.access = VMBUS_READ_WRITE;
	if (how & 8) /* a grace period each: slow */
		must_eq(vmbus_kvm_mem_add(p.kvm, &more), 0);
	for (n = 0; n < OPS_MAX && in.left; n++)
		operate(&in);
	fake.fail_in = 0;
	part_end(&p);
	must_eq(vmbus_region_pins(&more), 0);
	return 0;
}
