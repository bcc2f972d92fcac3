/* SPDX-License-Identifier: MIT */
/*
 * The saved state of a bus, vmbus_save(7): what writing and reading must agree on, and what a
 * channel keeps between vmbus_bus_restore() and the moment when its thread goes on with it.
 */
#ifndef VMBUS_BUS_SAVE_H
#define VMBUS_BUS_SAVE_H

#include <vmbus/srv_save.h>

#include "base/state.h"
#include "bus/bus.h"

/* Sections: the first three once and in this order, then one for each channel.  All of version 1. */
#define VMBUS__SAVE_BUS 1u
#define VMBUS__SAVE_MACHINE 2u /* what vmbus_srv_save() wrote, whole */
#define VMBUS__SAVE_INBOX 3u
#define VMBUS__SAVE_CHAN 4u
#define VMBUS__SAVE_VERSION 1u

/* Bits of the bus. */
#define VMBUS__SAVE_SENDING 0x1u
#define VMBUS__SAVE_RESET 0x2u
#define VMBUS__SAVE_BUS_BITS 0x3u

/* Bits of a channel. */
#define VMBUS__SAVE_OPEN 0x1u
#define VMBUS__SAVE_FAILED 0x2u
#define VMBUS__SAVE_SUBS                                                                           \
	0x4u /* sub-channels wait for those of before to be gone; how many is the last word */
#define VMBUS__SAVE_CHAN_BITS 0x7u

#define VMBUS__SAVE_BUS_COUNTERS 6u
#define VMBUS__SAVE_DEVICE_BYTES ((uint32_t)64 << 10)	   /* of save(), by default */
#define VMBUS__SAVE_DEVICE_BYTES_MAX ((uint32_t)256 << 20) /* and at most */

/* What an open channel goes on from. */
struct vmbus__restore {
	uint32_t tx_index;
	uint32_t rx_index;
	uint32_t rx_next;
	uint32_t need;
	bool failed;
	char why[VMBUS__WHY_BYTES];
	size_t bytes; /* of the device's */
	uint8_t data[];
};

#endif
