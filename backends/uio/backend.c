/* SPDX-License-Identifier: MIT */
/*
 * The guest's backend over one device: messages go to the parent of one channel in our own process,
 * signals through the monitor page, and shared memory is the place of the rings and nothing else.
 *
 * The interrupt mask has one owner, the receiving ring: it is unmasked by the guest after each
 * wake-up, and the ring is looked at again after that.  Older kernels mask it in their interrupt
 * handler as well, but tell of each such interrupt, so the guest unmasks it again.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "uio/uio.h"

#include "base/atomic.h"

#define LEAVE_NS 2000000000u /* for an orderly end at vmbus_uio_close() */
#define PENDING_FIRST 8u     /* pending bits of the first group, [MONITOR-PAGE] */
#define PENDING_STRIDE 8u
#define INT_TO_PARENT 2048u /* upper half of the interrupt page, [UIO-SIGNAL] */

static int be_post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload, uint32_t bytes)
{
	(void)conn_id; /* the parent of one channel has one port for all */
	(void)type;
	return vmbus__uio_parent_post(ctx, payload, bytes);
}

static int be_receive(void *ctx, uint32_t *type, void *payload, uint32_t *bytes)
{
	struct vmbus_uio *const uio = ctx;
	const struct vmbus__uio_answer *const first = &uio->answers[uio->first_answer];

	vmbus__uio_parent_rescind(uio);
	if (uio->answer_count == 0)
		return 0;
	*type = VMBUS_MSG_TYPE_CTL;
	*bytes = first->len;
	memcpy(payload, first->bytes, first->len);
	uio->first_answer = (uio->first_answer + 1) % VMBUS__UIO_ANSWERS;
	uio->answer_count--;
	return 1;
}

/* The kernel tells that there was an interrupt, not whose: there is one channel. */
static uint64_t be_flags(void *ctx, uint32_t word)
{
	struct vmbus_uio *const uio = ctx;

	if (word != uio->offer.relid / 64u || !vmbus__uio_device_event(uio))
		return 0;
	return (uint64_t)1 << uio->offer.relid % 64u;
}

static void set_bit(uint8_t *page, uint32_t offset, uint32_t bit)
{
	vmbus__or32_relaxed((vmbus__a32 *)(void *)(page + offset),
			    1u << bit % 32u); /* MONITOR.set */
}

/* [UIO-SIGNAL]: with a monitor no system call is made. */
static int be_signal(void *ctx, uint32_t conn_id, uint32_t flag)
{
	struct vmbus_uio *const uio = ctx;
	const uint32_t relid = uio->offer.relid, monitor = uio->offer.monitor_id;

	(void)conn_id;
	(void)flag;
	if (uio->fd < 0)
		return 0;
	vmbus__fence_full(); /* MONITOR.set */
	if (uio->int_page)
		set_bit(uio->int_page, INT_TO_PARENT + relid / 32u * 4u, relid);
	if (uio->monitor_page) {
		set_bit(uio->monitor_page, PENDING_FIRST + monitor / 32u * PENDING_STRIDE, monitor);
		return 0;
	}
	return vmbus__uio_sys->enable(uio->fd) ? vmbus__uio_errno() : 0;
}

static void *be_alloc(void *ctx, size_t bytes, bool shared)
{
	struct vmbus_uio *const uio = ctx;
	void *p;

	if (bytes == 0 || bytes > SIZE_MAX / 2)
		return NULL;
	if (!shared) {
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		return p == MAP_FAILED ? NULL : p;
	}
	if (bytes != uio->areas.ring_bytes) {
		vmbus__uio_log(
			uio,
			"%s: no shared memory but the rings: send_bytes and recv_bytes must be "
			"%u each, what vmbus_uio_ring_bytes() says",
			uio->name, (unsigned int)(uio->areas.ring_bytes / 2 - VMBUS_PAGE_BYTES));
		return NULL;
	}
	if (uio->rings_taken)
		return NULL;
	uio->rings_taken = true;
	memset(uio->rings, 0, uio->areas.ring_bytes);
	return uio->rings;
}

static void be_release(void *ctx, void *p, size_t bytes, bool shared)
{
	struct vmbus_uio *const uio = ctx;

	if (!shared && p)
		(void)munmap(p, bytes);
	else if (p && p == uio->rings)
		uio->rings_taken = false;
}

static uint64_t be_pfn(void *ctx, const void *page)
{
	return vmbus__uio_pfn(ctx, page);
}

static int be_idle(void *ctx, uint64_t timeout_ns)
{
	const struct vmbus_uio *const uio = ctx;

	if (uio->answer_count == 0)
		(void)vmbus__uio_sleep(ctx, timeout_ns);
	return 0;
}

static uint64_t be_time(void *ctx)
{
	struct timespec now = { 0 };

	(void)ctx;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 10000000u + (uint64_t)now.tv_nsec / 100u;
}

static void be_wake(void *ctx)
{
	const struct vmbus_uio *const uio = ctx;

	if (uio->kick_fd >= 0)
		(void)eventfd_write(uio->kick_fd, 1);
}

static bool be_keeps(void *ctx)
{
	const struct vmbus_uio *const uio = ctx;

	return !uio->ending;
}

/* No mirror: the kernel maps an area from its start only, so rings have plain windows. */
const struct vmbus_guest_backend vmbus__uio_guest_backend = {
	.struct_bytes = sizeof(struct vmbus_guest_backend),
	.post = be_post,
	.receive = be_receive,
	.flags = be_flags,
	.signal = be_signal,
	.alloc = be_alloc,
	.release = be_release,
	.pfn = be_pfn,
	.idle = be_idle,
	.time = be_time,
	.wake = be_wake,
	.keeps = be_keeps,
	.leave_ns = LEAVE_NS,
};
