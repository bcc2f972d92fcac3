/* SPDX-License-Identifier: MIT */
/*
 * vmbus-switch join: a child of a switch, with ports of this machine on it, so that ordinary programs
 * use it by a TAP.  Its own side is a switch too, with the way there as one of its ports.
 */
#define _GNU_SOURCE
#include "sw.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BUDGET 256u

struct join {
	const char *socket, *name;
	bool no_sandbox;
	uint32_t queue_bytes;
	struct nic_spec spec; /* of the way there */
	struct vmbus_port port;
	struct sw_plugs plugs;
	struct vmbus_switch *sw;
	bool gone;
	char why[160]; /* it is */
};

static struct join join = { .name = "join", .queue_bytes = SW_QUEUE_BYTES };

static int parse(int argc, char **argv, struct join *j)
{
	int i, err;

	for (i = 1; i < argc; i++) {
		const char *const arg = argv[i];

		err = sw_plugs_word(&j->plugs, argc, argv, &i);
		if (err == SW_GONE)
			err = sw_queue_word(argc, argv, &i, &j->queue_bytes);
		if (err == 0)
			continue;
		if (err != SW_GONE)
			return err;
		if (strcmp(arg, "--no-sandbox") == 0)
			j->no_sandbox = true;
		else if (strcmp(arg, "--quiet") == 0)
			sw_quiet = true;
		else if (strcmp(arg, "--name") == 0 && i + 1 < argc)
			j->name = argv[++i];
		else if (arg[0] != '-' && !j->socket)
			j->socket = arg;
		else
			return sw_usage("what is this: %s%s", arg,
					arg[0] == '-' ? ": no option, or its value is missing"
						      : "");
	}
	if (!j->socket)
		return sw_usage("which switch: vmbus-switch join SOCKET --tap NAME");
	if (strlen(j->socket) >= sizeof(j->spec.source))
		return sw_usage("%s: a socket's path has 1 to %zu characters", j->socket,
				sizeof(j->spec.source) - 1);
	return j->plugs.count ? 0 : sw_usage("what joins it? for instance --tap NAME");
}

/* Within a dispatch of the switch. */
static void changed(void *ctx)
{
	struct join *const j = ctx;
	struct vmbus_port_info info;
	const int err = j->port.ops->info(j->port.ctx, &info);

	if (err && !j->gone)
		(void)sw_failed("%s: the switch has ended%s%s", j->socket, j->why[0] ? ": " : "",
				j->why);
	else if (!j->gone)
		sw_say("%s: the link is %s", j->socket, info.up ? "up" : "down");
	j->gone |= err != 0;
}

static void there_log(void *ctx, const char *line)
{
	static const char end[] = "the parent is gone: ";
	struct join *const j = ctx;

	if (strncmp(line, end, sizeof(end) - 1) == 0) /* changed() tells of it */
		(void)snprintf(j->why, sizeof(j->why), "%s", line + sizeof(end) - 1);
	else
		sw_say("%s: %s", j->socket, line);
}

static int open_there(struct join *j)
{
	const struct nic_events events = { .changed = changed, .log = there_log, .ctx = j };
	char why[NIC_WHY_BYTES];
	int err;

	j->spec.kind = NIC_SWITCH;
	(void)snprintf(j->spec.source, sizeof(j->spec.source), "%s", j->socket);
	if (nic_open(&j->spec, j->name, &events, &j->port, why))
		return sw_failed("%s", why);
	err = vmbus_switch_plug(j->sw, "there", &j->port, NULL);
	return err ? sw_failed("%s: %s", j->socket, vmbus_err_name(err)) : 0;
}

/* One line: what was lost on the way to each port, and on the way from it. */
static void tell_lost(const struct join *j)
{
	struct vmbus_switch_stats s;
	char line[1024] = "";
	size_t at = 0;
	uint32_t i;
	int there;

	for (i = 0; (there = vmbus_switch_stats(j->sw, i, &s)) >= 0 && at < sizeof(line); i++)
		if (there)
			at += (size_t)snprintf(line + at, sizeof(line) - at,
					       "%s %s no_room=%" PRIu64 " refused=%" PRIu64
					       " in_lost=%" PRIu64 " in_dropped=%" PRIu64,
					       at ? "," : "", s.name, s.no_room, s.refused,
					       s.in_lost, s.bad + s.nowhere + s.flood_limit);
	sw_say("lost:%s", line);
}

/* The name may have got a number behind it; a parent that is no vmbus-switch has no names. */
static bool find_name(const struct join *j, char name[VMBUS_SWITCH_NAME_BYTES])
{
	struct vmbus_port_info info;

	return !j->port.ops->info(j->port.ctx, &info) && sw_ask_name(j->socket, info.mac, name);
}

static int run(struct join *j)
{
	struct pollfd p = { .fd = vmbus_switch_fd(j->sw), .events = POLLIN };

	while (!sw_stopped() && !j->gone) {
		p.revents = 0;
		if (sw_wait(&p, 1) < 0 && errno != EINTR)
			return sw_failed("waiting failed: %s", strerror(errno));
		if (p.revents)
			(void)vmbus_switch_dispatch(j->sw, BUDGET);
		if (sw_asked())
			tell_lost(j);
	}
	tell_lost(j);
	if (j->gone)
		return SW_GONE;
	sw_say("stopped by a signal: leaving");
	return SW_OK;
}

int sw_join(int argc, char **argv)
{
	struct join *const j = &join;
	struct vmbus_switch_opts opts = { .struct_bytes = sizeof(opts) };
	char name[VMBUS_SWITCH_NAME_BYTES] = "";
	int status = parse(argc, argv, j), err;
	bool named;

	if (status)
		return status;
	opts.queue_bytes = j->queue_bytes;
	sw_catch_signals();
	sw_catch_ask();
	err = vmbus_switch_create(&opts, &j->sw);
	if (err)
		return sw_failed("a switch: %s", vmbus_err_name(err));
	status = open_there(j);
	named = !status && find_name(j, name);
	if (!status)
		status = sw_plugs_open(&j->plugs, j->sw, NULL);
	if (!status && !j->no_sandbox)
		status = sw_unprivileged();
	if (!status && !j->no_sandbox)
		status = sw_sandbox(sw_plugs_make_sockets(&j->plugs));
	if (!status) {
		sw_say("joined %s as %s", j->socket, named ? name : j->name);
		status = run(j);
	}
	vmbus_switch_destroy(j->sw);
	sw_plugs_close(&j->plugs);
	nic_close(&j->port);
	return status;
}
