/* SPDX-License-Identifier: MIT */
/*
 * What a caller gives to be sent.  It is the caller's own, and trusted but for slips.
 */
#ifndef VMBUS_WIRE_MSG_H
#define VMBUS_WIRE_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include <vmbus/wire.h>

#include "base/contract.h"

/* Whether every piece of a message that has bytes has an address; one test for the usual one, of one piece. */
static inline bool vmbus__msg_has_payload(const struct vmbus_msg *msg)
{
	uint32_t i;

	if (VMBUS_LIKELY(msg->data && !msg->more_count))
		return true;
	if ((!msg->data && msg->len) || (!msg->more && msg->more_count))
		return false;
	for (i = 0; i < msg->more_count; i++)
		if (!msg->more[i].base && msg->more[i].len)
			return false;
	return true;
}

#endif
