/* SPDX-License-Identifier: MIT */
/*
 * The limits.  limit.copy is a subject, so that it runs in the same rounds as the rings: memcpy in
 * and memcpy out through a buffer as large as the ring, two counters on lines of their own, and
 * nothing else.  The others are plain loops.
 */
#include "limits.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CHUNK_MIN 1024u
#define FENCE_LOOPS 4096u

uint32_t limit_chunk(uint32_t i)
{
	return CHUNK_MIN << i;
}

bool limit_chunk_fits(uint32_t i, uint32_t ring_bytes)
{
	return limit_chunk(i) <= ring_bytes / 2u;
}

/* Counters of slots filled and emptied; the buffer follows. */
struct copy_ctl {
	uint64_t filled;
	uint8_t pad0[BENCH_LINE - 8];
	uint64_t emptied;
	uint8_t pad1[BENCH_LINE - 8];
};

struct copy_state {
	struct copy_ctl *ctl;
	uint8_t *data;
	uint64_t mine;
	uint64_t other; /* as last seen */
	uint64_t slots;
	uint32_t chunk;
};

static const char *none_version(void)
{
	return "-";
}

static const char *copy_refuses(const struct cell *cell)
{
	if (cell->producers != 1)
		return "one producer only";
	return NULL;
}

static size_t copy_bytes(const struct chan *chan)
{
	return sizeof(struct copy_ctl) + chan->cell->ring_bytes;
}

static int copy_setup(struct chan *chan)
{
	(void)chan;
	return 0;
}

static void copy_teardown(struct chan *chan)
{
	(void)chan;
}

static void copy_open(struct copy_state *st, struct chan *chan, struct side *side)
{
	(void)side;
	st->ctl = (struct copy_ctl *)(void *)chan->mem;
	st->data = chan->mem + sizeof(struct copy_ctl);
	st->mine = 0;
	st->other = 0;
	st->chunk = chan->chunk;
	st->slots = chan->cell->ring_bytes / chan->chunk;
}

static inline uint32_t copy_send(struct copy_state *st, struct side *side, uint32_t first,
				 uint32_t n)
{
	(void)first;
	(void)n;
	if (st->mine - st->other == st->slots) {
		st->other = load64(&st->ctl->emptied);
		if (st->mine - st->other == st->slots)
			return 0;
	}
	memcpy(st->data + st->mine % st->slots * st->chunk, side->buf, st->chunk);
	store64(&st->ctl->filled, ++st->mine);
	return 1;
}

static inline uint32_t copy_receive(struct copy_state *st, struct side *side, uint32_t n)
{
	(void)n;
	if (st->mine == st->other) {
		st->other = load64(&st->ctl->filled);
		if (st->mine == st->other)
			return 0;
	}
	memcpy(side->buf, st->data + st->mine % st->slots * st->chunk, st->chunk);
	side_check(side, side->buf);
	store64(&st->ctl->emptied, ++st->mine);
	return 1;
}

SUBJECT_LOOPS(copy, struct copy_state, copy_open, copy_open, copy_send, copy_receive);

const struct subject subject_limit_copy = {
	.name = "limit.copy",
	.what = "memcpy in and memcpy out, the best of chunks of 1 to 256 KiB",
	.caps = CAP_LIMIT,
	.version = none_version,
	.refuses = copy_refuses,
	.bytes = copy_bytes,
	.setup = copy_setup,
	.produce = copy_produce,
	.consume = copy_consume,
	.ping = copy_ping,
	.pong = copy_pong,
	.teardown = copy_teardown,
};

/* The raw loops. */
struct raw {
	struct run_ctl *ctl;
	uint32_t *here;	 /* the line that this side writes */
	uint32_t *there; /* the line that the far side writes; the same for one line */
	bool two_lines;
	int efd_here;
	int efd_there;
	bool fenced;
	uint64_t warm_ns;
	uint64_t measure_ns;
	struct hist hist;
	uint64_t cpu_from_ns;
	double ns_per_loop;
	double rtt[2];
};

#define RAW_PROBE 12u

static void line_here(void *arg)
{
	struct raw *raw = arg;
	uint64_t from = now_ns(), then;
	uint32_t v = 1;

	raw->rtt[0] = probe_here(raw->ctl, RAW_PROBE);
	then = ticks();
	for (uint32_t i = 0;; i++, v += 2) {
		uint64_t t;

		store32(raw->here, v);
		while (load32(raw->there) != v + 1)
			relax();
		t = ticks();
		if ((i & 31u) == 31u) { /* the clock is read outside of what is measured */
			uint64_t now = now_ns();

			if (now - from > raw->warm_ns + raw->measure_ns)
				break;
			if (now - from < raw->warm_ns)
				memset(&raw->hist, 0, sizeof(raw->hist));
			t = ticks();
		} else {
			hist_add(&raw->hist, t - then);
		}
		then = t;
	}
	store32(&raw->ctl->stop, 1);
	raw->rtt[1] = probe_here(raw->ctl, RAW_PROBE);
}

static void line_there(void *arg, uint32_t index)
{
	struct raw *raw = arg;

	(void)index;
	probe_there(raw->ctl, RAW_PROBE);
	for (uint32_t v = 1;; v += 2) {
		while (load32(raw->here) != v) {
			if (stopped(raw->ctl))
				goto out;
			relax();
		}
		store32(raw->there, v + 1);
	}
out:
	probe_there(raw->ctl, RAW_PROBE);
}

static void rtt_from_hist(const struct raw *raw, double divide, struct rtt_result *res)
{
	double rate = ticks_per_ns() * divide;

	res->p50 = hist_percentile(&raw->hist, 0.5) / rate;
	res->p99 = hist_percentile(&raw->hist, 0.99) / rate;
	res->p999 = hist_percentile(&raw->hist, 0.999) / rate;
	res->rtt_before = raw->rtt[0];
	res->rtt_after = raw->rtt[1];
	res->valid = raw->hist.count > 0;
}

static struct raw *raw_new(uint32_t us)
{
	struct raw *raw = shared_map(round_up(sizeof(*raw), 4096) + 4096);

	if (!raw)
		return NULL;
	raw->ctl = run_ctl_get();
	if (!raw->ctl)
		die(BENCH_EXIT_MACHINE, "no shared memory: 4096 bytes");
	raw->here = (uint32_t *)(void *)((uint8_t *)raw + round_up(sizeof(*raw), 4096));
	raw->there = raw->here + 2u * BENCH_LINE / sizeof(uint32_t);
	raw->warm_ns = (uint64_t)us * 250u;
	raw->measure_ns = (uint64_t)us * 1000u;
	return raw;
}

static void raw_free(struct raw *raw)
{
	shared_unmap(raw, round_up(sizeof(*raw), 4096) + 4096);
}

int limit_line_rtt(const struct place *place, bool two_lines, bool threads, uint32_t us,
		   struct rtt_result *res)
{
	struct raw *raw = raw_new(us);
	struct pair_job job = { line_here, line_there, raw, NULL, place, threads, 1 };
	int err;

	if (!raw)
		return -1;
	if (!two_lines)
		raw->there = raw->here;
	job.ctl = raw->ctl;
	err = run_pair(&job);
	rtt_from_hist(raw, 1, res);
	raw_free(raw);
	return err;
}

static void wake_one(int fd)
{
	uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void sleep_on(int fd)
{
	uint64_t v;

	while (read(fd, &v, sizeof(v)) < 0 && errno == EINTR)
		;
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void eventfd_here(void *arg)
{
	struct raw *raw = arg;
	uint64_t from, then, cpu, count = 0, now;

	raw->rtt[0] = probe_here(raw->ctl, RAW_PROBE);
	from = now_ns();
	cpu = thread_cpu_ns();
	then = ticks();
	do {
		uint64_t t;

		wake_one(raw->efd_there);
		sleep_on(raw->efd_here);
		t = ticks();
		now = now_ns();
		if (now - from > raw->warm_ns)
			hist_add(&raw->hist, t - then);
		count++;
		then = ticks();
	} while (now - from < raw->warm_ns + raw->measure_ns);
	raw->ns_per_loop = (double)(thread_cpu_ns() - cpu) / (double)count;
	store32(&raw->ctl->stop, 1);
	wake_one(raw->efd_there);
	raw->rtt[1] = probe_here(raw->ctl, RAW_PROBE);
}

static void eventfd_there(void *arg, uint32_t index)
{
	struct raw *raw = arg;
	uint64_t cpu, count = 0;

	(void)index;
	probe_there(raw->ctl, RAW_PROBE);
	cpu = thread_cpu_ns();
	for (;;) {
		sleep_on(raw->efd_there);
		if (stopped(raw->ctl))
			break;
		wake_one(raw->efd_here);
		count++;
	}
	if (count)
		raw->cpu_from_ns = (thread_cpu_ns() - cpu) / count;
	probe_there(raw->ctl, RAW_PROBE);
}

int limit_eventfd(const struct place *place, bool threads, uint32_t us, struct rtt_result *res)
{
	struct raw *raw = raw_new(us);
	struct pair_job job = { eventfd_here, eventfd_there, raw, NULL, place, threads, 1 };
	int err = -1;

	if (!raw)
		return -1;
	job.ctl = raw->ctl;
	raw->efd_here = eventfd(0, EFD_CLOEXEC);
	raw->efd_there = eventfd(0, EFD_CLOEXEC);
	if (raw->efd_here >= 0 && raw->efd_there >= 0)
		err = run_pair(&job);
	rtt_from_hist(raw, 2, res);
	res->cpu_ns = (raw->ns_per_loop + (double)raw->cpu_from_ns) / 2;
	if (raw->efd_here >= 0)
		close(raw->efd_here);
	if (raw->efd_there >= 0)
		close(raw->efd_there);
	raw_free(raw);
	return err;
}

/* Publishing without the ring: store our index, look at the other side's mask. */
static void fence_here(void *arg)
{
	struct raw *raw = arg;
	uint64_t from = now_ns(), loops = 0, gone;
	uint32_t v = 0, sum = 0;

	do {
		for (uint32_t i = 0; i < FENCE_LOOPS; i++) {
			__atomic_store_n(raw->here, ++v, __ATOMIC_RELEASE);
			if (raw->fenced)
				__atomic_thread_fence(__ATOMIC_SEQ_CST);
			sum += __atomic_load_n(raw->there, __ATOMIC_RELAXED);
		}
		loops += FENCE_LOOPS;
		gone = now_ns() - from;
	} while (gone < raw->measure_ns);
	raw->ns_per_loop = (double)gone / (double)loops;
	raw->cpu_from_ns = sum; /* keeps the load */
	store32(&raw->ctl->stop, 1);
}

static void fence_there(void *arg, uint32_t index)
{
	struct raw *raw = arg;

	(void)index;
	while (!stopped(raw->ctl)) {
		if (raw->two_lines)
			(void)load32(raw->here);
		for (uint32_t i = 0; i < 16; i++)
			relax();
	}
}

static int fence_once(const struct place *place, bool threads, bool shared, bool fenced,
		      uint32_t us, double *ns)
{
	struct raw *raw = raw_new(us);
	struct pair_job job = { fence_here, fence_there, raw, NULL, place, threads, 1 };
	int err;

	if (!raw)
		return -1;
	job.ctl = raw->ctl;
	raw->two_lines = shared;
	raw->fenced = fenced;
	err = run_pair(&job);
	*ns = raw->ns_per_loop;
	raw_free(raw);
	return err;
}

int limit_fence(const struct place *place, bool threads, bool shared, uint32_t us,
		struct fence_result *res)
{
	int err = fence_once(place, threads, shared, false, us, &res->plain_ns);

	return err ? err : fence_once(place, threads, shared, true, us, &res->fenced_ns);
}
