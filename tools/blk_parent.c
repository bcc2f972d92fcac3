/* SPDX-License-Identifier: MIT */
/*
 * vmbus-blk parent: what children and providers attach to.  Each child is offered the disks of the
 * command line, served here, each channel on a thread of a pool, and those of the providers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <vmbus/pool.h>
#include <vmbus/provider.h>
#include <vmbus/shm_bus.h>

#include "blk.h"
#include "blk_disks.h"

#define TURN_NS 100000000u
#define PROVIDERS_MAX 16u
#define SECONDS_MAX 3600u
#define CHILD_MEMORY (UINT64_C(1) << 30)

/* What was said of a provider last. */
struct known {
	char name[64];
	uint64_t pause_ns, deaths, handovers;
};

struct parent {
	struct blk_disks disks;
	const char *socket;
	uint64_t answer_ns, wait_ns; /* 0: as the library has it */
	struct vmbus_pool *pool;
	struct vmbus_provider_host *host;
	struct vmbus_shm_server *server;
	struct known known[PROVIDERS_MAX];
};

static int seconds(const char *text, uint64_t *ns)
{
	uint64_t n;

	if (disk_number(text, SECONDS_MAX, &n, NULL) || n == 0)
		return -1;
	*ns = n * BLK_SECOND;
	return 0;
}

static int parse(int argc, char **argv, struct parent *p)
{
	int i, err;

	for (i = 1; i < argc; i++) {
		const char *const arg = argv[i];

		if (strcmp(arg, "--quiet") == 0) {
			blk_quiet = true;
		} else if (strcmp(arg, "-s") == 0 && i + 1 < argc) {
			p->socket = argv[++i];
		} else if (strcmp(arg, "--answer") == 0 && i + 1 < argc) {
			if (seconds(argv[++i], &p->answer_ns))
				return blk_usage("--answer %s: seconds, 1 to %u", argv[i],
						 SECONDS_MAX);
		} else if (strcmp(arg, "--wait") == 0 && i + 1 < argc) {
			if (seconds(argv[++i], &p->wait_ns))
				return blk_usage("--wait %s: seconds, 1 to %u", argv[i],
						 SECONDS_MAX);
		} else if (arg[0] != '-') {
			err = blk_disks_word(&p->disks, arg);
			if (err)
				return err;
		} else {
			return blk_usage("what is this: %s: no option, or its value is missing",
					 arg);
		}
	}
	return p->socket ? 0 : blk_usage("where to listen: -s SOCKET is missing");
}

static int attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	struct parent *const p = ctx;
	const struct vmbus_offer_opts opts = { .struct_bytes = sizeof(opts), .own_fd = true };
	struct vmbus_chan *chan;
	int err;

	(void)child;
	if (p->disks.count == 0)
		return 0;
	err = vmbus_bus_offer(bus, vmbus_block_vsp(), p->disks.block, &opts, &chan);
	return err ? err : vmbus_pool_add(p->pool, chan);
}

static void offered(void *ctx, struct vmbus_chan *sub)
{
	struct parent *const p = ctx;

	if (vmbus_chan_fd(sub) >= 0 && vmbus_pool_add(p->pool, sub))
		(void)blk_failed("a queue has no thread");
}

static void removed(void *ctx, struct vmbus_chan *chan)
{
	struct parent *const p = ctx;

	if (p->pool) /* those of providers are not in it */
		(void)vmbus_pool_remove(p->pool, chan);
}

static int make_pool(struct parent *p)
{
	const struct vmbus_pool_opts opts = { .struct_bytes = sizeof(opts),
					      .threads = p->disks.queues,
					      .spin_ns = 1000u * (uint64_t)p->disks.spin_us };
	uint32_t i;
	int err;

	if (p->disks.count == 0)
		return 0;
	if (blk_disks_create(&p->disks, p->socket, "parent"))
		return BLK_FAILED;
	for (i = 0; i < p->disks.count; i++)
		if (blk_disks_add(&p->disks, i, -1))
			return BLK_FAILED;
	err = vmbus_pool_create(&opts, &p->pool);
	return err ? blk_failed("threads: %s", vmbus_err_name(err)) : 0;
}

static int listen_there(struct parent *p)
{
	const struct vmbus_provider_host_opts host = {
		.struct_bytes = sizeof(host),
		.providers_max = PROVIDERS_MAX,
		.memory_bytes_max = CHILD_MEMORY,
		.answer_ns = p->answer_ns,
		.wait_ns = p->wait_ns,
		.log = blk_log,
	};
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts),
					      .path = p->socket,
					      .attached = attached,
					      .removed = removed,
					      .offered = offered,
					      .ctx = p,
					      .log = blk_log };
	int err = vmbus_provider_listen(&host, &p->host);

	opts.providers = p->host;
	if (!err)
		err = vmbus_shm_listen(&opts, &p->server);
	return err ? blk_failed("%s: %s", p->socket,
				err == VMBUS_E_SYSTEM ? strerror(errno) : vmbus_err_name(err))
		   : 0;
}

/* One line for each pause, on standard output. */
static void look(void *ctx, const struct vmbus_provider_info *info)
{
	struct parent *const p = ctx;
	struct known *k = NULL;
	uint32_t i;

	for (i = 0; i < PROVIDERS_MAX && !k; i++)
		if (!p->known[i].name[0] || strcmp(p->known[i].name, info->name) == 0)
			k = &p->known[i];
	if (!k)
		return;
	(void)snprintf(k->name, sizeof(k->name), "%s", info->name);
	if (info->last_pause_ns && info->last_pause_ns != k->pause_ns) {
		(void)printf("pause %s %s %llu\n", info->name,
			     info->handovers != k->handovers ? "hand-over" : "death",
			     (unsigned long long)info->last_pause_ns);
		(void)fflush(stdout);
		k->handovers = info->handovers;
		k->deaths = info->deaths;
		k->pause_ns = info->last_pause_ns;
	}
}

static int run(struct parent *p)
{
	int err;

	while (!blk_stopped()) {
		err = vmbus_shm_server_run(p->server, TURN_NS);
		if (err < 0 && err != VMBUS_E_AGAIN)
			return blk_failed("waiting failed: %s", vmbus_err_name(err));
		vmbus_provider_host_list(p->host, look, p);
	}
	blk_say("stopped by a signal: ending");
	return BLK_OK;
}

int blk_parent(int argc, char **argv)
{
	static struct parent p;
	int status = parse(argc, argv, &p);

	if (status)
		return status;
	blk_catch_signals();
	status = make_pool(&p);
	if (!status)
		status = listen_there(&p);
	if (!status) {
		blk_say("listening on %s", p.socket);
		status = run(&p);
	}
	vmbus_shm_server_destroy(p.server);
	vmbus_provider_host_destroy(p.host);
	vmbus_pool_destroy(p.pool);
	blk_disks_destroy(&p.disks);
	return status;
}
