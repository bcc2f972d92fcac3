/* SPDX-License-Identifier: MIT */
/*
 * DPDK's rte_ring in memory of ours, without the rest of DPDK: once with elements of the payload's
 * size, once with offsets into a fixed pool and a second ring that brings them back.
 */
#include "../loop.h"
#include "../subject.h"

#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <rte_version.h>

#include <errno.h>

struct rte_state {
	struct rte_ring *ring;
	struct rte_ring *back;
	uint8_t *pool;
	void **offs;
	bool many;
};

static uint32_t rte_count(const struct cell *cell)
{
	return pow2_floor(cell->ring_bytes / cell->payload | 1u);
}

static const char *rte_refuses(const struct cell *cell)
{
	return rte_count(cell) < 2u ? "ring holds no element" : NULL;
}

static const char *rte_ptr_refuses(const struct cell *cell)
{
	if (cell->producers != 1u)
		return "measured with one producer";
	return rte_refuses(cell);
}

static size_t rte_elem_bytes(const struct chan *chan)
{
	return (size_t)rte_ring_get_memsize_elem(chan->cell->payload, rte_count(chan->cell));
}

static int rte_init(void *mem, const char *name, const struct cell *cell)
{
	unsigned flags = RING_F_SC_DEQ | (cell->producers == 1u ? RING_F_SP_ENQ : 0u);
	int err = rte_ring_init(mem, name, rte_count(cell), flags);

	if (!err)
		return 0;
	errno = -err;
	return -1;
}

static int rte_elem_setup(struct chan *chan)
{
	return rte_init(chan->mem, "elem", chan->cell);
}

static void rte_teardown(struct chan *chan)
{
	(void)chan;
}

static void rte_elem_open(struct rte_state *st, struct chan *chan, struct side *side)
{
	(void)side;
	memset(st, 0, sizeof(*st));
	st->ring = (struct rte_ring *)(void *)chan->mem;
}

static inline uint32_t elem_send(struct rte_state *st, struct side *side, uint32_t first,
				 uint32_t n)
{
	return rte_ring_sp_enqueue_burst_elem(st->ring, side_packet(side, first), side->payload, n,
					      NULL);
}

static inline uint32_t elem_send_many(struct rte_state *st, struct side *side, uint32_t first,
				      uint32_t n)
{
	return rte_ring_mp_enqueue_burst_elem(st->ring, side_packet(side, first), side->payload, n,
					      NULL);
}

static inline uint32_t elem_receive(struct rte_state *st, struct side *side, uint32_t n)
{
	n = rte_ring_sc_dequeue_burst_elem(st->ring, side->buf, side->payload, n, NULL);
	side_check_run(side, n);
	return n;
}

/* DPDK's copy loops depend on the element size, so users' code has it as a constant. */
static inline uint32_t elem8_send(struct rte_state *st, struct side *side, uint32_t first,
				  uint32_t n)
{
	return rte_ring_sp_enqueue_burst_elem(st->ring, side_packet(side, first), 8, n, NULL);
}

static inline uint32_t elem8_receive(struct rte_state *st, struct side *side, uint32_t n)
{
	n = rte_ring_sc_dequeue_burst_elem(st->ring, side->buf, 8, n, NULL);
	side_check_run(side, n);
	return n;
}

static inline uint32_t elem16_send(struct rte_state *st, struct side *side, uint32_t first,
				   uint32_t n)
{
	return rte_ring_sp_enqueue_burst_elem(st->ring, side_packet(side, first), 16, n, NULL);
}

static inline uint32_t elem16_receive(struct rte_state *st, struct side *side, uint32_t n)
{
	n = rte_ring_sc_dequeue_burst_elem(st->ring, side->buf, 16, n, NULL);
	side_check_run(side, n);
	return n;
}

SUBJECT_LOOPS(elem, struct rte_state, rte_elem_open, rte_elem_open, elem_send, elem_receive);
SUBJECT_LOOPS(elem8, struct rte_state, rte_elem_open, rte_elem_open, elem8_send, elem8_receive);
SUBJECT_LOOPS(elem16, struct rte_state, rte_elem_open, rte_elem_open, elem16_send, elem16_receive);
SUBJECT_LOOPS(many, struct rte_state, rte_elem_open, rte_elem_open, elem_send_many, elem_receive);

static void rte_elem_produce(struct chan *chan, struct side *side)
{
	if (chan->cell->producers > 1u)
		many_produce(chan, side);
	else if (chan->cell->payload == 8u)
		elem8_produce(chan, side);
	else if (chan->cell->payload == 16u)
		elem16_produce(chan, side);
	else
		elem_produce(chan, side);
}

static void rte_elem_consume(struct chan *chan, struct side *side)
{
	if (chan->cell->producers > 1u)
		many_consume(chan, side);
	else if (chan->cell->payload == 8u)
		elem8_consume(chan, side);
	else if (chan->cell->payload == 16u)
		elem16_consume(chan, side);
	else
		elem_consume(chan, side);
}

static void rte_elem_ping(struct chan *there, struct chan *back, struct side *side,
			  struct hist *hist)
{
	if (there->cell->payload == 8u)
		elem8_ping(there, back, side, hist);
	else
		elem_ping(there, back, side, hist);
}

static void rte_elem_pong(struct chan *there, struct chan *back, struct side *side)
{
	if (there->cell->payload == 8u)
		elem8_pong(there, back, side);
	else
		elem_pong(there, back, side);
}

/* Offsets are stored with 1 added: a ring of pointers takes any value, but 0 reads badly. */
static size_t rte_ptr_bytes(const struct chan *chan)
{
	size_t ring = (size_t)rte_ring_get_memsize_elem(sizeof(void *), rte_count(chan->cell));

	return 2u * ring + (size_t)rte_count(chan->cell) * chan->cell->payload;
}

static void rte_ptr_place(struct rte_state *st, const struct chan *chan)
{
	size_t ring = (size_t)rte_ring_get_memsize_elem(sizeof(void *), rte_count(chan->cell));

	st->ring = (struct rte_ring *)(void *)chan->mem;
	st->back = (struct rte_ring *)(void *)(chan->mem + ring);
	st->pool = chan->mem + 2u * ring;
}

static int rte_ptr_setup(struct chan *chan)
{
	uint32_t count = rte_count(chan->cell);
	struct rte_state st;

	rte_ptr_place(&st, chan);
	if (rte_init(st.ring, "there", chan->cell) || rte_init(st.back, "back", chan->cell))
		return -1;
	for (uintptr_t i = 0; i + 1u < count; i++)
		rte_ring_sp_enqueue(st.back, (void *)(i * chan->cell->payload + 1u));
	return 0;
}

static void rte_ptr_open(struct rte_state *st, struct chan *chan, struct side *side)
{
	memset(st, 0, sizeof(*st));
	rte_ptr_place(st, chan);
	st->offs = side_alloc(side, side->batch * sizeof(*st->offs));
}

static inline uint32_t ptr_send(struct rte_state *st, struct side *side, uint32_t first, uint32_t n)
{
	n = rte_ring_sc_dequeue_burst(st->back, st->offs, n, NULL);
	for (uint32_t i = 0; i < n; i++)
		memcpy(st->pool + (uintptr_t)st->offs[i] - 1u, side_packet(side, first + i),
		       side->payload);
	/* Never full: there are fewer slots in the pool than places in the ring. */
	return n ? rte_ring_sp_enqueue_burst(st->ring, st->offs, n, NULL) : 0;
}

static inline uint32_t ptr_receive(struct rte_state *st, struct side *side, uint32_t n)
{
	n = rte_ring_sc_dequeue_burst(st->ring, st->offs, n, NULL);
	for (uint32_t i = 0; i < n; i++)
		memcpy(side_packet(side, i), st->pool + (uintptr_t)st->offs[i] - 1u, side->payload);
	if (n)
		rte_ring_sp_enqueue_burst(st->back, st->offs, n, NULL);
	side_check_run(side, n);
	return n;
}

SUBJECT_LOOPS(ptr, struct rte_state, rte_ptr_open, rte_ptr_open, ptr_send, ptr_receive);

const struct subject subject_rte_ring = {
	.name = "rte_ring",
	.what = "DPDK's rte_ring, elements of the payload's size",
	.caps = CAP_BATCH | CAP_PRODUCERS,
	.version = rte_version,
	.refuses = rte_refuses,
	.bytes = rte_elem_bytes,
	.setup = rte_elem_setup,
	.produce = rte_elem_produce,
	.consume = rte_elem_consume,
	.ping = rte_elem_ping,
	.pong = rte_elem_pong,
	.teardown = rte_teardown,
};

const struct subject subject_rte_ring_ptr = {
	.name = "rte_ring-ptr",
	.what = "DPDK's rte_ring of offsets into a pool, with a ring back",
	.caps = CAP_BATCH,
	.version = rte_version,
	.refuses = rte_ptr_refuses,
	.bytes = rte_ptr_bytes,
	.setup = rte_ptr_setup,
	.produce = ptr_produce,
	.consume = ptr_consume,
	.ping = ptr_ping,
	.pong = ptr_pong,
	.teardown = rte_teardown,
};
