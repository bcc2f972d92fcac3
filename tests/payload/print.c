/* SPDX-License-Identifier: MIT */
/*
 * Lines on the serial port, and the end of the program.  Each character is an exit to user space, so
 * nothing is printed while packets are counted.
 */
#include "payload.h"

#define POWER_OFF 0x34u /* ACPI sleep control: S5, enabled */

void print_text(const char *text)
{
	for (; *text; text++)
		out8(PORT_SERIAL, (uint8_t)*text);
}

void print_number(uint64_t value)
{
	char digits[21];
	uint32_t at = sizeof(digits) - 1;

	digits[at] = '\0';
	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	print_text(&digits[at]);
}

void print_hex(uint64_t value)
{
	static const char digits[] = "0123456789abcdef";
	int shift;

	print_text("0x");
	for (shift = 60; shift > 0 && !(value >> shift); shift -= 4)
		;
	for (; shift >= 0; shift -= 4)
		out8(PORT_SERIAL, (uint8_t)digits[value >> shift & 15]);
}

void say_text(const char *key, const char *text)
{
	print_text("payload: ");
	print_text(key);
	print_text(" ");
	print_text(text);
	print_text("\n");
}

void say(const char *key, uint64_t value)
{
	print_text("payload: ");
	print_text(key);
	print_text(" ");
	print_number(value);
	print_text("\n");
}

static void power_off(void) __attribute__((noreturn));
static void power_off(void)
{
	for (;;) {
		out8(PORT_POWER, POWER_OFF);
		__asm__ volatile("cli; hlt");
	}
}

void fail(const char *why, const char *detail)
{
	print_text("payload: FAILED ");
	print_text(why);
	if (detail) {
		print_text(": ");
		print_text(detail);
	}
	print_text("\n");
	power_off();
}

void fail_number(const char *why, uint64_t number)
{
	print_text("payload: FAILED ");
	print_text(why);
	print_text(": ");
	print_hex(number);
	print_text("\n");
	power_off();
}

void end_well(void)
{
	print_text("payload: ok\n");
	power_off();
}
