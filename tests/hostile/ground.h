/* SPDX-License-Identifier: MIT */
/*
 * A ring on a memfd with two views: ours, in one of the three windows, and the peer's, a mapping of
 * its own.  Behind a plain window there is no memory, and the control page is watched word by word.
 */
#ifndef VMBUS_TESTS_HOSTILE_GROUND_H
#define VMBUS_TESTS_HOSTILE_GROUND_H

#include <sys/mman.h>
#include <unistd.h>

#include "hostile/checks.h"

/* Words of the control page, as indices of 32-bit words. */
enum {
	CTL_IN,
	CTL_OUT,
	CTL_MASK,
	CTL_PENDING,
	CTL_FEATURES = 16,
	CTL_WORDS = 1024
};

struct ground {
	struct vmbus_shm_ring ours;
	enum vmbus_ring_window window;
	uint32_t size;
	volatile uint32_t *ctl; /* the peer's view */
	uint8_t *data;
	size_t peer_bytes;
};

static const char *const window_names[] = { "plain", "mirrored", "scattered" };

static inline void ground_open(struct ground *g, enum vmbus_ring_window window, uint32_t size)
{
	const struct vmbus_shm_ring_opts opts = { .struct_bytes = sizeof(opts),
						  .window = window,
						  .size = size };
	const size_t host_page = (size_t)sysconf(_SC_PAGESIZE);
	int fd;
	void *map;

	g->window = window;
	g->size = size;
	g->peer_bytes = (size_t)vmbus_shm_ring_bytes(size);
	fd = vmbus_shm_create(g->peer_bytes);
	MUST(fd >= 0);
	MUST(vmbus_shm_ring_map(&g->ours, fd, &opts) == 0);
	map = mmap(NULL, g->peer_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(map != MAP_FAILED);
	(void)close(fd);
	g->ctl = map;
	g->data = (uint8_t *)map + host_page;
}

static inline void ground_close(struct ground *g)
{
	vmbus_shm_ring_unmap(&g->ours);
	(void)munmap((void *)(uintptr_t)g->ctl, g->peer_bytes);
}

/* Zero everything but the two indices; a fresh ring when at is 0. */
static inline void ground_reset(struct ground *g, uint32_t at)
{
	memset((void *)(uintptr_t)g->ctl, 0, VMBUS_PAGE_BYTES);
	memset(g->data, 0, g->size);
	g->ctl[CTL_IN] = at;
	g->ctl[CTL_OUT] = at;
}

/* The peer writes bytes into the ring, going round. */
static inline void ground_write(struct ground *g, uint32_t at, const void *from, uint32_t len)
{
	const uint8_t *p = from;
	uint32_t i;

	for (i = 0; i < len; i++)
		g->data[(at + i) % g->size] = p[i];
}

static inline void ground_read(const struct ground *g, uint32_t at, void *to, uint32_t len)
{
	uint8_t *p = to;
	uint32_t i;

	for (i = 0; i < len; i++)
		p[i] = g->data[(at + i) % g->size];
}

/* Whether the ring holds these bytes. */
static inline bool ground_is(const struct ground *g, uint32_t at, const void *bytes, uint32_t len)
{
	const uint32_t most = g->size - at % g->size, here = len < most ? len : most;

	return memcmp(g->data + at % g->size, bytes, here) == 0 &&
	       memcmp(g->data, (const uint8_t *)bytes + here, len - here) == 0;
}

static inline void ground_qword(struct ground *g, uint32_t at, uint64_t v)
{
	uint8_t b[8];

	put_le(b, v, 8);
	ground_write(g, at, b, 8);
}

/* The peer writes a packet by hand; returns where the next one goes.  Nothing is checked. */
static inline uint32_t ground_packet(struct ground *g, uint32_t at, uint32_t type, uint32_t ext_len,
				     uint32_t len, uint32_t flags, uint64_t id)
{
	const uint32_t offset8 = 2 + ext_len / 8, length8 = offset8 + len / 8;

	ground_qword(g, at,
		     (uint64_t)type | (uint64_t)offset8 << 16 | (uint64_t)length8 << 32 |
			     (uint64_t)flags << 48);
	ground_qword(g, at + 8, id);
	return (at + length8 * 8 + 8) % g->size;
}

/* Whether an address that the library loads from is the peer's memory; then its place there. */
static inline bool ground_has(const struct ground *g, const volatile void *p, uint32_t *place)
{
	const uintptr_t a = (uintptr_t)p, ctl = (uintptr_t)g->ours.mem.ctl_p;
	uint32_t i;

	if (a >= ctl && a - ctl < VMBUS_PAGE_BYTES) {
		*place = (uint32_t)(a - ctl);
		return true;
	}
	if (g->ours.mem.pages_p) {
		for (i = 0; i < g->size / VMBUS_PAGE_BYTES; i++) {
			const uintptr_t page = (uintptr_t)g->ours.mem.pages_p[i];

			if (a >= page && a - page < VMBUS_PAGE_BYTES) {
				*place = VMBUS_PAGE_BYTES * (i + 1) + (uint32_t)(a - page);
				return true;
			}
		}
		return false;
	}
	if (a >= (uintptr_t)g->ours.mem.data_p &&
	    a - (uintptr_t)g->ours.mem.data_p < g->ours.mem.linear_p) {
		*place = VMBUS_PAGE_BYTES + (uint32_t)(a - (uintptr_t)g->ours.mem.data_p) % g->size;
		return true;
	}
	return false;
}

extern void (*vmbus__test_hook)(const volatile void *p);

#endif
