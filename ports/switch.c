/* SPDX-License-Identifier: MIT */
/*
 * A switch, its ports for NICs, and its counters.  It decides nothing about frames.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "switch/switch.h"

#define LINE_BYTES 64u
#define PORTS_DEFAULT 64u
#define ADDRESSES_DEFAULT 4096u
#define ADDRESSES_MIN 64u
#define ADDRESSES_MAX 65536u
#define LEARN_DEFAULT 1024u
#define AGE_DEFAULT 300u
#define FLOOD_DEFAULT 100000u
#define QUEUE_BYTES_DEFAULT 262144u

_Static_assert(1u << VMBUS__SWITCH_NUMBER_BITS == VMBUS_SWITCH_PORTS_MAX, "a number fits its bits");

uint32_t vmbus__switch_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint32_t)((uint64_t)now.tv_sec & 0xffffffffu);
}

static bool is_power_of_two(uint32_t v)
{
	return v && (v & (v - 1)) == 0;
}

static uint32_t or_default(uint32_t v, uint32_t value)
{
	return v ? v : value;
}

static int take_opts(struct vmbus_switch_opts *to, const struct vmbus_switch_opts *opts)
{
	if (opts && opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	if (opts)
		*to = *opts;
	to->ports = or_default(to->ports, PORTS_DEFAULT);
	to->addresses = or_default(to->addresses, ADDRESSES_DEFAULT);
	to->learn_max = or_default(to->learn_max, LEARN_DEFAULT);
	to->age_s = or_default(to->age_s, AGE_DEFAULT);
	to->flood_max = or_default(to->flood_max, FLOOD_DEFAULT);
	to->queue_bytes = or_default(to->queue_bytes, QUEUE_BYTES_DEFAULT);
	if (to->ports > VMBUS_SWITCH_PORTS_MAX || to->addresses < ADDRESSES_MIN ||
	    to->addresses > ADDRESSES_MAX || !is_power_of_two(to->addresses) ||
	    to->queue_bytes < VMBUS__INBOX_BYTES_MIN || to->queue_bytes > VMBUS__INBOX_BYTES_MAX ||
	    !is_power_of_two(to->queue_bytes))
		return VMBUS_E_RANGE;
	return 0;
}

int vmbus_switch_create(const struct vmbus_switch_opts *opts, struct vmbus_switch **sw)
{
	struct vmbus_switch *const made = calloc(1, sizeof(*made));
	int err;

	if (!made)
		return VMBUS_E_NOMEM;
	(void)pthread_mutex_init(&made->lock, NULL);
	(void)pthread_mutex_init(&made->turn, NULL);
	made->epoll = -1;
	err = take_opts(&made->opts, opts);
	if (!err)
		err = vmbus__switch_table_init(&made->table, made->opts.addresses);
	if (!err) {
		made->port = calloc(made->opts.ports, sizeof(*made->port));
		err = made->port ? 0 : VMBUS_E_NOMEM;
	}
	if (!err) {
		made->epoll = epoll_create1(EPOLL_CLOEXEC);
		err = made->epoll < 0 ? VMBUS_E_SYSTEM : 0;
	}
	if (err) {
		vmbus_switch_destroy(made);
		return err;
	}
	*sw = made;
	return 0;
}

void vmbus_switch_destroy(struct vmbus_switch *sw)
{
	const int reason = errno;
	uint32_t i;

	if (!sw)
		return;
	if (sw->port)
		vmbus__switch_unplug_all(sw);
	for (i = 0; sw->port && i < sw->opts.ports; i++)
		vmbus__inbox_destroy(sw->port[i].inbox);
	if (sw->epoll >= 0)
		(void)close(sw->epoll);
	vmbus__switch_table_end(&sw->table);
	free(sw->port);
	(void)pthread_mutex_destroy(&sw->turn);
	(void)pthread_mutex_destroy(&sw->lock);
	free(sw);
	errno = reason;
}

static bool is_name(const char *name)
{
	const size_t len = name ? strnlen(name, VMBUS_SWITCH_NAME_BYTES) : 0;
	size_t i;

	for (i = 0; i < len; i++)
		if (name[i] < ' ' || name[i] > '~')
			return false;
	return len && len < VMBUS_SWITCH_NAME_BYTES;
}

static void zero(uint64_t *counter)
{
	vmbus__st64_relaxed(vmbus__as_a64(counter), 0); /* SWITCHCOUNT.count */
}

/* Who still has the slot as a destination may count and read its inbox meanwhile. */
static void reset(struct vmbus__switch_port *slot, const char *name)
{
	zero(&slot->in_frames);
	zero(&slot->in_bytes);
	zero(&slot->flooded);
	zero(&slot->flood_limit);
	zero(&slot->nowhere);
	zero(&slot->bad);
	zero(&slot->not_learned);
	zero(&slot->moved);
	zero(&slot->out_frames);
	zero(&slot->out_bytes);
	zero(&slot->refused);
	zero(&slot->no_room);
	slot->flood_left = slot->sw->opts.flood_max;
	slot->flood_second = vmbus__switch_now();
	(void)memccpy(slot->name, name, 0, sizeof(slot->name));
}

int vmbus__switch_slot(struct vmbus_switch *sw, const char *name, struct vmbus__switch_port **port)
{
	struct vmbus__switch_port *slot;
	uint32_t i;
	int err = 0;

	if (!is_name(name))
		return VMBUS_E_INVAL;
	for (i = 0; i < sw->opts.ports && sw->port[i].used; i++)
		;
	if (i == sw->opts.ports)
		return VMBUS_E_FULL;
	slot = &sw->port[i];
	if (!slot->inbox)
		err = vmbus__inbox_create(sw->opts.queue_bytes, &slot->inbox);
	if (err)
		return err;
	slot->sw = sw;
	slot->number = i;
	slot->used = true;
	reset(slot, name);
	*port = slot;
	return 0;
}

/* SWITCHOPEN: the inbox and the generation are there before the bit is. */
static void set_open(struct vmbus__switch_port *port, bool open)
{
	vmbus__a64 *const word = vmbus__as_a64(&port->sw->open[port->number / 64]);
	const uint64_t bit = UINT64_C(1) << port->number % 64;
	const uint64_t bits = vmbus__ld64_relaxed(word); /* SWITCHOPEN.own */

	vmbus__st64_release(word, open ? bits | bit : bits & ~bit); /* SWITCHOPEN.tell */
	port->open = open;
}

void vmbus__switch_begin(struct vmbus__switch_port *port)
{
	(void)vmbus__inbox_drain(port->inbox);
	set_open(port, true);
}

void vmbus__switch_end(struct vmbus__switch_port *port)
{
	vmbus__a32 *const word = vmbus__as_a32(&port->generation);
	const uint32_t generation = vmbus__ld32_relaxed(word); /* SWITCHOPEN.own */

	set_open(port, false);
	vmbus__st32_relaxed(word,
			    (generation + 1) % VMBUS__SWITCH_GENERATIONS); /* SWITCHOPEN.tell */
	vmbus__switch_forget(port->sw, port->number);
}

/* ---- a port for a NIC ---- */

static int nic_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	memset(info, 0, sizeof(*info));
	info->can = VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN;
	info->queues = 1;
	info->up = true;
	return 0;
}

static int nic_open(struct vmbus_port_queue *queue)
{
	struct vmbus__switch_port *const port = queue->ctx;
	int err = 0;

	(void)pthread_mutex_lock(&port->sw->lock);
	if (port->open || queue->number)
		err = VMBUS_E_STATE;
	else
		vmbus__switch_begin(port);
	(void)pthread_mutex_unlock(&port->sw->lock);
	if (!err)
		queue->fd = vmbus__inbox_fd(port->inbox);
	return err;
}

static void nic_close(struct vmbus_port_queue *queue)
{
	struct vmbus__switch_port *const port = queue->ctx;

	(void)pthread_mutex_lock(&port->sw->lock);
	vmbus__switch_end(port);
	(void)pthread_mutex_unlock(&port->sw->lock);
}

static uint32_t nic_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			 uint32_t n)
{
	uint32_t done, some;

	for (done = 0; done < n; done += some) {
		some = n - done < VMBUS_PORT_BURST ? n - done : VMBUS_PORT_BURST;
		vmbus__switch_send(queue->ctx, frame + done, some);
	}
	return n;
}

static void nic_ready(struct vmbus_port_queue *queue)
{
	struct vmbus__switch_port *const port = queue->ctx;
	const struct vmbus_frame *frame;
	uint32_t turns = VMBUS__INBOX_TURNS, n, taken;

	while ((n = vmbus__switch_peek(port, &frame)) != 0) {
		taken = vmbus_port_deliver(queue, frame, n);
		vmbus__switch_done(port, frame, taken);
		if (taken < n)
			return;
		if (--turns == 0) {
			vmbus__inbox_ring(port->inbox);
			return;
		}
	}
}

static void nic_destroy(void *ctx)
{
	struct vmbus__switch_port *const port = ctx;

	(void)pthread_mutex_lock(&port->sw->lock);
	port->used = false;
	(void)pthread_mutex_unlock(&port->sw->lock);
}

static uint64_t counter(const uint64_t *from)
{
	return vmbus__ld64_relaxed(vmbus__as_a64c(from)); /* SWITCHCOUNT.look */
}

static void nic_dropped(void *ctx, uint64_t *sent, uint64_t *received)
{
	const struct vmbus__switch_port *const port = ctx;

	*sent = counter(&port->bad) + counter(&port->nowhere) + counter(&port->flood_limit);
	*received = counter(&port->no_room);
}

static const struct vmbus_port_ops nic_ops = {
	.struct_bytes = sizeof(nic_ops),
	.name = "switch",
	.info = nic_info,
	.open = nic_open,
	.close = nic_close,
	.send = nic_send,
	.ready = nic_ready,
	.destroy = nic_destroy,
	.dropped = nic_dropped,
};

bool vmbus__switch_is_own(const struct vmbus_switch *sw, const struct vmbus_port *port)
{
	return port->ops == &nic_ops && ((const struct vmbus__switch_port *)port->ctx)->sw == sw;
}

int vmbus_switch_port(struct vmbus_switch *sw, const char *name, struct vmbus_port *port)
{
	struct vmbus__switch_port *slot;
	int err;

	(void)pthread_mutex_lock(&sw->lock);
	err = vmbus__switch_slot(sw, name, &slot);
	(void)pthread_mutex_unlock(&sw->lock);
	if (!err)
		*port = (struct vmbus_port){ &nic_ops, slot };
	return err;
}

static void read_counters(const struct vmbus__switch_port *port, struct vmbus_switch_stats *stats)
{
	const uint64_t addresses = counter(&port->addresses);

	stats->addresses = addresses < UINT32_MAX ? (uint32_t)addresses : 0;
	stats->in_frames = counter(&port->in_frames);
	stats->in_bytes = counter(&port->in_bytes);
	stats->out_frames = counter(&port->out_frames);
	stats->out_bytes = counter(&port->out_bytes);
	stats->flooded = counter(&port->flooded);
	stats->flood_limit = counter(&port->flood_limit);
	stats->nowhere = counter(&port->nowhere);
	stats->bad = counter(&port->bad);
	stats->no_room = counter(&port->no_room);
	stats->refused = counter(&port->refused);
	stats->not_learned = counter(&port->not_learned);
	stats->moved = counter(&port->moved);
}

int vmbus_switch_stats(const struct vmbus_switch *sw, uint32_t number,
		       struct vmbus_switch_stats *stats)
{
	struct vmbus_switch *const mine = (struct vmbus_switch *)(uintptr_t)sw; /* for its lock */
	const struct vmbus__switch_port *port;
	uint64_t sent;
	bool used;

	if (number >= sw->opts.ports)
		return VMBUS_E_RANGE;
	port = &sw->port[number];
	memset(stats, 0, sizeof(*stats));
	(void)pthread_mutex_lock(&mine->lock);
	used = port->used;
	if (used) {
		memcpy(stats->name, port->name, sizeof(stats->name));
		stats->plugged = port->plug != NULL;
		read_counters(port, stats);
		if (port->plug) {
			vmbus__switch_plug_dropped(port->plug, &sent, &stats->in_lost);
			stats->refused += sent;
		}
	}
	(void)pthread_mutex_unlock(&mine->lock);
	return used;
}

int vmbus_switch_fd(const struct vmbus_switch *sw)
{
	return sw->epoll;
}
