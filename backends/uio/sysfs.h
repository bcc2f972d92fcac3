/* SPDX-License-Identifier: MIT */
/* What sysfs tells of devices on the bus.  Its texts are bounded and checked. */
#ifndef VMBUS_UIO_SYSFS_H
#define VMBUS_UIO_SYSFS_H

#include <vmbus/uio.h>

#define VMBUS__UIO_PATH 384u
#define VMBUS__UIO_DRIVER "uio_hv_generic"
#define VMBUS__UIO_DEVICES 2047u /* on one bus, [CTL-OFFER] */

/* Areas of a device, [UIO-MAP]. */
struct vmbus__uio_areas {
	uint32_t ring_index, int_index, monitor_index;
	uint64_t ring_bytes; /* both rings with their control pages */
	bool has_rings, has_int, has_monitor;
};

struct vmbus__uio_device {
	char name[40]; /* its folder's */
	struct vmbus_uio_info info;
	struct vmbus__uio_areas areas; /* of a bound one */
};

/* Which devices: one of a name, an instance or a class. */
struct vmbus__uio_wanted {
	const char *uio; /* "uio0", or NULL */
	struct vmbus_guid guid;
};

/* A text for people into opts->why. */
void vmbus__uio_say(const struct vmbus_uio_opts *opts, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A path below opts->sysfs; false: it is too long. */
bool vmbus__uio_path(const struct vmbus_uio_opts *opts, char path[VMBUS__UIO_PATH],
		     const char *format, ...) __attribute__((format(printf, 3, 4)));

/* What opts->device names.  Errors: INVAL. */
int vmbus__uio_wanted(const struct vmbus_uio_opts *opts, struct vmbus__uio_wanted *wanted);

/*
 * All devices, sorted by name, in memory of malloc(): *count of them.
 * Errors: NOTSUP (no bus), NOMEM, PERM, SYSTEM.
 */
int vmbus__uio_scan(const struct vmbus_uio_opts *opts, struct vmbus__uio_device **devices,
		    uint32_t *count);

/* Keep those that are wanted.  Errors: RANGE (none), as above. */
int vmbus__uio_find(const struct vmbus_uio_opts *opts, struct vmbus__uio_device **devices,
		    uint32_t *count);

/* Read a device again.  Errors: RANGE (it is gone). */
int vmbus__uio_reread(const struct vmbus_uio_opts *opts, struct vmbus__uio_device *device);

/*
 * Take the lock of a device's folder, which who has opened the device holds: a descriptor.
 * Errors: AGAIN (somebody has it), RANGE (no such device), PERM, SYSTEM.
 */
int vmbus__uio_lock(const struct vmbus_uio_opts *opts, const struct vmbus__uio_device *device);

#endif
