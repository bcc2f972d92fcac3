/* SPDX-License-Identifier: MIT */
/*
 * A channel goes on from a journal.  What the journal tells is hostile: it is copied once and checked,
 * and nothing in it can make us read or write past it, or go on for longer than it has slots.  See
 * journal.h for the rules.
 */
#include "bus/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is wrong with it; returns the error of the open. */
static int wrong(struct vmbus_chan *chan, const char *what, uint64_t is, uint64_t must)
{
	char why[VMBUS__WHY_BYTES];

	(void)snprintf(why, sizeof(why), "journal: %s is %llu, must be %llu", what,
		       (unsigned long long)is, (unsigned long long)must);
	vmbus__chan_note(chan, NULL, why);
	return VMBUS_E_INVAL;
}

static int impossible(struct vmbus_chan *chan, const char *what, uint64_t is)
{
	char why[VMBUS__WHY_BYTES];

	(void)snprintf(why, sizeof(why), "journal: %s is %llu, which cannot be", what,
		       (unsigned long long)is);
	vmbus__chan_note(chan, NULL, why);
	return VMBUS_E_INVAL;
}

/* The header against what we are; a copy is checked. */
static int check_head(struct vmbus__journal *j, const struct vmbus__journal_head *head)
{
	struct vmbus_chan *const chan = j->chan;
	const struct {
		const char *what;
		uint64_t is, must;
	} fields[] = {
		{ "version", head->version, VMBUS__JOURNAL_VERSION },
		{ "pending_max", head->pending_max, j->max },
		{ "pending_bytes", head->pending_bytes, j->bytes },
		{ "own_bytes", head->own_bytes, j->own_bytes },
		{ "size of the ring to the child", head->send_bytes, chan->rings.mem[1].size_p },
		{ "size of the ring from the child", head->recv_bytes, chan->rings.mem[0].size_p },
	};
	uint32_t i;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (fields[i].is != fields[i].must)
			return wrong(chan, fields[i].what, fields[i].is, fields[i].must);
	return 0;
}

/* Set the ring to the child up at one of two indices; tells whether it was the second. */
static int resume_tx(struct vmbus_chan *chan, struct vmbus_ring_opts *opts,
		     const struct vmbus__record *record, bool *after)
{
	int err;

	opts->note = vmbus__journal_sent;
	opts->index = record->tx_after;
	*after = true;
	err = vmbus_ring_tx_init(&chan->tx, &chan->rings.mem[1], opts);
	if (err == VMBUS_E_PEER && chan->tx.fault_p.field == VMBUS_FAULT_RESUME_INDEX) {
		opts->index = record->tx_before;
		*after = false;
		err = vmbus_ring_tx_init(&chan->tx, &chan->rings.mem[1], opts);
	}
	if (err)
		vmbus__chan_note(chan, vmbus_ring_tx_fault(&chan->tx), "ring to the child");
	return err;
}

static int resume_rx(struct vmbus_chan *chan, struct vmbus_ring_opts *opts, uint64_t read,
		     uint32_t next)
{
	int err;

	opts->note = vmbus__journal_read;
	opts->next = next;
	opts->index = (uint32_t)(read >> 32);
	err = vmbus_ring_rx_init(&chan->rx, &chan->rings.mem[0], opts);
	if (err == VMBUS_E_PEER && chan->rx.fault_p.field == VMBUS_FAULT_RESUME_INDEX) {
		opts->index = (uint32_t)read;
		err = vmbus_ring_rx_init(&chan->rx, &chan->rings.mem[0], opts);
	}
	if (err == VMBUS_E_INVAL)
		return impossible(chan, "place to read on", next);
	if (err)
		vmbus__chan_note(chan, vmbus_ring_rx_fault(&chan->rx), "ring from the child");
	return err;
}

/* A slot as it counts at a commit: false, it is empty. */
static bool is_kept(uint64_t take, uint64_t done, uint64_t gen)
{
	if (take == 0 || take > gen)
		return false;
	return done < take || done > gen;
}

/* Take the request in a slot, from a copy of its head: a device reads private memory only. */
static int read_slot(struct vmbus__journal *j, uint32_t slot, struct vmbus__again *again)
{
	const struct vmbus__slot *const at = vmbus__slot_at(j, slot);
	const size_t from =
		offsetof(struct vmbus__slot, id); /* the numbers are read, and not again */
	struct vmbus__slot head = { .id = 0 };
	uint8_t *copy;
	int least;

	memcpy((uint8_t *)&head + from, (const uint8_t *)at + from, sizeof(head) - from);
	least = vmbus_wire_ext_min(head.type);
	if (least < 0)
		return impossible(j->chan, "type of a request", head.type);
	if (head.flags > VMBUS_PKT_FLAG_COMPLETE)
		return impossible(j->chan, "flags of a request", head.flags);
	if (head.ext_len % 8u || head.ext_len < (uint32_t)least || head.ext_len > j->bytes)
		return impossible(j->chan, "header bytes of a request", head.ext_len);
	if (head.len > j->bytes - head.ext_len)
		return impossible(j->chan, "payload bytes of a request", head.len);
	if (head.seq >= VMBUS__JOURNAL_GEN_MAX)
		return impossible(j->chan, "number of a request", head.seq);
	copy = malloc((size_t)head.ext_len + head.len + 1u);
	if (!copy)
		return VMBUS_E_NOMEM;
	memcpy(copy, at->data, (size_t)head.ext_len + head.len);
	*again = (struct vmbus__again){
		.pkt = { .id = head.id,
			 .payload = copy + head.ext_len,
			 .len = head.len,
			 .type = head.type,
			 .flags = head.flags,
			 .ext = copy,
			 .ext_len = head.ext_len,
			 .where = head.where },
		.seq = head.seq,
		.copy = copy,
		.slot = slot,
	};
	return 0;
}

/* Let the entry at the root of a heap of n sink to its place; the largest seq is on top. */
static void sink(struct vmbus__again *again, uint32_t root, uint32_t n)
{
	const struct vmbus__again one = again[root];
	uint32_t child;

	for (child = 2u * root + 1u; child < n; child = 2u * root + 1u) {
		if (child + 1u < n && again[child].seq < again[child + 1u].seq)
			child++;
		if (again[child].seq <= one.seq)
			break;
		again[root] = again[child];
		root = child;
	}
	again[root] = one;
}

/*
 * By rising seq.  The C library's qsort() asks the system how large memory is, and the sandbox of a
 * provider does not allow that.
 */
static void sort(struct vmbus__again *again, uint32_t n)
{
	uint32_t i;

	for (i = n / 2u; i > 0; i--)
		sink(again, i - 1u, n);
	for (i = n; i > 1u; i--) {
		const struct vmbus__again last = again[i - 1u];

		again[i - 1u] = again[0];
		again[0] = last;
		sink(again, 0, i - 1u);
	}
}

/* Read what is pended at a commit.  Each number is read once: what was seen here is what counts. */
static int read_slots(struct vmbus__journal *j, uint64_t gen)
{
	const uint64_t used = vmbus__ld64_acquire(&j->head->slots_used); /* JOURNAL.resume */
	uint32_t i;
	int err;

	if (used > j->max)
		return impossible(j->chan, "number of slots that were used", used);
	j->used = (uint32_t)used;
	j->again = calloc((size_t)j->used + 1u, sizeof(*j->again));
	if (!j->again)
		return VMBUS_E_NOMEM;
	for (i = 0; i < j->used; i++) {
		struct vmbus__slot *const at = vmbus__slot_at(j, i);
		const uint64_t take = vmbus__ld64_acquire(&at->take); /* JOURNAL.resume */
		const uint64_t done = vmbus__ld64_acquire(&at->done); /* JOURNAL.resume */

		j->entry[i].kept = is_kept(take, done, gen);
		if (j->entry[i].kept) {
			err = read_slot(j, i, &j->again[j->again_count]);
			if (err)
				return err;
			j->again_count++;
		}
	}
	sort(j->again, j->again_count);
	return 0;
}

/*
 * Make the journal say plainly what was found in it: what is not pended is cleared, since the old
 * numbers mean nothing from now on.  It may be read again after any store.
 */
static void settle(struct vmbus__journal *j, uint32_t next)
{
	const uint32_t sent = j->chan->tx.committed_p;
	uint32_t i;

	for (i = j->max; i > j->used; i--)
		j->free[j->free_count++] = (uint16_t)(i - 1u);
	for (; i > 0; i--) {
		struct vmbus__slot *const at = vmbus__slot_at(j, i - 1u);

		if (j->entry[i - 1u].kept) {
			vmbus__st64_release(&at->done, 0); /* JOURNAL.note */
		} else {
			vmbus__st64_release(&at->take, 0); /* JOURNAL.note */
			j->free[j->free_count++] = (uint16_t)(i - 1u);
		}
	}
	for (i = 0; i < j->again_count; i++)
		vmbus__journal_index(j, j->again[i].slot, j->again[i].pkt.id,
				     j->again[i].pkt.flags != 0);
	if (j->again_count)
		j->seq = j->again[j->again_count - 1u].seq + 1u;
	j->next = next;
	vmbus__fence_full(); /* JOURNAL.note */
	vmbus__journal_write(j, sent, sent);
	vmbus__fence_full(); /* JOURNAL.note */
}

/* Go on from commit gen, or the one before it. */
static int go_on(struct vmbus__journal *j, struct vmbus_ring_opts *opts, uint64_t gen)
{
	struct vmbus_chan *const chan = j->chan;
	const uint64_t read = vmbus__ld64_acquire(&j->head->read); /* JOURNAL.resume */
	struct vmbus__record record;
	uint32_t next;
	bool after;
	int err;

	memcpy(&record, &j->head->record[gen % 2u], sizeof(record));
	if (gen == 0)
		return impossible(chan, "number of the commit that counts", gen);
	if (gen >= VMBUS__JOURNAL_GEN_MAX || record.gen != gen)
		return wrong(chan, "number of the record", record.gen, gen);
	opts->resume = true;
	err = resume_tx(chan, opts, &record, &after);
	if (err)
		return err;
	next = after ? record.next_after : record.next_before;
	err = resume_rx(chan, opts, read, next);
	if (!err)
		err = read_slots(j, after ? gen : gen - 1u);
	if (err)
		return err;
	j->gen = gen;
	settle(j, next);
	j->resumed = true;
	return 0;
}

/* The commit at the end of open() did not happen: the child has not heard of it. */
bool vmbus__journal_never_opened(struct vmbus__journal *j, uint64_t gen)
{
	const struct vmbus__record *const record = &j->head->record[1];
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts), .resume = true };

	if (gen != 1 || record->tx_before == record->tx_after)
		return false;
	opts.index = record->tx_before;
	return vmbus_ring_tx_init(&j->chan->tx, &j->chan->rings.mem[1], &opts) == 0;
}

/*
 * Set the rings up where a journal that tells of an open channel says.
 *
 * Errors: INVAL  it contradicts itself or the channel
 *	   PEER	  an index is neither what it was nor what it was to become
 *	   NOMEM  out of memory
 */
int vmbus__journal_resume(struct vmbus__journal *j, struct vmbus_ring_opts *opts, uint64_t gen)
{
	struct vmbus__journal_head head;
	int err;

	memcpy(&head, j->head, sizeof(head));
	if (head.magic != VMBUS__JOURNAL_MAGIC)
		return wrong(j->chan, "magic", head.magic, VMBUS__JOURNAL_MAGIC);
	err = check_head(j, &head);
	return err ? err : go_on(j, opts, gen);
}
