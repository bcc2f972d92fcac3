/* SPDX-License-Identifier: MIT */
/*
 * LEAVE: a channel of a guest whose packets belong to a thread of its own.  The guest asks the
 * thread to leave, which says that it has; or the thread leaves by itself, because the parent broke
 * the ring.  Then the guest ends the requests and takes the rings back.
 *
 * The thread's use of the path is one word that it counts up; what the guest finds there must be the
 * last value.  A guest that waits for ever = invalid end state.
 */
#define GUEST	0
#define THREAD	1

#define LEAVE	0	/* 0 no, 1 asked, 2 done */
#define PATH	1
#define TURNS	2	/* of packets, at most */

#define NPROC	2
#define NLOC	2
#define FLUSHED(l)	skip

#include "store_buffer.h"

#define ASKED	1
#define DONE	2

bool in_use, data_stale;
bool wake_thread, wake_guest;	/* latched */
bool inside;		/* the thread may touch the path */
byte last;		/* what it stored there last */

proctype guest()
{
	bool ok;

	/* At any time: close. */
#ifdef MUT_PLAIN_STORE
	STORE(GUEST, LEAVE, ASKED);
	FENCE(GUEST);
#else
	CAS(GUEST, LEAVE, 0, ASKED, ok);	/* LEAVE.guest */
#endif
#ifndef MUT_NO_WAKE
	wake_thread = true;
#endif
#ifndef MUT_NO_WAIT
	do
	:: atomic { LOAD(GUEST, LEAVE) == DONE -> break }	/* LEAVE.guest */
	:: atomic { LOAD(GUEST, LEAVE) != DONE && wake_guest -> wake_guest = false }
	od;
#endif
	REQUIRE(in_use, !inside);
	REQUIRE(data_stale, mem[PATH] == last)
}

inline use_path()
{
	last = last + 1;
	STORE(THREAD, PATH, last)
}

#ifdef MUT_RELAXED
#define STORE_DONE	STORE(THREAD, LEAVE, DONE)
#else
#define STORE_DONE	STORE_REL(THREAD, LEAVE, DONE)
#endif

/* vmbus__own_leave(): requests are ended, then it says so. */
inline own_leave()
{
#ifdef MUT_DONE_FIRST
	STORE_DONE;
	FENCE(THREAD);
	wake_guest = true;
	use_path();
	FENCE(THREAD);
	inside = false;
#else
	use_path();
	inside = false;
	STORE_DONE;			/* LEAVE.thread */
	FENCE(THREAD);			/* the wake-up is a call of the system */
	wake_guest = true;
#endif
}

proctype thread()
{
	byte turns, asked;

	inside = true;
	do
	:: asked = mem[LEAVE];		/* LEAVE.thread */
		if
		:: asked == ASKED -> own_leave(); break
		:: asked == DONE -> break
		:: asked == 0 && turns < TURNS ->
			use_path();
			turns++;
			if
			:: skip				/* packets */
			:: own_leave(); break		/* the parent broke the ring */
			fi
		:: asked == 0 && turns == TURNS ->
			atomic { wake_thread -> wake_thread = false }	/* asleep */
		fi
	od
}

init {
	atomic {
		run memory();
		run guest();
		run thread()
	}
}
