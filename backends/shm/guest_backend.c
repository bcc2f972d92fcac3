/* SPDX-License-Identifier: MIT */
/*
 * The backend of a guest that is a process: hypercalls through the mailbox, messages and event
 * flags from the pages of our processors, shared memory out of the memfd.  What the parent writes
 * there is checked by the functions that take it; a parent that breaks the rules is one that is gone.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/attached.h"

#define LEAVE_NS 500000000u /* for an orderly end at vmbus_shm_detach() */

static uint8_t *page_at(const struct vmbus_shm_attach *attach, uint32_t page)
{
	return attach->map + (size_t)page * VMBUS_PAGE_BYTES;
}

static uint8_t *messages_of(const struct vmbus_shm_attach *attach, uint32_t vp)
{
	return page_at(attach, attach->first_vp + 2 * vp);
}

static uint8_t *flags_of(const struct vmbus_shm_attach *attach, uint32_t vp)
{
	return page_at(attach, attach->first_vp + 2 * vp + 1);
}

/* Set an event flag for the parent, and ring if it was clear. */
static int set_flag(struct vmbus_shm_attach *attach, uint32_t flag)
{
	uint32_t arg;
	const int did = vmbus_synic_raise(&attach->out, VMBUS_SINT_MESSAGE, flag, &arg);

	if (did < 0)
		return did;
	if ((uint32_t)did & VMBUS_SYNIC_INTERRUPT)
		vmbus__shm_ring_doorbell(attach->doorbell);
	return 0;
}

void vmbus__shm_signal_once(struct vmbus_shm_attach *attach, uint32_t conn_id)
{
	if (vmbus__shm_bindable(conn_id))
		(void)set_flag(attach, conn_id - VMBUS_SHM_CONN_BASE);
}

static int put_message(struct vmbus_shm_attach *attach, const struct vmbus_hc_call *call)
{
	const struct vmbus_hc_control control = { .code = VMBUS_HC_POST_MESSAGE };
	struct vmbus_hc_regs regs = { 0 };
	uint8_t input[VMBUS_HC_INPUT_MAX];
	const int bytes = vmbus_hc_encode(call, input, sizeof(input));
	int err;

	if (bytes < 0)
		return bytes;
	regs.control = vmbus_hc_control_encode(&control);
	regs.in = (uint64_t)attach->mailbox * VMBUS_PAGE_BYTES; /* the box carries the input */
	err = vmbus_hcbox_put(&attach->box, &regs, input, (size_t)bytes);
	if (err)
		return err;
	attach->posting = true;
	return set_flag(attach, VMBUS_SHM_CONTROL_BIT);
}

static int be_post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload, uint32_t bytes)
{
	struct vmbus_shm_attach *const attach = ctx;
	struct vmbus_hc_call call = {
		.code = VMBUS_HC_POST_MESSAGE, .conn_id = conn_id, .type = type, .bytes = bytes
	};
	uint64_t result = 0;
	int err;

	if (attach->gone)
		return VMBUS_E_AGAIN;
	if (!attach->posting) {
		if (bytes > sizeof(call.payload))
			return VMBUS_E_RANGE;
		memcpy(call.payload, payload, bytes);
		err = put_message(attach, &call);
		if (err && err != VMBUS_E_AGAIN && vmbus_err_class(err) != VMBUS_CLASS_CALLER)
			vmbus__shm_lose_parent(attach, "it broke the mailbox");
		if (err)
			return err;
	}
	err = vmbus_hcbox_result(&attach->box, &result);
	if (err == VMBUS_E_AGAIN)
		return err;
	attach->posting = false;
	if (err < 0) {
		vmbus__shm_lose_parent(attach, "it broke the mailbox");
		return VMBUS_E_AGAIN;
	}
	return (int)(result & 0xFFFFu);
}

static int be_receive(void *ctx, uint32_t *type, void *payload, uint32_t *bytes)
{
	struct vmbus_shm_attach *const attach = ctx;
	struct vmbus_synic_msg msg;
	bool eom = false;
	int got = vmbus_synic_take(messages_of(attach, attach->target_vp), attach->target_sint,
				   &msg, &eom);

	if (eom)
		(void)set_flag(attach, VMBUS_SHM_CONTROL_BIT);
	if (got <= 0)
		return 0;
	/* What the parent sent by the socket before this message counts before it. */
	vmbus__shm_take_messages(attach);
	*type = msg.type;
	*bytes = msg.bytes;
	memcpy(payload, msg.payload, msg.bytes);
	return 1;
}

static uint64_t be_flags(void *ctx, uint32_t word)
{
	struct vmbus_shm_attach *const attach = ctx;
	uint64_t flags = 0;
	uint32_t vp;

	if (word >= VMBUS_SYNIC_FLAGS / 64)
		return 0;
	for (vp = 0; vp < attach->vps; vp++)
		flags |= vmbus_synic_take_flags(flags_of(attach, vp), VMBUS_SINT_MESSAGE, word);
	return flags;
}

static int be_signal(void *ctx, uint32_t conn_id, uint32_t flag)
{
	struct vmbus_shm_attach *const attach = ctx;
	struct vmbus__shm_bound *bound;
	int fd;

	if (!vmbus__shm_bindable(conn_id) || flag != 0)
		return VMBUS_E_RANGE;
	bound = &attach->bound[conn_id - VMBUS_SHM_CONN_BASE];
	(void)pthread_mutex_lock(&bound->lock);
	fd = bound->fd;
	if (fd >= 0)
		vmbus__shm_ring_doorbell(fd);
	(void)pthread_mutex_unlock(&bound->lock);
	return fd >= 0 ? 0 : set_flag(attach, conn_id - VMBUS_SHM_CONN_BASE);
}

static size_t whole(size_t bytes)
{
	return (size_t)vmbus__shm_whole_pages(bytes);
}

static void *be_alloc(void *ctx, size_t bytes, bool shared)
{
	struct vmbus_shm_attach *const attach = ctx;
	uint32_t page, old = 0;
	void *p;

	if (bytes == 0 || bytes > SIZE_MAX / 2)
		return NULL;
	if (!shared) {
		p = mmap(NULL, whole(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
		return p == MAP_FAILED ? NULL : p;
	}
	if (bytes > attach->bytes)
		return NULL;
	page = vmbus__shm_pages_take(&attach->pages,
				     (uint32_t)((bytes + VMBUS_PAGE_BYTES - 1) / VMBUS_PAGE_BYTES),
				     &old);
	if (page == UINT32_MAX)
		return NULL;
	p = page_at(attach, page);
	memset(p, 0, (size_t)old * VMBUS_PAGE_BYTES); /* the others were zero when we got them */
	return p;
}

/* UINT64_MAX: no page of the heap, so the parent cannot reach it, or it has another use. */
static uint64_t be_pfn(void *ctx, const void *page)
{
	const struct vmbus_shm_attach *const attach = ctx;
	const uintptr_t at = (uintptr_t)page, base = (uintptr_t)attach->map;
	uint64_t pfn;

	if (at < base || at - base >= attach->bytes)
		return UINT64_MAX;
	pfn = (at - base) / VMBUS_PAGE_BYTES;
	return pfn >= attach->pages.first ? pfn : UINT64_MAX;
}

static void be_release(void *ctx, void *p, size_t bytes, bool shared)
{
	struct vmbus_shm_attach *const attach = ctx;
	uint64_t pfn;

	if (!p)
		return;
	if (!shared) {
		(void)munmap(p, whole(bytes));
		return;
	}
	pfn = be_pfn(ctx, p);
	if (pfn != UINT64_MAX && bytes <= attach->bytes &&
	    vmbus__shm_pages_give(&attach->pages, (uint32_t)pfn,
				  (uint32_t)((bytes + VMBUS_PAGE_BYTES - 1) / VMBUS_PAGE_BYTES)))
		return;
	if (attach->log)
		attach->log(attach->log_ctx, "pages given back that were not handed out: ignored");
}

static void *be_mirror(void *ctx, void *p, size_t size)
{
	struct vmbus_shm_attach *const attach = ctx;
	const uint64_t offset = (uint64_t)((uint8_t *)p - attach->map);
	uint8_t *window;
	int i;

	if (attach->huge || size == 0 || size != whole(size) || offset != whole(offset) ||
	    size > attach->bytes || offset > attach->bytes - size)
		return NULL;
	window =
		mmap(NULL, size * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (window == MAP_FAILED)
		return NULL;
	for (i = 0; i < 2; i++) {
		if (mmap(window + (size_t)i * size, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, attach->memfd, (off_t)offset) == MAP_FAILED) {
			(void)munmap(window, size * 2);
			return NULL;
		}
	}
	return window;
}

static void be_unmirror(void *ctx, void *window, size_t size)
{
	(void)ctx;
	(void)munmap(window, size * 2);
}

static int be_idle(void *ctx, uint64_t timeout_ns)
{
	struct vmbus_shm_attach *const attach = ctx;

	(void)vmbus__shm_take_wakeups(attach, timeout_ns);
	/* Taken like every other: who waits dispatches next, and notes what that leaves undone. */
	vmbus__shm_again(attach->again_fd, &attach->again_set, false);
	vmbus__shm_tell_guest(attach);
	return 0;
}

static uint64_t be_time(void *ctx)
{
	(void)ctx;
	return vmbus__shm_now_ns() / 100;
}

static void be_wake(void *ctx)
{
	const struct vmbus_shm_attach *const attach = ctx;

	if (attach->kick_fd >= 0)
		vmbus__shm_ring_doorbell(attach->kick_fd);
}

static bool be_keeps(void *ctx)
{
	const struct vmbus_shm_attach *const attach = ctx;

	return !attach->ending;
}

const struct vmbus_guest_backend vmbus__shm_guest_backend = {
	.struct_bytes = sizeof(struct vmbus_guest_backend),
	.post = be_post,
	.receive = be_receive,
	.flags = be_flags,
	.signal = be_signal,
	.alloc = be_alloc,
	.release = be_release,
	.pfn = be_pfn,
	.mirror = be_mirror,
	.unmirror = be_unmirror,
	.idle = be_idle,
	.time = be_time,
	.wake = be_wake,
	.keeps = be_keeps,
	.leave_ns = LEAVE_NS,
};
