/* SPDX-License-Identifier: MIT */
/*
 * Capture a channel of a parent that listens on a socket, if it allows that: what passes through
 * the channel is read in this process, record by record.
 *
 * Concepts, and what records say: vmbus_capture(7).  Hosted: in vmbus::vmbus.
 */
#ifndef VMBUS_SHM_CAPTURE_H
#define VMBUS_SHM_CAPTURE_H

#include <vmbus/capture.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_shm_capture; /* opaque */

/* Options of vmbus_shm_capture_begin(); 0 takes the default in brackets. */
struct vmbus_shm_capture_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_shm_capture_opts) */
	const char *path;    /* of the parent's socket, 1 to 107 bytes */
	const char *child;   /* NULL: any; its name, up to 63 bytes */
	int32_t pid;	     /* [any] of the child */
	uint32_t relid;	     /* of the channel */
	uint32_t snap;	     /* [262144] bytes kept of each packet */
	uint32_t bytes;	     /* [1 MiB] of memory between the parent and us, 64 KiB to 16 MiB */
	uint64_t timeout_ns; /* [5 s] for the parent's answer */
	char *why;	     /* NULL, or where a text for people goes on error */
	size_t why_bytes;    /* size of why; 120 is always enough */
	uint64_t reserved[2];
};

/*
 * Begin to capture a channel.  Waits for the parent's answer.
 *
 * opts	    not kept.
 * capture  ended by vmbus_shm_capture_end().  NULL on error.
 *
 * Errors: INVAL   opts was not set up, has no path, or child is too long
 *	   RANGE   the path is too long; there is no such channel; snap or bytes is out of bounds
 *	   PERM    we may not use the socket, or the parent does not allow it
 *	   FULL    the channel is captured already, or as many as the parent allows
 *	   AGAIN   no answer in time
 *	   NOTSUP  the parent speaks another version of the socket protocol, or knows no captures
 *	   PEER    the answer makes no sense
 *	   NOMEM, SYSTEM  a system call failed, here (errno tells why) or in the parent
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_capture_begin(const struct vmbus_shm_capture_opts *opts,
				      struct vmbus_shm_capture **capture);

/*
 * The descriptor that is readable when there may be records, once vmbus_shm_capture_next() has
 * said 0: an epoll set, which the capture owns.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_capture_fd(const struct vmbus_shm_capture *capture);

/*
 * The next record.
 *
 * record  on success; data is valid until the next call.
 *
 * Returns 1 with a record, 0 when there is none now.
 * Errors: STATE  the channel, or the bus's permission, has ended; everything was read
 *	   PEER	  the parent is gone, and everything was read; or its memory makes no sense
 *	   FAULT  it made no sense before
 * Effect: none but on the capture.
 * Threads: one at a time per capture.
 */
VMBUS_API int vmbus_shm_capture_next(struct vmbus_shm_capture *capture,
				     struct vmbus_capture_record *record);

/*
 * Wait until there may be records, after vmbus_shm_capture_next() has said 0.
 *
 * timeout_ns  longest wait in nanoseconds; 0 only looks.
 *
 * Errors: AGAIN   nothing came in that time, or a signal handler ran
 *	   SYSTEM  the wait failed; errno tells why
 * Effect: none.
 * Threads: one at a time per capture.
 */
VMBUS_API int vmbus_shm_capture_wait(struct vmbus_shm_capture *capture, uint64_t timeout_ns);

/*
 * What the parent has counted so far.
 *
 * Effect: none.
 * Threads: one at a time per capture.
 */
VMBUS_API void vmbus_shm_capture_counts(const struct vmbus_shm_capture *capture,
					struct vmbus_tap_counts *counts);

/*
 * End a capture; the parent notices.
 *
 * capture  NULL is allowed.
 *
 * Effect: what was not read is lost.
 * Threads: none other may be in a call on it.
 */
VMBUS_API void vmbus_shm_capture_end(struct vmbus_shm_capture *capture);

#ifdef __cplusplus
}
#endif
#endif
