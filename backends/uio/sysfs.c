/* SPDX-License-Identifier: MIT */
/*
 * Devices of the bus as sysfs has them, [UIO-SYSFS]: read, bounded, checked, sorted.  A device that
 * comes or goes while we look is passed over.  Nothing here changes anything.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "uio/sysfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "uio/sys.h"

#define TEXT_BYTES 128u
#define AREAS 5u /* of one device at most, [UIO-MAP] */

void vmbus__uio_say(const struct vmbus_uio_opts *opts, const char *format, ...)
{
	const int saved = errno;
	va_list args;

	if (!opts->why || !opts->why_bytes)
		return;
	va_start(args, format);
	(void)vsnprintf(opts->why, opts->why_bytes, format, args);
	va_end(args);
	errno = saved;
}

bool vmbus__uio_path(const struct vmbus_uio_opts *opts, char path[VMBUS__UIO_PATH],
		     const char *format, ...)
{
	const char *const root = opts->sysfs ? opts->sysfs : "/sys";
	int first = snprintf(path, VMBUS__UIO_PATH, "%s/bus/vmbus/", root), rest;
	va_list args;

	if (first < 0 || (size_t)first >= VMBUS__UIO_PATH)
		return false;
	va_start(args, format);
	rest = vsnprintf(path + first, VMBUS__UIO_PATH - (size_t)first, format, args);
	va_end(args);
	return rest >= 0 && (size_t)rest < VMBUS__UIO_PATH - (size_t)first;
}

int vmbus__uio_wanted(const struct vmbus_uio_opts *opts, struct vmbus__uio_wanted *wanted)
{
	const char *name = opts->device, *slash;
	size_t digits;

	memset(wanted, 0, sizeof(*wanted));
	if (!name || !*name) {
		vmbus__uio_say(opts, "no device is named");
		return VMBUS_E_INVAL;
	}
	if (vmbus_guid_parse(name, &wanted->guid) == 0)
		return 0;
	slash = strrchr(name, '/');
	if (slash)
		name = slash + 1;
	digits = strncmp(name, "uio", 3) == 0 ? strspn(name + 3, "0123456789") : 0;
	if (digits == 0 || digits > 9 || name[3 + digits] != '\0') {
		vmbus__uio_say(opts,
			       "%.80s: neither a GUID of an instance or a class nor a /dev/uioN",
			       opts->device);
		return VMBUS_E_INVAL;
	}
	wanted->uio = name;
	return 0;
}

/* A file of one line without its end; false: there is none, or it is too long. */
static bool get_text(const struct vmbus_uio_opts *opts, const char *name, const char *file,
		     char text[TEXT_BYTES])
{
	char path[VMBUS__UIO_PATH];
	ssize_t n;
	int fd;

	if (!vmbus__uio_path(opts, path, "devices/%s/%s", name, file))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	n = read(fd, text, TEXT_BYTES);
	(void)close(fd);
	if (n <= 0 || (size_t)n == TEXT_BYTES)
		return false;
	text[n] = '\0';
	if (strlen(text) != (size_t)n)
		return false;
	text[strcspn(text, "\n")] = '\0';
	return true;
}

/* A number, decimal or with 0x, up to max. */
static bool get_number(const struct vmbus_uio_opts *opts, const char *name, const char *file,
		       uint64_t max, uint64_t *number)
{
	char text[TEXT_BYTES], *end;

	if (!get_text(opts, name, file, text) || text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, text[0] == '0' && text[1] == 'x' ? 16 : 10);
	return errno == 0 && *end == '\0' && *number <= max;
}

static bool get_guid(const struct vmbus_uio_opts *opts, const char *name, const char *file,
		     struct vmbus_guid *guid)
{
	char text[TEXT_BYTES];

	return get_text(opts, name, file, text) && vmbus_guid_parse(text, guid) == 0;
}

static void get_driver(const struct vmbus_uio_opts *opts, struct vmbus__uio_device *device)
{
	char path[VMBUS__UIO_PATH], link[VMBUS__UIO_PATH];
	const char *slash;
	ssize_t n;

	if (!vmbus__uio_path(opts, path, "devices/%s/driver", device->name))
		return;
	n = readlink(path, link, sizeof(link) - 1);
	if (n <= 0)
		return;
	link[n] = '\0';
	slash = strrchr(link, '/');
	(void)snprintf(device->info.driver, sizeof(device->info.driver), "%.31s",
		       slash ? slash + 1 : link);
}

/* The folder uio/uioN of a bound device. */
static bool get_uio(const struct vmbus_uio_opts *opts, struct vmbus__uio_device *device)
{
	char path[VMBUS__UIO_PATH];
	const struct dirent *entry;
	bool found = false;
	DIR *dir;

	if (!vmbus__uio_path(opts, path, "devices/%s/uio", device->name))
		return false;
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir)) != NULL) {
		const size_t len = strlen(entry->d_name);

		found = len > 3 && len < sizeof(device->info.uio) &&
			strncmp(entry->d_name, "uio", 3) == 0 &&
			strspn(entry->d_name + 3, "0123456789") == len - 3;
		if (found)
			memcpy(device->info.uio, entry->d_name, len + 1);
	}
	(void)closedir(dir);
	return found;
}

/* [UIO-MAP] */
static void get_areas(const struct vmbus_uio_opts *opts, struct vmbus__uio_device *device)
{
	struct vmbus__uio_areas *const areas = &device->areas;
	char file[64], name[TEXT_BYTES];
	uint64_t bytes;
	uint32_t i;

	for (i = 0; i < AREAS; i++) {
		(void)snprintf(file, sizeof(file), "uio/%s/maps/map%u/size", device->info.uio, i);
		if (!get_number(opts, device->name, file, UINT32_MAX, &bytes))
			continue;
		(void)snprintf(file, sizeof(file), "uio/%s/maps/map%u/name", device->info.uio, i);
		if (!get_text(opts, device->name, file, name))
			continue;
		if (strcmp(name, "txrx_rings") == 0 && !areas->has_rings) {
			areas->has_rings = true;
			areas->ring_index = i;
			areas->ring_bytes = bytes;
		} else if (strcmp(name, "int_page") == 0 && bytes >= VMBUS_PAGE_BYTES) {
			areas->has_int = true;
			areas->int_index = i;
		} else if (strcmp(name, "monitor_page") == 0 && bytes >= VMBUS_PAGE_BYTES) {
			areas->has_monitor = true;
			areas->monitor_index = i;
		}
	}
	/* Two rings, each of a control page and a page of data at least. */
	if (areas->has_rings && areas->ring_bytes % (2 * VMBUS_PAGE_BYTES) == 0 &&
	    areas->ring_bytes >= 4 * VMBUS_PAGE_BYTES)
		device->info.ring_bytes = (uint32_t)(areas->ring_bytes / 2 - VMBUS_PAGE_BYTES);
}

/* Whether the folder is a device's; its numbers are checked. */
static bool get_device(const struct vmbus_uio_opts *opts, const char *name,
		       struct vmbus__uio_device *device)
{
	uint64_t number;

	memset(device, 0, sizeof(*device));
	if (strlen(name) >= sizeof(device->name))
		return false;
	memcpy(device->name, name, strlen(name));
	if (!get_guid(opts, name, "class_id", &device->info.class_id) ||
	    !get_guid(opts, name, "device_id", &device->info.instance_id) ||
	    !get_number(opts, name, "id", VMBUS_RELID_MAX, &number) || number == 0)
		return false;
	device->info.relid = (uint32_t)number;
	/* The file is there only where the parent gave the channel a monitor. */
	device->info.monitor_id = get_number(opts, name, "monitor_id", 127, &number)
					  ? (uint32_t)number
					  : VMBUS_MONITOR_NONE;
	get_driver(opts, device);
	if (strcmp(device->info.driver, VMBUS__UIO_DRIVER) == 0 && get_uio(opts, device))
		get_areas(opts, device);
	return true;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct vmbus__uio_device *)a)->name,
		      ((const struct vmbus__uio_device *)b)->name);
}

static int open_bus(const struct vmbus_uio_opts *opts, DIR **dir)
{
	char path[VMBUS__UIO_PATH];

	if (!vmbus__uio_path(opts, path, "devices")) {
		vmbus__uio_say(opts, "%.80s...: the path is too long", opts->sysfs);
		return VMBUS_E_SYSTEM;
	}
	*dir = opendir(path);
	if (*dir)
		return 0;
	if (errno == ENOENT || errno == ENOTDIR) {
		vmbus__uio_say(opts,
			       "%.200s is not there: this machine has no VMBus, or hv_vmbus is not "
			       "loaded (modprobe hv_vmbus)",
			       path);
		return VMBUS_E_NOTSUP;
	}
	vmbus__uio_say(opts, "%.200s: %s (errno %d)", path, strerror(errno), errno);
	return vmbus__uio_errno();
}

int vmbus__uio_scan(const struct vmbus_uio_opts *opts, struct vmbus__uio_device **devices,
		    uint32_t *count)
{
	const struct dirent *entry;
	struct vmbus__uio_device *list = NULL, *grown;
	uint32_t n = 0, room = 0;
	DIR *dir;
	int err = open_bus(opts, &dir);

	*devices = NULL;
	*count = 0;
	if (err)
		return err;
	while (n < VMBUS__UIO_DEVICES && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		if (n == room) {
			room = room ? room * 2 : 16;
			grown = realloc(list, room * sizeof(*list));
			if (!grown) {
				free(list);
				(void)closedir(dir);
				vmbus__uio_say(opts, "no memory for %u devices", room);
				return VMBUS_E_NOMEM;
			}
			list = grown;
		}
		if (get_device(opts, entry->d_name, &list[n]))
			n++;
	}
	(void)closedir(dir);
	if (n)
		qsort(list, n, sizeof(*list), by_name);
	*devices = list;
	*count = n;
	return 0;
}

static bool matches(const struct vmbus__uio_wanted *wanted, const struct vmbus_uio_info *info)
{
	if (wanted->uio)
		return strcmp(wanted->uio, info->uio) == 0;
	return vmbus_guid_equal(&wanted->guid, &info->instance_id) ||
	       vmbus_guid_equal(&wanted->guid, &info->class_id);
}

int vmbus__uio_find(const struct vmbus_uio_opts *opts, struct vmbus__uio_device **devices,
		    uint32_t *count)
{
	struct vmbus__uio_wanted wanted;
	uint32_t i, n = 0;
	int err = vmbus__uio_wanted(opts, &wanted);

	*devices = NULL;
	*count = 0;
	if (!err)
		err = vmbus__uio_scan(opts, devices, count);
	if (err)
		return err;
	for (i = 0; i < *count; i++)
		if (matches(&wanted, &(*devices)[i].info))
			(*devices)[n++] = (*devices)[i];
	if (n == 0) {
		vmbus__uio_say(opts,
			       wanted.uio ? "%.80s: no device of the bus is bound to it; "
					    "vmbus-uio list shows them"
					  : "%.80s: no device has this instance or class; "
					    "vmbus-uio list shows them",
			       opts->device);
		free(*devices);
		*devices = NULL;
		*count = 0;
		return VMBUS_E_RANGE;
	}
	*count = n;
	return 0;
}

int vmbus__uio_reread(const struct vmbus_uio_opts *opts, struct vmbus__uio_device *device)
{
	char name[sizeof(device->name)];

	memcpy(name, device->name, sizeof(name));
	return get_device(opts, name, device) ? 0 : VMBUS_E_RANGE;
}

int vmbus__uio_lock(const struct vmbus_uio_opts *opts, const struct vmbus__uio_device *device)
{
	char path[VMBUS__UIO_PATH];
	int fd, saved;

	if (!vmbus__uio_path(opts, path, "devices/%s", device->name))
		return VMBUS_E_SYSTEM;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		vmbus__uio_say(opts, "%.200s: %s (errno %d)", path, strerror(errno), errno);
		return errno == ENOENT ? VMBUS_E_RANGE : vmbus__uio_errno();
	}
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	saved = errno;
	(void)close(fd);
	errno = saved;
	vmbus__uio_say(opts,
		       "%s: a program has opened it, or locks its folder in sysfs; end that first "
		       "(lslocks tells which)",
		       device->name);
	return saved == EWOULDBLOCK ? VMBUS_E_AGAIN : vmbus__uio_errno();
}

int vmbus_uio_list(const struct vmbus_uio_opts *opts,
		   void (*each)(void *ctx, const struct vmbus_uio_info *info), void *ctx)
{
	struct vmbus__uio_device *devices;
	uint32_t count, i;
	int err;

	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	vmbus__uio_say(opts, "%s", "");
	err = vmbus__uio_scan(opts, &devices, &count);
	if (err)
		return err;
	for (i = 0; each && i < count; i++)
		each(ctx, &devices[i].info);
	free(devices);
	return (int)count;
}
