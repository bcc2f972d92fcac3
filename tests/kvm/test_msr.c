/* SPDX-License-Identifier: MIT */
/*
 * Register exits, pages that the guest names, calls and ports: what a guest may do, and what it may
 * try.  The loop variable _i is the way: 0 user space, 1 the kernel's.
 */
#include "kvm/part.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "base/atomic.h"

#define NO_MEMORY (PART_PAGES * (uint64_t)VMBUS_PAGE_BYTES)

static struct part p;

static struct vmbus_kvm_stats stats_now(void)
{
	struct vmbus_kvm_stats stats;

	vmbus_kvm_stats(p.kvm, &stats);
	return stats;
}

static uint64_t read_ok(uint32_t msr)
{
	uint64_t value = 0;

	must(!fake_rdmsr(p.kvm, 0, msr, &value));
	return value;
}

START_TEST(kvm_msr__has_all_registers)
{
	uint64_t value, before;
	uint32_t n;

	part_begin(&p, false);
	must_eq(part_add(&p, 1), 0);
	must(!fake_rdmsr(p.kvm, 1, 0x40000002, &value));
	must_eq(value, 1);
	must_eq(read_ok(0x40000022), FAKE_TSC_KHZ * 1000ull);
	must_eq(read_ok(0x40000023), 1000000000);
	before = read_ok(0x40000020);
	must_eq(before, fake.clock_ns / 100);
	must(read_ok(0x40000020) > before);
	must_eq(read_ok(0x40000080), 1);
	must_eq(read_ok(0x40000081), 1);
	for (n = 0; n < 16; n++)
		must_eq(read_ok(0x40000090 + n), 0x10000);
	must(fake_rdmsr(p.kvm, 0, 0x40000070, &value)); /* APIC's: not offered */
	must(fake_wrmsr(p.kvm, 0, 0x40000020, 1));	/* read-only */
	must(fake_wrmsr(p.kvm, 0, 0x40000092, 5));	/* a vector below 16 */
	must_eq(read_ok(0x40000092), 0x10000);
	must_eq(stats_now().bad, 3);
	part_end(&p);
}
END_TEST

START_TEST(kvm_msr__routes_the_vector_of_the_guest)
{
	const struct kvm_irq_routing_entry *route = &fake.routes[40];

	part_begin(&p, false);
	must_eq(part_add(&p, 3), 0);
	must(!fake_wrmsr(p.kvm, 3, 0x40000092, 0x10000 | PART_VECTOR)); /* masked: not yet */
	must_eq(fake.routings, 1);
	must(!fake_wrmsr(p.kvm, 3, 0x40000092, PART_VECTOR));
	must_eq(fake.routings, 2);
	must_eq(fake.route_count, 41);
	must_eq(route->gsi, 32 + 2 * 3);
	must_eq(route->type, KVM_IRQ_ROUTING_MSI);
	must_eq(route->u.msi.address_lo, 0xFEE03000);
	must_eq(route->u.msi.data, PART_VECTOR);
	must(!fake_wrmsr(p.kvm, 3, 0x40000092, PART_VECTOR)); /* as before: no new table */
	must_eq(fake.routings, 2);
	must(!fake_wrmsr(p.kvm, 3, 0x40000092, 0x40));
	must_eq(route->u.msi.data, 0x40);
	must(!fake_wrmsr(p.kvm, 3, 0x40000094, 0x50)); /* another SINT has no route */
	must_eq(fake.routings, 3);
	fake.fail_request = KVM_SET_GSI_ROUTING;
	fake.fail_in = 1;
	fake_run(3)->exit_reason = KVM_EXIT_X86_WRMSR;
	fake_run(3)->msr.index = 0x40000092;
	fake_run(3)->msr.data = 0x60;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 3), VMBUS_E_SYSTEM);
	must_eq(errno, EIO);
	part_end(&p);
}
END_TEST

START_TEST(kvm_msr__routes_to_apic_ids_past_127)
{
	const struct kvm_irq_routing_entry *route = &fake.routes[40];
	static const uint32_t ids[] = { 127, 128, 129, 200, 254 };
	const uint32_t id = ids[_i];

	part_begin(&p, false);
	must_eq(vmbus_kvm_add_vcpu(p.kvm, 3, id, FAKE_VCPU_FD + 3, fake_run(3)), 0);
	must(!fake_wrmsr(p.kvm, 3, 0x40000092, PART_VECTOR));
	must_eq(route->u.msi.address_lo, 0xFEE00000u | id << 12);
	must_eq(route->u.msi.address_hi, 0);
	part_end(&p);
}
END_TEST

static uint64_t time_on(uint32_t vp)
{
	uint64_t value = 0;

	must(!fake_rdmsr(p.kvm, vp, 0x40000020, &value));
	return value;
}

static void told_third(struct kvm_clock_data *clock)
{
	clock->clock = 3000000000;
}

static void told_second(struct kvm_clock_data *clock)
{
	clock->clock = 2000000000;
}

/* While the first asks, a second asks too, hears a later time, and is done before it. */
static void told_first(struct kvm_clock_data *clock)
{
	fake.on_clock = told_second;
	must_eq(time_on(1), 20000000);
	clock->clock = 1000000000;
}

START_TEST(kvm_msr__time_does_not_go_back_when_two_ask)
{
	part_begin(&p, false);
	must_eq(part_add(&p, 1), 0);
	fake.on_clock = told_first;
	must_eq(time_on(0), 20000000);
	fake.on_clock = told_third;
	must_eq(time_on(0), 30000000);
	fake.on_clock = NULL;
	part_end(&p);
}
END_TEST

static int take_routes(void *ctx, const struct kvm_irq_routing_entry *ours, uint32_t count)
{
	struct part *part = ctx;

	part->routings++;
	memcpy(fake.routes, ours, count * sizeof(*ours));
	fake.route_count = count;
	return part->routes_err;
}

START_TEST(kvm_msr__gives_routes_to_the_embedder)
{
	struct vmbus_kvm_opts opts;

	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &opts);
	opts.routes = take_routes;
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	must_eq(part_add(&p, 0), 0);
	must(!fake_wrmsr(p.kvm, 0, 0x40000092, PART_VECTOR));
	must_eq(p.routings, 1);
	must_eq(fake.route_count, _i ? 2 : 1);
	must_eq(fake.routings, 0);
	p.routes_err = -1;
	if (_i)
		must_eq(part_add(&p, 1), VMBUS_E_SYSTEM);
	part_end(&p);
}
END_TEST

START_TEST(kvm_msr__fills_the_hypercall_page)
{
	uint64_t at;

	part_begin(&p, false);
	part_enable(&p);
	at = part_gpa(&p, p.page);
	must(memcmp(p.page, "\xF3\x0F\x1E\xFA", 4) == 0);
	must(memcmp(p.page + 48, "\x00\xA0\x00\x00", 4) == 0); /* the port */
	/* Off, and on again: what the guest wrote meanwhile is written over. */
	memset(p.page, 0, 4096);
	must(!fake_wrmsr(p.kvm, 0, 0x40000001, at));
	must_eq(p.page[0], 0);
	must(!fake_wrmsr(p.kvm, 0, 0x40000001, at | 1));
	must_eq(p.page[0], 0xF3);
	/* Moved: the old one stays as it is. */
	must(!fake_wrmsr(p.kvm, 0, 0x40000001, part_gpa(&p, p.input) | 1));
	must_eq(p.input[0], 0xF3);
	must_eq(p.page[0], 0xF3);
	/* Without an id there is none. */
	must(!fake_wrmsr(p.kvm, 0, 0x40000000, 0));
	must_eq(read_ok(0x40000001) & 1, 0);
	memset(p.page, 0, 4096);
	must(!fake_wrmsr(p.kvm, 0, 0x40000001, at | 1));
	must_eq(p.page[0], 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_msr__refuses_a_hypercall_page_without_memory)
{
	uint64_t before;

	part_begin(&p, false);
	part_enable(&p);
	before = read_ok(0x40000001);
	must(fake_wrmsr(p.kvm, 0, 0x40000001, NO_MEMORY | 1));
	must(fake_wrmsr(p.kvm, 0, 0x40000001, UINT64_MAX));
	must_eq(read_ok(0x40000001), before);
	part_end(&p);
}
END_TEST

START_TEST(kvm_msr__writes_no_read_only_memory)
{
	struct vmbus_region rom = { .gpa = NO_MEMORY, .bytes = 4096, .fd = -1 };
	static uint8_t page[4096] __attribute__((aligned(4096)));

	part_begin(&p, false);
	part_enable(&p);
	rom.host = page;
	rom.access = VMBUS_READ;
	must_eq(vmbus_kvm_mem_add(p.kvm, &rom), 0);
	must(fake_wrmsr(p.kvm, 0, 0x40000001, NO_MEMORY | 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000021, NO_MEMORY | 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000083, NO_MEMORY | 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, NO_MEMORY | 1));
	must_eq(p.bus != NULL, 1);
	must_eq(page[0], 0);
	must_eq(page[256 * 2], 0);
	must_eq(vmbus_kvm_mem_remove(p.kvm, &rom), 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_msr__keeps_a_reference_clock)
{
	uint64_t from_page, time;

	part_begin(&p, false);
	part_enable(&p);
	fake.no_offset = _i == 1;
	fake.scaled = _i == 2;
	must(!fake_wrmsr(p.kvm, 0, 0x40000021, part_gpa(&p, p.input) | 1));
	must(vmbus_hv_read_tsc(p.input, fake.tsc, &from_page));
	time = fake.clock_ns / 100;
	must(from_page + 20 > time && from_page < time + 20); /* what passed in between */
	must(vmbus_hv_read_tsc(p.input, fake.tsc + FAKE_TSC_KHZ * 1000ull, &time));
	must(time - from_page > 9999990 && time - from_page < 10000010); /* a second */
	must_eq(vmbus_bus_time(p.bus), fake.clock_ns / 100);
	/* It never goes back, whatever KVM says. */
	time = vmbus_bus_time(p.bus);
	fake.clock_ns -= 100000;
	must_eq(vmbus_bus_time(p.bus), time);
	fake.fail_request = KVM_GET_CLOCK;
	fake.fail_in = 1;
	must_eq(vmbus_bus_time(p.bus), time);
	/* But when it was set: by more than KVM corrects. */
	fake.clock_ns = 10000000000;
	must_eq(vmbus_bus_time(p.bus), fake.clock_ns / 100);
	fake.clock_ns -= 11000000;
	must_eq(vmbus_bus_time(p.bus), fake.clock_ns / 100);
	/* A counter that cannot be relied on: not valid. */
	fake.unstable = true;
	must(!fake_wrmsr(p.kvm, 0, 0x40000021, part_gpa(&p, p.input) | 1));
	must(!vmbus_hv_read_tsc(p.input, fake.tsc, &from_page));
	must(!fake_wrmsr(p.kvm, 0, 0x40000021, NO_MEMORY | 1));
	part_end(&p);
}
END_TEST

START_TEST(kvm_msr__two_pages_may_be_one)
{
	uint64_t at;

	part_begin(&p, false);
	part_enable(&p);
	at = part_gpa(&p, p.page) | 1;
	must(!fake_wrmsr(p.kvm, 0, 0x40000021, at));
	must(!fake_wrmsr(p.kvm, 0, 0x40000083, at));
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, at));
	must(!fake_wrmsr(p.kvm, 0, 0x40000001, at));
	must_eq(p.page[0], 0xF3); /* the last that was written */
	part_guest(&p);
	must_eq(vmbus_guest_connect(p.guest), 0);
	(void)vmbus_guest_wait(p.guest, VMBUS_GUEST_CONNECTED, 1000);
	part_end(&p);
}
END_TEST

START_TEST(kvm_msr__reports_a_crash)
{
	static const char text[] = "panic: \x01 it\nis over";
	uint32_t n;

	part_begin(&p, _i);
	part_enable(&p);
	must(fake_wrmsr(p.kvm, 0, 0x40000105, 0) == false);
	must_eq(p.crashes, 0);
	must_eq(read_ok(0x40000105), 3ull << 62);
	memcpy(p.input, text, sizeof(text) - 1);
	for (n = 0; n < 5; n++)
		must(!fake_wrmsr(p.kvm, 0, 0x40000100 + n, n));
	must(!fake_wrmsr(p.kvm, 0, 0x40000103, part_gpa(&p, p.input)));
	must(!fake_wrmsr(p.kvm, 0, 0x40000104, sizeof(text) - 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000105, 3ull << 62));
	must_eq(p.crashes, 1);
	must(strcmp(p.crash_text, "panic: ? it\nis over") == 0);
	must_eq(read_ok(0x40000102), 2);
	must(!fake_wrmsr(p.kvm, 0, 0x40000105, 1ull << 63)); /* without a text */
	must_eq(p.crash_bytes, 0);
	must(!fake_wrmsr(p.kvm, 0, 0x40000103, NO_MEMORY));
	must(!fake_wrmsr(p.kvm, 0, 0x40000105, 3ull << 62));
	must_eq(p.crash_bytes, 0);
	/* The text is longer than said, or as long as can be. */
	memset(p.input, 'x', 4096);
	must(!fake_wrmsr(p.kvm, 0, 0x40000103, part_gpa(&p, p.input)));
	must(!fake_wrmsr(p.kvm, 0, 0x40000104, UINT64_MAX));
	must(!fake_wrmsr(p.kvm, 0, 0x40000105, 3ull << 62));
	must_eq(p.crash_bytes, 4096);
	for (n = 0; n < 100; n++)
		must(!fake_wrmsr(p.kvm, 0, 0x40000105, 1ull << 63));
	must_eq(p.crashes, 16); /* a guest does not flood its embedder */
	must_eq(vmbus_kvm_reset(p.kvm), 0);
	must(!fake_wrmsr(p.kvm, 0, 0x40000105, 1ull << 63));
	must_eq(p.crashes, 17);
	part_end(&p);
}
END_TEST

START_TEST(kvm_msr__asks_for_a_reset)
{
	struct vmbus_kvm_opts opts;

	part_begin(&p, _i);
	must(!fake_wrmsr(p.kvm, 0, 0x40000003, 0));
	must_eq(p.resets, 0);
	must(!fake_wrmsr(p.kvm, 0, 0x40000003, 1));
	must_eq(p.resets, 1);
	part_end(&p);
	fake_begin(_i);
	part_memory(&p);
	part_opts(&p, &opts);
	opts.reset = NULL;
	opts.crashed = NULL;
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	must_eq(part_add(&p, 0), 0);
	must(fake_wrmsr(p.kvm, 0, 0x40000003, 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000105, 3ull << 62));
	part_end(&p);
}
END_TEST

/* ---- calls ---- */

START_TEST(kvm_call__answers_every_call)
{
	part_begin(&p, _i);
	part_enable(&p);
	must_eq(fake_call(p.kvm, 0, 0x1234, 0, 0), VMBUS_HC_INVALID_CODE);
	must_eq(fake_call(p.kvm, 0, 0x1005D, 0x2001, 0), VMBUS_HC_CONNECTION_ID);
	must_eq(fake_call(p.kvm, 0, 0x1005D, 0x2001 | 1ull << 32, 0), VMBUS_HC_CONNECTION_ID);
	must_eq(fake_call(p.kvm, 0, 0x5C, part_gpa(&p, p.input), 0), VMBUS_HC_PARAMETER);
	must_eq(fake_call(p.kvm, 0, 0x5C, part_gpa(&p, p.input) + 4, 0), VMBUS_HC_ALIGNMENT);
	must_eq(fake_call(p.kvm, 0, 0x5C, NO_MEMORY, 0), VMBUS_HC_PARAMETER);
	must_eq(fake_call(p.kvm, 0, UINT64_MAX, 0, 0), VMBUS_HC_INVALID_INPUT);
	must_eq(stats_now().exits_signal, 2);
	must_eq(stats_now().exits_hypercall, 5);
	must_eq(stats_now().bad, 7);
	/* KVM has read the input of a slow signal, and left the control word as it was. */
	if (_i)
		must_eq(fake_call(p.kvm, 0, 0x5D, 0x2001, 0), VMBUS_HC_CONNECTION_ID);
	part_end(&p);
}
END_TEST

START_TEST(kvm_call__without_registers_in_the_run_page)
{
	struct kvm_regs *regs;

	fake_begin(false);
	fake.no_sync_regs = true;
	part_memory(&p);
	{
		struct vmbus_kvm_opts opts;

		part_opts(&p, &opts);
		must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	}
	must_eq(part_add(&p, 0), 0);
	must_eq(fake_run(0)->kvm_valid_regs, 0);
	regs = fake_regs(0);
	regs->rip = 0x1234;
	must_eq(fake_call(p.kvm, 0, 0x1234, 0, 0), VMBUS_HC_INVALID_CODE);
	must_eq(fake_call(p.kvm, 0, 0x1005D, 0x2001, 0), VMBUS_HC_CONNECTION_ID);
	must_eq(regs->rip, 0x1234);
	must_eq(fake_run(0)->kvm_dirty_regs, 0);
	fake.fail_request = KVM_GET_REGS;
	fake.fail_in = 1;
	fake_run(0)->io.port = 0xA000;
	fake_run(0)->io.size = 1;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), VMBUS_E_SYSTEM);
	fake.fail_request = KVM_SET_REGS;
	fake.fail_in = 1;
	must_eq(vmbus_kvm_handle_exit(p.kvm, 0), VMBUS_E_SYSTEM);
	part_end(&p);
}
END_TEST

START_TEST(kvm_call__tolerates_ports_used_by_hand)
{
	struct kvm_run *run = fake_run(0);
	uint32_t value;

	part_begin(&p, false);
	part_enable(&p);
	fake_out(p.kvm, 0, 0xA001, 4, 0x2002); /* another's id */
	fake_out(p.kvm, 0, 0xA001, 1, 0x01);
	fake_out(p.kvm, 0, 0xA000, 4, 0x2000);
	fake_out(p.kvm, 0, 0xA7FF, 2, 0);
	must_eq(stats_now().bad, 4);
	must_eq(stats_now().exits_signal, 0); /* a port passes its own id on, and no other */
	run->io.count = 100;		      /* outsb */
	run->io.size = 1;
	run->io.port = 0xA000;
	fake_exit(p.kvm, 0);
	must_eq(stats_now().exits_hypercall, 0);
	run->io.direction = KVM_EXIT_IO_IN;
	run->io.count = 1;
	run->io.size = 4;
	fake_exit(p.kvm, 0);
	memcpy(&value, fake.vcpu[0].bytes + 4096, 4);
	must_eq(value, 0xFFFFFFFF);
	must_eq(stats_now().bad, 6);
	part_end(&p);
}
END_TEST

/* ---- memory ---- */

START_TEST(kvm_mem_remove__lets_synic_pages_go)
{
	static uint8_t pages[2][4096] __attribute__((aligned(4096)));
	struct vmbus_region more = { .gpa = NO_MEMORY, .bytes = 8192, .fd = -1 };
	uint32_t type = 1;

	part_begin(&p, _i);
	part_enable(&p);
	more.host = pages;
	more.access = VMBUS_READ_WRITE;
	/* Named before it is there, and found when it comes. */
	must(!fake_wrmsr(p.kvm, 0, 0x40000083, NO_MEMORY | 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, (NO_MEMORY + 4096) | 1));
	memset(pages, 0xEE, sizeof(pages));
	part_guest(&p);
	must_eq(vmbus_guest_connect(p.guest), 0);
	(void)vmbus_guest_dispatch(p.guest, 10);
	part_dispatch(&p);
	must_eq(stats_now().messages, 0);
	must_eq(vmbus_kvm_mem_add(p.kvm, &more), 0);
	part_dispatch(&p);
	must_eq(stats_now().messages, 1);
	memcpy(&type, &pages[0][512], 4);
	must_eq(type, 1);
	/* The bus alone cannot take it away: the page is in use. */
	must_eq(vmbus_region_pins(&more), 1);
	must_eq(vmbus_bus_mem_remove(p.bus, &more), VMBUS_E_AGAIN);
	must_eq(vmbus_kvm_mem_remove(p.kvm, &more), 0);
	must_eq(vmbus_region_pins(&more), 0);
	memset(pages, 0, sizeof(pages));
	vmbus_guest_destroy(p.guest);
	p.guest = NULL;
	part_guest(&p);
	must_eq(vmbus_guest_connect(p.guest), 0);
	(void)vmbus_guest_dispatch(p.guest, 10);
	part_dispatch(&p);
	must_eq(pages[0][512], 0);
	must_eq(vmbus_kvm_mem_remove(p.kvm, &more), 0); /* twice is harmless */
	part_end(&p);
}
END_TEST

/* The map of the partition has it still, and the guest may name a page there at any time. */
START_TEST(bus_mem_remove__alone_never_suffices)
{
	struct vmbus_region more = {
		.gpa = NO_MEMORY, .bytes = 8192, .fd = -1, .access = VMBUS_READ_WRITE
	};
	const vmbus_gpa_t at = { NO_MEMORY };
	uint8_t *pages =
		mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t byte;

	must(pages != MAP_FAILED);
	more.host = pages;
	part_begin(&p, _i);
	must_eq(vmbus_region_pins(&p.region), 1); /* from the start */
	part_enable(&p);
	must_eq(vmbus_kvm_mem_add(p.kvm, &more), 0);
	must_eq(vmbus_bus_mem_remove(p.bus, &more), VMBUS_E_AGAIN);
	must(!fake_wrmsr(p.kvm, 0, 0x40000083, NO_MEMORY | 1)); /* it is mapped still */
	must_eq(vmbus_kvm_mem_add(p.kvm, &more), VMBUS_E_INVAL);
	must_eq(vmbus_bus_mem_read(p.bus, at, &byte, 1), VMBUS_E_RANGE); /* nor has the bus */
	must_eq(vmbus_kvm_mem_remove(p.kvm, &more), 0);
	must_eq(vmbus_region_pins(&more), 0);
	must_eq(munmap(pages, 8192), 0);
	must(!fake_wrmsr(p.kvm, 0, 0x40000083, (NO_MEMORY + 4096) | 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000082, NO_MEMORY | 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000021, NO_MEMORY | 1));
	part_end(&p);
}
END_TEST

/* A region for each pin that there is, and again in the place of one that went. */
START_TEST(kvm_mem_add__takes_as_many_as_a_map_has)
{
	static struct vmbus_region more[VMBUS_REGIONS_MAX];
	static uint8_t page[4096] __attribute__((aligned(4096)));
	uint32_t n;

	part_begin(&p, _i);
	for (n = 0; n < VMBUS_REGIONS_MAX; n++) {
		more[n] = (struct vmbus_region){ .gpa = NO_MEMORY + n * 8192ull,
						 .bytes = 4096,
						 .host = page,
						 .fd = -1,
						 .access = VMBUS_READ_WRITE };
		must_eq(vmbus_kvm_mem_add(p.kvm, &more[n]),
			n < VMBUS_REGIONS_MAX - 1 ? 0 : VMBUS_E_RANGE);
	}
	must_eq(vmbus_region_pins(&more[n - 1]), 0);
	must_eq(vmbus_kvm_mem_remove(p.kvm, &more[7]), 0);
	must_eq(vmbus_kvm_mem_add(p.kvm, &more[n - 1]), 0);
	must_eq(vmbus_region_pins(&more[n - 1]), 1);
	part_end(&p);
	for (n = 0; n < VMBUS_REGIONS_MAX; n++)
		must_eq(vmbus_region_pins(&more[n]), 0);
}
END_TEST

START_TEST(kvm_msr__uses_no_memory_at_odd_addresses)
{
	static uint8_t pages[2 * 4096 + 8] __attribute__((aligned(4096)));
	struct vmbus_region odd = { .gpa = NO_MEMORY, .bytes = 8192, .fd = -1 };

	part_begin(&p, _i);
	part_enable(&p);
	odd.host = pages + 4; /* the words of a page could not be used atomically */
	odd.access = VMBUS_READ_WRITE;
	must_eq(vmbus_kvm_mem_add(p.kvm, &odd), 0);
	memset(pages, 0xEE, sizeof(pages));
	must(!fake_wrmsr(p.kvm, 0, 0x40000083, NO_MEMORY | 1));
	must(!fake_wrmsr(p.kvm, 0, 0x40000021, (NO_MEMORY + 4096) | 1));
	must_eq(pages[4 + 512], 0xEE);
	must_eq(vmbus_kvm_mem_remove(p.kvm, &odd), 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_mem_add__refuses_an_overlap)
{
	struct vmbus_region more = { .gpa = NO_MEMORY - 4096, .bytes = 8192, .fd = -1 };

	part_begin(&p, _i);
	more.host = p.mem.host;
	more.access = VMBUS_READ_WRITE;
	must_eq(vmbus_kvm_mem_add(p.kvm, &more), VMBUS_E_INVAL);
	part_end(&p);
}
END_TEST

START_TEST(kvm_msr__marks_what_it_writes)
{
	static uint64_t bitmap[PART_PAGES / 64];
	const struct vmbus_dirty dirty = { .bitmap = bitmap, .frames = PART_PAGES };
	struct vmbus_kvm_opts opts;
	uint64_t frame;

	fake_begin(false);
	part_memory(&p);
	part_opts(&p, &opts);
	opts.bus.dirty = &dirty;
	must_eq(vmbus_kvm_create(&opts, &p.kvm), 0);
	p.bus = vmbus_kvm_bus(p.kvm);
	must_eq(part_add(&p, 0), 0);
	memset(bitmap, 0, sizeof(bitmap));
	part_enable(&p);
	frame = child_pfn(&p.mem, p.page);
	must(bitmap[frame / 64] & 1ull << frame % 64);
	frame = child_pfn(&p.mem, p.simp);
	must(bitmap[frame / 64] & 1ull << frame % 64);
	frame = child_pfn(&p.mem, p.input);
	must(!(bitmap[frame / 64] & 1ull << frame % 64));
	must(!fake_wrmsr(p.kvm, 0, 0x40000021, part_gpa(&p, p.input) | 1));
	must(bitmap[frame / 64] & 1ull << frame % 64);
	part_end(&p);
}
END_TEST

/* ---- messages and events ---- */

/* A backend's calls, as the bus makes them, on a partition whose bus has nothing to do. */
static const struct vmbus_backend *backend;
extern const struct vmbus_backend vmbus__kvm_backend;

static int post_one(uint32_t vp, uint32_t sint)
{
	return backend->post(p.kvm, vp, sint, 1, "12345678", 8);
}

START_TEST(kvm_post__waits_for_the_slot)
{
	struct vmbus_synic_msg msg;
	bool eom;

	part_begin(&p, _i);
	part_enable(&p);
	backend = &vmbus__kvm_backend;
	must_eq(post_one(0, 2), 0);
	must_eq(fake_drain(fake.event_fd[_i ? 33 : 32]), 1); /* so that its end is told */
	fake_eoi(0); /* of the first message's interrupt: nobody waits, nobody is woken */
	must_eq(vmbus_kvm_dispatch(p.kvm, 1), 0);
	must_eq(stats_now().slots_busy, 0);
	must_eq(post_one(0, 2), VMBUS_E_AGAIN);
	must_eq(stats_now().slots_busy, 1);
	must_eq(vmbus_synic_take(p.simp, 2, &msg, &eom), 1);
	must(eom);
	must_eq(post_one(0, 2), 0); /* free by now: no need to wait */
	must_eq(post_one(0, 2), VMBUS_E_AGAIN);
	must_eq(vmbus_synic_take(p.simp, 2, &msg, &eom), 1);
	must(eom);
	must(!fake_wrmsr(p.kvm, 0, 0x40000084, 0));
	must_eq(post_one(0, 2), 0);
	must_eq(post_one(1, 2), VMBUS_E_AGAIN); /* not here yet */
	must_eq(post_one(FAKE_VPS, 2), VMBUS_E_RANGE);
	must_eq(post_one(0, 3), _i ? VMBUS_E_NOTSUP : VMBUS_E_AGAIN); /* masked */
	must_eq(backend->post(p.kvm, 0, 2, 1, "", 241), VMBUS_E_RANGE);
	part_end(&p);
}
END_TEST

static uint32_t looks;
static bool taken;

/* The guest takes the message after the parent has found the slot taken, and before it looks again. */
static void take_late(const volatile void *at)
{
	struct vmbus_synic_msg msg;
	bool eom;

	if (at == p.mem.host + part_gpa(&p, p.simp) + 512 && ++looks == 3 && !taken) {
		taken = true;
		must_eq(vmbus_synic_take(p.simp, 2, &msg, &eom), 1);
	}
}

START_TEST(kvm_post__looks_again)
{
	part_begin(&p, _i);
	part_enable(&p);
	backend = &vmbus__kvm_backend;
	must_eq(post_one(0, 2), 0);
	vmbus__test_hook = take_late;
	must_eq(post_one(0, 2), 0);
	vmbus__test_hook = NULL;
	must(taken);
	must_eq(stats_now().slots_busy, 1);
	part_end(&p);
}
END_TEST

static bool no_epoll;

/* The system's, but that it has no room if so wanted. */
int epoll_ctl(int fd, int op, int which, struct epoll_event *event)
{
	if (no_epoll && op == EPOLL_CTL_ADD)
		return fake_refuse(ENOSPC);
	return (int)syscall(SYS_epoll_ctl, fd, op, which, event);
}

/* A guest that cannot be heard of when it frees its slot is refused at once, and not forgotten later. */
START_TEST(kvm_add_vcpu__without_room_to_listen)
{
	struct pollfd set = { .events = POLLIN };
	struct vmbus_synic_msg msg;
	bool eom;

	part_begin(&p, true);
	set.fd = vmbus_kvm_fd(p.kvm);
	no_epoll = true;
	must_eq(part_add(&p, 1), VMBUS_E_SYSTEM);
	must_eq(errno, ENOSPC);
	no_epoll = false;
	must_eq(part_add(&p, 1), 0);
	part_enable(&p);
	backend = &vmbus__kvm_backend;
	must_eq(post_one(0, 2), 0);
	no_epoll = true;
	must_eq(post_one(0, 2), VMBUS_E_AGAIN);
	no_epoll = false;
	must_eq(vmbus_synic_take(p.simp, 2, &msg, &eom), 1);
	fake_eoi(0);
	must(poll(&set, 1, 0) == 1);
	(void)vmbus_kvm_dispatch(p.kvm, 1);
	must(poll(&set, 1, 0) == 0);
	part_end(&p);
}
END_TEST

START_TEST(kvm_raise__interrupts_once)
{
	part_begin(&p, _i);
	part_enable(&p);
	backend = &vmbus__kvm_backend;
	must_eq(part_add(&p, 2), 0); /* its guest has not enabled the SynIC */
	fake_run(2)->exit_reason = KVM_EXIT_HYPERV;
	fake_run(2)->hyperv.type = KVM_EXIT_HYPERV_SYNIC;
	fake_run(2)->hyperv.u.synic.evt_page = part_gpa(&p, p.input) | 1;
	fake_run(2)->hyperv.u.synic.control = 0;
	(void)vmbus_kvm_handle_exit(p.kvm, 2);
	must_eq(backend->raise(p.kvm, 2, 2, 77), VMBUS_E_AGAIN);
	must_eq(backend->raise(p.kvm, 0, 2, 77), 0);
	must_eq(backend->raise(p.kvm, 0, 2, 77), 0); /* set already */
	must_eq(fake_interrupts(0), 1);
	must_eq(vmbus_synic_take_flags(p.siefp, 2, 1), 1u << 13);
	must_eq(backend->raise(p.kvm, 0, 2, 77), 0);
	must_eq(fake_interrupts(0), 1);
	must_eq(backend->raise(p.kvm, 1, 2, 77), VMBUS_E_AGAIN);
	must_eq(backend->raise(p.kvm, FAKE_VPS, 2, 77), VMBUS_E_RANGE);
	must_eq(backend->raise(p.kvm, 0, 2, 2048), VMBUS_E_RANGE);
	if (!_i) { /* another SINT has no descriptor */
		must(!fake_wrmsr(p.kvm, 0, 0x40000095, 0x77));
		must_eq(backend->raise(p.kvm, 0, 5, 1), 0);
		must_eq(fake.msis, 1);
		must_eq(fake.last_msi, 0x77);
	}
	must_eq(stats_now().interrupts, _i ? 2 : 3);
	part_end(&p);
}
END_TEST

START_TEST(kvm_bind__takes_ids_that_have_a_port)
{
	part_begin(&p, _i);
	backend = &vmbus__kvm_backend;
	must_eq(backend->bind(p.kvm, 0x2001, 5), 0);
	must_eq(backend->bind(p.kvm, 0x27FF, 6), 0);
	must_eq(backend->bind(p.kvm, 0x2800, 7), _i ? 0 : VMBUS_E_RANGE);
	must_eq(backend->bind(p.kvm, 0x2000, 7), _i ? 0 : VMBUS_E_RANGE);
	must_eq(backend->bind(p.kvm, 0x2001, 7), VMBUS_E_SYSTEM);
	must_eq(_i ? fake.conn_fd[0x27FF] : fake.port_fd[0xA7FF], 6);
	must_eq(stats_now().bound, _i ? 4 : 2);
	must_eq(backend->unbind(p.kvm, 0x2001), 0);
	must_eq(backend->unbind(p.kvm, 0x27FF), 0);
	if (_i) {
		must_eq(backend->unbind(p.kvm, 0x2800), 0);
		must_eq(backend->unbind(p.kvm, 0x2000), 0);
	}
	must_eq(stats_now().bound, 0);
	must_eq(backend->unbind(p.kvm, 0x2001), VMBUS_E_SYSTEM); /* it is not bound */
	part_end(&p);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "msr", 10);

	tcase_add_test(tc, kvm_msr__has_all_registers);
	tcase_add_test(tc, kvm_msr__routes_the_vector_of_the_guest);
	tcase_add_loop_test(tc, kvm_msr__routes_to_apic_ids_past_127, 0, 5);
	tcase_add_test(tc, kvm_msr__time_does_not_go_back_when_two_ask);
	tcase_add_loop_test(tc, kvm_msr__gives_routes_to_the_embedder, 0, 2);
	tcase_add_test(tc, kvm_msr__fills_the_hypercall_page);
	tcase_add_test(tc, kvm_msr__refuses_a_hypercall_page_without_memory);
	tcase_add_test(tc, kvm_msr__writes_no_read_only_memory);
	tcase_add_loop_test(tc, kvm_msr__keeps_a_reference_clock, 0, 3);
	tcase_add_test(tc, kvm_msr__two_pages_may_be_one);
	tcase_add_loop_test(tc, kvm_msr__reports_a_crash, 0, 2);
	tcase_add_loop_test(tc, kvm_msr__asks_for_a_reset, 0, 2);
	tc = vmbus_test_case(suite, "call", 10);
	tcase_add_loop_test(tc, kvm_call__answers_every_call, 0, 2);
	tcase_add_test(tc, kvm_call__without_registers_in_the_run_page);
	tcase_add_test(tc, kvm_call__tolerates_ports_used_by_hand);
	tc = vmbus_test_case(suite, "memory", 20);
	tcase_add_loop_test(tc, kvm_mem_remove__lets_synic_pages_go, 0, 2);
	tcase_add_loop_test(tc, bus_mem_remove__alone_never_suffices, 0, 2);
	tcase_add_loop_test(tc, kvm_mem_add__takes_as_many_as_a_map_has, 0, 2);
	tcase_add_loop_test(tc, kvm_msr__uses_no_memory_at_odd_addresses, 0, 2);
	tcase_add_loop_test(tc, kvm_mem_add__refuses_an_overlap, 0, 2);
	tcase_add_test(tc, kvm_msr__marks_what_it_writes);
	tc = vmbus_test_case(suite, "deliver", 10);
	tcase_add_loop_test(tc, kvm_post__waits_for_the_slot, 0, 2);
	tcase_add_loop_test(tc, kvm_post__looks_again, 0, 2);
	tcase_add_test(tc, kvm_add_vcpu__without_room_to_listen);
	tcase_add_loop_test(tc, kvm_raise__interrupts_once, 0, 2);
	tcase_add_loop_test(tc, kvm_bind__takes_ids_that_have_a_port, 0, 2);
}

VMBUS_TEST_MAIN("kvm.msr", tests)
