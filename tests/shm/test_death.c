/* SPDX-License-Identifier: MIT */
/*
 * Either side is killed with SIGKILL at any moment: the other one reports it, cleans up, and goes
 * on with the next.  20 rounds, 100 in the long form.
 */
#include "shm/guests.h"

#include <time.h>

static int rounds(void)
{
	return vmbus_test_full() ? 100 : 20;
}

/* Moments between 0 and most microseconds that differ from round to round. */
static long moment_us(int round, long most)
{
	uint64_t x = (uint64_t)round * 0x9E3779B97F4A7C15u + 12345;

	x ^= x >> 29;
	x *= 0xBF58476D1CE4E5B9u;
	x ^= x >> 32;
	return (long)(x % (uint64_t)most);
}

/* This process is killed by the system at that time from now. */
static void kill_self_in(long us)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	struct itimerspec when = { .it_value = { 0, us * 1000 + 1 } };
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &when, NULL))
		_exit(99);
}

START_TEST(lesson_a1_child_killed_at_any_moment)
{
	static const struct job job = {
		.channels = 8, .payload = 500, .ring = 8192, .forever = true
	};
	static const struct job after = {
		.channels = 8, .requests = 50, .payload = 90, .ring = 4096
	};
	int fds = 0, maps = 0, round, attached = 0;
	uint64_t worst = 0;
	struct host host;

	host_open(&host);
	host.channels = 8;
	for (round = 0; round < rounds(); round++) {
		const unsigned int ends = host.ends[VMBUS_SHM_DIED];
		uint64_t begin;
		int status;
		pid_t pid;

		vmbus_test_at("round %d", round);
		fflush(NULL);
		pid = fork();
		must(pid >= 0);
		if (pid == 0) {
			(void)syscall(SYS_close_range, 3u, ~0u, 0);
			kill_self_in(moment_us(round, round % 2 ? 40000 : 2500));
			_exit(guest_main(host.path, &job));
		}
		status = guest_end(&host, pid);
		begin = vmbus__shm_now_ns();
		must_eq(status, 1000 + SIGKILL);
		host_until(&host, host.attached == host.detached);
		/* Connections that were cut before HELLO are gone as well. */
		host_spin(&host);
		if (host.ends[VMBUS_SHM_DIED] > ends) {
			const uint64_t took = vmbus__shm_now_ns() - begin;

			attached++;
			worst = took > worst ? took : worst;
		}
		must_eq(count_memory(), 0);
		if (round == 1) {
			fds = vmbus_test_count_fds();
			maps = count_maps();
		}
		if (round > 1) {
			must_eq(vmbus_test_count_fds(), fds);
			must(count_maps() <= maps + 2); /* the heap may grow, once */
		}
		if (round % 10 == 9) { /* and it serves the next */
			pid = guest_start(host.path, &after);
			must_eq(guest_end(&host, pid), 0);
			host_until(&host, host.attached == host.detached);
		}
	}
	must(attached >= rounds() / 4); /* else the moments say little */
	must(host.died_lines > 0);
	must(worst < 2ull * SECOND_NS);
	printf("%d of %d rounds killed an attached child; noticed and cleaned up within %llu us\n",
	       attached, rounds(), (unsigned long long)worst / 1000);
	host_close(&host);
}
END_TEST

/* A parent in a process of its own, until it is killed. */
static pid_t parent_start(const struct host *like, long us)
{
	struct host host = *like;

	pid_t pid;

	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid)
		return pid;
	(void)syscall(SYS_close_range, 3u, ~0u, 0);
	alarm(60);
	host.opts.ctx = &host;
	host.opts.path = host.path;
	if (vmbus_shm_listen(&host.opts, &host.server))
		_exit(98);
	if (us >= 0)
		kill_self_in(us);
	for (;;)
		(void)vmbus_shm_server_run(host.server, SECOND_NS);
}

START_TEST(lesson_a1_parent_killed_at_any_moment)
{
	static const struct job job = {
		.channels = 8, .payload = 500, .ring = 8192, .forever = true
	};
	static const struct job after = {
		.channels = 8, .requests = 50, .payload = 90, .ring = 4096
	};
	int fds = vmbus_test_count_fds(), maps = 0, round, lost = 0;
	struct host host;
	struct stat st;
	int status;
	pid_t pid;

	host_init(&host);
	host.channels = 8;
	guest_patience_ns = 50000000;
	for (round = 0; round < rounds(); round++) {
		vmbus_test_at("round %d", round);
		/* This process is the child; the parent finds the stale socket of the one before. */
		pid = parent_start(&host, 3000 + moment_us(round, 40000));
		do
			status = guest_main(host.path, &job);
		while (status != GUEST_PARENT_GONE && waitpid(pid, NULL, WNOHANG) == 0);
		if (status == GUEST_PARENT_GONE) {
			lost++;
			must_eq(waitpid(pid, NULL, 0), pid);
		}
		must_eq(count_memory(), 0);
		must_eq(vmbus_test_count_fds(), fds);
		if (round == 1)
			maps = count_maps();
		if (round > 1)
			must(count_maps() <= maps + 2);
	}
	must(lost > rounds() / 4);
	guest_patience_ns = 20ull * SECOND_NS;
	/* The next parent takes the place, and the child is served as if nothing had been. */
	pid = parent_start(&host, -1);
	must_eq(guest_main(host.path, &after), 0);
	kill(pid, SIGKILL);
	must_eq(waitpid(pid, &status, 0), pid);
	must_eq(lstat(host.path, &st), 0); /* what a killed parent leaves ... */
	host_listen(&host);
	host_close(&host); /* ... is taken over and removed by the next */
}
END_TEST

/* The process is dead, but one that it forked keeps its socket open. */
START_TEST(death__is_noticed_though_the_socket_stays_open)
{
	struct vmbus__shm_msg msg = raw_hello(1 << 20, 1);
	struct host host;
	int ends[2], status;
	char c;
	pid_t pid;

	host_open(&host);
	must_eq(pipe(ends), 0);
	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		const int sock = vmbus__shm_connect(host.path, SECOND_NS);

		if (sock < 0 || vmbus__shm_send(sock, &msg, NULL, 0))
			_exit(1);
		if (fork() == 0) {
			close(ends[1]);
			(void)!read(ends[0], &c, 1); /* until the test is over */
			_exit(0);
		}
		usleep(20000);
		_exit(0);
	}
	close(ends[0]);
	host_until(&host, host.attached == 1);
	must_eq(guest_end(&host, pid), 0);
	host_until(&host, host.detached == 1);
	must_eq(host.ends[VMBUS_SHM_DIED], 1);
	close(ends[1]);
	(void)waitpid(-1, &status, WNOHANG);
	host_close(&host);
}
END_TEST

/* A device that needs long to close holds up neither the other children nor the next one. */
START_TEST(ending__waits_for_devices_without_spinning)
{
	static const struct job job = {
		.channels = 1, .payload = 90, .ring = 4096, .forever = true
	};
	struct vmbus__shm_welcome welcome;
	struct vmbus__shm_record record;
	struct pollfd fd = { .events = POLLIN };
	struct host host;
	int sock;
	pid_t pid;

	host_init(&host);
	host.opts.attached = slow_attached;
	host.opts.children_max = 1;
	host_listen(&host);
	pid = guest_start(host.path, &job);
	host_until(&host, host.packets > 100);
	kill(pid, SIGKILL);
	must_eq(guest_end(&host, pid), 1000 + SIGKILL);
	host_until(&host, slow != NULL);
	host_spin(&host);
	fd.fd = vmbus_shm_server_fd(host.server);
	must_eq(poll(&fd, 1, 0), 0); /* asleep until the device is done */
	must_eq(host.detached, 0);
	sock = raw_attach(&host, &welcome, &record); /* its place is free again */
	vmbus__shm_record_close(&record);
	vmbus_chan_close_done(slow);
	host_until(&host, host.detached == 1);
	must_eq(host.ends[VMBUS_SHM_DIED], 1);
	close(sock);
	host_until(&host, host.detached == 2);
	host_close(&host);
	must_eq(count_memory(), 0);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "death", 10);

	tcase_add_test(tc, lesson_a1_child_killed_at_any_moment);
	tcase_add_test(tc, lesson_a1_parent_killed_at_any_moment);
	tcase_add_test(tc, death__is_noticed_though_the_socket_stays_open);
	tcase_add_test(tc, ending__waits_for_devices_without_spinning);
}

VMBUS_TEST_MAIN("shm.death", tests)
