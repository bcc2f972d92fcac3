/* SPDX-License-Identifier: MIT */
/*
 * JOURNAL: a device process that may be killed at any step, and goes on from its journal in another
 * process.  The child has put REQUESTS into the ring; each is answered at once, or pended and
 * answered in a later callback.  Each callback is a commit: noted, then published.
 *
 * Stores are taken in the order of the program: who is killed has done all stores up to one
 * instruction and none after it, and what was done is seen by everybody when the process is gone.
 * So there is no store buffer here; order in the text is what is verified.
 *
 * A process that ends in another way stops between two callbacks and leaves the journal as it is, which
 * is one of the kills.  The channel is open for the child all the time, so a journal that says closed is
 * refused.  A process that has been followed by another writes nothing more: it is dead by then.
 *
 * Properties: no request answered twice (doubled); an index is always one that was noted (refused);
 * no record or slot is read half written (torn); nothing is read from the ring that was given back
 * (data_stale); no request lost, so that the last process is done (else: invalid end state).
 */
#ifndef REQUESTS
#define REQUESTS 3
#endif
#ifndef KILLS
#define KILLS	2
#endif
#define SLOTS	2
#define GONE	0

#define REQUIRE(name, cond)						\
	if								\
	:: !(cond) -> name = true; assert(!(name))			\
	:: else								\
	fi

bool doubled, refused, torn, data_stale;

/* The child's memory. */
byte tx_index, rx_index;
byte tx[8];		/* answers, by index; what is past tx_index nobody sees */
byte rx[REQUESTS];
byte count[REQUESTS + 1];

/* The journal. */
byte counts = 1;
byte rec_gen[2], rec_tx0[2], rec_tx1[2], rec_next0[2], rec_next1[2];
byte read0, read1;	/* one word */
byte take[SLOTS], done[SLOTS], id_a[SLOTS], id_b[SLOTS];

/* The process, and how it ends. */
bool killed, finished;
byte kills;
byte gen, next, pos, sent, put, s, i;
#ifdef MUT_ZOMBIE
byte zombie;		/* the commit that a process was at when it was killed, and is not dead */
#endif
byte used[SLOTS];	/* 0 free, 1 pended, 2 freed by the next commit */

#define FREE(n)		(used[n] == 0)
#define ANY_FREE	(FREE(0) || FREE(1))
#define ANY_PENDED	(used[0] == 1 || used[1] == 1)
#define A_FREE		(FREE(0) -> 0 : 1)
#define A_PENDED	(used[0] == 1 -> 0 : 1)
#define KEPT(n, g)	(take[n] != 0 && take[n] <= (g) && (done[n] < take[n] || done[n] > (g)))

#ifdef MUT_ONE_RECORD
#define RECORD(g)	0
#else
#define RECORD(g)	((g) % 2)
#endif

inline fields(to)
{
	rec_gen[RECORD(gen + 1)] = gen + 1;
	rec_tx0[RECORD(gen + 1)] = sent;
	rec_tx1[RECORD(gen + 1)] = to;
	rec_next0[RECORD(gen + 1)] = next;
	rec_next1[RECORD(gen + 1)] = pos
}

inline note(to)
{
#ifdef MUT_COUNTS_FIRST
	counts = gen + 1;
	fields(to);
#else
	fields(to);
	counts = gen + 1;			/* JOURNAL.note */
#endif
	gen = gen + 1;				/* private from here */
	next = pos
}

/* Answers become visible; the child counts them. */
inline publish()
{
	atomic {
		i = tx_index;
		do
		:: i < put ->
			count[tx[i]]++;
			REQUIRE(doubled, count[tx[i]] == 1);
			i++
		:: else -> break
		od;
		i = 0;
		tx_index = put			/* DATA.tx */
	}
}

inline settle()
{
	d_step {
		if :: used[0] == 2 -> used[0] = 0 :: else fi;
		if :: used[1] == 2 -> used[1] = 0 :: else fi
	}
}

inline commit()
{
#ifdef MUT_NEXT_EARLY
	if
	:: put != sent -> note(sent)
	:: else
	fi;
#endif
#ifdef MUT_PUBLISH_FIRST
	if
	:: put != sent -> publish()
	:: else
	fi;
	note(put);
#else
	note(put);
	if
	:: put != sent -> publish()
	:: else
	fi;
#endif
	sent = put;
	settle()
}

/* What was read is given back to the child. */
inline give_back()
{
	if
	:: rx_index != pos ->
#ifndef MUT_READ_NO_NOTE
		atomic { read0 = rx_index; read1 = pos };	/* JOURNAL.note */
#endif
		atomic {
			i = rx_index;
			do
			:: i < pos -> rx[i] = GONE; i++
			:: else -> break
			od;
			i = 0;
			rx_index = pos		/* FREE.rx */
		}
	:: else
	fi
}

inline answer(id)
{
	d_step { tx[put] = id; put++ }
}

inline pend(id)
{
	s = A_FREE;
	used[s] = 1;
#ifdef MUT_TAKE_FIRST
	take[s] = gen + 1;
	id_a[s] = id;
	id_b[s] = id;
#else
	id_a[s] = id;
	id_b[s] = id;
	take[s] = gen + 1;			/* JOURNAL.note */
#endif
	s = 0
}

/* One request from the ring: answered, or pended. */
inline take_new()
{
	REQUIRE(data_stale, rx[pos] == pos + 1);
	pos++;
#ifdef MUT_READ_EARLY
	give_back();
#endif
	if
	:: answer(pos)
	:: pend(pos)
	fi
}

inline answer_pended()
{
	s = A_PENDED;
	answer(id_a[s]);
#ifdef MUT_DONE_AT_ONCE
	done[s] = gen;
#else
	done[s] = gen + 1;			/* JOURNAL.note */
#endif
#ifdef MUT_FREE_EARLY
	used[s] = 0;
#else
	used[s] = 2;
#endif
	s = 0
}

inline callback()
{
	if
	:: pos < REQUESTS && ANY_FREE -> take_new()
	:: ANY_PENDED -> answer_pended()
	fi;
	if					/* another one, in the same callback */
	:: pos < REQUESTS && ANY_FREE -> take_new()
	:: ANY_PENDED -> answer_pended()
	:: skip
	fi;
	commit();
	if					/* lazily */
	:: give_back()
	:: skip
	fi
}

/* What the journal says of a slot at commit i becomes all that it says. */
inline read_slot(n)
{
	if
	:: KEPT(n, i) ->
		REQUIRE(torn, id_a[n] == id_b[n]);
#ifndef MUT_NO_SCRUB
		done[n] = 0;			/* JOURNAL.note */
#endif
		used[n] = 1
	:: else ->
#ifndef MUT_NO_SCRUB
		take[n] = 0;			/* JOURNAL.note */
#endif
		used[n] = 0
	fi
}

/* What an opening of a closed channel does. */
inline begin_anew()
{
	d_step {
		pos = rx_index;
		read0 = rx_index;
		read1 = rx_index;
		take[0] = 0;
		take[1] = 0;
		rec_gen[0] = 0;
		gen = 1;
		counts = 1;
		rec_gen[1] = 1;
		rec_tx0[1] = tx_index;
		rec_tx1[1] = tx_index;
		rec_next0[1] = pos;
		rec_next1[1] = pos
	}
}

inline resume()
{
	if
	:: counts == 0 ->
#ifdef MUT_BEGIN_ANEW
		begin_anew()
#else
		REQUIRE(refused, false)
#endif
	:: else
	fi;
	d_step {
		gen = counts;			/* JOURNAL.resume */
		s = RECORD(gen)
	};
	REQUIRE(torn, rec_gen[s] == gen);
	if
	:: tx_index == rec_tx1[s] -> d_step { i = gen; pos = rec_next1[s] }
	:: else ->
		REQUIRE(refused, tx_index == rec_tx0[s]);
		d_step { i = gen - 1; pos = rec_next0[s] }
	fi;
	REQUIRE(refused, rx_index == read0 || rx_index == read1);
	REQUIRE(refused, rx_index <= pos);
	d_step { s = 0; next = pos; sent = tx_index; put = tx_index };
	read_slot(0);
	read_slot(1);
#ifdef MUT_NUMBER_AGAIN
	gen = i;
#endif
	i = 0;
	note(sent)
}

proctype device()
{
again:
	{
		resume();
		do
		:: pos < REQUESTS || ANY_PENDED -> callback()
		:: pos == REQUESTS && !ANY_PENDED -> break
		od;
		atomic { tx_index == REQUESTS -> finished = true }
	} unless {
		atomic {
			killed -> killed = false;
#ifdef MUT_ZOMBIE
			zombie = gen + 1;
#endif
#ifdef MUT_CLOSE_AT_END
			counts = 0;
#endif
			gen = 0; next = 0; pos = 0; sent = 0; put = 0; s = 0; i = 0;
			used[0] = 0; used[1] = 0
		};
		goto again
	}
}

#ifdef MUT_ZOMBIE
/* A process that hung, was taken for dead, and is in the middle of a commit. */
proctype late()
{
end:	atomic { zombie != 0 -> counts = zombie }
}
#endif

proctype killer()
{
	do
	:: atomic { kills < KILLS && !killed && !finished -> killed = true; kills++ }
	:: finished -> break
	od
}

init {
	d_step {
		rec_gen[1] = 1;
		i = 0;
		do
		:: i < REQUESTS -> rx[i] = i + 1; i++
		:: else -> break
		od;
		i = 0
	};
	atomic {
		run device();
		run killer();
#ifdef MUT_ZOMBIE
		run late()
#endif
	}
}
