/* SPDX-License-Identifier: MIT */
/*
 * SIGKILL at random moments under load, 30 rounds, 1,000 in the long form: of a child, beside others
 * that go on; of the parent, whose children attach to the next one.  Whoever survives reports it,
 * cleans up and serves on.  How long it took to notice is printed; counts are judged.
 */
#include "isolation/shared.h"

#include <vmbus/diag.h>

#define SURVIVORS 2u
#define CHANNELS 4u

static int rounds(void)
{
	return vmbus_test_full() ? 1000 : 30;
}

static const struct job forever = {
	.channels = CHANNELS, .payload = 500, .ring = 8192, .forever = true, .memory = 1 << 20
};
static const struct job after = {
	.channels = CHANNELS, .requests = 50, .payload = 90, .ring = 4096, .memory = 1 << 20
};

static uint64_t detached_at;

static void note_detached(void *ctx, struct vmbus_shm_child *child, enum vmbus_shm_end why)
{
	detached_at = vmbus__shm_now_ns();
	host_detached(ctx, child, why);
}

static pid_t victim_start(const struct host *host, struct shared *s, int round)
{
	pid_t pid;

	__atomic_store_n(&s->when, 0, __ATOMIC_RELEASE);
	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid)
		return pid;
	(void)syscall(SYS_close_range, 3u, ~0u, 0);
	shared_die_in(s, moment_us(round, round % 2 ? s->within : 2500));
	_exit(guest_main(host->path, &forever));
}

/* What the parent must have as much of after each death as before. */
struct kept {
	int fds, maps, memory;
};

static void keep(struct host *host, struct kept *kept, int round)
{
	if (round == 2)
		*kept = (struct kept){ vmbus_test_count_fds(), count_maps(), count_memory() };
	if (round <= 2)
		return;
	if (host->server) /* a connection that was cut before its HELLO may be to be closed yet */
		host_until(host, vmbus_test_count_fds() == kept->fds);
	must_eq(vmbus_test_count_fds(), kept->fds);
	must_eq(count_memory(), kept->memory);
	must(count_maps() <= kept->maps + 4); /* the heap may grow, a little and once */
}

/* One child dies. */
static void kill_one_child(struct host *host, struct shared *s, struct times *times, int round)
{
	const unsigned int ends = host->ends[VMBUS_SHM_DIED], attached = host->attached;
	const pid_t pid = victim_start(host, s, round);
	uint32_t served;

	must_eq(guest_end(host, pid), 1000 + SIGKILL);
	host_until(host, host->attached - host->detached == SURVIVORS);
	served = host->packets;
	host_until(host, host->packets > served + 100); /* the survivors are served on */
	/* None, where it was cut before its HELLO; or also one whose HELLO is read only now. */
	host_until(host, host->ends[VMBUS_SHM_DIED] - ends == host->attached - attached);
	if (host->attached == attached + 1)
		times_add(times, detached_at > s->when ? detached_at - s->when : 0);
	if (round % 2)
		shared_adapt(s, host->attached == attached + 1);
}

/* Channels that the child that attached last has open. */
static uint32_t count_open(const struct host *host)
{
	struct vmbus_bus *const bus = vmbus_shm_child_bus(host->child);
	struct vmbus_chan_diag diag;
	uint32_t at = 0, n = 0;

	while (vmbus_bus_diag_next(bus, &at, &diag) == 1)
		n += diag.state == VMBUS_SRV_OPENED;
	return n;
}

START_TEST(lesson_a1_children_killed_beside_others)
{
	struct shared *const s = shared_make();
	struct vmbus_shm_server_stats stats;
	int round;
	struct kept kept = { 0 };
	pid_t survivors[SURVIVORS];
	struct times times;
	struct host host;
	uint32_t i;

	guest_seconds = 1100;
	times_init(&times, 1000);
	host_init(&host);
	host.opts.detached = note_detached;
	host_listen(&host);
	host.channels = CHANNELS;
	for (i = 0; i < SURVIVORS; i++) {
		survivors[i] = guest_start(host.path, &forever);
		host_until(&host, host.attached == i + 1);
		host_until(&host, count_open(&host) == CHANNELS);
	}
	host_until(&host, host.packets > 1000);
	for (round = 0; round < rounds(); round++) {
		vmbus_test_at("round %d", round);
		kill_one_child(&host, s, &times, round);
		keep(&host, &kept, round);
		if (round % 10 == 9) { /* and it serves the next */
			must_eq(guest_end(&host, guest_start(host.path, &after)), 0);
			host_until(&host, host.attached - host.detached == SURVIVORS);
		}
	}
	must(times.count >= (uint32_t)rounds() / 4); /* else the moments say little */
	vmbus_shm_server_stats(host.server, &stats);
	must_eq(stats.ended[VMBUS_SHM_DIED] + stats.ended[VMBUS_SHM_LEFT] + SURVIVORS,
		stats.attached);
	must_eq(stats.children, SURVIVORS);
	must_eq(stats.ending, 0);
	host_close(&host);
	for (i = 0; i < SURVIVORS; i++) { /* they have verified every byte until now */
		int status;

		must_eq(waitpid(survivors[i], &status, 0), survivors[i]);
		must_eq(status, GUEST_PARENT_GONE << 8);
	}
	must_eq(count_memory(), 0);
	times_tell(&times, "the parent, of a child");
	munmap(s, sizeof(*s));
}
END_TEST

/* A parent in a process of its own, until it is killed. */
static pid_t parent_start(const struct host *like, struct shared *s, int round)
{
	struct host host = *like;
	pid_t pid;

	__atomic_store_n(&s->when, 0, __ATOMIC_RELEASE);
	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid)
		return pid;
	(void)syscall(SYS_close_range, 3u, ~0u, 0);
	alarm(100);
	host.opts.ctx = &host;
	host.opts.path = host.path;
	if (vmbus_shm_listen(&host.opts, &host.server))
		_exit(98);
	if (round >= 0)
		shared_die_in(s, 2000 + moment_us(round, s->within));
	for (;;)
		(void)vmbus_shm_server_run(host.server, SECOND_NS);
}

/* What a child may come back with from a parent that was killed at any moment. */
static bool cut_off(int status)
{
	return status != GUEST_OK && status != GUEST_WRONG && status != GUEST_LATE;
}

/* A child that attaches to one parent after the other, and at last finishes what it has to do. */
static pid_t orphan_start(const char *path, struct shared *s)
{
	bool last;
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid)
		return pid;
	(void)syscall(SYS_close_range, 3u, ~0u, 0);
	alarm(1200);
	do {
		last = __atomic_load_n(&s->stop, __ATOMIC_ACQUIRE);
		guest_stop = last ? NULL : &s->stop;
		status = guest_main(path, last ? &after : &forever);
		if (status == GUEST_PARENT_GONE)
			__atomic_fetch_add(&s->lost, 1, __ATOMIC_RELAXED);
		if (last && status == GUEST_OK)
			_exit(0);
	} while (cut_off(status) || (status == GUEST_OK && !last));
	_exit(status);
}

/* One parent dies, with this process among its children; returns whether that one saw it. */
static bool kill_one_parent(const struct host *host, struct shared *s, struct times *times,
			    int round)
{
	const pid_t pid = parent_start(host, s, round);
	uint64_t noticed = 0;
	int status, end = 0;
	pid_t got;

	do {
		status = guest_main(host->path, &forever);
		noticed = vmbus__shm_now_ns();
		must(cut_off(status));
		got = waitpid(pid, &end, WNOHANG);
	} while (status != GUEST_PARENT_GONE && got == 0);
	if (got == 0)
		must_eq(waitpid(pid, &end, 0), pid);
	must(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL); /* not: it could not listen */
	shared_adapt(s, status == GUEST_PARENT_GONE);
	if (status != GUEST_PARENT_GONE)
		return false;
	times_add(times, noticed > s->when ? noticed - s->when : 0);
	return true;
}

START_TEST(lesson_a1_parents_killed_one_after_the_other)
{
	struct shared *const s = shared_make();
	int round, lost = 0, status;
	struct kept kept = { 0 };
	pid_t orphans[2], pid;
	struct times times;
	struct host host;
	struct stat st;

	times_init(&times, 1000);
	host_init(&host);
	host.channels = CHANNELS;
	guest_patience_ns = 50000000;
	orphans[0] = orphan_start(host.path, s);
	orphans[1] = orphan_start(host.path, s);
	for (round = 0; round < rounds(); round++) {
		vmbus_test_at("round %d", round);
		lost += kill_one_parent(&host, s, &times, round);
		must_eq(count_memory(), 0);
		keep(&host, &kept, round);
	}
	must(lost >= rounds() / 4);
	must(s->lost > 0);
	/* The next parent takes the stale socket's place; the same processes are served on. */
	__atomic_store_n(&s->stop, 1, __ATOMIC_RELEASE);
	guest_patience_ns = 20ull * SECOND_NS;
	pid = parent_start(&host, s, -1);
	must_eq(guest_main(host.path, &after), 0);
	must_eq(waitpid(orphans[0], &status, 0), orphans[0]);
	must_eq(status, 0);
	must_eq(waitpid(orphans[1], &status, 0), orphans[1]);
	must_eq(status, 0);
	kill(pid, SIGKILL);
	must_eq(waitpid(pid, &status, 0), pid);
	must_eq(lstat(host.path, &st), 0); /* what a killed parent leaves ... */
	host_listen(&host);
	host_close(&host); /* ... is taken over and removed by the next */
	times_tell(&times, "a child, of its parent");
	munmap(s, sizeof(*s));
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "kill", 20);

	tcase_add_test(tc, lesson_a1_children_killed_beside_others);
	tcase_add_test(tc, lesson_a1_parents_killed_one_after_the_other);
}

VMBUS_TEST_MAIN("isolation.kill", tests)
