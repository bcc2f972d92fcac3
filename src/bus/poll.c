/* SPDX-License-Identifier: MIT */
/*
 * Looks at rings that are not armed, for loops that spin.  A channel is hot from a turn that brought
 * something until many have brought nothing; only such are looked at here.  Each that was is among
 * the channels with work left, so the next dispatch arms it, and the kick is set, so that one follows
 * before anybody sleeps.
 */
#include "bus/bus.h"

#include <vmbus/poll.h>

#define DISPATCH_EVERY 1024u /* looks */
#define IDLE_TURNS 4096u     /* that bring nothing, until a channel is cold */
#define WATCH_SOON 8u	     /* looks for each at the devices' descriptors */
#define WATCH_LATE 64u

/* Whether there is work that no ring tells of. */
static bool other_work(const struct vmbus_bus *bus)
{
	return vmbus__ld64_relaxed(&bus->events) != 0 || /* BITS.take */
	       vmbus__slots_any(&bus->answers) || vmbus__slots_any(&bus->ready) || bus->debt != 0;
}

/* Look at the devices' descriptors, sooner when there was something the last time. */
static VMBUS_NOINLINE void look_at_watched(struct vmbus_bus *bus)
{
	if (++bus->watch_spins < bus->watch_pause)
		return;
	bus->watch_spins = 0;
	if (vmbus__take_bound(bus))
		bus->watch_pause = WATCH_SOON;
	else if (bus->watch_pause < WATCH_LATE)
		bus->watch_pause += WATCH_SOON;
}

/* A channel had a turn: it stays hot while one of a few brings something. */
void vmbus__heat(struct vmbus_bus *bus, uint32_t slot, bool busy)
{
	const uint64_t bit = (uint64_t)1 << (slot % 64u), word = slot / 64u;
	struct vmbus_chan *const chan = vmbus__chan_at(bus, slot);

	if (busy && chan) {
		chan->idle = 0;
		bus->hot[word] |= bit;
		bus->hot_words |= (uint64_t)1 << word;
	} else if (!chan || ++chan->idle >= IDLE_TURNS) {
		bus->hot[word] &= ~bit;
		if (!bus->hot[word])
			bus->hot_words &= ~((uint64_t)1 << word);
	}
}

/* The next dispatch arms it. */
static uint32_t poll_one(struct vmbus_bus *bus, uint32_t slot, uint32_t budget)
{
	const uint32_t done = vmbus__bus_turn(bus, slot, budget, false);

	vmbus__local_add(bus, slot / 64u, (uint64_t)1 << (slot % 64u));
	return done;
}

/* A turn of each hot channel, from where the budget ended the last time; the units they took. */
static uint32_t hot_turns(struct vmbus_bus *bus, uint32_t budget)
{
	const uint32_t from = bus->hot_turn;
	uint32_t slot, done = 0, wraps = 0;

	for (slot = from; done < budget; slot++) {
		slot = vmbus__next_slot(bus->hot, bus->hot_words, slot);
		if (slot == VMBUS__RELIDS && wraps++ == 0)
			slot = vmbus__next_slot(bus->hot, bus->hot_words, 0);
		if (slot == VMBUS__RELIDS || (wraps && slot >= from))
			break;
		done += poll_one(bus, slot, budget - done);
	}
	bus->hot_turn = done < budget ? 0 : slot;
	return done;
}

int vmbus_bus_poll(struct vmbus_bus *bus, uint32_t budget)
{
	uint32_t done;

	if (budget == 0)
		return 0;
	if (other_work(bus) || ++bus->polls % DISPATCH_EVERY == 0)
		return vmbus_bus_dispatch(bus, budget);
	if (bus->ending || vmbus__ld64_relaxed(&bus->holder) == vmbus__self()) /* HOLD.look */
		return VMBUS_E_STATE;
	if (!bus->hot_words && !bus->watched)
		return 0;
	if (budget > INT32_MAX)
		budget = INT32_MAX;
	vmbus__st64_relaxed(&bus->holder, vmbus__self()); /* HOLD.enter */
	if (VMBUS_UNLIKELY(bus->watched))
		look_at_watched(bus);
	done = hot_turns(bus, budget);
	done += vmbus__bus_pay(bus, budget - done);
	if (VMBUS_UNLIKELY(!vmbus__kick_is_set(&bus->kick)))
		vmbus__kick(&bus->kick);
	vmbus__st64_relaxed(&bus->holder, 0); /* HOLD.enter */
	return (int)done;
}
