/* SPDX-License-Identifier: MIT */
/* The processes of vmbus-bench resume: parent, child, device provider, and those that only die. */
#include "resume.h"

#include "chan_pair.h"

#include <vmbus/echo.h>
#include <vmbus/provider.h>
#include <vmbus/vmbus.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WINDOW 16u
#define RING_BYTES 16384u
#define CHILD_BYTES (1u << 20)
#define WAIT_NS 10000000u
#define PROVIDER_NAME "bench"

/* ---- the parent ---- */

struct counts {
	uint64_t deaths, handovers, pause_ns;
};

static void add_up(void *ctx, const struct vmbus_provider_info *info)
{
	struct counts *const counts = ctx;

	counts->deaths += info->deaths;
	counts->handovers += info->handovers;
	counts->pause_ns = info->last_pause_ns;
}

/* What it has learnt in this dispatch. */
static void tell(struct resume_shared *shared, struct vmbus_provider_host *host,
		 const struct vmbus_shm_server *server)
{
	struct vmbus_shm_server_stats stats;
	struct counts counts = { 0, 0, 0 };

	vmbus_provider_host_list(host, add_up, &counts);
	if (counts.deaths != shared->deaths) {
		store64(&shared->death_at, now_ns());
		store64(&shared->deaths, counts.deaths);
	}
	if (counts.pause_ns != shared->pause_ns) {
		store64(&shared->pause_to, now_ns());
		store64(&shared->pause_ns, counts.pause_ns);
	}
	store64(&shared->handovers, counts.handovers);
	vmbus_shm_server_stats(server, &stats);
	if (stats.ended[VMBUS_SHM_DIED] != shared->died) {
		store64(&shared->died_at, now_ns());
		store64(&shared->died, stats.ended[VMBUS_SHM_DIED]);
	}
}

void resume_parent(struct resume_shared *shared, const char *path)
{
	struct vmbus_provider_host_opts host_opts = { .struct_bytes = sizeof(host_opts) };
	struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts), .path = path };
	struct vmbus_provider_host *host;
	struct vmbus_shm_server *server;

	opts.attach_rate_max = 1000000;
	if (vmbus_provider_listen(&host_opts, &host))
		_exit(BENCH_EXIT_FAILED);
	opts.providers = host;
	if (vmbus_shm_listen(&opts, &server))
		_exit(BENCH_EXIT_FAILED);
	store32(&shared->listening, 1);
	while (!load32(&shared->stop)) {
		(void)vmbus_shm_server_run(server, WAIT_NS);
		tell(shared, host, server);
	}
	vmbus_shm_server_destroy(server);
	vmbus_provider_host_destroy(host);
}

/* ---- the child that talks ---- */

struct talker {
	struct resume_shared *shared;
	uint64_t sent, last;
	uint32_t under_way;
};

static void answered(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	struct talker *const t = vmbus_vsc_priv(vsc);
	struct resume_shared *const shared = t->shared;
	const uint64_t now = now_ns(), want = (uint64_t)(uintptr_t)cookie;
	uint64_t got = 0;

	t->under_way--;
	if (pkt && pkt->len >= sizeof(got))
		memcpy(&got, pkt->payload, sizeof(got));
	if (got != want)
		store64(&shared->wrong, shared->wrong + 1);
	if (t->last && now - t->last > RESUME_GAP_NS) {
		shared->gap[shared->gaps % RESUME_GAPS] = (struct resume_gap){ t->last, now };
		store64(&shared->gaps, shared->gaps + 1);
	}
	t->last = now;
	store64(&shared->done, shared->done + 1);
}

static void fill(struct talker *t, struct vmbus_vsc *vsc)
{
	struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND, .len = sizeof(uint64_t) };

	while (t->under_way < WINDOW) {
		const uint64_t number = t->sent + 1;

		msg.data = &number;
		if (vmbus_vsc_request(vsc, &msg, (void *)(uintptr_t)number) < 0)
			break;
		t->sent++;
		t->under_way++;
	}
}

/* The provider's channel comes when the provider does. */
static struct vmbus_vsc *find(struct pair_client *pc)
{
	const uint64_t until = now_ns() + PAIR_WAIT_NS;
	struct vmbus_vsc *vsc;

	while (!(vsc = vmbus_vsc_find(pc->guest, &vmbus_echo_vsp()->class_id, 0)) &&
	       now_ns() < until)
		(void)vmbus_shm_attach_wait(pc->attach, WAIT_NS);
	return vsc;
}

void resume_child(struct resume_shared *shared, const char *path)
{
	struct talker talker = { .shared = shared };
	struct vmbus_vsc_opts opts = { .struct_bytes = sizeof(opts),
				       .send_bytes = RING_BYTES,
				       .recv_bytes = RING_BYTES,
				       .requests_max = WINDOW,
				       .completed = answered,
				       .priv = &talker };
	struct pair_client pc;
	struct vmbus_vsc *vsc;

	if (pair_attach(&pc, path, CHILD_BYTES))
		_exit(BENCH_EXIT_FAILED);
	vsc = find(&pc);
	if (!vsc || vmbus_vsc_open(vsc, &opts) ||
	    vmbus_vsc_wait(vsc, VMBUS_VSC_OPEN, PAIR_WAIT_NS) < 0)
		_exit(BENCH_EXIT_FAILED);
	store32(&shared->open, 1);
	while (!load32(&shared->stop) && vmbus_vsc_state(vsc) == VMBUS_VSC_OPEN) {
		fill(&talker, vsc);
		if (vmbus_shm_attach_wait(pc.attach, WAIT_NS) == VMBUS_E_PEER)
			break;
	}
	store32(&shared->open, 0);
}

/* ---- the provider ---- */

int resume_serve(const char *path, bool take_over)
{
	struct vmbus_provider_opts opts = { .struct_bytes = sizeof(opts),
					    .path = path,
					    .name = PROVIDER_NAME,
					    .vsp = vmbus_echo_vsp(),
					    .take_over = take_over };
	struct vmbus_provider *provider;
	char why[160] = "";
	int err;

	opts.why = why;
	opts.why_bytes = sizeof(why);
	err = vmbus_provider_attach(&opts, &provider);
	if (err) {
		fprintf(stderr, "vmbus-bench: the provider cannot attach: %s\n", why);
		return BENCH_EXIT_FAILED;
	}
	do
		err = vmbus_provider_wait(provider, 1000000000);
	while (err >= 0 || err == VMBUS_E_AGAIN);
	vmbus_provider_detach(provider);
	return BENCH_EXIT_OK;
}

/* ---- those that die, or whose parent does ---- */

void resume_orphan(struct resume_shared *shared, const char *path)
{
	struct pair_client pc;

	if (pair_attach(&pc, path, CHILD_BYTES))
		_exit(BENCH_EXIT_FAILED);
	store32(&shared->ready, 1);
	while (vmbus_shm_attach_wait(pc.attach, 1000000000) != VMBUS_E_PEER)
		;
	store64(&shared->noticed_at, now_ns());
	vmbus_shm_detach(pc.attach);
}

void resume_victim(struct resume_shared *shared, const char *path)
{
	struct pair_client pc;

	if (pair_attach(&pc, path, CHILD_BYTES))
		_exit(BENCH_EXIT_FAILED);
	store32(&shared->ready, 1);
	for (;;)
		(void)vmbus_shm_attach_wait(pc.attach, 1000000000);
}
