/* SPDX-License-Identifier: MIT */
/*
 * The disks as one channel has them, each with a queue of its store.  The list of views, and that
 * of those that are gone, change with the controller's lock; the thread of the channel reads them
 * without.
 *
 * A view whose disk is not at its address any more serves what is under way, and is closed when
 * that is over: at the end of a callback, never from within a call of its store.
 */
#include "block/vsp.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define READY_ALL 2u /* queues with a descriptor that are asked without looking which is readable */

/* Lock. */
static void retire(struct vmbus__port *port, struct vmbus__view **at)
{
	struct vmbus__view *const view = *at;

	*at = NULL;
	view->next = port->gone;
	port->gone = view;
	port->reap = true;
}

/* Lock.  Returns false when there is no memory. */
static bool add(struct vmbus__view **at, struct vmbus__unit *unit)
{
	struct vmbus__view *const view = calloc(1, sizeof(*view));

	if (!view)
		return false;
	view->unit = unit;
	view->fd = -1;
	unit->refs++;
	*at = view;
	return true;
}

void vmbus__views_refresh(struct vmbus__port *port)
{
	struct vmbus_block *const block = port->block;
	bool whole = true;
	uint32_t t, l;

	pthread_mutex_lock(&block->lock);
	for (t = 0; t < VMBUS__TARGETS; t++)
		for (l = 0; l < VMBUS__LUNS; l++) {
			struct vmbus__view **const at = &port->views[t][l];
			struct vmbus__unit *const unit = block->place[t][l].unit;

			if (*at && (*at)->unit != unit)
				retire(port, at);
			if (unit && !*at)
				whole = add(at, unit) && whole;
		}
	/* 0 is no number that the list has: what had no memory is tried again. */
	port->number =
		whole ? vmbus__ld64_relaxed(vmbus__as_a64(&block->number)) : 0; /* BLOCKLIST.look */
	pthread_mutex_unlock(&block->lock);
}

/* A queue of the store, whose descriptor, if it has one, is to be in our epoll. */
static int open_queue(struct vmbus__port *port, struct vmbus__view *view)
{
	const struct vmbus_store *const store = &view->unit->disk.store;
	struct epoll_event event = { .events = EPOLLIN, .data = { .ptr = view } };
	int err = 0;

	view->queue = (struct vmbus_store_queue){ .ctx = store->ctx,
						  .fd = -1,
						  .depth = port->block->opts.depth };
	if (store->ops->open)
		err = store->ops->open(&view->queue);
	if (err || view->queue.fd < 0)
		return err;
	/* The queue of a unit that was replaced may have the same descriptor still. */
	view->fd = fcntl(view->queue.fd, F_DUPFD_CLOEXEC, 3);
	if (view->fd >= 0 && epoll_ctl(port->epoll_fd, EPOLL_CTL_ADD, view->fd, &event) == 0)
		return 0;
	if (view->fd >= 0)
		(void)close(view->fd);
	view->fd = -1;
	if (store->ops->close)
		store->ops->close(&view->queue);
	return VMBUS_E_SYSTEM;
}

/* Once in each callback: a guest does not make us try for every request. */
int vmbus__view_open(struct vmbus__port *port, struct vmbus__view *view)
{
	const struct vmbus__disk *const disk = &view->unit->disk;
	int err;

	if (view->tried == port->turn)
		return VMBUS_E_AGAIN;
	view->tried = port->turn;
	err = open_queue(port, view);
	if (err) {
		vmbus__block_log(port->block, "disk %u:%u: its store, %s, cannot be opened: %s",
				 disk->target, disk->lun,
				 disk->store.ops->name ? disk->store.ops->name : "?",
				 vmbus_err_name(err));
		return err;
	}
	if (view->fd >= 0) {
		view->next_fd = port->with_fd;
		port->with_fd = view;
		port->fds++;
	}
	view->open = true;
	return 0;
}

static void close_queue(struct vmbus__port *port, struct vmbus__view *view)
{
	const struct vmbus_store_ops *const ops = view->unit->disk.store.ops;
	struct vmbus__view **at = &port->with_fd;

	if (view->fd >= 0) {
		while (*at != view)
			at = &(*at)->next_fd;
		*at = view->next_fd;
		port->fds--;
		(void)epoll_ctl(port->epoll_fd, EPOLL_CTL_DEL, view->fd, NULL);
		(void)close(view->fd);
		view->fd = -1;
	}
	if (view->open && ops->close)
		ops->close(&view->queue);
	view->open = false;
}

/* Lock: what it counted stays with its address. */
static void keep_counts(struct vmbus__view *view)
{
	struct vmbus__place *const place = view->unit->place;
	uint32_t i;

	for (i = 0; i < VMBUS__COUNTS; i++)
		place->count[i] +=
			vmbus__ld64_relaxed(vmbus__as_a64(&view->count[i])); /* BLOCKSTAT.read */
}

/* A view that is gone and has nothing under way, or NULL. */
static struct vmbus__view *take_gone(struct vmbus__port *port)
{
	struct vmbus__view **at = &port->gone, *view;

	pthread_mutex_lock(&port->block->lock);
	while (*at && (*at)->in_flight)
		at = &(*at)->next;
	view = *at;
	if (view) {
		*at = view->next;
		keep_counts(view);
	}
	pthread_mutex_unlock(&port->block->lock);
	return view;
}

void vmbus__views_reap(struct vmbus__port *port)
{
	struct vmbus__view *view;

	port->reap = false;
	while ((view = take_gone(port))) {
		close_queue(port, view);
		vmbus__unit_put(port->block, view->unit);
		free(view);
	}
}

void vmbus__views_close(struct vmbus__port *port)
{
	uint32_t t, l;

	pthread_mutex_lock(&port->block->lock);
	for (t = 0; t < VMBUS__TARGETS; t++)
		for (l = 0; l < VMBUS__LUNS; l++)
			if (port->views[t][l])
				retire(port, &port->views[t][l]);
	pthread_mutex_unlock(&port->block->lock);
	vmbus__views_reap(port);
}

static void ready(struct vmbus__port *port, struct vmbus__view *view)
{
	const struct vmbus_store_ops *const ops = view->unit->disk.store.ops;

	if (!ops->ready)
		return;
	ops->ready(&view->queue);
	vmbus__view_touch(port, view);
}

/* Have the stores tell what is done. */
void vmbus__views_ready(struct vmbus__port *port)
{
	struct epoll_event events[16];
	struct vmbus__view *view;
	int i, n;

	if (port->fds <= READY_ALL) {
		for (view = port->with_fd; view; view = view->next_fd)
			ready(port, view);
		return;
	}
	n = epoll_wait(port->epoll_fd, events, 16, 0);
	for (i = 0; i < n; i++)
		if (events[i].data.ptr)
			ready(port, events[i].data.ptr);
}

static void cancel(struct vmbus__port *port, struct vmbus__view *view)
{
	const struct vmbus_store_ops *const ops = view->unit->disk.store.ops;

	if (!view->in_flight)
		return;
	view->over = true;
	if (!ops->cancel)
		return;
	ops->cancel(&view->queue);
	vmbus__view_touch(port, view);
}

/* The channel is closed: have the stores end what they can end. */
void vmbus__views_cancel(struct vmbus__port *port)
{
	struct vmbus__view *view;
	uint32_t t, l;

	for (t = 0; t < VMBUS__TARGETS; t++)
		for (l = 0; l < VMBUS__LUNS; l++)
			if (port->views[t][l])
				cancel(port, port->views[t][l]);
	for (view = port->gone; view; view = view->next)
		cancel(port, view);
}

/* What ends within it may begin the next request of its command, which the store gathers too. */
static void commit(struct vmbus__view *view)
{
	const struct vmbus_store_ops *const ops = view->unit->disk.store.ops;

	if (!ops->commit)
		return;
	do {
		view->begun = false;
		ops->commit(&view->queue);
	} while (VMBUS_UNLIKELY(view->begun));
}

/* The end of a callback: no more requests come for now. */
void vmbus__views_commit(struct vmbus__port *port)
{
	struct vmbus__view *view;

	while ((view = port->touched)) {
		port->touched = view->touched;
		view->is_touched = false;
		commit(view);
	}
}

/* For REPORT LUNS. */
uint32_t vmbus__view_luns(void *ctx, uint8_t target, uint8_t *luns, uint32_t room)
{
	const struct vmbus__port *const port = ctx;
	uint32_t count = 0, l;

	if (target >= VMBUS__TARGETS)
		return 0;
	for (l = 0; l < VMBUS__LUNS; l++)
		if (port->views[target][l]) {
			if (count < room)
				luns[count] = (uint8_t)l;
			count++;
		}
	return count;
}
