/* SPDX-License-Identifier: MIT */
/*
 * The descriptor that a device has its channel's thread look after: it is in the same epoll as the
 * channel's signals, and level-triggered, so what a device leaves in it is told again.  While the
 * device may not be told, since a send waits for room, that epoll does not hear of it: else a child
 * that does not read would keep us awake.
 *
 * A watch goes on after close() said AGAIN, so that a device can wait for what it has begun; then the
 * stage is SHUT.  It ends with vmbus_chan_close_done().
 */
#include "bus/bus.h"

#include <errno.h>
#include <sys/epoll.h>

static int epoll_of(const struct vmbus_chan *chan)
{
	return chan->own_fd ? chan->wait_fd : chan->bus->epoll_fd;
}

static int change(const struct vmbus_chan *chan, int op, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events,
				     .data = { .u64 = VMBUS__WATCHED | chan->slot } };

	return epoll_ctl(epoll_of(chan), op, fd, &event);
}

/* The channel forgets its descriptor; the device still has it open. */
void vmbus__unwatch(struct vmbus_chan *chan)
{
	if (chan->watch_fd < 0)
		return;
	(void)change(chan, EPOLL_CTL_DEL, chan->watch_fd, 0);
	chan->watch_fd = -1;
	chan->ready_due = false;
	chan->ready_was = false;
	chan->watch_off = false;
	if (!chan->own_fd)
		chan->bus->watched--;
}

/* Do not hear of it for now. */
void vmbus__watch_pause(struct vmbus_chan *chan)
{
	if (chan->watch_fd < 0 || chan->watch_off)
		return;
	chan->watch_off = change(chan, EPOLL_CTL_MOD, chan->watch_fd, 0) == 0;
}

/* The send that waited has found its room, or the channel closes. */
void vmbus__watch_again(struct vmbus_chan *chan)
{
	if (!chan->watch_off)
		return;
	chan->watch_off = false;
	(void)change(chan, EPOLL_CTL_MOD, chan->watch_fd, EPOLLIN);
}

/* The descriptor is readable; returns whether the device is to be told now. */
bool vmbus__watch_take(struct vmbus_chan *chan)
{
	/* Else what it has under way would end only when the child reads its ring. */
	const bool saved = (chan->paused & VMBUS__PAUSED_TO_SAVE) != 0;

	chan->ready_due = false;
	if (chan->watch_fd < 0)
		return false;
	if (chan->stage == VMBUS__SHUT)
		return true;
	if (!chan->failed && !chan->let_go &&
	    (!chan->need || saved || (chan->vsp->flags & VMBUS_VSP_READ_WHILE_FULL)))
		return true;
	vmbus__watch_pause(chan);
	return false;
}

static bool may_watch(const struct vmbus_chan *chan)
{
	if (!chan->vsp->ready || chan->foreign)
		return false;
	return chan->stage == VMBUS__SHUT
		       ? vmbus__ld32_relaxed(&chan->closing) != 0 /* CLOSE.done */
		       : !chan->let_go;
}

int vmbus_chan_watch(struct vmbus_chan *chan, int fd)
{
	if (!may_watch(chan))
		return VMBUS_E_STATE;
	if (fd == chan->watch_fd)
		return 0;
	if (fd < -1)
		return VMBUS_E_INVAL;
	if (fd >= 0 && change(chan, EPOLL_CTL_ADD, fd, EPOLLIN))
		return errno == ENOMEM || errno == ENOSPC ? VMBUS_E_SYSTEM : VMBUS_E_INVAL;
	vmbus__unwatch(chan);
	chan->watch_fd = fd;
	chan->watch_pause = 0;
	if (fd >= 0 && !chan->own_fd)
		chan->bus->watched++;
	return 0;
}
