/* SPDX-License-Identifier: MIT */
/*
 * Requests of many threads on one connection.  A thread takes a free slot, copies what it writes into
 * the slot's buffer, puts the slot into the list of new ones and sleeps on the slot.  The engine's
 * thread submits what is in the list; done() wakes the sleeper, who copies out what it read.
 */
#define _GNU_SOURCE
#include "blk_engine.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define BUDGET 256u
#define RETRIES 8u /* without a pause between them */
#define PAUSE_MS 5u
#define AGAIN_NS UINT64_C(30000000000) /* a disk that is busy for longer fails */
#define SCSI_CHECK_CONDITION 0x02u
#define SCSI_BUSY 0x08u
#define SCSI_TASK_SET_FULL 0x28u
#define SRB_STATUS 0x3Fu
#define SRB_INVALID_LUN 0x20u
#define SENSE_DATA_PROTECT 7u
#define SENSE_UNIT_ATTENTION 6u
#define ASC_SPACE 0x27u
#define ASCQ_SPACE 0x07u

struct slot {
	struct vmbus_storvsc_req req;
	struct vmbus_storvsc_piece piece;
	struct blk_engine *engine;
	struct slot *next; /* in the list of free ones, or of new ones */
	pthread_cond_t cond;
	uint8_t *buffer;
	enum blk_engine_kind kind;
	uint64_t sector;
	uint32_t sectors, tries, channel;
	uint64_t until_ns; /* it is sent again; 0: it was not yet */
	int err;	   /* an errno */
	bool fua, finished;
};

struct blk_engine {
	struct blk_client client;
	struct slot *slots;
	uint32_t slot_count;
	int wake_fd;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t has_free;
	struct slot *free, *first, *last; /* new ones, in their order */
	bool stop, gone;
	/* The thread's. */
	bool swapped;	    /* the disk went, and what is at its address now is another */
	struct slot *later; /* sent again after a pause */
	uint64_t later_ns;
};

static void done(struct vmbus_storvsc_req *req);

static int errno_of(const struct vmbus_storvsc_req *req)
{
	const uint8_t key = req->sense_bytes > 2 ? req->sense[2] & 15u : 0;

	if (req->err == 0)
		return 0;
	if (req->err == VMBUS_E_PEER)
		return ESHUTDOWN;
	if (key != SENSE_DATA_PROTECT)
		return EIO;
	return req->sense_bytes > 13 && req->sense[12] == ASC_SPACE && req->sense[13] == ASCQ_SPACE
		       ? ENOSPC
		       : EPERM;
}

static bool wants_again(const struct vmbus_storvsc_req *req)
{
	if (req->err != VMBUS_E_RANGE)
		return false;
	return req->scsi_status == SCSI_BUSY || req->scsi_status == SCSI_TASK_SET_FULL ||
	       (req->scsi_status == SCSI_CHECK_CONDITION && req->sense_bytes > 2 &&
		(req->sense[2] & 15u) == SENSE_UNIT_ATTENTION);
}

static int fill_in(struct slot *s)
{
	const struct vmbus_storvsc_disk *const disk = &s->engine->client.disk;

	memset(&s->req, 0, sizeof(s->req));
	s->req.done = done;
	s->req.ctx = s;
	if (s->kind == BLK_ENGINE_FLUSH)
		return vmbus_storvsc_flush(disk, &s->req);
	s->piece.data = s->buffer;
	s->piece.bytes = s->kind == BLK_ENGINE_TRIM ? 24 : s->sectors * disk->sector;
	s->req.piece = &s->piece;
	s->req.pieces = 1;
	if (s->kind == BLK_ENGINE_TRIM)
		return vmbus_storvsc_discard(disk, &s->req, s->sector, s->sectors);
	if (s->kind == BLK_ENGINE_READ)
		return vmbus_storvsc_read(disk, &s->req, s->sector, s->sectors);
	return vmbus_storvsc_write(disk, &s->req, s->sector, s->sectors, s->fua);
}

static void finish(struct slot *s, int err)
{
	pthread_mutex_lock(&s->engine->lock);
	s->err = err;
	s->finished = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->engine->lock);
}

/* A channel that ended or broke; others may be alive. */
static bool is_dead(int err)
{
	return err == VMBUS_E_STATE || err == VMBUS_E_FAULT || err == VMBUS_E_PEER;
}

/* By the slot's channel, or else by the next that is alive, which is the slot's from then on. */
static int send(struct slot *s)
{
	struct blk_client *const c = &s->engine->client;
	int err = vmbus_storvsc_submit(&c->storvsc, s->channel, &s->req);
	uint32_t i;

	for (i = 1; i < c->channels && is_dead(err); i++) {
		s->channel = s->channel + 1 < c->channels ? s->channel + 1 : 0;
		err = vmbus_storvsc_submit(&c->storvsc, s->channel, &s->req);
	}
	return err;
}

/* false: there is no room now. */
static bool submit(struct slot *s)
{
	int err = s->engine->swapped ? VMBUS_E_PEER : fill_in(s);

	if (!err)
		err = send(s);
	if (err == VMBUS_E_FULL)
		return false;
	if (err)
		finish(s, err == VMBUS_E_PERM ? EPERM : is_dead(err) ? ESHUTDOWN : EIO);
	return true;
}

static void put_back(struct slot *s)
{
	struct blk_engine *const e = s->engine;

	pthread_mutex_lock(&e->lock);
	s->next = e->first;
	e->first = s;
	if (!e->last)
		e->last = s;
	pthread_mutex_unlock(&e->lock);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A disk that is busy is asked again at once, then with pauses, and not for ever. */
static void again(struct slot *s)
{
	struct blk_engine *const e = s->engine;
	const uint64_t now = now_ns();

	if (!s->until_ns)
		s->until_ns = now + AGAIN_NS;
	if (s->tries++ < RETRIES) {
		if (!submit(s))
			put_back(s);
	} else if (now >= s->until_ns) {
		finish(s, EIO);
	} else {
		if (!e->later)
			e->later_ns = now + PAUSE_MS * UINT64_C(1000000);
		s->next = e->later;
		e->later = s;
	}
}

static void send_later(struct blk_engine *e)
{
	struct slot *s = e->later;

	if (!s || now_ns() < e->later_ns)
		return;
	e->later = NULL;
	while (s) {
		struct slot *const next = s->next;

		put_back(s); /* submit_new() follows */
		s = next;
	}
}

static void done(struct vmbus_storvsc_req *req)
{
	struct slot *const s = req->ctx;

	if (req->err == VMBUS_E_RANGE && (req->srb_status & SRB_STATUS) == SRB_INVALID_LUN) {
		s->engine->swapped = true;
		finish(s, ESHUTDOWN);
	} else if (wants_again(req)) {
		again(s);
	} else {
		finish(s, errno_of(req));
	}
}

static struct slot *take_new(struct blk_engine *e)
{
	struct slot *s;

	pthread_mutex_lock(&e->lock);
	s = e->first;
	if (s) {
		e->first = s->next;
		if (!e->first)
			e->last = NULL;
	}
	pthread_mutex_unlock(&e->lock);
	return s;
}

/* What is new goes to the channels, which are told of it together.  One that has ended is none. */
static void submit_new(struct blk_engine *e)
{
	struct vmbus_vsc *vsc;
	struct slot *s;
	uint32_t i;

	for (i = 0; i < e->client.channels; i++) {
		vsc = vmbus_storvsc_channel(&e->client.storvsc, i);
		if (vsc)
			(void)vmbus_vsc_hold(vsc);
	}
	while ((s = take_new(e)))
		if (!submit(s)) {
			put_back(s);
			break;
		}
	for (i = 0; i < e->client.channels; i++) {
		vsc = vmbus_storvsc_channel(&e->client.storvsc, i);
		if (vsc)
			(void)vmbus_vsc_flush(vsc);
	}
}

/*
 * Nobody answers any more: not those that are new, not those that are under way, whose channels may not
 * have ended yet, and not those that come.  What ends a request later is blk_engine_stop(): then nobody
 * waits for it.
 */
static void all_gone(struct blk_engine *e)
{
	uint32_t i;

	pthread_mutex_lock(&e->lock);
	e->gone = true;
	e->first = e->last = NULL;
	for (i = 0; i < e->slot_count; i++) {
		struct slot *const s = &e->slots[i];

		if (s->finished)
			continue;
		s->err = ESHUTDOWN;
		s->finished = true;
		pthread_cond_signal(&s->cond);
	}
	pthread_mutex_unlock(&e->lock);
}

static void *run(void *arg)
{
	struct blk_engine *const e = arg;
	struct pollfd p[2] = { { .fd = vmbus_shm_attach_fd(e->client.attach), .events = POLLIN },
			       { .fd = e->wake_fd, .events = POLLIN } };
	bool stop = false;
	uint64_t count;
	int err;

	while (!stop) {
		send_later(e);
		submit_new(e);
		err = blk_client_turn(&e->client, 0);
		if (err == VMBUS_E_PEER)
			break;
		if (err > 0)
			continue;
		(void)poll(p, 2, e->later ? (int)PAUSE_MS : -1);
		if (p[1].revents && read(e->wake_fd, &count, sizeof(count)) < 0)
			continue;
		pthread_mutex_lock(&e->lock);
		stop = e->stop;
		pthread_mutex_unlock(&e->lock);
	}
	all_gone(e);
	return NULL;
}

static int make_slots(struct blk_engine *e)
{
	uint32_t i;

	e->slot_count = e->client.channels * e->client.opts.depth;
	e->slots = calloc(e->slot_count, sizeof(*e->slots));
	for (i = 0; e->slots && i < e->slot_count; i++) {
		struct slot *const s = &e->slots[i];

		s->engine = e;
		s->channel = i % e->client.channels;
		pthread_cond_init(&s->cond, NULL);
		s->buffer = vmbus_guest_pages(e->client.guest, BLK_ENGINE_CHUNK / VMBUS_PAGE_BYTES);
		if (!s->buffer)
			return -1;
		s->next = e->free;
		e->free = s;
	}
	return e->slots ? 0 : -1;
}

static int start_thread(struct blk_engine *e)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&e->thread, NULL, run, e);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

int blk_engine_start(struct blk_engine **engine, const struct blk_client_opts *opts, char *why,
		     size_t why_bytes)
{
	struct blk_engine *const e = calloc(1, sizeof(*e));
	struct blk_client_opts with = *opts;

	*engine = NULL;
	if (!e)
		return -1;
	with.memory_bytes =
		16 * MIB + opts->channels * (MIB + (uint64_t)opts->depth * BLK_ENGINE_CHUNK);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->has_free, NULL);
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->wake_fd >= 0 && blk_client_open(&e->client, &with, why, why_bytes) == 0) {
		if (make_slots(e) == 0 && start_thread(e) == 0) {
			*engine = e;
			return 0;
		}
		(void)snprintf(why, why_bytes, "no memory, or no thread");
		blk_client_close(&e->client);
	}
	if (e->wake_fd >= 0)
		close(e->wake_fd);
	free(e->slots);
	free(e);
	return -1;
}

static void wake(const struct blk_engine *e)
{
	const uint64_t one = 1;

	if (write(e->wake_fd, &one, sizeof(one)) < 0)
		return; /* it is full of wake-ups */
}

void blk_engine_stop(struct blk_engine *e)
{
	if (!e)
		return;
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_mutex_unlock(&e->lock);
	wake(e);
	pthread_join(e->thread, NULL);
	blk_client_close(&e->client);
	close(e->wake_fd);
	free(e->slots);
	free(e);
}

const struct vmbus_storvsc_disk *blk_engine_disk(const struct blk_engine *e)
{
	return &e->client.disk;
}

static struct slot *take_free(struct blk_engine *e)
{
	struct slot *s;

	pthread_mutex_lock(&e->lock);
	while (!e->free)
		pthread_cond_wait(&e->has_free, &e->lock);
	s = e->free;
	e->free = s->next;
	pthread_mutex_unlock(&e->lock);
	s->tries = 0;
	s->until_ns = 0;
	return s;
}

static void give_back(struct slot *s)
{
	struct blk_engine *const e = s->engine;

	pthread_mutex_lock(&e->lock);
	s->next = e->free;
	e->free = s;
	pthread_cond_signal(&e->has_free);
	pthread_mutex_unlock(&e->lock);
}

/* Put it into the list and sleep until it is done. */
static int run_slot(struct slot *s)
{
	struct blk_engine *const e = s->engine;
	bool first;

	pthread_mutex_lock(&e->lock);
	if (e->gone) {
		pthread_mutex_unlock(&e->lock);
		return ESHUTDOWN;
	}
	s->finished = false;
	s->next = NULL;
	first = !e->first;
	if (first)
		e->first = s;
	else
		e->last->next = s;
	e->last = s;
	if (first)
		wake(e);
	while (!s->finished)
		pthread_cond_wait(&s->cond, &e->lock);
	pthread_mutex_unlock(&e->lock);
	return s->err;
}

/* As much as one request may have. */
static uint64_t chunk(const struct blk_engine *e, enum blk_engine_kind kind, uint64_t left)
{
	const struct vmbus_storvsc_disk *const disk = &e->client.disk;
	uint64_t most = e->client.storvsc.transfer_bytes;

	if (most > BLK_ENGINE_CHUNK)
		most = BLK_ENGINE_CHUNK;
	if (kind == BLK_ENGINE_TRIM)
		most = (uint64_t)disk->discard_max * disk->sector;
	return left < most ? left : most;
}

int blk_engine_do(struct blk_engine *e, enum blk_engine_kind kind, void *data, uint64_t bytes,
		  uint64_t offset, bool fua)
{
	const uint32_t sector = e->client.disk.sector;
	uint8_t *at = data;
	struct slot *s;
	uint64_t n;
	int err = 0;

	if (bytes % sector || offset % sector)
		return EINVAL;
	do {
		n = chunk(e, kind, bytes);
		s = take_free(e);
		s->kind = kind;
		s->fua = fua;
		s->sector = offset / sector;
		s->sectors = (uint32_t)(n / sector);
		if (kind == BLK_ENGINE_WRITE)
			memcpy(s->buffer, at, n);
		err = run_slot(s);
		if (!err && kind == BLK_ENGINE_READ)
			memcpy(at, s->buffer, n);
		give_back(s);
		at = at ? at + n : at;
		offset += n;
		bytes -= n;
	} while (bytes && !err);
	return err;
}
