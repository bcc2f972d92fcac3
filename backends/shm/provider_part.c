/* SPDX-License-Identifier: MIT */
/*
 * A partition as its provider has it: memory mapped from the parent's descriptors, and a bus over a
 * backend that signals the child straight, or by the parent where it cannot.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/provider_client.h"

/* ---- the backend that our bus sees ---- */

static int be_post(void *ctx, uint32_t vp, uint32_t sint, uint32_t type, const void *payload,
		   uint32_t bytes)
{
	(void)vp;
	(void)sint;
	(void)type;
	vmbus__pvc_posted(ctx, payload, bytes);
	return 0;
}

static int be_raise(void *ctx, uint32_t vp, uint32_t sint, uint32_t flag)
{
	const struct vmbus__pvc_part *const part = ctx;

	(void)sint;
	(void)flag;
	if (vp >= part->slot_count)
		return VMBUS_E_RANGE;
	vmbus__pvc_chan_raise(part->slots[vp]);
	return 0;
}

static uint64_t be_time(void *ctx)
{
	(void)ctx;
	return vmbus__shm_now_ns() / 100;
}

const struct vmbus_backend vmbus__pvc_backend = {
	.struct_bytes = sizeof(struct vmbus_backend),
	.post = be_post,
	.raise = be_raise,
	.time = be_time,
};

/* ---- coming and going ---- */

struct vmbus__pvc_part *vmbus__pvc_part_find(struct vmbus_provider *provider, uint32_t id)
{
	struct vmbus__pvc_part *part;

	for (part = provider->parts; part; part = part->next)
		if (part->id == id && part->state != VMBUS_PVC_ENDING)
			return part;
	return NULL;
}

const char *vmbus__pvc_take_bus(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvc_part *part;

	if (msg->count == 0 || msg->count > VMBUS_REGIONS_MAX ||
	    vmbus__pvc_part_find(provider, msg->bus))
		return "a partition that cannot be";
	if (provider->part_count >= VMBUS_PVC_PARTS_MAX)
		return "more partitions than we serve";
	part = calloc(1, sizeof(*part));
	if (!part)
		return "no memory of ours for a partition";
	part->provider = provider;
	part->id = msg->bus;
	part->region_count = msg->count;
	part->source = (struct vmbus__pvc_source){ VMBUS_PVC_BUS, part };
	memcpy(part->name, msg->name, sizeof(part->name));
	part->next = provider->parts;
	provider->parts = part;
	provider->part_count++;
	if (provider->bus_last < part->id)
		provider->bus_last = part->id;
	return NULL;
}

/*
 * A sub-channel is there.  The parent is told before the callback that offers it is published: with a
 * death in between it is told once more, and the number of all of them says that it knows.
 */
static void offered(void *ctx, struct vmbus_chan *sub)
{
	struct vmbus__pvc_part *const part = ctx;
	struct vmbus__pv_msg msg = { .type = VMBUS_PV_SUBS, .bus = part->id };
	struct vmbus__pvc_chan *c;
	struct vmbus_chan_info info;

	vmbus_chan_info(sub, &info);
	c = vmbus__pvc_chan_get(part, info.sub_index);
	if (!c)
		return; /* without memory it stays closed */
	c->chan = sub;
	c->relid = 0;
	msg.count = ++part->subs;
	if (!part->own_offer)
		vmbus__pvc_send(part->provider, &msg);
	part->advance = true;
}

static void removed(void *ctx, struct vmbus_chan *chan)
{
	struct vmbus__pvc_part *const part = ctx;
	struct vmbus__pvc_chan *c;

	for (c = part->chans; c; c = c->next)
		if (c->chan == chan) {
			c->chan = NULL;
			c->relid = 0;
		}
}

static int make_bus(struct vmbus__pvc_part *part)
{
	struct vmbus_provider *const provider = part->provider;
	struct vmbus_region *regions[VMBUS_REGIONS_MAX];
	struct vmbus_bus_opts opts = { .struct_bytes = sizeof(opts),
				       .backend = &vmbus__pvc_backend,
				       .backend_ctx = part,
				       .name = part->name,
				       .regions = regions,
				       .region_count = part->region_count,
				       .log = provider->log.fn,
				       .log_ctx = provider->log.ctx,
				       .removed = removed,
				       .removed_ctx = part,
				       .offered = offered,
				       .events_ctx = part };
	struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer),
					  .instance_id = provider->instance_id };
	/* What the child may describe is the parent's to say, which has counted it. */
	const struct vmbus_srv_opts limits = { .struct_bytes = sizeof(limits),
					       .gpadls_max = VMBUS_PVC_LISTS_MAX,
					       .gpadl_bytes_max = UINT64_MAX };
	struct vmbus__pvc_chan *const primary = vmbus__pvc_chan_get(part, 0);
	uint32_t i;
	int err;

	opts.limits = limits;
	for (i = 0; i < part->region_count; i++)
		regions[i] = &part->regions[i];
	err = primary ? vmbus_bus_create(&opts, &part->bus) : VMBUS_E_NOMEM;
	if (err)
		return err;
	err = vmbus_bus_offer(part->bus, provider->vsp, provider->ctx, &offer, &primary->chan);
	if (err)
		return err;
	return vmbus__shm_epoll_add(provider->epoll_fd, vmbus_bus_fd(part->bus), EPOLLIN,
				    (uint64_t)(uintptr_t)&part->source);
}

static int protection(uint32_t access)
{
	return (access & VMBUS_READ ? PROT_READ : 0) | (access & VMBUS_WRITE ? PROT_WRITE : 0);
}

static const char *map_region(struct vmbus_region *region, const struct vmbus__pv_msg *msg, int *fd)
{
	bool huge = false;
	void *map;

	if (msg->bytes == 0 || msg->bytes > INT64_MAX || msg->offset > INT64_MAX - msg->bytes ||
	    msg->access == 0 || msg->access > VMBUS_READ_WRITE)
		return "memory that cannot be";
	if (vmbus__shm_check_memory(*fd, msg->offset + msg->bytes, &huge) || huge)
		return "memory that is not sealed against shrinking, too small, or of huge pages";
	map = mmap(NULL, msg->bytes, protection(msg->access), MAP_SHARED, *fd, (off_t)msg->offset);
	if (map == MAP_FAILED)
		return "memory that cannot be mapped";
	*region = (struct vmbus_region){ .gpa = msg->gpa,
					 .bytes = msg->bytes,
					 .host = map,
					 .fd = *fd,
					 .access = msg->access,
					 .fd_offset = msg->offset };
	*fd = -1;
	return NULL;
}

const char *vmbus__pvc_take_region(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg,
				   int *fd)
{
	struct vmbus__pvc_part *const part = vmbus__pvc_part_find(provider, msg->bus);
	const char *wrong;

	if (!part || part->state != VMBUS_PVC_LOADING || part->regions_told == part->region_count)
		return "memory of no partition";
	wrong = map_region(&part->regions[part->regions_told], msg, fd);
	if (wrong)
		return wrong;
	part->regions_told++;
	if (part->regions_told < part->region_count)
		return NULL;
	if (make_bus(part))
		return "a partition that we cannot serve";
	vmbus__pvc_contact(part);
	return NULL;
}

static void part_free(struct vmbus__pvc_part *part)
{
	struct vmbus_provider *const provider = part->provider;
	struct vmbus__pvc_part **at = &provider->parts;
	uint32_t i;

	while (*at != part)
		at = &(*at)->next;
	*at = part->next;
	provider->part_count--;
	while (part->chans)
		vmbus__pvc_chan_free(part->chans);
	for (i = 0; i < part->regions_told; i++) {
		munmap(part->regions[i].host, part->regions[i].bytes);
		vmbus__shm_close(&part->regions[i].fd);
	}
	free(part->slots);
	free(part);
}

const char *vmbus__pvc_take_gone(struct vmbus_provider *provider, const struct vmbus__pv_msg *msg)
{
	struct vmbus__pvc_part *const part = vmbus__pvc_part_find(provider, msg->bus);

	if (!part)
		return "the end of a partition that is not there";
	if (!part->bus) { /* its memory was not all told: nothing has to close, and nothing would bring a turn */
		part_free(part);
		return NULL;
	}
	part->state = VMBUS_PVC_ENDING;
	part->due = true;
	vmbus_bus_reset(part->bus);
	return NULL;
}

void vmbus__pvc_part_destroy(struct vmbus__pvc_part *part)
{
	if (part->bus) {
		vmbus__shm_epoll_del(part->provider->epoll_fd, vmbus_bus_fd(part->bus));
		vmbus_bus_destroy(part->bus);
	}
	part_free(part);
}

void vmbus__pvc_part_let_go(struct vmbus__pvc_part *part)
{
	struct vmbus__pvc_chan *c;

	if (!part->bus)
		return;
	for (c = part->chans; c; c = c->next) {
		const int err =
			c->chan && c->journal ? vmbus_chan_set_journal(c->chan, NULL, 0) : 0;

		c->signal_due = false; /* who goes on signals */
		if (err == VMBUS_E_FAULT && c->state == VMBUS_PVC_OPEN && !c->rescinded)
			vmbus__pvc_tell_fault(c);
	}
	vmbus_bus_close(part->bus);
}

/* A partition that is gone: its devices close, however long they take. */
static uint32_t end_turn(struct vmbus__pvc_part *part, uint32_t budget)
{
	const int done = vmbus_bus_dispatch(part->bus, budget), fd = vmbus_bus_fd(part->bus);

	part->due = done > 0 && (uint32_t)done >= budget;
	if (part->due)
		return (uint32_t)done;
	vmbus__shm_epoll_del(part->provider->epoll_fd, fd);
	if (vmbus_bus_end(part->bus))
		(void)vmbus__shm_epoll_add(part->provider->epoll_fd, fd, EPOLLIN,
					   (uint64_t)(uintptr_t)&part->source);
	else
		part_free(part);
	return 1;
}

uint32_t vmbus__pvc_part_turn(struct vmbus__pvc_part *part, uint32_t budget)
{
	int done = 0;

	if (part->state == VMBUS_PVC_ENDING)
		return end_turn(part, budget);
	if (part->due) {
		done = vmbus_bus_dispatch(part->bus, budget);
		part->due = done > 0 && (uint32_t)done >= budget;
	}
	if (part->advance)
		vmbus__pvc_advance(part);
	return done > 0 ? (uint32_t)done : 0;
}
