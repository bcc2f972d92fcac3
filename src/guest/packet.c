/* SPDX-License-Identifier: MIT */
/*
 * The packet path of a channel: what a VSC sends, what comes in, and who is told of it.  With
 * own_thread all of this runs on the channel's own thread, and touches nothing of the guest but
 * constants and the backend's signal().
 *
 * Invariant: a channel that is not being run is either armed (the parent will signal), or waits on
 * the list of channels to run, or is run by its user.
 */
#include "base/probe.h"
#include "guest/state.h"
#include "wire/msg.h"

/* A sender that waits asks for this part of the ring at least, so that few wake-ups do. */
#define WANT_PART 8u

void vmbus__vsc_signal(void *ctx)
{
	struct vmbus_vsc *const vsc = ctx;
	struct vmbus_guest *const guest = vsc->guest;

	vsc->path.signal_again = guest->be->signal(guest->be_ctx, vsc->offer.conn_id, 0) != 0;
	if (!vsc->path.signal_again)
		return;
	vsc->path.signals_failed++;
	if (!vsc->opts.own_thread) {
		guest->signals_wait = true;
		vmbus__guest_note(guest);
	}
}

/* The parent broke a ring: nothing passes any more, and the guest closes the channel. */
static int broken(struct vmbus_vsc *vsc, int err)
{
	vsc->path.broken = true;
	vsc->path.live = false;
	if (!vsc->opts.own_thread)
		vmbus__work_push(vsc);
	return err;
}

/* Whether an error of a ring's means that it is broken. */
static bool is_fault(int err)
{
	return err == VMBUS_E_PEER || err == VMBUS_E_FAULT;
}

/* Publish what was sent within a callback. */
static int commit(struct vmbus_vsc *vsc)
{
	const int err = vmbus_ring_tx_commit(&vsc->path.tx);

	return is_fault(err) ? broken(vsc, err) : 0;
}

void vmbus__call_begin(struct vmbus_vsc *vsc)
{
	vsc->path.in_call = true;
	vsc->path.held = false;
}

void vmbus__call_end(struct vmbus_vsc *vsc)
{
	vsc->path.in_call = false;
	if (!vsc->path.broken)
		(void)commit(vsc);
}

/* Bytes of a message's payload. */
static uint64_t payload_bytes(const struct vmbus_msg *msg)
{
	uint64_t len = msg->len;
	uint32_t i;

	for (i = 0; i < msg->more_count && len <= VMBUS_PKT_LENGTH_MAX; i++)
		len += msg->more[i].len;
	return len;
}

/*
 * The ring is full for msg: ask for room, and look again.
 *
 * Returns 0 when there is room after all, FULL when writable() will follow, or an error.
 */
static int want_room(struct vmbus_vsc *vsc, const struct vmbus_msg *msg)
{
	struct vmbus__path *const path = &vsc->path;
	uint32_t need = (uint32_t)vmbus_wire_ring_bytes(msg->ext_len, payload_bytes(msg));
	const uint32_t most = vmbus_ring_max_send(vsc->opts.send_bytes);
	uint32_t part = vsc->opts.send_bytes / WANT_PART;
	int err;

	if (part > most) /* nobody can ask for more */
		part = most;
	if (need < part)
		need = part;
	err = vmbus_ring_tx_arm(&path->tx, need);
	if (is_fault(err))
		return broken(vsc, err);
	if (err < 0)
		return err;
	if (err == VMBUS_RING_READY)
		return 0;
	path->tx_need = need;
	path->tx_waits = true;
	return VMBUS_E_FULL;
}

/* Copy a message's payload to the pieces of the ring that were lent for it. */
static void fill(const struct vmbus_span *span, const struct vmbus_msg *msg)
{
	const uint8_t *from = msg->data;
	uint8_t *to = span->base;
	size_t have = msg->len, room = span->len, n;
	uint32_t next = 0;

	for (;;) {
		while (have == 0) {
			if (next == msg->more_count)
				return;
			from = msg->more[next].base;
			have = msg->more[next++].len;
		}
		if (room == 0) {
			span++;
			to = span->base;
			room = span->len;
		}
		n = have < room ? have : room;
		__builtin_memcpy(to, from, n);
		to += n;
		from += n;
		room -= n;
		have -= n;
	}
}

/* Send one message within a callback: it joins the batch that the callback's end publishes. */
static int reserve(struct vmbus_vsc *vsc, const struct vmbus_msg *msg)
{
	struct vmbus_span span[2];
	struct vmbus_msg head = *msg;
	const uint64_t len = payload_bytes(msg);
	int n;

	if (len > VMBUS_PKT_LENGTH_MAX)
		return VMBUS_E_RANGE;
	head.len = (uint32_t)len;
	head.data = NULL;
	head.more = NULL;
	head.more_count = 0;
	n = vmbus_ring_tx_reserve(&vsc->path.tx, &head, span, 2);
	if (n > 0)
		fill(span, msg);
	return n < 0 ? n : 0;
}

/* Send n messages at once, or one within a callback.  Returns how many, or an error. */
static int put(struct vmbus_vsc *vsc, const struct vmbus_msg *msg, uint32_t n)
{
	int err;

	if (!vsc->path.in_call)
		return vmbus_ring_tx_put(&vsc->path.tx, msg, n);
	err = reserve(vsc, msg);
	return err ? err : 1;
}

/* The same, and when the ring is full, ask for room. */
static int put_or_wait(struct vmbus_vsc *vsc, const struct vmbus_msg *msg, uint32_t n)
{
	int err = put(vsc, msg, n);

	if (VMBUS_LIKELY(err > 0))
		return err;
	if (err == VMBUS_E_FULL) {
		if (vsc->path.in_call && commit(vsc))
			return VMBUS_E_PEER;
		err = want_room(vsc, msg);
		if (err)
			return err;
		err = put(vsc, msg, n);
	}
	return is_fault(err) ? broken(vsc, err) : err;
}

static int closed_error(const struct vmbus_vsc *vsc)
{
	return vsc->path.broken ? VMBUS_E_FAULT : VMBUS_E_STATE;
}

/* The first messages that ask for no completion: those that do go through request(). */
static uint32_t plain_messages(const struct vmbus_msg *msg, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (VMBUS_UNLIKELY(msg[i].flags & VMBUS_PKT_FLAG_COMPLETE) ||
		    !vmbus__msg_has_payload(&msg[i]))
			break;
	return i;
}

int vmbus_vsc_send(struct vmbus_vsc *vsc, const struct vmbus_msg *msg, uint32_t n)
{
	const uint32_t plain = plain_messages(msg, n);
	uint32_t sent = 0;
	int err;

	if (VMBUS_UNLIKELY(!vsc->path.live))
		return closed_error(vsc);
	if (plain == 0)
		return n ? VMBUS_E_INVAL : 0;
	if (!vsc->path.in_call)
		return put_or_wait(vsc, msg, plain);
	do {
		err = put_or_wait(vsc, &msg[sent], 1);
		if (err < 0)
			return sent ? (int)sent : err;
	} while (++sent < plain);
	return (int)sent;
}

int vmbus_vsc_request(struct vmbus_vsc *vsc, const struct vmbus_msg *msg, void *cookie)
{
	struct vmbus_msg ours = *msg;
	int err;

	if (VMBUS_UNLIKELY(!vsc->path.live))
		return closed_error(vsc);
	if (msg->type == VMBUS_PKT_COMPLETION || !vmbus__msg_has_payload(msg))
		return VMBUS_E_INVAL;
	ours.flags = (uint16_t)(ours.flags | VMBUS_PKT_FLAG_COMPLETE);
	ours.id = vmbus__req_take(&vsc->path, vsc->ref.slot, cookie);
	if (ours.id == 0) {
		vsc->path.table_waits = true;
		return VMBUS_E_FULL;
	}
	err = put_or_wait(vsc, &ours, 1);
	if (err < 0) {
		vmbus__req_undo(&vsc->path, ours.id);
		return err;
	}
	VMBUS_PROBE3(request_start, vsc, ours.id, cookie);
	return 0;
}

int vmbus_vsc_complete(struct vmbus_vsc *vsc, uint64_t id, const void *data, uint32_t len)
{
	const struct vmbus_msg msg = {
		.id = id, .data = data, .len = len, .type = VMBUS_PKT_COMPLETION
	};
	int err;

	if (VMBUS_UNLIKELY(!vsc->path.live))
		return closed_error(vsc);
	if (!vmbus__msg_has_payload(&msg))
		return VMBUS_E_INVAL;
	err = put_or_wait(vsc, &msg, 1);
	return err < 0 ? err : 0;
}

int vmbus_vsc_hold(struct vmbus_vsc *vsc)
{
	if (!vsc->path.live)
		return VMBUS_E_STATE;
	if (vsc->path.in_call)
		return 0;
	vsc->path.in_call = true;
	vsc->path.held = true;
	return 1;
}

int vmbus_vsc_flush(struct vmbus_vsc *vsc)
{
	const bool in_call = vsc->path.in_call;

	if (vsc->path.held) {
		vsc->path.held = false;
		vsc->path.in_call = false;
	}
	if (!vsc->path.live)
		return closed_error(vsc);
	return in_call ? commit(vsc) : 0;
}

int vmbus_vsc_fail(struct vmbus_vsc *vsc, const char *why)
{
	if (!vsc->path.live)
		return VMBUS_E_STATE;
	vsc->path.failed = why ? why : "given up by its client";
	(void)broken(vsc, VMBUS_E_PEER);
	return 0;
}

/* A completion came.  Its id is the parent's word: one that we do not wait for is counted. */
static void completion(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt)
{
	void *cookie;

	if (!vmbus__req_end(&vsc->path, vsc->ref.slot, pkt->id, &cookie)) {
		vsc->path.bad_completions++;
		return;
	}
	VMBUS_PROBE3(request_end, vsc, pkt->id, cookie);
	if (vsc->opts.completed)
		vsc->opts.completed(vsc, cookie, pkt);
}

/* Hand out packets: completions one by one, others in runs. */
static void deliver(struct vmbus_vsc *vsc, const struct vmbus_packet *pkt, uint32_t n)
{
	uint32_t i = 0, first;

	vmbus__call_begin(vsc);
	while (i < n && vsc->path.live) {
		if (pkt[i].type == VMBUS_PKT_COMPLETION) {
			completion(vsc, &pkt[i++]);
			continue;
		}
		for (first = i; i < n && pkt[i].type != VMBUS_PKT_COMPLETION; i++)
			;
		if (vsc->opts.packets)
			vsc->opts.packets(vsc, &pkt[first], i - first);
	}
	vmbus__call_end(vsc);
}

static void tell_writable(struct vmbus_vsc *vsc)
{
	if (!vsc->opts.writable)
		return;
	vmbus__call_begin(vsc);
	vsc->opts.writable(vsc);
	vmbus__call_end(vsc);
}

/* Tell a VSC that waits for room in the ring or in the table when there is some. */
static void look_for_room(struct vmbus_vsc *vsc)
{
	struct vmbus__path *const path = &vsc->path;
	bool room = false;
	int err;

	if (path->tx_waits && path->live) {
		if (path->held && commit(vsc)) /* with a batch open there is no asking for room */
			return;
		err = vmbus_ring_tx_arm(&path->tx, path->tx_need);
		if (err < 0) {
			(void)broken(vsc, err);
			return;
		}
		if (err == VMBUS_RING_READY) {
			vmbus_ring_tx_disarm(&path->tx);
			path->tx_waits = false;
			room = true;
		}
	}
	if (path->table_waits && path->req_free != path->reqs_max) {
		path->table_waits = false;
		room = true;
	}
	if (room && path->live)
		tell_writable(vsc);
}

/*
 * Take packets from the ring.
 *
 * Returns how many, 0 when there are none, or the ring is broken now.
 */
static uint32_t receive(struct vmbus_vsc *vsc, struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus_ring_rx *const rx = &vsc->path.rx;
	int got = vmbus_ring_rx_get(rx, pkt, n);

	if (got == VMBUS_E_RANGE) {
		if (vmbus__vsc_grow(vsc, vmbus_ring_rx_need(rx))) {
			vsc->no_buffer = true;
			(void)broken(vsc, VMBUS_E_NOMEM);
			return 0;
		}
		got = vmbus_ring_rx_get(rx, pkt, n);
	}
	if (got < 0) {
		(void)broken(vsc, got);
		return 0;
	}
	return (uint32_t)got;
}

/* The ring is empty: ask for a signal.  Returns whether there are packets after all. */
static bool arm(struct vmbus_vsc *vsc)
{
	int err;

	if (vsc->opts.poll)
		return false;
	err = vmbus_ring_rx_arm(&vsc->path.rx);
	if (err < 0)
		(void)broken(vsc, err);
	vsc->path.rx_armed = err == VMBUS_RING_SLEEP;
	return err == VMBUS_RING_READY;
}

uint32_t vmbus__vsc_run(struct vmbus_vsc *vsc, uint32_t budget, bool *more)
{
	struct vmbus__path *const path = &vsc->path;
	struct vmbus_packet pkt[VMBUS__BATCH];
	uint32_t done = 0, want, got;

	path->running = true;
	*more = false;
	if (path->signal_again)
		vmbus__vsc_signal(vsc);
	if (path->rx_armed) {
		vmbus_ring_rx_disarm(&path->rx);
		path->rx_armed = false;
	}
	look_for_room(vsc);
	while (path->live) {
		if (done == budget) {
			*more = true;
			break;
		}
		want = budget - done < VMBUS__BATCH ? budget - done : VMBUS__BATCH;
		got = receive(vsc, pkt, want);
		if (got == 0) {
			if (path->live && arm(vsc))
				continue;
			break;
		}
		deliver(vsc, pkt, got);
		done += got;
		look_for_room(vsc);
	}
	path->running = false;
	return done;
}

/* The channel's own thread leaves it: this side of the hand-over touches the path no more. */
void vmbus__own_leave(struct vmbus_vsc *vsc)
{
	const struct vmbus_guest *const guest = vsc->guest;

	vsc->path.live = false;
	vmbus__req_end_all(vsc);
	vmbus__st32_release(&vsc->path.leave, VMBUS__LEAVE_DONE); /* LEAVE.thread */
	/* From here on the channel is the guest's, and may be gone: only constants are used. */
	if (guest->be->wake)
		guest->be->wake(guest->be_ctx);
}

static int run_own(struct vmbus_vsc *vsc, uint32_t budget)
{
	struct vmbus__path *const path = &vsc->path;
	uint32_t asked, done = 0;
	bool more;

	if (path->running)
		return VMBUS_E_STATE;
	asked = vmbus__ld32_acquire(&path->leave); /* LEAVE.thread */
	if (asked == VMBUS__LEAVE_DONE ||
	    (asked == VMBUS__LEAVE_NO && !path->live && !path->broken))
		return VMBUS_E_STATE;
	if (asked == VMBUS__LEAVE_NO && !path->broken)
		done = vmbus__vsc_run(vsc, budget, &more);
	if (path->broken) {
		vmbus__own_leave(vsc);
		return VMBUS_E_PEER;
	}
	if (asked == VMBUS__LEAVE_ASKED) {
		vmbus__own_leave(vsc);
		return VMBUS_E_STATE;
	}
	/* A thread that sleeps on 0 would not give a signal again that the backend did not take. */
	return done == 0 && path->signal_again ? 1 : (int)done;
}

int vmbus_vsc_dispatch(struct vmbus_vsc *vsc, uint32_t budget)
{
	struct vmbus_guest *const guest = vsc->guest;
	uint32_t done;
	bool more;

	if (budget == 0) /* it could neither receive nor arm */
		budget = 1;
	if (vsc->opts.own_thread)
		return run_own(vsc, budget);
	if (guest->busy || vsc->life != VMBUS__LIFE_OPEN)
		return VMBUS_E_STATE;
	guest->busy = true;
	done = vmbus__vsc_run(vsc, budget, &more);
	guest->busy = false;
	if (more && !vsc->opts.poll)
		vmbus__ready_push(vsc);
	else if (vmbus__guest_due(guest) || guest->signals_wait) /* asked for by a callback */
		vmbus__guest_note(guest);
	return vsc->path.broken ? VMBUS_E_PEER : (int)done;
}
