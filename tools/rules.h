/* SPDX-License-Identifier: MIT */
/*
 * What can be wrong between a parent and its children, as a table of rules over snapshots.  It asks
 * nobody and prints nothing.
 */
#ifndef VMBUSCTL_RULES_H
#define VMBUSCTL_RULES_H

#include "snap.h"

#define FINDING_TEXT 320

struct finding {
	const char *code;   /* stable: scripts compare it; vmbusctl(1) lists all */
	const char *advice; /* what to do */
	const struct snap_bus *bus;
	const struct snap_chan *chan; /* NULL: it is of the bus */
	uint64_t for_ns;	      /* how long it is so, 0: not known */
	char text[FINDING_TEXT];
};

/*
 * Look for what is wrong.  snaps has the same parent n times, 2 and up, the newest last; what holds
 * for an instant in a healthy system must hold in all of them.
 *
 * fn  called for each finding; those of a bus come before those of its channels.
 *
 * Returns how many there are.
 */
uint32_t rules_find(const struct snap *snaps, uint32_t n, uint64_t grace_ns,
		    void (*fn)(void *ctx, const struct finding *finding), void *ctx);

/* The state of a process as /proc has it, 0 for one that is gone, '?': not known. */
char rules_process_state(uint32_t pid);

#endif
