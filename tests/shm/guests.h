/* SPDX-License-Identifier: MIT */
/*
 * Children to test with, each a process: attach, open echo channels, send verified requests, close,
 * leave.  What went wrong is the exit status.
 */
#ifndef VMBUS_TESTS_SHM_GUESTS_H
#define VMBUS_TESTS_SHM_GUESTS_H

#include "shm/host.h"

#include <sys/syscall.h>

#define GUEST_CHANNELS_MAX 2047u

struct job {
	uint32_t channels;
	uint32_t requests; /* on each channel */
	uint32_t payload;  /* largest, bytes */
	uint32_t ring;	   /* data bytes */
	uint64_t memory;
	uint32_t vps;
	bool forever;	 /* go on until the parent is gone: status 77 then */
	bool leave_open; /* detach without closing */
};

/* Exit statuses of a child. */
enum {
	GUEST_OK = 0,
	GUEST_NO_ATTACH = 50,
	GUEST_NO_CONNECT,
	GUEST_NO_CHANNEL,
	GUEST_NO_OPEN,
	GUEST_WRONG,
	GUEST_NO_CLOSE,
	GUEST_LATE,
	GUEST_PARENT_GONE = 77
};

struct guest_chan {
	struct vmbus_vsc *vsc;
	uint32_t sent, done;
};

struct guest_run {
	const struct job *job;
	struct vmbus_shm_attach *attach;
	struct vmbus_guest *guest;
	uint32_t wrong;
	uint64_t done;
	struct guest_chan chan[GUEST_CHANNELS_MAX];
};

/* Payload of request n of channel c: every byte follows from both. */
static inline uint32_t guest_fill(uint8_t *buf, uint32_t c, uint32_t n, uint32_t most)
{
	const uint32_t len = 8 + (n * 37 + c * 11) % (most - 7);
	uint32_t i;

	memcpy(buf, &c, 4);
	memcpy(buf + 4, &n, 4);
	for (i = 8; i < len; i++)
		buf[i] = (uint8_t)(i * 7 + n + c);
	return len;
}

static unsigned int guest_seconds = 100; /* how long a child may talk */
static const uint32_t *guest_stop;	 /* NULL, or when this is not 0, it has talked enough */
static struct guest_run *guest_now;	 /* one per process */
static uint64_t guest_patience_ns = 20ull * SECOND_NS; /* for a parent that is not there yet */

static inline void guest_completed(struct vmbus_vsc *vsc, void *cookie,
				   const struct vmbus_packet *pkt)
{
	struct guest_run *const run = guest_now;
	const uint32_t c = (uint32_t)((uintptr_t)cookie >> 20), n = (uintptr_t)cookie & 0xFFFFFu;
	uint8_t want[4096];
	uint32_t len;

	(void)vsc;
	if (!pkt) /* the channel closed before it came */
		return;
	len = guest_fill(want, c, n, run->job->payload);
	if (pkt->len < len || pkt->len >= len + 8 || memcmp(pkt->payload, want, len) != 0)
		run->wrong++;
	run->chan[c].done++;
	run->done++;
}

static inline void guest_sleep(struct guest_run *run)
{
	(void)vmbus_shm_attach_wait(run->attach, 100000000);
}

static inline bool guest_lost(const struct guest_run *run)
{
	return vmbus_guest_state(run->guest) == VMBUS_GUEST_GONE;
}

static inline int guest_open(struct guest_run *run)
{
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
				       .send_bytes = run->job->ring,
				       .recv_bytes = run->job->ring,
				       .requests_max = 32,
				       .completed = guest_completed };
	uint32_t c;

	for (c = 0; c < run->job->channels; c++) {
		run->chan[c].vsc = vmbus_vsc_find(run->guest, &echo_class, c);
		if (!run->chan[c].vsc)
			return GUEST_NO_CHANNEL;
	}
	for (c = 0; c < run->job->channels; c++) {
		opts.priv = &run->chan[c];
		opts.target_vp = run->job->vps ? c % run->job->vps : 0;
		if (vmbus_vsc_open(run->chan[c].vsc, &opts))
			return GUEST_NO_OPEN;
	}
	for (c = 0; c < run->job->channels; c++)
		if (vmbus_vsc_wait(run->chan[c].vsc, VMBUS_VSC_OPEN, 60ull * SECOND_NS))
			return guest_lost(run) ? GUEST_PARENT_GONE : GUEST_NO_OPEN;
	return 0;
}

static inline int guest_talk(struct guest_run *run)
{
	const uint64_t end = vmbus__shm_now_ns() + (uint64_t)guest_seconds * SECOND_NS;
	const struct job *const job = run->job;
	uint64_t goal = (uint64_t)job->channels * job->requests;
	uint8_t buf[4096];
	uint32_t c;

	while ((job->forever || run->done < goal) && !run->wrong) {
		bool sent = false;

		if (guest_lost(run))
			return GUEST_PARENT_GONE;
		if (guest_stop && __atomic_load_n(guest_stop, __ATOMIC_ACQUIRE))
			return 0;
		if (vmbus__shm_now_ns() > end)
			return GUEST_LATE;
		for (c = 0; c < job->channels; c++) {
			struct guest_chan *const chan = &run->chan[c];
			struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .data = buf };

			if ((!job->forever && chan->sent == job->requests) ||
			    chan->sent >= chan->done + 16)
				continue;
			msg.len = guest_fill(buf, c, chan->sent & 0xFFFFFu, job->payload);
			if (vmbus_vsc_request(
				    chan->vsc, &msg,
				    (void *)((uintptr_t)c << 20 | (chan->sent & 0xFFFFFu))) < 0)
				continue;
			chan->sent++;
			sent = true;
		}
		if (vmbus_shm_attach_dispatch(run->attach, 256) == 0 && !sent)
			guest_sleep(run);
	}
	return run->wrong ? GUEST_WRONG : 0;
}

static inline int guest_close(struct guest_run *run)
{
	uint32_t c;

	for (c = 0; c < run->job->channels; c++)
		if (vmbus_vsc_close(run->chan[c].vsc))
			return GUEST_NO_CLOSE;
	for (c = 0; c < run->job->channels; c++)
		if (vmbus_vsc_wait(run->chan[c].vsc, VMBUS_VSC_OFFERED, 60ull * SECOND_NS))
			return GUEST_NO_CLOSE;
	return 0;
}

/* Attach, also to a parent that is not there yet. */
static inline int guest_attach(struct guest_run *run, const char *path)
{
	const uint64_t end = vmbus__shm_now_ns() + guest_patience_ns;
	struct vmbus_shm_attach_opts opts = { .struct_bytes = sizeof(opts),
					      .path = path,
					      .name = "guest",
					      .timeout_ns = 20ull * SECOND_NS };
	int err;

	opts.memory_bytes = run->job->memory;
	opts.vps = run->job->vps;
	while ((err = vmbus_shm_attach(&opts, &run->attach)) != 0) {
		if ((err != VMBUS_E_SYSTEM && err != VMBUS_E_PEER) || vmbus__shm_now_ns() > end)
			return GUEST_NO_ATTACH;
		usleep(2000);
	}
	run->guest = vmbus_shm_guest(run->attach);
	return 0;
}

static inline int guest_main(const char *path, const struct job *job)
{
	struct guest_run *const run = calloc(1, sizeof(*run));
	int status;

	run->job = job;
	guest_now = run;
	status = guest_attach(run, path);
	if (status) {
		free(run);
		return status;
	}
	if (vmbus_guest_connect(run->guest) ||
	    vmbus_guest_wait(run->guest, VMBUS_GUEST_CONNECTED, 60ull * SECOND_NS))
		status = guest_lost(run) ? GUEST_PARENT_GONE : GUEST_NO_CONNECT;
	if (!status)
		status = guest_open(run);
	if (!status)
		status = guest_talk(run);
	if (!status && !job->leave_open)
		status = guest_close(run);
	vmbus_shm_detach(run->attach);
	free(run);
	return status;
}

/* A child process; it has none of this process's descriptors. */
static inline pid_t guest_start(const char *path, const struct job *job)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid)
		return pid;
	(void)syscall(SYS_close_range, 3u, ~0u, 0);
	alarm(guest_seconds + 50);
	_exit(guest_main(path, job));
}

/* Wait for a child's end with the server running; returns its exit status, or 1000 + signal. */
static inline int guest_end(struct host *host, pid_t pid)
{
	int status = 0;
	pid_t got = 0;

	while ((got = waitpid(pid, &status, WNOHANG)) == 0)
		(void)vmbus_shm_server_run(host->server, 1000000);
	must_eq(got, pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

#endif
