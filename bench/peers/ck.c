/* SPDX-License-Identifier: MIT */
/*
 * Concurrency Kit's ring with elements of the payload's size, single producer and consumer.  The
 * element type is a compile-time matter, so there is one for each power of two from 8 B to 64 KiB.
 */
#include "../loop.h"
#include "../subject.h"

#include <ck_ring.h>

#define CK_SIZES(X)                                                                                \
	X(8)                                                                                       \
	X(16)                                                                                      \
	X(32) X(64) X(128) X(256) X(512) X(1024) X(2048) X(4096) X(8192) X(16384) X(32768) X(65536)

/* The ring's header spans three lines; the elements follow on a line of their own. */
#define CK_HEAD_BYTES ((sizeof(ck_ring_t) + BENCH_LINE - 1u) / BENCH_LINE * BENCH_LINE)

struct ck_state {
	ck_ring_t *ring;
	uint8_t *elems;
};

static const char *ck_version(void)
{
	return CK_VERSION;
}

static uint32_t ck_count(const struct cell *cell)
{
	return pow2_floor(cell->ring_bytes / cell->payload | 1u);
}

static const char *ck_refuses(const struct cell *cell)
{
	if (cell->payload > 65536u || (cell->payload & (cell->payload - 1u)))
		return "elements are powers of two up to 64 KiB";
	if (ck_count(cell) < 2u)
		return "ring holds no element";
	if (cell->producers != 1u)
		return "measured with one producer";
	return NULL;
}

static size_t ck_bytes(const struct chan *chan)
{
	return CK_HEAD_BYTES + (size_t)ck_count(chan->cell) * chan->cell->payload;
}

static int ck_setup(struct chan *chan)
{
	ck_ring_init((ck_ring_t *)(void *)chan->mem, ck_count(chan->cell));
	return 0;
}

static void ck_teardown(struct chan *chan)
{
	(void)chan;
}

static void ck_open(struct ck_state *st, struct chan *chan, struct side *side)
{
	(void)side;
	st->ring = (ck_ring_t *)(void *)chan->mem;
	st->elems = chan->mem + CK_HEAD_BYTES;
}

#define CK_TYPED(n)                                                                                \
	struct elem_##n {                                                                          \
		uint8_t byte[n];                                                                   \
	};                                                                                         \
	CK_RING_PROTOTYPE(e##n, elem_##n)                                                          \
	static inline uint32_t send_##n(struct ck_state *st, struct side *side, uint32_t first,    \
					uint32_t left)                                             \
	{                                                                                          \
		struct elem_##n *from = (struct elem_##n *)(void *)side_packet(side, first);       \
                                                                                                   \
		(void)left;                                                                        \
		return CK_RING_ENQUEUE_SPSC(e##n, st->ring, (struct elem_##n *)(void *)st->elems,  \
					    from);                                                 \
	}                                                                                          \
	static inline uint32_t receive_##n(struct ck_state *st, struct side *side, uint32_t want)  \
	{                                                                                          \
		struct elem_##n *to = (struct elem_##n *)(void *)side->buf;                        \
                                                                                                   \
		(void)want;                                                                        \
		if (!CK_RING_DEQUEUE_SPSC(e##n, st->ring, (struct elem_##n *)(void *)st->elems,    \
					  to))                                                     \
			return 0;                                                                  \
		side_check(side, side->buf);                                                       \
		return 1;                                                                          \
	}                                                                                          \
	SUBJECT_LOOPS(ck_##n, struct ck_state, ck_open, ck_open, send_##n, receive_##n);

CK_SIZES(CK_TYPED)

#define CK_CASE_PRODUCE(n)                                                                         \
	case n:                                                                                    \
		ck_##n##_produce(chan, side);                                                      \
		break;
#define CK_CASE_CONSUME(n)                                                                         \
	case n:                                                                                    \
		ck_##n##_consume(chan, side);                                                      \
		break;
#define CK_CASE_PING(n)                                                                            \
	case n:                                                                                    \
		ck_##n##_ping(there, back, side, hist);                                            \
		break;
#define CK_CASE_PONG(n)                                                                            \
	case n:                                                                                    \
		ck_##n##_pong(there, back, side);                                                  \
		break;

static void ck_produce(struct chan *chan, struct side *side)
{
	switch (chan->cell->payload) {
		CK_SIZES(CK_CASE_PRODUCE)
	}
}

static void ck_consume(struct chan *chan, struct side *side)
{
	switch (chan->cell->payload) {
		CK_SIZES(CK_CASE_CONSUME)
	}
}

static void ck_ping(struct chan *there, struct chan *back, struct side *side, struct hist *hist)
{
	switch (there->cell->payload) {
		CK_SIZES(CK_CASE_PING)
	}
}

static void ck_pong(struct chan *there, struct chan *back, struct side *side)
{
	switch (there->cell->payload) {
		CK_SIZES(CK_CASE_PONG)
	}
}

const struct subject subject_ck = {
	.name = "ck",
	.what = "Concurrency Kit's ring, elements of the payload's size",
	.caps = 0,
	.version = ck_version,
	.refuses = ck_refuses,
	.bytes = ck_bytes,
	.setup = ck_setup,
	.produce = ck_produce,
	.consume = ck_consume,
	.ping = ck_ping,
	.pong = ck_pong,
	.teardown = ck_teardown,
};
