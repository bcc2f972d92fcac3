/* SPDX-License-Identifier: MIT */
/*
 * A partition over a KVM of our own, and a guest in it: the library's own guest side, which posts
 * and signals as code in a guest does and takes messages and flags from its SynIC pages.  One
 * thread; neither side sleeps.
 */
#ifndef TESTS_KVM_PART_H
#define TESTS_KVM_PART_H

#include "child.h"

#include "kvm/fakekvm.h"

#define PART_PAGES 4096u
#define PART_BUDGET 256u
#define PART_VECTOR 0xF3u

struct part {
	struct child mem;
	struct vmbus_region region;
	struct vmbus_kvm *kvm;
	struct vmbus_bus *bus;
	struct vmbus_guest *guest;
	struct vmbus_guest_backend backend;
	uint8_t *simp, *siefp, *input, *page;
	uint64_t now;
	uint32_t crashes, resets, crash_bytes, lines, routings;
	int routes_err;
	char crash_text[64];
	char line[256];
	struct vmbus_vsc *vsc;
};

static inline uint64_t part_gpa(struct part *p, const void *page)
{
	return child_pfn(&p->mem, page) * CHILD_PAGE;
}

static inline void part_crashed(void *ctx, const struct vmbus_kvm_crash *crash)
{
	struct part *p = ctx;

	p->crashes++;
	p->crash_bytes = crash->text_bytes;
	must_eq(strlen(crash->text), crash->text_bytes);
	snprintf(p->crash_text, sizeof(p->crash_text), "%s", crash->text);
}

static inline void part_reset(void *ctx)
{
	((struct part *)ctx)->resets++;
}

static inline void part_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	struct part *p = ctx;

	(void)level;
	p->lines++;
	snprintf(p->line, sizeof(p->line), "%s", line);
}

static inline void part_opts(struct part *p, struct vmbus_kvm_opts *opts)
{
	static struct vmbus_region *regions[1];

	memset(opts, 0, sizeof(*opts));
	regions[0] = &p->region;
	opts->struct_bytes = sizeof(*opts);
	opts->kvm_fd = FAKE_KVM_FD;
	opts->vm_fd = FAKE_VM_FD;
	opts->vps_max = FAKE_VPS;
	opts->crashed = part_crashed;
	opts->reset = part_reset;
	opts->ctx = p;
	opts->bus.struct_bytes = sizeof(opts->bus);
	opts->bus.name = "part";
	opts->bus.regions = regions;
	opts->bus.region_count = 1;
	opts->bus.log = part_log;
	opts->bus.log_ctx = p;
}

static inline void part_memory(struct part *p)
{
	memset(p, 0, sizeof(*p));
	child_init(&p->mem, PART_PAGES);
	p->mem.used[0] = 1; /* address 0 is no page for a guest */
	p->region.bytes = PART_PAGES * CHILD_PAGE;
	p->region.host = p->mem.host;
	p->region.fd = p->mem.fd;
	p->region.access = VMBUS_READ_WRITE;
}

static inline int part_add(struct part *p, uint32_t vp)
{
	return vmbus_kvm_add_vcpu(p->kvm, vp, vp, FAKE_VCPU_FD + (int)vp, fake_run(vp));
}

/* A partition with one vCPU, by one of the two ways. */
static inline void part_begin(struct part *p, bool kernel)
{
	struct vmbus_kvm_opts opts;

	fake_begin(kernel);
	part_memory(p);
	part_opts(p, &opts);
	must_eq(vmbus_kvm_create(&opts, &p->kvm), 0);
	p->bus = vmbus_kvm_bus(p->kvm);
	must_eq(vmbus_kvm_way(p->kvm), kernel ? VMBUS_KVM_KERNEL : VMBUS_KVM_USER);
	must_eq(part_add(p, 0), 0);
}

static inline void part_end(struct part *p)
{
	uint32_t n;

	if (p->guest)
		vmbus_guest_destroy(p->guest);
	vmbus_kvm_destroy(p->kvm);
	for (n = 0; n < FAKE_GSIS; n++)
		must(!fake.event_fd[n] && !fake.resample_fd[n] && !fake.wake_fd[n]);
	for (n = 0; n < FAKE_PORTS; n++)
		must(!fake.port_fd[n]);
	for (n = 0; n < FAKE_CONNS; n++)
		must(!fake.conn_fd[n]);
	must_eq(vmbus_region_pins(&p->region), 0);
	child_fini(&p->mem);
}

static inline void part_dispatch(struct part *p)
{
	while (vmbus_kvm_dispatch(p->kvm, PART_BUDGET) > 0)
		;
}

/* What a guest does at its start: id, hypercall page, SynIC. */
static inline void part_enable(struct part *p)
{
	p->simp = child_alloc_shared(&p->mem, 1);
	p->siefp = child_alloc_shared(&p->mem, 1);
	p->input = child_alloc_shared(&p->mem, 1);
	p->page = child_alloc_shared(&p->mem, 1);
	must(!fake_wrmsr(p->kvm, 0, 0x40000000, 0x8100000000060100));
	must(!fake_wrmsr(p->kvm, 0, 0x40000001, part_gpa(p, p->page) | 1));
	must(!fake_wrmsr(p->kvm, 0, 0x40000083, part_gpa(p, p->simp) | 1));
	must(!fake_wrmsr(p->kvm, 0, 0x40000082, part_gpa(p, p->siefp) | 1));
	must(!fake_wrmsr(p->kvm, 0, 0x40000092, PART_VECTOR));
	must(!fake_wrmsr(p->kvm, 0, 0x40000080, 1));
}

/* ---- the guest's backend ---- */

static inline int part_post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload,
			    uint32_t bytes)
{
	struct part *p = ctx;
	struct vmbus_hc_call call = {
		.code = VMBUS_HC_POST_MESSAGE, .conn_id = conn_id, .type = type, .bytes = bytes
	};

	memcpy(call.payload, payload, bytes);
	must(vmbus_hc_encode(&call, p->input, VMBUS_HC_INPUT_MAX) > 0);
	return (int)(fake_call(p->kvm, 0, VMBUS_HC_POST_MESSAGE, part_gpa(p, p->input), 0) &
		     0xFFFF);
}

static inline int part_receive(void *ctx, uint32_t *type, void *payload, uint32_t *bytes)
{
	struct part *p = ctx;
	struct vmbus_synic_msg msg;
	bool eom = false;
	const int got = vmbus_synic_take(p->simp, 2, &msg, &eom);

	if (got == 1) {
		*type = msg.type;
		*bytes = msg.bytes;
		memcpy(payload, msg.payload, msg.bytes);
	}
	if (eom)
		must(!fake_wrmsr(p->kvm, 0, 0x40000084, 0));
	return got;
}

static inline uint64_t part_flags(void *ctx, uint32_t word)
{
	return vmbus_synic_take_flags(((struct part *)ctx)->siefp, 2, word);
}

static inline int part_signal(void *ctx, uint32_t conn_id, uint32_t flag)
{
	struct part *p = ctx;
	struct vmbus_hc_regs regs;

	vmbus_hc_encode_fast_signal(conn_id, flag, &regs);
	return (int)(fake_call(p->kvm, 0, regs.control, regs.in, regs.out) & 0xFFFF);
}

static inline void *part_alloc(void *ctx, size_t bytes, bool shared)
{
	return child_alloc(&((struct part *)ctx)->mem, bytes, shared);
}

static inline void part_release(void *ctx, void *at, size_t bytes, bool shared)
{
	child_release(&((struct part *)ctx)->mem, at, bytes, shared);
}

static inline uint64_t part_pfn(void *ctx, const void *page)
{
	return child_pfn(&((struct part *)ctx)->mem, page);
}

static inline int part_idle(void *ctx, uint64_t timeout_ns)
{
	struct part *p = ctx;

	(void)timeout_ns;
	p->now += 10;
	(void)vmbus_kvm_dispatch(p->kvm, PART_BUDGET);
	return 0;
}

static inline uint64_t part_time(void *ctx)
{
	return ((struct part *)ctx)->now;
}

static inline void part_offered(void *ctx, struct vmbus_vsc *vsc)
{
	((struct part *)ctx)->vsc = vsc;
}

static inline void part_guest(struct part *p)
{
	struct vmbus_guest_opts opts = { .struct_bytes = sizeof(opts) };

	p->backend = (struct vmbus_guest_backend){
		.struct_bytes = sizeof(p->backend),
		.post = part_post,
		.receive = part_receive,
		.flags = part_flags,
		.signal = part_signal,
		.alloc = part_alloc,
		.release = part_release,
		.pfn = part_pfn,
		.idle = part_idle,
		.time = part_time,
	};
	opts.backend = &p->backend;
	opts.backend_ctx = p;
	opts.offered = part_offered;
	opts.ctx = p;
	must_eq(vmbus_guest_create(&opts, &p->guest), 0);
}

static inline void part_connect(struct part *p)
{
	must_eq(vmbus_guest_connect(p->guest), 0);
	must_eq(vmbus_guest_wait(p->guest, VMBUS_GUEST_CONNECTED, 1000000000), 0);
}

/* Let both sides run until neither has anything to do. */
static inline void part_settle(struct part *p)
{
	uint32_t n;

	for (n = 0; n < 1000000; n++) {
		int done = vmbus_guest_dispatch(p->guest, PART_BUDGET);

		must(done >= 0);
		done += vmbus_kvm_dispatch(p->kvm, PART_BUDGET);
		if (vmbus_guest_timeout(p->guest) != UINT64_MAX) {
			p->now += 1000000;
			done++;
		}
		if (!done)
			return;
	}
	ck_abort_msg("neither side comes to rest");
}

#endif
