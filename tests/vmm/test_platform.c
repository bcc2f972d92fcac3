/* SPDX-License-Identifier: MIT */
/* The serial port, CMOS, power and reset ports, and the topology that CPUID tells. */
#define _GNU_SOURCE
#include "vmm_test.h"

static struct vmm_platform p;
static unsigned int irq_level, irq_rises, wakes;

static void irq(void *ctx, bool level)
{
	(void)ctx;
	irq_rises += level && !irq_level;
	irq_level = level;
}

static void wake(void *ctx)
{
	(void)ctx;
	wakes++;
}

static void setup(void)
{
	vmm_platform_init(&p);
	p.serial.irq = irq;
	p.serial.wake = wake;
}

static uint8_t in(uint32_t reg)
{
	return (uint8_t)vmm_port_in(&p, (uint16_t)(VMM_SERIAL_PORT + reg), 1);
}

static void out(uint32_t reg, uint8_t value)
{
	vmm_port_out(&p, (uint16_t)(VMM_SERIAL_PORT + reg), value);
}

START_TEST(serial__looks_like_a_16550a)
{
	setup();
	out(1, 0xff);
	ck_assert_uint_eq(in(1), 0x0f);
	out(1, 0);
	out(7, 0x5a);
	ck_assert_uint_eq(in(7), 0x5a);
	out(2, 1);
	ck_assert_uint_eq(in(2), 0xc1);
	ck_assert_uint_eq(in(5), 0x60);
	ck_assert_uint_eq(in(6), 0xb0);
	out(3, 0x80);
	out(0, 1);
	out(1, 2);
	ck_assert_uint_eq(in(0), 1);
	ck_assert_uint_eq(in(1), 2);
	out(3, 3);
	ck_assert_uint_eq(in(3), 3);
	ck_assert_uint_eq(wakes, 0);
}
END_TEST

START_TEST(serial__loops_back)
{
	setup();
	out(4, 0x1f);
	out(0, 'x');
	ck_assert_uint_eq(in(5) & 1, 1);
	ck_assert_uint_eq(in(0), 'x');
	ck_assert_uint_eq(in(6), 0xf0);
	ck_assert_uint_eq(wakes, 0);
	out(4, 0x1a); /* what Linux tries: RTS and OUT2 */
	ck_assert_uint_eq(in(6), 0x90);
}
END_TEST

START_TEST(serial__writes_in_order_and_wakes_once)
{
	uint8_t text[8];

	setup();
	out(0, 'a');
	out(0, 'b');
	ck_assert_uint_eq(wakes, 1);
	ck_assert_uint_eq(vmm_serial_output(&p.serial, text, sizeof(text)), 2);
	ck_assert_mem_eq(text, "ab", 2);
	out(0, 'c');
	ck_assert_uint_eq(wakes, 2);
}
END_TEST

START_TEST(serial__interrupts_for_output)
{
	setup();
	out(1, 2);
	ck_assert_uint_eq(irq_level, 1);
	ck_assert_uint_eq(in(2), 2); /* empty; telling it ends it */
	ck_assert_uint_eq(irq_level, 0);
	ck_assert_uint_eq(in(2), 1);
	out(0, 'a');
	ck_assert_uint_eq(irq_level, 1);
	ck_assert_uint_eq(irq_rises, 2);
}
END_TEST

START_TEST(serial__interrupts_for_input)
{
	setup();
	out(1, 1);
	ck_assert_uint_eq(irq_level, 0);
	vmm_serial_input(&p.serial, (const uint8_t *)"hi", 2);
	ck_assert_uint_eq(irq_level, 1);
	ck_assert_uint_eq(in(2), 4);
	ck_assert_uint_eq(in(0), 'h');
	ck_assert_uint_eq(irq_level, 1);
	ck_assert_uint_eq(in(0), 'i');
	ck_assert_uint_eq(irq_level, 0);
	ck_assert_uint_eq(in(5) & 1, 0);
	ck_assert_uint_eq(in(0), 0);
}
END_TEST

START_TEST(serial__takes_no_more_than_it_has_room_for)
{
	uint8_t bytes[100] = { 0 };

	setup();
	ck_assert_uint_eq(vmm_serial_room(&p.serial), VMM_SERIAL_IN);
	vmm_serial_input(&p.serial, bytes, sizeof(bytes));
	ck_assert_uint_eq(vmm_serial_room(&p.serial), 0);
	out(2, 3); /* empties the input */
	ck_assert_uint_eq(vmm_serial_room(&p.serial), VMM_SERIAL_IN);
}
END_TEST

START_TEST(serial__a_terminal_that_stands_still_drops_and_counts)
{
	static uint8_t text[VMM_SERIAL_OUT];
	uint32_t i;

	setup();
	for (i = 0; i < VMM_SERIAL_OUT - 17; i++)
		out(0, 'a');
	ck_assert_uint_eq(in(5), 0x60);
	out(0, 'a');
	ck_assert_uint_eq(in(5), 0); /* busy, with 16 places left for who does not look */
	for (i = 0; i < 26; i++)
		out(0, 'b');
	ck_assert_uint_eq(p.serial.dropped, 10);
	out(1, 2);
	ck_assert_uint_eq(irq_level, 0);
	ck_assert_uint_eq(vmm_serial_output(&p.serial, text, sizeof(text)), VMM_SERIAL_OUT);
	ck_assert_uint_eq(irq_level, 1); /* it may go on */
	ck_assert_uint_eq(in(5), 0x60);
}
END_TEST

START_TEST(serial__reset_forgets_all_but_output)
{
	uint8_t text[4];

	setup();
	out(1, 3);
	out(7, 1);
	out(0, 'z');
	vmm_serial_input(&p.serial, (const uint8_t *)"q", 1);
	vmm_serial_reset(&p.serial);
	ck_assert_uint_eq(irq_level, 0);
	ck_assert_uint_eq(in(1), 0);
	ck_assert_uint_eq(in(7), 0);
	ck_assert_uint_eq(in(5), 0x60);
	ck_assert_uint_eq(vmm_serial_output(&p.serial, text, sizeof(text)), 1);
}
END_TEST

START_TEST(cmos__tells_the_time)
{
	const int64_t t = 1795257296; /* Saturday, 2026-11-21 10:34:56 UTC */

	ck_assert_uint_eq(vmm_cmos(0x00, t), 0x56);
	ck_assert_uint_eq(vmm_cmos(0x02, t), 0x34);
	ck_assert_uint_eq(vmm_cmos(0x04, t), 0x10);
	ck_assert_uint_eq(vmm_cmos(0x06, t), 7);
	ck_assert_uint_eq(vmm_cmos(0x07, t), 0x21);
	ck_assert_uint_eq(vmm_cmos(0x08, t), 0x11);
	ck_assert_uint_eq(vmm_cmos(0x09, t), 0x26);
	ck_assert_uint_eq(vmm_cmos(0x32, t), 0x20);
	ck_assert_uint_eq(vmm_cmos(0x0a, t) & 0x80, 0);
	ck_assert_uint_eq(vmm_cmos(0x0b, t), 2);
	ck_assert_uint_eq(vmm_cmos(0x0d, t), 0x80);
	ck_assert_uint_eq(vmm_cmos(0x40, t), 0);
}
END_TEST

START_TEST(ports__cmos_is_reached_by_its_index)
{
	setup();
	vmm_port_out(&p, 0x70, 0x8d); /* the high bit masks NMIs */
	ck_assert_uint_eq(vmm_port_in(&p, 0x71, 1), 0x80);
	ck_assert_uint_eq(vmm_port_in(&p, 0x70, 1), 0x8d);
	ck_assert_int_eq(vmm_port_out(&p, 0x71, 0), VMM_PORT_NONE);
}
END_TEST

static const struct {
	uint16_t port;
	uint32_t value;
	enum vmm_port_event event;
} events[] = {
	{ 0x600, 0x34, VMM_PORT_OFF },	 { 0x600, 1, VMM_PORT_RESET },
	{ 0x600, 0x30, VMM_PORT_NONE },	 { 0x64, 0xfe, VMM_PORT_RESET },
	{ 0x64, 0xd1, VMM_PORT_NONE },	 { 0xcf9, 6, VMM_PORT_RESET },
	{ 0xcf9, 0x0e, VMM_PORT_RESET }, { 0xcf9, 2, VMM_PORT_NONE },
	{ 0x604, 7, VMM_PORT_MARKED },	 { 0x80, 1, VMM_PORT_NONE },
};

START_TEST(ports__know_power_and_reset)
{
	setup();
	ck_assert_int_eq(vmm_port_out(&p, events[_i].port, events[_i].value), events[_i].event);
}
END_TEST

START_TEST(ports__where_nothing_is_reads_are_ones)
{
	setup();
	ck_assert_uint_eq(vmm_port_in(&p, 0xcf8, 4), 0xffffffff);
	ck_assert_uint_eq(vmm_port_in(&p, 0xcfc, 2), 0xffff);
	ck_assert_uint_eq(vmm_port_in(&p, 0x2f8 + 5, 1), 0xff);
	ck_assert_uint_eq(vmm_port_in(&p, 0x60, 1), 0xff);
	ck_assert_uint_eq(vmm_port_in(&p, 0x3fd, 2), 0xff60);
	vmm_port_out(&p, 0x80, 0);
	ck_assert_uint_eq(p.unclaimed, 5);
	ck_assert_uint_eq(vmm_port_in(&p, 0x600, 1), 0); /* awake */
}
END_TEST

static const struct kvm_cpuid_entry2 *leaf(const struct kvm_cpuid_entry2 *e, uint32_t count,
					   uint32_t function, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (e[i].function == function && e[i].index == index)
			return &e[i];
	return NULL;
}

START_TEST(cpuid_for__tells_one_package_of_cores)
{
	struct kvm_cpuid_entry2 e[16] = {
		{ .function = 0, .eax = 0x1f },
		{ .function = 1, .ebx = 0x33221100 },
		{ .function = 4, .index = 0, .eax = 0xffffc121 },
		{ .function = 0xb, .index = 0, .edx = 99 },
		{ .function = 0x80000008, .ecx = 0x7007, .eax = 0x3030 },
		{ .function = 0x8000001e, .eax = 5 },
	};
	const uint32_t count = vmm_cpuid_for(e, 6, 5, 6);

	ck_assert_uint_eq(count, 5 + 6);
	ck_assert_uint_eq(leaf(e, count, 1, 0)->ebx, 5u << 24 | 8u << 16 | 0x1100);
	ck_assert_uint_ne(leaf(e, count, 1, 0)->edx & 1u << 28, 0);
	ck_assert_uint_eq(leaf(e, count, 4, 0)->eax >> 26, 7);
	ck_assert_uint_eq(leaf(e, count, 0xb, 0)->ebx, 1);
	ck_assert_uint_eq(leaf(e, count, 0xb, 0)->edx, 5);
	ck_assert_uint_eq(leaf(e, count, 0xb, 1)->eax, 3);
	ck_assert_uint_eq(leaf(e, count, 0xb, 1)->ebx, 6);
	ck_assert_uint_eq(leaf(e, count, 0xb, 1)->ecx, 0x201);
	ck_assert_uint_eq(leaf(e, count, 0x1f, 2)->ecx, 2);
	ck_assert_uint_eq(leaf(e, count, 0x80000008, 0)->ecx, 3u << 12 | 5);
	ck_assert_uint_eq(leaf(e, count, 0x8000001e, 0)->eax, 5);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "platform", 10);

	tcase_add_test(tc, serial__looks_like_a_16550a);
	tcase_add_test(tc, serial__loops_back);
	tcase_add_test(tc, serial__writes_in_order_and_wakes_once);
	tcase_add_test(tc, serial__interrupts_for_output);
	tcase_add_test(tc, serial__interrupts_for_input);
	tcase_add_test(tc, serial__takes_no_more_than_it_has_room_for);
	tcase_add_test(tc, serial__a_terminal_that_stands_still_drops_and_counts);
	tcase_add_test(tc, serial__reset_forgets_all_but_output);
	tcase_add_test(tc, cmos__tells_the_time);
	tcase_add_test(tc, ports__cmos_is_reached_by_its_index);
	tcase_add_loop_test(tc, ports__know_power_and_reset, 0,
			    (int)(sizeof(events) / sizeof(events[0])));
	tcase_add_test(tc, ports__where_nothing_is_reads_are_ones);
	tcase_add_test(tc, cpuid_for__tells_one_package_of_cores);
}

VMBUS_TEST_MAIN("vmm.platform", tests)
