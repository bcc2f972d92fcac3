/* SPDX-License-Identifier: MIT */
/*
 * The kernel's file and the initrd's: opened, and checked as far as loading depends on them.  A
 * bzImage is entered by the 64-bit protocol, a 64-bit ELF file at its entry, in the same state.
 * Source of the formats: Linux Documentation/arch/x86/boot.rst; System V ABI, ELF.
 */
#include "vmm.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

uint16_t vmm_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

uint32_t vmm_le32(const uint8_t *p)
{
	return vmm_le16(p) | (uint32_t)vmm_le16(p + 2) << 16;
}

uint64_t vmm_le64(const uint8_t *p)
{
	return vmm_le32(p) | (uint64_t)vmm_le32(p + 4) << 32;
}

static int open_file(const char *what, const char *path, uint64_t *bytes)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return vmm_errno("%s %s", what, path);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size == 0) {
		close(fd);
		return vmm_error("%s %s: is no file with something in it", what, path);
	}
	*bytes = (uint64_t)st.st_size;
	return fd;
}

static int bad(const struct vmm_image *image, const char *why, uint64_t value)
{
	return vmm_error("--kernel %s: %s (0x%llx)", image->kernel, why, (unsigned long long)value);
}

/* Offsets in a bzImage, and what is read of it. */
#define SETUP_SECTS 0x1f1
#define BOOT_FLAG 0x1fe
#define JUMP 0x200
#define MAGIC 0x202
#define VERSION 0x206
#define INITRD_MAX 0x22c
#define XLOADFLAGS 0x236
#define CMDLINE_SIZE 0x238
#define PREF_ADDRESS 0x258
#define INIT_SIZE 0x260

static int bzimage(struct vmm_image *image)
{
	const uint8_t *const h = image->header;
	const uint32_t sects = h[SETUP_SECTS] ? h[SETUP_SECTS] : 4u;
	const uint64_t setup = (sects + 1u) * 512u;
	const uint64_t at = vmm_le64(h + PREF_ADDRESS);
	const uint64_t size = vmm_le32(h + INIT_SIZE);

	if (vmm_le16(h + VERSION) < 0x20c)
		return bad(image, "boot protocol older than 2.12, field version at 0x206",
			   vmm_le16(h + VERSION));
	if (!(vmm_le16(h + XLOADFLAGS) & 1u))
		return bad(image, "no 64-bit kernel, bit 0 of field xloadflags at 0x236 is 0",
			   vmm_le16(h + XLOADFLAGS));
	if (image->kernel_bytes <= setup)
		return bad(image, "is cut off: field setup_sects at 0x1f1 points past its end",
			   sects);
	if (at < VMM_KERNEL_MIN || at % PAGE || at >= VMM_LOW_END)
		return bad(image, "wants a place that cannot be, field pref_address at 0x258", at);
	if (size == 0 || size > VMM_LOW_END - at)
		return bad(image, "wants a size that cannot be, field init_size at 0x260", size);
	image->header_bytes = MAGIC + (uint32_t)h[JUMP + 1];
	if (image->header_bytes < INIT_SIZE + 4u)
		return bad(image, "its header is too short, byte at 0x201", h[JUMP + 1]);
	image->segments[0].offset = setup;
	image->segments[0].gpa = at;
	image->segments[0].file_bytes = image->kernel_bytes - setup;
	image->segments[0].memory_bytes = image->segments[0].file_bytes;
	image->segment_count = 1;
	if (image->segments[0].file_bytes > VMM_LOW_END - at)
		return bad(image, "is too large to be loaded", image->kernel_bytes);
	image->end = at + (size > image->kernel_bytes - setup ? size : image->kernel_bytes - setup);
	image->entry = at + 0x200;
	image->initrd_max = vmm_le32(h + INITRD_MAX);
	image->append_max = vmm_le32(h + CMDLINE_SIZE);
	return 0;
}

static int elf_segment(struct vmm_image *image, const Elf64_Phdr *ph)
{
	struct vmm_segment *const seg = &image->segments[image->segment_count];

	if (image->segment_count == VMM_SEGMENTS_MAX)
		return bad(image, "has more segments to load than this many", VMM_SEGMENTS_MAX);
	if (ph->p_offset > image->kernel_bytes ||
	    ph->p_filesz > image->kernel_bytes - ph->p_offset || ph->p_filesz > ph->p_memsz)
		return bad(image, "is cut off: a segment lies past its end, p_offset",
			   ph->p_offset);
	if (ph->p_paddr < VMM_KERNEL_MIN || ph->p_paddr >= VMM_LOW_END ||
	    ph->p_memsz > VMM_LOW_END - ph->p_paddr)
		return bad(image, "a segment must lie between 1 MiB and 3 GiB, p_paddr",
			   ph->p_paddr);
	seg->offset = ph->p_offset;
	seg->gpa = ph->p_paddr;
	seg->file_bytes = ph->p_filesz;
	seg->memory_bytes = ph->p_memsz;
	if (seg->gpa + seg->memory_bytes > image->end)
		image->end = seg->gpa + seg->memory_bytes;
	image->segment_count++;
	return 0;
}

/* The entry may be told as a virtual address. */
static void elf_entry(struct vmm_image *image, const Elf64_Phdr *ph)
{
	if (image->entry >= ph->p_vaddr && image->entry - ph->p_vaddr < ph->p_memsz)
		image->entry = ph->p_paddr + (image->entry - ph->p_vaddr);
}

static bool entry_is_loaded(const struct vmm_image *image)
{
	uint32_t i;

	for (i = 0; i < image->segment_count; i++)
		if (image->entry >= image->segments[i].gpa &&
		    image->entry - image->segments[i].gpa < image->segments[i].memory_bytes)
			return true;
	return false;
}

static int elf(struct vmm_image *image)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	uint32_t i;

	memcpy(&eh, image->header, sizeof(eh));
	if (eh.e_ident[EI_CLASS] != ELFCLASS64 || eh.e_machine != EM_X86_64)
		return bad(image, "an ELF file, but not for 64-bit x86, e_machine", eh.e_machine);
	if (eh.e_phentsize != sizeof(ph) || eh.e_phnum == 0 || eh.e_phnum > 64)
		return bad(image, "an ELF file without program headers, e_phnum", eh.e_phnum);
	image->elf = true;
	image->entry = eh.e_entry;
	for (i = 0; i < eh.e_phnum; i++) {
		if (pread(image->kernel_fd, &ph, sizeof(ph),
			  (off_t)(eh.e_phoff + i * sizeof(ph))) != sizeof(ph))
			return bad(image, "is cut off in its program headers, e_phoff", eh.e_phoff);
		if (ph.p_type != PT_LOAD || ph.p_memsz == 0)
			continue;
		if (elf_segment(image, &ph))
			return -1;
		if (!entry_is_loaded(image))
			elf_entry(image, &ph);
	}
	if (!entry_is_loaded(image))
		return bad(image, "its entry lies in no segment, e_entry", eh.e_entry);
	image->initrd_max = 0x7fffffff;
	image->append_max = 2047;
	return 0;
}

static int kernel(struct vmm_image *image)
{
	const ssize_t got = pread(image->kernel_fd, image->header, sizeof(image->header), 0);
	const uint8_t *const h = image->header;

	if (got < 0)
		return vmm_errno("--kernel %s", image->kernel);
	if (got >= (ssize_t)sizeof(Elf64_Ehdr) && memcmp(h, ELFMAG, SELFMAG) == 0)
		return elf(image);
	if (got < 0x400)
		return bad(image, "is too short for a kernel, bytes", (uint64_t)got);
	if (vmm_le16(h + BOOT_FLAG) != 0xAA55 || memcmp(h + MAGIC, "HdrS", 4) != 0)
		return bad(image,
			   "is neither a bzImage, with 0xAA55 at 0x1fe and HdrS at 0x202, nor an "
			   "ELF file; /boot/vmlinuz-* is one.  At 0x1fe",
			   vmm_le16(h + BOOT_FLAG));
	return bzimage(image);
}

int vmm_image_open(struct vmm_image *image, const struct vmm_opts *opts)
{
	memset(image, 0, sizeof(*image));
	image->initrd_fd = -1;
	image->kernel = opts->kernel;
	image->initrd = opts->initrd;
	image->append = opts->append;
	image->kernel_fd = open_file("--kernel", opts->kernel, &image->kernel_bytes);
	if (image->kernel_fd < 0)
		return -1;
	if (kernel(image))
		goto failed;
	if (opts->initrd) {
		image->initrd_fd = open_file("--initrd", opts->initrd, &image->initrd_bytes);
		if (image->initrd_fd < 0)
			goto failed;
	}
	if (image->append_max > 2047)
		image->append_max = 2047;
	if (strlen(opts->append) > image->append_max) {
		vmm_error("--append: %zu characters; this kernel takes %u", strlen(opts->append),
			  image->append_max);
		goto failed;
	}
	return 0;
failed:
	vmm_image_close(image);
	return -1;
}

void vmm_image_close(struct vmm_image *image)
{
	if (image->kernel_fd >= 0)
		close(image->kernel_fd);
	if (image->initrd_fd >= 0)
		close(image->initrd_fd);
	image->kernel_fd = -1;
	image->initrd_fd = -1;
}
