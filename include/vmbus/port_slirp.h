/* SPDX-License-Identifier: MIT */
/*
 * A network port on the user-mode network of libslirp: DHCP, DNS, TCP, UDP and ping through the sockets
 * of this process, without a privilege.  A component of its own (vmbus::slirp), built where libslirp is.
 *
 * Concepts: vmbus_port(7).  The guest's addresses, which system calls it makes: vmbus_port_slirp(3).
 */
#ifndef VMBUS_PORT_SLIRP_H
#define VMBUS_PORT_SLIRP_H

#include <vmbus/port.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_PORT_SLIRP_RESTRICTED 1u	/* nothing leaves but what hostfwd began */
#define VMBUS_PORT_SLIRP_NO_LOOPBACK 2u /* the guest does not reach this machine's 127.0.0.1 */
#define VMBUS_PORT_SLIRP_NO_IPV6 4u
#define VMBUS_PORT_SLIRP_NO_DHCP 8u
#define VMBUS_PORT_SLIRP_NO_DNS 16u
#define VMBUS_PORT_SLIRP_FORWARDS_MAX 64u

/* Options; 0 takes the default in brackets. */
struct vmbus_port_slirp_opts {
	size_t struct_bytes; /* sizeof(struct vmbus_port_slirp_opts) */
	uint32_t flags;	     /* VMBUS_PORT_SLIRP_* */
	uint32_t mtu;	     /* [1500] of the guest, 576 to 65521 */
	/* [10.0.2.0/24] the guest's network, /8 to /28.  Address 2 in it is this machine, 3 the name
	   server; the first guest gets 15, or 4 in /28. */
	const char *network;
	const char *hostname; /* NULL, or what DHCP tells */
	const char *domain;   /* NULL, or what DHCP tells */
	/* Ports of this machine that lead into the guest: "tcp:[HOST]:PORT-[GUEST]:PORT", or udp.  No
	   HOST is 127.0.0.1, no GUEST the first guest. */
	const char *const *hostfwd;
	uint32_t hostfwds; /* up to VMBUS_PORT_SLIRP_FORWARDS_MAX */
	/* [256] sockets at once, 16 to 4096: beyond, what would make another one is dropped. */
	uint32_t sockets_max;
	char *why; /* NULL, or where a text goes when it fails */
	size_t why_bytes;
	uint64_t reserved[4];
};

/*
 * Make one.
 *
 * opts	 copied.
 * port	 set on success; the caller's to destroy.
 *
 * Errors: INVAL   struct_bytes is too small; flags that do not exist; network or a hostfwd makes no sense
 *	   RANGE   mtu, hostfwds, sockets_max
 *	   STATE   a port of hostfwd is in use
 *	   PERM    a port of hostfwd that this user may not have
 *	   NOMEM, SYSTEM  errno tells why, and the text
 * Effect: ports of hostfwd are listened to; none on error.
 * Threads: any.
 */
VMBUS_API int vmbus_port_slirp(const struct vmbus_port_slirp_opts *opts, struct vmbus_port *port);

#ifdef __cplusplus
}
#endif
#endif
