/* SPDX-License-Identifier: MIT */
/*
 * Runs one subject once.  The sides meet through struct run_ctl; a side that hangs is stopped by
 * the other after a deadline, so no run can hold up the program.
 */
#include "run.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLOCK_STEP_MIN_NS 8000u	 /* look at the clock less often than this ... */
#define CLOCK_STEP_MAX_NS 40000u /* ... and more often than that */
#define PROBE_BLOCKS 48u
#define PROBE_WAIT_NS 1000000000u /* a busy machine may let a side wait for so long */
#define FAR_SIDE_END_NS UINT64_C(10000000000)

static int cmp_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double ticks_per_ns(void)
{
	static double rate;
	uint64_t t0, n0, n1;

	if (rate > 0)
		return rate;
	n0 = now_ns();
	t0 = ticks();
	do
		n1 = now_ns();
	while (n1 - n0 < 20000000u);
	rate = (double)(ticks() - t0) / (double)(n1 - n0);
	return rate;
}

void *shared_map(size_t bytes)
{
	int fd = memfd_create("vmbus-bench", MFD_CLOEXEC);
	void *mem = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (!ftruncate(fd, (off_t)bytes))
		mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	return mem == MAP_FAILED ? NULL : mem;
}

void shared_unmap(void *mem, size_t bytes)
{
	if (mem)
		munmap(mem, bytes);
}

struct run_ctl *run_ctl_get(void)
{
	static struct run_ctl *ctl;

	if (!ctl)
		ctl = shared_map(4096);
	if (ctl)
		memset(ctl, 0, sizeof(*ctl));
	return ctl;
}

int pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* The far side answers each step, on the line of its own or on the same. */
void probe_there(struct run_ctl *ctl, uint32_t blocks)
{
	uint32_t last = blocks * PROBE_BLOCK * 2u;
	uint64_t since = now_ns();

	store32(&ctl->probe_there, 1);
	for (uint32_t v = 1; v < last; v += 2) {
		uint64_t polls = 0;

		while (load32(&ctl->probe_here) != v) {
			relax();
			if ((++polls & 0xfffffu) == 0 && stopped(ctl) &&
			    now_ns() - since > PROBE_WAIT_NS)
				return;
		}
		store32(&ctl->probe_here, v + 1);
	}
}

/* Until the far side has answered v.  False: it never does. */
static inline bool probe_answered(const struct run_ctl *ctl, uint32_t v)
{
	uint64_t polls = 0, since = 0;

	while (load32(&ctl->probe_here) != v) {
		relax();
		if (++polls & 0xfffffu)
			continue;
		since = since ? since : now_ns();
		if (now_ns() - since > 2u * PROBE_WAIT_NS)
			return false;
	}
	return true;
}

double probe_here(struct run_ctl *ctl, uint32_t blocks)
{
	double sample[PROBE_BLOCKS];
	uint64_t polls = 0;
	uint32_t v = 1;

	while (load32(&ctl->probe_there) != 1) {
		relax();
		if (++polls > 100000000u)
			return 0;
	}
	store32(&ctl->probe_there, 0);
	for (uint32_t b = 0; b < blocks; b++) {
		uint64_t t = ticks();

		for (uint32_t i = 0; i < PROBE_BLOCK; i++, v += 2) {
			store32(&ctl->probe_here, v);
			if (!probe_answered(ctl, v + 1))
				return 0;
		}
		sample[b % PROBE_BLOCKS] = (double)(ticks() - t) / PROBE_BLOCK;
	}
	store32(&ctl->probe_here, 0);
	if (blocks > PROBE_BLOCKS)
		blocks = PROBE_BLOCKS;
	qsort(sample, blocks, sizeof(sample[0]), cmp_double);
	/* The quarter that was disturbed least: other work on a processor is no move. */
	return sample[blocks / 4] / ticks_per_ns();
}

void *side_alloc(struct side *side, size_t bytes)
{
	void *p = must_alloc(round_up(bytes, BENCH_LINE));

	if (side->mem->count == sizeof(side->mem->taken) / sizeof(side->mem->taken[0]))
		die(BENCH_EXIT_FAILED, "a subject took more than %u pieces of memory",
		    side->mem->count);
	memset(p, 0, bytes);
	side->mem->taken[side->mem->count++] = p;
	return p;
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void clock_phase(struct side *side, uint64_t now)
{
	uint64_t length = side->phase == SIDE_WARM ? side->warm_ns : side->measure_ns;

	if (now - side->from_ns < length)
		return;
	if (side->phase == SIDE_MEASURE) {
		side->elapsed_ns = (double)(now - side->from_ns);
		side->counted = side->packets - side->from_packets;
		side->on_cpu = (double)(thread_cpu_ns() - side->cpu_from_ns) / side->elapsed_ns;
	}
	side->cpu_from_ns = thread_cpu_ns();
	side->phase = side->phase == SIDE_WARM ? SIDE_MEASURE : SIDE_DONE;
	side->from_ns = now;
	side->from_packets = side->packets;
}

bool side_clock(struct side *side)
{
	uint64_t now = now_ns(), gone;

	if (!side->last_ns) {
		side->last_ns = now;
		side->from_ns = now;
		side->from_packets = side->packets;
	}
	gone = now - side->last_ns;
	if (side->empty_polls) {
		side->stalled = gone > SIDE_STALL_NS;
		return side->stalled;
	}
	side->last_ns = now;
	if (gone < CLOCK_STEP_MIN_NS)
		side->check_step *= 2;
	else if (gone > CLOCK_STEP_MAX_NS && side->check_step > 1)
		side->check_step /= 2;
	side->check_at = side->packets + side->check_step;
	clock_phase(side, now);
	return side->phase == SIDE_DONE;
}

static uint64_t cpu_used_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* One far thread of a pair. */
struct far_arg {
	const struct pair_job *job;
	uint32_t index;
};

static void *far_main(void *p)
{
	const struct far_arg *far = p;
	const struct pair_job *job = far->job;
	int cpu = job->place->cpu_there;

	if (far->index && far->index < job->place->far_count)
		cpu = job->place->cpu_more[far->index];
	if (job->place->pin && pin_to(cpu))
		store32(&job->ctl->far_error, (uint32_t)errno);
	__atomic_add_fetch(&job->ctl->ready, 1, __ATOMIC_SEQ_CST);
	job->there(job->arg, far->index);
	return NULL;
}

static int far_threads(const struct pair_job *job, struct far_arg *args, pthread_t *ids,
		       uint32_t from)
{
	for (uint32_t i = from; i < job->far_threads; i++) {
		int err;

		args[i] = (struct far_arg){ job, i };
		err = pthread_create(&ids[i], NULL, far_main, &args[i]);
		if (err) {
			errno = err;
			return -1;
		}
	}
	return 0;
}

static _Noreturn void far_process(const struct pair_job *job)
{
	struct far_arg args[BENCH_PRODUCERS_MAX];
	pthread_t ids[BENCH_PRODUCERS_MAX];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	args[0] = (struct far_arg){ job, 0 };
	if (far_threads(job, args, ids, 1))
		_exit(1);
	far_main(&args[0]);
	for (uint32_t i = 1; i < job->far_threads; i++)
		pthread_join(ids[i], NULL);
	__atomic_store_n(&job->ctl->cpu_ns, cpu_used_ns(), __ATOMIC_RELEASE);
	_exit(0);
}

static int reap(pid_t pid)
{
	uint64_t from = now_ns();
	int status;

	for (;;) {
		pid_t got = waitpid(pid, &status, WNOHANG);

		if (got == pid)
			break;
		if (got < 0 && errno != EINTR)
			return -1;
		if (now_ns() - from > FAR_SIDE_END_NS) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			errno = ETIMEDOUT;
			return -1;
		}
		if (now_ns() - from > 1000000u)
			usleep(200);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	errno = ECHILD;
	return -1;
}

static int pair_processes(const struct pair_job *job)
{
	pid_t pid = fork();

	if (pid < 0)
		return -1;
	if (!pid)
		far_process(job);
	job->here(job->arg);
	store32(&job->ctl->stop, 1);
	return reap(pid);
}

static int pair_threads(const struct pair_job *job)
{
	struct far_arg args[BENCH_PRODUCERS_MAX];
	pthread_t ids[BENCH_PRODUCERS_MAX];

	if (far_threads(job, args, ids, 0))
		return -1;
	job->here(job->arg);
	store32(&job->ctl->stop, 1);
	for (uint32_t i = 0; i < job->far_threads; i++)
		pthread_join(ids[i], NULL);
	return 0;
}

int run_pair(const struct pair_job *job)
{
	int err = job->threads ? pair_threads(job) : pair_processes(job);

	if (!err && load32(&job->ctl->far_error)) {
		errno = (int)load32(&job->ctl->far_error);
		return -1;
	}
	return err;
}

/* What the two sides of a run need, set up before they part. */
struct run {
	const struct run_plan *plan;
	struct run_ctl *ctl;
	struct chan chan[2]; /* there, and for round trips back */
	struct side here;
	struct side there[BENCH_PRODUCERS_MAX];
	double rtt[2];
	struct hist *hist;
};

static void run_here(void *arg)
{
	struct run *run = arg;
	const struct subject *subject = run->plan->subject;

	run->rtt[0] = probe_here(run->ctl, PROBE_BLOCKS);
	if (run->plan->kind == RUN_THROUGHPUT)
		subject->consume(&run->chan[0], &run->here);
	else
		subject->ping(&run->chan[0], &run->chan[1], &run->here, run->hist);
	store32(&run->ctl->stop, 1);
	run->rtt[1] = probe_here(run->ctl, PROBE_BLOCKS);
}

static void run_there(void *arg, uint32_t index)
{
	struct run *run = arg;
	const struct subject *subject = run->plan->subject;
	uint64_t from, cpu;

	if (index == 0)
		probe_there(run->ctl, PROBE_BLOCKS);
	from = now_ns();
	cpu = thread_cpu_ns();
	if (run->plan->kind == RUN_THROUGHPUT)
		subject->produce(&run->chan[0], &run->there[index]);
	else
		subject->pong(&run->chan[0], &run->chan[1], &run->there[index]);
	cpu = thread_cpu_ns() - cpu;
	if (index == 0)
		store64(&run->ctl->far_on_cpu, cpu * 1000u / (now_ns() - from + 1u));
	if (index == 0)
		probe_there(run->ctl, PROBE_BLOCKS);
}

static void side_init(struct side *side, const struct run *run, uint32_t producer)
{
	const struct run_plan *plan = run->plan;
	const struct cell *cell = plan->cell;
	size_t one = round_up(cell->payload, BENCH_LINE) + BENCH_LINE;
	size_t bytes = (size_t)cell->payload * cell->batch_used;

	if (plan->chunk > bytes)
		bytes = plan->chunk;
	if (bytes < 2 * one)
		bytes = 2 * one;
	memset(side, 0, sizeof(*side));
	side->mem = must_alloc(sizeof(*side->mem));
	memset(side->mem, 0, sizeof(*side->mem));
	bytes = round_up(bytes, BENCH_LINE);
	side->buf = must_alloc(bytes);
	/* Untouched pages would all be the one zero page, and copying from them too cheap. */
	memset(side->buf, 0x5a, bytes);
	side->ctl = run->ctl;
	side->payload = plan->chunk ? plan->chunk : cell->payload;
	side->batch = plan->kind == RUN_THROUGHPUT && !plan->chunk ? cell->batch_used : 1;
	side->seq = (uint64_t)producer << 56;
	side->producers = cell->producers;
	for (uint32_t i = 0; i < cell->producers; i++)
		side->expect[i] = (uint64_t)i << 56;
	side->check_step = 1;
	side->warm_ns = (uint64_t)plan->warm_us * 1000u;
	side->measure_ns = (uint64_t)plan->measure_us * 1000u;
}

static void side_fini(struct side *side)
{
	while (side->mem->count > 0)
		free(side->mem->taken[--side->mem->count]);
	free(side->mem);
	free(side->buf);
}

static void chans_down(struct run *run, int n)
{
	while (n-- > 0) {
		run->plan->subject->teardown(&run->chan[n]);
		shared_unmap(run->chan[n].mem, run->chan[n].mem_bytes);
	}
}

static int chans_up(struct run *run, int n)
{
	const struct subject *subject = run->plan->subject;

	for (int i = 0; i < n; i++) {
		struct chan *chan = &run->chan[i];

		chan->cell = run->plan->cell;
		chan->ctl = run->ctl;
		chan->chunk = run->plan->chunk;
		chan->mem_bytes = round_up(subject->bytes(chan), 4096);
		if (chan->mem_bytes)
			chan->mem = shared_map(chan->mem_bytes);
		if ((chan->mem_bytes && !chan->mem) || subject->setup(chan)) {
			int err = errno;

			shared_unmap(chan->mem, chan->mem_bytes);
			chans_down(run, i);
			errno = err;
			return -1;
		}
	}
	return 0;
}

static void run_report(const struct run *run, struct run_result *res)
{
	const struct side *side = &run->here;

	res->stalled = side->stalled || side->phase != SIDE_DONE;
	res->corrupt = side->bad != 0;
	res->here_on_cpu = side->on_cpu;
	res->on_cpu = (double)load64(&run->ctl->far_on_cpu) / 1000;
	if (side->on_cpu < res->on_cpu)
		res->on_cpu = side->on_cpu;
	res->valid = !res->stalled && !res->corrupt;
	res->rtt_before = run->rtt[0];
	res->rtt_after = run->rtt[1];
	res->packets_per_s = 0;
	if (side->elapsed_ns > 0)
		res->packets_per_s = (double)side->counted * 1e9 / side->elapsed_ns;
	res->bytes_per_s = res->packets_per_s * side->payload;
}

int run_once(const struct run_plan *plan, struct run_result *res)
{
	int n = plan->kind == RUN_ROUND_TRIP ? 2 : 1, err;
	uint32_t producers = plan->cell->producers;
	struct run *run = must_alloc(sizeof(*run));
	struct pair_job job = { run_here,    run_there,		  run,	    NULL,
				plan->place, plan->cell->threads, producers };

	memset(run, 0, sizeof(*run));
	run->plan = plan;
	run->hist = res->hist;
	run->ctl = run_ctl_get();
	job.ctl = run->ctl;
	err = run->ctl ? chans_up(run, n) : -1;
	if (!err) {
		side_init(&run->here, run, 0);
		for (uint32_t i = 0; i < producers; i++)
			side_init(&run->there[i], run, i);
		err = run_pair(&job);
		run_report(run, res);
		side_fini(&run->here);
		for (uint32_t i = 0; i < producers; i++)
			side_fini(&run->there[i]);
		n = err ? errno : 0;
		chans_down(run, plan->kind == RUN_ROUND_TRIP ? 2 : 1);
		errno = n;
	}
	free(run);
	return err;
}
