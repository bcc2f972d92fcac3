/* SPDX-License-Identifier: MIT */
/*
 * A mailbox of one page that carries hypercalls where no hypervisor does: one slot, one call at a
 * time, both ends.
 *
 * The child writes a call and then its number; the parent answers and then writes the same number.
 * Each end keeps its number in private memory and never reads its own words back.  What the other
 * end wrote is copied once, and only the copy is looked at.  Neither end loops or waits; how they
 * wake each other is the backend's.
 */
#include <vmbus/hypercall.h>

#include "base/atomic.h"
#include "base/contract.h"
#include "base/untrusted.h"

/* A call in the page. */
struct words {
	uint64_t control, in, out;
	uint32_t bytes; /* of input */
	uint32_t reserved;
};

/* Each word has one writer; the two writers have lines of their own. */
struct vmbus_hcbox {
	vmbus__a32 call; /* child: number of the newest call */
	uint8_t pad1[60];
	uint8_t words[sizeof(struct words)]; /* child, before call */
	uint8_t pad2[32];
	uint8_t input[VMBUS_HC_INPUT_MAX]; /* child, before call */
	vmbus__a32 answer;		   /* parent: number of the call answered last */
	uint8_t pad3[4];
	vmbus__a64 result; /* parent, before answer */
};

_Static_assert(sizeof(struct vmbus_hcbox) <= VMBUS_HCBOX_BYTES, "the mailbox is one page");
_Static_assert(offsetof(struct vmbus_hcbox, answer) % 64u == 0, "each side has its own lines");

enum {
	CHILD_IDLE,
	CHILD_BUSY, /* a call is in the box */
	CHILD_BROKEN
};

/* Numbers go round. */
static uint32_t after(uint32_t number)
{
	return number == UINT32_MAX ? 0 : number + 1;
}

static bool page_ok(const void *page)
{
	return page && (uintptr_t)page % sizeof(uint64_t) == 0;
}

int vmbus_hcbox_child_init(struct vmbus_hcbox_child *end, void *page)
{
	const struct vmbus_hcbox_child none = { 0 };
	struct vmbus_hcbox *box = page;

	if (!end || !page_ok(page))
		return VMBUS_E_INVAL;
	if (vmbus__ld32_relaxed(&box->call) != 0 || /* CALL.child */
	    vmbus__ld32_relaxed(&box->answer) != 0) /* ANSWER.child */
		return VMBUS_E_STATE;
	*end = none;
	end->page_p = box;
	return 0;
}

int vmbus_hcbox_put(struct vmbus_hcbox_child *end, const struct vmbus_hc_regs *regs,
		    const void *input, size_t bytes)
{
	const struct words words = { regs->control, regs->in, regs->out, (uint32_t)bytes, 0 };
	struct vmbus_hcbox *box = end->page_p;

	if (bytes > VMBUS_HC_INPUT_MAX)
		return VMBUS_E_RANGE;
	if (bytes && !input)
		return VMBUS_E_INVAL;
	if (end->busy_p == CHILD_BROKEN)
		return VMBUS_E_FAULT;
	if (end->busy_p == CHILD_BUSY)
		return VMBUS_E_AGAIN;
	vmbus__peer_write(box->words, &words, sizeof(words));
	if (bytes)
		vmbus__peer_write(box->input, input, bytes);
	end->seq_p = after(end->seq_p);
	end->busy_p = CHILD_BUSY;
	vmbus__st32_release(&box->call, end->seq_p); /* CALL.child */
	return 0;
}

int vmbus_hcbox_result(struct vmbus_hcbox_child *end, uint64_t *result)
{
	struct vmbus_hcbox *box = end->page_p;
	uint32_t answer;

	if (end->busy_p == CHILD_BROKEN)
		return VMBUS_E_FAULT;
	if (end->busy_p == CHILD_IDLE)
		return VMBUS_E_STATE;
	answer = vmbus__ld32_acquire(&box->answer); /* ANSWER.child */
	if (after(answer) == end->seq_p)
		return VMBUS_E_AGAIN;
	if (answer != end->seq_p) {
		end->busy_p = CHILD_BROKEN;
		return VMBUS_E_PEER;
	}
	*result = vmbus__ld64_relaxed(&box->result); /* ANSWER.child */
	end->busy_p = CHILD_IDLE;
	return 1;
}

int vmbus_hcbox_parent_init(struct vmbus_hcbox_parent *end, void *page)
{
	const struct vmbus_hcbox_parent none = { 0 };

	if (!end || !page_ok(page))
		return VMBUS_E_INVAL;
	__builtin_memset(page, 0, VMBUS_HCBOX_BYTES);
	*end = none;
	end->page_p = page;
	return 0;
}

/* A call on its way to the caller's table: its input is a private copy. */
struct served {
	const struct vmbus_hc_ops *ops;
	void *ctx;
	uint8_t input[VMBUS_HC_INPUT_MAX]; /* zeroes after what the child gave */
};

static int served_read(void *ctx, uint64_t gpa, void *to, size_t bytes)
{
	const struct served *served = ctx;

	if (gpa >= sizeof(served->input) || bytes > sizeof(served->input) - gpa)
		return VMBUS_E_RANGE;
	__builtin_memcpy(to, served->input + gpa, bytes);
	return 0;
}

static uint32_t served_post(void *ctx, uint32_t conn_id, uint32_t type, const void *payload,
			    uint32_t bytes)
{
	const struct served *served = ctx;

	return served->ops->post_message(served->ctx, conn_id, type, payload, bytes);
}

static uint32_t served_signal(void *ctx, uint32_t conn_id, uint32_t flag)
{
	const struct served *served = ctx;

	return served->ops->signal_event(served->ctx, conn_id, flag);
}

static uint64_t served_other(void *ctx, const struct vmbus_hc_control *control,
			     const struct vmbus_hc_regs *regs)
{
	const struct served *served = ctx;

	return served->ops->other(served->ctx, control, regs);
}

/* Copy the call that is in the box, once, and carry it out. */
static uint64_t serve_one(const struct vmbus_hcbox *box, const struct vmbus_hc_ops *ops, void *ctx)
{
	const struct vmbus_hc_ops through = {
		.struct_bytes = sizeof(through),
		.read = served_read,
		.post_message = ops->post_message ? served_post : NULL,
		.signal_event = ops->signal_event ? served_signal : NULL,
		.other = ops->other ? served_other : NULL,
	};
	struct vmbus_hc_control control;
	struct vmbus_hc_regs regs = { 0 };
	struct served served;
	struct words words;

	served.ops = ops;
	served.ctx = ctx;
	vmbus__peer_read(&words, box->words, sizeof(words));
	if (words.bytes > sizeof(served.input))
		return VMBUS_HC_INVALID_INPUT;
	vmbus__peer_read(served.input, box->input, words.bytes);
	__builtin_memset(served.input + words.bytes, 0, sizeof(served.input) - words.bytes);
	regs.control = words.control;
	regs.in = words.in;
	regs.out = words.out;
	(void)vmbus_hc_control_decode(words.control, &control);
	if (!control.fast)
		regs.in = 0; /* the input is here, whatever address is named */
	return vmbus_hc_dispatch(&through, &served, &regs);
}

int vmbus_hcbox_serve(struct vmbus_hcbox_parent *end, const struct vmbus_hc_ops *ops, void *ctx)
{
	struct vmbus_hcbox *box = end->page_p;
	uint64_t result;
	uint32_t call;

	if (!ops || ops->struct_bytes < sizeof(*ops))
		return VMBUS_E_INVAL;
	if (end->broken_p)
		return VMBUS_E_FAULT;
	call = vmbus__ld32_acquire(&box->call); /* CALL.parent */
	if (call == end->seq_p)
		return 0;
	if (call != after(end->seq_p)) {
		end->broken_p = 1;
		return VMBUS_E_PEER;
	}
	end->seq_p = call;
	result = serve_one(box, ops, ctx);
	vmbus__st64_relaxed(&box->result, result); /* ANSWER.parent */
	vmbus__st32_release(&box->answer, call);   /* ANSWER.parent */
	return 1;
}
