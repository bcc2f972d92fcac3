/* SPDX-License-Identifier: MIT */
/*
 * Rescind, reopen and release of one relid while messages are under way both ways: the host machine
 * of src/channel/srv_chan.c, a device that answers when it likes, and a child that opens, closes,
 * opens again while the device still closes, tears its page list down and releases the relid, at its
 * own pace.  The parent withdraws the channel at any time and offers the next one with the same
 * relid as soon as it may.
 *
 * Messages carry the number of their offer, which the real ones do not: it is there for the checks
 * alone.  Properties:
 *	stale_message	the parent takes a message about an earlier offer for one about this one
 *	stale_news	the child takes one of the parent's so
 *	stale_answer	a device answers for an earlier offer
 *	ring_in_use	TORNDOWN while the device still has the rings
 *	no_list		a device opens rings whose page list is gone
 *	no end		the child waits for ever: invalid end state
 *
 * An offer may be one that is never withdrawn, so that nobody is saved from waiting by a rescind.
 * With -DRUDE the child tears its page list down behind an OPEN that the parent may hold.
 *
 * The mutants are the mistakes that one could make in srv_chan.c; see the table in `run`.
 */
#ifndef OFFERS
#define OFFERS	3
#endif

mtype = { OFFER, RESCIND, RESULT_OK, RESULT_FAILED, TORNDOWN,		/* to the child */
	  OPEN, CLOSE, TEARDOWN, RELEASED,				/* to the parent */
	  FREE, CLOSED, OPENING, OPENED, CLOSING, CLOSING_REOPEN,	/* states */
	  REVOKED, REVOKED_OPENING, REVOKED_CLOSING,
	  OPENING_RELEASE, CLOSING_RELEASE, RELEASING,
	  IDLE, BUSY };

chan to_parent = [4] of { mtype, byte };
chan due = [6] of { mtype, byte };	/* the parent's output, not posted yet */
chan to_child = [1] of { mtype, byte };	/* the message slot */

bool stale_message, stale_news, stale_answer, ring_in_use, no_list;
#define REQUIRE(name, cond)	name = !(cond); assert(!name)

mtype state = FREE;
mtype device = IDLE;	/* BUSY from the question OPEN to the answer to CLOSE */
bool asked_open, asked_close;
byte offer;		/* of the occupant */
byte device_offer;	/* whose device it is */
bool list;		/* the page list of the rings is there */
bool torn_owed;
bool lasting;		/* never withdrawn */

/* Nothing is due any more to a child that let go. */
inline forget()
{
	do
	:: due??[RESCIND, _] -> due??RESCIND, _
	:: due??[RESULT_OK, _] -> due??RESULT_OK, _
	:: due??[RESULT_FAILED, _] -> due??RESULT_FAILED, _
	:: due??[TORNDOWN, _] -> due??TORNDOWN, _
	:: due??[OFFER, _] -> due??OFFER, _
	:: else -> break
	od
}

inline start_open(next)
{
	REQUIRE(no_list, list);
	state = next;
	asked_open = true;
	device = BUSY;
	device_offer = offer;
}

inline start_close(next)
{
	state = next;
	asked_close = true;
}

/* The device has let go: held page lists go, and what the child released is free. */
inline settle()
{
	if
	:: torn_owed && device == IDLE ->
		list = false;
		torn_owed = false;
		due!TORNDOWN, offer
	:: else
	fi;
	if
	:: state == RELEASING -> list = false; torn_owed = false; state = FREE
	:: else
	fi
}

inline on_open()
{
	if
	:: state == CLOSED -> start_open(OPENING)
#ifdef MUT_REOPEN_LOST
	:: state == CLOSING -> skip
#else
	:: state == CLOSING -> state = CLOSING_REOPEN
#endif
	:: state == REVOKED || state == REVOKED_OPENING || state == REVOKED_CLOSING ->
		skip			/* RESCIND is the answer */
	:: else -> due!RESULT_FAILED, offer
	fi
}

inline on_close()
{
	if
	:: state == OPENED -> start_close(CLOSING)
	:: else -> skip
	fi
}

inline on_teardown()
{
	torn_owed = true;
	if
#ifdef MUT_TORNDOWN_EARLY
	:: true -> torn_owed = false; list = false; due!TORNDOWN, offer
#else
	:: device == IDLE -> torn_owed = false; list = false; due!TORNDOWN, offer
	:: else -> skip			/* held */
#endif
	fi
}

inline on_released()
{
	if
	:: state == CLOSED || state == REVOKED -> forget(); state = RELEASING; settle()
	:: state == CLOSING || state == REVOKED_CLOSING ->
		forget();
		torn_owed = false;
#ifdef MUT_FREE_WHILE_CLOSING
		list = false; state = FREE
#else
		state = CLOSING_RELEASE
#endif
	:: state == REVOKED_OPENING -> forget(); torn_owed = false; state = OPENING_RELEASE
	:: else -> skip
	fi
}

inline revoke()
{
	if
	:: state == CLOSED -> state = REVOKED
	:: state == OPENING -> state = REVOKED_OPENING
	:: state == OPENED -> start_close(REVOKED_CLOSING)
	:: state == CLOSING || state == CLOSING_REOPEN -> state = REVOKED_CLOSING
	fi;
#ifdef MUT_NO_RESCIND_WHILE_OPENING
	if
	:: state == REVOKED_OPENING -> skip
	:: else -> due!RESCIND, offer
	fi;
#else
	due!RESCIND, offer;
#endif
#ifdef MUT_REUSE_EARLY
	if
	:: state == REVOKED -> list = false; torn_owed = false; state = FREE
	:: else
	fi;
#endif
	skip
}

inline device_opened()
{
	asked_open = false;
	REQUIRE(stale_answer, device_offer == offer);
	if
	:: state == OPENING -> state = OPENED; due!RESULT_OK, offer
#ifdef MUT_KEEP_OPEN_AFTER_REVOKE
	:: state == REVOKED_OPENING -> state = REVOKED
#else
	:: state == REVOKED_OPENING -> start_close(REVOKED_CLOSING)
#endif
	:: state == OPENING_RELEASE -> start_close(CLOSING_RELEASE)
	fi
}

inline device_failed()
{
	asked_open = false;
	device = IDLE;
	REQUIRE(stale_answer, device_offer == offer);
	if
	:: state == OPENING -> state = CLOSED; due!RESULT_FAILED, offer
	:: state == REVOKED_OPENING -> state = REVOKED
	:: state == OPENING_RELEASE -> state = RELEASING
	fi;
	settle()
}

inline device_closed()
{
	asked_close = false;
	device = IDLE;
	REQUIRE(stale_answer, device_offer == offer && state != FREE);
	if
	:: state == CLOSING -> state = CLOSED; settle()
	:: state == CLOSING_REOPEN ->
		state = CLOSED;
		settle();
		if
		:: list -> start_open(OPENING)
#ifdef MUT_REOPEN_WITHOUT_LIST
		:: !list -> start_open(OPENING)
#else
		:: !list -> due!RESULT_FAILED, offer
#endif
		fi
	:: state == REVOKED_CLOSING -> state = REVOKED; settle()
	:: state == CLOSING_RELEASE -> state = RELEASING; settle()
	fi
}

active proctype parent()
{
	mtype m;
	byte n;

end:	do
	:: atomic { state == FREE && offer < OFFERS && len(due) < 3 && !torn_owed ->
		offer++;
		list = true;
		state = CLOSED;
		if
		:: lasting = true
		:: lasting = false
		fi;
		due!OFFER, offer }
	:: atomic { len(due) < 3 && !lasting && (state == CLOSED || state == OPENING || state == OPENED ||
				     state == CLOSING || state == CLOSING_REOPEN) -> revoke() }
	:: atomic { len(due) < 3 && asked_open -> device_opened() }
	:: atomic { len(due) < 3 && asked_open -> device_failed() }
	:: atomic { len(due) < 3 && asked_close -> device_closed() }
	:: atomic { len(due) < 3 && nempty(to_parent) ->
		to_parent?m, n;
		REQUIRE(stale_message, n == offer && state != FREE);
		if
		:: m == OPEN -> on_open()
		:: m == CLOSE -> on_close()
		:: m == TEARDOWN -> on_teardown()
		:: m == RELEASED -> on_released()
		fi }
	:: atomic { nfull(to_child) && nempty(due) -> due?m, n; to_child!m, n }
	od
}

byte mine;		/* offer that the child has, 0 for none */
bool rescinded;
mtype news;

/* The next message; those of a relid that was given back are passed over. */
inline receive()
{
	to_child?news, heard;
	if
	:: mine == 0 && news != OFFER -> skip
	:: else ->
		REQUIRE(stale_news, news == OFFER || heard == mine);
		if
		:: news == RESCIND -> rescinded = true
		:: news == TORNDOWN -> torn = true
		:: else
		fi
	fi
}

active proctype child()
{
	byte heard, opens;
	bool torn_down, torn;	/* asked for, and answered */

idle:
	mine = 0;
	rescinded = false;
	opens = 0;
	torn_down = false;
	torn = false;
end:	receive();
	if
	:: news == OFFER -> mine = heard
	:: else -> goto idle
	fi;
	if
	:: to_parent!RELEASED, mine -> goto idle	/* no driver wants it */
	:: skip
	fi;
open:
	if
	:: rescinded -> goto release
	:: else
	fi;
	opens++;
	to_parent!OPEN, mine;
#ifdef RUDE
	if
	:: opens == 2 -> to_parent!TEARDOWN, mine; torn_down = true
	:: else
	fi;
#endif
	do
	:: receive();
		if
		:: news == RESULT_OK -> break
		:: news == RESULT_FAILED -> goto closed
		:: news == RESCIND -> goto closed
		:: else
		fi
	od;
	/* Open, until it likes to close or hears of the rescind. */
	do
	:: nempty(to_child) -> receive();
		if
		:: rescinded -> break
		:: else
		fi
	:: break
	od;
	to_parent!CLOSE, mine;
	if
	:: opens < 2 && !rescinded -> goto open	/* at once */
	:: skip
	fi;
closed:
	if
	:: torn_down -> goto waiting
	:: !torn_down -> to_parent!TEARDOWN, mine
	:: !torn_down -> goto release		/* or leave it to the parent */
	fi;
waiting:
	do
	:: torn -> break
	:: receive();
		if
		:: news == TORNDOWN -> break
		:: else
		fi
	od;
	REQUIRE(ring_in_use, !(device == BUSY && device_offer == mine));
	if
	:: !rescinded ->			/* wait for the rescind, or leave by itself */
		if
		:: skip ->
endwait:		receive()
		:: skip
		fi
	:: else
	fi;
release:
	to_parent!RELEASED, mine;
	goto idle
}
