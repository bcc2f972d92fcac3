/* SPDX-License-Identifier: MIT */
/*
 * The control page, [RING-CTL].  Each word has one owner, who keeps it in private and only stores
 * it here; the other side only loads it.
 */
#ifndef VMBUS_RING_CTL_H
#define VMBUS_RING_CTL_H

#include <stddef.h>

#include <vmbus/ring.h>

#include "base/atomic.h"

#define VMBUS__RING_FEATURE_PENDING 1u /* pending_send is filled and honoured */

struct vmbus_ring_ctl {
	vmbus__a32 in;		 /* sender's: where the next packet goes */
	vmbus__a32 out;		 /* receiver's: where the next packet is read */
	vmbus__a32 mask;	 /* receiver's: nonzero, do not signal new packets */
	vmbus__a32 pending_send; /* sender's: nonzero, signal when so much is free */
	uint32_t reserved[12];
	vmbus__a32 features; /* sender's */
};

_Static_assert(offsetof(struct vmbus_ring_ctl, in) == 0, "[RING-CTL]");
_Static_assert(offsetof(struct vmbus_ring_ctl, out) == 4, "[RING-CTL]");
_Static_assert(offsetof(struct vmbus_ring_ctl, mask) == 8, "[RING-CTL]");
_Static_assert(offsetof(struct vmbus_ring_ctl, pending_send) == 12, "[RING-CTL]");
_Static_assert(offsetof(struct vmbus_ring_ctl, features) == 64, "[RING-CTL]");

#endif
