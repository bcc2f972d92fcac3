/* SPDX-License-Identifier: MIT */
/* The kernel behind sys.h.  Nothing here knows what the areas of a device are for. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "uio/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that is no device would map and then kill us. */
static int kernel_open(const char *path)
{
	const int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISCHR(st.st_mode))
		return fd;
	(void)close(fd);
	errno = ENODEV;
	return -1;
}

/* [UIO-MAP]: the offset of an area is its number in pages of the host. */
static void *kernel_map(int fd, void *at, size_t bytes, uint32_t index)
{
	return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0), fd,
		    (off_t)index * sysconf(_SC_PAGESIZE));
}

static int kernel_event(int fd)
{
	int32_t count;
	const ssize_t n = read(fd, &count, sizeof(count));

	if (n >= 0)
		return n == (ssize_t)sizeof(count);
	return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static int kernel_enable(int fd)
{
	const int32_t on = 1;

	return write(fd, &on, sizeof(on)) == (ssize_t)sizeof(on) ? 0 : -1;
}

static void kernel_close(int fd)
{
	const int saved = errno;

	(void)close(fd);
	errno = saved;
}

static int kernel_put(const char *path, const char *text)
{
	const size_t len = strlen(text);
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;
	int saved;

	if (fd < 0)
		return -1;
	n = write(fd, text, len);
	saved = errno;
	(void)close(fd);
	errno = saved;
	return n == (ssize_t)len ? 0 : -1;
}

const struct vmbus__uio_sys vmbus__uio_kernel = {
	.open = kernel_open,
	.map = kernel_map,
	.event = kernel_event,
	.enable = kernel_enable,
	.close = kernel_close,
	.put = kernel_put,
};
const struct vmbus__uio_sys *vmbus__uio_sys = &vmbus__uio_kernel;

int vmbus__uio_errno(void)
{
	switch (errno) {
	case ENOMEM:
		return VMBUS_E_NOMEM;
	case EACCES:
	case EPERM:
	case EROFS:
		return VMBUS_E_PERM;
	default:
		return VMBUS_E_SYSTEM;
	}
}
