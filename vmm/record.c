/* SPDX-License-Identifier: MIT */
/*
 * The flight record of the bus: in the file of --record, which stays when this program dies, or in
 * memory for those who ask on --socket.  It is made before privileges go.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RECORD_BYTES ((size_t)256 << 10)

static int open_file(const char *path)
{
	const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return vmm_errno("--record %s", path);
	/* No hole: a store must not find the disk full. */
	errno = posix_fallocate(fd, 0, (off_t)RECORD_BYTES);
	if (errno == 0)
		return fd;
	(void)vmm_errno("--record %s: %zu bytes", path, RECORD_BYTES);
	close(fd);
	return -1;
}

int vmm_record_open(struct vmm *vmm, struct vmbus_bus_opts *opts)
{
	const char *const path = vmm->opts.record;
	void *mem;
	int fd = -1;

	if (!path && !vmm->opts.socket)
		return 0;
	if (path && (fd = open_file(path)) < 0)
		return -1;
	mem = mmap(NULL, RECORD_BYTES, PROT_READ | PROT_WRITE,
		   path ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS, fd, 0);
	if (fd >= 0)
		close(fd);
	if (mem == MAP_FAILED)
		return vmm_errno("--record");
	vmm->record = mem;
	opts->record = mem;
	opts->record_bytes = RECORD_BYTES;
	return 0;
}

void vmm_record_close(struct vmm *vmm)
{
	if (vmm->record)
		munmap(vmm->record, RECORD_BYTES);
	vmm->record = NULL;
}
