/* SPDX-License-Identifier: MIT */
/*
 * A child as its parent sees it: memory, doorbells, SynIC pages and mailbox, and the backend that
 * its bus runs over.  Whatever the child does to the shared pages and descriptors, a turn does no
 * more than its budget, and nothing here waits for the child.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <linux/sock_diag.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vmbus/shm.h>
#include <vmbus/tap.h>

#include "base/dirty.h"
#include "shm/parent.h"
#include "shm/restart_proto.h"

#define MSR_SCONTROL 0x40000080u /* [SYNIC-MSR] */
#define MSR_SIEFP 0x40000082u
#define MSR_SIMP 0x40000083u
#define MSR_SINT0 0x40000090u
#define VECTOR0 0x20u
#define FLAG_BYTES 256u	 /* of each SINT's flags in their page, [SYNIC-EVENT] */
#define UNREAD_MAX 4096u /* bytes on their way as the system counts: about five messages */

/* Pages at the start of the memory; the layout is told in WELCOME. */
#define PAGE_MAILBOX 0u
#define PAGE_FLAGS 1u
#define PAGE_FIRST_VP 2u

static uint8_t *page_at(const struct vmbus_shm_child *child, uint32_t page)
{
	return child->map + (size_t)page * VMBUS_PAGE_BYTES;
}

static uint32_t heap_page(uint32_t vps)
{
	return PAGE_FIRST_VP + 2 * vps;
}

/* The backend that the bus sees. */

static int be_post(void *ctx, uint32_t vp, uint32_t sint, uint32_t type, const void *payload,
		   uint32_t bytes)
{
	struct vmbus_shm_child *const child = ctx;
	struct vmbus_synic_msg msg = { .type = type, .bytes = bytes };
	uint32_t arg;
	int did;

	if (vp >= child->vps || sint >= VMBUS_SINTS || bytes > sizeof(msg.payload))
		return VMBUS_E_RANGE;
	memcpy(msg.payload, payload, bytes);
	did = vmbus_synic_post(&child->synic[vp], sint, &msg, false, &arg);
	if (did == VMBUS_E_AGAIN)
		child->waiting[vp] = (uint16_t)(child->waiting[vp] | 1u << sint);
	if (did < 0)
		return did;
	if ((uint32_t)did & VMBUS_SYNIC_INTERRUPT)
		vmbus__shm_ring_doorbell(child->knock);
	return 0;
}

static int be_raise(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag)
{
	struct vmbus_shm_child *const child = ctx;
	uint32_t arg;
	int did;

	if (vp >= child->vps)
		return VMBUS_E_RANGE;
	did = vmbus_synic_raise(&child->synic[vp], sint, flag, &arg);
	if (did < 0)
		return did;
	if ((uint32_t)did & VMBUS_SYNIC_INTERRUPT)
		vmbus__shm_ring_doorbell(child->knock);
	return 0;
}

/* SynIC pages stay where they are, and no SINT is ever masked: this never changes. */
static int be_wake(void *ctx, uint32_t vp, uint32_t sint, struct vmbus_wake *wake)
{
	struct vmbus_shm_child *const child = ctx;

	if (vp >= child->vps || sint >= VMBUS_SINTS)
		return VMBUS_E_RANGE;
	if (child->state == VMBUS_SHM_ENDING)
		return VMBUS_E_STATE;
	wake->gpa = vmbus_synic_siefp(&child->synic[vp]) + (uint64_t)sint * FLAG_BYTES;
	wake->fd = child->wake;
	return 0;
}

/*
 * Descriptors that are on their way count against a limit of our user's until the child takes them, and
 * past it no child gets any.  One that does not read holds a few.
 */
static bool reads_late(const struct vmbus_shm_child *child)
{
	uint32_t mem[SK_MEMINFO_VARS] = { 0 };
	socklen_t bytes = sizeof(mem);

	return getsockopt(child->sock, SOL_SOCKET, SO_MEMINFO, mem, &bytes) == 0 &&
	       mem[SK_MEMINFO_WMEM_ALLOC] > UNREAD_MAX;
}

static int be_bind(void *ctx, uint32_t conn_id, int fd)
{
	struct vmbus_shm_child *const child = ctx;
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_BIND };
	uint32_t relid;
	int err;

	if (!vmbus__shm_bindable(conn_id))
		return VMBUS_E_RANGE;
	relid = conn_id - VMBUS_SHM_CONN_BASE;
	if (child->state == VMBUS_SHM_ENDING)
		return VMBUS_E_STATE;
	if (child->mute || reads_late(child))
		return VMBUS_E_AGAIN;
	msg.u.bind.conn_id = conn_id;
	err = vmbus__shm_send(child->sock, &msg, &fd, 1);
	if (!err) /* the new one takes the place of the old one */
		child->unbind[relid / 64] &= ~((uint64_t)1 << relid % 64);
	return err;
}

int vmbus__shm_child_unbind(struct vmbus_shm_child *child, uint32_t relid)
{
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_UNBIND };

	msg.u.bind.conn_id = VMBUS_SHM_CONN_BASE + relid;
	return vmbus__shm_send(child->sock, &msg, NULL, 0);
}

static int be_unbind(void *ctx, uint32_t conn_id)
{
	struct vmbus_shm_child *const child = ctx;
	uint32_t relid;

	if (!vmbus__shm_bindable(conn_id))
		return VMBUS_E_RANGE;
	relid = conn_id - VMBUS_SHM_CONN_BASE;
	if (child->state == VMBUS_SHM_ENDING || child->mute)
		return 0;
	if (vmbus__shm_child_unbind(child, relid) == VMBUS_E_AGAIN) {
		child->unbind[relid / 64] |= (uint64_t)1 << relid % 64;
		child->unbind_due = true;
		(void)vmbus__shm_epoll_mod(
			child->server->epoll_fd, child->sock, EPOLLIN | EPOLLRDHUP | EPOLLOUT,
			vmbus__shm_tag(VMBUS_SHM_EV_SOCK, child->slot, child->gen));
	}
	return 0;
}

static uint64_t be_time(void *ctx)
{
	(void)ctx;
	return vmbus__shm_now_ns() / 100;
}

static uint32_t be_vps(void *ctx)
{
	const struct vmbus_shm_child *const child = ctx;

	return child->vps;
}

const struct vmbus_backend vmbus__shm_backend = {
	.struct_bytes = sizeof(struct vmbus_backend),
	.post = be_post,
	.raise = be_raise,
	.bind = be_bind,
	.unbind = be_unbind,
	.time = be_time,
	.wake = be_wake,
	.vps = be_vps,
};

void *vmbus__shm_child_flags(const struct vmbus_shm_child *child)
{
	return page_at(child, PAGE_FLAGS);
}

static const struct vmbus_dirty *marker(const struct vmbus_shm_child *child)
{
	return child->dirty.bitmap ? &child->dirty : NULL;
}

void vmbus__shm_child_wrote_flags(const struct vmbus_shm_child *child)
{
	if (child->dirty.bitmap)
		vmbus__dirty_frame(&child->dirty, PAGE_FLAGS);
}

void vmbus__shm_child_wrote_box(const struct vmbus_shm_child *child)
{
	if (child->dirty.bitmap)
		vmbus__dirty_frame(&child->dirty, PAGE_MAILBOX);
}

uint64_t *vmbus_shm_child_dirty(const struct vmbus_shm_child *child, uint64_t *pages)
{
	if (pages)
		*pages = child->dirty.frames;
	return child->dirty.bitmap;
}

/* Setting up. */

/* Every register of the SynIC is set here: the child has no way to write one. */
static void start_vp(struct vmbus_shm_child *child, uint32_t vp, bool in_use)
{
	struct vmbus_synic *const synic = &child->synic[vp];
	const uint32_t page = PAGE_FIRST_VP + 2 * vp;
	const uint64_t gpa = (uint64_t)page * VMBUS_PAGE_BYTES;
	uint32_t sint;

	vmbus_synic_reset(synic);
	(void)vmbus_synic_msr_write(synic, MSR_SCONTROL, 1, true);
	(void)vmbus_synic_msr_write(synic, MSR_SIMP, gpa | 1u, true);
	(void)vmbus_synic_msr_write(synic, MSR_SIEFP, (gpa + VMBUS_PAGE_BYTES) | 1u, true);
	for (sint = 0; sint < VMBUS_SINTS; sint++)
		(void)vmbus_synic_msr_write(synic, MSR_SINT0 + sint, VECTOR0 + sint, true);
	if (in_use) { /* their content stays */
		synic->content_p[0] = gpa | 1u;
		synic->content_p[1] = (gpa + VMBUS_PAGE_BYTES) | 1u;
	}
	vmbus_synic_set_pages(synic, page_at(child, page), page_at(child, page + 1), marker(child),
			      page, page + 1u);
}

/* Map the memory of the child, and make its marker and its region. */
static int map_memory(struct vmbus_shm_child *child)
{
	const struct vmbus_shm_server_opts *const opts = &child->server->opts;
	void *const map =
		mmap(NULL, child->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, child->memfd, 0);

	if (map == MAP_FAILED)
		return vmbus__shm_errno();
	child->map = map;
	if (opts->dirty) {
		child->dirty.frames = child->bytes / VMBUS_PAGE_BYTES;
		child->dirty.bitmap =
			calloc(child->dirty.frames / 64 + 1, sizeof(*child->dirty.bitmap));
		if (!child->dirty.bitmap)
			return VMBUS_E_NOMEM;
	}
	child->region = (struct vmbus_region){ .bytes = child->bytes,
					       .host = map,
					       .fd = opts->huge_pages ? -1 : child->memfd,
					       .access = VMBUS_READ_WRITE };
	child->regions[0] = &child->region;
	return 0;
}

static int make_memory(struct vmbus_shm_child *child, const struct vmbus__shm_hello *hello)
{
	const struct vmbus_shm_server_opts *const opts = &child->server->opts;
	int err;

	child->bytes = hello->memory;
	child->memfd = opts->huge_pages ? vmbus__shm_create_huge(&child->bytes)
					: vmbus_shm_create(child->bytes);
	if (child->memfd < 0)
		return child->memfd;
	err = map_memory(child);
	if (!err && opts->on_node)
		err = vmbus__shm_place(child->map, child->bytes, opts->node);
	return err;
}

static int make_vps(struct vmbus_shm_child *child, uint32_t vps)
{
	uint32_t vp;

	child->synic = calloc(vps, sizeof(*child->synic));
	child->waiting = calloc(vps, sizeof(*child->waiting));
	if (!child->synic || !child->waiting)
		return VMBUS_E_NOMEM;
	child->vps = vps;
	for (vp = 0; vp < vps; vp++)
		start_vp(child, vp, false);
	vmbus__shm_child_wrote_box(child);
	return vmbus_hcbox_parent_init(&child->box, page_at(child, PAGE_MAILBOX));
}

static int make_bus(struct vmbus_shm_child *child)
{
	const struct vmbus_shm_server_opts *const opts = &child->server->opts;
	struct vmbus_bus_opts bus = {
		.struct_bytes = sizeof(bus),
		.backend = &vmbus__shm_backend,
		.backend_ctx = child,
		.name = child->name,
		.regions = child->regions,
		.region_count = 1,
		.limits = opts->limits,
		.mirrors_max = opts->mirrors_max,
		.buf_bytes_max = opts->buf_bytes_max,
		.dirty = marker(child),
		.log = opts->log,
		.log_ctx = opts->ctx,
		.removed = opts->removed,
		.removed_ctx = opts->ctx,
		.offered = opts->offered,
		.events_ctx = opts->ctx,
		.record = child->record,
		.record_bytes = child->record ? (size_t)opts->record_bytes : 0,
	};
	int err;

	err = vmbus_bus_create(&bus, &child->bus);
	if (!err)
		vmbus_bus_allow_capture(child->bus, opts->allow_capture);
	return err;
}

static int watch(struct vmbus_shm_child *child)
{
	const int epoll_fd = child->server->epoll_fd;
	const uint32_t slot = child->slot, gen = child->gen;
	int err;

	err = vmbus__shm_epoll_add(epoll_fd, child->sock, EPOLLIN | EPOLLRDHUP,
				   vmbus__shm_tag(VMBUS_SHM_EV_SOCK, slot, gen));
	if (!err && child->pidfd >= 0)
		err = vmbus__shm_epoll_add(epoll_fd, child->pidfd, EPOLLIN,
					   vmbus__shm_tag(VMBUS_SHM_EV_PROCESS, slot, gen));
	if (!err)
		err = vmbus__shm_epoll_add(epoll_fd, child->doorbell, EPOLLIN | EPOLLET,
					   vmbus__shm_tag(VMBUS_SHM_EV_DOORBELL, slot, gen));
	if (!err)
		err = vmbus__shm_epoll_add(epoll_fd, vmbus_bus_fd(child->bus), EPOLLIN,
					   vmbus__shm_tag(VMBUS_SHM_EV_BUS, slot, gen));
	return err;
}

/* Nothing of the child's wakes the server any more; its bus may until it is destroyed. */
void vmbus__shm_child_silence(struct vmbus_shm_child *child)
{
	const int epoll_fd = child->server->epoll_fd;

	vmbus__shm_epoll_del(epoll_fd, child->sock);
	vmbus__shm_epoll_del(epoll_fd, child->pidfd);
	vmbus__shm_epoll_del(epoll_fd, child->doorbell);
	vmbus__shm_close(&child->sock);
	vmbus__shm_close(&child->pidfd);
	vmbus__shm_close(&child->doorbell);
}

bool vmbus__shm_child_free(struct vmbus_shm_child *child)
{
	struct vmbus_shm_server *const server = child->server;

	vmbus__shm_child_silence(child);
	if (child->bus) {
		vmbus__shm_epoll_del(server->epoll_fd, vmbus_bus_fd(child->bus));
		if (vmbus_bus_end(child->bus))
			return false;
	}
	vmbus__shm_record_end(child);
	if (child->map)
		munmap(child->map, child->bytes);
	vmbus__shm_close(&child->knock);
	vmbus__shm_close(&child->wake);
	vmbus__shm_close(&child->memfd);
	free(child->dirty.bitmap);
	free(child->synic);
	free(child->waiting);
	server->children[child->slot] = NULL;
	free(child);
	return true;
}

/*
 * The set that the child waits on: it hears our bell but cannot touch it.  Other processes that wake
 * the child have a bell of their own, since they could fill it, and make its next write wait.
 */
static int make_listener(const struct vmbus_shm_child *child)
{
	int fd = epoll_create1(EPOLL_CLOEXEC), err;

	if (fd < 0)
		return vmbus__shm_errno();
	err = vmbus__shm_epoll_add(fd, child->knock, EPOLLIN | EPOLLET, 0);
	if (!err)
		err = vmbus__shm_epoll_add(fd, child->wake, EPOLLIN | EPOLLET, 1);
	if (err)
		vmbus__shm_close(&fd);
	return err ? err : fd;
}

static int send_welcome(struct vmbus_shm_child *child)
{
	struct vmbus__shm_msg msg = { .type = VMBUS_SHM_WELCOME };
	struct vmbus__shm_welcome *const welcome = &msg.u.welcome;
	int listener = make_listener(child);
	int self = vmbus__shm_pidfd((int32_t)getpid());
	const int fds[] = { child->memfd, child->doorbell, listener, self };
	int err;

	if (listener < 0) {
		vmbus__shm_close(&self);
		return listener;
	}
	welcome->memory = child->bytes;
	welcome->vps = child->vps;
	welcome->flags = (child->server->opts.huge_pages ? VMBUS_SHM_WELCOME_HUGE : 0) |
			 (self >= 0 ? VMBUS_SHM_WELCOME_PIDFD : 0);
	welcome->mailbox = PAGE_MAILBOX;
	welcome->flags_page = PAGE_FLAGS;
	welcome->first_vp = PAGE_FIRST_VP;
	welcome->heap = heap_page(child->vps);
	err = vmbus__shm_send(child->sock, &msg, fds, self >= 0 ? 4 : 3);
	vmbus__shm_close(&listener);
	vmbus__shm_close(&self);
	return err;
}

static int32_t peer_pid(int sock)
{
	struct ucred cred = { 0 };
	socklen_t bytes = sizeof(cred);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &bytes))
		return 0;
	return (int32_t)cred.pid;
}

/* Everything but what the embedder has to say. */
static int set_up(struct vmbus_shm_child *child, const struct vmbus__shm_hello *hello)
{
	int err;

	child->pid = peer_pid(child->sock);
	child->pidfd = child->pid > 0 ? vmbus__shm_pidfd(child->pid) : -1;
	child->doorbell = vmbus__shm_doorbell();
	if (child->doorbell < 0)
		return child->doorbell;
	child->knock = vmbus__shm_doorbell();
	if (child->knock < 0)
		return child->knock;
	child->wake = vmbus__shm_doorbell();
	if (child->wake < 0)
		return child->wake;
	vmbus__shm_record_make(child);
	err = make_memory(child, hello);
	if (!err)
		err = make_vps(child, hello->vps);
	if (!err)
		err = make_bus(child);
	if (!err)
		err = watch(child);
	return err;
}

static int refuse(struct vmbus__shm_text *refused, uint32_t code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int refuse(struct vmbus__shm_text *refused, uint32_t code, const char *format, ...)
{
	va_list args;

	refused->code = code;
	va_start(args, format);
	(void)vsnprintf(refused->text, sizeof(refused->text), format, args);
	va_end(args);
	return VMBUS_E_RANGE;
}

int vmbus__shm_child_check(const struct vmbus_shm_server *server,
			   const struct vmbus__shm_hello *hello, struct vmbus__shm_text *refused)
{
	const struct vmbus_shm_server_opts *const opts = &server->opts;

	if (opts->no_children)
		return refuse(refused, VMBUS_SHM_CODE_DENIED,
			      "no children are taken here (no_children)");
	if (hello->flags & ~VMBUS_SHM_HELLO_HUGE)
		return refuse(refused, VMBUS_SHM_CODE_MESSAGE, "unknown flags 0x%x", hello->flags);
	if (hello->vps == 0 || hello->vps > opts->vps_max)
		return refuse(refused, VMBUS_SHM_CODE_VPS,
			      "%u virtual processors asked for, 1 to %u allowed (vps_max)",
			      hello->vps, opts->vps_max);
	if (hello->memory > opts->memory_bytes_max ||
	    hello->memory < (uint64_t)(heap_page(hello->vps) + 1) * VMBUS_PAGE_BYTES)
		return refuse(refused, VMBUS_SHM_CODE_MEMORY,
			      "%llu bytes of memory asked for, %llu to %llu allowed "
			      "(memory_bytes_max)",
			      (unsigned long long)hello->memory,
			      (unsigned long long)(heap_page(hello->vps) + 1) * VMBUS_PAGE_BYTES,
			      (unsigned long long)opts->memory_bytes_max);
	if (opts->huge_pages && !(hello->flags & VMBUS_SHM_HELLO_HUGE))
		return refuse(refused, VMBUS_SHM_CODE_HUGE,
			      "memory is of huge pages here, and the child does not allow them");
	if (server->attached >= opts->children_max)
		return refuse(refused, VMBUS_SHM_CODE_FULL,
			      "%u children are attached already (children_max)", server->attached);
	if (server->attached + server->ending >= server->slots)
		return refuse(refused, VMBUS_SHM_CODE_FULL,
			      "devices of %u children that left are still closing", server->ending);
	return 0;
}

static struct vmbus_shm_child *new_child(struct vmbus_shm_server *server, int sock,
					 const struct vmbus__shm_hello *hello)
{
	struct vmbus_shm_child *const child = calloc(1, sizeof(*child));
	uint32_t slot;

	if (!child)
		return NULL;
	child->server = server;
	child->sock = sock;
	child->pidfd = child->doorbell = child->knock = child->wake = child->memfd = -1;
	for (slot = 0; server->children[slot]; slot++)
		;
	child->slot = slot;
	child->gen = ++server->gen;
	server->children[slot] = child;
	memcpy(child->name, hello->name, sizeof(child->name));
	if (!child->name[0])
		memcpy(child->name, "child", 6);
	return child;
}

int vmbus__shm_child_create(struct vmbus_shm_server *server, int sock,
			    const struct vmbus__shm_hello *hello, struct vmbus__shm_text *refused)
{
	const struct vmbus_shm_server_opts *const opts = &server->opts;
	struct vmbus_shm_child *const child = new_child(server, sock, hello);
	int err = child ? set_up(child, hello) : VMBUS_E_NOMEM;

	if (err) {
		(void)refuse(refused, VMBUS_SHM_CODE_SYSTEM,
			     "the parent's system: %s: %s; see vmbusctl check", vmbus_err_name(err),
			     strerror(errno));
		goto err_free;
	}
	err = opts->attached ? opts->attached(opts->ctx, child, child->bus) : 0;
	if (err) {
		if (err == VMBUS_E_FULL)
			(void)refuse(refused, VMBUS_SHM_CODE_FULL,
				     "%s: the parent has no place left", child->name);
		else
			(void)refuse(refused, VMBUS_SHM_CODE_DENIED, "%s: the embedder refused: %s",
				     child->name, vmbus_err_name(err));
		goto err_free;
	}
	child->state = VMBUS_SHM_ATTACHED;
	server->attached++;
	vmbus__shm_providers_add(child);
	vmbus__shm_record_note(child, VMBUS_RECORD_ATTACHED, child->vps, NULL);
	vmbus__shm_log(&server->log, VMBUS_LOG_INFO, "%s: attached, process %d, %llu bytes",
		       child->name, child->pid, (unsigned long long)child->bytes);
	if (send_welcome(child)) {
		vmbus__shm_log(&server->log, VMBUS_LOG_ERROR, "%s: WELCOME cannot be sent: %s",
			       child->name, strerror(errno));
		vmbus__shm_child_socket(child, true);
	}
	return 0;

err_free:
	if (child) {
		child->sock = -1; /* the caller's still */
		child->state = VMBUS_SHM_ENDING;
		server->ending++;
		vmbus__shm_child_retire(child);
	}
	return err;
}

/* The registers of the SynIC without their effect on the pages, which are in use. */
static int adopt_vps(struct vmbus_shm_child *child, const struct vmbus__rs_state *state)
{
	uint32_t vp;

	child->synic = calloc(state->vps, sizeof(*child->synic));
	child->waiting = calloc(state->vps, sizeof(*child->waiting));
	if (!child->synic || !child->waiting)
		return VMBUS_E_NOMEM;
	child->vps = state->vps;
	for (vp = 0; vp < child->vps; vp++)
		start_vp(child, vp, true);
	child->box.page_p = (struct vmbus_hcbox *)(void *)page_at(child, PAGE_MAILBOX);
	child->box.seq_p = state->box_seq;
	child->box.broken_p = state->box_broken;
	return 0;
}

/* Memory that is there, as it is; what was marked in it is not known, so everything is. */
static int adopt_memory(struct vmbus_shm_child *child)
{
	const bool may_be_huge = child->server->opts.huge_pages;
	bool huge = false;
	int err = vmbus__shm_check_memory(child->memfd, child->bytes, &huge);

	if (err || (huge && !may_be_huge))
		return err ? err : VMBUS_E_PERM;
	err = map_memory(child);
	if (!err && child->dirty.bitmap)
		memset(child->dirty.bitmap, 0xFF,
		       (child->dirty.frames / 64 + 1) * sizeof(*child->dirty.bitmap));
	return err;
}

static int adopt(struct vmbus_shm_child *child, const struct vmbus__rs_state *state, int *fds)
{
	int *const to[] = { &child->sock, &child->memfd, &child->doorbell, &child->knock,
			    &child->wake };
	uint32_t i;
	int err;

	for (i = 0; i < sizeof(to) / sizeof(to[0]); i++) {
		*to[i] = fds[i];
		fds[i] = -1;
	}
	child->mute = true;
	child->bytes = state->memory;
	memcpy(child->unbind, state->unbind, sizeof(child->unbind));
	child->pid = peer_pid(child->sock);
	child->pidfd = child->pid > 0 ? vmbus__shm_pidfd(child->pid) : -1;
	if (!vmbus__shm_is_doorbell(child->doorbell) || !vmbus__shm_is_doorbell(child->knock) ||
	    !vmbus__shm_is_doorbell(child->wake))
		return VMBUS_E_PEER;
	err = adopt_memory(child);
	if (!err)
		err = adopt_vps(child, state);
	return err ? err : make_bus(child);
}

/* What the child may have asked for: memory of huge pages is more, by less than one of them. */
static uint64_t memory_asked(const struct vmbus_shm_server *server, int memfd, uint64_t bytes)
{
	const uint64_t most = server->opts.memory_bytes_max;
	bool huge = false;
	struct stat st;

	if (bytes <= most || !server->opts.huge_pages ||
	    vmbus__shm_check_memory(memfd, bytes, &huge) || !huge || fstat(memfd, &st))
		return bytes;
	return bytes - most < (uint64_t)st.st_blksize ? most : bytes;
}

int vmbus__shm_child_adopt(struct vmbus_shm_server *server, const struct vmbus__rs_state *state,
			   int *fds, struct vmbus_shm_child **made)
{
	const struct vmbus_shm_server_opts *const opts = &server->opts;
	struct vmbus__shm_hello hello = { .memory = memory_asked(server, fds[1], state->memory),
					  .vps = state->vps,
					  .flags = VMBUS_SHM_HELLO_HUGE };
	struct vmbus__shm_text refused;
	struct vmbus_shm_child *child;
	int err;

	memcpy(hello.name, state->name, sizeof(hello.name));
	err = vmbus__shm_child_check(server, &hello, &refused);
	if (err) {
		vmbus__shm_log(&server->log, VMBUS_LOG_ERROR, "%s: %s", state->name, refused.text);
		return err;
	}
	child = new_child(server, -1, &hello);
	err = child ? adopt(child, state, fds) : VMBUS_E_NOMEM;
	if (!err && opts->attached)
		err = opts->attached(opts->ctx, child, child->bus);
	if (err) {
		if (child) {
			child->state = VMBUS_SHM_ENDING;
			server->ending++;
			vmbus__shm_child_retire(child);
		}
		return err;
	}
	child->state = VMBUS_SHM_ATTACHED;
	server->attached++;
	*made = child;
	return 0;
}

/* What was bound to eventfds of the parent before is signalled by flags again. */
static void unbind_open(void *ctx, const struct vmbus_chan_info *info)
{
	struct vmbus_shm_child *const child = ctx;
	const uint32_t relid = info->conn_id - VMBUS_SHM_CONN_BASE;

	if (vmbus__shm_bindable(info->conn_id))
		child->unbind[relid / 64] |= (uint64_t)1 << relid % 64;
}

static int send_parent(int sock, const int *self)
{
	const struct vmbus__rs_msg msg = { .type = VMBUS_RS_PARENT };
	uint8_t bytes[VMBUS_SHM_MSG_MAX];
	const uint32_t len = vmbus__rs_encode(&msg, bytes);
	int err = vmbus__shm_send_bytes(sock, bytes, len, self, *self >= 0);

	/* Perhaps too many descriptors are on their way; the socket tells of our end as well. */
	if (err == VMBUS_E_AGAIN && *self >= 0)
		err = vmbus__shm_send_bytes(sock, bytes, len, NULL, 0);
	return err;
}

/*
 * The process before us ends soon, and a child that sees that before it is told loses its parent.  So the
 * word goes into a full socket as well, if the system lets it have more room for a moment.
 */
static int send_parent_past(int sock, const int *self)
{
	socklen_t bytes = sizeof(int);
	int was = 0, err;

	if (getsockopt(sock, SOL_SOCKET, SO_SNDBUF, &was, &bytes) ||
	    setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &was, sizeof(was)))
		return VMBUS_E_AGAIN;
	err = send_parent(sock, self);
	was /= 2; /* it is set to twice of what is said */
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &was, sizeof(was));
	return err;
}

int vmbus__shm_child_tell_parent(struct vmbus_shm_child *child)
{
	int self = vmbus__shm_pidfd((int32_t)getpid());
	int err = send_parent(child->sock, &self);

	if (err == VMBUS_E_AGAIN)
		err = send_parent_past(child->sock, &self);
	vmbus__shm_close(&self);
	child->parent_due = err == VMBUS_E_AGAIN;
	return err;
}

void vmbus__shm_child_begin(struct vmbus_shm_child *child)
{
	int err;

	child->mute = false;
	child->rung = child->box_due = child->bus_due = true;
	err = vmbus__shm_child_tell_parent(child);
	if (!err || err == VMBUS_E_AGAIN)
		err = watch(child);
	vmbus_bus_list(child->bus, unbind_open, child);
	child->unbind_due = true;
	if (err) {
		vmbus__shm_child_socket(child, true);
		return;
	}
	(void)vmbus__shm_epoll_mod(child->server->epoll_fd, child->sock,
				   EPOLLIN | EPOLLRDHUP | EPOLLOUT,
				   vmbus__shm_tag(VMBUS_SHM_EV_SOCK, child->slot, child->gen));
	vmbus__shm_providers_add(child);
	vmbus__shm_log(&child->server->log, VMBUS_LOG_INFO, "%s: taken over, process %d",
		       child->name, child->pid);
}

/* Descriptors stay in a set while another process has them: they are taken out before the close. */
void vmbus__shm_child_disown(struct vmbus_shm_child *child)
{
	const int epoll_fd = child->server->epoll_fd;

	vmbus__shm_epoll_del(epoll_fd, child->sock);
	vmbus__shm_epoll_del(epoll_fd, child->doorbell);
	vmbus__shm_close(&child->sock);
	vmbus__shm_close(&child->doorbell);
	vmbus_bus_let_go(child->bus);
	vmbus__shm_child_leave(child, "another process goes on with it");
}
