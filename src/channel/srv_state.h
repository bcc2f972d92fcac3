/* SPDX-License-Identifier: MIT */
/*
 * The machine's saved state, vmbus_save(7): what writing and reading must agree on.
 *
 * Numbers of states and kinds are those of the enums, which therefore never change: one that is
 * added comes last, with a new version of its section.
 */
#ifndef VMBUS_CHANNEL_SRV_STATE_H
#define VMBUS_CHANNEL_SRV_STATE_H

#include "base/state.h"
#include "channel/srv.h"

/* Sections, each once and in this order; all of version 1. */
enum srv_section {
	S_CONN = 1,
	S_CHANS,
	S_LISTS,
	S_TLS,
	S_ENTRIES,
	S_DUE,
	S_COUNTERS,
	S_SECTIONS
};

#define SECTION_VERSION 1u

/* Bits of a channel. */
#define CB_RESERVED 0x1u
#define CB_SURVIVES 0x2u
#define CB_MODIFYING 0x4u
#define CB_MODIFY_AGAIN 0x8u
#define CB_RESERVED_REPLY 0x10u
#define CB_ALL 0x1fu

/* Bits of a page list. */
#define LB_CREATED_OWED 0x1u
#define LB_TORN_OWED 0x2u
#define LB_ALL 0x3u

/* Bits of the connection. */
#define NB_SUPPORTED 0x1u
#define NB_HOLD 0x2u
#define NB_MODIFYING 0x4u
#define NB_ALL 0x7u

/* Bytes of one record. */
#define CHAN_BYTES 364u
#define LIST_BYTES 36u /* and 8 for each qword */
#define TL_BYTES 64u
#define ENTRY_BYTES 84u
#define DUE_BYTES 5u

#define QWORDS_MAX 8191u /* range_bytes has 16 bits, [CTL-GPADL] */
#define COUNTERS 12u	 /* the first so many of vmbus_srv_stats are counters, others are "now" */

_Static_assert(K_OFFER == 0 && K_RESERVED_CLOSED == 4 && K_OPEN == 5 && K_RELEASED == 8 &&
		       K_CREATED == 9 && K_TORNDOWN == 10 && K_ASK == 11 && K_DOWN == 12 &&
		       K_VERSION == 13 && K_CONN_MODIFIED == 17 && K_CONNECTED == 18 &&
		       K_CONN_MODIFY == 20 && K_TL_ASK == 21 && K_TL_RESULT == 22 &&
		       K_ENTRY == 23 && K_KINDS == 24,
	       "kinds are numbers of the format");
_Static_assert(L_UNFINISHED == 1 && L_OFFERED == 2 && L_OFFERED_DROP == 3 && L_ACCEPTED == 4 &&
		       L_HELD == 5 && L_DOWN == 6 && L_DONE == 7 && L_STATES == 8,
	       "states of page lists are numbers of the format");
_Static_assert(CONN_OFF == 0 && CONN_ON == 1 && CONN_READY == 3 && CONN_UNLOADING == 5 &&
		       CONN_RESETTING == 7 && CONN_STATES == 8,
	       "states of the connection are numbers of the format");
_Static_assert(VMBUS_SRV_RELEASING == 12 && VMBUS_SRV_STATES == 13 && VMBUS_SRV_FORGET == 2,
	       "states of channels are numbers of the format");

/* srv_restore_check.c: whether what was read can be. */
struct srv_restore {
	struct vmbus_srv *srv;
	const char *why; /* the first thing that is wrong */
};
int vmbus__srv_wrong(struct srv_restore *r, int err, const char *why);
int vmbus__srv_restore_check(struct srv_restore *r);

#endif
