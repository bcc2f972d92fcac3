/* SPDX-License-Identifier: MIT */
/*
 * What the other files of the bus tell the recorder and the snapshots: one call where something
 * happens, on the thread that dispatches the bus unless it says otherwise.  Nothing that the bus does
 * depends on what is kept here.
 */
#ifndef VMBUS_BUS_NOTE_H
#define VMBUS_BUS_NOTE_H

#include <vmbus/diag.h>

#include "base/atomic.h"

#define VMBUS__REFUSED_BYTES 120u

struct vmbus__message;
struct vmbus__refusal;

/* The writer's place in the record. */
struct vmbus__recorder {
	void *mem; /* NULL: there is none */
	uint64_t next;
	uint32_t at;
	uint32_t room;
};

/* Times of a bus; CLOCK_MONOTONIC in ns. */
struct vmbus__bus_times {
	uint64_t created;
	uint64_t contact;
	uint64_t offers;
	uint64_t message;
	uint64_t slot_since;
	uint64_t refused;
	uint64_t refusals; /* of the machine, that are recorded */
};

/* The same of a channel; bus thread. */
struct vmbus__chan_times {
	uint64_t steps[VMBUS_STEPS];
	uint64_t signals_before; /* of whoever had the storage */
	uint32_t owner;		 /* process of its provider, 0: it is served here, or by none */
	uint32_t read_index;	 /* of the ring to the child, at the open */
	char refused[VMBUS__REFUSED_BYTES];
};

void vmbus__record_init(struct vmbus_bus *bus);
void vmbus__record(struct vmbus_bus *bus, const struct vmbus_record_note *note, uint64_t now);

void vmbus__note_message(struct vmbus_bus *bus, const struct vmbus__message *message, int err);
void vmbus__note_refusal(struct vmbus_bus *bus);
void vmbus__note_action(struct vmbus_bus *bus, const struct vmbus_srv_action *action);
void vmbus__note_posted(struct vmbus_bus *bus, int err);
void vmbus__note_reset(struct vmbus_bus *bus);
const char *vmbus__list_refusal(int err);
void vmbus__note_gpadl(struct vmbus_chan *chan, const struct vmbus_srv_action *action, int err);
void vmbus__note_not_opened(struct vmbus_chan *chan, const struct vmbus__refusal *why, int err);
void vmbus__note_opened(struct vmbus_chan *chan, int err);
void vmbus__note_fault(struct vmbus_chan *chan);
void vmbus__note_owner(struct vmbus_bus *bus, const struct vmbus_record_note *note);
void vmbus__note_step(struct vmbus_chan *chan, enum vmbus_step step, uint32_t kind);

/* Signals that came past the bus. */
void vmbus__note_bound(struct vmbus_bus *bus, uint32_t slot);

/* The channel's thread has read all there was. */
void vmbus__note_dry(struct vmbus_chan *chan);

/* The control page of a direction, also of a FOREIGN channel, whose rings are not mapped. */
int vmbus__diag_words(const struct vmbus_chan *chan, uint32_t which,
		      struct vmbus_ring_words *words);

/* Any thread: a signal came, or goes.  A time is taken only when there is a record. */
void vmbus__note_signal(struct vmbus_chan *chan);
void vmbus__note_raised(struct vmbus_chan *chan);

#endif
