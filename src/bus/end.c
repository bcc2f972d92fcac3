/* SPDX-License-Identifier: MIT */
/*
 * The end of a bus: every device closes, then every channel is removed.  A channel with own_fd is
 * closed by its thread if that one comes in time, else here; never by both, and never while its
 * thread is in a callback.
 *
 * A thread that is not the bus's may be in vmbus_chan_close_done(), or the same from its own dispatch,
 * when the last channel goes: it is counted while it is there (VISIT), and the storage of the bus is
 * freed when none is.
 *
 * HOLD: who dispatches a channel with own_fd has its `holder`.  The bus seizes it from nobody but 0,
 * and keeps it: a thread that comes later is sent away without touching the channel.
 */
#include "bus/bus.h"

#include <poll.h>
#include <time.h>

#define WATCHED_AT_ONCE 64u
#define COME_NS ((uint64_t)100 * VMBUS__MS)  /* for the threads of channels to take their command */
#define TELL_NS ((uint64_t)1000 * VMBUS__MS) /* of waiting, until the log says for whom */

static void wait_ms(void)
{
	const struct timespec ms = { 0, VMBUS__MS };

	nanosleep(&ms, NULL);
}

/*
 * Whether this thread is within a callback of the bus or of one of its channels.  It may be any thread:
 * channels can be removed meanwhile, and their storage become others', but is not freed.
 */
bool vmbus_bus_in_callback(struct vmbus_bus *bus)
{
	const uint64_t self = vmbus__self();
	bool within = vmbus__ld64_relaxed(&bus->holder) == self; /* HOLD.look */
	uint32_t slot;

	vmbus__rcu_enter();
	for (slot = 0; slot < VMBUS__RELIDS && !within; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		within = chan && vmbus__ld64_relaxed(&chan->holder) == self; /* HOLD.look */
	}
	vmbus__rcu_leave(bus);
	return within;
}

/* Whether this thread, and no other, may act as that of the channel from now on. */
static bool seize(struct vmbus_chan *chan)
{
	if (!chan->own_fd)
		return true;
	if (vmbus__ld64_relaxed(&chan->holder) == VMBUS__SEIZED) /* HOLD.look */
		return true;
	if (!vmbus__cas64_acq_rel(&chan->holder, 0, VMBUS__SEIZED)) /* HOLD.seize */
		return false;
	vmbus__kick_clear(&chan->kick); /* nobody shall wake for what he may not do */
	return true;
}

/* Whether a channel's thread has yet to take a command that somebody waits for. */
static bool any_waits(struct vmbus_bus *bus)
{
	const uint64_t idle = VMBUS__CMD_TAP | VMBUS__CMD_DRAIN | VMBUS__CMD_UNSTICK;
	uint32_t slot;

	for (slot = 0; slot < VMBUS__RELIDS; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && chan->own_fd &&
		    (vmbus__ld64_relaxed(&chan->cmd) & ~idle)) /* BITS.take */
			return true;
	}
	return false;
}

/*
 * Wait a moment for devices that take their time to close, and tell those whose descriptors become
 * readable.
 */
static void wait_for_devices(struct vmbus_bus *bus)
{
	struct vmbus_chan *chans[WATCHED_AT_ONCE];
	struct pollfd fds[WATCHED_AT_ONCE];
	uint32_t slot, n = 0, i;

	for (slot = 0; slot < VMBUS__RELIDS && n < WATCHED_AT_ONCE; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (!chan || (chan->own_fd && vmbus__ld64_relaxed(&chan->holder) != /* HOLD.look */
						      VMBUS__SEIZED))
			continue;
		if (chan->watch_fd >= 0 && chan->stage == VMBUS__SHUT) {
			fds[n] = (struct pollfd){ .fd = chan->watch_fd, .events = POLLIN };
			chans[n++] = chan;
		}
	}
	if (n == 0)
		wait_ms();
	else if (poll(fds, n, 1) <= 0)
		return;
	for (i = 0; i < n; i++)
		if (fds[i].revents && chans[i]->watch_fd == fds[i].fd)
			(void)vmbus__chan_ready(chans[i]);
}

/*
 * What this thread may do for channels whose threads have not come.  For all of them: a device of
 * several channels has a view of one's pages until the last is closed, so the first waits for it.
 */
static void act_for_all(struct vmbus_bus *bus)
{
	uint32_t slot;

	for (slot = 0; slot < VMBUS__RELIDS; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && chan->local != VMBUS__CLOSED && seize(chan))
			vmbus__chan_commands(chan);
	}
}

/*
 * Tell once for whom the end waits, if it does so for long: the answer may be this thread's own to
 * give, and then it never comes.
 */
static void tell_whom(struct vmbus_bus *bus, uint64_t since)
{
	uint32_t slot;

	if (bus->wait_told || vmbus__now() - since < TELL_NS)
		return;
	for (slot = 0; slot < VMBUS__RELIDS && !bus->wait_told; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		/* Within close() itself, on another thread, nothing was said yet. */
		if (!chan || chan->local != VMBUS__CLOSING || !(chan->got & VMBUS__ANS_CLOSED) ||
		    !vmbus__ld32_relaxed(&chan->closing)) /* CLOSE.done */
			continue;
		bus->wait_told = true;
		vmbus__log(bus, VMBUS_LOG_ERROR,
			   "the end waits for channel %u (%s): its close() said AGAIN, and "
			   "vmbus_chan_close_done() has not come",
			   chan->relid, chan->vsp->name);
	}
}

/* Wait until a channel is closed: for its thread's callback, its device, lists that it holds. */
static void close_one(struct vmbus_bus *bus, uint32_t slot, uint64_t since)
{
	struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

	while (chan && chan->local != VMBUS__CLOSED) {
		act_for_all(bus);
		(void)vmbus__answers(bus, UINT32_MAX);
		if (vmbus__chan_at(bus, slot) != chan)
			return;
		vmbus__chan_try_finish(chan);
		if (vmbus__chan_at(bus, slot) != chan || chan->local == VMBUS__CLOSED)
			return;
		tell_whom(bus, since);
		wait_for_devices(bus);
	}
}

/* Close every device.  From now on nothing is dispatched.  Twice is once. */
void vmbus_bus_close(struct vmbus_bus *bus)
{
	uint64_t end, since;
	uint32_t slot;

	if (bus->ending)
		return;
	vmbus__st64_relaxed(&bus->holder, vmbus__self()); /* HOLD.enter */
	(void)vmbus__answers(bus, UINT32_MAX);
	for (slot = 0; slot < VMBUS__RELIDS; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan)
			vmbus__chan_end(chan);
	}
	for (end = vmbus__now() + COME_NS; any_waits(bus) && vmbus__now() < end; wait_ms())
		(void)vmbus__answers(bus, UINT32_MAX);
	bus->ending = true;
	since = vmbus__now();
	for (slot = 0; slot < VMBUS__RELIDS; slot++)
		close_one(bus, slot, since);
	vmbus__st64_relaxed(&bus->holder, 0); /* HOLD.enter */
}

/* What another process goes on with is not touched by what follows here. */
void vmbus_bus_let_go(struct vmbus_bus *bus)
{
	uint32_t slot;

	for (slot = 0; slot < VMBUS__RELIDS; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (!chan)
			continue;
		vmbus__watch_pause(chan);
		chan->let_go = true;
		chan->live = false;
		chan->batch = 0;
		chan->need = 0;
	}
}

/* Whether a thread still tells of an answer. */
bool vmbus__bus_visited(const struct vmbus_bus *bus)
{
	return vmbus__ld64_acquire(&bus->visitors) != 0; /* VISIT.look */
}

/* Every channel is closed: the embedder hears of each a last time. */
void vmbus__bus_remove(struct vmbus_bus *bus)
{
	uint32_t slot;

	vmbus__st64_relaxed(&bus->holder, vmbus__self()); /* HOLD.enter */
	for (slot = 0; slot < VMBUS__RELIDS; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (!chan)
			continue;
		while (!seize(chan))
			wait_ms();
		vmbus__chan_remove(chan);
	}
	bus->removed = true;
	vmbus__st64_relaxed(&bus->holder, 0); /* HOLD.enter */
}

void vmbus_bus_destroy(struct vmbus_bus *bus)
{
	if (!bus)
		return;
	if (vmbus_bus_in_callback(bus)) {
		if (vmbus__ld64_relaxed(&bus->holder) == vmbus__self()) /* HOLD.look */
			vmbus__log(bus, VMBUS_LOG_ERROR,
				   "vmbus_bus_destroy() in a callback is ignored");
		return;
	}
	vmbus_bus_close(bus);
	if (!bus->removed)
		vmbus__bus_remove(bus);
	while (vmbus__bus_visited(bus))
		wait_ms();
	vmbus__rcu_wait(bus);
	vmbus__graveyard_free(bus);
	vmbus__bus_free(bus);
}

/* Whether every device is closed, and no channel's thread has a command to take. */
static bool all_closed(struct vmbus_bus *bus)
{
	uint32_t slot;

	for (slot = 0; slot < VMBUS__RELIDS; slot++) {
		const struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && chan->local != VMBUS__CLOSED)
			return false;
	}
	return !any_waits(bus);
}

/* Whether no thread is in a channel, nor will be. */
static bool seize_all(struct vmbus_bus *bus)
{
	uint32_t slot;

	for (slot = 0; slot < VMBUS__RELIDS; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && !seize(chan))
			return false;
	}
	return true;
}

/* A thread that is on its way out of a call has kicked already, and leaves without a kick. */
static int come_again(struct vmbus_bus *bus)
{
	vmbus__kick(&bus->kick);
	return VMBUS_E_AGAIN;
}

int vmbus_bus_end(struct vmbus_bus *bus)
{
	if (vmbus_bus_in_callback(bus))
		return VMBUS_E_STATE;
	if (!bus->ending && !all_closed(bus))
		return VMBUS_E_AGAIN;
	bus->ending = true;
	if (!seize_all(bus))
		return come_again(bus);
	if (!bus->removed)
		vmbus__bus_remove(bus);
	if (vmbus__bus_visited(bus))
		return come_again(bus);
	/* Nobody else is in a call on the bus, so nobody can have found what is freed now. */
	vmbus__graveyard_free(bus);
	vmbus__bus_free(bus);
	return 0;
}
