/* SPDX-License-Identifier: MIT */
/*
 * Latency of our ring.  The polled round trip runs the loops of every subject; asleep, each side
 * arms its receiver, looks again as the library demands, and blocks in an eventfd that the other
 * side's signal callback writes.
 */
#include "latency.h"

#include <vmbus/vmbus.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLEEP_PROBE 12u

int latency_polled(const struct subject *subject, const struct cell *cell,
		   const struct place *place, uint32_t us, struct rtt_result *res)
{
	struct hist *hist = must_alloc(sizeof(*hist));
	struct run_plan plan = { subject, cell, place, RUN_ROUND_TRIP, 0, us / 4u, us };
	struct run_result run = { .hist = hist };
	double rate = ticks_per_ns();
	int err;

	memset(hist, 0, sizeof(*hist));
	err = run_once(&plan, &run);
	res->p50 = hist_percentile(hist, 0.5) / rate;
	res->p99 = hist_percentile(hist, 0.99) / rate;
	res->p999 = hist_percentile(hist, 0.999) / rate;
	res->cpu_ns = 0;
	res->rtt_before = run.rtt_before;
	res->rtt_after = run.rtt_after;
	res->valid = !err && run.valid && hist->count > 0;
	free(hist);
	return err;
}

/* One end pair: sends on one ring, receives on the other. */
struct sleeper {
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	int own_fd;  /* sleeps here */
	int peer_fd; /* wakes the other side */
};

/* The far side's results; in shared memory. */
struct nap_far {
	uint64_t cpu_ns;
	uint64_t count;
	uint32_t asleep; /* idle: sides that are about to sleep */
	uint32_t woken;	 /* idle: that slept at all */
	uint64_t idle_cpu_ns[2];
};

/* Shared by both sides; the sides' own parts are touched by one of them only. */
struct nap {
	const struct place *place;
	struct run_ctl *ctl;
	struct vmbus_shm_ring ring[2];
	struct sleeper here;
	struct sleeper there;
	void *buf[2];
	uint32_t payload;
	uint64_t warm_ns;
	uint64_t measure_ns;
	struct nap_far *far;
	struct hist hist;
	double cpu_here_ns; /* for each round trip */
	double rtt[2];
};

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void signal_peer(void *ctx)
{
	const struct sleeper *s = ctx;
	uint64_t one = 1;

	while (write(s->peer_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void nap_free(struct nap *nap)
{
	for (int i = 0; i < 2; i++) {
		vmbus_shm_ring_unmap(&nap->ring[i]);
		free(nap->buf[i]);
	}
	if (nap->here.own_fd >= 0)
		close(nap->here.own_fd);
	if (nap->there.own_fd >= 0)
		close(nap->there.own_fd);
	shared_unmap(nap->far, sizeof(*nap->far));
	free(nap);
}

static int nap_ring(struct vmbus_shm_ring *ring, const struct cell *cell)
{
	struct vmbus_shm_ring_opts opts = { .struct_bytes = sizeof(opts) };
	int fd = vmbus_shm_create(vmbus_shm_ring_bytes(cell->ring_bytes)), err;

	if (fd < 0)
		return fd;
	opts.window = cell->window == BENCH_PLAIN ? VMBUS_RING_PLAIN : VMBUS_RING_MIRRORED;
	opts.size = cell->ring_bytes;
	err = vmbus_shm_ring_map(ring, fd, &opts);
	close(fd);
	if (!err)
		vmbus_ring_mem_clear(&ring->mem);
	return err;
}

static int nap_end(struct nap *nap, struct sleeper *s, int out, uint32_t buf_bytes)
{
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts) };
	int err;

	opts.signal = signal_peer;
	opts.signal_ctx = s;
	err = vmbus_ring_tx_init(&s->tx, &nap->ring[out].mem, &opts);
	if (err)
		return err;
	nap->buf[out] = must_alloc(buf_bytes);
	opts.buf = nap->buf[out];
	opts.buf_bytes = buf_bytes;
	return vmbus_ring_rx_init(&s->rx, &nap->ring[!out].mem, &opts);
}

static struct nap *nap_new(const struct cell *cell, const struct place *place, uint32_t us)
{
	uint32_t buf_bytes = vmbus_ring_rx_buf_bytes(cell->ring_bytes);
	struct nap *nap = must_alloc(sizeof(*nap));
	int err;

	memset(nap, 0, sizeof(*nap));
	nap->place = place;
	nap->payload = cell->payload;
	nap->warm_ns = (uint64_t)us * 250u;
	nap->measure_ns = (uint64_t)us * 1000u;
	nap->ctl = run_ctl_get();
	nap->far = shared_map(sizeof(*nap->far));
	nap->here.own_fd = eventfd(0, EFD_CLOEXEC);
	nap->there.own_fd = eventfd(0, EFD_CLOEXEC);
	nap->here.peer_fd = nap->there.own_fd;
	nap->there.peer_fd = nap->here.own_fd;
	if (!nap->ctl || !nap->far || nap->here.own_fd < 0 || nap->there.own_fd < 0)
		goto err;
	err = nap_ring(&nap->ring[0], cell);
	if (!err)
		err = nap_ring(&nap->ring[1], cell);
	if (!err)
		err = nap_end(nap, &nap->here, 0, buf_bytes);
	if (!err)
		err = nap_end(nap, &nap->there, 1, buf_bytes);
	if (!err)
		return nap;
	errno = vmbus_err_to_errno(err);
err:
	err = errno;
	nap_free(nap);
	errno = err;
	return NULL;
}

static void nap_send(struct sleeper *s, const uint8_t *payload, uint32_t len)
{
	struct vmbus_msg msg = { .id = 1, .data = payload, .len = len, .type = VMBUS_PKT_INBAND };

	while (vmbus_ring_tx_put(&s->tx, &msg, 1) == VMBUS_E_FULL)
		relax();
}

/* Sleep until a packet is here.  False when the ring is broken. */
static bool nap_receive(struct sleeper *s)
{
	struct vmbus_packet pkt;
	uint64_t v;
	int n;

	for (;;) {
		n = vmbus_ring_rx_get(&s->rx, &pkt, 1);
		if (n)
			return n > 0;
		if (vmbus_ring_rx_arm(&s->rx) != VMBUS_RING_SLEEP)
			continue;
		while (read(s->own_fd, &v, sizeof(v)) < 0 && errno == EINTR)
			;
		vmbus_ring_rx_disarm(&s->rx);
	}
}

static void nap_here(void *arg)
{
	struct nap *nap = arg;
	uint8_t payload[BENCH_LINE * 64] = { 0 };
	uint64_t from, now, then, cpu, count = 0;

	nap->rtt[0] = probe_here(nap->ctl, SLEEP_PROBE);
	from = now_ns();
	cpu = thread_cpu_ns();
	then = ticks();
	do {
		uint64_t t;

		nap_send(&nap->here, payload, nap->payload);
		if (!nap_receive(&nap->here))
			break;
		t = ticks();
		now = now_ns();
		if (now - from > nap->warm_ns)
			hist_add(&nap->hist, t - then);
		count++;
		then = ticks();
	} while (now - from < nap->warm_ns + nap->measure_ns);
	if (count)
		nap->cpu_here_ns = (double)(thread_cpu_ns() - cpu) / (double)count;
	store32(&nap->ctl->stop, 1);
	nap_send(&nap->here, payload, nap->payload);
	nap->rtt[1] = probe_here(nap->ctl, SLEEP_PROBE);
}

static void nap_there(void *arg, uint32_t index)
{
	struct nap *nap = arg;
	uint8_t payload[BENCH_LINE * 64] = { 0 };
	uint64_t cpu, count = 0;

	(void)index;
	probe_there(nap->ctl, SLEEP_PROBE);
	cpu = thread_cpu_ns();
	while (nap_receive(&nap->there) && !stopped(nap->ctl)) {
		nap_send(&nap->there, payload, nap->payload);
		count++;
	}
	nap->far->cpu_ns = thread_cpu_ns() - cpu;
	nap->far->count = count;
	probe_there(nap->ctl, SLEEP_PROBE);
}

int latency_sleeping(const struct cell *cell, const struct place *place, uint32_t us,
		     struct rtt_result *res)
{
	struct nap *nap = nap_new(cell, place, us);
	struct pair_job job = { nap_here, nap_there, nap, NULL, place, cell->threads, 1 };
	double rate = ticks_per_ns() * 2; /* half a round trip */
	int err;

	if (!nap)
		return -1;
	job.ctl = nap->ctl;
	err = run_pair(&job);
	res->p50 = hist_percentile(&nap->hist, 0.5) / rate;
	res->p99 = hist_percentile(&nap->hist, 0.99) / rate;
	res->p999 = hist_percentile(&nap->hist, 0.999) / rate;
	res->cpu_ns = nap->cpu_here_ns;
	if (nap->far->count)
		res->cpu_ns += (double)nap->far->cpu_ns / (double)nap->far->count;
	res->cpu_ns /= 2;
	res->rtt_before = nap->rtt[0];
	res->rtt_after = nap->rtt[1];
	res->valid = !err && nap->hist.count > 0;
	nap_free(nap);
	return err;
}

struct idle {
	struct nap *nap;
	pid_t pid[2];
	uint64_t from_ns;
};

/* Waits for one packet, asleep, and tells the processor time between falling asleep and waking. */
static _Noreturn void idle_side(struct nap *nap, int which)
{
	struct sleeper *s = which ? &nap->there : &nap->here;
	struct nap_far *far = nap->far;
	uint64_t cpu;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (nap->place->pin)
		(void)pin_to(which ? nap->place->cpu_there : nap->place->cpu_here);
	cpu = thread_cpu_ns();
	__atomic_add_fetch(&far->asleep, 1, __ATOMIC_SEQ_CST);
	if (!nap_receive(s))
		_exit(1);
	far->idle_cpu_ns[which] = thread_cpu_ns() - cpu;
	__atomic_add_fetch(&far->woken, 1, __ATOMIC_SEQ_CST);
	_exit(0);
}

struct idle *idle_start(const struct cell *cell, const struct place *place)
{
	struct idle *idle = must_alloc(sizeof(*idle));

	memset(idle, 0, sizeof(*idle));
	idle->nap = nap_new(cell, place, 0);
	if (!idle->nap)
		goto err;
	for (int i = 0; i < 2; i++) {
		idle->pid[i] = fork();
		if (idle->pid[i] < 0)
			goto err_kill;
		if (!idle->pid[i])
			idle_side(idle->nap, i);
	}
	while (load32(&idle->nap->far->asleep) < 2)
		usleep(1000);
	idle->from_ns = now_ns();
	return idle;
err_kill:
	if (idle->pid[0] > 0) {
		kill(idle->pid[0], SIGKILL);
		waitpid(idle->pid[0], NULL, 0);
	}
	nap_free(idle->nap);
err:
	free(idle);
	return NULL;
}

int idle_end(struct idle *idle, uint32_t ms, double *idle_ms, double *cpu_us)
{
	struct nap *nap = idle->nap;
	struct nap_far *far = nap->far;
	uint8_t payload[8] = { 0 };
	int err = 0, status;

	while (now_ns() - idle->from_ns < (uint64_t)ms * 1000000u)
		usleep(20000);
	*idle_ms = (double)(now_ns() - idle->from_ns) / 1e6;
	/* This process still has both senders: each wakes the other end's receiver. */
	nap_send(&nap->here, payload, sizeof(payload));
	nap_send(&nap->there, payload, sizeof(payload));
	for (int i = 0; i < 2; i++) {
		if (waitpid(idle->pid[i], &status, 0) < 0 || !WIFEXITED(status) ||
		    WEXITSTATUS(status) != 0)
			err = -1;
	}
	*cpu_us = (double)(far->idle_cpu_ns[0] + far->idle_cpu_ns[1]) / 1e3;
	nap_free(nap);
	free(idle);
	return err;
}
