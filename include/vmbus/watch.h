/* SPDX-License-Identifier: MIT */
/*
 * For devices that do more than packets tell: a descriptor that the thread of the channel looks after,
 * and what work costs.  vmbus_vsp(7).
 */
#ifndef VMBUS_WATCH_H
#define VMBUS_WATCH_H

#include <vmbus/vsp.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Have the thread that dispatches the channel look after a descriptor as well: ready() of the VSP
 * follows while it is readable, like packets(): what is sent in it is published at its end, with one
 * signal at most.  As packets() it does not come while a send waits for room, but with
 * VMBUS_VSP_READ_WHILE_FULL, or while save() of the device has said AGAIN.  It does come while open()
 * has said AGAIN, and may call vmbus_chan_open_done(); and after close() has said AGAIN, until it
 * calls vmbus_chan_close_done(): then nothing can be sent.  vmbus_bus_close() and vmbus_bus_destroy()
 * call it, too, while they wait.
 *
 * fd  one that epoll can wait for, an epoll descriptor too; it stays open until the next call, the
 *     end of a close() that does not say AGAIN, or vmbus_chan_close_done().  One for each channel.
 *     -1: none any more.
 *
 * Errors: STATE   the channel is not open, being opened or being closed; or let go of, and not yet
 *		   being closed; the device has no ready(), or is FOREIGN
 *	   INVAL   the descriptor cannot be waited for, or another channel of the bus watches it
 *	   SYSTEM  errno tells why
 * Effect: ends by itself when the close is done, and when open() fails; none on error.
 * Threads: the one that dispatches the channel, or that destroys the bus; from within open() on.
 */
VMBUS_API int vmbus_chan_watch(struct vmbus_chan *chan, int fd);

#define VMBUS_UNIT_BYTES 2048u /* that a device moves: about what a small packet costs */

/*
 * In a callback: the device has done so much work besides taking and sending packets, for a request
 * of a few bytes that moved many, for instance.  It counts against the budget of the dispatch, and
 * what that does not cover against those of the next ones: of the bus, or of the channel with own_fd.
 *
 * units  of work; one for each VMBUS_UNIT_BYTES that were copied, or made zero.
 *
 * Effect: other channels, and other children of the thread, have their turn earlier.
 * Threads: the one that dispatches the channel.
 */
VMBUS_API void vmbus_chan_charge(struct vmbus_chan *chan, uint32_t units);

/*
 * Which channel of its device this is: 0 for a primary, the index that the child was offered it by for
 * a sub-channel.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API uint32_t vmbus_chan_sub_index(const struct vmbus_chan *chan);

/*
 * Ring bytes of the largest packet that can be sent, headers and trailer included: what vmbus_ring_max_send()
 * says of the ring to the child.
 *
 * Effect: none.
 * Threads: the one that dispatches the channel, from open() on.
 */
VMBUS_API uint32_t vmbus_chan_send_max(const struct vmbus_chan *chan);

/*
 * Take no more packets for now, since what they ask for cannot be begun: packets() does not come until
 * this is undone, completions of the child's included, so its ring fills and it waits.  ready(),
 * writable() and close() come as before.
 *
 * pause  true, or false: packets() may come again, not from within this call.
 *
 * Effect: none when it is so already.  An opening begins without.
 * Threads: the one that dispatches the channel, from within open() on.
 */
VMBUS_API void vmbus_chan_pause(struct vmbus_chan *chan, bool pause);

/*
 * Tell those who look for what is stuck how many of the child's requests the device has under way,
 * vmbus_bus_diag_next(): at the end of a callback in which the number may have changed, or anything was
 * answered.  In a provider it stays in its process: the parent does not hear it.
 *
 * requests  that were taken and are not answered; 0 when an opening begins.
 *
 * Effect: none but on what is told.
 * Threads: the one that dispatches the channel, from within open() on.
 */
VMBUS_API void vmbus_chan_under_way(struct vmbus_chan *chan, uint32_t requests);

#ifdef __cplusplus
}
#endif
#endif
