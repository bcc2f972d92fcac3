/* SPDX-License-Identifier: MIT */
/*
 * Channels come and go.  A channel that is gone may be looked at for a moment by a thread that has
 * just found it, so its storage is freed only with the bus; until then it may become another channel,
 * since such a thread reads nothing of it but what stays.  So no offer waits for a grace period.
 */
#include "bus/bus.h"
#include "bus/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ACCEPT_NS ((uint64_t)5000 * VMBUS__MS) /* for a child to open an hv_sock offer, [CTL-TL] */
#define CONN_BASE (VMBUS_SINT_MESSAGE << 12)   /* the ids that we give out, [CTL-CONNID] */

/* FNV-1a of 32 bits, in four lanes that begin differently. */
static void hash(uint64_t lanes[4], const void *data, size_t bytes)
{
	const uint8_t *p = data;
	uint32_t lane;
	size_t i;

	for (i = 0; i < bytes; i++)
		for (lane = 0; lane < 4; lane++)
			lanes[lane] = (lanes[lane] ^ p[i]) * 0x01000193u % 4294967296u;
}

/* An instance id of a device without one: the same at every start of the same child. */
static struct vmbus_guid make_instance(struct vmbus_bus *bus, const struct vmbus_guid *class_id)
{
	uint64_t lanes[4] = { 0x811c9dc5u, 0x4222325cu, 0x9ce48422u, 0x01b3cbf2u };
	struct vmbus_guid id;
	uint32_t i;

	bus->offers++;
	hash(lanes, class_id, sizeof(*class_id));
	hash(lanes, bus->name, strlen(bus->name));
	hash(lanes, &bus->offers, sizeof(bus->offers));
	for (i = 0; i < 16; i++)
		id.b[i] = (uint8_t)(lanes[i / 4u] >> i % 4u * 8u & 255u);
	id.b[7] = (uint8_t)((id.b[7] & 0x0fu) | 0x40u); /* the form of a random GUID */
	id.b[8] = (uint8_t)((id.b[8] & 0x3fu) | 0x80u);
	return id;
}

static bool is_zero(const struct vmbus_guid *id)
{
	static const struct vmbus_guid zero;

	return memcmp(id, &zero, sizeof(zero)) == 0;
}

static void free_chan(struct vmbus_chan *chan)
{
	vmbus__kick_fini(&chan->kick);
	if (chan->wait_fd >= 0)
		close(chan->wait_fd);
	free(chan);
}

/* What the embedder polls for a channel of its own: the kick, or a set with more in it. */
static int make_descriptors(struct vmbus_chan *chan)
{
	if (chan->kick.fd < 0 && vmbus__kick_init(&chan->kick))
		return VMBUS_E_SYSTEM;
	if (chan->wait_fd >= 0 || !(chan->bus->opts.backend->bind || chan->vsp->ready))
		return 0;
	chan->wait_fd = epoll_create1(EPOLL_CLOEXEC);
	if (chan->wait_fd < 0)
		return VMBUS_E_SYSTEM;
	if (vmbus__watch(chan->wait_fd, chan->kick.fd, EPOLLIN, 0) == 0)
		return 0;
	close(chan->wait_fd); /* else the next channel here would be deaf */
	chan->wait_fd = -1;
	return VMBUS_E_SYSTEM;
}

/* Storage for a channel: what was another one's, or new. */
static struct vmbus_chan *find_storage(struct vmbus_bus *bus, bool own_fd)
{
	struct vmbus_chan **at = &bus->graveyard, *chan;

	for (; *at; at = &(*at)->next)
		if ((*at)->own_fd == own_fd) {
			chan = *at;
			*at = chan->next;
			memset(chan, 0, offsetof(struct vmbus_chan, bus));
			chan->bound_fd = -1;
			chan->sink_fd = -1;
			chan->watch_fd = -1;
			return chan;
		}
	chan = aligned_alloc(64, (sizeof(*chan) + 63u) / 64u * 64u);
	if (!chan)
		return NULL;
	memset(chan, 0, sizeof(*chan));
	chan->bus = bus;
	chan->own_fd = own_fd;
	chan->bound_fd = -1;
	chan->sink_fd = -1;
	chan->watch_fd = -1;
	chan->kick.fd = -1;
	chan->wait_fd = -1;
	return chan;
}

static void bury(struct vmbus_chan *chan)
{
	chan->next = chan->bus->graveyard;
	chan->bus->graveyard = chan;
}

static struct vmbus_chan *storage(struct vmbus_bus *bus, const struct vmbus_vsp *vsp, void *ctx,
				  bool own_fd)
{
	struct vmbus_chan *const chan = find_storage(bus, own_fd);

	if (!chan)
		return NULL;
	chan->vsp = vsp;
	chan->ctx = ctx;
	if (!own_fd || make_descriptors(chan) == 0)
		return chan;
	bury(chan);
	return NULL;
}

/* When nobody can look at them any more. */
void vmbus__graveyard_free(struct vmbus_bus *bus)
{
	while (bus->graveyard) {
		struct vmbus_chan *chan = bus->graveyard;

		bus->graveyard = chan->next;
		free_chan(chan);
	}
}

static uint32_t take_monitor(struct vmbus_bus *bus, struct vmbus_chan *chan)
{
	uint32_t id;

	for (id = 0; id < VMBUS__MONITORS; id++)
		if (!bus->monitored[id]) {
			bus->monitored[id] = chan;
			return id;
		}
	return VMBUS_MONITOR_NONE;
}

static void publish(struct vmbus_chan *chan)
{
	struct vmbus_bus *bus = chan->bus;
	struct vmbus_srv_info info;

	vmbus__st64_release(&bus->by_slot[chan->slot], (uint64_t)(uintptr_t)chan); /* CHAN.set */
	if (vmbus_srv_info(bus->srv, chan->slot, &info) != 1 || info.relid == 0)
		return;
	chan->relid = info.relid;
	if (vmbus__conn_add(bus, CONN_BASE + info.relid, chan->slot) == 0)
		chan->offer_conn = CONN_BASE + info.relid;
}

/* Offer a channel whose offer is filled in. */
static int offer(struct vmbus_chan *chan, uint32_t monitor_us)
{
	struct vmbus_bus *bus = chan->bus;
	int err;

	chan->max_payload = chan->vsp->max_payload ? chan->vsp->max_payload : UINT32_MAX;
	chan->tlnpi = (chan->offer.flags & VMBUS_OFFER_TLNPI) != 0;
	chan->foreign = (chan->vsp->flags & VMBUS_VSP_FOREIGN) != 0;
	chan->monitor = VMBUS_MONITOR_NONE;
	chan->monitor_us = monitor_us;
	if (monitor_us) {
		chan->monitor = take_monitor(bus, chan);
		if (chan->monitor == VMBUS_MONITOR_NONE)
			return VMBUS_E_FULL;
	}
	chan->offer.monitor_id = chan->monitor;
	err = vmbus_srv_offer(bus->srv, &chan->offer, &chan->ref);
	if (!err && chan->ref.slot >= VMBUS__RELIDS)
		err = VMBUS_E_FULL;
	if (err) {
		if (monitor_us)
			bus->monitored[chan->monitor] = NULL;
		return err;
	}
	chan->slot = chan->ref.slot;
	publish(chan);
	vmbus__note_step(chan, VMBUS_STEP_OFFERED, VMBUS_RECORD_OFFER);
	if (chan->tlnpi)
		vmbus__chan_at_time(chan, &chan->accept_by, ACCEPT_NS);
	vmbus__kick(&bus->kick);
	return 0;
}

/* A restore: the channel leaves its slot, and takes another. */
void vmbus__chan_displace(struct vmbus_chan *chan)
{
	if (chan->offer_conn)
		vmbus__conn_remove(chan->bus, chan->offer_conn, chan->slot);
	chan->offer_conn = 0;
	vmbus__st64_release(&chan->bus->by_slot[chan->slot], 0); /* CHAN.set */
}

void vmbus__chan_place(struct vmbus_chan *chan, struct vmbus_srv_ref ref)
{
	chan->ref = ref;
	chan->slot = ref.slot;
	publish(chan);
}

/* It found no place: it is in this one, which is free, until it is removed with the bus. */
void vmbus__chan_bury_at(struct vmbus_chan *chan, uint32_t slot)
{
	chan->monitor = VMBUS_MONITOR_NONE;
	chan->slot = slot;
	chan->ref = (struct vmbus_srv_ref){ slot, 0 };
	vmbus__st64_release(&chan->bus->by_slot[slot], (uint64_t)(uintptr_t)chan); /* CHAN.set */
}

int vmbus__offer_again(struct vmbus_chan *chan)
{
	return offer(chan, chan->monitor_us);
}

/* What an offer lacks, for people; NULL: nothing. */
static const char *missing(const struct vmbus_vsp *vsp, const struct vmbus_offer_opts *opts)
{
	if (!vsp)
		return "vsp is NULL";
	if (vsp->struct_bytes < sizeof(*vsp))
		return "struct_bytes of the vsp is not sizeof(struct vmbus_vsp)";
	if (!vsp->name)
		return "the vsp has no name";
	if (!vsp->packets && !(vsp->flags & VMBUS_VSP_FOREIGN))
		return "the vsp has no packets()";
	if (opts->struct_bytes < sizeof(*opts))
		return "struct_bytes of the options is not sizeof(struct vmbus_offer_opts)";
	if (opts->own_fd && vsp->flags & VMBUS_VSP_FOREIGN)
		return "own_fd is for rings that are served here, and the vsp is FOREIGN";
	return NULL;
}

/* Tell why an offer was refused; returns err. */
static int refuse(struct vmbus_bus *bus, const struct vmbus_vsp *vsp, const char *why, int err)
{
	const bool named = vsp && vsp->struct_bytes >= sizeof(*vsp) && vsp->name;

	vmbus__log(bus, VMBUS_LOG_ERROR, "offer of %s refused: %s (%s)",
		   named ? vsp->name : "a device", why, vmbus_err_name(err));
	return err;
}

/* Why the machine, or the monitor, took no offer. */
static int refused_offer(const struct vmbus_chan *chan, uint32_t monitor_us, int err)
{
	char instance[37], why[VMBUS__WHY_BYTES];

	chan->bus->offers_refused += err == VMBUS_E_FULL;
	vmbus_guid_format(&chan->offer.instance_id, instance);
	if (err == VMBUS_E_INVAL && chan->offer.flags & 0xEu)
		(void)snprintf(why, sizeof(why), "offer_flags 0x%x asks for what is not there",
			       chan->offer.flags);
	else if (err == VMBUS_E_INVAL)
		(void)snprintf(why, sizeof(why), "instance %s is offered already", instance);
	else if (err == VMBUS_E_FULL && monitor_us && chan->monitor == VMBUS_MONITOR_NONE)
		(void)snprintf(why, sizeof(why), "all %u monitor ids are in use", VMBUS__MONITORS);
	else if (err == VMBUS_E_FULL)
		(void)snprintf(why, sizeof(why), "the child has %u channels (limits.chans_max)",
			       chan->bus->chans_max);
	else
		(void)snprintf(why, sizeof(why), "out of memory");
	return refuse(chan->bus, chan->vsp, why, err);
}

int vmbus_bus_offer(struct vmbus_bus *bus, const struct vmbus_vsp *vsp, void *ctx,
		    const struct vmbus_offer_opts *opts, struct vmbus_chan **made)
{
	const struct vmbus_offer_opts defaults = { .struct_bytes = sizeof(defaults) };
	struct vmbus_chan *chan;
	const char *why;
	int err;

	if (!opts)
		opts = &defaults;
	why = missing(vsp, opts);
	if (why)
		return refuse(bus, vsp, why, VMBUS_E_INVAL);
	chan = storage(bus, vsp, ctx, opts->own_fd);
	if (!chan)
		return refuse(bus, vsp, "no memory, or no descriptor for own_fd", VMBUS_E_NOMEM);
	chan->offer = (struct vmbus_offer){ .class_id = vsp->class_id,
					    .instance_id = opts->instance_id,
					    .flags = vsp->offer_flags,
					    .mmio_mb = vsp->mmio_mb,
					    .order = opts->order };
	memcpy(chan->offer.user, opts->user, sizeof(opts->user));
	if (is_zero(&opts->instance_id))
		chan->offer.instance_id = make_instance(bus, &vsp->class_id);
	err = offer(chan, opts->monitor_us);
	if (err) {
		(void)refused_offer(chan, opts->monitor_us, err);
		bury(chan); /* its storage may be one that a signal still looks at */
		return err;
	}
	if (made)
		*made = chan;
	return 0;
}

/* A channel of the device of another one, whose place and offer are filled in later. */
static struct vmbus_chan *make_sub(struct vmbus_chan *primary)
{
	struct vmbus_bus *bus = primary->bus;
	struct vmbus_chan *chan =
		storage(bus, primary->vsp, primary->ctx, primary->own_fd && bus->opts.offered);

	if (chan)
		vmbus__st64_relaxed(&chan->primary, (uintptr_t)primary); /* PRIMARY.set */
	return chan;
}

/* Who is to hear of a sub-channel hears of it. */
void vmbus__sub_offered(struct vmbus_chan *chan)
{
	const struct vmbus_bus_opts *opts = &chan->bus->opts;

	if ((chan->vsp->flags & VMBUS_VSP_FOREIGN) && chan->vsp->offered)
		chan->vsp->offered(chan);
	if (opts->offered)
		opts->offered(opts->events_ctx, chan);
}

/* One that the child knows already. */
struct vmbus_chan *vmbus__sub_again(struct vmbus_chan *primary)
{
	struct vmbus_chan *chan = make_sub(primary);

	if (!chan)
		return NULL;
	chan->max_payload = primary->max_payload;
	chan->foreign = primary->foreign;
	chan->monitor_us = primary->monitor_us;
	return chan;
}

static int offer_sub(struct vmbus_chan *primary)
{
	struct vmbus_bus *bus = primary->bus;
	struct vmbus_chan *chan = make_sub(primary);
	int err;

	if (!chan)
		return VMBUS_E_NOMEM;
	chan->sub_index = ++primary->next_sub;
	chan->offer = primary->offer;
	chan->offer.sub_index = (uint16_t)chan->sub_index;
	err = offer(chan, primary->monitor_us);
	if (err) {
		bus->offers_refused += err == VMBUS_E_FULL;
		primary->next_sub--;
		bury(chan);
		return err;
	}
	primary->subs++;
	vmbus__sub_offered(chan);
	return 0;
}

/* Whether a sub-channel that was withdrawn is not gone yet; after a restore only the machine has it. */
static bool lingers(const struct vmbus_chan *primary)
{
	struct vmbus_bus *bus = primary->bus;
	struct vmbus_srv_info info;
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max; slot++) {
		const struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && vmbus__chan_primary(chan) == primary && chan->revoked)
			return true;
		if (vmbus_srv_info(bus->srv, slot, &info) == 1 && info.fate == VMBUS_SRV_FORGET &&
		    vmbus_guid_equal(&info.offer.class_id, &primary->offer.class_id) &&
		    vmbus_guid_equal(&info.offer.instance_id, &primary->offer.instance_id))
			return true;
	}
	return false;
}

/*
 * Offer count sub-channels; those whose index, or room, one of the last opening still has follow later.
 * Bus thread.
 */
int vmbus__offer_subs(struct vmbus_chan *primary, uint32_t count)
{
	uint32_t n = 0;
	int err = 0;

	if (primary->local != VMBUS__OPEN && primary->local != VMBUS__OPENING)
		return VMBUS_E_STATE;
	if (primary->subs_late) {
		if (count <= VMBUS__RELIDS - primary->subs_late) {
			primary->subs_late += count;
			return 0;
		}
		err = VMBUS_E_FULL;
	}
	while (n < count && !err) {
		err = offer_sub(primary);
		n += !err;
	}
	if (err && !primary->subs_late &&
	    (err == VMBUS_E_AGAIN || (err == VMBUS_E_FULL && lingers(primary)))) {
		primary->subs_late = count - n < VMBUS__RELIDS ? count - n : VMBUS__RELIDS;
		return 0;
	}
	if (err)
		vmbus__log(primary->bus, VMBUS_LOG_ERROR,
			   "channel %u (%s): only %u of %u sub-channels: %s", primary->relid,
			   primary->vsp->name, n, count, vmbus_err_name(err));
	return err;
}

/*
 * Offer sub-channels that nobody waits for an answer about.  If they are not to be had, the device has
 * promised the child what never comes: it begins anew.  Where no answer comes ever, once: a device that
 * then asks for as many again would have the child open and lose it without end.  Bus thread.
 */
static void offer_promised(struct vmbus_chan *primary, uint32_t count)
{
	const int err = vmbus__offer_subs(primary, count);

	if (!err || err == VMBUS_E_STATE || primary->anew)
		return;
	primary->anew = primary->own_fd;
	vmbus__revoke_subs(primary);
	(void)vmbus_srv_reoffer(primary->bus->srv, primary->ref);
	vmbus__chan_end(primary);
}

/* A sub-channel is gone: another one may have its index.  Bus thread. */
void vmbus__sub_removed(struct vmbus_chan *primary)
{
	const uint32_t count = primary->subs_late;

	primary->subs_late = 0;
	if (count)
		offer_promised(primary, count);
}

/* The same of one that is only the machine's, as after a restore. */
void vmbus__some_sub_removed(struct vmbus_bus *bus)
{
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && chan->subs_late)
			vmbus__sub_removed(chan);
	}
}

/* A child that connects has lost nothing yet. */
void vmbus__subs_connected(struct vmbus_bus *bus)
{
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan)
			chan->anew = false;
	}
}

/* What the channel's thread has asked for.  Bus thread. */
void vmbus__subs_asked(struct vmbus_chan *primary)
{
	offer_promised(primary, (uint32_t)vmbus__take(&primary->subs_wanted));
}

int vmbus_chan_offer_subchannels(struct vmbus_chan *chan, uint32_t count)
{
	if (vmbus__chan_primary(chan))
		return VMBUS_E_INVAL;
	if (chan->stage == VMBUS__SHUT)
		return VMBUS_E_STATE;
	if (count == 0 || count >= VMBUS__RELIDS)
		return VMBUS_E_RANGE;
	if (!chan->own_fd)
		return vmbus__offer_subs(chan, count);
	vmbus__add64_relaxed(&chan->subs_wanted, count); /* BITS.add */
	vmbus__chan_answer(chan, VMBUS__ANS_SUBS);
	return 0;
}

int vmbus_bus_revoke(struct vmbus_chan *chan)
{
	vmbus__chan_answer(chan, VMBUS__ANS_REVOKE);
	return 0;
}

/* Withdraw the sub-channels of a primary.  Bus thread. */
void vmbus__revoke_subs(struct vmbus_chan *primary)
{
	struct vmbus_bus *bus = primary->bus;
	uint32_t slot;

	primary->subs_late = 0;
	for (slot = 0; slot < bus->chans_max && primary->subs; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && vmbus__chan_primary(chan) == primary)
			vmbus__revoke(chan);
	}
}

/* A channel is on its way out: its primary, if it has one, counts it no more.  Once. */
void vmbus__forget_sub(struct vmbus_chan *chan)
{
	struct vmbus_chan *const primary = vmbus__chan_primary(chan);

	if (chan->revoked)
		return;
	chan->revoked = true;
	if (primary && --primary->subs == 0)
		primary->next_sub = 0;
}

/* Withdraw a channel, its sub-channels first, and close it.  Bus thread. */
void vmbus__revoke(struct vmbus_chan *chan)
{
	if (chan->revoked)
		return;
	vmbus__forget_sub(chan);
	vmbus__revoke_subs(chan);
	vmbus__chan_no_time(chan, &chan->accept_by);
	vmbus__note_step(chan, VMBUS_STEP_CLOSE, VMBUS_RECORD_REVOKE);
	(void)vmbus_srv_revoke(chan->bus->srv, chan->ref);
	vmbus__chan_end(chan);
	vmbus__kick(&chan->bus->kick);
}

/* A channel is closed and forgotten by the machine: the embedder hears of it a last time. */
void vmbus__chan_remove(struct vmbus_chan *chan)
{
	struct vmbus_bus *bus = chan->bus;
	uint32_t slot;

	vmbus__chan_no_time(chan, &chan->accept_by);
	vmbus__chan_no_time(chan, &chan->unstick_at);
	vmbus__chan_no_time(chan, &chan->drain_until);
	if (chan->offer_conn)
		vmbus__conn_remove(bus, chan->offer_conn, chan->slot);
	if (chan->monitor != VMBUS_MONITOR_NONE)
		bus->monitored[chan->monitor] = NULL;
	vmbus__st64_release(&bus->by_slot[chan->slot], 0); /* CHAN.set */
	vmbus__local_remove(bus, chan->slot);
	for (slot = 0; !vmbus__chan_primary(chan) && slot < bus->chans_max; slot++) {
		struct vmbus_chan *sub = vmbus__chan_at(bus, slot);

		if (sub && vmbus__chan_primary(sub) == chan)
			vmbus__st64_relaxed(&sub->primary, 0); /* PRIMARY.set; it lingers */
	}
	if ((chan->vsp->flags & VMBUS_VSP_FOREIGN) && chan->vsp->removed)
		chan->vsp->removed(chan);
	if (bus->opts.removed)
		bus->opts.removed(bus->opts.removed_ctx, chan);
	vmbus__journal_free(chan);
	vmbus__tap_drop(chan);
	chan->gone = true;
	bury(chan);
}
