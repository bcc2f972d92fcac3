/* SPDX-License-Identifier: MIT */
/*
 * A connection of a provider: how it attaches, how it ends or is ended, and how one takes over from
 * another.  What it says is not looked at here.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm/provider_host.h"

#define PEER_PIDFD 77 /* SO_PEERPIDFD, which older headers lack */
#define WORDS 256u    /* of one that lives, when another one comes */
#define JOURNAL_MAX ((uint64_t)256 << 20)

static void say(int sock, uint32_t type, uint32_t code, const char *text)
{
	vmbus__shm_send_text(sock, type, code, text);
}

bool vmbus__pvh_hung_up(const struct vmbus__pvh_session *session)
{
	struct pollfd at = { .fd = session->sock };

	return poll(&at, 1, 0) == 1 && at.revents & POLLHUP;
}

/*
 * Whether the process is dead, or will be once its pidfd is readable.  One of another user that was
 * only slow may end by itself, and is given the time that a child waits.
 */
static bool kill_process(struct vmbus__pvh_session *session)
{
	const uint64_t wait = session->device->host->opts.wait_ns;

	if (session->pidfd < 0 || session->pid == (int32_t)getpid())
		return false;
	if (syscall(SYS_pidfd_send_signal, session->pidfd, SIGKILL, NULL, 0) == 0 || errno == ESRCH)
		return true;
	if (errno != EPERM || session->lied)
		return false;
	session->die_by = vmbus__shm_now_ns() + wait;
	vmbus__shm_log(
		&session->device->host->log, VMBUS_LOG_ERROR,
		"provider %s: process %d is another user's and cannot be killed: nobody goes on "
		"in its place before it has ended, for %u ms at most",
		session->device->name, session->pid, (unsigned int)(wait / 1000000u));
	return true;
}

static void say_unsure(const struct vmbus__pvh_session *session)
{
	vmbus__shm_log(&session->device->host->log, VMBUS_LOG_ERROR,
		       "provider %s: process %d cannot be killed: its channels are withdrawn; end "
		       "it, it still has the memory of children",
		       session->device->name, session->pid);
}

void vmbus__pvh_session_lives_on(struct vmbus__pvh_session *session)
{
	session->die_by = 0;
	session->dying = false;
	session->unsure = true;
	say_unsure(session);
	vmbus__pvh_kick(session->device->host);
}

/*
 * Who is thrown out may be in the midst of a callback, and write to the child's rings and to
 * journals as soon as it runs again.  So it is killed, and nobody goes on in its place, and no
 * child hears that its pages are free, before it is dead.
 */
static void throw_out(struct vmbus__pvh_session *session, const char *why)
{
	struct vmbus__pvh_device *const device = session->device;
	struct vmbus_provider_host *const host = device->host;

	vmbus__shm_log(&host->log, VMBUS_LOG_ERROR, "provider %s: process %d was thrown out: %s",
		       device->name, session->pid, why);
	say(session->sock, VMBUS_SHM_BYE, VMBUS_SHM_CODE_KICKED, why);
	if (device->heir == session) /* it has no channel yet */
		return;
	session->dying = kill_process(session);
	session->unsure = !session->dying;
	if (session->dying)
		vmbus__shm_epoll_del(host->epoll_fd, session->sock);
	else
		say_unsure(session);
}

static void end_session(struct vmbus__pvh_session *session, const char *why, bool lied)
{
	if (session->dead)
		return;
	session->dead = true;
	session->lied = lied;
	if (why && !session->exited)
		throw_out(session, why);
	vmbus__pvh_kick(session->device->host);
}

void vmbus__pvh_throw(struct vmbus__pvh_session *session, const char *why)
{
	end_session(session, why, true);
}

void vmbus__pvh_throw_late(struct vmbus__pvh_session *session, const char *why)
{
	end_session(session, why, false);
}

void vmbus__pvh_session_exited(struct vmbus__pvh_session *session)
{
	vmbus__shm_epoll_del(session->device->host->epoll_fd, session->pidfd);
	session->exited = true;
	session->readable = true;
	if (session->dying && !session->lied)
		session->dead = false; /* its last words count */
	session->dying = false;
	vmbus__pvh_kick(session->device->host);
}

void vmbus__pvh_info(const struct vmbus__pvh_device *device, struct vmbus_provider_info *info)
{
	const struct vmbus__pvh_seat *seat;
	const struct vmbus__pvh_chan *c;

	*info = (struct vmbus_provider_info){ .name = device->name,
					      .vsp = device->vsp_name,
					      .class_id = device->vsp.class_id,
					      .instance_id = device->instance_id,
					      .pid = device->pid,
					      .resumable = device->journal_bytes != 0,
					      .present = device->session && !device->session->dead,
					      .deaths = device->deaths,
					      .handovers = device->handovers,
					      .last_pause_ns = device->pause_ns };
	for (seat = device->seats; seat; seat = seat->next) {
		info->buses += seat->primary != NULL;
		for (c = seat->chans; c; c = c->next) {
			info->channels += c->state == VMBUS_PVH_OPEN;
			info->held += c->state != VMBUS_PVH_IDLE;
		}
	}
}

/* ---- attaching ---- */

static struct vmbus__pvh_device *find_device(struct vmbus_provider_host *host,
					     const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvh_device *device;

	for (device = host->devices; device; device = device->next)
		if (!device->ended && vmbus_guid_equal(&device->vsp.class_id, &msg->class_id) &&
		    strcmp(device->name, msg->name) == 0)
			return device;
	return NULL;
}

/* Whether what it has now is what its children have open. */
static bool same_device(const struct vmbus__pvh_device *device, const struct vmbus__pv_msg *msg)
{
	const struct vmbus_vsp *const vsp = &device->vsp;

	return device->journal_bytes == (msg->flags & VMBUS_PV_RESUMABLE ? msg->journal : 0) &&
	       vsp->max_payload == msg->max_payload && vsp->ring_bytes_max == msg->ring_bytes_max &&
	       vsp->offer_flags == msg->offer_flags && vsp->mmio_mb == msg->mmio_mb &&
	       device->monitor_us == msg->monitor_us &&
	       vmbus_guid_equal(&device->instance_id, &msg->instance_id);
}

static struct vmbus__pvh_device *make_device(struct vmbus_provider_host *host,
					     const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvh_device *const device = calloc(1, sizeof(*device));

	if (!device)
		return NULL;
	device->host = host;
	device->vsp = vmbus__pvh_vsp;
	memcpy(device->name, msg->name, sizeof(device->name));
	memcpy(device->vsp_name, msg->vsp, sizeof(device->vsp_name));
	device->vsp.name = device->vsp_name;
	device->vsp.class_id = msg->class_id;
	device->vsp.offer_flags = (uint16_t)msg->offer_flags;
	device->vsp.mmio_mb = (uint16_t)msg->mmio_mb;
	device->vsp.max_payload = msg->max_payload;
	device->vsp.ring_bytes_max = msg->ring_bytes_max;
	device->instance_id = msg->instance_id;
	device->monitor_us = msg->monitor_us;
	device->journal_bytes = msg->flags & VMBUS_PV_RESUMABLE ? msg->journal : 0;
	device->due_last = &device->due_first;
	device->next = host->devices;
	host->devices = device;
	host->device_count++;
	return device;
}

void vmbus__pvh_device_free(struct vmbus__pvh_device *device)
{
	struct vmbus_provider_host *const host = device->host;
	struct vmbus__pvh_device **at = &host->devices;

	if (!device->ended || device->seats || device->session || device->heir)
		return;
	while (*at != device)
		at = &(*at)->next;
	*at = device->next;
	free(device);
	if (host->ended && host->seats == 0 && !host->devices)
		free(host);
}

void vmbus__pvh_device_end(struct vmbus__pvh_device *device, const char *why)
{
	struct vmbus__pvh_seat *seat, *next;

	if (device->ended)
		return;
	vmbus__shm_log(&device->host->log, VMBUS_LOG_INFO, "provider %s: withdrawn: %s",
		       device->name, why);
	device->gone_at = 0;
	for (seat = device->seats; seat; seat = next) {
		next = seat->next;
		vmbus__pvh_seat_end(seat);
	}
	device->ended = true;
	device->host->device_count--;
	vmbus__pvh_device_free(device);
}

/* One that was killed makes room for whoever comes, as soon as it is dead. */
static bool may_replace(const struct vmbus__pvh_session *session, const struct vmbus__pv_msg *msg)
{
	return msg->flags & VMBUS_PV_TAKE_OVER || session->dead;
}

/* Why it may not attach: a code of the protocol with a text, or 0. */
static uint32_t refusal(struct vmbus_provider_host *host, const struct vmbus__pvh_device *device,
			const struct vmbus__pv_msg *msg, const char **text)
{
	*text = "the message makes no sense";
	if (msg->flags & ~(VMBUS_PV_RESUMABLE | VMBUS_PV_TAKE_OVER) || !msg->name[0] ||
	    !msg->vsp[0] || msg->offer_flags > UINT16_MAX || msg->mmio_mb > UINT16_MAX)
		return VMBUS_SHM_CODE_MESSAGE;
	if (msg->flags & VMBUS_PV_RESUMABLE && (!msg->journal || msg->journal > JOURNAL_MAX))
		return VMBUS_SHM_CODE_MESSAGE;
	*text = "there is a provider of this class and name; take_over replaces it";
	if (device && device->session && (!may_replace(device->session, msg) || device->heir))
		return VMBUS_SHM_CODE_TAKEN;
	*text = "as many providers as this parent takes (providers_max)";
	if (!device && host->device_count >= host->opts.providers_max)
		return VMBUS_SHM_CODE_FULL;
	return 0;
}

/*
 * The process that connected.  Without the socket's own word it is found by its number, which is
 * another's if it died meanwhile: then the connection has ended, too.
 */
static int pidfd_of(const struct vmbus__pvh_session *session)
{
	socklen_t bytes = sizeof(int);
	int fd = -1;

	if (session->pid <= 0)
		return -1;
	if (getsockopt(session->sock, SOL_SOCKET, PEER_PIDFD, &fd, &bytes) == 0)
		return fd;
	fd = vmbus__shm_pidfd(session->pid);
	if (fd >= 0 && vmbus__pvh_hung_up(session))
		vmbus__shm_close(&fd);
	return fd >= 0 ? fd : -1;
}

static struct vmbus__pvh_session *make_session(struct vmbus_provider_host *host, int sock)
{
	struct vmbus__pvh_session *const session = calloc(1, sizeof(*session));
	struct ucred cred = { 0 };
	socklen_t bytes = sizeof(cred);
	uint32_t slot = 0;

	while (slot < 2u * VMBUS_PVH_DEVICES_MAX && host->sessions[slot])
		slot++;
	if (!session || slot == 2u * VMBUS_PVH_DEVICES_MAX) {
		free(session);
		return NULL;
	}
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &bytes) == 0)
		session->pid = (int32_t)cred.pid;
	session->sock = sock;
	session->pidfd = pidfd_of(session);
	session->slot = slot;
	session->gen = ++host->gen;
	session->waits.next = session->waits.prev = &session->waits;
	if (vmbus__shm_epoll_add(host->epoll_fd, sock, EPOLLIN | EPOLLRDHUP,
				 (uint64_t)session->gen << 32 | slot) ||
	    (session->pidfd >= 0 &&
	     vmbus__shm_epoll_add(host->epoll_fd, session->pidfd, EPOLLIN,
				  (uint64_t)session->gen << 32 | slot | 0x10000u))) {
		vmbus__shm_epoll_del(host->epoll_fd, sock);
		vmbus__shm_close(&session->pidfd);
		free(session);
		return NULL;
	}
	host->sessions[slot] = session;
	return session;
}

static bool embedder_wants(struct vmbus_provider_host *host,
			   const struct vmbus__pvh_session *session,
			   const struct vmbus__pvh_device *device)
{
	struct vmbus_provider_info info;

	if (!host->opts.attach)
		return true;
	vmbus__pvh_info(device, &info);
	info.pid = session->pid;
	return host->opts.attach(host->opts.ctx, &info) == 0;
}

static void reset_views(struct vmbus__pvh_device *device, uint32_t which)
{
	struct vmbus__pvh_seat *seat;

	for (seat = device->seats; seat; seat = seat->next)
		seat->view[which] = (struct vmbus__pvh_view){ 0 };
}

static bool any_open(const struct vmbus__pvh_device *device)
{
	const struct vmbus__pvh_seat *seat;
	const struct vmbus__pvh_chan *c;

	for (seat = device->seats; seat; seat = seat->next)
		for (c = seat->chans; c; c = c->next)
			if (c->state == VMBUS_PVH_OPEN)
				return true;
	return false;
}

/* It is the device's provider from now on. */
static void adopt(struct vmbus__pvh_session *session)
{
	struct vmbus__pvh_device *const device = session->device;
	struct vmbus__pvh_seat *seat, *next;

	device->session = session;
	device->pid = session->pid;
	device->gone_at = 0;
	if (!any_open(device)) /* what was, is closed by now */
		device->pause_from = 0;
	session->takes_over = false;
	for (seat = device->seats; seat; seat = next) {
		next = seat->next;
		vmbus__pvh_seat_offer(seat);
	}
	vmbus__pvh_kick(device->host);
}

/* A device that is new here is offered on every bus. */
static void offer_on_all(struct vmbus__pvh_device *device)
{
	struct vmbus__pvh_bus *bus;

	for (bus = device->host->buses; bus; bus = bus->next)
		if (vmbus__pvh_seat_add(device, bus))
			vmbus__shm_log(&device->host->log, VMBUS_LOG_ERROR,
				       "provider %s: no memory to offer it to %s", device->name,
				       bus->name);
}

static void welcome(struct vmbus__pvh_session *session, bool made)
{
	struct vmbus__pvh_device *const device = session->device;
	const struct vmbus_provider_host_opts *const opts = &device->host->opts;
	const struct vmbus__pv_msg msg = { .type = VMBUS_PV_PROVIDED,
					   .wait_ns = opts->wait_ns,
					   .answer_ns = opts->answer_ns };

	(void)vmbus__pv_send(session->sock, &msg, NULL, 0);
	vmbus__shm_log(&device->host->log, VMBUS_LOG_INFO, "provider %s: process %d %s%s",
		       device->name, session->pid, device->session ? "takes over" : "attached",
		       device->journal_bytes ? ", resumable" : "");
	if (device->session) {
		session->takes_over = true;
		session->which = 1u - device->session->which;
		session->ready_by = vmbus__shm_now_ns() + opts->answer_ns;
		device->heir = session;
		reset_views(device, session->which);
		vmbus__pvh_handover(device);
		vmbus__pvh_kick(device->host);
		return;
	}
	reset_views(device, session->which);
	adopt(session);
	if (made)
		offer_on_all(device);
}

static void refuse(struct vmbus_provider_host *host, int sock, const struct vmbus__pv_msg *msg,
		   uint32_t code, const char *text)
{
	vmbus__shm_log(&host->log, VMBUS_LOG_ERROR, "provider %s refused: %s", msg->name, text);
	say(sock, VMBUS_SHM_REFUSED, code, text);
	vmbus__shm_close(&sock);
}

static bool has_exited(const struct vmbus__pvh_session *session)
{
	struct pollfd at = { .fd = session->pidfd, .events = POLLIN };

	return session->pidfd >= 0 && poll(&at, 1, 0) == 1 && at.revents & POLLIN;
}

/* The device that it means, once what its provider said last, or that it is dead, was seen. */
static struct vmbus__pvh_device *find_now(struct vmbus_provider_host *host,
					  const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvh_device *const device = find_device(host, msg);
	struct vmbus__pvh_session *const session = device ? device->session : NULL;

	if (!session)
		return device;
	if (!session->exited && has_exited(session))
		vmbus__pvh_session_exited(session);
	(void)vmbus__pvh_session_read(session, session->exited || vmbus__pvh_hung_up(session)
						       ? VMBUS_PVH_LAST_WORDS
						       : WORDS);
	/* It may be gone, and the device with it. */
	if (find_device(host, msg) != device)
		return find_device(host, msg);
	if (device->session == session && session->dead && !session->dying)
		vmbus__pvh_session_lost(session, false, NULL);
	return find_device(host, msg);
}

/* Channels are there that only one like the last one can go on with. */
static bool children_wait(const struct vmbus__pvh_device *device)
{
	const struct vmbus__pvh_seat *seat;
	const struct vmbus__pvh_chan *c;

	for (seat = device->seats; seat; seat = seat->next)
		for (c = seat->chans; c; c = c->next)
			if (c->state != VMBUS_PVH_IDLE)
				return true;
	return false;
}

void vmbus__pvh_session_start(struct vmbus_provider_host *host, int sock,
			      const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvh_device *device = find_now(host, msg);
	struct vmbus__pvh_session *session;
	const char *text;
	uint32_t code;
	bool made = false;

	code = refusal(host, device, msg, &text);
	if (code) {
		refuse(host, sock, msg, code, text);
		return;
	}
	if (device && !same_device(device, msg)) {
		if (device->session || children_wait(device)) {
			refuse(host, sock, msg, VMBUS_SHM_CODE_DENIED,
			       "it is not like the provider whose place it would take");
			return;
		}
		vmbus__pvh_device_end(device, "a provider of another kind has its name");
		device = NULL;
	}
	if (!device) {
		device = make_device(host, msg);
		made = true;
	}
	session = device ? make_session(host, sock) : NULL;
	if (!session) {
		refuse(host, sock, msg, VMBUS_SHM_CODE_SYSTEM, "no memory or no descriptor left");
	} else {
		session->device = device;
		if (embedder_wants(host, session, device)) {
			welcome(session, made);
			return;
		}
		say(sock, VMBUS_SHM_REFUSED, VMBUS_SHM_CODE_DENIED, "the embedder refused");
		vmbus__pvh_session_free(session);
	}
	if (device && made) {
		device->ended = true;
		host->device_count--;
		vmbus__pvh_device_free(device);
	}
}

/* ---- the end, and the next one ---- */

void vmbus__pvh_session_free(struct vmbus__pvh_session *session)
{
	struct vmbus_provider_host *const host = session->device->host;

	while (session->waits.next != &session->waits)
		vmbus__pvh_wait_end(session->waits.next);
	vmbus__shm_epoll_del(host->epoll_fd, session->sock);
	vmbus__shm_epoll_del(host->epoll_fd, session->pidfd);
	vmbus__shm_close(&session->sock);
	vmbus__shm_close(&session->pidfd);
	host->sessions[session->slot] = NULL;
	free(session->gone);
	free(session);
}

static void orphan_all(struct vmbus__pvh_device *device, bool keep)
{
	struct vmbus__pvh_seat *seat, *next;

	for (seat = device->seats; seat; seat = next) {
		next = seat->next;
		vmbus__pvh_seat_orphan(seat, keep);
	}
}

/* The old one has let go, or is dead: the new one has its place. */
static void succeed(struct vmbus__pvh_device *device, bool keep)
{
	struct vmbus__pvh_session *const heir = device->heir;

	device->heir = NULL;
	orphan_all(device, keep);
	adopt(heir);
}

/* The flight records of all who were served by it say that it is gone. */
static void note_loss(const struct vmbus__pvh_session *session, const char *why)
{
	struct vmbus_record_note note = { .kind = VMBUS_RECORD_PROVIDER_GONE,
					  .a = (uint64_t)session->pid,
					  .text = why };
	struct vmbus__pvh_seat *seat;
	struct vmbus__pvh_chan *c;

	for (seat = session->device->seats; seat; seat = seat->next)
		for (c = seat->chans; c; c = c->next)
			if (c->state == VMBUS_PVH_OPEN)
				vmbus__pvh_chan_note(c, &note);
}

/* The next one is gone before its turn; the one that is there goes on unless it was told. */
static void lose_heir(struct vmbus__pvh_device *device)
{
	struct vmbus__pvh_session *const session = device->session;

	device->heir = NULL;
	if (!session || session->told_yield)
		return;
	if (session->yielding)
		device->pause_from = 0;
	session->yielding = false;
}

void vmbus__pvh_session_lost(struct vmbus__pvh_session *session, bool left, const char *why)
{
	struct vmbus__pvh_device *const device = session->device;
	const bool yielded = session->yielding && left;
	const bool keep = device->journal_bytes != 0 && !session->unsure;

	if (device->heir == session) {
		lose_heir(device);
		vmbus__pvh_session_free(session);
		return;
	}
	device->session = NULL;
	note_loss(session, yielded ? "it gave way" : left ? "it has left" : why);
	vmbus__shm_log(&device->host->log, left ? VMBUS_LOG_INFO : VMBUS_LOG_ERROR,
		       "provider %s: process %d %s%s%s", device->name, session->pid,
		       yielded ? "gave way"
		       : left  ? "has left"
			       : "is gone",
		       why ? ": " : "", why ? why : "");
	if (!left)
		device->deaths++;
	if (!device->pause_from)
		device->pause_from = vmbus__shm_now_ns();
	vmbus__pvh_session_free(session);
	if (device->heir) {
		device->handovers += yielded;
		succeed(device, keep);
		return;
	}
	if (left && !yielded) {
		vmbus__pvh_device_end(device, "its provider has left");
		return;
	}
	device->gone_at = vmbus__shm_now_ns();
	orphan_all(device, keep);
	if (!any_open(device))
		device->pause_from = 0;
}

static bool heir_is_ready(const struct vmbus__pvh_device *device)
{
	const struct vmbus__pvh_seat *seat;

	for (seat = device->seats; seat; seat = seat->next)
		if (seat->bus && !seat->view[device->heir->which].ready)
			return false;
	return true;
}

void vmbus__pvh_handover(struct vmbus__pvh_device *device)
{
	if (!device->heir || !device->session || device->session->yielding ||
	    device->session->dead || !heir_is_ready(device))
		return;
	device->session->yielding = true;
	device->session->yield_at = device->pause_from = vmbus__shm_now_ns();
	vmbus__pvh_kick(device->host);
}
