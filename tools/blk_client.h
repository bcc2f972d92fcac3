/* SPDX-License-Identifier: MIT */
/*
 * A disk of a parent's, as a client uses it: attached, connected, opened and looked at.  It may be on any
 * controller that the parent offers.
 */
#ifndef BLK_CLIENT_H
#define BLK_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vmbus/shm_bus.h>
#include <vmbus/storvsc.h>

struct blk_client_opts {
	const char *socket, *name;
	uint8_t target, lun;
	const char *serial; /* that the disk must have, or NULL */
	uint32_t channels;  /* wanted */
	uint32_t depth;	    /* of each */
	uint64_t memory_bytes;
	uint64_t timeout_ns;
	bool poll;				       /* rings are looked at without interrupts */
	void (*writable)(void *ctx, uint32_t channel); /* may be NULL */
	void (*log)(void *ctx, const char *line);
	void *ctx;
};

struct blk_client {
	struct blk_client_opts opts;
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	struct vmbus_storvsc storvsc;
	struct vmbus_storvsc_disk disk;
	uint32_t channels; /* that can be used */
	void *page;
	bool is_ready, is_probed, is_closed, started;
	int ready_err, probe_err;
	uint32_t turns;
};

/* 0, or -1 and a text; then there is nothing to close. */
int blk_client_open(struct blk_client *c, const struct blk_client_opts *opts, char *why,
		    size_t why_bytes);
/*
 * Wait for work, at most so long, and do it; with poll only look.  Returns what was done, or an error:
 * AGAIN nothing came; PEER the parent, or the device, is gone.
 */
int blk_client_turn(struct blk_client *c, uint64_t wait_ns);
void blk_client_close(struct blk_client *c);

#endif
