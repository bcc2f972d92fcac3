/* SPDX-License-Identifier: MIT */
/*
 * The host of device providers: its socket, its epoll set, its times, and the buses it serves.  A
 * dispatch reads what providers say, ends those that are dead or late, and tells the others what
 * they should know, each for no more than its share.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "shm/parent.h"
#include "shm/provider_host.h"

#define EVENTS_PER_CALL 64
#define ACCEPTS_PER_CALL 8
#define HELLO_NS 2000000000u
#define DEAF_NS 200000000u
#define NEVER_NS (UINT64_MAX / 2) /* added to a time it is still one */
#define SHARE 64u	/* messages of one provider, each way, before the next has its turn */
#define LATE_WORDS 512u /* messages of one that seems to be late */
#define TAG_PIDFD 0x10000u
#define TAG_LISTEN 0x20000u
#define TAG_TIMER 0x20001u
#define TAG_AGAIN 0x20002u
#define TAG_CONN 0x30000u

void vmbus__pvh_kick(struct vmbus_provider_host *host)
{
	vmbus__shm_again(host->again_fd, &host->again_set, true);
}

/* ---- connections that have not said what they are ---- */

static void drop_conn(struct vmbus_provider_host *host, struct vmbus__pvh_conn *conn)
{
	vmbus__shm_epoll_del(host->epoll_fd, conn->fd);
	vmbus__shm_close(&conn->fd);
}

static void refuse_conn(struct vmbus_provider_host *host, struct vmbus__pvh_conn *conn,
			uint32_t code, const char *text)
{
	vmbus__shm_log(&host->log, VMBUS_LOG_ERROR, "connection refused: %s", text);
	vmbus__shm_send_text(conn->fd, VMBUS_SHM_REFUSED, code, text);
	drop_conn(host, conn);
}

static void add_conn(struct vmbus_provider_host *host, int fd)
{
	struct vmbus__pvh_conn *conn = &host->conns[0];
	uint32_t i;

	for (i = 0; i < VMBUS_PVH_CONNS && conn->fd >= 0; i++)
		if (host->conns[i].fd < 0 || host->conns[i].deadline < conn->deadline)
			conn = &host->conns[i];
	if (conn->fd >= 0)
		refuse_conn(host, conn, VMBUS_SHM_CODE_FULL,
			    "too many connections that say nothing");
	conn->fd = fd;
	conn->gen = ++host->gen;
	conn->deadline = vmbus__shm_now_ns() + HELLO_NS;
	if (vmbus__shm_epoll_add(host->epoll_fd, fd, EPOLLIN | EPOLLRDHUP,
				 (uint64_t)conn->gen << 32 | TAG_CONN |
					 (uint32_t)(conn - host->conns)))
		drop_conn(host, conn);
}

static uint32_t accept_some(struct vmbus_provider_host *host)
{
	uint32_t n;

	for (n = 0; n < ACCEPTS_PER_CALL; n++) {
		const int fd = accept4(host->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			add_conn(host, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			vmbus__shm_log(&host->log, VMBUS_LOG_ERROR,
				       "%s: cannot accept: %s; raise ulimit -n", host->path,
				       strerror(errno));
			host->deaf = true;
			(void)vmbus__shm_epoll_mod(host->epoll_fd, host->listen_fd, 0, TAG_LISTEN);
		}
		break;
	}
	return n;
}

static void read_conn(struct vmbus_provider_host *host, struct vmbus__pvh_conn *conn)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	const int got = vmbus__shm_recv(conn->fd, &record);
	int err, sock;

	if (got == 0)
		return;
	if (got < 0) {
		drop_conn(host, conn);
		return;
	}
	err = vmbus__pv_decode(record.bytes, record.len, &msg);
	if (err || record.cut || record.fd_count || msg.type != VMBUS_PV_PROVIDE) {
		refuse_conn(host, conn,
			    err == VMBUS_E_NOTSUP ? VMBUS_SHM_CODE_VERSION : VMBUS_SHM_CODE_MESSAGE,
			    err == VMBUS_E_NOTSUP ? "another version of the socket protocol"
						  : "not PROVIDE; only providers attach here");
	} else {
		sock = conn->fd;
		vmbus__shm_epoll_del(host->epoll_fd, sock);
		conn->fd = -1;
		vmbus__pvh_session_start(host, sock, &msg);
	}
	vmbus__shm_record_close(&record);
}

void vmbus__pvh_take(struct vmbus_provider_host *host, int sock, const struct vmbus__pv_msg *msg)
{
	const bool calling = host->calling;

	host->calling = true; /* attach() is a callback like others */
	vmbus__pvh_session_start(host, sock, msg);
	host->calling = calling;
}

/* ---- times ---- */

static void sooner(uint64_t *at, uint64_t when)
{
	if (!*at || when < *at)
		*at = when;
}

static uint64_t next_time(const struct vmbus_provider_host *host)
{
	const uint64_t answer = host->opts.answer_ns;
	const struct vmbus__pvh_device *device;
	uint64_t at = host->deaf ? vmbus__shm_now_ns() + DEAF_NS : 0;
	uint32_t i;

	for (i = 0; i < VMBUS_PVH_CONNS; i++)
		if (host->conns[i].fd >= 0)
			sooner(&at, host->conns[i].deadline);
	for (i = 0; i < 2u * VMBUS_PVH_DEVICES_MAX; i++) {
		const struct vmbus__pvh_session *const s = host->sessions[i];

		if (s && s->dying && s->die_by)
			sooner(&at, s->die_by);
		if (!s || s->dead || s->exited)
			continue;
		if (s->retry_at)
			sooner(&at, s->retry_at);
		if (s->waits.next != &s->waits)
			sooner(&at, s->waits.next->since + answer);
		if (s->blocked)
			sooner(&at, s->blocked_at + answer);
		if (s->yielding)
			sooner(&at, s->yield_at + answer);
		if (s->takes_over && !s->device->session->yielding && !s->device->session->dead)
			sooner(&at, s->ready_by);
	}
	for (device = host->devices; device; device = device->next)
		if (device->gone_at)
			sooner(&at, device->gone_at + host->opts.wait_ns);
	return at;
}

static void set_timer(struct vmbus_provider_host *host)
{
	const uint64_t at = next_time(host);
	const struct itimerspec when = { .it_value = { .tv_sec = (time_t)(at / 1000000000u),
						       .tv_nsec = (long)(at % 1000000000u) } };

	/* One that is too early does no harm. */
	if (at == host->timer_at || (host->timer_at && at > host->timer_at))
		return;
	host->timer_at = at;
	(void)timerfd_settime(host->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* What it is late with, or NULL. */
static const char *late(const struct vmbus__pvh_session *s, uint64_t now)
{
	const uint64_t answer = s->device->host->opts.answer_ns;

	if (s->dead || s->exited)
		return NULL;
	if (s->waits.next != &s->waits && now >= s->waits.next->since + answer)
		return "it does not answer";
	if (s->blocked && now >= s->blocked_at + answer)
		return "it does not read its socket";
	if (s->yielding && now >= s->yield_at + answer)
		return "it does not give way";
	if (s->takes_over && !s->device->session->yielding && !s->device->session->dead &&
	    now >= s->ready_by)
		return "it was not ready to take over in time";
	return NULL;
}

/* The answer may be there, unread, because it is the host that was late. */
static void look_at_session(struct vmbus_provider_host *host, uint32_t slot, uint64_t now)
{
	struct vmbus__pvh_session *const s = host->sessions[slot];
	const char *why;

	if (!s)
		return;
	if (s->dying && s->die_by && now >= s->die_by)
		vmbus__pvh_session_lives_on(s);
	if (s->retry_at && now >= s->retry_at) {
		s->retry_at = 0;
		vmbus__pvh_kick(host);
	}
	if (!late(s, now))
		return;
	(void)vmbus__pvh_session_read(s, LATE_WORDS);
	if (host->sessions[slot] != s)
		return;
	why = late(s, now);
	if (why)
		vmbus__pvh_throw_late(s, why);
}

static void look_at_times(struct vmbus_provider_host *host)
{
	const uint64_t now = vmbus__shm_now_ns();
	struct vmbus__pvh_device *device, *next;
	uint64_t count;
	uint32_t i;

	(void)!read(host->timer_fd, &count, sizeof(count));
	host->timer_at = 0;
	for (i = 0; i < VMBUS_PVH_CONNS; i++)
		if (host->conns[i].fd >= 0 && host->conns[i].deadline <= now)
			refuse_conn(host, &host->conns[i], VMBUS_SHM_CODE_MESSAGE,
				    "no PROVIDE in time");
	for (i = 0; i < 2u * VMBUS_PVH_DEVICES_MAX; i++)
		look_at_session(host, i, now);
	for (device = host->devices; device; device = next) {
		next = device->next;
		if (device->gone_at && now >= device->gone_at + host->opts.wait_ns)
			vmbus__pvh_device_end(device, "no provider came back in time (wait_ns)");
	}
	if (host->deaf && host->listen_fd >= 0) {
		host->deaf = false;
		(void)vmbus__shm_epoll_mod(host->epoll_fd, host->listen_fd, EPOLLIN, TAG_LISTEN);
	}
}

/* ---- dispatch ---- */

static void session_event(struct vmbus_provider_host *host, uint32_t tag, uint32_t gen)
{
	struct vmbus__pvh_session *const s = host->sessions[tag & 0xFFFFu];

	if (!s || s->gen != gen)
		return;
	if (tag & TAG_PIDFD)
		vmbus__pvh_session_exited(s);
	s->readable = true;
}

static uint32_t take_events(struct vmbus_provider_host *host, const struct epoll_event *events,
			    int n)
{
	uint32_t done = 0;
	int i;

	for (i = 0; i < n; i++) {
		const uint32_t tag = (uint32_t)events[i].data.u64,
			       gen = (uint32_t)(events[i].data.u64 >> 32);

		if (tag == TAG_LISTEN) {
			done += accept_some(host);
		} else if (tag == TAG_TIMER) {
			look_at_times(host);
		} else if (tag >= TAG_CONN) {
			struct vmbus__pvh_conn *const conn = &host->conns[tag - TAG_CONN];

			if (conn->fd >= 0 && conn->gen == gen)
				read_conn(host, conn);
			done++;
		} else if (tag != TAG_AGAIN) {
			session_event(host, tag, gen);
		}
	}
	return done;
}

static void offer_again(struct vmbus_provider_host *host)
{
	struct vmbus__pvh_device *device;
	struct vmbus__pvh_seat *seat;

	if (!host->offer_due)
		return;
	host->offer_due = false;
	for (device = host->devices; device; device = device->next)
		for (seat = device->seats; seat; seat = seat->next)
			vmbus__pvh_seat_offer(seat);
}

/* Each session's turn: hear it, end it if it is dead, tell it. */
static uint32_t take_turns(struct vmbus_provider_host *host, uint32_t budget, bool *more)
{
	const uint32_t room = 2u * VMBUS_PVH_DEVICES_MAX;
	uint32_t i, done = 0;

	host->turn = (host->turn + 1u) % room;
	for (i = 0; i < room; i++) {
		const uint32_t slot = (host->turn + i) % room;
		struct vmbus__pvh_session *s = host->sessions[slot];

		if (s && s->readable && !s->dead && done < budget)
			done += vmbus__pvh_session_read(s, SHARE);
		s = host->sessions[slot];
		if (s && s->dead && !s->dying) {
			vmbus__pvh_session_lost(s, false, NULL);
			done++;
			continue;
		}
		*more |= s && s->readable && !s->dead;
	}
	offer_again(host);
	for (i = 0; i < room; i++)
		if (host->sessions[i])
			done += vmbus__pvh_emit(host->sessions[i], SHARE);
	for (i = 0; i < room; i++)
		*more |= host->sessions[i] && host->sessions[i]->dead && !host->sessions[i]->dying;
	return done;
}

int vmbus_provider_host_dispatch(struct vmbus_provider_host *host, uint32_t budget)
{
	struct epoll_event events[EVENTS_PER_CALL];
	bool more = false;
	uint32_t done;
	int n;

	if (budget == 0 || budget > INT32_MAX)
		return VMBUS_E_RANGE;
	if (host->calling)
		return VMBUS_E_STATE;
	n = vmbus__shm_epoll_wait(host->epoll_fd, events, EVENTS_PER_CALL, 0);
	if (n <= 0)
		return 0;
	host->calling = true;
	vmbus__shm_again(host->again_fd, &host->again_set, false);
	done = take_events(host, events, n);
	done += take_turns(host, budget, &more);
	if (more)
		vmbus__pvh_kick(host);
	set_timer(host);
	host->calling = false;
	return (int)(done < INT32_MAX ? done : INT32_MAX);
}

int vmbus_provider_host_fd(const struct vmbus_provider_host *host)
{
	return host->epoll_fd;
}

void vmbus_provider_host_list(struct vmbus_provider_host *host,
			      void (*fn)(void *ctx, const struct vmbus_provider_info *info),
			      void *ctx)
{
	const struct vmbus__pvh_device *device;
	struct vmbus_provider_info info;

	for (device = host->devices; device; device = device->next) {
		if (device->ended)
			continue;
		vmbus__pvh_info(device, &info);
		fn(ctx, &info);
	}
}

/* ---- buses ---- */

static struct vmbus__pvh_bus **find_bus(struct vmbus_provider_host *host,
					const struct vmbus_bus *bus)
{
	struct vmbus__pvh_bus **at = &host->buses;

	while (*at && (*at)->bus != bus)
		at = &(*at)->next;
	return at;
}

int vmbus_provider_host_add_bus(struct vmbus_provider_host *host, struct vmbus_bus *bus,
				struct vmbus_region *const *regions, uint32_t count)
{
	struct vmbus__pvh_device *device;
	struct vmbus__pvh_bus *made;
	uint32_t i;

	for (i = 0; i < count; i++)
		if (regions[i]->fd < 0)
			return VMBUS_E_INVAL;
	if (count == 0 || count > VMBUS_REGIONS_MAX)
		return VMBUS_E_INVAL;
	if (*find_bus(host, bus))
		return VMBUS_E_STATE;
	if (host->bus_count >= VMBUS_PVH_BUSES_MAX)
		return VMBUS_E_FULL;
	made = calloc(1, sizeof(*made) + count * sizeof(made->regions[0]));
	if (!made)
		return VMBUS_E_NOMEM;
	made->bus = bus;
	(void)snprintf(made->name, sizeof(made->name), "%s", vmbus_bus_name(bus));
	made->region_count = count;
	for (i = 0; i < count; i++)
		made->regions[i] = (struct vmbus__pvh_region){ .gpa = regions[i]->gpa,
							       .bytes = regions[i]->bytes,
							       .offset = regions[i]->fd_offset,
							       .access = regions[i]->access,
							       .fd = regions[i]->fd };
	made->next = host->buses;
	host->buses = made;
	host->bus_count++;
	for (device = host->devices; device; device = device->next)
		if (!device->ended && vmbus__pvh_seat_add(device, made))
			vmbus__shm_log(&host->log, VMBUS_LOG_ERROR,
				       "provider %s: no memory to offer it to %s", device->name,
				       made->name);
	return 0;
}

void vmbus_provider_host_remove_bus(struct vmbus_provider_host *host, struct vmbus_bus *bus)
{
	struct vmbus__pvh_bus **const at = find_bus(host, bus), *const gone = *at;
	struct vmbus__pvh_device *device, *next_device;
	struct vmbus__pvh_seat *seat, *next;

	if (!gone)
		return;
	*at = gone->next;
	host->bus_count--;
	for (device = host->devices; device; device = next_device) {
		next_device = device->next;
		for (seat = device->seats; seat; seat = next) {
			next = seat->next;
			if (seat->bus == gone)
				vmbus__pvh_seat_end(seat);
		}
		if (device->heir)
			vmbus__pvh_handover(device);
	}
	free(gone);
}

/* ---- beginning and end ---- */

static int open_fds(struct vmbus_provider_host *host)
{
	int err;

	host->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	host->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (host->epoll_fd < 0 || host->timer_fd < 0)
		return vmbus__shm_errno();
	host->again_fd = vmbus__shm_doorbell();
	if (host->again_fd < 0)
		return host->again_fd;
	err = vmbus__shm_epoll_add(host->epoll_fd, host->timer_fd, EPOLLIN, TAG_TIMER);
	if (!err)
		err = vmbus__shm_epoll_add(host->epoll_fd, host->again_fd, EPOLLIN, TAG_AGAIN);
	if (err || !host->path)
		return err;
	host->listen_fd = vmbus__shm_listen_at(host->path, host->opts.mode, &host->dev, &host->ino);
	if (host->listen_fd < 0)
		return host->listen_fd;
	return vmbus__shm_epoll_add(host->epoll_fd, host->listen_fd, EPOLLIN, TAG_LISTEN);
}

static int check_opts(const struct vmbus_provider_host_opts *opts)
{
	if (opts->path && (!opts->path[0] || strlen(opts->path) > VMBUS_SHM_PATH_MAX))
		return VMBUS_E_RANGE;
	if (opts->mode > 0777u || opts->providers_max > VMBUS_PVH_DEVICES_MAX)
		return VMBUS_E_RANGE;
	return 0;
}

static void take_opts(struct vmbus_provider_host *host, const struct vmbus_provider_host_opts *opts)
{
	struct vmbus_provider_host_opts *const own = &host->opts;
	uint32_t i;

	*own = *opts;
	own->mode = own->mode ? own->mode : 0600u;
	own->providers_max = own->providers_max ? own->providers_max : 16u;
	own->wait_ns = own->wait_ns ? own->wait_ns : 10000000000u;
	own->wait_ns = own->wait_ns < NEVER_NS ? own->wait_ns : NEVER_NS;
	own->answer_ns = own->answer_ns ? own->answer_ns : 5000000000u;
	own->answer_ns = own->answer_ns < NEVER_NS ? own->answer_ns : NEVER_NS;
	own->journal_bytes_max = own->journal_bytes_max ? own->journal_bytes_max : 64u << 20;
	own->memory_bytes_max = own->memory_bytes_max ? own->memory_bytes_max : (uint64_t)1 << 30;
	host->log.fn = opts->log;
	host->log.ctx = opts->ctx;
	host->epoll_fd = host->listen_fd = host->timer_fd = host->again_fd = -1;
	for (i = 0; i < VMBUS_PVH_CONNS; i++)
		host->conns[i].fd = -1;
}

int vmbus_provider_listen(const struct vmbus_provider_host_opts *opts,
			  struct vmbus_provider_host **host)
{
	struct vmbus_provider_host *made;
	int err, saved;

	*host = NULL;
	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	err = check_opts(opts);
	if (err)
		return err;
	made = calloc(1, sizeof(*made));
	if (!made)
		return VMBUS_E_NOMEM;
	take_opts(made, opts);
	if (opts->path) {
		made->path = strdup(opts->path);
		made->opts.path = made->path;
	}
	err = opts->path && !made->path ? VMBUS_E_NOMEM : open_fds(made);
	if (err) {
		saved = errno;
		vmbus__shm_log(&made->log, VMBUS_LOG_ERROR, "%s: cannot listen for providers: %s",
			       opts->path ? opts->path : "provider host", vmbus_err_name(err));
		vmbus_provider_host_destroy(made);
		errno = saved;
		return err;
	}
	*host = made;
	return 0;
}

static void end_sessions(struct vmbus_provider_host *host)
{
	uint32_t i;

	for (i = 0; i < 2u * VMBUS_PVH_DEVICES_MAX; i++) {
		struct vmbus__pvh_session *const s = host->sessions[i];

		if (!s)
			continue;
		vmbus__shm_send_text(s->sock, VMBUS_SHM_BYE, VMBUS_SHM_CODE_NONE,
				     "the parent ends");
		if (s->device->session == s)
			s->device->session = NULL;
		if (s->device->heir == s)
			s->device->heir = NULL;
		vmbus__pvh_session_free(s);
	}
}

void vmbus_provider_host_destroy(struct vmbus_provider_host *host)
{
	struct vmbus__pvh_device *device, *next;
	uint32_t i;

	if (!host || host->calling)
		return;
	if (host->listen_fd >= 0)
		vmbus__shm_unlink_own(host->path, host->dev, host->ino);
	vmbus__shm_close(&host->listen_fd);
	for (i = 0; i < VMBUS_PVH_CONNS; i++)
		if (host->conns[i].fd >= 0)
			drop_conn(host, &host->conns[i]);
	end_sessions(host);
	while (host->buses)
		vmbus_provider_host_remove_bus(host, host->buses->bus);
	for (device = host->devices; device; device = next) {
		next = device->next;
		vmbus__pvh_device_end(device, "the parent ends");
	}
	vmbus__pvh_memory_free(host);
	vmbus__shm_close(&host->timer_fd);
	vmbus__shm_close(&host->again_fd);
	vmbus__shm_close(&host->epoll_fd);
	free(host->path);
	host->path = NULL;
	host->ended = true; /* channels that are left on buses keep the rest */
	if (host->seats == 0 && !host->devices)
		free(host);
}
