/* SPDX-License-Identifier: MIT */
/*
 * What a channel with a journal does for its packets: each callback, and each send outside of one,
 * is a commit.  Knows nothing of how a journal is read back; see journal.h for the rules.
 */
#include "bus/journal.h"

#include <string.h>

struct vmbus__slot *vmbus__slot_at(const struct vmbus__journal *j, uint32_t slot)
{
	return (struct vmbus__slot *)(void *)(j->slots + (size_t)slot * j->stride);
}

/* The next commit: note it whole, then make it the one that counts. */
void vmbus__journal_write(struct vmbus__journal *j, uint32_t tx_before, uint32_t tx_after)
{
	const uint64_t gen = j->gen + 1u;
	struct vmbus__record *const record = &j->head->record[gen % 2u];

	record->gen = gen;
	record->tx_before = tx_before;
	record->tx_after = tx_after;
	record->next_before = j->next;
	record->next_after = j->chan->rx.next_p;
	vmbus__st64_release(&j->head->active, gen); /* JOURNAL.note */
	j->gen = gen;
	j->next = j->chan->rx.next_p;
	j->taken = 0;
}

/* The ring to the child is about to store its write index. */
void vmbus__journal_sent(void *ctx, uint32_t before, uint32_t after)
{
	vmbus__journal_write(ctx, before, after);
}

/* The ring from the child is about to store its read index: what was noted as next before. */
void vmbus__journal_read(void *ctx, uint32_t before, uint32_t after)
{
	struct vmbus__journal *const j = ctx;

	vmbus__st64_release(&j->head->read, before | (uint64_t)after << 32); /* JOURNAL.note */
}

/* ---- ids ---- */

/* The upper bits of the lower halves of two products, whose factors the child does not know. */
static struct vmbus__chain *chain_of(const struct vmbus__journal *j, uint64_t id, bool asked)
{
	const uint64_t product = (id & UINT32_MAX) * j->hash_mul[0] ^ (id >> 32) * j->hash_mul[1] ^
				 (asked ? j->hash_mul[1] : 0);

	return &j->chain[(product & UINT32_MAX) >> j->hash_shift];
}

/* A slot has a request from now on. */
void vmbus__journal_index(struct vmbus__journal *j, uint32_t slot, uint64_t id, bool asked)
{
	struct vmbus__chain *const chain = chain_of(j, id, asked);

	j->entry[slot] = (struct vmbus__entry){ id, VMBUS__SLOT_NONE, asked, false };
	if (chain->first == VMBUS__SLOT_NONE)
		chain->first = (uint16_t)slot;
	else
		j->entry[chain->last].next = (uint16_t)slot;
	chain->last = (uint16_t)slot;
	j->pended++;
}

/* Take a slot out of its chain, behind prev, and have the next commit free it. */
static void drop(struct vmbus__journal *j, uint32_t slot, uint32_t prev)
{
	struct vmbus__chain *const chain = chain_of(j, j->entry[slot].id, j->entry[slot].asked);
	const uint16_t next = j->entry[slot].next;

	if (prev == VMBUS__SLOT_NONE)
		chain->first = next;
	else
		j->entry[prev].next = next;
	if (next == VMBUS__SLOT_NONE)
		chain->last = (uint16_t)prev;
	j->pended--;
	j->done[j->done_count++] = (uint16_t)slot;
	vmbus__st64_release(&vmbus__slot_at(j, slot)->done, j->gen + 1u); /* JOURNAL.note */
}

/* The oldest request of an id, of those that want a completion or the others, is done. */
uint32_t vmbus__journal_done(struct vmbus__journal *j, uint64_t id, bool asked)
{
	uint32_t slot, prev = VMBUS__SLOT_NONE;

	if (j->pended == 0)
		return VMBUS__SLOT_NONE;
	for (slot = chain_of(j, id, asked)->first; slot != VMBUS__SLOT_NONE;
	     prev = slot, slot = j->entry[slot].next)
		if (j->entry[slot].id == id && j->entry[slot].asked == asked) {
			drop(j, slot, prev);
			break;
		}
	return slot;
}

/* A completion outside of callbacks was not sent: the only slot that was dropped is not done. */
void vmbus__journal_undo(struct vmbus__journal *j)
{
	const uint32_t slot = j->done[--j->done_count];
	const uint64_t id = j->entry[slot].id;
	const bool asked = j->entry[slot].asked;
	struct vmbus__chain *const chain = chain_of(j, id, asked);

	vmbus__st64_release(&vmbus__slot_at(j, slot)->done, 0); /* JOURNAL.note */
	j->entry[slot].next = chain->first;
	chain->first = (uint16_t)slot;
	if (chain->last == VMBUS__SLOT_NONE)
		chain->last = (uint16_t)slot;
	j->pended++;
}

/* The commit that frees them is published: slots may be used again. */
void vmbus__journal_settle(struct vmbus__journal *j)
{
	while (j->done_count)
		j->free[j->free_count++] = j->done[--j->done_count];
	if (VMBUS_UNLIKELY(j->starved) && j->free_count) {
		j->starved = false;
		vmbus__chan_look(j->chan, j->chan->slot);
	}
}

/* ---- callbacks ---- */

/* The next requests that are delivered once more. */
static int get_again(struct vmbus__journal *j, struct vmbus_packet *pkt, uint32_t n)
{
	const uint32_t left = j->again_count - j->again_next;
	uint32_t i;

	if (n > left)
		n = left;
	for (i = 0; i < n; i++)
		pkt[i] = j->again[j->again_next + i].pkt;
	j->repeats = true;
	return (int)n;
}

/*
 * As vmbus_ring_rx_get(), but first what was pended before, and never more than can be pended.
 *
 * Errors: AGAIN	 nothing can be pended now
 */
int vmbus__journal_get(struct vmbus_chan *chan, struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus__journal *const j = chan->journal;
	int got;

	j->repeats = false;
	if (j->again_next < j->again_count) {
		got = get_again(j, pkt, n);
	} else if (j->free_count == 0) {
		j->starved = true;
		got = vmbus_ring_rx_consume(&chan->rx);
		return got ? got : VMBUS_E_AGAIN;
	} else {
		got = vmbus_ring_rx_get(&chan->rx, pkt, n < j->free_count ? n : j->free_count);
	}
	j->pkt = pkt;
	j->pkts = got > 0 ? (uint32_t)got : 0;
	j->kept = 0;
	return got;
}

/* What was delivered once more, and neither completed nor pended again, is done with. */
static void finish_again(struct vmbus__journal *j)
{
	uint32_t i;

	for (i = 0; i < j->pkts; i++) {
		const struct vmbus__again *const again = &j->again[j->again_next + i];
		const struct vmbus_packet *const pkt = &again->pkt;
		uint32_t slot, prev = VMBUS__SLOT_NONE;

		if (j->kept >> i & 1u)
			continue;
		slot = chain_of(j, pkt->id, pkt->flags != 0)->first;
		while (slot != VMBUS__SLOT_NONE && slot != again->slot) {
			prev = slot;
			slot = j->entry[slot].next;
		}
		if (slot != VMBUS__SLOT_NONE)
			drop(j, slot, prev);
	}
	j->again_next += j->pkts;
	j->repeats = false;
	if (j->again_next == j->again_count)
		vmbus__journal_drop_again(j);
}

/*
 * The end of a callback: note what became of it, and publish what it sent.
 *
 * Errors: FAULT  as vmbus_ring_tx_commit()
 */
int vmbus__journal_commit(struct vmbus_chan *chan)
{
	struct vmbus__journal *const j = chan->journal;
	int err = 0;

	if (j->repeats)
		finish_again(j);
	j->pkts = 0;
	if (chan->batch) {
		chan->batch = 0;
		err = vmbus_ring_tx_commit(&chan->tx);
	} else if (j->next != chan->rx.next_p || j->taken || j->done_count || j->gen == 0) {
		vmbus__journal_write(j, chan->tx.committed_p, chan->tx.committed_p);
		vmbus__fence_full(); /* JOURNAL.note */
	}
	if (err < 0)
		return err;
	vmbus__journal_settle(j);
	return 0;
}

/* ---- what a device calls ---- */

/* A slot that was never taken: what lies in it is nobody's, and goes before it counts. */
static void use_one_more(struct vmbus__journal *j, uint32_t slot)
{
	struct vmbus__slot *const at = vmbus__slot_at(j, slot);

	vmbus__st64_relaxed(&at->take, 0); /* JOURNAL.note */
	vmbus__st64_relaxed(&at->done, 0); /* JOURNAL.note */
	j->used = slot + 1u;
	vmbus__st64_release(&j->head->slots_used, j->used); /* JOURNAL.note */
}

int vmbus_chan_pend(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	struct vmbus__journal *const j = chan->journal;
	const uintptr_t at = (uintptr_t)pkt;
	struct vmbus__slot *to;
	uint32_t slot;
	uint64_t bit;

	if (!j)
		return 0;
	if (j->pkts == 0 || at < (uintptr_t)j->pkt || at > (uintptr_t)&j->pkt[j->pkts - 1u] ||
	    (at - (uintptr_t)j->pkt) % sizeof(*pkt))
		return VMBUS_E_INVAL;
	bit = (uint64_t)1 << (pkt - j->pkt);
	if ((j->kept & bit) || j->repeats) {
		j->kept |= bit;
		return 0;
	}
	if (pkt->ext_len > j->bytes || pkt->len > j->bytes - pkt->ext_len)
		return VMBUS_E_RANGE;
	VMBUS_REQUIRE(j->free_count > 0);
	slot = j->free[--j->free_count];
	if (VMBUS_UNLIKELY(slot >= j->used))
		use_one_more(j, slot);
	to = vmbus__slot_at(j, slot);
	to->id = pkt->id;
	to->seq = j->seq++;
	to->len = pkt->len;
	to->ext_len = pkt->ext_len;
	to->where = pkt->where;
	to->type = pkt->type;
	to->flags = pkt->flags;
	memcpy(to->data, pkt->ext, pkt->ext_len);
	memcpy(to->data + pkt->ext_len, pkt->payload, pkt->len);
	vmbus__st64_release(&to->take, j->gen + 1u); /* JOURNAL.note */
	vmbus__journal_index(j, slot, pkt->id, pkt->flags != 0);
	j->kept |= bit;
	j->taken++;
	return 0;
}

void vmbus_chan_pend_done(struct vmbus_chan *chan, uint64_t id)
{
	struct vmbus__journal *const j = chan->journal;

	if (!j || !chan->live)
		return;
	if (vmbus__journal_done(j, id, false) == VMBUS__SLOT_NONE &&
	    vmbus__journal_done(j, id, true) == VMBUS__SLOT_NONE)
		return;
	if (!chan->in_callback && !chan->failed)
		(void)vmbus__journal_commit(chan);
}

bool vmbus_chan_resumed(const struct vmbus_chan *chan)
{
	return chan->journal && chan->journal->resumed;
}

void *vmbus_chan_own(struct vmbus_chan *chan)
{
	return chan->journal && chan->journal->own_bytes ? chan->journal->own : NULL;
}
