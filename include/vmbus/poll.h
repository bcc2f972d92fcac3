/* SPDX-License-Identifier: MIT */
/*
 * For loops that spin before they sleep, since a child that answers at once is then neither asked to
 * signal nor waited for by the system.  vmbus_bus(7).
 */
#ifndef VMBUS_POLL_H
#define VMBUS_POLL_H

#include <vmbus/bus.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Look once at the rings of the channels without own_fd that were busy when they were looked at last,
 * and deliver what has come.  They are not armed: called over and over it makes no call of the system,
 * but for descriptors of vmbus_chan_watch(), which it looks at from time to time.  Every now and then,
 * and when there is other work, it is vmbus_bus_dispatch() itself.
 *
 * budget  as for vmbus_bus_dispatch().
 *
 * Returns the work done; 0: nothing has come, or no channel was busy.
 * Errors: STATE  as for vmbus_bus_dispatch()
 * Effect: callbacks.  The descriptor of the bus becomes readable, and who sleeps on it dispatches
 *	  first, which arms the channels.
 * Threads: as vmbus_bus_dispatch().
 */
VMBUS_API int vmbus_bus_poll(struct vmbus_bus *bus, uint32_t budget);

#ifdef __cplusplus
}
#endif
#endif
