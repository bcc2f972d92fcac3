/* SPDX-License-Identifier: MIT */
/*
 * vmbus-uio echo: the client of the echo device, which is the same in a process and in a payload,
 * over a device of this guest's.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <vmbus/echo.h>

#include "uio.h"

#define SECOND 1000000000u
#define WAIT_NS ((uint64_t)5 * SECOND)

struct run {
	struct vmbus_uio *uio;
	struct vmbus_guest *guest;
	struct vmbus_echo echo;
	const struct uio_echo *how;
	uint64_t spent_ns;
	uint64_t verified;
	uint64_t wakeups;
	uint64_t signals; /* sent to the parent */
	bool withdrawn;
};

void uio_echo_option(struct uio_echo *echo, const char *name, const char *value)
{
	if (strcmp(name, "packets") == 0)
		echo->packets = uio_number(value, "--packets", 1000000000000u);
	else if (strcmp(name, "payload") == 0)
		echo->payload = (uint32_t)uio_number(value, "--payload", VMBUS_ECHO_PAYLOAD_MAX);
	else if (strcmp(name, "window") == 0)
		echo->window = (uint32_t)uio_number(value, "--window", 60000);
	else if (strcmp(name, "opens") == 0)
		echo->opens = (uint32_t)uio_number(value, "--opens", 1000000);
	else if (strcmp(name, "timeout") == 0)
		echo->timeout_s = (uint32_t)uio_number(value, "--timeout", 86400);
	else
		echo->completions = true;
}

static uint64_t now_ns(void)
{
	struct timespec t = { 0 };

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void log_line(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "vmbus-uio: %s\n", line);
}

static void count_signals(struct run *r, struct vmbus_vsc *vsc)
{
	struct vmbus_vsc_info info;

	vmbus_vsc_info(vsc, &info);
	r->signals += info.send.signals + info.recv.signals;
}

/* Until all came back, or for timeout_s nothing did: a wake-up was lost, or the parent hangs. */
static int until_done(struct run *r)
{
	const uint64_t patience = (uint64_t)r->how->timeout_s * SECOND;
	uint64_t seen = 0, last = now_ns();
	int got;

	while (!r->echo.done) {
		got = vmbus_uio_wait(r->uio, SECOND);
		r->wakeups++;
		if (got < 0 && got != VMBUS_E_AGAIN)
			return got;
		if (r->echo.received != seen) {
			seen = r->echo.received;
			last = now_ns();
		} else if (now_ns() - last > patience) {
			return VMBUS_E_AGAIN;
		}
	}
	return r->echo.err;
}

static int one_open(struct run *r, struct vmbus_vsc *vsc)
{
	struct vmbus_echo_opts opts = { .struct_bytes = sizeof(opts),
					.packets = r->how->packets,
					.payload = r->how->payload,
					.window = r->how->window,
					.completions = r->how->completions };
	uint64_t from;
	int err;

	opts.open.struct_bytes = sizeof(opts.open);
	opts.open.send_bytes = opts.open.recv_bytes = vmbus_uio_ring_bytes(r->uio);
	opts.open.requests_max = r->how->window;
	memset(&r->echo, 0, sizeof(r->echo));
	err = vmbus_echo_start(&r->echo, vsc, &opts);
	if (err)
		return err;
	from = now_ns();
	err = until_done(r);
	r->spent_ns += now_ns() - from;
	r->verified += r->echo.received;
	if (vmbus_vsc_state(vsc) == VMBUS_VSC_GONE) {
		r->withdrawn = true;
		return VMBUS_E_PEER;
	}
	count_signals(r, vsc);
	(void)vmbus_vsc_close(vsc);
	if (vmbus_vsc_wait(vsc, VMBUS_VSC_OFFERED, WAIT_NS) && !err)
		err = VMBUS_E_AGAIN;
	return err;
}

static void report(const struct run *r, uint32_t opens, bool good)
{
	const double s = (double)r->spent_ns / SECOND;

	if (r->how->json) {
		printf("{\"schema\": \"vmbus-uio-echo/1\", \"ok\": %s, \"opens\": %u, "
		       "\"verified\": %llu, \"wrong\": %llu, \"payload\": %u, \"window\": %u, "
		       "\"seconds\": %.6f, \"wakeups\": %llu, \"signals\": %llu}\n",
		       good ? "true" : "false", opens, (unsigned long long)r->verified,
		       (unsigned long long)r->echo.wrong, r->how->payload, r->how->window, s,
		       (unsigned long long)r->wakeups, (unsigned long long)r->signals);
		return;
	}
	printf("%llu packets of %u bytes came back verified, %llu wrong, window %u, %u opening%s, "
	       "%.3f s, %.0f a second, %llu wake-ups, %llu signals\n",
	       (unsigned long long)r->verified, r->how->payload, (unsigned long long)r->echo.wrong,
	       r->how->window, opens, opens == 1 ? "" : "s", s,
	       s > 0 ? (double)r->verified / s : 0.0, (unsigned long long)r->wakeups,
	       (unsigned long long)r->signals);
}

static int run_all(struct run *r)
{
	const struct vmbus_guid class_id = VMBUS_ECHO_CLASS;
	struct vmbus_vsc *vsc;
	uint32_t opens = 0;
	int err = vmbus_guest_connect(r->guest);

	if (!err)
		err = vmbus_guest_wait(r->guest, VMBUS_GUEST_CONNECTED, WAIT_NS);
	if (err)
		return uio_failed("connect", err, "");
	vsc = vmbus_vsc_find(r->guest, &class_id, 0);
	if (!vsc)
		return uio_failed("echo", 0,
				  "the device is none of the echo class: see vmbus-uio list");
	while (!err && opens < r->how->opens) {
		err = one_open(r, vsc);
		if (!err && r->echo.received != r->how->packets)
			err = VMBUS_E_FAULT;
		opens++;
	}
	report(r, opens, err == 0);
	if (err == VMBUS_E_AGAIN)
		fprintf(stderr,
			"vmbus-uio: nothing came for %u s after %llu of %llu packets (%llu sent)\n",
			r->how->timeout_s, (unsigned long long)r->echo.received,
			(unsigned long long)r->how->packets, (unsigned long long)r->echo.sent);
	else if (err)
		return uio_failed("echo", err,
				  r->withdrawn	  ? "the parent withdrew the device"
				  : r->echo.wrong ? "packets came back changed"
				  : err == VMBUS_E_PEER
					  ? "the channel could not be opened, or broke; "
					    "lines above may tell why"
					  : "");
	return err ? UIO_FAILED : UIO_OK;
}

int uio_echo(struct vmbus_uio_opts *opts, const struct uio_echo *how)
{
	static struct run run;
	int err, status;

	opts->guest.struct_bytes = sizeof(opts->guest);
	opts->guest.log = log_line;
	run.how = how;
	err = vmbus_uio_open(opts, &run.uio);
	if (err)
		return uio_failed(opts->device, err, opts->why);
	run.guest = vmbus_uio_guest(run.uio);
	status = run_all(&run);
	vmbus_uio_close(run.uio);
	return status;
}
