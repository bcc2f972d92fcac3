/* SPDX-License-Identifier: MIT */
/*
 * What the files of the parent's end share: a component of one child, and the three together.
 *
 * Invariant of a component: at most one request is under way, waits says whether, and only an answer
 * with its transaction number and type is taken.
 */
#ifndef VMBUS_IC_VSP_H
#define VMBUS_IC_VSP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <vmbus/bus.h>
#include <vmbus/ic.h>

#include "ic/wire.h"

#define VMBUS__IC_PARTS 3u

enum vmbus__ic_state {
	VMBUS__IC_CLOSED = 0,
	VMBUS__IC_TO_ASK, /* open; the ring had no room for the negotiation */
	VMBUS__IC_ASKED,
	VMBUS__IC_IN_USE,
	VMBUS__IC_UNUSED /* no version in common */
};

struct vmbus__ic_part {
	struct vmbus_ic *ic;
	struct vmbus_chan *offered; /* NULL: not offered */
	struct vmbus_chan *chan;    /* while it is open */
	uint32_t component;	    /* VMBUS_IC_* */
	enum vmbus__ic_state state;
	bool waits;	     /* for an answer */
	bool lost;	     /* heartbeat: LOST was told, and nothing was heard since */
	bool synced;	     /* time: the clock need not be set; samples follow */
	bool resync;	     /* time: the clock is to be set once more, after the answer */
	uint8_t transaction; /* of the last request */
	uint16_t asked;	     /* its type */
	uint32_t framework;  /* agreed on */
	uint32_t message;
	uint32_t missing; /* answers in a row */
	uint64_t due;	  /* CLOCK_MONOTONIC, ns, of the next request; 0: none */
	uint64_t count;	  /* of requests */
	struct vmbus__ic_versions offers;
};

struct vmbus_ic {
	struct vmbus_bus *bus;
	struct vmbus_ic_opts opts;
	struct vmbus_ic_info info;
	struct vmbus__ic_part parts[VMBUS__IC_PARTS];
	int timer_fd;
	uint64_t timer_at; /* 0: not set */
};

/* vsp.c */
uint64_t vmbus__ic_now(void);
void vmbus__ic_tell(struct vmbus__ic_part *part, enum vmbus_ic_event event, uint64_t value);
void vmbus__ic_want(struct vmbus_ic *ic, uint64_t at); /* the timer at that time, or earlier */

/* vsp_state.c */
int vmbus__ic_save(struct vmbus_chan *chan, void *buf, size_t bytes);
int vmbus__ic_restore(struct vmbus_chan *chan, const void *buf, size_t bytes);

/* vsp_msg.c.  What sends returns 0, or an error of vmbus_chan_send(), and nothing was sent. */
int vmbus__ic_ask(struct vmbus__ic_part *part);
int vmbus__ic_send_shutdown(struct vmbus__ic_part *part, uint32_t flags, uint32_t timeout_s,
			    const char *text);
uint32_t vmbus__ic_due(struct vmbus__ic_part *part, uint64_t now);
void vmbus__ic_answer(struct vmbus__ic_part *part, const struct vmbus_packet *pkt);

#endif
