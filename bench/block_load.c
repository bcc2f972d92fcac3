/* SPDX-License-Identifier: MIT */
/*
 * The load: so many requests under way from one thread, all alike, at random or one behind the other;
 * what is read is compared with what was written last.  The same for every subject.
 */
#include "block.h"

#include "run.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOK_EVERY 64u	 /* requests between two looks at the clock */
#define LOOK_EMPTY 1024u /* turns in which nothing ended, for the same */
#define FILL_DEPTH 8u

struct block_load {
	struct block_work work;
	struct block_req req[BLOCK_DEPTH_MAX];
	uint64_t begun[BLOCK_DEPTH_MAX]; /* ticks */
	uint32_t slot[BLOCK_DEPTH_MAX];	 /* that are free */
	uint32_t free;
	uint32_t in_flight;
	uint64_t ended;
	uint64_t next;	 /* block of the next request, one behind the other */
	uint64_t random; /* state, not 0 */
	uint64_t limit;	 /* requests after which nothing is begun; 0: none */
	uint64_t started;
	uint32_t failed, wrong;
	bool timed;   /* requests are, one under way at a time */
	bool measure; /* times count */
	bool over;
	struct hist hist;
};

int block_fail(struct block_disk *disk, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(disk->why, sizeof(disk->why), fmt, ap);
	va_end(ap);
	return -1;
}

static uint64_t stamp_of(const struct block_disk *disk, uint64_t block)
{
	return (block + 1) << 8 | disk->generation[block];
}

/* Each block has its stamp at its first and at its last 8 bytes. */
static void stamp(struct block_disk *disk, uint8_t *p, const struct block_req *req)
{
	uint64_t block = req->offset / BLOCK_BYTES;

	for (uint32_t at = 0; at < req->bytes; at += BLOCK_BYTES, block++) {
		uint64_t v;

		if (!++disk->generation[block])
			disk->generation[block] = 1;
		v = stamp_of(disk, block);
		memcpy(p + at, &v, sizeof(v));
		memcpy(p + at + BLOCK_BYTES - sizeof(v), &v, sizeof(v));
	}
}

static bool is_as_written(const struct block_disk *disk, const uint8_t *p,
			  const struct block_req *req)
{
	uint64_t block = req->offset / BLOCK_BYTES, bad = 0;

	for (uint32_t at = 0; at < req->bytes; at += BLOCK_BYTES, block++) {
		const uint64_t want = stamp_of(disk, block);
		uint64_t first, last;

		memcpy(&first, p + at, sizeof(first));
		memcpy(&last, p + at + BLOCK_BYTES - sizeof(last), sizeof(last));
		bad |= (first ^ want) | (last ^ want);
	}
	return !bad;
}

static bool is_busy(const struct block_load *load, uint64_t offset)
{
	if (!load->work.random || load->work.depth == 1)
		return false;
	for (uint32_t i = 0; i < load->work.depth; i++)
		if (load->req[i].offset == offset)
			return true;
	return false;
}

/* The next request; two that overlap are never under way together. */
static void choose(const struct block_disk *disk, struct block_load *load, struct block_req *req)
{
	const uint64_t count = disk->bytes / load->work.bytes;
	uint64_t offset;

	do {
		if (load->work.random) {
			load->random ^= load->random << 13;
			load->random ^= load->random >> 7;
			load->random ^= load->random << 17;
			offset = (load->random >> 32) * count >> 32;
		} else {
			offset = load->next;
			load->next = load->next + 1 == count ? 0 : load->next + 1;
		}
		offset *= load->work.bytes;
	} while (is_busy(load, offset));
	req->offset = offset;
	req->bytes = load->work.bytes;
	req->write = load->work.write;
}

/* Begin as many as may be under way. */
static void fill(struct block_disk *disk, struct block_load *load)
{
	while (load->free && !load->over) {
		const uint32_t slot = load->slot[load->free - 1];
		struct block_req *const req = &load->req[slot];

		choose(disk, load, req);
		if (req->write && disk->subject->keeps)
			stamp(disk, block_slot(disk, slot), req);
		load->free--;
		load->in_flight++;
		if (load->timed)
			load->begun[slot] = ticks();
		if (disk->subject->submit(disk, slot, req)) {
			/* The stamp's generation has gone on, and what is there is older. */
			load->failed++;
			load->free++;
			load->in_flight--;
			load->over = true;
		}
		load->over = load->over || ++load->started == load->limit;
	}
}

void block_ended(struct block_disk *disk, uint32_t slot, bool good)
{
	struct block_load *const load = disk->load;
	struct block_req *const req = &load->req[slot];

	if (load->measure)
		hist_add(&load->hist, ticks() - load->begun[slot]);
	if (!good)
		load->failed++;
	else if (!req->write && disk->subject->keeps &&
		 !is_as_written(disk, block_slot(disk, slot), req))
		load->wrong++;
	req->offset = UINT64_MAX;
	load->slot[load->free++] = slot;
	load->in_flight--;
	load->ended++;
}

static void load_begin(struct block_disk *disk, const struct block_work *work)
{
	struct block_load *const load = disk->load;
	const uint64_t next = load->work.bytes == work->bytes ? load->next : 0;

	memset(load, 0, sizeof(*load));
	load->work = *work;
	load->timed = work->depth == 1;
	load->next = next;
	load->random = ticks() | 1;
	for (uint32_t i = 0; i < work->depth; i++) {
		load->slot[load->free++] = work->depth - 1 - i;
		load->req[i].offset = UINT64_MAX;
	}
}

/* Until the time has come, or the limit, or nothing moves.  False: it does not go on. */
static bool load_until(struct block_disk *disk, uint64_t until)
{
	struct block_load *const load = disk->load;
	uint64_t look_at = load->ended + LOOK_EVERY, last = now_ns(), seen = load->ended;
	uint32_t empty = 0;

	while (!load->failed && (load->in_flight || !load->over)) {
		const uint64_t before = load->ended;
		uint64_t now;

		fill(disk, load);
		if (disk->subject->turn(disk)) {
			load->failed++;
			return false;
		}
		if (load->ended == before) {
			relax();
			if (!disk->subject->sleeps && ++empty < LOOK_EMPTY)
				continue;
		} else if (load->ended < look_at) {
			continue;
		}
		empty = 0;
		look_at = load->ended + LOOK_EVERY;
		now = now_ns();
		if (load->ended != seen)
			last = now;
		seen = load->ended;
		if (now >= until)
			return true;
		if (now - last > BLOCK_WAIT_NS)
			return false;
	}
	return !load->failed;
}

/* What is under way ends.  False: it does not. */
static bool load_end(struct block_disk *disk)
{
	disk->load->over = true;
	return load_until(disk, UINT64_MAX);
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts = { 0, 0 };

	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t server_ns(const struct block_disk *disk)
{
	clockid_t id;

	return disk->server && clock_getcpuclockid(disk->server, &id) == 0 ? clock_ns(id) : 0;
}

static const char *error_of(const struct block_load *load, bool moves)
{
	return load->failed  ? "a request failed"
	       : load->wrong ? "what was read is not what was written"
	       : !moves	     ? "stalled"
			     : NULL;
}

void block_run(struct block_disk *disk, const struct block_work *work, uint32_t us,
	       struct block_outcome *out)
{
	struct block_load *const load = disk->load;
	uint64_t from, mine, server, ended, took;
	bool moves;

	memset(out, 0, sizeof(*out));
	load_begin(disk, work);
	moves = load_until(disk, now_ns() + us * 250u);
	load->measure = load->timed;
	from = now_ns();
	mine = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	server = server_ns(disk);
	ended = load->ended;
	moves = moves && load_until(disk, from + us * 1000u);
	took = now_ns() - from;
	mine = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - mine;
	server = server_ns(disk) - server;
	ended = load->ended - ended;
	load->measure = false;
	moves = moves && load_end(disk);
	out->error = error_of(load, moves);
	if (out->error || !ended)
		return;
	out->per_s = (double)ended * 1e9 / (double)took;
	out->cpu_ns = (double)(mine + server) / (double)ended;
	if (load->hist.count) {
		out->p50 = hist_percentile(&load->hist, 0.5) / ticks_per_ns();
		out->p99 = hist_percentile(&load->hist, 0.99) / ticks_per_ns();
	}
	out->on_cpu = disk->subject->sleeps ? 1 : (double)mine / (double)took;
	if (disk->subject->spins && (double)server < out->on_cpu * (double)took)
		out->on_cpu = (double)server / (double)took;
}

/* Write all of it once: memory is there afterwards, and every block has a stamp. */
static int write_all(struct block_disk *disk)
{
	const uint32_t most = disk->subject->depth_max ? disk->subject->depth_max : FILL_DEPTH;
	const struct block_work work = { "fill", BLOCK_REQUEST_MAX,
					 most < FILL_DEPTH ? most : FILL_DEPTH, true, false };
	bool moves;

	disk->generation = must_alloc(disk->bytes / BLOCK_BYTES);
	memset(disk->generation, 0, disk->bytes / BLOCK_BYTES);
	memset(disk->buf, 0x5a, BLOCK_BUF_BYTES);
	load_begin(disk, &work);
	disk->load->limit = disk->bytes / work.bytes;
	moves = load_until(disk, UINT64_MAX);
	if (error_of(disk->load, moves))
		return block_fail(disk, "filling the disk: %s", error_of(disk->load, moves));
	return 0;
}

int block_open(struct block_disk *disk)
{
	disk->load = must_alloc(sizeof(*disk->load));
	memset(disk->load, 0, sizeof(*disk->load));
	if (disk->subject->open(disk)) {
		free(disk->load);
		disk->load = NULL;
		return -1;
	}
	if (write_all(disk)) {
		block_close(disk);
		return -1;
	}
	block_server_stop(disk);
	return 0;
}

void block_close(struct block_disk *disk)
{
	if (!disk->load)
		return;
	block_server_go(disk);
	disk->subject->close(disk);
	free(disk->generation);
	free(disk->load);
	disk->load = NULL;
}
