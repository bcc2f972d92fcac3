/* SPDX-License-Identifier: MIT */
/*
 * The file or block device under the io_uring store: opening, the lock, and what can be learned of
 * it.  It makes no requests.
 *
 * The lock is that of the open file (OFD), and requests that the kernel runs keep that file: a process
 * that gets the lock after another was killed knows that nothing of the other one's is written any
 * more.  So it waits for the lock a while; see vmbus_store(7).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "uring/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define LOCK_WAIT_MS 1000u
#define ALIGN_MAX 4096u

static int error(void)
{
	switch (errno) {
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return VMBUS_E_NOMEM;
	case EACCES:
	case EPERM:
	case EROFS:
	case EBUSY: /* a device that is mounted, or of another store */
	case ETXTBSY:
		return VMBUS_E_PERM;
	default:
		return VMBUS_E_SYSTEM;
	}
}

static bool is_power_of_two(uint64_t n)
{
	return n && !(n & (n - 1u));
}

/* A number of a block device in sysfs; a partition has those of its disk. */
static uint64_t sysfs(dev_t dev, const char *name, uint64_t otherwise)
{
	static const char *const at[] = { "", "../" };
	char path[128];
	unsigned long long n = otherwise;
	uint32_t i;

	for (i = 0; i < 2; i++) {
		FILE *file;

		(void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(dev),
			       minor(dev), at[i], name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%llu", &n) != 1)
			n = otherwise;
		(void)fclose(file);
		return n;
	}
	return otherwise;
}

static void wait_ms(uint32_t ms)
{
	const struct timespec time = { .tv_nsec = (long)ms * 1000000 };

	(void)nanosleep(&time, NULL);
}

/* A device is opened for one writer only, O_EXCL, and a file is locked.  Both may need to wait for
   requests of a process that has just ended. */
static int open_path(struct vmbus__uring *u, const struct vmbus_store_uring_opts *opts)
{
	/* Not to wait for the other end of a pipe; it is taken back below. */
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (opts->direct ? O_DIRECT : 0);
	struct flock lock = { .l_whence = SEEK_SET };
	struct stat stat;
	uint32_t waited;

	if (fstatat(AT_FDCWD, opts->path, &stat, 0))
		return error();
	if (!S_ISREG(stat.st_mode) && !S_ISBLK(stat.st_mode))
		return VMBUS_E_NOTSUP;
	flags |= opts->read_only ? O_RDONLY : O_RDWR;
	if (S_ISBLK(stat.st_mode) && !opts->read_only)
		flags |= O_EXCL;
	lock.l_type = opts->read_only ? F_RDLCK : F_WRLCK;
	for (waited = 0;; waited++) {
		u->fd = open(opts->path, flags);
		if (u->fd >= 0 || errno != EBUSY || waited == LOCK_WAIT_MS)
			break;
		wait_ms(1);
	}
	if (u->fd < 0)
		return opts->direct && errno == EINVAL ? VMBUS_E_NOTSUP : error();
	for (;; waited++) {
		if (!fcntl(u->fd, F_OFD_SETLK, &lock))
			return 0;
		if (errno != EAGAIN && errno != EACCES)
			return error();
		if (waited >= LOCK_WAIT_MS)
			return VMBUS_E_PERM;
		wait_ms(1);
	}
}

static int take_fd(struct vmbus__uring *u, const struct vmbus_store_uring_opts *opts)
{
	const int flags = fcntl(opts->fd, F_GETFL);

	if (flags < 0)
		return VMBUS_E_INVAL;
	if (flags & (O_APPEND | O_PATH)) /* every write would go to the end; or none is possible */
		return VMBUS_E_INVAL;
	if (!opts->read_only && (flags & O_ACCMODE) != O_RDWR)
		return VMBUS_E_PERM;
	if ((flags & O_ACCMODE) == O_WRONLY)
		return VMBUS_E_PERM;
	u->fd = fcntl(opts->fd, F_DUPFD_CLOEXEC, 3);
	return u->fd < 0 ? error() : 0;
}

/* The open file's flags as they must be: requests wait in the kernel, and go where they are told.  What
   was given with O_DIRECT keeps it, since its owner has the same open file. */
static int set_flags(struct vmbus__uring *u, bool direct)
{
	const int have = fcntl(u->fd, F_GETFL);
	const int want = (have & ~O_NONBLOCK) | (direct ? O_DIRECT : 0);

	u->cached = !(want & O_DIRECT);
	if (have == want || !fcntl(u->fd, F_SETFL, want))
		return 0;
	return errno == EINVAL ? VMBUS_E_NOTSUP : error();
}

/* What O_DIRECT wants of offsets and of memory. */
static void look_at_alignment(struct vmbus__uring *u)
{
	struct statx x;
	int sector = 512;

	if (u->is_device)
		(void)ioctl(u->fd, BLKSSZGET, &sector);
	u->align_bytes = (uint32_t)sector;
	u->memory_align = u->align_bytes;
#if defined(STATX_DIOALIGN)
	if (!statx(u->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) && (x.stx_mask & STATX_DIOALIGN) &&
	    x.stx_dio_offset_align) {
		u->align_bytes = x.stx_dio_offset_align;
		u->memory_align = x.stx_dio_mem_align;
	}
#else
	(void)x;
#endif
}

/* Whether holes can be made: for a file a hole past its end is tried, which changes nothing. */
static bool can_punch(const struct vmbus__uring *u, const struct stat *stat)
{
	const uint64_t past = ((uint64_t)stat->st_size + 4095u) / 4096u * 4096u;

	if (u->is_device)
		return sysfs(stat->st_rdev, "write_zeroes_max_bytes", 0) > 0;
	return past <= INT64_MAX - 4096u &&
	       !fallocate(u->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)past, 4096);
}

static int look(struct vmbus__uring *u, const struct vmbus_store_uring_opts *opts)
{
	struct vmbus_store_info info;
	struct stat stat;
	uint64_t granularity;
	unsigned physical = 0;
	int sector = 0;

	if (fstat(u->fd, &stat))
		return error();
	if (!S_ISREG(stat.st_mode) && !S_ISBLK(stat.st_mode))
		return VMBUS_E_NOTSUP;
	u->is_device = S_ISBLK(stat.st_mode);
	u->rotates = sysfs(u->is_device ? stat.st_rdev : stat.st_dev, "rotational", 0) == 1;
	u->align_bytes = u->memory_align = 1;
	if (!u->cached)
		look_at_alignment(u);
	if (!is_power_of_two(u->align_bytes) || u->align_bytes > ALIGN_MAX ||
	    !is_power_of_two(u->memory_align) || u->memory_align > ALIGN_MAX)
		return VMBUS_E_NOTSUP;
	u->range_align = 1;
	u->punches = opts->sparse && !u->read_only && can_punch(u, &stat);
	u->block_bytes = (uint32_t)stat.st_blksize;
	granularity = u->block_bytes;
	if (u->is_device) {
		if (!ioctl(u->fd, BLKSSZGET, &sector) && sector > 0 && sector <= 4096)
			u->range_align = (uint32_t)sector;
		(void)ioctl(u->fd, BLKPBSZGET, &physical);
		u->block_bytes = physical;
		granularity = sysfs(stat.st_rdev, "discard_granularity", 0);
	}
	if (!is_power_of_two(u->block_bytes))
		u->block_bytes = 0;
	u->discard_bytes = granularity <= UINT32_MAX && is_power_of_two(granularity)
				   ? (uint32_t)granularity
				   : 0;
	return vmbus__uring_info(u, &info);
}

int vmbus__uring_open(struct vmbus__uring *u, const struct vmbus_store_uring_opts *opts)
{
	int err, reason;

	u->fd = -1;
	u->read_only = opts->read_only;
	err = opts->path ? open_path(u, opts) : take_fd(u, opts);
	if (!err)
		err = set_flags(u, opts->direct);
	if (!err)
		err = look(u, opts);
	if (err && u->fd >= 0) {
		reason = errno;
		(void)close(u->fd);
		errno = reason;
	}
	return err;
}

int vmbus__uring_info(void *ctx, struct vmbus_store_info *info)
{
	const struct vmbus__uring *const u = ctx;
	uint64_t bytes = 0;
	struct stat stat;

	memset(info, 0, sizeof(*info));
	if (u->is_device) {
		if (ioctl(u->fd, BLKGETSIZE64, &bytes))
			return error();
	} else {
		if (fstat(u->fd, &stat))
			return error();
		bytes = (uint64_t)stat.st_size;
	}
	if (bytes == 0 || bytes > VMBUS_STORE_BYTES_MAX)
		return VMBUS_E_RANGE;
	info->bytes = bytes;
	info->flags = VMBUS_STORE_VOLATILE | VMBUS_STORE_FUA;
	info->flags |= u->read_only ? VMBUS_STORE_READ_ONLY : 0;
	info->flags |= u->rotates ? VMBUS_STORE_ROTATES : 0;
	info->flags |= u->punches ? VMBUS_STORE_ZEROES : 0;
	info->block_bytes = u->block_bytes;
	info->discard_bytes = u->discard_bytes;
	info->align_bytes = u->align_bytes;
	return 0;
}
