/* SPDX-License-Identifier: MIT */
/* Ports that a command line tells of, opened; and what a NIC tells of itself. */
#define _GNU_SOURCE
#include "nic.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vmbus/port_capture.h>
#include <vmbus/port_packet.h>
#include <vmbus/port_tap.h>
#include <vmbus/port_uplink.h>
#ifdef NIC_SLIRP_LIBRARY
#include <vmbus/port_slirp.h>
#endif

static int wrong(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int wrong(char *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, NIC_WHY_BYTES, format, args);
	va_end(args);
	return -1;
}

/* ---- null: takes all, gives nothing ---- */

static int null_info(void *ctx, struct vmbus_port_info *info)
{
	(void)ctx;
	memset(info, 0, sizeof(*info));
	info->can = VMBUS_FRAME_CSUM | VMBUS_FRAME_TSO4 | VMBUS_FRAME_TSO6 | VMBUS_FRAME_VLAN;
	info->queues = VMBUS_PORT_QUEUES_MAX;
	info->up = true;
	return 0;
}

static uint32_t null_send(struct vmbus_port_queue *queue, const struct vmbus_frame *frame,
			  uint32_t n)
{
	(void)queue;
	(void)frame;
	return n;
}

static const struct vmbus_port_ops null_ops = {
	.struct_bytes = sizeof(null_ops), .name = "null", .info = null_info, .send = null_send
};

/* ---- the others ---- */

static const char *reason(const char *text, int err)
{
	if (text[0])
		return text;
	return err == VMBUS_E_SYSTEM ? strerror(errno) : vmbus_err_name(err);
}

static int open_tap(const struct nic_spec *spec, struct vmbus_port *port, char *why)
{
	char text[200] = "";
	const struct vmbus_port_tap_opts opts = { .struct_bytes = sizeof(opts),
						  .name = spec->source,
						  .queues = spec->queues,
						  .why = text,
						  .why_bytes = sizeof(text) };
	const int err = vmbus_port_tap(&opts, port);

	if (err == VMBUS_E_PERM)
		return wrong(why, "tap=%s: %s; as root: ip tuntap add %s mode tap user USER%s",
			     spec->source, reason(text, err), spec->source,
			     spec->queues > 1 ? " multi_queue" : "");
	if (err == VMBUS_E_STATE)
		return wrong(why, "tap=%s: %s: somebody else has it open%s", spec->source,
			     reason(text, err),
			     spec->queues > 1 ? ", or it was made without multi_queue" : "");
	return err ? wrong(why, "tap=%s: %s", spec->source, reason(text, err)) : 0;
}

static int open_packet(const struct nic_spec *spec, struct vmbus_port *port, char *why)
{
	char text[200] = "";
	const struct vmbus_port_packet_opts opts = { .struct_bytes = sizeof(opts),
						     .interface = spec->source,
						     .why = text,
						     .why_bytes = sizeof(text) };
	const int err = vmbus_port_packet(&opts, port);

	return err ? wrong(why, "packet=%s: %s", spec->source, reason(text, err)) : 0;
}

#ifdef NIC_SLIRP_LIBRARY
typedef int slirp_fn(const struct vmbus_port_slirp_opts *opts, struct vmbus_port *port);

/* Only who asks for it has it loaded: with libslirp comes GLib. */
static slirp_fn *load_slirp(void)
{
	void *const library = dlopen(NIC_SLIRP_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	void *const found = library ? dlsym(library, "vmbus_port_slirp") : NULL;
	slirp_fn *fn = NULL;

	if (found)
		memcpy(&fn, &found, sizeof(fn));
	return fn;
}

/* The word whose value is what a text begins with. */
static const char *word_of(const struct nic_spec *spec, const char *text)
{
	uint32_t i;

	for (i = 0; i < spec->forwards; i++)
		if (strncmp(text, spec->forward[i], strlen(spec->forward[i])) == 0)
			return "hostfwd=";
	return spec->network[0] && strncmp(text, spec->network, strlen(spec->network)) == 0
		       ? "network="
		       : "";
}
#endif

static int open_user(const struct nic_spec *spec, struct vmbus_port *port, char *why)
{
#ifdef NIC_SLIRP_LIBRARY
	slirp_fn *const slirp = load_slirp();
	char text[200] = "";
	const char *forward[NIC_FORWARDS_MAX];
	const struct vmbus_port_slirp_opts opts = {
		.struct_bytes = sizeof(opts),
		.flags = spec->restricted ? VMBUS_PORT_SLIRP_RESTRICTED : 0u,
		.network = spec->network[0] ? spec->network : NULL,
		.hostfwd = forward,
		.hostfwds = spec->forwards,
		.why = text,
		.why_bytes = sizeof(text),
	};
	uint32_t i;
	int err;

	if (!slirp)
		return wrong(why, "user: it needs " NIC_SLIRP_LIBRARY ": %s", dlerror());
	for (i = 0; i < spec->forwards; i++)
		forward[i] = spec->forward[i];
	err = slirp(&opts, port);
	return err ? wrong(why, "user: %s%s", word_of(spec, text), reason(text, err)) : 0;
#else
	(void)spec;
	(void)port;
	return wrong(why, "user: it needs libslirp, and this was built without it");
#endif
}

static int open_switch(const struct nic_spec *spec, const char *name,
		       const struct nic_events *events, struct vmbus_port *port, char *why)
{
	char text[200] = "";
	const struct vmbus_port_uplink_opts opts = { .struct_bytes = sizeof(opts),
						     .path = spec->source,
						     .name = name,
						     .changed = events ? events->changed : NULL,
						     .log = events ? events->log : NULL,
						     .ctx = events ? events->ctx : NULL,
						     .why = text,
						     .why_bytes = sizeof(text) };
	const int err = vmbus_port_uplink(&opts, port);

	if (err == VMBUS_E_FULL)
		return wrong(why,
			     "switch=%s: all its ports are taken (%s); vmbus-switch serve --ports "
			     "gives more",
			     spec->source, reason(text, err));
	return err ? wrong(why, "switch=%s: %s", spec->source, reason(text, err)) : 0;
}

static int open_capture(const struct nic_spec *spec, const char *name, struct vmbus_port *port,
			char *why)
{
	const int fd = open(spec->capture, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const struct vmbus_port_capture_opts opts = {
		.struct_bytes = sizeof(opts), .fd = fd, .snap = spec->snap, .name = name
	};
	int err;

	if (fd < 0)
		return wrong(why, "capture=%s: %s", spec->capture, strerror(errno));
	err = vmbus_port_capture(&opts, port, port);
	if (err)
		(void)wrong(why, "capture=%s: %s", spec->capture, reason("", err));
	close(fd);
	return err ? -1 : 0;
}

int nic_open(const struct nic_spec *spec, const char *name, const struct nic_events *events,
	     struct vmbus_port *port, char *why)
{
	int err = 0;

	name = spec->name[0] ? spec->name : name;
	memset(port, 0, sizeof(*port));
	switch (spec->kind) {
	case NIC_NULL:
		port->ops = &null_ops;
		break;
	case NIC_TAP:
		err = open_tap(spec, port, why);
		break;
	case NIC_USER:
		err = open_user(spec, port, why);
		break;
	case NIC_PACKET:
		err = open_packet(spec, port, why);
		break;
	case NIC_SWITCH:
		err = open_switch(spec, name, events, port, why);
		break;
	}
	if (!err && spec->capture[0])
		err = open_capture(spec, name, port, why);
	if (err)
		nic_close(port);
	return err;
}

void nic_close(struct vmbus_port *port)
{
	if (port->ops == &null_ops)
		port->ops = NULL;
	vmbus_port_destroy(port);
}

void nic_options(const struct nic_spec *spec, struct vmbus_net_opts *opts)
{
	memset(opts, 0, sizeof(*opts));
	opts->struct_bytes = sizeof(*opts);
	memcpy(opts->mac, spec->mac, sizeof(opts->mac));
	opts->flags = (spec->link_down ? VMBUS_NET_LINK_DOWN : 0u) |
		      (spec->no_pack ? VMBUS_NET_NO_PACK : 0u) |
		      (spec->no_offload ? VMBUS_NET_NO_OFFLOAD : 0u) |
		      (spec->no_rsc ? VMBUS_NET_NO_RSC : 0u);
	opts->subchannels = spec->queues - 1;
	opts->mtu_max = spec->mtu;
	opts->id = spec->id;
}

const char *nic_line(const struct vmbus_net *net, char *text, size_t bytes)
{
	struct vmbus_net_stats s = { 0 };
	struct vmbus_net_state state;
	char mac[18];

	(void)vmbus_net_stats(net, VMBUS_NET_ALL, &s);
	vmbus_net_state(net, &state);
	(void)snprintf(text, bytes,
		       "mac=%s link=%s nvsp=%" PRIu32 ".%" PRIu32 " mtu=%" PRIu32
		       " filter=0x%" PRIx32 " channels=%" PRIu32 " sent=%" PRIu64
		       " sent_bytes=%" PRIu64 " received=%" PRIu64 " received_bytes=%" PRIu64
		       " cut=%" PRIu64 " summed=%" PRIu64 " bad=%" PRIu64 " waits=%" PRIu64
		       " no_room=%" PRIu64 " too_long=%" PRIu64 " filtered=%" PRIu64
		       " stopped=%" PRIu64 " lent=%" PRIu64 " port_sent_dropped=%" PRIu64
		       " port_received_dropped=%" PRIu64,
		       nic_mac_text(state.mac, mac), state.up ? "up" : "down", state.version >> 16,
		       state.version & 0xFFFFu, state.mtu, state.filter, state.channels,
		       s.sent_frames, s.sent_bytes, s.received_frames, s.received_bytes, s.cut,
		       s.summed, s.sent_bad, s.sent_waits, s.no_room, s.too_long, s.filtered,
		       s.stopped, s.lent, s.port_sent, s.port_received);
	return text;
}
