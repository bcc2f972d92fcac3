/* SPDX-License-Identifier: MIT */
/*
 * A device on a bus: its offer, and the callbacks of its channels, which are FOREIGN.  Each says in
 * a channel's members what the provider should know, and puts the channel in the list of what is to
 * be told.  Nothing here sends, and nothing waits.
 *
 * A channel is ours from its first callback until removed(); a seat, and its device, which the bus
 * both knows, until the last channel that was offered with them is removed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vmbus/shm.h>
#include <vmbus/watch.h>

#include "shm/provider_host.h"

#define LISTS_PER_UNIT 8u /* gone through about four times, each 32 looks a unit */

void vmbus__pvh_chan_due(struct vmbus__pvh_chan *c)
{
	struct vmbus__pvh_device *const device = c->seat->device;

	/* Of a bus that is gone nothing is told any more. */
	if (c->due || !c->seat->bus)
		return;
	c->due = true;
	c->due_next = NULL;
	*device->due_last = c;
	device->due_last = &c->due_next;
	vmbus__pvh_kick(device->host);
}

static void not_due(struct vmbus__pvh_chan *c)
{
	struct vmbus__pvh_device *const device = c->seat->device;
	struct vmbus__pvh_chan **at = &device->due_first;

	if (!c->due)
		return;
	while (*at != c)
		at = &(*at)->due_next;
	*at = c->due_next;
	if (device->due_last == &c->due_next)
		device->due_last = at;
	c->due = false;
}

/* Perhaps nothing is left to tell, and no room in the socket is waited for. */
static void less_due(const struct vmbus__pvh_chan *c)
{
	if (c->due)
		vmbus__pvh_kick(c->seat->device->host);
}

void vmbus__pvh_list_free(struct vmbus__pvh_chan *c, struct vmbus__pvh_list *list)
{
	struct vmbus__pvh_list **at = &c->lists;

	while (*at != list)
		at = &(*at)->next;
	*at = list->next;
	c->listed--;
	vmbus__pvh_wait_end(&list->wait);
	free(list);
}

void vmbus__pvh_list_known(struct vmbus__pvh_chan *c, struct vmbus__pvh_list *list)
{
	vmbus__pvh_wait_end(&list->wait);
	list->early = false;
	vmbus_chan_gpadl_done(c->chan, list->id);
}

/* The opening ends: no packet of it names a list that the child waits for. */
static void lists_known(struct vmbus__pvh_chan *c)
{
	struct vmbus__pvh_list *list;

	for (list = c->lists; list; list = list->next)
		if (list->early)
			vmbus__pvh_list_known(c, list);
}

static void drop_journal(struct vmbus__pvh_chan *c)
{
	if (c->journal < 0)
		return;
	c->seat->device->host->journal_used -= c->seat->device->journal_bytes;
	vmbus__shm_close(&c->journal);
}

bool vmbus__pvh_seat_idle(const struct vmbus__pvh_seat *seat, bool subs)
{
	const struct vmbus__pvh_chan *c;

	for (c = seat->chans; c; c = c->next)
		if (c->state != VMBUS_PVH_IDLE && (c->sub || !subs))
			return false;
	return true;
}

/*
 * A device may look at a channel's pages until it has closed the last of the child's.  When it has, it
 * owes what it did not owe before.
 */
static void await_rest(const struct vmbus__pvh_seat *seat)
{
	struct vmbus__pvh_session *const session = seat->device->session;
	struct vmbus__pvh_chan *c;
	struct vmbus__pvh_list *list;

	if (!session || session->dead || !vmbus__pvh_seat_idle(seat, true))
		return;
	for (c = seat->chans; c; c = c->next) {
		if (c->state == VMBUS_PVH_CLOSING && c->told_close)
			vmbus__pvh_wait_begin(session, &c->wait);
		for (list = c->lists; list && vmbus__pvh_seat_idle(seat, false); list = list->next)
			if (list->told_gone)
				vmbus__pvh_wait_begin(session, &list->wait);
	}
}

static void forget_opening(struct vmbus__pvh_chan *c)
{
	vmbus__pvh_wait_end(&c->wait);
	lists_known(c);
	drop_journal(c);
	c->state = VMBUS_PVH_IDLE;
	c->told_open = c->told_close = c->served = c->was_open = false;
	c->tell_wake = c->tell_signal = false;
	await_rest(c->seat);
}

void vmbus__pvh_chan_closed(struct vmbus__pvh_chan *c)
{
	forget_opening(c);
	vmbus_chan_close_done(c->chan);
}

void vmbus__pvh_chan_note(struct vmbus__pvh_chan *c, struct vmbus_record_note *note)
{
	struct vmbus_chan_info info;

	vmbus_chan_info(c->chan, &info);
	note->relid = info.relid;
	if (c->seat->bus)
		vmbus_bus_record(c->seat->bus->bus, note);
}

void vmbus__pvh_chan_opened(struct vmbus__pvh_chan *c, int err)
{
	struct vmbus_record_note note = { .kind = VMBUS_RECORD_PROVIDER };

	vmbus__pvh_wait_end(&c->wait);
	if (err)
		forget_opening(c);
	else
		c->state = VMBUS_PVH_OPEN;
	if (!err && c->seat->device->session) {
		note.a = (uint64_t)c->seat->device->session->pid;
		vmbus__pvh_chan_note(c, &note);
	}
	vmbus_chan_open_done(c->chan, err);
}

static struct vmbus__pvh_chan *record_of(struct vmbus_chan *chan)
{
	struct vmbus__pvh_seat *const seat = vmbus_chan_ctx(chan);
	struct vmbus__pvh_chan *c = vmbus_chan_priv(chan);
	struct vmbus_chan_info info;

	if (c)
		return c;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	vmbus_chan_info(chan, &info);
	c->seat = seat;
	c->chan = chan;
	c->sub = info.sub_index;
	c->event = c->journal = -1;
	c->next = seat->chans;
	seat->chans = c;
	vmbus_chan_set_priv(chan, c);
	return c;
}

struct vmbus__pvh_chan *vmbus__pvh_chan_find(struct vmbus__pvh_seat *seat, uint32_t sub)
{
	struct vmbus__pvh_chan *c;

	/* The newest first: one with the same number may be on its way out. */
	for (c = seat->chans; c; c = c->next)
		if (c->sub == sub)
			return c;
	return NULL;
}

/* ---- callbacks of the channels ---- */

static struct vmbus__pvh_list *keep_list(struct vmbus__pvh_chan *c, uint32_t gpadl,
					 const uint64_t *qwords, uint32_t count, uint32_t ranges)
{
	struct vmbus__pvh_list *const list = calloc(1, sizeof(*list) + count * sizeof(*qwords));

	if (!list)
		return NULL;
	list->id = gpadl;
	list->count = count;
	list->ranges = ranges;
	memcpy(list->qwords, qwords, count * sizeof(*qwords));
	list->next = c->lists;
	c->lists = list;
	c->listed++;
	return list;
}

/*
 * Until one more is known, or one is gone, all are gone through a few times, here and in the provider.
 * The child pays for that.
 */
static void charge_walks(const struct vmbus__pvh_chan *c)
{
	vmbus_chan_charge(c->chan, c->listed / LISTS_PER_UNIT);
}

static struct vmbus__pvh_list *find_list(const struct vmbus__pvh_chan *c, uint32_t gpadl)
{
	struct vmbus__pvh_list *list;

	for (list = c->lists; list; list = list->next)
		if (list->id == gpadl && !list->going)
			return list;
	return NULL;
}

/*
 * Packets in the rings may name it before the provider has read of it, so the child has its answer when
 * the provider knows it.  What is described before the open needs no such care: it is told before OPEN.
 */
static int on_gpadl(struct vmbus_chan *chan, uint32_t gpadl, const uint64_t *qwords, uint32_t count,
		    uint32_t ranges)
{
	struct vmbus__pvh_chan *const c = record_of(chan);
	struct vmbus__pvh_list *list;

	if (!c)
		return VMBUS_E_NOMEM;
	if (!c->seat->bus)
		return 0;
	list = keep_list(c, gpadl, qwords, count, ranges);
	if (!list)
		return VMBUS_E_NOMEM;
	charge_walks(c);
	list->early = c->state == VMBUS_PVH_OPENING || c->state == VMBUS_PVH_OPEN;
	vmbus__pvh_chan_due(c);
	return list->early ? VMBUS_E_AGAIN : 0;
}

static int on_gpadl_gone(struct vmbus_chan *chan, uint32_t gpadl)
{
	struct vmbus__pvh_chan *const c = vmbus_chan_priv(chan);
	struct vmbus__pvh_list *const list = c ? find_list(c, gpadl) : NULL;

	if (!list)
		return 0;
	charge_walks(c);
	if (!list->told) {
		vmbus__pvh_list_free(c, list);
		less_due(c);
		return 0;
	}
	list->going = true;
	vmbus__pvh_chan_due(c);
	return VMBUS_E_AGAIN;
}

/* The rings' page list, if the bus did not tell it before. */
static int know_rings(struct vmbus__pvh_chan *c, const struct vmbus_chan_rings *rings)
{
	const struct vmbus__pvh_list *kept;
	uint64_t *qwords;

	if (find_list(c, rings->gpadl))
		return 0;
	qwords = malloc((rings->pages + 1u) * sizeof(*qwords));
	if (!qwords)
		return VMBUS_E_NOMEM;
	qwords[0] = (uint64_t)rings->pages * VMBUS_PAGE_BYTES;
	memcpy(qwords + 1, rings->frames, rings->pages * sizeof(*qwords));
	kept = keep_list(c, rings->gpadl, qwords, rings->pages + 1u, 1);
	free(qwords);
	return kept ? 0 : VMBUS_E_NOMEM;
}

static int make_journal(struct vmbus__pvh_chan *c)
{
	struct vmbus__pvh_device *const device = c->seat->device;
	struct vmbus_provider_host *const host = device->host;

	if (!device->journal_bytes)
		return 0;
	if (device->journal_bytes > host->opts.journal_bytes_max - host->journal_used) {
		vmbus__shm_log(&host->log, VMBUS_LOG_ERROR,
			       "provider %s: no more journals: %llu bytes are in use "
			       "(journal_bytes_max)",
			       device->name, (unsigned long long)host->journal_used);
		return VMBUS_E_FULL;
	}
	c->journal = vmbus_shm_create(device->journal_bytes);
	if (c->journal < 0)
		return c->journal;
	host->journal_used += device->journal_bytes;
	return 0;
}

/*
 * The child's signals go to an eventfd of ours as long as the channel is open, whichever provider
 * serves it, so that none is lost between two of them.  Providers hear it and cannot touch it.
 */
static int make_event(struct vmbus__pvh_chan *c)
{
	vmbus__shm_close(&c->event);
	c->event = vmbus__shm_doorbell();
	if (c->event < 0)
		return c->event;
	return vmbus_chan_bind(c->chan, c->event);
}

static int on_open(struct vmbus_chan *chan, void *ctx)
{
	struct vmbus__pvh_seat *const seat = ctx;
	struct vmbus__pvh_chan *const c = record_of(chan);
	struct vmbus_chan_rings rings;
	int err;

	if (!c)
		return VMBUS_E_NOMEM;
	if (!seat->bus || seat->device->ended)
		return VMBUS_E_STATE;
	err = vmbus_chan_rings(chan, &rings);
	if (!err)
		err = know_rings(c, &rings);
	if (!err)
		err = make_event(c);
	if (!err)
		err = make_journal(c);
	if (err)
		return err;
	c->state = VMBUS_PVH_OPENING;
	c->serial = ++seat->device->host->next_serial;
	c->subs = 0;
	vmbus__pvh_chan_due(c);
	return VMBUS_E_AGAIN;
}

static int on_close(struct vmbus_chan *chan)
{
	struct vmbus__pvh_chan *const c = vmbus_chan_priv(chan);

	if (!c || !c->told_open || !c->seat->bus) {
		if (c) {
			forget_opening(c);
			less_due(c);
		}
		return 0;
	}
	vmbus__pvh_wait_end(&c->wait);
	lists_known(c);
	c->state = VMBUS_PVH_CLOSING;
	vmbus__pvh_chan_due(c);
	return VMBUS_E_AGAIN;
}

static void on_modified(struct vmbus_chan *chan)
{
	struct vmbus__pvh_chan *const c = vmbus_chan_priv(chan);

	if (!c || c->state == VMBUS_PVH_IDLE)
		return;
	c->tell_wake = true;
	vmbus__pvh_chan_due(c);
}

static void on_signalled(struct vmbus_chan *chan)
{
	struct vmbus__pvh_chan *const c = vmbus_chan_priv(chan);

	if (!c || c->state == VMBUS_PVH_IDLE || c->tell_signal)
		return;
	c->tell_signal = true;
	vmbus__pvh_chan_due(c);
}

static void on_offered(struct vmbus_chan *sub)
{
	struct vmbus__pvh_seat *const seat = vmbus_chan_ctx(sub);

	seat->offers++;
}

static void on_removed(struct vmbus_chan *chan)
{
	struct vmbus__pvh_seat *const seat = vmbus_chan_ctx(chan);
	struct vmbus__pvh_chan *const c = vmbus_chan_priv(chan), **at = &seat->chans;

	if (c) {
		less_due(c);
		not_due(c);
		forget_opening(c);
		vmbus__shm_close(&c->event);
		while (c->lists)
			vmbus__pvh_list_free(c, c->lists);
		while (*at != c)
			at = &(*at)->next;
		*at = c->next;
		free(c);
	}
	if (seat->primary == chan)
		seat->primary = NULL;
	seat->offers--;
	/* Another device's as well: its instance id may be the one that was in use until now. */
	if (seat->offers == 0 && !seat->device->host->ended) {
		seat->device->host->offer_due = true;
		vmbus__pvh_kick(seat->device->host);
	}
	if (!seat->bus)
		vmbus__pvh_seat_try_free(seat);
}

/* The bus wants it; a FOREIGN channel gets none. */
static void on_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	(void)chan;
	(void)pkt;
	(void)n;
}

const struct vmbus_vsp vmbus__pvh_vsp = {
	.struct_bytes = sizeof(struct vmbus_vsp),
	.flags = VMBUS_VSP_FOREIGN,
	.open = on_open,
	.packets = on_packets,
	.close = on_close,
	.modified = on_modified,
	.gpadl = on_gpadl,
	.gpadl_gone = on_gpadl_gone,
	.signalled = on_signalled,
	.offered = on_offered,
	.removed = on_removed,
};

/* ---- seats ---- */

int vmbus__pvh_seat_add(struct vmbus__pvh_device *device, struct vmbus__pvh_bus *bus)
{
	struct vmbus__pvh_seat *const seat = calloc(1, sizeof(*seat));

	if (!seat)
		return VMBUS_E_NOMEM;
	seat->device = device;
	seat->bus = bus;
	seat->id = ++device->host->next_id;
	seat->next = device->seats;
	device->seats = seat;
	device->host->seats++;
	vmbus__pvh_seat_offer(seat);
	vmbus__pvh_kick(device->host);
	return 0;
}

void vmbus__pvh_seat_offer(struct vmbus__pvh_seat *seat)
{
	struct vmbus__pvh_device *const device = seat->device;
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts),
					 .instance_id = device->instance_id,
					 .monitor_us = device->monitor_us };

	/* Not before the child has let go of the last one, so that it never has two. */
	if (seat->primary || seat->offers || !seat->bus || !device->session || device->ended)
		return;
	if (vmbus_bus_offer(seat->bus->bus, &device->vsp, seat, &opts, &seat->primary) == 0)
		seat->offers = 1;
}

void vmbus__pvh_seat_orphan(struct vmbus__pvh_seat *seat, bool keep)
{
	struct vmbus__pvh_chan *c, *next;
	struct vmbus__pvh_list *list, *after;

	for (c = seat->chans; c; c = next) {
		next = c->next;
		c->was_open = keep && c->state == VMBUS_PVH_OPEN;
		c->told_open = c->told_close = c->served = false;
		c->tell_wake = c->tell_signal = false;
		vmbus__pvh_wait_end(&c->wait);
		if (c->state == VMBUS_PVH_CLOSING)
			vmbus__pvh_chan_closed(c);
		else if (c->state == VMBUS_PVH_OPENING && !keep)
			vmbus__pvh_chan_opened(c, VMBUS_E_PEER);
		for (list = c->lists; list; list = after) {
			after = list->next;
			list->told = list->told_gone = false;
			vmbus__pvh_wait_end(&list->wait);
			if (list->going) {
				const uint32_t id = list->id;

				vmbus__pvh_list_free(c, list);
				vmbus_chan_gpadl_done(c->chan, id);
			}
		}
		if (keep)
			vmbus__pvh_chan_due(c);
	}
	if (!keep && seat->primary) {
		(void)vmbus_bus_revoke(seat->primary);
		seat->primary = NULL;
	}
}

void vmbus__pvh_seat_try_free(struct vmbus__pvh_seat *seat)
{
	struct vmbus__pvh_device *const device = seat->device;
	struct vmbus__pvh_seat **at = &device->seats;

	if (seat->offers || seat->bus)
		return;
	while (*at != seat)
		at = &(*at)->next;
	*at = seat->next;
	free(seat);
	device->host->seats--;
	vmbus__pvh_device_free(device);
}

static void tell_gone(struct vmbus__pvh_session *session, struct vmbus__pvh_seat *seat)
{
	if (!session || session->dead || seat->view[session->which].step == 0)
		return;
	if (session->gone_count == session->gone_room) {
		const uint32_t room = session->gone_room ? session->gone_room * 2u : 16u;
		uint32_t *const more = realloc(session->gone, room * sizeof(*more));

		if (!more) {
			vmbus__pvh_throw(session, "no memory to tell it of a bus that is gone");
			return;
		}
		session->gone = more;
		session->gone_room = room;
	}
	session->gone[session->gone_count++] = seat->id;
	vmbus__pvh_kick(session->device->host);
}

void vmbus__pvh_seat_end(struct vmbus__pvh_seat *seat)
{
	struct vmbus__pvh_chan *c;

	tell_gone(seat->device->session, seat);
	tell_gone(seat->device->heir, seat);
	for (c = seat->chans; c; c = c->next)
		not_due(c);
	seat->bus = NULL;
	vmbus__pvh_seat_orphan(seat, false);
	vmbus__pvh_seat_try_free(seat);
}
