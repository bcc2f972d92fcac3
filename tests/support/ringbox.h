/* SPDX-License-Identifier: MIT */
/*
 * A ring to test with: control page and data on a memfd, mapped once for the library, in any of
 * the windows and between guard pages, and once more for the test, which plays the peer there.
 * Both ends can be opened on it; each has a buffer that ends at a guard page, and a count of its
 * signals.
 */
#ifndef RINGBOX_H
#define RINGBOX_H

#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include <vmbus/mtx.h>
#include <vmbus/ring.h>

#include "base/untrusted.h"
#include "ring/ctl.h"
#include "vmbus_test.h"
#include "wire/pkt.h"

#define RINGBOX_SLOTS 64u

enum ringbox_word { /* byte offsets in the control page, [RING-CTL] */
	RINGBOX_IN = 0,
	RINGBOX_OUT = 4,
	RINGBOX_MASK = 8,
	RINGBOX_PENDING = 12,
	RINGBOX_FEATURES = 64
};

static const enum vmbus_ring_window ringbox_windows[] = { VMBUS_RING_PLAIN, VMBUS_RING_MIRRORED,
							  VMBUS_RING_SCATTERED };
static const char *const ringbox_window_name[] = { "plain", "mirrored", "scattered" };
#define RINGBOX_WINDOWS 3

struct ringbox {
	uint32_t size;
	enum vmbus_ring_window window;
	uint8_t *peer; /* the test's view: control page, then the data in order */
	uint8_t *map;  /* the library's view, with its guard pages */
	size_t map_bytes, peer_bytes;
	uint8_t *ctl, *data; /* in the library's view; data is NULL when scattered */
	void **pages;
	struct vmbus_ring_mem_opts mem_opts;
	struct vmbus_ring_mem mem;
	struct vmbus_ring_tx tx;
	struct vmbus_ring_rx rx;
	struct vmbus_ring_mtx *mtx;
	struct vmbus_ring_mtx_slot slots[RINGBOX_SLOTS];
	uint8_t *buf, *buf_map;
	size_t buf_map_bytes;
	uint32_t buf_bytes;
	unsigned int tx_signals, rx_signals; /* to the receiver, to the sender */
};

static inline void *ringbox_mmap(void *at, size_t bytes, int prot, int flags, int fd, size_t offset)
{
	void *p = mmap(at, bytes, prot, flags, fd, (off_t)offset);

	ck_assert_msg(p != MAP_FAILED, "mmap of %zu bytes", bytes);
	return p;
}

static inline void *ringbox_reserve(size_t bytes)
{
	return ringbox_mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			    0);
}

static inline void ringbox_place(uint8_t *at, size_t bytes, int fd, size_t offset)
{
	ringbox_mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, offset);
}

/* Private memory that ends where a guard page begins. */
static inline uint8_t *ringbox_guarded(size_t bytes, uint8_t **map, size_t *map_bytes)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const size_t whole = (bytes + page - 1) / page * page;

	*map_bytes = whole + 2 * page;
	*map = ringbox_reserve(*map_bytes);
	ck_assert(mprotect(*map + page, whole, PROT_READ | PROT_WRITE) == 0);
	return *map + page + whole - bytes;
}

/*
 * The data pages, each between two guard pages, in reverse order.  A host whose pages are larger
 * than the protocol's cannot have guards there.
 */
static inline void ringbox_scatter(struct ringbox *rb, int fd, size_t host)
{
	const uint32_t count = rb->size / VMBUS_PAGE_BYTES;
	uint8_t *const data = rb->map + 3 * host;
	uint32_t i;

	rb->pages = calloc(count, sizeof(*rb->pages));
	ck_assert_ptr_nonnull(rb->pages);
	if (host != VMBUS_PAGE_BYTES)
		ringbox_place(data, rb->size, fd, host);
	for (i = 0; i < count; i++) {
		uint8_t *at = data + (size_t)(count - 1 - i) * 2 * VMBUS_PAGE_BYTES;

		if (host == VMBUS_PAGE_BYTES)
			ringbox_place(at, VMBUS_PAGE_BYTES, fd,
				      host + i * (size_t)VMBUS_PAGE_BYTES);
		else
			at = data + (size_t)i * VMBUS_PAGE_BYTES;
		rb->pages[i] = at;
	}
}

static inline void ringbox_map(struct ringbox *rb, int fd, size_t host)
{
	const size_t data_bytes = (rb->size + host - 1) / host * host;
	uint8_t *data;

	rb->map_bytes = 4 * host + 2 * data_bytes;
	rb->map = ringbox_reserve(rb->map_bytes);
	rb->ctl = rb->map + host;
	ringbox_place(rb->ctl, host, fd, 0);
	data = rb->map + 3 * host;
	if (rb->window == VMBUS_RING_SCATTERED) {
		ringbox_scatter(rb, fd, host);
		return;
	}
	rb->data = data;
	ringbox_place(data, data_bytes, fd, host);
	if (rb->window == VMBUS_RING_MIRRORED)
		ringbox_place(data + data_bytes, data_bytes, fd, host);
}

static inline void ringbox_tx_signal(void *ctx)
{
	((struct ringbox *)ctx)->tx_signals++;
}

static inline void ringbox_rx_signal(void *ctx)
{
	((struct ringbox *)ctx)->rx_signals++;
}

/*
 * A cleared ring.  The data is filled with a byte that is no part of a valid packet, so that what
 * was not written shows.  Nothing is opened.
 */
static inline struct ringbox *ringbox_new(uint32_t size, enum vmbus_ring_window window)
{
	const size_t host = (size_t)sysconf(_SC_PAGESIZE);
	struct ringbox *rb = calloc(1, sizeof(*rb));
	int fd;

	ck_assert_ptr_nonnull(rb);
	rb->size = size;
	rb->window = window;
	fd = memfd_create("ringbox", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	rb->peer_bytes = host + (size + host - 1) / host * host;
	ck_assert(ftruncate(fd, (off_t)rb->peer_bytes) == 0);
	rb->peer = ringbox_mmap(NULL, rb->peer_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ringbox_map(rb, fd, host);
	close(fd);
	rb->peer += host - VMBUS_PAGE_BYTES; /* a control word at host page 0 is reached below */
	memset(rb->peer + VMBUS_PAGE_BYTES, 0xe5, size);
	rb->mem_opts.struct_bytes = sizeof(rb->mem_opts);
	rb->mem_opts.window = window;
	rb->mem_opts.size = size;
	rb->mem_opts.ctl = rb->ctl;
	rb->mem_opts.data = rb->data;
	rb->mem_opts.pages = rb->pages;
	ck_assert_int_eq(vmbus_ring_mem_init(&rb->mem, &rb->mem_opts), 0);
	vmbus_ring_mem_clear(&rb->mem);
	return rb;
}

/* The test's own view of the data and of a control word. */
static inline uint8_t *ringbox_data(const struct ringbox *rb)
{
	return rb->peer + VMBUS_PAGE_BYTES;
}

static inline volatile uint32_t *ringbox_word(const struct ringbox *rb, enum ringbox_word word)
{
	const size_t host = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *p = rb->peer - (host - VMBUS_PAGE_BYTES) + word;

	return (volatile uint32_t *)(void *)p;
}

static inline uint32_t ringbox_get(const struct ringbox *rb, enum ringbox_word word)
{
	return *ringbox_word(rb, word);
}

static inline void ringbox_set(const struct ringbox *rb, enum ringbox_word word, uint32_t v)
{
	*ringbox_word(rb, word) = v;
}

/* A qword of the data area, at any index: the test's view is not mirrored, and a qword no split. */
static inline uint64_t ringbox_get64(const struct ringbox *rb, uint32_t at)
{
	uint64_t v;

	memcpy(&v, ringbox_data(rb) + at % rb->size, 8);
	return v;
}

static inline void ringbox_set64(const struct ringbox *rb, uint32_t at, uint64_t v)
{
	memcpy(ringbox_data(rb) + at % rb->size, &v, 8);
}

/* Bytes of the data area, going round. */
static inline void ringbox_copy_out(const struct ringbox *rb, uint32_t at, void *to, uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		((uint8_t *)to)[i] = ringbox_data(rb)[(at + i) % rb->size];
}

static inline void ringbox_copy_in(const struct ringbox *rb, uint32_t at, const void *from,
				   uint32_t len)
{
	uint32_t i;

	for (i = 0; i < len; i++)
		ringbox_data(rb)[(at + i) % rb->size] = ((const uint8_t *)from)[i];
}

/* Which control word (0 and up) or data byte (4096 and up) an address of the library's is; or -1. */
static inline long ringbox_place_of(const struct ringbox *rb, const volatile void *address)
{
	const uint8_t *p = (const uint8_t *)address;
	uint32_t i;

	if (p >= rb->ctl && p < rb->ctl + VMBUS_PAGE_BYTES)
		return p - rb->ctl;
	if (rb->data && p >= rb->data && p < rb->data + rb->mem.linear_p)
		return (long)VMBUS_PAGE_BYTES + (p - rb->data) % (long)rb->size;
	for (i = 0; rb->pages && i < rb->size / VMBUS_PAGE_BYTES; i++) {
		const uint8_t *page = rb->pages[i];

		if (p >= page && p < page + VMBUS_PAGE_BYTES)
			return (long)VMBUS_PAGE_BYTES * (long)(i + 1) + (p - page);
	}
	return -1;
}

static inline void ringbox_start_at(struct ringbox *rb, uint32_t index)
{
	ringbox_set(rb, RINGBOX_IN, index);
	ringbox_set(rb, RINGBOX_OUT, index);
}

static inline int ringbox_open_tx(struct ringbox *rb)
{
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .signal = ringbox_tx_signal,
					      .signal_ctx = rb };

	return vmbus_ring_tx_init(&rb->tx, &rb->mem, &opts);
}

static inline int ringbox_open_mtx(struct ringbox *rb, uint32_t slots)
{
	const struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					      .signal = ringbox_tx_signal,
					      .signal_ctx = rb };

	if (!rb->mtx)
		rb->mtx = aligned_alloc(64, (sizeof(*rb->mtx) + 63) / 64 * 64);
	ck_assert_ptr_nonnull(rb->mtx);
	return vmbus_ring_mtx_init(rb->mtx, &rb->mem, &opts, rb->slots, slots);
}

static inline void ringbox_new_buf(struct ringbox *rb, uint32_t bytes)
{
	if (rb->buf_map)
		munmap(rb->buf_map, rb->buf_map_bytes);
	rb->buf = ringbox_guarded(bytes, &rb->buf_map, &rb->buf_map_bytes);
	rb->buf_bytes = bytes;
}

/* bytes: of the receiver's buffer; 0 for what any packet of the ring needs. */
static inline int ringbox_open_rx(struct ringbox *rb, uint32_t bytes)
{
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = ringbox_rx_signal,
					.signal_ctx = rb };

	ringbox_new_buf(rb, bytes ? bytes : vmbus_ring_rx_buf_bytes(rb->size));
	opts.buf = rb->buf;
	opts.buf_bytes = rb->buf_bytes;
	return vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts);
}

/* The receiving end alone, at an index. */
static inline struct ringbox *ringbox_open_receiver(uint32_t size, enum vmbus_ring_window window,
						    uint32_t index, uint32_t buf_bytes)
{
	struct ringbox *rb = ringbox_new(size, window);

	ringbox_start_at(rb, index);
	must_eq(ringbox_open_rx(rb, buf_bytes), 0);
	return rb;
}

/* Both ends, at an index. */
static inline struct ringbox *ringbox_open(uint32_t size, enum vmbus_ring_window window,
					   uint32_t index)
{
	struct ringbox *rb = ringbox_new(size, window);

	ringbox_start_at(rb, index);
	ck_assert_int_eq(ringbox_open_tx(rb), 0);
	ck_assert_int_eq(ringbox_open_rx(rb, 0), 0);
	return rb;
}

/* Both ends again, at another index of the same memory. */
static inline void ringbox_reopen(struct ringbox *rb, uint32_t index)
{
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts),
					.signal = ringbox_rx_signal,
					.signal_ctx = rb,
					.buf = rb->buf,
					.buf_bytes = rb->buf_bytes };

	vmbus_ring_mem_clear(&rb->mem);
	ringbox_start_at(rb, index);
	must_eq(ringbox_open_tx(rb), 0);
	must_eq(vmbus_ring_rx_init(&rb->rx, &rb->mem, &opts), 0);
	rb->tx_signals = 0;
	rb->rx_signals = 0;
}

static inline void ringbox_free(struct ringbox *rb)
{
	const size_t host = (size_t)sysconf(_SC_PAGESIZE);

	munmap(rb->map, rb->map_bytes);
	munmap(rb->peer - (host - VMBUS_PAGE_BYTES), rb->peer_bytes);
	if (rb->buf_map)
		munmap(rb->buf_map, rb->buf_map_bytes);
	free(rb->pages);
	free(rb->mtx);
	free(rb);
}

/* Byte j of payload number seed. */
static inline uint8_t ringbox_byte(uint32_t seed, uint32_t j)
{
	const uint32_t v = (seed + 1u) % 65521u * 31u + j * 7u + j / 256u * 13u;

	return (uint8_t)(v % 251u + 1u); /* never 0, so that padding shows */
}

static inline void ringbox_fill(void *p, uint32_t len, uint32_t seed)
{
	uint32_t j;

	for (j = 0; j < len; j++)
		((uint8_t *)p)[j] = ringbox_byte(seed, j);
}

/* An in-band message of one piece. */
static inline struct vmbus_msg ringbox_msg(uint64_t id, const void *data, uint32_t len)
{
	const struct vmbus_msg msg = {
		.id = id, .data = data, .len = len, .type = VMBUS_PKT_INBAND
	};

	return msg;
}

/* Whether a packet is the in-band one of that id and those len bytes, padded with zeroes. */
static inline void ringbox_must_be(const struct vmbus_packet *pkt, uint64_t id, const void *data,
				   uint32_t len)
{
	uint32_t i;

	must_eq(pkt->type, VMBUS_PKT_INBAND);
	must_eq(pkt->id, id);
	must_eq(pkt->ext_len, 0);
	must_eq(pkt->len, (len + 7u) / 8u * 8u);
	must(len == 0 || memcmp(pkt->payload, data, len) == 0);
	for (i = len; i < pkt->len; i++)
		must_eq(pkt->payload[i], 0);
}

static inline void ringbox_le(uint8_t *p, uint32_t bytes, uint64_t v)
{
	for (; bytes; bytes--, v >>= 8)
		*p++ = (uint8_t)v;
}

/*
 * The ring bytes of a packet at an index, by the table of [PKT-LAYOUT] and without the library:
 * descriptor, header, payload, zeroes, trailer.  msg: its payload in data alone.
 */
static inline uint32_t ringbox_model(uint8_t *to, uint32_t at, const struct vmbus_msg *msg)
{
	const uint32_t offset = 16 + msg->ext_len;
	const uint32_t length = offset + (msg->len + 7) / 8 * 8;

	memset(to, 0, length + 8);
	ringbox_le(to, 2, msg->type);
	ringbox_le(to + 2, 2, offset / 8);
	ringbox_le(to + 4, 2, length / 8);
	ringbox_le(to + 6, 2, msg->flags);
	ringbox_le(to + 8, 8, msg->id);
	if (msg->ext_len)
		memcpy(to + 16, msg->ext, msg->ext_len);
	if (msg->len)
		memcpy(to + offset, msg->data, msg->len);
	ringbox_le(to + length + 4, 4, at);
	return length + 8;
}

/* As a peer that needs no library: a packet at an index, its payload of seed. */
static inline void ringbox_peer_packet(const struct ringbox *rb, uint32_t at, uint64_t desc,
				       uint64_t id, uint32_t seed)
{
	const uint32_t length = vmbus__desc_length8(desc) * 8u;
	uint32_t i;

	ringbox_set64(rb, at, desc);
	ringbox_set64(rb, at + 8, id);
	for (i = 16; i < length; i++)
		ringbox_data(rb)[(at + i) % rb->size] = ringbox_byte(seed, i - 16);
	ringbox_set64(rb, at + length, (uint64_t)at << 32);
}

/* The peer sends one packet, without the library. */
static inline void ringbox_send(struct ringbox *rb, uint32_t type, uint32_t ext_len, uint32_t len,
				uint64_t id)
{
	const uint32_t at = ringbox_get(rb, RINGBOX_IN);
	const uint32_t length8 = (16 + ext_len + len) / 8;

	ringbox_peer_packet(rb, at, VMBUS__DESC(type, 2 + ext_len / 8, length8, id % 2), id,
			    (uint32_t)id);
	ringbox_set(rb, RINGBOX_IN, (at + length8 * 8 + 8) % rb->size);
}

/* Whether a packet is that one: header and payload are one run of bytes of the seed. */
static inline void ringbox_must_be_sent(const struct vmbus_packet *pkt, uint32_t type,
					uint32_t ext_len, uint32_t len, uint64_t id)
{
	uint32_t i;

	must_eq(pkt->type, type);
	must_eq(pkt->id, id);
	must_eq(pkt->flags, id % 2);
	must_eq(pkt->ext_len, ext_len);
	must_eq(pkt->len, len);
	for (i = 0; i < ext_len; i++)
		must_eq(pkt->ext[i], ringbox_byte((uint32_t)id, i));
	for (i = 0; i < len; i++)
		must_eq(pkt->payload[i], ringbox_byte((uint32_t)id, ext_len + i));
}

#endif
