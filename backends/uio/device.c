/* SPDX-License-Identifier: MIT */
/*
 * The device file: the kernel opens the channel when it is opened first and closes it when the file
 * and all maps of it are gone.  So the maps come with the opening and go with the closing, and the
 * rings are put in the place that the guest was given for them beforehand.
 *
 * Why not map them once: the guest clears rings before it asks to open, and these would be open
 * then, with packets in them; and a map that stays would keep the channel open.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uio/uio.h"

#include "base/atomic.h"

/* Words of a ring's control page, [RING-CTL]. */
#define RING_IN 0u
#define RING_OUT 4u
#define RING_PENDING_SEND 12u

void vmbus__uio_log(const struct vmbus_uio *uio, const char *format, ...)
{
	char line[VMBUS__UIO_PATH + 128];
	va_list args;

	if (!uio->log)
		return;
	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	uio->log(uio->log_ctx, line);
}

static vmbus__a32 *word_at(uint8_t *page, uint32_t offset)
{
	return (vmbus__a32 *)(void *)(page + offset);
}

/* Our own pages in the rings' place again; what the guest still does there harms nobody. */
static void take_rings_away(struct vmbus_uio *uio)
{
	if (mmap(uio->rings, uio->areas.ring_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		vmbus__uio_log(uio, "%s: the rings cannot be unmapped: %s (errno %d)", uio->name,
			       strerror(errno), errno);
}

static int map_page(struct vmbus_uio *uio, bool there, uint32_t index, uint8_t **page)
{
	void *map;

	*page = NULL;
	if (!there)
		return 0;
	map = vmbus__uio_sys->map(uio->fd, NULL, VMBUS_PAGE_BYTES, index);
	if (map == MAP_FAILED)
		return -1;
	*page = map;
	return 0;
}

/*
 * The kernel starts both rings at 0 when it opens the channel, [UIO-OPEN]; the parent may have
 * moved its own two indices since, but ours move only if another program has the file open too.
 */
static bool rings_are_ours(struct vmbus_uio *uio)
{
	uint8_t *const send = uio->rings, *const recv = uio->rings + uio->areas.ring_bytes / 2;

	return vmbus__ld32_relaxed(word_at(send, RING_IN)) == 0 && /* INIT.tx */
	       vmbus__ld32_relaxed(word_at(recv, RING_OUT)) == 0;  /* INIT.rx */
}

static int map_all(struct vmbus_uio *uio)
{
	if (vmbus__uio_sys->map(uio->fd, uio->rings, uio->areas.ring_bytes,
				uio->areas.ring_index) == MAP_FAILED ||
	    map_page(uio, uio->areas.has_int, uio->areas.int_index, &uio->int_page) ||
	    map_page(uio, uio->areas.has_monitor && uio->offer.monitored, uio->areas.monitor_index,
		     &uio->monitor_page)) {
		vmbus__uio_log(uio, "%s: its memory cannot be mapped: %s (errno %d)", uio->path,
			       strerror(errno), errno);
		return vmbus__uio_errno();
	}
	if (!rings_are_ours(uio)) {
		vmbus__uio_log(uio, "%s: another program has it open and uses its rings",
			       uio->path);
		return VMBUS_E_STATE;
	}
	/* A sender that waited in the opening before has left this behind: the kernel does. */
	vmbus__st32_relaxed(word_at(uio->rings, RING_PENDING_SEND), 0); /* INIT.tx */
	return 0;
}

/* Whether the file is still that of our device: numbers of uio devices are used again. */
static bool still_ours(const struct vmbus_uio *uio)
{
	return faccessat(uio->lock_fd, uio->uio_folder, F_OK, 0) == 0;
}

int vmbus__uio_device_open(struct vmbus_uio *uio)
{
	struct epoll_event event = { .events = EPOLLIN };
	int err = 0;

	event.data.fd = -1;
	uio->fd = still_ours(uio) ? vmbus__uio_sys->open(uio->path) : (errno = ENODEV, -1);
	if (uio->fd < 0) {
		vmbus__uio_log(uio, "%s: %s (errno %d)%s", uio->path, strerror(errno), errno,
			       errno == EAGAIN	 ? ": the parent refused to open the channel"
			       : errno == ENODEV ? ": the device was unbound or withdrawn"
						 : "");
		return vmbus__uio_errno();
	}
	if (!still_ours(uio))
		err = VMBUS_E_STATE;
	if (!err)
		err = map_all(uio);
	if (!err && epoll_ctl(uio->epoll_fd, EPOLL_CTL_ADD, uio->fd, &event))
		err = vmbus__uio_errno();
	if (err)
		vmbus__uio_device_close(uio);
	return err;
}

static void unmap_page(uint8_t **page)
{
	if (*page)
		(void)munmap(*page, VMBUS_PAGE_BYTES);
	*page = NULL;
}

void vmbus__uio_device_close(struct vmbus_uio *uio)
{
	struct epoll_event unused = { 0 };

	if (uio->fd < 0)
		return;
	(void)epoll_ctl(uio->epoll_fd, EPOLL_CTL_DEL, uio->fd, &unused);
	take_rings_away(uio);
	unmap_page(&uio->int_page);
	unmap_page(&uio->monitor_page);
	vmbus__uio_sys->close(uio->fd);
	uio->fd = -1;
}

bool vmbus__uio_device_event(struct vmbus_uio *uio)
{
	struct epoll_event unused = { 0 };
	int came;

	if (uio->fd < 0 || uio->gone)
		return false;
	came = vmbus__uio_sys->event(uio->fd);
	if (came >= 0)
		return came > 0;
	if (errno != EIO && errno != ENODEV)
		vmbus__uio_log(uio, "%s: %s (errno %d): taken for a withdrawal", uio->path,
			       strerror(errno), errno);
	/* It stays readable for ever. */
	(void)epoll_ctl(uio->epoll_fd, EPOLL_CTL_DEL, uio->fd, &unused);
	uio->gone = true;
	return true;
}
