/* SPDX-License-Identifier: MIT */
/*
 * Channels that the embedder dispatches, each on a thread of its choice.  The descriptor is that
 * of the channel's kick: the bus writes it for commands, the child's signals for packets.
 *
 * While work is left it stays readable, at no call of the system.  It is read before the channel is
 * armed, never between arming and sleeping, so a signal that follows the arming is not lost.
 */
#include "bus/bus.h"

#include <sys/epoll.h>

#define SPINS_PER_LOOK 64u /* looks at the ring for each look at the clock */
#define LOOK_SOON 8u	   /* looks at the ring for each at the device's descriptor */
#define LOOK_LATE 64u

int vmbus_chan_fd(const struct vmbus_chan *chan)
{
	if (!chan->own_fd)
		return VMBUS_E_INVAL;
	return chan->wait_fd >= 0 ? chan->wait_fd : chan->kick.fd;
}

/* See what is readable of wait_fd; takes the edge of bound_fd. */
static void look(struct vmbus_chan *chan)
{
	struct epoll_event events[3];
	const int n = epoll_wait(chan->wait_fd, events, 3, 0);
	int i;

	for (i = 0; i < n; i++)
		if (events[i].data.u64 & VMBUS__WATCHED)
			chan->ready_due = chan->watch_fd >= 0;
}

/* Make the descriptor unreadable; what comes from now on makes it readable again. */
static void clear(struct vmbus_chan *chan)
{
	if (vmbus__kick_is_set(&chan->kick))
		vmbus__kick_clear(&chan->kick);
	if (chan->wait_fd >= 0)
		look(chan);
}

/*
 * While we spin, or packets never end: look at the device's descriptor from time to time, which is a
 * call of the system; sooner when it had something the last time.
 */
static VMBUS_NOINLINE void look_sometimes(struct vmbus_chan *chan)
{
	if (++chan->watch_spins < chan->watch_pause)
		return;
	chan->watch_spins = 0;
	look(chan);
	if (chan->ready_due)
		chan->watch_pause = LOOK_SOON;
	else if (chan->watch_pause < LOOK_LATE)
		chan->watch_pause += LOOK_SOON;
}

static bool commanded(const struct vmbus_chan *chan)
{
	return vmbus__ld64_relaxed(&chan->cmd) != 0; /* BITS.take */
}

void vmbus_chan_charge(struct vmbus_chan *chan, uint32_t units)
{
	if (chan->own_fd)
		chan->debt += units;
	else
		vmbus__charge(chan->bus, units);
}

/* Pay what the device's work cost; returns how much the budget covers. */
static VMBUS_NOINLINE uint32_t pay(struct vmbus_chan *chan, uint32_t budget)
{
	const uint32_t paid = chan->debt < budget ? (uint32_t)chan->debt : budget;

	chan->debt -= paid;
	return paid;
}

/* Turns until the budget is spent or nothing is left; *again tells which. */
static uint32_t turns(struct vmbus_chan *chan, uint32_t budget, bool sleep, bool *again)
{
	uint32_t done = 0;

	*again = true;
	if (VMBUS_UNLIKELY(chan->debt))
		done = pay(chan, budget);
	while (*again && done < budget) {
		done += vmbus__chan_turn(chan, budget - done, sleep, again);
		if (chan->debt)
			done += pay(chan, budget - done);
	}
	return done;
}

static int dispatch(struct vmbus_chan *chan, uint32_t budget)
{
	bool cleared = false, again;
	uint32_t done = 0;

	if (!chan->more) { /* else it is readable because of what we left */
		clear(chan);
		cleared = true;
	} else if (VMBUS_UNLIKELY(chan->watch_fd >= 0)) {
		look(chan);
	}
	for (;;) {
		vmbus__chan_commands(chan);
		done += turns(chan, budget - done, cleared, &again);
		if (done >= budget)
			again = true;
		if (again)
			break;
		if (cleared && !commanded(chan))
			break;
		if (!cleared)
			clear(chan);
		cleared = true;
	}
	chan->more = again;
	if (again)
		vmbus__kick(&chan->kick);
	vmbus__chan_show(chan);
	return (int)done;
}

/* Be the one who dispatches; not in a callback, and not when the bus ends. */
static bool enter(struct vmbus_chan *chan)
{
	return vmbus__cas64_acq_rel(&chan->holder, 0, vmbus__self()); /* HOLD.enter */
}

static int leave(struct vmbus_chan *chan, int done)
{
	vmbus__st64_release(&chan->holder, 0); /* HOLD.enter */
	return done;
}

int vmbus_chan_dispatch(struct vmbus_chan *chan, uint32_t budget)
{
	if (!chan->own_fd)
		return VMBUS_E_INVAL;
	if (budget == 0)
		return 0;
	if (!enter(chan))
		return VMBUS_E_STATE;
	return leave(chan, dispatch(chan, budget > INT32_MAX ? INT32_MAX : budget));
}

/* Look at the ring for up to spin_ns; returns the packets that came, 0 when none did. */
static uint32_t spin(struct vmbus_chan *chan, uint32_t budget, uint64_t spin_ns)
{
	uint64_t end = 0;
	uint32_t spins, done;
	bool again;

	for (spins = 1;; spins++) {
		if (commanded(chan))
			vmbus__chan_commands(chan);
		if (VMBUS_UNLIKELY(chan->watch_fd >= 0))
			look_sometimes(chan);
		done = turns(chan, budget, false, &again);
		if (done || !chan->live)
			return done;
		vmbus__relax();
		if (spins % SPINS_PER_LOOK == 0) {
			const uint64_t now = vmbus__now();

			if (end == 0)
				end = spin_ns < UINT64_MAX - now ? now + spin_ns : UINT64_MAX;
			else if (now >= end)
				return 0;
		}
	}
}

int vmbus_chan_poll(struct vmbus_chan *chan, uint32_t budget, uint64_t spin_ns)
{
	uint32_t done = 0;

	if (!chan->own_fd)
		return VMBUS_E_INVAL;
	if (budget == 0)
		return 0;
	if (budget > INT32_MAX)
		budget = INT32_MAX;
	if (!enter(chan))
		return VMBUS_E_STATE;
	if (spin_ns)
		done = spin(chan, budget, spin_ns);
	return leave(chan, done ? (int)done : dispatch(chan, budget));
}
