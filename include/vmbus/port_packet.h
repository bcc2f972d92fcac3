/* SPDX-License-Identifier: MIT */
/*
 * A network port on an interface of this machine, by a packet socket (AF_PACKET).  Hosted: in
 * vmbus::vmbus.
 *
 * Concepts: vmbus_port(7).  Which system calls it makes, what the interface does by itself:
 * vmbus_port_packet(3).
 */
#ifndef VMBUS_PORT_PACKET_H
#define VMBUS_PORT_PACKET_H

#include <vmbus/port.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_PORT_PACKET_NO_PROMISC 1u /* only what the interface takes by itself */
#define VMBUS_PORT_PACKET_NO_OFFLOAD 2u /* frames are cut and summed before they are given to it */
#define VMBUS_PORT_PACKET_NO_QUEUE 4u	/* past the interface's queueing discipline */

/* Options; 0 takes the default in brackets. */
struct vmbus_port_packet_opts {
	size_t struct_bytes;   /* sizeof(struct vmbus_port_packet_opts) */
	const char *interface; /* its name, up to 15 bytes; an Ethernet interface */
	uint32_t flags;	       /* VMBUS_PORT_PACKET_* */
	uint32_t buffer_bytes; /* [4 MiB] of received frames that wait, 64 KiB to 64 MiB */
	char *why;	       /* NULL, or where a text goes when it fails */
	size_t why_bytes;
	uint64_t reserved[4];
};

/*
 * Open one.  The interface's other users go on; what this machine itself sends there is not seen.
 *
 * opts	 copied.
 * port	 set on success; the caller's to destroy.
 *
 * Errors: INVAL   struct_bytes is too small, no name, or one that is too long; flags that do not exist
 *	   RANGE   buffer_bytes
 *	   PERM    no right to use packet sockets (CAP_NET_RAW)
 *	   NOTSUP  no such interface, or not an Ethernet one; the kernel has no packet sockets
 *	   NOMEM, SYSTEM  errno tells why, and the text
 * Effect: without NO_PROMISC the interface is promiscuous as long as the port is there; none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_port_packet(const struct vmbus_port_packet_opts *opts, struct vmbus_port *port);

#ifdef __cplusplus
}
#endif
#endif
