/* SPDX-License-Identifier: MIT */
/* The ACPI tables: sums and links here; the byte code by ACPICA's disassembler where there is one. */
#define _GNU_SOURCE
#include "vmm_test.h"

static uint8_t tables[VMM_ACPI_BYTES];

static uint8_t sum(const uint8_t *at, uint64_t bytes)
{
	uint8_t total = 0;

	while (bytes--)
		total = (uint8_t)(total + *at++);
	return total;
}

/* A table at an address that another one names: inside, with the right name and sum. */
static const uint8_t *table(uint64_t gpa, const char *signature)
{
	const uint8_t *const at = tables + (gpa - VMM_ACPI);

	ck_assert_uint_ge(gpa, VMM_ACPI);
	ck_assert_uint_le(gpa, VMM_ACPI + VMM_ACPI_BYTES - 36);
	ck_assert_mem_eq(at, signature, 4);
	ck_assert_uint_le(get_le(at + 4, 4), VMM_ACPI_BYTES - (gpa - VMM_ACPI));
	ck_assert_uint_eq(sum(at, get_le(at + 4, 4)), 0);
	return at;
}

static const uint8_t *listed(uint32_t index, const char *signature)
{
	const uint8_t *const xsdt = table(get_le(tables + 24, 8), "XSDT");

	ck_assert_uint_eq(get_le(xsdt + 4, 4), 36 + 16);
	return table(get_le(xsdt + 36 + 8 * index, 8), signature);
}

static const uint8_t *dsdt(void)
{
	return table(get_le(listed(0, "FACP") + 140, 8), "DSDT");
}

START_TEST(acpi_write__links_and_sums_are_right)
{
	const uint8_t *fadt;

	ck_assert_uint_gt(vmm_acpi_write(tables, sizeof(tables), 3, 512 * MIB), 0);
	ck_assert_mem_eq(tables, "RSD PTR ", 8);
	ck_assert_uint_eq(sum(tables, 20), 0);
	ck_assert_uint_eq(sum(tables, 36), 0);
	fadt = listed(0, "FACP");
	ck_assert_uint_eq(get_le(fadt + 4, 4), 276);
	ck_assert_uint_eq(fadt[8], 6);
	/* Reduced hardware, reset register; no keyboard controller, no VGA, but a CMOS clock. */
	ck_assert_uint_eq(get_le(fadt + 112, 4), 1u << 20 | 1u << 10);
	ck_assert_uint_eq(get_le(fadt + 109, 2), 4);
	ck_assert_uint_eq(get_le(fadt + 116 + 4, 8), VMM_PORT_POWER);
	ck_assert_uint_eq(fadt[128], 1);
	ck_assert_uint_eq(get_le(fadt + 244 + 4, 8), VMM_PORT_POWER);
	ck_assert_uint_eq(get_le(fadt + 256 + 4, 8), VMM_PORT_POWER);
	dsdt();
}
END_TEST

START_TEST(acpi_write__tells_every_processor)
{
	const uint8_t *madt;
	uint32_t i;

	ck_assert_uint_gt(vmm_acpi_write(tables, sizeof(tables), VMM_CPUS_MAX, 512 * MIB), 0);
	madt = listed(1, "APIC");
	ck_assert_uint_eq(get_le(madt + 36, 4), 0xFEE00000);
	ck_assert_uint_eq(get_le(madt + 40, 4), 0); /* no 8259 */
	for (i = 0; i < VMM_CPUS_MAX; i++) {
		const uint8_t *const e = madt + 44 + 8 * i;

		ck_assert_uint_eq(e[0], 0);
		ck_assert_uint_eq(e[1], 8);
		ck_assert_uint_eq(e[2], i);
		ck_assert_uint_eq(e[3], i);
		ck_assert_uint_eq(get_le(e + 4, 4), 1);
	}
	ck_assert_uint_eq(madt[44 + 8 * i], 1);
	ck_assert_uint_eq(madt[44 + 8 * i + 12], 4);
}
END_TEST

START_TEST(acpi_write__says_when_there_is_no_room)
{
	static uint8_t clean[VMM_ACPI_BYTES];
	const uint32_t need = vmm_acpi_write(clean, sizeof(clean), 1, 512 * MIB);
	uint32_t room;

	for (room = 0; room < need; room++) {
		memset(tables, 0, sizeof(tables));
		memset(tables + room, 0xAA, 64);
		ck_assert_uint_eq(vmm_acpi_write(tables, room, 1, 512 * MIB), 0);
		ck_assert_uint_eq(tables[room], 0xAA);
	}
}
END_TEST

/* What the disassembler makes of a table; false: there is none. */
static bool disassemble(const char *name, const uint8_t *at, char *text, size_t room)
{
	char command[512];
	const char *const path = make_file(name, at, get_le(at + 4, 4));
	size_t n;
	FILE *pipe;

	if (system("command -v iasl >/dev/null 2>&1") != 0)
		return false;
	(void)snprintf(command, sizeof(command),
		       "cp %s %s.aml; iasl -d %s.aml 2>&1; cat %s.dsl; rm -f %s %s.*", path, path,
		       path, path, path, path);
	pipe = popen(command, "re");
	ck_assert_ptr_nonnull(pipe);
	n = fread(text, 1, room - 1, pipe);
	text[n] = 0;
	pclose(pipe);
	return true;
}

static void clean_iasl(const char *test, const uint8_t *at, const char *name,
		       const char *const *wanted)
{
	static char text[1 << 16];

	if (!disassemble(name, at, text, sizeof(text))) {
		vmbus_test_skip(test, "no iasl (Debian: acpica-tools)");
		return;
	}
	ck_assert_msg(!strstr(text, "rror"), "%s", text);
	ck_assert_msg(!strstr(text, "arning"), "%s", text);
	for (; *wanted; wanted++)
		ck_assert_msg(strstr(text, *wanted) != NULL, "no %s in: %s", *wanted, text);
}

START_TEST(acpi_write__the_dsdt_says_what_linux_looks_for)
{
	static const char *const wanted[] = { "Name (_S5, Package (0x04)",
					      "Device (VMOD)",
					      "\"ACPI0004\"",
					      "Device (VMBS)",
					      "\"VMBus\"",
					      "Return (0x0F)",
					      "EisaId (\"PNP0501\")",
					      "0x03F8,",
					      "Interrupt (ResourceConsumer, Edge, ActiveHigh, "
					      "Exclusive",
					      "0xF8000000,",
					      "0xFEBFFFFF,",
					      "DWordMemory (ResourceProducer",
					      NULL };

	ck_assert_uint_gt(vmm_acpi_write(tables, sizeof(tables), 2, 512 * MIB), 0);
	clean_iasl(__func__, dsdt(), "dsdt", wanted);
}
END_TEST

START_TEST(acpi_write__the_fadt_is_well_formed)
{
	static const char *const facp[] = { "Hardware Reduced (V5) : 1",
					    "Reset Register Supported (V2) : 1", NULL };

	ck_assert_uint_gt(vmm_acpi_write(tables, sizeof(tables), 2, 512 * MIB), 0);
	clean_iasl(__func__, listed(0, "FACP"), "facp", facp);
}
END_TEST

START_TEST(acpi_write__the_madt_is_well_formed)
{
	static const char *const apic[] = { "[I/O APIC]", "[Local APIC NMI]", NULL };

	ck_assert_uint_gt(vmm_acpi_write(tables, sizeof(tables), 2, 512 * MIB), 0);
	clean_iasl(__func__, listed(1, "APIC"), "apic", apic);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "acpi", 30);

	tcase_add_test(tc, acpi_write__links_and_sums_are_right);
	tcase_add_test(tc, acpi_write__tells_every_processor);
	tcase_add_test(tc, acpi_write__says_when_there_is_no_room);
	tcase_add_test(tc, acpi_write__the_dsdt_says_what_linux_looks_for);
	tcase_add_test(tc, acpi_write__the_fadt_is_well_formed);
	tcase_add_test(tc, acpi_write__the_madt_is_well_formed);
}

VMBUS_TEST_MAIN("vmm.acpi", tests)
