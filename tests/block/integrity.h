/* SPDX-License-Identifier: MIT */
/*
 * Random requests on one range of a disk, each checked against a model: which sector was written how
 * often.  What a sector has is made from its number and that count, so a sector that is lost, torn,
 * swapped or old is seen.  Any number of them run at once, on ranges of their own.
 *
 *	integrity_start(&it)		with what is above "private" set; on the channel's thread
 *	integrity_more(&it)		from writable()
 *	it.finished			all is done; it.errors, it.wrong are 0 when all is well
 */
#ifndef TESTS_BLOCK_INTEGRITY_H
#define TESTS_BLOCK_INTEGRITY_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmbus/storvsc.h>

#define INTEGRITY_SLOTS 48u
#define INTEGRITY_PIECES 4u

enum integrity_op {
	INTEGRITY_READ,
	INTEGRITY_WRITE,
	INTEGRITY_FLUSH,
	INTEGRITY_DISCARD
};

struct integrity;

struct integrity_slot {
	struct vmbus_storvsc_req req;
	struct vmbus_storvsc_piece piece[INTEGRITY_PIECES];
	struct integrity *it;
	uint8_t *buf; /* of buf_bytes + a page, at a page's begin */
	enum integrity_op op;
	uint32_t first, count; /* sectors of the range */
	uint32_t version;
	uint64_t sector_in_buf; /* bytes before the first */
	bool busy;
	bool refused; /* filled in, and waits for room */
};

struct integrity {
	struct vmbus_storvsc *s;
	const struct vmbus_storvsc_disk *disk;
	uint32_t channel, channels; /* requests go to channel to channel + channels - 1 in turns */
	uint64_t first;		    /* sector of the range */
	uint32_t sectors;
	uint32_t count_max; /* sectors of one request */
	uint32_t depth;	    /* up to INTEGRITY_SLOTS */
	uint64_t total;	    /* requests */
	uint64_t seed;
	uint8_t *buffers; /* integrity_pages() pages */
	bool tolerate;	  /* count failed requests, and go on */
	/* Private, but for what is at the end. */
	uint32_t *version; /* of each sector; 0: zeroes */
	uint8_t *locked;
	struct integrity_slot slot[INTEGRITY_SLOTS];
	uint32_t next_version, turn, flying;
	uint64_t issued;
	uint64_t done, reads, writes, flushes, discards, bytes, errors, wrong, busy;
	bool finished;
};

static inline uint32_t integrity_slot_pages(const struct integrity *it)
{
	return (it->count_max * it->disk->sector + 4095u) / 4096u + 2u;
}

static inline uint32_t integrity_random(struct integrity *it)
{
	it->seed = it->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(it->seed >> 33);
}

static inline uint64_t integrity_word(const struct integrity *it, uint32_t sector, uint32_t version,
				      uint32_t i)
{
	return version ? ((it->first + sector) << 32 | version) * 0x9E3779B97F4A7C15ull +
				 i * 0x85EBCA6B77ull
		       : 0;
}

static inline void integrity_fill(const struct integrity *it, uint8_t *p, uint32_t sector,
				  uint32_t version)
{
	uint32_t i;

	for (i = 0; i < it->disk->sector / 8; i++) {
		const uint64_t v = integrity_word(it, sector, version, i);

		memcpy(p + i * 8, &v, 8);
	}
}

static inline bool integrity_is(const struct integrity *it, const uint8_t *p, uint32_t sector,
				uint32_t version)
{
	uint64_t differ = 0;
	uint32_t i;

	for (i = 0; i < it->disk->sector / 8; i++) {
		uint64_t v;

		memcpy(&v, p + i * 8, 8);
		differ |= v ^ integrity_word(it, sector, version, i);
	}
	return differ == 0;
}

static inline uint8_t *integrity_at(struct integrity_slot *slot, uint32_t i)
{
	return slot->buf + slot->sector_in_buf + (size_t)i * slot->it->disk->sector;
}

static inline void integrity_lock(struct integrity *it, const struct integrity_slot *slot, bool on)
{
	memset(it->locked + slot->first, on, slot->count);
}

/* A part of the range that no request is on.  Returns whether there is one. */
static inline bool integrity_choose(struct integrity *it, struct integrity_slot *slot)
{
	uint32_t tries, r, n;

	for (tries = 0; tries < 8; tries++) {
		r = integrity_random(it) % 4;
		n = r < 2 ? 4096u / it->disk->sector
			  : 1 + integrity_random(it) %
					    (r == 2 && it->count_max > 16 ? 16 : it->count_max);
		if (n > it->count_max)
			n = it->count_max;
		slot->first = integrity_random(it) % (it->sectors - n + 1);
		if (r == 0)
			slot->first -= slot->first % n;
		slot->count = n;
		if (!memchr(it->locked + slot->first, 1, n))
			return true;
	}
	return false;
}

/* The buffer in one to four pieces, at any offset. */
static inline void integrity_pieces(struct integrity *it, struct integrity_slot *slot)
{
	uint32_t left = slot->count * it->disk->sector, n = 0, at;
	const uint32_t wanted = 1 + integrity_random(it) % INTEGRITY_PIECES;

	at = integrity_random(it) % 2 ? 0 : integrity_random(it) % 512 * 8;
	slot->sector_in_buf = at;
	while (left) {
		uint32_t bytes = 4096 - at % 4096;

		bytes += integrity_random(it) % 4 * 4096;
		if (bytes > left || n + 1 == wanted)
			bytes = left;
		slot->piece[n].data = slot->buf + at;
		slot->piece[n++].bytes = bytes;
		at += bytes;
		left -= bytes;
	}
	slot->req.piece = slot->piece;
	slot->req.pieces = n;
}

static inline int integrity_prepare(struct integrity *it, struct integrity_slot *slot)
{
	const uint32_t r = integrity_random(it) % 100;
	const uint64_t first = it->first + slot->first;
	uint32_t i;

	slot->op = r < 50 ? INTEGRITY_READ : r < 92 ? INTEGRITY_WRITE : INTEGRITY_DISCARD;
	if (slot->op == INTEGRITY_DISCARD && !it->disk->discard_zeroes)
		slot->op = INTEGRITY_WRITE;
	if (slot->op == INTEGRITY_DISCARD) {
		slot->piece[0].data = slot->buf;
		slot->piece[0].bytes = 24;
		slot->req.piece = slot->piece;
		slot->req.pieces = 1;
		slot->version = 0;
		return vmbus_storvsc_discard(it->disk, &slot->req, first, slot->count);
	}
	integrity_pieces(it, slot);
	if (slot->op == INTEGRITY_READ) {
		memset(integrity_at(slot, 0), 0xEE, (size_t)slot->count * it->disk->sector);
		return vmbus_storvsc_read(it->disk, &slot->req, first, slot->count);
	}
	slot->version = ++it->next_version;
	for (i = 0; i < slot->count; i++)
		integrity_fill(it, integrity_at(slot, i), slot->first + i, slot->version);
	return vmbus_storvsc_write(it->disk, &slot->req, first, slot->count,
				   it->disk->fua && r % 8 == 0);
}

static inline void integrity_more(struct integrity *it);
static inline bool integrity_submit(struct integrity *it, struct integrity_slot *slot);

static inline void integrity_check(struct integrity *it, struct integrity_slot *slot)
{
	uint32_t i;

	for (i = 0; i < slot->count; i++) {
		const uint32_t sector = slot->first + i;

		if (slot->op != INTEGRITY_READ) {
			it->version[sector] = slot->version;
		} else if (!integrity_is(it, integrity_at(slot, i), sector, it->version[sector])) {
			if (it->wrong++ < 4)
				fprintf(stderr,
					"integrity: sector %llu of request %llu is not %u\n",
					(unsigned long long)(it->first + sector),
					(unsigned long long)it->done, it->version[sector]);
		}
	}
}

static inline void integrity_done(struct vmbus_storvsc_req *req)
{
	struct integrity_slot *const slot = req->ctx;
	struct integrity *const it = slot->it;

	it->flying--;
	if (req->err == VMBUS_E_RANGE && (req->scsi_status == 0x08 || req->scsi_status == 0x28)) {
		it->busy++; /* not now: once more, as it is */
		req->want_p = req->expect_p;
		(void)integrity_submit(it, slot);
		return;
	}
	slot->busy = false;
	it->done++;
	if (req->err) {
		it->errors++;
		if (!it->tolerate && it->errors < 4)
			fprintf(stderr,
				"integrity: op %d, err %d, srb %02x, status %02x, sense %02x %02x "
				"%02x\n",
				slot->op, req->err, req->srb_status, req->scsi_status,
				req->sense[2], req->sense[12], req->sense[13]);
	} else if (slot->op != INTEGRITY_FLUSH) {
		integrity_check(it, slot);
		it->bytes += (uint64_t)slot->count * it->disk->sector;
	}
	it->reads += slot->op == INTEGRITY_READ;
	it->writes += slot->op == INTEGRITY_WRITE;
	it->flushes += slot->op == INTEGRITY_FLUSH;
	it->discards += slot->op == INTEGRITY_DISCARD;
	if (slot->op != INTEGRITY_FLUSH)
		integrity_lock(it, slot, false);
	integrity_more(it);
}

/* Returns whether it is on its way. */
static inline bool integrity_submit(struct integrity *it, struct integrity_slot *slot)
{
	const int err =
		vmbus_storvsc_submit(it->s, it->channel + it->turn % it->channels, &slot->req);

	it->turn++;
	slot->refused = err == VMBUS_E_FULL;
	if (!err) {
		it->flying++;
		return true;
	}
	if (err != VMBUS_E_FULL) {
		it->errors++;
		it->issued = it->total; /* the end of it */
		slot->busy = false;
	}
	return false;
}

static inline bool integrity_begin(struct integrity *it, struct integrity_slot *slot)
{
	memset(&slot->req, 0, sizeof(slot->req));
	slot->req.done = integrity_done;
	slot->req.ctx = slot;
	slot->busy = true;
	it->issued++;
	if (integrity_random(it) % 64 && integrity_choose(it, slot)) {
		if (integrity_prepare(it, slot)) {
			it->errors++;
			it->issued = it->total;
			slot->busy = false;
			return false;
		}
		integrity_lock(it, slot, true);
	} else {
		slot->op = INTEGRITY_FLUSH;
		(void)vmbus_storvsc_flush(it->disk, &slot->req);
	}
	return integrity_submit(it, slot);
}

static inline void integrity_more(struct integrity *it)
{
	uint32_t i;

	for (i = 0; i < it->depth; i++) {
		struct integrity_slot *const slot = &it->slot[i];

		if (slot->busy && slot->refused) {
			if (!integrity_submit(it, slot) && slot->refused)
				return;
		} else if (!slot->busy && it->issued < it->total) {
			if (!integrity_begin(it, slot) && slot->refused)
				return;
		}
	}
	if (it->issued >= it->total && it->flying == 0)
		it->finished = true;
}

static inline bool integrity_start(struct integrity *it)
{
	uint32_t i;

	it->version = calloc(it->sectors, sizeof(*it->version));
	it->locked = calloc(it->sectors, 1);
	if (!it->version || !it->locked)
		return false;
	for (i = 0; i < it->depth; i++) {
		it->slot[i].it = it;
		it->slot[i].buf = it->buffers + (size_t)i * integrity_slot_pages(it) * 4096u;
	}
	integrity_more(it);
	return true;
}

static inline void integrity_free(struct integrity *it)
{
	free(it->version);
	free(it->locked);
	it->version = NULL;
	it->locked = NULL;
}

#endif
