/* SPDX-License-Identifier: MIT */
/*
 * What the channels of one guest have in common, and the steps by which the primary channel
 * becomes ready.  A nexus is found by its primary channel; whichever of the channels is opened
 * first makes it.  When the primary channel is closed it is forgotten, and the sub-channels that
 * are left, which the bus withdraws, keep it until they are closed too.
 */
#include "block/vsp.h"

#include <stdlib.h>

#define PATIENCE 64u /* callbacks between two looks for unit attentions that are left */

struct vmbus__nexus *vmbus__nexus_get(struct vmbus_block *block, struct vmbus_chan *primary)
{
	struct vmbus__nexus *nexus;

	pthread_mutex_lock(&block->lock);
	for (nexus = block->nexuses; nexus; nexus = nexus->next)
		if (nexus->primary == primary)
			break;
	if (!nexus) {
		nexus = calloc(1, sizeof(*nexus));
		if (nexus) {
			nexus->primary = primary;
			nexus->next = block->nexuses;
			block->nexuses = nexus;
		}
	}
	if (nexus)
		nexus->refs++;
	pthread_mutex_unlock(&block->lock);
	return nexus;
}

/* Lock.  Nobody finds it any more. */
static void unlink_nexus(struct vmbus_block *block, struct vmbus__nexus *nexus)
{
	struct vmbus__nexus **at = &block->nexuses;

	while (*at && *at != nexus)
		at = &(*at)->next;
	if (*at)
		*at = nexus->next;
	nexus->primary = NULL;
}

void vmbus__nexus_put(struct vmbus_block *block, struct vmbus__nexus *nexus)
{
	bool last;

	pthread_mutex_lock(&block->lock);
	last = --nexus->refs == 0;
	if (last)
		unlink_nexus(block, nexus);
	pthread_mutex_unlock(&block->lock);
	if (last)
		free(nexus);
}

/* The primary channel is closed. */
void vmbus__nexus_forget(struct vmbus_block *block, struct vmbus__nexus *nexus)
{
	pthread_mutex_lock(&block->lock);
	unlink_nexus(block, nexus);
	pthread_mutex_unlock(&block->lock);
}

/* The initialisation is over: sub-channels begin with what they hold. */
void vmbus__nexus_ready(struct vmbus__port *port)
{
	struct vmbus__nexus *const nexus = port->nexus;
	struct vmbus__port *other;

	vmbus__st32_release(&nexus->ready, 1); /* NEXUS.ready */
	pthread_mutex_lock(&port->block->lock);
	for (other = port->block->ports; other; other = other->next)
		if (other->nexus == nexus && other != port)
			vmbus__port_wake(other);
	pthread_mutex_unlock(&port->block->lock);
}

/* ---- telling the guest to look ---- */

/* [STOR-EVENT]; what finds no room is sent from writable(). */
void vmbus__nexus_tell(struct vmbus__port *port)
{
	struct vmbus__nexus *const nexus = port->nexus;
	const struct vmbus__stor_head head = { .op = VMBUS__STOR_ENUMERATE_BUS };
	uint8_t body[VMBUS__STOR_BYTES];
	const struct vmbus_msg msg = { .data = body,
				       .len = nexus->version < VMBUS__STOR_WIN8
						      ? VMBUS__STOR_SHORT_BYTES
						      : VMBUS__STOR_BYTES,
				       .type = VMBUS_PKT_INBAND };

	if (!vmbus__ld32_relaxed(&nexus->tell) || /* BLOCKLIST.look */
	    nexus->state != VMBUS__INIT_READY || nexus->version < VMBUS__STOR_WIN7)
		return;
	vmbus__st32_relaxed(&nexus->tell, 0); /* BLOCKLIST.look */
	vmbus__stor_head_put(body, &head);
	if (vmbus_chan_send(port->chan, &msg, 1) == VMBUS_E_FULL)
		vmbus__st32_relaxed(&nexus->tell, 1); /* BLOCKLIST.look */
	nexus->unsettled = true;
	nexus->patience = PATIENCE;
	vmbus__state_note_told(port, false);
}

/* The guest is told that a disk is gone, by an answer of this callback: when it has the answer, it is to
   look, if another one is there. */
void vmbus__nexus_tell_after(struct vmbus__port *port, uint8_t target, uint8_t lun)
{
	port->said[target][lun / 64u] |= (uint64_t)1 << lun % 64u;
	port->tell_after = true;
	vmbus__port_wake(port);
}

/* The answers of this port that disks are gone have left.  Returns whether another disk is at one of the
   addresses. */
static bool was_told(struct vmbus__port *port)
{
	bool another = false;
	uint32_t t, l;

	for (t = 0; t < VMBUS__TARGETS; t++)
		for (l = 0; l < VMBUS__LUNS; l++)
			if (port->said[t][l / 64u] >> l % 64u & 1u &&
			    vmbus__scsi_turn(&port->nexus->ua[t][l], VMBUS__UA_SAID,
					     VMBUS__UA_TOLD))
				another = another || port->views[t][l];
	__builtin_memset(port->said, 0, sizeof(port->said));
	return another;
}

/* A later callback of that port: only what comes from now on can follow those answers. */
void vmbus__nexus_tell_now(struct vmbus__port *port)
{
	struct vmbus_block *const block = port->block;
	struct vmbus__port *other;

	port->tell_after = false;
	if (!was_told(port))
		return;
	vmbus__st32_relaxed(&port->nexus->tell, 1); /* BLOCKLIST.tell */
	pthread_mutex_lock(&block->lock);
	for (other = port->primary ? NULL : block->ports; other; other = other->next)
		if (other->nexus == port->nexus && other->primary)
			vmbus__port_wake(other);
	pthread_mutex_unlock(&block->lock);
}

static bool any_attention(const struct vmbus__port *port)
{
	uint32_t t, l;

	for (t = 0; t < VMBUS__TARGETS; t++)
		for (l = 0; l < VMBUS__LUNS; l++)
			if (port->views[t][l] &&
			    vmbus__ld64_relaxed(
				    vmbus__as_a64(&port->nexus->ua[t][l]))) /* UNITATT.take */
				return true;
	return false;
}

/*
 * Once the guest has been told, and has had each disk's unit attention, a process that dies leaves
 * nothing behind that the next one has to tell.
 */
void vmbus__nexus_settle(struct vmbus__port *port)
{
	struct vmbus__nexus *const nexus = port->nexus;

	if (!nexus->unsettled || vmbus__ld32_relaxed(&nexus->tell)) /* BLOCKLIST.look */
		return;
	if (nexus->patience && --nexus->patience)
		return;
	nexus->patience = PATIENCE;
	if (any_attention(port))
		return;
	nexus->unsettled = false;
	vmbus__state_note_told(port, true);
}

/* ---- the steps ---- */

static uint32_t subs_max(const struct vmbus__port *port)
{
	return port->nexus->version < VMBUS__STOR_WIN8 ? 0 : port->block->opts.subchannels;
}

bool vmbus__nexus_knows(uint16_t version)
{
	return version == VMBUS__STOR_WIN10 || version == VMBUS__STOR_BLUE ||
	       version == VMBUS__STOR_WIN8 || version == VMBUS__STOR_WIN7 ||
	       version == VMBUS__STOR_WIN6;
}

static uint32_t agree(struct vmbus__nexus *nexus, const uint8_t *msg, uint8_t *reply)
{
	const uint16_t version = vmbus__stor_number_get(msg);

	vmbus__stor_number_put(reply, version);
	if (!vmbus__nexus_knows(version))
		return VMBUS__STOR_REVISION_MISMATCH;
	nexus->version = version;
	nexus->state = VMBUS__INIT_PROPERTIES;
	return VMBUS__STOR_OK;
}

static void tell_properties(const struct vmbus__port *port, uint8_t *reply)
{
	const struct vmbus__stor_props props = {
		.subchannels = (uint16_t)subs_max(port),
		.flags = subs_max(port) ? VMBUS__STOR_MULTI_CHANNEL : 0,
		.transfer_bytes = port->transfer_bytes,
	};

	vmbus__stor_props_put(reply, &props);
}

/* A guest that is ready looks at its disks by itself. */
static void end_init(struct vmbus__port *port)
{
	struct vmbus__nexus *const nexus = port->nexus;
	uint32_t t, l;

	vmbus__st32_relaxed(&nexus->tell, 0); /* BLOCKLIST.look */
	for (t = 0; t < VMBUS__TARGETS; t++)
		for (l = 0; l < VMBUS__LUNS; l++)
			vmbus__st64_relaxed(vmbus__as_a64(&nexus->ua[t][l]), 0); /* UNITATT.take */
	nexus->state = VMBUS__INIT_READY;
	vmbus__state_note_told(port, true);
	vmbus__nexus_ready(port);
}

/*
 * The number is noted before the channels are offered, since a process that dies between the two is
 * asked again by the same message: then there are fewer, which guests put up with, and never more,
 * [STOR-SUB].
 */
static uint32_t create_subs(struct vmbus__port *port, const uint8_t *msg)
{
	struct vmbus__nexus *const nexus = port->nexus;
	const uint16_t count = vmbus__stor_number_get(msg);

	if (nexus->state != VMBUS__INIT_READY && nexus->state != VMBUS__INIT_END)
		return VMBUS__STOR_INVALID_STATE;
	if (count == 0 || count > subs_max(port) || (nexus->subs && nexus->subs != count))
		return VMBUS__STOR_INVALID_PARAMETER;
	if (nexus->subs)
		return VMBUS__STOR_OK;
	nexus->subs = count;
	vmbus__state_note(port);
	(void)vmbus_chan_offer_subchannels(port->chan,
					   count); /* the guest sees how many there are */
	return VMBUS__STOR_OK;
}

/* The state that a step is made in, or none. */
static uint32_t state_of(uint32_t op)
{
	switch (op) {
	case VMBUS__STOR_BEGIN_INIT:
		return VMBUS__INIT_BEGIN;
	case VMBUS__STOR_QUERY_VERSION:
		return VMBUS__INIT_VERSION;
	case VMBUS__STOR_QUERY_PROPERTIES:
		return VMBUS__INIT_PROPERTIES;
	case VMBUS__STOR_END_INIT:
		return VMBUS__INIT_END;
	default:
		return UINT32_MAX;
	}
}

/*
 * A message other than a request.
 *
 * msg	  VMBUS__STOR_BYTES, zeroes where the guest sent fewer.
 * reply  its body is filled in, where there is one.
 *
 * Returns the status of the answer.
 */
uint32_t vmbus__nexus_step(struct vmbus__port *port, uint32_t op, const uint8_t *msg,
			   uint8_t *reply)
{
	struct vmbus__nexus *const nexus = port->nexus;
	const uint32_t state = state_of(op);
	uint32_t status = VMBUS__STOR_OK;

	if (!port->primary)
		return VMBUS__STOR_INVALID_STATE;
	if (op == VMBUS__STOR_CREATE_SUBS)
		return create_subs(port, msg);
	if (state == UINT32_MAX ||
	    (nexus->state != state && !(nexus->repeat && nexus->state == state + 1u)))
		return VMBUS__STOR_INVALID_STATE;
	nexus->repeat = false;
	if (op == VMBUS__STOR_BEGIN_INIT)
		nexus->state = VMBUS__INIT_VERSION;
	else if (op == VMBUS__STOR_QUERY_VERSION)
		status = agree(nexus, msg, reply);
	else if (op == VMBUS__STOR_END_INIT)
		end_init(port);
	else {
		tell_properties(port, reply);
		nexus->state = VMBUS__INIT_END;
	}
	vmbus__state_note(port);
	return status;
}
