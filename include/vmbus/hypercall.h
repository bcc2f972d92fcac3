/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls that VMBus needs: how a call is encoded in registers and memory, and the seam where a
 * partition's calls are carried out.  A backend whose native calls look different translates them
 * and calls vmbus_hc_dispatch(): that is the hypercall adapter.
 *
 * Concepts: vmbus_backend(7).  Nothing here needs a C library.
 */
#ifndef VMBUS_HYPERCALL_H
#define VMBUS_HYPERCALL_H

#include <vmbus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_HC_POST_MESSAGE 0x5Cu /* [HC-POST] */
#define VMBUS_HC_SIGNAL_EVENT 0x5Du /* [HC-SIGNAL] */
#define VMBUS_HC_INPUT_MAX 256u	    /* bytes of input of the calls that we know, [HC-POST] */
#define VMBUS_HC_MESSAGE_MAX 240u   /* bytes of a message's payload, [HC-POST] */

/* Status of a hypercall, [HC-STATUS]. */
enum vmbus_hc_status {
	VMBUS_HC_OK = 0,
	VMBUS_HC_INVALID_CODE = 0x2,
	VMBUS_HC_INVALID_INPUT = 0x3,
	VMBUS_HC_ALIGNMENT = 0x4,
	VMBUS_HC_PARAMETER = 0x5,
	VMBUS_HC_ACCESS_DENIED = 0x6,
	VMBUS_HC_PARTITION_STATE = 0x7,
	VMBUS_HC_OPERATION_DENIED = 0x8,
	VMBUS_HC_NO_MEMORY = 0xB,
	VMBUS_HC_VP_INDEX = 0xE,
	VMBUS_HC_PORT_ID = 0x11,
	VMBUS_HC_CONNECTION_ID = 0x12,
	VMBUS_HC_NO_BUFFERS = 0x13,
	VMBUS_HC_SYNIC_STATE = 0x18,
	VMBUS_HC_TIMEOUT = 0x78
};

/* The control word, taken apart, [HC-CONTROL]. */
struct vmbus_hc_control {
	uint16_t code;
	bool fast; /* the input is in registers */
	bool nested;
	uint16_t var_header_qwords; /* 0 to 1,023 */
	uint16_t rep_count;	    /* 0 to 4,095; 0 for a simple call */
	uint16_t rep_start;	    /* 0 to 4,095 */
};

/* The registers of a call: RCX, RDX, R8 and XMM0 to XMM5 (or their 32-bit pairs, put together). */
struct vmbus_hc_regs {
	uint64_t control;
	uint64_t in;	/* guest physical address, or the first 8 bytes of a fast call */
	uint64_t out;	/* guest physical address, or the next 8 bytes of a fast call */
	bool xmm_valid; /* xmm was filled in: extended fast input is offered to the guest */
	uint8_t reserved[7];
	uint64_t xmm[12]; /* the lower half of each register first */
};

/*
 * Who carries calls out: the seam.  All are called by the thread that called vmbus_hc_dispatch() or
 * vmbus_hcbox_serve(), with its ctx; so by any thread that runs a virtual processor.  They must not
 * block.  vmbus_bus_hc_ops() is such a table.
 */
struct vmbus_hc_ops {
	size_t struct_bytes; /* sizeof(struct vmbus_hc_ops) */
	/*
	 * Copy bytes out of the guest's memory, once.  Returns 0, or an error: the call fails with
	 * PARAMETER.  NULL: no slow call can be made.
	 */
	int (*read)(void *ctx, uint64_t gpa, void *to, size_t bytes);
	/*
	 * Post a message: conn_id at most 24 bits, type neither 0 nor with bit 31, payload of bytes
	 * (at most 240) a private copy that is valid for the call.  Returns enum vmbus_hc_status.
	 * NULL: the call is one for other().
	 */
	uint32_t (*post_message)(void *ctx, uint32_t conn_id, uint32_t type, const void *payload,
				 uint32_t bytes);
	/*
	 * Signal an event: conn_id at most 24 bits, flag 0 to 2,047.  Returns enum vmbus_hc_status.
	 * NULL: the call is one for other().
	 */
	uint32_t (*signal_event)(void *ctx, uint32_t conn_id, uint32_t flag);
	/* Any other code; returns the whole result word.  NULL: INVALID_CODE. */
	uint64_t (*other)(void *ctx, const struct vmbus_hc_control *control,
			  const struct vmbus_hc_regs *regs);
};

/* What a call asks for, decoded. */
struct vmbus_hc_call {
	uint32_t code; /* VMBUS_HC_POST_MESSAGE or VMBUS_HC_SIGNAL_EVENT */
	uint32_t conn_id;
	uint32_t type;	/* POST_MESSAGE */
	uint32_t bytes; /* POST_MESSAGE: of payload */
	uint32_t flag;	/* SIGNAL_EVENT */
	uint32_t reserved;
	uint8_t payload[VMBUS_HC_MESSAGE_MAX];
};

/*
 * Take a control word apart.
 *
 * word	    the word, any value.
 * control  where the fields go, also when reserved bits are set.
 *
 * Returns VMBUS_HC_OK, or VMBUS_HC_INVALID_INPUT if a reserved bit is set.
 * Effect: none.
 * Threads: any.
 * Source: [HC-CONTROL] in vmbus_wire(7).
 */
VMBUS_API uint32_t vmbus_hc_control_decode(uint64_t word, struct vmbus_hc_control *control);

/*
 * Put a control word together.
 *
 * control  its fields; bits that a field of the word has no room for are dropped.
 *
 * Returns the word; its reserved bits are 0.
 * Effect: none.
 * Threads: any.
 * Source: [HC-CONTROL] in vmbus_wire(7).
 */
VMBUS_API uint64_t vmbus_hc_control_encode(const struct vmbus_hc_control *control);

/*
 * Decode and check the input block of a call that we know.
 *
 * code	  the call code, any value.
 * input  the block: a private copy, which nobody changes meanwhile.
 * bytes  bytes in input.
 * call	  where the call goes; not to be used unless the answer is OK.
 *
 * Returns a status: OK; INVALID_CODE for a code that we do not know; INVALID_INPUT if the block is
 * shorter than the call needs; PARAMETER for a payload past 240 bytes, a message type of 0 or with
 * bit 31, or a flag past 2,047; CONNECTION_ID for an id past 24 bits.  Reserved fields of a block
 * are not looked at.
 * Effect: none.
 * Threads: any.
 * Source: [HC-POST], [HC-SIGNAL], [HC-STATUS] in vmbus_wire(7).
 */
VMBUS_API uint32_t vmbus_hc_decode(uint32_t code, const void *input, size_t bytes,
				   struct vmbus_hc_call *call);

/*
 * The guest's side: write the input block of a call.
 *
 * call	  the call, with the limits of vmbus_hc_decode().
 * input  where the block goes.  A guest that makes the call slowly needs a place that is 8-aligned
 *	  and has VMBUS_HC_INPUT_MAX bytes left in its page.
 * bytes  room in input.
 *
 * Returns the bytes written: 8, or 16 and those of the payload.
 * Errors: INVAL  no call that we know
 *	   RANGE  a field is past its limit, or input is too small
 * Effect: none on error.
 * Threads: any.
 * Source: [HC-POST], [HC-SIGNAL] in vmbus_wire(7).
 */
VMBUS_API int vmbus_hc_encode(const struct vmbus_hc_call *call, void *input, size_t bytes);

/*
 * The guest's side: a signal event as fast call, which needs no memory.
 *
 * conn_id  connection id, 24 bits.
 * flag	    flag number, 0 for the events of channels; its low 16 bits are used.
 * regs	    where the registers go.
 *
 * Effect: none but on regs.
 * Threads: any.
 * Source: [HC-SIGNAL] in vmbus_wire(7).
 */
VMBUS_API void vmbus_hc_encode_fast_signal(uint32_t conn_id, uint32_t flag,
					   struct vmbus_hc_regs *regs);

/*
 * Carry one call out: check the control word, copy the input once, decode the copy, call ops.
 *
 * ops	 who carries it out.
 * ctx	 handed to ops.
 * regs	 the registers; fast input is RDX and R8, with xmm_valid also XMM0 to XMM5, 112 bytes.
 *
 * Returns the result word for RAX, status in its low 16 bits: what ops said; or INVALID_INPUT for
 * reserved bits, and for a repeat count, a repeat start, a variable header or the nested bit in one
 * of our simple calls; ALIGNMENT for slow input that is not 8-aligned or crosses a page; PARAMETER
 * if ops->read failed; what vmbus_hc_decode() says; INVALID_CODE for a code that nobody knows;
 * OPERATION_DENIED for a table that is smaller than ours.
 * Effect: that of ops.
 * Threads: any, if ops are for any.
 * Source: [HC-CONTROL], [HC-INPUT], [HC-STATUS] in vmbus_wire(7).
 */
VMBUS_API uint64_t vmbus_hc_dispatch(const struct vmbus_hc_ops *ops, void *ctx,
				     const struct vmbus_hc_regs *regs);

/*
 * The name of a status, for instance "invalid connection id"; "?" for one that is none of enum
 * vmbus_hc_status.  Constant text.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const char *vmbus_hc_status_name(uint32_t status);

/*
 * A mailbox in shared memory that carries calls of a child without a hypervisor.  The child puts
 * a call in and asks later what became of it; the parent takes it out and answers.  One page, one
 * call at a time.  How the ends wake each other is the backend's: after a put wake the parent,
 * after a serve that returned 1 wake the child; both need no fence beyond the wake-up itself.
 */
#define VMBUS_HCBOX_BYTES 4096u
struct vmbus_hcbox; /* the page: only the library touches it */

/* The child's end.  Members are private. */
struct vmbus_hcbox_child {
	struct vmbus_hcbox *page_p;
	uint32_t seq_p;
	uint32_t busy_p;
	uint64_t reserved_p[4];
};

/*
 * Set up the child's end.
 *
 * end	 caller's storage.
 * page	 the mailbox, VMBUS_HCBOX_BYTES, 8-aligned; kept until the end is not used any more.
 *
 * Errors: INVAL  no end, no page, or one that is not aligned
 *	   STATE  calls have gone through the page: the parent must set it up anew first
 * Effect: nothing is written to the page.
 * Threads: one at a time per end.
 */
VMBUS_API int vmbus_hcbox_child_init(struct vmbus_hcbox_child *end, void *page);

/*
 * Put a call in.
 *
 * regs	  its registers; xmm is not carried.
 * input  the input block of a slow call; NULL with 0 bytes for a fast one.  Copied.
 * bytes  0 to VMBUS_HC_INPUT_MAX; the parent sees zeroes behind them.
 *
 * Errors: AGAIN  the answer of the call before has not been taken
 *	   RANGE  bytes
 *	   INVAL  bytes without input
 *	   FAULT  the parent broke the mailbox earlier
 * Effect: the parent may serve the call at any time from now on; none on error.
 * Threads: one at a time per end.
 */
VMBUS_API int vmbus_hcbox_put(struct vmbus_hcbox_child *end, const struct vmbus_hc_regs *regs,
			      const void *input, size_t bytes);

/*
 * Take the answer of the call that was put in.  Each answer can be taken once.
 *
 * result  on 1, the result word, status in its low 16 bits.
 *
 * Returns 1 with the answer.
 * Errors: AGAIN  none yet
 *	   STATE  no call is in the box
 *	   PEER	  the parent answered a call that was not made; the mailbox is broken
 *	   FAULT  it was broken earlier
 * Effect: after 1 the next call can be put in.
 * Threads: one at a time per end.
 */
VMBUS_API int vmbus_hcbox_result(struct vmbus_hcbox_child *end, uint64_t *result);

/* The parent's end.  Members are private. */
struct vmbus_hcbox_parent {
	struct vmbus_hcbox *page_p;
	uint32_t seq_p;
	uint32_t broken_p;
	uint64_t reserved_p[4];
};

/*
 * Set up the parent's end, and the page with it: first of all, and again before another child, or
 * the same one anew, attaches.
 *
 * end	 caller's storage.
 * page	 the mailbox, VMBUS_HCBOX_BYTES, 8-aligned; kept until the end is not used any more.
 *
 * Errors: INVAL  no end, no page, or one that is not aligned
 * Effect: the page is zeroed.  A call that was in it is lost, as its child is.
 * Threads: one at a time per end.
 */
VMBUS_API int vmbus_hcbox_parent_init(struct vmbus_hcbox_parent *end, void *page);

/*
 * Carry out the call that waits, if one does, and answer it.  Slow calls read their input from the
 * box, whatever address they name; ops->read is not used, and ops->other sees an address of 0.
 *
 * ops	 who carries it out.
 * ctx	 handed to ops.
 *
 * Returns 1 when a call was carried out and answered, 0 when none waits.
 * Errors: INVAL  ops is missing or smaller than ours
 *	   PEER	  the child's number is not the next one; the mailbox is broken
 *	   FAULT  it was broken earlier
 * Effect: that of ops; a call with more input than the box has is answered with INVALID_INPUT.  One
 * call at most: a child that puts in calls without end does not keep the parent here.
 * Threads: one at a time per end.
 */
VMBUS_API int vmbus_hcbox_serve(struct vmbus_hcbox_parent *end, const struct vmbus_hc_ops *ops,
				void *ctx);

#ifdef __cplusplus
}
#endif
#endif
