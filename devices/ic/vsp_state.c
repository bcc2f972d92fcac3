/* SPDX-License-Identifier: MIT */
/*
 * A component's saved state: what was agreed on, and the request that is under way.  Times are not
 * in it: a restored component says at once what it has to say, and the child's clock is set again.
 */
#include "ic_vsp/vsp.h"

#include <string.h>

#include <vmbus/vsp.h>
#include <vmbus/watch.h>

/*
 * Little-endian: version 1, state 1, bits 1, transaction 1, asked 2, versions offered 2,
 * framework 4, message 4, missing 4, reserved 4, count 8.
 */
#define FORM 1u
#define BYTES 32u
#define WAITS 0x1u
#define ALIVE 0x2u
#define LOST 0x4u
#define BITS 0x7u

int vmbus__ic_save(struct vmbus_chan *chan, void *buf, size_t bytes)
{
	const struct vmbus__ic_part *const part = vmbus_chan_ctx(chan);
	const bool alive = part->component == VMBUS_IC_HEARTBEAT && part->ic->info.alive;
	uint8_t *const to = buf;

	if (bytes < BYTES)
		return VMBUS_E_RANGE;
	memset(to, 0, BYTES);
	to[0] = FORM;
	to[1] = (uint8_t)part->state;
	to[2] = (uint8_t)((part->waits ? WAITS : 0) | (alive ? ALIVE : 0) |
			  (part->lost ? LOST : 0));
	to[3] = part->transaction;
	vmbus__ic_put(to + 4, 2, part->asked);
	vmbus__ic_put(to + 6, 2, part->offers.count);
	vmbus__ic_put(to + 8, 4, part->framework);
	vmbus__ic_put(to + 12, 4, part->message);
	vmbus__ic_put(to + 16, 4, part->missing);
	vmbus__ic_put(to + 24, 8, part->count);
	return (int)BYTES;
}

/* Whether a component can be in such a state. */
static bool can_be(const struct vmbus__ic_part *part, const uint8_t *from)
{
	const struct vmbus__ic_versions *const ours = vmbus__ic_messages(part->component);
	const uint64_t offered = vmbus__ic_get(from + 6, 2);
	const uint32_t framework = (uint32_t)vmbus__ic_get(from + 8, 4);
	const uint32_t message = (uint32_t)vmbus__ic_get(from + 12, 4);
	const bool refers =
		part->component == VMBUS_IC_TIMESYNC && message >= VMBUS__IC_VERSION(4, 0);

	if (from[0] != FORM || from[1] == VMBUS__IC_CLOSED || from[1] > VMBUS__IC_UNUSED ||
	    from[2] & ~BITS || vmbus__ic_get(from + 20, 4) || offered == 0 || offered > ours->count)
		return false;
	if ((from[1] == VMBUS__IC_ASKED && !(from[2] & WAITS)) ||
	    (from[1] == VMBUS__IC_UNUSED && from[2] & WAITS))
		return false;
	return from[1] != VMBUS__IC_IN_USE ||
	       (vmbus__ic_knows(vmbus__ic_frameworks(), framework) &&
		vmbus__ic_knows(ours, message) && !(refers && !vmbus_bus_time(part->ic->bus)));
}

/* In use: the next request is due, unless the answer to one is. */
static void go_on(struct vmbus__ic_part *part)
{
	struct vmbus_ic *const ic = part->ic;
	const uint64_t now = vmbus__ic_now();

	ic->info.framework = part->framework;
	ic->info.message = part->message;
	ic->info.ready |= part->component;
	if (part->component == VMBUS_IC_TIMESYNC)
		part->due = part->waits ? 0 : now;
	else if (part->component == VMBUS_IC_HEARTBEAT)
		part->due = part->waits ? now + ic->opts.heartbeat_ns : now;
	vmbus__ic_want(ic, part->due);
	vmbus__ic_tell(part, VMBUS_IC_READY, part->message);
}

int vmbus__ic_restore(struct vmbus_chan *chan, const void *buf, size_t bytes)
{
	struct vmbus__ic_part *const part = vmbus_chan_ctx(chan);
	const uint8_t *const from = buf;
	int err;

	if (vmbus_chan_sub_index(chan)) /* never offered */
		return VMBUS_E_RANGE;
	if (bytes != BYTES || !can_be(part, from))
		return VMBUS_E_INVAL;
	part->chan = chan;
	part->state = (enum vmbus__ic_state)from[1];
	part->waits = (from[2] & WAITS) != 0;
	part->lost = (from[2] & LOST) != 0;
	part->synced = false;
	part->resync = part->waits; /* the clock of where we are now, whatever was asked before */
	part->transaction = from[3];
	part->asked = (uint16_t)vmbus__ic_get(from + 4, 2);
	part->offers = *vmbus__ic_messages(part->component);
	part->offers.count = (uint32_t)vmbus__ic_get(from + 6, 2);
	part->framework = (uint32_t)vmbus__ic_get(from + 8, 4);
	part->message = (uint32_t)vmbus__ic_get(from + 12, 4);
	part->missing = (uint32_t)vmbus__ic_get(from + 16, 4);
	part->count = vmbus__ic_get(from + 24, 8);
	if (part->component == VMBUS_IC_HEARTBEAT)
		part->ic->info.alive = (from[2] & ALIVE) != 0;
	if (part->state == VMBUS__IC_IN_USE)
		go_on(part);
	if (part->state != VMBUS__IC_TO_ASK)
		return 0;
	err = vmbus__ic_ask(part);
	return err == VMBUS_E_FULL ? 0 : err;
}
