/* SPDX-License-Identifier: MIT */
/*
 * The parent of vmbus-bench soak: each child has an echo device, a controller with disks, and a NIC on one
 * switch, and whatever providers bring; every other child's are dispatched by a pool.  It withdraws and
 * offers devices, adds and removes disks, pulls cables, and has ports join and leave the switch.
 */
#include "soak.h"

#include <vmbus/block.h>
#include <vmbus/echo.h>
#include <vmbus/net.h>
#include <vmbus/pool.h>
#include <vmbus/provider.h>
#include <vmbus/shm_bus.h>
#include <vmbus/switch.h>

#include <stdlib.h>
#include <unistd.h>

#define WAIT_NS 20000000u
#define DEED_NS 300000000u
#define AGAIN_NS 50000000u /* from removed() to the next offer */
#define POOL_THREADS 2u
#define DISK_BYTES 1048576u
#define LUN_BYTES 262144u
#define PLUGS 16u
#define KINDS 3u /* SOAK_ECHO, SOAK_BLOCK, SOAK_NET */

/* A device of one child, while it is offered. */
struct device {
	struct vmbus_chan *chan;
	struct vmbus_block *block;
	struct vmbus_net *net;
	struct vmbus_port port;
	uint64_t again_ns; /* when to offer it again */
	bool lun, down;
};

struct place {
	struct vmbus_bus *bus; /* NULL: nobody sits here */
	uint32_t seat;
	struct device device[KINDS];
};

struct hub {
	struct soak_shared *shared;
	struct vmbus_shm_server *server;
	struct vmbus_provider_host *host;
	struct vmbus_pool *pool;
	struct vmbus_switch *sw;
	struct place *place; /* twice as many as there are seats: one may be ending */
	uint32_t places;
	struct vmbus_port plugged[PLUGS][2];
	uint32_t number[PLUGS];
	uint64_t random, deed_ns;
};

/* ---- devices ---- */

static void disk_removed(void *ctx, uint8_t target, uint8_t lun, const struct vmbus_store *store)
{
	struct vmbus_store gone = *store;

	(void)ctx;
	(void)target;
	(void)lun;
	vmbus_store_destroy(&gone);
}

static int add_lun(struct device *d, uint8_t lun)
{
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk), .lun = lun };
	int err = vmbus_store_memory(lun ? LUN_BYTES : DISK_BYTES, -1, &disk.store);

	if (!err)
		err = vmbus_block_add(d->block, &disk);
	if (err)
		vmbus_store_destroy(&disk.store);
	return err;
}

static int make_block(struct device *d)
{
	struct vmbus_block_opts opts = { .struct_bytes = sizeof(opts) };
	int err;

	opts.removed = disk_removed;
	err = vmbus_block_create(&opts, &d->block);
	d->lun = false;
	return err ? err : add_lun(d, 0);
}

static int make_net(struct hub *hub, struct device *d, uint32_t seat)
{
	struct vmbus_net_opts opts = { .struct_bytes = sizeof(opts) };
	int err = vmbus_switch_port(hub->sw, "child", &d->port);

	if (err)
		return err;
	opts.port = d->port;
	soak_mac(opts.mac, seat);
	d->down = false;
	return vmbus_net_create(&opts, &d->net);
}

static void unmake(struct device *d)
{
	vmbus_block_destroy(d->block);
	vmbus_net_destroy(d->net);
	vmbus_port_destroy(&d->port);
	memset(d, 0, sizeof(*d));
}

static int offer(struct hub *hub, struct place *p, uint32_t kind)
{
	const struct vmbus_guid id = SOAK_INSTANCE(kind);
	struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .instance_id = id };
	struct device *const d = &p->device[kind];
	const struct vmbus_vsp *vsp = vmbus_echo_vsp();
	void *ctx = NULL;
	int err = 0;

	memset(d, 0, sizeof(*d));
	if (kind == SOAK_BLOCK) {
		err = make_block(d);
		vsp = vmbus_block_vsp();
		ctx = d->block;
	} else if (kind == SOAK_NET) {
		err = make_net(hub, d, p->seat);
		vsp = vmbus_net_vsp();
		ctx = d->net;
	}
	opts.own_fd = p->seat % 2 != 0;
	if (!err)
		err = vmbus_bus_offer(p->bus, vsp, ctx, &opts, &d->chan);
	if (!err && opts.own_fd)
		err = vmbus_pool_add(hub->pool, d->chan);
	if (err)
		fprintf(stderr, "vmbus-bench: cannot offer %s to seat %u: %s\n",
			soak_series_name[kind], p->seat, vmbus_err_name(err));
	if (err && !d->chan) {
		unmake(d);
		d->again_ns = now_ns() + SOAK_SECOND;
	}
	return err;
}

/* ---- children ---- */

static int attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct hub *const hub = ctx;
	struct place *p = NULL;
	int err = 0;

	for (uint32_t i = 0; i < hub->places && !p; i++) {
		bool used = hub->place[i].bus;

		for (uint32_t k = 0; k < KINDS; k++)
			used = used || hub->place[i].device[k].chan;
		p = used ? NULL : &hub->place[i];
	}
	if (!p)
		return VMBUS_E_FULL;
	p->bus = bus;
	p->seat = (uint32_t)strtoul(vmbus_shm_child_name(child), NULL, 10);
	for (uint32_t k = 0; k < KINDS && !err; k++)
		err = offer(hub, p, k);
	return err;
}

static void detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	struct hub *const hub = ctx;
	const struct vmbus_bus *const bus = vmbus_shm_child_bus(child);

	(void)why;
	for (uint32_t i = 0; i < hub->places; i++)
		if (hub->place[i].bus == bus)
			hub->place[i].bus = NULL;
}

static void removed(void *ctx, struct vmbus_chan *chan)
{
	struct hub *const hub = ctx;

	(void)vmbus_pool_remove(hub->pool, chan);
	for (uint32_t i = 0; i < hub->places; i++) {
		for (uint32_t k = 0; k < KINDS; k++) {
			struct device *const d = &hub->place[i].device[k];

			if (d->chan != chan)
				continue;
			unmake(d);
			d->again_ns = now_ns() + AGAIN_NS;
			return;
		}
	}
}

/* ---- hot-plug ---- */

static void flip_lun(struct hub *hub, struct device *d)
{
	if (!d->chan)
		return;
	if (d->lun && vmbus_block_remove(d->block, 0, 1) == 0)
		soak_count(&hub->shared->deed[SOAK_LUN_REMOVE]);
	else if (!d->lun && add_lun(d, 1) == 0)
		soak_count(&hub->shared->deed[SOAK_LUN_ADD]);
	else
		return;
	d->lun = !d->lun;
}

static void flip_link(struct hub *hub, struct device *d)
{
	if (!d->chan)
		return;
	d->down = !d->down;
	vmbus_net_link(d->net, !d->down);
	soak_count(&hub->shared->deed[SOAK_LINK]);
}

static void flip_plug(struct hub *hub, uint32_t i)
{
	if (hub->plugged[i][0].ops) {
		(void)vmbus_switch_unplug(hub->sw, hub->number[i]);
		vmbus_port_destroy(&hub->plugged[i][0]);
		vmbus_port_destroy(&hub->plugged[i][1]);
		soak_count(&hub->shared->deed[SOAK_PLUG]);
		return;
	}
	if (vmbus_port_pair(0, hub->plugged[i]))
		return;
	if (vmbus_switch_plug(hub->sw, "plug", &hub->plugged[i][0], &hub->number[i])) {
		vmbus_port_destroy(&hub->plugged[i][0]);
		vmbus_port_destroy(&hub->plugged[i][1]);
	}
}

/* Something to somebody. */
static void deed(struct hub *hub)
{
	struct place *const p = &hub->place[soak_random(&hub->random) % hub->places];
	const uint32_t what = soak_random(&hub->random) % 10u;
	struct device *d;

	if (!p->bus)
		return;
	if (what < 3) {
		d = &p->device[soak_random(&hub->random) % KINDS];
		if (d->chan) {
			(void)vmbus_bus_revoke(d->chan);
			soak_count(&hub->shared->deed[SOAK_REVOKE]);
		}
	} else if (what < 6) {
		flip_lun(hub, &p->device[SOAK_BLOCK]);
	} else if (what < 8) {
		flip_link(hub, &p->device[SOAK_NET]);
	} else {
		flip_plug(hub, soak_random(&hub->random) % PLUGS);
	}
}

/* Offers that are due again; links come up by themselves. */
static void look_after(struct hub *hub, uint64_t now)
{
	for (uint32_t i = 0; i < hub->places; i++) {
		struct place *const p = &hub->place[i];

		for (uint32_t k = 0; k < KINDS && p->bus; k++)
			if (!p->device[k].chan && now >= p->device[k].again_ns)
				(void)offer(hub, p, k);
	}
	if (now < hub->deed_ns || !load32(&hub->shared->plugging))
		return;
	hub->deed_ns = now + DEED_NS;
	for (uint32_t i = 0; i < hub->places; i++)
		if (hub->place[i].device[SOAK_NET].down && soak_random(&hub->random) % 8u == 0)
			flip_link(hub, &hub->place[i].device[SOAK_NET]);
	deed(hub);
}

/* ---- the process ---- */

static void tell(struct hub *hub)
{
	struct vmbus_shm_server_stats stats;

	vmbus_shm_server_stats(hub->server, &stats);
	for (uint32_t i = 0; i < 3; i++)
		store64(&hub->shared->ended[i], stats.ended[i]);
	store64(&hub->shared->refused, stats.refused);
	store32(&hub->shared->children, (uint32_t)(stats.children + stats.ending));
}

static void unplug_all(struct hub *hub)
{
	for (uint32_t i = 0; i < PLUGS; i++)
		if (hub->plugged[i][0].ops)
			flip_plug(hub, i);
}

static void log_line(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)ctx;
	/* That somebody died is no news here. */
	if (level == VMBUS_LOG_ERROR && !strstr(line, " died") && !strstr(line, " is gone"))
		fprintf(stderr, "vmbus-bench: parent: %s\n", line);
}

static int open_all(struct hub *hub, const char *path)
{
	struct vmbus_provider_host_opts host = { .struct_bytes = sizeof(host) };
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts), .path = path };
	struct vmbus_pool_opts threads = { .struct_bytes = sizeof(threads) };
	struct vmbus_switch_opts sw = { .struct_bytes = sizeof(sw) };

	threads.threads = POOL_THREADS;
	sw.ports = 2u * hub->places + PLUGS;
	host.log = log_line;
	host.journal_bytes_max = UINT64_C(1) << 30;
	opts.children_max = hub->places;
	opts.attach_rate_max = 1000;
	opts.attached = attached;
	opts.detached = detached;
	opts.removed = removed;
	opts.log = log_line;
	opts.ctx = hub;
	if (vmbus_pool_create(&threads, &hub->pool) || vmbus_switch_create(&sw, &hub->sw) ||
	    vmbus_provider_listen(&host, &hub->host))
		return -1;
	opts.providers = hub->host;
	return vmbus_shm_listen(&opts, &hub->server);
}

int soak_parent(struct soak_shared *shared, const char *path, uint64_t seed)
{
	struct hub hub = { .shared = shared, .places = 2u * shared->count, .random = seed };

	hub.place = must_alloc(hub.places * sizeof(*hub.place));
	memset(hub.place, 0, hub.places * sizeof(*hub.place));
	if (open_all(&hub, path)) {
		fputs("vmbus-bench: the parent cannot begin\n", stderr);
		return BENCH_EXIT_FAILED;
	}
	store32(&shared->listening, 1);
	while (!load32(&shared->stop_all)) {
		(void)vmbus_shm_server_run(hub.server, WAIT_NS);
		(void)vmbus_switch_dispatch(hub.sw, 0);
		look_after(&hub, now_ns());
		if (load32(&shared->stop))
			unplug_all(&hub);
		tell(&hub);
	}
	vmbus_shm_server_destroy(hub.server);
	vmbus_provider_host_destroy(hub.host);
	vmbus_switch_destroy(hub.sw);
	vmbus_pool_destroy(hub.pool);
	free(hub.place);
	return BENCH_EXIT_OK;
}
