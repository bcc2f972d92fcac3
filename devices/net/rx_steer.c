/* SPDX-License-Identifier: MIT */
/*
 * Receive-side scaling: which channel a frame goes to, when the port has one queue for all of them.
 * Frames of other channels go to their inboxes; a port with a queue for each channel has chosen by
 * itself.
 *
 * [NET-RSS]
 */
#include "net/rx.h"

#include <string.h>

/* Whether frames of this channel's queue may be another one's. */
bool vmbus__rx_steers(const struct vmbus__net_chan *ch)
{
	return ch->shape.rss && vmbus__net_is_primary(ch) && ch->single_queue;
}

static uint32_t target_of(struct vmbus__net_chan *ch, const struct vmbus_frame *frame)
{
	const struct vmbus_iov *const first = &frame->piece[0];
	struct vmbus_frame_headers h;
	uint32_t hash, number;

	(void)vmbus_frame_look(first->base, (uint32_t)first->len, frame->bytes, &h);
	if (!vmbus_frame_hash(&ch->rx->key, ch->shape.hash, first->base, &h, &hash))
		return 0;
	number = ch->shape.table[hash & ch->shape.table_mask];
	/* One that is not open is the primary's. */
	return vmbus__ld32_acquire(&ch->session->seat[number].open) ? number : 0; /* NETSEAT.look */
}

static void use_key(struct vmbus__net_chan *ch)
{
	struct vmbus__net_rx *const rx = ch->rx;

	if (rx->keyed && !memcmp(rx->key_bytes, ch->shape.key, sizeof(rx->key_bytes)))
		return;
	memcpy(rx->key_bytes, ch->shape.key, sizeof(rx->key_bytes));
	vmbus_frame_key(&rx->key, rx->key_bytes);
	rx->keyed = true;
}

/* Frames that go to the same channel one after the other go together.  All of them are taken: what
   another channel has no room for is dropped there. */
uint32_t vmbus__rx_steer(struct vmbus__net_chan *ch, const struct vmbus_frame *frame, uint32_t n)
{
	uint32_t from = 0, to, target, next;

	use_key(ch);
	next = target_of(ch, &frame[0]);
	while (from < n) {
		uint32_t taken;

		target = next;
		for (to = from + 1u; to < n; to++) {
			next = target_of(ch, &frame[to]);
			if (next != target)
				break;
		}
		if (target == 0)
			taken = vmbus__rx_frames(ch, frame + from, to - from);
		else
			taken = vmbus__inbox_put(ch->session->seat[target].inbox, frame + from,
						 to - from, VMBUS__RX_TAG);
		if (taken < to - from && target == 0) {
			ch->rx->starves = true;
			return from + taken;
		}
		vmbus__net_count(ch, VMBUS__NET_NO_ROOM, to - from - taken);
		from = to;
	}
	return n;
}
