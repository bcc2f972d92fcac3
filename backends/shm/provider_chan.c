/* SPDX-License-Identifier: MIT */
/*
 * What a parent says of channels, as its provider keeps it: page lists, and the opening that is
 * wanted with its descriptors.  Each message is checked as a whole; nothing here talks to our bus.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/provider_client.h"

#define FLAG_BYTES 256u

void vmbus__pvc_tell(struct vmbus__pvc_chan *c, uint32_t type, int err)
{
	const struct vmbus__pv_msg msg = { .type = type,
					   .bus = c->part->id,
					   .sub = c->sub,
					   .open = c->serial,
					   .err = (uint32_t)-err };

	vmbus__pvc_send(c->part->provider, &msg);
}

static struct vmbus__pvc_chan *find(struct vmbus__pvc_part *part, uint32_t sub)
{
	struct vmbus__pvc_chan *c = part->chans;

	while (c && c->sub != sub)
		c = c->next;
	return c;
}

struct vmbus__pvc_chan *vmbus__pvc_chan_get(struct vmbus__pvc_part *part, uint32_t sub)
{
	struct vmbus__pvc_chan *c = find(part, sub), **slots;

	if (c)
		return c;
	slots = realloc(part->slots, (part->slot_count + 1u) * sizeof(*slots));
	if (!slots)
		return NULL;
	part->slots = slots;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->part = part;
	c->sub = sub;
	c->slot = part->slot_count;
	c->listener = c->wake_fd = -1;
	c->source = (struct vmbus__pvc_source){ VMBUS_PVC_LISTENER, c };
	slots[part->slot_count++] = c;
	c->next = part->chans;
	part->chans = c;
	return c;
}

void vmbus__pvc_chan_drop(struct vmbus__pvc_chan *c)
{
	vmbus__shm_epoll_del(c->part->provider->epoll_fd, c->listener);
	vmbus__shm_close(&c->listener);
	vmbus__shm_close(&c->wake_fd);
	c->wake = NULL;
	if (c->journal)
		munmap(c->journal, c->journal_bytes);
	c->journal = NULL;
	c->want_open = c->want_close = c->signal_due = false;
}

void vmbus__pvc_chan_free(struct vmbus__pvc_chan *c)
{
	struct vmbus__pvc_chan **at = &c->part->chans;

	vmbus__pvc_chan_drop(c);
	while (c->lists) {
		struct vmbus__pvc_list *const list = c->lists;

		c->lists = list->next;
		free(list);
	}
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	free(c);
}

/*
 * The flag may have been set by a process that died before it wrote the eventfd: then nobody would
 * write it ever again.  So who goes on with a channel writes it whatever the flag says.
 */
void vmbus__pvc_chan_raise_anew(struct vmbus__pvc_chan *c)
{
	vmbus__pvc_chan_raise(c);
	if (c->wake && !(c->flags & VMBUS_PV_QUIET))
		vmbus__shm_ring_doorbell(c->wake_fd);
}

/* Signal the child: its flag, and its eventfd if the flag was clear. */
void vmbus__pvc_chan_raise(struct vmbus__pvc_chan *c)
{
	const uint64_t bit = (uint64_t)1 << (c->event_flag % 64u);

	if (c->flags & VMBUS_PV_QUIET)
		return;
	if (c->wake) {
		if (!(vmbus__or64_release(c->wake, bit) & bit)) /* EVENT.raise */
			vmbus__shm_ring_doorbell(c->wake_fd);
	} else if (!c->signal_due) {
		c->signal_due = true;
		c->part->advance = true;
		c->part->due = true;
		/* Between two dispatches: nothing else would bring the next one. */
		if (!c->part->provider->calling)
			vmbus__pvc_tell_signals(c->part);
	}
}

/* ---- page lists ---- */

static const char *read_list(struct vmbus__pvc_list *list, const struct vmbus__pv_msg *msg,
			     const int *fds, int fd_count)
{
	const size_t bytes = list->count * sizeof(list->qwords[0]);
	struct stat st;

	if (list->count <= VMBUS_PV_INLINE) {
		memcpy(list->qwords, msg->qwords, bytes);
		return fd_count ? "descriptors where none belong" : NULL;
	}
	if (fd_count != 1 || fstat(fds[0], &st) || !S_ISREG(st.st_mode) ||
	    pread(fds[0], list->qwords, bytes, 0) != (ssize_t)bytes)
		return "a page list without its pages";
	return NULL;
}

static const char *take_list(struct vmbus__pvc_chan *c, const struct vmbus__pv_msg *msg,
			     const int *fds, int fd_count)
{
	struct vmbus__pvc_list *list, **at = &c->lists;
	uint32_t lists = 0;
	const char *wrong;

	for (; *at; at = &(*at)->next, lists++)
		if ((*at)->id == msg->gpadl && !(*at)->going)
			return "a page list twice";
	if (msg->count < 2 || msg->count > VMBUS_PVC_QWORDS_MAX || msg->ranges == 0 ||
	    lists >= VMBUS_PVC_LISTS_MAX)
		return "a page list that cannot be";
	list = calloc(1, sizeof(*list) + msg->count * sizeof(list->qwords[0]));
	if (!list)
		return "no memory of ours for a page list";
	list->id = msg->gpadl;
	list->count = msg->count;
	list->ranges = msg->ranges;
	wrong = read_list(list, msg, fds, fd_count);
	if (wrong) {
		free(list);
		return wrong;
	}
	*at = list;
	return NULL;
}

static const char *take_list_gone(struct vmbus__pvc_chan *c, const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvc_list *list;

	for (list = c->lists; list; list = list->next)
		if (list->id == msg->gpadl && !list->going) {
			list->going = true;
			return NULL;
		}
	return "the end of a page list that is not there";
}

/* ---- openings ---- */

/* The word of the child's memory that has its flag. */
static vmbus__a64 *find_flag(const struct vmbus__pvc_part *part, const struct vmbus__pv_msg *msg)
{
	uint32_t i;

	if (msg->gpa % sizeof(uint64_t) || msg->event_flag >= FLAG_BYTES * 8u)
		return NULL;
	for (i = 0; i < part->regions_told; i++) {
		const struct vmbus_region *const r = &part->regions[i];

		if (msg->gpa < r->gpa || msg->gpa - r->gpa > r->bytes ||
		    r->bytes - (msg->gpa - r->gpa) < FLAG_BYTES || r->access != VMBUS_READ_WRITE)
			continue;
		return (vmbus__a64 *)(void *)((uint8_t *)r->host + (msg->gpa - r->gpa) +
					      msg->event_flag / 64u * sizeof(uint64_t));
	}
	return NULL;
}

static const char *take_wake(struct vmbus__pvc_chan *c, const struct vmbus__pv_msg *msg, int *fd)
{
	vmbus__shm_close(&c->wake_fd);
	c->wake = NULL;
	c->event_flag = msg->event_flag;
	c->flags = (c->flags & ~(VMBUS_PV_WAKE | VMBUS_PV_QUIET)) |
		   (msg->flags & (VMBUS_PV_WAKE | VMBUS_PV_QUIET));
	if (!(msg->flags & VMBUS_PV_WAKE))
		return NULL;
	c->wake = find_flag(c->part, msg);
	if (!c->wake || !vmbus__shm_is_doorbell(*fd)) {
		c->wake = NULL;
		return "a way to wake the child that is none";
	}
	c->wake_fd = *fd;
	*fd = -1;
	return NULL;
}

static const char *take_listener(struct vmbus__pvc_chan *c, int *fd)
{
	struct epoll_event heard;

	if (epoll_wait(*fd, &heard, 1, 0) < 0 && errno != EINTR)
		return "a set to listen to that is none";
	if (vmbus__shm_epoll_add(c->part->provider->epoll_fd, *fd, EPOLLIN,
				 (uint64_t)(uintptr_t)&c->source))
		return "a set that we cannot listen to";
	c->listener = *fd;
	*fd = -1;
	return NULL;
}

static const char *take_journal(struct vmbus__pvc_chan *c, int fd)
{
	const size_t bytes = c->part->provider->journal_bytes;
	bool huge = false;
	void *map;

	if (bytes == 0 || vmbus__shm_check_memory(fd, bytes, &huge) || huge)
		return "a journal that is none";
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return "a journal that cannot be mapped";
	c->journal = map;
	c->journal_bytes = bytes;
	return NULL;
}

static int count_of(uint32_t flags)
{
	return (flags & VMBUS_PV_LISTENER ? 1 : 0) + (flags & VMBUS_PV_JOURNAL ? 1 : 0) +
	       (flags & VMBUS_PV_WAKE ? 1 : 0);
}

static const char *take_open(struct vmbus__pvc_chan *c, const struct vmbus__pv_msg *msg, int *fds,
			     int fd_count)
{
	const uint32_t all = VMBUS_PV_LISTENER | VMBUS_PV_JOURNAL | VMBUS_PV_WAKE |
			     VMBUS_PV_RESUME | VMBUS_PV_QUIET;
	const bool journal = (msg->flags & VMBUS_PV_JOURNAL) != 0;
	const char *wrong;

	if (msg->flags & ~all || !(msg->flags & VMBUS_PV_LISTENER) ||
	    fd_count != count_of(msg->flags) || journal != (c->part->provider->journal_bytes != 0))
		return "an opening that cannot be";
	if (c->want_open || c->state != VMBUS_PVC_CLOSED)
		return "an opening of what is open";
	c->serial = msg->open;
	c->gpadl = msg->gpadl;
	c->down_page = msg->down_page;
	c->flags = msg->flags;
	memcpy(c->user, msg->user, sizeof(c->user));
	wrong = take_listener(c, &fds[0]);
	if (!wrong && journal)
		wrong = take_journal(c, fds[1]);
	if (!wrong)
		wrong = take_wake(c, msg, &fds[journal ? 2 : 1]);
	c->want_open = !wrong;
	return wrong;
}

static const char *take_close(struct vmbus__pvc_chan *c, const struct vmbus__pv_msg *msg)
{
	struct vmbus__pv_msg answer = {
		.type = VMBUS_PV_CLOSED, .bus = msg->bus, .sub = msg->sub, .open = msg->open
	};

	if (c->serial == msg->open && (c->want_open || c->state != VMBUS_PVC_CLOSED)) {
		if (c->want_close)
			return "CLOSE twice";
		c->want_close = true;
		return NULL;
	}
	vmbus__pvc_send(c->part->provider, &answer); /* it broke before */
	return NULL;
}

static bool is_up(const struct vmbus__pvc_chan *c, const struct vmbus__pv_msg *msg)
{
	return c->serial == msg->open && (c->want_open || c->state != VMBUS_PVC_CLOSED);
}

static const char *take_modify(struct vmbus__pvc_chan *c, const struct vmbus__pv_msg *msg, int *fds,
			       int fd_count)
{
	const char *wrong;

	if (msg->flags & ~(VMBUS_PV_WAKE | VMBUS_PV_QUIET) || fd_count != count_of(msg->flags))
		return "a change that cannot be";
	if (!is_up(c, msg))
		return NULL;
	wrong = take_wake(c, msg, &fds[0]);
	if (!wrong && c->state == VMBUS_PVC_OPEN)
		vmbus__pvc_chan_raise_anew(c); /* one that went the old way may be lost */
	return wrong;
}

static const char *take_signal(struct vmbus__pvc_chan *c, const struct vmbus__pv_msg *msg)
{
	if (is_up(c, msg) && c->conn && c->part->bus)
		(void)vmbus_bus_signal_event(c->part->bus, c->conn, 0);
	return NULL;
}

const char *vmbus__pvc_take_chan(struct vmbus__pvc_part *part, const struct vmbus__pv_msg *msg,
				 int *fds, int fd_count)
{
	const bool may_be_new = msg->type == VMBUS_PV_GPADL || msg->type == VMBUS_PV_OPEN;
	struct vmbus__pvc_chan *c;

	if (msg->sub >= VMBUS_SHM_RELIDS)
		return "a channel that cannot be";
	if (msg->type != VMBUS_PV_GPADL && msg->type != VMBUS_PV_OPEN &&
	    msg->type != VMBUS_PV_MODIFY && fd_count)
		return "descriptors where none belong";
	c = may_be_new ? vmbus__pvc_chan_get(part, msg->sub) : find(part, msg->sub);
	if (!c)
		return "a channel that is not there";
	part->advance = true;
	part->due = part->due || part->bus;
	switch (msg->type) {
	case VMBUS_PV_GPADL:
		return take_list(c, msg, fds, fd_count);
	case VMBUS_PV_GPADL_GONE:
		return take_list_gone(c, msg);
	case VMBUS_PV_OPEN:
		return take_open(c, msg, fds, fd_count);
	case VMBUS_PV_CLOSE:
		return take_close(c, msg);
	case VMBUS_PV_MODIFY:
		return take_modify(c, msg, fds, fd_count);
	default:
		return take_signal(c, msg);
	}
}
