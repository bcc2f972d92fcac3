/* SPDX-License-Identifier: MIT */
/*
 * A parent and a child for vmbus-bench channel: a server with the bench's own device, and a client
 * that has it open.  Both are in one file with the subjects that run packets through them.
 */
#ifndef BENCH_CHAN_PAIR_H
#define BENCH_CHAN_PAIR_H

#include "limits.h"
#include "subject.h"

#include <vmbus/shm_bus.h>

/* Our subjects: the callback with an array of packets, and the helper with one at a time. */
extern const struct subject subject_channel;
extern const struct subject subject_channel_each;

#define PAIR_WAIT_NS 5000000000u /* for any one step */

/* A socket name that no other process uses. */
void pair_path(char *buf, size_t bytes);

/* The parent: offers count echo channels to each child. */
struct pair_server {
	struct vmbus_shm_server *server;
	struct vmbus_bus *bus; /* of the child that is attached */
	uint32_t count;
	uint32_t left; /* children that have come and gone */
};
int pair_listen(struct pair_server *ps, const char *path, uint32_t count);
/* The same for so many children. */
int pair_listen_many(struct pair_server *ps, const char *path, uint32_t count, uint32_t children);
void pair_unlisten(struct pair_server *ps);

/* The child: attached and connected.  0 or VMBUS_E_*. */
struct pair_client {
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
};
int pair_attach(struct pair_client *pc, const char *path, uint64_t memory_bytes);
/* Open the nth echo channel with rings of ring_bytes; answers go to completed. */
struct vmbus_vsc *pair_open(struct pair_client *pc, uint32_t nth, struct vmbus_vsc_opts *opts);

/*
 * Half a round trip through one channel, both sides asleep in between, as limit_eventfd() measures
 * it without a channel.
 */
int pair_wake(const struct cell *cell, const struct place *place, uint32_t us,
	      struct rtt_result *res);

#endif
