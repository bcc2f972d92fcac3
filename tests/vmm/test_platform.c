/* SPDX-License-Identifier: MIT */
/* The serial port, CMOS, power and reset ports, and the topology that CPUID tells. */
#define _GNU_SOURCE
#include "vmm_test.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

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

/* Saved while there is no room: the room that it has then is told. */
START_TEST(serial_restore__tells_who_waits_for_room)
{
	struct vmm_saved_platform state = { 0 };
	uint32_t i;

	setup();
	out(1, 2);
	for (i = 0; i < VMM_SERIAL_OUT; i++)
		out(0, 'a');
	ck_assert_uint_eq(irq_level, 0);
	vmm_serial_save(&p.serial, &state);
	setup();
	irq_rises = 0;
	vmm_serial_restore(&p.serial, &state);
	ck_assert_uint_eq(in(5), 0x60);
	ck_assert_uint_eq(irq_rises, 1);
	ck_assert_uint_eq(in(2), 2);
	ck_assert_uint_eq(irq_level, 0);
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

START_TEST(cpuid_for__tells_ids_past_128_cpus)
{
	static const uint32_t cases[][2] = { { 129, 128 }, { 200, 199 }, { 254, 253 } };
	const uint32_t cpus = cases[_i][0], cpu = cases[_i][1];
	struct kvm_cpuid_entry2 e[12] = {
		{ .function = 0, .eax = 0x1f },
		{ .function = 1 },
		{ .function = 4, .index = 0, .eax = 0x121 },
		{ .function = 0x80000008 },
		{ .function = 0x8000001e },
	};
	const uint32_t count = vmm_cpuid_for(e, 5, cpu, cpus);

	ck_assert_uint_eq(leaf(e, count, 1, 0)->ebx, cpu << 24 | 0xFFu << 16);
	ck_assert_uint_eq(leaf(e, count, 4, 0)->eax >> 26, 63); /* it has no room for more */
	ck_assert_uint_eq(leaf(e, count, 0xb, 0)->edx, cpu);
	ck_assert_uint_eq(leaf(e, count, 0xb, 1)->edx, cpu);
	ck_assert_uint_eq(leaf(e, count, 0xb, 1)->eax, 8);
	ck_assert_uint_eq(leaf(e, count, 0xb, 1)->ebx, cpus);
	ck_assert_uint_eq(leaf(e, count, 0x80000008, 0)->ecx, 8u << 12 | (cpus - 1));
	ck_assert_uint_eq(leaf(e, count, 0x8000001e, 0)->eax, cpu);
}
END_TEST

/* Their state is neither reset nor saved. */
START_TEST(cpuid_for__offers_no_virtualization)
{
	struct kvm_cpuid_entry2 e[8] = {
		{ .function = 1, .ecx = UINT32_MAX },
		{ .function = 0x80000001, .ecx = UINT32_MAX, .edx = UINT32_MAX },
		{ .function = 0x8000000a, .eax = 1, .ebx = 2, .ecx = 3, .edx = 4 },
	};
	const uint32_t count = vmm_cpuid_for(e, 3, 0, 1);

	ck_assert_uint_eq(leaf(e, count, 1, 0)->ecx, ~(1u << 5));
	ck_assert_uint_eq(leaf(e, count, 0x80000001, 0)->ecx, ~(1u << 2));
	ck_assert_uint_eq(leaf(e, count, 0x80000001, 0)->edx, UINT32_MAX);
	ck_assert_uint_eq(leaf(e, count, 0x8000000a, 0)->eax, 0);
	ck_assert_uint_eq(leaf(e, count, 0x8000000a, 0)->edx, 0);
}
END_TEST

/* ---- the console, between vCPUs and the terminal ---- */

static struct vmm m;

static void wakes_main(void *ctx)
{
	(void)ctx;
	vmm_ask(&m, VMM_ASK_OUTPUT);
}

static void console_begin(int out_fd)
{
	memset(&m, 0, sizeof(m));
	vmm_platform_init(&m.platform);
	m.platform.serial.wake = wakes_main;
	pthread_mutex_init(&m.lock, NULL);
	m.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m.serial_fd = -1;
	m.out_fd = out_fd;
}

static void console_end(void)
{
	close(m.event_fd);
	close(m.out_fd);
}

static void guest_writes(uint32_t count)
{
	while (count--)
		vmm_port_out(&m.platform, VMM_SERIAL_PORT, 'x');
}

static bool is_asked(void)
{
	struct pollfd poll_event = { .fd = m.event_fd, .events = POLLIN };

	return poll(&poll_event, 1, 0) == 1;
}

START_TEST(bus_asks__a_byte_after_the_flush_is_written)
{
	int pipe_fds[2];
	char byte;

	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
	console_begin(pipe_fds[1]);
	vmm_console_flush(&m);
	guest_writes(1); /* it comes when this turn's flush is over: it will not come again */
	ck_assert(is_asked());
	vmm_bus_asks(&m);
	ck_assert_int_eq(read(pipe_fds[0], &byte, 1), 1);
	ck_assert(!is_asked());
	close(pipe_fds[0]);
	console_end();
}
END_TEST

/* Output that never makes us wait, and a guest that is as fast: the others have their turn. */
START_TEST(console_flush__ends_and_comes_back)
{
	console_begin(open("/dev/null", O_WRONLY | O_CLOEXEC));
	guest_writes(VMM_SERIAL_OUT);
	vmm_bus_asks(&m);
	/* 16 rounds of 4096 are all of it; a 17th looks whether there is more. */
	ck_assert(is_asked());
	ck_assert(!vmm_serial_waiting(&m.platform.serial));
	vmm_bus_asks(&m);
	ck_assert(!is_asked());
	guest_writes(VMM_SERIAL_OUT);
	vmm_console_drain(&m);
	ck_assert(!vmm_serial_waiting(&m.platform.serial));
	ck_assert_uint_eq(m.pending, 0);
	console_end();
}
END_TEST

/* A socket, and a pipe whose description others have: neither makes the main thread wait. */
START_TEST(console_flush__does_not_wait)
{
	int fds[2], before = dup(STDOUT_FILENO), n;
	uint64_t read_bytes = 0;
	static char text[1 << 16];

	if (_i)
		ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	else
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	console_begin(-1);
	dup2(fds[1], STDOUT_FILENO);
	ck_assert_int_eq(vmm_console_open(&m), 0);
	dup2(before, STDOUT_FILENO);
	if (_i) {
		close(m.out_fd);
		m.out_fd = fds[1];
		m.out_kind = VMM_OUT_SHARED;
	} else {
		ck_assert_int_eq(m.out_kind, VMM_OUT_SOCKET);
	}
	for (n = 0; n < 64 && !m.pending; n++) {
		guest_writes(VMM_SERIAL_OUT);
		vmm_console_flush(&m);
	}
	ck_assert_uint_gt(m.pending, 0); /* it is full, and we are here */
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	while (m.pending || vmm_serial_waiting(&m.platform.serial)) {
		const ssize_t got = read(fds[0], text, sizeof(text));

		read_bytes += got > 0 ? (uint64_t)got : 0;
		vmm_console_flush(&m);
	}
	ck_assert_uint_gt(read_bytes, 0);
	close(fds[0]);
	if (!_i)
		close(fds[1]);
	close(before);
	console_end();
}
END_TEST

/* A pipe whose reader stands still, and a file that may grow no more: neither keeps anybody. */
START_TEST(console_flush__goes_on_without_its_file)
{
	const char *const path = make_file("serial", "", 0);
	struct rlimit limit;
	int reader = -1, i;

	if (_i) {
		ck_assert_int_eq(unlink(path), 0);
		ck_assert_int_eq(mkfifo(path, 0600), 0);
		reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	console_begin(-1);
	m.opts.serial = path;
	ck_assert_int_eq(vmm_console_open(&m), 0);
	close(m.out_fd);
	m.out_fd = -1;
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = 6000;
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	listen_to_us();
	for (i = 0; i < 4; i++) {
		guest_writes(VMM_SERIAL_OUT / 2);
		vmm_console_drain(&m);
	}
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_FSIZE, &limit);
	ck_assert(!vmm_serial_waiting(&m.platform.serial));
	if (_i) {
		ck_assert_int_ge(m.serial_fd, 0);
		ck_assert_str_eq(what_we_said(), "");
	} else {
		ck_assert_int_eq(m.serial_fd, -1);
		ck_said("no more is written there: File too large");
	}
	vmm_console_close(&m);
	close(reader);
	unlink(path);
	close(m.event_fd);
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
	tcase_add_test(tc, serial_restore__tells_who_waits_for_room);
	tcase_add_test(tc, serial__reset_forgets_all_but_output);
	tcase_add_test(tc, cmos__tells_the_time);
	tcase_add_test(tc, ports__cmos_is_reached_by_its_index);
	tcase_add_loop_test(tc, ports__know_power_and_reset, 0,
			    (int)(sizeof(events) / sizeof(events[0])));
	tcase_add_test(tc, ports__where_nothing_is_reads_are_ones);
	tcase_add_test(tc, cpuid_for__tells_one_package_of_cores);
	tcase_add_loop_test(tc, cpuid_for__tells_ids_past_128_cpus, 0, 3);
	tcase_add_test(tc, cpuid_for__offers_no_virtualization);
	tcase_add_test(tc, bus_asks__a_byte_after_the_flush_is_written);
	tcase_add_test(tc, console_flush__ends_and_comes_back);
	tcase_add_loop_test(tc, console_flush__does_not_wait, 0, 2);
	tcase_add_loop_test(tc, console_flush__goes_on_without_its_file, 0, 2);
}

VMBUS_TEST_MAIN("vmm.platform", tests)
