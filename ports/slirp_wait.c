/* SPDX-License-Identifier: MIT */
/*
 * What libslirp waits for, as one descriptor.  It names its sockets anew before each sleep; an epoll set
 * follows what it names, and a timer its deadlines.
 */
#include "slirp/slirp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SEATS_MAX (1u << 20) /* descriptors of a process */
#define IDLE_MS 1000u	     /* libslirp asks for that when it has nothing to do */

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLPRI == POLLPRI &&
		       EPOLLERR == POLLERR && EPOLLHUP == POLLHUP,
	       "events have the same numbers in both");

int64_t vmbus__slirp_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t now_ms(void)
{
	return vmbus__slirp_now_ns() / 1000000;
}

int vmbus__slirp_waits_begin(struct vmbus__slirp_waits *w)
{
	struct epoll_event event = { .events = EPOLLIN };

	w->timer_ms = -1;
	w->timer_fd = -1;
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll_fd < 0)
		return VMBUS_E_SYSTEM;
	w->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (w->timer_fd < 0 || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->timer_fd, &event))
		return VMBUS_E_SYSTEM;
	return 0;
}

void vmbus__slirp_waits_end(struct vmbus__slirp_waits *w)
{
	if (w->epoll_fd >= 0)
		(void)close(w->epoll_fd);
	if (w->timer_fd >= 0)
		(void)close(w->timer_fd);
	free(w->poll);
	free(w->seat);
}

/* ---- sockets ---- */

static bool have_seat(struct vmbus__slirp_waits *w, uint32_t fd)
{
	struct vmbus__slirp_seat *more;
	uint32_t n = w->seats ? w->seats : 64;

	if (fd < w->seats)
		return true;
	if (fd >= SEATS_MAX)
		return false;
	while (n <= fd)
		n *= 2;
	more = realloc(w->seat, n * sizeof(*more));
	if (!more)
		return false;
	memset(more + w->seats, 0, (n - w->seats) * sizeof(*more));
	w->seat = more;
	w->seats = n;
	return true;
}

static bool have_poll(struct vmbus__slirp_waits *w)
{
	const uint32_t n = w->polls_room ? w->polls_room * 2 : 64;
	struct pollfd *more;

	if (w->polls < w->polls_room)
		return true;
	more = realloc(w->poll, n * sizeof(*more));
	if (!more)
		return false;
	w->poll = more;
	w->polls_room = n;
	return true;
}

/* From libslirp: it wants to wait for a socket.  Without memory it finds that nothing has come. */
static int name_socket(int fd, int events, void *opaque)
{
	struct vmbus__slirp_waits *const w = opaque;
	short wanted = 0;

	if (fd < 0 || !have_seat(w, (uint32_t)fd) || !have_poll(w))
		return -1;
	if (events & SLIRP_POLL_IN)
		wanted |= POLLIN;
	if (events & SLIRP_POLL_OUT)
		wanted |= POLLOUT;
	if (events & SLIRP_POLL_PRI)
		wanted |= POLLPRI;
	w->poll[w->polls] = (struct pollfd){ .fd = fd, .events = wanted };
	return (int)w->polls++;
}

static int events_of(int i, void *opaque)
{
	const struct vmbus__slirp_waits *const w = opaque;
	const short got = i < 0 || (uint32_t)i >= w->polls ? 0 : w->poll[i].revents;
	int events = 0;

	if (got & POLLIN)
		events |= SLIRP_POLL_IN;
	if (got & POLLOUT)
		events |= SLIRP_POLL_OUT;
	if (got & POLLPRI)
		events |= SLIRP_POLL_PRI;
	if (got & (POLLERR | POLLNVAL))
		events |= SLIRP_POLL_ERR;
	if (got & POLLHUP)
		events |= SLIRP_POLL_HUP;
	return events;
}

/* The number may be another socket's by now, which the kernel has not in the set. */
static void put_in_set(struct vmbus__slirp_waits *w, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events };
	const int first = w->seat[fd].events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	int err = epoll_ctl(w->epoll_fd, first, fd, &event);

	if (err && errno == ENOENT)
		err = epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event);
	else if (err && errno == EEXIST)
		err = epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, fd, &event);
	w->seat[fd].events = err ? 0 : events;
}

static void follow(struct vmbus__slirp_waits *w)
{
	uint32_t i;

	w->turn++;
	for (i = 0; i < w->polls; i++) {
		const int fd = w->poll[i].fd;
		const uint32_t events = (uint16_t)w->poll[i].events;

		w->seat[fd].turn = w->turn;
		if (w->seat[fd].events != events)
			put_in_set(w, fd, events);
	}
	for (i = 0; i < w->seats; i++) {
		if (!w->seat[i].events || w->seat[i].turn == w->turn)
			continue;
		(void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, (int)i, NULL);
		w->seat[i].events = 0;
	}
}

void vmbus__slirp_socket(struct vmbus__slirp_waits *w, int fd, bool begins)
{
	struct vmbus__slirp_seat *seat;

	if (fd < 0 || !have_seat(w, (uint32_t)fd))
		return;
	seat = &w->seat[fd];
	if (seat->events)
		(void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	seat->events = 0;
	if (begins && !seat->socket)
		w->sockets++;
	else if (!begins && seat->socket)
		w->sockets--;
	seat->socket = begins;
}

/* ---- timers ---- */

void *vmbus__slirp_timer_new(struct vmbus__slirp_waits *w, SlirpTimerCb fn, void *opaque)
{
	uint32_t i;

	for (i = 0; i < VMBUS__SLIRP_TIMERS; i++)
		if (!w->timer[i].fn) {
			w->timer[i] = (struct vmbus__slirp_timer){ fn, opaque, -1 };
			return &w->timer[i];
		}
	return NULL;
}

static void run_timers(struct vmbus__slirp_waits *w)
{
	const int64_t now = now_ms();
	uint32_t i;

	for (i = 0; i < VMBUS__SLIRP_TIMERS; i++) {
		struct vmbus__slirp_timer *const t = &w->timer[i];

		if (!t->fn || t->at_ms < 0 || t->at_ms > now)
			continue;
		t->at_ms = -1;
		t->fn(t->opaque);
	}
}

/* ms: from now on; IDLE_MS: nothing is due. */
static void set_timer(struct vmbus__slirp_waits *w, uint32_t ms)
{
	int64_t at = ms >= IDLE_MS ? -1 : now_ms() + ms;
	struct itimerspec spec;
	uint32_t i;

	for (i = 0; i < VMBUS__SLIRP_TIMERS; i++)
		if (w->timer[i].fn && w->timer[i].at_ms >= 0 && (at < 0 || w->timer[i].at_ms < at))
			at = w->timer[i].at_ms;
	/* One that is set for earlier stays: it must come, whatever the guest sends meanwhile. */
	if (at == w->timer_ms || (w->timer_ms >= 0 && at >= w->timer_ms))
		return;
	memset(&spec, 0, sizeof(spec));
	if (at >= 0) {
		spec.it_value.tv_sec = at / 1000;
		spec.it_value.tv_nsec = at % 1000 * 1000000 + 1; /* 0 and 0 would be never */
	}
	if (timerfd_settime(w->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0)
		w->timer_ms = at;
}

/* ---- both ---- */

void vmbus__slirp_work(struct vmbus__slirp_waits *w, Slirp *slirp, bool sockets)
{
	uint64_t times;
	int n = -1;

	if (read(w->timer_fd, &times, sizeof(times)) > 0)
		w->timer_ms = -1;
	if (sockets)
		n = poll(w->poll, w->polls, 0);
	slirp_pollfds_poll(slirp, n < 0, events_of, w);
	run_timers(w);
}

void vmbus__slirp_wait(struct vmbus__slirp_waits *w, Slirp *slirp, bool at_once)
{
	uint32_t ms = UINT32_MAX;

	w->polls = 0;
	slirp_pollfds_fill(slirp, &ms, name_socket, w);
	follow(w);
	set_timer(w, at_once ? 0 : ms);
}
