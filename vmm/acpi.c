/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables of a machine with reduced hardware: RSDP, XSDT, FADT, MADT, DSDT.  The DSDT has what
 * Linux's VMBus driver looks for, the serial port, and the sleep state of a machine that is off.
 * Source: ACPI specification 6.4.
 */
#include "vmm.h"

#include <cpuid.h>
#include <string.h>

#define HEADER 36u
#define FADT_BYTES 276u
#define TABLES_ALIGN 16u

struct out {
	uint8_t *at;
	uint32_t room, used;
};

static void put(uint8_t *at, uint64_t value, uint32_t bytes)
{
	while (bytes--) {
		*at++ = (uint8_t)value;
		value >>= 8;
	}
}

static uint8_t sum(const uint8_t *at, uint32_t bytes)
{
	uint8_t total = 0;

	while (bytes--)
		total = (uint8_t)(total + *at++);
	return total;
}

static void header(uint8_t *at, const char *signature, uint32_t bytes, uint8_t revision)
{
	memcpy(at, signature, 4);
	put(at + 4, bytes, 4);
	at[8] = revision;
	memcpy(at + 10, "VMBUS ", 6);
	memcpy(at + 16, "VMBUSVMM", 8);
	put(at + 24, 1, 4);
	memcpy(at + 28, "VMBS", 4);
	put(at + 32, 1, 4);
	at[9] = (uint8_t)-sum(at, bytes);
}

/* Room for a table; NULL: none.  Memory is zero. */
static uint8_t *take(struct out *out, uint32_t bytes)
{
	uint8_t *const at = out->at + out->used;

	bytes = (bytes + TABLES_ALIGN - 1) & ~(TABLES_ALIGN - 1);
	if (bytes > out->room - out->used)
		return NULL;
	out->used += bytes;
	return at;
}

/* ---- DSDT ---- */

static uint64_t address_end(void)
{
	uint32_t a = 0, b, c, d;

	if (!__get_cpuid(0x80000008, &a, &b, &c, &d) || (a & 0xff) < 36)
		return UINT64_C(1) << 36;
	return UINT64_C(1) << ((a & 0xff) < 46 ? (a & 0xff) : 46);
}

/* A window above memory, if the processor's addresses reach that far. */
static void high_window(struct vmm_aml *aml, uint64_t memory_top)
{
	const uint64_t bytes = 4 * GIB;
	uint64_t start = memory_top < 4 * GIB ? 4 * GIB : memory_top;

	start = (start + GIB - 1) & ~(GIB - 1);
	if (bytes <= address_end() && start <= address_end() - bytes)
		vmm_aml_memory64(aml, start, bytes);
}

static void status_present(struct vmm_aml *aml)
{
	const uint32_t method = vmm_aml_method(aml, "_STA");

	vmm_aml_byte(aml, 0xA4); /* return */
	vmm_aml_integer(aml, 0xF);
	vmm_aml_end(aml, method);
}

/* As Hyper-V has it: the windows belong to a module, the bus is a device in it. */
static void vmbus_device(struct vmm_aml *aml, uint64_t memory_top)
{
	const uint32_t module = vmm_aml_device(aml, "VMOD");
	uint32_t device, crs;

	vmm_aml_name(aml, "_HID");
	vmm_aml_string(aml, "ACPI0004");
	vmm_aml_name(aml, "_UID");
	vmm_aml_integer(aml, 0);
	crs = vmm_aml_crs(aml);
	vmm_aml_memory32(aml, VMM_MMIO_LOW, VMM_MMIO_LOW_BYTES);
	high_window(aml, memory_top);
	vmm_aml_crs_end(aml, crs);
	device = vmm_aml_device(aml, "VMBS");
	vmm_aml_name(aml, "_HID");
	vmm_aml_string(aml, "VMBus");
	vmm_aml_name(aml, "_UID");
	vmm_aml_integer(aml, 0);
	status_present(aml);
	crs = vmm_aml_crs(aml);
	vmm_aml_crs_end(aml, crs);
	vmm_aml_end(aml, device);
	vmm_aml_end(aml, module);
}

static void serial_device(struct vmm_aml *aml)
{
	const uint32_t device = vmm_aml_device(aml, "COM1");
	uint32_t crs;

	vmm_aml_name(aml, "_HID");
	vmm_aml_eisa(aml, "PNP0501");
	vmm_aml_name(aml, "_UID");
	vmm_aml_integer(aml, 0);
	status_present(aml);
	crs = vmm_aml_crs(aml);
	vmm_aml_io(aml, VMM_SERIAL_PORT, 8);
	vmm_aml_irq(aml, VMM_SERIAL_IRQ);
	vmm_aml_crs_end(aml, crs);
	vmm_aml_end(aml, device);
}

static uint32_t dsdt(struct out *out, uint64_t memory_top)
{
	struct vmm_aml aml = { out->at + out->used, out->room - out->used, HEADER, false };
	uint32_t place;

	if (aml.room < HEADER)
		return 0;
	vmm_aml_name(&aml, "_S5_");
	place = vmm_aml_package(&aml, 4);
	vmm_aml_integer(&aml, 5);
	vmm_aml_integer(&aml, 5);
	vmm_aml_integer(&aml, 0);
	vmm_aml_integer(&aml, 0);
	vmm_aml_end(&aml, place);
	place = vmm_aml_scope(&aml, "_SB_");
	vmbus_device(&aml, memory_top);
	serial_device(&aml);
	vmm_aml_end(&aml, place);
	if (aml.full)
		return 0;
	header(aml.buf, "DSDT", aml.used, 2);
	return take(out, aml.used) ? aml.used : 0;
}

/* ---- the other tables ---- */

static void generic_port(uint8_t *at, uint16_t port)
{
	at[0] = 1; /* an I/O port */
	at[1] = 8; /* bits */
	at[3] = 1; /* bytes at a time */
	put(at + 4, port, 8);
}

static void fadt(uint8_t *at, uint64_t dsdt_gpa)
{
	put(at + 40, dsdt_gpa, 4);
	at[108] = 0x32;			       /* the century in CMOS */
	put(at + 109, 1u << 2, 2);	       /* no VGA, no i8042; CMOS clock is there */
	put(at + 112, 1u << 20 | 1u << 10, 4); /* reduced hardware, reset register */
	generic_port(at + 116, VMM_PORT_POWER);
	at[128] = 1;
	at[131] = 4; /* minor version */
	put(at + 140, dsdt_gpa, 8);
	generic_port(at + 244, VMM_PORT_POWER);
	generic_port(at + 256, VMM_PORT_POWER);
	memcpy(at + 268, "VMBUSVMM", 8);
	header(at, "FACP", FADT_BYTES, 6);
}

static uint32_t madt_bytes(uint32_t cpus)
{
	return 44 + 8 * cpus + 12 + 6;
}

static void madt(uint8_t *at, uint32_t cpus)
{
	uint8_t *entry = at + 44;
	uint32_t i;

	put(at + 36, 0xFEE00000, 4);
	for (i = 0; i < cpus; i++, entry += 8) {
		entry[1] = 8;
		entry[2] = (uint8_t)i;
		entry[3] = (uint8_t)i;
		put(entry + 4, 1, 4);
	}
	entry[0] = 1; /* the I/O APIC */
	entry[1] = 12;
	put(entry + 4, 0xFEC00000, 4);
	entry += 12;
	entry[0] = 4; /* NMI: input 1 of every local APIC */
	entry[1] = 6;
	entry[2] = 0xff;
	entry[5] = 1;
	header(at, "APIC", madt_bytes(cpus), 5);
}

static void rsdp(uint8_t *at, uint64_t xsdt_gpa)
{
	memcpy(at, "RSD PTR ", 8);
	memcpy(at + 9, "VMBUS ", 6);
	at[15] = 2;
	put(at + 20, 36, 4);
	put(at + 24, xsdt_gpa, 8);
	at[8] = (uint8_t)-sum(at, 20);
	at[32] = (uint8_t)-sum(at, 36);
}

uint32_t vmm_acpi_write(uint8_t *at, uint32_t room, uint32_t cpus, uint64_t memory_top)
{
	struct out out = { at, room, 0 };
	uint8_t *const root = take(&out, 36);
	uint8_t *const xsdt = take(&out, HEADER + 16);
	uint8_t *const fixed = take(&out, FADT_BYTES);
	uint8_t *const apics = take(&out, madt_bytes(cpus));
	const uint64_t dsdt_gpa = VMM_ACPI + out.used;

	if (!root || !xsdt || !fixed || !apics || !dsdt(&out, memory_top))
		return 0;
	fadt(fixed, dsdt_gpa);
	madt(apics, cpus);
	put(xsdt + HEADER, VMM_ACPI + (uint64_t)(fixed - at), 8);
	put(xsdt + HEADER + 8, VMM_ACPI + (uint64_t)(apics - at), 8);
	header(xsdt, "XSDT", HEADER + 16, 1);
	rsdp(root, VMM_ACPI + (uint64_t)(xsdt - at));
	return out.used;
}
