/* SPDX-License-Identifier: MIT */
/*
 * Taps: records of a channel into memory of the embedder's.  The channel's thread writes, into a
 * ring of its own whose reader may be slow, gone or a liar: what finds no room is counted, and
 * nothing here waits, allocates on the path of packets or calls the system, but for wake(), once for
 * each batch at most.
 *
 * Three words between the threads: tap_next is what the bus wants the channel's thread to have,
 * tap_asked counts how often it said so, tap_done is the count that the thread has followed.  The bus
 * frees a tap when its thread has followed the last; an answer alone may be an older one's.
 */
#include "bus/bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <vmbus/tap.h>

#include "base/untrusted.h"
#include "capture/frame.h"

struct vmbus__tap {
	/* The channel's thread. */
	struct vmbus_tap_opts opts;
	struct vmbus_ring_tx tx;
	struct vmbus__tap_page *page;
	uint64_t time;
	uint64_t batch;
	uint64_t records;
	uint64_t dropped;
	uint32_t kept; /* since the last publication */
	uint32_t lost;
	uint32_t snap;
	uint8_t channel[VMBUS__CAPTURE_CHANNEL_BYTES]; /* what it is, as it was offered */
	/* The bus thread. */
	bool ending;
};

static uint64_t wall_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void tell(const struct vmbus__tap *tap)
{
	if (tap->opts.wake)
		tap->opts.wake(tap->opts.ctx);
}

static void signal_reader(void *ctx)
{
	tell(ctx);
}

/* Where a record's bytes go: what the ring lent. */
struct room {
	struct vmbus_span span[2];
	uint32_t at;
};

static void fill(struct room *room, const void *from, size_t n)
{
	const uint8_t *bytes = from;

	while (n) {
		struct vmbus_span *const span = &room->span[room->at];
		const size_t here = n < span->len ? n : span->len;

		if (here) {
			vmbus__peer_write(span->base, bytes, here);
			span->base = (uint8_t *)span->base + here;
			span->len -= here;
			bytes += here;
			n -= here;
		}
		if (span->len == 0 && ++room->at == 2)
			return;
	}
}

/* Room for a record with keep bytes of data, its stamp and header written. */
static bool begin(struct vmbus__tap *tap, const struct vmbus_capture_record *record, uint32_t keep,
		  struct room *room)
{
	const struct vmbus_msg msg = { .type = VMBUS_PKT_INBAND,
				       .len = VMBUS__TAP_FRAME_BYTES + keep };
	uint8_t frame[VMBUS__TAP_FRAME_BYTES];
	int spans;

	*room = (struct room){ 0 };
	spans = vmbus_ring_tx_reserve(&tap->tx, &msg, room->span, 2);
	if (spans <= 0) {
		tap->lost++;
		return false;
	}
	vmbus__capture_put64(frame, tap->time);
	vmbus__capture_put64(frame + 8, tap->dropped + tap->lost);
	vmbus__capture_header_put(record, frame + VMBUS__TAP_STAMP_BYTES);
	fill(room, frame, sizeof(frame));
	tap->kept++;
	return true;
}

/* Show the reader what was written since the last time. */
static void publish(struct vmbus__tap *tap)
{
	tap->records += tap->kept;
	tap->dropped += tap->lost;
	if (tap->kept | tap->lost) {
		vmbus__st64_relaxed(vmbus__as_a64(&tap->page->records),
				    tap->records); /* TAPCOUNT.set */
		vmbus__st64_relaxed(vmbus__as_a64(&tap->page->dropped),
				    tap->dropped); /* TAPCOUNT.set */
	}
	if (tap->kept)
		(void)vmbus_ring_tx_commit(&tap->tx);
	tap->kept = 0;
	tap->lost = 0;
}

/* A record without a packet. */
static void note(struct vmbus__tap *tap, uint32_t kind, const uint8_t *body, uint32_t bytes)
{
	const struct vmbus_capture_record record = { .kind = kind,
						     .len = bytes,
						     .batch = tap->batch };
	struct room room;

	tap->time = wall_ns();
	if (begin(tap, &record, bytes, &room))
		fill(&room, body, bytes);
	publish(tap);
}

/* The channel is being opened, or was open before the tap.  Its thread. */
void vmbus__tap_opened(struct vmbus_chan *chan, bool already)
{
	struct vmbus_capture_open body = { .from_bytes = chan->rings.mem[0].size_p,
					   .to_bytes = chan->rings.mem[1].size_p,
					   .target_vp = chan->target_vp,
					   .flags = already ? VMBUS_CAPTURE_OPEN_ALREADY : 0 };
	uint8_t bytes[VMBUS__CAPTURE_OPEN_BYTES];

	memcpy(body.user, chan->open_data, sizeof(body.user));
	note(chan->tap, VMBUS_CAPTURE_OPEN, bytes, vmbus__capture_open_put(&body, bytes));
}

/* It is closed, or was not opened: err.  What was sent and not published is forgotten. */
void vmbus__tap_closed(struct vmbus_chan *chan, int err)
{
	struct vmbus_capture_close body = { .err = err };
	uint8_t bytes[VMBUS__CAPTURE_CLOSE_BYTES];

	vmbus_ring_tx_abort(&chan->tap->tx);
	chan->tap->kept = 0;
	chan->tap->lost = 0;
	(void)snprintf(body.why, sizeof(body.why), "%s", chan->why);
	note(chan->tap, VMBUS_CAPTURE_CLOSE, bytes, vmbus__capture_close_put(&body, bytes));
}

/* A batch from the child, before the device has it. */
void vmbus__tap_received(struct vmbus_chan *chan, const struct vmbus_packet *pkt, uint32_t n)
{
	struct vmbus__tap *const tap = chan->tap;
	uint32_t i;

	tap->time = wall_ns();
	tap->batch++;
	for (i = 0; i < n; i++) {
		const struct vmbus_capture_record record = {
			.kind = VMBUS_CAPTURE_PACKET,
			.dir = VMBUS_CAPTURE_FROM_CHILD,
			.batch = tap->batch,
			.id = pkt[i].id,
			.type = pkt[i].type,
			.flags = pkt[i].flags,
			.ext_len = pkt[i].ext_len,
			.len = pkt[i].len,
		};
		const uint32_t ext = pkt[i].ext_len < tap->snap ? pkt[i].ext_len : tap->snap;
		const uint32_t left = tap->snap - ext;
		const uint32_t len = pkt[i].len < left ? pkt[i].len : left;
		struct room room;

		if (!begin(tap, &record, ext + len, &room))
			continue;
		fill(&room, pkt[i].ext, ext);
		fill(&room, pkt[i].payload, len);
	}
	publish(tap);
}

/* Write a message's payload and its padding, keep bytes in all. */
static void fill_payload(struct room *room, const struct vmbus_msg *msg, uint64_t keep)
{
	static const uint8_t zeroes[8];
	const void *from = msg->data;
	uint64_t n = msg->len;
	uint32_t i = 0;

	for (;;) {
		const uint64_t here = n < keep ? n : keep;

		fill(room, from, (size_t)here);
		keep -= here;
		if (keep == 0 || i == msg->more_count)
			break;
		from = msg->more[i].base;
		n = msg->more[i++].len;
	}
	fill(room, zeroes, keep < 8 ? (size_t)keep : 8);
}

/* Messages that were put into the ring to the child; they are published with it. */
void vmbus__tap_sent(struct vmbus_chan *chan, const struct vmbus_msg *msg, uint32_t n)
{
	struct vmbus__tap *const tap = chan->tap;
	uint32_t i, j;

	tap->time = wall_ns();
	for (i = 0; i < n; i++) {
		struct vmbus_capture_record record = {
			.kind = VMBUS_CAPTURE_PACKET,
			.dir = VMBUS_CAPTURE_TO_CHILD,
			.batch = tap->batch,
			.id = msg[i].id,
			.type = msg[i].type,
			.flags = msg[i].flags,
			.ext_len = msg[i].ext_len,
		};
		uint64_t len = msg[i].len;
		uint32_t ext, left;
		struct room room;

		for (j = 0; j < msg[i].more_count; j++)
			len += msg[i].more[j].len;
		record.len = (uint32_t)((len + 7u) / 8u * 8u); /* as it lies in the ring */
		ext = record.ext_len < tap->snap ? record.ext_len : tap->snap;
		left = tap->snap - ext;
		left = record.len < left ? record.len : left;
		if (!begin(tap, &record, ext + left, &room))
			continue;
		fill(&room, msg[i].ext, ext);
		fill_payload(&room, &msg[i], left);
	}
}

void vmbus__tap_publish(struct vmbus_chan *chan)
{
	publish(chan->tap);
}

/* Take the tap that the bus wants us to have, or none.  The channel's thread. */
void vmbus__tap_take(struct vmbus_chan *chan)
{
	const uint64_t asked = vmbus__ld64_acquire(&chan->tap_asked); /* TAPASK.take */
	struct vmbus__tap *const next = (struct vmbus__tap *)(uintptr_t)vmbus__ld64_relaxed(
		&chan->tap_next); /* BITS.take */

	if (chan->tap && chan->tap != next)
		publish(chan->tap);
	if (next && next != chan->tap) {
		note(next, VMBUS_CAPTURE_CHANNEL, next->channel, sizeof(next->channel));
		chan->tap = next;
		if (chan->stage != VMBUS__SHUT)
			vmbus__tap_opened(chan, true);
	}
	chan->tap = next;
	vmbus__st64_release(&chan->tap_done, asked); /* TAPHOLD.set */
	vmbus__chan_answer(chan, VMBUS__ANS_TAP);
}

/* Nobody writes any more: tell the reader, and let go of the memory. */
static void finish(struct vmbus_chan *chan)
{
	struct vmbus__tap *const tap = chan->tap_own;

	chan->tap_own = NULL;
	vmbus__st32_release(vmbus__as_a32(&tap->page->ended), 1); /* TAPEND.set */
	tell(tap);
	if (tap->opts.done)
		tap->opts.done(tap->opts.ctx);
	free(tap);
}

/* The channel's thread has taken a tap or let go of one.  Bus thread. */
void vmbus__tap_answered(struct vmbus_chan *chan)
{
	if (chan->tap_own && chan->tap_own->ending &&
	    vmbus__ld64_acquire(&chan->tap_done) ==	   /* TAPHOLD.look */
		    vmbus__ld64_relaxed(&chan->tap_asked)) /* TAPASK.set */
		finish(chan);
}

/* Have the channel's thread take a tap, or let go of its own: 0.  Bus thread. */
static void ask(struct vmbus_chan *chan, struct vmbus__tap *tap)
{
	const uint64_t asked = vmbus__ld64_relaxed(&chan->tap_asked); /* TAPASK.set */

	vmbus__st64_relaxed(&chan->tap_next, (uintptr_t)tap); /* BITS.add */
	vmbus__st64_release(&chan->tap_asked, asked + 1u);    /* TAPASK.set */
	vmbus__chan_command(chan, VMBUS__CMD_TAP);
}

/* The channel is removed: no thread is in it any more.  Bus thread. */
void vmbus__tap_drop(struct vmbus_chan *chan)
{
	chan->tap = NULL;
	vmbus__st64_relaxed(&chan->tap_next, 0); /* BITS.add */
	if (chan->tap_own)
		finish(chan);
}

static int check(const struct vmbus_chan *chan, const struct vmbus_tap_opts *opts)
{
	if (opts->struct_bytes < sizeof(*opts) || !opts->mem ||
	    (uintptr_t)opts->mem % VMBUS_PAGE_BYTES)
		return VMBUS_E_INVAL;
	if (!chan->bus->allow_capture)
		return VMBUS_E_PERM;
	if (chan->vsp->flags & VMBUS_VSP_FOREIGN)
		return VMBUS_E_NOTSUP;
	if (opts->bytes % VMBUS_PAGE_BYTES || opts->bytes < VMBUS_TAP_BYTES_MIN ||
	    opts->bytes > VMBUS_TAP_BYTES_MAX || opts->snap > VMBUS_CAPTURE_SNAP_MAX)
		return VMBUS_E_RANGE;
	if (chan->gone)
		return VMBUS_E_STATE;
	if (chan->tap_own)
		return chan->tap_own->ending ? VMBUS_E_AGAIN : VMBUS_E_STATE;
	return 0;
}

static void describe(struct vmbus__tap *tap, const struct vmbus_chan *chan)
{
	struct vmbus_capture_channel body = { .class_id = chan->offer.class_id,
					      .instance_id = chan->offer.instance_id,
					      .relid = chan->relid,
					      .sub_index = chan->sub_index,
					      .snap = tap->snap };

	(void)snprintf(body.vsp, sizeof(body.vsp), "%s", chan->vsp->name);
	(void)snprintf(body.child, sizeof(body.child), "%s", vmbus_bus_name(chan->bus));
	(void)vmbus__capture_channel_put(&body, tap->channel);
}

static int make_ring(struct vmbus__tap *tap)
{
	const uint32_t ring_bytes = (uint32_t)tap->opts.bytes - 2u * VMBUS_PAGE_BYTES;
	const uint32_t most = vmbus_ring_max_send(ring_bytes) -
			      (uint32_t)vmbus_wire_ring_bytes(0, 0) - VMBUS__TAP_FRAME_BYTES;
	const struct vmbus_ring_opts opts = {
		.struct_bytes = sizeof(opts),
		.signal = signal_reader,
		.signal_ctx = tap,
	};
	struct vmbus_ring_mem ring;
	int err;

	/* The ring pads to 8 bytes, so what is kept is a multiple of that. */
	tap->snap = tap->opts.snap ? (tap->opts.snap + 7u) / 8u * 8u : VMBUS_CAPTURE_SNAP_MAX;
	if (tap->snap > most)
		tap->snap = most;
	tap->page = tap->opts.mem;
	memset(tap->page, 0, sizeof(*tap->page));
	tap->page->version = VMBUS__TAP_VERSION;
	tap->page->ring_bytes = ring_bytes;
	tap->page->snap = tap->snap;
	tap->page->magic = VMBUS__TAP_MAGIC;
	err = vmbus__tap_ring(tap->opts.mem, ring_bytes, &ring);
	if (err)
		return err;
	vmbus_ring_mem_clear(&ring);
	return vmbus_ring_tx_init(&tap->tx, &ring, &opts);
}

int vmbus_chan_tap(struct vmbus_chan *chan, const struct vmbus_tap_opts *opts)
{
	struct vmbus__tap *tap;
	int err = check(chan, opts);

	if (err)
		return err;
	tap = calloc(1, sizeof(*tap));
	if (!tap)
		return VMBUS_E_NOMEM;
	tap->opts = *opts;
	err = make_ring(tap);
	if (err) {
		free(tap);
		return err;
	}
	describe(tap, chan);
	chan->tap_own = tap;
	ask(chan, tap);
	return 0;
}

void vmbus_chan_untap(struct vmbus_chan *chan)
{
	if (!chan->tap_own || chan->tap_own->ending)
		return;
	chan->tap_own->ending = true;
	ask(chan, NULL);
}

void vmbus_bus_allow_capture(struct vmbus_bus *bus, bool allow)
{
	uint32_t slot;

	bus->allow_capture = allow;
	for (slot = 0; !allow && slot < bus->chans_max; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan)
			vmbus_chan_untap(chan);
	}
}

struct vmbus_chan *vmbus_chan_find(struct vmbus_bus *bus, uint32_t relid)
{
	uint32_t slot;

	for (slot = 0; relid && slot < bus->chans_max; slot++) {
		struct vmbus_chan *chan = vmbus__chan_at(bus, slot);

		if (chan && chan->relid == relid)
			return chan;
	}
	return NULL;
}
