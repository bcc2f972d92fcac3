/* SPDX-License-Identifier: MIT */
/*
 * Parent restart: a parent of processes gives its children to another process, which serves on, so
 * that a new version can take the place of an old one.  The children see a pause.
 *
 * Concepts, the messages: vmbus_shm(7).  Hosted: in vmbus::vmbus.
 */
#ifndef VMBUS_SHM_RESTART_H
#define VMBUS_SHM_RESTART_H

#include <vmbus/shm_bus.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Hand every child, and the socket that listens, to another process, which calls
 * vmbus_shm_take_over(); the children see nothing but a pause.  Both sides say how it went: on an
 * error this server serves on.  Waits for the other.
 *
 * sock	       a connected socket of the kind AF_UNIX, SOCK_SEQPACKET; kept by the caller.  Who
 *	       fails shuts it down: another attempt needs another one, but if a device was AGAIN.
 * timeout_ns  for all of it; 0: 10 s.
 *
 * Errors: STATE   within a callback, or it was handed over already
 *	   AGAIN   a device cannot be saved now: dispatch, and try again; or no answer came in time,
 *		   and trying again with this sock is PEER
 *	   NOTSUP  a channel cannot be saved, as one of a provider's
 *	   PEER	   the other process refused, or is gone
 *	   NOMEM, SYSTEM  a system call failed; errno tells why
 * Effect: on success detached() is called with LEFT for each child, and the server has none: destroy
 * it.  Connections that are no children's, captures and flight records end.  Children that are
 * ending are not handed over.
 * Threads: the one that dispatches the server; threads of channels with own_fd are stopped
 * meanwhile.  vmbus_bus_save() of every child.
 */
VMBUS_API int vmbus_shm_server_hand_over(struct vmbus_shm_server *server, int sock,
					 uint64_t timeout_ns);

/*
 * Take what another process hands over, and serve on.  Waits for the other.
 *
 * opts	       as for vmbus_shm_listen(); path must be the same.  attached() is called for each
 *	       child and offers the same channels, in the same order or with the same instance ids.
 * sock, timeout_ns  as for vmbus_shm_server_hand_over().
 * server      as of vmbus_shm_listen().  NULL on error.
 *
 * Errors: INVAL   opts was not set up, the path is another, or a state contradicts the bus
 *	   RANGE   a child is past a limit of opts
 *	   AGAIN   the other process said nothing in time
 *	   PEER	   it said what cannot be, is gone, or serves on
 *	   NOTSUP, PERM, NOMEM, SYSTEM, and what attached() returned
 * Effect: on an error the other process serves on; log() says why.  With the option dirty every page
 * is marked.
 * Threads: any.
 */
VMBUS_API int vmbus_shm_take_over(const struct vmbus_shm_server_opts *opts, int sock,
				  uint64_t timeout_ns, struct vmbus_shm_server **server);

#ifdef __cplusplus
}
#endif
#endif
