/* SPDX-License-Identifier: MIT */
/*
 * The receiving end.  The copying reader takes a run of bytes out of the ring in one copy, and
 * decodes packets only in that private copy; the reader in place decodes a private copy of each
 * descriptor and header.  Either way what the peer wrote is read once, checked, and then used.
 *
 * Invariant, going round: committed_p .. next_p is held_p bytes that the caller has seen and the
 * peer may not overwrite yet; next_p on is avail_p bytes known to be published, the first left_p
 * of which lie copied at at_p.  held_p + avail_p <= size - 8.
 */
#include <vmbus/ring.h>

#include "base/contract.h"
#include "base/probe.h"
#include "ring/copy.h"
#include "ring/ctl.h"
#include "ring/index.h"
#include "wire/pkt.h"

/*
 * How much is copied at a time.  Large enough to hide the latency of the lines that come from the
 * other core, small enough to stay in a first-level cache until it is decoded.
 */
#define COPY_CHUNK 16384u

/* A packet of at least this makes copies end where a packet ends, as far as can be guessed. */
#define COPY_ALIGNED_FROM (COPY_CHUNK / 8u)

/* The copy keeps the ring's place within a cache line, so that whole lines go to whole lines. */
#define LINE_BYTES 64u

/*
 * A receiver that is as fast as its sender reads the write index after every packet, and each time
 * takes the control line away from the sender, who then waits for it in its fence: both fall to the
 * speed of the line.  So after packets it pauses for a moment before it looks again, longer while
 * looks keep bringing several packets but little data; never when it finds nothing, and never
 * before it sleeps.  A pause is one instruction of the processor's for waiting.
 */
#define PACE_MIN 1u
#define PACE_MAX 32u
#define PACE_ENOUGH 4096u /* bytes that make a look worth its line */

/* The index is published when this part of the ring is held. */
#define LAZY_PART 8u

/*@ predicate vmbus_rx_ok(struct vmbus_ring_rx *rx) =
  @	vmbus_size_ok(rx->mem_p.size_p) && vmbus_index_ok(rx->mem_p.size_p, rx->next_p) &&
  @	vmbus_index_ok(rx->mem_p.size_p, rx->committed_p) &&
  @	rx->held_p == vmbus_used(rx->mem_p.size_p, rx->next_p, rx->committed_p) &&
  @	rx->held_p % 8 == 0 && rx->avail_p % 8 == 0 &&
  @	rx->held_p + rx->avail_p <= rx->mem_p.size_p - 8; */

/*@ requires \valid(rx);
  @ assigns rx->fault_p.field, rx->fault_p.where, rx->fault_p.value, rx->fault_p.limit;
  @ assigns rx->stats_p.faults;
  @ ensures \result == VMBUS_E_PEER;
  @ ensures rx->fault_p.field == field && rx->fault_p.value == value;
  @ ensures rx->fault_p.limit == limit && rx->fault_p.where == where; */
static int fault(struct vmbus_ring_rx *rx, uint32_t field, uint32_t where, uint64_t value,
		 uint64_t limit)
{
	rx->fault_p.field = field;
	rx->fault_p.where = where;
	rx->fault_p.value = value;
	rx->fault_p.limit = limit;
	rx->stats_p.faults++;
	VMBUS_PROBE5(rx_fault, rx, field, where, value, limit);
	return VMBUS_E_PEER;
}

/* Take the peer's write index, from its one load, if it can be. */
/*@ requires \valid(rx) && vmbus_rx_ok(rx) && rx->fault_p.field == VMBUS_FAULT_NONE;
  @ assigns rx->avail_p;
  @ assigns rx->fault_p.field, rx->fault_p.where, rx->fault_p.value, rx->fault_p.limit;
  @ assigns rx->stats_p.faults;
  @ ensures vmbus_rx_ok(rx);
  @ ensures \result == 0 || \result == VMBUS_E_PEER;
  @ ensures \result == 0 ==> rx->fault_p.field == VMBUS_FAULT_NONE &&
  @	rx->avail_p >= \old(rx->avail_p) && rx->stats_p.faults == \old(rx->stats_p.faults);
  @ ensures \result == 0 ==> vmbus_index_ok(rx->mem_p.size_p, in) &&
  @	rx->avail_p == vmbus_used(rx->mem_p.size_p, in, rx->next_p);
  @ ensures \result == VMBUS_E_PEER ==> rx->fault_p.field != VMBUS_FAULT_NONE &&
  @	rx->avail_p == \old(rx->avail_p);
  @ ensures \result == VMBUS_E_PEER ==> !vmbus_index_ok(rx->mem_p.size_p, in) ||
  @	vmbus_used(rx->mem_p.size_p, in, rx->committed_p) < rx->held_p + rx->avail_p; */
static int take_in(struct vmbus_ring_rx *rx, uint32_t in)
{
	const uint32_t size = rx->mem_p.size_p;
	uint32_t used;

	if (in >= size)
		return fault(rx, VMBUS_FAULT_WRITE_INDEX, in, in, size - VMBUS__RING_UNIT);
	if (in % VMBUS__RING_UNIT)
		return fault(rx, VMBUS_FAULT_WRITE_INDEX_ALIGN, in, in, VMBUS__RING_UNIT);
	used = vmbus__ring_used(size, in, rx->committed_p);
	if (used < rx->held_p + rx->avail_p)
		return fault(rx, VMBUS_FAULT_WRITE_INDEX_BACK, rx->next_p, in,
			     vmbus__ring_advance(size, rx->next_p, rx->avail_p));
	rx->avail_p = used - rx->held_p;
	return 0;
}

/*@ requires \valid(rx) && vmbus_rx_ok(rx) && rx->fault_p.field == VMBUS_FAULT_NONE;
  @ requires \valid_read(rx->mem_p.ctl_p);
  @ assigns rx->avail_p;
  @ assigns rx->fault_p.field, rx->fault_p.where, rx->fault_p.value, rx->fault_p.limit;
  @ assigns rx->stats_p.faults;
  @ ensures vmbus_rx_ok(rx);
  @ ensures \result == 0 ==> rx->fault_p.field == VMBUS_FAULT_NONE; */
static int refresh(struct vmbus_ring_rx *rx)
{
	return take_in(rx, vmbus__ld32_acquire(&rx->mem_p.ctl_p->in)); /* DATA.rx */
}

int vmbus_ring_rx_set_buf(struct vmbus_ring_rx *rx, void *buf, uint32_t bytes)
{
	if (!buf)
		return VMBUS_E_INVAL;
	if (bytes < VMBUS_RING_RX_BUF_MIN)
		return VMBUS_E_RANGE;
	rx->buf_p = buf;
	rx->buf_bytes_p = bytes;
	rx->at_p = buf;
	rx->left_p = 0;
	return 0;
}

int vmbus_ring_rx_init(struct vmbus_ring_rx *rx, const struct vmbus_ring_mem *mem,
		       const struct vmbus_ring_opts *opts)
{
	const struct vmbus_ring_rx none = { 0 };
	struct vmbus_ring_ctl *ctl = mem->ctl_p;
	uint32_t out;
	int err;

	if (!ctl || !vmbus__ring_size_ok(mem->size_p) || !opts ||
	    opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	*rx = none;
	rx->mem_p = *mem;
	rx->signal_p = opts->signal;
	rx->signal_ctx_p = opts->signal_ctx;
	rx->note_p = opts->note;
	rx->note_ctx_p = opts->note_ctx;
	rx->lazy_p = mem->size_p / LAZY_PART;
	rx->pace_p = PACE_MIN;
	err = vmbus_ring_rx_set_buf(rx, opts->buf, opts->buf_bytes);
	if (err)
		return err;
	if (opts->resume && !vmbus__index_ok(mem->size_p, opts->next))
		return VMBUS_E_INVAL;
	/*
	 * The only time that our own index is read: the child put it there before the open, or
	 * another end of ours has left it.
	 */
	out = vmbus__ld32_relaxed(&ctl->out); /* INIT.rx */
	if (opts->resume && out != opts->index)
		return fault(rx, VMBUS_FAULT_RESUME_INDEX, out, out, opts->index);
	if (out >= mem->size_p)
		return fault(rx, VMBUS_FAULT_READ_INDEX, out, out, mem->size_p - VMBUS__RING_UNIT);
	if (out % VMBUS__RING_UNIT)
		return fault(rx, VMBUS_FAULT_READ_INDEX_ALIGN, out, out, VMBUS__RING_UNIT);
	rx->next_p = opts->resume ? opts->next : out;
	rx->committed_p = out;
	rx->held_p = vmbus__ring_used(mem->size_p, rx->next_p, out);
	vmbus__st32_relaxed(&ctl->mask, 1); /* WAKE.rx */
	vmbus__ctl_dirty(mem);
	return refresh(rx);
}

/* Give back all that is held, and tell a sender that waits for just that. */
static int publish(struct vmbus_ring_rx *rx)
{
	struct vmbus_ring_ctl *ctl = rx->mem_p.ctl_p;
	const uint32_t size = rx->mem_p.size_p;
	const uint32_t before = rx->committed_p;
	uint32_t pending;
	int err;

	if (rx->held_p == 0)
		return 0;
	rx->committed_p = rx->next_p;
	rx->held_p = 0;
	rx->stats_p.batches++;
	if (VMBUS_UNLIKELY(rx->note_p != NULL))
		rx->note_p(rx->note_ctx_p, before, rx->committed_p);
	vmbus__st32_release(&ctl->out, rx->committed_p); /* FREE.rx */
	vmbus__ctl_dirty(&rx->mem_p);
	vmbus__fence_full();				   /* SLEEP.rx */
	pending = vmbus__ld32_relaxed(&ctl->pending_send); /* SLEEP.rx */
	if (VMBUS_LIKELY(pending == 0))
		return 0;
	vmbus__fence_acquire(); /* PEND.rx */
	err = refresh(rx);
	if (err)
		return err;
	if (vmbus__rx_signal_due(size, pending, vmbus__ring_advance(size, rx->next_p, rx->avail_p),
				 before, rx->committed_p) &&
	    rx->signal_p) {
		rx->stats_p.signals++;
		VMBUS_PROBE3(rx_signal, rx, before, rx->committed_p);
		rx->signal_p(rx->signal_ctx_p);
	} else {
		rx->stats_p.signals_suppressed++;
		VMBUS_PROBE3(rx_suppressed, rx, before, rx->committed_p);
	}
	return 0;
}

/* Whether the sender says that it waits.  Only a hint, which is why no fence comes before it. */
static bool sender_waits(const struct vmbus_ring_rx *rx)
{
	return vmbus__ld32_relaxed(&rx->mem_p.ctl_p->pending_send) != 0; /* HINT.rx */
}

/* Stay off the control line for a moment, if packets came last time. */
static void pause_between(struct vmbus_ring_rx *rx)
{
	uint32_t n;

	for (n = rx->pause_p; n; n--)
		vmbus__relax();
	rx->pause_p = 0;
}

/* How long to stay off it next time, from what this look has brought. */
static void set_pace(struct vmbus_ring_rx *rx)
{
	if (rx->avail_p == 0)
		return;
	if (rx->avail_p <= rx->hint_p)
		rx->pace_p = PACE_MIN;
	else if (rx->avail_p < PACE_ENOUGH && rx->pace_p < PACE_MAX)
		rx->pace_p *= 2;
	rx->pause_p = rx->pace_p;
}

/*
 * See to it that avail_p is not 0.  Looks at the control page only when it is.
 *
 * Returns 1, 0 when the ring is empty (then everything is given back), or an error.
 */
static int want_avail(struct vmbus_ring_rx *rx)
{
	int err;

	if (rx->avail_p)
		return 1;
	pause_between(rx);
	/* The next packet's first line is then under way together with the index's. */
	vmbus__peer_will_read((uintptr_t)rx->mem_p.data_p + rx->next_p);
	err = refresh(rx);
	if (err)
		return err;
	set_pace(rx);
	if (rx->held_p && (rx->avail_p == 0 || sender_waits(rx))) {
		err = publish(rx);
		if (err)
			return err;
	}
	return rx->avail_p != 0;
}

/* How far to copy when nothing is known of the next packet. */
static uint32_t chunk(const struct vmbus_ring_rx *rx)
{
	const uint32_t hint = rx->hint_p;
	uint32_t n;

	if (hint < COPY_ALIGNED_FROM)
		return COPY_CHUNK;
	for (n = hint; n + hint <= COPY_CHUNK; n += hint)
		;
	return n;
}

/* A private qword. */
static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

/*
 * Copy more of the ring behind the left_p bytes that are copied already, which are at most the
 * beginning of one packet.
 *
 * Returns 1 when there is more to decode, 0 when the ring is empty, or an error.
 */
static VMBUS_NOINLINE int fill(struct vmbus_ring_rx *rx)
{
	const uint32_t size = rx->mem_p.size_p;
	const uint32_t place = (uint32_t)((uintptr_t)rx->buf_p % LINE_BYTES);
	const uint32_t skew = (rx->next_p + LINE_BYTES - place) % LINE_BYTES;
	const uint32_t most = (rx->buf_bytes_p - skew) / 8u * 8u;
	uint8_t *const start = rx->buf_p + skew;
	uint32_t goal = chunk(rx), from;
	const int some = want_avail(rx);

	if (some <= 0)
		return some;
	if (rx->left_p >= VMBUS__PKT_RING_BYTES_MIN) { /* then its descriptor is checked */
		const uint32_t bytes = vmbus__desc_ring_bytes(load64(rx->at_p));

		if (bytes > most) {
			rx->need_p = bytes + LINE_BYTES;
			return VMBUS_E_RANGE;
		}
		if (goal < bytes)
			goal = bytes;
	}
	if (rx->left_p && start != rx->at_p)
		__builtin_memmove(start, rx->at_p, rx->left_p);
	if (goal > most)
		goal = most;
	if (goal > rx->avail_p)
		goal = rx->avail_p;
	from = vmbus__ring_advance(size, rx->next_p, rx->left_p);
	if (VMBUS_LIKELY(vmbus__mem_linear(&rx->mem_p, from, goal - rx->left_p)))
		vmbus__peer_read(start + rx->left_p, rx->mem_p.data_p + from, goal - rx->left_p);
	else
		vmbus__mem_read(&rx->mem_p, from, start + rx->left_p, goal - rx->left_p);
	rx->at_p = start;
	rx->left_p = goal;
	return 1;
}

/* Fill in the description of a packet whose bytes from the descriptor on are at p. */
static void describe(struct vmbus_packet *pkt, uint64_t d, uint64_t id, const uint8_t *p,
		     uint32_t where)
{
	const uint32_t offset = vmbus__desc_offset8(d) * 8u;

	pkt->id = id;
	pkt->payload = p + offset;
	pkt->len = vmbus__desc_length8(d) * 8u - offset;
	pkt->type = (uint16_t)vmbus__desc_type(d);
	pkt->flags = (uint16_t)vmbus__desc_flags(d);
	pkt->ext = p + VMBUS_PKT_DESC_BYTES;
	pkt->ext_len = offset - VMBUS_PKT_DESC_BYTES;
	pkt->where = where;
}

/*
 * Check a descriptor of which avail bytes of ring follow.  A wrong one breaks the ring, unless the
 * caller has packets to return first: then it is looked at again, as the first, by the next call.
 */
static int check(struct vmbus_ring_rx *rx, uint64_t d, uint32_t avail, uint32_t where, bool first)
{
	uint64_t value, limit;
	const uint32_t field = vmbus__desc_check(d, avail, &value, &limit);

	if (field == VMBUS_FAULT_NONE)
		return 0;
	return first ? fault(rx, field, where, value, limit) : VMBUS_E_PEER;
}

/* The same out of line, for a loop that does without it as a rule. */
static VMBUS_NOINLINE int check_apart(struct vmbus_ring_rx *rx, uint64_t d, uint32_t avail,
				      uint32_t where, bool first)
{
	return check(rx, d, avail, where, first);
}

/* What a call has taken so far; the receiver itself changes at its end. */
struct run {
	uint32_t packets;
	uint32_t bytes;
	uint32_t where; /* of the next packet */
	uint32_t last;	/* ring bytes of the last one */
};

static inline int finish_run(struct vmbus_ring_rx *rx, struct run run)
{
	VMBUS_REQUIRE(run.bytes <= rx->avail_p);
	rx->next_p = run.where;
	rx->avail_p -= run.bytes;
	rx->held_p += run.bytes;
	rx->hint_p = run.last;
	rx->stats_p.packets += run.packets;
	rx->stats_p.bytes += run.bytes;
	return (int)run.packets;
}

/* The same where the packets were copied. */
static inline int finish_copied(struct vmbus_ring_rx *rx, struct run run)
{
	rx->at_p += run.bytes;
	rx->left_p -= run.bytes;
	return finish_run(rx, run);
}

/*
 * Decode one packet of any kind from what is copied.
 *
 * Returns 1, 0 when it is not all there, or an error.
 */
static int decode_any(struct vmbus_ring_rx *rx, struct run *run, struct vmbus_packet *pkt)
{
	const uint8_t *const p = rx->at_p + run->bytes;
	const uint32_t left = rx->left_p - run->bytes;
	const uint32_t avail = rx->avail_p - run->bytes;
	uint64_t d;
	int err;

	if (avail < VMBUS__PKT_RING_BYTES_MIN)
		return run->packets ? 0
				    : fault(rx, VMBUS_FAULT_PKT_SPACE, run->where, avail,
					    VMBUS__PKT_RING_BYTES_MIN);
	if (left < VMBUS__PKT_RING_BYTES_MIN)
		return 0;
	d = load64(p);
	err = check(rx, d, avail, run->where, run->packets == 0);
	if (err)
		return err;
	if (vmbus__desc_ring_bytes(d) > left)
		return 0;
	describe(pkt, d, load64(p + 8), p, run->where);
	run->last = vmbus__desc_ring_bytes(d);
	run->packets++;
	run->bytes += run->last;
	run->where = vmbus__ring_advance(rx->mem_p.size_p, run->where, run->last);
	return 1;
}

/* Go on with packets of any kind behind those that run has. */
static VMBUS_NOINLINE int decode_rest(struct vmbus_ring_rx *rx, struct run run,
				      struct vmbus_packet *pkt, uint32_t n)
{
	while (run.packets < n && run.bytes < rx->left_p) {
		const int got = decode_any(rx, &run, &pkt[run.packets]);

		if (got < 0 && run.packets == 0)
			return got;
		if (got <= 0)
			break;
	}
	return run.packets ? finish_copied(rx, run) : 0;
}

/*
 * Decode the packets that are copied: those without a header here, in a loop that makes no call so
 * that all it needs stays in registers, and from the first other one on elsewhere.
 *
 * Returns how many, 0 when the first is not all there, or an error.
 */
static VMBUS_INLINE int decode(struct vmbus_ring_rx *rx, struct vmbus_packet *pkt, uint32_t n)
{
	const uint32_t size = rx->mem_p.size_p;
	const uint8_t *const start = rx->at_p;
	const uint8_t *p = start;
	uint32_t left = rx->left_p, where = rx->next_p, bytes = 0;
	struct vmbus_packet *const end = pkt + n;
	struct vmbus_packet *k;

	for (k = pkt; k != end && left >= VMBUS__PKT_RING_BYTES_MIN; k++) {
		const uint64_t d = load64(p);
		const uint32_t next = vmbus__desc_ring_bytes(d);
		const uint32_t type = vmbus__desc_type(d);

		if (!vmbus__desc_is_simple(d) || next < VMBUS__PKT_RING_BYTES_MIN || next > left)
			break;
		bytes = next;
		k->id = load64(p + 8);
		k->payload = p + VMBUS_PKT_DESC_BYTES;
		k->len = bytes - VMBUS__PKT_RING_BYTES_MIN;
		k->type = (uint16_t)type;
		k->flags = (uint16_t)vmbus__desc_flags(d);
		k->ext = p + VMBUS_PKT_DESC_BYTES;
		k->ext_len = 0;
		k->where = where;
		p += bytes;
		left -= bytes;
		where = vmbus__ring_advance(size, where, bytes);
	}
	if (VMBUS_UNLIKELY(k != end && left))
		return decode_rest(
			rx,
			(struct run){ (uint32_t)(k - pkt), (uint32_t)(p - start), where, bytes },
			pkt, n);
	return finish_copied(
		rx, (struct run){ (uint32_t)(k - pkt), (uint32_t)(p - start), where, bytes });
}

/* Give back what is held, copy more, decode it. */
static VMBUS_NOINLINE int get_more(struct vmbus_ring_rx *rx, struct vmbus_packet *pkt, uint32_t n)
{
	int got;

	if (rx->fault_p.field != VMBUS_FAULT_NONE)
		return VMBUS_E_FAULT;
	if (rx->held_p >= rx->lazy_p) {
		got = publish(rx);
		if (got)
			return got;
	}
	if (n == 0)
		return 0;
	for (;;) { /* each turn brings a whole packet nearer: at most three turns */
		if (rx->left_p) {
			got = decode(rx, pkt, n);
			if (got)
				return got;
		}
		got = fill(rx);
		if (got <= 0)
			return got;
	}
}

int vmbus_ring_rx_get(struct vmbus_ring_rx *rx, struct vmbus_packet *pkt, uint32_t n)
{
	int got;

	if (VMBUS_UNLIKELY(rx->fault_p.field | (rx->held_p >= rx->lazy_p) | (n == 0)))
		return get_more(rx, pkt, n);
	if (rx->left_p == 0) {
		got = fill(rx);
		if (got <= 0)
			return got;
	}
	got = decode(rx, pkt, n);
	return VMBUS_LIKELY(got) ? got : get_more(rx, pkt, n);
}

/* Room in the buffer for copies that one call in place makes. */
struct arena {
	uint8_t *at;
	uint32_t left;
};

/* Copy len bytes at an index of the ring; NULL when the buffer has no more room. */
static const uint8_t *stash(struct vmbus_ring_rx *rx, struct arena *arena, uint32_t at,
			    uint32_t len)
{
	uint8_t *const to = arena->at;

	if (len > arena->left)
		return NULL;
	vmbus__mem_read(&rx->mem_p, at, to, len);
	arena->at += len;
	arena->left -= len;
	return to;
}

/*
 * Describe the packet at an index whose descriptor is checked: header copied, payload where it is.
 *
 * Returns 0, or VMBUS_E_RANGE when the buffer has no room for what must be copied.
 */
static int describe_in_place(struct vmbus_ring_rx *rx, struct vmbus_packet *pkt,
			     struct arena *arena, uint64_t d, uint64_t id, uint32_t where)
{
	const uint32_t size = rx->mem_p.size_p;
	const uint32_t offset = vmbus__desc_offset8(d) * 8u;
	uint32_t payload = vmbus__ring_advance(size, where, offset), here;

	describe(pkt, d, id, rx->buf_p, where);
	pkt->ext = stash(rx, arena, vmbus__ring_advance(size, where, VMBUS_PKT_DESC_BYTES),
			 pkt->ext_len);
	pkt->payload = vmbus__mem_piece(&rx->mem_p, payload, pkt->len, &here);
	if (here < pkt->len)
		pkt->payload = stash(rx, arena, payload, pkt->len);
	if (pkt->ext && pkt->payload)
		return 0;
	rx->need_p = pkt->ext_len + pkt->len + LINE_BYTES;
	return VMBUS_E_RANGE;
}

/* Decode packets where they are.  Returns how many, or an error; avail_p is not 0. */
static int decode_in_place(struct vmbus_ring_rx *rx, struct vmbus_packet *pkt, uint32_t n)
{
	const uint32_t size = rx->mem_p.size_p;
	struct run run = { 0, 0, rx->next_p, 0 };
	struct arena arena = { rx->buf_p, rx->buf_bytes_p };
	uint32_t avail = rx->avail_p;

	while (run.packets < n && avail) {
		uint32_t here;
		uint64_t d, id;
		int err;

		if (avail < VMBUS__PKT_RING_BYTES_MIN) {
			if (run.packets)
				break;
			return fault(rx, VMBUS_FAULT_PKT_SPACE, run.where, avail,
				     VMBUS__PKT_RING_BYTES_MIN);
		}
		d = vmbus__peer_ld64(vmbus__mem_piece(&rx->mem_p, run.where, 8, &here));
		id = vmbus__peer_ld64(vmbus__mem_piece(
			&rx->mem_p, vmbus__ring_advance(size, run.where, 8), 8, &here));
		run.last = vmbus__desc_ring_bytes(d);
		if (vmbus__desc_is_simple(d) && run.last >= VMBUS__PKT_RING_BYTES_MIN &&
		    run.last <= avail && vmbus__mem_linear(&rx->mem_p, run.where, run.last)) {
			describe(pkt, d, id, rx->mem_p.data_p + run.where, run.where);
			pkt->ext = rx->buf_p; /* of no bytes, and not the peer's all the same */
			err = 0;
		} else {
			err = check_apart(rx, d, avail, run.where, !run.packets);
			if (!err)
				err = describe_in_place(rx, pkt, &arena, d, id, run.where);
		}
		if (err && !run.packets)
			return err;
		if (err)
			break;
		pkt++;
		avail -= run.last;
		run.packets++;
		run.bytes += run.last;
		run.where = vmbus__ring_advance(size, run.where, run.last);
	}
	return finish_run(rx, run);
}

int vmbus_ring_rx_get_in_peer_memory(struct vmbus_ring_rx *rx, struct vmbus_packet *pkt, uint32_t n)
{
	int got;

	if (rx->fault_p.field != VMBUS_FAULT_NONE)
		return VMBUS_E_FAULT;
	if (rx->held_p >= rx->lazy_p) {
		got = publish(rx);
		if (got)
			return got;
	}
	if (n == 0)
		return 0;
	rx->left_p = 0; /* what was copied ahead is read where it is */
	got = want_avail(rx);
	return got <= 0 ? got : decode_in_place(rx, pkt, n);
}

int vmbus_ring_rx_consume(struct vmbus_ring_rx *rx)
{
	if (rx->fault_p.field != VMBUS_FAULT_NONE)
		return VMBUS_E_FAULT;
	return publish(rx);
}

int vmbus_ring_rx_arm(struct vmbus_ring_rx *rx)
{
	struct vmbus_ring_ctl *ctl = rx->mem_p.ctl_p;
	int err;

	if (rx->fault_p.field != VMBUS_FAULT_NONE)
		return VMBUS_E_FAULT;
	err = publish(rx);
	if (err)
		return err;
	if (rx->avail_p)
		return VMBUS_RING_READY;
	/*
	 * WAKE: we clear the mask and then load the write index; the peer stores its write index
	 * and then loads the mask.  With a full fence between the two on each side at least one of
	 * us sees the other's store: we find the packet here, or the peer signals.
	 */
	vmbus__st32_relaxed(&ctl->mask, 0); /* WAKE.rx, MASK.rx */
	vmbus__ctl_dirty(&rx->mem_p);
	vmbus__fence_full(); /* WAKE.rx */
	rx->armed_p = 1;
	err = refresh(rx);
	if (err || rx->avail_p) {
		vmbus_ring_rx_disarm(rx);
		return err ? err : VMBUS_RING_READY;
	}
	rx->stats_p.sleeps++;
	return VMBUS_RING_SLEEP;
}

void vmbus_ring_rx_disarm(struct vmbus_ring_rx *rx)
{
	if (!rx->armed_p)
		return;
	rx->armed_p = 0;
	vmbus__st32_relaxed(&rx->mem_p.ctl_p->mask, 1); /* WAKE.rx */
	vmbus__ctl_dirty(&rx->mem_p);
}

uint32_t vmbus_ring_rx_need(const struct vmbus_ring_rx *rx)
{
	return rx->need_p;
}

void vmbus_ring_rx_stats(const struct vmbus_ring_rx *rx, struct vmbus_ring_stats *stats)
{
	*stats = rx->stats_p;
}

const struct vmbus_fault *vmbus_ring_rx_fault(const struct vmbus_ring_rx *rx)
{
	return &rx->fault_p;
}
