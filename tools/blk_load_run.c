/* SPDX-License-Identifier: MIT */
/*
 * Requests under load: each slot chooses one, submits it, and in its done() looks at what came and
 * begins the next.  With --verify no two requests touch the same sector at a time, so that what it
 * must hold is known.
 */
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "blk_load.h"

#define TRIES 1000u   /* to find sectors that are not in use */
#define RETRIES 1000u /* of a request that the disk was too busy for, or told something else */
#define SAY_MAX 10u
#define SCSI_CHECK_CONDITION 0x02u
#define SCSI_BUSY 0x08u
#define SCSI_TASK_SET_FULL 0x28u
#define SENSE_UNIT_ATTENTION 6u
#define WAIT_NS 100000000u

static void done(struct vmbus_storvsc_req *req);

static bool chance(struct load *load, uint32_t percent)
{
	return percent && blk_random(&load->random) % 100 < percent;
}

static enum load_kind choose_kind(struct load *load)
{
	if (chance(load, load->opts.flush))
		return LOAD_FLUSH;
	if (chance(load, load->opts.trim))
		return LOAD_TRIM;
	return chance(load, load->opts.read) ? LOAD_READ : LOAD_WRITE;
}

static uint32_t choose_sectors(struct load *load)
{
	const uint32_t sector = load->client.disk.sector;
	const uint64_t min = load->opts.size_min / sector, max = load->opts.size_max / sector;

	return (uint32_t)(min + (max > min ? blk_random(&load->random) % (max - min + 1) : 0));
}

static uint32_t choose_place(struct load *load, uint32_t sectors)
{
	uint32_t at;

	if (!load->opts.sequential) {
		at = (uint32_t)(blk_random(&load->random) % (load->sectors - sectors + 1));
		/* As benchmarks do: a multiple of the size, unless any will do. */
		return load->opts.unaligned ? at : at - at % sectors;
	}
	if (load->next + sectors > load->sectors)
		load->next = 0;
	at = load->next;
	load->next += sectors;
	return at;
}

/* What the slot does next; false: every place that was tried is in use. */
static bool choose(struct load_slot *slot)
{
	struct load *const load = slot->load;
	uint32_t i;

	slot->kind = choose_kind(load);
	slot->fua = slot->kind == LOAD_WRITE && chance(load, load->opts.fua);
	slot->tries = 0;
	if (slot->kind == LOAD_FLUSH)
		return true;
	for (i = 0; i < TRIES; i++) {
		slot->sectors = choose_sectors(load);
		slot->sector = choose_place(load, slot->sectors);
		if (!load->opts.verify ||
		    blk_pattern_take(&load->pattern, slot->sector, slot->sectors))
			return true;
	}
	return false;
}

/* The next piece of the region that was written; false: there is none. */
static bool choose_look(struct load_slot *slot)
{
	struct load *const load = slot->load;
	const uint32_t most = (uint32_t)(load->opts.size_max / load->client.disk.sector);

	while (load->next < load->sectors && load->pattern.last[load->next] == BLK_UNKNOWN)
		load->next++;
	if (load->next == load->sectors)
		return false;
	slot->kind = LOAD_READ;
	slot->tries = 0;
	slot->sector = load->next;
	slot->sectors = load->sectors - load->next < most ? load->sectors - load->next : most;
	load->next += slot->sectors;
	return blk_pattern_take(&load->pattern, slot->sector, slot->sectors);
}

static int fill_in(struct load_slot *slot)
{
	const struct load *const load = slot->load;
	const struct vmbus_storvsc_disk *const disk = &load->client.disk;
	const uint32_t bytes = slot->sectors * disk->sector;
	uint64_t shift = 0;

	memset(&slot->req, 0, sizeof(slot->req));
	slot->req.done = done;
	slot->req.ctx = slot;
	if (slot->kind == LOAD_FLUSH)
		return vmbus_storvsc_flush(disk, &slot->req);
	if (load->opts.unaligned && slot->kind != LOAD_TRIM)
		shift = slot->sector % (VMBUS_PAGE_BYTES / disk->sector) * disk->sector;
	slot->piece.data = slot->buffer + shift;
	slot->piece.bytes = slot->kind == LOAD_TRIM ? 24 : bytes;
	slot->req.piece = &slot->piece;
	slot->req.pieces = 1;
	if (slot->kind == LOAD_TRIM)
		return vmbus_storvsc_discard(disk, &slot->req, slot->sector, slot->sectors);
	if (slot->kind == LOAD_READ)
		return vmbus_storvsc_read(disk, &slot->req, slot->sector, slot->sectors);
	return vmbus_storvsc_write(disk, &slot->req, slot->sector, slot->sectors, slot->fua);
}

/* 0: under way; else it is not, and its sectors are free. */
static int submit(struct load_slot *slot)
{
	struct load *const load = slot->load;
	int err = fill_in(slot);

	if (!err && slot->kind == LOAD_WRITE && load->opts.verify && slot->tries == 0)
		slot->number = blk_pattern_fill(&load->pattern, slot->sector, slot->sectors,
						slot->piece.data);
	if (!err)
		err = vmbus_storvsc_submit(&load->client.storvsc, slot->channel, &slot->req);
	if (!err) {
		slot->busy = true;
		slot->began_ns = blk_now_ns();
		load->under_way++;
		return 0;
	}
	slot->busy = false;
	if (load->opts.verify && slot->kind != LOAD_FLUSH)
		blk_pattern_release(&load->pattern, slot->sector, slot->sectors);
	return err;
}

/* Choose and submit. */
static void begin(struct load_slot *slot)
{
	struct load *const load = slot->load;
	int err;

	if (load->stop)
		return;
	if (!load->looking && load->opts.requests && load->started >= load->opts.requests) {
		load->stop = true;
		return;
	}
	if (load->looking ? !choose_look(slot) : !choose(slot)) {
		load->stop = load->stop || load->looking;
		return;
	}
	err = submit(slot);
	if (!err) {
		load->started += !load->looking;
		return;
	}
	if (load->looking) /* this piece again, by whoever is next */
		load->next = slot->sector < load->next ? slot->sector : load->next;
	if (err != VMBUS_E_FULL) {
		(void)blk_failed("a request cannot be submitted: %s", vmbus_err_name(err));
		load->failed++;
		load->stop = true;
	}
}

/* For now: too many at once, or the disk had something to tell first. */
static bool wants_again(const struct vmbus_storvsc_req *req)
{
	if (req->err != VMBUS_E_RANGE)
		return false;
	return req->scsi_status == SCSI_BUSY || req->scsi_status == SCSI_TASK_SET_FULL ||
	       (req->scsi_status == SCSI_CHECK_CONDITION && req->sense_bytes > 2 &&
		(req->sense[2] & 15u) == SENSE_UNIT_ATTENTION);
}

static void failed(struct load_slot *slot)
{
	static const char *const names[] = { "read", "write", "flush", "discard" };
	struct load *const load = slot->load;
	const struct vmbus_storvsc_req *const req = &slot->req;

	if (load->failed++ >= SAY_MAX)
		return;
	(void)blk_failed("%s of %u sectors at %u failed: %s, SCSI status 0x%02x, sense "
			 "%02x/%02x/%02x, SRB status 0x%02x",
			 names[slot->kind], slot->sectors, slot->sector, vmbus_err_name(req->err),
			 req->scsi_status, req->sense_bytes > 2 ? req->sense[2] & 15u : 0,
			 req->sense_bytes > 13 ? req->sense[12] : 0,
			 req->sense_bytes > 13 ? req->sense[13] : 0, req->srb_status);
}

static void look_at_data(struct load_slot *slot)
{
	struct load *const load = slot->load;
	uint32_t first = 0, wrong;

	wrong = blk_pattern_check(&load->pattern, slot->sector, slot->sectors, slot->piece.data,
				  &first);
	if (wrong && load->wrong < SAY_MAX)
		(void)blk_failed("%u of %u sectors at %u are not what was written, the first %u: "
				 "writing %u was done",
				 wrong, slot->sectors, slot->sector, first,
				 load->pattern.last[first]);
	load->wrong += wrong;
}

/* What it leaves behind is known when it ended well, and unknown else. */
static void settle(struct load_slot *slot, bool good)
{
	struct load *const load = slot->load;
	uint32_t now = slot->number;

	if (!load->opts.verify || slot->kind == LOAD_FLUSH)
		return;
	if (slot->kind == LOAD_READ) {
		if (good)
			look_at_data(slot);
	} else {
		if (slot->kind == LOAD_TRIM)
			now = load->client.disk.discard_zeroes ? BLK_ZEROES : BLK_UNKNOWN;
		blk_pattern_set(&load->pattern, slot->sector, slot->sectors,
				good ? now : BLK_UNKNOWN);
	}
	blk_pattern_release(&load->pattern, slot->sector, slot->sectors);
}

static void done(struct vmbus_storvsc_req *req)
{
	struct load_slot *const slot = req->ctx;
	struct load *const load = slot->load;
	const uint64_t now = blk_now_ns();

	slot->busy = false;
	load->under_way--;
	if (now - load->last_ns > load->longest_ns)
		load->longest_ns = now - load->last_ns;
	load->last_ns = now;
	if (wants_again(req) && slot->tries++ < RETRIES && submit(slot) == 0) {
		load->retried++;
		return;
	}
	settle(slot, req->err == 0);
	if (req->err) {
		failed(slot);
		load->stop = load->stop || req->err == VMBUS_E_PEER;
	} else if (!load->looking) {
		load->done[slot->kind]++;
		load->bytes[slot->kind] +=
			slot->kind == LOAD_FLUSH
				? 0
				: (uint64_t)slot->sectors * load->client.disk.sector;
		load_count_latency(load, now - slot->began_ns);
	}
	begin(slot);
}

/* Slots that are idle begin: at first, and after FULL. */
static void begin_all(struct load *load)
{
	struct vmbus_vsc *vsc;
	uint32_t channel, i;

	for (channel = 0; channel < load->client.channels; channel++) {
		vsc = vmbus_storvsc_channel(&load->client.storvsc, channel);
		if (!vsc)
			continue;
		(void)vmbus_vsc_hold(vsc);
		for (i = channel; i < load->slot_count && !load->stop; i += load->client.channels)
			if (!load->slots[i].busy)
				begin(&load->slots[i]);
		(void)vmbus_vsc_flush(vsc);
	}
}

/* Until it is told to stop and nothing is under way any more; 0, or an exit status. */
static int phase(struct load *load)
{
	uint64_t now;
	int err;

	load->stop = false;
	load->last_ns = blk_now_ns();
	begin_all(load);
	while (!load->stop || load->under_way) {
		err = blk_client_turn(&load->client, WAIT_NS);
		if (err == VMBUS_E_PEER)
			return blk_failed("the parent, or its disks, went away: %s",
					  vmbus_shm_attach_why(load->client.attach));
		if (err < 0 && err != VMBUS_E_AGAIN)
			return blk_failed("waiting failed: %s", vmbus_err_name(err));
		now = blk_now_ns();
		load->stop = load->stop || blk_stopped() ||
			     (!load->looking && load->opts.run_ns &&
			      now - load->begin_ns >= load->opts.run_ns);
		if (now - load->last_ns > load->opts.timeout_ns && load->under_way)
			return blk_failed(
				"nothing came for %llu s, and %llu requests are under way",
				(unsigned long long)(load->opts.timeout_ns / BLK_SECOND),
				(unsigned long long)load->under_way);
		if (!load->stop && load->under_way < load->slot_count)
			begin_all(load);
	}
	return 0;
}

static int make_slots(struct load *load)
{
	const uint32_t pages =
		(uint32_t)((load->opts.size_max + 2 * VMBUS_PAGE_BYTES - 1) / VMBUS_PAGE_BYTES);
	uint32_t i;

	load->slot_count = load->client.channels * load->opts.client.depth;
	load->slots = calloc(load->slot_count, sizeof(*load->slots));
	for (i = 0; load->slots && i < load->slot_count; i++) {
		load->slots[i].load = load;
		load->slots[i].channel = i % load->client.channels;
		load->slots[i].buffer = vmbus_guest_pages(load->client.guest, pages);
		if (!load->slots[i].buffer)
			return -1;
	}
	return load->slots ? 0 : -1;
}

int load_run(struct load *load)
{
	int status;

	if (make_slots(load))
		return blk_failed("no memory for %u buffers", load->slot_count);
	load->begin_ns = blk_now_ns();
	status = phase(load);
	load->end_ns = blk_now_ns();
	if (!status && load->opts.verify && !load->failed) {
		load->looking = true;
		load->next = 0;
		status = phase(load);
	}
	if (!status && (load->failed || load->wrong))
		status = BLK_FAILED;
	load_report(load, status == 0);
	free(load->slots);
	return status;
}
