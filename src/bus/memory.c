/* SPDX-License-Identifier: MIT */
/*
 * The child's memory: the map, which readers on any thread see whole, and the page lists that the
 * child has described, with the views that devices hold of them.
 *
 * A list that a device asks for is counted by a pin on a region that is in no map: its channel's,
 * and for those of a GPADL its page list's as well.  What waits for them to be
 * released looks at these counters.
 */
#include "bus/bus.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PIN_WAIT_MS 1000u /* how long a removal waits for pins */

/* The map now; within a read-side section. */
const struct vmbus_mem *vmbus__mem(struct vmbus_bus *bus)
{
	return (const struct vmbus_mem *)(uintptr_t)vmbus__ld64_acquire(&bus->mem); /* MAP.read */
}

/* Publish a new map and free the old one. */
static void replace(struct vmbus_bus *bus, struct vmbus_mem *map)
{
	struct vmbus_mem *old = (struct vmbus_mem *)(uintptr_t)vmbus__mem(bus);

	vmbus__st64_release(&bus->mem, (uint64_t)(uintptr_t)map); /* MAP.publish */
	vmbus__rcu_wait(bus);
	free(old);
}

int vmbus_bus_mem_add(struct vmbus_bus *bus, struct vmbus_region *region)
{
	struct vmbus_mem *map = malloc(sizeof(*map));
	int err;

	if (!map)
		return VMBUS_E_NOMEM;
	pthread_mutex_lock(&bus->mem_lock);
	err = vmbus_mem_with(map, vmbus__mem(bus), region);
	if (!err)
		replace(bus, map);
	pthread_mutex_unlock(&bus->mem_lock);
	if (err)
		free(map);
	return err;
}

static void sleep_ms(void)
{
	const struct timespec ms = { 0, VMBUS__MS };

	nanosleep(&ms, NULL);
}

static bool is_mapped(struct vmbus_bus *bus, const struct vmbus_region *region)
{
	return vmbus_mem_find(vmbus__mem(bus), (vmbus_gpa_t){ region->gpa }) == region;
}

int vmbus_bus_mem_remove(struct vmbus_bus *bus, struct vmbus_region *region)
{
	struct vmbus_mem *map = malloc(sizeof(*map));
	uint32_t n;
	int err = 0;

	if (!map)
		return VMBUS_E_NOMEM;
	pthread_mutex_lock(&bus->mem_lock);
	if (is_mapped(bus, region)) {
		err = vmbus_mem_without(map, vmbus__mem(bus), region);
		if (!err) {
			replace(bus, map);
			map = NULL;
		}
	}
	pthread_mutex_unlock(&bus->mem_lock);
	free(map);
	for (n = 0; !err && n < PIN_WAIT_MS && vmbus_region_pins(region); n++)
		sleep_ms();
	if (err)
		return err;
	return vmbus_region_pins(region) ? VMBUS_E_AGAIN : 0;
}

int vmbus_bus_mem_read(struct vmbus_bus *bus, vmbus_gpa_t gpa, void *to, size_t len)
{
	int err;

	vmbus__rcu_enter();
	err = vmbus_mem_read(vmbus__mem(bus), gpa, to, len);
	vmbus__rcu_leave(bus);
	return err;
}

/* Count a list by one more pin. */
static int count_by(struct vmbus_sgl *sgl, struct vmbus_region *counter)
{
	const int err = vmbus_sgl_pin(sgl, counter);

	if (err)
		vmbus_sgl_release(sgl);
	return err;
}

int vmbus_chan_sgl(struct vmbus_chan *chan, const struct vmbus_packet *pkt,
		   enum vmbus_access access, struct vmbus_sgl *sgl)
{
	struct vmbus_wire_ext ext;
	const uint64_t *ranges;
	int err;

	if (!chan->live)
		return VMBUS_E_STATE;
	if (pkt->type != VMBUS_PKT_GPA_DIRECT || (uintptr_t)pkt->ext % sizeof(uint64_t))
		return VMBUS_E_INVAL;
	err = vmbus_wire_ext_get(pkt, &ext);
	if (err)
		return VMBUS_E_INVAL;
	ranges = (const uint64_t *)(const void *)pkt->ext + 1; /* [PKT-GPA] */
	vmbus__rcu_enter();
	err = vmbus_sgl_from_ranges(sgl, vmbus__mem(chan->bus), ranges, (pkt->ext_len - 8u) / 8u,
				    ext.range_count, access);
	vmbus__rcu_leave(chan->bus);
	return err ? err : count_by(sgl, &chan->sgls);
}

static struct vmbus__list *find_list(struct vmbus_chan *chan, uint32_t id)
{
	struct vmbus__list *list;

	uint32_t looks = 0;

	for (list = chan->bus->lists[chan->slot]; list; list = list->next, looks++)
		/* Who goes on from a saved state may have had a view of one that is going. */
		if (list->id == id && list->chan == chan && (!list->going || chan->from))
			break;
	if (!chan->own_fd) /* else it is a thread of the embedder's that pays */
		vmbus__charge(chan->bus, looks / VMBUS__LOOKS_PER_UNIT);
	return list;
}

static int view_of(struct vmbus_chan *chan, struct vmbus__list *list, enum vmbus_access access,
		   struct vmbus_sgl *sgl)
{
	const uint64_t *qwords = list->qwords;
	int err;

	vmbus__rcu_enter();
	err = vmbus_sgl_from_ranges(sgl, vmbus__mem(chan->bus), qwords, list->count, list->ranges,
				    access);
	vmbus__rcu_leave(chan->bus);
	if (!err)
		err = count_by(sgl, &list->counter);
	return err ? err : count_by(sgl, &chan->sgls);
}

int vmbus_chan_gpadl(struct vmbus_chan *chan, uint32_t gpadl, enum vmbus_access access,
		     struct vmbus_sgl *sgl)
{
	struct vmbus__list *list;
	int err = VMBUS_E_STATE;

	if (!chan->live)
		return err;
	pthread_mutex_lock(&chan->bus->lists_lock);
	list = find_list(chan, gpadl);
	err = list ? view_of(chan, list, access, sgl) : VMBUS_E_RANGE;
	pthread_mutex_unlock(&chan->bus->lists_lock);
	return err;
}

/* Whether every page of a list is memory of the child's. */
static bool is_memory(struct vmbus_bus *bus, const struct vmbus__list *list)
{
	const uint64_t *q = list->qwords;
	uint32_t left = list->count, range;
	bool good = true;

	vmbus__rcu_enter();
	for (range = 0; good && range < list->ranges; range++) {
		uint64_t pages, page;

		good = left >= 1;
		if (!good)
			break;
		pages = ((q[0] >> 32) + (uint32_t)q[0] + VMBUS_PAGE_BYTES - 1u) / VMBUS_PAGE_BYTES;
		good = pages <= left - 1u;
		vmbus__charge(bus, pages / VMBUS__CHECKS_PER_UNIT);
		for (page = 0; good && page < pages; page++)
			good = q[1u + page] <= UINT64_MAX / VMBUS_PAGE_BYTES &&
			       vmbus_mem_find(vmbus__mem(bus),
					      (vmbus_gpa_t){ q[1u + page] * VMBUS_PAGE_BYTES });
		if (good) {
			q += 1u + pages;
			left -= 1u + (uint32_t)pages;
		}
	}
	vmbus__rcu_leave(bus);
	return good;
}

/* Tell the owner of a FOREIGN channel of a page list; without the lock, for it may call back. */
static int tell_list(struct vmbus__list *list)
{
	struct vmbus_chan *chan = list->chan;
	int err;

	if (!chan->foreign || !chan->vsp->gpadl)
		return 0;
	list->early = true; /* so that done within the callback finds it */
	err = chan->vsp->gpadl(chan, list->id, list->qwords, list->count, list->ranges);
	if (err == VMBUS_E_AGAIN && list->answer_due)
		err = 0;
	list->early = err == VMBUS_E_AGAIN;
	list->answer_due = false;
	return err;
}

/* One that its owner refused, and that nobody else has heard of. */
static void forget_list(struct vmbus_bus *bus, struct vmbus__list *list)
{
	struct vmbus__list **at = &bus->lists[list->chan->slot];

	pthread_mutex_lock(&bus->lists_lock);
	while (*at != list)
		at = &(*at)->next;
	*at = list->next;
	pthread_mutex_unlock(&bus->lists_lock);
	free(list);
}

/*
 * A page list is complete: take note of it, or refuse it.
 *
 * Returns 0 or an error, and the caller answers the machine; AGAIN: that is done later.
 */
int vmbus__list_ready(struct vmbus_bus *bus, struct vmbus_chan *chan,
		      const struct vmbus_srv_action *action)
{
	struct vmbus__list *list = calloc(1, sizeof(*list));
	int err;

	if (!list)
		return VMBUS_E_NOMEM;
	list->ref = action->list;
	list->chan = chan;
	list->id = action->gpadl;
	list->count = vmbus_srv_list(bus->srv, action->list, &list->qwords, &list->ranges);
	if (!list->count || !is_memory(bus, list)) {
		free(list);
		return VMBUS_E_PEER;
	}
	pthread_mutex_lock(&bus->lists_lock);
	list->next = bus->lists[chan->slot];
	bus->lists[chan->slot] = list;
	pthread_mutex_unlock(&bus->lists_lock);
	err = tell_list(list);
	if (err == VMBUS_E_AGAIN)
		bus->waiting++;
	else if (err)
		forget_list(bus, list);
	return err;
}

/* Take a list out when nobody has a view of it any more.  With the lock held. */
static bool drop_unused(struct vmbus_bus *bus, struct vmbus__list **at)
{
	struct vmbus__list *list = *at;

	/* Who goes on from a saved state may have had a view of it. */
	if (list->ring_users || list->foreign_user || list->chan->resuming ||
	    vmbus_region_pins(&list->counter))
		return false;
	*at = list->next;
	bus->waiting -= list->early; /* after a restore the child does not wait for its owner */
	(void)vmbus_srv_gpadl_gone(bus->srv, list->ref);
	free(list);
	return true;
}

static bool same(struct vmbus_srv_ref a, struct vmbus_srv_ref b)
{
	return a.slot == b.slot && a.gen == b.gen;
}

/* Tell the owner of a FOREIGN channel; without the lock, for it may call back. */
static void tell_gone(struct vmbus__list *list)
{
	struct vmbus_chan *chan = list->chan;

	if (!chan->foreign || !chan->vsp->gpadl_gone)
		return;
	list->foreign_user = true; /* so that done within the callback finds it */
	if (chan->vsp->gpadl_gone(chan, list->id) != VMBUS_E_AGAIN)
		list->foreign_user = false;
}

/* The child takes a page list back: at once, or when the last view is gone. */
void vmbus__list_down(struct vmbus_bus *bus, const struct vmbus_srv_action *action)
{
	struct vmbus__list **at = &bus->lists[action->chan.slot % VMBUS__RELIDS];
	uint32_t looks;

	pthread_mutex_lock(&bus->lists_lock);
	for (looks = 0; *at && !same((*at)->ref, action->list); looks++)
		at = &(*at)->next;
	if (*at)
		(*at)->going = true;
	pthread_mutex_unlock(&bus->lists_lock);
	vmbus__charge(bus, looks / VMBUS__LOOKS_PER_UNIT);
	if (!*at) {
		(void)vmbus_srv_gpadl_gone(bus->srv, action->list);
		return;
	}
	tell_gone(*at);
	pthread_mutex_lock(&bus->lists_lock);
	if (!drop_unused(bus, at))
		vmbus__wait_for_pins(bus);
	pthread_mutex_unlock(&bus->lists_lock);
}

/* Who serves the channel knows a list, or nobody else uses one that is going. */
void vmbus_chan_gpadl_done(struct vmbus_chan *chan, uint32_t gpadl)
{
	struct vmbus__list *list;
	bool found = false;

	pthread_mutex_lock(&chan->bus->lists_lock);
	for (list = chan->bus->lists[chan->slot]; list && !found; list = list->next)
		if (list->chan == chan && list->id == gpadl &&
		    (list->foreign_user || (list->early && !list->answer_due))) {
			list->answer_due = list->early;
			list->foreign_user = false;
			found = true;
		}
	pthread_mutex_unlock(&chan->bus->lists_lock);
	if (!found)
		return;
	vmbus__or64_release(&chan->bus->events, VMBUS__EV_FOREIGN); /* BITS.add */
	vmbus__kick(&chan->bus->kick);
}

/* The rings of a channel are mapped from a page list, or not any more. */
void vmbus__list_use(struct vmbus_chan *chan, bool use)
{
	struct vmbus__list *list;
	uint32_t looks = 0;

	pthread_mutex_lock(&chan->bus->lists_lock);
	for (list = chan->bus->lists[chan->slot]; list; list = list->next, looks++)
		if (same(list->ref, chan->ring_list)) {
			list->ring_users = use;
			chan->ring_gpadl = list->id;
		}
	pthread_mutex_unlock(&chan->bus->lists_lock);
	vmbus__charge(chan->bus, looks / VMBUS__LOOKS_PER_UNIT);
}

/* The child's answer to a list that waited for its owner.  With the lock held. */
static void answer_late(struct vmbus_bus *bus, struct vmbus__list *list)
{
	list->early = list->answer_due = false;
	bus->waiting--;
	(void)vmbus_srv_gpadl_ready(bus->srv, list->ref, VMBUS_STATUS_OK);
}

/* Look again at the lists that wait for their owners, or for their views to go. */
void vmbus__lists_poll(struct vmbus_bus *bus)
{
	uint32_t slot;

	pthread_mutex_lock(&bus->lists_lock);
	for (slot = 0; slot < bus->chans_max; slot++) {
		struct vmbus__list **at = &bus->lists[slot];

		while (*at) {
			if ((*at)->early && (*at)->answer_due)
				answer_late(bus, *at);
			if ((*at)->going && drop_unused(bus, at))
				bus->waiting--;
			else
				at = &(*at)->next;
		}
	}
	pthread_mutex_unlock(&bus->lists_lock);
}

void vmbus__lists_free(struct vmbus_bus *bus)
{
	uint32_t slot;

	for (slot = 0; slot < VMBUS__RELIDS; slot++)
		while (bus->lists[slot]) {
			struct vmbus__list *list = bus->lists[slot];

			bus->lists[slot] = list->next;
			free(list);
		}
}
