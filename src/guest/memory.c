/* SPDX-License-Identifier: MIT */
/*
 * Memory of the guest: storage of channels, the pages of rings, private buffers.  All of it comes
 * from the backend, in whole pages of zeroes.  Nothing here knows when pages may be given back;
 * that is the business of the page lists.
 */
#include "guest/state.h"

#define SLAB_PAGES 4u

/* The first receive buffer: a whole copied run of the ring, and the room for its alignment. */
#define RX_BUF_FIRST (16384u + 64u)

struct slab {
	struct slab *next;
	size_t bytes;
	struct vmbus_vsc vsc[];
};

static size_t whole_pages(size_t bytes)
{
	return (bytes + VMBUS_PAGE_BYTES - 1) / VMBUS_PAGE_BYTES * VMBUS_PAGE_BYTES;
}

void *vmbus__guest_alloc(struct vmbus_guest *guest, size_t bytes, bool shared)
{
	return guest->be->alloc(guest->be_ctx, whole_pages(bytes), shared);
}

void vmbus__guest_free(struct vmbus_guest *guest, void *p, size_t bytes, bool shared)
{
	if (p)
		guest->be->release(guest->be_ctx, p, whole_pages(bytes), shared);
}

struct vmbus_vsc *vmbus__vsc_new(struct vmbus_guest *guest)
{
	const size_t bytes = SLAB_PAGES * (size_t)VMBUS_PAGE_BYTES;
	const size_t count = (bytes - sizeof(struct slab)) / sizeof(struct vmbus_vsc);
	struct vmbus_vsc *vsc;
	struct slab *slab;
	size_t i;

	if (!guest->spare) {
		slab = vmbus__guest_alloc(guest, bytes, false);
		if (!slab)
			return NULL;
		slab->next = guest->slabs;
		slab->bytes = bytes;
		guest->slabs = slab;
		for (i = 0; i < count; i++) {
			slab->vsc[i].next = guest->spare;
			guest->spare = &slab->vsc[i];
		}
	}
	vsc = guest->spare;
	guest->spare = vsc->next;
	__builtin_memset(vsc, 0, sizeof(*vsc));
	return vsc;
}

void vmbus__vsc_free(struct vmbus_guest *guest, struct vmbus_vsc *vsc)
{
	/* Who still has the pointer is told that the channel is gone, until the next offer. */
	__builtin_memset(vsc, 0, sizeof(*vsc));
	vsc->guest = guest;
	vsc->life = VMBUS__LIFE_DEAD;
	vsc->rescinded = true;
	vsc->forgotten = true;
	vsc->next = guest->spare;
	guest->spare = vsc;
}

void vmbus__slabs_free(struct vmbus_guest *guest)
{
	struct slab *slab = guest->slabs, *next;

	for (; slab; slab = next) {
		next = slab->next;
		vmbus__guest_free(guest, slab, slab->bytes, false);
	}
	guest->slabs = NULL;
	guest->spare = NULL;
}

/* Bytes of the private block: the table, then the receive buffer, which lends its room to pfns. */
static size_t table_bytes(const struct vmbus_vsc *vsc)
{
	const size_t bytes = vsc->opts.requests_max * sizeof(struct vmbus__req);

	return (bytes + 63u) / 64u * 64u;
}

/* The backend is not called by a channel's own thread, so such a channel has all it may need. */
static uint32_t first_buffer(const struct vmbus_vsc *vsc)
{
	const uint32_t most = vmbus_ring_rx_buf_bytes(vsc->opts.recv_bytes);

	return vsc->opts.own_thread || most < RX_BUF_FIRST ? most : RX_BUF_FIRST;
}

static void name_pages(struct vmbus_vsc *vsc)
{
	struct vmbus_guest *const guest = vsc->guest;
	uint32_t i;

	for (i = 0; i < vsc->rings.count; i++)
		vsc->rings.pfns[i] = guest->be->pfn(
			guest->be_ctx, vsc->rings.pages + i * (size_t)VMBUS_PAGE_BYTES);
}

int vmbus__vsc_alloc(struct vmbus_vsc *vsc)
{
	struct vmbus_guest *const guest = vsc->guest;
	const uint32_t pages = (vsc->opts.send_bytes + vsc->opts.recv_bytes) / VMBUS_PAGE_BYTES + 2;
	size_t buffer = first_buffer(vsc);

	if (buffer < pages * sizeof(uint64_t))
		buffer = pages * sizeof(uint64_t);
	vsc->block_bytes = whole_pages(table_bytes(vsc) + buffer);
	vsc->block = vmbus__guest_alloc(guest, vsc->block_bytes, false);
	if (!vsc->block)
		return VMBUS_E_NOMEM;
	vsc->rings.pages = vmbus__guest_alloc(guest, pages * (size_t)VMBUS_PAGE_BYTES, true);
	if (!vsc->rings.pages) {
		vmbus__guest_free(guest, vsc->block, vsc->block_bytes, false);
		vsc->block = NULL;
		return VMBUS_E_NOMEM;
	}
	vsc->rings.count = pages;
	vsc->rings.vsc = vsc;
	/* Aligned: the table is a multiple of 64 bytes at the start of a page. */
	vsc->rings.pfns = (uint64_t *)(void *)(vsc->block + table_bytes(vsc));
	name_pages(vsc);
	vmbus__req_init(&vsc->path, (struct vmbus__req *)(void *)vsc->block,
			vsc->opts.requests_max);
	return 0;
}

/* The window of one ring: its data twice in a row, if the backend can do that. */
static int window(struct vmbus_vsc *vsc, uint32_t which, struct vmbus_ring_mem *mem)
{
	struct vmbus_guest *const guest = vsc->guest;
	const uint32_t size = which ? vsc->opts.recv_bytes : vsc->opts.send_bytes;
	uint8_t *const ctl =
		vsc->rings.pages + (which ? vsc->opts.send_bytes + VMBUS_PAGE_BYTES : 0u);
	struct vmbus_ring_mem_opts opts = { .struct_bytes = sizeof(opts) };

	opts.size = size;
	opts.ctl = ctl;
	opts.data = ctl + VMBUS_PAGE_BYTES;
	opts.window = VMBUS_RING_PLAIN;
	if (guest->be->mirror)
		vsc->window[which] = guest->be->mirror(guest->be_ctx, opts.data, size);
	if (vsc->window[which]) {
		opts.data = vsc->window[which];
		opts.window = VMBUS_RING_MIRRORED;
	}
	return vmbus_ring_mem_init(mem, &opts);
}

int vmbus__vsc_rings(struct vmbus_vsc *vsc)
{
	struct vmbus__path *const path = &vsc->path;
	struct vmbus_ring_opts opts = { .struct_bytes = sizeof(opts) };
	struct vmbus_ring_mem send, recv;
	int err;

	err = window(vsc, 0, &send);
	if (!err)
		err = window(vsc, 1, &recv);
	if (err)
		return err;
	vmbus_ring_mem_clear(&send);
	vmbus_ring_mem_clear(&recv);
	opts.signal = vmbus__vsc_signal;
	opts.signal_ctx = vsc;
	err = vmbus_ring_tx_init(&path->tx, &send, &opts);
	if (err)
		return err;
	opts.buf = vsc->block + table_bytes(vsc);
	opts.buf_bytes = (uint32_t)(vsc->block_bytes - table_bytes(vsc));
	return vmbus_ring_rx_init(&path->rx, &recv, &opts);
}

int vmbus__vsc_grow(struct vmbus_vsc *vsc, uint32_t need)
{
	struct vmbus_guest *const guest = vsc->guest;
	const uint32_t most = vmbus_ring_rx_buf_bytes(vsc->opts.recv_bytes);
	const size_t bytes = whole_pages(need < most / 2 ? 2 * (size_t)need : most);
	uint8_t *large;

	if (need > most || vsc->opts.own_thread)
		return VMBUS_E_NOMEM;
	large = vmbus__guest_alloc(guest, bytes, false);
	if (!large)
		return VMBUS_E_NOMEM;
	(void)vmbus_ring_rx_set_buf(&vsc->path.rx, large, (uint32_t)bytes);
	vmbus__guest_free(guest, vsc->large, vsc->large_bytes, false);
	vsc->large = large;
	vsc->large_bytes = bytes;
	return 0;
}

void vmbus__vsc_release(struct vmbus_vsc *vsc)
{
	struct vmbus_guest *const guest = vsc->guest;
	const uint32_t sizes[2] = { vsc->opts.send_bytes, vsc->opts.recv_bytes };
	uint32_t i;

	for (i = 0; i < 2; i++) {
		if (vsc->window[i] && guest->be->unmirror)
			guest->be->unmirror(guest->be_ctx, vsc->window[i], sizes[i]);
		vsc->window[i] = NULL;
	}
	if (!vsc->lost)
		vmbus__guest_free(guest, vsc->rings.pages,
				  vsc->rings.count * (size_t)VMBUS_PAGE_BYTES, true);
	vsc->lost = false;
	vmbus__guest_free(guest, vsc->block, vsc->block_bytes, false);
	vmbus__guest_free(guest, vsc->large, vsc->large_bytes, false);
	vsc->rings.pages = NULL;
	vsc->rings.pfns = NULL;
	vsc->rings.state = VMBUS__LIST_NONE;
	vsc->block = NULL;
	vsc->large = NULL;
	vsc->path.reqs = NULL;
	vsc->path.reqs_max = 0;
}
