/* SPDX-License-Identifier: MIT */
/*
 * A block store in memory that can be mapped: a memfd of its own, or a descriptor of somebody
 * else's, whose bytes outlive this process.  Every request is done before its call returns.
 *
 * The memory cannot shrink while it is mapped (sealed), so no access to it can fail.  Two guests, or
 * two channels, that write one sector at once get a mixture of both, as from a disk.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vmbus/store.h>

/* Below this it is cheaper to write zeroes than to give pages back. */
#define PUNCH_BYTES_MIN (UINT64_C(64) << 10)

struct memory {
	uint8_t *base;
	uint64_t bytes;
	int fd;
};

static int memory_info(void *ctx, struct vmbus_store_info *info)
{
	const struct memory *const memory = ctx;

	memset(info, 0, sizeof(*info));
	info->bytes = memory->bytes;
	info->flags = VMBUS_STORE_ZEROES;
	return 0;
}

static void memory_read(struct vmbus_io *io)
{
	const struct memory *const memory = io->queue->ctx;
	const uint8_t *from = memory->base + io->offset;
	uint32_t i;

	for (i = 0; i < io->iov_count; i++) {
		memcpy(io->iov[i].iov_base, from, io->iov[i].iov_len);
		from += io->iov[i].iov_len;
	}
	vmbus_io_done(io, VMBUS_IO_OK);
}

static void memory_write(struct vmbus_io *io)
{
	const struct memory *const memory = io->queue->ctx;
	uint8_t *to = memory->base + io->offset;
	uint32_t i;

	for (i = 0; i < io->iov_count; i++) {
		memcpy(to, io->iov[i].iov_base, io->iov[i].iov_len);
		to += io->iov[i].iov_len;
	}
	vmbus_io_done(io, VMBUS_IO_OK);
}

/* A hole reads as zeroes; where there can be none, for instance in huge pages, they are written. */
static void memory_discard(struct vmbus_io *io)
{
	const struct memory *const memory = io->queue->ctx;

	if (io->bytes < PUNCH_BYTES_MIN ||
	    fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset,
		      (off_t)io->bytes))
		memset(memory->base + io->offset, 0, io->bytes);
	vmbus_io_done(io, VMBUS_IO_OK);
}

static void memory_zero(struct vmbus_io *io)
{
	const struct memory *const memory = io->queue->ctx;

	if (io->flags & VMBUS_IO_MAY_DISCARD) {
		memory_discard(io);
		return;
	}
	memset(memory->base + io->offset, 0, io->bytes);
	vmbus_io_done(io, VMBUS_IO_OK);
}

static void memory_destroy(void *ctx)
{
	struct memory *const memory = ctx;

	(void)munmap(memory->base, memory->bytes);
	(void)close(memory->fd);
	free(memory);
}

static const struct vmbus_store_ops memory_ops = {
	.struct_bytes = sizeof(memory_ops),
	.name = "memory",
	.info = memory_info,
	.read = memory_read,
	.write = memory_write,
	.discard = memory_discard,
	.zero = memory_zero,
	.destroy = memory_destroy,
};

static int error(void)
{
	return errno == ENOMEM || errno == EMFILE || errno == ENFILE ? VMBUS_E_NOMEM
								     : VMBUS_E_SYSTEM;
}

/* Memory of our own: a descriptor, or an error. */
static int make(uint64_t bytes)
{
	const int fd = memfd_create("vmbus-store", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err = 0, reason;

	if (fd < 0)
		return error();
	if (ftruncate(fd, (off_t)bytes))
		err = errno == EFBIG || errno == EINVAL ? VMBUS_E_RANGE : error();
	else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		err = error();
	if (!err)
		return fd;
	reason = errno;
	(void)close(fd);
	errno = reason;
	return err;
}

/* A duplicate of somebody else's, which is large enough and stays so; or an error. */
static int take(uint64_t bytes, int fd)
{
	const int seals = fcntl(fd, F_GET_SEALS);
	struct stat stat;
	int copy;

	if (fstat(fd, &stat))
		return VMBUS_E_SYSTEM;
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return VMBUS_E_PERM;
	if (stat.st_size < 0 || (uint64_t)stat.st_size < bytes)
		return VMBUS_E_RANGE;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return copy < 0 ? error() : copy;
}

int vmbus_store_memory(uint64_t bytes, int fd, struct vmbus_store *store)
{
	struct memory *memory;
	void *base;
	int reason;

	if (bytes == 0 || bytes > VMBUS_STORE_BYTES_MAX)
		return VMBUS_E_RANGE;
	fd = fd < 0 ? make(bytes) : take(bytes, fd);
	if (fd < 0)
		return fd;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	memory = base == MAP_FAILED ? NULL : malloc(sizeof(*memory));
	if (!memory) {
		reason = errno;
		if (base != MAP_FAILED)
			(void)munmap(base, bytes);
		(void)close(fd);
		errno = reason;
		return error();
	}
	*memory = (struct memory){ .base = base, .bytes = bytes, .fd = fd };
	*store = (struct vmbus_store){ .ops = &memory_ops, .ctx = memory };
	return 0;
}
