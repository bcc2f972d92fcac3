/* SPDX-License-Identifier: MIT */
/*
 * KICK: threads add work to words of bits and tell the dispatcher of a bus; the dispatcher takes
 * work, and sleeps on a descriptor that is written at most once until it is cleared.
 *
 * Each teller adds work twice, to words of its own.  Work that is left while the dispatcher sleeps
 * for ever = invalid end state.  Adding is an atomic OR whose store may be seen late.  A descriptor that
 * is readable while nothing is set is read by nobody: the dispatcher would be woken for ever.
 */
#define TELLERS	2
#define EACH	2

#define SET	0
#define WORK	1	/* one word per piece of work */

#define D	TELLERS	/* the dispatcher's buffer */
#define NPROC	3
#define NLOC	(WORK + TELLERS * EACH)
#define FLUSHED(l)	skip

#include "store_buffer.h"

bool readable;		/* the descriptor */
bool left_readable;

/* vmbus__kick() */
inline kick(p, fence)
{
	if
	:: fence -> FENCE(p)		/* KICK.tell */
	:: !(fence)
	fi;
	if
	:: atomic { LOAD(p, SET) != 0 -> skip }
	:: atomic { LOAD(p, SET) == 0 -> skip };
		CAS(p, SET, 0, 1, ok);	/* KICK.tell */
		if
		:: atomic { ok -> readable = true; ok = false }
		:: else
		fi
	fi
}

#ifdef MUT_NO_FENCE_TELL
#define TELL_FENCE	false
#else
#define TELL_FENCE	true
#endif

proctype teller(byte p)
{
	byte n;
	bool ok;

	do
	:: n < EACH ->
#ifdef MUT_KICK_FIRST
		kick(p, TELL_FENCE);
		STORE_REL(p, WORK + p * EACH + n, 1);
#else
		STORE_REL(p, WORK + p * EACH + n, 1);	/* BITS.add */
		kick(p, TELL_FENCE);
#endif
		n++
	:: else -> break
	od
}

#define ANY_WORK							\
	(mem[WORK] == 1 || mem[WORK + 1] == 1 || mem[WORK + 2] == 1 || mem[WORK + 3] == 1)
#define TAKE(i)								\
	:: atomic { mem[WORK + i] == 1 -> mem[WORK + i] = 2; done++ }

proctype dispatcher()
{
	byte done;
	bool ok;

dispatch:
	do					/* take what is seen */
	TAKE(0)
	TAKE(1)
	TAKE(2)
	TAKE(3)
	:: break				/* or leave some: the budget is spent */
	od;
	if
	:: done == TELLERS * EACH -> goto done_all
	:: else
	fi;
	/* settle() */
	if
	:: atomic { ANY_WORK -> skip };
		kick(D, true);
		goto sleep
	:: atomic { !ANY_WORK -> skip }
	fi;
	if
	:: atomic { LOAD(D, SET) == 0 -> REQUIRE(left_readable, !readable) };
		goto sleep
	:: atomic { LOAD(D, SET) != 0 -> skip }
	fi;
#ifdef MUT_READ_LAST
	STORE(D, SET, 0);
	FENCE(D);
	readable = false;
#else
#ifdef MUT_CLEAR_UNWRITTEN
	readable = false;
	STORE(D, SET, 0);
#else
	if					/* the descriptor is read, if it was written */
	:: atomic { readable -> readable = false };
		STORE(D, SET, 0)		/* KICK.look */
	:: atomic { !readable -> skip }
	fi;
#endif
#ifndef MUT_NO_FENCE_LOOK
	FENCE(D);				/* KICK.look */
#endif
#endif
#ifndef MUT_NO_SECOND_LOOK
	if
	:: atomic { ANY_WORK -> skip }; kick(D, true)
	:: atomic { !ANY_WORK -> skip }
	fi;
#endif
sleep:
	atomic { readable -> skip };		/* level: stays readable */
	goto dispatch;
done_all:
	skip
}

init {
	atomic {
		run memory();
		run teller(0);
		run teller(1);
		run dispatcher()
	}
}
