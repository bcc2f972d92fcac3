/* SPDX-License-Identifier: MIT */
/*
 * What a provider does not know yet is told here, as far as its socket has room: first buses and
 * their memory, then what became of each channel, in the order in which a child could do it: page
 * lists, OPEN, changes, CLOSE, page lists that go.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <vmbus/shm.h>

#include "shm/provider_host.h"

#define RETRY_NS 100000000u

void vmbus__pvh_wait_begin(struct vmbus__pvh_session *session, struct vmbus__pvh_wait *wait)
{
	if (wait->session)
		return;
	wait->session = session;
	wait->since = vmbus__shm_now_ns();
	wait->next = &session->waits;
	wait->prev = session->waits.prev;
	wait->prev->next = wait;
	session->waits.prev = wait;
}

void vmbus__pvh_wait_end(struct vmbus__pvh_wait *wait)
{
	if (!wait->session)
		return;
	wait->prev->next = wait->next;
	wait->next->prev = wait->prev;
	wait->session = NULL;
}

/*
 * 0: sent; AGAIN: no room now; FULL, NOMEM: the system lacks something, which is nobody's fault
 * here; others: the session is over.
 */
static int send_msg(struct vmbus__pvh_session *session, const struct vmbus__pv_msg *msg,
		    const int *fds, int fd_count)
{
	const int err = vmbus__pv_send(session->sock, msg, fds, fd_count);

	/* Too many descriptors on their way, or no memory for the message. */
	if (err == VMBUS_E_AGAIN && (errno == ETOOMANYREFS || errno == ENOBUFS))
		return VMBUS_E_FULL;
	if (err == VMBUS_E_AGAIN && !session->blocked) {
		session->blocked = true;
		session->blocked_at = vmbus__shm_now_ns();
	}
	if (!err)
		session->blocked = false;
	return err;
}

static int send_bus(struct vmbus__pvh_session *session, struct vmbus__pvh_seat *seat)
{
	struct vmbus__pvh_view *const view = &seat->view[session->which];
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_BUS, .bus = seat->id };
	const struct vmbus__pvh_region *region;

	if (view->step == 0) {
		msg.count = seat->bus->region_count;
		memcpy(msg.name, seat->bus->name, sizeof(msg.name));
		return send_msg(session, &msg, NULL, 0);
	}
	region = &seat->bus->regions[view->step - 1u];
	msg.type = VMBUS_PV_REGION;
	msg.gpa = region->gpa;
	msg.bytes = region->bytes;
	msg.offset = region->offset;
	msg.access = region->access;
	return send_msg(session, &msg, &region->fd, 1);
}

/* Buses that went, then buses that came. */
static int emit_buses(struct vmbus__pvh_session *session, uint32_t *left)
{
	struct vmbus__pvh_seat *seat;
	int err;

	for (; session->gone_count && *left; (*left)--) {
		const struct vmbus__pv_msg msg = { .type = VMBUS_PV_BUS_GONE,
						   .bus = session->gone[session->gone_count - 1u] };

		err = send_msg(session, &msg, NULL, 0);
		if (err)
			return err;
		session->gone_count--;
	}
	for (seat = session->device->seats; seat; seat = seat->next)
		while (*left && seat->bus &&
		       seat->view[session->which].step <= seat->bus->region_count) {
			err = send_bus(session, seat);
			if (err)
				return err;
			seat->view[session->which].step++;
			(*left)--;
		}
	return 0;
}

static int send_list(struct vmbus__pvh_session *session, const struct vmbus__pvh_chan *c,
		     const struct vmbus__pvh_list *list)
{
	const size_t bytes = list->count * sizeof(list->qwords[0]);
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_GPADL,
				     .bus = c->seat->id,
				     .sub = c->sub,
				     .gpadl = list->id,
				     .count = list->count,
				     .ranges = list->ranges };
	int fd, err;

	if (list->count <= VMBUS_PV_INLINE) {
		memcpy(msg.qwords, list->qwords, bytes);
		return send_msg(session, &msg, NULL, 0);
	}
	fd = vmbus_shm_create(bytes);
	if (fd < 0)
		return VMBUS_E_NOMEM;
	err = pwrite(fd, list->qwords, bytes, 0) == (ssize_t)bytes ? send_msg(session, &msg, &fd, 1)
								   : VMBUS_E_NOMEM;
	vmbus__shm_close(&fd);
	return err;
}

static int send_chan(struct vmbus__pvh_session *session, const struct vmbus__pvh_chan *c,
		     uint32_t type)
{
	const struct vmbus__pv_msg msg = {
		.type = type, .bus = c->seat->id, .sub = c->sub, .open = c->serial
	};

	return send_msg(session, &msg, NULL, 0);
}

/* How the provider signals the child; returns the eventfd, or -1. */
static int fill_wake(const struct vmbus__pvh_chan *c, const struct vmbus_chan_rings *rings,
		     struct vmbus__pv_msg *msg)
{
	struct vmbus_wake wake;

	msg->event_flag = rings->event_flag;
	if (rings->target_vp == VMBUS_VP_NONE) {
		msg->flags |= VMBUS_PV_QUIET;
		return -1;
	}
	if (vmbus_chan_wake(c->chan, &wake) || wake.fd < 0)
		return -1;
	msg->flags |= VMBUS_PV_WAKE;
	msg->gpa = wake.gpa;
	return wake.fd;
}

/* A set that hears the channel's eventfd, edge by edge, for a provider that cannot touch it. */
static int make_listener(int event)
{
	int fd = epoll_create1(EPOLL_CLOEXEC), err;

	if (fd < 0)
		return VMBUS_E_NOMEM;
	err = vmbus__shm_epoll_add(fd, event, EPOLLIN | EPOLLET, 0);
	if (err)
		vmbus__shm_close(&fd);
	return err ? VMBUS_E_NOMEM : fd;
}

static int send_open(struct vmbus__pvh_session *session, struct vmbus__pvh_chan *c)
{
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_OPEN,
				     .bus = c->seat->id,
				     .sub = c->sub,
				     .open = c->serial,
				     .flags = VMBUS_PV_LISTENER };
	struct vmbus_chan_rings rings;
	int fds[3], count = 0, wake, listener;
	int err = vmbus_chan_rings(c->chan, &rings);

	if (err)
		return err;
	listener = make_listener(c->event);
	if (listener < 0)
		return listener;
	fds[count++] = listener;
	if (c->journal >= 0) {
		msg.flags |= VMBUS_PV_JOURNAL;
		fds[count++] = c->journal;
	}
	wake = fill_wake(c, &rings, &msg);
	if (wake >= 0)
		fds[count++] = wake;
	if (c->was_open)
		msg.flags |= VMBUS_PV_RESUME;
	msg.gpadl = rings.gpadl;
	msg.down_page = rings.down_page;
	memcpy(msg.user, vmbus_chan_open_data(c->chan), sizeof(msg.user));
	err = send_msg(session, &msg, fds, count);
	vmbus__shm_close(&listener);
	return err;
}

static int send_modify(struct vmbus__pvh_session *session, const struct vmbus__pvh_chan *c)
{
	struct vmbus__pv_msg msg = {
		.type = VMBUS_PV_MODIFY, .bus = c->seat->id, .sub = c->sub, .open = c->serial
	};
	struct vmbus_chan_rings rings;
	int wake, err = vmbus_chan_rings(c->chan, &rings);

	if (err)
		return 0; /* it is being closed */
	wake = fill_wake(c, &rings, &msg);
	return send_msg(session, &msg, &wake, wake >= 0);
}

static int emit_lists(struct vmbus__pvh_session *session, struct vmbus__pvh_chan *c)
{
	struct vmbus__pvh_list *list;
	int err = 0;

	for (list = c->lists; list && !err; list = list->next) {
		if (list->told || list->going)
			continue;
		err = send_list(session, c, list);
		list->told = !err;
		if (list->told && list->early)
			vmbus__pvh_wait_begin(session, &list->wait);
	}
	return err;
}

/* A device may keep what it looks at until it is closed, so only then is its answer waited for. */
static int emit_lists_gone(struct vmbus__pvh_session *session, struct vmbus__pvh_chan *c)
{
	const bool idle = vmbus__pvh_seat_idle(c->seat, false);
	struct vmbus__pvh_list *list;

	for (list = c->lists; list; list = list->next) {
		const struct vmbus__pv_msg msg = { .type = VMBUS_PV_GPADL_GONE,
						   .bus = c->seat->id,
						   .sub = c->sub,
						   .gpadl = list->id };
		int err;

		if (!list->going || list->told_gone)
			continue;
		err = send_msg(session, &msg, NULL, 0);
		if (err)
			return err;
		list->told_gone = true;
		if (idle)
			vmbus__pvh_wait_begin(session, &list->wait);
	}
	return 0;
}

static int emit_opening(struct vmbus__pvh_session *session, struct vmbus__pvh_chan *c)
{
	int err = 0;

	if (!c->told_open && (c->state == VMBUS_PVH_OPENING || c->state == VMBUS_PVH_OPEN)) {
		err = send_open(session, c);
		if (err)
			return err;
		c->told_open = true;
		c->tell_wake = c->tell_signal = false; /* it looks at all once it is open */
		vmbus__pvh_wait_begin(session, &c->wait);
	}
	if (c->state == VMBUS_PVH_CLOSING && !c->told_close) {
		err = send_chan(session, c, VMBUS_PV_CLOSE);
		if (err)
			return err;
		c->told_close = true;
		if (c->sub || vmbus__pvh_seat_idle(c->seat, true))
			vmbus__pvh_wait_begin(session, &c->wait);
	}
	if (c->tell_wake && c->told_open && !c->told_close) {
		err = send_modify(session, c);
		c->tell_wake = err != 0;
	}
	if (!err && c->tell_signal && c->told_open && !c->told_close) {
		err = send_chan(session, c, VMBUS_PV_SIGNAL);
		c->tell_signal = err != 0;
	}
	return err;
}

/* A sub-channel comes after its primary, without which the provider does not have it. */
static int emit_primary(struct vmbus__pvh_session *session, const struct vmbus__pvh_chan *c)
{
	struct vmbus__pvh_chan *const primary = c->sub ? vmbus__pvh_chan_find(c->seat, 0) : NULL;
	int err;

	if (!primary || primary->told_open)
		return 0;
	err = emit_lists(session, primary);
	return err ? err : emit_opening(session, primary);
}

static int emit_chan(struct vmbus__pvh_session *session, struct vmbus__pvh_chan *c)
{
	int err = emit_primary(session, c);

	if (!err)
		err = emit_lists(session, c);
	if (!err)
		err = emit_opening(session, c);
	return err ? err : emit_lists_gone(session, c);
}

/*
 * No descriptor or memory to tell of a channel.  An opening fails by it; what a provider has to
 * know of an open one is told later.
 */
static int lacking(struct vmbus__pvh_session *session, struct vmbus__pvh_chan *c, int err)
{
	struct vmbus_provider_host *const host = session->device->host;

	vmbus__shm_log(&host->log, VMBUS_LOG_ERROR,
		       "provider %s: %s: raise ulimit -n, or give it memory", session->device->name,
		       err == VMBUS_E_FULL ? "too many descriptors are on their way"
					   : "no descriptor or memory left");
	if (err == VMBUS_E_FULL || c->state != VMBUS_PVH_OPENING || c->told_open)
		return err;
	vmbus__pvh_chan_opened(c, VMBUS_E_NOMEM);
	return 0;
}

/* Channels in the order in which they had something to tell. */
static int emit_chans(struct vmbus__pvh_session *session, uint32_t *left)
{
	struct vmbus__pvh_device *const device = session->device;
	int err;

	while (*left && device->due_first) {
		struct vmbus__pvh_chan *const c = device->due_first;

		err = emit_chan(session, c);
		if (err == VMBUS_E_FULL || err == VMBUS_E_NOMEM)
			err = lacking(session, c, err);
		if (err)
			return err;
		device->due_first = c->due_next;
		if (!device->due_first)
			device->due_last = &device->due_first;
		c->due = false;
		(*left)--;
	}
	return 0;
}

/* The memory that was asked for; asking again gives the same, so it may be done more than once. */
static int emit_memory(struct vmbus__pvh_session *session, uint32_t *left)
{
	struct vmbus__pv_msg msg;
	int err, fd;

	if (!session->memory_asked || !*left)
		return 0;
	fd = vmbus__pvh_memory_answer(session, &msg);
	err = send_msg(session, &msg, &fd, fd >= 0 ? 1 : 0);
	session->memory_asked = err != 0;
	*left -= !err;
	return err;
}

static int emit_yield(struct vmbus__pvh_session *session)
{
	const struct vmbus__pv_msg msg = { .type = VMBUS_PV_YIELD };
	const int err = send_msg(session, &msg, NULL, 0);

	session->told_yield = !err;
	return err;
}

static void watch(struct vmbus__pvh_session *session)
{
	if (session->blocked == session->watched_out)
		return;
	session->watched_out = session->blocked;
	(void)vmbus__shm_epoll_mod(session->device->host->epoll_fd, session->sock,
				   EPOLLIN | EPOLLRDHUP | (session->blocked ? EPOLLOUT : 0),
				   (uint64_t)session->gen << 32 | session->slot);
}

/* It takes no more messages: what it said last is read before that counts. */
static void hear_the_end(struct vmbus__pvh_session *session)
{
	if (!vmbus__pvh_hung_up(session)) {
		vmbus__pvh_throw(session, "it closed half of its socket");
		return;
	}
	session->readable = true;
	vmbus__pvh_kick(session->device->host);
}

uint32_t vmbus__pvh_emit(struct vmbus__pvh_session *session, uint32_t budget)
{
	uint32_t left = budget;
	int err = 0;

	if (session->dead || session->exited)
		return 0;
	if (session->yielding) {
		if (!session->told_yield)
			err = emit_yield(session);
	} else if (!session->retry_at) {
		err = emit_memory(session, &left);
		if (!err)
			err = emit_buses(session, &left);
		if (!err && !session->takes_over)
			err = emit_chans(session, &left);
	}
	if (err == VMBUS_E_FULL || err == VMBUS_E_NOMEM)
		session->retry_at = vmbus__shm_now_ns() + RETRY_NS;
	if ((!err && left) || session->retry_at)
		session->blocked = false; /* nothing waits for room */
	if (err == VMBUS_E_PEER)
		hear_the_end(session);
	else if (err && err != VMBUS_E_AGAIN && !session->retry_at)
		vmbus__pvh_throw(session, vmbus_err_name(err));
	else
		watch(session);
	if (!left)
		vmbus__pvh_kick(session->device->host);
	return budget - left;
}
