/* SPDX-License-Identifier: MIT */
/*
 * SLEEP and FREE: a sender that lacks room goes to sleep, a reader frees room and publishes `out`
 * lazily.  The reader polls; both.pml includes this file with READER_SLEEPS, where it sleeps too.
 *
 * Indices are bytes that wrap at SIZE, packets are 8 or 16 bytes, one data word stands for
 * 8 bytes.  Lost wake-up = somebody sleeps (or polls) for ever while packets are
 * left = invalid end state.
 *
 * Who waits for room:
 *	default		our sender: pending = what it needs, 0 afterwards
 *	-DLINGER	a sender that stores pending once and never clears it (hv_sock in Linux)
 *	-DFOREIGN=n	a peer that waits for the empty ring: pending = n, at least SIZE - 1
 *
 * Properties: no lost wake-up; no packet overwritten before it was read (data_stale); with -DEXTRA
 * also no signal without the room that was asked for (signal_no_room) and no second signal for the
 * same or a smaller pending unless the sender has stored `in` or pending in between (signal_twice).
 */
#ifndef PACKETS
#define PACKETS	4
#endif
#define SIZE	32

#define TX	0
#define RX	1

#define IN	0
#define OUT	1
#define PEND	2
#define MASK	3
#define DATA	4	/* one word per 8 bytes */

#define NPROC	2
#define NLOC	(DATA + SIZE / 8)

#ifdef EXTRA
#define FLUSHED(l)							\
	if								\
	:: l == IN || l == PEND -> tx_signalled = 0			\
	:: else								\
	fi
byte tx_signalled;	/* pending at the last signal */
#define CHECK_SIGNAL							\
	REQUIRE(signal_no_room, USABLE(mem[IN], mem[OUT]) >= p);	\
	REQUIRE(signal_twice, p > tx_signalled);			\
	tx_signalled = p;
#else
#define FLUSHED(l)	skip
#define CHECK_SIGNAL
#endif

#include "store_buffer.h"

bool tx_bell, rx_bell;	/* latched like an event: set until the sleeper takes it */
bool data_stale, signal_no_room, signal_twice;

#define RAW(in, out)	((in) >= (out) -> SIZE - ((in) - (out)) : (out) - (in))
#define USABLE(in, out)	(RAW(in, out) - 8)

#if defined(FOREIGN)
#define NEED		(SIZE - 8)
#define ASK		FOREIGN
#else
#define NEED		bytes
#define ASK		bytes
#endif

/* A data word: number of the packet and its length. */
#define WORD(seq, bytes)	(2 * ((seq) + 1) + (bytes) / 16)

inline fill()
{
	skip;
	STORE(TX, DATA + in / 8, WORD(seq, bytes));
	if
	:: bytes == 16 -> skip; STORE(TX, DATA + (in / 8 + 1) % (SIZE / 8), WORD(seq, bytes))
	:: else
	fi
}

inline publish_in()
{
	before = in;
	in = (in + bytes) % SIZE;
	STORE_REL(TX, IN, in);			/* DATA.tx */
#ifndef MUT_NO_FENCE_WAKE_TX
	FENCE(TX);				/* WAKE.tx */
#endif
#ifdef READER_SLEEPS
	if
	:: atomic { mem[MASK] == 0 -> skip };
		atomic {
			if
			:: mem[OUT] == before -> rx_bell = true
			:: else
			fi
		}
	:: atomic { mem[MASK] != 0 -> skip }
	fi;
#endif
	before = 0
}

/* Arm, look again, sleep; until there is room. */
inline wait_for_room()
{
	do
	:: atomic { USABLE(in, mem[OUT]) >= NEED -> break }	/* FREE.tx */
	:: atomic { USABLE(in, mem[OUT]) < NEED -> skip };
#ifndef LINGER
		STORE(TX, PEND, ASK);
#endif
#ifndef MUT_NO_FENCE_TX
		FENCE(TX);			/* SLEEP.tx */
#endif
#ifndef MUT_NO_SECOND_LOOK
		if
		:: atomic { USABLE(in, mem[OUT]) >= NEED -> skip }
		:: atomic { USABLE(in, mem[OUT]) < NEED -> skip };
#endif
			atomic { tx_bell -> tx_bell = false }	/* asleep */
#ifndef MUT_NO_SECOND_LOOK
		fi;
#endif
#ifndef LINGER
		if				/* disarm, or leave it and arm again */
		:: STORE(TX, PEND, 0)
		:: skip
		fi
#endif
	od
}

proctype sender()
{
	byte in, before, seq, bytes;

#ifdef LINGER
	STORE(TX, PEND, 16);
#endif
	do
	:: seq < PACKETS ->
#ifdef LINGER
		bytes = 8;
#else
		if
		:: bytes = 8
		:: bytes = 16
		fi;
#endif
#ifdef MUT_FILL_BEFORE_LOOK
		fill();
#endif
		wait_for_room();
#ifndef MUT_FILL_BEFORE_LOOK
		fill();
#endif
		publish_in();
		seq++
	:: else -> break
	od
}

#ifdef MUT_NO_CLAMP
#define CLAMP(p)	(p)
#else
#define CLAMP(p)	((p) > SIZE - 8 -> SIZE - 8 : (p) - (p) % 8)
#endif

#if defined(MUT_LEVEL)
#define CROSSED(in)	(USABLE(in, out) >= p)
#elif defined(MUT_NEW_OUT)
#define CROSSED(in)	(USABLE(in, out) < p && USABLE(in, out) >= p)
#elif defined(MUT_STRICT)
#define CROSSED(in)	(USABLE(in, published) < p && USABLE(in, out) > p)
#elif defined(MUT_EMPTY_IS_ZERO)
#define CROSSED(in)	(USABLE(in, published) < p && USABLE(in, out) >= p && in != out)
#else
#define CROSSED(in)	(USABLE(in, published) < p && USABLE(in, out) >= p)
#endif

#ifdef MUT_MASK_GATES
#define GATE	(mem[MASK] == 0)
#else
#define GATE	true
#endif

/* `crossing` and the load that it depends on are one step, so that CHECK_SIGNAL is exact. */
inline crossing(index)
{
	if
	:: p != 0 && CROSSED(index) && GATE -> CHECK_SIGNAL tx_bell = true
	:: else
	fi
}

inline publish_out()
{
	if
	:: out != published ->
		skip;
		STORE_REL(RX, OUT, out);	/* FREE.rx */
#ifndef MUT_NO_FENCE_RX
		FENCE(RX);			/* SLEEP.rx */
#endif
#if defined(MUT_PENDING_AFTER_IN)
		word = mem[IN];
		atomic { p = CLAMP(mem[PEND]); crossing(word); p = 0; word = 0; published = out }
#elif defined(MUT_STALE_IN)
		atomic { p = CLAMP(mem[PEND]); crossing(seen); p = 0; published = out }
#else
		p = CLAMP(mem[PEND]);
		atomic { crossing(mem[IN]); p = 0; published = out }
#endif
	:: else
	fi
}

#define LAST_WORD	mem[DATA + (out / 8 + word % 2) % (SIZE / 8)]

inline read_packet()
{
	word = mem[DATA + out / 8];
	REQUIRE(data_stale, word / 2 == seq + 1);
#ifdef MUT_OUT_BEFORE_READ
	out = (out + 8 + 8 * (word % 2)) % SIZE;
	publish_out();
	out = (out + SIZE - 8 - 8 * (word % 2)) % SIZE;
#endif
	atomic {
		REQUIRE(data_stale, mem[DATA + out / 8] == word && LAST_WORD == word);
		out = (out + 8 + 8 * (word % 2)) % SIZE;
		word = 0;
		seq++
	}
}

proctype reader()
{
	byte out, published, seen, seq, p, word;

#ifdef READER_SLEEPS
	STORE(RX, MASK, 1);
#endif
drain:
	seen = mem[IN];				/* DATA.rx */
	do
	:: out != seen ->
		read_packet();
		if				/* lazily: at any packet or none */
		:: publish_out()
		:: skip
		fi
	:: else -> break
	od;
#ifndef MUT_NO_PUBLISH
	publish_out();				/* never wait with `out` unpublished */
#endif
	if
	:: seq == PACKETS -> goto done
	:: else
	fi;
#ifdef READER_SLEEPS
	skip;
	STORE(RX, MASK, 0);
#ifndef MUT_NO_FENCE_WAKE_RX
	FENCE(RX);				/* WAKE.rx */
#endif
#ifndef MUT_NO_SECOND_LOOK_RX
	if
	:: atomic { mem[IN] != out -> skip };
		STORE(RX, MASK, 1);
		goto drain
	:: atomic { mem[IN] == out -> skip }
	fi;
#endif
	atomic { rx_bell -> rx_bell = false };	/* asleep */
	if					/* a woken reader may mask or leave it */
	:: STORE(RX, MASK, 1)
	:: skip
	fi;
#else
	atomic { mem[IN] != out -> skip };	/* polls */
#endif
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
