/* SPDX-License-Identifier: MIT */
/*
 * Threads for those who want them: a pool that dispatches channels with own_fd.  A component of its
 * own (vmbus::pool); the library itself starts no thread.
 *
 * Concepts, and how long its threads spin: vmbus_pool(7).
 */
#ifndef VMBUS_POOL_H
#define VMBUS_POOL_H

#include <vmbus/bus.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_pool; /* opaque */

#define VMBUS_POOL_THREADS_MAX 256u
#define VMBUS_POOL_SPIN_NS_MAX 1000000000u

struct vmbus_pool_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_pool_opts) */
	uint32_t threads;    /* 1 to VMBUS_POOL_THREADS_MAX */
	uint32_t budget;     /* packets of one channel before the next has its turn; 0: 256 */
	uint64_t spin_ns;    /* longest spin before sleeping, to VMBUS_POOL_SPIN_NS_MAX; 0: none */
	bool pin;	     /* keep each thread on a processor of its own */
	bool on_node;	     /* use the processors of one NUMA node only: the rings' memory's */
	uint8_t reserved[2];
	uint32_t node; /* with on_node */
	uint64_t reserved2[4];
};

/* Counters since the pool was made. */
struct vmbus_pool_stats {
	uint64_t channels;   /* in the pool now */
	uint64_t dispatches; /* turns of channels */
	uint64_t sleeps;     /* threads that went to sleep in the kernel */
	uint64_t spins_won;  /* work came while spinning */
	uint64_t reserved[4];
};

/*
 * Start a pool of threads.
 *
 * opts  copied.  Zero it first.
 * pool  on success, the pool.
 *
 * Errors: INVAL   opts is NULL, or struct_bytes is too small
 *	   RANGE   a number is past its limit; more threads than processors with pin; no such node
 *	   NOTSUP  on_node, and this system has no NUMA interface
 *	   NOMEM, SYSTEM  no memory; no descriptor or thread
 * Effect: threads run, with all signals blocked but SIGSYS, and sleep.
 * Threads: any.
 */
VMBUS_API int vmbus_pool_create(const struct vmbus_pool_opts *opts, struct vmbus_pool **pool);

/*
 * End the threads and free the pool.
 *
 * pool  NULL is allowed.  Every channel must have been removed.
 *
 * Effect: waits for the threads; none of them is in a channel when it returns.
 * Threads: any but the pool's own; no other call on the pool may be under way.
 */
VMBUS_API void vmbus_pool_destroy(struct vmbus_pool *pool);

/*
 * Have a channel dispatched from now on, by the thread that has the fewest.
 *
 * chan  offered with own_fd, and dispatched by nobody else; stays until it is removed from the pool.
 *
 * Errors: INVAL  the channel has no descriptor: it was offered without own_fd
 *	   STATE  it is in the pool already, or this is a thread of a pool
 *	   NOMEM, SYSTEM  no memory; the kernel refused to watch the descriptor
 * Effect: callbacks of the channel come from the pool's thread; none on error.
 * Threads: any but a pool's own.  Blocks for one turn.
 */
VMBUS_API int vmbus_pool_add(struct vmbus_pool *pool, struct vmbus_chan *chan);

/*
 * Have a channel dispatched no longer.  When this returns, no thread of the pool is in the channel,
 * and none will touch it again.
 *
 * chan  as given to vmbus_pool_add(); it is not looked into, so this may be called from the bus's
 *	 removed().
 *
 * Errors: INVAL  it is not in the pool, or not any more: another removal was waited for
 *	   STATE  this is a thread of a pool
 * Effect: waits for the end of one turn, which is one dispatch with the pool's budget and so may be
 *	  several callbacks, and then perhaps for one more turn: afterwards the descriptor is
 *	  readable or the child will signal, so the next one may wait for it at once.
 * Threads: any but a pool's own.
 */
VMBUS_API int vmbus_pool_remove(struct vmbus_pool *pool, struct vmbus_chan *chan);

/*
 * Read the counters, summed over the threads.
 *
 * Effect: none but on stats.
 * Threads: any.
 */
VMBUS_API void vmbus_pool_stats(const struct vmbus_pool *pool, struct vmbus_pool_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
