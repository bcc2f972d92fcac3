/* SPDX-License-Identifier: MIT */
/*
 * What happens by time: the second signal after an open, the deadline of an hv_sock offer, another
 * look at pins, and the child's monitor page.  One timer, set only while one of these is due.
 */
#include "bus/bus.h"

#include <sys/timerfd.h>

#include "base/dirty.h"

#define PINS_NS ((uint64_t)10 * VMBUS__MS) /* between two looks at pins */
#define MONITOR_GROUPS 4u		   /* of 32 ids, [MONITOR-PAGE] */
#define MONITOR_PENDING 8u		   /* offset of the first group's pending bits */
#define MONITOR_STRIDE 8u

static void set_timer(struct vmbus_bus *bus, uint64_t at)
{
	const struct itimerspec when = {
		.it_value = { .tv_sec = (time_t)(at / 1000000000u),
			      .tv_nsec = (long)(at % 1000000000u) },
	};

	bus->timer_at = at;
	(void)timerfd_settime(bus->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Be called at that time, or earlier. */
void vmbus__timer_want(struct vmbus_bus *bus, uint64_t at)
{
	if (at && (bus->timer_at == 0 || at < bus->timer_at))
		set_timer(bus, at);
}

/* How often to look at the monitor page: as the most impatient open channel wants it. */
static uint64_t monitor_ns(const struct vmbus_bus *bus)
{
	uint64_t least = 0;
	uint32_t id;

	for (id = 0; id < VMBUS__MONITORS; id++) {
		const struct vmbus_chan *chan = bus->monitored[id];

		if (chan && chan->local == VMBUS__OPEN && (least == 0 || chan->monitor_us < least))
			least = chan->monitor_us;
	}
	return least * 1000u;
}

/* A monitored channel was opened, or is being closed. */
void vmbus__monitor_changed(struct vmbus_bus *bus)
{
	const uint64_t every = bus->monitor_page ? monitor_ns(bus) : 0;

	bus->monitor_ns = every;
	bus->monitor_at = every ? vmbus__now() + every : 0;
	vmbus__timer_want(bus, bus->monitor_at);
}

/* Take the pending bits of one group and have their channels looked at. */
static bool scan_group(struct vmbus_bus *bus, uint8_t *page, uint32_t group)
{
	vmbus__a32 *pending =
		(vmbus__a32 *)(void *)(page + MONITOR_PENDING + (size_t)group * MONITOR_STRIDE);
	uint32_t bits = vmbus__ld32_relaxed(pending); /* MONITOR.take */

	/* Once: bits that the child adds meanwhile are there at the next look. */
	if (!bits || !vmbus__cas32_acquire(pending, bits, 0)) /* MONITOR.take */
		return false;
	for (; bits; bits &= bits - 1u) {
		struct vmbus_chan *chan =
			bus->monitored[group * 32u + (uint32_t)__builtin_ctz(bits)];

		if (chan)
			vmbus__chan_look(chan, chan->slot);
	}
	return true;
}

static void scan_monitor(struct vmbus_bus *bus)
{
	const vmbus_gpa_t gpa = { bus->monitor_page };
	bool written = false;
	void *page = NULL;
	uint32_t group;

	vmbus__rcu_enter();
	if (vmbus_mem_map(vmbus__mem(bus), gpa, VMBUS_PAGE_BYTES, VMBUS_READ_WRITE, &page) == 0)
		for (group = 0; group < MONITOR_GROUPS; group++)
			written |= scan_group(bus, page, group);
	vmbus__rcu_leave(bus);
	if (written && bus->opts.dirty)
		vmbus__dirty_frame(bus->opts.dirty, gpa.v / VMBUS_PAGE_BYTES);
}

/* Whether a time has come; it is forgotten then. */
static bool due(struct vmbus_bus *bus, uint64_t *at, uint64_t now)
{
	if (*at == 0)
		return false;
	if (*at > now) {
		vmbus__timer_want(bus, *at);
		return false;
	}
	*at = 0;
	bus->timed--;
	return true;
}

void vmbus__chan_at_time(struct vmbus_chan *chan, uint64_t *at, uint64_t delay)
{
	chan->bus->timed += *at == 0;
	*at = vmbus__now() + delay;
	vmbus__timer_want(chan->bus, *at);
}

void vmbus__chan_no_time(struct vmbus_chan *chan, uint64_t *at)
{
	chan->bus->timed -= *at != 0;
	*at = 0;
}

static void run_channels(struct vmbus_bus *bus, uint64_t now)
{
	uint32_t slot;

	for (slot = 0; slot < bus->chans_max && (bus->timed || bus->waiting); slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (!chan)
			continue;
		if (due(bus, &chan->unstick_at, now) && chan->local == VMBUS__OPEN)
			vmbus__chan_command(chan, VMBUS__CMD_UNSTICK);
		if (due(bus, &chan->accept_by, now) && chan->local == VMBUS__CLOSED) {
			vmbus__log(bus, VMBUS_LOG_INFO, "channel %u (%s): not accepted in time",
				   chan->relid, chan->vsp->name);
			vmbus__revoke(chan);
		}
		if (due(bus, &chan->drain_until, now))
			vmbus__chan_drain(chan, false);
		if (chan->waits)
			vmbus__chan_try_finish(chan);
	}
	if (bus->waiting)
		vmbus__lists_poll(bus);
	if (bus->waiting)
		vmbus__timer_want(bus, now + PINS_NS);
}

/* Do what is due.  Returns 1 when something was. */
uint32_t vmbus__timer_run(struct vmbus_bus *bus)
{
	uint64_t now;

	if (bus->timer_at == 0)
		return 0;
	now = vmbus__now();
	if (now < bus->timer_at)
		return 0;
	bus->timer_at = 0;
	if (bus->timed || bus->waiting)
		run_channels(bus, now);
	if (bus->monitor_at && bus->monitor_at <= now) {
		scan_monitor(bus);
		bus->monitor_at = now + bus->monitor_ns;
	}
	vmbus__timer_want(bus, bus->monitor_at);
	/*
	 * The clock may say that it is time before the descriptor does.  To set it is what forgets
	 * both what has come and what is still to come; a read would forget the first alone.
	 */
	if (bus->timer_at == 0)
		set_timer(bus, 0);
	return 1;
}

/* Something waits for pins. */
void vmbus__wait_for_pins(struct vmbus_bus *bus)
{
	bus->waiting++;
	vmbus__timer_want(bus, vmbus__now() + PINS_NS);
}
