/* SPDX-License-Identifier: MIT */
/*
 * CALL and ANSWER: a child puts calls into a mailbox of one slot, the parent serves them.  Both
 * sleep; each wakes the other after its store, through a bell that orders memory, as a write to an
 * eventfd does.
 *
 * Properties: nobody asleep for ever while a call or an answer waits (invalid end state); the call
 * that is served is the one that was put in (data_stale), each once (not_next); the answer is that
 * of the call (wrong_answer).
 */
#ifndef CALLS
#define CALLS	3
#endif

#define CHILD	0
#define PARENT	1

#define CALL	0
#define INPUT	1
#define ANSWER	2
#define RESULT	3

#define NPROC	2
#define NLOC	4
#define FLUSHED(l)	skip

#include "store_buffer.h"

bool to_parent, to_child;	/* latched */
bool data_stale, wrong_answer, not_next;

#ifdef MUT_CALL_RELAXED
#define PUBLISH_CALL(v)		STORE(CHILD, CALL, v)
#else
#define PUBLISH_CALL(v)		STORE_REL(CHILD, CALL, v)
#endif

#ifdef MUT_ANSWER_RELAXED
#define PUBLISH_ANSWER(v)	STORE(PARENT, ANSWER, v)
#else
#define PUBLISH_ANSWER(v)	STORE_REL(PARENT, ANSWER, v)
#endif

#ifdef MUT_BELL_ORDERS_NOTHING
#define BELL(p, b)	b = true
#else
#define BELL(p, b)	FENCE(p); b = true
#endif

proctype child()
{
	byte call = 1;

put:	skip;					/* Spin: no jump into a d_step */
#ifdef MUT_CALL_FIRST
	PUBLISH_CALL(call);
	skip;
	STORE(CHILD, INPUT, call);
	BELL(CHILD, to_parent);
#else
#ifdef MUT_BELL_FIRST
	to_parent = true;
#endif
	STORE(CHILD, INPUT, call);
	skip;
	PUBLISH_CALL(call);		/* CALL.child */
#ifndef MUT_BELL_FIRST
	BELL(CHILD, to_parent);
#endif
#endif
look:
#ifndef MUT_TWO_CALLS
	if
	:: atomic { mem[ANSWER] == call -> skip }	/* ANSWER.child */
	:: atomic { mem[ANSWER] != call -> skip };
		atomic { to_child -> to_child = false };	/* asleep */
		goto look
	fi;
	atomic { REQUIRE(wrong_answer, mem[RESULT] == call); };
#endif
	call++;
	if
	:: call <= CALLS -> goto put
	:: else
	fi
}

proctype parent()
{
	byte served, call;

serve:
	call = mem[CALL];			/* CALL.parent */
	if
	:: call == served ->
		atomic { to_parent -> to_parent = false };	/* asleep */
		goto serve
	:: else
	fi;
	atomic { REQUIRE(not_next, call == served + 1); };
	atomic { REQUIRE(data_stale, mem[INPUT] == call); };
	served = call;
#ifdef MUT_ANSWER_FIRST
	PUBLISH_ANSWER(call);
	skip;
	STORE(PARENT, RESULT, call);
#else
	STORE(PARENT, RESULT, call);
	skip;
	PUBLISH_ANSWER(call);		/* ANSWER.parent */
#endif
#ifndef MUT_NO_WAKE
	BELL(PARENT, to_child);
#endif
	if
	:: served < CALLS -> goto serve
	:: else
	fi
}

init {
	atomic {
		run memory();
		run child();
		run parent()
	}
}
