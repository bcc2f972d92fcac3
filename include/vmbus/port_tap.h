/* SPDX-License-Identifier: MIT */
/*
 * A network port on a TAP interface of Linux.  Hosted: in vmbus::vmbus.
 *
 * Concepts: vmbus_port(7).  Which system calls it makes, what the kernel does by itself:
 * vmbus_port_tap(3).
 */
#ifndef VMBUS_PORT_TAP_H
#define VMBUS_PORT_TAP_H

#include <vmbus/port.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_PORT_TAP_PERSIST 1u    /* the interface stays when the port is gone */
#define VMBUS_PORT_TAP_OWNER 2u	     /* owner is who may use it later on */
#define VMBUS_PORT_TAP_NO_OFFLOAD 4u /* the kernel gives and takes whole, summed frames only */

/* Options; 0 takes the default in brackets. */
struct vmbus_port_tap_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_port_tap_opts) */
	/* Of the interface, up to 15 bytes: one that is there is used, else it is made.  A name with
	   %d in it lets the kernel choose the number.  NULL with fd. */
	const char *name;
	/* NULL, or descriptors of /dev/net/tun that are attached to one TAP interface, with IFF_NO_PI,
	   which not every kernel lets us check; one for each queue.  Duplicates are kept; the open
	   files become non-blocking. */
	const int *fd;
	uint32_t queues; /* [1] up to VMBUS_PORT_QUEUES_MAX; with fd, how many those are */
	uint32_t flags;	 /* VMBUS_PORT_TAP_*; with fd only NO_OFFLOAD */
	uint32_t owner;	 /* a user's number */
	uint32_t reserved1;
	char *why; /* NULL, or where a text goes when it fails */
	size_t why_bytes;
	uint64_t reserved[4];
};

/*
 * Open one.
 *
 * opts	 copied.
 * port	 set on success; the caller's to destroy.
 *
 * Errors: INVAL   struct_bytes is too small; name and fd, or neither; flags that do not exist; a name
 *		   that is too long, or a descriptor that is no TAP's
 *	   RANGE   queues
 *	   PERM    not the owner of the interface, or not allowed to make one
 *	   NOTSUP  there is no /dev/net/tun
 *	   STATE   somebody else uses the interface, or it was made for another number of queues
 *	   NOMEM, SYSTEM  errno tells why, and the text
 * Effect: may make an interface, which is down until somebody sets it up; none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_port_tap(const struct vmbus_port_tap_opts *opts, struct vmbus_port *port);

/*
 * The name of its interface.
 *
 * port	 made by vmbus_port_tap().
 * name	 16 bytes, set.
 *
 * Errors: INVAL  another port
 * Effect: none but on name.
 * Threads: any.
 */
VMBUS_API int vmbus_port_tap_name(const struct vmbus_port *port, char name[16]);

#ifdef __cplusplus
}
#endif
#endif
