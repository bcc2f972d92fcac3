/* SPDX-License-Identifier: MIT */
/*
 * What the two files of the pool share.  A worker is one thread with the channels that it alone
 * dispatches.  Other threads reach it by commands only, which it takes between two turns: so who
 * waits for a command's answer knows that the thread is in no channel.
 */
#ifndef VMBUS_POOL_POOL_H
#define VMBUS_POOL_POOL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include <vmbus/pool.h>

#include "base/atomic.h"

#define VMBUS__POOL_HOT 8u /* channels that one worker looks at while it spins */

/* A channel in the pool.  Its worker's, but for the link of the registry. */
struct vmbus__pool_entry {
	struct vmbus_chan *chan;
	int fd;
	bool ready;			    /* in the queue */
	bool leaving;			    /* under the lock: a removal is under way */
	struct vmbus__pool_entry *queue;    /* next one of the queue */
	struct vmbus__pool_entry *registry; /* next one of the pool */
	struct vmbus__pool_worker *worker;  /* under the lock: NULL until it knows the channel */
};

enum vmbus__pool_op {
	VMBUS__POOL_ADD,
	VMBUS__POOL_REMOVE,
	VMBUS__POOL_STOP
};

/* On the stack of who waits for it. */
struct vmbus__pool_cmd {
	enum vmbus__pool_op op;
	struct vmbus__pool_entry *entry;
	int err;
	bool done;
	struct vmbus__pool_cmd *next;
};

struct vmbus__pool_worker {
	struct vmbus_pool *pool;
	pthread_t thread;
	int epoll_fd;
	int wake_fd;

	/* The thread's own. */
	struct vmbus__pool_entry *queue, *tail; /* channels that may have work */
	struct vmbus__pool_entry
		*hot[VMBUS__POOL_HOT]; /* those that had some since the last sleep */
	uint32_t hot_count;
	uint32_t mine;	   /* channels, as the thread knows */
	uint32_t next_hot; /* whose turn it is among them */
	uint32_t turns;
	uint64_t spin_ns; /* how long the next spin is */
	bool stop;

	/* Under the pool's lock; who counts may read without it. */
	vmbus__a64 channels;
	struct vmbus__pool_cmd *cmds;

	vmbus__a32 mail; /* 1: look at the commands */
	vmbus__a64 dispatches, sleeps, spins_won;
};

struct vmbus_pool {
	struct vmbus_pool_opts opts;
	pthread_mutex_t lock;
	pthread_cond_t answered;
	struct vmbus__pool_entry *entries;
	uint32_t started; /* workers whose thread runs */
	struct vmbus__pool_worker *workers;
};

/* The thread of a worker. */
void *vmbus__pool_run(void *worker);
/* Whether the calling thread is one of a pool's. */
bool vmbus__pool_is_worker(void);

#endif
