/* SPDX-License-Identifier: MIT */
/*
 * Where the memory of one direction is, and copies into and out of its window.  Knows nothing of
 * packets or cursors.
 */
#include "base/contract.h"
#include "ring/copy.h"
#include "ring/ctl.h"
#include "ring/index.h"

#define CTL_ALIGN 64u

uint32_t vmbus_ring_max_send(uint32_t size)
{
	const uint32_t most = size > 2 * VMBUS__RING_UNIT ? size - 2 * VMBUS__RING_UNIT : 0;

	return most < VMBUS_PKT_RING_BYTES_MAX ? most : VMBUS_PKT_RING_BYTES_MAX;
}

uint32_t vmbus_ring_max_accept(uint32_t size)
{
	const uint32_t most = size > VMBUS__RING_UNIT ? size - VMBUS__RING_UNIT : 0;

	return most < VMBUS_PKT_RING_BYTES_MAX ? most : VMBUS_PKT_RING_BYTES_MAX;
}

uint32_t vmbus_ring_rx_buf_bytes(uint32_t size)
{
	const uint32_t bytes = vmbus_ring_max_accept(size) + CTL_ALIGN;

	return bytes > VMBUS_RING_RX_BUF_MIN ? bytes : VMBUS_RING_RX_BUF_MIN;
}

static bool pages_ok(void *const *pages, uint32_t count)
{
	uint32_t i;

	if (!pages)
		return false;
	for (i = 0; i < count; i++)
		if (!pages[i] || (uintptr_t)pages[i] % VMBUS__RING_UNIT)
			return false;
	return true;
}

int vmbus_ring_mem_init(struct vmbus_ring_mem *mem, const struct vmbus_ring_mem_opts *opts)
{
	const struct vmbus_ring_mem none = { 0 };
	const bool scattered = opts->window == VMBUS_RING_SCATTERED;

	if (opts->struct_bytes < sizeof(*opts))
		return VMBUS_E_INVAL;
	if (!vmbus__ring_size_ok(opts->size))
		return VMBUS_E_RANGE;
	if (!opts->ctl || (uintptr_t)opts->ctl % CTL_ALIGN)
		return VMBUS_E_INVAL;
	if (opts->window != VMBUS_RING_PLAIN && opts->window != VMBUS_RING_MIRRORED && !scattered)
		return VMBUS_E_INVAL;
	if (scattered ? !pages_ok(opts->pages, opts->size / VMBUS_PAGE_BYTES)
		      : !opts->data || (uintptr_t)opts->data % VMBUS__RING_UNIT)
		return VMBUS_E_INVAL;
	if (opts->dirty && !opts->dirty->bitmap)
		return VMBUS_E_INVAL;
	*mem = none;
	mem->ctl_p = opts->ctl;
	mem->size_p = opts->size;
	mem->dirty_p = opts->dirty;
	if (scattered) {
		mem->pages_p = opts->pages;
	} else {
		mem->data_p = opts->data;
		mem->linear_p = opts->window == VMBUS_RING_MIRRORED ? 2 * opts->size : opts->size;
	}
	return 0;
}

void vmbus_ring_mem_clear(struct vmbus_ring_mem *mem)
{
	struct vmbus_ring_ctl *ctl = mem->ctl_p;

	vmbus__st32_relaxed(&ctl->in, 0);				  /* INIT.tx */
	vmbus__st32_relaxed(&ctl->out, 0);				  /* INIT.tx */
	vmbus__st32_relaxed(&ctl->mask, 0);				  /* INIT.tx */
	vmbus__st32_relaxed(&ctl->pending_send, 0);			  /* INIT.tx */
	vmbus__st32_relaxed(&ctl->features, VMBUS__RING_FEATURE_PENDING); /* INIT.tx */
	vmbus__ctl_dirty(mem);
}

uint8_t *vmbus__mem_piece(const struct vmbus_ring_mem *mem, uint32_t at, uint32_t len,
			  uint32_t *here)
{
	uint32_t most;
	uint8_t *p;

	VMBUS_REQUIRE(at < mem->size_p);
	if (mem->pages_p) {
		p = (uint8_t *)mem->pages_p[at / VMBUS_PAGE_BYTES] + at % VMBUS_PAGE_BYTES;
		most = VMBUS_PAGE_BYTES - at % VMBUS_PAGE_BYTES;
	} else {
		p = mem->data_p + at;
		most = mem->linear_p - at;
	}
	*here = len < most ? len : most;
	return p;
}

void vmbus__mem_read(const struct vmbus_ring_mem *mem, uint32_t at, void *to, uint32_t len)
{
	uint8_t *dst = to;
	uint32_t here;

	while (len) {
		const uint8_t *p = vmbus__mem_piece(mem, at, len, &here);

		vmbus__peer_read(dst, p, here);
		dst += here;
		len -= here;
		at = vmbus__ring_advance(mem->size_p, at, here);
	}
}

void vmbus__mem_write(const struct vmbus_ring_mem *mem, uint32_t at, const void *from, uint32_t len)
{
	const uint8_t *src = from;
	uint32_t here;

	while (len) {
		uint8_t *p = vmbus__mem_piece(mem, at, len, &here);

		vmbus__peer_write(p, src, here);
		src += here;
		len -= here;
		at = vmbus__ring_advance(mem->size_p, at, here);
	}
}

void vmbus__mem_dirty(const struct vmbus_ring_mem *mem, uint32_t first, uint32_t next)
{
	if (first == next)
		return;
	if (first < next) {
		vmbus__dirty_data(mem->dirty_p, first, next - 1);
	} else {
		vmbus__dirty_data(mem->dirty_p, first, mem->size_p - 1);
		if (next)
			vmbus__dirty_data(mem->dirty_p, 0, next - 1);
	}
}
