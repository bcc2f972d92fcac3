/* SPDX-License-Identifier: MIT */
/*
 * Listings: what a channel is, and its counters.
 */
#include "bus/bus.h"

#include <string.h>

static uint32_t state_of(const struct vmbus_chan *chan)
{
	switch (chan->local) {
	case VMBUS__OPENING:
		return VMBUS_SRV_OPENING;
	case VMBUS__OPEN:
		return VMBUS_SRV_OPENED;
	case VMBUS__CLOSING:
		return VMBUS_SRV_CLOSING;
	case VMBUS__CLOSED:
	default:
		return VMBUS_SRV_CLOSED;
	}
}

/* Data bytes of both rings of an open channel, the one from the child first. */
static uint32_t ring_bytes(const struct vmbus_chan *chan, uint32_t which)
{
	const struct vmbus__rings *r = &chan->rings;

	if (!r->mapped)
		return 0;
	return ((which ? r->total - r->down_page : r->down_page) - 1u) * VMBUS_PAGE_BYTES;
}

/* What does not change while the channel is offered, and what the bus thread knows. */
static void fill(const struct vmbus_chan *chan, struct vmbus_chan_info *info)
{
	*info = (struct vmbus_chan_info){
		.class_id = chan->offer.class_id,
		.instance_id = chan->offer.instance_id,
		.vsp = chan->vsp->name,
		.relid = chan->relid,
		.sub_index = chan->sub_index,
		.conn_id = chan->conn_id ? chan->conn_id : chan->offer_conn,
		.target_vp = chan->vp,
		.send_bytes = ring_bytes(chan, 1),
		.recv_bytes = ring_bytes(chan, 0),
		.subchannels = chan->subs,
		.mirrored = chan->rings.mirror[0] && chan->rings.mirror[1],
		.faulted = chan->faulted,
		.fault = chan->last_fault,
		.opens = chan->opens,
	};
}

static void shown(const struct vmbus_chan *chan, struct vmbus_chan_info *info)
{
	struct vmbus_ring_stats stats[2];
	uint64_t words[16];
	uint32_t i;

	for (i = 0; i < 16; i++)
		words[i] = vmbus__ld64_relaxed(&chan->shown[i]); /* COUNT.read */
	memcpy(stats, words, sizeof(stats));
	info->send = stats[0];
	info->recv = stats[1];
}

void vmbus_chan_info(const struct vmbus_chan *chan, struct vmbus_chan_info *info)
{
	fill(chan, info);
	info->state = vmbus_srv_state_name(state_of(chan));
	info->bad_completions = vmbus__ld64_relaxed(&chan->bad_completions); /* COUNT.read */
	if (chan->own_fd) {
		shown(chan, info);
		return;
	}
	vmbus_ring_tx_stats(&chan->tx, &info->send);
	vmbus_ring_rx_stats(&chan->rx, &info->recv);
}

void vmbus_bus_list(struct vmbus_bus *bus,
		    void (*fn)(void *ctx, const struct vmbus_chan_info *info), void *ctx)
{
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max; slot++) {
		const struct vmbus_chan *chan = vmbus__chan_at(bus, slot);
		struct vmbus_srv_info machine;
		struct vmbus_chan_info info;

		if (!chan || vmbus_srv_info(bus->srv, slot, &machine) != 1)
			continue;
		vmbus_chan_info(chan, &info);
		info.state = vmbus_srv_state_name(machine.state);
		info.relid = machine.relid;
		fn(ctx, &info);
	}
}
