/* SPDX-License-Identifier: MIT */
/*
 * A disk of the parent's: written, read and compared, a part of it discarded.  Each sector has bytes
 * made from its number, so one that is elsewhere, torn or old is seen.
 */
#include <vmbus/storvsc.h>

#include "payload.h"

#define SECOND_NS 1000000000ull
#define STUCK_100NS (600ull * 10000000u) /* of reference time without an end: a wake-up was lost */
#define TURN 65536u
#define SLOTS_MAX 64u
#define SLOT_PAGES 17u /* 64 KiB, at any offset of the first page */
#define BY_SECTOR 0x9E3779B97F4A7C15ull
#define BY_WORD 0x85EBCA6B77ull

static const struct vmbus_guid block_class = VMBUS_BLOCK_CLASS;
/* Bytes of the requests, in turns; each begins at another place of its page. */
static const uint32_t sizes[] = { 4096, 512, 65536, 12288, 1024 };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

struct slot {
	struct vmbus_storvsc_req req;
	struct vmbus_storvsc_piece piece;
	struct disk *disk;
	uint8_t *pages;
	uint64_t sector;
	bool busy;
};

struct disk {
	const struct options *opts;
	struct vmbus_bare *bare;
	const struct vmbus_guest_backend *be;
	struct vmbus_guest *guest;
	struct vmbus_storvsc s;
	struct vmbus_storvsc_disk disk;
	struct slot slot[SLOTS_MAX];
	uint32_t slots, series, channel;
	bool ready, probed, closed, writing, again;
	int err;
	uint64_t issued, done, next; /* requests; the sector of the next one */
};

static struct disk the_disk;

static void on_log(void *ctx, const char *line)
{
	(void)ctx;
	say_text("log", line);
}

static uint64_t now(const struct disk *d)
{
	return d->be->time(d->bare);
}

/* Dispatch, or sleep, until *flag. */
static void wait_for(struct disk *d, const bool *flag, const char *what)
{
	const uint64_t begin = now(d);
	uint32_t i;

	while (!*flag) {
		int done = vmbus_guest_dispatch(d->guest, TURN);

		for (i = 0; d->opts->poll && i < d->s.channels; i++) {
			struct vmbus_vsc *const vsc = vmbus_storvsc_channel(&d->s, i);

			if (vsc && vmbus_vsc_dispatch(vsc, TURN) > 0)
				done = 1;
		}
		if (done > 0)
			continue;
		if (now(d) - begin > STUCK_100NS)
			fail("stuck", what);
		if (d->opts->poll)
			__asm__ volatile("pause");
		else if (vmbus_guest_timeout(d->guest))
			(void)d->be->idle(d->bare, vmbus_guest_timeout(d->guest));
	}
}

/* ---- requests ---- */

static uint64_t word_of(uint64_t sector, uint32_t i)
{
	return (sector + 1) * BY_SECTOR ^ i * BY_WORD;
}

static void fill(uint8_t *p, uint64_t sector, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i < bytes / 8; i++) {
		const uint64_t v = word_of(sector, i);

		__builtin_memcpy(p + (size_t)i * 8, &v, 8);
	}
}

static bool is_right(const uint8_t *p, uint64_t sector, uint32_t bytes)
{
	uint64_t differ = 0, v;
	uint32_t i;

	for (i = 0; i < bytes / 8; i++) {
		__builtin_memcpy(&v, p + (size_t)i * 8, 8);
		differ |= v ^ word_of(sector, i);
	}
	return differ == 0;
}

static void check(struct slot *slot)
{
	const uint32_t bytes = slot->disk->disk.sector;
	uint32_t i;

	for (i = 0; i < slot->piece.bytes / bytes; i++)
		if (!is_right((uint8_t *)slot->piece.data + (size_t)i * bytes, slot->sector + i,
			      bytes))
			fail_number("a sector that is not what was written", slot->sector + i);
}

static void more(struct disk *d);

static void on_done(struct vmbus_storvsc_req *req)
{
	struct slot *const slot = req->ctx;
	struct disk *const d = slot->disk;

	if (req->err)
		fail_number("a request failed, status", req->scsi_status);
	if (!d->writing)
		check(slot);
	slot->busy = false;
	d->done++;
	more(d);
}

/* The next request of the series in a slot that is free. */
static int prepare(struct disk *d, struct slot *slot)
{
	const uint32_t n = (uint32_t)(d->issued % SIZES), sector = d->disk.sector;
	const uint32_t sectors = sizes[n] < sector ? 1 : sizes[n] / sector;
	uint32_t i;

	if (d->next + sectors > d->disk.sectors)
		d->next = 0;
	slot->sector = d->next;
	slot->piece.data = slot->pages + n * 520u;
	slot->piece.bytes = sectors * sector;
	slot->req = (struct vmbus_storvsc_req){
		.piece = &slot->piece, .pieces = 1, .done = on_done, .ctx = slot
	};
	if (!d->writing)
		return vmbus_storvsc_read(&d->disk, &slot->req, slot->sector, sectors);
	for (i = 0; i < sectors; i++)
		fill((uint8_t *)slot->piece.data + (size_t)i * sector, slot->sector + i, sector);
	return vmbus_storvsc_write(&d->disk, &slot->req, slot->sector, sectors, false);
}

static void more(struct disk *d)
{
	uint32_t i;
	int err;

	for (i = 0; i < d->slots && d->issued < d->opts->packets; i++) {
		struct slot *const slot = &d->slot[i];

		if (slot->busy)
			continue;
		err = prepare(d, slot);
		if (!err)
			err = vmbus_storvsc_submit(&d->s, d->channel % d->s.channels, &slot->req);
		if (err == VMBUS_E_FULL)
			return;
		if (err)
			fail("cannot submit", vmbus_err_name(err));
		slot->busy = true;
		d->next = slot->sector + slot->piece.bytes / d->disk.sector;
		d->channel++;
		d->issued++;
	}
	if (d->done == d->opts->packets)
		d->again = true;
}

static void series(struct disk *d, bool writing)
{
	struct vmbus_bare_stats before, after;
	uint64_t begin;

	d->writing = writing;
	d->issued = d->done = d->next = 0;
	d->again = false;
	vmbus_bare_stats(d->bare, &before);
	out32(PORT_MARK, d->series * 2 + 1);
	begin = now(d);
	more(d);
	wait_for(d, &d->again, writing ? "writes" : "reads");
	say(writing ? "disk_write_ns" : "disk_read_ns", (now(d) - begin) * 100u);
	out32(PORT_MARK, d->series * 2 + 2);
	d->series++;
	vmbus_bare_stats(d->bare, &after);
	say("disk_requests", d->done);
	say("disk_interrupts", after.interrupts - before.interrupts);
	say("disk_signals", after.signals - before.signals);
}

/* One request by itself. */
static void one(struct disk *d, int err, const char *what)
{
	struct slot *const slot = &d->slot[0];

	if (!err)
		err = vmbus_storvsc_submit(&d->s, 0, &slot->req);
	if (err)
		fail(what, vmbus_err_name(err));
	d->again = false;
	wait_for(d, &d->again, what);
	if (slot->req.err)
		fail_number(what, slot->req.scsi_status);
}

static void one_done(struct vmbus_storvsc_req *req)
{
	((struct slot *)req->ctx)->disk->again = true;
}

/* Flush; give one page back, and see that it is gone. */
static void finish(struct disk *d)
{
	struct slot *const slot = &d->slot[0];
	const uint32_t sectors = 4096 / d->disk.sector;
	uint32_t i;

	slot->req = (struct vmbus_storvsc_req){ .done = one_done, .ctx = slot };
	one(d, vmbus_storvsc_flush(&d->disk, &slot->req), "flush");
	if (!d->disk.discard)
		return;
	slot->piece = (struct vmbus_storvsc_piece){ .data = slot->pages, .bytes = 24 };
	slot->req = (struct vmbus_storvsc_req){
		.piece = &slot->piece, .pieces = 1, .done = one_done, .ctx = slot
	};
	one(d, vmbus_storvsc_discard(&d->disk, &slot->req, 0, sectors), "discard");
	slot->piece.bytes = 4096;
	one(d, vmbus_storvsc_read(&d->disk, &slot->req, 0, sectors), "read");
	for (i = 0; i < 4096 && d->disk.discard_zeroes; i++)
		if (slot->pages[i])
			fail_number("a discarded sector has bytes left, at", i);
	say("disk_discarded", sectors);
}

/* ---- begin and end ---- */

static void on_ready(void *ctx, int err)
{
	struct disk *const d = ctx;

	d->ready = true;
	d->err = err;
}

static void on_probed(struct vmbus_storvsc_disk *disk, int err, void *ctx)
{
	struct disk *const d = ctx;

	(void)disk;
	d->probed = true;
	d->err = err;
}

static void on_writable(void *ctx, uint32_t channel)
{
	(void)channel;
	more(ctx);
}

static void on_closed(void *ctx)
{
	((struct disk *)ctx)->closed = true;
}

static void connect(struct disk *d)
{
	struct vmbus_guest_opts opts = { .struct_bytes = sizeof(opts) };
	int err;

	opts.backend = d->be;
	opts.backend_ctx = d->bare;
	opts.log = on_log;
	err = vmbus_guest_create(&opts, &d->guest);
	if (!err)
		err = vmbus_guest_connect(d->guest);
	if (!err)
		err = vmbus_guest_wait(d->guest, VMBUS_GUEST_CONNECTED, 600u * SECOND_NS);
	if (err)
		fail("cannot connect", vmbus_err_name(err));
}

static void start(struct disk *d)
{
	struct vmbus_storvsc_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_vsc *const vsc = vmbus_vsc_find(d->guest, &block_class, 0);
	const uint64_t begin = now(d);
	int err;

	if (!vsc)
		fail("no disk controller is offered", NULL);
	opts.subchannels = d->opts->channels - 1;
	opts.open.target_vp = vmbus_bare_vp(d->bare);
	opts.open.poll = d->opts->poll;
	opts.ready = on_ready;
	opts.writable = on_writable;
	opts.closed = on_closed;
	opts.ctx = d;
	err = vmbus_storvsc_start(&d->s, vsc, &opts);
	if (err)
		fail("cannot start the controller", vmbus_err_name(err));
	wait_for(d, &d->ready, "controller");
	if (d->err)
		fail("the controller is not ready", vmbus_err_name(d->err));
	while (d->s.channels < d->s.offered && now(d) - begin < STUCK_100NS)
		(void)vmbus_guest_dispatch(d->guest, TURN);
	say("disk_version", d->s.version);
	say("disk_channels", d->s.channels);
}

static void probe(struct disk *d)
{
	int err = vmbus_storvsc_probe(&d->disk, &d->s, 0, 0, d->slot[0].pages, on_probed, d);

	if (!err) {
		wait_for(d, &d->probed, "probe");
		err = d->err;
	}
	if (err)
		fail("no disk", vmbus_err_name(err));
	say("disk_sectors", d->disk.sectors);
	say("disk_sector", d->disk.sector);
}

void run_disk(const struct options *opts, struct vmbus_bare *bare)
{
	struct disk *const d = &the_disk;
	uint32_t i;

	*d = (struct disk){ .opts = opts, .bare = bare, .be = vmbus_bare_backend() };
	connect(d);
	d->slots = opts->windows[0] < SLOTS_MAX ? opts->windows[0] : SLOTS_MAX;
	for (i = 0; i < d->slots; i++) {
		d->slot[i].disk = d;
		d->slot[i].pages = vmbus_guest_pages(d->guest, SLOT_PAGES);
		if (!d->slot[i].pages)
			fail("too little memory for so many requests", NULL);
	}
	start(d);
	probe(d);
	series(d, true);
	series(d, false);
	finish(d);
	if (d->s.bad)
		fail_number("answers that made no sense", d->s.bad);
	(void)vmbus_storvsc_stop(&d->s);
	wait_for(d, &d->closed, "the end");
	for (i = 0; i < d->slots; i++)
		vmbus_guest_pages_free(d->guest, d->slot[i].pages, SLOT_PAGES);
	if (vmbus_guest_disconnect(d->guest) ||
	    vmbus_guest_wait(d->guest, VMBUS_GUEST_IDLE, 600u * SECOND_NS))
		fail("cannot disconnect", NULL);
	vmbus_guest_destroy(d->guest);
}
