/* SPDX-License-Identifier: MIT */
/*
 * The two loops that every subject runs, so that all get the same treatment: the producer stamps
 * a batch of payloads in private memory and sends it, the consumer receives, verifies and counts.
 * A subject brings four small inline functions; SUBJECT_LOOPS() makes its loops of them, with
 * nothing indirect inside.
 *
 *	void open_tx(STATE *, struct chan *, struct side *)
 *	void open_rx(STATE *, struct chan *, struct side *)
 *	uint32_t send(STATE *, struct side *, uint32_t first, uint32_t n)   how many went, 0: full
 *	uint32_t receive(STATE *, struct side *, uint32_t n)	how many came, 0: empty
 *
 * send takes packet first + i from side_packet(); receive gives each payload to side_check().
 */
#ifndef BENCH_LOOP_H
#define BENCH_LOOP_H

#include "bench.h"
#include "hist.h"

enum side_phase {
	SIDE_WARM,
	SIDE_MEASURE,
	SIDE_DONE
};

/* Memory that a subject's state took; freed when the run is over. */
struct side_mem {
	void *taken[8];
	uint32_t count;
};

/* One side of a run, in private memory. */
struct side {
	struct side_mem *mem;
	uint8_t *buf; /* batch payloads, one behind the other; aligned to a line */
	struct run_ctl *ctl;
	uint32_t payload;
	uint32_t batch;
	uint64_t seq;	   /* of the next packet; the producer's number in the top byte */
	uint64_t bad;	   /* bits that differed from what was sent */
	uint64_t packets;  /* seen by the consumer */
	uint64_t check_at; /* look at the clock when packets reaches this */
	uint64_t check_step;
	uint64_t last_ns;
	uint64_t warm_ns; /* lengths of the two phases */
	uint64_t measure_ns;
	uint64_t from_ns; /* when the phase began */
	uint64_t from_packets;
	uint64_t cpu_from_ns;
	double elapsed_ns; /* results */
	double on_cpu;
	uint64_t counted;
	uint32_t empty_polls;
	enum side_phase phase;
	bool stalled;
	uint32_t producers;
	uint64_t expect[BENCH_PRODUCERS_MAX]; /* next of each, when there are several */
};

/* A ring that moves nothing for so long is reported, not waited for. */
#define SIDE_STALL_NS 3000000000u

/* Memory, aligned to a line and filled with zeroes, until the run is over. */
void *side_alloc(struct side *side, size_t bytes);

/* Reads the clock; true when the run is over. */
bool side_clock(struct side *side);

static inline bool side_count(struct side *side, uint32_t n)
{
	side->packets += n;
	side->empty_polls = 0;
	return side->packets >= side->check_at && side_clock(side);
}

static inline bool side_empty(struct side *side)
{
	relax();
	return (++side->empty_polls & 1023u) == 0 && side_clock(side);
}

static inline uint8_t *side_packet(const struct side *side, uint32_t i)
{
	return side->buf + (size_t)i * side->payload;
}

static inline void side_stamp(struct side *side, uint32_t n)
{
	uint8_t *p = side->buf;

	for (uint32_t i = 0; i < n; i++, p += side->payload) {
		uint64_t v = side->seq++;

		memcpy(p, &v, sizeof(v));
		memcpy(p + side->payload - sizeof(v), &v, sizeof(v));
	}
}

static inline void side_check(struct side *side, const uint8_t *p)
{
	uint64_t first, last, want;

	memcpy(&first, p, sizeof(first));
	memcpy(&last, p + side->payload - sizeof(last), sizeof(last));
	if (side->producers == 1)
		want = side->seq++;
	else
		want = first >> 56 < side->producers ? side->expect[first >> 56]++ : ~first;
	side->bad |= (first ^ want) | (last ^ want);
}

/* side_check() for packets that lie one behind the other from buf on. */
static inline void side_check_run(struct side *side, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		side_check(side, side_packet(side, i));
}

/* Not every subject uses all four. */
#define LOOP_FN __attribute__((unused)) static void

#define SUBJECT_LOOPS(name, STATE, open_tx, open_rx, send, receive)                                \
	LOOP_FN name##_produce(struct chan *chan, struct side *side)                               \
	{                                                                                          \
		const uint32_t batch = side->batch;                                                \
		struct run_ctl *ctl = side->ctl;                                                   \
		STATE st;                                                                          \
                                                                                                   \
		open_tx(&st, chan, side);                                                          \
		while (!stopped(ctl)) {                                                            \
			uint32_t done = 0;                                                         \
                                                                                                   \
			side_stamp(side, batch);                                                   \
			while (done < batch) {                                                     \
				uint32_t n = send(&st, side, done, batch - done);                  \
                                                                                                   \
				done += n;                                                         \
				if (n)                                                             \
					continue;                                                  \
				if (stopped(ctl))                                                  \
					return;                                                    \
				relax();                                                           \
			}                                                                          \
		}                                                                                  \
	}                                                                                          \
	LOOP_FN name##_consume(struct chan *chan, struct side *side)                               \
	{                                                                                          \
		const uint32_t batch = side->batch;                                                \
		STATE st;                                                                          \
                                                                                                   \
		open_rx(&st, chan, side);                                                          \
		for (;;) {                                                                         \
			uint32_t n = receive(&st, side, batch);                                    \
                                                                                                   \
			if (n ? side_count(side, n) : side_empty(side))                            \
				return;                                                            \
		}                                                                                  \
	}                                                                                          \
	LOOP_FN name##_ping(struct chan *there, struct chan *back, struct side *side,              \
			    struct hist *hist)                                                     \
	{                                                                                          \
		struct side in = *side;                                                            \
		STATE tx, rx;                                                                      \
		uint64_t then;                                                                     \
                                                                                                   \
		in.buf += BENCH_LINE + round_up(side->payload, BENCH_LINE);                        \
		open_tx(&tx, there, side);                                                         \
		open_rx(&rx, back, &in);                                                           \
		then = ticks();                                                                    \
		for (;;) {                                                                         \
			uint64_t t;                                                                \
                                                                                                   \
			side_stamp(side, 1);                                                       \
			while (!send(&tx, side, 0, 1))                                             \
				relax();                                                           \
			while (!receive(&rx, &in, 1)) {                                            \
				if (side_empty(&in))                                               \
					goto out;                                                  \
			}                                                                          \
			t = ticks();                                                               \
			if (in.phase == SIDE_MEASURE)                                              \
				hist_add(hist, t - then);                                          \
			then = t;                                                                  \
			if (side_count(&in, 1))                                                    \
				break;                                                             \
		}                                                                                  \
out:                                                                                               \
		in.buf = side->buf;                                                                \
		*side = in;                                                                        \
	}                                                                                          \
	LOOP_FN name##_pong(struct chan *there, struct chan *back, struct side *side)              \
	{                                                                                          \
		struct side in = *side;                                                            \
		STATE tx, rx;                                                                      \
                                                                                                   \
		in.buf += BENCH_LINE + round_up(side->payload, BENCH_LINE);                        \
		open_rx(&rx, there, &in);                                                          \
		open_tx(&tx, back, side);                                                          \
		for (;;) {                                                                         \
			while (!receive(&rx, &in, 1)) {                                            \
				if (stopped(side->ctl))                                            \
					return;                                                    \
				relax();                                                           \
			}                                                                          \
			side_stamp(side, 1);                                                       \
			while (!send(&tx, side, 0, 1)) {                                           \
				if (stopped(side->ctl))                                            \
					return;                                                    \
				relax();                                                           \
			}                                                                          \
		}                                                                                  \
	}                                                                                          \
	_Static_assert(sizeof(STATE) > 0, "a subject has state")

#endif
