/* SPDX-License-Identifier: MIT */
/*
 * Frames that are copied into receive sections: what the guest wants of them, and how they lie there.
 * Small ones lie side by side in a section, each with a range of the packet.  Memory of the guest's is
 * written here, never read.
 *
 * [NET-DATA], [NET-PPI]
 */
#include "net/rx.h"

#include <string.h>

#include "base/untrusted.h"

#define ETHERNET_BYTES 14u
#define TAG_BYTES 4u
#define MAC_BYTES 6u
#define ALIGN 8u
#define AHEAD 3u      /* messages that are written before those whose lines are asked for */
#define ID_BYTES 16u  /* of the information that makes a fragment of a message */
#define PPI_BYTES 64u /* of all that we put */
#define LARGE (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6)
#define TCP_SUM 16u

/* struct vmbus__net_shape.filter, [NET-OID] */
#define DIRECTED 0x1u
#define MULTICAST 0x6u /* a list of no entries is all of them */
#define BROADCAST 0x8u
#define PROMISCUOUS 0x20u

static uint64_t mac_word(const uint8_t *mac)
{
	uint64_t v = 0;

	memcpy(&v, mac, MAC_BYTES);
	return v;
}

/* Whether the filter lets a frame to this address through. */
bool vmbus__rx_wanted(const struct vmbus__net_chan *ch, const uint8_t *mac)
{
	static const uint8_t all[MAC_BYTES] = { 255, 255, 255, 255, 255, 255 };
	const struct vmbus__net_shape *const shape = &ch->shape;
	const uint64_t word = mac_word(mac);

	if (VMBUS_LIKELY(!(mac[0] & 1u) && word == mac_word(shape->mac) &&
			 shape->filter & DIRECTED))
		return true;
	if (shape->filter & PROMISCUOUS)
		return true;
	/* A guest that changed its address and starts again may use the one that we gave it. */
	if (!(mac[0] & 1u))
		return word == mac_word(ch->net->mac) && shape->filter & DIRECTED;
	return (shape->filter & (memcmp(mac, all, MAC_BYTES) ? MULTICAST : BROADCAST)) != 0;
}

/* The longest frame that is not in fragments. */
uint32_t vmbus__rx_frame_max(const struct vmbus__net_shape *shape)
{
	return shape->mtu + ETHERNET_BYTES;
}

/* Whether the guest takes a frame with these flags as it is, in fragments. */
bool vmbus__rx_is_large(const struct vmbus__net_shape *shape, uint32_t flags)
{
	return (flags & VMBUS_FRAME_TSO4 && shape->rsc4) ||
	       (flags & VMBUS_FRAME_TSO6 && shape->rsc6);
}

/* What the guest is told of checksums. */
uint32_t vmbus__rx_csum_word(uint32_t flags, uint32_t csum_offset)
{
	if (flags & VMBUS_FRAME_CSUM)
		return csum_offset == TCP_SUM ? VMBUS__PPI_CSUM_TCP_OK | VMBUS__PPI_CSUM_TCP_VALUE
					      : VMBUS__PPI_CSUM_UDP_OK;
	return flags & VMBUS_FRAME_CSUM_OK ? VMBUS__PPI_CSUM_TCP_OK | VMBUS__PPI_CSUM_UDP_OK : 0;
}

/* ---- where it goes ---- */

/* A place in the packet: in one piece of memory, or anywhere in the buffer. */
struct place {
	const struct vmbus__net_buffer *buffer;
	uint8_t *at; /* NULL: by offset */
	uint64_t offset;
};

static void put(struct place *place, const void *from, uint64_t len)
{
	if (VMBUS_LIKELY(place->at != NULL)) {
		vmbus__peer_write(place->at, from, len);
		place->at += len;
	} else {
		vmbus__net_buffer_write(place->buffer, place->offset, from, len);
	}
	place->offset += len;
}

static struct place place_of(const struct vmbus__net_buffer *buffer, uint32_t section,
			     uint32_t into)
{
	uint8_t *const at = buffer->at[section];

	return (struct place){ .buffer = buffer,
			       .at = at ? at + into : NULL,
			       .offset = (uint64_t)section * buffer->section_bytes + into };
}

/* Room for a message of len bytes, with a range of the packet.  Returns whether there is any. */
static VMBUS_INLINE bool make_room(struct vmbus__net_chan *ch, uint32_t len, struct place *place)
{
	const struct vmbus__net_buffer *const buffer = ch->shape.receive;
	struct vmbus__net_rx *const rx = ch->rx;
	uint32_t section = rx->chain.last, into = rx->used;

	if (VMBUS_UNLIKELY(rx->ranges >= rx->ranges_max || rx->stuck)) {
		if (!vmbus__rx_open(ch, 1))
			return false;
		into = rx->used;
	}
	if (into == 0 || len > buffer->section_bytes - into) {
		section = vmbus__rx_take(ch);
		if (VMBUS_UNLIKELY(section == VMBUS__NET_NONE))
			return false;
		vmbus__rx_add(ch, section);
		into = 0;
	}
	*place = place_of(buffer, section, into);
	vmbus__rx_range(rx, len, (uint32_t)place->offset);
	into += (len + ALIGN - 1u) / ALIGN * ALIGN;
	rx->used = into < rx->pack_bytes ? into : 0;
	rx->frames++;
	return true;
}

/* Ask for the lines that a message of this size will be written to, some messages from now: len bytes of
   a section are used, or all of it. */
static VMBUS_INLINE void own_ahead(const struct vmbus__net_chan *ch, uint32_t len)
{
	const struct vmbus__net_buffer *const buffer = ch->shape.receive;
	const struct vmbus__net_rx *const rx = ch->rx;
	uint32_t section = rx->chain.last, into = rx->used + AHEAD * len;

	if (rx->free.count < AHEAD)
		return;
	if (2u * len > buffer->section_bytes) { /* one each */
		section = buffer->next[buffer->next[rx->free.first]];
		into = 0;
	} else if (rx->used == 0 || into > buffer->section_bytes - len) {
		section = rx->free.first;
		into = rx->used ? into - (buffer->section_bytes - len) : 0;
	}
	if (VMBUS_LIKELY(buffer->at[section] && into <= buffer->section_bytes - len))
		vmbus__peer_will_write_all((uintptr_t)buffer->at[section] + into, len);
}

/* ---- a frame as it is ---- */

/* As vmbus__rndis_packet_put() with no information, in whole words. */
static VMBUS_INLINE void put_head(uint8_t *to, uint32_t bytes, uint32_t data_bytes)
{
	vmbus__rx_word(to, VMBUS__RNDIS_PACKET | (uint64_t)bytes << 32);
	vmbus__rx_word(to + 8, VMBUS__RNDIS_PPI_OFFSET | (uint64_t)data_bytes << 32);
	__builtin_memset(to + 16, 0, VMBUS__RNDIS_PACKET_BYTES - 16u);
}

static void put_pieces(struct place *place, const struct vmbus_frame *frame)
{
	uint32_t i;

	for (i = 0; i < frame->pieces; i++)
		put(place, frame->piece[i].base, frame->piece[i].len);
}

/* A frame that fits, with information before it.  Returns whether there is room. */
static bool put_frame(struct vmbus__net_chan *ch, const struct vmbus_frame *frame,
		      const uint8_t *ppi, uint32_t ppi_bytes)
{
	const uint32_t len = VMBUS__RNDIS_PACKET_BYTES + ppi_bytes + frame->bytes;
	uint8_t head[VMBUS__RNDIS_PACKET_BYTES + PPI_BYTES];
	struct place place;

	if (VMBUS_UNLIKELY(!make_room(ch, len, &place)))
		return false;
	ch->rx->bytes += frame->bytes;
	vmbus__rndis_packet_put(head, len, frame->bytes, ppi_bytes);
	if (ppi_bytes) {
		memcpy(head + VMBUS__RNDIS_PACKET_BYTES, ppi, ppi_bytes);
		put(&place, head, VMBUS__RNDIS_PACKET_BYTES + ppi_bytes);
	} else {
		put(&place, head, VMBUS__RNDIS_PACKET_BYTES);
	}
	put_pieces(&place, frame);
	return true;
}

/* The commonest: in one piece, with nothing to be told of it. */
static VMBUS_INLINE bool put_plain(struct vmbus__net_chan *ch, const struct vmbus_frame *frame)
{
	const uint32_t len = VMBUS__RNDIS_PACKET_BYTES + frame->bytes;
	struct place place;

	if (VMBUS_UNLIKELY(!make_room(ch, len, &place)))
		return false;
	own_ahead(ch, len);
	ch->rx->bytes += frame->bytes;
	if (VMBUS_LIKELY(place.at && frame->pieces == 1u)) {
		put_head(place.at, len, frame->bytes);
		vmbus__peer_write(place.at + VMBUS__RNDIS_PACKET_BYTES, frame->piece[0].base,
				  frame->bytes);
	} else {
		uint8_t head[VMBUS__RNDIS_PACKET_BYTES];

		put_head(head, len, frame->bytes);
		put(&place, head, sizeof(head));
		put_pieces(&place, frame);
	}
	return true;
}

/* ---- a frame with something to be done, or told ---- */

static uint32_t put_ppis(struct vmbus__net_chan *ch, const struct vmbus_frame *frame, uint8_t *ppi)
{
	struct vmbus__ppis ppis = { 0 };

	if (frame->flags & VMBUS_FRAME_VLAN) {
		ppis.has |= VMBUS__PPI_HAS_VLAN;
		ppis.vlan = vmbus__ppi_vlan_of_tag(frame->vlan);
	}
	ppis.csum = vmbus__rx_csum_word(frame->flags, frame->csum_offset);
	if (ppis.csum && ch->shape.rx & VMBUS_FRAME_CSUM)
		ppis.has |= VMBUS__PPI_HAS_CSUM;
	vmbus__rx_tell_hash(ch, frame->piece[0].base, (uint32_t)frame->piece[0].len, frame->bytes,
			    &ppis);
	return ppis.has ? vmbus__ppi_put(ppi, &ppis) : 0;
}

/* The whole frame in private memory, as one piece.  Without memory it is lost: it would wait for ever. */
static bool gather(struct vmbus__net_chan *ch, const struct vmbus_frame *frame,
		   struct vmbus_frame *copy, struct vmbus_iov *piece)
{
	uint8_t *const to = vmbus__rx_scratch(ch);
	uint32_t at = 0, i;

	if (!to) {
		vmbus__net_count(ch, VMBUS__NET_NO_ROOM, 1);
		return false;
	}
	for (i = 0; i < frame->pieces; i++) {
		vmbus__peer_read(to + at, frame->piece[i].base, frame->piece[i].len);
		at += (uint32_t)frame->piece[i].len;
	}
	*piece = (struct vmbus_iov){ .base = to, .len = at };
	*copy = *frame;
	copy->piece = piece;
	copy->pieces = 1;
	return true;
}

/* One that is no large one: its sum is made, since a guest may look at it, and its tag is put in if
   the guest takes none beside the frame. */
static bool put_small(struct vmbus__net_chan *ch, const struct vmbus_frame *frame)
{
	const bool sum = (frame->flags & (VMBUS_FRAME_CSUM | VMBUS_FRAME_IP_CSUM)) != 0;
	struct vmbus_frame_tagged tagged;
	struct vmbus_frame copy, out;
	struct vmbus_iov piece;
	uint8_t ppi[PPI_BYTES + VMBUS__PPI_ALL_BYTES];
	uint32_t ppi_bytes;

	if (sum) {
		if (!gather(ch, frame, &copy, &piece))
			return true;
		(void)vmbus_frame_checksum(&copy, ch->rx->scratch);
		frame = &copy;
	}
	if (frame->flags & VMBUS_FRAME_VLAN && !(ch->shape.rx & VMBUS_FRAME_VLAN) &&
	    vmbus_frame_tag(&tagged, frame, &out) == 0)
		frame = &out;
	ppi_bytes = put_ppis(ch, frame, ppi);
	if (!put_frame(ch, frame, ppi, ppi_bytes))
		return false;
	vmbus__net_count(ch, VMBUS__NET_SUMMED, sum);
	return true;
}

/* ---- large frames ---- */

/* Bytes of a frame, from its begin on. */
static void put_part(struct place *place, const struct vmbus_frame *frame, uint32_t skip,
		     uint32_t len)
{
	uint32_t i;

	for (i = 0; i < frame->pieces && len; i++) {
		const uint32_t have = (uint32_t)frame->piece[i].len;
		uint32_t some;

		if (skip >= have) {
			skip -= have;
			continue;
		}
		some = have - skip < len ? have - skip : len;
		put(place, (const uint8_t *)frame->piece[i].base + skip, some);
		len -= some;
		skip = 0;
	}
}

/* In fragments, in sections of the same packet.  Returns whether there is room. */
static bool put_fragments(struct vmbus__net_chan *ch, const struct vmbus_frame *frame)
{
	const struct vmbus__net_buffer *const buffer = ch->shape.receive;
	uint8_t ppi[PPI_BYTES + VMBUS__PPI_ALL_BYTES], head[VMBUS__RNDIS_PACKET_BYTES];
	const uint32_t each = buffer->section_bytes - VMBUS__RX_FRAME_AT;
	const uint32_t count = frame->bytes / each + (frame->bytes % each != 0);
	uint32_t i, done = 0;

	if (VMBUS_UNLIKELY(ch->rx->free.count < count && vmbus__rx_has_all(ch))) {
		vmbus__net_count(ch, VMBUS__NET_TOO_LONG, 1); /* so it is for ever */
		return true;
	}
	if (ch->rx->free.count < count || !vmbus__rx_open(ch, count))
		return false;
	for (i = 0; i < count; i++) {
		const uint32_t some = frame->bytes - done < each ? frame->bytes - done : each;
		struct vmbus__ppis id = { .has = VMBUS__PPI_HAS_ID, .id = VMBUS__PPI_ID_VERSION };
		const uint32_t section = vmbus__rx_take(ch);
		struct place place = place_of(buffer, section, 0);
		uint32_t ppi_bytes = i ? 0 : put_ppis(ch, frame, ppi), len;

		id.id |= (VMBUS__PPI_ID_RSC | (i ? 0 : VMBUS__PPI_ID_FIRST) |
			  (i + 1u == count ? VMBUS__PPI_ID_LAST : 0))
			 << 8;
		ppi_bytes += vmbus__ppi_put(ppi + ppi_bytes, &id);
		len = VMBUS__RNDIS_PACKET_BYTES + ppi_bytes + some;
		vmbus__rndis_packet_put(head, len, some, ppi_bytes);
		vmbus__rx_range(ch->rx, len, (uint32_t)place.offset);
		put(&place, head, sizeof(head));
		put(&place, ppi, ppi_bytes);
		put_part(&place, frame, done, some);
		vmbus__rx_add(ch, section);
		done += some;
	}
	ch->rx->used = 0;
	ch->rx->frames++;
	ch->rx->bytes += frame->bytes;
	return true;
}

/* The same, with a sum that is due: a guest may look at it whatever it is told. */
static bool put_large(struct vmbus__net_chan *ch, const struct vmbus_frame *frame)
{
	struct vmbus_frame copy;
	struct vmbus_iov piece;
	bool sum;

	if (!(frame->flags & VMBUS_FRAME_CSUM))
		return put_fragments(ch, frame);
	if (!gather(ch, frame, &copy, &piece))
		return true;
	sum = vmbus_frame_checksum(&copy, ch->rx->scratch) == 0;
	if (!put_fragments(ch, &copy))
		return false;
	vmbus__net_count(ch, VMBUS__NET_SUMMED, sum);
	return true;
}

/* In segments.  When there is no room for all of them, the rest is lost, and counted. */
static bool put_segments(struct vmbus__net_chan *ch, const struct vmbus_frame *frame)
{
	struct vmbus__net_rx *const rx = ch->rx;
	struct vmbus_frame segment;
	bool any = false;

	if (vmbus_frame_cut(&rx->cut, frame) ||
	    !vmbus__net_few_segments(frame->bytes - frame->header_bytes, frame->mss)) {
		vmbus__net_count(ch, VMBUS__NET_TOO_LONG, 1);
		return true;
	}
	while (vmbus_frame_cut_next(&rx->cut, &segment) == 1) {
		if (segment.bytes > vmbus__rx_frame_max(&ch->shape)) {
			vmbus__net_count(ch, VMBUS__NET_TOO_LONG, 1);
		} else if (!put_small(ch, &segment)) {
			if (!any)
				return false;
			vmbus__net_count(ch, VMBUS__NET_NO_ROOM, 1);
		} else {
			vmbus__net_count(ch, VMBUS__NET_CUT, 1);
		}
		ch->work += VMBUS_UNIT_BYTES;
		any = true;
	}
	return true;
}

/* ---- all of them ---- */

/* A frame that is not the commonest kind.  Returns whether it is done with. */
static VMBUS_NOINLINE bool put_other(struct vmbus__net_chan *ch, const struct vmbus_frame *frame)
{
	const uint8_t *const head = frame->piece[0].base;
	const uint32_t tag = head[12] == 0x81 && head[13] == 0 ? TAG_BYTES : 0;

	if (vmbus__rx_is_large(&ch->shape, frame->flags))
		return put_large(ch, frame);
	if (frame->flags & LARGE)
		return put_segments(ch, frame);
	if (frame->bytes > vmbus__rx_frame_max(&ch->shape) + tag) {
		vmbus__net_count(ch, VMBUS__NET_TOO_LONG, 1);
		return true;
	}
	return put_small(ch, frame);
}

uint32_t vmbus__rx_frames(struct vmbus__net_chan *ch, const struct vmbus_frame *frame, uint32_t n)
{
	const uint32_t most = vmbus__rx_frame_max(&ch->shape);
	const uint64_t mine = mac_word(ch->shape.mac);
	const bool directed = ch->shape.filter & DIRECTED;
	/* With receive-side scaling there is the hash to be told. */
	const uint32_t plain = ch->shape.rss ? 0 : most;
	uint32_t i;

	for (i = 0; i < n; i++) {
		bool done;

		if (VMBUS_UNLIKELY(!(directed && mac_word(frame[i].piece[0].base) == mine) &&
				   !vmbus__rx_wanted(ch, frame[i].piece[0].base))) {
			vmbus__net_count(ch, VMBUS__NET_FILTERED, 1);
			continue;
		}
		if (VMBUS_LIKELY(!(frame[i].flags & ~VMBUS_FRAME_HASH) && frame[i].bytes <= plain))
			done = put_plain(ch, &frame[i]);
		else
			done = put_other(ch, &frame[i]);
		if (VMBUS_UNLIKELY(!done))
			return i;
	}
	return n;
}
