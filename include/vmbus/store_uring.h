/* SPDX-License-Identifier: MIT */
/*
 * A block store in a file or on a block device, by io_uring.  A component of its own (vmbus::uring),
 * built where liburing is.
 *
 * Concepts: vmbus_store(7).
 */
#ifndef VMBUS_STORE_URING_H
#define VMBUS_STORE_URING_H

#include <vmbus/store.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Options; 0 takes the default in brackets. */
struct vmbus_store_uring_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_store_uring_opts) */
	const char *path;    /* of a file or a block device; NULL: fd */
	int fd;		     /* instead of a path: a duplicate is kept; loses O_NONBLOCK; one that
				has O_DIRECT is direct */
	bool read_only;
	bool direct; /* O_DIRECT: past the page cache */
	bool sparse; /* discards and zeroes give space back */
	bool reserved;
	uint32_t entries; /* [256] of each queue's rings, a power of two up to 4096 */
	uint32_t busy_ns; /* [0] look for completions that long before the thread goes on */
	uint64_t reserved2[4];
};

/*
 * Open it.
 *
 * opts	  copied.
 * store  set on success; the caller's to destroy.
 *
 * Errors: INVAL   struct_bytes is too small, neither a path nor a descriptor, or one with O_APPEND
 *	   RANGE   entries; or it has no byte
 *	   NOTSUP  no file and no block device; no O_DIRECT there, or it wants to be aligned to more
 *		   than 4096 bytes; or this kernel has no io_uring
 *	   PERM    no right to it; or another store or process has it, for a second by now (not with
 *		   fd, which only must be open for reading and, unless read_only, for writing)
 *	   NOMEM, SYSTEM  errno tells why
 * Effect: with a path, a lock on the open file while the store, its queues and requests exist, and on
 *	   a block device O_EXCL too, unless read_only; none on error.
 * Threads: any; waits for the lock, up to a second.
 */
VMBUS_API int vmbus_store_uring(const struct vmbus_store_uring_opts *opts,
				struct vmbus_store *store);

#ifdef __cplusplus
}
#endif
#endif
