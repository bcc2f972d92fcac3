/* SPDX-License-Identifier: MIT */
/*
 * What comes from the child on any thread: posted messages and signals.  A message goes through
 * liburcu's wait-free queue in one of VMBUS__INBOX nodes that exist from the start; when all are
 * taken the child is told "insufficient buffers" and tries again.  Nothing here waits.
 */
#include "bus/bus.h"

#include <stdlib.h>
#include <string.h>
#include <urcu/wfcqueue.h>

#define MESSAGE_TRIES 64u /* for a free node, against other threads of the child */

struct node {
	struct cds_wfcq_node queue; /* first: the queue knows a node by it */
	vmbus__a32 filled;	    /* 1: from the post to the take */
	uint32_t index;
	struct vmbus__message message;
};

struct vmbus__inbox {
	struct __cds_wfcq_head head;
	struct cds_wfcq_tail tail;
	vmbus__a64 free;    /* bit n: node n */
	struct node *first; /* taken from the queue and not yet done with */
	struct node nodes[VMBUS__INBOX];
};

_Static_assert(VMBUS__INBOX == 64, "one bit for each node");

int vmbus__inbox_init(struct vmbus_bus *bus)
{
	struct vmbus__inbox *inbox = calloc(1, sizeof(*inbox));
	uint32_t n;

	if (!inbox)
		return VMBUS_E_NOMEM;
	__cds_wfcq_init(&inbox->head, &inbox->tail);
	for (n = 0; n < VMBUS__INBOX; n++)
		inbox->nodes[n].index = n;
	vmbus__st64_relaxed(&inbox->free, /* NODE.take */
			    UINT64_MAX >> (VMBUS__INBOX - bus->opts.posts_max));
	bus->inbox = inbox;
	return 0;
}

void vmbus__inbox_fini(struct vmbus_bus *bus)
{
	free(bus->inbox);
	bus->inbox = NULL;
}

static struct node *take_node(struct vmbus__inbox *inbox)
{
	uint32_t n;

	for (n = 0; n < MESSAGE_TRIES; n++) {
		const uint64_t free = vmbus__ld64_relaxed(&inbox->free); /* NODE.take */

		if (free == 0)
			return NULL;
		if (vmbus__cas64_acq_rel(&inbox->free, free, free & (free - 1))) /* NODE.take */
			return &inbox->nodes[__builtin_ctzll(free)];
	}
	return NULL;
}

static void give_node(struct vmbus__inbox *inbox, struct node *node)
{
	vmbus__or64_release(&inbox->free, (uint64_t)1 << node->index); /* NODE.give */
}

static bool is_message_conn(const struct vmbus_bus *bus, uint32_t conn_id)
{
	const uint32_t own = bus->opts.limits.message_conn; /* 0: none but those of all */

	return conn_id == VMBUS_CONN_MESSAGE || conn_id == VMBUS_CONN_CONTACT ||
	       (own && conn_id == own);
}

uint32_t vmbus_bus_post_message(struct vmbus_bus *bus, uint32_t conn_id, uint32_t type,
				const void *payload, uint32_t bytes)
{
	struct node *node;

	if (!is_message_conn(bus, conn_id))
		return VMBUS_HC_CONNECTION_ID;
	if (type != VMBUS_MSG_TYPE_CTL || bytes > VMBUS_HC_MESSAGE_MAX || (bytes && !payload))
		return VMBUS_HC_PARAMETER;
	node = take_node(bus->inbox);
	if (!node) {
		vmbus__add64_relaxed(&bus->posts_refused, 1); /* COUNT.add */
		return VMBUS_HC_NO_BUFFERS;
	}
	vmbus__add64_relaxed(&bus->posts, 1); /* COUNT.add */
	node->message.conn_id = conn_id;
	node->message.bytes = bytes;
	if (bytes)
		memcpy(node->message.payload, payload, bytes);
	cds_wfcq_node_init(&node->queue);
	vmbus__st32_release(&node->filled, 1); /* POST.post */
	cds_wfcq_enqueue(&bus->inbox->head, &bus->inbox->tail, &node->queue);
	vmbus__kick(&bus->kick);
	return VMBUS_HC_OK;
}

/* The oldest message; it stays the oldest until it is dropped. */
const struct vmbus__message *vmbus__inbox_peek(struct vmbus_bus *bus)
{
	struct vmbus__inbox *inbox = bus->inbox;

	if (!inbox->first) {
		struct cds_wfcq_node *queue =
			__cds_wfcq_dequeue_nonblocking(&inbox->head, &inbox->tail);

		/* A thread that is between its two stores kicks when it is through. */
		if (!queue || (uintptr_t)queue == UINTPTR_MAX) /* CDS_WFCQ_WOULDBLOCK */
			return NULL;
		inbox->first = (struct node *)(void *)queue;
		(void)vmbus__ld32_acquire(&inbox->first->filled); /* POST.take */
	}
	return &inbox->first->message;
}

void vmbus__inbox_drop(struct vmbus_bus *bus)
{
	struct node *node = bus->inbox->first;

	if (!node)
		return;
	bus->inbox->first = NULL;
	give_node(bus->inbox, node);
}

bool vmbus__inbox_any(struct vmbus_bus *bus)
{
	return bus->inbox->first || !cds_wfcq_empty(&bus->inbox->head, &bus->inbox->tail);
}

/* Look at all messages, the oldest first; nobody posts meanwhile.  Returns how many. */
uint32_t vmbus__inbox_each(struct vmbus_bus *bus, vmbus__message_fn *fn, void *ctx)
{
	struct vmbus__inbox *inbox = bus->inbox;
	struct cds_wfcq_node *queue;
	uint32_t n = 0;

	if (inbox->first) {
		fn(ctx, &inbox->first->message);
		n++;
	}
	queue = __cds_wfcq_first_blocking(&inbox->head, &inbox->tail);
	for (; queue && n < VMBUS__INBOX; n++) {
		struct node *node = (struct node *)(void *)queue;

		(void)vmbus__ld32_acquire(&node->filled); /* POST.take */
		fn(ctx, &node->message);
		queue = __cds_wfcq_next_blocking(&inbox->head, &inbox->tail, queue);
	}
	return n;
}

/* The channel in a slot; within a read-side section, or on the bus thread. */
struct vmbus_chan *vmbus__chan_at(struct vmbus_bus *bus, uint32_t slot)
{
	if (slot >= VMBUS__RELIDS)
		return NULL;
	return (struct vmbus_chan *)(uintptr_t)vmbus__ld64_acquire(
		&bus->by_slot[slot]); /* CHAN.find */
}

uint32_t vmbus_bus_signal_event(struct vmbus_bus *bus, uint32_t conn_id, uint32_t flag)
{
	struct vmbus_chan *chan;
	int slot;

	if (flag >= 2048u) /* [HC-SIGNAL] */
		return VMBUS_HC_PARAMETER;
	vmbus__rcu_enter();
	slot = vmbus__conn_find(bus, conn_id);
	chan = slot < 0 ? NULL : vmbus__chan_at(bus, (uint32_t)slot);
	if (chan) {
		vmbus__note_signal(chan);
		vmbus__chan_look(chan, (uint32_t)slot);
	}
	vmbus__rcu_leave(bus);
	vmbus__add64_relaxed(chan ? &bus->signals : &bus->signals_unknown, 1); /* COUNT.add */
	return chan ? VMBUS_HC_OK : VMBUS_HC_CONNECTION_ID;
}

/* Have a channel looked at by the thread that dispatches it.  Any thread. */
void vmbus__chan_look(struct vmbus_chan *chan, uint32_t slot)
{
	if (chan->own_fd) {
		vmbus__kick(&chan->kick);
		return;
	}
	vmbus__slots_add(&chan->bus->ready, slot);
	vmbus__kick(&chan->bus->kick);
}

void vmbus_bus_slot_free(struct vmbus_bus *bus, uint32_t vp, uint32_t sint)
{
	(void)vp; /* one message waits at a time, whatever slot it is for */
	(void)sint;
	vmbus__or64_release(&bus->events, VMBUS__EV_SLOT); /* BITS.add */
	vmbus__kick(&bus->kick);
}

void vmbus_bus_reset(struct vmbus_bus *bus)
{
	vmbus__or64_release(&bus->events, VMBUS__EV_RESET); /* BITS.add */
	vmbus__kick(&bus->kick);
}

static int hc_read(void *ctx, uint64_t gpa, void *to, size_t bytes)
{
	return vmbus_bus_mem_read(ctx, (vmbus_gpa_t){ gpa }, to, bytes);
}

static uint32_t hc_post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload,
			uint32_t bytes)
{
	return vmbus_bus_post_message(ctx, conn_id, type, payload, bytes);
}

static uint32_t hc_signal(void *ctx, uint32_t conn_id, uint32_t flag)
{
	return vmbus_bus_signal_event(ctx, conn_id, flag);
}

const struct vmbus_hc_ops *vmbus_bus_hc_ops(void)
{
	static const struct vmbus_hc_ops ops = {
		.struct_bytes = sizeof(ops),
		.read = hc_read,
		.post_message = hc_post,
		.signal_event = hc_signal,
	};

	return &ops;
}
