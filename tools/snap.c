/* SPDX-License-Identifier: MIT */
/* Snapshots of a parent, kept so that two of them can be compared. */
#define _GNU_SOURCE
#include "snap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BUSES_MAX 8192u
#define CHANS_MAX (1u << 20)

/* Room for one more; a parent that tells without end is not believed. */
static void *grow(void *at, uint32_t *room, uint32_t have, uint32_t most, size_t bytes)
{
	const uint32_t want = *room ? *room * 2 : 64;
	void *more;

	if (have < *room)
		return at;
	if (have >= most)
		return NULL;
	more = realloc(at, want * bytes);
	if (more)
		*room = want;
	return more;
}

static void take_bus(void *ctx, const struct vmbus_shm_child_info *info,
		     const struct vmbus_bus_diag *diag)
{
	struct snap *const s = ctx;
	struct snap_bus *const all =
		grow(s->bus, &s->buses_room, s->buses, BUSES_MAX, sizeof(*all));
	struct snap_bus *bus;

	s->broken = s->broken || !all;
	if (s->broken)
		return;
	s->bus = all;
	bus = &all[s->buses++];
	memset(bus, 0, sizeof(*bus));
	bus->d = *diag;
	(void)snprintf(bus->name, sizeof(bus->name), "%s", info->name);
	(void)snprintf(bus->what, sizeof(bus->what), "%s", diag->refusal.what);
	bus->d.name = bus->d.refusal.what = ""; /* those of the answer are gone after the call */
	bus->pid = info->pid;
	bus->ending = info->ending;
	bus->first = s->chans;
}

static void take_chan(void *ctx, const struct vmbus_chan_diag *diag)
{
	struct snap *const s = ctx;
	struct snap_chan *const all =
		grow(s->chan, &s->chans_room, s->chans, CHANS_MAX, sizeof(*all));
	struct snap_chan *chan;

	s->broken = s->broken || !all || !s->buses;
	if (s->broken)
		return;
	s->chan = all;
	chan = &all[s->chans++];
	memset(chan, 0, sizeof(*chan));
	chan->d = *diag;
	(void)snprintf(chan->vsp, sizeof(chan->vsp), "%s", diag->info.vsp);
	(void)snprintf(chan->refused, sizeof(chan->refused), "%s", diag->refused);
	chan->d.info.vsp = chan->d.refused = "";
	s->bus[s->buses - 1].count++;
}

int snap_take(struct snap *snap, const struct ctl_ask *ask)
{
	const struct vmbus_shm_diag_ops ops = { .struct_bytes = sizeof(ops),
						.bus = take_bus,
						.channel = take_chan };
	int n;

	snap_free(snap);
	n = vmbus_shm_diag(ask->path, ask->timeout_ns, &ops, snap);
	if (n >= 0 && snap->broken)
		n = VMBUS_E_PEER;
	return n < 0 ? n : 0;
}

void snap_free(struct snap *snap)
{
	free(snap->bus);
	free(snap->chan);
	memset(snap, 0, sizeof(*snap));
}

const struct snap_bus *snap_same_bus(const struct snap *in, const struct snap_bus *bus)
{
	uint32_t i;

	for (i = 0; i < in->buses; i++)
		if (in->bus[i].d.created == bus->d.created && in->bus[i].pid == bus->pid &&
		    strcmp(in->bus[i].name, bus->name) == 0)
			return &in->bus[i];
	return NULL;
}

const struct snap_chan *snap_same_chan(const struct snap *in, const struct snap_bus *bus,
				       const struct snap_chan *chan)
{
	const struct snap_bus *const other = snap_same_bus(in, bus);
	uint32_t i;

	for (i = 0; other && i < other->count; i++) {
		const struct snap_chan *const c = &in->chan[other->first + i];

		if (c->d.info.relid == chan->d.info.relid &&
		    vmbus_guid_equal(&c->d.info.instance_id, &chan->d.info.instance_id) &&
		    c->d.info.sub_index == chan->d.info.sub_index &&
		    c->d.info.opens == chan->d.info.opens)
			return c;
	}
	return NULL;
}

void snap_sleep(uint64_t ns)
{
	struct timespec left = { .tv_sec = (time_t)(ns / 1000000000u),
				 .tv_nsec = (long)(ns % 1000000000u) };

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}

/* ---- who is gone ---- */

struct gone {
	struct snap *snap;
	struct snap_bus *bus;
};

static bool has_no_provider(const struct snap_chan *chan)
{
	return chan->d.foreign && !chan->d.owner && chan->d.from_child.size;
}

static void take_event(void *ctx, const struct vmbus_record_event *event)
{
	const struct gone *const g = ctx;
	uint32_t i;

	if (event->kind != VMBUS_RECORD_PROVIDER_GONE)
		return;
	for (i = 0; i < g->bus->count; i++) {
		struct snap_chan *const chan = &g->snap->chan[g->bus->first + i];

		if (chan->d.info.relid != event->relid || !has_no_provider(chan))
			continue;
		chan->gone_at = event->mono_ns;
		chan->gone = (uint32_t)event->a;
	}
}

static void take_record(void *ctx, const struct vmbus_shm_child_info *info, const void *mem,
			size_t bytes)
{
	struct gone *const g = ctx;
	struct vmbus_record_info record;
	uint32_t i;

	for (i = 0; mem && i < g->snap->buses; i++) {
		g->bus = &g->snap->bus[i];
		if (g->bus->pid == info->pid && strcmp(g->bus->name, info->name) == 0)
			(void)vmbus_record_read(mem, bytes, &record, take_event, g);
	}
}

void snap_gone(struct snap *snap, const struct ctl_ask *ask)
{
	struct gone g = { .snap = snap };
	uint32_t i;

	for (i = 0; i < snap->chans; i++)
		if (has_no_provider(&snap->chan[i])) {
			(void)vmbus_shm_records(ask->path, ask->timeout_ns, take_record, &g);
			return;
		}
}
