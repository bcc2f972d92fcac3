/* SPDX-License-Identifier: MIT */
/* Two processes and more: the whole protocol over the shm backend, with honest ends. */
#include "shm/guests.h"

#include <pthread.h>

#define MIB ((uint64_t)1 << 20)

START_TEST(partition__echo_of_verified_requests)
{
	const struct job job = { .channels = 1, .requests = 20000, .payload = 1000, .ring = 65536 };
	const int before = vmbus_test_count_fds();
	struct host host;
	pid_t pid;

	host_open(&host);
	host.channels = 1;
	pid = guest_start(host.path, &job);
	must_eq(guest_end(&host, pid), 0);
	host_until(&host, host.detached == 1);
	must_eq(host.ends[VMBUS_SHM_LEFT], 1);
	must_eq(host.packets, 20000);
	must_eq(host.removed, 1);
	host_close(&host);
	must_eq(vmbus_test_count_fds(), before);
	must_eq(count_memory(), 0);
}
END_TEST

START_TEST(partition__interrupts_on_several_processors)
{
	const struct job job = {
		.channels = 9, .requests = 500, .payload = 64, .ring = 4096, .vps = 4
	};
	struct host host;
	pid_t pid;

	host_open(&host);
	host.channels = 9;
	pid = guest_start(host.path, &job);
	must_eq(guest_end(&host, pid), 0);
	host_until(&host, host.detached == 1);
	must_eq(host.packets, 9 * 500);
	host_close(&host);
}
END_TEST

START_TEST(partition__64_children_with_16_channels_each)
{
	const struct job job = { .channels = 16, .requests = 40, .payload = 200, .ring = 4096 };
	const int before = vmbus_test_count_fds();
	struct host host;
	pid_t pid[64];
	int i;

	host_open(&host);
	host.channels = 16;
	for (i = 0; i < 64; i++)
		pid[i] = guest_start(host.path, &job);
	for (i = 0; i < 64; i++)
		must_eq(guest_end(&host, pid[i]), 0);
	host_until(&host, host.detached == 64);
	must_eq(host.ends[VMBUS_SHM_LEFT], 64);
	must_eq(host.packets, 64 * 16 * 40);
	must_eq(host.removed, 64 * 16);
	host_close(&host);
	must_eq(vmbus_test_count_fds(), before);
	must_eq(count_memory(), 0);
}
END_TEST

START_TEST(partition__2047_channels_in_one_child)
{
	const struct job job = {
		.channels = 2047, .requests = 3, .payload = 100, .ring = 4096, .memory = 64 * MIB
	};
	struct host host;
	pid_t pid;

	host_open(&host);
	host.channels = 2047;
	pid = guest_start(host.path, &job);
	must_eq(guest_end(&host, pid), 0);
	host_until(&host, host.detached == 1);
	must_eq(host.packets, 2047 * 3);
	host_close(&host);
	must_eq(count_memory(), 0);
}
END_TEST

START_TEST(partition__a_child_comes_back_again_and_again)
{
	const struct job jobs[] = {
		{ .channels = 2, .requests = 20, .payload = 100, .ring = 8192 },
		{ .channels = 2, .requests = 20, .payload = 100, .ring = 8192, .leave_open = true },
	};
	struct host host;
	int fds = 0, maps = 0, i;

	host_open(&host);
	host.channels = 2;
	for (i = 0; i < 30; i++) {
		const pid_t pid = guest_start(host.path, &jobs[i % 2]);

		must_eq(guest_end(&host, pid), 0);
		host_until(&host, host.detached == (unsigned int)i + 1);
		if (i == 1) {
			fds = vmbus_test_count_fds();
			maps = count_maps();
		}
	}
	must_eq(vmbus_test_count_fds(), fds);
	must(count_maps() <= maps + 2); /* the heap may have grown once */
	must_eq(host.ends[VMBUS_SHM_LEFT], 30);
	must_eq(host.removed, 60);
	host_close(&host);
}
END_TEST

/* Kilobytes of this process that are in memory. */
static long resident(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long all = 0, in = 0;

	must(f != NULL);
	must_eq(fscanf(f, "%ld %ld", &all, &in), 2);
	fclose(f);
	return in * (sysconf(_SC_PAGESIZE) / 1024);
}

START_TEST(partition__channels_come_and_go_without_growth)
{
	const struct job job = { .channels = 1, .payload = 100, .ring = 4096, .forever = true };
	const int rounds = vmbus_test_full() ? 5000 : 400;
	struct vmbus_chan *chan[8];
	int round, i, fds = 0, maps = 0;
	struct host host;
	long before = 0;
	pid_t pid;

	host_open(&host);
	host.channels = 1;
	pid = guest_start(host.path, &job);
	host_until(&host, host.packets > 100);
	for (round = 0; round < rounds; round++) {
		struct vmbus_bus *const bus = vmbus_shm_child_bus(host.child);

		for (i = 0; i < 8; i++)
			must_eq(vmbus_bus_offer(bus, &echo_vsp, &host, NULL, &chan[i]), 0);
		for (i = 0; i < 8; i++)
			must_eq(vmbus_bus_revoke(chan[i]), 0);
		host_until(&host, host.removed == (unsigned int)(round + 1) * 8);
		if (round == rounds / 4) {
			fds = vmbus_test_count_fds();
			maps = count_maps();
			before = resident();
		}
	}
	must_eq(vmbus_test_count_fds(), fds);
	must(count_maps() <= maps + 2);
#ifndef HOST_SANITIZED
	must(resident() < before + 1024);
#else
	(void)before;
#endif
	must_eq(waitpid(pid, NULL, WNOHANG), 0); /* and the child goes on */
	kill(pid, SIGKILL);
	(void)guest_end(&host, pid);
	host_until(&host, host.detached == 1);
	host_close(&host);
}
END_TEST

/* Channels that a thread of the parent's dispatches; its signals come by their own eventfd. */
struct worker {
	struct vmbus_chan *chan;
	pthread_t thread;
	int stop;
};

static void *work(void *arg)
{
	struct worker *const worker = arg;
	struct pollfd fd = { .fd = vmbus_chan_fd(worker->chan), .events = POLLIN };

	while (!__atomic_load_n(&worker->stop, __ATOMIC_ACQUIRE)) {
		(void)poll(&fd, 1, 20);
		while (vmbus_chan_dispatch(worker->chan, 64) > 0)
			;
	}
	return NULL;
}

/* The channel is destroyed when detached() returns. */
static void stop_worker(struct host *host)
{
	struct worker *const worker = host->stop_arg;

	__atomic_store_n(&worker->stop, 1, __ATOMIC_RELEASE);
	must_eq(pthread_join(worker->thread, NULL), 0);
}

START_TEST(partition__a_channel_on_a_thread_of_its_own)
{
	const struct job job = { .channels = 1, .requests = 5000, .payload = 300, .ring = 16384 };
	struct worker worker = { 0 };
	struct vmbus_bus_stats stats;
	struct host host;
	pid_t pid;

	host_open(&host);
	host.channels = 1;
	host.own_fd = true;
	host.stop = stop_worker;
	host.stop_arg = &worker;
	pid = guest_start(host.path, &job);
	host_until(&host, host.attached == 1);
	worker.chan = host.chan;
	must_eq(pthread_create(&worker.thread, NULL, work, &worker), 0);
	host_until(&host, __atomic_load_n(&host.packets, __ATOMIC_RELAXED) >= 2500);
	vmbus_bus_stats(vmbus_shm_child_bus(host.child), &stats);
	must_eq(guest_end(&host, pid), 0);
	/* Signals went past the bus but for those before the channel was bound. */
	must(stats.signals < 100);
	host_until(&host, host.detached == 1);
	host_close(&host);
	must_eq(host.packets, 5000);
}
END_TEST

START_TEST(partition__the_parent_ends_and_every_child_notices)
{
	const struct job job = { .channels = 4, .payload = 100, .ring = 4096, .forever = true };
	uint64_t begin;
	struct host host;
	pid_t pid[8];
	int i, status;

	host_open(&host);
	host.channels = 4;
	for (i = 0; i < 8; i++)
		pid[i] = guest_start(host.path, &job);
	host_until(&host, host.packets > 2000);
	host_until(&host, host.attached == 8);
	host_close(&host);
	begin = vmbus__shm_now_ns();
	for (i = 0; i < 8; i++) {
		must_eq(waitpid(pid[i], &status, 0), pid[i]);
		must(WIFEXITED(status));
		must_eq(WEXITSTATUS(status), GUEST_PARENT_GONE);
	}
	must(vmbus__shm_now_ns() - begin < 5ull * SECOND_NS);
	must_eq(host.ends[VMBUS_SHM_LEFT], 8);
}
END_TEST

/* vmbus_shm(7) and vmbusctl check say so: 12 descriptors for a child, 3 for a channel of its own. */
START_TEST(limits__descriptors_and_mappings_are_what_the_manual_says)
{
	const struct job job = { .channels = 16, .payload = 100, .ring = 4096, .forever = true };
	struct host host;
	int own, idle, maps, fds;
	pid_t pid;

	for (own = 0; own < 2; own++) {
		idle = vmbus_test_count_fds();
		host_open(&host);
		must(vmbus_test_count_fds() - idle <= 16);
		idle = vmbus_test_count_fds();
		maps = count_maps();
		host.channels = 16;
		host.own_fd = own;
		pid = guest_start(host.path, &job);
		if (own)
			host_until(&host, host.attached == 1);
		else
			host_until(&host, host.packets > 100);
		host_spin(&host);
		fds = vmbus_test_count_fds() - idle;
		maps = count_maps() - maps;
		vmbus_test_at("%d descriptors, %d mappings", fds, maps);
		must(fds <= 12 + (own ? 3 * 16 : 0));
		must(own ? fds > 16 : fds >= 5);
		must(maps <= 2 + 16 * 2 * 3 + 4); /* and the heap's */
		kill(pid, SIGKILL);
		(void)guest_end(&host, pid);
		if (!own)
			host_until(&host, host.detached == 1);
		host_close(&host);
	}
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "partition", 8);

	tcase_add_test(tc, partition__echo_of_verified_requests);
	tcase_add_test(tc, partition__interrupts_on_several_processors);
	tcase_add_test(tc, partition__64_children_with_16_channels_each);
	tcase_add_test(tc, partition__2047_channels_in_one_child);
	tcase_add_test(tc, partition__a_child_comes_back_again_and_again);
	tcase_add_test(tc, partition__channels_come_and_go_without_growth);
	tcase_add_test(tc, partition__a_channel_on_a_thread_of_its_own);
	tcase_add_test(tc, partition__the_parent_ends_and_every_child_notices);
	tcase_add_test(tc, limits__descriptors_and_mappings_are_what_the_manual_says);
}

VMBUS_TEST_MAIN("shm.partition", tests)
