/* SPDX-License-Identifier: MIT */
/*
 * Shared memory seen through store buffers, for the models in this folder.
 *
 * The including model defines before the #include
 *	NPROC		number of processes with a buffer, 2 to 4
 *	NLOC		number of shared words
 *	FLUSHED(l)	statement run after word l changed, or skip
 * and starts `run memory()`.
 *
 * A store goes into the buffer of its process and is seen by others only when `memory` moves it
 * to mem[].  `memory` may do so at any time and as late as it likes; it is idle (a legal end state)
 * only when all buffers are empty.  A full fence waits until the buffer of its process is empty.
 *
 * Without PSO a buffer is one FIFO (x86).  With -DPSO an entry may overtake older entries to other
 * words, unless it is a release store, which leaves only when everything older has left.
 */
#define SBMAX	4	/* entries; a store into a full buffer waits */

typedef buffer {
	byte n;
	byte loc[SBMAX];
	byte val[SBMAX];
#ifdef PSO
	bool rel[SBMAX];
#endif
};

buffer sb[NPROC];
byte mem[NLOC];

#ifdef PSO
#define SET_REL(p, r)	sb[p].rel[sb[p].n] = r;
#define MOVE_REL(p, i)	sb[p].rel[i] = sb[p].rel[i + 1];
#define CLEAR_REL(p)	sb[p].rel[SBMAX - 1] = 0;
#else
#define SET_REL(p, r)
#define MOVE_REL(p, i)
#define CLEAR_REL(p)
#endif

#define STORE_(p, l, v, r)						\
	d_step {							\
		sb[p].n < SBMAX ->					\
		sb[p].loc[sb[p].n] = l;					\
		sb[p].val[sb[p].n] = v;					\
		SET_REL(p, r)						\
		sb[p].n++						\
	}

#define STORE(p, l, v)		STORE_(p, l, v, 0)
#define STORE_REL(p, l, v)	STORE_(p, l, v, 1)
#define FENCE(p)		(sb[p].n == 0)

/* A word that process p never stores to needs no look into its own buffer: plain mem[l] then. */
#define OWN(p, i, l)	(sb[p].n > i && sb[p].loc[i] == (l))
#define LOAD(p, l)							\
	(OWN(p, 3, l) -> sb[p].val[3] : (OWN(p, 2, l) -> sb[p].val[2] :	\
	(OWN(p, 1, l) -> sb[p].val[1] : (OWN(p, 0, l) -> sb[p].val[0] : mem[l]))))
#define PENDING(p, l)	(OWN(p, 0, l) || OWN(p, 1, l) || OWN(p, 2, l) || OWN(p, 3, l))

/*
 * Compare and swap.  It acts on memory in one step but does NOT empty the buffer, and a failed one
 * is no more than a load: C11 promises nothing else for the relaxed form, although x86 does.
 */
#define CAS(p, l, old, new, ok)						\
	d_step {							\
		!PENDING(p, l) ->					\
		if							\
		:: mem[l] == (old) -> mem[l] = new; ok = true;		\
		:: else -> ok = false;					\
		fi							\
	}

/* Name the property that failed: pan prints "assertion violated !(name)". */
#define REQUIRE(name, cond)						\
	if								\
	:: (cond)							\
	:: else -> name = true; assert(!name)				\
	fi

#define SHIFT(p, i)							\
	sb[p].loc[i] = sb[p].loc[i + 1];				\
	sb[p].val[i] = sb[p].val[i + 1];				\
	MOVE_REL(p, i)

#define DROP_LAST(p)							\
	sb[p].loc[SBMAX - 1] = 0;					\
	sb[p].val[SBMAX - 1] = 0;					\
	CLEAR_REL(p)							\
	sb[p].n--

#define FLUSH0(p)							\
	:: d_step {							\
		sb[p].n > 0 ->						\
		tmp = sb[p].loc[0];					\
		mem[tmp] = sb[p].val[0];				\
		SHIFT(p, 0) SHIFT(p, 1) SHIFT(p, 2) DROP_LAST(p);	\
		FLUSHED(tmp);						\
		tmp = 0							\
	}

#define FLUSH1(p)							\
	:: d_step {							\
		sb[p].n > 1 && !sb[p].rel[1]				\
			&& sb[p].loc[0] != sb[p].loc[1] ->		\
		tmp = sb[p].loc[1];					\
		mem[tmp] = sb[p].val[1];				\
		SHIFT(p, 1) SHIFT(p, 2) DROP_LAST(p);			\
		FLUSHED(tmp);						\
		tmp = 0							\
	}

#define FLUSH2(p)							\
	:: d_step {							\
		sb[p].n > 2 && !sb[p].rel[2]				\
			&& sb[p].loc[0] != sb[p].loc[2]			\
			&& sb[p].loc[1] != sb[p].loc[2] ->		\
		tmp = sb[p].loc[2];					\
		mem[tmp] = sb[p].val[2];				\
		SHIFT(p, 2) DROP_LAST(p);				\
		FLUSHED(tmp);						\
		tmp = 0							\
	}

#define FLUSH3(p)							\
	:: d_step {							\
		sb[p].n > 3 && !sb[p].rel[3]				\
			&& sb[p].loc[0] != sb[p].loc[3]			\
			&& sb[p].loc[1] != sb[p].loc[3]			\
			&& sb[p].loc[2] != sb[p].loc[3] ->		\
		tmp = sb[p].loc[3];					\
		mem[tmp] = sb[p].val[3];				\
		DROP_LAST(p);						\
		FLUSHED(tmp);						\
		tmp = 0							\
	}

#ifdef PSO
#define FLUSH(p)	FLUSH0(p) FLUSH1(p) FLUSH2(p) FLUSH3(p)
#else
#define FLUSH(p)	FLUSH0(p)
#endif

proctype memory()
{
	byte tmp;

end:	do
	FLUSH(0)
	FLUSH(1)
#if NPROC > 2
	FLUSH(2)
#endif
#if NPROC > 3
	FLUSH(3)
#endif
	od
}
