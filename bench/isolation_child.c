/* SPDX-License-Identifier: MIT */
/* The processes of vmbus-bench isolation: the parent, the honest children, the one that is not. */
#include "isolation.h"

#include "chan_pair.h"
#include "raw_child.h"

#include <vmbus/vmbus.h>

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAYLOAD 64u
#define RING_BYTES 16384u
#define WINDOW 8u	 /* requests under way of an honest child */
#define WINDOW_BUSY 300u /* of the busy one: more than the parent takes in a turn */
#define RING_BUSY 65536u
#define WINDOW_DEAF 8192u
#define SLEEP_MS 20
#define CHILD_BYTES (1u << 20)
#define RING_PAGES 5u /* of the liar's rings, each */

const char *const iso_names[ISO_KINDS] = {
	"honest", "messages",	 "doorbell",	  "indices",
	"gpadls", "never-reads", "never-answers", "returns",
};

/* ---- the parent ---- */

static uint32_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint32_t n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		(void)closedir(dir);
	return n;
}

/* Resident memory that is no child's: theirs is shared. */
static uint64_t anon_bytes(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu", &kib) == 1)
			break;
	if (f)
		(void)fclose(f);
	return (uint64_t)kib * 1024u;
}

static void look_at_self(struct iso_shared *shared)
{
	const uint32_t ask = load32(&shared->ask);

	if (load32(&shared->told) == ask)
		return;
	shared->fds = count_fds();
	shared->anon_bytes = anon_bytes();
	store32(&shared->told, ask);
}

void iso_parent(struct iso_shared *shared, const char *path, uint32_t children)
{
	struct vmbus_shm_server_stats stats;
	struct pair_server ps;

	if (pair_listen_many(&ps, path, 1, children))
		_exit(BENCH_EXIT_FAILED);
	while (!load32(&shared->stop)) {
		(void)vmbus_shm_server_run(ps.server, 5000000);
		vmbus_shm_server_stats(ps.server, &stats);
		store64(&shared->children, stats.children + stats.ending);
		look_at_self(shared);
	}
	pair_unlisten(&ps);
}

/* ---- honest children ---- */

struct honest {
	struct iso_shared *shared;
	struct iso_herd *herd;
	struct pair_client client;
	struct vmbus_vsc *vsc;
	uint64_t sent_at[WINDOW_BUSY];
	uint32_t idle[WINDOW_BUSY]; /* places in sent_at that are free */
	uint32_t idle_count;
	uint32_t epoch;
};

static void answered(struct vmbus_vsc *vsc, void *cookie, const struct vmbus_packet *pkt)
{
	struct honest *const h = vmbus_vsc_priv(vsc);
	const uint32_t place = (uint32_t)(uintptr_t)cookie;

	h->idle[h->idle_count++] = place;
	if (!pkt || !h->herd || !load32(&h->shared->measure))
		return;
	hist_add(&h->herd->hist, now_ns() - h->sent_at[place]);
	h->herd->done++;
}

/* Send until so many requests are under way; returns whether any was sent. */
static bool fill(struct honest *h, uint32_t window)
{
	static const uint8_t payload[PAYLOAD];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
				       .data = payload,
				       .len = sizeof(payload) };
	bool sent = false;

	while (h->idle_count > WINDOW_BUSY - window) {
		const uint32_t place = h->idle[h->idle_count - 1];

		h->sent_at[place] = now_ns();
		if (vmbus_vsc_request(h->vsc, &msg, (void *)(uintptr_t)place) < 0)
			break;
		h->idle_count--;
		sent = true;
	}
	return sent;
}

static int honest_open(struct honest *h, const char *path, uint32_t ring_bytes)
{
	struct vmbus_vsc_opts opts = { .send_bytes = ring_bytes,
				       .recv_bytes = ring_bytes,
				       .requests_max = WINDOW_BUSY,
				       .completed = answered,
				       .priv = h };

	for (uint32_t i = 0; i < WINDOW_BUSY; i++)
		h->idle[i] = i;
	h->idle_count = WINDOW_BUSY;
	if (pair_attach(&h->client, path, 4 * ring_bytes))
		return -1;
	h->vsc = pair_open(&h->client, 0, &opts);
	return h->vsc ? 0 : -1;
}

/* One turn for each; returns whether there was anything to do. */
static bool herd_turn(struct honest *all, uint32_t count)
{
	bool busy = false;

	for (uint32_t i = 0; i < count; i++) {
		busy |= vmbus_shm_attach_dispatch(all[i].client.attach, 64) > 0;
		busy |= fill(&all[i], WINDOW);
	}
	return busy;
}

void iso_herd(struct iso_shared *shared, const char *path, uint32_t herd, uint32_t children)
{
	struct iso_herd *const own = &shared->herd[herd];
	struct honest *const all = calloc(children, sizeof(*all));
	const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };
	uint32_t epoch = 0;

	for (uint32_t i = 0; i < children; i++) {
		all[i].shared = shared;
		all[i].herd = own;
		if (honest_open(&all[i], path, RING_BYTES) ||
		    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, vmbus_shm_attach_fd(all[i].client.attach),
			      &event)) {
			store32(&own->failed, 1);
			_exit(BENCH_EXIT_FAILED);
		}
	}
	store32(&own->ready, 1);
	while (!load32(&shared->stop)) {
		if (load32(&shared->measure) != epoch) {
			epoch = load32(&shared->measure);
			if (epoch) {
				own->done = 0;
				memset(&own->hist, 0, sizeof(own->hist));
			}
		}
		if (!herd_turn(all, children))
			(void)epoll_wait(epoll_fd, &event, 1, SLEEP_MS);
	}
}

/* ---- the child in the tested place ---- */

static void be_busy(struct iso_shared *shared, const char *path)
{
	struct honest *const h = calloc(1, sizeof(*h));

	h->shared = shared;
	if (honest_open(h, path, RING_BUSY))
		_exit(BENCH_EXIT_FAILED);
	store32(&shared->placed, 1);
	for (;; shared->steps++) {
		(void)vmbus_shm_attach_dispatch(h->client.attach, WINDOW_BUSY);
		(void)fill(h, WINDOW_BUSY);
	}
}

static void flood_messages(struct raw_child *rc, uint32_t relid)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_CONTACT };

	(void)relid;
	ctl.u.contact.version = VMBUS_PROTO_5_3;
	ctl.u.contact.target_sint = VMBUS_SINT_MESSAGE;
	(void)raw_post(rc, &ctl); /* it goes through all channels each time */
	(void)raw_take(rc, &ctl, 0);
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_GPADL_TEARDOWN };
	(void)raw_post(rc, &ctl);
	(void)raw_take(rc, &ctl, 0);
}

static void flood_doorbell(struct raw_child *rc, uint32_t relid)
{
	(void)relid;
	for (uint32_t word = 0; word < 32; word++)
		raw_flags(rc, word, UINT64_MAX);
}

static void exhaust_gpadls(struct raw_child *rc, uint32_t relid)
{
	static uint32_t gpadl = 1000;
	struct vmbus_ctl ctl;

	(void)raw_gpadl(rc, relid, gpadl++, 0, 20);
	while (raw_take(rc, &ctl, 0))
		;
}

/* Open the channel, lie in its ring, let go of it, and take it again. */
static void lie_in_indices(struct raw_child *rc, uint32_t relid)
{
	static uint32_t gpadl = 1000;
	struct vmbus_ctl ctl;
	uint32_t type;

	memset(rc->map + rc->heap * VMBUS_PAGE_BYTES, 0, 2 * RING_PAGES * VMBUS_PAGE_BYTES);
	(void)raw_gpadl(rc, relid, ++gpadl, 0, 2 * RING_PAGES);
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_OPEN };
	ctl.u.open.relid = relid;
	ctl.u.open.gpadl = gpadl;
	ctl.u.open.downstream_page = RING_PAGES;
	(void)raw_post(rc, &ctl);
	do
		type = raw_take(rc, &ctl, 100000000);
	while (type && type != VMBUS_CTL_OPEN_RESULT);
	memset(rc->map + rc->heap * VMBUS_PAGE_BYTES, 0xA7, 8); /* impossible indices */
	raw_flags(rc, relid / 64, (uint64_t)1 << relid % 64);
	do
		type = raw_take(rc, &ctl, 100000000);
	while (type && type != VMBUS_CTL_RESCIND);
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_GPADL_TEARDOWN };
	ctl.u.created.relid = relid;
	ctl.u.created.gpadl = gpadl;
	(void)raw_post(rc, &ctl);
	ctl = (struct vmbus_ctl){ .type = VMBUS_CTL_RELID_RELEASED };
	ctl.u.chan.relid = relid;
	(void)raw_post(rc, &ctl);
	do
		type = raw_take(rc, &ctl, 100000000);
	while (type && type != VMBUS_CTL_OFFER);
}

static void never_answer(struct raw_child *rc, uint32_t relid)
{
	struct vmbus_ctl ctl = { .type = VMBUS_CTL_GPADL_TEARDOWN };

	ctl.u.created.relid = relid;
	(void)raw_post(rc, &ctl); /* each has an answer, which is never taken */
}

static void never_read(struct iso_shared *shared, const char *path)
{
	struct vmbus_vsc_opts opts = { .send_bytes = RING_BYTES,
				       .recv_bytes = RING_BYTES,
				       .requests_max = WINDOW_DEAF };
	static const uint8_t payload[PAYLOAD];
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
				       .data = payload,
				       .len = sizeof(payload) };
	struct pair_client pc;
	struct vmbus_vsc *vsc;

	opts.completed = answered; /* never called */
	if (pair_attach(&pc, path, 4 * RING_BYTES))
		_exit(BENCH_EXIT_FAILED);
	vsc = pair_open(&pc, 0, &opts);
	if (!vsc)
		_exit(BENCH_EXIT_FAILED);
	store32(&shared->placed, 1);
	for (;;)
		shared->steps += vmbus_vsc_request(vsc, &msg, NULL) >= 0;
}

static void return_again(struct iso_shared *shared, const char *path)
{
	struct raw_child rc;

	for (;;) {
		if (!raw_attach(&rc, path, CHILD_BYTES)) {
			store32(&shared->placed, 1);
			raw_die(&rc);
			shared->steps++;
		}
		(void)sched_yield();
	}
}

void iso_placed(struct iso_shared *shared, const char *path, enum iso_kind kind)
{
	static void (*const steps[ISO_KINDS])(struct raw_child *, uint32_t) = {
		[ISO_MESSAGES] = flood_messages,    [ISO_DOORBELL] = flood_doorbell,
		[ISO_INDICES] = lie_in_indices,	    [ISO_GPADLS] = exhaust_gpadls,
		[ISO_NEVER_ANSWERS] = never_answer,
	};
	struct raw_child rc;
	uint32_t relid;

	if (kind == ISO_HONEST)
		be_busy(shared, path);
	if (kind == ISO_NEVER_READS)
		never_read(shared, path);
	if (kind == ISO_RETURNS)
		return_again(shared, path);
	if (raw_attach(&rc, path, CHILD_BYTES))
		_exit(BENCH_EXIT_FAILED);
	relid = raw_connect(&rc);
	if (!relid)
		_exit(BENCH_EXIT_FAILED);
	store32(&shared->placed, 1);
	for (;; shared->steps++)
		steps[kind](&rc, relid);
}
