/* SPDX-License-Identifier: MIT */
/*
 * What must hold after any call, whatever the peer did: shared by tests/hostile and tests/fuzz.
 * The reference decoder here is written from [PKT-DESC] and [PKT-EXT] anew, byte by byte, and
 * shares nothing with the library.
 */
#ifndef VMBUS_TESTS_HOSTILE_CHECKS_H
#define VMBUS_TESTS_HOSTILE_CHECKS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vmbus/vmbus.h>

/* A line that says where the test stands, printed before it stops. */
static char checks_context[256];

static volatile uint8_t checks_sink; /* so that reads are not optimised away */

#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			(void)fprintf(stderr, "%s:%d: not true: %s\n  at: %s\n", __FILE__,         \
				      __LINE__, #cond, checks_context);                            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static inline uint64_t get_le(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static inline void put_le(uint8_t *p, uint64_t v, uint32_t bytes)
{
	for (; bytes; bytes--, v >>= 8)
		*p++ = (uint8_t)(v & 0xff);
}

/* Header bytes that a type needs; -1 for a type that does not exist. */
static inline int ref_ext_min(uint64_t type)
{
	switch (type) {
	case 1:
	case 6:
	case 10:
	case 11:
	case 12:
		return 0;
	case 2:
	case 3:
	case 4:
	case 5:
	case 7:
	case 8:
	case 9:
		return 8;
	case 13:
		return 16;
	default:
		return -1;
	}
}

/* The fault of a descriptor of which avail bytes of ring follow. */
static inline uint32_t ref_desc_fault(const uint8_t *p, uint64_t avail)
{
	const uint64_t offset = get_le(p + 2, 2) * 8, length = get_le(p + 4, 2) * 8;
	const int ext_min = ref_ext_min(get_le(p, 2));

	if (ext_min < 0)
		return VMBUS_FAULT_PKT_TYPE;
	if (get_le(p + 6, 2) & ~(uint64_t)1)
		return VMBUS_FAULT_PKT_FLAGS;
	if (offset < 16 + (uint64_t)ext_min)
		return VMBUS_FAULT_PKT_OFFSET;
	if (length < offset)
		return VMBUS_FAULT_PKT_OFFSET_PAST;
	if (length + 8 > avail)
		return VMBUS_FAULT_PKT_LENGTH;
	return VMBUS_FAULT_NONE;
}

/* Whether the value in a fault breaks the limit beside it: it was judged as it was loaded. */
static inline void check_fault(const struct vmbus_fault *f)
{
	char line[256];

	MUST(f->field <= VMBUS_FAULT_RANGE_PFNS);
	MUST(vmbus_fault_format(f, line, sizeof(line)) > 0);
	switch (f->field) {
	case VMBUS_FAULT_WRITE_INDEX:
	case VMBUS_FAULT_READ_INDEX:
	case VMBUS_FAULT_PKT_FLAGS:
	case VMBUS_FAULT_PKT_OFFSET_PAST:
	case VMBUS_FAULT_PKT_LENGTH:
		MUST(f->value > f->limit);
		break;
	case VMBUS_FAULT_WRITE_INDEX_ALIGN:
	case VMBUS_FAULT_READ_INDEX_ALIGN:
		MUST(f->value % f->limit != 0);
		break;
	case VMBUS_FAULT_PKT_TYPE:
		MUST(f->value == 0 || f->value > f->limit);
		break;
	case VMBUS_FAULT_PKT_SPACE:
	case VMBUS_FAULT_PKT_OFFSET:
		MUST(f->value < f->limit);
		break;
	default:
		break;
	}
}

static inline bool within(const void *p, size_t len, const void *from, size_t bytes)
{
	const uintptr_t a = (uintptr_t)p, b = (uintptr_t)from;

	return a >= b && len <= bytes && a - b <= bytes - len;
}

/* Walk the ranges of a packet to their end, within its header. */
static inline void check_ranges(const struct vmbus_packet *pkt)
{
	struct vmbus_wire_ext ext;
	struct vmbus_wire_ranges it;
	struct vmbus_wire_range r;
	uint32_t n = 0;
	int err;

	MUST(vmbus_wire_ext_get(pkt, &ext) == 0);
	err = vmbus_wire_ranges_begin(&it, pkt);
	if (pkt->type != VMBUS_PKT_GPA_DIRECT && pkt->type != VMBUS_PKT_XFER_PAGES &&
	    pkt->type != VMBUS_PKT_ESTABLISH_GPADL) {
		MUST(err == VMBUS_E_INVAL);
		return;
	}
	MUST(err == 0 || err == VMBUS_E_PEER);
	while (err == 0 && (err = vmbus_wire_ranges_next(&it, &r)) == 1) {
		MUST(++n <= pkt->ext_len / 8);
		MUST(r.byte_count != 0);
		if (r.pfn_count) {
			MUST(within(r.pfns, (size_t)r.pfn_count * 8, pkt->ext, pkt->ext_len));
			(void)vmbus_wire_range_pfn(&r, r.pfn_count - 1);
		}
		MUST(vmbus_wire_range_pfn(&r, r.pfn_count) == UINT64_MAX);
		err = 0;
	}
	MUST(err == 0 || err == VMBUS_E_PEER);
	MUST((err == 0) == (vmbus_wire_ranges_fault(&it)->field == VMBUS_FAULT_NONE));
	if (err == 0)
		MUST(n == ext.range_count);
	else
		MUST(vmbus_wire_ranges_next(&it, &r) == VMBUS_E_FAULT);
}

/* Where a receiver's packets may be, and what it had seen when the call began. */
struct rx_bounds {
	const uint8_t *buf; /* its private buffer */
	size_t buf_bytes;
	const struct vmbus_ring_mem *mem; /* NULL: nothing may point into the ring */
	uint32_t size;			  /* data bytes of the ring */
	uint32_t where;			  /* where the next packet is */
};

/* Whether len bytes at p lie in our view of the window, one behind the other. */
static inline bool in_window(const struct vmbus_ring_mem *mem, const void *p, size_t len)
{
	uint32_t i;

	if (!mem->pages_p)
		return within(p, len, mem->data_p, mem->linear_p);
	for (i = 0; i < mem->size_p / VMBUS_PAGE_BYTES; i++)
		if (within(p, len, mem->pages_p[i], VMBUS_PAGE_BYTES))
			return true;
	return false;
}

/* One packet of a receiver; touches all its bytes, so that a sanitizer sees a wrong one. */
static inline void check_packet(struct rx_bounds *b, const struct vmbus_packet *pkt)
{
	const int ext_min = ref_ext_min(pkt->type);
	uint32_t i;
	uint8_t sum;

	MUST(ext_min >= 0 && pkt->flags <= 1);
	MUST(pkt->len % 8 == 0 && pkt->ext_len % 8 == 0 && pkt->ext_len >= (uint32_t)ext_min);
	MUST(pkt->len <= b->size && pkt->ext_len <= b->size);
	MUST(24u + pkt->len + pkt->ext_len <= vmbus_ring_max_accept(b->size));
	MUST(pkt->where == b->where);
	MUST(within(pkt->ext, pkt->ext_len, b->buf, b->buf_bytes));
	MUST(within(pkt->payload, pkt->len, b->buf, b->buf_bytes) ||
	     (b->mem && in_window(b->mem, pkt->payload, pkt->len)));
	if (!b->mem) { /* the private copy of the descriptor lies before the header */
		const uint8_t *d = pkt->ext - 16;

		MUST(within(d, 24u + pkt->ext_len + pkt->len, b->buf, b->buf_bytes));
		MUST(pkt->payload == pkt->ext + pkt->ext_len);
		MUST(ref_desc_fault(d, b->size) == VMBUS_FAULT_NONE);
		MUST(get_le(d, 2) == pkt->type && get_le(d + 6, 2) == pkt->flags);
		MUST(get_le(d + 2, 2) * 8 == 16u + pkt->ext_len);
		MUST(get_le(d + 4, 2) * 8 == 16u + pkt->ext_len + pkt->len);
		MUST(get_le(d + 8, 8) == pkt->id);
	}
	sum = 0;
	for (i = 0; i < pkt->len; i += 8) /* each qword, and the last byte */
		sum ^= pkt->payload[i] ^ pkt->payload[i + 7];
	checks_sink = sum;
	check_ranges(pkt);
	b->where = (b->where + 24u + pkt->len + pkt->ext_len) % b->size;
}

static inline void check_stats(const struct vmbus_ring_stats *s, bool broken)
{
	MUST(s->faults == (broken ? 1u : 0u));
	MUST(s->bytes >= s->packets * 24 && s->bytes % 8 == 0);
}

/* The receiver's own words, between calls. */
static inline void check_rx(const struct vmbus_ring_rx *rx)
{
	const uint32_t size = rx->mem_p.size_p;
	struct vmbus_ring_stats stats;

	vmbus_ring_rx_stats(rx, &stats);
	check_stats(&stats, vmbus_ring_rx_fault(rx)->field != VMBUS_FAULT_NONE);
	check_fault(vmbus_ring_rx_fault(rx));
	MUST(rx->next_p < size && rx->next_p % 8 == 0);
	MUST(rx->committed_p < size && rx->committed_p % 8 == 0);
	MUST((uint64_t)rx->held_p + rx->avail_p <= size - 8);
	MUST((rx->committed_p + rx->held_p) % size == rx->next_p);
	MUST(rx->left_p <= rx->avail_p);
}

/* The sender's own words, between calls. */
static inline void check_tx(const struct vmbus_ring_tx *tx)
{
	const uint32_t size = tx->mem_p.size_p;
	const bool broken = vmbus_ring_tx_fault(tx)->field != VMBUS_FAULT_NONE;
	struct vmbus_ring_stats stats;
	uint32_t used, unread;

	vmbus_ring_tx_stats(tx, &stats);
	check_stats(&stats, broken);
	check_fault(vmbus_ring_tx_fault(tx));
	MUST(tx->next_p < size && tx->next_p % 8 == 0);
	MUST(tx->committed_p < size && tx->committed_p % 8 == 0);
	MUST(tx->out_p < size && tx->out_p % 8 == 0);
	if (broken)
		return;
	used = (tx->next_p + size - tx->out_p) % size;
	unread = (tx->committed_p + size - tx->out_p) % size;
	MUST(unread <= used);
	MUST(tx->room_p == size - 8 - used);
}

#endif
