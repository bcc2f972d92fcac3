/* SPDX-License-Identifier: MIT */
/*
 * MESSAGE, EMPTY and PENDING: a parent posts messages through one slot, a child takes them.
 *
 * A parent that finds the slot taken sets the pending flag, looks again, and then sleeps until EOM.
 * A child takes one message per interrupt, or goes on while there are some.  Its swap of the type to
 * 0 is a store that may be seen late, which is less than a swap gives on x86.  Interrupt and EOM are
 * bells that order memory, as an exit or a system call does.
 *
 * Properties: no message stuck (somebody asleep for ever = invalid end state); the message that is
 * taken is the one that was posted (data_stale); no EOM that nobody asked for (eom_needless), but for
 * -DMORE, where the parent says beforehand that further messages wait.
 */
#ifndef MESSAGES
#define MESSAGES 3
#endif

#define HOST	0
#define CHILD	1

#define TYPE	0
#define PEND	1
#define DATA	2

#define NPROC	2
#define NLOC	3
#define FLUSHED(l)	skip

#include "store_buffer.h"

bool irq, eom;		/* latched */
bool data_stale, eom_needless;
bool asked;		/* the parent has set the flag since it last wrote a message */

#ifdef MUT_NO_RELEASE
#define STORE_TYPE(p, v)	STORE(p, TYPE, v)
#else
#define STORE_TYPE(p, v)	STORE_REL(p, TYPE, v)
#endif

inline write_message()
{
	asked = false;
#ifdef MUT_TYPE_FIRST
	STORE_TYPE(HOST, 1);
	skip;
	STORE(HOST, PEND, 0);
	skip;
	STORE(HOST, DATA, next)
#else
#ifdef MORE
	if
	:: next < MESSAGES -> asked = true; STORE(HOST, PEND, 1)
	:: else -> STORE(HOST, PEND, 0)
	fi;
#else
	STORE(HOST, PEND, 0);
#endif
	skip;
	STORE(HOST, DATA, next);
	skip;
	STORE_TYPE(HOST, 1)		/* MESSAGE.post */
#endif
}

proctype host()
{
	byte next = 1;

again:
	if
	:: atomic { LOAD(HOST, TYPE) == 0 -> skip }	/* EMPTY.post */
	:: atomic { LOAD(HOST, TYPE) != 0 -> skip };
#ifndef MUT_NO_PENDING
		asked = true;
		STORE(HOST, PEND, 1);		/* PENDING.post */
#endif
#ifndef MUT_NO_FENCE_POST
		FENCE(HOST);			/* PENDING.post */
#endif
#ifndef MUT_NO_SECOND_LOOK
		if
		:: atomic { LOAD(HOST, TYPE) == 0 -> goto write }
		:: atomic { LOAD(HOST, TYPE) != 0 -> skip }
		fi;
#endif
		atomic { eom -> eom = false };	/* asleep */
		goto again
	fi;
write:
	write_message();
	FENCE(HOST);				/* the interrupt */
	irq = true;
	next++;
	if
	:: next <= MESSAGES -> goto again
	:: else
	fi
}

inline clear()
{
	STORE_TYPE(CHILD, 0);			/* EMPTY.take */
#ifndef MUT_NO_FENCE_TAKE
	FENCE(CHILD);				/* PENDING.take */
#endif
}

inline copy()
{
	atomic { REQUIRE(data_stale, mem[DATA] == want); }
}

proctype child()
{
	byte want = 1;
	bool pending;

sleep:
	atomic { irq -> irq = false };		/* asleep */
take:
	if
	:: atomic { LOAD(CHILD, TYPE) == 0 -> goto sleep }
	:: atomic { LOAD(CHILD, TYPE) != 0 -> skip }	/* MESSAGE.take */
	fi;
#ifdef MUT_FLAG_BEFORE_CLEAR
	pending = mem[PEND];
#endif
#ifdef MUT_COPY_AFTER_CLEAR
	clear();
	copy();
#else
	copy();
	clear();
#endif
#ifndef MUT_FLAG_BEFORE_CLEAR
	pending = mem[PEND];			/* PENDING.take */
#endif
	if
	:: pending ->
		atomic {
			REQUIRE(eom_needless, asked || eom || want < MESSAGES);
			eom = true
		}
	:: else
	fi;
	want++;
	if
	:: want > MESSAGES -> goto done
	:: else
	fi;
	if
	:: goto take
	:: goto sleep
	fi;
done:
	skip
}

init {
	atomic {
		run memory();
		run host();
		run child()
	}
}
