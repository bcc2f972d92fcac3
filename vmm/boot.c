/* SPDX-License-Identifier: MIT */
/*
 * What is in memory before the first instruction: the kernel, the initrd, the zero page with its
 * memory map, the command line, page tables that map 4 GiB onto themselves, and ACPI tables.
 * Source: Linux Documentation/arch/x86/boot.rst and zero-page.rst.
 */
#include "vmm.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define SETUP_HEADER 0x1f1u
#define E820_RAM 1u
#define E820_RESERVED 2u

/* Above this much there is a line for each quarter. */
#define PROGRESS_BYTES (64 * MIB)

static int load_file(int fd, uint64_t offset, uint8_t *to, uint64_t bytes)
{
	uint64_t done = 0;
	ssize_t n;

	while (done < bytes) {
		const uint64_t left = bytes - done;

		n = pread(fd, to + done, left < 16 * MIB ? left : 16 * MIB, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		if (bytes > PROGRESS_BYTES && done * 4 / bytes != (done + (uint64_t)n) * 4 / bytes)
			vmm_say("  %llu of %llu MB",
				(unsigned long long)((done + (uint64_t)n) / MIB),
				(unsigned long long)(bytes / MIB));
		done += (uint64_t)n;
	}
	return 0;
}

static uint64_t page_down(uint64_t address)
{
	return address & ~(uint64_t)(PAGE - 1);
}

static uint64_t page_up(uint64_t bytes)
{
	return page_down(bytes + PAGE - 1);
}

/* Where the initrd goes: as high as it may.  0: it does not fit. */
static uint64_t initrd_place(const struct vmm_image *image, const struct vmm_memory *mem)
{
	uint64_t top = page_down(mem->low_bytes);

	if (top > image->initrd_max)
		top = page_down(image->initrd_max + 1u);
	if (image->initrd_bytes > top || page_down(top - image->initrd_bytes) < image->end)
		return 0;
	return page_down(top - image->initrd_bytes);
}

static int load_kernel(const struct vmm_image *image, const struct vmm_memory *mem, bool progress)
{
	const struct vmm_segment *seg;
	uint8_t *to;
	uint32_t i;

	if (progress)
		vmm_say("loading kernel ... %llu MB",
			(unsigned long long)((image->kernel_bytes + MIB / 2) / MIB));
	for (i = 0; i < image->segment_count; i++) {
		seg = &image->segments[i];
		to = vmm_memory_at(mem, seg->gpa, seg->memory_bytes);
		if (!to)
			return vmm_error("--kernel %s: a segment does not fit", image->kernel);
		if (load_file(image->kernel_fd, seg->offset, to, seg->file_bytes))
			return vmm_error(
				"--kernel %s: reading it failed; was it changed meanwhile?",
				image->kernel);
	}
	return 0;
}

static int load_initrd(const struct vmm_image *image, const struct vmm_memory *mem, bool progress)
{
	const uint64_t at = initrd_place(image, mem);
	uint8_t *const zero = vmm_memory_at(mem, VMM_ZERO_PAGE, PAGE);
	const uint32_t place[2] = { (uint32_t)at, (uint32_t)image->initrd_bytes };

	if (progress)
		vmm_say("loading initrd ... %llu MB",
			(unsigned long long)((image->initrd_bytes + MIB / 2) / MIB));
	if (load_file(image->initrd_fd, 0, vmm_memory_at(mem, at, image->initrd_bytes),
		      image->initrd_bytes))
		return vmm_error("--initrd %s: reading it failed; was it changed meanwhile?",
				 image->initrd);
	memcpy(zero + 0x218, place, sizeof(place));
	return 0;
}

static void e820(uint8_t *zero, uint64_t start, uint64_t bytes, uint32_t type)
{
	uint8_t *const entry = zero + 0x2d0 + 20u * zero[0x1e8];

	memcpy(entry, &start, 8);
	memcpy(entry + 8, &bytes, 8);
	memcpy(entry + 16, &type, 4);
	zero[0x1e8]++;
}

static void zero_page(const struct vmm_image *image, const struct vmm_memory *mem)
{
	uint8_t *const zero = vmm_memory_at(mem, VMM_ZERO_PAGE, PAGE);
	const uint64_t rsdp = VMM_ACPI;
	const uint32_t cmdline = VMM_CMDLINE;

	if (!image->elf)
		memcpy(zero + SETUP_HEADER, image->header + SETUP_HEADER,
		       image->header_bytes - SETUP_HEADER);
	memcpy(zero + 0x070, &rsdp, 8);
	zero[0x210] = 0xff; /* a loader without a number of its own */
	memcpy(zero + 0x228, &cmdline, 4);
	zero[0x1e8] = 0;
	e820(zero, 0, 0x9fc00, E820_RAM);
	e820(zero, VMM_ACPI, VMM_ACPI_BYTES, E820_RESERVED);
	e820(zero, VMM_KERNEL_MIN, mem->low_bytes - VMM_KERNEL_MIN, E820_RAM);
	if (mem->count == 2)
		e820(zero, mem->regions[1].gpa, mem->regions[1].bytes, E820_RAM);
}

/* Four levels, 2 MiB pages: 4 GiB at their own addresses. */
static void page_tables(const struct vmm_memory *mem)
{
	uint64_t *const table = vmm_memory_at(mem, VMM_PAGE_TABLES, 6 * PAGE);
	uint64_t *const directories = table + 2 * 512;
	uint64_t i;

	table[0] = (VMM_PAGE_TABLES + PAGE) | 3u;
	for (i = 0; i < 4; i++)
		table[512 + i] = (VMM_PAGE_TABLES + (2 + i) * PAGE) | 3u;
	for (i = 0; i < 4 * 512; i++)
		directories[i] = (i << 21) | 0x83u;
}

static void descriptors(const struct vmm_memory *mem)
{
	static const uint64_t gdt[4] = { 0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF };

	memcpy(vmm_memory_at(mem, VMM_GDT, sizeof(gdt)), gdt, sizeof(gdt));
}

/*
 * All of a BIOS that there is, where a real-mode CPU looks for one: it resets the machine.  Linux
 * reboots through EFI where hardware is reduced, and where there is no EFI by a jump to here.
 */
static void bios(const struct vmm_memory *mem)
{
	static const uint8_t code[] = {
		0xBA,
		VMM_PORT_POWER & 0xFF,
		VMM_PORT_POWER >> 8, /* mov dx, port */
		0xB0,
		0x01,
		0xEE, /* mov al, 1; out dx, al */
		0xF4,
		0xEB,
		0xFD, /* hlt, for ever */
	};

	memcpy(vmm_memory_at(mem, VMM_BIOS, sizeof(code)), code, sizeof(code));
}

int vmm_boot_fits(const struct vmm_image *image, const struct vmm_memory *mem)
{
	const uint64_t need = page_up(image->end) + page_up(image->initrd_bytes);

	if (need <= mem->low_bytes && (!image->initrd_bytes || initrd_place(image, mem)))
		return 0;
	if (need > VMM_LOW_END || need > image->initrd_max)
		return vmm_error("kernel and initrd need %llu MiB below %llu MiB, more than there "
				 "can be; use a smaller initrd",
				 (unsigned long long)(need / MIB + 1),
				 (unsigned long long)(image->initrd_max / MIB + 1));
	return vmm_error("--mem %lluM is too little: kernel and initrd alone need %lluM, and the "
			 "kernel more to run",
			 (unsigned long long)(mem->bytes / MIB),
			 (unsigned long long)((need + MIB - 1) / MIB));
}

int vmm_boot_load(const struct vmm_image *image, struct vmm_memory *mem, uint32_t cpus,
		  bool progress)
{
	if (vmm_boot_fits(image, mem))
		return -1;
	zero_page(image, mem);
	if (load_kernel(image, mem, progress))
		return -1;
	if (image->initrd_bytes && load_initrd(image, mem, progress))
		return -1;
	strcpy(vmm_memory_at(mem, VMM_CMDLINE, image->append_max + 1), image->append);
	page_tables(mem);
	descriptors(mem);
	bios(mem);
	if (!vmm_acpi_write(vmm_memory_at(mem, VMM_ACPI, VMM_ACPI_BYTES), VMM_BIOS - VMM_ACPI, cpus,
			    vmm_memory_top(mem)))
		return vmm_error("no room for the ACPI tables of %u processors", cpus);
	return 0;
}
