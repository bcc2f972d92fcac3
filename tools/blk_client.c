/* SPDX-License-Identifier: MIT */
/* The way to a disk: attach, connect, find the controller, open its channels, look at the disk. */
#define _GNU_SOURCE
#include "blk_client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MS ((uint64_t)1000000u)
#define BUDGET 256u
#define TURNS 256u /* of looks at rings for one at the rest */

static int wrong(char *why, size_t why_bytes, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int wrong(char *why, size_t why_bytes, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, why_bytes, format, args);
	va_end(args);
	return -1;
}

static uint64_t now_ns(void)
{
	struct timespec t = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000u * MS + (uint64_t)t.tv_nsec;
}

static void ready(void *ctx, int err)
{
	struct blk_client *const c = ctx;

	c->is_ready = true;
	c->ready_err = err;
}

static void closed(void *ctx)
{
	((struct blk_client *)ctx)->is_closed = true;
}

static void writable(void *ctx, uint32_t channel)
{
	const struct blk_client *const c = ctx;

	if (c->opts.writable)
		c->opts.writable(c->opts.ctx, channel);
}

static void probed(struct vmbus_storvsc_disk *disk, int err, void *ctx)
{
	struct blk_client *const c = ctx;

	(void)disk;
	c->is_probed = true;
	c->probe_err = err;
}

/* Rings without interrupts, then now and then the rest. */
static int poll_turn(struct blk_client *c)
{
	int done = 0, n;
	uint32_t i;

	for (i = 0; i < c->storvsc.channels; i++) {
		struct vmbus_vsc *const vsc = vmbus_storvsc_channel(&c->storvsc, i);

		n = vsc ? vmbus_vsc_dispatch(vsc, BUDGET) : 0;
		done += n > 0 ? n : 0;
	}
	if (++c->turns % TURNS == 0 || c->storvsc.channels < c->storvsc.offered || !c->is_ready) {
		n = vmbus_shm_attach_dispatch(c->attach, BUDGET);
		done += n > 0 ? n : 0;
	}
	return done ? done : VMBUS_E_AGAIN;
}

int blk_client_turn(struct blk_client *c, uint64_t wait_ns)
{
	int done;

	if (c->opts.poll && c->started)
		done = poll_turn(c);
	else
		done = vmbus_shm_attach_wait(c->attach, wait_ns);
	if (c->is_closed || vmbus_guest_state(c->guest) == VMBUS_GUEST_GONE)
		return VMBUS_E_PEER;
	return done;
}

/* Turns until *flag, or the time is over. */
static int until(struct blk_client *c, const bool *flag, uint64_t end)
{
	int err;

	while (!*flag) {
		if (now_ns() >= end)
			return VMBUS_E_AGAIN;
		err = blk_client_turn(c, 10 * MS);
		if (err < 0 && err != VMBUS_E_AGAIN)
			return err;
	}
	return 0;
}

/* Some texts begin with the path. */
static bool is_of(const char *text, const char *path)
{
	return strncmp(text, path, strlen(path)) == 0;
}

static int attach(struct blk_client *c, char *why, size_t why_bytes)
{
	char text[160] = "";
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts),
					      .path = c->opts.socket,
					      .name = c->opts.name,
					      .memory_bytes = c->opts.memory_bytes,
					      .timeout_ns = c->opts.timeout_ns,
					      .why = text,
					      .why_bytes = sizeof(text) };
	int err;

	opts.guest.struct_bytes = sizeof(opts.guest);
	opts.guest.log = c->opts.log;
	opts.guest.ctx = c->opts.ctx;
	err = vmbus_shm_attach(&opts, &c->attach);
	if (err)
		return wrong(why, why_bytes, "%s%s%s (%s)",
			     is_of(text, c->opts.socket) ? "" : c->opts.socket,
			     is_of(text, c->opts.socket) ? "" : ": ",
			     text[0] ? text : "cannot attach", vmbus_err_name(err));
	c->guest = vmbus_shm_guest(c->attach);
	err = vmbus_guest_connect(c->guest);
	if (!err)
		err = vmbus_guest_wait(c->guest, VMBUS_GUEST_CONNECTED, c->opts.timeout_ns);
	return err ? wrong(why, why_bytes, "%s: cannot connect: %s", c->opts.socket,
			   vmbus_err_name(err))
		   : 0;
}

static struct vmbus_vsc *controller(const struct blk_client *c, uint32_t nth)
{
	const struct vmbus_guid class_id = VMBUS_BLOCK_CLASS;

	return vmbus_vsc_find(c->guest, &class_id, nth);
}

/* A provider may still be on its way. */
static bool wait_for_one(struct blk_client *c, uint64_t end)
{
	while (!controller(c, 0) && now_ns() < end)
		if (blk_client_turn(c, 10 * MS) == VMBUS_E_PEER)
			break;
	return controller(c, 0) != NULL;
}

static int start(struct blk_client *c, struct vmbus_vsc *vsc, uint64_t end, char *why,
		 size_t why_bytes)
{
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts),
					   .subchannels = c->opts.channels - 1,
					   .depth = c->opts.depth,
					   .ready = ready,
					   .writable = writable,
					   .closed = closed,
					   .ctx = c };
	int err;

	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.poll = c->opts.poll;
	err = vmbus_storvsc_start(&c->storvsc, vsc, &opts);
	if (!err) {
		c->started = true;
		err = until(c, &c->is_ready, end);
	}
	if (!err)
		err = c->ready_err;
	while (!err && c->storvsc.channels < c->storvsc.offered && now_ns() < end)
		if (blk_client_turn(c, 10 * MS) == VMBUS_E_PEER)
			err = VMBUS_E_PEER;
	c->channels = c->storvsc.channels;
	return err ? wrong(why, why_bytes, "%s: the controller cannot be used: %s", c->opts.socket,
			   vmbus_err_name(err))
		   : 0;
}

/* RANGE: it is not there, or another than is wanted. */
static int probe(struct blk_client *c, uint64_t end, char *why, size_t why_bytes)
{
	int err;

	do {
		c->is_probed = false;
		err = vmbus_storvsc_probe(&c->disk, &c->storvsc, c->opts.target, c->opts.lun,
					  c->page, probed, c);
		if (!err)
			err = until(c, &c->is_probed, end);
		if (!err)
			err = c->probe_err;
	} while (err == VMBUS_E_AGAIN && now_ns() < end);
	if (!err && c->opts.serial && strcmp(c->disk.serial, c->opts.serial) != 0)
		return VMBUS_E_RANGE;
	if (err && err != VMBUS_E_RANGE)
		return wrong(why, why_bytes, "%s: disk %u:%u: %s", c->opts.socket, c->opts.target,
			     c->opts.lun, vmbus_err_name(err));
	return err;
}

/* A controller: its storage can be used for another one then. */
static int leave(struct blk_client *c, uint64_t end, char *why, size_t why_bytes)
{
	if (vmbus_storvsc_stop(&c->storvsc))
		return wrong(why, why_bytes, "%s: a controller ended", c->opts.socket);
	c->started = false;
	while (!c->is_closed && now_ns() < end)
		if (blk_client_turn(c, 10 * MS) == VMBUS_E_PEER && !c->is_closed)
			break;
	if (!c->is_closed)
		return wrong(why, why_bytes, "%s: a controller does not close", c->opts.socket);
	c->is_closed = c->is_ready = false;
	memset(&c->storvsc, 0, sizeof(c->storvsc));
	return 0;
}

static int not_one(const struct blk_client *c, uint32_t found, uint32_t of, char *why,
		   size_t why_bytes)
{
	const char *const serial = c->opts.serial;

	if (found == 0)
		return wrong(why, why_bytes,
			     "%s: there is no disk at target %u, LUN %u%s%s of %u controller%s",
			     c->opts.socket, c->opts.target, c->opts.lun,
			     serial ? " with the serial " : "", serial ? serial : "", of,
			     of == 1 ? "" : "s");
	return wrong(
		why, why_bytes,
		"%s: %u controllers have such a disk at target %u, LUN %u: a serial of its own "
		"tells which",
		c->opts.socket, found, c->opts.target, c->opts.lun);
}

/* The one controller that has it, which is used then.  What was written to another disk would be lost. */
static int find_disk(struct blk_client *c, uint64_t end, char *why, size_t why_bytes)
{
	uint32_t nth = 0, found = 0, at = 0;
	int err;

	if (!wait_for_one(c, end))
		return wrong(why, why_bytes, "%s: no disks are offered there", c->opts.socket);
	c->page = vmbus_guest_pages(c->guest, 1);
	if (!c->page)
		return wrong(why, why_bytes, "no memory");
	for (; controller(c, nth); nth++) {
		if (start(c, controller(c, nth), end, why, why_bytes))
			return -1;
		err = probe(c, end, why, why_bytes);
		if (err && err != VMBUS_E_RANGE)
			return -1;
		if (!err && nth == 0 && !controller(c, 1))
			return 0;
		found += !err;
		at = err ? at : nth;
		if (leave(c, end, why, why_bytes))
			return -1;
	}
	if (found != 1 || !controller(c, at))
		return not_one(c, found, nth, why, why_bytes);
	if (start(c, controller(c, at), end, why, why_bytes))
		return -1;
	err = probe(c, end, why, why_bytes);
	return err == VMBUS_E_RANGE ? not_one(c, 0, nth, why, why_bytes) : err;
}

int blk_client_open(struct blk_client *c, const struct blk_client_opts *opts, char *why,
		    size_t why_bytes)
{
	const uint64_t end = now_ns() + opts->timeout_ns;

	memset(c, 0, sizeof(*c));
	c->opts = *opts;
	if (attach(c, why, why_bytes) == 0 && find_disk(c, end, why, why_bytes) == 0)
		return 0;
	blk_client_close(c);
	return -1;
}

void blk_client_close(struct blk_client *c)
{
	vmbus_shm_detach(c->attach);
	c->attach = NULL;
	c->guest = NULL;
}
