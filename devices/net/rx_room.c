/* SPDX-License-Identifier: MIT */
/*
 * Frames that a port writes into receive sections by itself.  Their RNDIS headers are written around
 * them afterwards.  A large frame has a room of many sections, of which those that it did not need are
 * free again at once.
 *
 * When frames are to be steered they go to private memory first, as they would from any other port.
 */
#include "net/rx.h"

#include <string.h>

#include "base/untrusted.h"

#define ETHERNET_BYTES 14u
#define TAG_BYTES 4u
#define MAC_BYTES 6u
#define TURNS 4u
#define HEAD_MAX (VMBUS__RNDIS_PACKET_BYTES + VMBUS__PPI_ALL_BYTES)

/* Sections of a room: for what the guest takes at most. */
static uint32_t sections_of(const struct vmbus__net_chan *ch)
{
	const uint32_t each = ch->shape.receive->section_bytes - VMBUS__RX_FRAME_AT;
	uint32_t n = 1, room = each;

	if (!ch->shape.rsc4 && !ch->shape.rsc6)
		return 1;
	while (room < VMBUS_FRAME_BYTES_MAX) {
		room += each;
		n++;
	}
	return n;
}

/* ---- rooms of the guest's ---- */

/* A room of each sections, from span number at on.  Returns the spans, 0: there are not enough. */
static uint32_t make_one(struct vmbus__net_chan *ch, uint32_t each, uint32_t at,
			 struct vmbus_port_room *room)
{
	const struct vmbus__net_buffer *const buffer = ch->shape.receive;
	struct vmbus__net_rx *const rx = ch->rx;
	const uint32_t bytes = buffer->section_bytes - VMBUS__RX_FRAME_AT;
	uint32_t i, n, spans = 0;

	*room = (struct vmbus_port_room){ .span = &rx->span[at] };
	for (i = 0; i < each; i++) {
		const uint32_t section = vmbus__rx_take(ch);
		const uint64_t offset =
			(uint64_t)section * buffer->section_bytes + VMBUS__RX_FRAME_AT;

		n = vmbus__net_buffer_spans(buffer, offset, bytes, &rx->span[at + spans],
					    VMBUS__RX_SPANS - at - spans);
		rx->section[i + rx->taken] = section;
		spans += n;
	}
	rx->taken += each;
	room->spans = spans;
	room->room = each == 1 ? vmbus__rx_frame_max(&ch->shape) + TAG_BYTES : bytes * each;
	if (each == 1 && room->room > bytes)
		room->room = bytes;
	return spans;
}

/* Spans that a section can have: it may begin and end within pages. */
static uint32_t spans_max(const struct vmbus__net_chan *ch)
{
	return ch->shape.receive->section_bytes / VMBUS_PAGE_BYTES + 2u;
}

static uint32_t make_rooms(struct vmbus__net_chan *ch, uint32_t each)
{
	struct vmbus__net_rx *const rx = ch->rx;
	const uint32_t spans = spans_max(ch) * each;
	uint32_t n = 0, at = 0;

	rx->taken = 0;
	while (n < VMBUS_PORT_BURST && each <= rx->free.count && spans <= VMBUS__RX_SPANS - at &&
	       rx->taken + each <= rx->ranges_max)
		at += make_one(ch, each, at, &rx->room[n++]);
	return n;
}

/* Whether the port has said what can be. */
static bool is_possible(const struct vmbus_port_room *room)
{
	return room->bytes >= ETHERNET_BYTES && room->bytes <= room->room;
}

/* The first byte of a room is in the guest's memory, and read once: what the guest writes there
   changes which of its own frames it has. */
static bool is_wanted(struct vmbus__net_chan *ch, const struct vmbus_port_room *room)
{
	const uint32_t most = vmbus__rx_frame_max(&ch->shape) + TAG_BYTES;
	uint8_t mac[MAC_BYTES];

	if (!is_possible(room) ||
	    (room->bytes > most && !vmbus__rx_is_large(&ch->shape, room->flags))) {
		vmbus__net_count(ch, VMBUS__NET_TOO_LONG, 1);
		return false;
	}
	if (VMBUS_UNLIKELY(!ch->shape.link)) {
		vmbus__net_count(ch, VMBUS__NET_STOPPED, 1);
		return false;
	}
	if (ch->shape.filter & 0x20u)
		return true;
	vmbus__peer_read(mac, room->span[0].base, sizeof(mac));
	if (vmbus__rx_wanted(ch, mac))
		return true;
	vmbus__net_count(ch, VMBUS__NET_FILTERED, 1);
	return false;
}

/* The frame's begin is in the guest's memory, and read once; it may go across a page. */
static void tell_hash(struct vmbus__net_chan *ch, const struct vmbus_port_room *room,
		      struct vmbus__ppis *ppis)
{
	const uint32_t most = room->bytes < VMBUS_FRAME_HEAD ? room->bytes : VMBUS_FRAME_HEAD;
	uint8_t head[VMBUS_FRAME_HEAD];
	uint32_t have = 0, i;

	for (i = 0; have < most && i < room->spans; i++) {
		const struct vmbus_span *const span = &room->span[i];
		const uint32_t some = span->len < most - have ? (uint32_t)span->len : most - have;

		vmbus__peer_read(head + have, span->base, some);
		have += some;
	}
	vmbus__rx_tell_hash(ch, head, have, room->bytes, ppis);
}

static void told(struct vmbus__net_chan *ch, const struct vmbus_port_room *room,
		 struct vmbus__ppis *ppis)
{
	if (ch->shape.rss)
		tell_hash(ch, room, ppis);
	ppis->csum = vmbus__rx_csum_word(room->flags, room->csum_offset);
	if (ppis->csum && ch->shape.rx & VMBUS_FRAME_CSUM)
		ppis->has |= VMBUS__PPI_HAS_CSUM;
	if (room->flags & VMBUS_FRAME_VLAN) {
		ppis->has |= VMBUS__PPI_HAS_VLAN;
		ppis->vlan = vmbus__ppi_vlan_of_tag(room->vlan);
	}
}

/* The header of some bytes in a section; the section joins the packet. */
static void put_header(struct vmbus__net_chan *ch, uint32_t section, uint32_t some,
		       const struct vmbus__ppis *ppis)
{
	const struct vmbus__net_buffer *const buffer = ch->shape.receive;
	uint8_t head[HEAD_MAX];
	const uint32_t ppi_bytes = vmbus__ppi_put(head + VMBUS__RNDIS_PACKET_BYTES, ppis);
	const uint32_t head_bytes = VMBUS__RNDIS_PACKET_BYTES + ppi_bytes;
	const uint32_t into = VMBUS__RX_FRAME_AT - head_bytes;
	const uint64_t offset = (uint64_t)section * buffer->section_bytes + into;

	vmbus__rndis_packet_put(head, head_bytes + some, some, ppi_bytes);
	if (VMBUS_LIKELY(buffer->at[section] != NULL))
		vmbus__peer_write(buffer->at[section] + into, head, head_bytes);
	else
		vmbus__net_buffer_write(buffer, offset, head, head_bytes);
	vmbus__rx_range(ch->rx, head_bytes + some, (uint32_t)offset);
	vmbus__rx_add(ch, section);
}

#define SUM_PIECES 128u

/* The frame as its head in private memory, and pieces of the guest's.  Returns whether it is one. */
static bool as_frame(const struct vmbus_port_room *room, uint8_t *head, struct vmbus_iov *piece,
		     struct vmbus_frame *frame)
{
	const uint32_t most = room->bytes < VMBUS_FRAME_HEAD ? room->bytes : VMBUS_FRAME_HEAD;
	uint32_t have = 0, left = room->bytes, n = 1, i;

	for (i = 0; left && i < room->spans; i++) {
		uint8_t *base = room->span[i].base;
		uint32_t len = room->span[i].len < left ? (uint32_t)room->span[i].len : left;
		const uint32_t some = len < most - have ? len : most - have;

		vmbus__peer_read(head + have, base, some);
		have += some;
		left -= len;
		len -= some;
		if (len && n == SUM_PIECES)
			return false;
		if (len)
			piece[n++] = (struct vmbus_iov){ .base = base + some, .len = len };
	}
	piece[0] = (struct vmbus_iov){ .base = head, .len = have };
	*frame = (struct vmbus_frame){ .piece = piece,
				       .pieces = n,
				       .bytes = room->bytes,
				       .flags = VMBUS_FRAME_CSUM,
				       .csum_start = room->csum_start,
				       .csum_offset = room->csum_offset };
	return left == 0;
}

/* A sum that is due is made: a guest may look at it whatever it is told, and does not say so.  Bytes
   that it changes meanwhile make a wrong one of its own frame. */
static void make_sum(struct vmbus__net_chan *ch, struct vmbus_port_room *room, uint32_t section)
{
	const struct vmbus__net_buffer *const buffer = ch->shape.receive;
	const uint32_t at = (uint32_t)room->csum_start + room->csum_offset;
	struct vmbus_iov piece[SUM_PIECES];
	uint8_t head[VMBUS_FRAME_HEAD];
	struct vmbus_frame frame;

	if (!as_frame(room, head, piece, &frame) || vmbus_frame_checksum(&frame, head))
		return;
	vmbus__net_buffer_write(buffer,
				(uint64_t)section * buffer->section_bytes + VMBUS__RX_FRAME_AT + at,
				head + at, 2);
	room->flags = (room->flags & ~VMBUS_FRAME_CSUM) | VMBUS_FRAME_CSUM_OK;
	vmbus__net_count(ch, VMBUS__NET_SUMMED, 1);
}

/* A frame that the port has written, into each sections from sections[0] on.  Returns how many of
   them are used. */
static uint32_t finish(struct vmbus__net_chan *ch, struct vmbus_port_room *room,
		       const uint32_t *sections, uint32_t each)
{
	const uint32_t bytes = ch->shape.receive->section_bytes - VMBUS__RX_FRAME_AT;
	uint32_t left = room->bytes, i;

	if (!is_wanted(ch, room))
		return 0;
	if (room->flags & VMBUS_FRAME_CSUM)
		make_sum(ch, room, sections[0]);
	for (i = 0; left && i < each; i++) {
		const uint32_t some = left < bytes ? left : bytes;
		struct vmbus__ppis ppis = { 0 };

		if (i == 0)
			told(ch, room, &ppis);
		if (room->bytes > bytes) {
			ppis.has |= VMBUS__PPI_HAS_ID;
			ppis.id = VMBUS__PPI_ID_VERSION |
				  (VMBUS__PPI_ID_RSC | (i ? 0 : VMBUS__PPI_ID_FIRST) |
				   (some == left ? VMBUS__PPI_ID_LAST : 0))
					  << 8;
		}
		put_header(ch, sections[i], some, &ppis);
		left -= some;
	}
	ch->rx->used = 0;
	ch->rx->frames++;
	ch->rx->bytes += room->bytes;
	return i;
}

/* Returns whether there may be more: all rooms are full. */
static bool receive_in_place(struct vmbus__net_chan *ch)
{
	const struct vmbus_port_ops *const ops = ch->net->opts.port.ops;
	struct vmbus__net_rx *const rx = ch->rx;
	uint32_t each = sections_of(ch), n, got, i, k, at = 0;

	/* The channel has not so many at all, so that none will come back. */
	if (VMBUS_UNLIKELY(each > rx->free.count && vmbus__rx_has_all(ch)))
		each = 1;
	if (!vmbus__rx_open(ch, rx->ranges_max < VMBUS_PORT_BURST * each ? rx->ranges_max
									 : VMBUS_PORT_BURST * each))
		return false;
	n = make_rooms(ch, each);
	if (n == 0) {
		rx->starves = true;
		return false;
	}
	got = ops->receive(&ch->queue, rx->room, n);
	if (got > n)
		got = n;
	for (i = 0; i < n; i++, at += each) {
		k = i < got ? finish(ch, &rx->room[i], &rx->section[at], each) : 0;
		for (; k < each; k++)
			vmbus__rx_give(ch, rx->section[at + k]);
	}
	return got == n;
}

/* ---- private rooms, to be steered ---- */

/* Frames of the rooms that the port has filled; returns how many are ones. */
static uint32_t bounced(struct vmbus__net_chan *ch, uint32_t got)
{
	struct vmbus__net_rx *const rx = ch->rx;
	uint32_t i, n = 0;

	for (i = 0; i < got; i++) {
		const struct vmbus_port_room *const room = &rx->room[i];

		if (!is_possible(room)) {
			vmbus__net_count(ch, VMBUS__NET_TOO_LONG, 1);
			continue;
		}
		rx->piece[n] = (struct vmbus_iov){ .base = room->span->base, .len = room->bytes };
		rx->frame[n] = (struct vmbus_frame){ .piece = &rx->piece[n],
						     .pieces = 1,
						     .bytes = room->bytes,
						     .flags = room->flags,
						     .csum_start = room->csum_start,
						     .csum_offset = room->csum_offset,
						     .header_bytes = room->header_bytes,
						     .mss = room->mss,
						     .vlan = room->vlan };
		n++;
	}
	return n;
}

static bool receive_to_steer(struct vmbus__net_chan *ch)
{
	const struct vmbus_port_ops *const ops = ch->net->opts.port.ops;
	const bool large = ch->shape.rsc4 || ch->shape.rsc6;
	const uint32_t each =
		large ? VMBUS_FRAME_BYTES_MAX + 7u : vmbus__rx_frame_max(&ch->shape) + TAG_BYTES;
	struct vmbus__net_rx *const rx = ch->rx;
	uint32_t n, got, frames, i = 0;

	for (n = 0; n < VMBUS_PORT_BURST && each <= VMBUS__RX_SCRATCH - n * each; n++) {
		rx->span[n] = (struct vmbus_span){ .base = rx->bounce + n * each, .len = each };
		rx->room[n] =
			(struct vmbus_port_room){ .span = &rx->span[n], .spans = 1, .room = each };
	}
	got = ops->receive(&ch->queue, rx->room, n);
	if (got > n)
		got = n;
	frames = bounced(ch, got);
	/* What finds no section cannot be given back to the port; those behind it may be another channel's. */
	while (i < frames) {
		i += vmbus__net_deliver(&ch->queue, rx->frame + i, frames - i);
		vmbus__net_count(ch, VMBUS__NET_NO_ROOM, i < frames);
		i++;
	}
	return got == n && !rx->starves;
}

/* Without memory to steer frames, those of all channels are the primary's. */
static bool can_steer(struct vmbus__net_chan *ch)
{
	if (!vmbus__rx_steers(ch))
		return false;
	if (VMBUS_UNLIKELY(!ch->rx->bounce))
		ch->rx->bounce = vmbus__rx_bounce();
	return ch->rx->bounce != NULL;
}

/* The descriptor of a port may not be readable for what it has left, so it is asked until it has none;
   when that takes long, in another callback. */
void vmbus__rx_receive(struct vmbus__net_chan *ch)
{
	uint32_t i;

	for (i = 0; i < TURNS; i++)
		if (!(can_steer(ch) ? receive_to_steer(ch) : receive_in_place(ch)))
			return;
	ch->rx->poll_due = true;
	vmbus__inbox_ring(ch->seat->inbox);
}
