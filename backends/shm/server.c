/* SPDX-License-Identifier: MIT */
/*
 * The parent's server: one epoll set with the listening socket, connections that have not said who
 * they are, and what each child can wake us by.  Children have their turns in a circle.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "shm/capture.h"
#include "shm/diag_proto.h"
#include "shm/parent.h"
#include "shm/provider_proto.h"

#define EVENTS_PER_CALL 64
#define ACCEPTS_PER_CALL 8
#define LIST_ROWS 64u
#define HELLO_NS 2000000000u /* to say HELLO or LIST */
#define LIST_NS 10000000000u /* to take a whole listing */
#define DEAF_NS 200000000u   /* before we accept again after descriptors ran out */
#define CHILDREN_LIMIT 4096u
#define RECORD_LIMIT ((uint64_t)64 << 20)
#define ATTACH_RATE 32u	     /* in a second */
#define ATTACHES_AT_ONCE 64u /* and children_max, if that is more */
#define SECOND_NS 1000000000u

static uint64_t earliest(const struct vmbus_shm_server *server)
{
	uint64_t at = server->deaf ? vmbus__shm_now_ns() + DEAF_NS : 0;
	uint32_t i;

	for (i = 0; i < VMBUS_SHM_CONNS_MAX; i++)
		if (server->conns[i].fd >= 0 && (!at || server->conns[i].deadline < at))
			at = server->conns[i].deadline;
	return at;
}

/* The timer shows the next deadline, or nothing. */
static void set_timer(struct vmbus_shm_server *server)
{
	const uint64_t at = earliest(server);
	const struct itimerspec when = { .it_value = { .tv_sec = (time_t)(at / 1000000000u),
						       .tv_nsec = (long)(at % 1000000000u) } };

	(void)timerfd_settime(server->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void watch_listener(struct vmbus_shm_server *server, bool on)
{
	if (server->deaf == !on)
		return;
	server->deaf = !on;
	(void)vmbus__shm_epoll_mod(server->epoll_fd, server->listen_fd, on ? EPOLLIN : 0,
				   vmbus__shm_tag(VMBUS_SHM_EV_LISTEN, 0, 0));
}

static void drop_conn(struct vmbus_shm_server *server, struct vmbus__shm_conn *conn)
{
	vmbus__shm_epoll_del(server->epoll_fd, conn->fd);
	vmbus__shm_close(&conn->fd);
	conn->listing = conn->waits = false;
}

static void refuse_conn(struct vmbus_shm_server *server, struct vmbus__shm_conn *conn,
			uint32_t code, const char *text)
{
	vmbus__shm_log(&server->log, VMBUS_LOG_ERROR, "connection refused: %s", text);
	vmbus__shm_send_text(conn->fd, VMBUS_SHM_REFUSED, code, text);
	drop_conn(server, conn);
}

/* A free place; when there is none, that of the connection which has been silent longest. */
static struct vmbus__shm_conn *place_for_conn(struct vmbus_shm_server *server)
{
	struct vmbus__shm_conn *oldest = &server->conns[0];
	uint32_t i;

	for (i = 0; i < VMBUS_SHM_CONNS_MAX; i++) {
		struct vmbus__shm_conn *const conn = &server->conns[i];

		if (conn->fd < 0)
			return conn;
		if (conn->age < oldest->age)
			oldest = conn;
	}
	server->stats.quota_conns++;
	refuse_conn(server, oldest, VMBUS_SHM_CODE_FULL,
		    "too many connections that are no child yet");
	return oldest;
}

static void add_conn(struct vmbus_shm_server *server, int fd)
{
	struct vmbus__shm_conn *const conn = place_for_conn(server);

	conn->gen++;
	conn->fd = fd;
	conn->age = ++server->age;
	conn->listing = false;
	conn->deadline = vmbus__shm_now_ns() + HELLO_NS;
	if (vmbus__shm_epoll_add(
		    server->epoll_fd, fd, EPOLLIN | EPOLLRDHUP,
		    vmbus__shm_tag(VMBUS_SHM_EV_CONN, (uint32_t)(conn - server->conns), conn->gen)))
		drop_conn(server, conn);
}

static uint32_t accept_some(struct vmbus_shm_server *server)
{
	uint32_t n;

	for (n = 0; n < ACCEPTS_PER_CALL; n++) {
		const int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			add_conn(server, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			vmbus__shm_log(&server->log, VMBUS_LOG_ERROR,
				       "%s: cannot accept: %s; raise ulimit -n", server->path,
				       strerror(errno));
			watch_listener(server, false);
			server->stats.no_descriptors++;
		}
		break;
	}
	set_timer(server);
	return n;
}

static const char *wrong_record(const struct vmbus__shm_record *record, int err)
{
	if (record->cut)
		return "a message that is too long";
	if (record->fd_count)
		return "descriptors where none belong";
	switch (err) {
	case VMBUS_E_NOTSUP:
		return "another version of the socket protocol";
	case VMBUS_E_RANGE:
		return "a message of a wrong length";
	default:
		return "no message of this protocol";
	}
}

/*
 * Whether one more child may attach now: all that there may be at once, then so many in a second.  To
 * make a child costs as much as thousands of packets, and others wait for it.  If not, when.
 */
static bool may_attach(struct vmbus_shm_server *server, uint64_t *when)
{
	const uint64_t each = SECOND_NS / server->opts.attach_rate_max;
	const uint32_t at_once = server->opts.children_max > ATTACHES_AT_ONCE
					 ? server->opts.children_max
					 : ATTACHES_AT_ONCE;
	const uint64_t early = each * at_once;
	const uint64_t now = vmbus__shm_now_ns();

	if (server->attach_due < now)
		server->attach_due = now;
	if (server->attach_due > now + early) {
		*when = server->attach_due - early;
		return false;
	}
	server->attach_due += each;
	return true;
}

static void count_refusal(struct vmbus_shm_server_stats *stats, uint32_t code)
{
	switch (code) {
	case VMBUS_SHM_CODE_FULL:
		stats->quota_children++;
		break;
	case VMBUS_SHM_CODE_MEMORY:
		stats->quota_memory++;
		break;
	case VMBUS_SHM_CODE_VPS:
		stats->quota_vps++;
		break;
	default:
		stats->refused++;
		break;
	}
}

/* It wants to be a child: now, or when it is its time. */
static void hello(struct vmbus_shm_server *server, struct vmbus__shm_conn *conn)
{
	struct vmbus__shm_text refused = { .code = VMBUS_SHM_CODE_SYSTEM };
	const uint32_t place = (uint32_t)(conn - server->conns);
	const int sock = conn->fd;
	uint64_t when = 0;
	int err;

	if (!may_attach(server, &when)) {
		server->stats.quota_attach += !conn->waits;
		conn->waits = true;
		conn->deadline = when;
		(void)vmbus__shm_epoll_mod(server->epoll_fd, sock, EPOLLRDHUP,
					   vmbus__shm_tag(VMBUS_SHM_EV_CONN, place, conn->gen));
		set_timer(server);
		return;
	}
	conn->waits = false;
	server->attach_round = server->round;
	vmbus__shm_epoll_del(server->epoll_fd, sock);
	err = vmbus__shm_child_check(server, &conn->hello, &refused);
	if (err) /* nothing was made yet */
		server->attach_due -= SECOND_NS / server->opts.attach_rate_max;
	else
		err = vmbus__shm_child_create(server, sock, &conn->hello, &refused);
	if (err) {
		count_refusal(&server->stats, refused.code);
		refuse_conn(server, conn, refused.code, refused.text);
	} else {
		server->stats.attached++;
		conn->fd = -1; /* the child's now */
	}
}

static void begin_list(struct vmbus_shm_server *server, struct vmbus__shm_conn *conn,
		       uint32_t query)
{
	const struct vmbus__shm_lister start = { .query = query };

	conn->listing = true;
	conn->lister = start;
	conn->deadline = vmbus__shm_now_ns() + LIST_NS;
	(void)vmbus__shm_epoll_mod(
		server->epoll_fd, conn->fd, EPOLLOUT | EPOLLRDHUP,
		vmbus__shm_tag(VMBUS_SHM_EV_CONN, (uint32_t)(conn - server->conns), conn->gen));
}

/* It wants to see a channel. */
static void capture(struct vmbus_shm_server *server, struct vmbus__shm_conn *conn,
		    const struct vmbus__shm_record *record)
{
	struct vmbus__shm_text refused = { .code = VMBUS_SHM_CODE_MESSAGE };
	struct vmbus__cp_msg msg;
	const int sock = conn->fd;

	vmbus__shm_epoll_del(server->epoll_fd, sock);
	if (vmbus__cp_decode(record->bytes, record->len, &msg))
		refuse_conn(server, conn, refused.code, "a text without an end");
	else if (vmbus__shm_capture_begin(server, sock, &msg.u.capture, &refused))
		refuse_conn(server, conn, refused.code, refused.text);
	else
		conn->fd = -1; /* the capture's now */
}

/* It has a device for our children. */
static void provide(struct vmbus_shm_server *server, struct vmbus__shm_conn *conn,
		    const struct vmbus__shm_record *record)
{
	const char *text;
	const uint32_t code = vmbus__shm_providers_take(server, conn->fd, record, &text);

	if (code)
		refuse_conn(server, conn, code, text);
	else
		conn->fd = -1; /* the provider host's now */
}

static void read_conn(struct vmbus_shm_server *server, struct vmbus__shm_conn *conn)
{
	struct vmbus__shm_record record;
	struct vmbus__shm_msg msg;
	int err, got = vmbus__shm_recv(conn->fd, &record);
	uint32_t query;

	if (got == 0)
		return;
	if (got < 0) { /* it looked whether somebody listens, or gave up */
		drop_conn(server, conn);
		return;
	}
	query = vmbus__dg_type_of(record.bytes, record.len);
	if (!query)
		query = vmbus__cp_type_of(record.bytes, record.len);
	if (!query && !record.cut && !record.fd_count &&
	    vmbus__pv_is_ours(record.bytes, record.len)) {
		provide(server, conn, &record);
		return;
	}
	err = query ? 0 : vmbus__shm_decode(record.bytes, record.len, &msg);
	if (err || record.cut || record.fd_count)
		refuse_conn(server, conn,
			    err == VMBUS_E_NOTSUP ? VMBUS_SHM_CODE_VERSION : VMBUS_SHM_CODE_MESSAGE,
			    wrong_record(&record, err));
	else if (query == VMBUS_DG_DIAG || query == VMBUS_DG_RECORDS)
		begin_list(server, conn, query);
	else if (query == VMBUS_CP_CAPTURE)
		capture(server, conn, &record);
	else if (!query && msg.type == VMBUS_SHM_HELLO) {
		conn->hello = msg.u.hello;
		hello(server, conn);
	} else if (!query && msg.type == VMBUS_SHM_LIST)
		begin_list(server, conn, VMBUS_SHM_LIST);
	else
		refuse_conn(server, conn, VMBUS_SHM_CODE_MESSAGE, "neither HELLO nor LIST");
	vmbus__shm_record_close(&record);
}

static void conn_event(struct vmbus_shm_server *server, struct vmbus__shm_conn *conn,
		       uint32_t events)
{
	int told;

	if (!conn->listing && !conn->waits) {
		/* A child was made a moment ago: the others have a turn before the next. */
		if (server->attach_round != server->round)
			read_conn(server, conn);
		return;
	}
	if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) {
		drop_conn(server, conn);
		return;
	}
	told = vmbus__shm_list_some(server, &conn->lister, conn->fd, LIST_ROWS);
	if (told > 0 || (told < 0 && told != VMBUS_E_AGAIN))
		drop_conn(server, conn);
}

static void timer_event(struct vmbus_shm_server *server)
{
	const uint64_t now = vmbus__shm_now_ns();
	uint64_t count;
	uint32_t i;

	(void)!read(server->timer_fd, &count, sizeof(count));
	for (i = 0; i < VMBUS_SHM_CONNS_MAX; i++) {
		struct vmbus__shm_conn *const conn = &server->conns[i];

		if (conn->fd < 0 || conn->deadline > now)
			continue;
		if (conn->waits) {
			if (server->attach_round != server->round)
				hello(server, conn);
			continue;
		}
		server->stats.quota_conns++;
		/* A client would take MESSAGE for a query that this parent does not know. */
		if (conn->listing)
			refuse_conn(server, conn, VMBUS_SHM_CODE_LATE,
				    "the listing was not taken in time");
		else
			refuse_conn(server, conn, VMBUS_SHM_CODE_MESSAGE, "no HELLO in time");
	}
	watch_listener(server, true);
	set_timer(server);
}

static void child_event(struct vmbus_shm_server *server, enum vmbus__shm_kind kind, uint32_t slot,
			uint32_t gen)
{
	struct vmbus_shm_child *const child = slot < server->slots ? server->children[slot] : NULL;

	if (!child || child->gen != gen)
		return; /* it ended by an event before this one */
	switch (kind) {
	case VMBUS_SHM_EV_SOCK:
		vmbus__shm_child_socket(child, false);
		break;
	case VMBUS_SHM_EV_PROCESS:
		vmbus__shm_child_socket(child, true);
		break;
	case VMBUS_SHM_EV_DOORBELL:
		child->rung = true;
		break;
	default:
		child->bus_due = true;
		break;
	}
}

/* Take what woke us; returns the work done for those who are no children yet. */
static uint32_t take_events(struct vmbus_shm_server *server, const struct epoll_event *events,
			    int n)
{
	uint32_t done = 0;
	int i;

	for (i = 0; i < n; i++) {
		const uint64_t tag = events[i].data.u64;
		const enum vmbus__shm_kind kind = (enum vmbus__shm_kind)(tag >> 24 & 0xFFu);
		const uint32_t slot = (uint32_t)tag & 0xFFFFFFu, gen = (uint32_t)(tag >> 32);

		switch (kind) {
		case VMBUS_SHM_EV_LISTEN:
			done += accept_some(server);
			break;
		case VMBUS_SHM_EV_TIMER:
			timer_event(server);
			break;
		case VMBUS_SHM_EV_AGAIN:
			break;
		case VMBUS_SHM_EV_PROVIDERS:
			done += vmbus__shm_providers_event(server);
			break;
		case VMBUS_SHM_EV_CAPTURE:
			vmbus__shm_capture_event(server, slot, gen);
			break;
		case VMBUS_SHM_EV_CONN:
			if (server->conns[slot].fd >= 0 && server->conns[slot].gen == gen) {
				conn_event(server, &server->conns[slot], events[i].events);
				done++;
			}
			break;
		default:
			child_event(server, kind, slot, gen);
			break;
		}
	}
	return done;
}

/* Turns in a circle, from the child after the one that had the last, until the budget is used. */
static uint32_t take_turns(struct vmbus_shm_server *server, uint32_t budget)
{
	uint32_t done = 0, idle = 0;

	while (done < budget && idle < server->slots) {
		struct vmbus_shm_child *const child = server->children[server->cursor];
		const uint32_t share =
			budget - done < server->opts.budget ? budget - done : server->opts.budget;

		server->cursor = (server->cursor + 1) % server->slots;
		if (!child || !vmbus__shm_child_due(child)) {
			idle++;
			continue;
		}
		idle = 0;
		server->stats.turns++;
		done += vmbus__shm_child_turn(child, share);
	}
	server->stats.units += done;
	return done;
}

static bool any_due(const struct vmbus_shm_server *server)
{
	uint32_t slot;

	for (slot = 0; slot < server->slots; slot++)
		if (server->children[slot] && (vmbus__shm_child_due(server->children[slot]) ||
					       vmbus__shm_child_due_later(server->children[slot])))
			return true;
	return false;
}

/* Returns what was done, or AGAIN when nothing came in that time. */
static int wait_and_dispatch(struct vmbus_shm_server *server, uint32_t budget, uint64_t timeout_ns)
{
	struct epoll_event events[EVENTS_PER_CALL];
	const int n = vmbus__shm_epoll_wait(server->epoll_fd, events, EVENTS_PER_CALL, timeout_ns);
	uint32_t done;

	if (n < 0)
		return n;
	if (n == 0)
		return VMBUS_E_AGAIN; /* what is due has our own descriptor raised */
	server->round++;
	done = take_events(server, events, n);
	done += take_turns(server, budget);
	vmbus__shm_again(server->again_fd, &server->again_set, any_due(server));
	return (int)(done < INT32_MAX ? done : INT32_MAX);
}

/* Callbacks may not come here. */
static int enter(struct vmbus_shm_server *server, uint32_t budget, uint64_t timeout_ns)
{
	int done;

	if (server->calling)
		return VMBUS_E_STATE;
	server->calling = true;
	done = wait_and_dispatch(server, budget, timeout_ns);
	server->calling = false;
	return done;
}

int vmbus_shm_server_dispatch(struct vmbus_shm_server *server, uint32_t budget)
{
	int done;

	if (budget == 0 || budget > INT32_MAX)
		return VMBUS_E_RANGE;
	done = enter(server, budget, 0);
	return done == VMBUS_E_AGAIN ? 0 : done;
}

int vmbus_shm_server_run(struct vmbus_shm_server *server, uint64_t timeout_ns)
{
	return enter(server, server->opts.budget, timeout_ns);
}

void vmbus_shm_server_stats(const struct vmbus_shm_server *server,
			    struct vmbus_shm_server_stats *stats)
{
	*stats = server->stats;
	stats->children = server->attached;
	stats->ending = server->ending;
	stats->log_dropped = server->log.dropped_ever;
}

int vmbus_shm_server_fd(const struct vmbus_shm_server *server)
{
	return server->epoll_fd;
}

/* What is wrong with an option, for the log. */
struct why {
	char text[256];
};

static int wrong(struct why *why, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int wrong(struct why *why, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return err;
}

static const struct vmbus_srv_opts no_limits;

/* Whether limits were set without their size, so that they would not count. */
static bool limits_unsized(const struct vmbus_srv_opts *limits)
{
	return limits->struct_bytes == 0 && memcmp(limits, &no_limits, sizeof(no_limits)) != 0;
}

/* As vmbus_bus_create() will for every child, which would be refused for it. */
static int check_limits(const struct vmbus_srv_opts *limits, struct why *why)
{
	if (limits_unsized(limits))
		return wrong(why, VMBUS_E_INVAL, "limits are set, limits.struct_bytes is 0");
	if (limits->struct_bytes == 0)
		return 0;
	if (limits->struct_bytes < sizeof(*limits))
		return wrong(why, VMBUS_E_INVAL, "limits.struct_bytes is %zu, must be %zu",
			     limits->struct_bytes, sizeof(*limits));
	if (limits->list_get || limits->list_put)
		return wrong(why, VMBUS_E_INVAL, "limits.list_get and list_put must be NULL");
	if (limits->chans_max > VMBUS_RELID_MAX)
		return wrong(why, VMBUS_E_RANGE, "limits.chans_max is %u, must be at most %u",
			     limits->chans_max, VMBUS_RELID_MAX);
	if (vmbus_srv_bytes(limits) == 0)
		return wrong(why, VMBUS_E_RANGE,
			     "limits: gpadls_max %u, queue_max %u, tl_max %u, version_max 0x%x or "
			     "features 0x%x is past what vmbus_srv_init(3) takes",
			     limits->gpadls_max, limits->queue_max, limits->tl_max,
			     limits->version_max, limits->features);
	return 0;
}

/* What is wrong with the options: 0, or the error with its reason in why. */
static int check_opts(const struct vmbus_shm_server_opts *opts, struct why *why)
{
	const int err = check_limits(&opts->limits, why);

	if (!opts->path)
		return wrong(why, VMBUS_E_INVAL, "no path");
	if (err)
		return err;
	if (opts->children_max > CHILDREN_LIMIT)
		return wrong(why, VMBUS_E_RANGE, "children_max is %u, must be at most %u",
			     opts->children_max, CHILDREN_LIMIT);
	if (opts->captures_max > VMBUS_SHM_CAPTURES_MAX)
		return wrong(why, VMBUS_E_RANGE, "captures_max is %u, must be at most %u",
			     opts->captures_max, VMBUS_SHM_CAPTURES_MAX);
	if (opts->budget > INT32_MAX)
		return wrong(why, VMBUS_E_RANGE, "budget is %u, must be at most %d", opts->budget,
			     INT32_MAX);
	if (opts->record_dir && (!opts->record_bytes || strlen(opts->record_dir) > 3800))
		return wrong(why, VMBUS_E_RANGE,
			     "record_dir needs record_bytes, and at most 3800 bytes");
	if (opts->record_bytes &&
	    (opts->record_bytes < VMBUS_RECORD_BYTES_MIN || opts->record_bytes > RECORD_LIMIT))
		return wrong(why, VMBUS_E_RANGE, "record_bytes is %llu, must be 0 or %u to %llu",
			     (unsigned long long)opts->record_bytes, VMBUS_RECORD_BYTES_MIN,
			     (unsigned long long)RECORD_LIMIT);
	if (opts->mode > 0777u)
		return wrong(why, VMBUS_E_RANGE, "mode is 0%o, must be at most 0777", opts->mode);
	if (!opts->path[0] || strlen(opts->path) > VMBUS_SHM_PATH_MAX)
		return wrong(why, VMBUS_E_RANGE, "the path has %zu bytes, must have 1 to %u",
			     strlen(opts->path), VMBUS_SHM_PATH_MAX);
	return 0;
}

static void take_opts(struct vmbus_shm_server *server, const struct vmbus_shm_server_opts *opts)
{
	struct vmbus_shm_server_opts *const own = &server->opts;
	uint32_t i;

	*own = *opts;
	own->mode = own->mode ? own->mode : 0600u;
	own->children_max = own->children_max ? own->children_max : 64u;
	own->memory_bytes_max = own->memory_bytes_max ? own->memory_bytes_max : (uint64_t)1 << 30;
	own->vps_max = own->vps_max ? own->vps_max : 16u;
	own->budget = own->budget ? own->budget : 256u;
	own->records_max = own->records_max ? own->records_max : 64u;
	own->records_bytes_max =
		own->records_bytes_max ? own->records_bytes_max : (uint64_t)64 << 20;
	own->captures_max = own->captures_max ? own->captures_max : 16u;
	own->attach_rate_max = own->attach_rate_max ? own->attach_rate_max : ATTACH_RATE;
	server->log.fn = opts->log;
	server->log.ctx = opts->ctx;
	server->slots = own->children_max * 2;
	server->epoll_fd = server->listen_fd = server->timer_fd = server->again_fd = -1;
	for (i = 0; i < VMBUS_SHM_CONNS_MAX; i++)
		server->conns[i].fd = -1;
}

static int open_fds(struct vmbus_shm_server *server)
{
	int err;

	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	server->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (server->epoll_fd < 0 || server->timer_fd < 0)
		return vmbus__shm_errno();
	server->again_fd = vmbus__shm_doorbell();
	if (server->again_fd < 0)
		return server->again_fd;
	if (server->listen_fd < 0)
		server->listen_fd = vmbus__shm_listen_at(server->path, server->opts.mode,
							 &server->dev, &server->ino);
	if (server->listen_fd < 0)
		return server->listen_fd;
	err = vmbus__shm_epoll_add(server->epoll_fd, server->listen_fd, EPOLLIN,
				   vmbus__shm_tag(VMBUS_SHM_EV_LISTEN, 0, 0));
	if (!err)
		err = vmbus__shm_epoll_add(server->epoll_fd, server->timer_fd, EPOLLIN,
					   vmbus__shm_tag(VMBUS_SHM_EV_TIMER, 0, 0));
	if (!err)
		err = vmbus__shm_epoll_add(server->epoll_fd, server->again_fd, EPOLLIN,
					   vmbus__shm_tag(VMBUS_SHM_EV_AGAIN, 0, 0));
	return err ? err : vmbus__shm_providers_watch(server);
}

/* Tell people why there is no server; errno stays. */
static void tell_failure(struct vmbus__shm_log *log, const char *path, int err)
{
	const char *why = strerror(errno);

	if (err == VMBUS_E_STATE)
		why = "somebody listens there already";
	else if (err == VMBUS_E_SYSTEM && errno == EEXIST)
		why = "there is something that is no socket";
	vmbus__shm_log(log, VMBUS_LOG_ERROR, "%s: cannot listen: %s (%s)", path, why,
		       vmbus_err_name(err));
}

/* A server that listens by a socket of another process's, or by one of its own. */
int vmbus__shm_listen_by(const struct vmbus_shm_server_opts *opts, int listen_fd,
			 struct vmbus_shm_server **server)
{
	struct vmbus__shm_log log = { 0 };
	struct vmbus_shm_server *made;
	struct why why;
	int err, saved;

	*server = NULL;
	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL; /* where its members are is not known, log included */
	log.fn = opts->log;
	log.ctx = opts->ctx;
	err = check_opts(opts, &why);
	if (err) {
		vmbus__shm_log(&log, VMBUS_LOG_ERROR, "cannot listen: %s (%s)", why.text,
			       vmbus_err_name(err));
		return err;
	}
	made = calloc(1, sizeof(*made));
	if (!made)
		return VMBUS_E_NOMEM;
	take_opts(made, opts);
	made->listen_fd = listen_fd;
	made->path = strdup(opts->path);
	made->opts.path = made->path;
	made->record_dir = opts->record_dir ? strdup(opts->record_dir) : NULL;
	made->opts.record_dir = made->record_dir;
	made->children = calloc(made->slots, sizeof(*made->children));
	err = made->path && made->children && (made->record_dir || !opts->record_dir)
		      ? open_fds(made)
		      : VMBUS_E_NOMEM;
	if (err) {
		saved = errno;
		tell_failure(&log, opts->path, err);
		if (listen_fd >= 0)
			made->listen_fd = -1; /* the caller's still */
		vmbus_shm_server_destroy(made);
		errno = saved;
		return err;
	}
	*server = made;
	return 0;
}

int vmbus_shm_listen(const struct vmbus_shm_server_opts *opts, struct vmbus_shm_server **server)
{
	return vmbus__shm_listen_by(opts, -1, server);
}

/* Whether this thread is within a callback of the server or of a child's bus. */
bool vmbus__shm_within_callback(const struct vmbus_shm_server *server)
{
	uint32_t i;

	for (i = 0; !server->calling && server->children && i < server->slots; i++)
		if (server->children[i] && vmbus_bus_in_callback(server->children[i]->bus))
			return true;
	return server->calling;
}

void vmbus_shm_server_destroy(struct vmbus_shm_server *server)
{
	uint32_t i;

	if (!server || vmbus__shm_within_callback(server))
		return;
	server->calling = true;
	if (server->listen_fd >= 0)
		vmbus__shm_unlink_own(server->path, server->dev, server->ino);
	vmbus__shm_close(&server->listen_fd);
	for (i = 0; server->children && i < server->slots; i++)
		if (server->children[i])
			vmbus__shm_child_destroy(server->children[i]);
	vmbus__shm_capture_forget(server, NULL);
	for (i = 0; i < VMBUS_SHM_CONNS_MAX; i++)
		if (server->conns[i].fd >= 0)
			drop_conn(server, &server->conns[i]);
	vmbus__shm_close(&server->timer_fd);
	vmbus__shm_close(&server->again_fd);
	vmbus__shm_close(&server->epoll_fd);
	free(server->children);
	free(server->path);
	free(server->record_dir);
	free(server);
}
