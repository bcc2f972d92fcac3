/* SPDX-License-Identifier: MIT */
/* A child of vmbus-bench soak: one client for each device that it was offered. */
#ifndef BENCH_SOAK_CHILD_H
#define BENCH_SOAK_CHILD_H

#include "soak.h"

#include <vmbus/echo.h>
#include <vmbus/netvsc.h>
#include <vmbus/storvsc.h>
#include <vmbus/vmbus.h>

#define CHILD_IO_BYTES 4096u
#define CHILD_RETRIES 50u

struct child;

/* A device, whether it is there or not.  One request at a time. */
struct client {
	struct child *child;
	enum soak_series series;
	struct vmbus_vsc *vsc; /* NULL: not offered */
	bool begun;	       /* opened, and closed() did not come yet */
	bool usable, busy;
	uint64_t from_ns; /* of the request */
	uint64_t number;  /* of requests begun */
	uint64_t until;	  /* number at which the channel is closed and opened again */
};

struct block_client {
	struct client c;
	struct vmbus_storvsc storvsc;
	struct vmbus_storvsc_disk disk, second;
	struct vmbus_storvsc_req req;
	struct vmbus_storvsc_piece piece;
	uint8_t *buf, *page;
	bool look, looking, has_second, stopping;
	bool written; /* the sector has what number says */
	uint32_t retries;
	uint64_t sector;
};

struct net_client {
	struct client c;
	struct vmbus_netvsc nv;
	struct vmbus_netvsc_chan chan;
	struct vmbus_netvsc_burst burst;
	bool stopping;
};

struct child {
	struct soak_shared *shared;
	struct soak_seat *mine;
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	uint32_t seat;
	uint64_t random;
	struct client echo[2];
	struct block_client block[3];
	struct net_client net[2];
	struct client *all[SOAK_DEVICES];
};

/* A request ended well, from_ns ago. */
void child_done(struct client *c);

/* Each turn: begin what is to be begun; and the channel has gone. */
void child_block_turn(struct block_client *b);
void child_net_turn(struct net_client *n);

#endif
