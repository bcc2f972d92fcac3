/* SPDX-License-Identifier: MIT */
/*
 * What an open channel has of its own, made when it is opened: tasks, room for large buffers, and
 * the descriptors by which its thread is woken.  No packet allocates.
 */
#include "block/vsp.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "lazy/lazy.h"

/* How long a channel that is closed waits for stores before it asks them to end what is under way: a write
   that is given up may land late.  Less than a provider has for its answer; then again and again. */
#define PATIENCE_S 2
#define AGAIN_NS 500000000

#define PIECE_BYTES (sizeof(struct vmbus_piece) + sizeof(struct iovec))

static int make_tasks(struct vmbus__port *port, uint32_t count)
{
	port->tasks = vmbus__lazy_get(count * sizeof(*port->tasks));
	port->task_count = port->fresh = port->tasks ? count : 0;
	return port->tasks ? 0 : VMBUS_E_NOMEM;
}

/* Answers of a saved state: of a controller that had more requests perhaps.  No task was taken yet. */
int vmbus__port_answers(struct vmbus__port *port, uint64_t count)
{
	if (count > VMBUS__REQUESTS_MAX + VMBUS__BATCH_MAX)
		return VMBUS_E_INVAL;
	if (count <= port->fresh)
		return 0;
	vmbus__lazy_put(port->tasks, port->task_count * sizeof(*port->tasks));
	return make_tasks(port, (uint32_t)count);
}

/* The memory of large lists is used from one end, so that what is never needed costs nothing. */
static int make_wides(struct vmbus__port *port)
{
	const size_t room = port->transfer_bytes / VMBUS_PAGE_BYTES + 1u;
	const uint32_t fit = (uint32_t)(VMBUS__WIDE_BYTES / (room * PIECE_BYTES));
	const uint32_t most = fit < VMBUS__WIDE_MAX ? fit : VMBUS__WIDE_MAX;
	const uint32_t requests = port->block->opts.requests;
	const uint32_t count = requests < most ? requests : most;
	uint8_t *at;
	uint32_t i;

	port->wides = calloc(count, sizeof(*port->wides));
	port->wide_bytes = count * room * PIECE_BYTES;
	port->wide_memory = vmbus__lazy_get(port->wide_bytes);
	if (!port->wides || !port->wide_memory)
		return VMBUS_E_NOMEM;
	at = port->wide_memory;
	for (i = 0; i < count; i++) {
		port->wides[i].pieces = (struct vmbus_piece *)(void *)at;
		at += room * sizeof(struct vmbus_piece);
		port->wides[i].iov = (struct iovec *)(void *)at;
		at += room * sizeof(struct iovec);
		port->wides[i].next = i + 1u < count ? &port->wides[i + 1u] : NULL;
	}
	port->wide = port->wides;
	return 0;
}

static int make_fds(struct vmbus__port *port)
{
	struct epoll_event event = { .events = EPOLLIN };

	port->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	port->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (port->event_fd < 0 || port->epoll_fd < 0 ||
	    epoll_ctl(port->epoll_fd, EPOLL_CTL_ADD, port->event_fd, &event))
		return VMBUS_E_SYSTEM;
	return 0;
}

int vmbus__port_make(struct vmbus_block *block, struct vmbus_chan *chan, struct vmbus__port **made)
{
	struct vmbus__port *const port = calloc(1, sizeof(*port));
	int err;

	if (!port)
		return VMBUS_E_NOMEM;
	port->block = block;
	port->chan = chan;
	port->event_fd = port->epoll_fd = port->timer_fd = -1;
	port->primary = vmbus_chan_primary(chan) == chan;
	port->journal = vmbus_chan_own(chan) != NULL;
	port->transfer_bytes = block->opts.transfer_bytes;
	if (port->journal && port->transfer_bytes > VMBUS__KEPT_TRANSFER)
		port->transfer_bytes = VMBUS__KEPT_TRANSFER;
	port->replies.last = &port->replies.first;
	port->held.last = &port->held.first;
	/* One more for each packet of a callback: one that is refused has an answer too. */
	err = make_tasks(port, block->opts.requests + VMBUS__BATCH_MAX);
	if (!err)
		err = make_wides(port);
	if (!err)
		err = make_fds(port);
	if (!err) {
		*made = port;
		return 0;
	}
	vmbus__port_free(port);
	return err;
}

void vmbus__port_free(struct vmbus__port *port)
{
	if (port->event_fd >= 0)
		(void)close(port->event_fd);
	if (port->epoll_fd >= 0)
		(void)close(port->epoll_fd);
	if (port->timer_fd >= 0)
		(void)close(port->timer_fd);
	vmbus__lazy_put(port->wide_memory, port->wide_bytes);
	free(port->wides);
	vmbus__lazy_put(port->tasks, port->task_count * sizeof(*port->tasks));
	free(port);
}

/* The channel is closed, and stores have requests of it.  Without a timer they are waited for. */
void vmbus__port_set_timer(struct vmbus__port *port)
{
	static const struct itimerspec times = { .it_value = { .tv_sec = PATIENCE_S },
						 .it_interval = { .tv_nsec = AGAIN_NS } };
	struct epoll_event event = { .events = EPOLLIN };

	if (port->timer_fd < 0)
		port->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (port->timer_fd < 0 || timerfd_settime(port->timer_fd, 0, &times, NULL))
		return;
	(void)epoll_ctl(port->epoll_fd, EPOLL_CTL_ADD, port->timer_fd, &event);
}

/* Whether stores are to end what is under way; once for each time that it is. */
bool vmbus__port_is_time(struct vmbus__port *port)
{
	uint64_t times;

	return port->timer_fd >= 0 &&
	       read(port->timer_fd, &times, sizeof(times)) == (ssize_t)sizeof(times);
}

struct vmbus__task *vmbus__task_take(struct vmbus__port *port)
{
	struct vmbus__task *task = port->free;

	if (VMBUS_LIKELY(task != NULL)) {
		port->free = task->next;
	} else if (port->fresh) {
		task = &port->tasks[--port->fresh];
		task->port = port;
	}
	return task;
}

void vmbus__task_give(struct vmbus__port *port, struct vmbus__task *task)
{
	task->next = port->free;
	port->free = task;
}

void vmbus__queue_add(struct vmbus__queue *queue, struct vmbus__task *task)
{
	task->next = NULL;
	*queue->last = task;
	queue->last = &task->next;
}

struct vmbus__task *vmbus__queue_take(struct vmbus__queue *queue)
{
	struct vmbus__task *const task = queue->first;

	if (!task)
		return NULL;
	queue->first = task->next;
	if (!queue->first)
		queue->last = &queue->first;
	return task;
}
