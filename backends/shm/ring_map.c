/* SPDX-License-Identifier: MIT */
/*
 * Ring memory on a memfd: creation, sealing, and mapping in each of the three windows.  A memfd
 * that is not sealed against shrinking is refused: who shrinks it kills everybody that maps it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmbus/shm.h>

#include "shm/sys.h"

#define CREATE_BYTES_MAX ((uint64_t)1 << 40)

static uint64_t host_page(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

int vmbus_err_to_errno(int err)
{
	switch (err) {
	case VMBUS_E_AGAIN:
		return EAGAIN;
	case VMBUS_E_FULL:
		return ENOBUFS;
	case VMBUS_E_INVAL:
		return EINVAL;
	case VMBUS_E_RANGE:
		return ERANGE;
	case VMBUS_E_STATE:
		return EBUSY;
	case VMBUS_E_PEER:
		return EPROTO;
	case VMBUS_E_FAULT:
		return ENOTCONN;
	case VMBUS_E_NOMEM:
		return ENOMEM;
	case VMBUS_E_PERM:
		return EPERM;
	case VMBUS_E_NOTSUP:
		return ENOTSUP;
	default:
		return err >= 0 ? 0 : EIO;
	}
}

/*
 * With host pages of 4096 bytes the control page and the data follow each other.  With larger ones
 * the data begins at the next host page, so that it can be mapped twice.
 */
static uint64_t data_offset(void)
{
	return vmbus__shm_whole_pages(VMBUS_PAGE_BYTES);
}

uint64_t vmbus_shm_ring_bytes(uint32_t size)
{
	return data_offset() + vmbus__shm_whole_pages(size);
}

int vmbus_shm_create(uint64_t bytes)
{
	int fd, err;

	if (bytes == 0 || bytes > CREATE_BYTES_MAX)
		return VMBUS_E_RANGE;
	err = vmbus__shm_size_allowed(vmbus__shm_whole_pages(bytes));
	if (err)
		return err;
	fd = memfd_create("vmbus-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return vmbus__shm_errno();
	if (ftruncate(fd, (off_t)vmbus__shm_whole_pages(bytes)) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	err = vmbus__shm_errno();
	close(fd);
	return err;
}

/* Whether fd is a memfd that cannot shrink, and holds bytes from offset on. */
static int check_fd(int fd, uint64_t offset, uint64_t bytes)
{
	bool huge = false;
	int err = offset > UINT64_MAX - bytes ? VMBUS_E_RANGE
					      : vmbus__shm_check_memory(fd, offset + bytes, &huge);

	if (!err && huge) /* holes can be punched into it in spite of the seal */
		err = VMBUS_E_INVAL;
	return err;
}

/* Put pages of the memfd at an address inside our reservation. */
static int map_at(uint8_t *at, uint64_t bytes, int fd, uint64_t offset)
{
	void *p =
		mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);

	return p == MAP_FAILED ? vmbus__shm_errno() : 0;
}

/* The data pages, an address each, as a window needs that has its pages anywhere. */
static int list_pages(struct vmbus_shm_ring *ring, uint8_t *data, uint32_t size)
{
	const uint32_t count = size / VMBUS_PAGE_BYTES;
	uint32_t i;

	ring->pages_p = calloc(count, sizeof(*ring->pages_p));
	if (!ring->pages_p)
		return VMBUS_E_NOMEM;
	for (i = 0; i < count; i++)
		ring->pages_p[i] = data + (size_t)i * VMBUS_PAGE_BYTES;
	return 0;
}

static int map_window(struct vmbus_shm_ring *ring, int fd, const struct vmbus_shm_ring_opts *opts)
{
	const uint64_t data_bytes = vmbus__shm_whole_pages(opts->size);
	uint8_t *const map = ring->map_p;
	uint8_t *const data = map + data_offset();
	struct vmbus_ring_mem_opts mem = {
		.struct_bytes = sizeof(mem),
		.window = opts->window,
		.size = opts->size,
		.ctl = map,
		.data = data,
	};
	int err = map_at(map, data_offset() + data_bytes, fd, opts->offset);

	if (!err && opts->window == VMBUS_RING_MIRRORED)
		err = map_at(data + data_bytes, data_bytes, fd, opts->offset + data_offset());
	if (!err && opts->window == VMBUS_RING_SCATTERED)
		err = list_pages(ring, data, opts->size);
	if (!err && opts->on_node)
		err = vmbus__shm_place(map, data_offset() + data_bytes, opts->node);
	if (err)
		return err;
	mem.pages = ring->pages_p;
	return vmbus_ring_mem_init(&ring->mem, &mem);
}

int vmbus_shm_ring_map(struct vmbus_shm_ring *ring, int fd, const struct vmbus_shm_ring_opts *opts)
{
	const struct vmbus_shm_ring none = { 0 };
	void *map;
	int err, saved;

	*ring = none;
	if (opts->struct_bytes < sizeof(*opts) || opts->offset % host_page())
		return VMBUS_E_INVAL;
	if (opts->size < VMBUS_RING_SIZE_MIN || opts->size > VMBUS_RING_SIZE_MAX ||
	    opts->size % VMBUS_PAGE_BYTES)
		return VMBUS_E_RANGE;
	if (opts->window == VMBUS_RING_MIRRORED && opts->size % host_page())
		return VMBUS_E_RANGE;
	err = check_fd(fd, opts->offset, vmbus_shm_ring_bytes(opts->size));
	if (err)
		return err;
	ring->map_bytes_p = data_offset() + vmbus__shm_whole_pages(opts->size) * 2;
	map = mmap(NULL, ring->map_bytes_p, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (map == MAP_FAILED)
		return vmbus__shm_errno();
	ring->map_p = map;
	err = map_window(ring, fd, opts);
	if (err) {
		saved = errno;
		vmbus_shm_ring_unmap(ring);
		errno = saved;
	}
	return err;
}

void vmbus_shm_ring_unmap(struct vmbus_shm_ring *ring)
{
	const struct vmbus_shm_ring none = { 0 };

	if (ring->map_p)
		munmap(ring->map_p, ring->map_bytes_p);
	free(ring->pages_p);
	*ring = none;
}
