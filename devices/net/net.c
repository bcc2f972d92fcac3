/* SPDX-License-Identifier: MIT */
/*
 * A NIC: its options, and what the embedder may do with it while a guest uses it.  Whatever changes is
 * changed with the lock, and the thread of the primary channel is told to look.
 */
#include "net/control.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECTION 6144u
#define SECTION_MIN 256u
#define SECTION_MAX (1u << 20)
#define FRAMES 8u
#define FRAMES_MAX 64u
#define PACKETS 1024u
#define PACKETS_MAX 4096u
#define BITS 10000000000u
#define FLAGS (VMBUS_NET_LINK_DOWN | VMBUS_NET_NO_PACK | VMBUS_NET_NO_OFFLOAD | VMBUS_NET_NO_RSC)
#define CAN (VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN)
#define LINES_MAX 10u /* of the log in a second */
#define LINE_BYTES 200u

void vmbus__net_log(struct vmbus_net *net, const char *format, ...)
{
	char line[LINE_BYTES];
	struct timespec now;
	bool drop;
	va_list args;

	if (!net->opts.log)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&net->lock);
	if (net->log_second != (uint64_t)now.tv_sec) {
		net->log_second = (uint64_t)now.tv_sec;
		net->log_lines = 0;
	}
	drop = net->log_lines++ >= LINES_MAX;
	pthread_mutex_unlock(&net->lock);
	if (drop)
		return;
	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	net->opts.log(net->opts.ctx, line);
}

/* ---- options ---- */

static bool is_zero(const uint8_t *mac)
{
	static const uint8_t none[6];

	return memcmp(mac, none, sizeof(none)) == 0;
}

static uint32_t or_default(uint32_t v, uint32_t v0)
{
	return v ? v : v0;
}

/* A field that is refused: the log says which, and what it may be. */
static int refuse(struct vmbus_net *net, int err, const char *what)
{
	vmbus__net_log(net, "the NIC cannot be made: %s", what);
	return err;
}

static int refuse_number(struct vmbus_net *net, const char *field, uint32_t value, const char *may)
{
	vmbus__net_log(net, "the NIC cannot be made: %s is %u, and may be %s", field, value, may);
	return VMBUS_E_RANGE;
}

static int check_numbers(struct vmbus_net *net)
{
	const struct vmbus_net_opts *const opts = &net->opts;

	if (opts->flags & ~FLAGS)
		return refuse_number(net, "flags", opts->flags, "of VMBUS_NET_*, up to 15");
	if (opts->subchannels > VMBUS_NET_SUBCHANNELS_MAX)
		return refuse_number(net, "subchannels", opts->subchannels, "0 to 63");
	if (opts->mtu_max < VMBUS__NET_MTU || opts->mtu_max > VMBUS_NET_MTU_MAX)
		return refuse_number(net, "mtu_max", opts->mtu_max, "1500 to 9202");
	if (opts->section_bytes < SECTION_MIN || opts->section_bytes > SECTION_MAX ||
	    opts->section_bytes % VMBUS__RNDIS_ALIGN)
		return refuse_number(net, "section_bytes", opts->section_bytes,
				     "256 to 1048576, a multiple of 8");
	if (opts->frames_max > FRAMES_MAX)
		return refuse_number(net, "frames_max", opts->frames_max, "1 to 64");
	if (opts->packets_max > PACKETS_MAX)
		return refuse_number(net, "packets_max", opts->packets_max, "1 to 4096");
	return 0;
}

static int take_name(struct vmbus_net *net, const char *name)
{
	size_t n;

	for (n = 0; name && name[n]; n++) {
		if (n >= sizeof(net->name) - 1)
			return refuse(net, VMBUS_E_RANGE, "name has more than 255 characters");
		if (name[n] < ' ' || name[n] > '~')
			return refuse(net, VMBUS_E_INVAL,
				      "name has a character that is not printable");
		net->name[n] = name[n];
	}
	return 0;
}

static int check_port(struct vmbus_net *net)
{
	const struct vmbus_port_ops *const ops = net->opts.port.ops;

	if (!ops)
		return refuse(net, VMBUS_E_INVAL, "there is no port");
	if (ops->struct_bytes < sizeof(*ops))
		return refuse(net, VMBUS_E_INVAL, "struct_bytes of the port's table is too small");
	if (!ops->info || !ops->send)
		return refuse(net, VMBUS_E_INVAL, "the port lacks info or send");
	if (ops->receive && ops->ready)
		return refuse(net, VMBUS_E_INVAL, "the port has both receive and ready");
	return 0;
}

static int take_opts(struct vmbus_net *net, const struct vmbus_net_opts *from)
{
	struct vmbus_net_opts *const to = &net->opts;
	int err;

	if (!from || from->struct_bytes < sizeof(*from))
		return VMBUS_E_INVAL;
	*to = *from;
	to->name = net->name;
	err = check_port(net);
	if (err)
		return err;
	if (to->mac[0] & 1u)
		return refuse(net, VMBUS_E_INVAL, "mac is a multicast address");
	to->mtu_max = or_default(to->mtu_max, VMBUS_NET_MTU_MAX);
	to->section_bytes = or_default(to->section_bytes, SECTION);
	to->frames_max = or_default(to->frames_max, FRAMES);
	to->packets_max = or_default(to->packets_max, PACKETS);
	err = check_numbers(net);
	return err ? err : take_name(net, from->name);
}

/* An address of our own: locally administered, and another one for each id. */
static void make_mac(uint8_t *mac, const struct vmbus_guid *id)
{
	const uint8_t *const p = (const uint8_t *)id;
	uint64_t h = 0xCBF29CE484222325u;
	uint32_t i, k;

	/* FNV-1a, the multiplication by its prime in shifts: sums that wrap are meant. */
	for (i = 0; i < sizeof(*id); i++) {
		h ^= p[i];
		(void)__builtin_mul_overflow(h, (uint64_t)0x100000001B3u, &h);
	}
	mac[0] = 2;
	for (k = 1; k < 6; k++, h >>= 8)
		mac[k] = (uint8_t)(h & 255u);
}

/* What the port tells of itself, if it makes sense. */
static int ask_port(struct vmbus_net *net, struct vmbus_port_info *info)
{
	const struct vmbus_port *const port = &net->opts.port;
	const char *const name = port->ops->name ? port->ops->name : "?";
	int err;

	memset(info, 0, sizeof(*info));
	err = port->ops->info(port->ctx, info);
	if (err)
		vmbus__net_log(net, "port %s: cannot be used: %s", name, vmbus_err_name(err));
	else if (info->queues == 0 || info->queues > VMBUS_PORT_QUEUES_MAX)
		vmbus__net_log(net, "port %s: cannot be used: %u queues, and there may be 1 to %u",
			       name, info->queues, VMBUS_PORT_QUEUES_MAX);
	else if (info->mac[0] & 1u)
		vmbus__net_log(net, "port %s: cannot be used: its mac is a multicast address",
			       name);
	else if (info->can & ~CAN)
		vmbus__net_log(net, "port %s: cannot be used: can has unknown bits 0x%x", name,
			       info->can & ~CAN);
	else
		return 0;
	return err ? err : VMBUS_E_RANGE;
}

/* ---- life ---- */

int vmbus_net_create(const struct vmbus_net_opts *opts, struct vmbus_net **made)
{
	struct vmbus_net *const net = calloc(1, sizeof(*net));
	int err;

	if (!net)
		return VMBUS_E_NOMEM;
	if (pthread_mutex_init(&net->lock, NULL)) {
		free(net);
		return VMBUS_E_SYSTEM;
	}
	err = take_opts(net, opts);
	if (!err)
		err = ask_port(net, &net->info);
	if (err) {
		vmbus_net_destroy(net);
		return err;
	}
	if (!is_zero(net->opts.mac))
		memcpy(net->mac, net->opts.mac, sizeof(net->mac));
	else if (!is_zero(net->info.mac))
		memcpy(net->mac, net->info.mac, sizeof(net->mac));
	else
		make_mac(net->mac, &net->opts.id);
	net->plug = !(net->opts.flags & VMBUS_NET_LINK_DOWN);
	net->subs_max = net->opts.subchannels;
	*made = net;
	return 0;
}

void vmbus_net_destroy(struct vmbus_net *net)
{
	if (!net)
		return;
	(void)pthread_mutex_destroy(&net->lock);
	free(net);
}

/* ---- what changes ---- */

void vmbus_net_link(struct vmbus_net *net, bool up)
{
	pthread_mutex_lock(&net->lock);
	net->plug = up;
	if (net->session)
		vmbus__net_poke(net->session);
	pthread_mutex_unlock(&net->lock);
}

/* Lock. */
static void take_info(struct vmbus_net *net, const struct vmbus_port_info *info, int err)
{
	if (err) /* it is of no use any more: no link */
		net->info.up = false;
	else
		net->info = *info;
	net->asked = true;
	if (net->session)
		vmbus__net_poke(net->session);
}

int vmbus_net_port_changed(struct vmbus_net *net)
{
	struct vmbus_port_info info;
	uint64_t number;
	int err;

	pthread_mutex_lock(&net->lock);
	number = ++net->asks;
	pthread_mutex_unlock(&net->lock);
	err = ask_port(net, &info);
	if (err == VMBUS_E_RANGE)
		return err;
	pthread_mutex_lock(&net->lock);
	if (number > net->newest) { /* else a thread that has asked later knows better */
		net->newest = number;
		take_info(net, &info, err);
	}
	pthread_mutex_unlock(&net->lock);
	return err;
}

/* ---- counters ---- */

static void add_channel(const struct vmbus_net *net, uint32_t channel, uint64_t *count,
			uint64_t *lent)
{
	uint32_t i;

	for (i = 0; i < VMBUS__NET_COUNTS; i++)
		count[i] += vmbus__ld64_relaxed(
			vmbus__as_a64c(&net->count[channel][i]));	   /* NETSTAT.read */
	*lent += vmbus__ld64_relaxed(vmbus__as_a64c(&net->lent[channel])); /* NETSTAT.read */
}

static void show(struct vmbus_net_stats *stats, const uint64_t *count)
{
	stats->sent_frames = count[VMBUS__NET_SENT_FRAMES];
	stats->sent_bytes = count[VMBUS__NET_SENT_BYTES];
	stats->received_frames = count[VMBUS__NET_RECEIVED_FRAMES];
	stats->received_bytes = count[VMBUS__NET_RECEIVED_BYTES];
	stats->sent_packets = count[VMBUS__NET_SENT_PACKETS];
	stats->received_packets = count[VMBUS__NET_RECEIVED_PACKETS];
	stats->cut = count[VMBUS__NET_CUT];
	stats->summed = count[VMBUS__NET_SUMMED];
	stats->sent_bad = count[VMBUS__NET_SENT_BAD];
	stats->sent_waits = count[VMBUS__NET_SENT_WAITS];
	stats->no_room = count[VMBUS__NET_NO_ROOM];
	stats->too_long = count[VMBUS__NET_TOO_LONG];
	stats->filtered = count[VMBUS__NET_FILTERED];
	stats->stopped = count[VMBUS__NET_STOPPED];
	stats->control = count[VMBUS__NET_CONTROL];
}

/* channel is one, or VMBUS_NET_ALL. */
void vmbus__net_sum(const struct vmbus_net *net, uint32_t channel, struct vmbus_net_stats *stats)
{
	const uint32_t first = channel == VMBUS_NET_ALL ? 0 : channel;
	const uint32_t last = channel == VMBUS_NET_ALL ? VMBUS__NET_CHANNELS - 1u : channel;
	uint64_t count[VMBUS__NET_COUNTS] = { 0 };
	uint32_t i;

	memset(stats, 0, sizeof(*stats));
	for (i = first; i <= last; i++)
		add_channel(net, i, count, &stats->lent);
	show(stats, count);
}

int vmbus_net_stats(const struct vmbus_net *net, uint32_t channel, struct vmbus_net_stats *stats)
{
	pthread_mutex_t *const lock = (pthread_mutex_t *)&net->lock;
	const struct vmbus_port *const port = &net->opts.port;
	uint32_t ever;

	pthread_mutex_lock(lock);
	ever = net->channels_ever;
	pthread_mutex_unlock(lock);
	if (channel != VMBUS_NET_ALL && channel >= ever)
		return VMBUS_E_RANGE;
	vmbus__net_sum(net, channel, stats);
	if (channel == VMBUS_NET_ALL && port->ops->dropped)
		port->ops->dropped(port->ctx, &stats->port_sent, &stats->port_received);
	return 0;
}

/* Lock. */
static void show_session(const struct vmbus__net_session *session, struct vmbus_net_state *state)
{
	const struct vmbus__net_shape *const shape = &session->shape;
	uint32_t i;

	state->version = shape->nvsp;
	state->mtu = shape->mtu;
	state->filter = shape->filter;
	state->tx = shape->tx;
	state->rx = shape->rx;
	state->asked = session->subs;
	state->rss = shape->rss;
	state->rsc = shape->rsc4 || shape->rsc6;
	if (shape->receive) {
		state->receive_sections = shape->receive->sections;
		state->receive_section_bytes = shape->receive->section_bytes;
	}
	if (shape->send)
		state->send_sections = shape->send->sections;
	for (i = 0; i < VMBUS__NET_CHANNELS; i++)
		state->channels +=
			vmbus__ld32_relaxed(&session->seat[i].open) != 0; /* NETSEAT.look */
}

void vmbus_net_state(const struct vmbus_net *net, struct vmbus_net_state *state)
{
	pthread_mutex_t *const lock = (pthread_mutex_t *)&net->lock;

	memset(state, 0, sizeof(*state));
	pthread_mutex_lock(lock);
	memcpy(state->mac, is_zero(net->guest_mac) ? net->mac : net->guest_mac, 6);
	state->up = net->plug && net->info.up;
	if (net->session)
		show_session(net->session, state);
	pthread_mutex_unlock(lock);
}

/* ---- for link.c ---- */

bool vmbus__net_is_up(struct vmbus_net *net, uint64_t *bits_per_s)
{
	uint64_t bits = net->opts.bits_per_s;
	bool up;

	pthread_mutex_lock(&net->lock);
	up = net->plug && net->info.up;
	if (!bits)
		bits = net->info.bits_per_s;
	pthread_mutex_unlock(&net->lock);
	*bits_per_s = bits ? bits : BITS;
	return up;
}
