/* SPDX-License-Identifier: MIT */
/*
 * A SCSI disk of ours behind /dev/sgN for one program, without a kernel: preloaded, it answers that
 * program's SG_IO.  What it cannot show is all below the command: a guest's driver, the bus.
 *
 * SG_SHIM=SECTORS[,4096][,ro][,thick][,cache] says what disk; SG_SHIM_LOG=FILE gets a line for each command.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <scsi/sg.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "block/scsi.h"

#define SHOWN __attribute__((visibility("default")))

static struct vmbus__disk disk;
static struct vmbus_store_queue queue;
static struct vmbus_store_ops ops; /* the store's, with changes */
static uint64_t attention;
static int shim_fd = -1;
static FILE *commands;

static void done(struct vmbus__scsi_task *task)
{
	(void)task;
}

static uint32_t luns(void *ctx, uint8_t target, uint8_t *list, uint32_t room)
{
	(void)ctx;
	(void)target;
	(void)room;
	list[0] = 0;
	return 1;
}

static void flush(struct vmbus_io *io)
{
	vmbus_io_done(io, VMBUS_IO_OK);
}

static int make_disk(void)
{
	const char *what = getenv("SG_SHIM");
	const uint32_t sector = what && strstr(what, ",4096") ? 4096 : 512;
	const uint64_t sectors = what ? strtoull(what, NULL, 0) : 0;

	if (!sectors || vmbus_store_memory(sectors * sector, -1, &disk.store))
		return -1;
	(void)disk.store.ops->info(disk.store.ctx, &disk.info);
	ops = *disk.store.ops;
	disk.store.ops = &ops;
	if (strstr(what, ",thick"))
		ops.discard = NULL;
	if (strstr(what, ",cache")) {
		ops.flush = flush;
		disk.info.flags |= VMBUS_STORE_VOLATILE;
	}
	disk.info.block_bytes = 4096;
	disk.bytes = disk.info.bytes;
	disk.sector_shift = sector == 4096 ? 12 : 9;
	disk.transfer_bytes = 8u << 20;
	disk.read_only = strstr(what, ",ro");
	memcpy(disk.serial, "shim", 5);
	memcpy(disk.vendor, "Msft    ", 9);
	memcpy(disk.product, "Virtual Disk    ", 17);
	memcpy(disk.revision, "1.0 ", 5);
	queue.ctx = disk.store.ctx;
	queue.fd = -1;
	queue.depth = 1;
	return disk.store.ops->open ? disk.store.ops->open(&queue) : 0;
}

SHOWN int open(const char *path, int flags, ...)
{
	int (*real)(const char *, int, ...);
	mode_t mode = 0;
	va_list args;

	va_start(args, flags);
	if (flags & O_CREAT)
		mode = va_arg(args, mode_t);
	va_end(args);
	*(void **)&real = dlsym(RTLD_NEXT, "open");
	if (strcmp(path, "/dev/sg-shim") != 0)
		return real(path, flags, mode);
	if (!disk.store.ops && make_disk()) {
		errno = ENODEV;
		return -1;
	}
	if (getenv("SG_SHIM_LOG") && !commands)
		commands = fopen(getenv("SG_SHIM_LOG"), "w");
	shim_fd = real("/dev/null", O_RDWR);
	return shim_fd;
}

static void show(const struct vmbus__scsi_task *task)
{
	uint32_t i;

	if (!commands)
		return;
	for (i = 0; i < sizeof(task->cdb); i++)
		fprintf(commands, "%02x ", task->cdb[i]);
	fprintf(commands, "%u -> %02x %02x, %u, %x/%02x/%02x\n", task->data_bytes,
		task->scsi_status, task->srb_status, task->moved,
		task->sense_len ? task->sense[2] : 0, task->sense_len ? task->sense[12] : 0,
		task->sense_len ? task->sense[13] : 0);
	fflush(commands);
}

/* Commands end before start() returns: the memory store is like that. */
static int command(sg_io_hdr_t *io)
{
	struct vmbus_piece piece;
	struct vmbus_sgl sgl = { .pieces = &piece, .room = 1, .count = 1 };
	struct vmbus__scsi_task task = { .disk = &disk, .queue = &queue, .ua = &attention };
	struct iovec buffer = { .iov_base = io->dxferp, .iov_len = io->dxfer_len };

	if (io->iovec_count > 1) {
		errno = EINVAL;
		return -1;
	}
	if (io->iovec_count == 1)
		buffer.iov_base = ((const struct iovec *)io->dxferp)->iov_base;
	piece = (struct vmbus_piece){ .host = buffer.iov_base, .len = io->dxfer_len };
	sgl.bytes = io->dxfer_len;
	memcpy(task.cdb, io->cmdp, io->cmd_len < 16 ? io->cmd_len : 16);
	task.data_in = io->dxfer_direction == SG_DXFER_FROM_DEV;
	sgl.access = task.data_in ? VMBUS_WRITE : VMBUS_READ;
	task.data_bytes = io->dxfer_len;
	task.data = io->dxfer_len ? &sgl : NULL;
	task.iov = &buffer;
	task.iov_count = 1;
	task.luns = luns;
	task.done = done;
	vmbus__scsi_start(&task);
	show(&task);
	io->status = task.scsi_status;
	io->masked_status = (uint8_t)(task.scsi_status >> 1 & 0x1F);
	io->sb_len_wr = task.sense_len < io->mx_sb_len ? task.sense_len : io->mx_sb_len;
	memcpy(io->sbp, task.sense, io->sb_len_wr);
	io->resid = (int)(io->dxfer_len - task.moved);
	return 0;
}

SHOWN int ioctl(int fd, unsigned long request, ...)
{
	int (*real)(int, unsigned long, void *);
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	*(void **)&real = dlsym(RTLD_NEXT, "ioctl");
	if (fd < 0 || fd != shim_fd)
		return real(fd, request, arg);
	if (request == SG_GET_VERSION_NUM) {
		*(int *)arg = 30536;
		return 0;
	}
	if (request == SG_IO)
		return command(arg);
	errno = ENOTTY;
	return -1;
}
