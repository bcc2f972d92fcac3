/* SPDX-License-Identifier: MIT */
/*
 * NICs on the switch: one for each child that attaches, and one for each machine that takes providers.
 * What a child does costs its own NIC only.
 */
#define _GNU_SOURCE
#include "sw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct sw_nic *next(const struct sw_nics *nics, struct sw_nic *after)
{
	struct sw_nic *at = after ? after + 1 : nics->nic;

	while (nics->nic && at < nics->nic + nics->max && !at->name[0])
		at++;
	return nics->nic && at < nics->nic + nics->max ? at : NULL;
}

struct sw_nic *sw_nics_find(const struct sw_nics *nics, const char *name)
{
	struct sw_nic *nic = NULL;

	while ((nic = next(nics, nic)))
		if (strcmp(nic->name, name) == 0)
			return nic;
	return NULL;
}

/* Names are claims: the second of a name gets a number behind it. */
static struct sw_nic *take(const struct sw_nics *nics, const char *name)
{
	struct sw_nic *place = NULL;
	char text[VMBUS_SWITCH_NAME_BYTES];
	uint32_t i, n = 1;

	for (i = 0; i < nics->max && !place; i++)
		if (!nics->nic[i].name[0])
			place = &nics->nic[i];
	if (!place)
		return NULL;
	(void)snprintf(text, sizeof(text), "%.31s", name);
	while (sw_nics_find(nics, text))
		(void)snprintf(text, sizeof(text), "%.24s-%u", name, ++n);
	memset(place, 0, sizeof(*place));
	memcpy(place->name, text, sizeof(text));
	return place;
}

static uint64_t hash(uint64_t sum, const char *text)
{
	while (*text)
		sum = (sum ^ (uint8_t)*text++) * 1099511628211u; /* FNV-1a */
	return sum;
}

/* The same for a name at a place, at each start: so is its MAC. */
static struct vmbus_guid id_of(const char *scope, const char *name)
{
	const uint64_t one = hash(hash(14695981039346656037u, scope) ^ 0xFF, name);
	const uint64_t two = hash(hash(one, name), scope);
	struct vmbus_guid id;

	memcpy(id.b, &one, 8);
	memcpy(id.b + 8, &two, 8);
	return id;
}

static void free_nic(struct sw_nic *nic)
{
	vmbus_net_destroy(nic->net);
	vmbus_port_destroy(&nic->port);
	memset(nic, 0, sizeof(*nic));
}

static struct sw_nic *make(const struct sw_nics *nics, const char *name, int *err)
{
	struct sw_nic *const nic = take(nics, name);
	struct vmbus_net_opts opts = { .struct_bytes = sizeof(opts),
				       .subchannels = nics->subchannels,
				       .mtu_max = nics->mtu,
				       .log = sw_line };

	if (!nic) {
		*err = VMBUS_E_FULL;
		return NULL;
	}
	*err = vmbus_switch_port(nics->sw, nic->name, &nic->port);
	if (!*err) {
		opts.port = nic->port;
		opts.id = id_of(nics->scope, nic->name);
		opts.ctx = nic->name;
		*err = vmbus_net_create(&opts, &nic->net);
	}
	if (*err) {
		free_nic(nic);
		return NULL;
	}
	return nic;
}

static void add(const struct sw_nics *nics, struct sw_nic *nic, struct vmbus_chan *chan)
{
	int err = 0;

	nic->chan[nic->channels++] = chan;
	if (nics->pool)
		err = vmbus_pool_add(nics->pool, chan);
	if (err)
		(void)sw_failed("%s: a channel has no thread: %s", nic->name, vmbus_err_name(err));
}

int sw_nics_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	const struct sw_nics *const nics = ctx;
	const struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer),
						.own_fd = nics->pool != NULL };
	struct vmbus_chan *chan;
	struct sw_nic *nic;
	int err;

	nic = make(nics, vmbus_shm_child_name(child), &err);
	if (!nic && err == VMBUS_E_FULL)
		sw_say("%s is refused: all %u ports are taken, --ports gives more",
		       vmbus_shm_child_name(child), nics->max);
	if (!nic)
		return err;
	nic->child = child;
	err = vmbus_bus_offer(bus, vmbus_net_vsp(), nic->net, &offer, &chan);
	if (err) {
		free_nic(nic);
		return err;
	}
	add(nics, nic, chan);
	sw_say("%s has come: process %d, which calls itself %s", nic->name,
	       (int)vmbus_shm_child_pid(child), vmbus_shm_child_name(child));
	return 0;
}

/* Channels that are left go next. */
void sw_nics_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	const struct sw_nics *const nics = ctx;
	struct sw_nic *nic = NULL;

	while ((nic = next(nics, nic))) {
		if (nic->child != child)
			continue;
		sw_say("%s has %s", nic->name,
		       why == VMBUS_SHM_LEFT   ? "left"
		       : why == VMBUS_SHM_DIED ? "died"
					       : "been thrown out");
		nic->child = NULL;
		nic->left = true;
		if (nic->channels == 0)
			free_nic(nic);
	}
}

void sw_nics_offered(void *ctx, struct vmbus_chan *sub)
{
	const struct sw_nics *const nics = ctx;
	const void *const net = vmbus_chan_ctx(sub);
	struct sw_nic *nic = NULL;

	while ((nic = next(nics, nic)))
		if (nic->net == net && nic->channels < VMBUS_NET_SUBCHANNELS_MAX + 1)
			add(nics, nic, sub);
}

/* No thread is in it any more when this returns. */
void sw_nics_removed(void *ctx, struct vmbus_chan *chan)
{
	const struct sw_nics *const nics = ctx;
	struct sw_nic *nic = NULL;
	uint32_t i;

	while ((nic = next(nics, nic))) {
		for (i = 0; i < nic->channels && nic->chan[i] != chan; i++)
			;
		if (i == nic->channels)
			continue;
		if (nics->pool)
			(void)vmbus_pool_remove(nics->pool, chan);
		nic->chan[i] = nic->chan[--nic->channels];
		if (nic->left && nic->channels == 0)
			free_nic(nic);
		return;
	}
}

int sw_nics_provide(struct sw_nics *nics, const char *path, const char *name)
{
	char why[160] = "";
	struct vmbus_provider_opts opts = { .struct_bytes = sizeof(opts),
					    .path = path,
					    .vsp = vmbus_net_vsp(),
					    .log = sw_log,
					    .why = why,
					    .why_bytes = sizeof(why) };
	struct sw_nic *nic;
	int err;

	nic = make(nics, name, &err);
	if (!nic)
		return sw_failed("--attach %s: %s", path, vmbus_err_name(err));
	opts.name = nic->name;
	opts.ctx = nic->net;
	err = vmbus_provider_attach(&opts, &nic->provider);
	if (!err)
		return 0;
	free_nic(nic);
	return sw_failed("--attach %s: %s (%s)", path, why[0] ? why : "cannot attach",
			 vmbus_err_name(err));
}

void sw_nics_leave(struct sw_nic *nic)
{
	vmbus_provider_detach(nic->provider);
	free_nic(nic);
}

int sw_nics_create(struct sw_nics *nics)
{
	nics->nic = calloc(nics->max, sizeof(*nics->nic));
	return nics->nic ? 0 : sw_failed("no memory");
}

/* After the server is gone. */
void sw_nics_destroy(struct sw_nics *nics)
{
	struct sw_nic *nic = NULL;

	while ((nic = next(nics, nic)))
		sw_nics_leave(nic);
	free(nics->nic);
	nics->nic = NULL;
}
