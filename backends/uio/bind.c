/* SPDX-License-Identifier: MIT */
/*
 * Binding and unbinding, [UIO-BIND].  One device at a time by its driver_override, so that devices
 * of the same class that come later are left to their own driver; the kernel's list of classes is
 * used only where there is no such file.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "uio/sys.h"
#include "uio/sysfs.h"

#define NO_MONITOR_ERRNO 524 /* ENOTSUPP of the kernel's own, [UIO-BIND] */

static bool holds(const struct vmbus__uio_device *device)
{
	return strcmp(device->info.driver, VMBUS__UIO_DRIVER) == 0;
}

/* Write a text to a file of the bus's folder.  0, or -1 and errno. */
static int put(const struct vmbus_uio_opts *opts, const char *folder, const char *name,
	       const char *file, const char *text)
{
	char path[VMBUS__UIO_PATH];

	if (!vmbus__uio_path(opts, path, "%s/%s/%s", folder, name, file)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return vmbus__uio_sys->put(path, text);
}

static bool is_there(const struct vmbus_uio_opts *opts, const char *folder, const char *name,
		     const char *file)
{
	char path[VMBUS__UIO_PATH];

	return vmbus__uio_path(opts, path, "%s/%s/%s", folder, name, file) &&
	       access(path, F_OK) == 0;
}

/* A write failed: errno's code, and a text. */
static int failed(const struct vmbus_uio_opts *opts, const struct vmbus__uio_device *device,
		  const char *what)
{
	const int no = errno;

	vmbus__uio_say(opts, "%s: cannot %s: %s (errno %d)%s", device->name, what, strerror(no), no,
		       no == EACCES || no == EPERM ? "; run it as root"
		       : no == EROFS		   ? "; /sys is mounted read-only here"
						   : "");
	return vmbus__uio_errno();
}

static int refused(const struct vmbus_uio_opts *opts, const struct vmbus__uio_device *device)
{
	if (errno == NO_MONITOR_ERRNO ||
	    (errno == EOPNOTSUPP && device->info.monitor_id == VMBUS_MONITOR_NONE)) {
		vmbus__uio_say(
			opts,
			"%s: this kernel's " VMBUS__UIO_DRIVER
			" takes no channel without a monitor id: have the parent offer it with "
			"one (vmbus-vmm --device ...,monitor=MICROSECONDS)",
			device->name);
		return VMBUS_E_NOTSUP;
	}
	if (errno == ENOMEM) {
		vmbus__uio_say(opts,
			       "%s: " VMBUS__UIO_DRIVER
			       " had not enough memory; older kernels want 50 MiB for each device",
			       device->name);
		return VMBUS_E_NOMEM;
	}
	return failed(opts, device, "bind it to " VMBUS__UIO_DRIVER);
}

/* Let the kernel find the driver that a device has without us. */
static void let_go(const struct vmbus_uio_opts *opts, const struct vmbus__uio_device *device)
{
	const int saved = errno;

	if (is_there(opts, "devices", device->name, "driver_override"))
		(void)put(opts, "devices", device->name, "driver_override", "\n");
	(void)put(opts, ".", ".", "drivers_probe", device->name);
	errno = saved;
}

static int take_from_other(const struct vmbus_uio_opts *opts,
			   const struct vmbus__uio_device *device)
{
	if (!device->info.driver[0])
		return 0;
	if (!opts->force) {
		vmbus__uio_say(
			opts,
			"%s: the driver %s holds it; --force takes it away, and what uses the "
			"device there ends",
			device->name, device->info.driver);
		return VMBUS_E_STATE;
	}
	if (put(opts, "drivers", device->info.driver, "unbind", device->name))
		return failed(opts, device, "take it from its driver");
	return 0;
}

/* Have the driver take the device.  0, or -1 and errno. */
static int claim(const struct vmbus_uio_opts *opts, const struct vmbus__uio_device *device)
{
	char class_id[37];

	if (is_there(opts, "devices", device->name, "driver_override")) {
		if (put(opts, "devices", device->name, "driver_override", VMBUS__UIO_DRIVER))
			return -1;
	} else {
		vmbus_guid_format(&device->info.class_id, class_id);
		if (put(opts, "drivers", VMBUS__UIO_DRIVER, "new_id", class_id) && errno != EEXIST)
			return -1;
	}
	return put(opts, "drivers", VMBUS__UIO_DRIVER, "bind", device->name);
}

static int bind_one(const struct vmbus_uio_opts *opts, struct vmbus__uio_device *device)
{
	int err, no;

	if (holds(device))
		return 0;
	err = take_from_other(opts, device);
	if (err)
		return err;
	no = claim(opts, device) ? errno : 0;
	/* A new class may have made the kernel bind it before we asked. */
	if (vmbus__uio_reread(opts, device) == 0 && holds(device))
		return 0;
	errno = no ? no : ENODEV;
	err = refused(opts, device);
	let_go(opts, device);
	return err;
}

/* Somebody gave the driver the whole class: it took the device again at once. */
static int take_class(const struct vmbus_uio_opts *opts, struct vmbus__uio_device *device)
{
	char class_id[37];

	vmbus_guid_format(&device->info.class_id, class_id);
	if (put(opts, "drivers", VMBUS__UIO_DRIVER, "remove_id", class_id))
		return failed(opts, device, "take its class from " VMBUS__UIO_DRIVER);
	if (put(opts, "drivers", VMBUS__UIO_DRIVER, "unbind", device->name))
		return failed(opts, device, "unbind it");
	let_go(opts, device);
	if (vmbus__uio_reread(opts, device) || !holds(device))
		return 0;
	vmbus__uio_say(opts, "%s: " VMBUS__UIO_DRIVER " has taken it again", device->name);
	return VMBUS_E_STATE;
}

/* Under its lock to the end, so that no program opens it in between. */
static int unbind_one(const struct vmbus_uio_opts *opts, struct vmbus__uio_device *device)
{
	int lock, err = 0, saved;

	if (!holds(device)) {
		vmbus__uio_say(opts, "%s: %s%s holds it, not " VMBUS__UIO_DRIVER, device->name,
			       device->info.driver[0] ? "the driver " : "no driver",
			       device->info.driver);
		return VMBUS_E_STATE;
	}
	lock = vmbus__uio_lock(opts, device);
	if (lock < 0)
		return lock;
	if (put(opts, "drivers", VMBUS__UIO_DRIVER, "unbind", device->name))
		err = failed(opts, device, "unbind it");
	if (!err)
		let_go(opts, device);
	if (!err && vmbus__uio_reread(opts, device) == 0 && holds(device))
		err = take_class(opts, device);
	saved = errno;
	(void)close(lock);
	errno = saved;
	return err;
}

/* One of the devices, or all, as the name says. */
static int each(const struct vmbus_uio_opts *opts,
		int (*one)(const struct vmbus_uio_opts *opts, struct vmbus__uio_device *device))
{
	struct vmbus__uio_device *devices;
	uint32_t count, i;
	int err = vmbus__uio_find(opts, &devices, &count);

	if (err)
		return err;
	for (i = 0; i < count && !err; i++)
		err = one(opts, &devices[i]);
	free(devices);
	return err ? err : (int)count;
}

int vmbus_uio_bind(const struct vmbus_uio_opts *opts)
{
	struct vmbus__uio_wanted wanted;
	int err;

	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	vmbus__uio_say(opts, "%s", "");
	err = vmbus__uio_wanted(opts, &wanted);
	if (err)
		return err;
	if (wanted.uio) {
		vmbus__uio_say(opts, "%.80s: a device to bind is named by its GUID", opts->device);
		return VMBUS_E_INVAL;
	}
	if (is_there(opts, ".", ".", "devices") &&
	    !is_there(opts, "drivers", VMBUS__UIO_DRIVER, "bind")) {
		vmbus__uio_say(opts, "the driver " VMBUS__UIO_DRIVER
				     " is not loaded: modprobe " VMBUS__UIO_DRIVER);
		return VMBUS_E_NOTSUP;
	}
	return each(opts, bind_one);
}

int vmbus_uio_unbind(const struct vmbus_uio_opts *opts)
{
	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	vmbus__uio_say(opts, "%s", "");
	return each(opts, unbind_one);
}
