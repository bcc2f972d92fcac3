/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory: one memfd that nobody can shrink, mapped once, in one or two regions: below
 * 3 GiB, and the rest from 4 GiB on.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE (2 * MIB)

static int place(struct vmm_memory *mem, int32_t node)
{
	unsigned long mask[1024 / (8 * sizeof(long))] = { 0 };
	const uint32_t bits = 8 * sizeof(long);

	mask[(uint32_t)node / bits] = 1ul << ((uint32_t)node % bits);
	if (mbind(mem->base, mem->bytes, MPOL_BIND, mask, 1024, 0) == 0)
		return 0;
	if (errno == EINVAL)
		return vmm_error("--numa-node %d: this machine has no such node with memory; see "
				 "/sys/devices/system/node",
				 node);
	return vmm_errno("--numa-node %d: binding memory to it failed", node);
}

static int allocate(struct vmm_memory *mem, const struct vmm_opts *opts)
{
	const unsigned int huge = opts->huge_pages ? MFD_HUGETLB : 0;

	mem->fd = memfd_create("vmbus-vmm", MFD_CLOEXEC | MFD_ALLOW_SEALING | huge);
	if (mem->fd < 0 && opts->huge_pages)
		return vmm_errno("--huge-pages: this kernel has none");
	if (mem->fd < 0)
		return vmm_errno("no descriptor for the guest's memory");
	if (ftruncate(mem->fd, (off_t)mem->bytes) ||
	    fcntl(mem->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return vmm_errno("%llu MiB of memory for the guest",
				 (unsigned long long)(mem->bytes / MIB));
	mem->base = mmap(NULL, mem->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			 mem->fd, 0);
	if (mem->base == MAP_FAILED) {
		mem->base = NULL;
		return vmm_errno("mapping %llu MiB for the guest; try a smaller --mem, or raise "
				 "ulimit -v",
				 (unsigned long long)(mem->bytes / MIB));
	}
	if (opts->node >= 0 && place(mem, opts->node))
		return -1;
	/* Huge pages that are missing would end us by SIGBUS later. */
	if (opts->huge_pages && fallocate(mem->fd, 0, 0, (off_t)mem->bytes))
		return vmm_errno("--huge-pages: %llu pages of 2 MiB are needed; as root: echo %llu "
				 "> /proc/sys/vm/nr_hugepages",
				 (unsigned long long)(mem->bytes / HUGE),
				 (unsigned long long)(mem->bytes / HUGE));
	return 0;
}

int vmm_memory_create(struct vmm_memory *mem, const struct vmm_opts *opts)
{
	memset(mem, 0, sizeof(*mem));
	mem->fd = -1;
	mem->bytes = opts->memory_bytes;
	mem->huge = opts->huge_pages;
	if (opts->huge_pages && mem->bytes % HUGE)
		return vmm_error("--huge-pages: --mem must be a multiple of 2M");
	if (allocate(mem, opts)) {
		vmm_memory_destroy(mem);
		return -1;
	}
	mem->low_bytes = mem->bytes < VMM_LOW_END ? mem->bytes : VMM_LOW_END;
	mem->regions[0] = (struct vmbus_region){ .bytes = mem->low_bytes,
						 .host = mem->base,
						 .fd = mem->fd,
						 .access = VMBUS_READ_WRITE };
	mem->regions[1] = (struct vmbus_region){ .gpa = 4 * GIB,
						 .bytes = mem->bytes - mem->low_bytes,
						 .host = mem->base + mem->low_bytes,
						 .fd = mem->fd,
						 .fd_offset = mem->low_bytes,
						 .access = VMBUS_READ_WRITE };
	mem->count = mem->bytes > mem->low_bytes ? 2 : 1;
	return 0;
}

void vmm_memory_destroy(struct vmm_memory *mem)
{
	if (mem->base)
		munmap(mem->base, mem->bytes);
	if (mem->fd >= 0)
		close(mem->fd);
	mem->base = NULL;
	mem->fd = -1;
}

/*
 * The pages go back to the system; the next access finds zeros.  Huge pages are kept: somebody else
 * might take them, and the next access would end us by SIGBUS.
 */
int vmm_memory_zero(struct vmm_memory *mem)
{
	if (mem->huge) {
		memset(mem->base, 0, mem->bytes);
		return 0;
	}
	if (fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)mem->bytes))
		return vmm_errno("emptying the guest's memory");
	return 0;
}

void *vmm_memory_at(const struct vmm_memory *mem, uint64_t gpa, uint64_t len)
{
	if (gpa > mem->low_bytes || len > mem->low_bytes - gpa)
		return NULL;
	return mem->base + gpa;
}

uint64_t vmm_memory_top(const struct vmm_memory *mem)
{
	return mem->count == 2 ? 4 * GIB + mem->regions[1].bytes : mem->low_bytes;
}

uint64_t vmm_memory_resident(const struct vmm_memory *mem)
{
	struct stat st;

	return fstat(mem->fd, &st) ? 0 : (uint64_t)st.st_blocks * 512u;
}
