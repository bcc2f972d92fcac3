/* SPDX-License-Identifier: MIT */
/*
 * The bus itself: its beginning and end, and the loop that gives everything its turn.
 *
 * The descriptor is readable while there is work.  A dispatch that leaves work leaves it readable;
 * one that finds none clears it and then looks once more (KICK).
 */
#include "bus/bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "lazy/lazy.h"

#define MIRRORS_DEFAULT 4096u
#define MESSAGES_AT_ONCE 8u /* before the channels have their turn again */
#define POSTS_MAX_DEFAULT VMBUS__INBOX
#define BUF_BYTES_DEFAULT ((uint64_t)64 << 20)
#define LOG_LINES_DEFAULT 10u
#define WATCH_OWN UINT64_MAX /* kick and timer, which need no look at the epoll */

/* What a channel has moved; bulk is bytes in units of work. */
struct moved {
	uint64_t packets;
	uint64_t bulk;
};

/* Memory for page lists, for the machine; its quotas bound it. */
static uint64_t *list_get(void *ctx, uint32_t qwords)
{
	(void)ctx;
	return malloc((size_t)qwords * sizeof(uint64_t));
}

static void list_put(void *ctx, uint64_t *list, uint32_t qwords)
{
	(void)ctx;
	(void)qwords;
	free(list);
}

/* A number that the child cannot guess; 0 where the system has none to give yet. */
static uint32_t seed(void)
{
	uint32_t value = 0;

	(void)!getrandom(&value, sizeof(value), GRND_NONBLOCK);
	return value;
}

static int make_machine(struct vmbus_bus *bus)
{
	struct vmbus_srv_opts *limits = &bus->opts.limits;
	size_t bytes;

	if (limits->struct_bytes == 0)
		*limits = (struct vmbus_srv_opts){ .struct_bytes = sizeof(*limits) };
	if (!limits->hash_seed)
		limits->hash_seed = seed();
	limits->list_get = list_get;
	limits->list_put = list_put;
	bytes = vmbus_srv_bytes(limits); /* vmbus__opts_check() had them */
	bus->chans_max = limits->chans_max ? limits->chans_max : VMBUS_RELID_MAX;
	bus->srv_bytes = bytes;
	bus->srv_storage = vmbus__lazy_get(bytes);
	if (!bus->srv_storage)
		return VMBUS_E_NOMEM;
	return vmbus_srv_init(bus->srv_storage, bytes, limits, &bus->srv);
}

static int make_map(struct vmbus_bus *bus)
{
	struct vmbus_mem *map = malloc(sizeof(*map));
	int err;

	if (!map)
		return VMBUS_E_NOMEM;
	err = vmbus_mem_init(map, bus->opts.regions, bus->opts.region_count, bus->opts.dirty);
	if (err) {
		vmbus__opts_tell_regions(&bus->opts, err);
		free(map);
		return err;
	}
	vmbus__st64_release(&bus->mem, (uint64_t)(uintptr_t)map); /* MAP.publish */
	return 0;
}

int vmbus__watch(int epoll_fd, int fd, uint32_t events, uint64_t who)
{
	struct epoll_event event = { .events = events, .data = { .u64 = who } };

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) ? VMBUS_E_SYSTEM : 0;
}

static int make_descriptors(struct vmbus_bus *bus)
{
	bus->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	bus->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (bus->epoll_fd < 0 || bus->timer_fd < 0 || vmbus__kick_init(&bus->kick) ||
	    vmbus__watch(bus->epoll_fd, bus->kick.fd, EPOLLIN, WATCH_OWN) ||
	    vmbus__watch(bus->epoll_fd, bus->timer_fd, EPOLLIN, WATCH_OWN))
		return VMBUS_E_SYSTEM;
	return 0;
}

void vmbus__bus_free(struct vmbus_bus *bus)
{
	vmbus__kick_fini(&bus->kick);
	if (bus->epoll_fd >= 0)
		close(bus->epoll_fd);
	if (bus->timer_fd >= 0)
		close(bus->timer_fd);
	if (bus->srv)
		vmbus_srv_fini(bus->srv);
	vmbus__lazy_put(bus->srv_storage, bus->srv_bytes);
	vmbus__lists_free(bus);
	vmbus__inbox_fini(bus);
	free((void *)(uintptr_t)vmbus__mem(bus));
	pthread_mutex_destroy(&bus->mem_lock);
	pthread_mutex_destroy(&bus->lists_lock);
	free(bus);
}

int vmbus_bus_create(const struct vmbus_bus_opts *opts, struct vmbus_bus **made)
{
	struct vmbus_bus *bus;
	int err = made ? vmbus__opts_check(opts) : VMBUS_E_INVAL;

	if (err)
		return err;
	bus = calloc(1, sizeof(*bus));
	if (!bus)
		return VMBUS_E_NOMEM;
	bus->opts = *opts;
	bus->epoll_fd = -1;
	bus->timer_fd = -1;
	bus->kick.fd = -1;
	pthread_mutex_init(&bus->mem_lock, NULL);
	pthread_mutex_init(&bus->lists_lock, NULL);
	(void)snprintf(bus->name, sizeof(bus->name), "%s", opts->name ? opts->name : "child");
	if (!bus->opts.mirrors_max)
		bus->opts.mirrors_max = MIRRORS_DEFAULT;
	if (!bus->opts.posts_max)
		bus->opts.posts_max = POSTS_MAX_DEFAULT;
	if (!bus->opts.buf_bytes_max)
		bus->opts.buf_bytes_max = BUF_BYTES_DEFAULT;
	if (!bus->opts.log_lines_max)
		bus->opts.log_lines_max = LOG_LINES_DEFAULT;
	vmbus__record_init(bus);
	err = make_descriptors(bus);
	if (!err)
		err = make_map(bus);
	if (!err)
		err = vmbus__inbox_init(bus);
	if (!err)
		err = make_machine(bus);
	if (err) {
		vmbus__bus_free(bus);
		return err;
	}
	*made = bus;
	return 0;
}

int vmbus_bus_fd(const struct vmbus_bus *bus)
{
	return bus->epoll_fd;
}

const char *vmbus_bus_name(const struct vmbus_bus *bus)
{
	return bus->name;
}

uint64_t vmbus_bus_time(struct vmbus_bus *bus)
{
	const struct vmbus_backend *const be = bus->opts.backend;

	return be->time ? be->time(bus->opts.backend_ctx) : 0;
}

static void take_events(struct vmbus_bus *bus)
{
	const uint64_t events = vmbus__take(&bus->events);

	if (events & VMBUS__EV_SLOT)
		bus->blocked = false;
	if (events & VMBUS__EV_RESET) {
		bus->blocked = false;
		bus->sending = false;
		bus->held = false;
		while (vmbus__inbox_peek(bus))
			vmbus__inbox_drop(bus);
		vmbus_srv_disconnect(bus->srv);
		vmbus__charge(bus, bus->chans_max / VMBUS__LOOKS_PER_UNIT);
		vmbus__note_reset(bus);
		vmbus__log(bus, VMBUS_LOG_INFO, "reset");
	}
	if (events & VMBUS__EV_FOREIGN)
		vmbus__foreign_events(bus);
	if (events & VMBUS__EV_RESTORE)
		vmbus__restore_run(bus);
}

/* A contact, or an unload, goes through all channels. */
static uint32_t cost_of(const struct vmbus_bus *bus, const struct vmbus__message *message)
{
	uint32_t type = 0;

	if (message->bytes >= sizeof(type))
		memcpy(&type, message->payload, sizeof(type));
	return type == VMBUS_CTL_CONTACT || type == VMBUS_CTL_UNLOAD
		       ? bus->chans_max / VMBUS__LOOKS_PER_UNIT
		       : 0;
}

/* Messages of the child to the machine. */
static uint32_t messages(struct vmbus_bus *bus, uint32_t budget)
{
	const struct vmbus__message *message;
	uint32_t done = 0;

	while (done + bus->charge < budget && !bus->held && (message = vmbus__inbox_peek(bus))) {
		const int err = vmbus_srv_message(bus->srv, message->conn_id, message->payload,
						  message->bytes);

		if (err == VMBUS_E_AGAIN) {
			bus->held = true;
			break;
		}
		vmbus__charge(bus, cost_of(bus, message));
		vmbus__note_message(bus, message, err);
		vmbus__inbox_drop(bus);
		vmbus__note_refusal(bus);
		vmbus__log_refusal(bus);
		done++;
	}
	return done;
}

/* Channels that were signalled join those with work left. */
static void take_ready(struct vmbus_bus *bus)
{
	uint64_t words = vmbus__take(&bus->ready.words);

	for (; words; words &= words - 1u) {
		const uint32_t word = (uint32_t)__builtin_ctzll(words);

		vmbus__local_add(bus, word, vmbus__slots_take_word(&bus->ready, word));
	}
}

/* What a channel has moved so far: packets, and bytes in units. */
static struct moved moved_by(const struct vmbus_chan *chan)
{
	return (struct moved){ chan->tx.stats_p.packets,
			       (chan->tx.stats_p.bytes + chan->rx.stats_p.bytes) /
				       VMBUS__BYTES_PER_UNIT };
}

/* What a turn cost beyond the packets that were delivered: sent ones, and large ones. */
static void charge_turn(struct vmbus_bus *bus, const struct vmbus_chan *chan, struct moved was,
			uint32_t done)
{
	const struct moved is = moved_by(chan);
	const uint64_t sent = is.packets > was.packets ? is.packets - was.packets : 0;
	const uint64_t bulk = is.bulk > was.bulk ? is.bulk - was.bulk : 0;
	const uint64_t cost = sent > bulk ? sent : bulk;

	if (VMBUS_UNLIKELY(cost > done))
		vmbus__charge(bus, cost - done);
}

/* One turn for a channel, which sleeps then if it may and nothing came; returns what came. */
uint32_t vmbus__bus_turn(struct vmbus_bus *bus, uint32_t slot, uint32_t budget, bool sleep)
{
	struct vmbus_chan *chan = vmbus__chan_at(bus, slot);
	struct moved was;
	bool again = false;
	uint32_t done = 0;

	vmbus__local_remove(bus, slot);
	if (chan && !chan->own_fd) {
		was = moved_by(chan);
		done = vmbus__chan_turn(chan, budget, sleep, &again);
		charge_turn(bus, chan, was, done);
	}
	if (again)
		vmbus__local_add(bus, slot / 64u, (uint64_t)1 << (slot % 64u));
	if (VMBUS_UNLIKELY(bus->polls))
		vmbus__heat(bus, slot, done != 0);
	return done;
}

/* The same; returns the units it took, at least 1. */
static uint32_t turn(struct vmbus_bus *bus, uint32_t slot, uint32_t budget)
{
	const uint32_t done = vmbus__bus_turn(bus, slot, budget, true);

	return done ? done : 1;
}

/* The next slot of a set at or after one, or VMBUS__RELIDS; bit n of sum: word n is not 0. */
uint32_t vmbus__next_slot(const uint64_t *set, uint64_t sum, uint32_t slot)
{
	uint32_t word = slot / 64u;
	uint64_t bits, words;

	if (slot >= VMBUS__RELIDS)
		return VMBUS__RELIDS;
	bits = set[word] >> slot % 64u << slot % 64u;
	if (!bits) {
		words = sum >> word >> 1 << 1 << word; /* those behind this one */
		if (!words)
			return VMBUS__RELIDS;
		word = (uint32_t)__builtin_ctzll(words);
		bits = set[word];
	}
	return word * 64u + (uint32_t)__builtin_ctzll(bits);
}

/* The next slot with work at or after one. */
static uint32_t next_ready(const struct vmbus_bus *bus, uint32_t slot)
{
	return vmbus__next_slot(bus->local, bus->local_words, slot);
}

/* Each channel with work has one turn, from where the last round stopped. */
static uint32_t channels(struct vmbus_bus *bus, uint32_t budget)
{
	const uint32_t from = bus->turn;
	uint32_t slot, done = 0;

	take_ready(bus);
	for (slot = next_ready(bus, from); slot < VMBUS__RELIDS && done + bus->charge < budget;
	     slot = next_ready(bus, slot + 1u)) {
		done += turn(bus, slot, budget - done);
		bus->turn = slot + 1u;
	}
	if (done + bus->charge >= budget)
		return done;
	for (slot = next_ready(bus, 0); slot < from && done + bus->charge < budget;
	     slot = next_ready(bus, slot + 1u)) {
		done += turn(bus, slot, budget - done);
		bus->turn = slot + 1u;
	}
	if (done + bus->charge < budget)
		bus->turn = 0;
	return done;
}

/* What the child asks for, and what becomes of it. */
static uint32_t control(struct vmbus_bus *bus, uint32_t budget)
{
	uint32_t done;

	vmbus__end_openings(bus);
	done = vmbus__answers(bus, budget);
	if (done < budget)
		done += vmbus__actions(bus, budget - done);
	if (done < budget)
		done += messages(bus, budget - done < MESSAGES_AT_ONCE ? budget - done
								       : MESSAGES_AT_ONCE);
	return done;
}

static bool any_work(struct vmbus_bus *bus)
{
	return vmbus__ld64_relaxed(&bus->events) != 0 || /* BITS.take */
	       vmbus__slots_any(&bus->answers) || vmbus__slots_any(&bus->ready) ||
	       (bus->sending && !bus->blocked) || (vmbus__inbox_any(bus) && !bus->held) ||
	       bus->local_words != 0;
}

/* Leave the descriptor readable if and only if there is work. */
static void settle(struct vmbus_bus *bus, bool spent)
{
	if (spent || any_work(bus)) {
		vmbus__kick(&bus->kick);
		return;
	}
	if (!vmbus__kick_is_set(&bus->kick))
		return;
	vmbus__kick_clear(&bus->kick);
	if (any_work(bus))
		vmbus__kick(&bus->kick);
}

/* Take what this call cost beyond its units, and what is owed, off the budget; returns how much. */
uint32_t vmbus__bus_pay(struct vmbus_bus *bus, uint32_t budget)
{
	uint64_t due = bus->debt + bus->charge;
	uint32_t paid;

	if (VMBUS_LIKELY(due == 0))
		return 0;
	bus->charged += bus->charge;
	bus->charge = 0;
	paid = due < budget ? (uint32_t)due : budget;
	bus->debt = due - paid;
	return paid;
}

/* Control and channels, each first in turn, until the budget is spent or nothing is left. */
static uint32_t work(struct vmbus_bus *bus, uint32_t budget)
{
	uint32_t done = 0, some, left;

	do {
		left = budget - done;
		/* Whoever was second last time is first, so that a budget of 1 reaches all. */
		bus->first = !bus->first;
		some = bus->first ? control(bus, left) : channels(bus, left);
		if (some + bus->charge < left)
			some += bus->first ? channels(bus, left - some) : control(bus, left - some);
		some = some < left ? some : left;
		some += vmbus__bus_pay(bus, left - some);
		done += some;
	} while (some && done < budget);
	return done;
}

int vmbus_bus_dispatch(struct vmbus_bus *bus, uint32_t budget)
{
	uint32_t done;

	if (budget == 0)
		return 0;
	if (bus->ending || vmbus__ld64_relaxed(&bus->holder) == vmbus__self()) /* HOLD.look */
		return VMBUS_E_STATE;
	if (budget > INT32_MAX)
		budget = INT32_MAX;
	vmbus__st64_relaxed(&bus->holder, vmbus__self()); /* HOLD.enter */
	bus->dispatches++;
	take_events(bus);
	vmbus__charge(bus, vmbus__timer_run(bus));
	(void)vmbus__take_bound(bus);
	done = vmbus__bus_pay(bus, budget);
	if (done < budget)
		done += work(bus, budget - done);
	settle(bus, done >= budget);
	vmbus__st64_relaxed(&bus->holder, 0); /* HOLD.enter */
	return (int)done;
}

void vmbus_bus_stats(const struct vmbus_bus *bus, struct vmbus_bus_stats *stats)
{
	*stats = (struct vmbus_bus_stats){
		.signals = vmbus__ld64_relaxed(&bus->signals),		       /* COUNT.read */
		.signals_unknown = vmbus__ld64_relaxed(&bus->signals_unknown), /* COUNT.read */
		.posts = vmbus__ld64_relaxed(&bus->posts),		       /* COUNT.read */
		.posts_refused = vmbus__ld64_relaxed(&bus->posts_refused),     /* COUNT.read */
		.raised = vmbus__ld64_relaxed(&bus->raised),		       /* COUNT.read */
		.faults = bus->faults,
		.mirrored = bus->mirrors,
		.dispatches = bus->dispatches,
		.log_dropped = bus->log_dropped,
		.offers_refused = bus->offers_refused,
		.opens_refused = bus->opens_refused,
		.lists_refused = bus->lists_refused,
		.mirrors_refused = bus->mirrors_refused,
		.bufs_refused = vmbus__ld64_relaxed(&bus->bufs_refused), /* COUNT.read */
		.charged = bus->charged + bus->charge,
		.debt = bus->debt,
	};
	vmbus_srv_stats(bus->srv, &stats->srv);
}
