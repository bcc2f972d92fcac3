/* SPDX-License-Identifier: MIT */
/* The engine of the plugin for nbdkit: what its threads get when channels, or the parent, are gone. */
#include "blk.h"

#include <pthread.h>
#include <vmbus/block.h>
#include <vmbus/bus.h>
#include <vmbus/echo.h>
#include <vmbus/shm_bus.h>
#include <vmbus/store.h>

#include "../../tools/blk_engine.h"

#define READERS 8
#define DISK_BYTES (16u << 20)
#define MANY 300 /* channels, of which one dispatch cannot end all */

static struct blk_engine *engine;
static uint64_t reads; /* that are done */

static void start_engine(uint32_t channels, uint32_t depth)
{
	const struct blk_client_opts opts = { .socket = in_place("p"),
					      .name = "test",
					      .channels = channels,
					      .depth = depth,
					      .timeout_ns = WAIT_NS };
	char why[256] = "";

	ck_assert_msg(blk_engine_start(&engine, &opts, why, sizeof(why)) == 0, "%s", why);
}

/* Read until it fails, and once more. */
static void *reader(void *arg)
{
	uint64_t at = (uint64_t)(uintptr_t)arg << 20;
	uint8_t data[4096];
	int err, again;

	do {
		err = blk_engine_do(engine, BLK_ENGINE_READ, data, sizeof(data), at, false);
		__atomic_add_fetch(&reads, 1, __ATOMIC_RELAXED);
		at = (at + sizeof(data)) % DISK_BYTES;
	} while (!err);
	again = blk_engine_do(engine, BLK_ENGINE_WRITE, data, sizeof(data), at, false);
	return (void *)(intptr_t)(again ? err : -1);
}

static void start_readers(pthread_t *thread)
{
	int i;

	reads = 0;
	for (i = 0; i < READERS; i++)
		must_eq(pthread_create(&thread[i], NULL, reader, (void *)(uintptr_t)i), 0);
}

static void readers_end(const pthread_t *thread)
{
	void *err;
	int i;

	for (i = 0; i < READERS; i++) {
		must_eq(pthread_join(thread[i], &err), 0);
		must_eq((intptr_t)err, ESHUTDOWN);
	}
}

/* The parent waits a second for another provider, then withdraws the channels, one after the other. */
START_TEST(blk_engine__outlives_its_channels)
{
	const uint64_t until = now_ns() + WAIT_NS;
	pthread_t thread[READERS];
	pid_t parent, provider;

	NEEDS_BLK();
	begin();
	parent = start_parent("--wait 1", NULL);
	provider = start_provider("mem=16M,queues=4");
	start_engine(4, READERS);
	start_readers(thread);
	while (__atomic_load_n(&reads, __ATOMIC_RELAXED) < 1000 && now_ns() < until)
		a_while();
	kill(provider, SIGKILL);
	must_eq(end_of(provider), 128 + SIGKILL);
	readers_end(thread);
	blk_engine_stop(engine);
	must_eq(stop(parent), 0);
	finish();
}
END_TEST

/* ---- a parent of our own, told by files what to do ---- */

static struct vmbus_block *block;
static struct vmbus_vsp vsp; /* the block device's, but for: */
static struct vmbus_chan *sub;

static int open_chan(struct vmbus_chan *chan, void *ctx)
{
	if (vmbus_chan_primary(chan) != chan)
		sub = chan;
	return vmbus_block_vsp()->open(chan, ctx);
}

static int close_chan(struct vmbus_chan *chan)
{
	const int fd = chan == sub ? open(in_place("closed"), O_CREAT | O_WRONLY, 0600) : -1;

	if (fd >= 0)
		(void)close(fd);
	return vmbus_block_vsp()->close(chan);
}

static int attached(void *ctx, struct vmbus_shm_child *child, struct vmbus_bus *bus)
{
	int i, err = 0;

	(void)ctx;
	(void)child;
	for (i = 0; i < MANY && !err; i++)
		err = vmbus_bus_offer(bus, vmbus_echo_vsp(), NULL, NULL, NULL);
	return err ? err : vmbus_bus_offer(bus, &vsp, block, NULL, NULL);
}

/* A process of its own: "stall" has the disk stall, "busy" say so until "well", "revoke" withdraws the sub-channel. */
static void be_parent(void)
{
	const struct vmbus_block_opts with = { .struct_bytes = sizeof(with), .subchannels = 1 };
	const struct vmbus_shm_server_opts opts = { .struct_bytes = sizeof(opts),
						    .path = in_place("p"),
						    .attached = attached };
	const struct vmbus_store_faults stall = { .stall = true }, well = { .bytes = 0 };
	const struct vmbus_store_faults busy = { .bytes = DISK_BYTES,
						 .ops = 1,
						 .end = VMBUS_IO_BUSY };
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk), .serial = "x" };
	struct vmbus_shm_server *server;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	vsp = *vmbus_block_vsp();
	vsp.open = open_chan;
	vsp.close = close_chan;
	if (vmbus_block_create(&with, &block) || vmbus_store_memory(DISK_BYTES, -1, &disk.store) ||
	    vmbus_store_faulty(&disk.store, &disk.store) || vmbus_block_add(block, &disk) ||
	    vmbus_shm_listen(&opts, &server))
		_exit(1);
	for (;;) {
		(void)vmbus_shm_server_run(server, 10000000);
		if (is_there("stall") && vmbus_store_faulty_set(&disk.store, &stall) == 0)
			(void)unlink(in_place("stall"));
		if (is_there("busy") && vmbus_store_faulty_set(&disk.store, &busy) == 0)
			(void)unlink(in_place("busy"));
		if (is_there("well") && vmbus_store_faulty_set(&disk.store, &well) == 0)
			(void)unlink(in_place("well"));
		if (sub && is_there("revoke") && vmbus_bus_revoke(sub) == 0)
			(void)unlink(in_place("revoke"));
	}
}

static pid_t start_own_parent(void)
{
	const pid_t pid = fork();

	must(pid >= 0);
	if (pid == 0)
		be_parent();
	wait_for_file("p");
	return pid;
}

/* The one of two that the first request takes. */
START_TEST(blk_engine__goes_on_without_a_channel)
{
	const uint64_t until = now_ns() + WAIT_NS;
	uint8_t data[4096];
	pid_t parent;
	int i, err;

	NEEDS_BLK();
	begin();
	parent = start_own_parent();
	start_engine(2, 1);
	must_eq(blk_engine_do(engine, BLK_ENGINE_READ, data, sizeof(data), 0, false), 0);
	must_eq(shell("touch revoke"), 0);
	wait_for_file("closed");
	do { /* what is on the channel when it is withdrawn fails */
		err = blk_engine_do(engine, BLK_ENGINE_READ, data, sizeof(data), 0, false);
	} while (err == ESHUTDOWN && now_ns() < until);
	must_eq(err, 0);
	for (i = 0; i < 100; i++)
		must_eq(blk_engine_do(engine, BLK_ENGINE_READ, data, sizeof(data), 0, false), 0);
	blk_engine_stop(engine);
	kill(parent, SIGKILL);
	must_eq(end_of(parent), 128 + SIGKILL);
	finish();
}
END_TEST

static void *read_once(void *arg)
{
	uint8_t data[4096];

	(void)arg;
	return (void *)(intptr_t)blk_engine_do(engine, BLK_ENGINE_READ, data, sizeof(data), 0,
					       false);
}

/* A disk may be busy for a while: that is no error. */
START_TEST(blk_engine__waits_for_a_disk_that_is_busy)
{
	const uint64_t until = now_ns() + WAIT_NS;
	pthread_t thread[READERS];
	pid_t parent;
	void *err;
	int i;

	NEEDS_BLK();
	begin();
	parent = start_own_parent();
	start_engine(1, READERS);
	must_eq(shell("touch busy"), 0);
	while (is_there("busy") && now_ns() < until)
		a_while();
	for (i = 0; i < READERS; i++)
		must_eq(pthread_create(&thread[i], NULL, read_once, NULL), 0);
	usleep(2000000);
	must_eq(shell("touch well"), 0);
	for (i = 0; i < READERS; i++) {
		must_eq(pthread_join(thread[i], &err), 0);
		must_eq((intptr_t)err, 0);
	}
	blk_engine_stop(engine);
	kill(parent, SIGKILL);
	must_eq(end_of(parent), 128 + SIGKILL);
	finish();
}
END_TEST

START_TEST(blk_engine__ends_what_is_under_way_when_the_parent_dies)
{
	const uint64_t until = now_ns() + WAIT_NS;
	pthread_t thread[READERS];
	uint64_t before;
	pid_t parent;

	NEEDS_BLK();
	begin();
	parent = start_own_parent();
	start_engine(1, READERS);
	start_readers(thread);
	must_eq(shell("touch stall"), 0);
	while (is_there("stall") && now_ns() < until)
		a_while();
	do { /* until all of them wait */
		before = __atomic_load_n(&reads, __ATOMIC_RELAXED);
		usleep(100000);
	} while (__atomic_load_n(&reads, __ATOMIC_RELAXED) != before && now_ns() < until);
	kill(parent, SIGKILL);
	must_eq(end_of(parent), 128 + SIGKILL);
	readers_end(thread);
	blk_engine_stop(engine);
	finish();
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "engine", 30);

	tcase_add_test(tc, blk_engine__outlives_its_channels);
	tcase_add_test(tc, blk_engine__goes_on_without_a_channel);
	tcase_add_test(tc, blk_engine__waits_for_a_disk_that_is_busy);
	tcase_add_test(tc, blk_engine__ends_what_is_under_way_when_the_parent_dies);
}

VMBUS_TEST_MAIN("blk.engine", tests)
