/* SPDX-License-Identifier: MIT */
/*
 * What anybody may ask a parent over its socket: children and channels, their state, flight records.
 *
 * Concepts: vmbus_shm(7); the program on top: vmbusctl(1).
 */
#ifndef VMBUS_SHM_QUERY_H
#define VMBUS_SHM_QUERY_H

#include <vmbus/bus.h>
#include <vmbus/diag.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A child, as a listing tells of it. */
struct vmbus_shm_child_info {
	const char *name;
	int32_t pid;
	uint32_t vps;
	uint64_t memory_bytes;
	bool ending; /* it is gone, but devices are still closing */
	uint8_t reserved[7];
};

/* What to call for each line of a listing; either may be NULL. */
struct vmbus_shm_list_ops {
	size_t struct_bytes; /* sizeof(struct vmbus_shm_list_ops) */
	void (*child)(void *ctx, const struct vmbus_shm_child_info *info);
	/* A channel of the child told last.  Fault and ring statistics are not told: they are 0. */
	void (*channel)(void *ctx, const struct vmbus_chan_info *info);
};

/*
 * Ask a parent about its children and their channels, as vmbusctl(1) does.  Who may connect to the
 * socket may ask.  Names are the parent's words, made printable.
 *
 * path	       of the parent's socket, 1 to 107 bytes.
 * timeout_ns  for the whole listing; 0: 5 s.
 * ops, ctx    called back within the call; what info points to is valid for the callback.
 *
 * Returns the number of channels.
 * Errors: INVAL   ops was not set up
 *	   RANGE   path is empty or too long
 *	   AGAIN   no complete answer in time, or not taken in the parent's, 10 s
 *	   PEER    the answer makes no sense, or ends early
 *	   PERM    not allowed, or the parent refused
 *	   NOTSUP  the parent speaks another version of the socket protocol
 *	   NOMEM, SYSTEM  a system call failed; errno tells why
 * Effect: none but the callbacks; on error some may have been called.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_list(const char *path, uint64_t timeout_ns,
			     const struct vmbus_shm_list_ops *ops, void *ctx);

/* What to call for each line of vmbus_shm_diag(); either may be NULL. */
struct vmbus_shm_diag_ops {
	size_t struct_bytes; /* sizeof(struct vmbus_shm_diag_ops) */
	void (*bus)(void *ctx, const struct vmbus_shm_child_info *info,
		    const struct vmbus_bus_diag *diag);
	void (*channel)(void *ctx, const struct vmbus_chan_diag *diag); /* of the bus told last */
};

/*
 * Ask a parent how its children's buses and channels are, and those that were added by
 * vmbus_shm_server_add_bus(), as vmbusctl stat and doctor do.  Numbers and texts are the parent's
 * words; texts are made printable.
 *
 * path	       of the parent's socket, 1 to 107 bytes.
 * timeout_ns  for the whole answer; 0: 5 s.
 * ops, ctx    called back within the call; what arguments point to is valid for the callback.
 *
 * Returns the number of channels.
 * Errors: INVAL, RANGE, AGAIN, PEER, PERM, NOMEM, SYSTEM  as vmbus_shm_list()
 *	   NOTSUP  the parent is of an earlier version, or speaks another one of the protocol
 * Effect: none but the callbacks; on error some may have been called.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_diag(const char *path, uint64_t timeout_ns,
			     const struct vmbus_shm_diag_ops *ops, void *ctx);

/* A flight record, for vmbus_record_read(); NULL and 0 when the child has none. */
typedef void vmbus_shm_record_fn(void *ctx, const struct vmbus_shm_child_info *info,
				 const void *mem, size_t bytes);

/*
 * Ask a parent for the flight records of its children.
 *
 * fn	called for each child, within the call; what it points to is valid for the callback.
 *
 * Returns the number of children.
 * Errors: INVAL  fn is NULL
 *	   others as vmbus_shm_diag()
 * Effect: none but the callbacks; on error some may have been called.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_records(const char *path, uint64_t timeout_ns, vmbus_shm_record_fn *fn,
				void *ctx);

#ifdef __cplusplus
}
#endif
#endif
