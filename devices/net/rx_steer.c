/* SPDX-License-Identifier: MIT */
/*
 * Receive-side scaling: the hash of a frame by the guest's key, and which channel it goes to, when the
 * port has one queue for all of them.  Frames of other channels go to their inboxes; a port with a
 * queue for each channel has chosen by itself.
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

static void use_key(struct vmbus__net_chan *ch)
{
	struct vmbus__net_rx *const rx = ch->rx;

	if (rx->keyed && !memcmp(rx->key_bytes, ch->shape.key, sizeof(rx->key_bytes)))
		return;
	memcpy(rx->key_bytes, ch->shape.key, sizeof(rx->key_bytes));
	vmbus_frame_key(&rx->key, rx->key_bytes);
	rx->keyed = true;
}

static bool hash_of(const struct vmbus__net_chan *ch, const void *head, uint32_t head_bytes,
		    uint32_t bytes, uint32_t *hash)
{
	struct vmbus_frame_headers h;

	(void)vmbus_frame_look(head, head_bytes, bytes, &h);
	return vmbus_frame_hash(&ch->rx->key, ch->shape.hash, head, &h, hash);
}

/* What the guest is told of a frame's hash, if it has set up receive-side scaling; head is private. */
void vmbus__rx_tell_hash(struct vmbus__net_chan *ch, const void *head, uint32_t head_bytes,
			 uint32_t bytes, struct vmbus__ppis *ppis)
{
	if (!ch->shape.rss)
		return;
	use_key(ch);
	if (hash_of(ch, head, head_bytes, bytes, &ppis->hash))
		ppis->has |= VMBUS__PPI_HAS_HASH;
}

static uint32_t target_of(struct vmbus__net_chan *ch, const struct vmbus_frame *frame)
{
	const struct vmbus_iov *const first = &frame->piece[0];
	uint32_t hash, number;

	if (!hash_of(ch, first->base, (uint32_t)first->len, frame->bytes, &hash))
		return 0;
	number = ch->shape.table[hash & ch->shape.table_mask];
	/* One that is not open is the primary's. */
	return vmbus__ld32_acquire(&ch->session->seat[number].open) ? number : 0; /* NETSEAT.look */
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
