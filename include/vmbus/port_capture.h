/* SPDX-License-Identifier: MIT */
/*
 * A network port before another one, which writes the frames that pass to a pcapng file.  Hosted: in
 * vmbus::vmbus.
 *
 * Concepts: vmbus_port(7); the file: vmbus_capture(7).
 */
#ifndef VMBUS_PORT_CAPTURE_H
#define VMBUS_PORT_CAPTURE_H

#include <vmbus/port.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Options; 0 takes the default in brackets. */
struct vmbus_port_capture_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_port_capture_opts) */
	/* Where the file goes, from where it stands on; a duplicate is kept.  What a pipe or socket does
	   not take at once waits in buffer_bytes, for the next call of the port or for its counts. */
	int fd;
	uint32_t snap;	       /* [65553] bytes kept of a frame, 60 to VMBUS_FRAME_BYTES_MAX */
	uint32_t buffer_bytes; /* [1 MiB] 256 KiB to 64 MiB */
	uint32_t reserved1;
	const char *name; /* NULL, or of the interface in the file, up to 63 printable characters */
	uint64_t reserved[4];
};

/* Counters, since it was made. */
struct vmbus_port_capture_counts {
	uint64_t frames;  /* in the file, or on the way to it */
	uint64_t dropped; /* not in the file: no room in the buffer, or the file took no more */
	uint64_t bytes;	  /* of the file */
	int error;	  /* 0, or the errno of the write() after which nothing more was written */
	uint32_t reserved1;
	uint64_t reserved[4];
};

/*
 * Put it before a port.
 *
 * opts	  copied.
 * below  kept, and destroyed with this one.
 * port	  set on success; may be below.
 *
 * Errors: INVAL  struct_bytes is too small, below is no port, fd is no descriptor, a name that is not
 *		  printable
 *	   RANGE  snap, buffer_bytes
 *	   NOMEM, SYSTEM  errno tells why
 * Effect: the head of the file is written, whose open file becomes non-blocking if it is a pipe or a
 *	   socket; none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_port_capture(const struct vmbus_port_capture_opts *opts,
				 const struct vmbus_port *below, struct vmbus_port *port);

/*
 * Read the counters.
 *
 * port	 made by vmbus_port_capture().
 *
 * Errors: INVAL  another port
 * Effect: what a pipe or socket did not take before is written, as much as it takes now.
 * Threads: any.
 */
VMBUS_API int vmbus_port_capture_counts(const struct vmbus_port *port,
					struct vmbus_port_capture_counts *counts);

#ifdef __cplusplus
}
#endif
#endif
