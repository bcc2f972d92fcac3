/* SPDX-License-Identifier: MIT */
/*
 * vmbus-switch serve: the parent of children that each get a NIC on one switch, and the provider of NICs
 * in machines that others run.  The main thread serves sockets and plugged ports, and the NICs too,
 * unless --threads gives those to a pool.
 */
#define _GNU_SOURCE
#include "sw.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BUDGET 256u
#define CHILD_MEMORY (UINT64_C(256) << 20)
#define THREADS_MAX 64u
#define PORTS 64u
#define LEARN 1024u /* addresses of a port; of many ports fewer: none fills the table */
#define ADDRESSES_MIN 4096u
#define ADDRESSES_MAX 65536u

struct serve {
	const char *socket, *name;
	const char *attach[SW_ATTACH_MAX];
	uint32_t attaches;
	uint32_t queue_bytes;
	uint64_t ports, channels, mtu, threads, spin_us, age_s, flood;
	bool no_sandbox;
	struct sw_plugs plugs;
	struct vmbus_switch *sw;
	struct sw_nics nics;
	struct sw_ctl ctl;
	struct vmbus_shm_server *server;
};

enum {
	P_SERVER,
	P_SWITCH,
	P_CTL,
	P_PROVIDERS = P_CTL + SW_CTL_POLLS,
	POLLS = P_PROVIDERS + SW_ATTACH_MAX
};

/* 0, SW_GONE: it is no number of ours, or an exit status. */
static int parse_number(struct serve *s, int argc, char **argv, int *i)
{
	const struct {
		const char *word;
		uint64_t min, max;
		uint64_t *value;
	} numbers[] = { { "--ports", 2, VMBUS_SWITCH_PORTS_MAX, &s->ports },
			{ "--channels", 1, VMBUS_NET_SUBCHANNELS_MAX + 1, &s->channels },
			{ "--mtu", 1500, VMBUS_NET_MTU_MAX, &s->mtu },
			{ "--threads", 0, THREADS_MAX, &s->threads },
			{ "--spin", 0, NIC_SPIN_US_MAX, &s->spin_us },
			{ "--age", 1, 86400, &s->age_s },
			{ "--flood", 1, UINT32_MAX, &s->flood } };
	size_t k;

	for (k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++) {
		if (strcmp(argv[*i], numbers[k].word) != 0)
			continue;
		if (*i + 1 >= argc ||
		    sw_number(argv[*i + 1], numbers[k].min, numbers[k].max, numbers[k].value))
			return sw_usage("%s takes a number, %llu to %llu", numbers[k].word,
					(unsigned long long)numbers[k].min,
					(unsigned long long)numbers[k].max);
		++*i;
		return 0;
	}
	return SW_GONE;
}

static int parse_word(struct serve *s, int argc, char **argv, int *i)
{
	const char *const arg = argv[*i];
	int err = parse_number(s, argc, argv, i);

	if (err == SW_GONE)
		err = sw_queue_word(argc, argv, i, &s->queue_bytes);
	if (err == SW_GONE)
		err = sw_plugs_word(&s->plugs, argc, argv, i);
	if (err != SW_GONE)
		return err;
	if (strcmp(arg, "--no-sandbox") == 0) {
		s->no_sandbox = true;
	} else if (strcmp(arg, "--quiet") == 0) {
		sw_quiet = true;
	} else if (strcmp(arg, "--name") == 0 && *i + 1 < argc) {
		s->name = argv[++*i];
	} else if (strcmp(arg, "--attach") == 0 && *i + 1 < argc) {
		if (s->attaches == SW_ATTACH_MAX)
			return sw_usage("--attach: %u of them are the most", SW_ATTACH_MAX);
		s->attach[s->attaches++] = argv[++*i];
	} else if (arg[0] != '-' && !s->socket) {
		s->socket = arg;
	} else {
		return sw_usage("what is this: %s%s", arg,
				arg[0] == '-' ? ": no option, or its value is missing" : "");
	}
	return 0;
}

static int parse(int argc, char **argv, struct serve *s)
{
	int i, err = 0;

	for (i = 1; i < argc && !err; i++)
		err = parse_word(s, argc, argv, &i);
	if (!err && !s->socket)
		return sw_usage("where to listen: vmbus-switch serve SOCKET");
	if (!err && (!*s->name || strlen(s->name) >= VMBUS_SWITCH_NAME_BYTES))
		return sw_usage("--name %s: 1 to %u characters", s->name,
				VMBUS_SWITCH_NAME_BYTES - 1);
	return err;
}

static uint32_t addresses_for(uint32_t ports)
{
	uint32_t n = ADDRESSES_MIN;

	while (n < ADDRESSES_MAX && n < ports * LEARN)
		n *= 2;
	return n;
}

static int make_switch(struct serve *s)
{
	const uint32_t ports = (uint32_t)s->ports, addresses = addresses_for(ports);
	const struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts),
						.ports = ports,
						.addresses = addresses,
						.learn_max = addresses / ports < LEARN
								     ? addresses / ports
								     : LEARN,
						.age_s = (uint32_t)s->age_s,
						.flood_max = (uint32_t)s->flood,
						.queue_bytes = s->queue_bytes };
	const int err = vmbus_switch_create(&opts, &s->sw);

	if (err)
		return sw_failed("the switch: %s", vmbus_err_name(err));
	s->nics.sw = s->sw;
	s->nics.scope = s->socket;
	s->nics.subchannels = (uint32_t)s->channels - 1;
	s->nics.mtu = (uint32_t)s->mtu;
	s->nics.max = (uint32_t)s->ports;
	return sw_nics_create(&s->nics);
}

/* After what needs privileges: its threads have none, and the filter is for them too. */
static int make_pool(struct serve *s)
{
	const struct vmbus_pool_opts opts = { .struct_bytes = sizeof(opts),
					      .threads = (uint32_t)s->threads,
					      .spin_ns = 1000u * s->spin_us };
	const int err = s->threads ? vmbus_pool_create(&opts, &s->nics.pool) : 0;

	return err ? sw_failed("--threads: %s", vmbus_err_name(err)) : 0;
}

static int listen_there(struct serve *s)
{
	const struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts),
						    .path = s->socket,
						    .children_max = (uint32_t)s->ports,
						    .memory_bytes_max = CHILD_MEMORY,
						    .attached = sw_nics_attached,
						    .detached = sw_nics_detached,
						    .offered = sw_nics_offered,
						    .removed = sw_nics_removed,
						    .ctx = &s->nics,
						    .log = sw_log };
	const int err = vmbus_shm_listen(&opts, &s->server);

	if (err && sw_explained)
		return SW_FAILED;
	if (err)
		return sw_failed("%s: cannot listen: %s", s->socket,
				 err == VMBUS_E_SYSTEM ? strerror(errno) : vmbus_err_name(err));
	return sw_ctl_listen(&s->ctl, s->socket, &s->nics);
}

static int attach_all(struct serve *s)
{
	uint32_t i;
	int err = 0;

	for (i = 0; i < s->attaches && !err; i++)
		err = sw_nics_provide(&s->nics, s->attach[i], s->name);
	return err;
}

static void set(struct pollfd *p, int fd)
{
	p->fd = fd;
	p->events = POLLIN;
	p->revents = 0;
}

/* NICs over providers, in the order of their descriptors. */
static uint32_t providers(const struct sw_nics *nics, struct sw_nic *of[SW_ATTACH_MAX])
{
	uint32_t i, n = 0;

	for (i = 0; i < nics->max && n < SW_ATTACH_MAX; i++)
		if (nics->nic[i].provider)
			of[n++] = &nics->nic[i];
	return n;
}

static void serve_provider(struct sw_nic *nic)
{
	if (vmbus_provider_dispatch(nic->provider, BUDGET) != VMBUS_E_PEER)
		return;
	sw_say("%s: %s", nic->name, vmbus_provider_why(nic->provider));
	sw_nics_leave(nic);
}

static int run(struct serve *s)
{
	struct sw_nic *over[SW_ATTACH_MAX];
	struct pollfd p[POLLS];
	uint32_t i, count;

	while (!sw_stopped()) {
		set(&p[P_SERVER], vmbus_shm_server_fd(s->server));
		set(&p[P_SWITCH], vmbus_switch_fd(s->sw));
		sw_ctl_polls(&s->ctl, &p[P_CTL]);
		count = providers(&s->nics, over);
		for (i = 0; i < count; i++)
			set(&p[P_PROVIDERS + i], vmbus_provider_fd(over[i]->provider));
		if (sw_wait(p, P_PROVIDERS + count) < 0) {
			if (errno == EINTR)
				continue;
			return sw_failed("waiting failed: %s", strerror(errno));
		}
		if (p[P_SERVER].revents)
			(void)vmbus_shm_server_dispatch(s->server, BUDGET);
		for (i = 0; i < count; i++)
			if (p[P_PROVIDERS + i].revents)
				serve_provider(over[i]);
		if (p[P_SWITCH].revents)
			(void)vmbus_switch_dispatch(s->sw, BUDGET);
		sw_ctl_turn(&s->ctl, &p[P_CTL]);
	}
	sw_say("stopped by a signal: ending");
	return SW_OK;
}

static void finish(struct serve *s)
{
	sw_ctl_close(&s->ctl);
	vmbus_shm_server_destroy(s->server);
	sw_nics_destroy(&s->nics);
	vmbus_pool_destroy(s->nics.pool);
	vmbus_switch_destroy(s->sw);
	sw_plugs_close(&s->plugs);
}

int sw_serve(int argc, char **argv)
{
	static struct serve serve = {
		.name = "switch", .ports = PORTS, .channels = 1, .queue_bytes = SW_QUEUE_BYTES
	};
	struct serve *const s = &serve;
	int status = parse(argc, argv, s);

	s->ctl.fd = -1;
	if (status)
		return status;
	sw_catch_signals();
	status = make_switch(s);
	if (!status)
		status = sw_plugs_open(&s->plugs, s->sw, NULL);
	if (!status)
		status = listen_there(s);
	if (!status)
		status = attach_all(s);
	if (!status && !s->no_sandbox)
		status = sw_unprivileged();
	if (!status)
		status = make_pool(s);
	if (!status && !s->no_sandbox)
		status = sw_sandbox(sw_plugs_make_sockets(&s->plugs));
	if (!status) {
		sw_say("listening on %s", s->socket);
		status = run(s);
	}
	finish(s);
	return status;
}
