/* SPDX-License-Identifier: MIT */
/*
 * Signals that come past the bus, by a descriptor that the backend has the child, or the system,
 * write.  A child may hold that descriptor too: it can fill it, empty it and make it block.  So it
 * is never read and never written here, only watched for edges; what we write ourselves is another.
 */
#include "bus/bus.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BOUND_AT_ONCE 32

/*
 * Bind the signals of a channel that is being opened, if the backend can.  If not, or if there is
 * no descriptor left, they come by vmbus_bus_signal_event().
 */
void vmbus__bind(struct vmbus_chan *chan)
{
	struct vmbus_bus *bus = chan->bus;
	const struct vmbus_backend *backend = bus->opts.backend;
	const int epoll_fd = chan->own_fd ? chan->wait_fd : bus->epoll_fd;

	if (!backend->bind || !(chan->own_fd || bus->opts.bind_all) || epoll_fd < 0 ||
	    chan->foreign)
		return;
	chan->bound_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (chan->bound_fd < 0)
		return;
	if (vmbus__watch(epoll_fd, chan->bound_fd, EPOLLIN | EPOLLET, chan->slot) ||
	    backend->bind(bus->opts.backend_ctx, chan->conn_id, chan->bound_fd)) {
		close(chan->bound_fd);
		chan->bound_fd = -1;
		return;
	}
	bus->bound += !chan->own_fd;
}

void vmbus__unbind(struct vmbus_chan *chan)
{
	struct vmbus_bus *bus = chan->bus;
	const int epoll_fd = chan->own_fd ? chan->wait_fd : bus->epoll_fd;

	vmbus__foreign_unbind(chan);
	if (chan->bound_fd < 0)
		return;
	(void)bus->opts.backend->unbind(bus->opts.backend_ctx, chan->conn_id);
	/* The child may hold a copy of it, so closing does not take it out. */
	(void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, chan->bound_fd, NULL);
	close(chan->bound_fd);
	chan->bound_fd = -1;
	bus->bound -= !chan->own_fd;
}

/* A device's descriptor is readable. */
static bool take_watched(struct vmbus_bus *bus, uint32_t slot)
{
	struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

	if (!chan || chan->watch_fd < 0)
		return false;
	chan->ready_due = true;
	vmbus__local_add(bus, slot / 64u, (uint64_t)1 << (slot % 64u));
	if (bus->polls)
		vmbus__heat(bus, slot, true);
	return true;
}

/*
 * Channels whose signals, or own descriptors, came to the epoll join those with work left.  Returns
 * whether a descriptor of a device was readable.
 */
bool vmbus__take_bound(struct vmbus_bus *bus)
{
	struct epoll_event events[BOUND_AT_ONCE];
	bool any = false;
	int n, i;

	if (!(bus->bound | bus->watched))
		return false;
	n = epoll_wait(bus->epoll_fd, events, BOUND_AT_ONCE, 0);
	for (i = 0; i < n; i++) {
		const uint64_t slot = events[i].data.u64;

		if (slot & VMBUS__WATCHED) {
			any |= take_watched(bus, (uint32_t)slot);
			continue;
		}
		if (slot >= VMBUS__RELIDS)
			continue;
		vmbus__add64_relaxed(&bus->signals, 1); /* COUNT.add */
		vmbus__note_bound(bus, (uint32_t)slot);
		vmbus__local_add(bus, (uint32_t)slot / 64u, (uint64_t)1 << (slot % 64u));
	}
	return any;
}
