/* SPDX-License-Identifier: MIT */
/*
 * The packets of an open channel, and what a device may call, on the thread that dispatches the
 * channel.  Nothing on this path takes a lock, allocates, divides or calls the system, but for the
 * raise() of the backend, at most once for a callback.
 *
 * A channel is asleep when the child will signal it: it is armed for packets, or for room.
 */
#include "bus/bus.h"
#include "bus/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/probe.h"
#include "base/untrusted.h"
#include "wire/msg.h"

#define DIRECT_MIN 8u /* messages that are worth a publication of their own */
#define SPANS_MAX (VMBUS_PKT_RING_BYTES_MAX / VMBUS_PAGE_BYTES + 2u)

static VMBUS_INLINE int commit(struct vmbus_chan *chan)
{
	int sent;

	if (!chan->batch)
		return 0;
	chan->batch = 0;
	sent = vmbus_ring_tx_commit(&chan->tx);
	return sent < 0 ? sent : 0;
}

/* The same with somebody who takes notes. */
static VMBUS_NOINLINE int commit_noted(struct vmbus_chan *chan)
{
	const int err = chan->journal ? vmbus__journal_commit(chan) : commit(chan);

	if (chan->tap)
		vmbus__tap_publish(chan);
	return err;
}

static VMBUS_INLINE bool noted(const struct vmbus_chan *chan)
{
	return ((uintptr_t)chan->journal | (uintptr_t)chan->tap) != 0;
}

/* Publish what was sent in a callback. */
int vmbus__chan_publish(struct vmbus_chan *chan)
{
	return VMBUS_LIKELY(!noted(chan)) ? commit(chan) : commit_noted(chan);
}

/* Break the channel because of what a ring, or the device, says; close() follows from the turn. */
void vmbus__chan_note(struct vmbus_chan *chan, const struct vmbus_fault *fault, const char *why)
{
	int n;

	if (chan->failed)
		return;
	chan->failed = true;
	if (fault) {
		chan->fault = *fault;
		n = snprintf(chan->why, sizeof(chan->why), "%s: ", why);
		(void)vmbus_fault_format(fault, chan->why + n, sizeof(chan->why) - (size_t)n);
	} else {
		(void)snprintf(chan->why, sizeof(chan->why), "%s", why ? why : "");
	}
	VMBUS_PROBE3(chan_fault, chan, chan->relid, &chan->why[0]);
}

/* The device's limit is none of the ring's, so it has words of its own. */
static VMBUS_NOINLINE void note_payload(struct vmbus_chan *chan, const struct vmbus_fault *fault)
{
	char why[VMBUS__WHY_BYTES];

	(void)snprintf(why, sizeof(why), "payload is %llu, must be at most %llu, at ring offset %u",
		       (unsigned long long)fault->value, (unsigned long long)fault->limit,
		       fault->where);
	vmbus__chan_note(chan, NULL, why);
	chan->fault = *fault;
}

/* A send found no room: have the child tell when there is some. */
static VMBUS_NOINLINE void want_room(struct vmbus_chan *chan, const struct vmbus_msg *msg)
{
	uint64_t len = msg->len, bytes;
	uint32_t i;

	for (i = 0; i < msg->more_count; i++)
		len += msg->more[i].len;
	bytes = vmbus_wire_ring_bytes(msg->ext_len, len);
	if (bytes > vmbus_ring_max_send(chan->tx.mem_p.size_p))
		return;
	if (chan->need == 0 || bytes < chan->need)
		chan->need = (uint32_t)bytes;
	if (!chan->in_callback)
		vmbus__chan_look(chan, chan->slot); /* the next turn arms */
}

/* What a refused send means for the channel; returns err. */
static VMBUS_NOINLINE int refused(struct vmbus_chan *chan, const struct vmbus_msg *msg, int err)
{
	if (err == VMBUS_E_FULL)
		want_room(chan, msg);
	if (err == VMBUS_E_PEER) {
		vmbus__chan_note(chan, vmbus_ring_tx_fault(&chan->tx), "ring to the child");
		if (!chan->in_callback)
			vmbus__chan_look(chan, chan->slot);
	}
	return err;
}

/* Copy the payload into the pieces of a reservation. */
static VMBUS_NOINLINE void fill_pieces(const struct vmbus_msg *msg, const struct vmbus_span *span,
				       uint32_t spans)
{
	struct vmbus_iov from = { msg->data, msg->len };
	uint32_t next = 0, s;
	size_t at = 0;

	for (s = 0; s < spans; s++) {
		uint8_t *to = span[s].base;
		size_t room = span[s].len;

		while (room) {
			const size_t left = from.len - at;
			const size_t n = left < room ? left : room;

			if (n)
				vmbus__peer_write(to, (const uint8_t *)from.base + at, n);
			at += n;
			to += n;
			room -= n;
			if (at == from.len && room) {
				if (next == msg->more_count)
					return;
				from = msg->more[next++];
				at = 0;
			}
		}
	}
}

/* The length of a payload, or more than any packet has. */
static uint32_t payload_len(const struct vmbus_msg *msg)
{
	uint64_t len = msg->len;
	uint32_t i;

	for (i = 0; i < msg->more_count; i++) {
		if (msg->more[i].len > VMBUS_PKT_RING_BYTES_MAX)
			return VMBUS_PKT_RING_BYTES_MAX;
		len += msg->more[i].len;
	}
	return len < VMBUS_PKT_RING_BYTES_MAX ? (uint32_t)len : VMBUS_PKT_RING_BYTES_MAX;
}

/* A message of any kind joins the batch of this callback. */
static VMBUS_NOINLINE int join_any(struct vmbus_chan *chan, const struct vmbus_msg *msg)
{
	struct vmbus_msg head = *msg;
	struct vmbus_span span[SPANS_MAX];
	int spans;

	if (!vmbus__msg_has_payload(msg))
		return VMBUS_E_INVAL;
	head.len = payload_len(msg);
	head.data = NULL;
	head.more = NULL;
	head.more_count = 0;
	spans = vmbus_ring_tx_reserve(&chan->tx, &head, span, SPANS_MAX);
	if (spans < 0)
		return spans;
	chan->batch++;
	fill_pieces(msg, span, (uint32_t)spans);
	return 0;
}

/* The commonest: no header, one piece of payload, one piece of ring. */
static VMBUS_INLINE int join(struct vmbus_chan *chan, uint32_t type, uint64_t id, const void *data,
			     uint32_t len)
{
	const struct vmbus_msg head = { .id = id, .len = len, .type = (uint16_t)type };
	struct vmbus_span span[SPANS_MAX];
	const int spans = vmbus_ring_tx_reserve(&chan->tx, &head, span, SPANS_MAX);

	if (VMBUS_UNLIKELY(spans < 0))
		return spans;
	chan->batch++;
	if (VMBUS_LIKELY(spans == 1)) {
		vmbus__peer_write(span[0].base, data, len);
	} else if (spans > 1) {
		const struct vmbus_msg whole = { .data = data, .len = len };

		fill_pieces(&whole, span, (uint32_t)spans);
	}
	return 0;
}

/* Publish at once: outside of callbacks, and where the batch is large enough by itself. */
static int send_now(struct vmbus_chan *chan, const struct vmbus_msg *msg, uint32_t n)
{
	int sent = chan->journal ? 0 : vmbus__chan_publish(chan);

	if (sent < 0)
		return refused(chan, msg, sent);
	sent = vmbus_ring_tx_put(&chan->tx, msg, n);
	if (VMBUS_UNLIKELY(chan->tap && sent > 0)) {
		vmbus__tap_sent(chan, msg, (uint32_t)sent);
		vmbus__tap_publish(chan);
	}
	if (VMBUS_LIKELY(sent == (int)n))
		return sent;
	if (sent < 0)
		return refused(chan, msg, sent);
	want_room(chan, msg + sent);
	return sent;
}

/* Why nothing can be sent: closed, failed by the device, or broken by the child. */
static VMBUS_NOINLINE int unable(const struct vmbus_chan *chan)
{
	if (!chan->live || vmbus_ring_tx_fault(&chan->tx)->field == VMBUS_FAULT_NONE)
		return VMBUS_E_STATE;
	return VMBUS_E_FAULT;
}

int vmbus_chan_send(struct vmbus_chan *chan, const struct vmbus_msg *msg, uint32_t n)
{
	uint32_t i;

	if (VMBUS_UNLIKELY(!chan->live || chan->failed))
		return unable(chan);
	if (!chan->in_callback || (n >= DIRECT_MIN && !chan->journal)) {
		for (i = 0; i < n && vmbus__msg_has_payload(&msg[i]); i++)
			;
		return i || !n ? send_now(chan, msg, i) : VMBUS_E_INVAL;
	}
	for (i = 0; i < n; i++) {
		const int err = join_any(chan, &msg[i]);

		if (VMBUS_UNLIKELY(err)) {
			(void)refused(chan, &msg[i], err);
			return i ? (int)i : err;
		}
		if (VMBUS_UNLIKELY(chan->tap != NULL))
			vmbus__tap_sent(chan, &msg[i], 1);
	}
	return (int)n;
}

/* A completion outside of callbacks; a request that was pended ends with its publication. */
static VMBUS_NOINLINE int complete_now(struct vmbus_chan *chan, const struct vmbus_msg *msg)
{
	struct vmbus__journal *const j = chan->journal;
	const bool kept = j && vmbus__journal_done(j, msg->id, true) != VMBUS__SLOT_NONE;
	const int sent = send_now(chan, msg, 1);

	if (kept && sent == 1)
		vmbus__journal_settle(j);
	else if (kept)
		vmbus__journal_undo(j);
	return sent == 1 ? 0 : sent;
}

/* A completion joined the batch. */
static VMBUS_NOINLINE void note_completion(struct vmbus_chan *chan, const struct vmbus_msg *msg)
{
	if (chan->journal)
		(void)vmbus__journal_done(chan->journal, msg->id, true);
	if (chan->tap)
		vmbus__tap_sent(chan, msg, 1);
}

int vmbus_chan_complete(struct vmbus_chan *chan, uint64_t id, const void *data, uint32_t len)
{
	const struct vmbus_msg msg = {
		.id = id, .data = data, .len = len, .type = VMBUS_PKT_COMPLETION
	};
	int err;

	if (VMBUS_UNLIKELY(!chan->live || chan->failed))
		return unable(chan);
	if (VMBUS_UNLIKELY(len && !data))
		return VMBUS_E_INVAL;
	if (VMBUS_UNLIKELY(!chan->in_callback))
		return complete_now(chan, &msg);
	err = join(chan, VMBUS_PKT_COMPLETION, id, data, len);
	if (VMBUS_UNLIKELY(noted(chan)) && !err)
		note_completion(chan, &msg);
	return VMBUS_LIKELY(!err) ? 0 : refused(chan, &msg, err);
}

int vmbus_chan_flush(struct vmbus_chan *chan)
{
	const struct vmbus_msg none = { 0 };
	int err;

	if (VMBUS_UNLIKELY(!chan->live || chan->failed))
		return unable(chan);
	if (chan->journal && chan->in_callback)
		return 0; /* with the rest of the callback, or not at all */
	err = vmbus__chan_publish(chan);
	return err ? refused(chan, &none, err) : 0;
}

void vmbus_chan_each(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n,
		     vmbus_chan_packet_fn *fn)
{
	uint32_t i;

	for (i = 0; i < n && !chan->failed; i++)
		fn(chan, &pkt[i]);
}

void vmbus_chan_fail(struct vmbus_chan *chan, const char *why)
{
	if (chan->stage == VMBUS__SHUT)
		return;
	vmbus__chan_note(chan, NULL, why);
	if (!chan->in_callback)
		vmbus__chan_look(chan, chan->slot);
}

void vmbus_chan_pause(struct vmbus_chan *chan, bool pause)
{
	vmbus__chan_pause(chan, VMBUS__PAUSED_BY_DEVICE, pause);
}

/* The same for any reason. */
void vmbus__chan_pause(struct vmbus_chan *chan, uint32_t why, bool pause)
{
	const uint8_t was = chan->paused;

	chan->paused = (uint8_t)(pause ? was | why : was & ~why);
	if (pause && why == VMBUS__PAUSED_TO_SAVE)
		vmbus__watch_again(chan); /* ready() comes also while a send waits for room */
	if (was && !chan->paused && chan->live)
		vmbus__chan_look(chan, chan->slot); /* what came meanwhile brought no signal */
}

/* The device is called; what it sent is published after. */
static VMBUS_INLINE void leave_callback(struct vmbus_chan *chan)
{
	int err;

	chan->in_callback = false;
	if (VMBUS_UNLIKELY(chan->failed))
		return;
	err = vmbus__chan_publish(chan);
	if (VMBUS_UNLIKELY(err))
		vmbus__chan_note(chan, vmbus_ring_tx_fault(&chan->tx), "ring to the child");
}

/*
 * The watched descriptor is readable: tell the device, also while its open() waits.  Returns whether
 * it was told.
 */
VMBUS_NOINLINE bool vmbus__chan_ready(struct vmbus_chan *chan)
{
	if (!vmbus__watch_take(chan))
		return false;
	chan->in_callback = true;
	chan->vsp->ready(chan);
	if (chan->live) /* else nothing was sent, or it has ended within open_done() */
		leave_callback(chan);
	chan->in_callback = false;
	return true;
}

/* Whether the packets keep to the device's limit. */
static bool check_lengths(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	const uint32_t most = chan->max_payload;
	uint32_t i;

	for (i = 0; i < n; i++)
		if (VMBUS_UNLIKELY(pkt[i].len > most)) {
			const struct vmbus_fault fault = { VMBUS_FAULT_PKT_LENGTH, pkt[i].where,
							   pkt[i].len, most };

			note_payload(chan, &fault);
			return false;
		}
	return true;
}

/* Bytes of buffers go back to the quota of the bus; on any thread. */
static void give_bytes(struct vmbus_bus *bus, uint32_t bytes)
{
	if (bytes)
		vmbus__add64_relaxed(&bus->buf_bytes, UINT64_MAX - (bytes - 1u)); /* COUNT.add */
}

/*
 * Take bytes of a buffer from the quota of the bus; on any thread.  What is refused was never in the
 * count, where another channel that has room would find it and be refused as well.
 */
static bool take_bytes(struct vmbus_bus *bus, uint32_t bytes)
{
	const uint64_t most = bus->opts.buf_bytes_max;
	uint64_t had;

	do {
		had = vmbus__ld64_relaxed(&bus->buf_bytes); /* COUNT.read */
		if (had > most || bytes > most - had) {
			vmbus__add64_relaxed(&bus->bufs_refused, 1); /* COUNT.add */
			return false;
		}
	} while (!vmbus__cas64_acq_rel(&bus->buf_bytes, had, had + bytes)); /* COUNT.take */
	return true;
}

/* The buffer that a channel has goes; the first one of an opening is not counted. */
void vmbus__chan_give_bytes(struct vmbus_chan *chan)
{
	give_bytes(chan->bus, chan->buf_counted);
	chan->buf_counted = 0;
}

static VMBUS_NOINLINE bool grow_buf(struct vmbus_chan *chan)
{
	const uint32_t need = (vmbus_ring_rx_need(&chan->rx) + 63u) / 64u * 64u;
	const uint32_t more = need - chan->buf_counted; /* it is larger than what was too small */
	struct vmbus_bus *const bus = chan->bus;
	void *buf;

	if (need > vmbus_ring_rx_buf_bytes(chan->rx.mem_p.size_p) + 63u || !take_bytes(bus, more))
		return false;
	buf = aligned_alloc(64, need);
	if (!buf || vmbus_ring_rx_set_buf(&chan->rx, buf, need)) {
		free(buf);
		give_bytes(bus, more);
		vmbus__add64_relaxed(&bus->bufs_refused, 1); /* COUNT.add */
		return false;
	}
	chan->buf_counted = need;
	free(chan->buf);
	chan->buf = buf;
	chan->buf_bytes = need;
	return true;
}

/* A receive that brought no packets: sleep, a larger buffer, or the end. */
static void not_received(struct vmbus_chan *chan, int got, bool sleep, bool *again)
{
	if (got == VMBUS_E_AGAIN)
		return; /* until a request of the journal's is done */
	if (got == 0) {
		if (!sleep)
			return;
		got = vmbus_ring_rx_arm(&chan->rx);
		chan->armed = got == VMBUS_RING_SLEEP;
		vmbus__note_dry(chan);
		if (got == VMBUS_RING_READY)
			*again = true;
	} else if (got == VMBUS_E_RANGE && grow_buf(chan)) {
		*again = true;
		return;
	} else if (got == VMBUS_E_RANGE) {
		vmbus__chan_note(chan, NULL, "no memory for a packet");
	}
	if (got < 0 && !chan->failed)
		vmbus__chan_note(chan, vmbus_ring_rx_fault(&chan->rx), "ring from the child");
}

/* Try for the room that a send waits for.  Returns whether packets may be delivered. */
static bool try_room(struct vmbus_chan *chan, bool *again)
{
	const int got = vmbus_ring_tx_arm(&chan->tx, chan->need);

	if (got == VMBUS_RING_SLEEP)
		return (chan->vsp->flags & VMBUS_VSP_READ_WHILE_FULL) != 0;
	if (got < 0) {
		vmbus__chan_note(chan, vmbus_ring_tx_fault(&chan->tx), "ring to the child");
		return false;
	}
	chan->need = 0;
	vmbus_ring_tx_disarm(&chan->tx);
	vmbus__watch_again(chan);
	*again = true;
	if (chan->vsp->writable) {
		chan->in_callback = true;
		chan->vsp->writable(chan);
		leave_callback(chan);
	}
	return !chan->failed && chan->need == 0;
}

/* A send waits for room, or the device takes no packets.  Returns whether they may be delivered. */
static VMBUS_NOINLINE bool may_deliver(struct vmbus_chan *chan, bool *again)
{
	return (!chan->need || try_room(chan, again)) && !chan->paused;
}

/* The descriptor is due: it or packets come first, in turn, if one unit is all there is. */
static VMBUS_NOINLINE uint32_t ready_turn(struct vmbus_chan *chan, uint32_t budget, bool *again)
{
	const bool first = budget > 1 || !chan->ready_was;

	chan->ready_was = first && budget == 1;
	*again = budget == 1;
	return first && vmbus__chan_ready(chan) ? 1 : 0;
}

/*
 * One turn of a channel: its own descriptor if that is due, and at most a batch of packets.
 *
 * budget  1 and up: packets, and one for the descriptor.
 * sleep   arm the channel when nothing is left.
 * again   set when there may be more to do now.
 *
 * Returns what was delivered.
 */
uint32_t vmbus__chan_turn(struct vmbus_chan *chan, uint32_t budget, bool sleep, bool *again)
{
	struct vmbus_packet pkt[VMBUS__BATCH];
	uint32_t done = 0;
	int got;

	*again = false;
	if (VMBUS_UNLIKELY(!chan->live))
		return vmbus__chan_idle(chan);
	if (chan->armed) {
		chan->armed = false;
		vmbus_ring_rx_disarm(&chan->rx);
	}
	if (VMBUS_UNLIKELY(chan->ready_due))
		done = ready_turn(chan, budget, again);
	if (VMBUS_LIKELY(done < budget && !chan->failed) &&
	    (VMBUS_LIKELY(!(chan->need | chan->paused)) || may_deliver(chan, again))) {
		const uint32_t left = budget - done;
		const uint32_t most = left < VMBUS__BATCH ? left : VMBUS__BATCH;

		got = VMBUS_LIKELY(!chan->journal) ? vmbus_ring_rx_get(&chan->rx, pkt, most)
						   : vmbus__journal_get(chan, pkt, most);
		if (VMBUS_UNLIKELY(got <= 0)) {
			not_received(chan, got, sleep, again);
		} else if (check_lengths(chan, pkt, (uint32_t)got)) {
			if (VMBUS_UNLIKELY(chan->tap != NULL))
				vmbus__tap_received(chan, pkt, (uint32_t)got);
			chan->in_callback = true;
			chan->vsp->packets(chan, pkt, (uint32_t)got);
			leave_callback(chan);
			done += (uint32_t)got;
			*again = true;
		}
	}
	if (VMBUS_UNLIKELY(chan->failed)) {
		*again = false;
		if (!chan->let_go)
			vmbus__chan_break(chan);
	}
	return done;
}

/* Show the counters to listings of other threads. */
void vmbus__chan_show(struct vmbus_chan *chan)
{
	struct vmbus_ring_stats stats[2];
	uint64_t words[16];
	uint32_t i;

	_Static_assert(sizeof(stats) == sizeof(words), "eight counters each");
	vmbus_ring_tx_stats(&chan->tx, &stats[0]);
	vmbus_ring_rx_stats(&chan->rx, &stats[1]);
	memcpy(words, stats, sizeof(words));
	for (i = 0; i < 16; i++)
		vmbus__st64_relaxed(&chan->shown[i], words[i]); /* COUNT.show */
}

void *vmbus_chan_ctx(const struct vmbus_chan *chan)
{
	return chan->ctx;
}

uint32_t vmbus_chan_sub_index(const struct vmbus_chan *chan)
{
	return chan->sub_index;
}

uint32_t vmbus_chan_send_max(const struct vmbus_chan *chan)
{
	return vmbus_ring_max_send(chan->tx.mem_p.size_p);
}

void *vmbus_chan_priv(const struct vmbus_chan *chan)
{
	return chan->priv;
}

void vmbus_chan_set_priv(struct vmbus_chan *chan, void *priv)
{
	chan->priv = priv;
}

const uint8_t *vmbus_chan_open_data(const struct vmbus_chan *chan)
{
	return chan->open_data;
}

void vmbus_chan_bad_completion(struct vmbus_chan *chan)
{
	vmbus__add64_relaxed(&chan->bad_completions, 1); /* COUNT.add */
}

struct vmbus_chan *vmbus_chan_primary(struct vmbus_chan *chan)
{
	struct vmbus_chan *const primary = vmbus__chan_primary(chan);

	return primary ? primary : chan;
}
