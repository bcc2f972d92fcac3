/* SPDX-License-Identifier: MIT */
/*
 * A parent to test with, in this process; children and providers that are processes of their own.
 * What they count lies in memory that all share.  Everything has a deadline, and every process is
 * killed when the test ends.
 */
#ifndef VMBUS_TESTS_PROVIDER_WORLD_H
#define VMBUS_TESTS_PROVIDER_WORLD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vmbus/echo.h>
#include <vmbus/provider.h>
#include <vmbus/shm_bus.h>

#include "vmbus_test.h"

#define SECOND ((uint64_t)1000000000u)
#define MS ((uint64_t)1000000u)
#define DEADLINE (30 * SECOND)
#define CHILDREN 4

/* What a child counts; written by it alone. */
struct child_counts {
	_Atomic uint64_t received; /* echoes, each byte checked and in order */
	_Atomic uint64_t wrong;
	_Atomic uint64_t opens;
	_Atomic uint64_t gone; /* rescinds */
	_Atomic uint64_t failed;
	_Atomic int left; /* it ended well */
};

struct shared {
	struct child_counts child[CHILDREN];
	_Atomic int stop;
	_Atomic uint32_t subchannels; /* that children ask for */
	_Atomic uint32_t completions;
	_Atomic uint64_t opened; /* by providers' device */
	_Atomic uint64_t closed;
	_Atomic int sandboxed;
};

struct world {
	struct vmbus_provider_host *host;
	struct vmbus_provider_host_opts opts;
	struct vmbus_shm_server *server;
	struct shared *shared;
	char path[64];
	pid_t children[CHILDREN];
	pid_t providers[2];
	uint32_t attached, detached;
	uint64_t lines;
	char last[400];
	uint64_t record_bytes;		 /* of the parent's flight records */
	struct vmbus_provider_info info; /* of the last listing */
	uint32_t listed;
};

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static inline void world_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	struct world *const w = ctx;

	(void)level;
	w->lines++;
	(void)snprintf(w->last, sizeof(w->last), "%s", line);
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "parent: %s\n", line);
}

static inline void world_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	(void)child;
	(void)why;
	((struct world *)ctx)->detached++;
}

static inline int world_attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	(void)child;
	(void)bus;
	((struct world *)ctx)->attached++;
	return 0;
}

static inline void world_prepare(struct world *w)
{
	static unsigned int count;

	memset(w, 0, sizeof(*w));
	w->shared = mmap(NULL, sizeof(*w->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(w->shared != MAP_FAILED);
	(void)snprintf(w->path, sizeof(w->path), "/tmp/vmbus-pv-%d-%u.sock", (int)getpid(),
		       count++);
	w->opts = (struct vmbus_provider_host_opts){ .struct_bytes = sizeof(w->opts),
						     .log = world_log,
						     .ctx = w };
}

static inline void world_start(struct world *w)
{
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts),
					      .path = w->path,
					      .attached = world_attached,
					      .detached = world_detached,
					      .record_bytes = w->record_bytes,
					      .ctx = w,
					      .log = world_log };

	must_eq(vmbus_provider_listen(&w->opts, &w->host), 0);
	opts.providers = w->host;
	must_eq(vmbus_shm_listen(&opts, &w->server), 0);
}

static inline void world_init(struct world *w)
{
	world_prepare(w);
	world_start(w);
}

static inline void world_run(struct world *w)
{
	const int done = vmbus_shm_server_run(w->server, 2 * MS);

	must(done >= 0 || done == VMBUS_E_AGAIN);
}

/* Serve until it holds. */
#define world_until(w, cond)                                                                       \
	do {                                                                                       \
		const uint64_t until_end = now_ns() + DEADLINE;                                    \
		vmbus_test_at("waiting for %s, last line: %.120s", #cond, (w)->last);              \
		while (!(cond)) {                                                                  \
			must(now_ns() < until_end);                                                \
			world_run(w);                                                              \
		}                                                                                  \
	} while (0)

static inline void world_serve_ns(struct world *w, uint64_t ns)
{
	const uint64_t end = now_ns() + ns;

	while (now_ns() < end)
		world_run(w);
}

static inline void world_listed(void *ctx, const struct vmbus_provider_info *info)
{
	struct world *const w = ctx;

	w->info = *info;
	w->listed++;
}

static inline const struct vmbus_provider_info *world_info(struct world *w)
{
	w->listed = 0;
	memset(&w->info, 0, sizeof(w->info));
	vmbus_provider_host_list(w->host, world_listed, w);
	return &w->info;
}

static inline void reap(pid_t *pid)
{
	if (*pid > 0) {
		kill(*pid, SIGKILL);
		must_eq(waitpid(*pid, NULL, 0), *pid);
	}
	*pid = 0;
}

static inline void world_fini(struct world *w)
{
	uint32_t i;

	for (i = 0; i < CHILDREN; i++)
		reap(&w->children[i]);
	for (i = 0; i < 2; i++)
		reap(&w->providers[i]);
	vmbus_shm_server_destroy(w->server);
	vmbus_provider_host_destroy(w->host);
	must(access(w->path, F_OK) != 0);
	munmap(w->shared, sizeof(*w->shared));
}

/* A process of the test's, which does not outlive it and has nothing of the parent's open. */
static inline pid_t spawn(struct world *w)
{
	const pid_t pid = fork();
	int fd;

	must(pid >= 0);
	if (pid)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)w;
	for (fd = 3; fd < 256; fd++)
		close(fd);
	return 0;
}

/* ---- a child ---- */

struct kid {
	struct child_counts *counts;
	struct shared *shared;
	struct vmbus_guest *guest;
	struct vmbus_vsc *vsc; /* the primary */
	struct vmbus_echo echo[8];
	struct vmbus_vsc *of[8];
	bool fresh;
	bool leaving;
};

static const struct vmbus_guid echo_class = VMBUS_ECHO_CLASS;

static inline void kid_offered(void *ctx, struct vmbus_vsc *vsc)
{
	(void)vsc;
	((struct kid *)ctx)->fresh = true;
}

static inline void kid_gone(void *ctx, struct vmbus_vsc *vsc)
{
	struct kid *const k = ctx;
	uint32_t i;

	k->counts->gone += !k->leaving;
	for (i = 0; i < 8; i++)
		if (k->of[i] == vsc)
			k->of[i] = NULL;
}

static inline void kid_start(struct kid *k, struct vmbus_vsc *vsc)
{
	struct vmbus_echo_opts opts = {
		.struct_bytes = sizeof(opts), .packets = 2000, .payload = 64, .window = 32
	};
	uint32_t i;

	for (i = 0; i < 8 && k->of[i]; i++)
		if (k->of[i] == vsc)
			return;
	if (i == 8)
		return;
	opts.completions = k->shared->completions != 0;
	opts.subchannels = k->shared->subchannels;
	opts.open.struct_bytes = sizeof(opts.open);
	if (vmbus_echo_start(&k->echo[i], vsc, &opts) == 0) {
		k->of[i] = vsc;
		k->counts->opens++;
	}
}

static inline void kid_channels(struct kid *k)
{
	struct vmbus_vsc *const primary = vmbus_vsc_find(k->guest, &echo_class, 0), *sub;
	uint32_t n;

	if (primary && vmbus_vsc_state(primary) == VMBUS_VSC_OFFERED)
		kid_start(k, primary);
	for (n = 1; primary && n < 8; n++) {
		sub = vmbus_vsc_subchannel(primary, n);
		if (sub && vmbus_vsc_state(sub) == VMBUS_VSC_OFFERED)
			kid_start(k, sub);
	}
	for (n = 0; n < 8; n++) {
		struct vmbus_echo *const e = &k->echo[n];
		struct vmbus_echo_opts opts = {
			.struct_bytes = sizeof(opts), .packets = 2000, .payload = 64, .window = 32
		};

		if (!k->of[n] || !e->done)
			continue;
		k->counts->wrong += e->wrong;
		k->counts->received += e->received;
		opts.completions = k->shared->completions != 0;
		/* Or it is withdrawn just now, after all that was sent has come back. */
		if (e->err || vmbus_echo_again(e, &opts)) {
			k->counts->failed++;
			k->of[n] = NULL; /* the channel ended: gone() or a new offer follows */
		}
	}
}

/* Echo on every channel that there is, until told to stop. */
static inline void kid_main(struct world *w, uint32_t n)
{
	struct vmbus_shm_attach_opts at = { .struct_bytes = sizeof(at),
					    .path = w->path,
					    .name = "kid" };
	static struct kid kid;
	struct kid *const k = &kid;
	struct vmbus_shm_attach *attach;

	k->counts = &w->shared->child[n];
	k->shared = w->shared;
	at.guest.struct_bytes = sizeof(at.guest);
	at.guest.offered = kid_offered;
	at.guest.gone = kid_gone;
	at.guest.ctx = k;
	if (vmbus_shm_attach(&at, &attach))
		_exit(10);
	k->guest = vmbus_shm_guest(attach);
	if (vmbus_guest_connect(k->guest))
		_exit(11);
	while (!w->shared->stop) {
		const int done = vmbus_shm_attach_wait(attach, 20 * MS);

		if (done < 0 && done != VMBUS_E_AGAIN)
			_exit(12);
		kid_channels(k);
	}
	k->leaving = true;
	vmbus_shm_detach(attach);
	k->counts->left = 1;
	_exit(0);
}

static inline void world_child(struct world *w, uint32_t n)
{
	w->children[n] = spawn(w);
	if (!w->children[n])
		kid_main(w, n);
}

/* ---- a provider ---- */

static struct shared *in_provider;

static inline int plain_open(struct vmbus_chan *chan, void *ctx)
{
	(void)chan;
	(void)ctx;
	in_provider->opened++;
	return 0;
}

static inline int plain_close(struct vmbus_chan *chan)
{
	(void)chan;
	in_provider->closed++;
	return 0;
}

static inline void plain_one(struct vmbus_chan *chan, const struct vmbus_packet *pkt)
{
	const struct vmbus_msg msg = {
		.id = pkt->id, .data = pkt->payload, .len = pkt->len, .type = VMBUS_PKT_INBAND
	};

	if (pkt->flags & VMBUS_PKT_FLAG_COMPLETE)
		(void)vmbus_chan_complete(chan, pkt->id, pkt->payload, pkt->len);
	else
		(void)vmbus_chan_send(chan, &msg, 1);
}

static inline void plain_packets(struct vmbus_chan *chan, const struct vmbus_packet *pkt,
				 uint32_t n)
{
	vmbus_chan_each(chan, pkt, n, plain_one);
}

/* Not resumable; the children's windows are smaller than their rings, so there is always room. */
static const struct vmbus_vsp plain_vsp = {
	.struct_bytes = sizeof(plain_vsp),
	.name = "plain",
	.class_id = VMBUS_ECHO_CLASS,
	.max_payload = VMBUS_ECHO_PAYLOAD_MAX,
	.open = plain_open,
	.packets = plain_packets,
	.close = plain_close,
};

static inline void provider_log(void *ctx, enum vmbus_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	if (getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "provider %d: %s\n", (int)getpid(), line);
}

static volatile sig_atomic_t provider_stop;

static inline void on_term(int signal)
{
	(void)signal;
	provider_stop = 1;
}

static inline void provider_main(struct world *w, const struct vmbus_vsp *vsp, bool take_over)
{
	struct vmbus_provider_opts opts = { .struct_bytes = sizeof(opts),
					    .path = w->path,
					    .name = "echo",
					    .vsp = vsp,
					    .take_over = take_over,
					    .log = provider_log };
	const struct sigaction term = { .sa_handler = on_term };
	struct vmbus_provider *provider;
	char why[160] = "";
	int err;

	in_provider = w->shared;
	opts.why = why;
	opts.why_bytes = sizeof(why);
	(void)sigaction(SIGTERM, &term, NULL);
	err = vmbus_provider_attach(&opts, &provider);
	if (err) {
		fprintf(stderr, "provider: %s: %s\n", vmbus_err_name(err), why);
		_exit(20);
	}
	if (w->shared->sandboxed && vmbus_provider_sandbox())
		_exit(21);
	while (!provider_stop) {
		err = vmbus_provider_wait(provider, 10 * SECOND);
		if (err == VMBUS_E_PEER)
			break;
		if (err < 0 && err != VMBUS_E_AGAIN)
			_exit(22);
	}
	if (err == VMBUS_E_PEER && getenv("VMBUS_TEST_LOG"))
		fprintf(stderr, "provider %d: ends: %s\n", (int)getpid(),
			vmbus_provider_why(provider));
	vmbus_provider_detach(provider);
	_exit(provider_stop ? 0 : 30);
}

static inline void world_provider(struct world *w, uint32_t n, const struct vmbus_vsp *vsp,
				  bool take_over)
{
	w->providers[n] = spawn(w);
	if (!w->providers[n])
		provider_main(w, vsp, take_over);
}

static inline uint64_t received(const struct world *w)
{
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < CHILDREN; i++)
		sum += w->shared->child[i].received;
	return sum;
}

static inline uint64_t wrong(const struct world *w)
{
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < CHILDREN; i++)
		sum += w->shared->child[i].wrong;
	return sum;
}

/* Have the children leave, and see that each ended well. */
static inline void world_stop_children(struct world *w)
{
	uint32_t i;
	int status;

	w->shared->stop = 1;
	for (i = 0; i < CHILDREN; i++) {
		if (!w->children[i])
			continue;
		world_until(w, waitpid(w->children[i], &status, WNOHANG) == w->children[i]);
		w->children[i] = 0;
		must(WIFEXITED(status));
		must_eq(WEXITSTATUS(status), 0);
		must_eq(w->shared->child[i].left, 1);
	}
	world_until(w, w->detached == w->attached);
}

#endif
