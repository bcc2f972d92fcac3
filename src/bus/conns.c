/* SPDX-License-Identifier: MIT */
/*
 * From a connection id to a channel's slot, for any thread and without a lock: a table of words
 * that each hold a whole entry, so that no reader sees half of one.  The bus thread alone changes
 * it.
 *
 * The ids that the bus gives out itself differ in their low bits, so each has a place of its own;
 * ids that a child chooses (6.0) may meet there and then lie behind, never past an empty place.
 * Every channel has at most one id and the table has two places for each, so a look ends.
 */
#include "bus/bus.h"

#define PLACES (VMBUS__RELIDS * 2u)
#define LIVE ((uint64_t)1 << 63)
#define DEAD ((uint64_t)1 << 62) /* passed over, since others may lie behind */

static uint64_t entry_of(uint32_t conn_id, uint32_t slot)
{
	return LIVE | (uint64_t)slot << 32 | conn_id;
}

static uint64_t load(struct vmbus_bus *bus, uint32_t place)
{
	return vmbus__ld64_acquire(&bus->conns[place % PLACES]); /* CONN.find */
}

static void store(struct vmbus_bus *bus, uint32_t place, uint64_t entry)
{
	vmbus__st64_release(&bus->conns[place % PLACES], entry); /* CONN.set */
}

/* The place of an id, or -1. */
static int64_t place_of(struct vmbus_bus *bus, uint32_t conn_id)
{
	uint32_t n;

	for (n = 0; n < PLACES; n++) {
		const uint64_t entry = load(bus, conn_id % PLACES + n);

		if (entry == 0)
			return -1;
		if ((entry & LIVE) && (uint32_t)entry == conn_id)
			return (int64_t)((conn_id % PLACES + n) % PLACES);
	}
	return -1;
}

/* Errors: STATE (the id is in use), FULL. */
int vmbus__conn_add(struct vmbus_bus *bus, uint32_t conn_id, uint32_t slot)
{
	const int64_t at = place_of(bus, conn_id);
	uint32_t n;

	if (at >= 0)
		return load(bus, (uint32_t)at) == entry_of(conn_id, slot) ? 0 : VMBUS_E_STATE;
	for (n = 0; n < PLACES; n++) {
		if (load(bus, conn_id % PLACES + n) & LIVE)
			continue;
		store(bus, conn_id % PLACES + n, entry_of(conn_id, slot));
		return 0;
	}
	return VMBUS_E_FULL;
}

void vmbus__conn_remove(struct vmbus_bus *bus, uint32_t conn_id, uint32_t slot)
{
	const int64_t at = place_of(bus, conn_id);
	uint32_t place;

	if (at < 0 || load(bus, (uint32_t)at) != entry_of(conn_id, slot))
		return;
	place = (uint32_t)at;
	if (load(bus, place + 1) != 0) {
		store(bus, place, DEAD);
		return;
	}
	/* Nothing lies behind: this place and the dead ones before it are empty again. */
	store(bus, place, 0);
	while (load(bus, place + PLACES - 1) == DEAD) {
		place = (place + PLACES - 1) % PLACES;
		store(bus, place, 0);
	}
}

/* The slot of a connection id, or -1. */
int vmbus__conn_find(struct vmbus_bus *bus, uint32_t conn_id)
{
	const int64_t at = place_of(bus, conn_id);

	return at < 0 ? -1 : (int)(load(bus, (uint32_t)at) >> 32 & (VMBUS__RELIDS - 1u));
}
