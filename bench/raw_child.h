/* SPDX-License-Identifier: MIT */
/*
 * A child without the library's guest: it says to its parent whatever it is told to, at the level of
 * the socket, the shared pages and the control messages.  For hostile ones.
 */
#ifndef BENCH_RAW_CHILD_H
#define BENCH_RAW_CHILD_H

#include "bench.h"

#include <vmbus/ctl.h>
#include <vmbus/hypercall.h>

struct raw_child {
	int sock, memfd, bell, listener;
	uint8_t *map;
	uint64_t bytes;
	uint32_t flags_page, first_vp, heap;
	struct vmbus_hcbox_child box;
	uint32_t version; /* of the messages that it sends, 0 before contact */
};

/* Attach with so much memory.  0, or -1. */
int raw_attach(struct raw_child *rc, const char *path, uint64_t bytes);

/* As a process that dies: no word of farewell. */
void raw_die(struct raw_child *rc);

/* Raise event flags for the parent, the bits of one word of 64, and ring. */
void raw_flags(struct raw_child *rc, uint32_t word, uint64_t bits);

/* Post a control message; returns the status of the hypercall, or -1 when the parent is silent. */
int raw_post(struct raw_child *rc, const struct vmbus_ctl *ctl);

/* Take the parent's next message, waiting so long.  Returns its type, 0 for none. */
uint32_t raw_take(struct raw_child *rc, struct vmbus_ctl *ctl, uint64_t ns);

/* Contact, version 5.3, and ask for offers; returns the relid of the first one, 0 for none. */
uint32_t raw_connect(struct raw_child *rc);

/* Describe pages of the heap from `first` on.  As raw_post(). */
int raw_gpadl(struct raw_child *rc, uint32_t relid, uint32_t gpadl, uint32_t first, uint32_t pages);

#endif
