/* SPDX-License-Identifier: MIT */
/*
 * A machine in a process to run backends/bare on: one processor whose registers, leaves and
 * hypercalls are the library's own parent's side (vmbus_hv, vmbus_synic, vmbus_hc_dispatch), with a
 * bus behind them.  Everything is in one thread; the parent has its turn when the processor halts or
 * pauses, and whenever a test says so.  An access to a register that was not announced fails.
 */
#ifndef BARE_MACHINE_H
#define BARE_MACHINE_H

#include <vmbus/bare.h>
#include <vmbus/bus.h>
#include <vmbus/echo.h>
#include <vmbus/guest.h>
#include <vmbus/hypercall.h>
#include <vmbus/synic.h>

#include "../../backends/bare/cpu.h"
#include "vmbus_test.h"

#define GPA 0x40000000ull
#define PAGES 4096u
#define PAGE ((size_t)VMBUS_PAGE_BYTES)
#define TSC_HZ 1000000000ull
#define STEP 10000u /* 100 ns: time that passes while nothing happens */
#define LOG_MAX 64u

static const struct vmbus_guid echo_class = VMBUS_ECHO_CLASS;

struct access {
	uint32_t msr;
	uint64_t value;
};

struct machine {
	struct vmbus_hv hv;
	struct vmbus_hv_opts hv_opts;
	struct vmbus_synic synic;
	struct vmbus_backend parent;
	struct vmbus_region region;
	struct vmbus_region *regions[1];
	struct vmbus_bus *bus;
	uint8_t *mem;
	struct vmbus_bare bare;
	struct vmbus_bare_opts opts;
	struct vmbus_guest *guest;
	uint64_t now; /* 100 ns */
	bool irq_on, pending;
	uint8_t vector; /* of the interrupt that came last */
	/* What the machine is made to lack. */
	bool bare_metal, refuse_page, locked;
	uint32_t vendor, leaves;   /* replace what it says, unless 0 */
	uint32_t clear_a, clear_b; /* bits of leaf 0x40000003 */
	/* Lies of the parent's. */
	uint64_t status; /* of the next hypercalls, while statuses */
	uint32_t statuses;
	void (*meddle)(struct machine *m);	/* before each register access and pause */
	void (*at_irq_save)(struct machine *m); /* an interrupt at the worst moment */
	/* Counters. */
	struct access writes[LOG_MAX];
	uint32_t writes_n;
	unsigned long reads, calls, halts, pauses, posted, raised, offered, gone, lines;
	char line[200];
};

/* ---- the parent ---- */

static inline void machine_irq(struct machine *m, uint32_t arg)
{
	m->pending = true;
	m->vector = (uint8_t)arg;
	if (m->irq_on) {
		m->pending = false;
		vmbus_bare_interrupt(&m->bare);
	}
}

static inline int machine_post(void *ctx, uint32_t vp, uint32_t sint, uint32_t type,
			       const void *payload, uint32_t bytes)
{
	struct machine *const m = ctx;
	struct vmbus_synic_msg msg = { .type = type, .bytes = bytes };
	uint32_t arg = 0;
	int did;

	must_eq(vp, 0);
	must(bytes <= sizeof(msg.payload));
	memcpy(msg.payload, payload, bytes);
	did = vmbus_synic_post(&m->synic, sint, &msg, false, &arg);
	if (did < 0)
		return did;
	m->posted++;
	if ((uint32_t)did & VMBUS_SYNIC_INTERRUPT)
		machine_irq(m, arg);
	return 0;
}

static inline int machine_raise(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag)
{
	struct machine *const m = ctx;
	uint32_t arg = 0;
	const int did = vmbus_synic_raise(&m->synic, sint, flag, &arg);

	must_eq(vp, 0);
	if (did < 0)
		return did;
	m->raised++;
	if ((uint32_t)did & VMBUS_SYNIC_INTERRUPT)
		machine_irq(m, arg);
	return 0;
}

static inline uint64_t machine_time(void *ctx)
{
	return ((struct machine *)ctx)->now;
}

static inline uint32_t machine_vps(void *ctx)
{
	(void)ctx;
	return 1;
}

static inline bool machine_turn(struct machine *m)
{
	bool any = false;
	int done;

	while ((done = vmbus_bus_dispatch(m->bus, 64)) > 0)
		any = true;
	must_eq(done, 0);
	return any;
}

static inline void *machine_at(struct machine *m, uint64_t gpa)
{
	must(gpa >= GPA && gpa - GPA < PAGES * PAGE);
	return m->mem + (gpa - GPA);
}

/* ---- the processor ---- */

static inline void machine_cpuid(void *ctx, uint32_t leaf, uint32_t regs[4])
{
	struct machine *const m = ctx;

	memset(regs, 0, 4 * sizeof(regs[0]));
	if (leaf == 1) {
		regs[2] = m->bare_metal ? 0 : 1u << 31;
		return;
	}
	must(leaf >= 0x40000000u);
	must(!m->bare_metal);
	must_eq(vmbus_hv_cpuid(&m->hv, leaf, regs), 1);
	if (leaf == 0x40000000u) {
		regs[0] = m->leaves ? m->leaves : regs[0];
		regs[1] = m->vendor ? m->vendor : regs[1];
	} else if (leaf == 0x40000003u) {
		regs[0] &= ~m->clear_a;
		regs[1] &= ~m->clear_b;
	}
}

static inline uint64_t machine_rdmsr(void *ctx, uint32_t msr)
{
	struct machine *const m = ctx;
	uint64_t value = 0;

	m->reads++;
	if (m->meddle)
		m->meddle(m);
	if (vmbus_synic_msr_read(&m->synic, msr, &value) == 0)
		return value;
	must_eq(vmbus_hv_msr_read(&m->hv, 0, msr, m->now, &value), 0);
	if (msr == 0x40000001u && m->refuse_page)
		value &= ~1ull;
	if (msr == 0x40000001u && m->locked)
		value |= 2u;
	return value;
}

static inline void machine_pages(struct machine *m)
{
	const uint64_t simp = vmbus_synic_simp(&m->synic), siefp = vmbus_synic_siefp(&m->synic);

	vmbus_synic_set_pages(&m->synic, simp == UINT64_MAX ? NULL : machine_at(m, simp),
			      siefp == UINT64_MAX ? NULL : machine_at(m, siefp), NULL, 0, 0);
}

static inline void machine_wrmsr(void *ctx, uint32_t msr, uint64_t value)
{
	struct machine *const m = ctx;
	int did;

	if (m->writes_n < LOG_MAX)
		m->writes[m->writes_n++] = (struct access){ msr, value };
	if (m->meddle)
		m->meddle(m);
	must(!(m->locked && msr == 0x40000001u));
	did = vmbus_synic_msr_write(&m->synic, msr, value, false);
	if (did == VMBUS_E_NOTSUP)
		did = vmbus_hv_msr_write(&m->hv, 0, msr, value);
	must(did >= 0);
	if ((uint32_t)did & VMBUS_SYNIC_PAGES)
		machine_pages(m);
	if ((uint32_t)did & VMBUS_SYNIC_SLOT_FREE)
		vmbus_bus_slot_free(m->bus, 0, VMBUS_SINT_MESSAGE);
	if ((uint32_t)did & VMBUS_HV_PAGE && vmbus_hv_hypercall_gpa(&m->hv) != UINT64_MAX)
		must_eq(vmbus_hv_fill_page(machine_at(m, vmbus_hv_hypercall_gpa(&m->hv)),
					   VMBUS_HV_VMCALL, 0),
			0);
	if ((uint32_t)did & VMBUS_HV_TSC && vmbus_hv_tsc_gpa(&m->hv) != UINT64_MAX)
		vmbus_hv_fill_tsc(machine_at(m, vmbus_hv_tsc_gpa(&m->hv)), 1,
				  vmbus_hv_tsc_scale(TSC_HZ), 0);
}

static inline uint64_t machine_call(void *ctx, void *page, uint64_t control, uint64_t in,
				    uint64_t out)
{
	struct machine *const m = ctx;
	const struct vmbus_hc_regs regs = { .control = control, .in = in, .out = out };

	m->calls++;
	must(page == machine_at(m, vmbus_hv_hypercall_gpa(&m->hv)));
	must(memcmp(page, "\0\0\0\0", 4) != 0);
	if (m->statuses) {
		m->statuses--;
		return m->status;
	}
	return vmbus_hc_dispatch(vmbus_bus_hc_ops(), m->bus, &regs);
}

static inline uint64_t machine_rdtsc(void *ctx)
{
	struct machine *const m = ctx;

	return m->now++ * (TSC_HZ / 10000000u); /* time passes, whatever happens */
}

static inline void machine_pause(void *ctx)
{
	struct machine *const m = ctx;

	m->pauses++;
	if (m->meddle)
		m->meddle(m);
	if (!machine_turn(m))
		m->now += STEP;
}

static inline uint64_t machine_irq_save(void *ctx)
{
	struct machine *const m = ctx;
	const uint64_t was = m->irq_on;

	if (m->at_irq_save)
		m->at_irq_save(m);
	m->irq_on = false;
	return was;
}

static inline void machine_irq_restore(void *ctx, uint64_t flags)
{
	struct machine *const m = ctx;

	m->irq_on = flags != 0;
	if (m->irq_on && m->pending) {
		m->pending = false;
		vmbus_bare_interrupt(&m->bare);
	}
}

static const struct vmbus__bare_cpu machine_cpu = {
	.cpuid = machine_cpuid,
	.rdmsr = machine_rdmsr,
	.wrmsr = machine_wrmsr,
	.call = machine_call,
	.rdtsc = machine_rdtsc,
	.pause = machine_pause,
	.irq_save = machine_irq_save,
	.irq_restore = machine_irq_restore,
};

/* "sti; hlt": ends with the first interrupt; only what is asynchronous happens meanwhile. */
static inline void machine_halt(void *ctx, uint64_t timeout_ns)
{
	struct machine *const m = ctx;

	must(!m->irq_on);
	m->halts++;
	if (m->meddle)
		m->meddle(m);
	if (!m->pending)
		(void)machine_turn(m);
	if (!m->pending) {
		must(timeout_ns != UINT64_MAX); /* or it would sleep for ever */
		m->now += timeout_ns / 100u < STEP ? timeout_ns / 100u + 1 : STEP;
	}
	machine_irq_restore(m, 1);
}

/* ---- set-up ---- */

static inline void machine_log(void *ctx, const char *line)
{
	struct machine *const m = ctx;

	m->lines++;
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "%s\n", line);
	(void)snprintf(m->line, sizeof(m->line), "%s", line);
}

static inline void machine_bus_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)level;
	machine_log(ctx, line);
}

static inline void machine_offered(void *ctx, struct vmbus_vsc *vsc)
{
	(void)vsc;
	((struct machine *)ctx)->offered++;
}

static inline void machine_gone(void *ctx, struct vmbus_vsc *vsc)
{
	(void)vsc;
	((struct machine *)ctx)->gone++;
}

static inline struct machine *machine_new(void)
{
	struct vmbus_bus_opts opts = { .struct_bytes = sizeof(opts) };
	struct machine *const m = calloc(1, sizeof(*m));

	must(m != NULL);
	m->mem = aligned_alloc(PAGE, PAGES * PAGE);
	must(m->mem != NULL);
	memset(m->mem, 0xA5, PAGES * PAGE); /* what is not cleared shows */
	m->hv_opts = (struct vmbus_hv_opts){ .struct_bytes = sizeof(m->hv_opts),
					     .tsc_hz = TSC_HZ,
					     .apic_hz = TSC_HZ,
					     .reference_tsc = true,
					     .vps_max = 1 };
	must_eq(vmbus_hv_init(&m->hv, &m->hv_opts), 0);
	vmbus_synic_reset(&m->synic);
	m->region = (struct vmbus_region){ .gpa = GPA,
					   .bytes = PAGES * PAGE,
					   .host = m->mem,
					   .fd = -1,
					   .access = VMBUS_READ_WRITE };
	m->regions[0] = &m->region;
	m->parent = (struct vmbus_backend){ .struct_bytes = sizeof(m->parent),
					    .post = machine_post,
					    .raise = machine_raise,
					    .time = machine_time,
					    .vps = machine_vps };
	opts.backend = &m->parent;
	opts.backend_ctx = m;
	opts.name = "bare";
	opts.regions = m->regions;
	opts.region_count = 1;
	opts.log = machine_bus_log;
	opts.log_ctx = m;
	must_eq(vmbus_bus_create(&opts, &m->bus), 0);
	m->opts = (struct vmbus_bare_opts){ .struct_bytes = sizeof(m->opts),
					    .memory = m->mem,
					    .memory_gpa = GPA,
					    .memory_bytes = PAGES * PAGE,
					    .halt = machine_halt,
					    .ctx = m };
	m->now = 1000;
	m->irq_on = true;
	return m;
}

static inline void machine_free(struct machine *m)
{
	vmbus_bus_destroy(m->bus);
	must_eq(vmbus_region_pins(&m->region), 0);
	free(m->mem);
	free(m);
}

static inline int machine_init(struct machine *m)
{
	return vmbus__bare_init(&m->bare, &m->opts, &machine_cpu, m);
}

static inline void machine_guest(struct machine *m)
{
	struct vmbus_guest_opts opts = { .struct_bytes = sizeof(opts) };

	opts.backend = vmbus_bare_backend();
	opts.backend_ctx = &m->bare;
	opts.offered = machine_offered;
	opts.gone = machine_gone;
	opts.log = machine_log;
	opts.ctx = m;
	must_eq(vmbus_guest_create(&opts, &m->guest), 0);
}

static inline const struct vmbus_guest_backend *be(void)
{
	return vmbus_bare_backend();
}

static inline struct vmbus_bare_stats machine_stats(const struct machine *m)
{
	struct vmbus_bare_stats stats;

	vmbus_bare_stats(&m->bare, &stats);
	return stats;
}

#endif
