/* SPDX-License-Identifier: MIT */
/*
 * A bus that is saved, and one that goes on from what was saved.
 *
 * Concepts, order, the form byte by byte: vmbus_save(7).
 */
#ifndef VMBUS_SAVE_H
#define VMBUS_SAVE_H

#include <vmbus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vmbus_bus;

/*
 * Write the state of a bus: its machine, what the child has posted, every channel with its rings'
 * indices, and what the devices say by save().  The child's memory is the embedder's to save, after
 * this call; the child does not run meanwhile.  vmbus_save(7).
 *
 * buf	  room bytes; NULL with room 0 to ask for the size.
 * need	  the bytes that were written, or that are needed.
 *
 * Errors: RANGE  room is too small
 *	   AGAIN  a device says so, or is closing and still uses pages of the child's: dispatch, and
 *		  try again
 *	   NOTSUP an open channel is FOREIGN or has a journal, or a device cannot be saved
 *	   STATE  within a callback, or the bus is ending
 *	   NOMEM  out of memory
 *	   INVAL  no need, or room without buf
 * Effect: answers that devices have given are taken, as by a dispatch; nothing else: the bus can go
 * on, or be destroyed.
 * Threads: the one that dispatches the bus; threads of channels with own_fd are stopped meanwhile.
 */
VMBUS_API int vmbus_bus_save(struct vmbus_bus *bus, void *buf, size_t room, size_t *need);

/*
 * Go on from a saved state.  The bus is new, has the child's memory as it was, and the same devices
 * offered by the same instance ids: they are the embedder's, and their own channels are restored.
 * Channels that nobody offered are withdrawn.
 *
 * buf, bytes  as vmbus_bus_save() of this or an earlier version wrote them; hostile.
 * why	       NULL, or where a text for people goes on error.
 *
 * Errors: INVAL   it is no saved state, damaged, or contradicts itself, the memory or the offers
 *	   NOTSUP  of a later version, past the bus's limits, or an open channel is FOREIGN or has a
 *		   journal here
 *	   STATE   the bus was dispatched or restored before, or has messages; within a callback
 *	   NOMEM   out of memory
 * Effect: on an error but STATE the bus is good for nothing but vmbus_bus_destroy().  Else the next
 * dispatch calls restore() of the devices, looks at every channel and signals the child once for
 * each.
 * Threads: the one that dispatches the bus.
 */
VMBUS_API int vmbus_bus_restore(struct vmbus_bus *bus, const void *buf, size_t bytes, char *why,
				size_t why_bytes);

/*
 * After vmbus_bus_save(): another process goes on from the state.  Nothing of the child's memory is
 * written any more, whatever devices do; what is left is vmbus_bus_close() and its like.
 *
 * Effect: sending says STATE; nothing may be dispatched.
 * Threads: as vmbus_bus_save().
 */
VMBUS_API void vmbus_bus_let_go(struct vmbus_bus *bus);

#ifdef __cplusplus
}
#endif
#endif
