/* SPDX-License-Identifier: MIT */
/*
 * A block store behind an NBD server, by libnbd.  A component of its own (vmbus::nbd), built where
 * libnbd is.
 *
 * Concepts, what a kill means here: vmbus_store(7).
 */
#ifndef VMBUS_STORE_NBD_H
#define VMBUS_STORE_NBD_H

#include <vmbus/store.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Options; 0 takes the default in brackets. */
struct vmbus_store_nbd_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_store_nbd_opts) */
	const char *uri;     /* nbd://, nbds://, nbd+unix:// as libnbd takes it */
	bool read_only;
	uint8_t reserved[7];
	uint64_t timeout_ns; /* [10 s] to connect */
	char *why;	     /* NULL, or where a text goes when it fails */
	size_t why_bytes;
	uint64_t reserved2[4];
};

/*
 * Connect.  Each queue has a connection of its own where the server allows several, else all share
 * one and take turns.
 *
 * opts	  copied.
 * store  set on success; the caller's to destroy.
 *
 * Errors: INVAL   struct_bytes is too small, or no uri, or one that libnbd does not understand
 *	   AGAIN   no answer in time
 *	   NOTSUP  the export is empty, wants blocks of more than 4096 bytes, or takes fewer at once
 *	   PERM    the export is read-only, and read_only is not set
 *	   NOMEM, SYSTEM  errno tells why, and the text
 * Effect: none on error.
 * Threads: any; blocks.
 */
VMBUS_API int vmbus_store_nbd(const struct vmbus_store_nbd_opts *opts, struct vmbus_store *store);

#ifdef __cplusplus
}
#endif
#endif
