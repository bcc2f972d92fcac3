/* SPDX-License-Identifier: MIT */
/*
 * The sending end.  It keeps its write index in private memory and only ever stores it to the
 * control page; of the peer's words it reads the read index (checked against what was published)
 * and the interrupt mask (a hint: any value is harmless to us).
 *
 * Invariant: committed_p <= next_p <= out_p + size - 8, going round; room_p is what lies between
 * the last two.
 */
#include <vmbus/ring.h>

#include "base/contract.h"
#include "base/probe.h"
#include "ring/ctl.h"
#include "ring/emit.h"
#include "ring/index.h"

/*@ predicate vmbus_tx_ok(struct vmbus_ring_tx *tx) =
  @	vmbus_size_ok(tx->mem_p.size_p) && vmbus_index_ok(tx->mem_p.size_p, tx->next_p) &&
  @	vmbus_index_ok(tx->mem_p.size_p, tx->committed_p) &&
  @	vmbus_index_ok(tx->mem_p.size_p, tx->out_p) &&
  @	vmbus_used(tx->mem_p.size_p, tx->next_p, tx->committed_p) +
  @	vmbus_used(tx->mem_p.size_p, tx->committed_p, tx->out_p) ==
  @	vmbus_used(tx->mem_p.size_p, tx->next_p, tx->out_p) &&
  @	tx->room_p == vmbus_room(tx->mem_p.size_p, tx->next_p, tx->out_p); */

/*@ requires \valid(tx);
  @ assigns tx->fault_p.field, tx->fault_p.where, tx->fault_p.value, tx->fault_p.limit;
  @ assigns tx->stats_p.faults;
  @ ensures \result == VMBUS_E_PEER;
  @ ensures tx->fault_p.field == field && tx->fault_p.value == value;
  @ ensures tx->fault_p.limit == limit && tx->fault_p.where == where; */
static int fault(struct vmbus_ring_tx *tx, uint32_t field, uint32_t where, uint64_t value,
		 uint64_t limit)
{
	tx->fault_p.field = field;
	tx->fault_p.where = where;
	tx->fault_p.value = value;
	tx->fault_p.limit = limit;
	tx->stats_p.faults++;
	VMBUS_PROBE5(tx_fault, tx, field, where, value, limit);
	return VMBUS_E_PEER;
}

/* Take the peer's read index, from its one load, if it can be. */
/*@ requires \valid(tx) && vmbus_tx_ok(tx) && tx->fault_p.field == VMBUS_FAULT_NONE;
  @ assigns tx->out_p, tx->room_p;
  @ assigns tx->fault_p.field, tx->fault_p.where, tx->fault_p.value, tx->fault_p.limit;
  @ assigns tx->stats_p.faults;
  @ ensures vmbus_tx_ok(tx);
  @ ensures \result == 0 || \result == VMBUS_E_PEER;
  @ ensures \result == 0 ==> tx->out_p == out && tx->fault_p.field == VMBUS_FAULT_NONE &&
  @	tx->room_p >= \old(tx->room_p) && tx->stats_p.faults == \old(tx->stats_p.faults);
  @ ensures \result == VMBUS_E_PEER ==> tx->fault_p.field != VMBUS_FAULT_NONE &&
  @	tx->out_p == \old(tx->out_p) && tx->room_p == \old(tx->room_p);
  @ ensures \result == VMBUS_E_PEER ==> !vmbus_index_ok(tx->mem_p.size_p, out) ||
  @	vmbus_used(tx->mem_p.size_p, tx->committed_p, out) >
  @	vmbus_used(tx->mem_p.size_p, tx->committed_p, tx->out_p); */
static int take_out(struct vmbus_ring_tx *tx, uint32_t out)
{
	const uint32_t size = tx->mem_p.size_p;

	if (out >= size)
		return fault(tx, VMBUS_FAULT_READ_INDEX, out, out, size - VMBUS__RING_UNIT);
	if (out % VMBUS__RING_UNIT)
		return fault(tx, VMBUS_FAULT_READ_INDEX_ALIGN, out, out, VMBUS__RING_UNIT);
	if (vmbus__ring_used(size, tx->committed_p, out) >
	    vmbus__ring_used(size, tx->committed_p, tx->out_p))
		return fault(tx, VMBUS_FAULT_READ_INDEX_BACK, tx->out_p, out, tx->committed_p);
	tx->out_p = out;
	tx->room_p = vmbus__ring_room(size, tx->next_p, out);
	return 0;
}

/*@ requires \valid(tx) && vmbus_tx_ok(tx) && tx->fault_p.field == VMBUS_FAULT_NONE;
  @ requires \valid_read(tx->mem_p.ctl_p);
  @ assigns tx->out_p, tx->room_p;
  @ assigns tx->fault_p.field, tx->fault_p.where, tx->fault_p.value, tx->fault_p.limit;
  @ assigns tx->stats_p.faults;
  @ ensures vmbus_tx_ok(tx);
  @ ensures \result == 0 ==> tx->fault_p.field == VMBUS_FAULT_NONE; */
static int refresh(struct vmbus_ring_tx *tx)
{
	return take_out(tx, vmbus__ld32_acquire(&tx->mem_p.ctl_p->out)); /* FREE.tx */
}

int vmbus_ring_tx_init(struct vmbus_ring_tx *tx, const struct vmbus_ring_mem *mem,
		       const struct vmbus_ring_opts *opts)
{
	const struct vmbus_ring_tx none = { 0 };
	struct vmbus_ring_ctl *ctl = mem->ctl_p;
	uint32_t in;

	if (!ctl || !vmbus__ring_size_ok(mem->size_p) ||
	    (opts && opts->struct_bytes < sizeof(*opts)))
		return VMBUS_E_INVAL;
	*tx = none;
	tx->mem_p = *mem;
	if (opts) {
		tx->signal_p = opts->signal;
		tx->signal_ctx_p = opts->signal_ctx;
		tx->note_p = opts->note;
		tx->note_ctx_p = opts->note_ctx;
	}
	/*
	 * The only time that our own index is read: the child put it there before the open, or
	 * another end of ours has left it.
	 */
	in = vmbus__ld32_relaxed(&ctl->in); /* INIT.tx */
	if (opts && opts->resume && in != opts->index)
		return fault(tx, VMBUS_FAULT_RESUME_INDEX, in, in, opts->index);
	if (in >= mem->size_p)
		return fault(tx, VMBUS_FAULT_WRITE_INDEX, in, in, mem->size_p - VMBUS__RING_UNIT);
	if (in % VMBUS__RING_UNIT)
		return fault(tx, VMBUS_FAULT_WRITE_INDEX_ALIGN, in, in, VMBUS__RING_UNIT);
	tx->next_p = in;
	tx->committed_p = in;
	tx->out_p = vmbus__ring_advance(mem->size_p, in, VMBUS__RING_UNIT); /* the furthest back */
	vmbus__st32_relaxed(&ctl->pending_send, 0);			    /* SLEEP.tx */
	vmbus__st32_relaxed(&ctl->features, VMBUS__RING_FEATURE_PENDING);   /* INIT.tx */
	vmbus__ctl_dirty(mem);
	return refresh(tx);
}

static VMBUS_NOINLINE void send_signal(struct vmbus_ring_tx *tx)
{
	tx->stats_p.signals++;
	tx->signal_p(tx->signal_ctx_p);
}

/* Publish everything up to next_p and decide about one signal; returns packets. */
static VMBUS_INLINE int publish_now(struct vmbus_ring_tx *tx, uint32_t packets)
{
	struct vmbus_ring_ctl *const ctl = tx->mem_p.ctl_p;
	const bool dirty = vmbus__mem_dirty_wanted(&tx->mem_p);
	const uint32_t before = tx->committed_p;
	const uint32_t next = tx->next_p;
	uint32_t mask, out = 0;

	tx->committed_p = next;
	tx->stats_p.packets += packets;
	tx->stats_p.bytes += vmbus__ring_used(tx->mem_p.size_p, next, before);
	tx->stats_p.batches++;
	if (dirty)
		vmbus__mem_dirty(&tx->mem_p, before, next);
	vmbus__st32_release(&ctl->in, next); /* DATA.tx */
	if (dirty)
		vmbus__ctl_dirty(&tx->mem_p);
	vmbus__fence_full();			/* WAKE.tx */
	mask = vmbus__ld32_relaxed(&ctl->mask); /* WAKE.tx */
	if (mask == 0) {
		vmbus__fence_acquire();		      /* MASK.tx */
		out = vmbus__ld32_relaxed(&ctl->out); /* WAKE.tx */
	}
	if (VMBUS_UNLIKELY(vmbus__tx_signal_due(mask, out, before)) && tx->signal_p) {
		VMBUS_PROBE3(tx_signal, tx, before, next);
		send_signal(tx);
	} else {
		VMBUS_PROBE3(tx_suppressed, tx, before, next);
	}
	return (int)packets;
}

static VMBUS_NOINLINE int publish_noted(struct vmbus_ring_tx *tx, uint32_t packets)
{
	tx->note_p(tx->note_ctx_p, tx->committed_p, tx->next_p);
	return publish_now(tx, packets);
}

static VMBUS_INLINE int publish(struct vmbus_ring_tx *tx, uint32_t packets)
{
	if (VMBUS_UNLIKELY(tx->note_p != NULL))
		return publish_noted(tx, packets);
	return publish_now(tx, packets);
}

static void count_full(struct vmbus_ring_tx *tx)
{
	tx->stats_p.full++;
	VMBUS_PROBE1(tx_full, tx);
}

/*
 * Check a message and make sure of its room.  The ring is looked at again at most once a call of
 * the public function: looked says whether it was.
 */
static int admit(struct vmbus_ring_tx *tx, const struct vmbus_msg *msg, bool *looked,
		 uint32_t *bytes)
{
	int err = vmbus__msg_bytes(msg, tx->mem_p.size_p, bytes);

	if (err)
		return err;
	if (*bytes <= tx->room_p)
		return 0;
	if (*looked)
		return VMBUS_E_FULL;
	*looked = true;
	err = refresh(tx);
	if (err)
		return err;
	return *bytes <= tx->room_p ? 0 : VMBUS_E_FULL;
}

/* Take room that is checked. */
static void advance(struct vmbus_ring_tx *tx, uint32_t bytes)
{
	VMBUS_REQUIRE(bytes <= tx->room_p);
	tx->next_p = vmbus__ring_advance(tx->mem_p.size_p, tx->next_p, bytes);
	tx->room_p -= bytes;
}

/* One message of any kind: checked, and written whole. */
static VMBUS_NOINLINE int put_any(struct vmbus_ring_tx *tx, const struct vmbus_msg *msg,
				  bool *looked)
{
	uint32_t bytes;
	const int err = admit(tx, msg, looked, &bytes);

	if (err)
		return err;
	if (vmbus__msg_is_simple(msg) && vmbus__mem_linear(&tx->mem_p, tx->next_p, bytes))
		vmbus__put_simple(tx->mem_p.data_p + tx->next_p, tx->next_p, msg, bytes);
	else
		vmbus__msg_write(&tx->mem_p, tx->next_p, msg, bytes);
	advance(tx, bytes);
	return 0;
}

/*
 * Small simple messages from m on, as long as there is room; returns the first that was not sent.
 * The loop makes no call, so that all it needs stays in registers.
 */
static VMBUS_INLINE const struct vmbus_msg *
put_small(struct vmbus_ring_tx *tx, const struct vmbus_msg *m, const struct vmbus_msg *end)
{
	const uint32_t size = tx->mem_p.size_p;
	const uint32_t linear = tx->mem_p.linear_p;
	uint8_t *const data = tx->mem_p.data_p;
	uint32_t at = tx->next_p, room = tx->room_p;

	for (; m != end; m++) {
		struct vmbus__small small;
		const uint8_t *const from = m->data;
		const uint64_t id = m->id;
		uint32_t bytes;
		uint8_t *to;

		if (!vmbus__msg_is_small(m, &small))
			break;
		bytes = vmbus__simple_bytes(small.len);
		if (VMBUS_UNLIKELY(bytes > room || at + bytes > linear))
			break;
		to = data + at;
		vmbus__peer_st64(to, vmbus__small_desc(&small, bytes));
		vmbus__peer_st64(to + 8, id);
		vmbus__put_payload_small(to + VMBUS_PKT_DESC_BYTES, from, small.len);
		vmbus__peer_st64(to + bytes - VMBUS_PKT_TRAILER_BYTES, (uint64_t)at << 32);
		room -= bytes;
		at = vmbus__ring_advance(size, at, bytes);
	}
	tx->next_p = at;
	tx->room_p = room;
	return m;
}

/* The same with simple messages of any length, whose copies may be calls of the C library's. */
static const struct vmbus_msg *put_simple(struct vmbus_ring_tx *tx, const struct vmbus_msg *m,
					  const struct vmbus_msg *end)
{
	const uint32_t most = vmbus_ring_max_send(tx->mem_p.size_p);

	for (; m != end && vmbus__msg_is_simple(m); m++) {
		const uint32_t bytes = vmbus__msg_simple_bytes(m);

		if (bytes > most || bytes > tx->room_p ||
		    !vmbus__mem_linear(&tx->mem_p, tx->next_p, bytes))
			break;
		vmbus__put_simple(tx->mem_p.data_p + tx->next_p, tx->next_p, m, bytes);
		advance(tx, bytes);
	}
	return m;
}

/* Go on from m, the first message that is not small, simple or without room. */
static VMBUS_NOINLINE int put_rest(struct vmbus_ring_tx *tx, const struct vmbus_msg *msg,
				   const struct vmbus_msg *m, const struct vmbus_msg *end)
{
	bool looked = false;
	int err = 0;

	for (;;) {
		m = put_simple(tx, m, end);
		if (m == end)
			break;
		err = put_any(tx, m, &looked);
		if (VMBUS_UNLIKELY(err == VMBUS_E_PEER)) { /* nothing of this call gets out */
			vmbus_ring_tx_abort(tx);
			return err;
		}
		if (err)
			break;
		m++;
	}
	if (VMBUS_LIKELY(m != msg))
		return publish(tx, (uint32_t)(m - msg));
	if (err == VMBUS_E_FULL)
		count_full(tx);
	return err;
}

int vmbus_ring_tx_put(struct vmbus_ring_tx *tx, const struct vmbus_msg *msg, uint32_t n)
{
	const struct vmbus_msg *const end = msg + n;
	const struct vmbus_msg *m;

	if (VMBUS_UNLIKELY(tx->fault_p.field | tx->batch_p))
		return tx->fault_p.field ? VMBUS_E_FAULT : VMBUS_E_STATE;
	m = put_small(tx, msg, end);
	if (VMBUS_UNLIKELY(m != end || n == 0))
		return put_rest(tx, msg, m, end);
	return publish(tx, n);
}

/* Name the pieces of len bytes at an index, or say that there are more than most. */
static int name_spans(const struct vmbus_ring_mem *mem, uint32_t at, uint32_t len,
		      struct vmbus_span *span, uint32_t most)
{
	uint32_t n = 0, here;

	while (len) {
		uint8_t *p = vmbus__mem_piece(mem, at, len, &here);

		if (n == most)
			return VMBUS_E_RANGE;
		span[n].base = p;
		span[n].len = here;
		n++;
		len -= here;
		at = vmbus__ring_advance(mem->size_p, at, here);
	}
	return (int)n;
}

/* The commonest reservation: no header, and the payload in one piece. */
static void reserve_simple(struct vmbus_ring_tx *tx, const struct vmbus_msg *msg, uint32_t bytes,
			   struct vmbus_span *span)
{
	uint8_t *const to = tx->mem_p.data_p + tx->next_p;

	vmbus__put_frame(to, tx->next_p, msg, bytes);
	if (msg->len % 8u)
		vmbus__peer_st64(to + bytes - 2 * VMBUS_PKT_TRAILER_BYTES, 0);
	if (msg->len) {
		span->base = to + VMBUS_PKT_DESC_BYTES;
		span->len = msg->len;
	}
	advance(tx, bytes);
	tx->batch_p++;
}

int vmbus_ring_tx_reserve(struct vmbus_ring_tx *tx, const struct vmbus_msg *msg,
			  struct vmbus_span *span, uint32_t spans)
{
	const struct vmbus_ring_mem *mem = &tx->mem_p;
	bool looked = false;
	uint32_t bytes, payload;
	int err, n;

	if (tx->fault_p.field != VMBUS_FAULT_NONE)
		return VMBUS_E_FAULT;
	if (msg->data || msg->more_count)
		return VMBUS_E_INVAL;
	err = admit(tx, msg, &looked, &bytes);
	if (err) {
		if (err == VMBUS_E_FULL)
			count_full(tx);
		return err;
	}
	if (vmbus__msg_is_simple(msg) && vmbus__mem_linear(mem, tx->next_p, bytes) && spans) {
		reserve_simple(tx, msg, bytes, span);
		return msg->len != 0;
	}
	payload = vmbus__ring_advance(mem->size_p, tx->next_p, VMBUS_PKT_DESC_BYTES + msg->ext_len);
	n = name_spans(mem, payload, msg->len, span, spans);
	if (n < 0)
		return n;
	vmbus__msg_frame(mem, tx->next_p, msg, bytes);
	advance(tx, bytes);
	tx->batch_p++;
	return n;
}

int vmbus_ring_tx_commit(struct vmbus_ring_tx *tx)
{
	const uint32_t packets = tx->batch_p;

	if (tx->fault_p.field != VMBUS_FAULT_NONE)
		return VMBUS_E_FAULT;
	if (packets == 0)
		return 0;
	tx->batch_p = 0;
	return publish(tx, packets);
}

void vmbus_ring_tx_abort(struct vmbus_ring_tx *tx)
{
	if (vmbus__mem_dirty_wanted(&tx->mem_p)) /* unpublished bytes are written bytes too */
		vmbus__mem_dirty(&tx->mem_p, tx->committed_p, tx->next_p);
	tx->batch_p = 0;
	tx->next_p = tx->committed_p;
	tx->room_p = vmbus__ring_room(tx->mem_p.size_p, tx->next_p, tx->out_p);
}

int vmbus_ring_tx_arm(struct vmbus_ring_tx *tx, uint32_t need)
{
	struct vmbus_ring_ctl *ctl = tx->mem_p.ctl_p;
	int err;

	if (tx->fault_p.field != VMBUS_FAULT_NONE)
		return VMBUS_E_FAULT;
	if (need == 0 || need % VMBUS__RING_UNIT || need > vmbus_ring_max_send(tx->mem_p.size_p))
		return VMBUS_E_RANGE;
	if (tx->batch_p)
		return VMBUS_E_STATE;
	if (tx->room_p >= need)
		return VMBUS_RING_READY;
	/*
	 * SLEEP: we store the pending size and then load the read index; the peer stores its read
	 * index and then loads the pending size.  With a full fence between the two on each side
	 * at least one of us sees the other's store: we find the room here, or the peer signals.
	 */
	vmbus__st32_relaxed(&ctl->pending_send, need); /* SLEEP.tx, PEND.tx, HINT.tx */
	vmbus__ctl_dirty(&tx->mem_p);
	vmbus__fence_full(); /* SLEEP.tx */
	tx->armed_p = 1;
	err = refresh(tx);
	if (err || tx->room_p >= need) {
		vmbus_ring_tx_disarm(tx);
		return err ? err : VMBUS_RING_READY;
	}
	tx->stats_p.sleeps++;
	return VMBUS_RING_SLEEP;
}

void vmbus_ring_tx_disarm(struct vmbus_ring_tx *tx)
{
	if (!tx->armed_p)
		return;
	tx->armed_p = 0;
	vmbus__st32_relaxed(&tx->mem_p.ctl_p->pending_send, 0); /* SLEEP.tx */
	vmbus__ctl_dirty(&tx->mem_p);
}

void vmbus_ring_tx_stats(const struct vmbus_ring_tx *tx, struct vmbus_ring_stats *stats)
{
	*stats = tx->stats_p;
	stats->signals_suppressed = stats->batches - stats->signals; /* each is a decision */
}

const struct vmbus_fault *vmbus_ring_tx_fault(const struct vmbus_ring_tx *tx)
{
	return &tx->fault_p;
}
