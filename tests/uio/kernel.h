/* SPDX-License-Identifier: MIT */
/*
 * Linux with a bus, played: a folder that looks like /sys and /dev, [UIO-SYSFS] [UIO-BIND], a
 * device file, [UIO-OPEN] [UIO-SIGNAL], whose areas, [UIO-MAP], are the memory of a child, and
 * behind them a bus with a real provider.  What the kernel says to the parent when the file is
 * opened and closed is said by fake.h.
 *
 * The bus runs in whatever thread calls kernel_run(); opening and closing run it too.
 */
#ifndef UIO_KERNEL_H
#define UIO_KERNEL_H

#include "bus/fake.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include <vmbus/echo.h>
#include <vmbus/uio.h>

#include "../../backends/uio/sys.h"

#define KERNEL_MONITOR_US 100u
#define KERNEL_RING_PAGES 17u /* each, with its control page: what kernels give unknown classes */
#define KERNEL_GUID "aaaaaaaa-0001-4000-8000-000000000001"
#define KERNEL_OTHER "bbbbbbbb-0001-4000-8000-000000000002"
#define KERNEL_SHUTDOWN "0e0b6031-5213-4934-818b-38d90ced39db"
#define UIO_DRIVER "uio_hv_generic"

struct kernel {
	struct fake f; /* first: the bus's backend is given it */
	char root[64];
	char sys[80], dev[80], why[400];
	struct vmbus_chan *chan; /* the parent's */
	struct fake_chan own;	 /* the kernel's view of it */
	uint32_t monitor_id;
	uint32_t ring_pages; /* of each ring */
	size_t int_page, p2c, c2p;
	int event_fd;
	bool open, gone, masks; /* masks: as kernels of old, whose interrupt handler masks */
	bool no_override;	/* a kernel without driver_override */
	bool class_given;	/* new_id was written */
	int open_errno, map_errno, event_errno, enable_errno;
	uint32_t map_fails_at; /* index + 1 */
	uint32_t opens, closes, enables, interrupts, puts;
	const char *put_fails; /* end of the path of a file that cannot be written */
	int put_errno;
	void (*on_put)(const char *path); /* before a file is written */
	char last_put[400];
	char lines[8][400];
	uint32_t line_count;
	/* guest callbacks */
	uint32_t offered, gone_calls;
	struct vmbus_vsc *vsc;
};

static struct kernel *kernel; /* a device file has no context */

/* ---- the folder ---- */

static inline void kernel_mkdir(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline void kernel_mkdir(const char *format, ...)
{
	char path[300], *at;
	va_list args;

	va_start(args, format);
	(void)vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	for (at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = '\0';
		(void)mkdir(path, 0700);
		*at = '/';
	}
	must(mkdir(path, 0700) == 0 || errno == EEXIST);
}

static inline void kernel_write(struct kernel *k, const char *file, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static inline void kernel_write(struct kernel *k, const char *file, const char *format, ...)
{
	char path[300];
	va_list args;
	FILE *to;

	(void)snprintf(path, sizeof(path), "%s/%s", k->root, file);
	to = fopen(path, "we");
	must(to != NULL);
	va_start(args, format);
	(void)vfprintf(to, format, args);
	va_end(args);
	must(fclose(to) == 0);
}

/* A file of a device's folder. */
static inline void kernel_attr(struct kernel *k, const char *guid, const char *file,
			       const char *text)
{
	char name[160];

	(void)snprintf(name, sizeof(name), "sys/bus/vmbus/devices/%s/%s", guid, file);
	kernel_write(k, name, "%s", text);
}

static inline int kernel_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void kernel_rm(struct kernel *k, const char *file)
{
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/%s", k->root, file);
	(void)nftw(path, kernel_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* A device without a driver. */
static inline void kernel_device(struct kernel *k, const char *guid, const char *class_id,
				 uint32_t relid, int monitor)
{
	char text[80];

	kernel_mkdir("%s/bus/vmbus/devices/%s/channels/%u", k->sys, guid, relid);
	(void)snprintf(text, sizeof(text), "{%s}\n", class_id);
	kernel_attr(k, guid, "class_id", text);
	(void)snprintf(text, sizeof(text), "{%s}\n", guid);
	kernel_attr(k, guid, "device_id", text);
	(void)snprintf(text, sizeof(text), "%u\n", relid);
	kernel_attr(k, guid, "id", text);
	(void)snprintf(text, sizeof(text), "%d\n", monitor);
	if (monitor >= 0)
		kernel_attr(k, guid, "monitor_id", text);
	if (!k->no_override)
		kernel_attr(k, guid, "driver_override", "(null)\n");
}

static inline void kernel_set_driver(struct kernel *k, const char *guid, const char *driver)
{
	char link[300], to[300];

	(void)snprintf(link, sizeof(link), "%s/bus/vmbus/devices/%s/driver", k->sys, guid);
	(void)unlink(link);
	if (!*driver)
		return;
	kernel_mkdir("%s/bus/vmbus/drivers/%s", k->sys, driver);
	(void)snprintf(to, sizeof(to), "../../../../bus/vmbus/drivers/%s", driver);
	must(symlink(to, link) == 0);
}

static inline void kernel_area(struct kernel *k, const char *guid, uint32_t i, const char *name,
			       const char *size)
{
	char file[100];

	kernel_mkdir("%s/bus/vmbus/devices/%s/uio/uio0/maps/map%u", k->sys, guid, i);
	(void)snprintf(file, sizeof(file), "uio/uio0/maps/map%u/name", i);
	kernel_attr(k, guid, file, name);
	(void)snprintf(file, sizeof(file), "uio/uio0/maps/map%u/size", i);
	kernel_attr(k, guid, file, size);
}

/* What the driver's probe makes. */
static inline void kernel_bound(struct kernel *k, const char *guid)
{
	char size[32];

	kernel_set_driver(k, guid, UIO_DRIVER);
	(void)snprintf(size, sizeof(size), "0x%zx\n", 2 * k->ring_pages * FAKE_PAGE);
	kernel_area(k, guid, 0, "txrx_rings\n", size);
	kernel_area(k, guid, 1, "int_page\n", "0x1000\n");
	kernel_area(k, guid, 2, "monitor_page\n", "0x1000\n");
	kernel_area(k, guid, 3, "recv:926000\n", "0x1f00000\n");
	kernel_area(k, guid, 4, "send:926001\n", "0x1000000\n");
	kernel_write(k, "dev/uio0", "%s", "");
}

static inline void kernel_unbound(struct kernel *k, const char *guid)
{
	char name[160];

	kernel_set_driver(k, guid, "");
	(void)snprintf(name, sizeof(name), "sys/bus/vmbus/devices/%s/uio", guid);
	kernel_rm(k, name);
	kernel_rm(k, "dev/uio0");
}

/* ---- the device file ---- */

static inline uint8_t *kernel_page(const struct kernel *k, size_t page)
{
	return k->f.mem + page * FAKE_PAGE;
}

static inline _Atomic uint32_t *kernel_word(const struct kernel *k, size_t page, size_t offset)
{
	return (_Atomic uint32_t *)(void *)(kernel_page(k, page) + offset);
}

/* As vmbus_connect_ring(): both rings at 0, feature bits, page list, open, and then masked. */
static inline int kernel_connect(struct kernel *k)
{
	const size_t ring[2] = { k->own.first, k->own.first + k->ring_pages };
	struct vmbus_ctl ctl;
	uint32_t i;

	for (i = 0; i < 2; i++) {
		*kernel_word(k, ring[i], 0) = 0;
		*kernel_word(k, ring[i], 4) = 0;
		*kernel_word(k, ring[i], 64) = 1;
	}
	k->own.gpadl = k->f.next_gpadl++;
	must_eq(fake_share(&k->f, k->own.relid, k->own.gpadl, k->own.first, 2 * k->ring_pages), 0);
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_OPEN };
	ctl.u.open.relid = ctl.u.open.open_id = k->own.relid;
	ctl.u.open.gpadl = k->own.gpadl;
	ctl.u.open.downstream_page = k->ring_pages;
	fake_post(&k->f, &ctl);
	fake_expect(&k->f, VMBUS_CTL_OPEN_RESULT, &ctl);
	if (ctl.u.result.status) {
		errno = EAGAIN;
		return -1;
	}
	*kernel_word(k, ring[1], 8) = 1;
	return 0;
}

static inline int kernel_sys_open(const char *path)
{
	struct kernel *const k = kernel;
	char right[100];
	uint64_t count;

	(void)snprintf(right, sizeof(right), "%s/uio0", k->dev);
	ck_assert_str_eq(path, right);
	must(!k->open);
	if (k->open_errno || kernel_connect(k)) {
		errno = k->open_errno ? k->open_errno : errno;
		return -1;
	}
	(void)!read(k->event_fd, &count, sizeof(count));
	k->open = true;
	k->opens++;
	return dup(k->event_fd);
}

static inline void *kernel_sys_map(int fd, void *at, size_t bytes, uint32_t index)
{
	struct kernel *const k = kernel;
	const size_t pages[3] = { 2 * k->ring_pages, 1, 1 };
	const size_t first[3] = { k->own.first, k->int_page, k->c2p };

	must(fd >= 0 && k->open && index < 3);
	must(bytes <= pages[index] * FAKE_PAGE);
	if (k->map_fails_at == index + 1) {
		errno = k->map_errno;
		return MAP_FAILED;
	}
	return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0), k->f.fd,
		    (off_t)(first[index] * FAKE_PAGE));
}

static inline int kernel_sys_event(int fd)
{
	struct kernel *const k = kernel;
	uint64_t count;

	if (k->gone || k->event_errno) {
		errno = k->gone ? EIO : k->event_errno;
		return -1;
	}
	return read(fd, &count, sizeof(count)) == sizeof(count);
}

static inline int kernel_sys_enable(int fd)
{
	struct kernel *const k = kernel;

	must(fd >= 0 && k->open);
	if (k->enable_errno) {
		errno = k->enable_errno;
		return -1;
	}
	k->enables++;
	*kernel_word(k, k->own.first + k->ring_pages, 8) = 0;
	(void)vmbus_bus_signal_event(k->f.bus, k->own.conn, 0);
	return 0;
}

/* How often the child's memory is mapped in this process. */
static inline uint32_t kernel_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	uint32_t n = 0;

	must(maps != NULL);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, "memfd:child") != NULL;
	fclose(maps);
	return n;
}

/* As vmbus_disconnect_ring(); a map that is left would have kept the channel open. */
static inline void kernel_sys_close(int fd)
{
	struct kernel *const k = kernel;
	struct vmbus_ctl ctl;

	must(k->open);
	close(fd);
	must_eq(kernel_maps(), 1); /* fake.h's */
	k->open = false;
	k->closes++;
	fake_post_close(&k->f, &k->own);
	fake_post_teardown(&k->f, k->own.relid, k->own.gpadl);
	while (fake_take(&k->f, &ctl) != VMBUS_CTL_GPADL_TORNDOWN)
		must_eq(ctl.type, VMBUS_CTL_RESCIND);
}

static inline bool kernel_ends(const char *path, const char *end)
{
	return strlen(path) >= strlen(end) && strcmp(path + strlen(path) - strlen(end), end) == 0;
}

/* The device whose folder is in a path, or is the text. */
static inline void kernel_act(struct kernel *k, const char *path, const char *text)
{
	if (kernel_ends(path, "drivers/" UIO_DRIVER "/bind"))
		kernel_bound(k, text);
	else if (kernel_ends(path, "drivers/" UIO_DRIVER "/unbind"))
		kernel_unbound(k, text);
	else if (kernel_ends(path, "/unbind"))
		kernel_set_driver(k, text, "");
	else if (kernel_ends(path, "/new_id"))
		k->class_given = true;
	else if (kernel_ends(path, "/remove_id"))
		k->class_given = false;
	else if (kernel_ends(path, "/drivers_probe") && k->class_given)
		kernel_bound(k, text);
	else if (kernel_ends(path, "/drivers_probe"))
		kernel_set_driver(k, text, "hv_own");
}

static inline int kernel_sys_put(const char *path, const char *text)
{
	struct kernel *const k = kernel;

	k->puts++;
	(void)snprintf(k->last_put, sizeof(k->last_put), "%s %s", path, text);
	if (k->on_put)
		k->on_put(path);
	if (k->put_fails && kernel_ends(path, k->put_fails)) {
		errno = k->put_errno;
		return -1;
	}
	kernel_act(k, path, text);
	return 0;
}

static const struct vmbus__uio_sys kernel_sys = {
	.open = kernel_sys_open,
	.map = kernel_sys_map,
	.event = kernel_sys_event,
	.enable = kernel_sys_enable,
	.close = kernel_sys_close,
	.put = kernel_sys_put,
};

/* ---- the bus behind it ---- */

/* The interrupt handler of the driver: any thread. */
static inline int kernel_raise(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag)
{
	struct kernel *const k = ctx;

	(void)vp;
	must_eq(sint, VMBUS_SINT_MESSAGE);
	must_eq(flag, k->own.relid);
	__atomic_fetch_add(&k->interrupts, 1, __ATOMIC_RELAXED);
	if (k->masks)
		*kernel_word(k, k->own.first + k->ring_pages, 8) = 1;
	must(eventfd_write(k->event_fd, 1) == 0);
	return 0;
}

static inline void kernel_withdraw(struct kernel *k)
{
	k->gone = true;
	must(eventfd_write(k->event_fd, 1) == 0);
}

/* A folder without devices. */
static inline void kernel_folder(struct kernel *k)
{
	memset(k, 0, sizeof(*k));
	kernel = k;
	k->event_fd = -1;
	k->ring_pages = KERNEL_RING_PAGES;
	(void)snprintf(k->root, sizeof(k->root), "/tmp/vmbus-uio-XXXXXX");
	must(mkdtemp(k->root) != NULL);
	(void)snprintf(k->sys, sizeof(k->sys), "%s/sys", k->root);
	(void)snprintf(k->dev, sizeof(k->dev), "%s/dev", k->root);
	kernel_mkdir("%s", k->dev);
	kernel_mkdir("%s/bus/vmbus/devices", k->sys);
	kernel_mkdir("%s/bus/vmbus/drivers/" UIO_DRIVER, k->sys);
	kernel_write(k, "sys/bus/vmbus/drivers/" UIO_DRIVER "/bind", "%s", "");
	vmbus__uio_sys = &kernel_sys;
}

static inline void kernel_folder_end(struct kernel *k)
{
	(void)nftw(k->root, kernel_remove, 8, FTW_DEPTH | FTW_PHYS);
	vmbus__uio_sys = &vmbus__uio_kernel;
}

/* With a device, offered by a real bus and bound.  monitor_us 0: without a monitor. */
static inline void kernel_init(struct kernel *k, const struct vmbus_vsp *vsp, void *vsp_ctx,
			       uint32_t ring_pages, uint32_t monitor_us)
{
	struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer), .monitor_us = monitor_us };
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_REQUEST_OFFERS };
	char class_id[37];

	kernel_folder(k);
	k->ring_pages = ring_pages;
	fake_prepare(&k->f, 4096);
	k->f.backend.raise = kernel_raise;
	fake_create(&k->f);
	k->p2c = fake_pages(&k->f, 1);
	k->c2p = fake_pages(&k->f, 1);
	k->int_page = fake_pages(&k->f, 1);
	must_eq(vmbus_guid_parse(KERNEL_GUID, &offer.instance_id), 0);
	must_eq(vmbus_bus_offer(k->f.bus, vsp, vsp_ctx, &offer, &k->chan), 0);
	fake_contact_pages(&k->f, VMBUS_PROTO_5_3, k->p2c * FAKE_PAGE, k->c2p * FAKE_PAGE);
	fake_post(&k->f, &ctl);
	fake_expect(&k->f, VMBUS_CTL_OFFER, &ctl);
	k->own.fake = &k->f;
	k->own.relid = ctl.u.offer.relid;
	k->own.conn = ctl.u.offer.conn_id;
	k->own.up = k->own.down = ring_pages;
	k->own.first = fake_pages(&k->f, 2 * (size_t)ring_pages);
	k->monitor_id = ctl.u.offer.monitor_id;
	must_eq(ctl.u.offer.monitored, monitor_us != 0);
	vmbus_guid_format(&ctl.u.offer.class_id, class_id);
	fake_expect(&k->f, VMBUS_CTL_ALL_OFFERS, NULL);
	k->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(k->event_fd >= 0);
	kernel_device(k, KERNEL_GUID, class_id, k->own.relid, monitor_us ? (int)k->monitor_id : -1);
	kernel_bound(k, KERNEL_GUID);
}

static inline void kernel_end(struct kernel *k)
{
	must(!k->open);
	must_eq(kernel_maps(), 1);
	fake_fini(&k->f);
	close(k->event_fd);
	kernel_folder_end(k);
}

static inline void kernel_run(struct kernel *k)
{
	must(vmbus_bus_dispatch(k->f.bus, 64) >= 0);
}

/* ---- the program ---- */

static inline void kernel_log(void *ctx, const char *line)
{
	struct kernel *const k = ctx;

	(void)snprintf(k->lines[k->line_count++ % 8], sizeof(k->lines[0]), "%s", line);
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "%s\n", line);
}

static inline bool kernel_logged(const struct kernel *k, const char *text)
{
	uint32_t i;

	for (i = 0; i < 8 && i < k->line_count; i++)
		if (strstr(k->lines[i], text))
			return true;
	return false;
}

static inline void kernel_on_offered(void *ctx, struct vmbus_vsc *vsc)
{
	struct kernel *const k = ctx;

	k->offered++;
	k->vsc = vsc;
}

static inline void kernel_on_gone(void *ctx, struct vmbus_vsc *vsc)
{
	struct kernel *const k = ctx;

	must(k->vsc == vsc);
	k->vsc = NULL;
	k->gone_calls++;
}

static inline struct vmbus_uio_opts kernel_opts(struct kernel *k, const char *device)
{
	struct vmbus_uio_opts opts = { .struct_bytes = sizeof(opts),
				       .device = device,
				       .sysfs = k->sys,
				       .dev = k->dev,
				       .why = k->why,
				       .why_bytes = sizeof(k->why) };

	opts.guest = (struct vmbus_guest_opts){ .struct_bytes = sizeof(opts.guest),
						.offered = kernel_on_offered,
						.gone = kernel_on_gone,
						.ctx = k,
						.log = kernel_log };
	return opts;
}

static inline struct vmbus_uio *kernel_open_uio(struct kernel *k)
{
	const struct vmbus_uio_opts opts = kernel_opts(k, "/dev/uio0");
	struct vmbus_uio *uio = NULL;
	const int err = vmbus_uio_open(&opts, &uio);

	if (err)
		ck_abort_msg("open: %s: %s", vmbus_err_name(err), k->why);
	return uio;
}

/* Opened and connected; the one channel is k->vsc. */
static inline struct vmbus_uio *kernel_connect_uio(struct kernel *k)
{
	struct vmbus_uio *const uio = kernel_open_uio(k);

	must_eq(vmbus_guest_connect(vmbus_uio_guest(uio)), 0);
	must_eq(vmbus_guest_wait(vmbus_uio_guest(uio), VMBUS_GUEST_CONNECTED, 1000000000u), 0);
	must_eq(k->offered, 1);
	must(k->vsc != NULL);
	return uio;
}

#endif
