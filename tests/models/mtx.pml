/* SPDX-License-Identifier: MIT */
/*
 * CLAIM, DONE and TURN: several producers on one ring, none waits for another.
 *
 * A producer claims the next place by compare and swap, fills it, marks it done and tries to take
 * the turn (the flag).  Who has the turn publishes every marked place from `tail` on, gives the
 * turn back and looks once more.  Who does not get the turn leaves: the holder must see its mark.
 *
 * A packet is one unit, so the claim word {in, seq} is one count; places are reused from the third
 * packet on.  The reader polls, or with -DREADER sleeps as in wake.pml.
 *
 * Properties: when all producers have left, everything claimed is published (invalid end state:
 * the reader waits for ever); `in` never goes backwards (in_backwards); whenever `in` changes,
 * every packet below it is filled (not_filled), which the reader checks once more (data_stale).
 */
#ifndef PRODUCERS
#define PRODUCERS 3	/* 2 or 3 */
#endif
#define PACKETS	3	/* with two producers the first one sends two */
#define SLOTS	2

#define RX	PRODUCERS	/* producers are 0, 1, 2 */

#define IN	0
#define OUT	1
#define MASK	2
#define CLAIM	3
#define TAIL	4
#define FLAG	5
#define SLOT	6
#define DATA	(SLOT + SLOTS)

#ifdef READER
#define NPROC	(PRODUCERS + 1)
#else
#define NPROC	PRODUCERS
#endif
#define NLOC	(DATA + PACKETS)

bool in_backwards, not_filled, data_stale;
byte shown;		/* the largest `in` that memory has held */

#define FLUSHED(l)							\
	if								\
	:: l == IN ->							\
		REQUIRE(in_backwards, mem[IN] >= shown);		\
		shown = mem[IN];					\
		REQUIRE(not_filled, shown == 0 || mem[DATA + shown - 1] == shown); \
		REQUIRE(not_filled, shown <= 1 || mem[DATA + shown - 2] == shown - 1); \
		REQUIRE(not_filled, shown <= 2 || mem[DATA + shown - 3] == shown - 2) \
	:: else								\
	fi

#include "store_buffer.h"

bool doorbell;

#ifdef MUT_NO_LAP
#define MARK(seq)	1	/* does not tell this use of the place from the one before */
#else
#define MARK(seq)	((seq) + 1)
#endif

#ifdef MUT_MARK_RELAXED
#define STORE_MARK(p, l, v)	STORE(p, l, v)
#else
#define STORE_MARK(p, l, v)	STORE_REL(p, l, v)
#endif

#ifdef MUT_TURN_RELAXED
#define STORE_TURN(p, l, v)	STORE(p, l, v)
#else
#define STORE_TURN(p, l, v)	STORE_REL(p, l, v)
#endif

#ifdef MUT_NO_LAP	/* without the bound the scan would run in circles and publish nothing */
#define IS_DONE(p, seq)	((seq) < mem[CLAIM] && LOAD(p, SLOT + (seq) % SLOTS) == MARK(seq))
#else
#define IS_DONE(p, seq)	(LOAD(p, SLOT + (seq) % SLOTS) == MARK(seq))
#endif

/* A full table is the caller's to try again: that is the wait here. */
inline claim()
{
#ifdef MUT_CLAIM_NOT_ATOMIC
	seq = mem[CLAIM];
	(seq < LOAD(p, TAIL) + SLOTS);
	skip;
	STORE(p, CLAIM, seq + 1)
#else
	do
	::	seq = mem[CLAIM];
		(seq < LOAD(p, TAIL) + SLOTS);
		skip;
		CAS(p, CLAIM, seq, seq + 1, ok);	/* CLAIM */
		if
		:: ok -> break
		:: else
		fi
	od
#endif
}

inline signal_decision()
{
#ifdef READER
#ifndef MUT_NO_FENCE_WAKE
	FENCE(p);				/* WAKE.tx */
#endif
	if
	:: atomic { mem[MASK] == 0 -> skip };
		atomic {
			if
			:: mem[OUT] == first -> doorbell = true
			:: else
			fi
		}
	:: atomic { mem[MASK] != 0 -> skip }
	fi
#else
	skip
#endif
}

inline publish()
{
#ifndef MUT_TAIL_BEFORE_TURN
	tail = LOAD(p, TAIL);
#endif
	first = tail;
#ifdef MUT_PUBLISH_BEFORE_DONE
	tail = mem[CLAIM];
#else
	do
	:: atomic { IS_DONE(p, tail) -> tail++ }	/* DONE.rx */
	:: atomic { !IS_DONE(p, tail) -> break }
	od;
#endif
	if
	:: tail != first ->
		skip;
		STORE(p, TAIL, tail);
		STORE_REL(p, IN, tail);		/* DATA.tx */
		signal_decision()
	:: else
	fi;
	first = 0
}

proctype producer(byte p; byte count)
{
	byte seq, tail, first;
	bool ok;

again:
	claim();
	skip;
#ifdef MUT_MARK_BEFORE_FILL
	STORE_MARK(p, SLOT + seq % SLOTS, MARK(seq));
	STORE(p, DATA + seq, seq + 1);
#else
	STORE(p, DATA + seq, seq + 1);
	STORE_MARK(p, SLOT + seq % SLOTS, MARK(seq));	/* DONE.tx */
#endif
turn:
#ifndef MUT_NO_FENCE_MARK
	FENCE(p);				/* TURN, mark before flag */
#endif
#ifdef MUT_NO_TURN
	ok = true;
#else
#ifdef MUT_TAIL_BEFORE_TURN
	/* The load of `tail`, made before the turn was taken. */
	tail = LOAD(p, TAIL);
#endif
	skip;
	CAS(p, FLAG, 0, 1, ok);			/* TURN, acquire */
#endif
	if
	:: ok ->
		publish();
#ifdef MUT_RELOOK_EARLY
		ok = IS_DONE(p, tail);
#endif
#ifndef MUT_NO_TURN
		skip;
		STORE_TURN(p, FLAG, 0);
#endif
#ifndef MUT_NO_FENCE_TURN
		FENCE(p);			/* TURN, flag before mark */
#endif
#if defined(MUT_NO_RELOOK)
		skip
#elif defined(MUT_RELOOK_EARLY)
		if
		:: ok -> goto turn
		:: else
		fi
#else
		if
		:: atomic { IS_DONE(p, tail) -> goto turn }
		:: atomic { !IS_DONE(p, tail) -> skip }
		fi
#endif
	:: else
	fi;
	atomic { seq = 0; tail = 0; ok = false; count-- };
	if
	:: count > 0 -> goto again
	:: else
	fi
}

proctype reader()
{
	byte next, seen;

#ifdef READER
	STORE(RX, MASK, 1);
#endif
drain:
	seen = mem[IN];				/* DATA.rx */
	do
	:: atomic {
		next < seen ->
		REQUIRE(data_stale, mem[DATA + next] == next + 1);
		next++
	   }
	:: else -> break
	od;
	if
	:: next == PACKETS -> goto done
	:: else
	fi;
#ifdef READER
	skip;
	STORE_REL(RX, OUT, next);
	STORE(RX, MASK, 0);
	FENCE(RX);				/* WAKE.rx */
	if
	:: atomic { mem[IN] != next -> skip };
		STORE(RX, MASK, 1);
		goto drain
	:: atomic { mem[IN] == next -> skip }
	fi;
	atomic { doorbell -> doorbell = false };	/* asleep */
	skip;
	STORE(RX, MASK, 1);
#else
	atomic { mem[IN] != next -> skip };	/* polls */
#endif
	goto drain;
done:
	skip
}

init {
	atomic {
		run memory();
		run producer(0, PACKETS - PRODUCERS + 1);
		run producer(1, 1);
#if PRODUCERS > 2
		run producer(2, 1);
#endif
		run reader()
	}
}
