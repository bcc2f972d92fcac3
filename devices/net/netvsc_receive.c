/* SPDX-License-Identifier: MIT */
/*
 * Frames from the host to the network device's client, where they lie in the receive buffer: packets
 * wait with their ranges, ranges become frames when they are asked for, and a packet whose frames are
 * all released is completed.  Runs on the thread of the channel.  [NET-DATA], [NET-PPI]
 *
 * Invariants: every header is copied once, and the copy is checked and used.  A packet is in one list,
 * of the free, waiting, or due (to be completed), or held by bursts: left ranges of it are not
 * released, of which wait are not received.
 */
#include "netvsc/netvsc_state.h"

#define NONE UINT16_MAX
#define RANGE_MASK (VMBUS_NETVSC_RANGES - 1u)
#define PACKET_RANGES_MAX 1024u /* of one packet of the host's */
#define TURNS 16u
#define AHEAD 6u       /* frames that are asked for before they are looked at */
#define FAST_BYTES 64u /* of a message: its header, and one word of information */
#define FRAGMENTS_MAX 64u
#define AHEAD_BYTES 2048u /* of each */
#define TCP_SUM 16u
#define UDP_SUM 6u
#define HEAD_BYTES 14u /* of Ethernet */
#define MTU_LEAST 1500u

/*
 * Bytes of a frame that comes, its VLAN tag not counted: a host that was asked for less than 1500 may
 * send that, whatever this side sends.
 */
static uint32_t frame_most(const struct vmbus_netvsc *nv)
{
	return HEAD_BYTES + (nv->mtu > MTU_LEAST ? nv->mtu : MTU_LEAST);
}

/* ---- lists ---- */

void vmbus__netvsc_packets_init(struct vmbus_netvsc_chan *chan)
{
	uint32_t i;

	for (i = 0; i < VMBUS_NETVSC_PACKETS; i++)
		chan->packet_p[i].next = (uint16_t)(i + 1u);
	chan->packet_p[VMBUS_NETVSC_PACKETS - 1u].next = NONE;
	chan->packet_free_p = 0;
	chan->wait_first_p = chan->wait_last_p = NONE;
	chan->due_first_p = chan->due_last_p = NONE;
}

static uint32_t packet_take(struct vmbus_netvsc_chan *chan)
{
	const uint32_t at = chan->packet_free_p;

	if (at != NONE) {
		chan->packet_free_p = chan->packet_p[at].next;
		chan->packet_p[at].next = NONE;
		chan->packet_count_p++;
	}
	return at;
}

static void packet_give(struct vmbus_netvsc_chan *chan, uint32_t at)
{
	chan->packet_p[at].next = (uint16_t)chan->packet_free_p;
	chan->packet_free_p = at;
	chan->packet_count_p--;
}

static void append(struct vmbus_netvsc_chan *chan, uint32_t *first, uint32_t *last, uint32_t at)
{
	chan->packet_p[at].next = NONE;
	if (*first == NONE)
		*first = at;
	else
		chan->packet_p[*last].next = (uint16_t)at;
	*last = at;
}

/* ---- completions ---- */

static int complete_now(struct vmbus_netvsc_chan *chan, uint64_t id, bool bad)
{
	uint8_t answer[8];

	vmbus__net_put32(answer, VMBUS__NVSP_RNDIS_DONE);
	vmbus__net_put32(answer + 4, bad ? VMBUS__NVSP_FAIL : VMBUS__NVSP_OK);
	return vmbus_vsc_complete(chan->vsc_p, id, answer, sizeof(answer));
}

/* All of a packet is released.  Errors: as vmbus_vsc_complete(), but FULL: it waits then. */
static int complete(struct vmbus_netvsc_chan *chan, uint32_t at)
{
	int err = VMBUS_E_FULL;

	if (VMBUS_LIKELY(chan->due_first_p == NONE))
		err = complete_now(chan, chan->packet_p[at].id, chan->packet_p[at].bad);
	if (err == VMBUS_E_FULL) {
		append(chan, &chan->due_first_p, &chan->due_last_p, at);
		return 0;
	}
	packet_give(chan, at);
	return err;
}

int vmbus__netvsc_complete_more(struct vmbus_netvsc_chan *chan)
{
	uint32_t at;
	int err;

	while (chan->due_first_p != NONE) {
		at = chan->due_first_p;
		err = complete_now(chan, chan->packet_p[at].id, chan->packet_p[at].bad);
		if (err)
			return err;
		chan->due_first_p = chan->packet_p[at].next;
		packet_give(chan, at);
	}
	return 0;
}

/* A packet of which nothing is kept. */
static void answer(struct vmbus_netvsc_chan *chan, const struct vmbus_packet *pkt, bool bad)
{
	uint32_t at;

	if (bad)
		chan->stats_p.bad++;
	if (!(pkt->flags & VMBUS_PKT_FLAG_COMPLETE))
		return;
	if (chan->due_first_p == NONE && complete_now(chan, pkt->id, bad) != VMBUS_E_FULL)
		return;
	at = packet_take(chan);
	if (at == NONE) /* more than a host can have under way */
		return;
	chan->packet_p[at].id = pkt->id;
	chan->packet_p[at].bad = bad;
	append(chan, &chan->due_first_p, &chan->due_last_p, at);
}

/* ---- packets ---- */

/* Keep a packet's ranges: there is room for them. */
static void keep(struct vmbus_netvsc_chan *chan, const struct vmbus_packet *pkt,
		 const uint8_t *ranges, uint32_t n)
{
	const uint32_t to = (chan->range_at_p + chan->range_count_p) & RANGE_MASK;
	const uint32_t whole = VMBUS_NETVSC_RANGES - to;
	const uint32_t first = n < whole ? n : whole;
	const uint32_t at = packet_take(chan);

	__builtin_memcpy(&chan->range_p[to], ranges, (size_t)first * 8u);
	__builtin_memcpy(&chan->range_p[0], ranges + (size_t)first * 8u, (size_t)(n - first) * 8u);
	chan->range_count_p += n;
	chan->packet_p[at].id = pkt->id;
	chan->packet_p[at].left = n;
	chan->packet_p[at].wait = n;
	chan->packet_p[at].bad = false;
	append(chan, &chan->wait_first_p, &chan->wait_last_p, at);
	chan->stats_p.received_packets++;
}

static bool has_room(const struct vmbus_netvsc_chan *chan, uint32_t n)
{
	return n <= VMBUS_NETVSC_RANGES - chan->range_count_p && chan->packet_free_p != NONE;
}

static void tell_readable(struct vmbus_netvsc_chan *chan)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;

	if (!chan->pull_p && nv->opts_p.readable && chan->wait_first_p != NONE &&
	    vmbus__netvsc_state(nv) == VMBUS__NETVSC_READY)
		nv->opts_p.readable(nv->opts_p.ctx, chan->number_p);
}

/* Messages of RNDIS that are no frames. */
static void control(struct vmbus_netvsc_chan *chan, const uint8_t *ranges, uint32_t n)
{
	struct vmbus_netvsc *const nv = chan->netvsc_p;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const uint32_t bytes = vmbus__net_get32(ranges + i * 8u);
		const uint32_t offset = vmbus__net_get32(ranges + i * 8u + 4u);

		if (offset > nv->opts_p.receive_bytes ||
		    bytes > nv->opts_p.receive_bytes - offset || bytes > nv->receive_section_p)
			chan->stats_p.bad++;
		else
			vmbus__netvsc_told(nv, nv->buffer_p[VMBUS__NETVSC_RECEIVE].pages + offset,
					   bytes);
	}
}

static void take_data(struct vmbus_netvsc_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;

	if (VMBUS_UNLIKELY(!(pkt->flags & VMBUS_PKT_FLAG_COMPLETE) ||
			   vmbus__netvsc_state(nv) == VMBUS__NETVSC_BEGUN)) {
		answer(chan, pkt, true);
		return;
	}
	if (VMBUS_UNLIKELY(!has_room(chan, n)))
		tell_readable(chan);
	if (VMBUS_UNLIKELY(!has_room(chan, n))) {
		chan->stats_p.dropped += n;
		answer(chan, pkt, false);
		return;
	}
	keep(chan, pkt, pkt->ext + 8, n);
}

/* A packet with ranges of the receive buffer.  [NET-DATA] */
static void take_ranges(struct vmbus_netvsc_chan *chan, const struct vmbus_packet *pkt)
{
	struct vmbus_wire_ext ext;
	uint32_t n, kind;

	if (VMBUS_UNLIKELY(vmbus_wire_ext_get(pkt, &ext) || pkt->len < VMBUS__NVSP_RNDIS_BYTES)) {
		answer(chan, pkt, true);
		return;
	}
	n = ext.range_count;
	kind = vmbus__net_get32(pkt->payload + VMBUS__NVSP_AT_RNDIS_CHANNEL);
	if (VMBUS_UNLIKELY(n == 0 || n > PACKET_RANGES_MAX || n > (pkt->ext_len - 8u) / 8u ||
			   ext.xfer_set != VMBUS__NVSP_RECEIVE_ID ||
			   vmbus__net_get32(pkt->payload) != VMBUS__NVSP_RNDIS)) {
		answer(chan, pkt, true);
	} else if (VMBUS_LIKELY(kind == VMBUS__NVSP_CHANNEL_DATA)) {
		take_data(chan, pkt, n);
	} else if (chan->number_p == 0 && chan->netvsc_p->receive_section_p) {
		control(chan, pkt->ext + 8, n);
		answer(chan, pkt, false);
	} else {
		answer(chan, pkt, true);
	}
}

void vmbus__netvsc_packets(struct vmbus_netvsc_chan *chan, const struct vmbus_packet *pkt,
			   uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		if (VMBUS_LIKELY(pkt[i].type == VMBUS_PKT_XFER_PAGES))
			take_ranges(chan, &pkt[i]);
		else if (pkt[i].type == VMBUS_PKT_INBAND && chan->number_p == 0)
			vmbus__netvsc_said(chan->netvsc_p, &pkt[i]);
		else
			answer(chan, &pkt[i], true);
	}
	tell_readable(chan);
}

int vmbus__netvsc_pull(struct vmbus_netvsc_chan *chan)
{
	uint32_t budget = (VMBUS_NETVSC_RANGES - chan->range_count_p) / PACKET_RANGES_MAX;
	const bool own = chan->own_p;
	int n;

	if (chan->inside_p || chan->left_p || budget == 0)
		return 0;
	chan->inside_p = true;
	chan->left_p = own;
	n = vmbus_vsc_dispatch(chan->vsc_p, budget);
	/* With an error its own thread has left it, and the guest's may have told closed() already:
	   chan is what that made of it. */
	if (n < 0 && own)
		return n;
	chan->inside_p = false;
	chan->left_p = false;
	return n;
}

/* ---- frames ---- */

/* One message, as far as it was found good. */
struct found {
	const uint8_t *data;
	uint32_t bytes;
	struct vmbus__ppis ppis;
};

/* The information of a message, copied: head has its first bytes. */
__attribute__((noinline)) static bool find_info(struct found *found,
						const struct vmbus__rndis_packet *packet,
						const uint8_t *head, const uint8_t *at)
{
	const uint32_t end = packet->bytes - VMBUS__RNDIS_HEAD_BYTES;
	const uint32_t from = packet->ppi_offset, bytes = packet->ppi_bytes;
	uint8_t copy[VMBUS__PPI_BYTES_MAX];

	if (bytes > VMBUS__PPI_BYTES_MAX || from > end || bytes > end - from)
		return false;
	if (from + bytes <= FAST_BYTES - VMBUS__RNDIS_HEAD_BYTES && packet->bytes >= FAST_BYTES)
		return vmbus__ppi_get(&found->ppis, head + VMBUS__RNDIS_HEAD_BYTES + from, bytes);
	vmbus__peer_read(copy, at + VMBUS__RNDIS_HEAD_BYTES + from, bytes);
	return vmbus__ppi_get(&found->ppis, copy, bytes);
}

/* Look at the message in a range.  Returns whether it is good. */
static inline bool find(const struct vmbus_netvsc *nv, uint64_t range, struct found *found)
{
	const uint32_t bytes = (uint32_t)(range & UINT32_MAX), offset = (uint32_t)(range >> 32);
	struct vmbus__rndis_packet packet;
	uint8_t head[FAST_BYTES];
	const uint8_t *at;
	uint32_t end;

	if (VMBUS_UNLIKELY(offset > nv->opts_p.receive_bytes ||
			   bytes > nv->opts_p.receive_bytes - offset ||
			   bytes > nv->receive_section_p || bytes < VMBUS__RNDIS_PACKET_BYTES))
		return false;
	at = nv->buffer_p[VMBUS__NETVSC_RECEIVE].pages + offset;
	if (VMBUS_LIKELY(bytes >= FAST_BYTES)) {
		vmbus__peer_read(head, at, FAST_BYTES);
	} else {
		__builtin_memset(head, 0, sizeof(head));
		vmbus__peer_read(head, at, bytes);
	}
	vmbus__rndis_packet_get(&packet, head);
	if (VMBUS_UNLIKELY(packet.type != VMBUS__RNDIS_PACKET || packet.bytes > bytes ||
			   packet.bytes < VMBUS__RNDIS_PACKET_BYTES))
		return false;
	end = packet.bytes - VMBUS__RNDIS_HEAD_BYTES;
	if (VMBUS_UNLIKELY(packet.data_offset > end ||
			   packet.data_bytes > end - packet.data_offset))
		return false;
	found->data = at + VMBUS__RNDIS_HEAD_BYTES + packet.data_offset;
	found->bytes = packet.data_bytes;
	found->ppis.has = 0;
	return VMBUS_LIKELY(packet.ppi_bytes == 0) || find_info(found, &packet, head, at);
}

/* The headers of a frame that is there, from a copy of its begin. */
static bool look(const struct vmbus_frame *frame, struct vmbus_frame_headers *h)
{
	uint8_t head[VMBUS_FRAME_HEAD];
	uint32_t n = frame->piece[0].len < sizeof(head) ? (uint32_t)frame->piece[0].len
							: (uint32_t)sizeof(head);

	vmbus__peer_read(head, frame->piece[0].base, n);
	if (n < VMBUS__NETVSC_FRAME_MIN)
		return false;
	return vmbus_frame_look(head, n, frame->bytes, h) == 0;
}

/* The sum is not in the frame: its sender is on this machine. */
static void sum_due(struct vmbus_frame *frame)
{
	struct vmbus_frame_headers h;

	if (!look(frame, &h) || (!h.tcp && !h.udp))
		return;
	frame->flags &= ~VMBUS_FRAME_CSUM_OK;
	frame->flags |= VMBUS_FRAME_CSUM;
	frame->csum_start = h.transport;
	frame->csum_offset = h.tcp ? TCP_SUM : UDP_SUM;
}

/* What is said of a frame. */
__attribute__((noinline)) static void put_info(struct vmbus_frame *frame,
					       const struct vmbus__ppis *ppis)
{
	if (ppis->has & VMBUS__PPI_HAS_VLAN) {
		frame->flags |= VMBUS_FRAME_VLAN;
		frame->vlan = (uint16_t)vmbus__ppi_tag_of_vlan(ppis->vlan);
	}
	if (ppis->has & VMBUS__PPI_HAS_HASH) {
		frame->flags |= VMBUS_FRAME_HASH;
		frame->hash = ppis->hash;
	}
	if (ppis->has & VMBUS__PPI_HAS_CSUM &&
	    ppis->csum & (VMBUS__PPI_CSUM_TCP_OK | VMBUS__PPI_CSUM_UDP_OK)) {
		frame->flags |= VMBUS_FRAME_CSUM_OK;
		if (ppis->csum & VMBUS__PPI_CSUM_TCP_VALUE)
			sum_due(frame);
	}
}

static void begin_frame(struct vmbus_netvsc_burst *burst, const struct found *found)
{
	struct vmbus_frame *const frame = &burst->frame[burst->frames];
	struct vmbus_iov *const piece = &burst->piece_p[burst->pieces_p++];

	piece->base = found->data;
	piece->len = found->bytes;
	*frame = (struct vmbus_frame){ .piece = piece, .pieces = 1, .bytes = found->bytes };
}

/* ---- merged frames ---- */

/* It is longer than any that comes unmerged: it says how it would be cut. */
static bool put_merged(const struct vmbus_netvsc *nv, struct vmbus_frame *frame)
{
	struct vmbus_frame_headers h;
	uint32_t headers;

	if (frame->bytes > VMBUS_FRAME_BYTES_MAX || !look(frame, &h) || !h.tcp)
		return false;
	headers = (uint32_t)h.payload - h.network;
	if (h.payload >= frame->bytes || headers >= nv->mtu)
		return false;
	frame->flags &= ~VMBUS_FRAME_CSUM_OK;
	frame->flags |= VMBUS_FRAME_CSUM | (h.ip == 4 ? VMBUS_FRAME_TSO4 : VMBUS_FRAME_TSO6);
	frame->csum_start = h.transport;
	frame->csum_offset = TCP_SUM;
	frame->header_bytes = h.payload;
	frame->mss = (uint16_t)(nv->mtu - headers);
	return true;
}

static uint64_t range_next(struct vmbus_netvsc_chan *chan, uint32_t at)
{
	const uint64_t range = chan->range_p[chan->range_at_p];

	chan->range_at_p = (chan->range_at_p + 1u) & RANGE_MASK;
	chan->range_count_p--;
	chan->packet_p[at].wait--;
	return range;
}

static uint32_t id_flags(const struct found *found)
{
	return found->ppis.has & VMBUS__PPI_HAS_ID ? found->ppis.id >> 8 & 255u : 0;
}

/* The further pieces of a frame whose first one is there, up to the last one of the packet. */
static bool take_fragments(struct vmbus_netvsc_chan *chan, struct vmbus_netvsc_burst *burst,
			   uint32_t at, struct vmbus_frame *frame)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;
	struct found found;
	uint32_t flags;

	if (frame->bytes > VMBUS_FRAME_BYTES_MAX)
		return false;
	do {
		if (chan->packet_p[at].wait == 0 || frame->pieces == FRAGMENTS_MAX ||
		    !find(nv, range_next(chan, at), &found))
			return false;
		flags = id_flags(&found);
		if (!(flags & VMBUS__PPI_ID_RSC) || flags & VMBUS__PPI_ID_FIRST || !found.bytes ||
		    found.bytes > VMBUS_FRAME_BYTES_MAX - frame->bytes)
			return false;
		burst->piece_p[burst->pieces_p].base = found.data;
		burst->piece_p[burst->pieces_p++].len = found.bytes;
		frame->pieces++;
		frame->bytes += found.bytes;
	} while (!(flags & VMBUS__PPI_ID_LAST));
	return true;
}

/* ---- bursts ---- */

/* A message that is no usual frame: with information, or too long.  Returns whether it is one. */
__attribute__((noinline)) static bool take_other(struct vmbus_netvsc_chan *chan,
						 struct vmbus_netvsc_burst *burst, uint32_t at,
						 const struct found *found)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;
	struct vmbus_frame *const frame = &burst->frame[burst->frames];
	const uint32_t pieces = burst->pieces_p, flags = id_flags(found);
	const bool merges = (nv->rx & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6)) != 0;
	bool good = found->bytes >= VMBUS__NETVSC_FRAME_MIN;

	if (!good)
		return false;
	begin_frame(burst, found);
	if (flags & VMBUS__PPI_ID_RSC)
		good = merges && flags & VMBUS__PPI_ID_FIRST &&
		       (flags & VMBUS__PPI_ID_LAST || take_fragments(chan, burst, at, frame));
	put_info(frame, &found->ppis);
	if (good && frame->bytes > frame_most(nv) + VMBUS__NETVSC_TAG_BYTES)
		good = merges && put_merged(nv, frame);
	if (!good)
		burst->pieces_p = pieces;
	return good;
}

/* Ask for what is looked at soon: the header, and the frame behind it. */
static inline void ask_ahead(const struct vmbus_netvsc_chan *chan, uint32_t ahead)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;
	const uint64_t range = chan->range_p[(chan->range_at_p + ahead) & RANGE_MASK];
	const uintptr_t at = (uintptr_t)nv->buffer_p[VMBUS__NETVSC_RECEIVE].pages + (range >> 32);

	vmbus__peer_will_read_all(at,
				  (uint32_t)range < AHEAD_BYTES ? (uint32_t)range : AHEAD_BYTES);
}

/* Frames of the packet that has waited longest, as many as the burst takes. */
static void take_packet(struct vmbus_netvsc_chan *chan, struct vmbus_netvsc_burst *burst,
			uint32_t max)
{
	const struct vmbus_netvsc *const nv = chan->netvsc_p;
	const uint32_t at = chan->wait_first_p, before = chan->packet_p[at].wait;
	const uint32_t most = frame_most(nv);
	struct found found;

	while (chan->packet_p[at].wait && burst->frames < max &&
	       burst->pieces_p <= VMBUS_NETVSC_PIECES - FRAGMENTS_MAX) {
		ask_ahead(chan, AHEAD);
		if (VMBUS_UNLIKELY(!find(nv, range_next(chan, at), &found))) {
			chan->packet_p[at].bad = true;
			chan->stats_p.bad++;
			continue;
		}
		if (VMBUS_LIKELY(!found.ppis.has && found.bytes <= most &&
				 found.bytes >= VMBUS__NETVSC_FRAME_MIN)) {
			begin_frame(burst, &found);
		} else if (!take_other(chan, burst, at, &found)) {
			chan->packet_p[at].bad = true;
			chan->stats_p.bad++;
			continue;
		}
		chan->stats_p.received_bytes += burst->frame[burst->frames].bytes;
		burst->frames++;
	}
	burst->run_p[burst->runs_p].packet = (uint16_t)at;
	burst->run_p[burst->runs_p++].ranges = (uint16_t)(before - chan->packet_p[at].wait);
	if (chan->packet_p[at].wait == 0)
		chan->wait_first_p = chan->packet_p[at].next;
}

static void fill(struct vmbus_netvsc_chan *chan, struct vmbus_netvsc_burst *burst, uint32_t max)
{
	burst->frames = 0;
	burst->pieces_p = 0;
	burst->runs_p = 0;
	while (chan->wait_first_p != NONE && burst->frames < max &&
	       burst->runs_p < VMBUS_NETVSC_PIECES &&
	       burst->pieces_p <= VMBUS_NETVSC_PIECES - FRAGMENTS_MAX)
		take_packet(chan, burst, max);
	chan->stats_p.received_frames += burst->frames;
}

static int release(struct vmbus_netvsc_chan *chan, struct vmbus_netvsc_burst *burst)
{
	uint32_t i, at, n;
	int err = 0, one;

	for (i = 0; i < burst->runs_p && i < VMBUS_NETVSC_PIECES; i++) {
		at = burst->run_p[i].packet;
		n = burst->run_p[i].ranges;
		if (at >= VMBUS_NETVSC_PACKETS || n > chan->packet_p[at].left)
			continue;
		chan->packet_p[at].left -= n;
		if (chan->packet_p[at].left)
			continue;
		one = complete(chan, at);
		if (one)
			err = one;
	}
	burst->frames = 0;
	burst->pieces_p = 0;
	burst->runs_p = 0;
	return err;
}

/* The channel, if it is open; its state may be any. */
static struct vmbus_netvsc_chan *receiver(struct vmbus_netvsc *nv, uint32_t channel)
{
	struct vmbus_netvsc_chan *chan;

	if (channel > nv->opts_p.subchannels)
		return NULL;
	chan = &nv->opts_p.chan[channel];
	return chan->open_p && !chan->left_p ? chan : NULL;
}

int vmbus_netvsc_receive(struct vmbus_netvsc *nv, uint32_t channel,
			 struct vmbus_netvsc_burst *burst, uint32_t max)
{
	struct vmbus_netvsc_chan *const chan = receiver(nv, channel);
	uint32_t turn;
	int n;

	burst->frames = 0;
	burst->runs_p = 0;
	if (VMBUS_UNLIKELY(!chan))
		return VMBUS_E_STATE;
	if (VMBUS_UNLIKELY(max == 0 || max > VMBUS_NETVSC_BURST))
		return VMBUS_E_RANGE;
	for (turn = 0; turn < TURNS; turn++) {
		fill(chan, burst, max);
		if (VMBUS_LIKELY(burst->frames))
			return (int)burst->frames;
		if (VMBUS_UNLIKELY(burst->runs_p)) { /* bad ones only */
			n = release(chan, burst);
			/* Of a ring that is broken the dispatch says so, and leaves. */
			if (n && !chan->pull_p)
				return n;
			continue;
		}
		if (!chan->pull_p)
			return 0;
		n = vmbus__netvsc_pull(chan);
		if (n <= 0)
			return n;
	}
	return VMBUS_E_AGAIN;
}

int vmbus_netvsc_release(struct vmbus_netvsc *nv, uint32_t channel,
			 struct vmbus_netvsc_burst *burst)
{
	struct vmbus_netvsc_chan *const chan = receiver(nv, channel);
	bool held;
	int err;

	if (VMBUS_UNLIKELY(!chan))
		return VMBUS_E_STATE;
	held = burst->runs_p > 1 && vmbus_vsc_hold(chan->vsc_p) == 1;
	err = release(chan, burst);
	if (held)
		(void)vmbus_vsc_flush(chan->vsc_p);
	return err;
}
