/* SPDX-License-Identifier: MIT */
/*
 * liburcu's wfcqueue: a linked queue.  Nodes and payloads are a fixed pool in memory that was
 * mapped before the sides parted, so pointers mean the same on both; a second queue brings the
 * nodes back.  A batch is linked in private and spliced in one step, both ways.
 */
#include "../loop.h"
#include "../subject.h"

#include <urcu/wfcqueue.h>

#ifndef VMBUS_BENCH_URCU_VERSION
#define VMBUS_BENCH_URCU_VERSION "unknown"
#endif

/* Head and tail on lines of their own. */
struct wf_queue {
	struct __cds_wfcq_head head;
	uint8_t pad0[BENCH_LINE - sizeof(struct __cds_wfcq_head)];
	struct cds_wfcq_tail tail;
	uint8_t pad1[BENCH_LINE - sizeof(struct cds_wfcq_tail)];
};

struct wf_node {
	struct cds_wfcq_node link;
	uint8_t payload[];
};

struct wf_state {
	struct wf_queue *in;   /* nodes come from here: the other side splices to it */
	struct wf_queue *out;  /* nodes go there */
	struct wf_queue *have; /* private: taken from in */
	struct wf_queue *give; /* private: to be spliced to out */
};

static const char *wf_version(void)
{
	return VMBUS_BENCH_URCU_VERSION;
}

static const char *wf_refuses(const struct cell *cell)
{
	if (cell->ring_bytes / cell->payload < 2u)
		return "pool holds no payload";
	if (cell->producers != 1u)
		return "measured with one producer";
	return NULL;
}

static size_t wf_node_bytes(const struct cell *cell)
{
	return sizeof(struct wf_node) + cell->payload;
}

static size_t wf_bytes(const struct chan *chan)
{
	return 2u * sizeof(struct wf_queue) +
	       chan->cell->ring_bytes / chan->cell->payload * wf_node_bytes(chan->cell);
}

static void wf_init(struct wf_queue *queue)
{
	__cds_wfcq_init(&queue->head, &queue->tail);
}

static int wf_setup(struct chan *chan)
{
	struct wf_queue *queues = (struct wf_queue *)(void *)chan->mem;
	uint8_t *at = chan->mem + 2u * sizeof(struct wf_queue);

	wf_init(&queues[0]);
	wf_init(&queues[1]);
	for (uint32_t i = 0; i < chan->cell->ring_bytes / chan->cell->payload; i++) {
		struct wf_node *node = (struct wf_node *)(void *)at;

		cds_wfcq_node_init(&node->link);
		cds_wfcq_enqueue(&queues[1].head, &queues[1].tail, &node->link);
		at += wf_node_bytes(chan->cell);
	}
	return 0;
}

static void wf_teardown(struct chan *chan)
{
	(void)chan;
}

static void wf_open(struct wf_state *st, struct chan *chan, struct side *side, unsigned in)
{
	struct wf_queue *queues = (struct wf_queue *)(void *)chan->mem;

	st->in = &queues[in];
	st->out = &queues[!in];
	st->have = side_alloc(side, sizeof(*st->have));
	st->give = side_alloc(side, sizeof(*st->give));
	wf_init(st->have);
	wf_init(st->give);
}

static void wf_open_tx(struct wf_state *st, struct chan *chan, struct side *side)
{
	wf_open(st, chan, side, 1);
}

static void wf_open_rx(struct wf_state *st, struct chan *chan, struct side *side)
{
	wf_open(st, chan, side, 0);
}

static inline struct wf_node *wf_take(struct wf_state *st)
{
	struct cds_wfcq_node *node =
		__cds_wfcq_dequeue_nonblocking(&st->have->head, &st->have->tail);

	if (node && node != CDS_WFCQ_WOULDBLOCK)
		return (struct wf_node *)(void *)node;
	if (__cds_wfcq_splice_nonblocking(&st->have->head, &st->have->tail, &st->in->head,
					  &st->in->tail) != CDS_WFCQ_RET_DEST_EMPTY)
		return NULL;
	node = __cds_wfcq_dequeue_nonblocking(&st->have->head, &st->have->tail);
	return node == CDS_WFCQ_WOULDBLOCK ? NULL : (struct wf_node *)(void *)node;
}

/* Link one node; with a batch of one straight to the other side. */
static inline void wf_put(struct wf_state *st, struct wf_node *node, bool single)
{
	struct wf_queue *to = single ? st->out : st->give;

	cds_wfcq_node_init(&node->link);
	cds_wfcq_enqueue(&to->head, &to->tail, &node->link);
}

static inline void wf_flush(struct wf_state *st)
{
	__cds_wfcq_splice_blocking(&st->out->head, &st->out->tail, &st->give->head,
				   &st->give->tail);
}

static inline uint32_t wf_send(struct wf_state *st, struct side *side, uint32_t first, uint32_t n)
{
	bool single = side->batch == 1u;
	uint32_t i;

	for (i = 0; i < n; i++) {
		struct wf_node *node = wf_take(st);

		if (!node)
			break;
		memcpy(node->payload, side_packet(side, first + i), side->payload);
		wf_put(st, node, single);
	}
	if (i && !single)
		wf_flush(st);
	return i;
}

static inline uint32_t wf_receive(struct wf_state *st, struct side *side, uint32_t n)
{
	bool single = side->batch == 1u;
	uint32_t i;

	for (i = 0; i < n; i++) {
		struct wf_node *node = wf_take(st);

		if (!node)
			break;
		memcpy(side_packet(side, i), node->payload, side->payload);
		wf_put(st, node, single);
	}
	if (i && !single)
		wf_flush(st);
	side_check_run(side, i);
	return i;
}

SUBJECT_LOOPS(wf, struct wf_state, wf_open_tx, wf_open_rx, wf_send, wf_receive);

const struct subject subject_wfcqueue = {
	.name = "wfcqueue",
	.what = "liburcu's wait-free queue, a pool of payloads and a queue back",
	.caps = CAP_BATCH,
	.version = wf_version,
	.refuses = wf_refuses,
	.bytes = wf_bytes,
	.setup = wf_setup,
	.produce = wf_produce,
	.consume = wf_consume,
	.ping = wf_ping,
	.pong = wf_pong,
	.teardown = wf_teardown,
};
