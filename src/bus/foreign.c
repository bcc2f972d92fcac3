/* SPDX-License-Identifier: MIT */
/*
 * Channels whose rings another process serves.  The bus has their pages checked and pinned, opens and
 * closes them like any other, and touches no byte of theirs: what is told here is where the rings
 * are, and how the child and who serves it signal each other past the bus.
 *
 * A signal that comes by the bus all the same, because the backend cannot bind or the child was
 * quicker, is handed on by the channel's turn.
 *
 * Bus thread, but for vmbus_bus_wake_changed().
 */
#include "bus/bus.h"

#include <sys/eventfd.h>

#include "base/dirty.h"

#define ALL_VPS UINT64_MAX

/* From the call of open() until that of close(). */
static bool is_up(const struct vmbus_chan *chan)
{
	return chan->foreign && chan->stage != VMBUS__SHUT;
}

/* Why not. */
static int not_up(const struct vmbus_chan *chan)
{
	return chan->foreign ? VMBUS_E_STATE : VMBUS_E_INVAL;
}

int vmbus_chan_rings(const struct vmbus_chan *chan, struct vmbus_chan_rings *rings)
{
	if (!is_up(chan))
		return not_up(chan);
	*rings = (struct vmbus_chan_rings){
		.frames = chan->rings.frames,
		.pages = chan->rings.total,
		.down_page = chan->rings.down_page,
		.gpadl = chan->ring_gpadl,
		.conn_id = chan->conn_id,
		.target_vp = chan->target_vp,
		.target_sint = chan->target_sint,
		.event_flag = chan->event_flag,
	};
	return 0;
}

/* The turn of a channel that is open or opening: a signal came by the bus, or is owed. */
void vmbus__foreign_signal(struct vmbus_chan *chan)
{
	if (chan->vsp->signalled)
		chan->vsp->signalled(chan);
	else if (chan->sink_fd >= 0)
		(void)!eventfd_write(chan->sink_fd, 1);
}

void vmbus__foreign_unbind(struct vmbus_chan *chan)
{
	const struct vmbus_bus *bus = chan->bus;

	if (chan->sunk)
		(void)bus->opts.backend->unbind(bus->opts.backend_ctx, chan->conn_id);
	chan->sunk = false;
	chan->sink_fd = -1;
}

int vmbus_chan_bind(struct vmbus_chan *chan, int fd)
{
	const struct vmbus_bus *bus = chan->bus;
	const struct vmbus_backend *backend = bus->opts.backend;

	if (fd < -1)
		return VMBUS_E_INVAL;
	if (!is_up(chan))
		return not_up(chan);
	vmbus__foreign_unbind(chan); /* no backend has two for one id */
	if (fd < 0)
		return 0;
	chan->sink_fd = fd;
	chan->sunk = backend->bind && !backend->bind(bus->opts.backend_ctx, chan->conn_id, fd);
	vmbus__chan_look(chan, chan->slot); /* for signals that came before */
	return 0;
}

void vmbus_chan_signal(struct vmbus_chan *chan)
{
	if (is_up(chan))
		vmbus__chan_raise(chan);
}

int vmbus_chan_wake(struct vmbus_chan *chan, struct vmbus_wake *wake)
{
	const struct vmbus_bus *bus = chan->bus;
	const struct vmbus_backend *backend = bus->opts.backend;
	int err;

	if (!is_up(chan) || chan->target_vp == VMBUS_VP_NONE)
		return VMBUS_E_STATE;
	if (!backend->wake)
		return VMBUS_E_NOTSUP;
	*wake = (struct vmbus_wake){ .fd = -1 };
	err = backend->wake(bus->opts.backend_ctx, chan->target_vp, chan->target_sint, wake);
	return err ? VMBUS_E_NOTSUP : 0;
}

void vmbus_bus_wake_changed(struct vmbus_bus *bus, uint32_t vp)
{
	const uint64_t bits = vp == VMBUS_VP_NONE ? ALL_VPS : (uint64_t)1 << vp % 64u;

	vmbus__or64_release(&bus->woken, bits);		      /* BITS.add */
	vmbus__or64_release(&bus->events, VMBUS__EV_FOREIGN); /* BITS.add */
	vmbus__kick(&bus->kick);
}

/* Have the owners of channels ask again how their VP is woken. */
static void woken(struct vmbus_bus *bus, uint64_t vps)
{
	uint32_t slot;

	vmbus__charge(bus, bus->chans_max / VMBUS__LOOKS_PER_UNIT);
	for (slot = 0; slot < bus->chans_max; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && is_up(chan) && chan->target_vp != VMBUS_VP_NONE &&
		    vps >> chan->target_vp % 64u & 1u && chan->vsp->modified)
			chan->vsp->modified(chan);
	}
}

/* What the backend, or an owner, has told since the last dispatch. */
void vmbus__foreign_events(struct vmbus_bus *bus)
{
	const uint64_t vps = vmbus__take(&bus->woken);

	if (vps && bus->foreign)
		woken(bus, vps);
	if (bus->waiting)
		vmbus__lists_poll(bus);
}

/* Who serves the rings has written to them: all of their pages may be new. */
void vmbus__foreign_dirty(const struct vmbus_chan *chan)
{
	const struct vmbus_dirty *dirty = chan->bus->opts.dirty;
	uint32_t page;

	for (page = 0; dirty && page < chan->rings.total; page++)
		vmbus__dirty_frame(dirty, chan->rings.frames[page]);
}
