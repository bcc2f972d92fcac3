/* SPDX-License-Identifier: MIT */
/*
 * From the guest to the port: packets with frames, in order.  What a frame is, is in tx_frame.c.
 *
 * When the port has no room the packets wait here; when as many wait as may, no more are read, so the
 * guest's ring fills and its own queue stops.  When one callback has done as much for the port as it may,
 * they wait too, and the channel rings its own inbox for another one.
 */
#include "net/tx.h"

#include <stdlib.h>
#include <string.h>

#include "base/probe.h"
#include "base/untrusted.h"
#include "lazy/lazy.h"

#define AHEAD_BYTES 4096u /* of a packet that are asked for before it is looked at */

/* What one callback does for the port, in bytes, and what a segment counts: a guest may have millions of
   them wait, all in the same pages. */
#define WORK_MAX (4u << 20)
#define WORK_SEGMENT VMBUS_UNIT_BYTES

/* ---- life ---- */

static uint32_t power_of_two(uint32_t n)
{
	uint32_t p = 1;

	while (p < n)
		p *= 2u;
	return p;
}

int vmbus__net_tx_make(struct vmbus__net_chan *ch)
{
	const struct vmbus_net_opts *const opts = &ch->net->opts;
	struct vmbus__net_tx *const tx = calloc(1, sizeof(*tx));

	if (!tx)
		return VMBUS_E_NOMEM;
	ch->tx = tx;
	tx->fresh = opts->packets_max + VMBUS__NET_BATCH;
	tx->mask = power_of_two(tx->fresh) - 1u;
	tx->iovs_max = opts->section_bytes / VMBUS_PAGE_BYTES + 2u + VMBUS__TX_LIST;
	tx->room_bytes = sizeof(struct vmbus__tx_room) + tx->iovs_max * sizeof(struct vmbus_iov);
	tx->rooms_bytes = tx->fresh * tx->room_bytes;
	tx->queue = calloc(tx->mask + 1u, sizeof(*tx->queue));
	tx->rooms = vmbus__lazy_get(tx->rooms_bytes);
	tx->private_bytes = aligned_alloc(64, VMBUS__TX_PRIVATE);
	return tx->queue && tx->rooms && tx->private_bytes ? 0 : VMBUS_E_NOMEM;
}

static struct vmbus__tx_packet *packet_at(const struct vmbus__net_tx *tx, uint32_t n)
{
	return &tx->queue[(tx->first + n) & tx->mask];
}

static void give_room(struct vmbus__net_tx *tx, struct vmbus__tx_packet *p)
{
	if (!p->room)
		return;
	vmbus_sgl_release(&p->room->sgl);
	p->room->next = tx->free;
	tx->free = p->room;
	p->room = NULL;
}

static struct vmbus__tx_room *take_room(struct vmbus__net_tx *tx)
{
	struct vmbus__tx_room *room = tx->free;

	if (room) {
		tx->free = room->next;
	} else {
		VMBUS_REQUIRE(tx->fresh > 0);
		room = (struct vmbus__tx_room *)(void *)(tx->rooms + --tx->fresh * tx->room_bytes);
	}
	return room;
}

void vmbus__net_tx_free(struct vmbus__net_chan *ch)
{
	struct vmbus__net_tx *const tx = ch->tx;
	uint32_t i;

	if (!tx)
		return;
	for (i = 0; i < tx->count; i++)
		give_room(tx, packet_at(tx, i));
	free(tx->queue);
	vmbus__lazy_put(tx->rooms, tx->rooms_bytes);
	free(tx->private_bytes);
	free(tx);
	ch->tx = NULL;
}

/* ---- what the port has taken ---- */

/* Forget the burst from frame n on: those frames are made again. */
static void rewind_burst(struct vmbus__net_tx *tx, uint32_t n)
{
	uint32_t i;

	for (i = tx->n; i > n; i--) {
		struct vmbus__tx_packet *const p = tx->made[i - 1u].packet;

		p->at = tx->made[i - 1u].before;
		p->messages = tx->made[i - 1u].messages;
		p->out--;
		p->all = false;
	}
	/* The copies go with the burst, also of packets behind the one that is next then. */
	for (i = 0; i < tx->count && i <= tx->next; i++)
		packet_at(tx, i)->copy = NULL;
	for (i = 0; i < tx->count && packet_at(tx, i)->all; i++)
		;
	tx->next = i;
}

static void end_burst(struct vmbus__net_tx *tx)
{
	uint32_t i;

	for (i = 0; i < tx->count && i <= tx->next; i++)
		packet_at(tx, i)->copy = NULL;
	tx->n = tx->pieces = tx->used = 0;
}

/* The first n frames of the burst are sent, from frame number from on. */
static void sent(struct vmbus__net_chan *ch, uint32_t from, uint32_t n)
{
	struct vmbus__net_tx *const tx = ch->tx;
	uint64_t bytes = 0;
	uint32_t i;

	for (i = from; i < n; i++) {
		tx->made[i].packet->out--;
		bytes += tx->frame[i].bytes;
	}
	vmbus__net_count(ch, VMBUS__NET_SENT_FRAMES, n - from);
	vmbus__net_count(ch, VMBUS__NET_SENT_BYTES, bytes);
	ch->work += bytes;
	ch->tx_work += bytes + (n - from) * VMBUS__TX_WORK_FRAME;
}

/* Packets of which nothing is left are answered, in order. */
static void answer(struct vmbus__net_chan *ch)
{
	struct vmbus__net_tx *const tx = ch->tx;
	const uint32_t len = vmbus__nvsp_bytes(ch->shape.nvsp);
	uint8_t msg[VMBUS__NVSP_BYTES] = { VMBUS__NVSP_RNDIS_DONE };

	while (tx->count) {
		struct vmbus__tx_packet *const p = packet_at(tx, 0);

		if (!p->all || p->out)
			return;
		msg[VMBUS__NVSP_AT_STATUS] = p->bad ? VMBUS__NVSP_FAIL : VMBUS__NVSP_OK;
		if (p->complete && vmbus_chan_complete(ch->chan, p->id, msg, len) == VMBUS_E_FULL)
			return; /* writable() follows */
		VMBUS_PROBE3(net_send_end, ch->chan, p->id, p->bad);
		give_room(tx, p);
		tx->first++;
		tx->count--;
		tx->next--;
	}
	tx->first = 0;
}

/* ---- sending ---- */

/* To the port, or to the channel that has its queue. */
static uint32_t out(struct vmbus__net_chan *ch, const struct vmbus_frame *frame, uint32_t n)
{
	struct vmbus__inbox *inbox;
	uint32_t taken;

	if (VMBUS_LIKELY(ch->has_queue))
		return ch->net->opts.port.ops->send(&ch->queue, frame, n);
	if (vmbus__net_is_primary(ch))
		return n; /* no port at all: never */
	inbox = ch->session->seat[0].inbox;
	taken = vmbus__inbox_put(inbox, frame, n, ch->number);
	if (VMBUS_LIKELY(taken == n))
		return n;
	vmbus__inbox_want(inbox, ch->number);
	return taken + vmbus__inbox_put(inbox, frame + taken, n - taken, ch->number);
}

/* The last frame of the burst cannot be cut, or not all of it. */
static void drop_last(struct vmbus__net_chan *ch)
{
	struct vmbus__net_tx *const tx = ch->tx;

	tx->made[--tx->n].packet->out--;
	vmbus__net_count(ch, VMBUS__NET_SENT_BAD, 1);
	ch->tx_work += VMBUS__TX_WORK_FRAME;
}

/* Whether this callback has done as much as it may. */
static bool is_enough(const struct vmbus__net_chan *ch)
{
	return VMBUS_UNLIKELY(ch->tx_work >= WORK_MAX);
}

/* The last frame of the burst in segments.  Returns whether it is done: if not, the next one waits for
   room, or for another callback. */
static bool cut(struct vmbus__net_chan *ch)
{
	struct vmbus__net_tx *const tx = ch->tx;

	if (!tx->cutting && vmbus_frame_cut(&tx->cut, &tx->frame[tx->n - 1u])) {
		drop_last(ch);
		return true;
	}
	tx->cutting = true;
	for (;;) {
		const int got =
			tx->segment_waits ? 1 : vmbus_frame_cut_next(&tx->cut, &tx->segment);

		if (got < 0)
			drop_last(ch);
		if (got != 1)
			break;
		tx->segment_waits = out(ch, &tx->segment, 1) == 0;
		if (tx->segment_waits)
			return false;
		vmbus__net_count(ch, VMBUS__NET_CUT, 1);
		ch->work += WORK_SEGMENT;
		ch->tx_work += WORK_SEGMENT;
		if (is_enough(ch))
			return false;
	}
	tx->cutting = false;
	return true;
}

static bool is_to_cut(const struct vmbus__net_chan *ch, const struct vmbus_frame *frame)
{
	const uint32_t tso = frame->flags & (VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6);

	return VMBUS_UNLIKELY(tso) && (tso & ~ch->takes || frame->bytes > ch->tso_max);
}

/* Send the burst; what the port does not take is made again later.  Returns whether it took all. */
static bool send_burst(struct vmbus__net_chan *ch)
{
	struct vmbus__net_tx *const tx = ch->tx;
	const bool last = tx->cutting || is_to_cut(ch, &tx->frame[tx->n - 1u]);
	const uint32_t plain = tx->n - last;
	uint32_t taken = plain;

	if (!tx->cutting && plain) {
		taken = out(ch, tx->frame, plain);
		if (taken > plain)
			taken = plain;
		sent(ch, 0, taken);
	}
	if (VMBUS_UNLIKELY(taken < plain)) {
		rewind_burst(tx, taken);
		end_burst(tx);
		return false;
	}
	if (VMBUS_UNLIKELY(last)) {
		if (!cut(ch))
			return false; /* the burst stays as it is */
		sent(ch, plain, tx->n);
	}
	end_burst(tx);
	return true;
}

/* Ask for the begin of a packet that comes next. */
static void ask_ahead(const struct vmbus__tx_packet *p)
{
	const uint32_t most = p->bytes < AHEAD_BYTES ? p->bytes : AHEAD_BYTES;

	if (p->iovs == 1 && p->at.offset == 0)
		vmbus__peer_will_read_all((uintptr_t)p->iov[0].base, most);
}

/* Make frames until the burst is full, or one is to be cut. */
static void fill(struct vmbus__net_chan *ch)
{
	struct vmbus__net_tx *const tx = ch->tx;

	while (tx->next < tx->count) {
		struct vmbus__tx_packet *const p = packet_at(tx, tx->next);

		if (tx->next + 1u < tx->count)
			ask_ahead(packet_at(tx, tx->next + 1u));
		if (!p->copy && !p->all)
			vmbus__tx_copy_packet(tx, p);
		if (VMBUS_LIKELY(!p->all))
			vmbus__tx_plain(ch, p);
		while (!p->all) {
			const enum vmbus__tx_got got = vmbus__tx_next(ch, p);

			if (got == VMBUS__TX_NO_ROOM)
				return;
			if (got == VMBUS__TX_BAD) {
				vmbus__net_count(ch, VMBUS__NET_SENT_BAD, !p->bad);
				p->bad = p->all = true;
			} else if (got == VMBUS__TX_FRAME &&
				   is_to_cut(ch, &tx->frame[tx->n - 1u])) {
				return;
			}
		}
		tx->next++;
	}
}

/* The rest in another callback, as if somebody had rung. */
static void leave_rest(struct vmbus__net_chan *ch)
{
	ch->tx->more = true;
	vmbus__inbox_ring(ch->seat->inbox);
}

static void send_bursts(struct vmbus__net_chan *ch)
{
	struct vmbus__net_tx *const tx = ch->tx;

	tx->waits = tx->more = false;
	for (;;) {
		if (is_enough(ch) && (tx->n || tx->next < tx->count)) {
			leave_rest(ch);
			break;
		}
		if (!tx->cutting)
			fill(ch);
		if (tx->n == 0) {
			end_burst(tx);
			if (tx->next < tx->count)
				continue; /* copies of frames that are not sent took all room */
			break;
		}
		if (VMBUS_LIKELY(send_burst(ch)))
			continue;
		if (tx->cutting && !tx->segment_waits)
			continue;
		vmbus__net_count(ch, VMBUS__NET_SENT_WAITS, 1);
		tx->waits = true;
		break;
	}
}

void vmbus__net_tx_run(struct vmbus__net_chan *ch)
{
	struct vmbus__net_tx *const tx = ch->tx;

	send_bursts(ch);
	answer(ch);
	if (VMBUS_UNLIKELY(ch->paused) && tx->count <= ch->net->opts.packets_max / 2u) {
		ch->paused = false;
		vmbus_chan_pause(ch->chan, false);
	} else if (VMBUS_UNLIKELY(tx->count >= ch->net->opts.packets_max) && !ch->paused) {
		ch->paused = true;
		vmbus_chan_pause(ch->chan, true);
	}
}

bool vmbus__net_tx_waits(const struct vmbus__net_chan *ch)
{
	return ch->tx->waits;
}

bool vmbus__net_tx_is_due(const struct vmbus__net_chan *ch)
{
	return ch->tx->waits || ch->tx->more;
}

/* The send buffer is gone: what lay in it cannot be read any more, and is not sent. */
void vmbus__net_tx_forget(struct vmbus__net_chan *ch)
{
	struct vmbus__net_tx *const tx = ch->tx;
	uint32_t i;

	tx->cutting = tx->segment_waits = false;
	for (i = 0; i < tx->count; i++) {
		struct vmbus__tx_packet *const p = packet_at(tx, i);

		if (!p->all || p->out)
			vmbus__net_count(ch, VMBUS__NET_STOPPED, 1);
		p->all = true;
		p->out = 0;
		p->copy = NULL;
		give_room(tx, p);
	}
	tx->next = tx->count;
	tx->n = 0;
	end_burst(tx);
}

/* ---- packets come ---- */

/* The pieces of a section of the send buffer, behind each other at the begin of room->iov. */
static uint32_t list_section(struct vmbus__net_tx *tx, const struct vmbus__net_buffer *send,
			     const struct vmbus__nvsp_rndis *rndis, struct vmbus_iov *iov)
{
	struct vmbus_span span[VMBUS__TX_LIST];
	const uint64_t from = (uint64_t)rndis->section * send->section_bytes;
	uint64_t done = 0;
	uint32_t n = 0, count, i;

	while (done < rndis->section_bytes) { /* a few pages at a time: spans are no iovs */
		const uint64_t left = rndis->section_bytes - done;
		const uint64_t most = (VMBUS__TX_LIST - 1u) * (uint64_t)VMBUS_PAGE_BYTES;
		const uint64_t some = left < most ? left : most;

		count = vmbus__net_buffer_spans(send, from + done, some, span, VMBUS__TX_LIST);
		for (i = 0; i < count && n < tx->iovs_max; i++)
			iov[n++] = (struct vmbus_iov){ .base = span[i].base, .len = span[i].len };
		if (i < count || count == 0)
			return 0;
		done += some;
	}
	return n;
}

/* A packet in several pieces: a section, pages, or both.  Returns whether it can be. */
static bool list_pieces(struct vmbus__net_chan *ch, const struct vmbus_packet *pkt,
			const struct vmbus__nvsp_rndis *rndis, struct vmbus__tx_packet *p)
{
	struct vmbus__net_tx *const tx = ch->tx;
	struct vmbus__tx_room *const room = take_room(tx);
	uint32_t i, n = 0;

	p->room = room;
	p->iov = room->iov;
	memset(&room->sgl, 0, sizeof(room->sgl));
	if (rndis->section_bytes) {
		n = list_section(tx, ch->shape.send, rndis, room->iov);
		if (!n)
			return false;
	}
	if (pkt->type == VMBUS_PKT_GPA_DIRECT) {
		room->sgl.pieces = room->piece;
		room->sgl.room = VMBUS__TX_LIST;
		if (vmbus_chan_sgl(ch->chan, pkt, VMBUS_READ, &room->sgl) ||
		    room->sgl.bytes > UINT32_MAX / 2u || room->sgl.count > tx->iovs_max - n)
			return false;
		for (i = 0; i < room->sgl.count; i++)
			room->iov[n++] = (struct vmbus_iov){ .base = room->sgl.pieces[i].host,
							     .len = room->sgl.pieces[i].len };
		p->bytes += (uint32_t)room->sgl.bytes;
	}
	p->iovs = n;
	return true;
}

/* Where the bytes of a packet are.  Returns false when they cannot be where the guest says. */
static bool locate(struct vmbus__net_chan *ch, const struct vmbus_packet *pkt,
		   struct vmbus__tx_packet *p)
{
	const struct vmbus__net_buffer *const send = ch->shape.send;
	struct vmbus__nvsp_rndis rndis;

	vmbus__nvsp_rndis_get(&rndis, pkt->payload);
	if (rndis.section == VMBUS__NVSP_NO_SECTION)
		rndis.section_bytes = 0;
	if (rndis.section_bytes &&
	    (!send || rndis.section >= send->sections || rndis.section_bytes > send->section_bytes))
		return false;
	p->bytes = rndis.section_bytes;
	if (VMBUS_LIKELY(pkt->type == VMBUS_PKT_INBAND && rndis.section_bytes &&
			 send->at[rndis.section])) {
		p->one = (struct vmbus_iov){ .base = send->at[rndis.section],
					     .len = rndis.section_bytes };
		p->iov = &p->one;
		p->iovs = 1;
		vmbus__peer_will_read((uintptr_t)p->one.base);
		return true;
	}
	return list_pieces(ch, pkt, &rndis, p) && p->bytes;
}

/* A message that is no frame, or nothing at all: for the control, if it may come here. */
static bool control(struct vmbus__net_chan *ch, const struct vmbus__tx_packet *p)
{
	uint8_t msg[VMBUS__NET_CONTROL_MAX];
	const struct vmbus__tx_at begin = { 0 };

	if (!vmbus__net_is_primary(ch) || p->bytes < VMBUS__RNDIS_HEAD_BYTES ||
	    p->bytes > sizeof(msg))
		return false;
	vmbus__tx_read(p, begin, msg, p->bytes);
	if (vmbus__net_get32(msg) == VMBUS__RNDIS_PACKET)
		return false; /* it has changed meanwhile */
	vmbus__net_count(ch, VMBUS__NET_CONTROL, 1);
	return vmbus__net_rndis(ch, msg, p->bytes);
}

/* A packet with number 107: frames, or a control message.  All that came before it is sent before a
   control message is looked at, but what the port has no room for, or what is left for another callback:
   a HALT then drops it as stopped. */
void vmbus__net_tx_packet(struct vmbus__net_chan *ch, const struct vmbus_packet *pkt)
{
	const bool data = vmbus__net_get32(pkt->payload + VMBUS__NVSP_AT_RNDIS_CHANNEL) ==
			  VMBUS__NVSP_CHANNEL_DATA;
	struct vmbus__net_tx *const tx = ch->tx;
	const struct vmbus__tx_at begin = { 0 };
	struct vmbus__tx_packet *p;
	uint8_t type[4];

	VMBUS_REQUIRE(tx->count <= tx->mask);
	if (VMBUS_UNLIKELY(!data && tx->count))
		vmbus__net_tx_run(ch);
	p = packet_at(tx, tx->count);
	*p = (struct vmbus__tx_packet){ .id = pkt->id,
					.complete = pkt->flags & VMBUS_PKT_FLAG_COMPLETE };
	vmbus__net_count(ch, VMBUS__NET_SENT_PACKETS, 1);
	if (VMBUS_UNLIKELY(!locate(ch, pkt, p))) {
		vmbus__net_count(
			ch, ch->ended && !ch->shape.send ? VMBUS__NET_STOPPED : VMBUS__NET_SENT_BAD,
			1);
		p->all = p->bad = true;
	}
	if (VMBUS_UNLIKELY(!data && !p->all && p->bytes >= sizeof(type))) {
		vmbus__tx_read(p, begin, type, sizeof(type));
		if (vmbus__net_get32(type) != VMBUS__RNDIS_PACKET) {
			p->bad = !control(ch, p);
			p->all = true;
		}
	}
	VMBUS_PROBE3(net_send_start, ch->chan, p->id, p->bytes);
	tx->count++;
}
