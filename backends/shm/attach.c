/* SPDX-License-Identifier: MIT */
/*
 * A process becomes a child: the handshake on the socket, and what it is handed and how each piece
 * is checked.
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
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "shm/attached.h"

#define MSR_SCONTROL 0x40000080u /* [SYNIC-MSR] */
#define MSR_SIEFP 0x40000082u
#define MSR_SINT0 0x40000090u
#define VECTOR0 0x20u
#define MEMORY_DEFAULT ((uint64_t)16 << 20)
#define MEMORY_MAX ((uint64_t)1 << 43) /* a page number has 31 bits here */
#define TIMEOUT_DEFAULT_NS 5000000000u

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000u),
				  .tv_nsec = (long)(ns % 1000000000u) };
}

static void say(const struct vmbus_shm_attach_opts *opts, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void say(const struct vmbus_shm_attach_opts *opts, const char *format, ...)
{
	va_list args;

	if (!opts->why || !opts->why_bytes)
		return;
	va_start(args, format);
	(void)vsnprintf(opts->why, opts->why_bytes, format, args);
	va_end(args);
}

static int send_hello(struct vmbus_shm_attach *attach, const struct vmbus_shm_attach_opts *opts)
{
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_HELLO };
	struct vmbus__shm_hello *const hello = &msg.u.hello;

	hello->memory = opts->memory_bytes ? opts->memory_bytes : MEMORY_DEFAULT;
	hello->vps = opts->vps ? opts->vps : 1;
	hello->flags = opts->allow_huge_pages ? VMBUS_SHM_HELLO_HUGE : 0;
	(void)snprintf(hello->name, sizeof(hello->name), "%s", opts->name ? opts->name : "");
	return vmbus__shm_send(attach->sock, &msg, NULL, 0);
}

/* Wait for the parent's answer, whatever it is. */
static int get_answer(struct vmbus_shm_attach *attach, const struct vmbus_shm_attach_opts *opts,
		      uint64_t timeout_ns, struct vmbus__shm_record *record)
{
	const int err = vmbus__shm_recv_until(attach->sock, vmbus__shm_in_ns(timeout_ns), record);

	if (err == VMBUS_E_PEER)
		say(opts, "the parent closed the connection without an answer");
	else if (err == VMBUS_E_AGAIN)
		say(opts, "the parent did not answer in time");
	return err;
}

static int reach(struct vmbus_shm_attach *attach, const struct vmbus_shm_attach_opts *opts,
		 uint64_t timeout_ns)
{
	attach->sock = vmbus__shm_connect(opts->path, timeout_ns);
	if (attach->sock >= 0)
		return 0;
	if (attach->sock == VMBUS_E_RANGE)
		say(opts, "%s: the path is empty or too long", opts->path);
	else
		say(opts, "%s: %s%s", opts->path, strerror(errno),
		    errno == ENOENT || errno == ECONNREFUSED ? "; no parent listens there" : "");
	return attach->sock;
}

static int refusal(const struct vmbus_shm_attach_opts *opts, const struct vmbus__shm_text *text)
{
	say(opts, "%s", text->text);
	switch (text->code) {
	case VMBUS_SHM_CODE_VERSION:
		return VMBUS_E_NOTSUP;
	case VMBUS_SHM_CODE_MEMORY:
	case VMBUS_SHM_CODE_VPS:
		return VMBUS_E_RANGE;
	case VMBUS_SHM_CODE_FULL:
		return VMBUS_E_FULL;
	case VMBUS_SHM_CODE_SYSTEM:
		return VMBUS_E_NOMEM;
	case VMBUS_SHM_CODE_MESSAGE:
		return VMBUS_E_PEER;
	default:
		return VMBUS_E_PERM;
	}
}

/* The parent's layout: each page is inside, none has two uses, and the heap is not empty. */
static bool layout_holds(const struct vmbus__shm_welcome *w, uint64_t asked, uint32_t vps)
{
	const uint64_t pages = w->memory / VMBUS_PAGE_BYTES;
	const uint64_t vp_end = (uint64_t)w->first_vp + 2 * (uint64_t)w->vps;

	if (w->memory < asked || w->memory > MEMORY_MAX || w->vps != vps)
		return false;
	if (w->heap >= pages || w->mailbox >= w->heap || w->flags_page >= w->heap ||
	    vp_end > w->heap || w->mailbox == w->flags_page)
		return false;
	return (w->mailbox < w->first_vp || w->mailbox >= vp_end) &&
	       (w->flags_page < w->first_vp || w->flags_page >= vp_end);
}

static int take_memory(struct vmbus_shm_attach *attach, const struct vmbus_shm_attach_opts *opts,
		       const struct vmbus__shm_welcome *welcome)
{
	void *map;
	int err = vmbus__shm_check_memory(attach->memfd, welcome->memory, &attach->huge);

	if (err) {
		say(opts, "the parent's memory is not sealed against shrinking, or too small");
		return VMBUS_E_PEER;
	}
	if (attach->huge && !opts->allow_huge_pages) {
		say(opts, "the parent's memory is of huge pages, which were not allowed");
		return VMBUS_E_PERM;
	}
	map = mmap(NULL, welcome->memory, PROT_READ | PROT_WRITE, MAP_SHARED, attach->memfd, 0);
	if (map == MAP_FAILED) {
		say(opts, "cannot map %llu bytes: %s", (unsigned long long)welcome->memory,
		    strerror(errno));
		return vmbus__shm_errno();
	}
	attach->map = map;
	attach->bytes = welcome->memory;
	attach->vps = welcome->vps;
	attach->first_vp = welcome->first_vp;
	attach->mailbox = welcome->mailbox;
	err = vmbus__shm_pages_init(&attach->pages, welcome->heap,
				    (uint32_t)(welcome->memory / VMBUS_PAGE_BYTES));
	if (err)
		return err;
	if (vmbus_hcbox_child_init(&attach->box,
				   attach->map + (size_t)welcome->mailbox * VMBUS_PAGE_BYTES)) {
		say(opts, "the parent's mailbox is not empty");
		return VMBUS_E_PEER;
	}
	return 0;
}

/* Event flags for the parent are raised as on a SynIC whose page is the parent's to look at. */
static void start_flags(struct vmbus_shm_attach *attach, uint32_t page)
{
	vmbus_synic_reset(&attach->out);
	(void)vmbus_synic_msr_write(&attach->out, MSR_SCONTROL, 1, true);
	(void)vmbus_synic_msr_write(&attach->out, MSR_SIEFP, (uint64_t)page * VMBUS_PAGE_BYTES | 1u,
				    true);
	(void)vmbus_synic_msr_write(&attach->out, MSR_SINT0 + VMBUS_SINT_MESSAGE,
				    VECTOR0 + VMBUS_SINT_MESSAGE, true);
	vmbus_synic_set_pages(&attach->out, NULL, attach->map + (size_t)page * VMBUS_PAGE_BYTES,
			      NULL, 0, page);
}

static int take_welcome(struct vmbus_shm_attach *attach, const struct vmbus_shm_attach_opts *opts,
			const struct vmbus__shm_welcome *welcome, struct vmbus__shm_record *record)
{
	const bool pidfd = (welcome->flags & VMBUS_SHM_WELCOME_PIDFD) != 0;
	int err;

	if (record->fd_count != (pidfd ? 4 : 3) ||
	    !layout_holds(welcome, opts->memory_bytes ? opts->memory_bytes : MEMORY_DEFAULT,
			  opts->vps ? opts->vps : 1)) {
		say(opts, "the parent's answer makes no sense");
		return VMBUS_E_PEER;
	}
	attach->memfd = record->fds[0];
	attach->doorbell = record->fds[1];
	attach->listener = record->fds[2];
	attach->pidfd = pidfd ? record->fds[3] : -1;
	record->fd_count = 0;
	if (!vmbus__shm_is_doorbell(attach->doorbell)) {
		say(opts, "the parent's doorbell is none");
		return VMBUS_E_PEER;
	}
	err = take_memory(attach, opts, welcome);
	if (!err)
		start_flags(attach, welcome->flags_page);
	return err;
}

static int shake_hands(struct vmbus_shm_attach *attach, const struct vmbus_shm_attach_opts *opts)
{
	const uint64_t timeout_ns = opts->timeout_ns ? opts->timeout_ns : TIMEOUT_DEFAULT_NS;
	struct vmbus__shm_record record = { 0 };
	struct vmbus__shm_msg msg;
	int err = reach(attach, opts, timeout_ns);

	if (!err)
		err = send_hello(attach, opts);
	if (!err)
		err = get_answer(attach, opts, timeout_ns, &record);
	if (err)
		return err;
	if (record.cut || vmbus__shm_decode(record.bytes, record.len, &msg)) {
		say(opts, "the parent's answer is no message of this protocol");
		err = VMBUS_E_PEER;
	} else if (msg.type == VMBUS_SHM_WELCOME) {
		err = take_welcome(attach, opts, &msg.u.welcome, &record);
	} else if (msg.type == VMBUS_SHM_REFUSED) {
		err = refusal(opts, &msg.u.text);
	} else {
		say(opts, "the parent's answer is neither WELCOME nor REFUSED");
		err = VMBUS_E_PEER;
	}
	vmbus__shm_record_close(&record);
	return err;
}

/* The object. */

static int make_locks(struct vmbus_shm_attach *attach)
{
	uint32_t i;

	for (i = 0; i < VMBUS_SHM_RELIDS; i++) {
		attach->bound[i].fd = -1;
		if (pthread_mutex_init(&attach->bound[i].lock, NULL)) {
			for (; i > 0; i--)
				(void)pthread_mutex_destroy(&attach->bound[i - 1].lock);
			return VMBUS_E_NOMEM;
		}
	}
	attach->locks = true;
	return 0;
}

static int watch(struct vmbus_shm_attach *attach)
{
	int err;

	attach->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (attach->epoll_fd < 0)
		return vmbus__shm_errno();
	attach->again_fd = vmbus__shm_doorbell();
	if (attach->again_fd < 0)
		return attach->again_fd;
	attach->kick_fd = vmbus__shm_doorbell();
	if (attach->kick_fd < 0)
		return attach->kick_fd;
	attach->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (attach->timer_fd < 0)
		return vmbus__shm_errno();
	err = vmbus__shm_epoll_add(attach->epoll_fd, attach->again_fd, EPOLLIN,
				   VMBUS_SHM_WAKE_AGAIN);
	if (!err)
		err = vmbus__shm_epoll_add(attach->epoll_fd, attach->timer_fd, EPOLLIN,
					   VMBUS_SHM_WAKE_TIMER);
	if (!err)
		err = vmbus__shm_epoll_add(attach->epoll_fd, attach->kick_fd, EPOLLIN,
					   VMBUS_SHM_WAKE_KICK);
	if (!err)
		err = vmbus__shm_epoll_add(attach->epoll_fd, attach->sock, EPOLLIN | EPOLLRDHUP,
					   VMBUS_SHM_WAKE_SOCK);
	if (!err)
		err = vmbus__shm_epoll_add(attach->epoll_fd, attach->listener, EPOLLIN,
					   VMBUS_SHM_WAKE_LISTENER);
	if (!err && attach->pidfd >= 0)
		err = vmbus__shm_epoll_add(attach->epoll_fd, attach->pidfd, EPOLLIN,
					   VMBUS_SHM_WAKE_PROCESS);
	return err;
}

static int make_guest(struct vmbus_shm_attach *attach, const struct vmbus_shm_attach_opts *opts)
{
	struct vmbus_guest_opts guest = opts->guest;

	if (guest.struct_bytes == 0) {
		const struct vmbus_guest_opts none = { .struct_bytes = sizeof(none) };

		guest = none;
	}
	attach->target_vp = guest.limits.struct_bytes ? guest.limits.target_vp : 0;
	attach->target_sint = guest.limits.struct_bytes && guest.limits.target_sint
				      ? guest.limits.target_sint
				      : VMBUS_SINT_MESSAGE;
	if (attach->target_vp >= attach->vps || attach->target_sint >= VMBUS_SINTS)
		return VMBUS_E_RANGE;
	guest.backend = &vmbus__shm_guest_backend;
	guest.backend_ctx = attach;
	attach->log = guest.log;
	attach->log_ctx = guest.ctx;
	return vmbus_guest_create(&guest, &attach->guest);
}

/* Either set up, or nothing of it: what was set without struct_bytes would be lost silently. */
static bool guest_opts_ok(const struct vmbus_guest_opts *guest)
{
	const struct vmbus_guest_opts none = { 0 };

	if (guest->struct_bytes)
		return guest->struct_bytes >= sizeof(*guest);
	return !guest->offered && !guest->gone && !guest->ctx && !guest->log &&
	       !guest->tl_refused && !guest->paused && !guest->monitor_set &&
	       memcmp(&guest->limits, &none.limits, sizeof(none.limits)) == 0;
}

int vmbus_shm_attach(const struct vmbus_shm_attach_opts *opts, struct vmbus_shm_attach **attach)
{
	struct vmbus_shm_attach *made;
	int err, saved;

	*attach = NULL;
	if (opts->struct_bytes < sizeof(*opts) || !opts->path || !guest_opts_ok(&opts->guest))
		return VMBUS_E_INVAL;
	if (opts->why && opts->why_bytes)
		opts->why[0] = '\0';
	made = calloc(1, sizeof(*made));
	if (!made)
		return VMBUS_E_NOMEM;
	made->sock = made->pidfd = made->doorbell = made->listener = -1;
	made->memfd = made->epoll_fd = made->again_fd = made->timer_fd = -1;
	made->kick_fd = -1;
	err = make_locks(made);
	if (!err)
		err = shake_hands(made, opts);
	if (!err)
		err = watch(made);
	if (!err)
		err = make_guest(made, opts);
	if (err) {
		saved = errno;
		vmbus_shm_detach(made);
		errno = saved;
		return err;
	}
	*attach = made;
	return 0;
}

/* A wait for the state that is there already does nothing but say so. */
static bool in_callback(const struct vmbus_shm_attach *attach)
{
	if (attach->logging)
		return true;
	return attach->guest && vmbus_guest_wait(attach->guest, vmbus_guest_state(attach->guest),
						 0) == VMBUS_E_STATE;
}

void vmbus_shm_detach(struct vmbus_shm_attach *attach)
{
	uint32_t i;

	if (!attach || in_callback(attach))
		return;
	attach->ending = true;
	if (attach->guest) /* closes, unshares and unloads first, if the parent is there */
		vmbus_guest_destroy(attach->guest);
	if (attach->sock >= 0 && !attach->gone)
		vmbus__shm_send_text(attach->sock, VMBUS_SHM_BYE, VMBUS_SHM_CODE_NONE, "detached");
	for (i = 0; attach->locks && i < VMBUS_SHM_RELIDS; i++) {
		vmbus__shm_close(&attach->bound[i].fd);
		(void)pthread_mutex_destroy(&attach->bound[i].lock);
	}
	vmbus__shm_pages_fini(&attach->pages);
	if (attach->map)
		(void)munmap(attach->map, attach->bytes);
	vmbus__shm_close(&attach->sock);
	vmbus__shm_close(&attach->pidfd);
	vmbus__shm_close(&attach->doorbell);
	vmbus__shm_close(&attach->listener);
	vmbus__shm_close(&attach->memfd);
	vmbus__shm_close(&attach->epoll_fd);
	vmbus__shm_close(&attach->again_fd);
	vmbus__shm_close(&attach->kick_fd);
	vmbus__shm_close(&attach->timer_fd);
	free(attach);
}

struct vmbus_guest *vmbus_shm_guest(const struct vmbus_shm_attach *attach)
{
	return attach->guest;
}

const char *vmbus_shm_attach_why(const struct vmbus_shm_attach *attach)
{
	return attach->why;
}

int vmbus_shm_attach_fd(const struct vmbus_shm_attach *attach)
{
	return attach->epoll_fd;
}

/* Have our descriptor readable when the guest wants a turn without a wake-up. */
static bool guest_is_due(struct vmbus_shm_attach *attach)
{
	const uint64_t ns = vmbus_guest_timeout(attach->guest);
	const struct itimerspec when = { .it_value = timespec_of(ns) };

	if (ns == 0 || ns == UINT64_MAX)
		return ns == 0;
	(void)timerfd_settime(attach->timer_fd, 0, &when, NULL);
	return false;
}

static int dispatch(struct vmbus_shm_attach *attach, uint32_t budget)
{
	int done;

	vmbus__shm_tell_guest(attach);
	done = vmbus_guest_dispatch(attach->guest, budget);
	vmbus__shm_again(attach->again_fd, &attach->again_set,
			 (done > 0 && (uint32_t)done >= budget) || guest_is_due(attach));
	vmbus__shm_tell_guest(attach);
	return done;
}

int vmbus_shm_attach_dispatch(struct vmbus_shm_attach *attach, uint32_t budget)
{
	if (budget == 0 || budget > INT32_MAX)
		return VMBUS_E_RANGE;
	if (in_callback(attach))
		return VMBUS_E_STATE;
	(void)vmbus__shm_take_wakeups(attach, 0);
	return dispatch(attach, budget);
}

/*
 * The parent is gone, and the guest has told every channel: it has none, or it wants no turn any more,
 * where each that is left, or that a thread has not left yet, would have it want one.
 */
static bool is_over(const struct vmbus_shm_attach *attach)
{
	return attach->told && (vmbus_guest_state(attach->guest) == VMBUS_GUEST_IDLE ||
				vmbus_guest_timeout(attach->guest) == UINT64_MAX);
}

int vmbus_shm_attach_wait(struct vmbus_shm_attach *attach, uint64_t timeout_ns)
{
	uint64_t due;
	int woken, done;

	if (in_callback(attach))
		return VMBUS_E_STATE;
	due = is_over(attach) ? 0 : vmbus_guest_timeout(attach->guest);
	woken = vmbus__shm_take_wakeups(attach, due < timeout_ns ? due : timeout_ns);
	/* Woken by nothing that is due: the time is over, or a signal handler ran. */
	if (woken < 0 || (woken == 0 && (due > timeout_ns || due == UINT64_MAX)))
		return woken ? woken : VMBUS_E_AGAIN;
	done = dispatch(attach, 256); /* also what the parent's end has left to do */
	return is_over(attach) ? VMBUS_E_PEER : done;
}
