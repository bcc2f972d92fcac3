/* SPDX-License-Identifier: MIT */
/*
 * A controller: its disks, and what the embedder may do with them while guests use it.  Whatever
 * changes is changed with the lock, counted, and told to every channel by its descriptor; the
 * channels take it up on their own threads, and the last one that lets go of a disk frees it.
 */
#include "block/vsp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "block/scsi_cmd.h"

#define DEPTH 256u
#define DEPTH_MAX 1024u
#define REQUESTS 1024u
#define TRANSFER (1u << 20)
#define TRANSFER_MAX (8u << 20)
#define LINES_MAX 10u /* of the log in a second */
#define LINE_BYTES 200u

void vmbus__block_log(struct vmbus_block *block, const char *format, ...)
{
	char line[LINE_BYTES];
	struct timespec now;
	bool drop;
	va_list args;

	if (!block->opts.log)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&block->lock);
	if (block->log_second != (uint64_t)now.tv_sec) {
		block->log_second = (uint64_t)now.tv_sec;
		block->log_lines = 0;
	}
	drop = block->log_lines++ >= LINES_MAX;
	pthread_mutex_unlock(&block->lock);
	if (drop)
		return;
	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	block->opts.log(block->opts.ctx, line);
}

/* ---- life ---- */

/* A field that is refused: the log says which, and what it may be. */
static bool is_past(struct vmbus_block *block, const char *field, uint32_t value, uint32_t most)
{
	if (value <= most)
		return false;
	vmbus__block_log(block, "the controller cannot be made: %s is %u, and may be up to %u",
			 field, value, most);
	return true;
}

static int take_opts(struct vmbus_block *block, const struct vmbus_block_opts *from)
{
	struct vmbus_block_opts *const to = &block->opts;

	*to = (struct vmbus_block_opts){ .struct_bytes = sizeof(*to) };
	if (from && from->struct_bytes < sizeof(*from))
		return VMBUS_E_INVAL;
	if (from)
		*to = *from;
	if (!to->depth)
		to->depth = DEPTH;
	if (!to->requests)
		to->requests = REQUESTS;
	if (!to->transfer_bytes)
		to->transfer_bytes = TRANSFER;
	if (is_past(block, "subchannels", to->subchannels, VMBUS__SUBS_MAX) ||
	    is_past(block, "depth", to->depth, DEPTH_MAX) ||
	    is_past(block, "requests", to->requests, VMBUS__REQUESTS_MAX) ||
	    is_past(block, "transfer_bytes", to->transfer_bytes, TRANSFER_MAX))
		return VMBUS_E_RANGE;
	if (to->transfer_bytes % VMBUS_PAGE_BYTES == 0)
		return 0;
	vmbus__block_log(block,
			 "the controller cannot be made: transfer_bytes is %u, and has to be a "
			 "multiple of %u",
			 to->transfer_bytes, VMBUS_PAGE_BYTES);
	return VMBUS_E_RANGE;
}

int vmbus_block_create(const struct vmbus_block_opts *opts, struct vmbus_block **made)
{
	struct vmbus_block *const block = calloc(1, sizeof(*block));
	int err;

	if (!block)
		return VMBUS_E_NOMEM;
	if (pthread_mutex_init(&block->lock, NULL)) {
		free(block);
		return VMBUS_E_SYSTEM;
	}
	(void)pthread_mutex_init(&block->asking, NULL);
	err = take_opts(block, opts);
	if (err) {
		vmbus_block_destroy(block);
		return err;
	}
	block->number = 1;
	*made = block;
	return 0;
}

void vmbus_block_destroy(struct vmbus_block *block)
{
	uint32_t t, l;

	if (!block)
		return;
	for (t = 0; t < VMBUS__TARGETS; t++)
		for (l = 0; l < VMBUS__LUNS; l++)
			(void)vmbus_block_remove(block, (uint8_t)t, (uint8_t)l);
	(void)pthread_mutex_destroy(&block->asking);
	(void)pthread_mutex_destroy(&block->lock);
	free(block);
}

/* ---- channels are told ---- */

/* The thread of the port, or any other with the lock. */
void vmbus__port_wake(struct vmbus__port *port)
{
	const uint64_t one = 1;

	vmbus__st32_relaxed(&port->look, 1); /* BLOCKLIST.tell */
	(void)!write(port->event_fd, &one, sizeof(one));
}

/* Lock: the list is another one, or a disk in it; attention for its guests, or 0.  What a guest was not
   told of a disk that is gone is no attention for the one that comes after it. */
static void changed(struct vmbus_block *block, uint8_t target, uint8_t lun, uint64_t attention)
{
	vmbus__a64 *const number = vmbus__as_a64(&block->number);
	struct vmbus__nexus *nexus;
	struct vmbus__port *port;

	vmbus__st64_relaxed(number, vmbus__ld64_relaxed(number) + 1u); /* BLOCKLIST.tell */
	for (nexus = block->nexuses; nexus; nexus = nexus->next) {
		vmbus__a64 *const word = vmbus__as_a64(&nexus->ua[target][lun]);

		if (attention == VMBUS__UA_LEFT)
			vmbus__st64_relaxed(word, attention); /* UNITATT.set */
		else if (attention)
			(void)vmbus__or64_release(word, attention); /* UNITATT.set */
		vmbus__st32_relaxed(&nexus->tell, 1);		    /* BLOCKLIST.tell */
	}
	for (port = block->ports; port; port = port->next)
		vmbus__port_wake(port);
}

/* Who a disk is, and where, never 0: address 9 below a bit that is 1, a number for its id 22. */
uint32_t vmbus__disk_who(const struct vmbus__disk *disk)
{
	const uint32_t address = (uint32_t)disk->target << 8 | disk->lun;
	uint64_t h = UINT64_MAX;
	uint32_t i;

	for (i = 0; i < sizeof(disk->id.b); i++)
		h = vmbus__block_mix(h, disk->id.b[i], 1);
	return 1u << 31 | address << VMBUS__WHO_BITS | (uint32_t)(h >> (64u - VMBUS__WHO_BITS));
}

/* What a guest is told of a disk beside its size, and does not ask again by itself. */
static uint64_t mix_limits(uint64_t h, const struct vmbus__disk *disk)
{
	const struct vmbus_store_ops *const ops = disk->store.ops;

	h = vmbus__block_mix(h, disk->info.flags, 4);
	h = vmbus__block_mix(h, disk->write_through, 1);
	h = vmbus__block_mix(h, ops->flush != NULL, 1);
	h = vmbus__block_mix(h, ops->discard != NULL, 1);
	h = vmbus__block_mix(h, disk->info.discard_bytes, 4);
	h = vmbus__block_mix(h, disk->info.block_bytes, 4);
	/* Earlier versions told of no limit, and what exceeds it fails. */
	if (vmbus__disk_discards(disk))
		h = vmbus__block_mix(h, VMBUS__SCSI_UNMAP_BYTES, 4);
	return vmbus__block_mix(h, disk->transfer_bytes, 4);
}

void vmbus__block_known(struct vmbus_block *block, struct vmbus__known *known)
{
	uint64_t h = UINT64_MAX, ids = UINT64_MAX;
	uint32_t t, l, n = 0;

	memset(known, 0, sizeof(*known));
	pthread_mutex_lock(&block->lock);
	for (t = 0; t < VMBUS__TARGETS; t++)
		for (l = 0; l < VMBUS__LUNS; l++) {
			const struct vmbus__unit *const unit = block->place[t][l].unit;
			uint64_t bytes;
			uint32_t who;

			if (!unit)
				continue;
			who = vmbus__disk_who(&unit->disk);
			if (n < VMBUS__WHO)
				known->who[n++] = who;
			ids = mix_limits(vmbus__block_mix(ids, who, 4), &unit->disk);
			bytes = vmbus__ld64_relaxed(
				vmbus__as_a64c(&unit->disk.bytes)); /* DISKSIZE.read */
			h = vmbus__block_mix(h, t << 8 | l, 2);
			h = vmbus__block_mix(h, bytes, 8);
			h = vmbus__block_mix(h, unit->disk.sector_shift, 1);
			h = vmbus__block_mix(h, unit->disk.read_only, 1);
		}
	pthread_mutex_unlock(&block->lock);
	known->shapes = h ? h : 1;
	h = vmbus__block_mix(h, ids, 8);
	known->number = h ? h : 1;
}

/* ---- disks ---- */

/* A view of it was closed, or its address has let go of it. */
void vmbus__unit_put(struct vmbus_block *block, struct vmbus__unit *unit)
{
	struct vmbus__place *const place = unit->place;
	const struct vmbus__disk *const disk = &unit->disk;
	bool last, left;

	pthread_mutex_lock(&block->lock);
	last = --unit->refs == 0;
	left = last && place->leaving && place->alive == 1;
	if (last && !left)
		place->alive--;
	pthread_mutex_unlock(&block->lock);
	if (left) {
		/* The address is taken until the embedder knows. */
		if (block->opts.removed)
			block->opts.removed(block->opts.ctx, disk->target, disk->lun, &disk->store);
		pthread_mutex_lock(&block->lock);
		place->leaving = false;
		place->alive--;
		pthread_mutex_unlock(&block->lock);
	}
	if (last)
		free(unit);
}

static struct vmbus__place *place_of(const struct vmbus_block *block, uint8_t target, uint8_t lun)
{
	return target < VMBUS__TARGETS ? (struct vmbus__place *)&block->place[target][lun] : NULL;
}

/* Lock. */
static void put_at(struct vmbus__place *place, struct vmbus__unit *unit)
{
	unit->place = place;
	unit->refs = 1;
	place->unit = unit;
	place->alive++;
}

int vmbus_block_add(struct vmbus_block *block, const struct vmbus_block_disk *disk)
{
	struct vmbus__place *place;
	char why[VMBUS__WHY_BYTES];
	struct vmbus__unit *unit;
	int err;

	if (disk->struct_bytes < sizeof(*disk)) {
		vmbus__block_log(block,
				 "a disk cannot be added: struct_bytes is %zu, and has to be at "
				 "least %zu",
				 disk->struct_bytes, sizeof(*disk));
		return VMBUS_E_INVAL;
	}
	unit = calloc(1, sizeof(*unit));
	if (!unit)
		return VMBUS_E_NOMEM;
	err = vmbus__disk_make(&unit->disk, disk, &block->opts, why);
	if (err) {
		vmbus__block_log(block, "disk %u:%u: cannot be added: %s", disk->target, disk->lun,
				 why);
		free(unit);
		return err;
	}
	pthread_mutex_lock(&block->lock);
	unit->read_only = disk->read_only;
	place = place_of(block, disk->target, disk->lun);
	if (place->alive) {
		err = VMBUS_E_STATE;
	} else {
		memset(place->count, 0, sizeof(place->count));
		put_at(place, unit);
		changed(block, disk->target, disk->lun, 0);
	}
	pthread_mutex_unlock(&block->lock);
	if (err)
		free(unit);
	return err;
}

int vmbus_block_remove(struct vmbus_block *block, uint8_t target, uint8_t lun)
{
	struct vmbus__place *const place = place_of(block, target, lun);
	struct vmbus__unit *unit;

	if (!place)
		return VMBUS_E_RANGE;
	pthread_mutex_lock(&block->lock);
	unit = place->unit;
	if (unit) {
		place->unit = NULL;
		place->leaving = true;
		changed(block, target, lun, VMBUS__UA_LEFT);
	}
	pthread_mutex_unlock(&block->lock);
	if (!unit)
		return VMBUS_E_RANGE;
	vmbus__unit_put(block, unit);
	return 0;
}

static bool same_limits(const struct vmbus_store_info *a, const struct vmbus_store_info *b)
{
	return a->flags == b->flags && a->block_bytes == b->block_bytes &&
	       a->discard_bytes == b->discard_bytes && a->align_bytes == b->align_bytes;
}

/*
 * Lock.  What the SCSI layer reads of a disk does not change, but for the size; so a store that
 * tells something else of itself becomes another disk at the same address.
 *
 * Returns the one that was there, or NULL when only the size has changed.
 */
static struct vmbus__unit *renew(struct vmbus__place *place, struct vmbus__unit *fresh,
				 const struct vmbus_store_info *info, uint64_t bytes)
{
	struct vmbus__unit *const old = place->unit;

	vmbus__st64_relaxed(vmbus__as_a64(&old->disk.bytes), bytes); /* DISKSIZE.set */
	if (same_limits(&old->disk.info, info))
		return NULL;
	*fresh = *old;
	fresh->disk.info = *info;
	fresh->disk.read_only = old->read_only || (info->flags & VMBUS_STORE_READ_ONLY) ||
				!old->disk.store.ops->write;
	put_at(place, fresh);
	return old;
}

/* A disk that stays while it is asked, or NULL; vmbus__unit_put() then. */
static struct vmbus__unit *hold(struct vmbus_block *block, const struct vmbus__place *place)
{
	struct vmbus__unit *unit;

	pthread_mutex_lock(&block->lock);
	unit = place->unit;
	if (unit)
		unit->refs++;
	pthread_mutex_unlock(&block->lock);
	return unit;
}

/* The store is asked without the lock: it may take its time, and channels do not wait for it.  What is
   told last is what was asked last. */
int vmbus_block_resized(struct vmbus_block *block, uint8_t target, uint8_t lun)
{
	struct vmbus__unit *const fresh = calloc(1, sizeof(*fresh));
	struct vmbus__place *const place = place_of(block, target, lun);
	struct vmbus__unit *held, *old = NULL;
	struct vmbus_store_info info;
	char why[VMBUS__WHY_BYTES] = "there is none";
	uint64_t bytes = 0;
	int err;

	if (!fresh)
		return VMBUS_E_NOMEM;
	pthread_mutex_lock(&block->asking);
	held = place ? hold(block, place) : NULL;
	if (!held) {
		pthread_mutex_unlock(&block->asking);
		free(fresh);
		vmbus__block_log(block, "disk %u:%u: cannot be resized: %s", target, lun, why);
		return VMBUS_E_RANGE;
	}
	err = vmbus__disk_ask(&held->disk.store, &info, why);
	if (!err)
		err = vmbus__disk_size(&held->disk, &info, &bytes, why);
	pthread_mutex_lock(&block->lock);
	if (!err && place->unit != held)
		err = VMBUS_E_RANGE; /* removed meanwhile */
	if (!err) {
		old = renew(place, fresh, &info, bytes);
		changed(block, target, lun, VMBUS__UA_CAPACITY | (old ? VMBUS__UA_LIMITS : 0));
	}
	pthread_mutex_unlock(&block->lock);
	pthread_mutex_unlock(&block->asking);
	vmbus__unit_put(block, held);
	if (old)
		vmbus__unit_put(block, old);
	else
		free(fresh);
	if (err)
		vmbus__block_log(block, "disk %u:%u: cannot be resized: %s", target, lun, why);
	return err;
}

/* ---- counters ---- */

/* Lock.  What one channel has counted of an address. */
static void add_view(uint64_t *count, struct vmbus_block_stats *stats,
		     const struct vmbus__view *view)
{
	uint32_t i;

	for (i = 0; i < VMBUS__COUNTS; i++)
		count[i] +=
			vmbus__ld64_relaxed(vmbus__as_a64c(&view->count[i])); /* BLOCKSTAT.read */
	stats->in_flight += (uint32_t)vmbus__ld64_relaxed(
		vmbus__as_a64c(&view->shown_in_flight)); /* BLOCKSTAT.read */
}

static void add_port(uint64_t *count, struct vmbus_block_stats *stats,
		     const struct vmbus__port *port, const struct vmbus__place *place)
{
	const struct vmbus__disk *const disk = &place->unit->disk;
	const struct vmbus__view *const view = port->views[disk->target][disk->lun];
	const struct vmbus__view *gone;

	if (view)
		add_view(count, stats, view);
	for (gone = port->gone; gone; gone = gone->next)
		if (gone->unit->place == place)
			add_view(count, stats, gone);
}

static void show(struct vmbus_block_stats *stats, const uint64_t *count)
{
	stats->reads = count[VMBUS__COUNT_READS];
	stats->writes = count[VMBUS__COUNT_WRITES];
	stats->flushes = count[VMBUS__COUNT_FLUSHES];
	stats->discards = count[VMBUS__COUNT_DISCARDS];
	stats->read_bytes = count[VMBUS__COUNT_READ_BYTES];
	stats->written_bytes = count[VMBUS__COUNT_WRITTEN_BYTES];
	stats->discarded_bytes = count[VMBUS__COUNT_DISCARDED_BYTES];
	stats->others = count[VMBUS__COUNT_OTHERS];
	stats->failed = count[VMBUS__COUNT_FAILED];
	stats->refused = count[VMBUS__COUNT_REFUSED];
}

int vmbus_block_stats(const struct vmbus_block *block, uint8_t target, uint8_t lun,
		      struct vmbus_block_stats *stats)
{
	struct vmbus__place *const place = place_of(block, target, lun);
	pthread_mutex_t *const lock = (pthread_mutex_t *)&block->lock;
	uint64_t count[VMBUS__COUNTS];
	const struct vmbus__port *port;
	int err = VMBUS_E_RANGE;

	if (!place)
		return err;
	pthread_mutex_lock(lock);
	if (place->unit) {
		memset(stats, 0, sizeof(*stats));
		memcpy(count, place->count, sizeof(count));
		for (port = block->ports; port; port = port->next)
			add_port(count, stats, port, place);
		show(stats, count);
		stats->bytes = vmbus__ld64_relaxed(
			vmbus__as_a64c(&place->unit->disk.bytes)); /* DISKSIZE.read */
		err = 0;
	}
	pthread_mutex_unlock(lock);
	return err;
}
