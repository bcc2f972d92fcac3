/* SPDX-License-Identifier: MIT */
/*
 * The block device's provider (StorVSP): a SCSI controller with disks, each on a store.
 *
 * Concepts, what guests ask for, limits, survival of a kill: vmbus_block(7).
 */
#ifndef VMBUS_BLOCK_H
#define VMBUS_BLOCK_H

#include <vmbus/ctl.h>
#include <vmbus/store.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_vsp;
struct vmbus_block; /* a controller; opaque */

#define VMBUS_BLOCK_TARGETS_MAX 2u /* on path 0, the only one */
#define VMBUS_BLOCK_LUNS_MAX 256u  /* of each target */

/* Options of a controller; 0 takes the default in brackets. */
struct vmbus_block_opts {
	size_t struct_bytes;  /* sizeof(struct vmbus_block_opts) */
	uint32_t subchannels; /* that a guest may ask for, up to 64 */
	uint32_t depth;	      /* [256] requests of one disk at once on one channel, up to 1024: what
				     is above it is told TASK SET FULL */
	uint32_t requests;    /* [1024] at once on one channel, up to 4096: above it BUSY */
	uint32_t transfer_bytes; /* [1 MiB] of one request, a multiple of 4096, up to 8 MiB */
	/* A line of text, at most ten a second; also from create, add and resized: why they refuse.
	   May be NULL. */
	void (*log)(void *ctx, const char *line);
	/* A disk that was removed is used no more; the store may be destroyed.  On any thread.  Its
	   address is free when this has returned. */
	void (*removed)(void *ctx, uint8_t target, uint8_t lun, const struct vmbus_store *store);
	void *ctx;
	/* Of the controller, the same at each start: it is in the ids that are made for disks.  All zero:
	   disks without id and serial look like those of other controllers at the same address. */
	struct vmbus_guid id;
	uint64_t reserved[2];
};

/* A disk; 0 takes the default in brackets. */
struct vmbus_block_disk {
	size_t struct_bytes; /* sizeof(struct vmbus_block_disk) */
	struct vmbus_store store;
	uint8_t target;
	uint8_t lun;
	bool read_only;
	bool write_through; /* tell the guest of no cache: every write is durable when it is done */
	uint32_t sector;    /* [512] bytes, or 4096 */
	struct vmbus_guid id; /* page 83; all zero: of the controller's, serial, target, lun */
	const char *serial;   /* page 80; up to 32 printable characters; NULL: none */
	const char *vendor;   /* ["Msft"] up to 8 characters */
	const char *product;  /* ["Virtual Disk"] up to 16 */
	const char *revision; /* ["1.0"] up to 4 */
	uint64_t reserved[4];
};

/* Counters of a disk since it was added. */
struct vmbus_block_stats {
	uint64_t reads, writes, flushes, discards; /* requests that ended well */
	uint64_t read_bytes, written_bytes, discarded_bytes;
	uint64_t others;    /* further SCSI commands */
	uint64_t failed;    /* that ended with CHECK CONDITION */
	uint64_t refused;   /* TASK SET FULL and BUSY */
	uint64_t bytes;	    /* size of the disk now */
	uint32_t in_flight; /* now */
	uint32_t reserved1;
	uint64_t reserved[4];
};

/*
 * Make a controller.
 *
 * opts	  copied; NULL: all defaults.
 * block  on success.
 *
 * Errors: INVAL  struct_bytes is too small
 *	   RANGE  a number is past its limit
 *	   NOMEM, SYSTEM
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_block_create(const struct vmbus_block_opts *opts, struct vmbus_block **block);

/*
 * End it.
 *
 * block  NULL is allowed.  Every channel that was offered with it is gone.
 *
 * Effect: removed() for each disk that is left.
 * Threads: none other in a call on it.
 */
VMBUS_API void vmbus_block_destroy(struct vmbus_block *block);

/*
 * The provider, for vmbus_bus_offer() and vmbus_provider_attach(); its context is a controller.
 * Several guests may be offered the same: they share its disks.  Channels with own_fd may be dispatched
 * by any threads.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const struct vmbus_vsp *vmbus_block_vsp(void);

/*
 * Add a disk, also while guests use the controller: they are told to look.
 *
 * disk	 copied; the store stays until removed().
 *
 * Errors: INVAL  struct_bytes, no store, a store that lacks what is mandatory or tells of sizes that
 *		  are no powers of two, a text that is not printable
 *	   RANGE  target, lun, sector, a text that is too long; a store of no whole sector
 *	   STATE  there is one at that address, or its removal is not over: removed() has not
 *		  returned
 *	   NOMEM, and what the store's info() returned
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_block_add(struct vmbus_block *block, const struct vmbus_block_disk *disk);

/*
 * Remove a disk, also under load: what comes from now on is told that there is none, what is under
 * way ends.
 *
 * Errors: RANGE  there is no such disk
 * Effect: removed() follows, before or after this returns.
 * Threads: any.
 */
VMBUS_API int vmbus_block_remove(struct vmbus_block *block, uint8_t target, uint8_t lun);

/*
 * The store's size, or what else info() tells, has changed: the guest is told to look.
 *
 * Errors: RANGE  there is no such disk; the store has no whole sector
 *	   INVAL  it tells of sizes that are no powers of two
 *	   NOMEM, and what the store's info() returned
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_block_resized(struct vmbus_block *block, uint8_t target, uint8_t lun);

/*
 * Read a disk's counters.
 *
 * Errors: RANGE  there is no such disk
 * Effect: none but on stats.
 * Threads: any.
 */
VMBUS_API int vmbus_block_stats(const struct vmbus_block *block, uint8_t target, uint8_t lun,
				struct vmbus_block_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
