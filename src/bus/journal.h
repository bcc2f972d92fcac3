/* SPDX-License-Identifier: MIT */
/*
 * The journal of a channel: memory that outlives the process, and what this process keeps beside
 * it.  All of the memory may be damaged, or made up, when it is read; it is written here only, by
 * one thread.
 *
 * A commit has a number, its generation.  A record says from which state of the ring to the child,
 * and of what was read, a commit goes to which; two records take turns, and `active` is the
 * generation of the one that counts.  It is stored before the write index that belongs to it, so
 * after a death the commit has happened if the index has its new value, or did not have to move.
 *
 * A pended request lies in a slot, from the commit `take` on until the commit `done`.  A slot is
 * used again only after the commit that freed it, and then `done` is smaller than `take`.  Slots are
 * taken from the first one on; those from `slots_used` on were never taken and mean nothing, so that
 * who goes on reads, and maps, no more than there ever was.
 */
#ifndef VMBUS_BUS_JOURNAL_H
#define VMBUS_BUS_JOURNAL_H

#include "bus/bus.h"

#define VMBUS__JOURNAL_MAGIC 0x6c6e726a73756276u /* "vbusjrnl" */
#define VMBUS__JOURNAL_VERSION 2u
#define VMBUS__JOURNAL_LINE 64u
#define VMBUS__JOURNAL_GEN_MAX ((uint64_t)1 << 62)
#define VMBUS__SLOT_NONE 0xffffu

struct vmbus__record {
	uint64_t gen;
	uint32_t tx_before; /* write index of the ring to the child */
	uint32_t tx_after;
	uint32_t next_before; /* of the ring from the child: packets before it are done or pended */
	uint32_t next_after;
	uint64_t reserved[5];
};

struct vmbus__journal_head {
	uint64_t magic;
	uint32_t version;
	uint32_t pending_max;
	uint32_t pending_bytes;
	uint32_t own_bytes;
	uint32_t send_bytes; /* data bytes of the ring to the child */
	uint32_t recv_bytes;
	vmbus__a64 active; /* 0: the channel is closed */
	vmbus__a64 read;   /* index of the ring from the child: before, and after << 32 */
	vmbus__a64 slots_used;
	uint64_t reserved;
	struct vmbus__record record[2]; /* of odd generations the second */
};

struct vmbus__slot {
	vmbus__a64 take;
	vmbus__a64 done;
	uint64_t id;
	uint64_t seq; /* of the order in which they were pended */
	uint32_t len;
	uint32_t ext_len;
	uint32_t where;
	uint16_t type;
	uint16_t flags;
	uint64_t reserved[2];
	uint8_t data[]; /* header, then payload */
};

_Static_assert(sizeof(struct vmbus__record) == VMBUS__JOURNAL_LINE, "a line each");
_Static_assert(offsetof(struct vmbus__journal_head, record) == VMBUS__JOURNAL_LINE, "a line");
_Static_assert(sizeof(struct vmbus__journal_head) == 3 * VMBUS__JOURNAL_LINE, "three lines");
_Static_assert(sizeof(struct vmbus__slot) == VMBUS__JOURNAL_LINE, "a line");

/* A pended request that is delivered once more. */
struct vmbus__again {
	struct vmbus_packet pkt;
	uint64_t seq;
	void *copy; /* header and payload */
	uint32_t slot;
	uint32_t reserved;
};

/* Pended requests by their ids: chains of slots, oldest first. */
struct vmbus__chain {
	uint16_t first;
	uint16_t last;
};

struct vmbus__entry {
	uint64_t id;
	uint16_t next;
	bool asked; /* it wants a completion */
	bool kept;  /* while a journal is read: it is pended */
};

struct vmbus__journal {
	struct vmbus_chan *chan;
	struct vmbus__journal_head *head;
	uint8_t *slots;
	void *own;
	uint32_t stride;
	uint32_t max;
	uint32_t bytes;
	uint32_t own_bytes;
	/* The commit that was noted last. */
	uint64_t gen;
	uint32_t next;
	uint32_t taken; /* slots taken since */
	uint32_t used;	/* as slots_used says */
	uint64_t seq;
	/* Slots. */
	struct vmbus__entry *entry;
	struct vmbus__chain *chain;
	uint64_t hash_mul[2]; /* odd, of 32 bits */
	uint32_t hash_shift;
	uint32_t pended;
	uint16_t *free;
	uint32_t free_count;
	uint32_t done_count; /* slots that the next commit frees */
	uint16_t *done;
	bool starved; /* packets wait for a slot */
	bool resumed;
	bool must_resume; /* the next opening is none that begins */
	/* The packets of this callback. */
	bool repeats; /* they were pended before */
	uint32_t pkts;
	const struct vmbus_packet *pkt;
	uint64_t kept; /* bit n: packet n was pended, or pended again */
	/* What is delivered once more. */
	struct vmbus__again *again;
	uint32_t again_count;
	uint32_t again_next;
};

/* journal.c: layout, opening. */
int vmbus__journal_rings(struct vmbus_chan *chan, struct vmbus_ring_opts *opts);
void vmbus__journal_close(struct vmbus_chan *chan);
void vmbus__journal_free(struct vmbus_chan *chan);
void vmbus__journal_drop_again(struct vmbus__journal *j);

/* resume.c: going on. */
bool vmbus__journal_never_opened(struct vmbus__journal *j, uint64_t gen);
int vmbus__journal_resume(struct vmbus__journal *j, struct vmbus_ring_opts *opts, uint64_t gen);

/* pend.c: the path of packets. */
struct vmbus__slot *vmbus__slot_at(const struct vmbus__journal *j, uint32_t slot);
void vmbus__journal_write(struct vmbus__journal *j, uint32_t tx_before, uint32_t tx_after);
void vmbus__journal_sent(void *ctx, uint32_t before, uint32_t after);
void vmbus__journal_read(void *ctx, uint32_t before, uint32_t after);
void vmbus__journal_index(struct vmbus__journal *j, uint32_t slot, uint64_t id, bool asked);
int vmbus__journal_get(struct vmbus_chan *chan, struct vmbus_packet *pkt, uint32_t n);
int vmbus__journal_commit(struct vmbus_chan *chan);
uint32_t vmbus__journal_done(struct vmbus__journal *j, uint64_t id, bool asked);
void vmbus__journal_undo(struct vmbus__journal *j);
void vmbus__journal_settle(struct vmbus__journal *j);

#endif
