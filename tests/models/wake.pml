/* SPDX-License-Identifier: MIT */
/*
 * WAKE and DATA: a sender publishes batches, a reader drains the ring and goes to sleep.
 *
 * The ring is large enough for all packets, so the sender never waits (sleep.pml, both.pml do that)
 * and indices are packet counts that do not wrap.  Lost wake-up = the reader sleeps for ever while
 * packets are left = invalid end state.
 *
 * Properties: no lost wake-up; no packet read before it was written (data_stale); with -DEXTRA also
 * no signal for a ring that is already empty (signal_empty) and no second signal before the reader
 * has moved `out` (signal_twice).
 */
#ifndef PACKETS
#define PACKETS	4
#endif

#define TX	0
#define RX	1

#define IN	0
#define OUT	1
#define MASK	2
#define DATA	3	/* one word per packet */

#define NPROC	2
#define NLOC	(DATA + PACKETS)
#define FLUSHED(l)	skip

#include "store_buffer.h"

bool doorbell;		/* latched like an event: stays set until the sleeper takes it */
bool data_stale, signal_empty, signal_twice;

#ifdef EXTRA
byte signalled = 255;	/* `out` at the last signal */
#define CHECK_SIGNAL							\
	REQUIRE(signal_empty, mem[OUT] != mem[IN]);			\
	REQUIRE(signal_twice, mem[OUT] != signalled);			\
	signalled = mem[OUT];
#else
#define CHECK_SIGNAL
#endif

#ifdef MUT_NO_RELEASE
#define STORE_IN(v)	STORE(TX, IN, v)
#else
#define STORE_IN(v)	STORE_REL(TX, IN, v)
#endif

#if defined(MUT_POST_INDEX)
#define EMPTY_BEFORE(out)	((out) == next)
#elif defined(MUT_LAST_PACKET)
#define EMPTY_BEFORE(out)	((out) == next - 1)	/* not the whole batch */
#elif defined(MUT_LEVEL)
#define EMPTY_BEFORE(out)	true
#else
#define EMPTY_BEFORE(out)	((out) == before)
#endif

/* The last load of the decision and the decision are one step, so that CHECK_SIGNAL is exact. */
inline decide()
{
#ifdef MUT_MASK_AFTER_OUT
	word = mem[OUT];
	atomic {
		if
		:: mem[MASK] == 0 && EMPTY_BEFORE(word) -> CHECK_SIGNAL doorbell = true
		:: else
		fi;
		word = 0
	}
#else
	if
	:: atomic { mem[MASK] == 0 -> skip };
		atomic {
			if
			:: EMPTY_BEFORE(mem[OUT]) -> CHECK_SIGNAL doorbell = true
			:: else
			fi
		}
	:: atomic { mem[MASK] != 0 -> skip }
	fi
#endif
}

proctype sender()
{
	byte next, before, word;

	do
	:: next < PACKETS ->
		before = next;
		do				/* a batch of one or more */
		:: next < PACKETS && next - before < 2 ->
			STORE(TX, DATA + next, next + 1);
			next++
		:: next > before -> break
		od;
		skip;				/* Spin: no jump into a d_step */
		STORE_IN(next);			/* DATA.tx */
#ifndef MUT_NO_FENCE_TX
		FENCE(TX);			/* WAKE.tx */
#endif
		decide()
	:: else -> break
	od
}

inline read_packet()
{
#ifdef MUT_NO_ACQUIRE
	/* The load of the packet, made before the load of `in` that allowed it. */
	atomic {
		REQUIRE(data_stale, early == next + 1);
		early = mem[DATA + (next + 1 < PACKETS -> next + 1 : next)];
		next++
	}
#else
	atomic {
		REQUIRE(data_stale, mem[DATA + next] == next + 1);
		next++
	}
#endif
}

inline publish_out()
{
	if
	:: next != published -> STORE_REL(RX, OUT, next); published = next
	:: else
	fi
}

proctype reader()
{
	byte next, published, seen;
#ifdef MUT_NO_ACQUIRE
	byte early = mem[DATA];
#endif

	STORE(RX, MASK, 1);
drain:
#ifdef MUT_NO_ACQUIRE
	early = mem[DATA + (next < PACKETS -> next : 0)];
#endif
	seen = mem[IN];				/* DATA.rx */
	do
	:: next != seen ->
		read_packet();
		if				/* lazily: at any packet or none */
		:: publish_out()
		:: skip
		fi
	:: else -> break
	od;
	if
	:: next == PACKETS -> goto done
	:: else
	fi;

	/* arm */
#ifndef MUT_OUT_AFTER_LOOK
	publish_out();
#endif
	skip;
	STORE(RX, MASK, 0);
#ifndef MUT_NO_FENCE_RX
	FENCE(RX);				/* WAKE.rx */
#endif
#ifndef MUT_NO_SECOND_LOOK
	if
	:: atomic { mem[IN] != next -> skip };
		STORE(RX, MASK, 1);
		goto drain
	:: atomic { mem[IN] == next -> skip }
	fi;
#endif
#ifdef MUT_OUT_AFTER_LOOK
	publish_out();
#endif
	atomic { doorbell -> doorbell = false };	/* asleep */
	if					/* a woken reader may mask or leave it */
	:: STORE(RX, MASK, 1)
	:: skip
	fi;
	goto drain;
done:
	skip
}

init {
	atomic {
		run memory();
		run sender();
		run reader()
	}
}
