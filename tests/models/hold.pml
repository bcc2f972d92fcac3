/* SPDX-License-Identifier: MIT */
/*
 * HOLD and VISIT: the end of a bus, whose channel is dispatched by a thread of its own, and whose
 * device is closed by another thread, vmbus_chan_close_done().
 *
 * HOLD: the thread enters the channel by putting its number into the holder in place of 0; the bus
 * seizes it in the same way, and keeps it.  VISIT: who tells of an answer counts itself before, and
 * out after its last access; the bus is freed when it has the answer, the channel, and nobody counts.
 *
 * Properties: never both in the channel (both_in); the bus sees what the thread did in it
 * (data_stale); nothing is used after it was freed (used_after_free); nobody waits for ever.
 */
#define BUS	0
#define THREAD	1
#define CLOSER	2

#define HOLDER	0	/* 0 nobody, 1 the bus, 2 the thread */
#define PACKETS	1	/* what the thread did */
#define ANSWER	2
#define VISITORS 3
#define SEEN	4	/* the closer's last store into the bus: its kick */

#define NPROC	3
#define NLOC	5
#define FLUSHED(l)	skip

#include "store_buffer.h"

bool both_in, data_stale, used_after_free, freed;
byte inside;		/* 1 the bus, 2 the thread */
byte last;

/* Counters are atomic additions: they act on memory in one step, the release behind older stores. */
#define COUNT_IN(p)	atomic { mem[VISITORS] = mem[VISITORS] + 1 }
#ifdef MUT_COUNT_RELAXED
#define COUNT_OUT(p)	atomic { mem[VISITORS] = mem[VISITORS] - 1 }
#else
#define COUNT_OUT(p)	atomic { FENCE(p) -> mem[VISITORS] = mem[VISITORS] - 1 }
#endif

#ifdef MUT_RELEASE_RELAXED
#define LEAVE_CHANNEL	STORE(THREAD, HOLDER, 0)
#else
#define LEAVE_CHANNEL	STORE_REL(THREAD, HOLDER, 0)
#endif

proctype thread()
{
	byte n;
	bool ok;

	do
	:: n < 2 ->
		n++;
#ifdef MUT_LOOK_THEN_STORE
		if
		:: atomic { LOAD(THREAD, HOLDER) == 0 -> skip };
			STORE(THREAD, HOLDER, 2);
			ok = true
		:: atomic { LOAD(THREAD, HOLDER) == 1 -> skip };
			ok = false
		fi;
#else
		CAS(THREAD, HOLDER, 0, 2, ok);		/* HOLD.enter */
#endif
		if
		:: !ok -> break				/* STATE: the bus ends */
		:: ok ->
			atomic {
				REQUIRE(both_in, inside == 0);
				inside = 2;
				last++
			}
			STORE(THREAD, PACKETS, last);
#ifdef MUT_LEAVE_EARLY
			LEAVE_CHANNEL;
			inside = 0;
#else
			inside = 0;
			LEAVE_CHANNEL;			/* HOLD.enter */
#endif
		fi
	:: break
	od
}

/* vmbus__chan_answer() */
proctype closer()
{
#if !defined(MUT_NO_COUNT) && !defined(MUT_COUNT_LATE)
	COUNT_IN(CLOSER);				/* VISIT.enter */
#endif
	STORE_REL(CLOSER, ANSWER, 1);			/* BITS.add */
#ifdef MUT_COUNT_LATE
	COUNT_IN(CLOSER);
#endif
#ifdef MUT_COUNT_OUT_EARLY
	COUNT_OUT(CLOSER);
#endif
	REQUIRE(used_after_free, !freed);
	STORE(CLOSER, SEEN, 1);				/* the kick */
#if !defined(MUT_NO_COUNT) && !defined(MUT_COUNT_OUT_EARLY)
	COUNT_OUT(CLOSER)				/* VISIT.leave */
#endif
}

proctype bus()
{
	bool ok;

	atomic { mem[ANSWER] == 1 -> skip };		/* dispatch has taken the answer */
	do						/* vmbus_bus_end(), again and again */
	:: !ok ->
#ifdef MUT_NO_SEIZE
		ok = true
#else
		CAS(BUS, HOLDER, 0, 1, ok)		/* HOLD.seize */
#endif
	:: ok -> break
	od;
	atomic {
		REQUIRE(both_in, inside == 0);
		inside = 1
	}
	REQUIRE(data_stale, mem[PACKETS] == last);
	inside = 0;
	atomic { mem[VISITORS] == 0 -> freed = true };	/* VISIT.look */
	/* What a thread stored into the bus before is not on its way any more. */
	REQUIRE(used_after_free, sb[CLOSER].n == 0)
}

init {
	atomic {
		run memory();
		run thread();
		run closer();
		run bus()
	}
}
