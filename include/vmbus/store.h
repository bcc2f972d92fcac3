/* SPDX-License-Identifier: MIT */
/*
 * Block stores: where the bytes of a disk are.  A store is a small table of functions and a context;
 * the disk above it speaks SCSI, and knows nothing of files and sockets, nor the store of VMBus.
 *
 * Concepts, a whole store, which ones there are: vmbus_store(7).
 */
#ifndef VMBUS_STORE_H
#define VMBUS_STORE_H

#include <vmbus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct iovec; /* <sys/uio.h> */

#define VMBUS_STORE_READ_ONLY 1u /* writes end with VMBUS_IO_READ_ONLY */
#define VMBUS_STORE_ROTATES 2u	 /* for the guest to know: seeks take time */
#define VMBUS_STORE_ZEROES 4u	 /* what was discarded reads as zeroes, to the last byte */
#define VMBUS_STORE_FUA 8u	 /* write() honours VMBUS_IO_FUA; else a flush follows */
#define VMBUS_STORE_VOLATILE 16u /* a write may be lost until flush() is done: power loss */
#define VMBUS_STORE_BYTES_MAX (UINT64_C(1) << 62)

/* What a store tells of itself; asked again after vmbus_block_resized(). */
struct vmbus_store_info {
	uint64_t bytes;	      /* 1 to VMBUS_STORE_BYTES_MAX; what is no whole sector is not seen */
	uint32_t flags;	      /* VMBUS_STORE_* */
	uint32_t block_bytes; /* that it works on best, a power of two; 0: the sector */
	uint32_t discard_bytes; /* granularity of discard, a power of two; 0: the sector */
	/* Of offsets and lengths: a power of two up to 4096, and up to the sector; 0: 1.  Memory may
	   be aligned in any way. */
	uint32_t align_bytes;
	uint64_t reserved[4];
};

/* How a request ended. */
enum vmbus_io_end {
	VMBUS_IO_OK = 0,
	VMBUS_IO_MEDIUM = 1,	/* some byte cannot be read or written: set bad_offset */
	VMBUS_IO_SPACE = 2,	/* no room is left where the store keeps its bytes */
	VMBUS_IO_READ_ONLY = 3, /* or no right to write */
	VMBUS_IO_GONE = 4,	/* what the store stands on is gone, or made no sense */
	VMBUS_IO_BUSY = 5	/* not now: the guest asks again */
};

#define VMBUS_IO_FUA 1u		/* write: done when it is durable */
#define VMBUS_IO_MAY_DISCARD 2u /* zero: the space may be given back */

/*
 * One request of a store: its offset and bytes lie within the size that info() told, and are
 * multiples of the disk's sector.  It is the store's from the call until vmbus_io_done().
 */
struct vmbus_io {
	struct vmbus_store_queue *queue;
	uint64_t offset;
	uint64_t bytes;		 /* read, write: the sum of iov */
	const struct iovec *iov; /* read, write; the guest may change these bytes at any time */
	uint32_t iov_count;
	uint32_t flags;	     /* VMBUS_IO_* */
	uint64_t bad_offset; /* the store's: with MEDIUM, the first byte that failed */
	uint64_t store[6];   /* the store's own, while the request is its */
	void (*done_p)(struct vmbus_io *io, enum vmbus_io_end end);
	void *user_p;
	uint64_t reserved_p[4];
};

/*
 * What one channel of a disk uses the store by.  All calls for a queue come from one thread at a
 * time; different queues of a store come from different threads at the same time.
 */
struct vmbus_store_queue {
	void *ctx;  /* of the store */
	void *priv; /* the store's, set by open() */
	int fd;	    /* -1, or the store's, set by open(): readable when ready() is to be called */
	uint32_t depth; /* requests at once, at most */
	uint64_t reserved_p[4];
};

/*
 * A store.  info, read and, unless it is read-only, write are mandatory; NULL stands for what the
 * store does not have.  read to zero may call vmbus_io_done() before they return.
 */
struct vmbus_store_ops {
	size_t struct_bytes; /* sizeof(struct vmbus_store_ops) */
	const char *name;    /* for messages, for instance "memory" */
	/* 0, or an error: it cannot be used, or not any more.  Any thread. */
	int (*info)(void *ctx, struct vmbus_store_info *info);
	/* A channel begins, ends to use it.  At the begin fd is -1 and priv NULL; at the end no
	   request is under way.  open: 0, or an error, and then nothing was kept. */
	int (*open)(struct vmbus_store_queue *queue);
	void (*close)(struct vmbus_store_queue *queue);
	void (*read)(struct vmbus_io *io);
	void (*write)(struct vmbus_io *io);
	/* What was done before is durable when this is done.  NULL: it always is; with
	   VMBUS_STORE_VOLATILE: only what was written with VMBUS_IO_FUA is. */
	void (*flush)(struct vmbus_io *io);
	/* The bytes may be forgotten.  NULL: the guest is told that there is no discard. */
	void (*discard)(struct vmbus_io *io);
	/* The bytes become zero.  NULL: zeroes are written. */
	void (*zero)(struct vmbus_io *io);
	/* No more requests come for now: begin with those that were only gathered.  NULL: none are. */
	void (*commit)(struct vmbus_store_queue *queue);
	/* The descriptor is readable, or may be; also when it is not: call vmbus_io_done() for what is
	   done, without waiting.  NULL: no descriptor. */
	void (*ready)(struct vmbus_store_queue *queue);
	/* From vmbus_store_destroy(). */
	void (*destroy)(void *ctx);
	/* The channel is closed and has waited long enough: end what is under way with GONE as soon as
	   nothing of the guest's memory is touched afterwards; what cannot be ended goes on.  Again
	   while something is.  NULL: it is waited for. */
	void (*cancel)(struct vmbus_store_queue *queue);
	void *reserved_p[3];
};

/* A store: small, copied. */
struct vmbus_store {
	const struct vmbus_store_ops *ops;
	void *ctx;
};

/*
 * A request of a store's has ended.  Once for each.
 *
 * end	how; with MEDIUM io->bad_offset was set.
 *
 * Effect: io is the disk's again; it may come back with another request before this returns.
 * Threads: the one that called read() to zero(), commit(), ready() or cancel() of its queue, from
 *	    within such a call.
 */
VMBUS_API void vmbus_io_done(struct vmbus_io *io, enum vmbus_io_end end);

/*
 * Free what a call of this library put into a store.
 *
 * store  ops NULL: nothing happens.  No disk uses it.
 *
 * Effect: ops is NULL then.
 * Threads: any.
 */
VMBUS_API void vmbus_store_destroy(struct vmbus_store *store);

/*
 * A store in memory: a memfd, or another descriptor that can be mapped.
 *
 * bytes  1 to VMBUS_STORE_BYTES_MAX.
 * fd	  -1: memory of its own, zero at first; it is gone with the store.  Else memory of somebody
 *	  else's that stays when this process dies, of at least that size; a duplicate is kept.
 * store  set on success.
 *
 * Errors: RANGE   bytes, or fd is smaller
 *	   PERM    fd is not sealed against shrinking: the one who has it could kill us
 *	   NOMEM, SYSTEM  errno tells why
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_store_memory(uint64_t bytes, int fd, struct vmbus_store *store);

/*
 * A store that keeps nothing: reads leave the guest's memory as it is unless fill is set.  For
 * measuring.
 *
 * bytes  1 to VMBUS_STORE_BYTES_MAX.
 * fill	  reads give zeroes.
 *
 * Errors: RANGE, NOMEM
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_store_null(uint64_t bytes, bool fill, struct vmbus_store *store);

/* What vmbus_store_faulty() does to requests; set and read by any thread, at any time. */
struct vmbus_store_faults {
	uint64_t from;	/* requests that touch the bytes [from, from + bytes) end with end */
	uint64_t bytes; /* 0: none do */
	uint32_t ops;	/* 1 reads, 2 writes, 4 flushes, 8 discards and zeroes; the sum */
	uint32_t end;	/* enum vmbus_io_end */
	bool stall;	/* nothing of what comes is done until this is false again */
	bool drop; /* keep writes back until a flush, and lose them when the store is destroyed;
			   false again: they are written */
	bool cut;  /* lose them now; everything ends with GONE until this is false again */
	uint8_t reserved[5];
	uint64_t reserved2[3];
};

/*
 * A store before another one that fails, stalls and forgets as it is told: for tests.
 *
 * below  kept, and destroyed with this one.
 * store  set on success; may be below.
 *
 * Errors: INVAL  below is no store
 *	   NOMEM, and what its info() and open() returned
 * Effect: opens a queue of the store below; none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_store_faulty(const struct vmbus_store *below, struct vmbus_store *store);

/*
 * Tell it what to do from now on.
 *
 * store   made by vmbus_store_faulty().
 * faults  copied.
 *
 * Errors: INVAL   another store, or ops or end that do not exist
 *	   SYSTEM  what was kept back cannot be written: nothing has changed
 * Effect: requests that stalled go on, when stall is not set any more, or end, when cut is.
 * Threads: any.
 */
VMBUS_API int vmbus_store_faulty_set(const struct vmbus_store *store,
				     const struct vmbus_store_faults *faults);

#ifdef __cplusplus
}
#endif
#endif
