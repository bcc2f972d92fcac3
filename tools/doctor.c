/* SPDX-License-Identifier: MIT */
/*
 * vmbusctl doctor: looks at a parent a few times and tells what is stuck, since when, who waits for
 * whom, and what to do.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "rules.h"

#define LOOKS 3u

struct report {
	const struct ctl_ask *ask;
	uint32_t told;
};

/* How long something is so, for people. */
static void age_text(char *to, size_t bytes, uint64_t ns)
{
	const double seconds = (double)ns / 1e9;

	if (ns == 0)
		(void)snprintf(to, bytes, "%s", "");
	else if (seconds < 120)
		(void)snprintf(to, bytes, ", for %.1f s", seconds);
	else if (seconds < 7200)
		(void)snprintf(to, bytes, ", for %.0f min", seconds / 60);
	else
		(void)snprintf(to, bytes, ", for %.1f h", seconds / 3600);
}

static void plain(const struct finding *f)
{
	char age[48], chan[SNAP_TEXT + 80] = "";

	age_text(age, sizeof(age), f->for_ns);
	if (f->chan && f->chan->d.info.sub_index)
		(void)snprintf(chan, sizeof(chan), ", channel %u (%s, sub-channel %u)",
			       f->chan->d.info.relid, f->chan->vsp, f->chan->d.info.sub_index);
	else if (f->chan)
		(void)snprintf(chan, sizeof(chan), ", channel %u (%s)", f->chan->d.info.relid,
			       f->chan->vsp);
	printf("%s: child %s (process %d)%s%s\n  %s\n  %s\n", f->code, f->bus->name, f->bus->pid,
	       chan, age, f->text, f->advice);
}

static void json_steps(const struct vmbus_chan_diag *d)
{
	const char *before = "";
	uint32_t i;

	printf(", \"state\": \"%s\", \"steps_ns_ago\": {", vmbus_srv_state_name(d->state));
	for (i = 0; i < VMBUS_STEPS; i++) {
		if (!d->steps[i] || d->steps[i] > d->now)
			continue;
		printf("%s\"%s\": %llu", before, vmbus_step_name(i),
		       (unsigned long long)(d->now - d->steps[i]));
		before = ", ";
	}
	putchar('}');
}

static void json(const struct report *r, const struct finding *f)
{
	printf("%s\n    {\"code\": \"%s\", \"child\": ", r->told ? "," : "", f->code);
	ctl_json_string(f->bus->name);
	printf(", \"pid\": %d, \"for_ns\": %llu, \"text\": ", f->bus->pid,
	       (unsigned long long)f->for_ns);
	ctl_json_string(f->text);
	printf(", \"advice\": ");
	ctl_json_string(f->advice);
	if (f->chan) {
		printf(", \"relid\": %u, \"sub_index\": %u, \"owner\": ", f->chan->d.info.relid,
		       f->chan->d.info.sub_index);
		ctl_json_string(f->chan->vsp);
		json_steps(&f->chan->d);
	}
	putchar('}');
}

static void tell(void *ctx, const struct finding *f)
{
	struct report *const r = ctx;

	if (r->ask->json)
		json(r, f);
	else
		plain(f);
	r->told++;
}

static void begin(const struct ctl_ask *ask)
{
	if (!ask->json)
		return;
	printf("{\"schema\": \"vmbusctl-doctor/1\", \"socket\": ");
	ctl_json_string(ask->path);
	printf(", \"findings\": [");
}

static void end(const struct report *r, const struct snap *snap, bool complete)
{
	if (r->ask->json) {
		printf("%s], \"complete\": %s}\n", r->told ? "\n  " : "",
		       complete ? "true" : "false");
		return;
	}
	if (!complete || r->told)
		return;
	if (snap->buses == 0)
		puts("no child is attached");
	else
		printf("nothing found: %u child%s, %u channel%s%s\n", snap->buses,
		       snap->buses == 1 ? "" : "ren", snap->chans, snap->chans == 1 ? "" : "s",
		       snap->chans ? "" : "; no device is offered: is its provider running?");
}

/* The process that listens at the path, 0: not known; a full backlog tells nothing. */
static int listener(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct ucred cred = { .pid = 0 };
	socklen_t bytes = sizeof(cred);
	int sock;

	if (strlen(path) >= sizeof(at.sun_path))
		return 0;
	memcpy(at.sun_path, path, strlen(path));
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return 0;
	if (connect(sock, (const struct sockaddr *)&at, sizeof(at)) ||
	    getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &bytes))
		cred.pid = 0;
	(void)close(sock);
	return cred.pid > 0 ? cred.pid : 0;
}

/* A parent that does not answer is a finding, and the only one that can be told then. */
static int silent(struct report *r, int err)
{
	static const char code[] = "parent-silent";
	const char *text = "the parent did not answer in time: it does not dispatch";
	const char *advice =
		"the parent, or a device in a callback of its, is blocked: look at its stack";
	char state, who[32] = "";
	int pid;

	if (err != VMBUS_E_AGAIN) {
		end(r, NULL, false);
		return ctl_failed(r->ask->path, err);
	}
	pid = listener(r->ask->path);
	state = pid ? rules_process_state((uint32_t)pid) : '?';
	if (state == 'T' || state == 't') {
		text = "the parent did not answer in time: its process is stopped";
		advice = "have the process go on, kill -CONT, or end it";
	}
	if (pid)
		(void)snprintf(who, sizeof(who), " (process %d)", pid);
	if (r->ask->json)
		printf("\n    {\"code\": \"%s\", \"pid\": %d, \"text\": \"%s\", \"advice\": "
		       "\"%s\"}",
		       code, pid, text, advice);
	else
		printf("%s: %s%s\n  %s\n  %s\n", code, r->ask->path, who, text, advice);
	r->told++;
	end(r, NULL, false);
	return CTL_FAILED;
}

int ctl_doctor(const struct ctl_ask *ask)
{
	struct report report = { .ask = ask };
	struct snap snaps[LOOKS] = { 0 };
	uint32_t i;
	int err = 0;

	begin(ask);
	for (i = 0; i < LOOKS && !err; i++) {
		if (i)
			snap_sleep(ask->interval_ns);
		err = snap_take(&snaps[i], ask);
	}
	if (err) {
		err = silent(&report, err);
	} else {
		snap_gone(&snaps[LOOKS - 1], ask);
		(void)rules_find(snaps, LOOKS, ask->grace_ns, tell, &report);
		end(&report, &snaps[LOOKS - 1], true);
		err = report.told ? CTL_FAILED : CTL_OK;
	}
	for (i = 0; i < LOOKS; i++)
		snap_free(&snaps[i]);
	return err;
}
