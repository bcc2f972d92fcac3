/* SPDX-License-Identifier: MIT */
/*
 * An opened device as a whole: what it is made of, its descriptor, waiting.  What passes between
 * guest and parent is the backend's business.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "uio/uio.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define TURN 256u /* units of work in one vmbus_uio_wait() */

static void close_fd(int *fd)
{
	const int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = saved;
}

static int watch_one(const struct vmbus_uio *uio, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	event.data.fd = fd;
	return fd < 0 || epoll_ctl(uio->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -1 : 0;
}

static int watch(struct vmbus_uio *uio)
{
	uio->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (uio->epoll_fd < 0)
		return vmbus__uio_errno();
	uio->again_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uio->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uio->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (watch_one(uio, uio->again_fd) || watch_one(uio, uio->kick_fd) ||
	    watch_one(uio, uio->timer_fd))
		return vmbus__uio_errno();
	return 0;
}

static void again(struct vmbus_uio *uio, bool set)
{
	uint64_t count;

	if (uio->again_set == set)
		return;
	uio->again_set = set;
	if (set)
		(void)eventfd_write(uio->again_fd, 1);
	else
		(void)!read(uio->again_fd, &count, sizeof(count));
}

/* Sleep for so long until a descriptor is readable: like poll(). */
static int poll_for(int fd, uint64_t timeout_ns)
{
	const struct timespec timeout = { .tv_sec = (time_t)(timeout_ns / 1000000000u),
					  .tv_nsec = (long)(timeout_ns % 1000000000u) };
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return ppoll(&p, 1, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
}

int vmbus__uio_sleep(struct vmbus_uio *uio, uint64_t timeout_ns)
{
	struct epoll_event events[4];
	int n = timeout_ns ? poll_for(uio->epoll_fd, timeout_ns) : 1, i;
	uint64_t count;

	if (n > 0)
		n = epoll_wait(uio->epoll_fd, events, 4, 0);
	if (n < 0)
		return errno == EINTR ? 0 : VMBUS_E_SYSTEM;
	/* The device's own interrupts are taken by flags(); who is awake looks at all the rest. */
	for (i = 0; i < n; i++)
		if (events[i].data.fd == uio->kick_fd || events[i].data.fd == uio->timer_fd)
			(void)!read(events[i].data.fd, &count, sizeof(count));
	again(uio, false);
	return n;
}

static int check_device(const struct vmbus_uio_opts *opts, const struct vmbus__uio_device *device)
{
	if (strcmp(device->info.driver, VMBUS__UIO_DRIVER) != 0) {
		vmbus__uio_say(opts,
			       "%s: %s%s holds it, not " VMBUS__UIO_DRIVER
			       "; vmbus-uio bind %s%s changes that",
			       device->name, device->info.driver[0] ? "the driver " : "no driver",
			       device->info.driver, device->info.driver[0] ? "--force " : "",
			       device->name);
		return VMBUS_E_STATE;
	}
	if (!device->info.uio[0] || !device->areas.has_rings || !device->info.ring_bytes) {
		vmbus__uio_say(
			opts,
			"%s: sysfs tells of no device file or of no rings for it; unbind and "
			"bind it again",
			device->name);
		return VMBUS_E_PEER;
	}
	if (device->info.monitor_id != VMBUS_MONITOR_NONE && !device->areas.has_monitor) {
		vmbus__uio_say(opts, "%s: it has a monitor id, but sysfs tells of no monitor page",
			       device->name);
		return VMBUS_E_PEER;
	}
	return 0;
}

/* What must hold later is made now: paths, the offer, the place of the rings. */
static int take_device(struct vmbus_uio *uio, const struct vmbus_uio_opts *opts,
		       const struct vmbus__uio_device *device)
{
	const struct vmbus_uio_info *const info = &device->info;
	const int len = snprintf(uio->path, sizeof(uio->path), "%s/%s",
				 opts->dev ? opts->dev : "/dev", info->uio);
	void *place;

	if (len < 0 || (size_t)len >= sizeof(uio->path) ||
	    !vmbus__uio_path(opts, uio->cpu_path, "devices/%s/channels/%u/cpu", device->name,
			     info->relid)) {
		vmbus__uio_say(opts, "%.80s: the path is too long",
			       opts->dev ? opts->dev : "sysfs");
		return VMBUS_E_SYSTEM;
	}
	if (access(uio->path, R_OK | W_OK)) {
		vmbus__uio_say(opts, "%s: %s (errno %d)%s", uio->path, strerror(errno), errno,
			       errno == EACCES ? "; run it as root, or have udev set its mode"
			       : errno == ENOENT
				       ? "; is devtmpfs mounted, or does udev make it still?"
				       : "");
		return vmbus__uio_errno();
	}
	(void)snprintf(uio->uio_folder, sizeof(uio->uio_folder), "uio/%s", info->uio);
	memcpy(uio->name, device->name, sizeof(uio->name));
	uio->areas = device->areas;
	uio->offer.class_id = info->class_id;
	uio->offer.instance_id = info->instance_id;
	uio->offer.relid = info->relid;
	uio->offer.monitor_id = (uint8_t)info->monitor_id;
	uio->offer.monitored = info->monitor_id != VMBUS_MONITOR_NONE;
	uio->offer.dedicated = 1;
	uio->offer.conn_id = info->relid; /* nobody but be_signal() sees it */
	place = mmap(NULL, uio->areas.ring_bytes, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (place == MAP_FAILED) {
		vmbus__uio_say(opts, "no room for rings of %llu bytes: %s",
			       (unsigned long long)uio->areas.ring_bytes, strerror(errno));
		return VMBUS_E_NOMEM;
	}
	uio->rings = place;
	return 0;
}

/* Find the device and take its lock; of a class, the first that nobody has. */
static int find_device(struct vmbus_uio *uio, const struct vmbus_uio_opts *opts)
{
	struct vmbus__uio_device *devices;
	uint32_t count, i;
	int err = vmbus__uio_find(opts, &devices, &count);

	if (err)
		return err;
	for (i = 0; i < count; i++) {
		err = check_device(opts, &devices[i]);
		if (err)
			continue;
		err = vmbus__uio_lock(opts, &devices[i]);
		if (err >= 0)
			break;
	}
	if (err >= 0) {
		uio->lock_fd = err;
		err = vmbus__uio_reread(opts, &devices[i]);
		if (err)
			vmbus__uio_say(opts, "%s: it was withdrawn just now", devices[i].name);
		else
			err = check_device(opts, &devices[i]);
		if (!err)
			err = take_device(uio, opts, &devices[i]);
	}
	free(devices);
	return err;
}

/* Either set up, or nothing of it: what was set without struct_bytes would be lost silently. */
static bool guest_opts_ok(const struct vmbus_guest_opts *guest)
{
	const struct vmbus_guest_opts none = { 0 };

	if (guest->struct_bytes)
		return guest->struct_bytes >= sizeof(*guest);
	return !guest->offered && !guest->gone && !guest->ctx && !guest->log &&
	       !guest->tl_refused && !guest->paused && !guest->monitor_set &&
	       memcmp(&guest->limits, &none.limits, sizeof(none.limits)) == 0;
}

static int make_guest(struct vmbus_uio *uio, const struct vmbus_uio_opts *opts)
{
	struct vmbus_guest_opts guest = opts->guest;
	int err;

	guest.struct_bytes = sizeof(guest);
	guest.backend = &vmbus__uio_guest_backend;
	guest.backend_ctx = uio;
	uio->log = guest.log;
	uio->log_ctx = guest.ctx;
	err = vmbus_guest_create(&guest, &uio->guest);
	if (err)
		vmbus__uio_say(opts, "the guest's options: %s", vmbus_err_name(err));
	return err;
}

int vmbus_uio_open(const struct vmbus_uio_opts *opts, struct vmbus_uio **uio)
{
	struct vmbus_uio *made;
	int err, saved;

	*uio = NULL;
	if (opts->struct_bytes < sizeof(*opts) || !guest_opts_ok(&opts->guest))
		return VMBUS_E_INVAL;
	vmbus__uio_say(opts, "%s", "");
	if (sysconf(_SC_PAGESIZE) != (long)VMBUS_PAGE_BYTES) {
		vmbus__uio_say(opts,
			       "pages of this machine have %ld bytes; only 4096 are supported",
			       sysconf(_SC_PAGESIZE));
		return VMBUS_E_NOTSUP;
	}
	made = calloc(1, sizeof(*made));
	if (!made)
		return VMBUS_E_NOMEM;
	made->lock_fd = made->fd = made->epoll_fd = -1;
	made->again_fd = made->kick_fd = made->timer_fd = -1;
	err = find_device(made, opts);
	if (!err)
		err = watch(made);
	if (!err)
		err = make_guest(made, opts);
	if (err) {
		saved = errno;
		vmbus_uio_close(made);
		errno = saved;
		return err;
	}
	*uio = made;
	return 0;
}

/* A wait for the state that is there already does nothing but say so. */
static bool in_callback(const struct vmbus_uio *uio)
{
	return uio->guest &&
	       vmbus_guest_wait(uio->guest, vmbus_guest_state(uio->guest), 0) == VMBUS_E_STATE;
}

void vmbus_uio_close(struct vmbus_uio *uio)
{
	if (!uio || in_callback(uio))
		return;
	uio->ending = true;
	if (uio->guest) /* closes and unloads first */
		vmbus_guest_destroy(uio->guest);
	vmbus__uio_device_close(uio);
	if (uio->rings)
		(void)munmap(uio->rings, uio->areas.ring_bytes);
	close_fd(&uio->epoll_fd);
	close_fd(&uio->again_fd);
	close_fd(&uio->kick_fd);
	close_fd(&uio->timer_fd);
	close_fd(&uio->lock_fd); /* and with it the lock */
	free(uio);
}

struct vmbus_guest *vmbus_uio_guest(const struct vmbus_uio *uio)
{
	return uio->guest;
}

uint32_t vmbus_uio_ring_bytes(const struct vmbus_uio *uio)
{
	return (uint32_t)(uio->areas.ring_bytes / 2 - VMBUS_PAGE_BYTES);
}

int vmbus_uio_fd(const struct vmbus_uio *uio)
{
	return uio->epoll_fd;
}

/* Whether the guest wants a turn at once; else the timer is set for when it does. */
static bool is_due(struct vmbus_uio *uio)
{
	const uint64_t ns = vmbus_guest_timeout(uio->guest);
	const struct itimerspec when = { .it_value = { .tv_sec = (time_t)(ns / 1000000000u),
						       .tv_nsec = (long)(ns % 1000000000u) } };

	if (uio->answer_count || (uio->gone && !uio->told))
		return true;
	if (ns == 0 || ns == UINT64_MAX)
		return ns == 0;
	(void)timerfd_settime(uio->timer_fd, 0, &when, NULL);
	return false;
}

static int dispatch(struct vmbus_uio *uio, uint32_t budget)
{
	const int done = vmbus_guest_dispatch(uio->guest, budget);

	again(uio, (done > 0 && (uint32_t)done >= budget) || is_due(uio));
	return done;
}

int vmbus_uio_dispatch(struct vmbus_uio *uio, uint32_t budget)
{
	if (budget == 0 || budget > INT32_MAX)
		return VMBUS_E_RANGE;
	if (in_callback(uio))
		return VMBUS_E_STATE;
	(void)vmbus__uio_sleep(uio, 0);
	return dispatch(uio, budget);
}

/* The parent withdrew the device, and the guest has let go of it. */
static bool is_over(const struct vmbus_uio *uio)
{
	return uio->gone && uio->told && !uio->offered;
}

int vmbus_uio_wait(struct vmbus_uio *uio, uint64_t timeout_ns)
{
	uint64_t due;
	int woken, done;

	if (in_callback(uio))
		return VMBUS_E_STATE;
	due = uio->answer_count ? 0 : vmbus_guest_timeout(uio->guest);
	if (is_over(uio))
		due = 0;
	woken = vmbus__uio_sleep(uio, due < timeout_ns ? due : timeout_ns);
	/* Woken by nothing that is due: the time is over, or a signal handler ran. */
	if (woken < 0 || (woken == 0 && (due > timeout_ns || due == UINT64_MAX)))
		return woken ? woken : VMBUS_E_AGAIN;
	done = dispatch(uio, TURN);
	return is_over(uio) ? VMBUS_E_PEER : done;
}
