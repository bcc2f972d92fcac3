/* SPDX-License-Identifier: MIT */
/*
 * The parent's half of the channel protocol, saved and restored, and what an embedder asks it then.
 *
 * The form byte by byte: vmbus_save(7).  Nothing here needs a C library.
 *
 * Threads: as in <vmbus/srv.h>, one at a time per machine; so for every call below.
 */
#ifndef VMBUS_SRV_SAVE_H
#define VMBUS_SRV_SAVE_H

#include <vmbus/srv.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One page list, for who restores. */
struct vmbus_srv_list_info {
	struct vmbus_srv_ref list;
	struct vmbus_srv_ref chan;
	uint32_t gpadl; /* the child's id */
	bool had;   /* it was accepted, and GPADL_DOWN was not answered: views of it may exist */
	bool going; /* GPADL_DOWN is due, or was taken */
	uint8_t reserved[2];
};

/*
 * The page list in a slot, 0 to gpadls_max - 1.
 *
 * Returns 1 with info, 0 when the slot is free.
 * Errors: RANGE  there is no such slot
 */
VMBUS_API int vmbus_srv_list_info(const struct vmbus_srv *srv, uint32_t slot,
				  struct vmbus_srv_list_info *info);

/*
 * What OPEN told of a channel, again.
 *
 * action  on 1, as at OPEN, with the target VP that it has now.
 *
 * Returns 1 for a channel in the state opened, else 0.
 */
VMBUS_API int vmbus_srv_open_info(const struct vmbus_srv *srv, struct vmbus_srv_ref chan,
				  struct vmbus_srv_action *action);

/*
 * Write the state of the machine, vmbus_save(7).
 *
 * buf	 room bytes; NULL with room 0 to ask for the size.
 * need	 the bytes that were written, or that are needed.
 *
 * Errors: INVAL  no need, or no buf and room
 *	   RANGE  room is too small; what is in buf then is of no use
 */
VMBUS_API int vmbus_srv_save(const struct vmbus_srv *srv, void *buf, size_t room, size_t *need);

/*
 * Go on from a saved state, in a machine that is new: actions that were taken and not answered are
 * due again, and so is CONNECTED while a child is connected.  References are those of the saved
 * machine; limits may be higher than its were, and lower where its state keeps to them.
 *
 * buf, bytes  as vmbus_srv_save() of this or an earlier version wrote them; hostile.
 * why	       NULL, or set on an error: what is wrong, static.
 *
 * Errors: STATE   the machine was used before
 *	   INVAL   it is no saved state, damaged, or contradicts itself
 *	   NOTSUP  of a later version, or past the machine's limits
 *	   NOMEM   list_get() said so
 * Effect: none on an error; the machine stays new.
 */
VMBUS_API int vmbus_srv_restore(struct vmbus_srv *srv, const void *buf, size_t bytes,
				const char **why);

#ifdef __cplusplus
}
#endif
#endif
