/* SPDX-License-Identifier: MIT */
/*
 * The provider's side of its connection: attaching, the socket, turns of the partitions, the end.
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
#include <unistd.h>

#include "shm/provider_client.h"

#define EVENTS_PER_CALL 64
#define MESSAGES_PER_CALL 64
#define SHARE 256u
#define TIMEOUT_DEFAULT_NS 5000000000u
#define SPIN_MAX_NS 1000000000u

void vmbus__pvc_lose(struct vmbus_provider *provider, const char *why)
{
	if (provider->gone)
		return;
	provider->gone = true;
	(void)snprintf(provider->why, sizeof(provider->why), "%s", why);
	vmbus__shm_log(&provider->log, VMBUS_LOG_INFO, "provider: %s", provider->why);
}

/* ---- out ---- */

static void watch(struct vmbus_provider *provider)
{
	const bool out = provider->out != NULL;

	if (out == provider->watched_out)
		return;
	provider->watched_out = out;
	(void)vmbus__shm_epoll_mod(provider->epoll_fd, provider->sock,
				   EPOLLIN | EPOLLRDHUP | (out ? EPOLLOUT : 0),
				   (uint64_t)(uintptr_t)&provider->source);
}

static void flush(struct vmbus_provider *provider)
{
	struct vmbus__pvc_part *part;

	while (provider->out && !provider->gone) {
		struct vmbus__pvc_out *const first = provider->out;
		const int err =
			vmbus__shm_send_bytes(provider->sock, first->bytes, first->len, NULL, 0);

		if (err == VMBUS_E_AGAIN)
			break;
		if (err) {
			vmbus__pvc_lose(provider, "the parent is gone");
			break;
		}
		provider->out = first->next;
		if (!provider->out)
			provider->out_last = &provider->out;
		provider->out_count--;
		free(first);
	}
	for (part = provider->parts; part && !provider->out; part = part->next)
		vmbus__pvc_tell_signals(part);
	watch(provider);
}

void vmbus__pvc_send(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg)
{
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	const uint32_t len = vmbus__pv_encode(msg, bytes);
	struct vmbus__pvc_out *out;

	if (provider->gone)
		return;
	if (!provider->out) {
		const int err = vmbus__shm_send_bytes(provider->sock, bytes, len, NULL, 0);

		if (err && err != VMBUS_E_AGAIN)
			vmbus__pvc_lose(provider, "the parent is gone");
		if (err != VMBUS_E_AGAIN)
			return;
	}
	out = malloc(sizeof(*out) + len);
	if (!out || provider->out_count >= VMBUS_PVC_OUT_MAX) {
		free(out);
		vmbus__pvc_lose(provider, "the parent does not read its socket");
		return;
	}
	out->next = NULL;
	out->len = len;
	memcpy(out->bytes, bytes, len);
	*provider->out_last = out;
	provider->out_last = &out->next;
	provider->out_count++;
	watch(provider);
}

static void drop_out(struct vmbus_provider *provider)
{
	while (provider->out) {
		struct vmbus__pvc_out *const first = provider->out;

		provider->out = first->next;
		free(first);
	}
	provider->out_last = &provider->out;
	provider->out_count = 0;
}

/* ---- in ---- */

/*
 * Devices close, and journals stay as they are: whether anybody reads what we say is not known, and
 * who does not goes on from them.  A parent that reads BYE has no more use for them.
 */
static void let_go(struct vmbus_provider *provider)
{
	struct vmbus__pvc_part *part;

	for (part = provider->parts; part; part = part->next)
		vmbus__pvc_part_let_go(part);
}

/* Stop between two callbacks; who takes over goes on where the journals say. */
static void give_way(struct vmbus_provider *provider)
{
	const struct vmbus__pv_msg msg = { .type = VMBUS_PV_YIELDED };

	let_go(provider);
	vmbus__pvc_send(provider, &msg);
	flush(provider);
	vmbus__pvc_lose(provider, "another provider took over");
}

static const char *take_chan(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg,
			     struct vmbus__shm_record *record)
{
	struct vmbus__pvc_part *const part = vmbus__pvc_part_find(provider, msg->bus);

	if (!part && msg->bus <= provider->bus_last)
		return NULL; /* it is gone, and that crossed this */
	if (!part || part->state == VMBUS_PVC_LOADING)
		return "a channel of no partition";
	return vmbus__pvc_take_chan(part, msg, record->fds, record->fd_count);
}

static const char *take(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg,
			struct vmbus__shm_record *record)
{
	switch (msg->type) {
	case VMBUS_PV_GPADL:
	case VMBUS_PV_GPADL_GONE:
	case VMBUS_PV_OPEN:
	case VMBUS_PV_CLOSE:
	case VMBUS_PV_MODIFY:
	case VMBUS_PV_SIGNAL:
		return take_chan(provider, msg, record);
	case VMBUS_PV_REGION:
		if (record->fd_count != 1)
			return "memory without its descriptor";
		return vmbus__pvc_take_region(provider, msg, &record->fds[0]);
	case VMBUS_PV_MEMORY_IS:
		return vmbus__pvc_take_memory(provider, msg, record);
	default:
		break;
	}
	if (record->fd_count)
		return "descriptors where none belong";
	switch (msg->type) {
	case VMBUS_PV_BUS:
		return vmbus__pvc_take_bus(provider, msg);
	case VMBUS_PV_BUS_GONE:
		return vmbus__pvc_take_gone(provider, msg);
	case VMBUS_PV_YIELD:
		give_way(provider);
		return NULL;
	case VMBUS_SHM_BYE:
		vmbus__pvc_lose(provider, msg->text[0] ? msg->text : "the parent ended it");
		return NULL;
	default:
		return "a message that a parent does not send";
	}
}

static uint32_t read_socket(struct vmbus_provider *provider)
{
	struct vmbus__shm_record record;
	struct vmbus__pv_msg msg;
	char line[VMBUS_SHM_TEXT_BYTES];
	uint32_t i;

	for (i = 0; i < MESSAGES_PER_CALL && !provider->gone; i++) {
		const int got = vmbus__shm_recv(provider->sock, &record);
		const char *wrong;

		if (got == 0)
			break;
		if (got < 0) {
			vmbus__pvc_lose(provider, "the parent is gone");
			break;
		}
		wrong = record.cut || vmbus__pv_decode(record.bytes, record.len, &msg)
				? "a message that cannot be read"
				: take(provider, &msg, &record);
		vmbus__shm_record_close(&record);
		if (wrong) {
			(void)snprintf(line, sizeof(line), "the parent sent %s", wrong);
			vmbus__pvc_lose(provider, line);
		}
	}
	return i;
}

void vmbus__pvc_hear(struct vmbus_provider *provider)
{
	(void)read_socket(provider);
	flush(provider);
}

void vmbus__pvc_move_on(struct vmbus_provider *provider)
{
	struct vmbus__pvc_part *part;

	for (part = provider->parts; part && !provider->gone; part = part->next)
		if (part->advance)
			vmbus__pvc_advance(part);
	flush(provider);
}

/* ---- dispatch ---- */

static void heard(struct vmbus__pvc_chan *c)
{
	struct epoll_event event;

	if (epoll_wait(c->listener, &event, 1, 0) < 0 && errno != EINTR)
		vmbus__pvc_lose(c->part->provider, "the parent's set to listen to is none");
	if (c->conn && c->part->state == VMBUS_PVC_SERVING) {
		(void)vmbus_bus_signal_event(c->part->bus, c->conn, 0);
		c->part->due = true;
	}
}

static bool take_events(struct vmbus_provider *provider, const struct epoll_event *events, int n)
{
	bool socket = false;
	int i;

	for (i = 0; i < n; i++) {
		const struct vmbus__pvc_source *const source = events[i].data.ptr;

		switch (source->kind) {
		case VMBUS_PVC_SOCKET:
			socket = true;
			break;
		case VMBUS_PVC_BUS:
			((struct vmbus__pvc_part *)source->owner)->due = true;
			break;
		case VMBUS_PVC_LISTENER:
		default:
			heard(source->owner);
			break;
		}
	}
	(void)provider;
	return socket;
}

/* Each partition with work once, for no more than its share. */
static uint32_t take_turns(struct vmbus_provider *provider, uint32_t budget)
{
	struct vmbus__pvc_part *part, *next;
	uint32_t done = 0;

	for (part = provider->parts; part && done < budget; part = next) {
		next = part->next;
		if (part->due || part->advance || part->state == VMBUS_PVC_ENDING)
			done += vmbus__pvc_part_turn(part,
						     budget - done < SHARE ? budget - done : SHARE);
	}
	/* What the socket said brings no further event: it goes to their buses now, which do. */
	for (next = part; next; next = next->next)
		if (next->advance)
			vmbus__pvc_advance(next);
	/* Who had no turn is first the next time. */
	if (part && part != provider->parts) {
		struct vmbus__pvc_part *last = part, *before = provider->parts;

		while (last->next)
			last = last->next;
		while (before->next != part)
			before = before->next;
		last->next = provider->parts;
		provider->parts = part;
		before->next = NULL;
	}
	return done;
}

void vmbus__pvc_end(struct vmbus_provider *provider)
{
	if (provider->ended)
		return;
	provider->ended = true;
	let_go(provider);
	while (provider->parts)
		vmbus__pvc_part_destroy(provider->parts);
	drop_out(provider);
	vmbus__shm_epoll_del(provider->epoll_fd, provider->sock);
	vmbus__shm_close(&provider->sock);
}

int vmbus__pvc_dispatch(struct vmbus_provider *provider, uint32_t budget, uint64_t timeout_ns)
{
	struct epoll_event events[EVENTS_PER_CALL];
	uint32_t done = 0, work = 0;
	int n;

	n = provider->gone ? 0
			   : vmbus__shm_epoll_wait(provider->epoll_fd, events, EVENTS_PER_CALL,
						   timeout_ns);
	if (n < 0)
		return n;
	if (n == 0 && !provider->gone)
		return VMBUS_E_AGAIN;
	if (take_events(provider, events, n))
		done = read_socket(provider);
	if (!provider->gone)
		work = take_turns(provider, budget);
	provider->hot = work != 0;
	done += work;
	flush(provider);
	if (!provider->gone)
		return (int)(done < INT32_MAX ? done : INT32_MAX);
	vmbus__pvc_end(provider);
	return VMBUS_E_PEER;
}

int vmbus_provider_dispatch(struct vmbus_provider *provider, uint32_t budget)
{
	int done;

	if (budget == 0 || budget > INT32_MAX)
		return VMBUS_E_RANGE;
	if (provider->calling)
		return VMBUS_E_STATE;
	if (provider->ended)
		return VMBUS_E_PEER;
	provider->calling = true;
	done = vmbus__pvc_dispatch(provider, budget, 0);
	provider->calling = false;
	return done == VMBUS_E_AGAIN ? 0 : done;
}

int vmbus_provider_fd(const struct vmbus_provider *provider)
{
	return provider->epoll_fd;
}

const char *vmbus_provider_why(const struct vmbus_provider *provider)
{
	return provider->why;
}

/* ---- attaching ---- */

static void say(const struct vmbus_provider_opts *opts, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void say(const struct vmbus_provider_opts *opts, const char *format, ...)
{
	va_list args;

	if (!opts->why || !opts->why_bytes)
		return;
	va_start(args, format);
	(void)vsnprintf(opts->why, opts->why_bytes, format, args);
	va_end(args);
}

static int check_opts(const struct vmbus_provider_opts *opts)
{
	const struct vmbus_vsp *vsp;

	if (opts->struct_bytes < sizeof(*opts) || !opts->path || !opts->name || !opts->vsp)
		return VMBUS_E_INVAL;
	vsp = opts->vsp;
	if (vsp->struct_bytes < sizeof(*vsp) || !vsp->name || !vsp->packets ||
	    vsp->flags & VMBUS_VSP_FOREIGN)
		return VMBUS_E_INVAL;
	if (vsp->flags & VMBUS_VSP_RESUMABLE && vmbus_journal_bytes(vsp) == 0)
		return VMBUS_E_RANGE;
	if (!opts->name[0] || strlen(opts->name) >= VMBUS_SHM_NAME_BYTES ||
	    opts->spin_ns > SPIN_MAX_NS || strlen(vsp->name) >= VMBUS_PV_VSP_BYTES || !vsp->name[0])
		return VMBUS_E_RANGE;
	return 0;
}

static int send_provide(int sock, const struct vmbus_provider_opts *opts)
{
	const struct vmbus_vsp *const vsp = opts->vsp;
	const uint64_t journal = vmbus_journal_bytes(vsp);
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_PROVIDE,
				     .flags = (journal ? VMBUS_PV_RESUMABLE : 0) |
					      (opts->take_over ? VMBUS_PV_TAKE_OVER : 0),
				     .max_payload = vsp->max_payload,
				     .ring_bytes_max = vsp->ring_bytes_max,
				     .offer_flags = vsp->offer_flags,
				     .mmio_mb = vsp->mmio_mb,
				     .monitor_us = opts->monitor_us,
				     .journal = journal,
				     .class_id = vsp->class_id,
				     .instance_id = opts->instance_id };

	(void)snprintf(msg.name, sizeof(msg.name), "%s", opts->name);
	(void)snprintf(msg.vsp, sizeof(msg.vsp), "%s", vsp->name);
	return vmbus__pv_send(sock, &msg, NULL, 0);
}

static int refusal(uint32_t code)
{
	switch (code) {
	case VMBUS_SHM_CODE_VERSION:
		return VMBUS_E_NOTSUP;
	case VMBUS_SHM_CODE_FULL:
		return VMBUS_E_FULL;
	case VMBUS_SHM_CODE_TAKEN:
		return VMBUS_E_STATE;
	case VMBUS_SHM_CODE_SYSTEM:
		return VMBUS_E_NOMEM;
	case VMBUS_SHM_CODE_MESSAGE:
		return VMBUS_E_PEER;
	default:
		return VMBUS_E_PERM;
	}
}

static int read_answer(const struct vmbus_provider_opts *opts,
		       const struct vmbus__shm_record *record)
{
	struct vmbus__pv_msg msg;
	const int err = vmbus__pv_decode(record->bytes, record->len, &msg);

	if (err == VMBUS_E_NOTSUP) {
		say(opts, "the parent speaks another version of the socket protocol");
		return err;
	}
	if (err || record->cut || record->fd_count ||
	    (msg.type != VMBUS_PV_PROVIDED && msg.type != VMBUS_SHM_REFUSED)) {
		say(opts, "the parent's answer makes no sense");
		return VMBUS_E_PEER;
	}
	if (msg.type == VMBUS_PV_PROVIDED)
		return 0;
	say(opts, "%s", msg.text);
	return refusal(msg.code);
}

static int shake_hands(int sock, const struct vmbus_provider_opts *opts, uint64_t until)
{
	struct vmbus__shm_record record = { 0 };
	int err = send_provide(sock, opts);

	if (!err)
		err = vmbus__shm_recv_until(sock, until, &record);
	if (err < 0) {
		say(opts, err == VMBUS_E_AGAIN ? "the parent did not answer in time"
					       : "the parent closed the connection");
		return err;
	}
	err = read_answer(opts, &record);
	vmbus__shm_record_close(&record);
	return err;
}

int vmbus__pvc_start(const struct vmbus_provider_opts *opts, int sock,
		     struct vmbus_provider **provider)
{
	struct vmbus_provider *const made = calloc(1, sizeof(*made));
	int err;

	*provider = NULL;
	if (!made) {
		vmbus__shm_close(&sock);
		return VMBUS_E_NOMEM;
	}
	made->vsp = opts->vsp;
	made->ctx = opts->ctx;
	made->instance_id = opts->instance_id;
	made->journal_bytes = vmbus_journal_bytes(opts->vsp);
	made->log.fn = opts->log;
	made->log.ctx = opts->log_ctx;
	made->spin_ns = opts->spin_ns;
	made->timeout_ns = opts->timeout_ns ? opts->timeout_ns : TIMEOUT_DEFAULT_NS;
	made->out_last = &made->out;
	made->sock = sock;
	made->source = (struct vmbus__pvc_source){ VMBUS_PVC_SOCKET, made };
	made->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	err = made->epoll_fd < 0
		      ? vmbus__shm_errno()
		      : vmbus__shm_epoll_add(made->epoll_fd, made->sock, EPOLLIN | EPOLLRDHUP,
					     (uint64_t)(uintptr_t)&made->source);
	if (err) {
		made->gone = true;
		vmbus_provider_detach(made);
		return err;
	}
	*provider = made;
	return 0;
}

int vmbus_provider_attach(const struct vmbus_provider_opts *opts, struct vmbus_provider **provider)
{
	uint64_t timeout;
	int err, sock, saved;

	*provider = NULL;
	err = check_opts(opts);
	if (err)
		return err;
	timeout = opts->timeout_ns ? opts->timeout_ns : TIMEOUT_DEFAULT_NS;
	sock = vmbus__shm_connect(opts->path, timeout);
	if (sock == VMBUS_E_RANGE)
		say(opts, "%s: the path is empty or too long", opts->path);
	else if (sock < 0)
		say(opts, "%s: %s%s", opts->path, strerror(errno),
		    errno == ENOENT || errno == ECONNREFUSED ? "; no parent listens there" : "");
	if (sock < 0)
		return sock;
	err = shake_hands(sock, opts, vmbus__shm_in_ns(timeout));
	if (!err)
		return vmbus__pvc_start(opts, sock, provider);
	saved = errno;
	vmbus__shm_close(&sock);
	errno = saved;
	return err;
}

void vmbus_provider_detach(struct vmbus_provider *provider)
{
	if (!provider || provider->calling)
		return;
	if (!provider->ended && !provider->gone) {
		let_go(provider);
		flush(provider);
	}
	/* Not before what was said earlier: the end of the connection does as well. */
	if (!provider->ended && !provider->gone && !provider->out) {
		vmbus__shm_send_text(provider->sock, VMBUS_SHM_BYE, VMBUS_SHM_CODE_NONE,
				     "the provider leaves");
	}
	vmbus__pvc_end(provider);
	vmbus__shm_close(&provider->epoll_fd);
	free(provider);
}
