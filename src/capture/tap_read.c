/* SPDX-License-Identifier: MIT */
/*
 * The reading end of a tap: a ring's receiver over memory that the tap's process writes.  What the
 * memory says is checked as a peer's; a reader that is slow or gone harms nobody but itself.
 */
#include <stdlib.h>

#include "base/atomic.h"
#include "capture/frame.h"

#define RECORDS 64u

struct vmbus_tap_reader {
	struct vmbus__tap_page *page;
	struct vmbus_ring_rx rx;
	void *buf;
	uint32_t snap;
	uint32_t next, count; /* of pkt */
	uint64_t dropped;     /* as the last record told */
	bool armed;
	bool broken;
	struct vmbus_packet pkt[RECORDS];
};

int vmbus__tap_ring(void *mem, uint32_t ring_bytes, struct vmbus_ring_mem *ring)
{
	const struct vmbus_ring_mem_opts opts = {
		.struct_bytes = sizeof(opts),
		.window = VMBUS_RING_PLAIN,
		.size = ring_bytes,
		.ctl = (uint8_t *)mem + VMBUS_PAGE_BYTES,
		.data = (uint8_t *)mem + (size_t)2 * VMBUS_PAGE_BYTES,
	};

	return vmbus_ring_mem_init(ring, &opts);
}

/* The words of page 0, each read once. */
static int take_page(struct vmbus_tap_reader *r, size_t bytes, uint32_t *ring_bytes)
{
	struct vmbus__tap_page *const page = r->page;

	if (vmbus__ld32_relaxed(vmbus__as_a32c(&page->magic)) !=
		    VMBUS__TAP_MAGIC || /* TAPCOUNT.look */
	    vmbus__ld32_relaxed(vmbus__as_a32c(&page->version)) !=
		    VMBUS__TAP_VERSION) /* TAPCOUNT.look */
		return VMBUS_E_INVAL;
	*ring_bytes = vmbus__ld32_relaxed(vmbus__as_a32c(&page->ring_bytes)); /* TAPCOUNT.look */
	r->snap = vmbus__ld32_relaxed(vmbus__as_a32c(&page->snap));	      /* TAPCOUNT.look */
	if (*ring_bytes == 0 || *ring_bytes % VMBUS_PAGE_BYTES ||
	    *ring_bytes > bytes - (size_t)2 * VMBUS_PAGE_BYTES)
		return VMBUS_E_PEER;
	return 0;
}

static int set_up(struct vmbus_tap_reader *r, void *mem, size_t bytes)
{
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_ring_mem ring;
	uint32_t ring_bytes = 0;
	int err = take_page(r, bytes, &ring_bytes);

	if (!err)
		err = vmbus__tap_ring(mem, ring_bytes, &ring);
	if (err)
		return err;
	opts.buf_bytes = (vmbus_ring_rx_buf_bytes(ring_bytes) + 63u) / 64u * 64u;
	r->buf = aligned_alloc(64, opts.buf_bytes);
	if (!r->buf)
		return VMBUS_E_NOMEM;
	opts.buf = r->buf;
	return vmbus_ring_rx_init(&r->rx, &ring, &opts);
}

int vmbus_tap_reader_create(void *mem, size_t bytes, struct vmbus_tap_reader **reader)
{
	struct vmbus_tap_reader *r;
	int err;

	*reader = NULL;
	if (!mem || (uintptr_t)mem % VMBUS_PAGE_BYTES || bytes < (size_t)3 * VMBUS_PAGE_BYTES)
		return VMBUS_E_INVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return VMBUS_E_NOMEM;
	r->page = mem;
	err = set_up(r, mem, bytes);
	if (err) {
		vmbus_tap_reader_destroy(r);
		return err;
	}
	*reader = r;
	return 0;
}

static int break_it(struct vmbus_tap_reader *r)
{
	r->broken = true;
	return VMBUS_E_PEER;
}

static bool ended(const struct vmbus_tap_reader *r)
{
	return vmbus__ld32_acquire(vmbus__as_a32c(&r->page->ended)) != 0; /* TAPEND.look */
}

/* More packets; 0 when there are none now. */
static int fetch(struct vmbus_tap_reader *r)
{
	const bool last = ended(r); /* before the look, so that the look sees all there will be */
	int got;

	if (r->armed) {
		r->armed = false;
		vmbus_ring_rx_disarm(&r->rx);
	}
	got = vmbus_ring_rx_get(&r->rx, r->pkt, RECORDS);
	if (got < 0)
		return break_it(r);
	if (got == 0)
		return last ? VMBUS_E_STATE : 0;
	r->next = 0;
	r->count = (uint32_t)got;
	return got;
}

int vmbus_tap_reader_next(struct vmbus_tap_reader *r, struct vmbus_capture_record *record)
{
	const struct vmbus_packet *pkt;
	const char *why;
	uint64_t dropped;

	if (r->broken)
		return VMBUS_E_FAULT;
	if (r->next == r->count) {
		const int got = fetch(r);

		if (got <= 0)
			return got;
	}
	pkt = &r->pkt[r->next++];
	if (pkt->type != VMBUS_PKT_INBAND || pkt->ext_len || pkt->len < VMBUS__TAP_FRAME_BYTES)
		return break_it(r);
	if (vmbus__capture_record_get(pkt->payload + VMBUS__TAP_STAMP_BYTES,
				      pkt->len - VMBUS__TAP_STAMP_BYTES, record, &why))
		return break_it(r);
	record->time_ns = vmbus__capture_get64(pkt->payload);
	dropped = vmbus__capture_get64(pkt->payload + 8);
	if (dropped < r->dropped)
		return break_it(r);
	record->dropped = dropped - r->dropped;
	r->dropped = dropped;
	return 1;
}

int vmbus_tap_reader_arm(struct vmbus_tap_reader *r)
{
	int got;

	if (r->broken)
		return VMBUS_E_FAULT;
	if (r->next != r->count || ended(r))
		return 1;
	got = vmbus_ring_rx_arm(&r->rx);
	if (got < 0)
		return break_it(r);
	r->armed = true;
	/* The end sets its word and then wakes; we arm and then look. */
	return got == VMBUS_RING_READY || ended(r);
}

void vmbus_tap_reader_counts(const struct vmbus_tap_reader *r, struct vmbus_tap_counts *counts)
{
	*counts = (struct vmbus_tap_counts){
		.records =
			vmbus__ld64_relaxed(vmbus__as_a64c(&r->page->records)), /* TAPCOUNT.look */
		.dropped =
			vmbus__ld64_relaxed(vmbus__as_a64c(&r->page->dropped)), /* TAPCOUNT.look */
		.snap = r->snap,
		.ended = ended(r),
	};
}

void vmbus_tap_reader_destroy(struct vmbus_tap_reader *r)
{
	if (!r)
		return;
	free(r->buf);
	free(r);
}
