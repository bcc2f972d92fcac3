/* SPDX-License-Identifier: MIT */
/*
 * The processor and what is around it: descriptor tables, page tables (the first 4 GiB, one to one),
 * the local APIC in x2APIC mode, faults that are survived, and where RAM is.
 */
#include "payload.h"

#define MSR_APIC_BASE 0x1Bu
#define APIC_X2 0xC00u /* enabled, in x2APIC mode */
#define MSR_X2_TPR 0x808u
#define MSR_X2_EOI 0x80Bu
#define MSR_X2_SVR 0x80Fu
#define MSR_X2_LVT_TIMER 0x832u
#define MSR_X2_TIMER_COUNT 0x838u
#define MSR_X2_TIMER_DIVIDE 0x83Eu
#define SVR_ENABLE 0x100u
#define VECTOR_SPURIOUS 0xFFu
#define VECTOR_TIMER 0xF0u
#define LVT_MASKED 0x10000u
#define TIMER_DIVIDE_16 3u
#define APIC_NS_MOST 1000000000ull

#define PAGE_PRESENT_WRITE 3u
#define PAGE_LARGE 0x80u
#define LARGE_BYTES 0x200000ull
#define FOUR_GIB 0x100000000ull

#define FAULT_GP 13u
/* Exceptions from 16 on do not happen here; a flood may have asked for interrupts of that number. */
#define FIRST_INTERRUPT 16u

/* Of the zero page. */
#define ZERO_E820_COUNT 0x1E8u
#define ZERO_CMDLINE 0x228u
#define ZERO_E820 0x2D0u
#define E820_BYTES 20u
#define E820_MAX 128u
#define E820_RAM 1u

struct gate {
	uint16_t low;
	uint16_t selector;
	uint8_t stack;
	uint8_t type;
	uint16_t middle;
	uint32_t high;
	uint32_t reserved;
};

struct pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

extern const uint8_t payload_stubs[], payload_end[];
extern const uint8_t payload_rdmsr_at[], payload_rdmsr_end[];
extern const uint8_t payload_wrmsr_at[], payload_wrmsr_end[];
extern const uint8_t payload_sleep_at[], payload_sleep_end[];
uint64_t payload_rdmsr(uint32_t msr, uint64_t *value);
uint64_t payload_wrmsr(uint32_t msr, uint64_t value);
void payload_sleep(void);
void payload_trap(struct frame *frame);

static uint64_t tables[6][512] __attribute__((aligned(4096)));
static struct gate idt[256] __attribute__((aligned(16)));
/* The selectors of the entry state: code at 0x10, data at 0x18. */
static uint64_t gdt[4]
	__attribute__((aligned(16))) = { 0, 0, 0x00AF9B000000FFFFull, 0x00CF93000000FFFFull };

static uint8_t own_vector;
static void (*own_handler)(void *ctx);
static void *own_ctx;
static volatile uint64_t strays, faults, early;

bool try_rdmsr(uint32_t msr, uint64_t *value)
{
	*value = 0;
	return payload_rdmsr(msr, value) != 0;
}

bool try_wrmsr(uint32_t msr, uint64_t value)
{
	return payload_wrmsr(msr, value) != 0;
}

static bool survive(struct frame *frame)
{
	if (frame->vector != FAULT_GP)
		return false;
	if (frame->rip == (uintptr_t)payload_rdmsr_at)
		frame->rip = (uintptr_t)payload_rdmsr_end;
	else if (frame->rip == (uintptr_t)payload_wrmsr_at)
		frame->rip = (uintptr_t)payload_wrmsr_end;
	else
		return false;
	frame->rax = 0;
	faults++;
	return true;
}

static void fault(const struct frame *frame)
{
	say("vector", frame->vector);
	say("error", frame->error);
	print_text("payload: rip ");
	print_hex(frame->rip);
	print_text("\npayload: rsp ");
	print_hex(frame->rsp);
	print_text("\n");
	fail("a fault that nobody expected", NULL);
}

void payload_trap(struct frame *frame)
{
	if (frame->vector < FIRST_INTERRUPT) {
		if (!survive(frame))
			fault(frame);
		return;
	}
	/*
	 * No processor takes an interrupt between "sti" and the instruction behind it.  An emulated one
	 * that leaves its guest at that place and comes back may: it forgets the shadow.  Then the
	 * sleep would begin after the interrupt that was to end it.
	 */
	if (frame->rip == (uintptr_t)payload_sleep_at) {
		frame->rip = (uintptr_t)payload_sleep_end;
		early++;
	}
	if (frame->vector == own_vector && own_handler)
		own_handler(own_ctx);
	else if (frame->vector != VECTOR_TIMER && frame->vector != VECTOR_SPURIOUS)
		strays++;
	if (frame->vector != VECTOR_SPURIOUS)
		(void)try_wrmsr(MSR_X2_EOI, 0);
}

static void map_all(void)
{
	uint32_t i;

	tables[0][0] = (uintptr_t)tables[1] | PAGE_PRESENT_WRITE;
	for (i = 0; i < 4; i++)
		tables[1][i] = (uintptr_t)tables[2 + i] | PAGE_PRESENT_WRITE;
	for (i = 0; i < 2048; i++)
		tables[2 + i / 512][i % 512] = i * LARGE_BYTES | PAGE_PRESENT_WRITE | PAGE_LARGE;
	__asm__ volatile("movq %0, %%cr3" : : "r"(&tables[0][0]) : "memory");
}

static void gates(void)
{
	const struct pointer gdtr = { sizeof(gdt) - 1, (uintptr_t)gdt };
	const struct pointer idtr = { sizeof(idt) - 1, (uintptr_t)idt };
	uint32_t i;

	for (i = 0; i < 256; i++) {
		const uint64_t at = (uintptr_t)payload_stubs + i * 32u;

		idt[i].low = (uint16_t)at;
		idt[i].selector = 0x10;
		idt[i].type = 0x8E;
		idt[i].middle = (uint16_t)(at >> 16);
		idt[i].high = (uint32_t)(at >> 32);
	}
	__asm__ volatile("lgdt %0" : : "m"(gdtr) : "memory");
	__asm__ volatile("lidt %0" : : "m"(idtr) : "memory");
}

static void apic(void)
{
	uint64_t base;

	if (!try_rdmsr(MSR_APIC_BASE, &base) || !try_wrmsr(MSR_APIC_BASE, base | APIC_X2))
		fail("no local APIC in x2APIC mode", NULL);
	(void)try_wrmsr(MSR_X2_TPR, 0);
	(void)try_wrmsr(MSR_X2_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
	(void)try_wrmsr(MSR_X2_TIMER_DIVIDE, TIMER_DIVIDE_16);
	(void)try_wrmsr(MSR_X2_SVR, SVR_ENABLE | VECTOR_SPURIOUS);
}

void machine_init(uint8_t vector, void (*on_vector)(void *ctx), void *ctx)
{
	own_vector = vector;
	own_handler = on_vector;
	own_ctx = ctx;
	map_all();
	gates();
	apic();
}

/* KVM's local APIC counts nanoseconds; another rate only makes the sleep longer or shorter. */
static void set_timer(uint64_t timeout_ns)
{
	const uint64_t ns = timeout_ns < APIC_NS_MOST ? timeout_ns : APIC_NS_MOST;

	(void)try_wrmsr(MSR_X2_LVT_TIMER, VECTOR_TIMER);
	(void)try_wrmsr(MSR_X2_TIMER_COUNT, ns / 16 + 1);
}

void machine_halt(void *ctx, uint64_t timeout_ns)
{
	const bool timed = timeout_ns != UINT64_MAX;

	(void)ctx;
	if (timed)
		set_timer(timeout_ns);
	payload_sleep();
	if (timed)
		(void)try_wrmsr(MSR_X2_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
}

void machine_interrupts(bool on)
{
	if (on)
		__asm__ volatile("sti" ::: "memory");
	else
		__asm__ volatile("cli" ::: "memory");
}

uint64_t machine_strays(void)
{
	return strays;
}

uint64_t machine_early(void)
{
	return early;
}

uint64_t machine_faults(void)
{
	return faults;
}

static uint64_t read64(const uint8_t *from)
{
	uint64_t v;

	__builtin_memcpy(&v, from, 8);
	return v;
}

bool machine_memory(const uint8_t *zero_page, uint8_t **base, size_t *bytes)
{
	const uint64_t first = (uintptr_t)payload_end;
	uint32_t count = zero_page[ZERO_E820_COUNT], i, type;
	uint64_t from, to;

	*bytes = 0;
	for (i = 0; i < count && i < E820_MAX; i++) {
		const uint8_t *const entry = zero_page + ZERO_E820 + (size_t)i * E820_BYTES;

		from = read64(entry);
		to = from + read64(entry + 8);
		__builtin_memcpy(&type, entry + 16, 4);
		if (type != E820_RAM || to < from)
			continue;
		from = from < first ? first : (from + 4095) & ~4095ull;
		to = (to > FOUR_GIB ? FOUR_GIB : to) & ~4095ull;
		if (to > from && to - from > *bytes) {
			*base = (uint8_t *)(uintptr_t)from;
			*bytes = (size_t)(to - from);
		}
	}
	return *bytes != 0;
}

const char *machine_command_line(const uint8_t *zero_page)
{
	uint32_t at;

	__builtin_memcpy(&at, zero_page + ZERO_CMDLINE, 4);
	return at ? (const char *)(uintptr_t)at : "";
}
