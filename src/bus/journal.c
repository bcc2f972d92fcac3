/* SPDX-License-Identifier: MIT */
/*
 * The journal's layout, and a channel that begins one.  See journal.h for the rules, resume.c for a
 * channel that goes on from one, pend.c for the packets.
 */
#include "bus/journal.h"
#include "bus/save.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PENDING_MAX 64u /* defaults */
#define PENDING_BYTES 1024u
#define PENDING_MAX_MAX 4096u
#define PENDING_BYTES_MAX ((uint32_t)1 << 20)
#define OWN_BYTES_MAX ((uint32_t)1 << 16)
#define JOURNAL_BYTES_MAX ((size_t)256 << 20)

/* Where things are, of one VSP. */
struct layout {
	uint32_t max;
	uint32_t bytes;
	uint32_t stride;
	uint32_t own_bytes;
	size_t own_at;
	size_t total;
};

static size_t round_up(size_t n)
{
	return (n + VMBUS__JOURNAL_LINE - 1u) / VMBUS__JOURNAL_LINE * VMBUS__JOURNAL_LINE;
}

static bool layout_of(const struct vmbus_vsp *vsp, struct layout *l)
{
	if (!(vsp->flags & VMBUS_VSP_RESUMABLE))
		return false;
	l->max = vsp->pending_max ? vsp->pending_max : PENDING_MAX;
	l->bytes = vsp->pending_bytes ? vsp->pending_bytes : PENDING_BYTES;
	l->own_bytes = vsp->own_bytes;
	if (l->max > PENDING_MAX_MAX || l->bytes > PENDING_BYTES_MAX ||
	    l->own_bytes > OWN_BYTES_MAX)
		return false;
	l->stride = (uint32_t)(sizeof(struct vmbus__slot) + round_up(l->bytes));
	l->own_at = sizeof(struct vmbus__journal_head) + (size_t)l->max * l->stride;
	l->total = l->own_at + round_up(l->own_bytes);
	return l->total <= JOURNAL_BYTES_MAX;
}

size_t vmbus_journal_bytes(const struct vmbus_vsp *vsp)
{
	struct layout l;

	return layout_of(vsp, &l) ? l.total : 0;
}

/* ---- what this process keeps beside it ---- */

/* Nothing is delivered once more, from now on. */
void vmbus__journal_drop_again(struct vmbus__journal *j)
{
	uint32_t i;

	for (i = 0; i < j->again_count; i++)
		free(j->again[i].copy);
	free(j->again);
	j->again = NULL;
	j->again_count = 0;
	j->again_next = 0;
}

static void free_journal(struct vmbus__journal *j)
{
	if (!j)
		return;
	vmbus__journal_drop_again(j);
	free(j->entry);
	free(j->chain);
	free(j->free);
	free(j->done);
	free(j);
}

void vmbus__journal_free(struct vmbus_chan *chan)
{
	free_journal(chan->journal);
	chan->journal = NULL;
}

/* Where a child's ids go is not to be guessed. */
static void choose_hash(struct vmbus__journal *j)
{
	uint32_t v[2];

	if (getrandom(v, sizeof(v), GRND_NONBLOCK) != (ssize_t)sizeof(v)) {
		v[0] = (uint32_t)((uintptr_t)j >> 4 & UINT32_MAX);
		v[1] = (uint32_t)(vmbus__now() & UINT32_MAX);
	}
	j->hash_mul[0] = v[0] | 1u;
	j->hash_mul[1] = v[1] | 1u;
}

static struct vmbus__journal *make_journal(struct vmbus_chan *chan, void *mem,
					   const struct layout *l)
{
	struct vmbus__journal *const j = calloc(1, sizeof(*j));
	uint32_t bits = 1;

	if (!j)
		return NULL;
	while ((uint32_t)1 << bits < l->max)
		bits++;
	j->chan = chan;
	j->head = mem;
	j->slots = (uint8_t *)mem + sizeof(struct vmbus__journal_head);
	j->own = (uint8_t *)mem + l->own_at;
	j->stride = l->stride;
	j->max = l->max;
	j->bytes = l->bytes;
	j->own_bytes = l->own_bytes;
	choose_hash(j);
	j->hash_shift = 32u - bits;
	j->entry = calloc(l->max, sizeof(*j->entry));
	j->chain = calloc((size_t)1 << bits, sizeof(*j->chain));
	j->free = calloc(l->max, sizeof(*j->free));
	j->done = calloc(l->max, sizeof(*j->done));
	if (j->entry && j->chain && j->free && j->done)
		return j;
	free_journal(j);
	return NULL;
}

/*
 * The process lets go of an open channel: another goes on with it, and we touch nothing more.  One
 * that is broken is at its end, and the journal says so.
 */
static int let_go(struct vmbus_chan *chan)
{
	const bool broken = chan->failed;

	if (broken)
		vmbus__journal_close(chan);
	vmbus__journal_free(chan);
	vmbus__watch_pause(chan);
	chan->let_go = true;
	chan->failed = true;
	chan->armed = false;
	chan->need = 0;
	return broken ? VMBUS_E_FAULT : 0;
}

int vmbus_chan_set_journal(struct vmbus_chan *chan, void *mem, size_t bytes)
{
	struct vmbus__journal *j = NULL;
	struct layout l;

	if (chan->in_callback || (mem && chan->local != VMBUS__CLOSED))
		return VMBUS_E_STATE;
	if (mem) {
		if (!layout_of(chan->vsp, &l) || (uintptr_t)mem % VMBUS__JOURNAL_LINE)
			return VMBUS_E_INVAL;
		if (bytes < l.total)
			return VMBUS_E_RANGE;
		j = make_journal(chan, mem, &l);
		if (!j)
			return VMBUS_E_NOMEM;
	} else if (chan->stage != VMBUS__SHUT && chan->journal) {
		return let_go(chan);
	}
	vmbus__journal_free(chan);
	chan->journal = j;
	return 0;
}

int vmbus_chan_must_resume(struct vmbus_chan *chan)
{
	if (!chan->journal || chan->local != VMBUS__CLOSED)
		return VMBUS_E_STATE;
	chan->journal->must_resume = true;
	return 0;
}

void vmbus__journal_close(struct vmbus_chan *chan)
{
	vmbus__st64_release(&chan->journal->head->active, 0); /* JOURNAL.note */
}

/* ---- a journal that begins ---- */

static void forget(struct vmbus__journal *j)
{
	uint32_t i;

	for (i = 0; i < (uint32_t)1 << (32u - j->hash_shift); i++)
		j->chain[i] = (struct vmbus__chain){ (uint16_t)VMBUS__SLOT_NONE,
						     (uint16_t)VMBUS__SLOT_NONE };
	vmbus__journal_drop_again(j);
	j->repeats = false;
	j->starved = false;
	j->resumed = false;
	j->pkts = 0;
	j->taken = 0;
	j->pended = 0;
	j->used = 0;
	j->free_count = 0;
	j->done_count = 0;
	j->gen = 0;
	j->seq = 1;
}

/* Slot 0 is taken first. */
static void all_free(struct vmbus__journal *j)
{
	while (j->free_count < j->max) {
		j->free[j->free_count] = (uint16_t)(j->max - 1u - j->free_count);
		j->free_count++;
	}
}

/* The first commit, at the end of open(), makes it tell of an open channel. */
static void begin(struct vmbus__journal *j)
{
	struct vmbus_chan *const chan = j->chan;
	const uint32_t read = chan->rx.committed_p;

	vmbus__st64_release(&j->head->active, 0);     /* JOURNAL.note */
	vmbus__st64_release(&j->head->slots_used, 0); /* JOURNAL.note */
	memset(j->own, 0, j->own_bytes);
	memset(j->head->record, 0, sizeof(j->head->record));
	j->head->version = VMBUS__JOURNAL_VERSION;
	j->head->pending_max = j->max;
	j->head->pending_bytes = j->bytes;
	j->head->own_bytes = j->own_bytes;
	j->head->send_bytes = chan->tx.mem_p.size_p;
	j->head->recv_bytes = chan->rx.mem_p.size_p;
	j->head->magic = VMBUS__JOURNAL_MAGIC;
	vmbus__st64_relaxed(&j->head->read, read | (uint64_t)read << 32); /* JOURNAL.note */
	all_free(j);
	j->next = chan->rx.next_p;
}

/* A journal that begins: at an opening by the child, or where a saved state says. */
static int fresh(struct vmbus__journal *j, struct vmbus_ring_opts *opts)
{
	struct vmbus_chan *const chan = j->chan;
	int err;

	if (chan->from) {
		opts->resume = true;
		opts->index = chan->from->rx_index;
		opts->next = chan->from->rx_next;
	}
	opts->note = vmbus__journal_read;
	err = vmbus_ring_rx_init(&chan->rx, &chan->rings.mem[0], opts);
	if (err) {
		vmbus__chan_note(chan, vmbus_ring_rx_fault(&chan->rx), "ring from the child");
		return err;
	}
	if (chan->from)
		opts->index = chan->from->tx_index;
	opts->note = vmbus__journal_sent;
	err = vmbus_ring_tx_init(&chan->tx, &chan->rings.mem[1], opts);
	if (err) {
		vmbus__chan_note(chan, vmbus_ring_tx_fault(&chan->tx), "ring to the child");
		return err;
	}
	begin(j);
	return 0;
}

/*
 * Set the rings of a channel up, where the journal says or anew.
 *
 * Errors: INVAL  the journal is none, or contradicts itself or the channel
 *	   PEER	  an index is impossible, or neither what it was nor what it was to become
 *	   NOMEM  out of memory
 */
int vmbus__journal_rings(struct vmbus_chan *chan, struct vmbus_ring_opts *opts)
{
	struct vmbus__journal *const j = chan->journal;
	const uint64_t gen = vmbus__ld64_acquire(&j->head->active); /* JOURNAL.resume */
	const uint64_t magic = j->head->magic;
	const bool must_resume = j->must_resume;

	forget(j);
	j->must_resume = false;
	opts->note_ctx = j;
	if (must_resume)
		return vmbus__journal_resume(j, opts, gen);
	if (gen == 0 && (magic == 0 || magic == VMBUS__JOURNAL_MAGIC))
		return fresh(j, opts);
	if (magic == VMBUS__JOURNAL_MAGIC && vmbus__journal_never_opened(j, gen))
		return fresh(j, opts);
	return vmbus__journal_resume(j, opts, gen);
}
