/* SPDX-License-Identifier: MIT */
/*
 * A network port that is a NIC of another parent's: frames go to it through a client (NetVSC) over
 * shared memory, for instance to vmbus-switch(1).  Hosted: in vmbus::vmbus.
 *
 * Concepts: vmbus_port(7).  Which system calls it makes: vmbus_port_uplink(3).
 */
#ifndef VMBUS_PORT_UPLINK_H
#define VMBUS_PORT_UPLINK_H

#include <vmbus/port.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Options; 0 takes the default in brackets. */
struct vmbus_port_uplink_opts {
	size_t struct_bytes;   /* sizeof(struct vmbus_port_uplink_opts) */
	const char *path;      /* of the parent's socket, 1 to 107 bytes */
	const char *name;      /* that we give ourselves, for the parent's messages; may be NULL */
	uint32_t nic;	       /* of those that the parent offers, from 0 on */
	uint32_t buffer_bytes; /* [4 MiB] of frames on each way, 256 KiB to 15 MiB */
	uint64_t timeout_ns;   /* [5 s] for the parent's answers */
	/* The link went up or down, or the parent is gone: for vmbus_net_port_changed().  From the
	   thread of the queue.  May be NULL. */
	void (*changed)(void *ctx);
	/* A line of text, at most ten a second.  May be NULL. */
	void (*log)(void *ctx, const char *line);
	void *ctx;
	char *why; /* NULL, or where a text goes when it fails */
	size_t why_bytes;
	uint64_t reserved[4];
};

/*
 * Attach to the parent, and open its NIC.  Waits for both.  The port has one queue; when the parent has
 * ended it has no link any more, and drops what it is given.
 *
 * opts	 copied.
 * port	 set on success; the caller's to destroy.
 *
 * Errors: INVAL   struct_bytes is too small, or no path
 *	   RANGE   buffer_bytes; the path is too long; the parent offers no such NIC
 *	   AGAIN   no answer in time
 *	   PEER    the parent refused, or made no sense
 *	   and those of vmbus_shm_attach() and vmbus_netvsc_start()
 * Effect: none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_port_uplink(const struct vmbus_port_uplink_opts *opts, struct vmbus_port *port);

#ifdef __cplusplus
}
#endif
#endif
