/* SPDX-License-Identifier: MIT */
/*
 * The block device between processes: hundreds of thousands of random requests of all sizes and
 * alignments, on one channel and several, dispatched by one thread and by many, on several stores.
 */
#define _GNU_SOURCE
#include <vmbus/block.h>
#if defined(VMBUS_HAVE_URING)
#include <vmbus/store_uring.h>
#endif

#include "integrity.h"
#include "pairshm.h"

#define CHANNELS 3u
#define DISK_BYTES (UINT64_C(24) << 20)
#define MEMORY_BYTES (UINT64_C(48) << 20)
#define COUNT_MAX_BYTES 131072u
#define DEPTH 24u

/* The thread sanitizer and its kind make all of this slow. */
#define REQUESTS 60000u
#define TSAN 0
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#undef REQUESTS
#define REQUESTS 15000u
#endif
#if __has_feature(thread_sanitizer)
#undef TSAN
#define TSAN 1
#endif
#endif

enum way {
	ONE_CHANNEL,
	CHANNELS_IN_TURNS,
	THREADS
};

struct kind {
	const char *name;
	enum way way;
	bool pool; /* the parent's channels are dispatched by two threads */
	uint32_t sector;
	enum {
		MEMORY,
		URING
	} store;
	uint32_t requests; /* in all */
};

static const struct kind kinds[] = {
	{ "one channel", ONE_CHANNEL, false, 512, MEMORY, 2 * REQUESTS },
	{ "in turns", CHANNELS_IN_TURNS, false, 4096, MEMORY, REQUESTS },
	{ "in turns, pool", CHANNELS_IN_TURNS, true, 512, MEMORY, REQUESTS },
	{ "threads, pool", THREADS, true, 512, MEMORY, 2 * REQUESTS },
	{ "threads, no pool", THREADS, false, 512, MEMORY, REQUESTS },
	{ "threads, pool, file", THREADS, true, 512, URING, REQUESTS / 4 },
};

/* As it was when a child began, in the child. */
static struct {
	const struct kind *kind;
	struct vmbus_block *block;
	struct pairshm p;
} parent;

/* ---- the child ---- */

struct thread {
	struct pairshm_thread t;
	uint32_t channel;
	struct integrity it;
};

static struct {
	const struct kind *kind;
	struct vmbus_storvsc s;
	struct vmbus_storvsc_disk disk;
	struct vmbus_guest *guest;
	uint8_t *page;
	uint8_t *buffers;
	size_t buffer_bytes; /* of each channel */
	struct thread thread[CHANNELS];
	int probed; /* 1: well, 2: not */
	int begun, finished, closed;
} c;

static void begin_load(struct thread *t)
{
	struct integrity *const it = &t->it;
	const uint32_t loads = c.kind->way == THREADS ? CHANNELS : 1;
	const uint64_t share = c.disk.sectors / loads;

	it->s = &c.s;
	it->disk = &c.disk;
	it->channel = t->channel;
	it->channels = c.kind->way == CHANNELS_IN_TURNS ? CHANNELS : 1;
	it->first = t->channel * share;
	it->sectors = (uint32_t)share;
	it->count_max = COUNT_MAX_BYTES / c.disk.sector;
	it->depth = DEPTH;
	it->total = c.kind->requests / loads;
	it->seed = 1000 + t->channel;
	it->buffers = c.buffers + t->channel * c.buffer_bytes;
	if (integrity_slot_pages(it) * DEPTH * 4096u > c.buffer_bytes || !integrity_start(it))
		_exit(21);
}

static void on_writable(void *ctx, uint32_t channel)
{
	(void)ctx;
	if (c.kind->way == THREADS)
		integrity_more(&c.thread[channel].it);
	else
		integrity_more(&c.thread[0].it);
}

static void on_probed(struct vmbus_storvsc_disk *disk, int err, void *ctx)
{
	(void)disk;
	(void)ctx;
	__atomic_store_n(&c.probed, err ? 2 : 1, __ATOMIC_RELEASE);
}

static void on_ready(void *ctx, int err)
{
	(void)ctx;
	if (err || vmbus_storvsc_probe(&c.disk, &c.s, 0, 0, c.page, on_probed, NULL))
		__atomic_store_n(&c.probed, 2, __ATOMIC_RELEASE);
}

static void on_closed(void *ctx)
{
	(void)ctx;
	c.closed = 1;
}

/* A channel's thread: its load begins when the disk is known and all channels are there. */
static void *run(void *arg)
{
	struct thread *const t = arg;
	struct vmbus_vsc *const vsc = vmbus_storvsc_channel(&c.s, t->channel);
	bool begun = false, told = false;
	int n;

	for (;;) {
		if (!begun && __atomic_load_n(&c.begun, __ATOMIC_ACQUIRE)) {
			begun = true;
			begin_load(t);
		}
		if (t->it.finished && !told) {
			told = true;
			__atomic_fetch_add(&c.finished, 1, __ATOMIC_RELEASE);
		}
		n = vmbus_vsc_dispatch(vsc, 64);
		if (n < 0)
			return NULL;
		if (n == 0)
			pairshm_sleep(&t->t);
	}
}

static void on_opened(void *ctx, uint32_t channel)
{
	struct thread *const t = &c.thread[channel];

	(void)ctx;
	if (c.kind->way != THREADS)
		return;
	pairshm_thread_start(&t->t, run, t);
}

static void on_wake(void *ctx, uint32_t channel)
{
	(void)ctx;
	pairshm_poke(&c.thread[channel].t);
}

static int start(void)
{
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts) };
	const struct vmbus_guid class_id = VMBUS_BLOCK_CLASS;
	const uint32_t pages = (COUNT_MAX_BYTES / 4096 + 2) * DEPTH;
	uint32_t i;

	c.page = vmbus_guest_pages(c.guest, 1);
	c.buffer_bytes = pages * 4096u;
	c.buffers = vmbus_guest_pages(c.guest, pages * CHANNELS);
	if (!c.page || !c.buffers)
		return 2;
	for (i = 0; i < CHANNELS; i++) {
		c.thread[i].channel = i;
		c.thread[i].t.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	}
	opts.subchannels = c.kind->way == ONE_CHANNEL ? 0 : CHANNELS - 1;
	opts.depth = 16; /* below DEPTH: the table of requests is full at times */
	opts.open.own_thread = c.kind->way == THREADS;
	opts.open.send_bytes = 16384; /* and so is the ring */
	opts.open.recv_bytes = 8192;
	opts.ready = on_ready;
	opts.opened = on_opened;
	opts.wake = on_wake;
	opts.writable = on_writable;
	opts.closed = on_closed;
	return vmbus_storvsc_start(&c.s, vmbus_vsc_find(c.guest, &class_id, 0), &opts) ? 3 : 0;
}

static bool all_finished(void)
{
	if (c.kind->way == THREADS)
		return __atomic_load_n(&c.finished, __ATOMIC_ACQUIRE) == CHANNELS;
	return c.thread[0].it.finished;
}

static int report(void)
{
	uint64_t requests = 0, bytes = 0, busy = 0;
	uint32_t i;

	for (i = 0; i < CHANNELS; i++) {
		const struct integrity *const it = &c.thread[i].it;

		requests += it->done;
		bytes += it->bytes;
		busy += it->busy;
		if (it->errors || it->wrong)
			return 6;
		integrity_free(&c.thread[i].it);
		close(c.thread[i].t.wake);
	}
	printf("%s: %llu requests, %llu MiB, %llu found it busy\n", c.kind->name,
	       (unsigned long long)requests, (unsigned long long)bytes >> 20,
	       (unsigned long long)busy);
	fflush(stdout);
	return c.s.bad || requests + CHANNELS < c.kind->requests ? 7 : 0;
}

static int child(void)
{
	struct vmbus_shm_attach *const attach = pairshm_attach(&parent.p, MEMORY_BYTES);
	uint32_t i;
	int err;

	c.kind = parent.kind;
	if (!attach)
		return 1;
	c.guest = vmbus_shm_guest(attach);
	err = start();
	while (!err && !all_finished()) {
		const int probed = __atomic_load_n(&c.probed, __ATOMIC_ACQUIRE);

		if (probed == 2)
			err = 4;
		else if (probed && !c.begun && c.s.channels == c.s.offered) {
			__atomic_store_n(&c.begun, 1, __ATOMIC_RELEASE);
			if (c.kind->way == THREADS)
				for (i = 0; i < CHANNELS; i++)
					pairshm_poke(&c.thread[i].t);
			else
				begin_load(&c.thread[0]);
		}
		if (vmbus_shm_attach_wait(attach, PAIRSHM_SECOND / 20) == VMBUS_E_PEER)
			err = 5;
	}
	if (!err && vmbus_storvsc_stop(&c.s))
		err = 8;
	if (!err)
		err = pairshm_wait_closed(attach, &c.closed);
	for (i = 0; i < CHANNELS && !err; i++)
		pairshm_thread_join(&c.thread[i].t);
	if (!err)
		err = report();
	vmbus_shm_detach(attach);
	return err;
}

/* ---- the parent ---- */

/* A store of the kind; false: there is none here. */
static bool make_store(struct vmbus_store *store)
{
#if defined(VMBUS_HAVE_URING)
	struct vmbus_store_uring_opts opts = { .struct_bytes = sizeof(opts), .fd = -1 };
	char path[] = "/tmp/vmbus-test-pair-XXXXXX";
	int fd, err;

	if (parent.kind->store == URING) {
		fd = mkstemp(path);
		must(fd >= 0);
		must_eq(ftruncate(fd, (off_t)DISK_BYTES), 0);
		close(fd);
		opts.path = path;
		opts.sparse = true;
		err = vmbus_store_uring(&opts, store);
		unlink(path);
		must(err == 0 || err == VMBUS_E_NOTSUP);
		return err == 0;
	}
#endif
	if (parent.kind->store == URING)
		return false;
	must_eq(vmbus_store_memory(DISK_BYTES, -1, store), 0);
	return true;
}

static void make_block(const struct vmbus_block_disk *disk)
{
	struct vmbus_block_opts opts = { .struct_bytes = sizeof(opts),
					 .subchannels = CHANNELS - 1 };

	opts.transfer_bytes = 1u << 20;
	opts.requests = 10; /* below what the child has under way */
	must_eq(vmbus_block_create(&opts, &parent.block), 0);
	must_eq(vmbus_block_add(parent.block, disk), 0);
	parent.p.device[0] = parent.block;
	if (parent.kind->pool)
		pairshm_pool(&parent.p);
}

static void check_stats(void)
{
	struct vmbus_block_stats stats;

	must_eq(vmbus_block_stats(parent.block, 0, 0, &stats), 0);
	must_eq(stats.in_flight, 0);
	must_eq(stats.failed, 0);
	must(stats.reads > 0 && stats.writes > 0 && stats.flushes > 0 && stats.discards > 0);
	must(stats.reads + stats.writes + stats.flushes + stats.discards + 100 >=
	     parent.kind->requests);
}

START_TEST(pair__keeps_every_byte)
{
	struct vmbus_block_disk disk = { .struct_bytes = sizeof(disk) };

	memset(&parent, 0, sizeof(parent));
	parent.kind = &kinds[_i];
	if (TSAN && parent.kind->pool && parent.kind->way == CHANNELS_IN_TURNS)
		VMBUS_TEST_SKIP(
			"what orders two channels is in the child, which tsan does not see");
	if (!make_store(&disk.store))
		VMBUS_TEST_SKIP("no io_uring here");
	disk.sector = parent.kind->sector;
	pairshm_begin(&parent.p, "pair", vmbus_block_vsp());
	if (pairshm_fork(&parent.p))
		_exit(child());
	make_block(&disk);
	pairshm_run(&parent.p);
	check_stats();
	vmbus_pool_destroy(parent.p.pool);
	vmbus_block_destroy(parent.block);
	vmbus_store_destroy(&disk.store);
}
END_TEST

static void tests(Suite *suite)
{
	TCase *tc = vmbus_test_case(suite, "processes", 100);

	tcase_add_loop_test(tc, pair__keeps_every_byte, 0, (int)(sizeof(kinds) / sizeof(kinds[0])));
}

VMBUS_TEST_MAIN("block.pair_shm", tests)
