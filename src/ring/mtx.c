/* SPDX-License-Identifier: MIT */
/*
 * The sending end for many threads.
 *
 * A claim takes room and a number by one compare-and-swap of head_p (index and number together).
 * The claim is filled, and marked in its slot.  Then whoever finds the oldest unpublished slot
 * marked takes the turn, if nobody has it, and publishes all that is marked behind it; nobody
 * waits for the turn, since who has it looks again after giving it up.
 *
 * Under the turn: tail_p, stats_p but for what is counted elsewhere, and the stores to the control
 * page's write index.
 */
#include <vmbus/mtx.h>

#include "base/probe.h"
#include "ring/ctl.h"
#include "ring/emit.h"
#include "ring/index.h"

#define SHARED_ALIGN 64u

/* Answers of look(). */
#define LOOK_NEWS 1
#define LOOK_LATE 2

/* A peer that reads on at each of so many looks of arm is awake: then READY needs no more. */
#define ARM_LOOKS 4u

/* Two 32-bit halves of a shared word: an index below, a number that only grows above. */
static uint32_t low(uint64_t v)
{
	return (uint32_t)(v % 4294967296u);
}

static uint32_t high(uint64_t v)
{
	return (uint32_t)(v / 4294967296u);
}

static uint64_t both(uint32_t above, uint32_t below)
{
	return (uint64_t)above * 4294967296u + below;
}

/* How far one number is ahead of another; numbers wrap after 2^32. */
static uint32_t ahead(uint32_t a, uint32_t b)
{
	return (uint32_t)(((uint64_t)a + 4294967296u - b) % 4294967296u);
}

static uint32_t succ(uint32_t number)
{
	return (uint32_t)(((uint64_t)number + 1u) % 4294967296u);
}

static vmbus__a64 *done_of(const struct vmbus_ring_mtx *mtx, uint32_t number)
{
	return vmbus__as_a64(&mtx->slots_p[number & mtx->slot_mask_p].done_p);
}

static vmbus__a64 *packets_of(const struct vmbus_ring_mtx *mtx, uint32_t number)
{
	return vmbus__as_a64(&mtx->slots_p[number & mtx->slot_mask_p].packets_p);
}

static bool is_broken(const struct vmbus_ring_mtx *mtx)
{
	return vmbus__ld32_acquire(vmbus__as_a32c(&mtx->broken_p)) != 0; /* BROKEN.see */
}

/* The first thread to see a fault records it. */
static int fault(struct vmbus_ring_mtx *mtx, uint32_t field, uint64_t value, uint64_t limit)
{
	vmbus__a32 *broken = vmbus__as_a32(&mtx->broken_p);

	if (!vmbus__cas32_acquire(broken, 0, 1)) /* BROKEN.see */
		return VMBUS_E_FAULT;
	mtx->fault_p.field = field;
	mtx->fault_p.where = (uint32_t)value;
	mtx->fault_p.value = value;
	mtx->fault_p.limit = limit;
	vmbus__st32_release(broken, 2); /* BROKEN.tell */
	VMBUS_PROBE5(tx_fault, mtx, field, (uint32_t)value, value, limit);
	return VMBUS_E_PEER;
}

static bool init_args_ok(const struct vmbus_ring_mtx *mtx, const struct vmbus_ring_mem *mem,
			 const struct vmbus_ring_opts *opts,
			 const struct vmbus_ring_mtx_slot *slots)
{
	return mem->ctl_p && vmbus__ring_size_ok(mem->size_p) &&
	       (!opts || (opts->struct_bytes >= sizeof(*opts) && !opts->resume && !opts->note)) &&
	       slots && (uintptr_t)slots % sizeof(uint64_t) == 0 &&
	       (uintptr_t)mtx % SHARED_ALIGN == 0;
}

int vmbus_ring_mtx_init(struct vmbus_ring_mtx *mtx, const struct vmbus_ring_mem *mem,
			const struct vmbus_ring_opts *opts, struct vmbus_ring_mtx_slot *slots,
			uint32_t count)
{
	const struct vmbus_ring_mtx none = { 0 };
	const struct vmbus_ring_mtx_slot empty = { 0, 0 };
	struct vmbus_ring_tx tx;
	uint32_t i;
	int err;

	if (!init_args_ok(mtx, mem, opts, slots))
		return VMBUS_E_INVAL;
	if (count < VMBUS_RING_MTX_SLOTS_MIN || count > VMBUS_RING_MTX_SLOTS_MAX ||
	    (count & (count - 1)))
		return VMBUS_E_RANGE;
	*mtx = none;
	err = vmbus_ring_tx_init(&tx, mem, NULL);
	if (err == VMBUS_E_INVAL)
		return err;
	mtx->mem_p = *mem;
	mtx->slots_p = slots;
	mtx->slot_mask_p = count - 1;
	if (opts) {
		mtx->signal_p = opts->signal;
		mtx->signal_ctx_p = opts->signal_ctx;
	}
	if (err) {
		mtx->fault_p = *vmbus_ring_tx_fault(&tx);
		mtx->broken_p = 2;
		return err;
	}
	for (i = 0; i < count; i++)
		slots[i] = empty; /* number 0 + 1 is the first mark, so 0 is none */
	mtx->head_p = tx.next_p;
	mtx->tail_p = tx.next_p;
	mtx->out_p = tx.out_p;
	return 0;
}

/*
 * Look at the peer's read index again.  head is what head_p held before the look and seen what
 * out_p held after that; an index that does not fit them is a fault only if head_p is still the
 * same, else the peer has read what was published since.
 *
 * Returns LOOK_NEWS when it has moved, LOOK_LATE when another thread has moved on instead, 0 when
 * neither has, or an error.
 */
static int look(struct vmbus_ring_mtx *mtx, uint64_t head, uint64_t seen)
{
	const uint32_t size = mtx->mem_p.size_p;
	const uint32_t out = vmbus__ld32_acquire(&mtx->mem_p.ctl_p->out); /* FREE.tx */

	if (out >= size)
		return fault(mtx, VMBUS_FAULT_READ_INDEX, out, size - VMBUS__RING_UNIT);
	if (out % VMBUS__RING_UNIT)
		return fault(mtx, VMBUS_FAULT_READ_INDEX_ALIGN, out, VMBUS__RING_UNIT);
	if (vmbus__ring_used(size, low(head), out) > vmbus__ring_used(size, low(head), low(seen))) {
		if (vmbus__ld64_acquire(vmbus__as_a64(&mtx->head_p)) != head) /* CLAIM.rx */
			return LOOK_LATE;
		return fault(mtx, VMBUS_FAULT_READ_INDEX_BACK, out, low(head));
	}
	if (out == low(seen))
		return 0;
	/* The version keeps a late thread from putting an old index back. */
	return vmbus__cas64_acq_rel(vmbus__as_a64(&mtx->out_p), seen,
				    both(succ(high(seen)), out)) /* CLAIM.tx */
		       ? LOOK_NEWS
		       : LOOK_LATE;
}

/* What one call claims. */
struct claim {
	uint64_t head;	  /* index and number */
	uint32_t packets; /* messages of the call that fit */
	uint32_t bytes;	  /* all of them */
	int err;	  /* what is wrong with the message after them */
};

/* How many of the messages fit in room. */
static void measure(struct claim *claim, const struct vmbus_ring_mtx *mtx,
		    const struct vmbus_msg *msg, uint32_t n, uint32_t room)
{
	claim->packets = 0;
	claim->bytes = 0;
	claim->err = 0;
	while (claim->packets < n) {
		uint32_t bytes;

		claim->err = vmbus__msg_bytes(&msg[claim->packets], mtx->mem_p.size_p, &bytes);
		if (claim->err)
			return;
		if (bytes > room - claim->bytes) {
			claim->err = VMBUS_E_FULL;
			return;
		}
		claim->bytes += bytes;
		claim->packets++;
	}
}

/*
 * Claim room for as many of the messages as fit.  Every turn but two means that another thread has
 * claimed.
 */
static int take_claim(struct vmbus_ring_mtx *mtx, struct claim *claim, const struct vmbus_msg *msg,
		      uint32_t n)
{
	const uint32_t size = mtx->mem_p.size_p;
	vmbus__a64 *head_word = vmbus__as_a64(&mtx->head_p);
	bool looked = false;

	for (;;) {
		const uint64_t head = vmbus__ld64_acquire(head_word);		      /* CLAIM.rx */
		const uint64_t out = vmbus__ld64_acquire(vmbus__as_a64(&mtx->out_p)); /* CLAIM.rx */
		const uint64_t tail =
			vmbus__ld64_acquire(vmbus__as_a64(&mtx->tail_p)); /* TAIL.rx */
		uint32_t next, open;

		measure(claim, mtx, msg, n, vmbus__ring_room(size, low(head), low(out)));
		if (claim->err == VMBUS_E_FULL && !looked) {
			const int moved = look(mtx, head, out);

			/* A peer that moves on by 8 bytes a look is not followed. */
			looked = moved != LOOK_LATE;
			if (moved < 0)
				return moved;
			if (moved)
				continue;
		}
		if (claim->packets == 0)
			return claim->err;
		/* A tail that is past head means that head has moved: the swap will say so. */
		open = ahead(high(head), high(tail));
		if (open > mtx->slot_mask_p && open < UINT32_MAX / 2u)
			return VMBUS_E_FULL;
		next = vmbus__ring_advance(size, low(head), claim->bytes);
		claim->head = head;
		if (vmbus__cas64_acq_rel(head_word, head,
					 both(succ(high(head)), next))) /* CLAIM.tx */
			return 0;
	}
}

/* Whether the oldest claim that is not published is finished. */
static bool oldest_is_done(const struct vmbus_ring_mtx *mtx)
{
	const uint32_t number =
		high(vmbus__ld64_relaxed(vmbus__as_a64c(&mtx->tail_p))); /* TURN.look */

	return high(vmbus__ld64_relaxed(done_of(mtx, number))) == succ(number); /* TURN.look */
}

/* Add to a counter that only one thread at a time writes and any may read. */
static void bump(uint64_t *counter, uint64_t v)
{
	vmbus__a64 *word = vmbus__as_a64(counter);

	vmbus__st64_relaxed(word, vmbus__ld64_relaxed(word) + v); /* STATS.tx */
}

/* With the turn: publish all that is finished without a gap, and decide about one signal. */
static void publish_done(struct vmbus_ring_mtx *mtx)
{
	struct vmbus_ring_ctl *ctl = mtx->mem_p.ctl_p;
	const uint64_t tail = vmbus__ld64_relaxed(vmbus__as_a64(&mtx->tail_p)); /* TURN.own */
	const uint32_t before = low(tail);
	uint32_t number = high(tail), index = before, mask, out = 0;
	uint64_t packets = 0;

	for (;;) {
		const uint64_t done = vmbus__ld64_acquire(done_of(mtx, number)); /* DONE.rx */

		if (high(done) != succ(number))
			break;
		packets += vmbus__ld64_relaxed(packets_of(mtx, number)); /* DONE.rx */
		index = low(done);
		number = succ(number);
	}
	if (number == high(tail))
		return;
	vmbus__st32_release(&ctl->in, index); /* DATA.tx */
	vmbus__ctl_dirty(&mtx->mem_p);
	vmbus__fence_full(); /* WAKE.tx */
	/* After the fence: who sees the new tail knows that the peer can see the new index. */
	vmbus__st64_release(vmbus__as_a64(&mtx->tail_p), both(number, index)); /* TAIL.tx */
	mask = vmbus__ld32_relaxed(&ctl->mask);				       /* WAKE.tx */
	if (mask == 0) {
		vmbus__fence_acquire();		      /* MASK.tx */
		out = vmbus__ld32_relaxed(&ctl->out); /* WAKE.tx */
	}
	bump(&mtx->stats_p.packets, packets);
	bump(&mtx->stats_p.bytes, vmbus__ring_used(mtx->mem_p.size_p, index, before));
	bump(&mtx->stats_p.batches, 1);
	if (vmbus__tx_signal_due(mask, out, before) && mtx->signal_p) {
		bump(&mtx->stats_p.signals, 1);
		VMBUS_PROBE3(tx_signal, mtx, before, index);
		mtx->signal_p(mtx->signal_ctx_p);
	} else {
		bump(&mtx->stats_p.signals_suppressed, 1);
		VMBUS_PROBE3(tx_suppressed, mtx, before, index);
	}
}

/*
 * After a mark: see that it gets published, by us or by who has the turn.
 *
 * TURN: we mark a slot and then look at the oldest slot and take the turn; who has the turn gives
 * it up and then looks at the oldest slot again.  With a full fence between the two on each side
 * no mark is left behind: either we get the turn, or the other sees our mark.
 */
static void publish(struct vmbus_ring_mtx *mtx)
{
	vmbus__a32 *turn = vmbus__as_a32(&mtx->turn_p);

	vmbus__fence_full();						  /* TURN.mark */
	while (oldest_is_done(mtx) && vmbus__cas32_acquire(turn, 0, 1)) { /* TURN.take */
		publish_done(mtx);
		vmbus__st32_release(turn, 0); /* TURN.give */
		vmbus__fence_full();	      /* TURN.give */
	}
}

static void write_all(const struct vmbus_ring_mem *mem, uint32_t at, const struct vmbus_msg *msg,
		      uint32_t n)
{
	uint32_t i, bytes = 0;

	for (i = 0; i < n; i++) {
		if (vmbus__msg_bytes(&msg[i], mem->size_p, &bytes))
			return; /* cannot be: the claim was measured from the same messages */
		if (vmbus__msg_is_simple(&msg[i]) && vmbus__mem_linear(mem, at, bytes))
			vmbus__put_simple(mem->data_p + at, at, &msg[i], bytes);
		else
			vmbus__msg_write(mem, at, &msg[i], bytes);
		at = vmbus__ring_advance(mem->size_p, at, bytes);
	}
}

int vmbus_ring_mtx_put(struct vmbus_ring_mtx *mtx, const struct vmbus_msg *msg, uint32_t n)
{
	struct claim claim = { 0 };
	uint32_t number, end;
	int err;

	if (is_broken(mtx))
		return VMBUS_E_FAULT;
	if (n == 0)
		return 0;
	err = take_claim(mtx, &claim, msg, n);
	if (err == VMBUS_E_FULL) {
		vmbus__add64_relaxed(vmbus__as_a64(&mtx->full_p), 1); /* STATS.tx */
		VMBUS_PROBE1(tx_full, mtx);
	}
	if (err)
		return err;
	number = high(claim.head);
	write_all(&mtx->mem_p, low(claim.head), msg, claim.packets);
	end = vmbus__ring_advance(mtx->mem_p.size_p, low(claim.head), claim.bytes);
	if (vmbus__mem_dirty_wanted(&mtx->mem_p))
		vmbus__mem_dirty(&mtx->mem_p, low(claim.head), end);
	vmbus__st64_relaxed(packets_of(mtx, number), claim.packets);	    /* DONE.tx */
	vmbus__st64_release(done_of(mtx, number), both(succ(number), end)); /* DONE.tx */
	publish(mtx);
	return (int)claim.packets;
}

int vmbus_ring_mtx_arm(struct vmbus_ring_mtx *mtx, uint32_t need)
{
	struct vmbus_ring_ctl *ctl = mtx->mem_p.ctl_p;
	uint32_t looks = ARM_LOOKS;
	bool ready;
	int moved;

	if (is_broken(mtx))
		return VMBUS_E_FAULT;
	if (need == 0 || need % VMBUS__RING_UNIT || need > vmbus_ring_max_send(mtx->mem_p.size_p))
		return VMBUS_E_RANGE;
	vmbus__st32_relaxed(&ctl->pending_send, need); /* SLEEP.tx, PEND.tx, HINT.tx */
	vmbus__ctl_dirty(&mtx->mem_p);
	vmbus__fence_full(); /* SLEEP.tx */
	mtx->armed_p = 1;
	do {
		const uint64_t head =
			vmbus__ld64_acquire(vmbus__as_a64(&mtx->head_p)); /* CLAIM.rx */
		const uint64_t tail =
			vmbus__ld64_acquire(vmbus__as_a64(&mtx->tail_p));	      /* TAIL.rx */
		const uint64_t out = vmbus__ld64_acquire(vmbus__as_a64(&mtx->out_p)); /* CLAIM.rx */

		/*
		 * Until all claims are published the peer sees more room than we do, and may
		 * find that it has passed need before: then it signals nobody.
		 */
		ready = --looks == 0 || head != tail ||
			vmbus__ring_room(mtx->mem_p.size_p, low(head), low(out)) >= need;
		moved = ready ? 0 : look(mtx, head, out);
	} while (moved > 0);
	if (moved || ready) {
		vmbus_ring_mtx_disarm(mtx);
		return moved ? moved : VMBUS_RING_READY;
	}
	bump(&mtx->stats_p.sleeps, 1);
	return VMBUS_RING_SLEEP;
}

void vmbus_ring_mtx_disarm(struct vmbus_ring_mtx *mtx)
{
	if (!mtx->armed_p)
		return;
	mtx->armed_p = 0;
	vmbus__st32_relaxed(&mtx->mem_p.ctl_p->pending_send, 0); /* SLEEP.tx */
	vmbus__ctl_dirty(&mtx->mem_p);
}

static uint64_t counter(const uint64_t *from)
{
	return vmbus__ld64_relaxed(vmbus__as_a64c(from)); /* STATS.rx */
}

void vmbus_ring_mtx_stats(const struct vmbus_ring_mtx *mtx, struct vmbus_ring_stats *stats)
{
	const struct vmbus_ring_stats *from = &mtx->stats_p;

	stats->packets = counter(&from->packets);
	stats->bytes = counter(&from->bytes);
	stats->batches = counter(&from->batches);
	stats->signals = counter(&from->signals);
	stats->signals_suppressed = counter(&from->signals_suppressed);
	stats->full = counter(&mtx->full_p);
	stats->sleeps = counter(&from->sleeps);
	stats->faults = is_broken(mtx);
}

void vmbus_ring_mtx_fault(const struct vmbus_ring_mtx *mtx, struct vmbus_fault *fault_out)
{
	const struct vmbus_fault none = { 0 };

	*fault_out = none;
	if (vmbus__ld32_acquire(vmbus__as_a32c(&mtx->broken_p)) == 2) /* BROKEN.see */
		*fault_out = mtx->fault_p;
}
