/* SPDX-License-Identifier: MIT */
/*
 * What the uio backend asks of the kernel that a test must be able to play: the device file, and
 * writes to sysfs that make the kernel act.  Plain reading of sysfs is not here: a test has a
 * folder.
 */
#ifndef VMBUS_UIO_SYS_H
#define VMBUS_UIO_SYS_H

#include <vmbus/base.h>

struct vmbus__uio_sys {
	/* Open a device file, which opens the channel.  A descriptor to poll, or -1 and errno. */
	int (*open)(const char *path);
	/* Map an area of it at a place, instead of what is there; NULL: anywhere.  MAP_FAILED. */
	void *(*map)(int fd, void *at, size_t bytes, uint32_t index);
	/* Take the interrupts that came.  1: some; 0: none; -1: errno, EIO if it was withdrawn. */
	int (*event)(int fd);
	/* Enable interrupts, which on newer kernels also signals a channel without monitor. */
	int (*enable)(int fd);
	/* The channel is closed when its areas are unmapped too. */
	void (*close)(int fd);
	/* Write a text to a file of sysfs.  0, or -1 and errno. */
	int (*put)(const char *path, const char *text);
};

/* The kernel; a test puts its own in place. */
extern const struct vmbus__uio_sys *vmbus__uio_sys;
extern const struct vmbus__uio_sys vmbus__uio_kernel;

/* The code for what a system call said; errno stays as it is. */
int vmbus__uio_errno(void);

#endif
