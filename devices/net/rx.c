/* SPDX-License-Identifier: MIT */
/*
 * To the guest: which receive sections it has, and packets that name them.  A section belongs to the
 * channel that took it, so its completion comes back to the same thread.  What is in it is not known
 * here.  [NET-BUFFERS], [NET-DATA]
 */
#include "net/rx.h"

#include <stdlib.h>
#include <string.h>

#include "base/probe.h"

/* ---- chains ---- */

void vmbus__rx_chain_add(uint32_t *next, struct vmbus__rx_chain *chain, uint32_t section)
{
	next[section] = VMBUS__NET_NONE;
	if (chain->count)
		next[chain->last] = section;
	else
		chain->first = section;
	chain->last = section;
	chain->count++;
}

/* All of one before the other, which was given back last and is warm. */
static void chain_join(uint32_t *next, struct vmbus__rx_chain *to,
		       const struct vmbus__rx_chain *from)
{
	if (!from->count)
		return;
	next[from->last] = to->count ? to->first : VMBUS__NET_NONE;
	if (!to->count)
		to->last = from->last;
	to->first = from->first;
	to->count += from->count;
}

static uint32_t chain_take(const uint32_t *next, struct vmbus__rx_chain *chain)
{
	const uint32_t section = chain->first;

	if (VMBUS_UNLIKELY(!chain->count))
		return VMBUS__NET_NONE;
	chain->first = next[section];
	chain->count--;
	return section;
}

uint32_t vmbus__rx_take(struct vmbus__net_chan *ch)
{
	return chain_take(ch->shape.receive->next, &ch->rx->free);
}

/* It was taken, and not used. */
void vmbus__rx_give(struct vmbus__net_chan *ch, uint32_t section)
{
	const struct vmbus__rx_chain one = { section, section, 1 };

	chain_join(ch->shape.receive->next, &ch->rx->free, &one);
}

/* ---- life ---- */

static void reset(struct vmbus__net_rx *rx)
{
	rx->free = rx->control = rx->chain = (struct vmbus__rx_chain){ 0 };
	rx->ranges = rx->used = rx->frames = 0;
	rx->bytes = 0;
	rx->starves = rx->stuck = rx->control_due = rx->control_waits = rx->again = false;
	rx->poll_due = false;
}

int vmbus__net_rx_make(struct vmbus__net_chan *ch)
{
	struct vmbus__net_rx *const rx = calloc(1, sizeof(*rx));
	const uint32_t most = vmbus_chan_send_max(ch->chan);

	if (!rx)
		return VMBUS_E_NOMEM;
	ch->rx = rx;
	rx->lent = calloc(VMBUS__RX_LENTS, sizeof(*rx->lent));
	rx->lent_free = VMBUS__NET_NONE;
	rx->ranges_max = VMBUS__RX_RANGES;
	while (vmbus_wire_ring_bytes(8u + 8u * rx->ranges_max, VMBUS__NVSP_BYTES) > most)
		rx->ranges_max--;
	return rx->lent ? 0 : VMBUS_E_NOMEM;
}

void vmbus__net_rx_free(struct vmbus__net_chan *ch)
{
	if (!ch->rx)
		return;
	free(ch->rx->scratch);
	free(ch->rx->bounce);
	free(ch->rx->lent);
	free(ch->rx);
	ch->rx = NULL;
}

/* Lock: there is a receive buffer now; ch->shape has it. */
void vmbus__net_rx_begin(struct vmbus__net_chan *ch)
{
	struct vmbus__net_rx *const rx = ch->rx;
	const uint32_t *const next = ch->shape.receive->next;
	const uint32_t control = vmbus__net_control_sections(ch->shape.receive->sections);
	uint32_t i;

	reset(rx);
	rx->pack_bytes =
		ch->net->opts.flags & VMBUS_NET_NO_PACK ? 0 : ch->shape.receive->section_bytes;
	rx->free = (struct vmbus__rx_chain){ .first = ch->seat->first, .count = ch->seat->count };
	ch->seat->count = 0;
	for (i = 0; i < rx->free.count; i++)
		rx->free.last = i ? next[rx->free.last] : rx->free.first;
	if (vmbus__net_is_primary(ch))
		rx->control = (struct vmbus__rx_chain){ .last = control - 1u, .count = control };
}

void vmbus__rx_show_lent(struct vmbus__net_chan *ch, uint64_t now)
{
	ch->lent = now;
	vmbus__st64_relaxed(vmbus__as_a64(&ch->net->lent[ch->number]), now); /* NETSTAT.add */
}

/* Lock: whether a later guest's channel counts in the place of this one already. */
static bool is_replaced(const struct vmbus__net_chan *ch)
{
	const struct vmbus__net_session *const now = ch->net->session;

	return now && now != ch->session &&
	       vmbus__ld32_relaxed(&now->seat[ch->number].open); /* NETSEAT.look */
}

/* Lock: this channel's use of the buffer ends; all of its sections are the seat's again. */
void vmbus__net_rx_forget(struct vmbus__net_chan *ch)
{
	struct vmbus__net_rx *const rx = ch->rx;
	struct vmbus__net_buffer *const buffer = ch->shape.receive;
	uint32_t i;

	for (i = 0; i < rx->lent_fresh; i++) {
		struct vmbus__rx_lent *const lent = &rx->lent[i];

		if (!lent->out)
			continue;
		if (!lent->control)
			chain_join(buffer->next, &rx->free, &lent->chain);
		lent->out = false;
		lent->next = rx->lent_free;
		rx->lent_free = i;
	}
	chain_join(buffer->next, &rx->free, &rx->chain);
	vmbus__net_count(ch, VMBUS__NET_NO_ROOM, rx->frames);
	if (ch->session->shape.receive == buffer) {
		ch->seat->first = rx->free.first;
		ch->seat->count = rx->free.count;
	}
	if (is_replaced(ch))
		ch->lent = 0;
	else
		vmbus__rx_show_lent(ch, 0);
	reset(rx);
}

uint8_t *vmbus__rx_scratch(struct vmbus__net_chan *ch)
{
	if (!ch->rx->scratch)
		ch->rx->scratch = malloc(VMBUS__RX_SCRATCH);
	return ch->rx->scratch;
}

uint8_t *vmbus__rx_bounce(void)
{
	return malloc(VMBUS__RX_SCRATCH);
}

/* ---- packets ---- */

static struct vmbus__rx_lent *take_lent(struct vmbus__net_rx *rx)
{
	struct vmbus__rx_lent *lent;

	if (rx->lent_free != VMBUS__NET_NONE) {
		lent = &rx->lent[rx->lent_free];
		rx->lent_free = lent->next;
		return lent;
	}
	return rx->lent_fresh < VMBUS__RX_LENTS ? &rx->lent[rx->lent_fresh++] : NULL;
}

static void give_lent(struct vmbus__net_rx *rx, struct vmbus__rx_lent *lent)
{
	lent->out = false;
	lent->next = rx->lent_free;
	rx->lent_free = (uint32_t)(lent - rx->lent);
}

static void put_ext(uint8_t *ext, uint16_t set, uint32_t ranges)
{
	const struct vmbus_wire_ext head = { .xfer_set = set, .range_count = ranges };

	(void)vmbus_wire_ext_put(VMBUS_PKT_XFER_PAGES, &head, ext, 8);
}

/* Send a packet with ranges that ext has already. */
static int send_ranges(struct vmbus__net_chan *ch, uint8_t *ext, uint32_t ranges,
		       const struct vmbus__rx_chain *chain, uint32_t type)
{
	const struct vmbus__nvsp_rndis rndis = { .channel = type,
						 .section = VMBUS__NVSP_NO_SECTION };
	struct vmbus__net_rx *const rx = ch->rx;
	uint8_t nvsp[VMBUS__NVSP_BYTES] = { 0 };
	struct vmbus__rx_lent *const lent = take_lent(rx);
	struct vmbus_msg msg = { .data = nvsp,
				 .len = vmbus__nvsp_bytes(ch->shape.nvsp),
				 .type = VMBUS_PKT_XFER_PAGES,
				 .flags = VMBUS_PKT_FLAG_COMPLETE,
				 .ext = ext,
				 .ext_len = 8u + 8u * ranges };
	int sent;

	if (!lent)
		return VMBUS_E_AGAIN;
	lent->generation = rx->generation;
	rx->generation = (rx->generation + 1u) & INT32_MAX;
	msg.id = ((uint64_t)lent->generation << 32) + (uint64_t)(lent - rx->lent) + 1u;
	vmbus__nvsp_rndis_put(nvsp, &rndis);
	put_ext(ext, (uint16_t)ch->shape.receive_id, ranges);
	sent = vmbus_chan_send(ch->chan, &msg, 1);
	if (VMBUS_UNLIKELY(sent != 1)) {
		give_lent(rx, lent);
		return sent;
	}
	lent->chain = *chain;
	lent->out = true;
	lent->control = type == VMBUS__NVSP_CHANNEL_CONTROL;
	VMBUS_PROBE3(net_receive_start, ch->chan, msg.id, ranges);
	vmbus__rx_show_lent(ch, ch->lent + chain->count);
	return 0;
}

static void mark_dirty(struct vmbus__net_chan *ch)
{
	const struct vmbus__net_buffer *const buffer = ch->shape.receive;
	uint32_t i, section = ch->rx->chain.first;

	for (i = 0; i < ch->rx->chain.count; i++, section = buffer->next[section])
		vmbus_sgl_dirty(&buffer->sgl, (uint64_t)section * buffer->section_bytes,
				buffer->section_bytes);
}

/* Send what was gathered, if anything. */
void vmbus__rx_send(struct vmbus__net_chan *ch)
{
	struct vmbus__net_rx *const rx = ch->rx;
	int err;

	if (!rx->ranges)
		return;
	if (!rx->stuck)
		mark_dirty(ch);
	err = send_ranges(ch, rx->ext, rx->ranges, &rx->chain, VMBUS__NVSP_CHANNEL_DATA);
	rx->stuck = err == VMBUS_E_FULL || err == VMBUS_E_AGAIN;
	if (rx->stuck)
		return;		   /* in writable(), or when a packet comes back */
	if (VMBUS_UNLIKELY(err)) { /* the channel ends */
		chain_join(ch->shape.receive->next, &rx->free, &rx->chain);
		vmbus__net_count(ch, VMBUS__NET_NO_ROOM, rx->frames);
	} else {
		vmbus__net_count(ch, VMBUS__NET_RECEIVED_FRAMES, rx->frames);
		vmbus__net_count(ch, VMBUS__NET_RECEIVED_BYTES, rx->bytes);
		vmbus__net_count(ch, VMBUS__NET_RECEIVED_PACKETS, 1);
		ch->work += rx->bytes;
	}
	rx->chain = (struct vmbus__rx_chain){ 0 };
	rx->ranges = rx->used = rx->frames = 0;
	rx->bytes = 0;
}

/* Whether so many ranges, and as many sections, may be added; sends what there is if need be. */
bool vmbus__rx_open(struct vmbus__net_chan *ch, uint32_t ranges)
{
	struct vmbus__net_rx *const rx = ch->rx;

	if (VMBUS_UNLIKELY(rx->stuck || ranges > rx->ranges_max))
		return false;
	if (VMBUS_UNLIKELY(ranges > rx->ranges_max - rx->ranges))
		vmbus__rx_send(ch);
	return !rx->stuck;
}

/* A section joins the packet. */
void vmbus__rx_add(struct vmbus__net_chan *ch, uint32_t section)
{
	vmbus__rx_chain_add(ch->shape.receive->next, &ch->rx->chain, section);
}

int vmbus__net_send_control(struct vmbus__net_chan *ch, const void *msg, uint32_t len)
{
	struct vmbus__net_rx *const rx = ch->rx;
	struct vmbus__net_buffer *const buffer = ch->shape.receive;
	uint8_t ext[16];
	struct vmbus__rx_chain one;
	uint32_t section;
	int err;

	if (!buffer)
		return VMBUS_E_STATE;
	if (len > buffer->section_bytes)
		return VMBUS_E_RANGE;
	section = chain_take(buffer->next, &rx->control);
	if (section == VMBUS__NET_NONE)
		return VMBUS_E_FULL;
	one = (struct vmbus__rx_chain){ section, section, 1 };
	vmbus__net_buffer_write(buffer, (uint64_t)section * buffer->section_bytes, msg, len);
	vmbus_sgl_dirty(&buffer->sgl, (uint64_t)section * buffer->section_bytes, len);
	vmbus__net_put32(ext + 8, len);
	vmbus__net_put32(ext + 12, section * buffer->section_bytes);
	err = send_ranges(ch, ext, 1, &one, VMBUS__NVSP_CHANNEL_CONTROL);
	if (err)
		chain_join(buffer->next, &rx->control, &one);
	rx->control_waits = err == VMBUS_E_AGAIN; /* the guest has as many packets as it may */
	return err == VMBUS_E_AGAIN ? VMBUS_E_FULL : err;
}

/* A completion of the guest's: the sections of that packet are ours again, whatever it says of them. */
void vmbus__net_rx_returned(struct vmbus__net_chan *ch, const struct vmbus_packet *pkt)
{
	struct vmbus__net_rx *const rx = ch->rx;
	const uint32_t number = (uint32_t)(pkt->id & UINT32_MAX); /* and 1 */
	struct vmbus__rx_lent *lent;

	if (!ch->shape.receive || number == 0 || number > rx->lent_fresh) {
		vmbus_chan_bad_completion(ch->chan);
		return;
	}
	lent = &rx->lent[number - 1u];
	if (!lent->out || lent->generation != pkt->id >> 32) {
		vmbus_chan_bad_completion(ch->chan);
		return;
	}
	VMBUS_PROBE3(net_receive_end, ch->chan, pkt->id, lent->chain.count);
	chain_join(ch->shape.receive->next, lent->control ? &rx->control : &rx->free, &lent->chain);
	vmbus__rx_show_lent(ch, ch->lent - lent->chain.count);
	if (lent->control || rx->control_waits)
		rx->control_due = vmbus__net_is_primary(ch);
	rx->again = true;
	give_lent(rx, lent);
}

bool vmbus__net_rx_starves(const struct vmbus__net_chan *ch)
{
	return ch->rx->starves || ch->rx->stuck;
}

bool vmbus__net_rx_inbox_waits(const struct vmbus__net_chan *ch)
{
	return ch->rx->inbox_waits;
}

/* How many sub-channels, at most subs, there are sections for, one each and one for us: the guest may have
   most of them now. */
uint32_t vmbus__net_rx_shares(const struct vmbus__net_chan *ch, uint32_t subs)
{
	const uint32_t n = ch->rx->free.count;

	if (!ch->shape.receive || subs < n)
		return subs;
	return n ? n - 1u : 0;
}

/* Lock: so many sub-channels get as many sections as we keep, of those that are free now. */
void vmbus__net_rx_share(struct vmbus__net_chan *ch, uint32_t subs)
{
	struct vmbus__net_rx *const rx = ch->rx;
	const uint32_t each = rx->free.count / (subs + 1u);
	uint32_t i, k;

	if (!ch->shape.receive)
		return;
	for (k = 1; k <= subs; k++) {
		struct vmbus__rx_chain chain = { 0 };

		for (i = 0; i < each; i++) {
			const uint32_t section = vmbus__rx_take(ch);

			vmbus__rx_chain_add(ch->shape.receive->next, &chain, section);
			ch->shape.receive->owner[section] = (uint8_t)k;
		}
		ch->session->seat[k].first = chain.first;
		ch->session->seat[k].count = chain.count;
	}
}

/* Whether the guest takes frames; without a link they are dropped. */
bool vmbus__net_rx_is_open(const struct vmbus__net_chan *ch)
{
	return ch->shape.running && ch->shape.filter && ch->shape.receive;
}

/* ---- callbacks ---- */

/* From a port. */
uint32_t vmbus__net_deliver(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			    uint32_t n)
{
	struct vmbus__net_chan *const ch = queue->up_p;
	uint32_t taken;

	if (VMBUS_UNLIKELY(!vmbus__net_rx_is_open(ch) || !ch->shape.link)) {
		vmbus__net_count(ch, VMBUS__NET_STOPPED, n);
		return n;
	}
	if (VMBUS_UNLIKELY(vmbus__rx_steers(ch)))
		return vmbus__rx_steer(ch, frame, n);
	taken = vmbus__rx_frames(ch, frame, n);
	if (taken < n)
		ch->rx->starves = true;
	return taken;
}

/* Ask the port for frames. */
void vmbus__net_rx_poll(struct vmbus__net_chan *ch)
{
	const struct vmbus_port_ops *const ops = ch->net->opts.port.ops;

	ch->rx->poll_due = false; /* what ends that it cannot be asked has it asked again */
	if (!ch->has_queue || ch->rx->stuck || ch->rx->starves || !vmbus__net_rx_is_open(ch))
		return;
	if (ops->receive)
		vmbus__rx_receive(ch);
	else if (ops->ready)
		ops->ready(&ch->queue);
}

static uint32_t take_for_guest(struct vmbus__net_chan *ch, const struct vmbus_frame *frame,
			       uint32_t n)
{
	if (VMBUS_LIKELY(vmbus__net_rx_is_open(ch) && ch->shape.link))
		return vmbus__rx_frames(ch, frame, n);
	vmbus__net_count(ch, VMBUS__NET_STOPPED, n);
	return n;
}

/* Frames that other channels put here: to be sent, or for our guest. */
void vmbus__net_rx_inbox(struct vmbus__net_chan *ch)
{
	const struct vmbus_port_ops *const ops = ch->net->opts.port.ops;
	struct vmbus__inbox *const inbox = ch->seat->inbox;
	const struct vmbus_frame *frame;
	uint32_t turns = VMBUS__INBOX_TURNS, n, taken;
	uint64_t who;

	ch->rx->inbox_waits = false;
	while ((n = vmbus__inbox_look(inbox, &frame, NULL))) {
		if (!vmbus__net_is_primary(ch))
			taken = take_for_guest(ch, frame, n);
		else
			taken = ch->has_queue ? ops->send(&ch->queue, frame, n) : n;
		vmbus__inbox_done(inbox, taken < n ? taken : n);
		if (VMBUS_LIKELY(taken >= n) && --turns)
			continue;
		if (taken >= n)
			vmbus__inbox_ring(inbox); /* the rest in another callback */
		else if (vmbus__net_is_primary(ch))
			ch->rx->inbox_waits = true;
		else
			ch->rx->starves = true;
		break;
	}
	for (who = vmbus__inbox_wanted(inbox); who; who &= who - 1u) {
		const uint32_t number = (uint32_t)__builtin_ctzll(who);

		if (number <= ch->session->subs && ch->session->seat[number].inbox)
			vmbus__inbox_ring(ch->session->seat[number].inbox);
	}
}

/* In the midst of a callback: a ring that the look reads may have been for something else, which another
   callback sees to. */
static void inbox_again(struct vmbus__net_chan *ch)
{
	struct vmbus__net_session *const session = ch->session;

	vmbus__net_rx_inbox(ch);
	if (ch->rx->poll_due ||
	    vmbus__ld64_relaxed(vmbus__as_a64(&session->number)) != ch->seen || /* NETSHAPE.look */
	    (vmbus__net_is_primary(ch) && vmbus__ld32_relaxed(&session->poke))) /* NETPOKE.look */
		vmbus__inbox_ring(ch->seat->inbox);
}

/* What waits for the port, which was just asked for frames: it may have read what told of its room.  And
   what an earlier callback has left, whose ring may have been read. */
void vmbus__net_rx_asked(struct vmbus__net_chan *ch)
{
	if (VMBUS_UNLIKELY(ch->rx->inbox_waits))
		inbox_again(ch);
	if (VMBUS_UNLIKELY(vmbus__net_tx_is_due(ch)))
		vmbus__net_tx_run(ch);
}

/* The end of a callback. */
void vmbus__net_rx_end(struct vmbus__net_chan *ch)
{
	struct vmbus__net_rx *const rx = ch->rx;

	if (VMBUS_UNLIKELY(rx->stuck)) {
		vmbus__rx_send(ch);
		if (!rx->stuck) /* a port may have kept what it was not asked for again */
			rx->again = rx->starves = true;
	}
	if (VMBUS_UNLIKELY(rx->again && rx->starves && !rx->stuck)) {
		rx->starves = false;
		if (!vmbus__net_is_primary(ch))
			inbox_again(ch);
		vmbus__net_rx_poll(ch);
		vmbus__net_rx_asked(ch);
	}
	rx->again = false;
	if (rx->ranges && !rx->stuck)
		vmbus__rx_send(ch);
	if (VMBUS_UNLIKELY(rx->control_due)) {
		rx->control_due = false;
		vmbus__net_control_again(ch);
	}
}
