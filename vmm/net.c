/* SPDX-License-Identifier: MIT */
/*
 * Networks: NICs, each with a port behind it, and their channels on the threads of a pool.  Ports are
 * opened before there is a sandbox; what goes through them does so on the pool's threads, which have a
 * filter of their own.
 */
#define _GNU_SOURCE
#include "vmm.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUDGET 256u
#define LET_GO_NS 6000000000u /* for the channels' threads to close them */

/* Of the first NIC, the next one more: the same in each machine, so that a saved one finds them. */
static const struct vmbus_guid first_instance =
	VMBUS_GUID(0x6d9b1ad5, 0x33a4, 0x4c1e, 0x9f, 0x21, 0x76, 0x6d, 0x6e, 0x65, 0x74, 0x01);

static struct vmbus_guid instance_of(uint32_t i)
{
	struct vmbus_guid id = first_instance;

	id.b[15] = (uint8_t)(id.b[15] + i);
	return id;
}

static void net_log(void *ctx, const char *line)
{
	const struct vmm_net *const n = ctx;

	vmm_tell("net %u: %s", n->number, line);
}

static void port_changed(void *ctx)
{
	struct vmm_net *const n = ctx;

	if (n->net)
		(void)vmbus_net_port_changed(n->net);
}

/*
 * What the MAC is made of, if none is given.  A TAP is one machine's, and user is a network of its own:
 * there the place in the command line will do.  On a switch, or an interface, it is another at each start.
 */
static int make_id(struct nic_spec *spec, uint32_t number)
{
	static const struct vmbus_guid none;
	uint64_t sum = 14695981039346656037u; /* FNV-1a */
	const char *at;

	if (!vmbus_guid_equal(&spec->id, &none))
		return 0;
	if (spec->kind == NIC_PACKET || spec->kind == NIC_SWITCH)
		return getrandom(&spec->id, sizeof(spec->id), 0) == sizeof(spec->id) ? 0 : -1;
	spec->id = instance_of(number);
	for (at = spec->source; *at; at++)
		sum = (sum ^ (uint8_t)*at) * 1099511628211u;
	memcpy(spec->id.b, &sum, sizeof(sum));
	return 0;
}

static int open_port(struct vmm *vmm, uint32_t i)
{
	struct vmm_net *const n = &vmm->nets.net[i];
	struct nic_spec *const spec = &vmm->opts.nets[i];
	const struct nic_events events = { .changed = port_changed, .log = net_log, .ctx = n };
	char why[NIC_WHY_BYTES];

	n->number = i;
	if (make_id(spec, i))
		return vmm_errno("--net: random bytes");
	return nic_open(spec, "vmbus-vmm", &events, &n->port, why) ? vmm_error("--net %s", why) : 0;
}

/* Before anything that takes long: what is wrong with a port is said at once. */
int vmm_nets_open(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < vmm->opts.net_count; i++)
		if (open_port(vmm, i))
			return -1;
	return 0;
}

static int create(struct vmm *vmm, uint32_t i)
{
	struct vmm_net *const n = &vmm->nets.net[i];
	const struct vmbus_offer_opts offer = { .struct_bytes = sizeof(offer),
						.instance_id = instance_of(i),
						.own_fd = true };
	struct vmbus_net_opts opts;
	int err;

	nic_options(&vmm->opts.nets[i], &opts);
	opts.port = n->port;
	opts.log = net_log;
	opts.ctx = n;
	err = vmbus_net_create(&opts, &n->net);
	if (err)
		return vmm_error("--net: NIC %u: %s", i, vmbus_err_name(err));
	err = vmbus_bus_offer(vmm->bus, vmbus_net_vsp(), n->net, &offer, &vmm->nets.chans[i]);
	return err ? vmm_error("--net: offering NIC %u: %s", i, vmbus_err_name(err)) : 0;
}

/* NICs, on the ports that are open; nothing is served yet. */
int vmm_nets_create(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < vmm->opts.net_count; i++)
		if (create(vmm, i))
			return -1;
	return 0;
}

/* ---- threads ---- */

struct beginning {
	const struct vmm *vmm;
	struct vmbus_pool_opts opts;
	struct vmbus_pool *pool;
	int err;
};

uint32_t vmm_nets_roles(const struct vmm *vmm)
{
	uint32_t i, roles = 0;

	for (i = 0; i < vmm->opts.net_count; i++)
		roles |= vmm->opts.nets[i].kind == NIC_USER ? VMM_ROLE_NETS | VMM_ROLE_SOCKETS
							    : VMM_ROLE_NETS;
	return roles;
}

/* A filter is inherited: what the pool's threads may do is said before there are any. */
static void *begin(void *arg)
{
	struct beginning *const b = arg;

	if (!b->vmm->opts.no_sandbox && vmm_filter_load(VMM_ROLE_QUEUE | vmm_nets_roles(b->vmm)))
		b->err = VMBUS_E_SYSTEM;
	else
		b->err = vmbus_pool_create(&b->opts, &b->pool);
	return NULL;
}

/* All channels that there are, with no thread in them. */
void vmm_nets_go(struct vmm *vmm)
{
	struct vmm_nets *const nets = &vmm->nets;
	uint32_t i;
	int err;

	for (i = 0; nets->pool && i < VMM_CHANNELS_MAX; i++) {
		if (!vmm->nets.chans[i])
			continue;
		err = vmbus_pool_add(nets->pool, vmm->nets.chans[i]);
		if (err && err != VMBUS_E_STATE) /* it is there */
			vmm_warn("--net: a queue has no thread: %s", vmbus_err_name(err));
	}
	nets->running = nets->pool != NULL;
}

void vmm_nets_stop(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; vmm->nets.running && i < VMM_CHANNELS_MAX; i++)
		if (vmm->nets.chans[i])
			(void)vmbus_pool_remove(vmm->nets.pool, vmm->nets.chans[i]);
	vmm->nets.running = false;
}

int vmm_nets_start(struct vmm *vmm)
{
	struct beginning b = { .vmm = vmm };
	uint32_t i, queues = 0, spin_us = 0;
	pthread_t thread;
	int err;

	if (vmm->opts.net_count == 0)
		return 0;
	for (i = 0; i < vmm->opts.net_count; i++) {
		const struct nic_spec *const spec = &vmm->opts.nets[i];

		queues += spec->queues;
		spin_us = spec->spin_us > spin_us ? spec->spin_us : spin_us;
	}
	b.opts.struct_bytes = sizeof(b.opts);
	b.opts.threads = queues < VMBUS_POOL_THREADS_MAX ? queues : VMBUS_POOL_THREADS_MAX;
	b.opts.spin_ns = 1000u * (uint64_t)spin_us;
	err = pthread_create(&thread, NULL, begin, &b);
	if (err) {
		errno = err;
		return vmm_errno("--net: a thread");
	}
	pthread_join(thread, NULL);
	if (b.err)
		return vmm_error("--net: threads for %u queues: %s", queues, vmbus_err_name(b.err));
	vmm->nets.pool = b.pool;
	vmm_nets_go(vmm);
	return 0;
}

/* offered() of the bus; false: it is no channel of a NIC. */
bool vmm_nets_offered(struct vmm *vmm, struct vmbus_chan *sub)
{
	const void *const ctx = vmbus_chan_ctx(sub);
	uint32_t i, k;

	for (i = 0; i < vmm->opts.net_count; i++) {
		if (!vmm->nets.net[i].net || vmm->nets.net[i].net != ctx)
			continue;
		for (k = 0; k < VMM_CHANNELS_MAX && vmm->nets.chans[k]; k++)
			;
		if (k < VMM_CHANNELS_MAX)
			vmm->nets.chans[k] = sub;
		if (k == VMM_CHANNELS_MAX ||
		    (vmm->nets.running && vmbus_pool_add(vmm->nets.pool, sub)))
			vmm_warn("--net: a queue of NIC %u has no thread", i);
		return true;
	}
	return false;
}

/* From removed() of the bus: no thread is in it any more when this returns. */
void vmm_nets_removed(struct vmm *vmm, struct vmbus_chan *chan)
{
	uint32_t i;

	for (i = 0; i < VMM_CHANNELS_MAX; i++) {
		if (vmm->nets.chans[i] != chan)
			continue;
		if (vmm->nets.running)
			(void)vmbus_pool_remove(vmm->nets.pool, chan);
		vmm->nets.chans[i] = NULL;
	}
}

/* Without threads: a turn of each channel on this one. */
void vmm_nets_dispatch(struct vmm *vmm)
{
	uint32_t i;

	for (i = 0; i < VMM_CHANNELS_MAX; i++)
		if (vmm->nets.chans[i])
			(void)vmbus_chan_dispatch(vmm->nets.chans[i], BUDGET);
}

static bool any_open(struct vmm *vmm)
{
	struct vmbus_chan_info info;
	uint32_t i;

	for (i = 0; i < VMM_CHANNELS_MAX; i++) {
		if (!vmm->nets.chans[i])
			continue;
		vmbus_chan_info(vmm->nets.chans[i], &info);
		if (info.send_bytes)
			return true;
	}
	return false;
}

/* Until no ring of the guest's is open, after a reset of the bus: before memory is emptied. */
int vmm_nets_let_go(struct vmm *vmm)
{
	const uint64_t until = vmm_now_ns() + LET_GO_NS;
	struct pollfd p = { .fd = vmbus_kvm_fd(vmm->kvm), .events = POLLIN };

	while (any_open(vmm) && vmm_now_ns() < until) {
		poll(&p, 1, 10);
		vmbus_kvm_dispatch(vmm->kvm, BUDGET);
	}
	if (any_open(vmm))
		return vmm_error("--net: a channel of a NIC has not closed in %u s: the machine "
				 "cannot be reset",
				 (unsigned)(LET_GO_NS / 1000000000u));
	return 0;
}

/* After the bus is gone. */
void vmm_nets_destroy(struct vmm *vmm)
{
	uint32_t i;

	vmbus_pool_destroy(vmm->nets.pool);
	vmm->nets.pool = NULL;
	vmm->nets.running = false;
	for (i = 0; i < VMM_NETS_MAX; i++) {
		vmbus_net_destroy(vmm->nets.net[i].net);
		vmm->nets.net[i].net = NULL;
		nic_close(&vmm->nets.net[i].port);
	}
}

/* ---- commands ---- */

/* What follows "net "; 0, or -1, and the answer. */
int vmm_nets_command(struct vmm *vmm, const char *line, char *answer, size_t bytes)
{
	const size_t to = strcspn(line, " ");
	char *end;
	unsigned long i;
	bool up;

	*answer = 0;
	i = isdigit((unsigned char)*line) ? strtoul(line, &end, 10) : ULONG_MAX;
	if (i == ULONG_MAX || end != line + to || (strcmp(end, " up") && strcmp(end, " down"))) {
		(void)snprintf(answer, bytes, "net NUMBER up | net NUMBER down");
		return -1;
	}
	up = end[1] == 'u';
	if (i >= vmm->opts.net_count) {
		(void)snprintf(answer, bytes, "there is no such NIC; status lists them");
		return -1;
	}
	vmbus_net_link(vmm->nets.net[i].net, up);
	return 0;
}

void vmm_nets_list(struct vmm *vmm, void (*tell)(void *ctx, const char *line), void *ctx)
{
	char line[700], text[720];
	uint32_t i;

	for (i = 0; i < vmm->opts.net_count; i++) {
		if (!vmm->nets.net[i].net)
			continue;
		(void)snprintf(text, sizeof(text), "net %u %s", i,
			       nic_line(vmm->nets.net[i].net, line, sizeof(line)));
		tell(ctx, text);
	}
}
